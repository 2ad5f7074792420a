//! Where things are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use binrush_journal::FolderError;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::Uid;

use super::error::{StateError, failed};

/// The two folders of a state.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
}

impl Paths {
    /// The folder of all that is valid in one epoch.
    pub(super) fn of_epoch(&self, epoch: u64) -> PathBuf {
        self.state_dir.join(format!("{epoch:016x}"))
    }

    /// The folder of one journal.
    pub(super) fn of_journal(&self, epoch: u64, number: u8, shard: u16) -> PathBuf {
        self.of_epoch(epoch).join(format!("t{number}-s{shard}"))
    }

    /// The ring of one journal.
    pub(super) fn of_ring(&self, epoch: u64, number: u8, shard: u16) -> PathBuf {
        self.runtime_dir
            .join(format!("{epoch:016x}-t{number}-s{shard}{RING}"))
    }

    /// Removes the folders and rings of an epoch, as far as they are there.
    pub(super) fn remove_epoch(&self, epoch: u64) -> Result<(), StateError> {
        let folder = self.of_epoch(epoch);
        gone(fs::remove_dir_all(&folder)).map_err(failed(&folder, "remove"))?;
        self.remove_rings(epoch)
    }

    /// Removes the rings of an epoch, those too that were put aside.
    pub(super) fn remove_rings(&self, epoch: u64) -> Result<(), StateError> {
        for path in self.rings(epoch, |name| name.ends_with(RING) || name.contains(ASIDE))? {
            gone(fs::remove_file(&path)).map_err(failed(&path, "remove"))?;
        }
        Ok(())
    }

    /// Removes the rings of an epoch that were put aside.
    pub(super) fn remove_rings_aside(&self, epoch: u64) -> Result<(), StateError> {
        for path in self.rings(epoch, |name| name.contains(ASIDE))? {
            gone(fs::remove_file(&path)).map_err(failed(&path, "remove"))?;
        }
        Ok(())
    }

    /// The rings of an epoch that are in use, or were.
    pub(super) fn rings_of(&self, epoch: u64) -> Result<Vec<PathBuf>, StateError> {
        self.rings(epoch, |name| name.ends_with(RING))
    }

    fn rings(&self, epoch: u64, is_one: fn(&str) -> bool) -> Result<Vec<PathBuf>, StateError> {
        let begin = format!("{epoch:016x}-t");
        let mut names = names(&self.runtime_dir)?;
        names.retain(|name| name.starts_with(&begin) && is_one(name));
        let paths = names.into_iter().map(|name| self.runtime_dir.join(name));
        Ok(paths.collect())
    }

    /// Names in the state directory that look like those of epochs.
    pub(super) fn epochs(&self) -> Result<Vec<String>, StateError> {
        let mut names = names(&self.state_dir)?;
        names.retain(|name| name.len() == 16 && u64::from_str_radix(name, 16).is_ok());
        names.sort();
        Ok(names)
    }
}

/// Gives a ring that cannot be used another name, which is not that of an earlier one; says which. Of each ring a few are kept,
/// the first ones and the last.
pub(super) fn put_aside(ring: &Path) -> Result<PathBuf, StateError> {
    let mut numbers = 1..=ASIDE_MAX;
    let name = |number| ring.with_extension(format!("ring.refused-{number}"));
    let free = numbers.find(|number| !name(*number).exists());
    let aside = name(free.unwrap_or(ASIDE_MAX));
    fs::rename(ring, &aside).map_err(failed(ring, "put aside"))?;
    Ok(aside)
}

/// The one name of the folder of the rings, if it is ours alone: what is mapped from there is what we do with records.
pub(super) fn runtime(path: &Path) -> Result<PathBuf, StateError> {
    make(path)?;
    let path = fs::canonicalize(path).map_err(failed(path, "look at"))?;
    let folder = fs::metadata(&path).map_err(failed(&path, "look at"))?;
    let (uid, mode) = (folder.uid(), folder.mode() & 0o777);
    if uid != Uid::effective().as_raw() || mode & 0o022 != 0 {
        return Err(FolderError::Exposed { path, uid, mode }.into());
    }
    Ok(path)
}

/// The inode of a folder: it stays when the folder is renamed, and a copy has another one.
pub(super) fn inode(path: &Path) -> Result<u64, StateError> {
    let folder = fs::metadata(path).map_err(failed(path, "look at"))?;
    Ok(folder.ino())
}

/// Whether both are one folder, whatever it is called.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let of = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    one == other || matches!((of(one), of(other)), (Ok(one), Ok(other)) if one == other)
}

/// Makes a folder that only we may use, and those above it.
pub(super) fn make(path: &Path) -> Result<(), StateError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(failed(path, "make"))
}

/// Makes the names in a folder survive a loss of power.
pub(super) fn sync(path: &Path) -> Result<(), StateError> {
    let synced = fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(failed(path, "sync"))
}

/// Whether a folder is in memory, so that its files are never written to a disk.
pub(super) fn is_in_memory(path: &Path) -> Result<bool, StateError> {
    let on = statfs(path).map_err(|errno| failed(path, "look at")(errno.into()))?;
    Ok(on.filesystem_type() == TMPFS_MAGIC)
}

/// Bytes that files in a folder may still take.
pub(super) fn free(path: &Path) -> Result<u64, StateError> {
    let on = statfs(path).map_err(|errno| failed(path, "look at")(errno.into()))?;
    let block = u64::try_from(on.block_size()).unwrap_or(0);
    Ok(on.blocks_available().saturating_mul(block))
}

fn names(path: &Path) -> Result<Vec<String>, StateError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(failed(path, "list"))?,
    };
    for entry in entries {
        let name = entry.map_err(failed(path, "list"))?.file_name();
        // A name that is no text is none of ours.
        names.extend(name.into_string());
    }
    Ok(names)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

const RING: &str = ".ring";

const ASIDE: &str = ".ring.refused-";

/// Rings of one journal that are kept aside.
const ASIDE_MAX: u32 = 4;
