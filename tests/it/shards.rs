//! One peer is not one core: a genuine stream from a single address, spread over shards record by record, and each
//! record in order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use binrush_engine::{
    Backend, Context, Engine, EngineConfig, Gro, Handler, Outcome, Registry, ShardId, Snapshot,
    Verdict,
};
use binrush_net::{Gso, Tx, TxBatch};
use binrush_tests::captures;
use binrush_wire::{Generation, Packet, schema};

use crate::process::{queued, skip, wait_until};

/// By what records are told apart: name and key.
type Record = (Vec<u8>, Vec<u8>);

/// What became of a stream: for each record, every packet with the shard that got it, in order.
type Seen = BTreeMap<Record, Vec<(ShardId, Arc<[u8]>)>>;

/// Hands on every packet, with the shard it came to.
struct Recorder(Sender<(ShardId, Arc<[u8]>)>);

#[test]
fn each_record_comes_to_one_shard_in_the_order_of_the_capture() {
    for shards in [1, 2, 3] {
        let config = config(Ipv4Addr::LOCALHOST.into(), shards);
        spread(&config, &Run::start(&config).send_one_by_one());
    }
}

#[test]
fn each_record_comes_to_one_shard_over_ipv6_too() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        return skip(&format!("no IPv6 loopback: {error}"));
    }
    let config = config(Ipv6Addr::LOCALHOST.into(), 2);
    spread(&config, &Run::start(&config).send_one_by_one());
}

#[test]
fn each_record_comes_to_one_shard_by_io_uring_too() {
    let config = EngineConfig {
        backend: Backend::Uring,
        ..config(Ipv4Addr::LOCALHOST.into(), 2)
    };
    let run = Run::start(&config);
    if let (Backend::RecvMmsg, why) = run.engine.backend() {
        return skip(why);
    }
    spread(&config, &run.send_one_by_one());
}

#[test]
fn what_the_kernel_merged_is_handed_to_its_owners_and_counted_once() {
    let config = EngineConfig {
        gro: Gro::On,
        ..config(Ipv4Addr::LOCALHOST.into(), 3)
    };
    let run = Run::start(&config);
    let totals = run.send_trains();
    // A train comes to one socket, and what is in it belongs to all three.
    assert!(totals.total.mailed_out > 500, "{}", totals.total.mailed_out);
}

/// An engine whose handlers record, and what they recorded.
struct Run {
    engine: Engine,
    addr: SocketAddr,
    recorded: mpsc::Receiver<(ShardId, Arc<[u8]>)>,
}

impl Run {
    fn start(config: &EngineConfig) -> Self {
        let (packets, recorded) = mpsc::channel();
        let mut registry = Registry::new();
        for name in [&b"dialog"[..], b"ul"] {
            let packets = packets.clone();
            let registered = registry.register(name, move |_| Recorder(packets.clone()));
            registered.expect("two names");
        }
        let engine = Engine::start(config.clone(), registry).expect("loopback");
        let addr = engine.listeners().next().expect("one").addr;
        Self {
            engine,
            addr,
            recorded,
        }
    }

    /// Sends the capture from one socket, datagram by datagram. Each record must have come to one shard, and have
    /// kept its order.
    fn send_one_by_one(self) -> (Seen, Snapshot) {
        let sent = packets();
        let peer = UdpSocket::bind((self.addr.ip(), 0)).expect("loopback");
        for at_once in sent.chunks(AT_ONCE) {
            for bytes in at_once {
                let len = peer.send_to(bytes, self.addr).expect("loopback");
                assert_eq!(len, bytes.len());
            }
            wait_until("an empty receive queue", || queued(self.addr) == 0);
        }
        let totals = self.engine.stop().expect("it vouches for its end");
        let (expected, seen) = (by_record(sent), grouped(self.recorded));
        for (record, packets) in &seen {
            let shard = packets[0].0;
            assert!(
                packets.iter().all(|(other, _)| *other == shard),
                "{record:?}"
            );
            let bytes = packets.iter().map(|(_, bytes)| bytes);
            assert!(bytes.eq(&expected[record]), "{record:?}");
        }
        assert_eq!(seen.len(), expected.len());
        accounted(&totals);
        (seen, totals)
    }

