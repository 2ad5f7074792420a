//! Assembly and life of an engine: start, watch, change, stop without a hole.
//!
//! ```text
//!   start:   groups bound, shut ─▶ steering ─▶ threads: pin, slab, queues, beginnings ─▶ groups opened, acceptor ─▶ gate ─▶ ready
//!   change:  order ─▶ each shard between two batches ─▶ done ─▶ what was replaced is dropped here
//!   stop:    read drops ─▶ no more connections, arrivals shut off ─▶ stop flag ─▶ queues and connections drained,
//!            mail read ─▶ join ─▶ read drops ─▶ close
//!   leave:   no more connections ─▶ stop flag ─▶ connections drained, mail read ─▶ join ─▶ read drops; sockets stay
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use binrush_net::{NetStat, OpenQueue, OpenStreams, UdpSocket, allowed_cores};

use crate::access::Access;
use crate::clock::MonotonicClock;
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::Registry;
use crate::dispatch::{NameId, Table};
use crate::link::Links;
use crate::shard::Life;
use crate::shard::desk::{ListenerId, OBEY_MAX, Order, Returned};
use crate::shard::mailbox::Mailbox;
use crate::shard::streams::PeerRows;
use crate::steering::Steering;
use crate::stream::{PeerTable, StreamSnapshot};
use crate::telemetry::samples::Samples;
use crate::telemetry::snapshot::{HostLosses, Snapshot};
use gate::Gate;
use listener::{Listener, SocketOptions};
use streams::StreamSide;
use thread::{Plan, ShardThread, StreamPlan};

/// How datagrams are taken from the kernel.
mod backend;
/// Threads before packets.
mod begun;
/// Sockets before threads.
mod bound;
/// Where to listen, for whom, and with what.
pub mod config;
/// Why it did not start, or cannot vouch for its end.
pub mod error;
/// Sockets that outlive an engine.
pub mod estate;
/// Where shards wait for each other.
mod gate;
/// One address.
mod listener;
/// Names that come and go.
mod names;
/// Listeners that come and go.
mod reload;
/// Listeners of connections.
mod streams;
/// Messages to handlers.
mod teller;
/// The threads of the shards.
mod thread;

pub use begun::Begun;
pub use bound::Bound;
pub use config::{Backend, EngineConfig, Gro, Pin, StreamBackend, StreamConfig};
pub use error::{ChangeError, ShardName, StartError, StopCause, StopError, Trouble, Warning};
pub use estate::Estate;
pub use reload::Reloaded;
pub use streams::Refusal;
pub use teller::Teller;

/// A running engine: sockets, and threads that turn their datagrams into calls of handlers.
///
/// Belongs to one thread, the control thread. Dropping it stops the shards without looking at the ledger;
/// [`stop`](Self::stop) is the way to end it.
#[derive(Debug)]
pub struct Engine {
    listeners: Vec<Listener>,
    /// The owners, then the readers.
    shards: Vec<ShardThread>,
    /// How many of them there are to be.
    shards_planned: usize,
    registry: Registry,
    /// What the shards dispatch by: the control thread has the last reference.
    table: Arc<Table>,
    /// Tables that a shard which did not answer may still have.
    late_tables: Vec<Arc<Table>>,
    steering: Steering,
    access: Access,
    options: SocketOptions,
    backend: Backend,
    backend_reason: String,
    life: Arc<Life>,
    /// What its shards wait at until all have begun.
    gate: Arc<Gate>,
    warnings: Vec<Warning>,
    next_listener: u32,
    /// Listeners that the slabs have frames for.
    listeners_max: usize,
    host_at_start: NetStat,
    host: HostLosses,
    streams: StreamSide,
    /// Connections to others, whose counts are told with ours.
    links: Vec<Links>,
    /// The access list was changed and not everybody has heard of it.
    access_unsettled: bool,
    /// Its sockets are another engine's, which may have them still.
    is_heir: bool,
    /// Those of them, for datagrams and for connections, that nobody asks for.
    rest: (Vec<ListenerId>, Vec<ListenerId>),
}

