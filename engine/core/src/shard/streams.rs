//! The connections of one shard: bytes in, packets to their owners, and an end to everything that stays open.
//!
//! ```text
//!   intake ─▶ table of connections                          ┌▶ ours: handler
//!   recv ─▶ pieces ─▶ (TLS) ─▶ Framer ─▶ packet ─▶ Floor ───┤
//!                                                           └▶ other shard: mail ─ full? ─▶ spill of the connection
//!   sweep: begun and not finished? silent? ─▶ close                              at its limit: reading pauses
//! ```
//!
//! Nothing here waits for another shard, and no connection waits for another connection.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use binrush_net::{Slab, StreamBatch, StreamQueue, Token, Tx, What};

use super::floor::Floor;
use crate::clock::Timestamp;
use crate::stream::{CloseReason, PeerTable, StreamLimits, StreamSnapshot};
pub use crate::telemetry::streams::PeerRows;
use crate::telemetry::streams::StreamWriter;
pub(super) use answers::Answers;
use answers::Posted;
pub(super) use connection::Connection;

/// What handlers answer.
mod answers;
/// One connection.
mod connection;
/// Connections that are handed to a shard.
pub mod incoming;
/// No connections at all.
pub mod nowhere;
/// Packets that wait for a shard that does not keep up.
mod spill;

pub use incoming::{Incoming, NewConnection};
pub use nowhere::NoStreams;

/// The connections of one shard.
pub struct Streams<S: StreamQueue> {
    queue: S,
    /// Empty between receives.
    batch: StreamBatch,
    incoming: Arc<dyn Incoming<S::Socket>>,
    /// By token.
    table: Vec<Option<Box<Connection>>>,
    /// Places of the table that are free.
    free: Vec<u32>,
    /// Connections whose socket is open.
    open: usize,
    /// Connections so far.
    opened: u64,
    /// The last one was closed, and the queue may hold something of it until it is asked once more.
    is_last_closed: bool,
    /// Tokens of connections with packets that wait.
    spilling: VecDeque<Token>,
    /// Connections that were closed and have packets that wait.
    orphans: Vec<Connection>,
    /// Tokens of connections that end with this batch.
    ending: Vec<Token>,
    limits: StreamLimits,
    peers: Arc<PeerTable>,
    book: StreamWriter,
    /// What became of answers, and is not told yet.
    posted: Posted,
    /// Bytes that all connections hold together.
    memory: usize,
    sweep: Sweep,
}

/// Where the round through the connections stands.
#[derive(Debug, Default)]
struct Sweep {
    at: usize,
    next: Timestamp,
    told: Timestamp,
}

/// What the connections of a shard are made of.
pub struct StreamParts<S: StreamQueue> {
    /// Where their bytes come from.
    pub queue: S,
    /// Where new ones come from.
    pub incoming: Arc<dyn Incoming<S::Socket>>,
    /// Pieces that one receive brings at most.
    pub batch: usize,
    /// What they may cost.
    pub limits: StreamLimits,
    /// How the streams of which sender are read.
    pub peers: Arc<PeerTable>,
    /// Whose counts stand in which row; the same for all shards of an engine.
    pub rows: Arc<PeerRows>,
}

impl<S: StreamQueue> Streams<S> {
    pub(super) fn new(parts: StreamParts<S>, book: StreamWriter) -> Self {
        Self {
            queue: parts.queue,
            batch: StreamBatch::new(parts.batch),
            incoming: parts.incoming,
            table: Vec::new(),
            free: Vec::new(),
            open: 0,
            opened: 0,
            is_last_closed: false,
            spilling: VecDeque::new(),
            orphans: Vec::new(),
            ending: Vec::new(),
            limits: parts.limits,
            peers: parts.peers,
            book,
            posted: Posted::default(),
            memory: 0,
            sweep: Sweep::default(),
        }
    }

