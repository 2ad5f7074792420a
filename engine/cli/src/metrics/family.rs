//! Values in the shapes that the writer of the format takes: families by type, and the samples in them with
//! their labels as name and value.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

pub(super) fn counters(
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

pub(super) fn gauges(
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::GAUGE, metrics)
}

pub(super) fn histograms(
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::HISTOGRAM, metrics)
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

pub(super) fn counter(of: &[(&str, &str)], value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels(of));
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(of: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels(of));
    metric.set_gauge(gauge);
    metric
}

/// `buckets` are upper bounds with the counts up to them; bounds and `sum` are nanoseconds.
pub(super) fn histogram(
    of: &[(&str, &str)],
    buckets: impl IntoIterator<Item = (u64, u64)>,
    sum: u64,
    count: u64,
) -> Metric {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(bound));
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.into_iter().map(bucket).collect());
    histogram.set_sample_sum(seconds(sum));
    histogram.set_sample_count(count);
    let mut metric = Metric::from_label(labels(of));
    metric.set_histogram(histogram);
    metric
}

fn labels(of: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    of.iter().map(pair).collect()
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
