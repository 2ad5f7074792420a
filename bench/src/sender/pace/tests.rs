use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::patience::Patience;
use crate::sender::Live;
use crate::sender::fake::{Answer, FakeClock, FakeOutlet, Moments};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Everything a run needs, as the test wants it.
struct Run {
    clock: FakeClock,
    outlet: FakeOutlet,
    pacing: Pacing,
    end_ns: u64,
    start_ns: u64,
    stop: Patience,
    live: Live,
}

impl Run {
    fn new(end_ns: u64) -> Self {
        let clock = FakeClock {
            look_ns: 20,
            ..FakeClock::default()
        };
        Self {
            outlet: FakeOutlet::new(&clock),
            clock,
            pacing: Pacing::default(),
            end_ns,
            start_ns: 50 * MS,
            stop: Patience::default(),
            live: Live::new(1),
        }
    }

    fn send(self, source: Moments) -> anyhow::Result<SenderResult> {
        let tally = Tally::new(self.start_ns, self.live.sender(0));
        let pacing = (self.pacing, self.end_ns);
        let pace = Pace::new(Box::new(source), self.outlet, self.clock, pacing, tally);
        let halt = Halt {
            stop: &self.stop,
            failed: &AtomicBool::new(false),
        };
        let result = pace.run(halt)?;
        let errors: u64 = result.errors.values().sum();
        assert_eq!(result.planned, result.sent + result.unsent + errors);
        assert_eq!(result.lateness.count(), result.sent);
        assert_eq!(result.by_second.iter().sum::<u64>(), result.sent);
        assert_eq!(result.due_by_second.iter().sum::<u64>(), result.planned);
        let counts = self.live.total();
        let told = (counts.planned, counts.sent, counts.unsent, counts.errors);
        assert_eq!(told, (result.planned, result.sent, result.unsent, errors));
        Ok(result)
    }
}

#[test]
fn no_packet_goes_early_and_each_goes_when_it_is_due() {
    let mut run = Run::new(SECOND);
    run.clock.wake_ns = 300;
    run.outlet.clock = run.clock.clone();
    let due: Vec<u64> = (0..1000).map(|n| n * MS + n * 7).collect();
    let calls = Rc::clone(&run.outlet.calls);
    let start_ns = run.start_ns;
    let result = run.send(Moments::new(due.clone(), 100)).unwrap();
    assert_eq!(
        (result.sent, result.sends, result.batch_max),
        (1000, 1000, 1)
    );
    for ((at, count), due) in calls.borrow().iter().zip(due) {
        let late = at.checked_sub(start_ns + due).expect("not early");
        assert!(*count == 1 && late < US, "{late} ns late");
    }
    assert!(result.lateness.min() >= 300 && result.lateness.max() < US);
}

#[test]
fn what_is_due_within_the_window_goes_together_and_what_is_not_does_not() {
    let mut run = Run::new(SECOND);
    // The sender sleeps for a while: all of these are due when it wakes.
    run.clock.wake_ns = 20 * MS;
    run.outlet.clock = run.clock.clone();
    let due = [0, 10 * US, 50 * US, 51 * US, 90 * US, 101 * US, 10 * MS];
    let calls = Rc::clone(&run.outlet.calls);
    let result = run.send(Moments::new(due, 100)).unwrap();
    let counts: Vec<u64> = calls.borrow().iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [3, 3, 1]);
    assert_eq!((result.sent, result.batch_max), (7, 3));
}

#[test]
fn a_batch_has_no_more_packets_than_there_is_room_for() {
    let mut run = Run::new(SECOND);
    run.outlet.room = 4;
    let calls = Rc::clone(&run.outlet.calls);
    let result = run.send(Moments::new([MS; 10], 100)).unwrap();
    let counts: Vec<u64> = calls.borrow().iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [4, 4, 2]);
    assert_eq!(result.sent, 10);
}

