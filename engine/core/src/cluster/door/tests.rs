use super::*;
use crate::access::Cidr;
use crate::clock::Timestamp;
use crate::cluster::gate::Gate;
use crate::cluster::message::{Description, Extra, NodeCapabilities, Stamp};
use crate::cluster::outbox::{GateOrder, Slice};
use crate::cluster::replica::{OpaqueReplica, Replica as _, SYNC_PACKET};
use crate::cluster::roster::Heard;
use crate::cluster::session::Session;
use crate::dispatch::handler::{Ends, ShardId};
use crate::dispatch::scripted::Scripted;
use binrush_wire::{Builder, ErrorKind, Generation, Trailer};
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const NODE_2: [u8; 4] = [10, 0, 0, 2];
const NODE_3: [u8; 4] = [10, 0, 0, 3];
const STRANGER: [u8; 4] = [10, 0, 9, 9];
const CAPABILITY: &str = "cachedb-local-repl";

#[derive(Debug, Default)]
struct Letters {
    messages: Mutex<Vec<Incoming>>,
    is_full: AtomicBool,
}

impl Inbox for Letters {
    fn message(&self, message: Incoming) -> bool {
        let has_room = !self.is_full.load(Ordering::Relaxed);
        if has_room {
            self.messages.lock().unwrap().push(message);
        }
        has_room
    }

    fn slice(&self, _: Slice) {}

    fn session_moved(&self) {}

    fn record_missed(&self, _: i32, _: &str) {
        unreachable!("doors have no records")
    }
}

/// A door on a reader of an engine with three owners.
struct World {
    door: Door,
    board: Arc<Board>,
    letters: Arc<Letters>,
    warnings: Arc<Mutex<Vec<String>>>,
    scripted: Scripted,
    heard: Arc<Heard>,
}

fn node(id: i32, ip: [u8; 4], enabled: bool) -> RosterNode {
    RosterNode {
        id,
        ip: ip.into(),
        enabled,
        release: Release::V3_6,
        slot: u8::try_from(id).unwrap(),
    }
}

impl World {
    fn new() -> Self {
        let (board, letters) = (Arc::new(Board::default()), Arc::new(Letters::default()));
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&warnings);
        let inbox: Arc<dyn Inbox> = Arc::clone(&letters) as Arc<dyn Inbox>;
        let warn = Arc::new(move |text| said.lock().unwrap().push(text));
        let world = Self {
            door: Door::new(Arc::clone(&board), inbox, warn),
            board,
            letters,
            warnings,
            scripted: Scripted::new(3),
            heard: Arc::new(Heard::new()),
        };
        world.show(Vec::new());
        world
    }

    fn show(&self, sessions: Vec<Arc<Session>>) {
        self.board.show(RosterCluster {
            id: 1,
            me: 1,
            nodes: vec![
                node(2, NODE_2, true),
                node(3, NODE_3, true),
                node(4, [10, 0, 0, 4], false),
            ],
            capabilities: vec![CAPABILITY.into()],
            sessions,
            learn: vec![Cidr::new([10, 0, 9, 0].into(), 24).unwrap()],
            heard: Arc::clone(&self.heard),
        });
    }

    fn take(&mut self, ip: [u8; 4], bytes: &[u8]) -> Verdict {
        let packet = Packet::parse(Generation::Modern, bytes).unwrap();
        let now = Timestamp::from_nanos(9_000_000_000);
        let mut context = self.scripted.cut(now, ShardId(3), from(ip));
        self.door.handle(&mut context, &packet)
    }

    fn internal(&mut self, ip: [u8; 4], cluster: i32, source: i32, message: &Internal) -> Verdict {
        let mut writer = Writer::new();
        let packet = writer.internal(Release::V3_6, cluster, source, message);
        let packet = packet.unwrap().to_vec();
        self.take(ip, &packet)
    }

    fn extra(&mut self, ip: [u8; 4], trailer: Trailer, message: &Extra) -> Verdict {
        let mut writer = Writer::new();
        let packet = writer.extra(Release::V3_6, trailer, message).unwrap();
        let packet = packet.to_vec();
        self.take(ip, &packet)
    }

    fn sync(&mut self, ip: [u8; 4], donor: i32, chunks: &[u8]) -> Verdict {
        let packet = sync_packet(donor, 1, chunks);
        self.take(ip, &packet)
    }

    fn received(&self) -> Vec<(i32, Body)> {
        let messages = std::mem::take(&mut *self.letters.messages.lock().unwrap());
        let each = messages.into_iter();
        each.map(|message| (message.source, message.body)).collect()
    }

    fn last_heard(&self, node: u8) -> Timestamp {
        self.heard.last(node)
    }
}

