//! One journal at the start: its ring, its records back in a store, and on from there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use binrush_journal::ring::CAPACITY_MIN;
use binrush_journal::{
    Appender, FileError, Folder, Identity, Options, Report, Ring, RingError, Status, Writer,
};
use binrush_store::store::{Key, RestoreError};
use binrush_store::{Effects, Kind, Limits, Record, Status as Flags, Store};

use super::error::StateError;
use super::journaled::Journaled;
use super::manifest::{Manifest, TableRow};
use super::paths::{Paths, put_aside};
use super::recovered::{Note, Recovered, RingFound};
use crate::config::Sockets;
use crate::store::status_of_record;

/// Where the journal of a table on a shard is, and how it is kept.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) row: TableRow,
    pub(super) shard: u16,
    pub(super) identity: Identity,
    pub(super) folder: PathBuf,
    pub(super) ring: PathBuf,
}

/// A journal that has begun, and the records that it begins with.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) store: Store,
    pub(super) journaled: Journaled,
    pub(super) writer: Writer<Folder>,
    pub(super) watched: Watched,
    pub(super) notes: Vec<Note>,
}

/// What other threads see of a journal.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) table: Arc<str>,
    pub(super) shard: u16,
    pub(super) ring: Arc<Ring>,
    pub(super) status: Arc<Status>,
    pub(super) recovered: Arc<Recovered>,
    /// Where the ring is.
    pub(super) path: PathBuf,
}

/// What became of the changes in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    /// The disk has them.
    All,
    /// It has not, and why: the ring has to stay.
    Not(String),
}

/// Records that were not put back where they were.
#[derive(Debug, Default)]
struct Astray {
    kept_out: u64,
    first: Option<(u32, String)>,
    /// From where to where, for want of a place: the limit is lower than it was.
    moved: Vec<(u32, u32, Box<[u8]>)>,
    /// Places above the limit of what stands below it as well: its move was cut short by a kill.
    twice: Vec<u32>,
    flat: Vec<u8>,
}

impl Place {
    pub(super) fn new(paths: &Paths, manifest: &Manifest, row: &TableRow, shard: u16) -> Self {
        let (epoch, number) = (manifest.epoch, row.number);
        Self {
            row: row.clone(),
            shard,
            identity: manifest.identity(number, shard),
            folder: paths.of_journal(epoch, number, shard),
            ring: paths.of_ring(epoch, number, shard),
        }
    }

    /// Puts its records back into a store of these limits, and goes on with the same folder and ring. `now` is in seconds since
    /// 1970; `ended`: nobody misses a ring. Records are flagged for these `sockets`, whatever those of the last start were.
    pub(super) fn begin(
        &self,
        limits: Limits,
        options: Options,
        ring_bytes: usize,
        (now, ended): (i64, bool),
        sockets: &Sockets,
    ) -> Result<Begun, StateError> {
        let began = Instant::now();
        let mut notes = Vec::new();
        let (ring, found) = self.old_ring(options, ring_bytes, ended, &mut notes)?;
        let folder = self.open_folder()?;
        let mut store = Store::new(self.row.family, limits);
        let mut astray = Astray::default();
        let mut restore = |_: u8, place: u32, flat: &[u8]| {
            astray.restore(&mut store, place, flat, sockets);
        };
        let report = self.recover(&folder, ring.as_ref(), &mut restore)?;
        let ring = match ring {
            Some(ring) => ring,
            None => Ring::create(&self.ring, self.identity, ring_bytes, report.lsn)
                .map_err(|source| self.ring_failed(source))?,
        };
        let (appender, writer) = self.start(folder, ring, options, &report)?;
        let mut watched = Watched::new(self, &appender);
        let mut journaled = Journaled::new(appender);
        for from in astray.twice {
            journaled.gone(from);
        }
        for (from, to, flat) in astray.moved {
            journaled.moved(from, to, &flat);
        }
        store.restored(now, &mut journaled);
        let recovered = Recovered::new(&report, found, astray.kept_out, began.elapsed());
        let of = (&*self.row.name, self.shard);
        recovered.notes(of, self.ring.clone(), ended, &mut notes);
        if let Some(first) = astray.first {
            notes.push(Note::KeptOut {
                table: self.row.name.clone(),
                shard: self.shard,
                records: astray.kept_out,
                first,
            });
        }
        watched.recovered = Arc::new(recovered);
        Ok(Begun {
            store,
            journaled,
            writer,
            watched,
            notes,
        })
    }

