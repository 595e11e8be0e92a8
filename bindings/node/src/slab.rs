//! What JavaScript packed, record by record.
//!
//! In: one buffer of bytes and [`WORDS`] numbers for each record. Out: borrowed records. Every length is checked against the
//! bytes that are there: a mistake of the other half is an error, never a read beyond the end.
//!
//! The bytes of a record stand in the order key, value, timestamp (8, little-endian), headers (count, then for each: length
//! of key, key, length of value or -1, value; lengths of four bytes). The numbers of a record:
//!
//! | number | is |
//! |---|---|
//! | 0 | number of the topic times 8, plus [`TAGGED`], [`TIMED`], [`HEADED`] |
//! | 1 | partition; -1 to have one chosen |
//! | 2, 3 | length of key and value; -1 for null |
//! | 4 | bytes of timestamp and headers |

use ottla::Record;
use ottla_bindings_core::Error;

use crate::border::refused;

/// Numbers of one record.
pub(crate) const WORDS: usize = 5;
/// Somebody waits for its fate.
pub(crate) const TAGGED: i32 = 1;
/// It has a timestamp.
pub(crate) const TIMED: i32 = 2;
/// It has headers.
pub(crate) const HEADED: i32 = 4;

/// Reads records one after the other.
pub(crate) struct Slab<'a> {
    bytes: &'a [u8],
    words: &'a [i32],
}

impl<'a> Slab<'a> {
    /// The records of `words` from number `from` on.
    pub fn new(bytes: &'a [u8], words: &'a [i32]) -> Self {
        Slab { bytes, words }
    }

    /// The numbers of the next record.
    pub fn next(&mut self) -> Option<[i32; WORDS]> {
        let (words, rest) = self.words.split_first_chunk::<WORDS>()?;
        self.words = rest;
        Some(*words)
    }

    /// Passes over the bytes of a record.
    pub fn skip(&mut self, words: &[i32; WORDS]) -> Result<(), Error> {
        for length in [words[2], words[3], words[4]] {
            self.part(length)?;
        }
        Ok(())
    }

    /// The record with these numbers, to `topic`.
    pub fn record<'b>(&mut self, words: &[i32; WORDS], topic: &'b str) -> Result<Record<'b>, Error>
    where
        'a: 'b,
    {
        let mut record = Record::to(topic);
        if let Some(key) = self.part(words[2])? {
            record = record.key(key);
        }
        if let Some(value) = self.part(words[3])? {
            record = record.value(value);
        }
        if words[1] != -1 {
            record = record.partition(words[1]);
        }
        match self.part(words[4])? {
            Some(more) if !more.is_empty() => additions(record, words[0], more),
            _ => Ok(record),
        }
    }

    fn part(&mut self, length: i32) -> Result<Option<&'a [u8]>, Error> {
        take(&mut self.bytes, length)
    }
}

/// Timestamp and headers.
fn additions<'a>(mut record: Record<'a>, flags: i32, mut more: &'a [u8]) -> Result<Record<'a>, Error> {
    if flags & TIMED != 0 {
        let (timestamp, rest) = more.split_first_chunk().ok_or_else(short)?;
        record = record.timestamp(i64::from_le_bytes(*timestamp));
        more = rest;
    }
    if flags & HEADED != 0 {
        for _ in 0..number(&mut more)? {
            let length = number(&mut more)?;
            let key = take(&mut more, length)?.ok_or_else(|| refused("a header needs a key"))?;
            let key = std::str::from_utf8(key).map_err(|_| refused("the key of a header is no UTF-8"))?;
            let length = number(&mut more)?;
            record = match take(&mut more, length)? {
                Some(value) => record.header(key, value),
                None => record.null_header(key),
            };
        }
    }
    Ok(record)
}

fn number(bytes: &mut &[u8]) -> Result<i32, Error> {
    let (number, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    *bytes = rest;
    Ok(i32::from_le_bytes(*number))
}

fn take<'a>(bytes: &mut &'a [u8], length: i32) -> Result<Option<&'a [u8]>, Error> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    let (part, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
    *bytes = rest;
    Ok(Some(part))
}

fn short() -> Error {
    refused("a record is longer than the bytes that came with it")
}
