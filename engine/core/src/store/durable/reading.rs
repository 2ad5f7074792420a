//! For tools: what is in a state directory, without a lock and without a change, while somebody may be writing it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use binrush_journal::ring::CAPACITY_MAX;
use binrush_journal::{FileError, FileReport, Folder, Identity, Ring};
use binrush_store::{Family, Record};

use super::error::StateError;
use super::journal::Place;
use super::manifest::Manifest;
use super::paths::Paths;
use super::recovered::{Recovered, RingFound};

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The table that it is in.
    pub table: &'a str,
    /// What that table has.
    pub family: Family,
    /// The shard that owned it.
    pub shard: u16,
    /// Its place there.
    pub place: u32,
    /// The record, as [`binrush_store::flat`] has it. Nobody has looked into it.
    pub flat: &'a [u8],
}

/// How a state is kept: what [`StateOptions`](super::StateOptions) have to say for it to stay so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How many shards own its records.
    pub shards: u16,
    /// The folder of its rings.
    pub runtime_dir: PathBuf,
    /// Name and family of each table.
    pub tables: Vec<(String, Family)>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// How many shards wrote it.
    pub shards: u16,
    /// The life of the state.
    pub epoch: u64,
    /// By table and shard.
    pub journals: Vec<JournalReading>,
}

/// What was read of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalReading {
    /// The table.
    pub table: String,
    /// What it has.
    pub family: Family,
    /// The shard.
    pub shard: u16,
    /// What its records come from. Those that make no sense are not counted as kept out.
    pub recovered: Recovered,
}

/// What is good and bad of a state.
#[derive(Debug)]
pub struct Verified {
    /// How many shards wrote it.
    pub shards: u16,
    /// The life of the state.
    pub epoch: u64,
    /// Whether its engine ended in order: everything had been synced then.
    pub ended: bool,
    /// By table and shard.
    pub journals: Vec<JournalCheck>,
}

/// What is good and bad of a journal.
#[derive(Debug)]
pub struct JournalCheck {
    /// The table.
    pub table: String,
    /// What it has.
    pub family: Family,
    /// The shard.
    pub shard: u16,
    /// Where its files are.
    pub folder: PathBuf,
    /// Each file by itself.
    pub files: Result<Vec<FileReport>, FileError>,
    /// What a start would find. Records that make no sense are counted as kept out.
    pub recovered: Result<Recovered, FileError>,
    /// The first of those, by its place, and what is wrong with it.
    pub first_kept_out: Option<(u32, String)>,
}

/// How the state in a folder is kept; `None`: there is none.
///
/// # Errors
/// [`StateError`]: one of a newer binrush, or its manifest cannot be read.
pub fn standing(state_dir: &Path) -> Result<Option<Standing>, StateError> {
    let manifest = Manifest::load(&Folder::to_read(state_dir), state_dir)?;
    Ok(manifest.map(|manifest| {
        let tables = manifest.tables.into_iter();
        Standing {
            shards: manifest.shards,
            runtime_dir: manifest.runtime_dir,
            tables: tables.map(|row| (row.name, row.family)).collect(),
        }
    }))
}

