//! Where to listen, for whom, and with how many shards.

use super::*;

#[test]
fn listeners_are_written_as_opensips_writes_them() {
    let text = r#"
        socket = bin:10.0.0.1:5566 tag internal use_workers 4
        socket = BIN:[2001:db8::1]
        listen = bin : 10.0.0.2 : 5001 as 192.0.2.1:5001 anycast
        listen = bin:"10.0.0.3":0x10 udp:10.0.0.4 sctp:eth0:5060 use_children 3 bin:10.0.0.5:0 bin:10.0.0.5:0
        listen = bins:10.0.0.1
        listen = 10.0.0.9:5060 10.0.0.8 10.0.0.7
        tos = 16
        loadmodule "proto_bin.so"
        modparam("proto_bin", "bin_port", 5777)
        bin_listen = 10.0.0.6:5555
        loadmodule "tls_mgm.so"
        modparam("tls_mgm", "server_domain", "node")
        modparam("tls_mgm", "certificate", "[node]/cert.pem")
        modparam("tls_mgm", "private_key", "[node]/key.pem")
        modparam("tls_mgm", "ca_list", "[node]/ca.pem")
    "#;
    // A port is decimal, as everywhere.
    refused(text, "a.cfg:5:33: \"0x10\" is no port");
    let text = text.replace("0x10", "10");
    let expected = [
        "bin:10.0.0.1:5566",
        "bin:[2001:db8::1]:5777",
        "bin:10.0.0.2:5001",
        "bin:10.0.0.3:10",
        "bin:10.0.0.5:0",
        "bin:10.0.0.5:0",
        "bins:10.0.0.1:5556",
        "bin:10.0.0.6:5555",
    ];
    assert_eq!(endpoints(&text), expected);
    let found = config(&text);
    assert_eq!(found.listeners[0].tag.as_deref(), Some("internal"));
    let engine = found.engine();
    assert_eq!(engine.listen.len(), 7);
    assert_eq!(engine.streams.listen, engine.listen[..6]);
    assert_eq!(
        engine.streams.listen_tls,
        ["10.0.0.1:5556".parse().unwrap()]
    );
    warned(
        &text,
        "a.cfg:5:36: SIP is not served: of these addresses only the names count, in records: udp:10.0.0.4, sctp:eth0:5060, 10.0.0.9:5060, 10.0.0.8, 10.0.0.7",
    );
}

#[test]
fn what_is_no_address_is_refused_at_its_place() {
    for (listen, told) in [
        (
            "listen = bin:node1:5555",
            "a.cfg:1:14: \"node1\" is a name: write the address",
        ),
        (
            "listen = bin:*:5555",
            "a.cfg:1:14: * is no address: write 0.0.0.0",
        ),
        (
            "listen = bin:10.0.0.1:5000-5010",
            "a.cfg:1:23: 5000-5010 is a range of ports",
        ),
        (
            "listen = bin:10.0.0.1:70000",
            "a.cfg:1:23: \"70000\" is no port",
        ),
        (
            "listen = bin:[::g]:5555",
            "a.cfg:1:14: \"::g\" is no IPv6 address",
        ),
        (
            "listen = bin:::1:5555",
            "a.cfg:1:14: an IPv6 address stands in brackets",
        ),
        (
            "listen = bin:fe80::1:5555",
            "a.cfg:1:19: an IPv6 address stands in brackets",
        ),
        (
            "listen = bni:10.0.0.1:5555",
            "a.cfg:1:10: unknown protocol \"bni\": bin or bins expected",
        ),
        (
            "listen = bin:[::1",
            "a.cfg:1:18: an IPv6 address and \"]\" expected, not the end of the file",
        ),
        (
            "listen bin:10.0.0.1",
            "a.cfg:1:8: \"=\" expected, not \"bin\"",
        ),
        (
            "listen =",
            "a.cfg:1:9: an address expected, not the end of the file",
        ),
        (
            "bin_listen = 10.0.0.1",
            "a.cfg:1:14: bin_listen: a port expected",
        ),
        (
            "bin_listen = bin:10.0.0.1:5555",
            "a.cfg:1:14: bin_listen takes IP:PORT without a protocol: no \"bin:\" expected",
        ),
        (
            "listen = bin:[fe80::1%eth0]:5555",
            "a.cfg:1:14: \"eth0\" is no number of an interface: fe80::1%2 expected",
        ),
    ] {
        refused(listen, told);
    }
}

#[test]
fn an_address_that_is_listened_on_twice_is_told_with_both_places() {
    let text =
        "socket = bin:10.0.0.1:5555\nsocket = bin:10.0.0.2:5555\nbin_listen = 10.0.0.1:5555\n";
    let told = "a.cfg:3:14: 10.0.0.1:5555 is taken already, by bin:10.0.0.1:5555 in a.cfg:1:10";
    refused(text, told);
    // What is the same by its default port, and over TLS, is the same too.
    refused(
        "listen = bin:[::1]\nlisten = bins:[::1]:5555",
        "a.cfg:2:10: [::1]:5555 is taken already, by bin:",
    );
}

#[test]
fn a_configuration_that_receives_nothing_is_refused() {
    for text in ["", "# nothing", "listen = udp:10.0.0.1:5060"] {
        refused(
            text,
            "a.cfg: no address to receive on: `listen = bin:IP:PORT`",
        );
    }
    let many: String = (0..33)
        .map(|n| format!("listen = bin:127.0.0.1:{}\n", 5000 + n))
        .collect();
    refused(&many, "a.cfg:33:10: one listener too many: at most 32");
}

