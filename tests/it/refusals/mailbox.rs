//! Two shards on a network in memory, where one gets everything and the other one is slow.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use binrush_engine::shard::mailbox::Mailbox;
use binrush_engine::shard::outbox::Outbox;
use binrush_engine::shard::streams::NoStreams;
use binrush_engine::shard::{Parts, Shard};
use binrush_engine::{
    Context, Ledger, MonotonicClock, Outcome, Registry, ShardId, Snapshot, Steering, Verdict,
};
use binrush_net::sim::{Faults, Network, SimQueue, SimTx};
use binrush_net::{Batch, Slab, Tx, TxBatch};
use binrush_wire::Packet;

type SimShard = Shard<SimQueue, SimTx, MonotonicClock>;

/// Two shards, of which the first gets all datagrams.
struct Pair {
    network: Network,
    steering: Steering,
    shards: Vec<SimShard>,
    ledgers: Vec<Arc<Ledger>>,
}

#[test]
fn a_full_mailbox_refuses_by_name_loses_nothing_else_and_takes_again() {
    let mut pair = Pair::new();
    let (own, strange) = (pair.packet_of(0), pair.packet_of(1));
    // More than a ring between two shards has room for, and in between what stays where it is.
    let rounds = RING_LEN_MAX / strange.len() + 20;
    for _ in 0..rounds {
        pair.send(&strange);
        pair.send(&own);
        pair.turn(0);
    }
    let totals = pair.totals();
    let full = totals.total.outcome(Outcome::MailboxFull);
    let mailed = totals.total.mailed_out;
    assert!(full >= 20 && mailed > 5, "{totals:?}");
    assert_eq!(full + mailed, rounds as u64);
    // Those of its own met no obstacle.
    assert_eq!(totals.shards[0].outcome(Outcome::Handled), rounds as u64);
    assert!(!totals.is_balanced(), "the mail was not read yet");

    pair.turn(1);
    assert_eq!(pair.totals().shards[1].outcome(Outcome::Handled), mailed);
    pair.send(&strange);
    pair.turn(0);
    pair.turn(1);
    let totals = pair.totals();
    assert_eq!(totals.shards[1].outcome(Outcome::Handled), mailed + 1);
    assert_eq!(totals.total.outcome(Outcome::MailboxFull), full);
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.unaccounted(pair.network.account().sent), 0);
}

#[test]
fn a_datagram_that_was_cut_is_truncated_whatever_is_left_of_it() {
    let mut pair = Pair::new();
    pair.network.set_faults(Faults {
        truncate: 1.0,
        ..Faults::default()
    });
    for owner in [0, 1] {
        let packet = pair.packet_of(owner);
        (0..10).for_each(|_| pair.send(&packet));
    }
    (0..20).for_each(|_| pair.turn(0));
    pair.turn(1);
    let totals = pair.totals();
    // Counted where it came: what is left of its key may lead anywhere.
    assert_eq!(totals.shards[0].outcome(Outcome::Truncated), 20);
    assert_eq!((totals.total.received, totals.total.settled()), (20, 20));
    assert!(totals.is_balanced(), "{totals:?}");
}

impl Pair {
    fn new() -> Self {
        let network = Network::new(1, Faults::default());
        let steering = Steering::new(2, 5);
        let queues = network.bind_group(HERE.parse().expect("an address"), 2, |_| 0);
        let mesh = Mailbox::mesh(2).expect("two bells");
        let clock = MonotonicClock;
        let mut registry = Registry::new();
        let handled = |_: &mut Context<'_>, _: &Packet<'_>| Verdict::Handled;
        let registered = registry.register(b"dialog", move |_| handled);
        registered.expect("a free place");
        let table = Arc::new(registry.table());
        let (mut shards, mut ledgers) = (Vec::new(), Vec::new());
        for ((queue, mailbox), id) in queues.into_iter().zip(mesh).zip(0..) {
            let (shard, ledger) = Shard::new(Parts {
                id: ShardId(id),
                queues: vec![queue],
                open: Box::new(|_| Err(io::ErrorKind::Unsupported.into())),
                outbox: Outbox::new(None, None),
                clock,
                slab: Slab::new(FRAMES).expect("it is small"),
                batch: Batch::new(FRAMES),
                steering: steering.clone(),
                mailbox,
                dispatch: registry.build(ShardId(id), &table),
                streams: NoStreams::parts(),
            });
            shards.push(shard);
            ledgers.push(ledger);
        }
        Self {
            network,
            steering,
            shards,
            ledgers,
        }
    }

    /// A large packet whose record belongs to `owner`.
    fn packet_of(&self, owner: u16) -> Vec<u8> {
        let mut packets = (0..100).map(|n| {
            let call = format!("call-{n}@host");
            let mut packet = vec![0; 40_000];
            let generation = binrush_wire::Generation::Legacy;
            let builder = binrush_wire::Builder::new(generation, &mut packet, b"dialog", 1, 0);
            let mut builder = builder.expect("it fits");
            builder.push_str(call.as_bytes()).expect("it fits");
            builder.push_str(&[b'x'; 30_000]).expect("it fits");
            builder.seal().to_vec()
        });
        let found = packets.find(|packet| self.steering.owner_of_datagram(packet) == owner);
        found.expect("a hundred keys fall on both shards")
    }

    /// It has arrived when this returns.
    fn send(&self, datagram: &[u8]) {
        let mut tx = self.network.tx(THERE.parse().expect("an address"));
        let mut batch = TxBatch::new(1, datagram.len());
        let to: SocketAddr = HERE.parse().expect("an address");
        assert!(batch.push(to, datagram));
        assert_eq!(tx.send(&mut batch).sent, 1);
        self.network.advance(1);
    }

    /// Lets one shard read its mail and receive once.
    fn turn(&mut self, shard: usize) {
        self.shards[shard].turn().expect("its queue does not fail");
    }

    fn totals(&self) -> Snapshot {
        let counts = self.ledgers.iter().map(|ledger| ledger.counts());
        Snapshot::of(counts.collect(), Vec::new())
    }
}

const HERE: &str = "192.0.2.1:5566";
const THERE: &str = "192.0.2.2:5566";

/// What one turn receives at most.
const FRAMES: usize = 8;

/// A ring between two shards is this long.
const RING_LEN_MAX: usize = 1 << 20;
