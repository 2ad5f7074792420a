//! The live stream on to other receivers: what was accepted here goes to each of them, in the packets of its release.
//!
//! ```text
//!   shard ─ handler took it ─▶ End ─ ring of the shard ─┐          thread "relay"                      ┌▶ sendmmsg   1.x
//!   shard ─────────────────── End ─ ring ──────────────┴▶ for each target: echo? loop? ─ Translator ─┴▶ Links      2.2 and later
//! ```
//!
//! A shard copies a packet once, however many targets there are, and never waits: what finds no room in its ring is dropped for
//! all of them, and counted. Everything else is done by the thread.
//!
//! **Never an amplifier.** Only what a handler took, or a name that nobody knows, from a source that the access list let in; a
//! configuration that lets everybody in has no relay. Of each packet a target gets at most what says the same, which is one
//! packet.
//!
//! **No loops.** A target is none of our own addresses. What comes back is known by what it says of its maker: in packets of 2.3
//! and later the trailer's source, in those of 2.2 the machine id; what was made by a node as which we relay goes no further. A
//! stream's packets do not go back to the address that they came from, but for those that another node behind it made. Datagrams of
//! 1.x say nothing: so no target of 1.x may be among those that may send datagrams here. And whatever a packet says of its maker,
//! the same fields go on some times and not for ever, which ends circles of three and more (`relay/rounds.rs`).
//!
//! **What stays here.** What is about nodes and syncs; counts of profiles and pipes, which are one node's, and at the target would
//! all be ours; packets of another cluster than the target's, unless it takes them. Where anything is said of the target's sockets,
//! records get its names of them, and a dialog of sockets that it lacks stays here, as a genuine node would refuse it.
//!
//! **Never in the way.** A target that cannot be started is told, and what is for it is dropped and counted; one that takes nothing
//! loses its own packets only.
//!
//! **The books.** For each target, at any time: `accepted = passed + translated + refused + looped + echoed + dropped + waiting`,
//! and of the packets that were made for it `made = sent + lost + queued`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_net::{Bell, Consumer, Producer, ring};

use crate::clock::WallClock;
use crate::dispatch::handler::ShardId;
use crate::dispatch::tap::Tap;
use crate::link::{LinkConfig, LinkError, LinkHealth, LinkId, LinkLimits, Links, LinksConfig};
use crate::stream::LinkCounts;
use crate::tls::ClientTls;

pub use config::{TARGETS_MAX, TargetConfig, check};
pub use counts::{Refused, TargetSnapshot};

/// Where to.
mod config;
/// What became of packets.
mod counts;
/// A shard's part.
mod end;
/// Packets that come again.
mod rounds;
/// The thread.
mod runner;
/// What a packet is.
mod seen;
/// One target.
mod target;

use counts::{RingCounts, TargetCounts};
use end::End;
use runner::Runner;
use target::{Target, Way};

/// A relay at work. Dropped, it ends at once.
pub struct Relay {
    shared: Arc<Shared>,
    links: Option<Links>,
    /// By target.
    ends: Vec<Far>,
    thread: Option<JoinHandle<()>>,
    /// Nobody empties the rings any more, or will.
    is_over: bool,
}

/// What is known of the way to a target.
struct Far {
    /// Its name in counts; `None`: datagrams, or it could not be had.
    link: Option<(String, LinkId)>,
    /// Why it could not be started.
    trouble: Option<String>,
}

/// One that has rings and no thread yet: shards take their ends when the engine starts.
#[derive(Debug)]
pub struct Planned {
    targets: Vec<TargetConfig>,
    shared: Arc<Shared>,
    consumers: Vec<Consumer>,
}

/// What the shards, the thread and who asks have in common.
#[derive(Debug)]
struct Shared {
    bell: Bell,
    stopping: AtomicBool,
    /// By shard; taken once.
    producers: Mutex<Vec<Option<Producer>>>,
    rings: Box<[RingCounts]>,
    targets: Box<[TargetCounts]>,
}

/// A target cannot be met like this.
#[derive(Debug, thiserror::Error)]
enum WayError {
    /// What the kernel said.
    #[error("cannot {what}: {error}")]
    Io { what: String, error: io::Error },
    /// A link that cannot be had.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its address is one of this host, and we listen at its port on all of them.
    #[error(
        "it is this process, which listens at that port of all addresses: packets would go to itself for ever. Listen on single \
         addresses, or name another receiver"
    )]
    Ourselves,
}

