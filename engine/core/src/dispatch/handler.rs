//! What is called with a packet, and what it answers.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;

use binrush_wire::{Packet, WireError};

use crate::clock::Timestamp;
use crate::steering::Steering;

/// What a packet came by.
mod origin;

pub(crate) use origin::canonical;
pub use origin::{Ends, Origin};

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

    /// Takes what another thread of this process [told](crate::Teller::tell) it; between two batches, in the order in which
    /// it was told. What it is not prepared for it drops, and so does a handler that does not expect any.
    ///
    /// May take up to a millisecond: one message is told in each turn of the shard, so packets have theirs in between.
    /// There is no connection in this `context`, and its origin is [`Origin::Process`].
    fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn Any + Send>) {
        let _ = context;
        drop(message);
    }

    /// Time has passed: does what is due without a packet, such as to let records expire. `true`: there is more to do.
    ///
    /// Called ten times a second, and about a millisecond after it answered `true`; later where batches take longer. May take
    /// 200 us: one handler has its turn in each round of the shard, so packets come in between. On shards that own nothing only the
    /// handlers of [local](crate::dispatch::Table::is_local) names and [residents](crate::Registry::resident) have turns, as others are
    /// never called there. Not called any more once the shard ends.
    fn turn(&mut self, now: Timestamp) -> bool {
        let _ = now;
        false
    }
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
    /// It waits for the end of a sync; whoever holds it counts what becomes of it then.
    Held,
    /// The cluster does not take it.
    Refused(Refusal),
}

/// Why a cluster does not take a packet. (OpenSIPS 3.6 `clusterer.c`: what `cl_receive_packet` and its like check.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// We are no node of its cluster.
    UnknownCluster,
    /// It says that we made it.
    OwnId,
    /// Nobody knows the node that it says made it.
    UnknownNode,
    /// It comes from an address that no node of its cluster has.
    ForeignAddress,
    /// The node that made it, or its capability here, is disabled.
    Disabled,
    /// It is for another node, and we forward nothing.
    NotForUs,
    /// Part of a sync that was not asked for, or is over.
    UnexpectedSync,
    /// More of its cluster's messages, or of a donor's records, came than could be taken just then.
    Busy,
    /// There is no room for its record: whoever keeps the records of its capability has as many as it may.
    NoRoom,
}

/// What became of a message to a handler ([`Handler::tell`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Told {
    /// It is on its way.
    Taken,
    /// As many wait as may; it was dropped, and may be told again.
    Full,
    /// The shard has ended, or is about to, or never was; it was dropped.
    Ended,
}

/// Number of a shard, from 0: those that own records, then readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub u16);

/// Where and when a handler is called, and its ways to answer and to hand on.
pub struct Context<'a> {
    now: Timestamp,
    shard: ShardId,
    /// By reference, because it is long and most do not look.
    origin: &'a Origin,
    steering: &'a Steering,
    outbox: &'a mut dyn Post,
    /// `None` where the packet was not cut out of a connection.
    connection: Option<&'a mut dyn Connected>,
}

/// Takes packets that go out when the batch is done.
pub(crate) trait Post {
    fn post(&mut self, to: SocketAddr, packet: &[u8]) -> bool;
}

/// The connection that a packet was cut out of, while its handler is called on the shard that cut it.
pub(crate) trait Connected {
    /// As [`Context::connection`].
    fn number(&self) -> u64;
    /// As [`Context::answer`].
    fn answer(&mut self, packet: &[u8]) -> bool;
    /// As [`Context::pass_on`].
    fn pass_on(&mut self, owner: ShardId, packet: &[u8]) -> bool;
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        now: Timestamp,
        shard: ShardId,
        origin: &'a Origin,
        steering: &'a Steering,
        outbox: &'a mut dyn Post,
    ) -> Self {
        Self {
            now,
            shard,
            origin,
            steering,
            outbox,
            connection: None,
        }
    }

    /// The same, of a packet that was just cut out of `connection`.
    pub(crate) fn on(self, connection: &'a mut dyn Connected) -> Self {
        Self {
            connection: Some(connection),
            ..self
        }
    }

    /// What the packet came by.
    #[inline]
    #[must_use]
    pub const fn origin(&self) -> &'a Origin {
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

    /// The number of the connection that the packet was cut out of: from 1, and never used twice by an engine. `None` where
    /// it was not cut: datagrams, mail from the shard that cut it, what a handler [passed on](Self::pass_on).
    ///
    /// The packets of some names are always handled where they are cut:
    /// [`Table::is_local`](crate::dispatch::Table::is_local).
    #[inline]
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        let connection = self.connection.as_ref()?;
        Some(connection.number())
    }

    /// Sends `packet` on the connection that the packet came by, inside its TLS, when what came with it is handled.
    ///
    /// Copies the bytes. `false` without a [`connection`](Self::connection); and, counted as refused, when its peer has not
    /// taken the answers before this one: some KiB of them wait, no more. What waits goes on with the next bytes that come,
    /// or is lost with the connection, and counted.
    pub fn answer(&mut self, packet: &[u8]) -> bool {
        let connection = self.connection.as_mut();
        connection.is_some_and(|connection| connection.answer(packet))
    }

    /// How many shards own records; their numbers are those below. Readers have the numbers from there on.
    #[inline]
    #[must_use]
    pub fn owners(&self) -> u16 {
        self.steering.shards()
    }

    /// The shard that owns the record of this key, which is where the packets about it are handled.
    #[inline]
    #[must_use]
    pub fn owner_of_key(&self, key: &[u8]) -> ShardId {
        ShardId(self.steering.owner_of_key(key))
    }

    /// Hands a packet that this handler made to the handler of its name on `owner`, after this call returned.
    ///
    /// Copies the bytes: one whole packet, framed as those of the connection that the handled one came by. It takes its
    /// place behind all packets of that connection so far, and waits in it like any other when `owner` does not keep up.
    /// It is counted as made, and comes to one outcome like those that were received.
    ///
    /// `false` without a [`connection`](Self::connection), for an `owner` that owns nothing, for what is no packet by its
    /// length, and when a single call made more than 4 MiB: nothing is handed on, and the caller has to say what becomes
    /// of it.
    pub fn pass_on(&mut self, owner: ShardId, packet: &[u8]) -> bool {
        let connection = self.connection.as_mut();
        owner.0 < self.steering.shards()
            && connection.is_some_and(|connection| connection.pass_on(owner, packet))
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
