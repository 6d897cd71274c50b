#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passbridge_fuzz::protocol(passbridge_fuzz::chosen(), data));
