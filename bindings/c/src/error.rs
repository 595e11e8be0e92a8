//! Errors as C sees them: a number from every function, and an object for whoever wants to know more.
//!
//! In: errors of the core. Out: `OTTLA_ERROR_*`, or the broker's own code; text, kind, and what may have been written.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use ottla_bindings_core::{Error, Kind, Persisted};

use crate::border::c_string;

/// What functions return: OTTLA_OK, one of these numbers, or a broker's own error code (from -1 up, as in Kafka's list
/// of error codes; ours are all below -999). A number never changes its meaning. The kind of an error is always one of these,
/// also if a broker said it: see ottla_error_kind().
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // for C programs
pub enum ottla_error_number {
    /// It went well.
    OTTLA_OK = 0,
    /// A key of the configuration is unknown, has a value that does not fit, or contradicts another.
    OTTLA_ERROR_CONFIG = -1000,
    /// An argument of a call does not fit.
    OTTLA_ERROR_ARGUMENT = -1001,
    /// No connection to a broker could be made.
    OTTLA_ERROR_CONNECT = -1002,
    /// A connection was lost before the answer came.
    OTTLA_ERROR_DISCONNECTED = -1003,
    /// The time for it ran out.
    OTTLA_ERROR_TIMEOUT = -1004,
    /// The other side does not speak Kafka's protocol, or broke it.
    OTTLA_ERROR_PROTOCOL = -1005,
    /// The broker supports no version of the request that this client speaks.
    OTTLA_ERROR_UNSUPPORTED = -1006,
    /// The topic or partition does not exist.
    OTTLA_ERROR_UNKNOWN_TOPIC = -1007,
    /// The principal may not do this.
    OTTLA_ERROR_AUTHORIZATION = -1008,
    /// The broker did not accept who we say we are, or we do not accept who it says it is.
    OTTLA_ERROR_AUTHENTICATION = -1009,
    /// Another instance took this one's place.
    OTTLA_ERROR_FENCED = -1010,
    /// A record or request is larger than it may be.
    OTTLA_ERROR_TOO_LARGE = -1011,
    /// The buffer is full and the call was not to wait.
    OTTLA_ERROR_QUEUE_FULL = -1012,
    /// A position lies outside the log, or there is neither a position nor a policy to find one.
    OTTLA_ERROR_OFFSET = -1013,
    /// Records failed their checksum or cannot be read.
    OTTLA_ERROR_CORRUPT = -1014,
    /// The client was closed, or is closing.
    OTTLA_ERROR_CLOSED = -1015,
    /// The client's threads cannot be started, or a blocking call was made where it must not wait.
    OTTLA_ERROR_RUNTIME = -1016,
    /// Any other error code of a broker.
    OTTLA_ERROR_BROKER = -1017,
    /// The client was made before a fork, in the parent process: make a new one in the child.
    OTTLA_ERROR_FORKED = -1018,
    /// A mistake inside the library, caught at the border. The client may be used on, but please report it.
    OTTLA_ERROR_PANIC = -1019,
    /// The wait was ended from elsewhere.
    OTTLA_ERROR_INTERRUPTED = -1020,
    /// An error of a kind that this version of the binding does not know.
    OTTLA_ERROR_UNKNOWN = -1021,
}

/// Whether a record whose sending failed may be in the log.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ottla_persisted {
    /// It was certainly not written: sending again cannot duplicate it.
    OTTLA_PERSISTED_NO = 0,
    /// Nobody knows: sending again may duplicate it.
    OTTLA_PERSISTED_POSSIBLY = 1,
    /// It was written, although something after that failed.
    OTTLA_PERSISTED_YES = 2,
}

/// It went well.
pub(crate) const OTTLA_OK: i32 = ottla_error_number::OTTLA_OK as i32;

/// An error, with everything that is known of it. A plain pointer: whoever got it frees it once with ottla_error_free(), and
/// it may be read from any thread until then.
#[derive(Debug)]
pub struct ottla_error {
    number: i32,
    kind: Kind,
    name: CString,
    text: CString,
    retriable: bool,
    persisted: Persisted,
    topic: Option<CString>,
    partition: i32,
    offset: i64,
}

/// The number of an error.
pub(crate) fn number(error: &Error) -> i32 {
    match error.number() {
        OTTLA_OK => Kind::Unknown.number(),
        number => number,
    }
}

/// How it stands with a record.
pub(crate) fn persisted(persisted: Persisted) -> ottla_persisted {
    match persisted {
        Persisted::No => ottla_persisted::OTTLA_PERSISTED_NO,
        Persisted::Possibly => ottla_persisted::OTTLA_PERSISTED_POSSIBLY,
        Persisted::Yes => ottla_persisted::OTTLA_PERSISTED_YES,
    }
}

impl From<&Error> for ottla_error {
    fn from(error: &Error) -> Self {
        let kind = error.kind();
        let partition = error.partition();
        ottla_error {
            number: number(error),
            kind,
            name: c_string(error.code_name().unwrap_or(kind.name())),
            text: c_string(&error.to_string()),
            retriable: error.retriable(),
            persisted: error.persisted(),
            topic: partition.map(|partition| c_string(&partition.topic)),
            partition: partition.map_or(-1, |partition| partition.partition),
            offset: error.offset().unwrap_or(-1),
        }
    }
}

