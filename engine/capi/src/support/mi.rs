//! Commands and their answers. (OpenSIPS 1.11 `mi/mi.c`)

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ended;
use crate::abi::module::{MI_NO_INPUT_FLAG, MiCommand, MiExport, MiRoot};
use crate::border::border;
use crate::loader::Address;
use crate::running;

/// An answer, out of the module's memory.
mod reply;
/// Trees of nodes, as modules build them.
pub mod tree;

pub use reply::{MiItem, MiReply};

/// A command that somebody registered.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) name: String,
    /// A sentence about it.
    pub(crate) help: Option<String>,
    pub(crate) code: MiCommand,
    pub(crate) flags: c_uint,
    /// Given to the code.
    pub(crate) param: Address,
    pub(crate) init: Option<unsafe extern "C" fn() -> c_int>,
}

/// There is one of that name, of that module.
#[derive(Debug)]
pub(crate) struct Taken(pub(crate) Option<&'static str>);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    NoParameters,
    Nothing,
    Later,
    Memory,
}

/// The module that registered a command, if it was one, and the command.
type Entry = (Option<&'static str>, Command);

static COMMANDS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn commands() -> MutexGuard<'static, Vec<Entry>> {
    COMMANDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a command.
pub(crate) fn add(owner: Option<&'static str>, command: Command) -> Result<(), Taken> {
    let mut commands = commands();
    if let Some((other, _)) = commands.iter().find(|(_, c)| c.name == command.name) {
        return Err(Taken(*other));
    }
    commands.push((owner, command));
    Ok(())
}

/// Forgets those of a module that is over.
pub(crate) fn remove_all(owner: &'static str) {
    commands().retain(|(of, _)| of.is_none_or(|of| !ptr::eq(of, owner)));
}

/// Shows all commands to `look`.
pub(crate) fn each(mut look: impl FnMut(Option<&'static str>, &Command)) {
    for (owner, command) in &*commands() {
        look(*owner, command);
    }
}

/// The commands of `owner` as they are now, whoever's table they come from.
pub(crate) fn all_of(owner: &'static str) -> Vec<Command> {
    let commands = commands();
    let own = commands
        .iter()
        .filter(|(of, _)| of.is_some_and(|of| ptr::eq(of, owner)));
    own.map(|(_, command)| command.clone()).collect()
}

/// The command `name`.
pub(crate) fn find(name: &str) -> Option<Entry> {
    let commands = commands();
    commands.iter().find(|(_, c)| c.name == name).cloned()
}

impl Command {
    /// Runs it on this thread, with `params` as nodes without names.
    pub(crate) fn run(&self, params: &[&str]) -> Result<MiReply, Failure> {
        let takes_none = self.flags & MI_NO_INPUT_FLAG != 0;
        if takes_none && !params.is_empty() {
            return Err(Failure::NoParameters);
        }
        let input = if takes_none {
            ptr::null_mut()
        } else {
            tree::of_params(params).ok_or(Failure::Memory)?
        };
        // SAFETY: what was registered as a `mi_cmd_f`, with a tree that is ours and with what it was registered with.
        let answer = unsafe { (self.code)(input, self.param.0) };
        let reply = if answer.is_null() {
            Err(Failure::Nothing)
        } else if answer == LATER {
            Err(Failure::Later)
        } else {
            // SAFETY: a tree that the command built; nobody else has it.
            Ok(unsafe { reply::read(answer) })
        };
        // A command may answer with the tree that it was given.
        if answer != input && !answer.is_null() && answer != LATER {
            // SAFETY: as above, and what was read of it is copied.
            unsafe { tree::free_mi_tree(answer) };
        }
        // SAFETY: `of_params` made it, or it is NULL.
        unsafe { tree::free_mi_tree(input) };
        reply
    }
}

/// Registers the command `name`. 0, or -1 when there is no code, no name, or a command of that name. Safe from any thread.
///
/// # Safety
/// The texts are NULL or end with 0; `code` may be called with `param` on the thread that runs the code of the module.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_mi_cmd(
    code: Option<MiCommand>,
    name: *const c_char,
    help: *const c_char,
    param: *mut c_void,
    init: Option<unsafe extern "C" fn() -> c_int>,
    flags: c_uint,
    _module: *const c_char,
) -> c_int {
    border(-1, || {
        // SAFETY: what this function asks for.
        let (name, help) = unsafe { (ended(name), ended(help)) };
        let owned = |text: &CStr| text.to_string_lossy().into_owned();
        let (Some(code), Some(name)) = (code, name.filter(|name| !name.is_empty()).map(owned))
        else {
            return -1;
        };
        let command = Command {
            name,
            help: help.map(owned),
            code,
            flags,
            param: Address(param),
            init,
        };
        // On a thread that a module started it is whose code it is.
        let owner = running::current_or_at((code as *const c_void).addr());
        add(owner, command).map_or(-1, |()| 0)
    })
}

/// Registers all commands of a table, as [`register_mi_cmd`] does; those that cannot be are left out. 0, or -1 when one was.
///
/// # Safety
/// `commands` is NULL or ends with an entry whose name is NULL; for each of them what [`register_mi_cmd`] asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_mi_mod(
    module: *const c_char,
    commands: *const MiExport,
) -> c_int {
    border(-1, || {
        let mut result = 0;
        let mut entry = commands;
        // SAFETY: what this function asks for.
        while let Some(command) = unsafe { entry.as_ref() }.filter(|c| !c.name.is_null()) {
            let MiExport {
                name,
                help,
                cmd,
                flags,
                param,
                init_f,
            } = *command;
            // SAFETY: what this function asks for.
            result |= unsafe { register_mi_cmd(cmd, name, help, param, init_f, flags, module) };
            // SAFETY: the last entry was not met yet.
            entry = unsafe { entry.add(1) };
        }
        result
    })
}

/// `MI_ROOT_ASYNC_RPL`.
const LATER: *mut MiRoot = ptr::without_provenance_mut(usize::MAX);
