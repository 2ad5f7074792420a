use super::*;

/// Asserts that `route { text }` is refused with this one problem, at this place.
#[track_caller]
fn refused(text: &str, told: &str) {
    refused_whole(&format!("route {{ {text} }}"), told);
}

#[track_caller]
fn refused_whole(text: &str, told: &str) {
    let error = read(text).expect_err(text);
    let first = error.lines().next().unwrap_or_default();
    assert_eq!(first, format!("a.cfg:{told}"), "{text}");
    assert_eq!(error.lines().count(), 3, "one problem: {error}");
}

#[test]
fn what_is_no_statement_is_told_with_its_place() {
    for (text, told) in [
        ("yes()", "1:15: \";\" expected, not the end of the route"),
        ("yes;", "1:12: \"(\" behind \"yes\" expected, not \";\""),
        (
            "exti;",
            "1:9: \"(\" behind \"exti\" expected, not \";\"; did you mean \"exit\"?",
        ),
        (
            "yes(;",
            "1:13: a parameter: a string in quotes, a number or a variable, expected, not \";\"",
        ),
        (
            "yes(\"a\" \"b\");",
            "1:17: \",\" expected, not the string \"b\"",
        ),
        (
            "yes(\"a\",);",
            "1:17: a parameter: a string in quotes, a number or a variable, expected, not \")\"",
        ),
        (
            "yes(\"a\",,\"b\");",
            "1:17: a parameter: a string in quotes, a number or a variable, expected, not \",\"",
        ),
        (
            "yes(,\"a\");",
            "1:13: a parameter: a string in quotes, a number or a variable, expected, not \",\"",
        ),
        (
            "yes(1,2,3,4,5,6,7);",
            "1:9: yes: at most 6 parameters expected, not 7",
        ),
        ("5;", "1:9: a statement expected, not \"5\""),
        ("\"x\";", "1:9: a statement expected, not the string \"x\""),
        ("{ yes(); }", "1:9: a statement expected, not \"{\""),
        (
            "else yes();",
            "1:9: an \"if\" in front of expected, not \"else\"",
        ),
        (
            "while (1) yes();",
            "1:9: \"while\" is no part of this language: if, route(name), return, exit, drop, assignments and calls expected",
        ),
        ("exit(1);", "1:14: \")\" expected, not \"1\""),
        ("return 1;", "1:16: \";\" expected, not \"1\""),
        (
            "return(x);",
            "1:16: a number or a variable expected, not \"x\": a text needs quotes",
        ),
        (
            "return(5000000000);",
            "1:16: \"5000000000\": a number of 32 bits with a sign expected",
        ),
        ("route();", "1:9: route takes 1 parameter, not 0"),
        ("route(nowhere);", "1:15: there is no route[nowhere]"),
        ("route(-1);", "1:15: there is no route[-1]"),
        ("// comment", "1:9: a statement expected, not \"/\""),
    ] {
        refused(text, told);
    }
}

#[test]
fn what_is_no_condition_is_told_with_its_place() {
    for (text, told) in [
        ("if () yes();", "1:13: a condition expected, not \")\""),
        (
            "if yes() {",
            "1:9: this block has no end: 1 more \"}\" expected at the end of the file",
        ),
        ("if (yes() yes();", "1:19: \")\" expected, not \"yes\""),
        (
            "if (yes() & no()) yes();",
            "1:19: \"&&\" expected: there are no operations on bits",
        ),
        (
            "if (yes() | no()) yes();",
            "1:19: \"||\" expected: there are no operations on bits",
        ),
        (
            "if ($ml = 5) yes();",
            "1:17: \"==\" expected: a condition sets no variable",
        ),
        (
            "if ($si =~ \"x\") yes();",
            "1:17: there are no regular expressions here: == expected",
        ),
        (
            "if ($ml == five) yes();",
            "1:20: a number, a string in quotes, a variable or null expected, not \"five\": a text needs quotes",
        ),
        (
            "if ($si == 5) yes();",
            "1:20: the left side is a text: a string in quotes expected",
        ),
        (
            "if ($ml < null) yes();",
            "1:19: nothing is more or less than null: == or != expected",
        ),
        (
            "if (yes() == 1) yes();",
            "1:22: a call is true or false: what it returned is compared behind it, as $rc",
        ),
        ("if ($ml ! 5) yes();", "1:17: \"!=\" expected, not \"!\""),
        (
            "if ($ml == ) yes();",
            "1:20: a number, a string in quotes, a variable or null expected, not \")\"",
        ),
    ] {
        match text {
            "if yes() {" => refused_whole(
                "route { if yes() { }",
                "1:7: this block has no end: 1 more \"}\" expected at the end of the file",
            ),
            _ => refused(text, told),
        }
    }
}

