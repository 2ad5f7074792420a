//! The file that says what the folders of a state are.
//!
//! ```text
//!   binrush state 1                        version
//!   epoch 9f86d081884c7d00                 the life of the state, 16 digits: its folder, the names of its rings
//!   seed 5eed1e55                          of steering: the same keys have the same owners at the next start
//!   shards 4
//!   ended yes                              rings have nothing that the disk has not; `no` from a start to its end
//!   aside 0000000000000000                 an epoch that is not valid, not yet or not any more, and may be removed
//!   runtime /run/binrush                   the folder of the rings; bytes that are no printable ASCII, and `%`, as %0A
//!   inode 1234                             of this folder: a copy has another one, and no part in the rings of the original
//!   table 1 dialogs 1/dialog-dlg-repl      number, family, name; sorted by number
//!   crc 3610a686                           CRC-32 (IEEE) of all bytes before this line
//! ```
//!
//! Text, one fact a line, each line as written here and no other way: what is read is what would be written. It is replaced as
//! a whole: written under another name, synced, renamed, the folder synced.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use binrush_journal::{Identity, Vfs, VfsFile};
use binrush_store::Family;

use super::error::{StateError, failed};

/// What is known of a state as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The lowest byte is 0: that of an [`identity`](Self::identity) has the number of the table there.
    pub(super) epoch: u64,
    pub(super) seed: u32,
    pub(super) shards: u16,
    /// The rings have nothing that the disk has not.
    pub(super) ended: bool,
    /// An epoch whose folders and rings may be removed; 0: none.
    pub(super) aside: u64,
    /// Where the rings are.
    pub(super) runtime_dir: PathBuf,
    /// The inode of the state directory.
    pub(super) inode: u64,
    /// By number, ascending.
    pub(super) tables: Vec<TableRow>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableRow {
    /// From 1 on.
    pub(super) number: u8,
    pub(super) family: Family,
    pub(super) name: String,
}

/// Where a manifest makes no sense, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    At(usize, &'static str),
    Newer(usize, String),
}

impl Manifest {
    /// Of an empty state.
    pub(super) fn new(shards: u16, runtime_dir: &Path, inode: u64) -> Self {
        let seed = u32::try_from(drawn() >> 32).expect("the upper half");
        Self {
            epoch: epoch_drawn(),
            seed,
            shards,
            ended: true,
            aside: 0,
            runtime_dir: runtime_dir.to_path_buf(),
            inode,
            tables: Vec::new(),
        }
    }

