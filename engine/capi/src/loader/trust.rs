//! Whose code it is: whoever can write to a module, or put another in its place, can do all that this server can.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::LoadError;

/// Looks at `file`, a path without links, and at each directory above it, but for `vouched` and what is above that.
///
/// A directory where everybody may write is refused also when it is sticky, as /tmp is: what is in it may have been put there
/// by anybody before it was ours.
pub(super) fn check(file: &Path, vouched: Option<&Path>) -> Result<(), LoadError> {
    let vouched = vouched.and_then(|path| path.canonicalize().ok());
    for component in file.ancestors() {
        if vouched.as_deref() == Some(component) {
            return Ok(());
        }
        let seen = fs::metadata(component).map_err(|source| LoadError::Read {
            path: component.to_owned(),
            source,
        })?;
        if component == file && !seen.is_file() {
            let file = file.to_owned();
            return Err(LoadError::NoFile { file });
        }
        check_one(file, component, seen.uid(), seen.mode() & 0o7777)?;
    }
    Ok(())
}

fn check_one(file: &Path, component: &Path, owner: u32, mode: u32) -> Result<(), LoadError> {
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
