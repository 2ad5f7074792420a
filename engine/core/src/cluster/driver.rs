//! The thread of the seats, and what other threads ask of it.
//!
//! ```text
//!   doors, gates, links, callers ─▶ Mail ─▶ thread "cluster": Seat of each cluster ─▶ World: Links, orders to gates,
//!                                                 ▲                                    Board, Routes, listeners
//!                                                 └── deadlines
//! ```
//!
//! The thread never waits for a shard, a peer or a listener: all that it does is to queue something.

use std::any::Any;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::config::NodeConfig;
use super::outbox::{GateOrder, Now, Outbox as _};
use super::roster::{Board, RosterCluster};
use super::seat::Seat;
use super::session::SyncEnd;
use crate::clock::{Clock as _, MonotonicClock};
use crate::config::Endpoint;
use crate::dispatch::NameId;
use crate::link::LinkLimits;
use crate::tls::ClientTls;
use command::Command;
use mail::Mail;
use routes::{Routes, Table};
use tallies::Tallies;
use world::{Around, World};

/// What is asked of the thread.
mod command;
/// What gates are told.
mod errands;
/// What others have of it.
mod handle;
/// What waits for it.
mod mail;
/// Before its start.
mod plan;
/// Ways for others' packets.
mod routes;
/// What replicas say of themselves.
mod tallies;
/// What it acts through.
mod world;

pub use crate::dispatch::handler::Told;
pub use handle::{Cluster, Module, SendError, Sender, SyncError, Unanswered};
pub use plan::{ClusterPlan, KeeperError, StartError};

/// On what terms links to nodes are made.
#[derive(Debug, Clone)]
pub struct LinkTerms {
    /// For nodes whose URL is `bins:`.
    pub tls: Option<Arc<ClientTls>>,
    /// The name that their certificates have to have; `None`: any that a trusted CA signed, as in OpenSIPS.
    pub server_name: Option<String>,
    /// What each may cost.
    pub limits: LinkLimits,
}

/// Without TLS. Who was away is tried again within half a second: his PING may have arrived meanwhile, and our PONG has a
/// second (`ping_timeout`) to be there.
impl Default for LinkTerms {
    fn default() -> Self {
        Self {
            tls: None,
            server_name: None,
            limits: LinkLimits {
                backoff_min: Duration::from_millis(50),
                backoff_max: Duration::from_millis(500),
                ..LinkLimits::default()
            },
        }
    }
}

/// The way to handlers: that of an [`Engine`](crate::Engine), or of a test.
pub trait Orders: Send + Sync {
    /// Shards that own keys.
    fn owners(&self) -> u16;

    /// Hands `message` to the handler of `name` on `shard`, between two batches. Never waits.
    fn tell(&self, shard: u16, name: NameId, message: Box<dyn Any + Send>) -> Told;
}

/// The thread's own.
struct Driver {
    seats: Vec<Seated>,
    world: World,
    mail: Arc<Mail>,
    routes: Arc<Routes>,
    tallies: Arc<Tallies>,
    /// What the ways that are shown were worked out of: numbers of the seats' ways and the world's links.
    shown: Option<(u64, u64)>,
}

struct Seated {
    cluster: i32,
    me: Endpoint,
    id: i32,
    /// Those that are known from the start.
    neighbours: Vec<NodeConfig>,
    seat: Seat,
}

/// Does what has to be done whenever the thread ends, also when it panics: nobody waits for it, nothing is sent in its
/// name, and doors and gates take nothing more.
struct Leaving {
    mail: Arc<Mail>,
    routes: Arc<Routes>,
    board: Arc<Board>,
    /// What is shown then.
    emptied: Vec<RosterCluster>,
}

impl Driver {
    fn new(
        seats: Vec<Seated>,
        world: World,
        mail: Arc<Mail>,
        routes: Arc<Routes>,
        tallies: Arc<Tallies>,
    ) -> Self {
        Self {
            seats,
            world,
            mail,
            routes,
            tallies,
            shown: None,
        }
    }

