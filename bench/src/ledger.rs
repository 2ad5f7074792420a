//! Where every packet of a run went, laid together from what both ends and the kernel between them say.
//!
//! ```text
//!   planned ─┬─ unsent, send errors                       what the sender says
//!            ├─ dropped: receive buffer, not allowed      what the kernel says
//!            ├─ bad checksum, damaged, ...                what the receiver says of packets it could not use
//!            ├─ lost with a broken connection             sent, and never cut out of a stream that did not end in order
//!            ├─ arrived once                              sequence numbers seen, each counted once
//!            └─ remainder                                 nobody knows: the run has failed
//! ```

use std::fmt::{self, Write as _};

use binrush_probe::Report as ProbeReport;

use crate::result::{ByteLedger, Ledger, ReceiverResult, SenderResult, StreamResult};

/// What is known of the run itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Number of the run: stamps of another are not of this one.
    pub(crate) run: u16,
    pub(crate) senders: &'a [SenderResult],
    pub(crate) receiver: &'a ReceiverResult,
    /// Datagrams that one drop in the kernel may stand for: more than 1 where trains arrive whole.
    pub(crate) train_max: u64,
    /// Whether the packets carry stamps. Of those that do not, an audit knows only how many there were.
    pub(crate) stamped: bool,
    /// Names of outcomes, besides `handled`, that mean that a packet has arrived as it should.
    pub(crate) expected: &'a [&'a str],
}

impl Ledger {
    /// Adds up. Nothing is guessed: what the terms do not explain is the remainder.
    pub(crate) fn of(terms: Terms<'_>) -> Self {
        let senders = terms.senders;
        let sum = |of: fn(&SenderResult) -> u64| senders.iter().map(of).sum::<u64>();
        let planned = sum(|sender| sender.planned);
        let mut ledger = Self {
            planned,
            ..Self::default()
        };
        // A frame that was cut is among those that were not sent, and the one of them of which something was.
        let unsent = sum(|sender| sender.unsent - sender.partial.min(sender.unsent));
        ledger.add("unsent", unsent);
        for sender in senders {
            for (error, count) in &sender.errors {
                ledger.add(&format!("send error: {error}"), *count);
            }
        }
        ledger.add("cut by the end of the run", sum(|sender| sender.partial));
        let arrived = ledger.receiver(&terms);
        ledger.explain_trains(&terms);
        if let Some(streams) = &terms.receiver.streams {
            ledger.explain_broken(&terms, streams);
        }
        let explained: u64 = ledger.terms.iter().map(|(_, count)| count).sum();
        ledger.remainder = difference(planned, explained);
        ledger.loss_ratio = if planned == 0 {
            0.0
        } else {
            planned.saturating_sub(arrived) as f64 / planned as f64
        };
        ledger
    }

    /// The terms of the kernel and the receiver; the answer is how many packets of the run arrived as they were sent.
    fn receiver(&mut self, terms: &Terms<'_>) -> u64 {
        let receiver = terms.receiver;
        for (name, count) in &receiver.kernel_drops {
            self.add(&format!("kernel: {name}"), *count);
        }
        match &receiver.probe {
            Some(probe) if terms.stamped => self.audited(terms, probe),
            _ => self.counted(terms),
        }
    }

    /// Of a receiver that only counts. A packet lost and another one copied look like two that arrived.
    fn counted(&mut self, terms: &Terms<'_>) -> u64 {
        let receiver = terms.receiver;
        let mut arrived = 0;
        for (name, count) in &receiver.outcomes {
            if name == "handled" || terms.expected.contains(&&name[..]) {
                arrived += count;
            } else {
                self.add(name, *count);
            }
        }
        if receiver.outcomes.is_empty() {
            arrived = receiver.received.unwrap_or(0);
        }
        self.add(RECEIVED, arrived);
        arrived
    }

    /// Of a receiver that knows the numbers of packets. What it refused it has not audited: each is in one term.
    fn audited(&mut self, terms: &Terms<'_>, probe: &ProbeReport) -> u64 {
        let (mut handled, mut missed) = (0, 0);
        for (name, count) in &terms.receiver.outcomes {
            if name == "handled" {
                handled = *count;
            } else if terms.expected.contains(&&name[..]) {
                missed += count;
            } else {
                self.add(name, *count);
            }
        }
        let damaged = probe.damaged_total();
        self.add("damaged", damaged);
        self.add("beyond what was followed", probe.beyond);
        self.foreign = probe.foreign + of_other_runs(probe, terms.run);
        let (mut unique, mut received) = (0, 0);
        for run in probe.runs.iter().filter(|run| run.run == terms.run) {
            for stream in &run.streams {
                unique += stream.unique;
                received += stream.received;
                self.duplicates += stream.duplicates;
            }
        }
        // Of names that are not audited. A receiver that tells no outcomes has no such names.
        let seen = received + damaged + probe.beyond + self.foreign;
        let unaudited = handled.saturating_sub(seen) + missed;
        self.add(UNAUDITED, unaudited);
        self.add(ARRIVED, unique);
        unique + unaudited
    }

