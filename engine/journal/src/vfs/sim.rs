//! A folder in memory that fails and crashes as told.
//!
//! ```text
//!   calls ──▶ what one sees now: what a killed process leaves behind
//!     └─────▶ trace ──▶ what is durable after so many calls, and what may be or not: any choice of it is what a power loss
//!                       may leave behind
//! ```
//!
//! Writes of a file are durable after a sync of it, name changes after a sync of the folder. Until then each sector of each
//! write survives or not by itself, sizes do so before their data, and name changes survive in the order in which they were
//! made, as file systems with a journal keep it. A sync that failed leaves the writes before it in doubt for ever, and the
//! next sync succeeds all the same: as Linux does.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::vfs::{Vfs, VfsFile};

/// A folder in memory. Clones are the same folder.
#[derive(Clone, Default)]
pub struct SimFolder {
    world: Arc<Mutex<World>>,
}

/// A file of such a folder.
pub struct SimFile {
    world: Arc<Mutex<World>>,
    inode: usize,
}

/// Which of the calls fail: those whose number is in the range. Reading never does, nor is it counted.
#[derive(Debug, Clone)]
pub struct Failing {
    /// The first one, counted from 0 by [`SimFolder::calls`].
    pub from: usize,
    /// One behind the last one.
    pub to: usize,
    /// As what: an error number of Linux.
    pub errno: i32,
}

/// A moment, and what of a power loss is the same for all files.
#[derive(Debug, Clone, Copy)]
pub struct PowerLoss {
    /// After how many calls of the trace.
    pub calls: usize,
    /// How many of the name changes that are not durable survive.
    pub names: usize,
    /// Bytes that survive together: 512 or 4096.
    pub sector: u64,
    /// Whether a file has the length of a write whose bytes did not survive.
    pub sizes: bool,
}

/// What is not durable at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// Writes and changes of length.
    pub writes: usize,
    /// Name changes.
    pub names: usize,
}

#[derive(Default)]
struct World {
    /// Contents as one sees them, by inode.
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    /// What was there in the beginning, durable.
    first_files: Vec<Vec<u8>>,
    first_names: BTreeMap<String, usize>,
    trace: Vec<Call>,
    calls: usize,
    failing: Option<Failing>,
    /// Bytes that fit.
    room: Option<u64>,
}

/// What was done. What failed without doing anything is not there.
#[derive(Debug, Clone)]
enum Call {
    Write {
        inode: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        inode: usize,
        len: u64,
    },
    Sync {
        inode: usize,
        done: bool,
    },
    Name(NameChange),
    SyncFolder,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create { name: String, inode: usize },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// What a moment of the trace looks like.
#[derive(Debug, Default)]
struct Moment {
    files: Vec<Durable>,
    names: BTreeMap<String, usize>,
    changes: Vec<NameChange>,
}

#[derive(Debug, Clone, Default)]
struct Durable {
    bytes: Vec<u8>,
    /// Writes in doubt, and whether no sync will end the doubt.
    pending: Vec<(Call, bool)>,
}

impl SimFolder {
    /// A folder with these files, all durable.
    #[must_use]
    pub fn with_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let contents: Vec<_> = files.values().cloned().collect();
        let names: BTreeMap<_, _> = files.keys().cloned().zip(0..).collect();
        let world = World {
            files: contents.clone(),
            names: names.clone(),
            first_files: contents,
            first_names: names,
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// The files as one sees them now: what is there after the process was killed.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let world = self.lock();
        let named = world.names.iter();
        named
            .map(|(name, &inode)| (name.clone(), world.files[inode].clone()))
            .collect()
    }

    /// From now on these calls fail; `None`: none does.
    pub fn fail(&self, failing: Option<Failing>) {
        self.lock().failing = failing;
    }

    /// From now on no more than this many bytes fit; `None`: all do.
    pub fn limit(&self, room: Option<u64>) {
        self.lock().room = room;
    }

    /// How many calls there were, those that failed included.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// How many changes and syncs there were: moments at which the power can be lost.
    #[must_use]
    pub fn moments(&self) -> usize {
        self.lock().trace.len()
    }

    /// What a power loss would have left in doubt after so many changes and syncs.
    #[must_use]
    pub fn in_doubt(&self, moments: usize) -> InDoubt {
        let moment = self.lock().moment(moments);
        InDoubt {
            writes: moment.files.iter().map(|file| file.pending.len()).sum(),
            names: moment.changes.len(),
        }
    }