fn from(ip: [u8; 4]) -> Origin {
    Origin::Stream {
        ends: Ends::new((ip, 40_000).into(), None),
        generation: Generation::Modern,
        release: None,
    }
}

fn sync_packet(donor: i32, data_version: i32, chunks: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    let (trailer, name) = (Trailer::new(1, donor, 1), CAPABILITY.as_bytes());
    let packet = writer.sync(Release::V3_6, trailer, name, data_version, chunks);
    packet.unwrap().to_vec()
}

/// An entry of the key-value store, as a chunk with its header.
fn chunk(key: &str) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"x", 0, 0).unwrap();
    for text in ["collection", key, "value"] {
        builder.push_str(text.as_bytes()).unwrap();
    }
    builder.push_int(0).unwrap();
    let data = Packet::parse(Generation::Modern, builder.seal())
        .unwrap()
        .body()
        .to_vec();
    let mut buffer = [0; 256];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"x", 0, 0).unwrap();
    builder.push_chunk(&data).unwrap();
    Packet::parse(Generation::Modern, builder.seal())
        .unwrap()
        .body()
        .to_vec()
}

/// Announced, and all gates hold.
fn held_session(world: &World) -> Arc<Session> {
    let session = Arc::new(Session::new(77, 1, CAPABILITY, 2, 3));
    for words in &session.shards {
        words.held.store(true, Ordering::Release);
    }
    world.show(vec![Arc::clone(&session)]);
    session
}

fn counts(session: &Session) -> (u64, u64, bool) {
    let door = &session.door;
    (
        door.packets.load(Ordering::Acquire),
        door.cut.load(Ordering::Acquire),
        door.broken.load(Ordering::Acquire),
    )
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict::Refused(refusal)
}

const PING: Internal = Internal::Ping { list: true };

fn description(url: &str) -> Internal {
    Internal::Description {
        description: Description {
            url: url.as_bytes().to_vec(),
            sip_addr: Vec::new(),
            priority: 3,
            retries: 3,
        },
        path: vec![9],
    }
}

#[test]
fn each_refusal_of_a_neighbours_message_has_its_reason() {
    let mut world = World::new();
    assert_eq!(world.internal(NODE_2, 1, 2, &PING), Verdict::Handled);
    assert_eq!(world.internal(NODE_3, 1, 2, &PING), Verdict::Handled);
    assert_eq!(
        world.internal(NODE_2, 7, 2, &PING),
        refused(Refusal::UnknownCluster)
    );
    assert_eq!(world.internal(NODE_2, 1, 1, &PING), refused(Refusal::OwnId));
    assert_eq!(
        world.internal(NODE_2, 1, 9, &PING),
        refused(Refusal::UnknownNode)
    );
    assert_eq!(
        world.internal(STRANGER, 1, 2, &PING),
        refused(Refusal::ForeignAddress)
    );
    assert_eq!(
        world.internal([10, 0, 0, 4], 1, 4, &PING),
        refused(Refusal::Disabled)
    );
    world.letters.is_full.store(true, Ordering::Relaxed);
    assert_eq!(world.internal(NODE_2, 1, 2, &PING), refused(Refusal::Busy));
    let ping = || (2, Body::Internal(PING));
    assert_eq!(world.received(), [ping(), ping()]);
    assert_eq!(world.scripted.connection.answers.len(), 0);
}

