//! `binrush decode` and `binrush encode` as processes: what they print of genuine captures, and back again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};

use binrush_capture::Transport;
use binrush_tests::captures;
use binrush_wire::Generation;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::made;
use crate::process::{self, Running, Scratch, run, run_with};

/// Broken input, and what becomes of the rest.
mod damage;
/// Input made to do harm.
mod hostile;

#[test]
fn counts_per_type_are_those_of_an_independent_framing() {
    for capture in captures::ALL {
        let path = pcap(capture);
        let summary = run(&["decode", "--summary", "--json", &path]).ok().quiet();
        let [summary] = &summary.json()[..] else {
            panic!("one line")
        };
        let mut expected = BTreeMap::new();
        for framed in captures::framed(capture) {
            let kind = (
                framed.name,
                i64::from(framed.command),
                framed.version.map(i64::from),
            );
            let (packets, bytes) = expected.entry(kind).or_insert((0, 0));
            *packets += 1;
            *bytes += framed.len as u64;
        }
        let counted: BTreeMap<_, _> = summary["summary"]
            .as_array()
            .expect("a list of kinds")
            .iter()
            .map(|row| {
                assert_eq!(row["errors"], 0, "{row}");
                let name = row["name"].as_str().expect("a name").to_owned();
                let kind = (name, int(row, "type"), row["version"].as_i64());
                (kind, (count(row, "packets"), count(row, "bytes")))
            })
            .collect();
        assert_eq!(counted, expected, "{capture}");
        let total: u64 = expected.values().map(|(packets, _)| packets).sum();
        assert_eq!(count(summary, "packets"), total, "{capture}");
        for nothing in ["broken", "other_kinds", "errors"] {
            assert_eq!(summary[nothing], 0, "{capture} {nothing}");
        }
        assert_eq!(summary["capture"]["problems"], 0, "{capture}");
    }
}

#[test]
fn every_json_line_has_the_documented_keys_and_no_other() {
    let keys = |value: &Value| -> BTreeSet<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    let set =
        |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(ToString::to_string).collect() };
    let of_line = set(&[
        "n",
        "record",
        "time",
        "src",
        "dst",
        "transport",
        "generation",
        "name",
        "type",
        "type_name",
        "version",
        "length",
        "crc",
        "fields",
        "trailer",
        "error",
    ]);
    for capture in captures::ALL {
        let lines = run(&["decode", "--json", &pcap(capture)])
            .ok()
            .quiet()
            .json();
        let framed = captures::framed(capture);
        assert_eq!(lines.len(), framed.len(), "{capture}");
        for (n, (line, framed)) in lines.iter().zip(&framed).enumerate() {
            let at = format!("{capture} line {}: {line}", n + 1);
            assert_eq!(keys(line), of_line, "{at}");
            assert_eq!(count(line, "n"), n as u64 + 1, "{at}");
            assert_eq!(line["src"], framed.src.to_string(), "{at}");
            assert_eq!(line["dst"], framed.dst.to_string(), "{at}");
            assert_eq!(line["name"], framed.name, "{at}");
            assert_eq!(int(line, "type"), i64::from(framed.command), "{at}");
            assert_eq!(
                line["version"].as_i64(),
                framed.version.map(i64::from),
                "{at}"
            );
            assert_eq!(count(line, "length"), framed.len as u64, "{at}");
            assert_eq!(line["error"], Value::Null, "{at}");
            let legacy = framed.version.is_none();
            let expected = if legacy {
                ("udp", "1.x")
            } else {
                ("tcp", "2.3+")
            };
            assert_eq!(
                (text(line, "transport"), text(line, "generation")),
                expected,
                "{at}"
            );
            assert_eq!(line["crc"].as_str(), legacy.then_some("ok"), "{at}");
            for field in line["fields"].as_array().expect("a list") {
                assert_eq!(keys(field), set(&["name", "kind", "value"]), "{at}");
                let kind = text(field, "kind");
                assert!(["str", "int", "bin"].contains(&kind), "{kind}: {at}");
                assert_eq!(field["value"].is_i64(), kind == "int", "{at}");
                assert!(!text(field, "name").is_empty(), "{at}");
            }
            if !line["trailer"].is_null() {
                assert_eq!(
                    keys(&line["trailer"]),
                    set(&["cluster", "source", "dest"]),
                    "{at}"
                );
            }
        }
        let trailers = lines
            .iter()
            .filter(|line| !line["trailer"].is_null())
            .count();
        assert_eq!(trailers > 0, capture != "1.11", "{capture}");
    }
}

