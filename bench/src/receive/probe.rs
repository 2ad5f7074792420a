//! A receiver that does nothing but audit: each packet is parsed with its checksum, and its stamp read and checked.
//!
//! Faster than any receiver with work to do, so what a load loses here the generator or the kernel lost.

use std::hint;
use std::sync::Arc;

use anyhow::Context as _;
use binrush_net::{
    Batch, Bell, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions, UdpSocket,
};
use binrush_probe::{Audit, Limits, monotonic_ns};
use binrush_wire::{ErrorKind, Generation, Packet};
use serde_json::{Map, Value, json};

use super::{Args, Audited, Stop, WAIT, say_ready};

/// What was received, by what it was.
#[derive(Debug)]
pub(crate) struct Counts {
    /// `None`: packets are only parsed and counted.
    audit: Option<Audit>,
    handled: u64,
    invalid: [u64; ErrorKind::ALL.len()],
}

/// Counts datagrams of 1.x until `stop`.
pub(crate) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let options = UdpOptions {
        rcvbuf: Some(args.rcvbuf as usize),
        gro: args.gro,
    };
    let socket = UdpSocket::bind(args.listen, &options)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let addr = socket.local_addr()?;
    let mut slab = Slab::new(FRAMES).context("cannot map receive frames")?;
    let mut batch = Batch::new(SLOTS);
    let mut queues = [RecvMmsg::open(Arc::new(socket), SLOTS)?];
    let bell = Bell::new()?;
    let mut counts = Counts::new(args);
    say_ready(addr)?;

    let mut idle = 0;
    while !stop.is_asked() {
        queues[0].recv(&mut slab, &mut batch)?;
        if batch.is_empty() {
            if idle < SPIN_RECEIVES {
                idle += 1;
                hint::spin_loop();
            } else {
                RecvMmsg::wait(&mut queues, None, &bell, WAIT)?;
            }
            continue;
        }
        idle = 0;
        // One look at the clock for all: they were there when the receive returned.
        let now = monotonic_ns();
        for datagram in batch.datagrams(&slab) {
            counts.see(now, Packet::parse(Generation::Legacy, datagram.bytes));
        }
        batch.release(&mut slab);
    }
    Ok(counts.totals())
}

impl Counts {
    pub(crate) fn new(args: &Args) -> Self {
        Self::with((args.audit == Audited::All).then(|| Audit::new(Limits::default())))
    }

    pub(crate) const fn with(audit: Option<Audit>) -> Self {
        Self {
            audit,
            handled: 0,
            invalid: [0; ErrorKind::ALL.len()],
        }
    }

    /// Counts a packet, or what was none; whether it was one, and as it was sent.
    #[inline]
    pub(crate) fn see(&mut self, now: u64, parsed: binrush_wire::Result<Packet<'_>>) -> bool {
        match parsed {
            Ok(packet) => {
                self.handled += 1;
                let seen = self.audit.as_mut().map(|audit| audit.see(now, &packet));
                seen != Some(binrush_probe::Seen::Damaged)
            }
            Err(error) => {
                self.refuse(error.kind);
                false
            }
        }
    }

    /// Counts what was no packet.
    #[cold]
    pub(crate) fn refuse(&mut self, kind: ErrorKind) {
        let mut kinds = ErrorKind::ALL.iter().zip(&mut self.invalid);
        if let Some((_, count)) = kinds.find(|(known, _)| **known == kind) {
            *count += 1;
        }
    }

    /// Packets that were valid.
    pub(crate) const fn handled(&self) -> u64 {
        self.handled
    }

    /// As `serve` tells them: `received = Σ outcomes`. An outcome that did not happen is left out.
    pub(crate) fn totals(&self) -> Value {
        let mut outcomes = Map::new();
        outcomes.insert("handled".to_owned(), self.handled.into());
        for (kind, count) in ErrorKind::ALL.iter().zip(self.invalid) {
            if count > 0 {
                outcomes.insert(kind.symbol().to_owned(), count.into());
            }
        }
        let received = self.handled + self.invalid.iter().sum::<u64>();
        let mut totals = json!({ "received": received, "outcomes": outcomes });
        if let Some(audit) = &self.audit {
            totals["probe"] = json!(audit.report());
        }
        totals
    }
}

/// Frames per receive, as the engine takes them unless told otherwise.
const SLOTS: usize = 64;

/// The batch that is out and the slots that are armed.
const FRAMES: usize = 2 * SLOTS;

/// Empty receives before it sleeps, as the engine does: about as long as a wakeup takes.
const SPIN_RECEIVES: u32 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::packets::Packets;

    #[test]
    fn every_datagram_is_in_one_outcome() {
        let packets = Packets::new(100, 1).unwrap();
        let good = packets.cycle().next().unwrap();
        let mut damaged = good.to_vec();
        damaged[50] ^= 1;
        let mut counts = Counts::with(Some(Audit::new(Limits::default())));
        let mut see = |bytes| counts.see(1, Packet::parse(Generation::Legacy, bytes));
        assert!(see(good));
        assert!(!see(&damaged) && !see(&good[..5]) && !see(b""));
        let totals = counts.totals();
        let outcomes = json!({ "handled": 1, "bad_crc": 1, "too_short": 2 });
        assert_eq!(
            (&totals["received"], &totals["outcomes"]),
            (&json!(4), &outcomes)
        );
        assert_eq!(totals["probe"]["foreign"], 1);
    }

    #[test]
    fn without_an_audit_packets_are_counted_and_there_is_no_report() {
        let packets = Packets::new(100, 1).unwrap();
        let mut counts = Counts::with(None);
        let good = packets.cycle().next().unwrap();
        counts.see(1, Packet::parse(Generation::Legacy, good));
        assert_eq!(
            counts.totals(),
            json!({ "received": 1, "outcomes": { "handled": 1 } })
        );
    }
}
