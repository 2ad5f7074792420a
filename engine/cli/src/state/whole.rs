//! A file that is as it was, or whole: who reads it while it is written, or after a crash, has no half of it.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

use crate::state::OUT_BUFFER;

/// What fills a file: its second argument is what to say when it cannot be written to.
type Fill<'f> = dyn Fn(&mut dyn Write, &str) -> anyhow::Result<()> + 'f;

/// A file that is being written, beside the one whose place it takes at its end. Dropped before, it goes.
///
/// It tells of calls and addresses: nobody but its owner may read it, unless it replaces one that others may read.
#[derive(Debug)]
pub(super) struct New {
    /// The file itself: whatever has its name by then, this is what is synced.
    file: File,
    new: PathBuf,
    real: PathBuf,
    /// What the file that is replaced allows.
    mode: Option<u32>,
    is_finished: bool,
}

impl New {
    /// Begins to write anew what is at `path`, or what a link there leads to: makes an empty file beside it, under a name that is
    /// nobody else's, with the owner of what is replaced.
    ///
    /// # Errors
    /// The path leads nowhere, or to what is no file; nothing can be made there; or that owner cannot be kept.
    pub(super) fn begin(path: &Path) -> anyhow::Result<Self> {
        let real = real(path)?;
        let replaced = match fs::metadata(&real) {
            Ok(found) if !found.is_file() => {
                bail!("{}: what is there is no file", cannot(path))
            }
            Ok(found) => Some(found),
            Err(_) => None,
        };
        let (file, new) = create(&real)?;
        let new = Self {
            file,
            new,
            real,
            mode: replaced.as_ref().map(|it| it.mode() & 0o7777),
            is_finished: false,
        };
        if let Some(replaced) = replaced {
            let kept = new.keep_owner(&replaced);
            kept.with_context(|| {
                format!("cannot keep the owner of {}: run as it", path.display())
            })?;
        }
        Ok(new)
    }

    fn keep_owner(&self, replaced: &Metadata) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let (uid, gid) = (replaced.uid(), replaced.gid());
        match (ours.uid(), ours.gid()) == (uid, gid) {
            true => Ok(()),
            false => fchown(&self.file, Some(uid), Some(gid)),
        }
    }

    /// Where to write it.
    pub(super) fn path(&self) -> &Path {
        &self.new
    }

    /// Whose place it takes.
    pub(super) fn place(&self) -> &Path {
        &self.real
    }

    /// Takes its place, when it is on the disk.
    ///
    /// # Errors
    /// It cannot; what was there is there.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if let Some(mode) = self.mode {
            let kept = self.file.set_permissions(Permissions::from_mode(mode));
            kept.with_context(|| cannot(&self.new))?;
        }
        self.file.sync_all().with_context(|| cannot(&self.new))?;
        fs::rename(&self.new, &self.real).with_context(|| cannot(&self.real))?;
        self.is_finished = true;
        sync_folder(&self.real).with_context(|| cannot(&self.real))
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = fs::remove_file(&self.new);
        }
    }
}

/// What is written to a path: a file that takes its place at its end, or what is there and no file, such as a pipe, as it is.
#[derive(Debug)]
pub(super) struct Out {
    file: BufWriter<File>,
    new: Option<New>,
    cannot: String,
}

impl Out {
    /// # Errors
    /// As of [`New::begin`], or it cannot be opened.
    pub(super) fn begin(path: &Path) -> anyhow::Result<Self> {
        let real = real(path)?;
        let (file, new, cannot) = match fs::metadata(&real) {
            Ok(found) if !found.is_file() => {
                let cannot = cannot(path);
                (OpenOptions::new().write(true).open(&real), None, cannot)
            }
            _ => {
                let new = New::begin(path)?;
                let cannot = cannot(new.path());
                (new.file.try_clone(), Some(new), cannot)
            }
        };
        let file = file.with_context(|| cannot.clone())?;
        Ok(Self {
            file: BufWriter::with_capacity(OUT_BUFFER, file),
            new,
            cannot,
        })
    }

    /// What to say when it cannot be written to.
    pub(super) fn cannot(&self) -> &str {
        &self.cannot
    }

