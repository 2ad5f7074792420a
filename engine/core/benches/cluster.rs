//! What a cluster costs the shards that own its records: the gate, a live packet, a donor's record, a step of a walk, and the
//! memory of a record.
//!
//! ```text
//!   gate    connection ─▶ shard ─▶ [Gate: admitted?] ─▶ a callback that does nothing     with the gate, and without
//!   apply   packet ─▶ Replica::apply: a dialog that is here is told, or updated, again
//!   chunk   chunk ─▶ Replica::apply_chunk: a dialog that is new, and one that is here
//!   walk    Replica::walk, 64 KiB a step ─▶ the bytes of every chunk
//! ```
//!
//! The gate is one of a cluster of 128 nodes and stands in front of an engine's callback, because only an engine makes what it
//! is called with: the processor time of the shard's thread for each packet is printed, twice with it and twice without. The
//! others work on a million dialogs of 350 bytes, in the layout of 3.1 to 4.0, on one thread, kept as bytes and kept typed; every
//! answer is checked.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::cluster::gate::Gate;
use binrush_engine::cluster::inbox::{Inbox, Incoming};
use binrush_engine::cluster::outbox::Slice;
use binrush_engine::cluster::replica::{Callback, Cursor, OpaqueReplica, Replica, Source};
use binrush_engine::cluster::roster::{Board, Heard, RosterCluster, RosterNode};
use binrush_engine::cluster::session::SyncEnd;
use binrush_engine::store::TypedReplica;
use binrush_engine::{
    Context, Engine, EngineConfig, Outcome, Registry, ShardId, StreamConfig, Timestamp, Verdict,
    WallClock,
};
use binrush_wire::{Builder, Chunk, Generation, Packet, Release, Trailer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const NAME: &str = "dialog-dlg-repl";
const RECORDS: usize = 1_000_000;
const CREATED: i32 = 1;
const UPDATED: i32 = 2;
/// Bytes of a dialog's chunk.
const LEN: usize = 350;
const RELEASE: Release = Release::V3_6;

/// Packets that an engine gets for each figure of the gate.
const BURST: u64 = 2_000_000;
const BURST_MAX: Duration = Duration::from_secs(60);

/// The fields of a dialog's chunk, which are those of a packet that creates it.
fn fields(number: usize) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"x", 0, 0).unwrap();
    let callid = format!("{number:08x}-7f3a@198.51.100.7");
    let who = [
        &callid[..],
        "5f2d8c61",
        "a7e04b19",
        "sip:alice@a.example",
        "sip:bob@b.example",
    ];
    texts(&mut builder, &who);
    numbers(&mut builder, &[1, 1_700_000_000, 4]);
    // Sockets, CSEQs, routes, contacts.
    texts(&mut builder, &["udp:198.51.100.1:5060"; 2]);
    texts(&mut builder, &["1", "1", "", ""]);
    texts(
        &mut builder,
        &["sip:alice@198.51.100.7:5060", "sip:bob@198.51.100.8:5060"],
    );
    // Mangled URIs, SDPs, advertised contacts, variables, profiles.
    texts(&mut builder, &[""; 8]);
    texts(
        &mut builder,
        &[&format!("v#1#{}|", "v".repeat(LEN - 267)), ""],
    );
    // Flags, when it expires: nothing does here. The CSEQs generated last.
    numbers(&mut builder, &[0, 0, 0x400, i32::MAX, 1, 1]);
    texts(&mut builder, &[""; 3]);
    let packet = Packet::parse(Generation::Modern, builder.seal()).unwrap();
    packet.body().to_vec()
}

fn texts(builder: &mut Builder<'_>, texts: &[&str]) {
    for text in texts {
        builder.push_str(text.as_bytes()).unwrap();
    }
}

fn numbers(builder: &mut Builder<'_>, numbers: &[i32]) {
    for number in numbers {
        builder.push_int(*number).unwrap();
    }
}

/// CREATED.
fn created(fields: &[u8]) -> Vec<u8> {
    packet(CREATED, fields)
}

