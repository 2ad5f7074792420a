//! The families about routing scripts.

use prometheus::proto::MetricFamily;

use super::family::{counter, counters};
use crate::serve::script::Counts;

/// All of them, where there is a script.
pub(super) fn families(counts: &Counts) -> [MetricFamily; 7] {
    let routes = &counts.routes;
    let one = |name, help, value: u64| counters(name, help, [counter(&[], value as f64)]);
    let faults = [
        ("endless", routes.endless),
        ("too_deep", routes.too_deep),
        ("incomparable", routes.incomparable),
        ("overlong", routes.overlong),
    ];
    let faults = faults.map(|(why, value)| counter(&[("why", why)], value as f64));
    [
        one(
            "binrush_script_runs_total",
            "Runs of routes, those that others called not among them.",
            routes.runs,
        ),
        one(
            "binrush_script_dropped_packets_total",
            "Packets that the request route dropped.",
            routes.dropped,
        ),
        counters(
            "binrush_script_faults_total",
            "Runs that were ended after too many steps, calls that were too deep, comparisons of a text with a number, events that were too long.",
            faults,
        ),
        one(
            "binrush_script_events_offered_total",
            "Events that have a route.",
            routes.events_offered,
        ),
        one(
            "binrush_script_events_run_total",
            "Events whose route ran.",
            routes.events_run,
        ),
        one(
            "binrush_script_events_dropped_total",
            "Events that found no room on their way to their routes.",
            routes.events_dropped,
        ),
        one(
            "binrush_script_lines_dropped_total",
            "Lines of scripts that found no room on their way to standard output.",
            counts.lines_dropped,
        ),
    ]
}
