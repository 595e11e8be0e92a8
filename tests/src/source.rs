//! Rust source as the tidy test looks at it: code without comments and text, functions with their lengths.
//!
//! Not a parser: it knows comments, strings, characters, lifetimes and braces, which is what the rules need.

/// `text` with every comment, string and character replaced by spaces; the lines stay where they are.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end == at {
            // Only ASCII matters to the rules.
            code.push(if bytes[at].is_ascii() {
                char::from(bytes[at])
            } else {
                '?'
            });
            at += 1;
        } else {
            let blank = |byte: &u8| if *byte == b'\n' { '\n' } else { ' ' };
            code.extend(bytes[at..end].iter().map(blank));
            at = end;
        }
    }
    code
}

/// The end of the comment, string or character that begins at `at`; `at` itself if none does.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, 1, b'"'),
        [b'b' | b'c', b'"', ..] if !after_word => at + quoted(rest, 2, b'"'),
        [b'b', b'\'', ..] if !after_word => at + quoted(rest, 2, b'\''),
        [b'r', b'"' | b'#', ..] if !after_word => at + raw(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => at + raw(rest, 2),
        [b'\'', b'\\', ..] => at + quoted(rest, 1, b'\''),
        // A character of any length in UTF-8 closes with a quote; a lifetime does not.
        [b'\'', ..] => {
            let width = std::str::from_utf8(&rest[1..rest.len().min(5)]).map_or_else(
                |error| if error.valid_up_to() == 0 { 0 } else { 1 },
                |text| text.chars().next().map_or(0, char::len_utf8),
            );
            let width = if rest.get(1).is_some_and(|byte| *byte >= 0xc0) {
                utf8_width(rest[1])
            } else {
                width
            };
            if width > 0 && rest.get(1 + width) == Some(&b'\'') {
                at + width + 2
            } else {
                at
            }
        }
        _ => at,
    }
}

fn utf8_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `r#"..."#`, or 0 for a raw identifier.
fn raw(rest: &[u8], open: usize) -> usize {
    let hashes = rest[open..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(open + hashes) != Some(&b'"') {
        return 0;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = open + hashes + 1;
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| body + end + close.len())
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace, both counted.
    pub lines: usize,
}

/// The functions of `code` (which [`code_only`] made), nested ones too.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = vec![];
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let name: String = code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let Some(length) = body_end(&code[at..]) else { continue };
        if name.is_empty() {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let lines = code[at..at + length].matches('\n').count() + 1;
        found.push(Function { name, line, lines });
    }
    found
}

/// Where the body that follows a `fn` ends; `None` for a declaration.
fn body_end(code: &str) -> Option<usize> {
    let (mut round, mut braces) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if braces == 0 && round == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                match braces {
                    0 => return Some(at + 1),
                    _ if braces < 0 => return None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    None
}

/// The line (from 1) where the unit tests begin; past the end if there are none.
pub fn tests_begin(code: &str) -> usize {
    let position = code
        .lines()
        .position(|line| line.trim_start().starts_with("#[cfg(test)]"));
    position.map_or(usize::MAX, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_text_are_no_code() {
        let text =
            "let a = \"tokio\"; // tokio\n/* tokio /* tokio */ tokio */ b'\"'; r#\"tokio\"# '\\'' x<'a> 'ж' r#fn";
        let code = code_only(text);
        assert!(!code.contains("tokio"), "{code}");
        assert!(code.contains("x<'a>") && code.contains("r#fn"), "{code}");
        assert_eq!(code.matches('\n').count(), 1);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let code = code_only("trait T { fn a(); }\npub fn b(x: [u8; 3]) -> u8\n{\n  if x { '}' } else { 1 }\n}\n");
        assert_eq!(
            functions(&code),
            [Function {
                name: "b".to_owned(),
                line: 2,
                lines: 4
            }]
        );
    }
}
