//! An engine whose shards take turns, its network in memory, and the peers that the test moves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use binrush_engine::dispatch::handler::Origin;
use binrush_engine::shard::mailbox::Mailbox;
use binrush_engine::shard::outbox::Outbox;
use binrush_engine::shard::streams::{NewConnection, PeerRows, StreamParts};
use binrush_engine::shard::{Life, Parts};
use binrush_engine::stream::PeerTable;
use binrush_engine::{
    Clock, Context, Ledger, Outcome, Registry, Shard, ShardId, Steering, Timestamp, Verdict,
};
use binrush_net::sim::{Faults, Network, SimPeer, SimQueue, SimStream, SimTx};
use binrush_net::{Batch, Close, Slab};
use binrush_wire::{Generation, Packet};
use crossbeam_queue::SegQueue;

use super::tap::{Deliveries, Tap};
use super::{Plan, Run};
use crate::streams::traffic::DIALOG;

type SimShard = Shard<SimQueue, SimTx, SimClock, Tap>;

/// A packet as a handler saw it.
#[derive(Debug, Clone, PartialEq)]
struct Handled {
    shard: ShardId,
    peer: IpAddr,
    bytes: Vec<u8>,
}

/// An engine, its network and its peers.
pub(super) struct World {
    network: Network,
    shards: Vec<SimShard>,
    ledgers: Vec<Arc<Ledger>>,
    /// Of those that connections go to.
    intakes: Vec<Arc<SegQueue<NewConnection<SimStream>>>>,
    life: Arc<Life>,
    ending: Rc<RefCell<Vec<SimShard>>>,
    peers: Vec<(usize, SimPeer)>,
    handled: Arc<Mutex<Vec<Handled>>>,
    deliveries: Arc<Mutex<Deliveries>>,
    /// Held by each seat.
    seats: Arc<()>,
    log: String,
}

