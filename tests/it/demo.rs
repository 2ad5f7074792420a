//! `binrush demo` as a process.

use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Running, binary, run, skip};
use crate::receiver::{addresses, count, dropped};

#[test]
fn everything_sent_is_received_or_dropped_by_name_and_understood() {
    let args = ["demo", "--seconds", "2", "--rate", "5000", "--shards", "2"];
    let demo = run(&[&args[..], &["--json"]].concat()).ok().quiet();
    let events = demo.json();
    let [ready, rows @ .., total] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (&ready["event"], &total["event"]),
        (&"ready".into(), &"total".into())
    );
    assert_eq!(
        (&ready["rate_pps"], &ready["seconds"]),
        (&5000.into(), &2.into())
    );
    assert_eq!(addresses(ready).len(), 1);
    assert_eq!(ready["transport"], json!(["udp", "tcp"]));
    balanced(total);
    // A machine under load may be late, and is told so; it may not lose count.
    let names = total["names"].as_object().expect("counts by name").values();
    let types = names.flat_map(|name| name["types"].as_object().expect("counts by type").values());
    let seen: u64 = types.map(|count| count.as_u64().expect("a count")).sum();
    assert_eq!(seen, count(total, "received"), "{total}");
    // Two senders, two shards: the records are spread, and the rows tell it second by second.
    let share = |event: &Value, shard: usize| {
        let outcomes = &event["shards"][shard]["outcomes"];
        outcomes["handled"].as_u64().unwrap_or(0)
    };
    assert!((0..2).all(|shard| share(total, shard) > 0), "{total}");
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| row["event"] == "interval"));
    for shard in 0..2 {
        let told: u64 = rows.iter().map(|row| share(row, shard)).sum();
        assert_eq!(told, share(total, shard), "{events:?}");
    }
    let latency = &total["latency_ns"];
    let [p50, p99, p999, max] = ["p50", "p99", "p99_9", "max"].map(|key| count(latency, key));
    assert!(
        0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= max,
        "{latency}"
    );
}

#[test]
fn what_is_no_terminal_gets_a_line_for_each_second_and_the_sums() {
    let args = ["demo", "--seconds", "2", "--rate", "3000", "--shards", "2"];
    let demo = run(&args).ok().quiet();
    let text = demo.text();
    for word in [
        "packets of a genuine OpenSIPS 1.11 node",
        " of a genuine 3.6 node",
        " (udp, tcp), 2 shards",
        "  udp ",
        "  tcp ",
        "\n  1 s ",
        "  shard0 ",
        "  shard1 ",
        " us, p99.9 ",
        "dropped 0",
        "  dialog CREATED ",
        "  ul AOR_INSERT ",
        "  dialog-dlg-repl CREATED ",
        "  usrloc-contact-repl AOR_INSERT ",
        "  udp: sent 6000 = received ",
        "kernel dropped ",
        "  tcp: sent 6000 = received 6000\n",
        "  received ",
        "  taken 1 = peer 1\n",
        "Every packet sent is in exactly one counter",
    ] {
        assert!(text.contains(word), "no \"{word}\" in {text}");
    }
    // Nothing that moves a cursor.
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
}

#[test]
fn a_terminal_gets_a_table_that_each_second_overwrites() {
    let probe = Command::new("script").arg("--version").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return skip("no `script`, which lends a terminal");
    }
    let demo = "demo --seconds 3 --rate 2000 --shards 2";
    let command = format!("'{}' {demo}", binary().display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    let shown = Running::start_command(terminal).finish().ok();
    let text = shown.text();
    // Heading, two shards, their sum, two transports, what was lost, and a line for each of six modules: drawn again
    // over themselves.
    assert!(text.matches("\x1b[13A").count() >= 1, "{text:?}");
    for word in [
        " packets/s ",
        "p99.9 us",
        "    all ",
        "    udp ",
        "    tcp ",
        "dropped 0",
    ] {
        assert!(text.contains(word), "no \"{word}\" in {text:?}");
    }
    // The end stands below it.
    let (_, end) = text.rsplit_once('\x1b').expect("it was drawn");
    assert!(end.contains("Every packet sent is in exactly one counter"));
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

/// `sent = received + kernel drops`, over each transport and together, and all that was received was handled.
#[track_caller]
fn balanced(total: &Value) {
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(total["problem"], Value::Null, "{total}");
    assert_eq!(total["unaccounted"], 0, "{total}");
    let (sent, received) = (count(total, "sent"), count(total, "received"));
    assert_eq!(sent, received + dropped(total), "{total}");
    let tcp = &total["tcp"];
    assert_eq!(count(tcp, "sent"), count(tcp, "received"), "{total}");
    let of_each = [&total["udp"], tcp].map(|each| count(each, "received"));
    assert_eq!(of_each.iter().sum::<u64>(), received, "{total}");
    assert!(of_each.iter().all(|count| *count > 0), "{total}");
    assert_eq!(total["outcomes"], json!({ "handled": received }), "{total}");
}
