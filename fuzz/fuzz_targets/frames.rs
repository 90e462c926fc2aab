//! What decodes encodes to what it came from.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| concurrent_futures::fuzzing::frames(bytes));
