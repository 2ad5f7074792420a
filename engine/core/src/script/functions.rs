//! What scripts may call: functions of modules, and what the process does for them.

use super::scene::Scene;
use super::{Kind, Level};
use crate::event::Param;

/// What modules export to scripts.
///
/// A function is found by its name, its exact number of parameters and the kind of the route it is called in, as in OpenSIPS
/// (1.11 `sr_module.c`, `find_cmd_export_t`): two may have one name and different numbers.
///
/// Shared by all threads that run a program. Which of them may call what at one time is the host's to see to:
/// [`Program::homes`](super::Program::homes) tells what a route can reach.
pub trait Functions: Send + Sync {
    /// The function of `name` with `count` parameters that may be called in a route of `kind`.
    ///
    /// # Errors
    /// Why there is none.
    fn resolve(&self, name: &str, count: usize, kind: Kind) -> Result<FunctionId, Unresolved>;

    /// All names, for suggestions.
    fn names(&self) -> Vec<String>;

    /// Prepares a call with these parameters, once for each place that calls `function`, at start and in the order of the
    /// text.
    ///
    /// # Errors
    /// What is wrong with the parameters, for whoever wrote them.
    fn prepare(&self, function: FunctionId, params: &[String])
    -> Result<Box<dyn Prepared>, String>;

    /// The module that the function is of, if its functions may be called on one thread only.
    fn home(&self, function: FunctionId) -> Option<&str>;
}

/// A function's number; [`Functions`] gives it its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// A place that calls a function, its parameters prepared. Dropping it takes back what preparing it did.
pub trait Prepared: Send + Sync {
    /// Calls the function. 0 ends the whole script, more is true, less is false.
    fn call(&self, scene: &Scene<'_>) -> i32;
}

/// Why there is no such function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// None of this name.
    Unknown,
    /// It takes other numbers of parameters: these.
    Count(Vec<usize>),
    /// It may be called in routes of these kinds only.
    Route(Vec<Kind>),
}

/// What the process does for scripts. Called by shards, so nothing of it may block; [`subscribe`](Self::subscribe) alone, which is
/// rare, may wait while somebody else looks at subscriptions.
pub trait Host: Send + Sync {
    /// Whether lines of this level are wanted: those that are not are not even made.
    fn wants(&self, level: Level) -> bool;

    /// Takes a line. May drop it when too many come, and counts that.
    fn log(&self, level: Level, text: &str);

    /// Raises the event `name`, which is the one at `index` of [`Program::raised`](super::Program::raised): for its subscribers, and for
    /// its `event_route`, if there are any. Negative: there is no room for it.
    fn raise(&self, index: usize, name: &str, params: &[Param<'_>]) -> i32;

    /// Sends an event to `socket` from now on, for `expire` seconds or for ever. Negative: it is not possible, which it has said why.
    fn subscribe(&self, event: &str, socket: &str, expire: Option<u32>) -> i32;
}

/// No module has any.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn resolve(&self, _: &str, _: usize, _: Kind) -> Result<FunctionId, Unresolved> {
        Err(Unresolved::Unknown)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn prepare(&self, _: FunctionId, _: &[String]) -> Result<Box<dyn Prepared>, String> {
        Err("there are no functions".to_owned())
    }

    fn home(&self, _: FunctionId) -> Option<&str> {
        None
    }
}
