//! Modules from shared libraries: from the configuration to their end.
//!
//! ```text
//!  before any socket:  dlopen ─▶ modparam ─▶ mod_init ─▶ fixups of the script    a bad module costs nothing that runs
//!  engine starts:      names ─▶ handlers; child_init, then startup_route, on the shard's own thread; its names; then packets
//!  while it runs:      callbacks on shards, which raise events; commands and statistics told to the home shard; look each second
//!  behind the shards:  free_fixup ─▶ destroy, unless one of them does not end
//! ```
//!
//! Modules of OpenSIPS expect a process with one thread and keep what they know in globals. So all code of all of them runs on one
//! shard, because one may call functions of another; but what is named reentrant, whose callbacks run on every shard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use binrush::abi::module::PROC_BIN;
use binrush::bin::{self, Poison, Registration};
use binrush::handler::{CallbackCounts, CallbackTotals, Care};
use binrush::loader::{Loader, ModuleId, Modules, Options, ParamError, Value};
use binrush::running;
use binrush::script::{ModuleFunctions, Terms};
use binrush::support::timers;
use binrush_engine::config::{self, Excerpt, Libraries, LibraryStatement, Named};
use binrush_engine::engine::estate::Group;
use binrush_engine::engine::{Begun, READERS_MAX, SHARDS_MAX};
use binrush_engine::event::Bus;
use binrush_engine::{Engine, NameId, NoBeginning, Registry, ShardId};
use serde_json::json;

use super::confine::Files;
use super::settings::Settings;
use super::{cluster, ready};
use crate::metrics;
use crate::text::counted;
use errand::Resident;
use late::{Entry, Late};
use opened::{NextStart, Opened};

/// Commands, statistics and timers, run where modules are.
mod errand;
/// What `child_init` registered, shard by shard.
mod late;
/// Modules that do not return from their beginning or their end.
mod lookout;
/// What is told of modules while they run.
mod news;
/// Files that they open after they were confined.
mod opened;
/// Events that they raise.
mod raised;

pub(super) use errand::Errands;
pub(super) use lookout::Lookout;
pub(super) use news::{News, Notice};

/// Modules that are loaded and initialised, once in the life of the process. Dropping it ends them.
pub(super) struct Loaded {
    modules: Arc<Modules>,
    each: Vec<Arc<One>>,
    /// Every shard that may run code of modules has one more, and drops it with its handlers at its end.
    presence: Arc<()>,
    /// What they may open beside what the server does.
    opened: Opened,
    /// SIGTERM or SIGINT came.
    stop: Arc<AtomicBool>,
    /// The end of the process has begun.
    is_ending: AtomicBool,
}

/// One of them.
#[derive(Debug)]
struct One {
    id: ModuleId,
    name: &'static str,
    file: PathBuf,
    /// Its `loadmodule`.
    at: Excerpt,
    is_reentrant: bool,
    care: Care,
    /// By `mod_init`.
    registrations: Vec<Registration>,
    late: Mutex<Late>,
    /// `child_init` was called, and says no more where that is done once in the life of the process.
    begun: Mutex<bool>,
}

/// Why a server with these modules does not start: in words, with the place in the configuration where there is one.
#[derive(Debug)]
pub(super) enum Refused {
    /// The configuration cannot work.
    Config(String),
    /// A module failed.
    Module(String),
}

