use super::*;

/// What is said of a script that cannot be linked.
#[track_caller]
fn unlinked(text: &str) -> (String, Vec<String>) {
    let (script, _) = read(text).unwrap_or_else(|error| panic!("{error}"));
    let double = Arc::new(Double::default());
    let error = Program::link(&script, Arc::clone(&double) as _).expect_err(text);
    (error.to_string(), double.taken())
}

#[test]
fn each_call_is_prepared_once_in_order_and_freed_in_the_other_one() {
    let (script, _) = read(
        "route { yes(\"a\", 5); if (no() && yes(\"$si\", \"b\")) { yes(\"c\", \"d\"); } } timer_route[t, 1] { in_timer(); }",
    )
    .unwrap();
    let double = Arc::new(Double::default());
    let program = Program::link(&script, Arc::clone(&double) as _).unwrap();
    assert_eq!(
        double.taken(),
        [
            r#"fixup yes 0 ["a", "5"]"#,
            "fixup no 1 []",
            r#"fixup yes 2 ["$si", "b"]"#,
            r#"fixup yes 3 ["c", "d"]"#,
            "fixup in_timer 4 []",
        ]
    );
    drop(program);
    assert_eq!(
        double.taken(),
        [
            "free in_timer 4",
            "free yes 3",
            "free yes 2",
            "free no 1",
            "free yes 0"
        ]
    );
}

#[test]
fn calls_of_what_is_not_there_are_told_all_at_once_with_their_places() {
    let (told, _) = unlinked(
        "route {\n  yess();\n  sl_send_reply(\"200\", \"OK\");\n  if (!no(\"a\", \"b\")) two(1);\n  in_timer();\n}\n\
         startup_route { in_request(\"x\"); nowhere(); }",
    );
    assert_eq!(
        told,
        "a.cfg:2:3: there is no function \"yess\": no module that is loaded has it (of a script for SIP, `binrush import` takes what is \
         about BIN); did you mean \"yes\"?\n    yess();\n    ^^^^^^\n\
         a.cfg:3:3: there is no function \"sl_send_reply\"\n    sl_send_reply(\"200\", \"OK\");\n    ^^^^^^^^^^^^^^^^^^^^^^^^^^\n\
         a.cfg:4:8: \"no\" takes 0 or 1 parameters, not 2\n    if (!no(\"a\", \"b\")) two(1);\n         ^^^^^^^^^^^^\n\
         a.cfg:4:22: \"two\" takes 0 parameters, not 1\n    if (!no(\"a\", \"b\")) two(1);\n                       ^^^^^^\n\
         a.cfg:5:3: \"in_timer\" may not be called in a route: only in timer_route, startup_route\n    in_timer();\n    ^^^^^^^^^^\n\
         a.cfg:7:17: \"in_request\" may not be called in a startup_route: only in route\n  startup_route { in_request(\"x\"); nowhere(); }\n                  ^^^^^^^^^^^^^^^\n\
         a.cfg:7:34: \"nowhere\" may not be called in a startup_route: in no route that there is here\n  startup_route { in_request(\"x\"); nowhere(); }\n                                   ^^^^^^^^^"
    );
}

#[test]
fn a_function_that_may_not_be_called_where_its_route_is_called_from_is_told_with_both_places() {
    let (told, notes) = unlinked(
        "timer_route[t, 1] { route(x); }\nroute[x] { route(y); }\nroute[y] { yes(); in_request(\"a\"); }\nevent_route[E_X] { route(y); }",
    );
    assert_eq!(
        told,
        "a.cfg:3:19: \"in_request\" may not be called in a timer_route: only in route; route[y] is called from timer_route[t, 1], in a.cfg:1:1\n  \
         route[y] { yes(); in_request(\"a\"); }\n                    ^^^^^^^^^^^^^^^"
    );
    assert!(notes.is_empty(), "{notes:?}");
    // It is of the block that it stands in, too, whoever calls that.
    let (told, _) = unlinked("timer_route[t, 1] { route(x); } route[x] { in_timer(); }");
    assert!(
        told.starts_with("a.cfg:1:44: \"in_timer\" may not be called in a route: only in timer_route, startup_route\n"),
        "{told}"
    );
    // What nobody calls, and what only packets come to, is as it stands.
    program(
        "route { route(x); } route[x] { in_request(\"a\"); } route[unused] { in_request(\"a\"); } timer_route[t, 1] { route(z); } route[z] { yes(); }",
    );
}

#[test]
fn a_long_script_is_read_and_linked_in_time_that_grows_with_it() {
    // One by one this took minutes: each of so many constants, routes and calls among all others.
    let constants: String = (0..100_000).map(|n| format!("$var(x) = {n};\n")).collect();
    let routes: String = (0..20_000)
        .map(|n| format!("route[r{n}] {{ f{n}(); }}\nevent_route[E_{n}] {{ route(r{n}); }}\n"))
        .collect();
    let (script, _) = read(&format!("route {{ {constants} }}\n{routes}")).unwrap();
    assert_eq!(script.functions().len(), 20_000);
    let (script, _) = read(&format!("route {{ {constants} }}")).unwrap();
    let double = Arc::new(Double::default());
    let program = Program::link(&script, Arc::clone(&double) as _).unwrap();
    assert_eq!(program.operands.len(), 100_000);
}