#[test]
fn each_refusal_of_a_routed_message_has_its_reason() {
    let mut world = World::new();
    let request = Extra::SyncRequest {
        capability: CAPABILITY.into(),
    };
    let to = Trailer::new;
    let mut taken = |ip, trailer| world.extra(ip, trailer, &request);
    assert_eq!(taken(NODE_2, to(1, 2, 1)), Verdict::Handled);
    assert_eq!(taken(NODE_2, to(7, 2, 1)), refused(Refusal::UnknownCluster));
    assert_eq!(taken(NODE_2, to(1, 1, 1)), refused(Refusal::OwnId));
    assert_eq!(taken(NODE_2, to(1, 9, 1)), refused(Refusal::UnknownNode));
    assert_eq!(
        taken(STRANGER, to(1, 2, 1)),
        refused(Refusal::ForeignAddress)
    );
    assert_eq!(
        taken([10, 0, 0, 4], to(1, 4, 1)),
        refused(Refusal::Disabled)
    );
    assert_eq!(taken(NODE_2, to(1, 2, 3)), refused(Refusal::NotForUs));
    let bridged = Trailer {
        bridged_from: Some(4),
        ..to(1, 2, Trailer::BRIDGE)
    };
    assert_eq!(taken(NODE_2, bridged), refused(Refusal::NotForUs));
    assert_eq!(world.received(), [(2, Body::Extra(request))]);
}

#[test]
fn a_message_tells_where_it_came_from_and_what_it_shows() {
    let mut world = World::new();
    world.scripted.connection.number = 41;
    let message = Internal::Capabilities {
        stamp: Some(Stamp {
            seq: 0,
            timestamp: 5,
        }),
        nodes: vec![NodeCapabilities {
            id: 2,
            capabilities: vec![(CAPABILITY.into(), true)],
        }],
        require_reply: false,
        path: vec![2],
    };
    assert_eq!(world.internal(NODE_2, 1, 2, &message), Verdict::Handled);
    let letters = world.letters.messages.lock().unwrap();
    let [letter] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(
        (letter.connection, letter.cluster, letter.source),
        (41, 1, 2)
    );
    assert_eq!(
        (letter.ip, letter.at.as_nanos()),
        (NODE_2.into(), 9_000_000_000)
    );
    assert_eq!(letter.shown, Some((Release::V3_2, Release::V4_0)));
}

#[test]
fn a_stranger_who_may_introduce_himself_is_told_to() {
    let mut world = World::new();
    assert_eq!(world.internal(STRANGER, 1, 9, &PING), Verdict::Handled);
    let answers = std::mem::take(&mut world.scripted.connection.answers);
    let [answer] = &answers[..] else {
        panic!("{answers:?}")
    };
    let packet = Packet::parse(Generation::Modern, answer).unwrap();
    assert_eq!(message::internal(&packet), Ok((1, 1, Internal::UnknownId)));
    let pong = Internal::Pong { nodes: Vec::new() };
    assert_eq!(
        world.internal(STRANGER, 1, 9, &pong),
        refused(Refusal::UnknownNode)
    );
    assert_eq!(
        world.internal([10, 0, 8, 1], 1, 9, &PING),
        refused(Refusal::UnknownNode)
    );
    // Without learning nobody is told anything, and nobody can be a known node from a strange address.
    world.scripted.connection.is_stuck = true;
    assert_eq!(
        world.internal(STRANGER, 1, 9, &PING),
        refused(Refusal::Busy)
    );
    assert_eq!(world.received(), [], "the seat hears of none of it");
}

#[test]
fn a_description_is_shown_to_the_seat_when_it_lives_where_strangers_may() {
    let mut world = World::new();
    let mut shown = |ip, url| {
        let verdict = world.internal(ip, 1, 9, &description(url));
        match verdict {
            Verdict::Handled => assert_eq!(world.received().len(), 1),
            other => assert_eq!(other, refused(Refusal::UnknownNode)),
        }
        verdict == Verdict::Handled
    };
    assert!(shown(STRANGER, "bin:10.0.9.9:5555"), "by himself");
    assert!(
        shown(NODE_2, "bin:10.0.9.9:5555"),
        "by a node that is known"
    );
    assert!(!shown(STRANGER, "bin:10.0.9.8:5555"), "by another stranger");
    assert!(!shown(NODE_2, "bin:10.0.8.9:5555"), "from elsewhere");
    assert!(
        !shown([10, 0, 8, 9], "bin:10.0.8.9:5555"),
        "himself, from elsewhere"
    );
    assert!(!shown(STRANGER, "sip:10.0.9.9:5060"));
    assert!(!shown(STRANGER, ""));
}

