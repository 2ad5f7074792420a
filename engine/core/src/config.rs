//! What an operator writes, and what it means.
//!
//! The language is the operators' own, a subset of OpenSIPS's script: parameters such as `listen = bin:IP:PORT`,
//! `loadmodule` of the built-in parts, `modparam`, `include_file`, comments. Routes become a
//! [`Script`](crate::script::Script); those of SIP are skipped with a warning. What OpenSIPS has no word for is set by `modparam("binrush", ...)`.
//!
//! ```text
//!  file ─▶ Source ─▶ Lexer ─▶ Parser ─▶ Statement ─▶ Assembly ─▶ Config and warnings
//!            ▲                              │            │
//!            └───────── include_file ───────┘            └──▶ or: file:line:column, the line, what was expected
//! ```
//!
//! Nothing is guessed: an unknown name, a wrong type or a value out of range is an error, and then there is no
//! configuration at all. Reading is a pure function of the files, and takes no more than a bounded amount of memory
//! whatever is in them.
//!
//! ```
//! use std::collections::HashMap;
//! use std::path::Path;
//!
//! use binrush_engine::config::{Config, Part};
//!
//! let text = r#"
//!     listen = bin:127.0.0.1:5566
//!     loadmodule "dialog.so"
//!     modparam("dialog", "dialog_replication_cluster", 1)
//!     modparam("binrush", "shards", 2)
//! "#;
//! let files = HashMap::from([("binrush.cfg".into(), text.into())]);
//! let loaded = Config::read(Path::new("binrush.cfg"), &files)?;
//! assert_eq!(loaded.config.listeners[0].endpoint.to_string(), "bin:127.0.0.1:5566");
//! assert_eq!(loaded.config.shards.count, Some(2));
//! assert!(loaded.config.parts.contains(&Part::Dialog));
//! # Ok::<(), binrush_engine::config::ConfigError>(())
//! ```

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use binrush_store::sockets::Target;

use crate::access::{Access, Cidr};
use crate::cluster::config::ClusterConfig;
use crate::engine::{Backend, EngineConfig, Gro, Pin, StreamBackend, StreamConfig};
use crate::event::Form;
use crate::relay::TargetConfig;
use crate::script::{Level, Script};
use crate::stream::{PeerTable, StreamLimits};
use crate::tls::TlsFiles;

/// What the statements mean together.
mod assembly;
/// The clusters that this process is a node of.
mod clusters;
/// What works, and may not be meant.
mod doubts;
/// What is wrong with them.
mod error;
/// Parameters outside of modules.
mod globals;
/// Configurations of OpenSIPS to ours.
mod import;
/// Text to tokens.
mod lexer;
/// Modules that are not built in.
mod libraries;
/// What connections may cost.
mod limits;
/// Addresses to listen on.
mod listener;
/// Files to statements.
mod load;
/// The built-in parts and their parameters.
mod modules;
/// Settings of our own.
mod own;
/// What was set about the parts.
mod parameters;
/// What is not to be printed.
mod password;
/// Other nodes.
mod peers;
/// Routes.
mod script;
/// SIP sockets.
mod sockets;
/// Text and places in it.
mod source;
/// Tokens to statements.
mod syntax;
/// Certificates, keys, and who is trusted.
mod tls;
/// Words that the command line knows too.
mod values;

pub use doubts::{Doubt, doubts};
pub use error::{ConfigError, ConfigWarning, PROBLEMS_MAX, Problem, Topic};
pub(crate) use error::{did_you_mean, quoted};
pub use import::{ImportError, ImportOptions, Imported, Kept, LeftOut, Reason, import};
pub use libraries::{Libraries, LibraryStatement, Named, Placed};
pub use limits::CONNECTIONS_MAX;
pub use listener::{Endpoint, EndpointError, Listener, Protocol};
pub use modules::Part;
pub use own::EventSubscription;
pub use parameters::{Parameters, Setting};
pub use password::without_password;
pub use sockets::Sockets;
pub use source::{Disk, Excerpt, Place, ReadFile};
pub use syntax::Value;
pub use tls::{tls_domain_for, tls_needed};
pub use values::{Allowed, AllowedError, PinError, RCVBUF_MAX, STATS_MAX};

