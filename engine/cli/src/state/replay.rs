//! `binrush state dump`: what a side has; and what a node held that heard the packets of a capture.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use binrush_capture::{Capture, Event, Frame, GenerationChoice, Options, Timestamp};

use super::dump::Dump;
use super::live::Live;
use super::search::Search;
use super::side::{Found, Side};
use super::{STDOUT, Tables, own, whole};
use crate::decode::{Problems, generation};
use crate::text::counted;
use receiver::{Heard, Receiver};

/// The records of one node, packet by packet.
mod receiver;

/// Write the records of a side as a dump of binrush; or what a node held that heard the packets of a capture
///
/// Of an engine the records come page by page, while packets come, too: each that is there all the time is there once. A dump without its
/// last line was cut off.
///
/// With --from: the packets and syncs that came to one address, applied by the capture's clock. What the node made itself is not among them, because
/// nobody told it: see --with-own. Packets of other modules are passed over.
///
/// Exit code 1 when no packet that is about records came there.
#[derive(Debug, clap::Args)]
pub(super) struct DumpArgs {
    /// What has the records: an engine, which is not held up by it, a state directory or a file.
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    side: Option<Side>,

    #[command(flatten)]
    tables: Tables,

    /// The capture (pcap or pcapng, also gzipped), or - for standard input.
    #[arg(long, value_name = "CAPTURE")]
    from: Option<PathBuf>,

    /// The node: packets to this address. Needed where packets went to several.
    #[arg(long, value_name = "IP", requires = "from")]
    to: Option<IpAddr>,

    /// Only packets from these addresses; may be given several times.
    #[arg(long, value_name = "IP", requires = "from")]
    from_node: Vec<IpAddr>,

    /// Also what the node told others, as far as it made that itself: everything that it had.
    #[arg(long, requires = "to")]
    with_own: bool,

    /// Up to this moment: 2026-11-21T02:00:00Z, with a fraction, or seconds since 1970. May be after the last packet: what is due by
    /// then has expired.
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "until_packet_from", requires = "from")]
    until: Option<Timestamp>,

    /// Up to the first packet from this address, whomever it was sent to.
    #[arg(long, value_name = "IP", requires = "from")]
    until_packet_from: Option<IpAddr>,

    /// What the traffic is; nothing on the wire says it.
    #[arg(long, value_name = "auto|1.x|2.2|2.3+", default_value = "auto", value_parser = generation)]
    generation: GenerationChoice,

    /// Where the dump goes [default: standard output]: first to a file with .new behind its name, which takes its place when it is
    /// whole and on the disk.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl DumpArgs {
    pub(super) fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        match (&self.side, &self.from) {
            (Some(side), _) => self.dump(side, out),
            (None, Some(from)) => self.dump_capture(from, out),
            (None, None) => unreachable!("one of them is required"),
        }
    }

    fn dump(&self, side: &Side, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        match side.found() {
            Found::Engine(path) => {
                let live = Live::open(path, &self.tables.table, false);
                let live = live.with_context(|| side.to_string())?;
                self.written(out, &|mut out, cannot| {
                    let dumped = live.dump(&mut out, cannot);
                    dumped.with_context(|| side.to_string())
                })?;
            }
            _ => {
                let dump = side.read(&self.tables.terms(None, &Search::default()))?;
                self.written(out, &|mut out, cannot| write(&mut out, &dump, cannot))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Has a dump written to where it goes; `write` is told what to say when that cannot be written to.
    fn written(
        &self,
        out: &mut impl Write,
        write: &dyn Fn(&mut dyn Write, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match &self.out {
            Some(path) => whole::write(path, write),
            None => {
                write(out, STDOUT)?;
                out.flush().context(STDOUT)
            }
        }
    }

    fn dump_capture(&self, from: &Path, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let dump = self.replay(from)?;
        self.written(out, &|mut out, cannot| write(&mut out, &dump, cannot))?;
        if dump.kinds.is_empty() {
            match self.to {
                Some(to) => eprintln!("no packet to {to} is about records"),
                None => eprintln!("no packet is about records"),
            }
        }
        Ok(ExitCode::from(u8::from(dump.kinds.is_empty())))
    }

    /// Reads the capture up to where it is asked for.
    fn replay(&self, from: &Path) -> anyhow::Result<Dump> {
        let file = from.display();
        let input: Box<dyn Read> = if from.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            let opened = File::open(from).with_context(|| format!("cannot open {file}"));
            Box::new(BufReader::new(opened?))
        };
        let options = Options {
            generation: self.generation,
            ..Options::default()
        };
        let mut capture =
            Capture::new(input, options).map_err(|error| anyhow!("cannot read {file}: {error}"))?;
        let (mut receiver, mut problems) =
            (Receiver::new(self.to, self.with_own), Problems::default());
        let mut at = self.until.unwrap_or_default();
        while let Some(event) = capture.next() {
            match event {
                Event::Problem(problem) => problems.say(&problem),
                Event::Frame(frame) => {
                    if self.until.is_none() {
                        at = at.max(frame.time);
                    }
                    if self.is_end(&frame) {
                        break;
                    }
                    if let Heard::Wrong(wrong) = self.hear(&mut receiver, &frame) {
                        let place = format_args!("record {}: {wrong}", frame.number);
                        problems.say(&place);
                    }
                }
            }
        }
        problems.finish();
        if self.to.is_none() && receiver.addresses().len() > 1 {
            let addresses: Vec<_> = receiver.addresses().iter().map(IpAddr::to_string).collect();
            bail!(
                "{file}: packets went to {}: --to says which of these nodes is meant",
                addresses.join(", ")
            );
        }
        let refused = receiver.refused();
        let dump = receiver.finish(at);
        for (why, count) in refused {
            eprintln!("warning: {} refused: {why}", counted(count, "change"));
        }
        Ok(dump)
    }

    fn is_end(&self, frame: &Frame<'_>) -> bool {
        self.until.is_some_and(|until| frame.time > until)
            || self.until_packet_from == Some(frame.src.ip())
    }

    fn hear(&self, receiver: &mut Receiver, frame: &Frame<'_>) -> Heard {
        let sender = frame.src.ip();
        // What the node itself says tells who it is, and when it asks for a sync.
        let is_wanted = self.from_node.is_empty() || self.from_node.contains(&sender);
        match is_wanted || self.to == Some(sender) {
            true => receiver.hear(frame),
            false => Heard::Nothing,
        }
    }
}

fn write(out: &mut impl Write, dump: &Dump, cannot: &str) -> anyhow::Result<()> {
    own::write(out, dump, &dump.records).with_context(|| cannot.to_owned())
}

/// `--until`.
fn moment(text: &str) -> Result<Timestamp, String> {
    let nanos = match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1_000_000_000),
        Err(_) => humantime::parse_rfc3339_weak(text)
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| u64::try_from(since.as_nanos()).ok()),
    };
    let nanos = nanos.ok_or("2026-11-21T02:00:00Z, with a fraction, or seconds since 1970")?;
    Ok(Timestamp::from_nanos(nanos))
}
