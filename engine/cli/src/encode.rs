//! `binrush encode`: the inverse of `decode --json`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use binrush_capture::{WriteError, Writer};

use crate::line::{Line, hex, transport};
use crate::text::Harmless;

/// Make packets of the JSON lines that `decode --json` prints
///
/// A line by hand needs "generation", "name", "type" and "fields" only. A line that cannot become a packet
/// is named and left out; then the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lines, or - for standard input.
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Where the capture goes [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print each packet as a line of hex digits instead of writing a capture.
    #[arg(long)]
    hex: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = args.file.display();
    let mut input: Box<dyn BufRead> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(&args.file).with_context(|| format!("cannot open {file}"))?;
        Box::new(BufReader::new(opened))
    };
    let mut sink = Sink::open(args)?;
    let (mut refused, mut written) = (0_u64, 0_u64);
    let mut text = vec![];
    for number in 1_u64.. {
        let done = match read_line(&mut input, &mut text) {
            Ok(Next::End) => break,
            Ok(Next::Line) if text.trim_ascii().is_empty() => continue,
            Ok(Next::Line) => sink.line(&text),
            Ok(Next::TooLong) => Err(anyhow::anyhow!("longer than {LINE_MAX} bytes")),
            Err(error) => return Err(error).with_context(|| format!("cannot read {file}")),
        };
        match done {
            Ok(()) => written += 1,
            Err(error) if error.downcast_ref::<io::Error>().is_some() => {
                return Err(error.context("cannot write the packets"));
            }
            Err(error) => {
                refused += 1;
                eprintln!("line {number}: {}", Harmless(&format!("{error:#}")));
            }
        }
    }
    sink.finish().context("cannot write the packets")?;
    if refused > 0 {
        eprintln!("{refused} lines were left out, {written} became packets");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

enum Next {
    Line,
    TooLong,
    End,
}

/// Reads the next line into `text`, its newline included; of one that is too long only the end is found.
fn read_line(input: &mut dyn BufRead, text: &mut Vec<u8>) -> io::Result<Next> {
    text.clear();
    if input.take(LINE_MAX).read_until(b'\n', text)? == 0 {
        return Ok(Next::End);
    }
    if text.ends_with(b"\n") || (text.len() as u64) < LINE_MAX {
        return Ok(Next::Line);
    }
    while !text.ends_with(b"\n") {
        text.clear();
        if input.take(LINE_MAX).read_until(b'\n', text)? == 0 {
            break;
        }
    }
    Ok(Next::TooLong)
}

/// Where packets go.
struct Sink {
    form: Form,
    /// The file that takes its name when all is written.
    unfinished: Option<Unfinished>,
}

enum Form {
    Capture(Writer<Box<dyn Write>>),
    Hex(Box<dyn Write>),
}

impl Sink {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let (out, unfinished): (Box<dyn Write>, _) = match &args.output {
            Some(path) => {
                let (file, unfinished) =
                    create(path).with_context(|| format!("cannot create {}", path.display()))?;
                (Box::new(BufWriter::new(file)), unfinished)
            }
            None if !args.hex && io::stdout().is_terminal() => {
                bail!("a capture is not for a terminal: add -o FILE, or --hex")
            }
            None => (Box::new(BufWriter::new(io::stdout().lock())), None),
        };
        let form = if args.hex {
            Form::Hex(out)
        } else {
            Form::Capture(Writer::new(out)?)
        };
        Ok(Self { form, unfinished })
    }

    /// Writes the packet of one line.
    fn line(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let line: Line<'_> = serde_json::from_slice(text)?;
        let bytes = line.to_bytes()?;
        match &mut self.form {
            Form::Hex(out) => writeln!(out, "{}", hex(&bytes))?,
            Form::Capture(writer) => {
                let transport = transport(line.generation()?);
                writer
                    .write(line.timestamp()?, line.src, line.dst, transport, &bytes)
                    .map_err(|error| match error {
                        WriteError::Io(error) => anyhow::Error::new(error),
                        refused => refused.into(),
                    })?;
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self.form {
            Form::Hex(mut out) => out.flush()?,
            Form::Capture(writer) => writer.finish()?.flush()?,
        }
        self.unfinished.map_or(Ok(()), Unfinished::finish)
    }
}

/// A file under a name of its own until it is whole, so that an error half-way neither leaves a broken file
/// nor destroys the one that was there (which may be the input).
struct Unfinished {
    path: PathBuf,
    target: Option<PathBuf>,
}

/// Opens what is not a plain file (`/dev/null`, a pipe) as it is. A file that was there keeps its mode, and a
/// link stays one.
fn create(target: &Path) -> io::Result<(File, Option<Unfinished>)> {
    let there = match fs::metadata(target) {
        Ok(metadata) if !metadata.is_file() => {
            return Ok((File::options().write(true).open(target)?, None));
        }
        Ok(metadata) => Some(metadata),
        Err(_) => None,
    };
    let target = match there {
        Some(_) => fs::canonicalize(target)?,
        None => target.to_owned(),
    };
    for attempt in 0..ATTEMPTS {
        let mut path = target.clone().into_os_string();
        path.push(format!(".{}-{attempt}.unfinished", std::process::id()));
        let path = PathBuf::from(path);
        let file = match File::create_new(&path) {
            // Left there by one that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created?,
        };
        let unfinished = Unfinished {
            path,
            target: Some(target),
        };
        if let Some(metadata) = there {
            file.set_permissions(metadata.permissions())?;
        }
        return Ok((file, Some(unfinished)));
    }
    Err(io::Error::other(
        "there are too many .unfinished files beside it: remove them",
    ))
}

impl Unfinished {
    fn finish(mut self) -> io::Result<()> {
        self.target
            .take()
            .map_or(Ok(()), |target| fs::rename(&self.path, target))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.target.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Names tried for the unfinished file.
const ATTEMPTS: u32 = 100;

/// Longest line in bytes: a packet of 65 535 bytes takes less than 2 MiB in its most talkative form.
const LINE_MAX: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_link_stays_one_and_its_file_keeps_its_mode() {
        let dir = std::env::temp_dir().join(format!("binrush-encode-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("real"), dir.join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();

        let (mut out, unfinished) = create(&link).unwrap();
        drop(create(&link).unwrap());
        out.write_all(b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"old");
        unfinished.unwrap().finish().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            2,
            "nothing unfinished is left"
        );
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_line_without_end_is_left_out_and_the_next_one_is_read() {
        let mut input = vec![b'x'; 2 * usize::try_from(LINE_MAX).unwrap() + 5];
        input.extend(b"\nshort\nlast");
        let mut input = &input[..];
        let mut text = vec![];
        assert!(matches!(
            read_line(&mut input, &mut text),
            Ok(Next::TooLong)
        ));
        assert!(matches!(read_line(&mut input, &mut text), Ok(Next::Line)));
        assert_eq!(text, b"short\n");
        assert!(matches!(read_line(&mut input, &mut text), Ok(Next::Line)));
        assert_eq!(text, b"last");
        assert!(matches!(read_line(&mut input, &mut text), Ok(Next::End)));
    }
}
