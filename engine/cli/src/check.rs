//! `binrush check`: what a configuration means, or where it is wrong.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use binrush_engine::config::{
    Config, ConfigError, Listener, Loaded, Place, Protocol, Value, tls_domain_for, without_password,
};
use binrush_engine::event::Expire;
use binrush_engine::relay::TargetConfig;
use binrush_engine::{EngineConfig, Gro};
use binrush_wire::Generation;
use serde_json::{Map, json};

use crate::output::event;
use crate::text::counted;

/// What is about clusters.
mod clusters;
/// What is about modules from shared libraries.
mod libraries;
/// What is about connections.
mod streams;

/// Say what a configuration means, or where it is wrong
///
/// Nothing is opened or listened on, so whether certificates are there and fit is for `binrush serve` to say. Exit code 2 and file:line:column when it is wrong; with --json the same as
/// one JSON object on standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration: the subset of OpenSIPS's script that `binrush serve --config` takes.
    file: PathBuf,

    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (stdout, stderr, code) = match (Config::load(&args.file), args.json) {
        (Ok(loaded), true) => (meaning_json(&loaded), String::new(), ExitCode::SUCCESS),
        (Ok(loaded), false) => (
            meaning(&loaded.config),
            warnings(&loaded),
            ExitCode::SUCCESS,
        ),
        (Err(error), true) => (error_json(&error), String::new(), ExitCode::from(WRONG)),
        (Err(error), false) => (String::new(), format!("{error}\n"), ExitCode::from(WRONG)),
    };
    let written = io::stderr()
        .write_all(stderr.as_bytes())
        .and_then(|()| io::stdout().write_all(stdout.as_bytes()));
    match written {
        // The code tells even a reader who has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(code),
    }
}

/// One line for each thing, in the order in which an operator would ask.
fn meaning(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |what: &str, value: String| text.push_str(&format!("{what:<9} {value}\n"));
    for listener in &config.listeners {
        line("listen", listener_text(config, listener));
    }
    let engine = config.engine();
    line("access", config.access.to_string());
    line("shards", shards_text(config));
    line("pin", engine.pin.to_string());
    line("backend", engine.backend.symbol().to_owned());
    line("receive", receive_text(&engine));
    for (what, value) in streams::lines(&engine) {
        line(what, value);
    }
    for (what, value) in clusters::lines(config) {
        line(what, value);
    }
    line(
        "verify",
        if config.verify {
            "each packet to its last byte"
        } else {
            "off"
        }
        .to_owned(),
    );
    line(
        "http",
        config
            .http
            .map_or_else(|| "off".to_owned(), |http| http.to_string()),
    );
    if let Some(seconds) = config.stats {
        line(
            "stats",
            match seconds {
                0 => "off".to_owned(),
                seconds => format!("every {seconds} s"),
            },
        );
    }
    if !config.probe.is_empty() {
        line("probe", config.probe.join(" "));
    }
    let parts = config.parts.iter().map(|part| match part {
        part if config.is_counted_only(*part) => {
            format!("{part} (packets read and counted only)")
        }
        part => part.to_string(),
    });
    line("parts", parts.collect::<Vec<_>>().join(", "));
    for (what, value) in libraries::lines(config) {
        line(what, value);
    }
    line("records", records_text(config));
    for (what, value) in target_lines(config) {
        line(what, value);
    }
    for target in &config.relay {
        line("relay", relay_text(target));
    }
    for (what, value) in events_lines(config) {
        line(what, value);
    }
    for name in config.script.names() {
        line("route", name);
    }
    for setting in config.parameters.iter() {
        for value in &setting.values {
            let value = without_password(&value.to_string());
            line(
                "set",
                format!("{} {} = {value}", setting.part, setting.name),
            );
        }
    }
    text
}

fn listener_text(config: &Config, listener: &Listener) -> String {
    let endpoint = listener.endpoint;
    let transports = transports(listener).join(", ");
    let domain =
        domain(config, listener).map_or_else(String::new, |name| format!(", domain {name}"));
    let tag = listener
        .tag
        .as_deref()
        .map_or_else(String::new, |tag| format!(", tag {tag}"));
    format!("{endpoint} ({transports}{domain}{tag})")
}

const fn transports(listener: &Listener) -> &'static [&'static str] {
    match listener.endpoint.protocol {
        Protocol::Bin if listener.datagrams_only => &["udp"],
        Protocol::Bin => &["udp", "tcp"],
        Protocol::Bins => &["tls"],
    }
}

