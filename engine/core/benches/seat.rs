//! How long a PONG takes beside bulk, and how fast one node gives all its records to another.
//!
//! ```text
//!   peer ── one connection: PING every 20 ms between bulk ──▶ reader ─▶ door ─▶ seat ─▶ link ──▶ peer: PONG
//!   node 1: records ──▶ donation ── SYNC ──▶ reader ─▶ parts ─▶ gates of node 2
//! ```
//!
//! A program of its own and not a criterion bench: what counts is a distribution, and one sync of a million records.
//! Prints a table; arguments choose: `pong`, `sync` (records kept as bytes), `contacts` (contacts, kept for what they say, whose
//! sockets are mapped), nothing for all. `--records N` for another number of records.
//!
//! A delay is counted from when its PING was due, so a sender that was held up hides nothing. Each case names the memory of
//! its connection and of all: what comes while a callback sleeps has to find room there. The exit code is 1 when a PONG is
//! missing in a case that must hold.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::cluster::config::{
    CapabilityConfig, ClusterConfig, NodeConfig, SyncLimits, Timers,
};
use binrush_engine::cluster::driver::{Cluster, ClusterPlan, LinkTerms};
use binrush_engine::cluster::facts::CopyState;
use binrush_engine::cluster::message::{self, Internal, Writer};
use binrush_engine::cluster::replica::{Callback, OpaqueReplica, Replica, Source};
use binrush_engine::store::TypedReplica;
use binrush_engine::{
    Engine, EngineConfig, Links, LinksConfig, Outcome, Registry, ShardId, StreamConfig, Verdict,
    WallClock,
};
use binrush_store::model::Contact;
use binrush_store::sockets::{SocketMap, Target};
use binrush_store::{Record, write};
use binrush_wire::{Builder, Generation, Packet, Release, Trailer};

/// The capability of the records; a name of no module, so its first string is the key.
const NAME: &str = "bench-repl";

/// What the callback of the sleeping case does once.
const NAP: Duration = Duration::from_secs(2);

/// Between two PINGs.
const PING_EVERY: Duration = Duration::from_millis(20);

/// Bytes of a record, about.
const RECORD_LEN: usize = 350;

/// Memory of one connection, and of all.
#[derive(Clone, Copy)]
struct Memory {
    label: &'static str,
    connection: usize,
    all: usize,
}

/// As `serve` has it in a cluster.
const DEFAULT: Memory = Memory {
    label: "64/256 MiB",
    connection: 64 << 20,
    all: 256 << 20,
};

/// For a million packets in a second beside a callback that sleeps for two: 2 s x 1 M/s x 200 bytes.
const LARGE: Memory = Memory {
    label: "512/1024 MiB",
    connection: 512 << 20,
    all: 1 << 30,
};

/// What is given in a sync.
struct Content {
    label: &'static str,
    name: &'static str,
    /// Records of each packet that is filled in.
    each: u64,
    keeper: fn() -> Box<dyn Replica>,
    /// The packet of that number, into the buffer.
    packet: fn(u64, &mut Vec<u8>),
}

const OPAQUE: Content = Content {
    label: "records of about 350 bytes",
    name: NAME,
    each: 1,
    keeper: || Box::new(OpaqueReplica::new(NAME)),
    packet: opaque,
};

const CONTACTS: Content = Content {
    label: "contacts and their AoRs",
    name: "usrloc-contact-repl",
    each: 2,
    keeper: contacts,
    packet: contact,
};

/// One line of the table.
#[derive(Clone, Copy)]
struct Case {
    rate: u64,
    naps: bool,
    memory: Memory,
    /// Whether every PONG has to come.
    must_hold: bool,
}

struct Node {
    engine: Engine,
    cluster: Cluster,
    links: Links,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let records = arguments
        .iter()
        .position(|argument| argument == "--records")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(1_000_000);
    let all = !has("pong") && !has("sync") && !has("contacts");
    // `cargo test --benches` only wants to know that it runs.
    let is_trial = has("--test");
    let mut holds = true;
    if all || has("pong") {
        holds = pong(is_trial);
    }
    let records = if is_trial { 1000 } else { records };
    for (word, content) in [("sync", OPAQUE), ("contacts", CONTACTS)] {
        if all || has(word) {
            sync(records, &content);
        }
    }
    if holds {
        ExitCode::SUCCESS
    } else {
        eprintln!("PONGs are missing in a case that must hold");
        ExitCode::FAILURE
    }
}

