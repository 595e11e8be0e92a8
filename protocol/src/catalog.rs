//! Messages as data: for programs that handle every message alike, such as tests, fuzzers and dumps.
//!
//! [`crate::messages::CATALOG`] and [`crate::internal::CATALOG`] list everything.

use crate::wire::{DecodeError, EncodeError};

/// One message of the protocol, without its type.
#[derive(Debug, Clone, Copy)]
pub struct MessageInfo {
    /// The name in Kafka's schemas.
    pub name: &'static str,
    /// Number of the API or of the record's type, where there is one.
    pub api_key: Option<i16>,
    /// The first version.
    pub min_version: i16,
    /// The last stable version.
    pub max_version: i16,
    /// The last version that can be read and written.
    pub last_version: i16,
    pub(crate) recode: fn(&[u8], i16) -> Result<Vec<u8>, RecodeError>,
    pub(crate) debug: fn(&[u8], i16) -> Result<String, DecodeError>,
    pub(crate) default: fn(i16) -> Result<Vec<u8>, EncodeError>,
}

/// Why a message could not be read and written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecodeError {
    /// It could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It could be read but not written, which a correct codec never does.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl MessageInfo {
    /// Reads a message that fills `bytes` and writes it again in the same version.
    ///
    /// # Errors
    /// When it is malformed or bytes are left over.
    pub fn recode(&self, bytes: &[u8], version: i16) -> Result<Vec<u8>, RecodeError> {
        (self.recode)(bytes, version)
    }

    /// Reads a message that fills `bytes` and shows its fields.
    ///
    /// # Errors
    /// When it is malformed or bytes are left over.
    pub fn debug(&self, bytes: &[u8], version: i16) -> Result<String, DecodeError> {
        (self.debug)(bytes, version)
    }

    /// Writes the message with all fields at their defaults.
    ///
    /// # Errors
    /// When the version is unknown, or a default cannot be written in it.
    pub fn default_bytes(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        (self.default)(version)
    }
}

/// The row of one message.
macro_rules! entry {
    ($message:ident, $api_key:expr) => {
        MessageInfo {
            name: <$message as $crate::Message>::NAME,
            api_key: $api_key,
            min_version: <$message as $crate::Message>::MIN_VERSION,
            max_version: <$message as $crate::Message>::MAX_VERSION,
            last_version: <$message as $crate::Message>::LAST_VERSION,
            recode: |bytes, version| {
                let mut w = $crate::Writer::with_capacity(bytes.len());
                let message: $message = $crate::catalog::read(bytes, version)?;
                $crate::Message::encode(&message, &mut w, version);
                Ok(w.into_vec()?)
            },
            debug: |bytes, version| {
                let message: $message = $crate::catalog::read(bytes, version)?;
                Ok(format!("{message:#?}"))
            },
            default: |version| {
                let mut w = $crate::Writer::new();
                $crate::Message::encode(&$message::default(), &mut w, version);
                w.into_vec()
            },
        }
    };
}
pub(crate) use entry;

/// Reads a message that must fill `bytes`.
pub(crate) fn read<'a, M: crate::Message<'a>>(bytes: &'a [u8], version: i16) -> Result<M, DecodeError> {
    use crate::wire::{AtField, Place};
    let mut reader = crate::Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    reader.finish().at(Place::new(M::NAME, ""), "end")?;
    Ok(message)
}
