//! Records that outlive the process: stores with a journal each, in one state directory.
//!
//! ```text
//!   shard ─▶ Store ─▶ Journaled ─▶ ring ─▶ writer, a thread for each shard ─▶ log, snapshots        of each table and shard
//!
//!   state_dir/   manifest    what the folders are: see `durable/manifest.rs`      runtime_dir/   in memory (tmpfs)
//!                lock        locked while somebody serves from here                 EPOCH-t1-s0.ring   of each journal
//!                EPOCH/      16 digits, drawn at random                             …
//!                  t1-s0/    table 1 on shard 0: see `binrush_journal`
//!                  …
//! ```
//!
//! A table has the records of one capability of one cluster, `1/dialog-dlg-repl`, or of one module of 1.x, `dialog`. Its
//! number says where its files are. What no configuration has any more stays where it is.
//!
//! A start is: [`State::open`](crate::store::durable::State::open), [`State::table`](crate::store::durable::State::table) for
//! each table, which gives stores with what was there, and [`State::start`](crate::store::durable::State::start).
//! What a journal of an earlier start has not yet written is in its ring; a ring that is lost costs what was not synced. A
//! start with another number of shards shares all records out anew first, in a new epoch.
//!
//! [`read`](crate::store::durable::read()) and [`verify`](crate::store::durable::verify()) are for tools: they take no lock and change nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use binrush_journal::{Folder, Options, Ring, Writer};
use binrush_store::{Family, Limits, Store};

use crate::config::Sockets;
use crate::steering::Steering;
use journal::{Begun, Place, Settled, Watched};
use journals::OpenState;
use manifest::{Manifest, TableRow};
use paths::Paths;

/// Why a state cannot be used.
mod error;
/// Records from elsewhere.
mod import;
/// One journal at the start.
mod journal;
/// The shard's side.
mod journaled;
/// Journals that run.
mod journals;
/// What the folders are.
mod manifest;
/// Where things are.
mod paths;
/// For tools.
mod reading;
/// Another number of shards.
mod rebuild;
/// What was found at a start.
mod recovered;
/// Another runtime directory.
mod rings;

pub use error::StateError;
pub use import::{Import, Imported};
pub use journaled::{Journaled, Log};
pub use journals::{JournalFacts, Journals, STOP_MAX, StopError, Watch};
pub use reading::{
    JournalCheck, JournalReading, Reading, Row, Standing, Verified, read, standing, verify,
    verify_some,
};
pub use recovered::{Note, Recovered, RingFound};

/// Where a state is, and how it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateOptions {
    /// The folder of all that is durable, made if it is not there (0700). It has to be ours alone.
    pub state_dir: PathBuf,
    /// The folder of the rings, likewise; it should be in memory.
    pub runtime_dir: PathBuf,
    /// What a loss of power may cost.
    pub fsync_interval: Duration,
    /// Bytes of each ring, of which there is one for each table on each shard: a power of two from
    /// [`CAPACITY_MIN`](binrush_journal::ring::CAPACITY_MIN) to [`CAPACITY_MAX`](binrush_journal::ring::CAPACITY_MAX). All of
    /// them are taken at the start. Records longer than a quarter of it are not logged.
    pub ring_bytes: usize,
    /// How many shards own records: [`EngineConfig::shard_count`](crate::EngineConfig::shard_count).
    pub shards: u16,
}

/// A state that was opened, before anything runs. Dropping it leaves all as it is: what was appended meanwhile is in the rings.
#[derive(Debug)]
pub struct State {
    paths: Paths,
    options: Options,
    ring_bytes: usize,
    /// Locked.
    state_dir: Folder,
    manifest: Manifest,
    /// The last process that served from here ended in order.
    ended: bool,
    /// Numbers of the tables that were opened.
    opened: BTreeSet<u8>,
    /// Of each shard.
    writers: Vec<Vec<Writer<Folder>>>,
    watched: Vec<Watched>,
    notes: Vec<Note>,
}

impl State {
    /// Opens the state in `state_dir`, or begins one; shares its records out anew if it was kept for another number of shards,
    /// which takes about as long as reading it twice.
    ///
    /// # Errors
    /// [`StateError`], with what to do.
    ///
    /// # Panics
    /// When there are no shards.
    pub fn open(options: &StateOptions) -> Result<Self, StateError> {
        Self::open_by_steps(options, &mut |_| Ok(()))
    }

