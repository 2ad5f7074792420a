//! Connections to other nodes: one to each, packets queued in front of it.
//!
//! ```text
//!   any thread                          thread "links"
//!   Links::send ─▶ Slot: Machine ──────▶ turn ─▶ Wire: (TLS) ─▶ TcpSocket
//!                  control │ bulk          ▲
//!                  (one lock for each)     └── Poller, Bell, deadlines
//! ```
//!
//! A packet that was taken is sent once or lost, and counted as the one or the other. It is lost when the connection
//! breaks after its first byte was given to the kernel and before its last one was, when it has waited for too long, and at
//! the end. What the kernel had when a connection broke counts as sent: nobody can say how much of it arrived. BIN has no
//! acknowledgements; nodes that need one ask for a sync when they see each other again. With TLS 1.3 a peer refuses our
//! certificate only after our side of the handshake is over, so packets are held back for a round trip behind that.
//!
//! Start reading at `link/machine.rs`.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_wire::MAX_PACKET_LEN;
use rustls::pki_types::ServerName;

use crate::config::{Endpoint, Protocol};
use crate::stream::{Keepalive, LinkCounts};
use crate::tls::ClientTls;
use driver::{Driver, Shared};
use machine::Machine;

/// How long to wait before the next attempt.
mod backoff;
/// The thread.
mod driver;
/// What a peer sends here.
mod incoming;
/// Packets that wait.
mod lane;
/// What is to be done next.
mod machine;
/// What is lent for writing.
mod outgoing;
/// Where threads meet.
mod slot;
/// What the machine asks for, done.
mod turn;
/// The socket.
mod wire;

/// Connections to other nodes. A handle: clones lead to the same links, from any thread.
///
/// When the last one goes without a [`stop`](Self::stop), the links end at once.
///
/// ```
/// use std::io::Read as _;
/// use std::net::TcpListener;
/// use std::time::Duration;
///
/// use binrush_engine::link::{Lane, LinkConfig, Links, LinksConfig};
///
/// let peer = TcpListener::bind("127.0.0.1:0")?;
/// let links = Links::start(&LinksConfig::default())?;
/// let to = format!("bin:{}", peer.local_addr()?).parse()?;
/// let link = links.add(LinkConfig::new(to))?;
/// links.send(link, Lane::Control, b"a whole packet")?;
///
/// let (mut connection, _) = peer.accept()?;
/// let mut packet = [0; 14];
/// connection.read_exact(&mut packet)?;
/// assert_eq!(&packet, b"a whole packet");
/// drop(connection);
/// let counts = links.stop(Duration::from_secs(1));
/// assert_eq!((counts[0].sent, counts[0].lost), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Links {
    owner: Arc<Owner>,
}

/// What all links have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinksConfig {
    /// Links at the same time, 1 to [`LINKS_MAX`].
    pub links: usize,
    /// What the delays between attempts are drawn from; another one on each node. The default draws one.
    pub seed: u64,
}

/// Where a link leads, and on what terms.
#[derive(Clone)]
pub struct LinkConfig {
    /// The peer: `bin:` in the clear, `bins:` inside TLS.
    pub to: Endpoint,
    /// Our address of the connection. Genuine nodes use that of their BIN socket, and know their peers by it.
    pub bind: Option<IpAddr>,
    /// Our certificate, and whose we trust; for `bins:`.
    pub tls: Option<Arc<ClientTls>>,
    /// The name that the peer's certificate has to have; `None`: any that a trusted CA signed, as in OpenSIPS.
    pub server_name: Option<String>,
    /// What it may cost.
    pub limits: LinkLimits,
    /// Called with each whole packet of at most 256 bytes that the peer sends on this connection (2.3 and later): a genuine
    /// node answers here to who is not known to it, and only that. `None`, and behind what is no packet: thrown away.
    ///
    /// On the links' own thread, which serves all links: it returns soon, and neither [removes](Links::remove) a link nor
    /// [stops](Links::stop) them, which would wait for that thread; [`Links::remove_later`] does not.
    pub on_packet: Option<OnPacket>,
    /// Called with `true` each time that the link has come up, and with `false` each time that its connection broke or an
    /// attempt to connect failed. That the peer ended it in order is no failure: genuine nodes close what was idle for
    /// long, and the next packet connects again. As of `on_packet`.
    pub on_change: Option<OnChange>,
}

