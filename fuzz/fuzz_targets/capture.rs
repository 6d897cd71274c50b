#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passbridge_fuzz::capture_file(data));
