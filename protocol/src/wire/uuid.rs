//! UUIDs as Kafka writes them: 16 bytes on the wire, url-safe base64 without padding for people.

use std::fmt;
use std::str::FromStr;

/// A UUID of 16 bytes. [`Uuid::ZERO`] stands for "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of a printed UUID: 128 bits, six a character.
const TEXT_LENGTH: usize = 22;

impl Uuid {
    /// "No id".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// The same 128 bits as a big-endian number.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The UUID with these 128 bits, most significant first.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Uuid {
        Uuid(bits.to_be_bytes())
    }

    /// A version-4 UUID from 16 random bytes of the caller.
    #[must_use]
    pub const fn from_random_bytes(bytes: [u8; 16]) -> Uuid {
        let version = 0x4000_u128 << 64;
        let variant = 0x8000_u128 << 48;
        let free = !((0xf000_u128 << 64) | (0xc000_u128 << 48));
        Uuid::from_u128((u128::from_be_bytes(bytes) & free) | version | variant)
    }

    /// True for [`Uuid::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 22 characters hold 132 bits: the last four are zero.
        let bits = self.as_u128();
        let mut text = String::with_capacity(TEXT_LENGTH);
        for index in 0..TEXT_LENGTH - 1 {
            text.push(letter((bits >> (122 - 6 * index)) as usize));
        }
        text.push(letter((bits << 4) as usize));
        f.pad(&text)
    }
}

fn letter(bits: usize) -> char {
    char::from(ALPHABET[bits & 0x3f])
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// A text that is no UUID in Kafka's spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a UUID has {TEXT_LENGTH} characters of url-safe base64 without padding, for example AAAAAAAAAAAAAAAAAAAAAQ")]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != TEXT_LENGTH {
            return Err(ParseUuidError);
        }
        let mut bits = 0u128;
        for (index, byte) in text.bytes().enumerate() {
            let value = ALPHABET
                .iter()
                .position(|&letter| letter == byte)
                .ok_or(ParseUuidError)? as u128;
            if index < TEXT_LENGTH - 1 {
                bits = (bits << 6) | value;
            } else {
                // Java ignores the four bits beyond 128; so does this.
                bits = (bits << 2) | (value >> 4);
            }
        }
        Ok(Uuid::from_u128(bits))
    }
}
