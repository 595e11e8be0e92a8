//! Reading and writing the primitive types of the Kafka protocol.
//!
//! Takes: bytes of one frame, or values to write. Gives: a [`Reader`] that borrows and never trusts a length, a
//! [`Writer`] that splices records instead of copying them, and the errors of both. Knows nothing of messages,
//! versions or headers.
//!
//! Every length and count is compared with the bytes that are left before anything is allocated for it.

use std::fmt;

mod reader;
mod records_field;
mod uuid;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{AtField, NullableField, Reader};
pub use records_field::{Pieces, Records};
pub use uuid::{ParseUuidError, Uuid};
pub use writer::{SPLICE_THRESHOLD_BYTES, TagSection, Writer};

/// The longest string that the protocol allows, in bytes of UTF-8.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// What is wrong with bytes that were to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("needs {needed} bytes but only {left} are left")]
    UnexpectedEnd {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// The value is null where the version has no null.
    #[error("is null, which this version does not allow")]
    NullNotAllowed,
    /// A string is not valid UTF-8.
    #[error("is not valid UTF-8")]
    InvalidUtf8,
    /// A string is longer than [`MAX_STRING_BYTES`].
    #[error("is a string of {length} bytes, more than the allowed {MAX_STRING_BYTES}")]
    StringTooLong {
        /// The length that was announced, in bytes.
        length: usize,
    },
    /// A variable-length integer does not end where its type ends.
    #[error("is a variable-length integer with too many bits")]
    VarintTooLong,
    /// An array announces more elements than the bytes left can hold.
    #[error("count {count} needs more than the {left} bytes left")]
    CountTooLarge {
        /// Elements that were announced.
        count: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// An array would take more memory than its message is allowed, though the bytes are there.
    #[error("takes {needed} bytes of memory where {left} are allowed")]
    MemoryTooLarge {
        /// Bytes that its elements would take.
        needed: usize,
        /// Bytes that are left of what the message is allowed.
        left: usize,
    },
    /// Bytes are left over after the last field of a message or of a tagged field.
    #[error("is followed by {left} bytes that belong to nothing")]
    TrailingBytes {
        /// Bytes that are left.
        left: usize,
    },
    /// The version is not one of this message's.
    #[error("version {version} is unknown, versions are {min}-{max}")]
    UnsupportedVersion {
        /// The version that was asked for.
        version: i16,
        /// The first known version.
        min: i16,
        /// The last known version.
        max: i16,
    },
    /// A type number in front of an internal record (or its frame version) is unknown.
    #[error("{kind} is not a known type")]
    UnknownType {
        /// The number that was found.
        kind: u32,
    },
}

/// A struct inside a message, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The message's name in the schemas.
    pub message: &'static str,
    /// The way from the message to the struct, such as `topics.partitions.`; empty for the message itself.
    pub path: &'static str,
}

impl Place {
    /// A place; `path` is empty or ends in a dot.
    #[must_use]
    pub const fn new(message: &'static str, path: &'static str) -> Self {
        Place { message, path }
    }

    /// The place of an error that has no name yet, because what found it knows no names.
    const UNKNOWN: Place = Place::new("", "");

    fn is_unknown(&self) -> bool {
        self.message.is_empty()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.path)
    }
}

/// A message that could not be read: where and why.
///
/// ```
/// use ottla_protocol::messages::MetadataRequest;
/// use ottla_protocol::{Message, wire::Reader};
/// let hostile = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0];
/// let error = MetadataRequest::decode(&mut Reader::new(&hostile), 1).unwrap_err();
/// assert_eq!(error.to_string(), "MetadataRequest.topics: count 2147483647 needs more than the 3 bytes left");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place}{field}: {error}")]
pub struct DecodeError {
    /// The struct; without a name as long as only the reader, which knows no names, has passed the error on.
    pub place: Place,
    /// The field of the struct.
    pub field: &'static str,
    /// What is wrong with it.
    pub error: WireError,
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        DecodeError {
            place: Place::UNKNOWN,
            field: "",
            error,
        }
    }
}

/// Why a value cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A string is longer than [`MAX_STRING_BYTES`].
    #[error("is a string of {length} bytes, more than the allowed {MAX_STRING_BYTES}")]
    StringTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Bytes, records, an array or a whole frame are too long for their length field.
    #[error("has a length of {length}, more than the length field can hold")]
    TooLong {
        /// Length in bytes, or number of elements.
        length: usize,
    },
    /// The value is null where the version has no null.
    #[error("is null, which version {version} does not allow")]
    NullNotAllowed {
        /// The version that was to be written.
        version: i16,
    },
    /// The field says something that the version cannot carry and that must not be lost.
    #[error("has a value that version {version} cannot carry")]
    NotInVersion {
        /// The version that was to be written.
        version: i16,
    },
    /// The version is not one of this message's.
    #[error("version {version} is unknown, versions are {min}-{max}")]
    UnsupportedVersion {
        /// The version that was asked for.
        version: i16,
        /// The first known version.
        min: i16,
        /// The last known version.
        max: i16,
    },
}

/// A message that could not be written: where and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{place}{field}: {refusal}")]
pub struct EncodeError {
    /// The struct; without a name when the writer was used without a message.
    pub place: Place,
    /// The field of the struct.
    pub field: &'static str,
    /// What is wrong with its value.
    pub refusal: Refusal,
}
