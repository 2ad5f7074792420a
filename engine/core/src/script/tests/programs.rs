use binrush_wire::{Builder, Generation, Packet, Trailer};

use super::*;
use crate::dispatch::handler::{Ends, Origin, ShardId};
use crate::script::run::{End, Runner};

/// What programs know of packets, and what they say and raise.
mod telling;

/// A packet of node 3 of cluster 1.
fn frame() -> Vec<u8> {
    let (mut buffer, name) = ([0; 256], b"dialog-dlg-repl");
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 2, 5).unwrap();
    builder.push_str(b"call").unwrap();
    builder.push_trailer(Trailer::new(1, 3, 2)).unwrap();
    builder.seal().to_vec()
}

fn origin() -> Origin {
    Origin::Stream {
        ends: Ends::new(
            ([192, 0, 2, 9], 40_000).into(),
            Some(([192, 0, 2, 1], 5555).into()),
        ),
        generation: Generation::Modern,
        release: None,
    }
}

/// What a run of the request route of `text` calls and says, and how it ends.
#[track_caller]
fn run(text: &str) -> (Vec<String>, End) {
    let (program, double) = program(text);
    let at = program.entries(Kind::Request).next().expect("a route").at;
    let mut runner = Runner::new(Arc::new(program), Arc::clone(&double) as _);
    let (frame, origin) = (frame(), origin());
    let packet = Packet::parse(Generation::Modern, &frame).unwrap();
    let scene = Scene::of_packet(ShardId(0), &origin, &packet);
    // Twice: nothing may be left of the first run.
    let first = runner.run(at, &scene);
    let notes = double.taken();
    assert_eq!(runner.run(at, &scene), first, "{text}");
    assert_eq!(double.taken(), notes, "{text}");
    (notes, first)
}

/// Asserts what `route { text }` calls and says, site numbers left out.
#[track_caller]
fn does(text: &str, expected: &[&str]) {
    let (notes, _) = run(&format!("route {{ {text} }}"));
    let names: Vec<_> = notes
        .iter()
        .map(|note| match note.split_once(' ') {
            Some((name, site))
                if !name.ends_with(':') && site.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                name
            }
            _ => note,
        })
        .collect();
    assert_eq!(names, expected, "{text}");
}

#[test]
fn what_functions_return_is_true_false_or_the_end() {
    for (text, expected) in [
        ("yes(); no(); two();", &["yes", "no", "two"][..]),
        ("yes(); end(); yes();", &["yes", "end"]),
        ("if (yes()) two(); else no();", &["yes", "two"]),
        ("if (no()) { two(); } else { no(\"a\"); }", &["no", "no"]),
        ("if (end()) two(); else no(); yes();", &["end"]),
        ("if (no()) two(); yes();", &["no", "yes"]),
        (
            "if (no()) two(); else if (yes()) yes(); else two();",
            &["no", "yes", "yes"],
        ),
        (
            "if (no()) ; else if (no()) {} else two(); yes();",
            &["no", "no", "two", "yes"],
        ),
        (
            "if (two()) { if (no()) yes(); else two(); }",
            &["two", "no", "two"],
        ),
        ("; ; yes(); ;", &["yes"]),
        ("", &[]),
    ] {
        does(text, expected);
    }
}

#[test]
fn conditions_bind_as_in_opensips_and_stop_where_they_are_decided() {
    for (condition, expected) in [
        ("no() && yes()", &["no", "F"][..]),
        ("yes() && two()", &["yes", "two", "T"]),
        ("yes() || two()", &["yes", "T"]),
        ("no() || two()", &["no", "two", "T"]),
        ("no() or not no()", &["no", "no", "T"]),
        ("!yes() && yes()", &["yes", "F"]),
        ("!(yes() && no())", &["yes", "no", "T"]),
        ("!!yes()", &["yes", "T"]),
        // From left to right: yes || no is true, and two is asked. Of C it would not be.
        ("yes() || no() && two()", &["yes", "two", "T"]),
        ("yes() || (no() && two())", &["yes", "T"]),
        ("no() && yes() || two()", &["no", "two", "T"]),
        ("no() and yes() and two()", &["no", "F"]),
        ("! $ml == 5", &["T"]),
        ("1", &["T"]),
        ("0 || -1", &["T"]),
        ("!null", &["T"]),
    ] {
        let mut expected = expected.to_vec();
        let result = expected.pop().unwrap();
        let says = match result {
            "T" => "error: T",
            _ => "error: F",
        };
        expected.push(says);
        let text = format!("if ({condition}) xlog(\"T\"); else xlog(\"F\");");
        does(&text, &expected);
    }
}

