//! The generator as a process: what it says of itself, and the sinks that it is measured with.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};

use binrush_probe::{Hist, Report, STAMP_LEN, Stamp, place, seal};
use binrush_wire::{Builder, Generation, Packet, crc32};
use serde_json::{Value, json};

use crate::compare;
use crate::process::{self, Running, queued, wait_until};

#[test]
fn the_self_test_tells_how_fast_and_how_late_each_way_is() {
    let output = self_test(&["--json", "--seconds=0.05", "--size=300"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let result = process::json(str::from_utf8(&output.stdout).expect("it is text"));
    assert_eq!(
        (&result["command"], &result["complete"]),
        (&json!("self-test"), &json!(true))
    );
    assert!(result["host"].is_object(), "{result}");
    let rows = result["self_test"].as_array().expect("rows");
    let ways: Vec<&Value> = rows.iter().map(|row| &row["way"]).collect();
    assert_eq!(ways, ["plain", "plain", "gso", "gso", "tcp", "tcp"]);
    for pair in rows.chunks(2) {
        assert_eq!(pair[0]["lateness_at_pps"], 50_000.0, "{result}");
        let rate = pair[1]["rate_pps"].as_f64().expect("a number");
        let at = pair[1]["lateness_at_pps"].as_f64().expect("a number");
        assert!(rate > 1000.0 && (at / rate - 0.8).abs() < 1e-6, "{result}");
        for row in pair {
            assert_eq!(
                (&row["size"], &row["rate_pps"]),
                (&json!(300), &json!(rate))
            );
            assert!(row["ns_per_packet"].as_f64() > Some(10.0), "{row}");
            let lateness = Hist::from_base64(row["lateness"].as_str().expect("text"));
            let planned = row["lateness_at_pps"].as_f64().expect("a number") * 0.05;
            let unsent = row["unsent"].as_u64().expect("a number") as f64;
            let sent = lateness.expect("a histogram").count() as f64;
            // The schedule rounds up; a datagram that was refused would be in neither.
            assert!((sent + unsent - planned).abs() <= 1.0, "{row}");
            // A stream loses nothing.
            assert!(row["way"] != "tcp" || row["lost"] == 0, "{row}");
        }
    }
}

#[test]
fn in_words_there_is_a_line_for_each_way_that_was_asked_for() {
    let output = self_test(&["--seconds=0.02", "--ways=tcp,plain"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let ways: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| ["plain", "gso", "tcp"].contains(word))
        .collect();
    assert_eq!(ways, ["tcp", "plain"], "{text}");
}

#[test]
fn what_a_self_test_cannot_do_is_told_before_it_begins() {
    for (args, word) in [
        (&["--seconds=5"][..], "0.01 to 4"),
        (&["--size=10"], "128..=8192"),
        (&["--ways=carrier-pigeon"], "plain"),
        (&["--core=9999"], "core 9999"),
    ] {
        let output = self_test(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(word) && output.stdout.is_empty(),
            "{stderr}"
        );
    }
}

#[test]
fn a_sink_of_datagrams_audits_each_and_names_what_was_none() {
    for more in [&[][..], &["--gro"]] {
        let (sink, to) = start(more, "udp");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        for sequence in [0, 1, 3, 3] {
            socket
                .send_to(&packet(Generation::Legacy, sequence), to)
                .expect("loopback");
        }
        let mut damaged = packet(Generation::Legacy, 4);
        *damaged.last_mut().expect("it has bytes") ^= 1;
        socket.send_to(&damaged, to).expect("loopback");
        socket.send_to(b"P4C", to).expect("loopback");
        wait_until("an empty queue", || queued(to) == 0);
        let total = end(sink);
        assert_eq!(total["received"], 6, "{total}");
        let outcomes = json!({ "handled": 4, "bad_crc": 1, "too_short": 1 });
        assert_eq!(total["outcomes"], outcomes, "{total}");
        let report: Report = serde_json::from_value(total["probe"].clone()).expect("an audit");
        let seen = report.run(RUN).expect("its run").total();
        assert_eq!((seen.unique, seen.duplicates, seen.gaps), (3, 1, 1));
    }
}

#[test]
fn a_sink_without_an_audit_counts_alone() {
    let (sink, to) = start(&["--audit=none"], "udp");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket
        .send_to(&packet(Generation::Legacy, 0), to)
        .expect("loopback");
    wait_until("an empty queue", || queued(to) == 0);
    let total = end(sink);
    assert!(
        total["received"] == 1 && total["probe"].is_null(),
        "{total}"
    );
}

#[test]
fn a_sink_of_streams_accounts_for_every_byte_also_of_those_that_stay_open() {
    let (sink, to) = start(&["--tcp"], "tcp");
    let frames: Vec<u8> = (0..100)
        .flat_map(|n| packet(Generation::Modern, n))
        .collect();
    let mut closed = TcpStream::connect(to).expect("loopback");
    let mut open = TcpStream::connect(to).expect("loopback");
    closed.write_all(&frames).expect("it reads");
    closed
        .write_all(&packet(Generation::Modern, 100)[..20])
        .expect("it reads");
    drop(closed);
    open.write_all(b"no BIN at all").expect("it reads");
    open.write_all(&packet(Generation::Modern, 101))
        .expect("it reads");
    let total = end(sink);
    let of = |key: &str| total[key].as_u64().expect("a count");
    assert_eq!(
        (of("connections"), of("frames"), of("received")),
        (2, 101, 102),
        "{total}"
    );
    assert_eq!(
        (of("partial"), of("partial_bytes"), of("rejected")),
        (1, 20, 13)
    );
    assert_eq!(
        of("bytes"),
        of("frames_bytes") + of("partial_bytes") + of("rejected")
    );
    let report: Report = serde_json::from_value(total["probe"].clone()).expect("an audit");
    assert_eq!(report.run(RUN).expect("its run").total().unique, 101);
    drop(open);
}

fn self_test(args: &[&str]) -> Output {
    let mut command = Command::new(compare::binary());
    command.arg("self-test").args(args).stdin(Stdio::null());
    command.output().expect("it was just built")
}

/// A sink that is ready, and its address.
fn start(more: &[&str], transport: &str) -> (Running, SocketAddr) {
    let mut command = Command::new(compare::binary());
    command
        .args(["receive", "probe", "--listen=127.0.0.1:0"])
        .args(more);
    let mut sink = Running::start_command(command);
    let ready = sink.event("ready");
    assert_eq!(ready["transport"], transport);
    let listen = ready["listen"][0].as_str().expect("an address");
    let addr = listen.strip_prefix("bin:").expect("bin:IP:PORT");
    (sink, addr.parse().expect("an address"))
}

/// Its totals.
fn end(sink: Running) -> Value {
    let mut lines = sink.stop("TERM").ok().quiet().json();
    let total = lines.pop().expect("a last line");
    assert_eq!(total["event"], "total");
    total
}

/// A stamped packet of a name that nobody knows.
fn packet(generation: Generation, sequence: u64) -> Vec<u8> {
    let mut buffer = [0; 300];
    let builder = Builder::new(generation, &mut buffer, b"binrush-miss", 1, 1);
    let mut builder = builder.expect("it fits");
    builder.push_str(&[b'.'; STAMP_LEN]).expect("it fits");
    builder.push_int(7).expect("it fits");
    let mut bytes = builder.seal().to_vec();
    let parsed = Packet::parse(generation, &bytes).expect("it was just built");
    let at = place(&parsed).expect("its first field").start;
    let stamp = Stamp {
        run: RUN,
        stream: 0,
        sequence,
        intended_ns: 1,
        late_ns: Some(1),
    };
    seal(&mut bytes, at, &stamp);
    if generation == Generation::Legacy {
        let crc = crc32::checksum(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

const RUN: u16 = 4242;
