//! What an append costs a shard, what a writer moves, how fast a start reads.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use binrush_journal::{
    Appended, Appender, Folder, Identity, Options, Report, Ring, Step, Vfs, VfsFile, Writer,
    recover, start,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

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

fn begin<V: Vfs>(vfs: V, capacity: usize) -> (Appender, Writer<V>) {
    let ring = Ring::in_memory(IDENTITY, capacity, 0).expect("memory");
    start(vfs, ring, IDENTITY, Options::default(), &Report::default()).expect("it starts")
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let record = [7; RECORD_LEN];
    group.bench_function("350 bytes", |bencher| {
        let (mut appender, mut writer) = begin(Void, 4 << 20);
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            let mut left = rounds;
            while left > 0 {
                while writer.turn(Duration::ZERO).more {}
                let batch = left.min(4096);
                let began = Instant::now();
                for place in 0..batch {
                    let place = u32::try_from(place).unwrap_or(0);
                    let appended = appender.append(0, place, black_box(&record));
                    assert!(matches!(appended, Appended::Logged(_)));
                }
                spent += began.elapsed();
                left -= batch;
            }
            spent
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("writer");
    let count = 40_000_u32;
    group.throughput(Throughput::Bytes(u64::from(count) * RECORD_LEN as u64));
    group.sample_size(10);
    let record = [7; RECORD_LEN];
    let fill = |appender: &mut Appender| {
        for place in 0..count {
            assert!(matches!(
                appender.append(0, place, &record),
                Appended::Logged(_)
            ));
        }
    };
    group.bench_function("nowhere", |bencher| {
        let (mut appender, mut writer) = begin(Void, 16 << 20);
        bencher.iter_batched(
            || (),
            |()| {
                fill(&mut appender);
                writer.finish(Duration::ZERO).expect("nothing can fail");
                assert_eq!(writer.status().durable(), appender.lsn());
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("disk, synced", |bencher| {
        let scratch = Scratch::new("write");
        let folder = Folder::open(&scratch.0).expect("a folder");
        let (mut appender, mut writer) = begin(folder, 16 << 20);
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                fill(&mut appender);
                let began = Instant::now();
                writer.finish(Duration::ZERO).expect("there is room");
                spent += began.elapsed();
                assert_eq!(writer.status().durable(), appender.lsn());
            }
            spent
        });
    });
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let scratch = Scratch::new("recover");
    let records = 500_000_u32;
    let ops = 100_000_u32;
    prepare(&scratch.0, records, ops);
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(records + ops)));
    group.bench_function("500,000 records, 100,000 ops", |bencher| {
        bencher.iter(|| {
            let folder = Folder::to_read(&scratch.0);
            let mut seen = 0_u64;
            let report = recover(&folder, IDENTITY, None, &mut |_, _, record| {
                seen += black_box(record).len() as u64;
            });
            let report = report.expect("files of ours");
            assert_eq!(
                (report.snapshot_records, report.ops),
                (records.into(), ops.into())
            );
            assert_eq!(seen, u64::from(records) * RECORD_LEN as u64);
        });
    });
    group.finish();
}

/// A snapshot of `records`, and `ops` behind it.
fn prepare(path: &Path, records: u32, ops: u32) {
    let folder = Folder::open(path).expect("a folder");
    let (mut appender, mut writer) = begin(folder, 4 << 20);
    assert_eq!(appender.begin_snapshot(), Step::Taken);
    let record = [7; RECORD_LEN];
    for place in 0..records {
        while appender.snapshot_record(0, place, &record) == Step::NoRoom {
            writer.turn(Duration::ZERO);
        }
    }
    while appender.end_snapshot() == Step::NoRoom {
        writer.turn(Duration::ZERO);
    }
    for place in 0..ops {
        while !appender.has_room(record.len()) {
            writer.turn(Duration::ZERO);
        }
        let place = place.wrapping_mul(7) % records;
        assert!(matches!(
            appender.append(0, place, &record),
            Appended::Logged(_)
        ));
    }
    writer.finish(Duration::ZERO).expect("there is room");
    assert_eq!(writer.status().snapshots(), 1);
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("binrush-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const IDENTITY: Identity = Identity { epoch: 1, shard: 0 };

const RECORD_LEN: usize = 350;

criterion_group!(benches, append, write, recovery);
criterion_main!(benches);
