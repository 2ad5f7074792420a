use super::*;
use crate::dispatch::handler::{Context, Handler, Verdict};
use crate::dispatch::registry::NameReplaced;
use crate::dispatch::schema_handler::SchemaHandler;
use crate::loopback;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::snapshot::KernelDrops;
use binrush_wire::{Builder, Generation, Packet};
use std::net::{SocketAddr, UdpSocket as Peer};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One shard: what the tests are about does not depend on how many there are, unless they say so.
pub(super) fn config() -> EngineConfig {
    config_of([127, 0, 0, 1])
}

fn config_of(ip: impl Into<std::net::IpAddr>) -> EngineConfig {
    EngineConfig {
        shards: Some(1),
        ..EngineConfig::new(SocketAddr::new(ip.into(), 0))
    }
}

pub(super) fn addr_of(engine: &Engine) -> SocketAddr {
    engine.listeners().next().unwrap().addr
}

pub(super) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(b"ul", |_| SchemaHandler).unwrap();
    registry.register(b"dialog", |_| SchemaHandler).unwrap();
    registry
}

pub(super) fn packet(name: &[u8], command: i32, fields: &[&[u8]]) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
    fields
        .iter()
        .for_each(|field| builder.push_str(field).unwrap());
    builder.seal().to_vec()
}

pub(super) fn peer_of(engine: &Engine) -> Peer {
    let peer = Peer::bind(SocketAddr::new(addr_of(engine).ip(), 0)).unwrap();
    peer.connect(addr_of(engine)).unwrap();
    peer
}

#[test]
fn known_packets_in_exact_ledger_out() {
    for addr in loopback::addresses() {
        let engine = Engine::start(config_of(addr), registry()).unwrap();
        let peer = peer_of(&engine);
        let insert = packet(b"ul", 1, &[b"location", b"alice"]);
        let mut damaged = insert.clone();
        *damaged.last_mut().unwrap() ^= 0x20;
        let sent = [
            insert.clone(),
            packet(b"ul", 2, &[b"location", b"alice"]),
            insert.clone(),
            packet(b"dialog", 3, &[b"call-1", b"from", b"to"]),
            packet(b"dialog", 3, &[b"call-1", b"from"]),
            packet(b"dialog", 55, &[]),
            packet(b"ratelimit", 1, &[b"pipe"]),
            packet(b"ratelimit", 1, &[b"pipe"]),
            damaged,
            b"REGISTER sip:example.org SIP/2.0".to_vec(),
            b"\r\n\r\n".to_vec(),
        ];
        sent.iter()
            .for_each(|bytes| assert_eq!(peer.send(bytes).unwrap(), bytes.len()));

        let totals = engine.stop().unwrap();
        assert!(totals.is_balanced());
        assert_eq!(totals.unaccounted(sent.len() as u64), 0);
        assert_eq!(totals.kernel, KernelDrops::default());
        assert_eq!(
            totals.total.bytes,
            sent.iter().map(|bytes| bytes.len() as u64).sum::<u64>()
        );
        assert_eq!(totals.total.names[0].commands, [(1, 2), (2, 1)]);
        assert_eq!(totals.total.names[1].commands, [(3, 1)]);
        assert_eq!(totals.total.names[1].received, 3);
        assert_eq!(totals.total.unknown_names, [("ratelimit".to_owned(), 2)]);
        let expected = [
            (Outcome::Handled, 4),
            (Outcome::FieldMissing, 1),
            (Outcome::UnknownCommand, 1),
            (Outcome::UnknownName, 2),
            (Outcome::BadCrc, 1),
            (Outcome::BadMarker, 1),
            (Outcome::TooShort, 1),
        ];
        for (outcome, count) in expected {
            assert_eq!(totals.total.outcome(outcome), count, "{outcome}");
        }
        assert_eq!(
            expected.map(|(_, count)| count).iter().sum::<u64>(),
            totals.total.received
        );
    }
}

