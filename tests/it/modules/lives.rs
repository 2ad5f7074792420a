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

#[test]
fn a_name_of_two_modules_stays_with_the_one_that_had_it_in_the_life_before() {
    let Some(workshop) = Workshop::new("modules-same", &["shards", "twice", "failing_child"])
    else {
        return;
    };
    // child_init of the first one comes behind mod_init of the second.
    let lines = "loadmodule \"shards.so\"\nmodparam(\"shards\", \"late_name\", \"twice\")\n\
                 loadmodule \"twice.so\"\n";
    let mut server = workshop.serve(lines);
    server.send(&packet("twice", 1, "x", 1));
    wait_for(&server, "shards", "late", 1.0);
    let config = fs::read_to_string(workshop.scratch.path("binrush.cfg")).expect("it is there");
    let failing = format!("{config}loadmodule \"failing_child.so\"\n");
    let mut heir = workshop.args(&workshop.scratch.file("failing.cfg", failing.as_bytes()));
    heir.push("--handover".to_owned());
    run(&heir).exits(1).says(&["failing_child"]);
    server.process.event("total");
    assert_eq!(server.process.event("handover")["done"], false);
    server.ready = server.process.event("ready");
    server.send(&packet("twice", 1, "x", 2));
    wait_for(&server, "shards", "late", 2.0);
    server.stop_after("TERM");
}

#[track_caller]
fn total_of(ended: &Finished) -> Value {
    let lines = ended.json();
    let total = lines.into_iter().rfind(|line| line["event"] == "total");
    let total = total.expect("totals");
    assert_eq!(total["balanced"], true, "{total}");
    total
}

/// A configuration of this workshop with a file that holds up `child_init`, and the arguments of an heir with it.
fn held_heir(workshop: &Workshop, lines: &str, http: &str) -> (Vec<String>, String) {
    let hold = workshop.scratch.file("hold", b"");
    let config = workshop.config(&format!(
        "{lines}modparam(\"shards\", \"hold\", \"{hold}\")\n"
    ));
    let text = fs::read_to_string(&config).expect("it was written");
    let text = text.replace("\"127.0.0.1:0\"", &format!("\"{http}\""));
    let config = workshop.scratch.file("heir.cfg", text.as_bytes());
    let mut args = workshop.args(&config);
    args.push("--handover".to_owned());
    (args, hold)
}

fn wait_for_child(hold: &str) {
    wait_until("child_init to be called", || {
        fs::read(hold).is_ok_and(|said| said == b"w")
    });
}

fn let_go(hold: &str) {
    fs::write(hold, b"go").expect("it is ours");
}

/// Packets of as many records.
fn send(to: &Receiver, name: &str, command: i32, count: i32) {
    for number in 0..count {
        to.send(&packet(name, command, &format!("call-{number}"), number));
    }
}

#[test]
fn an_heir_that_fails_has_received_nothing_and_the_giver_goes_on_with_all_names() {
    let Some(workshop) = Workshop::new("modules-back", &["shards"]) else {
        return;
    };
    let late = "loadmodule \"shards.so\"\nmodparam(\"shards\", \"late_name\", \"greeting\")\n";
    let reentrant = "modparam(\"binrush\", \"reentrant\", \"shards\")\n";
    for (more, children) in [("", 1.0), (reentrant, 4.0)] {
        let mut giver = workshop.serve(&format!("{late}{more}"));
        // Fails on its second shard, when the first has begun.
        let failing = format!(
            "{late}{reentrant}modparam(\"shards\", \"hold_at\", 1)\nmodparam(\"shards\", \"hold_answer\", -1)\n"
        );
        let (args, hold) = held_heir(&workshop, &failing, "127.0.0.1:0");
        let heir = Running::start(&args);
        wait_for_child(&hold);
        send(&giver, "greeting", 1, 100);
        send(&giver, "shards", 1, 100);
        let_go(&hold);
        heir.finish()
            .exits(1)
            .says(&["shard1 cannot begin", "child_init"]);
        assert_eq!(giver.process.event("total")["received"], 0);
        assert_eq!(giver.process.event("handover")["done"], false);
        giver.ready = giver.process.event("ready");
        wait_for(&giver, "shards", "late", 100.0);
        wait_for(&giver, "shards", "packets", 100.0);
        let page = metrics(&giver);
        assert_eq!(statistic(&page, "shards", "children"), Some(children));
        if !more.is_empty() {
            assert_eq!(statistic(&page, "shards", "foreign"), Some(0.0));
        }
        let total = total_of(&giver.process.stop("TERM").ok());
        assert_eq!(count(&total, "received") + dropped(&total), 200, "{total}");
    }
}

#[test]
fn a_name_that_child_init_registers_has_the_first_packet_of_an_heir() {
    let Some(workshop) = Workshop::new("modules-first", &["shards"]) else {
        return;
    };
    let lines = "loadmodule \"usrloc.so\"\nloadmodule \"shards.so\"\n\
                 modparam(\"shards\", \"late_name\", \"ul\")\nmodparam(\"binrush\", \"override\", \"ul\")\n";
    let giver = workshop.serve(lines);
    let (args, hold) = held_heir(&workshop, lines, "127.0.0.1:0");
    let heir = Running::start(&args);
    wait_for_child(&hold);
    send(&giver, "ul", 1, 200);
    let_go(&hold);
    let heir = Receiver::of(heir);
    let warned = heir.ready["warnings"].to_string();
    assert!(!warned.contains("no module registers"), "{warned}");
    wait_for(&heir, "shards", "late", 200.0);
    giver.process.finish().ok();
    let total = total_of(&heir.process.stop("TERM").ok());
    assert_eq!(total["outcomes"]["handled"], 200, "{total}");
}

#[test]
fn nobody_ends_a_module_while_a_shard_is_inside_it() {
    let Some(workshop) = Workshop::new("modules-inside", &["shards"]) else {
        return;
    };
    let giver = workshop.serve("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let http = taken.local_addr().expect("it is bound").to_string();
    // A late name has each shard go round once before anything else can fail.
    let lines = "loadmodule \"shards.so\"\nmodparam(\"shards\", \"tells\", 1)\n\
                 modparam(\"shards\", \"late_name\", \"greeting\")\n";
    let (args, hold) = held_heir(&workshop, lines, &http);
    let heir = Running::start(&args);
    wait_for_child(&hold);
    send(&giver, "shards", FOR_EVER, 64);
    let_go(&hold);
    let ended = heir.finish().exits(1).says(&[&http]);
    assert!(!ended.stderr.contains("destroyed"), "{}", ended.stderr);
    total_of(&giver.process.stop("TERM").ok());
}

/// A packet that `shards.c` is never done with.
const FOR_EVER: i32 = 9;

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
