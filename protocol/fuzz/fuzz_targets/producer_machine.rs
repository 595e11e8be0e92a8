//! libFuzzer around `ottla_tests::fuzzed::producer_machine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ottla_tests::fuzzed::producer_machine::run(bytes));
