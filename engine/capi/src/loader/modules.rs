//! Modules from their initialisation to their end. (OpenSIPS 1.11 `sr_module.c`: `init_modules`, `init_child`, `destroy_modules`)

use std::ffi::c_int;
use std::path::Path;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::call::Call;
use super::error::did_you_mean;
use super::exports::{ExportedFunction, Function, FunctionId};
use super::gate::{self, Gate, INITIALISED, LOADED, OVER};
use super::{CallError, CommandError, InitError, Module, ModuleId};
use crate::bin::registrations::{Registration, collecting};
use crate::running;
use crate::support::functions;
use crate::support::log::{Level, say};
use crate::support::mi::{self, MiReply};
use crate::support::statistics::{self, Statistic};
use crate::support::timers;

/// The modules of a configuration.
///
/// All their code runs inside calls of this type's methods, on the thread that calls, and inside the callbacks that they
/// register. A module belongs to the thread that initialised it, and from its first `child_init` on to the one that called that:
/// elsewhere methods that would run its code answer that they do not, unless it is [reentrant](Self::make_reentrant). Whoever
/// runs callbacks keeps to that thread too, and has ended before [`Self::destroy`].
#[derive(Debug)]
pub struct Modules {
    modules: Vec<Staged>,
}

/// A module and how far it is.
#[derive(Debug)]
struct Staged {
    module: Module,
    /// What it registered before its `mod_init`, until that is told.
    early: Mutex<Vec<Registration>>,
}

impl Modules {
    pub(super) fn new(modules: Vec<Module>) -> Self {
        let staged = |mut module: Module| Staged {
            early: Mutex::new(std::mem::take(&mut module.registered)),
            module,
        };
        Self {
            modules: modules.into_iter().map(staged).collect(),
        }
    }

    /// Says that several threads may run code of a module at once, each after a `child_init` of its own.
    pub fn make_reentrant(&self, id: ModuleId) {
        self.module(id).gate.make_reentrant();
    }

    /// Makes this thread the one that runs the code of a module, where the thread that did has ended.
    ///
    /// # Errors
    /// Another thread is in its code.
    pub fn move_here(&self, id: ModuleId) -> Result<(), InitError> {
        let module = self.module(id);
        let pass = module.gate.move_in().map_err(|_| elsewhere(module));
        pass.map(drop)
    }

    /// Calls `mod_init` of each module in the order in which they were loaded, and registers the statistics and the commands
    /// of each once its own is done; what each has registered for BIN packets, that of its constructors and of its parameters'
    /// functions first.
    ///
    /// # Errors
    /// The first that fails ends it: those before it are initialised and want [`Self::destroy`].
    pub fn init(&self) -> Result<Vec<(ModuleId, Vec<Registration>)>, InitError> {
        let mut registrations = Vec::with_capacity(self.modules.len());
        for id in self.ids() {
            registrations.push((id, self.init_one(id)?));
        }
        Ok(registrations)
    }

    fn init_one(&self, id: ModuleId) -> Result<Vec<Registration>, InitError> {
        let module = self.module(id);
        let _pass = module.gate.move_in().map_err(|_| elsewhere(module))?;
        self.expect(id, LOADED)?;
        let (code, registered) = collecting(|| {
            let init = module.exports.init;
            // SAFETY: the module's own function, called as `init_function` is: once, after its parameters are set.
            running::enter(module.name, || init.map_or(0, |init| unsafe { init() }))
        });
        if code != 0 {
            let module = module.name.to_owned();
            return Err(InitError::Module { module, code });
        }
        // From here on there is something to end.
        module.gate.stage.store(INITIALISED, Ordering::Release);
        for wanted in &module.exports.statistics {
            statistics::add_exported(module.name, wanted).map_err(|statistics::Taken| {
                InitError::StatisticTaken {
                    module: module.name.to_owned(),
                    statistic: wanted.name.clone(),
                }
            })?;
        }
        for command in &module.exports.commands {
            let added = mi::add(Some(module.name), command.clone());
            if let Err(mi::Taken(other)) = added {
                // The module goes on without, as with OpenSIPS. (1.11 `sr_module.c`, `init_mod`)
                let other = other.map_or("something else", |other| other);
                let what = format!(
                    "command \"{}\" is not taken: {other} has one of that name",
                    command.name
                );
                running::enter(module.name, || say(Level::Error, &what));
            }
        }
        let mut early = self.modules[id.0]
            .early
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all = std::mem::take(&mut *early);
        all.extend(registered);
        Ok(all)
    }