    /// The one in a folder; `None`: there is none.
    pub(super) fn load<V: Vfs>(vfs: &V, path: &Path) -> Result<Option<Self>, StateError> {
        let path = path.join(MANIFEST);
        let file = match vfs.open(MANIFEST) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, "open")(error)),
        };
        let bytes = read_all(&file).map_err(failed(&path, "read"))?;
        Self::parse(&bytes)
            .map(Some)
            .map_err(|broken| match broken {
                Broken::At(at, what) => StateError::Manifest { path, at, what },
                Broken::Newer(at, found) => StateError::Newer {
                    path,
                    at,
                    found,
                    known: VERSION,
                },
            })
    }

    /// Writes it in place of the one that is there: after a failure, and after a loss of power, the old one or this one is.
    pub(super) fn store<V: Vfs>(&self, vfs: &V, path: &Path) -> Result<(), StateError> {
        let path = path.join(MANIFEST);
        let replaced = self.replace(vfs);
        if replaced.is_err() {
            let _ = vfs.remove(UNFINISHED);
        }
        replaced.map_err(failed(&path, "write"))
    }

    fn replace<V: Vfs>(&self, vfs: &V) -> io::Result<()> {
        let mut file = vfs.create(UNFINISHED)?;
        file.write_all_at(self.text().as_bytes(), 0)?;
        file.sync_data()?;
        drop(file);
        vfs.rename(UNFINISHED, MANIFEST)?;
        vfs.sync()
    }

    pub(super) fn text(&self) -> String {
        let Self {
            epoch,
            seed,
            shards,
            ended,
            aside,
            runtime_dir,
            inode,
            tables,
        } = self;
        let ended = if *ended { "yes" } else { "no" };
        let mut text = format!(
            "{TITLE}{VERSION}\nepoch {epoch:016x}\nseed {seed:08x}\nshards {shards}\nended {ended}\naside {aside:016x}\nruntime {}\ninode {inode}\n",
            escaped(runtime_dir)
        );
        for TableRow {
            number,
            family,
            name,
        } in tables
        {
            let family = family_name(*family);
            writeln!(text, "table {number} {family} {name}").expect("memory takes it");
        }
        let crc = crc32fast::hash(text.as_bytes());
        writeln!(text, "crc {crc:08x}").expect("memory takes it");
        text
    }

    /// Reads what [`text`](Self::text) wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(Broken::At(error.valid_up_to(), "no text")),
        };
        let Some(rest) = text.strip_prefix(TITLE) else {
            return Err(Broken::At(0, "no manifest of a state"));
        };
        // Before the checksum: a newer one may have another.
        let version = rest.lines().next().unwrap_or_default();
        if version != VERSION.to_string() {
            let is_newer = version.parse().is_ok_and(|version: u32| version > VERSION);
            return Err(match is_newer {
                true => Broken::Newer(TITLE.len(), version.to_owned()),
                false => Broken::At(TITLE.len(), "no version that there ever was"),
            });
        }
        let crc_at = text.rfind("crc ").unwrap_or(text.len());
        let crc = crc32fast::hash(&bytes[..crc_at]);
        if text[crc_at..] != format!("crc {crc:08x}\n") {
            return Err(Broken::At(crc_at, "a wrong checksum"));
        }
        let manifest = Self::of_lines(&text[..crc_at]);
        // What means the same and is not what we write was not written by us.
        match manifest.filter(|manifest| manifest.text() == text) {
            Some(manifest) => Ok(manifest),
            None => Err(Broken::At(TITLE.len(), "lines that make no sense")),
        }
    }

    fn of_lines(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut fact = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let mut manifest = Self {
            epoch: u64::from_str_radix(fact("epoch")?, 16).ok()?,
            seed: u32::from_str_radix(fact("seed")?, 16).ok()?,
            shards: fact("shards")?.parse().ok()?,
            // What is neither is not what we write.
            ended: fact("ended")? == "yes",
            aside: u64::from_str_radix(fact("aside")?, 16).ok()?,
            runtime_dir: unescaped(fact("runtime")?)?,
            inode: fact("inode")?.parse().ok()?,
            tables: Vec::new(),
        };
        for line in lines {
            let mut words = line.strip_prefix("table ")?.split(' ');
            let number = words.next()?.parse().ok()?;
            let family = words.next()?;
            let row = TableRow {
                number,
                family: Family::ALL
                    .into_iter()
                    .find(|known| family_name(*known) == family)?,
                name: words.next()?.to_owned(),
            };
            let last = manifest.tables.last().map_or(0, |last| last.number);
            if row.number <= last || !is_name(&row.name) || manifest.find(&row.name).is_some() {
                return None;
            }
            manifest.tables.push(row);
        }
        let is_epoch = manifest.epoch & 0xff == 0 && manifest.epoch != 0;
        (is_epoch && manifest.shards > 0).then_some(manifest)
    }

    /// The table of this name.
    pub(super) fn find(&self, name: &str) -> Option<&TableRow> {
        self.tables.iter().find(|row| row.name == name)
    }

    /// A new table behind the others.
    pub(super) fn add(&mut self, name: &str, family: Family) -> Result<&TableRow, StateError> {
        if !is_name(name) {
            return Err(StateError::Name(name.to_owned()));
        }
        let last = self.tables.last().map_or(0, |last| last.number);
        let number = last.checked_add(1).ok_or(StateError::TooManyTables)?;
        self.tables.push(TableRow {
            number,
            family,
            name: name.to_owned(),
        });
        Ok(self.tables.last().expect("it was pushed"))
    }

    /// Whose the journal of a table on a shard is. Each has another one, so that none is taken for another.
    pub(super) const fn identity(&self, number: u8, shard: u16) -> Identity {
        Identity {
            epoch: self.epoch | number as u64,
            shard: shard as u32,
        }
    }
}

/// An epoch that no other state has, nor this one had.
pub(super) fn epoch_drawn() -> u64 {
    drawn() << 8 | 1 << 63
}

/// As a manifest says it.
pub(super) const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Dialogs => "dialogs",
        Family::Usrloc => "usrloc",
        Family::Cache => "cache",
        Family::Profiles => "profiles",
        Family::Pipes => "pipes",
    }
}

/// A path in one word of a line.
fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes.fold(String::new(), |mut text, byte| {
        match byte {
            b'!'..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            _ => write!(text, "%{byte:02X}").expect("memory takes it"),
        }
        text
    })
}

