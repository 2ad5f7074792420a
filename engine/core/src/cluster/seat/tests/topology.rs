use super::*;
use crate::cluster::config::NODES_MAX;
use crate::cluster::message::{PATH_MAX, TopologyNode};
use crate::cluster::seat::notice::{Notice, View as _};

fn link_update(seq: i32, neighbour: i32, up: bool, path: &[i32]) -> Internal {
    Internal::LinkUpdate {
        stamp: stamp(seq),
        neighbour,
        up,
        path: path.to_vec(),
    }
}

fn entry(id: i32, seq: i32, neighbours: &[i32]) -> TopologyNode {
    TopologyNode {
        id,
        description: None,
        stamp: stamp(seq),
        neighbours: neighbours.to_vec(),
    }
}

fn topology(seq: i32, nodes: &[TopologyNode], path: &[i32]) -> Internal {
    Internal::FullTopology {
        stamp: stamp(seq),
        nodes: nodes.to_vec(),
        path: path.to_vec(),
    }
}

/// Neighbours 2 to 5, of whom only those in `up` answer.
fn partly_up(up: &[i32]) -> Lone {
    let mut lone = Lone::new(cluster(&[2, 3, 4, 5]));
    for node in up {
        lone.says(*node, pong(&[]));
    }
    lone.forget();
    lone
}

#[test]
fn a_link_update_is_kept_and_passed_on_to_those_that_it_did_not_come_by() {
    let mut lone = partly_up(&[2, 3, 4]);
    lone.passes(3, 2, link_update(0, 5, true, &[2, 3]));
    assert_eq!(lone.node(2).neighbours, [5]);
    let passed = link_update(0, 5, true, &[2, 3, 1]);
    assert_eq!(lone.said_to(4), [Said::Internal(2, passed)]);
    assert!(lone.around.sent.is_empty(), "neither to its maker nor back");
    // Once.
    lone.passes(4, 2, link_update(0, 5, true, &[2, 4]));
    assert!(lone.around.sent.is_empty());
    assert_eq!(lone.counts(Kind::LinkUpdate), (1, 1, 1));
    lone.says(2, link_update(1, 5, false, &[2]));
    assert_eq!(lone.node(2).neighbours, [] as [i32; 0]);
}

#[test]
fn a_message_that_came_far_is_taken_and_goes_no_further() {
    let mut lone = partly_up(&[2, 3]);
    let path: Vec<i32> = (100..).take(PATH_MAX - 1).collect();
    lone.passes(3, 2, link_update(0, 5, true, &path));
    assert_eq!(lone.kinds_to(2), [], "it made that");
    let mut path: Vec<i32> = (100..).take(PATH_MAX - 2).collect();
    path.push(3);
    lone.passes(3, 4, link_update(0, 5, true, &path));
    assert_eq!(lone.kinds_to(2), [Kind::LinkUpdate]);
    path.push(101);
    lone.passes(3, 4, link_update(1, 5, false, &path));
    assert_eq!(lone.kinds_to(2), []);
    assert_eq!(
        lone.node(4).neighbours,
        [] as [i32; 0],
        "taken all the same"
    );
}

#[test]
fn an_update_about_a_node_that_nobody_knows_is_ignored() {
    let mut lone = partly_up(&[2, 3]);
    lone.says(2, link_update(0, 99, true, &[2]));
    assert_eq!(lone.counts(Kind::LinkUpdate), (0, 1, 0));
    assert!(lone.around.sent.is_empty());
}

#[test]
fn when_the_two_ends_of_a_link_disagree_it_is_asked_again() {
    let mut lone = partly_up(&[2]);
    // Ours is up: it says that its own is not.
    lone.says(2, link_update(0, 1, false, &[2]));
    assert_eq!(lone.link(2), LinkState::RestartPinging);
    assert_eq!(lone.moves(), [(2, false)]);
    // Ours is down: it says that its own is up.
    lone.wait(6_000);
    assert_eq!(lone.link(3), LinkState::Down);
    lone.says(3, link_update(0, 1, true, &[3]));
    assert_eq!(lone.link(3), LinkState::RestartPinging);
    // So does a topology that lists us.
    assert_eq!(lone.link(4), LinkState::Down);
    lone.says(4, topology(0, &[entry(4, 0, &[1])], &[4]));
    assert_eq!(lone.link(4), LinkState::RestartPinging);
    assert_eq!(lone.node(4).neighbours, [1]);
    // While it is asked anyway, nothing changes.
    let before = lone.link(5);
    lone.says(5, link_update(0, 1, false, &[5]));
    assert_eq!(lone.link(5), before);
}

