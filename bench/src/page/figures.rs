//! Which charts a result has, and what is on them.

use binrush_probe::Hist;

use super::chart::axis::{Axis, Scale, Unit};
use super::chart::{Band, Chart, Dot, DotKind, Limit, Look, Series, Span};
use super::facts;
use super::goal::{Goal, Verdict};
use super::slices::{self, Slice};
use super::units;
use crate::result::{SearchResult, Trial};

/// A histogram and what it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) hist: &'a Hist,
}

/// Times over the share of packets that took no longer; `None` when nothing was timed. At most four lines.
pub(super) fn by_percentile(id: &str, title: &str, hists: &[Named<'_>]) -> Option<Chart> {
    let timed = || hists.iter().filter(|named| !named.hist.is_empty());
    let looks = [Look::First, Look::Second, Look::Third, Look::Fourth];
    let series: Vec<Series> = timed()
        .zip(looks)
        .map(|(named, look)| Series {
            name: named.name.to_owned(),
            look,
            points: tail_points(named.hist),
        })
        .collect();
    let description: Vec<String> = timed()
        .map(|named| in_words(named.name, named.hist))
        .collect();
    if series.is_empty() {
        return None;
    }
    let points = || series.iter().flat_map(|series| &series.points);
    let x = Axis::fit(
        "packets that took no longer",
        Scale::Tail,
        Unit::Quantile,
        points().map(|point| point.0),
    );
    let y = Axis::fit(
        "time",
        Scale::Log,
        Unit::Nanos,
        points().map(|point| point.1),
    );
    Some(Chart {
        description: description.join("; "),
        note: "Each nine to the right is ten times as rare; a line ends at its maximum.".to_owned(),
        whole: true,
        ..Chart::new(format!("{id}-percentiles"), title, x, y, series)
    })
}

/// What was due, what was sent and what came, second by second.
pub(super) fn delivered(id: &str, trial: &Trial) -> Option<Chart> {
    let slices = slices::of(trial);
    let last = slices.last()?.to;
    let line = |name: &str, look, of: fn(&Slice) -> f64| Series {
        name: name.to_owned(),
        look,
        points: steps(&slices, of),
    };
    let mut series = vec![
        line("due", Look::Ground, Slice::offered_pps),
        line("sent", Look::Second, Slice::sent_pps),
    ];
    if slices.iter().any(|slice| slice.received_pps().is_finite()) {
        series.push(line("received", Look::First, Slice::received_pps));
    }
    let rates = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.1);
    let y = Axis::fit("packets per second", Scale::Linear, Unit::Rate, rates);
    let spans = slices.iter().map(|slice| {
        let received = units::rate(slice.received_pps());
        span(
            slice,
            &format!(
                "due {}, sent {}, received {received}",
                units::rate(slice.offered_pps()),
                units::rate(slice.sent_pps()),
            ),
        )
    });
    let (id, x) = (format!("{id}-delivered"), time(last));
    Some(Chart {
        description: facts::delivered(trial),
        note: "Where the filled area shows above the lines, packets were due and did not come."
            .to_owned(),
        spans: spans.collect(),
        ..Chart::new(id, "Offered and delivered", x, y, series)
    })
}

/// Percentiles second by second; `None` when nothing was timed.
pub(super) fn latency_over_time(id: &str, trial: &Trial) -> Option<Chart> {
    let slices = slices::of(trial);
    let last = slices.last()?.to;
    let lines = [
        ("max", Look::Fourth, 1.0),
        ("p99.9", Look::Third, 0.999),
        ("p99", Look::Second, 0.99),
        ("p50", Look::First, 0.5),
    ];
    let series = lines.map(|(name, look, quantile)| Series {
        name: name.to_owned(),
        look,
        points: steps(&slices, |slice| slice.latency_ns(quantile)),
    });
    let values = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.1);
    let y = Axis::fit("received − due", Scale::Log, Unit::Nanos, values);
    let timed = slices.iter().filter(|slice| !slice.latency.is_empty());
    let spans: Vec<Span> = timed
        .map(|slice| span(slice, &in_words("", &slice.latency)))
        .collect();
    if spans.is_empty() {
        return None;
    }
    let (id, x) = (format!("{id}-latency"), time(last));
    Some(Chart {
        description: in_words("In the whole trial", &trial.intended),
        note: "By the second in which a packet arrived.".to_owned(),
        spans,
        ..Chart::new(id, "Latency over time", x, y, series.into())
    })
}

/// Percentiles by the rate that was offered, of all trials of a search; `None` when nothing was timed.
pub(super) fn by_rate(search: &SearchResult, trials: &[Trial], goals: &[Goal]) -> Option<Chart> {
    let mut timed: Vec<&Trial> = trials
        .iter()
        .filter(|trial| !trial.intended.is_empty())
        .collect();
    if timed.is_empty() {
        return None;
    }
    timed.sort_by(|a, b| a.offered_pps.total_cmp(&b.offered_pps));
    let merged = merged_by_rate(&timed);
    let lines = [
        ("p99.9", Look::Third, 0.999),
        ("p99", Look::Second, 0.99),
        ("p50", Look::First, 0.5),
    ];
    let series: Vec<Series> = lines
        .iter()
        .map(|(name, look, quantile)| Series {
            name: (*name).to_owned(),
            look: *look,
            points: merged
                .iter()
                .map(|(rate, hist)| (*rate, hist.value_at(*quantile) as f64))
                .collect(),
        })
        .collect();
    let limits = limits(goals);
    // The dots are at the percentile that the goals speak of, so that they lie on the right side of its line.
    let quantile = goals
        .iter()
        .flat_map(|goal| &goal.latency)
        .next()
        .map_or(0.99, |limit| limit.quantile);
    let dots: Vec<Dot> = timed
        .iter()
        .map(|trial| dot(trial, goals, quantile))
        .collect();
    let rates: Vec<f64> = timed.iter().map(|trial| trial.offered_pps).collect();
    let values = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.1);
    let others = dots
        .iter()
        .map(|dot| dot.y)
        .chain(limits.iter().map(|limit| limit.y));
    let y = Axis::fit(
        "received − due",
        Scale::Log,
        Unit::Nanos,
        values.chain(others),
    );
    let x = rate_axis(&rates, search);
    Some(Chart {
        description: format!(
            "{} trials; the rate found is {}.",
            trials.len(),
            units::rate(search.rate_pps)
        ),
        note: format!("A trial is drawn at its {}.", units::percentile(quantile)),
        whole: true,
        dots,
        limits,
        band: search
            .lower_pps
            .zip(search.upper_pps)
            .map(|(from, to)| Band {
                from,
                to,
                label: "between the bounds found".to_owned(),
            }),
        ..Chart::new("by-rate".to_owned(), "Latency by rate", x, y, series)
    })
}

