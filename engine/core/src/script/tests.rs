//! Programs: what they call, what they say, how they end; and why others do not start.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::event::{Param, Value};

/// Which functions there are, in which routes, and how they are prepared and freed.
mod linking;
/// Whole scripts, each with what it calls and says.
mod programs;
/// What is refused, each with its place.
mod refused;
/// Routes on shards: packets, timers, events.
mod shards;

/// A module of functions that write down how they are used. What `f("x", ...)` returns is said by its name: `yes` 1, `no` -1,
/// `end` 0, `two` 2. All take no time but `slow`, which takes [`SLOW_NS`].
#[derive(Debug, Default)]
pub(super) struct Double {
    pub(super) notes: Arc<Mutex<Vec<String>>>,
    /// How many calls were asked for.
    asked: AtomicU32,
    /// Passes by what its functions do.
    pub(super) now_ns: Arc<AtomicU64>,
}

/// A call of one of its functions.
struct Site {
    notes: Arc<Mutex<Vec<String>>>,
    now_ns: Arc<AtomicU64>,
    function: usize,
    number: u32,
}

/// Name, numbers of parameters, kinds of routes, home, what it returns.
type Exported = (
    &'static str,
    &'static [usize],
    &'static [Kind],
    Option<&'static str>,
    i32,
);

const EXPORTED: [Exported; 9] = [
    ("yes", &[0, 1, 2, 6], &Kind::ALL, None, 1),
    ("no", &[0, 1], &Kind::ALL, None, -1),
    ("end", &[0, 1], &Kind::ALL, None, 0),
    ("two", &[0], &Kind::ALL, None, 2),
    ("slow", &[0], &Kind::ALL, None, 1),
    ("in_request", &[1], &[Kind::Request], Some("old"), 1),
    (
        "in_timer",
        &[0],
        &[Kind::Timer, Kind::Startup],
        Some("older"),
        1,
    ),
    ("nowhere", &[0], &[], None, 1),
    ("bound", &[0], &Kind::ALL, Some("old"), 1),
];

impl Double {
    pub(super) fn note(&self, text: impl Into<String>) {
        self.notes.lock().unwrap().push(text.into());
    }

    pub(super) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap())
    }
}

impl Functions for Double {
    fn resolve(&self, name: &str, count: usize, kind: Kind) -> Result<FunctionId, Unresolved> {
        let found = EXPORTED.iter().position(|each| each.0 == name);
        let index = found.ok_or(Unresolved::Unknown)?;
        let (_, counts, kinds, ..) = EXPORTED[index];
        if !counts.contains(&count) {
            return Err(Unresolved::Count(counts.to_vec()));
        }
        if !kinds.contains(&kind) {
            return Err(Unresolved::Route(kinds.to_vec()));
        }
        Ok(FunctionId(u32::try_from(index).unwrap()))
    }

    fn names(&self) -> Vec<String> {
        EXPORTED.map(|each| each.0.to_owned()).into()
    }

    fn prepare(
        &self,
        function: FunctionId,
        params: &[String],
    ) -> Result<Box<dyn Prepared>, String> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        if params.iter().any(|param| param == "bad") {
            return Err("\"bad\" is not what it takes".to_owned());
        }
        let function = function.0 as usize;
        let name = EXPORTED[function].0;
        self.note(format!("fixup {name} {number} {params:?}"));
        let notes = Arc::clone(&self.notes);
        Ok(Box::new(Site {
            notes,
            now_ns: Arc::clone(&self.now_ns),
            function,
            number,
        }))
    }

    fn home(&self, function: FunctionId) -> Option<&str> {
        EXPORTED[function.0 as usize].3
    }
}

impl Prepared for Site {
    fn call(&self, _: &Scene<'_>) -> i32 {
        let (name, .., code) = EXPORTED[self.function];
        self.note(name);
        if name == "slow" {
            self.now_ns.fetch_add(SLOW_NS, Ordering::Relaxed);
        }
        code
    }
}

impl Site {
    fn note(&self, what: &str) {
        let note = format!("{what} {}", self.number);
        self.notes.lock().unwrap().push(note);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.note(&format!("free {}", EXPORTED[self.function].0));
    }
}

impl Host for Double {
    fn wants(&self, level: Level) -> bool {
        level < Level::Debug
    }

    fn log(&self, level: Level, text: &str) {
        self.note(format!("{level}: {text}"));
    }

    fn raise(&self, index: usize, event: &str, params: &[Param<'_>]) -> i32 {
        let said = params.iter().map(|param| {
            let name = param.name.as_deref().unwrap_or_default().escape_ascii();
            match &param.value {
                Value::Int(value) => format!(" {name}={value}"),
                Value::Str(text) => format!(" {name}='{}'", text.escape_ascii()),
                Value::Null => format!(" {name}=null"),
            }
        });
        let said: String = said.collect();
        self.note(format!("raise {index} {event}{said}"));
        if event == "E_FULL" { -1 } else { 1 }
    }

    fn subscribe(&self, event: &str, socket: &str, expire: Option<u32>) -> i32 {
        self.note(format!("subscribe {event} {socket} {expire:?}"));
        1
    }
}

/// What `slow` takes: a turn has time for one of them and part of another one.
const SLOW_NS: u64 = 150_000;

/// The script of a text, and the warnings about it.
pub(super) fn read(text: &str) -> Result<(Script, Vec<String>), String> {
    let read = Script::read(Path::new("a.cfg"), text.into());
    let (script, warnings) = read.map_err(|error| error.to_string())?;
    let warnings = warnings.iter().map(ToString::to_string);
    Ok((script, warnings.collect()))
}

/// The program of a text, for a module that writes down what happens; what its calls were prepared with is forgotten.
#[track_caller]
pub(super) fn program(text: &str) -> (Program, Arc<Double>) {
    let (script, _) = read(text).unwrap_or_else(|error| panic!("{error}"));
    let double = Arc::new(Double::default());
    let program = Program::link(&script, Arc::clone(&double) as _);
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    double.taken();
    (program, double)
}
