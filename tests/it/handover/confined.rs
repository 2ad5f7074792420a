//! What a server is left with after its start.

use std::fs;
use std::net::UdpSocket;

use super::{House, Sums};
use crate::process::{Running, skip};
use crate::receiver::addresses;

/// What the kernel says under `key` of each thread of `server`.
fn of_threads(server: &Running, key: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs");
    let status = tasks.map(|task| fs::read_to_string(task.expect("it runs").path().join("status")));
    let values = status.map(|status| {
        let status = status.expect("anybody may read it");
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(key));
        value.expect("the kernel tells it").trim().to_owned()
    });
    values.collect()
}

#[test]
fn every_thread_is_without_capabilities_and_the_ready_line_says_what_was_given_up() {
    let house = House::new("confined", "2", "");
    let (server, ready) = house.first();
    let confined = &ready["confined"];
    for what in [
        "no_new_privs",
        "no core files",
        "not dumpable",
        "no capabilities",
    ] {
        assert!(confined["done"].to_string().contains(what), "{confined}");
    }
    for key in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        let sets = of_threads(&server, key);
        assert!(sets.len() > 3 && sets.iter().all(|set| set.bytes().all(|byte| byte == b'0')));
    }
    assert!(
        of_threads(&server, "NoNewPrivs:")
            .iter()
            .all(|flag| flag == "1")
    );
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id()));
    if let Ok(limits) = limits {
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<_> = core.expect("a limit").split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"]);
    }
    // It works all the same: records are kept, and a reload reads its configuration.
    let peer = UdpSocket::bind((super::HOST, 0)).unwrap();
    let packet = super::deed(1).packet(binrush_wire::Release::V1x);
    peer.send_to(&packet, addresses(&ready)[0]).unwrap();
    server.signal("HUP");
    let mut server = server;
    assert_eq!(server.event("reload")["done"], true);
    server.signal("TERM");
    Sums::default().ends(server);
    assert_eq!(house.records(), super::after(1));
}

#[test]
fn files_outside_the_folders_of_the_start_are_not_seen_and_the_reload_says_why() {
    let house = House::new("confined-files", "1", "");
    let (mut server, ready) = house.first();
    if !ready["confined"]["done"].to_string().contains("landlock") {
        return skip("this kernel has no Landlock");
    }
    let elsewhere = crate::process::Scratch::new("confined-elsewhere");
    let line = format!(
        "loadmodule \"tls_mgm.so\"\nlisten = bins:{}:0\nmodparam(\"tls_mgm\", \"certificate\", \"{}\")\nmodparam(\"tls_mgm\", \"private_key\", \"{}\")\nmodparam(\"tls_mgm\", \"ca_list\", \"{}\")\n",
        super::HOST,
        elsewhere.file("cert.pem", b"secret"),
        elsewhere.file("key.pem", b"secret"),
        elsewhere.file("ca.pem", b"secret"),
    );
    let text = fs::read_to_string(&house.config).unwrap() + &line;
    fs::write(&house.config, text).unwrap();
    server.signal("HUP");
    let told = server.event("reload");
    assert_eq!(told["done"], false, "{told}");
    assert!(
        told["text"].to_string().contains("ermission denied"),
        "{told}"
    );
    assert!(
        told["warnings"].to_string().contains("--handover"),
        "{told}"
    );
    server.stop("TERM").ok();
}

#[test]
fn who_does_not_want_it_is_not_confined() {
    let house = House::new(
        "confined-off",
        "1",
        "modparam(\"binrush\", \"confine\", \"off\")\n",
    );
    let (server, ready) = house.first();
    assert_eq!(ready["confined"], serde_json::Value::Null);
    assert!(
        of_threads(&server, "NoNewPrivs:")
            .iter()
            .all(|flag| flag == "0")
    );
    server.stop("TERM").ok();
}
