//! What a stamp costs on both ends: a contact update of 1.x and a created dialog of 4.0.
//!
//! Each benchmark checks its answer before it is timed.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use binrush_probe::{Audit, Limits, NoStamp, STAMP_LEN, Seen, Stamp, place, read, seal};
use binrush_wire::{Builder, Generation, Packet, crc32};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A packet of `len` bytes, and where its stamp goes.
fn packet(generation: Generation, len: usize) -> (Vec<u8>, usize) {
    let mut buffer = vec![0; len];
    let stamp = [b'.'; STAMP_LEN];
    let (name, command, fields): (_, _, Vec<&[u8]>) = match generation {
        Generation::Modern => {
            let from = [&b"sip:"[..], &stamp].concat().leak();
            (&b"dialog-dlg-repl"[..], 1, vec![b"c", b"t", b"t", from])
        }
        _ => (&b"ul"[..], 4, vec![b"l", b"alice", b"sip:a@b", &stamp]),
    };
    let mut builder = Builder::new(generation, &mut buffer, name, command, 4).unwrap();
    for field in fields {
        builder.push_str(field).unwrap();
    }
    builder.append(&vec![b'.'; builder.remaining()]).unwrap();
    let bytes = builder.seal().to_vec();
    assert_eq!(bytes.len(), len);
    let at = place(&Packet::parse(generation, &bytes).unwrap()).unwrap();
    (bytes, at.start)
}

fn stamp(sequence: u64) -> Stamp {
    Stamp {
        run: 1,
        stream: 0,
        sequence,
        intended_ns: 1_000_000_000_000 + sequence,
        late_ns: Some(250),
    }
}

/// The bare check, which is in the figures of the others.
fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32");
    for len in LENGTHS {
        let bytes = vec![7; len - 8];
        group.bench_function(format!("{len} B"), |b| {
            b.iter(|| crc32::checksum(black_box(&bytes)));
        });
    }
}

fn stamps(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    group.throughput(Throughput::Elements(1));
    for (label, generation) in KINDS {
        for len in LENGTHS {
            let (mut bytes, at) = packet(generation, len);
            let mut sequence = 0;
            group.bench_function(format!("{label}, {len} B: seal"), |b| {
                b.iter(|| {
                    sequence += 1;
                    seal(black_box(&mut bytes), at, &stamp(sequence));
                });
            });
            seal(&mut bytes, at, &stamp(sequence));
            finish(generation, &mut bytes);
            assert_eq!(read(&parsed(generation, &bytes)), Ok(stamp(sequence)));
            let packet = parsed(generation, &bytes);
            group.bench_function(format!("{label}, {len} B: place"), |b| {
                b.iter(|| place(black_box(&packet)));
            });
            group.bench_function(format!("{label}, {len} B: read"), |b| {
                b.iter(|| read(black_box(&packet)));
            });
            let mut other = bytes.clone();
            other[at..at + STAMP_LEN].fill(b'.');
            finish(generation, &mut other);
            let other = parsed(generation, &other);
            assert_eq!(read(&other), Err(NoStamp::Foreign));
            group.bench_function(format!("{label}, {len} B: read, of another flow"), |b| {
                b.iter(|| read(black_box(&other)));
            });
        }
    }
}

/// Packets in order, as they come from one sender; a million different ones, in turn.
fn audit(c: &mut Criterion) {
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Elements(PACKETS as u64));
    group.sample_size(20);
    for (label, generation) in KINDS {
        for len in LENGTHS {
            let (mut template, at) = packet(generation, len);
            let mut packets = Vec::with_capacity(PACKETS * len);
            for sequence in 0..PACKETS as u64 {
                seal(&mut template, at, &stamp(sequence));
                finish(generation, &mut template);
                packets.extend_from_slice(&template);
            }
            // Parsing is the engine's work, so it is done before.
            let packets: Vec<_> = packets
                .chunks_exact(len)
                .map(|bytes| parsed(generation, bytes))
                .collect();
            let see_all = |audit: &mut Audit| {
                let received = (1_000_000_000_900..).step_by(3);
                let seen = packets.iter().zip(received);
                let fresh = seen.filter(|(packet, now)| audit.see(*now, packet) == Seen::Fresh);
                fresh.count()
            };
            let mut warm = Audit::new(Limits::default());
            assert_eq!(see_all(&mut warm), PACKETS);
            let total = warm.report().runs[0].total();
            assert_eq!((total.unique, total.gaps), (PACKETS as u64, 0));
            // Forgotten, it keeps nothing of what the first packet of a run costs.
            group.bench_function(format!("{label}, {len} B: see"), |b| {
                b.iter(|| {
                    warm.forget(1);
                    see_all(&mut warm)
                });
            });
        }
    }
}

/// Writes the checksum, where there is one.
fn finish(generation: Generation, packet: &mut [u8]) {
    if generation == Generation::Legacy {
        let crc = crc32::checksum(&packet[8..]);
        packet[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

fn parsed(generation: Generation, bytes: &[u8]) -> Packet<'_> {
    Packet::parse(generation, bytes).unwrap()
}

const KINDS: [(&str, Generation); 2] = [
    ("1.x contact", Generation::Legacy),
    ("4.0 dialog", Generation::Modern),
];

const LENGTHS: [usize; 2] = [128, 400];

const PACKETS: usize = 100_000;

criterion_group!(benches, check, stamps, audit);
criterion_main!(benches);
