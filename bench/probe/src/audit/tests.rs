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
        damaged: 0,
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
        (1, 1, 0, Seen::Fresh),
        (1, 2, 0, Seen::Fresh),
        (1, 3, 0, Seen::Beyond),
        (1, 0, 1 << 40, Seen::Beyond),
        (1, 0, 1, Seen::Fresh),
    ] {
        let seen = show(&mut audit, run, plain(stream, sequence));
        assert_eq!(seen, expected, "{run} {stream} {sequence}");
    }
    assert_eq!(audit.report().beyond, 2);
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
    assert_eq!((report.runs[1].total().unique, report.beyond), (70_000, 2));
}

#[test]
fn one_run_too_many_takes_the_place_of_the_one_seen_least_recently() {
    let limits = Limits {
        runs: 3,
        ..Limits::default()
    };
    let mut audit = Audit::new(limits);
    let see = |audit: &mut Audit, second: u64, run| {
        let packet = packet_of(run, plain(0, second));
        audit.see(RECEIVED_NS + second * 1_000_000_000, &parsed(MISS, &packet))
    };
    // A thousand runs one after the other, and one that goes on.
    for second in 0..1_000 {
        let run = 1 + u16::try_from(second).unwrap();
        assert_eq!(see(&mut audit, second, run), Seen::Fresh);
        assert_eq!(see(&mut audit, second, 5_000), Seen::Fresh);
    }
    let report = audit.report();
    let runs: Vec<u16> = report.runs.iter().map(|run| run.run).collect();
    assert_eq!(runs, [999, 1_000, 5_000]);
    assert_eq!(report.run(5_000).unwrap().total().unique, 1_000);
    assert_eq!((report.evicted, report.beyond), (998, 0));
    for run in runs {
        audit.forget(run);
    }
    assert_eq!(
        audit.memory.used(),
        0,
        "the numbers of all runs were released"
    );
}

#[test]
fn each_packet_is_in_one_count() {
    let limits = Limits {
        runs: 2,
        streams: 2,
        ..Limits::default()
    };
    let mut audit = Audit::new(limits);
    let mut shown = 0;
    for (run, stream, sequence) in [
        (1, 0, 0),
        (1, 1, 0),
        (1, 2, 0),
        (2, 0, 0),
        (2, 0, 0),
        (2, 0, 1 << 40),
        (3, 0, 0),
        (3, 1, 7),
    ] {
        let good = packet_of(run, plain(stream, sequence));
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for packet in [good, reparsed(MISS, damaged), unstamped(MISS).0] {
            audit.see(RECEIVED_NS, &parsed(MISS, &packet));
            shown += 1;
        }
    }
    let report = audit.report();
    let received: u64 = report.runs.iter().map(|run| run.total().received).sum();
    assert_eq!(
        received + report.damaged_total() + report.foreign + report.beyond + report.evicted,
        shown
    );
    // Of the stream beyond the limit, to which nobody has given a place.
    assert_eq!((report.damaged, report.damaged_total()), (1, 6));
    assert_eq!((report.beyond, report.foreign, report.evicted), (2, 8, 4));
}

#[test]
fn what_is_damaged_counts_for_its_stream_and_begins_none() {
    let mut audit = Audit::new(Limits::default());
    let damaged = |run, stream| {
        let mut packet = packet_of(run, plain(stream, 0));
        *packet.last_mut().unwrap() ^= 1;
        reparsed(MISS, packet)
    };
    for (run, stream) in [(1, 0), (1, 1), (2, 0)] {
        let seen = audit.see(RECEIVED_NS, &parsed(MISS, &damaged(run, stream)));
        assert_eq!(seen, Seen::Damaged);
    }
    assert!(audit.report().runs.is_empty());
    show(&mut audit, 1, plain(1, 1));
    for (run, stream) in [(1, 0), (1, 1), (1, 1), (2, 0)] {
        audit.see(RECEIVED_NS, &parsed(MISS, &damaged(run, stream)));
    }
    let report = audit.report();
    assert_eq!((report.damaged, report.damaged_total()), (5, 7));
    let [run] = &report.runs[..] else {
        panic!("one run: {report:?}")
    };
    let [stream] = run.streams[..] else {
        panic!("one stream: {run:?}")
    };
    assert_eq!((stream.stream, stream.received, stream.damaged), (1, 1, 2));
    assert_eq!(run.total().damaged, 2);
    // Put together, nothing is lost.
    let mut merged = report.clone();
    merged.merge(report);
    assert_eq!((merged.damaged, merged.damaged_total()), (10, 14));
    let mut both = Audit::new(Limits::default());
    both.absorb(audit.copy_of(1));
    both.absorb(audit);
    assert_eq!(both.report().damaged_total(), 14);
}

#[test]
fn what_comes_before_it_is_due_has_no_latency() {
    let mut audit = Audit::new(Limits::default());
    for (sequence, due) in [(0, RECEIVED_NS + 1), (1, RECEIVED_NS), (2, u64::MAX)] {
        let stamp = Stamp {
            run: 1,
            stream: 0,
            sequence,
            intended_ns: due,
            late_ns: Some(0),
        };
        let packet = stamped(MISS, &stamp).0;
        assert_eq!(audit.see(RECEIVED_NS, &parsed(MISS, &packet)), Seen::Fresh);
    }
    let report = audit.report();
    let run = report.run(1).unwrap();
    assert_eq!((run.early, run.total().unique), (2, 3));
    let latencies = &run.intervals[0].latency;
    assert_eq!(
        (run.intended.count(), run.actual.count(), latencies.count()),
        (1, 1, 1)
    );
    let mut merged = report.clone();
    merged.merge(report.clone());
    assert_eq!(merged.runs[0].early, 4);
}

#[test]
fn a_copy_of_a_run_is_put_together_as_the_run_itself() {
    let mut audit = Audit::new(Limits::default());
    for sequence in [0, 1, 5, 3, 3, 200_000] {
        show(&mut audit, 1, plain(0, sequence));
        show(&mut audit, 2, plain(0, sequence));
    }
    let mut whole = Audit::new(Limits::default());
    whole.absorb(audit.copy_of(1));
    let (report, expected) = (whole.report(), audit.report());
    assert_eq!(report.runs, expected.runs[..1]);
    whole.absorb(audit.copy_of(1));
    let total = whole.report().runs[0].total();
    assert_eq!((total.unique, total.duplicates), (5, 7));
    let mut copy = audit.copy_of(2);
    assert!(copy.forget(2) && audit.copy_of(9).report().runs.is_empty());
    assert_eq!(audit.report(), expected);
}

#[test]
fn no_number_is_followed_that_is_far_above_all_others() {
    let mut audit = Audit::new(Limits::default());
    let ahead = 1 << 28;
    for (sequence, expected) in [
        (ahead + 1, Seen::Beyond),
        (ahead, Seen::Fresh),
        (2 * ahead + 1, Seen::Beyond),
        (3, Seen::Fresh),
        (2 * ahead, Seen::Fresh),
    ] {
        let seen = show(&mut audit, 1, plain(0, sequence));
        assert_eq!(seen, expected, "{sequence}");
    }
    let stream = audit.report().runs[0].streams[0];
    assert_eq!((stream.last, stream.unique), (2 * ahead, 3));
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
    assert_eq!(other.report().runs[0].intervals_cut, 2);
    at(&mut other, 41, 12);
    assert_eq!(other.report().runs[0].total().unique, 8);
    let mut report = other.report();
    report.leave_out_intervals();
    assert!(report.runs[0].intervals.is_empty());
    assert_eq!(report.runs[0].intervals_cut, 6);
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
