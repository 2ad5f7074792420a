//! What the reader is told before it starts.

use core::time::Duration;

use binrush_wire::{Generation, MAX_PACKET_LEN};

use crate::ip::{TCP, UDP};

/// How a capture is read; `Options::default()` suits traffic of unknown origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which generation the traffic speaks.
    pub generation: GenerationChoice,
    /// Largest packet of a TCP stream, in bytes; a longer one is a broken frame
    /// ([`MAX_PACKET_LEN_4_0`](binrush_wire::MAX_PACKET_LEN_4_0) for a 4.0 cluster).
    pub max_len: usize,
    /// Bounds of every table.
    pub limits: Limits,
}

/// The generation of the frames; nothing on the wire says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GenerationChoice {
    /// UDP is 1.x. Each TCP direction is taken for 2.3+ or 2.2 by its first frame: by total length, name
    /// length and a printable name; 2.3+ when both fit.
    #[default]
    Auto,
    /// Only this generation: 1.x looks at UDP alone, 2.2 and 2.3+ at TCP alone.
    Fixed(Generation),
}

/// Bounds in memory. What falls out is counted, and reported when bytes of BIN fell with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// TCP directions followed at the same time; the least recently used one leaves.
    pub streams: usize,
    /// Bytes buffered for all TCP directions together; the least recently used ones leave.
    pub stream_bytes: usize,
    /// Bytes held behind a hole in one TCP direction before the hole is given up as a gap.
    pub held_bytes: usize,
    /// Segments held behind a hole in one TCP direction.
    pub held_segments: usize,
    /// Bytes of a TCP direction searched for a first frame before it is given up as not BIN.
    pub search_bytes: u64,
    /// IP datagrams being put together from fragments; the oldest leaves.
    pub datagrams: usize,
    /// Bytes of all those datagrams; the oldest leave.
    pub datagram_bytes: usize,
    /// Time by the capture's clock after which missing fragments are given up (Linux: 30 s).
    pub fragment_timeout: Duration,
    /// UDP destinations remembered as carrying BIN.
    pub udp_destinations: usize,
}

impl GenerationChoice {
    /// Whether packets of this IP protocol can carry BIN.
    #[inline]
    pub(crate) fn wants(self, protocol: u8) -> bool {
        match protocol {
            UDP => matches!(self, Self::Auto | Self::Fixed(Generation::Legacy)),
            TCP => self != Self::Fixed(Generation::Legacy),
            _ => false,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            generation: GenerationChoice::Auto,
            max_len: MAX_PACKET_LEN,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 8192,
            stream_bytes: 64 << 20,
            held_bytes: 1 << 20,
            held_segments: 1024,
            search_bytes: 64 << 10,
            datagrams: 256,
            datagram_bytes: 8 << 20,
            fragment_timeout: Duration::from_secs(30),
            udp_destinations: 4096,
        }
    }
}
