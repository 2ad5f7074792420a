//! Names whose packets are all handled on one shard, and what is done before anything is received.

use super::*;
use crate::clock::Timestamp;
use crate::dispatch::front::Front;
use crate::dispatch::handler::{Handler, Origin};
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

/// Says on which shard it was called, with a number of the packet.
struct Where(mpsc::Sender<(u16, u32)>);

impl Handler for Where {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let mut fields = packet.fields();
        let _key = fields.pop_str().unwrap();
        let number = fields.pop_str().unwrap().try_into().unwrap();
        let seen = (context.shard().0, u32::from_be_bytes(number));
        self.0.send(seen).unwrap();
        Verdict::Handled
    }
}

fn recording(name: &'static [u8]) -> (Registry, mpsc::Receiver<(u16, u32)>) {
    let (seen, receiver) = mpsc::channel();
    let mut registry = Registry::new();
    registry
        .register(name, move |_| Where(seen.clone()))
        .unwrap();
    (registry, receiver)
}

/// So many owners and a reader, datagrams and connections at one port.
fn of_owners(owners: u16) -> EngineConfig {
    let mut config = config();
    (config.shards, config.readers) = (Some(owners), 1);
    config.streams.listen = config.listen.clone();
    config
}

/// The packet of record `number`: of another one each time.
fn numbered(generation: Generation, name: &[u8], number: u32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(generation, &mut buffer, name, 1, 1).unwrap();
    builder
        .push_str(format!("call-{number}").as_bytes())
        .unwrap();
    builder.push_str(&number.to_be_bytes()).unwrap();
    builder.seal().to_vec()
}

#[test]
fn a_name_with_a_home_is_handled_there_whatever_its_packets_come_by() {
    let (mut registry, seen) = recording(b"dialog");
    registry.keep_on_one_shard(b"dialog", ShardId(1));
    let mut engine = Engine::start(of_owners(3), registry).unwrap();
    let peer = peer_of(&engine);
    let mut connection = TcpStream::connect(addr_of(&engine)).unwrap();
    let count = 300;
    for number in 0..count {
        peer.send(&numbered(Generation::Legacy, b"dialog", number))
            .unwrap();
        connection
            .write_all(&numbered(Generation::Modern, b"dialog", count + number))
            .unwrap();
    }
    drop(connection);
    // A connection that waits to be accepted is not the engine's yet.
    let start = Instant::now();
    while engine.snapshot().unwrap().total.received < 2 * u64::from(count) {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(1));
    }
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), 2 * u64::from(count));
    let seen: Vec<_> = seen.try_iter().collect();
    assert!(seen.iter().all(|(shard, _)| *shard == 1));
    // The kernel spread the datagrams by their records, so some of them and all of the connection's came by mail.
    let [first, home, last] = [0, 1, 2].map(|shard: usize| &totals.shards[shard]);
    assert!(first.mailed_out > 0 && last.mailed_out > 0);
    assert!(home.mailed_in > u64::from(count));
    let of_connection = seen.iter().filter(|(_, number)| *number >= count);
    assert!(of_connection.map(|(_, number)| *number).is_sorted());
}

/// Says on which shard packets come to their handlers, or to nobody.
struct Watching(mpsc::Sender<u16>, u16);

impl Front for Watching {
    fn admits(&mut self, _: &Origin, _: &Packet<'_>) -> bool {
        self.0.send(self.1).unwrap();
        true
    }

    fn turn(&mut self, _: &mut dyn FnMut() -> Timestamp) -> bool {
        false
    }
}

#[test]
fn where_all_packets_are_kept_on_one_shard_strangers_and_local_names_come_there_too() {
    let (mut registry, seen) = recording(b"dialog");
    let (passed_tx, passed) = mpsc::channel();
    registry.front(move |shard| Some(Box::new(Watching(passed_tx.clone(), shard.0))));
    registry
        .register(b"clusterer-internal", |_| SchemaHandler)
        .unwrap();
    registry.keep_all_on_one_shard(ShardId(1));
    let engine = Engine::start(of_owners(3), registry).unwrap();
    let peer = peer_of(&engine);
    let mut connection = TcpStream::connect(addr_of(&engine)).unwrap();
    let names = [&b"dialog"[..], b"stranger", b"clusterer-internal"];
    for number in 0..60 {
        for name in names {
            peer.send(&numbered(Generation::Legacy, name, number))
                .unwrap();
            connection
                .write_all(&numbered(Generation::Modern, name, number))
                .unwrap();
        }
    }
    let passed: Vec<_> = (0..360)
        .map(|_| passed.recv_timeout(Duration::from_secs(10)).unwrap())
        .collect();
    assert_eq!(passed, [1; 360]);
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    assert!(seen.try_iter().all(|(shard, _)| shard == 1));
    assert_eq!(totals.total.outcome(Outcome::UnknownName), 120);
}

