//! Configurations: Kafka's own keys with their values.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use ottla_bindings_core::{Error, Pairs};

use crate::border::ffi;
use crate::error::ottla_error;
use crate::handles::{Sort, Table};

/// A configuration. A handle: NULL, a freed or a wrong one is an error, never a crash.
pub struct ottla_config {
    _opaque: [u8; 0],
}

static CONFIGS: Table<Mutex<Pairs>> = Table::new(Sort::Config, "configuration");

/// The pairs of a configuration.
pub(crate) fn pairs(config: *const ottla_config) -> Result<Pairs, Error> {
    let config = CONFIGS.get(config)?;
    // A list is whole after every step.
    let pairs = config.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(pairs.clone())
}

/// An empty configuration. NULL only if there are millions of them.
///
/// Ownership: the caller frees it with ottla_config_free(), also after a client was made of it: clients copy it.
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn ottla_config_new() -> *mut ottla_config {
    CONFIGS.insert(|_| Ok(Mutex::default())).unwrap_or(std::ptr::null_mut())
}

/// Sets a key, such as "bootstrap.servers" or "linger.ms", to a value, always a string; the last value of a key counts.
/// Keys, values and defaults are those of the Java client. What is wrong with them is said by the function that makes a
/// client; an unknown key is answered there with the nearest known one.
///
/// Ownership: key and value are copied. Threads: any. Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_config_set(
    config: *mut ottla_config,
    key: *const c_char,
    value: *const c_char,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let config = CONFIGS.get(config)?;
        let (key, value) = (given.text(key, "key")?, given.text(value, "value")?);
        let mut pairs = config.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.retain(|(known, _)| known != key);
        pairs.push((key.to_owned(), value.to_owned()));
        Ok(())
    })
}

/// Frees a configuration. NULL is allowed. OTTLA_ERROR_ARGUMENT if it was freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_config_free(config: *mut ottla_config) -> i32 {
    ffi!(std::ptr::null_mut(), |given| {
        match config.is_null() {
            true => Ok(()),
            false => CONFIGS.remove(config).map(|_| ()),
        }
    })
}
