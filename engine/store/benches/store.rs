//! What a store costs a shard, of a million contacts of 350 bytes, each the only one of its AoR: inserts, refreshes, deletes,
//! AoRs, a walk.
//!
//! Contacts are taken far from each other, in rounds: the strings of a round are made before it is timed, and what it changed is
//! undone behind or before. Nobody hears of the changes. Every answer is checked. Times are those of the processor, as the kernel
//! counts them for the thread: others may work on the same machine.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use binrush_store::change::Change;
use binrush_store::model::Matching;
use binrush_store::{Applied, Store};
use contacts::{LIVE, NOW, Texts};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nix::time::{ClockId, clock_gettime};

/// The contacts.
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared with the example"
)]
mod contacts;

// As the binaries have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: u32 = 1_000_000;
const ROUND: u32 = 20_000;
/// Packets made at once.
const BATCH: u32 = 200;

fn insert(texts: &Texts, _: i32) -> Change<'_> {
    Change::ContactInserted(texts.contact(1), Matching::UriAndCallid)
}

fn update(texts: &Texts, cseq: i32) -> Change<'_> {
    Change::ContactUpdated(texts.contact(cseq), Matching::UriAndCallid)
}

fn delete(texts: &Texts, _: i32) -> Change<'_> {
    let contact = texts.contact(1);
    Change::ContactDeleted {
        domain: contact.domain,
        aor: contact.aor,
        uri: contact.uri,
        callid: contact.callid,
        cseq: i32::MAX,
        matching: Matching::UriAndCallid,
    }
}

fn aor_insert(texts: &Texts, _: i32) -> Change<'_> {
    Change::AorInserted(texts.aor())
}

fn aor_delete(texts: &Texts, _: i32) -> Change<'_> {
    let aor = texts.aor();
    Change::AorDeleted(aor.domain, aor.aor)
}

/// Applies each of a round, and says how long it took.
fn run(store: &mut Store, changes: &[Change<'_>], expected: Applied) -> Duration {
    let begun = processor();
    let mut right = 0;
    for change in changes {
        right += usize::from(black_box(store.apply(LIVE, change, 1, &mut ())) == expected);
    }
    let took = processor() - begun;
    assert_eq!(right, changes.len(), "{expected:?}");
    took
}

/// What this thread has had of a processor.
fn processor() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).expect("Linux").into()
}

/// Rounds of so many packets in all: each is prepared, timed and undone.
fn rounds(packets: u64, mut round: impl FnMut(u32, u32) -> Duration) -> Duration {
    let mut left = packets;
    let mut took = Duration::ZERO;
    let mut at = 0;
    while left > 0 {
        let len = u32::try_from(left).unwrap_or(u32::MAX).min(ROUND);
        took += round(at, len);
        left -= u64::from(len);
        at = (at + len) % (RECORDS - ROUND);
    }
    took
}

/// Numbers far from each other: 7 919 is prime to a million.
fn scattered(at: u32, len: u32) -> Vec<Texts> {
    (at..at + len)
        .map(|number| u64::from(number) * 7919 % u64::from(RECORDS))
        .map(|number| Texts::of(u32::try_from(number).expect("below a million")))
        .collect()
}

/// A store, and how often contacts were registered.
struct Bench {
    store: Store,
    cseq: i32,
}

/// One round of so many contacts from a number on.
type Round = fn(&mut Bench, u32, u32) -> Duration;

impl Bench {
    /// As a maker sends them: the AoR, and the contact behind it.
    fn insert(&mut self, at: u32, len: u32) -> Duration {
        self.all(at, len, &[(aor_delete, Applied::Removed)]);
        self.all(
            at,
            len,
            &[(aor_insert, Applied::Created), (insert, Applied::Created)],
        )
    }

    /// The AoRs were there, and nobody had spoken of them for long.
    fn insert_cold(&mut self, at: u32, len: u32) -> Duration {
        self.all(at, len, &[(delete, Applied::Removed)]);
        self.all(at, len, &[(insert, Applied::Created)])
    }