impl Loaded {
    /// Loads, sets parameters and initialises, in the order of the configuration. `None`: it names no libraries. Names that modules
    /// take from built-in parts are those of `settings` no longer, and what an operator should know is among its warnings.
    /// To be called while somebody [looks out](look_out).
    pub(super) fn load(
        settings: &mut Settings,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<Self>, Refused> {
        let libraries = settings.libraries.clone();
        if libraries.is_empty() {
            return Ok(None);
        }
        if let Err(error) = running::tell_of_crashes() {
            let warning = format!("a module that crashes will not be named: {error}");
            settings.warnings.push(warning);
        }
        let alone = threads();
        let (modules, places) = load(&libraries)?;
        let modules = Arc::new(modules);
        let each: Vec<_> = modules.ids().map(|id| (id, modules.name(id))).collect();
        for wanted in &libraries.reentrant {
            if each.iter().all(|(_, name)| *name != wanted.name) {
                return Err(Refused::named(wanted, "reentrant", "module", "is loaded"));
            }
        }
        let next = NextStart::of(&libraries, &settings.sources);
        let opened = Opened::of(&libraries, &next, &settings.tls);
        let (opened, warnings) = opened.map_err(Refused::Config)?;
        settings.warnings.extend(warnings);
        if settings.confine {
            let doubts = next.doubts(&settings.files().write);
            settings.warnings.extend(doubts);
        }
        // From here on whatever goes wrong has to end what was initialised.
        let mut loaded = Self {
            modules: Arc::clone(&modules),
            each: Vec::new(),
            presence: Arc::default(),
            opened,
            stop: Arc::clone(stop),
            is_ending: AtomicBool::new(false),
        };
        // Before `mod_init`, where they are registered: the resident of the home shard runs them.
        timers::serve();
        let registered = modules.init();
        let theirs = threads().saturating_sub(alone);
        if settings.confine && theirs > 0 {
            settings.warnings.push(format!(
                "{} that modules started before child_init keep all rights: confined are those that start later",
                counted(theirs as u64, "thread")
            ));
        }
        let registered = registered.map_err(|error| {
            let failed = each.iter().find(|(_, name)| *name == error.module());
            Refused::Module(match failed {
                Some((id, _)) => places[id.index()].problem(error.to_string()).to_string(),
                None => error.to_string(),
            })
        })?;
        let registered = registered.into_iter().map(|(id, registrations)| {
            let name = modules.name(id);
            Arc::new(One {
                id,
                name,
                file: modules.file(id).to_owned(),
                at: places[id.index()].clone(),
                is_reentrant: libraries.is_reentrant(name),
                care: Care {
                    module: name,
                    // Routes run on readers, too, whose numbers are behind those of the others.
                    counts: Arc::new(CallbackCounts::new(SHARDS_MAX + READERS_MAX)),
                    budget: libraries.callback_budget,
                    poison: match libraries.poison {
                        true => Poison::On,
                        false => Poison::Off,
                    },
                },
                registrations,
                late: Mutex::default(),
                begun: Mutex::default(),
            })
        });
        loaded.each = registered.collect();
        loaded.take_names(settings)?;
        Ok(Some(loaded))
    }

    /// Takes what modules registered from built-in parts, where that is allowed.
    fn take_names(&self, settings: &mut Settings) -> Result<(), Refused> {
        let mut taken = BTreeSet::new();
        for one in &self.each {
            for registration in &one.registrations {
                let name = printable(&registration.name);
                let may = may_take(&name, one.name, settings);
                may.map_err(|why| Refused::Config(one.at.problem(why).to_string()))?;
                taken.insert(name);
            }
        }
        if !settings.clusters.is_empty() {
            let below = taken.iter().map(|name| format!("{name:?}"));
            let below: Vec<_> = below.collect();
            if !below.is_empty() {
                // (3.6 `clusterer/clusterer.c`: it registers a callback of its own for each capability, and asks what it may take there.)
                settings.warnings.push(format!(
                    "packets named {} go to modules as they come: bin_register_cb is below clusterer here as in OpenSIPS, so neither \
                     their cluster nor their node is checked, and nobody forwards or syncs them",
                    below.join(", ")
                ));
            }
        }
        if let Some(folder) = &settings.libraries.trusted_dir {
            settings.warnings.push(format!(
                "modules in {} are loaded whoever may write there (trusted_dir): that is for development",
                folder.display()
            ));
        }
        self.unmixed().map_err(Refused::Config)?;
        settings.taken = taken;
        Ok(())
    }

    /// Refuses a name that is registered by a reentrant module and by another one: one handler would have to stay on a shard and
    /// the other not.
    fn unmixed(&self) -> Result<(), String> {
        let mut owners: BTreeMap<Vec<u8>, &One> = BTreeMap::new();
        for one in &self.each {
            for name in one.names() {
                let other = *owners.entry(name.clone()).or_insert(one);
                if other.is_reentrant != one.is_reentrant {
                    let (free, kept) = match one.is_reentrant {
                        true => (one.name, other.name),
                        false => (other.name, one.name),
                    };
                    return Err(format!(
                        "packets named {:?} are registered by module {free}, which is reentrant, and by module {kept}, which is not\n  \
                         name both in modparam(\"binrush\", \"reentrant\", ...), none, or leave one out",
                        printable(&name)
                    ));
                }
            }
        }
        Ok(())
    }

    /// What an operator should know of names that nobody registered, by `mod_init` or `child_init`.
    fn idle_overrides(&self, libraries: &Libraries) -> Vec<String> {
        let names = self.each.iter().flat_map(|one| one.names());
        let taken: BTreeSet<String> = names.map(|name| printable(&name)).collect();
        let idle = libraries.overrides.iter();
        let idle = idle.filter(|wanted| !taken.contains(&wanted.name));
        idle.map(|wanted| {
            let place = &wanted.at.place;
            format!(
                "{place}: override: no module registers {:?}, so nothing is taken from a built-in part",
                wanted.name
            )
        })
        .collect()
    }

    /// Gives each name its handlers, and each module its beginning on the shards that run its code. The number of the resident
    /// that runs errands.
    pub(super) fn register(
        &self,
        registry: &mut Registry,
        settings: &Settings,
    ) -> anyhow::Result<NameId> {
        for one in &self.each {
            // Each run has its own counts, as all that is counted of packets.
            one.care.counts.start_over();
        }
        // Those of child_init, which are of an earlier run and are not told again where a module is not reentrant, come behind all of
        // mod_init, as they did there: of two with one name the last has it.
        let first = self.each.iter().map(|one| (one, one.initial()));
        let late = self.each.iter().map(|one| (one, one.known()));
        for (one, entries) in first.chain(late) {
            for entry in entries {
                let name = entry.name().to_vec();
                let care = one.care.clone();
                registry.register(&name, move |shard| entry.handler(shard, &care))?;
                if !one.is_reentrant {
                    registry.keep_on_one_shard(&name, HOME);
                }
            }
        }
        let owners = settings.engine.shard_count();
        for one in &self.each {
            let (one, modules) = (Arc::clone(one), Arc::clone(&self.modules));
            let settings = settings.clone();
            registry.at_beginning(move |shard| {
                let is_at_home = if one.is_reentrant {
                    shard.0 < owners
                } else {
                    shard == HOME
                };
                match is_at_home {
                    true => one.begin(&modules, shard, &settings),
                    false => Ok(()),
                }
            });
        }
        let modules = Arc::clone(&self.modules);
        let presence = Arc::clone(&self.presence);
        Ok(registry.resident("modules", move |shard| {
            Resident::new(Arc::clone(&modules), shard, Arc::clone(&presence))
        })?)
    }

    /// Has the events of modules told by `bus` from now on, those that were published and those that will be; what an operator should
    /// know.
    pub(super) fn tell_by(&self, bus: Option<&Bus>) -> Vec<String> {
        raised::tell_by(bus)
    }

    /// Has what modules send leave from the first of `groups` from now on, which is where this server listens, as the packets of a
    /// genuine node do (1.11 `bin_interface.c`): before they begin. The references are kept until the next time, so one that is to be
    /// closed has to be away by then. What an operator should know.
    pub(super) fn send_from(&self, groups: io::Result<Vec<Group>>) -> Option<String> {
        let wrong = groups.as_ref().err().map(|error| {
            format!("what modules send leaves from ports of the kernel's choice: {error}")
        });
        let groups = groups.unwrap_or_default().into_iter();
        let first = |group: Group| Some((group.addr, group.members.into_iter().next()?.socket));
        bin::send_from(groups.filter_map(first).collect());
        wrong
    }

    /// The same behind a change of listeners: of those that stay it keeps what it has, whatever becomes of others.
    pub(super) fn send_from_open(&self, engine: &Engine) -> Option<String> {
        let listeners = engine.listeners();
        // Others take connections alone.
        let open = listeners.filter(|each| each.rcvbuf.is_some());
        let open: Vec<_> = open.map(|each| each.addr).collect();
        let mut wrong = None;
        let missing = open.iter().filter(|addr| !bin::is_given(**addr));
        let more = missing.filter_map(|addr| match engine.sender(*addr)? {
            Ok(socket) => Some((*addr, socket)),
            Err(error) => {
                wrong = Some(format!("modules cannot send from {addr}: {error}"));
                None
            }
        });
        let more = more.collect();
        bin::send_from_open(&open, more);
        wrong
    }

    /// Takes over what was registered by `child_init`, before any packet is received.
    pub(super) fn register_late(
        &self,
        begun: &mut Begun,
        settings: &mut Settings,
    ) -> anyhow::Result<()> {
        self.unmixed().map_err(|mixed| anyhow!("{mixed}"))?;
        let idle = self.idle_overrides(&settings.libraries);
        settings.warnings.extend(idle);
        for one in &self.each {
            for entry in one.news() {
                let care = one.care.clone();
                let name = entry.name().to_vec();
                let make = move |shard| entry.handler(shard, &care);
                let registered = match one.is_reentrant {
                    true => begun.register(&name, make),
                    false => begun.register_on(&name, HOME, make),
                };
                registered.map_err(|error| anyhow!("module {}: {error}", one.name))?;
            }
        }
        Ok(())
    }

    /// What a module may open after the start: what lies beside it, and what the configuration says.
    pub(super) fn opens(&self, files: &mut Files) {
        self.each.iter().for_each(|one| files.reads(&one.file));
        self.opened.give(files);
    }

    /// For the ready line.
    pub(super) fn more(&self) -> ready::More {
        let each = self.each.iter();
        let words = each.clone().map(|one| match one.is_reentrant {
            true => format!("{} on all shards", one.name),
            false => one.name.to_owned(),
        });
        let json = each.map(|one| {
            json!({
                "name": one.name,
                "file": one.file,
                "reentrant": one.is_reentrant,
                "packets": one.names().iter().map(|name| printable(name)).collect::<Vec<_>>(),
            })
        });
        ready::More {
            key: "modules",
            words: Some(format!("modules {}", words.collect::<Vec<_>>().join(", "))),
            json: json.collect(),
        }
    }

    /// Files that were named for `modules`.
    pub(super) fn more_of_files(modules: Option<&Self>) -> ready::More {
        let opened = modules.map(|modules| &modules.opened);
        ready::More {
            key: "module_files",
            words: opened.and_then(Opened::words),
            json: opened.map_or(serde_json::Value::Null, Opened::json),
        }
    }

    /// The same where there are none.
    pub(super) fn none() -> ready::More {
        ready::More {
            key: "modules",
            words: None,
            json: json!([]),
        }
    }

    /// What callbacks of this run came to so far, module by module.
    pub(super) fn counts(&self) -> Vec<metrics::Module> {
        let counts = self.each.iter().map(|one| metrics::Module {
            name: one.name.to_owned(),
            callbacks: one.care.counts.totals(),
        });
        counts.collect()
    }

    /// What scripts may call.
    pub(super) fn functions(&self) -> ModuleFunctions {
        ModuleFunctions::new(&self.modules, |name| {
            let mut named = self.each.iter().filter(|one| one.name == name);
            let one = named.next().expect("each module is one of them");
            Terms {
                is_reentrant: one.is_reentrant,
                care: one.care.clone(),
            }
        })
    }

    /// All shards have ended, and the code of the modules runs on this thread from now on; `false` where one does not end.
    pub(super) fn come_back(&self) -> bool {
        // Nobody gets a new one any more. The fence sees what was done before the last of them was dropped.
        let is_over = Arc::strong_count(&self.presence) == 1;
        fence(Ordering::Acquire);
        // Who is still inside although its shard has ended is a thread of the module's own, which nobody waits for.
        is_over
            && self
                .each
                .iter()
                .all(|one| self.modules.move_here(one.id).is_ok())
    }

    /// Looks after modules until it is dropped, while [`News`] cannot: on the threads that begin.
    pub(super) fn lookout(&self) -> Lookout {
        Lookout::start(&self.stop)
    }

    /// The same at the end: whoever asked for this end waits for it; who asks again does not want to.
    pub(super) fn last_lookout(&self) -> Lookout {
        // Of several ends, such as that of the routes and that of the modules, only the first is what was asked for.
        if !self.is_ending.swap(true, Ordering::Relaxed) {
            self.stop.store(false, Ordering::Relaxed);
        }
        Lookout::start_last(&self.stop)
    }

    /// Has what modules send leave from ports of the kernel's choice from now on: somebody else goes on with the sockets, and what we
    /// held of them would keep them open when he closes them.
    pub(super) fn send_from_nowhere(&self) {
        bin::send_from(Vec::new());
    }
}

/// Looks after the modules of `settings` until it is dropped, if there are any: one that does not return is named, and keeps nobody
/// from ending the process who sets `stop`.
pub(super) fn look_out(settings: &Settings, stop: &Arc<AtomicBool>) -> Option<Lookout> {
    (!settings.libraries.is_empty()).then(|| Lookout::start(stop))
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Whoever has one yet did not end and may be inside a module: it goes on until the process ends, and nobody else may run
        // code of modules. `get_mut` sees what was done before the last of them was dropped.
        if Arc::get_mut(&mut self.presence).is_some() {
            let _lookout = self.last_lookout();
            self.modules.destroy();
        }
    }
}

