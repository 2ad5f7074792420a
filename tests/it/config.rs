//! `binrush check` as a process: what configurations mean, and where they are wrong.

use std::process::ExitStatus;

use serde_json::{Value, json};

use crate::process::{Finished, Running, Scratch, run};

/// Runs `binrush check` on a file with this text; the file is called `binrush.cfg`.
fn check(name: &str, text: &str, more: &[&str]) -> (Finished, Scratch) {
    let folder = Scratch::new(name);
    let file = folder.file("binrush.cfg", text.as_bytes());
    let mut args = vec!["check", &file];
    args.extend(more);
    (run(&args), folder)
}

/// What `binrush check --json` says of `text`, and how it ended.
fn check_json(name: &str, text: &str) -> (Value, ExitStatus) {
    let (finished, _folder) = check(name, text, &["--json"]);
    let status = finished.status;
    let [ref json] = finished.quiet().json()[..] else {
        panic!("one line")
    };
    assert_eq!(json["event"], "check");
    (json.clone(), status)
}

#[test]
fn the_example_of_the_3_6_manual_is_understood_as_it_is_written() {
    let text = r#"
   listen = bin:10.0.0.150:5062
   loadmodule "proto_bin.so"

   modparam("dialog", "dialog_replication_cluster", 1)
   modparam("dialog", "profile_replication_cluster", 2)
   modparam("usrloc", "location_cluster", 2)
"#;
    let (meaning, status) = check_json("check-3.6", text);
    assert_eq!(status.code(), Some(0));
    assert_eq!(meaning["ok"], true);
    assert_eq!(meaning["listen"][0]["endpoint"], "bin:10.0.0.150:5062");
    assert_eq!(meaning["listen"][0]["transports"], json!(["udp", "tcp"]));
    assert_eq!(meaning["shards"], Value::Null);
    let parts = meaning["parts"].as_array().expect("a list");
    let parts: Vec<_> = parts
        .iter()
        .map(|part| part["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(parts, ["proto_bin", "dialog", "usrloc"]);
    let set = meaning["parameters"].as_array().expect("a list");
    let set: Vec<_> = set
        .iter()
        .map(|set| (set["name"].as_str().expect("a name"), &set["values"][0]))
        .collect();
    assert_eq!(set[0], ("dialog_replication_cluster", &Value::from(1)));
    assert_eq!(set[2], ("location_cluster", &Value::from(2)));
}

#[test]
fn the_example_of_the_1_11_manual_is_understood_as_it_is_written() {
    let text = r#"
   bin_listen = 10.0.0.150:5062
   bin_children = 4

   modparam("dialog", "accept_replicated_dialogs", 1)
   modparam("dialog", "replicate_dialogs_to", "78.46.64.50:5062")
   modparam("usrloc", "accept_replicated_contacts", 1)
"#;
    let (finished, folder) = check("check-1.11", text, &[]);
    let finished = finished.ok();
    let meaning = [
        "listen    bin:10.0.0.150:5062 (udp)",
        "access    127.0.0.0/8, ::1/128, 78.46.64.50/32",
        "shards    4 (bin_children)",
        "parts     dialog, usrloc",
        "set       dialog accept_replicated_dialogs = 1",
        "set       dialog replicate_dialogs_to = \"78.46.64.50:5062\"",
        "set       usrloc accept_replicated_contacts = 1",
    ];
    for line in meaning {
        assert!(
            finished.lines().contains(&line),
            "no {line} in: {}",
            finished.text()
        );
    }
    let file = folder.path("binrush.cfg");
    for part in ["dialog", "usrloc"] {
        assert!(
            finished
                .stderr
                .contains(&format!("{part} is not loaded anywhere")),
            "{}",
            finished.stderr
        );
    }
    let warnings = finished.stderr.lines();
    assert!(
        warnings
            .into_iter()
            .all(|line| line.starts_with(&format!("warning: {file}:"))),
        "{}",
        finished.stderr
    );
}

/// A node of 3.x with a cluster over TLS, as its configuration has it about BIN.
const OVER_TLS: &str = r#"
socket = bin:127.0.0.1:5566 tag clear
socket = bins:127.0.0.1:5567
tcp_max_connections = 100
tcp_keepalive = no
loadmodule "proto_bin.so"
loadmodule "proto_bins.so"
loadmodule "tls_openssl.so"
loadmodule "tls_mgm.so"
modparam("proto_bins", "bins_handshake_timeout", 1500)
modparam("tls_mgm", "server_domain", "node")
modparam("tls_mgm", "tls_method", "[node]TLSv1_2-TLSv1_3")
modparam("tls_mgm", "certificate", "[node]/etc/tls/cert.pem")
modparam("tls_mgm", "private_key", "[node]/etc/tls/key.pem")
modparam("tls_mgm", "ca_list", "[node]/etc/tls/ca.pem")
modparam("binrush", "tls_pin", "[node]1111111111111111111111111111111111111111111111111111111111111111")
modparam("binrush", "peer", "addr=127.0.0.2, generation=2.2, name=sip2")
modparam("binrush", "stream_backend", "recv")
"#;

#[test]
fn connections_and_tls_are_told_with_all_that_holds_for_them() {
    let (finished, _folder) = check("check-tls", OVER_TLS, &[]);
    let finished = finished.ok();
    for line in [
        "listen    bin:127.0.0.1:5566 (udp, tcp, tag clear)",
        "listen    bins:127.0.0.1:5567 (tls, domain node)",
        "streams   recv, 100 connections, 64 of one address, backlog 511",
        "deadlines a packet within 4 s, idle 120 s, unacknowledged 20 s, keepalive off",
        "memory    1048576 bytes for a connection, 67108864 for those of a shard",
        "peer      127.0.0.2/32 2.2, sip2",
        "tls       1.5 s for a handshake, 64 at once",
        "tls       server node: TLS 1.2 to TLS 1.3, certificate /etc/tls/cert.pem, key /etc/tls/key.pem, trusts \
         /etc/tls/ca.pem, a certificate is required, 1 pin",
        "parts     proto_bin, proto_bins, tls_mgm",
    ] {
        assert!(
            finished.lines().contains(&line),
            "no {line} in: {}",
            finished.text()
        );
    }
    finished.says(&["tls_openssl is not needed: TLS is built in"]);
}

#[test]
fn connections_and_tls_are_told_to_tools() {
    let (meaning, status) = check_json("check-tls-json", OVER_TLS);
    assert_eq!(status.code(), Some(0));
    let listen = &meaning["listen"][1];
    assert_eq!(
        (&listen["transports"], &listen["domain"]),
        (&json!(["tls"]), &json!("node"))
    );
    let streams = &meaning["streams"];
    for (key, value) in [
        ("backend", json!("recv")),
        ("connections", json!(100)),
        ("frame_deadline_ms", json!(4000)),
        ("keepalive", Value::Null),
        ("handshake_ms", json!(1500)),
        ("pieces", Value::Null),
    ] {
        assert_eq!(streams[key], value, "{key}");
    }
    let peer = json!({ "addr": "127.0.0.2/32", "generation": "2.2", "name": "sip2" });
    assert_eq!(streams["peers"], json!([peer]));
    let domain = &streams["tls"]["server"][0];
    assert_eq!(domain["certificate"], "/etc/tls/cert.pem");
    assert_eq!(domain["versions"], json!(["TLS 1.2", "TLS 1.3"]));
    assert_eq!(domain["pins"], json!(["11".repeat(32)]));
}

/// A standby of a cluster of two others, of which one is told to be older.
const IN_A_CLUSTER: &str = r#"
socket = bin:10.0.0.3:5566
udp_workers = 2
loadmodule "proto_bin.so"
loadmodule "clusterer.so"
loadmodule "dialog.so"
loadmodule "usrloc.so"
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", 3)
modparam("clusterer", "my_node_info", "cluster_id=7, url=bin:10.0.0.3:5566")
modparam("clusterer", "neighbor_node_info", "cluster_id=7, node_id=1, url=bin:10.0.0.1:5566, flags=seed")
modparam("clusterer", "neighbor_node_info", "cluster_id=7, node_id=2, url=bin:10.0.0.2, sip_addr=10.0.0.2:5060")
modparam("clusterer", "ping_timeout", 300)
modparam("clusterer", "sharing_tag", "vip1/7=backup")
modparam("dialog", "dialog_replication_cluster", 7)
modparam("dialog", "profile_replication_cluster", 7)
modparam("binrush", "peer", "addr=10.0.0.2, generation=2.4")
modparam("binrush", "cluster_learn", "10.1.0.0/24")
modparam("binrush", "control", "/run/binrush/control.sock")
"#;

#[test]
fn a_cluster_is_told_with_what_is_done_in_it_and_what_never_is() {
    let (finished, _folder) = check("check-cluster", IN_A_CLUSTER, &[]);
    let finished = finished.ok().quiet();
    for line in [
        "access    127.0.0.0/8, ::1/128, 10.0.0.3/32, 10.0.0.1/32, 10.0.0.2/32, 10.1.0.0/24",
        "shards    2 (udp_workers), and 1 that reads connections",
        "cluster   7: this is node 3 at bin:10.0.0.3:5566, priority 3, 3 PINGs more",
        "cluster   7: node 1 at bin:10.0.0.1:5566, priority 3, 3 PINGs more, seed, 3.6 until it shows another",
        "cluster   7: node 2 at bin:10.0.0.2, SIP 10.0.0.2:5060, priority 3, 3 PINGs more, 2.4",
        "cluster   7: learns nodes of 10.1.0.0/24, 3.6 until they show another",
        "cluster   7: keeps dialog-dlg-repl (synced), dialog-prof-repl (what comes)",
        "cluster   7: sharing tags vip1, none taken by itself",
        "cluster   7: a PING every 4 s, answered within 0.3 s, a node that is down tried every 60 s, a seed waits 5 s, a donor \
         may be silent 15 s",
        "cluster   7: a sync holds 67108864 bytes of each shard back, gives packets of 32768 bytes",
        "never     packets for another node are not forwarded, MI commands and removals of nodes that come by BIN are not \
         executed",
        "control   /run/binrush/control.sock",
        "parts     proto_bin, clusterer, dialog, usrloc",
    ] {
        assert!(
            finished.lines().contains(&line),
            "no {line} in: {}",
            finished.text()
        );
    }
}

#[test]
fn a_cluster_is_told_to_tools() {
    let (meaning, status) = check_json("check-cluster-json", IN_A_CLUSTER);
    assert_eq!(status.code(), Some(0));
    assert_eq!(meaning["readers"], 1);
    assert_eq!(meaning["control"], "/run/binrush/control.sock");
    let cluster = &meaning["clusters"][0];
    let me = json!({
        "id": 3,
        "url": "bin:10.0.0.3:5566",
        "endpoint": "bin:10.0.0.3:5566",
        "sip_addr": "",
        "priority": 3,
        "no_ping_retries": 3,
        "seed": false,
        "release": null,
    });
    for (key, value) in [
        ("id", json!(7)),
        ("me", me),
        ("release", json!("3.6")),
        ("learn", json!(["10.1.0.0/24"])),
        ("tags", json!(["vip1"])),
        ("ping_timeout_ms", json!(300)),
    ] {
        assert_eq!(cluster[key], value, "{key}");
    }
    let second = &cluster["neighbours"][1];
    assert_eq!(second["endpoint"], "bin:10.0.0.2:5555");
    assert_eq!(
        (&second["release"], &second["seed"]),
        (&json!("2.4"), &json!(false))
    );
    let capabilities = json!([
        { "name": "dialog-dlg-repl", "sync": true },
        { "name": "dialog-prof-repl", "sync": false },
    ]);
    assert_eq!(cluster["capabilities"], capabilities);
}

#[test]
fn a_node_of_no_cluster_is_told_that_it_is_in_none() {
    let text = "listen = bin:127.0.0.1:5566\nloadmodule \"clusterer.so\"\n";
    let (finished, folder) = check("check-no-cluster", text, &[]);
    let finished = finished.ok();
    let place = format!("warning: {}:2:12: clusterer: ", folder.path("binrush.cfg"));
    let finished = finished.says(&[&place, "so this node is in no cluster"]);
    let parts = "parts     clusterer (packets read and counted only)";
    assert!(finished.lines().contains(&parts), "{}", finished.text());
    assert!(
        !finished.text().contains("\ncluster "),
        "{}",
        finished.text()
    );
    let (meaning, _) = check_json("check-no-cluster-json", text);
    assert_eq!(
        (&meaning["clusters"], &meaning["control"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(
        meaning["parts"],
        json!([{ "name": "clusterer", "active": false }])
    );
}

#[test]
fn a_listener_over_tls_without_a_certificate_is_an_error_with_its_line() {
    let text = "listen = bin:127.0.0.1:5566\nlisten = bins:127.0.0.1:5567\n";
    let (finished, folder) = check("check-no-certificate", text, &[]);
    let place = format!("{}:2:10: ", folder.path("binrush.cfg"));
    let added = "modparam(\"tls_mgm\", \"server_domain\", \"node\")";
    finished
        .exits(2)
        .says(&[&place, "bins:127.0.0.1:5567 has no certificate", added]);
    // The same from the command line, where no file says anything.
    run(&["serve", "--listen", "bins:127.0.0.1:0"])
        .exits(2)
        .says(&["--listen bins:127.0.0.1:0", "--config FILE"]);
}

#[test]
fn a_node_of_1_x_takes_no_connections() {
    let text = "bin_listen = 127.0.0.1:5566\n";
    let (finished, _folder) = check("check-datagrams", text, &[]);
    let finished = finished.ok();
    assert_eq!(finished.lines()[0], "listen    bin:127.0.0.1:5566 (udp)");
    assert!(
        !finished.text().contains("\nstreams "),
        "{}",
        finished.text()
    );
}

#[test]
fn an_error_is_told_with_its_place_its_line_and_exit_code_2() {
    let text = "listen = bin:127.0.0.1:5566\nloadmodule \"dialog.so\"\n\tmodparam(\"dialog\", \"db_mod\", 0)\n";
    let (finished, folder) = check("check-wrong", text, &[]);
    let finished = finished.exits(2);
    assert_eq!(finished.text(), "");
    let file = folder.path("binrush.cfg");
    let expected = format!(
        "{file}:3:21: dialog has no parameter \"db_mod\"; did you mean \"db_mode\"?\n  \
         \u{20}modparam(\"dialog\", \"db_mod\", 0)\n{:>30}\n",
        "^".repeat(8)
    );
    assert_eq!(finished.stderr, expected);

    let (problems, status) = check_json("check-wrong-json", text);
    assert_eq!(status.code(), Some(2));
    assert_eq!(problems["ok"], false);
    let problem = &problems["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&Value::from(3), &Value::from(21))
    );
}

#[test]
fn files_are_included_from_the_folder_of_the_including_one() {
    let folder = Scratch::new("check-includes");
    let main = folder.file(
        "a.cfg",
        b"include_file \"b.cfg\"\nimport_file \"none.cfg\"\n",
    );
    folder.file(
        "b.cfg",
        b"listen = bin:127.0.0.1:5566\nloadmodule \"usrloc.so\"\n",
    );
    let finished = run(&["check", &main]).ok();
    assert_eq!(
        finished.lines()[0],
        "listen    bin:127.0.0.1:5566 (udp, tcp)"
    );
    finished.says(&["none.cfg\" is not there, so nothing is imported"]);

    folder.file("b.cfg", b"include_file \"a.cfg\"\n");
    let told = format!("{}:1:14: ", folder.path("b.cfg"));
    run(&["check", &main])
        .exits(2)
        .says(&[&told, "includes itself"]);
}

#[test]
fn what_is_no_file_of_text_is_an_error_of_the_configuration() {
    let folder = Scratch::new("check-no-file");
    run(&["check", &folder.path("none.cfg")])
        .exits(2)
        .says(&["none.cfg: cannot be read: "]);
    run(&["check", &folder.path("")])
        .exits(2)
        .says(&["cannot be read: "]);
    let binary = folder.file("binary.cfg", b"listen = \xff");
    run(&["check", &binary])
        .exits(2)
        .says(&["binary.cfg:1:10: this is no UTF-8"]);
    // It has no end.
    run(&["check", "/dev/zero"])
        .exits(2)
        .says(&["/dev/zero: is larger than 1048576 bytes"]);
}

#[test]
fn cores_that_serve_cannot_use_are_told_with_their_place_and_exit_code_2() {
    let text = "listen = bin:127.0.0.1:0\nmodparam(\"binrush\", \"shards\", 1)\nmodparam(\"binrush\", \"pin\", \"1048576\")\n";
    let folder = Scratch::new("serve-pin");
    let file = folder.file("binrush.cfg", text.as_bytes());
    let place = format!("{file}:3:28: pin: cannot pin the shard");
    run(&["serve", "--config", &file])
        .exits(2)
        .says(&[&place, "name others, or \"off\""]);
}

#[test]
fn certificates_that_serve_cannot_use_are_told_with_their_place_and_exit_code_2() {
    let folder = Scratch::new("serve-certificates");
    let none = folder.path("none.pem");
    let text = format!(
        "listen = bins:127.0.0.1:0\nloadmodule \"usrloc.so\"\nloadmodule \"tls_mgm.so\"\n\
         modparam(\"tls_mgm\", \"server_domain\", \"node\")\n\
         modparam(\"tls_mgm\", \"certificate\", \"[node]{none}\")\n\
         modparam(\"tls_mgm\", \"private_key\", \"[node]{none}.key\")\n\
         modparam(\"tls_mgm\", \"ca_list\", \"[node]{none}.ca\")\n"
    );
    let file = folder.file("binrush.cfg", text.as_bytes());
    let said = run(&["serve", "--config", &file, "--shards", "1", "--pin", "off"]).exits(2);
    let begin = format!("{file}:");
    assert!(said.stderr.starts_with(&begin), "{}", said.stderr);
    let rest = &said.stderr[begin.len()..];
    // Whichever of the three is read first, its line is named, and the cause once.
    let line = rest.split(':').next();
    assert!(["5", "6", "7"].map(Some).contains(&line), "{rest}");
    assert!(rest.contains(": TLS domain \"node\": "), "{rest}");
    assert_eq!(rest.matches("No such file").count(), 1, "{rest}");
}

#[test]
fn an_address_that_is_asked_for_twice_is_refused_with_the_other_and_exit_code_2() {
    let args = [
        "serve",
        "--listen",
        "bin:127.0.0.1:5999",
        "--listen",
        "bin:0.0.0.0:5999",
    ];
    run(&args).exits(2).says(&[
        "--listen bin:0.0.0.0:5999: 0.0.0.0:5999 is taken already, by --listen bin:127.0.0.1:5999",
    ]);
}

#[test]
fn whoever_is_heard_over_tls_without_a_certificate_is_warned_of() {
    let folder = Scratch::new("serve-tls-anybody");
    let issued = rcgen::generate_simple_self_signed(["node".to_owned()]).expect("it is issued");
    let certificate = folder.file("node.pem", issued.cert.pem().as_bytes());
    let key = folder.file("node.key", issued.signing_key.serialize_pem().as_bytes());
    let text = format!(
        "listen = bins:0.0.0.0:0\nloadmodule \"usrloc.so\"\nloadmodule \"tls_mgm.so\"\n\
         modparam(\"tls_mgm\", \"server_domain\", \"node\")\n\
         modparam(\"tls_mgm\", \"certificate\", \"[node]{certificate}\")\n\
         modparam(\"tls_mgm\", \"private_key\", \"[node]{key}\")\n\
         modparam(\"tls_mgm\", \"ca_list\", \"[node]{certificate}\")\n"
    );
    let told = "is heard, and who connects needs no certificate";
    for (verify, is_told) in [(0, true), (1, false)] {
        let more = format!("modparam(\"tls_mgm\", \"verify_cert\", \"[node]{verify}\")\n");
        let file = folder.file("binrush.cfg", (text.clone() + &more).as_bytes());
        let args = [
            "--config", &file, "--allow", "any", "--shards", "1", "--pin", "off", "--json",
        ];
        let mut process = Running::start(&[&["serve"], &args[..]].concat());
        let ready = process.event("ready");
        assert_eq!(
            ready["warnings"].to_string().contains(told),
            is_told,
            "{ready}"
        );
        process.stop("TERM").ok();
    }
}

#[test]
fn what_is_off_is_called_off() {
    let text = "listen = bin:127.0.0.1:5566\nmodparam(\"binrush\", \"stats\", 0)\n";
    let (finished, _folder) = check("check-off", text, &[]);
    assert!(finished.ok().lines().contains(&"stats     off"));
}

#[test]
fn serving_without_handlers_says_none() {
    let folder = Scratch::new("serve-none");
    let file = folder.file("binrush.cfg", b"listen = bin:127.0.0.1:0\n");
    let args = ["serve", "--config", &file, "--shards", "1", "--pin", "off"];
    let ready = Running::start(&args).line();
    assert!(ready.contains(", handlers none"), "{ready}");
}
