//! What was found at a start.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use binrush_journal::{Hole, Refused, Report};

/// What a journal was recovered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The change after which the snapshot began with which recovery did; `None`: it began with nothing.
    pub snapshot: Option<u64>,
    /// Records of that snapshot.
    pub snapshot_records: u64,
    /// Changes out of the log.
    pub ops: u64,
    /// Changes out of the ring.
    pub ring_ops: u64,
    /// The number of the last change.
    pub lsn: u64,
    /// Records that there were then.
    pub records: u64,
    /// Of those, how many could not be put back: they say nothing that this binrush understands.
    pub kept_out: u64,
    /// Bytes at the ends of files of the log that were not used, as a loss of power leaves them.
    pub torn_bytes: u64,
    /// Files that could not be used, or not to their end.
    pub refused: Vec<Refused>,
    /// Where changes are missing; those behind it were not applied.
    pub hole: Option<Hole>,
    /// Changes that never were logged, because the ring was full, behind the last one that was.
    pub missed: u64,
    /// What there was of the ring.
    pub ring: RingFound,
    /// Whether this is all that had been logged: no hole, nothing refused but the torn end of a log.
    pub is_whole: bool,
    /// How long it took, records put back included.
    pub took: Duration,
}

/// What there was of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingFound {
    /// It is as the shard left it.
    Used,
    /// There is none: of a journal that is new, after a loss of power, or in another folder.
    Missing,
    /// It cannot be used, or not to its end: why, as a sentence.
    Refused(String),
    /// Nobody said where it is.
    NotAsked,
}

/// What an operator should know of a start, and that kept nobody from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// Rings are written to a disk now and then, and are slower for it.
    NotInMemory {
        /// The runtime directory.
        runtime_dir: PathBuf,
    },
    /// Changes that were only in a ring are gone with it.
    RingMissing {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// Where it should be.
        path: PathBuf,
    },
    /// A ring of an earlier life, which went on in another folder.
    RingAside {
        /// Where it was.
        path: PathBuf,
        /// Where it is now; it goes after the next end in order.
        aside: PathBuf,
    },
    /// Something could not be used.
    Refused {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// What, where and why.
        what: String,
    },
    /// Changes are missing.
    Hole {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// Where.
        hole: Hole,
    },
    /// Records could not be put back.
    KeptOut {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// How many.
        records: u64,
        /// The place of the first, and what is wrong with it.
        first: (u32, String),
    },
    /// A table that no cluster has any more.
    Carried {
        /// Its name.
        table: String,
    },
    /// Records were shared out anew.
    Shared {
        /// How many.
        records: u64,
        /// Shards before.
        from: u16,
        /// Shards now.
        to: u16,
        /// How long it took.
        took: Duration,
    },
    /// Records are there, and could be read; but something could not be written.
    Unwritten {
        /// What that means.
        what: String,
        /// Why.
        why: String,
    },
    /// A folder that the manifest does not name.
    Unknown {
        /// The folder.
        path: PathBuf,
    },
}

impl Note {
    /// The table of which records are missing.
    #[must_use]
    pub fn missing_of(&self) -> Option<&str> {
        match self {
            Self::RingMissing { table, .. }
            | Self::Refused { table, .. }
            | Self::Hole { table, .. }
            | Self::KeptOut { table, .. } => Some(table),
            _ => None,
        }
    }
}

impl Recovered {
    pub(super) fn new(report: &Report, ring: RingFound, kept_out: u64, took: Duration) -> Self {
        let ring = match (&report.ring_refused, ring) {
            (Some(why), _) => RingFound::Refused(why.clone()),
            (None, ring) => ring,
        };
        Self {
            snapshot: report.snapshot,
            snapshot_records: report.snapshot_records,
            ops: report.ops,
            ring_ops: report.ring_ops,
            lsn: report.lsn,
            records: report.records,
            kept_out,
            torn_bytes: report.torn_bytes(),
            refused: report.refused.clone(),
            hole: report.hole,
            missed: report.missed,
            ring,
            is_whole: report.is_whole(),
            took,
        }
    }

    /// What an operator should know of it. `path` is where its ring should be; after an end in order nobody misses it.
    pub(super) fn notes(
        &self,
        (table, shard): (&str, u16),
        path: PathBuf,
        ended: bool,
        notes: &mut Vec<Note>,
    ) {
        let named = || (table.to_owned(), shard);
        // A journal that was read twice tells of the same damage once.
        let mut tell = |note: Note| {
            if !notes.contains(&note) {
                notes.push(note);
            }
        };
        let mut refused: Vec<_> = self.refused.iter().map(ToString::to_string).collect();
        match &self.ring {
            RingFound::Missing if self.lsn > 0 && !ended => {
                let (table, shard) = named();
                tell(Note::RingMissing { table, shard, path });
            }
            RingFound::Refused(why) => refused.push(format!("{}: {why}", path.display())),
            _ => {}
        }
        for what in refused {
            let (table, shard) = named();
            tell(Note::Refused { table, shard, what });
        }
        if let Some(hole) = self.hole {
            let (table, shard) = named();
            tell(Note::Hole { table, shard, hole });
        }
    }
}

impl fmt::Display for RingFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("used"),
            Self::Missing => f.write_str("not there"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NotAsked => f.write_str("not looked at"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInMemory { runtime_dir } => write!(
                f,
                "{} is not in memory (tmpfs): the kernel writes the rings in it to a disk now and then; name a folder below /run",
                runtime_dir.display()
            ),
            Self::RingMissing { table, shard, path } => write!(
                f,
                "{table} on shard {shard}: its ring {} is not there, as after a loss of power: changes that were not on the disk yet, if any, are lost",
                path.display()
            ),
            Self::RingAside { path, aside } => write!(
                f,
                "{}: a ring of an earlier time, since which changes went elsewhere; nothing is read from it, and it is {} now",
                path.display(),
                aside.display()
            ),
            Self::Refused { table, shard, what } => {
                write!(f, "{table} on shard {shard}: {what}")
            }
            Self::Hole { table, shard, hole } => write!(
                f,
                "{table} on shard {shard}: changes {} to {} are missing; those behind them were not applied",
                hole.after.saturating_add(1),
                hole.next.saturating_sub(1)
            ),
            Self::KeptOut {
                table,
                shard,
                records,
                first: (place, why),
            } => write!(
                f,
                "{table} on shard {shard}: {records} records could not be put back, the first of them of place {place}: {why}"
            ),
            Self::Carried { table } => write!(
                f,
                "{table}: no cluster has it any more; its records stay in the state directory as they are"
            ),
            Self::Shared {
                records,
                from,
                to,
                took,
            } => write!(
                f,
                "{records} records of {from} shards were given to {to}, in {} ms",
                took.as_millis()
            ),
            // What a call failed with says in another line what to do.
            Self::Unwritten { what, why } => write!(f, "{what}: {}", why.replace("\n ", ";")),
            Self::Unknown { path } => write!(
                f,
                "{}: the manifest does not name it; it is left as it is, remove it if nobody needs it",
                path.display()
            ),
        }
    }
}