    fn run(mut self) {
        let leaving = Leaving::new(&self);
        self.mail.read_by_this_thread();
        self.begin();
        while self.turn() {
            self.sleep();
        }
        drop(leaving);
        self.release_all();
    }

    fn begin(&mut self) {
        let now = now();
        for seated in &mut self.seats {
            let neighbours = std::mem::take(&mut seated.neighbours);
            seated.act(&mut self.world, |seat, out| {
                neighbours.iter().for_each(|node| out.connect(node));
                seat.start(now, out);
            });
        }
    }

    /// One round; `false`: it is to end.
    fn turn(&mut self) -> bool {
        let now = now();
        while let Some(command) = self.mail.next_command() {
            if matches!(command, Command::Stop) {
                return false;
            }
            self.obey(now, command);
        }
        // Who stopped us did not wait any longer, and what he said was dropped.
        if self.mail.is_closed() {
            return false;
        }
        // Some at a time: who floods us must not keep us from our deadlines.
        for _ in 0..MESSAGES_PER_TURN {
            let Some(incoming) = self.mail.next_message() else {
                break;
            };
            if let Some(seated) = seat_of(&mut self.seats, incoming.cluster) {
                seated.act(&mut self.world, |seat, out| {
                    seat.receive(now, incoming, out);
                });
            }
        }
        while let Some(slice) = self.mail.next_slice() {
            if let Some(seated) = seat_of(&mut self.seats, slice.cluster) {
                seated.act(&mut self.world, |seat, out| seat.slice(now, slice, out));
            }
        }
        for (cluster, capability) in self.mail.take_short() {
            if let Some(seated) = seat_of(&mut self.seats, cluster) {
                seated.act(&mut self.world, |seat, out| {
                    seat.suspect(now, Some(&capability), NO_ROOM, out);
                });
            }
        }
        let moved = self.mail.take_moved();
        self.world.go_on(now.at);
        for seated in &mut self.seats {
            if moved {
                seated.act(&mut self.world, |seat, out| seat.session_moved(now, out));
            }
            if seated.seat.deadline() <= now.at {
                seated.act(&mut self.world, |seat, out| seat.tick(now, out));
            }
        }
        self.show_routes();
        true
    }

    fn sleep(&self) {
        // The wake-up for messages that the last turn left was used up by that turn.
        if self.mail.has_message() {
            return;
        }
        let now = MonotonicClock.now();
        let deadlines = self.seats.iter().map(|seated| seated.seat.deadline());
        let until = deadlines.chain(self.world.deadline()).min();
        let left = until.map_or(SLEEP_MAX, |until| {
            Duration::from_nanos(until.nanos_since(now))
        });
        if !left.is_zero() {
            // What was put into the mail since makes this return at once.
            thread::park_timeout(left.min(SLEEP_MAX));
        }
    }

    fn obey(&mut self, now: Now, command: Command) {
        let Self {
            seats,
            world,
            tallies,
            ..
        } = self;
        // Who asked may have gone.
        match command {
            Command::Facts(answer) => {
                let facts = seats.iter().map(|seated| {
                    let mut facts = seated.seat.facts(now);
                    for capability in &mut facts.capabilities {
                        capability.kept = tallies.sum(&capability.name);
                    }
                    facts
                });
                let _ = answer.try_send(facts.collect());
            }
            Command::Sync {
                cluster,
                capability,
                answer,
            } => {
                let done = match seat_of(seats, cluster) {
                    Some(seated) => {
                        seated.act(world, |seat, out| seat.request_sync(now, &capability, out))
                    }
                    None => Err(format!("this process is no node of cluster {cluster}")),
                };
                let _ = answer.try_send(done);
            }
            Command::Generic {
                cluster,
                to,
                is_request,
                tag,
                message,
                answer,
            } => {
                let sent = seat_of(seats, cluster).map_or(0, |seated| {
                    seated.act(world, |seat, out| {
                        seat.send_generic(now, to, is_request, &tag, &message, out)
                    })
                });
                let _ = answer.try_send(sent);
            }
            Command::Suspect {
                cluster,
                capability,
                why,
            } => {
                let wanted = |seated: &&mut Seated| cluster.is_none_or(|id| id == seated.cluster);
                for seated in seats.iter_mut().filter(wanted) {
                    seated.act(world, |seat, out| {
                        seat.suspect(now, capability.as_deref(), &why, out);
                    });
                }
            }
            Command::Listen(listener) => world.listen(listener),
            Command::LinkFailed { cluster, node } => {
                world.link_failed(cluster, node);
                if let Some(seated) = seat_of(seats, cluster) {
                    seated.act(world, |seat, out| seat.link_failed(now, node, out));
                }
            }
            Command::Stop => unreachable!("looked at by who took it"),
        }
    }

