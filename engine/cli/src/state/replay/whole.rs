//! A file that is as it was, or whole: who reads it while it is written, or after a crash, has no half of it.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::state::OUT_BUFFER;

/// What fills a file: its second argument is what to say when it cannot be written to.
type Fill<'f> = dyn Fn(&mut dyn Write, &str) -> anyhow::Result<()> + 'f;

/// Has `fill` write the file at `path`. What is there and no file, such as a pipe, is written to as it is.
///
/// # Errors
/// Those of `fill`, as they are; or it cannot be written to. The file is as it was then.
pub(super) fn write(path: &Path, fill: &Fill<'_>) -> anyhow::Result<()> {
    // A link stays one, and what it leads to is replaced.
    let real = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        real => real,
    };
    let real = real.with_context(|| cannot(path))?;
    if fs::metadata(&real).is_ok_and(|found| !found.is_file()) {
        let file = File::create(&real).with_context(|| cannot(path))?;
        return filled(file, &cannot(path), fill).map(drop);
    }
    let new = beside(&real);
    let written = write_new(&new, &real, path, fill);
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(new: &Path, real: &Path, path: &Path, fill: &Fill<'_>) -> anyhow::Result<()> {
    let file = File::create(new).with_context(|| cannot(new))?;
    let file = filled(file, &cannot(new), fill)?;
    file.sync_all().with_context(|| cannot(new))?;
    fs::rename(new, real).with_context(|| cannot(path))?;
    sync_folder(real).with_context(|| cannot(path))
}

fn filled(file: File, cannot: &str, fill: &Fill<'_>) -> anyhow::Result<File> {
    let mut file = BufWriter::with_capacity(OUT_BUFFER, file);
    fill(&mut file, cannot)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.with_context(|| cannot.to_owned())
}

/// Its name is on the disk only with its folder.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn cannot(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use anyhow::bail;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_as_it_was_until_it_is_whole() {
        let folder = Folder::new();
        let path = folder.path().join("dump");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        write(&path, &|out, cannot| {
            assert!(!path.exists() && cannot.ends_with("dump.new"));
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
}
