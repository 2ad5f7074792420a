//! `binrush-bench profile`: where a receiver's time goes under a load, in nanoseconds per packet.
//!
//! ```text
//!   load ──▶ receiver's threads ◀── perf record ──▶ perf script ──▶ stacks ──▶ FILE.folded ──▶ FILE.svg
//!                │ processor time, packets              samples of it              │
//!                └───────────────────────────▶ ns per packet of each stack ◀───────┘
//! ```
//!
//! A sample is worth the same part of the threads' processor time as any other. So each stack has its nanoseconds per
//! packet, and two runs can be laid side by side whatever their length and their rate of samples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use binrush_scenario::Scenario;

use crate::exit::{End, EndsWith as _};
use crate::host::Host;
use crate::load::bench::{Bench, Measured};
use crate::load::matter::Matter;
use crate::load::options::{Common, rate, time};
use crate::patience::Patience;
use crate::result::Trial;
use record::Row;
use stacks::Folded;

pub(crate) use cost::Cost;
pub(crate) use perf::Recording;
pub(crate) use stacks::Sampled;

/// What each part costs.
pub(crate) mod cost;
/// Samples of threads.
pub(crate) mod perf;
/// Stacks as a picture.
mod picture;
/// A row in the table of pictures.
pub(crate) mod record;
/// Samples as stacks.
mod stacks;
/// Where the time went, in words and as JSON.
mod words;

/// Record where the receiver's time goes under a load: stacks in nanoseconds per packet, as text and as a picture.
///
/// Needs perf; as root, or with kernel.perf_event_paranoid at 1 or below. Ends as `load` does, and with 2 where perf
/// cannot be had.
#[derive(Debug, clap::Args)]
#[command(
    mut_arg("out", |arg| arg.value_name("DIR").help(OUT_HELP)),
    mut_arg("skip_self_test", |arg| arg.hide(true))
)]
pub(crate) struct Args {
    /// One of miss, contacts, dialogs, mixed, each also with -tcp behind it, or a TOML file.
    scenario: String,

    /// Packets per second, all senders together: 50000, 50k, 1.5M. The faster, the less of the time is spent waiting.
    #[arg(long, value_name = "PPS", value_parser = rate, default_value = "1M")]
    rate: f64,

    /// How long: 10s, 2m.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    seconds: Duration,

    /// Stacks of an earlier run: what has changed since becomes a picture as well.
    #[arg(long, value_name = "FILE.folded", help_heading = "Result")]
    against: Option<PathBuf>,

    /// Put the files, with the commit in their names, into `flamegraphs` or where --out says, and a row into the table of
    /// the README.md there.
    #[arg(long, help_heading = "Result")]
    record: bool,

    #[command(flatten)]
    common: Common,
}

/// Where the time of one run went.
#[derive(Debug)]
struct Profile {
    trial: Trial,
    sampled: Sampled,
    /// Processor time of the sampled threads, and what they received in it.
    cpu_ns: u64,
    received: u64,
    files: Vec<PathBuf>,
    /// What could not be drawn, and why.
    notes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::find(&args.scenario).ends_with(End::Usage)?;
    let matter = Matter::of_scenario(scenario, &args.common).ends_with(End::Usage)?;
    let before = args.against.as_deref().map(Folded::read).transpose();
    let before = before.ends_with(End::Usage)?;
    perf::check().ends_with(End::Usage)?;
    let folder = args.folder()?;
    let patience = Patience::until_signal()?;
    let host = Host::here();
    let mut bench = Bench::new(&args.common, matter, &host.cores, &patience)?;
    let core = bench.sender_core();
    let mut recording = None;
    let measured = bench.trial_when(
        "profile",
        args.rate,
        args.seconds,
        &mut |threads| {
            let started = Recording::start(threads, core, &patience);
            recording = Some(started.ends_with(End::Usage)?);
            Ok(())
        },
        &mut |_| {},
    )?;
    let recording = recording.context("nothing was recorded")?;
    let sampled = recording.finish(&patience)?;
    let Measured { trial, trouble } = measured;
    let profile = Profile::of(trial, sampled, trouble)?;
    let profile = profile.write(&folder, before.as_ref(), args)?;
    if args.record {
        record::append(&folder, &profile.row()).ends_with(End::Unwritten)?;
    }
    profile.tell(args.common.json)
}

impl Args {
    /// Where the files go; it is there.
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let default = if self.record { "flamegraphs" } else { "." };
        let folder = self.common.out.clone().unwrap_or_else(|| default.into());
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))
            .ends_with(End::Usage)?;
        if self.record {
            record::check(&folder).ends_with(End::Usage)?;
        }
        Ok(folder)
    }
}

impl Profile {
    fn of(trial: Trial, sampled: Sampled, trouble: Option<anyhow::Error>) -> anyhow::Result<Self> {
        if let Some(trouble) = trouble {
            return Err(trouble.context("the load came to no good end, so nothing is made of it"));
        }
        let receiver = &trial.receiver;
        let (Some(cpu_ns), Some(received)) = (receiver.cpu_ns, receiver.received) else {
            bail!(
                "{} does not tell what it received, or its time is not known",
                receiver.name
            );
        };
        ensure!(received > 0, "{} received nothing", receiver.name);
        ensure!(
            sampled.samples > 0,
            "perf took no sample: was the receiver idle all the time?"
        );
        Ok(Self {
            cpu_ns,
            received,
            trial,
            sampled,
            files: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Where its time went.
    fn cost(&self) -> Cost<'_> {
        Cost {
            sampled: &self.sampled,
            ns: self.ns_per_packet(),
        }
    }

    fn row(&self) -> Row<'_> {
        let trial = &self.trial;
        Row {
            what: format!(
                "{}, {}/s to {}",
                trial.scenario, trial.offered_pps, trial.receiver.name
            ),
            files: &self.files,
            cost: self.cost(),
        }
    }

    fn ns_per_packet(&self) -> f64 {
        self.cpu_ns as f64 / self.received as f64
    }

    /// Writes stacks and pictures into `folder`.
    fn write(
        mut self,
        folder: &Path,
        before: Option<&Folded>,
        args: &Args,
    ) -> anyhow::Result<Self> {
        let mut stem = self
            .trial
            .scenario
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        if args.record {
            // Rows stay, and so do their files.
            stem = format!("{stem}-{}", record::commit(folder).trim_end_matches('+'));
        }
        let folded = self.sampled.folded(self.cpu_ns, self.received);
        let before = before.zip(args.against.as_deref());
        let written = cost::write(folder, &stem, &self.title(), &folded, before)?;
        self.notes.extend(written.note);
        self.files = written.files;
        Ok(self)
    }

    fn title(&self) -> String {
        let Trial {
            scenario,
            offered_pps,
            receiver,
            ..
        } = &self.trial;
        let ns = self.ns_per_packet();
        format!(
            "{scenario} at {offered_pps}/s to {}: {ns:.0} ns per packet",
            receiver.name
        )
    }

    fn tell(&self, json: bool) -> anyhow::Result<ExitCode> {
        let text = if json {
            self.json().to_string()
        } else {
            self.text()
        };
        words::print(&text)?;
        let end = if self.trial.ledger.is_exact() {
            End::Done
        } else {
            End::Failed
        };
        Ok(end.into())
    }
}

const OUT_HELP: &str =
    "Where to put the files; the default is here, and `flamegraphs` with --record";
