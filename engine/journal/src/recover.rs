//! What a shard had, out of its folder and its ring.
//!
//! ```text
//!   snapshot-B ──▶ log-(B+1) ──▶ log-… ──▶ rest of the ring ──▶ records as they were after op `lsn`
//!      │ not whole, or ahead of the log: the older one, or none │
//!                    └── stops at the first bad block or jump ──┘
//! ```
//!
//! What is recovered is always what the shard had after one op, the last of an unbroken row: nothing of what comes after a
//! hole is applied, as places may have been given to other records there.

use crate::block::{BlockKind, Reader, Stop};
use crate::file::{FileError, Header, PAGE_LEN, Refused, What, Why, failed, names};
use crate::ring::drain::walk;
use crate::ring::{FrameKind, Ring};
use crate::vfs::Vfs;
use crate::{Hole, Identity};
use arena::Arena;

/// Records by place.
mod arena;
/// Every file of a folder by itself.
mod verify;

pub use verify::{FileReport, verify};

/// What was found, and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The op after which the snapshot began with which recovery did; `None` when it began with nothing, as there was no
    /// snapshot that could be used.
    pub snapshot: Option<u64>,
    /// Records of that snapshot.
    pub snapshot_records: u64,
    /// Ops applied out of the log.
    pub ops: u64,
    /// Bytes of the log behind the snapshot.
    pub log_bytes: u64,
    /// Ops applied out of the ring.
    pub ring_ops: u64,
    /// Records handed out.
    pub records: u64,
    /// The op after which the shard was as it is now.
    pub lsn: u64,
    /// Where the row of ops breaks off, when there are more behind it.
    pub hole: Option<Hole>,
    /// Files that could not be used, or not to their end. A power loss leaves one such end, in the last file of the log.
    pub refused: Vec<Refused>,
    /// What is wrong with the ring, as a sentence.
    pub ring_refused: Option<String>,
    /// Ops that the shard could not log, because the ring was full, after the last one that it could.
    pub missed: u64,
    /// The position in the ring behind what was applied of it.
    pub(crate) ring_end: u64,
    /// The last op that is in the log on the disk.
    pub(crate) log_lsn: u64,
    /// Complete snapshots, by the op after which they began; the oldest first.
    pub(crate) kept: Vec<u64>,
    /// Files that are in the way of going on.
    pub(crate) superseded: Vec<String>,
    /// Files of the log that may not have reached the disk.
    pub(crate) to_sync: Vec<String>,
}

/// Reads `vfs`, and of `ring` what is not in the log yet, and shows `each` record that there was at the end.
///
/// Changes nothing. Each record is shown once, as table, place and bytes, in the order of table and place. Memory: about
/// that of the records, and of those that ops since the snapshot replaced with longer ones.
///
/// # Errors
/// [`FileError`], before any record was shown: a call failed, or a file is somebody else's or newer. What is only damaged
/// is passed over and told of in the [`Report`].
pub fn recover<V: Vfs>(
    vfs: &V,
    identity: Identity,
    ring: Option<&Ring>,
    each: &mut dyn FnMut(u8, u32, &[u8]),
) -> Result<Report, FileError> {
    let mut recovery = Recovery::look(vfs, identity)?;
    recovery.read()?;
    if let Some(ring) = ring {
        recovery.ring(ring);
    }
    recovery.report.superseded.sort();
    recovery.report.superseded.dedup();
    recovery.arena.each(each);
    recovery.report.records = recovery.arena.len();
    Ok(recovery.report)
}

/// A recovery under way.
struct Recovery<'v, V> {
    vfs: &'v V,
    /// The op after which each snapshot began, and its header; the oldest first.
    snapshots: Vec<(u64, Header)>,
    /// The first op of each file of the log, and its header; the oldest first.
    logs: Vec<(u64, Header)>,
    arena: Arena,
    report: Report,
}

/// What a whole snapshot says at its end.
struct Loaded {
    records: u64,
    /// The last op that may be in it.
    end: u64,
}