    /// Packets that arrived under names whose stamps nobody looked at.
    pub(crate) fn unaudited(&self) -> u64 {
        let term = self.terms.iter().find(|(name, _)| name == UNAUDITED);
        term.map_or(0, |(_, count)| *count)
    }

    /// A train that the kernel drops whole is one drop to it. How many packets that were, the sequence numbers say; what
    /// cannot have been in so many trains stays unexplained.
    fn explain_trains(&mut self, terms: &Terms<'_>) {
        let explained: u64 = self.terms.iter().map(|(_, count)| count).sum();
        let missing = self.planned.saturating_sub(explained);
        if terms.train_max <= 1 || missing == 0 {
            return;
        }
        let dropped = self.terms.iter_mut().find(|(name, count)| {
            name.starts_with("kernel: ") && *count > 0 && missing <= *count * (terms.train_max - 1)
        });
        if let Some((name, count)) = dropped {
            let _ = write!(name, " ({count} drops, trains among them)");
            *count += missing;
        }
    }

    /// A connection that breaks takes with it what is on its way, and what is behind bytes that were refused. How many
    /// packets that were, is the difference between those that the kernel took wholly and those that were cut out of
    /// streams; where no connection broke, nothing explains one.
    fn explain_broken(&mut self, terms: &Terms<'_>, streams: &StreamResult) {
        let sum = |of: fn(&SenderResult) -> u64| terms.senders.iter().map(of).sum::<u64>();
        let broken = streams.broken(sum(|sender| sender.partial));
        let explained: u64 = self.terms.iter().map(|(_, count)| count).sum();
        let missing = self.planned.saturating_sub(explained);
        let uncut = sum(|sender| sender.sent).saturating_sub(streams.frames);
        if let Some(how) = &broken {
            self.add(
                &format!("lost with a broken connection ({how})"),
                missing.min(uncut),
            );
        }
        let (sent, received) = (sum(|sender| sender.bytes), streams.frame_bytes);
        let lost = match broken {
            Some(_) => sent.saturating_sub(received),
            None => 0,
        };
        self.bytes = Some(ByteLedger {
            sent,
            received,
            lost,
            remainder: difference(sent, received + lost),
        });
    }

    /// Whether every packet, and every byte where they are counted, is explained.
    pub(crate) fn is_exact(&self) -> bool {
        self.remainder == 0 && self.bytes.is_none_or(|bytes| bytes.remainder == 0)
    }

    fn add(&mut self, name: &str, count: u64) {
        // The terms that every run has are there also when they are zero.
        let always = ["unsent", ARRIVED, RECEIVED, "kernel: buffer"].contains(&name);
        if count == 0 && !always {
            return;
        }
        match self.terms.iter_mut().find(|(term, _)| term == name) {
            Some((_, sum)) => *sum += count,
            None => self.terms.push((name.to_owned(), count)),
        }
    }

    /// `planned 10 = unsent 0 + kernel: buffer 2 + arrived once 8`, and the remainder when there is one.
    pub(crate) fn line(&self) -> String {
        let terms: Vec<String> = self
            .terms
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let mut text = format!("planned {} = {}", self.planned, terms.join(" + "));
        if self.remainder != 0 {
            let _ = write!(text, " + UNEXPLAINED {}", self.remainder);
        }
        for (name, count) in [("duplicates", self.duplicates), ("foreign", self.foreign)] {
            if count > 0 {
                let _ = write!(text, "; {name} {count}");
            }
        }
        if let Some(bytes) = self.bytes {
            let _ = write!(text, "; {bytes}");
        }
        text
    }
}

impl StreamResult {
    /// The connections that did not end in order, `reset 1, bad_marker 2`; `None` when all did. `cut` are those that the
    /// senders ended within a packet.
    pub(crate) fn broken(&self, cut: u64) -> Option<String> {
        let closed = self.closed.iter().map(|(reason, count)| match &reason[..] {
            "peer" => (reason, 0),
            "half_frame" => (reason, count.saturating_sub(cut)),
            _ => (reason, *count),
        });
        let refused = self.refused.iter().map(|(reason, count)| (reason, *count));
        let broken = closed.chain(refused).filter(|(_, count)| *count > 0);
        let broken: Vec<String> = broken
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        (!broken.is_empty()).then(|| broken.join(", "))
    }
}