    /// Moves what is in its ring to the disk, and puts the smallest one there is in its place: for a table that nobody opens,
    /// and before a ring of another size. What was found is noted; `ended`: nobody misses a ring.
    pub(super) fn settle(
        &self,
        options: Options,
        ended: bool,
        notes: &mut Vec<Note>,
    ) -> Result<Settled, StateError> {
        match self.open_ring()? {
            (Some(ring), _) if ring.used() == 0 && ring.capacity() == CAPACITY_MIN as u64 => {
                Ok(Settled::All)
            }
            (None, RingFound::Missing) if ended => Ok(Settled::All),
            (ring, found) => {
                let (settled, lsn) = self.flush(ring, found, options, ended, notes)?;
                if let Settled::All = settled {
                    let smallest = Ring::create(&self.ring, self.identity, CAPACITY_MIN, lsn);
                    smallest.map_err(|source| self.ring_failed(source))?;
                }
                Ok(settled)
            }
        }
    }

    /// Moves what is in its ring to the disk, whether there is a ring or not.
    pub(super) fn bring(
        &self,
        options: Options,
        ended: bool,
        notes: &mut Vec<Note>,
    ) -> Result<Settled, StateError> {
        match self.open_ring()? {
            (None, RingFound::Missing) if ended => Ok(Settled::All),
            (ring, found) => Ok(self.flush(ring, found, options, ended, notes)?.0),
        }
    }

    /// Moves what is in its ring to the disk, and says the number of the last change. The ring stays, and nobody has it.
    fn flush(
        &self,
        ring: Option<Ring>,
        found: RingFound,
        options: Options,
        ended: bool,
        notes: &mut Vec<Note>,
    ) -> Result<(Settled, u64), StateError> {
        let began = Instant::now();
        let folder = self.open_folder()?;
        let report = self.recover(&folder, ring.as_ref(), &mut |_, _, _| {})?;
        let recovered = Recovered::new(&report, found, 0, began.elapsed());
        let of = (&*self.row.name, self.shard);
        recovered.notes(of, self.ring.clone(), ended, notes);
        let Some(ring) = ring else {
            return Ok((Settled::All, report.lsn));
        };
        let (_, mut writer) = self.start(folder, ring, options, &report)?;
        let settled = match writer.finish(Duration::ZERO) {
            Err(error) => Settled::Not(error.to_string()),
            Ok(()) if writer.status().is_lagging() => {
                let why = writer.status().alarm();
                Settled::Not(why.unwrap_or_else(|| "only a snapshot makes it good".to_owned()))
            }
            Ok(()) => Settled::All,
        };
        Ok((settled, report.lsn))
    }

    /// Reads its records, of which `each` is shown, and what there is of its ring.
    pub(super) fn read(
        &self,
        each: &mut dyn FnMut(u8, u32, &[u8]),
    ) -> Result<Recovered, StateError> {
        let began = Instant::now();
        let (ring, found) = self.open_ring()?;
        let report = self.recover(&Folder::to_read(&self.folder), ring.as_ref(), each)?;
        Ok(Recovered::new(&report, found, 0, began.elapsed()))
    }

    /// Its ring, if there is one of this size, or one that has to stay as it is.
    fn old_ring(
        &self,
        options: Options,
        ring_bytes: usize,
        ended: bool,
        notes: &mut Vec<Note>,
    ) -> Result<(Option<Ring>, RingFound), StateError> {
        let (ring, found) = self.open_ring()?;
        match ring {
            Some(ring) if ring.capacity() != ring_bytes as u64 => {
                let bytes = ring.capacity();
                // What is locked cannot be opened again.
                drop(ring);
                match self.settle(options, ended, notes)? {
                    Settled::All => Ok((None, found)),
                    Settled::Not(why) => {
                        notes.push(Note::Unwritten {
                            what: format!("{self}: its ring keeps its {bytes} bytes"),
                            why,
                        });
                        self.open_ring()
                    }
                }
            }
            ring => Ok((ring, found)),
        }
    }

    /// Its ring, if there is one; what is none is put aside.
    fn open_ring(&self) -> Result<(Option<Ring>, RingFound), StateError> {
        if !self.ring.exists() {
            return Ok((None, RingFound::Missing));
        }
        match Ring::open(&self.ring, self.identity) {
            Ok(ring) => Ok((Some(ring), RingFound::Used)),
            Err(error @ (RingError::Damaged { .. } | RingError::Foreign { .. })) => {
                put_aside(&self.ring)?;
                Ok((None, RingFound::Refused(error.to_string())))
            }
            // A newer one has changes that we would not see; one that others may write may say anything.
            Err(source) => Err(self.ring_failed(source)),
        }
    }

    fn open_folder(&self) -> Result<Folder, StateError> {
        if !self.folder.is_dir() {
            return Err(StateError::FolderGone {
                path: self.folder.clone(),
                table: self.row.name.clone(),
                shard: self.shard,
            });
        }
        Ok(Folder::open(&self.folder)?)
    }

