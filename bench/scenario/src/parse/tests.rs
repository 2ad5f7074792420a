//! Texts, what they mean, and how they are refused.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::builtin::BUILTIN;
use crate::scenario::{Durations, Keys, Kind, Popularity, Sizes, Step};

#[track_caller]
fn read(text: &str) -> Scenario {
    Scenario::parse(text, "a.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// What is told about `text`.
#[track_caller]
fn told(text: &str) -> String {
    Scenario::parse(text, "a.toml").expect_err(text).to_string()
}

/// Asserts that the only problem of `text` is told like this, its place and all.
#[track_caller]
fn refused(text: &str, expected: &str) {
    assert_eq!(told(text), expected);
}

/// Asserts that a scenario is refused because of `line` at its end, with `expected` behind the line's number.
#[track_caller]
fn refused_line(before: &str, line: &str, expected: &str) {
    let text = format!("name = \"a\"\n{before}{line}");
    let number = text.lines().count();
    let told = told(&text);
    let (message, shown) = told.split_once('\n').expect("the line is shown");
    assert_eq!(message, format!("a.toml:{number}:{expected}"));
    assert!(shown.starts_with(&format!("  {line}\n")), "{told}");
}

/// A part, so that nothing else is missing.
const MISS: &str = "[miss]\npopulation = 1\n";

#[test]
fn a_scenario_of_three_lines_has_defaults_for_the_rest() {
    let keys = Keys {
        population: 1,
        popularity: Popularity::Uniform,
    };
    let part = Part {
        share: 1.0,
        sizes: Sizes::Natural,
        kind: Kind::Miss {
            name: "binrush-miss".into(),
            keys,
        },
    };
    let expected = Scenario {
        name: "a".into(),
        description: String::new(),
        form: Form::Datagrams,
        seed: 1,
        parts: vec![part],
        arrivals: Arrivals::Constant,
    };
    assert_eq!(read(&format!("name = \"a\"\n{MISS}")), expected);
}

#[test]
fn each_value_may_have_each_of_its_shapes() {
    let sizes = |size: &str| {
        let text = format!("name = \"a\"\n{MISS}size = {size}");
        read(&text).parts.remove(0).sizes
    };
    assert_eq!(sizes("\"natural\""), Sizes::Natural);
    assert_eq!(sizes("64"), Sizes::Fixed(64));
    let uniform = Sizes::Uniform {
        min: 64,
        max: 65_000,
    };
    assert_eq!(sizes("{ min = 64, max = 65_000 }"), uniform);
    let table = Sizes::Table(vec![(100, 1.0), (200, 0.5)]);
    assert_eq!(sizes("{ table = [[100, 1], [0xC8, 5e-1]] }"), table);

    let durations = |duration: &str| {
        let text = format!("name = \"a\"\n[dialogs]\nduration = {duration}");
        match read(&text).parts.remove(0).kind {
            Kind::Dialogs { duration, .. } => duration,
            other => panic!("{other:?}"),
        }
    };
    let seconds = Duration::from_secs;
    assert_eq!(
        durations("{ fixed = '1m 30s' }"),
        Durations::Fixed(seconds(90))
    );
    let mean = seconds(3_600);
    assert_eq!(
        durations("{ exponential = '1h' }"),
        Durations::Exponential { mean }
    );
    let median = Duration::from_millis(1_500);
    let log_normal = Durations::LogNormal { median, sigma: 1.0 };
    assert_eq!(durations("{ median = '1.5s', sigma = 1 }"), log_normal);
    let table = Durations::Table(vec![(seconds(1), 1.0), (seconds(86_400), 2.0)]);
    assert_eq!(durations("{ table = [['1s', 1], ['24h', 2]] }"), table);
}

#[test]
fn arrivals_may_have_each_of_their_kinds() {
    let arrivals = |text: &str| read(&format!("name = \"a\"\n{MISS}[arrivals]\n{text}")).arrivals;
    assert_eq!(arrivals("kind = 'constant'"), Arrivals::Constant);
    assert_eq!(arrivals("kind = 'poisson'"), Arrivals::Poisson);
    let captured = Arrivals::Captured(vec![0.0, 3.0, 0.5]);
    assert_eq!(arrivals("kind = 'captured'\ngaps = [0, 3, 0.5]"), captured);
    let step = |ms, factor| Step {
        duration: Duration::from_millis(ms),
        factor,
    };
    let steps = Arrivals::Steps(vec![step(1_000, 0.0), step(1, 2.5)]);
    let text =
        "kind = 'steps'\nsteps = [{ seconds = 1, factor = 0 }, { seconds = 0.001, factor = 2.5 }]";
    assert_eq!(arrivals(text), steps);
}

#[test]
fn every_form_is_one_and_tcp_forms_take_the_ids_of_the_trailer() {
    for (name, release) in &FORMS[1..] {
        let text = format!(
            "name = \"a\"\nform = \"{name}\"\n[cluster]\nid = 7\nsource = 8\ndestination = 2147483647\n{MISS}"
        );
        let expected = Form::Frames {
            release: *release,
            cluster: 7,
            source: 8,
            destination: i32::MAX,
        };
        assert_eq!(read(&text).form, expected);
    }
}

#[test]
fn shares_are_scaled_to_one_and_parts_keep_their_order() {
    let text = "name = \"a\"\n[[miss]]\npopulation = 1\nshare = 1\n[contacts]\npopulation = 2\nshare = 2\n\
                [[miss]]\npopulation = 3\n";
    let found: Vec<(f64, u64)> = read(text)
        .parts
        .iter()
        .map(|part| match part.kind {
            Kind::Miss { keys, .. } | Kind::Contacts { keys, .. } => (part.share, keys.population),
            Kind::Dialogs { .. } => panic!("none of these"),
        })
        .collect();
    assert_eq!(found, [(0.25, 1), (0.5, 2), (0.25, 3)]);
}

#[test]
fn the_largest_seed_is_one() {
    let text = format!("name = \"a\"\nseed = 18446744073709551615\n{MISS}");
    assert_eq!(read(&text).seed, u64::MAX);
}

#[test]
fn a_byte_order_mark_moves_no_column() {
    let text = format!("\u{feff}nme = \"a\"\n{MISS}");
    assert!(told(&text).contains("a.toml:1:1: unknown key \"nme\""));
    read(&text.replacen("nme", "name", 1));
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_one_and_shown() {
    refused(
        "name = \"a\"\n[contacts]\npopulaton = 10\npopulation = 10\n",
        "a.toml:3:1: unknown key \"populaton\" in contacts; did you mean \"population\"?\n  populaton = 10\n  ^^^^^^^^^",
    );
}

#[test]
fn unknown_keys_are_told_wherever_they_stand() {
    for (before, line, expected) in [
        (
            "",
            "sead = 1",
            "1: unknown key \"sead\"; did you mean \"seed\"?",
        ),
        (
            "",
            "xyz = 1",
            "1: unknown key \"xyz\": name, description, form, seed, cluster, arrivals, miss, contacts or dialogs expected",
        ),
        (
            "",
            "[dialog]",
            "2: unknown key \"dialog\"; did you mean \"dialogs\"?",
        ),
        (
            "[miss]\npopulation = 1\n",
            "seed = 1",
            "1: unknown key \"seed\" in miss; it belongs before the first [table]",
        ),
        (
            "[miss]\npopulation = 1\n",
            "register = 1",
            "1: unknown key \"register\" in miss: share, name, population, popularity or size expected",
        ),
        (
            "[miss]\npopulation = 1\n",
            "popularity = { zipf = 1, exponent = 1 }",
            "26: unknown key \"exponent\" in popularity: zipf expected",
        ),
        (
            "[miss]\npopulation = 1\n",
            "size = { min = 100, max = 200, maxi = 3 }",
            "32: unknown key \"maxi\" in size; did you mean \"max\"?",
        ),
        (
            "[miss]\npopulation = 1\n[arrivals]\nkind = \"steps\"\n",
            "steps = [{ second = 1, seconds = 1, factor = 1 }]",
            "12: unknown key \"second\" in steps; did you mean \"seconds\"?",
        ),
    ] {
        let before = match before {
            "" => "miss = { population = 1 }\n",
            before => before,
        };
        refused_line(before, line, expected);
    }
}

#[test]
fn a_value_outside_of_its_range_is_told_with_the_range() {
    for (line, expected) in [
        (
            "population = 0",
            "14: population: a whole number from 1 to 16777216 records expected, not 0",
        ),
        (
            "population = 16777217",
            "14: population: a whole number from 1 to 16777216 records expected, not 16777217",
        ),
        (
            "population = -1",
            "14: population: a whole number from 1 to 16777216 records expected, not -1",
        ),
        (
            "population = 1.5",
            "14: population: a whole number from 1 to 16777216 records expected, not 1.5",
        ),
        (
            "population = \"10\"",
            "14: population: a whole number from 1 to 16777216 records expected, not \"10\"",
        ),
        (
            "population = 99999999999999999999",
            "14: population: a whole number from 1 to 16777216 records expected, not 99999999999999999999",
        ),
    ] {
        refused_line("[contacts]\n", line, expected);
    }
    for (line, expected) in [
        (
            "share = 0",
            "9: share: a number from 0.000000001 to 1000000000 expected, not 0",
        ),
        (
            "share = nan",
            "9: share: a number from 0.000000001 to 1000000000 expected, not nan",
        ),
        (
            "share = true",
            "9: share: a number from 0.000000001 to 1000000000 expected, not true",
        ),
        (
            "name = \"ul\"",
            "8: name: 1 to 64 printable ASCII characters without spaces, and none of the names whose packets have layouts of their own (dialog, ul, dialog-dlg-repl, usrloc-contact-repl, binrush-probe) expected, not \"ul\"",
        ),
        (
            "popularity = \"zipf\"",
            "14: popularity: \"uniform\" or { zipf = 1.0 } expected, not \"zipf\"",
        ),
        (
            "popularity = { }",
            "14: zipf is missing: \"uniform\" or { zipf = 1.0 } expected",
        ),
        (
            "popularity = { zipf = 0 }",
            "23: zipf: a number from 0.01 to 10 expected, not 0",
        ),
        (
            "popularity = { zipf = inf }",
            "23: zipf: a number from 0.01 to 10 expected, not inf",
        ),
        (
            "size = 63",
            "8: size: a whole number from 64 to 65000 bytes expected, not 63",
        ),
        (
            "size = 65001",
            "8: size: a whole number from 64 to 65000 bytes expected, not 65001",
        ),
        (
            "size = \"small\"",
            "8: size: \"natural\", a number of bytes, { min = 200, max = 600 } or { table = [[300, 0.5], [420, 0.5]] } expected, not \"small\"",
        ),
        (
            "size = 1979-05-27",
            "8: size: \"natural\", a number of bytes, { min = 200, max = 600 } or { table = [[300, 0.5], [420, 0.5]] } expected, not a date",
        ),
        (
            "size = { min = 300 }",
            "8: max is missing: \"natural\", a number of bytes, { min = 200, max = 600 } or { table = [[300, 0.5], [420, 0.5]] } expected",
        ),
        (
            "size = { min = 300, max = 299 }",
            "27: max: a size from min, 300 bytes, expected, not 299",
        ),
        (
            "size = { min = 300, table = [[300, 1]] }",
            "16: min does not go with table: one of them expected",
        ),
        (
            "size = { table = [] }",
            "18: table: 1 to 4096 rows expected, not 0",
        ),
        (
            "size = { table = 300 }",
            "18: table: an array expected, not 300",
        ),
        (
            "size = { table = [300] }",
            "19: table: a size with its weight such as [300, 0.5] expected, not 300",
        ),
        (
            "size = { table = [[300]] }",
            "19: table: a size with its weight such as [300, 0.5] expected, not 1 values",
        ),
        (
            "size = { table = [[30, 1]] }",
            "20: table: a whole number from 64 to 65000 bytes expected, not 30",
        ),
        (
            "size = { table = [[300, 0]] }",
            "25: weight: a number from 0.000000001 to 1000000000 expected, not 0",
        ),
    ] {
        refused_line("[miss]\npopulation = 1\n", line, expected);
    }
}

#[test]
fn a_duration_that_is_none_is_told_with_what_is_one() {
    const SHAPES: &str = "{ fixed = \"3s\" }, { exponential = \"3s\" }, { median = \"3s\", sigma = 1.0 } or { table = [[\"3s\", 0.5], [\"9s\", 0.5]] }";
    const TIME: &str = "a duration from 1ms to 24h such as \"250ms\" or \"1m 30s\" expected";
    for (line, expected) in [
        (
            "duration = \"3s\"",
            format!("12: duration: {SHAPES} expected, not \"3s\""),
        ),
        ("duration = { }", format!("12: duration: {SHAPES} expected")),
        (
            "duration = { sigma = 1 }",
            format!("12: duration: {SHAPES} expected"),
        ),
        (
            "duration = { fixed = 3 }",
            format!("22: fixed: {TIME}, not 3"),
        ),
        (
            "duration = { fixed = \"3\" }",
            format!("22: fixed: {TIME}, not \"3\""),
        ),
        (
            "duration = { fixed = \"-3s\" }",
            format!("22: fixed: {TIME}, not \"-3s\""),
        ),
        (
            "duration = { fixed = \"\" }",
            format!("22: fixed: {TIME}, not \"\""),
        ),
        (
            "duration = { fixed = \"999us\" }",
            format!("22: fixed: {TIME}, not \"999us\""),
        ),
        (
            "duration = { fixed = \"24h 1ms\" }",
            format!("22: fixed: {TIME}, not \"24h 1ms\""),
        ),
        (
            "duration = { fixed = \"18446744073709551615s 18446744073709551615s\" }",
            format!("22: fixed: {TIME}, not \"18446744073709551615s 18446744073709551615s\""),
        ),
        (
            "duration = { exponential = \"1d\" , fixed = \"1s\" }",
            "28: exponential does not go with fixed: one of them expected".to_owned(),
        ),
        (
            "duration = { fixed = \"1s\", sigma = 1 }",
            "36: sigma does not go with fixed: one of them expected".to_owned(),
        ),
        (
            "duration = { median = \"1s\" }",
            format!("12: sigma is missing: {SHAPES} expected"),
        ),
        (
            "duration = { median = \"1s\", sigma = 9 }",
            "37: sigma: a number from 0.01 to 5 expected, not 9".to_owned(),
        ),
        (
            "duration = { table = [[1, 1]] }",
            format!("24: table: {TIME}, not 1"),
        ),
        (
            "updates = 1001",
            "11: updates: a number from 0 to 1000 per dialog expected, not 1001".to_owned(),
        ),
    ] {
        let before = match line.starts_with("updates") {
            true => "[dialogs]\nduration = { fixed = \"1s\" }\n",
            false => "[dialogs]\n",
        };
        refused_line(before, line, &expected);
    }
}

#[test]
fn arrivals_that_are_none_are_told() {
    for (before, line, expected) in [
        (
            "",
            "kind = \"posson\"",
            "8: kind: \"constant\", \"poisson\", \"captured\" or \"steps\" expected, not \"posson\"; did you mean \"poisson\"?",
        ),
        (
            "",
            "kind = 1",
            "8: kind: \"constant\", \"poisson\", \"captured\" or \"steps\" expected, not 1",
        ),
        (
            "kind = \"poisson\"\n",
            "gaps = [1]",
            "8: gaps: kind = \"captured\" expected with it",
        ),
        (
            "kind = \"captured\"\n",
            "gaps = []",
            "8: gaps: 1 to 65536 gaps expected, not 0",
        ),
        (
            "kind = \"captured\"\n",
            "gaps = [0, 0.0]",
            "8: gaps: at least one above 0 expected",
        ),
        (
            "kind = \"captured\"\n",
            "gaps = [1, -1]",
            "12: gaps: a number from 0 to 1000000000 expected, not -1",
        ),
        (
            "kind = \"steps\"\n",
            "steps = [{ seconds = 1 }]",
            "10: factor is missing: a number from 0 to 1000 expected",
        ),
        (
            "kind = \"steps\"\n",
            "steps = [{ seconds = 0, factor = 1 }]",
            "22: seconds: a number from 0.001 to 86400 expected, not 0",
        ),
        (
            "kind = \"steps\"\n",
            "steps = [{ seconds = 1, factor = 0 }]",
            "9: steps: at least one factor above 0 expected",
        ),
        (
            "kind = \"steps\"\n",
            "steps = [1]",
            "10: steps: a table expected, not 1",
        ),
    ] {
        let before = format!("{MISS}[arrivals]\n{before}");
        refused_line(&before, line, expected);
    }
    refused(
        &format!("name = \"a\"\n{MISS}[arrivals]\n"),
        "a.toml:4:1: kind is missing: a string such as \"poisson\" expected\n  [arrivals]\n  ^^^^^^^^^^",
    );
    refused(
        &format!("name = \"a\"\n{MISS}[arrivals]\nkind = \"captured\"\n"),
        "a.toml:4:1: gaps is missing: an array such as [0.2, 1.8] expected\n  [arrivals]\n  ^^^^^^^^^^",
    );
}

#[test]
fn a_form_and_its_ids_go_together() {
    let cluster = "[cluster]\nid = 1\nsource = 2\n";
    refused(
        &format!("name = \"a\"\n{MISS}{cluster}destination = 3\n"),
        "a.toml:4:1: packets of form \"1.x\" have no trailer for these ids: a form from \"2.4\" to \"4.0\" expected with [cluster], or no [cluster]\n  [cluster]\n  ^^^^^^^^^",
    );
    refused(
        &format!("form = \"3.6\"\nname = \"a\"\n{MISS}"),
        "a.toml:1:1: [cluster] is missing: a table with id, source and destination for the trailer of each packet expected\n  form = \"3.6\"\n  ^",
    );
    refused(
        &format!("name = \"a\"\nform = \"3.6\"\n{MISS}{cluster}"),
        "a.toml:5:1: destination is missing: a number from 1 to 2147483647 expected\n  [cluster]\n  ^^^^^^^^^",
    );
    refused(
        &format!("name = \"a\"\nform = \"3.6\"\n{MISS}{cluster}destination = 2"),
        "a.toml:8:15: destination: the id of another node expected, not that of the source, 2\n  destination = 2\n                ^",
    );
    for form in ["\"2.2\"", "3.6"] {
        refused(
            &format!("name = \"a\"\nform = {form}\n{MISS}{cluster}destination = 3"),
            &format!(
                "a.toml:2:8: form: \"1.x\", \"2.4\", \"3.0\", \"3.1\", \"3.2\", \"3.3\", \"3.4\", \"3.5\", \"3.6\" or \"4.0\" expected, not {form}\n  form = {form}\n         {}",
                "^".repeat(form.len()),
            ),
        );
    }
}

#[test]
fn a_scenario_without_a_name_or_without_packets_is_told() {
    refused(
        MISS,
        "a.toml:1:1: name is missing: a string such as \"evening\" expected\n  [miss]\n  ^",
    );
    refused(
        "name = \"a\"",
        "a.toml:1:1: what to send is missing: at least one of [miss], [contacts] and [dialogs] expected\n  name = \"a\"\n  ^",
    );
    refused(
        &format!("name = \"\"\n{MISS}"),
        "a.toml:1:8: name: a string of 1 to 64 characters without control characters expected, not \"\"\n  name = \"\"\n         ^^",
    );
    refused(
        &format!("name = \"a\\u001b\"\n{MISS}"),
        "a.toml:1:8: name: a string of 1 to 64 characters without control characters expected, not \"a\\u{1b}\"\n  name = \"a\\u001b\"\n         ^^^^^^^^^",
    );
    refused(
        "name = \"a\"\n[contacts]\npopulation = 1\nregister = 0\nrefresh = 0\nunregister = 0\n",
        "a.toml:2:1: register, refresh, unregister: at least one above 0 expected\n  [contacts]\n  ^^^^^^^^^^",
    );
    refused(
        "name = \"a\"\n[contacts]\npopulation = 1\nregister = 1\nunregister = 2.5\n",
        "a.toml:2:1: unregister: at most the weight of register, 1, expected, not 2.5: only who registered can unregister\n  [contacts]\n  ^^^^^^^^^^",
    );
    refused(
        "name = \"a\"\nmiss = 1\n",
        "a.toml:2:8: miss: a table expected, not 1\n  miss = 1\n         ^",
    );
    refused(
        "name = \"a\"\n[[miss]]\npopulation = 1\nshare = 0.001\n[dialogs]\nshare = 9999\nduration = { fixed = \"1s\" }",
        "a.toml:4:9: share: a millionth of all packets or more expected\n  share = 0.001\n          ^^^^^",
    );
    let parts = format!("name = \"a\"\n{}", "[[miss]]\npopulation = 1\n".repeat(17));
    refused(
        &parts,
        "a.toml:34:1: one part too many: 1 to 16 expected\n  [[miss]]\n  ^^^^^^^^",
    );
}

#[test]
fn a_text_that_is_no_toml_is_told_line_by_line() {
    let text = "name = a\nform = 1.x\nseed = 1\n[miss\n";
    let told = told(text);
    let heads: Vec<&str> = told.lines().step_by(3).collect();
    assert_eq!(heads.len(), 3, "{told}");
    for (head, place) in heads
        .iter()
        .zip(["a.toml:1:8: ", "a.toml:2:10: ", "a.toml:4:6: "])
    {
        assert!(head.starts_with(place), "{told}");
    }
    refused(
        "name = \"a\"\nname = \"b\"\n",
        "a.toml:2:1: duplicate key\n  name = \"b\"\n  ^^^^",
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_text() {
    let told =
        told("size = 1\n[dialogs]\nupdates = -1\n[contacts]\npopulation = 0\nregister = \"x\"\n");
    let places: Vec<&str> = told
        .lines()
        .step_by(3)
        .filter_map(|line| line.split(": ").next())
        .collect();
    let expected = [
        "a.toml:1:1",
        "a.toml:1:1",
        "a.toml:2:1",
        "a.toml:3:11",
        "a.toml:5:14",
        "a.toml:6:12",
    ];
    assert_eq!(places, expected, "{told}");
}

#[test]
fn of_very_many_problems_the_first_are_told() {
    let keys: Vec<String> = (0..1_000).map(|key| format!("x{key:03} = 1\n")).collect();
    let told = told(&format!("name = \"a\"\n{}{MISS}", keys.concat()));
    assert_eq!(told.matches("unknown key").count(), PROBLEMS_MAX);
    assert!(told.starts_with("a.toml:2:1: "), "{told}");
    assert!(
        told.ends_with("there may be more: these are the first 20"),
        "{told}"
    );
}

#[test]
fn a_text_too_long_for_a_scenario_is_not_read() {
    let text = "#".repeat(TEXT_MAX + 1);
    let told = told(&text);
    let expected =
        "cannot read the scenario a.toml: it has more than 4194304 bytes, so it is no scenario";
    assert_eq!(told, expected);
}

#[test]
fn brackets_without_end_and_keys_without_end_are_refused_in_time() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a.".repeat(100_000) + "b = 1",
    ] {
        told(&text);
    }
}

/// Whether the text is a scenario that holds what [`Scenario::check`] asks for, or is refused with places in it.
fn is_read_or_told(text: &str) -> Result<(), TestCaseError> {
    match Scenario::parse(text, "a.toml") {
        Ok(scenario) => prop_assert_eq!(scenario.check(), Ok(())),
        Err(ScenarioError::Text(problems)) => {
            prop_assert!((1..=PROBLEMS_MAX).contains(&problems.len()));
            for problem in problems {
                prop_assert!(problem.place().line <= text.split('\n').count());
            }
        }
        Err(other) => prop_assert!(false, "{other}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_read_or_told(text: String) {
        is_read_or_told(&text)?;
    }

    #[test]
    fn a_shipped_scenario_with_a_few_changes_is_read_or_told(
        index in 0..BUILTIN.len(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), "[ -~\\n]{0,3}"), 1..4),
    ) {
        let mut text = BUILTIN[index].1.to_owned();
        for (at, by) in changes {
            let at = text.floor_char_boundary(at.index(text.len()));
            let end = text.ceil_char_boundary((at + by.len()).min(text.len()));
            text.replace_range(at..end, &by);
        }
        is_read_or_told(&text)?;
    }
}
