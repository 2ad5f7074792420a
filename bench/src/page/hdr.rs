//! Latencies in the two text forms that HdrHistogram's tools read: percentile distributions and interval logs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use binrush_probe::Hist;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::facts;
use crate::result::{RunResult, Trial};

/// Files by their names: `01-load.hgrm` and the like for each trial and kind of time, and `latency.hlog` for all intervals.
pub(super) fn files(result: &RunResult) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for (number, trial) in (1..).zip(&result.trials) {
        let stem = stem(number, &trial.name);
        let lateness = facts::lateness(trial);
        for (kind, hist) in [
            ("", &trial.intended),
            ("-from-sent", &trial.actual),
            ("-lateness", &lateness),
        ] {
            if !hist.is_empty() {
                files.insert(format!("{stem}{kind}.hgrm"), hgrm(hist).into_bytes());
            }
        }
    }
    files.insert("latency.hlog".to_owned(), hlog(result)?);
    Ok(files)
}

/// The percentile distribution, in milliseconds as plotters expect, to the nanosecond.
fn hgrm(hist: &Hist) -> String {
    let inner = hist.inner();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total = 0_u64;
    for value in inner.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total = total.saturating_add(value.count_since_last_iteration());
        let (ms, quantile) = (
            ms(value.value_iterated_to() as f64),
            value.quantile_iterated_to(),
        );
        let _ = write!(text, "{ms:>12.6} {quantile:>2.12} {total:>10}");
        // Of the maximum it would be infinite, and the other tools leave it out too.
        let _ = if quantile < 1.0 {
            writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text)
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]",
        ms(inner.mean()),
        ms(inner.stdev())
    );
    let _ = writeln!(
        text,
        "#[Max     = {:>12.6}, Total count    = {:>12}]",
        ms(hist.max() as f64),
        hist.count()
    );
    // With three digits, a bucket has 2048 parts.
    let _ = writeln!(
        text,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        inner.buckets(),
        2_048
    );
    text
}

/// All seconds of all trials, each tagged with its trial: format 1.3, histograms in nanoseconds, maxima in milliseconds.
///
/// Distances between intervals are exact, moments are not: a result knows by which clock trials began, but of the calendar
/// only when the run did, which a self-test and the start of the receiver precede. The log says so in a comment.
fn hlog(result: &RunResult) -> anyhow::Result<Vec<u8>> {
    let base = humantime::parse_rfc3339(&result.started).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Received minus due, in nanoseconds; each trial has a tag; times count from the start of the first trial]")
        .add_comment("[StartTime is that of the run: its self-test and the start of the receiver come before the first trial]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut log, &mut serializer)?;
    let first = result.trials.iter().map(start).min().unwrap_or_default();
    for (number, trial) in (1..).zip(&result.trials) {
        let stem = stem(number, &trial.name);
        let tag = Tag::new(&stem);
        for row in trial.intervals.iter().filter(|row| !row.latency.is_empty()) {
            let (from, to) = span(trial, row.second);
            let (at, length) = (from.saturating_sub(first), to.saturating_sub(from));
            writer
                .write_histogram(row.latency.inner(), at, length, tag)
                .with_context(|| format!("second {} of {}", row.second, trial.name))?;
        }
    }
    drop(writer);
    Ok(log)
}

/// When a trial began, by the clock of the senders.
fn start(trial: &Trial) -> Duration {
    let starts = trial.senders.iter().map(|sender| sender.start_ns);
    Duration::from_nanos(starts.min().unwrap_or(0))
}

/// From when to when an interval of a trial is, by the same clock. Intervals are the clock's seconds, the first of them that
/// in which the trial began; of those at its two ends it has parts only.
fn span(trial: &Trial, second: u64) -> (Duration, Duration) {
    let start = start(trial);
    let from = Duration::from_secs(start.as_secs().saturating_add(second));
    let to = from.saturating_add(SECOND);
    let length = Duration::try_from_secs_f64(trial.seconds).unwrap_or_default();
    let sent = start.saturating_add(length);
    // What arrives when all is sent has its whole second.
    let from = from.max(start);
    (from, if sent > from { to.min(sent) } else { to })
}

/// Number and name of a trial in letters, digits and hyphens: unique, and neither a way out of a folder nor two words.
fn stem(number: usize, name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let mut stem = format!("{number:02}-{}", words.join("-"));
    stem.truncate(NAME_MAX);
    stem.truncate(stem.trim_end_matches('-').len());
    stem
}

fn ms(ns: f64) -> f64 {
    ns / 1e6
}

const SECOND: Duration = Duration::from_secs(1);

/// As HdrHistogram's own tools have it by default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Of a file's name, before what it is of.
const NAME_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_percentile_text_counts_everything_and_ends_with_the_maximum() {
        let mut hist = Hist::new();
        hist.record_n(1_000_000, 99);
        hist.record(250_000_000);
        let text = hgrm(&hist);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["1.000447", "0.000000000000", "99", "1.00"]);
        assert_eq!(
            rows.last().unwrap()[..],
            ["250.085375", "1.000000000000", "100"]
        );
        assert!(text.contains("Total count    =          100]"), "{text}");
    }

    #[test]
    fn an_interval_log_is_read_back_with_its_tags_and_counts() {
        let result = fixture::search();
        let log = hlog(&result).unwrap();
        assert!(log.starts_with(b"#[Histogram log format version 1.3]\n"));
        let mut read: BTreeMap<String, usize> = BTreeMap::new();
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let tag = interval.tag().unwrap().as_str().to_owned();
                *read.entry(tag).or_insert(0) += 1;
            }
        }
        assert_eq!(read.len(), result.trials.len());
        assert_eq!(read["01-trial-1"], result.trials[0].intervals.len());
    }

    #[test]
    fn an_interval_is_as_long_as_the_trial_was_in_it() {
        let mut trial = fixture::trial("t", 1_000.0, 1, 7);
        for sender in &mut trial.senders {
            sender.start_ns = 100_700_000_000;
        }
        let ms = Duration::from_millis;
        trial.seconds = 0.2;
        assert_eq!(span(&trial, 0), (ms(100_700), ms(100_900)));
        trial.seconds = 1.0;
        assert_eq!(span(&trial, 0), (ms(100_700), ms(101_000)));
        assert_eq!(span(&trial, 1), (ms(101_000), ms(101_700)));
        assert_eq!(span(&trial, 2), (ms(102_000), ms(103_000)));
        trial.seconds = f64::NAN;
        assert_eq!(span(&trial, 0), (ms(100_700), ms(101_000)));
        // The log has them so.
        trial.seconds = 0.2;
        trial.intervals.truncate(1);
        let mut result = fixture::search();
        result.trials = vec![trial];
        let log = hlog(&result).unwrap();
        let lengths: Vec<Duration> = IntervalLogIterator::new(&log)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval.duration()),
                _ => None,
            })
            .collect();
        assert_eq!(lengths, [ms(200)]);
        assert!(String::from_utf8_lossy(&log).contains("[StartTime is that of the run"));
    }

    #[test]
    fn names_of_files_stay_in_their_folder() {
        assert_eq!(stem(7, "trial 7"), "07-trial-7");
        assert_eq!(stem(1, "../../etc/passwd"), "01-etc-passwd");
        assert_eq!(stem(3, "\0 ,é"), "03");
        assert!(stem(3, &"x".repeat(1_000)).len() <= NAME_MAX);
    }
}
