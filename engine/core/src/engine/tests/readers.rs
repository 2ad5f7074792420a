//! Threads that read connections and own no records.

use super::*;
use crate::clock::Timestamp;
use crate::dispatch::handler::{self, Handler, ShardId};
use crate::stream::StreamLimits;
use binrush_net::{TcpOptions, TcpSocket};
use std::any::Any;
use std::io::{IoSlice, Write as _};
use std::net::TcpStream;
use std::thread;

const LOCAL: &[u8] = b"clusterer-internal";
const KEYED: &[u8] = b"usrloc-contact-repl";

/// Two owners and so many readers, datagrams and connections at one port.
fn with_readers(readers: u16) -> EngineConfig {
    let mut config = two_shards();
    config.readers = readers;
    config.streams.listen = config.listen.clone();
    config
}

/// What a packet of a stream says: which of its kind it is, and when it was sent.
fn stamped(name: &[u8], key: &[u8], number: u32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 3, 4).unwrap();
    builder.push_str(&number.to_be_bytes()).unwrap();
    builder.push_str(key).unwrap();
    builder.push_str(&now_ns().to_be_bytes()).unwrap();
    builder.seal().to_vec()
}

fn now_ns() -> u64 {
    use crate::clock::Clock as _;
    MonotonicClock.now().as_nanos()
}

fn key_of(engine: &Engine, owner: u16) -> Vec<u8> {
    let mut keys = (0..).map(|n| format!("user{n}").into_bytes());
    let steering = &engine.steering;
    keys.find(|key| steering.owner_of_key(key) == owner)
        .unwrap()
}

/// A packet as its handler saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    shard: u16,
    number: u32,
    sent: u64,
    handled: u64,
}

/// Writes down each packet, after a sleep for the first one on shard 0.
struct Recorder {
    sleep: Duration,
    seen: mpsc::Sender<Seen>,
}

impl Handler for Recorder {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let mut fields = packet.fields();
        let number = fields.pop_str().unwrap().try_into().unwrap();
        let _key = fields.pop_str().unwrap();
        let sent = fields.pop_str().unwrap().try_into().unwrap();
        if context.shard().0 == 0 {
            sleep(std::mem::take(&mut self.sleep));
        }
        let seen = Seen {
            shard: context.shard().0,
            number: u32::from_be_bytes(number),
            sent: u64::from_be_bytes(sent),
            handled: now_ns(),
        };
        self.seen.send(seen).unwrap();
        Verdict::Handled
    }
}

/// Recorders of both names, of which those of records sleep so long at the first packet of shard 0.
fn recorders(sleep: Duration) -> (Registry, [mpsc::Receiver<Seen>; 2]) {
    let mut registry = Registry::new();
    let seen = [(LOCAL, Duration::ZERO), (KEYED, sleep)].map(|(name, sleep)| {
        let (seen, receiver) = mpsc::channel();
        let make = move |_| Recorder {
            sleep,
            seen: seen.clone(),
        };
        registry.register(name, make).unwrap();
        receiver
    });
    (registry, seen)
}

fn connect(engine: &Engine) -> TcpStream {
    let connection = TcpStream::connect(addr_of(engine)).unwrap();
    connection.set_nodelay(true).unwrap();
    connection
}

/// The delay that only one of a hundred is above.
fn p99(mut delays: Vec<u64>) -> Duration {
    delays.sort_unstable();
    Duration::from_nanos(delays[delays.len() * 99 / 100])
}

#[test]
fn a_callback_that_sleeps_holds_up_its_own_records_alone() {
    let (registry, [local, keyed]) = recorders(Duration::from_secs(2));
    let engine = Engine::start(with_readers(1), registry).unwrap();
    let keys = [0, 1].map(|owner| key_of(&engine, owner));
    let mut connection = connect(&engine);
    // How late the sender itself gets to run: a machine that is busy is not the reader's doing.
    let mut late = Vec::new();
    let begun = now_ns();
    let mut number = 0;
    while now_ns() - begun < 2_200_000_000 {
        let due = begun + u64::from(number) * 2_000_000;
        sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        late.push(now_ns() - due);
        let packets = [
            stamped(KEYED, &keys[0], number),
            stamped(LOCAL, b"", number),
            stamped(KEYED, &keys[1], number),
        ];
        connection.write_all(&packets.concat()).unwrap();
        number += 1;
    }
    drop(connection);
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    let sent = u64::from(number);
    assert_eq!(totals.total.outcome(Outcome::Handled), 3 * sent);

    let local: Vec<Seen> = local.try_iter().collect();
    let (slow, quick): (Vec<Seen>, Vec<Seen>) = keyed.try_iter().partition(|seen| seen.shard == 0);
    let woken = slow[0].handled;
    assert!(woken - slow[0].sent >= 2_000_000_000);
    // Each record in order, and nothing twice.
    for seen in [&local, &slow, &quick] {
        let numbers: Vec<u32> = seen.iter().map(|seen| seen.number).collect();
        assert_eq!(numbers, (0..number).collect::<Vec<_>>());
    }
    // All but the last ones of what came while it slept were through before it woke, the reader's own on the reader.
    let before = |seen: &[Seen]| seen.iter().filter(|seen| seen.sent < woken).count();
    let done = |seen: &[Seen]| seen.iter().filter(|seen| seen.handled < woken).count();
    for seen in [&local, &quick] {
        assert!(before(seen) > 100 && before(seen) - done(seen) < 50);
    }
    assert_eq!(done(&slow), 0);
    assert!(local.iter().all(|seen| seen.shard == 2));
    assert!(quick.iter().all(|seen| seen.shard == 1));
    let delays = local.iter().map(|seen| seen.handled - seen.sent).collect();
    let (delay, late) = (p99(delays), p99(late));
    assert!(
        delay < Duration::from_millis(50) + late,
        "{delay:?}, sender {late:?}"
    );
}