/// A shard, as it is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// Its number among the readers, if it is one.
    pub reader: Option<u16>,
    /// The core that its thread is kept on, if it is.
    pub core: Option<usize>,
}

/// A listener, as it is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Address and port.
    pub addr: SocketAddr,
    /// The receive buffer that the kernel granted each of its sockets for datagrams, in bytes; `None`: it takes none.
    pub rcvbuf: Option<usize>,
    /// Whether it takes connections.
    pub tcp: bool,
    /// Whether these have to be inside TLS.
    pub tls: bool,
}

impl EngineConfig {
    /// How many shards an engine of it has: those asked for, or one for each core that this process may use.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        self.shards.unwrap_or_else(|| {
            let cores = u16::try_from(allowed_cores().len()).unwrap_or(SHARDS_MAX);
            cores.clamp(1, SHARDS_MAX)
        })
    }
}

impl Engine {
    /// Binds the sockets, starts the shards and returns when all of them are about to receive.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running or bound.
    pub fn start(config: EngineConfig, registry: Registry) -> Result<Self, StartError> {
        Self::bind(config, Estate::default())?.start(registry)
    }

    /// A start that fails half-way drops the engine, which ends the shards that run.
    fn start_shards<Q: OpenQueue + 'static, S: OpenStreams + 'static>(
        &mut self,
        cores: Vec<Option<thread::CoreWish>>,
        mesh: Vec<Mailbox>,
        batch: usize,
    ) -> Result<(), StartError> {
        let clock = MonotonicClock;
        let peers = Arc::new(self.streams.config.peers.clone());
        let rows = PeerRows::new(&self.streams.config.nodes, &peers);
        let limits = self.streams.limits_of_each();
        for ((id, mailbox), core) in (0..).map(ShardId).zip(mesh).zip(cores) {
            let is_reader = id.0 >= self.steering.shards();
            let sockets = self.listeners.iter().filter_map(|listener| {
                let socket = listener.sockets().nth(id.index())?;
                Some((listener.id, Arc::clone(socket)))
            });
            let batch = if is_reader { 1 } else { batch };
            let plan = Plan {
                id,
                name: self.name_of(id),
                sockets: sockets.collect(),
                core,
                batch,
                // Each queue keeps a batch of frames armed, and one batch is in work.
                frames: if is_reader {
                    0
                } else {
                    batch * (self.listeners_max + 1)
                },
                clock,
                steering: self.steering.clone(),
                mailbox,
                dispatch: self.registry.build(id, &self.table),
                life: Arc::clone(&self.life),
                gate: Arc::clone(&self.gate),
                streams: StreamPlan {
                    intake: Arc::clone(&self.streams.intakes[id.index()]),
                    limits: limits.clone(),
                    peers: Arc::clone(&peers),
                    rows: Arc::clone(&rows),
                },
            };
            let (shard, warning) = ShardThread::start::<Q, S>(plan)?;
            self.shards.push(shard);
            self.warnings.extend(warning);
        }
        Ok(())
    }

    /// The number of a reader among its like; `None` for a shard that owns records.
    fn reader(&self, id: ShardId) -> Option<u16> {
        id.0.checked_sub(self.steering.shards())
    }

    fn name_of(&self, id: ShardId) -> ShardName {
        ShardName::new(id, self.steering.shards())
    }

    /// A way to the handlers, for other threads of this process.
    #[must_use]
    pub fn teller(&self) -> Teller {
        let desks = self.shards.iter();
        let desks = desks.map(|shard| Arc::clone(&shard.handle.desk));
        Teller::new(desks, self.steering.shards())
    }

    /// The number of a name that was ever registered here, by which its handlers are [told](Teller::tell).
    #[must_use]
    pub fn name_id(&self, name: &[u8]) -> Option<NameId> {
        self.registry.id(name)
    }

    /// Tells the counts of `links` in each [`snapshot`](Self::snapshot) from now on: handlers answer by links, and
    /// have handles of their own.
    pub fn tell_of(&mut self, links: Links) {
        self.links.push(links);
    }

