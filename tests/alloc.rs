//! Nothing is allocated on a shard's thread once it runs: not for what is handled, mailed, sent or refused.
//!
//! A binary of its own, because the allocator that counts is that of a whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::{
    Backend, Context, Engine, EngineConfig, Gro, Handler, Outcome, Registry, ShardId, Snapshot,
    Verdict,
};
use binrush_net::{Gso, Tx, TxBatch, UdpOptions};
use binrush_probe::audit as probe;
use binrush_probe::{Audit, Limits, STAMP_LEN, Stamp, place, seal};
use binrush_wire::{Builder, Generation, Packet, crc32};

/// The system's allocator, which counts for each thread how often it was asked.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Allocations, changes of size and releases of this thread. Without a destructor and made before the thread
    /// begins, so that counting allocates nothing.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Only a thread that is already gone has none.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: each method hands its arguments on to the system's allocator, which is a `GlobalAlloc`, and returns what that
// returned; counting touches no memory but a cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same contract, and `ptr` came from `System` by one of these methods.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps the same contract, and `ptr` came from `System` by one of these methods.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What the handlers of one shard saw of their thread's count.
#[derive(Default)]
struct Seen {
    packets: AtomicU64,
    /// At the first packet, and at the last one so far.
    first: AtomicU64,
    last: AtomicU64,
    /// Packets on a thread of another name.
    strange: AtomicU64,
}

/// Answers each packet, and notes how often its thread allocated.
struct Watch {
    name: String,
    seen: Arc<Seen>,
    answer_to: SocketAddr,
}

