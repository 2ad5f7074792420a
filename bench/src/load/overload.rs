//! `binrush-bench overload`: more than the receiver can take, for a while, and what it does then and afterwards.
//!
//! ```text
//!   factor ┤          ┌──────────────┐
//!          │          │   overload   │
//!    1/2   ┤──────────┘              └──────────────
//!          └── calm ──┴── --seconds ─┴─ 1 s ─┴─ well
//! ```
//!
//! The rate that goes without loss is given, or looked for by short trials. Seconds are those of the clock by which the receiver
//! counts, and the load begins with one of them: those of the overload are its goodput, and those that begin a second behind it or later
//! have to be well again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use binrush_scenario::{Arrivals, Scenario, Step};

use super::bench::{Bench, Measured};
use super::matter::Matter;
use super::options::{Common, rate, time};
use super::session::Session;
use crate::exit::{End, EndsWith as _};
use crate::patience::Patience;
use crate::procfs::anonymous_bytes;
use crate::result::{IntervalRow, OverloadResult, OverloadRow, RunResult, Trial};
use crate::view::{self, View};

/// Offer more than the receiver can take, and see what is left of it: at the worst the rate that goes without loss, less a tenth.
///
/// After two calm seconds come --seconds of each factor of that rate, and a calm again. Each has to pass: 95 % of the overload was
/// really sent; every packet is in one counter; the goodput is at least 90 % of the rate without loss; the receiver takes no more memory
/// than before, but for 5 % and 4 MiB; and from one second behind it on nothing is lost any more and 99 of 100 packets are handled
/// within 10 ms. The rate without loss is looked for to 5 %.
///
/// Ends with 0 when all passed; with 1 when one did not, or nothing goes without loss; 2 for wrong arguments or scenarios; 3 when
/// the generator was the limit; 4 when the result could not be written.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One of contacts, dialogs, mixed, or a TOML file: of datagrams, since a stream is only taken more slowly.
    scenario: String,

    /// The rate that goes without loss, as `search` finds it; without it a few short trials look for one.
    #[arg(long, value_name = "PPS", value_parser = rate)]
    rate: Option<f64>,

    /// Times that rate.
    #[arg(
        long,
        value_name = "FACTOR,FACTOR...",
        value_delimiter = ',',
        default_value = "2,3"
    )]
    factors: Vec<u8>,

    /// How long the overload lasts: at least 3 s, so that whole seconds of the clock lie in it.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "4s")]
    seconds: Duration,

    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::find(&args.scenario).ends_with(End::Usage)?;
    args.check(&scenario).ends_with(End::Usage)?;
    let patience = Patience::until_signal()?;
    let mut session = Session::begin("overload", &args.common, &[])?;
    let cores = session.cores().to_vec();
    let view = View::start(view::Kind::Load, args.common.json);
    let measured = measure(args, &scenario, &cores, &mut session, &patience, &view);
    view.end();
    if let Err(error) = measured {
        session.trouble(&error);
    }
    session.finish(words)
}

fn measure(
    args: &Args,
    scenario: &Scenario,
    cores: &[usize],
    session: &mut Session,
    patience: &Patience,
    view: &View,
) -> anyhow::Result<()> {
    let mut even = scenario.clone();
    even.arrivals = Arrivals::Constant;
    let matter = Matter::of_scenario(even, &args.common).ends_with(End::Usage)?;
    let mut bench = Bench::new(&args.common, matter, cores, patience)?;
    bench.make_steady();
    session.prepare(&bench, args.rate.unwrap_or(RATE_FIRST), patience)?;
    let lossless_pps = match args.rate {
        Some(rate) => rate,
        None => lossless(&mut bench, view)?,
    };
    let mut rows = Vec::new();
    for &factor in &args.factors {
        let mut stepped = scenario.clone();
        stepped.arrivals = Arrivals::Steps(args.steps(factor));
        let matter = Matter::of_scenario(stepped, &args.common).ends_with(End::Usage)?;
        let mut bench = Bench::new(&args.common, matter, cores, patience)?;
        bench.make_steady();
        bench.begin_on_seconds();
        let (measured, memory) = overload(&mut bench, args, factor, lossless_pps, view)?;
        rows.push(judge(
            &measured.trial,
            args.seconds,
            factor,
            lossless_pps,
            memory,
        ));
        session.add(measured);
    }
    session.overloaded(OverloadResult { lossless_pps, rows });
    Ok(())
}

/// What the receiver takes of memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// At the most, in the calm at the beginning.
    calm: u64,
    /// At the most, from there on.
    most: u64,
}

