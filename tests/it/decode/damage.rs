//! Damaged captures and packets: what is wrong is named, and everything else is still there.

use std::fs;

use binrush_capture::Transport;
use binrush_tests::captures;
use binrush_wire::Generation;
use serde_json::Value;

use super::{count, text, unzipped, values, without_frame, zipped};
use crate::made;
use crate::process::{Finished, Scratch, run, run_with};

#[test]
fn what_is_no_capture_is_refused_in_words() {
    let scratch = Scratch::new("no-capture");
    let file = |bytes: &[u8]| scratch.file("it", bytes);
    let decode = |path: String| run(&["decode", "--json", &path]).exits(1);
    decode(file(b"")).says(&["error: cannot read ", "empty"]);
    decode(file(b"P4C")).says(&["3 of 4 bytes"]);
    decode(file(b"listen = bin:127.0.0.1:5566\n")).says(&["not a pcap or pcapng"]);
    decode(scratch.path("missing")).says(&["cannot open ", "missing"]);
    let cut_header = &made::capture::<&[u8]>(Transport::Udp, &[])[..23];
    decode(file(cut_header)).says(&["23 of 24 bytes"]);
    assert_eq!(
        run(&["decode", &scratch.path("missing")]).exits(1).text(),
        ""
    );

    // A capture without BIN is a capture.
    let none = made::capture::<&[u8]>(Transport::Udp, &[]);
    let none = run_with(&["decode", "--json", "-"], &none).ok();
    assert_eq!(none.says(&["no BIN packets in 0 records"]).text(), "");
}

#[test]
fn a_capture_cut_anywhere_is_decoded_up_to_the_cut() {
    let file = fs::read(captures::pcap_path("1.11")).expect("the capture is there");
    let offsets = made::record_offsets(&file);
    let file = &file[..offsets[6]];
    let whole = run_with(&["decode", "--json", "-"], file).ok().quiet();
    let whole = whole.lines();
    assert_eq!(whole.len(), 6);

    let around = offsets[..6]
        .iter()
        .flat_map(|at| [at + 1, at + 15, at + 16, at + 17, at + 60]);
    let ends = offsets[1..=6].iter().flat_map(|at| [at - 1, *at]);
    for cut in around.chain(ends) {
        let before = offsets[1..].iter().filter(|end| **end <= cut).count();
        let at_record = offsets.contains(&cut);
        let shown = run_with(&["decode", "--json", "-"], &file[..cut]);
        // With not one packet read there is nothing that could be called a success.
        let shown = shown.exits(i32::from(before == 0));
        assert_eq!(shown.lines(), whole[..before], "cut at {cut}");
        if at_record {
            shown.quiet();
        } else {
            let place = format!("record {}, file offset {}: ", before + 1, offsets[before]);
            shown.says(&["warning: ", &place, "ends inside a record"]);
        }
    }
}

#[test]
fn a_tcp_capture_and_a_gzip_cut_anywhere_are_decoded_up_to_the_cut() {
    let packed = fs::read(captures::pcap_path("3.6")).expect("the capture is there");
    let plain = unzipped(&packed);
    let whole = run_with(&["decode", "--json", "-"], &plain).ok().quiet();
    let whole = whole.lines();
    let mut longest = 0;
    for eighth in 1..8 {
        for file in [
            &plain[..plain.len() * eighth / 8 + 3],
            &packed[..packed.len() * eighth / 8],
        ] {
            let shown = run_with(&["decode", "--json", "-"], file).ok();
            let lines = shown.lines();
            assert!(lines.len() < whole.len() && lines.len() + 100 > whole.len() * eighth / 8 / 2);
            assert_eq!(lines, whole[..lines.len()], "{eighth}/8");
            longest = longest.max(lines.len());
            shown.says(&["warning: record "]);
        }
    }
    assert!(longest > whole.len() / 2, "{longest} of {}", whole.len());

    let gone = zipped(&plain);
    let gone = run_with(&["decode", "--json", "-"], &gone[..gone.len() - 4]).ok();
    assert_eq!(gone.lines(), whole, "only the checksum of the gzip is cut");
    gone.says(&["warning: record "]);
}

