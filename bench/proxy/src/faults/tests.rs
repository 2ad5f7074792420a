use std::collections::BTreeSet;

use binrush_wire::{Builder, Generation, Packet};

use super::*;
use crate::plan::Odds;

/// A 1.x packet that says its number.
fn packet(number: u64) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", 4, 0).unwrap();
    builder.push_str(&number.to_le_bytes()).unwrap();
    builder.seal().to_vec()
}

fn number(bytes: &[u8]) -> Option<u64> {
    let packet = Packet::parse(Generation::Legacy, bytes).ok()?;
    let field = packet.fields().pop_str().ok()?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// What came out of `packets` packets, damaged ones as `None`.
fn through(plan: &Plan, packets: u64) -> (Vec<Option<u64>>, Counts) {
    let mut faults = Faults::new(plan, 0).unwrap();
    let mut out = Vec::new();
    for sent in 0..packets {
        faults.pass(&packet(sent), |bytes| out.push(number(bytes)));
        assert!(faults.counts().is_balanced(faults.held()));
    }
    faults.finish(|bytes| out.push(number(bytes)));
    assert_eq!(faults.held(), 0);
    assert!(faults.counts().is_balanced(0));
    (out, *faults.counts())
}

/// What a receiver that knows nothing of faults counts.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    missing: u64,
    duplicates: u64,
    reordered: u64,
    distance_max: u64,
    damaged: u64,
}

fn seen(out: &[Option<u64>], sent: u64) -> Seen {
    let mut seen = Seen::default();
    let mut numbers = BTreeSet::new();
    for arrived in out {
        let Some(number) = *arrived else {
            seen.damaged += 1;
            continue;
        };
        let highest = numbers.last().copied();
        if !numbers.insert(number) {
            seen.duplicates += 1;
        } else if let Some(highest) = highest.filter(|highest| *highest > number) {
            seen.reordered += 1;
            seen.distance_max = seen.distance_max.max(highest - number);
        }
    }
    seen.missing = sent - numbers.len() as u64;
    seen
}

fn expected(counts: &Counts) -> Seen {
    Seen {
        missing: counts.lost + counts.corrupted,
        duplicates: counts.duplicated,
        reordered: counts.reordered,
        distance_max: counts.reorder_distance_max,
        damaged: counts.corrupted,
    }
}

#[test]
fn without_faults_everything_goes_on_as_it_came() {
    let (out, counts) = through(&Plan::default(), 1000);
    assert!(out.into_iter().eq((0..1000).map(Some)));
    assert_eq!((counts.received, counts.forwarded), (1000, 1000));
    assert_eq!(counts.received_bytes, counts.forwarded_bytes);
}

#[test]
fn a_receiver_counts_exactly_what_was_done() {
    for seed in 0..200 {
        let plan = Plan {
            lose: Odds::Chance(0.1),
            duplicate: Odds::Chance(0.1),
            reorder: Odds::Chance(0.2),
            corrupt: Odds::Chance(0.1),
            distance: 1 + u32::try_from(seed % 17).unwrap(),
            seed,
            ..Plan::default()
        };
        let (out, counts) = through(&plan, 500);
        assert_eq!(seen(&out, 500), expected(&counts), "seed {seed}");
    }
}

#[test]
fn one_packet_is_passed_by_as_many_as_asked_for() {
    let plan = Plan {
        reorder: Odds::OneIn(1000),
        distance: 7,
        ..Plan::default()
    };
    let (out, counts) = through(&plan, 10_000);
    assert_eq!((counts.reordered, counts.reorder_distance_max), (10, 7));
    assert_eq!(seen(&out, 10_000), expected(&counts));
    for pair in out.windows(2) {
        let (Some(before), Some(after)) = (pair[0], pair[1]) else {
            panic!("none is damaged")
        };
        // In order; back by 7; on behind the one that came late.
        assert!(
            [1, 2, 8].contains(&(after.abs_diff(before))) || before - after == 7,
            "{before} {after}"
        );
    }
}

