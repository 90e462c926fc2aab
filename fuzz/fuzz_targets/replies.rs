//! A worker's answers to tasks.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| concurrent_futures::fuzzing::replies(bytes));
