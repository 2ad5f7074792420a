//! A run from its start to its result: the machine before and after, doubts, and a file that is never half written.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use serde_json::Value;

use super::bench::{Bench, Measured};
use super::options::Common;
use crate::exit::{End, EndsWith as _};
use crate::host::{Host, Watch};
use crate::patience::Patience;
use crate::result::{Doubt, FORMAT, OverloadResult, RunResult, Trial};
use crate::search::Found;
use crate::selftest;

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) result: RunResult,
    host: Host,
    watch: Watch,
    tuning: binrush_tune::Counters,
    file: Option<PathBuf>,
    json: bool,
    skips_self_test: bool,
    /// Besides what the result itself says.
    end: End,
    /// When the copy on disk was written last.
    kept: Instant,
}

impl Session {
    /// Looks at the machine, and makes sure that the result can be written.
    pub(crate) fn begin(command: &str, common: &Common, notes: &[String]) -> anyhow::Result<Self> {
        let host = Host::here();
        let doubts = notes.iter().map(|note| doubt("note", note, None));
        let mut session = Self {
            result: RunResult {
                format: FORMAT,
                command: command.to_owned(),
                arguments: env::args().skip(1).collect(),
                started: now(),
                finished: now(),
                complete: false,
                trouble: None,
                version: version(),
                host: Value::Null,
                doubts: doubts.collect(),
                self_test: Vec::new(),
                trials: Vec::new(),
                search: None,
                overload: None,
            },
            host,
            watch: Watch::start(),
            tuning: binrush_tune::Counters::read(Path::new("/")),
            file: common.out.clone(),
            json: common.json,
            skips_self_test: common.skip_self_test,
            end: End::Done,
            kept: Instant::now(),
        };
        session.keep()?;
        Ok(session)
    }

    /// The cores that this process may use.
    pub(crate) fn cores(&self) -> &[usize] {
        &self.host.cores
    }

    /// What the machine is, what speaks against measuring on it, and what the generator can do here.
    pub(crate) fn prepare(
        &mut self,
        bench: &Bench,
        rate_pps: f64,
        patience: &Patience,
    ) -> anyhow::Result<()> {
        let checked = binrush_tune::check(Path::new("/"), &bench.demand(rate_pps));
        self.result.host = serde_json::to_value(&checked.facts)?;
        for finding in checked.findings.iter().filter(|finding| finding.matters()) {
            let text = format!("{}: {}; {}", finding.subject, finding.value, finding.why);
            self.doubt("doubt", &text, Some(&finding.fix));
        }
        for warning in self.host.warnings() {
            self.doubt("doubt", &warning, None);
        }
        for doubt in bench.doubts() {
            self.result.doubts.push(doubt);
        }
        if !self.skips_self_test {
            self.result.self_test = selftest::before(
                bench.way(),
                bench.self_test_size(),
                Some(bench.sender_core()),
                patience,
            )?;
        }
        Ok(())
    }

    /// The highest rate of the self-test.
    pub(crate) fn generator_pps(&self) -> Option<f64> {
        let rates = self.result.self_test.iter().map(|row| row.rate_pps);
        rates.max_by(f64::total_cmp)
    }

    fn doubt(&mut self, severity: &str, text: &str, advice: Option<&str>) {
        self.result.doubts.push(doubt(severity, text, advice));
    }

    /// Takes what a trial measured; a copy on disk shows it from now on.
    pub(crate) fn add(&mut self, measured: Measured) {
        let Measured { trial, trouble } = measured;
        if let Some(error) = trouble {
            self.trouble(&error);
        }
        self.result.trials.push(trial);
        // All of it is written again: a search of many short trials would be writing more than measuring.
        if self.kept.elapsed() < KEEP_EVERY {
            return;
        }
        if let Err(error) = self.keep() {
            // Told once more, with the code that it deserves, when the run is over.
            let _ = writeln!(io::stderr(), "warning: {error:#}");
        }
    }

    /// Why not everything could be measured; the first reason is the one that is told.
    pub(crate) fn trouble(&mut self, error: &anyhow::Error) {
        self.result
            .trouble
            .get_or_insert_with(|| format!("{error:#}"));
    }