#[test]
fn what_a_small_buffer_loses_has_a_name() {
    let engine = Engine::start(
        EngineConfig {
            rcvbuf: 4096,
            ..config()
        },
        {
            let mut registry = Registry::new();
            // Slower than the sender, so that the buffer overflows.
            registry
                .register(b"ul", |_| {
                    |_: &mut Context<'_>, _: &Packet<'_>| {
                        sleep(Duration::from_millis(1));
                        Verdict::Handled
                    }
                })
                .unwrap();
            registry
        },
    )
    .unwrap();
    let peer = peer_of(&engine);
    let insert = packet(b"ul", 1, &[b"location", b"alice"]);
    (0..500).for_each(|_| assert_eq!(peer.send(&insert).unwrap(), insert.len()));
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced());
    assert!(
        totals.kernel.buffer > 0 && totals.total.received > 0,
        "{totals:?}"
    );
    assert_eq!(totals.unaccounted(500), 0);
}

#[test]
fn arrivals_during_the_stop_are_counted_apart() {
    let (socket_tx, socket_rx) = mpsc::channel::<Arc<UdpSocket>>();
    let socket_rx = Arc::new(Mutex::new(socket_rx));
    let (sent_tx, sent_rx) = mpsc::channel();
    let mut registry = Registry::new();
    // Called once, and keeps sending to its own engine until arrivals are shut off.
    registry
        .register(b"ul", move |_| {
            let (socket_rx, sent_tx) = (Arc::clone(&socket_rx), sent_tx.clone());
            move |_: &mut Context<'_>, packet: &Packet<'_>| {
                let Ok(socket) = socket_rx.lock().unwrap().try_recv() else {
                    return Verdict::Handled;
                };
                let peer = Peer::bind("127.0.0.1:0").unwrap();
                let mut sent = 0;
                while socket.drops().unwrap() == 0 {
                    let to = socket.local_addr().unwrap();
                    peer.send_to(packet.bytes(), to).unwrap();
                    sent += 1;
                    sleep(Duration::from_millis(1));
                }
                sent_tx.send(sent).unwrap();
                Verdict::Handled
            }
        })
        .unwrap();
    let engine = Engine::start(config(), registry).unwrap();
    let socket = engine.listeners[0].sockets().next().unwrap();
    socket_tx.send(Arc::clone(socket)).unwrap();
    peer_of(&engine)
        .send(&packet(b"ul", 1, &[b"location", b"alice"]))
        .unwrap();

    let totals = engine.stop().unwrap();
    let sent: u64 = sent_rx.recv().unwrap();
    assert!(totals.is_balanced());
    let expected = KernelDrops {
        stopping: 1,
        // With one shard sockets take trains, so this is one datagram at least.
        maybe_trains: 1,
        ..KernelDrops::default()
    };
    assert_eq!(totals.kernel, expected);
    assert_eq!(totals.unaccounted(1 + sent), 0);
}

#[test]
fn a_dead_shard_is_told_at_the_stop_with_all_that_is_known() {
    let mut registry = Registry::new();
    registry
        .register(b"ul", |_| {
            |_: &mut Context<'_>, _: &Packet<'_>| -> Verdict { panic!("on purpose") }
        })
        .unwrap();
    let config = EngineConfig {
        batch: 1,
        ..config()
    };
    let engine = Engine::start(config, registry).unwrap();
    let peer = peer_of(&engine);
    peer.send(b"not BIN").unwrap();
    (0..3).for_each(|_| assert!(peer.send(&packet(b"ul", 1, &[])).is_ok()));
    let start = Instant::now();
    while engine.is_running() {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(1));
    }
    let error = engine.stop().unwrap_err();
    assert!(matches!(error.cause, StopCause::Panicked { .. }), "{error}");
    let totals = *error.totals;
    assert_eq!(
        (totals.total.received, totals.total.settled()),
        (2, 1),
        "{totals:?}"
    );
    assert!(totals.kernel.left_in_queue_bytes >= 2 * binrush_net::QUEUED_LEN_MIN);
    assert!(!totals.is_balanced());
}

