//! Where the time goes under a load: what is sampled is the receiver, and adds up to its time.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::compare::binary;
use crate::process::{self, Scratch, skip};

#[test]
fn stacks_add_up_to_the_receivers_time_and_are_laid_beside_an_earlier_run() {
    let folder = Scratch::new("profile");
    let Some(first) = profiled(&folder, "miss", &[]) else {
        return;
    };
    let ns = first["ns_per_packet"].as_f64().expect("a number");
    let split = first["split_ns_per_packet"].as_object().expect("sides");
    let sum: f64 = split.values().filter_map(Value::as_f64).sum();
    assert!(ns > 0.0 && (sum / ns - 1.0).abs() < 0.01, "{first}");
    assert!(
        split["ours"].as_f64() > Some(0.0) && split["kernel"].as_f64() > Some(0.0),
        "{first}"
    );
    assert_eq!(
        first["hottest"].as_array().map(Vec::len),
        Some(3),
        "{first}"
    );
    // Only shards, in whole picoseconds.
    let path = folder.path("miss.folded");
    let folded = fs::read_to_string(&path).expect("stacks");
    let mut picos = 0.0;
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').expect("a number at the end");
        assert!(stack.starts_with("shard;"), "{line}");
        picos += count.parse::<u64>().expect("a whole number") as f64;
    }
    assert!((picos / 1000.0 / ns - 1.0).abs() < 0.01, "{picos} of {ns}");

    let second = profiled(&folder, "miss", &["--against", &path]).expect("as before");
    let files = second["files"].to_string();
    let notes = second["notes"].to_string();
    // A picture of the difference, or how to get one.
    assert!(
        files.contains("miss.diff.svg") != notes.contains("cargo install inferno"),
        "{second}"
    );
}

#[test]
fn a_stream_is_profiled_as_well() {
    let folder = Scratch::new("profile-tcp");
    let Some(profile) = profiled(&folder, "contacts-tcp", &[]) else {
        return;
    };
    let receiver = profile["receiver"].as_str().expect("a name");
    assert!(receiver.contains("(recv, 1 shard)"), "{profile}");
    assert_eq!(profile["ledger"]["remainder"], 0, "{profile}");
    let folded = fs::read_to_string(folder.path("contacts-tcp.folded")).expect("stacks");
    assert!(
        folded.contains("recv") && folded.starts_with("shard;"),
        "{folded}"
    );
}

#[test]
fn a_run_that_is_recorded_has_a_row() {
    let folder = Scratch::new("profile-row");
    let table = "# Where\n\n| date | commit | scenario | files | where | done |\n|---|---|---|---|---|---|\n\nEnd.\n";
    folder.file("README.md", table.as_bytes());
    if profiled(&folder, "miss", &["--record"]).is_none() {
        return;
    }
    let text = fs::read_to_string(folder.path("README.md")).expect("it stays");
    // The folder may lie in a clone, whose commit is in the names then.
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("[miss-") && line.contains(".folded](miss-"))
        .collect();
    assert!(
        matches!(rows[..], [row] if row.contains("ns per packet: ours") && row.contains("hottest: `")),
        "{text}"
    );
    assert!(text.ends_with("| |\n\nEnd.\n"), "{text}");
}

#[test]
fn without_perf_nothing_is_started_and_it_says_what_to_do() {
    let folder = Scratch::new("profile-nothing");
    let empty = folder.path("nothing");
    let output = profile(&["miss", "--out", &empty], &[("PATH", &empty)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("no perf") && stderr.contains("install it"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_compared_or_recorded_is_told_before_anything_is_measured() {
    let folder = Scratch::new("profile-wrong");
    folder.file("no.folded", b"a stack without a number\n");
    let (broken, nowhere) = (folder.path("no.folded"), folder.path("nowhere"));
    for (args, words) in [
        (
            &["miss", "--against", &broken][..],
            "line 1: expected frames",
        ),
        (&["miss", "--against", &nowhere], "cannot read"),
        (&["no-such-scenario"], "no-such-scenario"),
    ] {
        let output = profile(args, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

/// A second of few packets, as JSON; `None` where perf cannot be had.
fn profiled(folder: &Scratch, scenario: &str, args: &[&str]) -> Option<Value> {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        skip("sender and receiver need a core each");
        return None;
    }
    let out = folder.path("");
    let common = [
        scenario,
        "--rate=20k",
        "--seconds=1s",
        "--json",
        "--out",
        &out,
    ];
    let output = profile(&[&common, args].concat(), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && stderr.contains("perf") {
        skip(stderr.lines().next().unwrap_or_default());
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    Some(process::json(
        str::from_utf8(&output.stdout).expect("it is text"),
    ))
}

fn profile(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.arg("profile").args(args).stdin(Stdio::null());
    command.envs(environment.iter().copied());
    command.output().expect("it was just built")
}
