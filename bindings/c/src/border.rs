//! The border: what every function begins with, and how it reads what the caller passed.
//!
//! In: raw pointers. Out: references, or an error that names the argument. A function's body is one `ffi!`: a panic in it
//! becomes `OTTLA_ERROR_PANIC`, an error becomes a number and, if the caller wants it, an object.

use std::ffi::{CStr, CString, c_char};

use ottla_bindings_core::{Error, guard};

use crate::error::{OTTLA_OK, ottla_error};
use crate::ottla_bytes;

/// The body of an exported function: `ffi!(error, |given| { ... Ok(()) })`.
///
/// Around the body and not around the signature, which cbindgen has to see.
macro_rules! ffi {
    ($error:expr, |$given:ident| $body:block) => {{
        let error = $error;
        $crate::border::call(error, move || {
            // SAFETY: this is the body of an exported function, and what it asks `given` about are its own arguments. The
            // header's first rule is that each of them is NULL or points to what its type says, until the call returns.
            #[allow(unused_variables)]
            let $given = unsafe { $crate::border::Given::by_the_caller() };
            $body
        })
    }};
}
pub(crate) use ffi;

/// Runs the body of a function and tells how it ended.
#[inline]
pub(crate) fn call(error: *mut *mut ottla_error, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    match guard(body) {
        Ok(()) => OTTLA_OK,
        Err(failed) => fail(error, &failed),
    }
}

#[cold]
fn fail(error: *mut *mut ottla_error, failed: &Error) -> i32 {
    // SAFETY: see `ffi!`: NULL, or a place for a pointer.
    if let Some(place) = unsafe { error.as_mut() } {
        *place = Box::into_raw(Box::new(ottla_error::from(failed)));
    }
    crate::error::number(failed)
}

/// The word of the caller that pointers are NULL or good, for the time of one call. Methods check for NULL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given(());

impl Given {
    /// # Safety
    /// Only for the arguments of an exported function, which keep the header's rules.
    pub unsafe fn by_the_caller() -> Given {
        Given(())
    }

    /// A string that must be there.
    pub fn text<'a>(self, text: *const c_char, what: &str) -> Result<&'a str, Error> {
        self.optional_text(text, what)?
            .ok_or_else(|| Error::argument(format!("{what} is NULL")))
    }

    /// A string, or NULL.
    #[inline]
    pub fn optional_text<'a>(self, text: *const c_char, what: &str) -> Result<Option<&'a str>, Error> {
        if text.is_null() {
            return Ok(None);
        }
        // SAFETY: `self` is the caller's word: a string that ends with a NUL.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_str()
            .map(Some)
            .map_err(|error| Error::argument(format!("{what} is not UTF-8: {error}")))
    }

    /// Bytes, or null.
    #[inline]
    pub fn bytes<'a>(self, bytes: ottla_bytes) -> Option<&'a [u8]> {
        if bytes.data.is_null() {
            return None;
        }
        // SAFETY: `self` is the caller's word: `len` bytes from `data` on.
        Some(unsafe { std::slice::from_raw_parts(bytes.data.cast(), bytes.len) })
    }

    /// An array.
    pub fn array<'a, T>(self, first: *const T, count: usize, what: &str) -> Result<&'a [T], Error> {
        if count == 0 {
            return Ok(&[]);
        }
        if first.is_null() {
            return Err(Error::argument(format!("{what} is NULL, with a count of {count}")));
        }
        // SAFETY: `self` is the caller's word: an array of `count` elements.
        Ok(unsafe { std::slice::from_raw_parts(first, count) })
    }

    /// An array to be written.
    pub fn array_out<'a, T>(self, first: *mut T, count: usize, what: &str) -> Result<&'a mut [T], Error> {
        if count == 0 {
            return Ok(&mut []);
        }
        if first.is_null() {
            return Err(Error::argument(format!("{what} is NULL, with a count of {count}")));
        }
        // SAFETY: `self` is the caller's word: an array of `count` elements that nobody else uses meanwhile.
        Ok(unsafe { std::slice::from_raw_parts_mut(first, count) })
    }

