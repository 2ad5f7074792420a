//! A script, and what it does to a packet.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| binrush_tests::fuzz::script(data));
