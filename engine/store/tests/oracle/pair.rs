use std::collections::{BTreeMap, BTreeSet};

use binrush_store::change::Change;
use binrush_store::{Effects, Family, Limits, Now, Status, Store};

use super::model::Model;

/// What happens to a store next.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Apply {
        change: Box<Change<'static>>,
        is_chunk: bool,
        node: i32,
        /// Ticks that the packet waited.
        late: u32,
        no_socket: bool,
    },
    Pass {
        seconds: i64,
        budget: usize,
    },
    SyncBegins,
    SyncEnds,
    Restart,
}

/// What the log would hold in the end: the last word on each place.
#[derive(Default, Clone)]
pub(crate) struct Log {
    pub(crate) places: BTreeMap<u32, Vec<u8>>,
    /// Places that something went from.
    pub(crate) gone: BTreeSet<u32>,
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
pub(crate) struct Pair {
    pub(crate) store: Store,
    pub(crate) model: Model,
    pub(crate) log: Log,
    pub(crate) unix: i64,
    tick: u32,
}

impl Pair {
    pub(crate) fn new(family: Family, limits: Limits) -> Self {
        Self {
            store: Store::new(family, limits),
            model: Model::new(limits),
            log: Log::default(),
            unix: 1_800_000_000,
            tick: 1000,
        }
    }

    pub(crate) fn run(&mut self, op: &Op) {
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

    pub(crate) fn restart(&mut self) {
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

    pub(crate) fn check(&self) {
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
    pub(crate) fn empty(&mut self) {
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
