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
use super::variable::Variable;

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
        let reached = self.reached_from(route).into_iter();
        let called = reached.flat_map(|index| &self.called[self.routes[index].functions.clone()]);
        called
            .filter_map(|each| self.functions.home(*each))
            .collect()
    }

    /// Whether what runs for a packet can look at where that came from or arrived: by `$si` and its like, or in a function, which
    /// is shown all that is known. Whoever runs it asks for the sources of datagrams then
    /// ([`Registry::ask_sources`](crate::Registry::ask_sources)).
    #[must_use]
    pub fn wants_sources(&self) -> bool {
        let is_request = |route: &Entry| route.is_entry && route.kind == Kind::Request;
        let Some(request) = self.routes.iter().position(is_request) else {
            return false;
        };
        let mut reached = self.reached_from(request).into_iter();
        reached.any(|index| self.ops_of(index).iter().any(|op| self.looks_at_ends(*op)))
    }

    fn looks_at_ends(&self, op: Op) -> bool {
        let operand = |index: u32| match &self.operands[index as usize] {
            Operand::Variable(variable) => variable.is_of_ends(),
            Operand::Null | Operand::Int(_) | Operand::Text(_) => false,
        };
        let format = |format: &Format| format.variables().any(Variable::is_of_ends);
        match op {
            Op::Function(_) => true,
            Op::Log(index) => format(&self.logs[index as usize].text),
            Op::Raise(index) => {
                let params = self.raises[index as usize].params.iter();
                let mut told = params.map(|(_, told)| told);
                told.any(|told| match told {
                    Told::Operand(at) => operand(*at),
                    Told::Bytes(text) => format(text),
                })
            }
            Op::Set { operand: at, .. } | Op::Truth { operand: at, .. } | Op::CodeOf(at) => {
                operand(at)
            }
            Op::Compare(index) => {
                let compare = &self.compares[index as usize];
                operand(compare.left) || operand(compare.right)
            }
            Op::Enter(_)
            | Op::Subscribe(_)
            | Op::Branch { .. }
            | Op::Jump(_)
            | Op::Code(_)
            | Op::Leave
            | Op::Exit
            | Op::Drop => false,
        }
    }

    /// The instructions of a route, which stand up to the next one.
    fn ops_of(&self, route: usize) -> &[Op] {
        let next = self.routes.get(route + 1);
        let end = next.map_or(self.ops.len(), |next| next.at as usize);
        &self.ops[self.routes[route].at as usize..end]
    }

    /// A route, and those that it can call, by themselves or each other.
    fn reached_from(&self, route: usize) -> BTreeSet<usize> {
        let (mut seen, mut open) = (BTreeSet::from([route]), vec![route]);
        while let Some(index) = open.pop() {
            let calls = self.routes[index].calls.iter();
            open.extend(calls.filter(|called| seen.insert(**called)));
        }
        seen
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
