//! Whose code it is: whoever can write to a module, or put another in its place, can do all that this server can.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf, absolute};

use super::LoadError;

/// Looks at `written`, an absolute path, the way the kernel goes along it: each directory that it names, each link with the directory
/// in which it lies, and the file at its end. But for `vouched` and what is above that.
///
/// A directory where everybody may write is refused also when it is sticky, as /tmp is: what is in it may have been put there
/// by anybody before it was ours.
pub(super) fn check(written: &Path, vouched: Option<&Path>) -> Result<(), LoadError> {
    let vouched = vouched.and_then(|path| path.canonicalize().ok());
    let is_vouched = |path: &Path| {
        let vouched = vouched.as_deref();
        vouched.is_some_and(|vouched| vouched.starts_with(path))
    };
    walk(written, |here, seen, is_last| {
        // The permissions of a link mean nothing, and its owner alone can put another one there: that is who the directory is of.
        if seen.is_symlink() || is_vouched(here) {
            return Ok(());
        }
        if is_last && !seen.is_file() {
            let file = written.to_owned();
            return Err(LoadError::NoFile { file });
        }
        check_one(written, here, seen)
    })
}

/// All that the kernel passes on its way to `path`, without links and `..` in front of each name: directories, links, and what is at
/// the end. Who can put another one in the place of any of it decides what `path` leads to. As far as it is there.
#[must_use]
pub fn way_to(path: &Path) -> Vec<PathBuf> {
    let mut passed = Vec::new();
    if let Ok(path) = absolute(path) {
        // Where it ends is all that there is of it.
        let _ = walk(&path, |here, _, _| {
            passed.push(here.to_owned());
            Ok(())
        });
    }
    passed
}

/// Goes along `written`, an absolute path, as the kernel does, and shows what it passes, links too, to `each`: with whether it is the
/// last one.
fn walk(
    written: &Path,
    mut each: impl FnMut(&Path, &Metadata, bool) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut ahead = names(written);
    // Without links and `..`: what is behind us.
    let mut here = PathBuf::from("/");
    let mut hops = 0;
    each(&here, &look(&here)?, false)?;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let seen = look(&next)?;
        each(&next, &seen, ahead.is_empty())?;
        if !seen.is_symlink() {
            here = next;
            continue;
        }
        hops += 1;
        let target = fs::read_link(&next).map_err(|source| unreadable(&next, source))?;
        if hops > LINKS_MAX {
            let source = io::Error::from_raw_os_error(libc::ELOOP);
            return Err(unreadable(&next, source));
        }
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        let mut longer = names(&target);
        longer.append(&mut ahead);
        ahead = longer;
    }
    Ok(())
}

/// What is between the slashes, but for `.`.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path
        .components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir));
    names.map(|name| name.as_os_str().to_owned()).collect()
}

fn look(path: &Path) -> Result<Metadata, LoadError> {
    fs::symlink_metadata(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> LoadError {
    let path = path.to_owned();
    LoadError::Read { path, source }
}

fn check_one(file: &Path, component: &Path, seen: &Metadata) -> Result<(), LoadError> {
    let (owner, mode) = (seen.uid(), seen.mode() & 0o7777);
    // SAFETY: "These functions are always successful" (geteuid(2)).
    let us = unsafe { libc::geteuid() };
    let (file, component) = (file.to_owned(), component.to_owned());
    if owner != 0 && owner != us {
        return Err(LoadError::Owner {
            file,
            component,
            owner,
            us,
        });
    }
    let who = match mode {
        mode if mode & 0o002 != 0 => "everybody",
        mode if mode & 0o020 != 0 => "its group",
        _ => return Ok(()),
    };
    Err(LoadError::Writable {
        file,
        component,
        who,
        mode,
    })
}

/// Links on the way, as the kernel has it (path_resolution(7)).
const LINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_way_to_a_file_has_each_link_and_directory_that_decides_where_it_leads() {
        let base = std::env::temp_dir().join(format!("binrush-way-{}", std::process::id()));
        fs::create_dir_all(base.join("there")).unwrap();
        let base = base.canonicalize().unwrap();
        fs::write(base.join("there/x"), "").unwrap();
        symlink("there", base.join("link")).unwrap();
        let written = base.join("link/../link/x");
        let absent = base.join("there/y/z");
        let (found, ended) = (way_to(&written), way_to(&absent));
        fs::remove_dir_all(&base).unwrap();
        let from = |ways: &[PathBuf]| -> Vec<_> {
            let below = ways.iter().filter_map(|way| way.strip_prefix(&base).ok());
            below.map(|way| way.display().to_string()).collect()
        };
        let twice = ["", "link", "there", "link", "there", "there/x"];
        assert_eq!(from(&found), twice);
        assert_eq!(from(&ended), ["", "there"]);
        assert_eq!(found[0], Path::new("/"));
    }
}