impl ottla_error {
    /// Says which partition it is about, if it does not know yet.
    pub(crate) fn is_about(&mut self, topic: &str, partition: i32) {
        if self.topic.is_none() {
            self.topic = Some(c_string(topic));
            self.partition = partition;
        }
    }

    /// The number of the error.
    pub(crate) fn number(&self) -> i32 {
        self.number
    }
}

/// What an error is asked for; NULL is answered with `otherwise`, so that nobody has to check.
fn ask<'a, T>(error: *const ottla_error, otherwise: T, what: impl FnOnce(&'a ottla_error) -> T) -> T {
    // SAFETY: the header's first rule: NULL, or an error that was not freed.
    unsafe { error.as_ref() }.map_or(otherwise, what)
}

/// The number of an error, as the function returned it: the broker's code if a broker said it, one of OTTLA_ERROR_*
/// otherwise. OTTLA_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_code(error: *const ottla_error) -> i32 {
    ask(error, OTTLA_OK, |error| error.number)
}

/// The kind of an error, always one of OTTLA_ERROR_*: what to branch on. OTTLA_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_kind(error: *const ottla_error) -> i32 {
    ask(error, OTTLA_OK, |error| error.kind.number())
}

/// Kafka's name of the broker's code ("NOT_LEADER_OR_FOLLOWER"), or the name of the kind ("queue_full"). Lives as long as the
/// error. "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_name(error: *const ottla_error) -> *const c_char {
    ask(error, c"".as_ptr(), |error| error.name.as_ptr())
}

/// What went wrong, where, and what to do: one line of UTF-8 for a person. Lives as long as the error. "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_text(error: *const ottla_error) -> *const c_char {
    ask(error, c"".as_ptr(), |error| error.text.as_ptr())
}

/// Whether the same call may succeed if it is made again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_retriable(error: *const ottla_error) -> bool {
    ask(error, false, |error| error.retriable)
}

/// Whether the record, or what a request asked for, may have been written all the same. OTTLA_PERSISTED_NO for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_persisted(error: *const ottla_error) -> ottla_persisted {
    ask(error, ottla_persisted::OTTLA_PERSISTED_NO, |error| {
        persisted(error.persisted)
    })
}

/// The topic that it is about, or NULL. Lives as long as the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_topic(error: *const ottla_error) -> *const c_char {
    ask(error, ptr::null(), |error| {
        error.topic.as_deref().map_or(ptr::null(), CStr::as_ptr)
    })
}

/// The partition that it is about, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_partition(error: *const ottla_error) -> i32 {
    ask(error, -1, |error| error.partition)
}

/// The offset that it is about, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_offset(error: *const ottla_error) -> i64 {
    ask(error, -1, |error| error.offset)
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_error_free(error: *mut ottla_error) {
    if !error.is_null() {
        // SAFETY: `border::fail` made it with `Box::into_raw`, and the caller frees it once. (Errors inside of reports are
        // const, and say that they are not the caller's.)
        drop(unsafe { Box::from_raw(error) });
    }
}

/// The name of a kind (one of OTTLA_ERROR_*): "queue_full". Static: do not free it. NULL for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn ottla_kind_name(kind: i32) -> *const c_char {
    const NAMES: &[(i32, &CStr)] = &[
        (-1000, c"config"),
        (-1001, c"argument"),
        (-1002, c"connect"),
        (-1003, c"disconnected"),
        (-1004, c"timeout"),
        (-1005, c"protocol"),
        (-1006, c"unsupported"),
        (-1007, c"unknown_topic"),
        (-1008, c"authorization"),
        (-1009, c"authentication"),
        (-1010, c"fenced"),
        (-1011, c"too_large"),
        (-1012, c"queue_full"),
        (-1013, c"offset"),
        (-1014, c"corrupt"),
        (-1015, c"closed"),
        (-1016, c"runtime"),
        (-1017, c"broker"),
        (-1018, c"forked"),
        (-1019, c"panic"),
        (-1020, c"interrupted"),
        (-1021, c"unknown"),
    ];
    let named = NAMES.iter().find(|(number, _)| *number == kind);
    named.map_or(ptr::null(), |(_, name)| name.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_and_names_of_the_header_are_those_of_the_core() {
        let source = include_str!("error.rs");
        for kind in Kind::ALL {
            let line = format!(
                "    /// {}\n    OTTLA_ERROR_{} = {},\n",
                kind.doc(),
                kind.name().to_uppercase(),
                kind.number()
            );
            assert!(source.contains(&line), "is missing or differs: {line}");
            // SAFETY: it is not NULL, as the comparison shows, and static.
            let name = unsafe { CStr::from_ptr(ottla_kind_name(kind.number())) };
            assert_eq!(name.to_str(), Ok(kind.name()));
        }
        let listed = source
            .lines()
            .filter(|line| line.starts_with("    OTTLA_ERROR_"))
            .count();
        assert_eq!(listed, Kind::ALL.len());
    }
}