/// Reads what [`escaped`] wrote.
fn unescaped(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        (rest, bytes) = match first {
            b'%' => {
                let (digits, behind) = behind.split_first_chunk::<2>()?;
                let digits = std::str::from_utf8(digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                (behind, bytes)
            }
            byte => {
                bytes.push(*byte);
                (behind, bytes)
            }
        };
    }
    Some(OsString::from_vec(bytes).into())
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Random enough: the hash keys of std are seeded by the system.
fn drawn() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

fn read_all(file: &impl VfsFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LEN_MAX];
    let mut have = 0;
    loop {
        match file.read_at(&mut bytes[have..], have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

pub(super) const MANIFEST: &str = "manifest";

const UNFINISHED: &str = "manifest.new";

const TITLE: &str = "binrush state ";

const VERSION: u32 = 1;

/// Bytes of the longest name of a table.
pub(super) const NAME_LEN_MAX: usize = 128;

/// Most tables: what their numbers have room for.
pub(super) const TABLES_MAX: u8 = u8::MAX;

/// Bytes of the longest path that Linux takes (path_resolution(7)), of which each may be three of text.
const PATH_LEN_MAX: usize = 4096;

/// What all tables there may be need, and more.
const LEN_MAX: usize = 256 + 3 * PATH_LEN_MAX + (TABLES_MAX as usize + 1) * (NAME_LEN_MAX + 32);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_journal::vfs::sim::{EIO, ENOSPC, Failing, PowerLoss, SimFolder};

    fn sample() -> Manifest {
        let mut manifest = Manifest::new(3, Path::new("/run/bin rush/100%\n"), 7);
        manifest.aside = epoch_drawn();
        manifest.add("1/dialog-dlg-repl", Family::Dialogs).unwrap();
        manifest.add("ul", Family::Usrloc).unwrap();
        manifest
    }

    fn load(folder: &SimFolder) -> Result<Option<Manifest>, StateError> {
        Manifest::load(folder, Path::new("state"))
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = SimFolder::default();
        assert_eq!(load(&folder).unwrap(), None);
        let manifest = sample();
        manifest.store(&folder, Path::new("state")).unwrap();
        assert_eq!(load(&folder).unwrap(), Some(manifest));
        let mut full = Manifest::new(u16::MAX, Path::new(&"\n".repeat(PATH_LEN_MAX)), u64::MAX);
        for number in 1..=TABLES_MAX {
            let name = format!("{number:0>NAME_LEN_MAX$}");
            full.add(&name, Family::Profiles).unwrap();
        }
        assert!(full.text().len() < LEN_MAX);
        assert_eq!(Manifest::parse(full.text().as_bytes()), Ok(full.clone()));
        let error = full.add("more", Family::Cache).unwrap_err();
        assert!(matches!(error, StateError::TooManyTables));
        for name in ["", "a b", "a\nb", "é", &"n".repeat(NAME_LEN_MAX + 1)] {
            let error = sample().add(name, Family::Cache).unwrap_err();
            assert!(matches!(error, StateError::Name(_)), "{name}");
        }
    }

    #[test]
    fn any_changed_byte_is_refused_with_its_place() {
        let text = sample().text().into_bytes();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                assert!(Manifest::parse(&changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Manifest::parse(&text[..at]).is_err(), "{at} bytes");
        }
        let mut longer = text;
        longer.push(b'\n');
        assert!(Manifest::parse(&longer).is_err());
    }

    #[test]
    fn a_newer_one_is_refused_whatever_follows() {
        let broken = Manifest::parse(b"binrush state 2\nanything");
        assert_eq!(broken, Err(Broken::Newer(14, "2".into())));
        let broken = Manifest::parse(b"binrush state 0\nanything");
        assert!(matches!(broken, Err(Broken::At(14, _))));
    }

    #[test]
    fn lines_that_nobody_writes_are_refused_though_their_sum_is_right() {
        let lines = sample().text();
        for (from, to) in [
            ("shards 3", "shards 0"),
            ("shards 3", "shards 03"),
            ("ended yes", "ended maybe"),
            ("bin%20rush", "bin rush"),
            ("%0A", "%0a"),
            ("%0A", "%"),
            ("table 2 usrloc", "table 1 usrloc"),
            ("table 2 usrloc", "table 2 contacts"),
            ("usrloc ul", "usrloc 1/dialog-dlg-repl"),
            ("usrloc ul", "usrloc u l"),
            ("usrloc ul\n", "usrloc ul\nmore\n"),
        ] {
            let mut text = lines.replace(from, to);
            assert_ne!(text, lines, "{from}");
            text.truncate(text.rfind("crc ").unwrap());
            let crc = crc32fast::hash(text.as_bytes());
            writeln!(text, "crc {crc:08x}").unwrap();
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn whatever_call_fails_and_whenever_the_power_goes_one_of_both_is_there() {
        let (old, new) = (sample(), sample());
        let files = [(MANIFEST.to_owned(), old.text().into_bytes())].into();
        let mut failures = 0;
        for call in 0.. {
            let folder = SimFolder::with_files(&files);
            folder.fail(Some(Failing {
                from: call,
                to: call + 1,
                errno: if call % 2 == 0 { EIO } else { ENOSPC },
            }));
            let stored = new.store(&folder, Path::new("state"));
            folder.fail(None);
            let there = load(&folder).unwrap().unwrap();
            assert!(there == old || there == new, "call {call}");
            for calls in 0..=folder.moments() {
                for names in 0..4 {
                    let loss = PowerLoss {
                        calls,
                        names,
                        sector: 512,
                        sizes: names % 2 == 0,
                    };
                    let left = folder.lose_power(loss, &mut |write, _| write % 2 == 0);
                    let there = load(&SimFolder::with_files(&left)).unwrap().unwrap();
                    assert!(there == old || there == new, "call {call}, {loss:?}");
                    let is_done = stored.is_ok() && calls == folder.moments();
                    assert!(!is_done || there == new);
                }
            }
            if stored.is_ok() {
                break;
            }
            failures += 1;
        }
        assert_eq!(failures, 5, "create, write, sync, rename, sync");
    }
}
