//! Parameters of an event. (OpenSIPS 1.11 `evi/evi_params.h`)

use std::ffi::c_int;
use std::fmt;

use crate::abi::base::Str;

/// `evi_params_t`: a list.
#[repr(C)]
#[derive(Debug)]
pub struct EviParams {
    /// [`EVI_FREE_LIST`].
    pub flags: c_int,
    /// The first parameter.
    pub first: *mut EviParam,
    /// The last one.
    pub last: *mut EviParam,
}

/// `evi_param_t`.
#[repr(C)]
#[derive(Debug)]
pub struct EviParam {
    /// [`EVI_INT_VAL`] or [`EVI_STR_VAL`].
    pub flags: c_int,
    /// The value.
    pub val: EviValue,
    /// May be empty.
    pub name: Str,
    /// The next one.
    pub next: *mut Self,
}

/// The value of a parameter, by its flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub union EviValue {
    /// With [`EVI_INT_VAL`].
    pub n: c_int,
    /// With [`EVI_STR_VAL`]; not copied.
    pub s: Str,
}

impl fmt::Debug for EviValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EviValue")
    }
}

/// The value is a number.
pub const EVI_INT_VAL: c_int = 1;
/// The value is a text.
pub const EVI_STR_VAL: c_int = 2;
/// The list is freed once its event is raised.
pub const EVI_FREE_LIST: c_int = 1 << 31;

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<EviParams>() == 24);
    assert!(size_of::<EviParam>() == 48);
    assert!(offset_of!(EviParam, val) == 8);
    assert!(offset_of!(EviParam, name) == 24);
    assert!(offset_of!(EviParam, next) == 40);
};
