//! The counters at one moment, and what they must add up to.

use std::iter::repeat;
use std::net::SocketAddr;

use super::latency::LatencyCounts;
use super::outcome::Outcome;
use crate::stream::StreamSnapshot;

/// All counters of an engine at one moment, by value.
///
/// Taken while shards run, each counter is right for some moment of the reading, and `received` is not behind
/// the outcomes: it is ahead by the batch in work and by what came meanwhile. Taken after the shards' threads
/// were joined, it balances exactly.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The sums over all shards.
    pub total: Counts,
    /// Shard by shard.
    pub shards: Vec<Counts>,
    /// Listener by listener, those included that were closed since the start.
    pub listeners: Vec<ListenerCounts>,
    /// What never came out of a socket: the sums over all listeners.
    pub kernel: KernelDrops,
    /// What was lost on this host since the start, before a socket was found for it.
    pub host: HostLosses,
    /// BIN over TCP and TLS.
    pub streams: StreamSnapshot,
}

/// What one shard counted, or all of them together.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Datagrams that the queues brought, and packets that were cut out of streams.
    pub received: u64,
    /// How many of them came by streams.
    pub frames: u64,
    /// Packets of streams that wait now for the shard that owns their record.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Receives that brought at least one.
    pub batches: u64,
    /// Nanoseconds from arrival to release of all batches: parsing and handlers, without system calls.
    pub busy_ns: u64,
    /// Receives and waits that failed.
    pub receive_failures: u64,
    /// Datagrams handed to the shard that owns their record.
    pub mailed_out: u64,
    /// Datagrams taken from other shards.
    pub mailed_in: u64,
    /// Packets that handlers made of others, such as the parts of a sync packet for the owners of its records.
    pub made: u64,
    /// Packets that handlers sent.
    pub sent: u64,
    /// Packets of handlers that the kernel refused.
    pub send_failures: u64,
    /// Packets of handlers for which there was no room, or no socket of that address family.
    pub send_refused: u64,
    /// Datagrams by [`Outcome`].
    pub outcomes: [u64; Outcome::COUNT],
    /// What each name that was ever registered got, in the order of first registration.
    pub names: Vec<NameCounts>,
    /// The first names that nobody registered, each with its count: escaped, and of long ones the first 48
    /// bytes and the length. No two are alike. In the order in which they first came, which never changes
    /// within a shard.
    pub unknown_names: Vec<(String, u64)>,
    /// From the moment a receive returned with a datagram to the moment its batch was settled, mailing included.
    pub latency: LatencyCounts,
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

/// What the kernel dropped at one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerCounts {
    /// Number of the listener, never used twice by an engine. Of those closed long ago several may have become one.
    pub id: u32,
    /// The address, with the port that the kernel chose if none was given.
    pub addr: SocketAddr,
    /// Whether it still listens.
    pub open: bool,
    /// The sums over its sockets.
    pub kernel: KernelDrops,
}

/// What a host lost since an engine's start, whoever it was for: it stands beside the ledger and is not part of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLosses {
    /// Datagrams of which a fragment was lost.
    pub reassembly_failures: u64,
    /// UDP datagrams with a wrong checksum; ours are in [`KernelDrops::buffer`] too.
    pub checksum_errors: u64,
    /// UDP datagrams that came to a port at which nobody listened, such as ours before the start.
    pub no_ports: u64,
    /// Packets for which a processor had no room in its backlog.
    pub backlog: u64,
}

