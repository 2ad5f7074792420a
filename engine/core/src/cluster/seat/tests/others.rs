use super::*;

#[test]
fn what_a_node_wants_to_be_executed_is_told_and_never_done() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    lone.writes(2, Extra::RemoveNode { node: 3 });
    lone.writes(2, Extra::RemoveNode { node: 1 });
    let command = Extra::MiCommand {
        command: b"shutdown".to_vec(),
        parameters: vec![b"now".to_vec(), vec![0xff, b'x'], vec![b'y'; 60_000]],
    };
    lone.writes(2, command);
    let what: Vec<_> = lone
        .around
        .events
        .iter()
        .map(|event| match event {
            Event::NotExecuted {
                cluster: CLUSTER,
                node: 2,
                what,
            } => what.as_str(),
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(what[0], "remove node 3 from the cluster");
    assert_eq!(what[1], "remove node 1 from the cluster");
    assert!(what[2].starts_with("run the management command \"shutdown now \u{fffd}x yyy"));
    assert!(
        what[2].ends_with("\" ...") && what[2].len() < 300,
        "{}",
        what[2]
    );
    assert_eq!(lone.seat.up_nodes(), [2, 3]);
    assert_eq!(lone.counts(Kind::RemoveNode), (2, 0, 0));
    assert_eq!(lone.counts(Kind::MiCommand), (1, 0, 0));
    assert!(lone.around.sent.is_empty());
}

#[test]
fn scripts_write_to_each_other() {
    let mut lone = Lone::up(cluster(&[2, 3]));
    let generic = |is_request| Extra::Generic {
        is_request,
        tag: b"t1".to_vec(),
        message: b"hello".to_vec(),
    };
    lone.writes(2, generic(true));
    let event = Event::Generic {
        cluster: CLUSTER,
        node: 2,
        is_request: true,
        tag: b"t1".to_vec(),
        message: b"hello".to_vec(),
    };
    assert_eq!(lone.around.events, [event]);
    let now = lone.now();
    let sent = lone
        .seat
        .send_generic(now, Some(2), false, b"t1", b"hello", &mut lone.around);
    assert_eq!(sent, 1);
    let answer = Said::Extra(Trailer::new(CLUSTER, 1, 2), generic(false));
    assert_eq!(lone.said_to(2), [answer]);
    let sent = lone
        .seat
        .send_generic(now, None, true, b"t1", b"hello", &mut lone.around);
    assert_eq!(sent, 2);
    let question = Said::Extra(Trailer::new(CLUSTER, 1, 3), generic(true));
    assert_eq!(lone.said_to(3), [question]);
    assert_eq!(lone.counts(Kind::Generic), (1, 0, 3));
}

#[test]
fn a_message_to_a_node_behind_another_goes_by_that_one_and_one_to_nowhere_goes_nowhere() {
    let mut lone = Lone::new(cluster(&[2, 3]));
    lone.says(2, pong(&[]));
    let update = Internal::LinkUpdate {
        stamp: stamp(0),
        neighbour: 3,
        up: true,
        path: vec![2],
    };
    lone.says(2, update);
    lone.forget();
    let now = lone.now();
    let mut send = |to| {
        lone.seat
            .send_generic(now, Some(to), true, b"", b"x", &mut lone.around)
    };
    assert_eq!((send(3), send(4), send(1)), (1, 0, 0));
    let said = lone.said_to(2);
    let [Said::Extra(trailer, _)] = &*said else {
        panic!("{said:?}");
    };
    assert_eq!(*trailer, Trailer::new(CLUSTER, 1, 3));
}

#[test]
fn a_message_that_cannot_be_sent_is_not_counted_and_its_link_is_asked() {
    let mut lone = Lone::up(cluster(&[2]));
    lone.around.unreachable.insert(2);
    let now = lone.now();
    let sent = lone
        .seat
        .send_generic(now, None, true, b"", b"x", &mut lone.around);
    assert_eq!((sent, lone.link(2)), (0, LinkState::RestartPinging));
    assert_eq!(lone.counts(Kind::Generic), (0, 0, 0));
    // One that is too long for any packet is nobody's fault.
    lone.around.unreachable.clear();
    lone.wait(1_000);
    lone.says(2, pong(&[]));
    let long = vec![b'x'; 70_000];
    let now = lone.now();
    let sent = lone
        .seat
        .send_generic(now, None, true, b"", &long, &mut lone.around);
    assert_eq!((sent, lone.link(2)), (0, LinkState::Up));
}

#[test]
fn a_sharing_tag_is_followed_and_never_taken() {
    let mut config = cluster(&[2, 3]);
    config.tags = vec!["vip".to_owned()];
    let mut lone = Lone::up(config);
    let tag = |name: &[u8]| Extra::TagActive { tag: name.to_vec() };
    lone.writes(2, tag(b"vip"));
    lone.writes(2, tag(b"vip"));
    lone.writes(3, tag(b"vip"));
    lone.writes(3, tag(b"other"));
    lone.writes(3, tag(&[0xff]));
    let took: Vec<_> = lone
        .around
        .events
        .iter()
        .map(|event| match event {
            Event::Tag { tag, node, .. } => (tag.as_str(), *node),
            event => panic!("{event:?}"),
        })
        .collect();
    assert_eq!(took, [("vip", 2), ("vip", 3), ("other", 3)]);
    let tags = lone.seat.facts(lone.now()).tags;
    let tags: Vec<_> = tags.iter().map(|tag| (&*tag.name, tag.active)).collect();
    assert_eq!(tags, [("vip", Some(3)), ("other", Some(3))]);
    assert_eq!(lone.counts(Kind::TagActive), (4, 1, 0));
    // However many are invented.
    for number in 0..1_000 {
        lone.writes(2, tag(format!("tag{number}").as_bytes()));
    }
    assert_eq!(lone.seat.facts(lone.now()).tags.len(), 256);
}

#[test]
fn what_a_node_writes_by_way_of_another_says_nothing_of_its_link() {
    let mut lone = Lone::new(cluster(&[2, 3]));
    lone.says(3, pong(&[]));
    lone.wait(5_000);
    assert_eq!(lone.link(2), LinkState::Down);
    let tag = b"vip".to_vec();
    lone.says_by(3, 2, ip(3), Body::Extra(Extra::TagActive { tag }));
    assert_eq!(lone.link(2), LinkState::Down);
    assert_eq!(lone.counts(Kind::TagActive), (1, 0, 0));
}
