use super::hold::PIECE;
use super::*;
use crate::access::Cidr;
use crate::cluster::inbox::Incoming;
use crate::cluster::replica::{Cursor, Ended, Withheld};
use crate::cluster::roster::{Heard, RosterCluster, RosterNode};
use crate::cluster::session::SyncEnd;
use crate::dispatch::handler::Ends;
use crate::dispatch::scripted::Scripted;
use binrush_wire::{Builder, Chunk, ErrorKind, Release, WireError};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

/// What is held, and how it goes on.
mod holding;
/// Any order of packets and orders.
mod model;

const CAPABILITY: &str = "dialog-dlg-repl";
const US: [u8; 4] = [10, 0, 0, 1];
const NODE_2: [u8; 4] = [10, 0, 0, 2];
const NODE_3: [u8; 4] = [10, 0, 0, 3];
const NO_ROOM: i32 = i32::MIN;
const UNKNOWN: i32 = i32::MIN + 1;
const SESSION: u64 = 0xFEED_FACE_CAFE_BEEF;

/// What a gate did to its replica, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Did {
    /// The number in the packet.
    Applied(i32),
    Chunk(Vec<u8>),
    Begun,
    Ended(SyncEnd),
}

#[derive(Debug, Default)]
struct Diary {
    did: Vec<Did>,
    /// How its caller sees packets: the node and the arrival of the last one.
    last: Option<(i32, Timestamp)>,
    /// Pieces that the end of a sync takes beside the first.
    more_pieces: u64,
    /// When it had its turns.
    turns: Vec<Timestamp>,
    /// What it was asked that the gate does not know.
    asked: Vec<Box<dyn Any + Send>>,
}

impl Replica for Diary {
    /// There is no room for [`NO_ROOM`], and nobody knows [`UNKNOWN`].
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let number = packet.fields().pop_int().unwrap_or(-1);
        self.did.push(Did::Applied(number));
        self.last = Some((source.node, source.now));
        match number {
            NO_ROOM => Verdict::Refused(Refusal::NoRoom),
            UNKNOWN => Verdict::UnknownCommand,
            _ => Verdict::Handled,
        }
    }

    /// `bad` is a wrong chunk.
    fn apply_chunk(&mut self, _: &Source, _: i32, chunk: &Chunk<'_>) -> Result<(), WireError> {
        if chunk.data == b"bad" {
            return Err(WireError::new(ErrorKind::End, chunk.at, 1, 0));
        }
        self.did.push(Did::Chunk(chunk.data.to_vec()));
        Ok(())
    }

    /// The first two times there is more to do.
    fn turn(&mut self, now: Timestamp) -> bool {
        self.turns.push(now);
        self.turns.len() <= 2
    }

    fn ask(&mut self, _: Timestamp, message: Box<dyn Any + Send>) {
        self.asked.push(message);
    }

    fn sync_begins(&mut self, _: Timestamp) {
        self.did.push(Did::Begun);
    }

    fn sync_ends(&mut self, _: Timestamp, end: SyncEnd, from: Cursor) -> Ended {
        self.did.push(Did::Ended(end));
        let next = (from.0 < self.more_pieces).then_some(Cursor(from.0 + 1));
        Ended {
            next,
            removed: 7,
            spared: 2,
        }
    }

    fn walk(&self, from: Cursor, _: Release, bytes: usize, each: &mut dyn FnMut(&[u8])) -> Walked {
        assert_eq!(bytes, 100);
        [&b"one"[..], b"", b"three"].into_iter().for_each(each);
        Walked {
            next: (from.0 < 5).then_some(Cursor(from.0 + 1)),
            left_out: 0,
            withheld: Withheld {
                no_socket: 2,
                ..Withheld::default()
            },
        }
    }

    fn data_version(&self, release: Release) -> Option<i32> {
        (release >= Release::V3_1).then_some(4)
    }

    fn len(&self) -> usize {
        self.did.len()
    }
}