impl Planned {
    /// To `targets`, from `shards` shards, readers included.
    ///
    /// # Errors
    /// No descriptor for the bell.
    ///
    /// # Panics
    /// Without targets, or with more than [`TARGETS_MAX`].
    pub fn new(targets: Vec<TargetConfig>, shards: u16) -> io::Result<Self> {
        assert!(
            (1..=TARGETS_MAX).contains(&targets.len()),
            "1 to {TARGETS_MAX} targets"
        );
        let (producers, consumers): (Vec<_>, _) = (0..shards)
            .map(|_| ring(RING_LEN))
            .map(|(producer, consumer)| (Some(producer), consumer))
            .unzip();
        let shared = Shared {
            bell: Bell::new()?,
            stopping: AtomicBool::new(false),
            rings: producers.iter().map(|_| RingCounts::default()).collect(),
            producers: Mutex::new(producers),
            targets: targets.iter().map(TargetCounts::of).collect(),
        };
        Ok(Self {
            targets,
            shared: Arc::new(shared),
            consumers,
        })
    }

    /// What makes the part of each shard, for [`Registry::tap`](crate::Registry::tap).
    pub fn taps(&self) -> impl Fn(ShardId) -> Option<Box<dyn Tap>> + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |shard| {
            let mut producers = shared
                .producers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let producer = producers.get_mut(shard.index())?.take()?;
            Some(Box::new(End::new(shard, producer, Arc::clone(&shared))))
        }
    }

    /// How many shards it has rings for.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.consumers.len()
    }

    /// Starts the thread. Packets leave from the target's `bind`, or else from the first address of `listen` from which it can be
    /// reached, so that receivers that ask who sends see that; `tls` is for targets of `bins:`.
    ///
    /// A receiver goes on without its relay: what could not be started is told by [`Relay::troubles`], and its packets are dropped
    /// and counted.
    #[must_use]
    pub fn start(
        self,
        listen: &[SocketAddr],
        tls: Option<&Arc<ClientTls>>,
        wall: Arc<WallClock>,
    ) -> Relay {
        let Self {
            targets,
            shared,
            consumers,
        } = self;
        let has_links = targets.iter().any(|target| !target.is_datagrams());
        let links = has_links.then(|| {
            Links::start(&LinksConfig {
                links: TARGETS_MAX,
                ..LinksConfig::default()
            })
        });
        let nodes: Vec<i32> = targets.iter().filter_map(TargetConfig::source).collect();
        let (mut ways, mut ends) = (Vec::new(), Vec::new());
        for target in targets {
            let link_name = target.link_name();
            let (way, trouble) = match way_to(&target, listen, links.as_ref(), tls) {
                Ok(way) => (way, None),
                Err(error) => (Way::Closed, Some(error.to_string())),
            };
            ends.push(Far {
                link: match &way {
                    Way::Link(_, link) => link_name.map(|name| (name, *link)),
                    _ => None,
                },
                trouble,
            });
            ways.push(Target::new(target, way));
        }
        let runner = Runner::new(Arc::clone(&shared), consumers, ways, nodes, wall);
        let builder = thread::Builder::new().name("relay".to_owned());
        let thread = runner.and_then(|runner| builder.spawn(|| runner.run()));
        if let Err(error) = &thread {
            for end in &mut ends {
                end.trouble = Some(format!("cannot start the thread of the relay: {error}"));
            }
        }
        Relay {
            shared,
            links: links.and_then(Result::ok),
            ends,
            is_over: thread.is_err(),
            thread: thread.ok(),
        }
    }
}