#[test]
fn encode_gives_every_packet_of_every_capture_back() {
    for capture in captures::ALL {
        let scratch = Scratch::new(&format!("round-trip-{capture}"));
        let decoded = run(&["decode", "--json", &pcap(capture)]).ok();
        let lines = scratch.file("packets.jsonl", &decoded.stdout);

        let file = scratch.path("packets.pcap");
        let to_file = run(&["encode", &lines, "-o", &file]).ok().quiet();
        assert_eq!(to_file.text(), "");
        let written = fs::read(&file).expect("it was written");
        let to_stdout = run_with(&["encode"], &decoded.stdout).ok().quiet();
        assert!(
            to_stdout.stdout == written,
            "{capture}: file and standard output differ"
        );

        let again = run(&["decode", "--json", &file]).ok().quiet();
        assert_eq!(again.lines().len(), decoded.lines().len(), "{capture}");
        for (again, before) in again.lines().into_iter().zip(decoded.lines()) {
            assert_eq!(without_frame(again), without_frame(before), "{capture}");
        }

        let hex = run(&["encode", "--hex", &lines]).ok().quiet();
        let frames = captures::frames(capture);
        assert_eq!(hex.lines().len(), frames.len(), "{capture}");
        for (n, (digits, frame)) in hex.lines().into_iter().zip(&frames).enumerate() {
            assert_eq!(
                captures::unhex(digits),
                frame.bytes,
                "{capture} packet {}",
                n + 1
            );
        }
    }
}

#[test]
fn name_and_type_choose_packets_and_keep_their_numbers() {
    let file = pcap("1.11");
    let all = run(&["decode", "--json", &file]).ok();
    let chosen = |name: Option<&str>, kind: Option<i64>| -> Vec<&str> {
        let wanted = |line: &&str| {
            let line = process::json(line);
            name.is_none_or(|name| line["name"] == name)
                && kind.is_none_or(|kind| line["type"] == kind)
        };
        all.lines().into_iter().filter(wanted).collect()
    };
    let cases: [(&[&str], _, _); 7] = [
        (&["--name", "ul"], chosen(Some("ul"), None), 1302),
        (&["--type", "3"], chosen(None, Some(3)), 702),
        (
            &["--name", "dialog", "--type", "2"],
            chosen(Some("dialog"), Some(2)),
            750,
        ),
        (
            &["--name", "dialog", "--type", "UPDATED"],
            chosen(Some("dialog"), Some(2)),
            750,
        ),
        (
            &["--type", "contact_delete"],
            chosen(Some("ul"), Some(5)),
            84,
        ),
        (&["--name", "ul", "--type", "CREATED"], vec![], 0),
        (&["--name", "ul", "--type", "-7"], vec![], 0),
    ];
    for (filter, expected, count) in cases {
        let args = [&["decode", "--json", &file], filter].concat();
        let shown = run(&args).ok();
        let shown = match count {
            0 => shown.says(&["none of 2591 packets"]),
            _ => shown.quiet(),
        };
        assert_eq!(expected.len(), count, "{filter:?}");
        assert!(shown.lines() == expected, "{filter:?}");
    }

    let words = run(&["decode", "--name", "dialog", "--type", "CREATED", &file])
        .ok()
        .quiet();
    let heads = words
        .lines()
        .into_iter()
        .filter(|line| line.starts_with('#'));
    let created: Vec<&str> = heads
        .filter(|line| line.contains("dialog CREATED (1)"))
        .collect();
    assert_eq!(created.len(), 299);
    let total = words
        .lines()
        .pop()
        .expect("a table")
        .split_whitespace()
        .nth(1);
    assert_eq!(total, Some("299"), "the table counts what was chosen");
}

#[test]
fn standard_input_and_gzip_make_no_difference() {
    for capture in ["1.11", "3.6"] {
        let file = fs::read(captures::pcap_path(capture)).expect("the capture is there");
        let (plain, packed) = if file.starts_with(&[0x1f, 0x8b]) {
            (unzipped(&file), file)
        } else {
            let packed = zipped(&file);
            (file, packed)
        };
        let expected = run(&["decode", "--json", &pcap(capture)]).ok().stdout;
        for input in [plain, packed] {
            let shown = run_with(&["decode", "--json", "-"], &input).ok().quiet();
            assert!(shown.stdout == expected, "{capture}");
        }
    }
}