    /// The files that a power loss leaves behind. `survives` says of each write in doubt, by its number, and each sector of
    /// the file, whether its bytes did.
    #[must_use]
    pub fn lose_power(
        &self,
        loss: PowerLoss,
        survives: &mut dyn FnMut(usize, u64) -> bool,
    ) -> BTreeMap<String, Vec<u8>> {
        let mut moment = self.lock().moment(loss.calls);
        for change in moment.changes.iter().take(loss.names) {
            change.apply(&mut moment.names);
        }
        let mut number = 0;
        for file in &mut moment.files {
            for (call, _) in std::mem::take(&mut file.pending) {
                call.apply_some(&mut file.bytes, loss, &mut |sector| {
                    survives(number, sector)
                });
                number += 1;
            }
        }
        let named = moment.names.into_iter();
        named
            .map(|(name, inode)| (name, std::mem::take(&mut moment.files[inode].bytes)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vfs for SimFolder {
    type File = SimFile;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.lock();
        world.call()?;
        let inode = world.files.len();
        world.files.push(Vec::new());
        world.change(NameChange::Create {
            name: name.to_owned(),
            inode,
        });
        Ok(SimFile {
            world: Arc::clone(&self.world),
            inode,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let mut world = self.lock();
        world.call()?;
        let inode = *world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile {
            world: Arc::clone(&self.world),
            inode,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        if !world.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        if !world.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change(NameChange::Remove {
            name: name.to_owned(),
        });
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut world = self.lock();
        world.call()?;
        Ok(world.names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        world.trace.push(Call::SyncFolder);
        Ok(())
    }
}

impl SimFile {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VfsFile for SimFile {
    fn file_len(&self) -> io::Result<u64> {
        Ok(self.lock().files[self.inode].len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let world = self.lock();
        let file = &world.files[self.inode];
        let start = usize::try_from(at).map_or(file.len(), |at| at.min(file.len()));
        let read = bytes.len().min(file.len() - start);
        bytes[..read].copy_from_slice(&file[start..][..read]);
        Ok(read)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut world = self.lock();
        let called = world.call();
        let room = world.room.map(|room| room.saturating_sub(world.used()));
        // Half of what fails was done all the same.
        let done = match (&called, room) {
            (Err(_), _) => bytes.len() / 2,
            (Ok(()), Some(room)) => {
                usize::try_from(room).map_or(bytes.len(), |room| room.min(bytes.len()))
            }
            (Ok(()), None) => bytes.len(),
        };
        if done > 0 {
            let call = Call::Write {
                inode: self.inode,
                at,
                bytes: bytes[..done].to_vec(),
            };
            call.apply(&mut world.files[self.inode]);
            world.trace.push(call);
        }
        called?;
        if done == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(done)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut world = self.lock();
        world.call()?;
        let call = Call::SetLen {
            inode: self.inode,
            len,
        };
        call.apply(&mut world.files[self.inode]);
        world.trace.push(call);
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut world = self.lock();
        let called = world.call();
        world.trace.push(Call::Sync {
            inode: self.inode,
            done: called.is_ok(),
        });
        called
    }
}

impl World {
    /// Counts a call, and lets it fail if it is its turn.
    fn call(&mut self) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        match &self.failing {
            Some(failing) if (failing.from..failing.to).contains(&number) => {
                Err(io::Error::from_raw_os_error(failing.errno))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.trace.push(Call::Name(change));
    }

    /// Bytes that files take which have a name: what was reserved takes none until it is written.
    fn used(&self) -> u64 {
        let files = self.names.values().map(|&inode| &self.files[inode]);
        let written = files.map(|file| {
            file.iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |last| last + 1)
        });
        written.sum::<usize>() as u64
    }

    fn moment(&self, calls: usize) -> Moment {
        let durable = |bytes: &Vec<u8>| Durable {
            bytes: bytes.clone(),
            pending: Vec::new(),
        };
        let mut moment = Moment {
            files: self.first_files.iter().map(durable).collect(),
            names: self.first_names.clone(),
            changes: Vec::new(),
        };
        moment.files.resize(self.files.len(), Durable::default());
        for call in &self.trace[..calls] {
            match call {
                Call::Write { inode, .. } | Call::SetLen { inode, .. } => {
                    moment.files[*inode].pending.push((call.clone(), false));
                }
                Call::Sync { inode, done } => moment.files[*inode].sync(*done),
                Call::Name(change) => moment.changes.push(change.clone()),
                Call::SyncFolder => {
                    for change in std::mem::take(&mut moment.changes) {
                        change.apply(&mut moment.names);
                    }
                }
            }
        }
        moment
    }
}

impl Durable {
    fn sync(&mut self, done: bool) {
        for (call, is_stuck) in std::mem::take(&mut self.pending) {
            if done && !is_stuck {
                call.apply(&mut self.bytes);
            } else {
                self.pending.push((call, true));
            }
        }
    }
}

impl Call {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let all = PowerLoss {
            calls: 0,
            names: 0,
            sector: 512,
            sizes: true,
        };
        self.apply_some(bytes, all, &mut |_| true);
    }

    fn apply_some(
        &self,
        file: &mut Vec<u8>,
        loss: PowerLoss,
        survives: &mut dyn FnMut(u64) -> bool,
    ) {
        match self {
            Self::Write { at, bytes, .. } => {
                let mut at = *at;
                let mut bytes = &bytes[..];
                while !bytes.is_empty() {
                    let to_end = loss.sector - at % loss.sector;
                    let len =
                        usize::try_from(to_end).map_or(bytes.len(), |end| end.min(bytes.len()));
                    let (sector, rest) = bytes.split_at(len);
                    let start = usize::try_from(at).expect("a file in memory");
                    let survived = survives(at / loss.sector);
                    if (survived || loss.sizes) && file.len() < start + len {
                        file.resize(start + len, 0);
                    }
                    if survived {
                        file[start..][..len].copy_from_slice(sector);
                    }
                    at += len as u64;
                    bytes = rest;
                }
            }
            Self::SetLen { len, .. } => {
                if survives(0) {
                    file.resize(usize::try_from(*len).expect("a file in memory"), 0);
                }
            }
            Self::Sync { .. } | Self::Name(_) | Self::SyncFolder => {}
        }
    }
}

impl fmt::Debug for SimFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.lock();
        let lens = world
            .names
            .iter()
            .map(|(name, &inode)| (name, world.files[inode].len()));
        f.debug_map().entries(lens).finish()
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

/// "No space left on device", on Linux.
pub const ENOSPC: i32 = 28;

/// "Input/output error", on Linux.
pub const EIO: i32 = 5;
