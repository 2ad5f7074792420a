use super::*;

use std::io::Write as _;
use std::net::TcpStream;

/// Packets of a name, each of another record.
fn numbered(name: &str, numbers: std::ops::Range<i32>) -> impl Iterator<Item = Vec<u8>> + '_ {
    numbers.map(move |number| packet(name, 1, &format!("call-{number}"), number))
}

/// What `shards.c` says of how it was called.
#[track_caller]
fn surprises(page: &Exposition) -> [Option<f64>; 4] {
    ["wrong_rank", "at_once", "foreign", "disordered"].map(|name| statistic(page, "shards", name))
}

#[test]
fn a_module_is_called_on_one_thread_one_packet_after_the_other_and_in_order() {
    let Some(workshop) = Workshop::new("modules-one", &["shards"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"shards.so\"\n");
    server.send_all(numbered("shards", 0..2000));
    wait_for(&server, "shards", "packets", 2000.0);
    // What comes by connections is read by whichever shard has the connection.
    for number in 2000..2010 {
        let mut stream = TcpStream::connect(server.addr).expect("it listens");
        let packet = fields(Generation::Modern, "shards", 1, "x", number);
        stream.write_all(&packet).expect("it is taken");
        wait_for(&server, "shards", "packets", f64::from(number + 1));
    }
    let page = metrics(&server);
    assert_eq!(surprises(&page), [Some(0.0); 4]);
    assert_eq!(statistic(&page, "shards", "children"), Some(1.0));
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["balanced"], true, "{total}");
    assert_eq!(of_module(&total, "shards")["calls"], 2010);
}

#[test]
fn a_reentrant_module_has_a_child_and_its_callbacks_on_every_shard() {
    let Some(workshop) = Workshop::new("modules-reentrant", &["shards"]) else {
        return;
    };
    let lines = "loadmodule \"shards.so\"\n\
                 modparam(\"shards\", \"name\", \"ul\")\n\
                 modparam(\"binrush\", \"reentrant\", \"shards\")";
    let server = workshop.serve(lines);
    assert_eq!(server.ready["modules"][0]["reentrant"], true);
    // Of many AoRs, so that both shards have some.
    let contact = |number| {
        let mut buffer = [0; 256];
        let mut builder =
            Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 1).expect("it fits");
        builder.push_str(b"location").expect("it fits");
        let aor = format!("user{number}");
        builder.push_str(aor.as_bytes()).expect("it fits");
        builder.seal().to_vec()
    };
    server.send_all((0..400).map(contact));
    wait_for(&server, "shards", "packets", 400.0);
    let page = metrics(&server);
    let of_shard = |shard| {
        let labels = [("shard", shard), ("outcome", "handled")];
        page.value("binrush_datagrams_total", &labels)
    };
    assert!(of_shard("0") > Some(50.0) && of_shard("1") > Some(50.0));
    assert_eq!(statistic(&page, "shards", "children"), Some(2.0));
    assert_eq!(statistic(&page, "shards", "foreign"), Some(0.0));
    assert_eq!(statistic(&page, "shards", "wrong_rank"), Some(0.0));
    let total = server.stop("TERM");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn a_name_of_a_built_in_part_is_taken_where_that_is_said_alone() {
    let Some(workshop) = Workshop::new("modules-override", &["shards"]) else {
        return;
    };
    let lines = "loadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\nloadmodule \"shards.so\"\n\
                 modparam(\"shards\", \"name\", \"ul\")\n";
    let tells = format!("{lines}modparam(\"shards\", \"tells\", 1)");
    let config = workshop.config("");
    workshop.refused(&tells).exits(2).says(&[
        &format!("{config}:9:12: module shards registers packets named \"ul\", which a built-in part takes"),
        "modparam(\"binrush\", \"override\", \"ul\")",
        "shards: destroyed\n",
    ]);
    let lines = format!("{lines}modparam(\"binrush\", \"override\", \"ul,greeting\")\n");
    let server = workshop.serve(&lines);
    let warned = server.ready["warnings"].to_string();
    assert!(
        warned.contains("override: no module registers \\\"greeting\\\""),
        "{warned}"
    );
    let handlers = server.ready["handlers"].to_string();
    assert!(handlers.contains("dialog") && !handlers.contains("\"ul\""));
    // No part that knows contacts would take such a packet.
    server.send_all(numbered("ul", 0..50));
    wait_for(&server, "shards", "packets", 50.0);
    let total = server.stop("TERM");
    assert_eq!(total["outcomes"]["handled"], 50, "{total}");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn what_child_init_registers_is_called_too() {
    let Some(workshop) = Workshop::new("modules-late", &["shards"]) else {
        return;
    };
    let late = "loadmodule \"shards.so\"\nmodparam(\"shards\", \"late_name\", \"greeting\")\n";
    for reentrant in ["", "modparam(\"binrush\", \"reentrant\", \"shards\")\n"] {
        let server = workshop.serve(&format!("{late}{reentrant}"));
        server.send_all(numbered("greeting", 0..20));
        wait_for(&server, "shards", "late", 20.0);
        let page = metrics(&server);
        assert_eq!(statistic(&page, "shards", "foreign"), Some(0.0));
        server.stop("TERM");
    }
    let taken = "loadmodule \"usrloc.so\"\nloadmodule \"shards.so\"\nmodparam(\"shards\", \"late_name\", \"ul\")\n";
    let config = workshop.config("");
    workshop.refused(taken).exits(1).says(&[&format!(
        "shard0 cannot begin: {config}:8:12: module shards registers packets named \"ul\", which a built-in part takes"
    )]);
}

#[test]
fn of_two_callbacks_with_one_name_in_one_child_init_the_last_is_called() {
    let Some(workshop) = Workshop::new("modules-twice", &["twice"]) else {
        return;
    };
    let lines = "loadmodule \"twice.so\"\nmodparam(\"twice\", \"in_child\", 1)\n";
    for reentrant in ["", "modparam(\"binrush\", \"reentrant\", \"twice\")\n"] {
        let server = workshop.serve(&format!("{lines}{reentrant}"));
        server.send_all(numbered("twice", 0..20));
        wait_for(&server, "twice", "later", 20.0);
        server.stop("TERM");
    }
}

#[test]
fn a_pointer_that_is_kept_is_found_by_the_poison() {
    let Some(workshop) = Workshop::new("modules-kept", &["kept"]) else {
        return;
    };
    let lines = "loadmodule \"kept.so\"\nmodparam(\"binrush\", \"poison\", \"on\")\n";
    let server = workshop.serve(lines);
    server.send_all((0..10).map(|number| packet("kept", 1, "text", number)));
    wait_for(&server, "kept", "packets", 10.0);
    let page = metrics(&server);
    // The first packet has nothing to look at; behind it the place is overwritten each time, and then holds the next packet.
    let found = ["poisoned", "intact"].map(|name| statistic(&page, "kept", name));
    assert_eq!(found[0].zip(found[1]).map(|(a, b)| a + b), Some(9.0));
    assert!(server.stop("TERM")["balanced"] == true);
}
