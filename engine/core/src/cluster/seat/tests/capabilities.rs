use super::*;
use crate::cluster::message::{CAPABILITIES_MAX, NodeCapabilities};
use crate::cluster::seat::notice::View as _;

fn has(id: i32, capabilities: &[(&str, bool)]) -> NodeCapabilities {
    let capabilities = capabilities.iter();
    NodeCapabilities {
        id,
        capabilities: capabilities
            .map(|(name, synced)| (name.as_bytes().to_vec(), *synced))
            .collect(),
    }
}

fn update(stamp: Option<Stamp>, nodes: &[NodeCapabilities], path: &[i32]) -> Internal {
    Internal::Capabilities {
        stamp,
        nodes: nodes.to_vec(),
        require_reply: false,
        path: path.to_vec(),
    }
}

fn question(seq: i32, nodes: &[NodeCapabilities], path: &[i32]) -> Internal {
    Internal::Capabilities {
        stamp: Some(stamp(seq)),
        nodes: nodes.to_vec(),
        require_reply: true,
        path: path.to_vec(),
    }
}

fn known(lone: &Lone, node: i32) -> Vec<(String, bool)> {
    lone.node(node).capabilities
}

fn named(capabilities: &[(&str, bool)]) -> Vec<(String, bool)> {
    let capabilities = capabilities.iter();
    capabilities
        .map(|(name, synced)| ((*name).to_owned(), *synced))
        .collect()
}

#[test]
fn an_update_is_kept_passed_on_and_answered_if_that_is_asked_for() {
    let mut lone = Lone::up(cluster_with_capability(&[2, 3]));
    let nodes = [has(2, &[("dialog", true)]), has(1, &[("dialog", true)])];
    lone.says(2, question(0, &nodes, &[2]));
    assert_eq!(known(&lone, 2), named(&[("dialog", true)]));
    // Who gets it from us is not to answer.
    let passed = update(Some(stamp(0)), &nodes, &[2, 1]);
    assert_eq!(lone.said_to(3), [Said::Internal(2, passed)]);
    let said = lone.said_to(2);
    let [Said::Internal(1, answer)] = &*said else {
        panic!("{said:?}");
    };
    let ours = [has(1, &[("ratelimit-pipe-repl", true)])];
    let Internal::Capabilities {
        nodes,
        require_reply: false,
        ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(nodes[..], ours);
    // One that names some leaves the others as they were.
    lone.says(
        2,
        update(Some(stamp(1)), &[has(2, &[("usrloc", false)])], &[2]),
    );
    assert_eq!(
        known(&lone, 2),
        named(&[("dialog", true), ("usrloc", false)])
    );
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
    assert_eq!(lone.seat.mesh.synced_at(2, "usrloc"), Some(false));
    assert_eq!(lone.seat.mesh.synced_at(2, "presence"), None);
    assert_eq!(lone.seat.mesh.synced_at(9, "dialog"), None);
    // An old one changes nothing and goes nowhere.
    lone.forget();
    lone.says(
        2,
        update(Some(stamp(1)), &[has(2, &[("usrloc", true)])], &[2]),
    );
    assert_eq!(lone.seat.mesh.synced_at(2, "usrloc"), Some(false));
    assert!(lone.around.sent.is_empty());
}

#[test]
fn what_a_node_told_before_we_lost_it_is_shown_and_not_relied_on() {
    let mut lone = Lone::up(cluster_with_capability(&[2, 3]));
    lone.says(
        2,
        update(Some(stamp(0)), &[has(2, &[("dialog", true)])], &[2]),
    );
    let now = lone.now();
    lone.seat.link_failed(now, 2, &mut lone.around);
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), None);
    assert_eq!(known(&lone, 2), named(&[("dialog", true)]));
    // Nor is it told to others.
    lone.forget();
    lone.says(3, question(0, &[], &[3]));
    let said = lone.said_to(3);
    let [Said::Internal(1, Internal::Capabilities { nodes, .. })] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(nodes.len(), 1);
    // It counts again when it says so again, before or after its link comes up.
    lone.says(
        2,
        update(Some(stamp(1)), &[has(2, &[("dialog", true)])], &[2]),
    );
    lone.wait(1_000);
    lone.says(2, pong(&[]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
}

#[test]
fn what_others_say_of_a_node_counts_only_while_we_do_not_hear_it_ourselves() {
    let mut lone = Lone::new(cluster(&[2, 3, 4]));
    lone.says(2, pong(&[]));
    lone.says(3, pong(&[]));
    lone.says(
        2,
        update(Some(stamp(0)), &[has(2, &[("dialog", false)])], &[2]),
    );
    let rumours = [has(2, &[("dialog", true)]), has(4, &[("dialog", true)])];
    lone.says(3, update(Some(stamp(0)), &rumours, &[3]));
    assert_eq!(known(&lone, 2), named(&[("dialog", false)]));
    assert_eq!(
        known(&lone, 4),
        named(&[("dialog", true)]),
        "nobody else told"
    );
    assert_eq!(lone.seat.mesh.synced_at(4, "dialog"), None);
    // Its own word, passed on, is its own word.
    lone.passes(
        3,
        4,
        update(Some(stamp(0)), &[has(4, &[("dialog", false)])], &[4, 3]),
    );
    assert_eq!(lone.seat.mesh.synced_at(4, "dialog"), Some(false));
    lone.says(3, update(Some(stamp(1)), &rumours, &[3]));
    assert_eq!(lone.seat.mesh.synced_at(4, "dialog"), Some(false));
}

#[test]
fn a_node_that_restarted_is_not_taken_for_synced() {
    let mut lone = Lone::up(cluster_with_capability(&[2]));
    let caps = [("dialog", true), ("usrloc", true)];
    lone.says(2, update(Some(stamp(40)), &[has(2, &caps)], &[2]));
    // Its connection is another one, and its first update went to somebody else.
    let began = Stamp {
        seq: 1,
        timestamp: stamp(60).timestamp,
    };
    let message = update(Some(began), &[has(2, &[("dialog", false)])], &[2]);
    lone.says_by(22, 2, ip(2), Body::Internal(message));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(false));
    assert_eq!(lone.seat.mesh.synced_at(2, "usrloc"), None);
}

