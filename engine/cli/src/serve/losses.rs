//! What was lost without a sample to show: datagrams that the kernel dropped, calls that failed, packets for others that
//! did not get there.

use std::time::{Duration, Instant};

use binrush_engine::Snapshot;
use binrush_engine::stream::LinkCounts;

/// Tells each kind of loss when it is new, and then at most once in [`QUIET`] with the count since.
#[derive(Debug, Default)]
pub(super) struct LossLog {
    /// By place in [`KINDS`]: the count that was told, and when.
    told: [Option<(u64, Instant)>; KINDS.len()],
}

/// A kind of loss, and what can be done about it.
#[derive(Debug)]
pub(super) struct Loss {
    /// Stable, as in the totals.
    pub(super) symbol: &'static str,
    pub(super) count: u64,
    sentence: &'static str,
}

type Kind = (&'static str, &'static str, fn(&Snapshot) -> u64);

impl LossLog {
    /// What to say at `now` about `counts`.
    pub(super) fn due(&mut self, now: Instant, counts: &Snapshot) -> Vec<Loss> {
        let mut due = Vec::new();
        for (told, (symbol, sentence, count_of)) in self.told.iter_mut().zip(KINDS) {
            let all = count_of(counts);
            let (before, at) = told.map_or((0, None), |(count, at)| (count, Some(at)));
            let quiet = at.is_some_and(|at| now.saturating_duration_since(at) < QUIET);
            if all > before && !quiet {
                *told = Some((all, now));
                due.push(Loss {
                    symbol,
                    count: all - before,
                    sentence,
                });
            }
        }
        due
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.symbol, self.count, self.sentence)
    }
}

/// Over all links; less than before when one was taken away, and then told of no more until it is more again.
fn of_links(counts: &Snapshot, value: fn(&LinkCounts) -> u64) -> u64 {
    counts.streams.links.iter().map(value).sum()
}

const KINDS: [Kind; 8] = [
    (
        "buffer",
        "datagrams dropped by the kernel: the receive buffer was full, or the UDP checksum wrong; more shards or a larger rcvbuf help",
        |counts| counts.kernel.buffer,
    ),
    (
        "acl",
        "datagrams dropped: their senders are not allowed",
        |counts| counts.kernel.acl,
    ),
    ("receive_failures", "receives failed", |counts| {
        counts.total.receive_failures
    }),
    (
        "send_failures",
        "packets of handlers were not sent: the kernel refused them",
        |counts| counts.total.send_failures,
    ),
    (
        "send_refused",
        "packets of handlers were not sent: no room in their batch, or no address of that family to send from",
        |counts| counts.total.send_refused,
    ),
    (
        "accept_pauses",
        "pauses of accepting connections: no file descriptor or no memory was left; LimitNOFILE= of its service, or `ulimit -n`, \
         gives more descriptors",
        |counts| counts.streams.accept.starved,
    ),
    (
        "link_lost",
        "packets for other nodes were given up: their connections broke, or took nothing for too long",
        |counts| of_links(counts, |link| link.lost),
    ),
    (
        "link_refused",
        "packets for other nodes were refused: their queues were full",
        |counts| of_links(counts, |link| link.refused),
    ),
];

/// How long a kind is not told of again.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_together_after_a_while() {
        let start = Instant::now();
        let mut log = LossLog::default();
        let mut counts = Snapshot::default();
        assert!(log.due(start, &counts).is_empty());
        counts.kernel.acl = 3;
        counts.total.receive_failures = 1;
        let first = log.due(start, &counts);
        let texts: Vec<String> = first.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "acl: 3 datagrams dropped: their senders are not allowed"
        );
        assert_eq!((texts.len(), first[1].symbol), (2, "receive_failures"));
        counts.kernel.acl = 10;
        assert!(log.due(start + QUIET / 2, &counts).is_empty());
        let later = log.due(start + QUIET, &counts);
        assert_eq!((later.len(), later[0].count), (1, 7));
        assert!(
            log.due(start + 3 * QUIET, &counts).is_empty(),
            "nothing new"
        );
    }
}