/// `bytes 100 = received 90 + lost 10`, and the remainder when there is one.
impl fmt::Display for ByteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            received,
            lost,
            remainder,
        } = self;
        write!(f, "bytes {sent} = received {received}")?;
        if *lost > 0 {
            write!(f, " + lost {lost}")?;
        }
        if *remainder != 0 {
            write!(f, " + UNEXPLAINED {remainder}")?;
        }
        Ok(())
    }
}

fn of_other_runs(probe: &ProbeReport, run: u16) -> u64 {
    let others = probe.runs.iter().filter(|other| other.run != run);
    others
        .flat_map(|other| &other.streams)
        .map(|stream| stream.received)
        .sum()
}

/// `a - b`, also when that is below zero.
fn difference(a: u64, b: u64) -> i64 {
    let magnitude = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a >= b { magnitude } else { -magnitude }
}

/// Of packets whose numbers are known, and of those that were only counted.
pub(crate) const ARRIVED: &str = "arrived once";
pub(crate) const RECEIVED: &str = "received";

const UNAUDITED: &str = "received, not audited";

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_probe::{RunReport, StreamReport};
    use std::collections::BTreeMap;

    fn sender(planned: u64, unsent: u64) -> SenderResult {
        SenderResult {
            planned,
            unsent,
            sent: planned - unsent,
            ..SenderResult::default()
        }
    }

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let counts = counts.iter();
        counts.map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    fn probed(unique: u64, duplicates: u64) -> Option<ProbeReport> {
        let stream = StreamReport {
            unique,
            duplicates,
            received: unique + duplicates,
            ..StreamReport::default()
        };
        let run = RunReport {
            run: 7,
            streams: vec![stream],
            ..RunReport::default()
        };
        Some(ProbeReport {
            runs: vec![run],
            ..ProbeReport::default()
        })
    }

    fn ledger(senders: &[SenderResult], receiver: &ReceiverResult, train_max: u64) -> Ledger {
        Ledger::of(Terms {
            run: 7,
            senders,
            receiver,
            train_max,
            stamped: true,
            expected: &["unknown_name"],
        })
    }

    #[test]
    fn every_packet_has_a_term_or_the_run_has_a_remainder() {
        let mut receiver = ReceiverResult {
            outcomes: counts(&[("handled", 95), ("bad_crc", 1)]),
            kernel_drops: counts(&[("buffer", 2), ("acl", 0)]),
            probe: probed(94, 1),
            ..ReceiverResult::default()
        };
        let senders = [sender(60, 3), sender(40, 0)];
        let exact = ledger(&senders, &receiver, 1);
        assert_eq!(exact.remainder, 0);
        assert_eq!(
            exact.line(),
            "planned 100 = unsent 3 + kernel: buffer 2 + bad_crc 1 + arrived once 94; duplicates 1"
        );
        assert!((exact.loss_ratio - 0.06).abs() < 1e-9);

        receiver.outcomes = counts(&[("handled", 91), ("bad_crc", 1)]);
        receiver.probe = probed(90, 1);
        let lost = ledger(&senders, &receiver, 1);
        assert_eq!(lost.remainder, 4);
        assert!(lost.line().contains("+ UNEXPLAINED 4"), "{}", lost.line());
        receiver.outcomes = counts(&[("handled", 98), ("bad_crc", 1)]);
        receiver.probe = probed(97, 1);
        assert_eq!(ledger(&senders, &receiver, 1).remainder, -3);
    }

    #[test]
    fn a_drop_of_a_train_explains_as_many_packets_as_fit_into_one() {
        let receiver = |drops, unique| ReceiverResult {
            outcomes: counts(&[("handled", unique)]),
            kernel_drops: counts(&[("buffer", drops)]),
            probe: probed(unique, 0),
            ..ReceiverResult::default()
        };
        let senders = [sender(1000, 0)];
        let explained = ledger(&senders, &receiver(2, 900), 64);
        assert_eq!(explained.remainder, 0);
        assert!(
            explained
                .line()
                .contains("kernel: buffer (2 drops, trains among them) 100")
        );
        // 150 packets were in no two trains of 64, and no drop explains none at all.
        assert_eq!(ledger(&senders, &receiver(2, 850), 64).remainder, 148);
        assert_eq!(ledger(&senders, &receiver(0, 999), 64).remainder, 1);
        // Where trains do not arrive whole, each drop is a packet.
        assert_eq!(ledger(&senders, &receiver(2, 900), 1).remainder, 98);
    }

    #[test]
    fn what_a_name_without_a_probe_received_counts_as_arrived() {
        let receiver = ReceiverResult {
            outcomes: counts(&[("handled", 70), ("unknown_name", 30)]),
            kernel_drops: counts(&[("buffer", 0)]),
            probe: probed(70, 0),
            ..ReceiverResult::default()
        };
        assert_eq!(ledger(&[sender(100, 0)], &receiver, 1).remainder, 0);
        let counted = ReceiverResult {
            received: Some(99),
            ..ReceiverResult::default()
        };
        let line = ledger(&[sender(100, 0)], &counted, 1).line();
        assert_eq!(line, "planned 100 = unsent 0 + received 99 + UNEXPLAINED 1");
    }

    #[test]
    fn what_is_handled_under_a_name_without_a_probe_is_told_apart() {
        let receiver = ReceiverResult {
            outcomes: counts(&[("handled", 90), ("leftover", 2)]),
            probe: probed(70, 0),
            ..ReceiverResult::default()
        };
        let whole = ledger(&[sender(92, 0)], &receiver, 1);
        assert_eq!(
            whole.line(),
            "planned 92 = unsent 0 + leftover 2 + received, not audited 20 + arrived once 70"
        );
        assert_eq!(whole.unaudited(), 20);
    }

    #[test]
    fn a_frame_that_was_cut_counts_once() {
        let senders = [SenderResult {
            partial: 1,
            ..sender(100, 40)
        }];
        let receiver = ReceiverResult {
            probe: probed(60, 0),
            ..ReceiverResult::default()
        };
        let whole = ledger(&senders, &receiver, 1);
        assert_eq!(
            whole.line(),
            "planned 100 = unsent 39 + cut by the end of the run 1 + arrived once 60"
        );
    }

    /// A stream of 100 packets of 10 bytes to an engine that cut `frames` of them, and lost its connections as `closed`
    /// says.
    fn streamed(frames: u64, closed: &[(&str, u64)]) -> Ledger {
        let senders = [SenderResult {
            bytes: 1000,
            ..sender(100, 0)
        }];
        let receiver = ReceiverResult {
            outcomes: counts(&[("handled", frames)]),
            probe: probed(frames, 0),
            streams: Some(StreamResult {
                frames,
                frame_bytes: 10 * frames,
                closed: counts(closed),
                ..StreamResult::default()
            }),
            ..ReceiverResult::default()
        };
        ledger(&senders, &receiver, 1)
    }

    #[test]
    fn a_stream_is_explained_to_the_byte() {
        let whole = streamed(100, &[("peer", 1)]);
        assert!(whole.is_exact());
        assert_eq!(
            whole.line(),
            "planned 100 = unsent 0 + arrived once 100; bytes 1000 = received 1000"
        );
        let mut strange = whole;
        strange.bytes.as_mut().unwrap().remainder = -3;
        assert!(!strange.is_exact() && strange.line().ends_with("+ UNEXPLAINED -3"));
    }

    #[test]
    fn packets_are_lost_with_a_connection_only_if_one_broke() {
        let broken = streamed(70, &[("peer", 1), ("reset", 2), ("bad_marker", 1)]);
        assert!(broken.is_exact());
        assert_eq!(
            broken.line(),
            "planned 100 = unsent 0 + arrived once 70 + lost with a broken connection (bad_marker 1, reset 2) 30; \
             bytes 1000 = received 700 + lost 300"
        );
        let unexplained = streamed(70, &[("peer", 4)]);
        assert!(!unexplained.is_exact());
        assert_eq!(
            (unexplained.remainder, unexplained.bytes.unwrap().remainder),
            (30, 300)
        );
    }

    #[test]
    fn a_packet_that_was_cut_out_of_a_stream_is_not_lost_with_it() {
        let senders = [sender(100, 0)];
        let receiver = ReceiverResult {
            outcomes: counts(&[("handled", 60)]),
            probe: probed(60, 0),
            streams: Some(StreamResult {
                frames: 90,
                closed: counts(&[("reset", 1)]),
                ..StreamResult::default()
            }),
            ..ReceiverResult::default()
        };
        // Ten never came out, and nobody knows of the other thirty.
        assert_eq!(ledger(&senders, &receiver, 1).remainder, 30);
    }

    #[test]
    fn a_connection_that_the_sender_ended_within_a_packet_is_not_broken() {
        let streams = |half_frame| StreamResult {
            closed: counts(&[("half_frame", half_frame)]),
            ..StreamResult::default()
        };
        assert_eq!(streams(1).broken(1), None);
        assert_eq!(streams(2).broken(1).as_deref(), Some("half_frame 1"));
        let refused = StreamResult {
            refused: counts(&[("per_source", 3)]),
            ..StreamResult::default()
        };
        assert_eq!(refused.broken(0).as_deref(), Some("per_source 3"));
    }

    #[test]
    fn stamps_of_another_run_are_foreign() {
        let mut receiver = ReceiverResult {
            probe: probed(10, 0),
            ..ReceiverResult::default()
        };
        let probe = receiver.probe.as_mut().unwrap();
        probe.foreign = 2;
        probe.runs[0].run = 8;
        let ledger = ledger(&[sender(10, 0)], &receiver, 1);
        assert_eq!((ledger.foreign, ledger.remainder), (12, 10));
    }
}