    fn open_by_steps(
        options: &StateOptions,
        steps: &mut rebuild::Steps<'_>,
    ) -> Result<Self, StateError> {
        let StateOptions {
            state_dir,
            runtime_dir,
            fsync_interval,
            ring_bytes,
            shards,
        } = options;
        assert!(*shards > 0, "records of no shard");
        Ring::check_capacity(*ring_bytes).map_err(|source| StateError::RingBytes { source })?;
        let folder = Folder::open(state_dir)?;
        let paths = Paths {
            state_dir: state_dir.clone(),
            runtime_dir: paths::runtime(runtime_dir)?,
        };
        let manifest = match Manifest::load(&folder, state_dir)? {
            Some(manifest) => manifest,
            None => begin(&paths, &folder, *shards)?,
        };
        let mut state = Self {
            paths,
            options: Options {
                fsync_interval: *fsync_interval,
                ..Options::default()
            },
            ring_bytes: *ring_bytes,
            state_dir: folder,
            ended: manifest.ended,
            manifest,
            opened: BTreeSet::new(),
            writers: (0..*shards).map(|_| Vec::new()).collect(),
            watched: Vec::new(),
            notes: Vec::new(),
        };
        if state.ended {
            // What was put aside has been told of, and a whole life has gone well since.
            let _ = state.paths.remove_rings_aside(state.manifest.epoch);
        }
        state.bring_rings()?;
        if !paths::is_in_memory(&state.paths.runtime_dir)? {
            let runtime_dir = state.paths.runtime_dir.clone();
            state.notes.push(Note::NotInMemory { runtime_dir });
        }
        state.remove_aside();
        state.note_unknown()?;
        if state.manifest.shards != *shards {
            state.rebuild(*shards, steps)?;
        }
        Ok(state)
    }

    /// Which shard owns what: the same at each start with as many shards.
    #[must_use]
    pub const fn steering(&self) -> Steering {
        Steering::new(self.manifest.shards, self.manifest.seed)
    }

    /// The seed of that, for [`EngineConfig::seed`](crate::EngineConfig::seed).
    #[must_use]
    pub const fn seed(&self) -> u32 {
        self.manifest.seed
    }

    /// The records of a table, for each shard in turn, and who has to hear of their changes. `name` tells it from others: 1 to
    /// 128 printable characters of ASCII. `limits` are those of each shard. `now` is in seconds since 1970; what has expired
    /// goes with the first turns. Records are flagged for `sockets`, as [`TypedReplica::with_sockets`](super::TypedReplica::with_sockets) flags new ones.
    ///
    /// All shards are read at once, in a thread each. Ends with the same records and the same count of changes as the last
    /// process, unless [`notes`](Self::notes) say otherwise.
    ///
    /// # Errors
    /// [`StateError`]; among others: a table that was opened already is in use. The start has failed then: rings that it made and
    /// nothing is in are removed.
    pub fn table(
        &mut self,
        name: &str,
        family: Family,
        limits: Limits,
        now: i64,
        sockets: &Sockets,
    ) -> Result<Vec<(Store, Journaled)>, StateError> {
        // Whose they are is told by their key together with other things, and everybody tells of them all the time.
        if matches!(family, Family::Profiles | Family::Pipes) {
            let name = name.to_owned();
            return Err(StateError::NotDurable { name, family });
        }
        if let Err(error) = self.check_room(&[name]) {
            self.remove_new_rings(&[]);
            return Err(error);
        }
        let row = self.row(name, family)?;
        let places: Vec<_> = self.places(&row).collect();
        let (options, ring_bytes, now) = (self.options, self.ring_bytes, (now, self.ended));
        let begun: Vec<Result<Begun, StateError>> = thread::scope(|scope| {
            let begin = |place: Place| {
                scope.spawn(move || place.begin(limits, options, ring_bytes, now, sockets))
            };
            let threads: Vec<_> = places.into_iter().map(begin).collect();
            let ends = threads.into_iter().map(|thread| thread.join());
            ends.map(|end| end.expect("recovery does not panic"))
                .collect()
        });
        if begun.iter().any(Result::is_err) {
            let others = begun.iter().flatten();
            let others: Vec<_> = others.map(|begun| begun.watched.clone()).collect();
            self.remove_new_rings(&others);
        }
        let begun = begun.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.opened.insert(row.number);
        if self.manifest.ended {
            // From here on the rings may have what the disk has not.
            self.manifest.ended = false;
            if let Err(error) = self.store_manifest() {
                self.unwritten("a ring that is lost will not be missed", &error);
            }
        }
        let mut stores = Vec::new();
        for (begun, writers) in begun.into_iter().zip(&mut self.writers) {
            writers.push(begun.writer);
            self.watched.push(begun.watched);
            self.notes.extend(begun.notes);
            stores.push((begun.store, begun.journaled));
        }
        Ok(stores)
    }