impl One {
    /// On the thread of a shard that runs its code. Threads that are started again have a `child_init` of a reentrant module
    /// again, whose threads each have handles of their own; one that expects a process would not expect a second.
    fn begin(
        &self,
        modules: &Modules,
        shard: ShardId,
        settings: &Settings,
    ) -> Result<(), NoBeginning> {
        let at = |why: String| self.at.problem(why).to_string();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *begun, true) && !self.is_reentrant {
            // The thread that the shard had before is over.
            let moved = modules.move_here(self.id);
            return moved.map_err(|error| at(error.to_string()).into());
        }
        let registered = modules.child_init(self.id, PROC_BIN);
        let registered = registered.map_err(|error| at(error.to_string()))?;
        for registration in &registered {
            may_take(&printable(&registration.name), self.name, settings).map_err(at)?;
        }
        self.late().add(shard, registered);
        Ok(())
    }

    /// What `mod_init` registered.
    fn initial(&self) -> Vec<Entry> {
        let each = self.registrations.iter().cloned();
        each.map(Entry::everywhere).collect()
    }

    /// All that `child_init` registered so far, which a new engine has from now on.
    fn known(&self) -> Vec<Entry> {
        self.behind_initial(self.late().all())
    }

    /// What the engine does not have yet, and has from now on.
    fn news(&self) -> Vec<Entry> {
        self.behind_initial(self.late().news())
    }

    fn behind_initial(&self, late: Vec<Entry>) -> Vec<Entry> {
        let each = late.into_iter();
        each.map(|each| each.behind(&self.registrations)).collect()
    }

    /// The names of all that it registered so far.
    fn names(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = self
            .registrations
            .iter()
            .map(|each| each.name.to_vec())
            .collect();
        names.extend(self.late().names());
        names
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn named(named: &Named, setting: &str, what: &str, missing: &str) -> Self {
        let message = format!("{setting}: no {what} {:?} {missing}", named.name);
        Self::Config(named.at.problem(message).to_string())
    }
}

