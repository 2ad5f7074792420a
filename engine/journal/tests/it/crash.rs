//! Power losses at every moment, with everything that may survive.

use binrush_journal::vfs::sim::PowerLoss;

use crate::shard::{Dice, Shard, record};

/// A life with several files of the log, two snapshots with ops during their walks, and syncs between ops.
fn life() -> Shard {
    let mut shard = Shard::new(1 << 16);
    for number in 0..90_u64 {
        let (table, place) = (
            u8::from(number % 7 == 0),
            u32::try_from(number % 11).unwrap(),
        );
        let text = match number % 5 {
            4 => Vec::new(),
            _ => record(number, usize::try_from(number * 37 % 400).unwrap()),
        };
        let _ = shard.op(table, place, &text);
        if number % 3 == 0 {
            shard.slice(2);
        }
        if number % 2 == 0 {
            shard.turn(60);
        }
    }
    shard.turn(250);
    assert!(shard.writer.status().snapshots() >= 2);
    assert_eq!(shard.writer.status().durable(), 90);
    shard
}

#[test]
fn after_every_power_loss_there_is_a_state_that_was_and_nothing_durable_is_missing() {
    let shard = life();
    let mut recovered = 0_u64;
    let mut torn = 0_u64;
    for calls in 0..=shard.folder.moments() {
        let doubt = shard.folder.in_doubt(calls);
        for names in 0..=doubt.names {
            for (sector, sizes) in [(512, false), (512, true), (4096, true)] {
                let loss = PowerLoss {
                    calls,
                    names,
                    sector,
                    sizes,
                };
                let mut check = |survives: &mut dyn FnMut(usize, u64) -> bool| {
                    let report = shard.check_power_loss(loss, survives);
                    assert!(report.ring_refused.is_none());
                    recovered += 1;
                    torn += u64::from(report.torn_bytes() > 0);
                };
                if doubt.writes <= 4 {
                    // All choices of whole writes.
                    for choice in 0..1_u32 << doubt.writes {
                        check(&mut |write, _| choice >> write & 1 == 1);
                    }
                } else {
                    check(&mut |_, _| false);
                    check(&mut |_, _| true);
                    for one in 0..doubt.writes {
                        check(&mut |write, _| write == one);
                        check(&mut |write, _| write != one);
                    }
                }
                // Torn: each write up to some sector, and sectors at random.
                for cut in 0..4 {
                    check(&mut |_, at| at % 4 < cut);
                    check(&mut |_, at| at % 4 >= cut);
                }
                for seed in 0..4 {
                    let mut dice = Dice(seed + calls as u64 * 1000);
                    check(&mut |_, _| dice.one_in(2));
                }
            }
        }
    }
    assert!(recovered > 5_000, "{recovered}");
    assert!(torn > 100, "{torn}");
}

#[test]
fn a_killed_process_loses_nothing() {
    let shard = life();
    // All that was written, and the ring.
    let files = shard.folder.files();
    let left = binrush_journal::vfs::sim::SimFolder::with_files(&files);
    let (records, report) = crate::shard::recovered(&left, Some(shard.appender.ring()));
    assert_eq!(report.lsn, shard.appender.lsn());
    assert_eq!(records, shard.records);
    assert!(report.is_whole(), "{report:?}");
}

#[test]
fn what_is_in_the_ring_alone_is_recovered_too() {
    let mut shard = Shard::new(1 << 16);
    for number in 0..50 {
        let _ = shard.op(0, 1, &record(number, 100));
        if number == 20 {
            shard.turn(1);
        }
    }
    let (records, report) = crate::shard::recovered(&shard.folder, Some(shard.appender.ring()));
    assert_eq!((report.ops, report.ring_ops, report.lsn), (21, 29, 50));
    assert_eq!(records, shard.records);
}
