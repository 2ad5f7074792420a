//! The machine against events in any order.

use super::*;
use crate::link::QUEUE_BYTES_MIN;
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: LinkLimits = LinkLimits {
    queue_bytes: QUEUE_BYTES_MIN,
    queue_packets: 16,
    age_max: Duration::from_secs(3),
    connect_timeout: Duration::from_secs(2),
    write_deadline: Duration::from_secs(1),
    backoff_min: Duration::from_millis(10),
    backoff_max: Duration::from_secs(1),
    user_timeout: Duration::from_secs(1),
    keepalive: None,
};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Look),
        4 => Just(Event::Connected),
        4 => Just(Event::Secured),
        4 => Just(Event::Proven),
        4 => Just(Event::Writable),
        1 => Just(Event::Failed("why".to_owned())),
        1 => Just(Event::Ended),
        1 => Just(Event::Acknowledged),
        1 => (0..20_u64).prop_map(|s| Event::Stop(Timestamp::from_nanos(s * 1_000_000_000))),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Push(bool, usize),
    Step(u64, Event),
    Write(usize, bool, bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<bool>(), 0..70_000_usize).prop_map(|(control, len)| Op::Push(control, len)),
        (0..1_500_000_000_u64, event()).prop_map(|(ns, event)| Op::Step(ns, event)),
        (0..200_000_usize, any::<bool>(), any::<bool>())
            .prop_map(|(count, full, drained)| Op::Write(count, full, drained)),
    ]
}

proptest! {
    /// Also events that make no sense: whatever a driver does, no packet is counted twice or not at all.
    #[test]
    fn the_ledger_balances_after_any_events_in_any_order(
        secure in any::<bool>(),
        ops in vec(op(), 1..80),
    ) {
        let mut now = Timestamp::from_nanos(1);
        let mut machine = Machine::new(String::new(), LIMITS, secure, 1, now);
        let mut action = Action::Rest;
        for op in ops {
            match op {
                Op::Push(control, len) => {
                    let lane = if control { Lane::Control } else { Lane::Bulk };
                    let before = machine.counts();
                    let taken = machine.push(lane, &vec![0; len], || now).is_ok();
                    let after = machine.counts();
                    prop_assert_eq!(after.queued - before.queued, u64::from(taken));
                    prop_assert_eq!(after.refused - before.refused, u64::from(!taken));
                }
                Op::Step(ns, event) => {
                    now = now.after(ns);
                    action = machine.step(now, event);
                }
                Op::Write(count, full, drained) if action == Action::Write => {
                    let mut outgoing = machine.lend();
                    let offered: usize = outgoing.slices().iter().map(|part| part.len()).sum();
                    let taken = count.min(offered);
                    outgoing.take(taken);
                    let written = Written {
                        moved: taken > 0,
                        drained: drained || !secure,
                        flushed: !(secure && full),
                        full,
                        worn: secure && count % 5 == 0,
                    };
                    machine.settle(now, outgoing, written);
                    action = machine.step(now, Event::Look);
                }
                Op::Write(..) => {}
            }
            let counts = machine.counts();
            prop_assert!(counts.is_balanced(), "{:?}", counts);
            prop_assert!(counts.waiting <= LIMITS.queue_packets as u64 + 2, "{:?}", counts);
            prop_assert!(!machine.is_gone() || counts.waiting_bytes == 0, "{:?}", counts);
        }
    }
}

/// Lets time pass until the machine wants to be looked at; for how long.
fn pass(machine: &Machine, now: &mut Timestamp) -> u64 {
    let before = *now;
    *now = machine.deadline().unwrap().max(before);
    now.nanos_since(before)
}

/// Takes `count` bytes of what there is to be written, and reports what `told` makes of it; how much was offered.
fn write(
    machine: &mut Machine,
    now: Timestamp,
    count: usize,
    told: impl FnOnce(Written) -> Written,
) -> usize {
    let mut outgoing = machine.lend();
    let offered = outgoing.slices().iter().map(|part| part.len()).sum();
    outgoing.take(count);
    machine.settle(now, outgoing, told(FLUSHED));
    offered
}

/// All that was taken went to the kernel, which has room for more.
const FLUSHED: Written = Written {
    moved: true,
    drained: true,
    flushed: true,
    full: false,
    worn: false,
};

fn connect(machine: &mut Machine, now: Timestamp) {
    assert_eq!(machine.step(now, Event::Look), Action::Open);
    machine.step(now, Event::Connected);
}