#[derive(Debug, Default)]
struct Letters {
    slices: Mutex<Vec<Slice>>,
    moved: AtomicU64,
    missed: AtomicU64,
}

impl Inbox for Letters {
    fn message(&self, _: Incoming) -> bool {
        unreachable!("gates take no messages")
    }

    fn slice(&self, slice: Slice) {
        self.slices.lock().unwrap().push(slice);
    }

    fn session_moved(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    fn record_missed(&self, cluster: i32, capability: &str) {
        assert_eq!((cluster, capability), (1, CAPABILITY));
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
}

/// A gate of shard 0, and the world around it.
struct World {
    gate: Gate<Diary>,
    board: Arc<Board>,
    letters: Arc<Letters>,
    scripted: Scripted,
    now: Timestamp,
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

fn cluster() -> RosterCluster {
    RosterCluster {
        id: 1,
        me: 1,
        nodes: vec![
            node(2, NODE_2, true),
            node(3, NODE_3, true),
            node(4, [10, 0, 0, 4], false),
        ],
        capabilities: vec![CAPABILITY.into()],
        sessions: Vec::new(),
        learn: vec![Cidr::new([10, 0, 9, 0].into(), 24).unwrap()],
        heard: Arc::new(Heard::new()),
    }
}

fn packet(number: i32, len: usize, trailer: Trailer) -> Vec<u8> {
    let mut buffer = vec![0; len + 64];
    let name = CAPABILITY.as_bytes();
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 1, 4).unwrap();
    builder.push_int(number).unwrap();
    builder.append(&vec![b'x'; len]).unwrap();
    builder.push_trailer(trailer).unwrap();
    builder.seal().to_vec()
}

fn part(session: u64, donor: i32, chunks: &[&[u8]]) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut builder = Part::begin(&mut buffer, CAPABILITY.as_bytes(), 4, session).unwrap();
    chunks
        .iter()
        .for_each(|chunk| builder.push_chunk(chunk).unwrap());
    Part::end(builder, Trailer::new(1, donor, 1))
        .unwrap()
        .to_vec()
}

fn from(ip: [u8; 4]) -> Origin {
    Origin::Stream {
        ends: Ends::new((ip, 40_000).into(), None),
        generation: Generation::Modern,
        release: None,
    }
}

impl World {
    fn new(hold_bytes: usize) -> Self {
        let (board, letters) = (Arc::new(Board::default()), Arc::new(Letters::default()));
        board.show(cluster());
        let inbox: Arc<dyn Inbox> = Arc::clone(&letters) as Arc<dyn Inbox>;
        let gate = Gate::new(
            ShardId(0),
            1,
            CAPABILITY,
            Arc::clone(&board),
            inbox,
            hold_bytes,
            Diary::default(),
        );
        Self {
            gate,
            board,
            letters,
            scripted: Scripted::new(2),
            now: Timestamp::from_nanos(1_000_000_000),
        }
    }

    fn take(&mut self, origin: Origin, bytes: &[u8]) -> Verdict {
        let packet = Packet::parse(Generation::Modern, bytes).unwrap();
        let mut context = self.scripted.mailed(self.now, ShardId(0), origin);
        self.gate.handle(&mut context, &packet)
    }

    fn live(&mut self, number: i32) -> Verdict {
        self.take(from(NODE_2), &packet(number, 100, Trailer::new(1, 2, 1)))
    }

    fn tell(&mut self, message: Box<dyn Any + Send>) {
        let mut context = self.scripted.mailed(self.now, ShardId(0), Origin::Process);
        self.gate.tell(&mut context, message);
    }

    fn hold(&mut self, session: &Arc<Session>) {
        self.tell(Box::new(GateOrder::Hold(Arc::clone(session))));
    }

    fn release(&mut self, session: &Arc<Session>, end: SyncEnd) {
        self.tell(Box::new(GateOrder::Release(Arc::clone(session), end)));
    }

    /// Bytes that are taken for what is held.
    fn held_memory(&self) -> usize {
        self.gate.hold.as_ref().map_or(0, Hold::memory)
    }

