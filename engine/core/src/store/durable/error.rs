//! Why a state cannot be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use binrush_journal::{FileError, FolderError, RingError, StartError};
use binrush_store::Family;

use super::manifest::family_name;

/// Why a state cannot be used. Nothing was changed that would make another try mean less.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The folder cannot be made, or is somebody else's.
    #[error("{source}\n  {}", of_folder(source))]
    Folder {
        /// Why.
        #[from]
        source: FolderError,
    },
    /// A call failed.
    #[error("{}: cannot {doing} it: {source}\n  {}", path.display(), advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The manifest is not what was written.
    #[error(
        "{}: at byte {at}: {what}\n  put it back from a copy; without it nobody knows which folder is which", path.display()
    )]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Written by a newer binrush.
    #[error(
        "{}: at byte {at}: version {found}; this binrush knows version {known}\n  use the one that wrote it, or another state directory",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
        /// Its version.
        found: String,
        /// Ours.
        known: u32,
    },
    /// There are folders of records and nothing that says what they are.
    #[error(
        "{} has folders of records, {folder} for one, and no manifest\n  put the manifest back from a copy, or move the folders away to begin with nothing",
        path.display()
    )]
    NoManifest {
        /// The state directory.
        path: PathBuf,
        /// One of them.
        folder: String,
    },
    /// There is nothing to read.
    #[error("{} is no state directory: it has no manifest\n  name the one that `serve` was given", path.display())]
    NoState {
        /// The folder.
        path: PathBuf,
    },
    /// What the manifest names is gone.
    #[error(
        "{}: the folder of {table} on shard {shard} is gone\n  put it back; or move all of the state directory away to begin with nothing",
        path.display()
    )]
    FolderGone {
        /// Where it should be.
        path: PathBuf,
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
    },
    /// Files of a journal cannot be read, or are somebody else's, or newer.
    #[error("{table} on shard {shard}: {}/{source}\n  {}", path.display(), of_file(source))]
    Journal {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// The folder.
        path: PathBuf,
        /// Which file, and why.
        source: FileError,
    },
    /// A journal cannot go on.
    #[error("{table} on shard {shard}: {source}\n  {}", of_start(source))]
    Start {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// Why.
        source: StartError,
    },
    /// A ring cannot be made or used.
    #[error("{table} on shard {shard}: {source}\n  {} has to have room for rings, and be ours alone", path.display())]
    Ring {
        /// The table.
        table: String,
        /// The shard.
        shard: u16,
        /// The runtime directory.
        path: PathBuf,
        /// Why.
        source: RingError,
    },
    /// There is less room than the rings of a start take.
    #[error(
        "{} has to have room for rings: {rings} of them take {need} bytes more, and {free} are free there\n  make room, choose smaller rings, or name another runtime directory",
        path.display()
    )]
    NoRoom {
        /// The runtime directory.
        path: PathBuf,
        /// How many rings.
        rings: usize,
        /// Bytes of those, beyond what they have already.
        need: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// No size for rings.
    #[error("{source}")]
    RingBytes {
        /// Why.
        source: RingError,
    },
    /// What is kept under this name is something else.
    #[error("the table {name} has {}, not {}\n  use another state directory", family_name(*found), family_name(*wanted))]
    OtherFamily {
        /// The table.
        name: String,
        /// What it has.
        found: Family,
        /// What was asked for.
        wanted: Family,
    },
    /// Records of this kind are not kept: a start with another number of shards would not find their owners.
    #[error("the table {name} has {}, which are kept in memory only", family_name(*family))]
    NotDurable {
        /// The table.
        name: String,
        /// What it would have.
        family: Family,
    },
    /// No name for a table.
    #[error("`{0}` is no name for a table: 1 to {max} printable characters of ASCII without spaces", max = super::manifest::NAME_LEN_MAX)]
    Name(String),
    /// There are as many as there may be.
    #[error("more than {max} tables; those of earlier configurations count\n  use another state directory", max = super::manifest::TABLES_MAX)]
    TooManyTables,
    /// Records could not be put into the folders of another number of shards.
    #[error(
        "{table} cannot be written for shard {shard}: {what}\n  nothing is lost: the records are where they were. Make room, or start with {shards_before} shards"
    )]
    Rebuild {
        /// The table.
        table: String,
        /// The new shard.
        shard: u16,
        /// How many there were.
        shards_before: u16,
        /// What the journal said.
        what: String,
    },
    /// The kernel gives no thread.
    #[error("cannot start the thread that writes the journals of shard {shard}: {source}")]
    Thread {
        /// The shard.
        shard: u16,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An error of a call, for `map_err`.
pub(super) fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Io {
        path,
        doing,
        source,
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the file system is full: make room, or name another state directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing, or name another state directory"
        }
        io::ErrorKind::PermissionDenied => {
            "let it belong to the user that runs binrush, with mode 700"
        }
        io::ErrorKind::NotFound => "make it, or name another one",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file has this name: move it away, or name another folder"
        }
        _ => "look at the disk and at the kernel's log",
    }
}

fn of_folder(error: &FolderError) -> &'static str {
    match error {
        FolderError::Io { source, .. } => advice(source),
        FolderError::InUse { .. } => "stop the binrush that serves from it, or name another folder",
        FolderError::Exposed { .. } => "chown and chmod 700 it, once you know who wrote it",
        _ => "name another folder",
    }
}

fn of_file(error: &FileError) -> &'static str {
    match error {
        FileError::Io { source, .. } => advice(source),
        FileError::Newer { .. } => "nothing was read, and nothing was changed",
        _ => "put back what was there; nothing was read, and nothing was changed",
    }
}

fn of_start(error: &StartError) -> &'static str {
    match error {
        StartError::File(error) => of_file(error),
        _ => "remove the ring; what is on the disk stays",
    }
}
