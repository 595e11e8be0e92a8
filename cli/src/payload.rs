//! What `ottla perf produce` writes: noise of a size, lines of a file, or numbers.
//!
//! In: the options of Kafka's kafka-producer-perf-test. Out: the value of each record, borrowed. It allocates nothing per
//! record, because that would be measured.

use std::path::PathBuf;

use clap::Args;

use crate::Failure;

/// Where the values come from; one of them, by default noise of 100 bytes.
#[derive(Args, Debug)]
#[group(multiple = true)]
pub struct PayloadArguments {
    /// Bytes of each value (100 if nothing else says what to write).
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["payload_file", "payload_monotonic"])]
    record_size: Option<usize>,
    /// Values from this file, chosen at random.
    #[arg(long, value_name = "FILE", conflicts_with = "payload_monotonic")]
    payload_file: Option<PathBuf>,
    /// What separates the values in the file; \n, \t and \\ are understood.
    #[arg(long, value_name = "TEXT", default_value = "\\n")]
    payload_delimiter: String,
    /// Values 0, 1, 2, ...
    #[arg(long)]
    payload_monotonic: bool,
}

const USUAL_RECORD_SIZE: usize = 100;

/// A source of values.
#[derive(Debug)]
pub enum Payload {
    /// Windows into bytes that do not repeat within a batch, so that a codec finds what it would find in noise.
    Noise {
        /// The noise.
        bytes: Vec<u8>,
        /// The size of a window.
        size: usize,
    },
    /// One of these at random.
    Choice {
        /// The whole file.
        text: String,
        /// Where its values begin and end.
        places: Vec<(usize, usize)>,
        /// The state of the choice.
        random: u64,
    },
    /// The number of the record.
    Numbers {
        /// The digits of the last one.
        digits: String,
    },
}

impl Payload {
    /// Prepares what was asked for.
    pub fn new(arguments: &PayloadArguments) -> Result<Payload, Failure> {
        if arguments.payload_monotonic {
            return Ok(Payload::Numbers { digits: String::new() });
        }
        let Some(path) = &arguments.payload_file else {
            let size = arguments.record_size.unwrap_or(USUAL_RECORD_SIZE);
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            let bytes = (0..size + 64 * 1024).map(|_| next(&mut state) as u8).collect();
            return Ok(Payload::Noise { bytes, size });
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        let delimiter = crate::lines::unescape(&arguments.payload_delimiter);
        if delimiter.is_empty() {
            return Err(Failure::new("--payload-delimiter must not be empty"));
        }
        let places = places(&text, &delimiter);
        if places.is_empty() {
            return Err(Failure::new(format!("{} has no value to send", path.display())));
        }
        Ok(Payload::Choice {
            text,
            places,
            random: 0x9E37_79B9_7F4A_7C15,
        })
    }

    /// The value of record `number`.
    pub fn value(&mut self, number: u64) -> &[u8] {
        match self {
            Payload::Noise { bytes, size } => {
                let start = usize::try_from(number).unwrap_or(0) % (bytes.len() - *size + 1);
                bytes.get(start..start + *size).unwrap_or_default()
            }
            Payload::Choice { text, places, random } => {
                let place = usize::try_from(next(random) % places.len() as u64).unwrap_or(0);
                let (start, end) = places.get(place).copied().unwrap_or_default();
                text.as_bytes().get(start..end).unwrap_or_default()
            }
            Payload::Numbers { digits } => {
                use std::fmt::Write;
                digits.clear();
                // Writing into a string cannot fail.
                let _ = write!(digits, "{number}");
                digits.as_bytes()
            }
        }
    }
}

/// A small generator (xorshift); it spreads, it keeps no secrets.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The parts between delimiters; what a file ends with is no value of its own.
fn places(text: &str, delimiter: &str) -> Vec<(usize, usize)> {
    let mut start = 0;
    let mut places: Vec<(usize, usize)> = text
        .split(delimiter)
        .map(|part| {
            let place = (start, start + part.len());
            start += part.len() + delimiter.len();
            place
        })
        .collect();
    if places.last().is_some_and(|(start, end)| start == end) {
        places.pop();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_file_are_the_parts_between_its_delimiters() {
        assert_eq!(places("a\nbc\n\nd\n", "\n"), [(0, 1), (2, 4), (5, 5), (6, 7)]);
        assert_eq!(places("a::b", "::"), [(0, 1), (3, 4)]);
        assert!(places("", "\n").is_empty());
    }

    #[test]
    fn every_value_of_a_file_has_its_turn() {
        let text = "one\ntwo\nthree".to_owned();
        let places = places(&text, "\n");
        let random = 7;
        let mut payload = Payload::Choice { text, places, random };
        let mut seen: Vec<Vec<u8>> = (0..200).map(|number| payload.value(number).to_vec()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [b"one".to_vec(), b"three".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn numbers_are_those_of_the_records() {
        let mut payload = Payload::Numbers { digits: String::new() };
        assert_eq!(
            (payload.value(9).to_vec(), payload.value(10).to_vec()),
            (b"9".to_vec(), b"10".to_vec())
        );
    }
}
