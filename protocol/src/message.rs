//! What all messages have in common.

use crate::ApiKey;
use crate::wire::{AtField, DecodeError, Place, Reader, WireError, Writer};

/// A message of the protocol, or a stored record, in every version that Kafka still knows.
///
/// The struct has the fields of all versions. Decoding an old version leaves what it lacks at the default. Encoding
/// an old version drops what it lacks only where the schema calls the field ignorable or the value is the default;
/// otherwise the writer refuses, so that nothing is lost in silence.
pub trait Message<'a>: Sized {
    /// The name in Kafka's schemas.
    const NAME: &'static str;
    /// The first version.
    const MIN_VERSION: i16;
    /// The last stable version.
    const MAX_VERSION: i16;
    /// The last version that can be read and written, stable or not.
    const LAST_VERSION: i16 = Self::MAX_VERSION;

    /// Reads one message; bytes behind it stay in the reader.
    ///
    /// # Errors
    /// Names the field that is malformed, or the version that is unknown.
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. What cannot be written is remembered by the writer and comes out at its end.
    fn encode(&self, w: &mut Writer, version: i16);

    /// Says whether `version` can be read and written.
    ///
    /// # Errors
    /// [`WireError::UnsupportedVersion`] when it cannot.
    fn check_version(version: i16) -> Result<(), DecodeError> {
        let (min, max) = (Self::MIN_VERSION, Self::LAST_VERSION);
        if version < min || version > max {
            return Err(WireError::UnsupportedVersion { version, min, max }).at(Place::new(Self::NAME, ""), "version");
        }
        Ok(())
    }
}

/// A request: a message with a number and an answer.
pub trait Request {
    /// The API.
    const API_KEY: ApiKey;
    /// The message that answers it.
    type Response<'r>: Message<'r>;
}