#[test]
fn a_stop_loses_nothing_that_the_kernel_acknowledged_while_an_owner_sleeps() {
    let (registry, [_local, keyed]) = recorders(Duration::from_millis(700));
    let engine = Engine::start(with_readers(1), registry).unwrap();
    let key = key_of(&engine, 0);
    let socket = TcpSocket::connect(addr_of(&engine), None, &TcpOptions::default()).unwrap();
    let start = Instant::now();
    let patience = |what: &str| {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        sleep(Duration::from_millis(1));
    };
    while !socket.finish_connect().unwrap() {
        patience("connect");
    }
    // More than the ring of the owner holds, so that some of it waits in the connection.
    let bytes: Vec<u8> = (0..20_000).flat_map(|n| stamped(KEYED, &key, n)).collect();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match socket.send_vectored(&[IoSlice::new(rest)]) {
            Ok(taken) => rest = &rest[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => patience("room"),
            Err(error) => panic!("{error}"),
        }
    }
    while socket.unsent_bytes().unwrap() > 0 {
        patience("acknowledgements");
    }
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.outcome(Outcome::Handled), 20_000);
    let numbers = keyed.try_iter().map(|seen| seen.number);
    assert!(numbers.eq(0..20_000));
}

#[test]
fn connections_go_to_readers_and_datagrams_to_owners_also_of_listeners_that_come_later() {
    let named = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&named);
    let mut registry = registry();
    let make = move |shard: ShardId| {
        let names = Arc::clone(&names);
        move |_: &mut Context<'_>, _: &Packet<'_>| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            names.lock().unwrap().push((shard.0, name));
            Verdict::Handled
        }
    };
    registry.register(LOCAL, make).unwrap();
    let mut config = with_readers(2);
    config.listen[0].set_ip([127, 77, 8, 1].into());
    config.streams.listen = config.listen.clone();
    let mut engine = Engine::start(config, registry).unwrap();
    let readers: Vec<_> = engine.shards().map(|shard| shard.reader).collect();
    assert_eq!(readers, [None, None, Some(0), Some(1)]);
    let first = engine.snapshot().unwrap();
    assert_eq!(first.shards.len(), 4);

    let insert = packet(b"ul", 1, &[b"location", b"alice"]);
    let speak = |engine: &Engine| {
        let addr = addr_of(engine);
        let peer = Peer::bind("127.0.0.1:0").unwrap();
        (0..5).for_each(|_| assert!(peer.send_to(&insert, addr).is_ok()));
        for _ in 0..2 {
            let mut connection = TcpStream::connect(addr).unwrap();
            connection.write_all(&stamped(LOCAL, b"", 0)).unwrap();
        }
    };
    speak(&engine);
    let wait_for = |engine: &mut Engine, received: u64| {
        let start = Instant::now();
        while engine.snapshot().unwrap().total.received < received {
            assert!(start.elapsed() < Duration::from_secs(20));
            sleep(Duration::from_millis(1));
        }
    };
    wait_for(&mut engine, 7);
    let own = SocketAddr::from(([127, 77, 8, 2], 0));
    let streams = StreamConfig {
        listen: vec![own],
        ..StreamConfig::default()
    };
    let reloaded = engine
        .reload_with(&[own], Access::loopback(), &streams)
        .unwrap();
    assert_eq!(reloaded.opened.len() + reloaded.opened_streams.len(), 2);
    speak(&engine);
    wait_for(&mut engine, 14);
    assert_eq!(engine.trouble(), None);

    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    for (index, shard) in totals.shards.iter().enumerate() {
        assert_eq!(shard.frames > 0, index >= 2, "{index}");
        assert!(index < 2 || shard.frames == shard.received);
    }
    let mut named = named.lock().unwrap().clone();
    named.sort();
    named.dedup();
    assert_eq!(
        named,
        [(2, "reader0".to_owned()), (3, "reader1".to_owned())]
    );
}

