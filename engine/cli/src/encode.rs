//! `binrush encode`: the inverse of `decode --json`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use binrush_capture::{WriteError, Writer};

use crate::line::{Line, hex, transport};

/// Make packets of the JSON lines that `decode --json` prints
///
/// A line by hand needs "generation", "name", "type" and "fields" only. A line that cannot become a packet
/// is named and left out; then the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The lines, or - for standard input.
    #[arg(default_value = "-")]
    file: String,

    /// Where the capture goes [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print each packet as a line of hex digits instead of writing a capture.
    #[arg(long)]
    hex: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let input: Box<dyn BufRead> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(BufReader::new(
            File::open(path).with_context(|| format!("cannot open {path}"))?,
        )),
    };
    let mut sink = Sink::open(args)?;
    let mut refused = 0_u64;
    let mut written = 0_u64;
    for (i, text) in input.split(b'\n').enumerate() {
        let text = text.with_context(|| format!("cannot read {}", args.file))?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        match sink.line(&text) {
            Ok(()) => written += 1,
            Err(error) if error.downcast_ref::<io::Error>().is_some() => return Err(error),
            Err(error) => {
                refused += 1;
                eprintln!("line {}: {error:#}", i + 1);
            }
        }
    }
    sink.finish()?;
    if refused > 0 {
        eprintln!("{refused} lines were left out, {written} became packets");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

enum Sink {
    Capture(Writer<Box<dyn Write>>),
    Hex(Box<dyn Write>),
}

impl Sink {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = match &args.output {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot create {}", path.display()))?;
                Box::new(BufWriter::new(file))
            }
            None if !args.hex && io::stdout().is_terminal() => {
                bail!("a capture is not for a terminal: add -o FILE, or --hex")
            }
            None => Box::new(BufWriter::new(io::stdout().lock())),
        };
        Ok(if args.hex {
            Self::Hex(out)
        } else {
            Self::Capture(Writer::new(out)?)
        })
    }

    /// Writes the packet of one line.
    fn line(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let line: Line<'_> = serde_json::from_slice(text)?;
        let bytes = line.to_bytes()?;
        match self {
            Self::Hex(out) => writeln!(out, "{}", hex(&bytes))?,
            Self::Capture(writer) => {
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

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Hex(mut out) => out.flush()?,
            Self::Capture(writer) => writer.finish()?.flush()?,
        }
        Ok(())
    }
}