#[test]
fn a_hundred_thousand_datagrams_of_every_kind_allocate_nothing_on_a_shard() {
    // Trains that were merged are handed on from shard to shard, whatever the kernel chose.
    for (backend, gro, shards) in [
        (Backend::RecvMmsg, Gro::On, 3),
        (Backend::RecvMmsg, Gro::Off, 1),
        (Backend::Uring, Gro::Off, 2),
    ] {
        let config = EngineConfig {
            shards: Some(shards),
            backend,
            gro,
            ..EngineConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        // Nobody reads the answers: what finds no room there is dropped there.
        let answers = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let answer_to = answers.local_addr().expect("it is bound");
        let seen: Vec<Arc<Seen>> = (0..shards).map(|_| Arc::default()).collect();
        let (totals, sent) = run(config, &seen, answer_to);

        for (index, seen) in seen.iter().enumerate() {
            let [packets, first, last, strange] =
                [&seen.packets, &seen.first, &seen.last, &seen.strange]
                    .map(|number| number.load(Ordering::Relaxed));
            assert!(packets > 1000, "{backend:?}: shard {index}: {packets}");
            assert_eq!(strange, 0, "{backend:?}: shard {index}");
            assert_eq!(last - first, 0, "{backend:?}: shard {index} allocated");
            // The count is alive: making the shard took some.
            assert!(first > 0);
        }
        assert!(totals.is_balanced(), "{:?}", totals.total.outcomes);
        assert_eq!(totals.unaccounted(sent), 0, "{:?}", totals.kernel);
        let total = &totals.total;
        for outcome in [
            Outcome::Handled,
            Outcome::UnknownName,
            Outcome::BadCrc,
            Outcome::BadMarker,
            Outcome::UnknownCommand,
        ] {
            assert!(total.outcome(outcome) > 1000, "{outcome}");
        }
        assert!(total.sent > 1000, "{}", total.sent);
        assert_eq!(total.mailed_out > 1000, shards > 1, "{}", total.mailed_out);
    }
}

#[test]
fn a_probe_allocates_for_the_first_packet_of_a_stream_and_for_no_other() {
    let mut buffer = [0; 256];
    let builder = Builder::new(Generation::Legacy, &mut buffer, b"miss", 1, 0);
    let mut builder = builder.expect("it fits");
    builder.push_str(&[b'.'; STAMP_LEN]).expect("it fits");
    let packet = builder.finish();
    let parsed = Packet::parse(Generation::Legacy, packet).expect("it was just built");
    let at = place(&parsed).expect("it has room").start;
    let mut audit = Audit::new(Limits::default());
    let mut see = |sequence: u64| {
        let stamp = Stamp {
            run: 1,
            stream: 0,
            sequence,
            intended_ns: 1_000_000_000,
            late_ns: Some(1),
        };
        seal(packet, at, &stamp);
        let crc = crc32::checksum(&packet[8..]);
        packet[4..8].copy_from_slice(&crc.to_le_bytes());
        let parsed = Packet::parse(Generation::Legacy, packet).expect("it is sealed");
        audit.see(1_000_000_000 + sequence, &parsed)
    };
    let calls = || CALLS.with(Cell::get);
    let before = calls();
    assert_eq!(see(0), probe::Seen::Fresh);
    let first = calls();
    assert!(first > before, "the count is alive");
    // Several chunks of numbers, each of which is free again when all of them came; and copies.
    for sequence in 1..300_000 {
        assert_eq!(see(sequence), probe::Seen::Fresh);
        if sequence % 7 == 0 {
            assert_eq!(see(sequence - 1), probe::Seen::Duplicate);
        }
    }
    assert_eq!(calls() - first, 0);
}

/// Sends everything to an engine; its totals, and how much was sent.
fn run(config: EngineConfig, seen: &[Arc<Seen>], answer_to: SocketAddr) -> (Snapshot, u64) {
    let watched = seen.to_vec();
    let mut registry = Registry::new();
    let watch = move |shard: ShardId| Watch {
        name: shard.to_string(),
        seen: Arc::clone(&watched[shard.index()]),
        answer_to,
    };
    registry.register(b"dialog", watch).expect("a free place");
    let wanted = config.backend;
    let mut engine = Engine::start(config, registry).expect("loopback");
    if let (backend, why) = engine.backend()
        && backend != wanted
    {
        skip(why);
    }
    let to = engine.listeners().next().expect("one").addr;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = binrush_net::UdpSocket::bind(here, &UdpOptions::default());
    let mut tx = Gso::new(Arc::new(socket.expect("loopback")));
    let mut batch = TxBatch::new(AT_ONCE, AT_ONCE * DATAGRAM_LEN_MAX);
    let kinds = kinds();
    // At first, every shard notes a count, and names, commands and samples get their places. At last, after all else,
    // it notes another one.
    let first = kinds.iter();
    let most = kinds.iter().cycle().take(DATAGRAMS);
    let last = kinds.iter().filter(|kind| kind[COMMAND_AT] == HANDLED);
    let all: Vec<&Vec<u8>> = first.chain(most).chain(last).collect();
    let mut sent = 0;
    for datagrams in all.chunks(AT_ONCE) {
        for datagram in datagrams {
            assert!(batch.push(to, datagram), "it has room");
        }
        let done = tx.send(&mut batch);
        assert_eq!((done.sent, done.failed), (datagrams.len() as u64, 0));
        sent += done.sent;
        wait_for(&mut engine, sent);
    }
    let totals = engine.stop().expect("it vouches for its end");
    (totals, sent)
}

/// Says that a check was left out, past the test runner, which keeps what a passing test prints to itself.
fn skip(reason: &str) {
    let current = thread::current();
    let line = format!("\nSKIPPED {}: {reason}\n", current.name().unwrap_or("?"));
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Waits until all that was sent has its outcome.
fn wait_for(engine: &mut Engine, sent: u64) {
    let start = Instant::now();
    loop {
        let snapshot = engine.snapshot().expect("the kernel tells its drops");
        if snapshot.total.settled() + snapshot.kernel.total() == sent {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{snapshot:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Datagrams of one length, so that the kernel may merge them: one in eight wrong in each of four ways.
fn kinds() -> Vec<Vec<u8>> {
    let packet = |name: &[u8], command: i32, n: usize| {
        let mut buffer = vec![0; DATAGRAM_LEN_MAX];
        let builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0);
        let mut builder = builder.expect("it fits");
        let call = format!("{n:08}@192.0.2.10");
        builder.push_str(call.as_bytes()).expect("it fits");
        builder.push_str(b"some more of it").expect("it fits");
        builder.seal().to_vec()
    };
    let kind = |n: usize| match n % 8 {
        // More names than the ledger has places for.
        0 => packet(format!("x{n:05}").as_bytes(), 1, n),
        1 => {
            let mut damaged = packet(b"dialog", 1, n);
            damaged[30] ^= 1;
            damaged
        }
        2 => packet(b"dialog", 77, n),
        3 => {
            let mut strange = packet(b"dialog", 1, n);
            strange[0] = b'x';
            strange
        }
        _ => packet(b"dialog", i32::from(HANDLED), n),
    };
    (0..4000).map(kind).collect()
}

impl Handler for Watch {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let Seen {
            packets,
            first,
            last,
            strange,
        } = &*self.seen;
        let calls = CALLS.with(Cell::get);
        // This thread alone writes them.
        if packets.fetch_add(1, Ordering::Relaxed) == 0 {
            first.store(calls, Ordering::Relaxed);
        }
        last.store(calls, Ordering::Relaxed);
        if thread::current().name() != Some(&self.name) {
            strange.fetch_add(1, Ordering::Relaxed);
        }
        context.send(self.answer_to, packet.bytes());
        if packet.command() == i32::from(HANDLED) {
            Verdict::Handled
        } else {
            Verdict::UnknownCommand
        }
    }
}

const DATAGRAMS: usize = 100_000;

/// Fewer than fill the smallest receive buffer of a shard, and as many as one batch of a shard sends answers to.
const AT_ONCE: usize = 256;

const DATAGRAM_LEN_MAX: usize = 256;

/// The command that is handled, and where a command stands: behind marker, checksum and the name with its length.
const HANDLED: u8 = 3;
const COMMAND_AT: usize = 4 + 4 + 4 + 6;

/// How long anything may take: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);
