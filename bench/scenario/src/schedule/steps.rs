//! A rate that changes.

use crate::limits;
use crate::scenario::Step;

use super::FUZZ;

/// Steps, again and again, as the pieces in which packets lie at equal distances.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    /// At least one, in order; silent steps are the holes between them.
    pieces: Box<[Piece]>,
    round_ns: f64,
    round_packets: f64,
    /// The piece and the round of the latest packet: the next one most often lies there too.
    latest: Piece,
}

/// A part of a round with one rate. A piece of the first round until it is moved into another one.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start_ns: f64,
    start_packets: f64,
    end_ns: f64,
    end_packets: f64,
    ns_per_packet: f64,
}

impl Steps {
    /// `None` when a step is none, or all are silent.
    pub(super) fn new(steps: &[Step], rate_pps: f64) -> Option<Self> {
        limits::STEPS.check(steps.len() as u64).ok()?;
        let mut pieces = Vec::new();
        let (mut at_ns, mut at_packets) = (0.0, 0.0);
        for step in steps {
            let length_ns = limits::duration_ns(step.duration).ok()? as f64;
            let factor = limits::FACTOR.check(step.factor).ok()?;
            let (start_ns, start_packets) = (at_ns, at_packets);
            at_ns += length_ns;
            at_packets += length_ns * rate_pps * factor / 1e9;
            if at_packets > start_packets {
                pieces.push(Piece {
                    start_ns,
                    start_packets,
                    end_ns: at_ns,
                    end_packets: at_packets,
                    ns_per_packet: length_ns / (at_packets - start_packets),
                });
            }
        }
        Some(Self {
            latest: *pieces.first()?,
            pieces: pieces.into(),
            round_ns: at_ns,
            round_packets: at_packets,
        })
    }

    /// When `packet` is due, in nanoseconds after the start.
    #[inline]
    pub(super) fn due_ns(&mut self, packet: u64) -> f64 {
        let packet = packet as f64;
        // The last packet before an end is left to the search, which knows on which side rounding put it.
        if packet < self.latest.start_packets || self.latest.end_packets - packet < FUZZ {
            self.latest = self.piece_of(packet);
        }
        let Piece {
            start_ns,
            start_packets,
            ns_per_packet,
            ..
        } = self.latest;
        start_ns + (packet - start_packets).max(0.0) * ns_per_packet
    }

    /// How many packets lie before `end_ns`: a number with a fraction when it cuts a gap.
    pub(super) fn before(&self, end_ns: f64) -> f64 {
        let rounds = (end_ns / self.round_ns).floor();
        let rest_ns = end_ns - rounds * self.round_ns;
        let packets = self.pieces.iter().map(|piece| {
            (rest_ns.min(piece.end_ns) - piece.start_ns).max(0.0) / piece.ns_per_packet
        });
        rounds * self.round_packets + packets.sum::<f64>()
    }

    fn piece_of(&self, packet: f64) -> Piece {
        let packet = packet + FUZZ;
        let rounds = (packet / self.round_packets).floor();
        let rest = packet - rounds * self.round_packets;
        let behind = self
            .pieces
            .partition_point(|piece| piece.start_packets <= rest);
        let piece = self.pieces[behind.saturating_sub(1)];
        Piece {
            start_ns: piece.start_ns + rounds * self.round_ns,
            end_ns: piece.end_ns + rounds * self.round_ns,
            start_packets: piece.start_packets + rounds * self.round_packets,
            end_packets: piece.end_packets + rounds * self.round_packets,
            ..piece
        }
    }
}
