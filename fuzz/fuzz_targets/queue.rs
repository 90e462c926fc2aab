//! Shared memory while tasks are under way, and frames out of turn.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| concurrent_futures::fuzzing::queue(bytes));