#[test]
fn what_nothing_passes_is_not_reordered() {
    // All are held back alike, so they come in order.
    let plan = Plan {
        reorder: Odds::Chance(1.0),
        distance: 5,
        ..Plan::default()
    };
    let (out, counts) = through(&plan, 100);
    assert!(out.into_iter().eq((0..100).map(Some)));
    assert_eq!((counts.reordered, counts.reorder_distance_max), (0, 0));
}

#[test]
fn damage_is_one_byte_behind_the_checksum() {
    let plan = Plan {
        corrupt: Odds::Chance(1.0),
        ..Plan::default()
    };
    let mut faults = Faults::new(&plan, 0).unwrap();
    let mut places = BTreeSet::new();
    let original = packet(7);
    for _ in 0..1000 {
        faults.pass(&original, |bytes| {
            let changed: Vec<usize> = (0..bytes.len())
                .filter(|&at| bytes[at] != original[at])
                .collect();
            let [at] = changed[..] else {
                panic!("{changed:?}")
            };
            places.insert(at);
            let error = Packet::parse(Generation::Legacy, bytes).unwrap_err();
            assert_eq!(error.kind, binrush_wire::ErrorKind::Checksum);
        });
    }
    assert!(places.into_iter().eq(8..original.len()));
}

#[test]
fn repaired_damage_passes_the_checksum() {
    let plan = Plan {
        corrupt: Odds::Chance(1.0),
        damage: Damage::Repaired,
        ..Plan::default()
    };
    let mut faults = Faults::new(&plan, 0).unwrap();
    let original = packet(7);
    for _ in 0..1000 {
        faults.pass(&original, |bytes| {
            assert!(crc_is_right(bytes));
            assert!(
                (8..bytes.len())
                    .filter(|&at| bytes[at] != original[at])
                    .count()
                    == 1
            );
        });
    }
    // Frames have no checksum at that place, but their length.
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"mine", 1, 1).unwrap();
    builder.push_str(b"value").unwrap();
    let frame = builder.seal().to_vec();
    faults.pass(&frame, |bytes| assert_eq!(bytes[..8], frame[..8]));
}

#[test]
fn packets_too_short_for_damage_are_taken_too() {
    let plan = Plan {
        corrupt: Odds::Chance(1.0),
        damage: Damage::Repaired,
        ..Plan::default()
    };
    let mut faults = Faults::new(&plan, 0).unwrap();
    for len in 0..12 {
        let original = vec![0x50; len];
        faults.pass(&original, |bytes| {
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes == original, len == 0);
        });
    }
    assert_eq!(
        (faults.counts().corrupted, faults.counts().forwarded),
        (11, 12)
    );
}

#[test]
fn what_is_held_back_has_a_bound_in_bytes() {
    let plan = Plan {
        reorder: Odds::Chance(1.0),
        distance: 4096,
        ..Plan::default()
    };
    let mut faults = Faults::new(&plan, 0).unwrap();
    let large = vec![0; 65_507];
    let mut out = 0;
    for _ in 0..2000 {
        faults.pass(&large, |_| out += 1);
        assert!(faults.held_bytes <= HELD_BYTES_MAX);
    }
    assert_eq!(out + faults.held(), 2000);
    assert_eq!(faults.held(), 256);
}

#[test]
fn flows_have_choices_of_their_own_and_a_seed_repeats_them() {
    let plan = Plan {
        lose: Odds::Chance(0.5),
        ..Plan::default()
    };
    let lost = |flow, seed| {
        let mut faults = Faults::new(&Plan { seed, ..plan }, flow).unwrap();
        let fates = (0..64).map(|n| faults.pass(&packet(n), |_| {}).is_some());
        fates.collect::<Vec<_>>()
    };
    assert_eq!(lost(0, 1), lost(0, 1));
    assert_ne!(lost(0, 1), lost(1, 1));
    assert_ne!(lost(0, 1), lost(0, 2));
    assert_ne!(lost(0, 2), lost(1, 1));
}
