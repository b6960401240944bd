//! A target of the name of this binary, for libFuzzer. All binaries are this one file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| qwire_fuzz::target(env!("CARGO_BIN_NAME"))(bytes));
