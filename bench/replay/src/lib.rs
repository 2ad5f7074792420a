//! Sends captured replication traffic again: paced, in order, with fresh keys each round.
//!
//! ```text
//!   capture ─▶ Traffic: the packets in order, each with the place of its record key
//!                 │ round 0: as captured     round r: key "call-17@host" becomes "r.call-17@host"
//!                 ▼
//!   Pace: packet n is due at n / rate ─▶ send(2) on a connected socket ─▶ Report: sent, late, errors by name
//! ```
//!
//! Open loop: a packet is due when the schedule says so, whether or not the receiver keeps up, and what is
//! sent late is reported as late. Shares nothing with the engine but the wire format.
//!
//! ```
//! use binrush_replay::{Pace, Progress, Traffic, replay};
//!
//! let receiver = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! socket.connect(receiver.local_addr()?)?;
//!
//! let traffic = Traffic::sample();
//! let pace = Pace::new(10_000, std::time::Duration::from_millis(5)).expect("a rate above zero");
//! let report = replay(&traffic, pace, &socket, &Progress::default());
//! assert_eq!(report.sent, 50);
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

/// When each packet is due.
pub mod pace;
/// Sending on schedule.
pub mod send;
/// Captured packets, and their copies with fresh keys.
pub mod traffic;

pub use pace::Pace;
pub use send::{Progress, Report, SendErrors, replay};
pub use traffic::{LeftOut, Recorded, Renumbered, Traffic, TrafficError, Ways};
