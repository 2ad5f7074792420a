//! Whole engines in one thread, on a network in memory, from a seed.
//!
//! ```text
//!   peers ─▶ Network: delay, loss, reorder, ─▶ steering, right ─▶ Tap ─▶ Shard ─▶ handler ─▶ answers ─▶ peers
//!            duplicate, truncate               or wrong           │      turn by turn,  │
//!                                                                 └──────▶ Book ◀───────┘
//! ```
//!
//! Shards are turned in any order, receives fail, queues and mailboxes overflow, handlers take time, and the stop
//! comes whenever it likes. Whatever happens:
//!
//! - The books balance: of the network, of each shard between any two turns, of the engine at its end, and all of
//!   them with each other and with what was seen at both ends.
//! - Each datagram comes to the outcome that its maker meant, or is counted as truncated or as mail without room.
//! - Each record is handled by its owner alone. What came of it **by one socket** is handled in the order of its
//!   arrival; with one socket per record that is the order of the record. This holds for wrong steering as well,
//!   then by mail. Mail that finds no room leaves a gap, but no disorder.
//! - Where one record comes by several sockets, what is mailed can be overtaken by what is not: while a group forms
//!   that does not drop meanwhile, with merged trains, when two listeners are told of the same record. Each
//!   socket's part keeps its order then, and nothing more is promised. So an engine drops until its steering is in
//!   place, and merges no trains when it has several shards.
//!
//! `BINRUSH_SIMULATION_SEEDS=17` runs one seed, `0..100000` many.

use std::env;
use std::ops::Range;

use binrush_engine::Outcome;
use binrush_net::sim::Faults;

use plan::{Kernel, Plan};
use run::{Run, simulate};

/// What was seen at both ends.
mod books;
/// The engine under test.
mod node;
/// Who the engine talks to.
mod peer;
/// What a seed stands for.
mod plan;
/// A plan, played to its end.
mod run;
/// What peers send.
mod traffic;

