//! `binrush serve`: receive BIN packets and say what came.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use binrush_engine::config::{Allowed, RCVBUF_MAX, STATS_MAX};
use binrush_engine::telemetry::samples::RefusalLog;
use binrush_engine::{
    ChangeError, Clock as _, Engine, EngineConfig, MonotonicClock, Registry, Snapshot, StartError,
};
use binrush_probe::Report;
use serde_json::{Map, Value, json};

use crate::arguments::{self, Shards};
use crate::http::Http;
use crate::metrics::{Clusters, Tables};
use crate::output::{Output, event};
use crate::probe::{self, Probe};
use crate::signal::Signals;
use crate::tally::streams::{Closed, LINES_MAX};
use crate::text::counted;
use crate::{modules, tally};
use asked::Asked;
use cluster::{Planned, Seats, reach};
use losses::LossLog;
use records::{Journal, Records};
use settings::{Listen, Settings};
use streams::StreamLog;

/// Who asks at the control socket.
mod asked;
/// Clusters that it is a node of.
mod cluster;
/// What was lost without a sample to show.
mod losses;
/// What is told at the start.
mod ready;
/// The records that are kept.
mod records;
/// What the command line and the configuration come to together.
pub(crate) mod settings;
/// Connections that were refused or ended badly.
mod streams;

/// Receive BIN packets until SIGTERM or SIGINT, and say what came: of 1.x nodes over UDP, of later ones over TCP and TLS.
///
/// SIGHUP reads the configuration again; listeners that stay are not touched.
///
/// With modparam("binrush", "probe", "dialog,ul") in the configuration, packets of these names that carry a stamp of
/// binrush-bench are measured on their way: missing, twice, out of order, damaged, how late. The result is in the last
/// line, and binrush-bench asks for it. Names of no module (binrush-miss) are then taken too. Only for senders that are
/// known: together with an "allow" that lets everybody in it is refused.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration to start with, in the language of opensips.cfg; `binrush check FILE` says what it means.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen, bin: for UDP and TCP, bins: for TLS; IPv6 in brackets, and then no IPv4; port 0 takes a free
    /// one. Instead of the configuration's listeners.
    #[arg(long, value_name = "bin:IP:PORT|bins:IP:PORT")]
    listen: Vec<Listen>,

    /// Receiving threads, each with a socket of its own; auto is one for each core.
    #[arg(long, value_name = "N|auto", value_parser = arguments::shards)]
    shards: Option<Shards>,

    /// How to take datagrams from the kernel.
    #[arg(long, value_name = "auto|recvmmsg|io_uring", value_parser = arguments::backend)]
    backend: Option<binrush_engine::Backend>,

    /// Whose packets to take, instead of this host's and the configuration's; any lets everybody in.
    #[arg(long, value_name = "CIDR|any")]
    allow: Vec<Allowed>,

    /// Cores to keep the receiving threads on, counted from 0; auto takes the last ones.
    #[arg(long, value_name = "auto|off|CORE,CORE...")]
    pin: Option<binrush_engine::Pin>,

    /// Receive buffer to ask the kernel for, for each socket, in bytes.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=i64::from(RCVBUF_MAX)))]
    rcvbuf: Option<u32>,

    /// Seconds between two lines of counts; 0 prints none but the last.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=i64::from(STATS_MAX)))]
    stats: Option<u32>,

    /// Answer /metrics and /healthz there.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// A server at work: everything that the control thread keeps.
struct Server<'a> {
    args: &'a Args,
    settings: Settings,
    engine: Engine,
    seats: Option<Seats>,
    journal: Journal,
    asked: Option<Asked>,
    probe: Option<Probe>,
    http: Option<Http>,
    output: &'a Output,
    clock: MonotonicClock,
    refusals: RefusalLog,
    losses: LossLog,
    /// What was told of certificates, and when they were looked at.
    certificates: (Vec<String>, Instant),
    /// What was told to be wrong with the clusters' threads.
    trouble: Option<String>,
    streams: StreamLog,
    /// Closed since the last line of counts.
    closed: Closed,
}

/// A configuration that was gone over to.
struct Applied {
    /// What changed, in words.
    said: Vec<String>,
    /// What the user should know about it.
    warnings: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before the start, so that a signal from the first moment on leads to a clean stop.
    let signals = Signals::handle()?;
    let settings = match Settings::load(&args) {
        Ok(settings) => settings,
        Err(wrong) => {
            eprintln!("{wrong}");
            return Ok(ExitCode::from(2));
        }
    };
    receive(&args, settings, &signals, Output::start(io::stdout())?)
}

