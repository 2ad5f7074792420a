//! The records that a server keeps: in whose hands, how many at most, and what is kept of them over its death.
//!
//! ```text
//!   state_dir ─ open ─▶ Records ─ keepers, legacy ─▶ a store for each table and shard ─▶ the registry
//!                          └──── start ────▶ Journal: threads that write, and what is told of them
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use binrush_engine::cluster::config::ClusterConfig;
use binrush_engine::cluster::replica::{OpaqueReplica, Replica, Tally};
use binrush_engine::config::{Sockets, StateConfig};
use binrush_engine::event::{self, Bus};
use binrush_engine::store::durable::{Journaled, State, StateError, StateOptions};
use binrush_engine::store::legacy::{self, Legacy};
use binrush_engine::store::{TypedReplica, family};
use binrush_engine::{Registry, ShardId, WallClock};
use binrush_store::sockets::Target;
use binrush_store::{Family, Limits, Store};

use super::settings::Settings;

pub(super) use journal::{Journal, Watched};

/// When records expire.
mod clock;
/// Journals at work.
mod journal;
/// How much memory there is.
mod memory;

/// The records of a server that has not started.
pub(super) struct Records {
    config: StateConfig,
    /// How many, counts that have no journal among them.
    tables: usize,
    /// Bytes of a table.
    bytes: u64,
    sockets: Arc<Sockets>,
    target: Arc<Target>,
    shards: u16,
    /// `None`: in memory only.
    state: Option<State>,
    /// Of tables that no cluster has.
    tallies: Tallies,
    /// By which records expire.
    wall: Arc<WallClock>,
    /// Who tells of their changes.
    bus: Option<Bus>,
}

/// The stores of one table, until their shards take them.
struct Table {
    capability: String,
    wall: Arc<WallClock>,
    limits: Limits,
    sockets: Arc<Sockets>,
    target: Arc<Target>,
    /// `None`: nobody is told of these.
    bus: Option<Bus>,
    /// By shard.
    stores: Mutex<Vec<Option<Shared>>>,
    /// Where its counts go, under its name, if no cluster shows them.
    tallies: Option<(String, Tallies)>,
}

/// Counts of tables, one for each shard, by the table's name.
type Tallies = Arc<Mutex<Vec<(String, Arc<Tally>)>>>;

/// A store, and its journal if there is one.
type Shared = (Store, Option<Journaled>);

/// What keeps records that are known for what they say: on a disk, and told to others, if so.
type Typed = TypedReplica<(Option<Journaled>, Option<event::Records>)>;

impl Records {
    /// Opens the state directory, if one is configured; changes are told by `bus`, if there is one.
    ///
    /// # Errors
    /// It cannot be used; what to do stands in the message.
    pub(super) fn open(settings: &Settings, bus: Option<&Bus>) -> anyhow::Result<Self> {
        let config = settings.state.clone();
        let shards = settings.engine.shard_count();
        let legacy = [legacy::DIALOGS, legacy::CONTACTS, legacy::PIPES];
        let legacy = legacy.iter().filter(|name| settings.keeps_legacy(name));
        let clusters = settings.clusters.iter();
        let replicated = clusters.map(|cluster| cluster.capabilities.len());
        let tables = replicated.sum::<usize>() + legacy.count();
        let bytes = config.bytes.unwrap_or_else(|| memory::for_each(tables));
        let state = config.dir.as_ref().map(|dir| {
            State::open(&StateOptions {
                state_dir: dir.clone(),
                runtime_dir: config.runtime_dir.clone(),
                fsync_interval: config.fsync_interval,
                ring_bytes: config.ring_bytes,
                shards,
            })
        });
        Ok(Self {
            state: state.transpose().map_err(cannot_keep)?,
            tables,
            bytes,
            config,
            sockets: Arc::clone(&settings.sockets),
            target: Arc::clone(&settings.target),
            shards,
            tallies: Tallies::default(),
            wall: Arc::new(WallClock::system()),
            bus: bus.cloned(),
        })
    }

    /// Descriptors that its journals will have.
    pub(super) fn descriptors(&self) -> u64 {
        let journals = self.tables as u64 * u64::from(self.shards);
        let journals = self.state.as_ref().map_or(0, |_| journals);
        journals * DESCRIPTORS_OF_JOURNAL
    }

    /// What the engine has to steer by, so that each shard owns the records that it finds in its journal.
    pub(super) fn seed(&self) -> Option<u32> {
        self.state.as_ref().map(State::seed)
    }

    /// Whether there is memory for the journals of all tables, before any is begun: those of clusters, and of modules that
    /// `is_legacy` names.
    pub(super) fn check_room(
        &self,
        clusters: &[ClusterConfig],
        is_legacy: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        let of_clusters = clusters.iter().flat_map(|cluster| {
            let names = cluster.capabilities.iter();
            names.map(|capability| {
                (
                    &*capability.name,
                    format!("{}/{}", cluster.id, capability.name),
                )
            })
        });
        let of_modules = [legacy::DIALOGS, legacy::CONTACTS].into_iter();
        let of_modules = of_modules.filter(|name| is_legacy(name));
        let tables = of_clusters.chain(of_modules.map(|name| (name, name.to_owned())));
        let durable = tables.filter(|(capability, _)| family(capability).is_some_and(is_durable));
        let names: Vec<String> = durable.map(|(_, table)| table).collect();
        state.check_room(&names).map_err(cannot_keep)
    }