/// Everything that statements say, in their order; and where each module's `loadmodule` stands, by its number.
fn load(libraries: &Libraries) -> Result<(Modules, Vec<Excerpt>), Refused> {
    let mut loader = Loader::new(Options {
        vouched: libraries.trusted_dir.clone(),
        reentrant: libraries
            .reentrant
            .iter()
            .map(|each| each.name.clone())
            .collect(),
        ..Options::default()
    });
    let mut places = Vec::new();
    for statement in &libraries.statements {
        let wrong = match statement {
            LibraryStatement::Load {
                mpath,
                written,
                near,
                at,
            } => {
                let loaded = loader.load(mpath.as_deref(), written);
                places.push(at.clone());
                let near = near.map_or_else(String::new, |part| {
                    format!("\n  did you mean the built-in \"{part}\"?")
                });
                loaded
                    .map_err(|error| at.problem(format!("{error}{near}")))
                    .err()
            }
            LibraryStatement::Param {
                pattern,
                name,
                value,
                is_theirs,
                at,
            } => {
                let value = match value {
                    config::Value::Int(value) => Value::Int(*value),
                    config::Value::Text(text) => Value::Text(text.clone().into_bytes()),
                };
                match loader.modparam(pattern, name, &value) {
                    Err(ParamError::NoModule { .. }) if !is_theirs => None,
                    set => set.map_err(|error| at.problem(error.to_string())).err(),
                }
            }
        };
        if let Some(problem) = wrong {
            return Err(Refused::Config(problem.to_string()));
        }
    }
    Ok((loader.finish(), places))
}

