//! Another number of shards: every record to the shard that owns its key now.
//!
//! ```text
//!   manifest: old epoch, aside new ─▶ folders of the new epoch, each with a whole snapshot ─▶ synced
//!        ─▶ manifest: new epoch, aside old ─▶ folders and rings of the old one removed ─▶ manifest: aside none
//! ```
//!
//! The manifest names one whole epoch at any moment. What it says to be aside is removed at the next start, if it is still
//! there: a new epoch that was not finished, or an old one whose removal was not.

use std::time::{Duration, Instant};

use binrush_journal::{Appender, Folder, Options, Report, Ring, Status, Step, Writer};
use binrush_store::Record;

use super::State;
use super::error::StateError;
use super::journal::Place;
use super::journaled::TABLE;
use super::manifest::{Manifest, TableRow, epoch_drawn};
use super::paths::{make, sync};
use super::recovered::Note;
use crate::steering::Steering;

/// Asked before each step whether to go on: a test that says no stands for a kill.
pub(super) type Steps<'s> = dyn FnMut(&'static str) -> Result<(), StateError> + 's;

/// Gives the records of a table to the shards that own them now; says each step.
pub(super) type Fill<'f> = dyn FnMut(
        &mut State,
        &TableRow,
        &Steering,
        &mut [Sink<'_>],
        &mut Steps<'_>,
    ) -> Result<(), StateError>
    + 'f;

/// The journal of one of the new shards, as long as records come.
pub(super) struct Sink<'t> {
    table: &'t TableRow,
    shard: u16,
    shards_before: u16,
    appender: Appender,
    writer: Writer<Folder>,
    records: u32,
    now: Duration,
}

impl State {
    /// Shares all records out to `shards`.
    pub(super) fn rebuild(&mut self, shards: u16, steps: &mut Steps<'_>) -> Result<(), StateError> {
        let began = Instant::now();
        let from = self.manifest.shards;
        let next = Manifest {
            shards,
            ..self.manifest.clone()
        };
        let mut records = 0;
        self.renew(
            next,
            from,
            steps,
            &mut |state, row, steering, sinks, steps| {
                for shard in 0..from {
                    records += state.share(row, shard, steering, sinks)?;
                    steps("read a shard")?;
                }
                Ok(())
            },
        )?;
        self.notes.push(Note::Shared {
            records,
            from,
            to: shards,
            took: began.elapsed(),
        });
        Ok(())
    }

    /// Writes all tables of `next` into a new epoch, which the manifest names when they are whole: `fill` gives the records of each
    /// to the shards that own them. The epoch before it is removed. Errors speak of `shards_before`, those to start with again.
    pub(super) fn renew(
        &mut self,
        mut next: Manifest,
        shards_before: u16,
        steps: &mut Steps<'_>,
        fill: &mut Fill<'_>,
    ) -> Result<(), StateError> {
        (next.epoch, next.aside) = (epoch_drawn(), self.manifest.epoch);
        steps("say that a new epoch is being made")?;
        self.manifest.aside = next.epoch;
        self.store_manifest()?;
        let steering = Steering::new(next.shards, next.seed);
        make(&self.paths.of_epoch(next.epoch))?;
        for row in &next.tables {
            steps("begin a table")?;
            let places = (0..next.shards).map(|shard| Place::new(&self.paths, &next, row, shard));
            let sinks = places.map(|place| Sink::new(row, &place, shards_before, self.options));
            let mut sinks = sinks.collect::<Result<Vec<_>, _>>()?;
            fill(self, row, &steering, &mut sinks, steps)?;
            for sink in sinks {
                sink.end()?;
                steps("end a snapshot")?;
            }
        }
        sync(&self.paths.of_epoch(next.epoch))?;
        sync(&self.paths.state_dir)?;
        steps("name the new epoch")?;
        let old = std::mem::replace(&mut self.manifest, next);
        if let Err(error) = self.store_manifest() {
            self.manifest = old;
            return Err(error);
        }
        steps("remove the old epoch")?;
        self.remove_aside();
        Ok(())
    }

    /// Removes what is aside. That it stays keeps nobody from starting: nothing reads it.
    pub(super) fn remove_aside(&mut self) {
        let epoch = self.manifest.aside;
        if epoch == 0 {
            return;
        }
        let removed = self.paths.remove_epoch(epoch);
        let removed = removed.and_then(|()| sync(&self.paths.state_dir));
        let stored = removed.and_then(|()| {
            let manifest = Manifest {
                aside: 0,
                ..self.manifest.clone()
            };
            manifest.store(&self.state_dir, &self.paths.state_dir)
        });
        match stored {
            Ok(()) => self.manifest.aside = 0,
            Err(error) => self.unwritten("what is of no use stays in the state directory", &error),
        }
    }