/// See [`LinkConfig::on_packet`].
pub type OnPacket = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// See [`LinkConfig::on_change`].
pub type OnChange = Arc<dyn Fn(bool) + Send + Sync>;

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkHealth {
    /// Packets are written as they come.
    Up,
    /// There is no connection, and no attempt failed since there was one, or since the link was added. A packet that is
    /// queued is sent as soon as the peer takes the connection.
    Connecting,
    /// The connection broke, or the last attempt failed. It is tried again after a delay, without end.
    Failed,
}

/// What one link may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkLimits {
    /// Bytes that wait, at least [`QUEUE_BYTES_MIN`]; an eighth of them (at least the longest packet) is for control
    /// only, and the rest for bulk only. Twice as much address space is taken at the start; memory as it is used.
    pub queue_bytes: usize,
    /// Packets that wait, at least 8; divided in the same way.
    pub queue_packets: usize,
    /// How long a packet waits for a peer that is not there, or takes nothing, until it is given up as lost. Far longer
    /// than a restart; a node that was away for longer asks for a sync, and old events would only undo newer ones.
    pub age_max: Duration,
    /// From the beginning of an attempt until packets can be sent, TLS handshake included.
    pub connect_timeout: Duration,
    /// How long a peer may take nothing of what waits for it (a window of zero) until it is dropped.
    pub write_deadline: Duration,
    /// The longest delay after the first failure; it doubles with each, and the real one is drawn between nothing and
    /// that.
    pub backoff_min: Duration,
    /// The longest delay. A connection that lasted as long makes the next failure count as the first.
    pub backoff_max: Duration,
    /// `TCP_USER_TIMEOUT`: how long what was sent may go unacknowledged.
    pub user_timeout: Duration,
    /// When the kernel asks a silent peer whether it is there; `None`: never.
    pub keepalive: Option<Keepalive>,
}

/// One of the links. Never that of another one that came later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId {
    slot: u32,
    generation: u32,
}

/// What goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What keeps a cluster together: pings, answers, node states. Goes ahead of all bulk that was not begun, and never
    /// finds the queue full of it.
    Control,
    /// Everything else.
    Bulk,
}

/// A packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// As much waits as may.
    #[error("the queue of this link is full")]
    Full,
    /// It is empty, or longer than any packet.
    #[error("a packet of {len} bytes: it has 1 to {MAX_PACKET_LEN}")]
    Length {
        /// How long it is.
        len: usize,
    },
    /// The link is about to end.
    #[error("this link is about to end")]
    Stopped,
    /// There is no such link any more.
    #[error("there is no such link any more")]
    Unknown,
}

/// What became of one packet for many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Links that took it.
    pub taken: usize,
    /// Links that refused it; each has counted it, if there is such a link.
    pub refused: usize,
}

/// A link cannot be had like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// As many as there may be.
    #[error("there are {links} links already: raise the number that Links was started with")]
    TooMany {
        /// How many there may be.
        links: usize,
    },
    /// TLS without its files.
    #[error("a link to {to} needs a certificate, and those who may have signed the peer's")]
    NoTls {
        /// Where it was to lead.
        to: Endpoint,
    },
    /// An address of the other family.
    #[error("a link from {bind} to {to}: one is IPv4, the other IPv6")]
    Families {
        /// Where it was to come from.
        bind: IpAddr,
        /// Where it was to lead.
        to: Endpoint,
    },
    /// A name that no certificate can have.
    #[error(
        "a link to {to}: {name:?} is neither a DNS name nor an IP address: give one that is in the peer's certificate"
    )]
    ServerName {
        /// What it was.
        name: String,
        /// Where it was to lead.
        to: Endpoint,
    },
    /// Nobody listens on port 0.
    #[error("a link to {to}: give the peer's port")]
    NoPort {
        /// Where it was to lead.
        to: Endpoint,
    },
    /// A limit below what works.
    #[error("{what} of a link is at least {least}")]
    Limit {
        /// Which one.
        what: &'static str,
        /// What it has to be.
        least: String,
    },
    /// No link is added after the stop, nor when the thread failed.
    #[error("the links were stopped")]
    Stopped,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    seed: u64,
    /// Links that were ever added; `None` after the stop. Held while one is added, so that none comes in behind the
    /// driver's back when it leaves.
    added: Mutex<Option<u64>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Rounds of the thread at the last look, and when they were seen first.
    looked: Mutex<(u64, Instant)>,
}

