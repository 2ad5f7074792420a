//! The loop: one thread, one core, one queue, one slab, its own handlers and counters.
//!
//! ```text
//!   ┌▶ recv ─▶ for each datagram: parse ─▶ lookup ─▶ handle ─▶ count ─▶ release ─┐
//!   ├────────────────────────────────────────────────────────────────────────────┘
//!   └─ nothing there: ask again for a while, then sleep until something comes
//! ```
//!
//! Per packet there is no lock, no allocation, no clock read, no log line and no atomic read-modify-write.
//! What is wrong with a packet is an [`Outcome`](crate::Outcome), and every datagram gets exactly one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use binrush_net::{Batch, QUEUED_LEN_MIN, RxQueue, Slab};
use binrush_wire::{Generation, Packet};

use crate::clock::Clock;
use crate::dispatch::registry::Registry;
use crate::dispatch::{Handlers, Table};
use crate::telemetry::ledger::{Ledger, LedgerWriter};
use crate::telemetry::outcome::Outcome;

/// Everything one core needs to turn datagrams into calls of handlers.
///
/// Generic over where datagrams come from and what time it is, so that a test can script both.
pub struct Shard<Q, C> {
    queue: Q,
    clock: C,
    slab: Slab,
    /// Empty between receives.
    batch: Batch,
    generation: Generation,
    table: Table,
    handlers: Handlers,
    ledger: LedgerWriter,
    /// Receives and waits that failed since the last receive that did not.
    failures: u32,
}

impl<Q: RxQueue, C: Clock> Shard<Q, C> {
    /// A shard that receives from `queue` into `slab`, and its counters, to read from anywhere.
    ///
    /// `batch` is empty and says what one receive brings; `slab` has at least as many frames, or batches stay
    /// short. Datagrams are framed as `generation`: nothing on the wire says it. Their packets go to the
    /// handlers of `registry`. Allocates what the loop will use; [`run`](Self::run) allocates nothing.
    pub fn new(
        queue: Q,
        clock: C,
        slab: Slab,
        batch: Batch,
        generation: Generation,
        registry: Registry,
    ) -> (Self, Arc<Ledger>) {
        let (table, handlers) = registry.build();
        let (ledger, writer) = Ledger::new(&table);
        let shard = Self {
            queue,
            clock,
            slab,
            batch,
            generation,
            table,
            handlers,
            ledger: writer,
            failures: 0,
        };
        (shard, ledger)
    }