#[test]
fn unknown_variables_levels_and_events_are_told_with_what_may_be_meant() {
    for (text, told) in [
        (
            "$ml = 5;",
            "1:9: \"$ml\" cannot be set: $var(name) expected",
        ),
        (
            "$rc = 5;",
            "1:9: \"$rc\" cannot be set: $var(name) expected",
        ),
        (
            "$vra(x) = 5;",
            "1:9: unknown variable \"$vra(x)\"; did you mean \"$var(\"?",
        ),
        (
            "$var() = 5;",
            "1:9: unknown variable \"$var()\"; did you mean \"$var(\"?",
        ),
        ("$var(x) := 5;", "1:17: \"=\" expected, not \":\""),
        (
            "$var(x) = 1 + 2;",
            "1:21: \";\" expected: there is no arithmetic here",
        ),
        (
            "$var(x) = yes();",
            "1:19: a number, a string in quotes, a variable or null expected, not \"yes\": a text needs quotes",
        ),
        ("if ($ru) yes();", "1:13: unknown variable \"$ru\""),
        (
            "if ($bin(nam) == \"x\") yes();",
            "1:13: unknown variable \"$bin(nam)\"; did you mean \"$bin(name)\"?",
        ),
        (
            "if ($si(x)) yes();",
            "1:13: unknown variable \"$si(x)\"; did you mean \"$si\"?",
        ),
        (
            "if ($(si{s.len})) yes();",
            "1:13: unknown variable \"$(si{s.len})\": there are no transformations here",
        ),
        ("xlog(\"from $fu\");", "1:14: unknown variable \"$fu\""),
        (
            "xlog(\"5 $\");",
            "1:14: unknown variable \"$\": in a text $$ stands for the sign",
        ),
        (
            "xlog(\"L_INF\", \"x\");",
            "1:14: xlog: one of L_ALERT, L_CRIT, L_ERR, L_WARN, L_NOTICE, L_INFO, L_DBG expected; did you mean \"L_INFO\"?",
        ),
        ("xlog();", "1:9: xlog takes 1 or 2 parameters, not 0"),
        (
            "raise_event();",
            "1:9: raise_event takes 1 or 2 or 3 or 4 or 5 or 6 parameters, not 0",
        ),
        (
            "raise_event(\"E X\");",
            "1:21: the name of an event expected, such as E_NAME",
        ),
        (
            "raise_event(\"E_X\", \"a=$x\");",
            "1:28: unknown variable \"$x\"",
        ),
        (
            "subscribe_event(\"E_X\");",
            "1:9: subscribe_event takes 2 or 3 parameters, not 1",
        ),
        (
            "subscribe_event(\"E_X\", \"/x\", \"soon\");",
            "1:38: subscribe_event: seconds expected, 0 for ever",
        ),
    ] {
        refused(text, told);
    }
}

#[test]
fn headers_are_checked_and_no_route_is_there_twice() {
    for (text, told) in [
        (
            "route[a] {} route[a] {}",
            "1:13: route[a] is there already, in a.cfg:1:1: another name expected",
        ),
        (
            "route {} route[0] {}",
            "1:10: route is there already, in a.cfg:1:1: another name expected",
        ),
        (
            "startup_route {} startup_route {}",
            "1:18: startup_route is there already, in a.cfg:1:1: another name expected",
        ),
        (
            "event_route[E_X] {} event_route[\"E_X\"] {}",
            "1:21: event_route[E_X] is there already, in a.cfg:1:1: another name expected",
        ),
        (
            "route[] {}",
            "1:7: route: a name between the brackets expected",
        ),
        ("route[a b] {}", "1:9: route: \"]\" expected"),
        (
            "startup_route[x] {}",
            "1:15: startup_route: no name expected",
        ),
        (
            "timer_route {}",
            "1:1: timer_route: a name and seconds, such as [gc, 60], expected",
        ),
        (
            "timer_route[x] {}",
            "1:14: timer_route: \",\" and seconds behind the name expected",
        ),
        (
            "timer_route[x, 0] {}",
            "1:16: timer_route: seconds from 1 to a year expected",
        ),
        (
            "timer_route[x, soon] {}",
            "1:16: timer_route: seconds from 1 to a year expected",
        ),
        (
            "timer_route[x, 5, 6] {}",
            "1:17: timer_route: \"]\" expected",
        ),
        (
            "event_route {}",
            "1:1: event_route: the name of an event, such as [E_NAME], expected",
        ),
        (
            "event_route[E_X, sync] {}",
            "1:16: event_route: \"]\" expected",
        ),
        (
            "failure_route[x] {}",
            "1:1: route, startup_route, timer_route, event_route expected",
        ),
    ] {
        refused_whole(text, told);
    }
    let (script, _) = read("timer_route[t, 5] {} timer_route[t, 0x10] {} route['b c'] {}").unwrap();
    let names: Vec<_> = script.names().collect();
    assert_eq!(
        names,
        ["timer_route[t, 5]", "timer_route[t, 16]", "route[b c]"]
    );
}

