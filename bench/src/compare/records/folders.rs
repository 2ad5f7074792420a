//! Where an engine keeps its log while it is measured. Nothing of it stays.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FUSE_SUPER_MAGIC, FsType,
    NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
};

/// A state directory, and one for what is in memory, until dropped.
#[derive(Debug)]
pub(super) struct Folders {
    state: PathBuf,
    runtime: PathBuf,
}

impl Folders {
    /// With the state below `disk`, or in memory as well. Their length is bounded by the engine: it drops what a snapshot
    /// has made superfluous.
    pub(super) fn make(disk: Option<PathBuf>) -> anyhow::Result<Self> {
        ensure!(
            Path::new(MEMORY).is_dir(),
            "there is no {MEMORY}, where rings of logs are in memory: measure with `--keepers counts,memory`"
        );
        let own = |what| format!("binrush-bench-{}-{what}", std::process::id());
        let below = disk.unwrap_or_else(|| MEMORY.into());
        let below = std::path::absolute(&below)
            .with_context(|| format!("cannot tell where {} is", below.display()))?;
        // Guarded before they are made, so that the first one goes when there is no room for the other.
        let folders = Self {
            state: below.join(own("state")),
            runtime: Path::new(MEMORY).join(own("run")),
        };
        for path in [&folders.state, &folders.runtime] {
            // Of an earlier process of this number, if any.
            let _ = fs::remove_dir_all(path);
            let made = DirBuilder::new().mode(0o700).create(path);
            made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        }
        Ok(folders)
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// Length of its files, with what is reserved in them; files that go meanwhile have none.
    pub(super) fn bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut folders = vec![self.state.clone()];
        // An engine makes a few files in each of a few folders.
        for _ in 0..FOLDERS_MAX {
            let Some(folder) = folders.pop() else { break };
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                    Ok(meta) => bytes += meta.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }
}

/// What the files below `folder` are in, as `mount` calls it; a number, where that has no name here.
pub(super) fn file_system(folder: &Path) -> anyhow::Result<String> {
    let found = statfs(folder)
        .with_context(|| format!("cannot tell what {} lies on", folder.display()))?
        .filesystem_type();
    let known = FILE_SYSTEMS.iter().find(|(known, _)| *known == found);
    Ok(match known {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{:#x}", found.0),
    })
}

impl Drop for Folders {
    fn drop(&mut self) {
        for path in [&self.state, &self.runtime] {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Where files are in memory (tmpfs) on every Linux.
pub(super) const MEMORY: &str = "/dev/shm";

/// One that is no disk.
pub(super) const TMPFS: &str = "tmpfs";

const FILE_SYSTEMS: [(FsType, &str); 8] = [
    (TMPFS_MAGIC, TMPFS),
    // Those before it have the same number.
    (EXT4_SUPER_MAGIC, "ext4"),
    (XFS_SUPER_MAGIC, "xfs"),
    (BTRFS_SUPER_MAGIC, "btrfs"),
    (F2FS_SUPER_MAGIC, "f2fs"),
    (NFS_SUPER_MAGIC, "nfs"),
    (FUSE_SUPER_MAGIC, "fuse"),
    (OVERLAYFS_SUPER_MAGIC, "overlay"),
];

/// After which what was on its way to the disk is there: more than twice as long as a writer waits between two syncs.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

const FOLDERS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_of_folders_and_what_is_in_them() {
        let folders = Folders::make(None).unwrap();
        let [state, runtime] = [folders.state(), folders.runtime()].map(Path::to_owned);
        assert!(state.starts_with(MEMORY) && runtime.is_dir());
        assert_eq!(folders.bytes(), 0);
        fs::create_dir(state.join("table")).unwrap();
        fs::write(state.join("table/log-1"), [0; 100]).unwrap();
        fs::write(state.join("manifest"), [0; 10]).unwrap();
        assert_eq!(folders.bytes(), 110);
        drop(folders);
        assert!(!state.exists() && !runtime.exists());
    }

    #[test]
    fn what_a_folder_lies_on_has_a_name() {
        assert_eq!(file_system(Path::new(MEMORY)).unwrap(), TMPFS);
        let error = file_system(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error:#}");
    }

    #[test]
    fn a_disk_that_is_none_is_named() {
        let error = Folders::make(Some("/nonexistent".into())).unwrap_err();
        assert!(
            format!("{error:#}").contains("/nonexistent/binrush-bench-"),
            "{error:#}"
        );
    }
}
