use super::*;
use crate::access::Access;
use crate::clock::Clock;
use crate::dispatch::handler::{Context, Ends, Origin, ShardId, Verdict};
use crate::dispatch::registry::Registry;
use crate::shard::desk::{Connections, ListenerId, Order};
use crate::shard::mailbox::Mailbox;
use crate::shard::outbox::Outbox;
use crate::shard::{Handle, Life, Parts, Shard};
use crate::steering::Steering;
use crate::stream::{PeerSettings, StreamSnapshot};
use crate::telemetry::outcome::Outcome;
use crate::telemetry::snapshot::Snapshot;
use binrush_net::{Batch, Bell, Close, RxQueue, Sent, TxBatch};
use binrush_wire::{Builder, Generation, Packet, Release};
use crossbeam_queue::SegQueue;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One end of a connection in memory, whose other end the test plays.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<WireState>>);

#[derive(Debug, Default)]
struct WireState {
    pieces: VecDeque<Piece>,
    paused: bool,
    closed: Option<Close>,
    /// What was written to the peer, which takes nothing more at `deaf_from` bytes.
    written: Vec<u8>,
    deaf_from: Option<usize>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    End,
    Failed(i32),
}

impl Wire {
    fn send(&self, bytes: impl Into<Vec<u8>>) {
        self.push(Piece::Bytes(bytes.into()));
    }

    fn push(&self, piece: Piece) {
        self.0.lock().unwrap().pieces.push_back(piece);
    }

    fn closed(&self) -> Option<Close> {
        self.0.lock().unwrap().closed
    }

    fn is_paused(&self) -> bool {
        self.0.lock().unwrap().paused
    }

    fn written(&self) -> Vec<u8> {
        self.0.lock().unwrap().written.clone()
    }

    /// From now on takes so many bytes in all.
    fn take_only(&self, bytes: Option<usize>) {
        self.0.lock().unwrap().deaf_from = bytes;
    }
}

/// Brings one piece of each connection per receive.
#[derive(Debug, Default)]
struct Wires(Vec<Option<Wire>>);

impl StreamQueue for Wires {
    type Socket = Wire;

    fn add(&mut self, token: Token, socket: Wire) -> Result<(), (Wire, io::Error)> {
        let index = token.0 as usize;
        self.0.resize_with(self.0.len().max(index + 1), || None);
        assert!(self.0[index].is_none(), "a token in use");
        self.0[index] = Some(socket);
        Ok(())
    }

    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        assert!(batch.is_empty());
        for (index, wire) in (0..).zip(&self.0) {
            let Some(wire) = wire else { continue };
            let mut wire = wire.0.lock().unwrap();
            if wire.paused || batch.room() == 0 {
                continue;
            }
            match wire.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) => {
                    let frame = slab.take().unwrap();
                    slab.frame_mut(&frame)[..bytes.len()].copy_from_slice(&bytes);
                    batch.push(Token(index), frame, u32::try_from(bytes.len()).unwrap());
                }
                Some(Piece::End) => batch.push_end(Token(index)),
                Some(Piece::Failed(errno)) => batch.push_failed(Token(index), errno),
                None => {}
            }
        }
        Ok(())
    }

    fn pause(&mut self, token: Token) {
        let wire = self.0[token.0 as usize].as_ref().unwrap();
        wire.0.lock().unwrap().paused = true;
    }

    fn resume(&mut self, token: Token) {
        let wire = self.0[token.0 as usize].as_ref().unwrap();
        wire.0.lock().unwrap().paused = false;
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        let wire = self.0[token.0 as usize].as_ref().unwrap();
        let mut wire = wire.0.lock().unwrap();
        let room = wire.deaf_from.map(|bytes| bytes - wire.written.len());
        match bytes.len().min(room.unwrap_or(usize::MAX)) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            taken => {
                wire.written.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }

    fn queued_bytes(&self, token: Token) -> io::Result<u64> {
        let wire = self.0[token.0 as usize].as_ref().unwrap();
        let wire = wire.0.lock().unwrap();
        let bytes = wire.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::End | Piece::Failed(_) => 0,
        });
        Ok(bytes.sum())
    }

    fn close(&mut self, token: Token, how: Close) {
        let wire = self.0[token.0 as usize].take().unwrap();
        wire.0.lock().unwrap().closed = Some(how);
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn is_ready(&mut self) -> bool {
        false
    }
}

/// No datagrams.
#[derive(Debug)]
struct Quiet;