    /// Gives every shard an order, waits until all have obeyed, and drops what they gave back.
    fn order(&self, order: impl Fn(ShardId) -> Order) -> Result<(), ChangeError> {
        Self::order_these(&self.shards, order)
    }

    /// The same for those that own records: readers have no sockets of listeners.
    fn order_owners(&self, order: impl Fn(ShardId) -> Order) -> Result<(), ChangeError> {
        let owners = usize::from(self.steering.shards());
        Self::order_these(&self.shards[..owners], order)
    }

    fn order_these(
        shards: &[ShardThread],
        order: impl Fn(ShardId) -> Order,
    ) -> Result<(), ChangeError> {
        let posted: Vec<(&ShardThread, u64)> = shards
            .iter()
            .map(|shard| (shard, shard.handle.desk.post(order(shard.id))))
            .collect();
        let deadline = Instant::now() + OBEY_MAX;
        let mut result = Ok(());
        for (shard, posted) in posted {
            let desk = &shard.handle.desk;
            if !desk.wait(posted, deadline, || shard.is_running()) {
                result = Err(ChangeError::NoAnswer {
                    shard: shard.name(),
                });
            }
            for returned in desk.returned() {
                match returned {
                    Returned::Handler(handler) => drop(handler),
                    // An earlier order, of which it was said then that the shard does not answer.
                    Returned::Failed(number, _) if number < posted => {}
                    Returned::Failed(_, error) => {
                        let shard = shard.name();
                        result = Err(ChangeError::Shard { shard, error });
                    }
                }
            }
        }
        result
    }

    /// Receives what is queued, then stops; arrivals after the call are dropped and counted as such.
    ///
    /// The totals balance exactly: every datagram the kernel ever took for these sockets is in one counter.
    /// Takes some 10 ms in which arrivals are shut off, and the drain.
    ///
    /// # Errors
    /// [`StopError`], when that cannot be promised; it has the totals as far as they are known.
    pub fn stop(mut self) -> Result<Snapshot, StopError> {
        // Whatever fails, the rest is done: what cannot be read keeps its last reading.
        let before = self.each_listener(Listener::read);
        self.streams.stop();
        let shut = self.shut();
        let ended = self.end_shards();
        let mut left = 0;
        let closed = self.each_listener(|listener| {
            left += Self::close(listener)?;
            Ok(())
        });
        self.read_host();
        stopped(
            self.counts(),
            ended,
            before.and(shut).and(closed).map(|()| left),
        )
    }