#[test]
fn a_name_that_loses_its_home_is_spread_by_its_records_again() {
    let (registry, _seen) = recording(b"dialog");
    let mut engine = Engine::start(of_owners(2), registry).unwrap();
    let (seen_tx, seen) = mpsc::channel();
    let make = move |_| Where(seen_tx.clone());
    engine
        .register_on(b"dialog", ShardId(0), make.clone())
        .unwrap();
    let peer = peer_of(&engine);
    let send = |from: u32| {
        for number in from..from + 64 {
            peer.send(&numbered(Generation::Legacy, b"dialog", number))
                .unwrap();
        }
    };
    send(0);
    let kept: Vec<_> = (0..64)
        .map(|_| seen.recv_timeout(Duration::from_secs(10)).unwrap().0)
        .collect();
    assert_eq!(kept, [0; 64]);
    engine.register(b"dialog", make).unwrap();
    send(64);
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    let spread: Vec<_> = seen.try_iter().map(|(shard, _)| shard).collect();
    assert_eq!(spread.len(), 64);
    assert!(spread.contains(&0) && spread.contains(&1));
}

#[test]
fn a_home_that_there_is_not_is_refused() {
    let (mut registry, _seen) = recording(b"dialog");
    // It is a reader.
    registry.keep_on_one_shard(b"dialog", ShardId(2));
    let error = Engine::start(of_owners(2), registry).unwrap_err();
    assert_eq!(
        error.to_string(),
        "packets named \"dialog\" are to be handled on shard2, and there is no such shard: there are 2 that handle any"
    );
    let (registry, _seen) = recording(b"dialog");
    let mut engine = Engine::start(of_owners(2), registry).unwrap();
    let refused = engine.register_on(b"ul", ShardId(2), |_| SchemaHandler);
    assert!(refused.unwrap_err().changed_nothing());
    assert_eq!(engine.name_id(b"ul"), None);
}

#[test]
fn what_is_to_be_done_first_is_done_on_each_shards_own_thread() {
    let (mut registry, seen) = recording(b"dialog");
    let (began_tx, began) = mpsc::channel();
    for each in 0..2 {
        let began = began_tx.clone();
        registry.at_beginning(move |shard| {
            let thread = thread::current().name().map(str::to_owned);
            began.send((each, shard.0, thread)).unwrap();
            Ok(())
        });
    }
    let engine = Engine::start(of_owners(2), registry).unwrap();
    let of = |shard: u16, thread: &str| [0, 1].map(|each| (each, shard, Some(thread.to_owned())));
    let expected = [of(0, "shard0"), of(1, "shard1"), of(2, "reader0")].concat();
    let began: Vec<_> = began.try_iter().collect();
    assert_eq!(began, expected, "all before the start was over, in order");
    drop(engine);
    drop(seen);
}

#[test]
fn what_fails_before_a_shard_receives_fails_the_start() {
    let addr = {
        let engine = Engine::start(config(), registry()).unwrap();
        addr_of(&engine)
    };
    let mut registry = registry();
    registry.at_beginning(|shard| match shard.0 {
        0 => Ok(()),
        _ => Err("module counter: child_init answered -1".into()),
    });
    let mut config = of_owners(2);
    config.listen = vec![addr];
    let error = Engine::start(config, registry).unwrap_err();
    let told = "shard1 cannot begin: module counter: child_init answered -1";
    assert_eq!(error.to_string(), told);
    assert!(Peer::bind(addr).is_ok(), "nothing is left bound");
}

#[test]
fn the_shard_that_hangs_is_named_and_not_who_waits_for_its_mail() {
    let let_go = Arc::new(Mutex::new(()));
    let held = let_go.lock().unwrap();
    let (inside_tx, inside) = mpsc::channel();
    let (mut registry, waits) = (Registry::new(), Arc::clone(&let_go));
    registry
        .register(b"dialog", move |_| {
            let (inside, waits) = (inside_tx.clone(), Arc::clone(&waits));
            move |_: &mut Context<'_>, _: &Packet<'_>| {
                inside.send(()).unwrap();
                drop(waits.lock());
                Verdict::Handled
            }
        })
        .unwrap();
    registry.keep_on_one_shard(b"dialog", ShardId(1));
    let engine = Engine::start(of_owners(2), registry).unwrap();
    let stuck = numbered(Generation::Legacy, b"dialog", 1);
    peer_of(&engine).send(&stuck).unwrap();
    inside.recv_timeout(Duration::from_secs(10)).unwrap();
    let error = engine.stop().unwrap_err();
    assert_eq!(error.to_string(), "shard1 does not end: a handler hangs");
    drop(held);
}

