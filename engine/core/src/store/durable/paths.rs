//! Where things are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

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
            .join(format!("{epoch:016x}-t{number}-s{shard}.ring"))
    }

    /// Removes the folders and rings of an epoch, as far as they are there.
    pub(super) fn remove_epoch(&self, epoch: u64) -> Result<(), StateError> {
        let folder = self.of_epoch(epoch);
        gone(fs::remove_dir_all(&folder)).map_err(failed(&folder, "remove"))?;
        let begin = format!("{epoch:016x}-t");
        for name in names(&self.runtime_dir)? {
            if name.starts_with(&begin) && name.ends_with(".ring") {
                let path = self.runtime_dir.join(name);
                gone(fs::remove_file(&path)).map_err(failed(&path, "remove"))?;
            }
        }
        Ok(())
    }

    /// Names in the state directory that look like those of epochs.
    pub(super) fn epochs(&self) -> Result<Vec<String>, StateError> {
        let mut names = names(&self.state_dir)?;
        names.retain(|name| name.len() == 16 && u64::from_str_radix(name, 16).is_ok());
        names.sort();
        Ok(names)
    }
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
