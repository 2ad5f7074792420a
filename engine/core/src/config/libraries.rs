//! Modules that are not built in: shared libraries, and what is set about them.
//!
//! What a library is called stands in it, and nothing is opened here. So a `modparam` that may be for one is kept as it is written;
//! whoever loads them finds out.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::modules::Part;
use super::source::{Excerpt, Place};
use super::syntax::Value;

/// What a configuration says of shared libraries. Plain data: nothing was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libraries {
    /// `loadmodule` and `modparam` in the order of the text, which is the order in which they count.
    pub statements: Vec<LibraryStatement>,
    /// Names of packets that modules may take from built-in parts, and where that is said.
    pub overrides: Vec<Named>,
    /// Modules whose code may run on all shards at once.
    pub reentrant: Vec<Named>,
    /// Files and folders that modules read after they were confined: absolute.
    pub reads: Vec<Placed>,
    /// Those that they write to, likewise.
    pub writes: Vec<Placed>,
    /// Whether a packet's memory is overwritten when a callback has returned.
    pub poison: bool,
    /// A callback that takes longer is counted and told of; `None`: nobody looks.
    pub callback_budget: Option<Duration>,
    /// A folder that whoever wrote the configuration vouches for: it and those above it may belong to anybody.
    pub trusted_dir: Option<PathBuf>,
}

/// One statement about shared libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LibraryStatement {
    /// `loadmodule`.
    Load {
        /// `mpath` at this line.
        mpath: Option<String>,
        /// As it is written.
        written: String,
        /// A built-in part that may be meant.
        near: Option<Part>,
        /// Where it stands.
        at: Excerpt,
    },
    /// `modparam`.
    Param {
        /// An expression for the names of modules.
        pattern: String,
        /// Of the parameter.
        name: String,
        /// What it is set to.
        value: Value,
        /// One of the libraries above has to be meant: no built-in part is.
        is_theirs: bool,
        /// Where the expression stands.
        at: Excerpt,
    },
}

/// A name in a setting, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The value that it stands in.
    pub at: Excerpt,
}

/// A path in a setting, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The path.
    pub path: PathBuf,
    /// The value that it is.
    pub at: Excerpt,
}

impl Default for Libraries {
    fn default() -> Self {
        Self {
            statements: Vec::new(),
            overrides: Vec::new(),
            reentrant: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            poison: false,
            callback_budget: Some(CALLBACK_BUDGET),
            trusted_dir: None,
        }
    }
}

impl Libraries {
    /// Whether the same is said at whatever place.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let statements = |libraries: &Self| -> Vec<_> {
            let each = libraries.statements.iter().cloned();
            each.map(|each| match each {
                LibraryStatement::Load { mpath, written, .. } => (mpath, written, None),
                LibraryStatement::Param {
                    pattern,
                    name,
                    value,
                    ..
                } => (None, pattern, Some((name, value))),
            })
            .collect()
        };
        let names = |of: &[Named]| -> Vec<_> { of.iter().map(|each| each.name.clone()).collect() };
        let paths = |of: &[Placed]| -> Vec<_> { of.iter().map(|each| each.path.clone()).collect() };
        let rest = |libraries: &Self| {
            (
                names(&libraries.overrides),
                names(&libraries.reentrant),
                paths(&libraries.reads),
                paths(&libraries.writes),
                libraries.poison,
                libraries.callback_budget,
                libraries.trusted_dir.clone(),
            )
        };
        statements(self) == statements(other) && rest(self) == rest(other)
    }

    /// Whether the code of `module` may run on all shards at once.
    #[must_use]
    pub fn is_reentrant(&self, module: &str) -> bool {
        self.reentrant.iter().any(|each| each.name == module)
    }

    /// Whether none is to be loaded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.loads().next().is_none()
    }

    /// What is to be loaded, as it is written, and where.
    pub fn loads(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.statements.iter().filter_map(|each| match each {
            LibraryStatement::Load { written, at, .. } => Some((&written[..], &at.place)),
            LibraryStatement::Param { .. } => None,
        })
    }

    /// What parameters are set to, and where.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str, &Value, &Place)> {
        self.statements.iter().filter_map(|each| match each {
            LibraryStatement::Param {
                pattern,
                name,
                value,
                at,
                ..
            } => Some((&pattern[..], &name[..], value, &at.place)),
            LibraryStatement::Load { .. } => None,
        })
    }

    /// Whether the file of one of them is called like a module that `matches`. What it is called in it may be another name.
    pub(super) fn has_file(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.loads().any(|(written, _)| matches(stem(written)))
    }
}

/// What the file of a module is called, without folders and ending.
pub(super) fn stem(written: &str) -> &str {
    let file = written.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".so").unwrap_or(file)
}

impl Excerpt {
    /// What is wrong there, as [`ConfigError`](super::ConfigError) shows it: for who finds out later.
    #[must_use]
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::at(self.clone(), message)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A shard that is busy for longer answers nothing meanwhile, and a buffer of 256 KiB holds some 300 datagrams.
const CALLBACK_BUDGET: Duration = Duration::from_millis(1);
