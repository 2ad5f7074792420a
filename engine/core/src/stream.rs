//! BIN over TCP and TLS: connections, their limits, and what is counted of them.
//!
//! ```text
//!   listener ─▶ acceptor (a thread): allowed? room? ─▶ TLS handshake ─▶ intake of the shard with the fewest connections
//!                                                                          │
//!   StreamQueue::recv ─▶ pieces ─▶ (TLS records) ─▶ Framer: frames in place ┴─▶ mine: parse, lookup, handler
//!                                   the beginning of a frame is kept            └▶ mail to the owner, or spill
//! ```

/// What is counted of connections.
pub mod counts;
/// Packets out of bytes.
pub mod framer;
/// What connections may cost.
pub mod limits;
/// What is known of senders beforehand.
pub mod peers;
/// How a connection ends, and why one is not taken.
pub mod reason;

pub use counts::{
    AcceptCounts, ConnectionCounts, LinkCounts, PeerCounts, StreamCounts, StreamSnapshot,
};
pub use framer::{Broken, Cut, Framer};
pub use limits::{Keepalive, StreamLimits};
pub use peers::{PeerSettings, PeerTable};
pub use reason::{CloseReason, RefuseReason};
