//! The lines of the client's log.
//!
//! There is one log for the process. The thread that asked for it last gets the lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use napi_derive::napi;
use ottla_bindings_core::log::{self, Level};
use ottla_bindings_core::waker;
use serde_json::json;

use crate::border::Wake;

static LISTENER: Mutex<Option<Arc<Wake>>> = Mutex::new(None);

/// Has `wake` called when there are lines of this level (0: none, 1: errors, ... 5: everything) and graver.
#[napi]
pub fn start_log(level: u8, wake: Wake) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(wake));
    // Only the first waker counts, and its thread may have ended: the listener is looked up each time.
    log::start(
        Level::from_number(level),
        waker(|| {
            let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(wake) = listener {
                wake.call(0, napi::threadsafe_function::ThreadsafeFunctionCallMode::NonBlocking);
            }
        }),
    );
}

/// Ends it.
#[napi]
pub fn stop_log() {
    log::set_level(Level::Off);
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The lines that have gathered, as JSON; and how many were dropped so far.
#[napi]
pub fn take_log() -> String {
    let lines: Vec<_> = log::take()
        .into_iter()
        .map(|line| {
            let time = line.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            json!({ "level": line.level as u8, "target": line.target, "message": line.text, "time": time })
        })
        .collect();
    json!({ "lines": lines, "dropped": log::dropped() }).to_string()
}