impl<'v, V: Vfs> Recovery<'v, V> {
    /// Reads the first page of every file.
    fn look(vfs: &'v V, identity: Identity) -> Result<Self, FileError> {
        let mut recovery = Self {
            vfs,
            snapshots: Vec::new(),
            logs: Vec::new(),
            arena: Arena::default(),
            report: Report::default(),
        };
        let mut names = names(vfs)?;
        names.sort();
        for (what, name) in names {
            let file = vfs.open(&name).map_err(failed(&name, "open"))?;
            match (Header::read(&file, &name, what, Some(identity))?, what) {
                (Ok(header), What::Snapshot(begin)) => recovery.snapshots.push((begin, header)),
                (Ok(header), What::Log(first)) => recovery.logs.push((first, header)),
                (Err(refused), _) => {
                    recovery.report.superseded.push(name);
                    recovery.refuse(refused);
                }
            }
        }
        Ok(recovery)
    }

    /// Reads the newest snapshot that is whole and the log behind it.
    fn read(&mut self) -> Result<(), FileError> {
        for index in (0..self.snapshots.len()).rev() {
            let (begin, header) = self.snapshots[index];
            self.arena.clear();
            let Some(loaded) = self.load(header)? else {
                self.report.superseded.push(header.what.name());
                continue;
            };
            self.replay(begin)?;
            if self.report.lsn >= loaded.end {
                self.report.snapshot = Some(begin);
                self.report.snapshot_records = loaded.records;
                self.report.kept = self.snapshots[..=index].iter().map(|kept| kept.0).collect();
                return Ok(());
            }
            self.report.superseded.push(header.what.name());
            self.refuse(Refused {
                file: header.what.name(),
                offset: PAGE_LEN as u64,
                bytes: 0,
                why: Why::AheadOfLog {
                    end: loaded.end,
                    lsn: self.report.lsn,
                },
            });
        }
        // In the beginning there was nothing.
        self.arena.clear();
        self.replay(0)
    }

    /// Reads a snapshot into the arena; `None` when it is not whole, and then what is in the arena means nothing.
    fn load(&mut self, header: Header) -> Result<Option<Loaded>, FileError> {
        let name = header.what.name();
        let file = self.vfs.open(&name).map_err(failed(&name, "open"))?;
        let reader = Reader::new(&file, header.salt(), PAGE_LEN as u64);
        let mut reader = reader.map_err(failed(&name, "read"))?;
        let mut records = 0;
        let mut end = None;
        let (why, offset) = loop {
            let at = reader.at();
            match reader.next() {
                Ok(block) if end.is_none() && block.first == records => match block.kind {
                    BlockKind::Records => {
                        records += u64::from(block.count);
                        for op in block.ops() {
                            self.arena.set(op.table, op.place, op.record);
                        }
                    }
                    BlockKind::End => end = Some(block.end()),
                    BlockKind::Ops => break (Why::Nonsense, at),
                },
                Ok(_) => break (Why::Nonsense, at),
                Err(Stop::End) => match end {
                    Some(end) => return Ok(Some(Loaded { records, end })),
                    None => break (Why::Incomplete, at),
                },
                Err(Stop::Bad(why)) => break (why, at),
                Err(Stop::Io(source)) => return Err(failed(&name, "read")(source)),
            }
        };
        let behind = reader.bytes_left().map_err(failed(&name, "read"))?;
        self.refuse(Refused {
            file: name,
            offset,
            bytes: reader.at() - offset + behind,
            why,
        });
        Ok(None)
    }

    /// Applies the log from op `begin` + 1 on, as far as it goes.
    fn replay(&mut self, begin: u64) -> Result<(), FileError> {
        self.report.lsn = begin;
        self.report.ops = 0;
        self.report.log_bytes = 0;
        self.report.hole = None;
        self.report.to_sync.clear();
        let after = self.logs.partition_point(|&(first, _)| first <= begin);
        let logs = self.logs[after..].to_vec();
        for (index, &(first, header)) in logs.iter().enumerate() {
            if first > self.report.lsn.saturating_add(1) {
                self.report.hole = Some(Hole {
                    after: self.report.lsn,
                    next: first,
                });
                let behind = logs[index..].iter().map(|(_, header)| header.what.name());
                self.report.superseded.extend(behind);
                break;
            }
            // What follows on here was written by one who went on from there, in place of what is behind the hole.
            self.report.hole = None;
            self.replay_file(header)?;
            self.report.to_sync.push(header.what.name());
        }
        self.report.log_lsn = self.report.lsn;
        Ok(())
    }

