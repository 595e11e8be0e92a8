//! Buffers of JavaScript, filled from here. The only file with pointers of its own.
//!
//! In: a length, and a function that fills so many bytes. Out: a `Buffer` in V8's own memory: nothing of ours stays referenced
//! by it, so a process without external buffers (Electron) takes it as well.

use napi::bindgen_prelude::{Env, Unknown};
use napi::{Status, sys};

/// A `Buffer` of `length` bytes that `fill` writes. The bytes are zero before.
pub(crate) fn buffer<'env>(env: &'env Env, length: usize, fill: impl FnOnce(&mut [u8])) -> napi::Result<Unknown<'env>> {
    let mut data = std::ptr::null_mut();
    let mut value = std::ptr::null_mut();
    // SAFETY: `env` is the environment of the call that we are in, and both pointers are places of ours to write to.
    let status = unsafe { sys::napi_create_buffer(env.raw(), length, &raw mut data, &raw mut value) };
    if status != sys::Status::napi_ok {
        return Err(napi::Error::new(
            Status::from(status),
            format!("no memory for {length} bytes of records"),
        ));
    }
    if length > 0 && !data.is_null() {
        // SAFETY: Node-API gave us `length` bytes at `data`, which live as long as `value`, and nobody else has them yet: no
        // JavaScript runs before we return. They are initialised before a slice of them is made.
        let bytes = unsafe {
            std::ptr::write_bytes(data.cast::<u8>(), 0, length);
            std::slice::from_raw_parts_mut(data.cast::<u8>(), length)
        };
        fill(bytes);
    }
    // SAFETY: `value` was made by the call above in this environment and scope.
    Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), value) })
}
