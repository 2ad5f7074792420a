//! Connections: what they may cost, and who sends.

use std::time::Duration;

use binrush_wire::{Generation, Release};

use super::*;
use crate::stream::Keepalive;

fn limits(text: &str) -> StreamLimits {
    config(&with_listener(text)).engine().streams.limits
}

#[test]
fn the_limits_of_opensips_and_ours_reach_the_engine() {
    let text = r#"
        tcp_max_connections = 100
        tcp_connection_lifetime = 3600
        tcp_max_msg_time = 8
        tcp_keepalive = yes
        tcp_keepidle = 30
        tcp_keepinterval = 6
        tcp_keepcount = 4
        tcp_socket_backlog = 10
        loadmodule "proto_bin.so"
        loadmodule "proto_bins.so"
        modparam("proto_bin", "bin_max_msg_chunks", 64)
        modparam("proto_bins", "bins_handshake_timeout", 700)
        modparam("binrush", "stream_backend", "io_uring")
        modparam("binrush", "connections_per_source", 3)
        modparam("binrush", "connection_memory", 131072)
        modparam("binrush", "stream_memory", 1048576)
        modparam("binrush", "tcp_user_timeout", 9)
        modparam("binrush", "tls_handshakes", 2)
    "#;
    let expected = StreamLimits {
        connections: 100,
        per_source: 3,
        frame_deadline: Duration::from_secs(8),
        idle: Duration::from_secs(3600),
        pieces: Some(64),
        user_timeout: Duration::from_secs(9),
        keepalive: Some(Keepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(6),
            count: 4,
        }),
        memory_per_connection: 131_072,
        memory: 1_048_576,
        handshake: Duration::from_millis(700),
        handshakes: 2,
        backlog: 10,
        rcvbuf: None,
    };
    assert_eq!(limits(text), expected);
    let loaded = loaded(&with_listener(text));
    assert_eq!(loaded.config.engine().streams.backend, StreamBackend::Uring);
    let silent = |warning: &ConfigWarning| !warning.message().contains("no effect");
    assert!(loaded.warnings.iter().all(silent), "{:?}", loaded.warnings);
}

#[test]
fn without_a_word_the_defaults_hold_also_where_those_of_opensips_are_smaller() {
    let text = r#"loadmodule "proto_bin.so" loadmodule "proto_bins.so""#;
    assert_eq!(limits(text), StreamLimits::default());
    assert_eq!(limits(text).pieces, None);
    assert_eq!(limits("tcp_keepalive = no").keepalive, None);
}

#[test]
fn a_limit_out_of_range_is_refused_and_more_connections_than_can_be_are_told() {
    for (line, told) in [
        (
            "tcp_max_connections = 0",
            "a.cfg:2:23: tcp_max_connections: a number from 1 expected, not 0",
        ),
        (
            "tcp_max_msg_time = -4",
            "a.cfg:2:20: tcp_max_msg_time: a number from 1 expected, not -4",
        ),
        (
            "tcp_keepidle = 32768",
            "a.cfg:2:16: tcp_keepidle: a number from 0 to 32767 expected",
        ),
        (
            "tcp_keepcount = 128",
            "a.cfg:2:17: tcp_keepcount: a number from 0 to 127 expected",
        ),
        (
            "tcp_keepalive = maybe",
            "a.cfg:2:17: a number expected, not \"maybe\"",
        ),
        (
            "tcp_max_conections = 5",
            "a.cfg:2:1: unknown parameter \"tcp_max_conections\"; did you mean \"tcp_max_connections\"?",
        ),
    ] {
        refused(&with_listener(line), told);
    }
    let many = with_listener("tcp_max_connections = 1000000");
    warned(
        &many,
        "a.cfg:2:23: tcp_max_connections: 1000000 connections cannot be had; there are 65536, which is the most",
    );
    assert_eq!(config(&many).stream_limits.connections, 65_536);
    warned(
        &with_listener("tcp_listen_backlog = 10\ntcp_socket_backlog = 20"),
        "a.cfg:3:22: tcp_socket_backlog is set again: the value in a.cfg:2:22 does not count",
    );
    warned(
        &with_listener("modparam(\"binrush\", \"stream_memory\", 65536)"),
        "a.cfg:2:38: stream_memory (65536 bytes for all connections of a shard) is below connection_memory",
    );
}

#[test]
fn one_limit_of_pieces_stands_for_those_of_both_protocols() {
    let tls = tls::complete("node");
    let both = format!("listen = bins:127.0.0.1:5556\n{tls}");
    let bin = "modparam(\"proto_bin\", \"bin_max_msg_chunks\", 8)\n";
    let bins = "modparam(\"proto_bins\", \"bins_max_msg_chunks\", 16)\n";
    assert_eq!(limits(bin).pieces, Some(8));
    // A protocol that is not spoken has no say.
    assert_eq!(limits(bins).pieces, None);
    assert_eq!(limits(&(both.clone() + bin)).pieces, None);
    assert_eq!(limits(&(both.clone() + bin + bins)).pieces, Some(16));
    let told = |text: &str, told: &str| {
        let warnings = loaded(&with_listener(text)).warnings;
        let found = warnings.iter().any(|each| each.message().starts_with(told));
        assert!(found, "{warnings:?}");
    };
    told(&(both.clone() + bin), "bin_max_msg_chunks has no effect");
    told(
        &(both + bin + bins),
        "bin_max_msg_chunks: 16 pieces are taken",
    );
    // 1.x has no streams at all.
    let legacy = format!("bin_listen = 127.0.0.1:5555\n{bin}");
    assert_eq!(config(&legacy).stream_limits.pieces, None);
}

