use super::*;
use crate::cluster::config::NODES_MAX;
use crate::cluster::message::{Description, TopologyNode};

fn description(url: &str) -> Description {
    Description {
        url: url.as_bytes().to_vec(),
        sip_addr: b"sip:x".to_vec(),
        priority: 7,
        retries: 2,
    }
}

fn introduction(url: &str, path: &[i32]) -> Internal {
    Internal::Description {
        description: description(url),
        path: path.to_vec(),
    }
}

/// One that learns nodes of 10.0.0.0/24.
fn learning(neighbours: &[i32]) -> ClusterConfig {
    ClusterConfig {
        learn: vec!["10.0.0.0/24".parse().expect("a network")],
        ..cluster(neighbours)
    }
}

#[test]
fn nobody_is_learned_unless_that_is_allowed() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.says(9, introduction("bin:10.0.0.9:5555", &[9]));
    let nodes = vec![TopologyNode {
        id: 8,
        description: Some(description("bin:10.0.0.8:5555")),
        stamp: stamp(0),
        neighbours: vec![2],
    }];
    let path = vec![2];
    let stamp = stamp(0);
    lone.says(2, Internal::FullTopology { stamp, nodes, path });
    assert_eq!(lone.seat.facts(lone.now()).nodes.len(), 2);
    assert!(lone.around.connected.is_empty() && lone.around.rosters.is_empty());
    assert_eq!(lone.counts(Kind::Description), (0, 1, 0));
}

#[test]
fn a_node_that_introduces_itself_is_connected_to_pinged_shown_and_described_to_others() {
    let mut lone = Lone::up(learning(&[2]));
    lone.says(9, introduction("bin:10.0.0.9:5556", &[9]));
    let [learned] = &*lone.around.connected else {
        panic!("{:?}", lone.around.connected);
    };
    assert_eq!((learned.id, &*learned.url_text), (9, "bin:10.0.0.9:5556"));
    assert_eq!((learned.priority, learned.retries), (7, 2));
    assert_eq!(learned.sip_addr, "sip:x");
    let shown = lone.around.rosters.last().expect("shown");
    assert_eq!(shown.node(9).map(|node| node.ip), Some(ip(9)));
    assert!(lone.around.events.contains(&Event::Learned {
        cluster: CLUSTER,
        node: 9
    }));
    let passed = introduction("bin:10.0.0.9:5556", &[9, 1]);
    assert_eq!(lone.said_to(2), [Said::Internal(9, passed)]);
    lone.wait(0);
    assert_eq!(lone.said_to(9), [Said::Internal(1, ping(true))]);
    lone.says(9, pong(&[]));
    let facts = lone.node(9);
    assert_eq!((facts.link, facts.learned), (LinkState::Up, true));
    // Once more says nothing new.
    lone.forget();
    lone.says(9, introduction("bin:10.0.0.9:5556", &[9]));
    assert!(lone.around.sent.is_empty() && lone.warnings().is_empty());
}

#[test]
fn a_node_that_a_known_one_describes_is_learned_with_its_links() {
    let mut lone = Lone::up(learning(&[2]));
    let entry = |id: i32, neighbours: &[i32], url: Option<&str>| TopologyNode {
        id,
        description: url.map(description),
        stamp: stamp(0),
        neighbours: neighbours.to_vec(),
    };
    let nodes = vec![
        entry(2, &[8, 7, 1], None),
        entry(8, &[7, 2], Some("bin:10.0.0.8:5555")),
        entry(7, &[], Some("bin:10.0.0.7:5555")),
    ];
    let path = vec![2];
    let stamp = stamp(0);
    lone.says(2, Internal::FullTopology { stamp, nodes, path });
    assert_eq!(lone.node(2).neighbours, [8, 7, 1]);
    assert_eq!(lone.node(8).neighbours, [2, 7]);
    assert_eq!(lone.seat.route(8), Some(2));
    let ids: Vec<_> = lone.around.connected.iter().map(|node| node.id).collect();
    assert_eq!(ids, [8, 7]);
    // By a flooded introduction as well.
    lone.passes(2, 6, introduction("bin:10.0.0.6:5555", &[6, 2]));
    assert_eq!(lone.around.connected.len(), 3);
}