impl RxQueue for Quiet {
    fn recv(&mut self, _: &mut Slab, _: &mut Batch) -> io::Result<()> {
        Ok(())
    }

    fn wait(_: &mut [Self], _: Option<RawFd>, _: &Bell, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn queued_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

struct Nowhere;

impl Tx for Nowhere {
    fn send(&mut self, _: &mut TxBatch) -> Sent {
        unreachable!("nothing was posted")
    }
}

/// The test's own time; a sleep moves it.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&mut self, duration: Duration) {
        self.pass(duration);
        // The others have threads of their own while they end.
        std::thread::sleep(duration.min(Duration::from_micros(100)));
    }
}

impl Hand {
    fn pass(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap();
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

/// Where connections arrive.
const LOCAL: &str = "10.0.0.1:5555";

/// What handlers saw: shard, origin, first string of each packet.
type Seen = Arc<Mutex<Vec<(u16, Origin, Vec<u8>)>>>;

/// Shards whose turns the test takes; readers behind those that own records.
struct Cluster {
    /// Who gets connections: the first reader, or shard 0.
    taker: usize,
    shards: Vec<Shard<Quiet, Nowhere, Hand, Wires>>,
    handles: Vec<Handle>,
    intakes: Vec<Arc<SegQueue<NewConnection<Wire>>>>,
    clock: Hand,
    seen: Seen,
    seats: Arc<()>,
}

const NAMES: [&[u8]; 3] = [b"usrloc-contact-repl", b"clusterer-internal", b"other"];

impl Cluster {
    fn new(count: u16, limits: &StreamLimits) -> Self {
        Self::with(count, 0, limits, Registry::new())
    }

    /// With names of the test's own beside the usual ones.
    fn with(owners: u16, readers: u16, limits: &StreamLimits, mut registry: Registry) -> Self {
        let seen = Seen::default();
        for name in NAMES {
            let seen = Arc::clone(&seen);
            let make = move |_| {
                let seen = Arc::clone(&seen);
                move |context: &mut Context<'_>, packet: &Packet<'_>| {
                    let first = packet.fields().pop_str().unwrap_or_default().to_vec();
                    let shard = context.shard().0;
                    seen.lock().unwrap().push((shard, *context.origin(), first));
                    Verdict::Handled
                }
            };
            registry.register(name, make).unwrap();
        }
        let mut peers = PeerTable::default();
        let old = PeerSettings::of_release(Release::V2_2);
        peers.add("10.0.2.2".parse().unwrap(), old).unwrap();
        let rows = PeerRows::new(&[], &peers);
        let (table, clock) = (Arc::new(registry.table()), Hand::default());
        let mut cluster = Self {
            taker: if readers > 0 { owners.into() } else { 0 },
            shards: Vec::new(),
            handles: Vec::new(),
            intakes: Vec::new(),
            clock,
            seen,
            seats: Arc::new(()),
        };
        let mesh = Mailbox::mesh(owners + readers).unwrap();
        for (id, mailbox) in (0..).map(ShardId).zip(mesh) {
            let intake = Arc::new(SegQueue::new());
            let streams = StreamParts {
                queue: Wires::default(),
                incoming: Arc::clone(&intake) as Arc<dyn Incoming<Wire>>,
                batch: 4,
                limits: limits.clone(),
                peers: Arc::new(peers.clone()),
                rows: Arc::clone(&rows),
            };
            let parts = Parts {
                id,
                queues: vec![Quiet],
                open: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
                outbox: Outbox::new(None, None),
                clock: cluster.clock.clone(),
                slab: Slab::new(8).unwrap(),
                batch: Batch::new(4),
                steering: Steering::new(owners, 0),
                mailbox,
                dispatch: registry.build(id, &table),
                streams,
            };
            let (shard, handle) = Shard::with_listeners(parts, vec![ListenerId(0)]);
            cluster.shards.push(shard);
            cluster.handles.push(handle);
            cluster.intakes.push(intake);
        }
        cluster
    }

    /// A connection.
    fn connect(&self, peer: &str) -> Wire {
        self.connect_with(peer, Vec::new())
    }

    fn connect_with(&self, peer: &str, early: Vec<u8>) -> Wire {
        let wire = Wire::default();
        self.intakes[self.taker].push(NewConnection {
            socket: wire.clone(),
            peer: SocketAddr::new(peer.parse().unwrap(), 40_000),
            local: Some(LOCAL.parse().unwrap()),
            listener: 7,
            tls: None,
            early,
            seat: Some(Box::new(Arc::clone(&self.seats))),
        });
        wire
    }

    /// So many turns of one shard, some time before each.
    fn turn(&mut self, shard: usize, turns: usize) {
        for _ in 0..turns {
            self.clock.pass(Duration::from_millis(11));
            self.shards[shard].turn().unwrap();
        }
    }

    fn turn_all(&mut self, turns: usize) {
        for _ in 0..turns {
            (0..self.shards.len()).for_each(|shard| self.turn(shard, 1));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let counts = self.handles.iter().map(|handle| handle.ledger.counts());
        let mut snapshot = Snapshot::of(counts.collect(), Vec::new());
        let mut streams = StreamSnapshot::default();
        for handle in &self.handles {
            handle.book.read_into(&mut streams);
        }
        snapshot.streams = streams;
        snapshot
    }

    /// Ends all shards, as threads do, and gives the last counts.
    fn stop(mut self) -> Snapshot {
        let life = Life::new(u16::try_from(self.shards.len()).unwrap());
        life.stop();
        std::thread::scope(|scope| {
            for shard in &mut self.shards {
                scope.spawn(|| shard.run(&life).unwrap());
            }
        });
        assert_eq!(Arc::strong_count(&self.seats), 1, "all seats came back");
        self.snapshot()
    }
}

fn packet_of(
    generation: Generation,
    name: &[u8],
    command: i32,
    version: i16,
    strings: &[&[u8]],
) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let mut builder = Builder::new(generation, &mut buffer, name, command, version).unwrap();
    for string in strings {
        builder.push_str(string).unwrap();
    }
    builder.seal().to_vec()
}

/// About the contact of `aor`, so that it has an owner.
fn contact(aor: &str, len: usize) -> Vec<u8> {
    let strings = [b"location", aor.as_bytes(), &vec![b'x'; len]];
    packet_of(Generation::Modern, NAMES[0], 3, 4, &strings)
}

/// A contact that belongs to `shard` of two.
fn contact_of(shard: u16, len: usize) -> Vec<u8> {
    let steering = Steering::new(2, 0);
    let aors = (0..).map(|n| format!("user{n}"));
    let mut owned = aors.filter(|aor| steering.owner_of_key(aor.as_bytes()) == shard);
    contact(&owned.next().unwrap(), len)
}

#[test]
fn packets_are_handled_with_their_origin_and_every_byte_is_told() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    let new = cluster.connect("10.0.3.6");
    let old = cluster.connect("10.0.2.2");
    let stream = [contact("alice", 10), contact("bob", 10)].concat();
    new.send(&stream[..50]);
    new.send(&stream[50..]);
    old.send(packet_of(
        Generation::Transitional,
        b"other",
        1,
        1,
        &[b"old"],
    ));
    cluster.turn(0, 3);
    let seen = cluster.seen.lock().unwrap().clone();
    let origins: Vec<_> = seen.iter().map(|(_, origin, _)| *origin).collect();
    let origin = |peer: &str, generation, release| Origin::Stream {
        ends: Ends {
            peer: SocketAddr::new(peer.parse().unwrap(), 40_000),
            local: Some(LOCAL.parse().unwrap()),
        },
        generation,
        release,
    };
    assert_eq!(
        origins,
        [
            origin("10.0.2.2", Generation::Transitional, Some(Release::V2_2)),
            origin("10.0.3.6", Generation::Modern, None),
            origin("10.0.3.6", Generation::Modern, None),
        ]
    );
    new.push(Piece::End);
    old.send(b"P4CK");
    old.push(Piece::End);
    cluster.turn(0, 2);
    assert_eq!(
        (new.closed(), old.closed()),
        (Some(Close::Orderly), Some(Close::Orderly))
    );
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!((totals.total.frames, totals.total.received), (3, 3));
    let streams = &totals.streams;
    assert_eq!(streams.total.closed_for(CloseReason::Peer), 1);
    assert_eq!(streams.total.closed_for(CloseReason::HalfFrame), 1);
    assert_eq!(streams.total.partial_bytes, 4);
    assert_eq!(streams.peers.len(), 2);
    let closed: Vec<_> = streams.connections.iter().map(|each| each.closed).collect();
    assert_eq!(
        closed,
        [Some(CloseReason::Peer), Some(CloseReason::HalfFrame)]
    );
}

#[test]
fn what_came_with_the_handshake_comes_first() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    let stream = [contact("alice", 1), contact("bob", 1)].concat();
    let wire = cluster.connect_with("10.0.0.1", stream[..40].to_vec());
    wire.send(&stream[40..]);
    cluster.turn(0, 2);
    assert_eq!(cluster.seen.lock().unwrap().len(), 2);
    assert!(cluster.stop().is_balanced());
}

