//! What handlers may do where a packet is cut: answer, and hand on what they made.

use super::owners::key_of;
use super::*;
use crate::dispatch::NameId;
use crate::dispatch::handler::{self, Handler};
use std::any::Any;

const DOOR: &[u8] = b"clusterer-extra";

/// The connection of each packet that a door saw.
type Connections = Arc<Mutex<Vec<Option<u64>>>>;

/// Hands on a part of each packet to every owner, and answers with the packet's own first string.
fn with_door(connections: &Connections) -> Registry {
    let mut registry = Registry::new();
    let connections = Arc::clone(connections);
    let door = move |_| {
        let connections = Arc::clone(&connections);
        move |context: &mut Context<'_>, packet: &Packet<'_>| {
            let first = packet.fields().pop_str().unwrap().to_vec();
            connections.lock().unwrap().push(context.connection());
            for owner in (0..context.owners()).map(ShardId) {
                let part = part(&first, owner);
                assert!(context.pass_on(owner, &part), "{owner}");
            }
            context.answer(&first);
            Verdict::Handled
        }
    };
    registry.register(DOOR, door).unwrap();
    registry
}

/// A part, about a record of `owner`.
fn part(first: &[u8], owner: ShardId) -> Vec<u8> {
    let strings = [first, &key_of(owner.0)[..]];
    packet_of(Generation::Modern, NAMES[0], 101, 4, &strings)
}

fn whole(first: &[u8]) -> Vec<u8> {
    packet_of(Generation::Modern, DOOR, 1, 1, &[first])
}

/// A live packet about a record of `owner`, with a string to know it by.
fn live(first: &[u8], owner: u16, len: usize) -> Vec<u8> {
    let strings = [first, &key_of(owner)[..], &vec![b'x'; len]];
    packet_of(Generation::Modern, NAMES[0], 3, 4, &strings)
}

/// The first strings that a shard's handlers saw.
fn seen_by(cluster: &Cluster, shard: u16) -> Vec<Vec<u8>> {
    let seen = cluster.seen.lock().unwrap();
    let seen = seen.iter().filter(|(by, ..)| *by == shard);
    seen.map(|(.., first)| first.clone()).collect()
}

#[test]
fn what_a_handler_hands_on_takes_its_place_among_the_packets_of_its_connection() {
    for readers in [0, 1] {
        let registry = with_door(&Connections::default());
        let mut cluster = Cluster::with(2, readers, &StreamLimits::default(), registry);
        let wire = cluster.connect("10.0.0.1");
        let mut expected = Vec::new();
        for n in 0..20_u8 {
            let (before, part) = ([n, 0], [n, 1]);
            wire.send([live(&before, 0, 9), live(&before, 1, 9), whole(&part)].concat());
            expected.extend([before.to_vec(), part.to_vec()]);
        }
        cluster.turn_all(30);
        for owner in 0..2 {
            assert_eq!(seen_by(&cluster, owner), expected, "{readers} readers");
        }
        let totals = cluster.stop();
        assert!(totals.is_balanced(), "{totals:?}");
        assert_eq!((totals.total.received, totals.total.made), (60, 40));
        assert_eq!(totals.total.outcome(Outcome::Handled), 100);
    }
}

#[test]
fn what_a_handler_hands_on_waits_behind_what_waits_and_is_told_if_it_is_lost() {
    let registry = with_door(&Connections::default());
    let mut cluster = Cluster::with(2, 1, &StreamLimits::default(), registry);
    let wire = cluster.connect("10.0.0.1");
    // More than the ring of shard 1 takes, which stands still.
    for n in 0..40_u8 {
        wire.send(live(&[n], 1, 30_000));
    }
    wire.send(whole(b"part"));
    wire.send(live(b"last", 1, 9));
    for _ in 0..60 {
        cluster.turn(2, 1);
        cluster.turn(0, 1);
    }
    assert_eq!(
        seen_by(&cluster, 0),
        [b"part".to_vec()],
        "held up by nobody"
    );
    assert!(cluster.snapshot().streams.total.spilled > 3);
    cluster.turn_all(40);
    let seen = seen_by(&cluster, 1);
    let expected = (0..40).map(|n| vec![n]);
    let expected: Vec<_> = expected
        .chain([b"part".to_vec(), b"last".to_vec()])
        .collect();
    assert_eq!(seen, expected);
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.total.made, 2);
}

