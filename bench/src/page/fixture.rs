//! Results for tests, made from seeds.

use binrush_probe::{Hist, Interval, Report, RunReport, StreamReport};
use serde_json::json;

use crate::ledger::Terms;
use crate::result::{
    Binding, Doubt, FORMAT, GoalResult, IntervalRow, Ledger, ReceiverResult, RunResult,
    SearchResult, SelfTestRow, SenderResult, Trial,
};

/// A load of 10 s with one packet in 4 000 lost, and a second in which the receiver stood still.
pub(crate) fn load() -> RunResult {
    let mut result = empty();
    result.complete = true;
    result.trouble = None;
    result.trials = vec![trial("load", 50_000.0, 10, 1)];
    result.self_test = vec![
        self_test("plain", 231_000.0, 3),
        self_test("gso", 5_210_000.0, 4),
    ];
    result.doubts = vec![
        doubt(
            "note",
            "Udp: 12 datagrams were dropped since boot, before this run",
            None,
        ),
        doubt(
            "doubt",
            "steal: 1.8 % of the time was the hypervisor's",
            Some("measure when its other guests are quiet"),
        ),
    ];
    result
}

/// Twelve trials towards a knee at 400 000/s, then 10, 50 and 90 % of the rate found.
pub(crate) fn search() -> RunResult {
    let mut result = load();
    result.command = "search".to_owned();
    let rates = [
        1e6, 5e5, 2.5e5, 3.75e5, 4.4e5, 4.1e5, 3.9e5, 4.0e5, 4.05e5, 4.0e5, 3.98e5, 3.99e5, 0.4e5,
        2.0e5, 3.6e5,
    ];
    result.trials = (0..)
        .zip(rates)
        .map(|(index, rate)| {
            let name = match index {
                0..12 => format!("trial {}", index + 1),
                12 => "at 10 %".to_owned(),
                13 => "at 50 %".to_owned(),
                _ => "at 90 %".to_owned(),
            };
            towards(trial(&name, rate, 2, index), 4.02e5)
        })
        .collect();
    let binding = Binding {
        resource: "receiver core".to_owned(),
        evidence: "busy 99.2 % of the time, 812 datagrams dropped by the socket".to_owned(),
    };
    result.search = Some(SearchResult {
        goals: vec![GoalResult {
            goal: "loss <= 0.0005 and p99 <= 1ms".to_owned(),
            lower_pps: Some(4.0e5),
            upper_pps: Some(4.05e5),
            throughput_pps: Some(4.0e5),
            exit: "regular".to_owned(),
        }],
        rate_pps: 4.0e5,
        lower_pps: Some(4.0e5),
        upper_pps: Some(4.05e5),
        binding,
        at_percent: vec![(10, 12), (50, 13), (90, 14)],
    });
    result
}

/// A load whose receiver died, with a remainder, and figures that are worth nothing.
pub(crate) fn incomplete() -> RunResult {
    let mut result = load();
    result.complete = false;
    result.trouble = Some("the receiver died during the load: signal 9".to_owned());
    result.doubts.push(doubt(
        "worthless",
        "load: 90 000 packets were not sent in time",
        Some("a lower rate"),
    ));
    let trial = &mut result.trials[0];
    trial.ledger.loss_ratio = 4_836.0 / 504_711.0;
    trial.ledger.remainder = 4_711;
    trial.ledger.planned += 4_711;
    trial.receiver.probe = None;
    trial.actual = Hist::new();
    result
}

