//! What a sender takes packets from.

use binrush_wire::WireError;

/// Which part of a load one sender has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of the stream, below `streams`.
    pub stream: u16,
    /// How many streams share the load, at least 1.
    pub streams: u16,
}

/// Packets with the moments at which they are due.
///
/// Belongs to the thread that sends. A pure function of what it was made from and of the arguments of its calls: the
/// same seed gives the same packets at the same moments.
pub trait Source: Send {
    /// When the next packet is due, in nanoseconds after the start; never before the one that came before it. `None` at
    /// the end.
    fn due(&self) -> Option<u64>;

    /// Writes that packet to the beginning of `out`, which has 65 535 bytes, says how long it is, and goes on to the
    /// next one.
    ///
    /// `start_ns` is the moment of the start by CLOCK_MONOTONIC, `late_ns` how late the packet is now, in nanoseconds.
    ///
    /// # Errors
    /// [`ContentError`]: this packet cannot be made; the next call is about the next one.
    fn write(&mut self, start_ns: u64, late_ns: u32, out: &mut [u8])
    -> Result<usize, ContentError>;

    /// Goes on to the next packet without writing this one, which is counted as not sent.
    fn skip(&mut self);
}

/// A packet could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// It does not fit or is no packet.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// There is no next one.
    #[error("the schedule is through")]
    Ended,
}