    fn did(&self) -> &[Did] {
        &self.gate.replica.did
    }

    /// The numbers that were applied, without what else was done.
    fn applied(&self) -> Vec<i32> {
        let number = |did: &Did| match did {
            Did::Applied(number) => Some(*number),
            _ => None,
        };
        self.did().iter().filter_map(number).collect()
    }
}

fn session() -> Arc<Session> {
    Arc::new(Session::new(SESSION, 1, CAPABILITY, 2, 1))
}

fn count(word: &AtomicU64) -> u64 {
    word.load(Ordering::Acquire)
}

const COMPLETED: SyncEnd = SyncEnd::Completed {
    remove_unconfirmed: true,
};

#[test]
fn each_refusal_has_its_reason() {
    let mut world = World::new(1 << 20);
    let mut refused = |ip, trailer| match world.take(from(ip), &packet(1, 0, trailer)) {
        Verdict::Refused(refusal) => Some(refusal),
        Verdict::Handled => None,
        other => panic!("{other:?}"),
    };
    let to = Trailer::new;
    assert_eq!(refused(NODE_2, to(1, 2, 1)), None);
    assert_eq!(
        refused(NODE_2, to(1, 3, 1)),
        None,
        "another node forwarded it"
    );
    assert_eq!(refused(NODE_2, to(9, 2, 1)), Some(Refusal::UnknownCluster));
    assert_eq!(refused(NODE_2, to(1, 1, 1)), Some(Refusal::OwnId));
    assert_eq!(refused(NODE_2, to(1, 7, 1)), Some(Refusal::UnknownNode));
    assert_eq!(refused(US, to(1, 2, 1)), Some(Refusal::ForeignAddress));
    assert_eq!(refused([10, 0, 0, 4], to(1, 4, 1)), Some(Refusal::Disabled));
    assert_eq!(refused(NODE_2, to(1, 2, 3)), Some(Refusal::NotForUs));
    let bridged = Trailer {
        bridged_from: Some(5),
        ..to(1, 2, Trailer::BRIDGE)
    };
    assert_eq!(refused(NODE_2, bridged), Some(Refusal::NotForUs));
    assert_eq!(world.applied(), [1, 1]);
}

#[test]
fn a_capability_that_is_not_enabled_and_a_cluster_that_is_gone_are_refused_at_once() {
    let mut world = World::new(1 << 20);
    assert_eq!(world.live(1), Verdict::Handled);
    world.board.show(RosterCluster {
        capabilities: Vec::new(),
        ..cluster()
    });
    assert_eq!(world.live(2), Verdict::Refused(Refusal::Disabled));
    world.board.show(RosterCluster {
        me: 8,
        nodes: vec![node(3, NODE_3, true), node(2, NODE_2, true)],
        ..cluster()
    });
    assert_eq!(world.live(3), Verdict::Refused(Refusal::NotForUs));
    world.board.show(RosterCluster {
        nodes: vec![node(3, NODE_3, true)],
        ..cluster()
    });
    assert_eq!(world.live(4), Verdict::Refused(Refusal::UnknownNode));
    world.board.show(cluster());
    assert_eq!(world.live(5), Verdict::Handled);
    assert_eq!(world.applied(), [1, 5]);
}

#[test]
fn packets_from_before_2_4_belong_to_no_cluster() {
    let mut world = World::new(1 << 20);
    let bytes = packet(1, 0, Trailer::new(1, 2, 1));
    let refused = Verdict::Refused(Refusal::UnknownCluster);
    assert_eq!(world.take(Origin::Datagram(None), &bytes), refused);
    let mut buffer = [0; 64];
    let generation = Generation::Transitional;
    let mut builder = Builder::new(generation, &mut buffer, CAPABILITY.as_bytes(), 1, 4).unwrap();
    let old = Packet::parse(generation, builder.seal()).unwrap();
    let mut context = world.scripted.mailed(world.now, ShardId(0), from(NODE_2));
    assert_eq!(world.gate.handle(&mut context, &old), refused);
    assert_eq!(world.did(), []);
}

#[test]
fn a_packet_cut_short_anywhere_is_refused_with_its_place() {
    let mut world = World::new(1 << 20);
    for whole in [
        packet(1, 30, Trailer::new(1, 2, 1)),
        part(SESSION, 2, &[b"one", b"two"]),
    ] {
        let body = 10 + 2 + CAPABILITY.len() + 4;
        for len in body..whole.len() {
            let mut bytes = whole[..len].to_vec();
            bytes[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
            match world.take(from(NODE_2), &bytes) {
                Verdict::Field(error) => {
                    assert_eq!((error.kind, error.at), (ErrorKind::Trailer, body));
                    assert!(len < body + 12);
                }
                // Twelve bytes that are no ids.
                Verdict::Refused(Refusal::UnknownCluster | Refusal::UnknownNode) => {}
                other => panic!("{len}: {other:?}"),
            }
        }
    }
    assert_eq!(world.did(), []);
}

#[test]
fn only_what_comes_from_its_own_address_says_that_a_node_is_heard() {
    let mut world = World::new(1 << 20);
    let cluster = cluster();
    let heard = Arc::clone(&cluster.heard);
    world.board.show(cluster);
    assert_eq!(
        world.take(from(NODE_3), &packet(1, 0, Trailer::new(1, 2, 1))),
        Verdict::Handled
    );
    assert_eq!(heard.last(2), Timestamp::default());
    assert_eq!(world.live(2), Verdict::Handled);
    assert_eq!(
        (heard.last(2), heard.last(3)),
        (world.now, Timestamp::default())
    );
}

#[test]
fn parts_of_another_session_or_from_another_node_do_nothing() {
    let mut world = World::new(1 << 20);
    let session = session();
    let refused = Verdict::Refused(Refusal::UnexpectedSync);
    let right = part(SESSION, 2, &[b"one"]);
    assert_eq!(world.take(from(NODE_2), &right), refused, "before");
    world.hold(&session);
    for id in [0, SESSION + 1, SESSION.swap_bytes(), SESSION ^ (1 << 63)] {
        assert_eq!(world.take(from(NODE_2), &part(id, 2, &[b"one"])), refused);
    }
    assert_eq!(
        world.take(from(NODE_3), &part(SESSION, 3, &[b"one"])),
        refused
    );
    assert_eq!(world.did(), [Did::Begun]);
    assert_eq!(world.take(from(NODE_2), &right), Verdict::Handled);
    world.release(&session, COMPLETED);
    assert_eq!(world.take(from(NODE_2), &right), refused, "after");
    assert_eq!(count(&session.shards[0].applied), 1);
}

#[test]
fn a_chunk_that_the_replica_refuses_is_counted_and_the_others_are_taken() {
    let mut world = World::new(1 << 20);
    let session = session();
    world.hold(&session);
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"one", b"bad", b"two"]));
    assert!(matches!(took, Verdict::Field(error) if error.kind == ErrorKind::End));
    let words = &session.shards[0];
    assert_eq!((count(&words.applied), count(&words.failed)), (2, 1));
    let chunks = [Did::Chunk(b"one".into()), Did::Chunk(b"two".into())];
    assert_eq!(&world.did()[1..], chunks);
}

