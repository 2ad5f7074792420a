//! Packet captures in, BIN frames out, and back.
//!
//! [`Capture`] reads pcap and pcapng, plain or gzipped, in one pass and bounded memory: it finds the IP packets
//! behind the link layer, puts fragments together, orders TCP segments, and cuts the frames out. [`Writer`]
//! makes a capture from frames that reads back to the same frames. What is broken, missing or cut off comes as
//! a [`Problem`] with its place, between the frames around it.
//!
//! ```text
//!  window ─▶ pcap / pcapng ─▶ link ─▶ ip ─▶ fragment ─▶ udp ───────────────▶ outbox ─▶ Event
//!  (gunzip)    Record                 └────────────────▶ tcp ─▶ stream ─▶ framing ─┘
//! ```
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use binrush_capture::{Capture, Event, Options, Timestamp, Transport, Writer};
//! use binrush_wire::{Builder, Generation};
//!
//! let mut buffer = [0; 64];
//! let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 0)?;
//! builder.push_str(b"alice")?;
//! let frame = builder.seal();
//!
//! let (src, dst) = ("10.0.0.1:5566".parse::<SocketAddr>()?, "10.0.0.2:5566".parse()?);
//! let mut file = Vec::new();
//! let mut writer = Writer::new(&mut file)?;
//! writer.write(Timestamp::from_nanos(42), src, dst, Transport::Udp, frame)?;
//!
//! let mut capture = Capture::new(&file[..], Options::default())?;
//! let Some(Event::Frame(read)) = capture.next() else { panic!("one frame was written") };
//! assert_eq!((read.time.as_nanos(), read.src, read.dst, read.bytes), (42, src, dst, frame));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

/// Reading a capture.
pub mod capture;
/// What comes out.
pub mod event;
/// What the reader is told before it starts.
pub mod options;
/// What was wrong, and where.
pub mod problem;
/// When a record was captured.
pub mod time;
/// What a capture held, in numbers.
pub mod totals;
/// Writing a capture.
pub mod writer;

mod fragment;
mod framing;
mod ip;
mod link;
mod lru;
mod outbox;
mod pcap;
mod pcapng;
mod record;
mod stream;
mod tcp;
mod udp;
mod window;

pub use capture::Capture;
pub use event::{Event, Frame, Transport};
pub use options::{GenerationChoice, Limits, Options};
pub use problem::{Cause, Layer, Place, Problem, ProblemKind};
pub use record::OpenError;
pub use time::Timestamp;
pub use totals::Totals;
pub use writer::{WriteError, Writer};
