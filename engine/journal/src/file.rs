//! Names and first pages of files, and what is wrong with a file.

use std::fmt;
use std::io;

use crate::vfs::{Vfs, VfsFile};

/// Whose ring or file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The life of the state: chosen by who begins an empty one, kept while places keep their meaning.
    pub epoch: u64,
    /// The shard.
    pub shard: u32,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Ops, from the number in its name on.
    Log(u64),
    /// All records, after the op whose number is in its name.
    Snapshot(u64),
}

/// A file that was not read to its end, or not at all, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name in the folder.
    pub file: String,
    /// Where it stops being good.
    pub offset: u64,
    /// How many bytes from there on, to the last that is not zero, were not used.
    pub bytes: u64,
    /// What is wrong there.
    pub why: Why,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It is shorter than a page, or than it was made, or ends inside a block.
    #[error("it ends early")]
    EndsEarly,
    /// Its first bytes are those of something else.
    #[error("no file of a journal")]
    NotOurs,
    /// What is there is not what was written.
    #[error("a wrong checksum")]
    Checksum,
    /// A length that no block has.
    #[error("a block of {0} bytes")]
    BlockLen(u32),
    /// A block that says what it cannot mean.
    #[error("a block that makes no sense")]
    Nonsense,
    /// Its number is another one than its name has.
    #[error("a number that is not the one of its name: renamed, or a copy")]
    Misnamed,
    /// A block that does not go on where the last one ended.
    #[error("op {found} follows op {after}")]
    Jump {
        /// The last number before it.
        after: u64,
        /// The number that it has.
        found: u64,
    },
    /// A snapshot without its last block.
    #[error("a snapshot that was not completed")]
    Incomplete,
    /// A snapshot that is newer than the log, whose end is lost.
    #[error("it has what ops up to {end} did, and the log ends with {lsn}")]
    AheadOfLog {
        /// The last op that may be in it.
        end: u64,
        /// Where the log ends.
        lsn: u64,
    },
}

/// Why nothing is read from a folder: nothing is changed in it either.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// A call failed.
    #[error("{file}: cannot {doing} it: {source}")]
    Io {
        /// The file, `.` for the folder.
        file: String,
        /// What was tried, as a verb.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Written by a newer binrush.
    #[error(
        "{file}: at byte 8: version {found}; this binrush knows {VERSION}: use the one that wrote it"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
    },
    /// That of another shard, or of another life of the state.
    #[error(
        "{file}: at byte 16: it belongs to {found}, and this folder to {wanted}: it was copied here, or the folder was"
    )]
    Foreign {
        /// The file.
        file: String,
        /// Whose it is.
        found: Identity,
        /// Whose was asked for.
        wanted: Identity,
    },
}

/// The first page of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) what: What,
    pub(crate) identity: Identity,
    /// Bytes that the file has had since it was made.
    pub(crate) reserved: u64,
}

impl Identity {
    /// Whose the files in a folder are, by the first one with a whole header; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel said, and [`FileError::Newer`].
    pub fn of_folder(vfs: &impl Vfs) -> Result<Option<Self>, FileError> {
        let mut names = names(vfs)?;
        names.sort();
        for (what, name) in names {
            let file = vfs.open(&name).map_err(failed(&name, "open"))?;
            if let Ok(found) = Header::read(&file, &name, what, None)? {
                return Ok(Some(found.identity));
            }
        }
        Ok(None)
    }
}

impl Header {
    /// The page with which the file begins.
    pub(crate) fn page(&self) -> Vec<u8> {
        let (magic, number) = match self.what {
            What::Log(first) => (LOG_MAGIC, first),
            What::Snapshot(begin) => (SNAPSHOT_MAGIC, begin),
        };
        let mut page = Vec::with_capacity(PAGE_LEN);
        page.extend_from_slice(&magic);
        page.extend_from_slice(&VERSION.to_le_bytes());
        page.extend_from_slice(&0_u32.to_le_bytes());
        page.extend_from_slice(&self.identity.epoch.to_le_bytes());
        page.extend_from_slice(&self.identity.shard.to_le_bytes());
        page.extend_from_slice(&0_u32.to_le_bytes());
        page.extend_from_slice(&number.to_le_bytes());
        page.extend_from_slice(&self.reserved.to_le_bytes());
        page.resize(PAGE_LEN - 4, 0);
        let crc = crc32fast::hash(&page);
        page.extend_from_slice(&crc.to_le_bytes());
        page
    }