    /// The counters now, with what the kernel dropped so far.
    ///
    /// The kernel counts drops modulo 2^32: call it often enough for one not to pass unseen, such as every
    /// second.
    ///
    /// # Errors
    /// What reading the kernel's count said.
    pub fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.shards.iter_mut().for_each(ShardThread::look);
        self.read_host();
        self.each_listener(Listener::read)?;
        Ok(self.counts())
    }

    /// Which shard owns what.
    #[must_use]
    pub const fn steering(&self) -> &Steering {
        &self.steering
    }

    /// How often each shard has gone round its loop: an idle one does so 20 times a second, and one that hangs not at all.
    pub fn turns(&self) -> impl Iterator<Item = u64> {
        let ledgers = self.shards.iter().map(|shard| &shard.handle.ledger);
        ledgers.map(|ledger| ledger.turns())
    }

    /// What is wrong with a shard or with accepting connections, as the last [`snapshot`](Self::snapshot) found it.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        let of_shard = self.shards.iter().find_map(ShardThread::trouble);
        of_shard.or_else(|| self.streams.trouble())
    }

    /// Whether all shards are still receiving; if not, [`stop`](Self::stop) says why.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shards.iter().all(ShardThread::is_running)
    }

    /// Bytes of the kernel's memory that datagrams take which wait to be received.
    ///
    /// # Errors
    /// What getsockopt(2) said.
    pub fn queued_bytes(&self) -> io::Result<u64> {
        let open = self.listeners.iter().filter(|each| each.is_open());
        open.map(Listener::queued_bytes).sum()
    }

    /// The addresses it listens on, those for datagrams first; one that takes both is one.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerInfo> {
        let open = self.listeners.iter().filter(|each| each.is_open());
        let streams = self.streams.listeners();
        let with_datagrams = open.map(move |listener| ListenerInfo {
            addr: listener.addr,
            rcvbuf: Some(listener.rcvbuf),
            tcp: streams.iter().any(|tcp| is_at(tcp, listener.addr)),
            tls: false,
        });
        let alone = streams.iter().filter(|tcp| {
            let mut open = self.listeners.iter().filter(|each| each.is_open());
            !open.any(|listener| is_at(tcp, listener.addr))
        });
        with_datagrams.chain(alone.map(|tcp| ListenerInfo {
            addr: tcp.addr,
            rcvbuf: None,
            tcp: true,
            tls: tcp.tls,
        }))
    }

    /// The shards, in order: those that own records, then the readers.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardInfo> {
        self.shards.iter().map(|shard| ShardInfo {
            id: shard.id,
            reader: self.reader(shard.id),
            core: shard.core,
        })
    }

    /// What refused datagrams looked like, for each shard.
    pub fn samples(&self) -> impl Iterator<Item = &Samples> {
        self.shards
            .iter()
            .map(|shard| shard.handle.ledger.samples())
    }

    /// How datagrams are taken from the kernel, never [`Backend::Auto`], and why so.
    #[must_use]
    pub fn backend(&self) -> (Backend, &str) {
        (self.backend, &self.backend_reason)
    }

    /// How bytes of connections are taken from the kernel, never [`StreamBackend::Auto`], and why so.
    #[must_use]
    pub fn stream_backend(&self) -> (StreamBackend, &str) {
        (self.streams.backend, &self.streams.backend_reason)
    }

    /// What refused connections looked like: the last of each reason.
    #[must_use]
    pub fn refused_connections(&self) -> Vec<Refusal> {
        self.streams.refusals()
    }

    /// What is to be known of the certificates and revocation lists in use now, such as that one ends soon. Ask now and
    /// then: time passes.
    #[must_use]
    pub fn certificate_warnings(&self) -> Vec<String> {
        self.streams.warnings()
    }

    /// How the streams of which sender are read.
    #[must_use]
    pub const fn peers(&self) -> &PeerTable {
        &self.streams.config.peers
    }

    /// Whose datagrams and connections are taken.
    #[must_use]
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// Whether the sockets take merged trains of datagrams.
    #[must_use]
    pub const fn gro(&self) -> bool {
        self.options.gro
    }

    /// What the user should know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn counts(&self) -> Snapshot {
        let shards = self.shards.iter().map(|shard| shard.handle.ledger.counts());
        let listeners = self.listeners.iter().map(Listener::counts);
        let mut counts = Snapshot::of(shards.collect(), listeners.collect());
        counts.host = self.host;
        counts.streams = self.stream_counts();
        counts
    }

    fn stream_counts(&self) -> StreamSnapshot {
        let mut counts = StreamSnapshot {
            accept: self.streams.counts(),
            links: self.links.iter().flat_map(Links::counts).collect(),
            ..StreamSnapshot::default()
        };
        for shard in &self.shards {
            shard.handle.book.read_into(&mut counts);
        }
        for peer in &mut counts.peers {
            peer.name.clone_from(&self.peers().of(peer.addr).name);
        }
        counts
    }

    /// What the host lost since the start; where it does not tell, what is known.
    fn read_host(&mut self) {
        let Ok(now) = NetStat::read() else { return };
        let lost = now.since(&self.host_at_start);
        // A number that the kernel shows smaller than before (a processor went away) does not go back here.
        let host = &mut self.host;
        host.reassembly_failures = host.reassembly_failures.max(lost.reassembly_failures);
        host.checksum_errors = host.checksum_errors.max(lost.checksum_errors);
        host.no_ports = host.no_ports.max(lost.no_ports);
        host.backlog = host.backlog.max(lost.backlog);
    }

    fn shut(&self) -> io::Result<()> {
        let sockets = self.listeners.iter().flat_map(Listener::sockets);
        UdpSocket::drop_all_of(sockets.map(|socket| &**socket))
    }

    /// Does `each` for every listener, also when it fails for one; the first error.
    fn each_listener(
        &mut self,
        each: impl FnMut(&mut Listener) -> io::Result<()>,
    ) -> io::Result<()> {
        let open = self.listeners.iter_mut().filter(|each| each.is_open());
        open.map(each).fold(Ok(()), io::Result::and)
    }

    /// Asks all shards to end and waits for them; what the first that did not end in order said, or which of them hangs: the
    /// others wait for its mail, and may not end in time because of that alone.
    fn end_shards(&mut self) -> Result<(), StopCause> {
        self.life.stop();
        for shard in &self.shards {
            shard.handle.desk.wake();
        }
        let deadline = Instant::now() + END_MAX;
        let (mut first, mut hangs) = (Ok(()), Ok(()));
        for shard in &mut self.shards {
            let ended = shard.join(deadline);
            match ended {
                Err(StopCause::Stuck { .. }) if !self.life.has_left(shard.id) => {
                    hangs = hangs.and(ended);
                }
                ended => first = first.and(ended),
            }
        }
        hangs.and(first)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.shards.iter().all(|shard| !shard.is_running()) {
            // Stopped in order.
            return;
        }
        if self.is_heir {
            // Who had the sockets before may go on with them: nothing is shut, and nothing more is read.
            self.streams.leave();
            self.life.leave();
        } else {
            self.streams.stop();
            // Without the filter the drains would end in errors. Nobody is left to tell of one.
            let _ = self.shut();
        }
        self.gate.close();
        // Those that never started post no mail either.
        self.life.abandon(self.shards_planned - self.shards.len());
        let _ = self.end_shards();
    }
}