    /// What makes the keeper of the records of `capability` in `cluster` on each shard: typed and durable where they are known
    /// for what they say, else as bytes, in memory.
    pub(super) fn keepers(
        &mut self,
        cluster: i32,
        capability: &str,
    ) -> anyhow::Result<impl Fn(ShardId) -> Box<dyn Replica> + Send + Sync + use<>> {
        let table = family(capability)
            .map(|_| self.table(&format!("{cluster}/{capability}"), capability))
            .transpose()?;
        let capability = capability.to_owned();
        Ok(move |shard| -> Box<dyn Replica> {
            match &table {
                Some(table) => Box::new(table.take(shard)),
                None => Box::new(OpaqueReplica::new(&capability)),
            }
        })
    }

    /// Why some of what was kept of `capability` in `cluster` is not here, if so; known once it has its keepers.
    pub(super) fn missing(&self, cluster: i32, capability: &str) -> Option<String> {
        let name = format!("{cluster}/{capability}");
        let mut notes = self.state.as_ref()?.notes().iter();
        let note = notes.find(|note| note.missing_of() == Some(&name))?;
        Some(note.to_string())
    }

    /// Registers who keeps what nodes before 2.4 replicate, of the modules that `wanted` names.
    pub(super) fn legacy(
        &mut self,
        registry: &mut Registry,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        for (name, beside) in [
            (legacy::DIALOGS, Some(legacy::PROFILES)),
            (legacy::CONTACTS, None),
            (legacy::PIPES, None),
        ] {
            if !wanted(name) {
                continue;
            }
            let records = self.table(name, name)?;
            let beside = beside.map(|name| self.table(name, name));
            let beside = beside.transpose()?;
            registry.register(name.as_bytes(), move |shard| {
                Legacy::new(
                    records.take(shard),
                    beside.as_ref().map(|beside| beside.take(shard)),
                )
            })?;
        }
        Ok(())
    }

    /// Begins to write.
    pub(super) fn start(self) -> anyhow::Result<Journal> {
        Journal::start(self.state, self.tallies, self.wall)
    }

    /// The records of a table as they were, for each shard.
    fn table(&mut self, name: &str, capability: &str) -> anyhow::Result<Table> {
        let family = family(capability).expect("a table is of a family");
        let limits = self.limits();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs().cast_signed());
        let stores = match self.state.as_mut().filter(|_| is_durable(family)) {
            Some(state) => {
                let stores = state.table(name, family, limits, now, &self.sockets);
                let stores = stores.map_err(cannot_keep)?;
                let shared = stores.into_iter();
                shared
                    .map(|(store, log)| Some((store, Some(log))))
                    .collect()
            }
            None => Vec::new(),
        };
        Ok(Table {
            capability: capability.to_owned(),
            wall: Arc::clone(&self.wall),
            limits,
            sockets: Arc::clone(&self.sockets),
            target: Arc::clone(&self.target),
            bus: self.bus.clone().filter(|_| is_told(family)),
            stores: Mutex::new(stores),
            tallies: (name == capability).then(|| (name.to_owned(), Arc::clone(&self.tallies))),
        })
    }

    /// Those of each shard: the keys are spread evenly.
    fn limits(&self) -> Limits {
        let shards = usize::from(self.shards);
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        Limits {
            records: self.config.records.div_ceil(u32::from(self.shards)),
            bytes: bytes.div_ceil(shards),
            ..Limits::default()
        }
    }
}

impl Table {
    /// What `shard` keeps: in memory only where nothing else is kept of the table, or the shard owns no records.
    fn take(&self, shard: ShardId) -> Typed {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, journaled) = match stores.get_mut(shard.index()) {
            Some(stored) => stored.take().expect("each shard takes its store once"),
            None => {
                let family = family(&self.capability).expect("a table is of a family");
                (Store::new(family, self.limits), None)
            }
        };
        let told = self
            .bus
            .as_ref()
            .map(|bus| event::Records::new(bus.source()));
        let effects = (journaled, told);
        let typed = TypedReplica::over(&self.capability, store, Arc::clone(&self.wall), effects)
            .with_sockets(Arc::clone(&self.sockets))
            .with_target(Arc::clone(&self.target));
        if let (Some((name, tallies)), Some(tally)) = (&self.tallies, typed.tally()) {
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.push((name.clone(), tally));
        }
        typed
    }
}

/// Whether records of this kind are worth a journal: counts are told again by everybody, all the time.
const fn is_durable(family: Family) -> bool {
    !matches!(family, Family::Profiles | Family::Pipes)
}

/// Whether events tell of records of this kind.
const fn is_told(family: Family) -> bool {
    matches!(family, Family::Dialogs | Family::Usrloc)
}

/// What is wrong says what to do at its end: what it comes from is in it already, and would stand behind that once more.
fn cannot_keep(error: StateError) -> anyhow::Error {
    anyhow!("cannot keep records in the state directory: {error}")
}

/// Its ring, the locks of folder and ring, a file of its log, and one of a snapshot.
const DESCRIPTORS_OF_JOURNAL: u64 = 5;
