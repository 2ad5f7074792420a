//! Clusters: nodes, capabilities, sharing tags, and our own settings about them.

use std::time::Duration;

use binrush_wire::Release;

use super::*;
use crate::cluster::config::{
    CapabilityConfig, ClusterConfig, NODES_MAX, NodeConfig, SyncLimits, Timers,
};

/// What is replicated in them.
mod capabilities;

/// A node of one cluster, and what else `text` says.
fn node(text: &str) -> String {
    format!(
        r#"listen = bin:10.0.0.2:5566
loadmodule "clusterer.so"
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", 2)
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.0.0.2:5566")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=1, url=bin:10.0.0.1:5566, flags=seed")
{text}"#
    )
}

fn my_info(info: &str) -> String {
    format!("modparam(\"clusterer\", \"my_node_info\", \"{info}\")\n")
}

fn neighbour(info: &str) -> String {
    format!("modparam(\"clusterer\", \"neighbor_node_info\", \"{info}\")\n")
}

/// A file with a listener in line 1 and `clusterer` without a database in lines 2 and 3.
fn clusterer(text: &str) -> String {
    with_listener(&format!(
        "loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"db_mode\", 0)\n{text}"
    ))
}

/// The cluster of a configuration that has one.
#[track_caller]
fn cluster(text: &str) -> ClusterConfig {
    let clusters = config(text).clusters;
    let [ref cluster] = clusters[..] else {
        panic!("{clusters:?}");
    };
    cluster.clone()
}

#[track_caller]
fn silent(text: &str, about: &str) {
    let warnings = loaded(text).warnings;
    let told = warnings.iter().any(|each| each.message().contains(about));
    assert!(!told, "{warnings:?}");
}

#[test]
fn a_cluster_is_what_opensips_would_make_of_it() {
    let found = cluster(&node(
        r#"
        loadmodule "dialog.so"
        modparam("dialog", "dialog_replication_cluster", 1)
        modparam("clusterer", "sharing_tag", "vip1/1=backup")
    "#,
    ));
    let of = |id: i32, is_seed| NodeConfig {
        id,
        url: format!("bin:10.0.0.{id}:5566").parse().unwrap(),
        url_text: format!("bin:10.0.0.{id}:5566"),
        sip_addr: String::new(),
        priority: 3,
        retries: 3,
        is_seed,
        release: None,
    };
    let expected = ClusterConfig {
        id: 1,
        me: of(2, false),
        neighbours: vec![of(1, true)],
        timers: Timers::default(),
        release: Release::V3_6,
        learn: vec![],
        capabilities: vec![CapabilityConfig {
            name: "dialog-dlg-repl".to_owned(),
            sync: true,
        }],
        tags: vec!["vip1".to_owned()],
        sync: SyncLimits::default(),
    };
    assert_eq!(found, expected);
}

#[test]
fn the_timers_of_clusterer_and_ours_are_taken() {
    let found = cluster(&node(
        r#"
        modparam("clusterer", "ping_interval", 1)
        modparam("clusterer", "ping_timeout", 300)
        modparam("clusterer", "node_timeout", 5)
        modparam("clusterer", "seed_fallback_interval", 0)
        modparam("clusterer", "sync_timeout", 7)
        modparam("clusterer", "sync_packet_size", 1000)
        modparam("binrush", "hold_bytes", 65536)
        modparam("binrush", "cluster_release", "2.4")
    "#,
    ));
    let expected = Timers {
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_millis(300),
        node_timeout: Duration::from_secs(5),
        seed_fallback: Duration::ZERO,
        sync_timeout: Duration::from_secs(7),
    };
    assert_eq!((found.timers, found.release), (expected, Release::V2_4));
    assert_eq!(
        (found.sync.packet_len, found.sync.hold_bytes),
        (1000, 65_536)
    );
}

#[test]
fn a_node_that_is_down_is_never_tried_all_the_time() {
    let text = node("modparam(\"clusterer\", \"node_timeout\", 0)");
    assert_eq!(cluster(&text).timers.node_timeout, Duration::from_secs(1));
}