fn packet(command: i32, fields: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let name = NAME.as_bytes();
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, command, 4).unwrap();
    builder.append(fields).unwrap();
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    builder.seal().to_vec()
}

fn source() -> Source {
    Source {
        now: Timestamp::from_nanos(1_000_000_000),
        shard: ShardId(0),
        cluster: 1,
        node: 2,
        release: RELEASE,
    }
}

fn take(replica: &mut impl Replica, data: &[u8]) {
    let chunk = Chunk { data, at: 0 };
    replica.apply_chunk(&source(), 4, &chunk).unwrap();
}

fn records(c: &mut Criterion) {
    let chunks: Vec<Vec<u8>> = (0..RECORDS).map(fields).collect();
    let len = chunks[0].len();
    assert!(len.abs_diff(LEN) < 10, "{len}");
    records_of(c, &chunks, "kept as bytes", OpaqueReplica::new(NAME));
    let typed = TypedReplica::new(NAME, WallClock::system().into());
    records_of(c, &chunks, "kept typed", typed.unwrap());
}

fn records_of(c: &mut Criterion, chunks: &[Vec<u8>], how: &str, mut replica: impl Replica) {
    let len = chunks[0].len();
    let start = Instant::now();
    for chunk in chunks {
        take(&mut replica, chunk);
    }
    let ns = start.elapsed().as_nanos() / RECORDS as u128;
    // As it counts itself: what the one before it gave back is taken again, and the kernel sees nothing of that.
    let tally = replica.tally().unwrap();
    let bytes = tally.bytes.load(Ordering::Relaxed) / RECORDS as u64;
    println!(
        "{RECORDS} records of {len} bytes, {how}: {ns} ns to take each, {bytes} bytes of memory each"
    );
    end_of_a_sync(&mut replica, chunks);
    let mut group = c.benchmark_group(format!("a million dialogs of 350 bytes, {how}"));
    group.throughput(Throughput::Elements(1));
    let mut next = (0..RECORDS).cycle().step_by(7919);
    group.bench_function("a chunk of a record that is here", |b| {
        b.iter(|| take(&mut replica, &chunks[next.next().unwrap()]));
    });
    for (name, command) in [("CREATED", CREATED), ("UPDATED", UPDATED)] {
        let some = chunks.iter().step_by(97);
        let packets: Vec<Vec<u8>> = some.map(|one| packet(command, one)).collect();
        let mut next = packets.iter().cycle();
        group.bench_function(format!("{name} of a record that is here"), |b| {
            b.iter(|| {
                let packet = Packet::parse(Generation::Modern, next.next().unwrap()).unwrap();
                assert_eq!(replica.apply(&source(), &packet), Verdict::Handled);
            });
        });
    }
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.sample_size(10);
    group.bench_function("a walk over all, 64 KiB a step", |b| {
        b.iter(|| assert_eq!(walk(&replica), (RECORDS, RECORDS * len)));
    });
    group.finish();
}

/// What the end of a sync takes that confirmed every record: all are looked at, a piece at a time.
fn end_of_a_sync(replica: &mut impl Replica, chunks: &[Vec<u8>]) {
    let now = Timestamp::from_nanos(60_000_000_000);
    replica.sync_begins(now);
    chunks.iter().for_each(|chunk| take(replica, chunk));
    let end = SyncEnd::Completed {
        remove_unconfirmed: true,
    };
    let (start, mut longest) = (Instant::now(), 0.0_f64);
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        let piece = Instant::now();
        let ended = replica.sync_ends(now, end, cursor);
        assert_eq!(ended.removed, 0);
        longest = longest.max(piece.elapsed().as_secs_f64() * 1e3);
        from = ended.next;
    }
    let ms = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "the end of a sync of them, nothing to remove: {ms:.1} ms, the longest piece {longest:.2} ms"
    );
}

