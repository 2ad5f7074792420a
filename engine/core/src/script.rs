//! Routing scripts: what is done for a packet before its handler, at start, from time to time, and when something happens.
//!
//! ```text
//!   config ─▶ Script: routes as written ─▶ Program::link: functions found, calls prepared ─▶ Program, immutable
//!                                                     Functions ┘                              │ Arc
//!   startup_route ◀── Scripts::startup, before anything comes                                ├─▶ Runner of each shard
//!   route         ◀── Front::admits, for each packet in front of its handler                   │   (registers, nothing shared)
//!   timer_route, event_route ◀── Front::turn of one shard, between two batches ◀── Events        │ Host: raise_event
//!                                                                                    └─ event::Bus ◀┴─ modules, stores, clusters
//! ```
//!
//! The language is the operators' own, a subset of OpenSIPS's: blocks, calls, `if` on what they return, `$var`, and what a packet says
//! of itself ([`Script`](crate::script::Script) has the grammar). What it does is what OpenSIPS 1.11 does (`action.c`, `route.c`):
//!
//! - A function returns a number: 0 ends the whole script, more is true, less is false. `$rc` is the last one. Behind an `if` that did
//!   nothing it is 1 or 0, as its condition was, and -1 where that had no answer.
//! - A route returns what its `return` says, or what it did last returned. `return(0)` ends the whole script, as `exit` does.
//! - `drop` in a request route refuses the packet, which is counted; however else the script ends, the packet goes on to its handler.
//! - `&&` and `||` bind alike, from left to right, and `!` binds more: so says `cfg.y` from 1.10 to 4.0, other than in most languages.
//! - A `$var` is null when a route begins to run for something. (There it keeps what the process put into it last.)
//!
//! - `xlog` returns 1, as from 2.4 on. (1.11 leaves -5 there.)
//!
//! Others than in OpenSIPS a function has to be one of all kinds of routes that its route is called from, not only of the block that
//! it stands in.
//!
//! A run allocates nothing, takes no lock, reads no clock, and ends: after [`STEPS_MAX`](crate::script::STEPS_MAX) steps, and no deeper than
//! [`DEPTH_MAX`](crate::script::DEPTH_MAX) calls.
//! What went wrong that way is counted, and the packet goes on. What functions do is theirs, and the [`Host`](crate::script::Host)'s is:
//!
//! - `xlog`: a copy of the line into a bounded queue without locks, in memory of lines before.
//! - `raise_event`: one load where nobody wants the event; else a copy into the thread's ring, which is made for its first.
//! - `subscribe_event`: a lock, and memory. `check` warns of it where packets come by.

use std::fmt;

/// Events on their way to routes.
mod event;
/// Texts with variables in them.
pub(crate) mod format;
/// What scripts may call.
mod functions;
/// How much a line matters.
mod level;
/// Trees to instructions.
mod link;
/// Instructions.
mod program;
/// Names to functions.
mod resolve;
/// Routes on shards.
mod routes;
/// The interpreter.
mod run;
/// What a route runs for.
mod scene;
/// A script as it was written.
pub(crate) mod tree;
/// Values while a script runs.
mod value;
/// Names behind `$`.
pub(crate) mod variable;

pub use event::{EVENT_BYTES_MAX, EVENTS_MAX, Events};
pub use functions::{FunctionId, Functions, Host, NoFunctions, Prepared, Unresolved};
pub use level::Level;
pub(crate) use link::called as called_routes;
pub use program::Program;
pub(crate) use resolve::{BUILT_IN, counted};
pub use resolve::{LinkError, Wrong};
pub use routes::{ScriptCounts, Scripts};
pub use run::{DEPTH_MAX, RAISE_PARAMS_MAX, STEPS_MAX};
pub use scene::{RunId, Scene};
pub use tree::Script;

/// When a route runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `route` for each packet, and `route[x]` where it is called.
    Request,
    /// `startup_route`, once.
    Startup,
    /// `timer_route[name, seconds]`, again and again.
    Timer,
    /// `event_route[E_NAME]`, when that is raised.
    Event,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Request, Self::Startup, Self::Timer, Self::Event];

    /// The word that its blocks begin with.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Request => "route",
            Self::Startup => "startup_route",
            Self::Timer => "timer_route",
            Self::Event => "event_route",
        }
    }

    /// The one of this [`keyword`](Self::keyword).
    #[must_use]
    pub fn named(keyword: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.keyword() == keyword)
    }

    /// Its bit in the `flags` of a C module's functions (1.11 `sr_module.h`, `REQUEST_ROUTE` and its like).
    #[must_use]
    pub const fn flag(self) -> u32 {
        match self {
            Self::Request => 1,
            Self::Startup => 64,
            Self::Timer => 128,
            Self::Event => 256,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keyword())
    }
}

#[cfg(test)]
mod tests;
