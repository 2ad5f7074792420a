//! Whole engines in one thread, on connections in memory, from a seed.
//!
//! ```text
//!   peers ─▶ Network: delay, cuts, resets ─▶ Tap ─▶ Shard ─▶ handlers
//!    whole, dribbled, garbage, half           │      turn by turn, one of them stalled for a while
//!                                             └─▶ what was delivered, cut by a slow model: what handlers must see
//! ```
//!
//! Whatever happens: each packet that a connection delivered whole, before it was given up, is handled exactly once, on
//! the shard of its record and in the order of its connection; every connection ends, in the way that what it did asks
//! for; every frame of the slab and every seat is given back; and the ledgers balance.
//!
//! `BINRUSH_SIMULATION_SEEDS=17` runs one seed, `0..100000` many.

use std::env;
use std::time::Duration;

use binrush_engine::stream::StreamLimits;
use binrush_net::sim::StreamFaults;

use super::traffic::{event, event_of_len, header};
use crate::dice::Dice;
use crate::simulation::{SEEDS, seeds};
use world::World;

/// What was delivered, written down on its way.
mod tap;
/// The engine, its network and its peers.
mod world;

/// Everything that is decided before a run.
#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    shards: u16,
    /// Shards behind those, to which all connections go.
    readers: u16,
    /// Frames of each slab, and pieces of each batch.
    frames: usize,
    batch: usize,
    limits: StreamLimits,
    faults: StreamFaults,
    /// A peer's next step breaks its connection, once in so many.
    misbehaves_one_in: usize,
    /// A shard that gets no turn in the first half.
    stalled: Option<usize>,
    /// Bytes behind the fields of a packet, at most.
    filling_max: usize,
    steps: usize,
}

impl Plan {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let shards = u16::try_from(1 + dice.below(4)).expect("a few");
        let start = Duration::from_micros(dice.one_of(&[0, 50, 2000]));
        let width = Duration::from_micros(dice.one_of(&[0, 100, 30_000]));
        let piece_max = dice.one_of(&[2, 9, 100, 5000, 1 << 20]);
        // Long packets in tiny pieces would take for ever, and show nothing more.
        let filling_max = if piece_max < 5000 { 0 } else { 2000 };
        let plan = Self {
            seed,
            shards,
            // By dice of its own, so that seeds stay the runs that they were.
            readers: Dice::new(seed ^ 0x5EED).one_of(&[0, 0, 1, 2]),
            frames: 1 + dice.below(8),
            batch: 1 + dice.below(8),
            limits: StreamLimits {
                frame_deadline: Duration::from_millis(400),
                idle: Duration::from_secs(2),
                memory_per_connection: dice.one_of(&[1 << 10, 64 << 10, 1 << 20]),
                ..StreamLimits::default()
            },
            faults: StreamFaults {
                delay: start..start + width,
                piece_max,
                reset: dice.one_of(&[0.0, 0.0, 0.001, 0.02]),
                refuse: dice.one_of(&[0.0, 0.0, 0.1]),
                late_pieces_max: dice.one_of(&[0, 3]),
            },
            misbehaves_one_in: dice.one_of(&[5, 30, usize::MAX]),
            stalled: dice.coin().then(|| dice.below(shards.into())),
            filling_max,
            steps: 60 + dice.below(240),
        };
        match dice.below(12) {
            0 => plan.overloaded(),
            _ => plan,
        }
    }

    /// One shard does not keep up with the mail of the others, for so long that its mailboxes are full and connections
    /// have to wait for it.
    fn overloaded(self) -> Self {
        Self {
            shards: self.shards.max(2),
            limits: StreamLimits {
                memory_per_connection: 1 << 10,
                ..self.limits
            },
            faults: StreamFaults {
                piece_max: 1 << 20,
                reset: 0.0,
                ..self.faults
            },
            misbehaves_one_in: usize::MAX,
            stalled: Some(1),
            filling_max: 60_000,
            ..self
        }
    }

    /// Nothing goes wrong, and nobody misbehaves.
    fn perfect(seed: u64) -> Self {
        Self {
            shards: 3,
            limits: StreamLimits::default(),
            faults: StreamFaults::default(),
            misbehaves_one_in: usize::MAX,
            stalled: None,
            filling_max: 0,
            ..Self::of(seed)
        }
    }
}

/// What a run came to.
#[derive(Debug, Default, PartialEq)]
struct Run {
    /// Packets handled, over connections that ended in order and by reset.
    handled: usize,
    orderly: usize,
    reset: usize,
    mailed: u64,
    pauses: usize,
    refused: usize,
    log: String,
}

#[test]
fn every_packet_that_was_delivered_whole_is_handled_once_and_in_order() {
    let seeds = seeds(env::var(SEEDS).ok().as_deref()).unwrap_or_else(|error| panic!("{error}"));
    let all = seeds.end - seeds.start >= 200;
    let mut met = Run::default();
    for seed in seeds {
        let run = play(&Plan::of(seed));
        met.handled += run.handled;
        met.orderly += run.orderly;
        met.reset += run.reset;
        met.mailed += run.mailed;
        met.pauses += run.pauses;
        met.refused += run.refused;
    }
    // Fewer need not meet everything.
    let counts = [met.handled, met.orderly, met.reset, met.pauses, met.refused];
    assert!(
        !all || (counts.iter().all(|count| *count > 0) && met.mailed > 0),
        "{met:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 500..510 {
        let plan = Plan::of(seed);
        assert_eq!(play(&plan), play(&plan));
    }
}

