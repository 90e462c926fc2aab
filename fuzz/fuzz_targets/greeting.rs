//! A worker's first words.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| concurrent_futures::fuzzing::greeting(bytes));