/// Leaves with so many packets of as many records in its sockets.
fn left_with(config: &EngineConfig, count: u32) -> Estate {
    let old = Engine::start(config.clone(), Registry::new()).unwrap();
    let peer = peer_of(&old);
    let mut estate = old.estate().unwrap();
    old.leave(&mut estate).unwrap();
    for number in 0..count {
        peer.send(&numbered(Generation::Legacy, b"dialog", number))
            .unwrap();
    }
    estate
}

#[test]
fn no_shard_receives_before_the_last_has_begun_and_a_failed_start_leaves_all_to_the_next() {
    let mut config = config();
    config.shards = Some(2);
    let estate = left_with(&config, 100);
    let again = estate.try_clone().unwrap();
    let (mut registry, seen) = recording(b"dialog");
    let seen = Mutex::new(seen);
    registry.at_beginning(move |shard| {
        let early = || {
            seen.lock()
                .unwrap()
                .recv_timeout(Duration::from_millis(100))
        };
        match shard.0 {
            0 => Ok(()),
            _ => Err(format!("received until then: {:?}", early()).into()),
        }
    });
    let failed = Engine::bind(config.clone(), estate)
        .unwrap()
        .start(registry);
    assert_eq!(
        failed.unwrap_err().to_string(),
        "shard1 cannot begin: received until then: Err(Timeout)"
    );
    let (registry, seen) = recording(b"dialog");
    let next = Engine::bind(config, again)
        .unwrap()
        .start(registry)
        .unwrap();
    for _ in 0..100 {
        seen.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    assert_eq!(next.stop().unwrap().total.received, 100);
}

#[test]
fn what_is_registered_before_the_first_packet_is_looked_up_gets_it() {
    let mut config = config();
    config.shards = Some(2);
    for home in [None, Some(ShardId(1))] {
        let estate = left_with(&config, 100);
        let mut registry = Registry::new();
        registry.register(b"dialog", |_| SchemaHandler).unwrap();
        let bound = Engine::bind(config.clone(), estate).unwrap();
        let mut begun = bound.begin(registry).unwrap();
        let (seen_tx, seen) = mpsc::channel();
        let make = move |_| Where(seen_tx.clone());
        match home {
            Some(home) => begun.register_on(b"dialog", home, make).unwrap(),
            None => begun.register(b"dialog", make).unwrap(),
        }
        let engine = begun.open().unwrap();
        assert!(engine.late_tables.is_empty(), "all shards have obeyed");
        let totals = engine.stop().unwrap();
        let shards: Vec<_> = seen.try_iter().map(|(shard, _)| shard).collect();
        assert_eq!(shards.len(), 100);
        assert!(home.is_none_or(|home| shards.iter().all(|each| *each == home.0)));
        assert!(totals.is_balanced());
    }
}

#[test]
fn a_resident_is_told_what_nobody_sends() {
    struct Resident(mpsc::Sender<u16>);
    impl Handler for Resident {
        fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
            unreachable!("no packet leads here")
        }
        fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn std::any::Any + Send>) {
            assert_eq!(*message.downcast::<&str>().unwrap(), "hello");
            self.0.send(context.shard().0).unwrap();
        }
    }
    let (told_tx, told) = mpsc::channel();
    let mut registry = registry();
    let make = move |_| Resident(told_tx.clone());
    let id = registry.resident("modules", make).unwrap();
    let mut engine = Engine::start(of_owners(2), registry).unwrap();
    // Behind the place that has no name.
    let late = |_: ShardId| |_: &mut Context<'_>, _: &Packet<'_>| Verdict::Handled;
    engine.register(b"late", late).unwrap();
    peer_of(&engine).send(&packet(b"late", 1, &[])).unwrap();
    peer_of(&engine)
        .send(&packet(b"modules", 1, &[b"hello"]))
        .unwrap();
    let message = Box::new("hello");
    let taken = engine.teller().tell(1, id, message);
    assert_eq!(taken, crate::dispatch::handler::Told::Taken);
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(1));
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::UnknownName), 1);
    assert!(
        totals
            .total
            .names
            .iter()
            .all(|name| *name.name != *b"modules")
    );
}
