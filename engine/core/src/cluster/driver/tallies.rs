//! What replicas say of themselves, for the facts.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::facts::KeptFacts;
use crate::cluster::replica::Tally;
use crate::dispatch::handler::ShardId;

/// The tallies of all replicas of a process, by capability and shard. Replicas are made when the engine starts.
#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<HashMap<String, BTreeMap<ShardId, Arc<Tally>>>>);

impl Tallies {
    /// That of a shard's replica, in place of the one before.
    pub(super) fn put(&self, capability: &str, shard: ShardId, tally: Arc<Tally>) {
        let mut all = self.all();
        let shards = all.entry(capability.to_owned()).or_default();
        shards.insert(shard, tally);
    }

    /// What all shards keep of a capability; `None`: they do not say.
    pub(super) fn sum(&self, capability: &str) -> Option<KeptFacts> {
        let all = self.all();
        let shards = all.get(capability)?;
        let sum = |of: fn(&Tally) -> &AtomicU64| {
            let counts = shards.values().map(|tally| of(tally));
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        Some(KeptFacts {
            records: sum(|tally| &tally.records),
            bytes: sum(|tally| &tally.bytes),
            incomplete: sum(|tally| &tally.incomplete),
            astray: sum(|tally| &tally.astray),
            full: sum(|tally| &tally.full),
            passed_over: sum(|tally| &tally.passed_over),
            senseless: sum(|tally| &tally.senseless),
            expired: sum(|tally| &tally.expired),
        })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<ShardId, Arc<Tally>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
