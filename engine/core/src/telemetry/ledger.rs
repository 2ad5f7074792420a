//! The counters of one shard: one writer, any number of readers, no lock.
//!
//! ```text
//!   sent = Σ shards received + kernel drops        received + made + mailed in = Σ outcomes + mailed out + waiting
//!   handled = Σ names Σ commands                   unknown_name ≥ Σ sampled unknown names
//! ```
//!
//! `received` is counted per batch, from what the queue brought, and outcomes per datagram, by the arm that
//! decided: so the equation is a check and not a definition.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use binrush_wire::WireError;

use super::latency::{Latency, LatencyWriter};
use super::outcome::Outcome;
use super::samples::{SampleWriter, Samples};
use super::snapshot::{Counts, NameCounts};
use crate::dispatch::{NAMES_MAX, NameId};

/// The counters of one shard, to read from any thread.
///
/// What is written for every datagram lies on cache lines of its own, so that no other thread's writes slow the
/// shard down; the counts per name are an allocation beside it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Ledger {
    received: Counter,
    bytes: Counter,
    batches: Counter,
    busy_ns: Counter,
    receive_failures: Counter,
    turns: Counter,
    mailed_out: Counter,
    mailed_in: Counter,
    frames: Counter,
    /// Packets that handlers made for others.
    made: Counter,
    /// Packets of streams that were spilled, and those of them that found room or were given up.
    spilled: Counter,
    unspilled: Counter,
    sent: Counter,
    send_failures: Counter,
    send_refused: Counter,
    outcomes: [Counter; Outcome::COUNT],
    names: Box<[NameLedger]>,
    unknown: [UnknownName; UNKNOWN_NAMES_MAX],
    latency: Arc<Latency>,
    samples: Arc<Samples>,
}

/// The one right to write a [`Ledger`]; belongs to its shard.
#[derive(Debug)]
pub struct LedgerWriter {
    ledger: Arc<Ledger>,
    latency: LatencyWriter,
    samples: SampleWriter,
}

/// Written by one thread, read by others.
///
/// Load and store are relaxed and not one operation: nobody else writes, so nothing is lost, and no other
/// memory is published by a counter. The store in [`add`](Self::add) pairs with the load in
/// [`get`](Self::get), which sees it sooner or later; for exact totals the reader joins the writer's thread
/// first. Only the order of two of them matters to a reader in between: see [`Ledger::counts`].
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

#[derive(Debug, Default)]
struct NameLedger {
    /// Set before the first table that leads to it.
    name: OnceLock<Box<[u8]>>,
    received: Counter,
    /// Taken in the order in which commands first come; only handled packets take one, so that garbage
    /// cannot use them up.
    commands: [CommandSlot; COMMANDS_MAX],
    other_commands: Counter,
}

#[derive(Debug, Default)]
struct CommandSlot {
    command: OnceLock<i32>,
    count: Counter,
}

/// A name inline, so that keeping one allocates nothing.
#[derive(Debug, Default)]
struct UnknownName {
    name: OnceLock<CutName>,
    count: Counter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CutName {
    /// Of the whole name, which may be longer than what is kept.
    len: usize,
    bytes: [u8; UNKNOWN_NAME_LEN_MAX],
}

impl Ledger {
    /// Zeros, and the right to count.
    #[must_use]
    pub fn new() -> (Arc<Self>, LedgerWriter) {
        let (latency, latency_writer) = Latency::new();
        let (samples, sample_writer) = Samples::new();
        let ledger = Arc::new(Self {
            received: Counter::default(),
            bytes: Counter::default(),
            batches: Counter::default(),
            busy_ns: Counter::default(),
            receive_failures: Counter::default(),
            turns: Counter::default(),
            mailed_out: Counter::default(),
            mailed_in: Counter::default(),
            frames: Counter::default(),
            made: Counter::default(),
            spilled: Counter::default(),
            unspilled: Counter::default(),
            sent: Counter::default(),
            send_failures: Counter::default(),
            send_refused: Counter::default(),
            outcomes: Default::default(),
            names: (0..NAMES_MAX).map(|_| NameLedger::default()).collect(),
            unknown: Default::default(),
            latency,
            samples,
        });
        let writer = LedgerWriter {
            ledger: Arc::clone(&ledger),
            latency: latency_writer,
            samples: sample_writer,
        };
        (ledger, writer)
    }

