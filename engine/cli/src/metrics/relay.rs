//! The families about the relay: labels are targets, of which there are a few, and reasons.

use binrush_engine::relay::TargetSnapshot;
use prometheus::proto::{Metric, MetricFamily};

use super::family::{counter, counters, gauge, gauges};

type OfTarget = (&'static str, &'static str, fn(&TargetSnapshot) -> u64);

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(targets: &[TargetSnapshot]) -> Vec<MetricFamily> {
    let of = |value: fn(&TargetSnapshot) -> u64, metric: fn(&[(&str, &str)], f64) -> Metric| {
        let sample =
            move |target: &TargetSnapshot| metric(&[("to", &target.to)], value(target) as f64);
        targets.iter().map(sample).collect::<Vec<_>>()
    };
    let counted = COUNTERS.map(|(name, help, value)| counters(name, help, of(value, counter)));
    let shown = GAUGES.map(|(name, help, value)| gauges(name, help, of(value, gauge)));
    let refused = targets.iter().flat_map(|target| {
        let refused = target.refused.iter();
        refused.map(|each| counter(&[("to", &target.to), ("why", each.why)], each.count as f64))
    });
    let refused = counters(
        "binrush_relay_refused_total",
        "Packets that the release of a target cannot be told.",
        refused,
    );
    counted.into_iter().chain(shown).chain([refused]).collect()
}

const COUNTERS: [OfTarget; 9] = [
    (
        "binrush_relay_accepted_total",
        "Packets that were accepted here and are to go on to a target.",
        |target| target.accepted,
    ),
    (
        "binrush_relay_passed_total",
        "Packets whose fields went on to a target as they were.",
        |target| target.passed,
    ),
    (
        "binrush_relay_translated_total",
        "Packets that were written anew for a target.",
        |target| target.translated,
    ),
    (
        "binrush_relay_looped_total",
        "Packets that go no further, because they came round.",
        |target| target.looped,
    ),
    (
        "binrush_relay_echoed_total",
        "Packets that do not go back to the target that they came from.",
        |target| target.echoed,
    ),
    (
        "binrush_relay_dropped_total",
        "Packets for which there was no room, in the ring of a shard or in the queue of a target, or whose target could not be started.",
        |target| target.dropped,
    ),
    (
        "binrush_relay_made_total",
        "Packets that were made for a target: sent, lost or queued.",
        |target| target.made,
    ),
    (
        "binrush_relay_sent_total",
        "Packets for a target that the kernel took.",
        |target| target.sent,
    ),
    (
        "binrush_relay_lost_total",
        "Packets for a target that the kernel did not take, or a connection lost.",
        |target| target.lost,
    ),
];

const GAUGES: [OfTarget; 3] = [
    (
        "binrush_relay_up",
        "1: packets can go to a target. 0: it could not be started, or its connection broke or could not be made.",
        |target| target.up.into(),
    ),
    (
        "binrush_relay_waiting",
        "Accepted packets that the relay has not looked at.",
        |target| target.waiting,
    ),
    (
        "binrush_relay_queued",
        "Packets in the queue of a target.",
        |target| target.queued,
    ),
];