#[test]
fn orders_that_are_for_another_gate_do_nothing() {
    let mut world = World::new(1 << 20);
    for other in [
        Session::new(SESSION, 2, CAPABILITY, 2, 1),
        Session::new(SESSION, 1, "usrloc-contact-repl", 2, 1),
        Session::new(SESSION, 1, CAPABILITY, 2, 0),
    ] {
        let other = Arc::new(other);
        world.hold(&other);
        world.release(&other, COMPLETED);
        assert!(other.shards.is_empty() || !other.is_held() && !other.is_released());
    }
    world.tell(Box::new("no order at all"));
    assert_eq!(world.did(), []);
}

#[test]
fn who_waits_for_a_gate_that_holds_nothing_does_not_wait_for_ever() {
    let mut world = World::new(1 << 20);
    let never_held = session();
    world.release(&never_held, COMPLETED);
    assert!(never_held.is_released());
    assert_eq!(world.did(), []);
}

#[test]
fn a_second_session_takes_over_what_the_first_one_held() {
    let mut world = World::new(1 << 20);
    let (first, second) = (session(), Arc::new(Session::new(9, 1, CAPABILITY, 3, 1)));
    world.hold(&first);
    assert_eq!(world.live(1), Verdict::Held);
    world.hold(&second);
    assert!(first.is_released() && second.is_held());
    assert_eq!(world.live(2), Verdict::Held);
    // Twice is once.
    world.hold(&second);
    assert_eq!(
        world.take(from(NODE_3), &part(9, 3, &[b"new"])),
        Verdict::Handled
    );
    world.release(&first, COMPLETED);
    assert!(!second.is_released());
    world.release(&second, COMPLETED);
    assert_eq!(
        world.did(),
        [
            Did::Begun,
            Did::Ended(SyncEnd::Abandoned),
            Did::Begun,
            Did::Chunk(b"new".into()),
            Did::Applied(1),
            Did::Applied(2),
            Did::Ended(COMPLETED),
        ]
    );
}