#[test]
fn a_change_of_ours_is_told_to_all_neighbours_and_nothing_else_is() {
    let mut lone = Lone::up(cluster_with_capability(&[2, 3]));
    let mut own = named(&[("ratelimit-pipe-repl", true), ("dialog", false)]);
    lone.seat
        .mesh
        .tell_capabilities(own.clone(), &mut lone.around);
    own[1].1 = true;
    lone.seat
        .mesh
        .tell_capabilities(own.clone(), &mut lone.around);
    lone.seat.mesh.tell_capabilities(own, &mut lone.around);
    for neighbour in [2, 3] {
        let said = lone.said_to(neighbour);
        let [
            Said::Internal(
                1,
                Internal::Capabilities {
                    stamp: Some(first),
                    nodes: before,
                    ..
                },
            ),
            Said::Internal(
                1,
                Internal::Capabilities {
                    stamp: Some(second),
                    nodes: after,
                    ..
                },
            ),
        ] = &*said
        else {
            panic!("{said:?}");
        };
        assert_eq!(before[..], [has(1, &[("dialog", false)])]);
        assert_eq!(after[..], [has(1, &[("dialog", true)])]);
        assert_eq!(second.seq, first.seq + 1);
    }
}

/// What a neighbour of `release` is sent when it comes up: the command of the CAP_UPDATE, and its ints behind cluster and
/// source.
fn cap_update_to(release: Release) -> (i32, [i32; 3]) {
    let mut config = cluster_with_capability(&[2]);
    config.neighbours[0].release = Some(release);
    let mut lone = Lone::new(config);
    lone.forget();
    lone.says(2, pong(&[]));
    let (_, _, bytes) = lone.around.sent.last().expect("told").clone();
    let packet = Packet::parse(Generation::Modern, &bytes).expect("a packet");
    assert_eq!(packet.name(), b"clusterer-internal");
    let mut fields = packet.fields();
    let mut int = || fields.pop_int().expect("an int");
    assert_eq!((int(), int()), (CLUSTER, 1));
    (packet.command(), [int(), int(), int()])
}

