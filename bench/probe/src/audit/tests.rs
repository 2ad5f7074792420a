//! The audit against a slow one that remembers everything.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::Stamp;
use crate::made::{KINDS, Kind, parsed, reparsed, stamped, unstamped};
use crate::report::StreamReport;

/// One arrival.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    stream: u16,
    sequence: u64,
    latency_ns: u64,
    late_ns: Option<u32>,
}

/// What any reader would write down first.
#[derive(Debug, Default)]
struct Slow {
    streams: BTreeMap<u16, (Vec<u64>, HashSet<u64>)>,
    intended: Vec<u64>,
    actual: Vec<u64>,
}

impl Slow {
    fn see(&mut self, arrival: Arrival) -> Seen {
        let (all, seen) = self.streams.entry(arrival.stream).or_default();
        all.push(arrival.sequence);
        if !seen.insert(arrival.sequence) {
            return Seen::Duplicate;
        }
        self.intended.push(arrival.latency_ns);
        let late = arrival.late_ns.map(u64::from);
        self.actual
            .extend(late.map(|late| arrival.latency_ns.saturating_sub(late)));
        Seen::Fresh
    }

    fn streams(&self) -> Vec<StreamReport> {
        self.streams
            .iter()
            .map(|(stream, (all, seen))| of_stream(*stream, all, seen))
            .collect()
    }
}

fn of_stream(stream: u16, all: &[u64], seen: &HashSet<u64>) -> StreamReport {
    let last = *all.iter().max().unwrap();
    let (mut reordered, mut distance, mut highest) = (0, 0, None);
    let mut before = HashSet::new();
    for sequence in all {
        if before.insert(sequence)
            && let Some(highest) = highest.filter(|highest| *highest > sequence)
        {
            reordered += 1;
            distance = distance.max(highest - sequence);
        }
        highest = highest.max(Some(sequence));
    }
    let (mut gaps, mut gap, mut longest) = (0, 0, 0);
    for number in 0..=last {
        gap = if seen.contains(&number) { 0 } else { gap + 1 };
        gaps += u64::from(gap > 0);
        longest = longest.max(gap);
    }
    StreamReport {
        stream,
        received: all.len() as u64,
        unique: seen.len() as u64,
        duplicates: (all.len() - seen.len()) as u64,
        reordered,
        reorder_distance_max: distance,
        first: *all.iter().min().unwrap(),
        last,
        gaps,
        gap_longest: longest,
    }
}

fn packet_of(run: u16, arrival: Arrival) -> Vec<u8> {
    let stamp = Stamp {
        run,
        stream: arrival.stream,
        sequence: arrival.sequence,
        intended_ns: RECEIVED_NS - arrival.latency_ns,
        late_ns: arrival.late_ns,
    };
    stamped(MISS, &stamp).0
}

fn show(audit: &mut Audit, run: u16, arrival: Arrival) -> Seen {
    audit.see(RECEIVED_NS, &parsed(MISS, &packet_of(run, arrival)))
}

fn plain(stream: u16, sequence: u64) -> Arrival {
    Arrival {
        stream,
        sequence,
        latency_ns: 1_000,
        late_ns: Some(10),
    }
}

/// Streams with loss, copies and disorder; the latencies are of few values, so that histograms show them exactly.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let arrival = (0..3_u16, 0..600_u64, 0..9_u64, prop::option::of(0..5_u32));
    let arrival = arrival.prop_map(|(stream, sequence, latency, late)| Arrival {
        stream,
        sequence,
        latency_ns: latency * 100,
        late_ns: late.map(|late| late * 50),
    });
    let shuffled = prop::collection::vec(arrival, 1..400);
    // Mostly in order, with some that come late.
    let sorted = shuffled.clone().prop_map(|mut arrivals| {
        arrivals.sort_by_key(|arrival| arrival.sequence + arrival.latency_ns / 100);
        arrivals
    });
    prop_oneof![shuffled, sorted]
}

fn sorted_values(hist: &crate::Hist) -> Vec<u64> {
    let values = hist.inner().iter_recorded();
    let values = values.map(|value| (value.value_iterated_to(), value.count_at_value()));
    values
        .flat_map(|(value, count)| (0..count).map(move |_| value))
        .collect()
}

