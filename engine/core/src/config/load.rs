//! Files to statements, includes and all.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Loaded;
use super::assembly::Assembly;
use super::error::{ConfigError, Problem, quoted};
use super::lexer::Lexer;
use super::source::{ReadFile, Source, Span};
use super::syntax::{Parser, Statement};

/// Reads the file at `path`, and all that it includes.
pub(super) fn load(path: &Path, files: &dyn ReadFile) -> Result<Loaded, ConfigError> {
    let mut reading = Reading {
        files,
        assembly: Assembly::default(),
        open: vec![],
        bytes_left: TOTAL_MAX,
        statements_left: STATEMENTS_MAX,
    };
    let main: Arc<str> = path.display().to_string().into();
    if let Err(last) = reading.main(path, &main) {
        reading.assembly.problems.push(last);
    }
    reading.assembly.settle(main)
}

/// A configuration while its files are read.
struct Reading<'f> {
    files: &'f dyn ReadFile,
    assembly: Assembly,
    /// The files from the first to the one that is read now, each including the next.
    open: Vec<PathBuf>,
    bytes_left: usize,
    statements_left: usize,
}

impl Reading<'_> {
    fn main(&mut self, path: &Path, name: &Arc<str>) -> Result<(), Problem> {
        let in_file = |message: String| Problem::in_file(Arc::clone(name), message);
        let bytes = self
            .files
            .read(path, FILE_MAX + 1)
            .map_err(|error| in_file(format!("cannot be read: {error}")))?;
        self.take(path, bytes, &in_file)
    }

    /// The file that the statement at `span` of `source` includes.
    fn include(
        &mut self,
        source: &Source,
        path: &str,
        span: Span,
        may_miss: bool,
    ) -> Result<(), Problem> {
        let at_include = |message: String| source.problem(span, message);
        if path.is_empty() {
            return Err(at_include("the name of a file expected".into()));
        }
        let full = source.path.with_file_name(path);
        let shown = quoted(&full.display().to_string());
        if self.open.contains(&plain(&full)) {
            return Err(at_include(format!(
                "{shown} includes itself, this way: another file expected"
            )));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(at_include(format!(
                "{shown} is included too deeply: at most {DEPTH_MAX} files in each other"
            )));
        }
        match self.files.read(&full, FILE_MAX + 1) {
            Ok(bytes) => self.take(&full, bytes, &|message| {
                at_include(format!("{shown} {message}"))
            }),
            Err(error) if may_miss && error.kind() == ErrorKind::NotFound => {
                let place = source.excerpt(span).place;
                self.assembly.warn(
                    Some(place),
                    format!("{shown} is not there, so nothing is imported"),
                );
                Ok(())
            }
            Err(error) => Err(at_include(format!("{shown} cannot be read: {error}"))),
        }
    }

    /// Takes all statements of one file. `too_much` tells of the file as a whole.
    fn take(
        &mut self,
        path: &Path,
        bytes: Vec<u8>,
        too_much: &dyn Fn(String) -> Problem,
    ) -> Result<(), Problem> {
        if bytes.len() as u64 > FILE_MAX {
            return Err(too_much(format!(
                "is larger than {FILE_MAX} bytes: a configuration expected"
            )));
        }
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or_else(|| {
            too_much(format!(
                "makes the files of this configuration larger than {TOTAL_MAX} bytes together"
            ))
        })?;
        let source = Source::new(path, bytes)?;
        let mut parser = Parser::new(Lexer::new(&source))?;
        self.open.push(plain(path));
        while let Some(statement) = parser.statement()? {
            self.statements_left = self.statements_left.checked_sub(1).ok_or_else(|| {
                let message = format!("one statement too many: at most {STATEMENTS_MAX} expected, in all files together");
                source.problem(statement.span, message)
            })?;
            match &statement.value {
                Statement::Include { path, may_miss } => {
                    self.include(&source, &path.value, path.span, *may_miss)?
                }
                _ => self.assembly.statement(&source, statement),
            }
            if self.assembly.is_hopeless() {
                break;
            }
        }
        self.open.pop();
        Ok(())
    }
}

/// `path` without `.` and `..`, so that two ways to write it are alike. Links are not followed: a circle of them
/// ends at [`DEPTH_MAX`].
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// Bytes of one file. The largest configurations of OpenSIPS have a few hundred KiB, nearly all of it script.
const FILE_MAX: u64 = 1 << 20;

/// Bytes of all files together; one that is included twice counts twice.
const TOTAL_MAX: usize = 4 << 20;

/// Statements of all files together.
const STATEMENTS_MAX: usize = 10_000;

/// Files that include each other, the first one among them.
const DEPTH_MAX: usize = 16;
