//! The loop: one thread, one core, its own queues, slab, handlers and counters.
//!
//! ```text
//!   ┌▶ orders? ─▶ mail ─▶ recv ─▶ for each datagram: mine? ─▶ parse ─▶ lookup ─▶ handle ─▶ count ─┐
//!   │                     └▶ connections: the same for each packet of a stream ────────────────────┤
//!   │                                                 └ no ─▶ mailbox of its owner                 │
//!   ├──────────── a turn for one handler, when it is time ◀── publish mail, send, release ◀───────┘
//!   └─ nothing there: ask again for a while, then sleep until something comes or the bell rings
//! ```
//!
//! Per packet there is no lock, no allocation, no clock read, no log line and no atomic read-modify-write.
//! What is wrong with a packet is an [`Outcome`], and every datagram gets exactly one, on one shard.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use binrush_net::{Batch, Bell, RxQueue, Slab, StreamQueue, Tx, UdpSocket};

use crate::clock::{Clock, Timestamp};
use crate::dispatch::NameId;
use crate::dispatch::handler::{Ends, Origin, ShardId, canonical};
use crate::dispatch::registry::Dispatch;
use crate::steering::Steering;
use crate::stream::{CloseReason, StreamSnapshot};
use crate::telemetry::ledger::Ledger;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::streams::StreamBook;
use desk::{Closing, Connections, Desk, ListenerId, Order, Returned};
use floor::{Floor, Made};
use life::Leaving;
use mailbox::Mailbox;
use outbox::Outbox;
use streams::{NoStreams, StreamParts, Streams};
use turns::Turns;

pub use life::Life;

/// What the control thread wants of a running shard.
pub(crate) mod desk;
/// The end of queues, connections and shards.
mod ending;
/// The way of one datagram.
mod floor;
/// The end, which shards come to together.
mod life;
/// Datagrams that arrived on one shard and belong to another.
pub mod mailbox;
/// Packets that handlers send.
pub mod outbox;
/// Connections.
pub mod streams;
/// What handlers do without a packet.
mod turns;

/// Everything one core needs to turn datagrams into calls of handlers.
///
/// Generic over where datagrams come from, where packets go and what time it is, so that a test can script all
/// three and whole engines run in a simulator, turn by turn.
pub struct Shard<Q, T, C, S: StreamQueue = NoStreams> {
    queues: Vec<Q>,
    /// What else there is to know of each queue, in the same order.
    sources: Vec<Source>,
    /// Datagrams are to say where they came from.
    wants_sources: bool,
    open: Box<Open<Q, T>>,
    clock: C,
    slab: Slab,
    /// Empty between receives.
    batch: Batch,
    desk: Arc<Desk>,
    /// Orders done so far.
    obeyed: u64,
    bell: Arc<Bell>,
    /// Waits that failed since the last one that did not.
    waits: Failures,
    turns: Turns,
    floor: Floor<T>,
    streams: Streams<S>,
    /// Receives from connections that failed since the last one that did not.
    stream_failures: Failures,
}

/// What a shard knows of one of its queues.
struct Source {
    listener: ListenerId,
    /// Where it is bound, an IPv4 address as such, if datagrams say where they came from.
    local: Option<SocketAddr>,
    /// Receives that failed since the last one that did not.
    failures: Failures,
}

/// Failures in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    /// When the first of them was.
    since: Timestamp,
}

/// What a shard is made of.
pub struct Parts<Q, T, C, S: StreamQueue = NoStreams> {
    /// Its number.
    pub id: ShardId,
    /// Where its datagrams come from.
    pub queues: Vec<Q>,
    /// Makes a queue and a sender of a socket that is added later, on the shard's thread.
    pub open: Box<Open<Q, T>>,
    /// Where its handlers' packets go.
    pub outbox: Outbox<T>,
    /// What time it is; all shards of an engine share one beginning, because mail carries its time of arrival.
    pub clock: C,
    /// Where datagrams are received to: at least as many frames as the batch has room for, or batches stay short.
    pub slab: Slab,
    /// What one receive brings at most.
    pub batch: Batch,
    /// Which shard a datagram belongs to; the same for all shards of an engine.
    pub steering: Steering,
    /// Its ends of the rings between shards.
    pub mailbox: Mailbox,
    /// Its handlers.
    pub dispatch: Dispatch,
    /// Its connections; [`NoStreams::parts`] for none.
    pub streams: StreamParts<S>,
}

