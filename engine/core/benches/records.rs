//! What a live packet about a contact costs the shard that owns it, from its bytes to the log: the packet is checked, read,
//! applied to a million contacts and their AoRs, and the record put into the ring of a journal, which a thread empties.
//!
//! ```text
//!   bytes ─▶ Packet::parse ─▶ TypedReplica::apply ─▶ read ─▶ Store ─▶ Effects: Appender::append ─▶ ring ─▶ writer ─▶ nowhere
//! ```
//!
//! Not in it: receiving, framing, dispatch and the gate, which `benches/cluster.rs` and `binrush-bench` measure.
//!
//! *Cold*: contacts far from each other, none of which was spoken of for 20 000 packets; what is new belongs where nothing was
//! before. *Warm*: the same 200 again and again. The packets themselves were just made, as they were just received. Times are
//! those of the processor, as the kernel counts them for the thread. Every answer is checked.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use binrush_engine::cluster::replica::{Replica, Source};
use binrush_engine::store::durable::Log;
use binrush_engine::store::{TypedReplica, family};
use binrush_engine::{ShardId, Timestamp, Verdict, WallClock};
use binrush_journal::{
    Appended, Appender, Identity, Options, Report, Ring, Vfs, VfsFile, spawn, start,
};
use binrush_store::{Effects, Limits, Store};
use binrush_wire::{Builder, Generation, Packet, Release, Trailer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nix::time::{ClockId, clock_gettime};

// As the binaries have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// AoRs, with one contact each.
const RECORDS: u32 = 1_000_000;
/// Packets after which what they did is undone.
const ROUND: u32 = 20_000;
/// Packets made at once.
const BATCH: u32 = 200;
const RING_BYTES: usize = 16 << 20;
/// Ops that may be in the ring when a batch begins: a quarter of it.
const WAITING_MAX: u64 = 10_000;
const NOW: i64 = 1_800_000_000;

/// What a packet says of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Insert,
    Update,
    Delete,
    /// Of the AoR, with all its contacts.
    DeleteAor,
}

/// The changes of a store, into the ring.
struct Logged {
    appender: Appender,
    missed: u64,
}

impl Logged {
    /// Until there is room for many packets: the writer is a thread like any other, and may not run for a while.
    fn wait(&self) {
        while self.appender.lsn() - self.appender.status().durable() > WAITING_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Effects for Logged {
    #[inline]
    fn put(&mut self, place: u32, flat: &[u8]) {
        let appended = self.appender.append(0, place, flat);
        self.missed += u64::from(!matches!(appended, Appended::Logged(_)));
    }

    #[inline]
    fn gone(&mut self, place: u32) {
        self.put(place, &[]);
    }
}

/// Nobody asks for a snapshot.
impl Log for Logged {}

/// A packet about contact `tail` of AoR `number`, in the layout of the last point release of 1.11 or of 3.6.
fn packet(release: Release, says: Says, number: u32, tail: char, cseq: i32) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let is_3_6 = release == Release::V3_6;
    let (name, version) = if is_3_6 {
        ("usrloc-contact-repl", 5)
    } else {
        ("ul", 1)
    };
    let command = match says {
        Says::DeleteAor => 2,
        Says::Insert => 3,
        Says::Update => 4,
        Says::Delete => 5,
    };
    let generation = release.generation();
    let mut to = Builder::new(generation, &mut buffer, name.as_bytes(), command, version).unwrap();
    let host = format!(
        "{}.{}.{}",
        number >> 16 & 255,
        number >> 8 & 255,
        number & 255
    );
    let port = 1024 + number % 50_000;
    let aor = format!("subscriber-{number:08}");
    let uri = format!("sip:xxxxxx{aor}{tail}@10.{host}:{port};transport=udp");
    let callid = format!("{number:08x}-5b2c-4f1e@10.{host}");
    texts(&mut to, &["location", &aor]);
    let kv_and_id = |to: &mut Builder<'_>| {
        to.push_str(b"").unwrap();
        to.push_str(&0x1234_5678_u64.to_le_bytes()).unwrap();
    };
    match says {
        Says::DeleteAor => {}
        Says::Delete => {
            texts(&mut to, &[&uri, &callid]);
            to.push_int(i32::MAX).unwrap();
        }
        Says::Insert | Says::Update => {
            texts(&mut to, &[&uri]);
            if is_3_6 && says == Says::Insert {
                to.push_str(&0x1234_5678_u64.to_le_bytes()).unwrap();
            }
            let received = format!("sip:198.{host}:{port}");
            let instance = format!("<urn:uuid:00000000-0000-1000-8000-0000{number:08x}>");
            let agent = AGENTS[number as usize % AGENTS.len()];
            texts(
                &mut to,
                &[
                    &callid,
                    agent,
                    "<sip:edge-1.example.org;lr>",
                    "",
                    &received,
                    &instance,
                ],
            );
            let moved = i64::from(cseq);
            to.push_str(&(NOW + 3600 + moved).to_le_bytes()).unwrap();
            to.push_str(&(-1_i32).to_le_bytes()).unwrap();
            to.push_str(b"udp:10.0.0.1:5060").unwrap();
            numbers(&mut to, &[cseq, 0]);
            if is_3_6 {
                to.push_str(b"NAT").unwrap();
            } else {
                to.push_int(1).unwrap();
            }
            to.push_int(0x1fff).unwrap();
            to.push_str(&(NOW + moved).to_le_bytes()).unwrap();
            match says {
                Says::Update if is_3_6 => kv_and_id(&mut to),
                _ if is_3_6 => to.push_str(b"").unwrap(),
                _ => {}
            }
        }
    }
    if is_3_6 {
        if says != Says::DeleteAor {
            // By URI and Call-ID.
            to.push_int(1).unwrap();
        }
        to.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    }
    to.seal().to_vec()
}

