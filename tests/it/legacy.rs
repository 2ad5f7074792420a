//! What an engine keeps of the datagrams of a genuine 1.11 node, as records.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use binrush_engine::store::durable::Log;
use binrush_engine::store::{Legacy, TypedReplica, family, legacy};
use binrush_engine::{
    Clock as _, Engine, EngineConfig, MonotonicClock, Outcome, Registry, ShardId, WallClock,
};
use binrush_store::{Effects, Kind, Limits, Record, Store};
use binrush_tests::captures;

use crate::process::{queued, wait_until};

/// The records of all shards, by shard, table and place: what a log of the changes says at its end.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Records>>);

type Records = BTreeMap<(ShardId, &'static str, u32), Vec<u8>>;

/// Those of one table on one shard.
struct Told {
    kept: Kept,
    shard: ShardId,
    table: &'static str,
}

impl Effects for Told {
    fn put(&mut self, place: u32, flat: &[u8]) {
        let mut kept = self.kept.0.lock().expect("nobody panics");
        kept.insert((self.shard, self.table, place), flat.to_vec());
    }

    fn gone(&mut self, place: u32) {
        let mut kept = self.kept.0.lock().expect("nobody panics");
        let gone = kept.remove(&(self.shard, self.table, place));
        assert!(gone.is_some(), "only what was there goes");
    }
}

impl Log for Told {}

impl Kept {
    fn replica(
        &self,
        shard: ShardId,
        table: &'static str,
        wall: &Arc<WallClock>,
    ) -> TypedReplica<Told> {
        let store = Store::new(family(table).expect("it is known"), Limits::default());
        let kept = self.clone();
        let told = Told { kept, shard, table };
        TypedReplica::over(table, store, Arc::clone(wall), told)
    }
}

#[test]
fn two_shards_keep_the_records_that_the_backup_of_1_11_has() {
    let (kept, wall) = (Kept::default(), Arc::new(WallClock::default()));
    let frames = captures::frames("1.11");
    wall.set(
        MonotonicClock.now(),
        Duration::from_secs_f64(frames[0].time),
    );
    let engine = engine(&kept, &wall);
    let addr = engine.listeners().next().expect("one").addr;
    let peer = UdpSocket::bind((addr.ip(), 0)).expect("loopback");
    for at_once in frames.chunks(AT_ONCE) {
        for frame in at_once {
            peer.send_to(&frame.bytes, addr).expect("loopback");
        }
        wait_until("an empty receive queue", || queued(addr) == 0);
    }
    let totals = engine.stop().expect("it vouches for its end");
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.kernel.total(), 0, "{:?}", totals.kernel);
    let sent = frames.len() as u64;
    assert_eq!(totals.total.outcome(Outcome::Handled), sent, "{totals:?}");

    let kept = kept.0.lock().expect("nobody panics");
    let mut counts = BTreeMap::<_, usize>::new();
    let mut keys = BTreeSet::new();
    for ((shard, table, _), flat) in &*kept {
        let (record, status) = Record::read(flat).expect("what was put");
        *counts.entry((*table, record.kind().name())).or_default() += 1;
        assert!(
            keys.insert(format!("{:?}", key(&record))),
            "{record:?} twice"
        );
        assert!(shard.index() < 2 && !status.has(binrush_store::Status::PROVISIONAL));
    }
    let expected = [
        ((legacy::DIALOGS, Kind::Dialog.name()), 60),
        ((legacy::CONTACTS, Kind::Aor.name()), 336),
        ((legacy::CONTACTS, Kind::Contact.name()), 378),
    ];
    assert_eq!(counts, expected.into());
    let on = |shard| kept.keys().filter(|(on, ..)| *on == ShardId(shard)).count();
    assert!(on(0) > 250 && on(1) > 250, "{} and {}", on(0), on(1));
}

fn engine(kept: &Kept, wall: &Arc<WallClock>) -> Engine {
    let mut registry = Registry::new();
    let (of, clock) = (kept.clone(), Arc::clone(wall));
    let dialogs = move |shard| {
        let profiles = of.replica(shard, legacy::PROFILES, &clock);
        Legacy::new(of.replica(shard, legacy::DIALOGS, &clock), Some(profiles))
    };
    let (of, clock) = (kept.clone(), Arc::clone(wall));
    let contacts = move |shard| Legacy::new(of.replica(shard, legacy::CONTACTS, &clock), None);
    let dialog = registry.register(legacy::DIALOGS.as_bytes(), dialogs);
    let ul = registry.register(legacy::CONTACTS.as_bytes(), contacts);
    dialog.and(ul).expect("two names");
    let config = EngineConfig {
        shards: Some(2),
        ..EngineConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    };
    Engine::start(config, registry).expect("loopback")
}

/// What tells a record from others.
fn key<'a>(record: &Record<'a>) -> [&'a [u8]; 4] {
    match record {
        Record::Dialog(dialog) => [dialog.callid, dialog.tags[0], b"", b""],
        Record::Aor(aor) => [aor.domain, aor.aor, b"", b""],
        Record::Contact(contact) => [contact.domain, contact.aor, contact.uri, contact.callid],
        other => panic!("{other:?} is of no 1.x node"),
    }
}

/// Datagrams that the smallest receive buffer has room for.
const AT_ONCE: usize = 50;
