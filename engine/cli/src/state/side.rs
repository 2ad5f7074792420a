//! Where records come from.

use std::convert::Infallible;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use super::dump::{self, Dump, LEN_MAX, Record};
use super::folder::Folder;
use super::live::Live;
use super::search::Search;
use crate::control::client::default_path;

/// One side of a comparison, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// What is there says what it is: see [`Found`].
    Path(PathBuf),
    /// The engine on this host, where it listens unless it was told otherwise.
    Live,
    /// A file on standard input.
    Stdin,
}

/// What a side is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A running engine, at its control socket.
    Engine(PathBuf),
    /// The state directory of an engine, whether one runs or not.
    Folder(PathBuf),
    /// A dump of ours, or the reply of a genuine node: the file itself says which.
    File,
}

/// What is wanted of a side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// When the reply of a genuine node was written.
    pub(super) at: Option<i64>,
    /// Tables; none of them: all.
    pub(super) tables: &'a [String],
    /// A side that has none of these tables is wanted as it is; else that is an error.
    pub(super) is_lenient: bool,
    /// Where the rings of a state directory are.
    pub(super) runtime: Option<&'a Path>,
    /// Of an engine only these records: of all others, who asks has to look for them himself.
    pub(super) search: &'a Search,
}

impl Side {
    /// What it is. What is not there is taken for a file, which cannot be opened then.
    pub(super) fn found(&self) -> Found {
        let path = match self {
            Self::Path(path) => path,
            Self::Live => return Found::Engine(default_path()),
            Self::Stdin => return Found::File,
        };
        match fs::metadata(path).map(|found| found.file_type()) {
            Ok(kind) if kind.is_socket() => Found::Engine(path.clone()),
            Ok(kind) if kind.is_dir() => Found::Folder(path.clone()),
            _ => Found::File,
        }
    }

    /// Reads its records.
    ///
    /// # Errors
    /// What is wrong, with the name of the side; there is no table of a name that is wanted.
    pub(super) fn read(&self, terms: &Terms<'_>) -> anyhow::Result<Dump> {
        let read = || match self.found() {
            Found::Engine(path) => {
                Live::open(path, terms.tables, terms.is_lenient)?.read(terms.search)
            }
            Found::Folder(path) => terms.keep(Folder::open(path, terms.runtime).read()?),
            Found::File => terms.keep(Dump::read(&self.bytes()?, terms.at)?),
        };
        read().with_context(|| self.to_string())
    }

    /// Shows what it tells of, and then each of its records: those of an engine as they come, and others when all are read.
    ///
    /// # Errors
    /// As of [`read`](Self::read), and those of `each` as they are.
    pub(super) fn each(
        &self,
        terms: &Terms<'_>,
        each: &mut dyn FnMut(&Dump, Option<Record>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Found::Engine(path) = self.found() else {
            let mut dump = self.read(terms)?;
            let records = std::mem::take(&mut dump.records);
            each(&dump, None)?;
            return records
                .into_iter()
                .try_for_each(|record| each(&dump, Some(record)));
        };
        let side = || self.to_string();
        let live = Live::open(path, terms.tables, terms.is_lenient).with_context(side)?;
        let head = live.head().with_context(side)?;
        each(&head, None)?;
        live.show(&head, terms.search, &mut |record| each(&head, Some(record)))
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let input: Box<dyn Read> = match self {
            Self::Path(path) => Box::new(File::open(path).context("cannot open it")?),
            Self::Stdin | Self::Live => Box::new(io::stdin().lock()),
        };
        let mut bytes = Vec::new();
        let read = input.take(LEN_MAX + 1).read_to_end(&mut bytes);
        read.context("cannot read it")?;
        Ok(bytes)
    }
}

impl Terms<'_> {
    /// Leaves of a dump the tables that are wanted.
    fn keep(&self, mut dump: Dump) -> anyhow::Result<Dump> {
        if !self.is_lenient {
            let names: Vec<_> = dump.tables.iter().map(|table| &*table.name).collect();
            dump::check_names(self.tables, &names)?;
        }
        dump.keep_tables(self.tables);
        Ok(dump)
    }
}

impl FromStr for Side {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdin,
            "live" => Self::Live,
            path => Self::Path(path.into()),
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Live => f.write_str("live"),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}