#[test]
fn a_packet_of_a_sync_is_no_longer_than_every_release_takes() {
    let text = node("modparam(\"clusterer\", \"sync_packet_size\", 100000)")
        + &my_info("cluster_id=2, url=bin:10.0.0.2:5566");
    let clusters = config(&text).clusters;
    assert!(
        clusters
            .iter()
            .all(|cluster| cluster.sync.packet_len == 65_515)
    );
    warned(
        &text,
        "a.cfg:5:39: sync_packet_size: packets of 100000 bytes cannot be sent: they have 65515",
    );
    let told = |each: &&ConfigWarning| each.message().starts_with("sync_packet_size");
    assert_eq!(loaded(&text).warnings.iter().filter(told).count(), 1);
}

#[test]
fn several_clusters_are_told_apart_by_their_id() {
    let text = clusterer(
        &[
            neighbour("cluster_id=7, node_id=1, url=bin:127.0.0.7:5555"),
            my_info("cluster_id=3, node_id=9, url=bin:127.0.0.1:5555"),
            my_info("cluster_id=7, url=bin:127.0.0.1"),
            neighbour("cluster_id=3, node_id=1, url=127.0.0.3, priority=9, no_ping_retries=0, sip_addr=10.0.0.3"),
            "loadmodule \"dialog.so\"\n".to_owned(),
            "modparam(\"dialog\", \"dialog_replication_cluster\", 7)\n".to_owned(),
            "modparam(\"dialog\", \"profile_replication_cluster\", 3)\n".to_owned(),
        ]
        .concat(),
    );
    let clusters = config(&text).clusters;
    let ids: Vec<_> = clusters
        .iter()
        .map(|each| (each.id, each.me.id, each.neighbours.len()))
        .collect();
    assert_eq!(ids, [(3, 9, 1), (7, 9, 1)]);
    let names = |at: usize| {
        let capabilities = clusters[at].capabilities.iter();
        capabilities.map(|each| &each.name[..]).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(0), names(1)),
        (vec!["dialog-prof-repl"], vec!["dialog-dlg-repl"])
    );
    // What is not written is the default port, and is told to others as it is written.
    let third = &clusters[0].neighbours[0];
    assert_eq!(third.url.to_string(), "bin:127.0.0.3:5555");
    assert_eq!(third.url_text, "127.0.0.3");
    assert_eq!((third.priority, third.retries), (9, 0));
    assert_eq!(third.sip_addr, "10.0.0.3");
}

#[test]
fn the_names_of_2_4_and_bin_port_are_understood() {
    let text = with_listener(
        r#"
        listen = bin:127.0.0.2
        loadmodule "proto_bin.so"
        loadmodule "clusterer.so"
        modparam("proto_bin", "bin_port", 5999)
        modparam("clusterer", "db_mode", 0)
        modparam("clusterer", "current_id", 4)
        modparam("clusterer", "current_info", "cluster_id=1, url=bin:127.0.0.2")
        modparam("clusterer", "neighbor_info", "cluster_id=1, node_id=2, url=bin:127.0.0.3")
    "#,
    );
    let found = cluster(&text);
    assert_eq!(found.me.id, 4);
    assert_eq!(found.me.url.to_string(), "bin:127.0.0.2:5999");
    assert_eq!(found.neighbours[0].url.to_string(), "bin:127.0.0.3:5999");
}