#[test]
fn a_topology_replaces_what_was_known_of_each_node_in_it() {
    let mut lone = partly_up(&[2, 3]);
    lone.says(2, link_update(0, 4, true, &[2]));
    lone.passes(2, 5, link_update(3, 4, true, &[5, 2]));
    lone.forget();
    let nodes = [
        entry(2, 1, &[3, 1]),
        // Older than what we have, newer, and about nobody.
        entry(5, 2, &[]),
        entry(4, 0, &[5, 99]),
        entry(98, 0, &[2]),
        // What it says of us we know better.
        entry(1, 7, &[2, 3, 4, 5]),
    ];
    lone.says(2, topology(0, &nodes, &[2]));
    assert_eq!(lone.node(2).neighbours, [3, 1]);
    assert_eq!(lone.node(5).neighbours, [4]);
    assert_eq!(lone.node(4).neighbours, [5]);
    assert_eq!(lone.node(1).neighbours, [2, 3], "our links that are up");
    // As it came, to node 3 only.
    let passed = Said::Internal(2, topology(0, &nodes, &[2, 1]));
    assert_eq!(lone.said_to(3), [passed]);
    assert_eq!(lone.kinds_to(2), []);
    // An older one is not looked at.
    lone.says(2, topology(0, &[entry(2, 9, &[])], &[2]));
    assert_eq!(lone.node(2).neighbours, [3, 1]);
    // Two greetings, and what was passed on.
    assert_eq!(lone.counts(Kind::FullTopology), (1, 1, 3));
}

#[test]
fn what_a_node_leaves_out_of_its_neighbours_links_stays() {
    // Genuine nodes do not keep what their neighbours say of the link to them.
    let mut lone = partly_up(&[2, 3]);
    lone.passes(2, 4, link_update(0, 2, true, &[4, 2]));
    lone.passes(2, 4, link_update(1, 5, true, &[4, 2]));
    lone.passes(2, 4, link_update(2, 1, true, &[4, 2]));
    lone.says(
        2,
        topology(0, &[entry(2, 0, &[4]), entry(4, 3, &[3])], &[2]),
    );
    assert_eq!(lone.node(4).neighbours, [2, 3, 1]);
}

#[test]
fn our_topology_tells_what_we_know_of_others_but_nothing_that_leads_through_us() {
    let mut lone = partly_up(&[2]);
    lone.says(2, topology(0, &[entry(2, 4, &[1, 3, 4])], &[2]));
    lone.says(3, pong(&[2, 4, 5]));
    let said = lone.said_to(3);
    let Some(Said::Internal(1, Internal::FullTopology { nodes, .. })) = said.first() else {
        panic!("{said:?}");
    };
    assert_eq!(nodes[0].neighbours, [] as [i32; 0]);
    assert_eq!((nodes[1].id, nodes[1].stamp), (2, stamp(4)));
    assert_eq!(nodes[1].neighbours, [3, 4], "its link to us is left out");
    let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
    assert_eq!(ids, [1, 2, 4, 5], "the receiver is left out");
}

#[test]
fn we_announce_no_link_of_ours() {
    let mut lone = partly_up(&[2]);
    lone.says(3, pong(&[]));
    lone.says(4, pong(&[]));
    let now = lone.now();
    lone.seat.link_failed(now, 3, &mut lone.around);
    lone.wait(1_000_000);
    assert_eq!(lone.counts(Kind::LinkUpdate), (0, 0, 0));
}

