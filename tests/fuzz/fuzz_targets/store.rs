//! A store of records beside its model.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| binrush_tests::fuzz::store(data));