#[test]
fn the_workers_of_bin_make_the_shards_before_those_of_sip() {
    let shards = |text: &str| config(&with_listener(text)).shards;
    let by = |count, source: &str| Shards {
        count,
        source: Some(source.to_owned()),
    };
    assert_eq!(shards(""), Shards::default());
    assert_eq!(shards("children = 8"), by(Some(8), "children"));
    assert_eq!(
        shards("tcp_children = 4\nchildren = 8"),
        by(Some(4), "tcp_children")
    );
    assert_eq!(
        shards("udp_workers = 2\ntcp_workers = 4\nchildren = 8"),
        by(Some(2), "udp_workers")
    );
    assert_eq!(
        shards("bin_children = 0x3 udp_workers = 2"),
        by(Some(3), "bin_children")
    );
    assert_eq!(
        shards("bin_children = 0\nchildren = 8"),
        by(Some(8), "children")
    );
    let own = "modparam(\"binrush\", \"shards\")";
    assert_eq!(
        shards("modparam(\"BINRUSH\", \"shards\", 6)\nbin_children = 3"),
        by(Some(6), own)
    );
    assert_eq!(
        shards("bin_children = 3\nmodparam(\"binrush\", \"shards\", 0)"),
        by(None, own)
    );
    assert_eq!(shards("children = 1000").count, Some(64));
    warned(
        &with_listener("children = 1000"),
        "a.cfg:2:12: children: 1000 shards cannot be had",
    );
    refused(
        "children = -1",
        "a.cfg:1:12: children: a number from 0 expected, not -1",
    );
    refused(
        "children = many",
        "a.cfg:1:12: a number expected, not \"many\"",
    );
    refused(
        "children = 99999999999999999999",
        "a.cfg:1:12: 99999999999999999999 is out of range",
    );
}

#[test]
fn only_a_listener_that_others_could_reach_is_said_to_be_closed() {
    let told = |text: &str| {
        loaded(text)
            .warnings
            .iter()
            .any(|warning| warning.message().contains("only this host"))
    };
    assert!(told("listen = bin:0.0.0.0:5555"));
    assert!(!told("listen = bin:127.0.0.1:5555"));
    assert!(!told("listen = bin:[::1]:5555"));
    assert!(!told(
        "listen = bin:0.0.0.0:5555\nmodparam(\"binrush\", \"allow\", \"127.0.0.1\")"
    ));
}

#[test]
fn allow_takes_the_place_of_the_nodes_and_says_whom_it_leaves_out() {
    let nodes = r#"
        loadmodule "dialog.so"
        modparam("dialog", "replicate_dialogs_to", "192.0.2.1:5555")
        modparam("dialog", "replicate_dialogs_to", "node2:5555")
    "#;
    let text = format!("listen = bin:0.0.0.0:5555{nodes}");
    assert!(config(&text).access.allows("192.0.2.1".parse().unwrap()));
    warned(
        &text,
        "a.cfg:4:52: \"node2\" is not looked up, so its packets are dropped",
    );
    let allow = format!("{text}\nmodparam(\"binrush\", \"allow\", \"10.0.0.0/8\")");
    assert!(!config(&allow).access.allows("127.0.0.1".parse().unwrap()));
    warned(
        &allow,
        "a.cfg:3:52: 192.0.2.1 is a node here, but `allow` does not let it in",
    );
    let any = format!("{allow}\nmodparam(\"binrush\", \"allow\", \"any\")");
    assert!(config(&any).access.is_any());

    let full: String = (0..129)
        .map(|n| format!("modparam(\"binrush\", \"allow\", \"10.0.{n}.0/24\")\n"))
        .collect();
    refused(
        &with_listener(&full),
        "a.cfg:130:30: allow: 10.0.128.0/24 is one range too many",
    );
}

#[test]
fn a_link_local_address_keeps_the_number_of_its_interface() {
    let text = "listen = bin:[fe80::1%2]:5555\nlisten = bin:[fe80::1%3]:5555\nbin_listen = [fe80::2%2]:5555";
    let expected = [
        "bin:[fe80::1%2]:5555",
        "bin:[fe80::1%3]:5555",
        "bin:[fe80::2%2]:5555",
    ];
    assert_eq!(endpoints(text), expected);
    let scopes = config(text)
        .engine()
        .listen
        .into_iter()
        .map(|addr| match addr {
            SocketAddr::V6(addr) => addr.scope_id(),
            SocketAddr::V4(_) => 0,
        });
    assert_eq!(scopes.collect::<Vec<_>>(), [2, 3, 2]);
}

#[test]
fn an_address_and_the_wildcard_of_its_port_are_not_had_together() {
    for (one, other) in [
        ("bin:0.0.0.0:5555", "bin:127.0.0.1:5555"),
        ("bin:[::1]:5555", "bin:[::]:5555"),
    ] {
        let text = format!("listen = {one}\nlisten = {other}\n");
        refused(
            &text,
            &format!(
                "a.cfg:2:10: {} is taken already, by {one} in a.cfg:1:10",
                &other[4..]
            ),
        );
    }
    // The two families are apart, and so are the ports.
    for (one, other) in [
        ("bin:0.0.0.0:5555", "bin:[::]:5555"),
        ("bin:0.0.0.0:5555", "bin:127.0.0.1:5556"),
        ("bin:0.0.0.0:0", "bin:127.0.0.1:0"),
    ] {
        assert_eq!(
            config(&format!("listen = {one}\nlisten = {other}\n"))
                .listeners
                .len(),
            2
        );
    }
}