#[test]
fn a_node_is_reached_directly_or_by_the_shortest_way_of_lowest_priority_and_id() {
    let mut config = cluster(&[2, 3, 4, 5, 6, 7]);
    config.neighbours[0].priority = 60;
    let mut lone = Lone::new(config);
    for node in [2, 3, 4] {
        lone.says(node, pong(&[]));
    }
    assert_eq!((lone.seat.route(2), lone.seat.route(5)), (Some(2), None));
    // 5 by 2, by 3 and by 4; 6 behind 5; 7 nowhere.
    for node in [2, 4, 3] {
        lone.says(node, link_update(0, 5, true, &[node]));
    }
    lone.passes(3, 5, link_update(0, 6, true, &[5, 3]));
    assert_eq!(lone.seat.route(5), Some(3), "2 is worse, 4 is higher");
    assert_eq!(lone.seat.route(6), Some(3));
    assert_eq!((lone.seat.route(7), lone.seat.route(99)), (None, None));
    assert_eq!(lone.seat.reachable(), [2, 3, 4, 5, 6]);
    assert_eq!(lone.node(6).next_hop, Some(3));
    // The way goes with the link that it begins with.
    let now = lone.now();
    lone.seat.link_failed(now, 3, &mut lone.around);
    assert_eq!(lone.seat.route(5), Some(4));
    // And a node that we reach directly is reached directly.
    lone.says(5, pong(&[]));
    assert_eq!(lone.seat.route(5), Some(5));
    // Nobody has a link to itself, and a circle ends.
    lone.passes(2, 6, link_update(0, 6, true, &[6, 2]));
    lone.passes(2, 6, link_update(1, 5, true, &[6, 2]));
    assert_eq!(lone.seat.route(6), Some(5));
    assert_eq!(lone.node(6).neighbours, [5]);
}

#[test]
fn a_node_that_greets_us_sent_us_nothing_until_then() {
    let (mut around, at) = (Around::default(), ms(50_000));
    let now = Now { at, unix: UNIX };
    let mut mesh = Mesh::new(cluster(&[2, 3]), Vec::new(), now);
    mesh.tick(now, &mut around);
    let mut say = |at, from, message| {
        let now = Now { at, unix: UNIX };
        let incoming = Incoming {
            at,
            ip: ip(from),
            connection: 5,
            cluster: CLUSTER,
            source: from,
            shown: None,
            body: Body::Internal(message),
        };
        mesh.receive(now, incoming, &mut around);
        mesh.take_notices()
    };
    // The greeting before our own link is up: nothing to tell, until it is.
    assert_eq!(say(at, 2, topology(0, &[], &[2])), []);
    assert_eq!(say(at, 2, pong(&[])), [Notice::NodeUp(2)]);
    // Behind it: until now it sent us nothing.
    assert_eq!(say(at, 3, pong(&[])), [Notice::NodeUp(3)]);
    assert_eq!(say(at, 3, topology(0, &[], &[3])), [Notice::NodeUp(3)]);
    // One more: its link to us was down, ours to it was not.
    let at = at.after(2_000 * MS);
    assert_eq!(say(at, 2, topology(1, &[], &[2])), [Notice::NodeUp(2)]);
    assert_eq!(say(at, 3, topology(1, &[], &[3])), [Notice::NodeUp(3)]);
    // Another node's copy, or an old one, is none.
    assert_eq!(say(at, 2, topology(1, &[], &[2])), []);
    assert_eq!(say(at, 3, topology(2, &[], &[3, 2])), []);
}

#[test]
fn a_node_that_restarts_is_said_to_once_whatever_shows_it() {
    let (mut around, at) = (Around::default(), ms(50_000));
    let now = Now { at, unix: UNIX };
    let mut mesh = Mesh::new(cluster(&[2]), Vec::new(), now);
    let mut say = |message| {
        let incoming = Incoming {
            at,
            ip: ip(2),
            connection: 5,
            cluster: CLUSTER,
            source: 2,
            shown: None,
            body: Body::Internal(message),
        };
        mesh.receive(now, incoming, &mut around);
        let notices = mesh.take_notices();
        notices.contains(&Notice::Restarted(2))
    };
    let begins = |seconds: i32| Stamp {
        seq: 0,
        timestamp: stamp(seconds).timestamp,
    };
    let topology = |stamp| Internal::FullTopology {
        stamp,
        nodes: Vec::new(),
        path: vec![2],
    };
    let capabilities = |stamp| Internal::Capabilities {
        stamp: Some(stamp),
        nodes: Vec::new(),
        require_reply: false,
        path: vec![2],
    };
    for message in [topology(stamp(3)), capabilities(stamp(4))] {
        assert!(!say(message), "the first that we hear of it");
    }
    for life in [100, 200, 300] {
        assert!(say(topology(begins(life))));
        assert!(!say(capabilities(begins(life))), "the same restart");
        assert!(!say(topology(stamp(life + 5))));
        assert!(!say(capabilities(stamp(life + 5))));
    }
}