#[test]
fn a_reader_that_hangs_is_told_like_any_other_shard() {
    let let_go = Arc::new(Mutex::new(()));
    let held = let_go.lock().unwrap();
    let mut registry = Registry::new();
    let lock = Arc::clone(&let_go);
    let make = move |_| {
        let lock = Arc::clone(&lock);
        move |_: &mut Context<'_>, _: &Packet<'_>| {
            drop(lock.lock());
            Verdict::Handled
        }
    };
    registry.register(LOCAL, make).unwrap();
    let mut engine = Engine::start(with_readers(1), registry).unwrap();
    connect(&engine).write_all(&stamped(LOCAL, b"", 0)).unwrap();
    let start = Instant::now();
    while engine.trouble().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60));
        engine.snapshot().unwrap();
        sleep(Duration::from_millis(50));
    }
    let shard = ShardName::new(ShardId(2), 2);
    assert_eq!(engine.trouble(), Some(Trouble::Hangs { shard }));
    let told = engine.trouble().unwrap().to_string();
    assert!(told.starts_with("reader0 hangs"), "as its thread: {told}");
    drop(held);
    assert!(engine.stop().unwrap().is_balanced());
}

#[test]
fn a_number_of_readers_that_cannot_work_is_refused() {
    let error = Engine::start(with_readers(READERS_MAX + 1), registry()).unwrap_err();
    assert!(matches!(error, StartError::Readers { .. }), "{error}");
}

#[test]
fn what_all_connections_may_hold_is_divided_among_those_who_have_them() {
    let limits = |readers| {
        let mut config = with_readers(readers);
        config.streams.limits = StreamLimits {
            memory: 12 << 20,
            ..StreamLimits::default()
        };
        let engine = Engine::start(config, registry()).unwrap();
        let memory = engine.streams.limits_of_each().memory;
        assert!(engine.stop().unwrap().is_balanced());
        memory
    };
    assert_eq!([0, 1, 3].map(limits), [6 << 20, 12 << 20, 4 << 20]);
}

/// Writes down what it is told, and says when it is dropped.
struct Told {
    heard: Arc<Mutex<Vec<(u16, u32, u32)>>>,
    gone: Arc<AtomicU64>,
}

impl Handler for Told {
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        Verdict::Handled
    }

    fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn Any + Send>) {
        let (by, number) = *message.downcast::<(u32, u32)>().unwrap();
        self.heard
            .lock()
            .unwrap()
            .push((context.shard().0, by, number));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn handlers_hear_what_other_threads_tell_them_in_order_until_the_engine_stops() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let gone = Arc::new(AtomicU64::new(0));
    let mut registry = registry();
    let make = {
        let (heard, gone) = (Arc::clone(&heard), Arc::clone(&gone));
        move |_| Told {
            heard: Arc::clone(&heard),
            gone: Arc::clone(&gone),
        }
    };
    registry.register(b"told", make).unwrap();
    let mut engine = Engine::start(with_readers(1), registry).unwrap();
    let teller = engine.teller();
    let name = engine.name_id(b"told").unwrap();
    assert_eq!((teller.owners(), engine.name_id(b"nobody")), (2, None));
    let nothing = || Box::new((0_u32, 0_u32));
    assert_eq!(teller.tell(3, name, nothing()), handler::Told::Ended);
    let begun = Instant::now();
    // Four threads tell while orders of the control thread come in between.
    thread::scope(|scope| {
        for by in 0..4_u32 {
            let teller = teller.clone();
            scope.spawn(move || {
                for number in 0..300_u32 {
                    for shard in 0..3 {
                        while teller.tell(shard, name, Box::new((by, number)))
                            != handler::Told::Taken
                        {
                            assert!(begun.elapsed() < Duration::from_secs(30));
                            thread::yield_now();
                        }
                    }
                }
            });
        }
        for _ in 0..20 {
            engine.register(b"ul", |_| SchemaHandler).unwrap();
        }
    });
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced());
    assert_eq!(teller.tell(0, name, nothing()), handler::Told::Ended);
    let heard = heard.lock().unwrap();
    for shard in 0..3 {
        for by in 0..4 {
            let those = heard.iter().filter(|each| (each.0, each.1) == (shard, by));
            assert!(those.map(|each| each.2).eq(0..300), "{shard} {by}");
        }
    }
    assert_eq!(gone.load(Ordering::Relaxed), 3, "one on each shard");
}

#[test]
fn a_resident_has_turns_on_shards_that_own_nothing_too() {
    struct Resident(ShardId, mpsc::Sender<ShardId>);
    impl Handler for Resident {
        fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
            unreachable!("no packet leads here")
        }
        fn turn(&mut self, _: Timestamp) -> bool {
            self.1.send(self.0).is_ok_and(|()| false)
        }
    }
    let (turns_tx, turns) = mpsc::channel();
    let mut registry = registry();
    let make = move |shard| Resident(shard, turns_tx.clone());
    registry.resident("modules", make).unwrap();
    let engine = Engine::start(with_readers(1), registry).unwrap();
    let mut missing = vec![ShardId(0), ShardId(1), ShardId(2)];
    while !missing.is_empty() {
        let shard = turns.recv_timeout(Duration::from_secs(10)).unwrap();
        missing.retain(|each| *each != shard);
    }
    engine.stop().unwrap();
}