/// Makes a queue and a sender of a socket, and says whether it is an IPv6 one.
pub type Open<Q, T> = dyn FnMut(Arc<UdpSocket>) -> io::Result<(Q, T, bool)> + Send;

/// A running shard as the control thread knows it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) book: Arc<StreamBook>,
    pub(crate) desk: Arc<Desk>,
}

impl<Q: RxQueue, T: Tx, C: Clock, S: StreamQueue> Shard<Q, T, C, S> {
    /// A shard of `parts`, and its counters, to read from anywhere.
    ///
    /// Datagrams are 1.x packets. Allocates what the loop will use; [`run`](Self::run) allocates nothing until
    /// it is told of a change.
    ///
    /// # Panics
    /// When `mailbox` has fewer shards than `steering`. It may have more: readers, which own nothing.
    #[must_use]
    pub fn new(parts: Parts<Q, T, C, S>) -> (Self, Arc<Ledger>) {
        let listeners = (0..).map(ListenerId).take(parts.queues.len()).collect();
        let (shard, handle) = Self::with_listeners(parts, listeners);
        (shard, handle.ledger)
    }

    pub(crate) fn with_listeners(
        parts: Parts<Q, T, C, S>,
        listeners: Vec<ListenerId>,
    ) -> (Self, Handle) {
        let Parts {
            id,
            mut queues,
            open,
            outbox,
            clock,
            slab,
            batch,
            steering,
            mailbox,
            dispatch,
            streams,
        } = parts;
        assert!(
            mailbox.shards() >= usize::from(steering.shards()),
            "rings to all owners that there can be"
        );
        let (ledger, writer) = Ledger::new();
        for (name_id, name) in &dispatch.names {
            ledger.name(*name_id, name);
        }
        let bell = Arc::clone(mailbox.bell());
        let desk = Desk::new(Arc::clone(&bell));
        let (book, book_writer) = StreamBook::new(id.0, Arc::clone(&streams.rows));
        let handle = Handle {
            ledger,
            book,
            desk: Arc::clone(&desk),
        };
        let wants_sources = dispatch.wants_sources;
        let sources = listeners.into_iter().zip(&mut queues);
        let source = |(listener, queue)| Source::new(listener, queue, wants_sources);
        let shard = Self {
            sources: sources.map(source).collect(),
            queues,
            wants_sources,
            open,
            clock,
            slab,
            batch,
            desk,
            obeyed: 0,
            bell,
            waits: Failures::default(),
            turns: Turns::new(),
            floor: Floor {
                id,
                steering,
                mailbox,
                table: dispatch.table,
                handlers: dispatch.handlers,
                outbox,
                ledger: writer,
                made: Made::default(),
            },
            streams: Streams::new(streams, book_writer),
            stream_failures: Failures::default(),
        };
        (shard, handle)
    }

    /// What was counted of its connections so far. For who has the shard itself, as a simulation does.
    #[must_use]
    pub fn stream_counts(&self) -> StreamSnapshot {
        let mut counts = StreamSnapshot::default();
        self.streams.read_into(&mut counts);
        counts
    }

    /// Runs until `life` asks for the end, its queues are empty, unless they are left to others, and all mail is read.
    ///
    /// # Errors
    /// The error of a queue when receiving from it failed [`RECV_FAILURES_MAX`] times in a row and for
    /// [`FAILING_MAX`] (a receive that works, even an empty one, begins the count anew), each of which is counted; or
    /// that more came after the stop than was queued at that time, or that another shard did not end.
    pub fn run(&mut self, life: &Life) -> io::Result<()> {
        // Whatever happens to this shard, the others must not wait for its mail, and nobody tells it anything any more.
        let desk = Arc::clone(&self.desk);
        let _closing = Closing(&desk);
        let leaving = Leaving(life, self.floor.id);
        let mut idle = 0;
        while !life.is_stopping() {
            if self.turn()? {
                idle = 0;
            } else if idle < SPIN_RECEIVES {
                let connections = usize::from(self.streams.has_connections());
                idle += (self.queues.len() + connections).max(1);
            } else {
                self.park(life)?;
            }
        }
        if !life.leaves_queues() {
            for index in 0..self.queues.len() {
                self.drain(index)?;
            }
        }
        self.drain_streams()?;
        drop(leaving);
        let last = self.read_last_mail(life);
        self.hear_last();
        last
    }

