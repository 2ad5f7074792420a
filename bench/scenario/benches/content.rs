//! What it costs to make one packet: contents, stamp, check value and the checksum of 1.x.
//!
//! Each benchmark checks its answers before it is timed: that every packet is what the wire's schema says, and that its
//! stamp is its own.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use binrush_probe::{STAMP_LEN, Stamp};
use binrush_scenario::{
    Arrivals, Content, Durations, Form, Keys, Kind, Part, Popularity, Scenario, Schedule, Share,
    Sizes, Source,
};
use binrush_wire::{Generation, Packet, Release, crc32, schema};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const RUN: u16 = 7;
const START_NS: u64 = 98_765_432_101_234;
const LATE_NS: u32 = 1_234;

const UNIFORM: Keys = Keys {
    population: 10_000,
    popularity: Popularity::Uniform,
};

const ZIPF: Keys = Keys {
    population: 100_000,
    popularity: Popularity::Zipf { exponent: 1.0 },
};

const FRAMES: Form = Form::Frames {
    release: Release::V3_6,
    cluster: 1,
    source: 1,
    destination: 2,
};

fn miss(keys: Keys) -> Kind {
    Kind::Miss {
        name: "binrush-miss".into(),
        keys,
    }
}

const fn contacts(keys: Keys) -> Kind {
    Kind::Contacts {
        keys,
        register: 0.5,
        refresh: 9.0,
        unregister: 0.5,
    }
}

const fn dialogs() -> Kind {
    Kind::Dialogs {
        updates: 2.0,
        duration: Durations::Exponential {
            mean: Duration::from_secs(1),
        },
    }
}

/// Packets of one kind at 100 000 per second, for longer than any benchmark takes.
fn content(form: Form, kind: Kind, sizes: Sizes) -> Content {
    let share = Share {
        stream: 0,
        streams: 1,
    };
    let duration = Duration::from_hours(24);
    let scenario = Scenario {
        name: "bench".into(),
        description: "One kind of packets".into(),
        form,
        seed: 1,
        parts: vec![Part {
            share: 1.0,
            sizes,
            kind,
        }],
        arrivals: Arrivals::Constant,
    };
    let schedule = Schedule::new(&Arrivals::Constant, 100_000.0, duration, share, 1);
    Content::new(&scenario, RUN, share, schedule).expect("a scenario within its limits")
}

/// The packets from number `from` on are what they should be.
fn check(content: &mut Content, generation: Generation, len: Option<usize>, from: u64, count: u64) {
    let mut out = vec![0; 65_535];
    for sequence in from..from + count {
        let intended_ns = START_NS + content.due().unwrap();
        let written = content.write(START_NS, LATE_NS, &mut out).unwrap();
        assert!(len.is_none_or(|len| len == written), "{written}");
        let packet = Packet::parse(generation, &out[..written]).unwrap();
        let is_known = schema::identify(&packet).is_ok();
        assert_eq!(is_known, packet.name() != b"binrush-miss");
        let stamp = binrush_probe::read(&packet).unwrap();
        assert_eq!((stamp.run, stamp.sequence), (RUN, sequence));
        assert_eq!(stamp.intended_ns, intended_ns);
    }
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(1));
    let fixed = Sizes::Fixed;
    for (label, form, kind, sizes, len) in [
        (
            "1.x miss, 100 B",
            Form::Datagrams,
            miss(UNIFORM),
            fixed(100),
            Some(100),
        ),
        (
            "1.x miss, 200 B",
            Form::Datagrams,
            miss(UNIFORM),
            fixed(200),
            Some(200),
        ),
        (
            "1.x miss, 200 B, Zipf",
            Form::Datagrams,
            miss(ZIPF),
            fixed(200),
            Some(200),
        ),
        (
            "1.x contacts, 250 B",
            Form::Datagrams,
            contacts(UNIFORM),
            fixed(250),
            Some(250),
        ),
        (
            "1.x contacts, 300 B, Zipf",
            Form::Datagrams,
            contacts(ZIPF),
            fixed(300),
            Some(300),
        ),
        (
            "1.x contacts, natural, Zipf",
            Form::Datagrams,
            contacts(ZIPF),
            Sizes::Natural,
            None,
        ),
        (
            "1.x dialogs, natural",
            Form::Datagrams,
            dialogs(),
            Sizes::Natural,
            None,
        ),
        (
            "3.6 miss, 200 B",
            FRAMES,
            miss(UNIFORM),
            fixed(200),
            Some(200),
        ),
        (
            "3.6 contacts, 300 B",
            FRAMES,
            contacts(UNIFORM),
            fixed(300),
            Some(300),
        ),
        (
            "3.6 dialogs, natural",
            FRAMES,
            dialogs(),
            Sizes::Natural,
            None,
        ),
    ] {
        let generation = match form {
            Form::Datagrams => Generation::Legacy,
            Form::Frames { .. } => Generation::Modern,
        };
        let mut content = content(form, kind, sizes);
        // Beyond the filling up of calls, so that what is timed is what goes on for ever.
        check(&mut content, generation, len, 0, 200_000);
        let mut out = vec![0; 65_535];
        group.bench_function(label, |b| {
            b.iter(|| content.write(START_NS, LATE_NS, black_box(&mut out)));
        });
    }
}

/// What of that is not ours to save: the stamp with its check value, and the checksum.
fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    group.throughput(Throughput::Elements(1));
    let stamp = Stamp {
        run: RUN,
        stream: 0,
        sequence: 1_234_567,
        intended_ns: START_NS,
        late_ns: Some(LATE_NS),
    };
    for len in [100, 200, 300] {
        let mut packet = vec![b'x'; len];
        binrush_probe::seal(&mut packet, 40, &stamp);
        assert!(packet[40..40 + STAMP_LEN].starts_with(b"bR"));
        group.bench_function(format!("stamp and check, {len} B"), |b| {
            b.iter(|| binrush_probe::seal(black_box(&mut packet), 40, &stamp));
        });
        group.bench_function(format!("checksum, {len} B"), |b| {
            b.iter(|| crc32::checksum(black_box(&packet[8..])));
        });
    }
}

criterion_group!(benches, write, floor);
criterion_main!(benches);
