//! Queued while the receiver is parked, then drained: by one receiver, and by two shards.

use anyhow::ensure;

use super::contenders::{Asked, Contender};
use super::drain::{self, Filling};
use super::packets::Packets;
use super::report::{ONE_SHARD, PLAIN, SHARDS, Sample};
use super::{Bench, CALL_IDS, Case, RCVBUF_DRAIN, on_core};
use crate::receiver::{Kind, Setup};

impl Bench<'_> {
    pub(super) fn plain(&mut self, size: usize) -> anyhow::Result<()> {
        let packets = Packets::new(size, CALL_IDS)?;
        let contenders = self.receivers(RCVBUF_DRAIN, self.gro(), Asked::Park);
        let case = Case {
            scenario: PLAIN,
            size,
            rate: None,
        };
        self.in_turns(case, &contenders, |bench, contender| {
            bench.drain(contender, bench.filling(&packets, 1, &[bench.tx]))
        })
    }

    /// The same packets for one shard and for two.
    pub(super) fn shards(&mut self, size: usize) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        if !self.has_engine() {
            self.leave_out("shards are not measured: `engine` is not among the receivers");
            return Ok(());
        }
        let packets = Packets::new(size, CALL_IDS)?;
        let setup = |cores: &[usize]| Setup {
            cores: cores.to_vec(),
            ..self.setup(Kind::Engine, RCVBUF_DRAIN, self.gro())
        };
        let contenders = [
            Contender::ours(ONE_SHARD, setup(&[self.rx])),
            Contender::ours("engine-2-shards", setup(&[self.tx, self.rx])),
        ];
        let case = Case {
            scenario: SHARDS,
            size,
            rate: None,
        };
        self.in_turns(case, &contenders, |bench, contender| {
            // Sent from both cores, as network cards have a queue on each: or one would free the memory of all.
            let cores = [bench.tx, bench.rx];
            bench.drain(
                contender,
                bench.filling(&packets, SHARDS_PACKETS_FACTOR, &cores),
            )
        })
    }

    fn drain(&self, contender: &Contender, filling: Filling<'_>) -> anyhow::Result<Sample> {
        let mut receiver = self.start(contender)?;
        let sample = on_core(self.tx, || drain::measure(&mut receiver, filling))?;
        let received = receiver.count(filling.packets.size())?;
        let through = sample.sent - sample.lost;
        // Figures of a receiver that lost or made up packets mean nothing. A stranger tells no count of its own.
        let received = received.unwrap_or(through);
        ensure!(
            received == through,
            "it received {received} packets where {through} came through its socket"
        );
        Ok(sample)
    }

    fn filling<'b>(&self, packets: &'b Packets, factor: u32, cores: &'b [usize]) -> Filling<'b> {
        Filling {
            packets,
            count: (self.packets() * factor).into(),
            rcvbuf: self.rcvbuf,
            cores,
        }
    }
}

/// More packets for two shards: they are through sooner, and the end is seen a millisecond late.
const SHARDS_PACKETS_FACTOR: u32 = 3;
