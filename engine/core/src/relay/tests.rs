use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};

use binrush_store::model::{Aor, Contact, Dialog, ProfileCount};
use binrush_store::sockets::{self, SocketMap};
use binrush_store::translate::{Ids, Translator};
use binrush_store::{Change, Record, write};
use binrush_wire::schema::SYNC_CHUNK;
use binrush_wire::{Builder, Generation, Packet, Release, Trailer};

use super::*;
use crate::clock::{Clock as _, MonotonicClock};
use crate::dispatch::handler::{Ends, Origin};

const NOBODY: Trailer = Trailer::new(0, 0, 0);

fn target(to: SocketAddr, release: Release, ids: Trailer) -> TargetConfig {
    TargetConfig {
        to: format!("bin:{to}").parse().unwrap(),
        release,
        ids,
        queue_bytes: 1 << 20,
        from_cluster: None,
        bind: None,
        sockets: Arc::default(),
    }
}

/// A receiver of datagrams.
fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.42.0.2:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.42.0.3:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn next(receiver: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let len = receiver.recv(&mut bytes).expect("a datagram");
    bytes.truncate(len);
    bytes
}

fn is_over(receiver: &UdpSocket) -> bool {
    receiver.set_nonblocking(true).unwrap();
    receiver.recv(&mut [0; 8]).is_err()
}

fn wall() -> Arc<WallClock> {
    let wall = WallClock::default();
    wall.set(MonotonicClock.now(), Duration::from_secs(1_800_000_000));
    wall.into()
}

/// The end of shard 0, and the relay.
fn start(targets: Vec<TargetConfig>) -> (Box<dyn Tap>, Relay) {
    let planned = Planned::new(targets, 1).unwrap();
    let taps = planned.taps();
    let tap = taps(ShardId(0)).expect("it is not taken");
    assert!(taps(ShardId(0)).is_none() && taps(ShardId(1)).is_none());
    (tap, planned.start(&[], None, wall()))
}

fn offer(tap: &mut dyn Tap, origin: &Origin, bytes: &[u8]) {
    let packet = Packet::parse(origin.generation(), bytes).unwrap();
    tap.accepted(origin, &packet);
}

fn stream(peer: &str) -> Origin {
    Origin::Stream {
        ends: Ends::new((peer.parse::<IpAddr>().unwrap(), 40_000).into(), None),
        generation: Generation::Modern,
        release: None,
    }
}

/// An AoR as `release` tells it, made by node `from`.
fn aor(release: Release, name: &str, from: i32) -> Vec<u8> {
    let aor = Record::Aor(Aor {
        domain: b"location",
        aor: name.as_bytes(),
        ..Aor::default()
    });
    told(&aor, release, from)
}

fn told(record: &Record<'_>, release: Release, from: i32) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let mut packet = write::packet(record, release, from, 0, &mut buffer).unwrap();
    if release.generation() == Generation::Modern {
        packet.push_trailer(Trailer::new(1, from, 1)).unwrap();
    }
    packet.seal().to_vec()
}

/// All is told, and nothing waits.
#[track_caller]
fn ended(relay: Relay) -> Vec<TargetSnapshot> {
    let all = relay.stop(Duration::from_millis(200));
    for each in &all {
        assert!(each.is_balanced(), "{each:?}");
        assert_eq!((each.waiting, each.queued), (0, 0), "{each:?}");
    }
    all
}

fn refused(target: &TargetSnapshot, why: &str) -> u64 {
    let mut all = target.refused.iter();
    all.find(|each| each.why == why).expect(why).count
}

#[test]
fn each_target_of_the_same_generation_gets_the_bytes_in_order() {
    let receivers = [receiver(), receiver(), receiver()];
    let targets = receivers
        .iter()
        .map(|(_, to)| target(*to, Release::V1x, NOBODY));
    let (mut tap, relay) = start(targets.collect());
    let packets: Vec<_> = (0..700)
        .map(|n| aor(Release::V1x, &format!("u{n}"), 0))
        .collect();
    for some in packets.chunks(64) {
        for packet in some {
            offer(&mut *tap, &Origin::Datagram(None), packet);
        }
        tap.batch_done();
        for (receiver, _) in &receivers {
            some.iter()
                .for_each(|packet| assert_eq!(next(receiver), *packet));
        }
    }
    for each in ended(relay) {
        assert_eq!((each.accepted, each.passed, each.made), (700, 700, 700));
        assert_eq!((each.sent, each.lost), (700, 0));
    }
}

