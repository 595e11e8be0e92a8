//! libFuzzer around `ottla_tests::fuzzed::client_responses`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ottla_tests::fuzzed::client_responses::run(bytes));