fn overload(
    bench: &mut Bench,
    args: &Args,
    factor: u8,
    rate_pps: f64,
    view: &View,
) -> anyhow::Result<(Measured, Memory)> {
    let (mut pid, mut memory) = (None, Memory::default());
    let pid_seen = std::cell::Cell::new(None);
    let measured = bench.trial_when(
        &format!("{factor} x"),
        rate_pps,
        CALM_BEFORE + args.seconds + CALM_AFTER,
        &mut |threads| {
            pid_seen.set(threads.first().map(|thread| thread.pid()));
            Ok(())
        },
        &mut |progress| {
            pid = pid.or_else(|| pid_seen.get());
            // One that is gone by now is told of elsewhere.
            if let Some(bytes) = pid.and_then(|pid| anonymous_bytes(pid).ok()) {
                memory.most = memory.most.max(bytes);
                if progress.elapsed < CALM_BEFORE {
                    memory.calm = memory.calm.max(bytes);
                }
            }
            view.update(progress.snapshot());
        },
    )?;
    Ok((measured, memory))
}

/// A rate that goes without loss, and a twentieth more of it does not: doubled, and halved in between, by trials of a second.
fn lossless(bench: &mut Bench, view: &View) -> anyhow::Result<f64> {
    let mut goes = |rate_pps: f64| -> anyhow::Result<bool> {
        let mut show = |progress: &super::bench::Progress<'_>| view.update(progress.snapshot());
        let measured = bench.trial("looking", rate_pps, PROBE, &mut show)?;
        if let Some(trouble) = measured.trouble {
            return Err(trouble);
        }
        let ledger = &measured.trial.ledger;
        let unsent: u64 = measured
            .trial
            .senders
            .iter()
            .map(|sender| sender.unsent)
            .sum();
        Ok(ledger.loss_ratio == 0.0 && unsent == 0)
    };
    let mut low = RATE_FIRST;
    ensure!(
        goes(low)?,
        "not even {RATE_FIRST} packets/s go without loss here"
    );
    let mut high = low * 2.0;
    while high < RATE_LAST && goes(high)? {
        (low, high) = (high, high * 2.0);
    }
    while high > low * FOUND {
        let middle = (low * high).sqrt();
        match goes(middle)? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low)
}

/// What the seconds of a trial say.
fn judge(
    trial: &Trial,
    length: Duration,
    factor: u8,
    lossless_pps: f64,
    memory: Memory,
) -> OverloadRow {
    let start_ns = trial.senders.iter().map(|sender| sender.start_ns).min();
    let phase = (start_ns.unwrap_or(0) % 1_000_000_000) as f64 / 1e9;
    let (begin, end) = (
        CALM_BEFORE.as_secs_f64(),
        (CALM_BEFORE + length).as_secs_f64(),
    );
    let last = (CALM_BEFORE + length + CALM_AFTER).as_secs_f64();
    // A row is a second of the clock; the load begins with the first one, but for who was not asked to.
    let within = |row: &&IntervalRow, from: f64, to: f64| {
        let at = row.second as f64 - phase;
        at >= from && at + 1.0 <= to
    };
    let rows = |from: f64, to: f64| {
        trial
            .intervals
            .iter()
            .filter(move |row| within(row, from, to))
    };
    let received = |row: &IntervalRow| row.received.unwrap_or(0);
    let seconds = rows(begin, end).count().max(1) as f64;
    let goodput_pps = rows(begin, end).map(received).sum::<u64>() as f64 / seconds;
    // What was due and is not sent any more overloads nobody.
    let offered_pps = rows(begin, end).map(|row| row.sent).sum::<u64>() as f64 / seconds;
    let wanted_pps = f64::from(factor) * lossless_pps;
    let calm = rows(end + 1.0, last);
    let (offered, arrived) = calm.clone().fold((0, 0), |(offered, arrived), row| {
        (offered + row.offered, arrived + received(row))
    });
    let p99_ns = calm
        .map(|row| row.latency.value_at(0.99))
        .max()
        .unwrap_or(u64::MAX);
    let missing = (offered as f64 - arrived as f64).max(0.0) / (offered as f64).max(1.0);
    let mut broken = Vec::new();
    if !trial.ledger.is_exact() {
        broken.push(format!(
            "{} packets are in no counter",
            trial.ledger.remainder
        ));
    }
    if offered_pps < OFFERED_MIN * wanted_pps {
        broken.push(format!(
            "it was no overload of {factor} x: {offered_pps:.0} packets/s were sent of {wanted_pps:.0}"
        ));
    }
    if goodput_pps < GOODPUT_MIN * lossless_pps {
        let share = goodput_pps / lossless_pps * 100.0;
        broken.push(format!(
            "the goodput is {share:.0} % of the rate without loss"
        ));
    }
    if memory.calm == 0 {
        broken.push("its memory could not be read in the calm before".to_owned());
    } else if memory.most as f64 > memory.calm as f64 * MEMORY_GROWTH + MEMORY_MORE {
        broken.push(format!(
            "it took {:.1} MiB, and {:.1} MiB before",
            mib(memory.most),
            mib(memory.calm)
        ));
    }
    if offered == 0 || missing > BORDER || p99_ns > RECOVERED_P99_NS {
        broken.push(format!(
            "a second after it {:.2} % were missing, and one in a hundred took {:.1} ms",
            missing * 100.0,
            p99_ns as f64 / 1e6
        ));
    }
    OverloadRow {
        factor,
        offered_pps,
        goodput_pps,
        recovered_p99_ns: p99_ns,
        memory_calm: memory.calm,
        memory_most: memory.most,
        broken,
    }
}

