use super::*;

use std::net::UdpSocket;

use crate::receiver::{addresses, dropped};

#[test]
fn a_server_with_modules_hands_over_and_each_life_has_its_own() {
    let Some(workshop) = Workshop::new("modules-handover", &["shards", "failing_init"]) else {
        return;
    };
    let lines = "loadmodule \"shards.so\"\nmodparam(\"shards\", \"tells\", 1)\n";
    let first = workshop.serve(lines);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mut sent = 0;
    let mut send = |count: i32| {
        for number in sent..sent + count {
            let packet = packet("shards", 1, "x", number);
            peer.send_to(&packet, first.addr).expect("loopback");
        }
        sent += count;
    };
    send(100);
    // An heir whose module fails costs the running one nothing.
    let config = workshop.scratch.path("binrush.cfg");
    let running = fs::read_to_string(&config).expect("it is there");
    let broken = format!("{running}loadmodule \"failing_init.so\"\n");
    let broken = workshop.scratch.file("broken.cfg", broken.as_bytes());
    let heir = |config: &str| {
        let mut args = workshop.args(config);
        args.push("--handover".to_owned());
        args
    };
    run(&heir(&broken)).exits(1).says(&["failing_init"]);
    send(100);
    wait_for(&first, "shards", "packets", 200.0);
    let mut second = Running::start(&heir(&config));
    let ready = second.event("ready");
    assert_eq!(ready["handover"]["from"], "giver", "{ready}");
    assert_eq!(addresses(&ready)[0], first.addr);
    send(100);
    let ended = first.process.finish().ok().says(&["shards: destroyed\n"]);
    let total = total_of(&ended);
    let received = count(&total, "received") + dropped(&total);
    assert_eq!(of_module(&total, "shards")["calls"], total["received"]);
    second.signal("TERM");
    let ended = second.finish().ok().says(&["shards: destroyed\n"]);
    let total = total_of(&ended);
    assert_eq!(received + count(&total, "received") + dropped(&total), 300);
    assert_eq!(of_module(&total, "shards")["calls"], total["received"]);
}

#[test]
fn a_life_that_goes_on_with_its_own_sockets_counts_its_own_callbacks() {
    let Some(workshop) = Workshop::new("modules-again", &["shards", "failing_child"]) else {
        return;
    };
    let mut server = workshop.serve("loadmodule \"shards.so\"\n");
    server.send_all((0..10).map(|number| packet("shards", 1, "x", number)));
    wait_for(&server, "shards", "packets", 10.0);
    let config = fs::read_to_string(workshop.scratch.path("binrush.cfg")).expect("it is there");
    let failing = format!("{config}loadmodule \"failing_child.so\"\n");
    let mut heir = workshop.args(&workshop.scratch.file("failing.cfg", failing.as_bytes()));
    heir.push("--handover".to_owned());
    run(&heir).exits(1).says(&["failing_child"]);
    let first = server.process.event("total");
    assert_eq!(of_module(&first, "shards")["calls"], 10, "{first}");
    let told = server.process.event("handover");
    assert_eq!(told["done"], false, "{told}");
    // A run has its own page, too.
    server.ready = server.process.event("ready");
    server.send_all((10..15).map(|number| packet("shards", 1, "x", number)));
    wait_for(&server, "shards", "packets", 15.0);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(of_module(&total, "shards")["calls"], 5, "{total}");
    assert_eq!(count(&total, "received"), 5, "{total}");
}

#[track_caller]
fn total_of(ended: &Finished) -> Value {
    let lines = ended.json();
    let total = lines.into_iter().rfind(|line| line["event"] == "total");
    let total = total.expect("totals");
    assert_eq!(total["balanced"], true, "{total}");
    total
}

#[test]
fn modules_stay_as_they_are_when_the_configuration_is_read_again() {
    let Some(workshop) = Workshop::new("modules-reload", &["shards", "mi"]) else {
        return;
    };
    let mut server = workshop.serve("loadmodule \"shards.so\"\n");
    server.send(&packet("shards", 1, "x", 1));
    wait_for(&server, "shards", "packets", 1.0);
    // The same behind another line.
    workshop.config("# nothing\nloadmodule \"shards.so\"\n");
    server.process.signal("HUP");
    let told = server.process.event("reload");
    assert!(!told["text"].to_string().contains("modules"), "{told}");
    workshop.config("loadmodule \"shards.so\"\nloadmodule \"mi.so\"\n");
    server.process.signal("HUP");
    let told = server.process.event("reload");
    assert_eq!(told["done"], true, "{told}");
    let said =
        "what is said of modules from shared libraries changed: takes effect at the next start";
    assert!(told["text"].to_string().contains(said), "{told}");
    server.send(&packet("shards", 1, "x", 2));
    wait_for(&server, "shards", "packets", 2.0);
    let page = metrics(&server);
    assert_eq!(statistic(&page, "shards", "children"), Some(1.0));
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["balanced"], true, "{total}");
}
