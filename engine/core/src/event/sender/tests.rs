use std::net::UdpSocket;
use std::sync::{Mutex, Weak, mpsc};
use std::time::Instant;

use super::super::counts::Met;
use super::super::listen::Listener;
use super::super::names::{AOR_DELETE, AOR_INSERT, EventId};
use super::super::subscriptions::Expire;
use super::super::{Event, EventSocket, Form, Listen, Raised, Source};
use super::*;

/// Raises as many again each time that it hears one, as a source does that goes on.
#[derive(Debug)]
struct Echo(Mutex<Source>, usize);

impl Listen for Echo {
    fn hear(&self, _: &Event<'_>) {
        for _ in 0..self.1 {
            assert_eq!(lock(&self.0).raise(AOR_INSERT, &[]), Raised::Taken);
        }
    }
}

fn listen(shared: &Shared, hears: Arc<dyn Listen>) {
    let mut desk = lock(&shared.desk);
    desk.listeners.push(Listener {
        event: AOR_INSERT,
        form: Form::Text,
        hears,
    });
    desk.settle(shared);
}

/// A runner whose ring has `count` events, each of which makes `more`.
fn raised(count: usize, more: usize) -> (Arc<Shared>, Runner) {
    let shared = Shared::new().unwrap();
    let echo = Arc::new(Echo(Mutex::new(Source::new(&shared)), more));
    listen(&shared, Arc::clone(&echo) as _);
    for _ in 0..count {
        assert_eq!(lock(&echo.0).raise(AOR_INSERT, &[]), Raised::Taken);
    }
    let runner = Runner::new(Arc::clone(&shared)).unwrap();
    (shared, runner)
}

#[test]
fn who_raises_on_and_on_holds_up_no_end_and_what_was_raised_before_is_told() {
    let (shared, runner) = raised(3 * ROUND, 1);
    shared.stop(Duration::from_secs(60));
    let (ended, ends) = mpsc::channel();
    // On a thread of its own: it could go on for ever.
    let runs = std::thread::spawn(move || {
        runner.run();
        ended.send(()).unwrap();
    });
    ends.recv_timeout(Duration::from_secs(30)).expect("it ends");
    runs.join().unwrap();
    assert_eq!(lock(&shared.report).met.told, 3 * ROUND as u64);
    assert_eq!(lock(&shared.sources).given().taken, 6 * ROUND as u64);
}

#[test]
fn the_time_for_the_end_is_over_while_there_is_more_to_tell_too() {
    let (shared, runner) = raised(3 * ROUND, 0);
    shared.stop(Duration::ZERO);
    runner.run();
    let told = lock(&shared.report).met.told;
    assert!((1..=ROUND as u64).contains(&told), "{told}");
}

/// Subscribes to another event when it hears one, and raises that.
#[derive(Debug)]
struct Follower(Mutex<Option<(Weak<Shared>, Source)>>, EventSocket);

impl Listen for Follower {
    fn hear(&self, _: &Event<'_>) {
        let (shared, mut source) = lock(&self.0).take().expect("it hears one");
        let shared = shared.upgrade().expect("it is there");
        subscribe(&shared, AOR_DELETE, self.1.clone());
        assert_eq!(source.raise(AOR_DELETE, &[]), Raised::Taken);
    }
}

fn subscribe(shared: &Shared, event: EventId, socket: EventSocket) {
    let now = MonotonicClock.now();
    let mut desk = lock(&shared.desk);
    let (form, end) = (Form::Text, Expire::After(60));
    { &mut desk.subscriptions }.set(now, event, socket, form, end);
    desk.settle(shared);
}

#[test]
fn what_is_raised_behind_a_subscription_is_told_to_it_though_the_round_began_before() {
    let shared = Shared::new().unwrap();
    let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = EventSocket::Udp(reader.local_addr().unwrap());
    let mut source = Source::new(&shared);
    let follower = Follower(
        Mutex::new(Some((Arc::downgrade(&shared), Source::new(&shared)))),
        to,
    );
    listen(&shared, Arc::new(follower));
    let mut runner = Runner::new(Arc::clone(&shared)).unwrap();
    assert_eq!(source.raise(AOR_INSERT, &[]), Raised::Taken);
    let now = MonotonicClock.now();
    assert_eq!(runner.round(now), Came::Some);
    let report = lock(&shared.report).clone();
    let met = Met {
        taken: 2,
        told: 2,
        unclaimed: 0,
    };
    assert_eq!(report.met, met, "both, in one round");
    let tally = report.subscribers[0].tally;
    assert_eq!((tally.offered, tally.sent), (1, 1));
    let mut buffer = [0; 64];
    let len = reader.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"E_UL_AOR_DELETE\n\n");
}

#[test]
fn what_was_raised_for_who_has_left_meets_who_came_or_nobody_and_is_counted_either_way() {
    let shared = Shared::new().unwrap();
    let mut runner = Runner::new(Arc::clone(&shared)).unwrap();
    let mut source = Source::new(&shared);
    let [first, second] = ["udp:127.0.0.1:9", "udp:127.0.0.1:10"].map(|at| at.parse().unwrap());
    let leave = |socket: &EventSocket| {
        let mut desk = lock(&shared.desk);
        let (form, end) = (Form::Text, Expire::After(0));
        let now = MonotonicClock.now();
        { &mut desk.subscriptions }.set(now, AOR_INSERT, EventSocket::clone(socket), form, end);
        desk.settle(&shared);
    };
    let mut round = || {
        runner.round(MonotonicClock.now());
        lock(&shared.report).clone()
    };
    subscribe(&shared, AOR_INSERT, EventSocket::clone(&first));
    assert_eq!(source.raise(AOR_INSERT, &[]), Raised::Taken);
    leave(&first);
    let Met {
        taken,
        told,
        unclaimed,
    } = round().met;
    assert_eq!((taken, told, unclaimed), (1, 0, 1), "nobody is there");
    subscribe(&shared, AOR_INSERT, EventSocket::clone(&first));
    assert_eq!(source.raise(AOR_INSERT, &[]), Raised::Taken);
    subscribe(&shared, AOR_INSERT, EventSocket::clone(&second));
    leave(&first);
    let report = round();
    let Met {
        taken,
        told,
        unclaimed,
    } = report.met;
    assert_eq!((taken, told, unclaimed), (2, 1, 1), "another one is");
    let [one] = &report.subscribers[..] else {
        panic!("one is there: {report:?}");
    };
    assert_eq!((&one.socket, one.tally.offered), (&second, 1));
}

#[test]
fn what_is_asked_for_between_the_last_look_and_the_sleep_is_not_slept_over() {
    let shared = Shared::new().unwrap();
    let mut runner = Runner::new(Arc::clone(&shared)).unwrap();
    assert_eq!(runner.round(MonotonicClock.now()), Came::Nothing);
    subscribe(&shared, AOR_INSERT, "udp:127.0.0.1:9".parse().unwrap());
    // Nobody is about to sleep yet.
    shared.bell.ring_if_armed();
    let begin = Instant::now();
    runner.sleep(&mut ReadyList::new(1));
    assert!(begin.elapsed() < WAIT / 2, "{:?}", begin.elapsed());
    runner.round(MonotonicClock.now());
    assert!(runner.post.is_heard() && runner.post.next_end.is_some());
}