    /// One round: what control wants, what other shards posted, one receive from each queue and one from all
    /// connections; and a turn for one handler, if it is time. Whether anything came. Never waits.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> io::Result<bool> {
        let obeyed = self.desk.is_waiting(self.obeyed);
        if obeyed {
            self.obey();
        }
        let mut came = self.read_mail() || obeyed;
        let mut pause = Duration::ZERO;
        for index in 0..self.queues.len() {
            match self.receive(index) {
                Ok(false) => {}
                Ok(true) => {
                    self.settle(index);
                    came = true;
                }
                Err(error) => {
                    let failures = self.sources[index].failures;
                    pause = pause.max(self.failed(failures, error)?);
                }
            }
        }
        if !self.streams.is_idle() {
            match self.receive_streams() {
                Ok(has_come) => came |= has_come,
                Err(error) => {
                    let failures = self.stream_failures;
                    pause = pause.max(self.failed(failures, error)?);
                }
            }
        }
        // A queue that fails must not hold up one that works.
        if !pause.is_zero() && !came {
            self.clock.sleep(pause);
        }
        if self.turns.is_due() {
            self.give_turn();
        }
        self.floor.ledger.turned();
        Ok(came)
    }

    /// Sleeps until something may have come or a handler has its turn; at most [`WAIT`], and less while packets wait for
    /// another shard, which does not ring when it has room again.
    fn park(&mut self, life: &Life) -> io::Result<()> {
        self.bell.arm();
        // From here on whoever posts rings. What was posted before is seen now.
        let posted = self.floor.mailbox.has_mail()
            || self.desk.is_waiting(self.obeyed)
            || self.streams.is_ready();
        let waited = if posted || life.is_stopping() {
            Ok(())
        } else {
            let most = if self.streams.is_spilling() {
                SPILL_WAIT
            } else {
                WAIT
            };
            let most = most.min(self.turns.left());
            // Without any, nobody receives, and what the descriptor still says of the last one stays.
            let connections = self.streams.has_connections();
            let connections = connections.then(|| self.streams.queue().as_raw_fd());
            let connections = connections.flatten();
            Q::wait(&mut self.queues, connections, &self.bell, most)
        };
        self.bell.disarm();
        self.waited(waited)?;
        self.turns.note(self.clock.now());
        Ok(())
    }

    /// Counts a wait that failed, and lets time pass in its place.
    fn waited(&mut self, waited: io::Result<()>) -> io::Result<()> {
        let Err(error) = waited else {
            self.waits = Failures::default();
            return Ok(());
        };
        self.waits.add(self.clock.now());
        let pause = self.failed(self.waits, error)?;
        self.clock.sleep(pause);
        Ok(())
    }

    /// Receives from all connections; whether anything came.
    fn receive_streams(&mut self) -> io::Result<bool> {
        let now = self.clock.now();
        self.turns.note(now);
        match self.streams.receive(now, &mut self.slab, &mut self.floor) {
            Ok(came) => {
                self.stream_failures = Failures::default();
                if came {
                    self.settle_streams();
                }
                self.streams.sweep(now);
                self.streams.tell_posted(&mut self.floor);
                Ok(came)
            }
            Err(error) => {
                self.stream_failures.add(now);
                Err(error)
            }
        }
    }

    /// Brings every packet of what came by connections to its counter or its owner.
    fn settle_streams(&mut self) {
        let Self {
            clock,
            slab,
            streams,
            floor,
            ..
        } = self;
        let now = clock.now();
        let (kept, bytes) = streams.settle(now, slab, floor);
        if bytes > 0 {
            floor.ledger.received_pieces();
        }
        floor.batch_done();
        let busy_ns = clock.now().nanos_since(now);
        floor.ledger.batch_done(kept, bytes, busy_ns, busy_ns);
    }

    /// Whether a batch came from a queue.
    #[inline]
    fn receive(&mut self, index: usize) -> io::Result<bool> {
        match self.queues[index].recv(&mut self.slab, &mut self.batch) {
            Ok(()) => {
                self.sources[index].failures = Failures::default();
                Ok(!self.batch.is_empty())
            }
            Err(error) => {
                let now = self.clock.now();
                self.sources[index].failures.add(now);
                Err(error)
            }
        }
    }

    /// Counts a failure, the last of `failures`, and says how long to pause before the next attempt: each time twice
    /// as long. The error, when it has gone on for too long.
    #[cold]
    fn failed(&mut self, failures: Failures, error: io::Error) -> io::Result<Duration> {
        self.floor.ledger.receive_failed();
        let lasted = self.clock.now().nanos_since(failures.since);
        if failures.count >= RECV_FAILURES_MAX && u128::from(lasted) >= FAILING_MAX.as_nanos() {
            return Err(error);
        }
        let doublings = (failures.count - 1).min(BACKOFF_DOUBLINGS_MAX);
        Ok(BACKOFF_MIN.saturating_mul(1 << doublings))
    }

    /// Brings every datagram of the batch, which came from a queue, to its counter or its owner, and gives the frames back.
    fn settle(&mut self, index: usize) {
        let local = self.sources[index].local;
        let Self {
            clock,
            slab,
            batch,
            turns,
            floor,
            ..
        } = self;
        let now = clock.now();
        floor.ledger.received(batch.len());
        let (mut bytes, mut kept) = (0, 0);
        let untold = Origin::Datagram(None);
        for datagram in batch.datagrams(slab) {
            bytes += datagram.bytes.len();
            // Most come from nowhere that was asked for, and none of them writes this anew.
            let told;
            let origin = match datagram.source {
                None => &untold,
                Some(peer) => {
                    // Both are canonical: queues tell peers so.
                    told = Origin::Datagram(Some(Ends { peer: *peer, local }));
                    &told
                }
            };
            if datagram.truncated {
                let outcome = Outcome::Truncated;
                floor.ledger.refuse(outcome, datagram.bytes, None);
            } else if floor.is_mine(now, origin, datagram.bytes) {
                floor.packet(now, origin, datagram.bytes);
                kept += 1;
            }
        }
        floor.batch_done();
        let end = clock.now();
        let busy_ns = end.nanos_since(now);
        floor.ledger.batch_done(kept, bytes, busy_ns, busy_ns);
        batch.release(slab);
        turns.note(end);
    }

    /// Settles what other shards posted; whether there was anything.
    #[inline]
    fn read_mail(&mut self) -> bool {
        self.floor.mailbox.has_mail() && self.settle_mail()
    }

    fn settle_mail(&mut self) -> bool {
        let now = self.clock.now();
        let (count, oldest) = self.floor.mail(now);
        self.floor.batch_done();
        let end = self.clock.now();
        self.turns.note(end);
        // Each was settled no later than the oldest: a bound for all of them, by one clock read.
        let (busy_ns, latency_ns) = (end.nanos_since(now), end.nanos_since(oldest));
        let ledger = &mut self.floor.ledger;
        ledger.batch_done(count, 0, busy_ns, latency_ns);
        count > 0
    }

    /// Does what others want, between two batches; of messages to handlers one, so that packets have their turn before
    /// the next.
    #[cold]
    fn obey(&mut self) {
        while let Some(order) = self.desk.take() {
            let is_told = matches!(order, Order::Tell(..));
            match order {
                Order::Dispatch { table, id, handler } => {
                    // Control has the last reference to the old table, and a handler may take long to drop: so
                    // neither is freed here.
                    self.floor.table = table;
                    if let Some(handler) = self.floor.handlers.put(id, handler) {
                        self.desk.give_back(Returned::Handler(handler));
                    }
                }
                Order::Open(listener, socket) => match (self.open)(socket) {
                    Ok((mut queue, tx, is_ipv6)) => {
                        let source = Source::new(listener, &mut queue, self.wants_sources);
                        self.queues.push(queue);
                        self.sources.push(source);
                        self.floor.outbox.add(listener, is_ipv6, tx);
                    }
                    Err(error) => self.give_back(error),
                },
                Order::Close(listener) => self.close(listener),
                Order::EndConnections(of) => self.end_some(&of),
                Order::Tell(name, message) => self.tell(name, message),
            }
            self.obeyed += 1;
            if is_told {
                break;
            }
        }
        self.desk.done(self.obeyed);
    }

    fn tell(&mut self, name: NameId, message: Box<dyn Any + Send>) {
        let now = self.clock.now();
        self.floor.tell(now, name, message);
        self.floor.batch_done();
        let busy_ns = self.clock.now().nanos_since(now);
        self.floor.ledger.worked(busy_ns);
    }

    fn close(&mut self, listener: ListenerId) {
        let Some(index) = self
            .sources
            .iter()
            .position(|each| each.listener == listener)
        else {
            // It could not be opened.
            return;
        };
        let drained = self.drain(index);
        self.sources.remove(index);
        self.queues.remove(index).disarm(&mut self.slab);
        self.floor.outbox.remove(listener);
        if let Err(error) = drained {
            self.give_back(error);
        }
    }

    fn end_some(&mut self, of: &Connections) {
        let ended = match of {
            Connections::OfListener(id) => self.end_connections(|each| {
                (each.listener() == *id).then_some(CloseReason::ListenerClosed)
            }),
            Connections::NotAllowedBy(access) => self.end_connections(|each| {
                let is_allowed = access.allows(each.peer().ip());
                (!is_allowed).then_some(CloseReason::NotAllowed)
            }),
        };
        if let Err(error) = ended {
            self.give_back(error);
        }
    }

    /// Tells control that the order in work did not go as it should.
    fn give_back(&self, error: io::Error) {
        let returned = Returned::Failed(self.obeyed + 1, error);
        self.desk.give_back(returned);
    }
}

