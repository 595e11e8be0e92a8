//! A line of a scenario as words and bytes, and bytes as they are printed.
//!
//! Takes lines and values as `tests/scenarios/README.md` describes them. Refuses, with the reason, what is not written so.

use crate::peer::{Failure, Header};

/// The prefix of expected lines.
pub const EXPECTED: &str = "-> ";
/// Longer keys and values are printed as length and checksum.
const LONGEST_SHOWN: usize = 64;

/// Whether this line of a file is a command: neither a comment nor an expected line.
pub fn is_command(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#') && !line.starts_with(EXPECTED.trim_end())
}

/// A command: its name, the client it is for, if any, and its other words.
#[derive(Debug, PartialEq)]
pub struct Command<'l> {
    /// What to do.
    pub name: &'l str,
    /// The second word, if it has no `=`.
    pub client: Option<&'l str>,
    /// Name and value of all others, as they are written.
    pub words: Vec<(&'l str, &'l str)>,
}

impl<'l> Command<'l> {
    /// Reads a line.
    ///
    /// # Errors
    /// A word is neither the client's name nor `NAME=VALUE`.
    pub fn parse(line: &'l str) -> Result<Command<'l>, Failure> {
        let mut rest = line.split_ascii_whitespace().peekable();
        let name = rest.next().ok_or("an empty line is no command")?;
        let client = rest.next_if(|word| !word.contains('='));
        let words = rest.map(|word| word.split_once('=').ok_or_else(|| format!("{word:?} has no `=`")));
        Ok(Command {
            name,
            client,
            words: words.collect::<Result<_, _>>()?,
        })
    }

    /// The value of a word as it is written.
    pub fn raw(&self, name: &str) -> Option<&'l str> {
        let word = self.words.iter().find(|(word, _)| *word == name);
        word.map(|(_, value)| *value)
    }

    /// The value of a word that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn needed(&self, name: &str) -> Result<&'l str, Failure> {
        self.raw(name).ok_or_else(|| format!("the word {name} is missing"))
    }

    /// The bytes of a word.
    ///
    /// # Errors
    /// They are not written as bytes are.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.raw(name).map(unescape).transpose()
    }

    /// The number of a word.
    ///
    /// # Errors
    /// It is none.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        let number = |text: &str| text.parse().map_err(|_| format!("{name}={text} is no number"));
        self.raw(name).map(number).transpose()
    }

    /// The number of a word that must be there.
    ///
    /// # Errors
    /// It is none, or not there.
    pub fn needed_number<N: std::str::FromStr>(&self, name: &str) -> Result<N, Failure> {
        self.number(name)?.ok_or_else(|| format!("the word {name} is missing"))
    }

    /// The headers, in order.
    ///
    /// # Errors
    /// They are not written as bytes are, or a key is not UTF-8.
    pub fn headers(&self) -> Result<Vec<Header>, Failure> {
        let written = self.words.iter().filter(|(word, _)| *word == "header");
        written
            .map(|(_, header)| {
                let (key, value) = match header.split_once(':') {
                    Some((key, value)) => (key, Some(unescape(value)?)),
                    None => (*header, None),
                };
                let key = String::from_utf8(unescape(key)?).map_err(|error| error.to_string())?;
                Ok((key, value))
            })
            .collect()
    }
}

/// The partitions of `t:0,t:1`.
///
/// # Errors
/// They are not written so.
pub fn partitions(text: &str) -> Result<Vec<(&str, i32)>, Failure> {
    let one = |text: &'_ str| -> Option<(usize, i32)> {
        let at = text.rfind(':')?;
        Some((at, text.get(at + 1..)?.parse().ok()?))
    };
    let written = text.split(',').filter(|text| !text.is_empty());
    written
        .map(|text| {
            let (at, number) = one(text).ok_or_else(|| format!("{text} is no partition: TOPIC:NUMBER is expected"))?;
            Ok((&text[..at], number))
        })
        .collect()
}

/// The bytes that are written so.
///
/// # Errors
/// `%` without two hexadecimal digits behind it, or `@` that does not say how often what.
pub fn unescape(text: &str) -> Result<Vec<u8>, Failure> {
    let Some(repeated) = text.strip_prefix('@') else {
        return unescape_plain(text);
    };
    let (count, what) = repeated
        .split_once('*')
        .ok_or_else(|| format!("{text}: @N*X is expected"))?;
    let count: usize = count.parse().map_err(|_| format!("{text}: @N*X is expected"))?;
    match unescape_plain(what)?[..] {
        [byte] => Ok(vec![byte; count]),
        _ => Err(format!("{text}: only one byte can be repeated")),
    }
}

fn unescape_plain(text: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let mut parts = text.split('%');
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let digits = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(digits.ok_or_else(|| format!("{text}: %XX is expected"))?);
        bytes.extend(part.bytes().skip(2));
    }
    Ok(bytes)
}

/// Bytes as a transcript shows them.
pub fn escape(bytes: &[u8]) -> String {
    if bytes.len() > LONGEST_SHOWN {
        return format!("@{}~{:08x}", bytes.len(), crc32(bytes));
    }
    let shown = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    bytes.iter().map(shown).collect()
}

/// The CRC-32 of zip and zlib. A bit at a time is quick enough for a few large values.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let eight = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_its_name_its_client_and_its_words() {
        let command = Command::parse("send p topic=t  key= value=a=b header=k:%3A header=n").unwrap();
        assert_eq!((command.name, command.client), ("send", Some("p")));
        assert_eq!(command.bytes("key").unwrap(), Some(vec![]));
        assert_eq!(command.bytes("value").unwrap(), Some(b"a=b".to_vec()));
        assert_eq!(command.number::<i32>("partition").unwrap(), None);
        let headers = command.headers().unwrap();
        assert_eq!(headers, [("k".to_owned(), Some(b":".to_vec())), ("n".to_owned(), None)]);
        assert!(Command::parse("send p topic").is_err());
        assert_eq!(Command::parse("partition_for rule=default").unwrap().client, None);
    }

    #[test]
    fn bytes_are_shown_as_they_are_written() {
        for bytes in [&b"plain-text_1.2~3"[..], b"", b"\0\xff %@:,=", "\u{e4}".as_bytes()] {
            assert_eq!(unescape(&escape(bytes)).unwrap(), bytes);
        }
        assert_eq!(escape(b"\0\xff @"), "%00%FF%20%40");
        assert_eq!(unescape("@70*%41").unwrap(), [b'A'; 70]);
        assert_eq!(escape(&[b'a'; 65]), "@65~f33faf5d");
        for wrong in ["%", "%4", "%4x", "@", "@x*a", "@3*", "@3*ab"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn partitions_are_cut_at_the_last_colon() {
        assert_eq!(partitions("t:0,u:12").unwrap(), [("t", 0), ("u", 12)]);
        assert_eq!(partitions("").unwrap(), []);
        assert!(partitions("t").is_err());
    }

    #[test]
    fn the_checksum_is_that_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
