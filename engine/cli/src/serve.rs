//! `binrush serve`: receive BIN packets and say what came.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::anyhow;
use binrush_engine::config::{Allowed, RCVBUF_MAX, STATS_MAX};
use binrush_engine::engine::StopCause;
use binrush_engine::event::{Bus, BusSnapshot};
use binrush_engine::relay::{Relay, TargetSnapshot};
use binrush_engine::telemetry::samples::RefusalLog;
use binrush_engine::{Engine, EngineConfig, MonotonicClock, Registry, Snapshot, StartError};
use binrush_probe::Report;
use serde_json::{Value, json};

use crate::arguments::{self, Shards};
use crate::http::Http;
use crate::metrics;
use crate::modules as built_in;
use crate::output::Output;
use crate::probe::Probe;
use crate::signal::Signals;
use crate::tally::streams::{Closed, LINES_MAX};
use crate::text::counted;
use asked::Asked;
use cluster::{Planned, Seats};
use confine::Confined;
pub(crate) use confine::seen_with;
use ending::{give_back, pass_on};
use handover::{From, Heir, Taken};
use losses::LossLog;
use modules::{Errands, Loaded as Modules};
use records::{Journal, Records};
use script::{Linked, Routes};
use service::Service;
use settings::{Listen, Settings};
use streams::StreamLog;

/// Who asks at the control socket.
mod asked;
/// Clusters that it is a node of.
mod cluster;
/// What is given up once the sockets are bound.
mod confine;
/// How it ends.
mod ending;
/// Who is told what happens.
mod events;
/// From one process to the next.
mod handover;
/// What was lost without a sample to show.
mod losses;
/// Modules from shared libraries.
mod modules;
/// What is told at the start.
mod ready;
/// The records that are kept.
mod records;
/// Who gets the live stream on.
mod relay;
/// SIGHUP.
mod reload;
/// Routing scripts.
pub(crate) mod script;
/// A service manager.
mod service;
/// What the command line and the configuration come to together.
pub(crate) mod settings;
/// Connections that were refused or ended badly.
mod streams;
/// What goes on beside the shards.
mod watch;

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

    /// Take the sockets of the server that answers at this configuration's control socket, and its place: nothing that is sent
    /// meanwhile is lost, and it ends. If this one fails to start, that one goes on. Without one, start as ever.
    #[arg(long)]
    handover: bool,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// A server at work: everything that the control thread keeps.
struct Server<'a> {
    args: &'a Args,
    service: &'a mut Service,
    confined: Option<Confined>,
    settings: Settings,
    engine: Engine,
    seats: Option<Seats>,
    journal: Journal,
    modules: Option<&'a Modules>,
    module_news: modules::News,
    errands: Option<Errands>,
    asked: Option<Asked>,
    relay: Option<Relay>,
    bus: Option<Bus>,
    routes: Option<Routes>,
    probe: Option<Probe>,
    http: Option<Http>,
    output: &'a Output,
    clock: MonotonicClock,
    refusals: RefusalLog,
    losses: LossLog,
    relay_news: relay::News,
    event_news: events::News,
    suspects: events::Suspects,
    /// What was told of certificates, and when they were looked at.
    certificates: (Vec<String>, Instant),
    /// What was told to be wrong with the clusters' threads.
    trouble: Option<String>,
    streams: StreamLog,
    /// Closed since the last line of counts.
    closed: Closed,
}

/// Why nothing is watched any more.
enum Ending {
    /// A signal, or a shard that ended by itself.
    Stop,
    /// Another process takes the sockets.
    Handover(Heir),
}

/// How a run of a server came to its end.
enum Run {
    /// With this code.
    Over(ExitCode),
    /// Its heir is gone: it goes on with what it has.
    Again(Box<Again>),
}

/// What a run begins with that goes on where the last one ended.
struct Again {
    settings: Settings,
    taken: Taken,
    output: Output,
}

/// Starts to print, when there may be threads.
type MakeOutput<'a> = dyn FnOnce() -> anyhow::Result<Output> + 'a;

