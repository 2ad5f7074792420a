//! Every byte of a file changed, every length: refused by name and offset, or the same; never a panic.

use std::collections::BTreeMap;

use binrush_journal::vfs::sim::SimFolder;
use binrush_journal::{FileError, Ring, recover, verify};

use crate::shard::{IDENTITY, Records, Shard, check, record};

/// Few and short records: a snapshot, the log behind it, and a rest in the ring.
fn small() -> Shard {
    let mut shard = Shard::new(4096);
    for number in 0..6_u32 {
        let _ = shard.op(0, number % 4, &record(number.into(), 20));
    }
    shard.turn(250);
    assert!(!shard.appender.snapshot_wanted());
    snapshot(&mut shard);
    // Not at the end: its last bytes are zeros, as are those behind it.
    let _ = shard.op(0, 2, &[]);
    for number in 6..9_u32 {
        let _ = shard.op(1, number % 4, &record(number.into(), 20));
    }
    shard.turn(250);
    let _ = shard.op(0, 3, b"in the ring");
    let _ = shard.op(2, 70_000, b"in the ring too");
    shard
}

fn snapshot(shard: &mut Shard) {
    let _ = shard.appender.begin_snapshot();
    for place in 0..4 {
        if place == 2 {
            // The snapshot has what this op does, and is worth nothing where the log has not.
            let _ = shard.op(0, 3, b"during the walk");
        }
        let text = shard.records[&(0, place)].clone();
        let _ = shard.appender.snapshot_record(0, place, &text);
    }
    let _ = shard.appender.end_snapshot();
    shard.turn(250);
    assert_eq!(shard.writer.status().snapshots(), 1);
}

/// What recovery says of these files; `true` when all ops up to `lsn` are there. `name` is the file that is damaged.
fn survives(files: &BTreeMap<String, Vec<u8>>, history: &[Records], lsn: u64, name: &str) -> bool {
    let folder = SimFolder::with_files(files);
    let mut records = Records::new();
    let recovered = recover(&folder, IDENTITY, None, &mut |table, place, text| {
        records.insert((table, place), text.to_vec());
    });
    match recovered {
        Ok(report) => {
            check(&records, &report, history);
            let is_named = report.refused.iter().any(|refused| refused.file == name);
            assert!(is_named || report.lsn == lsn, "{name}: {report:?}");
            report.lsn == lsn
        }
        Err(FileError::Newer { file, .. } | FileError::Foreign { file, .. }) => {
            assert_eq!(file, name);
            assert!(records.is_empty());
            false
        }
        Err(other) => panic!("{other}"),
    }
}

/// Whether reading every file finds that this one is damaged.
fn is_found(files: &BTreeMap<String, Vec<u8>>, name: &str) -> bool {
    match verify(&SimFolder::with_files(files), IDENTITY) {
        Ok(reports) => reports
            .iter()
            .all(|report| report.refused.is_some() == (report.file == name)),
        Err(FileError::Newer { file, .. } | FileError::Foreign { file, .. }) => file == name,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn undamaged_files_are_verified() {
    let shard = small();
    let reports = verify(&shard.folder, IDENTITY).unwrap();
    let said: Vec<_> = reports
        .iter()
        .map(|report| (report.ops, report.last))
        .collect();
    // The log up to the snapshot, the snapshot, the log behind it; two ops are in the ring still.
    assert_eq!(said, [(6, 6), (4, 7), (5, 11)], "{reports:?}");
    assert!(reports.iter().all(|report| report.refused.is_none()));
}

#[test]
fn every_byte_of_a_snapshot_and_of_a_log_changed_is_refused_or_no_matter() {
    let shard = small();
    let lsn = shard.appender.lsn() - 2;
    let files = shard.folder.files();
    let (mut kept, mut lost) = (0, 0);
    for (name, bytes) in &files {
        let used = bytes
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        for at in 0..(used + 64).min(bytes.len()) {
            for change in [1 << (at % 8), 0xff] {
                let mut files = files.clone();
                files.get_mut(name).unwrap()[at] ^= change;
                assert!(at >= used || is_found(&files, name), "{name}: byte {at}");
                if survives(&files, &shard.history, lsn, name) {
                    kept += 1;
                } else {
                    lost += 1;
                }
            }
        }
    }
    // A damaged snapshot is no loss while the log goes back to the beginning; the last file of the log is.
    assert!(kept > 10_000 && lost > 5_000, "{kept} {lost}");
}

#[test]
fn every_length_of_a_snapshot_and_of_a_log_is_refused_or_no_matter() {
    let shard = small();
    let lsn = shard.appender.lsn() - 2;
    let files = shard.folder.files();
    for (name, bytes) in &files {
        for len in 0..bytes.len() {
            let mut files = files.clone();
            files.get_mut(name).unwrap().truncate(len);
            let survived = survives(&files, &shard.history, lsn, name);
            let used = bytes
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1);
            assert!(survived || len < used, "{name} {len}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_hole_or_no_matter() {
    let shard = small();
    let files = shard.folder.files();
    for name in files.keys() {
        let mut left = files.clone();
        left.remove(name);
        let folder = SimFolder::with_files(&left);
        let (records, report) = crate::shard::recovered(&folder, Some(shard.appender.ring()));
        check(&records, &report, &shard.history);
        assert!(
            report.lsn == shard.appender.lsn() || report.hole.is_some(),
            "{report:?}"
        );
    }
}

#[test]
fn every_byte_of_a_ring_changed_is_refused_or_an_earlier_state() {
    let shard = small();
    let files = shard.folder.files();
    let bytes = shard.appender.ring().bytes();
    let (mut refused, mut shorter, mut whole) = (0, 0, 0);
    for at in 0..bytes.len() {
        for change in [1 << (at % 8), 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            let Ok(ring) = Ring::of_bytes(&bytes) else {
                refused += 1;
                continue;
            };
            if ring.identity() != IDENTITY {
                refused += 1;
                continue;
            }
            let folder = SimFolder::with_files(&files);
            let (records, report) = crate::shard::recovered(&folder, Some(&ring));
            check(&records, &report, &shard.history);
            if report.lsn == shard.appender.lsn() {
                whole += 1;
            } else {
                shorter += 1;
            }
            // And one can go on with it.
            let next = Shard::go_on(folder, ring, shard.history.clone());
            assert_eq!(next.appender.lsn(), report.lsn);
        }
    }
    assert!(
        refused > 50 && shorter > 100 && whole > 5_000,
        "{refused} {shorter} {whole}"
    );
}