    fn recover(
        &self,
        folder: &Folder,
        ring: Option<&Ring>,
        each: &mut dyn FnMut(u8, u32, &[u8]),
    ) -> Result<Report, StateError> {
        let report = binrush_journal::recover(folder, self.identity, ring, each);
        report.map_err(|source| self.failed(source))
    }

    fn start(
        &self,
        folder: Folder,
        ring: Ring,
        options: Options,
        report: &Report,
    ) -> Result<(Appender, Writer<Folder>), StateError> {
        let started = binrush_journal::start(folder, ring, self.identity, options, report);
        started.map_err(|source| StateError::Start {
            table: self.row.name.clone(),
            shard: self.shard,
            source,
        })
    }

    pub(super) fn failed(&self, source: FileError) -> StateError {
        StateError::Journal {
            table: self.row.name.clone(),
            shard: self.shard,
            path: self.folder.clone(),
            source,
        }
    }

    fn ring_failed(&self, source: RingError) -> StateError {
        StateError::Ring {
            table: self.row.name.clone(),
            shard: self.shard,
            path: self.ring.clone(),
            source,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on shard {}", self.row.name, self.shard)
    }
}

impl Watched {
    fn new(place: &Place, appender: &Appender) -> Self {
        let nothing = Recovered::new(&Report::default(), RingFound::Missing, 0, Duration::ZERO);
        Self {
            table: place.row.name.as_str().into(),
            shard: place.shard,
            ring: Arc::clone(appender.ring()),
            status: Arc::clone(appender.status()),
            recovered: Arc::new(nothing),
            path: place.ring.clone(),
        }
    }

    /// Whether nothing was appended since the start.
    pub(super) fn is_untouched(&self) -> bool {
        self.ring.used() == 0 && self.ring.missed() == 0 && self.ring.lsn() == self.recovered.lsn
    }

    /// Whether everything that was appended outlives the power, and there is no gap in it.
    pub(super) fn is_on_disk(&self) -> bool {
        !self.status.is_lagging() && self.status.durable() == self.ring.lsn()
    }
}

impl Astray {
    fn restore(&mut self, store: &mut Store, place: u32, flat: &[u8], sockets: &Sockets) {
        let Self {
            moved,
            twice,
            flat: flagged,
            ..
        } = self;
        let flat = flag(flat, sockets, flagged);
        let restored = match store.restore(place, flat) {
            Err(RestoreError::NoPlace { .. }) if is_there(store, flat) => {
                twice.push(place);
                Ok(())
            }
            // Records come by place, so all that follow are adopted as well, and none comes to where this one goes.
            Err(RestoreError::NoPlace { .. }) => store.adopt(flat).map(|to| {
                if to != place {
                    moved.push((place, to, flat.into()));
                }
            }),
            restored => restored,
        };
        if let Err(error) = restored {
            self.kept_out += 1;
            self.first.get_or_insert_with(|| (place, error.to_string()));
        }
    }
}

/// The record, flagged for these `sockets`; in `flagged`, if it was flagged otherwise.
fn flag<'f>(flat: &'f [u8], sockets: &Sockets, flagged: &'f mut Vec<u8>) -> &'f [u8] {
    let [kind, status, ..] = *flat else {
        return flat;
    };
    // Most records are flagged rightly, and most configurations let nobody look at them for that.
    let has_sockets = kind == Kind::Dialog as u8 || kind == Kind::Contact as u8;
    if !has_sockets || (sockets.know_all() && status & Flags::NO_SOCKET.0 == 0) {
        return flat;
    }
    let Ok((record, _)) = Record::read(flat) else {
        return flat;
    };
    let wanted = status & !Flags::NO_SOCKET.0 | status_of_record(&record, sockets).0;
    if wanted == status {
        return flat;
    }
    flagged.clear();
    flagged.extend_from_slice(flat);
    flagged[1] = wanted;
    flagged
}

/// Whether the store has this very record already.
fn is_there(store: &Store, flat: &[u8]) -> bool {
    let key = match Record::read(flat) {
        Ok((Record::Dialog(dialog), _)) => Key::Dialog(dialog.callid),
        Ok((Record::Aor(aor), _)) => Key::Aor(aor.domain, aor.aor),
        Ok((Record::Contact(contact), _)) => Key::Aor(contact.domain, contact.aor),
        Ok((Record::Cached(cached), _)) => Key::Cached(cached.collection, cached.key),
        Ok((Record::Profile(..) | Record::Pipe(..), _)) | Err(_) => return false,
    };
    let mut is_there = false;
    store.find(&key, &mut |_, found| is_there |= found == flat);
    is_there
}