impl Links {
    /// Starts the thread, which sleeps until there is a link.
    ///
    /// # Errors
    /// What the kernel said: no descriptor, no thread.
    ///
    /// # Panics
    /// When `links` is 0 or above [`LINKS_MAX`].
    pub fn start(config: &LinksConfig) -> io::Result<Self> {
        assert!(
            (1..=LINKS_MAX).contains(&config.links),
            "1 to {LINKS_MAX} links"
        );
        let shared = Arc::new(Shared::new(config.links)?);
        let driver = Driver::new(Arc::clone(&shared))?;
        let thread = thread::Builder::new()
            .name("links".to_owned())
            .spawn(|| driver.run())?;
        Ok(Self {
            owner: Arc::new(Owner {
                shared,
                seed: config.seed,
                added: Mutex::new(Some(0)),
                thread: Mutex::new(Some(thread)),
                looked: Mutex::new((0, Instant::now())),
            }),
        })
    }

    /// Adds a link, which connects at once. Packets can be queued from now on.
    ///
    /// # Errors
    /// [`LinkError`]: what is wrong with it. That the peer is not there is none.
    pub fn add(&self, config: LinkConfig) -> Result<LinkId, LinkError> {
        config.check()?;
        let mut added = self.owner.added();
        let number = added.ok_or(LinkError::Stopped)?;
        let (to, limits) = (config.to.to_string(), config.limits.clone());
        let secure = config.to.protocol == Protocol::Bins;
        let seed = self.owner.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let machine = || Machine::new(to.clone(), limits.clone(), secure, seed, slot::now());
        let config = Arc::new(config);
        let slots = &self.owner.shared.slots;
        let seats = slots.iter().map(|slot| slot.seat(&config, machine));
        let (slot, generation) = seats
            .enumerate()
            .find_map(|(slot, seated)| Some((slot, seated?)))
            .ok_or(LinkError::TooMany { links: slots.len() })?;
        if self.owner.shared.is_over() {
            // Nobody would ever release it.
            slots[slot].release();
            slots[slot].vacate(generation);
            return Err(LinkError::Stopped);
        }
        *added = Some(number + 1);
        self.tell(slot);
        let slot = u32::try_from(slot).expect("there are LINKS_MAX of them");
        Ok(LinkId { slot, generation })
    }

    /// Ends a link, and waits for that: what waits is written if the peer takes it within a second. The counts at its
    /// end; `None` when there is no such link.
    pub fn remove(&self, link: LinkId) -> Option<LinkCounts> {
        let until = machine::after(slot::now(), REMOVE_DRAIN);
        let slot = self.slot(link)?;
        if slot.leave(link.generation, until) {
            self.tell(link.slot as usize);
        }
        slot.vacate(link.generation)
    }

    /// Ends a link as [`remove`](Self::remove) does, and does not wait for that: for threads that have something else to do,
    /// also for those that [`LinkConfig::on_packet`] and [`LinkConfig::on_change`] are called on.
    pub fn remove_later(&self, link: LinkId) {
        let until = machine::after(slot::now(), REMOVE_DRAIN);
        let slot = self.slot(link);
        if slot.is_some_and(|slot| slot.forget(link.generation, until)) {
            self.tell(link.slot as usize);
        }
    }

    /// There is reason to believe that the peer is there, or that somebody wants to know: a link that waits for its next
    /// attempt to connect makes it now, at most every 100 ms. Nothing is queued.
    pub fn nudge(&self, link: LinkId) {
        let slot = self.slot(link);
        if slot.is_some_and(|slot| slot.nudge(link.generation, slot::now())) {
            self.tell(link.slot as usize);
        }
    }