#[test]
fn each_release_gets_the_update_that_it_reads() {
    let now = i32::try_from(UNIX).expect("before 2038");
    // Without stamp: one node, number 1, with one capability.
    assert_eq!(cap_update_to(Release::V2_4), (8, [1, 1, 1]));
    assert_eq!(cap_update_to(Release::V3_0), (8, [1, 1, 1]));
    // With: number 0, seconds, one node.
    assert_eq!(cap_update_to(Release::V3_1), (8, [0, now, 1]));
    for release in [Release::V3_2, Release::V3_6, Release::V4_0] {
        assert_eq!(cap_update_to(release), (9, [0, now, 1]));
    }
}

#[test]
fn what_a_node_speaks_is_found_out_and_shown() {
    let mut lone = Lone::up(cluster_with_capability(&[2, 3]));
    assert_eq!(lone.node(2).release, "3.6 (assumed)");
    let old = (Release::V2_4, Release::V3_1);
    let message = || Body::Internal(update(None, &[has(2, &[("dialog", true)])], &[2]));
    lone.arrives(2, 2, ip(2), Some(old), message());
    assert_eq!(lone.node(2).release, "3.1 (found out)");
    assert_eq!(lone.seat.release(2), Release::V3_1);
    let shown = lone.around.rosters.last().expect("shown");
    assert_eq!(shown.node(2).map(|node| node.release), Some(Release::V3_1));
    // The same again says nothing new.
    lone.forget();
    lone.arrives(2, 2, ip(2), Some(old), message());
    assert!(lone.around.rosters.is_empty());
    // What another one wrote says nothing of it.
    lone.arrives(3, 2, ip(3), Some((Release::V3_2, Release::V4_0)), message());
    assert_eq!(lone.seat.release(2), Release::V3_1);
    // It is written to as it writes: without stamp.
    lone.forget();
    let now = lone.now();
    lone.seat.link_failed(now, 2, &mut lone.around);
    lone.wait(1_000);
    lone.says(2, pong(&[]));
    let said = lone.said_to(2);
    assert!(
        matches!(
            said.last(),
            Some(Said::Internal(
                1,
                Internal::Capabilities { stamp: None, .. }
            ))
        ),
        "{said:?}"
    );
}

#[test]
fn a_release_that_is_configured_stays_and_a_node_that_writes_otherwise_is_told_of() {
    let mut config = cluster(&[2]);
    config.neighbours[0].release = Some(Release::V2_4);
    let mut lone = Lone::up(config);
    assert_eq!(lone.node(2).release, "2.4 (configured)");
    for seq in 0..3 {
        let message = update(Some(stamp(seq)), &[], &[2]);
        let shown = Some((Release::V3_2, Release::V4_0));
        lone.arrives(2, 2, ip(2), shown, Body::Internal(message));
    }
    assert_eq!(lone.seat.release(2), Release::V2_4);
    let [warning] = *lone.warnings() else {
        panic!("{:?}", lone.warnings());
    };
    assert_eq!(
        warning,
        "node 2 is configured as 2.4 but writes as 3.2 to 4.0 do; correct its release here"
    );
}