/// What arrived at a socket and never came out of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelDrops {
    /// Datagrams dropped while running: the receive buffer was full, the kernel had no memory, or the UDP
    /// checksum was wrong. The kernel keeps one count of them.
    pub buffer: u64,
    /// Datagrams from sources that are not allowed.
    pub acl: u64,
    /// Datagrams dropped between binding the address and being ready.
    pub starting: u64,
    /// Datagrams dropped after arrivals were shut off for the stop. The two counts are parted by a reading
    /// just before: what is dropped in the microseconds between, for whatever reason, is counted here.
    pub stopping: u64,
    /// How many of `buffer`, `starting` and `stopping` were counted at sockets that take merged trains
    /// ([`Gro`](crate::Gro)). There the kernel counts a whole dropped train as one, so each of these is one datagram
    /// or up to 128; where nothing merged, it is one.
    pub maybe_trains: u64,
    /// Kernel memory of the datagrams that were still queued when the socket was given up, in bytes; nothing
    /// says how many they are. 0 after a stop in order.
    pub left_in_queue_bytes: u64,
}

impl Snapshot {
    /// The sums of `shards` and `listeners`, and both.
    #[must_use]
    pub fn of(shards: Vec<Counts>, listeners: Vec<ListenerCounts>) -> Self {
        let mut total = Counts::default();
        shards.iter().for_each(|shard| total.add(shard));
        let mut kernel = KernelDrops::default();
        listeners
            .iter()
            .for_each(|listener| kernel.add(listener.kernel));
        Self {
            total,
            shards,
            listeners,
            kernel,
            host: HostLosses::default(),
            streams: StreamSnapshot::default(),
        }
    }

    /// Whether every packet that was received or made came to exactly one outcome, on the shard that got it or on the one it
    /// was mailed to, every handled one is in the count of one name and command, every byte of a stream is told, and
    /// nothing is on the way or was left in a queue.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let each = self.shards.iter().all(Counts::is_balanced);
        each && self.total.mailed_out == self.total.mailed_in
            && self.total.waiting == 0
            && self.total.frames == self.streams.total.frames
            && self.streams.is_balanced()
            && self.kernel.left_in_queue_bytes == 0
    }

    /// Of `sent` datagrams those that were neither received nor dropped by name: 0 when all is told.
    /// Negative when more arrived than were sent, so when somebody else sends too. Too high when trains were
    /// dropped: see [`KernelDrops::maybe_trains`].
    #[must_use]
    pub fn unaccounted(&self, sent: u64) -> i128 {
        i128::from(sent) - i128::from(self.total.received) - i128::from(self.kernel.total())
    }

    /// What was counted since `earlier`, a snapshot of the same engine and not itself a difference.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let then = earlier.shards.iter().map(Some).chain(repeat(None));
        let shards = self.shards.iter().zip(then).map(|(now, then)| match then {
            Some(then) => now.since(then),
            None => now.clone(),
        });
        let listeners = self.listeners.iter().map(|now| {
            let then = earlier.listeners.iter().find(|then| then.id == now.id);
            let kernel = then.map_or(now.kernel, |then| now.kernel.since(then.kernel));
            ListenerCounts {
                kernel,
                ..now.clone()
            }
        });
        let kernel = self.kernel.since(earlier.kernel);
        Self {
            // Not the sum of the rows, of which several may have become one meanwhile.
            kernel,
            host: self.host.since(earlier.host),
            streams: self.streams.since(&earlier.streams),
            ..Self::of(shards.collect(), listeners.collect())
        }
    }
}

impl Counts {
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

