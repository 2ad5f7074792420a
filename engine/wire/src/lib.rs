//! The OpenSIPS Binary Internal Interface (BIN) on the wire: every generation from 1.10 to 4.0, read and written.
//!
//! Bytes ↔ meaning and nothing else: no I/O, no clock, no unsafe code, and no allocation. A [`Packet`] is a
//! checked view into the caller's buffer: [`Packet::parse`] refuses what is broken, after that its accessors
//! cannot fail. [`Fields`] pops values in order; a pop returns a value or an error and, on error, does not
//! move. BIN fields carry no type tags, so their meaning comes from [`schema`]: data, not code, that says
//! which fields each known payload has in each release.
//!
//! Genuine nodes of several branches trust lengths and counts that a peer sends. This crate trusts none; its
//! rules, by which other places cite them:
//!
//! | rule | |
//! |---|---|
//! | R1 | a name or string is touched only after its length was checked; a negative length is an error |
//! | R2 | a total length is within its generation's bounds, and each frame of a stream advances |
//! | R3 | a count is checked against its own limit and against the bytes left, before any loop |
//! | R4 | a pop returns a value or an error, and on error the cursor does not move |
//! | R5 | ints taken off the end never reach into command or header |
//! | R6 | a C object in a string has exactly its size |
//! | R7 | a sync chunk is not empty and ends inside its packet; iteration moves forward only |
//! | R8 | strings are bytes, never assumed to be text or terminated |
//! | R9 | a writer refuses what does not fit and leaves the packet as it was; it never truncates |
//!
//! ```
//! use binrush_wire::{Builder, Generation, Packet};
//!
//! let mut buffer = [0; 128];
//! let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 0)?;
//! builder.push_str(b"location")?;
//! builder.push_str(b"alice")?;
//!
//! let packet = Packet::parse(Generation::Legacy, builder.seal())?;
//! let mut fields = packet.fields();
//! assert_eq!((packet.name(), packet.command()), (&b"ul"[..], 1));
//! assert_eq!(fields.pop_str()?, b"location");
//! assert_eq!(fields.pop_str()?, b"alice");
//! assert!(fields.pop_int().is_err());
//! # Ok::<(), binrush_wire::WireError>(())
//! ```
#![forbid(unsafe_code)]

/// Writing packets into the caller's buffer.
pub mod builder;
/// Sync packets cut into their chunks.
pub mod chunk;
/// The checksum of 1.x datagrams.
pub mod crc32;
/// What can be wrong with bytes.
pub mod error;
/// Popping fields from a packet.
pub mod field;
/// Where the frame at the head of a stream ends.
pub mod frame_len;
/// The wire generations, the releases and their limits.
pub mod generation;
/// The checked view of one packet.
pub mod packet;
/// Which fields a known payload has, per release.
pub mod schema;
/// The cluster ids at the end of a routed packet.
pub mod trailer;

mod legacy;
mod modern;
mod transitional;

pub use builder::Builder;
pub use chunk::{Chunk, Chunks};
pub use error::{ErrorKind, Result, WireError};
pub use field::Fields;
pub use frame_len::{Head, frame_len, next_marker};
pub use generation::{
    Generation, MARKER, MAX_DATAGRAM_LEN, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Release,
};
pub use packet::Packet;
pub use trailer::Trailer;
