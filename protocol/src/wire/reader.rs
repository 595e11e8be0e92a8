//! The reader: borrows from a frame, checks every length, knows no names.
//!
//! Names of messages and fields are added by the caller with [`AtField::at`], after the fact, so that the way
//! without errors pays nothing for them.

use super::{DecodeError, MAX_STRING_BYTES, Place, Records, Uuid, WireError};

/// Reads values from borrowed bytes, front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
    /// Bytes that the elements of arrays may still take in memory.
    budget: usize,
}

/// What the elements of any message's arrays may take in memory, in bytes.
const BUDGET_BYTES: usize = 16 << 20;

/// And for each byte of the message. Elements are larger in memory than on the wire, by a factor of 2 to 4 in messages
/// that mean something and of up to 20 in those that are made for it.
const BUDGET_RATIO: usize = 4;

macro_rules! fixed_width {
    ($($name:ident: $bytes:literal),*) => { $(
        #[doc = concat!("Reads a big-endian `", stringify!($name), "`.")]
        ///
        /// # Errors
        /// When the bytes end first.
        #[inline]
        pub fn $name(&mut self) -> Result<$name, WireError> {
            Ok($name::from_be_bytes(self.chunk::<$bytes>()?))
        }
    )* };
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    ///
    /// The elements of all arrays together may take 16 MiB in memory, and 4 bytes more for each of `bytes`. More is
    /// refused: no message that a peer would honestly send needs it, and a frame of minimal elements would else take
    /// many times its size.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            rest: bytes,
            total: bytes.len(),
            budget: bytes.len().saturating_mul(BUDGET_RATIO).saturating_add(BUDGET_BYTES),
        }
    }

    /// Lets the elements of all arrays together take `bytes` in memory, for a reader that knows its peers better.
    #[must_use]
    pub fn with_budget(self, bytes: usize) -> Self {
        Reader { budget: bytes, ..self }
    }

    /// Bytes that are not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes that are read already.
    #[must_use]
    pub fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    /// The bytes that are not read yet; reads nothing.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Says that nothing may be left.
    ///
    /// # Errors
    /// [`WireError::TrailingBytes`] when something is left.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::TrailingBytes { left }),
        }
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::UnexpectedEnd {
                needed: N,
                left: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(*head)
    }

    fixed_width!(i8: 1, u8: 1, i16: 2, u16: 2, i32: 4, u32: 4, i64: 8, f64: 8);

    /// Reads a boolean: one byte, everything but zero is true.
    ///
    /// # Errors
    /// When the bytes end first.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.u8()? != 0)
    }

    /// Reads a UUID of 16 bytes.
    ///
    /// # Errors
    /// When the bytes end first.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        Ok(Uuid(self.chunk::<16>()?))
    }

    /// Reads the next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(WireError::UnexpectedEnd {
                needed: length,
                left: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Reads everything that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Reads an unsigned integer of one to five bytes, seven bits a byte, lowest first.
    ///
    /// # Errors
    /// When the bytes end first, or when it has more than 32 bits.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(WireError::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong)
    }

    /// Reads a zigzag-coded 32-bit integer of one to five bytes.
    ///
    /// # Errors
    /// When the bytes end first, or when it has more than 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, WireError> {
        let value = self.unsigned_varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Reads a zigzag-coded 64-bit integer of one to ten bytes.
    ///
    /// # Errors
    /// When the bytes end first, or when it has more than 64 bits.
    pub fn varlong(&mut self) -> Result<i64, WireError> {
        let mut value = 0u64;
        for shift in (0..=63).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(WireError::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(WireError::VarintTooLong)
    }

    /// Reads the length of bytes or the count of an array; `None` is null.
    #[inline]
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, WireError> {
        if flexible {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        Ok(usize::try_from(self.i32()?).ok())
    }

    /// Reads a string, or null. `flexible` says that the length is a varint.
    ///
    /// # Errors
    /// When the bytes end first, when the string is too long or is not UTF-8.
    pub fn opt_str(&mut self, flexible: bool) -> Result<Option<&'a str>, WireError> {
        let length = if flexible {
            self.length(true)?
        } else {
            usize::try_from(self.i16()?).ok()
        };
        let Some(length) = length else { return Ok(None) };
        if length > MAX_STRING_BYTES {
            return Err(WireError::StringTooLong { length });
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| WireError::InvalidUtf8)?;
        Ok(Some(text))
    }

    /// Reads a string that must not be null.
    ///
    /// # Errors
    /// As [`Reader::opt_str`], and for null.
    pub fn str(&mut self, flexible: bool) -> Result<&'a str, WireError> {
        self.opt_str(flexible)?.ok_or(WireError::NullNotAllowed)
    }

    /// Reads bytes, or null. `flexible` says that the length is a varint.
    ///
    /// # Errors
    /// When the bytes end first.
    pub fn opt_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, WireError> {
        match self.length(flexible)? {
            Some(length) => Ok(Some(self.take(length)?)),
            None => Ok(None),
        }
    }

    /// Reads bytes that must not be null.
    ///
    /// # Errors
    /// As [`Reader::opt_bytes`], and for null.
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], WireError> {
        self.opt_bytes(flexible)?.ok_or(WireError::NullNotAllowed)
    }

    /// Reads a run of record batches, or null, without looking inside.
    ///
    /// # Errors
    /// When the bytes end first.
    pub fn opt_records(&mut self, flexible: bool) -> Result<Records<'a>, WireError> {
        Ok(self.opt_bytes(flexible)?.map_or(Records::Null, Records::Slice))
    }

    /// Reads a run of record batches that must not be null, without looking inside.
    ///
    /// # Errors
    /// As [`Reader::opt_records`], and for null.
    pub fn records(&mut self, flexible: bool) -> Result<Records<'a>, WireError> {
        Ok(Records::Slice(self.bytes(flexible)?))
    }

    /// Reads an array, or null. No element is smaller than `element_min` bytes (at least 1), so a count that
    /// cannot be true is refused before anything is allocated, and so is one that takes more memory than is left of
    /// the budget (see [`Reader::new`]).
    ///
    /// # Errors
    /// When the count is more than the bytes left can hold or the memory allowed, and whatever `element` says.
    #[inline]
    pub fn opt_array<T, E: Into<DecodeError>>(
        &mut self,
        flexible: bool,
        element_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible)? else {
            return Ok(None);
        };
        let left = self.rest.len();
        if count > left / element_min.max(1) {
            return Err(WireError::CountTooLarge { count, left }.into());
        }
        let needed = count.saturating_mul(size_of::<T>());
        self.budget = self.budget.checked_sub(needed).ok_or(WireError::MemoryTooLarge {
            needed,
            left: self.budget,
        })?;
        // Values in memory are larger than on the wire: start with no more memory than there are bytes and grow
        // only as elements really come.
        let mut values = Vec::with_capacity(count.min(left / size_of::<T>().max(1) + 1));
        for read in 0..count {
            if read == values.capacity() {
                values.reserve_exact(read.max(1).min(count - read));
            }
            values.push(element(self).map_err(Into::into)?);
        }
        Ok(Some(values))
    }

    /// Reads an array that must not be null; see [`Reader::opt_array`].
    ///
    /// # Errors
    /// As [`Reader::opt_array`], and for null.
    #[inline]
    pub fn array<T, E: Into<DecodeError>>(
        &mut self,
        flexible: bool,
        element_min: usize,
        element: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Vec<T>, DecodeError> {
        self.opt_array(flexible, element_min, element)?
            .ok_or(WireError::NullNotAllowed.into())
    }

    /// Reads a struct behind a byte that says whether it is there (negative: null).
    ///
    /// # Errors
    /// When the bytes end first, and whatever `inner` says.
    #[inline]
    pub fn opt_struct<T, E: Into<DecodeError>>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 {
            return Ok(None);
        }
        inner(self).map(Some).map_err(Into::into)
    }

    /// Reads a struct in a tagged field, behind a varint that says whether it is there (0: null).
    ///
    /// # Errors
    /// When the bytes end first, and whatever `inner` says.
    pub fn opt_tagged_struct<T, E: Into<DecodeError>>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, DecodeError> {
        if self.unsigned_varint()? == 0 {
            return Ok(None);
        }
        inner(self).map(Some).map_err(Into::into)
    }

    /// Reads the tagged fields at the end of a flexible struct. `field` gets each tag and a reader of exactly its
    /// bytes; it must read or skip (with [`Reader::take_rest`]) all of them.
    ///
    /// # Errors
    /// When the bytes end first, when `field` leaves bytes over, and whatever `field` says.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()? as usize;
        let left = self.rest.len();
        // A tag and a size take at least a byte each.
        if count > left / 2 {
            return Err(WireError::CountTooLarge { count, left }.into());
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let mut value = Reader::new(self.take(size)?).with_budget(self.budget);
            field(tag, &mut value)?;
            value.finish()?;
            self.budget = value.budget;
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a flexible struct that knows none.
    ///
    /// # Errors
    /// When the bytes end first.
    #[inline]
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        if let [0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(());
        }
        self.tags(|_, value| {
            value.take_rest();
            Ok(())
        })
    }
}