    /// Whether there is anything to look at: a load, while there is no connection.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        let has_none = self.open == 0 && !self.is_last_closed;
        has_none && !self.is_spilling() && !self.incoming.is_waiting()
    }

    /// Whether a shard that is about to sleep must not.
    pub(super) fn is_ready(&mut self) -> bool {
        self.incoming.is_waiting() || (self.open > 0 && self.queue.is_ready())
    }

    /// Whether packets wait for another shard, which does not ring when it has room again.
    #[inline]
    pub(super) fn is_spilling(&self) -> bool {
        !self.spilling.is_empty() || !self.orphans.is_empty()
    }

    pub(super) fn read_into(&self, counts: &mut StreamSnapshot) {
        self.book.read_into(counts);
    }

    pub(super) fn queue(&self) -> &S {
        &self.queue
    }

    /// Whether any connection's socket is open.
    #[inline]
    pub(super) const fn has_connections(&self) -> bool {
        self.open > 0
    }

    /// Whether connections wait to be taken over.
    pub(super) fn has_newcomers(&self) -> bool {
        self.incoming.is_waiting()
    }

    /// Takes over new connections, hands over what waits, and receives; whether anything came or went.
    ///
    /// # Errors
    /// What concerns all connections.
    pub(super) fn receive<T: Tx>(
        &mut self,
        now: Timestamp,
        slab: &mut Slab,
        floor: &mut Floor<T>,
    ) -> io::Result<bool> {
        let early = self.take_over(now, floor);
        let drained = self.is_spilling() && self.drain_spills(now, floor);
        let is_last_closed = std::mem::take(&mut self.is_last_closed);
        if (self.open > 0 || is_last_closed)
            && let Err(error) = self.queue.recv(slab, &mut self.batch)
        {
            floor.batch_done();
            return Err(error);
        }
        Ok(!self.batch.is_empty() || drained || early > 0)
    }

    /// Brings every packet of the batch to its counter or its owner, and gives the frames back; how many packets were
    /// settled here, and how many bytes came, inside TLS where there is any.
    pub(super) fn settle<T: Tx>(
        &mut self,
        now: Timestamp,
        slab: &mut Slab,
        floor: &mut Floor<T>,
    ) -> (usize, usize) {
        let (mut kept, mut bytes) = (0, 0);
        for arrival in self.batch.arrivals(slab) {
            let place = self.table.get_mut(arrival.token.0 as usize);
            let Some(connection) = place.and_then(Option::as_deref_mut) else {
                continue;
            };
            let memory = connection.memory();
            let was_spilling = connection.is_spilling();
            match arrival.what {
                What::Bytes(piece) => {
                    let (settled, len) = connection.take_in(now, piece, floor);
                    kept += settled;
                    bytes += len;
                    self.posted +=
                        connection.answer(|bytes| self.queue.write(arrival.token, bytes));
                }
                What::End => connection.end(connection.reason_of_end()),
                What::Failed(errno) => connection.end(reason_of(errno)),
            }
            self.memory = self.memory + connection.memory() - memory;
            let is_full = self.memory > self.limits.memory;
            if is_full && connection.memory() > memory && !connection.is_spilling() {
                // A packet that was begun, by whoever goes on beginning them.
                connection.end(CloseReason::Memory);
            }
            if connection.is_spilling() && !was_spilling {
                self.spilling.push_back(arrival.token);
            }
            if connection.wants_pause(self.limits.memory_per_connection, is_full) {
                self.queue.pause(arrival.token);
            }
            if connection.just_ended() {
                self.ending.push(arrival.token);
            }
            connection.report(&mut self.book);
            // A piece may hold hundreds of packets: the others begin with theirs while we are at the next.
            floor.mailbox.publish();
        }
        self.batch.release(slab);
        while let Some(token) = self.ending.pop() {
            self.close(token);
        }
        (kept, bytes)
    }

    /// Tells the ledger what became of answers.
    #[inline]
    pub(super) fn tell_posted<T: Tx>(&mut self, floor: &mut Floor<T>) {
        if self.posted != Posted::default() {
            let Posted {
                sent,
                failed,
                refused,
            } = std::mem::take(&mut self.posted);
            floor.ledger.posted(sent, failed, refused);
        }
    }

    /// Takes over what the acceptor handed to this shard, a bounded number in each turn and none while memory is used
    /// up; how many bytes came with them.
    fn take_over<T: Tx>(&mut self, now: Timestamp, floor: &mut Floor<T>) -> usize {
        let mut early = 0;
        for _ in 0..TAKE_OVER_MAX {
            if !self.incoming.is_waiting() || self.memory > self.limits.memory {
                break;
            }
            let Some(new) = self.incoming.take() else {
                break;
            };
            early += new.early.len();
            self.take_over_one(now, new, floor);
        }
        if early > 0 {
            floor.ledger.batch_done(0, early, 0, 0);
        }
        early
    }

    fn take_over_one<T: Tx>(
        &mut self,
        now: Timestamp,
        new: NewConnection<S::Socket>,
        floor: &mut Floor<T>,
    ) {
        let token = Token(self.free.pop().unwrap_or_else(|| {
            self.table.push(None);
            u32::try_from(self.table.len() - 1).expect("bounded by the number of descriptors")
        }));
        // From 1: 0 is what a message says that came by none.
        let number = u64::from(self.book.shard()) << 48 | (self.opened + 1);
        let (mut connection, socket, early) =
            Connection::new(number, now, new, &self.peers, &self.limits);
        self.open += 1;
        self.opened += 1;
        connection.open_in(&mut self.book);
        self.inherit(&mut connection);
        let added = self.queue.add(token, socket);
        let is_added = added.is_ok();
        connection.take_early(now, &early, floor);
        match added {
            Ok(()) => self.posted += connection.answer(|bytes| self.queue.write(token, bytes)),
            Err(_) => connection.end(CloseReason::Failed),
        }
        connection.report(&mut self.book);
        self.memory += connection.memory();
        let (ends, spills) = (connection.just_ended(), connection.is_spilling());
        self.table[token.0 as usize] = Some(connection);
        if spills {
            self.spilling.push_back(token);
        }
        if ends {
            self.close_as(token, is_added);
        }
    }

    /// A peer that connects again does not overtake itself: what waits of its last connection goes first.
    fn inherit(&mut self, connection: &mut Connection) {
        let ip = connection.peer().ip();
        while let Some(index) = self.orphans.iter().position(|each| each.peer().ip() == ip) {
            let mut orphan = self.orphans.swap_remove(index);
            self.memory -= orphan.memory();
            connection.inherit(&mut orphan);
            orphan.report(&mut self.book);
        }
    }

    /// Posts what waits, as far as there is room, some of each connection in turn and of those first that have ended;
    /// whether anything could be.
    fn drain_spills<T: Tx>(&mut self, now: Timestamp, floor: &mut Floor<T>) -> bool {
        let mut moved = false;
        for orphan in &mut self.orphans {
            let memory = orphan.memory();
            moved |= orphan.drain_spill(floor);
            self.memory = self.memory + orphan.memory() - memory;
            orphan.report(&mut self.book);
        }
        self.orphans.retain(|orphan| {
            let waits = orphan.is_spilling();
            self.memory -= if waits { 0 } else { orphan.memory() };
            waits
        });
        for _ in 0..self.spilling.len() {
            let Some(token) = self.spilling.pop_front() else {
                break;
            };
            let connection = connection_at(&mut self.table, token);
            let memory = connection.memory();
            moved |= connection.drain_spill(floor);
            self.memory = self.memory + connection.memory() - memory;
            let is_full = self.memory > self.limits.memory;
            if connection.may_resume(now, self.limits.memory_per_connection, is_full) {
                self.queue.resume(token);
            }
            connection.report(&mut self.book);
            if connection.is_spilling() {
                self.spilling.push_back(token);
            }
        }
        // Who came first this time comes last the next.
        if !self.spilling.is_empty() {
            self.spilling.rotate_left(1);
        }
        moved
    }

    /// Ends connections that are due to, some in each round, so that thousands of them hold nobody up. After a receive:
    /// who has sent is not late because we are.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if now < self.sweep.next || self.open == 0 {
            return;
        }
        self.sweep.next = now.after(SWEEP_NS);
        let end = (self.sweep.at + SWEEP_MAX).min(self.table.len());
        for index in self.sweep.at..end {
            let Some(connection) = self.table[index].as_deref_mut() else {
                continue;
            };
            let token = Token(u32::try_from(index).expect("a token"));
            let memory = connection.memory();
            if let Some(due) = connection.look_at_the_clock(now, &self.limits)
                && self.queue.queued_bytes(token).is_ok_and(|bytes| bytes == 0)
            {
                connection.end(due);
            }
            self.memory = self.memory + connection.memory() - memory;
            if connection.just_ended() {
                self.ending.push(token);
            }
        }
        self.sweep.at = if end == self.table.len() { 0 } else { end };
        while let Some(token) = self.ending.pop() {
            self.close(token);
        }
        if now.nanos_since(self.sweep.told) >= TELL_NS {
            self.sweep.told = now;
            self.tell_open();
        }
    }

    fn tell_open(&mut self) {
        let shard = self.book.shard();
        let table = self.table.iter().flatten();
        let open = table.filter(|connection| connection.is_open());
        self.book
            .tell_open(open.map(|connection| connection.told(None, shard)));
    }

    /// Closes a connection that was said to end.
    fn close(&mut self, token: Token) {
        self.close_as(token, true);
    }

    fn close_as(&mut self, token: Token, in_queue: bool) {
        let place = &mut self.table[token.0 as usize];
        let Some(mut connection) = place.take() else {
            return;
        };
        self.free.push(token.0);
        let memory = connection.memory();
        if in_queue {
            connection.say_goodbye(|bytes| self.queue.write(token, bytes));
        }
        self.posted += connection.give_up_answers();
        let unread = match in_queue {
            true => self.queue.queued_bytes(token).unwrap_or(0),
            false => 0,
        };
        let how = connection.close(unread, &mut self.book);
        self.memory = self.memory + connection.memory() - memory;
        if in_queue {
            self.queue.close(token, how);
        }
        self.open -= 1;
        if connection.is_spilling() {
            self.spilling.retain(|other| *other != token);
            self.orphans.push(*connection);
        } else {
            self.memory -= connection.memory();
        }
        if self.open == 0 {
            self.is_last_closed = true;
            self.tell_open();
        }
    }

    /// Says of those connections that `reason_of` names that they are to go, once what the kernel has of them now was
    /// read; those that wait to be taken over included.
    pub(super) fn dismiss<T: Tx>(
        &mut self,
        now: Timestamp,
        floor: &mut Floor<T>,
        reason_of: impl Fn(&Connection) -> Option<CloseReason>,
    ) {
        while self.incoming.is_waiting() {
            let Some(new) = self.incoming.take() else {
                break;
            };
            self.take_over_one(now, new, floor);
        }
        floor.batch_done();
        for (index, connection) in (0..).zip(&mut self.table) {
            if let Some(connection) = connection.as_deref_mut()
                && let Some(reason) = reason_of(connection)
            {
                let queued = self.queue.queued_bytes(Token(index)).unwrap_or(0);
                connection.dismiss(reason, queued);
            }
        }
    }

    /// Whether there is something left to read of those that were dismissed, as much as is theirs to be read: peers that
    /// go on sending do not make it endless.
    pub(super) fn has_unread(&self) -> bool {
        (0..).zip(&self.table).any(|(index, connection)| {
            let connection = connection.as_deref();
            connection.is_some_and(Connection::is_to_be_read)
                && self.queue.queued_bytes(Token(index)).unwrap_or(0) > 0
        })
    }

    /// Closes those that were dismissed. What waits of them for other shards still waits.
    pub(super) fn close_dismissed(&mut self) {
        for index in 0..self.table.len() {
            let connection = self.table[index].as_deref_mut();
            if connection.is_some_and(Connection::end_dismissed) {
                self.close(Token(u32::try_from(index).expect("a token")));
            }
        }
        self.tell_open();
    }

    /// For a queue that is about to go.
    pub(super) fn disarm(&mut self, slab: &mut Slab) {
        self.queue.disarm(slab);
    }

    /// Posts what still waits; whether any of it could be.
    pub(super) fn drain_last<T: Tx>(&mut self, now: Timestamp, floor: &mut Floor<T>) -> bool {
        let moved = self.drain_spills(now, floor);
        floor.batch_done();
        moved
    }

    /// Counts what waits for shards that take nothing any more as lost.
    pub(super) fn give_up_spills<T: Tx>(&mut self, floor: &mut Floor<T>) {
        for orphan in &mut self.orphans {
            orphan.give_up_spill(floor);
            orphan.report(&mut self.book);
        }
        self.orphans.clear();
    }
}

/// What the kernel's word for a broken connection says of it (tcp(7)).
fn reason_of(errno: i32) -> CloseReason {
    match io::Error::from_raw_os_error(errno).kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => CloseReason::Reset,
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => CloseReason::TimedOut,
        _ => CloseReason::Failed,
    }
}

/// A connection that has its token on a list.
fn connection_at(table: &mut [Option<Box<Connection>>], token: Token) -> &mut Connection {
    table[token.0 as usize]
        .as_deref_mut()
        .expect("what is on a list is in the table")
}

impl<S: StreamQueue> fmt::Debug for Streams<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("shard", &self.book.shard())
            .field("open", &self.open)
            .field("spilling", &self.spilling.len())
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

impl<S: StreamQueue> fmt::Debug for StreamParts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamParts")
            .field("batch", &self.batch)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// New connections per turn: each costs some microseconds.
const TAKE_OVER_MAX: usize = 32;

/// Connections that one round of the sweep looks at, and how often there is one: 10 000 take a fifth of a second,
/// against deadlines of seconds.
const SWEEP_MAX: usize = 512;
const SWEEP_NS: u64 = 10_000_000;

/// How often the open connections are told.
const TELL_NS: u64 = 500_000_000;

#[cfg(test)]
mod tests;