#[test]
fn garbage_ends_a_connection_by_reset_and_no_other() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    let (bad, good) = (cluster.connect("10.0.0.1"), cluster.connect("10.0.0.2"));
    let packet = contact("alice", 10);
    bad.send([&packet[..], b"GET / HTTP/1.1\r\n"].concat());
    bad.send(&packet[..]);
    good.send(&packet[..]);
    cluster.turn(0, 2);
    good.send(&packet[..]);
    cluster.turn(0, 1);
    assert_eq!((bad.closed(), good.closed()), (Some(Close::Reset), None));
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    assert_eq!(totals.total.outcome(Outcome::Handled), 3);
    assert_eq!(totals.streams.total.closed_for(CloseReason::BadMarker), 1);
    assert_eq!(totals.streams.total.rejected_bytes, 16);
    assert_eq!(totals.streams.total.closed_for(CloseReason::Stopping), 1);
}

#[test]
fn broken_connections_end_for_what_the_kernel_says() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    for (errno, reason) in [
        (libc_errno::ECONNRESET, CloseReason::Reset),
        (libc_errno::ETIMEDOUT, CloseReason::TimedOut),
        (libc_errno::EHOSTUNREACH, CloseReason::TimedOut),
        (libc_errno::EIO, CloseReason::Failed),
    ] {
        let before = cluster.snapshot().streams.total.closed_for(reason);
        let wire = cluster.connect("10.0.0.1");
        wire.send(b"P4");
        wire.push(Piece::Failed(errno));
        cluster.turn(0, 3);
        assert!(wire.closed().is_some());
        let after = cluster.snapshot().streams.total.closed_for(reason);
        assert_eq!(after, before + 1, "{reason}");
    }
    assert!(cluster.stop().is_balanced());
}