/// What a configuration means. Plain data: it holds no file and no socket, and what the command line says may be
/// written over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// At least one, in the order of the text; no address twice. Each of [`Protocol::Bins`] has a domain in
    /// [`tls`](Self::tls) that is for it.
    pub listeners: Vec<Listener>,
    /// Who may send. Without `allow`: this host, and the nodes that `my_node_info`, `neighbor_node_info` and the
    /// destinations of 1.x (`replicate_dialogs_to`, `replicate_contacts_to`) name by address.
    pub access: Access,
    /// How many shards, and who says so.
    pub shards: Shards,
    /// The cores of the shards.
    pub pin: Pin,
    /// Where that is set; `None` when it is not.
    pub pin_place: Option<Place>,
    /// How datagrams are taken from the kernel.
    pub backend: Backend,
    /// Receive buffer of each socket, in bytes; `None` leaves it to the engine.
    pub rcvbuf: Option<usize>,
    /// Whether the kernel may merge datagrams.
    pub gro: Gro,
    /// Datagrams per receive, 1 to 1024; `None` leaves it to the engine.
    pub batch: Option<usize>,
    /// Whether the built-in parts check each packet to its last byte.
    pub verify: bool,
    /// Where metrics are served.
    pub http: Option<SocketAddr>,
    /// Seconds between two lines of counts, 0 for none; `None` leaves it to the command line.
    pub stats: Option<u32>,
    /// Names of the packets that are measured, each once; empty: the probe is off. Never together with an
    /// [`access`](Self::access) of everybody.
    pub probe: Vec<String>,
    /// How bytes of connections are taken from the kernel.
    pub stream_backend: StreamBackend,
    /// What connections may cost.
    pub stream_limits: StreamLimits,
    /// How the streams of which sender are read.
    pub stream_peers: PeerTable,
    /// The domains of `tls_mgm` that have what they need, those of the servers in the order in which they are asked.
    /// Whether the files are there, whoever reads them finds out.
    pub tls: TlsFiles,
    /// Threads that read connections and own no records: 1 where there are [`clusters`](Self::clusters), so that no PING
    /// waits for a record, and otherwise none, unless it is set.
    pub readers: u16,
    /// The clusters that this process is a node of, by id, at most 64. Each URL of ours is that of a listener.
    pub clusters: Vec<ClusterConfig>,
    /// The path of the socket that `binrush cluster` asks at; absolute.
    pub control: Option<PathBuf>,
    /// Whether the process gives up what it does not need after its start: capabilities, and sight of files.
    pub confine: bool,
    /// How many records there may be, and what is kept of them.
    pub state: StateConfig,
    /// The SIP sockets: records of others are flagged.
    pub sockets: Arc<Sockets>,
    /// The node to which records go back: what their sockets are there, and which it has.
    pub target: Arc<Target>,
    /// Who gets the live stream on; checked by [`relay::check`](crate::relay::check).
    pub relay: Vec<TargetConfig>,
    /// Who is told of events; `None`: `event_datagram` is not on, and nobody can be.
    pub events: Option<EventsConfig>,
    /// The built-in parts that are on.
    pub parts: BTreeSet<Part>,
    /// What was set about them.
    pub parameters: Parameters,
    /// Where shared libraries are looked for, at the end of the text.
    pub mpath: Option<String>,
    /// Modules from shared libraries, which are loaded by who runs this.
    pub libraries: Libraries,
    /// The routes. Of the functions that they call each is there.
    pub script: Script,
    /// How much of what they say is wanted: lines that matter less are not made.
    pub script_log: Level,
}

/// How events are told, and to whom from the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventsConfig {
    /// Of subscriptions that say nothing of it: `compat` of `event_datagram`, `1.11` or `3.1`, which is JSON-RPC.
    pub form: Form,
    /// In the order of the text.
    pub subscriptions: Vec<EventSubscription>,
}

/// How many records there may be, and what is kept of them over the death of the process.
///
/// A *table* is what is kept of one capability of one cluster, or of one module of 1.x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The folder on a disk; `None`: records are in memory only.
    pub dir: Option<PathBuf>,
    /// A folder in memory (tmpfs), for what outlives the process and is not on the disk yet.
    pub runtime_dir: PathBuf,
    /// After a power loss, at most so much is missing.
    pub fsync_interval: Duration,
    /// Bytes, a power of two, of each table's ring on each shard: what waits there for the disk.
    pub ring_bytes: usize,
    /// Records of a table, over all shards. Beyond that new ones are refused and counted; those that are there are changed
    /// and removed as ever.
    pub records: u32,
    /// Bytes of memory of a table, over all shards; likewise. `None`: a share of what the process may have.
    pub bytes: Option<u64>,
}