#[test]
fn nothing_is_handed_on_that_is_no_packet_or_has_no_owner_or_comes_without_a_connection() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let mut registry = Registry::new();
    let (at_door, at_owner) = (Arc::clone(&refused), Arc::clone(&refused));
    let door = move |_| {
        let refused = Arc::clone(&at_door);
        move |context: &mut Context<'_>, _: &Packet<'_>| {
            let (owners, whole) = (context.owners(), whole(b"x"));
            let tries = [
                context.pass_on(ShardId(owners), &whole),
                context.pass_on(ShardId(0), &[]),
                context.pass_on(ShardId(0), &vec![0; 70_000]),
            ];
            refused.lock().unwrap().extend(tries);
            let made = packet_of(Generation::Modern, b"made", 1, 1, &[]);
            assert!(context.pass_on(ShardId(0), &made));
            assert!(context.pass_on(ShardId(1), &made));
            Verdict::Handled
        }
    };
    let owner = move |_| {
        let refused = Arc::clone(&at_owner);
        move |context: &mut Context<'_>, _: &Packet<'_>| {
            assert_eq!(context.connection(), None);
            assert_eq!(context.owner_of_key(&key_of(1)), ShardId(1));
            let tries = [
                context.pass_on(ShardId(0), &whole(b"x")),
                context.answer(b"x"),
            ];
            refused.lock().unwrap().extend(tries);
            Verdict::Handled
        }
    };
    registry.register(DOOR, door).unwrap();
    registry.register(b"made", owner).unwrap();
    let mut cluster = Cluster::with(2, 0, &StreamLimits::default(), registry);
    cluster.connect("10.0.0.1").send(whole(b"x"));
    cluster.turn_all(4);
    assert_eq!(*refused.lock().unwrap(), [false; 7]);
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!((totals.total.made, totals.total.send_refused), (2, 0));
}

#[test]
fn answers_go_out_on_the_connection_that_asked_and_each_connection_has_its_own_number() {
    let connections = Connections::default();
    let mut cluster = Cluster::with(1, 1, &StreamLimits::default(), with_door(&connections));
    let first = cluster.connect_with("10.0.0.1", whole(b"early"));
    cluster.turn_all(2);
    assert_eq!(first.written(), b"early");
    let second = cluster.connect("10.0.0.1");
    second.send(whole(b"second"));
    first.send([whole(b"one"), whole(b"two")].concat());
    cluster.turn_all(2);
    assert_eq!(first.written(), b"earlyonetwo");
    assert_eq!(second.written(), b"second");
    first.push(Piece::End);
    cluster.turn_all(2);
    // In the place of the first one, and yet another one.
    cluster.connect("10.0.0.1").send(whole(b"third"));
    cluster.turn_all(2);
    let numbers: Vec<_> = connections
        .lock()
        .unwrap()
        .iter()
        .flatten()
        .copied()
        .collect();
    let [early, one, two, second, third] = numbers[..] else {
        panic!("{numbers:?}")
    };
    assert!(early == one && one == two && two != second);
    assert!(!numbers.contains(&0), "that is for none: {numbers:?}");
    assert!(third != one && third != second);
    let totals = cluster.stop();
    assert!(totals.is_balanced(), "{totals:?}");
    let total = &totals.total;
    assert_eq!(
        (total.sent, total.send_failures, total.send_refused),
        (5, 0, 0)
    );
}

