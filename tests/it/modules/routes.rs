use super::*;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use crate::made;

/// What the routes said, in order.
fn said(events: &[Value]) -> Vec<&str> {
    let lines = events.iter().filter(|event| event["event"] == "xlog");
    let texts = lines.map(|line| line["text"].as_str());
    texts.map(|text| text.expect("it is one")).collect()
}

#[test]
fn a_route_calls_the_tutorials_functions_and_goes_on_by_what_they_answer() {
    let Some(workshop) = Workshop::new("modules-route", &["tutorial"]) else {
        return;
    };
    let server = workshop.serve(
        "loadmodule \"tutorial.so\"\n\
         route {\n\
           if (greet(\"world\")) xlog(\"L_NOTICE\", \"one $rc\"); else xlog(\"L_NOTICE\", \"never\");\n\
           if (greet()) { xlog(\"L_NOTICE\", \"never\"); } else { xlog(\"L_NOTICE\", \"none $rc\"); }\n\
           greet();\n\
           if ($rc == -2 && $bin(name) == \"stranger\") drop;\n\
         }",
    );
    // Of many records, so that the kernel gives them to both shards.
    let names = ["stranger", "nobody"];
    for number in 0..20 {
        let key = format!("call-{number}");
        server.send_all(names.map(|name| packet(name, 1, &key, number)));
    }
    server.wait_until_read();
    let (events, total) = server.stop_after("TERM");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(said(&events), ["one 1", "none -2"].repeat(40));
    assert_eq!(total["outcomes"]["dropped_by_script"], 20, "{total}");
    assert_eq!(total["outcomes"]["unknown_name"], 20, "{total}");
}

