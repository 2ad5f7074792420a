//! A script as it runs: flat instructions, every name a number.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Kind;
use super::format::Format;
use super::functions::{FunctionId, Functions, Prepared};
use super::level::Level;
use super::tree::{Comparison, Operand};

/// A script whose functions are found and whose calls are prepared. Immutable; shared by all that run it.
///
/// What its calls prepared is taken back when it is dropped, which has to be before the modules are unloaded.
pub struct Program {
    pub(super) ops: Box<[Op]>,
    pub(super) operands: Box<[Operand]>,
    pub(super) compares: Box<[Compare]>,
    pub(super) logs: Box<[Log]>,
    pub(super) raises: Box<[Raise]>,
    /// The names of the events that it raises, each once.
    pub(super) raised: Box<[String]>,
    pub(super) subscribes: Box<[Subscribe]>,
    /// Calls of functions, in the order of the text, and what each calls.
    pub(super) calls: Vec<Box<dyn Prepared>>,
    pub(super) called: Box<[FunctionId]>,
    pub(super) routes: Box<[Entry]>,
    pub(super) slots: usize,
    pub(super) functions: Arc<dyn Functions>,
}

/// An instruction. *Code* is what was returned last. Targets are indices of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Calls a function; 0 ends the script.
    Function(u32),
    /// Calls a route.
    Enter(u32),
    Log(u32),
    Raise(u32),
    Subscribe(u32),
    /// `$var = operand`.
    Set {
        slot: u16,
        operand: u32,
    },
    /// Goes on by what an operand is worth.
    Truth {
        operand: u32,
        yes: u32,
        no: u32,
    },
    /// Goes on by a comparison.
    Compare(u32),
    /// Goes on by the code.
    Branch {
        yes: u32,
        no: u32,
    },
    Jump(u32),
    /// The code becomes this.
    Code(i32),
    /// The code becomes what an operand says.
    CodeOf(u32),
    /// Back to the caller; a code of 0 ends the script.
    Leave,
    Exit,
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compare {
    pub(super) left: u32,
    pub(super) how: Comparison,
    pub(super) right: u32,
    pub(super) yes: u32,
    pub(super) no: u32,
    /// Where it goes on when the two cannot be compared.
    pub(super) wrong: u32,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) level: Level,
    pub(super) text: Format,
}

#[derive(Debug)]
pub(super) struct Raise {
    /// Among the events that the program raises.
    pub(super) event: u32,
    /// Names, and what is told.
    pub(super) params: Vec<(Option<String>, Told)>,
}

#[derive(Debug)]
pub(super) enum Told {
    /// What an operand is worth.
    Operand(u32),
    /// Values side by side.
    Bytes(Format),
}

#[derive(Debug)]
pub(super) struct Subscribe {
    pub(super) event: String,
    pub(super) socket: String,
    pub(super) expire: Option<u32>,
}

/// Where a route begins, and what it is.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) name: Option<String>,
    pub(super) title: String,
    pub(super) seconds: u32,
    /// It runs without being called.
    pub(super) is_entry: bool,
    pub(super) at: u32,
    /// Routes that it calls.
    pub(super) calls: Vec<usize>,
    /// Calls of functions in it, by their place among those of the program.
    pub(super) functions: Range<usize>,
}

impl Program {
    /// The modules whose functions may run on one thread only, for each route that runs without being called: what it can
    /// reach, through the routes it calls too. Whether it ever does, depends on packets.
    ///
    /// Packets are to be handled where those modules are, if the request route can reach any.
    pub fn homes(&self) -> impl Iterator<Item = (Kind, &str, BTreeSet<&str>)> {
        let entries = self.routes.iter().enumerate();
        let entries = entries.filter(|(_, route)| route.is_entry);
        entries.map(|(index, route)| (route.kind, &*route.title, self.homes_of(index)))
    }

    /// The events that it raises, each once. A [`Host`](super::Host) is told of one by its place among these, so that it need not look
    /// for it.
    #[must_use]
    pub fn raised(&self) -> &[String] {
        &self.raised
    }

    fn homes_of(&self, route: usize) -> BTreeSet<&str> {
        let (mut seen, mut open) = (BTreeSet::from([route]), vec![route]);
        let mut homes = BTreeSet::new();
        while let Some(index) = open.pop() {
            let route = &self.routes[index];
            let called = &self.called[route.functions.clone()];
            homes.extend(called.iter().filter_map(|each| self.functions.home(*each)));
            open.extend(route.calls.iter().filter(|called| seen.insert(**called)));
        }
        homes
    }

    /// Where routes of `kind` begin that run without being called.
    pub(super) fn entries(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        let entries = self.routes.iter();
        entries.filter(move |route| route.is_entry && route.kind == kind)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Backwards: what a later call was prepared with may rest on an earlier one.
        while self.calls.pop().is_some() {}
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("routes", &self.routes)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}