/// The delays of PONGs in each case; whether all came that had to.
fn pong(is_trial: bool) -> bool {
    let seconds = if is_trial { 1 } else { 6 };
    println!(
        "{:>9}  {:<18} {:<12} {:>7} {:>7} {:>9} {:>9} {:>9} {:>12}",
        "bulk/s",
        "callbacks",
        "memory",
        "PONGs",
        "missing",
        "p50 us",
        "p99 us",
        "max us",
        "bulk sent"
    );
    let case = |rate, naps, memory, must_hold| Case {
        rate,
        naps,
        memory,
        must_hold,
    };
    let cases = [
        case(0, false, DEFAULT, true),
        case(200_000, false, DEFAULT, true),
        case(1_000_000, false, DEFAULT, true),
        case(0, true, DEFAULT, true),
        // Half of it is for the owner that sleeps: 2 s x 100,000/s x 200 bytes find room.
        case(200_000, true, DEFAULT, true),
        // These do not, and PINGs stand behind them until the callback returns.
        case(1_000_000, true, DEFAULT, false),
        case(1_000_000, true, LARGE, true),
    ];
    let cases = cases
        .into_iter()
        .filter(|case| !is_trial || case.rate <= 200_000);
    // All of them, whatever comes of the first ones.
    cases.fold(true, |holds, case| {
        let missing = pong_case(case, Duration::from_secs(seconds));
        holds && (missing == 0 || !case.must_hold)
    })
}

/// One line of the table; PONGs that are missing.
fn pong_case(case: Case, time: Duration) -> usize {
    let Case {
        rate, naps, memory, ..
    } = case;
    let peer = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let peer_addr = peer.local_addr().unwrap();
    let has_napped = Arc::new(AtomicBool::new(false));
    let may_nap = Arc::new(AtomicBool::new(false));
    let (napped, may) = (Arc::clone(&has_napped), Arc::clone(&may_nap));
    let callback = move |_: ShardId| {
        let (napped, may) = (Arc::clone(&napped), Arc::clone(&may));
        Callback(move |_: &Source, _: &Packet<'_>| {
            if may.load(Ordering::Relaxed) && !napped.swap(true, Ordering::Relaxed) {
                thread::sleep(NAP);
            }
            Verdict::Handled
        })
    };
    let node = start(memory, &[(2, peer_addr)], |plan, registry| {
        plan.replica(registry, 1, "dialog-dlg-repl", callback)
            .unwrap();
        plan.replica(registry, 1, NAME, |_| OpaqueReplica::new(NAME))
            .unwrap();
    });
    let to = listener(&node.engine);
    let pinged: Arc<Mutex<VecDeque<Instant>>> = Arc::default();
    let delays: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let answers = {
        let (pinged, delays) = (Arc::clone(&pinged), Arc::clone(&delays));
        let over = Arc::clone(&over);
        thread::spawn(move || hear(&peer, to, &pinged, &delays, &over))
    };
    let sent = talk(to, rate, time, &pinged, || {
        may_nap.store(naps, Ordering::Relaxed)
    });
    // The last callback may still sleep, and what stands behind it has to come in.
    let patience = Instant::now() + 2 * NAP;
    while !pinged.lock().unwrap().is_empty() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    over.store(true, Ordering::Relaxed);
    stop(node);
    answers.join().unwrap();
    let missing = pinged.lock().unwrap().len();
    let mut delays = delays.lock().unwrap().clone();
    delays.sort_unstable();
    let at = |part: f64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into a list of thousands"
        )]
        let index = ((delays.len() as f64 * part) as usize).min(delays.len().saturating_sub(1));
        delays.get(index).map_or(0, Duration::as_micros)
    };
    println!(
        "{rate:>9}  {:<18} {:<12} {:>7} {missing:>7} {:>9} {:>9} {:>9} {sent:>12}",
        match (naps, has_napped.load(Ordering::Relaxed)) {
            (true, true) => "one sleeps for 2 s",
            (true, false) => "none came",
            (false, _) => "return at once",
        },
        memory.label,
        delays.len(),
        at(0.50),
        at(0.99),
        at(1.0),
    );
    missing
}