#[test]
fn my_url_is_an_address_that_is_listened_on() {
    let at = |listen: &str, url: &str| {
        format!(
            "{listen}\nmodparam(\"clusterer\", \"db_mode\", 0)\n{}",
            my_info(&format!("cluster_id=1,node_id=1,url={url}"))
        )
    };
    for (listen, url) in [
        ("listen = bin:0.0.0.0:5566", "bin:10.0.0.1:5566"),
        ("listen = bin:[::]:5566", "bin:[2001:db8::1]:5566"),
        (
            "listen = bin:10.0.0.9:5566\nlisten = bin:[::1]:5566",
            "bin:[::1]:5566",
        ),
    ] {
        assert_eq!(cluster(&at(listen, url)).me.url.to_string(), url);
    }
    for (listen, url, told) in [
        (
            "listen = bin:10.0.0.1:5566",
            "bin:10.0.0.1:5567",
            "bin:10.0.0.1:5567 is no address that this node listens on: one of bin:10.0.0.1:5566 expected, or `listen = \
             bin:10.0.0.1:5567`",
        ),
        (
            "listen = bin:10.0.0.1:5566",
            "bins:10.0.0.1:5566",
            "bins:10.0.0.1:5566 is no address that this node listens on",
        ),
        (
            "listen = bin:[::]:5566",
            "bin:10.0.0.1:5566",
            "bin:10.0.0.1:5566 is no address that this node listens on: one of bin:[::]:5566 expected",
        ),
        // Nobody connects to what takes datagrams alone.
        (
            "bin_listen = 10.0.0.1:5566",
            "bin:10.0.0.1:5566",
            "bin:10.0.0.1:5566 is no address that this node listens on: one of bin:10.0.0.1:5566 (datagrams only) expected",
        ),
        (
            "listen = bin:0.0.0.0:5566",
            "bin:0.0.0.0:5566",
            "\"bin:0.0.0.0:5566\" is no address that others can connect to",
        ),
        (
            "listen = bin:10.0.0.1:0",
            "bin:10.0.0.1:0",
            "\"bin:10.0.0.1:0\" is no address that others can connect to",
        ),
        (
            "listen = bin:10.0.0.1:5555",
            "bin:sip1:5555",
            "\"sip1\" is a name: write the address",
        ),
    ] {
        let told = format!("a.cfg:3:39: my_node_info: {told}");
        refused(&at(listen, url), &told);
    }
}

#[test]
fn nodes_over_tls_need_certificates_on_our_side_of_a_connection() {
    let text = format!(
        "listen = bins:127.0.0.1:5556\n{}{}{}",
        tls::complete("node"),
        my_info("cluster_id=1,node_id=1,url=bins:127.0.0.1"),
        neighbour("cluster_id=1,node_id=2,url=bins:127.0.0.2:5556"),
    );
    let error = read(&text).unwrap_err();
    let told = "neighbor_node_info: bins:127.0.0.2:5556 is reached over TLS, for which `modparam(\"tls_mgm\", \"client_domain\"";
    assert!(error.contains(told), "{error}");
    let text = text
        + "modparam(\"tls_mgm\", \"client_domain\", \"nodes\")\nmodparam(\"tls_mgm\", \"ca_list\", \"[nodes]/ca.pem\")\n";
    let found = cluster(&text);
    assert_eq!(found.me.url.to_string(), "bins:127.0.0.1:5556");
    assert_eq!(found.neighbours[0].url.protocol, Protocol::Bins);
    let only = |address: &str| {
        format!("{text}modparam(\"tls_mgm\", \"match_ip_address\", \"[nodes]{address}\")\n")
    };
    for fitting in ["127.0.0.2:5556", "127.0.0.3:5556, 127.0.0.2:5556", "*"] {
        assert_eq!(cluster(&only(fitting)).neighbours.len(), 1, "{fitting}");
    }
    for other in ["127.0.0.3:5556", "127.0.0.2:5557"] {
        let error = read(&only(other)).unwrap_err();
        let told = "(the match_ip_address of none of the client domains fits)";
        assert!(
            error.contains("a.cfg:8:45: ") && error.contains(told),
            "{error}"
        );
    }
}