#[test]
fn the_mesh_has_settled_when_nothing_more_is_to_be_expected() {
    let mut lone = Lone::new(cluster_with_capability(&[2, 3]));
    assert!(!lone.seat.mesh.is_settled());
    lone.wait(5_000);
    assert!(lone.seat.mesh.is_settled(), "both are down");
    lone.says(2, ping(true));
    lone.says(2, pong(&[]));
    assert!(!lone.seat.mesh.is_settled(), "it may tell what it has");
    // Who has nothing never says so.
    lone.wait(3_999);
    lone.says(2, ping(false));
    assert!(!lone.seat.mesh.is_settled());
    lone.wait(1);
    assert!(lone.seat.mesh.is_settled());
    lone.says(2, pong(&[]));
    lone.says(3, ping(true));
    lone.says(3, pong(&[]));
    lone.says(
        3,
        Internal::Capabilities {
            stamp: Some(stamp(0)),
            nodes: Vec::new(),
            require_reply: false,
            path: vec![3],
        },
    );
    assert!(lone.seat.mesh.is_settled(), "it told");
}

#[test]
fn a_topology_that_no_packet_holds_is_told_without_the_others() {
    let ids: Vec<i32> = (2..=128).collect();
    let mut lone = Lone::new(cluster(&ids));
    for id in &ids {
        let others: Vec<i32> = ids.iter().copied().filter(|other| other != id).collect();
        lone.says(*id, topology(0, &[entry(*id, 0, &others)], &[*id]));
    }
    lone.forget();
    lone.says(2, pong(&[]));
    let said = lone.said_to(2);
    let Some(Said::Internal(1, Internal::FullTopology { nodes, .. })) = said.first() else {
        panic!("{said:?}");
    };
    assert_eq!(nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1]);
    lone.says(3, pong(&[]));
    let [warning] = *lone.warnings() else {
        panic!("{:?}", lone.warnings());
    };
    assert!(
        warning.contains("more links than a packet holds"),
        "{warning}"
    );
    assert_eq!(lone.link(2), LinkState::Up);
}

#[test]
fn an_update_that_is_too_long_with_us_on_its_way_is_told_of_once_and_not_passed_on() {
    let mut config = cluster(&[2, 3, 4]);
    config.neighbours[1].release = Some(Release::V3_2);
    let mut lone = Lone::up(config);
    // Nodes that nobody knows, so that it holds as much as a packet does.
    let whole = |seq, links: usize| {
        let some = |place: usize| links.saturating_sub(place * NODES_MAX).min(NODES_MAX);
        let nodes = (1_000..).zip(0..NODES_MAX);
        let nodes = nodes.map(|(id, place)| entry(id, 0, &vec![2; some(place)]));
        topology(seq, &nodes.collect::<Vec<_>>(), &[2])
    };
    let mut writer = Writer::default();
    let mut fits = |last| {
        writer
            .internal(Release::V3_6, CLUSTER, 2, &whole(0, last))
            .is_ok()
    };
    let longest = (0..NODES_MAX * NODES_MAX)
        .rev()
        .find(|last| fits(*last))
        .expect("one");
    for seq in 0..3 {
        lone.says(2, whole(seq, longest));
    }
    assert!(lone.around.sent.is_empty());
    let [warning] = *lone.warnings() else {
        panic!("{:?}", lone.warnings());
    };
    assert!(
        warning.contains("update of node 2 is not passed on"),
        "{warning}"
    );
    assert_eq!(lone.moves(), []);
    // One that is a hop shorter reaches all, each in the form of its release.
    lone.says(2, whole(3, longest - 1));
    assert_eq!(lone.kinds_to(3), [Kind::FullTopology]);
    assert_eq!(lone.kinds_to(4), [Kind::FullTopology]);
}

