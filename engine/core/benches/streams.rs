//! What a connection costs: messages of 200 bytes from one sender in one stream, to callbacks that do nothing and to
//! callbacks that work for a microsecond, on one shard and on two.
//!
//! ```text
//!   sender ── one connection ──▶ shard that reads it ── frames ──┬──▶ its own callbacks
//!   a thread of its own                                          └──▶ mail ──▶ the other shard's callbacks
//! ```
//!
//! Time is from the first byte of a burst to the callback of its last message. Below each figure stands the processor time
//! of the shards' threads. At the end of each, every message and every byte must have been counted, and on two shards
//! both must have worked.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::fs;
use std::hint;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_engine::{
    Context, Engine, EngineConfig, Outcome, Registry, StreamBackend, StreamConfig, Verdict,
};
use binrush_wire::{Builder, Generation, Packet};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Bytes of a message.
const LEN: usize = 200;

/// Records that the messages are of; they come round again.
const RECORDS: usize = 4096;

/// Messages of a burst: with callbacks that do nothing a few tens of milliseconds, so that looking for its end is not what
/// is measured.
const BURST: u64 = 50 * RECORDS as u64;

/// How often it is looked whether a burst is through.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// A burst takes a second at most on any machine that is worth measuring on.
const BURST_MAX: Duration = Duration::from_secs(60);

const NAME: &[u8] = b"dialog-dlg-repl";

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    backend: StreamBackend,
    shards: u16,
    work: Duration,
}

/// An engine, and somebody who has a connection to it.
struct Fixture {
    case: Case,
    engine: Engine,
    bursts: SyncSender<()>,
    sender: JoinHandle<()>,
    /// Messages so far.
    sent: u64,
}

impl Fixture {
    /// `None` where the kernel does not have the backend.
    fn new(case: Case) -> Option<Self> {
        let mut registry = Registry::new();
        let work = case.work;
        let handler = move |_: &mut Context<'_>, _: &Packet<'_>| {
            let start = (!work.is_zero()).then(Instant::now);
            while start.is_some_and(|start| start.elapsed() < work) {
                hint::spin_loop();
            }
            Verdict::Handled
        };
        registry.register(NAME, move |_| handler).unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = EngineConfig {
            shards: Some(case.shards),
            streams: StreamConfig {
                listen: vec![addr],
                backend: case.backend,
                ..StreamConfig::default()
            },
            ..EngineConfig::new(addr)
        };
        let engine = Engine::start(config, registry).unwrap();
        if engine.stream_backend().0 != case.backend {
            println!("{case}: left out: {}", engine.stream_backend().1);
            return None;
        }
        let listener = engine.listeners().find(|listener| listener.tcp);
        let to = listener.expect("one was asked for").addr;
        // One at a time: who asks for a burst waits for its end.
        let (bursts, asked) = mpsc::sync_channel(0);
        Some(Self {
            case,
            engine,
            bursts,
            sender: thread::spawn(move || send(to, &asked)),
            sent: 0,
        })
    }

    /// Has a burst sent; how long it took until all of it was handled.
    fn burst(&mut self) -> Duration {
        self.sent += BURST;
        let start = Instant::now();
        self.bursts.send(()).unwrap();
        loop {
            let totals = self.engine.snapshot().unwrap().total;
            if totals.outcome(Outcome::Handled) >= self.sent {
                return start.elapsed();
            }
            assert!(start.elapsed() < BURST_MAX, "{totals:?}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Ends the connection and the engine, and looks whether all was counted.
    fn finish(self) {
        drop(self.bursts);
        self.sender.join().unwrap();
        let totals = self.engine.stop().unwrap();
        assert!(totals.is_balanced() && totals.streams.is_balanced());
        let streams = &totals.streams.total;
        let counted = (totals.total.outcome(Outcome::Handled), streams.frames);
        assert_eq!(counted, (self.sent, self.sent));
        assert_eq!(streams.rx_bytes, self.sent * LEN as u64);
        assert_eq!((streams.opened, streams.open), (1, 0));
        for shard in &totals.shards {
            let share = shard.outcome(Outcome::Handled) as f64 / self.sent as f64;
            // Records are spread by a hash with a seed of its own.
            assert!(
                (share * f64::from(self.case.shards) - 1.0).abs() < 0.2,
                "{share}"
            );
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            backend,
            shards,
            work,
        } = self;
        let plural = if *shards == 1 { "" } else { "s" };
        write!(
            f,
            "{}, {shards} shard{plural}, {work:?} of work",
            backend.symbol()
        )
    }
}

/// Sends a burst for each time that it is asked to, and closes when nobody can ask any more.
fn send(to: SocketAddr, asked: &Receiver<()>) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let frames: Vec<u8> = (0..RECORDS).flat_map(frame).collect();
    while asked.recv().is_ok() {
        for _ in 0..BURST / RECORDS as u64 {
            stream.write_all(&frames).unwrap();
        }
    }
}

/// A message of 2.4 and later that ends the dialog of that number.
fn frame(number: usize) -> Vec<u8> {
    let mut buffer = [0; LEN];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, NAME, 3, 1).unwrap();
    let call_id = format!("{number:06x}@10.0.0.1");
    builder.push_str(call_id.as_bytes()).unwrap();
    let rest = builder.remaining() - 2;
    builder.push_str(&vec![b'x'; rest]).unwrap();
    let packet = builder.seal().to_vec();
    assert_eq!(packet.len(), LEN);
    packet
}

/// Nanoseconds that the shards' threads have had on a processor, together (/proc/PID/task/TID/schedstat, its first number).
fn shards_ns() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut spent = 0;
    for task in tasks {
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

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("one connection, messages of 200 bytes");
    group.throughput(Throughput::Elements(BURST));
    group.sample_size(10);
    let (recv, uring) = (StreamBackend::Recv, StreamBackend::Uring);
    let none = Duration::ZERO;
    let some = Duration::from_micros(1);
    for (backend, shards, work) in [
        (recv, 1, none),
        (uring, 1, none),
        (recv, 2, none),
        (recv, 1, some),
        (recv, 2, some),
    ] {
        let case = Case {
            backend,
            shards,
            work,
        };
        let Some(mut fixture) = Fixture::new(case) else {
            continue;
        };
        // The first pages and the connection.
        fixture.burst();
        let (before, sent) = (shards_ns(), fixture.sent);
        group.bench_function(case.to_string(), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| fixture.burst()).sum());
        });
        let each = (fixture.sent - sent) as f64;
        let spent = shards_ns() - before;
        // With a filter on the command line that leaves it out, nothing was sent.
        if each > 0.0 {
            let ns = spent as f64 / each;
            println!("{case}: {ns:.1} ns of the shards' threads per message");
        }
        fixture.finish();
    }
    group.finish();
}

criterion_group!(benches, streams);
criterion_main!(benches);