mod libc_errno {
    pub(super) const EIO: i32 = 5;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const ETIMEDOUT: i32 = 110;
    pub(super) const EHOSTUNREACH: i32 = 113;
}

#[test]
fn what_is_begun_has_to_be_finished_and_who_is_silent_has_to_go() {
    let limits = StreamLimits::default();
    let mut cluster = Cluster::new(1, &limits);
    let (slow, silent, busy) = (
        cluster.connect("10.0.0.1"),
        cluster.connect("10.0.0.2"),
        cluster.connect("10.0.0.3"),
    );
    let packet = contact("alice", 100);
    cluster.turn(0, 1);
    // A byte per second is a sign of life, but no way to send a packet.
    for byte in packet.iter().take(6) {
        slow.send([*byte]);
        busy.send(&packet[..]);
        cluster.clock.pass(Duration::from_secs(1));
        cluster.turn(0, 1);
    }
    assert_eq!(slow.closed(), Some(Close::Reset));
    for _ in 0..limits.idle.as_secs() {
        busy.send(&packet[..]);
        cluster.clock.pass(Duration::from_secs(1));
        cluster.turn(0, 1);
    }
    assert_eq!((silent.closed(), busy.closed()), (Some(Close::Reset), None));
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    let streams = &totals.streams.total;
    assert_eq!(streams.closed_for(CloseReason::FrameDeadline), 1);
    assert_eq!(streams.closed_for(CloseReason::Idle), 1);
    assert!((4..=6).contains(&streams.partial_bytes), "{streams:?}");
}

#[test]
fn memory_for_all_connections_has_an_end() {
    let limits = StreamLimits {
        memory: 40_000,
        ..StreamLimits::default()
    };
    let mut cluster = Cluster::new(1, &limits);
    let packet = contact("alice", 60_000);
    let wires: Vec<_> = (0..8).map(|_| cluster.connect("10.0.0.1")).collect();
    for wire in &wires {
        wire.send(&packet[..9_000]);
    }
    cluster.turn(0, 10);
    let closed = wires.iter().filter(|wire| wire.closed().is_some()).count();
    assert!((1..8).contains(&closed), "{closed}");
    let open = wires.iter().find(|wire| wire.closed().is_none()).unwrap();
    open.send(&packet[9_000..12_000]);
    cluster.turn(0, 2);
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    assert!(totals.streams.total.closed_for(CloseReason::Memory) >= closed as u64);
}

