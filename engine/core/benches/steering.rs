//! What it costs to know the owner of a datagram: a 200-byte update of a dialog, and of a contact.
//!
//! Each benchmark checks its answer before it is timed.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;

use binrush_engine::Steering;
use binrush_wire::{Builder, Generation, Packet};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LEN: usize = 200;

/// A packet of these strings, filled up to 200 bytes by one more.
fn packet(name: &[u8], command: i32, strings: &[&[u8]]) -> Vec<u8> {
    let mut buffer = [0; LEN];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
    for string in strings {
        builder.push_str(string).unwrap();
    }
    let string_lens: usize = strings.iter().map(|string| 4 + string.len()).sum();
    let unfilled = 12 + name.len() + 4 + string_lens;
    builder.push_str(&vec![b'5'; LEN - unfilled - 4]).unwrap();
    let packet = builder.seal().to_vec();
    assert_eq!(packet.len(), LEN);
    packet
}

fn owners(c: &mut Criterion) {
    let mut group = c.benchmark_group("owner of a datagram");
    group.throughput(Throughput::Elements(1));
    let uuid = b"7d0bcd0a-6d0c-4ad5-a5f1-4b1d8c8d0f3e@192.0.2.10";
    for (label, bytes) in [
        (
            "dialog, key of 18",
            packet(b"dialog", 2, &[b"4f1c-77@192.0.2.10"]),
        ),
        ("dialog, key of 47", packet(b"dialog", 2, &[uuid])),
        ("ul, key of 7", packet(b"ul", 4, &[b"location", b"alice17"])),
        ("keyless", packet(b"ratelimit", 1, &[])),
        ("no packet", vec![0; LEN]),
    ] {
        let steering = Steering::new(2, 0x5EED);
        let expected = Packet::parse(Generation::Legacy, &bytes);
        let expected = expected.map_or(0, |packet| steering.owner(&packet));
        assert_eq!(steering.owner_of_datagram(&bytes), expected);
        group.bench_function(label, |b| {
            b.iter(|| steering.owner_of_datagram(black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, owners);
criterion_main!(benches);