impl Relay {
    /// What became of packets so far, by target, in the order of the configuration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<TargetSnapshot> {
        // Links first, and shards last: so no packet is seen at its end and not yet at its beginning.
        let links = self.links.as_ref().map(Links::counts).unwrap_or_default();
        let mut all: Vec<_> = self
            .shared
            .targets
            .iter()
            .zip(&self.ends)
            .map(|(counts, end)| self.look(counts, end, &links))
            .collect();
        let (mut taken, mut dropped) = (0, 0);
        for ring in &self.shared.rings {
            taken += ring.taken.load(Ordering::Acquire);
            dropped += ring.dropped.load(Ordering::Acquire);
        }
        for target in &mut all {
            target.offered(taken, dropped);
            if self.is_over {
                target.close();
            }
        }
        all
    }

    /// The targets that could not be started, and why.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        let targets = self.shared.targets.iter().zip(&self.ends);
        targets.filter_map(|(counts, end)| Some((counts.to(), end.trouble.as_deref()?)))
    }

    /// One target, but for what the shards gave.
    fn look(&self, counts: &TargetCounts, end: &Far, links: &[LinkCounts]) -> TargetSnapshot {
        let link = end.link.as_ref().and_then(|(name, id)| {
            let counts = links.iter().find(|counts| counts.to == *name);
            Some((counts?, *id))
        });
        let health = link.and_then(|(_, id)| self.links.as_ref()?.health(id));
        let failure = link.map_or("", |(counts, _)| &counts.last_failure);
        TargetSnapshot {
            up: end.trouble.is_none() && health != Some(LinkHealth::Failed),
            trouble: end.trouble.as_deref().unwrap_or(failure).to_owned(),
            ..counts.read(link.map(|(counts, _)| counts))
        }
    }

    /// Sends what the shards gave, once they have ended, and ends: what targets do not take within `drain` is lost, and counted.
    pub fn stop(mut self, drain: Duration) -> Vec<TargetSnapshot> {
        self.end(drain);
        self.snapshot()
    }

    fn end(&mut self, drain: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.is_over = true;
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.bell.ring();
        let deadline = Instant::now() + drain.max(STOP_MIN);
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(STOP_POLL);
        }
        if thread.is_finished() {
            // If it panicked, it has said so.
            let _ = thread.join();
        }
        if let Some(links) = &self.links {
            links.stop(drain);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// How packets get to `target`.
fn way_to(
    target: &TargetConfig,
    listen: &[SocketAddr],
    links: Option<&io::Result<Links>>,
    tls: Option<&Arc<ClientTls>>,
) -> Result<Way, WayError> {
    let io = |what: String| |error| WayError::Io { what, error };
    if is_ours(target.to.addr, listen) {
        return Err(WayError::Ourselves);
    }
    match links {
        Some(links) if !target.is_datagrams() => {
            let again = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
            let links = links.as_ref().map_err(again);
            let links = links.map_err(io("start the thread of links".to_owned()))?;
            Ok(Way::Link(
                links.clone(),
                links.add(link_to(target, listen, tls))?,
            ))
        }
        _ => {
            let from = source_of(target, listen);
            let from = from.unwrap_or_else(|| any_of(target.to.addr));
            let socket = datagrams_from(from).map_err(io(format!("send from {from}")))?;
            Ok(Way::datagrams(socket))
        }
    }
}

/// How a target of 2.2 or later is met.
fn link_to(
    target: &TargetConfig,
    listen: &[SocketAddr],
    tls: Option<&Arc<ClientTls>>,
) -> LinkConfig {
    LinkConfig {
        bind: source_of(target, listen),
        tls: tls.cloned(),
        limits: LinkLimits {
            queue_bytes: target.queue_bytes,
            queue_packets: target.queue_packets(),
            ..LinkLimits::default()
        },
        ..LinkConfig::new(target.to)
    }
}

/// The address of ours that it sees: of those where we listen the first of its family, none of which only this host knows unless it
/// is here.
fn source_of(target: &TargetConfig, listen: &[SocketAddr]) -> Option<IpAddr> {
    let to = target.to.addr;
    let can = |own: &IpAddr| {
        own.is_ipv4() == to.is_ipv4()
            && !own.is_unspecified()
            && (to.ip().is_loopback() || !own.is_loopback())
    };
    let ours = || listen.iter().map(SocketAddr::ip).find(can);
    target.bind.or_else(ours)
}

/// Any address of ours of the family of `to`.
const fn any_of(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn datagrams_from(ip: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether `to` is met by a wildcard of `listen`: its address is one of this host.
fn is_ours(to: SocketAddr, listen: &[SocketAddr]) -> bool {
    let is_met = |own: &SocketAddr| {
        own.port() == to.port() && own.ip().is_unspecified() && own.is_ipv4() == to.is_ipv4()
    };
    listen.iter().any(is_met) && (to.ip().is_loopback() || is_local(to).unwrap_or(false))
}

/// Whether `to` is an address of this host. The kernel says so by the address from which it would send there, which is that one itself
/// then (rule 1 of RFC 6724, 5; for IPv4 the source of a route of the table `local`, ip-route(8)). Nothing is sent. A bind would
/// say less, as `ip_nonlocal_bind` lets everything be bound, and the lists of addresses are behind sockets of netlink, which our unit
/// does not open.
fn is_local(to: SocketAddr) -> io::Result<bool> {
    let socket = UdpSocket::bind((any_of(to), 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip() == to.ip())
}

/// What waits between one shard and the thread, in bytes: some thousand packets, tens of milliseconds.
const RING_LEN: usize = 2 << 20;

/// How long the thread may take to end at least: it waits for nobody, but there may be no core for it.
const STOP_MIN: Duration = Duration::from_millis(50);
const STOP_POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
