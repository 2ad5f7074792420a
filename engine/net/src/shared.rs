//! Memory that outlives the process: a file mapped so that every store is in it at once.
//!
//! ```text
//!   this process          another one, or the next one after this was killed
//!     &[AtomicU64] ─┐       ┌─ &[AtomicU64]
//!                   ▼       ▼
//!        pages of one file, in tmpfs: they stay when a process ends, and go with the power
//! ```
//!
//! What is in it may have been written by anybody who could open the file, now or before, half done: no value read from
//! it is to be trusted. So it is given out as atomic words only, of which every pattern of bits is one, and which two may
//! touch at the same time without a data race.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A file mapped to be shared, or anonymous memory of the same shape.
///
/// The file stays locked (flock(2)) until this is dropped, so that no two processes of ours use it at once, and it is
/// never shortened by us: a mapping of bytes that a file no longer has ends the process with `SIGBUS` (mmap(2)). Nobody
/// else may open it, as its mode is 0600.
#[derive(Debug)]
pub struct SharedFile {
    base: NonNull<AtomicU64>,
    mapped_len: usize,
    /// Keeps the lock; none of anonymous memory.
    _file: Option<File>,
}

/// Why a file cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// A call failed.
    #[error("{}: cannot {doing} it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a directory, a device, a socket.
    #[error("{} is no regular file; remove it, or name another path", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another user, or others may open it.
    #[error(
        "{} belongs to user {uid} and has mode {mode:03o}; it must be ours and 600: somebody else may have written it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// It cannot have been made by [`SharedFile::create`].
    #[error("{} has {len} bytes, not a whole number of pages above none", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

impl SharedFile {
    /// Makes the file `path` of zeros, at least `len` bytes rounded up to pages, in place of one that may be there.
    ///
    /// All of it is allocated and resident when this returns: a store to a page that tmpfs has no memory for would end
    /// the process.
    ///
    /// # Errors
    /// [`SharedError`]: what a call said, or [`InUse`](SharedError::InUse) when the file that is there is used.
    pub fn create(path: &Path, len: usize) -> Result<Self, SharedError> {
        match Self::open_checked(path) {
            Ok((_locked, _)) => fs::remove_file(path).map_err(failed(path, "replace"))?,
            Err(SharedError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error @ (SharedError::Io { .. } | SharedError::InUse { .. })) => return Err(error),
            // Made by somebody else: removing it takes rights to the folder only, and then it is ours to make.
            Err(_) => fs::remove_file(path).map_err(failed(path, "replace"))?,
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(failed(path, "create"))?;
        let made = Self::fill(file, path, len);
        if made.is_err() {
            // Half of a file would be in the way of the next try, and have what room there is.
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Makes a new file as long as it has to be.
    fn fill(file: File, path: &Path, len: usize) -> Result<Self, SharedError> {
        lock(&file, path)?;
        let len = round_up(len).map_err(failed(path, "map"))?;
        allocate(&file, len).map_err(failed(path, "allocate"))?;
        Self::map(Some(file), len).map_err(failed(path, "map"))
    }

    /// Maps the file `path` as it is.
    ///
    /// # Errors
    /// [`SharedError`]: whatever keeps it from being a file that only we could have written.
    pub fn open(path: &Path) -> Result<Self, SharedError> {
        let (file, len) = Self::open_checked(path)?;
        let size = || SharedError::Size {
            path: path.to_path_buf(),
            len,
        };
        let mapped_len = usize::try_from(len).map_err(|_| size())?;
        if mapped_len == 0 || round_up(mapped_len).ok() != Some(mapped_len) {
            return Err(size());
        }
        // Holes of a file that was copied are filled: a store there could find no memory.
        allocate(&file, mapped_len).map_err(failed(path, "allocate"))?;
        Self::map(Some(file), mapped_len).map_err(failed(path, "map"))
    }

    /// Memory of the same shape that no file has: for tests, and where there is no folder for it.
    ///
    /// # Errors
    /// What mmap(2) said.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(None, round_up(len)?)
    }

    /// All of it, as words in the order of the file. In the file their bytes are in the machine's order.
    #[inline]
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is the start of `mapped_len` mapped bytes, page-aligned, so aligned for words, and readable and
        // writable until the drop, which needs all borrows to have ended. Any bytes are an `AtomicU64`, which may change
        // behind a shared reference at any time, by whomever: "Updates to the mapping are visible to other processes
        // mapping the same region" (mmap(2)). The file keeps the bytes: it has as many as were mapped, see `allocate`.
        unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().cast_const(),
                self.mapped_len / size_of::<AtomicU64>(),
            )
        }
    }

    /// The file, locked, if only we could have written it, and its length.
    fn open_checked(path: &Path) -> Result<(File, u64), SharedError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            // A pipe in its place must not make us wait.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed(path, "open"))?;
        let metadata = file.metadata().map_err(failed(path, "look at"))?;
        if !metadata.is_file() {
            return Err(SharedError::NotAFile {
                path: path.to_path_buf(),
            });
        }
        // SAFETY: takes nothing; "These functions are always successful and never modify errno" (geteuid(2)).
        let us = unsafe { libc::geteuid() };
        let mode = metadata.mode() & 0o777;
        if metadata.uid() != us || mode & 0o077 != 0 {
            return Err(SharedError::Exposed {
                path: path.to_path_buf(),
                uid: metadata.uid(),
                mode,
            });
        }
        lock(&file, path)?;
        Ok((file, metadata.len()))
    }

    fn map(file: Option<File>, len: usize) -> io::Result<Self> {
        let (flags, fd) = file
            .as_ref()
            .map_or((libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1), |file| {
                (libc::MAP_SHARED, file.as_raw_fd())
            });
        let base = map(len, flags, fd)?;
        let shared = Self {
            base: base.cast(),
            mapped_len: len,
            _file: file,
        };
        shared.advise();
        Ok(shared)
    }

    /// Makes the pages resident, and keeps them out of core dumps: people's calls are in them. Where the kernel does not
    /// know an advice the memory works as well, only that first stores take longer.
    fn advise(&self) {
        for advice in [libc::MADV_POPULATE_WRITE, libc::MADV_DONTDUMP] {
            // SAFETY: the range is exactly our mapping. "Populate (prefault) page tables writable, faulting in all pages
            // in the range just as if manually writing to each page" and "Exclude from a core dump those pages in the
            // range" (madvise(2)): the contents stay.
            let _ = unsafe { libc::madvise(self.base.as_ptr().cast(), self.mapped_len, advice) };
        }
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: `base` and `mapped_len` are those of the one mmap in `map`; references from `words` ended with their
        // borrow of this.
        let done = unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_len) };
        debug_assert_eq!(done, 0, "munmap of our own mapping");
    }
}