    /// Gives the records of one old shard to those who own them now; says how many.
    pub(super) fn share(
        &mut self,
        row: &TableRow,
        shard: u16,
        steering: &Steering,
        sinks: &mut [Sink<'_>],
    ) -> Result<u64, StateError> {
        let place = Place::new(&self.paths, &self.manifest, row, shard);
        let mut done = Ok(());
        let recovered = place.read(&mut |_, _, flat| {
            if done.is_ok() {
                let owner = steering.owner_of_key(key_of(flat, &row.name));
                done = sinks[usize::from(owner)].give(flat);
            }
        })?;
        done?;
        let of = (&*row.name, shard);
        recovered.notes(of, place.ring, self.manifest.ended, &mut self.notes);
        Ok(recovered.records)
    }
}

impl<'t> Sink<'t> {
    fn new(
        table: &'t TableRow,
        place: &Place,
        shards_before: u16,
        options: Options,
    ) -> Result<Self, StateError> {
        let folder = Folder::open(&place.folder)?;
        let ring = Ring::in_memory(place.identity, RING_BYTES, 0);
        let started = ring.map_err(Into::into).and_then(|ring| {
            binrush_journal::start(folder, ring, place.identity, options, &Report::default())
        });
        let (appender, writer) = started.map_err(|source| StateError::Start {
            table: table.name.clone(),
            shard: place.shard,
            source,
        })?;
        let mut sink = Self {
            table,
            shard: place.shard,
            shards_before,
            appender,
            writer,
            records: 0,
            now: Duration::ZERO,
        };
        sink.until_taken(|appender| appender.begin_snapshot())?;
        Ok(sink)
    }

    /// Takes one record.
    pub(super) fn give(&mut self, flat: &[u8]) -> Result<(), StateError> {
        let place = self.records;
        self.records += 1;
        self.until_taken(|appender| appender.snapshot_record(TABLE, place, flat))
    }

    /// Makes the snapshot durable.
    fn end(mut self) -> Result<(), StateError> {
        self.until_taken(Appender::end_snapshot)?;
        while self.turn()? {}
        let ended = self.writer.finish(self.now);
        match ended {
            Ok(()) if self.status().snapshots() == 1 => Ok(()),
            Ok(()) => Err(self.failed("the snapshot was not completed".into())),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn until_taken(
        &mut self,
        mut step: impl FnMut(&mut Appender) -> Step,
    ) -> Result<(), StateError> {
        loop {
            match step(&mut self.appender) {
                Step::Taken => return Ok(()),
                Step::NoRoom => _ = self.turn()?,
                Step::Abandoned => {
                    let why = self.status().alarm();
                    return Err(self.failed(why.unwrap_or_else(|| "it was given up".into())));
                }
            }
        }
    }

    /// Moves what was given to the disk; says whether there is more.
    fn turn(&mut self) -> Result<bool, StateError> {
        self.now += Duration::from_millis(1);
        let turn = self.writer.turn(self.now);
        match self.status().alarm() {
            Some(alarm) => Err(self.failed(alarm)),
            None => Ok(turn.more),
        }
    }

    const fn status(&self) -> &std::sync::Arc<Status> {
        self.writer.status()
    }

    fn failed(&self, what: String) -> StateError {
        StateError::Rebuild {
            table: self.table.name.clone(),
            shard: self.shard,
            shards_before: self.shards_before,
            what,
        }
    }
}

/// What the owner of a record is found by, as for the packets about it: Call-ID, AoR, key of a cached entry; else the name of
/// the capability. What is no record goes with those: a newer binrush may know it.
pub(super) fn key_of<'a>(flat: &'a [u8], table: &'a str) -> &'a [u8] {
    match Record::read(flat) {
        Ok((Record::Dialog(dialog), _)) => dialog.callid,
        Ok((Record::Aor(aor), _)) => aor.aor,
        Ok((Record::Contact(contact), _)) => contact.aor,
        Ok((Record::Cached(cached), _)) => cached.key,
        // No table has counts: their owners are found by more than one word.
        Ok((Record::Profile(..) | Record::Pipe(..), _)) | Err(_) => {
            let (_, capability) = table.split_once('/').unwrap_or(("", table));
            capability.as_bytes()
        }
    }
}

/// Room for the longest record in half of it.
const RING_BYTES: usize = 4 << 20;
