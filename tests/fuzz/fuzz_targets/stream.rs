//! A TCP stream, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| binrush_tests::fuzz::stream(data));
