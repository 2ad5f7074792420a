//! What is called with a packet, and what it answers.

use binrush_wire::{Packet, WireError};

use crate::clock::Timestamp;

/// Receives the packets of one module name.
///
/// Lives on one shard and is called by its thread only, so it needs no lock. It must not block and must
/// return soon: nothing is received meanwhile. Packets of one key come in the order they arrived.
///
/// A closure `FnMut(Timestamp, &Packet<'_>) -> Verdict` is a handler too.
pub trait Handler: Send {
    /// Takes one packet, whose header is checked and whose name is the registered one; `now` is when its
    /// batch arrived. The packet borrows the frame: copy what must outlive the call.
    fn handle(&mut self, now: Timestamp, packet: &Packet<'_>) -> Verdict;
}

/// What a handler says about a packet; each answer ends in one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Understood, and done what it asks for.
    Handled,
    /// The name's owner does not know this command.
    UnknownCommand,
    /// The command is known, but not with this version.
    UnknownVersion,
    /// A field could not be read; nothing of the packet was applied.
    Field(WireError),
}

impl<F> Handler for F
where
    F: FnMut(Timestamp, &Packet<'_>) -> Verdict + Send,
{
    #[inline]
    fn handle(&mut self, now: Timestamp, packet: &Packet<'_>) -> Verdict {
        self(now, packet)
    }
}
