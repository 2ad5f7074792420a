//! CSV files (RFC 4180), with a line of names first.
//!
//! NULL is a field of no bytes, an empty text is `""`: as COPY of PostgreSQL has it. All bytes of texts and blobs stand as they are.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::super::layout::{Schema, Table};
use super::super::rows::Cell;
use super::{LocalTime, Sink, version_row};
use crate::state::STDOUT;
use crate::state::whole::Out;

/// A file for each table in a folder, or one table to standard output.
pub(in crate::state::export) struct Csv<'o> {
    to: To<'o>,
    schema: Schema,
    local: LocalTime,
    line: Vec<u8>,
    /// The rows of `version`, which come last.
    versions: Vec<Vec<Cell<'static>>>,
}

enum To<'o> {
    Folder {
        path: PathBuf,
        is_forced: bool,
        files: Vec<Out>,
        /// Behind the files, which go first.
        _made: Option<Made>,
    },
    /// Whether there is a table.
    Out(Box<dyn Write + 'o>, bool),
}

/// A folder that was made, and goes if nothing is in it.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl<'o> Csv<'o> {
    /// Files in the folder at `path`, which is made if it is not there; those that are there are replaced if that `is_forced`.
    pub(in crate::state::export) fn folder(
        path: PathBuf,
        is_forced: bool,
        schema: Schema,
    ) -> anyhow::Result<Self> {
        let is_there = path.is_dir();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let to = To::Folder {
            _made: (!is_there).then(|| Made(path.clone())),
            path,
            is_forced,
            files: Vec::new(),
        };
        Self::new(to, schema)
    }

    /// One table to standard output.
    pub(in crate::state::export) fn out(
        out: Box<dyn Write + 'o>,
        schema: Schema,
    ) -> anyhow::Result<Self> {
        Self::new(To::Out(out, false), schema)
    }

    fn new(to: To<'o>, schema: Schema) -> anyhow::Result<Self> {
        Ok(Self {
            to,
            schema,
            local: LocalTime::new()?,
            line: Vec::new(),
            versions: Vec::new(),
        })
    }

    fn begin(&mut self, table: Table, name: &str) -> anyhow::Result<usize> {
        let at = match &mut self.to {
            To::Out(_, true) => {
                bail!("only one table goes to standard output: --kind says which, or --out DIR")
            }
            To::Out(_, has_one) => {
                *has_one = true;
                0
            }
            To::Folder {
                path,
                is_forced,
                files,
                ..
            } => {
                let path = path.join(format!("{name}.csv"));
                if !*is_forced {
                    super::super::refuse_there(&path)?;
                }
                files.push(Out::begin(&path)?);
                files.len() - 1
            }
        };
        let names = table.columns(self.schema).map(|column| column.name);
        let names: Vec<_> = names.collect();
        self.line.clear();
        self.line.extend_from_slice(names.join(",").as_bytes());
        self.put_line(at)?;
        Ok(at)
    }

    fn put_line(&mut self, at: usize) -> anyhow::Result<()> {
        self.line.extend(b"\r\n");
        match &mut self.to {
            To::Out(out, _) => out.write_all(&self.line).context(STDOUT),
            To::Folder { files, .. } => {
                let written = files[at].write_all(&self.line);
                written.with_context(|| files[at].cannot().to_owned())
            }
        }
    }

    fn value(&mut self, cell: &Cell<'_>) -> anyhow::Result<()> {
        match cell {
            Cell::Null => {}
            Cell::Number(number) => write!(self.line, "{number}")?,
            Cell::Float(number) => write!(self.line, "{number}")?,
            Cell::Text(text) => put_text(&mut self.line, text),
            Cell::Blob(bytes) => put_text(&mut self.line, bytes),
            Cell::Time(unix) => self.line.extend(self.local.text(*unix)?.as_bytes()),
        }
        Ok(())
    }
}

impl Sink for Csv<'_> {
    fn table(&mut self, table: Table, name: &str) -> anyhow::Result<()> {
        self.begin(table, name)?;
        self.versions.push(version_row(table, name, self.schema));
        Ok(())
    }

    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        self.line.clear();
        for (place, cell) in cells.iter().enumerate() {
            if place > 0 {
                self.line.push(b',');
            }
            self.value(cell)?;
        }
        self.put_line(table)
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<()> {
        if let To::Out(out, _) = &mut self.to {
            return out.flush().context(STDOUT);
        }
        let version = self.begin(Table::Version, "version")?;
        for row in std::mem::take(&mut self.versions) {
            self.row(version, &row)?;
        }
        let To::Folder { mut files, .. } = self.to else {
            unreachable!("that has ended");
        };
        // All are written before the first one takes its place.
        for file in &mut files {
            let flushed = file.flush();
            flushed.with_context(|| file.cannot().to_owned())?;
        }
        files.into_iter().try_for_each(Out::finish)
    }
}

fn put_text(line: &mut Vec<u8>, text: &[u8]) {
    let is_plain = |byte: &u8| !matches!(byte, b',' | b'"' | b'\r' | b'\n');
    if !text.is_empty() && text.iter().all(is_plain) {
        return line.extend_from_slice(text);
    }
    line.push(b'"');
    for byte in text {
        match byte {
            b'"' => line.extend(b"\"\""),
            byte => line.push(*byte),
        }
    }
    line.push(b'"');
}
