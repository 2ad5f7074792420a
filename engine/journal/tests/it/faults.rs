//! Calls that fail, a disk that is full, a ring that is.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use binrush_journal::vfs::sim::{EIO, ENOSPC, Failing, PowerLoss, SimFolder};
use binrush_journal::{Appended, FileError, Folder, Options, Ring, Step, recover, start};

use crate::shard::{IDENTITY, OPTIONS, Records, Shard, check, record, recovered};

/// Ops with syncs and snapshots between them, while one call fails.
fn life(failing: Option<(usize, usize, i32)>) -> Shard {
    let mut shard = Shard::new(1 << 16);
    let began = shard.folder.calls();
    shard
        .folder
        .fail(failing.map(|(from, count, errno)| Failing {
            from: began + from,
            to: began + from + count,
            errno,
        }));
    for number in 0..60_u64 {
        let text = record(number, usize::try_from(number * 53 % 300).unwrap());
        let _ = shard.op(0, u32::try_from(number % 9).unwrap(), &text);
        if number % 3 == 0 {
            shard.slice(3);
        }
        if number % 2 == 0 {
            shard.turn(120);
        }
    }
    shard
}

#[test]
fn whichever_call_fails_nothing_durable_is_lost_and_the_journal_heals() {
    let calls = life(None).folder.calls();
    assert!(calls > 60, "{calls}");
    for from in 0..calls {
        for (count, errno) in [(1, EIO), (1, ENOSPC), (5, EIO)] {
            let mut shard = life(Some((from, count, errno)));
            shard.folder.fail(None);
            // Whoever is killed now has lost nothing: what failed is in the ring or in a file.
            let (records, report) = recovered(&shard.folder, Some(shard.appender.ring()));
            assert_eq!(report.lsn, 60, "call {from}: {report:?}");
            check(&records, &report, &shard.history);
            shard.heal();
            assert_eq!(shard.writer.status().durable(), 60, "call {from}");
            for &(calls, _) in shard.floors.clone().iter().step_by(3) {
                for survives in [false, true] {
                    let loss = PowerLoss {
                        calls,
                        names: if survives { usize::MAX } else { 0 },
                        sector: 512,
                        sizes: true,
                    };
                    shard.check_power_loss(loss, &mut |_, _| survives);
                }
            }
        }
    }
}

#[test]
fn a_sync_that_failed_is_not_asked_again() {
    let mut shard = Shard::new(1 << 16);
    let _ = shard.op(0, 1, b"first");
    shard.turn(250);
    assert_eq!(shard.writer.status().durable(), 1);
    let _ = shard.op(0, 1, b"second");
    shard.turn(1);
    let at = shard.folder.calls();
    shard.folder.fail(Some(Failing {
        from: at,
        to: at + 1,
        errno: EIO,
    }));
    shard.turn(250);
    let status = shard.writer.status().clone();
    assert_eq!(status.durable(), 1, "the second one is in doubt for ever");
    assert!(status.is_lagging());
    let alarm = status.alarm().unwrap();
    assert!(
        alarm.contains("log-00000000000000000001: cannot sync it"),
        "{alarm}"
    );
    // The folder would say yes now, and lie: so nothing is durable before a snapshot is.
    let _ = shard.op(0, 2, b"third");
    shard.turn(1250);
    assert_eq!(status.durable(), 1);
    assert!(shard.appender.snapshot_wanted());
    shard.heal();
    assert_eq!(status.durable(), 3);
    assert!(!status.is_lagging());
    let loss = PowerLoss {
        calls: shard.folder.moments(),
        names: 0,
        sector: 512,
        sizes: true,
    };
    let report = shard.check_power_loss(loss, &mut |_, _| false);
    assert_eq!(report.lsn, 3);
}

#[test]
fn the_next_process_does_not_believe_a_folder_that_lost_writes_either() {
    let mut shard = Shard::new(1 << 16);
    let _ = shard.op(0, 1, b"first");
    shard.turn(1);
    let from = shard.folder.calls();
    let to = usize::MAX;
    let errno = EIO;
    shard.folder.fail(Some(Failing { from, to, errno }));
    shard.turn(250);
    shard.folder.fail(None);

    // Killed: its ring is still there, and so is what the kernel shows of the log.
    let ring = Ring::of_bytes(&shard.appender.ring().bytes()).unwrap();
    let mut next = Shard::go_on(shard.folder.clone(), ring, shard.history.clone());
    let status = next.writer.status().clone();
    assert_eq!(next.appender.lsn(), 1);
    assert!(status.durable() == 0 && status.is_lagging());
    next.heal();
    assert_eq!(status.durable(), 1);
    assert!(!status.is_lagging());
}

