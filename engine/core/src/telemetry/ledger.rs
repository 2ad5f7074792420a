//! The counters of one shard: one writer, any number of readers, no lock.
//!
//! ```text
//!   sent = received + kernel drops            received = handled + truncated + too_short + ... (each outcome)
//!   handled = Σ names Σ commands              unknown_name ≥ Σ sampled unknown names
//! ```
//!
//! `received` is counted per batch, from what the queue brought, and outcomes per datagram, by the arm that
//! decided: so the equation is a check and not a definition.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use super::outcome::Outcome;
use super::snapshot::{KernelDrops, NameCounts, Snapshot};
use crate::dispatch::{Entry, Table};

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
    outcomes: [Counter; Outcome::COUNT],
    names: Box<[NameLedger]>,
    unknown: [UnknownName; UNKNOWN_NAMES_MAX],
}

/// The one right to write a [`Ledger`]; belongs to its shard.
#[derive(Debug)]
pub struct LedgerWriter(Arc<Ledger>);

/// Written by one thread, read by others.
///
/// Load and store are relaxed and not one operation: nobody else writes, so nothing is lost, and no other
/// memory is published by a counter. The store in [`add`](Self::add) pairs with the load in
/// [`get`](Self::get), which sees it sooner or later; for exact totals the reader joins the writer's thread
/// first. Only the order of two of them matters to a reader in between: see [`Ledger::snapshot`].
#[derive(Debug, Default)]
struct Counter(AtomicU64);

#[derive(Debug)]
struct NameLedger {
    name: Box<[u8]>,
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
    /// Zeros for a shard that dispatches by `table`, and the right to count.
    #[must_use]
    pub fn new(table: &Table) -> (Arc<Self>, LedgerWriter) {
        let ledger = Arc::new(Self {
            received: Counter::default(),
            bytes: Counter::default(),
            batches: Counter::default(),
            busy_ns: Counter::default(),
            receive_failures: Counter::default(),
            outcomes: Default::default(),
            names: table.names().map(NameLedger::new).collect(),
            unknown: Default::default(),
        });
        (Arc::clone(&ledger), LedgerWriter(ledger))
    }

    /// The counters now, together with what the socket's owner read from the kernel.
    #[must_use]
    pub fn snapshot(&self, kernel: KernelDrops) -> Snapshot {
        let unknown = self.unknown.iter().map_while(|slot| {
            slot.name
                .get()
                .map(|name| (name.printable(), slot.count.get()))
        });
        let outcomes = std::array::from_fn(|index| self.outcomes[index].get());
        // Pairs with the fence in `LedgerWriter::received`: whoever saw an outcome sees its datagram received.
        fence(Ordering::Acquire);
        Snapshot {
            received: self.received.get(),
            bytes: self.bytes.get(),
            batches: self.batches.get(),
            busy_ns: self.busy_ns.get(),
            receive_failures: self.receive_failures.get(),
            outcomes,
            names: self.names.iter().map(NameLedger::counts).collect(),
            unknown_names: unknown.collect(),
            kernel,
        }
    }
}

impl LedgerWriter {
    /// A batch of `datagrams` came.
    #[inline]
    pub fn received(&mut self, datagrams: usize) {
        self.0.received.add(datagrams as u64);
        self.0.batches.add(1);
        // Once per batch, and no instruction at all on x86: pairs with the fence in `Ledger::snapshot`.
        fence(Ordering::Release);
    }

    /// All datagrams of a batch are settled; together they had `bytes` and took `busy_ns`.
    #[inline]
    pub fn batch_done(&mut self, bytes: usize, busy_ns: u64) {
        self.0.bytes.add(bytes as u64);
        self.0.busy_ns.add(busy_ns);
    }

    /// A receive failed.
    #[cold]
    pub fn receive_failed(&mut self) {
        self.0.receive_failures.add(1);
    }

    /// A datagram came to `outcome` before it had a handler.
    #[inline]
    pub fn refuse(&mut self, outcome: Outcome) {
        self.0.outcomes[outcome as usize].add(1);
    }

    /// A packet came to [`Outcome::UnknownName`]; the first few different names are kept.
    #[cold]
    pub fn refuse_name(&mut self, name: &[u8]) {
        self.refuse(Outcome::UnknownName);
        let name = CutName::new(name);
        for slot in &self.0.unknown {
            if *slot.name.get_or_init(|| name) == name {
                slot.count.add(1);
                return;
            }
        }
    }

    /// The handler of `entry` decided on a packet with `command`.
    #[inline]
    pub fn settle(&mut self, entry: Entry, command: i32, outcome: Outcome) {
        self.refuse(outcome);
        let name = &self.0.names[entry.index()];
        name.received.add(1);
        if outcome == Outcome::Handled {
            name.count(command);
        }
    }
}

