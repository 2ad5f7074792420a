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
    Write(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (any::<bool>(), 0..70_000_usize).prop_map(|(control, len)| Op::Push(control, len)),
        (0..1_500_000_000_u64, event()).prop_map(|(ns, event)| Op::Step(ns, event)),
        (0..200_000_usize, any::<bool>()).prop_map(|(count, full)| Op::Write(count, full)),
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
                Op::Write(count, full) if action == Action::Write => {
                    let mut outgoing = machine.lend();
                    let offered: usize = outgoing.slices().iter().map(|part| part.len()).sum();
                    let taken = count.min(offered);
                    outgoing.take(taken);
                    let written = Written {
                        moved: taken > 0,
                        flushed: !(secure && full),
                        full,
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
                    flushed: true,
                    full: true,
                };
                machine.settle(now, outgoing, written);
                assert_eq!(machine.step(now, Event::Look), Action::Rest);
            }
            now = after(now, LIMITS.write_deadline / 2);
            action = machine.step(now, Event::Writable);
            if action == Action::Reset {
                break;
            }
        }
        let breaks = machine.counts().breaks;
        assert_eq!((takes, breaks), (takes, u64::from(takes == 0)));
    }
}
