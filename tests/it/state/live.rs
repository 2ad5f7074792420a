//! A running engine as a side, and the state directory that it leaves.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use binrush_store::model::{Aor, Contact, Dialog};
use binrush_store::{Record, write};
use binrush_wire::{MAX_PACKET_LEN, Release};
use serde_json::Value;

use crate::process::{Running, Scratch, queued, run, wait_until};

/// An engine that keeps what a 1.11 node replicates, in memory and in a folder.
pub(super) struct Engine {
    pub(super) process: Running,
    pub(super) addr: SocketAddr,
    pub(super) control: String,
    state: String,
    runtime: String,
    scratch: Scratch,
}

impl Engine {
    pub(super) fn start(name: &str) -> Self {
        Self::start_in(Scratch::new(name))
    }

    /// With what is in the folders `state` and `rings` there.
    pub(super) fn start_in(scratch: Scratch) -> Self {
        let [control, state, runtime] =
            ["control.sock", "state", "rings"].map(|file| scratch.path(file));
        let config = scratch.file(
            "serve.cfg",
            format!(
                "listen = bin:127.0.0.1:0\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n\
                 modparam(\"binrush\", \"shards\", 2)\nmodparam(\"binrush\", \"pin\", \"off\")\n\
                 modparam(\"binrush\", \"control\", \"{control}\")\n\
                 modparam(\"binrush\", \"state_dir\", \"{state}\")\n\
                 modparam(\"binrush\", \"runtime_dir\", \"{runtime}\")\n"
            )
            .as_bytes(),
        );
        let mut process = Running::start(&["serve", "--json", "--stats", "0", "--config", &config]);
        let ready = process.event("ready");
        let addr = ready["listen"][0].as_str().expect("an address");
        let addr = addr.strip_prefix("bin:").expect("no TLS");
        Self {
            addr: addr.parse().expect("an address"),
            process,
            control,
            state,
            runtime,
            scratch,
        }
    }

    /// Has it told of as many calls and contacts, as a 1.11 node does.
    pub(super) fn told(&self, calls: usize, contacts: usize) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(since.expect("after 1970").as_secs()).expect("63 bits");
        let node = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let tell = |record: &Record<'_>| {
            let mut buffer = vec![0; MAX_PACKET_LEN];
            let mut packet = write::packet(record, Release::V1x, 0, now, &mut buffer)
                .expect("1.11 has such records");
            node.send_to(packet.seal(), self.addr).expect("loopback");
            wait_until("an empty receive queue", || queued(self.addr) == 0);
        };
        for number in 0..calls {
            let callid = format!("call-{number}");
            tell(&Record::Dialog(Dialog {
                callid: callid.as_bytes(),
                tags: [b"from", b"to"],
                uris: [b"sip:alice@a", b"sip:bob@b"],
                h_id: 7,
                start: i32::try_from(now).expect("31 bits"),
                state: 4,
                cseqs: [b"1", b"2"],
                expires: i32::try_from(now + 3600).expect("31 bits"),
                ..Dialog::default()
            }));
        }
        for number in 0..contacts {
            let aor = format!("user-{number}");
            tell(&Record::Aor(Aor {
                domain: b"location",
                aor: aor.as_bytes(),
                ..Aor::default()
            }));
            tell(&Record::Contact(Contact {
                domain: b"location",
                aor: aor.as_bytes(),
                uri: b"sip:phone@192.0.2.1",
                callid: aor.as_bytes(),
                user_agent: b"a phone",
                expires: now + 3600,
                cseq: 1,
                modified: now,
                ..Contact::default()
            }));
        }
    }

    /// What `binrush state summary` says of a side, table by table.
    fn summary(side: &str) -> Vec<Value> {
        let answer = run(&["state", "summary", side, "--json"]).ok();
        let answer = answer.json().pop().expect("a line");
        answer["tables"].as_array().expect("tables").clone()
    }

    /// How many records of a kind a side has.
    pub(super) fn count(side: &str, kind: &str) -> u64 {
        let tables = Self::summary(side);
        let counts = tables
            .iter()
            .filter_map(|table| table["kinds"][kind]["records"].as_u64());
        counts.sum()
    }
}

