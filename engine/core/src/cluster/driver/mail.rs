//! What waits for the thread of the seats, and what wakes it.

use std::collections::BTreeSet;
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use crossbeam_queue::SegQueue;

use super::command::Command;
use crate::cluster::inbox::{Body, Inbox, Incoming};
use crate::cluster::message::{Description, Extra, Internal, NodeCapabilities, TopologyNode};
use crate::cluster::outbox::Slice;

/// The inbox of all seats of a process.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// What keeps a cluster together, which is read first.
    vital: Heap,
    /// From scripts and operators to ours: a flood of it keeps no PING waiting, and takes no room from one.
    rest: Heap,
    /// Bounded by what was asked for.
    slices: SegQueue<Slice>,
    /// Each waits for an answer for two seconds, or tells of a link or a loss, however long nobody reads: bounded.
    commands: SegQueue<Command>,
    /// Those that wait, or are about to.
    commands_waiting: AtomicUsize,
    /// Commands for which there was no room.
    commands_dropped: AtomicU64,
    /// A shard's words of some session changed.
    moved: AtomicBool,
    /// Clusters and capabilities that miss a record; no more than have gates.
    short: Mutex<BTreeSet<(i32, String)>>,
    /// Nobody reads any more.
    closed: AtomicBool,
    /// Events that listeners missed.
    missed: AtomicU64,
    reader: OnceLock<Thread>,
}