/// Whether `module` may have the packets of `name`; if not, why, and what to do.
fn may_take(name: &str, module: &str, settings: &Settings) -> Result<(), String> {
    let registers = format!("module {module} registers packets named {name:?}");
    if cluster::keeps(&settings.clusters, name) {
        return Err(format!(
            "{registers}, which a cluster of this configuration keeps\n  leave the module out, or what the clusters have of that name"
        ));
    }
    if settings.probe.iter().any(|probed| probed == name) {
        return Err(format!(
            "{registers}, which are measured\n  leave the module out, or take the name out of modparam(\"binrush\", \"probe\", ...)"
        ));
    }
    let overrides = &settings.libraries.overrides;
    if settings.has_module(name) && overrides.iter().all(|each| each.name != name) {
        return Err(format!(
            "{registers}, which a built-in part takes\n  modparam(\"binrush\", \"override\", {name:?}) gives them to the module; or \
             leave the built-in part out"
        ));
    }
    Ok(())
}

/// How many this process has.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// As settings name it.
fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// What the callbacks of one came to, in a line of the totals.
pub(super) fn line(module: &metrics::Module) -> String {
    let CallbackTotals {
        calls,
        misread,
        over_budget,
        not_called,
        functions,
        functions_over_budget,
        longest,
    } = module.callbacks;
    let mut line = format!("module {}: {}", module.name, counted(calls, "callback"));
    for (what, count) in [
        ("misread", misread),
        ("over budget", over_budget),
        ("not called", not_called),
        ("function calls", functions),
        ("of them over budget", functions_over_budget),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if !longest.is_zero() {
        line.push_str(&format!(", the longest {longest:?}"));
    }
    line
}

/// The same as JSON.
pub(super) fn json(modules: &[metrics::Module]) -> serde_json::Value {
    let each = modules.iter().map(|module| {
        let callbacks = module.callbacks;
        json!({
            "name": module.name,
            "calls": callbacks.calls,
            "misread": callbacks.misread,
            "over_budget": callbacks.over_budget,
            "not_called": callbacks.not_called,
            "functions": callbacks.functions,
            "functions_over_budget": callbacks.functions_over_budget,
            "longest_ns": u64::try_from(callbacks.longest.as_nanos()).unwrap_or(u64::MAX),
        })
    });
    each.collect()
}

/// The shard that runs all code of modules that are not reentrant.
pub(super) const HOME: ShardId = ShardId(0);

#[cfg(test)]
mod tests;
