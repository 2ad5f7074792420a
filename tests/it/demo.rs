//! `binrush demo` as a process.

use serde_json::Value;

use crate::process::{Running, run};

#[test]
fn everything_sent_is_received_or_dropped_by_name_and_understood() {
    let demo = run(&["demo", "--seconds", "1", "--rate", "5000", "--json"])
        .ok()
        .quiet();
    let events = demo.json();
    let (ready, total) = (&events[0], &events[events.len() - 1]);
    assert_eq!(
        (&ready["event"], &total["event"]),
        (&"ready".into(), &"total".into())
    );
    assert_eq!(
        (&ready["rate_pps"], &ready["seconds"]),
        (&5000.into(), &1.into())
    );
    for interval in &events[1..events.len() - 1] {
        assert_eq!(interval["event"], "interval", "{interval}");
    }
    balanced(total);
    // A machine under load may be late, and is told so; it may not lose count.
    let kinds = ["dialog", "ul"].map(|name| total["names"][name]["types"].as_object());
    let seen: u64 = kinds
        .into_iter()
        .flat_map(|types| types.expect("counts by type").values())
        .map(|count| count.as_u64().expect("a count"))
        .sum();
    assert_eq!(seen, count(total, "received"), "{total}");
}

#[test]
fn the_text_tells_every_type_by_name() {
    let demo = run(&["demo", "--seconds", "1", "--rate", "3000"])
        .ok()
        .quiet();
    let text = demo.text();
    // A type's name stands above its column in two words.
    for word in [
        "dialog (calls)",
        "CREATED",
        "UPDATED",
        "DELETED",
        "ul (registered phones)",
        "AOR",
        "CONTACT",
        "INSERT",
        "DELETE",
        "UPDATE",
        "  all ",
        "sent ",
        "= received ",
        "Every packet sent is in exactly one counter",
    ] {
        assert!(text.contains(word), "no \"{word}\" in {text}");
    }
}

#[test]
fn a_signal_ends_it_early_and_the_count_is_right() {
    for signal in ["TERM", "INT"] {
        let args = ["demo", "--seconds", "600", "--rate", "1000", "--json"];
        let mut demo = Running::start(&args);
        demo.event("ready");
        demo.event("interval");
        let rest = demo.stop(signal).ok().quiet();
        let total = rest.json().pop().expect("a last line");
        assert_eq!(total["event"], "total", "{total}");
        balanced(&total);
        assert!(count(&total, "sent") < 600_000, "{total}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [["--rate", "0"], ["--seconds", "0"], ["--rate", "many"]] {
        run(&[&["demo"], &args[..]].concat())
            .exits(2)
            .says(&[args[0], args[1]]);
    }
}

/// `sent = received + kernel drops`, and all that was received was handled.
#[track_caller]
fn balanced(total: &Value) {
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(total["problem"], Value::Null, "{total}");
    assert_eq!(total["unaccounted"], 0, "{total}");
    let (sent, received) = (count(total, "sent"), count(total, "received"));
    let drops = &total["kernel_drops"];
    assert_eq!(
        sent,
        received + count(drops, "buffer") + count(drops, "stopping"),
        "{total}"
    );
    assert!(received > 0, "{total}");
    assert_eq!(
        total["outcomes"],
        serde_json::json!({ "handled": received }),
        "{total}"
    );
}

#[track_caller]
fn count(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}