#[test]
fn who_may_not_join_is_refused_with_one_sentence_that_says_why() {
    for (id, from, url, why) in [
        (
            9,
            9,
            "bin:192.168.0.9:5555",
            "none of the networks to learn from",
        ),
        (9, 7, "bin:10.0.0.9:5555", "comes from 10.0.0.7"),
        (9, 9, "bin:10.0.0.1:5555", "is ours"),
        (9, 2, "bin:10.0.0.2:5555", "is that of node 2"),
        (9, 9, "bin:somewhere:5555", "somewhere"),
        (9, 9, "", "endpoint"),
        (9, 9, "bins:10.0.0.9:5555", "none of bin, which we speak"),
        (0, 9, "bin:10.0.0.9:5555", "ids are 1 and higher"),
        (-7, 9, "bin:10.0.0.9:5555", "ids are 1 and higher"),
    ] {
        // As if node 1 lived there as well, so that only its URL speaks against it.
        let mut lone = Lone::up(learning(&[2]));
        let from = if url.contains("10.0.0.1:") { 2 } else { from };
        for _ in 0..3 {
            let body = Body::Internal(introduction(url, &[id]));
            lone.says_by(from, id, ip(from), body);
        }
        let [warning] = *lone.warnings() else {
            panic!("{url}: {:?}", lone.warnings());
        };
        assert!(warning.contains(why), "{warning} should say {why}");
        assert!(lone.around.connected.is_empty(), "{url}");
        assert_eq!(lone.counts(Kind::Description), (0, 3, 0));
        assert!(lone.around.sent.is_empty(), "not passed on");
    }
}

#[test]
fn a_cluster_that_is_full_takes_nobody_and_says_so() {
    let ids: Vec<i32> = (2..=128).collect();
    let config = ClusterConfig {
        learn: vec!["10.0.0.0/8".parse().expect("a network")],
        ..cluster(&ids)
    };
    let mut lone = Lone::new(config);
    assert_eq!(lone.seat.facts(lone.now()).nodes.len(), NODES_MAX);
    for id in 1_000..1_100 {
        lone.says(id, introduction(&format!("bin:{}:5555", ip(id)), &[id]));
    }
    assert_eq!(lone.seat.facts(lone.now()).nodes.len(), NODES_MAX);
    assert!(lone.warnings()[0].contains("128 nodes already"));
}

#[test]
fn a_configured_node_never_moves_and_a_learned_one_only_while_it_is_down() {
    let mut lone = Lone::up(learning(&[2]));
    lone.says(2, introduction("bin:10.0.0.22:5555", &[2]));
    assert!(lone.warnings()[0].contains("node 2 is bin:10.0.0.2:5555 here"));
    assert_eq!(lone.node(2).url, "bin:10.0.0.2:5555");

    lone.says(9, introduction("bin:10.0.0.9:5555", &[9]));
    lone.wait(0);
    lone.says(9, pong(&[]));
    lone.passes(2, 9, introduction("bin:10.0.0.19:5555", &[9, 2]));
    assert_eq!(lone.node(9).url, "bin:10.0.0.9:5555", "it is up");
    lone.wait(20_000);
    assert_eq!(lone.link(9), LinkState::Down);
    lone.forget();
    lone.passes(2, 9, introduction("bin:10.0.0.19:5555", &[9, 2]));
    assert_eq!(lone.node(9).url, "bin:10.0.0.19:5555");
    assert_eq!(lone.around.connected.len(), 2);
    let shown = lone.around.rosters.last().expect("shown");
    assert_eq!(shown.node(9).map(|node| node.ip), Some(ip(19)));
    lone.wait(1_000);
    lone.says_by(9, 9, ip(19), Body::Internal(pong(&[])));
    assert_eq!(lone.link(9), LinkState::Up);
}