#[test]
fn records_are_told_in_the_words_of_the_target_and_what_it_has_none_for_is_counted() {
    let (receiver, to) = receiver();
    let (mut tap, relay) = start(vec![target(to, Release::V1x, NOBODY)]);
    let contact = Record::Contact(Contact {
        domain: b"location",
        aor: b"alice",
        uri: b"sip:alice@198.51.100.7",
        callid: b"reg-1",
        id: Some(1 << 14),
        expires: 1_800_003_600,
        socket: b"udp:192.0.2.1:5060",
        ..Contact::default()
    });
    offer(
        &mut *tap,
        &stream("127.42.0.9"),
        &told(&contact, Release::V2_4, 3),
    );
    let mut buffer = [0; 256];
    let mut unknown = Builder::new(Generation::Modern, &mut buffer, b"my-module", 7, 1).unwrap();
    unknown.push_trailer(Trailer::new(1, 3, 1)).unwrap();
    let unknown = unknown.seal().to_vec();
    let packet = Packet::parse(Generation::Modern, &unknown).unwrap();
    tap.stranger(&stream("127.42.0.9"), &packet);
    tap.batch_done();
    let got = next(&receiver);
    let packet = Packet::parse(Generation::Legacy, &got).unwrap();
    assert_eq!((packet.name(), packet.command()), (&b"ul"[..], 3));
    let all = ended(relay);
    assert_eq!((all[0].accepted, all[0].translated, all[0].sent), (2, 1, 1));
    assert_eq!(refused(&all[0], "unknown_name"), 1);
    assert!(is_over(&receiver));
}

#[test]
fn what_goes_on_to_a_cluster_has_our_ids_also_where_nobody_knows_the_name() {
    let listener = TcpListener::bind("127.42.0.4:0").unwrap();
    let to = listener.local_addr().unwrap();
    let ids = Trailer::new(4, 9, 2);
    let (mut tap, relay) = start(vec![target(to, Release::V3_6, ids)]);
    offer(
        &mut *tap,
        &stream("127.42.0.9"),
        &aor(Release::V3_6, "bob", 3),
    );
    let mut buffer = [0; 256];
    let mut unknown = Builder::new(Generation::Modern, &mut buffer, b"my-module", 7, 1).unwrap();
    unknown.push_str(b"field").unwrap();
    unknown.push_trailer(Trailer::new(1, 3, 1)).unwrap();
    let unknown = unknown.seal().to_vec();
    let packet = Packet::parse(Generation::Modern, &unknown).unwrap();
    tap.stranger(&stream("127.42.0.9"), &packet);
    tap.batch_done();
    let (mut connection, _) = listener.accept().unwrap();
    for name in [&b"usrloc-contact-repl"[..], b"my-module"] {
        let mut bytes = vec![0; 8];
        connection.read_exact(&mut bytes).unwrap();
        let len = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        bytes.resize(len as usize, 0);
        connection.read_exact(&mut bytes[8..]).unwrap();
        let packet = Packet::parse(Generation::Modern, &bytes).unwrap();
        assert_eq!(packet.name(), name);
        assert_eq!(packet.fields().pop_trailer(), Ok(ids));
    }
    let all = ended(relay);
    assert_eq!((all[0].accepted, all[0].made, all[0].sent), (2, 2, 2));
}