/// The network's time.
struct SimClock {
    network: Network,
    life: Arc<Life>,
    /// Shards that have not begun to end: who waits for them lets them run.
    ending: Rc<RefCell<Vec<SimShard>>>,
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let network = Network::new(plan.seed, Faults::default());
        network.set_stream_faults(plan.faults.clone());
        let mut world = Self {
            network,
            shards: Vec::new(),
            ledgers: Vec::new(),
            intakes: Vec::new(),
            life: Life::new(plan.shards + plan.readers),
            ending: Rc::default(),
            peers: Vec::new(),
            handled: Arc::default(),
            deliveries: Arc::default(),
            seats: Arc::default(),
            log: String::new(),
        };
        let registry = registry(&world.handled);
        let table = Arc::new(registry.table());
        let rows = PeerRows::new(&[], &PeerTable::default());
        let mesh = Mailbox::mesh(plan.shards + plan.readers).expect("eventfds can be had");
        for (id, mailbox) in (0..).map(ShardId).zip(mesh) {
            let intake = Arc::<SegQueue<_>>::default();
            let (shard, ledger) = Shard::new(Parts {
                id,
                queues: vec![],
                open: Box::new(|_| Err(std::io::ErrorKind::Unsupported.into())),
                outbox: Outbox::new(None, None),
                clock: world.clock(),
                slab: Slab::new(plan.frames).expect("there is memory"),
                batch: Batch::new(1),
                steering: Steering::new(plan.shards, 7),
                mailbox,
                dispatch: registry.build(id, &table),
                streams: StreamParts {
                    queue: Tap::new(world.network.streams(), plan.frames, &world.deliveries),
                    incoming: intake.clone(),
                    batch: plan.batch,
                    limits: plan.limits.clone(),
                    peers: Arc::<PeerTable>::default(),
                    rows: Arc::clone(&rows),
                },
            });
            world.shards.push(shard);
            world.ledgers.push(ledger);
            if plan.readers == 0 || id.0 >= plan.shards {
                world.intakes.push(intake);
            }
        }
        world
    }

    fn clock(&self) -> SimClock {
        SimClock {
            network: self.network.clone(),
            life: Arc::clone(&self.life),
            ending: Rc::clone(&self.ending),
        }
    }

    /// A connection of `peer`, handed to the next shard in turn.
    pub(super) fn connect(&mut self, peer: usize) -> usize {
        let id = self.peers.len();
        let ip = [192, 0, 2, u8::try_from(peer).expect("a few")];
        let port = u16::try_from(1 + id).expect("not that many");
        let (end, socket) = self.network.connect((ip, port).into());
        self.intakes[id % self.intakes.len()].push(NewConnection {
            socket,
            peer: end.local_addr(),
            local: None,
            listener: 0,
            tls: None,
            early: Vec::new(),
            seat: Some(Box::new(Arc::clone(&self.seats))),
        });
        self.peers.push((peer, end));
        id
    }

    /// Whose connection it is.
    pub(super) fn peer(&self, id: usize) -> usize {
        self.peers[id].0
    }

    pub(super) fn send(&mut self, id: usize, bytes: &[u8]) {
        // As much as there is room for; a packet that is cut off by that is one that is never finished.
        let _ = self.peers[id].1.send(bytes);
    }

    pub(super) fn finish(&mut self, id: usize) {
        self.peers[id].1.finish();
    }

    pub(super) fn reset(&mut self, id: usize, errno: i32) {
        self.peers[id].1.fail(errno);
    }

    pub(super) fn advance(&mut self, time: Duration) {
        self.network.advance(nanos(time));
    }

    /// One round of one shard; whether anything came.
    pub(super) fn turn(&mut self, shard: usize) -> bool {
        let came = self.shards[shard].turn().expect("no queue fails");
        let counts = self.ledgers[shard].counts();
        assert!(counts.is_balanced(), "{counts:?}");
        came
    }

    /// Lets time pass, and all shards have their turns in it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.network.now_ns() + nanos(time);
        while self.network.now_ns() < end {
            let step = (end - self.network.now_ns()).min(TICK_NS);
            self.network.advance(step);
            self.turn_all();
        }
    }

    /// Lets all shards have turns until nothing comes any more.
    fn turn_all(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut came = false;
            for shard in 0..self.shards.len() {
                came |= self.turn(shard);
            }
            if !came {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// Nobody sends any more; until every connection has ended.
    pub(super) fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.turn_all();
            if self.open() == 0 && self.intakes.iter().all(|intake| intake.is_empty()) {
                return;
            }
            self.network.advance(TICK_NS);
        }
        panic!("{} connections do not end", self.open());
    }

    /// Connections that a shard has.
    pub(super) fn open(&self) -> usize {
        let deliveries = self.deliveries.lock().unwrap();
        let open = deliveries
            .by_peer
            .values()
            .filter(|each| each.closed.is_none());
        open.count()
    }

    /// Packets that came to a handler.
    pub(super) fn handled(&self) -> usize {
        self.handled.lock().unwrap().len()
    }

    /// Ends as an engine does, and lays together what was delivered, what was handled and what was counted.
    pub(super) fn end(mut self) -> Run {
        self.rest();
        self.life.stop();
        self.ending.borrow_mut().append(&mut self.shards);
        self.clock().run_next();
        assert!(self.ending.borrow().is_empty(), "each waited for the next");
        assert_eq!(
            Arc::strong_count(&self.seats),
            1,
            "every seat was given back"
        );
        let account = self.network.stream_account();
        assert!(account.is_balanced(), "{account:?}");
        assert_eq!(account.queued, 0, "{account:?}");
        self.check_packets();
        self.check_ledgers();
        self.sum_up()
    }

    /// What came whole was handled, once, in order, each record on one shard; and nothing else was.
    fn check_packets(&mut self) {
        let deliveries = self.deliveries.lock().unwrap();
        // A connection's packets of one record, in order; connections of one peer are told apart by their numbers.
        let mut expected = BTreeMap::<(IpAddr, Vec<u8>), Vec<&[u8]>>::new();
        let mut count = 0;
        for (peer, delivered) in &deliveries.by_peer {
            let (packets, broken) = delivered.packets();
            count += packets.len();
            let how = delivered.closed.expect("every connection ended");
            if broken || matches!(delivered.end, Some(Err(_)) | None) {
                assert_eq!(how, Close::Reset, "{peer}: {:?}", delivered.end);
            }
            for packet in packets {
                expected
                    .entry((peer.ip(), key(packet)))
                    .or_default()
                    .push(packet);
            }
        }
        let handled = self.handled.lock().unwrap();
        assert_eq!(handled.len(), count, "packets that were delivered whole");
        let mut owners = BTreeMap::new();
        let mut seen = BTreeMap::<(IpAddr, Vec<u8>), Vec<&[u8]>>::new();
        for each in handled.iter() {
            let record = key(&each.bytes);
            let owner = *owners.entry(record.clone()).or_insert(each.shard);
            assert_eq!(owner, each.shard, "a record has one owner");
            seen.entry((each.peer, record))
                .or_default()
                .push(&each.bytes);
            let _ = writeln!(self.log, "{} {}", each.shard.0, number(&each.bytes));
        }
        for (key, sent) in &expected {
            let seen = &seen[key];
            assert_eq!(seen.len(), sent.len(), "{key:?}");
            // Several connections of one peer may have carried the record: each kept its own order.
            for (_, delivered) in deliveries
                .by_peer
                .iter()
                .filter(|(peer, _)| peer.ip() == key.0)
            {
                let (packets, _) = delivered.packets();
                let of_record = packets.iter().filter(|packet| self::key(packet) == key.1);
                let mut rest = seen.iter();
                for packet in of_record {
                    assert!(rest.any(|other| other == packet), "{key:?} out of order");
                }
            }
        }
    }

    fn check_ledgers(&self) {
        let (mut received, mut handled, mut unread) = (0, 0, 0_i64);
        for ledger in &self.ledgers {
            let counts = ledger.counts();
            assert!(counts.is_balanced(), "{counts:?}");
            received += counts.received;
            handled += counts.outcome(Outcome::Handled);
            unread += counts.mailed_out.cast_signed() - counts.mailed_in.cast_signed();
        }
        assert_eq!((received, unread), (handled, 0));
        assert_eq!(handled, self.handled() as u64);
    }

    fn sum_up(self) -> Run {
        let deliveries = self.deliveries.lock().unwrap();
        let ended = |how| {
            let connections = deliveries.by_peer.values();
            connections.filter(|each| each.closed == Some(how)).count()
        };
        let mailed = self.ledgers.iter().map(|ledger| ledger.counts().mailed_in);
        Run {
            handled: self.handled(),
            orderly: ended(Close::Orderly),
            reset: ended(Close::Reset),
            mailed: mailed.sum(),
            pauses: deliveries.pauses,
            refused: deliveries.refused,
            log: self.log.clone(),
        }
    }
}

