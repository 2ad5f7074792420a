//! What a module exports. (OpenSIPS 1.11 `sr_module.h`, `statistics.h`, `mi/mi.h`, `pvar.h`, `route.h`)
//!
//! Every table ends with an entry whose name is NULL, and every table may be NULL.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::base::Str;

/// Parameters of an event.
mod event;
/// The SIP message that script functions take.
mod message;
/// Commands and their answers.
mod mi;
/// Statistics.
mod statistics;

pub use event::{EVI_FREE_LIST, EVI_INT_VAL, EVI_STR_VAL, EviParam, EviParams, EviValue};
pub use message::{MsgStart, SipMsg, SipUri};
pub use mi::{MI_ASYNC_RPL_FLAG, MI_DUP_NAME, MI_DUP_VALUE, MI_NO_INPUT_FLAG};
pub use mi::{MiAttr, MiCommand, MiExport, MiHandler, MiNode, MiRoot};
pub use statistics::{STAT_IS_FUNC, STAT_NO_RESET, StatExport, StatFunction, StatSource, StatVar};

/// A function of the routing script: the message and up to six parameters. `> 0` is true, `< 0` false, 0 ends the script.
pub type CmdFunction = unsafe extern "C" fn(
    *mut SipMsg,
    *mut c_char,
    *mut c_char,
    *mut c_char,
    *mut c_char,
    *mut c_char,
    *mut c_char,
) -> c_int;

/// Prepares, or lets go of, one parameter of a script function: where it is, and its number from 1. Once with NULL and 0
/// for a function without parameters.
pub type FixupFunction = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;

/// `init_f`: not 0 fails the start.
pub type InitFunction = unsafe extern "C" fn() -> c_int;

/// `init_child_f`, with the rank of the process: `< 0` fails the start.
pub type ChildInitFunction = unsafe extern "C" fn(c_int) -> c_int;

/// `response_f`, which is never called: there are no SIP replies.
pub type ResponseFunction = unsafe extern "C" fn(*mut SipMsg) -> c_int;

/// `destroy_f`.
pub type DestroyFunction = unsafe extern "C" fn();

/// What `USE_FUNC_PARAM` points at: the type, and the text or the number as a pointer; `< 0` is a failure.
pub type ParamFunction = unsafe extern "C" fn(c_uint, *mut c_void) -> c_int;

/// `struct module_exports`: the symbol `exports` of a module.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ModuleExports {
    /// Name of the module, as `modparam` has it.
    pub name: *const c_char,
    /// For which server it was compiled ([`version`]).
    pub version: *const c_char,
    /// With which flags ([`COMPILE_FLAGS`]).
    pub compile_flags: *const c_char,
    /// Flags of dlopen(3); 0: `RTLD_NOW`.
    pub dlflags: c_uint,
    /// Functions of the routing script.
    pub cmds: *const CmdExport,
    /// Parameters that `modparam` sets.
    pub params: *const ParamExport,
    /// Statistics.
    pub stats: *const StatExport,
    /// Commands.
    pub mi_cmds: *const MiExport,
    /// Pseudo-variables.
    pub items: *const PvExport,
    /// Processes of its own.
    pub procs: *const ProcExport,
    /// Called once, after all parameters are set.
    pub init_f: Option<InitFunction>,
    /// Never called.
    pub response_f: Option<ResponseFunction>,
    /// Called at the end.
    pub destroy_f: Option<DestroyFunction>,
    /// Called once by each thread that runs code of the module.
    pub init_child_f: Option<ChildInitFunction>,
}

/// `cmd_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CmdExport {
    /// Name in the script; several entries may share it.
    pub name: *const c_char,
    /// The function.
    pub function: Option<CmdFunction>,
    /// How many parameters it takes.
    pub param_no: c_int,
    /// Called for each parameter when the script is read.
    pub fixup: Option<FixupFunction>,
    /// Called for each parameter when the script is let go of.
    pub free_fixup: Option<FixupFunction>,
    /// Routes that may call it ([`REQUEST_ROUTE`] and the like, or-ed).
    pub flags: c_int,
}