    /// Sends the capture as the kernel may merge it: runs of equal length as one.
    fn send_trains(self) -> Snapshot {
        // Sorted by length, so that there are long runs; a train then holds many records, and their order is gone.
        let mut sent = packets();
        sent.sort_by_key(Vec::len);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = binrush_net::UdpSocket::bind(any, &binrush_net::UdpOptions::default());
        let mut tx = Gso::new(Arc::new(socket.expect("loopback")));
        let mut batch = TxBatch::new(AT_ONCE, AT_ONCE << 11);
        for at_once in sent.chunks(AT_ONCE) {
            for bytes in at_once {
                assert!(batch.push(self.addr, bytes), "it has room");
            }
            let done = tx.send(&mut batch);
            assert_eq!((done.sent, done.failed), (at_once.len() as u64, 0));
            wait_until("an empty receive queue", || queued(self.addr) == 0);
        }
        let totals = self.engine.stop().expect("it vouches for its end");
        let (mut expected, mut seen) = (by_record(sent), grouped(self.recorded));
        for (record, packets) in &mut seen {
            let shard = packets[0].0;
            assert!(
                packets.iter().all(|(other, _)| *other == shard),
                "{record:?}"
            );
            // A later train of the same record may have come to its owner's socket before an earlier one by mail.
            let mut bytes: Vec<_> = packets.iter().map(|(_, bytes)| Arc::clone(bytes)).collect();
            let expected = expected.get_mut(record).expect("it was sent");
            bytes.sort_unstable();
            expected.sort_unstable();
            assert!(bytes == *expected, "{record:?}");
        }
        accounted(&totals);
        totals
    }
}

impl Handler for Recorder {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let seen = (context.shard(), packet.bytes().into());
        match self.0.send(seen) {
            Ok(()) => Verdict::Handled,
            Err(_) => Verdict::UnknownCommand,
        }
    }
}

/// Checks that every shard has its share of the records.
fn spread(config: &EngineConfig, (seen, totals): &(Seen, Snapshot)) {
    let shards = usize::from(config.shards.expect("it is set"));
    let mut records = vec![0; shards];
    for packets in seen.values() {
        records[packets[0].0.index()] += 1;
    }
    let fair = seen.len() / shards;
    assert!(
        records.iter().all(|share| *share > fair / 2),
        "{records:?} of {}",
        seen.len()
    );
    assert_eq!(totals.shards.len(), shards);
    assert_eq!(totals.total.mailed_out, 0, "the kernel chose right");
}

/// Checks that nothing is missing.
fn accounted(totals: &Snapshot) {
    let sent = packets().len() as u64;
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.kernel.total(), 0, "{:?}", totals.kernel);
    assert_eq!(totals.total.received, sent);
    assert_eq!(totals.total.outcome(Outcome::Handled), sent);
}

fn config(ip: IpAddr, shards: u16) -> EngineConfig {
    EngineConfig {
        shards: Some(shards),
        ..EngineConfig::new(SocketAddr::new(ip, 0))
    }
}

/// The packets of the capture, in order.
fn packets() -> Vec<Vec<u8>> {
    let frames = captures::frames("1.11");
    frames.into_iter().map(|frame| frame.bytes).collect()
}

fn by_record(packets: Vec<Vec<u8>>) -> BTreeMap<Record, Vec<Arc<[u8]>>> {
    let mut records = BTreeMap::<_, Vec<_>>::new();
    for bytes in packets {
        records
            .entry(record(&bytes))
            .or_default()
            .push(bytes.into());
    }
    records
}

/// What the handlers handed on, once the engine is gone.
fn grouped(recorded: mpsc::Receiver<(ShardId, Arc<[u8]>)>) -> Seen {
    let mut seen = Seen::new();
    for (shard, bytes) in recorded {
        seen.entry(record(&bytes)).or_default().push((shard, bytes));
    }
    seen
}

fn record(bytes: &[u8]) -> Record {
    let packet = Packet::parse(Generation::Legacy, bytes).expect("genuine");
    let key = schema::key(&packet).expect("genuine");
    let key = key.expect("each 1.x packet is about one record");
    (packet.name().to_vec(), key.to_vec())
}

/// Datagrams that the smallest receive buffer has room for.
const AT_ONCE: usize = 50;