/// What a histogram makes of `values`: 0 is 1.
fn recorded(values: &[u64]) -> Vec<u64> {
    let mut values: Vec<u64> = values.iter().map(|value| (*value).max(1)).collect();
    values.sort_unstable();
    values
}

proptest! {
    #[test]
    fn counts_what_a_slow_audit_counts(arrivals in arrivals()) {
        let (mut audit, mut slow) = (Audit::new(Limits::default()), Slow::default());
        for arrival in arrivals {
            prop_assert_eq!(show(&mut audit, 3, arrival), slow.see(arrival));
        }
        let report = audit.report();
        let run = report.run(3).unwrap();
        prop_assert_eq!(&run.streams, &slow.streams());
        prop_assert_eq!(sorted_values(&run.intended), recorded(&slow.intended));
        prop_assert_eq!(sorted_values(&run.actual), recorded(&slow.actual));
        prop_assert_eq!((report.damaged, report.foreign, report.beyond), (0, 0, 0));
        prop_assert_eq!(run.intervals.len(), 1);
        prop_assert_eq!(&run.intervals[0].latency, &run.intended);
        prop_assert_eq!(run.intervals[0].received, run.total().received);
    }

    /// As when the shards of a server see a part each: all that does not depend on the order is as of one.
    #[test]
    fn audits_put_together_count_as_one(arrivals in arrivals(), shards in 1..4_u64, copies_meet: bool) {
        let mut whole = Audit::new(Limits::default());
        let mut parts: Vec<_> = (0..shards).map(|_| Audit::new(Limits::default())).collect();
        for (index, arrival) in arrivals.into_iter().enumerate() {
            show(&mut whole, 3, arrival);
            let key = if copies_meet { arrival.sequence } else { index as u64 };
            show(&mut parts[usize::try_from(key % shards).unwrap()], 3, arrival);
        }
        let reports: Vec<_> = parts.iter().map(Audit::report).collect();
        let mut together = Audit::new(Limits::default());
        parts.into_iter().for_each(|part| together.absorb(part));
        let (expected, report) = (whole.report(), together.report());
        let of_all = |report: &Report| -> Vec<StreamReport> {
            let streams = report.runs[0].streams.iter();
            streams.map(|stream| StreamReport { reordered: 0, reorder_distance_max: 0, ..*stream }).collect()
        };
        prop_assert_eq!(of_all(&report), of_all(&expected));
        prop_assert_eq!(report.runs[0].intervals[0].received, expected.runs[0].intervals[0].received);
        if copies_meet {
            prop_assert_eq!(&report.runs[0].intended, &expected.runs[0].intended);
            prop_assert_eq!(&report.runs[0].intervals, &expected.runs[0].intervals);
            // Reports alone know the same, but for the longest gap.
            let mut merged = Report::default();
            reports.into_iter().for_each(|report| merged.merge(report));
            let without_longest = |report: &Report| -> Vec<StreamReport> {
                of_all(report).into_iter().map(|stream| StreamReport { gap_longest: 0, ..stream }).collect()
            };
            prop_assert_eq!(without_longest(&merged), without_longest(&expected));
        }
    }
}

#[test]
fn one_missing_of_a_million_is_one_gap() {
    let mut audit = Audit::new(Limits::default());
    let (mut packet, at) = unstamped(MISS);
    for sequence in (0..1_000_000).filter(|sequence| *sequence != 765_432) {
        let stamp = Stamp {
            run: 1,
            stream: 0,
            sequence,
            intended_ns: 1,
            late_ns: None,
        };
        crate::seal(&mut packet, at, &stamp);
        packet = reparsed(MISS, packet);
        assert_eq!(audit.see(2, &parsed(MISS, &packet)), Seen::Fresh);
    }
    let total = audit.report().runs[0].total();
    assert_eq!(
        (total.unique, total.gaps, total.gap_longest),
        (999_999, 1, 1)
    );
    assert_eq!((total.duplicates, total.reordered), (0, 0));
}

