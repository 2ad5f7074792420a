//! The loop: one thread, one core, one queue, one slab, its own handlers and counters.
//!
//! ```text
//!   ┌▶ recv ─▶ for each datagram: parse ─▶ lookup ─▶ handle ─▶ count ─▶ release ─┐
//!   └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Per packet there is no lock, no allocation, no clock read, no log line and no atomic read-modify-write.
//! What is wrong with a packet is an [`Outcome`](crate::Outcome), and every datagram gets exactly one.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use binrush_net::{Batch, RxQueue, Slab};
use binrush_wire::{Generation, Packet};

use crate::clock::Clock;
use crate::dispatch::{Handlers, Table};
use crate::telemetry::ledger::LedgerWriter;
use crate::telemetry::outcome::Outcome;

/// Everything one core needs to turn datagrams into calls of handlers.
///
/// Generic over where datagrams come from and what time it is, so that a test can script both.
pub struct Shard<Q, C> {
    /// Where datagrams come from.
    pub queue: Q,
    /// What time it is.
    pub clock: C,
    /// The frames that `queue` fills; at least as many as `batch` has room for, or batches stay short.
    pub slab: Slab,
    /// What one receive brings; empty between receives.
    pub batch: Batch,
    /// How packets are framed; nothing on the wire says it. 1.x is the only one that uses datagrams.
    pub generation: Generation,
    /// Which handler a name leads to.
    pub table: Table,
    /// The handlers, used by this shard alone.
    pub handlers: Handlers,
    /// The counters, written by this shard alone.
    pub ledger: LedgerWriter,
}

impl<Q: RxQueue, C: Clock> Shard<Q, C> {
    /// Runs until `stop` is set and the queue is empty.
    ///
    /// Who sets `stop` shuts off new arrivals first: the queue is drained to its first empty batch, and what
    /// came later would be received by nobody.
    ///
    /// # Errors
    /// The error of the queue when it failed [`RECV_FAILURES_MAX`] times in a row, each of which is counted;
    /// or that the queue did not run empty within [`DRAIN_BATCHES_MAX`] batches after `stop`.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let Self {
            queue,
            clock,
            slab,
            batch,
            generation,
            table,
            handlers,
            ledger,
        } = self;
        let mut failures = 0;
        let mut drained = 0;
        loop {
            // Acquire pairs with the Release store of `Engine::stop`: whoever sees the flag also sees that
            // arrivals were shut off before, so an empty batch from here on is the last one.
            let stopping = stop.load(Ordering::Acquire);
            if let Err(error) = queue.recv(slab, batch) {
                ledger.receive_failed();
                failures += 1;
                if failures == RECV_FAILURES_MAX {
                    return Err(error);
                }
                continue;
            }
            failures = 0;
            if batch.is_empty() {
                if stopping {
                    return Ok(());
                }
                continue;
            }

            let now = clock.now();
            ledger.received(batch.len());
            let mut bytes = 0;
            for datagram in batch.datagrams(slab) {
                bytes += datagram.bytes.len();
                if datagram.truncated {
                    ledger.refuse(Outcome::Truncated);
                    continue;
                }
                let packet = match Packet::parse(*generation, datagram.bytes) {
                    Ok(packet) => packet,
                    Err(error) => {
                        ledger.refuse(error.kind.into());
                        continue;
                    }
                };
                let Some(entry) = table.lookup(packet.name()) else {
                    ledger.refuse_name(packet.name());
                    continue;
                };
                let verdict = handlers[entry].handle(now, &packet);
                ledger.settle(entry, packet.command(), verdict.into());
            }
            ledger.batch_done(bytes, clock.now().nanos_since(now));
            batch.release(slab);

            if stopping {
                drained += 1;
                if drained == DRAIN_BATCHES_MAX {
                    return Err(io::Error::other(
                        "the queue did not run empty after the stop",
                    ));
                }
            }
        }
    }
}

impl<Q: fmt::Debug, C: fmt::Debug> fmt::Debug for Shard<Q, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("queue", &self.queue)
            .field("clock", &self.clock)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// Receive errors in a row after which a shard gives up: enough for a moment without kernel memory, few
/// enough not to spin on a socket that is gone.
pub const RECV_FAILURES_MAX: u32 = 16;

