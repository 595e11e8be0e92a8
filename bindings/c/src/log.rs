//! The library's log, taken by a thread of the program.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use ottla_bindings_core::log::{Level, Line};
use ottla_bindings_core::{Bell, Error, ProcessBell, log, waker};

use crate::border::{c_string, ffi};
use crate::error::ottla_error;

/// How grave a line of the log is, and from which gravity on lines are wanted.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // for C programs
pub enum ottla_log_level {
    /// Nothing is logged: how it is until ottla_log_start().
    OTTLA_LOG_OFF = 0,
    /// Something failed.
    OTTLA_LOG_ERROR = 1,
    /// Something is odd, and goes on.
    OTTLA_LOG_WARN = 2,
    /// Rare events of normal life.
    OTTLA_LOG_INFO = 3,
    /// Requests and batches.
    OTTLA_LOG_DEBUG = 4,
    /// Everything.
    OTTLA_LOG_TRACE = 5,
}

/// A line of the log, valid until the function it is told to returns.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_log_line {
    /// sizeof(ottla_log_line) in the library, which may be more than in the program.
    pub struct_size: usize,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// Which part of the library speaks, such as "ottla::producer".
    pub target: *const c_char,
    /// What it says.
    pub text: *const c_char,
    /// How grave it is: one of ottla_log_level.
    pub level: i32,
}

/// A function of the program that is told lines of the log.
pub type ottla_log_callback = Option<unsafe extern "C" fn(line: *const ottla_log_line, user_data: *mut c_void)>;

static BELL: ProcessBell = ProcessBell::new();
static STARTED: AtomicBool = AtomicBool::new(false);

fn ring() {
    BELL.ring();
}

/// Begins to gather lines of `level` (one of ottla_log_level) and graver, of all clients of the process; later calls change the
/// level. At most 1,000 lines wait for ottla_log_poll(); what does not fit is dropped.
///
/// Threads: any. Errors: OTTLA_ERROR_ARGUMENT; OTTLA_ERROR_RUNTIME without a file descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_log_start(level: i32, error: *mut *mut ottla_error) -> i32 {
    ffi!(error, |given| {
        let number = u8::try_from(level).ok().filter(|level| *level <= Level::Trace as u8);
        let level = number.ok_or_else(|| Error::argument(format!("{level} is none of ottla_log_level")))?;
        BELL.get()?;
        log::start(Level::from_number(level), waker(ring as fn()));
        STARTED.store(true, Ordering::Release);
        Ok(())
    })
}

/// A file descriptor that is readable while there are lines to poll; -1 before ottla_log_start(). Do not read or close it.
#[unsafe(no_mangle)]
pub extern "C" fn ottla_log_fd() -> c_int {
    match STARTED.load(Ordering::Acquire) {
        true => BELL.get().map_or(-1, Bell::fd),
        false => -1,
    }
}

/// Tells the lines that have gathered to `callback`, in this thread, and returns how many. Never waits. A NULL callback drops
/// them.
///
/// Threads: any; the callback is never called by a thread of the library. It must not leave by longjmp or a C++ exception.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_log_poll(callback: ottla_log_callback, user_data: *mut c_void) -> usize {
    if let Ok(bell) = BELL.get() {
        bell.silence();
    }
    let lines = log::take();
    for line in &lines {
        tell(line, callback, user_data);
    }
    lines.len()
}

fn tell(line: &Line, callback: ottla_log_callback, user_data: *mut c_void) {
    let Some(call) = callback else { return };
    let since = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (target, text) = (c_string(line.target), c_string(&line.text));
    let line = ottla_log_line {
        struct_size: size_of::<ottla_log_line>(),
        time_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        target: target.as_ptr(),
        text: text.as_ptr(),
        level: line.level as i32,
    };
    // SAFETY: the program gave the function and its argument for this; what the line points to lives until it returns.
    unsafe { call(&raw const line, user_data) };
}
