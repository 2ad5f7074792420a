//! What telling events costs: that every event is in a count.

use serde_json::Value;

use super::{Stand, compare, is_single_core, report};
use crate::process::skip;

const RUN: [&str; 5] = [
    "--rounds=1",
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
    let report = report(&RUN);
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<_> = rows
        .iter()
        .map(|row| (row["packets_per_second"].as_f64(), row["receiver"].as_str()))
        .collect();
    let mut expected = Vec::new();
    for packets in [5e3, 25e3] {
        let receivers = ["silent", "text", "jsonrpc"];
        expected.extend(receivers.map(|receiver| (Some(packets), Some(receiver))));
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
    let is_silent = row["receiver"] == "silent";
    assert_eq!(row["growth_percent"].is_null(), is_silent, "{row}");
    let (events, refreshes) = (&row["events"], count(row, "refreshes"));
    assert!(refreshes > 0, "{row}");
    let lost = count(row, "sent") - count(row, "received");
    let raised = count(events, "raised");
    match is_silent {
        true => assert_eq!(raised, 0, "{row}"),
        false => assert!(raised <= refreshes && raised + lost >= refreshes, "{row}"),
    }
    let known = ["dropped", "heard", "missed"].map(|name| count(events, name));
    assert_eq!(known.iter().sum::<u64>(), raised, "{row}");
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
    let output = compare(&[&RUN[..], &[&engine]].concat());
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    for words in [
        "events, 5000 events/s among 5000 packets/s",
        "contacts were changed",
    ] {
        assert!(stderr.contains(words), "no \"{words}\" in {stderr}");
    }
    assert!(output.stdout.is_empty());
}
