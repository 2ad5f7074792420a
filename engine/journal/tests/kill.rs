//! A process that is killed, again and again: what its ring says it did is what recovery finds.
//!
//! Started without arguments this is the test; it starts itself as the process that appends until it is killed. Each life
//! goes on with the files of the one before it. `BINRUSH_KILLS` says how often; 10 without it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use binrush_journal::{
    Appended, Appender, Folder, Identity, Options, Report, Ring, RingError, Step, recover, spawn,
    start,
};

type Records = BTreeMap<u32, Vec<u8>>;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments[..] {
        [role, folder] if role == "appends" => appends(Path::new(folder)),
        // The runner lists tests for who asks, and may want others than this one.
        _ if arguments.iter().any(|argument| argument == "--list") => println!("{NAME}: test"),
        _ => {
            let mut names = arguments
                .iter()
                .filter(|argument| !argument.starts_with('-'));
            if names.clone().next().is_none() || names.any(|name| NAME.contains(name.as_str())) {
                every_kill_finds_all_again();
            }
        }
    }
}

fn every_kill_finds_all_again() {
    let rounds = env::var("BINRUSH_KILLS").map_or(10, |text| text.parse().expect("a number"));
    let scratch = Scratch::new();
    let mut before = 0;
    for round in 0..rounds {
        let mut child = start_child(&scratch.0);
        thread::sleep(Duration::from_millis(40 + round * 37 % 160));
        // SIGKILL.
        child.0.kill().expect("it runs");
        let status = child.0.wait().expect("it is ours");
        assert!(!status.success(), "round {round}: it ended by itself");

        let ring = Ring::open(&scratch.0.join("ring"), IDENTITY).expect("the ring is there");
        let applied = ring.lsn();
        let (records, report) = read(&scratch.0, Some(&ring));
        assert_eq!(report.lsn, applied, "round {round}: {report:?}");
        assert_eq!(ring.missed(), 0, "round {round}");
        assert!(report.is_whole(), "round {round}: {report:?}");
        assert_eq!(records, expected(applied), "round {round}");
        assert!(applied > before, "round {round}: nothing was appended");
        println!(
            "kill {round}: {applied} applied, {applied} recovered; {} out of the ring alone, snapshot {:?}",
            report.ring_ops, report.snapshot
        );
        before = applied;
    }
}

/// Appends as fast as it can, with snapshots, until it is killed.
fn appends(path: &Path) {
    let ring_path = path.join("ring");
    let ring = match Ring::open(&ring_path, IDENTITY) {
        Ok(ring) => ring,
        Err(RingError::Shared(_)) => {
            Ring::create(&ring_path, IDENTITY, 1 << 20, 0).expect("a ring")
        }
        Err(other) => panic!("{other}"),
    };
    let (mut records, report) = read(path, Some(&ring));
    let folder = Folder::open(&path.join("state")).expect("a folder");
    let options = Options {
        fsync_interval: Duration::from_millis(20),
        log_len: 4 << 20,
        snapshot_after: 8 << 20,
        ..Options::default()
    };
    let (mut appender, writer) = start(folder, ring, IDENTITY, options, &report).expect("starts");
    let _runs = spawn("journal", vec![writer]).expect("a thread");
    println!("ready");
    let mut walk = None;
    loop {
        let lsn = appender.lsn() + 1;
        let (place, text) = op(lsn);
        while !appender.has_room(text.len()) {
            thread::yield_now();
        }
        assert_eq!(appender.append(0, place, &text), Appended::Logged(lsn));
        if text.is_empty() {
            records.remove(&place);
        } else {
            records.insert(place, text);
        }
        slice(&mut appender, &records, &mut walk);
    }
}

/// A part of a snapshot, if one is wanted.
fn slice(appender: &mut Appender, records: &Records, walk: &mut Option<Vec<u32>>) {
    if appender.snapshot_wanted() && appender.begin_snapshot() == Step::Taken {
        *walk = Some(records.keys().copied().collect());
    }
    let Some(left) = walk else {
        return;
    };
    let step = match left.last() {
        Some(place) => {
            let text = records.get(place).map_or(&[][..], Vec::as_slice);
            appender.snapshot_record(0, *place, text)
        }
        None => appender.end_snapshot(),
    };
    match step {
        Step::Taken if left.pop().is_some() => {}
        Step::Taken | Step::Abandoned => *walk = None,
        Step::NoRoom => {}
    }
}

/// What op `lsn` does: every one is known, so every state is.
fn op(lsn: u64) -> (u32, Vec<u8>) {
    let mixed = lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let place = u32::try_from((mixed >> 32) % PLACES).expect("below the bound");
    if mixed.is_multiple_of(7) {
        return (place, Vec::new());
    }
    let len = usize::try_from(mixed % 500).expect("below the bound");
    let mut text = lsn.to_le_bytes().to_vec();
    text.resize(8 + len, b'.');
    (place, text)
}

/// The state after op `lsn`, made anew.
fn expected(lsn: u64) -> Records {
    let mut last = BTreeMap::new();
    for lsn in 1..=lsn {
        let (place, text) = op(lsn);
        last.insert(place, text);
    }
    last.retain(|_, text| !text.is_empty());
    last
}

fn read(path: &Path, ring: Option<&Ring>) -> (Records, Report) {
    let mut records = Records::new();
    let folder = path.join("state");
    fs::create_dir_all(&folder).expect("a folder");
    let folder = Folder::to_read(&folder);
    let report = recover(&folder, IDENTITY, ring, &mut |_, place, text| {
        records.insert(place, text.to_vec());
    });
    (records, report.expect("files of ours"))
}

/// A child that runs already; killed with the test, if that fails.
struct Runs(Child);

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_child(path: &Path) -> Runs {
    let this = env::current_exe().expect("this runs");
    let child = Command::new(this)
        .arg("appends")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Runs(child.expect("it starts"));
    let mut ready = [0; 6];
    let said = child.0.stdout.as_mut().expect("piped");
    said.read_exact(&mut ready).expect("it gets ready");
    assert_eq!(&ready, b"ready\n");
    child
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("binrush-kill-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const IDENTITY: Identity = Identity { epoch: 5, shard: 0 };

const PLACES: u64 = 2000;

const NAME: &str = "every_kill_finds_all_again";