impl Default for StateConfig {
    /// In memory only: 16 million records of each table, or what memory allows. With a folder: rings of 32 MiB in `/run/binrush`, to
    /// the disk every 200 ms.
    fn default() -> Self {
        Self {
            dir: None,
            runtime_dir: "/run/binrush".into(),
            fsync_interval: Duration::from_millis(200),
            ring_bytes: 32 << 20,
            records: 16 << 20,
            bytes: None,
        }
    }
}

/// How many shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shards {
    /// `None`: one for each core.
    pub count: Option<u16>,
    /// The parameter that says so, as it is written; `None` when none does.
    pub source: Option<String>,
}

/// A configuration, and what its author may not expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// In no particular order; at most 100.
    pub warnings: Vec<ConfigWarning>,
}

impl Config {
    /// Reads the file at `path` and those that it includes, whose names count from the folder of the including one.
    ///
    /// # Errors
    /// [`ConfigError`]: what is wrong, where, and what was expected.
    pub fn load(path: impl AsRef<Path>) -> Result<Loaded, ConfigError> {
        Self::read(path.as_ref(), &Disk)
    }

    /// [`load`](Self::load), but from `files`.
    ///
    /// # Errors
    /// As `load`.
    pub fn read(path: &Path, files: &impl ReadFile) -> Result<Loaded, ConfigError> {
        load::load(path, files)
    }

    /// What the engine is to be told: where to listen, and all else that it understands. Of the domains of `tls_mgm` it
    /// gets those that a listener needs.
    #[must_use]
    pub fn engine(&self) -> EngineConfig {
        let defaults = EngineConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listen_tls = self.addrs(|each| each.endpoint.protocol == Protocol::Bins);
        let tls = tls_needed(&self.tls, &listen_tls);
        let neighbours = self.clusters.iter().flat_map(|each| &each.neighbours);
        let neighbours = neighbours.map(|node| Cidr::from(node.url.addr.ip()));
        let learned = self
            .clusters
            .iter()
            .flat_map(|each| each.learn.iter().copied());
        EngineConfig {
            listen: self.addrs(|each| each.endpoint.protocol == Protocol::Bin),
            access: self.access.clone(),
            shards: self.shards.count,
            seed: None,
            readers: self.readers,
            pin: self.pin.clone(),
            backend: self.backend,
            rcvbuf: self.rcvbuf.unwrap_or(defaults.rcvbuf),
            gro: self.gro,
            batch: self.batch.unwrap_or(defaults.batch),
            streams: StreamConfig {
                listen: self
                    .addrs(|each| each.endpoint.protocol == Protocol::Bin && !each.datagrams_only),
                listen_tls,
                backend: self.stream_backend,
                limits: self.stream_limits.clone(),
                peers: self.stream_peers.clone(),
                nodes: neighbours.chain(learned).collect(),
                tls,
            },
        }
    }

    /// Whether the records that nodes before 2.4 replicate of `part` are kept: where there is no cluster, or where they are
    /// accepted from such nodes. Without [`verify`](Self::verify) nobody reads their packets.
    #[must_use]
    pub fn keeps_legacy(&self, part: Part) -> bool {
        let accepts = match part {
            Part::Dialog => "accept_replicated_dialogs",
            Part::Usrloc => "accept_replicated_contacts",
            Part::Ratelimit => "accept_pipes_from",
            _ => return false,
        };
        let accepts = self.parameters.int(part, accepts);
        self.verify
            && self.parts.contains(&part)
            && (self.clusters.is_empty() || accepts.is_some_and(|accepts| accepts != 0))
    }

    /// Whether nothing is done with the packets of `part` but to read and count them: no records of it are kept.
    #[must_use]
    pub fn is_counted_only(&self, part: Part) -> bool {
        let mut kept = self.clusters.iter().flat_map(|each| &each.capabilities);
        match part {
            Part::Clusterer => self.clusters.is_empty(),
            part if self.keeps_legacy(part) => false,
            part => part.is_counted_only() && !kept.any(|kept| clusters::is_of(&kept.name, part)),
        }
    }

    fn addrs(&self, wanted: impl Fn(&Listener) -> bool) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().filter(|each| wanted(each));
        listeners.map(|each| each.endpoint.addr).collect()
    }
}

/// Files in memory, by their path.
impl ReadFile for HashMap<PathBuf, Vec<u8>> {
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let bytes = self.get(path).ok_or(io::ErrorKind::NotFound)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(bytes[..bytes.len().min(most)].to_vec())
    }
}

#[cfg(test)]
mod tests;
