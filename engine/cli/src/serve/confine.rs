//! What a server gives up once its sockets are bound.
//!
//! | what | why |
//! |---|---|
//! | capabilities: all sets empty | who takes the process over can do what its user can, and no more |
//! | `no_new_privs` | nothing that it executes gets more (prctl(2)) |
//! | not dumpable, no core files | records are people's calls: they do not belong in a file of the kernel's, and no other process of our user reads them |
//! | Landlock | of the files it sees those that it needs: see `Files` below |
//!
//! All of it belongs to a thread and is inherited by those that it starts, so it is done by the main thread before there
//! are others. System calls are not filtered here: the unit of the service does that. The network is left out of Landlock: it would fix the ports of the start, and a reload may listen at others.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use caps::{CapSet, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use serde_json::{Value, json};

/// The files and folders that a server needs after its start. Those that are not there are passed over.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// Whose content is read: of files the folders too, because an editor and a renewal of certificates put another file
    /// in the place of the old one.
    pub(super) read: Vec<PathBuf>,
    /// What is written to.
    pub(super) write: Vec<PathBuf>,
}

/// What was given up, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Confined {
    /// In words, each.
    done: Vec<String>,
    /// What could not be done, and why.
    missing: Vec<String>,
}

impl Files {
    /// Reads this one, and what may be put in its place.
    pub(super) fn reads(&mut self, file: &Path) {
        self.read.extend(folders_of(file));
    }

    /// Reads the files in this one, most of which may be links to elsewhere, as in `/etc/ssl/certs`.
    pub(super) fn reads_all_in(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let targets = entries
            .take(ENTRIES_MAX)
            .filter_map(|entry| entry.path().canonicalize().ok());
        let folders: BTreeSet<PathBuf> = targets
            .filter_map(|target| target.parent().map(Path::to_owned))
            .collect();
        self.read.push(folder.to_owned());
        self.read.extend(folders);
    }
}

/// What is seen with `path`: of a folder itself, of a file the folders in which it may be replaced.
pub(crate) fn seen_with(path: &Path) -> Vec<PathBuf> {
    match path.is_dir() {
        true => vec![path.to_owned()],
        false => folders_of(path),
    }
}

/// That of `file`; and what a link leads to may lie elsewhere, as in the folders of a certbot.
fn folders_of(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    let mut folders = vec![folder.unwrap_or_else(|| Path::new(".")).to_owned()];
    let target = file.canonicalize().ok();
    folders.extend(target.and_then(|target| target.parent().map(Path::to_owned)));
    folders
}

/// Gives everything up that can be, for the calling thread and all that it starts from now on. Once in the life of a process:
/// who takes its sockets back from an heir has given it up already, and each time would add a layer of rules.
pub(super) fn confine(files: &Files) -> Confined {
    static CONFINED: OnceLock<Confined> = OnceLock::new();
    CONFINED.get_or_init(|| confine_now(files)).clone()
}

fn confine_now(files: &Files) -> Confined {
    let mut confined = Confined::default();
    confined.note("no_new_privs", prctl::set_no_new_privs());
    confined.note("no core files", setrlimit(Resource::RLIMIT_CORE, 0, 0));
    confined.note("not dumpable", prctl::set_dumpable(false));
    // Before the capabilities: without no_new_privs it would need one.
    match landlock(files) {
        Ok((abi, RulesetStatus::FullyEnforced)) => confined.done.push(format!("landlock {abi}")),
        Ok((abi, RulesetStatus::PartiallyEnforced)) => {
            confined.done.push(format!("landlock {abi} in part"));
        }
        Ok((abi, RulesetStatus::NotEnforced)) => {
            confined
                .missing
                .push(format!("landlock: this kernel has {abi}"));
        }
        Err(error) => confined.missing.push(format!("landlock: {error}")),
    }
    confined.note("no capabilities", drop_capabilities());
    confined
}

impl Confined {
    fn note<E: fmt::Display>(&mut self, what: &str, done: Result<(), E>) {
        match done {
            Ok(()) => self.done.push(what.to_owned()),
            Err(error) => self.missing.push(format!("{what}: {error}")),
        }
    }

    /// For the ready line.
    pub(super) fn words(&self) -> String {
        match &self.done[..] {
            [] => "not confined".to_owned(),
            done => format!("confined ({})", done.join(", ")),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "done": self.done, "missing": self.missing })
    }

    /// What an operator should know.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let missing = self.missing.iter();
        missing.map(|missing| format!("not as confined as it could be: {missing}"))
    }
}

/// Sees no other file from here on.
fn landlock(files: &Files) -> Result<(String, RulesetStatus), landlock::RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::from_read(NEWEST) & !AccessFs::Execute;
    let mut ruleset = Ruleset::default().handle_access(all)?.create()?;
    let rules = [
        (&files.read, read),
        (&files.write, all & !AccessFs::Execute),
    ];
    for (paths, access) in rules {
        for path in paths {
            // One that is not there needs no rule.
            let Ok(opened) = PathFd::new(path) else {
                continue;
            };
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(NEWEST)
            };
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    let status = ruleset.restrict_self()?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => format!("ABI {}", effective_abi as u32),
        LandlockStatus::NotEnabled => "none: it is off".to_owned(),
        _ => "none".to_owned(),
    };
    Ok((abi, status.ruleset))
}

/// Those of the bounding set go first, which needs one of them. Who has none, as under a unit that gives none, does not ask:
/// capset(2) is a privileged call, which a filter of system calls may refuse whatever it is to do.
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let all = caps::read(None, CapSet::Permitted)?;
    // The effective ones are among the permitted ones (capabilities(7)).
    if all.is_empty() && caps::read(None, CapSet::Inheritable)?.is_empty() {
        return Ok(());
    }
    if all.contains(&caps::Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding)?;
    }
    let none = CapsHashSet::new();
    caps::set(None, CapSet::Inheritable, &none)?;
    caps::set(None, CapSet::Effective, &none)?;
    caps::set(None, CapSet::Permitted, &none)
}

/// Files of a folder of certificates that are looked at, at most.
const ENTRIES_MAX: usize = 10_000;

/// What to say with a reload that failed: why may be that files are not seen.
pub(super) const RELOADS: &str = "a process that is confined reads no files but those of the folders of its start, opens no \
    ports below 1024 and no buffers above the host's limit: `binrush serve --handover` starts one that can";

/// The newest rights that we know of; a kernel that knows fewer takes those (landlock(7)). `V5` is Linux 6.10: later ones
/// are about other things than files.
const NEWEST: ABI = ABI::V5;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_the_entries_of_a_folder_link_to_is_seen_too() {
        let base = std::env::temp_dir().join(format!("binrush-confine-{}", std::process::id()));
        let (folder, elsewhere) = (base.join("certs"), base.join("share"));
        for each in [&folder, &elsewhere] {
            fs::create_dir_all(each).unwrap();
        }
        fs::write(elsewhere.join("ca.pem"), "x").unwrap();
        symlink("../share/ca.pem", folder.join("0a.0")).unwrap();
        symlink("nowhere", folder.join("0b.0")).unwrap();
        let mut files = Files::default();
        files.reads_all_in(&folder);
        let elsewhere = elsewhere.canonicalize().unwrap();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(files.read, [folder, elsewhere]);
    }
}
