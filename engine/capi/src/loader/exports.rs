//! The tables of a module, checked and read.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::library::Library;
use super::parameter::Parameter;
use super::{LoadError, ModuleId};
use crate::abi::base::Str;
use crate::abi::module as abi;
use crate::support::ended;
use crate::support::mi::Command;
use crate::support::statistics::Wanted;

/// What a module exports.
#[derive(Debug)]
pub(crate) struct Exports {
    pub(crate) name: String,
    pub(crate) functions: Vec<ExportedFunction>,
    pub(crate) parameters: Vec<Parameter>,
    pub(super) statistics: Vec<Wanted>,
    pub(super) commands: Vec<Command>,
    /// Names of pseudo-variables.
    pub(super) variables: Vec<String>,
    pub(super) init: Option<abi::InitFunction>,
    pub(super) child_init: Option<abi::ChildInitFunction>,
    pub(super) destroy: Option<abi::DestroyFunction>,
}

/// A script function with its code.
#[derive(Debug)]
pub(crate) struct ExportedFunction {
    pub(crate) name: String,
    pub(crate) parameters: usize,
    pub(crate) routes: c_int,
    /// The table's own entry, for modules that ask for it.
    pub(crate) entry: Address,
    pub(crate) code: abi::CmdFunction,
    pub(crate) fixup: Option<abi::FixupFunction>,
    pub(crate) free_fixup: Option<abi::FixupFunction>,
}

/// A script function as whoever reads scripts sees it. Calls are matched by name, number of parameters and route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// By which it is called.
    pub id: FunctionId,
    /// The module's name.
    pub module: &'static str,
    /// Name in the script.
    pub name: String,
    /// How many parameters it takes, 0 to 6.
    pub parameters: usize,
    /// Routes that may call it: [`abi::REQUEST_ROUTE`] and the like, or-ed.
    pub routes: c_int,
    /// Whether its parameters are prepared when the script is read.
    pub has_fixup: bool,
}

/// A function of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FunctionId {
    pub(super) module: ModuleId,
    pub(super) index: usize,
}

/// An address in a module's memory, which stays there until the process ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub(crate) *mut c_void);

// SAFETY: an address is a number; those who follow it say why they may.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

/// Reads all tables of `library`.
pub(super) fn read(library: &Library) -> Result<Exports, LoadError> {
    let raw = library.exports();
    let broken = |what: String| LoadError::Exports {
        file: library.file().to_owned(),
        what,
    };
    let name = name(raw.name).map_err(|what| broken(format!("the module's name {what}")))?;
    let procs = table(raw.procs, |entry| entry.name, "procs").map_err(broken)?;
    if !procs.is_empty() {
        return Err(LoadError::Processes {
            module: name,
            file: library.file().to_owned(),
            procs: procs.into_iter().map(|(name, _)| name).collect(),
        });
    }
    Ok(Exports {
        functions: functions(raw.cmds).map_err(broken)?,
        parameters: parameters(raw.params).map_err(broken)?,
        statistics: statistics(raw.stats).map_err(broken)?,
        commands: commands(raw.mi_cmds).map_err(broken)?,
        variables: variables(raw.items).map_err(broken)?,
        init: raw.init_f,
        child_init: raw.init_child_f,
        destroy: raw.destroy_f,
        name,
    })
}

fn functions(table_: *const abi::CmdExport) -> Result<Vec<ExportedFunction>, String> {
    let entries = table(table_, |entry| entry.name, "cmds")?;
    let functions = entries.into_iter().map(|(name, entry)| {
        let what = format!("function \"{name}\" of cmds");
        let code = entry
            .function
            .ok_or_else(|| format!("{what} has no code"))?;
        let parameters = usize::try_from(entry.param_no)
            .ok()
            .filter(|count| *count <= PARAMETERS_MAX)
            .ok_or_else(|| {
                format!(
                    "{what} takes {} parameters; at most {PARAMETERS_MAX} are possible",
                    entry.param_no
                )
            })?;
        Ok(ExportedFunction {
            name,
            parameters,
            routes: entry.flags,
            entry: Address(std::ptr::from_ref(entry).cast_mut().cast()),
            code,
            fixup: entry.fixup,
            free_fixup: entry.free_fixup,
        })
    });
    functions.collect()
}

