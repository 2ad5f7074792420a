//! The seats as other threads see them.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_wire::{Trailer, WireError};

use super::EVENTS_MAX;
use super::command::Command;
use super::mail::Mail;
use super::routes::{Routes, Table};
use crate::cluster::facts::ClusterFacts;
use crate::cluster::message::Writer;
use crate::cluster::outbox::Event;
use crate::link::{Lane, LinkId, Links, Refused};

/// Clusters at work. A handle: clones lead to the same seats, from any thread; [`stop`](Self::stop) ends them, and so does
/// the last handle when it goes.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

/// Sends module packets. One thread's: it has a buffer of 64 KiB, so that a packet costs no memory of its own. Keeps the
/// seats as a [`Cluster`] does.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    writer: Writer,
}

/// A module packet, but for whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Module<'a> {
    /// Whose packet it is: `dialog-dlg-repl`.
    pub capability: &'a str,
    /// What it says.
    pub command: i32,
    /// The version of its fields.
    pub version: i16,
    /// Its fields, encoded already, as [`binrush_wire::Builder`] does for 2.3 and later.
    pub fields: &'a [u8],
}

/// The thread of the seats gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It is no more: it was stopped, or it failed.
    #[error("the thread of the clusters has ended")]
    Ended,
    /// It is there, and did not get to it within two seconds. What was asked for may still be done.
    #[error("the thread of the clusters is busy: it gave no answer within 2 s")]
    Busy,
}

/// No sync was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// Nobody said anything.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// It cannot be, in words.
    #[error("{0}")]
    Refused(String),
}

/// A packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is too long.
    #[error("the packet cannot be made: {0}")]
    Packet(WireError),
    /// We are no node of it, or no more.
    #[error("this process is no node of cluster {0}")]
    UnknownCluster(i32),
    /// There is no way to it now.
    #[error("node {0} cannot be reached")]
    Unreachable(i32),
    /// The link to it does not take it.
    #[error("node {node}: {refused}")]
    Refused {
        /// Which one.
        node: i32,
        /// Why.
        refused: Refused,
    },
}

/// What handles have in common. The thread has none of it: it ends when they have gone.
pub(super) struct Shared {
    mail: Arc<Mail>,
    routes: Arc<Routes>,
    links: Links,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// It did not end when it was stopped. Written with `thread` locked.
    was_left: AtomicBool,
}

impl Cluster {
    pub(super) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// Whether the thread of the seats is there: not after a [`stop`](Self::stop), nor if it failed. Without it nobody
    /// answers the other nodes, and all that comes of them is refused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.shared.mail.is_closed()
    }

    /// What is known of all clusters at this moment.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn facts(&self) -> Result<Vec<ClusterFacts>, Unanswered> {
        self.ask(Command::Facts)
    }

    /// Asks for all records of `capability` again.
    ///
    /// # Errors
    /// [`SyncError`]: why not.
    pub fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), SyncError> {
        let capability = capability.to_owned();
        let asked = self.ask(|answer| Command::Sync {
            cluster,
            capability,
            answer,
        })?;
        asked.map_err(SyncError::Refused)
    }

    /// Something of `capability`, or of all of them, in `cluster` or all, may have been missed: a sync is due.
    pub fn suspect(&self, cluster: Option<i32>, capability: Option<&str>, why: &str) {
        self.shared.mail.command(Command::Suspect {
            cluster,
            capability: capability.map(str::to_owned),
            why: why.to_owned(),
        });
    }

    /// Sends a message for the script of one node, or of all (`cluster_send_req`, `cluster_send_rpl`); to how many. None in a
    /// cluster that this process is no node of.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub fn send_generic(
        &self,
        cluster: i32,
        to: Option<i32>,
        is_request: bool,
        tag: &[u8],
        message: &[u8],
    ) -> Result<usize, Unanswered> {
        let (tag, message) = (tag.to_vec(), message.to_vec());
        self.ask(|answer| Command::Generic {
            cluster,
            to,
            is_request,
            tag,
            message,
            answer,
        })
    }

    /// A way to send module packets, for one thread.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender {
            shared: Arc::clone(&self.shared),
            writer: Writer::default(),
        }
    }

    /// What happens from now on; [`ClusterPlan::events`](super::ClusterPlan::events) also has what happened at the start. Who
    /// does not keep up with [`EVENTS_MAX`] of them misses some. It ends with the thread.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = mpsc::sync_channel(EVENTS_MAX);
        self.shared.mail.command(Command::Listen(sender));
        receiver
    }

    /// Events that listeners did not get because they did not keep up, counted once for each listener.
    #[must_use]
    pub fn missed_events(&self) -> u64 {
        self.shared.mail.missed_events()
    }

    /// What the thread was to be told and was not, because it had not read what was told before for very long.
    #[must_use]
    pub fn dropped_commands(&self) -> u64 {
        self.shared.mail.dropped_commands()
    }

    /// Leaves the clusters: gates that hold back packets apply them, doors and gates refuse what comes from now on, and the
    /// thread ends, within a second. The links stay what they are; who made them stops them.
    ///
    /// Returns whether it did end. A thread that does not within two seconds is left alone until the process ends: it is
    /// told nothing more, and answers nobody. Who else stops it meanwhile waits as well.
    pub fn stop(&self) -> bool {
        self.shared.stop()
    }

    fn ask<A>(&self, command: impl FnOnce(SyncSender<A>) -> Command) -> Result<A, Unanswered> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.shared.mail.command(command(sender));
        // A command that nobody will read is dropped at once, and the sender with it.
        let answer = receiver.recv_timeout(ASK_MAX);
        answer.map_err(|error| match error {
            // There was no room for it.
            RecvTimeoutError::Disconnected if self.is_running() => Unanswered::Busy,
            RecvTimeoutError::Timeout => Unanswered::Busy,
            RecvTimeoutError::Disconnected => Unanswered::Ended,
        })
    }
}

