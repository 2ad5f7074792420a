//! What wins over what, and what needs a restart.

use super::*;
use clap::Parser as _;

#[test]
fn addresses_are_written_as_opensips_does() {
    let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
    for good in [
        "bin:127.0.0.1:5566",
        "bin:[::1]:0",
        "bin:[fe80::1%2]:5566",
        "bins:127.0.0.1:5566",
    ] {
        assert_eq!(parse(good).as_deref(), Ok(good));
    }
    for (short, full) in [
        ("bin:10.0.0.1", "bin:10.0.0.1:5555"),
        ("bins:10.0.0.1", "bins:10.0.0.1:5556"),
    ] {
        assert_eq!(parse(short).as_deref(), Ok(full));
    }
    for wrong in [
        "127.0.0.1:5566",
        "udp:127.0.0.1:5566",
        "bin:::1:5",
        "bin:host:1",
    ] {
        assert!(parse(wrong).unwrap_err().contains("bin:"), "{wrong}");
    }
}

#[test]
fn one_address_is_listened_on_once() {
    let load = |listen: &[&str]| {
        let listen = listen.iter().flat_map(|listen| ["--listen", listen]);
        let args = Command::parse_from(["serve"].into_iter().chain(listen)).args;
        Settings::load(&args).map_err(|wrong| wrong.to_string())
    };
    for (one, other) in [
        ("bin:127.0.0.1:5555", "bin:127.0.0.1:5555"),
        ("bin:127.0.0.1:5555", "bins:127.0.0.1:5555"),
        ("bin:0.0.0.0:5555", "bin:127.0.0.1:5555"),
        ("bin:[::1]:5555", "bin:[::]:5555"),
    ] {
        let told = load(&[one, other]).unwrap_err();
        let begin = format!("error: --listen {other}: ");
        let taken = format!("is taken already, by --listen {one}: ");
        assert!(told.starts_with(&begin) && told.contains(&taken), "{told}");
    }
    let apart = [
        "bin:127.0.0.1:0",
        "bin:127.0.0.1:0",
        "bin:[::]:5555",
        "bin:0.0.0.0:5555",
    ];
    assert_eq!(load(&apart).unwrap().engine.listen.len(), 4);
}

#[test]
fn who_is_allowed_is_what_was_said_and_any_is_everybody() {
    let parsed = |texts: &[&str]| {
        let allow: Vec<Allowed> = texts.iter().map(|text| text.parse().unwrap()).collect();
        access(&allow).unwrap().to_string()
    };
    assert_eq!(parsed(&["10.0.0.0/8", "::1"]), "10.0.0.0/8, ::1/128");
    assert_eq!(parsed(&["10.0.0.0/8", "any"]), "any");
}