/// Receives until a signal ends it, and tells on `output`.
fn receive(
    args: &Args,
    mut settings: Settings,
    signals: &Signals,
    output: Output,
) -> anyhow::Result<ExitCode> {
    // Before the engine: what it steers by may be kept there.
    let mut records = Records::open(&settings)?;
    settings.engine.seed = records.seed();
    let (registry, probe, planned) = handlers(&settings, &mut records)?;
    let journal = records.start()?;
    let mut untold = Untold(journal.notes().collect());
    settings.warnings.extend(untold.0.iter().cloned());
    let (config, too_few) = with_descriptors(&settings.engine);
    settings.warnings.extend(too_few);
    let mut engine = match Engine::start(config, registry) {
        Ok(engine) => engine,
        Err(error) => match settings.refused_by_config(&error) {
            Some(text) => {
                eprintln!("{text}");
                return Ok(ExitCode::from(2));
            }
            None => return Err(explained(error)),
        },
    };
    let seats = match planned {
        Some(planned) => Some(Seats::take(planned, &mut engine, &settings)?),
        None => None,
    };
    let http = match settings.http {
        Some(addr) => Some(Http::start(addr, &mut engine)?),
        None => None,
    };
    let clusters = seats.as_ref().map(Seats::asked);
    let asked = settings.control.as_ref();
    let tables = asked::Tables::of(&engine, &settings.clusters, journal.watch());
    let asked = asked.map(|path| Asked::start(path, clusters, tables));
    let asked = asked.transpose()?;
    output.print(ready::text(
        &engine,
        &settings,
        http.as_ref(),
        asked.as_ref().map(Asked::path),
        &journal,
        args.json,
    ));
    untold.0.clear();
    let mut server = Server {
        args,
        settings,
        engine,
        seats,
        journal,
        asked,
        probe,
        http,
        output: &output,
        clock: MonotonicClock,
        refusals: RefusalLog::new(),
        losses: LossLog::default(),
        // The first are in the ready line.
        certificates: (Vec::new(), Instant::now()),
        trouble: None,
        streams: StreamLog::default(),
        closed: Closed::default(),
    };
    let watched = server.watch(signals);
    signals.stopping();
    // Whatever went wrong, and whoever reads the output or does not: first the queues are drained, then the
    // totals are told, then the rest.
    let Server {
        engine,
        seats,
        journal,
        asked,
        probe,
        http,
        mut closed,
        ..
    } = server;
    drop(http);
    for left in seats.map(Seats::leave).unwrap_or_default() {
        let more = json!({ "kind": "trouble", "over": false });
        let text = format!("warning: {left}");
        tell(&output, args.json, "cluster", &text, more);
    }
    let (mut totals, stopped) = tally::of_stopped(engine);
    // Behind the drain: who asks a shard that hangs must not hold it up.
    drop(asked);
    for wrong in journal.stop(stopped.is_ok()) {
        let text = format!("warning: {wrong}");
        tell(
            &output,
            args.json,
            "journal",
            &text,
            json!({ "over": false }),
        );
    }
    closed.gather(&totals.streams);
    closed.put_into(&mut totals.streams);
    let measured = probe.map(Probe::finish);
    let text = last(&totals, measured.as_ref(), args.json);
    let written = output.finish(text.clone());
    watched?;
    stopped?;
    written.map_err(|error| anyhow!("cannot write to standard output: {error}\n{text}"))?;
    Ok(if totals.is_balanced() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was found wrong with kept records, until the ready line says it. A start that fails behind that tells it here: the next
/// one finds all in order, and nobody would ever hear of it.
struct Untold(Vec<String>);

impl Drop for Untold {
    fn drop(&mut self) {
        for note in &self.0 {
            eprintln!("warning: {note}");
        }
    }
}

/// `config` with as many connections as there are descriptors for, and a warning where these are fewer than it asks
/// for. What was asked for stays what the configuration says, and is what a reload compares with.
fn with_descriptors(config: &EngineConfig) -> (EngineConfig, Option<String>) {
    let mut fitting = config.clone();
    let warning = fitting.fit_descriptors().map(|limit| {
        let asked = config.streams.limits.connections;
        let had = counted(fitting.streams.limits.connections.into(), "connection");
        format!(
            "{had} at most, not the {asked} of tcp_max_connections: this process may have {limit} descriptors, of which \
             its listeners, HTTP and the reading of files need some; raise the limit (LimitNOFILE= of systemd, or \
             `ulimit -Hn`), or lower tcp_max_connections"
        )
    });
    (fitting, warning)
}

/// What is done with packets, the probe if it is on, and the clusters if there are any.
fn handlers(
    settings: &Settings,
    records: &mut Records,
) -> anyhow::Result<(Registry, Option<Probe>, Option<Planned>)> {
    let probe = (!settings.probe.is_empty()).then(|| Probe::new(&settings.probe, &settings.engine));
    let measures = |name: &str| probe.as_ref().is_some_and(|probe| probe.measures(name));
    let keeps = |name: &str| cluster::keeps(&settings.clusters, name);
    let is_legacy = |name: &str| settings.keeps_legacy(name) && !measures(name) && !keeps(name);
    let wanted = |name: &str| {
        settings.has_module(name) && !measures(name) && !keeps(name) && !is_legacy(name)
    };
    let mut registry = modules::registry(wanted, settings.verify)?;
    if let Some(probe) = &probe {
        probe.register(&mut registry, settings.verify)?;
    }
    records.check_room(&settings.clusters, is_legacy)?;
    records.legacy(&mut registry, is_legacy)?;
    let planned = cluster::plan(settings, &mut registry, records)?;
    Ok((registry, probe, planned))
}

impl Server<'_> {
    /// Looks after the engine until a signal ends it or a shard ends by itself, and prints a line per interval.
    /// A line that is not taken is told with the next one.
    fn watch(&mut self, signals: &Signals) -> anyhow::Result<()> {
        // Nothing was told yet: what came before this line belongs to the first interval.
        let (mut then, mut told) = (Instant::now(), None::<Snapshot>);
        let mut sampled = then;
        while !signals.stop.load(Ordering::Relaxed) && self.engine.is_running() {
            thread::sleep(STOP_LATENCY);
            if signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
            }
            if let Some(probe) = &self.probe {
                probe.tend();
            }
            self.tell_clusters();
            if sampled.elapsed() < SAMPLE {
                continue;
            }
            // Also when nothing is printed: the kernel's count of drops must not come round unseen.
            let now = self.engine.snapshot()?;
            sampled = Instant::now();
            self.closed.gather(&now.streams);
            self.tell_refusals(&now);
            self.tell_certificates();
            let clusters = self.look_at_clusters(&now);
            let tables = self.look_at_tables();
            if let Some(asked) = &self.asked {
                asked.show(&now);
            }
            if let Some(http) = &self.http {
                http.show(&self.engine, &now, clusters, tables);
            }
            let (every, elapsed) = (self.settings.stats, sampled - then);
            if every.is_zero() || elapsed < every {
                continue;
            }
            let mut news = told
                .as_ref()
                .map_or_else(|| now.clone(), |told| now.since(told));
            self.closed.put_into(&mut news.streams);
            if self.output.print(interval(&news, elapsed, self.args.json)) {
                (then, told) = (sampled, Some(now));
                self.closed.forget();
            }
        }
        Ok(())
    }

    /// What has become worth knowing of certificates while time passed.
    fn tell_certificates(&mut self) {
        let (told, looked) = &mut self.certificates;
        if looked.elapsed() < CERTIFICATES {
            return;
        }
        *looked = Instant::now();
        let now = self.engine.certificate_warnings();
        for warning in now.iter().filter(|warning| !told.contains(warning)) {
            self.output.print(if self.args.json {
                event("warning", Map::new(), json!({ "text": warning }))
            } else {
                format!("warning: {warning}")
            });
        }
        *told = now;
    }

    /// What happened in the clusters.
    fn tell_clusters(&mut self) {
        let news = self.seats.as_mut().map(Seats::news);
        for notice in news.unwrap_or_default() {
            self.tell("cluster", &notice.text, notice.json);
        }
    }

    /// What is known of the clusters. That their threads have ended, or do not answer, is told when it begins and when
    /// it is over: packets are received all the same, and nobody would see why the other nodes miss us.
    fn look_at_clusters(&mut self, counts: &Snapshot) -> Clusters {
        let Some(seats) = &mut self.seats else {
            return Clusters::default();
        };
        seats.heed(counts);
        let clusters = seats.look();
        if clusters.trouble != self.trouble {
            let (text, is_over) = match &clusters.trouble {
                Some(trouble) => (format!("warning: {trouble}"), false),
                None => ("the clusters' thread answers again".to_owned(), true),
            };
            let more = json!({ "kind": "trouble", "over": is_over });
            self.tell("cluster", &text, more);
            self.trouble.clone_from(&clusters.trouble);
        }
        clusters
    }

    /// What is known of the records. That changes do not reach the disk is told when it begins and when it is over.
    fn look_at_tables(&mut self) -> Tables {
        let tables = self.journal.look();
        for news in self.journal.news(&tables) {
            let more = json!({ "table": &*news.table, "shard": news.shard, "over": news.is_over });
            self.tell("journal", &news.text, more);
        }
        if let Some((text, is_over)) = self.journal.clock_news() {
            self.tell("clock", &text, json!({ "over": is_over }));
        }
        tables
    }

    /// What was refused or lost lately, in a bounded number of lines.
    fn tell_refusals(&mut self, now: &Snapshot) {
        let samples: Vec<_> = self.engine.samples().collect();
        let outcomes = &now.total.outcomes;
        for refusal in self.refusals.due(self.clock.now(), outcomes, &samples) {
            let more = json!({ "outcome": refusal.outcome.symbol(), "count": refusal.count });
            self.tell("refused", &refusal, more);
        }
        let refused = self.engine.refused_connections();
        for notice in self.streams.due(Instant::now(), &now.streams, &refused) {
            self.tell(notice.event(), &notice, notice.json());
        }
        for loss in self.losses.due(Instant::now(), now) {
            let more = json!({ "kind": loss.symbol, "count": loss.count });
            self.tell("lost", &loss, more);
        }
    }

    /// A line in words, or the event with `more` and the words.
    fn tell(&self, name: &str, what: &impl Display, more: Value) {
        tell(self.output, self.args.json, name, what, more);
    }

    /// Reads the configuration again and goes over to it; with a wrong one, the old one goes on.
    fn reload(&mut self) {
        let (done, said, warnings) = match self.apply() {
            Ok(Applied { said, warnings }) => (true, said, warnings),
            Err((wrong, end)) => (false, vec![wrong, end.to_owned()], Vec::new()),
        };
        let text = if self.args.json {
            let more = json!({ "done": done, "text": said, "warnings": warnings });
            event("reload", Map::new(), more)
        } else {
            let said = said.iter().map(|line| format!("reload: {line}"));
            let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
            said.chain(warnings).collect::<Vec<_>>().join("\n")
        };
        self.output.print(text);
    }

    /// Or what is wrong, and what became of it.
    fn apply(&mut self) -> Result<Applied, (String, &'static str)> {
        let new = Settings::load(self.args).map_err(|wrong| (wrong.to_string(), AS_BEFORE))?;
        let engine = &new.engine;
        if self.probe.is_some() && engine.access.lets_everybody_in() {
            // Whatever the new configuration says of the probe: it runs until the next start.
            let text = "letting everybody in needs a restart: the probe is on, which measures for senders that are known";
            return Err((text.to_owned(), AS_BEFORE));
        }
        // The clusters that run are those of the start: while the configuration has others, what they need stays.
        let running = self.seats.as_ref().map(|_| &self.settings.clusters[..]);
        let unmet = running.and_then(|running| reach::unmet(running, &engine.streams));
        if let Some((cluster, me)) = unmet {
            let text = format!(
                "node {} of cluster {cluster}, which is this one, is met at {}, and nothing would listen there any more: \
                 that needs a restart",
                me.id, me.url
            );
            return Err((text, AS_BEFORE));
        }
        let stays = running.is_some_and(|running| running != new.clusters);
        let seats = self.seats.as_ref().filter(|_| !stays);
        if let Some(seats) = seats {
            let usable = seats.check(&new);
            usable.map_err(|error| (error.to_string(), AS_BEFORE))?;
        }
        let before = ready::listening(&self.engine);
        let mut access = engine.access.clone();
        let mut warnings = new.warnings.clone();
        if stays {
            let running = &self.settings.clusters;
            warnings.extend(reach::keep_in(&mut access, self.engine.access(), running));
        }
        let reloaded = self
            .engine
            .reload_with(&engine.listen, access, &engine.streams);
        if let Some(probe) = &self.probe {
            let listeners = self.engine.listeners().map(|listener| listener.addr);
            probe.admit(self.engine.access(), listeners);
        }
        let reloaded = reloaded.map_err(|error| {
            let said = match &error {
                ChangeError::Start(StartError::Tls(error)) => new.placed(error),
                error => error.to_string(),
            };
            (said, end_of(&error))
        })?;
        if let Some(seats) = seats {
            // They were in order a moment ago.
            let reloaded = seats.reload(&new);
            reloaded.map_err(|error| (error.to_string(), HALF_DONE))?;
        }
        let after = ready::listening(&self.engine);
        let (opened, closed) = (after.without(&before), before.without(&after));
        let mut said = Vec::new();
        if !opened.is_empty() {
            said.push(format!("opened {opened}"));
        }
        if !closed.is_empty() {
            said.push(format!("closed {closed}"));
        }
        if reloaded.access {
            said.push(format!("access: {}", self.engine.access()));
        }
        if !engine.streams.listen_tls.is_empty() {
            said.push("certificates read again".to_owned());
        }
        if new.stats != self.settings.stats {
            self.settings.stats = new.stats;
            said.push(match new.stats.as_secs() {
                0 => "statistics off".to_owned(),
                seconds => format!("statistics every {seconds} s"),
            });
        }
        for what in self.settings.needs_restart(&new) {
            said.push(format!("{what} changed: takes effect at the next start"));
        }
        if stays {
            said.push(
                "until then the nodes of the clusters that run are let in, and met with the certificates of before"
                    .to_owned(),
            );
        }
        if said.is_empty() {
            said.push("nothing changed".into());
        }
        warnings.extend(reloaded.warnings.iter().map(ToString::to_string));
        for listener in self.engine.listeners() {
            if opened.has(&listener) {
                let of_listener = ready::of_listener(&listener, &self.engine, &new);
                warnings.extend(of_listener);
            }
        }
        let EngineConfig {
            listen,
            access,
            streams,
            ..
        } = new.engine;
        let old = &mut self.settings.engine;
        (old.listen, old.access) = (listen, access);
        old.streams.listen = streams.listen;
        old.streams.listen_tls = streams.listen_tls;
        old.streams.tls = streams.tls;
        Ok(Applied { said, warnings })
    }
}

