//! Many lives of a journal, from a seed: ops, snapshots, failures, full rings, then a kill or a power loss, and on.

use std::collections::BTreeMap;

use binrush_journal::Ring;
use binrush_journal::vfs::sim::{EIO, ENOSPC, Failing, PowerLoss, SimFolder};

use crate::shard::{Dice, IDENTITY, Records, Shard, record};

#[test]
fn whatever_happened_the_next_life_begins_where_one_was() {
    let mut lost_by_power = 0;
    let mut went_on_with_the_ring = 0;
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let capacity = 1 << (13 + dice.below(4));
        let mut shard = Shard::new(capacity);
        for life in 0..5 {
            live(&mut shard, &mut dice);
            let context = format!("seed {seed}, life {life}");
            shard = if dice.one_in(2) {
                let (next, had_all) = killed(&shard, &context);
                went_on_with_the_ring += u32::from(had_all);
                next
            } else {
                let (next, lost) = without_power(&shard, &mut dice, capacity, &context);
                lost_by_power += u32::from(lost);
                next
            };
        }
        shard.heal();
        assert_eq!(
            shard.writer.status().durable(),
            shard.appender.lsn(),
            "seed {seed}"
        );
    }
    assert!(lost_by_power > 50, "{lost_by_power}");
    assert!(went_on_with_the_ring > 150, "{went_on_with_the_ring}");
}

/// Some ops, slices and turns, and what goes wrong meanwhile.
fn live(shard: &mut Shard, dice: &mut Dice) {
    for _ in 0..dice.below(200) {
        if dice.one_in(40) {
            let from = shard.folder.calls() + usize::try_from(dice.below(6)).unwrap();
            let errno = if dice.one_in(2) { EIO } else { ENOSPC };
            let to = from + 1 + usize::try_from(dice.below(6)).unwrap();
            shard.folder.fail(Some(Failing { from, to, errno }));
        }
        if dice.one_in(60) {
            let room = dice.one_in(2).then(|| dice.below(40_000));
            shard.folder.limit(room);
        }
        let number = shard.appender.lsn();
        let len = usize::try_from(dice.below(600)).unwrap();
        let place = u32::try_from(dice.below(12)).unwrap();
        let text = if dice.one_in(5) {
            Vec::new()
        } else {
            record(number, len)
        };
        let _ = shard.op(u8::from(dice.one_in(8)), place, &text);
        if dice.one_in(3) {
            shard.slice(usize::try_from(dice.below(5)).unwrap());
        }
        if dice.one_in(4) {
            shard.turn(dice.below(400));
        }
    }
    shard.folder.fail(None);
    shard.folder.limit(None);
}

/// The next life after a kill, and whether nothing at all was lost.
fn killed(shard: &Shard, context: &str) -> (Shard, bool) {
    // The same folder: what was in doubt stays so.
    let folder = shard.folder.clone();
    let ring = Ring::of_bytes(&shard.appender.ring().bytes()).unwrap();
    let next = Shard::go_on(folder, ring, shard.history.clone());
    let status = shard.writer.status();
    let recovered = next.appender.lsn();
    assert!(recovered >= status.durable(), "{context}");
    if !status.is_lagging() {
        assert_eq!(recovered, shard.appender.lsn(), "{context}");
        assert_eq!(next.records, shard.records, "{context}");
    }
    (next, recovered == shard.appender.lsn())
}

/// The next life after a power loss at some moment, and whether ops were lost.
fn without_power(shard: &Shard, dice: &mut Dice, capacity: usize, context: &str) -> (Shard, bool) {
    let since = shard.folder.moments() - shard.began;
    let back = usize::try_from(dice.below(20)).unwrap().min(since);
    let calls = shard.folder.moments() - back;
    let loss = PowerLoss {
        calls,
        names: usize::try_from(dice.below(4)).unwrap(),
        sector: if dice.one_in(2) { 512 } else { 4096 },
        sizes: dice.one_in(2),
    };
    let bias = 1 + dice.below(4);
    let mut survivors = BTreeMap::new();
    let mut survives = |write: usize, sector: u64| {
        *survivors
            .entry((write, sector))
            .or_insert_with(|| dice.one_in(bias))
    };
    let report = shard.check_power_loss(loss, &mut survives);
    let files = shard.folder.lose_power(loss, &mut survives);
    let ring = Ring::in_memory(IDENTITY, capacity, 0).unwrap();
    let history: Vec<Records> = shard.history.clone();
    let next = Shard::go_on(SimFolder::with_files(&files), ring, history);
    assert_eq!(next.appender.lsn(), report.lsn, "{context}");
    (next, report.lsn < shard.appender.lsn())
}
