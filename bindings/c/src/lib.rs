//! Ottla for C: everything that `ottla.h` declares.
//!
//! In: what a C program passes. Out: numbers, handles, views of bytes, and errors as objects. It is a skin over
//! `ottla-bindings-core`, which does the work; here are only the manners of C.
//!
//! | room | does |
//! |---|---|
//! | `border` | `ffi!`: what each function begins with; reading what the caller passed |
//! | `handles` | clients by number and generation, so that a freed one is an error and not a crash |
//! | `waiting` | blocking calls, with deadlines and wake-ups |
//! | `error` | numbers, and errors as objects |
//! | `config`, `producer`, `consumer`, `group`, `batch`, `admin`, `admin_groups`, `log`, `cluster` | the functions |
//!
//! `include/ottla.h` is generated from these files by cbindgen and checked in; `tests/header.rs` compares the two, and
//! `UPDATE=1` writes it. Doc comments of public items are the header's comments: they speak to C programmers.

// Each exported function takes pointers from C: there is no border without `unsafe`. Each block says why it may.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
// The names are those of C, and what a caller must keep to stands once, at the top of the header.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod admin;
mod admin_groups;
mod batch;
mod border;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod consumer;
mod error;
mod group;
mod handles;
mod log;
mod producer;
mod reports;
mod waiting;

use std::ffi::{c_char, c_void};

use border::ffi;
use error::ottla_error;

/// A view of bytes. `data` NULL means null (a record without key, a tombstone), which is not the same as empty: for an
/// empty value, `data` points anywhere and `len` is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_bytes {
    /// The first byte, or NULL for null.
    pub data: *const c_void,
    /// How many bytes.
    pub len: usize,
}

/// A header of a record. The key is UTF-8; NULL is read as an empty key. The value may be null.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_header {
    /// The key. Its bytes are not followed by a NUL.
    pub key: ottla_bytes,
    /// The value.
    pub value: ottla_bytes,
}

/// A partition of a topic.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_topic_partition {
    /// The name of the topic.
    pub topic: *const c_char,
    /// The number of the partition, from 0.
    pub partition: i32,
}

/// The version of the library that is loaded, such as "0.1.0". Static: do not free it. OTTLA_VERSION is the version that
/// the program was compiled against.
#[unsafe(no_mangle)]
pub extern "C" fn ottla_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The partition that a built-in partitioner chooses for a key among `partitions`; the same in every language, and for
/// "default" the same as in the Java client.
///
/// `partitioner`: a name as the producer's key "partitioner" takes it, or NULL for "default". `*partition` is -1 if the key
/// does not decide (a null key).
///
/// Threads: any. Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_partition_for_key(
    partitioner: *const c_char,
    key: ottla_bytes,
    partitions: i32,
    partition: *mut i32,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let name = given.optional_text(partitioner, "partitioner")?.unwrap_or("default");
        let out = given.out(partition, "partition")?;
        let chosen = ottla_bindings_core::partition_for_key(name, given.bytes(key), partitions)?;
        *out = chosen.unwrap_or(-1);
        Ok(())
    })
}

/// Frees a text that a function gave away (its documentation says so). NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: only `border::give_text` makes such pointers, with `CString::into_raw`; the caller frees each once.
        drop(unsafe { std::ffi::CString::from_raw(text) });
    }
}