#[test]
fn an_unknown_link_type_costs_only_its_own_packets() {
    let good = made::capture(Transport::Udp, &three());
    let expected = run_with(&["decode", "--json", "-"], &good).ok().quiet();
    let shown = run_with(&["decode", "--json", "-"], &made::with_unknown_link(&good)).ok();
    let (expected, lines) = (expected.json(), shown.json());
    assert_eq!(lines.len(), 3);
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line["fields"], expected["fields"]);
        assert_eq!(line["error"], Value::Null);
    }
    assert_eq!(
        shown.stderr.matches("link type 147").count(),
        1,
        "{}",
        shown.stderr
    );
}

#[test]
fn a_wrong_checksum_is_said_and_the_fields_are_still_shown() {
    let mut frames = three();
    let at = frames[1].len() - 2;
    frames[1][at] ^= 0x20;
    let (shown, lines) = there_and_back(Transport::Udp, &frames);
    assert_eq!(crcs(&lines), ["ok", "bad", "ok"]);
    let bad = &lines[1];
    assert_eq!(values(bad), ["location", "bOb"]);
    assert!(text(bad, "error").starts_with("bad_crc: ") && text(bad, "error").contains("offset 4"));
    assert_eq!(captures::unhex(text(bad, "bytes")), frames[1]);
    for good in [&lines[0], &lines[2]] {
        assert!(
            good.get("bytes").is_none() && good["error"].is_null(),
            "{good}"
        );
    }
    shown.quiet();

    let file = made::capture(Transport::Udp, &frames);
    let words = run_with(&["decode", "-"], &file).ok().quiet();
    for word in [
        "crc BAD",
        "aor     \"bOb\"",
        "ERROR bad_crc: ",
        "AOR_INSERT",
    ] {
        assert!(words.text().contains(word), "no {word} in {}", words.text());
    }
}

#[test]
fn a_field_that_lies_is_named_and_the_rest_kept_raw() {
    let mut frames = three();
    // The length of the second string: 12 bytes of it are claimed, 3 are there.
    let at = frames[1].len() - 7;
    frames[1] = made::changed(frames[1].clone(), |packet| packet[at] = 12);
    let (_, lines) = there_and_back(Transport::Udp, &frames);
    let bad = &lines[1];
    assert_eq!(crcs(&lines), ["ok", "ok", "ok"]);
    assert_eq!(text(bad, "type_name"), "AOR_INSERT");
    let error = text(bad, "error");
    assert!(error.starts_with("field_past_end: "), "{error}");
    assert!(error.contains(&format!("offset {at}")), "{error}");
    let fields = bad["fields"].as_array().expect("a list");
    assert_eq!(fields[0]["value"], "location");
    assert_eq!(
        (text(&fields[1], "name"), text(&fields[1], "kind")),
        ("unread", "raw")
    );
    assert_eq!(text(&fields[1], "value"), "0c000000626f62");
    assert!(bad.get("bytes").is_none(), "{bad}");

    let missing = vec![made::packet(
        Generation::Modern,
        b"usrloc-contact-repl",
        1,
        &[b"location"],
    )];
    let (_, lines) = there_and_back(Transport::Tcp, &missing);
    assert!(
        !lines[0]["error"].is_null() && !lines[0]["trailer"].is_null(),
        "{}",
        lines[0]
    );
}

#[test]
fn unknown_names_and_commands_are_shown_raw_and_come_back() {
    let frames = [
        made::legacy(b"ratelimit", 7, &[b"pipe", b"\x00\xff"]),
        made::legacy(b"dialog", -3, &[b"call-1"]),
        made::legacy(b"\xff\xfe\x00", 1, &[b"x"]),
    ];
    let (shown, lines) = there_and_back(Transport::Udp, &frames);
    shown.quiet();
    assert_eq!(
        lines[0]["error"],
        Value::Null,
        "an unknown name is no error"
    );
    assert!(
        text(&lines[1], "error").starts_with("unknown_command"),
        "{}",
        lines[1]
    );
    assert_eq!(text(&lines[2], "name_hex"), "fffe00");
    for line in &lines {
        assert_eq!(line["fields"][0]["kind"], "raw", "{line}");
        assert_eq!(line["type_name"], Value::Null, "{line}");
    }
}