#[test]
fn what_comes_round_goes_no_further() {
    let (receiver, to) = receiver();
    let ids = Trailer::new(1, 9, 2);
    let link = nobody();
    let (mut tap, relay) = start(vec![
        target(to, Release::V1x, NOBODY),
        target(link, Release::V3_6, ids),
    ]);
    // We are node 9 for one of them, so what 9 made is ours, wherever it comes from.
    offer(
        &mut *tap,
        &stream("127.42.0.9"),
        &aor(Release::V3_6, "ours", 9),
    );
    // From the target itself, but not from us: the others want it.
    let peer = link.ip().to_string();
    offer(&mut *tap, &stream(&peer), &aor(Release::V3_6, "theirs", 2));
    let again = aor(Release::V1x, "again", 0);
    for _ in 0..40 {
        offer(&mut *tap, &Origin::Datagram(None), &again);
    }
    tap.batch_done();
    let all = ended(relay);
    let [datagrams, link] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(
        (datagrams.accepted, datagrams.looped, datagrams.echoed),
        (42, 25, 0)
    );
    assert_eq!((datagrams.passed, datagrams.translated), (16, 1));
    assert_eq!((link.looped, link.echoed), (25, 1));
    (0..17).for_each(|_| drop(next(&receiver)));
    assert!(is_over(&receiver));
}

#[test]
fn what_is_about_the_cluster_or_a_sync_stays_here() {
    let (receiver, to) = receiver();
    let (mut tap, relay) = start(vec![target(to, Release::V1x, NOBODY)]);
    for (name, command) in [
        (&b"clusterer-internal"[..], 0),
        (b"clusterer-extra", 1),
        (b"clusterer", 0),
        (b"usrloc-contact-repl", SYNC_CHUNK),
    ] {
        let mut buffer = [0; 256];
        let mut packet = Builder::new(Generation::Modern, &mut buffer, name, command, 1).unwrap();
        packet.push_trailer(Trailer::new(1, 3, 1)).unwrap();
        offer(&mut *tap, &stream("127.42.0.9"), packet.seal());
    }
    tap.batch_done();
    assert_eq!(ended(relay)[0].accepted, 0);
    assert!(is_over(&receiver));
}

#[test]
fn a_ring_that_is_full_drops_and_counts_and_the_rest_goes_on() {
    let (receiver, to) = receiver();
    let planned = Planned::new(vec![target(to, Release::V1x, NOBODY)], 1).unwrap();
    let mut tap = planned.taps()(ShardId(0)).unwrap();
    // Nobody reads yet.
    let mut buffer = vec![0; 1 << 16];
    let long = vec![b'x'; 60_000];
    let mut packet = Builder::new(Generation::Legacy, &mut buffer, b"nobody", 1, 1).unwrap();
    packet.push_str(&long).unwrap();
    let packet = packet.seal().to_vec();
    let packet = Packet::parse(Generation::Legacy, &packet).unwrap();
    for _ in 0..100 {
        tap.stranger(&Origin::Datagram(None), &packet);
    }
    tap.batch_done();
    let relay = planned.start(&[], None, wall());
    let all = ended(relay);
    let fit = (RING_LEN / 60_100) as u64;
    assert_eq!(all[0].accepted, 100);
    assert!((fit - 2..=fit).contains(&(100 - all[0].dropped)), "{all:?}");
    // Equal ones, again and again.
    assert_eq!((all[0].passed, all[0].sent), (16, 16));
    assert_eq!(next(&receiver), packet.bytes());
}

#[test]
fn a_target_that_is_not_there_has_a_queue_and_no_more_and_holds_up_nobody() {
    let (receiver, to) = receiver();
    let (mut tap, relay) = start(vec![
        TargetConfig {
            queue_bytes: crate::link::QUEUE_BYTES_MIN,
            ..target(nobody(), Release::V3_6, Trailer::new(1, 9, 2))
        },
        target(to, Release::V1x, NOBODY),
    ]);
    for n in 0..3000 {
        offer(
            &mut *tap,
            &Origin::Datagram(None),
            &aor(Release::V1x, &format!("u{n}"), 0),
        );
        if n % 50 == 49 {
            tap.batch_done();
            (0..50).for_each(|_| drop(next(&receiver)));
        }
    }
    let all = ended(relay);
    let [link, datagrams] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((datagrams.sent, datagrams.dropped), (3000, 0));
    assert_eq!(link.accepted, 3000);
    assert!(
        link.dropped > 1000 && link.lost > 500 && link.sent == 0,
        "{link:?}"
    );
    assert_eq!(link.translated + link.dropped, 3000);
}

