//! Time since the start. (OpenSIPS 1.11 `timer.h`: `get_ticks`, `get_uticks`)

use std::ffi::{c_uint, c_ulonglong};
use std::sync::LazyLock;
use std::time::Instant;

use crate::border::border;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Seconds since the first call of this function or of [`get_uticks`]. Safe from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn get_ticks() -> c_uint {
    border(0, || {
        c_uint::try_from(START.elapsed().as_secs()).unwrap_or(c_uint::MAX)
    })
}

/// Microseconds since the first call of this function or of [`get_ticks`]. Safe from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn get_uticks() -> c_ulonglong {
    border(0, || {
        c_ulonglong::try_from(START.elapsed().as_micros()).unwrap_or(c_ulonglong::MAX)
    })
}
