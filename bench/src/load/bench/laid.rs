//! Both ends of a trial laid together.

use anyhow::anyhow;
use binrush_probe::Hist;

use super::Bench;
use super::progress::Watch;
use crate::result::{IntervalRow, Ledger, ReceiverResult, SenderResult, Trial};

impl Bench {
    /// What was asked for, what both ends say of it, and where every packet went.
    pub(super) fn laid_together(
        &self,
        run: u16,
        watch: &Watch<'_>,
        senders: Vec<SenderResult>,
        mut receiver: ReceiverResult,
        ledger: Ledger,
        probed: bool,
    ) -> Trial {
        let audited = receiver.probe.as_ref().filter(|_| probed);
        let audited = audited.and_then(|probe| probe.runs.iter().find(|audit| audit.run == run));
        let intervals = intervals(&senders, audited);
        let intended = audited.map(|audit| audit.intended.clone());
        let actual = audited.map(|audit| audit.actual.clone());
        // They stand in the trial's own rows now.
        for run in receiver.probe.iter_mut().flat_map(|probe| &mut probe.runs) {
            run.intervals.clear();
            (run.intended, run.actual) = (Hist::new(), Hist::new());
        }
        Trial {
            name: watch.name.to_owned(),
            scenario: self.matter.name().to_owned(),
            transport: if self.matter.is_stream() {
                "tcp"
            } else {
                "udp"
            }
            .to_owned(),
            arrivals: self.matter.arrivals().to_owned(),
            seed: self.matter.seed(),
            run,
            offered_pps: watch.rate_pps,
            seconds: watch.length.as_secs_f64(),
            intended: intended.unwrap_or_default(),
            actual: actual.unwrap_or_default(),
            intervals,
            senders,
            receiver,
            ledger,
            binding: None,
        }
    }
}

/// When so much was refused that the run has failed: of datagrams one in a hundred, of a stream anything, because it is
/// over then.
pub(super) fn refused(senders: &[SenderResult], is_stream: bool) -> Option<anyhow::Error> {
    let errors = senders.iter().flat_map(|sender| &sender.errors);
    let (error, _) = errors.clone().max_by_key(|(_, count)| **count)?;
    let count: u64 = errors.map(|(_, count)| count).sum();
    let planned: u64 = senders.iter().map(|sender| sender.planned).sum();
    let is_too_much = is_stream || count.saturating_mul(REFUSED_PART) > planned;
    is_too_much.then(|| anyhow!("{count} of {planned} packets could not be sent: {error}"))
}

/// Both ends by seconds, the first of which is the one in which the senders began.
fn intervals(
    senders: &[SenderResult],
    audited: Option<&binrush_probe::RunReport>,
) -> Vec<IntervalRow> {
    let start_ns = senders
        .iter()
        .map(|sender| sender.start_ns)
        .min()
        .unwrap_or(0);
    let first = start_ns / NS_PER_SECOND;
    let mut rows: Vec<IntervalRow> = Vec::new();
    let mut row = |second: u64, change: &mut dyn FnMut(&mut IntervalRow)| {
        let index = usize::try_from(second).unwrap_or(usize::MAX);
        if index >= SECONDS_MAX {
            return;
        }
        while rows.len() <= index {
            let second = rows.len() as u64;
            rows.push(IntervalRow {
                second,
                ..IntervalRow::default()
            });
        }
        change(&mut rows[index]);
    };
    for sender in senders {
        for (second, (sent, due)) in (0..).zip(sender.by_second.iter().zip(&sender.due_by_second)) {
            row(second, &mut |row| {
                row.sent += sent;
                row.offered += due;
            });
        }
    }
    for interval in audited.into_iter().flat_map(|audit| &audit.intervals) {
        row(interval.second.saturating_sub(first), &mut |row| {
            *row.received.get_or_insert(0) += interval.received;
            row.latency.merge(&interval.latency);
        });
    }
    rows
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// One packet in so many may be refused before a run has failed.
const REFUSED_PART: u64 = 100;

/// A day; longer runs are shown without their later seconds.
const SECONDS_MAX: usize = 86_400;
