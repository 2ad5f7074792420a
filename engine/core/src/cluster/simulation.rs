//! Whole clusters in one thread, from a seed: our seats, doors, gates and replicas among models of genuine nodes, on a network
//! that delays, cuts and breaks.
//!
//! ```text
//!   Plan (of a seed) ─▶ Play ─┬─ Network: connections, one each way; bytes in order, or lost with the connection
//!                             ├─ Genuine: a model by the book, its faults included
//!                             ├─ Ours: Seat, Door, Gates; each gate beside its Shadow, each packet before the Watch
//!                             └─ Truth: what origins wrote
//! ```
//!
//! After every step:
//!
//! - Nobody of ours says that a capability is synced, or begins to give its records, unless its copy is verified and had a
//!   record.
//! - What a gate and its replica have is what the [shadow](shadow) has: before, during and after each sync; what is held is
//!   released once, in order, and never takes more room than it may.
//! - Stamps begin at 0 and count up, whatever the clock does; paths are those of BIN.md C.3; nobody takes us for a way to
//!   somebody else; rosters have each node once, and one sync of a capability.
//! - A copy that a sync made verified has every record that the donor had when it was asked and that still lives; but for
//!   those that a sync of the donor's own took from it before it gave them.
//! - Every packet ends in one verdict.
//!
//! When nothing bad happened for long enough:
//!
//! - All see all, within `node_timeout + ping_interval + (retries + 2) * ping_timeout` after the network works again.
//! - Everybody was told what our copies are worth; nothing is held.
//! - Where genuine nodes were spared, all our copies are verified and equal to what the origins wrote. Where they were not,
//!   they miss records for good, as they do in real life: then what a sync promises is all there is to promise.
//! - Where all genuine nodes died and new processes came back, everybody has what every verified standby of ours had then, and
//!   nobody was synced by one that had nothing.
//!
//! Nothing in a packet or chunk says how old it is, so some records are *contested* after a sync, until the next packet about
//! them; they are counted, and excepted from the rule of the truth: those of which a donor of ours did not know the newest for
//! longer than we wait before we ask (genuine donors that are spared are never so late), those of which an older packet was
//! still waiting for its shard, and those that the sync did not confirm and that were spared, because a packet had spoken of
//! them shortly before or because the donor does not say that he sees everybody. Most are older than they should, or not gone;
//! one is missing only where a donor of ours had missed it and did not know that yet.
//!
//! `BINRUSH_CLUSTER_SEEDS=17` plays one seed, `0..10000` many.

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;

use plan::{Mutation, Plan, TAKEOVER, TAKEOVER_EVERY};
use run::{Run, play};

/// As many nodes as may be.
mod crowd;
/// Chance from a seed.
mod dice;
/// A model of a genuine node.
mod genuine;
/// TCP in memory.
mod network;
/// One of our nodes.
mod ours;
/// What a seed stands for.
mod plan;
/// What is replicated.
mod record;
/// A plan, played to its end.
mod run;
/// What a gate should do.
mod shadow;
/// Messages, read and written once more.
mod speech;
/// What others may see of us.
mod watch;

#[test]
fn clusters_keep_their_promises_whatever_happens() {
    let seeds = seeds(env::var(SEEDS).ok().as_deref()).unwrap_or_else(|error| panic!("{error}"));
    let is_default = seeds == SEEDS_DEFAULT;
    let mut reached: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds {
        let plan = Plan::of(seed);
        let run = play(&plan, false);
        if run.broken.is_some() {
            panic!("{}", confess(&plan));
        }
        for (what, count) in run.counts {
            *reached.entry(what).or_default() += count;
        }
    }
    println!("{reached:#?}");
    if is_default {
        let missed = SITUATIONS
            .iter()
            .filter(|what| !reached.contains_key(*what));
        let missed: Vec<_> = missed.collect();
        assert!(missed.is_empty(), "no seed brings {missed:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for seed in 0..6 {
        let digest = |seed| play(&Plan::of(seed), false).digest;
        assert_eq!(digest(seed), digest(seed));
        assert_ne!(digest(seed), digest(seed + 1));
    }
}

/// An invariant that never fails proves nothing: each rule is broken on purpose, and somebody has to notice.
#[test]
fn a_node_that_breaks_a_rule_is_found_out() {
    let mutations = [
        (Mutation::Boasts, "says that it is synced"),
        (Mutation::DoesNotHold, "in the middle of a sync"),
        (Mutation::LosesChunk, "should be"),
        (Mutation::LosesPacket, "should be"),
        (Mutation::NeverReleases, "is held for ever"),
        (Mutation::RemovesTooMuch, "should be"),
        (Mutation::RepeatsStamp, "follows"),
        (Mutation::IsSilent, "does not see"),
        (Mutation::Hurries, "are said to be applied"),
        (Mutation::GivesNothing, "are lost at"),
        (Mutation::NeverReplies, " None of "),
    ];
    for (mutation, notice) in mutations {
        // Who gives nothing is missed where nobody else has anything.
        let is_for_takeovers = mutation == Mutation::GivesNothing;
        let broken = |number| {
            let seed = match is_for_takeovers {
                true => number * TAKEOVER_EVERY + TAKEOVER,
                false => number,
            };
            let plan = Plan {
                mutation: Some(mutation),
                ..Plan::of(seed)
            };
            play(&plan, false).broken
        };
        let mut all = (0..MUTANT_SEEDS).filter_map(broken);
        assert!(
            all.any(|broken| broken.contains(notice)),
            "nobody finds out what {mutation:?} does"
        );
    }
}

/// Plays a plan that went wrong once more, and tells what happened last.
fn confess(plan: &Plan) -> String {
    let Run { broken, log, .. } = play(plan, true);
    let log: Vec<String> = log.into();
    let broken = broken.unwrap_or_else(|| "nothing, this time".to_owned());
    let seed = plan.seed;
    format!(
        "{}\nseed {seed} ({:?}), {broken}\nagain: {SEEDS}={seed}",
        log.join("\n"),
        plan.weather
    )
}

/// `17` is one seed, `0..100` many.
fn seeds(text: Option<&str>) -> Result<Range<u64>, String> {
    let Some(text) = text else {
        return Ok(SEEDS_DEFAULT);
    };
    let number = |text: &str| {
        let parsed = text.trim().parse::<u64>();
        parsed.map_err(|error| format!("{SEEDS}={text}: {error}; say 17 or 0..100"))
    };
    match text.split_once("..") {
        Some((first, end)) => Ok(number(first)?..number(end)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

const SEEDS: &str = "BINRUSH_CLUSTER_SEEDS";
const SEEDS_DEFAULT: Range<u64> = 0..100;

/// Not every cluster has the occasion to break every rule.
const MUTANT_SEEDS: u64 = 40;

/// What the default seeds have to meet.
const SITUATIONS: &[&str] = &[
    "after a storm: verified, and the truth",
    "asked for a sync",
    "clock step",
    "connection reset",
    "copies equal to the truth",
    "donated",
    "donor dies in the middle",
    "duplicate id",
    "genuine node is synced by ours",
    "held",
    "learned",
    "node down",
    "nobody to sync from",
    "not confirmed, and spared",
    "packets lost with a connection",
    "pause",
    "refused: foreign address",
    "refused: unexpected sync",
    "released: abandoned",
    "restart",
    "sleeping shard",
    "slow reader",
    "suspect",
    "taken over, and given back",
    "sync completed, all confirmed",
    "sync completed, nothing removed",
    "sync of several packets",
    "verified as a seed",
    "verified by a sync",
    "way cut",
];