    /// What the checksums of blocks begin with: a block of another file is none of this one.
    pub(crate) fn salt(&self) -> u32 {
        // Not that of the whole page: with its own checksum behind it, any page has the same one.
        u32_at(&self.page(), PAGE_LEN - 4)
    }

    /// Checks the first page of a file, whose name says `what` it is; with `identity`, whose it is as well.
    pub(crate) fn read(
        file: &impl VfsFile,
        name: &str,
        what: What,
        identity: Option<Identity>,
    ) -> Result<Result<Self, Refused>, FileError> {
        let mut page = vec![0; PAGE_LEN];
        let read = read_up_to(file, &mut page, 0).map_err(failed(name, "read"))?;
        let refused = |offset: usize, why| {
            Ok(Err(Refused {
                file: name.to_owned(),
                offset: offset as u64,
                bytes: read.saturating_sub(offset) as u64,
                why,
            }))
        };
        if read < PAGE_LEN {
            return refused(read, Why::EndsEarly);
        }
        let (magic, _) = page.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        if *magic != LOG_MAGIC && *magic != SNAPSHOT_MAGIC {
            return refused(0, Why::NotOurs);
        }
        let crc = u32_at(&page, PAGE_LEN - 4);
        if crc != crc32fast::hash(&page[..PAGE_LEN - 4]) {
            return refused(PAGE_LEN - 4, Why::Checksum);
        }
        let version = u32_at(&page, 8);
        if version != VERSION {
            return Err(FileError::Newer {
                file: name.to_owned(),
                found: version,
            });
        }
        let number = u64_at(&page, 32);
        let found = Self {
            what: if *magic == LOG_MAGIC {
                What::Log(number)
            } else {
                What::Snapshot(number)
            },
            identity: Identity {
                epoch: u64_at(&page, 16),
                shard: u32_at(&page, 24),
            },
            reserved: u64_at(&page, 40),
        };
        match identity {
            Some(wanted) if wanted != found.identity => {
                return Err(FileError::Foreign {
                    file: name.to_owned(),
                    found: found.identity,
                    wanted,
                });
            }
            _ => {}
        }
        if found.what != what {
            return refused(32, Why::Misnamed);
        }
        Ok(Ok(found))
    }
}

impl What {
    /// The name of such a file.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Log(first) => format!("log-{first:020}"),
            Self::Snapshot(begin) => format!("snapshot-{begin:020}"),
        }
    }

    /// What a file of this name is; `None` when it is none of ours, or not ready.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (kind, number) = name.split_once('-')?;
        let number = number.parse().ok()?;
        let what = match kind {
            "log" => Self::Log(number),
            "snapshot" => Self::Snapshot(number),
            _ => return None,
        };
        (what.name() == name).then_some(what)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of epoch {}", self.shard, self.epoch)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            offset,
            bytes,
            why,
        } = self;
        write!(f, "{file}: at byte {offset}: {why}; {bytes} bytes not used")
    }
}

/// The files of a folder that are ours.
pub(crate) fn names(vfs: &impl Vfs) -> Result<Vec<(What, String)>, FileError> {
    let names = vfs.names().map_err(failed(".", "list"))?;
    let ours = names
        .into_iter()
        .filter_map(|name| What::of_name(&name).map(|what| (what, name)));
    Ok(ours.collect())
}

pub(crate) fn failed(file: &str, doing: &'static str) -> impl FnOnce(io::Error) -> FileError {
    let file = file.to_owned();
    move |source| FileError::Io {
        file,
        doing,
        source,
    }
}

/// Reads until `bytes` is full or the file ends.
pub(crate) fn read_up_to(file: &impl VfsFile, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < bytes.len() {
        match file.read_at(&mut bytes[have..], at + have as u64) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// The number at `at`, zero where `bytes` ends before it.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The number at `at`, zero where `bytes` ends before it.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What a file has in its name until it is complete.
pub(crate) const UNFINISHED: &str = ".new";

/// What a file has in its name once it was refused.
pub(crate) const REFUSED: &str = ".refused";

/// The first page.
pub(crate) const PAGE_LEN: usize = 4096;

const VERSION: u32 = 1;

const LOG_MAGIC: [u8; 8] = *b"BINRLOG\n";

const SNAPSHOT_MAGIC: [u8; 8] = *b"BINRSNP\n";
