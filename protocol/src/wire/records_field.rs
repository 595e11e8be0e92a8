//! Runs of record batches as a field of a message, and finished bytes that are ready for a socket.

use bytes::Bytes;
use std::fmt;

/// The value of a `records` field: whole batches that nobody has looked into.
///
/// Decoding gives `Slice`, borrowed from the frame. Whoever owns that frame as [`Bytes`] shares it without a copy
/// by `frame.slice_ref(slice)`. Writers give `Bytes` or `Chain`, which are spliced into the frame, not copied.
///
/// Two values are equal when their bytes are; `Null` equals only `Null`.
#[derive(Clone, Default)]
pub enum Records<'a> {
    /// No value (not the same as no batches).
    #[default]
    Null,
    /// Borrowed batches.
    Slice(&'a [u8]),
    /// Shared batches in one piece.
    Bytes(Bytes),
    /// Shared batches in several pieces, which follow each other on the wire.
    Chain(Vec<Bytes>),
}

impl<'a> Records<'a> {
    /// No batches (not the same as null).
    pub const EMPTY: Records<'static> = Records::Slice(&[]);

    /// Length in bytes; 0 for null.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }

    /// True when there are no bytes, also for null.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True for null only.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Records::Null)
    }

    /// The bytes, if they are in one piece; `None` for null and for a chain.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Records::Slice(slice) => Some(slice),
            Records::Bytes(bytes) => Some(bytes),
            Records::Null | Records::Chain(_) => None,
        }
    }

    /// The bytes in one piece. Copies a `Slice` and a `Chain`, shares `Bytes`; null is empty.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Records::Null => Bytes::new(),
            Records::Slice(slice) => Bytes::copy_from_slice(slice),
            Records::Bytes(bytes) => bytes.clone(),
            Records::Chain(pieces) => pieces.concat().into(),
        }
    }

    /// The pieces in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many): (Option<&[u8]>, &[Bytes]) = match self {
            Records::Null => (None, &[]),
            Records::Slice(slice) => (Some(slice), &[]),
            Records::Bytes(bytes) => (Some(bytes), &[]),
            Records::Chain(pieces) => (None, pieces),
        };
        one.into_iter().chain(many.iter().map(|piece| &piece[..]))
    }
}

impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.is_null() == other.is_null()
            && self.len() == other.len()
            && self.slices().flatten().eq(other.slices().flatten())
    }
}

impl Eq for Records<'_> {}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Records::Null => f.write_str("null"),
            _ => write!(f, "{} bytes of records", self.len()),
        }
    }
}

/// Finished bytes in pieces, in the order of the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    /// Total length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// True when there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The pieces in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.0.iter()
    }

    /// The pieces in order, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<Bytes> {
        self.0
    }

    /// One copy of everything.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0.concat()
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        Pieces(pieces)
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Pieces {
    type Item = &'a Bytes;
    type IntoIter = std::slice::Iter<'a, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
