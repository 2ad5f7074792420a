//! The counters at one moment, and what they must add up to.

use std::iter::repeat;

use super::outcome::Outcome;

/// The counters at one moment, by value.
///
/// Taken while the shard runs, each counter is right for some moment of the reading, and `received` is not
/// behind the outcomes: it is ahead by the batch in work and by what came meanwhile. Taken after the shard's
/// thread was joined, it balances exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Datagrams that the queue brought.
    pub received: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Receives that brought at least one.
    pub batches: u64,
    /// Nanoseconds from arrival to release of all batches: parsing and handlers, without system calls.
    pub busy_ns: u64,
    /// Receives and waits that failed.
    pub receive_failures: u64,
    /// Datagrams by [`Outcome`].
    pub outcomes: [u64; Outcome::COUNT],
    /// What the registered names got, in the order of the table.
    pub names: Vec<NameCounts>,
    /// The first names that nobody registered, each with its count: escaped, and of long ones the first 48
    /// bytes and the length. No two are alike. In the order in which they first came, which never changes.
    pub unknown_names: Vec<(String, u64)>,
    /// What never came out of the socket.
    pub kernel: KernelDrops,
}

/// What one registered name got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameCounts {
    /// The name.
    pub name: Box<[u8]>,
    /// Packets that its handler was called with.
    pub received: u64,
    /// Packets handled, by command.
    pub commands: Vec<(i32, u64)>,
    /// Packets handled with commands beyond the first [`COMMANDS_MAX`](super::ledger::COMMANDS_MAX) different ones.
    pub other_commands: u64,
}

/// What arrived at the socket and never came out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelDrops {
    /// Datagrams dropped while running: the receive buffer was full, the kernel had no memory, or the UDP
    /// checksum was wrong. The kernel keeps one count of them.
    pub buffer: u64,
    /// Datagrams dropped after arrivals were shut off for the stop. The two counts are parted by a reading
    /// just before: what is dropped in the microseconds between, for whatever reason, is counted here.
    pub stopping: u64,
    /// Kernel memory of the datagrams that were still queued when the socket was given up, in bytes; nothing
    /// says how many they are. 0 after a stop in order.
    pub left_in_queue_bytes: u64,
}

impl Snapshot {
    /// How many datagrams came to `outcome`.
    #[must_use]
    pub const fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// The sum over all outcomes.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Whether every received datagram came to exactly one outcome, every handled one is in the count of one
    /// name and command, and none was left in the queue.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let by_name: u64 = self.names.iter().map(NameCounts::handled).sum();
        self.received == self.settled()
            && self.outcome(Outcome::Handled) == by_name
            && self.kernel.left_in_queue_bytes == 0
    }

    /// Of `sent` datagrams those that were neither received nor dropped by name: 0 when all is told.
    /// Negative when more arrived than were sent, so when somebody else sends too.
    #[must_use]
    pub fn unaccounted(&self, sent: u64) -> i128 {
        i128::from(sent) - i128::from(self.received) - i128::from(self.kernel.total())
    }

    /// What was counted since `earlier`, a snapshot of the same ledger and not itself a difference.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        // A name keeps its place once it has one, so places are compared; those not taken yet had no count.
        let then = earlier.unknown_names.iter().map(|(_, count)| *count);
        let unknown = self.unknown_names.iter().zip(then.chain(repeat(0)));
        let unknown = unknown.map(|((name, now), then)| (name.clone(), now - then));
        Self {
            received: self.received - earlier.received,
            bytes: self.bytes - earlier.bytes,
            batches: self.batches - earlier.batches,
            busy_ns: self.busy_ns - earlier.busy_ns,
            receive_failures: self.receive_failures - earlier.receive_failures,
            outcomes: std::array::from_fn(|index| self.outcomes[index] - earlier.outcomes[index]),
            names: self
                .names
                .iter()
                .zip(&earlier.names)
                .map(|(now, then)| now.since(then))
                .collect(),
            unknown_names: unknown.filter(|(_, count)| *count > 0).collect(),
            kernel: KernelDrops {
                buffer: self.kernel.buffer - earlier.kernel.buffer,
                stopping: self.kernel.stopping - earlier.kernel.stopping,
                left_in_queue_bytes: self.kernel.left_in_queue_bytes,
            },
        }
    }
}

impl NameCounts {
    /// Packets that the handler took.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.commands.iter().map(|(_, count)| count).sum::<u64>() + self.other_commands
    }

    /// Packets handled with `command`.
    #[must_use]
    pub fn command(&self, command: i32) -> u64 {
        self.commands
            .iter()
            .find(|(known, _)| *known == command)
            .map_or(0, |(_, count)| *count)
    }

    fn since(&self, earlier: &Self) -> Self {
        let commands = self
            .commands
            .iter()
            .map(|(command, count)| (*command, count - earlier.command(*command)))
            .filter(|(_, count)| *count > 0);
        Self {
            name: self.name.clone(),
            received: self.received - earlier.received,
            commands: commands.collect(),
            other_commands: self.other_commands - earlier.other_commands,
        }
    }
}

impl KernelDrops {
    /// All that were dropped; what was left in the queue is not among them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.buffer + self.stopping
    }
}