#[test]
fn what_is_damaged_or_foreign_is_in_no_stream() {
    let mut audit = Audit::new(Limits::default());
    let mut damaged = packet_of(1, plain(0, 0));
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = reparsed(MISS, damaged);
    assert_eq!(audit.see(2, &parsed(MISS, &damaged)), Seen::Damaged);
    let (foreign, _) = unstamped(MISS);
    for _ in 0..2 {
        assert_eq!(audit.see(2, &parsed(MISS, &foreign)), Seen::Foreign);
    }
    let expected = Report {
        damaged: 1,
        foreign: 2,
        ..Report::default()
    };
    assert_eq!(audit.report(), expected);
}

#[test]
fn what_the_limits_leave_no_room_for_is_counted_as_such() {
    let limits = Limits {
        runs: 2,
        streams: 3,
        memory: 64 << 10,
        intervals: 1,
    };
    let mut audit = Audit::new(limits);
    for (run, stream, sequence, expected) in [
        (1, 0, 0, Seen::Fresh),
        (2, 0, 0, Seen::Fresh),
        (3, 0, 0, Seen::Beyond),
        (1, 1, 0, Seen::Fresh),
        (1, 2, 0, Seen::Fresh),
        (1, 3, 0, Seen::Beyond),
        (1, 0, 1 << 40, Seen::Beyond),
        (1, 0, 1, Seen::Fresh),
    ] {
        let seen = show(&mut audit, run, plain(stream, sequence));
        assert_eq!(seen, expected, "{run} {stream} {sequence}");
    }
    assert_eq!(audit.report().beyond, 3);
    // What is forgotten makes room, also for what comes later.
    assert!(audit.forget(1) && !audit.forget(1));
    for sequence in 0..70_000 {
        assert_eq!(
            show(&mut audit, 3, plain(9, sequence)),
            Seen::Fresh,
            "{sequence}"
        );
    }
    let report = audit.report();
    assert_eq!(
        report.runs.iter().map(|run| run.run).collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!((report.runs[1].total().unique, report.beyond), (70_000, 3));
}

#[test]
fn seconds_are_told_apart_and_the_first_ones_are_kept() {
    let limits = Limits {
        intervals: 3,
        ..Limits::default()
    };
    let (mut one, mut other) = (Audit::new(limits), Audit::new(limits));
    let at = |audit: &mut Audit, tenths: u64, sequence| {
        let packet = packet_of(1, plain(0, sequence));
        audit.see(RECEIVED_NS + tenths * 100_000_000, &parsed(MISS, &packet));
    };
    // It is 0.68 s past a second there.
    for (tenths, sequence) in [(0, 0), (5, 1), (5, 1), (10, 2), (31, 3), (41, 4)] {
        at(&mut one, tenths, sequence);
    }
    let seconds = |audit: &Audit| -> Vec<(u64, u64, u64)> {
        let runs = audit.report().runs;
        let intervals = runs[0].intervals.iter();
        let second = |second: u64| second - RECEIVED_NS / 1_000_000_000;
        intervals
            .map(|each| (second(each.second), each.received, each.latency.count()))
            .collect()
    };
    // The last is not over, and so not judged by the limit yet.
    assert_eq!(seconds(&one), [(0, 1, 1), (1, 3, 2), (3, 1, 1), (4, 1, 1)]);
    for (tenths, sequence) in [(10, 10), (21, 11)] {
        at(&mut other, tenths, sequence);
    }
    other.absorb(one);
    assert_eq!(seconds(&other), [(0, 1, 1), (1, 4, 3), (2, 1, 1)]);
    at(&mut other, 41, 12);
    assert_eq!(other.report().runs[0].total().unique, 8);
}

#[test]
fn a_report_reads_as_it_was_written() {
    let mut audit = Audit::new(Limits::default());
    for sequence in [0, 1, 4, 2, 2] {
        show(&mut audit, 5, plain(1, sequence));
    }
    let report = audit.report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert!(
        text.contains(r#""unique":4,"duplicates":1,"reordered":1,"#),
        "{text}"
    );
}

/// Any that carries a stamp.
const MISS: Kind = KINDS[18];

/// Some hours after the start of the machine.
const RECEIVED_NS: u64 = 12_345_678_901_234;
