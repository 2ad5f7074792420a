//! Clusters before their engine.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use super::errands::Errands;
use super::handle::Shared;
use super::mail::Mail;
use super::routes::Routes;
use super::tallies::Tallies;
use super::world::World;
use super::{Cluster, Driver, EVENTS_MAX, LinkTerms, Orders, Seated, now, seed};
use crate::cluster::config::{CLUSTERS_MAX, ClusterConfig};
use crate::cluster::door::{self, Door};
use crate::cluster::gate::Gate;
use crate::cluster::inbox::Inbox;
use crate::cluster::outbox::Event;
use crate::cluster::replica::Replica;
use crate::cluster::roster::Board;
use crate::cluster::seat::Seat;
use crate::dispatch::NameId;
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::{RegisterError, Registry};
use crate::link::Links;

/// Clusters before their engine: registers doors and gates, and [starts](Self::start) once the engine has. What comes in
/// between waits.
pub struct ClusterPlan {
    pub(super) seats: Vec<Seated>,
    owners: u16,
    hold_bytes: HashMap<i32, usize>,
    /// Capabilities that are configured, and in which cluster.
    wanted: Vec<(i32, String)>,
    /// Those that have a keeper.
    kept: HashMap<String, (i32, NameId)>,
    pub(super) board: Arc<Board>,
    pub(super) mail: Arc<Mail>,
    tallies: Arc<Tallies>,
    listeners: Vec<SyncSender<Event>>,
}

/// A capability cannot have this keeper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// No such cluster was planned.
    #[error("{capability} is to be kept in cluster {cluster}, which this process is no node of")]
    UnknownCluster {
        /// Of what.
        capability: String,
        /// In which cluster.
        cluster: i32,
    },
    /// Its packets have one receiver in a process.
    #[error(
        "{capability} is kept in cluster {cluster} already: a process has one set of its records, take it out of one cluster"
    )]
    Kept {
        /// Of what.
        capability: String,
        /// In which cluster it is kept.
        cluster: i32,
    },
    /// There is no room for its name.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// Seats that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nobody would take its packets, and no sync of it would ever end.
    #[error(
        "nobody keeps the records of {capability}, which is configured in cluster {cluster}: call ClusterPlan::replica for it"
    )]
    NoKeeper {
        /// Of what.
        capability: String,
        /// In which cluster.
        cluster: i32,
    },
    /// What the kernel said.
    #[error("no thread for the seats: {0}")]
    Thread(#[from] io::Error),
}

impl ClusterPlan {
    /// For these clusters, in an engine with `owners` shards that own records.
    ///
    /// # Panics
    /// With more than [`CLUSTERS_MAX`], or two of one id.
    #[must_use]
    pub fn new(configs: Vec<ClusterConfig>, owners: u16) -> Self {
        assert!(configs.len() <= CLUSTERS_MAX, "at most {CLUSTERS_MAX}");
        let ids = configs.iter().map(|config| config.id);
        let hold_bytes = configs.iter().map(|config| config.sync.hold_bytes);
        let hold_bytes: HashMap<_, _> = ids.zip(hold_bytes).collect();
        assert_eq!(
            hold_bytes.len(),
            configs.len(),
            "each cluster has an id of its own"
        );
        let wanted = configs.iter().flat_map(|config| {
            let names = config.capabilities.iter();
            names.map(|capability| (config.id, capability.name.clone()))
        });
        let (wanted, board, now) = (wanted.collect(), Board::default(), now());
        let seated = configs.into_iter().map(|config| Seated {
            cluster: config.id,
            me: config.me.url,
            id: config.me.id,
            neighbours: config.neighbours.clone(),
            seat: Seat::new(config, owners, seed(), now),
        });
        let seats: Vec<Seated> = seated.collect();
        for seated in &seats {
            board.show(seated.seat.roster());
        }
        Self {
            seats,
            owners,
            hold_bytes,
            wanted,
            kept: HashMap::new(),
            board: Arc::new(board),
            mail: Arc::new(Mail::new()),
            tallies: Arc::default(),
            listeners: Vec::new(),
        }
    }