#[test]
fn one_wrong_statement_hides_no_other_and_there_is_an_end() {
    let error = read(
        "route {\n  $x = 1;\n  if ($ml = 5) { yes(; } else { $y = 2; }\n  yes(;\n  if (yes()) { bad; two(); bad; } else bad;\n}\n\
         route[b] {\n  route(nowhere);\n  return(;\n}",
    )
    .unwrap_err();
    let places: Vec<_> = error
        .lines()
        .filter_map(|line| line.strip_prefix("a.cfg:"))
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["2:3", "3:11", "4:7", "5:19", "5:31", "5:43", "9:10", "8:9"],
        "{error}"
    );
    let many = format!("route {{ {} }}", "bad;\n".repeat(100));
    let error = read(&many).unwrap_err();
    assert_eq!(error.matches("expected, not").count(), 20);
}

#[test]
fn what_has_no_end_is_bounded() {
    let deep = format!("route {{ {} yes(); }}", "if (yes()) ".repeat(1000));
    assert!(read(&deep).unwrap_err().contains("too deep: at most 32"));
    let deep = format!("route {{ if ({}yes()) yes(); }}", "!".repeat(100_000));
    assert!(read(&deep).unwrap_err().contains("too deep: at most 32"));
    let deep = format!(
        "route {{ if {}yes(){} yes(); }}",
        "(".repeat(1000),
        ")".repeat(1000)
    );
    assert!(read(&deep).unwrap_err().contains("too deep: at most 32"));
    let long = format!(
        "route {{ if (yes(){}) yes(); }}",
        " && yes()".repeat(100_000)
    );
    assert!(read(&long).unwrap_err().contains("too long: at most 100"));
    let chain = format!(
        "route {{ if (no()) yes(); {} }}",
        "else if (no()) yes();".repeat(10_000)
    );
    assert!(read(&chain).is_ok());
    let vars: String = (0..300).map(|n| format!("$var(v{n}) = 1;")).collect();
    assert!(
        read(&format!("route {{ {vars} }}"))
            .unwrap_err()
            .contains("one $var too many: at most 256")
    );
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    for (text, warnings) in [
        (
            "route { exit; yes(); no(); }",
            &["1:15: nothing comes here: what stands above it always ends the route"][..],
        ),
        (
            "route { if (yes()) exit; else { drop; } yes(); }",
            &["1:41: nothing comes here: what stands above it always ends the route"],
        ),
        (
            "route { if (yes()) exit; else if (no()) drop; yes(); }",
            &[],
        ),
        ("route[a] { yes(); }", &["1:1: route[a]: nothing calls it"]),
        (
            "route { route(a); } route[a] { route(b); } route[b] { if (no()) route(a); }",
            &[
                "1:21: route[a]: it calls itself, directly or by way of others: calls in each other end at a depth of 99, and return -1",
                "1:44: route[b]: it calls itself, directly or by way of others: calls in each other end at a depth of 99, and return -1",
            ],
        ),
        (
            "route { if (yes() || no() && two() && two()) two(); }",
            &[
                "1:13: || and && bind alike, from left to right, as in OpenSIPS: parentheses say what is meant",
            ],
        ),
        (
            "route { if (yes() || (no() && two())) two(); if (no() && no() || two()) two(); }",
            &[],
        ),
        (
            "event_route[E_X] { if (yes()) route(a); } route[a] { raise_event(\"E_Y\"); } event_route[E_Y] { raise_event(\"E_X\"); raise_event(\"E_Z\"); } \
             event_route[E_Z] { yes(); } event_route[E_W] { raise_event(\"E_W\"); } route { raise_event(\"E_X\"); }",
            &[
                "1:1: event_route[E_X]: it raises its own event, directly or by way of others: one follows the other without an end",
                "1:76: event_route[E_Y]: it raises its own event, directly or by way of others: one follows the other without an end",
                "1:165: event_route[E_W]: it raises its own event, directly or by way of others: one follows the other without an end",
            ],
        ),
        (
            "startup_route { subscribe_event(\"E_X\", \"/x\"); route(a); } route { if (yes()) route(b); } route[a] { subscribe_event(\"E_X\", \"/x\"); }\n\
             route[b] { subscribe_event(\"E_X\", \"/x\"); }",
            &[
                "2:12: subscribe_event for each packet: it waits for a lock and makes texts, which a packet should not; startup_route and timer_route are its place",
            ],
        ),
    ] {
        let (_, found) = read(text).unwrap_or_else(|error| panic!("{error}"));
        let expected: Vec<_> = warnings
            .iter()
            .map(|each| format!("a.cfg:{each}"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}
