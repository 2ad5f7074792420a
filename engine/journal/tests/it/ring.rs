//! Two threads and a real folder: a shard as fast as it can, and a writer.

use std::fs;
use std::time::Instant;

use binrush_journal::{Appended, Folder, Options, Ring, Step, recover, spawn, start};

use crate::shard::{Dice, IDENTITY, Records, record};

#[test]
fn what_one_thread_appends_another_one_keeps() {
    let path = std::env::temp_dir().join(format!("binrush-stress-{}", std::process::id()));
    let folder = Folder::open(&path).unwrap();
    let ring = Ring::in_memory(IDENTITY, 1 << 16, 0).unwrap();
    let report = recover(&folder, IDENTITY, Some(&ring), &mut |_, _, _| {}).unwrap();
    let options = Options {
        log_len: 1 << 20,
        snapshot_after: 4 << 20,
        ..Options::default()
    };
    let (mut appender, writer) = start(folder, ring, IDENTITY, options, &report).unwrap();
    let thread = spawn("journal", vec![writer]).unwrap();
    let mut dice = Dice(1);
    let mut records = Records::new();
    let mut walk: Option<Vec<(u8, u32)>> = None;
    let began = Instant::now();
    let mut waited = 0_u32;
    for number in 0..100_000_u64 {
        let place = u32::try_from(dice.below(500)).unwrap();
        let text = record(number, usize::try_from(dice.below(300)).unwrap());
        while !appender.has_room(text.len()) {
            waited += 1;
            std::thread::yield_now();
        }
        assert_eq!(
            appender.append(0, place, &text),
            Appended::Logged(number + 1)
        );
        records.insert((0, place), text);
        if appender.snapshot_wanted() && appender.begin_snapshot() == Step::Taken {
            walk = Some(records.keys().copied().collect());
        }
        if let Some(left) = &mut walk {
            let step = match left.last() {
                Some(key) => appender.snapshot_record(key.0, key.1, &records[key]),
                None => appender.end_snapshot(),
            };
            match (step, left.is_empty()) {
                (Step::Taken, false) => {
                    left.pop();
                }
                (Step::Taken, true) | (Step::Abandoned, _) => walk = None,
                (Step::NoRoom, _) => {}
            }
        }
    }
    let (writers, end) = thread.stop();
    end.unwrap();
    let status = writers[0].status();
    assert!(status.snapshots() > 0, "{status:?}");
    assert_eq!((status.durable(), status.missed()), (100_000, 0));
    // It ran over the end of the ring again and again, and found it full.
    assert!(waited > 0, "{:?}", began.elapsed());
    drop(writers);
    let mut found = Records::new();
    let report = recover(
        &Folder::to_read(&path),
        IDENTITY,
        None,
        &mut |table, place, text| {
            found.insert((table, place), text.to_vec());
        },
    );
    let report = report.unwrap();
    assert_eq!(report.lsn, 100_000);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(found, records);
    fs::remove_dir_all(&path).unwrap();
}
