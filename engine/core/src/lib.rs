//! The loop that joins sockets and packets: receive, steer, parse, dispatch by module name, count.
//!
//! ```text
//!   RxQueue::recv ─▶ Steering ─▶ Packet::parse ─▶ Table::lookup ─▶ Handler::handle ─▶ one counter of the Ledger
//!   │                └▶ mailbox of the owner                                                               │
//!   └──────────────────────────────────── one shard = one thread = one core ───────────────────────────────┘
//! ```
//!
//! Start reading at [`shard`]. Nothing is shared on the packet path: a shard owns its queues, its frames and
//! its handlers, and is the only writer of its counters. No lock, no allocation, no log line per packet.
//!
//! What module authors know from C has its counterpart here: [`bin`] says which.
//!
//! ```
//! use binrush_engine::bin::Sender;
//! use binrush_engine::{Context, Engine, EngineConfig, Outcome, Registry, Verdict};
//! use binrush_wire::{Builder, Generation, Packet};
//!
//! let mut registry = Registry::new();
//! registry.register(b"greeting", |_shard| {
//!     |_context: &mut Context<'_>, packet: &Packet<'_>| match packet.fields().pop_str() {
//!         Ok(_words) => Verdict::Handled,
//!         Err(error) => Verdict::Field(error),
//!     }
//! })?;
//! let engine = Engine::start(EngineConfig::new("127.0.0.1:0".parse()?), registry)?;
//! let addr = engine.listeners().next().expect("one was asked for").addr;
//!
//! let mut buffer = [0; 64];
//! let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"greeting", 1, 0)?;
//! builder.push_str(b"hello")?;
//! Sender::bind("127.0.0.1:0".parse()?)?.send(builder.seal(), addr)?;
//!
//! let totals = engine.stop()?;
//! assert!(totals.is_balanced());
//! assert_eq!(totals.total.outcome(Outcome::Handled), 1);
//! assert_eq!(totals.unaccounted(1), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

/// Taking connections: who may come in, and to which shard.
pub(crate) mod accept;
/// Whose datagrams are taken.
pub mod access;
/// The BIN functions of OpenSIPS, and what they are here.
pub mod bin;
/// Time as a parameter.
pub mod clock;
/// A seat in a cluster of OpenSIPS nodes.
pub mod cluster;
/// What an operator writes, and what it means.
pub mod config;
/// Which handler a module name leads to.
pub mod dispatch;
/// Assembly and life: start, watch, change, stop without a hole.
pub mod engine;
/// What happens here, for who wants to know.
pub mod event;
/// Connections to other nodes, and what waits for them.
pub mod link;
/// The live stream on to other receivers.
pub mod relay;
/// Routing scripts.
pub mod script;
/// The loop. Read this first.
pub mod shard;
/// Which shard a record belongs to.
pub mod steering;
/// Records that are known for what they say.
pub mod store;
/// Connections: BIN over TCP and TLS.
pub mod stream;
/// What is counted, and how it adds up.
pub mod telemetry;
/// TLS sessions, their certificates and keys.
pub mod tls;

/// Addresses of this machine, as the tests find them.
#[cfg(test)]
mod loopback;

pub use access::{Access, Cidr};
pub use binrush_net::{Found, handover};
pub use clock::{Clock, MonotonicClock, Timestamp, WallClock};
pub use dispatch::NameId;
pub use dispatch::handler::{Context, Ends, Handler, Origin, ShardId, Told, Verdict};
pub use dispatch::registry::{NameReplaced, NoBeginning, RegisterError, Registry};
pub use dispatch::schema_handler::SchemaHandler;
pub use engine::{
    Backend, ChangeError, Engine, EngineConfig, Gro, Pin, Reloaded, ShardName, StartError,
    StopCause, StopError, StreamBackend, StreamConfig, Teller, Trouble, Warning,
};
pub use link::{
    Lane, LinkConfig, LinkError, LinkHealth, LinkId, LinkLimits, Links, LinksConfig, Refused,
};
pub use shard::Shard;
pub use steering::Steering;
pub use telemetry::ledger::Ledger;
pub use telemetry::outcome::Outcome;
pub use telemetry::snapshot::{
    Counts, HostLosses, KernelDrops, ListenerCounts, NameCounts, Snapshot,
};