#[test]
fn a_node_that_does_not_fit_is_refused_where_it_stands() {
    let me = my_info("cluster_id=1, node_id=1, url=bin:127.0.0.1:5555");
    let with = |text: &str| clusterer(&format!("{me}{text}"));
    let other = |text: &str| with(&neighbour(text));
    for (text, told) in [
        (
            other("cluster_id=1, node_id=2, url=bin:sip2:5555"),
            "a.cfg:5:45: neighbor_node_info: \"sip2\" is a name: write the address (names are not looked up)",
        ),
        (
            other("cluster_id=1, node_id=2, url=bin:0.0.0.0:5555"),
            "a.cfg:5:45: neighbor_node_info: \"bin:0.0.0.0:5555\" is no address that others can connect to",
        ),
        (
            other("cluster_id=1, node_id=2, url=bin:224.0.0.1:5555"),
            "a.cfg:5:45: neighbor_node_info: \"bin:224.0.0.1:5555\" is no address that others can connect to",
        ),
        (
            other("cluster_id=1, node_id=2, url=bin:[::1]:5555"),
            "a.cfg:5:45: neighbor_node_info: bin:[::1]:5555 is an address of IPv6, and this node is at bin:127.0.0.1:5555 in the \
             cluster: one of IPv4 expected",
        ),
        (
            other("cluster_id=1, node_id=1, url=bin:127.0.0.2:5555"),
            "a.cfg:5:45: neighbor_node_info: node 1 of cluster 1 is this one: the id of another expected",
        ),
        (
            other("cluster_id=1, node_id=2, url=bin:127.0.0.1:5555"),
            "a.cfg:5:45: neighbor_node_info: 127.0.0.1:5555 is node 1 of cluster 1: the address of another expected",
        ),
        (
            other("cluster_id=1, node_id=0, url=bin:127.0.0.2:5555"),
            "a.cfg:5:45: neighbor_node_info: node_id: a number from 1 expected, not \"0\"",
        ),
        (
            other("cluster_id=2, node_id=2, url=bin:127.0.0.2:5555"),
            "a.cfg:5:45: cluster 2 has no my_node_info: `modparam(\"clusterer\", \"my_node_info\", \"cluster_id=2, url=",
        ),
        (
            with(&me),
            "a.cfg:5:39: my_node_info of cluster 1 is there already, in a.cfg:4:39: each node once expected",
        ),
        (
            with(&my_info("cluster_id=2, node_id=7, url=bin:127.0.0.1:5555")),
            "a.cfg:5:39: my_node_info: node_id 1 expected, as in a.cfg:4:39, not 7: a node has one id in all clusters",
        ),
        (
            with("modparam(\"clusterer\", \"my_node_id\", 3)"),
            "a.cfg:4:39: my_node_info: node_id 3 expected, as in a.cfg:5:37, not 1",
        ),
        (
            clusterer(&my_info("cluster_id=1, url=bin:127.0.0.1:5555")),
            "a.cfg:4:39: my_node_info: node_id is missing: ",
        ),
    ] {
        let error = refused(&text, told);
        assert!(!error.contains("\na.cfg"), "one problem: {error}");
    }
    let twice = neighbour("cluster_id=1, node_id=2, url=bin:127.0.0.2:5555")
        + &neighbour("cluster_id=1, node_id=2, url=bin:127.0.0.3:5555");
    refused(
        &with(&twice),
        "a.cfg:6:45: node 2 of cluster 1 is there already, in a.cfg:5:45: each node once expected",
    );
    let same = neighbour("cluster_id=1, node_id=2, url=bin:127.0.0.2:5555")
        + &neighbour("cluster_id=1, node_id=3, url=bin:127.0.0.2:5555");
    refused(
        &with(&same),
        "a.cfg:6:45: neighbor_node_info: 127.0.0.2:5555 is node 2 of cluster 1: the address of another expected",
    );
}

#[test]
fn a_node_is_not_missed_that_is_refused_where_it_stands() {
    let text = clusterer(
        &(my_info("cluster_id=1, node_id=1, url=udp:127.0.0.1:5555")
            + &neighbour("cluster_id=1, node_id=2, url=bin:127.0.0.2:5555")),
    );
    let error = refused(
        &text,
        "a.cfg:4:39: my_node_info: \"udp:127.0.0.1:5555\" is no address: bin:IP:PORT expected",
    );
    assert!(!error.contains("has no my_node_info"), "{error}");
}