    /// Takes what a search found.
    pub(crate) fn found(&mut self, found: Found) {
        self.result.doubts.extend(found.doubts());
        self.end = self.end.worse(found.end());
        if let Some(error) = &found.trouble {
            self.trouble(error);
        }
        self.result.search = Some(found.result);
    }

    /// Takes what became of overloads.
    pub(crate) fn overloaded(&mut self, result: OverloadResult) {
        if result.rows.iter().any(|row| !row.broken.is_empty()) {
            self.end = self.end.worse(End::Failed);
        }
        self.result.overload = Some(result);
    }

    /// Tells and writes the result, `words` or JSON, and says how the program ends.
    pub(crate) fn finish(
        mut self,
        words: impl FnOnce(&RunResult) -> String,
    ) -> anyhow::Result<ExitCode> {
        self.result.finished = now();
        self.result.complete = self.result.trouble.is_none();
        self.watch.tell(&mut self.host);
        // Said with what else grew during the run.
        self.host.steal = None;
        let after = binrush_tune::Counters::read(Path::new("/"));
        for finding in binrush_tune::delta(&self.tuning, &after) {
            let text = format!("{}: {}; {}", finding.subject, finding.value, finding.why);
            let severity = if finding.matters() { "doubt" } else { "note" };
            self.doubt(severity, &text, Some(&finding.fix));
        }
        self.doubt_steal_and_others();
        self.doubt_trials();
        let text = if self.json {
            serde_json::to_string(&self.result)?
        } else {
            words(&self.result)
        };
        let told = print(&text);
        let written = self.write();
        let end = self.end();
        told?;
        written.ends_with(End::Unwritten)?;
        Ok(end.into())
    }

    /// What of the machine is known only afterwards.
    fn doubt_steal_and_others(&mut self) {
        let known: Vec<String> = self
            .result
            .doubts
            .iter()
            .map(|doubt| doubt.text.clone())
            .collect();
        for warning in self.host.warnings() {
            if !known.contains(&warning) {
                self.doubt("doubt", &warning, None);
            }
        }
    }

    fn doubt_trials(&mut self) {
        let trials = &self.result.trials;
        // A search goes to the limit and beyond on purpose: what counts of it are the latencies below the rate found.
        let shown: Vec<&Trial> = match &self.result.search {
            Some(found) => found
                .at_percent
                .iter()
                .filter_map(|(_, index)| trials.get(*index))
                .collect(),
            None => trials.iter().collect(),
        };
        let doubts: Vec<Doubt> = shown.into_iter().flat_map(doubts_of).collect();
        self.result.doubts.extend(doubts);
    }

    fn end(&self) -> End {
        let mut end = self.end;
        if self
            .result
            .doubts
            .iter()
            .any(|doubt| doubt.severity == "worthless")
        {
            end = end.worse(End::Worthless);
        }
        let is_exact = |trial: &Trial| trial.ledger.is_exact();
        if !self.result.complete || !self.result.trials.iter().all(is_exact) {
            end = end.worse(End::Failed);
        }
        end
    }

    /// What there is so far, beside the file that will be: marked as incomplete, and whole at any moment.
    fn keep(&mut self) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let written = write_whole(&partial(file), &self.result).ends_with(End::Unwritten);
        self.kept = Instant::now();
        written
    }

    fn write(&self) -> anyhow::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let partial = partial(file);
        write_whole(&partial, &self.result)?;
        fs::rename(&partial, file)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), file.display()))
    }
}

impl Drop for Session {
    /// A run that ended before anything was measured leaves nothing behind that looks like a result.
    fn drop(&mut self) {
        if let Some(file) = &self.file
            && self.result.trials.is_empty()
        {
            let _ = fs::remove_file(partial(file));
        }
    }
}

