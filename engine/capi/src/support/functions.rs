//! Functions and parameters that modules find in each other: how one module gets at the functions of another.
//! (OpenSIPS 1.11 `sr_module.c`: `find_export` and its like)

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ended;
use super::log::{Level, say};
use crate::abi::module::{CmdExport, CmdFunction};
use crate::border::border;
use crate::loader::Exports;
use crate::loader::gate::{self, Gate};
use crate::running;

/// One module's.
struct Known {
    module: &'static str,
    functions: Vec<(String, usize, c_int, crate::loader::Address, CmdFunction)>,
    parameters: Vec<(String, c_uint, crate::loader::Address)>,
}

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// Makes the functions and parameters of a module known to the others.
pub(crate) fn add(module: &'static str, exports: &Exports) {
    let functions = exports.functions.iter();
    let parameters = exports.parameters.iter();
    known().push(Known {
        module,
        functions: functions
            .map(|f| (f.name.clone(), f.parameters, f.routes, f.entry, f.code))
            .collect(),
        parameters: parameters
            .map(|p| (p.name.clone(), p.type_, p.pointer))
            .collect(),
    });
}

/// Forgets those of a module that is over.
pub(crate) fn remove(module: &'static str) {
    known().retain(|known| !ptr::eq(known.module, module));
}

fn known() -> MutexGuard<'static, Vec<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The function `name` with `param_no` parameters that may be called from all routes of `flags`, of the module that was loaded last
/// of those that have one: NULL when there is none; and, which the log tells, where a reentrant module asks and the function is of one
/// that is not: its callbacks would call it on all threads. So it is from the first constructor on, which runs before anybody knows
/// the module's name, and on threads that a module started.
///
/// # Safety
/// `name` is NULL or ends with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn find_export(
    name: *const c_char,
    param_no: c_int,
    flags: c_int,
) -> Option<CmdFunction> {
    // SAFETY: what this function asks for.
    let found = border(None, || unsafe { find(None, name, param_no, flags) });
    found.map(|(_, code)| code)
}

/// As [`find_export`], of the module `module` alone.
///
/// # Safety
/// `module` and `name` are NULL or end with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn find_mod_export(
    module: *const c_char,
    name: *const c_char,
    param_no: c_int,
    flags: c_int,
) -> Option<CmdFunction> {
    // SAFETY: what this function asks for.
    border(None, || unsafe {
        let module = ended(module)?.to_bytes();
        find(Some(module), name, param_no, flags).map(|found| found.1)
    })
}

/// As [`find_export`], but its whole entry.
///
/// # Safety
/// `name` is NULL or ends with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn find_cmd_export_t(
    name: *const c_char,
    param_no: c_int,
    flags: c_int,
) -> *mut CmdExport {
    // SAFETY: what this function asks for.
    let found = border(None, || unsafe { find(None, name, param_no, flags) });
    found.map_or(ptr::null_mut(), |(entry, _)| entry.0.cast())
}

/// Where the parameter `name` of `type_` of the module `module` is: NULL when there is none.
///
/// # Safety
/// `module` and `name` are NULL or end with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn find_param_export(
    module: *const c_char,
    name: *const c_char,
    type_: c_uint,
) -> *mut c_void {
    border(ptr::null_mut(), || {
        // SAFETY: what this function asks for.
        let (Some(module), Some(name)) = (unsafe { (ended(module), ended(name)) }) else {
            return ptr::null_mut();
        };
        let known = known();
        let of_module = known
            .iter()
            .filter(|known| known.module.as_bytes() == module.to_bytes());
        let mut parameters = of_module.flat_map(|known| &known.parameters);
        let found = parameters.find(|(n, t, _)| n.as_bytes() == name.to_bytes() && *t == type_);
        found.map_or(ptr::null_mut(), |(_, _, pointer)| pointer.0)
    })
}

/// 1 when a module of that name is loaded, otherwise 0.
///
/// # Safety
/// `name` is NULL or ends with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn module_loaded(name: *const c_char) -> c_int {
    border(0, || {
        // SAFETY: what this function asks for.
        let name = unsafe { ended(name) };
        let is = |known: &Known, name: &CStr| known.module.as_bytes() == name.to_bytes();
        let loaded = |name: &CStr| known().iter().any(|known| is(known, name));
        c_int::from(name.is_some_and(loaded))
    })
}

/// # Safety
/// `name` is NULL or ends with 0.
unsafe fn find(
    module: Option<&[u8]>,
    name: *const c_char,
    param_no: c_int,
    flags: c_int,
) -> Option<(crate::loader::Address, CmdFunction)> {
    // SAFETY: what this function asks for.
    let name = unsafe { ended(name) }?.to_bytes();
    let param_no = usize::try_from(param_no).ok()?;
    let (owner, entry, code) = {
        let known = known();
        // (1.11 `sr_module.c`, `register_module`, `find_cmd_export_t`: the list grows at its head)
        let of_module = known
            .iter()
            .rev()
            .filter(|known| module.is_none_or(|module| known.module.as_bytes() == module));
        let mut functions =
            of_module.flat_map(|known| known.functions.iter().map(|each| (known.module, each)));
        let (owner, found) = functions.find(|(_, (n, count, routes, _, _))| {
            n.as_bytes() == name && *count == param_no && routes & flags == flags
        })?;
        (owner, found.3, found.4)
    };
    let is_reentrant = |module: &&'static str| gate::of(module).is_some_and(Gate::is_reentrant);
    let asking = running::current_or_caller();
    if let Some(asking) = asking.filter(is_reentrant)
        && !is_reentrant(&owner)
    {
        let name = name.escape_ascii();
        // What has no name yet is called by its file.
        let is = match asking.contains('/') {
            true => "may be: mod_init can ask",
            false => "is",
        };
        let what = format!(
            "function \"{name}\" is not given: module {owner} is not reentrant, and who asks {is}"
        );
        say(Level::Error, &what);
        return None;
    }
    Some((entry, code))
}