#[test]
fn a_broken_header_is_kept_byte_by_byte() {
    let good = three();
    let name_length = |len: i32| {
        made::changed(good[0].clone(), |packet| {
            packet[8..12].copy_from_slice(&len.to_le_bytes())
        })
    };
    let cases = [
        (name_length(-1), "bad_name_length"),
        (name_length(1000), "bad_name_length"),
        (good[0][..17].to_vec(), "too_short"),
        (b"P4CK".to_vec(), "too_short"),
    ];
    // Where BIN went before, a datagram without marker is BIN gone wrong.
    let other = (
        b"REGISTER sip:example.org SIP/2.0\r\n".to_vec(),
        "bad_marker",
    );
    for (frame, symbol) in cases.into_iter().chain([other]) {
        let frames = [good[0].clone(), frame, good[2].clone()];
        let (_, lines) = there_and_back(Transport::Udp, &frames);
        let bad = &lines[1];
        assert!(text(bad, "error").starts_with(symbol), "{bad}");
        assert_eq!(captures::unhex(text(bad, "bytes")), frames[1]);
        assert_eq!((&bad["type"], text(bad, "name")), (&Value::Null, ""));
        assert_eq!(values(&lines[2]), ["location", "carol"]);
    }

    // Nothing but that: nothing could be read.
    let file = made::capture(Transport::Udp, &[name_length(-1)]);
    let shown = run_with(&["decode", "--json", "-"], &file).exits(1);
    assert_eq!(shown.lines().len(), 1);
}

/// The lengths that a frame in the middle of a stream claims, and which frames are lost by it.
#[test]
fn a_tcp_length_that_lies_costs_the_frames_it_covers_and_no_other() {
    let aors = [&b"a0"[..], b"b1", b"c2", b"d3", b"e4", b"f5"];
    let frames = aors.map(|aor| {
        made::packet(
            Generation::Modern,
            b"usrloc-contact-repl",
            1,
            &[b"location", aor],
        )
    });
    let len = u32::try_from(frames[2].len()).expect("small");
    let cases: [(u32, &[&str], &str); 6] = [
        (0, &["c2"], "length_below_minimum"),
        (16, &["c2"], "length_below_minimum"),
        (70_000, &["c2"], "length_above_maximum"),
        (u32::MAX, &["c2"], "length_above_maximum"),
        (len - 5, &["c2"], "bad_marker"),
        (len + 10, &["c2", "d3"], "bad_marker"),
    ];
    for (claimed, lost, symbol) in cases {
        let mut sent = frames.clone();
        sent[2][4..8].copy_from_slice(&claimed.to_le_bytes());
        let capture = made::capture(Transport::Tcp, &sent);
        let shown = run_with(&["decode", "--json", "-"], &capture).ok();
        let lines = shown.json();
        let whole: Vec<&str> = lines
            .iter()
            .filter(|line| line["error"].is_null())
            .map(|line| text(&line["fields"][1], "value"))
            .collect();
        let expected: Vec<&str> = aors
            .map(|aor| str::from_utf8(aor).expect("text"))
            .into_iter()
            .filter(|aor| !lost.contains(aor))
            .collect();
        assert_eq!(whole, expected, "length {claimed}");
        shown.says(&["no frame can begin here: ", symbol, "stream offset "]);
    }
}

/// Three AoRs as 1.x packets.
fn three() -> Vec<Vec<u8>> {
    let aors = [&b"alice"[..], b"bob", b"carol"];
    aors.map(|aor| made::legacy(b"ul", 1, &[b"location", aor]))
        .into()
}

/// Decodes a capture of `frames`, and asserts that `encode` makes the very same bytes of the lines again.
fn there_and_back(transport: Transport, frames: &[Vec<u8>]) -> (Finished, Vec<Value>) {
    let capture = made::capture(transport, frames);
    let shown = run_with(&["decode", "--json", "-"], &capture).ok();
    let lines = shown.json();
    assert_eq!(lines.len(), frames.len(), "{}", shown.text());
    for (line, frame) in lines.iter().zip(frames) {
        assert_eq!(count(line, "length"), frame.len() as u64, "{line}");
    }
    let hex = run_with(&["encode", "--hex"], &shown.stdout).ok().quiet();
    let bytes: Vec<Vec<u8>> = hex.lines().into_iter().map(captures::unhex).collect();
    assert_eq!(bytes, frames);

    let again = run_with(&["encode"], &shown.stdout).ok().quiet();
    let again = run_with(&["decode", "--json", "-"], &again.stdout).ok();
    let apart_from_frame = |text: &str| text.lines().map(without_frame).collect::<Vec<_>>();
    assert_eq!(
        apart_from_frame(again.text()),
        apart_from_frame(shown.text())
    );
    (shown, lines)
}

fn crcs(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| text(line, "crc")).collect()
}
