//! libFuzzer around `ottla_tests::fuzzed::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ottla_tests::fuzzed::frames::run(bytes));