/// Sends bulk at `rate` and a PING every [`PING_EVERY`], all on one connection.
fn talk(
    to: SocketAddr,
    rate: u64,
    time: Duration,
    pinged: &Mutex<VecDeque<Instant>>,
    begin: impl FnOnce(),
) -> u64 {
    let mut connection = TcpStream::connect(to).unwrap();
    connection.set_nodelay(true).unwrap();
    let mut writer = Writer::default();
    let ping = Internal::Ping { list: false };
    let ping = writer
        .internal(Release::V3_6, 1, 2, &ping)
        .unwrap()
        .to_vec();
    let bulk: Vec<Vec<u8>> = (0..64).map(batch).collect();
    // The link has to come up first.
    thread::sleep(Duration::from_millis(500));
    begin();
    let start = Instant::now();
    let (mut sent, mut next_ping, mut turn) = (0_u64, start, 0_usize);
    while start.elapsed() < time {
        let now = Instant::now();
        if now >= next_ping {
            // When it was to leave: a write that was held up is part of the delay.
            pinged.lock().unwrap().push_back(next_ping);
            next_ping += PING_EVERY;
            connection.write_all(&ping).unwrap();
        }
        let due = now.duration_since(start).as_micros() * u128::from(rate) / 1_000_000;
        if u128::from(sent) < due {
            connection.write_all(&bulk[turn % bulk.len()]).unwrap();
            sent += BATCH;
            turn += 1;
        } else if rate == 0 && start.elapsed() > Duration::from_millis(100) && sent == 0 {
            // One, for the callback that is to sleep.
            connection.write_all(&bulk[0]).unwrap();
            sent += BATCH;
        } else {
            thread::sleep(Duration::from_micros(50));
        }
    }
    sent
}

/// Messages in one write.
const BATCH: u64 = 64;

/// Deletes of dialogs that nobody knows: about 200 bytes each, of other records in each batch.
fn batch(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..usize::try_from(BATCH).unwrap() {
        let mut buffer = [0; 512];
        let mut packet =
            Builder::new(Generation::Modern, &mut buffer, b"dialog-dlg-repl", 3, 4).unwrap();
        let call_id = format!("{number:04}-{n:04}-{}@192.0.2.10", "x".repeat(80));
        for field in [
            call_id.as_bytes(),
            b"from-tag-0123456789",
            b"to-tag-0123456789",
        ] {
            packet.push_str(field).unwrap();
        }
        packet.push_trailer(Trailer::new(1, 2, 1)).unwrap();
        bytes.extend_from_slice(packet.seal());
    }
    bytes
}