/// Writes all of it beside `path` and puts it there at once: what stood there before is whole until then.
fn write_whole(path: &Path, result: &RunResult) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let context = || {
        format!(
            "cannot write {}\n  what was measured before stays in {}",
            new.display(),
            path.display()
        )
    };
    let text = serde_json::to_string(result)?;
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It is cut off, and would take the room that others need.
        let _ = fs::remove_file(&new);
    }
    written.with_context(context)
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// What speaks against a trial's figures.
fn doubts_of(trial: &Trial) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let planned = trial.ledger.planned;
    let unsent: u64 = trial.senders.iter().map(|sender| sender.unsent).sum();
    if unsent > 0 {
        let share = unsent as f64 / planned.max(1) as f64;
        let idle = trial
            .senders
            .iter()
            .all(|sender| (sender.cpu_ns as f64) < SENDER_BUSY * sender.elapsed_ns as f64);
        // A stream is sent as fast as its other end takes it.
        let (severity, why, advice) = if trial.transport == "tcp" && idle {
            (
                "doubt",
                "the stream was not taken fast enough",
                "a lower rate, or more streams (`--senders`)",
            )
        } else {
            let severity = if share > WORTHLESS_UNSENT {
                "worthless"
            } else {
                "doubt"
            };
            (
                severity,
                "the generator was the limit, not the receiver",
                "a lower rate, more senders, or trains (`--trains on`)",
            )
        };
        let text = format!(
            "{}: {unsent} of {planned} packets were not sent in time: {why}",
            trial.name
        );
        doubts.push(doubt(severity, &text, Some(advice)));
    }
    let late_max = trial
        .senders
        .iter()
        .map(|sender| sender.lateness.value_at(0.99))
        .max()
        .unwrap_or(0);
    if late_max > LATE_P99_NS {
        let text = format!(
            "{}: one packet in a hundred left {} us late or later: latencies from the intended time hold that too",
            trial.name,
            late_max / 1000
        );
        doubts.push(doubt(
            "doubt",
            &text,
            Some("see the latencies from the actual send time"),
        ));
    }
    let asked = trial.offered_pps * trial.seconds;
    let is_even = ["constant", "poisson"].contains(&&trial.arrivals[..]);
    if is_even && (planned as f64 - asked).abs() > (RATE_TOLERANCE * asked).max(1.0) {
        let text = format!(
            "{}: the schedule had {planned} packets where the rate asks for {asked:.0}",
            trial.name
        );
        doubts.push(doubt("doubt", &text, None));
    }
    let refused: u64 = trial
        .senders
        .iter()
        .flat_map(|sender| sender.errors.values())
        .sum();
    if refused > 0 {
        let text = format!(
            "{}: the kernel refused {refused} packets, as the ledger says",
            trial.name
        );
        doubts.push(doubt("doubt", &text, None));
    }
    let cut = trial.senders.iter().map(|sender| sender.partial).sum();
    let streams = trial.receiver.streams.as_ref();
    if let Some(how) = streams.and_then(|streams| streams.broken(cut)) {
        let text = format!(
            "{}: connections did not end in order, by what the receiver says: {how}",
            trial.name
        );
        doubts.push(doubt("doubt", &text, None));
    }
    let beyond = trial
        .receiver
        .probe
        .as_ref()
        .map_or(0, |probe| probe.beyond);
    if beyond > 0 {
        let text = format!(
            "{}: the receiver could not follow {beyond} packets: too many runs, streams or gaps at once",
            trial.name
        );
        doubts.push(doubt(
            "worthless",
            &text,
            Some("fewer senders, or a receiver that was just started"),
        ));
    }
    if trial.ledger.foreign > 0 {
        let text = format!(
            "{}: {} packets came from somebody else",
            trial.name, trial.ledger.foreign
        );
        doubts.push(doubt("doubt", &text, None));
    }
    doubts
}

fn doubt(severity: &str, text: &str, advice: Option<&str>) -> Doubt {
    Doubt {
        severity: severity.to_owned(),
        text: text.to_owned(),
        advice: advice.map(str::to_owned),
    }
}

/// A reader that left has seen what it wanted: then the exit code is about what was measured.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told
            .context("cannot write the result to standard output")
            .ends_with(End::Unwritten),
    }
}

/// This program's, with the commit it was built from where that is known.
pub(crate) fn version() -> String {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("BINRUSH_COMMIT"));
    if commit.is_empty() {
        version.to_owned()
    } else {
        format!("{version} ({commit})")
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// How much of a search is lost at most when the machine goes down.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// A share of packets that no loss of a receiver is worth looking at besides.
const WORTHLESS_UNSENT: f64 = 0.01;

/// How far a load may be from the rate that was asked for.
const RATE_TOLERANCE: f64 = 0.001;

/// A sender with less of its core's time than that had time left.
const SENDER_BUSY: f64 = 0.9;

/// Far more than spinning, and less than what a disturbed machine shows.
const LATE_P99_NS: u64 = 1_000_000;