/// Copies all chunks, as a slice does; how many, and their bytes.
fn walk(replica: &impl Replica) -> (usize, usize) {
    let (mut records, mut bytes) = (0, 0);
    let mut slice = Vec::with_capacity(66_000);
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        slice.clear();
        let walked = replica.walk(cursor, RELEASE, 65_536, &mut |data| {
            records += 1;
            slice.extend_from_slice(data);
        });
        from = walked.next;
        bytes += black_box(&slice).len();
    }
    (records, bytes)
}

/// Nobody's inbox.
struct Nowhere;

impl Inbox for Nowhere {
    fn message(&self, _: Incoming) -> bool {
        false
    }

    fn slice(&self, _: Slice) {}

    fn session_moved(&self) {}

    fn record_missed(&self, _: i32, _: &str) {
        unreachable!("there is room for every record");
    }
}

/// A cluster of 128 nodes, of which the one that sends is the last.
fn board() -> Arc<Board> {
    let node = |id: u8| RosterNode {
        id: if id == 127 { 2 } else { 1000 + i32::from(id) },
        ip: if id == 127 {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::new(10, 0, 0, id)
        }
        .into(),
        enabled: true,
        release: RELEASE,
        slot: id,
    };
    let board = Board::default();
    board.show(RosterCluster {
        id: 1,
        me: 1,
        nodes: (1..128).map(node).collect(),
        capabilities: vec![NAME.into()],
        sessions: Vec::new(),
        learn: Vec::new(),
        heard: Arc::new(Heard::new()),
    });
    Arc::new(board)
}

/// Nanoseconds of the shard's thread for each packet, through an engine with or without a gate.
fn through_an_engine(has_gate: bool) -> f64 {
    let mut registry = Registry::new();
    if has_gate {
        let board = board();
        let make = move |shard| {
            let callback = Callback(|_: &Source, _: &Packet<'_>| Verdict::Handled);
            let board = Arc::clone(&board);
            Gate::new(shard, 1, NAME, board, Arc::new(Nowhere), 1 << 20, callback)
        };
        registry.register(NAME.as_bytes(), make).unwrap();
    } else {
        let handler = |_: &mut Context<'_>, _: &Packet<'_>| Verdict::Handled;
        registry
            .register(NAME.as_bytes(), move |_| handler)
            .unwrap();
    }
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = EngineConfig {
        shards: Some(1),
        streams: StreamConfig {
            listen: vec![addr],
            ..StreamConfig::default()
        },
        ..EngineConfig::new(addr)
    };
    let mut engine = Engine::start(config, registry).unwrap();
    let listener = engine.listeners().find(|listener| listener.tcp);
    let mut stream = TcpStream::connect(listener.unwrap().addr).unwrap();
    let burst: Vec<u8> = (0..1000)
        .flat_map(|number| created(&fields(number)))
        .collect();
    let before = shards_ns();
    for _ in 0..BURST / 1000 {
        stream.write_all(&burst).unwrap();
    }
    let start = Instant::now();
    while engine.snapshot().unwrap().total.outcome(Outcome::Handled) < BURST {
        assert!(start.elapsed() < BURST_MAX);
        thread::sleep(Duration::from_millis(1));
    }
    let spent = shards_ns() - before;
    drop(stream);
    let totals = engine.stop().unwrap();
    assert_eq!(totals.total.outcome(Outcome::Handled), BURST);
    spent as f64 / BURST as f64
}

/// Nanoseconds that the shards' threads have had on a processor, together (/proc/PID/task/TID/schedstat, its first number).
fn shards_ns() -> u64 {
    let mut spent = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        // One that has just ended is none of the shards.
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("shard") {
            let text = fs::read_to_string(path.join("schedstat")).unwrap();
            let ns = text.split_whitespace().next().unwrap();
            spent += ns.parse::<u64>().unwrap();
        }
    }
    spent
}

/// Not by criterion, which knows wall time only.
fn gate(_: &mut Criterion) {
    for round in 1..=2 {
        let without = through_an_engine(false);
        let with = through_an_engine(true);
        println!(
            "round {round}: {without:.1} ns of the shard's thread per packet without a gate, {with:.1} ns with one"
        );
    }
}

criterion_group!(benches, gate, records);
criterion_main!(benches);
