use super::*;
use crate::dispatch::front::Front;
use crate::dispatch::handler::{Context, Handler, Origin, ShardId, Verdict};
use crate::dispatch::registry::Registry;
use crate::event::{Event, Param};
use crate::script::{Events, Host, Level, NoFunctions, Program, Script, Scripts};
use crate::shard::tests::{packet, parts};
use crate::shard::{Life, Parts, WAIT};
use crate::steering::Steering;
use crate::telemetry::ledger::Ledger;
use binrush_net::{Batch, Bell, Slab};
use binrush_wire::Packet;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Nanoseconds that pass by what is done, and not by being read.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn pass(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }

    fn shows(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for Hand {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.shows())
    }

    fn sleep(&mut self, duration: Duration) {
        self.pass(u64::try_from(duration.as_nanos()).unwrap());
    }
}

/// Brings a packet at each of these times, and asks for the end at `until`.
struct Timed<'l> {
    hand: Hand,
    arrivals: VecDeque<u64>,
    until: u64,
    life: &'l Life,
    /// How long each sleep was to be.
    waits: Vec<Duration>,
}

impl RxQueue for Timed<'_> {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        self.hand.pass(RECEIVE_NS);
        let now = self.hand.shows();
        if now >= self.until {
            self.life.stop();
        }
        if self.arrivals.front().is_some_and(|at| *at <= now) {
            self.arrivals.pop_front();
            let (bytes, frame) = (packet(b"ul", 1), slab.take().expect("released"));
            slab.frame_mut(&frame)[..bytes.len()].copy_from_slice(&bytes);
            batch.push(frame, u32::try_from(bytes.len()).unwrap(), false);
        }
        Ok(())
    }

    fn wait(queues: &mut [Self], _: Option<RawFd>, _: &Bell, most: Duration) -> io::Result<()> {
        let queue = &mut queues[0];
        queue.waits.push(most);
        let most = u64::try_from(most.as_nanos()).unwrap();
        let arrival = queue.arrivals.front().copied().unwrap_or(u64::MAX);
        let left = arrival.saturating_sub(queue.hand.shows());
        queue.hand.pass(most.min(left));
        Ok(())
    }

    fn disarm(&mut self, _: &mut Slab) {}

    fn queued_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Turn,
    Packet,
}

