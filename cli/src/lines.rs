//! Lines into records, by the rules of Kafka's console producer.
//!
//! In: one line and the reader's properties (`parse.key`, `key.separator`, `parse.headers`, `headers.delimiter`,
//! `headers.separator`, `headers.key.separator`, `null.marker`). Out: borrowed headers, key and value.
//! A line that lacks what was promised is refused with its number; nothing is guessed.

use crate::Failure;
use crate::connection::split_property;

/// How a line is cut into headers, key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFormat {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    null_marker: Option<String>,
}

impl Default for LineFormat {
    fn default() -> LineFormat {
        LineFormat {
            parse_key: false,
            key_separator: "\t".into(),
            parse_headers: false,
            headers_delimiter: "\t".into(),
            headers_separator: ",".into(),
            headers_key_separator: ":".into(),
            null_marker: None,
        }
    }
}

/// A header's key and value; the value is `None` where the line has the null marker.
pub type LineHeader<'a> = (&'a str, Option<&'a [u8]>);

/// What one line says.
#[derive(Debug, PartialEq, Eq)]
pub struct ParsedLine<'a> {
    /// In the order of the line; a name may occur more than once.
    pub headers: Vec<LineHeader<'a>>,
    /// `None` without `parse.key`, or where the line has the null marker.
    pub key: Option<&'a [u8]>,
    /// `None` where the line has the null marker: a tombstone.
    pub value: Option<&'a [u8]>,
}

impl LineFormat {
    /// Reads `--property key=value` options.
    pub fn from_properties(properties: &[String]) -> Result<LineFormat, Failure> {
        let mut format = LineFormat::default();
        for property in properties {
            let (key, value) = property
                .split_once('=')
                .map(|(key, value)| (key.trim(), unescape(value)))
                .ok_or_else(|| Failure::new(format!("'{property}' is not of the form key=value")))?;
            match key {
                "parse.key" => format.parse_key = boolean(key, &value)?,
                "key.separator" => format.key_separator = separator(key, value)?,
                "parse.headers" => format.parse_headers = boolean(key, &value)?,
                "headers.delimiter" => format.headers_delimiter = separator(key, value)?,
                "headers.separator" => format.headers_separator = separator(key, value)?,
                "headers.key.separator" => format.headers_key_separator = separator(key, value)?,
                "null.marker" => format.null_marker = Some(separator(key, value)?),
                _ => {
                    return Err(Failure::new(format!(
                        "unknown property '{key}'; known are parse.key, key.separator, parse.headers, headers.delimiter, \
                         headers.separator, headers.key.separator and null.marker"
                    )));
                }
            }
        }
        Ok(format)
    }

    /// Cuts `line` (without its line feed). `number` is the line's, from one, for the error.
    pub fn parse<'a>(&self, line: &'a str, number: u64) -> Result<ParsedLine<'a>, Failure> {
        let mut rest = line;
        let mut headers = Vec::new();
        if self.parse_headers {
            let (part, after) = self.cut(rest, &self.headers_delimiter, "headers.delimiter", number)?;
            rest = after;
            if !self.is_null(part) && !part.is_empty() {
                headers = self.parse_headers_of(part, number)?;
            }
        }
        let mut key = None;
        if self.parse_key {
            let (part, after) = self.cut(rest, &self.key_separator, "key.separator", number)?;
            rest = after;
            key = (!self.is_null(part)).then_some(part.as_bytes());
        }
        Ok(ParsedLine {
            headers,
            key,
            value: (!self.is_null(rest)).then_some(rest.as_bytes()),
        })
    }

    fn cut<'a>(&self, text: &'a str, by: &str, name: &str, number: u64) -> Result<(&'a str, &'a str), Failure> {
        text.split_once(by)
            .ok_or_else(|| Failure::new(format!("line {number}: no {name} ({by:?}) in {:?}", shortened(text))))
    }

    fn parse_headers_of<'a>(&self, text: &'a str, number: u64) -> Result<Vec<LineHeader<'a>>, Failure> {
        text.split(self.headers_separator.as_str())
            .map(|header| {
                let (name, value) = header.split_once(self.headers_key_separator.as_str()).ok_or_else(|| {
                    Failure::new(format!(
                        "line {number}: no headers.key.separator ({:?}) in header {:?}",
                        self.headers_key_separator,
                        shortened(header)
                    ))
                })?;
                Ok((name, (!self.is_null(value)).then_some(value.as_bytes())))
            })
            .collect()
    }

    fn is_null(&self, text: &str) -> bool {
        self.null_marker.as_deref() == Some(text)
    }
}

/// Splits `--property`-style options that are not the line reader's, for printing (`print.key=true`).
pub fn property_pairs(properties: &[String]) -> Result<Vec<(String, String)>, Failure> {
    properties
        .iter()
        .map(|property| {
            split_property(property)
                .map(|(key, _)| (key, unescape(property.split_once('=').map_or("", |(_, value)| value))))
                .ok_or_else(|| Failure::new(format!("'{property}' is not of the form key=value")))
        })
        .collect()
}

/// `true` or `false`, nothing else.
pub fn boolean(key: &str, value: &str) -> Result<bool, Failure> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Failure::new(format!("{key} takes true or false, not '{other}'"))),
    }
}

fn separator(key: &str, value: String) -> Result<String, Failure> {
    if value.is_empty() {
        Err(Failure::new(format!("{key} must not be empty")))
    } else {
        Ok(value)
    }
}

/// Shells make real tabs awkward: `\t`, `\n` and `\\` are understood.
pub fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            result.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => result.push('\t'),
            Some('n') => result.push('\n'),
            Some('\\') | None => result.push('\\'),
            Some(other) => result.extend(['\\', other]),
        }
    }
    result
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(properties: &[&str]) -> LineFormat {
        LineFormat::from_properties(&properties.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_plain_line_is_a_value() {
        let line = format(&[]).parse("a\tb", 1).unwrap();
        assert_eq!(
            line,
            ParsedLine {
                headers: vec![],
                key: None,
                value: Some(b"a\tb")
            }
        );
    }

    #[test]
    fn headers_come_before_the_key_and_keep_their_order_and_repeats() {
        let line = format(&["parse.key=true", "parse.headers=true"])
            .parse("a:1,b:2,a:3\tk\tv", 1)
            .unwrap();
        assert_eq!(
            line.headers,
            [("a", Some(&b"1"[..])), ("b", Some(&b"2"[..])), ("a", Some(&b"3"[..]))]
        );
        assert_eq!((line.key, line.value), (Some(&b"k"[..]), Some(&b"v"[..])));
    }

    #[test]
    fn the_null_marker_makes_a_tombstone() {
        let line = format(&["parse.key=true", "key.separator=:", "null.marker=NULL"])
            .parse("k:NULL", 1)
            .unwrap();
        assert_eq!((line.key, line.value), (Some(&b"k"[..]), None));
    }

    #[test]
    fn a_line_without_its_key_is_refused_with_its_number() {
        let error = format(&["parse.key=true"]).parse("no separator", 7).unwrap_err();
        assert!(
            error.0.contains("line 7") && error.0.contains("key.separator"),
            "{}",
            error.0
        );
    }

    #[test]
    fn an_escaped_tab_is_a_tab() {
        assert_eq!(
            format(&["parse.key=true", "key.separator=\\t"]),
            format(&["parse.key=true"])
        );
    }

    #[test]
    fn an_unknown_property_lists_the_known_ones() {
        let error = LineFormat::from_properties(&["parse.keys=true".into()]).unwrap_err();
        assert!(error.0.contains("parse.key,"), "{}", error.0);
    }
}