#[test]
fn a_node_that_moves_takes_the_terms_of_its_new_description() {
    let mut lone = Lone::up(learning(&[2]));
    lone.says(9, introduction("bin:10.0.0.9:5555", &[9]));
    lone.wait(0);
    lone.says(9, pong(&[]));
    lone.wait(20_000);
    assert_eq!(lone.link(9), LinkState::Down);
    let moved = Internal::Description {
        description: Description {
            retries: 20,
            ..description("bin:10.0.0.19:5555")
        },
        path: vec![9, 2],
    };
    lone.passes(2, 9, moved);
    lone.wait(1_000);
    lone.says_by(9, 9, ip(19), Body::Internal(pong(&[])));
    // Its two retries of before would be over after 8 s.
    lone.wait(20_000);
    assert_ne!(lone.link(9), LinkState::Down);
    lone.wait(10_000);
    assert_eq!(lone.link(9), LinkState::Down);
    // Whoever described it last speaks for it: that is one of the 32 nodes that he may.
    for id in 100..140 {
        let url = format!("bin:10.0.0.{id}:5555");
        lone.passes(2, id, introduction(&url, &[id, 2]));
    }
    assert_eq!(lone.seat.facts(lone.now()).nodes.len(), 3 + 31);
}

#[test]
fn a_stranger_is_given_up_like_any_other_node_whatever_it_wishes() {
    let mut lone = Lone::new(learning(&[]));
    let wishes = Description {
        retries: i32::MAX,
        priority: i32::MIN,
        ..description("bin:10.0.0.9:5555")
    };
    let path = vec![9];
    lone.says(
        9,
        Internal::Description {
            description: wishes,
            path,
        },
    );
    lone.wait(62_000);
    assert_eq!(lone.link(9), LinkState::Down);
}

#[test]
fn a_node_that_was_described_and_never_answers_is_forgotten_and_may_be_learned_again() {
    let mut lone = Lone::up(learning(&[2, 3]));
    for id in [7, 8, 9] {
        lone.says(id, introduction(&format!("bin:10.0.0.{id}:5555"), &[id]));
    }
    lone.wait(0);
    lone.says(9, pong(&[]));
    lone.says(
        9,
        Internal::LinkUpdate {
            stamp: stamp(0),
            neighbour: 3,
            up: true,
            path: vec![9],
        },
    );
    lone.says(
        2,
        Internal::LinkUpdate {
            stamp: stamp(0),
            neighbour: 9,
            up: true,
            path: vec![2],
        },
    );
    let ids = |lone: &Lone| {
        let facts = lone.seat.facts(lone.now());
        let mut ids: Vec<_> = facts.nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        ids
    };
    lone.wait(119_999);
    assert_eq!(ids(&lone), [1, 2, 3, 7, 8, 9]);
    lone.forget();
    lone.wait(1);
    assert_eq!(ids(&lone), [1, 2, 3, 9], "that one was up once");
    assert_eq!(lone.around.disconnected, [8, 7]);
    assert_eq!(lone.warnings().len(), 2);
    assert!(lone.warnings()[0].contains("node 8 (bin:10.0.0.8:5555) was described"));
    let shown = lone.around.rosters.last().expect("shown");
    assert!(shown.node(8).is_none() && shown.node(9).is_some());
    // Who took its place keeps its links, and others keep theirs to it.
    assert_eq!(lone.node(9).neighbours, [3]);
    assert_eq!(lone.node(2).neighbours, [9]);
    lone.says(2, ping(false));
    lone.says(2, pong(&[]));
    assert_eq!((lone.seat.route(9), lone.seat.route(3)), (Some(2), Some(2)));
    lone.says(9, ping(false));
    lone.says(9, pong(&[]));
    assert_eq!((lone.seat.route(9), lone.link(9)), (Some(9), LinkState::Up));
    lone.says(8, introduction("bin:10.0.0.8:5555", &[8]));
    lone.wait(0);
    lone.says(8, pong(&[]));
    assert_eq!(lone.link(8), LinkState::Up);
}