#[test]
fn a_full_ring_is_counted_and_a_snapshot_makes_it_good() {
    let mut shard = Shard::new(8192);
    let mut missed = 0;
    for number in 0..40 {
        let appended = shard.op(0, number % 8, &record(u64::from(number), 400));
        missed += u64::from(appended == Appended::Missed);
    }
    assert!(missed > 10, "{missed}");
    let status = shard.writer.status().clone();
    assert_eq!(status.missed(), missed);
    assert!(status.is_lagging() && shard.appender.snapshot_wanted());

    // Until then recovery leads back to before the gap, and says so.
    let (records, report) = recovered(&shard.folder, Some(shard.appender.ring()));
    assert_eq!((report.lsn, report.missed), (40 - missed, missed));
    check(&records, &report, &shard.history);
    shard.turn(250);
    let _ = shard.op(0, 1, b"behind the gap");
    shard.turn(250);
    let (_, report) = recovered(&shard.folder, Some(shard.appender.ring()));
    assert_eq!(report.lsn, 40 - missed);
    let hole = report.hole.unwrap();
    assert_eq!((hole.after, hole.next), (40 - missed, 41));
    assert!(!report.is_whole());

    shard.heal();
    let (records, report) = recovered(&shard.folder, Some(shard.appender.ring()));
    assert_eq!(report.lsn, shard.appender.lsn());
    assert_eq!(records, shard.records);
    assert!(report.is_whole(), "{report:?}");
    assert!(!status.is_lagging());
}

#[test]
fn of_ops_that_belong_together_all_are_logged_or_none() {
    let mut shard = Shard::new(4096);
    let pair: [(u32, &[u8]); 2] = [(1, &[]), (2, &[])];
    assert!(shard.appender.append_all(0, &pair));
    // What the two of them take: three words each.
    while shard.appender.has_room(24) {
        let _ = shard.appender.append(0, 3, &[]);
    }
    let (before, missed) = (shard.appender.lsn(), shard.appender.ring().missed());
    assert!(shard.appender.has_room(0), "one of them would fit");
    assert!(!shard.appender.append_all(0, &pair));
    assert_eq!(shard.appender.ring().lsn(), before);
    assert_eq!(shard.appender.lsn(), before + 2);
    assert_eq!((missed, shard.appender.ring().missed()), (0, 2));
    assert!(shard.appender.snapshot_wanted());
}

#[test]
fn a_snapshot_that_a_gap_came_into_does_not_count() {
    let mut shard = Shard::new(8192);
    for number in 0..4 {
        let _ = shard.op(0, number, &record(1, 300));
    }
    shard.turn(250);
    assert_eq!(shard.appender.begin_snapshot(), Step::Taken);
    while shard.op(0, 1, &record(2, 500)) != Appended::Missed {}
    assert_eq!(shard.appender.snapshot_record(0, 1, b"x"), Step::Abandoned);
    assert_eq!(shard.appender.end_snapshot(), Step::Abandoned);
    assert!(shard.appender.snapshot_wanted());
    shard.heal();
    assert_eq!(shard.writer.status().snapshots(), 1);
}

#[test]
fn a_record_that_is_too_long_leaves_no_older_one_behind() {
    let mut shard = Shard::new(8192);
    let _ = shard.op(0, 1, b"short");
    shard.records.remove(&(0, 1));
    let before = shard.appender.lsn();
    assert_eq!(
        shard.appender.append(0, 1, &[b'x'; 3000]),
        Appended::TooLong(before + 1)
    );
    shard.history.push(shard.records.clone());
    assert_eq!(shard.writer.status().too_long(), 1);
    shard.turn(250);
    let (records, report) = recovered(&shard.folder, None);
    assert_eq!(report.lsn, before + 1);
    assert!(records.is_empty());
}

#[test]
fn while_the_disk_is_full_the_ring_keeps_what_it_can() {
    let mut shard = Shard::new(1 << 15);
    for number in 0..10 {
        let _ = shard.op(0, number, &record(1, 200));
    }
    shard.turn(250);
    shard.folder.limit(Some(0));
    for number in 0..20 {
        let appended = shard.op(0, number, &record(2, 200));
        assert!(matches!(appended, Appended::Logged(_)));
        shard.turn(300);
    }
    let status = shard.writer.status().clone();
    assert!(
        status.alarm().unwrap().contains("cannot"),
        "{:?}",
        status.alarm()
    );
    // It is all there for who is killed now.
    let (records, report) = recovered(&shard.folder, Some(shard.appender.ring()));
    assert_eq!(report.lsn, 30, "{report:?}");
    assert_eq!(records, shard.records);
    for number in 0..200 {
        let _ = shard.op(0, number % 30, &record(3, 200));
        shard.turn(300);
    }
    assert!(status.missed() > 0 && status.is_lagging());
    shard.folder.limit(None);
    shard.heal();
    assert_eq!(status.durable(), 230);
    assert_eq!(status.alarm(), None);
}