#[test]
fn a_generation_asked_for_is_the_one_that_is_looked_for() {
    for (capture, right, wrong) in [("1.11", "1.x", "2.3+"), ("3.6", "2.3+", "1.x")] {
        let file = pcap(capture);
        let auto = run(&["decode", "--json", &file]).ok();
        let fixed = run(&["decode", "--json", "--generation", right, &file])
            .ok()
            .quiet();
        assert!(fixed.stdout == auto.stdout, "{capture}");
        let other = run(&["decode", "--json", "--generation", wrong, &file]).ok();
        assert_eq!(other.says(&["no BIN packets"]).text(), "");
    }

    // No capture of a 2.2 node exists: one is made.
    let sent = [&b"location"[..], b"alice"]
        .map(|aor| made::packet(Generation::Transitional, b"ul", 1, &[b"location", aor]));
    let capture = made::capture(Transport::Tcp, &sent);
    for generation in ["auto", "2.2"] {
        let args = ["decode", "--json", "--generation", generation, "-"];
        let lines = run_with(&args, &capture).ok().quiet().json();
        let seen: Vec<&str> = lines.iter().map(|line| text(line, "generation")).collect();
        assert_eq!(seen, ["2.2", "2.2"], "{generation}");
    }
    let args = ["decode", "--json", "--generation", "2.3+", "-"];
    let forced = run_with(&args, &capture).ok().json();
    assert!(!forced.is_empty(), "the lengths fit 2.3+ as well");
    for line in forced {
        // What the user says holds, even when it is nonsense.
        assert_eq!(text(&line, "generation"), "2.3+", "{line}");
        assert_eq!(line["type_name"], Value::Null, "{line}");
    }

    let unknown = run(&["decode", "--generation", "9", &pcap("1.11")]).exits(2);
    unknown.says(&["auto, 1.x, 2.2 or 2.3+"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let path = pcap("1.11");
    let lines = run(&["decode", "--json", &path]).ok().stdout;
    let scratch = Scratch::new("reader-leaves");
    let lines = scratch.file("packets.jsonl", &lines);
    for args in [
        &["decode", "--json", &path][..],
        &["decode", &path],
        &["encode", "--hex", &lines],
    ] {
        let mut process = Running::start(args);
        assert!(!process.line().is_empty(), "{args:?}");
        process.close_stdout();
        process.finish().ok().quiet();
    }
}

#[test]
fn memory_stays_bounded_however_long_the_capture_is() {
    let file = fs::read(captures::pcap_path("1.11")).expect("the capture is there");
    let (header, records) = file.split_at(made::PCAP_HEADER_LEN);
    let mut process = Running::start(&["decode", "--summary", "--json", "-"]);
    process.feed(header, 1);
    process.feed(records, ROUNDS);
    let kib = process.resident_max_kib();
    assert!(
        kib < 64 * 1024,
        "{kib} KiB for {} MB",
        ROUNDS * records.len() / 1_000_000
    );
    let finished = process.finish().ok().quiet();
    let packets = count(&finished.json()[0], "packets");
    assert_eq!(packets, 2591 * ROUNDS as u64);
}

/// Rounds of the 1.11 capture that make 100 MB.
const ROUNDS: usize = 140;

fn pcap(capture: &str) -> String {
    let path = captures::pcap_path(capture).into_os_string();
    path.into_string().expect("the path is text")
}

/// Which record completed a packet depends on how it was cut into records.
fn without_frame(line: &str) -> String {
    let (before, rest) = line.split_once("\"record\":").expect("it is there");
    let (_, after) = rest.split_once(',').expect("other keys follow");
    format!("{before}{after}")
}

/// The values of the fields, in order, as text.
fn values(line: &Value) -> Vec<String> {
    let fields = line["fields"].as_array().expect("a list");
    fields
        .iter()
        .map(|field| text(field, "value").to_owned())
        .collect()
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn unzipped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = vec![];
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .expect("it is gzip");
    plain
}

#[track_caller]
fn int(value: &Value, key: &str) -> i64 {
    value[key]
        .as_i64()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}

#[track_caller]
fn count(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}

#[track_caller]
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("\"{key}\" of {value}"))
}