#[test]
fn an_update_without_stamp_is_passed_on_while_it_says_something_new() {
    let mut config = cluster(&[2, 3, 4]);
    config.release = Release::V3_0;
    config.neighbours[2].release = Some(Release::V3_6);
    let mut lone = Lone::up(config);
    let nodes = [has(2, &[("dialog", true)])];
    lone.says(2, update(None, &nodes, &[2]));
    let passed = update(None, &nodes, &[2, 1]);
    assert_eq!(lone.said_to(3), [Said::Internal(2, passed)]);
    // Only its maker could give it the number that this one reads.
    assert_eq!(lone.said_to(4), []);
    // By all the other ways that it comes, it is no news.
    for path in [&[2, 3][..], &[2, 9, 3], &[2, 8, 3]] {
        lone.passes(3, 2, update(None, &nodes, path));
    }
    assert!(lone.around.sent.is_empty());
    assert_eq!(lone.counts(Kind::Capabilities), (4, 0, 1));
    // One with a stamp loses it toward an older release.
    lone.passes(4, 9, update(Some(stamp(0)), &nodes, &[9, 4]));
    assert_eq!(lone.counts(Kind::Capabilities), (4, 1, 1), "a stranger's");
    lone.says(
        4,
        update(Some(stamp(0)), &[has(4, &[("dialog", true)])], &[4]),
    );
    let passed = update(None, &[has(4, &[("dialog", true)])], &[4, 1]);
    assert_eq!(lone.said_to(3), [Said::Internal(4, passed)]);
}