    /// Something to be read.
    #[inline]
    pub fn read<'a, T>(self, pointer: *const T, what: &str) -> Result<&'a T, Error> {
        // SAFETY: `self` is the caller's word: NULL, or something of this type.
        unsafe { pointer.as_ref() }.ok_or_else(|| is_null(what))
    }

    /// A place for a result.
    #[inline]
    pub fn out<'a, T>(self, place: *mut T, what: &str) -> Result<&'a mut T, Error> {
        // SAFETY: `self` is the caller's word: NULL, or room for a value of this type that nobody else uses meanwhile.
        unsafe { place.as_mut() }.ok_or_else(|| is_null(what))
    }

    /// A place for a result that the caller may not want.
    pub fn optional_out<'a, T>(self, place: *mut T) -> Option<&'a mut T> {
        // SAFETY: as in `out`.
        unsafe { place.as_mut() }
    }

    /// Does something with a structure that begins with its size as the caller knows it: `size` bytes of it, the rest from
    /// `whole`. One that is as large as ours is not copied.
    #[inline]
    pub fn with_sized<T: Copy, R>(
        self,
        first: *const T,
        whole: T,
        what: &str,
        then: impl FnOnce(&T) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let size = self.size_of(first, what)?;
        if size == size_of::<T>() {
            // SAFETY: `self` is the caller's word, and the caller's structure is ours.
            return then(unsafe { &*first });
        }
        let mut copy = whole;
        let bytes = size.min(size_of::<T>());
        // SAFETY: both are plain data of at least `bytes` bytes, and a prefix of the structure is one of the same.
        unsafe { std::ptr::copy_nonoverlapping(first.cast::<u8>(), (&raw mut copy).cast::<u8>(), bytes) };
        then(&copy)
    }

    /// Writes a structure that begins with its size: as much of it as the caller has room for, but not the size itself.
    #[inline]
    pub fn write_sized<T: Copy>(self, place: *mut T, size: usize, value: impl FnOnce() -> T) {
        // As a rule both sides are of one release, and the value is made where it is to be.
        if size >= size_of::<T>() {
            // SAFETY: `size` bytes are the caller's word (see `size_of`), and they are plain data.
            unsafe { place.write(value()) };
        } else {
            let value = value();
            // SAFETY: as above, and `size` is less than `value` has.
            unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), place.cast::<u8>(), size) };
        }
    }

    /// The size that a structure says it has, in its first field.
    #[inline]
    pub fn size_of<T>(self, first: *const T, what: &str) -> Result<usize, Error> {
        if first.is_null() {
            return Err(is_null(what));
        }
        // SAFETY: `self` is the caller's word; the first field of all such structures is a `size_t`.
        let size = unsafe { *first.cast::<usize>() };
        // The first release had no smaller ones than these; what is far off is memory that nobody has set.
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) || size % align_of::<T>() != 0 {
            return Err(is_no_size(size, what));
        }
        Ok(size)
    }
}

/// No structure with a size is smaller than two words.
const MIN_SIZE: usize = 2 * size_of::<usize>();
/// None will ever be larger.
const MAX_SIZE: usize = 4096;

// What is told of a mistake stands apart: its words must not cost those who made none.
#[cold]
fn is_no_size(size: usize, what: &str) -> Error {
    Error::argument(format!(
        "{what}: struct_size is {size}, not the size of a structure of this library: begin with its _INIT macro"
    ))
}

#[cold]
fn is_null(what: &str) -> Error {
    Error::argument(format!("{what} is NULL"))
}

/// A string for C. A NUL inside, which none of ours has on purpose, becomes a blank.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Bytes as C sees them.
#[inline]
pub(crate) fn view(bytes: Option<&[u8]>) -> ottla_bytes {
    match bytes {
        Some(bytes) => ottla_bytes {
            data: bytes.as_ptr().cast(),
            len: bytes.len(),
        },
        None => ottla_bytes {
            data: std::ptr::null(),
            len: 0,
        },
    }
}

/// A string that the caller frees with `ottla_string_free`.
pub(crate) fn give_text(text: &str) -> *mut c_char {
    c_string(text).into_raw()
}
