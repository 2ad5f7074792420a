use binrush_wire::{Builder, Generation, Packet};

use super::*;
use crate::clock::Timestamp;
use crate::dispatch::front::Front;
use crate::dispatch::handler::{Origin, ShardId};
use crate::event::{Event, Param, Value as EventValue};

fn scripts(text: &str, shards: usize, keeper: u16) -> (Scripts, Arc<Double>, Arc<Events>) {
    let (program, double) = program(text);
    let (script, _) = read(text).unwrap();
    let events = Arc::new(Events::new(script.events()));
    let scripts = Scripts::new(
        program,
        Arc::clone(&double) as _,
        Arc::clone(&events),
        shards,
        ShardId(keeper),
    );
    (scripts, double, events)
}

fn front(scripts: &Scripts, shard: u16) -> Box<dyn Front> {
    scripts.fronts()(ShardId(shard)).expect("something runs there")
}

fn admits(front: &mut dyn Front, command: i32) -> bool {
    let mut buffer = [0; 64];
    let builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", command, 0);
    let mut builder = builder.unwrap();
    let packet = Packet::parse(Generation::Legacy, builder.seal()).unwrap();
    front.admits(&Origin::Datagram(None), &packet)
}

#[test]
fn the_request_route_decides_on_every_shard_and_is_counted() {
    let (scripts, _, _) = scripts("route { if ($bin(type) == 2) drop; }", 2, 0);
    let (mut first, mut second) = (front(&scripts, 0), front(&scripts, 1));
    assert!(
        scripts.fronts()(ShardId(2)).is_none(),
        "there is no such shard"
    );
    assert!(admits(&mut *first, 1));
    assert!(!admits(&mut *first, 2));
    assert!(!admits(&mut *second, 2));
    let counts = scripts.counts();
    assert_eq!((counts.runs, counts.dropped), (3, 2));
}

#[test]
fn the_startup_route_runs_once_and_where_nothing_else_runs_there_is_no_front() {
    let (scripts, double, _) = scripts("startup_route { yes(); }", 1, 0);
    assert!(double.taken().is_empty());
    scripts.startup();
    assert_eq!(double.taken(), ["yes 0"]);
    assert!(scripts.fronts()(ShardId(0)).is_none());
    assert_eq!(scripts.counts().runs, 1);
}

#[test]
fn timers_run_on_one_shard_when_they_are_due_and_what_was_missed_is_not_made_up_for() {
    let text = "timer_route[a, 1] { yes(); } timer_route[b, 3] { two(); }";
    let (scripts, double, _) = scripts(text, 2, 1);
    assert!(scripts.fronts()(ShardId(0)).is_none());
    let mut front = front(&scripts, 1);
    let at = |ms: u64| Timestamp::from_nanos(ms * 1_000_000);
    let mut ran = |ms| {
        front.turn(&mut || at(ms));
        double.taken().join(",")
    };
    assert_eq!(ran(500), "");
    assert_eq!(ran(1400), "");
    assert_eq!(ran(1500), "yes 0");
    assert_eq!(ran(1600), "");
    assert_eq!(ran(2600), "yes 0", "late");
    assert_eq!(ran(3500), "yes 0,two 1", "and not later for it");
    assert_eq!(ran(60_000), "yes 0,two 1", "once");
    assert_eq!(ran(60_500), "");
    assert_eq!(ran(61_000), "yes 0");
}

#[test]
fn events_come_to_their_routes_with_their_parameters_and_a_full_queue_is_counted() {
    let text = "event_route[E_X] { xlog(\"$param(ip) $param(2) $param(3) $si\"); } event_route[E_Y] { yes(); }";
    let (scripts, double, events) = scripts(text, 1, 0);
    let mut front = front(&scripts, 0);
    assert!(admits(&mut *front, 1), "there is no request route");
    assert!(!events.offer(&Event::new(b"E_Z")), "it has no route");
    let event = Event::new(b"E_X").with(Param::str("ip", b"192.0.2.1"));
    assert!(events.offer(&event.with(Param::unnamed(EventValue::Str(b"x".into())))));
    assert!(events.offer(&Event::new(b"E_Y")));
    front.turn(&mut || Timestamp::from_nanos(1));
    assert_eq!(
        double.taken(),
        ["error: 192.0.2.1 x <null> <null>", "yes 0"]
    );
    for n in 0..EVENTS_MAX + 3 {
        assert_eq!(events.offer(&Event::new(b"E_Y")), n < EVENTS_MAX);
    }
    for turn in 0..EVENTS_MAX as u64 / 128 {
        assert!(
            front.turn(&mut || Timestamp::from_nanos(2 + turn)),
            "more may come"
        );
        assert_eq!(double.taken().len(), 128);
    }
    assert!(
        !front.turn(&mut || Timestamp::from_nanos(1_000)),
        "none came"
    );
    assert!(double.taken().is_empty());
    assert_eq!(scripts.counts().events_dropped, 3);
}