    /// Gives up, as lost, the bulk that waits while the link has no connection. For what is worth nothing to who takes the next
    /// one: the rest of a sync, for a node that began anew.
    pub fn drop_bulk(&self, link: LinkId) {
        if let Some(slot) = self.slot(link) {
            slot.drop_bulk(link.generation);
        }
    }

    /// Queues one whole packet, which is copied; never waits for the peer, only for the lock of this link, which nobody
    /// holds for longer than a copy takes. That the bytes are a packet that the peer understands is up to the caller.
    ///
    /// # Errors
    /// [`Refused`]: nothing was queued.
    pub fn send(&self, link: LinkId, lane: Lane, packet: &[u8]) -> Result<(), Refused> {
        self.queue(link, lane, packet)?;
        self.owner.shared.ring();
        Ok(())
    }

    /// Queues one whole packet for each of `links`.
    pub fn broadcast(&self, links: &[LinkId], lane: Lane, packet: &[u8]) -> Broadcast {
        let queued = links.iter().map(|link| self.queue(*link, lane, packet));
        let taken = queued.filter(Result::is_ok).count();
        self.owner.shared.ring();
        Broadcast {
            taken,
            refused: links.len() - taken,
        }
    }

    /// What was counted of each link, in no particular order. After the stop, the counts at the end.
    #[must_use]
    pub fn counts(&self) -> Vec<LinkCounts> {
        let slots = self.owner.shared.slots.iter();
        slots.filter_map(slot::Slot::counts).collect()
    }

    /// How this link is now; `None` when there is no such link any more.
    #[must_use]
    pub fn health(&self, link: LinkId) -> Option<LinkHealth> {
        self.slot(link)?.health(link.generation)
    }

    /// Bytes of packets that the kernel has not taken, of both lanes; 0 also when there is no such link any more.
    #[must_use]
    pub fn waiting_bytes(&self, link: LinkId) -> usize {
        let slot = self.slot(link);
        slot.map_or(0, |slot| slot.waiting_bytes(link.generation))
    }

    /// Bytes that the peer of this link sent on it. Genuine nodes use connections of their own, but for the answer to who
    /// is not known to them, which [`LinkConfig::on_packet`] gets.
    #[must_use]
    pub fn rx_bytes(&self, link: LinkId) -> Option<u64> {
        self.slot(link)?.rx_bytes(link.generation)
    }

    /// Whether the thread is there: not after the stop, nor if it failed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.owner.shared.is_over()
    }

    /// Whether the thread is there and does not go on: it was asked to go round, by the last call of this, more than two
    /// seconds ago, and did not. For who looks now and then, a few times a second at most; from any thread.
    #[must_use]
    pub fn hangs(&self) -> bool {
        let shared = &self.owner.shared;
        let mut looked = self.owner.looked();
        let turns = shared.turns();
        if turns != looked.0 {
            *looked = (turns, Instant::now());
        }
        self.is_running() && looked.1.elapsed() >= HANG_MIN
    }

    /// Ends all links: takes nothing more, writes what the peers take within `drain`, ends each connection in order once the
    /// peer has everything, and counts the rest as lost. A peer that is not there gets one more attempt.
    ///
    /// Returns as soon as all is written and acknowledged, with the counts at the end; with those of the moment when the
    /// thread does not end a second after `drain` is over, and is left alone. Clones of this handle find their packets
    /// refused.
    pub fn stop(&self, drain: Duration) -> Vec<LinkCounts> {
        self.owner.stop(drain);
        self.counts()
    }

    fn queue(&self, link: LinkId, lane: Lane, packet: &[u8]) -> Result<(), Refused> {
        let slot = self.slot(link).ok_or(Refused::Unknown)?;
        if slot.push(link.generation, lane, packet, slot::now)? {
            self.owner.shared.mark(link.slot as usize);
        }
        Ok(())
    }

    fn slot(&self, link: LinkId) -> Option<&slot::Slot> {
        self.owner.shared.slots.get(link.slot as usize)
    }

    fn tell(&self, slot: usize) {
        self.owner.shared.mark(slot);
        self.owner.shared.ring();
    }
}

