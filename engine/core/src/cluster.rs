//! A seat in a cluster of OpenSIPS nodes: membership, replication, synchronisation (2.4, 3.0 to 4.0).
//!
//! ```text
//!   reader shard                     thread "cluster"                     owner shards
//!   connection ─▶ Door ── messages ─▶ Inbox ─▶ Seat (pure) ─▶ Outbox ─┬─▶ Links ─▶ other nodes
//!                  │                            links, topology,      ├─▶ Board: Roster for doors and gates
//!                  │                            capabilities, tags,   ├─▶ orders: hold, release, slice ─▶ Gate ─▶ Replica
//!                  │                            sync, donations       └─▶ events, facts                  ▲
//!                  ├── SYNC, cut: one part for each owner ──────────────────────────────────────────────┤
//!                  └── module packets, by key ───────────────────────────────────────────────────────────┘
//! ```
//!
//! A [`Seat`](crate::cluster::seat::Seat) is a state machine over (now, message) with an [`Outbox`](crate::cluster::outbox::Outbox): no socket, no clock and no
//! thread inside. A [`Gate`](crate::cluster::gate::Gate) stands in front of the callbacks of one capability on one shard. So whole clusters
//! run in one thread from a seed.

/// What a seat is told at the start.
pub mod config;
/// Who takes the cluster's own messages.
pub mod door;
/// The thread of the seats, and what is asked of it.
pub mod driver;
/// What a seat knows, for people.
pub mod facts;
/// Who stands in front of the records.
pub mod gate;
/// What doors and gates hand to the seats.
pub mod inbox;
/// What nodes tell each other.
pub mod message;
/// What a seat asks of the world around it.
pub mod outbox;
/// Who keeps the records.
pub mod replica;
/// What shards know of the clusters.
pub mod roster;
/// A node's seat: links, topology, capabilities, syncs.
pub mod seat;
/// What the shards and the seat know of one sync.
pub mod session;
/// Whole clusters in one thread, from a seed.
#[cfg(test)]
mod simulation;