#[test]
fn everything_is_accounted_for_and_every_record_is_in_order() {
    let seeds = seeds(env::var(SEEDS).ok().as_deref()).unwrap_or_else(|error| panic!("{error}"));
    let mut reached = Reached::default();
    for seed in seeds.clone() {
        reached.add(&simulate(&Plan::of(seed)));
    }
    println!("{reached:#?}");
    // Fewer need not meet everything.
    if seeds.end - seeds.start >= SEEDS_DEFAULT.end {
        reached.check();
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for seed in 1000..1020 {
        let plan = Plan::of(seed);
        let first = simulate(&plan).log;
        assert_eq!(first, simulate(&plan).log);
        // The same plan, and only chance is another.
        let seed = seed + 1_000_000;
        assert_ne!(first, simulate(&Plan { seed, ..plan }).log);
    }
}

#[test]
fn right_steering_needs_no_mail_and_wrong_steering_is_put_right_by_it() {
    for (kernel, mails) in [
        (Kernel::Program, false),
        (Kernel::Closed(60), false),
        (Kernel::Foreign, true),
        (Kernel::First, true),
        (Kernel::Trains, true),
        (Kernel::Forming(60), true),
    ] {
        for seed in 0..4 {
            let run = simulate(&Plan {
                kernel,
                ..Plan::perfect(seed)
            });
            assert_eq!(run.total.mailed_out > 0, mails, "{kernel:?}");
            // In full, too: all that was received was handled.
            assert_eq!(run.total.outcome(Outcome::Handled), run.total.received);
            let dropped = run.account.dropped_full;
            assert_eq!(dropped > 0, kernel == Kernel::Closed(60), "{kernel:?}");
        }
    }
}

/// The reason to drop while a group forms, and to let no trains merge.
#[test]
fn a_record_that_comes_by_several_sockets_loses_its_order_now_and_then() {
    let steps_back = |kernel| {
        let plans = (0..10).map(|seed| Plan {
            kernel,
            ..Plan::perfect(seed)
        });
        plans.map(|plan| simulate(&plan).steps_back).sum::<usize>()
    };
    assert!(steps_back(Kernel::Trains) > 0);
    assert!(steps_back(Kernel::Forming(200)) > 0);
    assert_eq!(steps_back(Kernel::Closed(200)), 0);
}

#[test]
fn a_full_mailbox_is_counted_and_what_it_took_stays_in_order() {
    let run = simulate(&Plan::perfect(3).overloaded());
    let full = run.total.outcome(Outcome::MailboxFull);
    assert!(full > 0, "{:?}", run.total);
    assert_eq!(
        run.total.outcome(Outcome::Handled) + full,
        run.total.received
    );
    assert_eq!(run.steps_back, 0);
}

#[test]
fn what_is_cut_on_its_way_ends_as_truncated_and_is_mailed_to_nobody() {
    let faults = Faults {
        truncate: 1.0,
        ..Faults::default()
    };
    let run = simulate(&Plan {
        kernel: Kernel::Trains,
        faults,
        ..Plan::perfect(4)
    });
    assert!(run.total.received > 500);
    assert_eq!(run.total.outcome(Outcome::Truncated), run.total.received);
    assert_eq!(run.total.mailed_out, 0);
}

#[test]
fn every_answer_of_a_handler_arrives_in_order_where_nothing_goes_wrong() {
    let run = simulate(&Plan {
        kernel: Kernel::Foreign,
        ipv6: true,
        ..Plan::perfect(5)
    });
    assert!(run.replies > 50, "{}", run.replies);
    assert!(run.all_answers_came);
}

#[test]
fn seeds_are_one_or_a_range() {
    assert_eq!(seeds(None), Ok(SEEDS_DEFAULT));
    assert_eq!(seeds(Some("17")), Ok(17..18));
    assert_eq!(seeds(Some("5..9")), Ok(5..9));
    for wrong in [
        "",
        "x",
        "9..5",
        "5..5",
        "1..2..3",
        "-1",
        &u64::MAX.to_string(),
    ] {
        assert!(seeds(Some(wrong)).unwrap_err().contains(SEEDS), "{wrong}");
    }
}

#[test]
fn a_run_that_fails_says_how_to_do_it_again() {
    assert!(again(&Plan::of(17)).contains("BINRUSH_SIMULATION_SEEDS=17 cargo test"));
    // With its seed alone it would be another one.
    assert!(!again(&Plan::perfect(17)).contains("17"));
}

/// How to play `plan` again, when something that must hold did not.
fn again(plan: &Plan) -> String {
    if *plan != Plan::of(plan.seed) {
        return "again: run the same test, its plan is always this one".to_owned();
    }
    let test = "simulation::everything";
    let command = format!("cargo test -p binrush-tests --test it {test}");
    format!("again:\n  {SEEDS}={} {command}", plan.seed)
}

/// What all seeds together met: a simulation that never meets a thing says nothing about it.
#[derive(Debug, Default)]
struct Reached {
    outcomes: [u64; Outcome::COUNT],
    mailed: u64,
    receive_failures: u64,
    sent: u64,
    send_failures: u64,
    send_refused: u64,
    duplicated: u64,
    reordered: u64,
    lost: u64,
    dropped_full: u64,
    dropped_shut: u64,
    replies: u64,
    steps_back: usize,
}

impl Reached {
    fn add(&mut self, run: &Run) {
        let Run { total, account, .. } = run;
        for (sum, count) in self.outcomes.iter_mut().zip(total.outcomes) {
            *sum += count;
        }
        self.mailed += total.mailed_in;
        self.receive_failures += total.receive_failures;
        self.sent += total.sent;
        self.send_failures += total.send_failures;
        self.send_refused += total.send_refused;
        self.duplicated += account.duplicated;
        self.reordered += account.reordered;
        self.lost += account.lost;
        self.dropped_full += account.dropped_full;
        self.dropped_shut += account.dropped_shut;
        self.replies += run.replies;
        self.steps_back += run.steps_back;
    }

    fn check(&self) {
        for outcome in traffic::OUTCOMES.into_iter().chain([Outcome::MailboxFull]) {
            assert!(self.outcomes[outcome as usize] > 0, "{outcome}");
        }
        let counts = [
            self.mailed,
            self.receive_failures,
            self.sent,
            self.send_failures,
            self.send_refused,
            self.duplicated,
            self.reordered,
            self.lost,
            self.dropped_full,
            self.dropped_shut,
            self.replies,
            self.steps_back as u64,
        ];
        assert!(counts.iter().all(|count| *count > 0), "{self:?}");
    }
}

/// What [`SEEDS`] asks for.
pub(crate) fn seeds(wanted: Option<&str>) -> Result<Range<u64>, String> {
    let Some(wanted) = wanted else {
        return Ok(SEEDS_DEFAULT);
    };
    let range = match wanted.split_once("..") {
        Some((first, end)) => first.parse().ok().zip(end.parse().ok()),
        None => {
            let seed: Option<u64> = wanted.parse().ok();
            seed.and_then(|seed| Some((seed, seed.checked_add(1)?)))
        }
    };
    match range {
        Some((first, end)) if first < end => Ok(first..end),
        _ => Err(format!(
            "{SEEDS}={wanted:?}: expected a seed (17) or some (0..100000)"
        )),
    }
}

pub(crate) const SEEDS: &str = "BINRUSH_SIMULATION_SEEDS";
const SEEDS_DEFAULT: Range<u64> = 0..200;
