use super::*;

#[test]
fn a_seat_begins_with_a_ping_to_each_neighbour_and_shows_who_they_are() {
    let mut lone = Lone::new(cluster(&[2, 3]));
    for neighbour in [2, 3] {
        let ping = Said::Internal(1, ping(true));
        assert_eq!(lone.said_to(neighbour), [ping]);
        assert_eq!(lone.link(neighbour), LinkState::Restarted);
    }
    let [roster] = &*lone.around.rosters else {
        panic!("{:?}", lone.around.rosters);
    };
    assert_eq!((roster.id, roster.me), (CLUSTER, 1));
    let nodes = roster.nodes.iter();
    let nodes: Vec<_> = nodes.map(|node| (node.id, node.ip, node.enabled)).collect();
    assert_eq!(nodes, [(2, ip(2), true), (3, ip(3), true)]);
    let slots: BTreeSet<u8> = roster.nodes.iter().map(|node| node.slot).collect();
    assert_eq!(slots.len(), 2);
}

#[test]
fn a_ping_is_answered_at_once_with_the_nodes_that_the_asker_may_not_know() {
    let mut lone = Lone::new(cluster(&[2, 3, 4]));
    lone.forget();
    lone.says(3, ping(true));
    lone.says(3, ping(false));
    let answers = [pong(&[2, 4]), pong(&[])].map(|pong| Said::Internal(1, pong));
    assert_eq!(lone.said_to(3), answers);
    assert_eq!(lone.counts(Kind::Ping), (2, 0, 3));
    assert_eq!(lone.counts(Kind::Pong), (0, 0, 2));
}

#[test]
fn who_comes_up_is_told_the_topology_and_then_the_capabilities_with_the_request_for_his() {
    let mut lone = Lone::new(cluster_with_capability(&[2, 3]));
    lone.forget();
    lone.says(2, pong(&[]));
    let said = lone.said_to(2);
    let [Said::Internal(1, topology), Said::Internal(1, capabilities)] = &*said else {
        panic!("{said:?}");
    };
    let Internal::FullTopology { stamp, nodes, path } = topology else {
        panic!("{topology:?}");
    };
    assert_eq!((stamp.seq, i64::from(stamp.timestamp)), (0, UNIX));
    assert_eq!(path, &[1]);
    // Ourselves first, with no links that anybody could route by; then node 3, whom it did not list.
    assert_eq!((nodes[0].id, &nodes[0].description), (1, &None));
    assert_eq!((nodes[0].stamp.seq, &*nodes[0].neighbours), (-1, &[][..]));
    assert_eq!((nodes.len(), nodes[1].id), (2, 3));
    let description = nodes[1].description.as_ref().expect("described");
    assert_eq!(description.url, b"bin:10.0.0.3:5555");
    let Internal::Capabilities {
        stamp: Some(stamp),
        nodes,
        require_reply: true,
        path,
    } = capabilities
    else {
        panic!("{capabilities:?}");
    };
    assert_eq!((stamp.seq, &path[..]), (0, &[1][..]));
    let ours = (b"ratelimit-pipe-repl".to_vec(), true);
    assert_eq!((nodes[0].id, &nodes[0].capabilities[..]), (1, &[ours][..]));
    assert_eq!(lone.moves(), [(2, true)]);
    assert_eq!(lone.seat.up_nodes(), [2]);
}

#[test]
fn who_listed_a_node_is_not_told_who_that_is_and_without_capabilities_none_are_told() {
    let mut lone = Lone::new(cluster(&[2, 3]));
    lone.forget();
    lone.says(2, pong(&[3, 77]));
    let said = lone.said_to(2);
    let [Said::Internal(1, Internal::FullTopology { nodes, .. })] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(nodes[1].description, None);
}

#[test]
fn a_ping_of_a_node_that_is_down_is_answered_and_it_is_pinged_at_once() {
    let mut lone = Lone::new(cluster(&[2]));
    lone.wait(5_000);
    assert_eq!(lone.link(2), LinkState::Down);
    lone.forget();
    lone.says(2, ping(true));
    let said = [pong(&[]), ping(true)].map(|message| Said::Internal(1, message));
    assert_eq!(lone.said_to(2), said);
    assert_eq!(lone.link(2), LinkState::Restarted);
    lone.says(2, pong(&[]));
    assert_eq!(lone.moves(), [(2, true)]);
}

