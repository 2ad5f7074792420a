//! A way that loses, doubles, reorders and damages packets, by a seed, and counts exactly what it did.
//!
//! What a receiver says about loss is worth as much as the proof that it sees loss. [`Faults`] is that proof without
//! a socket: packets in, packets out, at most one fault for each. [`udp`] and [`tcp`] put it between a sender and a
//! receiver, on sockets that the caller opens, so that buffers and privileges are the caller's affair.
//!
//! ```text
//!               ┌────────────── Faults, one for each flow ──────────────┐
//!  datagram     │  Choice: none, lose, duplicate, reorder or corrupt    │      Way
//!  or frame ────┼─▶ lose ─▶ ✕                                           ├───▶ (delay) ───▶ receiver
//!  of a flow    │   reorder ─▶ held until so many later ones have passed│
//!               └───────────────────────────────────────────────────────┘
//! ```
//!
//! A flow is a sender's address or a connection. Each has faults of its own, so what befalls the packets of one
//! sender does not depend on what the others do meanwhile.
//!
//! ```
//! use binrush_proxy::{Faults, Odds, Plan};
//!
//! let plan = Plan { lose: Odds::OneIn(10), ..Plan::default() };
//! let mut faults = Faults::new(&plan, 0)?;
//! let mut arrived = 0;
//! for number in 0..1000_u32 {
//!     faults.pass(&number.to_le_bytes(), |_packet| arrived += 1);
//! }
//! faults.finish(|_packet| arrived += 1);
//! assert_eq!((arrived, faults.counts().lost), (900, 100));
//! # Ok::<(), binrush_proxy::PlanError>(())
//! ```
#![forbid(unsafe_code)]

/// What was done to packets, in numbers.
pub mod counts;
/// Packets in, packets out, with faults.
pub mod faults;
/// Which faults, and how often.
pub mod plan;
/// Frames of TCP streams.
pub mod tcp;
/// Datagrams.
pub mod udp;

/// The last piece of the way, which may take time.
mod way;

pub use counts::Counts;
pub use faults::Faults;
pub use plan::{DISTANCE_MAX, Damage, Fault, Odds, Plan, PlanError};
