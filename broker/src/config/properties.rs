//! The `.properties` format, as Java reads it.
//!
//! In: the text of a file. Out: its properties in order, each with the line it began on.
//! Comments (`#`, `!`), continuation lines (an odd number of backslashes at the end), the separators `=`, `:` and blank,
//! and the escapes `\t \n \r \f \uXXXX` work as in `java.util.Properties`; any other escaped character stands for itself.
//! References such as `${file:...}` are not expanded: they stay as they are written.

use std::iter::Peekable;
use std::str::Chars;

/// One property of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped; empty if there was none.
    pub value: String,
    /// The number of the line the property begins on, from 1.
    pub line: usize,
}

/// A line that is not a property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PropertiesError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Reads all properties of `text`. A key that occurs twice is given twice.
///
/// # Errors
/// A line without a key, or a `\u` that is not followed by four hexadecimal digits.
pub fn parse(text: &str) -> Result<Vec<Property>, PropertiesError> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_with_continuation(&logical) {
            logical.pop();
            // A continuation after which the file ends joins nothing.
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(is_blank));
        }
        let line = index + 1;
        let (key, value) = split(&logical).map_err(|problem| PropertiesError { line, problem })?;
        properties.push(Property { key, value, line });
    }
    Ok(properties)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

fn ends_with_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|&character| character == '\\').count() % 2 == 1
}

fn split(line: &str) -> Result<(String, String), &'static str> {
    let mut rest = line.chars().peekable();
    let mut key = String::new();
    while let Some(&character) = rest.peek() {
        if is_blank(character) || character == '=' || character == ':' {
            break;
        }
        key.push(next_character(&mut rest)?);
    }
    if key.is_empty() {
        return Err("there is no key before the separator");
    }
    while rest.next_if(|&character| is_blank(character)).is_some() {}
    if rest
        .next_if(|&character| character == '=' || character == ':')
        .is_some()
    {
        while rest.next_if(|&character| is_blank(character)).is_some() {}
    }
    let mut value = String::new();
    while rest.peek().is_some() {
        value.push(next_character(&mut rest)?);
    }
    Ok((key, value))
}

fn next_character(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    match rest.next() {
        Some('\\') => {}
        Some(character) => return Ok(character),
        None => return Ok('\\'),
    }
    Ok(match rest.next() {
        Some('t') => '\t',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('f') => '\u{c}',
        Some('u') => {
            let digits: String = rest.by_ref().take(4).collect();
            let code = (digits.len() == 4)
                .then(|| u32::from_str_radix(&digits, 16).ok())
                .flatten();
            code.and_then(char::from_u32)
                .ok_or("\\u must be followed by the four hexadecimal digits of a character")?
        }
        Some(character) => character,
        None => return Ok('\\'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|property| (property.key, property.value))
            .collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn all_three_separators_work_and_the_value_keeps_what_follows() {
        assert_eq!(
            pairs("a=1\nb : 2\nc 3\nd = x=y:z \ne\nf=\n\tg\t=\t4"),
            [
                pair("a", "1"),
                pair("b", "2"),
                pair("c", "3"),
                pair("d", "x=y:z "),
                pair("e", ""),
                pair("f", ""),
                pair("g", "4")
            ]
        );
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_but_not_inside_a_value() {
        assert_eq!(
            pairs("# no\n  ! no\n\n   \na=1 # part of it\r\nb=2\r\n"),
            [pair("a", "1 # part of it"), pair("b", "2")]
        );
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines_and_an_escaped_one_does_not() {
        assert_eq!(
            pairs("list=a,\\\n    b,\\\n\tc\nd=1"),
            [pair("list", "a,b,c"), pair("d", "1")]
        );
        assert_eq!(pairs("path=c:\\\\\nd=1"), [pair("path", "c:\\"), pair("d", "1")]);
        assert_eq!(pairs("a=1\\"), [pair("a", "1")]);
        assert_eq!(pairs("a=1\\\n#still the value"), [pair("a", "1#still the value")]);
    }

    #[test]
    fn escapes_are_undone_in_keys_and_values() {
        assert_eq!(pairs(r"a\ b\=c=\u00e9\t\q\n"), [pair("a b=c", "\u{e9}\tq\n")]);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert_eq!(parse("a=1\n\n=2").unwrap_err().line, 3);
        assert_eq!(parse("a=\\\n\\u12").unwrap_err().line, 1);
        assert!(parse("a=\\ud800").is_err());
    }

    #[test]
    fn references_are_left_as_they_are_written() {
        assert_eq!(
            pairs("a=${file:/etc/passwd:root}"),
            [pair("a", "${file:/etc/passwd:root}")]
        );
    }
}
