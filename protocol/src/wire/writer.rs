//! The writer: one growing buffer, and records spliced in between.
//!
//! Writing never fails on the spot. The first refusal is kept and comes out at the end, so that encoders read like
//! the layout that they write.

use super::{EncodeError, MAX_STRING_BYTES, Pieces, Place, Records, Refusal, Uuid};
use bytes::Bytes;

/// Shared records of at least this many bytes are spliced into the output; smaller ones are copied, because a piece
/// of its own costs a socket more than a short copy does.
pub const SPLICE_THRESHOLD_BYTES: usize = 4096;

/// Writes values one after another.
#[derive(Debug, Default)]
pub struct Writer {
    head: Vec<u8>,
    /// Pieces with the position in `head` before which they belong; positions never decrease.
    splices: Vec<(usize, Bytes)>,
    spliced_bytes: usize,
    error: Option<EncodeError>,
}

macro_rules! fixed_width {
    ($($name:ident),*) => { $(
        #[doc = concat!("Writes a big-endian `", stringify!($name), "`.")]
        #[inline]
        pub fn $name(&mut self, value: $name) -> &mut Self {
            self.head.extend_from_slice(&value.to_be_bytes());
            self
        }
    )* };
}

impl Writer {
    /// Starts with nothing.
    #[must_use]
    pub fn new() -> Self {
        Writer::default()
    }