#[test]
fn a_stop_reads_what_has_come() {
    let mut cluster = Cluster::new(2, &StreamLimits::default());
    let wire = cluster.connect("10.0.0.1");
    cluster.turn(0, 1);
    for _ in 0..10 {
        wire.send([contact_of(0, 1), contact_of(1, 1)].concat());
    }
    wire.send(b"P4CK");
    // Handed over, and not looked at yet.
    let late = cluster.connect("10.0.0.2");
    late.send(contact_of(1, 1));
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), 21);
    assert_eq!(totals.streams.total.partial_bytes, 4);
    assert_eq!(totals.streams.total.closed_for(CloseReason::Stopping), 2);
    assert_eq!(
        (wire.closed(), late.closed()),
        (Some(Close::Orderly), Some(Close::Orderly))
    );
}

#[test]
fn who_is_not_allowed_any_more_goes_also_from_the_intake_and_others_do_not_use_up_its_time() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    let busy: Vec<_> = (0..4).map(|_| cluster.connect("127.0.0.1")).collect();
    let gone = cluster.connect("10.0.0.1");
    cluster.turn(0, 1);
    let late = cluster.connect("10.0.0.2");
    for _ in 0..50 {
        busy.iter()
            .for_each(|wire| wire.send(contact("busy", 3000)));
    }
    (0..10).for_each(|_| gone.send(contact("gone", 10)));
    late.send(contact("late", 10));
    let order = Order::EndConnections(Connections::NotAllowedBy(Access::loopback()));
    cluster.handles[0].desk.post(order);
    cluster.turn(0, 1);
    assert_eq!(
        (gone.closed(), late.closed()),
        (Some(Close::Orderly), Some(Close::Orderly))
    );
    assert!(busy.iter().all(|wire| wire.closed().is_none()));
    let counts = cluster.snapshot().streams.total;
    assert_eq!(
        (
            counts.closed_for(CloseReason::NotAllowed),
            counts.unread_bytes
        ),
        (2, 0)
    );
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    assert_eq!(totals.total.outcome(Outcome::Handled), 50 * 4 + 10 + 1);
}

#[test]
fn nobody_is_late_because_we_were() {
    let limits = StreamLimits {
        memory_per_connection: 100_000,
        ..StreamLimits::default()
    };
    let mut cluster = Cluster::new(2, &limits);
    let packet = contact_of(0, 100);
    let wire = cluster.connect("10.0.0.1");
    wire.send(&packet[..50]);
    cluster.turn(0, 1);
    // The shard stood still, and the rest has been there all the time.
    wire.send(&packet[50..]);
    cluster.clock.pass(limits.frame_deadline * 3);
    cluster.turn(0, 2);
    assert_eq!(wire.closed(), None);
    // And so while it is we who hold it up.
    let paused = cluster.connect("10.0.0.2");
    for _ in 0..40 {
        paused.send([&contact_of(1, 30_000)[..], &packet[..50]].concat());
        paused.send(&packet[50..]);
    }
    cluster.turn(0, 100);
    assert!(paused.is_paused());
    cluster.clock.pass(limits.idle * 2);
    for _ in 0..60 {
        wire.send(&packet[..]);
        cluster.turn_all(3);
    }
    assert_eq!(paused.closed(), None);
    assert!(cluster.stop().is_balanced());
}

#[test]
fn what_came_with_the_handshake_reaches_its_owner_at_once() {
    let mut cluster = Cluster::new(2, &StreamLimits::default());
    let _wire = cluster.connect_with("10.0.0.1", contact_of(1, 10));
    cluster.turn_all(3);
    assert_eq!(cluster.seen.lock().unwrap().len(), 1);
    let totals = cluster.stop();
    assert!(totals.is_balanced());
    assert_eq!(totals.total.bytes, totals.streams.total.rx_bytes);
}

#[test]
fn the_last_connection_that_goes_is_not_told_as_open() {
    let mut cluster = Cluster::new(1, &StreamLimits::default());
    let wire = cluster.connect("10.0.0.1");
    cluster.turn(0, 100);
    assert_eq!(cluster.snapshot().streams.connections.len(), 1);
    wire.push(Piece::End);
    cluster.turn(0, 2);
    let closed: Vec<_> = cluster.snapshot().streams.connections;
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].closed, Some(CloseReason::Peer));
    assert_eq!(cluster.snapshot().streams.connections, []);
    assert!(cluster.stop().is_balanced());
}

/// What handlers may do where a packet is cut.
mod handlers;
/// Packets for other shards, and shards that do not keep up.
mod owners;
