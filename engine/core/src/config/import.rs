//! A configuration of OpenSIPS, as operators have it in production, to one of ours.
//!
//! The file of a live node is mostly script and parameters of modules that are no business of a standby. What is about BIN
//! (listeners, clusters, what is replicated), what records refer to (SIP sockets) and what says how much is to be expected
//! (workers, connections) is kept; everything else is told, each with its place and why.
//!
//! ```text
//!  opensips.cfg ─▶ reading: never gives up ─▶ Draft: kept or left out ─▶ standby: whose place ─▶ text ─▶ check
//!                                                     ▲                                                    │
//!                                                     └────────── what is refused is left out, too ────────┘
//! ```
//!
//! The result is a configuration that [`Config::read`](super::Config::read) takes: it was asked. Reading is a pure function of
//! the files, and takes no more than a bounded amount of memory and time whatever is in them.
//!
//! ```
//! use std::collections::HashMap;
//! use std::path::Path;
//!
//! use binrush_engine::config::{ImportOptions, import};
//!
//! let text = r#"
//!     listen = udp:192.0.2.1:5060
//!     bin_listen = 192.0.2.1:5566
//!     loadmodule "tm.so"
//!     loadmodule "dialog.so"
//!     modparam("dialog", "accept_replicated_dialogs", 1)
//!     route { t_relay(); }
//! "#;
//! let files = HashMap::from([("opensips.cfg".into(), text.into())]);
//! let imported = import(Path::new("opensips.cfg"), &files, &ImportOptions::default())?;
//! assert!(imported.config.contains("bin_listen = 192.0.2.1:5566"));
//! let left_out: Vec<_> = imported.left_out.iter().map(|each| &each.what[..]).collect();
//! assert_eq!(left_out, ["loadmodule \"tm.so\"", "route"]);
//! # Ok::<(), binrush_engine::config::ImportError>(())
//! ```

use std::path::Path;

use super::listener::Endpoint;
use super::source::{Place, ReadFile};
use draft::Draft;

/// What the files do not say.
mod decide;
/// What is kept so far.
mod draft;
/// Which parameters mean something here.
mod meaning;
/// Files to statements, whatever is in them.
mod reading;
/// Whose place it is.
mod standby;
/// The result, as it is written.
mod text;

/// What the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Where to listen, in place of the node's own addresses; empty: there.
    pub listen: Vec<Endpoint>,
    /// The id of this node in its clusters. The node of the file becomes its neighbour when that has another.
    pub node: Option<i32>,
}

/// A configuration of ours, and what became of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of the configuration. Comments say what is to be decided, where each statement comes from, and what was left
    /// out.
    pub config: String,
    /// Its statements, in their order.
    pub kept: Vec<Kept>,
    /// What is not in it, by place; at most 1000.
    pub left_out: Vec<LeftOut>,
    /// How many more were left out.
    pub left_out_more: usize,
    /// What somebody has to decide or to look at before this may serve, in sentences.
    pub decide: Vec<String>,
}

/// A statement of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As our configuration has it, on one line.
    pub text: String,
    /// Where it comes from; `None` when the file did not say it.
    pub place: Option<Place>,
}

/// A statement that is not in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stands.
    pub place: Place,
    /// What it is: bounded, safe to print, without values that may be secret.
    pub what: String,
    /// Why.
    pub reason: Reason,
    /// What is wrong or missing in particular.
    pub detail: Option<String>,
}

/// Why something is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It cannot be read.
    Broken,
    /// It stands for something that is not in these files.
    Unresolved,
    /// A configuration of ours would be refused with it.
    Refused,
    /// Something else takes its place.
    Replaced,
    /// No parameter and no statement of this name is known.
    Unknown,
    /// It is about an address that no packet of records names.
    Socket,
    /// A parameter of a built-in part that decides nothing here.
    Parameter,
    /// A parameter outside of modules that decides nothing here.
    Global,
    /// A module that is no built-in part, and what is set about it.
    Module,
    /// A block of the script.
    Route,
}

/// There is no result at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The first file.
    #[error("{file} cannot be read: {error}")]
    Unreadable {
        /// As it was named.
        file: String,
        /// What hinders it.
        error: String,
    },
    /// It is no configuration.
    #[error("{file} is larger than {max} bytes: a configuration of OpenSIPS expected")]
    TooLarge {
        /// As it was named.
        file: String,
        /// What is taken.
        max: u64,
    },
    /// [`ImportOptions::node`] is no node of the file, so that nobody knows where it listens.
    #[error(
        "--node {node}: no neighbour of the file has this id, so it does not say where that node listens: add `--listen \
         bin:IP:PORT`"
    )]
    NoAddress {
        /// The id.
        node: i32,
    },
    /// [`ImportOptions::node`] where there are no clusters.
    #[error("--node {node}: this file is of no cluster, so nodes have no ids: leave it out")]
    NoCluster {
        /// The id.
        node: i32,
    },
    /// What was asked for fits no configuration.
    #[error("with what the command line says this is no configuration: {0}")]
    Impossible(String),
}

/// Reads the file at `path` and those that it includes, whose names count from the folder of the including one, and makes a
/// configuration of ours of them.
///
/// # Errors
/// The first file is not there, or what `options` want fits nothing in it. Whatever else is wrong is left out and told.
pub fn import(
    path: &Path,
    files: &impl ReadFile,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let mut draft = Draft::default();
    reading::read(path, files, &mut draft)?;
    standby::stand(&mut draft, options)?;
    text::write(path, draft, options)
}

impl Reason {
    /// All of them, what is to be looked at first.
    pub const ALL: [Self; 10] = [
        Self::Broken,
        Self::Unresolved,
        Self::Refused,
        Self::Replaced,
        Self::Unknown,
        Self::Socket,
        Self::Parameter,
        Self::Global,
        Self::Module,
        Self::Route,
    ];

    /// For tools.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
            Self::Socket => "socket",
            Self::Parameter => "parameter",
            Self::Global => "global",
            Self::Module => "module",
            Self::Route => "route",
        }
    }

    /// For people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Broken => "this cannot be read",
            Self::Unresolved => "this stands for something that is not in these files",
            Self::Refused => "`binrush check` refuses this",
            Self::Replaced => "something else takes its place",
            Self::Unknown => "no parameter of this name is known, in any release",
            Self::Socket => "no record names such a socket",
            Self::Parameter => "these decide nothing here",
            Self::Global => {
                "these are about SIP, processes, memory or logs, which decide nothing here"
            }
            Self::Module => "these modules are no part of binrush, and nothing of them is needed",
            Self::Route => {
                "routes about calls are not taken along: binrush routes no calls, and runs only routes about BIN packets"
            }
        }
    }
}

#[cfg(test)]
mod tests;