/// Messages that wait, bounded in number and bytes: who floods us loses them, counted by the door, and nobody else's memory.
#[derive(Debug, Default)]
struct Heap {
    queue: SegQueue<Incoming>,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Mail {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The calling thread is the one to wake from now on.
    pub(super) fn read_by_this_thread(&self) {
        let _ = self.reader.set(std::thread::current());
    }

    /// Behind the [end](Self::close) it is dropped at once, and with it the way for its answer; so is, counted, what comes
    /// when [`COMMANDS_MAX`] wait, but for a stop.
    pub(super) fn command(&self, command: Command) {
        let waiting = self.commands_waiting.fetch_add(1, Ordering::Relaxed);
        if waiting < COMMANDS_MAX || matches!(command, Command::Stop) {
            self.commands.push(command);
            self.drop_if_closed();
        } else {
            self.commands_waiting.fetch_sub(1, Ordering::Relaxed);
            self.commands_dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake();
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        let command = self.commands.pop()?;
        self.commands_waiting.fetch_sub(1, Ordering::Relaxed);
        Some(command)
    }

    pub(super) fn dropped_commands(&self) -> u64 {
        self.commands_dropped.load(Ordering::Relaxed)
    }

    pub(super) fn next_message(&self) -> Option<Incoming> {
        self.vital.pop().or_else(|| self.rest.pop())
    }

    /// Whether a message waits.
    pub(super) fn has_message(&self) -> bool {
        !self.vital.queue.is_empty() || !self.rest.queue.is_empty()
    }

    pub(super) fn next_slice(&self) -> Option<Slice> {
        self.slices.pop()
    }

    pub(super) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    /// Clusters and capabilities that missed a record since this was asked last.
    pub(super) fn take_short(&self) -> BTreeSet<(i32, String)> {
        std::mem::take(&mut self.short())
    }

    fn short(&self) -> MutexGuard<'_, BTreeSet<(i32, String)>> {
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody reads any more: what waits is dropped, and what comes from now on too.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.drop_if_closed();
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A listener did not keep up.
    pub(super) fn miss_event(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn missed_events(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Who pushes, then looks at the flag, and who sets the flag, then looks into the queues: with a fence in between, one of
    /// the two finds what the other did.
    fn drop_if_closed(&self) {
        fence(Ordering::SeqCst);
        if self.is_closed() {
            while self.next_command().is_some() {}
            while self.slices.pop().is_some() {}
            while self.next_message().is_some() {}
        }
    }

    /// Costs a system call only when the reader sleeps.
    fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

impl Inbox for Mail {
    fn message(&self, message: Incoming) -> bool {
        let heap = if is_vital(&message.body) {
            &self.vital
        } else {
            &self.rest
        };
        let taken = !self.is_closed() && heap.push(message);
        self.drop_if_closed();
        self.wake();
        taken
    }

    fn slice(&self, slice: Slice) {
        self.slices.push(slice);
        self.drop_if_closed();
        self.wake();
    }

    fn session_moved(&self) {
        // Release: who takes the flag sees the words that changed before.
        self.moved.store(true, Ordering::Release);
        self.wake();
    }

    fn record_missed(&self, cluster: i32, capability: &str) {
        self.short().insert((cluster, capability.to_owned()));
        self.wake();
    }
}

impl Heap {
    /// `false`: there is no room for it.
    fn push(&self, message: Incoming) -> bool {
        let len = len(&message);
        // Room is taken first, so that many who push at once do not take more than there is.
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed);
        let has_room = messages < MESSAGES_MAX && bytes + len <= BYTES_MAX;
        if has_room {
            self.queue.push(message);
        } else {
            self.leave(len);
        }
        has_room
    }

    fn pop(&self) -> Option<Incoming> {
        let message = self.queue.pop()?;
        self.leave(len(&message));
        Some(message)
    }

    fn leave(&self, len: usize) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(len, Ordering::Relaxed);
    }
}

/// Whether the cluster, or a sync, goes wrong without it.
const fn is_vital(body: &Body) -> bool {
    match body {
        // They keep their order toward what a node says of its capabilities.
        Body::Internal(_)
        | Body::Extra(
            Extra::SyncRequest { .. } | Extra::SyncEnd { .. } | Extra::TagActive { .. },
        ) => true,
        Body::Extra(Extra::RemoveNode { .. } | Extra::Generic { .. } | Extra::MiCommand { .. }) => {
            false
        }
    }
}

/// Bytes that a message takes while it waits, about.
fn len(message: &Incoming) -> usize {
    let own = match &message.body {
        Body::Internal(internal) => internal_len(internal),
        Body::Extra(extra) => extra_len(extra),
    };
    size_of::<Incoming>() + own
}

fn internal_len(internal: &Internal) -> usize {
    let ids = |ids: &[i32]| size_of_val(ids);
    let described = |of: &Description| of.url.len() + of.sip_addr.len();
    match internal {
        Internal::Ping { .. } | Internal::UnknownId => 0,
        Internal::Pong { nodes } => ids(nodes),
        Internal::LinkUpdate { path, .. } => ids(path),
        Internal::Description { description, path } => described(description) + ids(path),
        Internal::FullTopology { nodes, path, .. } => {
            let node = |node: &TopologyNode| {
                let description = node.description.as_ref().map_or(0, described);
                size_of::<TopologyNode>() + description + ids(&node.neighbours)
            };
            nodes.iter().map(node).sum::<usize>() + ids(path)
        }
        Internal::Capabilities { nodes, path, .. } => {
            let node = |node: &NodeCapabilities| {
                let names = node.capabilities.iter().map(|(name, _)| name.len());
                size_of_val(node) + size_of_val(&*node.capabilities) + names.sum::<usize>()
            };
            nodes.iter().map(node).sum::<usize>() + ids(path)
        }
    }
}

fn extra_len(extra: &Extra) -> usize {
    match extra {
        Extra::RemoveNode { .. } => 0,
        Extra::Generic { tag, message, .. } => tag.len() + message.len(),
        Extra::MiCommand {
            command,
            parameters,
        } => {
            let parameters = parameters
                .iter()
                .map(|one| one.len() + size_of::<Vec<u8>>());
            command.len() + parameters.sum::<usize>()
        }
        Extra::SyncRequest { capability } | Extra::SyncEnd { capability, .. } => capability.len(),
        Extra::TagActive { tag } => tag.len(),
    }
}

/// Commands that wait at most. A thread that reads them empties the queue many times a second.
const COMMANDS_MAX: usize = 64 << 10;

/// Messages that wait at most, of each kind. 128 nodes that all come up at once send some thousand.
const MESSAGES_MAX: usize = 16 << 10;

/// Their bytes at most, of each kind, so 16 MiB in all. 128 nodes that all tell their whole topology take as much.
const BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests;