/// `param_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ParamExport {
    /// Name in `modparam`; several entries of different types may share it.
    pub name: *const c_char,
    /// [`STR_PARAM`] or [`INT_PARAM`], perhaps with [`USE_FUNC_PARAM`].
    pub type_: c_uint,
    /// A `char *`, an `int`, or a [`ParamFunction`].
    pub param_pointer: *mut c_void,
}

/// `proc_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ProcExport {
    /// Name of the process.
    pub name: *const c_char,
    /// Called before it is forked.
    pub pre_fork_function: Option<InitFunction>,
    /// Called after it is forked.
    pub post_fork_function: Option<InitFunction>,
    /// What it runs.
    pub function: Option<unsafe extern "C" fn(c_int)>,
    /// How many.
    pub no: c_uint,
    /// 1: `init_child_f` is called in it.
    pub flags: c_uint,
}

/// `pv_export_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PvExport {
    /// Name of the class, without `$`.
    pub name: Str,
    /// `pv_type_t`.
    pub type_: c_uint,
    /// Reads the value, sets it, parses its name and its index, and prepares it: none of them is ever called.
    pub functions: [*const c_void; 5],
    /// For the last of them.
    pub iparam: c_int,
}

/// A parameter that is a text.
pub const STR_PARAM: c_uint = 1;
/// A parameter that is a number.
pub const INT_PARAM: c_uint = 2;
/// The parameter is set by a function.
pub const USE_FUNC_PARAM: c_uint = 1 << 31;

/// `request_route`, and each of the others that script functions may be called from.
pub const REQUEST_ROUTE: c_int = 1;
/// `failure_route`.
pub const FAILURE_ROUTE: c_int = 2;
/// `onreply_route`.
pub const ONREPLY_ROUTE: c_int = 4;
/// `branch_route`.
pub const BRANCH_ROUTE: c_int = 8;
/// `error_route`.
pub const ERROR_ROUTE: c_int = 16;
/// `local_route`.
pub const LOCAL_ROUTE: c_int = 32;
/// `startup_route`.
pub const STARTUP_ROUTE: c_int = 64;
/// `timer_route`.
pub const TIMER_ROUTE: c_int = 128;
/// `event_route`.
pub const EVENT_ROUTE: c_int = 256;

/// Rank of a thread that receives BIN packets, for `init_child_f`.
pub const PROC_BIN: c_int = -8;

/// What `MODULE_VERSION` of our headers says first: name, version, processor and system.
pub fn version() -> String {
    use std::env::consts::{ARCH, OS};
    format!("binrush {} ({ARCH}/{OS})", env!("CARGO_PKG_VERSION"))
}

/// What `MODULE_VERSION` of our headers says second: what the layouts of the headers depend on.
pub const COMPILE_FLAGS: &str = "STATS: On, USE_IPV6, USE_TCP, USE_PTHREAD_MUTEX, LP64";

const _: () = {
    assert!(size_of::<ModuleExports>() == 112);
    assert!(size_of::<CmdExport>() == 48);
    assert!(size_of::<ParamExport>() == 24);
    assert!(size_of::<ProcExport>() == 40);
    assert!(size_of::<PvExport>() == 72);
    assert!(std::mem::offset_of!(ModuleExports, dlflags) == 24);
    assert!(std::mem::offset_of!(ModuleExports, cmds) == 32);
    assert!(std::mem::offset_of!(ModuleExports, procs) == 72);
    assert!(std::mem::offset_of!(ModuleExports, init_child_f) == 104);
    assert!(std::mem::offset_of!(CmdExport, fixup) == 24);
    assert!(std::mem::offset_of!(CmdExport, flags) == 40);
    assert!(std::mem::offset_of!(ParamExport, param_pointer) == 16);
    assert!(std::mem::offset_of!(ProcExport, flags) == 36);
    assert!(std::mem::offset_of!(PvExport, iparam) == 64);
};