#[test]
fn long_events_that_wait_for_their_route_have_a_bound_in_bytes() {
    let (scripts, double, events) = scripts("event_route[E_X] { yes(); }", 1, 0);
    let mut front = front(&scripts, 0);
    let long = vec![b'x'; 1 << 20];
    let event = Event::new(b"E_X")
        .with(Param::str("text", &long))
        .with(Param::int("number", 1 << 40));
    let fits = EVENT_BYTES_MAX / (long.len() + 100);
    for _ in 0..2 {
        for n in 0..fits + 3 {
            assert_eq!(events.offer(&event), n < fits, "{n}");
        }
        // Room that was given back is all there again.
        front.turn(&mut || Timestamp::from_nanos(1));
        assert_eq!(double.taken().len(), fits);
    }
    assert_eq!(scripts.counts().events_dropped, 6);
}

/// Has `front` its turn by the clock of `double`: which functions were called, by the numbers of their calls, and whether there is more.
fn turn(front: &mut dyn Front, double: &Double) -> (String, bool) {
    let now = || Timestamp::from_nanos(double.now_ns.load(Ordering::Relaxed));
    let began = now();
    let has_more = front.turn(&mut || now());
    let took_ns = now().nanos_since(began);
    assert!(took_ns < 200_000 + SLOW_NS, "{took_ns}");
    let calls = double.taken();
    let numbers = calls.iter().map(|call| call.split_once(' ').unwrap().1);
    (numbers.collect(), has_more)
}

#[test]
fn events_are_run_for_200_us_and_what_is_left_is_counted() {
    let text = "event_route[E_SLOW] { slow(); } event_route[E_X] { yes(); }";
    let (scripts, double, events) = scripts(text, 1, 0);
    let mut front = front(&scripts, 0);
    for (name, count) in [("E_SLOW", 5), ("E_X", 10)] {
        for _ in 0..count {
            assert!(events.offer(&Event::new(name.as_bytes())));
        }
    }
    for calls in ["00", "00"] {
        assert_eq!(turn(&mut *front, &double), (calls.to_owned(), true));
    }
    let counts = scripts.counts();
    let books = [
        counts.events_offered,
        counts.events_run,
        counts.events_dropped,
        counts.events_left,
    ];
    assert_eq!(books, [15, 4, 0, 11]);
    let quick = "1".repeat(10);
    assert_eq!(turn(&mut *front, &double), (format!("0{quick}"), true));
    assert_eq!(turn(&mut *front, &double), (String::new(), false));
    let counts = scripts.counts();
    assert_eq!((counts.events_run, counts.events_left), (15, 0));
}

#[test]
fn timers_that_are_due_together_share_a_turn_of_200_us_with_each_other_and_with_events() {
    let timers = (0..5).map(|n| format!("timer_route[t{n}, 1] {{ slow(); }} "));
    let text = timers.collect::<String>() + "event_route[E_X] { slow(); }";
    let (scripts, double, events) = scripts(&text, 1, 0);
    let mut front = front(&scripts, 0);
    assert_eq!(turn(&mut *front, &double), (String::new(), false));
    double.now_ns.store(1_000_000_000, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(events.offer(&Event::new(b"E_X")));
    }
    let turns: Vec<_> = (0..6).map(|_| turn(&mut *front, &double)).collect();
    let calls: Vec<_> = turns.iter().map(|(calls, _)| &**calls).collect();
    assert_eq!(calls, ["01", "55", "23", "54", "", ""]);
    let more = turns.iter().map(|(_, has_more)| *has_more);
    assert!(more.eq([true, true, true, true, false, false]));
}

