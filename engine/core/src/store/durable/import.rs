//! Records that come from elsewhere: into the tables of a state that nobody serves from.
//!
//! As for another number of shards, each table is written anew, as whole snapshots of a new epoch that the manifest names last: after a
//! kill or a full disk everything is as it was.

use std::collections::BTreeMap;

use binrush_store::model::Matching;
use binrush_store::{Applied, Change, Family, Limits, Now, Record, Status, Store, Why};

use super::State;
use super::error::StateError;
use super::journal::Place;
use super::manifest::TableRow;
use super::rebuild::{Sink, Steps, key_of};
use crate::steering::Steering;

/// What comes into one table.
#[derive(Debug, Clone, Copy)]
pub struct Import<'r> {
    /// Its name, as of [`State::table`].
    pub table: &'r str,
    /// Which records it has.
    pub family: Family,
    /// Flat, of that family.
    pub records: &'r [Box<[u8]>],
    /// What is there goes first. Else the records come as packets would: a dialog that is there stays as it is, and a contact that is
    /// there does unless the one that comes is newer ([`Store::apply`]). So does what is in `records` twice.
    pub replaces: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// Records that were there.
    pub before: u64,
    /// Records that are there now.
    pub after: u64,
    /// Records that are new.
    pub created: u64,
    /// Records that changed what was there.
    pub updated: u64,
    /// Records that did not, and why.
    pub unchanged: BTreeMap<Why, u64>,
    /// Records that could not come.
    pub refused: BTreeMap<Why, u64>,
}

