//! The native half of the Python package `ottla`: a thin skin over what all bindings share.
//!
//! In: calls of the package's Python half, with the interpreter's lock held. Out: Python objects. What a record costs is
//! here; what happens once a client is in Python. Nothing here has a public name: the package `ottla` is the public half.
//!
//! | room | does |
//! |---|---|
//! | `errors` | one exception class for each kind |
//! | `input` | Python values as borrowed bytes and records |
//! | `operation` | calls that wait: blocking with room for Ctrl-C, or as futures of an event loop |
//! | `receipts`, `producer` | sending from threads |
//! | `bridge`, `async_producer` | one event loop: its wake-up, its futures; sending from it |
//! | `consumer`, `batch`, `arrow` | receiving |
//! | `group` | what a consumer does in a group |
//! | `admin`, `cluster` | topics and groups; the embedded broker |
//! | `process` | log, exit, the command |
//!
//! The lock of the interpreter is never taken by a thread of the runtime, and never released for a record: only by calls that wait.

mod admin;
mod arrow;
mod async_producer;
mod batch;
mod bridge;
mod cluster;
mod consumer;
mod errors;
mod group;
mod input;
mod operation;
mod process;
mod producer;
mod receipts;

use pyo3::prelude::*;

/// The native half of the package.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::admin::Admin;
    #[pymodule_export]
    use super::async_producer::AsyncProducer;
    #[pymodule_export]
    use super::batch::{Batch, BatchIterator, ConsumerRecord, ValueView};
    #[pymodule_export]
    use super::bridge::Bridge;
    #[pymodule_export]
    use super::cluster::Cluster;
    #[pymodule_export]
    use super::consumer::{Consumer, Ready};
    #[pymodule_export]
    use super::group::{
        group_acknowledge, group_commit, group_commit_batch, group_commit_in_background, group_commit_offsets,
        group_commit_record, group_committed, group_enforce_rebalance, group_extend_poll, group_finish,
        group_group_metadata, group_health, group_in_group, group_progress, group_store_batch, group_store_offsets,
        group_store_record, group_subscribe, group_subscribe_pattern, group_subscription, group_unsubscribe,
    };
    #[pymodule_export]
    use super::operation::Operation;
    #[pymodule_export]
    use super::process::{Bell, error_kinds, log_level, log_start, log_take, partition_for_key, run, settle_all};
    #[pymodule_export]
    use super::producer::Producer;
    #[pymodule_export]
    use super::receipts::{ManyReceipt, Receipt, RecordMetadata};

    /// The version of the library.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = ottla_bindings_core::VERSION;
}
