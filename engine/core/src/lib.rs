//! The loop that joins sockets and packets: receive, parse, dispatch by module name, count.
//!
//! ```text
//!   RxQueue::recv ─▶ Packet::parse ─▶ Table::lookup ─▶ Handler::handle ─▶ one counter of the Ledger
//!   └───────────────────── one shard = one thread = one core ─────────────────────────────────────┘
//! ```
//!
//! Start reading at [`shard`]. Nothing is shared on the packet path: a shard owns its queue, its frames and
//! its handlers, and is the only writer of its counters. No lock, no allocation, no log line per packet.
//!
//! ```
//! use binrush_engine::{Engine, ListenConfig, Outcome, Registry, Timestamp, Verdict};
//! use binrush_wire::{Builder, Generation, Packet};
//!
//! let mut registry = Registry::new();
//! registry.register(b"greeting", |_now: Timestamp, packet: &Packet<'_>| {
//!     match packet.fields().pop_str() {
//!         Ok(_words) => Verdict::Handled,
//!         Err(error) => Verdict::Field(error),
//!     }
//! })?;
//! let engine = Engine::start(ListenConfig::new("127.0.0.1:0".parse()?), registry)?;
//!
//! let mut buffer = [0; 64];
//! let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"greeting", 1, 0)?;
//! builder.push_str(b"hello")?;
//! let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! peer.send_to(builder.seal(), engine.local_addr())?;
//!
//! let totals = engine.stop()?;
//! assert!(totals.is_balanced());
//! assert_eq!(totals.outcome(Outcome::Handled), 1);
//! assert_eq!(totals.unaccounted(1), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

/// Time as a parameter.
pub mod clock;
/// Which handler a module name leads to.
pub mod dispatch;
/// Assembly and life: start, watch, stop without a hole.
pub mod engine;
/// The loop. Read this first.
pub mod shard;
/// What is counted, and how it adds up.
pub mod telemetry;

/// Addresses of this machine, as the tests find them.
#[cfg(test)]
mod loopback;

pub use clock::{Clock, MonotonicClock, Timestamp};
pub use dispatch::handler::{Handler, Verdict};
pub use dispatch::registry::{NameReplaced, RegisterError, Registry};
pub use dispatch::schema_handler::SchemaHandler;
pub use engine::{Engine, ListenConfig, Pin, StartError, StopCause, StopError, Warning};
pub use shard::Shard;
pub use telemetry::ledger::Ledger;
pub use telemetry::outcome::Outcome;
pub use telemetry::snapshot::{KernelDrops, NameCounts, Snapshot};
