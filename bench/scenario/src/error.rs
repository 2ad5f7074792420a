//! What is wrong with a scenario, told so that it can be put right.

use std::fmt;

pub use crate::text::{Place, Problem};

/// A scenario that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Its text: at least one problem, at most [`PROBLEMS_MAX`], in the order of the text. Displayed, each is
    /// `file:line:column: what is wrong, and what was expected`, with the line and a mark below it.
    #[error("{}", Listed(.0))]
    Text(Vec<Problem>),
    /// It is neither shipped nor a file.
    #[error(
        "there is no scenario and no file {name}{nearest}; shipped are {}",
        shipped()
    )]
    Unknown {
        /// What was asked for, in quotes.
        name: String,
        /// `; did you mean "..."?`, or nothing.
        nearest: String,
    },
    /// Its file cannot be read.
    #[error("cannot read the scenario {path}: {why}")]
    Unreadable {
        /// As it was named.
        path: String,
        /// In the words of the system, or what is wrong with the file as a whole.
        why: String,
    },
    /// A value of a scenario that was not read from a text.
    #[error("{what} must be {expected}")]
    Value {
        /// Which one.
        what: &'static str,
        /// Its range, and the value it has.
        expected: String,
    },
}

/// Problems, one below the other.
struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.0.len() == PROBLEMS_MAX {
            write!(f, "\nthere may be more: these are the first {PROBLEMS_MAX}")?;
        }
        Ok(())
    }
}

/// Names of the scenarios that are part of the program.
fn shipped() -> String {
    crate::BUILTIN.map(|(name, _)| name).join(", ")
}

/// A text with more problems than this is of another kind, or begins with the wrong line.
pub const PROBLEMS_MAX: usize = 20;