#[test]
fn start_errors_say_what_to_do() {
    let engine = Engine::start(config(), Registry::new()).unwrap();
    assert!(engine.is_running());
    let taken = EngineConfig::new(addr_of(&engine));
    let text = Engine::start(taken, Registry::new())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("port is in use") && text.contains("ss -ulpn"),
        "{text}"
    );

    if let Some(elsewhere) = loopback::address_of_another_host() {
        let config = EngineConfig::new(SocketAddr::new(elsewhere, 5566));
        let error = Engine::start(config, Registry::new()).unwrap_err();
        let expected = matches!(error, StartError::AddressNotAvailable { .. });
        assert!(expected, "{error}");
    }

    let nowhere = EngineConfig {
        pin: Pin::Cores(vec![1 << 20]),
        ..config()
    };
    let error = Engine::start(nowhere, Registry::new()).unwrap_err();
    assert!(matches!(error, StartError::Pin(_)), "{error}");

    let mut sizes = [config(), config(), config(), config(), config()];
    sizes[0].batch = 0;
    sizes[1].batch = 1025;
    sizes[2].shards = Some(0);
    sizes[3].shards = Some(65);
    sizes[4].listen.clear();
    for config in sizes {
        let text = Engine::start(config, Registry::new())
            .unwrap_err()
            .to_string();
        assert!(text.contains(": 1 to "), "{text}");
    }
}

#[test]
fn the_port_is_free_once_the_engine_is_gone_also_without_a_stop() {
    // An address that nobody else uses, so that nobody else is given its ports meanwhile.
    let config = config_of([127, 77, 3, 1]);
    let engine = Engine::start(config, Registry::new()).unwrap();
    let addr = addr_of(&engine);
    drop(engine);
    Engine::start(EngineConfig::new(addr), Registry::new()).unwrap();
}

#[test]
fn a_name_registered_twice_is_a_warning() {
    let mut registry = registry();
    registry.register(b"ul", |_| SchemaHandler).unwrap();
    let config = EngineConfig {
        rcvbuf: 4096,
        ..config()
    };
    let engine = Engine::start(config, registry).unwrap();
    let expected = NameReplaced { name: "ul".into() };
    assert_eq!(engine.warnings(), [Warning::NameReplaced(expected)]);
    assert!(engine.listeners().next().unwrap().rcvbuf >= Some(4096));
}

/// Counts itself, and what it is called with.
struct Counting {
    alive: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Counting {
    fn new(alive: &Arc<AtomicU64>, calls: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self {
            alive: Arc::clone(alive),
            calls: Arc::clone(calls),
        }
    }
}

impl Handler for Counting {
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Verdict::Handled
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn two_shards() -> EngineConfig {
    EngineConfig {
        shards: Some(2),
        ..config()
    }
}

#[test]
fn handlers_come_and_go_while_traffic_flows_and_none_is_called_after_it_was_taken_back() {
    const SWAPS: u64 = 100;
    let mut engine = Engine::start(two_shards(), Registry::new()).unwrap();
    let addr = addr_of(&engine);
    let alive = Arc::new(AtomicU64::new(0));
    let swapping = Arc::new(AtomicU64::new(1));
    let mut handled = 0;
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let peer = Peer::bind("127.0.0.1:0").unwrap();
            let mut sent = 0_u64;
            while swapping.load(Ordering::Relaxed) == 1 {
                let key = format!("call-{}", sent % 64);
                let bytes = packet(b"dialog", 1, &[key.as_bytes()]);
                peer.send_to(&bytes, addr).unwrap();
                sent += 1;
            }
            sent
        });
        for _ in 0..SWAPS {
            let calls = Arc::new(AtomicU64::new(0));
            let makes = (Arc::clone(&alive), Arc::clone(&calls));
            engine
                .register(b"dialog", move |_| Counting::new(&makes.0, &makes.1))
                .unwrap();
            assert_eq!(alive.load(Ordering::Relaxed), 2, "one for each shard");
            sleep(Duration::from_micros(300));
            assert!(engine.unregister(b"dialog").unwrap());
            assert_eq!(alive.load(Ordering::Relaxed), 0, "dropped by now");
            let after = calls.load(Ordering::Relaxed);
            sleep(Duration::from_micros(300));
            assert_eq!(calls.load(Ordering::Relaxed), after, "called after its end");
            handled += after;
        }
        assert!(!engine.unregister(b"dialog").unwrap());
        swapping.store(0, Ordering::Relaxed);
        sender.join().unwrap()
    });
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced());
    assert_eq!(totals.unaccounted(sent), 0);
    assert_eq!(totals.total.outcome(Outcome::Handled), handled);
    assert_eq!(totals.total.names[0].received, handled);
    let unknown = totals.total.outcome(Outcome::UnknownName);
    assert_eq!(handled + unknown, totals.total.received);
    assert!(handled > 0 && unknown > 0, "{totals:?}");
}