fn parameters(table_: *const abi::ParamExport) -> Result<Vec<Parameter>, String> {
    let entries = table(table_, |entry| entry.name, "params")?;
    let parameters = entries.into_iter().map(|(name, entry)| {
        Parameter::new(name, entry.type_, entry.param_pointer)
            .map_err(|(name, why)| format!("parameter \"{name}\" of params {why}"))
    });
    parameters.collect()
}

fn statistics(table_: *const abi::StatExport) -> Result<Vec<Wanted>, String> {
    let entries = table(table_, |entry| entry.name, "stats")?;
    let statistics = entries.into_iter().map(|(name, entry)| {
        if entry.stat_pointer.is_null() {
            return Err(format!("statistic \"{name}\" of stats has no pointer"));
        }
        Ok(Wanted {
            name,
            flags: entry.flags,
            pointer: Address(entry.stat_pointer.cast()),
        })
    });
    statistics.collect()
}

fn commands(table_: *const abi::MiExport) -> Result<Vec<Command>, String> {
    let entries = table(table_, |entry| entry.name, "mi_cmds")?;
    let commands = entries.into_iter().map(|(name, entry)| {
        let Some(code) = entry.cmd else {
            return Err(format!("command \"{name}\" of mi_cmds has no code"));
        };
        // SAFETY: as in `table`: NULL or a text that ends.
        let help = unsafe { ended(entry.help) };
        Ok(Command {
            help: help.map(|help| help.to_string_lossy().into_owned()),
            code,
            flags: entry.flags,
            param: Address(entry.param),
            init: entry.init_f,
            name,
        })
    });
    commands.collect()
}

/// Their names: nothing reads or sets pseudo-variables here.
fn variables(mut entry: *const abi::PvExport) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    while !entry.is_null() {
        // SAFETY: the table ends with an entry without a name, which was not met yet.
        let Str { s, len } = unsafe { (*entry).name };
        if s.is_null() {
            break;
        }
        let len = usize::try_from(len).unwrap_or(0);
        // SAFETY: a `str` says how many bytes there are.
        let bytes = unsafe { std::slice::from_raw_parts(s.cast::<u8>(), len) };
        names.push(String::from_utf8_lossy(bytes).into_owned());
        if names.len() > ENTRIES_MAX {
            return Err(endless("items"));
        }
        // SAFETY: as above.
        entry = unsafe { entry.add(1) };
    }
    Ok(names)
}

/// The entries of a table with their names.
fn table<T>(
    mut entry: *const T,
    name_of: impl Fn(&T) -> *const c_char,
    what: &str,
) -> Result<Vec<(String, &'static T)>, String> {
    let mut entries = Vec::new();
    while !entry.is_null() {
        // SAFETY: the tables of a module are as long as the module is there, and that is until the process ends, or until
        // the module is found to be broken and nobody keeps the entry. The last entry, without a name, was not met yet.
        let found: &'static T = unsafe { &*entry };
        if name_of(found).is_null() {
            break;
        }
        let name = name(name_of(found))
            .map_err(|why| format!("the name of entry {} of {what} {why}", entries.len()))?;
        entries.push((name, found));
        if entries.len() > ENTRIES_MAX {
            return Err(endless(what));
        }
        // SAFETY: as above.
        entry = unsafe { entry.add(1) };
    }
    Ok(entries)
}

fn endless(what: &str) -> String {
    format!(
        "{what} has more than {ENTRIES_MAX} entries; it must end with an entry whose name is NULL"
    )
}

/// A name that can be shown, written in a configuration, and be part of a metric.
fn name(name: *const c_char) -> Result<String, &'static str> {
    // SAFETY: names of a module are NULL or texts that end with 0.
    let name = unsafe { ended(name) }.ok_or("is NULL")?;
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes.len() > NAME_MAX {
        return Err("has no bytes, or more than 128");
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("has bytes in it that are no printable ASCII");
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// The type of a parameter without where its value goes.
pub(super) fn plain(type_: c_uint) -> c_uint {
    type_ & !abi::USE_FUNC_PARAM
}

/// What `cmd_function` has room for.
pub(super) const PARAMETERS_MAX: usize = 6;

/// Entries of a table: the largest of OpenSIPS has less than a hundred.
const ENTRIES_MAX: usize = 4096;

/// Bytes of a name.
const NAME_MAX: usize = 128;