impl Source {
    /// Of `queue`, which is asked for the sources of datagrams where they are wanted.
    fn new(listener: ListenerId, queue: &mut impl RxQueue, wants_sources: bool) -> Self {
        let mut local = None;
        if wants_sources {
            queue.ask_sources();
            // Once for all of its datagrams: a socket of another process may be bound to IPv4 inside IPv6.
            local = queue.local_addr().map(canonical);
        }
        Self {
            listener,
            local,
            failures: Failures::default(),
        }
    }
}

impl Failures {
    fn add(&mut self, now: Timestamp) {
        if self.count == 0 {
            self.since = now;
        }
        self.count = self.count.saturating_add(1);
    }
}

impl<Q: fmt::Debug, T, C: fmt::Debug, S: StreamQueue> fmt::Debug for Shard<Q, T, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.floor.id)
            .field("queues", &self.queues)
            .field("clock", &self.clock)
            .field("table", &self.floor.table)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl<Q: fmt::Debug, T, C: fmt::Debug, S: StreamQueue> fmt::Debug for Parts<Q, T, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("id", &self.id)
            .field("queues", &self.queues)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

/// Empty receives in a row before a shard sleeps: about 40 us of them, at 0.3 us each.
///
/// A wakeup costs about as much. So whatever the gap between two datagrams, asking and then sleeping costs
/// at most twice what the better of the two would have; and an idle shard sleeps.
pub const SPIN_RECEIVES: usize = 128;

/// The longest sleep without a look around.
pub const WAIT: Duration = Duration::from_millis(50);

/// The longest sleep while packets wait for another shard: it handles about as much in that time as its ring holds.
const SPILL_WAIT: Duration = Duration::from_millis(1);

/// Receive errors in a row, from one queue, after which a shard may give up.
pub const RECV_FAILURES_MAX: u32 = 16;

/// How long a queue may fail before a shard gives up: enough for a moment without kernel memory.
pub const FAILING_MAX: Duration = Duration::from_millis(300);

/// The pause after a first failure; the longest is 32 ms, because orders are not looked at meanwhile.
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_DOUBLINGS_MAX: u32 = 5;

#[cfg(test)]
mod tests;