#[test]
fn what_cannot_be_started_is_told_and_its_packets_are_counted_and_the_rest_goes_on() {
    let ourselves: SocketAddr = "127.42.0.7:5599".parse().unwrap();
    let (receiver, to) = receiver();
    let tls = format!("bins:{}", nobody()).parse().unwrap();
    let targets = vec![
        target(ourselves, Release::V1x, NOBODY),
        target(to, Release::V1x, NOBODY),
        TargetConfig {
            to: tls,
            ..target(to, Release::V3_6, Trailer::new(1, 9, 2))
        },
    ];
    let planned = Planned::new(targets, 1).unwrap();
    let mut tap = planned.taps()(ShardId(0)).unwrap();
    let wild = "0.0.0.0:5599".parse().unwrap();
    let relay = planned.start(&[wild], None, wall());
    let troubles: Vec<_> = relay.troubles().collect();
    assert_eq!(troubles.len(), 2);
    assert_eq!(troubles[0].0, "bin:127.42.0.7:5599");
    assert!(troubles[0].1.starts_with("it is this process"));
    assert!(troubles[1].1.contains("needs a certificate"));
    offer(
        &mut *tap,
        &Origin::Datagram(None),
        &aor(Release::V1x, "alice", 0),
    );
    tap.batch_done();
    next(&receiver);
    let up: Vec<_> = relay.snapshot().iter().map(|each| each.up).collect();
    assert_eq!(up, [false, true, false]);
    let dropped: Vec<_> = ended(relay).iter().map(|each| each.dropped).collect();
    assert_eq!(dropped, [1, 0, 1]);
}

#[test]
fn an_address_is_ours_where_the_kernel_says_so_and_a_wildcard_listens_there() {
    let (here, there) = (
        "127.42.0.7:5599".parse().unwrap(),
        "192.0.2.1:5599".parse().unwrap(),
    );
    let wild = ["0.0.0.0:5599".parse().unwrap()];
    assert!(is_ours(here, &wild) && !is_ours(there, &wild));
    assert!(!is_ours(here, &["0.0.0.0:5598".parse().unwrap()]));
    assert!(!is_ours(here, &["[::]:5599".parse().unwrap()]));
    assert!(is_local("127.0.0.1:9".parse().unwrap()).unwrap());
}

#[test]
fn packets_leave_from_an_address_that_the_target_can_answer() {
    let listen = ["127.0.0.1:5555", "[::1]:5555", "10.0.0.9:5555"].map(|at| at.parse().unwrap());
    let from = |to: &str| source_of(&target(to.parse().unwrap(), Release::V1x, NOBODY), &listen);
    assert_eq!(from("10.0.0.7:5555"), Some(listen[2].ip()));
    assert_eq!(from("127.0.0.2:5555"), Some(listen[0].ip()));
    assert_eq!(from("[2001:db8::1]:5555"), None);
    let bound = TargetConfig {
        bind: Some("10.0.0.8".parse().unwrap()),
        ..target("10.0.0.7:5555".parse().unwrap(), Release::V1x, NOBODY)
    };
    assert_eq!(source_of(&bound, &listen), bound.bind);
}

#[test]
fn three_relays_in_a_circle_of_any_release_send_nothing_round_for_ever() {
    for (release, generation) in [
        (Release::V1x, Generation::Legacy),
        (Release::V2_2, Generation::Transitional),
        (Release::V3_6, Generation::Modern),
    ] {
        let mut judges = [1, 2, 3].map(|node| runner::Judge::new(vec![10 + node]));
        let mut bytes = aor(release, "alice", 7);
        let label = end::Label {
            generation,
            release: None,
            peer: None,
        };
        let (stamp, front) = label.packed();
        let now = MonotonicClock.now();
        let hops = (0..1000).position(|hop: usize| {
            let record = [&front[..], &bytes].concat();
            let seen = seen::Seen::of(stamp, &record).unwrap();
            let has_come_round = judges[hop % 3].has_come_round(&seen, now);
            // Each says that it made the packet.
            let node = 11 + i32::try_from(hop % 3).unwrap();
            let next = Ids {
                machine: node + 10,
                trailer: Trailer::new(1, node + 10, node),
            };
            bytes.clear();
            let mut translator = Translator::new(release, next);
            translator.readdress(&seen.packet, &mut bytes).unwrap();
            has_come_round
        });
        assert_eq!(hops, Some(48), "{release}");
    }
}