    /// Begins to write. Tables that were not opened are made whole on the disk and stay there.
    ///
    /// # Errors
    /// [`StateError`]; nothing is left running.
    pub fn start(mut self) -> Result<(Journals, Vec<Note>), StateError> {
        let rows = self.manifest.tables.iter();
        let carried: Vec<_> = rows
            .filter(|row| !self.opened.contains(&row.number))
            .cloned()
            .collect();
        let mut is_settled = true;
        for row in carried {
            for place in self.places(&row).collect::<Vec<_>>() {
                let settled = place.settle(self.options, self.ended, &mut self.notes)?;
                if let Settled::Not(why) = settled {
                    let what = format!("{place}: its ring stays in memory");
                    self.notes.push(Note::Unwritten { what, why });
                    is_settled = false;
                }
            }
            let table = row.name;
            self.notes.push(Note::Carried { table });
        }
        let ended = OpenState {
            state_dir: self.state_dir,
            manifest: self.manifest,
            is_settled,
        };
        let journals = Journals::start(ended, self.watched, self.writers)?;
        Ok((journals, self.notes))
    }

    /// What an operator should know of this start so far.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The table of this name, which is made if there is none.
    fn row(&mut self, name: &str, family: Family) -> Result<TableRow, StateError> {
        if let Some(row) = self.manifest.find(name) {
            return if row.family == family {
                Ok(row.clone())
            } else {
                Err(StateError::OtherFamily {
                    name: name.to_owned(),
                    found: row.family,
                    wanted: family,
                })
            };
        }
        let mut manifest = self.manifest.clone();
        let row = manifest.add(name, family)?.clone();
        // First the folders: one that the manifest names and that is not there was lost.
        for place in self.places(&row) {
            paths::make(&place.folder)?;
        }
        paths::sync(&self.paths.of_epoch(manifest.epoch))?;
        paths::sync(&self.paths.state_dir)?;
        manifest.store(&self.state_dir, &self.paths.state_dir)?;
        self.manifest = manifest;
        Ok(row)
    }

    fn places(&self, row: &TableRow) -> impl Iterator<Item = Place> {
        let shards = 0..self.manifest.shards;
        shards.map(|shard| Place::new(&self.paths, &self.manifest, row, shard))
    }

    fn store_manifest(&self) -> Result<(), StateError> {
        self.manifest.store(&self.state_dir, &self.paths.state_dir)
    }

    /// Notes what is not as it should be because it could not be written.
    fn unwritten(&mut self, what: &str, error: &StateError) {
        let (what, why) = (what.to_owned(), error.to_string());
        self.notes.push(Note::Unwritten { what, why });
    }

    fn note_unknown(&mut self) -> Result<(), StateError> {
        let ours = self.paths.of_epoch(self.manifest.epoch);
        let names = self.paths.epochs()?.into_iter();
        let paths = names.map(|name| self.paths.state_dir.join(name));
        // What could not be removed is told of already.
        let aside = self.paths.of_epoch(self.manifest.aside);
        let unknown = paths.filter(|path| *path != ours && *path != aside);
        self.notes
            .extend(unknown.map(|path| Note::Unknown { path }));
        Ok(())
    }
}

/// The manifest of a state that begins.
fn begin(paths: &Paths, folder: &Folder, shards: u16) -> Result<Manifest, StateError> {
    if let Some(epoch) = paths.epochs()?.into_iter().next() {
        return Err(StateError::NoManifest {
            path: paths.state_dir.clone(),
            folder: epoch,
        });
    }
    let inode = paths::inode(&paths.state_dir)?;
    let manifest = Manifest::new(shards, &paths.runtime_dir, inode);
    manifest.store(folder, &paths.state_dir)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests;