/// A run that ended before it measured anything.
pub(crate) fn empty() -> RunResult {
    RunResult {
        format: FORMAT,
        command: "load".to_owned(),
        arguments: ["load", "dialogs", "--rate", "50k", "--out", "a run.json"]
            .map(str::to_owned)
            .into(),
        started: "2026-03-04T05:06:07.890Z".to_owned(),
        finished: "2026-03-04T05:06:19.001Z".to_owned(),
        complete: false,
        trouble: Some("interrupted".to_owned()),
        version: "0.1.0 (4406f95)".to_owned(),
        host: json!({
            "kernel": "6.12.9",
            "boot_options": ["mitigations=auto"],
            "load": 0.12,
            "cpu": {"name": "AMD EPYC", "family": 26, "online": "0-1", "governor": null, "idle_driver": "haltpoll"},
            "virtualisation": {"hypervisor": true, "product": "KVM"},
            "sysctl": {"rmem_max": 212_992, "udp_mem": [575_799, 767_734, 1_151_598], "io_uring_disabled": 0},
            "network": {"interfaces": {"eth0": {"driver": "virtio_net", "irqs": (0..9).map(|number| json!({"number": number, "name": "input", "count": 0})).collect::<Vec<_>>()}}},
        }),
        doubts: Vec::new(),
        self_test: Vec::new(),
        trials: Vec::new(),
        search: None,
        overload: None,
    }
}

/// A trial by a seed: two senders, `seconds` whole seconds that begin in the middle of one of the clock.
pub(crate) fn trial(name: &str, rate_pps: f64, seconds: u32, seed: u64) -> Trial {
    let mut random = Random(seed);
    let per_second = whole(rate_pps);
    let planned = per_second * u64::from(seconds);
    let (mut intended, mut actual, mut intervals) = (Hist::new(), Hist::new(), Vec::new());
    for second in 0..=seconds {
        // The clock's first and last seconds are halves.
        let ends = if second == 0 || second == seconds {
            2
        } else {
            1
        };
        let due = per_second / ends;
        let lost = if second == 0 { planned / 4_000 } else { 0 };
        let (latency, from_sent) = latencies(&mut random, due - lost, second == 6);
        intended.merge(&latency);
        actual.merge(&from_sent);
        intervals.push(IntervalRow {
            second: u64::from(second),
            offered: due,
            sent: due,
            received: Some(due - lost),
            latency,
        });
    }
    let offered = intervals.iter().map(|row| row.offered).sum();
    let received = intervals.iter().filter_map(|row| row.received).sum();
    let senders = senders(&mut random, offered, seconds);
    let receiver = receiver(
        received,
        offered - received,
        [&intended, &actual],
        &intervals,
    );
    Trial {
        name: name.to_owned(),
        scenario: "dialogs".to_owned(),
        transport: "udp".to_owned(),
        arrivals: "poisson".to_owned(),
        seed,
        run: RUN,
        offered_pps: rate_pps,
        seconds: f64::from(seconds),
        ledger: Ledger::of(Terms {
            run: RUN,
            senders: &senders,
            receiver: &receiver,
            train_max: 1,
            stamped: true,
            expected: &[],
        }),
        senders,
        receiver,
        intended,
        actual,
        intervals,
        binding: None,
    }
}

/// A trial at a receiver with a limit: the nearer it comes, the longer its slowest packets wait; beyond, it loses some.
fn towards(mut trial: Trial, limit_pps: f64) -> Trial {
    let used = trial.offered_pps / limit_pps;
    let wait = whole(60_000.0 / (1.05 - used.min(1.0))) + whole(2e6 * (used - 1.0).max(0.0));
    for row in &mut trial.intervals {
        row.latency.record_n(wait, row.latency.count() / 40 + 1);
    }
    trial
        .intended
        .record_n(wait, trial.intended.count() / 40 + 1);
    if used > 1.0 {
        trial.ledger.loss_ratio = 1.0 - 1.0 / used;
    }
    trial
}

fn senders(random: &mut Random, offered: u64, seconds: u32) -> Vec<SenderResult> {
    let halves = [offered / 2, offered - offered / 2];
    (0..)
        .zip(halves)
        .map(|(stream, planned)| SenderResult {
            stream,
            core: Some(usize::from(stream)),
            way: "gso".to_owned(),
            planned,
            sent: planned,
            bytes: planned * 230,
            sends: planned / 17 + 1,
            batch_max: 64,
            lateness: lateness(random, planned),
            start_ns: 100_500_000_000,
            by_second: vec![planned / u64::from(seconds); seconds as usize],
            due_by_second: vec![planned / u64::from(seconds); seconds as usize],
            cpu_ns: planned * 410,
            elapsed_ns: u64::from(seconds) * 1_000_000_000,
            ..SenderResult::default()
        })
        .collect()
}

