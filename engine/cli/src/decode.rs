//! `binrush decode`: what is in a capture, packet by packet.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use binrush_capture::{Capture, Event, Frame, GenerationChoice, Options, Totals};
use binrush_wire::{Generation, schema};

use crate::line::{self, Line, Reading, transport};
use crate::summary::Summary;
use crate::text;

/// Show the BIN packets in a capture (pcap or pcapng, also gzipped)
///
/// UDP, and TCP streams put back together; text for people, JSON lines for tools. Broken packets and
/// records are named with their place, and the rest is still decoded.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capture, or - for standard input.
    file: PathBuf,

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
    #[arg(long = "type", value_name = "TYPE", allow_negative_numbers = true)]
    kind: Option<Kind>,
}

/// A type as a person names it.
#[derive(Debug, Clone)]
enum Kind {
    Command(i32),
    Name(String),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = args.file.display();
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.file).with_context(|| format!("cannot open {file}"))?)
    };
    let options = Options {
        generation: args.generation,
        ..Options::default()
    };
    let mut capture =
        Capture::new(input, options).map_err(|error| anyhow!("cannot read {file}: {error}"))?;

    let mut out = BufWriter::with_capacity(OUT_BUFFER, io::stdout().lock());
    let (mut summary, mut problems) = (Summary::default(), Problems::default());
    let (mut n, mut readable, mut shown) = (0, 0_u64, 0_u64);
    let mut scratch = vec![];
    while let Some(event) = capture.next() {
        match event {
            Event::Problem(problem) => problems.say(&problem),
            Event::Frame(frame) => {
                n += 1;
                let reading = Reading::of(&frame, &mut scratch);
                readable += u64::from(reading.packet.is_some());
                if args.wants(&reading) {
                    shown += 1;
                    summary.add(&frame, &reading);
                    args.show(&mut out, n, &frame, &reading)?;
                }
            }
        }
    }

    let totals = capture.totals();
    if args.json && args.summary {
        line::write(&mut out, &summary.json(&totals)).context(STDOUT)?;
    }
    out.flush().context(STDOUT)?;
    problems.finish();
    if n == 0 {
        eprintln!(
            "no BIN packets in {} records: {}",
            totals.records,
            elsewhere(args, &totals)
        );
    } else if shown == 0 {
        eprintln!("none of {n} packets is of that name and type");
    }
    if !args.json {
        writeln!(out, "{}", summary.table()).context(STDOUT)?;
        out.flush().context(STDOUT)?;
    }
    // What was filtered away was read all the same, and so was a capture without BIN.
    let opaque = problems.count > 0 && totals.records == totals.unknown_link + totals.malformed;
    let nothing_read = readable == 0 && (n > 0 || opaque);
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
            line::write(out, &Line::new(n, frame, reading)).context(STDOUT)?;
        } else {
            text::packet(out, n, frame, reading).context(STDOUT)?;
        }
        Ok(())
    }
}

/// Where the packets of a capture without BIN may be instead.
fn elsewhere(args: &Args, totals: &Totals) -> String {
    let (datagrams, streams) = (totals.not_bin_datagrams, totals.not_bin_streams);
    let others = format!("{datagrams} UDP datagrams and {streams} TCP streams are other protocols");
    match args.generation {
        GenerationChoice::Auto => others,
        GenerationChoice::Fixed(generation) => format!(
            "{others}; --generation {generation} looks at {} alone",
            transport(generation).as_str().to_uppercase()
        ),
    }
}

/// What was wrong with the capture itself: the first ones are said, all are counted.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    count: u64,
}

impl Problems {
    pub(crate) fn say(&mut self, problem: &dyn fmt::Display) {
        self.count += 1;
        if self.count <= SAID_MAX {
            eprintln!("warning: {problem}");
        }
    }

    pub(crate) fn finish(&self) {
        if self.count > SAID_MAX {
            eprintln!(
                "warning: {} more problems of this capture are not shown",
                self.count - SAID_MAX
            );
        }
    }
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(command) = text.parse() {
            return Ok(Self::Command(command));
        }
        let known = schema::CAPABILITIES
            .iter()
            .flat_map(|capability| capability.messages);
        match known
            .into_iter()
            .any(|message| message.name.eq_ignore_ascii_case(text))
        {
            true => Ok(Self::Name(text.to_owned())),
            false => Err(
                "neither a number nor the name of a known type; --summary shows those of a capture",
            ),
        }
    }
}

/// `--generation`.
pub(crate) fn generation(text: &str) -> Result<GenerationChoice, String> {
    match text {
        "auto" => Ok(GenerationChoice::Auto),
        _ => Generation::from_str(text)
            .map(GenerationChoice::Fixed)
            .map_err(|_| "auto, 1.x, 2.2 or 2.3+".to_owned()),
    }
}

/// Problems printed; a damaged capture can hold millions.
const SAID_MAX: u64 = 100;

const STDOUT: &str = "cannot write to standard output";

const OUT_BUFFER: usize = 256 * 1024;