fn texts(to: &mut Builder<'_>, texts: &[&str]) {
    for text in texts {
        to.push_str(text.as_bytes()).unwrap();
    }
}

fn numbers(to: &mut Builder<'_>, numbers: &[i32]) {
    for number in numbers {
        to.push_int(*number).unwrap();
    }
}

/// Packets of one release for a replica with a million contacts.
struct Bench {
    replica: TypedReplica<Logged>,
    source: Source,
    cseq: i32,
    /// How many rounds were done: each begins behind the one before it.
    at: u32,
}

/// What a benchmark sends, and what puts things right behind it.
struct Case {
    name: &'static str,
    /// Of AoR `RECORDS + n` instead of `n`: nobody has spoken of it before.
    is_new: bool,
    tail: char,
    timed: Says,
    undo: Option<Says>,
}

impl Bench {
    fn new(release: Release, appender: Appender) -> Self {
        let name = "usrloc-contact-repl";
        let store = Store::new(family(name).unwrap(), Limits::default());
        let wall = WallClock::default();
        let now = Timestamp::from_nanos(1_000_000_000);
        wall.set(now, Duration::from_secs(NOW.unsigned_abs()));
        let logged = Logged {
            appender,
            missed: 0,
        };
        let replica = TypedReplica::over(name, store, Arc::new(wall), logged);
        let source = Source {
            now,
            shard: ShardId(0),
            cluster: 1,
            node: 2,
            release,
        };
        let mut bench = Self {
            replica,
            source,
            cseq: 1,
            at: 0,
        };
        for from in (0..RECORDS).step_by(ROUND as usize) {
            bench.send(from..from + ROUND, &|number| number, Says::Insert, 'a');
        }
        assert_eq!(bench.replica.len(), 2 * RECORDS as usize);
        bench
    }

    /// Sends a packet about each number of a range, and says what that took of the processor.
    fn send(
        &mut self,
        range: std::ops::Range<u32>,
        number: &dyn Fn(u32) -> u32,
        says: Says,
        tail: char,
    ) -> Duration {
        let mut took = Duration::ZERO;
        for from in range.clone().step_by(BATCH as usize) {
            let batch = from..(from + BATCH).min(range.end);
            let release = self.source.release;
            let packets: Vec<_> = batch
                .map(|at| packet(release, says, number(at), tail, self.cseq))
                .collect();
            self.replica.effects().wait();
            let begun = processor();
            for bytes in &packets {
                let packet = Packet::parse(release.generation(), black_box(bytes)).unwrap();
                assert_eq!(self.replica.apply(&self.source, &packet), Verdict::Handled);
            }
            took += processor() - begun;
        }
        assert_eq!(self.replica.effects().missed, 0);
        took
    }

    /// So many packets of a case, in rounds. Each round is undone behind it.
    fn cold(&mut self, case: &Case, packets: u64) -> Duration {
        let first = if case.is_new { RECORDS } else { 0 };
        let scattered = move |at: u32| {
            let number = u64::from(at) * 7919 % u64::from(RECORDS);
            first + u32::try_from(number).expect("below a million")
        };
        let mut took = Duration::ZERO;
        let mut left = packets;
        while left > 0 {
            let len = u32::try_from(left).unwrap_or(u32::MAX).min(ROUND);
            let round = self.at..self.at + len;
            self.at = (self.at + len) % (RECORDS - ROUND);
            took += self.round(case, round, &scattered);
            left -= u64::from(len);
        }
        took
    }