/// The TLS domain of a listener that has one.
fn domain<'a>(config: &'a Config, listener: &Listener) -> Option<&'a str> {
    let endpoint = listener.endpoint;
    let domain = tls_domain_for(&config.tls, endpoint.addr);
    let domain = domain.filter(|_| endpoint.protocol == Protocol::Bins);
    domain.map(|domain| &domain.name[..])
}

fn records_text(config: &Config) -> String {
    let state = &config.state;
    let caps = format!(
        "{} or {} for each table at most",
        counted(state.records.into(), "record"),
        match state.bytes {
            Some(bytes) => format!("{} MiB", bytes >> 20),
            None => "its share of half of the memory".to_owned(),
        }
    );
    match &state.dir {
        None => format!("{caps}, in memory only (no state_dir)"),
        Some(dir) => format!(
            "{caps}, kept in {}, rings of {} KiB in {}, to the disk every {} ms",
            dir.display(),
            state.ring_bytes >> 10,
            state.runtime_dir.display(),
            state.fsync_interval.as_millis()
        ),
    }
}

fn relay_text(target: &TargetConfig) -> String {
    let ids = target.ids;
    let ids = match target.release.generation() {
        Generation::Legacy => String::new(),
        Generation::Transitional => format!(" as machine {}", ids.source),
        Generation::Modern => format!(
            " as node {} of cluster {} for node {}",
            ids.source, ids.cluster, ids.dest
        ),
    };
    let queue = match target.is_datagrams() {
        true => String::new(),
        false => format!(", {} MiB of them may wait", target.queue_bytes >> 20),
    };
    let from = match target.from_cluster {
        Some(cluster) => format!(" of cluster {cluster}, and of none,"),
        None => String::new(),
    };
    let bind = target
        .bind
        .map_or_else(String::new, |ip| format!(", from {ip}"));
    format!(
        "what is accepted{from} goes on to {}, {}{ids}{queue}{bind}",
        target.to, target.release
    )
}

fn events_lines(config: &Config) -> Vec<(&'static str, String)> {
    let Some(events) = &config.events else {
        return Vec::new();
    };
    let all = events.subscriptions.iter().map(|each| {
        let form = each.form.unwrap_or(events.form);
        let until = match each.expire {
            Expire::Never => String::new(),
            Expire::After(seconds) => format!(" for {seconds} s"),
        };
        format!("{} goes to {} as {form}{until}", each.event, each.socket)
    });
    let form = format!("told as {} unless asked for otherwise", events.form);
    [form]
        .into_iter()
        .chain(all)
        .map(|line| ("events", line))
        .collect()
}

fn events_json(config: &Config) -> serde_json::Value {
    let Some(events) = &config.events else {
        return serde_json::Value::Null;
    };
    let all = events.subscriptions.iter().map(|each| {
        json!({
            "event": each.event,
            "socket": each.socket.to_string(),
            "form": each.form.unwrap_or(events.form).symbol(),
            "expire": match each.expire {
                Expire::Never => None,
                Expire::After(seconds) => Some(seconds),
            },
        })
    });
    json!({ "form": events.form.symbol(), "subscriptions": all.collect::<Vec<_>>() })
}

fn relay_json(config: &Config) -> serde_json::Value {
    let targets = config.relay.iter().map(|target| {
        json!({
            "to": target.to.to_string(),
            "release": target.release.as_str(),
            "cluster": target.ids.cluster,
            "node": target.ids.source,
            "to_node": target.ids.dest,
            "queue_bytes": target.queue_bytes,
            "from_cluster": target.from_cluster,
            "bind": target.bind,
        })
    });
    targets.collect()
}

/// Where records go back to, as far as anything is said of it.
fn target_lines(config: &Config) -> Vec<(&'static str, String)> {
    let target = &config.target;
    let rules = target.map().rules();
    let mut lines: Vec<_> = rules
        .map(|(from, to)| ("target", format!("what has {from} here has {to} there")))
        .collect();
    if let Some(sockets) = target.sockets() {
        let names: Vec<_> = sockets.iter().map(ToString::to_string).collect();
        lines.push((
            "target",
            format!("has {}: dialogs of others are left out", names.join(", ")),
        ));
    }
    lines
}