#[test]
fn a_packet_says_how_late_it_was_when_it_was_made() {
    let mut run = Run::new(SECOND);
    run.outlet.call_ns = 40 * US;
    let source = Moments::new([0, 10 * US, 20 * US, MS], 100);
    let written = Arc::clone(&source.written);
    run.pacing.window_ns = 0;
    let result = run.send(source).unwrap();
    let late: Vec<u32> = written
        .lock()
        .unwrap()
        .iter()
        .map(|(_, late)| *late)
        .collect();
    // The second one waited for the first to be taken, the third for both.
    assert!(
        late[0] < 1000 && (30_000..32_000).contains(&late[1]),
        "{late:?}"
    );
    assert!(
        (60_000..63_000).contains(&late[2]) && late[3] < 1000,
        "{late:?}"
    );
    assert!(result.lateness.max() >= 60_000);
}

#[test]
fn what_is_too_late_is_not_sent_and_counts_as_unsent() {
    let mut run = Run::new(SECOND);
    // The third call takes 300 ms, in which 300 packets become due; those of the last 100 ms are sent.
    run.pacing.window_ns = 0;
    run.outlet.room = 1;
    let stall = Rc::clone(&run.outlet.calls);
    run.outlet.packet_ns = 300 * MS;
    let result = run
        .send(Moments::new((0..1000).map(|n| n * MS), 100))
        .unwrap();
    // Each call takes 300 ms, so four of them fill the second, each of a packet that is 100 ms late at most.
    assert_eq!(stall.borrow().len(), 4);
    assert_eq!((result.planned, result.sent, result.unsent), (1000, 4, 996));
    assert!(result.lateness.max() <= 101 * MS);
}

#[test]
fn when_its_time_is_over_the_rest_is_unsent() {
    let mut run = Run::new(SECOND);
    run.outlet.packet_ns = 20 * MS;
    run.outlet.room = 1;
    run.pacing.late_max_ns = u64::MAX;
    let (start_ns, calls) = (run.start_ns, Rc::clone(&run.outlet.calls));
    let result = run
        .send(Moments::new((0..1000).map(|n| n * MS), 100))
        .unwrap();
    // 20 ms each for 1.01 s.
    assert_eq!((result.planned, result.sent), (1000, 51));
    let last = calls.borrow().last().unwrap().0;
    assert!(last < start_ns + SECOND + 10 * MS, "{last}");
    assert!(result.elapsed_ns < SECOND + 40 * MS);
}

#[test]
fn what_the_kernel_refuses_is_counted_by_name_and_the_rest_goes_on() {
    let mut run = Run::new(SECOND);
    run.outlet.answers = vec![Answer::Take(5), Answer::Refuse(2)];
    let result = run.send(Moments::new([0, 0, 0, 0, 0, MS, MS, MS, MS, 2 * MS], 100));
    let result = result.unwrap();
    assert_eq!((result.planned, result.sent, result.unsent), (10, 8, 0));
    let errors: Vec<_> = result.errors.into_iter().collect();
    assert!(
        matches!(&errors[..], [(words, 2)] if words.contains("EAGAIN")),
        "{errors:?}"
    );
}

#[test]
fn a_packet_that_cannot_be_made_costs_no_other() {
    let run = Run::new(SECOND);
    let source = Moments::new((0..10).map(|n| n * MS), 100).with_broken(&[0, 7]);
    let result = run.send(source).unwrap();
    assert_eq!((result.planned, result.sent), (10, 8));
    assert_eq!(result.errors["not made: the schedule is through"], 2);
}

#[test]
fn what_an_outlet_takes_in_parts_is_sent_whole_and_late() {
    let mut run = Run::new(SECOND);
    run.outlet.answers = vec![
        Answer::Take(1),
        Answer::Take(0),
        Answer::Take(0),
        Answer::Take(2),
    ];
    let result = run.send(Moments::new([0; 5], 100)).unwrap();
    assert_eq!((result.sent, result.unsent), (5, 0));
    // Two waits for room, of a millisecond each.
    assert!(result.lateness.value_at(0.2) < 10 * US && result.lateness.value_at(0.3) >= 2 * MS);
}

