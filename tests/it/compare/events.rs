//! What telling events costs: that every event is in a count.

use serde_json::Value;

use super::{Stand, compare, is_single_core, report};
use crate::process::skip;

const RUN: [&str; 4] = [
    "--packets=1000",
    "--seconds=0.2",
    "--events=5k",
    "--scenario=events",
];

#[test]
fn each_refresh_is_an_event_and_each_event_is_heard_or_told_as_lost() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[&RUN[..], &["--rounds=1", "--every=1,5"]].concat());
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<_> = rows
        .iter()
        .map(|row| (row["every"].as_u64(), row["receiver"].as_str()))
        .collect();
    let mut expected = Vec::new();
    for every in [1, 5] {
        let receivers = ["without", "silent", "control", "text", "jsonrpc"];
        expected.extend(receivers.map(|receiver| (Some(every), Some(receiver))));
    }
    assert_eq!(names, expected, "{report}");
    for row in rows {
        assert_row(row);
    }
}

/// What every row has; that its counts add up in themselves is a condition of there being a row.
#[track_caller]
fn assert_row(row: &Value) {
    let count = |of: &Value, name: &str| of[name].as_u64().expect("a count");
    let ns = &row["ns_per_packet"]["median"];
    assert!(ns.as_f64() > Some(0.0), "{row}");
    let receiver = row["receiver"].as_str().expect("a name");
    let grows = row["growth_percent"].is_object();
    assert_eq!(grows, receiver != "silent", "{row}");
    assert_eq!(count(row, "sent"), count(row, "received"), "{row}");
    let (events, refreshes) = (&row["events"], count(row, "refreshes"));
    // A fifth of a second at 5000/s, and what came to warm up.
    assert!(refreshes >= 1000, "{row}");
    let raised = match receiver {
        "text" | "jsonrpc" => refreshes,
        _ => 0,
    };
    assert_eq!(count(events, "raised"), raised, "{row}");
    let known = ["dropped", "heard", "missed"].map(|name| count(events, name));
    assert_eq!(known.iter().sum::<u64>(), raised, "{row}");
    // Nobody was faster than was asked for.
    let reached = row["events_per_second_reached"]["median"].as_f64();
    assert!(reached > Some(0.0) && reached <= Some(5001.0), "{row}");
}

/// The shard takes twice the time for each packet that counts: a clock that goes on while it has nothing to do would tell of none of it.
#[test]
fn growth_that_is_known_shows() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[&RUN[..], &["--rounds=3", "--every=1", "--control=100"]].concat());
    let rows = report["rows"].as_array().expect("rows");
    let control = rows.iter().find(|row| row["receiver"] == "control");
    let control = control.expect("it is always there");
    assert_eq!(control["growth_percent_known"], 100.0);
    let growth = control["growth_percent"]["median"].as_f64();
    assert!(growth > Some(50.0) && growth < Some(200.0), "{control}");
}

#[test]
fn an_engine_that_tells_of_something_else_is_not_measured() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    // Another event besides, to the same subscriber, whom it comes to for each contact before the first refresh.
    let more = "sed -n 's/E_UL_CONTACT_UPDATE/E_UL_AOR_INSERT/p' \"$config\" >\"$config.more\"; \
                cat \"$config.more\" >>\"$config\"; rm \"$config.more\"";
    let engine = Stand::new("events-more", more);
    let engine = engine.argument();
    let output = compare(&[&RUN[..], &["--rounds=1", "--every=1", &engine]].concat());
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    for words in [
        "events, 5000 events/s, each packet one",
        "contacts were changed",
    ] {
        assert!(stderr.contains(words), "no \"{words}\" in {stderr}");
    }
    assert!(output.stdout.is_empty());
}
