//! The families about events: labels are sockets of subscribers, of which there is a limited number, and `former` for all who want
//! nothing any more.

use binrush_engine::event::{BusSnapshot, Reach, SubscriberSnapshot};
use prometheus::proto::{Metric, MetricFamily};

use super::family::{counter, counters, gauge, gauges};

type OfAll = (&'static str, &'static str, fn(&BusSnapshot) -> u64);
type OfOne = (&'static str, &'static str, fn(&SubscriberSnapshot) -> u64);

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(events: Option<&BusSnapshot>) -> Vec<MetricFamily> {
    let Some(events) = events else {
        return Vec::new();
    };
    let of = |value: fn(&SubscriberSnapshot) -> u64, metric: fn(&[(&str, &str)], f64) -> Metric| {
        let sample = move |each: &SubscriberSnapshot| {
            metric(&[("socket", &each.socket)], value(each) as f64)
        };
        events.subscribers.iter().map(sample).collect::<Vec<_>>()
    };
    let all =
        ALL.map(|(name, help, value)| counters(name, help, [counter(&[], value(events) as f64)]));
    let counted = COUNTERS.map(|(name, help, value)| {
        let former = (events.former.offered > 0)
            .then(|| counter(&[("socket", "former")], value(&events.former) as f64));
        let samples = of(value, counter).into_iter().chain(former);
        counters(name, help, samples.collect::<Vec<_>>())
    });
    let shown = GAUGES.map(|(name, help, value)| gauges(name, help, of(value, gauge)));
    let waiting = gauges(
        "binrush_events_waiting",
        "Events that were raised and are not told yet.",
        [gauge(&[], events.waiting as f64)],
    );
    all.into_iter()
        .chain([waiting])
        .chain(counted)
        .chain(shown)
        .collect()
}

const ALL: [OfAll; 5] = [
    (
        "binrush_events_raised_total",
        "Events that were raised while somebody wanted them.",
        |events| events.raised,
    ),
    (
        "binrush_events_told_total",
        "Events that were told to all who wanted them, as far as they took them.",
        |events| events.told,
    ),
    (
        "binrush_events_unclaimed_total",
        "Events that nobody wanted any more when it was their turn: who did has left.",
        |events| events.unclaimed,
    ),
    (
        "binrush_events_dropped_total",
        "Events for which there was no room on their way to the thread that tells them.",
        |events| events.dropped,
    ),
    (
        "binrush_events_too_long_total",
        "Events that are longer than a datagram can be, and were told to nobody.",
        |events| events.too_long,
    ),
];

const COUNTERS: [OfOne; 5] = [
    (
        "binrush_events_offered_total",
        "Events that are for a subscriber: sent, queued, dropped, failed or unwritable.",
        |each| each.offered,
    ),
    (
        "binrush_events_sent_total",
        "Events for a subscriber that the kernel took.",
        |each| each.sent,
    ),
    (
        "binrush_events_subscriber_dropped_total",
        "Events for which there was no room in the queue of a subscriber.",
        |each| each.dropped,
    ),
    (
        "binrush_events_failed_total",
        "Events for a subscriber that the kernel refused.",
        |each| each.failed,
    ),
    (
        "binrush_events_unwritable_total",
        "Events that cannot be written in the form that a subscriber wants, mostly for their length.",
        |each| each.unwritable,
    ),
];

const GAUGES: [OfOne; 2] = [
    (
        "binrush_events_queued",
        "Events in the queue of a subscriber.",
        |each| each.queued,
    ),
    (
        "binrush_events_up",
        "1: a subscriber takes what is sent. 0: it is not there, or does not read.",
        |each| u64::from(each.reach == Reach::Up),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_those_who_left_were_told_and_missed_has_a_label_of_its_own() {
        let former = |offered, dropped| BusSnapshot {
            former: SubscriberSnapshot {
                offered,
                dropped,
                ..SubscriberSnapshot::default()
            },
            ..BusSnapshot::default()
        };
        let dropped = |snapshot: &BusSnapshot| {
            let all = families(Some(snapshot)).into_iter();
            let mut named =
                all.filter(|family| family.name() == "binrush_events_subscriber_dropped_total");
            let family = named.next().expect("it is told");
            let samples = family.get_metric().iter();
            let sample = |metric: &Metric| {
                let label = metric.get_label()[0].value().to_owned();
                (label, metric.get_counter().get_value())
            };
            samples.map(sample).collect::<Vec<_>>()
        };
        assert_eq!(dropped(&former(0, 0)), []);
        assert_eq!(dropped(&former(5, 2)), [("former".to_owned(), 2.0)]);
    }
}