/// Takes the node's own connection: answers its PINGs, and notes when its PONGs come. They have no number, but come in order
/// of their PINGs, so what is missing makes those behind it late and is counted at the end.
fn hear(
    peer: &TcpListener,
    to: SocketAddr,
    pinged: &Mutex<VecDeque<Instant>>,
    delays: &Mutex<Vec<Duration>>,
    over: &AtomicBool,
) {
    let (mut connection, _) = peer.accept().unwrap();
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut back = TcpStream::connect(to).unwrap();
    back.set_nodelay(true).unwrap();
    let mut writer = Writer::default();
    let (mut held, mut buffer) = (Vec::new(), [0; 4096]);
    while !over.load(Ordering::Relaxed) {
        let len = match connection.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let now = Instant::now();
        held.extend_from_slice(&buffer[..len]);
        while held.len() >= 10 {
            let len = u32::from_le_bytes(held[4..8].try_into().unwrap()) as usize;
            if held.len() < len {
                break;
            }
            let packet: Vec<u8> = held.drain(..len).collect();
            let packet = Packet::parse(Generation::Modern, &packet).unwrap();
            match message::internal(&packet) {
                Ok((_, _, Internal::Pong { .. })) => {
                    if let Some(sent) = pinged.lock().unwrap().pop_front() {
                        delays.lock().unwrap().push(now - sent);
                    }
                }
                Ok((_, _, Internal::Ping { .. })) => {
                    let pong = Internal::Pong { nodes: Vec::new() };
                    let pong = writer.internal(Release::V3_6, 1, 2, &pong).unwrap();
                    back.write_all(pong).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// One node gives `records` to another that knows none.
fn sync(records: u64, content: &Content) {
    let replica = |plan: &mut ClusterPlan, registry: &mut Registry| {
        let keeper = content.keeper;
        plan.replica(registry, 1, content.name, move |_| keeper())
            .unwrap();
    };
    // Two listeners that nobody accepts at tell us two free ports.
    let ports = [0, 1].map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let [first, second] = ports.each_ref().map(|port| port.local_addr().unwrap());
    drop(ports);
    let nodes = [(2, second), (3, peerless())];
    let names = &[content.name];
    let mut donor = start_at(first, (1, true), DEFAULT, &nodes, names, replica);
    fill(listener(&donor.engine), records, content);
    wait("the donor to have its records", || {
        let facts = donor.cluster.facts().unwrap();
        donor
            .engine
            .snapshot()
            .unwrap()
            .total
            .outcome(Outcome::Handled)
            >= records
            && facts[0].capabilities[0].state == CopyState::Verified
            && facts[0].capabilities[0].advertised
    });
    let start = Instant::now();
    let receiver = start_at(second, (2, false), DEFAULT, &[(1, first)], names, replica);
    let mut first_ms = None;
    wait("the sync", || {
        let facts = receiver.cluster.facts().unwrap();
        let capability = &facts[0].capabilities[0];
        if let Some(sync) = capability.sync.as_ref().filter(|sync| sync.packets > 0) {
            first_ms.get_or_insert(sync.since_ms);
        }
        capability.state == CopyState::Verified
    });
    let all = start.elapsed();
    let facts = receiver.cluster.facts().unwrap();
    let (donor_id, end, chunks, ms) = facts[0].capabilities[0].last_sync.unwrap();
    let first = first_ms.map_or_else(
        || "all of it".to_owned(),
        |ms| format!("the first after {ms} ms"),
    );
    println!(
        "sync of {chunks} {} from node {donor_id}: {end:?}, {ms} ms from the request ({first}), {} ms from the start of the node",
        content.label,
        all.as_millis()
    );
    assert_eq!(chunks, records * content.each);
    stop(receiver);
    stop(donor);
}

/// A keeper of contacts, given to a node with another socket.
fn contacts() -> Box<dyn Replica> {
    let map = SocketMap::parse("udp:192.0.2.1:5060=udp:192.0.2.9:5060").unwrap();
    let target = Target::new(map.clone(), Some(map.targets()));
    let wall = Arc::new(WallClock::system());
    let typed = TypedReplica::new(CONTACTS.name, wall).unwrap();
    Box::new(typed.with_target(Arc::new(target)))
}

/// A node that is configured and not there: a record's origin.
fn peerless() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

/// Brings `records` to a node, as node 3 would.
fn fill(to: SocketAddr, records: u64, content: &Content) {
    let mut connection = TcpStream::connect(to).unwrap();
    let mut bytes = Vec::new();
    for n in 0..records {
        (content.packet)(n, &mut bytes);
        if bytes.len() > 256 << 10 {
            connection.write_all(&bytes).unwrap();
            bytes.clear();
        }
    }
    connection.write_all(&bytes).unwrap();
}

fn opaque(n: u64, bytes: &mut Vec<u8>) {
    let mut buffer = [0; 512];
    let mut packet = Builder::new(Generation::Modern, &mut buffer, NAME.as_bytes(), 1, 1).unwrap();
    packet
        .push_str(format!("record-{n:09}").as_bytes())
        .unwrap();
    packet.push_str(&[b'v'; RECORD_LEN - 60]).unwrap();
    packet.push_trailer(Trailer::new(1, 3, 1)).unwrap();
    bytes.extend_from_slice(packet.seal());
}

/// A phone behind a proxy, as a registrar of 3.6 tells of it.
fn contact(n: u64, bytes: &mut Vec<u8>) {
    let aor = format!("subscriber-{n}@example.org");
    let uri = format!("sip:{aor};transport=udp;ob");
    let callid = format!("{n:08x}-7f3a@198.51.100.7");
    let contact = Contact {
        domain: b"location",
        aor: aor.as_bytes(),
        uri: uri.as_bytes(),
        id: Some(n << 14),
        callid: callid.as_bytes(),
        user_agent: b"Some phone of some maker 1.2.3",
        received: b"sip:192.0.2.77:5060;transport=udp",
        socket: b"udp:192.0.2.1:5060",
        expires: 4_000_000_000,
        cseq: 7,
        cflag_names: Some(b""),
        ..Contact::default()
    };
    let mut buffer = [0; 1024];
    let record = Record::Contact(contact);
    let mut packet = write::packet(&record, Release::V3_6, 0, 0, &mut buffer).unwrap();
    packet.push_trailer(Trailer::new(1, 3, 1)).unwrap();
    bytes.extend_from_slice(packet.seal());
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "waited for {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(
    memory: Memory,
    neighbours: &[(i32, SocketAddr)],
    replicas: impl FnOnce(&mut ClusterPlan, &mut Registry),
) -> Node {
    let at = ([127, 0, 0, 1], 0).into();
    let capabilities = &["dialog-dlg-repl", NAME];
    start_at(at, (1, false), memory, neighbours, capabilities, replicas)
}

/// A node with that id, and maybe a seed.
fn start_at(
    at: SocketAddr,
    (id, is_seed): (i32, bool),
    memory: Memory,
    neighbours: &[(i32, SocketAddr)],
    capabilities: &[&str],
    replicas: impl FnOnce(&mut ClusterPlan, &mut Registry),
) -> Node {
    let node = |id, addr: SocketAddr, is_seed| NodeConfig {
        id,
        url: format!("bin:{addr}").parse().unwrap(),
        url_text: format!("bin:{addr}"),
        sip_addr: String::new(),
        priority: 3,
        retries: 3,
        is_seed,
        release: None,
    };
    let capabilities = capabilities.iter().map(|name| CapabilityConfig {
        name: (*name).to_owned(),
        sync: [NAME, CONTACTS.name].contains(name),
    });
    let config = ClusterConfig {
        id: 1,
        me: node(id, at, is_seed),
        neighbours: neighbours
            .iter()
            .map(|(id, addr)| node(*id, *addr, false))
            .collect(),
        timers: Timers {
            seed_fallback: Duration::from_millis(500),
            ..Timers::default()
        },
        release: Release::V3_6,
        learn: Vec::new(),
        capabilities: capabilities.collect(),
        tags: Vec::new(),
        sync: SyncLimits::default(),
    };
    let mut registry = Registry::new();
    let mut plan = ClusterPlan::new(vec![config], 2);
    plan.doors(&mut registry, |warning| eprintln!("warning: {warning}"))
        .unwrap();
    replicas(&mut plan, &mut registry);
    let mut streams = StreamConfig {
        listen: vec![at],
        ..StreamConfig::default()
    };
    streams.limits.memory_per_connection = memory.connection;
    streams.limits.memory = memory.all;
    let engine = EngineConfig {
        shards: Some(2),
        readers: 1,
        streams,
        ..EngineConfig::new(at)
    };
    let engine = Engine::start(engine, registry).unwrap();
    let links = Links::start(&LinksConfig::default()).unwrap();
    let terms = LinkTerms::default();
    let cluster = plan
        .start(Arc::new(engine.teller()), links.clone(), terms)
        .unwrap();
    Node {
        engine,
        cluster,
        links,
    }
}

fn listener(engine: &Engine) -> SocketAddr {
    let listener = engine.listeners().find(|listener| listener.tcp);
    listener.expect("one was asked for").addr
}

fn stop(node: Node) {
    node.cluster.stop();
    node.links.stop(Duration::from_millis(100));
    let totals = node.engine.stop().unwrap();
    assert!(totals.is_balanced(), "{totals:?}");
}
