//! What the fuzzer runs, as plain functions of bytes: each takes any bytes and must neither panic nor ask for memory that
//! they do not pay for. `protocol/fuzz` puts libFuzzer around them; `tests/fuzz_smoke.rs` runs them for a few seconds.

// What breaks an invariant must stop the fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod broker_requests;
pub mod client_responses;
pub mod frames;
pub mod messages;
pub mod producer_machine;
pub mod properties;
pub mod records;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("broker_requests", broker_requests::run),
    ("client_responses", client_responses::run),
    ("frames", frames::run),
    ("messages", messages::run),
    ("producer_machine", producer_machine::run),
    ("properties", properties::run),
    ("records", records::run),
];

/// The next byte, 0 when there is none.
fn byte(bytes: &mut &[u8]) -> u8 {
    let Some((first, rest)) = bytes.split_first() else {
        return 0;
    };
    *bytes = rest;
    *first
}

/// The next bytes behind a length of two.
fn sized<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::from(u16::from_le_bytes([byte(bytes), byte(bytes)]));
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}