#[test]
fn a_replaced_handler_hands_over_between_two_packets_and_keeps_the_counters() {
    let mut engine = Engine::start(two_shards(), registry()).unwrap();
    let peer = peer_of(&engine);
    let insert = packet(b"ul", 1, &[b"location", b"alice"]);
    let until = |engine: &mut Engine, received| {
        let start = Instant::now();
        while engine.snapshot().unwrap().total.settled() < received {
            assert!(start.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(1));
        }
    };
    peer.send(&insert).unwrap();
    until(&mut engine, 1);
    engine
        .register(b"ul", |_| {
            |_: &mut Context<'_>, _: &Packet<'_>| Verdict::UnknownCommand
        })
        .unwrap();
    peer.send(&insert).unwrap();
    until(&mut engine, 2);
    let replaced = NameReplaced { name: "ul".into() };
    assert!(engine.warnings().contains(&Warning::NameReplaced(replaced)));
    let totals = engine.stop().unwrap();
    let ul = &totals.total.names[0];
    assert_eq!((ul.received, ul.handled()), (2, 1));
    assert_eq!(totals.total.outcome(Outcome::UnknownCommand), 1);
}

#[test]
fn the_packets_of_a_record_come_to_one_shard_in_order_whatever_shard_that_is() {
    /// Shard, key and number of a packet.
    type Seen = (ShardId, Vec<u8>, u8);
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let log = Arc::clone(&seen);
    let mut registry = Registry::new();
    registry
        .register(b"dialog", move |_| {
            let log = Arc::clone(&log);
            move |context: &mut Context<'_>, packet: &Packet<'_>| {
                let mut fields = packet.fields();
                let key = fields.pop_str().unwrap().to_vec();
                let number = fields.pop_str().unwrap()[0];
                log.lock().unwrap().push((context.shard(), key, number));
                Verdict::Handled
            }
        })
        .unwrap();
    let engine = Engine::start(two_shards(), registry).unwrap();
    let peer = peer_of(&engine);
    let keys: Vec<String> = (0..40).map(|n| format!("call-{n}@host")).collect();
    for number in 0..25 {
        for key in &keys {
            // Created, updated, deleted: all of them lead to the same shard.
            let command = i32::from(number % 3 + 1);
            let bytes = packet(b"dialog", command, &[key.as_bytes(), &[number]]);
            peer.send(&bytes).unwrap();
        }
    }
    let totals = engine.stop().unwrap();
    assert_eq!(totals.unaccounted(1000), 0);
    let seen = seen.lock().unwrap();
    let mut shards = [0; 2];
    for key in &keys {
        let of_key: Vec<_> = seen
            .iter()
            .filter(|(_, known, _)| known == key.as_bytes())
            .collect();
        let numbers: Vec<u8> = of_key.iter().map(|(_, _, number)| *number).collect();
        assert_eq!(numbers, (0..25).collect::<Vec<_>>());
        assert!(
            of_key.iter().all(|(shard, ..)| *shard == of_key[0].0),
            "{key}"
        );
        shards[of_key[0].0.index()] += 1;
    }
    assert!(shards.iter().all(|keys| *keys > 5), "{shards:?}");
}

