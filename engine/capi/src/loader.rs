//! Modules from shared libraries. (OpenSIPS 1.11 `sr_module.c`, `modparam.c`, `cfg.y`)
//!
//! ```text
//!  loadmodule ─▶ search ─▶ trust ─▶ library: dlopen, exports, version ─▶ exports: the tables, checked
//!  modparam ───▶ parameter                                                  │ finish
//!                                        Modules: init ─ child_init ─ commands, statistics, functions ─ destroy
//! ```
//!
//! A library that was opened stays in the process until it ends: its code may be in the hands of any thread.

use std::path::PathBuf;

use crate::abi::module;
use crate::bin::registrations::{Registration, collecting};
use crate::running;
use crate::support::log::{Level, say};
use crate::support::{functions, mi, statistics, timers};

/// A call of a script function, its parameters prepared.
mod call;
/// What can be wrong with a module.
mod error;
/// The tables of a module, checked and read.
mod exports;
/// One thread at a time in the code of a module.
pub(crate) mod gate;
/// A shared library, opened and looked at.
mod library;
/// Modules from their initialisation to their end.
mod modules;
/// Parameters.
mod parameter;
/// Where a module is.
mod search;
/// Whose code it is.
mod trust;

pub use call::{Call, Message};
pub use error::{CallError, CommandError, InitError, LoadError, ParamError};
pub use exports::{Function, FunctionId};
pub use library::libraries;
pub use modules::Modules;
pub use parameter::Value;
pub use trust::way_to;

pub(crate) use exports::{Address, Exports};
use gate::Gate;
use library::Library;
use search::Found;

/// What modules are loaded for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The version that a module must have been compiled for; by default that of our headers ([`module::version`]).
    pub our_version: String,
    /// The compile flags that it must have been compiled with; by default [`module::COMPILE_FLAGS`].
    pub our_flags: String,
    /// A directory that whoever starts us vouches for: it and what is above it may belong to anybody. None by default.
    pub vouched: Option<PathBuf>,
    /// Names of modules of which several threads may run code at once, as [`Modules::make_reentrant`] has it; already while they are loaded.
    /// None by default.
    pub reentrant: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            our_version: module::version(),
            our_flags: module::COMPILE_FLAGS.to_owned(),
            vouched: None,
            reentrant: Vec::new(),
        }
    }
}

/// Number of a module: the place of its `loadmodule` among the others, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(usize);

impl ModuleId {
    /// The number, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Modules while the configuration is read: loaded, and given their parameters.
///
/// Used by one thread. Code of a module runs where its library is opened (its constructors) and where a parameter is set by a
/// function.
#[derive(Debug)]
pub struct Loader {
    options: Options,
    modules: Vec<Module>,
}

/// A module that is there.
#[derive(Debug)]
struct Module {
    /// Leaked: it is what a crash report and a log line say while code of the module runs.
    name: &'static str,
    file: PathBuf,
    exports: Exports,
    gate: &'static Gate,
    /// What its constructors and the functions of its parameters registered for BIN packets.
    registered: Vec<Registration>,
}

impl Drop for Module {
    /// Forgets what it registered: nobody runs its code any more.
    fn drop(&mut self) {
        functions::remove(self.name);
        timers::remove_all(self.name);
        mi::remove_all(self.name);
        statistics::remove_all(self.name);
        gate::remove(self.name);
    }
}

impl Loader {
    /// Without any module.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            modules: Vec::new(),
        }
    }

    /// Loads the module that `loadmodule` of the configuration names as `written`; `mpath` is where modules are looked for.
    ///
    /// An absolute path is taken as it is; otherwise `mpath` + `x.so`, and, where there is none, `mpath` + `x/x.so`. The file
    /// and each directory on the way there, that of each link included, must belong to root or to the user that we run as, and
    /// nobody else may write there. Libraries that the module itself needs are found by the dynamic linker, by RUNPATH and
    /// LD_LIBRARY_PATH: that one of them belongs to somebody else is told by the log, when its constructors have run.
    ///
    /// # Errors
    /// The module is not there, not to be trusted, cannot be opened, is no module, was made for another server, is there
    /// already, or has tables that cannot be right. What is no module stays open all the same: its constructors ran, and whatever
    /// they registered points into it.
    pub fn load(&mut self, mpath: Option<&str>, written: &str) -> Result<ModuleId, LoadError> {
        let Found { path, file } = search::find(mpath, written)?;
        trust::check(&path, self.options.vouched.as_deref())?;
        let library = Library::open(&file, &self.options, self.may_be_reentrant())?;
        let exports = running::enter(library.label(), || exports::read(&library))?;
        if let Some(other) = self.modules.iter().find(|m| m.name == exports.name) {
            let (name, other) = (exports.name, other.file.clone());
            return Err(LoadError::SameName { file, name, other });
        }
        let name: &'static str = exports.name.clone().leak();
        for suspect in library.suspects() {
            let what = format!("it needs a library that others can replace: {suspect}");
            running::enter(name, || say(Level::Warning, &what));
        }
        let gate = gate::add(name);
        if self.options.reentrant.iter().any(|wanted| wanted == name) {
            gate.make_reentrant();
        }
        functions::add(name, &exports);
        running::comes_from(name, library.label());
        running::lies_in(name, library.addresses());
        let registered = library.keep();
        self.modules.push(Module {
            name,
            file,
            exports,
            gate,
            registered,
        });
        Ok(ModuleId(self.modules.len() - 1))
    }

    /// Whether the next one may be one of those that are to be reentrant, which it says when its constructors have run.
    fn may_be_reentrant(&self) -> bool {
        let is_there = |wanted: &String| self.modules.iter().any(|module| module.name == wanted);
        !self.options.reentrant.iter().all(is_there)
    }

    /// Sets the parameter `name` of each module loaded so far whose whole name matches `pattern`, a regular expression for
    /// which upper and lower case are alike; how many modules that were.
    ///
    /// Texts are copied, and the copies stay until the process ends.
    ///
    /// # Errors
    /// `pattern` is no expression or matches no module; one of them has no such parameter, has it with another type, or its
    /// function refuses the value. Modules before that one have theirs set.
    pub fn modparam(
        &mut self,
        pattern: &str,
        name: &str,
        value: &Value,
    ) -> Result<usize, ParamError> {
        let value = value.in_c(name)?;
        let expression = parameter::expression(pattern)?;
        let matching = self
            .modules
            .iter_mut()
            .filter(|m| expression.is_match(m.name));
        let mut count = 0;
        for module in matching {
            let parameter = parameter::find(module.name, &module.exports.parameters, name, &value)?;
            let set = || running::enter(module.name, || parameter.set(module.name, &value));
            let (outcome, registered) = collecting(set);
            module.registered.extend(registered);
            outcome?;
            count += 1;
        }
        if count == 0 {
            return Err(ParamError::NoModule {
                pattern: pattern.to_owned(),
                loaded: self.modules.iter().map(|m| m.name.to_owned()).collect(),
            });
        }
        Ok(count)
    }

    /// The name of a module.
    pub fn name(&self, id: ModuleId) -> &'static str {
        self.modules[id.0].name
    }

    /// The configuration is read.
    pub fn finish(self) -> Modules {
        Modules::new(self.modules)
    }
}