    /// Likewise, of the same few.
    fn warm(&mut self, case: &Case, packets: u64) -> Duration {
        let first = if case.is_new { RECORDS } else { 0 };
        let mut took = Duration::ZERO;
        let mut left = packets;
        while left > 0 {
            let len = u32::try_from(left).unwrap_or(u32::MAX).min(BATCH);
            took += self.round(case, 0..len, &|at| first + at * 7919 % RECORDS);
            left -= u64::from(len);
        }
        took
    }

    fn round(
        &mut self,
        case: &Case,
        round: std::ops::Range<u32>,
        number: &dyn Fn(u32) -> u32,
    ) -> Duration {
        self.cseq += 1;
        let before = self.replica.len();
        let took = self.send(round.clone(), number, case.timed, case.tail);
        let changed = self.replica.len().abs_diff(before);
        let expected = match case.timed {
            Says::Update => 0,
            Says::Insert if case.is_new => 2,
            _ => 1,
        };
        assert_eq!(changed, expected * round.len(), "{}", case.name);
        if let Some(undo) = case.undo {
            self.send(round, number, undo, case.tail);
            assert_eq!(self.replica.len(), before);
        }
        took
    }
}

/// What this thread has had of a processor.
fn processor() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("Linux").into()
}

fn packets(c: &mut Criterion) {
    for (release, generation) in [
        (Release::V3_6, Generation::Modern),
        (Release::V1x, Generation::Legacy),
    ] {
        assert_eq!(release.generation(), generation);
        let ring = Ring::in_memory(IDENTITY, RING_BYTES, 0).expect("memory");
        let report = Report::default();
        // Nothing is synced: this is how soon one is told of it.
        let options = Options {
            fsync_interval: Duration::from_millis(1),
            ..Options::default()
        };
        let (appender, writer) = start(Void, ring, IDENTITY, options, &report).expect("it starts");
        let thread = spawn("writer", vec![writer]).expect("a thread");
        let mut bench = Bench::new(release, appender);
        let mut group = c.benchmark_group(format!("contact of {release}, bytes to log"));
        group.sample_size(20).throughput(Throughput::Elements(1));
        for case in &CASES {
            group.bench_function(BenchmarkId::new(case.name, "cold"), |b| {
                b.iter_custom(|packets| bench.cold(case, packets));
            });
            group.bench_function(BenchmarkId::new(case.name, "warm"), |b| {
                b.iter_custom(|packets| bench.warm(case, packets));
            });
        }
        group.finish();
        let lsn = bench.replica.effects().appender.lsn();
        let (writers, ended) = thread.stop();
        ended.expect("nothing can fail");
        assert_eq!(writers[0].status().durable(), lsn);
    }
}

/// Takes everything, keeps nothing.
#[derive(Debug, Clone, Copy)]
struct Void;

impl Vfs for Void {
    type File = Self;

    fn create(&self, _name: &str) -> io::Result<Self> {
        Ok(*self)
    }

    fn open(&self, _name: &str) -> io::Result<Self> {
        Ok(*self)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl VfsFile for Void {
    fn file_len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn read_at(&self, _bytes: &mut [u8], _at: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&mut self, bytes: &[u8], _at: u64) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const CASES: [Case; 4] = [
    Case {
        name: "insert, with its AoR",
        is_new: true,
        tail: 'a',
        timed: Says::Insert,
        undo: Some(Says::DeleteAor),
    },
    Case {
        name: "insert, its AoR is here",
        is_new: false,
        tail: 'b',
        timed: Says::Insert,
        undo: Some(Says::Delete),
    },
    Case {
        name: "refresh",
        is_new: false,
        tail: 'a',
        timed: Says::Update,
        undo: None,
    },
    Case {
        name: "delete",
        is_new: false,
        tail: 'a',
        timed: Says::Delete,
        undo: Some(Says::Insert),
    },
];

const AGENTS: [&str; 5] = [
    "Yealink SIP-T46U 108.86.0.90",
    "PolyEdge-E350-UA/8.1.3.17299",
    "Grandstream GXP2170 1.0.11.6",
    "snomD785/10.1.169.16 webrtc1",
    "Linphone/5.2.2 (Pixel 8) LP5",
];

const IDENTITY: Identity = Identity { epoch: 1, shard: 0 };

criterion_group!(benches, packets);
criterion_main!(benches);
