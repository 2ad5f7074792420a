//! The BIN functions: packets that are made, sent, received.
//!
//! ```text
//!   bin_init, bin_push_* ─▶ draft: the packet that a thread makes ─▶ bin_send ─▶ outbox ─▶ UDP
//!   packet ─▶ delivery ─▶ callback of C ─▶ bin_pop_* ─▶ cursor: what a thread reads
//! ```
//!
//! The two never meet: a push in a callback moves nothing of what is read. All state is the thread's, but for the table of
//! callbacks and the counters. Rules R1 to R10 are those of `binrush_wire`.

/// What became of packets.
pub mod counts;
/// What a thread reads.
mod cursor;
/// One packet to one callback of C.
pub mod delivery;
/// The packet of the 1.x API that a thread makes.
mod draft;
/// Whether this process is still the same.
mod forks;
/// The 1.x API.
pub mod legacy;
/// How packets of the 3.x API leave a program.
mod links;
/// The 3.x API.
pub mod modern;
/// How datagrams of a thread leave.
mod outbox;
/// `bin_packet_t`.
mod packet;
/// Receiving for a program that only links the library.
pub mod program;
/// What `bin_register_cb` of either API leaves.
pub mod registrations;

pub use counts::{Counts, counts};
pub use legacy::{flush, is_given, send_from, send_from_open};

pub use delivery::{Delivered, Origin, Poison, deliver};
pub use registrations::{Callback, Registration, collecting};