impl Owner {
    fn stop(&self, drain: Duration) {
        self.added().take();
        self.shared.stop(machine::after(slot::now(), drain));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return };
        let deadline = Instant::now().checked_add(drain.saturating_add(STOP_MARGIN));
        while !thread.is_finished() {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
            thread::sleep(STOP_POLL);
        }
        // If it panicked, it has said so, and its links are released all the same.
        let _ = thread.join();
    }

    fn added(&self) -> MutexGuard<'_, Option<u64>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looked(&self) -> MutexGuard<'_, (u64, Instant)> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl LinkConfig {
    /// In the clear or with its TLS still to be set, from any of our addresses, with the limits that fit genuine nodes.
    #[must_use]
    pub fn new(to: Endpoint) -> Self {
        Self {
            to,
            bind: None,
            tls: None,
            server_name: None,
            limits: LinkLimits::default(),
            on_packet: None,
            on_change: None,
        }
    }

    fn check(&self) -> Result<(), LinkError> {
        let to = self.to;
        if to.addr.port() == 0 {
            return Err(LinkError::NoPort { to });
        }
        if to.protocol == Protocol::Bins && self.tls.is_none() {
            return Err(LinkError::NoTls { to });
        }
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            let name = name.clone();
            return Err(LinkError::ServerName { name, to });
        }
        match self.bind {
            Some(bind) if bind.is_ipv4() != to.addr.is_ipv4() => {
                Err(LinkError::Families { bind, to })
            }
            _ => self.limits.check(),
        }
    }
}

impl LinkLimits {
    /// Bytes and packets for control, and those for bulk.
    fn lanes(&self) -> ((usize, usize), (usize, usize)) {
        let control = (self.queue_bytes / 8).max(MAX_PACKET_LEN);
        let packets = self.queue_packets / 8;
        let bulk = (self.queue_bytes - control, self.queue_packets - packets);
        ((control, packets), bulk)
    }

    fn check(&self) -> Result<(), LinkError> {
        let least = |what, least: &str| {
            let least = least.to_owned();
            Err(LinkError::Limit { what, least })
        };
        let times = [
            ("the oldest packet's age", self.age_max),
            ("the connect timeout", self.connect_timeout),
            ("the write deadline", self.write_deadline),
            ("the first back-off", self.backoff_min),
            ("TCP_USER_TIMEOUT", self.user_timeout),
        ];
        if self.queue_bytes < QUEUE_BYTES_MIN {
            return least("the queue", &format!("{QUEUE_BYTES_MIN} bytes"));
        }
        if self.queue_packets < 8 {
            return least("the queue", "8 packets");
        }
        if self.backoff_max < self.backoff_min {
            return least("the longest back-off", "as long as the first");
        }
        match times.iter().find(|(_, time)| time.as_millis() == 0) {
            Some((what, _)) => least(what, "1 ms"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkConfig")
            .field("to", &self.to)
            .field("bind", &self.bind)
            .field("server_name", &self.server_name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Default for LinksConfig {
    fn default() -> Self {
        Self {
            links: 64,
            // The standard library draws its keys from the system.
            seed: RandomState::new().hash_one("links"),
        }
    }
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            queue_bytes: 4 << 20,
            queue_packets: 16_384,
            age_max: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(4),
            write_deadline: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            user_timeout: Duration::from_secs(20),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(10),
                interval: Duration::from_secs(5),
                count: 3,
            }),
        }
    }
}

/// Links at the same time; a cluster has a handful of nodes.
pub const LINKS_MAX: usize = 1024;

/// The least that a queue is bounded to: the longest packet in each lane.
pub const QUEUE_BYTES_MIN: usize = 2 * MAX_PACKET_LEN;

/// [`LinkCounts::last_failure`] of a link whose peer ended the connection in order.
pub const ENDED: &str = "the peer closed the connection";

/// How long the thread may take for one round before it is said to hang, as for a shard.
const HANG_MIN: Duration = Duration::from_secs(2);

/// How long the thread may take to end, beyond the time in which it may write.
const STOP_MARGIN: Duration = Duration::from_secs(1);

const STOP_POLL: Duration = Duration::from_micros(200);

/// How long the packets of a link that is removed may go on.
const REMOVE_DRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