#[test]
fn a_slice_has_chunks_as_they_stand_in_a_sync_packet() {
    let mut world = World::new(1 << 20);
    let request = |from, release| SliceRequest {
        cluster: 1,
        donation: 77,
        from: Cursor(from),
        bytes: 100,
        release,
    };
    assert_eq!(
        (world.live(1), world.live(2)),
        (Verdict::Handled, Verdict::Handled)
    );
    world.tell(Box::new(request(3, Release::V3_6)));
    world.tell(Box::new(request(5, Release::V3_1)));
    world.tell(Box::new(request(0, Release::V2_4)));
    let slices = std::mem::take(&mut *world.letters.slices.lock().unwrap());
    let [first, last, none] = &slices[..] else {
        panic!("{slices:?}")
    };
    assert_eq!((first.next, first.data_version), (Some(Cursor(4)), Some(4)));
    assert_eq!((first.cluster, first.donation, first.shard), (1, 77, 0));
    let fields = binrush_wire::Fields::new(Generation::Modern, &first.chunks, 0);
    let chunks: Vec<_> = binrush_wire::Chunks::new(fields)
        .map(|chunk| chunk.unwrap().data)
        .collect();
    assert_eq!(
        chunks,
        [&b"one"[..], b"three"],
        "an empty one cannot be told"
    );
    assert_eq!(first.ends, [11, 24]);
    assert_eq!((last.next, last.chunks.len()), (None, 24));
    assert_eq!(
        (none.data_version, none.chunks.len(), none.next),
        (None, 0, None)
    );
    assert!(
        slices[..2]
            .iter()
            .all(|slice| slice.withheld.no_socket == 2)
    );
    let left_out = slices.iter().map(|slice| slice.left_out);
    assert_eq!(
        left_out.collect::<Vec<_>>(),
        [1, 1, 2],
        "that empty one, and all"
    );
}

#[test]
fn turns_and_what_the_gate_does_not_know_are_for_the_replica() {
    let mut world = World::new(1000);
    let at = |ms: u64| Timestamp::from_nanos(ms * 1_000_000);
    let more = [100, 101, 102].map(|ms| world.gate.turn(at(ms)));
    assert_eq!(more, [true, true, false]);
    world.tell(Box::new("who is there?"));
    // While a sync is under way, too.
    let session = Arc::new(Session::new(SESSION, 1, CAPABILITY, 2, 1));
    world.hold(&session);
    assert!(!world.gate.turn(at(200)));
    world.tell(Box::new(7_u16));
    let diary = world.gate.replica();
    assert_eq!(diary.turns, [100, 101, 102, 200].map(at));
    let [text, number] = &diary.asked[..] else {
        panic!("orders are the gate's own: {:?}", diary.asked)
    };
    assert!(text.is::<&str>() && number.is::<u16>());
}