#[test]
fn clusters_and_nodes_have_the_limits_of_opensips() {
    let me = my_info("cluster_id=1, node_id=1000, url=bin:127.0.0.1:5555");
    let nodes = |count: usize| -> String {
        (1..=count)
            .map(|id| {
                neighbour(&format!(
                    "cluster_id=1, node_id={id}, url=bin:127.0.1.{id}:5555"
                ))
            })
            .collect()
    };
    let most = NODES_MAX - 1;
    let text = clusterer(&(me.clone() + &nodes(most)));
    assert_eq!(cluster(&text).neighbours.len(), most);
    refused(
        &clusterer(&(me + &nodes(most + 1))),
        "a.cfg:132:45: one node too many: at most 128 expected in cluster 1, this one included",
    );

    let clusters = |count: usize| -> String {
        (1..=count)
            .map(|id| {
                my_info(&format!(
                    "cluster_id={id}, node_id=1, url=bin:127.0.0.1:5555"
                ))
            })
            .collect()
    };
    assert_eq!(config(&clusterer(&clusters(64))).clusters.len(), 64);
    refused(
        &clusterer(&clusters(65)),
        "a.cfg:68:39: one cluster too many: at most 64 expected, 65 is one more",
    );
}

#[test]
fn no_more_neighbours_are_taken_than_links_can_be_made_to() {
    // 8 clusters of 128 nodes of their own have 1016 neighbours, and 8 more are all that there is room for.
    let of_cluster = |cluster: usize, count: usize| -> String {
        let me = format!("cluster_id={cluster}, node_id=1000, url=bin:127.0.0.1:5555");
        let node =
            |id| format!("cluster_id={cluster}, node_id={id}, url=bin:127.0.{cluster}.{id}:5555");
        let nodes = (1..=count).map(|id| neighbour(&node(id)));
        my_info(&me) + &nodes.collect::<String>()
    };
    let full: String = (1..=8).map(|id| of_cluster(id, NODES_MAX - 1)).collect();
    let most = clusterer(&(full.clone() + &of_cluster(9, 8)));
    let clusters = config(&most).clusters;
    let neighbours = clusters.iter().map(|each| each.neighbours.len());
    assert_eq!(neighbours.sum::<usize>(), 1024);
    refused(
        &clusterer(&(full + &of_cluster(9, 9))),
        "a.cfg:1037:45: one neighbour too many: at most 1024 expected in all clusters together",
    );
}

#[test]
fn without_nodes_there_is_no_cluster_and_it_is_told_why() {
    let bare =
        with_listener("loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"my_node_id\", 1)");
    warned(
        &bare,
        "a.cfg:2:12: clusterer: OpenSIPS has the nodes in a database (db_mode), and binrush does not read one, so this node \
         is in no cluster",
    );
    warned(
        &clusterer(""),
        "a.cfg:2:12: clusterer: no my_node_info says which node this is, so this node is in no cluster",
    );
    assert!(config(&bare).clusters.is_empty());
    // What names a cluster then is as it was: packets are read and counted.
    let named = bare
        + "\nloadmodule \"dialog.so\"\nmodparam(\"dialog\", \"dialog_replication_cluster\", 5)";
    assert!(config(&named).clusters.is_empty());
    silent(&node(""), "in no cluster");
}

#[test]
fn nodes_that_are_written_count_though_a_database_is_not_switched_off() {
    let text = node("");
    silent(&text, "db_mode");
    let text = text.replace("modparam(\"clusterer\", \"db_mode\", 0)", "");
    assert_eq!(cluster(&text).neighbours.len(), 1);
    let told = "a.cfg:5:39: the nodes written here count, though db_mode is not 0";
    warned(&text, told);
    let warnings = loaded(&text).warnings;
    let told = |each: &&ConfigWarning| each.message().contains("db_mode");
    assert_eq!(warnings.iter().filter(told).count(), 1, "{warnings:?}");
}

#[test]
fn who_is_alone_and_learns_nobody_is_told() {
    let text = clusterer(&my_info("cluster_id=1, node_id=1, url=bin:127.0.0.1:5555"));
    warned(&text, "a.cfg:4:39: this node is alone in cluster 1");
    let learns = text + "modparam(\"binrush\", \"cluster_learn\", \"10.0.0.0/24\")";
    silent(&learns, "alone");
}

