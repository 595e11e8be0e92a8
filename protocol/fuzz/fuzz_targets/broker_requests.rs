//! libFuzzer around `ottla_tests::fuzzed::broker_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ottla_tests::fuzzed::broker_requests::run(bytes));
