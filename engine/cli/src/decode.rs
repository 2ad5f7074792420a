//! `binrush decode`: what is in a capture, packet by packet.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use binrush_capture::{Capture, Event, Frame, GenerationChoice, Options, Problem};
use binrush_wire::Generation;

use crate::line::{Line, Reading};
use crate::summary::Summary;
use crate::text;

/// Show the BIN packets in a capture (pcap or pcapng, also gzipped)
///
/// UDP, and TCP streams put back together; text for people, JSON lines for tools. Broken packets and
/// records are named with their place, and the rest is still decoded.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capture, or - for standard input.
    file: String,

    /// Print a JSON object per packet; `binrush encode` makes packets of them again.
    #[arg(long)]
    json: bool,

    /// Print only the counts per name and type.
    #[arg(long)]
    summary: bool,

    /// What the traffic is; nothing on the wire says it.
    #[arg(long, value_name = "auto|1.x|2.2|2.3+", default_value = "auto", value_parser = generation)]
    generation: GenerationChoice,

    /// Only packets of this module or capability.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Only packets of this type, by number or by name (CREATED).
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
}

/// A type as a person names it.
#[derive(Debug, Clone)]
enum Kind {
    Command(i32),
    Name(String),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let input: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(File::open(path).with_context(|| format!("cannot open {path}"))?),
    };
    let options = Options {
        generation: args.generation,
        ..Options::default()
    };
    let mut capture =
        Capture::new(input, options).with_context(|| format!("cannot read {}", args.file))?;

    let mut out = BufWriter::with_capacity(OUT_BUFFER, io::stdout().lock());
    let (mut summary, mut problems) = (Summary::default(), Problems::default());
    let (mut n, mut scratch) = (0, vec![]);
    while let Some(event) = capture.next() {
        match event {
            Event::Problem(problem) => problems.say(&problem),
            Event::Frame(frame) => {
                n += 1;
                let reading = Reading::of(&frame, &mut scratch);
                if args.wants(&reading) {
                    summary.add(&frame, &reading);
                    args.show(&mut out, n, &frame, &reading)?;
                }
            }
        }
    }

    let totals = capture.totals();
    if args.json && args.summary {
        writeln!(out, "{}", summary.json(&totals))?;
    }
    out.flush()?;
    problems.finish();
    if n == 0 {
        eprintln!(
            "no BIN packets in {} records ({} UDP datagrams and {} TCP streams of other protocols)",
            totals.records, totals.not_bin_datagrams, totals.not_bin_streams
        );
    }
    if !args.json {
        writeln!(out, "{}", summary.table())?;
        out.flush()?;
    }
    let nothing_read = summary.readable() == 0 && (summary.broken() > 0 || problems.count > 0);
    Ok(if nothing_read {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Args {
    fn wants(&self, reading: &Reading<'_>) -> bool {
        if self.name.is_none() && self.kind.is_none() {
            return true;
        }
        let Some(packet) = &reading.packet else {
            return false;
        };
        let name = self
            .name
            .as_ref()
            .is_none_or(|name| name.as_bytes() == packet.name());
        let kind = match &self.kind {
            None => true,
            Some(Kind::Command(command)) => *command == packet.command(),
            Some(Kind::Name(kind)) => reading
                .type_name()
                .is_some_and(|name| name.eq_ignore_ascii_case(kind)),
        };
        name && kind
    }

    fn show(
        &self,
        out: &mut impl io::Write,
        n: u64,
        frame: &Frame<'_>,
        reading: &Reading<'_>,
    ) -> anyhow::Result<()> {
        if self.summary {
            return Ok(());
        }
        if self.json {
            serde_json::to_writer(&mut *out, &Line::new(n, frame, reading))
                .map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        } else {
            text::packet(out, n, frame, reading)?;
        }
        Ok(())
    }
}

/// What was wrong with the capture itself: the first ones are said, all are counted.
#[derive(Debug, Default)]
struct Problems {
    count: u64,
}

impl Problems {
    fn say(&mut self, problem: &Problem) {
        self.count += 1;
        if self.count <= SAID_MAX {
            eprintln!("warning: {problem}");
        }
    }

    fn finish(&self) {
        if self.count > SAID_MAX {
            eprintln!(
                "warning: {} more problems of this capture are not shown",
                self.count - SAID_MAX
            );
        }
    }
}

impl FromStr for Kind {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::Name(text.to_owned()), Self::Command))
    }
}

fn generation(text: &str) -> Result<GenerationChoice, String> {
    match text {
        "auto" => Ok(GenerationChoice::Auto),
        _ => Generation::from_str(text)
            .map(GenerationChoice::Fixed)
            .map_err(|_| "auto, 1.x, 2.2 or 2.3+".to_owned()),
    }
}

/// Problems printed; a damaged capture can hold millions.
const SAID_MAX: u64 = 100;

const OUT_BUFFER: usize = 256 * 1024;
