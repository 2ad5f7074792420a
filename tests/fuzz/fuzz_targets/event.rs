//! A datagram of an event.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| binrush_tests::fuzz::event(data));