#[test]
fn what_a_function_says_of_its_parameters_is_told_and_the_others_are_freed() {
    let (told, notes) = unlinked("route { yes(\"a\"); no(\"bad\"); end(\"b\"); }");
    assert_eq!(
        told,
        "a.cfg:1:19: no: \"bad\" is not what it takes\n  route { yes(\"a\"); no(\"bad\"); end(\"b\"); }\n                    ^^^^^^^^^"
    );
    assert_eq!(
        notes,
        [
            r#"fixup yes 0 ["a"]"#,
            r#"fixup end 2 ["b"]"#,
            "free end 2",
            "free yes 0"
        ]
    );
}

#[test]
fn no_more_problems_are_told_than_anybody_reads() {
    let calls = "nobody();\n".repeat(100);
    let (told, _) = unlinked(&format!("route {{ {calls} }}"));
    assert_eq!(told.matches("there is no function").count(), 20);
    assert!(
        told.ends_with("there may be more: these are the first 20"),
        "{told}"
    );
}

#[test]
fn homes_are_those_of_functions_that_a_route_can_reach() {
    let (program, _) = program(
        "route { if ($ml > 0) route(a); } route[a] { route(b); } route[b] { route(a); bound(); }
         route[c] { in_request(\"y\"); } timer_route[t, 60] { in_timer(); route(b); } timer_route[u, 5] { yes(); }
         startup_route { in_timer(); } event_route[E_X] { xlog(\"x\"); }",
    );
    let homes: Vec<_> = program
        .homes()
        .map(|(kind, title, homes)| {
            (
                kind,
                title.to_owned(),
                homes.into_iter().collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        homes,
        [
            (Kind::Request, "route".to_owned(), vec!["old"]),
            (
                Kind::Timer,
                "timer_route[t, 60]".to_owned(),
                vec!["old", "older"]
            ),
            (Kind::Timer, "timer_route[u, 5]".to_owned(), vec![]),
            (Kind::Startup, "startup_route".to_owned(), vec!["older"]),
            (Kind::Event, "event_route[E_X]".to_owned(), vec![]),
        ]
    );
}

#[test]
fn the_bits_of_routes_are_those_of_1_11() {
    assert_eq!(Kind::ALL.map(Kind::flag), [1, 64, 128, 256]);
}

#[test]
fn two_scripts_are_equal_that_do_the_same_wherever_it_stands() {
    let script = |text: &str| read(text).unwrap_or_else(|error| panic!("{error}")).0;
    let text = "route { if (yes(\"a\")) route(x); } route[x] { xlog(\"$ml\"); } timer_route[t, 5] { no(); }";
    let moved = text.replace("{ ", "{\n    # Why.\n    ");
    assert_eq!(script(text), script(&format!("# A comment.\n{moved}")));
    for (what, by) in [
        ("yes", "no"),
        ("\"a\"", "\"b\""),
        ("(x)", "(0)"),
        ("[x]", "[X]"),
        ("$ml", "$mb"),
        ("t, 5", "t, 6"),
        ("t, 5", "u, 5"),
        ("timer_route[t, 5]", "event_route[t]"),
        ("no();", ""),
    ] {
        let other = text.replace(what, by).replace("[X]", "[x] {} route[y]");
        assert_ne!(script(text), script(&other), "{what} and {by}");
    }
}

#[test]
fn sources_are_wanted_where_a_packet_can_bring_a_look_at_them_about() {
    for (text, wanted) in [
        (
            "route { if ($bin(name) == \"ul\") drop; xlog(\"$ml $pr $$si\"); }",
            false,
        ),
        ("route { xlog(\"from $si\"); }", true),
        ("route { if ($src_port > 5000) drop; }", true),
        ("route { if (5000 > $sp) drop; }", true),
        ("route { if ($Ri) drop; }", true),
        ("route { $var(x) = $Rp; }", true),
        ("route { return($sp); }", true),
        (
            "route { raise_event(\"E_X\", \"a=1\", \"from=$src_ip\"); }",
            true,
        ),
        ("route { yes(); }", true),
        // Where it is reached by a packet, and only there.
        (
            "route { route(a); } route[a] { route(b); } route[b] { route(a); xlog(\"$si\"); }",
            true,
        ),
        (
            "route { xlog(\"x\"); } route[a] { xlog(\"$si\"); yes(); }",
            false,
        ),
        (
            "route { drop; } timer_route[t, 5] { yes(); route(a); } route[a] { xlog(\"$si\"); }",
            false,
        ),
        ("timer_route[t, 5] { yes(); xlog(\"$si\"); }", false),
        (
            "route[a] { xlog(\"$si\"); } route { xlog(\"x\"); } event_route[E_X] { xlog(\"$si\"); }",
            false,
        ),
    ] {
        assert_eq!(program(text).0.wants_sources(), wanted, "{text}");
    }
}
