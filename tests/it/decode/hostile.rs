//! Lines and values from others: none of them stops `encode`, none of them reaches a terminal raw.

use binrush_capture::Transport;
use binrush_tests::captures;

use super::{pcap, values};
use crate::made;
use crate::process::{run, run_with};

#[test]
fn encode_names_bad_lines_and_writes_the_others() {
    let good: Vec<String> = [&b"alice"[..], b"bob", b"carol"]
        .map(|aor| {
            let text = str::from_utf8(aor).expect("text");
            format!(
                r#"{{"generation":"1.x","name":"ul","type":1,"fields":[{{"kind":"str","value":"location"}},{{"kind":"str","value":"{text}"}}]}}"#
            )
        })
        .into();
    let bad: [(&[u8], &str); 8] = [
        (b"{", "EOF"),
        (b"[]", "invalid"),
        (b"\xff\xfe", "expected"),
        (br#"{"generation":"9","name":"ul","type":1}"#, "1.x, 2.2 or 2.3+"),
        (br#"{"generation":"1.x","name":"ul","type":null}"#, "\"type\" is missing"),
        (
            br#"{"generation":"1.x","name":"ul","type":1,"fields":[{"name":"aor","kind":"bin","value":"0"}]}"#,
            "field 1 \"aor\": an odd number",
        ),
        (
            br#"{"generation":"1.x","name":"ul","type":1,"src":"10.0.0.1:1","dst":"[::1]:1"}"#,
            "same IP version",
        ),
        (br#"{"generation":"1.x","name":"ul","type":1,"time":"soon"}"#, "\"time\": \"soon\""),
    ];
    for (bad, word) in bad {
        let mut input = Vec::new();
        for (i, line) in [
            good[0].as_bytes(),
            bad,
            b"",
            good[1].as_bytes(),
            bad,
            good[2].as_bytes(),
        ]
        .into_iter()
        .enumerate()
        {
            input.extend(line);
            // The last line may end without one.
            input.extend(if i < 5 { &b"\n"[..] } else { b"" });
        }
        let written = run_with(&["encode"], &input).exits(1);
        let written = written.says(&[
            "line 2: ",
            "line 5: ",
            word,
            "2 lines were left out, 3 became",
        ]);
        assert!(
            !written.stderr.contains("line 3: "),
            "an empty line is no error"
        );
        let read = run_with(&["decode", "--json", "-"], &written.stdout)
            .ok()
            .quiet();
        let aors: Vec<String> = read
            .json()
            .iter()
            .map(|line| values(line)[1].clone())
            .collect();
        assert_eq!(aors, ["alice", "bob", "carol"], "{word}");
    }
    run(&["encode", "/nowhere/packets.jsonl"])
        .exits(1)
        .says(&["cannot open /nowhere"]);
    let nowhere = run_with(
        &["encode", "-o", "/nowhere/packets.pcap"],
        good[0].as_bytes(),
    )
    .exits(1);
    nowhere.says(&["cannot create /nowhere"]);
}

#[test]
fn control_characters_never_reach_the_terminal_raw() {
    for args in [&["decode", "-"][..], &["decode", "--summary", "-"]] {
        let shown = run_with(args, &hostile()).ok();
        harmless(shown.text());
        harmless(&shown.stderr);
    }
}

/// JSON escapes only what is below 0x20 by itself; terminals obey more than that.
#[test]
fn json_lines_have_no_raw_control_characters_either() {
    for args in [
        &["decode", "--json", "-"][..],
        &["decode", "--summary", "--json", "-"],
    ] {
        let shown = run_with(args, &hostile()).ok();
        harmless(shown.text());
        harmless(&shown.stderr);
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said_without_control_characters() {
    let escaped = r"\u001b[31m";
    for line in [
        format!(r#"{{"generation":"{escaped}","name":"ul","type":1}}"#),
        format!(r#"{{"generation":"1.x","name":"ul","type":1,"time":"{escaped}"}}"#),
        format!(
            r#"{{"generation":"1.x","name":"ul","type":1,"fields":[{{"name":"{escaped}","kind":"bin","value":"0"}}]}}"#
        ),
        format!(r#"{{"generation":"1.x","name":"ul","type":1,"fields":[{{"kind":"{escaped}"}}]}}"#),
        format!(r#"{{"generation":"1.x","name":"ul","type":"{escaped}"}}"#),
    ] {
        let refused = run_with(&["encode"], line.as_bytes()).exits(1);
        harmless(&refused.says(&["line 1: "]).stderr);
    }
}

/// A capture full of what a terminal would obey: colour, window title, carriage return, bell, backspace,
/// delete, and the 8-bit CSI as UTF-8 and alone.
fn hostile() -> Vec<u8> {
    let nasty = b"\x1b[31m\x1b]0;t\x07\r\x08\x7f\xc2\x9b31m";
    let broken = [nasty, &b"\x9b\xff"[..]].concat();
    let frames = [
        made::legacy(b"ul", 1, &[nasty, b"alice"]),
        made::legacy(b"ul", 1, &[b"location", &broken]),
        made::legacy(nasty, 1, &[nasty]),
        made::legacy(&broken, 1, &[]),
    ];
    let mut capture = made::capture(Transport::Udp, &frames);
    // And a record that makes no sense.
    capture.extend(nasty);
    capture
}

#[test]
fn a_genuine_capture_is_shown_without_warnings() {
    for capture in captures::ALL {
        let words = run(&["decode", &pcap(capture)]).ok().quiet();
        assert!(!words.text().contains("ERROR"), "{capture}");
        assert!(!words.text().contains("unread"), "{capture}");
        // Values in it hold raw 8-bit bytes and newlines.
        harmless(words.text());
    }
}

#[track_caller]
fn harmless(text: &str) {
    let raw = text.chars().find(|c| c.is_control() && *c != '\n');
    assert!(raw.is_none(), "{raw:?} in {text:?}");
}
