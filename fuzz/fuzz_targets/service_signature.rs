#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oi_fuzz::rest::service_signature(bytes));
