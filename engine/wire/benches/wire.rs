//! What one packet costs: a 200-byte dialog update, read, keyed, built and decoded to its last field.
//!
//! Each benchmark checks its answer before it is timed.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use binrush_wire::schema::{self, Value};
use binrush_wire::{Builder, Generation, Packet, Trailer, crc32};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CALLID: &[u8] = b"4f1c-77@192.0.2.10";

/// The update of a running call, filled up to 200 bytes by its callee socket: the length of a short
/// genuine one.
fn packet(generation: Generation) -> Vec<u8> {
    let unfilled = update(generation, 0).len();
    let packet = update(generation, 200 - unfilled);
    assert_eq!(packet.len(), 200);
    assert_eq!(
        schema::identify(&Packet::parse(generation, &packet).unwrap())
            .unwrap()
            .command,
        2
    );
    packet
}

fn update(generation: Generation, callee_socket_len: usize) -> Vec<u8> {
    let mut buffer = [0; 512];
    let modern = generation == Generation::Modern;
    let (name, version) = if modern {
        (&b"dialog-dlg-repl"[..], 4)
    } else {
        (&b"dialog"[..], 0)
    };
    let mut builder = Builder::new(generation, &mut buffer, name, 2, version).unwrap();
    for value in [CALLID, b"f1-77", b"tt-9a", b"sip:a@b.c", b"sip:d@e.f"] {
        builder.push_str(value).unwrap();
    }
    for value in [4242, 1_893_452_400, 4] {
        builder.push_int(value).unwrap();
    }
    builder.push_str(b"udp:10.0.0.1:5060").unwrap();
    builder.push_str(&vec![b'5'; callee_socket_len]).unwrap();
    for _ in 0..if modern { 16 } else { 10 } {
        builder.push_str(b"").unwrap();
    }
    for value in 0..if modern { 6 } else { 5 } {
        builder.push_int(value).unwrap();
    }
    if modern {
        for _ in 0..3 {
            builder.push_str(b"").unwrap();
        }
        builder.push_trailer(Trailer::new(1, 1, 2)).unwrap();
    }
    builder.seal().to_vec()
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (label, generation) in [("1.x", Generation::Legacy), ("2.3+", Generation::Modern)] {
        let bytes = packet(generation);
        let key_of = |bytes: &[u8]| {
            let packet = Packet::parse(generation, bytes).unwrap();
            schema::key(&packet).unwrap().map(<[u8]>::len)
        };
        assert_eq!(key_of(&bytes), Some(CALLID.len()));
        group.bench_function(
            format!("{label} dialog update, 200 B: packet and key"),
            |b| {
                b.iter(|| key_of(black_box(&bytes)));
            },
        );

        let every_field = |bytes: &[u8]| {
            let packet = Packet::parse(generation, bytes).unwrap();
            let message = schema::candidates(&packet).next().unwrap();
            let (mut fields, mut sum) = (0, 0);
            message
                .walk(&packet, |field| {
                    fields += 1;
                    sum += match field.value {
                        Value::Str(bytes) => bytes.len(),
                        Value::Int(int) => int as usize & 1,
                        Value::Object(..) | Value::Raw(_) => 0,
                    };
                })
                .unwrap();
            (fields, sum)
        };
        let expected = if generation == Generation::Modern {
            35
        } else {
            25
        };
        assert_eq!(every_field(&bytes).0, expected);
        group.bench_function(
            format!("{label} dialog update, 200 B: every field by schema"),
            |b| {
                b.iter(|| every_field(black_box(&bytes)));
            },
        );

        group.bench_function(format!("{label} dialog update, 200 B: identify"), |b| {
            b.iter(|| {
                let packet = Packet::parse(generation, black_box(&bytes)).unwrap();
                schema::identify(&packet).unwrap().command
            });
        });
    }
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.throughput(Throughput::Elements(1));
    for (label, generation) in [("1.x", Generation::Legacy), ("2.3+", Generation::Modern)] {
        let bytes = packet(generation);
        let parsed = Packet::parse(generation, &bytes).unwrap();
        let version = parsed.version().unwrap_or(0);
        let mut values = vec![];
        let trailer = schema::identify(&parsed)
            .unwrap()
            .walk(&parsed, |field| values.push(field.value))
            .unwrap();
        let mut buffer = [0; 512];
        let mut rebuild = |values: &[Value<'_>]| {
            let mut builder = Builder::new(
                generation,
                &mut buffer,
                parsed.name(),
                parsed.command(),
                version,
            )
            .unwrap();
            for value in values {
                match value {
                    Value::Str(bytes) => builder.push_str(bytes).unwrap(),
                    Value::Int(int) => builder.push_int(*int).unwrap(),
                    Value::Object(..) | Value::Raw(_) => unreachable!("a dialog has none"),
                }
            }
            if let Some(trailer) = trailer {
                builder.push_trailer(trailer).unwrap();
            }
            builder.seal() == bytes
        };
        assert!(rebuild(&values));
        // The comparison with the expected packet is inside: it costs a 200-byte memcmp.
        group.bench_function(format!("{label} dialog update, 200 B"), |b| {
            b.iter(|| rebuild(black_box(&values)));
        });
    }
}

fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32");
    for len in [64, 200, 512, 1400] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let ours = crc32::checksum(&bytes);
        let slow = bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                crc >> 1 ^ (0xEDB8_8320 * (crc & 1))
            })
        });
        assert_eq!(ours, slow);
        group.throughput(Throughput::Bytes(len));
        group.bench_function(format!("crc32fast {len} B"), |b| {
            b.iter(|| crc32::checksum(black_box(&bytes)));
        });
    }
}

criterion_group!(benches, decode, build, crc);
criterion_main!(benches);