#[test]
fn what_is_known_of_senders_reaches_the_engine() {
    let text = with_listener(
        r#"
        modparam("binrush", "peer", "addr=10.0.0.7, generation=2.2, name=sip1")
        modparam("binrush", "peer", "addr=10.0.0.0/24, generation=4.0")
        modparam("binrush", "peer", "addr=10.0.0.7, generation=3.6")
        modparam("binrush", "allow", "10.0.0.0/8")
    "#,
    );
    let peers = config(&text).engine().streams.peers;
    assert_eq!(peers.rows().len(), 2);
    let of = |ip: &str| peers.of(ip.parse().unwrap());
    assert_eq!(of("10.0.0.7").release, Some(Release::V3_6));
    assert_eq!(of("10.0.0.8").release, Some(Release::V4_0));
    assert_eq!(of("10.0.1.8").generation, Generation::Modern);
    warned(
        &text,
        "a.cfg:5:37: the peer 10.0.0.7/32 is set again: the value in a.cfg:3:37 does not count",
    );
    let told = |warning: &ConfigWarning| warning.message().contains("not let in");
    assert!(!loaded(&text).warnings.iter().any(told));
    // The other way round: some of the range are let in.
    let some = text.replace("10.0.0.0/8", "10.0.0.7");
    assert!(!loaded(&some).warnings.iter().any(told));
    let none = text.replace("10.0.0.0/8", "10.1.0.0/16");
    warned(
        &none,
        "a.cfg:5:37: 10.0.0.7/32 is a peer here, but it is not let in: `modparam(\"binrush\", \"allow\", \"10.0.0.7/32\")`",
    );

    refused(
        &with_listener("modparam(\"binrush\", \"peer\", \"addr=sip1\")"),
        "a.cfg:2:29: peer: addr: a range of addresses (\"sip1\" is no IP address",
    );
    let full: String = (0..=crate::stream::peers::PEERS_MAX)
        .map(|n| {
            format!(
                "modparam(\"binrush\", \"peer\", \"addr=10.0.{}.{}\")\n",
                n / 256,
                n % 256
            )
        })
        .collect();
    refused(
        &with_listener(&full),
        "a.cfg:258:29: peer: at most 256 peers can be told apart",
    );
}

#[test]
fn the_bin_side_of_a_genuine_cluster_starts_as_it_is_and_takes_connections() {
    let text = r#"
log_level=3
stderror_enabled=yes
udp_workers=2
tcp_workers=2
tcp_max_connections=4096
tcp_no_new_conn_rplflag=TCP_NO_CONN
tcp_parallel_read_on_workers=1
socket=udp:127.0.36.1:5060 tag main
socket=bin:127.0.36.1:5566
loadmodule "proto_bin.so"
loadmodule "clusterer.so"
loadmodule "dialog.so"
modparam("proto_bin", "bin_async", 1)
modparam("proto_bin", "bin_send_timeout", 200)
modparam("clusterer", "my_node_id", 1)
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:127.0.36.1:5566, flags=seed")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:127.0.36.2:5566")
modparam("dialog", "dialog_replication_cluster", 1)
"#;
    let engine = config(text).engine();
    let addr = "127.0.36.1:5566".parse().unwrap();
    assert_eq!(
        (engine.listen, engine.streams.listen),
        (vec![addr], vec![addr])
    );
    assert_eq!(engine.streams.limits.connections, 4096);
    assert_eq!(engine.streams.tls, None);
    let told = |warning: &ConfigWarning| {
        let message = warning.message();
        message.contains("served yet") || message.contains("proto_bin is not active")
    };
    assert!(!loaded(text).warnings.iter().any(told));
}

#[test]
fn what_is_said_about_connections_where_none_is_accepted_is_told_to_have_no_effect() {
    let rest = "tcp_max_connections = 10\ntcp_socket_backlog = 9\nmodparam(\"binrush\", \"stream_memory\", 65536)\n";
    let told = "have no effect here, because no connection is accepted";
    let datagrams = format!("bin_listen = 127.0.0.1:5555\n{rest}");
    let warnings = loaded(&datagrams).warnings;
    let found: Vec<_> = warnings
        .iter()
        .filter(|each| each.message().contains(told))
        .collect();
    assert_eq!(found.len(), 1, "{warnings:?}");
    let names = ": tcp_max_connections, tcp_socket_backlog, stream_memory";
    assert!(found[0].message().ends_with(names), "{warnings:?}");
    // Nor is it doubted how they go together.
    assert!(
        warnings
            .iter()
            .all(|each| !each.message().contains("is below")),
        "{warnings:?}"
    );
    let both = loaded(&with_listener(rest)).warnings;
    assert!(
        both.iter().all(|each| !each.message().contains(told)),
        "{both:?}"
    );
}

#[test]
fn memory_is_doubted_where_it_was_set() {
    warned(
        &with_listener("modparam(\"binrush\", \"connection_memory\", 1073741824)"),
        "a.cfg:2:42: stream_memory (67108864 bytes for all connections of a shard) is below connection_memory",
    );
}
