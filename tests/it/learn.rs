//! `binrush-bench learn` as a process: what it says, and where.

use std::process::{Command, Output};

use crate::compare;
use crate::process::Scratch;

const CAPTURE: &[u8] = include_bytes!("../captures/opensips-1.11.pcap");

fn learn(path: &str) -> Output {
    let mut command = Command::new(compare::binary());
    command.args(["learn", path]);
    command.output().expect("it was just built")
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("it is text")
}

#[test]
fn a_scenario_is_learned_from_a_capture_and_named_after_it() {
    let scratch = Scratch::new("learn");
    let output = learn(&scratch.file("evening.pcap", CAPTURE));
    assert_eq!(
        (output.status.code(), text(output.stderr).as_str()),
        (Some(0), "")
    );
    let scenario = text(output.stdout);
    assert!(
        scenario.starts_with("# Learned from 2591 BIN packets"),
        "{scenario}"
    );
    for line in [
        "\nname = \"evening\"\n",
        "\n[dialogs]\n",
        "\n[contacts]\n",
        "\nupdates = 2.508\n",
    ] {
        assert!(scenario.contains(line), "no {line:?} in {scenario}");
    }
}

#[test]
fn of_a_capture_that_is_cut_off_the_rest_is_used_and_both_outputs_say_so() {
    let scratch = Scratch::new("learn-cut");
    let output = learn(&scratch.file("cut.pcap", &CAPTURE[..500_000]));
    assert_eq!(output.status.code(), Some(0));
    let said = text(output.stderr);
    assert!(said.contains("the file ends inside a record"), "{said}");
    assert!(said.contains("warning: problems in"), "{said}");
    let scenario = text(output.stdout);
    assert!(scenario.contains("\n# WARNING: "), "{scenario}");
    assert!(scenario.contains("\n[dialogs]\n"), "{scenario}");
}

#[test]
fn nothing_to_learn_from_is_exit_code_two_and_no_scenario() {
    let scratch = Scratch::new("learn-nothing");
    for (file, words) in [
        (scratch.file("empty.pcap", b""), "the capture is empty"),
        (
            scratch.file("text.pcap", b"name = \"miss\"\n"),
            "not a pcap or pcapng capture",
        ),
        (
            scratch.file("head.pcap", &CAPTURE[..24]),
            "no packets of dialogs or contacts",
        ),
        (scratch.path("missing.pcap"), "cannot open"),
    ] {
        let output = learn(&file);
        assert_eq!(output.status.code(), Some(2), "{file}");
        let said = text(output.stderr);
        assert!(
            said.starts_with("error: ") && said.contains(words),
            "{said}"
        );
        assert!(output.stdout.is_empty(), "{file}");
    }
}
