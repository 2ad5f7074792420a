//! What is called with a packet, and what it answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use binrush_wire::{Generation, Packet, Release, WireError};

use crate::clock::Timestamp;

/// Receives the packets of one module name, on one shard.
///
/// Called by the shard's thread only, so it needs no lock. It must not block and must return soon: nothing is
/// received meanwhile. The packets of one record come to one shard, in the order in which they arrived; by connections,
/// those of one connection do, and on the same shard of a peer that connected anew.
///
/// A closure `FnMut(&mut Context<'_>, &Packet<'_>) -> Verdict` is a handler too.
pub trait Handler: Send {
    /// Takes one packet, whose header is checked and whose name is the registered one.
    ///
    /// The packet borrows the frame it came in: what must outlive the call is copied.
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict;
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

/// Number of a shard, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u16);

/// What a packet came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A datagram, of a 1.x node. Where it came from is not asked for: that costs more than all else that is done
    /// for it.
    Datagram,
    /// A connection.
    Stream {
        /// The address of the other side, an IPv4 one as such.
        peer: IpAddr,
        /// How the configuration says that it frames its packets.
        generation: Generation,
        /// Its release, where the configuration tells it.
        release: Option<Release>,
    },
}

/// Where and when a handler is called, and its way to answer.
pub struct Context<'a> {
    now: Timestamp,
    shard: ShardId,
    origin: Origin,
    outbox: &'a mut dyn Post,
}

/// Takes packets that go out when the batch is done.
pub(crate) trait Post {
    fn post(&mut self, to: SocketAddr, packet: &[u8]) -> bool;
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        now: Timestamp,
        shard: ShardId,
        origin: Origin,
        outbox: &'a mut dyn Post,
    ) -> Self {
        Self {
            now,
            shard,
            origin,
            outbox,
        }
    }

    /// What the packet came by.
    #[inline]
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// When the packet arrived at this process: one moment for all packets of a batch.
    #[inline]
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The shard that this handler belongs to.
    #[inline]
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// Sends `packet` to `to` from the address the shard listens on, when the batch is done.
    ///
    /// Copies the bytes. `false` when there is no room before the batch is done, or no listener of that address
    /// family: nothing is sent, and it is counted.
    pub fn send(&mut self, to: SocketAddr, packet: &[u8]) -> bool {
        self.outbox.post(to, packet)
    }
}

impl Origin {
    /// How its packets are framed.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> Generation {
        match self {
            Self::Datagram => Generation::Legacy,
            Self::Stream { generation, .. } => *generation,
        }
    }
}

impl<F> Handler for F
where
    F: FnMut(&mut Context<'_>, &Packet<'_>) -> Verdict + Send,
{
    #[inline]
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        self(context, packet)
    }
}

impl ShardId {
    /// As an index.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard{}", self.0)
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