    /// Starts with nothing and room for `bytes` (spliced records not counted).
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Writer {
            head: Vec::with_capacity(bytes),
            ..Writer::default()
        }
    }

    /// Starts with nothing and reuses the memory of `buffer`.
    #[must_use]
    pub fn reusing(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Writer {
            head: buffer,
            ..Writer::default()
        }
    }

    /// Bytes written so far, spliced ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.spliced_bytes
    }

    /// True while nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The output, large records as pieces of their own.
    ///
    /// # Errors
    /// The first value that was refused.
    pub fn into_pieces(self) -> Result<Pieces, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut head = Bytes::from(self.head);
        let mut pieces = Vec::with_capacity(2 * self.splices.len() + 1);
        let mut done = 0;
        for (at, piece) in self.splices {
            if at > done {
                pieces.push(head.split_to(at - done));
                done = at;
            }
            pieces.push(piece);
        }
        if !head.is_empty() {
            pieces.push(head);
        }
        Ok(Pieces::from(pieces))
    }

    /// The output in one piece; copies spliced records.
    ///
    /// # Errors
    /// The first value that was refused.
    pub fn into_vec(self) -> Result<Vec<u8>, EncodeError> {
        if self.splices.is_empty() && self.error.is_none() {
            return Ok(self.head);
        }
        self.into_pieces().map(Pieces::into_vec)
    }

    /// Remembers `refusal` unless an earlier one is there. Everything written afterwards is thrown away.
    #[cold]
    pub fn refuse(&mut self, refusal: Refusal) -> &mut Self {
        self.error.get_or_insert(EncodeError {
            place: Place::UNKNOWN,
            field: "",
            refusal,
        });
        self
    }

    /// Names the place and the field of a refusal that has no names yet.
    #[inline]
    pub fn at(&mut self, place: Place, field: &'static str) -> &mut Self {
        if let Some(error) = self.error.as_mut().filter(|error| error.place.is_unknown()) {
            error.place = place;
            error.field = field;
        }
        self
    }

    /// Refuses to go on with a version outside `min..=max`.
    pub fn check_version(&mut self, version: i16, min: i16, max: i16) -> &mut Self {
        if version < min || version > max {
            self.refuse(Refusal::UnsupportedVersion { version, min, max });
        }
        self
    }

    /// Refuses a value that says something (`present`) in a version that cannot carry it.
    #[inline]
    pub fn absent(&mut self, version: i16, present: bool) -> &mut Self {
        if present {
            self.refuse(Refusal::NotInVersion { version });
        }
        self
    }

    /// Refuses null (`null`) in a version that has none.
    #[inline]
    pub fn not_null(&mut self, version: i16, null: bool) -> &mut Self {
        if null {
            self.refuse(Refusal::NullNotAllowed { version });
        }
        self
    }

    fixed_width!(i8, u8, i16, u16, i32, u32, i64, f64);

    /// Writes a boolean as one byte.
    #[inline]
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Writes the 16 bytes of a UUID.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.raw(&value.0)
    }

    /// Writes bytes without a length.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.head.extend_from_slice(bytes);
        self
    }

    /// Writes an unsigned integer of one to five bytes, seven bits a byte, lowest first.
    #[inline]
    pub fn unsigned_varint(&mut self, mut value: u32) -> &mut Self {
        while value >= 0x80 {
            self.head.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.head.push(value as u8);
        self
    }

    /// Writes a zigzag-coded 32-bit integer of one to five bytes.
    #[inline]
    pub fn varint(&mut self, value: i32) -> &mut Self {
        self.unsigned_varint(((value << 1) ^ (value >> 31)).cast_unsigned())
    }

    /// Writes a zigzag-coded 64-bit integer of one to ten bytes.
    pub fn varlong(&mut self, value: i64) -> &mut Self {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.head.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.head.push(rest as u8);
        self
    }

    /// Writes the length of bytes or the count of an array.
    #[inline]
    fn length(&mut self, length: usize, flexible: bool) {
        let Ok(short) = i32::try_from(length) else {
            self.refuse(Refusal::TooLong { length });
            return;
        };
        if flexible {
            self.unsigned_varint(short.cast_unsigned() + 1);
        } else {
            self.i32(short);
        }
    }

    #[inline]
    fn null(&mut self, flexible: bool) -> &mut Self {
        if flexible { self.u8(0) } else { self.i32(-1) }
    }

    /// Writes a string. `flexible` says that the length is a varint.
    pub fn str(&mut self, value: &str, flexible: bool) -> &mut Self {
        let length = value.len();
        if length > MAX_STRING_BYTES {
            return self.refuse(Refusal::StringTooLong { length });
        }
        if flexible {
            self.unsigned_varint(length as u32 + 1);
        } else {
            self.i16(length as i16);
        }
        self.raw(value.as_bytes())
    }

    /// Writes a string or null.
    pub fn opt_str(&mut self, value: Option<&str>, flexible: bool) -> &mut Self {
        match value {
            Some(value) => self.str(value, flexible),
            None if flexible => self.u8(0),
            None => self.i16(-1),
        }
    }

    /// Writes bytes. `flexible` says that the length is a varint.
    pub fn bytes(&mut self, value: &[u8], flexible: bool) -> &mut Self {
        self.length(value.len(), flexible);
        self.raw(value)
    }

    /// Writes bytes or null.
    pub fn opt_bytes(&mut self, value: Option<&[u8]>, flexible: bool) -> &mut Self {
        match value {
            Some(value) => self.bytes(value, flexible),
            None => self.null(flexible),
        }
    }

    /// Writes a run of record batches or null. Shared pieces of at least [`SPLICE_THRESHOLD_BYTES`] are not copied.
    pub fn records(&mut self, value: &Records<'_>, flexible: bool) -> &mut Self {
        if value.is_null() {
            return self.null(flexible);
        }
        self.length(value.len(), flexible);
        match value {
            Records::Null => self,
            Records::Slice(slice) => self.raw(slice),
            Records::Bytes(piece) => self.splice(piece),
            Records::Chain(pieces) => {
                for piece in pieces {
                    self.splice(piece);
                }
                self
            }
        }
    }

    fn splice(&mut self, piece: &Bytes) -> &mut Self {
        if piece.len() < SPLICE_THRESHOLD_BYTES {
            return self.raw(piece);
        }
        self.spliced_bytes += piece.len();
        self.splices.push((self.head.len(), piece.clone()));
        self
    }

    /// Writes an array, each element by `element`.
    #[inline]
    pub fn array<T>(&mut self, values: &[T], flexible: bool, mut element: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.length(values.len(), flexible);
        for value in values {
            element(self, value);
        }
        self
    }

    /// Writes an array or null.
    #[inline]
    pub fn opt_array<T>(
        &mut self,
        values: Option<&[T]>,
        flexible: bool,
        element: impl FnMut(&mut Self, &T),
    ) -> &mut Self {
        match values {
            Some(values) => self.array(values, flexible, element),
            None => self.null(flexible),
        }
    }

    /// Writes a struct behind a byte that says whether it is there.
    #[inline]
    pub fn opt_struct<T>(&mut self, value: Option<&T>, inner: impl FnOnce(&mut Self, &T)) -> &mut Self {
        let Some(value) = value else { return self.i8(-1) };
        self.i8(1);
        inner(self, value);
        self
    }

    /// Writes a struct in a tagged field, behind a varint that says whether it is there.
    pub fn opt_tagged_struct<T>(&mut self, value: Option<&T>, inner: impl FnOnce(&mut Self, &T)) -> &mut Self {
        let Some(value) = value else { return self.u8(0) };
        self.u8(1);
        inner(self, value);
        self
    }

    /// Writes an empty section of tagged fields.
    #[inline]
    pub fn no_tags(&mut self) -> &mut Self {
        self.u8(0)
    }

    /// Opens a section of tagged fields. Tags must be written in rising order.
    pub fn begin_tags(&mut self) -> TagSection {
        let count_at = self.head.len();
        self.u8(0);
        TagSection { count_at }
    }

    /// Overwrites four bytes at `position` of the output with a big-endian number. Nothing must have been spliced in
    /// before that position. Used for lengths that are known only at the end.
    pub(crate) fn patch_i32(&mut self, position: usize, value: i32) {
        if let Some(place) = self.head.get_mut(position..position + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// An open section of tagged fields.
#[derive(Debug)]
#[must_use]
pub struct TagSection {
    count_at: usize,
}

impl TagSection {
    /// Writes one tagged field. Its value goes into the buffer first and makes room for its size afterwards: sizes
    /// are one byte nearly always, and no version needs a second pass over the message.
    #[inline]
    pub fn field(&mut self, w: &mut Writer, tag: u32, value: impl FnOnce(&mut Writer)) {
        // The schemas have far fewer than 128 tags in a struct, so that the count stays a varint of one byte.
        if let Some(count) = w.head.get_mut(self.count_at) {
            *count += 1;
        }
        w.unsigned_varint(tag);
        let start = w.head.len();
        let spliced_before = w.splices.len();
        value(w);
        let size = w.head.len() - start
            + w.splices
                .iter()
                .skip(spliced_before)
                .map(|(_, piece)| piece.len())
                .sum::<usize>();
        w.unsigned_varint(u32::try_from(size).unwrap_or(u32::MAX));
        if size > i32::MAX as usize {
            w.refuse(Refusal::TooLong { length: size });
        }
        // The size stands behind the value now: turn the two round.
        let end = w.head.len();
        let value_end = end - varint_length(size);
        w.head[start..].rotate_right(end - value_end);
        for (at, _) in w.splices.iter_mut().skip(spliced_before) {
            *at += end - value_end;
        }
    }
}

fn varint_length(mut value: usize) -> usize {
    let mut length = 1;
    while value >= 0x80 {
        value >>= 7;
        length += 1;
    }
    length
}
