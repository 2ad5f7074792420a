//! The store against a plain list of records that follows the same rules slowly and obviously: random operations, duplicates,
//! packets in any order, time, syncs, and restarts from what the log would hold.

use std::collections::{BTreeMap, BTreeSet};

use binrush_store::change::Change;
use binrush_store::{Applied, Effects, Family, Limits, Now, Status, Store};
use model::Model;
use ops::Op;
use proptest::prelude::*;

/// The rules, slowly.
mod model;
/// Operations by chance.
mod ops;

/// What the log would hold in the end: the last word on each place.
#[derive(Default, Clone)]
struct Log {
    places: BTreeMap<u32, Vec<u8>>,
    /// Places that something went from.
    gone: BTreeSet<u32>,
}

impl Effects for Log {
    fn put(&mut self, place: u32, flat: &[u8]) {
        self.places.insert(place, flat.to_vec());
    }

    fn gone(&mut self, place: u32) {
        assert!(
            self.places.remove(&place).is_some(),
            "nothing was at {place}"
        );
        self.gone.insert(place);
    }
}

/// A store and its model, and the time they are at.
struct Pair {
    store: Store,
    model: Model,
    log: Log,
    unix: i64,
    tick: u32,
}

impl Pair {
    fn new(family: Family, limits: Limits) -> Self {
        Self {
            store: Store::new(family, limits),
            model: Model::new(limits),
            log: Log::default(),
            unix: 1_800_000_000,
            tick: 1000,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Apply {
                change,
                is_chunk,
                node,
                late,
                no_socket,
            } => {
                self.apply(change, *is_chunk, *node, *late, *no_socket);
            }
            Op::Pass { seconds, budget } => self.pass(*seconds, *budget),
            Op::SyncBegins => {
                self.tick += 1;
                self.store.sync_begins(self.tick);
                self.model.sync_begins(self.tick);
            }
            Op::SyncEnds => self.sync_ends(),
            Op::Restart => self.restart(),
        }
    }

    fn apply(
        &mut self,
        change: &Change<'static>,
        is_chunk: bool,
        node: i32,
        late: u32,
        no_socket: bool,
    ) {
        if self.model.is_ambiguous(change) {
            return;
        }
        let tick = if is_chunk { 0 } else { self.tick - late };
        let now = Now {
            unix: self.unix,
            tick,
        };
        let status = if no_socket {
            Status::NO_SOCKET
        } else {
            Status::default()
        };
        let applied = self
            .store
            .apply_as(now, change, node, status, &mut self.log);
        assert_eq!(
            applied,
            self.model.apply(now, change, node, status),
            "{change:?}"
        );
    }

    fn pass(&mut self, seconds: i64, budget: usize) {
        self.unix += seconds;
        self.tick += u32::try_from(seconds * 10).unwrap();
        let mut expired = 0;
        loop {
            let (some, more) = self.store.expire(self.unix, budget, &mut self.log);
            expired += some;
            if !more {
                break;
            }
        }
        assert_eq!(expired, self.model.expire(self.unix));
    }

    fn sync_ends(&mut self) {
        let (mut removed, mut spared, mut from) = (0, 0, Some(0));
        while let Some(at) = from {
            let ended = self.store.sync_ends(at, self.unix, &mut self.log);
            removed += ended.removed;
            spared += ended.spared;
            from = ended.next;
        }
        assert_eq!((removed, spared), self.model.sync_ends(self.unix));
    }

    fn restart(&mut self) {
        let mut store = Store::new(self.store.family(), *self.store.limits());
        // As a log is read: places in any order, some of them said twice.
        for (place, flat) in self.log.places.iter().rev() {
            store.restore(*place, flat).unwrap();
        }
        if let Some((place, flat)) = self.log.places.first_key_value() {
            store.restore(*place, flat).unwrap();
        }
        store.restored(self.unix, &mut self.log);
        self.store = store;
        self.model.restarted(self.unix);
    }

    fn check(&self) {
        let mut walked = BTreeMap::new();
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.store.walk(at, 1, &mut |place, flat| {
                assert!(walked.insert(place, flat.to_vec()).is_none(), "given twice");
            });
        }
        assert_eq!(walked, self.log.places);
        let mut flats: Vec<_> = walked.into_values().collect();
        flats.sort();
        assert_eq!(flats, self.model.flats());
        assert_eq!(self.store.len(), flats.len());
        for (key, count) in self.model.keys() {
            let mut found = 0;
            self.store.find(&key, &mut |_, _| found += 1);
            assert_eq!(found, count, "{key:?}");
        }
    }

    /// A sync that confirms nothing takes everything.
    fn empty(&mut self) {
        self.tick += 1000;
        self.store.sync_begins(self.tick);
        self.model.sync_begins(self.tick);
        self.sync_ends();
        while !self.store.is_empty() {
            // AoRs that a contact left.
            self.pass(1000, 7);
        }
        let memory = self.store.memory();
        assert_eq!((memory.strings, memory.counted), (0, 0));
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (3..40_u32, 2..5_u32).prop_map(|(records, per_key)| Limits {
        records,
        per_key,
        ..Limits::default()
    })
}

fn family_and_ops() -> impl Strategy<Value = (Family, Vec<Op>)> {
    prop::sample::select(&Family::ALL[..])
        .prop_flat_map(|family| (Just(family), prop::collection::vec(ops::op(family), 1..120)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_store_is_what_the_rules_say_after_any_operations((family, ops) in family_and_ops(), limits in limits()) {
        let mut pair = Pair::new(family, limits);
        for op in &ops {
            pair.run(op);
            pair.check();
        }
        pair.restart();
        pair.check();
        pair.empty();
        pair.check();
    }

    #[test]
    fn a_walk_gives_every_record_that_stayed((family, ops) in family_and_ops()) {
        let mut pair = Pair::new(family, Limits::default());
        let (early, late) = ops.split_at(ops.len() / 2);
        for op in early {
            pair.run(op);
        }
        let mut stayed: BTreeSet<_> = pair.log.places.keys().copied().collect();
        pair.log.gone.clear();
        let (mut given, mut from) = (BTreeSet::new(), Some(0));
        let mut late = late.iter().filter(|op| !matches!(op, Op::Restart));
        while let Some(at) = from {
            from = pair.store.walk(at, 1, &mut |place, _| _ = given.insert(place));
            if let Some(op) = late.next() {
                pair.run(op);
            }
        }
        stayed.retain(|place| !pair.log.gone.contains(place));
        prop_assert!(given.is_superset(&stayed), "{:?} of {:?}", given, stayed);
    }

    #[test]
    fn records_of_several_stores_are_adopted_by_one((family, ops) in family_and_ops()) {
        let mut pair = Pair::new(family, Limits::default());
        for op in &ops {
            pair.run(op);
        }
        let mut store = Store::new(family, Limits::default());
        let mut log = Log::default();
        for flat in pair.log.places.values().rev() {
            let place = store.adopt(flat).unwrap();
            log.put(place, flat);
        }
        store.restored(pair.unix, &mut log);
        (pair.store, pair.log) = (store, log);
        pair.model.restarted(pair.unix);
        pair.check();
    }
}

#[test]
fn applied_is_told_of_a_change_for_another_family() {
    let mut store = Store::new(Family::Cache, Limits::default());
    let change = Change::AorDeleted(b"location", b"a");
    assert_eq!(
        store.apply(Now::default(), &change, 0, &mut ()),
        Applied::Refused(binrush_store::Why::OtherFamily)
    );
}