/// Shows `each` record that a start would find, table by table, shard by shard, by place. Rings are not looked at without
/// `runtime_dir`.
///
/// Of a state that is being written each journal is as it was at one moment.
///
/// # Errors
/// [`StateError`]: no state, one of a newer binrush, or a journal that cannot be read; tables before it were shown.
pub fn read(
    state_dir: &Path,
    runtime_dir: Option<&Path>,
    each: &mut dyn FnMut(&Row<'_>),
) -> Result<Reading, StateError> {
    let (manifest, places) = open(state_dir, runtime_dir)?;
    let mut journals = Vec::new();
    for place in &places {
        let recovered = look_into(place, runtime_dir.is_some(), &mut |number, flat| {
            each(&Row {
                table: &place.row.name,
                family: place.row.family,
                shard: place.shard,
                place: number,
                flat,
            });
            Ok(())
        });
        journals.push(JournalReading {
            table: place.row.name.clone(),
            family: place.row.family,
            shard: place.shard,
            recovered: recovered.map_err(|source| place.failed(source))?.0,
        });
    }
    Ok(Reading {
        shards: manifest.shards,
        epoch: manifest.epoch,
        journals,
    })
}

/// Reads every file, those too that no start would, and looks into every record.
///
/// # Errors
/// [`StateError`]: there is no state, or its manifest cannot be read, or a folder is gone. What is wrong with a journal is in
/// its [`JournalCheck`].
pub fn verify(state_dir: &Path, runtime_dir: Option<&Path>) -> Result<Verified, StateError> {
    verify_some(state_dir, runtime_dir, &|_, _| true)
}

/// As [`verify`], of the journals only that are `wanted`, by table and shard.
///
/// # Errors
/// Those of [`verify`].
pub fn verify_some(
    state_dir: &Path,
    runtime_dir: Option<&Path>,
    wanted: &dyn Fn(&str, u16) -> bool,
) -> Result<Verified, StateError> {
    let (manifest, places) = open(state_dir, runtime_dir)?;
    let wanted = |place: &&Place| wanted(&place.row.name, place.shard);
    let checks = places.iter().filter(wanted).map(|place| {
        let family = place.row.family;
        let files = binrush_journal::verify(&Folder::to_read(&place.folder), place.identity);
        let mut belongs = |_, flat: &[u8]| match Record::read(flat) {
            Err(error) => Err(error.to_string()),
            Ok((record, _)) if Family::of(record.kind()) != family => Err(format!(
                "a record of kind {} does not belong among {family:?}",
                record.kind().name()
            )),
            Ok(_) => Ok(()),
        };
        let recovered = look_into(place, runtime_dir.is_some(), &mut belongs);
        let (recovered, first_kept_out) = match recovered {
            Ok((recovered, first)) => (Ok(recovered), first),
            Err(error) => (Err(error), None),
        };
        JournalCheck {
            table: place.row.name.clone(),
            family,
            shard: place.shard,
            folder: place.folder.clone(),
            files,
            recovered,
            first_kept_out,
        }
    });
    Ok(Verified {
        shards: manifest.shards,
        epoch: manifest.epoch,
        ended: manifest.ended,
        journals: checks.collect(),
    })
}

/// What looks into a record, at its place, and says what is wrong with it.
type Look<'l> = dyn FnMut(u32, &[u8]) -> Result<(), String> + 'l;

fn open(
    state_dir: &Path,
    runtime_dir: Option<&Path>,
) -> Result<(Manifest, Vec<Place>), StateError> {
    let paths = Paths {
        state_dir: state_dir.to_path_buf(),
        runtime_dir: runtime_dir.unwrap_or(state_dir).to_path_buf(),
    };
    let manifest = Manifest::load(&Folder::to_read(state_dir), state_dir)?;
    let manifest = manifest.ok_or_else(|| StateError::NoState {
        path: state_dir.to_path_buf(),
    })?;
    let mut places = Vec::new();
    for row in &manifest.tables {
        for shard in 0..manifest.shards {
            let place = Place::new(&paths, &manifest, row, shard);
            if !place.folder.is_dir() {
                return Err(StateError::FolderGone {
                    path: place.folder,
                    table: place.row.name,
                    shard,
                });
            }
            places.push(place);
        }
    }
    Ok((manifest, places))
}

/// Shows each record of a journal to `each`. What was recovered, and the first record that something is wrong with.
fn look_into(
    place: &Place,
    asks_ring: bool,
    each: &mut Look<'_>,
) -> Result<(Recovered, Option<(u32, String)>), FileError> {
    let began = Instant::now();
    let mut tries = 0..TRIES;
    let (mut kept_out, mut first) = (0, None);
    let (report, found) = loop {
        // First the ring, then the files: what goes from the one to the others meanwhile is met twice, and not never.
        let (ring, found) = match asks_ring {
            true => copy_of(&place.ring, place.identity),
            false => (None, RingFound::NotAsked),
        };
        let mut check = |_: u8, number: u32, flat: &[u8]| {
            if let Err(why) = each(number, flat) {
                kept_out += 1;
                first.get_or_insert((number, why));
            }
        };
        let folder = Folder::to_read(&place.folder);
        match binrush_journal::recover(&folder, place.identity, ring.as_ref(), &mut check) {
            // A file that was there a moment ago: a snapshot has replaced it.
            Err(FileError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {}
            recovered => break (recovered?, found),
        }
    };
    let recovered = Recovered::new(&report, found, kept_out, began.elapsed());
    Ok((recovered, first))
}

/// A copy of a ring as its bytes are now, for who must not touch it.
fn copy_of(path: &Path, identity: Identity) -> (Option<Ring>, RingFound) {
    let bytes = match bytes_of(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, RingFound::Missing),
        Err(error) => return (None, RingFound::Refused(error.to_string())),
    };
    let ring = match Ring::of_bytes(&bytes) {
        Ok(ring) => ring,
        Err(error) => return (None, RingFound::Refused(error.to_string())),
    };
    let found = ring.identity();
    if found != identity {
        let why = format!("the ring of {found}, not of {identity}");
        return (None, RingFound::Refused(why));
    }
    (Some(ring), RingFound::Used)
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    // A page before the frames, and one byte more than any ring has.
    let limit = CAPACITY_MAX as u64 + 4097;
    file.take(limit).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == limit {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

/// How often a journal is begun anew whose files go while it is read.
const TRIES: u32 = 5;