#[test]
fn only_first_hand_messages_say_that_a_node_is_heard() {
    let update = |path| Internal::LinkUpdate {
        stamp: Stamp {
            seq: 1,
            timestamp: 1,
        },
        neighbour: 3,
        up: true,
        path,
    };
    let pong = Internal::Pong { nodes: Vec::new() };
    for (ip, message, is_heard) in [
        (NODE_2, PING, true),
        (NODE_3, PING, false),
        (NODE_2, pong, false),
        (NODE_2, update(vec![2]), true),
        (NODE_2, update(vec![2, 3]), false),
    ] {
        let mut world = World::new();
        assert_eq!(world.internal(ip, 1, 2, &message), Verdict::Handled);
        let heard = world.last_heard(2) > Timestamp::default();
        assert_eq!(heard, is_heard, "{message:?} from {ip:?}");
        assert_eq!(world.last_heard(3), Timestamp::default());
    }
    let mut world = World::new();
    let generic = Extra::Generic {
        is_request: true,
        tag: b"t".into(),
        message: b"m".into(),
    };
    assert_eq!(
        world.extra(NODE_3, Trailer::new(1, 2, 1), &generic),
        Verdict::Handled
    );
    assert_eq!(world.last_heard(2), Timestamp::default(), "forwarded");
    assert_eq!(
        world.extra(NODE_2, Trailer::new(1, 2, 1), &generic),
        Verdict::Handled
    );
    assert!(world.last_heard(2) > Timestamp::default());
}

#[test]
fn a_node_of_2_3_is_refused_with_one_sentence_for_its_address() {
    let mut world = World::new();
    let mut buffer = [0; 64];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"clusterer", 0, 1).unwrap();
    builder.push_int(1).unwrap();
    builder.push_int(2).unwrap();
    let ping = builder.seal().to_vec();
    for _ in 0..3 {
        assert_eq!(world.take(NODE_2, &ping), Verdict::UnknownVersion);
    }
    assert_eq!(world.take(NODE_3, &ping), Verdict::UnknownVersion);
    {
        let warnings = world.warnings.lock().unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].starts_with("10.0.0.2 speaks"),
            "{}",
            warnings[0]
        );
    }
    for host in 0..=255 {
        assert_eq!(world.take([10, 1, 1, host], &ping), Verdict::UnknownVersion);
    }
    assert_eq!(world.warnings.lock().unwrap().len(), WARNED_MAX);
    assert_eq!(world.received(), []);
}

#[test]
fn datagrams_and_what_does_not_decode_are_refused_by_name() {
    let mut world = World::new();
    let mut writer = Writer::new();
    let ping = writer
        .internal(Release::V3_6, 1, 2, &PING)
        .unwrap()
        .to_vec();
    let packet = Packet::parse(Generation::Modern, &ping).unwrap();
    let mut context =
        world
            .scripted
            .mailed(Timestamp::default(), ShardId(0), Origin::Datagram(None));
    let verdict = world.door.handle(&mut context, &packet);
    assert_eq!(verdict, refused(Refusal::ForeignAddress));
    for len in 34..ping.len() {
        let mut cut = ping[..len].to_vec();
        cut[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        assert!(
            matches!(world.take(NODE_2, &cut), Verdict::Field(_)),
            "{len}"
        );
    }
    let mut buffer = [0; 64];
    let name = b"clusterer-extra";
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 10, 1).unwrap();
    builder.push_int(1).unwrap();
    let verdict = world.take(NODE_2, builder.seal());
    assert!(matches!(verdict, Verdict::Field(error) if error.kind == ErrorKind::Trailer));
    assert_eq!(world.received(), []);
}