#[test]
fn comparisons_follow_types_case_and_null() {
    for (condition, holds) in [
        ("$bin(type) == 2", true),
        ("$bin(type) != 2", false),
        ("$bin(type) < 3", true),
        ("$bin(type) <= 2", true),
        ("$bin(type) > 2", false),
        ("$bin(type) >= 3", false),
        ("$bin(type) > -1", true),
        ("$bin(type)==\"2\"", true),
        ("$bin(version) == 5", true),
        ("$bin(node) == 3", true),
        ("$bin(cluster) == 1", true),
        ("$bin(name) == \"dialog-dlg-repl\"", true),
        ("$bin(name) == \"DIALOG-dlg-repl\"", true),
        ("$bin(name) == \"dialog\"", false),
        ("$bin(name) > \"dialog\"", true),
        ("$bin(name) < \"E\"", true),
        ("$si == \"192.0.2.9\"", true),
        ("$src_ip != '192.0.2.9'", false),
        ("$pr == \"bin\"", true),
        ("$mb != \"\"", true),
        ("$ml == $ml", true),
        ("$bin(type) == $bin(name)", false),
        ("\"2\" == $bin(type)", true),
        ("$param(ip) == null", true),
        ("$param(1) != NULL", false),
        ("$var(a) == null", true),
        ("$var(a) == 0", false),
        ("$var(a) != 0", true),
        ("$var(a) == \"\"", false),
        ("$var(a)", false),
        ("$bin(name)", true),
        ("$rc == 1", true),
    ] {
        let says = if holds { "error: T" } else { "error: F" };
        does(
            &format!("if ({condition}) xlog(\"T\"); else xlog(\"F\");"),
            &[says],
        );
    }
}

#[test]
fn a_text_that_is_compared_with_a_number_makes_the_whole_condition_false_and_is_counted() {
    for condition in [
        "$var(a) == 5",
        "!($var(a) == 5)",
        "$var(a) == 5 || yes()",
        "no() || !($var(a) > 5 && yes())",
    ] {
        let text = format!("route {{ $var(a) = \"five\"; if ({condition}) two(); }}");
        let (notes, end) = run(&text);
        assert!(
            !notes.iter().any(|note| note.starts_with("two")),
            "{notes:?}"
        );
        assert_eq!((end.incomparable, end.dropped), (1, false), "{condition}");
    }
}

#[test]
fn variables_hold_what_they_were_given_and_begin_as_null() {
    does(
        "xlog(\"$var(a)\"); $var(a) = 5; $var(b) = $var(a); $var(a) = \"x\"; xlog(\"$var(a)$var(b)\"); $var(c) = $si; $var(a) = $var(c); \
         xlog(\"$var(a)\"); $var(a) = null; xlog(\"$var(a)\"); two(); $var(d) = $rc; no(); xlog(\"$var(d) $rc\"); $var(e) = $retcode; \
         xlog(\"$var(e)\");",
        &[
            "error: <null>",
            "error: x5",
            "error: 192.0.2.9",
            "error: <null>",
            "two",
            "no",
            "error: 2 -1",
            "error: 1",
        ],
    );
}

#[test]
fn routes_return_what_they_say_or_what_they_did_last() {
    for (body, code) in [
        ("return(5);", 5),
        ("return(-5); two();", -5),
        ("return;", 1),
        ("return();", 1),
        ("two();", 2),
        ("two(); no();", -1),
        ("two(); xlog(\"L_DBG\", \"\");", 1),
        ("no(); $var(x) = 1;", 1),
        ("if (no()) two();", 1),
        ("if (yes()) two();", 2),
        ("if (yes()) {}", 1),
        ("if (no()) two(); else no();", -1),
        ("if (no()) two(); else if (no()) two();", 1),
        ("if (yes()) { if (no()) two(); } else no();", 1),
        ("if (yes()) return(7); two();", 7),
        ("$var(x) = 9; return($var(x));", 9),
        ("return($var(x));", -1),
        ("return($si);", 1),
        ("return($ml);", 49),
        ("route(b);", 3),
        ("", 1),
    ] {
        let text = format!(
            "route {{ route(a); xlog(\"$rc\"); }} route[a] {{ {body} }} route[b] {{ return(3); }}"
        );
        let (notes, _) = run(&text);
        let said = format!("error: {code}");
        assert_eq!(notes.last(), Some(&said), "{body}: {notes:?}");
    }
    for body in [
        "return(0);",
        "exit;",
        "exit();",
        "drop;",
        "end();",
        "route(b);",
    ] {
        let text = format!(
            "route {{ if (route(a)) two(); else two(); two(); }} route[a] {{ {body} }} route[b] {{ return(0); }}"
        );
        let (notes, end) = run(&text);
        assert!(
            !notes.iter().any(|note| note.starts_with("two")),
            "{body}: {notes:?}"
        );
        assert_eq!(end.dropped, body == "drop;", "{body}");
    }
}

