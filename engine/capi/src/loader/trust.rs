//! Whose code it is: whoever can write to a module, or put another in its place, can do all that this server can.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

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
    let mut ahead = names(written);
    // Without links and `..`: what is behind us.
    let mut here = PathBuf::from("/");
    let mut hops = 0;
    if !is_vouched(&here) {
        check_one(written, &here, &look(&here)?)?;
    }
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        let seen = look(&next)?;
        if !seen.is_symlink() {
            if !is_vouched(&next) {
                if ahead.is_empty() && !seen.is_file() {
                    let file = written.to_owned();
                    return Err(LoadError::NoFile { file });
                }
                check_one(written, &next, &seen)?;
            }
            here = next;
            continue;
        }
        // Its permissions mean nothing, and its owner alone can put another one there: that is who the directory is of.
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