/// What a stop came to: how the shards ended, and how many bytes were left in queues if the kernel told all.
fn stopped(
    totals: Snapshot,
    ended: Result<(), StopCause>,
    left: io::Result<u64>,
) -> Result<Snapshot, StopError> {
    let cause = match (ended, left) {
        (Err(cause), _) => cause,
        (Ok(()), Err(error)) => StopCause::Kernel(error),
        (Ok(()), Ok(bytes @ 1..)) => StopCause::LeftInQueue { bytes },
        (Ok(()), Ok(0)) => return Ok(totals),
    };
    Err(StopError {
        totals: Box::new(totals),
        cause,
    })
}

/// Whether connections come to the address of a listener of datagrams.
fn is_at(tcp: &streams::StreamListener, addr: SocketAddr) -> bool {
    !tcp.tls && tcp.addr == addr
}

fn of_registry(registry: &Registry) -> Vec<Warning> {
    let replaced = registry.replaced().iter().cloned();
    replaced.map(Warning::NameReplaced).collect()
}

fn of_listeners(listeners: &[Listener]) -> Option<Warning> {
    // The same for all: the limit is the kernel's, not the address's.
    let mut warnings = listeners.iter().filter_map(|each| each.rcvbuf_warning);
    warnings.next().map(Warning::Rcvbuf)
}

/// Random enough that nobody can choose keys that fall on one shard: the hash keys of std are seeded by the
/// system.
fn seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let word = RandomState::new().hash_one(0_u8);
    u32::try_from(word >> 32).expect("the upper half")
}

/// The longest that shards may take to drain their queues and end: a full buffer is drained in milliseconds.
const END_MAX: Duration = Duration::from_secs(10);

/// Most datagrams per receive: what one system call takes.
pub const BATCH_MAX: usize = 1024;

/// Most shards: rings between all pairs of them take memory.
pub const SHARDS_MAX: u16 = 64;

/// Most readers: each cuts more packets than some peers can send.
pub const READERS_MAX: u16 = 16;

/// Most addresses.
pub const LISTENERS_MAX: usize = 32;

/// Listeners that can be added while running, beyond those of the start, before some are closed.
const LISTENERS_SPARE: usize = 2;

#[cfg(test)]
mod tests;