    /// Runs until `stop` is set and the queue is empty. Sees `stop` within [`WAIT`].
    ///
    /// Who sets `stop` shuts off new arrivals first: what comes later than the drain would be received by
    /// nobody.
    ///
    /// # Errors
    /// The error of the queue when it failed [`RECV_FAILURES_MAX`] times in a row (a receive that works, even an
    /// empty one, begins the count anew), each of which is counted;
    /// or that more came after `stop` than was queued at that time.
    pub fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut empty = 0;
        // Acquire pairs with the Release store of `Engine::stop`: whoever sees the flag also sees that
        // arrivals were shut off before, so what is queued now is all there will be.
        while !stop.load(Ordering::Acquire) {
            if self.receive()? {
                self.settle();
                empty = 0;
            } else if empty < SPIN_RECEIVES {
                empty += 1;
            } else if let Err(error) = self.queue.wait(WAIT) {
                self.failed(error)?;
            }
        }
        self.drain()
    }

    /// Receives what was queued when arrivals were shut off, and no more than that.
    fn drain(&mut self) -> io::Result<()> {
        let mut left = self.queue.queued_bytes()? / QUEUED_LEN_MIN;
        let mut waits = 0;
        loop {
            if self.receive()? {
                let came = self.batch.len() as u64;
                self.settle();
                left = left
                    .checked_sub(came)
                    .ok_or_else(|| io::Error::other("datagrams keep arriving after the stop"))?;
            } else if self.queue.queued_bytes()? == 0 || waits == DRAIN_WAITS_MAX {
                // What is still held then is told by who closes the socket.
                return Ok(());
            } else {
                waits += 1;
                if let Err(error) = self.queue.wait(DRAIN_WAIT) {
                    self.failed(error)?;
                }
            }
        }
    }

    /// Whether a batch came. A failure is counted, and none came; too many in a row are an error.
    fn receive(&mut self) -> io::Result<bool> {
        match self.queue.recv(&mut self.slab, &mut self.batch) {
            Ok(()) => self.failures = 0,
            Err(error) => self.failed(error)?,
        }
        Ok(!self.batch.is_empty())
    }

    /// Counts a failure and lets time pass before the next attempt, each time twice as long.
    #[cold]
    fn failed(&mut self, error: io::Error) -> io::Result<()> {
        self.ledger.receive_failed();
        self.failures += 1;
        if self.failures == RECV_FAILURES_MAX {
            return Err(error);
        }
        let pause = BACKOFF_MIN.saturating_mul(1 << (self.failures - 1));
        self.clock.sleep(pause.min(BACKOFF_MAX));
        Ok(())
    }

    /// Brings every datagram of the batch to its counter, and gives the frames back.
    fn settle(&mut self) {
        let Self {
            clock,
            slab,
            batch,
            generation,
            table,
            handlers,
            ledger,
            ..
        } = self;
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

/// Empty receives in a row before a shard sleeps: about 40 us of them, at 0.3 us each.
///
/// A wakeup costs about as much. So whatever the gap between two datagrams, asking and then sleeping costs
/// at most twice what the better of the two would have; and an idle shard sleeps.
pub const SPIN_RECEIVES: u32 = 128;

/// The longest sleep without a look at the stop flag.
pub const WAIT: Duration = Duration::from_millis(50);

/// Receive errors in a row after which a shard gives up: a third of a second, enough for a moment without
/// kernel memory.
pub const RECV_FAILURES_MAX: u32 = 16;

/// The pause after a first failure.
const BACKOFF_MIN: Duration = Duration::from_millis(1);

/// The longest pause after a failure: the stop flag is not looked at meanwhile.
const BACKOFF_MAX: Duration = Duration::from_millis(32);

/// How long, and how often, a drain waits for memory that the kernel holds although nothing can be received.
const DRAIN_WAIT: Duration = Duration::from_millis(1);
const DRAIN_WAITS_MAX: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::handler::Verdict;
    use crate::telemetry::snapshot::{KernelDrops, Snapshot};
    use binrush_wire::{Builder, ErrorKind, WireError, crc32};
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// One receive of a scripted queue.
    enum Step {
        Batch(Vec<Vec<u8>>),
        Truncated(Vec<u8>),
        Empty,
        Fail,
    }

    /// Plays its script, then stays empty; asks for `stop` after so many receives.
    struct Script<'s> {
        steps: VecDeque<Step>,
        stop_after: usize,
        stop: &'s AtomicBool,
        /// How many receives there were before each wait.
        waits: Vec<usize>,
        receives: usize,
    }

    impl<'s> Script<'s> {
        fn new(steps: Vec<Step>, stop_after: usize, stop: &'s AtomicBool) -> Self {
            Self {
                steps: steps.into(),
                stop_after,
                stop,
                waits: Vec::new(),
                receives: 0,
            }
        }
    }

    impl RxQueue for Script<'_> {
        fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
            assert!(batch.is_empty(), "the shard hands in a released batch");
            self.receives += 1;
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

        fn wait(&mut self, _: Duration) -> io::Result<()> {
            self.waits.push(self.receives);
            Ok(())
        }

        fn queued_bytes(&self) -> io::Result<u64> {
            let datagrams = self.steps.iter().map(|step| match step {
                Step::Batch(datagrams) => datagrams.len() as u64,
                Step::Truncated(_) => 1,
                Step::Empty | Step::Fail => 0,
            });
            Ok(datagrams.sum::<u64>() * 768)
        }
    }

    /// 100 ns pass between any two reads, and a sleep takes no time.
    #[derive(Default)]
    struct Ticking {
        now_ns: u64,
        slept: Vec<Duration>,
    }

    impl Clock for Ticking {
        fn now(&mut self) -> Timestamp {
            self.now_ns += 100;
            Timestamp::from_nanos(self.now_ns)
        }

        fn sleep(&mut self, duration: Duration) {
            self.slept.push(duration);
        }
    }

    fn shard<Q: RxQueue>(queue: Q, registry: Registry) -> (Shard<Q, Ticking>, Arc<Ledger>) {
        let (slab, batch) = (Slab::new(4).unwrap(), Batch::new(4));
        let clock = Ticking::default();
        Shard::new(queue, clock, slab, batch, Generation::Legacy, registry)
    }

    fn run(steps: Vec<Step>, registry: Registry) -> (io::Result<()>, Snapshot) {
        let stop = AtomicBool::new(false);
        let receives = steps.len();
        let (mut shard, ledger) = shard(Script::new(steps, receives, &stop), registry);
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
        // An empty batch is not the end as long as the kernel holds something.
        let some = || Step::Batch(vec![packet(b"ul", 1)]);
        let steps = vec![some(), some(), Step::Empty, some()];
        let (mut shard, ledger) = shard(Script::new(steps, 0, &stop), registry);
        shard.run(&stop).unwrap();
        assert_eq!(
            ledger
                .snapshot(KernelDrops::default())
                .outcome(Outcome::Handled),
            3
        );
    }

    #[test]
    fn an_idle_shard_asks_a_while_and_then_sleeps() {
        let stop = AtomicBool::new(false);
        let spin = SPIN_RECEIVES as usize;
        let mut steps: Vec<Step> = (0..spin).map(|_| Step::Empty).collect();
        steps.push(Step::Batch(vec![packet(b"ul", 1)]));
        let queue = Script::new(steps, 2 * spin + 3, &stop);
        let (mut shard, _ledger) = shard(queue, Registry::new());
        shard.run(&stop).unwrap();
        // What came in time cost no sleep; then each sleep is followed by one look.
        let first = 2 * spin + 2;
        assert_eq!(shard.queue.waits, [first, first + 1, first + 2]);
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
    fn each_failure_in_a_row_pauses_longer_up_to_a_bound() {
        let stop = AtomicBool::new(false);
        let fail = |count: u32| (0..count).map(|_| Step::Fail);
        let steps: Vec<Step> = fail(8).chain([Step::Empty]).chain(fail(1)).collect();
        let queue = Script::new(steps, 10, &stop);
        let (mut shard, _ledger) = shard(queue, Registry::new());
        shard.run(&stop).unwrap();
        let millis: Vec<u128> = shard.clock.slept.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [1, 2, 4, 8, 16, 32, 32, 32, 1]);
        assert!(shard.clock.slept.iter().all(|pause| *pause < WAIT));
    }

    #[test]
    fn a_drain_that_finds_more_than_was_queued_is_cut_and_said() {
        /// Two datagrams are queued when it is asked, and there is always one more.
        struct Endless;
        impl RxQueue for Endless {
            fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
                batch.push(slab.take().expect("released"), 0, false);
                Ok(())
            }

            fn wait(&mut self, _: Duration) -> io::Result<()> {
                unreachable!("there is always something")
            }

            fn queued_bytes(&self) -> io::Result<u64> {
                Ok(2 * QUEUED_LEN_MIN)
            }
        }
        let (mut shard, ledger) = shard(Endless, Registry::new());
        let error = shard.run(&AtomicBool::new(true)).unwrap_err();
        assert!(error.to_string().contains("keep arriving"), "{error}");
        // Also the one too many is in a counter.
        let totals = ledger.snapshot(KernelDrops::default());
        assert_eq!(totals.outcome(Outcome::TooShort), 3);
        assert!(totals.is_balanced());
    }

    #[test]
    fn a_drain_does_not_wait_forever_for_memory_that_is_not_given_back() {
        struct Held;
        impl RxQueue for Held {
            fn recv(&mut self, _: &mut Slab, _: &mut Batch) -> io::Result<()> {
                Ok(())
            }

            fn wait(&mut self, _: Duration) -> io::Result<()> {
                Ok(())
            }

            fn queued_bytes(&self) -> io::Result<u64> {
                Ok(768)
            }
        }
        let (mut shard, _ledger) = shard(Held, Registry::new());
        shard.run(&AtomicBool::new(true)).unwrap();
    }
}