#[test]
fn what_recovery_cannot_read_is_an_error_and_what_start_cannot_sync_an_alarm() {
    let shard = life(None);
    let files = shard.folder.files();
    let calls = {
        let folder = SimFolder::with_files(&files);
        let _ = recovered(&folder, None);
        folder.calls()
    };
    for from in 0..calls {
        let folder = SimFolder::with_files(&files);
        folder.fail(Some(Failing {
            from,
            to: from + 1,
            errno: EIO,
        }));
        let mut shown = 0;
        let failed = recover(&folder, IDENTITY, None, &mut |_, _, _| shown += 1);
        assert!(matches!(failed, Err(FileError::Io { .. })), "{failed:?}");
        assert_eq!(shown, 0);
    }
    let folder = SimFolder::with_files(&files);
    let (_, report) = recovered(&folder, None);
    folder.fail(Some(Failing {
        from: calls,
        to: usize::MAX,
        errno: EIO,
    }));
    let ring = Ring::in_memory(IDENTITY, 1 << 16, 0).unwrap();
    let (appender, writer) = start(folder, ring, IDENTITY, OPTIONS, &report).unwrap();
    assert!(writer.status().alarm().is_some() && writer.status().is_lagging());
    assert_eq!(writer.status().durable(), 0);
    assert!(appender.snapshot_wanted());
}

#[test]
fn on_a_real_disk_that_is_full_serving_goes_on_and_the_log_comes_back() {
    let mount = std::env::temp_dir().join(format!("binrush-full-{}", std::process::id()));
    fs::create_dir_all(&mount).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
        .arg(&mount)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        let _ = fs::remove_dir(&mount);
        skip("only root can mount a small disk");
        return;
    }
    let _unmounts = Unmounts(mount.clone());
    let filler = mount.join("filler");
    fs::write(&filler, vec![1; 600 << 10]).unwrap();

    let folder = Folder::open(&mount.join("journal")).unwrap();
    let ring = Ring::in_memory(IDENTITY, 1 << 17, 0).unwrap();
    let report = recover(&folder, IDENTITY, Some(&ring), &mut |_, _, _| {}).unwrap();
    let options = Options {
        log_len: 128 << 10,
        snapshot_after: 1 << 30,
        ..OPTIONS
    };
    let (mut appender, mut writer) = start(folder, ring, IDENTITY, options, &report).unwrap();
    let status = writer.status().clone();
    let mut records = Records::new();
    let mut now = Duration::ZERO;
    for number in 0..3000_u32 {
        let text = record(u64::from(number), 350);
        let _ = appender.append(0, number % 100, &text);
        records.insert((0, number % 100), text);
        if number % 10 == 0 {
            now += Duration::from_millis(100);
            let _ = writer.turn(now);
        }
    }
    assert!(
        status
            .alarm()
            .is_some_and(|alarm| alarm.contains("No space left"))
    );
    assert!(status.missed() > 0 && status.is_lagging() && status.written() > 500);

    fs::remove_file(&filler).unwrap();
    for _ in 0..100 {
        if appender.snapshot_wanted() && appender.begin_snapshot() == Step::Taken {
            for (&(table, place), text) in &records {
                while appender.snapshot_record(table, place, text) == Step::NoRoom {
                    let _ = writer.turn(now);
                }
            }
            let _ = appender.end_snapshot();
        }
        now += Duration::from_millis(300);
        let _ = writer.turn(now);
    }
    assert_eq!(status.alarm(), None);
    assert!(!status.is_lagging());
    assert_eq!(status.durable(), 3000);
    let mut found = Records::new();
    let folder = Folder::to_read(&mount.join("journal"));
    let report = recover(&folder, IDENTITY, None, &mut |table, place, text| {
        found.insert((table, place), text.to_vec());
    });
    assert_eq!(report.unwrap().lsn, 3000);
    assert_eq!(found, records);
}

/// Takes the mount away again.
struct Unmounts(std::path::PathBuf);

impl Drop for Unmounts {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Straight to standard error: the runner keeps what a passing test prints to itself.
fn skip(reason: &str) {
    let current = std::thread::current();
    let line = format!("\nSKIPPED {}: {reason}\n", current.name().unwrap_or("?"));
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