#[test]
fn an_update_that_lost_its_stamp_on_the_way_is_ignored() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    lone.says(
        2,
        update(Some(stamp(4)), &[has(2, &[("dialog", false)])], &[2]),
    );
    lone.forget();
    lone.passes(3, 2, update(None, &[has(2, &[("dialog", true)])], &[2, 3]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(false));
    assert_eq!(lone.counts(Kind::Capabilities), (1, 1, 1));
    assert!(lone.around.sent.is_empty());
    // From itself it is its word.
    lone.says(2, update(None, &[has(2, &[("dialog", true)])], &[2]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
}

#[test]
fn no_more_capabilities_are_kept_than_anybody_has_and_no_names_that_are_none() {
    let mut lone = Lone::up(cluster(&[2]));
    let bad = NodeCapabilities {
        id: 2,
        capabilities: vec![(vec![0xff, 0xfe], true), (b"dialog".to_vec(), true)],
    };
    lone.says(2, update(Some(stamp(0)), &[bad], &[2]));
    assert_eq!(known(&lone, 2), named(&[("dialog", true)]));
    for seq in 1..200 {
        let name = format!("made-up-{seq}");
        lone.says(
            2,
            update(Some(stamp(seq)), &[has(2, &[(&name, true)])], &[2]),
        );
    }
    assert_eq!(known(&lone, 2).len(), CAPABILITIES_MAX);
}

#[test]
fn capabilities_that_no_packet_holds_are_told_without_the_others() {
    let ids: Vec<i32> = (2..=128).collect();
    let mut lone = Lone::up(cluster_with_capability(&ids));
    let names: Vec<String> = (0..CAPABILITIES_MAX)
        .map(|n| format!("capability-{n}"))
        .collect();
    let caps: Vec<_> = names.iter().map(|name| (name.as_str(), true)).collect();
    for id in &ids {
        lone.says(*id, update(Some(stamp(0)), &[has(*id, &caps)], &[*id]));
    }
    lone.forget();
    lone.says(2, question(1, &[], &[2]));
    let said = lone.said_to(2);
    let [Said::Internal(1, Internal::Capabilities { nodes, .. })] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(nodes[..], [has(1, &[("ratelimit-pipe-repl", true)])]);
    assert_eq!(lone.link(2), LinkState::Up);
}

#[test]
fn a_number_that_another_node_makes_up_does_not_silence_a_node() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    let dialog = |synced| [has(2, &[("dialog", synced)])];
    lone.says(2, update(Some(stamp(0)), &dialog(true), &[2]));
    let made_up = Stamp {
        seq: i32::MAX,
        timestamp: i32::MAX,
    };
    lone.passes(3, 2, update(Some(made_up), &dialog(true), &[2, 3]));
    lone.says(2, update(Some(stamp(1)), &dialog(false), &[2]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(false));
    lone.says(2, update(Some(stamp(2)), &dialog(true), &[2]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
    // What is passed on of it goes on as before, too.
    assert_eq!(lone.counts(Kind::Capabilities).1, 0);
    lone.passes(3, 2, update(Some(stamp(2)), &dialog(true), &[2, 3]));
    assert_eq!(lone.counts(Kind::Capabilities).1, 1);
}

#[test]
fn only_a_node_whose_link_is_up_says_itself_what_it_has() {
    let mut lone = Lone::up(cluster(&[2, 3, 4]));
    let dialog = |synced| [has(2, &[("dialog", synced)])];
    lone.says(2, update(Some(stamp(0)), &dialog(false), &[2]));
    lone.forget();
    // It goes on to the others, who may not be its neighbours.
    let claim = stamp(1);
    lone.passes(3, 2, update(Some(claim), &dialog(true), &[2, 3]));
    let passed = update(Some(claim), &dialog(true), &[2, 3, 1]);
    assert_eq!(lone.said_to(4), [Said::Internal(2, passed)]);
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(false));
    // When it says so as well, that is believed, and is with the others already.
    lone.says(2, update(Some(claim), &dialog(true), &[2]));
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
    assert!(lone.around.sent.is_empty());
    // Nor is it enough before it told anything.
    lone.passes(
        3,
        4,
        update(Some(stamp(0)), &[has(4, &[("dialog", true)])], &[4, 3]),
    );
    assert_eq!(lone.seat.mesh.synced_at(4, "dialog"), None);
}

#[test]
fn what_a_node_said_before_it_restarted_and_others_pass_on_late_is_ignored() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    let dialog = |synced| [has(2, &[("dialog", synced)])];
    let at = |seq, seconds| {
        let timestamp = stamp(seconds).timestamp;
        Some(Stamp { seq, timestamp })
    };
    lone.says(2, update(at(5, 5), &dialog(true), &[2]));
    let began = Body::Internal(update(at(0, 100), &dialog(false), &[2]));
    lone.says_by(77, 2, ip(2), began);
    lone.forget();
    lone.passes(3, 2, update(at(6, 90), &dialog(true), &[2, 3]));
    assert_eq!(known(&lone, 2), named(&[("dialog", false)]));
    assert_eq!(lone.counts(Kind::Capabilities).1, 1, "and goes nowhere");
    // Nor does it count once we have lost the node.
    let now = lone.now();
    lone.seat.link_failed(now, 2, &mut lone.around);
    lone.passes(3, 2, update(at(7, 95), &dialog(true), &[2, 3]));
    assert_eq!(known(&lone, 2), named(&[("dialog", false)]));
    lone.passes(3, 2, update(at(1, 101), &dialog(true), &[2, 3]));
    assert_eq!(known(&lone, 2), named(&[("dialog", true)]));
}

#[test]
fn the_first_update_of_ours_that_a_neighbour_gets_has_number_0_of_our_start() {
    let mut config = cluster_with_capability(&[2, 3, 4]);
    config.neighbours[0].release = Some(Release::V3_0);
    let mut lone = Lone::new(config);
    let numbers = |lone: &mut Lone, node| {
        let said = lone.said_to(node);
        let stamps = said.into_iter().filter_map(|said| match said {
            Said::Internal(1, Internal::FullTopology { stamp, .. }) => Some(Some(stamp)),
            Said::Internal(1, Internal::Capabilities { stamp, .. }) => Some(stamp),
            _ => None,
        });
        let numbers = stamps.map(|stamp| stamp.map(|stamp| (stamp.seq, stamp.timestamp)));
        numbers.collect::<Vec<_>>()
    };
    let start = stamp(0).timestamp;
    let mut own = named(&[("ratelimit-pipe-repl", true)]);
    for (node, capability_stamp) in [(2, None), (3, Some((0, start))), (4, Some((0, start)))] {
        lone.wait(100);
        lone.unix += 60;
        lone.says(node, pong(&[]));
        assert_eq!(
            numbers(&mut lone, node),
            [Some((0, start)), capability_stamp]
        );
    }
    // The later ones are one number for all, and none is spent on who reads none.
    own[0].1 = false;
    lone.seat.tick(lone.now(), &mut lone.around);
    lone.seat.mesh.tell_capabilities(own, &mut lone.around);
    let later = i32::try_from(lone.unix).expect("before 2038");
    assert_eq!(numbers(&mut lone, 2), [None]);
    assert_eq!(numbers(&mut lone, 3), [Some((1, later))]);
    assert_eq!(numbers(&mut lone, 4), [Some((1, later))]);
}

#[test]
fn names_that_others_make_up_leave_room_for_what_a_node_says_itself() {
    let mut lone = Lone::new(cluster(&[2, 3]));
    lone.says(3, pong(&[]));
    for seq in 0..200 {
        let name = format!("made-up-{seq}");
        lone.says(
            3,
            update(Some(stamp(seq)), &[has(2, &[(&name, true)])], &[3]),
        );
    }
    assert_eq!(known(&lone, 2).len(), CAPABILITIES_MAX);
    lone.says(2, pong(&[]));
    lone.says(
        2,
        update(Some(stamp(0)), &[has(2, &[("dialog", true)])], &[2]),
    );
    assert_eq!(lone.seat.mesh.synced_at(2, "dialog"), Some(true));
    assert_eq!(known(&lone, 2).len(), CAPABILITIES_MAX);
    // 64 bytes are a name.
    let (long, longer) = ("x".repeat(64), "y".repeat(65));
    let caps = [(&*long, true), (&*longer, true)];
    lone.says(2, update(Some(stamp(1)), &[has(2, &caps)], &[2]));
    assert_eq!(lone.seat.mesh.synced_at(2, &long), Some(true));
    assert_eq!(lone.seat.mesh.synced_at(2, &longer), None);
}

#[test]
fn what_a_full_link_could_not_be_told_is_told_when_it_has_room() {
    let mut lone = Lone::up(cluster_with_capability(&[2, 3]));
    lone.around.full.insert(2);
    let own = vec![("ratelimit-pipe-repl".to_owned(), false)];
    let Lone { seat, around, .. } = &mut lone;
    seat.mesh.tell_capabilities(own, around);
    assert_eq!(lone.kinds_to(3), [Kind::Capabilities]);
    lone.wait(1_000);
    assert_eq!(lone.said_to(2), []);
    lone.around.full.clear();
    lone.wait(1_000);
    let said = lone.said_to(2);
    let [Said::Internal(1, Internal::Capabilities { nodes, .. })] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(nodes[..], [has(1, &[("ratelimit-pipe-repl", false)])]);
    lone.wait(1_000);
    assert!(!lone.kinds_to(2).contains(&Kind::Capabilities), "once");
}

#[test]
fn a_greeting_that_found_no_room_has_number_0_and_asks_when_it_goes_out() {
    let mut lone = Lone::new(cluster_with_capability(&[2]));
    lone.around.full.insert(2);
    lone.says(2, pong(&[]));
    lone.forget();
    lone.around.full.clear();
    lone.wait(1_000);
    let said = lone.said_to(2);
    let [
        Said::Internal(
            1,
            Internal::Capabilities {
                stamp: Some(stamp),
                require_reply: true,
                ..
            },
        ),
    ] = &*said
    else {
        panic!("{said:?}");
    };
    assert_eq!(stamp.seq, 0);
}