    fn insert_alone(&mut self, at: u32, len: u32) -> Duration {
        self.all(at, len, &[(aor_delete, Applied::Removed)]);
        self.all(at, len, &[(insert, Applied::Created)])
    }

    fn refresh(&mut self, at: u32, len: u32) -> Duration {
        self.cseq += 1;
        self.all(at, len, &[(update, Applied::Updated)])
    }

    fn delete(&mut self, at: u32, len: u32) -> Duration {
        let took = self.all(at, len, &[(delete, Applied::Removed)]);
        self.all(at, len, &[(insert, Applied::Created)]);
        took
    }

    /// Applies these changes of each, and says how long the last of them took. A few strings are made at a time: what a packet
    /// says is in the cache when it is applied.
    fn all(&mut self, at: u32, len: u32, changes: &[(Make, Applied)]) -> Duration {
        let mut took = Duration::ZERO;
        for from in (at..at + len).step_by(BATCH as usize) {
            let texts = scattered(from, BATCH.min(at + len - from));
            let mut last = Duration::ZERO;
            for (make, expected) in changes {
                let made: Vec<_> = texts.iter().map(|texts| make(texts, self.cseq)).collect();
                last = run(&mut self.store, &made, *expected);
            }
            took += last;
        }
        took
    }
}

/// The change of one contact, or of its AoR.
type Make = for<'t> fn(&'t Texts, i32) -> Change<'t>;

fn store(c: &mut Criterion) {
    let mut store = contacts::store();
    contacts::fill(&mut store, 0..RECORDS, &mut ());
    assert_eq!(store.len(), 2 * RECORDS as usize);
    let mut bench = Bench { store, cseq: 1 };
    let mut group = c.benchmark_group("store");
    group.sample_size(20).throughput(Throughput::Elements(1));
    let all: [(&str, Round); 5] = [
        ("insert behind its AoR", Bench::insert),
        ("insert, its AoR cold", Bench::insert_cold),
        ("insert, making its AoR", Bench::insert_alone),
        ("refresh", Bench::refresh),
        ("delete", Bench::delete),
    ];
    for (name, round) in all {
        group.bench_function(BenchmarkId::new(name, RECORDS), |b| {
            b.iter_custom(|packets| rounds(packets, |at, len| round(&mut bench, at, len)));
        });
    }
    group.finish();
    let mut store = bench.store;

    let mut group = c.benchmark_group("store walk");
    group.sample_size(20);
    group.throughput(Throughput::Elements(u64::from(2 * RECORDS)));
    group.bench_function("all, 64 KiB a step", |b| {
        b.iter_custom(|times| (0..times).map(|_| walk(&store)).sum());
    });
    group.finish();

    // Deadlines: all of them in one go.
    let begun = processor();
    let (mut expired, mut longest) = (0, Duration::ZERO);
    for now in [NOW + 7200, NOW + 14_400] {
        let mut more = true;
        while more {
            let step = processor();
            let (some, is_more) = store.expire(now, 256, &mut ());
            (expired, more) = (expired + some, is_more);
            longest = longest.max(processor() - step);
        }
    }
    assert_eq!((expired, store.len()), (u64::from(2 * RECORDS), 0));
    let each = (processor() - begun).as_nanos() / u128::from(2 * RECORDS);
    println!("expire, 256 steps at a time: {each} ns a record, longest call {longest:?}");
}

fn walk(store: &Store) -> Duration {
    let begun = processor();
    let (mut records, mut from) = (0, Some(0));
    while let Some(at) = from {
        from = store.walk(at, 64 << 10, &mut |_, flat| {
            records += u32::from(!black_box(flat).is_empty());
        });
    }
    assert_eq!(records, 2 * RECORDS);
    processor() - begun
}

criterion_group!(benches, store);
criterion_main!(benches);