#[test]
fn a_running_engine_its_dump_and_its_state_directory_are_the_same() {
    let engine = Engine::start("state-live");
    let Engine {
        control,
        state,
        runtime,
        scratch,
        ..
    } = &engine;
    engine.told(60, 150);
    wait_until("all records", || {
        ["dialog", "aor", "contact"].map(|kind| Engine::count(control, kind)) == [60, 150, 150]
    });
    let tables = Engine::summary(control);
    let ul = tables.iter().find(|table| table["table"] == "ul");
    let ul = ul.expect("the table of contacts");
    assert!(ul["bytes"].as_u64() > Some(0), "{ul}");
    assert_eq!(ul["copy"]["state"], "suspect", "no node gives a sync: {ul}");
    assert_eq!(ul["journal"].as_array().map(Vec::len), Some(2), "{ul}");
    let words = run(&["state", "summary", control]).ok().quiet();
    assert!(words.text().contains("on the disk"), "{}", words.text());

    let dump = scratch.path("live.jsonl");
    run(&["state", "dump", control, "--out", &dump])
        .ok()
        .quiet();
    let same = run(&["state", "diff", control, &dump]).ok().quiet();
    assert!(same.text().contains("dialog"), "{}", same.text());
    // Of what is in the rings alone nobody knows without being told where they are.
    let with_rings = ["state", "diff", control, state, "--runtime", runtime];
    run(&with_rings).ok().quiet();
    wait_until("a disk that has everything", || {
        run(&["state", "diff", control, state]).status.success()
    });
    run(&["state", "diff", &dump, state]).ok().quiet();
    assert_eq!(Engine::count(state, "contact"), 150);
    run(&["state", "verify", state]).ok().quiet();
    run(&["state", "verify", state, "--runtime", runtime]).ok();
    let Engine {
        process, scratch, ..
    } = engine;
    process.stop("TERM").ok();
    drop(scratch);
}

#[test]
fn records_of_a_running_engine_are_found_by_their_names() {
    let engine = Engine::start("state-live-show");
    let control = &engine.control;
    engine.told(20, 20);
    wait_until("all records", || Engine::count(control, "contact") == 20);
    let show = |more: &[&str]| run(&[&["state", "show", control], more].concat());
    let kinds = |more: &[&str]| -> Vec<String> {
        let found = show(&[more, &["--json"]].concat()).ok();
        let records = found.json();
        let kinds = records.iter().filter_map(|line| line["kind"].as_str());
        kinds.map(str::to_owned).collect()
    };
    assert_eq!(kinds(&["--aor", "user-7"]), ["aor", "contact"]);
    assert_eq!(kinds(&["--callid", "call-7"]), ["dialog"]);
    assert_eq!(kinds(&["--callid", "user-7"]), ["contact"]);
    assert_eq!(kinds(&["--prefix", "call-1"]).len(), 11);
    assert_eq!(kinds(&["--table", "dialog"]).len(), 20);
    let words = show(&["--aor", "user-7"]).ok();
    assert!(words.text().contains("in ul"), "{}", words.text());
    show(&["--aor", "nobody"])
        .exits(1)
        .says(&["no record is asked for"]);
    show(&["--table", "1/dialog-dlg-repl"])
        .exits(1)
        .says(&["there is no table 1/dialog-dlg-repl: there are dialog, ul, dialog-profiles"]);
    engine.process.stop("TERM").ok();
    let gone = run(&["state", "summary", control]);
    gone.exits(1);
}

