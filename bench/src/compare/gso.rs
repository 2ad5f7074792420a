//! Trains of datagrams as a flow, to each receiver in turn.

use anyhow::Context as _;

use super::contenders::{Asked, Contender};
use super::flow::{self, Flow};
use super::packets::Packets;
use super::report::{GSO, Sample};
use super::{Bench, CALL_IDS, Case, RCVBUF_FLOW, on_core};

impl Bench<'_> {
    pub(super) fn gso(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        let packets = Packets::new(size, CALL_IDS)?;
        let contenders = self.receivers(RCVBUF_FLOW, true, Asked::Receive);
        let case = Case {
            scenario: GSO,
            size,
            rate: None,
        };
        self.in_turns(case, &contenders, |bench, contender| {
            bench.flow(contender, &packets)
        })
    }

    fn flow(&self, contender: &Contender, packets: &Packets) -> anyhow::Result<Sample> {
        let mut receiver = self.start(contender)?;
        let (time, patience) = (self.args.seconds, &self.patience);
        let (flow, by_kernel) = on_core(self.tx, || {
            let flow = flow::run(&mut receiver, packets, time, BACKLOG_MIN, patience)?;
            let by_kernel = flow.mark.received(&receiver, flow.sent);
            Ok((flow, by_kernel))
        })?;
        let received = match receiver.count(packets.size())? {
            Some(received) => received
                .checked_sub(flow.warm)
                .context("it received less than came before the flow")?,
            None => by_kernel?,
        };
        sample(&flow, received)
    }
}

fn sample(flow: &Flow, received: u64) -> anyhow::Result<Sample> {
    let received = Some(received).filter(|received| (1..=flow.sent).contains(received));
    let received = received.context("it received none of the flow, or more than was sent")?;
    Ok(Sample {
        ns_per_packet: flow.cpu_ns as f64 / received as f64,
        pps: received as f64 / flow.wall.as_secs_f64(),
        pps_by_clock: received as f64 / (flow.cpu_ns as f64 / 1e9),
        sent: flow.sent,
        lost: flow.sent - received,
        backlog: flow.backlog,
        ..Sample::default()
    })
}

/// A queue that holds a tenth of it is behind. (The kernel would take twice what is asked for.)
const BACKLOG_MIN: u64 = RCVBUF_FLOW as u64 / 5;