#[test]
fn counts_of_a_node_stay_here() {
    let (_receiver, to) = receiver();
    let (mut tap, relay) = start(vec![target(to, Release::V1x, NOBODY)]);
    let ids = Ids {
        machine: 3,
        trailer: Trailer::new(1, 3, 1),
    };
    let mut packet = Vec::new();
    let counts = Change::Profiles(vec![ProfileCount {
        profile: b"calls",
        value: None,
        count: 4,
    }]);
    let mut translator = Translator::new(Release::V3_6, ids);
    translator.write(&counts, 0, &mut packet).unwrap();
    for _ in 0..40 {
        offer(&mut *tap, &stream("127.42.0.9"), &packet);
    }
    tap.batch_done();
    let all = ended(relay);
    assert_eq!((refused(&all[0], "count"), all[0].looped), (40, 0));
}

#[test]
fn sockets_are_those_of_the_target_and_a_dialog_of_others_stays_here() {
    let (receiver, to) = receiver();
    let map = SocketMap::parse("udp:192.0.2.1:5060=udp:198.51.100.1:5060").unwrap();
    let sockets = map.targets();
    let (mut tap, relay) = start(vec![TargetConfig {
        sockets: Arc::new(sockets::Target::new(map, Some(sockets))),
        ..target(to, Release::V1x, NOBODY)
    }]);
    let contact = |socket| {
        let contact = Record::Contact(Contact {
            domain: b"location",
            aor: b"alice",
            uri: b"sip:alice@198.51.100.7",
            callid: b"reg-1",
            expires: 1_800_003_600,
            socket,
            ..Contact::default()
        });
        told(&contact, Release::V1x, 0)
    };
    let dialog = |socket| {
        let dialog = Record::Dialog(Dialog {
            callid: b"call-1",
            tags: [b"a", b"b"],
            sockets: [socket, b"udp:192.0.2.1:5060"],
            ..Dialog::default()
        });
        told(&dialog, Release::V1x, 0)
    };
    let (ours, other) = (&b"udp:192.0.2.1:5060"[..], &b"udp:192.0.2.2:5060"[..]);
    for packet in [contact(ours), dialog(ours), dialog(other)] {
        offer(&mut *tap, &Origin::Datagram(None), &packet);
    }
    // What names none goes as it is.
    let aor = aor(Release::V1x, "alice", 0);
    offer(&mut *tap, &Origin::Datagram(None), &aor);
    tap.batch_done();
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    for _ in 0..2 {
        let got = next(&receiver);
        assert!(holds(&got, b"udp:198.51.100.1:5060") && !holds(&got, b"192.0.2.1"));
    }
    assert_eq!(next(&receiver), aor);
    let all = ended(relay);
    assert_eq!((all[0].translated, all[0].passed), (2, 1));
    assert_eq!(refused(&all[0], "no_socket"), 1);
}

#[test]
fn a_target_gets_its_cluster_and_of_an_address_what_other_nodes_there_made() {
    let link = nobody();
    let (mut tap, relay) = start(vec![TargetConfig {
        from_cluster: Some(1),
        ..target(link, Release::V3_6, Trailer::new(1, 9, 2))
    }]);
    let peer = stream(&link.ip().to_string());
    // Of its own cluster: by itself, and by another node behind the same address.
    offer(&mut *tap, &peer, &aor(Release::V3_6, "its", 2));
    offer(&mut *tap, &peer, &aor(Release::V3_6, "theirs", 3));
    let mut other = vec![0; 256];
    let mut packet = Builder::new(Generation::Modern, &mut other, b"my-module", 7, 1).unwrap();
    packet.push_trailer(Trailer::new(5, 3, 1)).unwrap();
    offer(&mut *tap, &stream("127.42.0.9"), packet.seal());
    // It says no cluster.
    offer(
        &mut *tap,
        &Origin::Datagram(None),
        &aor(Release::V1x, "legacy", 0),
    );
    tap.batch_done();
    let all = ended(relay);
    assert_eq!((all[0].accepted, all[0].echoed), (4, 1));
    assert_eq!(refused(&all[0], "other_cluster"), 1);
    assert_eq!((all[0].passed, all[0].translated), (1, 1));
}