#[test]
fn only_a_connection_that_lasted_makes_the_next_failure_the_first() {
    let mut now = Timestamp::from_nanos(1);
    let mut machine = Machine::new(String::new(), LIMITS, false, 1, now);
    let fail = || Event::Failed("why".to_owned());
    let mut delays = Vec::new();
    for _ in 0..40 {
        delays.push(pass(&machine, &mut now));
        connect(&mut machine, now);
        assert_eq!(
            machine.step(now, fail()),
            Action::Close,
            "it came up for no time"
        );
    }
    assert!(
        delays.iter().any(|delay| *delay > 500_000_000),
        "{delays:?}"
    );
    pass(&machine, &mut now);
    connect(&mut machine, now);
    now = after(now, LIMITS.backoff_max);
    machine.step(now, fail());
    let delay = pass(&machine, &mut now);
    assert!(delay <= 10_000_000, "{delay}");
}

#[test]
fn a_peer_that_takes_a_little_is_kept_and_one_that_takes_nothing_is_not() {
    for takes in [1, 0] {
        let mut now = Timestamp::from_nanos(1);
        let mut machine = Machine::new(String::new(), LIMITS, false, 1, now);
        connect(&mut machine, now);
        machine.push(Lane::Bulk, &[0; 100], || now).unwrap();
        let mut action = machine.step(now, Event::Look);
        // Eight times half the deadline: far more than all of it.
        for _ in 0..8 {
            if action == Action::Write {
                let mut outgoing = machine.lend();
                outgoing.take(takes);
                let written = Written {
                    moved: takes > 0,
                    full: true,
                    ..FLUSHED
                };
                machine.settle(now, outgoing, written);
                action = machine.step(now, Event::Look);
                if action == Action::Reset {
                    break;
                }
                assert_eq!(action, Action::Rest);
            }
            now = after(now, LIMITS.write_deadline / 2);
            action = machine.step(now, Event::Writable);
        }
        let breaks = machine.counts().breaks;
        assert_eq!((takes, breaks), (takes, u64::from(takes == 0)));
    }
}

#[test]
fn room_that_was_found_late_is_used_before_the_clock_counts() {
    let mut now = Timestamp::from_nanos(1);
    let mut machine = Machine::new(String::new(), LIMITS, false, 1, now);
    connect(&mut machine, now);
    machine.push(Lane::Bulk, &[0; 100], || now).unwrap();
    assert_eq!(machine.step(now, Event::Look), Action::Write);
    write(&mut machine, now, 10, |written| Written {
        full: true,
        ..written
    });
    assert_eq!(machine.step(now, Event::Look), Action::Rest);
    // The process was stopped for as long; the peer was not.
    now = after(now, LIMITS.write_deadline * 3);
    assert_eq!(machine.step(now, Event::Writable), Action::Write);
    write(&mut machine, now, 90, |written| written);
    assert_eq!(machine.step(now, Event::Look), Action::Rest);
    let counts = machine.counts();
    assert_eq!((counts.sent, counts.breaks), (1, 0), "{counts:?}");
}

#[test]
fn what_a_session_had_counts_as_sent_though_more_is_on_its_way() {
    let now = Timestamp::from_nanos(1);
    let mut machine = Machine::new(String::new(), LIMITS, true, 1, now);
    connect(&mut machine, now);
    machine.step(now, Event::Proven);
    for sent in 0..10 {
        machine.push(Lane::Bulk, &[0; 100], || now).unwrap();
        machine.step(now, Event::Look);
        // The kernel has the one before, and not all of this one.
        write(&mut machine, now, 100, |written| Written {
            flushed: false,
            full: true,
            ..written
        });
        let counts = machine.counts();
        assert_eq!((counts.sent, counts.waiting), (sent, 1), "{counts:?}");
        machine.step(now, Event::Writable);
    }
}