#[test]
fn the_code_behind_an_if_is_that_of_its_block_or_of_its_condition_where_nothing_was_done() {
    for (body, code) in [
        ("if (two()) {}", 1),
        ("if (two()) ;", 1),
        ("if (no()) two();", 0),
        ("if (no()) two(); else {}", 0),
        ("if (!yes()) two();", 0),
        ("if (two()) no();", -1),
        ("if (no()) yes(); else two();", 2),
        ("if ($ml < 0) two();", 0),
        ("$var(a) = \"x\"; if ($var(a) == 5) two();", -1),
        ("$var(a) = \"x\"; if (no() || !($var(a) == 5)) two();", -1),
        (
            "$var(a) = \"x\"; if ($var(a) == 5) two(); else no(\"b\");",
            -1,
        ),
        // What an `if` returns is not what it leaves: that it was done is true.
        ("if (yes()) { if (no()) two(); }", 1),
        ("if (yes()) { two(); if (no()) two(); }", 1),
        ("if (no()) two(); else if (no()) two();", 1),
        ("if (no()) two(); else if (yes()) {}", 1),
        ("if (no()) two(); else { if (no()) two(); }", 1),
        ("if (yes()) { if (no()) two(); xlog(\"$rc\"); }", 1),
        ("route(a);", 1),
    ] {
        let text = format!("route {{ {body} xlog(\"$rc\"); }} route[a] {{ if (no()) two(); }}");
        let (notes, _) = run(&text);
        let said = format!("error: {code}");
        assert_eq!(notes.last(), Some(&said), "{body}: {notes:?}");
    }
    // 0 ends the script only where somebody returns it.
    does("if (no()) two(); yes();", &["no", "yes"]);
    does(
        "if (no()) two(); if ($rc == 0) yes(); return($rc); yes();",
        &["no", "yes"],
    );
    let (notes, _) = run("route { route(a); yes(); } route[a] { if (no()) two(); return($rc); }");
    assert_eq!(notes, ["no 1"]);
}

#[test]
fn only_drop_refuses_a_packet() {
    for (body, dropped) in [
        ("drop;", true),
        ("drop();", true),
        ("exit;", false),
        ("return(0);", false),
        ("return(-1);", false),
        ("end();", false),
        ("no();", false),
        ("if ($bin(type) == 2) drop; exit;", true),
        ("route(a); two();", true),
    ] {
        let (_, end) = run(&format!("route {{ {body} }} route[a] {{ drop; }}"));
        assert_eq!(
            end,
            End {
                dropped,
                ..End::default()
            },
            "{body}"
        );
    }
}

#[test]
fn no_run_is_endless_and_none_too_deep() {
    let (notes, end) =
        run("route { route(a); xlog(\"$rc\"); } route[a] { route(a); return($rc); }");
    assert_eq!(notes, ["error: -1"]);
    assert_eq!((end.too_deep, end.endless), (1, false));

    // The one that begins and 99 calls in each other are as many as may be.
    for (calls, said, too_deep) in [(99, "error: 7", 0), (100, "error: -1", 1)] {
        let mut text = "route { route(r1); xlog(\"$rc\"); }".to_owned();
        for n in 1..calls {
            text += &format!("route[r{n}] {{ route(r{}); }}", n + 1);
        }
        text += &format!("route[r{calls}] {{ return(7); }}");
        let (notes, end) = run(&text);
        assert_eq!(notes, [said]);
        assert_eq!((end.too_deep, end.endless), (too_deep, false), "{calls}");
    }

    // Two calls in each of sixty: 2^60 of them.
    let mut text = "route { route(r0); xlog(\"never\"); }".to_owned();
    for n in 0..60 {
        let next = n + 1;
        text += &format!("route[r{n}] {{ route(r{next}); route(r{next}); }}");
    }
    text += "route[r60] { return; }";
    let (notes, end) = run(&text);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!((end.too_deep, end.endless), (0, true));
}