    /// Calls `child_init` of a module with `rank`, and the init functions of its commands, on the thread that is to run its
    /// code from now on; what it registers there.
    ///
    /// # Errors
    /// It is not initialised, or it fails.
    pub fn child_init(&self, id: ModuleId, rank: c_int) -> Result<Vec<Registration>, InitError> {
        let module = self.module(id);
        self.expect(id, INITIALISED)?;
        let _pass = module.gate.settle().map_err(|_| elsewhere(module))?;
        // It may have been at its end before we were let in.
        self.expect(id, INITIALISED)?;
        let (outcome, registered) = collecting(|| begin(module, rank));
        outcome.map(|()| registered)
    }

    fn expect(&self, id: ModuleId, stage: u8) -> Result<(), InitError> {
        let found = self.module(id).gate.stage.load(Ordering::Acquire);
        if found == stage {
            return Ok(());
        }
        Err(InitError::Order {
            module: self.module(id).name.to_owned(),
            stage: match found {
                LOADED => "not initialised yet",
                INITIALISED => "initialised already",
                _ => "at its end",
            },
        })
    }

    /// Calls `destroy` of each module that was initialised, in the reverse of the order in which they were loaded; a second
    /// call does nothing. From any thread: none runs code of a module any more. One that another thread is in all the same is not
    /// ended, which the log tells. The libraries stay where they are, and [calls](Call) that are left do nothing.
    pub fn destroy(&self) {
        for Staged { module, .. } in self.modules.iter().rev() {
            let Ok(_pass) = module.gate.pass_from_anywhere() else {
                running::enter(module.name, || {
                    say(
                        Level::Error,
                        "it is not ended: another thread is in its code",
                    );
                });
                continue;
            };
            if module.gate.stage.swap(OVER, Ordering::AcqRel) != INITIALISED {
                continue;
            }
            if let Some(destroy) = module.exports.destroy {
                // SAFETY: the module's own function, called as `destroy_function` is: once, as the last one.
                running::enter(module.name, || unsafe { destroy() });
            }
            // Nothing runs its code any more, so nobody is to find it.
            functions::remove(module.name);
            timers::remove_all(module.name);
            mi::remove_all(module.name);
            statistics::remove_all(module.name);
        }
    }

    /// All modules, in the order in which they were loaded.
    pub fn ids(&self) -> impl Iterator<Item = ModuleId> + use<> {
        (0..self.modules.len()).map(ModuleId)
    }