    /// Shows the ways of this moment to other threads.
    fn show_routes(&mut self) {
        let ways = self.seats.iter().map(|seated| seated.seat.ways());
        // Both only grow, so their sums are others when any of them is.
        let of = (ways.sum(), self.world.changes());
        if self.shown.replace(of) == Some(of) {
            return;
        }
        let mut table = Table::default();
        for seated in &self.seats {
            table.me.insert(seated.cluster, seated.id);
            for node in seated.seat.reachable() {
                let hop = seated.seat.route(node);
                let link = hop.and_then(|hop| self.world.link(seated.cluster, hop));
                if let Some(link) = link {
                    table.hops.insert((seated.cluster, node), link);
                }
            }
        }
        self.routes.show(table);
    }

    /// Lets all gates apply what they hold, and waits for that, for a while.
    fn release_all(&mut self) {
        let errands = &mut self.world.errands;
        let now = MonotonicClock.now();
        for session in self
            .seats
            .iter()
            .flat_map(|seated| seated.seat.roster().sessions)
        {
            let capability = session.capability.clone();
            let order = GateOrder::Release(session, SyncEnd::Abandoned);
            errands.order(now, &capability, order);
        }
        let until = now.after(RELEASE_MAX_NS);
        loop {
            let now = MonotonicClock.now();
            errands.go_on(now);
            let Some(next) = errands.deadline().filter(|_| now < until) else {
                return;
            };
            let left = next.min(until).nanos_since(now);
            thread::park_timeout(Duration::from_nanos(left));
        }
    }
}

impl Leaving {
    fn new(driver: &Driver) -> Self {
        let rosters = driver.seats.iter().map(|seated| seated.seat.roster());
        let emptied = rosters.map(|roster| RosterCluster {
            nodes: Vec::new(),
            capabilities: Vec::new(),
            sessions: Vec::new(),
            learn: Vec::new(),
            ..roster
        });
        Self {
            mail: Arc::clone(&driver.mail),
            routes: Arc::clone(&driver.routes),
            board: Arc::clone(&driver.world.board),
            emptied: emptied.collect(),
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for roster in self.emptied.drain(..) {
            self.board.show(roster);
        }
        self.routes.show(Table::default());
        self.mail.close();
    }
}

impl Seated {
    fn act<A>(
        &mut self,
        world: &mut World,
        act: impl FnOnce(&mut Seat, &mut Around<'_>) -> A,
    ) -> A {
        let mut around = Around {
            world,
            cluster: self.cluster,
            me: self.me,
        };
        act(&mut self.seat, &mut around)
    }
}

fn seat_of(seats: &mut [Seated], cluster: i32) -> Option<&mut Seated> {
    seats.iter_mut().find(|seated| seated.cluster == cluster)
}

/// What time it is, twice.
fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        at: MonotonicClock.now(),
        unix: since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0)),
    }
}

/// Another one on each start: what sessions are called, and who waits how long.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(MonotonicClock.now().as_nanos())
}

/// What is said of a copy that a live packet found no room in.
const NO_ROOM: &str = "a live packet found no room for its record";

/// Events that wait for one listener.
pub const EVENTS_MAX: usize = 4096;

/// Messages between two looks at the clock.
const MESSAGES_PER_TURN: usize = 1024;

/// The longest sleep; nothing depends on it.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How long gates may take at the end to apply what they hold.
const RELEASE_MAX_NS: u64 = 500_000_000;

#[cfg(test)]
mod tests;