impl Sender {
    /// Sends a module packet to one node, by whatever way there is. Never waits. What the kernel has not taken when the
    /// connection breaks is lost: who takes the next one may be another process, and syncs.
    ///
    /// # Errors
    /// [`SendError`]: nothing was queued.
    pub fn send(&mut self, cluster: i32, node: i32, packet: Module<'_>) -> Result<(), SendError> {
        let routes = self.shared.routes.now();
        let me = me(&routes, cluster)?;
        let hop = routes.hops.get(&(cluster, node));
        let hop = *hop.ok_or(SendError::Unreachable(node))?;
        let sent = self.queue(Trailer::new(cluster, me, node), hop, packet)?;
        sent.map_err(|refused| SendError::Refused { node, refused })
    }

    /// Sends a module packet to every node of `cluster` that can be reached; to how many. Never waits.
    ///
    /// # Errors
    /// [`SendError::Packet`], [`SendError::UnknownCluster`].
    pub fn broadcast(&mut self, cluster: i32, packet: Module<'_>) -> Result<usize, SendError> {
        let routes = self.shared.routes.now();
        let me = me(&routes, cluster)?;
        let mut taken = 0;
        let hops = routes.hops.iter();
        for ((_, node), hop) in hops.filter(|((of, _), _)| *of == cluster) {
            let sent = self.queue(Trailer::new(cluster, me, *node), *hop, packet)?;
            taken += usize::from(sent.is_ok());
        }
        Ok(taken)
    }

    fn queue(
        &mut self,
        trailer: Trailer,
        link: LinkId,
        packet: Module<'_>,
    ) -> Result<Result<(), Refused>, SendError> {
        let name = packet.capability.as_bytes();
        let Module {
            command,
            version,
            fields,
            ..
        } = packet;
        let packet = self.writer.module(trailer, name, command, version, fields);
        let packet = packet.map_err(SendError::Packet)?;
        Ok(self.shared.links.send(link, Lane::Bulk, packet))
    }
}

fn me(routes: &Table, cluster: i32) -> Result<i32, SendError> {
    let me = routes.me.get(&cluster).copied();
    me.ok_or(SendError::UnknownCluster(cluster))
}

impl Shared {
    pub(super) fn new(mail: Arc<Mail>, routes: Arc<Routes>, links: Links) -> Self {
        Self {
            mail,
            routes,
            links,
            thread: Mutex::new(None),
            was_left: AtomicBool::new(false),
        }
    }

    pub(super) fn is_run_by(&self, thread: JoinHandle<()>) {
        *self.thread() = Some(thread);
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) -> bool {
        self.mail.command(Command::Stop);
        let mut thread = self.thread();
        let Some(running) = thread.take() else {
            return !self.was_left.load(Ordering::Relaxed);
        };
        let deadline = Instant::now() + STOP_MAX;
        while !running.is_finished() {
            if Instant::now() >= deadline {
                self.was_left.store(true, Ordering::Relaxed);
                self.mail.close();
                self.routes.show(Table::default());
                return false;
            }
            thread::sleep(STOP_POLL);
        }
        // If it panicked, it has said so.
        let _ = running.join();
        true
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("is_running", &!self.mail.is_closed())
            .finish_non_exhaustive()
    }
}

/// How long a stop may take: what is left of a turn, and four times what gates may take at the end.
const STOP_MAX: Duration = Duration::from_secs(2);

const STOP_POLL: Duration = Duration::from_millis(1);

/// How long who asks waits for the thread, which answers within milliseconds.
const ASK_MAX: Duration = Duration::from_secs(2);