#[test]
fn a_pong_that_cannot_be_sent_takes_the_link_down_and_an_unreachable_node_is_not_called_up() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.around.unreachable.insert(2);
    lone.says(2, ping(false));
    assert_eq!(lone.link(2), LinkState::RestartPinging);
    assert_eq!(lone.moves(), [(2, false)]);
    assert_eq!(
        lone.counts(Kind::Pong).2,
        0,
        "only what was sent is counted"
    );
    lone.wait(20_000);
    assert_eq!(lone.link(2), LinkState::Down);
    lone.says(2, ping(true));
    assert_eq!(lone.link(2), LinkState::RestartPinging);
}

#[test]
fn a_full_link_loses_the_packet_and_nothing_else() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.around.full.insert(2);
    lone.says(2, ping(false));
    assert_eq!((lone.link(2), lone.moves()), (LinkState::Up, vec![]));
    assert_eq!(lone.counts(Kind::Pong).2, 0);
}

#[test]
fn silence_takes_a_link_down_and_a_ping_every_node_timeout_brings_it_back() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.wait(4_999);
    assert_eq!(lone.link(2), LinkState::Up);
    lone.wait(1);
    assert_eq!(lone.link(2), LinkState::Retrying);
    assert_eq!(lone.moves(), [(2, false)], "left at the first doubt");
    lone.wait(3_000);
    assert_eq!(lone.link(2), LinkState::Down);
    lone.forget();
    lone.wait(59_000);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
    lone.says(2, pong(&[]));
    assert_eq!(lone.link(2), LinkState::Up);
    let facts = lone.node(2);
    assert_eq!((facts.ups, facts.downs), (2, 1));
}

#[test]
fn a_heartbeat_that_is_answered_keeps_the_link_up_and_its_time_is_told() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.wait(30);
    for _ in 0..10 {
        lone.wait(3_970);
        assert_eq!(lone.said_to(2), [Said::Internal(1, ping(false))]);
        lone.wait(30);
        lone.says(2, pong(&[]));
    }
    assert_eq!((lone.link(2), lone.moves()), (LinkState::Up, vec![]));
    let facts = lone.node(2);
    assert_eq!((facts.pong_ms, facts.heard_ms), (Some(30), Some(0)));
}

#[test]
fn what_shards_hear_of_a_node_excuses_its_missing_pong() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    let roster = lone.seat.mesh.roster(Vec::new());
    let slot = roster.node(2).expect("known").slot;
    for _ in 0..40 {
        lone.wait(500);
        roster.heard.hear(slot, lone.at);
    }
    assert_eq!(lone.link(2), LinkState::Up);
    assert_eq!(lone.link(3), LinkState::Down);
}

#[test]
fn a_node_that_is_down_and_whose_packets_shards_hear_is_asked_again() {
    let mut lone = Lone::new(cluster(&[2]));
    lone.wait(6_000);
    assert_eq!(lone.link(2), LinkState::Down);
    lone.forget();
    let roster = lone.seat.mesh.roster(Vec::new());
    lone.wait(1);
    roster.heard.hear(roster.nodes[0].slot, lone.at);
    lone.wait(1_000);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
}

#[test]
fn a_message_to_us_from_a_node_that_is_down_restarts_its_link_and_is_taken() {
    let mut lone = Lone::new(cluster(&[2]));
    lone.wait(6_000);
    let tag = b"vip".to_vec();
    lone.writes(2, Extra::TagActive { tag });
    assert_eq!(lone.link(2), LinkState::RestartPinging);
    assert_eq!(lone.counts(Kind::TagActive), (1, 0, 0));
    lone.forget();
    lone.wait(1);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
}

#[test]
fn a_broken_connection_is_told_as_a_node_that_went() {
    let mut lone = Lone::up(cluster(&[2]));
    let now = lone.now();
    lone.seat.link_failed(now, 2, &mut lone.around);
    lone.seat.link_failed(now, 99, &mut lone.around);
    assert_eq!(lone.moves(), [(2, false)]);
    assert_eq!(lone.seat.route(2), None);
    lone.wait(1_000);
    lone.says(2, pong(&[]));
    assert_eq!(lone.moves(), [(2, false), (2, true)]);
}

#[test]
fn who_does_not_know_us_is_told_who_we_are_and_pinged_again() {
    let mut lone = Lone::new(cluster(&[2]));
    lone.forget();
    lone.says(2, Internal::UnknownId);
    let said = lone.said_to(2);
    let [Said::Internal(1, Internal::Description { description, path })] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(description.url, b"bin:10.0.0.1:5555");
    assert_eq!((description.priority, description.retries), (50, 3));
    assert_eq!(path, &[1]);
    assert_eq!(lone.link(2), LinkState::RestartPinging);
    // Who never understands is told once a second, not in a circle.
    lone.wait(999);
    assert_eq!(lone.said_to(2), []);
    lone.wait(1);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
}