/// Batches that a drain may take. A receive buffer of 64 MiB holds fewer datagrams than this many batches,
/// even if each batch had one.
pub const DRAIN_BATCHES_MAX: u32 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::handler::Verdict;
    use crate::dispatch::registry::Registry;
    use crate::telemetry::ledger::Ledger;
    use crate::telemetry::snapshot::{KernelDrops, Snapshot};
    use binrush_wire::{Builder, ErrorKind, WireError, crc32};
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    /// One receive of a scripted queue.
    enum Step {
        Batch(Vec<Vec<u8>>),
        Truncated(Vec<u8>),
        Empty,
        Fail,
    }

    /// Plays its script, then stays empty; asks for `stop` when only the drain is left.
    struct Script<'s> {
        steps: VecDeque<Step>,
        stop_after: usize,
        stop: &'s AtomicBool,
    }

    impl RxQueue for Script<'_> {
        fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
            assert!(batch.is_empty(), "the shard hands in a released batch");
            if self.stop_after == 0 {
                self.stop.store(true, Ordering::Release);
            }
            self.stop_after = self.stop_after.saturating_sub(1);
            let (datagrams, truncated) = match self.steps.pop_front() {
                Some(Step::Batch(datagrams)) => (datagrams, false),
                Some(Step::Truncated(datagram)) => (vec![datagram], true),
                Some(Step::Empty) | None => (Vec::new(), false),
                Some(Step::Fail) => return Err(io::ErrorKind::OutOfMemory.into()),
            };
            for bytes in datagrams {
                let frame = slab.take().expect("the shard released the last batch");
                slab.frame_mut(&frame)[..bytes.len()].copy_from_slice(&bytes);
                batch.push(frame, u32::try_from(bytes.len()).unwrap(), truncated);
            }
            Ok(())
        }
    }

    /// 100 ns pass between any two reads.
    struct Ticking(u64);

    impl Clock for Ticking {
        fn now(&mut self) -> Timestamp {
            self.0 += 100;
            Timestamp::from_nanos(self.0)
        }
    }

    fn run(steps: Vec<Step>, registry: Registry) -> (io::Result<()>, Snapshot) {
        let stop = AtomicBool::new(false);
        let queue = Script {
            stop_after: steps.len(),
            steps: steps.into(),
            stop: &stop,
        };
        let (table, handlers) = registry.build();
        let (ledger, writer) = Ledger::new(&table);
        let mut shard = Shard {
            queue,
            clock: Ticking(0),
            slab: Slab::new(4).unwrap(),
            batch: Batch::new(4),
            generation: Generation::Legacy,
            table,
            handlers,
            ledger: writer,
        };
        let result = shard.run(&stop);
        assert_eq!(shard.slab.free(), 4, "every frame came back");
        (result, ledger.snapshot(KernelDrops::default()))
    }

    fn packet(name: &[u8], command: i32) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
        builder.push_str(b"field").unwrap();
        builder.seal().to_vec()
    }

    fn always(verdict: Verdict) -> impl FnMut(Timestamp, &Packet<'_>) -> Verdict + Send {
        move |_: Timestamp, _: &Packet<'_>| verdict
    }

    #[test]
    fn every_datagram_ends_in_exactly_one_counter() {
        let mut wrong_marker = packet(b"ul", 1);
        wrong_marker[0] = b'X';
        let mut wrong_crc = packet(b"ul", 1);
        wrong_crc[4] ^= 1;
        let mut wrong_name = packet(b"ul", 1);
        wrong_name[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
        let crc = crc32::checksum(&wrong_name[8..]);
        wrong_name[4..8].copy_from_slice(&crc.to_le_bytes());

        let at_wire = [
            (b"P4CK".to_vec(), Outcome::TooShort),
            (Vec::new(), Outcome::TooShort),
            (wrong_marker, Outcome::BadMarker),
            (wrong_crc, Outcome::BadCrc),
            (wrong_name, Outcome::BadNameLength),
            (packet(b"nobody", 1), Outcome::UnknownName),
        ];
        // What a handler may say, each under a name of its own.
        let kinds = ErrorKind::ALL.map(|kind| Verdict::Field(WireError::new(kind, 18, 4, 0)));
        let verdicts = [
            Verdict::Handled,
            Verdict::UnknownCommand,
            Verdict::UnknownVersion,
        ];
        let mut registry = Registry::new();
        let mut at_handler = Vec::new();
        for (i, verdict) in verdicts.into_iter().chain(kinds).enumerate() {
            let name = format!("handler{i}");
            registry.register(name.as_bytes(), always(verdict)).unwrap();
            at_handler.push((packet(name.as_bytes(), 7), Outcome::from(verdict)));
        }

        let mut expected = [0; Outcome::COUNT];
        expected[Outcome::Truncated as usize] = 1;
        let mut steps = vec![Step::Truncated(packet(b"handler0", 7))];
        for (bytes, outcome) in at_wire.into_iter().chain(at_handler) {
            expected[outcome as usize] += 1;
            steps.push(Step::Batch(vec![bytes]));
        }
        let (result, totals) = run(steps, registry);
        result.unwrap();
        assert_eq!(totals.outcomes, expected);
        assert!(
            expected.iter().all(|count| *count > 0),
            "no outcome without a way to it"
        );
        assert!(totals.is_balanced());
    }

    #[test]
    fn batches_are_handled_in_order_with_one_time_each() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let mut registry = Registry::new();
        registry
            .register(b"ul", move |now: Timestamp, packet: &Packet<'_>| {
                log.lock().unwrap().push((now.as_nanos(), packet.command()));
                Verdict::Handled
            })
            .unwrap();
        let batch = |commands: &[i32]| {
            Step::Batch(
                commands
                    .iter()
                    .map(|command| packet(b"ul", *command))
                    .collect(),
            )
        };
        let (result, totals) = run(
            vec![batch(&[1, 2, 3]), Step::Empty, batch(&[4]), batch(&[1, 1])],
            registry,
        );
        result.unwrap();
        let expected = [(100, 1), (100, 2), (100, 3), (300, 4), (500, 1), (500, 1)];
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(
            (totals.received, totals.batches, totals.busy_ns),
            (6, 3, 300)
        );
        assert_eq!(totals.bytes, 6 * packet(b"ul", 1).len() as u64);
        assert_eq!(totals.names[0].commands, [(1, 3), (2, 1), (3, 1), (4, 1)]);
    }

    #[test]
    fn after_the_stop_the_queue_is_drained_first() {
        let mut registry = Registry::new();
        registry.register(b"ul", always(Verdict::Handled)).unwrap();
        let stop = AtomicBool::new(true);
        let (table, handlers) = registry.build();
        let (ledger, writer) = Ledger::new(&table);
        let steps = (0..3)
            .map(|_| Step::Batch(vec![packet(b"ul", 1)]))
            .collect();
        let mut shard = Shard {
            queue: Script {
                steps,
                stop_after: 0,
                stop: &stop,
            },
            clock: Ticking(0),
            slab: Slab::new(1).unwrap(),
            batch: Batch::new(1),
            generation: Generation::Legacy,
            table,
            handlers,
            ledger: writer,
        };
        shard.run(&stop).unwrap();
        assert_eq!(
            ledger
                .snapshot(KernelDrops::default())
                .outcome(Outcome::Handled),
            3
        );
    }

    #[test]
    fn a_queue_that_heals_costs_nothing_and_one_that_does_not_ends_the_shard() {
        let failing = |count: u32| (0..count).map(|_| Step::Fail);
        let mut steps: Vec<Step> = failing(RECV_FAILURES_MAX - 1).collect();
        steps.push(Step::Batch(vec![packet(b"ul", 1)]));
        steps.extend(failing(RECV_FAILURES_MAX - 1));
        let (result, totals) = run(steps, Registry::new());
        result.unwrap();
        assert_eq!(
            totals.receive_failures,
            2 * u64::from(RECV_FAILURES_MAX - 1)
        );
        assert_eq!(totals.outcome(Outcome::UnknownName), 1);

        let (result, totals) = run(failing(RECV_FAILURES_MAX + 5).collect(), Registry::new());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(totals.receive_failures, u64::from(RECV_FAILURES_MAX));
    }

    #[test]
    fn a_drain_that_never_ends_is_cut_and_said() {
        struct Endless;
        impl RxQueue for Endless {
            fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
                batch.push(slab.take().expect("released"), 0, false);
                Ok(())
            }
        }
        let (table, handlers) = Registry::new().build();
        let (ledger, writer) = Ledger::new(&table);
        let mut shard = Shard {
            queue: Endless,
            clock: Ticking(0),
            slab: Slab::new(1).unwrap(),
            batch: Batch::new(1),
            generation: Generation::Legacy,
            table,
            handlers,
            ledger: writer,
        };
        assert!(shard.run(&AtomicBool::new(true)).is_err());
        let totals = ledger.snapshot(KernelDrops::default());
        assert_eq!(
            totals.outcome(Outcome::TooShort),
            u64::from(DRAIN_BATCHES_MAX)
        );
    }
}