/// What became of the ledger, and of who looked after it.
struct Closing {
    totals: Snapshot,
    stopped: Result<(), StopCause>,
    relayed: Vec<TargetSnapshot>,
    /// One that still sends what the shards gave: see [`Closing::end_relay`].
    relay: Option<Relay>,
    /// What became of events; or who still tells them, likewise.
    told: Option<BusSnapshot>,
    bus: Option<Bus>,
    /// The routes, which hear what is told until the end of [`bus`](Self::bus), and what they did.
    routes: Option<Routes>,
    measured: Option<Report>,
    /// What callbacks of modules came to.
    modules: Vec<metrics::Module>,
    watched: anyhow::Result<()>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Before the start, so that a signal from the first moment on leads to a clean stop.
    let signals = Signals::handle()?;
    let mut service = Service::of_environment()?;
    let mut settings = match Settings::load(&args) {
        Ok(settings) => settings,
        Err(wrong) => {
            eprintln!("{wrong}");
            return Ok(ExitCode::from(2));
        }
    };
    let lookout = modules::look_out(&settings, &signals.stop);
    // Before any socket: a module that cannot be used costs nothing that runs.
    let modules = match Modules::load(&mut settings, &signals.stop) {
        Ok(modules) => modules,
        Err(modules::Refused::Config(wrong)) => {
            eprintln!("{wrong}");
            return Ok(ExitCode::from(2));
        }
        Err(modules::Refused::Module(wrong)) => return Err(anyhow!("{wrong}")),
    };
    let modules = modules.as_ref();
    let linked = match script::link(&mut settings, modules) {
        Ok(linked) => linked,
        Err(wrong) => {
            eprintln!("{wrong}");
            return Ok(ExitCode::from(2));
        }
    };
    drop(lookout);
    let taken = begin_with(&args, &mut settings, &mut service)?;
    let parts = (&signals, modules, linked.as_ref());
    receive(&args, settings, parts, &mut service, taken, || {
        Output::start(io::stdout())
    })
}

/// The sockets that are there already: of the running server, or of a service manager.
fn begin_with(
    args: &Args,
    settings: &mut Settings,
    service: &mut Service,
) -> anyhow::Result<Taken> {
    let (estate, told) = service.estate(&settings.engine)?;
    settings.warnings.extend(told);
    if args.handover {
        let Some(control) = settings.control.clone() else {
            return Err(anyhow!(
                "--handover asks at the control socket of the running server, and there is none\n  \
                 name it in the configuration: modparam(\"binrush\", \"control\", \"/run/binrush/control.sock\")"
            ));
        };
        // Whatever can be found wrong with a certificate is found while the running one still receives.
        settings.check_certificates()?;
        match Taken::take(&control, settings)? {
            Some(taken) => return Ok(taken),
            None => settings.warnings.push(format!(
                "nobody answers at {}: there was nothing to take over",
                control.display()
            )),
        }
    }
    let from = match estate.sockets() {
        0 => From::Nobody,
        _ => From::Manager,
    };
    Ok(Taken {
        estate,
        from,
        ..Taken::default()
    })
}

/// Receives until a signal ends it or another process takes its place, and tells on `output`, which is made when there may
/// be threads.
fn receive(
    args: &Args,
    mut settings: Settings,
    parts: Parts<'_>,
    service: &mut Service,
    mut taken: Taken,
    output: impl FnOnce() -> anyhow::Result<Output>,
) -> anyhow::Result<ExitCode> {
    let mut output: Box<MakeOutput<'_>> = Box::new(output);
    loop {
        let warnings = settings.warnings.clone();
        match serve_once(args, settings, parts, service, taken, output)? {
            Run::Over(code) => return Ok(code),
            Run::Again(again) => {
                let Again {
                    settings: back,
                    taken: own,
                    output: started,
                } = *again;
                (settings, taken) = (back, own);
                settings.warnings = warnings;
                output = Box::new(move || Ok(started));
            }
        }
    }
}