#[test]
fn sharing_tags_are_known_and_never_taken() {
    let text = node(
        r#"modparam("clusterer", "sharing_tag", "vip1/1=backup")
modparam("clusterer", "sharing_tag", "vip2/1=active")
modparam("clusterer", "sharing_tag", "vip1/1=backup")"#,
    );
    assert_eq!(cluster(&text).tags, ["vip1", "vip2"]);
    warned(
        &text,
        "a.cfg:8:38: binrush takes no sharing tag by itself: it knows \"vip2\" of cluster 1 as backup",
    );
    let backup = text.replace("active", "backup");
    silent(&backup, "sharing tag");
    let tag = |value: &str| {
        node(&format!(
            "modparam(\"clusterer\", \"sharing_tag\", \"{value}\")"
        ))
    };
    refused(
        &tag("vip1=active"),
        "a.cfg:7:38: sharing_tag: \"NAME/CLUSTER=active\" or \"NAME/CLUSTER=backup\" expected, not \"vip1=active\"",
    );
    let many: String = (0..65)
        .map(|tag| format!("modparam(\"clusterer\", \"sharing_tag\", \"t{tag}/1=backup\")\n"))
        .collect();
    refused(
        &node(&many),
        "a.cfg:71:38: sharing_tag: \"t64\" is one tag too many: at most 64 expected in a cluster",
    );
}

#[test]
fn what_clusterer_has_for_a_database_and_for_transit_has_no_effect() {
    let text = node(
        r#"modparam("clusterer", "enable_rerouting", 0)
modparam("clusterer", "dispatch_jobs", 0)
modparam("clusterer", "db_table", "nodes")
modparam("clusterer", "url_col", "address")"#,
    );
    warned(
        &text,
        "a.cfg:7:43: these parameters of clusterer have no effect here: binrush reads no database, and forwards no packets \
         of others: enable_rerouting, dispatch_jobs, db_table, url_col",
    );
    silent(&node(""), "no effect");
}

#[test]
fn the_release_of_a_node_is_that_of_its_address() {
    let peers = r#"
        modparam("binrush", "peer", "addr=10.0.0.0/24, generation=3.2")
        modparam("binrush", "peer", "addr=10.0.0.1, generation=2.4")
    "#;
    let more = neighbour("cluster_id=1, node_id=3, url=bin:10.0.0.3:5566")
        + &neighbour("cluster_id=1, node_id=4, url=bin:10.0.1.4:5566");
    let found = cluster(&node(&(peers.to_owned() + &more)));
    let releases: Vec<_> = found.neighbours.iter().map(|node| node.release).collect();
    assert_eq!(releases, [Some(Release::V2_4), Some(Release::V3_2), None]);
    for release in ["2.2", "2.3"] {
        let text = node(&peers.replace("2.4", release));
        refused(
            &text,
            "a.cfg:6:45: neighbor_node_info: node 1 is of 2.2 or 2.3, as `peer` says of 10.0.0.1: nodes of clusters are of \
             2.4 or later",
        );
    }
    let own = |value: &str| {
        node(&format!(
            "modparam(\"binrush\", \"cluster_release\", {value})"
        ))
    };
    assert_eq!(cluster(&own("\"4.0\"")).release, Release::V4_0);
    refused(
        &own("\"2.3\""),
        "a.cfg:7:40: cluster_release: a release from \"2.4\" to \"4.0\", in quotes, expected, not \"2.3\"",
    );
}

#[test]
fn nodes_are_learned_from_networks_that_are_let_in() {
    let learn = |range: &str| format!("modparam(\"binrush\", \"cluster_learn\", \"{range}\")\n");
    let text = node(&(learn("10.1.0.0/24") + &learn("2001:db8::/64")));
    let found = config(&text);
    let ranges = ["10.1.0.0/24", "2001:db8::/64"].map(|range| range.parse().unwrap());
    assert_eq!(found.clusters[0].learn, ranges);
    for (ip, allowed) in [
        ("10.1.0.77", true),
        ("10.0.0.1", true),
        ("10.1.1.1", false),
        ("2001:db8::1", true),
    ] {
        assert_eq!(found.access.allows(ip.parse().unwrap()), allowed, "{ip}");
    }
    silent(&text, "only this host");
    // With `allow`, that decides.
    let allow =
        |range: &str| text.clone() + &format!("modparam(\"binrush\", \"allow\", \"{range}\")");
    assert!(
        !config(&allow("10.0.0.0/24"))
            .access
            .allows("10.1.0.77".parse().unwrap())
    );
    warned(
        &allow("10.0.0.0/24"),
        "a.cfg:7:38: nodes of 10.1.0.0/24 may introduce themselves here, but `allow` does not let them in",
    );
    silent(&allow("any"), "introduce themselves here");
    refused(
        &node(&learn("0.0.0.0/0")),
        "a.cfg:7:38: cluster_learn: a range of addresses such as \"10.0.0.0/24\", and not everybody: whoever comes from there \
         may become a node, expected, not \"0.0.0.0/0\"",
    );
    let many: String = (0..65).map(|n| learn(&format!("10.1.{n}.0/24"))).collect();
    refused(
        &node(&many),
        "a.cfg:71:38: cluster_learn: 10.1.64.0/24 is one range too many: at most 64 expected",
    );
}