    /// Whether what came in, from sockets, handlers and other shards, is what was settled and handed on.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let by_name: u64 = self.names.iter().map(NameCounts::handled).sum();
        self.received + self.made + self.mailed_in
            == self.settled() + self.mailed_out + self.waiting
            && self.outcome(Outcome::Handled) == by_name
    }

    /// What was counted since `earlier`, from the same shard and not itself a difference.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        // A name keeps its place once it has one, so places are compared; those not taken yet had no count.
        let then = earlier.unknown_names.iter().map(|(_, count)| *count);
        let unknown = self.unknown_names.iter().zip(then.chain(repeat(0)));
        let unknown = unknown.map(|((name, now), then)| (name.clone(), now - then));
        let names = earlier.names.iter().map(Some).chain(repeat(None));
        let names = self.names.iter().zip(names).map(|(now, then)| match then {
            Some(then) => now.since(then),
            None => now.clone(),
        });
        Self {
            received: self.received - earlier.received,
            frames: self.frames - earlier.frames,
            waiting: self.waiting,
            bytes: self.bytes - earlier.bytes,
            batches: self.batches - earlier.batches,
            busy_ns: self.busy_ns - earlier.busy_ns,
            receive_failures: self.receive_failures - earlier.receive_failures,
            mailed_out: self.mailed_out - earlier.mailed_out,
            mailed_in: self.mailed_in - earlier.mailed_in,
            made: self.made - earlier.made,
            sent: self.sent - earlier.sent,
            send_failures: self.send_failures - earlier.send_failures,
            send_refused: self.send_refused - earlier.send_refused,
            outcomes: std::array::from_fn(|index| self.outcomes[index] - earlier.outcomes[index]),
            names: names.collect(),
            unknown_names: unknown.filter(|(_, count)| *count > 0).collect(),
            latency: self.latency.since(&earlier.latency),
        }
    }

    /// Adds what another shard counted.
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.frames += other.frames;
        self.waiting += other.waiting;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.busy_ns += other.busy_ns;
        self.receive_failures += other.receive_failures;
        self.mailed_out += other.mailed_out;
        self.mailed_in += other.mailed_in;
        self.made += other.made;
        self.sent += other.sent;
        self.send_failures += other.send_failures;
        self.send_refused += other.send_refused;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
        // The places of names are the same on every shard; one that was just registered may show on some only.
        for (index, name) in other.names.iter().enumerate() {
            match self.names.get_mut(index) {
                Some(sum) => sum.add(name),
                None => self.names.push(name.clone()),
            }
        }
        for (name, count) in &other.unknown_names {
            match self.unknown_names.iter_mut().find(|(sum, _)| sum == name) {
                Some((_, sum)) => *sum += count,
                None => self.unknown_names.push((name.clone(), *count)),
            }
        }
        self.latency.merge(&other.latency);
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

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.other_commands += other.other_commands;
        for (command, count) in &other.commands {
            match self
                .commands
                .binary_search_by_key(command, |(known, _)| *known)
            {
                Ok(index) => self.commands[index].1 += count,
                Err(index) => self.commands.insert(index, (*command, *count)),
            }
        }
    }
}

impl HostLosses {
    /// By name, in the order of the fields.
    #[must_use]
    pub const fn by_name(&self) -> [(&'static str, u64); 4] {
        [
            ("reassembly_failures", self.reassembly_failures),
            ("checksum_errors", self.checksum_errors),
            ("no_ports", self.no_ports),
            ("backlog", self.backlog),
        ]
    }

    fn since(&self, earlier: Self) -> Self {
        Self {
            reassembly_failures: self.reassembly_failures - earlier.reassembly_failures,
            checksum_errors: self.checksum_errors - earlier.checksum_errors,
            no_ports: self.no_ports - earlier.no_ports,
            backlog: self.backlog - earlier.backlog,
        }
    }
}

impl KernelDrops {
    /// All that were dropped; what was left in the queue is not among them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.buffer + self.acl + self.starting + self.stopping
    }

    /// Adds what was dropped elsewhere.
    pub fn add(&mut self, other: Self) {
        self.maybe_trains += other.maybe_trains;
        self.buffer += other.buffer;
        self.acl += other.acl;
        self.starting += other.starting;
        self.stopping += other.stopping;
        self.left_in_queue_bytes += other.left_in_queue_bytes;
    }

    fn since(&self, earlier: Self) -> Self {
        Self {
            buffer: self.buffer - earlier.buffer,
            acl: self.acl - earlier.acl,
            starting: self.starting - earlier.starting,
            stopping: self.stopping - earlier.stopping,
            maybe_trains: self.maybe_trains - earlier.maybe_trains,
            left_in_queue_bytes: self.left_in_queue_bytes,
        }
    }
}