impl SimClock {
    fn run_next(&self) {
        // Taken out before it runs: it will look here, too.
        let next = self.ending.borrow_mut().pop();
        if let Some(mut shard) = next {
            shard.run(&self.life).expect("nothing is left to drain");
        }
    }
}

impl Clock for SimClock {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.network.now_ns())
    }

    fn sleep(&mut self, duration: Duration) {
        self.network.advance(nanos(duration));
        self.run_next();
    }
}

fn registry(handled: &Arc<Mutex<Vec<Handled>>>) -> Registry {
    let mut registry = Registry::new();
    let handled = Arc::clone(handled);
    let registered = registry.register(DIALOG, move |_shard| {
        let handled = Arc::clone(&handled);
        move |context: &mut Context<'_>, packet: &Packet<'_>| {
            let Origin::Stream { ends, .. } = context.origin() else {
                panic!("no datagram was sent");
            };
            handled.lock().unwrap().push(Handled {
                shard: context.shard(),
                peer: ends.peer.ip(),
                bytes: packet.bytes().to_vec(),
            });
            Verdict::Handled
        }
    });
    registered.expect("one name");
    registry
}

fn key(packet: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(Generation::Modern, packet).expect("it is whole");
    packet.fields().pop_str().expect("it has a key").to_vec()
}

fn number(packet: &[u8]) -> String {
    let packet = Packet::parse(Generation::Modern, packet).expect("it is whole");
    let mut fields = packet.fields();
    fields.skip_str(1).expect("it has a key");
    let mark = fields.pop_str().expect("it has a mark");
    format!(
        "{} {}",
        key(packet.bytes()).escape_ascii(),
        mark.escape_ascii()
    )
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().expect("not that long")
}

/// How much time passes between two rounds of turns.
const TICK_NS: u64 = 10_000_000;

/// Rounds in which all that a run has sent can be handled.
const ROUNDS_MAX: usize = 200_000;
