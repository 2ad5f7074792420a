//! Whole configurations: what they mean, and how they are refused.

use super::*;

/// What must hold for any bytes.
mod any_bytes;
/// Clusters, and what is replicated in them.
mod clusters;
/// Files that include files.
mod includes;
/// Modules that are not built in.
mod libraries;
/// Where to listen, for whom, and with how many shards.
mod listeners;
/// Connections: what they may cost, and who sends.
mod streams;
/// The node to which records go back.
mod target;
/// Certificates, keys, and who is trusted.
mod tls;

/// The configuration of one file, or what is wrong with it.
fn read(text: &str) -> Result<Loaded, String> {
    let files = HashMap::from([(PathBuf::from("a.cfg"), text.as_bytes().to_vec())]);
    Config::read(Path::new("a.cfg"), &files).map_err(|error| error.to_string())
}

#[track_caller]
fn config(text: &str) -> Config {
    loaded(text).config
}

#[track_caller]
fn loaded(text: &str) -> Loaded {
    read(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Asserts that `text` is refused, and that the first problem begins like this.
#[track_caller]
fn refused(text: &str, told: &str) -> String {
    let error = read(text).expect_err(text);
    assert!(error.starts_with(told), "{error}");
    error
}

/// The configuration with a listener, so that nothing else is missing.
fn with_listener(text: &str) -> String {
    format!("listen = bin:127.0.0.1:5555\n{text}")
}

/// Asserts that there is a warning that begins like this.
#[track_caller]
fn warned(text: &str, told: &str) {
    let warnings: Vec<String> = loaded(text)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    let found = warnings.iter().any(|warning| warning.starts_with(told));
    assert!(found, "{}", warnings.join("\n"));
}

fn endpoints(text: &str) -> Vec<String> {
    let listeners = config(text).listeners;
    listeners
        .iter()
        .map(|listener| listener.endpoint.to_string())
        .collect()
}

#[test]
fn the_example_of_the_3_6_manual_starts_as_it_is_written() {
    let found = loaded(
        r#"
   listen = bin:10.0.0.150:5062
   loadmodule "proto_bin.so"
   loadmodule "clusterer.so"
   loadmodule "dialog.so"
   loadmodule "usrloc.so"
   modparam("dialog", "dialog_replication_cluster", 1)
   modparam("dialog", "profile_replication_cluster", 2)
   modparam("usrloc", "location_cluster", 2)
"#,
    );
    let config = found.config;
    let engine = config.engine();
    assert_eq!(engine.listen, ["10.0.0.150:5062".parse().unwrap()]);
    assert_eq!(engine.streams.listen, engine.listen);
    assert_eq!(config.shards, Shards::default());
    let parts = [Part::ProtoBin, Part::Clusterer, Part::Dialog, Part::Usrloc];
    assert_eq!(config.parts, parts.into());
    let cluster = |part, name| config.parameters.int(part, name);
    assert_eq!(cluster(Part::Dialog, "dialog_replication_cluster"), Some(1));
    assert_eq!(
        cluster(Part::Dialog, "profile_replication_cluster"),
        Some(2)
    );
    assert_eq!(cluster(Part::Usrloc, "location_cluster"), Some(2));
    let warnings: Vec<String> = found.warnings.iter().map(ToString::to_string).collect();
    let told = [
        "a.cfg:4:15: clusterer: OpenSIPS has the nodes in a database (db_mode), and binrush does not read one",
        "a.cfg:2:13: only this host may send to bin:10.0.0.150:5062",
    ];
    assert_eq!(warnings.len(), told.len(), "{warnings:?}");
    for (warning, told) in warnings.iter().zip(told) {
        assert!(warning.starts_with(told), "{warning}");
    }
}

#[test]
fn what_the_manuals_show_without_loadmodule_starts_too_and_is_told() {
    let text = r#"
   bin_listen = 10.0.0.150:5062
   bin_children = 4
   modparam("dialog", "accept_replicated_dialogs", 1)
   modparam("dialog", "replicate_dialogs_to", "78.46.64.50:5062")
   modparam("usrloc", "accept_replicated_contacts", 1)
"#;
    let found = config(text);
    assert_eq!(endpoints(text), ["bin:10.0.0.150:5062"]);
    let engine = found.engine();
    assert_eq!((engine.listen.len(), engine.streams.listen.len()), (1, 0));
    let source = Some("bin_children".to_owned());
    assert_eq!(
        found.shards,
        Shards {
            count: Some(4),
            source
        }
    );
    assert_eq!(found.parts, [Part::Dialog, Part::Usrloc].into());
    assert!(found.access.allows("78.46.64.50".parse().unwrap()));
    assert!(found.access.allows("127.0.0.1".parse().unwrap()));
    assert!(!found.access.allows("78.46.64.51".parse().unwrap()));
    warned(
        text,
        "a.cfg:4:13: dialog is not loaded anywhere; it is built in, so it is on",
    );
    // 1.x has no TCP for BIN, and its one peer is known.
    let silent = |warning: &ConfigWarning| {
        !warning.message().contains("TCP") && !warning.message().contains("allow")
    };
    assert!(loaded(text).warnings.iter().all(silent));
}

#[test]
fn the_bin_side_of_a_genuine_node_means_what_it_says() {
    let text = r#"
# OpenSIPS 3.6
log_level=4
stderror_enabled=yes
syslog_enabled=no
udp_workers=2
tcp_workers=3
socket=udp:127.0.36.1:5060 tag main
socket=bin:127.0.36.1:5566
auto_aliases=no
mpath="/usr/lib/opensips/modules/"
loadmodule "proto_bin/proto_bin.so"
loadmodule "clusterer/clusterer.so"
loadmodule "usrloc/usrloc.so"
loadmodule "dialog/dialog.so"
loadmodule "cachedb_local/cachedb_local.so"
loadmodule "ratelimit/ratelimit.so"
loadmodule "event_datagram/event_datagram.so"
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", 1)
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:127.0.36.1:5566, flags=seed")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:10.3.6.2:5566")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=3, url=bin:10.3.6.3:5566")
modparam("usrloc", "working_mode_preset", "full-sharing-cluster")
modparam("usrloc", "nat_bflag", "NAT")
modparam("dialog", "profiles_with_value", "caller;trunk/b")
modparam("cachedb_local", "cachedb_url", "local://")
route {
	if ($param(msg) != null) { xlog("L_NOTICE", "$param(msg)"); exit; }
}
event_route[E_CLUSTERER_REQ_RECEIVED] { xlog("got }\n"); }
"#;
    let found = config(text);
    assert_eq!(endpoints(text), ["bin:127.0.36.1:5566"]);
    assert_eq!(found.mpath.as_deref(), Some("/usr/lib/opensips/modules/"));
    assert_eq!(found.shards.count, Some(2));
    assert_eq!(found.parts.len(), 7);
    assert_eq!(
        found
            .parameters
            .values(Part::Clusterer, "neighbor_node_info")
            .len(),
        2
    );
    assert!(found.access.allows("10.3.6.3".parse().unwrap()));
    assert!(!found.access.allows("10.3.6.4".parse().unwrap()));
    warned(
        text,
        "a.cfg:3:1: these parameters have no effect here: log_level, stderror_enabled, syslog_enabled, auto_aliases",
    );
    warned(
        text,
        "a.cfg:8:8: SIP is not served: of these addresses only the names count, in records: udp:127.0.36.1:5060",
    );
    let script = found.script.names().collect::<Vec<_>>();
    assert_eq!(script, ["route", "event_route[E_CLUSTERER_REQ_RECEIVED]"]);
    // One that is for SIP is refused as a whole, and told what to do.
    let sip =
        "route { if (!mf_process_maxfwd_header(10)) { send_reply(483,\"Too Many Hops\"); exit; } }";
    refused(
        &with_listener(sip),
        "a.cfg:2:14: there is no function \"mf_process_maxfwd_header\": no module that is loaded has it (of a script for SIP, `binrush import`",
    );
}

#[test]
fn an_error_shows_its_place_and_its_line() {
    let error = refused(
        "listen = bin:127.0.0.1:5555\n\n  listn = bin:10.0.0.1:5555\n",
        "a.cfg:3:3: unknown parameter",
    );
    assert_eq!(
        error,
        "a.cfg:3:3: unknown parameter \"listn\"; did you mean \"listen\"?\n    listn = bin:10.0.0.1:5555\n    ^^^^^"
    );
}

#[test]
fn several_problems_are_told_at_once_and_the_list_is_bounded() {
    let text = with_listener(
        "modparam(\"tm\", \"fr_timeout\", 5)\nmodparam(\"rr\", \"append_fromtag\", 0)\nfoo = 1\n",
    );
    let error = refused(&text, "a.cfg:2:10: there is no module \"tm\"");
    let lines: Vec<&str> = error
        .lines()
        .filter(|line| line.starts_with("a.cfg"))
        .collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(
        lines[1].starts_with("a.cfg:3:10: there is no module \"rr\""),
        "{error}"
    );
    assert!(
        lines[2].starts_with("a.cfg:4:1: unknown parameter \"foo\""),
        "{error}"
    );

    let many = "modparam(\"tm\", \"fr_timeout\", 5)\n".repeat(1000);
    let error = refused(&many, "a.cfg:1:10");
    assert_eq!(error.matches("there is no module").count(), PROBLEMS_MAX);
    assert!(
        error.ends_with("there may be more: these are the first 20"),
        "{error}"
    );
}

#[test]
fn numbers_and_strings_follow_the_rules_of_opensips() {
    let text = with_listener(
        r#"
        loadmodule "dialog"
        loadmodule "/opt/modules/usrloc.so"
        modparam("dialog", "default_timeout", 0x10)
        modparam("dialog", "delete_delay", 010)
        modparam("dialog", "enable_stats", no)
        modparam("dialog", "hash_size", +64)
        modparam('dialog', 'profiles_with_value', "a;" # one
            "b;"
            'c\n')
        modparam("usrloc", "working_mode_preset", "Full-Sharing-Cluster")
    "#,
    );
    let found = config(&text).parameters;
    for (name, value) in [
        ("default_timeout", 16),
        ("delete_delay", 8),
        ("enable_stats", 0),
        ("hash_size", 64),
    ] {
        assert_eq!(found.int(Part::Dialog, name), Some(value), "{name}");
    }
    assert_eq!(
        found.text(Part::Dialog, "profiles_with_value").as_deref(),
        Some("a;b;c\\n")
    );
    for number in ["08", "0x", "1.5", "-", "--1", "yes2"] {
        let text = with_listener(&format!("modparam(\"dialog\", \"hash_size\", {number})"));
        let told =
            format!("a.cfg:2:33: a number, or a string in quotes, expected, not \"{number}\"");
        refused(&text, &told);
    }
}

#[test]
fn a_parameter_takes_its_own_type_and_range() {
    let parameter = |rest: &str| {
        with_listener(&format!(
            "loadmodule \"dialog.so\"\nmodparam(\"dialog\", {rest})"
        ))
    };
    for (rest, told) in [
        (
            "\"accept_replicated_dialog\", 1",
            "a.cfg:3:20: dialog has no parameter \"accept_replicated_dialog\"; did you mean \"accept_replicated_dialogs\"?",
        ),
        (
            "\"xyz\", 1",
            "a.cfg:3:20: dialog has no parameter \"xyz\"\n",
        ),
        (
            "\"default_timeout\", \"60\"",
            "a.cfg:3:39: default_timeout: a number from 1 expected, not \"60\"",
        ),
        (
            "\"profiles_no_value\", 1",
            "a.cfg:3:41: profiles_no_value: a string in quotes expected, not 1",
        ),
        (
            "\"db_mode\", 4",
            "a.cfg:3:31: db_mode: a number from 0 to 3 expected, not 4",
        ),
        (
            "\"enable_stats\", 2",
            "a.cfg:3:36: enable_stats: 0 or 1 expected, not 2",
        ),
        (
            "\"replicate_dialogs_to\", \"tcp:10.0.0.1:5555\"",
            "a.cfg:3:44: replicate_dialogs_to: \"tcp:10.0.0.1:5555\" is no address",
        ),
        ("\"db_mode\" 4", "a.cfg:3:30: \",\" expected, not \"4\""),
        ("\"db_mode\", 4;", "a.cfg:3:32: \")\" expected, not \";\""),
    ] {
        refused(&parameter(rest), told);
    }
    let text = with_listener(
        "loadmodule \"usrloc.so\"\nmodparam(\"usrloc\", \"cluster_mode\", \"fuli-sharing\")",
    );
    refused(
        &text,
        "a.cfg:3:36: cluster_mode: one of \"none\", \"federation\", ",
    );
}

#[test]
fn an_expression_sets_a_parameter_of_every_loaded_part_that_it_matches() {
    let text = with_listener(
        r#"
        loadmodule "dialog.so"
        loadmodule "usrloc.so"
        modparam("Dialog|usr.*", "db_url", "mysql://x")
        modparam("dialog|clusterer", "hash_size", 16)
    "#,
    );
    let found = config(&text).parameters;
    for part in [Part::Dialog, Part::Usrloc] {
        assert_eq!(found.text(part, "db_url").as_deref(), Some("mysql://x"));
    }
    // clusterer is not loaded, so that it has no such parameter does not matter.
    assert_eq!(found.int(Part::Dialog, "hash_size"), Some(16));

    let both = |line: &str| {
        with_listener(&format!(
            "loadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n{line}"
        ))
    };
    let told = "a.cfg:4:27: usrloc has no parameter \"rr_param\"";
    refused(
        &both("modparam(\"dialog|usrloc\", \"rr_param\", \"x\")"),
        told,
    );
    // Whole names only.
    let told = "a.cfg:4:10: there is no module \"dialo\": binrush, one that is loaded above, or one of proto_bin, ";
    let error = refused(&both("modparam(\"dialo\", \"rr_param\", \"x\")"), told);
    assert!(error.contains("did you mean \"dialog\"?"), "{error}");
    refused(
        &both("modparam(\"dialog(\", \"rr_param\", \"x\")"),
        "a.cfg:4:10: \"dialog(\" is no regular expression",
    );
    let all = Part::ALL.map(Part::name).join("|");
    let told = format!(
        "a.cfg:4:{}: usrloc has no parameter",
        10 + 2 + all.len() + 2
    );
    refused(
        &both(&format!("modparam(\"{all}\", \"rr_param\", \"x\")")),
        &told,
    );
    let deep = format!(
        "modparam(\"{}x{}\", \"rr_param\", \"x\")",
        "(".repeat(1000),
        ")".repeat(1000)
    );
    assert!(
        read(&both(&deep))
            .unwrap_err()
            .contains("is no regular expression")
    );
}

#[test]
fn a_parameter_above_its_loadmodule_is_refused() {
    let text = with_listener(
        "modparam(\"dialog\", \"db_mode\", 0)\nmodparam(\"dialog\", \"db_mode\", 1)\nloadmodule \"dialog.so\"\n",
    );
    let told = "a.cfg:2:10: dialog is loaded below, in a.cfg:4:12: modparam expected behind its loadmodule";
    let error = refused(&text, told);
    assert_eq!(error.matches("loaded below").count(), 1, "{error}");
}

#[test]
fn parts_are_loaded_by_name_and_once() {
    refused(
        &with_listener("loadmodule dialog.so"),
        "a.cfg:2:12: the name of a module in quotes expected, not \"dialog.so\"",
    );
    let twice = with_listener("loadmodule \"dialog.so\"\nloadmodule \"dialog/dialog.so\"");
    warned(
        &twice,
        "a.cfg:3:12: dialog is loaded already, in a.cfg:2:12",
    );
    for part in Part::ALL {
        let text = with_listener(&format!("loadmodule \"{part}.so\""));
        let words = match part {
            Part::CachedbLocal => Some("it does not act on them yet"),
            _ => None,
        };
        let told = |warning: &ConfigWarning| {
            warning.message().ends_with(" yet") || warning.message().contains(" yet: ")
        };
        let found = loaded(&text).warnings.into_iter().find(told);
        assert_eq!(found.is_some(), words.is_some(), "{part}: {found:?}");
        if let (Some(found), Some(words)) = (found, words) {
            assert!(found.message().contains(words), "{found}");
        }
    }
    warned(&with_listener(""), "neither dialog nor usrloc is loaded");
}

#[test]
fn what_is_measured_is_measured_for_known_senders_only() {
    let probe = "modparam(\"binrush\", \"probe\", \"dialog, binrush-miss\")\n";
    let allow = |whom: &str| format!("modparam(\"binrush\", \"allow\", \"{whom}\")\n");
    for access in [String::new(), allow("10.0.0.0/8")] {
        let found = config(&with_listener(&(access + probe)));
        assert_eq!(found.probe, ["dialog", "binrush-miss"]);
    }
    // Whichever is said first.
    let error = refused(
        &with_listener(&(probe.to_owned() + &allow("10.0.0.0/8") + &allow("any"))),
        "a.cfg:4:30: allow: ranges of addresses expected that do not let everybody in, because probe is set in a.cfg:2:30",
    );
    // Nor in other words.
    let halves = allow("10.0.0.0/8") + &allow("0.0.0.0/1") + &allow("128.0.0.0/1") + &allow("::1");
    for (everybody, place) in [
        (allow("0.0.0.0/0"), "2"),
        (allow("::/0"), "2"),
        (halves, "4"),
    ] {
        let told = format!("a.cfg:{place}:30: allow: ranges of addresses expected that do not");
        refused(&with_listener(&(everybody + probe)), &told);
    }
    assert!(
        error.contains("modparam(\"binrush\", \"allow\", \"any\")"),
        "{error}"
    );
    refused(
        &with_listener(&(allow("any") + probe)),
        "a.cfg:2:30: allow: ranges of addresses expected",
    );
    assert!(config(&with_listener(&allow("any"))).access.is_any());
}

#[test]
fn a_name_that_is_measured_is_not_said_to_be_unknown() {
    let probe =
        |names: &str| with_listener(&format!("modparam(\"binrush\", \"probe\", \"{names}\")"));
    let told = |warning: &ConfigWarning| warning.message().contains("neither dialog nor usrloc");
    for (names, expected) in [
        ("dialog", false),
        ("binrush-miss,ul", false),
        ("binrush-miss", true),
    ] {
        let warnings = loaded(&probe(names)).warnings;
        assert_eq!(warnings.iter().any(told), expected, "{names}: {warnings:?}");
    }
}

#[test]
fn our_own_settings_reach_the_engine() {
    let text = with_listener(
        r#"
        modparam("binrush", "allow", "10.0.0.0/8")
        modparam("binrush", "allow", "2001:db8::/32")
        modparam("binrush", "backend", "recvmmsg")
        modparam("binrush", "rcvbuf", 1048576)
        modparam("binrush", "gro", "off")
        modparam("binrush", "verify", 0)
        modparam("binrush", "pin", "1,0")
        modparam("binrush", "batch", 32)
        modparam("binrush", "http", "127.0.0.1:9100")
        modparam("binrush", "stats", 5)
        modparam("binrush", "stats", 6)
    "#,
    );
    let found = config(&text);
    assert_eq!((found.verify, found.stats), (false, Some(6)));
    assert_eq!(found.http, Some("127.0.0.1:9100".parse().unwrap()));
    let engine = found.engine();
    assert_eq!(engine.access.to_string(), "10.0.0.0/8, 2001:db8::/32");
    assert_eq!((engine.backend, engine.gro), (Backend::RecvMmsg, Gro::Off));
    assert_eq!(
        (engine.rcvbuf, engine.batch, engine.pin),
        (1 << 20, 32, Pin::Cores(vec![1, 0]))
    );
    warned(
        &text,
        "a.cfg:13:38: stats is set again: the value in a.cfg:12:38 does not count",
    );

    let plain = config(&with_listener(""));
    assert!(plain.verify && plain.probe.is_empty());
    assert_eq!((plain.rcvbuf, plain.batch), (None, None));
    let defaults = EngineConfig::new("127.0.0.1:5555".parse().unwrap());
    assert_eq!(plain.engine().rcvbuf, defaults.rcvbuf);
    assert_eq!(plain.engine().batch, defaults.batch);
    assert_eq!(plain.access, Access::loopback());

    refused(
        &with_listener("modparam(\"binrush\", \"shrads\", 1)"),
        "a.cfg:2:21: binrush has no parameter \"shrads\"; did you mean \"shards\"?",
    );
    refused(
        &with_listener("modparam(\"binrush\", \"allow\", \"10.0.0.1/8\")"),
        "a.cfg:2:30: allow: \"any\" or a range of addresses",
    );
}

#[test]
fn routes_of_sip_are_skipped_whatever_is_in_them() {
    let routes = r#"
        onreply_route { loadmodule "nothing"; listen = bin:; }
        branch_route[a] { if ($(ru{re.subst,/}//g}) == "}") { exit; } }
        local_route { # }
            include_file "nowhere"
        }
        error_route { '}' }
        failure_route["b"] {}
    "#;
    let text = with_listener(routes);
    warned(
        &text,
        "a.cfg:3:9: SIP is not served, so these routes are skipped: onreply_route, branch_route[a], local_route, error_route, failure_route[\"b\"]",
    );
    assert!(config(&text).script.is_empty());
}

#[test]
fn routes_become_a_script_and_what_is_wrong_with_them_is_told_with_the_rest() {
    let text = with_listener(
        r#"
        route { if ($bin(name) == "ul") route(contact); }
        debug = 3
        route[contact] { xlog("L_INFO", "$ml bytes"); drop; }
        timer_route[gw, 60] { xlog("}"); # }
        }
    "#,
    );
    let script = config(&text).script;
    let names: Vec<_> = script.names().collect();
    assert_eq!(names, ["route", "route[contact]", "timer_route[gw, 60]"]);
    assert!(script.has_request_route());
    let error = refused(
        &with_listener(
            "debug = 3\nroute { if (is_method(\"INVITE\")) exti; }\nmodparam(\"dialg\", \"a\", 1)\nroute[a] { sl_send_reply(\"200\", \"OK\"); }\n",
        ),
        "a.cfg:3:34: \"(\" behind \"exti\" expected, not \";\"; did you mean \"exit\"?",
    );
    for told in [
        "a.cfg:4:10: there is no module \"dialg\"",
        "a.cfg:5:12: there is no function \"sl_send_reply\": no module that is loaded has it (of a script for SIP, `binrush import` takes what is about BIN)",
    ] {
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_block_without_end_is_refused() {
    refused(
        &with_listener("route { {"),
        "a.cfg:2:7: this block has no end: 2 more",
    );
    refused(
        &with_listener("route[a { }"),
        "a.cfg:2:12: \"]\" expected, not the end of the file",
    );
    refused(
        &with_listener("route x { }"),
        "a.cfg:2:7: \"{\" expected, not \"x\"",
    );
    refused(&with_listener("}"), "a.cfg:2:1: a parameter, loadmodule, ");
    refused(
        &with_listener("debug = 3;"),
        "a.cfg:2:10: a parameter, loadmodule, modparam, include_file or a route expected, not \";\" (statements outside of routes end by themselves)",
    );
}

#[test]
fn values_of_parameters_without_effect_may_be_of_any_kind() {
    let text = with_listener(
        r#"
        debug = -1  fork=yes  log_facility=LOG_LOCAL0  log_name="x"  alias=udp:a.example.com:5060 "b.example.com"
        advertised_address = 192.0.2.1
        tos = IPTOS_LOWDELAY
        user = opensips
        poll_method = epoll
        listen = bin:[::1]:5555
    "#,
    );
    assert_eq!(endpoints(&text), ["bin:127.0.0.1:5555", "bin:[::1]:5555"]);
    refused(
        &with_listener("debug ="),
        "a.cfg:2:8: a value expected, not the end of the file",
    );
    refused(
        &with_listener("debug = {}"),
        "a.cfg:2:9: a value expected, not \"{\"",
    );
}

#[test]
fn what_is_risked_by_settings_together_is_told_where_they_stand() {
    let text = with_listener(
        "children = 3\nmodparam(\"binrush\", \"gro\", \"on\")\nmodparam(\"binrush\", \"pin\", \"0,1\")",
    );
    warned(&text, "a.cfg:3:28: gro \"on\" with more than one shard");
    warned(
        &text,
        "a.cfg:4:28: pin has fewer cores (2) than there are shards (3)",
    );
    assert_eq!(config(&text).pin_place.unwrap().to_string(), "a.cfg:4:28");
    refused(
        &with_listener("modparam(\"binrush\", \"pin\", \"1,1\")"),
        "a.cfg:2:28: pin: each core once (1 is there twice) expected, not \"1,1\"",
    );
}

#[test]
fn an_error_shows_no_password() {
    let text = with_listener("modparam(\"dialog\", \"db_mod\", \"mysql://a:secret@b\")");
    let error = refused(&text, "a.cfg:2:20: dialog has no parameter \"db_mod\"");
    assert!(error.contains("mysql://a:******@b"), "{error}");
    let text = with_listener("modparam(\"dialog\", \"db_mode\", \"mysql://a:secret@b\")");
    let error = refused(&text, "a.cfg:2:31: db_mode: ");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn events_are_told_once_their_module_is_loaded_and_to_whom_the_configuration_says() {
    let module = "loadmodule \"event_datagram.so\"\n";
    let subscribe =
        |what: &str| format!("modparam(\"binrush\", \"subscribe_event\", \"{what}\")\n");
    assert_eq!(config(&with_listener("")).events, None);
    let events = |text: &str| config(&with_listener(text)).events.unwrap();
    assert_eq!(events(module), EventsConfig::default());
    let of = |compat: &str| {
        let compat = format!("modparam(\"event_datagram\", \"compat\", \"{compat}\")\n");
        events(&(module.to_owned() + &compat)).form
    };
    assert_eq!((of("1.11"), of("3.1")), (Form::V1_11, Form::JsonRpc));
    let own = "E_UL_AOR_INSERT udp:127.0.0.1:8081 60 jsonrpc";
    let all = events(&(module.to_owned() + &subscribe(own) + &subscribe("E_MINE /run/e.sock")));
    let names: Vec<_> = all
        .subscriptions
        .iter()
        .map(|each| &each.event[..])
        .collect();
    assert_eq!(names, ["E_UL_AOR_INSERT", "E_MINE"]);
    refused(
        &with_listener(&subscribe(own)),
        "a.cfg:2:40: subscribe_event: loadmodule \"event_datagram.so\" expected somewhere",
    );
    refused(
        &with_listener(&(module.to_owned() + &subscribe("E_X udp:127.0.0.1"))),
        "a.cfg:3:40: subscribe_event: an event and a socket",
    );
    warned(
        &with_listener(&(module.to_owned() + &subscribe("E_UL_AOR_INSRT /run/e.sock"))),
        "a.cfg:3:40: subscribe_event: E_UL_AOR_INSRT is told if a script or module raises it, nothing built in does; did you mean \
         E_UL_AOR_INSERT?",
    );
    refused(
        &with_listener(
            &(module.to_owned() + "modparam(\"event_datagram\", \"compat\", \"2.0\")\n"),
        ),
        "a.cfg:3:38: compat: one of \"1.11\", \"3.1\" expected",
    );
}