impl Args {
    fn check(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let matter = Matter::of_scenario(scenario.clone(), &self.common)?;
        ensure!(
            !matter.is_stream(),
            "a stream cannot be overloaded: its receiver takes what it can, and the sender waits"
        );
        ensure!(self.seconds >= LENGTH_MIN, "--seconds is at least 3s");
        let factors = self.factors.iter();
        ensure!(
            factors.clone().count() > 0 && factors.clone().all(|factor| (2..=100).contains(factor)),
            "--factors are from 2 to 100"
        );
        let to = self.common.to.is_none();
        ensure!(
            to,
            "an overload needs a receiver of its own: leave --to out"
        );
        Ok(())
    }

    fn steps(&self, factor: u8) -> Vec<Step> {
        let step = |duration, factor| Step { duration, factor };
        vec![
            step(CALM_BEFORE, CALM),
            step(self.seconds, factor.into()),
            step(CALM_AFTER, CALM),
        ]
    }
}

/// The result in words.
fn words(result: &RunResult) -> String {
    let Some(overload) = &result.overload else {
        return super::words::text(result);
    };
    let mut text = format!("without loss: {:.0} packets/s\n", overload.lossless_pps);
    for row in &overload.rows {
        text.push_str(&format!(
            "{} x: {:.0} packets/s offered, {:.0} handled, {:.0} % of the rate without loss; {:.1} MiB, {:.1} MiB before; \
             a second after it p99 {:.2} ms: {}\n",
            row.factor,
            row.offered_pps,
            row.goodput_pps,
            row.goodput_pps / overload.lossless_pps * 100.0,
            mib(row.memory_most),
            mib(row.memory_calm),
            row.recovered_p99_ns as f64 / 1e6,
            match row.broken.is_empty() {
                true => "passed".to_owned(),
                false => format!("FAILED: {}", row.broken.join("; ")),
            }
        ));
    }
    for trial in &result.trials {
        text.push_str(&format!("  {}: {}\n", trial.name, trial.ledger.line()));
    }
    text.push_str(&super::words::doubts(&result.doubts));
    if let Some(trouble) = &result.trouble {
        text.push_str(&format!("NOT COMPLETE: {trouble}\n"));
    }
    text.truncate(text.trim_end().len());
    text
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Of the rate without loss, before and after.
const CALM: f64 = 0.5;

const CALM_BEFORE: Duration = Duration::from_secs(2);

/// Three whole seconds at the least, of which the first is for recovering.
const CALM_AFTER: Duration = Duration::from_secs(4);

const LENGTH_MIN: Duration = Duration::from_secs(3);

/// Of a trial that looks for the rate without loss.
const PROBE: Duration = Duration::from_secs(1);

const RATE_FIRST: f64 = 20_000.0;
const RATE_LAST: f64 = 8_000_000.0;

/// RFC 2544 leaves open what a receiver does beyond its limit; a tenth is what dropping may cost.
const GOODPUT_MIN: f64 = 0.9;

/// Less than that was sent, and what was seen says nothing of the overload that was asked for.
const OFFERED_MIN: f64 = 0.95;

/// How closely the rate without loss is found: half of what dropping may cost.
const FOUND: f64 = 1.05;

/// All that a receiver needs it takes at its start: what comes later is rounding.
const MEMORY_GROWTH: f64 = 1.05;
const MEMORY_MORE: f64 = (4 << 20) as f64;

/// What is due at the end of a second may arrive in the next one.
const BORDER: f64 = 0.001;

/// At half the rate without loss a receiver that has caught up handles what comes as it comes. Ten milliseconds are some three slices of
/// a scheduler (`base_slice_ns` is 3 ms on small machines) that ran others first; what takes longer stands in a queue that is not empty
/// yet. It is for a release build on a machine that does nothing else.
const RECOVERED_P99_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_probe::Hist;

    /// A trial whose seconds, from the first of the clock on, had so many packets offered and received.
    fn trial(seconds: &[(u64, u64)]) -> Trial {
        let result = crate::page::fixture::load();
        let mut trial = result.trials.into_iter().next().expect("it has one");
        trial.ledger.remainder = 0;
        trial.ledger.bytes = None;
        for sender in &mut trial.senders {
            sender.start_ns = 500_000_000;
        }
        let rows = (0..).zip(seconds).map(|(second, (offered, received))| {
            let mut latency = Hist::new();
            latency.record_n(100_000, *received);
            IntervalRow {
                second,
                offered: *offered,
                sent: *offered,
                received: Some(*received),
                latency,
            }
        });
        trial.intervals = rows.collect();
        trial
    }

    const FINE: [(u64, u64); 11] = [
        (250, 250),
        (500, 500),
        (1250, 750),
        (2000, 990),
        (2000, 980),
        (2000, 1000),
        (1250, 600),
        (500, 300),
        (500, 500),
        (500, 500),
        (250, 250),
    ];

    const MEMORY: Memory = Memory {
        calm: 100 << 20,
        most: 101 << 20,
    };

    fn judged(seconds: &[(u64, u64)], memory: Memory) -> OverloadRow {
        judge(&trial(seconds), Duration::from_secs(4), 2, 1000.0, memory)
    }

    #[test]
    fn only_whole_seconds_of_the_overload_count_and_the_first_after_it_does_not() {
        let row = judged(&FINE, MEMORY);
        assert_eq!(row.broken, Vec::<String>::new());
        assert_eq!((row.offered_pps, row.goodput_pps), (2000.0, 990.0));
    }

    #[test]
    fn a_load_that_begins_with_a_second_has_to_be_well_exactly_one_second_behind_the_overload() {
        let mut aligned = trial(&[
            (500, 500),
            (500, 500),
            (2000, 990),
            (2000, 990),
            (2000, 990),
            (2000, 990),
            (500, 300),
            (500, 400),
            (500, 500),
            (500, 500),
        ]);
        for sender in &mut aligned.senders {
            sender.start_ns = 3_000_000_000;
        }
        let row = judge(&aligned, Duration::from_secs(4), 2, 1000.0, MEMORY);
        assert!(
            row.broken[0].starts_with("a second after it 6.67 %"),
            "{row:?}"
        );
        aligned.intervals[7].received = Some(500);
        let row = judge(&aligned, Duration::from_secs(4), 2, 1000.0, MEMORY);
        assert_eq!(row.broken, Vec::<String>::new());
        // Slower than a queue of an idle receiver.
        aligned.intervals[7].latency.record_n(20_000_000, 500);
        let row = judge(&aligned, Duration::from_secs(4), 2, 1000.0, MEMORY);
        assert!(row.broken[0].contains("took 20."), "{row:?}");
    }

    #[test]
    fn what_was_not_sent_is_no_overload_and_memory_that_nobody_read_is_not_fine() {
        let mut slow = trial(&FINE);
        slow.intervals[3].sent = 1000;
        let row = judge(&slow, Duration::from_secs(4), 2, 1000.0, MEMORY);
        assert!(
            row.broken[0].contains("1667 packets/s were sent of 2000"),
            "{row:?}"
        );
        let unread = judged(&FINE, Memory::default());
        assert_eq!(unread.broken.len(), 1, "{unread:?}");
        assert!(unread.broken[0].contains("could not be read"), "{unread:?}");
    }

    #[test]
    fn whatever_does_not_hold_is_named() {
        let with = |at: usize, received: u64| {
            let mut seconds = FINE;
            seconds[at].1 = received;
            judged(&seconds, MEMORY).broken
        };
        assert!(
            with(4, 600)[0].contains("86 % of the rate"),
            "{:?}",
            with(4, 600)
        );
        assert!(
            with(9, 400)[0].contains("a second after it 10.00 %"),
            "{:?}",
            with(9, 400)
        );
        let memory = Memory {
            most: 200 << 20,
            ..MEMORY
        };
        assert!(judged(&FINE, memory).broken[0].contains("200.0 MiB"));
        let mut inexact = trial(&FINE);
        inexact.ledger.remainder = 7;
        let row = judge(&inexact, Duration::from_secs(4), 2, 1000.0, MEMORY);
        assert!(row.broken[0].starts_with("7 packets"));
    }
}