#[test]
fn settings_about_clusters_without_one_have_no_effect() {
    let text = with_listener(
        "modparam(\"binrush\", \"hold_bytes\", 65536)\nmodparam(\"binrush\", \"cluster_learn\", \"10.1.0.0/24\")",
    );
    warned(
        &text,
        "a.cfg:2:35: these parameters have no effect here, because this node is in no cluster: hold_bytes, cluster_learn",
    );
    assert!(!config(&text).access.allows("10.1.0.1".parse().unwrap()));
    silent(
        &node("modparam(\"binrush\", \"hold_bytes\", 65536)"),
        "in no cluster",
    );
}

#[test]
fn connections_have_a_reader_of_their_own_where_there_is_a_cluster() {
    let readers = |text: &str| config(text).engine().readers;
    let set = |count: u16| format!("modparam(\"binrush\", \"readers\", {count})");
    assert_eq!(readers(&with_listener("")), 0);
    assert_eq!(readers(&with_listener(&set(2))), 2);
    warned(
        &with_listener(&set(2)),
        "a.cfg:2:32: readers: this node is in no cluster; its connections are read by threads of their own all the same",
    );
    silent(&with_listener(&set(0)), "readers");
    silent(&node(&set(2)), "readers");
    assert_eq!(readers(&node("")), 1);
    assert_eq!(readers(&node(&set(0))), 0);
    refused(
        &node(&set(17)),
        "a.cfg:7:32: readers: a number from 0 to 16 expected, not 17",
    );
}

#[test]
fn a_node_of_a_cluster_keeps_more_for_a_slow_shard_unless_it_is_told_how_much() {
    let memory = |text: &str| {
        let limits = config(text).stream_limits;
        (limits.memory_per_connection, limits.memory)
    };
    let defaults = StreamLimits::default();
    let alone = (defaults.memory_per_connection, defaults.memory);
    assert_eq!(memory(&with_listener("")), alone);
    assert_eq!(memory(&node("")), (64 << 20, 256 << 20));
    let set = |name: &str, bytes: u32| node(&format!("modparam(\"binrush\", \"{name}\", {bytes})"));
    let one = set("connection_memory", 65536);
    assert_eq!(memory(&one), (65536, 256 << 20));
    let all = set("stream_memory", 1 << 27);
    assert_eq!(memory(&all), (64 << 20, 1 << 27));
    // What goes wrong together is blamed on what was set.
    warned(
        &set("connection_memory", 1 << 29),
        "a.cfg:7:42: stream_memory (268435456 bytes for all connections of a shard) is below connection_memory",
    );
    warned(
        &set("stream_memory", 1 << 20),
        "a.cfg:7:38: stream_memory (1048576 bytes for all connections of a shard) is below connection_memory",
    );
}

#[test]
fn the_control_socket_has_an_absolute_path() {
    let control =
        |path: &str| with_listener(&format!("modparam(\"binrush\", \"control\", \"{path}\")"));
    let found = config(&control("/run/binrush/control.sock")).control;
    assert_eq!(found, Some(PathBuf::from("/run/binrush/control.sock")));
    assert_eq!(config(&with_listener("")).control, None);
    refused(
        &control("control.sock"),
        "a.cfg:2:32: control: the absolute path of a socket, of at most 107 bytes, such as \"/run/binrush/control.sock\", \
         expected, not \"control.sock\"",
    );
}