impl Counter {
    #[inline]
    fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl NameLedger {
    fn new(name: &[u8]) -> Self {
        Self {
            name: name.into(),
            received: Counter::default(),
            commands: Default::default(),
            other_commands: Counter::default(),
        }
    }

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

    fn counts(&self) -> NameCounts {
        let taken = self.commands.iter().map_while(|slot| {
            slot.command
                .get()
                .map(|command| (*command, slot.count.get()))
        });
        let mut commands: Vec<_> = taken.collect();
        commands.sort_unstable();
        NameCounts {
            name: self.name.clone(),
            received: self.received.get(),
            commands,
            other_commands: self.other_commands.get(),
        }
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
    use crate::clock::Timestamp;
    use crate::dispatch::handler::Verdict;
    use crate::dispatch::registry::Registry;
    use binrush_wire::Packet;
    use std::thread;

    fn ledger(names: &[&[u8]]) -> (Table, Arc<Ledger>, LedgerWriter) {
        let mut registry = Registry::new();
        for name in names {
            registry
                .register(name, |_: Timestamp, _: &Packet<'_>| Verdict::Handled)
                .unwrap();
        }
        let (table, _handlers) = registry.build();
        let (ledger, writer) = Ledger::new(&table);
        (table, ledger, writer)
    }

    #[test]
    fn what_is_received_and_not_settled_shows() {
        let (_, ledger, mut writer) = ledger(&[]);
        writer.received(3);
        writer.refuse(Outcome::BadCrc);
        writer.refuse(Outcome::BadCrc);
        assert!(!ledger.snapshot(KernelDrops::default()).is_balanced());
        writer.refuse(Outcome::TooShort);
        let totals = ledger.snapshot(KernelDrops::default());
        assert!(totals.is_balanced());
        assert_eq!((totals.outcome(Outcome::BadCrc), totals.settled()), (2, 3));
        // Settled twice is as wrong as not at all.
        writer.refuse(Outcome::TooShort);
        assert!(!ledger.snapshot(KernelDrops::default()).is_balanced());
    }

    #[test]
    fn sent_is_received_plus_what_the_kernel_dropped() {
        let (_, ledger, mut writer) = ledger(&[]);
        writer.received(7);
        let totals = ledger.snapshot(KernelDrops {
            buffer: 2,
            stopping: 1,
            left_in_queue_bytes: 0,
        });
        assert_eq!(totals.unaccounted(10), 0);
        assert_eq!(totals.unaccounted(12), 2);
        assert_eq!(totals.unaccounted(9), -1);
    }

    #[test]
    fn commands_beyond_the_bound_are_counted_together() {
        let (table, ledger, mut writer) = ledger(&[b"ul", b"dialog"]);
        let dialog = table.lookup(b"dialog").unwrap();
        for command in (0..20).chain([19, 3]) {
            writer.received(1);
            writer.settle(dialog, command, Outcome::Handled);
        }
        writer.received(1);
        writer.settle(dialog, 77, Outcome::UnknownCommand);
        let totals = ledger.snapshot(KernelDrops::default());
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
        let (_, ledger, mut writer) = ledger(&[]);
        writer.refuse_name(b"rate\xFFlimit\n");
        let long = [b'x'; 100];
        (0..3).for_each(|_| writer.refuse_name(&long));
        writer.refuse_name(&long[..99]);
        for i in 0..20 {
            writer.refuse_name(format!("module{i}").as_bytes());
        }
        let totals = ledger.snapshot(KernelDrops::default());
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
        let (_, ledger, mut writer) = ledger(&[]);
        let long = [b'x'; 100];
        (0..5).for_each(|_| writer.refuse_name(&long));
        writer.refuse_name(&long[..99]);
        let earlier = ledger.snapshot(KernelDrops::default());
        (0..2).for_each(|_| writer.refuse_name(&long[..99]));
        writer.refuse_name(&long[..50]);
        let between = ledger.snapshot(KernelDrops::default()).since(&earlier);
        let name = |len: usize| format!("{}...[{len} bytes]", "x".repeat(48));
        assert_eq!(between.unknown_names, [(name(99), 2), (name(50), 1)]);
    }

    #[test]
    fn a_snapshot_of_a_running_shard_has_no_outcome_that_was_not_received() {
        let (_, ledger, mut writer) = ledger(&[]);
        thread::scope(|scope| {
            let shard = scope.spawn(|| {
                (0..200_000).for_each(|_| {
                    writer.received(1);
                    writer.refuse(Outcome::BadCrc);
                });
            });
            while !shard.is_finished() {
                let now = ledger.snapshot(KernelDrops::default());
                assert!(now.settled() <= now.received, "{now:?}");
            }
        });
        assert!(ledger.snapshot(KernelDrops::default()).is_balanced());
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_came_between() {
        let (table, ledger, mut writer) = ledger(&[b"ul"]);
        let ul = table.lookup(b"ul").unwrap();
        let mut count = |command, unknown: &[u8]| {
            writer.received(2);
            writer.settle(ul, command, Outcome::Handled);
            writer.refuse_name(unknown);
            writer.batch_done(100, 50);
        };
        count(1, b"old");
        let earlier = ledger.snapshot(KernelDrops {
            buffer: 1,
            ..KernelDrops::default()
        });
        count(1, b"new");
        count(2, b"new");
        let between = ledger
            .snapshot(KernelDrops {
                buffer: 4,
                stopping: 2,
                left_in_queue_bytes: 768,
            })
            .since(&earlier);
        assert!(!between.is_balanced(), "something was left in the queue");
        assert_eq!(
            (between.received, between.bytes, between.busy_ns),
            (4, 200, 100)
        );
        assert_eq!(between.names[0].commands, [(1, 1), (2, 1)]);
        assert_eq!(between.unknown_names, [("new".to_owned(), 2)]);
        assert_eq!(
            between.kernel,
            KernelDrops {
                buffer: 3,
                stopping: 2,
                left_in_queue_bytes: 768,
            }
        );
    }
}