#[test]
fn who_is_refused_right_behind_the_handshake_was_not_connected_and_loses_nothing() {
    let mut now = Timestamp::from_nanos(1);
    let mut machine = Machine::new(String::new(), LIMITS, true, 1, now);
    machine.push(Lane::Bulk, &[0; 100], || now).unwrap();
    connect(&mut machine, now);
    now = after(now, Duration::from_millis(80));
    assert_eq!(machine.step(now, Event::Secured), Action::Rest, "held back");
    let alert = Event::Failed("TLS: unknown CA".to_owned());
    assert_eq!(machine.step(now, alert.clone()), Action::Close);
    let counts = machine.counts();
    let connections = (counts.connects, counts.connect_failures, counts.breaks);
    assert_eq!(connections, (0, 1, 0), "{counts:?}");
    assert_eq!((counts.waiting, counts.lost), (1, 0), "{counts:?}");
    // Who says nothing for as long as the handshake took has taken it, and so has who says something.
    for proof in [Event::Look, Event::Proven] {
        pass(&machine, &mut now);
        connect(&mut machine, now);
        now = after(now, Duration::from_millis(80));
        machine.step(now, Event::Secured);
        if proof == Event::Look {
            assert_eq!(pass(&machine, &mut now), 80_000_000);
        }
        assert_eq!(machine.step(now, proof), Action::Write);
        machine.step(now, alert.clone());
    }
    assert_eq!(machine.counts().breaks, 2);
}

#[test]
fn a_worn_session_ends_behind_a_whole_packet_and_the_next_begins_at_once() {
    let now = Timestamp::from_nanos(1);
    for lane in [Lane::Bulk, Lane::Control] {
        let mut machine = Machine::new(String::new(), LIMITS, true, 1, now);
        connect(&mut machine, now);
        assert_eq!(machine.step(now, Event::Proven), Action::Rest);
        for _ in 0..2 {
            machine.push(lane, &[0; 100], || now).unwrap();
        }
        assert_eq!(machine.step(now, Event::Look), Action::Write);
        let worn = |written| Written {
            worn: true,
            ..written
        };
        write(&mut machine, now, 30, worn);
        assert_eq!(machine.step(now, Event::Look), Action::Write);
        // No more than the rest of the one that was begun.
        let offered = write(&mut machine, now, 70, worn);
        assert_eq!(offered, 70);
        assert_eq!(machine.step(now, Event::Look), Action::Finish);
        assert_eq!(machine.step(now, Event::Look), Action::Rest);
        assert_eq!(machine.step(now, Event::Acknowledged), Action::Close);
        assert_eq!(machine.counts().waiting, 1);
        connect(&mut machine, now);
        assert_eq!(machine.step(now, Event::Proven), Action::Write);
        write(&mut machine, now, 100, |written| written);
        let counts = machine.counts();
        let connections = (counts.connects, counts.connect_failures, counts.breaks);
        assert_eq!(connections, (2, 0, 0), "{counts:?}");
        assert_eq!((counts.sent, counts.lost), (2, 0), "{counts:?}");
    }
}

#[test]
fn bulk_is_given_up_while_there_is_no_connection_and_control_stays() {
    let ms = |ms: u64| Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000);
    let mut machine = Machine::new(String::new(), LIMITS, false, 1, ms(0));
    for lane in [Lane::Control, Lane::Bulk] {
        machine.push(lane, &[7; 100], || ms(0)).unwrap();
    }
    machine.drop_bulk();
    let counts = machine.counts();
    assert_eq!((counts.queued, counts.lost, counts.waiting), (2, 1, 1));
    machine.drop_bulk();
    assert_eq!(machine.counts().lost, 1);
}

#[test]
fn a_nudge_ends_a_back_off_but_not_more_than_ten_times_in_a_second() {
    let ms = |ms: u64| Timestamp::from_nanos(1_000_000_000 + ms * 1_000_000);
    let limits = LinkLimits {
        backoff_min: Duration::from_secs(3600),
        backoff_max: Duration::from_secs(3600),
        ..LIMITS
    };
    let mut machine = Machine::new(String::new(), limits, false, 1, ms(0));
    let fail = |machine: &mut Machine, now| {
        assert_eq!(machine.step(now, Event::Look), Action::Open);
        assert!(!machine.nudge(now), "it is connecting");
        let failed = Event::Failed("refused".to_owned());
        assert_eq!(machine.step(now, failed), Action::Close);
        assert_eq!(machine.step(now, Event::Look), Action::Rest);
    };
    fail(&mut machine, ms(0));
    assert!(machine.deadline() > Some(ms(1000)));
    assert!(machine.nudge(ms(10)));
    assert!(!machine.nudge(ms(10)), "it is due already");
    fail(&mut machine, ms(10));
    assert!(!machine.nudge(ms(109)));
    assert!(machine.deadline() > Some(ms(1000)));
    assert!(machine.nudge(ms(110)));
    assert_eq!(machine.deadline(), Some(ms(110)));
    machine.step(ms(110), Event::Stop(ms(110)));
    assert!(!machine.nudge(ms(1000)));
}
