//! Where records come from.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;

use super::dump::{Dump, LEN_MAX};

/// One side of a comparison, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// A dump of ours, or the reply of a genuine node: the file itself says which.
    File(PathBuf),
    /// The same on standard input.
    Stdin,
}

impl Side {
    /// Reads its records. `at`: when the reply of a genuine node was written.
    pub(super) fn read(&self, at: Option<i64>) -> anyhow::Result<Dump> {
        let mut bytes = Vec::new();
        let input: Box<dyn Read> = match self {
            Self::File(path) => {
                let opened = File::open(path).with_context(|| format!("cannot open {self}"));
                Box::new(opened?)
            }
            Self::Stdin => Box::new(io::stdin().lock()),
        };
        let read = input.take(LEN_MAX + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {self}"))?;
        Dump::read(&bytes, at).with_context(|| self.to_string())
    }
}

impl FromStr for Side {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}
