//! Lone datagrams at equal distances: what waking up and spinning cost, on both sides.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use binrush_scenario::{ContentError, Source};

use super::contenders::{Asked, Contender};
use super::drain::connect;
use super::kernel::{Mark, Processors};
use super::packets::Packets;
use super::report::{PACED, Sample};
use super::{Bench, CALL_IDS, Case, RCVBUF_FLOW, on_core};
use crate::receiver::Receiver;
use crate::result::SenderResult;
use crate::sender::{self, Job, Live, Pacing, Way};

/// Packets round and round, one every so often.
#[derive(Debug)]
struct Even {
    packets: Packets,
    rate_pps: f64,
    end_ns: u64,
    /// The next one's number.
    next: usize,
}

impl Bench<'_> {
    pub(super) fn paced(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        for &rate_pps in &self.args.rates {
            let contenders = self.receivers(RCVBUF_FLOW, self.gro(), Asked::Receive);
            let case = Case {
                scenario: PACED,
                size,
                rate: Some(rate_pps),
            };
            self.in_turns(case, &contenders, |bench, contender| {
                bench.pace(contender, size, rate_pps)
            })?;
        }
        Ok(())
    }

    fn pace(&self, contender: &Contender, size: usize, rate_pps: f64) -> anyhow::Result<Sample> {
        let mut receiver = self.start(contender)?;
        let packets = Packets::new(size, CALL_IDS)?;
        let warm = on_core(self.tx, || warm_up(&mut receiver, &packets))?;
        receiver.look_again()?;
        let end_ns = u64::try_from(self.args.seconds.as_nanos()).context("seconds are few")?;
        let job = Job {
            source: Box::new(Even {
                packets,
                rate_pps,
                end_ns,
                next: 0,
            }),
            stream: 0,
            to: receiver.addr(),
            way: Way::Plain,
            core: Some(self.tx),
            end_ns,
        };

        let mark = Mark::of(&receiver)?;
        let before: u64 = receiver.cpu_ns()?.iter().sum();
        let processors = Processors::start()?;
        // Each in a call of its own, also when one is late.
        let pacing = Pacing {
            window_ns: 0,
            ..Pacing::default()
        };
        let live = Live::new(1);
        let sent = sender::run(vec![job], pacing, &live, &self.patience)?;
        receiver.wait_drained()?;
        let cpus_ns = processors.busy_ns()?;
        receiver.wait_idle()?;
        let cpu_ns = receiver.cpu_ns()?.iter().sum::<u64>() - before;
        let [sent] = &sent[..] else {
            bail!("one sender gives one result");
        };
        let by_kernel = mark.received(&receiver, sent.sent);
        let received = match receiver.count(size)? {
            Some(received) => received
                .checked_sub(warm)
                .context("it lost what came first")?,
            None => by_kernel?,
        };
        sample(sent, received, cpu_ns, cpus_ns)
    }
}

fn sample(
    sender: &SenderResult,
    received: u64,
    cpu_ns: u64,
    cpus_ns: f64,
) -> anyhow::Result<Sample> {
    ensure!(
        (1..=sender.sent).contains(&received),
        "it received {received} of {} packets",
        sender.sent
    );
    let each = |ns: f64| ns / received as f64;
    Ok(Sample {
        ns_per_packet: each(cpu_ns as f64),
        pps: received as f64 / (sender.elapsed_ns as f64 / 1e9),
        pps_by_clock: received as f64 / (cpu_ns as f64 / 1e9),
        sent: sender.sent,
        lost: sender.sent - received,
        sender_ns: Some(each(sender.cpu_ns as f64)),
        cpus_ns: Some(each(cpus_ns)),
        unsent: sender.planned - sender.sent,
        ..Sample::default()
    })
}

/// A few packets, so that code and tables are in the cache; says how many.
fn warm_up(receiver: &mut Receiver, packets: &Packets) -> anyhow::Result<u64> {
    let sender = connect(receiver.addr())?;
    for packet in packets.cycle().take(WARM_UP) {
        sender.send(packet).context("cannot send")?;
    }
    receiver.wait_idle()?;
    Ok(WARM_UP as u64)
}

impl Even {
    fn at(&self, number: usize) -> Option<u64> {
        let due = Duration::try_from_secs_f64(number as f64 / self.rate_pps).ok()?;
        let due = u64::try_from(due.as_nanos()).ok()?;
        (due < self.end_ns).then_some(due)
    }
}

impl Source for Even {
    fn due(&self) -> Option<u64> {
        self.at(self.next)
    }

    fn write(&mut self, _: u64, _: u32, out: &mut [u8]) -> Result<usize, ContentError> {
        let packet = self.packets.at(self.next);
        out[..packet.len()].copy_from_slice(packet);
        self.next += 1;
        Ok(packet.len())
    }

    fn skip(&mut self) {
        self.next += 1;
    }
}

/// Few enough for any receive buffer.
const WARM_UP: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_due_at_equal_distances_until_the_end() {
        let mut even = Even {
            packets: Packets::new(64, 3).unwrap(),
            rate_pps: 4e3,
            end_ns: 1_000_000,
            next: 0,
        };
        let mut out = [0; 65_535];
        let mut seen = Vec::new();
        while let Some(due) = even.due() {
            let len = even.write(0, 0, &mut out).unwrap();
            seen.push((due, out[..len].to_vec()));
        }
        let dues: Vec<u64> = seen.iter().map(|(due, _)| *due).collect();
        assert_eq!(dues, [0, 250_000, 500_000, 750_000]);
        // They come round again.
        assert!(seen[0].1 == seen[3].1 && seen[0].1 != seen[1].1);
    }

    #[test]
    fn time_is_counted_per_packet_that_was_received() {
        let sender = SenderResult {
            planned: 120,
            sent: 100,
            cpu_ns: 5000,
            elapsed_ns: 1_000_000_000,
            ..SenderResult::default()
        };
        let sample = sample(&sender, 50, 1000, 10_000.0).unwrap();
        assert_eq!(
            (sample.ns_per_packet, sample.sender_ns),
            (20.0, Some(100.0))
        );
        assert_eq!(
            (sample.lost, sample.unsent, sample.cpus_ns),
            (50, 20, Some(200.0))
        );
        for wrong in [0, 101] {
            assert!(super::sample(&sender, wrong, 1000, 1.0).is_err());
        }
    }
}