#[test]
fn an_outlet_that_closes_ends_the_run_and_the_rest_is_unsent() {
    let mut run = Run::new(SECOND);
    run.outlet.answers = vec![Answer::Take(1), Answer::Close];
    let result = run
        .send(Moments::new((0..100).map(|n| n * MS), 100))
        .unwrap();
    assert_eq!((result.planned, result.sent, result.unsent), (100, 1, 98));
    let (words, count) = result.errors.first_key_value().unwrap();
    assert!(words.contains("ECONNRESET") && *count == 1, "{words}");
}

#[test]
fn a_packet_cut_by_the_end_is_finished_or_said_to_be_partial() {
    for (finished, sent, partial) in [
        (Finished::Completed { bytes: 70 }, 2, 0),
        (Finished::Cut, 1, 1),
        (Finished::Whole, 1, 0),
    ] {
        let mut run = Run::new(10 * MS);
        run.outlet.answers = vec![Answer::Take(1)];
        run.outlet.answers.extend([Answer::Take(0); 100]);
        run.outlet.finished = finished;
        let result = run.send(Moments::new([0; 5], 100)).unwrap();
        assert_eq!(
            (result.sent, result.partial),
            (sent, partial),
            "{finished:?}"
        );
        assert_eq!(result.unsent, 5 - sent);
    }
}

#[test]
fn a_stop_leaves_out_what_is_not_due_yet() {
    let run = Run::new(SECOND);
    run.stop.stop();
    let result = run
        .send(Moments::new((0..100).map(|n| n * MS), 100))
        .unwrap();
    assert_eq!((result.planned, result.sent), (0, 0));
}

#[test]
fn a_target_that_refuses_from_the_first_packet_on_is_an_error_after_a_second() {
    let mut run = Run::new(3_600 * SECOND);
    run.outlet.looked = Looked::Refused;
    let (start_ns, calls) = (run.start_ns, Rc::clone(&run.outlet.calls));
    let error = run.send(Moments::new((0..10_000).map(|n| n * MS), 100));
    assert_eq!(error.unwrap_err().to_string(), "nobody there");
    let took = calls.borrow().last().unwrap().0 - start_ns;
    assert!(
        (SECOND - 2 * MS..=SECOND + 11 * MS).contains(&took),
        "{took}"
    );

    // However short the run is.
    let mut run = Run::new(SECOND);
    run.outlet.looked = Looked::Refused;
    assert!(run.send(Moments::new([0], 100)).is_err());
}

/// Any schedule, any kernel: each packet has one end, none is early, and time is kept.
#[test]
fn whatever_happens_every_packet_has_one_end() {
    let mut state = 1_u64;
    let mut dice = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..500 {
        let mut run = Run::new(20 * MS);
        run.clock.wake_ns = dice(200 * US);
        run.outlet.clock = run.clock.clone();
        run.outlet.room = 1 + usize::try_from(dice(20)).unwrap();
        run.outlet.call_ns = dice(100 * US);
        run.outlet.packet_ns = dice(5 * US);
        run.pacing.window_ns = dice(100 * US);
        run.pacing.late_max_ns = 1 + dice(5 * MS);
        for _ in 0..dice(30) {
            run.outlet.answers.push(match dice(20) {
                0 => Answer::Close,
                1..=5 => Answer::Refuse(dice(10)),
                _ => Answer::Take(dice(10)),
            });
        }
        let mut due: Vec<u64> = (0..dice(500)).map(|_| dice(20 * MS)).collect();
        due.sort_unstable();
        let broken: Vec<usize> = (0..3)
            .map(|_| usize::try_from(dice(500)).unwrap())
            .collect();
        let count = due.len() as u64;
        let source = Moments::new(due.clone(), 100).with_broken(&broken);
        let written = Arc::clone(&source.written);
        // The sum is asserted there.
        let result = run.send(source).unwrap();
        assert_eq!(result.planned, count, "round {round}");
        let written = written.lock().unwrap();
        assert!(written.is_sorted_by_key(|(number, _)| *number));
        assert!(result.sent <= written.len() as u64);
    }
}
