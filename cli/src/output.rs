//! Records onto standard output, as text in the manner of Kafka's console consumer or as one JSON object a line.
//!
//! In: the parts of a record, borrowed. Out: bytes in a buffer that the caller writes. Text is written as the bytes it is;
//! JSON carries bytes that are not UTF-8 as `{"base64": "..."}`, so that no format loses anything.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Failure;
use crate::lines::{boolean, property_pairs};

/// Prints a line on standard output. Unlike `println!` it survives a reader that has gone away (`| head`).
macro_rules! say {
    ($($part:tt)*) => { $crate::output::say_line(format_args!($($part)*)) };
}
pub(crate) use say;

/// What `say!` does; other failures than a reader that has gone are told on standard error.
pub fn say_line(line: std::fmt::Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    if let Err(error) = writeln!(output, "{line}").and_then(|()| output.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("ottla: cannot write to standard output: {error}");
    }
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What `--property print.*` asks for, separated by tabs.
    Text,
    /// One object a line: topic, partition, offset, timestamp, key, headers, value.
    Json,
}

/// The parts of one record, as the printer needs them.
#[derive(Debug, Clone, Default)]
pub struct PrintedRecord<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whether the broker set the timestamp on append.
    pub log_append_time: bool,
    /// The key's bytes.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In the record's order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// Turns records into lines.
#[derive(Debug, Clone)]
pub struct Printer {
    format: Format,
    timestamp: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
}

impl Printer {
    /// A printer of `format` with Kafka's `print.*` properties.
    pub fn new(format: Format, properties: &[String]) -> Result<Printer, Failure> {
        let mut printer = Printer {
            format,
            timestamp: false,
            partition: false,
            offset: false,
            headers: false,
            key: false,
            value: true,
            key_separator: "\t".into(),
            line_separator: "\n".into(),
            headers_separator: ",".into(),
            null_literal: "null".into(),
        };
        for (key, value) in property_pairs(properties)? {
            match key.as_str() {
                "print.timestamp" => printer.timestamp = boolean(&key, &value)?,
                "print.partition" => printer.partition = boolean(&key, &value)?,
                "print.offset" => printer.offset = boolean(&key, &value)?,
                "print.headers" => printer.headers = boolean(&key, &value)?,
                "print.key" => printer.key = boolean(&key, &value)?,
                "print.value" => printer.value = boolean(&key, &value)?,
                "key.separator" => printer.key_separator = value,
                "line.separator" => printer.line_separator = value,
                "headers.separator" => printer.headers_separator = value,
                "null.literal" => printer.null_literal = value,
                _ => {
                    return Err(Failure::new(format!(
                        "unknown property '{key}'; known are print.timestamp, print.partition, print.offset, print.headers, \
                         print.key, print.value, key.separator, line.separator, headers.separator and null.literal"
                    )));
                }
            }
        }
        Ok(printer)
    }

    /// Appends `record` as a line to `buffer`.
    pub fn print(&self, record: &PrintedRecord<'_>, buffer: &mut Vec<u8>) {
        match self.format {
            Format::Text => self.print_text(record, buffer),
            Format::Json => {
                // Writing strings and numbers into a vector cannot fail.
                let _ = serde_json::to_writer(&mut *buffer, &JsonRecord::from(record));
                buffer.push(b'\n');
            }
        }
    }

    fn print_text(&self, record: &PrintedRecord<'_>, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        let part = |buffer: &mut Vec<u8>, bytes: &[u8]| {
            if buffer.len() > start {
                buffer.extend_from_slice(self.key_separator.as_bytes());
            }
            buffer.extend_from_slice(bytes);
        };
        if self.timestamp {
            let kind = if record.log_append_time {
                "LogAppendTime"
            } else {
                "CreateTime"
            };
            part(buffer, format!("{kind}:{}", record.timestamp).as_bytes());
        }
        if self.partition {
            part(buffer, format!("Partition:{}", record.partition).as_bytes());
        }
        if self.offset {
            part(buffer, format!("Offset:{}", record.offset).as_bytes());
        }
        if self.headers {
            part(buffer, &self.headers_text(record));
        }
        if self.key {
            part(buffer, record.key.unwrap_or(self.null_literal.as_bytes()));
        }
        if self.value {
            part(buffer, record.value.unwrap_or(self.null_literal.as_bytes()));
        }
        buffer.extend_from_slice(self.line_separator.as_bytes());
    }

    fn headers_text(&self, record: &PrintedRecord<'_>) -> Vec<u8> {
        if record.headers.is_empty() {
            return b"NO_HEADERS".to_vec();
        }
        let mut text = Vec::new();
        for (position, (name, value)) in record.headers.iter().enumerate() {
            if position > 0 {
                text.extend_from_slice(self.headers_separator.as_bytes());
            }
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value.unwrap_or(self.null_literal.as_bytes()));
        }
        text
    }
}

/// One record as JSON, its members in reading order.
#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Value,
    headers: Vec<JsonHeader<'a>>,
    value: Value,
}

#[derive(Serialize)]
struct JsonHeader<'a> {
    key: &'a str,
    value: Value,
}

impl<'a> From<&PrintedRecord<'a>> for JsonRecord<'a> {
    fn from(record: &PrintedRecord<'a>) -> JsonRecord<'a> {
        let header = |(key, value): &(&'a str, Option<&[u8]>)| JsonHeader {
            key,
            value: json_bytes(*value),
        };
        JsonRecord {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: json_bytes(record.key),
            headers: record.headers.iter().map(header).collect(),
            value: json_bytes(record.value),
        }
    }
}

fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => Value::String(text.to_owned()),
        Some((Err(_), bytes)) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PrintedRecord<'static> {
        PrintedRecord {
            topic: "gpsraw",
            partition: 1,
            offset: 42,
            timestamp: 7,
            log_append_time: false,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: vec![("a", Some(b"1")), ("a", None)],
        }
    }

    fn printed(format: Format, properties: &[&str], record: &PrintedRecord<'_>) -> String {
        let mut buffer = Vec::new();
        let properties: Vec<String> = properties.iter().map(|p| (*p).to_owned()).collect();
        Printer::new(format, &properties).unwrap().print(record, &mut buffer);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn text_prints_the_value_alone_unless_asked() {
        assert_eq!(printed(Format::Text, &[], &record()), "v\n");
    }

    #[test]
    fn text_prints_everything_in_kafkas_order() {
        let all = [
            "print.timestamp",
            "print.partition",
            "print.offset",
            "print.headers",
            "print.key",
        ]
        .map(|name| format!("{name}=true"));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(
            printed(Format::Text, &all, &record()),
            "CreateTime:7\tPartition:1\tOffset:42\ta:1,a:null\tk\tv\n"
        );
    }

    #[test]
    fn json_keeps_repeated_headers_nulls_and_bytes_that_are_no_text() {
        let line = printed(
            Format::Json,
            &[],
            &PrintedRecord {
                key: Some(&[0xff]),
                value: None,
                ..record()
            },
        );
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["key"], json!({"base64": "/w=="}));
        assert_eq!(value["value"], Value::Null);
        assert_eq!(
            value["headers"],
            json!([{"key": "a", "value": "1"}, {"key": "a", "value": null}])
        );
    }
}