/// Names the place and the field of an error that has no name yet.
pub trait AtField<T> {
    /// Adds the names unless an inner field has added its own.
    ///
    /// # Errors
    /// The error itself, now with names.
    fn at(self, place: Place, field: &'static str) -> Result<T, DecodeError>;
}

impl<T> AtField<T> for Result<T, WireError> {
    #[inline]
    fn at(self, place: Place, field: &'static str) -> Result<T, DecodeError> {
        self.map_err(|error| DecodeError { place, field, error })
    }
}

impl<T> AtField<T> for Result<T, DecodeError> {
    #[inline]
    fn at(self, place: Place, field: &'static str) -> Result<T, DecodeError> {
        self.map_err(|inner| match inner.place.is_unknown() {
            true => DecodeError {
                place,
                field,
                error: inner.error,
            },
            false => inner,
        })
    }
}

/// Refuses null in versions that have none.
pub trait NullableField: Sized {
    /// Passes everything on if `allowed`, and everything but null otherwise.
    ///
    /// # Errors
    /// [`WireError::NullNotAllowed`], or the error that was there already.
    fn null_if(self, allowed: bool) -> Result<Self::Value, DecodeError>;
    /// The value with its null.
    type Value;
}

impl<T, E: Into<DecodeError>> NullableField for Result<Option<T>, E> {
    type Value = Option<T>;

    #[inline]
    fn null_if(self, allowed: bool) -> Result<Option<T>, DecodeError> {
        match self {
            Ok(None) if !allowed => Err(WireError::NullNotAllowed.into()),
            Ok(value) => Ok(value),
            Err(error) => Err(error.into()),
        }
    }
}

impl<'a> NullableField for Result<Records<'a>, WireError> {
    type Value = Records<'a>;

    #[inline]
    fn null_if(self, allowed: bool) -> Result<Records<'a>, DecodeError> {
        match self {
            Ok(Records::Null) if !allowed => Err(WireError::NullNotAllowed.into()),
            Ok(value) => Ok(value),
            Err(error) => Err(error.into()),
        }
    }
}