    /// Says what the counters of `id` are called; once is enough, and the first time counts.
    pub(crate) fn name(&self, id: NameId, name: &[u8]) {
        let _ = self.names[id.index()].name.get_or_init(|| name.into());
    }

    /// Rounds of the shard's loop so far: a number that stands still tells of a handler that hangs.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// What refused datagrams looked like.
    pub(crate) fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let unknown = self.unknown.iter().map_while(|slot| {
            slot.name
                .get()
                .map(|name| (name.printable(), slot.count.get()))
        });
        let outcomes = std::array::from_fn(|index| self.outcomes[index].get());
        let mailed_out = self.mailed_out.get();
        let unspilled = self.unspilled.get();
        let spilled = self.spilled.get();
        // Pairs with the fences in `LedgerWriter`: whoever saw an outcome sees its datagram received.
        fence(Ordering::Acquire);
        let frames = self.frames.get();
        Counts {
            received: self.received.get() + frames,
            frames,
            waiting: spilled.saturating_sub(unspilled),
            bytes: self.bytes.get(),
            batches: self.batches.get(),
            busy_ns: self.busy_ns.get(),
            receive_failures: self.receive_failures.get(),
            mailed_out,
            mailed_in: self.mailed_in.get(),
            made: self.made.get(),
            sent: self.sent.get(),
            send_failures: self.send_failures.get(),
            send_refused: self.send_refused.get(),
            outcomes,
            // Residents have a place and no name: on all shards the same places.
            names: self.names.iter().filter_map(NameLedger::counts).collect(),
            unknown_names: unknown.collect(),
            latency: self.latency.counts(),
        }
    }
}

impl LedgerWriter {
    /// A batch of `datagrams` came from a queue.
    #[inline]
    pub fn received(&mut self, datagrams: usize) {
        self.ledger.received.add(datagrams as u64);
        self.ledger.batches.add(1);
        // Once per batch, and no instruction at all on x86: pairs with the fence in `Ledger::counts`.
        fence(Ordering::Release);
    }

    /// A packet was cut out of a stream.
    #[inline]
    pub fn received_frame(&mut self) {
        self.ledger.frames.add(1);
        // As in `received`.
        fence(Ordering::Release);
    }

    /// Pieces of streams came.
    #[inline]
    pub fn received_pieces(&mut self) {
        self.ledger.batches.add(1);
    }

    /// A packet of a stream waits for the shard that owns its record.
    #[cold]
    pub fn spilled(&mut self) {
        self.ledger.spilled.add(1);
    }

    /// A packet that waited was handed over, or given up.
    #[cold]
    pub fn unspilled(&mut self) {
        self.ledger.unspilled.add(1);
    }

    /// A handler made a packet for another one.
    #[inline]
    pub fn made(&mut self) {
        self.ledger.made.add(1);
        // As in `received`.
        fence(Ordering::Release);
    }

    /// A datagram came from another shard.
    #[inline]
    pub fn received_mail(&mut self) {
        self.ledger.mailed_in.add(1);
        // As in `received`.
        fence(Ordering::Release);
    }

    /// A datagram was handed to the shard that owns its record.
    #[inline]
    pub fn mailed(&mut self) {
        self.ledger.mailed_out.add(1);
    }

    /// Work that belongs to no batch took `busy_ns`.
    #[cold]
    pub fn worked(&mut self, busy_ns: u64) {
        self.ledger.busy_ns.add(busy_ns);
    }

    /// All `datagrams` of a batch are settled; together they had `bytes`, the first arrived `latency_ns` ago
    /// and settling them took `busy_ns`.
    #[inline]
    pub fn batch_done(&mut self, datagrams: usize, bytes: usize, busy_ns: u64, latency_ns: u64) {
        self.ledger.bytes.add(bytes as u64);
        self.ledger.busy_ns.add(busy_ns);
        self.latency.record(latency_ns, datagrams as u64);
    }

    /// The shard went round its loop.
    #[inline]
    pub fn turned(&mut self) {
        self.ledger.turns.add(1);
    }