/// What the copies are told when our connection to node 2 breaks and is back after `away_ms`; between the two, it does this.
fn notices_of_a_break(
    away_ms: u64,
    meanwhile: impl FnOnce(&mut Mesh, Now, &mut Around),
) -> Vec<Notice> {
    let (mut notices, later) = notices_of_a_break_and_later(away_ms, meanwhile, |_| ());
    assert_eq!(later.is_empty(), !notices.is_empty(), "once, now or then");
    notices.truncate(1);
    notices
}

/// The same, and what they are told when, after that and this, node 2 sends by another connection than before.
fn notices_of_a_break_and_later(
    away_ms: u64,
    meanwhile: impl FnOnce(&mut Mesh, Now, &mut Around),
    afterwards: impl FnOnce(&mut Mesh),
) -> (Vec<Notice>, Vec<Notice>) {
    let mut around = Around::default();
    let now = Now {
        at: ms(50_000),
        unix: UNIX,
    };
    let mut mesh = Mesh::new(cluster(&[2]), Vec::new(), now);
    mesh.tick(now, &mut around);
    for message in [pong(&[]), topology(0, &[], &[2]), has_nothing(0)] {
        mesh.receive(now, from_2(now, 5, message), &mut around);
    }
    let now = Now {
        at: now.at.after(2_000 * MS),
        unix: UNIX,
    };
    mesh.take_notices();
    mesh.link_failed(now, 2, &mut around);
    assert_eq!(mesh.take_notices(), [Notice::NodeDown(2)]);
    mesh.tick(now, &mut around);
    meanwhile(&mut mesh, now, &mut around);
    let at = now.at.after(away_ms * MS);
    let now = Now { at, unix: UNIX };
    mesh.tick(now, &mut around);
    mesh.receive(now, from_2(now, 0, pong(&[])), &mut around);
    assert!(mesh.is_up(2));
    let notices = mesh.take_notices();
    afterwards(&mut mesh);
    // What it sends by another connection shows that the one before is gone.
    mesh.receive(now, from_2(now, 5, ping(false)), &mut around);
    mesh.receive(now, from_2(now, 6, ping(false)), &mut around);
    mesh.receive(now, from_2(now, 7, ping(false)), &mut around);
    (notices, mesh.take_notices())
}

#[test]
fn what_a_break_may_have_taken_is_no_news_behind_a_sync_that_was_asked_for_later() {
    // It broke at 52 s.
    for (since_ms, is_news) in [(52_000, true), (52_001, false)] {
        let made_whole = |mesh: &mut Mesh| mesh.made_whole(ms(since_ms));
        let (notices, later) = notices_of_a_break_and_later(500, |_, _, _| (), made_whole);
        assert_eq!(notices, []);
        assert_eq!(!later.is_empty(), is_news, "{since_ms}");
    }
}

fn from_2(now: Now, connection: u64, message: Internal) -> Incoming {
    Incoming {
        at: now.at,
        ip: ip(2),
        connection,
        cluster: CLUSTER,
        source: 2,
        shown: None,
        body: Body::Internal(message),
    }
}

fn has_nothing(seq: i32) -> Internal {
    Internal::Capabilities {
        stamp: Some(stamp(seq)),
        nodes: Vec::new(),
        require_reply: false,
        path: vec![2],
    }
}

#[test]
fn a_node_that_only_we_could_not_reach_for_a_moment_did_not_return() {
    let returned = [Notice::NodeUp(2)];
    assert_eq!(notices_of_a_break(500, |_, _, _| {}), []);
    assert_eq!(notices_of_a_break(1_000, |_, _, _| {}), returned);
    let greeted = notices_of_a_break(500, |mesh, now, around| {
        mesh.receive(now, from_2(now, 5, topology(1, &[], &[2])), around);
    });
    assert_eq!(greeted, returned);
    let connected = notices_of_a_break(500, |mesh, now, around| {
        mesh.receive(now, from_2(now, 6, ping(false)), around);
    });
    assert_eq!(connected, returned);
}
