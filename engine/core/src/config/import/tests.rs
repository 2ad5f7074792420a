//! What is kept of files as operators have them, and that nothing in a file can hurt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::config::{Config, Loaded};

/// Files by name.
fn files(texts: &[(&str, &[u8])]) -> HashMap<PathBuf, Vec<u8>> {
    let files = texts.iter();
    files
        .map(|(name, text)| (PathBuf::from(name), text.to_vec()))
        .collect()
}

/// Imports the file `opensips.cfg` with these bytes.
fn of_bytes(bytes: &[u8], options: &ImportOptions) -> Result<Imported, ImportError> {
    let files = files(&[("opensips.cfg", bytes)]);
    import(Path::new("opensips.cfg"), &files, options)
}

fn of(text: &str) -> Imported {
    of_bytes(text.as_bytes(), &ImportOptions::default()).unwrap()
}

fn at(listen: &[&str], node: Option<i32>) -> ImportOptions {
    let listen = listen.iter().map(|each| each.parse().unwrap()).collect();
    ImportOptions { listen, node }
}

/// What the result means to whoever serves it.
fn loaded(imported: &Imported) -> Loaded {
    let files = files(&[("binrush.cfg", imported.config.as_bytes())]);
    Config::read(Path::new("binrush.cfg"), &files).unwrap_or_else(|error| panic!("{error}"))
}

fn kept(imported: &Imported) -> Vec<&str> {
    imported.kept.iter().map(|each| &each.text[..]).collect()
}

/// `LINE:COLUMN reason what` of all that was left out.
fn left_out(imported: &Imported) -> Vec<String> {
    let left_out = imported.left_out.iter();
    left_out
        .map(|each| {
            let LeftOut { place, reason, .. } = each;
            let symbol = reason.symbol();
            format!("{}:{} {symbol} {}", place.line, place.column, each.what)
        })
        .collect()
}

/// A node as 3.x has it.
const NODE: &str = r#"
log_level = 3   # not here
udp_workers = 8
tcp_workers = 2
tcp_max_connections = 4096
socket = udp:192.0.2.1:5060 as 198.51.100.1:5060 use_workers 4 tag main
socket = bin:192.0.2.1:5566
auto_scaling_profile = PROFILE_SIP
    scale up to 6 on 70% for 4 cycles within 5
    scale down to 2 on 18% for 5 cycles