    /// A receive failed.
    #[cold]
    pub fn receive_failed(&mut self) {
        self.ledger.receive_failures.add(1);
    }

    /// What became of packets that handlers sent.
    #[cold]
    pub fn posted(&mut self, sent: u64, failed: u64, refused: u64) {
        self.ledger.sent.add(sent);
        self.ledger.send_failures.add(failed);
        self.ledger.send_refused.add(refused);
    }

    /// `datagram` came to `outcome` before it had a handler.
    #[cold]
    pub fn refuse(&mut self, outcome: Outcome, datagram: &[u8], error: Option<WireError>) {
        self.ledger.outcomes[outcome as usize].add(1);
        self.samples.offer(outcome, datagram, error);
    }

    /// `datagram` came to [`Outcome::UnknownName`]; the first few different names are kept.
    #[cold]
    pub fn refuse_name(&mut self, name: &[u8], datagram: &[u8]) {
        self.refuse(Outcome::UnknownName, datagram, None);
        let name = CutName::new(name);
        for slot in &self.ledger.unknown {
            if *slot.name.get_or_init(|| name) == name {
                slot.count.add(1);
                return;
            }
        }
    }

    /// The handler of `id` took a packet with `command`.
    #[inline]
    pub fn handled(&mut self, id: NameId, command: i32) {
        self.ledger.outcomes[Outcome::Handled as usize].add(1);
        let name = &self.ledger.names[id.index()];
        name.received.add(1);
        name.count(command);
    }

    /// The handler of `id` holds a packet back until a sync has ended: nothing is wrong with it.
    #[inline]
    pub fn held(&mut self, id: NameId) {
        self.ledger.outcomes[Outcome::HeldForSync as usize].add(1);
        self.ledger.names[id.index()].received.add(1);
    }

    /// The handler of `id` did not take the packet in `datagram`.
    #[cold]
    pub fn declined(
        &mut self,
        id: NameId,
        outcome: Outcome,
        datagram: &[u8],
        error: Option<WireError>,
    ) {
        self.ledger.names[id.index()].received.add(1);
        self.refuse(outcome, datagram, error);
    }
}

impl Counter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl NameLedger {
    #[inline]
    fn count(&self, command: i32) {
        for slot in &self.commands {
            if *slot.command.get_or_init(|| command) == command {
                slot.count.add(1);
                return;
            }
        }
        self.other_commands.add(1);
    }

    /// `None` when no name has this place yet.
    fn counts(&self) -> Option<NameCounts> {
        let name = self.name.get()?;
        let taken = self.commands.iter().map_while(|slot| {
            slot.command
                .get()
                .map(|command| (*command, slot.count.get()))
        });
        let mut commands: Vec<_> = taken.collect();
        commands.sort_unstable();
        Some(NameCounts {
            name: name.clone(),
            received: self.received.get(),
            commands,
            other_commands: self.other_commands.get(),
        })
    }
}

impl CutName {
    fn new(name: &[u8]) -> Self {
        let kept = name.len().min(UNKNOWN_NAME_LEN_MAX);
        let mut bytes = [0; UNKNOWN_NAME_LEN_MAX];
        bytes[..kept].copy_from_slice(&name[..kept]);
        Self {
            len: name.len(),
            bytes,
        }
    }

    /// Different for any two names that are not the same: of cut ones the length is told.
    fn printable(&self) -> String {
        let kept = self.bytes[..self.len.min(UNKNOWN_NAME_LEN_MAX)].escape_ascii();
        if self.len > UNKNOWN_NAME_LEN_MAX {
            return format!("{kept}...[{} bytes]", self.len);
        }
        kept.to_string()
    }
}

/// Different commands that are counted one by one for each name; OpenSIPS modules have up to 14.
pub const COMMANDS_MAX: usize = 16;

/// Different unknown names that are kept.
pub const UNKNOWN_NAMES_MAX: usize = 8;