#[test]
fn timers_that_take_more_time_than_there_is_keep_neither_each_other_nor_events_from_it() {
    let timers = (0..5).map(|n| format!("timer_route[t{n}, 1] {{ slow(); }} "));
    let text = timers.collect::<String>() + "event_route[E_X] { slow(); }";
    let (scripts, double, events) = scripts(&text, 1, 0);
    let mut front = front(&scripts, 0);
    let mut calls = String::new();
    for second in 0..=100 {
        while events.left() < 100 {
            assert!(events.offer(&Event::new(b"E_X")));
        }
        double
            .now_ns
            .store(second * 1_000_000_000, Ordering::Relaxed);
        calls += &turn(&mut *front, &double).0;
    }
    let of = |number| calls.matches(number).count();
    assert_eq!(
        ["0", "1", "2", "3", "4", "5"].map(of),
        [20, 20, 20, 20, 20, 102]
    );
}

/// Raises what its routes raise to themselves, twice each time.
struct Echo(Arc<Events>);

impl Host for Echo {
    fn wants(&self, _: Level) -> bool {
        false
    }

    fn log(&self, _: Level, _: &str) {}

    fn raise(&self, _: usize, name: &str, _: &[Param<'_>]) -> i32 {
        let event = Event::new(name.as_bytes());
        i32::from(self.0.offer(&event) | self.0.offer(&event))
    }

    fn subscribe(&self, _: &str, _: &str, _: Option<u32>) -> i32 {
        -1
    }
}

#[test]
fn an_event_that_raises_itself_is_bounded_counted_and_keeps_no_packet_from_its_handler() {
    let text = "event_route[E_X] { raise_event(\"E_X\"); } route { }";
    let (program, _) = program(text);
    let events = Arc::new(Events::new(["E_X"]));
    let host = Arc::new(Echo(Arc::clone(&events)));
    let scripts = Scripts::new(program, host, Arc::clone(&events), 1, ShardId(0));
    let mut front = front(&scripts, 0);
    events.offer(&Event::new(b"E_X"));
    let mut most = 0;
    for turn in 0..200 {
        let before = scripts.counts().events_run;
        assert!(front.turn(&mut || Timestamp::from_nanos(turn)));
        most = most.max(scripts.counts().events_run - before);
        assert!(admits(&mut *front, 1));
    }
    let counts = scripts.counts();
    assert_eq!((most, counts.events_left), (128, EVENTS_MAX as u64));
    assert_eq!(counts.events_offered, 1 + 2 * counts.events_run);
    let fates = counts.events_run + counts.events_dropped + counts.events_left;
    assert_eq!(counts.events_offered, fates);
}

#[test]
fn numbers_of_events_are_numbers_for_routes_and_what_is_too_long_for_one_is_a_text() {
    let text = "event_route[E_X] { \
                    if ($param(state) == 1 && $param(none) == null) yes(); \
                    xlog(\"$param(expires) $param(none) $param(bytes)\"); }";
    let (scripts, double, events) = scripts(text, 1, 0);
    let mut front = front(&scripts, 0);
    let none = Param {
        name: Some(b"none".into()),
        value: EventValue::Null,
    };
    let event = Event::new(b"E_X")
        .with(Param::int("state", 1))
        .with(Param::int("expires", 1 << 40))
        .with(none)
        .with(Param::str("bytes", b"a\xff"));
    assert!(events.offer(&event));
    front.turn(&mut || Timestamp::from_nanos(1));
    let said = "error: 1099511627776 <null> a\\xff";
    assert_eq!(double.taken(), ["yes 0", said]);
    assert_eq!(scripts.counts().incomparable, 0);
}

#[test]
fn only_packets_are_dropped_and_drop_is_exit_for_whatever_else_a_route_runs_for() {
    let text = "startup_route { drop; yes(); } timer_route[t, 1] { drop; yes(); } event_route[E_X] { drop; yes(); } route { drop; }";
    let (scripts, double, events) = scripts(text, 1, 0);
    scripts.startup();
    let mut front = front(&scripts, 0);
    assert!(events.offer(&Event::new(b"E_X")));
    for second in 0..2 {
        front.turn(&mut || Timestamp::from_nanos(second * 1_000_000_000));
    }
    let counts = scripts.counts();
    assert_eq!((counts.runs, counts.dropped), (3, 0));
    assert!(double.taken().is_empty());
    assert!(!admits(&mut *front, 1));
    assert_eq!(scripts.counts().dropped, 1);
}
