//! Pairs of keys and values, from the program or from a Java properties file.
//!
//! In: a path, or pairs. Out: pairs. It knows the file format (comments, `=` and `:`, continued lines, escapes) and
//! nothing about keys.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use super::mistake;
use crate::error::Result;

/// What `from_properties` takes: a path of a properties file, or pairs.
///
/// Its `Debug` output shows keys and no values: some are secrets.
#[derive(Clone)]
pub struct Properties {
    source: Source,
}

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Pairs(Vec<(String, String)>),
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::File(path) => f.debug_tuple("Properties").field(path).finish(),
            Source::Pairs(pairs) => f.debug_set().entries(pairs.iter().map(|(key, _)| key)).finish(),
        }
    }
}

impl Properties {
    /// The pairs of a text in the format of Java's properties files.
    ///
    /// # Errors
    /// A `\u` escape that is not four hexadecimal digits.
    pub fn parse(text: &str) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim_start().to_owned();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            while ends_in_continuation(&line) {
                line.pop();
                let Some(next) = lines.next() else { break };
                line.push_str(next.trim_start());
            }
            pairs.push(split(&line)?);
        }
        Ok(pairs)
    }

    pub(super) fn into_pairs(self) -> Result<Vec<(String, String)>> {
        match self.source {
            Source::Pairs(pairs) => Ok(pairs),
            Source::File(path) => {
                let text = std::fs::read_to_string(&path).map_err(|cause| {
                    mistake(format!(
                        "the properties file {} cannot be read: {cause}",
                        path.display()
                    ))
                    .with_source(cause)
                })?;
                Properties::parse(&text).map_err(|error| error.with_prefix(path.display()))
            }
        }
    }
}

/// An odd number of backslashes at the end joins the next line.
fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Key and value of one line: separated by `=`, `:` or white space, whichever comes first unescaped.
fn split(line: &str) -> Result<(String, String)> {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let found = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = c == '\\' && !escaped;
        found
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    Ok((unescape(key)?, unescape(value)?))
}

fn unescape(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let c = code.and_then(char::from_u32);
                out.push(c.ok_or_else(|| mistake(format!("\\u{digits} is not a character")))?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

impl From<&Path> for Properties {
    fn from(path: &Path) -> Self {
        Properties {
            source: Source::File(path.to_owned()),
        }
    }
}

impl From<PathBuf> for Properties {
    fn from(path: PathBuf) -> Self {
        Properties {
            source: Source::File(path),
        }
    }
}

impl From<&PathBuf> for Properties {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&str> for Properties {
    /// The path of a properties file.
    fn from(path: &str) -> Self {
        Path::new(path).into()
    }
}

impl<K: Into<String>, V: Into<String>> From<Vec<(K, V)>> for Properties {
    fn from(pairs: Vec<(K, V)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Properties {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> From<BTreeMap<K, V>> for Properties {
    fn from(pairs: BTreeMap<K, V>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> From<HashMap<K, V>> for Properties {
    fn from(pairs: HashMap<K, V>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Properties {
            source: Source::Pairs(pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<(String, String)> {
        Properties::parse(text).unwrap()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn a_properties_file_is_read_as_java_reads_it() {
        let text = "# a comment\n! another\n\nlinger.ms=5\n batch.size : 100 \nacks all\nempty=\n\
                    bootstrap.servers=a:1,\\\n    b:2\npath=C\\:\\\\x\\u0041\n";
        let expected = [
            pair("linger.ms", "5"),
            pair("batch.size", "100 "),
            pair("acks", "all"),
            pair("empty", ""),
            pair("bootstrap.servers", "a:1,b:2"),
            pair("path", "C:\\xA"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_continued_last_line_ends_with_the_file() {
        assert_eq!(parse("a=b\\"), [pair("a", "b")]);
        assert_eq!(parse("a=b\\\\"), [pair("a", "b\\")]);
    }

    #[test]
    fn a_broken_escape_is_refused() {
        assert!(Properties::parse("a=\\u12").is_err());
        assert!(Properties::parse("a=\\ud800").is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Properties::from("/nonexistent/client.properties")
            .into_pairs()
            .unwrap_err();
        assert!(error.to_string().contains("/nonexistent/client.properties"), "{error}");
    }
}