    /// Makes what `make` returns the keeper of the records of `capability` in `cluster`, one for each shard.
    ///
    /// # Errors
    /// [`KeeperError`]; the registry is as before.
    pub fn replica<R: Replica + 'static>(
        &mut self,
        registry: &mut Registry,
        cluster: i32,
        capability: &str,
        make: impl Fn(ShardId) -> R + Send + Sync + 'static,
    ) -> Result<NameId, KeeperError> {
        let name = capability.to_owned();
        let Some(&hold_bytes) = self.hold_bytes.get(&cluster) else {
            let capability = name;
            return Err(KeeperError::UnknownCluster {
                capability,
                cluster,
            });
        };
        if let Some(&(cluster, _)) = self.kept.get(capability) {
            let capability = name;
            return Err(KeeperError::Kept {
                capability,
                cluster,
            });
        }
        let board = Arc::clone(&self.board);
        let inbox: Arc<dyn Inbox> = Arc::clone(&self.mail) as Arc<dyn Inbox>;
        let tallies = Arc::clone(&self.tallies);
        let id = registry.register(capability.as_bytes(), move |shard| {
            let (board, inbox) = (Arc::clone(&board), Arc::clone(&inbox));
            let replica = make(shard);
            if let Some(tally) = replica.tally() {
                tallies.put(&name, shard, tally);
            }
            Gate::new(shard, cluster, &name, board, inbox, hold_bytes, replica)
        })?;
        self.kept.insert(capability.to_owned(), (cluster, id));
        Ok(id)
    }

    /// Registers who takes the cluster's own messages. `warn` is told, in words, what an operator should know.
    ///
    /// # Errors
    /// [`RegisterError::TooManyNames`].
    pub fn doors(
        &self,
        registry: &mut Registry,
        warn: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<(), RegisterError> {
        let warn: Arc<dyn Fn(String) + Send + Sync> = Arc::new(warn);
        for name in door::NAMES {
            let (board, warn) = (Arc::clone(&self.board), Arc::clone(&warn));
            let inbox: Arc<dyn Inbox> = Arc::clone(&self.mail) as Arc<dyn Inbox>;
            registry.register(name.as_bytes(), move |_| {
                Door::new(Arc::clone(&board), Arc::clone(&inbox), Arc::clone(&warn))
            })?;
        }
        Ok(())
    }

    /// Says that some of the records that `capability` of `cluster` begins with are missing, and why: its copy is not offered
    /// before a donor has given everything, also if this node is a seed.
    pub fn is_cut(&mut self, cluster: i32, capability: &str, why: &str) {
        let mut seats = self.seats.iter_mut();
        if let Some(seated) = seats.find(|seated| seated.cluster == cluster) {
            seated.seat.is_cut(capability, why);
        }
    }

    /// What happens from the start on, warnings of the first connects included. As [`Cluster::events`], which tells only of
    /// what comes after it was called.
    #[must_use]
    pub fn events(&mut self) -> Receiver<Event> {
        let (sender, receiver) = mpsc::sync_channel(EVENTS_MAX);
        self.listeners.push(sender);
        receiver
    }

    /// Takes the seats: connects to the nodes that are known, and answers theirs.
    ///
    /// # Errors
    /// [`StartError`]: nothing was started.
    ///
    /// # Panics
    /// When the engine has not as many owners as was said.
    pub fn start(
        self,
        orders: Arc<dyn Orders>,
        links: Links,
        terms: LinkTerms,
    ) -> Result<Cluster, StartError> {
        assert_eq!(orders.owners(), self.owners, "shards that own records");
        let is_kept = |cluster: i32, name: &str| matches!(self.kept.get(name), Some((of, _)) if *of == cluster);
        let mut wanted = self.wanted.iter();
        if let Some((cluster, capability)) = wanted.find(|(of, name)| !is_kept(*of, name)) {
            return Err(StartError::NoKeeper {
                capability: capability.clone(),
                cluster: *cluster,
            });
        }
        let routes = Arc::new(Routes::default());
        let shared = Shared::new(Arc::clone(&self.mail), Arc::clone(&routes), links.clone());
        let names = self.kept.into_iter().map(|(name, (_, id))| (name, id));
        let errands = Errands::new(orders, names.collect());
        let (mail, board) = (Arc::clone(&self.mail), self.board);
        let world = World::new(links, terms, errands, board, mail, self.listeners);
        let driver = Driver::new(self.seats, world, self.mail, routes, self.tallies);
        let thread = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || driver.run())?;
        shared.is_run_by(thread);
        Ok(Cluster::new(shared))
    }
}

impl fmt::Debug for ClusterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterPlan")
            .field("clusters", &self.hold_bytes.len())
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