fn target_json(config: &Config) -> serde_json::Value {
    let rules = config.target.map().rules();
    let rules = rules.map(|(from, to)| json!([from.to_string(), to.to_string()]));
    let sockets = config.target.sockets().map(|sockets| {
        let names = sockets.iter().map(ToString::to_string);
        names.collect::<Vec<_>>()
    });
    json!({ "socket_map": rules.collect::<Vec<_>>(), "sockets": sockets })
}

fn shards_text(config: &Config) -> String {
    let count = config
        .shards
        .count
        .map_or_else(|| "one for each core".to_owned(), |count| count.to_string());
    let source = config
        .shards
        .source
        .as_ref()
        .map_or_else(String::new, |source| format!(" ({source})"));
    let readers = match config.readers {
        0 => String::new(),
        1 => ", and 1 that reads connections".to_owned(),
        readers => format!(", and {readers} that read connections"),
    };
    count + &source + &readers
}

fn receive_text(engine: &EngineConfig) -> String {
    let EngineConfig { batch, rcvbuf, .. } = engine;
    format!(
        "batches of {batch}, buffers of {rcvbuf} bytes, gro {}",
        gro_text(engine.gro)
    )
}

const fn gro_text(gro: Gro) -> &'static str {
    match gro {
        Gro::Auto => "auto",
        Gro::On => "on",
        Gro::Off => "off",
    }
}

fn warnings(loaded: &Loaded) -> String {
    let lines = loaded
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    lines.collect()
}

fn meaning_json(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let engine = config.engine();
    let listen = config.listeners.iter().map(|listener| {
        json!({
            "endpoint": listener.endpoint.to_string(),
            "tag": listener.tag,
            "transports": transports(listener),
            "domain": domain(config, listener),
            "place": listener.place.to_string(),
        })
    });
    let parts = config.parts.iter().map(|part| {
        let active = !config.is_counted_only(*part);
        json!({ "name": part.name(), "active": active })
    });
    let parameters = config.parameters.iter().map(|setting| {
        let values = setting.values.iter().map(|value| match value {
            Value::Int(value) => json!(value),
            Value::Text(text) => json!(without_password(text)),
        });
        json!({
            "module": setting.part.name(),
            "name": setting.name,
            "values": values.collect::<Vec<_>>(),
            "place": setting.place().to_string(),
        })
    });
    let warnings = loaded.warnings.iter().map(|warning| {
        problem_json(
            warning.place().map(|place| &*place.file),
            warning.place(),
            warning.message(),
        )
    });
    let more = json!({
        "ok": true,
        "listen": listen.collect::<Vec<_>>(),
        "access": config.access.to_string(),
        "shards": config.shards.count,
        "shards_source": config.shards.source,
        "pin": engine.pin.to_string(),
        "backend": engine.backend.symbol(),
        "batch": engine.batch,
        "rcvbuf": engine.rcvbuf,
        "gro": gro_text(engine.gro),
        "readers": engine.readers,
        "streams": streams::json(&engine),
        "clusters": clusters::json(config),
        "control": config.control,
        "state": state_json(config),
        "target": target_json(config),
        "relay": relay_json(config),
        "events": events_json(config),
        "routes": config.script.names().collect::<Vec<_>>(),
        "verify": config.verify,
        "http": config.http.map(|http| http.to_string()),
        "stats": config.stats,
        "probe": config.probe,
        "parts": parts.collect::<Vec<_>>(),
        "parameters": parameters.collect::<Vec<_>>(),
        "libraries": libraries::json(config),
        "warnings": warnings.collect::<Vec<_>>(),
    });
    event("check", Map::new(), more) + "\n"
}

fn state_json(config: &Config) -> serde_json::Value {
    let state = &config.state;
    json!({
        "dir": state.dir,
        "runtime_dir": state.runtime_dir,
        "fsync_interval_ms": u64::try_from(state.fsync_interval.as_millis()).unwrap_or(u64::MAX),
        "ring_bytes": state.ring_bytes,
        "records": state.records,
        "bytes": state.bytes,
    })
}

fn error_json(error: &ConfigError) -> String {
    let problems = error
        .problems()
        .iter()
        .map(|problem| problem_json(Some(problem.file()), problem.place(), problem.message()));
    let more = json!({ "ok": false, "problems": problems.collect::<Vec<_>>() });
    event("check", Map::new(), more) + "\n"
}

fn problem_json(file: Option<&str>, place: Option<&Place>, message: &str) -> serde_json::Value {
    json!({
        "file": file,
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "message": message,
    })
}

/// The exit code for a configuration that cannot be used.
const WRONG: u8 = 2;
