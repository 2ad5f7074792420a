//! Statistics. (OpenSIPS 1.11 `statistics.h`, `atomic.h`)

use std::ffi::{c_char, c_uint, c_ulong, c_ushort, c_void};
use std::fmt;

use crate::abi::base::Str;

/// Tells the value of a statistic that is counted elsewhere, by what it was registered with.
pub type StatFunction = unsafe extern "C" fn(*mut c_void) -> c_ulong;

/// `stat_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct StatExport {
    /// Name of the statistic.
    pub name: *const c_char,
    /// [`STAT_NO_RESET`], [`STAT_IS_FUNC`] and others.
    pub flags: c_ushort,
    /// Where the address of the statistic is written; with [`STAT_IS_FUNC`] a [`StatFunction`].
    pub stat_pointer: *mut *mut StatVar,
}

/// `stat_var`.
#[repr(C)]
pub struct StatVar {
    /// Number of the module.
    pub mod_idx: c_uint,
    /// Its name.
    pub name: Str,
    /// As in [`StatExport`].
    pub flags: c_ushort,
    /// Given to the function.
    pub context: *mut c_void,
    /// Where the value is.
    pub u: StatSource,
    /// `hnext`, `lnext`: not used here.
    pub links: [*mut Self; 2],
}

/// Where the value of a statistic is.
#[repr(C)]
#[derive(Clone, Copy)]
pub union StatSource {
    /// Counted by atomic additions of C.
    pub val: *mut c_ulong,
    /// With [`STAT_IS_FUNC`].
    pub f: Option<StatFunction>,
}

impl fmt::Debug for StatVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatVar")
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StatSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatSource")
    }
}

/// Goes up and down, and is never reset: a gauge.
pub const STAT_NO_RESET: c_ushort = 1;
/// Told by a function.
pub const STAT_IS_FUNC: c_ushort = 8;

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<StatExport>() == 24);
    assert!(size_of::<StatVar>() == 64);
    assert!(offset_of!(StatExport, stat_pointer) == 16);
    assert!(offset_of!(StatVar, name) == 8);
    assert!(offset_of!(StatVar, context) == 32);
    assert!(offset_of!(StatVar, u) == 40);
    assert!(offset_of!(StatVar, links) == 48);
};