#[test]
fn who_is_not_allowed_is_dropped_in_the_kernel_and_counted_as_such() {
    for shards in [1, 2] {
        let mut access = Access::nobody();
        access.allow("127.0.0.2".parse().unwrap()).unwrap();
        let config = EngineConfig {
            access,
            shards: Some(shards),
            ..config()
        };
        let mut engine = Engine::start(config, registry()).unwrap();
        let addr = addr_of(&engine);
        let peers = ["127.0.0.1:0", "127.0.0.2:0"].map(|from| Peer::bind(from).unwrap());
        let insert = packet(b"ul", 1, &[b"location", b"alice"]);
        let send = |times: [usize; 2]| {
            for (peer, times) in peers.iter().zip(times) {
                (0..times).for_each(|_| assert!(peer.send_to(&insert, addr).is_ok()));
            }
        };
        send([5, 3]);
        assert_eq!(engine.snapshot().unwrap().kernel.acl, 5);
        let reloaded = engine.reload(&[config_addr()], Access::any()).unwrap();
        assert!(reloaded.access && reloaded.opened.is_empty() && reloaded.closed.is_empty());
        send([2, 2]);
        let totals = engine.stop().unwrap();
        assert_eq!((totals.kernel.acl, totals.kernel.total()), (5, 5));
        assert_eq!(totals.total.received, 7);
        assert!(totals.is_balanced());
    }
}

fn config_addr() -> SocketAddr {
    config().listen[0]
}

#[test]
fn a_reload_opens_and_closes_listeners_and_loses_nothing_on_the_others() {
    let own = |last: u8| SocketAddr::from(([127, 77, 4, last], 0));
    let config = EngineConfig {
        listen: vec![own(1), own(2)],
        ..two_shards()
    };
    let mut engine = Engine::start(config, registry()).unwrap();
    let peer = Peer::bind("127.0.0.1:0").unwrap();
    let insert = packet(b"ul", 1, &[b"location", b"alice"]);
    let before: Vec<SocketAddr> = engine.listeners().map(|each| each.addr).collect();
    for addr in &before {
        (0..10).for_each(|_| assert!(peer.send_to(&insert, addr).is_ok()));
    }
    let reloaded = engine
        .reload(&[own(2), own(3)], Access::loopback())
        .unwrap();
    assert_eq!(reloaded.closed, [before[0]]);
    assert!(!reloaded.access);
    let after: Vec<SocketAddr> = engine.listeners().map(|each| each.addr).collect();
    assert_eq!(after, [before[1], reloaded.opened[0]]);
    for addr in &after {
        (0..10).for_each(|_| assert!(peer.send_to(&insert, addr).is_ok()));
    }
    // The address is free again.
    Peer::bind(before[0]).unwrap();

    let taken = engine.reload(&[own(2), "192.0.2.1:5566".parse().unwrap()], Access::any());
    if loopback::address_of_another_host().is_some() {
        let error = taken.unwrap_err();
        assert!(matches!(error, ChangeError::Start(_)), "{error}");
        assert_eq!(engine.listeners().count(), 2, "nothing has changed");
    }
    let totals = engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.unaccounted(40), 0);
    assert_eq!(totals.listeners.len(), 3);
}

#[test]
fn a_listener_that_comes_back_has_counters_of_its_own_and_the_difference_is_right() {
    let own = |last: u8| SocketAddr::from(([127, 77, 5, last], 0));
    let mut config = config_of([127, 77, 5, 1]);
    config.access = Access::nobody();
    let mut engine = Engine::start(config, registry()).unwrap();
    let peer = Peer::bind("127.0.0.1:0").unwrap();
    let send = |engine: &Engine, count: usize| {
        let to = addr_of(engine);
        (0..count).for_each(|_| assert!(peer.send_to(b"x", to).is_ok()));
    };
    send(&engine, 100);
    let earlier = engine.snapshot().unwrap();
    assert_eq!(earlier.kernel.acl, 100);
    engine.reload(&[own(2)], Access::nobody()).unwrap();
    engine.reload(&[own(1)], Access::nobody()).unwrap();
    send(&engine, 5);
    let between = engine.snapshot().unwrap().since(&earlier);
    assert_eq!(between.kernel.acl, 5);
    let rows: Vec<u64> = between
        .listeners
        .iter()
        .map(|each| each.kernel.acl)
        .collect();
    assert_eq!(rows.iter().sum::<u64>(), 5, "{rows:?}");
    assert_eq!(engine.stop().unwrap().kernel.acl, 105);
}

