use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use binrush_wire::Release;

use super::kills;
use super::served::{Home, Left, Served};
use super::traffic::{Plain, Traffic, apply, brief};
use crate::dice::Dice;
use crate::process::{Running, wait_until};

#[test]
fn a_stop_leaves_all_on_the_disk_and_the_next_start_does_nothing_twice() {
    let home = Home::new("durable-stop");
    let served = home.start(2);
    let plain = fill(&served, 1, 20_000);
    served.stop();
    let left = stopped(&home);
    assert!(left.plain == plain, "not what was sent");
    for _ in 0..2 {
        let served = home.start(2);
        let changes = served.of_journals("binrush_journal_changes_total", &left.reading);
        assert_eq!(changes, left.lsns());
        assert_eq!(served.ready["state"]["records"], plain.len());
        served.stop();
        let again = stopped(&home);
        assert_eq!(again.lsns(), left.lsns());
        assert!(again.plain == plain, "not what was there");
    }
}

#[test]
fn what_expires_while_nobody_serves_is_gone_after_the_start() {
    let home = Home::new("durable-expired");
    let served = home.start(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs().cast_signed();
    let until = now + 5;
    let mut stream = TcpStream::connect(served.bin).expect("it listens");
    let mut brief_ones = Vec::new();
    for aor in 0..100 {
        // Every second one stays.
        let expires = if aor % 2 == 0 { until } else { now + 86_400 };
        let (key, packet) = brief(aor, expires, Release::V2_3);
        stream.write_all(&packet).expect("it reads");
        brief_ones.extend((aor % 2 == 0).then_some(key));
    }
    served.wait_for_handled(100);
    served.stop();
    let left = stopped(&home);
    assert_eq!(left.plain.len(), 200, "AoRs and contacts");
    wait_until("the time of some to be over", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_secs().cast_signed() > until
    });
    let served = home.start(1);
    wait_until("some to be gone", || {
        served.sum("binrush_table_expired_total") == 50
    });
    served.kill();
    let after = home.left().whole();
    let gone = left
        .plain
        .keys()
        .filter(|key| !after.plain.contains_key(key));
    assert!(gone.eq(&brief_ones), "others than those are gone");
    let before: u64 = left.lsns().iter().sum();
    assert_eq!(after.lsns().iter().sum::<u64>(), before + 50);
}

#[test]
fn a_kill_during_a_snapshot_loses_nothing() {
    let home = Home::new("durable-snapshot");
    let served = home.start(1);
    let plain = fill(&served, SPREAD, 60_000);
    served.stop();
    let left = stopped(&home);
    let (mut dice, mut in_between) = (Dice::new(7), 0);
    for round in 0..kills() {
        // What is no snapshot has to be made good by one.
        let folders = journal_folders(&home);
        for folder in &folders {
            let none = folder.join("snapshot-00000000000000000001");
            fs::write(none, b"nothing of ours").expect("it is ours");
        }
        let is_under_way = || folders.iter().any(|folder| has_unfinished_snapshot(folder));
        let process = Running::start_command(home.command(1));
        wait_until("a snapshot to begin", is_under_way);
        thread::sleep(Duration::from_micros(
            u64::try_from(dice.below(3000)).expect("small"),
        ));
        drop(process);
        in_between += u32::from(is_under_way());
        let after = home.left();
        assert!(after.plain == plain, "round {round}: not what was there");
        assert_eq!(after.lsns(), left.lsns(), "round {round}");
    }
    assert!(in_between > 0, "no kill came before the end of a snapshot");
    // In the end one is completed, and what was put aside for it is gone.
    let served = home.start(1);
    served.stop();
    assert!(home.left().whole().plain == plain, "not what was there");
}

#[test]
fn a_kill_while_records_are_shared_out_to_other_shards_loses_nothing() {
    let home = Home::new("durable-shards");
    let served = home.start(1);
    let plain = fill(&served, SPREAD, 60_000);
    // Some are in the rings only.
    served.kill();
    let (mut dice, mut in_between, mut shards) = (Dice::new(9), 0, 1);
    for round in 0..kills() {
        let next = if shards == 1 { 2 } else { 1 };
        let process = Running::start_command(home.command(next));
        wait_until("another epoch", || epochs(home.state_dir()) > 1);
        thread::sleep(Duration::from_millis(
            u64::try_from(dice.below(60)).expect("small"),
        ));
        drop(process);
        in_between += u32::from(epochs(home.state_dir()) > 1);
        let after = home.left().whole();
        assert!(after.plain == plain, "round {round}: not what was there");
        // It is settled in one way or the other.
        shards = after.reading.shards;
        assert!((1..=2).contains(&shards));
    }
    assert!(in_between > 0, "no kill came in between");
    let served = home.start(3);
    let warnings = served.ready["warnings"].to_string();
    assert!(warnings.contains("were given to 3"), "{warnings}");
    assert_eq!(served.ready["state"]["records"], plain.len());
    served.stop();
    let after = stopped(&home);
    assert_eq!((after.reading.shards, epochs(home.state_dir())), (3, 1));
    assert!(after.plain == plain, "not what was there");
}

/// Does so many deeds, and waits until they are handled.
fn fill(served: &Served, spread: usize, deeds: u64) -> Plain {
    let (mut plain, mut traffic) = (Plain::new(), Traffic::new(8, spread, 0));
    let mut stream = TcpStream::connect(served.bin).expect("it listens");
    for _ in 0..deeds {
        let deed = traffic.deed();
        let packet = deed.packet(Release::V2_3);
        stream.write_all(&packet).expect("it reads");
        apply(&mut plain, deed);
    }
    served.wait_for_handled(deeds);
    plain
}

/// What is there after an end that nobody forced: nothing in the rings.
#[track_caller]
fn stopped(home: &Home) -> Left {
    let left = home.left().whole();
    for journal in &left.reading.journals {
        let recovered = &journal.recovered;
        assert_eq!(
            (recovered.ring_ops, recovered.torn_bytes),
            (0, 0),
            "{journal:?}"
        );
    }
    assert_eq!(left.lsns(), home.ring_lsns());
    left
}

/// Where the files of the journals are.
fn journal_folders(home: &Home) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for epoch in folders_in(home.state_dir()) {
        folders.extend(folders_in(&epoch));
    }
    folders
}

fn has_unfinished_snapshot(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|name| name.starts_with("snapshot-") && name.ends_with(".new"))
}

fn epochs(state_dir: &Path) -> usize {
    folders_in(state_dir).len()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Ten times as many records, so that a walk over them takes a while.
const SPREAD: usize = 10;