#[test]
fn a_sync_packet_is_cut_into_one_part_for_each_owner() {
    let mut world = World::new();
    let session = held_session(&world);
    let keys: Vec<String> = (0..100).map(|n| format!("key{n}")).collect();
    let chunks: Vec<Vec<u8>> = keys.iter().map(|key| chunk(key)).collect();
    let packet = sync_packet(2, 1, &chunks.concat());
    assert_eq!(world.take(NODE_2, &packet), Verdict::Handled);
    assert_eq!(counts(&session), (1, 100, false));
    let parts = std::mem::take(&mut world.scripted.connection.passed_on);
    assert_eq!(parts.len(), 3, "a hundred keys, three owners");
    let mut cut = Vec::new();
    for (owner, bytes) in &parts {
        assert!(bytes.len() <= packet.len());
        let part = Packet::parse(Generation::Modern, bytes).unwrap();
        assert_eq!(part.name(), CAPABILITY.as_bytes());
        assert_eq!((part.command(), part.version()), (SYNC_PACKET, Some(1)));
        let trailer = part.fields().pop_trailer().unwrap();
        assert_eq!(trailer, Trailer::new(1, 2, 1));
        let read = super::super::gate::part::Part::read(&part).unwrap();
        assert_eq!(read.session, 77);
        for chunk in read.chunks {
            let chunk = chunk.unwrap();
            let mut fields = chunk.fields();
            fields.skip_str(1).unwrap();
            let key = fields.pop_str().unwrap();
            assert_eq!(ShardId(world.scripted.steering.owner_of_key(key)), *owner);
            cut.push(String::from_utf8(key.to_vec()).unwrap());
        }
    }
    cut.sort();
    let mut expected = keys;
    expected.sort();
    assert_eq!(cut, expected);
}

#[test]
fn the_largest_sync_packet_still_makes_parts_that_are_packets() {
    let mut world = World::new();
    let session = held_session(&world);
    world.scripted = Scripted::new(1);
    let one = chunk("key");
    let overhead = sync_packet(2, 1, &[]).len();
    let chunks = one.repeat((binrush_wire::MAX_PACKET_LEN - overhead) / one.len());
    let packet = sync_packet(2, 1, &chunks);
    assert_eq!(world.take(NODE_2, &packet), Verdict::Handled);
    let parts = &world.scripted.connection.passed_on;
    assert!(parts.len() == 1 && parts[0].1.len() < packet.len());
    assert_eq!(
        counts(&session),
        (1, (chunks.len() / one.len()) as u64, false)
    );
}

#[test]
fn a_sync_that_nobody_asked_for_is_refused() {
    let mut world = World::new();
    let unexpected = refused(Refusal::UnexpectedSync);
    assert_eq!(
        world.sync(NODE_2, 2, &chunk("a")),
        unexpected,
        "there is no session"
    );
    let session = Arc::new(Session::new(77, 1, CAPABILITY, 2, 3));
    world.show(vec![Arc::clone(&session)]);
    session.shards[0].held.store(true, Ordering::Release);
    assert_eq!(
        world.sync(NODE_2, 2, &chunk("a")),
        unexpected,
        "not all gates hold"
    );
    let session = held_session(&world);
    assert_eq!(
        world.sync(NODE_3, 3, &chunk("a")),
        unexpected,
        "another donor"
    );
    assert_eq!(counts(&session), (0, 0, false));
    assert_eq!(world.sync(NODE_2, 2, &chunk("a")), Verdict::Handled);
    world.show(Vec::new());
    assert_eq!(world.sync(NODE_2, 2, &chunk("a")), unexpected, "it is over");
    assert_eq!(counts(&session), (1, 1, false));
    assert_eq!(world.scripted.connection.passed_on.len(), 1);
}

#[test]
fn what_comes_before_a_broken_chunk_is_sent_on_and_the_attempt_is_broken() {
    for broken in [
        &[0xFF, 0x7F, 0, 0, 0xB5, 0x4A, 0x05, 0x06, b'x'][..],
        &[1, 0, 0, 0, 1, 2, 3, 4, b'x'],
        &[0, 0, 0, 0, 0xB5, 0x4A, 0x05, 0x06],
        &[0xFF; 12],
        &[1, 0, 0],
    ] {
        let mut world = World::new();
        let session = held_session(&world);
        let chunks = [&chunk("a")[..], &chunk("b"), broken, &chunk("c")].concat();
        let verdict = world.sync(NODE_2, 2, &chunks);
        assert!(
            matches!(verdict, Verdict::Field(error) if matches!(error.kind, ErrorKind::ChunkSize | ErrorKind::ChunkMarker)),
            "{verdict:?}"
        );
        assert_eq!(counts(&session), (1, 2, true), "{broken:?}");
    }
}

#[test]
fn a_data_version_that_no_header_can_have_breaks_the_attempt() {
    let mut world = World::new();
    let session = held_session(&world);
    let packet = sync_packet(2, 1 << 16, &chunk("a"));
    assert_eq!(world.take(NODE_2, &packet), Verdict::UnknownVersion);
    assert_eq!(counts(&session), (1, 0, true));
}