/// Name and percentiles, as a sentence has them.
pub(super) fn in_words(name: &str, hist: &Hist) -> String {
    let value = |quantile: f64| {
        format!(
            "{} {}",
            units::percentile(quantile),
            units::nanos(hist.value_at(quantile))
        )
    };
    let values = [0.5, 0.99, 0.999, 1.0].map(value).join(", ");
    if name.is_empty() {
        values
    } else {
        format!("{name}: {values}")
    }
}

fn time(last: f64) -> Axis {
    let ends = [0.0, last].into_iter();
    Axis::fit("since the start", Scale::Linear, Unit::Seconds, ends).ending_at(last)
}

fn span(slice: &Slice, values: &str) -> Span {
    let (from, to) = (units::seconds(slice.from), units::seconds(slice.to));
    Span {
        from: slice.from,
        to: slice.to,
        title: format!("{from} to {to}: {values}"),
    }
}

/// A value that holds for as long as its slice.
fn steps(slices: &[Slice], of: impl Fn(&Slice) -> f64) -> Vec<(f64, f64)> {
    slices
        .iter()
        .flat_map(|slice| [(slice.from, of(slice)), (slice.to, of(slice))])
        .collect()
}

/// One point for each value that is told apart, the last at the share of all that the slowest one is not.
fn tail_points(hist: &Hist) -> Vec<(f64, f64)> {
    let rarest = 1.0 - 1.0 / hist.count().max(2) as f64;
    let iterated = hist.inner().iter_quantiles(TICKS_PER_HALF_DISTANCE);
    let mut points: Vec<(f64, f64)> = iterated
        .map(|value| {
            let quantile = value.quantile_iterated_to().min(rarest);
            (quantile, value.value_iterated_to() as f64)
        })
        .collect();
    points.dedup();
    points
}

/// Trials at one rate are one value of a line.
fn merged_by_rate(trials: &[&Trial]) -> Vec<(f64, Hist)> {
    let mut merged: Vec<(f64, Hist)> = Vec::new();
    for trial in trials {
        match merged.last_mut() {
            Some((rate, hist)) if (trial.offered_pps - *rate).abs() <= *rate * 1e-6 => {
                hist.merge(&trial.intended)
            }
            _ => merged.push((trial.offered_pps, trial.intended.clone())),
        }
    }
    merged
}

fn dot(trial: &Trial, goals: &[Goal], quantile: f64) -> Dot {
    let verdict = Verdict::of(trial, goals);
    let words = in_words("", &trial.intended);
    Dot {
        x: trial.offered_pps,
        y: trial.intended.value_at(quantile) as f64,
        title: format!(
            "{}: {}, {}, loss {}, {words}",
            trial.name,
            units::rate(trial.offered_pps),
            verdict.words(),
            units::share(trial.ledger.loss_ratio),
        ),
        kind: match verdict {
            Verdict::Met => DotKind::Met,
            Verdict::Missed(_) => DotKind::Missed,
            Verdict::Unknown => DotKind::Plain,
        },
    }
}

fn limits(goals: &[Goal]) -> Vec<Limit> {
    let limits = goals.iter().flat_map(|goal| &goal.latency);
    limits
        .map(|limit| Limit {
            y: limit.ns,
            label: format!("goal: {}", limit.words()),
        })
        .take(LIMITS_MAX)
        .collect()
}

/// Factors where the trials are far apart, as when a search begins at the bottom.
fn rate_axis(rates: &[f64], search: &SearchResult) -> Axis {
    let all = || {
        rates
            .iter()
            .copied()
            .chain(search.lower_pps)
            .chain(search.upper_pps)
    };
    let (low, high) = rates
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), rate| {
            (low.min(*rate), high.max(*rate))
        });
    let scale = if high > 20.0 * low {
        Scale::Log
    } else {
        Scale::Linear
    };
    Axis::fit("packets per second offered", scale, Unit::Rate, all())
}

/// As HdrHistogram's own tools have it by default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// A chart with more could not be read.
const LIMITS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{fixture, goal};

    #[test]
    fn a_band_is_drawn_between_two_bounds_that_are_known() {
        let result = fixture::search();
        let mut search = result.search.unwrap();
        let band = |search: &SearchResult| {
            let goals = goal::goals(Some(search));
            let chart = by_rate(search, &result.trials, &goals).unwrap();
            chart.band.map(|band| (band.from, band.to))
        };
        assert_eq!(band(&search), Some((4.0e5, 4.05e5)));
        let upper_pps = search.upper_pps.take();
        assert_eq!(band(&search), None);
        search.upper_pps = upper_pps;
        search.lower_pps = None;
        assert_eq!(band(&search), None);
    }
}