/// A configuration on disk while the test runs.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("binrush-settings-{name}-{}.cfg", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    /// What it and the options in `line` come to.
    fn settings(&self, line: &str) -> Result<Settings, String> {
        let config = ["serve", "--config", self.0.to_str().unwrap()];
        let args = config.into_iter().chain(line.split_whitespace());
        let args = Command::parse_from(args).args;
        Settings::load(&args).map_err(|wrong| wrong.to_string())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn what_the_command_line_overrules_is_not_warned_of() {
    let file = File::new(
        "overruled",
        r#"
        listen = bin:192.0.2.1:5555
        children = 2
        loadmodule "dialog.so"
        modparam("tls_mgm", "server_domain", "node")
        modparam("dialog", "replicate_dialogs_to", "node2:5555")
        modparam("binrush", "pin", "0")
        modparam("binrush", "gro", "on")
    "#,
    );
    let (listener, access) = ("for no listener of bins:", "\"node2\" is not looked up");
    let (reach, shards, pin) = (
        "only this host may send",
        "gro \"on\"",
        "pin has fewer cores",
    );
    for (line, gone) in [
        ("", &[][..]),
        ("--listen bin:127.0.0.1:0", &[listener, reach]),
        ("--allow 10.0.0.0/8", &[access, reach]),
        ("--shards 1", &[shards, pin]),
        ("--pin 0,1", &[pin]),
        ("--shards 2 --pin 1", &[]),
    ] {
        let told = file.settings(line).unwrap().warnings.join("\n");
        for what in [listener, access, reach, shards, pin] {
            let times = usize::from(!gone.contains(&what));
            assert_eq!(told.matches(what).count(), times, "{line}: {what}: {told}");
        }
    }
}

#[test]
fn what_a_cluster_needs_is_not_overruled_in_silence() {
    let file = File::new(
        "cluster",
        r#"
        listen = bin:127.0.0.1:5566
        loadmodule "clusterer.so"
        modparam("clusterer", "db_mode", 0)
        modparam("clusterer", "my_node_info", "cluster_id=1, node_id=9, url=bin:127.0.0.1:5566")
        modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=1, url=bin:10.0.0.1:5566")
        modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:10.0.0.2:5566")
    "#,
    );
    for elsewhere in [
        "bin:127.0.0.1:5577",
        "bin:127.0.0.1:0",
        "bin:127.0.0.2:5566",
    ] {
        let told = file.settings(&format!("--listen {elsewhere}")).unwrap_err();
        let what = "cluster 1 meet node 9, which is this one, at bin:127.0.0.1:5566, where nothing";
        assert!(told.contains(what), "{told}");
        assert!(told.contains("add --listen bin:127.0.0.1:5566"), "{told}");
    }
    let both = "--listen bin:127.0.0.1:5577 --listen bin:0.0.0.0:5566";
    assert!(file.settings(both).is_ok());

    let kept_out = "is node 1 of cluster 1, but --allow does not let it in";
    for (line, times) in [
        ("", 0),
        ("--allow any", 0),
        ("--allow 10.0.0.0/30", 0),
        ("--allow 10.0.0.2", 1),
    ] {
        let told = file.settings(line).unwrap().warnings.join("\n");
        assert_eq!(told.matches(kept_out).count(), times, "{line}: {told}");
        assert!(!told.contains("is node 2 of"), "{line}: {told}");
    }
}

/// A configuration with a certificate for TLS at 127.0.0.1:5556 and none elsewhere.
const TLS: &str = r#"
    listen = bin:127.0.0.1:5555
    listen = bins:127.0.0.1:5556
    loadmodule "tls_mgm.so"
    modparam("tls_mgm", "server_domain", "node")
    modparam("tls_mgm", "match_ip_address", "[node]127.0.0.1:5556")
    modparam("tls_mgm", "certificate", "[node]/cert.pem")
    modparam("tls_mgm", "private_key", "[node]/key.pem")
    modparam("tls_mgm", "ca_list", "[node]/ca.pem")
"#;

#[test]
fn bin_is_listened_on_over_udp_and_tcp_and_bins_over_tls() {
    let file = File::new("listen", TLS);
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    let engine = file.settings("").unwrap().engine;
    assert_eq!(engine.listen, [addr("127.0.0.1:5555")]);
    assert_eq!(engine.streams.listen, engine.listen);
    assert_eq!(engine.streams.listen_tls, [addr("127.0.0.1:5556")]);
    assert_eq!(engine.streams.tls.unwrap().server.len(), 1);

    let instead = "--listen bin:127.0.0.2:1 --listen bins:127.0.0.1:5556 --listen bin:[::1]:2";
    let engine = file.settings(instead).unwrap().engine;
    assert_eq!(engine.listen, [addr("127.0.0.2:1"), addr("[::1]:2")]);
    assert_eq!(engine.streams.listen, engine.listen);
    assert_eq!(engine.streams.listen_tls, [addr("127.0.0.1:5556")]);
    assert_eq!(engine.streams.tls.unwrap().server[0].name, "node");

    // What nobody listens for needs no files.
    let engine = file.settings("--listen bin:127.0.0.1:0").unwrap().engine;
    assert_eq!(
        (engine.streams.listen_tls, engine.streams.tls),
        (vec![], None)
    );
}

#[test]
fn tls_without_a_certificate_is_an_error_that_says_what_to_add() {
    let file = File::new("no-certificate", TLS);
    let error = file.settings("--listen bins:127.0.0.1:5557").unwrap_err();
    let told = "--listen bins:127.0.0.1:5557: there is no certificate for it";
    assert!(error.contains(told), "{error}");
    let alone = Command::parse_from(["serve", "--listen", "bins:127.0.0.1:5556"]);
    let error = Settings::load(&alone.args).unwrap_err().to_string();
    assert!(error.contains("--config FILE"), "{error}");
}

#[test]
fn what_waits_for_a_restart_is_named_and_listeners_and_tls_are_not() {
    let file = File::new("before", TLS);
    let before = file.settings("").unwrap();
    let same = before.needs_restart(&before);
    assert!(same.is_empty(), "{same:?}");

    let renewed = TLS.replace("/cert.pem", "/renewed.pem");
    let renewed = renewed
        + "listen = bin:127.0.0.1:5557\nmodparam(\"tls_mgm\", \"verify_cert\", \"[node]0\")\n";
    let file = File::new("renewed", &renewed);
    let named = before.needs_restart(&file.settings("").unwrap());
    assert!(named.is_empty(), "{named:?}");

    let changed = r#"
        tcp_max_connections = 5
        tcp_connection_lifetime = 5
        tcp_max_msg_time = 5
        tcp_keepalive = no
        tcp_socket_backlog = 5
        loadmodule "proto_bin.so"
        loadmodule "proto_bins.so"
        modparam("proto_bin", "bin_max_msg_chunks", 5)
        modparam("proto_bins", "bins_max_msg_chunks", 5)
        modparam("proto_bins", "bins_handshake_timeout", 5)
        modparam("binrush", "stream_backend", "recv")
        modparam("binrush", "peer", "addr=127.0.0.1, generation=2.2")
        modparam("binrush", "connections_per_source", 5)
        modparam("binrush", "connection_memory", 100000)
        modparam("binrush", "stream_memory", 1000000)
        modparam("binrush", "tcp_user_timeout", 5)
        modparam("binrush", "tls_handshakes", 5)
    "#;
    let file = File::new("changed", &(TLS.to_owned() + changed));
    let mut named = before.needs_restart(&file.settings("").unwrap());
    // Loading the two is a change of its own.
    assert_eq!(named.remove(0), "the list of modules");
    assert_eq!(
        named,
        [
            "stream_backend",
            "peer",
            "tcp_max_connections",
            "connections_per_source",
            "tcp_max_msg_time",
            "tcp_connection_lifetime",
            "bin_max_msg_chunks",
            "tcp_user_timeout",
            "tcp_keepalive",
            "connection_memory",
            "stream_memory",
            "bins_handshake_timeout",
            "tls_handshakes",
            "tcp_socket_backlog",
        ]
    );
}

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

#[test]
fn a_comment_beside_a_route_needs_no_restart_and_another_statement_does() {
    let text = "route { xlog(\"a\"); }\n";
    let settings = |name: &str, routes: &str| {
        let text = format!("listen = bin:127.0.0.1:5566\n{routes}");
        File::new(name, &text).settings("").unwrap()
    };
    let old = settings("script-old", text);
    let commented = settings("script-commented", &format!("# What for.\n\n{text}"));
    assert_eq!(old.needs_restart(&commented), [""; 0]);
    let changed = settings("script-changed", &text.replace("\"a\"", "\"b\""));
    assert_eq!(old.needs_restart(&changed), ["the script"]);
}
