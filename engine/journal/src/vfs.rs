//! What a journal wants of a folder, so that tests can fail any call of it and crash between any two.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A folder in memory that fails and crashes as told.
pub mod sim;

/// One folder, and the files in it by plain names.
///
/// What was written is there for who reads; it survives the power only after [`VfsFile::sync_data`], and a name only after
/// [`sync`](Self::sync).
pub trait Vfs: fmt::Debug {
    /// An open file.
    type File: VfsFile;

    /// A new, empty file, in place of one of that name.
    ///
    /// # Errors
    /// What the kernel said; here and below.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// A file that is there, to read and to write.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in place of a file that has it: at once, or not at all.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names that are there, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes names survive the power: fsync(2) of the folder.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait VfsFile: fmt::Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the kernel said; here and below.
    fn file_len(&self) -> io::Result<u64>;

    /// Reads up to `bytes.len()` bytes from offset `at` on; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes some of `bytes` at offset `at`, and says how many.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes it `len` bytes long, with zeros behind what it has.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes what was written survive the power: fdatasync(2). After a failure the kernel forgets what it could not
    /// write, so another try says nothing about it (fsync(2), notes on errors).
    fn sync_data(&mut self) -> io::Result<()>;

    /// Writes all of `bytes` at offset `at`.
    fn write_all_at(&mut self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self.write_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            bytes = bytes.get(written..).unwrap_or_default();
            at += written as u64;
        }
        Ok(())
    }
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Kept locked while the folder is written; none for who only reads.
    lock: Option<File>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A call failed.
    #[error("{}: cannot {doing} it: {source}", path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Others may write it.
    #[error(
        "{} belongs to user {uid} and has mode {mode:03o}; it must be ours, and nobody else may write it",
        path.display()
    )]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
}

impl Folder {
    /// A folder to write, made (0700) if it is not there, and locked until this is dropped. One on a disk that is mounted for
    /// reading only can be read, if it was written before: whatever writes fails.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed(path, "create"))?;
        let lock_path = path.join(LOCK);
        let mut writes = OpenOptions::new();
        writes.write(true).create(true).truncate(false).mode(0o600);
        let lock = or_to_read(writes.open(&lock_path), &lock_path);
        let lock = lock.map_err(failed(&lock_path, "open"))?;
        let folder = fs::metadata(path).map_err(failed(path, "look at"))?;
        let ours = lock.metadata().map_err(failed(&lock_path, "look at"))?;
        let mode = folder.mode() & 0o777;
        // The lock is of whoever made it first: had that not been us, the folder would not be ours alone either.
        if folder.uid() != ours.uid() || mode & 0o022 != 0 {
            return Err(FolderError::Exposed {
                path: path.to_path_buf(),
                uid: folder.uid(),
                mode,
            });
        }
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse {
                path: path.to_path_buf(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(&lock_path, "lock")(source)),
        }
    }

    /// A folder to read only, which somebody may be writing: no lock is taken, and nothing made.
    #[must_use]
    pub fn to_read(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            lock: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Vfs for Folder {
    type File = File;

    fn create(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // What is new is no link that somebody laid there.
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no regular file",
            ));
        }
        let writes = self.lock.is_some();
        let opened = OpenOptions::new().read(true).write(writes).open(&path);
        or_to_read(opened, &path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl VfsFile for File {
    fn file_len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Self::sync_data(self)
    }
}

/// A file that is there, on a disk that nobody may write, is opened to be read.
fn or_to_read(opened: io::Result<File>, path: &Path) -> io::Result<File> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_path_buf();
    move |source| FolderError::Io {
        path,
        doing,
        source,
    }
}

/// The file whose lock says who writes a folder.
const LOCK: &str = "lock";