/// As [`Server::tell`].
fn tell(output: &Output, json: bool, name: &str, what: &impl Display, more: Value) {
    let text = what.to_string();
    output.print(if json {
        let words = Map::from_iter([("text".to_owned(), text.into())]);
        event(name, words, more)
    } else {
        text
    });
}

/// What became of a reload that failed with `error`.
fn end_of(error: &ChangeError) -> &'static str {
    if error.changed_nothing() {
        AS_BEFORE
    } else {
        HALF_DONE
    }
}

/// What to do about it in terms of this command.
fn explained(error: StartError) -> anyhow::Error {
    match error {
        StartError::Pin(_) => anyhow!("{error}\n  name others, or use `--pin off`"),
        error => error.into(),
    }
}

fn interval(counts: &Snapshot, elapsed: Duration, json: bool) -> String {
    let seconds = elapsed.as_secs_f64();
    if json {
        let more = json!({ "seconds": seconds });
        return event("interval", tally::json(counts), more);
    }
    let total = &counts.total;
    let mut text = format!(
        "{}, {}, {:.0}/s",
        counted(total.received, "packet"),
        counted(total.bytes, "byte"),
        total.received as f64 / seconds
    );
    for part in [
        tally::latency(total).unwrap_or_default(),
        tally::line(counts),
        tally::streams::part(&counts.streams),
    ] {
        if !part.is_empty() {
            text.push_str(" | ");
            text.push_str(&part);
        }
    }
    let peers = tally::streams::peers(tally::streams::rows(&counts.streams), LINES_MAX);
    let links = tally::streams::links(&counts.streams.links, LINES_MAX);
    for line in peers.into_iter().chain(links) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

fn last(totals: &Snapshot, measured: Option<&Report>, json: bool) -> String {
    let balanced = totals.is_balanced();
    if json {
        let mut counts = tally::json(totals);
        counts.extend(measured.map(|report| ("probe".to_owned(), json!(report))));
        return event("total", counts, json!({ "balanced": balanced }));
    }
    let total = &totals.total;
    let words = tally::line(totals);
    let separator = if words.is_empty() { "" } else { " | " };
    let mut lines = vec![
        format!(
            "total: {}, {}{separator}{words}",
            counted(total.received, "packet"),
            counted(total.bytes, "byte")
        ),
        tally::received_equation(total),
    ];
    if totals.shards.len() > 1 {
        lines.push(tally::by_shard(totals));
    }
    lines.extend(tally::meanings(total));
    lines.extend(tally::streams::closing(&totals.streams));
    lines.push(tally::kernel(totals.kernel));
    lines.extend(tally::host(totals.host));
    lines.extend(measured.into_iter().flat_map(probe::lines));
    let verdict = if balanced {
        "balanced"
    } else {
        "NOT BALANCED: please report this"
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}

const AS_BEFORE: &str = "going on as before";
const HALF_DONE: &str = "done in part; another SIGHUP tries the rest";

/// How often certificates are looked at: they end on a day.
const CERTIFICATES: Duration = Duration::from_secs(12 * 3600);

/// How often the counters are read, printed or not.
const SAMPLE: Duration = Duration::from_secs(1);

/// How late a signal is noticed at most.
const STOP_LATENCY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