/// By name: when, and what.
type Log = Arc<Mutex<Vec<(&'static str, u64, What)>>>;

/// Needs some turns for what it does, each of which takes its time.
struct Busy {
    name: &'static str,
    hand: Hand,
    log: Log,
    /// How often it says that there is more.
    more: u32,
    took_ns: u64,
}

impl Busy {
    fn note(&self, what: What) {
        let entry = (self.name, self.hand.shows(), what);
        self.log.lock().unwrap().push(entry);
    }
}

impl Handler for Busy {
    fn handle(&mut self, _: &mut Context<'_>, _: &Packet<'_>) -> Verdict {
        self.note(What::Packet);
        Verdict::Handled
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        assert_eq!(now.as_nanos(), self.hand.shows());
        self.note(What::Turn);
        self.hand.pass(self.took_ns);
        let has_more = self.more > 0;
        self.more = self.more.saturating_sub(1);
        has_more
    }
}

impl Front for Busy {
    fn admits(&mut self, _: &Origin, _: &Packet<'_>) -> bool {
        true
    }

    fn turn(&mut self, clock: &mut dyn FnMut() -> Timestamp) -> bool {
        Handler::turn(self, clock())
    }
}

/// A shard's life of some milliseconds.
struct Lived {
    log: Vec<(&'static str, u64, What)>,
    waits: Vec<Duration>,
    ledger: Arc<Ledger>,
}

impl Lived {
    /// Times of the turns of `name`, in milliseconds.
    fn turns(&self, name: &str) -> Vec<u64> {
        let of = self.log.iter();
        of.filter(|(of, _, what)| *of == name && *what == What::Turn)
            .map(|(_, at, _)| at / MS)
            .collect()
    }
}

/// Lets a shard live for `until_ms`, with a packet at each of `arrivals`, and handlers: their names, how often each says that it
/// has more to do, how many nanoseconds a turn takes it. What is called [`FRONT`] stands in front of the others. Shard 0 owns all records, any other reads.
fn live(
    until_ms: u64,
    arrivals: impl IntoIterator<Item = u64>,
    handlers: &[(&'static str, u32, u64)],
    shard: ShardId,
) -> Lived {
    let (hand, registry) = (Hand::default(), Registry::new());
    live_with(hand, registry, until_ms, arrivals, handlers, shard)
}

/// Likewise, with what is in `registry` already; by `hand`, time passes.
fn live_with(
    hand: Hand,
    mut registry: Registry,
    until_ms: u64,
    arrivals: impl IntoIterator<Item = u64>,
    handlers: &[(&'static str, u32, u64)],
    shard: ShardId,
) -> Lived {
    let (log, life) = (Log::default(), Life::new(1));
    for (name, more, took_ns) in handlers.iter().copied() {
        let (hand, log) = (hand.clone(), Arc::clone(&log));
        let make = move |_| Busy {
            name,
            hand: hand.clone(),
            log: Arc::clone(&log),
            more,
            took_ns,
        };
        match name {
            FRONT => registry.front(move |shard| Some(Box::new(make(shard)))),
            _ => drop(registry.register(name.as_bytes(), make).unwrap()),
        }
    }
    let queue = Timed {
        hand: hand.clone(),
        arrivals: arrivals.into_iter().collect(),
        until: until_ms * MS,
        life: &life,
        waits: Vec::new(),
    };
    let parts = Parts {
        id: shard,
        steering: Steering::new(1, 0),
        ..parts(queue, hand, &registry)
    };
    let (mut shard, ledger) = Shard::new(parts);
    shard.run(&life).unwrap();
    let waits = std::mem::take(&mut shard.queues[0].waits);
    drop(shard);
    let log = std::mem::take(&mut *log.lock().unwrap());
    Lived { log, waits, ledger }
}

#[test]
fn turns_come_ten_times_a_second_to_a_shard_that_sleeps() {
    let lived = live(1050, [], &[("dialog", 0, 0), ("ul", 0, 0)], ShardId(0));
    for name in ["dialog", "ul"] {
        let turns = lived.turns(name);
        assert_eq!(turns.len(), 10, "{turns:?}");
        for (n, at) in (1..).zip(turns) {
            assert!((100 * n..100 * n + 2).contains(&at), "{n}: {at}");
        }
    }
    // It sleeps no more often than it would without: both have their turns at one waking.
    assert!(lived.waits.len() <= 33, "{:?}", lived.waits);
    assert!(lived.waits.iter().all(|most| *most <= WAIT));
}

#[test]
fn turns_come_to_a_shard_that_never_sleeps_and_each_goes_behind_a_batch() {
    let arrivals = (0..).map(|n| n * 10_000).take(105_000);
    let lived = live(
        1050,
        arrivals,
        &[("dialog", 0, 0), ("ul", 0, 0)],
        ShardId(0),
    );
    assert!(lived.waits.is_empty(), "something always came");
    for name in ["dialog", "ul"] {
        let turns = lived.turns(name);
        assert_eq!(turns.len(), 10, "{turns:?}");
        for (n, at) in (1..).zip(turns) {
            assert!((100 * n..100 * n + 2).contains(&at), "{n}: {at}");
        }
    }
}

#[test]
fn who_has_more_to_do_goes_on_within_milliseconds_and_packets_come_between() {
    let arrivals = (0..).map(|n| n * 300_000).take(1000);
    let lived = live(190, arrivals, &[("ul", 20, 200_000)], ShardId(0));
    let first = lived.log.iter().position(|(.., what)| *what == What::Turn);
    let from_first: Vec<_> = lived.log[first.unwrap()..].iter().collect();
    let turns: Vec<u64> = lived
        .log
        .iter()
        .filter(|(.., what)| *what == What::Turn)
        .map(|(_, at, _)| *at)
        .collect();
    assert_eq!(turns.len(), 21, "once, and so often as it had more to do");
    for pair in turns.windows(2) {
        let between = pair[1] - pair[0] - 200_000;
        assert!((MS..2 * MS).contains(&between), "{between} ns");
    }
    let is_turn = |(.., what): &&(&str, u64, What)| *what == What::Turn;
    for pair in from_first.windows(2) {
        assert!(!(is_turn(&pair[0]) && is_turn(&pair[1])), "{pair:?}");
    }
    assert!(
        lived.ledger.counts().busy_ns >= 21 * 200_000,
        "turns are work"
    );
}

#[test]
fn a_shard_that_nothing_comes_to_is_awake_as_long_as_there_is_more_to_do() {
    let lived = live(150, [], &[("ul", 30, 100_000)], ShardId(0));
    let turns = lived.turns("ul");
    assert_eq!(turns.len(), 31, "{turns:?}");
    assert!(*turns.last().unwrap() < 100 + 60, "{turns:?}");
    let short = lived.waits.iter().filter(|most| most.as_millis() <= 1);
    assert!(short.count() >= 29, "{:?}", lived.waits);
}

#[test]
fn who_always_has_more_to_do_does_not_keep_others_from_their_turns() {
    let greedy = (u32::MAX, 400_000);
    let handlers = ["a", "b", "c", "d"].map(|name| (name, greedy.0, greedy.1));
    let handlers = [&handlers[..], &[("ul", 0, 0)]].concat();
    let lived = live(1050, [], &handlers, ShardId(0));
    let turns = lived.turns("ul");
    assert_eq!(turns.len(), 10, "{turns:?}");
    for name in ["a", "b", "c", "d"] {
        let turns = lived.turns(name).len();
        assert!(turns > 300, "{name}: {turns}");
    }
}

#[test]
fn a_shard_that_owns_nothing_gives_turns_to_those_that_it_calls() {
    let handlers = [("ul", 0, 0), ("clusterer-internal", 0, 0)];
    let lived = live(350, [], &handlers, ShardId(1));
    assert!(lived.turns("ul").is_empty());
    assert_eq!(lived.turns("clusterer-internal").len(), 3);
}

#[test]
fn what_stands_in_front_goes_on_within_milliseconds_and_keeps_nobody_from_anything() {
    let greedy = [(FRONT, u32::MAX, 200_000), ("ul", 3, 100_000)];
    let arrivals = (0..).map(|n| n * 300_000).take(3500);
    for arrivals in [arrivals.collect(), Vec::new()] {
        let is_idle = arrivals.is_empty();
        let lived = live(1050, arrivals, &greedy, ShardId(0));
        let turns = lived.turns(FRONT);
        assert!(
            (400..=800).contains(&turns.len()),
            "{} of {is_idle}",
            turns.len()
        );
        for pair in turns.windows(2) {
            assert!(pair[1] - pair[0] <= 3, "{pair:?}");
        }
        assert_eq!(
            lived.turns("ul").len(),
            13,
            "ten times, and three times more"
        );
        let packets = lived.log.iter().filter(|(.., what)| *what == What::Packet);
        assert_eq!(packets.count() > 3000, !is_idle);
    }
    // As soon as it has no more to do the shard sleeps as long as before.
    let lived = live(1050, [], &[(FRONT, 20, 10_000), ("ul", 0, 0)], ShardId(0));
    assert_eq!(lived.turns(FRONT).len(), 30);
    assert!(lived.waits.len() <= 33 + 20, "{:?}", lived.waits);
}

#[test]
fn what_stands_in_front_has_its_turn_with_the_others_or_without_any_and_it_is_work() {
    for shard in [0, 1] {
        let handlers = [(FRONT, 0, 300_000), ("ul", 0, 0)];
        let lived = live(1050, [], &handlers, ShardId(shard));
        let turns = lived.turns(FRONT);
        assert_eq!(turns.len(), 10, "{turns:?}");
        let expected = if shard == 0 { 10 } else { 0 };
        assert_eq!(lived.turns("ul").len(), expected);
        assert!(lived.ledger.counts().busy_ns >= 10 * 300_000);
    }
}

/// Takes long for each line.
struct Printer(Hand);

impl Host for Printer {
    fn wants(&self, _: Level) -> bool {
        true
    }

    fn log(&self, _: Level, _: &str) {
        self.0.pass(LINE_NS);
    }

    fn raise(&self, _: usize, _: &str, _: &[Param<'_>]) -> i32 {
        unreachable!("no route does")
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        unreachable!("no route does")
    }
}

#[test]
fn packets_wait_for_timer_and_event_routes_no_longer_than_200_us_and_the_run_that_is_under_way() {
    let text = "timer_route[a, 1] { xlog(\"a\"); } timer_route[b, 1] { xlog(\"b\"); } timer_route[c, 1] { xlog(\"c\"); } \
                event_route[E_X] { xlog(\"d\"); }";
    let (script, _) = Script::read(Path::new("a.cfg"), text.into()).unwrap();
    let program = Program::link(&script, Arc::new(NoFunctions)).unwrap();
    let (hand, events) = (Hand::default(), Arc::new(Events::new(["E_X"])));
    let host = Arc::new(Printer(hand.clone()));
    let scripts = Scripts::new(program, host, Arc::clone(&events), 1, ShardId(0));
    for _ in 0..1000 {
        assert!(events.offer(&Event::new(b"E_X")));
    }
    let mut registry = Registry::new();
    registry.front(scripts.fronts());
    let arrivals = (0..).map(|n| n * 100_000).take(20_000);
    let lived = live_with(
        hand,
        registry,
        2000,
        arrivals.clone(),
        &[("ul", 0, 0)],
        ShardId(0),
    );
    let packets = lived.log.iter().filter(|(.., what)| *what == What::Packet);
    let waited = packets.zip(arrivals).map(|((_, at, _), from)| at - from);
    let longest = waited.max().unwrap();
    // What came meanwhile is received one by one.
    let most = 200_000 + LINE_NS + 10 * RECEIVE_NS;
    assert!((LINE_NS..most).contains(&longest), "{longest} ns");
    let counts = scripts.counts();
    assert_eq!((counts.events_run, counts.runs), (1000, 1003));
}

/// No name of a packet.
const FRONT: &str = "in front";

const MS: u64 = 1_000_000;

const RECEIVE_NS: u64 = 300;

const LINE_NS: u64 = 150_000;