    /// # Errors
    /// As of [`New::finish`], or what is left cannot be written.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| self.cannot.clone())?;
        self.new.map_or(Ok(()), New::finish)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Has `fill` write the file at `path`. What is there and no file, such as a pipe, is written to as it is.
///
/// # Errors
/// Those of `fill`, as they are; or it cannot be written to. The file is as it was then.
pub(super) fn write(path: &Path, fill: &Fill<'_>) -> anyhow::Result<()> {
    let mut out = Out::begin(path)?;
    let cannot = out.cannot().to_owned();
    fill(&mut out, &cannot)?;
    out.finish()
}

/// A link stays one, and what it leads to is replaced.
fn real(path: &Path) -> anyhow::Result<PathBuf> {
    let real = match (fs::canonicalize(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == ErrorKind::NotFound => {
            fs::canonicalize(folder_of(path)).map(|folder| folder.join(name))
        }
        (real, _) => real,
    };
    real.with_context(|| cannot(path))
}

fn folder_of(file: &Path) -> &Path {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

/// Its name is on the disk only with its folder.
fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(folder_of(file))?.sync_all()
}

/// Makes a file beside that at `path`, for its owner alone. A file or a link that is there already is somebody else's.
fn create(path: &Path) -> anyhow::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    loop {
        let new = beside(path);
        match options.open(&new) {
            // Of a process that was killed, and had our number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return Ok((made.with_context(|| cannot(&new))?, new)),
        }
    }
}

/// A name that no other call gives, nor one of another process that lives.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{number}.new", process::id()));
    name.into()
}

/// What to say where a file cannot be written.
pub(super) fn cannot(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use anyhow::bail;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn a_file_is_as_it_was_until_it_is_whole() {
        let folder = Folder::new();
        let path = folder.path().join("dump");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        write(&path, &|out, cannot| {
            assert!(!path.exists() && cannot.ends_with(".new"));
            Ok(out.write_all(b"one")?)
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let error = write(&path, &|out, _| {
            out.write_all(b"half of")?;
            bail!("the engine has gone")
        });
        assert_eq!(format!("{:#}", error.unwrap_err()), "the engine has gone");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(), 1, "nothing stays of what was not finished");
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        write(&link, &|out, _| Ok(out.write_all(b"two")?)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_file_is_not_replaced_and_what_cannot_be_written_is_named() {
        write(Path::new("/dev/null"), &|out, _| Ok(out.write_all(b"x")?)).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = write(Path::new("/nonexistent/dump"), &|_, _| Ok(()));
        let said = format!("{:#}", error.unwrap_err());
        assert!(said.starts_with("cannot write /nonexistent/dump"), "{said}");
        let error = write(Path::new("/dev/full"), &|out, cannot| {
            let wrote = out.write_all(&[0; 2 * OUT_BUFFER]);
            wrote.with_context(|| cannot.to_owned())
        });
        let said = format!("{:#}", error.unwrap_err());
        assert!(said.starts_with("cannot write /dev/full: "), "{said}");
    }

    #[test]
    fn two_that_write_one_file_leave_the_whole_of_one_of_them() {
        let folder = Folder::new();
        let path = folder.path().join("dump");
        let mut one = Out::begin(&path).unwrap();
        let mut other = Out::begin(&path).unwrap();
        one.write_all(b"the first one").unwrap();
        other.write_all(b"other").unwrap();
        one.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"the first one");
        other.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_one_that_is_replaced_keeps_its_mode_and_owner() {
        let folder = Folder::new();
        let path = folder.path().join("dump");
        let fill: &Fill<'_> = &|out, _| Ok(out.write_all(b"x")?);
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        write(&path, fill).unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o440)).unwrap();
        write(&path, fill).unwrap();
        assert_eq!(mode(), 0o440);
        if let Err(error) = chown(&path, Some(4321), Some(1234)) {
            eprintln!("SKIPPED the owner of a file that is replaced: {error}");
            return;
        }
        write(&path, fill).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (4321, 1234));
        assert_eq!(mode(), 0o440);
    }
}
