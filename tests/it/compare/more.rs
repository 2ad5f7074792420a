//! Receivers that are programs of others, streams, and datagrams at a rate.

use serde_json::{Value, json};

use super::{Running, binary, compare, is_single_core, report};
use crate::process::skip;

#[test]
fn a_program_of_others_is_measured_by_what_the_kernel_tells() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    // A buffer for some hundred packets; nobody reads what it says.
    let command = format!(
        "own={} receive raw --listen 127.0.0.1:{{port}} --rcvbuf 100000 --core {{core}}",
        binary().display()
    );
    let report = report(&[
        "--rounds=1",
        "--packets=1000",
        "--sizes=200",
        "--scenario=plain,gso,paced",
        "--rates=2k",
        "--seconds=0.2",
        "--receivers=raw",
        "--receiver",
        &command,
    ]);
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["scenario"], row["receiver"]))
        .collect();
    let expected = [
        r#""plain" "raw""#,
        r#""plain" "own""#,
        r#""gso" "raw""#,
        r#""gso" "own""#,
        r#""paced" "raw""#,
        r#""paced" "own""#,
    ];
    assert_eq!(names, expected, "{report}");
    for row in rows {
        assert!(
            row["ns_per_packet"]["median"].as_f64() > Some(0.0)
                && row["sent"].as_u64() >= Some(400),
            "{row}"
        );
    }
    let own = &rows[1];
    assert_eq!(
        (&own["backend"], &own["gro"]),
        (&json!("external"), &Value::Null)
    );
    assert!(
        own["path"]
            .as_str()
            .is_some_and(|path| path.contains("receive raw")),
        "{own}"
    );
    // Its queue was filled up to where it drops, as often as it took, and no further.
    assert!(own["fills"].as_u64() > Some(1), "{own}");
    assert_eq!(
        (&own["loss"], &rows[5]["loss"]),
        (&json!(0.0), &json!(0.0)),
        "{report}"
    );
}

#[test]
fn a_process_that_is_there_already_is_measured_and_stays() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let mut there = Running::start(&["receive", "raw"]);
    let ready = there.line();
    let port = ready["listen"][0]
        .as_str()
        .and_then(|listen| listen.rsplit(':').next());
    let (port, pid) = (port.expect("an address"), there.0.id().to_string());
    let measured = |may_stop: &[&str]| {
        let common = [
            "--rounds=1",
            "--packets=1000",
            "--sizes=64",
            "--scenario=plain,paced",
            "--rates=1k",
            "--seconds=0.2",
            "--receivers=raw",
            "--receiver=there=",
            "--port",
            port,
            "--pid",
            &pid,
        ];
        report(&[&common, may_stop].concat())
    };
    let names = |report: &Value| -> Vec<String> {
        let rows = report["rows"].as_array().expect("rows").iter();
        let of = |row: &Value| format!("{} {}", row["scenario"], row["receiver"]);
        rows.map(of).filter(|name| name.contains("there")).collect()
    };
    let report = measured(&[]);
    assert_eq!(names(&report), [r#""paced" "there""#], "{report}");
    assert!(
        report["warnings"].to_string().contains("--may-stop"),
        "{report}"
    );
    let report = measured(&["--may-stop"]);
    assert_eq!(
        names(&report),
        [r#""plain" "there""#, r#""paced" "there""#],
        "{report}"
    );
    // It goes on, and knows what it got.
    there.signal("TERM");
    assert!(there.line()["received"].as_u64() > Some(1400));
}

#[test]
fn a_stream_is_measured_and_who_reads_none_is_left_out() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let command = format!(
        "own={} receive classic --tcp --listen 127.0.0.1:{{port}}",
        binary().display()
    );
    let report = report(&[
        "--rounds=1",
        "--sizes=64,200",
        "--scenario=tcp",
        "--seconds=0.3",
        "--receivers=raw,engine,sink,classic,delayed",
        "--receiver",
        &command,
    ]);
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<&Value> = rows.iter().map(|row| &row["receiver"]).collect();
    let each = ["raw-tcp", "engine-tcp", "sink-tcp", "classic-tcp", "own"];
    assert_eq!(names, [each, each].concat(), "{report}");
    for row in rows {
        assert_stream(row);
    }
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("delayed left out of tcp"), "{warnings}");
}

#[test]
fn a_stream_inside_tls_is_measured_beside_rustls_alone() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[
        "--rounds=1",
        "--sizes=1400",
        "--scenario=tls",
        "--seconds=0.1",
        "--receivers=raw,engine,classic",
    ]);
    let rows = report["rows"].as_array().expect("rows");
    let names: Vec<&Value> = rows.iter().map(|row| &row["receiver"]).collect();
    assert_eq!(names, ["raw-tls", "engine-tls"], "{report}");
    for row in rows {
        assert_stream(row);
    }
    let backends = rows.iter().map(|row| &row["backend"]);
    assert!(backends.eq(["recv", "recv"].iter()), "{report}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("classic left out of tls"), "{warnings}");
}

/// What every row of a stream has; that all of it came is a condition of there being a row.
#[track_caller]
fn assert_stream(row: &Value) {
    assert!(
        row["loss"] == 0.0 && row["sent"].as_u64() > Some(0),
        "{row}"
    );
    for key in [
        "ns_per_packet",
        "sender_ns_per_packet",
        "cpus_ns_per_packet",
    ] {
        assert!(row[key]["median"].as_f64() > Some(0.0), "{key} of {row}");
    }
}

#[test]
fn both_ends_of_paced_packets_have_their_figures() {
    if is_single_core() {
        return skip("sender and receiver need a core each");
    }
    let report = report(&[
        "--rounds=1",
        "--sizes=200",
        "--scenario=paced",
        "--rates=500,5k",
        "--seconds=0.5",
        "--receivers=raw,classic",
    ]);
    let rows = report["rows"].as_array().expect("rows");
    let rates: Vec<&Value> = rows.iter().map(|row| &row["rate_pps"]).collect();
    assert_eq!(rates, [500.0, 500.0, 5000.0, 5000.0]);
    for row in rows {
        // All that was due is accounted for, also on a machine that is too busy to send all of it.
        let due = row["sent"].as_u64().zip(row["unsent"].as_u64());
        let expected = if row["rate_pps"] == 500.0 { 250 } else { 2500 };
        assert_eq!(
            due.map(|(sent, unsent)| sent + unsent),
            Some(expected),
            "{row}"
        );
        for key in [
            "ns_per_packet",
            "sender_ns_per_packet",
            "cpus_ns_per_packet",
        ] {
            assert!(row[key]["median"].as_f64() > Some(0.0), "{key} of {row}");
        }
        // Whoever sleeps between packets pays for waking up: more than any packet costs in a queue.
        assert!(
            row["ns_per_packet"]["median"].as_f64() > Some(1000.0),
            "{row}"
        );
    }
}

#[test]
fn a_receiver_that_cannot_be_is_told_with_what_to_do() {
    for (args, code, words) in [
        (
            &["--receiver=own=true"][..],
            2,
            &["own", "put {port} into the command"][..],
        ),
        (&["--receiver=there="], 2, &["--pid PID"]),
        (
            &[
                "--receiver=own=false {port}",
                "--receivers=sink-tcp",
                "--scenario=paced",
            ],
            1,
            &[
                "nobody is left",
                "own left out by udp",
                "stay in the foreground",
                "ended by itself",
            ],
        ),
    ] {
        let output = compare(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no \"{word}\" in: {stderr}");
        }
        assert!(output.stdout.is_empty());
    }
}