#[test]
fn a_damaged_file_of_a_state_is_named_with_the_place_and_what_is_no_state_too() {
    let engine = Engine::start("state-verify");
    engine.told(30, 30);
    let control = &engine.control;
    wait_until("all records", || Engine::count(control, "contact") == 30);
    let Engine {
        process,
        state,
        scratch,
        ..
    } = engine;
    process.stop("TERM").ok();
    run(&["state", "verify", &state]).ok().quiet();
    let mut damaged = 0;
    for path in files_below(&state) {
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let is_journal = name.starts_with("log-") || name.starts_with("snapshot-");
        let bytes = fs::read(&path).expect("it is ours");
        // The first byte of the first block.
        if !is_journal || bytes.get(4096).is_none_or(|byte| *byte == 0) {
            continue;
        }
        let mut wrong = bytes.clone();
        wrong[4110] ^= 1;
        fs::write(&path, &wrong).expect("it is ours");
        let found = run(&["state", "verify", &state]).exits(1);
        let line = found
            .lines()
            .into_iter()
            .find(|line| line.contains("WRONG"));
        let line = line.unwrap_or_else(|| panic!("{}", found.text()));
        assert!(
            line.contains(&name) && line.contains("at byte 4096"),
            "{line}"
        );
        let lines = run(&["state", "verify", &state, "--json"]).exits(1).json();
        let lines: Vec<_> = lines.iter().filter(|line| line["offset"] == 4096).collect();
        assert_eq!(lines.len(), 1, "{name}");
        assert_eq!(lines[0]["file"], *name);
        fs::write(&path, &bytes).expect("it is ours");
        damaged += 1;
    }
    assert!(damaged >= 4, "logs of two tables on two shards: {damaged}");
    run(&["state", "verify", &state]).ok().quiet();
    let manifest = PathBuf::from(&state).join("manifest");
    let bytes = fs::read(&manifest).expect("it has one");
    fs::write(&manifest, &bytes[1..]).expect("it is ours");
    run(&["state", "verify", &state])
        .exits(2)
        .says(&["manifest"]);
    run(&["state", "verify", &scratch.path("nothing")]).exits(2);
    let file = scratch.file("file", b"no folder");
    run(&["state", "verify", &file]).exits(2);
}

#[test]
fn the_torn_end_of_a_log_is_no_damage_where_the_engine_did_not_end_in_order() {
    let engine = Engine::start("state-torn");
    engine.told(30, 30);
    let (control, state) = (&engine.control, &engine.state);
    wait_until("a disk that has everything", || {
        Engine::count(control, "contact") == 30
            && run(&["state", "diff", control, state]).status.success()
    });
    let Engine {
        process,
        state,
        scratch,
        ..
    } = engine;
    process.stop("KILL");
    run(&["state", "verify", &state]).ok().quiet();
    let mut logs = files_below(&state).into_iter().filter(|path| {
        let name = path.file_name().expect("a file").to_string_lossy();
        let bytes = fs::read(path).expect("it is ours");
        name.starts_with("log-") && bytes.get(4096).is_some_and(|byte| *byte != 0)
    });
    let log = logs.next_back().expect("one with changes");
    let mut bytes = fs::read(&log).expect("it is ours");
    bytes[4110] ^= 1;
    fs::write(&log, &bytes).expect("it is ours");
    let torn = run(&["state", "verify", &state]).ok().quiet();
    let words = torn.text();
    assert!(words.contains("TORN END at byte 4096"), "{words}");
    assert!(!words.contains("WRONG"), "{words}");
    let lines = run(&["state", "verify", &state, "--json"]).ok().json();
    let torn: Vec<_> = lines
        .iter()
        .filter(|line| line["torn_end"] == true)
        .collect();
    assert_eq!(torn.len(), 1, "{lines:?}");
    // Its length was synced before there was a change in it.
    fs::write(&log, &bytes[..4100]).expect("it is ours");
    let cut = run(&["state", "verify", &state]).exits(1);
    assert!(cut.text().contains("WRONG"), "{}", cut.text());
    drop(scratch);
}

fn files_below(folder: &str) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::from(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}