#[test]
fn ten_thousand_that_dribble_are_ended_and_one_that_does_not_is_heard() {
    let plan = Plan {
        frames: 64,
        batch: 64,
        ..Plan::perfect(1)
    };
    let mut world = World::new(&plan);
    let dribblers: Vec<usize> = (0..10_000).map(|_| world.connect(0)).collect();
    let good = world.connect(1);
    let packet = event(7, 1, 1);
    let deadline = plan.limits.frame_deadline;
    let mut sent = 0;
    for second in 0..=deadline.as_secs() {
        let byte = usize::try_from(second).expect("a few");
        for dribbler in &dribblers {
            world.send(*dribbler, &packet[byte..=byte]);
        }
        for _ in 0..100 {
            world.send(good, &event(1, sent % 10, sent));
            sent += 1;
            world.pass(Duration::from_millis(10));
        }
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.open(),
        1,
        "all that dribbled were ended, and no other"
    );
    assert_eq!(world.handled(), sent);
    world.finish(good);
    let run = world.end();
    assert_eq!((run.handled, run.reset, run.orderly), (sent, 10_000, 1));
}

#[test]
fn a_connection_that_only_begins_is_ended_at_its_deadline_and_not_before() {
    let plan = Plan::perfect(2);
    let mut world = World::new(&plan);
    let half = world.connect(0);
    world.send(half, &header(500));
    world.pass(
        plan.limits
            .frame_deadline
            .saturating_sub(Duration::from_millis(50)),
    );
    assert_eq!(world.open(), 1);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.open(), 0);
    assert_eq!(world.end().reset, 1);
}

#[test]
fn a_silent_connection_is_ended_at_its_limit_and_not_before() {
    let plan = Plan::perfect(3);
    let mut world = World::new(&plan);
    let silent = world.connect(0);
    world.send(silent, &event(1, 1, 1));
    let idle = plan.limits.idle;
    world.pass(idle.saturating_sub(Duration::from_millis(500)));
    assert_eq!(world.open(), 1);
    world.pass(Duration::from_secs(1));
    assert_eq!((world.open(), world.handled()), (0, 1));
    assert_eq!(world.end().reset, 1);
}

/// Plays `plan` to its end, with everything checked that must hold for any.
fn play(plan: &Plan) -> Run {
    let _told = TellOnPanic(plan);
    let mut world = World::new(plan);
    let mut dice = Dice::new(!plan.seed);
    let mut connections = Vec::new();
    let mut number = 0;
    for step in 0..plan.steps {
        match dice.below(12) {
            0 if connections.len() < CONNECTIONS_MAX => {
                connections.push(world.connect(dice.below(PEERS)));
            }
            0..=5 if !connections.is_empty() => {
                let at = dice.below(connections.len());
                let id = connections[at];
                if dice.below(plan.misbehaves_one_in) == 0 {
                    misbehave(&mut world, id, &mut dice);
                    connections.swap_remove(at);
                    continue;
                }
                for _ in 0..1 + dice.below(10) {
                    number += 1;
                    let filling = dice.below(plan.filling_max + 1);
                    let packet = event_of_len(world.peer(id), dice.below(12), number, filling);
                    world.send(id, &packet);
                }
            }
            6 => world.advance(Duration::from_micros(dice.below(20_000) as u64)),
            _ => {
                let shard = dice.below((plan.shards + plan.readers).into());
                if plan.stalled != Some(shard) || step > plan.steps / 2 {
                    world.turn(shard);
                }
            }
        }
    }
    for id in connections {
        if dice.coin() {
            world.finish(id);
        }
    }
    world.rest();
    world.end()
}

/// Ends a connection in one of the ways in which a peer can.
fn misbehave(world: &mut World, id: usize, dice: &mut Dice) {
    let half = event(world.peer(id), 1, 1);
    let len = dice.below(200);
    match dice.below(7) {
        0 => world.finish(id),
        1 => world.reset(id, 104),
        // As the kernel says of one that vanished.
        2 => world.reset(id, 110),
        3 => {
            world.send(id, &half[..half.len() / 2]);
            world.finish(id);
        }
        4 => world.send(id, &[b"X".to_vec(), dice.bytes(len)].concat()),
        5 => {
            let wrong = dice.one_of(&[0, 16, 65_536, u32::MAX]);
            world.send(id, &[header(wrong), dice.bytes(len)].concat());
        }
        // And is silent from now on.
        _ => world.send(id, &half[..9]),
    }
}

/// Tells the plan of a run that fails, and how to do it again.
struct TellOnPanic<'a>(&'a Plan);

impl Drop for TellOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let test = "streams::simulated::every_packet";
            let command = format!("cargo test -p binrush-tests --test it {test}");
            eprintln!("{:#?}\nagain:\n  {SEEDS}={} {command}", self.0, self.0.seed);
        }
    }
}

const PEERS: usize = 4;
const CONNECTIONS_MAX: usize = 12;