/// Bytes of an unknown name that are kept.
const UNKNOWN_NAME_LEN_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::snapshot::{KernelDrops, ListenerCounts, Snapshot};
    use std::thread;

    fn ledger(names: &[&[u8]]) -> (Arc<Ledger>, LedgerWriter) {
        let (ledger, writer) = Ledger::new();
        for (index, name) in names.iter().enumerate() {
            ledger.name(NameId::new(index), name);
        }
        (ledger, writer)
    }

    fn with_kernel(ledger: &Ledger, kernel: KernelDrops) -> Snapshot {
        let listener = ListenerCounts {
            id: 0,
            addr: "127.0.0.1:5566".parse().unwrap(),
            open: true,
            kernel,
        };
        Snapshot::of(vec![ledger.counts()], vec![listener])
    }

    #[test]
    fn what_is_received_and_not_settled_shows() {
        let (ledger, mut writer) = ledger(&[]);
        writer.received(3);
        writer.refuse(Outcome::BadCrc, b"bytes", None);
        writer.refuse(Outcome::BadCrc, b"bytes", None);
        assert!(!ledger.counts().is_balanced());
        writer.refuse(Outcome::TooShort, b"", None);
        let totals = ledger.counts();
        assert!(totals.is_balanced());
        assert_eq!((totals.outcome(Outcome::BadCrc), totals.settled()), (2, 3));
        // Settled twice is as wrong as not at all.
        writer.refuse(Outcome::TooShort, b"", None);
        assert!(!ledger.counts().is_balanced());
    }

    #[test]
    fn sent_is_received_plus_what_the_kernel_dropped() {
        let (ledger, mut writer) = ledger(&[]);
        writer.received(7);
        let drops = KernelDrops {
            buffer: 1,
            acl: 1,
            stopping: 1,
            ..KernelDrops::default()
        };
        let totals = with_kernel(&ledger, drops);
        assert_eq!(totals.unaccounted(10), 0);
        assert_eq!(totals.unaccounted(12), 2);
        assert_eq!(totals.unaccounted(9), -1);
    }

    #[test]
    fn commands_beyond_the_bound_are_counted_together() {
        let (ledger, mut writer) = ledger(&[b"ul", b"dialog"]);
        let dialog = NameId::new(1);
        for command in (0..20).chain([19, 3]) {
            writer.received(1);
            writer.handled(dialog, command);
        }
        writer.received(1);
        writer.declined(dialog, Outcome::UnknownCommand, b"", None);
        let totals = ledger.counts();
        assert!(totals.is_balanced());
        let counts = &totals.names[1];
        assert_eq!(
            (counts.commands.len(), counts.other_commands),
            (COMMANDS_MAX, 5)
        );
        assert_eq!((counts.command(3), counts.command(19)), (2, 0));
        assert_eq!((counts.received, counts.handled()), (23, 22));
        assert_eq!(totals.names[0].received, 0);
    }

    #[test]
    fn unknown_names_are_a_bounded_sample_and_printable() {
        let (ledger, mut writer) = ledger(&[]);
        writer.refuse_name(b"rate\xFFlimit\n", b"");
        let long = [b'x'; 100];
        (0..3).for_each(|_| writer.refuse_name(&long, b""));
        writer.refuse_name(&long[..99], b"");
        for i in 0..20 {
            writer.refuse_name(format!("module{i}").as_bytes(), b"");
        }
        let totals = ledger.counts();
        assert_eq!(totals.outcome(Outcome::UnknownName), 25);
        assert_eq!(totals.unknown_names.len(), UNKNOWN_NAMES_MAX);
        assert_eq!(totals.unknown_names[0], (r"rate\xfflimit\n".to_owned(), 1));
        assert_eq!(
            totals.unknown_names[1],
            (format!("{}...[100 bytes]", "x".repeat(48)), 3)
        );
        assert_eq!(
            totals.unknown_names[2],
            (format!("{}...[99 bytes]", "x".repeat(48)), 1),
            "cut alike, but not the same name"
        );
    }

    #[test]
    fn names_that_are_cut_alike_do_not_disturb_each_other_between_two_snapshots() {
        let (ledger, mut writer) = ledger(&[]);
        let long = [b'x'; 100];
        (0..5).for_each(|_| writer.refuse_name(&long, b""));
        writer.refuse_name(&long[..99], b"");
        let earlier = ledger.counts();
        (0..2).for_each(|_| writer.refuse_name(&long[..99], b""));
        writer.refuse_name(&long[..50], b"");
        let between = ledger.counts().since(&earlier);
        let name = |len: usize| format!("{}...[{len} bytes]", "x".repeat(48));
        assert_eq!(between.unknown_names, [(name(99), 2), (name(50), 1)]);
    }

    #[test]
    fn a_snapshot_of_a_running_shard_has_no_outcome_that_was_not_received() {
        let (ledger, mut writer) = ledger(&[]);
        thread::scope(|scope| {
            let shard = scope.spawn(|| {
                (0..200_000).for_each(|_| {
                    writer.received(1);
                    writer.refuse(Outcome::BadCrc, b"bytes", None);
                });
            });
            while !shard.is_finished() {
                let now = ledger.counts();
                assert!(now.settled() <= now.received, "{now:?}");
            }
        });
        assert!(ledger.counts().is_balanced());
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_came_between() {
        let (ledger, mut writer) = ledger(&[b"ul"]);
        let ul = NameId::new(0);
        let mut count = |command, unknown: &[u8]| {
            writer.received(2);
            writer.handled(ul, command);
            writer.refuse_name(unknown, b"");
            writer.batch_done(2, 100, 50, 70);
        };
        count(1, b"old");
        let drops = |buffer, stopping, left_in_queue_bytes| KernelDrops {
            buffer,
            stopping,
            left_in_queue_bytes,
            ..KernelDrops::default()
        };
        let earlier = with_kernel(&ledger, drops(1, 0, 0));
        count(1, b"new");
        count(2, b"new");
        let between = with_kernel(&ledger, drops(4, 2, 768)).since(&earlier);
        assert!(!between.is_balanced(), "something was left in the queue");
        let total = &between.total;
        assert_eq!((total.received, total.bytes, total.busy_ns), (4, 200, 100));
        assert_eq!(total.names[0].commands, [(1, 1), (2, 1)]);
        assert_eq!(total.unknown_names, [("new".to_owned(), 2)]);
        assert_eq!(between.kernel, drops(3, 2, 768));
        assert_eq!(total.latency.count(), 4);
    }

    #[test]
    fn what_a_handler_makes_is_settled_like_what_came() {
        let [(from, mut from_writer), (to, mut to_writer)] = [ledger(&[b"ul"]), ledger(&[b"ul"])];
        let ul = NameId::new(0);
        from_writer.received(1);
        from_writer.handled(ul, 1);
        from_writer.made();
        assert!(!from.counts().is_balanced(), "on no way yet");
        from_writer.mailed();
        assert!(from.counts().is_balanced());
        to_writer.received_mail();
        to_writer.handled(ul, 101);
        let both = Snapshot::of(vec![from.counts(), to.counts()], vec![]);
        assert!(both.is_balanced());
        assert_eq!((both.total.received, both.total.made), (1, 1));
        assert_eq!(both.total.settled(), 2);
        assert_eq!(both.since(&both).total.made, 0);
    }

    #[test]
    fn what_is_held_back_is_settled_without_a_sample() {
        let (ledger, mut writer) = ledger(&[b"ul"]);
        writer.received(1);
        writer.held(NameId::new(0));
        let counts = ledger.counts();
        assert!(counts.is_balanced());
        assert_eq!(counts.outcome(Outcome::HeldForSync), 1);
        assert_eq!(
            (counts.names[0].received, counts.names[0].handled()),
            (1, 0)
        );
        assert_eq!(ledger.samples().take(Outcome::HeldForSync), None);
    }

    #[test]
    fn mail_is_neither_counted_twice_nor_forgotten() {
        let [(from, mut from_writer), (to, mut to_writer)] = [ledger(&[b"ul"]), ledger(&[b"ul"])];
        from_writer.received(1);
        from_writer.mailed();
        let totals =
            |from: &Ledger, to: &Ledger| Snapshot::of(vec![from.counts(), to.counts()], vec![]);
        assert!(!totals(&from, &to).is_balanced(), "on the way");
        to_writer.received_mail();
        assert!(!totals(&from, &to).is_balanced(), "not settled");
        to_writer.handled(NameId::new(0), 1);
        let both = totals(&from, &to);
        assert!(both.is_balanced());
        assert_eq!((both.total.received, both.total.settled()), (1, 1));
        assert_eq!(both.total.names[0].handled(), 1);
    }
}