/// One run from the first socket to the last total.
fn serve_once(
    args: &Args,
    mut settings: Settings,
    (signals, modules, linked): Parts<'_>,
    service: &mut Service,
    mut taken: Taken,
    output: Box<MakeOutput<'_>>,
) -> anyhow::Result<Run> {
    // Before the engine: what it steers by may be kept there.
    let bus = events::plan(&settings)?;
    let mut records = Records::open(&settings, bus.as_ref())?;
    settings.engine.seed = records.seed();
    // Before journals are opened: the limit that they need is raised here.
    let (config, too_few) = with_descriptors(&settings.engine, records.descriptors());
    settings.warnings.extend(too_few);
    let sockets = taken.estate.sockets();
    let bound = match Engine::bind(config, std::mem::take(&mut taken.estate)) {
        Ok(bound) => bound,
        Err(error) => return refused(&settings, error),
    };
    // From here on there are threads, which have the rights of this one.
    let confined = settings.confine.then(|| {
        let mut files = settings.files();
        modules.iter().for_each(|modules| modules.opens(&mut files));
        confine::confine(&files)
    });
    let output = output()?;
    let (mut registry, probe, planned) = handlers(&settings, &mut records)?;
    let relay = relay::plan(&settings, &mut registry)?;
    if let Some(bus) = &bus {
        settings.warnings.extend(events::start(bus, &settings)?);
    }
    if let Some(bus) = &bus
        && (modules.is_some() || settings.script.raised().next().is_some())
    {
        // Before any of their code runs there.
        let bus = bus.clone();
        registry.at_beginning(move |_| {
            bus.raises_here();
            Ok(())
        });
    }
    let wrong = modules.map(|modules| modules.tell_by(bus.as_ref()));
    settings.warnings.extend(wrong.into_iter().flatten());
    let resident = modules.map(|modules| modules.register(&mut registry, &settings));
    let resident = resident.transpose()?;
    let routes = linked.map(|linked| linked.plan(&settings, &mut registry, bus.as_ref()));
    let routes = routes.transpose()?;
    let journal = records.start()?;
    let mut untold = Untold(journal.notes().collect());
    settings.warnings.extend(untold.0.iter().cloned());
    settings
        .warnings
        .extend(confined.iter().flat_map(Confined::warnings));
    // What modules send when they begin leaves from there too.
    let wrong = modules.and_then(|modules| modules.send_from(bound.groups()));
    settings.warnings.extend(wrong);
    let lookout = modules.map(Modules::lookout);
    let mut begun = match bound.begin(registry) {
        Ok(begun) => begun,
        Err(error) => return refused(&settings, error),
    };
    // Before anything is received: what child_init registers is for the first packet too.
    if let Some(modules) = modules {
        modules.register_late(&mut begun, &mut settings)?;
    }
    let mut engine = match begun.open() {
        Ok(engine) => engine,
        Err(error) => return refused(&settings, error),
    };
    let errands = modules.zip(resident);
    let errands =
        errands.map(|(modules, resident)| Errands::new(modules, engine.teller(), resident));
    let to_start = (planned, relay, bus.as_ref());
    let asked = errands.clone();
    let around = around(&mut engine, &mut settings, &journal, to_start, asked);
    let (seats, relay, http, asked) = match around {
        Ok(around) => around,
        Err(error) if matches!(taken.from, From::Giver { .. }) => {
            give_back(engine, journal, output, args.json);
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    drop(lookout);
    taken.ready();
    // Who had them before is over: only now nobody may want to go on with those that are not asked for any more.
    if let Err(error) = engine.settle() {
        let warning =
            format!("not all sockets that were taken over and nobody asks for are closed: {error}");
        settings.warnings.push(warning);
    }
    settings.warnings.extend(service.ready(&engine));
    output.print(ready::text(
        &engine,
        &settings,
        http.as_ref(),
        asked.as_ref().map(Asked::path),
        &journal,
        &[
            ready::More {
                key: "handover",
                words: taken.words(sockets),
                json: taken.json(sockets),
            },
            ready::More {
                key: "confined",
                words: confined.as_ref().map(Confined::words),
                json: confined.as_ref().map_or(Value::Null, Confined::json),
            },
            relay::more(relay.as_ref()),
            events::more(bus.as_ref().filter(|_| settings.events.is_some())),
            modules.map_or_else(Modules::none, Modules::more),
            Modules::more_of_files(modules),
            script::more(&settings),
        ],
        args.json,
    ));
    untold.0.clear();
    let relay_told = relay.as_ref().map(Relay::snapshot).unwrap_or_default();
    let before = taken.before;
    let callback_budget = settings.libraries.callback_budget;
    drop(taken);
    let mut server = Server {
        args,
        service,
        confined,
        settings,
        engine,
        seats,
        journal,
        modules,
        module_news: modules::News::new(Instant::now(), callback_budget),
        errands,
        asked,
        relay,
        bus,
        routes,
        probe,
        http,
        output: &output,
        clock: MonotonicClock,
        refusals: RefusalLog::new(),
        losses: LossLog::default(),
        relay_news: relay::News::since(&relay_told),
        event_news: events::News::default(),
        suspects: events::Suspects::default(),
        // The first are in the ready line.
        certificates: (Vec::new(), Instant::now()),
        trouble: None,
        streams: StreamLog::default(),
        closed: Closed::default(),
    };
    match server.watch(signals) {
        Ok(Ending::Handover(heir)) => {
            let (heir, estate) = heir.with_estate();
            server.service.pausing();
            let (settings, closing, estate) = server.leave(estate);
            let before = before.and(&closing.totals);
            let still_waits = |text: &str| {
                service.pausing();
                watch::tell(
                    &output,
                    args.json,
                    "handover",
                    &text,
                    json!({ "done": null }),
                );
            };
            let given = heir.give(&estate, before, &signals.stop, still_waits);
            pass_on(args, settings, closing, (given, estate, before), output)
        }
        watched => {
            signals.stopping();
            let (mut closing, kept) = server.stop();
            if let Some(kept) = kept {
                service.keep_counts(&kept);
            }
            closing.watched = watched.map(drop);
            Ok(Run::Over(closing.tell(output, args.json, json!({}))?))
        }
    }
}

/// What is there once in the life of the process.
type Parts<'a> = (&'a Signals, Option<&'a Modules>, Option<&'a Linked<'a>>);

/// What is beside an engine.
type Around = (Option<Seats>, Option<Relay>, Option<Http>, Option<Asked>);

/// What starts once there is an engine, or is there already.
type ToStart<'a> = (
    Option<Planned>,
    Option<binrush_engine::relay::Planned>,
    Option<&'a Bus>,
);

/// Starts what is beside `engine`: clusters, relays, HTTP and the control socket.
fn around(
    engine: &mut Engine,
    settings: &mut Settings,
    journal: &Journal,
    (planned, relay, bus): ToStart<'_>,
    errands: Option<Errands>,
) -> anyhow::Result<Around> {
    let seats = match planned {
        Some(planned) => Some(Seats::take(planned, engine, settings)?),
        None => None,
    };
    let relay = relay.map(|planned| {
        let (relay, warnings) = relay::start(planned, engine, settings);
        settings.warnings.extend(warnings);
        relay
    });
    let http = match settings.http {
        Some(addr) => Some(Http::start(addr, engine)?),
        None => None,
    };
    let clusters = seats.as_ref().map(Seats::asked);
    let asked = settings.control.as_ref();
    let tables = asked::Tables::of(engine, &settings.clusters, journal.watch());
    // Whom an operator subscribes is told by `event_datagram`.
    let bus = bus.filter(|_| settings.events.is_some()).cloned();
    let asked = asked.map(|path| Asked::start(path, clusters, tables, (bus, errands)));
    Ok((seats, relay, http, asked.transpose()?))
}

/// A start that failed: by what the configuration says, or else.
fn refused(settings: &Settings, error: StartError) -> anyhow::Result<Run> {
    match settings.refused_by_config(&error) {
        Some(text) => {
            eprintln!("{text}");
            Ok(Run::Over(ExitCode::from(2)))
        }
        None => Err(explained(error)),
    }
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

/// `config` with as many connections as there are descriptors for beside `others`, and a warning where these are fewer than it asks
/// for. What was asked for stays what the configuration says, and is what a reload compares with.
fn with_descriptors(config: &EngineConfig, others: u64) -> (EngineConfig, Option<String>) {
    let mut fitting = config.clone();
    let warning = fitting.fit_descriptors(others).map(|limit| {
        let asked = config.streams.limits.connections;
        let had = counted(fitting.streams.limits.connections.into(), "connection");
        format!(
            "{had} at most, not the {asked} of tcp_max_connections: this process may have {limit} descriptors, of which \
             its listeners, journals, HTTP and the reading of files need some; raise the limit (LimitNOFILE= of systemd, or \
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
    let mut registry = built_in::registry(wanted, settings.verify)?;
    if let Some(probe) = &probe {
        probe.register(&mut registry, settings.verify)?;
    }
    records.check_room(&settings.clusters, is_legacy)?;
    records.legacy(&mut registry, is_legacy)?;
    let planned = cluster::plan(settings, &mut registry, records)?;
    Ok((registry, probe, planned))
}

/// What to do about it in terms of this command.
fn explained(error: StartError) -> anyhow::Error {
    match error {
        StartError::Pin(_) => anyhow!("{error}\n  name others, or use `--pin off`"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests;
