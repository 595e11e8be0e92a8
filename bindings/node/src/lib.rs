//! The native half of the npm package `ottla`: a thin skin over `ottla-bindings-core`.
//!
//! In: records packed into a slab, options as text. Out: reports and records packed into buffers, answers as JSON, and one
//! coalesced wake-up for each client. The other half is `lib/`, in JavaScript: it makes promises, messages and error classes
//! of this, and is what users see. Nothing here waits, and nothing here is called for a single record.
//!
//! | room | does |
//! |---|---|
//! | `border` | errors as text, answers by mail, wake-ups |
//! | `slab` | what JavaScript packed, record by record |
//! | `memory` | buffers of JavaScript, filled from here; the only place with pointers |
//! | `producer`, `consumer`, `admin` | the clients |
//! | `cluster` | the embedded broker, for `ottla/testing` |
//! | `log` | the lines of the client's log |

// The macros of napi-derive expand to `unsafe` at the place where they stand. What this crate itself needs is in `memory`.
#![allow(unsafe_code, reason = "the expansion of #[napi]")]

mod admin;
mod border;
mod cluster;
mod consumer;
mod group;
pub mod log;
mod memory;
mod producer;
mod slab;

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use ottla_bindings_core::{Kind, guard};
use serde_json::json;

use crate::border::thrown;

/// The version of the library.
#[napi]
pub fn version() -> &'static str {
    ottla_bindings_core::VERSION
}

/// Every kind of error with its number and meaning, as JSON.
#[napi]
pub fn kinds() -> String {
    let kinds: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| json!({ "name": kind.name(), "number": kind.number(), "doc": kind.doc() }))
        .collect();
    json!(kinds).to_string()
}

/// The partition of a key; -1 if the key does not decide.
#[napi]
pub fn partition_for_key(partitioner: String, key: Option<&[u8]>, partitions: i32) -> Result<i32> {
    guard(|| ottla_bindings_core::partition_for_key(&partitioner, key, partitions))
        .map(|partition| partition.unwrap_or(-1))
        .map_err(thrown)
}
