//! How a demo went, and whether everything is accounted for.

use binrush_engine::{Outcome, Snapshot};
use binrush_replay::Report;

use super::stream::Sent;

/// How a demo went.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) totals: Snapshot,
    /// What was sent in datagrams.
    pub(super) report: Report,
    /// What was sent on the connection.
    pub(super) stream: Sent,
    pub(super) end: End,
}

/// Why the senders ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The schedule was through.
    Done,
    /// A signal came.
    Signal,
    /// They fell too far behind the schedule.
    Late,
    /// The counters could not be read.
    Failed,
}

/// What came by each transport: packets in datagrams, and packets cut out of the connection.
pub(super) fn received(counts: &Snapshot) -> [(&'static str, u64); 2] {
    let frames = counts.streams.total.frames;
    // Of counts that are read while they grow, those of the connection may be ahead.
    let datagrams = counts.total.received.saturating_sub(frames);
    [("udp", datagrams), ("tcp", frames)]
}

impl Run {
    /// Packets that were sent, over both.
    pub(super) const fn sent(&self) -> u64 {
        self.report.sent + self.stream.packets
    }

    /// Packets that were to be sent, over both.
    pub(super) const fn planned(&self) -> u64 {
        self.report.planned + self.stream.planned
    }

    /// Of the packets sent over each transport, those that neither arrived nor were dropped by name. Negative when more
    /// arrived than were sent.
    pub(super) fn unaccounted(&self) -> [(&'static str, i128); 2] {
        let [(udp, datagrams), (tcp, frames)] = received(&self.totals);
        let dropped = self.totals.kernel.total();
        [
            (udp, missing(self.report.sent, datagrams + dropped)),
            (tcp, missing(self.stream.packets, frames)),
        ]
    }

    /// What is wrong, if anything: the ledger must balance, and all that arrived must have been understood.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let totals = &self.totals;
        for (transport, unaccounted) in self.unaccounted() {
            match unaccounted {
                0 => {}
                lost @ 1.. => {
                    return Err(format!(
                        "{lost} packets sent over {transport} are in no counter"
                    ));
                }
                more => {
                    return Err(format!(
                        "{} packets more than were sent arrived over {transport}: somebody else sends to this port",
                        more.unsigned_abs()
                    ));
                }
            }
        }
        if !totals.is_balanced() {
            return Err("the outcomes do not add up to what was received".into());
        }
        let refused = totals.total.received - totals.total.outcome(Outcome::Handled);
        if refused > 0 {
            return Err(format!("{refused} packets arrived and were not understood"));
        }
        match received(totals).into_iter().find(|(_, count)| *count == 0) {
            Some((transport, _)) => Err(format!("nothing arrived over {transport}")),
            None => Ok(()),
        }
    }

    /// Why less was sent than planned, if so.
    pub(super) fn cut_short(&self) -> Option<&str> {
        let why = match self.end {
            End::Done => {
                let failed = self.stream.failed.as_deref();
                failed.unwrap_or("the others could not be sent")
            }
            End::Signal => "a signal came",
            End::Late => "this machine does not keep the rate",
            End::Failed => "the counters could not be read",
        };
        (self.sent() < self.planned()).then_some(why)
    }
}

impl End {
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Signal => "signal",
            Self::Late => "late",
            Self::Failed => "failed",
        }
    }
}

fn missing(sent: u64, told: u64) -> i128 {
    i128::from(sent) - i128::from(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::Counts;
    use binrush_replay::SendErrors;
    use std::time::Duration;

    /// Of so many planned datagrams and packets of the stream each.
    fn run_of(planned: u64, sent: [u64; 2], arrived: [u64; 2], handled: u64) -> Run {
        let mut counts = Counts::default();
        counts.received = arrived.iter().sum();
        counts.frames = arrived[1];
        counts.outcomes[Outcome::Malformed as usize] = counts.received - handled;
        let mut totals = Snapshot::of(vec![counts], Vec::new());
        let streams = &mut totals.streams.total;
        (streams.frames, streams.frame_bytes) = (arrived[1], 200 * arrived[1]);
        streams.rx_bytes = streams.frame_bytes;
        let report = Report {
            planned,
            sent: sent[0],
            bytes: 0,
            errors: SendErrors::default(),
            elapsed: Duration::ZERO,
            late_max: Duration::ZERO,
            late_mean: Duration::ZERO,
        };
        let stream = Sent {
            planned,
            packets: sent[1],
            ..Sent::default()
        };
        Run {
            totals,
            report,
            stream,
            end: End::Late,
        }
    }

    #[test]
    fn the_verdict_tells_lost_packets_from_strange_ones_and_says_over_what() {
        for (sent, arrived, words) in [
            ([5, 9], [2, 9], "3 packets sent over udp are in no counter"),
            ([9, 5], [9, 2], "3 packets sent over tcp are in no counter"),
            (
                [2, 9],
                [5, 9],
                "3 packets more than were sent arrived over udp",
            ),
            (
                [9, 2],
                [9, 5],
                "3 packets more than were sent arrived over tcp",
            ),
            // What one lost, the other did not find.
            ([5, 5], [4, 6], "1 packets sent over udp are in no counter"),
            ([2, 2], [2, 2], "4 packets arrived and were not understood"),
            ([0, 0], [0, 0], "nothing arrived over udp"),
        ] {
            let problem = run_of(9, sent, arrived, 0).verdict().unwrap_err();
            assert!(problem.starts_with(words), "{problem}");
        }
    }

    #[test]
    fn bytes_of_the_stream_that_are_in_no_counter_are_no_balance() {
        let mut run = run_of(9, [2, 2], [2, 2], 0);
        run.totals.streams.total.rx_bytes += 1;
        let problem = run.verdict().unwrap_err();
        assert!(
            problem.starts_with("the outcomes do not add up"),
            "{problem}"
        );
    }

    #[test]
    fn a_sender_that_was_stopped_does_not_pass_for_one_that_was_done() {
        let cut = run_of(9, [9, 5], [9, 5], 14);
        assert_eq!(cut.cut_short(), Some("this machine does not keep the rate"));
        let whole = run_of(5, [5, 5], [5, 5], 10);
        assert_eq!(whole.cut_short(), None);
        let mut broken = run_of(9, [9, 5], [9, 5], 14);
        (broken.end, broken.stream.failed) = (End::Done, Some("Broken pipe".into()));
        assert_eq!(broken.cut_short(), Some("Broken pipe"));
    }
}