#[test]
fn a_peer_that_does_not_read_is_answered_up_to_a_bound_and_what_it_misses_is_counted() {
    let registry = with_door(&Connections::default());
    let mut cluster = Cluster::with(1, 0, &StreamLimits::default(), registry);
    let wire = cluster.connect("10.0.0.1");
    wire.take_only(Some(1500));
    let answer = [b'a'; 1000];
    (0..10).for_each(|_| wire.send(whole(&answer)));
    cluster.turn_all(12);
    let total = cluster.snapshot().total;
    assert_eq!((total.sent, total.send_failures), (1, 0));
    assert!(total.send_refused > 0);
    // It reads again: what waits goes on with what it sends next.
    wire.take_only(Some(3500));
    wire.send(whole(&answer));
    cluster.turn_all(2);
    assert_eq!(wire.written().len(), 3500);
    wire.push(Piece::End);
    cluster.turn_all(2);
    let totals = cluster.stop();
    let total = &totals.total;
    assert_eq!(total.sent, 3);
    assert_eq!(total.sent + total.send_failures + total.send_refused, 11);
    assert!(total.send_failures > 0 && totals.is_balanced());
}

/// Writes down what it is told.
struct Told(Arc<Mutex<Vec<(u16, u32)>>>);

impl Handler for Told {
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        self.0.lock().unwrap().push((u16::MAX, 0));
        Verdict::Handled
    }

    fn tell(&mut self, context: &mut Context<'_>, message: Box<dyn Any + Send>) {
        assert_eq!(
            (context.connection(), context.origin()),
            (None, &Origin::Process)
        );
        let number = *message.downcast::<u32>().unwrap();
        self.0.lock().unwrap().push((context.shard().0, number));
    }
}

#[test]
fn messages_are_told_one_in_each_turn_and_packets_have_theirs_in_between() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut registry = Registry::new();
    let log = Arc::clone(&told);
    let name: NameId = registry
        .register(b"told", move |_| Told(Arc::clone(&log)))
        .unwrap();
    let other = registry.register(b"deaf", |_| {
        |_: &mut Context<'_>, _: &Packet<'_>| Verdict::Handled
    });
    let mut cluster = Cluster::with(1, 0, &StreamLimits::default(), registry);
    let wire = cluster.connect("10.0.0.1");
    cluster.turn(0, 1);
    let desk = Arc::clone(&cluster.handles[0].desk);
    let tell = |number: u32| desk.tell(name, Box::new(number));
    assert!((0..3).all(|number| tell(number) == handler::Told::Taken));
    // Who expects none drops it.
    let unread = desk.tell(other.unwrap(), Box::new("nobody reads this"));
    assert_eq!(unread, handler::Told::Taken);
    (0..3).for_each(|_| wire.send(packet_of(Generation::Modern, b"told", 1, 1, &[])));
    cluster.turn(0, 5);
    let packet = (u16::MAX, 0);
    let expected = [(0, 0), packet, (0, 1), packet, (0, 2), packet];
    assert_eq!(*told.lock().unwrap(), expected);
    // What was taken is told before the shard ends, and nothing is taken behind that.
    assert!((3..9).all(|number| tell(number) == handler::Told::Taken));
    let totals = cluster.stop();
    assert_eq!(told.lock().unwrap().len(), 12);
    assert_eq!(tell(9), handler::Told::Ended);
    assert!(
        totals.is_balanced() && totals.total.busy_ns == 0,
        "the clock stands still"
    );
}

#[test]
fn a_shard_that_hangs_is_told_a_bounded_number_of_messages() {
    let mut registry = Registry::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let name = registry
        .register(b"told", move |_| Told(Arc::clone(&log)))
        .unwrap();
    let mut cluster = Cluster::with(1, 0, &StreamLimits::default(), registry);
    let desk = Arc::clone(&cluster.handles[0].desk);
    let tell = |number: u32| desk.tell(name, Box::new(number));
    let taken = (0..5000).take_while(|number| tell(*number) == handler::Told::Taken);
    let taken = taken.count();
    assert!((100..5000).contains(&taken), "{taken}");
    assert_eq!(tell(0), handler::Told::Full);
    cluster.turn(0, 1);
    assert_eq!(tell(0), handler::Told::Taken, "it goes on");
    assert!(cluster.stop().is_balanced());
    assert_eq!(tell(0), handler::Told::Ended);
}