// SAFETY: the mapping is owned as a `Vec` owns its buffer, and not tied to a thread.
unsafe impl Send for SharedFile {}

// SAFETY: all that a shared reference gives is atomic words.
unsafe impl Sync for SharedFile {}

/// Maps `len` bytes, to read and to write.
fn map(len: usize, flags: libc::c_int, fd: RawFd) -> io::Result<NonNull<u8>> {
    // SAFETY: a null address lets the kernel choose, so no existing mapping is replaced. The descriptor, if there is one,
    // is open while this runs; "After the mmap() call has returned, the file descriptor, fd, can be closed immediately
    // without invalidating the mapping" (mmap(2)).
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            fd,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(base.cast()).expect("a mapping of the kernel's choice is never at address 0"))
}

/// Gives the file `len` bytes that have their place: "subsequent writes to bytes in the specified range are guaranteed
/// not to fail because of lack of disk space" (posix_fallocate(3)). What is in it stays.
fn allocate(file: &File, len: usize) -> io::Result<()> {
    let len = libc::off_t::try_from(len)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too large for a file"))?;
    // SAFETY: takes integers; the descriptor is that of `file`, which is open.
    let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) };
    // "returns zero on success, or an error number on failure. Note that errno is not set" (posix_fallocate(3)).
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn lock(file: &File, path: &Path) -> Result<(), SharedError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(SharedError::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(path, "lock")(source)),
    }
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> SharedError {
    let path = path.to_path_buf();
    move |source| SharedError::Io {
        path,
        doing,
        source,
    }
}

fn round_up(len: usize) -> io::Result<usize> {
    len.max(1)
        .checked_next_multiple_of(PAGE_LEN)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "larger than memory"))
}

/// What lengths are rounded to. Pages of the kernel may be larger, and a mapping then ends in zeros that no file has,
/// which nothing looks at.
const PAGE_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::Ordering;

    /// A folder of this test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("binrush-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_one_mapping_stored_the_next_one_finds() {
        let scratch = Scratch::new("shared-kept");
        let path = scratch.0.join("ring");
        let first = SharedFile::create(&path, 5000).unwrap();
        assert_eq!(first.words().len(), 1024);
        assert!(
            first
                .words()
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
        first.words()[1023].store(7, Ordering::Relaxed);
        drop(first);
        let second = SharedFile::open(&path).unwrap();
        assert_eq!(second.words().len(), 1024);
        assert_eq!(second.words()[1023].load(Ordering::Relaxed), 7);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_is_used_by_one_at_a_time() {
        let scratch = Scratch::new("shared-lock");
        let path = scratch.0.join("ring");
        let held = SharedFile::create(&path, 1).unwrap();
        for second in [SharedFile::open(&path), SharedFile::create(&path, 1)] {
            assert!(
                matches!(second, Err(SharedError::InUse { .. })),
                "{second:?}"
            );
        }
        drop(held);
        SharedFile::create(&path, 1).unwrap();
    }

    #[test]
    fn what_somebody_else_may_have_written_is_refused() {
        let scratch = Scratch::new("shared-refused");
        let path = scratch.0.join("ring");
        drop(SharedFile::create(&path, 1).unwrap());

        let link = scratch.0.join("link");
        symlink(&path, &link).unwrap();
        let followed = SharedFile::open(&link);
        assert!(
            matches!(followed, Err(SharedError::Io { .. })),
            "{followed:?}"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = SharedFile::open(&path).unwrap_err();
        assert!(
            matches!(exposed, SharedError::Exposed { mode: 0o640, .. }),
            "{exposed}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

        for len in [0, 4095] {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(len)
                .unwrap();
            let size = SharedFile::open(&path).unwrap_err();
            assert!(
                matches!(size, SharedError::Size { len: l, .. } if l == len),
                "{size}"
            );
        }
        let folder = SharedFile::open(&scratch.0);
        assert!(matches!(folder, Err(SharedError::Io { .. })), "{folder:?}");
        // As root the file can be given away.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let foreign = SharedFile::open(&path).unwrap_err();
            assert!(
                matches!(foreign, SharedError::Exposed { uid: 65534, .. }),
                "{foreign}"
            );
        } else {
            crate::loopback::skip("only root can give a file away");
        }
    }

    #[test]
    fn two_threads_see_the_same_words() {
        let shared = SharedFile::anonymous(4096).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| shared.words()[3].store(9, Ordering::Release));
            while shared.words()[3].load(Ordering::Acquire) != 9 {
                std::thread::yield_now();
            }
        });
    }
}