impl State {
    /// Brings records into tables, which are made if they are not there, and says what became of each of `imports`. `now` is in
    /// seconds since 1970. All other tables are copied as they are.
    ///
    /// Takes as much memory as the largest shard of one of these tables, beside what `imports` have. Limits of a
    /// configuration do not count here; its next start keeps what is there.
    ///
    /// # Errors
    /// [`StateError`]: the state is as it was. Among others: a table has another family.
    ///
    /// # Panics
    /// After [`State::table`]: its stores would not know of these records.
    pub fn import(
        &mut self,
        imports: &[Import<'_>],
        now: i64,
    ) -> Result<Vec<Imported>, StateError> {
        self.import_by_steps(imports, now, &mut |_| Ok(()))
    }

    pub(super) fn import_by_steps(
        &mut self,
        imports: &[Import<'_>],
        now: i64,
        steps: &mut Steps<'_>,
    ) -> Result<Vec<Imported>, StateError> {
        assert!(self.opened.is_empty(), "a table is in use");
        let mut next = self.manifest.clone();
        for import in imports {
            self.check_family(import)?;
            if next.find(import.table).is_none() {
                next.add(import.table, import.family)?;
            }
        }
        let mut all = vec![Imported::default(); imports.len()];
        // Everything of the new epoch is on the disk.
        next.ended = true;
        let shards = next.shards;
        self.renew(
            next,
            shards,
            steps,
            &mut |state, row, steering, sinks, steps| {
                let found = imports.iter().position(|import| import.table == row.name);
                for shard in 0..state.manifest.shards {
                    match found {
                        Some(at) => {
                            let import = (&imports[at], &mut all[at]);
                            state.merge(row, shard, import, now, (steering, &mut *sinks))?;
                        }
                        None => _ = state.share(row, shard, steering, sinks)?,
                    }
                    steps("read a shard")?;
                }
                Ok(())
            },
        )?;
        Ok(all)
    }

    fn check_family(&self, import: &Import<'_>) -> Result<(), StateError> {
        let Import { table, family, .. } = *import;
        let name = table.to_owned();
        if matches!(family, Family::Profiles | Family::Pipes) {
            return Err(StateError::NotDurable { name, family });
        }
        match self.manifest.find(table) {
            Some(row) if row.family != family => Err(StateError::OtherFamily {
                name,
                found: row.family,
                wanted: family,
            }),
            _ => Ok(()),
        }
    }

    /// Gives one shard what it has and what comes.
    fn merge(
        &mut self,
        row: &TableRow,
        shard: u16,
        (import, imported): (&Import<'_>, &mut Imported),
        now: i64,
        (steering, sinks): (&Steering, &mut [Sink<'_>]),
    ) -> Result<(), StateError> {
        let mut store = Store::new(row.family, NO_LIMITS);
        if self.manifest.find(&row.name).is_some() {
            let place = Place::new(&self.paths, &self.manifest, row, shard);
            let sink = &mut sinks[usize::from(shard)];
            let mut done = Ok(());
            let recovered = place.read(&mut |_, _, flat| {
                imported.before += 1;
                // What is no record is taken along: a newer binrush may know it.
                if !import.replaces && store.adopt(flat).is_err() && done.is_ok() {
                    done = sink.give(flat);
                    imported.after += u64::from(done.is_ok());
                }
            })?;
            done?;
            let of = (&*row.name, shard);
            recovered.notes(of, place.ring, self.manifest.ended, &mut self.notes);
        }
        let is_new = store.is_empty();
        store.restored(now, &mut ());
        let mut again = Vec::new();
        for flat in import.records {
            if steering.owner_of_key(key_of(flat, &row.name)) != shard {
                continue;
            }
            // Where nothing is, what comes comes as it is, and what comes twice meets the first of it.
            match is_new.then(|| store.has(flat)) {
                None => imported.count(apply(&mut store, flat, now)),
                Some(Ok(true)) => again.push(flat),
                Some(Ok(false)) if store.adopt(flat).is_ok() => imported.created += 1,
                Some(_) => imported.refuse(Why::OtherFamily),
            }
        }
        if is_new {
            store.restored(now, &mut ());
        }
        for flat in again {
            imported.count(apply(&mut store, flat, now));
        }
        let mut from = Some(0);
        while let Some(place) = from {
            let mut done = Ok(());
            from = store.walk_while(place, &mut |_, flat| {
                done = sinks[usize::from(shard)].give(flat);
                imported.after += u64::from(done.is_ok());
                done.is_ok()
            });
            done?;
        }
        Ok(())
    }
}

impl Imported {
    fn count(&mut self, applied: Applied) {
        match applied {
            Applied::Created => self.created += 1,
            Applied::Updated | Applied::Removed => self.updated += 1,
            Applied::Nothing(why) => *self.unchanged.entry(why).or_default() += 1,
            Applied::Refused(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: Why) {
        *self.refused.entry(why).or_default() += 1;
    }
}

/// Applies a record as the packet would that made it.
fn apply(store: &mut Store, flat: &[u8], now: i64) -> Applied {
    // A live packet: those never take back what is newer.
    let now = Now { unix: now, tick: 1 };
    let Ok((record, status)) = Record::read(flat) else {
        return Applied::Refused(Why::OtherFamily);
    };
    let change = match record {
        Record::Dialog(dialog) => Change::DialogCreated(dialog),
        Record::Aor(aor) => Change::AorInserted(aor),
        Record::Contact(contact) => {
            // Of two with one URI, which a node has whose usrloc matches by both, the one that is meant.
            let by = match store.has(flat) {
                Ok(true) => Matching::UriAndCallid,
                _ => Matching::Uri,
            };
            Change::ContactInserted(contact, by)
        }
        Record::Cached(cached) => Change::CacheInserted(cached),
        Record::Profile(..) | Record::Pipe(..) => return Applied::Refused(Why::OtherFamily),
    };
    let status = match record {
        Record::Dialog(_) => status,
        _ => Status(status.0 & Status::NO_SOCKET.0),
    };
    store.apply_as(now, &change, 0, status, &mut ())
}

/// What a state has may be more than a configuration allows: that is for its next start to say.
const NO_LIMITS: Limits = Limits {
    records: u32::MAX >> 1,
    bytes: usize::MAX >> 1,
    per_key: u32::MAX,
    linger: 60,
    provisional: 300,
    counts_expire: 10,
};