#[test]
fn strangers_and_messages_in_our_own_name_are_ignored_with_one_warning() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.says(9, ping(true));
    lone.says(9, pong(&[]));
    assert_eq!(lone.warnings(), [""; 0]);
    for _ in 0..3 {
        lone.says_by(1, 1, ip(44), Body::Internal(ping(true)));
    }
    let [warning] = *lone.warnings() else {
        panic!("{:?}", lone.warnings());
    };
    assert!(warning.contains("10.0.0.44 uses our id 1"), "{warning}");
    assert_eq!(lone.counts(Kind::Ping), (0, 4, 1));
    assert!(lone.around.sent.is_empty());
}

#[test]
fn a_second_node_of_the_same_id_is_refused_with_one_warning() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    for _ in 0..3 {
        lone.says_by(7, 2, ip(44), Body::Internal(ping(true)));
        lone.says_by(7, 2, ip(44), Body::Internal(pong(&[])));
        lone.says_by(7, 2, ip(44), Body::Internal(Internal::UnknownId));
    }
    let [warning] = *lone.warnings() else {
        panic!("{:?}", lone.warnings());
    };
    assert!(warning.contains("10.0.0.44 uses id 2"), "{warning}");
    assert_eq!((lone.link(2), lone.moves()), (LinkState::Up, vec![]));
    assert!(lone.around.sent.is_empty());
    // What another node passes on of it is no second node.
    lone.passes(3, 2, link_update(0, 3, true, &[2, 3]));
    assert_eq!(lone.counts(Kind::LinkUpdate), (1, 0, 0));
}

#[test]
fn an_address_written_as_ipv6_is_the_same_address() {
    let mut lone = Lone::up(cluster(&[2]));
    let IpAddr::V4(v4) = ip(2) else {
        unreachable!("as made above")
    };
    let mapped = v4.to_ipv6_mapped().into();
    lone.says_by(2, 2, mapped, Body::Internal(ping(false)));
    assert_eq!(lone.said_to(2), [Said::Internal(1, pong(&[]))]);
}

#[test]
fn a_clock_that_is_set_back_makes_no_update_older_and_moves_no_timer() {
    let mut lone = Lone::new(cluster(&[2]));
    lone.forget();
    let mut last = (-1, 0);
    for step in [0, 3_600, -31_536_000, 31_536_000, -31_536_000] {
        lone.unix = UNIX + step;
        lone.says(2, pong(&[]));
        assert_eq!(lone.link(2), LinkState::Up);
        let said = lone.said_to(2);
        let Some(Said::Internal(1, Internal::FullTopology { stamp, .. })) = said.first() else {
            panic!("{said:?}");
        };
        assert_eq!(stamp.seq, last.0 + 1);
        assert!(stamp.timestamp >= last.1, "{stamp:?} after {last:?}");
        last = (stamp.seq, stamp.timestamp);
        let now = lone.now();
        lone.seat.link_failed(now, 2, &mut lone.around);
        lone.wait(1_000);
        assert_eq!(lone.said_to(2), [Said::Internal(1, ping(true))]);
    }
}

#[test]
fn a_thread_that_was_stopped_for_a_while_hears_first_and_doubts_then() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.wait(4_000);
    // Stopped for 30 s just after a PING; the PONG came in time and waited.
    let came = lone.at.after(2 * MS);
    lone.at = lone.at.after(30_000 * MS);
    let incoming = Incoming {
        at: came,
        ip: ip(2),
        connection: 2,
        cluster: CLUSTER,
        source: 2,
        shown: None,
        body: Body::Internal(pong(&[])),
    };
    let now = lone.now();
    lone.seat.receive(now, incoming, &mut lone.around);
    lone.forget();
    lone.wait(0);
    assert_eq!(lone.link(2), LinkState::Up);
    assert_eq!(lone.said_to(2), [Said::Internal(1, ping(false))]);
}

#[test]
fn a_seat_without_neighbours_waits_for_ever() {
    let mut lone = Lone::new(cluster(&[]));
    lone.wait(1_000_000);
    assert!(lone.around.sent.is_empty());
    assert!(lone.seat.reachable().is_empty());
    assert!(lone.seat.up_nodes().is_empty());
}

fn link_update(seq: i32, neighbour: i32, up: bool, path: &[i32]) -> Internal {
    Internal::LinkUpdate {
        stamp: stamp(seq),
        neighbour,
        up,
        path: path.to_vec(),
    }
}