#[test]
fn a_sync_that_changes_its_connection_is_broken_and_its_records_are_taken() {
    let mut world = World::new();
    let session = held_session(&world);
    assert_eq!(session.door.connection.load(Ordering::Acquire), 0);
    assert_eq!(world.sync(NODE_2, 2, &chunk("a")), Verdict::Handled);
    assert_eq!(world.sync(NODE_2, 2, &chunk("b")), Verdict::Handled);
    assert_eq!(session.door.connection.load(Ordering::Acquire), 1);
    assert_eq!(counts(&session), (2, 2, false));
    world.scripted.connection.number = 5;
    assert_eq!(world.sync(NODE_2, 2, &chunk("c")), Verdict::Handled);
    assert_eq!(counts(&session), (3, 3, true));
}

#[test]
fn the_parts_of_a_door_are_what_the_gates_take() {
    let mut world = World::new();
    let session = Arc::new(Session::new(u64::MAX - 5, 1, CAPABILITY, 2, 3));
    let inbox: Arc<dyn Inbox> = Arc::clone(&world.letters) as Arc<dyn Inbox>;
    let gate = |shard| {
        let (board, inbox) = (Arc::clone(&world.board), Arc::clone(&inbox));
        let replica = OpaqueReplica::new(CAPABILITY);
        Gate::new(
            ShardId(shard),
            1,
            CAPABILITY,
            board,
            inbox,
            1 << 20,
            replica,
        )
    };
    let mut gates = [gate(0), gate(1), gate(2)];
    let mut other = Scripted::new(3);
    for gate in &mut gates {
        let mut context = other.mailed(Timestamp::default(), ShardId(0), Origin::Process);
        gate.tell(
            &mut context,
            Box::new(GateOrder::Hold(Arc::clone(&session))),
        );
    }
    world.show(vec![Arc::clone(&session)]);
    let chunks: Vec<Vec<u8>> = (0..50).map(|n| chunk(&format!("key{n}"))).collect();
    for chunks in chunks.chunks(7) {
        assert_eq!(world.sync(NODE_2, 2, &chunks.concat()), Verdict::Handled);
    }
    for (owner, bytes) in std::mem::take(&mut world.scripted.connection.passed_on) {
        let packet = Packet::parse(Generation::Modern, &bytes).unwrap();
        let mut context = other.mailed(Timestamp::default(), owner, from(NODE_2));
        let verdict = gates[owner.index()].handle(&mut context, &packet);
        assert_eq!(verdict, Verdict::Handled);
    }
    assert_eq!(session.sum(|words| &words.applied), 50);
    assert_eq!(counts(&session), (8, 50, false));
    let records = gates.iter().map(|gate| gate.replica().len());
    assert_eq!(records.sum::<usize>(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Valid in its header and, often, in its ids; the rest is anything.
    #[test]
    fn any_bytes_end_in_a_verdict(
        name in prop_oneof![Just("clusterer-internal"), Just("clusterer-extra"), Just("clusterer")],
        command in prop_oneof![0..14, any::<i32>()],
        version in 0..4_i16,
        ids in prop_oneof![Just([1, 2]), Just([1, 9]), any::<[i32; 2]>()],
        rest in proptest::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..120),
        routed in any::<bool>(),
    ) {
        let mut world = World::new();
        let session = held_session(&world);
        let mut buffer = [0; 512];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, name.as_bytes(), command, version).unwrap();
        if name == "clusterer-internal" {
            builder.push_int(ids[0]).unwrap();
            builder.push_int(ids[1]).unwrap();
        } else if command == 11 {
            builder.push_str(CAPABILITY.as_bytes()).unwrap();
            builder.push_int(1).unwrap();
        }
        builder.append(&rest).unwrap();
        if routed {
            builder.push_trailer(Trailer::new(ids[0], ids[1], 1)).unwrap();
        }
        let bytes = builder.seal().to_vec();
        let verdict = world.take(NODE_2, &bytes);
        prop_assert!(verdict != Verdict::Held);
        let received = world.received().len();
        prop_assert!(received <= 1 && (received == 0 || verdict == Verdict::Handled));
        let (_, cut, _) = counts(&session);
        prop_assert_eq!(cut == 0, world.scripted.connection.passed_on.is_empty());
    }
}
