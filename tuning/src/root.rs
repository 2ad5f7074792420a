//! Files below a directory, read with bounds.
//!
//! A root may be a copy that somebody else made: of any size, with links that lead out of it, with pipes where files
//! should be. So only regular files that really lie below the root are opened, and each is read to a limit.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A directory below which a host's `/proc` and `/sys` lie. Paths are given as on that host: `/proc/stat`.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: &Path) -> Self {
        // One that is not there has no files; everything is unknown then.
        Self(fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf()))
    }

    /// The file's text, at most [`TEXT_MAX`] bytes of it. What is no UTF-8 is replaced.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.head(path, TEXT_MAX)
    }

    /// The beginning of the file.
    pub(crate) fn head(&self, path: &str, bytes_max: u64) -> Option<String> {
        let path = self.find(path)?;
        // Asked first: opening a pipe would wait for its writer.
        if !path.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        let file = File::open(path).ok()?;
        let read = file.take(bytes_max).read_to_end(&mut bytes);
        // Some files of sysfs answer with an error where there is nothing to tell. What came before one is kept.
        (read.is_ok() || !bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first line of a file that has one, without blanks around it and not longer than [`LINE_MAX`] characters.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.head(path, LINE_MAX as u64 * 4)?;
        let line = cut(text.lines().next()?);
        (!line.is_empty()).then_some(line)
    }

    /// A file that holds a number and nothing else.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// The names in a directory in their order, at most [`ENTRIES_MAX`]; none when it is not there.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = self.find(path).and_then(|path| fs::read_dir(path).ok());
        let names = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .take(ENTRIES_MAX)
            .collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// Where a path of the host really is; `None` when that is not below the root.
    fn find(&self, path: &str) -> Option<PathBuf> {
        // Joining an absolute path would leave the root.
        let joined = self.0.join(path.trim_start_matches('/'));
        let real = fs::canonicalize(joined).ok()?;
        real.starts_with(&self.0).then_some(real)
    }
}

/// A line without blanks around it, and not longer than a person would read.
pub(crate) fn cut(line: &str) -> String {
    line.trim().chars().take(LINE_MAX).collect()
}

/// More than `/proc/interrupts` of a machine with a thousand cores and their devices.
const TEXT_MAX: u64 = 16 << 20;

const LINE_MAX: usize = 512;

/// More than the interrupts of any machine.
const ENTRIES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_line_is_trimmed_and_a_number_is_nothing_else() {
        let host = Fixture::empty();
        host.write("/proc/a", " 17\n18\n");
        host.write("/proc/b", "17 x\n");
        host.write("/proc/c", "\n");
        let root = Root::new(host.path());
        assert_eq!(root.line("/proc/a").as_deref(), Some("17"));
        assert_eq!(root.number("/proc/a"), Some(17));
        assert_eq!(root.number::<u64>("/proc/b"), None);
        assert_eq!(root.line("/proc/c"), None);
        assert_eq!(root.line("/proc/none"), None);
        assert_eq!(root.names("/proc"), ["a", "b", "c"]);
        assert!(root.names("/none").is_empty());
    }

    #[test]
    fn nothing_outside_the_root_is_read() {
        let (outside, host) = (Fixture::empty(), Fixture::empty());
        outside.write("/secret", "7");
        host.write("/proc/own", "8");
        symlink(outside.path().join("secret"), host.path().join("proc/link")).unwrap();
        symlink("own", host.path().join("proc/near")).unwrap();
        let root = Root::new(host.path());
        assert_eq!(root.text("/proc/link"), None);
        assert_eq!(root.text("/proc/../../../../../../etc/hostname"), None);
        assert_eq!(root.text("/proc/near").as_deref(), Some("8"));
    }

    #[test]
    fn what_is_no_file_and_what_is_endless_does_not_hang() {
        let host = Fixture::empty();
        fs::create_dir_all(host.path().join("proc/stat")).unwrap();
        let root = Root::new(host.path());
        assert_eq!(root.text("/proc/stat"), None);
        // A device that never ends and is no regular file.
        assert_eq!(Root::new(Path::new("/")).text("/dev/zero"), None);
        host.write("/proc/long", "x".repeat(100_000));
        let line = root.line("/proc/long").unwrap();
        assert_eq!(line.len(), LINE_MAX);
    }
}