#[test]
fn a_node_that_only_others_see_is_forgotten_when_they_do_not_any_more() {
    let mut lone = Lone::up(learning(&[2]));
    lone.says(8, introduction("bin:10.0.0.8:5555", &[8]));
    let link = |seq, up| Internal::LinkUpdate {
        stamp: stamp(seq),
        neighbour: 8,
        up,
        path: vec![2],
    };
    lone.says(2, link(0, true));
    let live = |lone: &mut Lone, seconds| {
        for _ in 0..seconds {
            lone.wait(1_000);
            lone.says(2, pong(&[]));
        }
    };
    live(&mut lone, 600);
    assert!(lone.around.disconnected.is_empty(), "cut off from us alone");
    lone.says(2, link(1, false));
    live(&mut lone, 110);
    assert!(lone.around.disconnected.is_empty());
    live(&mut lone, 11);
    assert_eq!(lone.around.disconnected, [8]);

    // What one says who is down himself is long past.
    lone.says(8, introduction("bin:10.0.0.8:5555", &[8]));
    lone.says(2, link(2, true));
    lone.wait(150_000);
    assert_eq!(lone.link(2), LinkState::Down);
    assert_eq!(lone.around.disconnected, [8, 8]);
}

#[test]
fn a_node_that_is_learned_again_gets_a_higher_number_and_not_the_first_one_twice() {
    let config = ClusterConfig {
        learn: learning(&[]).learn,
        ..cluster_with_capability(&[2, 3])
    };
    let mut lone = Lone::up(config);
    let number = |lone: &mut Lone| {
        lone.says(8, introduction("bin:10.0.0.8:5555", &[8]));
        lone.forget();
        let asks = Internal::Capabilities {
            stamp: Some(stamp(0)),
            nodes: Vec::new(),
            require_reply: true,
            path: vec![8],
        };
        lone.says(8, asks);
        let said = lone.said_to(8);
        let numbers = said.iter().filter_map(|said| match said {
            Said::Internal(_, Internal::Capabilities { stamp, .. }) => *stamp,
            _ => None,
        });
        numbers.map(|stamp| stamp.seq).collect::<Vec<_>>()
    };
    assert_eq!(number(&mut lone), [0]);
    lone.wait(120_000);
    assert_eq!(lone.around.disconnected, [8]);
    assert_eq!(number(&mut lone), [1], "it would take 0 for old");
}

#[test]
fn one_address_describes_so_many_nodes_and_no_more() {
    let mut lone = Lone::up(learning(&[2, 3]));
    let entry = |id: i32| TopologyNode {
        id,
        description: Some(description(&format!("bin:10.0.0.{id}:5555"))),
        stamp: stamp(0),
        neighbours: Vec::new(),
    };
    for (seq, ids) in [(0, 10..40), (1, 40..70)] {
        let nodes = ids.map(entry).collect();
        let (stamp, path) = (stamp(seq), vec![2]);
        lone.says(2, Internal::FullTopology { stamp, nodes, path });
    }
    assert_eq!(lone.around.connected.len(), 32);
    assert!(lone.warnings()[0].contains("10.0.0.2 described 32 nodes already"));
    lone.says(3, introduction("bin:10.0.0.90:5555", &[90, 3]));
    lone.says(91, introduction("bin:10.0.0.91:5555", &[91]));
    lone.says_by(
        3,
        92,
        ip(3),
        Body::Internal(introduction("bin:10.0.0.92:5555", &[92, 3])),
    );
    assert_eq!(lone.around.connected.len(), 34);
}