    /// The name of a module: the very text that [`running::current`] tells while its code runs.
    pub fn name(&self, id: ModuleId) -> &'static str {
        self.module(id).name
    }

    /// The file of a module, without links.
    pub fn file(&self, id: ModuleId) -> &Path {
        &self.module(id).file
    }

    /// The pseudo-variables that a module exports. Nothing here reads or sets them.
    pub fn variables(&self, id: ModuleId) -> &[String] {
        &self.module(id).exports.variables
    }

    /// The statistics of all modules as they are now. Those that are told by a function are there where that may be called: on the
    /// thread of their module.
    pub fn statistics(&self) -> Vec<Statistic> {
        statistics::read(|owner| self.owns(owner))
    }

    /// Calls the timer that is due the longest, if any is, of the modules whose thread this is; `true` when another one is due. To be
    /// called about ten times a second by the thread that runs the modules' code, once their `child_init` is done, by whoever has said so with
    /// [`timers::serve`].
    pub fn run_timers(&self, now: Instant) -> bool {
        timers::run(now, |owner| self.is_home(owner))
    }

    /// Names of all commands.
    pub fn commands(&self) -> Vec<String> {
        let mut names = Vec::new();
        mi::each(|owner, command| {
            if owner.is_some_and(|owner| self.owns(owner)) {
                names.push(command.name.clone());
            }
        });
        names
    }

    /// What the module says about its command `name`.
    pub fn command_help(&self, name: &str) -> Option<String> {
        mi::find(name)?.1.help
    }

    /// The module whose command `name` is: whose thread it is to run on.
    pub fn command_owner(&self, name: &str) -> Option<ModuleId> {
        let (owner, _) = mi::find(name)?;
        let owner = owner?;
        self.ids().find(|id| ptr::eq(self.name(*id), owner))
    }

    /// Runs the command `name` with `params` on this thread.
    ///
    /// # Errors
    /// There is no such command, its module runs on another thread, it takes no parameters, or it answers nothing. What the module itself finds wrong is an
    /// answer, with a code that says so.
    pub fn run_command(&self, name: &str, params: &[&str]) -> Result<MiReply, CommandError> {
        let found = mi::find(name).and_then(|(owner, command)| {
            let owner = owner.filter(|owner| self.owns(owner))?;
            Some((owner, command))
        });
        let Some((owner, command)) = found else {
            let known = self.commands();
            return Err(CommandError::Unknown {
                name: name.to_owned(),
                meant: did_you_mean(name, known.iter().map(String::as_str)),
            });
        };
        let (name, module) = (name.to_owned(), owner.to_owned());
        let Some(Ok(_pass)) = gate::of(owner).map(Gate::pass) else {
            return Err(CommandError::Elsewhere { module });
        };
        let outcome = running::enter(owner, || command.run(params));
        outcome.map_err(|failure| match failure {
            mi::Failure::NoParameters => CommandError::NoParameters { name },
            mi::Failure::Nothing => CommandError::Failed { name, module },
            mi::Failure::Later => CommandError::Later { name, module },
            mi::Failure::Memory => CommandError::Memory { name },
        })
    }

    /// The functions that a routing script may call, in the order of the modules and of their tables.
    pub fn functions(&self) -> Vec<Function> {
        let of = |id: ModuleId| {
            let functions = self.module(id).exports.functions.iter().enumerate();
            functions.map(move |(index, function)| self.describe(id, index, function))
        };
        self.ids().flat_map(of).collect()
    }

    fn describe(&self, module: ModuleId, index: usize, function: &ExportedFunction) -> Function {
        Function {
            id: FunctionId { module, index },
            module: self.name(module),
            name: function.name.clone(),
            parameters: function.parameters,
            routes: function.routes,
            has_fixup: function.fixup.is_some(),
        }
    }

    /// Prepares a call of a function with `parameters`: once for each place of a script that has one, after
    /// [`Self::init`], on this thread.
    ///
    /// # Errors
    /// The function takes another number of them, its module runs on another thread, or its fixup refuses one.
    pub fn prepare(&self, id: FunctionId, parameters: &[&[u8]]) -> Result<Call, CallError> {
        let module = self.module(id.module);
        let function = &module.exports.functions[id.index];
        Call::new((module.name, module.gate), function, parameters)
    }

    /// The module that a function is of.
    pub fn function_owner(&self, id: FunctionId) -> ModuleId {
        id.module
    }

    fn owns(&self, owner: &'static str) -> bool {
        let mut modules = self.modules.iter();
        modules.any(|staged| ptr::eq(staged.module.name, owner))
    }

    fn is_home(&self, owner: &'static str) -> bool {
        let mut modules = self.modules.iter().map(|staged| &staged.module);
        modules.any(|module| ptr::eq(module.name, owner) && module.gate.is_home())
    }

    fn module(&self, id: ModuleId) -> &Module {
        &self.modules[id.0].module
    }
}

fn elsewhere(module: &Module) -> InitError {
    let module = module.name.to_owned();
    InitError::Elsewhere { module }
}

/// `child_init` of `module` and the init functions of its commands, on this thread.
fn begin(module: &Module, rank: c_int) -> Result<(), InitError> {
    let child_init = module.exports.child_init;
    let code = running::enter(module.name, || {
        // SAFETY: the module's own function, called as `child_init_function` is: after `init_f`.
        child_init.map_or(0, |child_init| unsafe { child_init(rank) })
    });
    if code < 0 {
        let module = module.name.to_owned();
        return Err(InitError::Child { module, rank, code });
    }
    // They may register others: nothing is locked. (1.11 `mi/mi.c`, `init_mi_child`: all that are registered)
    for command in mi::all_of(module.name) {
        let Some(init) = command.init else { continue };
        // SAFETY: the module's own function, called as `mi_child_init_f` is.
        let code = running::enter(module.name, || unsafe { init() });
        if code != 0 {
            return Err(InitError::Command {
                module: module.name.to_owned(),
                command: command.name,
                code,
            });
        }
    }
    Ok(())
}
