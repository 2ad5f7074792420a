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
fn a_cluster_and_a_route_that_belongs_to_one_shard_are_not_possible_together() {
    let Some(workshop) = Workshop::new("modules-calls-cluster", &["calls"]) else {
        return;
    };
    let lines = |more: &str| {
        format!(
            "listen = bin:127.45.6.1:5577\nloadmodule \"calls.so\"\nloadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:127.45.6.1:5577\")\n\
             modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, node_id=2, url=bin:127.45.6.2:5577\")\n{more}"
        )
    };
    let refused = workshop.refused(&lines("route { by_connection(); }"));
    refused
        .exits(2)
        .says(&["route can reach functions of module calls"]);
}