#[test]
fn functions_are_prepared_called_freed_and_ended_on_the_thread_of_their_module() {
    let Some(workshop) = Workshop::new("modules-calls", &["calls"]) else {
        return;
    };
    let mut server = workshop.serve(
        "loadmodule \"calls.so\"\n\
         modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
         startup_route { tell(\"startup\"); }\n\
         timer_route[t, 1] { if (tell(\"timer\")) raise_event(\"E_X\"); }\n\
         event_route[E_X] { if (tell(\"event\")) xlog(\"L_NOTICE\", \"event $rc\"); }\n\
         route {\n\
           if (six(\"x\", \"x\", \"y\", \"x\", \"x\", \"x\") && $rc == 5 && by_connection()) { tell(\"stream\"); drop; }\n\
         }",
    );
    let datagram = packet("nobody", 1, "x", 1);
    server.send(&datagram);
    let bytes = made::packet(Generation::Modern, b"nobody", 2, &[b"call"]);
    let mut stream = TcpStream::connect(server.addr).expect("it listens");
    stream.write_all(&bytes).expect("it is taken");
    let said = server.process.event("xlog");
    assert_eq!(said["text"], "event 1");
    server.wait_until_read();
    wait_until("both packets to be counted", || {
        let page = metrics(&server);
        page.value("binrush_script_dropped_packets_total", &[]) == Some(1.0)
    });
    drop(stream);
    server.process.signal("TERM");
    let ended = server.process.finish().ok();
    let told: Vec<_> = ended.stderr.lines().collect();
    let begin = [
        "calls: fixup 1 startup",
        "calls: fixup 1 timer",
        "calls: fixup 1 event",
        "calls: fixup 1 stream",
        "calls: child_init",
        "calls: startup of 0",
    ];
    assert_eq!(told[..6], begin, "{}", ended.stderr);
    let end = [
        "calls: free 1 stream",
        "calls: free 1 event",
        "calls: free 1 timer",
        "calls: free 1 startup",
        "calls: destroy",
    ];
    assert_eq!(told[told.len() - 5..], end, "{}", ended.stderr);
    let stream = format!("calls: stream of {}", bytes.len());
    for once in ["calls: timer of 0", "calls: event of 0", &stream] {
        assert!(told.contains(&once), "{once}: {}", ended.stderr);
    }
}

#[test]
fn functions_over_the_budget_of_callbacks_are_counted_and_told_of() {
    let Some(workshop) = Workshop::new("modules-calls-slow", &["message"]) else {
        return;
    };
    let mut server = workshop.serve(
        "loadmodule \"message.so\"\n\
         modparam(\"binrush\", \"callback_budget\", 100000)\n\
         route { look(); if ($bin(type) == 2) dawdle(\"150\"); }",
    );
    server.send_all((1..4).map(|command| packet("nobody", command, "x", 1)));
    let told = server.process.event("module");
    assert_eq!(told["module"], "message", "{told}");
    let text = told["text"].as_str().expect("it is said in words");
    assert!(
        text.contains("1 function call took longer than 100ms"),
        "{text}"
    );
    let page = metrics(&server);
    let library = [("library", "message")];
    let over = page.value("binrush_library_functions_over_budget_total", &library);
    assert_eq!(over, Some(1.0));
    let longest = page.value("binrush_library_longest_callback_seconds", &library);
    assert!(longest >= Some(0.15), "{longest:?}");
    server.wait_until_read();
    let (_, total) = server.stop_after("TERM");
    let of_module = of_module(&total, "message");
    assert_eq!(of_module["functions"], 4, "{total}");
    assert_eq!(of_module["functions_over_budget"], 1, "{total}");
    assert_eq!(of_module["calls"], 0, "{total}");
}

#[test]
fn functions_are_shown_where_a_packet_came_from_and_where_it_arrived() {
    let Some(workshop) = Workshop::new("modules-received", &["calls"]) else {
        return;
    };
    let allow = "modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")";
    let server = workshop.serve(&format!(
        "loadmodule \"calls.so\"\n{allow}\nroute {{ received(); drop; }}"
    ));
    // Of many records, so that the kernel gives them to both shards, and some come by mail.
    let peers = ["127.45.7.1:0", "127.45.7.2:0"].map(|addr| UdpSocket::bind(addr).expect("free"));
    for number in 0..10 {
        let datagram = packet("nobody", 1, &format!("call-{number}"), number);
        for peer in &peers {
            peer.send_to(&datagram, server.addr).expect("loopback");
        }
    }
    let mut stream = TcpStream::connect(server.addr).expect("it listens");
    let bytes = made::packet(Generation::Modern, b"nobody", 2, &[b"call"]);
    stream.write_all(&bytes).expect("it is taken");
    wait_until("all packets to be counted", || {
        let page = metrics(&server);
        page.value("binrush_script_dropped_packets_total", &[]) == Some(21.0)
    });
    let from = stream.local_addr().expect("it is connected");
    drop(stream);
    let to = server.addr;
    server.process.signal("TERM");
    let ended = server.process.finish().ok();
    let line = |from: SocketAddr, proto: u8| {
        let words = |addr: SocketAddr| format!("{} {}", addr.ip(), addr.port());
        let (from, to) = (words(from), words(to));
        format!("calls: {from} to {to} by {proto}, {from}, 0 0 and no more")
    };
    let told = |line: String| ended.stderr.lines().filter(|told| *told == line).count();
    for peer in peers {
        let from = peer.local_addr().expect("it is bound");
        assert_eq!(told(line(from, 1)), 10, "{}", ended.stderr);
    }
    assert_eq!(told(line(from, 8)), 1, "{}", ended.stderr);
}

#[test]
fn a_call_that_no_module_takes_is_told_with_its_place_before_anything_is_opened() {
    let Some(workshop) = Workshop::new("modules-calls-refused", &["calls", "tutorial"]) else {
        return;
    };
    let libraries = "loadmodule \"calls.so\"\nloadmodule \"tutorial.so\"\n";
    let config = workshop.config("");
    for (route, place, words) in [
        (
            "startup_route { greet(); }",
            "9:17",
            "\"greet\" may not be called in a startup_route: only in route",
        ),
        (
            "route { on_reply(); }",
            "9:9",
            "\"on_reply\" may not be called in a route: in no route that there is here",
        ),
        (
            "route { greet(\"a\", \"b\"); }",
            "9:9",
            "\"greet\" takes 0 or 1 parameters, not 2",
        ),
        (
            "route { gret(); }",
            "9:9",
            "there is no function \"gret\": no module that is loaded has it",
        ),
        (
            "route { tell(\"refused\"); }",
            "9:9",
            "tell: module \"calls\" refuses parameter 1 of function \"tell\": its fixup answered -5",
        ),
    ] {
        let refused = workshop.refused(&format!("{libraries}{route}")).exits(2);
        let refused = refused.says(&[&format!("{config}:{place}: "), words, "calls: destroy\n"]);
        assert_eq!(refused.text(), "", "it was never ready");
        // Only who loads the modules can know.
        let checked = run(&["check", &config]).ok();
        let text = checked.text();
        assert!(
            text.contains("finds out whether the libraries have them"),
            "{text}"
        );
    }
}

#[test]
fn a_parameter_that_is_refused_frees_those_before_it_and_then_earlier_calls() {
    let Some(workshop) = Workshop::new("modules-calls-undone", &["calls"]) else {
        return;
    };
    let lines =
        "loadmodule \"calls.so\"\nroute { tell(\"first\"); three(\"a\", \"refused\", \"c\"); }";
    let refused = workshop.refused(lines).exits(2);
    let refused = refused.says(&[
        "module \"calls\" refuses parameter 2 of function \"three\": its fixup answered -5",
    ]);
    let told = refused.stderr.lines();
    let told: Vec<_> = told.filter(|line| line.starts_with("calls: ")).collect();
    let expected = [
        "calls: fixup 1 first",
        "calls: fixup 1 a",
        "calls: fixup 2 refused",
        "calls: free 1 a",
        "calls: free 1 first",
        "calls: destroy",
    ];
    assert_eq!(told, expected, "{}", refused.stderr);
}

#[test]
fn functions_of_a_reentrant_module_run_on_the_shards_of_their_packets() {
    let Some(workshop) = Workshop::new("modules-calls-shards", &["shards"]) else {
        return;
    };
    let server = workshop.serve(
        "loadmodule \"shards.so\"\nmodparam(\"binrush\", \"reentrant\", \"shards\")\n\
         route { if (!visit()) drop; }",
    );
    server.send_all((0..200).map(|number| packet("dialog", 1, &format!("call-{number}"), number)));
    wait_for(&server, "shards", "visits", 200.0);
    let page = metrics(&server);
    assert_eq!(statistic(&page, "shards", "visitors"), Some(2.0));
    let library = [("library", "shards")];
    let functions = page.value("binrush_library_functions_total", &library);
    assert_eq!(functions, Some(200.0));
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(count(&total, "received"), 200);
    // Each thread had its child_init.
    assert!(total["outcomes"]["dropped_by_script"].is_null(), "{total}");
}

#[test]
fn a_crash_in_a_function_names_its_module() {
    let Some(workshop) = Workshop::new("modules-calls-crash", &["message"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"message.so\"\nroute { fall(); }");
    server.send(&packet("nobody", 1, "x", 1));
    let ended = server.process.finish();
    let told = format!(
        "module message ({}) crashed: SIGSEGV at 0x0 on thread shard0\n",
        workshop.path("message.so")
    );
    assert_eq!(ended.stderr, told);
}

#[test]
fn a_reload_leaves_functions_as_they_were_prepared() {
    let Some(workshop) = Workshop::new("modules-calls-reload", &["calls"]) else {
        return;
    };
    let lines = "loadmodule \"calls.so\"\nroute { if (tell(\"packet\")) drop; }\n";
    let mut server = workshop.serve(lines);
    server.send(&packet("nobody", 1, "x", 1));
    server.wait_until_read();
    let changed = "the script";
    for (lines, is_changed) in [
        (lines.to_owned(), false),
        (lines.replace("\"packet\"", "\"another\""), true),
    ] {
        workshop.config(&lines);
        server.process.signal("HUP");
        let told = server.process.event("reload");
        assert_eq!(told["done"], true, "{told}");
        assert_eq!(told.to_string().contains(changed), is_changed, "{told}");
        server.send(&packet("nobody", 1, "x", 2));
    }
    server.wait_until_read();
    server.process.signal("TERM");
    let ended = server.process.finish().ok();
    let told: Vec<_> = ended.stderr.lines().collect();
    let packet = format!("calls: packet of {}", packet("nobody", 1, "x", 1).len());
    let expected = [
        "calls: fixup 1 packet",
        "calls: child_init",
        &packet,
        &packet,
        &packet,
        "calls: free 1 packet",
        "calls: destroy",
    ];
    assert_eq!(told, expected);
    let total = ended.json();
    let total = total.last().expect("a last line");
    assert_eq!(total["outcomes"]["dropped_by_script"], 3, "{total}");
}

#[test]
fn a_node_of_a_cluster_whose_route_belongs_to_one_shard_has_no_other() {
    let Some(workshop) = Workshop::new("modules-calls-cluster", &["calls"]) else {
        return;
    };
    let other = Workshop::new("modules-calls-cluster-2", &["calls"]).expect("as before");
    let node = |me: u8, more: &str| {
        let info = |id: u8| {
            let (which, seed) = match id == me {
                true => ("my_node_info", if id == 1 { ", flags=seed" } else { "" }),
                false => ("neighbor_node_info", ""),
            };
            format!(
                "modparam(\"clusterer\", \"{which}\", \"cluster_id=1, node_id={id}, url=bin:127.45.6.{id}:5577{seed}\")\n"
            )
        };
        format!(
            "listen = bin:127.45.6.{me}:5577\nloadmodule \"calls.so\"\nloadmodule \"clusterer.so\"\nloadmodule \"cachedb_local.so\"\n\
             modparam(\"clusterer\", \"db_mode\", 0)\nmodparam(\"clusterer\", \"my_node_id\", {me})\n{}{}\
             modparam(\"clusterer\", \"ping_interval\", 1)\nmodparam(\"clusterer\", \"seed_fallback_interval\", 1)\n\
             modparam(\"cachedb_local\", \"cluster_id\", 1)\n{more}",
            info(1),
            info(2)
        )
    };
    // Elsewhere than on the thread of child_init it answers -9.
    let route = "route { by_connection(); if ($rc == -9) drop; }\n";
    let mut one = workshop.serve(&node(1, route));
    let two = other.serve(&node(2, route));
    let (shards, readers) = (&one.ready["shards"], &one.ready["readers"]);
    assert_eq!(shards.as_array().map(Vec::len), Some(1), "{}", one.ready);
    assert_eq!(readers.as_array().map(Vec::len), Some(0), "{}", one.ready);
    let warnings = one.ready["warnings"].to_string();
    let expected = "route can reach functions of module calls, which run on one shard: so this node of a cluster has one shard";
    assert!(warnings.contains(expected), "{warnings}");
    wait_until("the nodes to see each other", || {
        let sees = |workshop: &Workshop| {
            let control = workshop.path("control.sock");
            let answer = run(&["cluster", "nodes", "--json", "--control", &control]);
            answer.text().contains("\"link\":\"up\"")
        };
        sees(&workshop) && sees(&other)
    });
    // What it was asked for is no change. What the nodes say of each other comes first.
    one.process.signal("HUP");
    let reload = |line: String| Some(line).filter(|line| line.contains("\"event\":\"reload\""));
    let told = (0..100).find_map(|_| reload(one.process.line()));
    let told = told.expect("a reload is told of");
    assert!(
        !told.contains("readers") && !told.contains("number of shards"),
        "{told}"
    );
    for server in [one, two] {
        let lines = server.process.stop("TERM").ok().json();
        let total = lines.last().expect("a last line");
        assert_eq!(total["balanced"], true, "{total}");
        assert!(total["outcomes"]["dropped_by_script"].is_null(), "{total}");
        let of_module = of_module(total, "calls");
        assert!(of_module["functions"].as_u64() >= Some(4), "{total}");
    }
    // Where its code may run anywhere nothing is taken away.
    let reentrant = node(1, route) + "modparam(\"binrush\", \"reentrant\", \"calls\")\n";
    let server = workshop.serve(&reentrant);
    assert_eq!(server.ready["shards"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.ready["readers"].as_array().map(Vec::len), Some(1));
    // Who has one because of its route cannot go on with those of two, and says why.
    let mut heir = workshop.args(&workshop.config(&node(1, route)));
    heir.push("--handover".to_owned());
    run(&heir).exits(1).says(&[
        "it has 2 shards, and the route of this configuration can reach functions of modules that run on one shard",
    ]);
    server.process.stop("TERM").ok();
}