    /// Applies one file of the log, to its end or to the first that does not follow.
    fn replay_file(&mut self, header: Header) -> Result<(), FileError> {
        let name = header.what.name();
        let file = self.vfs.open(&name).map_err(failed(&name, "open"))?;
        let reader = Reader::new(&file, header.salt(), PAGE_LEN as u64);
        let mut reader = reader.map_err(failed(&name, "read"))?;
        let is_short = reader.file_len() < header.reserved;
        let (why, offset) = loop {
            let at = reader.at();
            let block = match reader.next() {
                Ok(block) => block,
                // A file of the log is never made shorter: whole blocks may be gone.
                Err(Stop::End) if is_short => {
                    break (Why::EndsEarly, at);
                }
                Err(Stop::End) => return Ok(()),
                Err(Stop::Bad(why)) => break (why, at),
                Err(Stop::Io(source)) => return Err(failed(&name, "read")(source)),
            };
            if block.kind != BlockKind::Ops {
                break (Why::Nonsense, at);
            }
            let after = self.report.lsn;
            if block.first > after.saturating_add(1) {
                self.report.hole = Some(Hole {
                    after,
                    next: block.first,
                });
                let found = block.first;
                break (Why::Jump { after, found }, at);
            }
            for (lsn, op) in (block.first..).zip(block.ops()) {
                if lsn > self.report.lsn {
                    self.arena.set(op.table, op.place, op.record);
                    self.report.lsn = lsn;
                    self.report.ops += 1;
                }
            }
            self.report.log_bytes += reader.at() - at;
        };
        // From behind the block that does not follow on, which was read over.
        let behind = reader.bytes_left().map_err(failed(&name, "read"))?;
        let bytes = reader.at() - offset + behind;
        self.refuse(Refused {
            file: name,
            offset,
            bytes,
            why,
        });
        Ok(())
    }

    /// Applies what is in the ring and not in the log.
    fn ring(&mut self, ring: &Ring) {
        let Self { arena, report, .. } = self;
        let mut hole = None;
        let walked = walk(ring, &mut Vec::new(), |frame| {
            if hole.is_some() {
                return;
            }
            let is_op = matches!(frame.kind, FrameKind::Put | FrameKind::Gone);
            if is_op && frame.lsn > report.lsn {
                if frame.lsn != report.lsn + 1 {
                    hole = Some(Hole {
                        after: report.lsn,
                        next: frame.lsn,
                    });
                    return;
                }
                arena.set(frame.table, frame.place, frame.record);
                report.lsn = frame.lsn;
                report.ring_ops += 1;
            }
            report.ring_end = frame.end;
        });
        if let Err(bad) = walked {
            report.ring_refused = Some(bad.to_string());
        }
        report.hole = report.hole.take().or(hole);
        let committed = ring.committed();
        if committed.lsn > report.lsn && report.hole.is_none() {
            // What lay between is in neither.
            report.hole = Some(Hole {
                after: report.lsn,
                next: committed.lsn.saturating_add(1),
            });
        }
        report.missed = ring.missed().saturating_sub(committed.missed);
    }

    fn refuse(&mut self, refused: Refused) {
        // The same file is met again on the way from an older snapshot.
        if !self.report.refused.contains(&refused) {
            self.report.refused.push(refused);
        }
    }
}

impl Report {
    /// Whether this is all that the shard had logged: no hole, nothing refused but what a power loss leaves at the end of
    /// the log.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let torn_at_most = self.refused.iter().all(|refused| {
            let is_log = matches!(What::of_name(&refused.file), Some(What::Log(_)));
            is_log && self.superseded.iter().all(|name| *name != refused.file)
        });
        self.hole.is_none() && self.ring_refused.is_none() && torn_at_most
    }

    /// Bytes at the ends of files of the log that were not used.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        let logs = self
            .refused
            .iter()
            .filter(|refused| matches!(What::of_name(&refused.file), Some(What::Log(_))));
        logs.map(|refused| refused.bytes).sum()
    }
}