dst_blacklist = gw: {( tcp , 192.168.2.200 , 5060 , "" ), ( udp, 10.0.0.0/8, 0, "")}
loadmodule "proto_bin.so"
loadmodule "tm.so"
loadmodule "clusterer.so"
loadmodule "dialog.so"
loadmodule "usrloc.so"
modparam("dialog|usrloc|acc", "db_url", "mysql://u:secret@db")
modparam("uac", "credential", "alice:realm:secret")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", 1)
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:192.0.2.1:5566, flags=seed")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:192.0.2.2:5566")
modparam("clusterer", "sharing_tag", "vip/1=active")
modparam("dialog", "dialog_replication_cluster", 1)
modparam("usrloc", "working_mode_preset", "full-sharing-cluster")
modparam("usrloc", "location_cluster", 1)
route {
    # an apostrophe's no string here, and } no end
    if ($ru =~ "sip:.*}") { xlog("a
        string over lines {"); /* } */ }
    $var(x) = $(ru{re.subst,/}//g});
}
route[RELAY] { t_relay(); }
timer_route[gw, 10] { }
"#;

#[test]
fn of_a_whole_node_what_is_about_bin_is_kept_and_the_rest_is_told() {
    let imported = of(NODE);
    let expected = [
        "socket = bin:192.0.2.1:5566",
        "socket = udp:192.0.2.1:5060 tag main",
        "udp_workers = 8",
        "tcp_max_connections = 4096",
        "loadmodule \"proto_bin.so\"",
        "loadmodule \"clusterer.so\"",
        "loadmodule \"dialog.so\"",
        "loadmodule \"usrloc.so\"",
        "modparam(\"clusterer\", \"db_mode\", 0)",
        "modparam(\"clusterer\", \"my_node_id\", 1)",
        "modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:192.0.2.1:5566, flags=seed\")",
        "modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, node_id=2, url=bin:192.0.2.2:5566\")",
        "modparam(\"clusterer\", \"sharing_tag\", \"vip/1=backup\")",
        "modparam(\"dialog\", \"dialog_replication_cluster\", 1)",
        "modparam(\"usrloc\", \"working_mode_preset\", \"full-sharing-cluster\")",
        "modparam(\"usrloc\", \"location_cluster\", 1)",
    ];
    assert_eq!(kept(&imported), expected);
    let expected = [
        "2:1 global log_level",
        "4:1 replaced tcp_workers = 2",
        "6:29 socket as 198.51.100.1:5060",
        "6:50 global use_workers 4",
        "8:1 unknown auto_scaling_profile",
        "11:1 unknown dst_blacklist",
        "13:1 module loadmodule \"tm.so\"",
        "17:1 parameter modparam(\"dialog\", \"db_url\", ...)",
        "17:1 parameter modparam(\"usrloc\", \"db_url\", ...)",
        "18:1 module modparam(\"uac\", \"credential\", ...)",
        "23:37 replaced \"=active\" of a sharing_tag",
        "27:1 route route",
        "33:1 route route[RELAY]",
        "34:1 route timer_route[gw, 10]",
    ];
    let found = left_out(&imported);
    let without_columns = |text: &String| text.replace("23:1 ", "23:37 ");
    assert_eq!(
        found.iter().map(without_columns).collect::<Vec<_>>(),
        expected
    );
    assert!(!imported.config.contains("secret"), "{}", imported.config);
    let config = loaded(&imported).config;
    assert_eq!(config.shards.count, Some(8));
    assert_eq!(config.clusters[0].capabilities.len(), 2);
    assert!(config.sockets.know(b"main") && !config.sockets.know(b"udp:192.0.2.9:5060"));
}

#[test]
fn what_an_operator_has_to_decide_is_said_first() {
    let imported = of(NODE);
    for (what, begins) in [
        (
            "its address",
            "Own address: bin:192.0.2.1:5566 is that of the node",
        ),
        (
            "its id",
            "Own node: this is node 1, as the node of the file is",
        ),
        (
            "who may send",
            "Who may send: 127.0.0.0/8, ::1/128, 192.0.2.1/32, 192.0.2.2/32",
        ),
        ("shards", "Shards: 8, because udp_workers says so"),
    ] {
        let mut decide = imported.decide.iter();
        assert!(
            decide.any(|each| each.starts_with(begins)),
            "{what}: {:?}",
            imported.decide
        );
    }
    let head = imported.config.split("\nsocket").next().unwrap();
    assert!(head.contains("#  - Own node: this is node 1"), "{head}");
    assert!(
        head.lines()
            .all(|line| line.is_empty() || line.starts_with('#')),
        "{head}"
    );
}

#[test]
fn a_node_of_its_own_stands_beside_the_one_of_the_file() {
    let options = at(&["bin:192.0.2.9:5566"], Some(9));
    let imported = of_bytes(NODE.as_bytes(), &options).unwrap();
    let cluster = &loaded(&imported).config.clusters[0];
    assert_eq!((cluster.me.id, cluster.me.is_seed), (9, false));
    assert_eq!(cluster.me.url.to_string(), "bin:192.0.2.9:5566");
    let neighbours = cluster.neighbours.iter();
    let neighbours: Vec<_> = neighbours
        .map(|node| (node.id, node.url.to_string()))
        .collect();
    let expected = [(2, "bin:192.0.2.2:5566"), (1, "bin:192.0.2.1:5566")];
    assert_eq!(neighbours, expected.map(|(id, url)| (id, url.to_owned())));
    assert!(left_out(&imported).contains(&"7:10 replaced socket = bin:192.0.2.1:5566".to_owned()));
}

#[test]
fn a_neighbours_place_is_taken_with_its_address() {
    let imported = of_bytes(NODE.as_bytes(), &at(&[], Some(2))).unwrap();
    let config = loaded(&imported).config;
    assert_eq!(
        config.listeners[0].endpoint.to_string(),
        "bin:192.0.2.2:5566"
    );
    let cluster = &config.clusters[0];
    assert_eq!((cluster.me.id, cluster.neighbours[0].id), (2, 1));
    assert_eq!(cluster.neighbours.len(), 1);
}

#[test]
fn the_same_node_may_listen_elsewhere() {
    for node in [None, Some(1)] {
        let options = at(&["bin:192.0.2.77:5566"], node);
        let config = loaded(&of_bytes(NODE.as_bytes(), &options).unwrap()).config;
        let cluster = &config.clusters[0];
        assert_eq!(cluster.me.id, 1);
        assert_eq!(cluster.me.url.to_string(), "bin:192.0.2.77:5566");
        assert!(cluster.me.is_seed && cluster.neighbours.len() == 1);
    }
}

#[test]
fn an_id_that_fits_nothing_is_refused_with_what_to_do() {
    let error = of_bytes(NODE.as_bytes(), &at(&[], Some(7))).unwrap_err();
    assert!(
        error.to_string().contains("add `--listen bin:IP:PORT`"),
        "{error}"
    );
    let error = of_bytes(b"bin_listen = 192.0.2.1:5566", &at(&[], Some(7))).unwrap_err();
    assert_eq!(error, ImportError::NoCluster { node: 7 });
    // The address of a neighbour is nobody else's.
    let error = of_bytes(NODE.as_bytes(), &at(&["bin:192.0.2.2:5566"], None));
    let left_out = left_out(&error.unwrap());
    assert!(
        left_out
            .iter()
            .any(|each| each.contains("22:") && each.contains("refused")),
        "{left_out:?}"
    );
}

#[test]
fn beside_a_node_of_1_x_its_address_is_let_in() {
    let text = r#"
        listen = udp:192.0.2.5:5060
        bin_listen = 192.0.2.1:5566
        children = 8
        bin_children = 2
        modparam("dialog", "replicate_dialogs_to", "192.0.2.2:5566")
        modparam("dialog", "accept_replicated_dialogs", 1)
        modparam("usrloc", "accept_replicated_contacts", 1)
    "#;
    let imported = of_bytes(text.as_bytes(), &at(&["bin:192.0.2.9:5566"], None)).unwrap();
    let config = loaded(&imported).config;
    assert_eq!(config.listeners.len(), 1);
    assert!(config.listeners[0].datagrams_only);
    assert_eq!(config.shards.count, Some(2));
    for (ip, allowed) in [
        ("192.0.2.1", true),
        ("192.0.2.2", true),
        ("127.0.0.1", true),
        ("192.0.2.3", false),
    ] {
        assert_eq!(config.access.allows(ip.parse().unwrap()), allowed, "{ip}");
    }
    let parts: Vec<_> = config.parts.iter().map(|part| part.name()).collect();
    assert_eq!(parts, ["dialog", "usrloc"], "set, so they are on");
}

#[test]
fn what_check_refuses_is_left_out_with_its_reason() {
    let text = r#"
        socket = bin:192.0.2.1:5566
        socket = bin:eth0:5566
        socket = bins:192.0.2.1:5567
        socket = hep_udp:192.0.2.1:9060
        tcp_connection_lifetime = 0
        loadmodule "clusterer.so"
        loadmodule "dialog.so"
        loadmodule "dialog.so"
        modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:192.0.2.2")
        modparam("dialog", "dialog_replication_cluster", 3)
        modparam("dialog", "profile_replication_cluster", "one")
        modparam("dialog", "no_such_parameter", 1)
        modparam("(", "db_url", "x")
        modparam("usrloc", "working_mode_preset", "sharing")
    "#;
    let imported = of(text);
    loaded(&imported);
    let found = left_out(&imported);
    for expected in [
        "3:18 refused listen = bin:eth0:5566",
        "4:18 refused socket = bins:192.0.2.1:5567",
        "5:18 socket hep_udp:192.0.2.1:9060",
        "6:9 refused tcp_connection_lifetime = 0",
        "9:9 replaced loadmodule \"dialog.so\"",
        "10:9 refused modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, n...",
        "11:9 refused modparam(\"dialog\", \"dialog_replication_cluster\", 3)",
        "12:9 refused modparam(\"dialog\", \"profile_replication_cluster\", \"one\")",
        "13:9 unknown modparam(\"dialog\", \"no_such_parameter\", ...)",
        "14:9 refused modparam(\"(\", \"db_url\", ...)",
        "15:9 refused modparam(\"usrloc\", \"working_mode_preset\", \"sharing\")",
    ] {
        assert!(
            found.iter().any(|each| each == expected),
            "{expected} in {found:#?}"
        );
    }
    assert!(
        imported
            .left_out
            .iter()
            .all(|each| each.reason != Reason::Refused || each.detail.is_some())
    );
}

#[test]
fn without_an_address_it_listens_on_this_host_alone() {
    for (text, why) in [
        ("", "the file has no address for BIN"),
        ("listen = bin:MY_IP:5566", "are names, macros or wrong"),
    ] {
        let imported = of(text);
        let config = loaded(&imported).config;
        assert_eq!(
            config.listeners[0].endpoint.to_string(),
            "bin:127.0.0.1:5555"
        );
        assert!(imported.decide[0].contains(why), "{:?}", imported.decide);
    }
}

#[test]
fn certificates_are_kept_where_bin_is_inside_tls_and_only_there() {
    let tls = r#"
        loadmodule "tls_openssl.so"
        loadmodule "tls_mgm.so"
        modparam("tls_mgm", "server_domain", "node")
        modparam("tls_mgm", "certificate", "[node]/etc/tls/cert.pem")
        modparam("tls_mgm", "private_key", "[node]/etc/tls/key.pem")
        modparam("tls_mgm", "ca_list", "[node]/etc/tls/ca.pem")
        modparam("tls_mgm", "ciphers_list", "[node]HIGH")
    "#;
    let inside = of(&format!("socket = bins:192.0.2.1:5567\n{tls}"));
    assert_eq!(loaded(&inside).config.tls.server.len(), 1);
    assert!(
        inside
            .decide
            .iter()
            .any(|each| each.starts_with("Certificates: "))
    );
    let sip = of(&format!(
        "socket = bin:192.0.2.1:5566\nsocket = tls:192.0.2.1\n{tls}"
    ));
    assert_eq!(
        kept(&sip),
        ["socket = bin:192.0.2.1:5566", "socket = tls:192.0.2.1"]
    );
    assert_eq!(left_out(&sip).len(), 6, "{:?}", left_out(&sip));
}

#[test]
fn nodes_in_a_database_are_asked_for() {
    let imported = of("socket = bin:192.0.2.1\nloadmodule \"clusterer.so\"\n\
                       modparam(\"clusterer\", \"my_node_id\", 2)\nmodparam(\"clusterer\", \"db_url\", \"mysql://a:b@c/d\")");
    assert!(
        imported
            .decide
            .iter()
            .any(|each| each.starts_with("Clusters: the file does not say"))
    );
    assert!(!imported.config.contains("mysql"));
    loaded(&imported);
}

#[test]
fn included_files_are_read_and_those_that_are_missing_are_told() {
    let files = files(&[
        (
            "etc/opensips.cfg",
            b"include_file \"site.cfg\"\nimport_file \"gone.cfg\"\ndebug = 3",
        ),
        (
            "etc/site.cfg",
            b"\nbin_listen = 192.0.2.1:5566\ninclude_file \"opensips.cfg\"",
        ),
    ]);
    let imported = import(
        Path::new("etc/opensips.cfg"),
        &files,
        &ImportOptions::default(),
    )
    .unwrap();
    assert_eq!(kept(&imported), ["bin_listen = 192.0.2.1:5566"]);
    let place = imported.kept[0].place.as_ref().unwrap();
    assert_eq!(place.to_string(), "etc/site.cfg:2:14");
    assert!(
        imported.config.contains("# etc/site.cfg:2"),
        "{}",
        imported.config
    );
    let unresolved: Vec<_> = imported
        .left_out
        .iter()
        .filter(|each| each.reason == Reason::Unresolved)
        .map(|each| (each.what.as_str(), each.detail.as_deref().unwrap()))
        .collect();
    let expected = [
        (
            "include_file \"etc/gone.cfg\"",
            "it is not there, so what it says is missing",
        ),
        ("include_file \"etc/opensips.cfg\"", "it includes itself"),
    ];
    assert_eq!(unresolved, expected);
    let error = import(Path::new("none.cfg"), &files, &ImportOptions::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("none.cfg cannot be read"),
        "{error}"
    );
}

#[test]
fn what_a_preprocessor_would_do_is_told_and_not_done() {
    let text = "#!/usr/sbin/opensips\n#!define X\ndivert(-1)\ndefine(`IP', `192.0.2.1')\ndivert(0)dnl\n\
                bin_listen = 192.0.2.1:5566\nifelse(TLS, `yes', `loadmodule \"tls.so\"\n')\n";
    let imported = of(text);
    assert_eq!(kept(&imported), ["bin_listen = 192.0.2.1:5566"]);
    let found = left_out(&imported);
    let unresolved: Vec<_> = found
        .iter()
        .filter(|each| each.contains(" unresolved "))
        .collect();
    assert_eq!(
        unresolved,
        ["2:1 unresolved #!define X", "3:1 unresolved divert ..."]
    );
    assert!(
        imported
            .decide
            .iter()
            .any(|each| each.starts_with("What is missing: "))
    );
}

#[test]
fn reading_goes_on_behind_what_has_no_end() {
    let text = "bin_listen = 192.0.2.1:5566\nalias = \"never closed\nmodparam(\"dialog\", \"x\", 1)\nroute { if (x) {\n\
                }\nloadmodule \"dialog.so\"\n/* never\nmodparam('dialog', 'accept_replicated_dialogs', 1)\n";
    let imported = of(text);
    loaded(&imported);
    let found = left_out(&imported);
    let expected = [
        "2:1 broken alias",
        "3:1 unknown modparam(\"dialog\", \"x\", ...)",
        // The route that goes over the comment, and the statement in front of it.
        "4:1 broken route { if (x) {",
        "6:1 broken loadmodule",
    ];
    assert_eq!(found, expected);
    let details = imported.left_out.iter();
    let details: Vec<_> = details.filter_map(|each| each.detail.as_deref()).collect();
    for (detail, lines) in details.iter().zip(["2 to 2", "4 to 5", "6 to 7"]) {
        let not_read = format!("; what is from line {lines} is not read");
        assert!(detail.ends_with(&not_read), "{detail}");
    }
    let kept = kept(&imported);
    assert!(kept.contains(&"loadmodule \"dialog.so\""), "{kept:?}");
    assert!(
        kept.contains(&"modparam(\"dialog\", \"accept_replicated_dialogs\", 1)"),
        "{kept:?}"
    );
}

#[test]
fn a_statement_that_cannot_be_read_is_told_at_its_own_beginning_and_no_other_is() {
    let text = "bin_listen = 192.0.2.1:5566\n\n\n\nalias = \"never closed\n\
                modparam(\"dialog\", \"accept_replicated_dialogs\", 1)\n";
    let imported = of(text);
    assert_eq!(left_out(&imported), ["5:1 broken alias"]);
    let detail = imported.left_out[0].detail.as_deref().unwrap();
    let begins = "5:9: this string has no end";
    assert!(detail.starts_with(begins), "{detail}");
    assert!(detail.ends_with("from line 5 to 5 is not read"), "{detail}");
    assert_eq!(kept(&imported).len(), 3, "{:?}", kept(&imported));
}

#[test]
fn a_sharing_tag_is_taken_by_nobody_however_it_is_written() {
    for (written, kept_as, is_told) in [
        ("vip2/1 = active", "vip2/1=backup", true),
        (" vip2/1=\tactive ", " vip2/1=backup", true),
        ("vip2/1 = backup", "vip2/1 = backup", false),
    ] {
        let imported = of(&format!(
            "socket = bin:192.0.2.1\nmodparam(\"clusterer\", \"my_node_id\", 2)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:192.0.2.1\")\n\
             modparam(\"clusterer\", \"sharing_tag\", \"{written}\")"
        ));
        let statement = format!("modparam(\"clusterer\", \"sharing_tag\", \"{kept_as}\")");
        assert!(
            kept(&imported).contains(&&statement[..]),
            "{:?}",
            kept(&imported)
        );
        let told = ["4:1 replaced \"=active\" of a sharing_tag"];
        assert_eq!(left_out(&imported), &told[..usize::from(is_told)]);
    }
}

/// Each value that may be secret is this one, in all places where a file may have one.
const SECRETS: &str = r#"bin_listen = 192.0.2.1:5566
define(`DB_URL', `mysql://osips:s3cret@10.0.0.1/o')
#!define DBPASS "s3cret"
#!define S3=s3cret
#!subst "/PASSWORD/s3cret/"
#! s3cret
db_default_url = "mysql://osips:s3cret@10.0.0.1/o"
modparam("dialog", "db_url" "mysql://osips:s3cret@10.0.0.1/o")
modparam("dialog", "db_url", s3cret)
modparam("dialog|usrloc", "db_url", "mysql://osips:s3cret@10.0.0.1/o")
modparam("uac", "credential", "alice:realm:s3cret")
no_such_parameter "s3cret"
no_such_parameter = s3cret
mpath = s3cret
"s3cret"
's3cret' = 1
    alias = "never closed
    password = "s3cret"
modparam("uac", "credential", "alice:realm:s3cret)
modparam("dialog", "db_url", "mysql://osips:s3cret@10.0.0.1/o)
modparam("usrloc", "db_url, "s3cret", "s3cret")
loadmodule "dialog.so"
/* s3cret
"#;

#[test]
fn no_value_that_may_be_secret_is_told() {
    let long = "x".repeat(70 << 10);
    let more = [
        format!("modparam(\"uac\", \"credential\", \"alice:realm:s3cret{long}\")"),
        format!("modparam(\"uac\", \"credential\", \"alice:realm:\ns3cret {long}\")"),
        format!("#!define DBPASS s3cret {long}"),
        "# never closed\nalias = 's3cret".to_owned(),
        "define(`DB', `s3cret')\ndefine(`DB_URL', `mysql://s3cret".to_owned(),
    ];
    let mut texts: Vec<String> = more.into_iter().collect();
    // Each line by itself, and all that follow it: what closes a string differs.
    for (at, _) in SECRETS.match_indices('\n') {
        texts.push(SECRETS[at..].to_owned());
        texts.push(SECRETS[..at].to_owned());
    }
    for line in SECRETS.lines() {
        texts.push(line.to_owned());
    }
    for text in texts {
        let imported = of(&text);
        let text = &text[..text.len().min(200)];
        assert!(
            !format!("{imported:?}").contains("s3cret"),
            "{text}: {imported:#?}"
        );
        loaded(&imported);
    }
    let found = left_out(&of(SECRETS));
    for expected in [
        "2:1 unresolved define DB_URL ...",
        "3:1 unresolved #!define DBPASS ...",
        "4:1 unresolved #!define S3 ...",
        "5:1 unresolved #!subst ...",
        "6:1 unresolved #! ...",
        "12:1 unknown no_such_parameter",
    ] {
        assert!(
            found.iter().any(|each| each == expected),
            "{expected} in {found:#?}"
        );
    }
}

#[test]
fn a_route_without_an_end_is_told_at_its_brace() {
    let text =
        "route {\n  if (x) {\n}\nmodparam('usrloc', 'accept_replicated_contacts', 1)\nroute { }";
    let imported = of(text);
    assert_eq!(
        left_out(&imported),
        ["1:1 broken route {", "5:1 route route"]
    );
    assert_eq!(kept(&imported).len(), 2);
}

#[test]
fn bytes_that_no_configuration_has_are_told_with_their_place() {
    let text = b"# caf\xe9\nbin_listen = 192.0.2.1:5566\n\0\0\nloadmodule \"dialog.so\"\n\
                 modparam(\"dialog\", \"replicate_dialogs_to\", \"\0\")\n\
                 modparam(\"usrloc\", \"replicate_contacts_to\", \"h\xe9\")\n";
    let imported = of_bytes(text, &ImportOptions::default()).unwrap();
    assert_eq!(kept(&imported).len(), 2);
    let found = left_out(&imported);
    assert_eq!(found[0], "1:6 broken bytes that are no UTF-8");
    assert_eq!(found[1], "3:1 unknown \u{fffd}\u{fffd}");
    assert!(found[2].starts_with("5:1 refused"), "{found:?}");
    assert!(found[3].starts_with("6:1 refused"), "{found:?}");
    assert!(!imported.config.contains('\0'));
    loaded(&imported);
}

#[test]
fn a_hostile_file_takes_bounded_time_and_memory() {
    let kibi = 1 << 10;
    for (name, text) in [
        ("one line of 10 MB", "a=1 ".repeat(2560 * kibi)),
        (
            "a string of many lines",
            format!("alias=\"{}", "x\n".repeat(512 * kibi)),
        ),
        ("strings without an end", "\\\"\n".repeat(256 * kibi)),
        ("blocks without an end", "route {\n".repeat(64 * kibi)),
        ("comments without an end", "/*\n".repeat(256 * kibi)),
        ("brackets", "(\n".repeat(256 * kibi)),
        ("statements", "children=\n".repeat(64 * kibi)),
        ("directives", "#!x\n".repeat(256 * kibi)),
        ("NUL", "\0".repeat(10 * kibi * kibi)),
        (
            "parameters",
            "modparam(\"clusterer\", \"sharing_tag\", \"\")\n".repeat(4 * kibi),
        ),
        ("listeners", "listen=bin:127.0.0.1:5555\n".repeat(4 * kibi)),
    ] {
        let start = Instant::now();
        let imported = of(&text);
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{name}: {:?}",
            start.elapsed()
        );
        assert!(imported.left_out.len() <= 1000, "{name}");
        assert!(
            imported.left_out_more > 0 || imported.left_out.len() < 1000,
            "{name}"
        );
        assert!(imported.config.len() < 1 << 20, "{name}");
        assert!(!imported.left_out.is_empty(), "{name}");
        loaded(&imported);
    }
    let too_large = vec![b'#'; 17 << 20];
    let error = of_bytes(&too_large, &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
}

#[test]
fn whatever_is_cut_or_changed_the_result_is_a_configuration() {
    let bytes = NODE.as_bytes();
    for len in (0..bytes.len()).step_by(7) {
        loaded(&of_bytes(&bytes[..len], &ImportOptions::default()).unwrap());
    }
    for at in (0..bytes.len()).step_by(5) {
        for byte in [
            b'"', b'\'', b'{', b'}', b'\\', 0, 0xff, b'\n', b'#', b'=', b'(',
        ] {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            loaded(&of_bytes(&changed, &ImportOptions::default()).unwrap());
        }
    }
}

#[test]
fn a_string_that_is_written_is_read_as_it_was() {
    use crate::config::lexer::{Lexer, Token};
    use crate::config::source::Source;
    for text in [
        "",
        "a",
        "\"\\",
        "a\nb\r\tc",
        "\x01\x7f",
        "\\n\\x41",
        "ä'b'",
        "x\\",
    ] {
        let written = text::string(text);
        assert!(!written.contains('\n'), "{written}");
        let source = Source::of(Path::new("a.cfg"), written);
        let token = Lexer::new(&source).next().unwrap().token;
        assert_eq!(token, Token::Text(text.to_owned()));
    }
}
