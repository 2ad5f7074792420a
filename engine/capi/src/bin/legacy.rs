//! The 1.x API, as C calls it. (1.11 `bin_interface.{c,h}`)
//!
//! Each function says in its own words what `include/bin_interface.h` says to users. They answer 0 or more for success and never
//! panic into C.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::cursor::{CURSOR, NoPop};
use super::registrations::{Callback, LegacyCall, Registration, register};
use crate::abi::base::Str;
use crate::border::border;

/// Names who takes the packets of `mod_name`, which is copied. 0, or -1 without name or callback.
///
/// Of two with the same name the last one is called. In a module, only until its `mod_init` or `child_init` returns.
///
/// # Safety
/// `mod_name` is null or a terminated string; `cb` may be called until the process ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_register_cb(mod_name: *mut c_char, cb: Option<LegacyCall>) -> c_int {
    border(-1, || {
        let (false, Some(call)) = (mod_name.is_null(), cb) else {
            return -1;
        };
        // SAFETY: not null, so a terminated string by this function's condition.
        let name = unsafe { CStr::from_ptr(mod_name) };
        register(Registration {
            name: name.to_bytes().into(),
            callback: Callback::Legacy(call),
        });
        0
    })
}

/// Takes a string of the packet whose callback runs. 0; -1 where there is none left, or its length lies: then nothing moves and
/// `info` is as it was; -2 outside of callbacks.
///
/// The bytes are good until the callback returns. An empty string has a null pointer.
///
/// # Safety
/// `info` is null or a writable `str`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_pop_str(info: *mut Str) -> c_int {
    border(-1, || {
        if info.is_null() {
            return without_place();
        }
        match CURSOR.with(|cursor| cursor.pop_str()) {
            Ok((at, len)) => {
                // Lengths that fit are not above an int: the wire's are ints.
                let len = c_int::try_from(len).unwrap_or(c_int::MAX);
                let popped = match len {
                    0 => Str::EMPTY,
                    _ => Str {
                        s: at.cast_mut().cast(),
                        len,
                    },
                };
                // SAFETY: a writable `str` by this function's condition.
                unsafe { info.write_unaligned(popped) };
                0
            }
            Err(no) => no.code(),
        }
    })
}

/// Takes an int of the packet whose callback runs; answers as [`bin_pop_str`].
///
/// # Safety
/// `info` is null or four writable bytes, at whatever alignment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bin_pop_int(info: *mut c_void) -> c_int {
    border(-1, || {
        if info.is_null() {
            return without_place();
        }
        match CURSOR.with(|cursor| cursor.pop_int()) {
            Ok(int) => {
                // SAFETY: four writable bytes by this function's condition.
                unsafe { info.cast::<[u8; 4]>().write(int) };
                0
            }
            Err(no) => no.code(),
        }
    })
}

/// Steps over `count` strings, all or none; none for a `count` below 1. Answers as [`bin_pop_str`].
#[unsafe(no_mangle)]
pub extern "C" fn bin_skip_str(count: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    border(-1, || {
        CURSOR
            .with(|cursor| cursor.skip_str(count))
            .map_or_else(NoPop::code, |()| 0)
    })
}

/// Steps over `count` ints, all or none; none for a `count` below 1. Answers as [`bin_pop_str`].
#[unsafe(no_mangle)]
pub extern "C" fn bin_skip_int(count: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    border(-1, || {
        CURSOR
            .with(|cursor| cursor.skip_int(count))
            .map_or_else(NoPop::code, |()| 0)
    })
}

/// A pop that has nowhere to put what it takes takes nothing.
#[cold]
fn without_place() -> c_int {
    CURSOR
        .with(|cursor| cursor.skip_int(0))
        .map_or_else(NoPop::code, |()| -1)
}

impl NoPop {
    /// What C is told. (1.11 `bin_interface.c`)
    #[cold]
    fn code(self) -> c_int {
        match self {
            Self::Misread => -1,
            Self::Outside => -2,
        }
    }
}