/// Holds up its shard until it is let go.
fn hanging(let_go: &Arc<Mutex<()>>) -> Registry {
    let let_go = Arc::clone(let_go);
    let mut registry = Registry::new();
    registry
        .register(b"ul", move |_| {
            let let_go = Arc::clone(&let_go);
            move |_: &mut Context<'_>, _: &Packet<'_>| {
                drop(let_go.lock());
                Verdict::Handled
            }
        })
        .unwrap();
    registry
}

#[test]
fn a_change_that_a_shard_is_late_for_is_told_and_leaves_nothing_behind() {
    let own = |last: u8| SocketAddr::from(([127, 77, 6, last], 0));
    let let_go = Arc::new(Mutex::new(()));
    let held = let_go.lock().unwrap();
    let mut engine = Engine::start(config_of([127, 77, 6, 1]), hanging(&let_go)).unwrap();
    let before = addr_of(&engine);
    let peer = peer_of(&engine);
    peer.send(&packet(b"ul", 1, &[])).unwrap();
    let start = Instant::now();
    while engine.trouble().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60));
        engine.snapshot().unwrap();
        sleep(Duration::from_millis(50));
    }
    assert!(matches!(engine.trouble(), Some(Trouble::Hangs { .. })));
    // In the queue of a listener whose shard does not answer.
    peer.send(&packet(b"ul", 1, &[])).unwrap();
    let late = engine.reload(&[own(2)], Access::loopback()).unwrap_err();
    assert!(matches!(late, ChangeError::NoAnswer { .. }), "{late}");
    assert!(!late.changed_nothing());
    drop(held);
    // The same again does what is left: the new address is there, the old one is free.
    let done = engine.reload(&[own(2)], Access::loopback()).unwrap();
    assert_eq!(done.closed, [before]);
    Peer::bind(before).unwrap();
    let peer = peer_of(&engine);
    peer.send(&packet(b"ul", 1, &[])).unwrap();
    let totals = engine.stop().unwrap();
    assert_eq!(totals.total.received, 3);
    assert!(totals.is_balanced());
}

#[test]
fn what_a_late_shard_still_receives_of_a_closed_listener_was_not_left_behind() {
    let own = |last: u8| SocketAddr::from(([127, 77, 7, last], 0));
    let let_go = Arc::new(Mutex::new(()));
    let held = let_go.lock().unwrap();
    let mut config = config_of([127, 77, 7, 1]);
    config.listen.push(own(2));
    let mut engine = Engine::start(config, hanging(&let_go)).unwrap();
    let peer = peer_of(&engine);
    peer.send(&packet(b"ul", 1, &[])).unwrap();
    let start = Instant::now();
    while engine.snapshot().unwrap().total.received == 0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(1));
    }
    (0..3).for_each(|_| assert!(peer.send(&packet(b"ul", 1, &[])).is_ok()));
    let late = engine.reload(&[own(2)], Access::loopback()).unwrap_err();
    assert!(matches!(late, ChangeError::NoAnswer { .. }), "{late}");
    drop(held);
    let totals = engine.stop().unwrap();
    assert_eq!(totals.total.received, 4);
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.unaccounted(4), 0);
}

#[test]
fn our_own_port_is_told_from_that_of_others() {
    let mut config = config();
    config.listen.push("127.0.0.1:1".parse().unwrap());
    config.listen.push("127.0.0.1:1".parse().unwrap());
    let twice = Engine::start(config.clone(), Registry::new()).unwrap_err();
    assert!(matches!(twice, StartError::OurOwn { .. }), "{twice}");
    config.listen.truncate(1);
    let mut engine = Engine::start(config, Registry::new()).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], addr_of(&engine).port()));
    let error = engine.reload(&[any], Access::any()).unwrap_err();
    assert!(
        error.to_string().contains("this process listens on"),
        "{error}"
    );
    assert!(error.changed_nothing());
}

#[test]
fn registrations_without_end_take_no_memory_without_end() {
    let mut engine = Engine::start(config(), registry()).unwrap();
    for _ in 0..100 {
        engine.register(b"ul", |_| SchemaHandler).unwrap();
    }
    assert_eq!(engine.warnings().len(), 1, "{:?}", engine.warnings());
}

/// Threads that only read.
mod readers;

/// Names that are kept on one shard, and beginnings.
mod homes;

/// Where datagrams came from.
mod sources;