fn receiver(
    received: u64,
    lost: u64,
    [intended, actual]: [&Hist; 2],
    intervals: &[IntervalRow],
) -> ReceiverResult {
    let half = received / 2;
    let stream = |stream, unique| StreamReport {
        stream,
        received: unique + 3,
        unique,
        duplicates: 3,
        reordered: 11,
        reorder_distance_max: 4,
        first: 0,
        last: unique + lost / 2,
        gaps: lost / 2,
        gap_longest: 5,
        ..StreamReport::default()
    };
    let seconds = intervals.iter().map(|row| Interval {
        second: 100 + row.second,
        received: row.received.unwrap_or(0),
        latency: row.latency.clone(),
    });
    let run = RunReport {
        run: RUN,
        streams: vec![stream(0, half), stream(1, received - half)],
        intended: intended.clone(),
        actual: actual.clone(),
        intervals: seconds.collect(),
        ..RunReport::default()
    };
    ReceiverResult {
        name: "binrush serve 0.1.0 (recvmmsg, 1 shard)".to_owned(),
        outcomes: [("handled".to_owned(), received)].into(),
        received: Some(received),
        kernel_drops: [("buffer".to_owned(), lost), ("acl".to_owned(), 0)].into(),
        probe: Some(Report {
            runs: vec![run],
            ..Report::default()
        }),
        cpu_ns: Some(received * 480),
        busy: Some(0.62),
        backlog: Some(0.01),
        rcvbuf: Some(8 << 20),
        streams: None,
    }
}

/// From when they were due and from when they were sent. Most take about 20 us, few a millisecond; in a second in which the
/// receiver stood still, one in twenty up to 100 ms.
fn latencies(random: &mut Random, count: u64, stalled: bool) -> (Hist, Hist) {
    let (mut intended, mut actual) = (Hist::new(), Hist::new());
    for sample in 0..SAMPLES {
        // What is left over is with the first.
        let count = count / SAMPLES + if sample == 0 { count % SAMPLES } else { 0 };
        let share = (sample as f64 + random.share()) / SAMPLES as f64;
        let waited = if stalled && share > 0.95 {
            (share - 0.95) * 2e9
        } else {
            0.0
        };
        let ns = waited + 18_000.0 / (1.001 - share).powf(0.45);
        intended.record_n(whole(ns), count);
        actual.record_n(whole(ns - 9_000.0 * share.powi(8)), count);
    }
    (intended, actual)
}

fn lateness(random: &mut Random, count: u64) -> Hist {
    let mut hist = Hist::new();
    for _ in 0..SAMPLES {
        let share = random.share();
        hist.record_n(whole(300.0 / (1.002 - share)), count / SAMPLES + 1);
    }
    hist
}

fn self_test(way: &str, rate_pps: f64, seed: u64) -> SelfTestRow {
    SelfTestRow {
        way: way.to_owned(),
        size: 230,
        rate_pps,
        ns_per_packet: 1e9 / rate_pps,
        lateness: lateness(&mut Random(seed), 50_000),
        lateness_at_pps: 50_000.0,
        unsent: 0,
        lost: 0,
    }
}

pub(crate) fn doubt(severity: &str, text: &str, advice: Option<&str>) -> Doubt {
    Doubt {
        severity: severity.to_owned(),
        text: text.to_owned(),
        advice: advice.map(str::to_owned),
    }
}

/// Draws that are the same everywhere and for ever (SplitMix64).
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "made of small numbers")]
    let whole = value as u64;
    whole
}

const RUN: u16 = 7;

/// Latencies that differ, in a second.
const SAMPLES: u64 = 400;
