//! What keeping records costs: who is measured, and that he had them.

use std::fs;

use serde_json::{Value, json};

use super::{Stand, compare, is_single_core, report};
use crate::process::{Scratch, skip};

#[test]
fn contacts_are_held_while_they_are_there_by_who_keeps_them() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let disk = Scratch::new("records-disk");
    let state_dir = disk.path("");
    let report = report(&[
        "--rounds=1",
        "--packets=1000",
        "--scenario=records,records-udp",
        "--readers=0",
        "--receivers=raw,engine,classic",
        "--keepers=counts,memory,log-disk",
        "--state-dir",
        &state_dir,
    ]);
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<String> = rows
        .iter()
        .map(|row| {
            let words = ["scenario", "phase", "receiver"].map(|key| row[key].as_str());
            words.map(Option::unwrap_or_default).join(" ")
        })
        .collect();
    let mut expected = Vec::new();
    for (scenario, raw) in [("records", "raw-tcp"), ("records-udp", "raw")] {
        for phase in ["insert", "refresh", "delete"] {
            for receiver in [raw, "counts", "memory", "log-disk"] {
                expected.push(format!("{scenario} {phase} {receiver}"));
            }
        }
    }
    assert_eq!(names, expected, "{report}");
    for row in rows {
        assert_row(row);
    }
    // Nothing of the logs stays.
    let left: Vec<_> = fs::read_dir(&state_dir).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What every row has; that an engine that keeps records has them is a condition of there being a row.
#[track_caller]
fn assert_row(row: &Value) {
    let shard = &row["shard_ns_per_contact"]["median"];
    assert!(shard.as_f64() > Some(0.0), "{row}");
    assert_eq!(row["contacts"], 1000, "{row}");
    let keeps = ["memory", "log-disk"].contains(&row["receiver"].as_str().unwrap_or_default());
    let held = match row["phase"] == "delete" {
        true => 0,
        false => 2000,
    };
    let records = if keeps { json!(held) } else { Value::Null };
    assert_eq!(row["records"], records, "{row}");
    assert_eq!(row["ns_over_counts"].is_object(), keeps, "{row}");
    let logs = row["receiver"] == "log-disk";
    assert_eq!(row["log_files_bytes"].as_u64() > Some(0), logs, "{row}");
}

#[test]
fn an_engine_that_refuses_records_is_not_measured() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    // Room for ten, whatever it was told.
    let full = "echo 'modparam(\"binrush\", \"records_max\", 10)' >> \"$config\"";
    let engine = Stand::new("records-full", full);
    let output = compare(&[
        "--rounds=1",
        "--packets=1000",
        "--scenario=records",
        "--readers=0",
        "--receivers=engine",
        "--keepers=memory",
        &engine.argument(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    for words in ["round 1: memory", "who refuses them has not kept them"] {
        assert!(stderr.contains(words), "no \"{words}\" in {stderr}");
    }
    assert!(output.stdout.is_empty());
}
