//! What is told at the start.

use std::fmt;
use std::path::Path;

use binrush_engine::engine::ListenerInfo;
use binrush_engine::{Access, Engine};
use serde_json::{Map, Value, json};

use super::records::Journal;
use super::settings::Settings;
use crate::http::Http;
use crate::output::event;
use crate::text::counted;
use crate::{modules as built_in, tally};

/// Something else that is told at the start.
#[derive(Debug)]
pub(super) struct More {
    /// In the JSON line.
    pub(super) key: &'static str,
    /// `None`: it is not worth a word.
    pub(super) words: Option<String>,
    pub(super) json: Value,
}

/// What is listened for where: addresses as OpenSIPS writes them, each with a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listening(Vec<(String, &'static str)>);

/// Everything that was granted, chosen or found, in one line and its warnings, or as a JSON line.
pub(super) fn text(
    engine: &Engine,
    settings: &Settings,
    http: Option<&Http>,
    control: Option<&Path>,
    journal: &Journal,
    rest: &[More],
    json: bool,
) -> String {
    // Those of datagrams come first: whoever knows of one address only, knows of one of these.
    let listeners: Vec<ListenerInfo> = engine.listeners().collect();
    // What is measured is taken, also when its module is off, and when there is none.
    let measures = |name: &str| settings.probe.iter().any(|probed| probed == name);
    let mut handlers: Vec<&str> = built_in::all()
        .map(|module| module.name)
        .filter(|name| settings.has_module(name) || measures(name))
        .collect();
    for name in &settings.probe {
        if !handlers.contains(&&name[..]) {
            handlers.push(name);
        }
    }
    // Each socket asks for the same.
    let rcvbuf = listeners
        .iter()
        .filter_map(|listener| listener.rcvbuf)
        .min();
    let (backend, reason) = engine.backend();
    let has_streams = listeners
        .iter()
        .any(|listener| listener.tcp || listener.tls);
    let stream_backend = has_streams.then(|| engine.stream_backend());
    let access = engine.access().to_string();
    let warnings = warnings(engine, settings);
    if json {
        let cores_of = |readers: bool| -> Vec<Value> {
            let those = engine.shards();
            let those = those.filter(|shard| shard.reader.is_some() == readers);
            those.map(|shard| json!({ "core": shard.core })).collect()
        };
        let listen: Vec<String> = listeners.iter().map(endpoint).collect();
        let taken = |transport: &&str| {
            listeners
                .iter()
                .any(|each| transports(each).contains(transport))
        };
        let transports: Vec<&str> = ["udp", "tcp", "tls"].into_iter().filter(taken).collect();
        let more = json!({
            "listen": listen,
            "transport": transports,
            "shards": cores_of(false),
            "readers": cores_of(true),
            "backend": backend.symbol(),
            "backend_reason": reason,
            "stream_backend": stream_backend.map(|(backend, _)| backend.symbol()),
            "stream_backend_reason": stream_backend.map(|(_, reason)| reason),
            "gro": engine.gro(),
            "rcvbuf": rcvbuf,
            "access": access,
            "http": http.map(|http| http.local_addr().to_string()),
            "control": control,
            "clusters": settings.clusters.iter().map(|each| json!({ "id": each.id, "node": each.me.id })).collect::<Vec<_>>(),
            "state": state_json(settings, journal),
            "handlers": handlers,
            "probe": settings.probe,
            "warnings": warnings,
        });
        let Value::Object(mut more) = more else {
            unreachable!("it is an object");
        };
        more.extend(
            rest.iter()
                .map(|each| (each.key.to_owned(), each.json.clone())),
        );
        let more = Value::Object(more);
        return event("ready", Map::new(), more);
    }
    let streams = stream_backend.map_or_else(String::new, |(backend, reason)| {
        format!(", streams by {} ({reason})", backend.symbol())
    });
    let mut text = format!(
        "ready: {}, {}, {} ({reason}){streams}, receive buffer {} bytes each, gro {}, access {access}, handlers {}",
        listening(engine),
        tally::shards(engine),
        backend.symbol(),
        rcvbuf.unwrap_or(0),
        if engine.gro() { "on" } else { "off" },
        if handlers.is_empty() && !settings.taken.is_empty() {
            "of modules".to_owned()
        } else if handlers.is_empty() {
            "none".to_owned()
        } else if handlers.len() == built_in::all().count() {
            "for every known name".to_owned()
        } else {
            handlers.join(" ")
        }
    );
    if let Some(http) = http {
        text.push_str(&format!(", http://{}/metrics", http.local_addr()));
    }
    for cluster in &settings.clusters {
        text.push_str(&format!(
            ", node {} of cluster {}",
            cluster.me.id, cluster.id
        ));
    }
    if let Some(path) = control {
        text.push_str(&format!(", control {}", path.display()));
    }
    if let (Some(dir), Some((records, _))) = (&settings.state.dir, journal.found()) {
        let records = counted(records, "record");
        text.push_str(&format!(", {records} from {}", dir.display()));
    }
    if !settings.probe.is_empty() {
        text.push_str(&format!(", probe {}", settings.probe.join(" ")));
    }
    for words in rest.iter().filter_map(|each| each.words.as_ref()) {
        text.push_str(&format!(", {words}"));
    }
    for warning in warnings {
        text.push_str("\nwarning: ");
        text.push_str(&warning);
    }
    text
}

/// Where records are kept, and what was found there; null: in memory only.
fn state_json(settings: &Settings, journal: &Journal) -> Value {
    let Some((records, journals)) = journal.found() else {
        return Value::Null;
    };
    json!({
        "dir": settings.state.dir,
        "runtime_dir": settings.state.runtime_dir,
        "journals": journals,
        "records": records,
    })
}

/// What the user should know.
fn warnings(engine: &Engine, settings: &Settings) -> Vec<String> {
    let mut warnings = settings.warnings.clone();
    warnings.extend(engine.warnings().iter().map(ToString::to_string));
    for listener in engine.listeners() {
        warnings.extend(of_listener(&listener, engine, settings));
    }
    warnings
}

/// Where `engine` listens now.
pub(super) fn listening(engine: &Engine) -> Listening {
    Listening(engine.listeners().flat_map(|each| of(&each)).collect())
}

/// Each transport that is taken at `listener`.
fn of(listener: &ListenerInfo) -> impl Iterator<Item = (String, &'static str)> + use<> {
    let endpoint = endpoint(listener);
    let transports = transports(listener).iter();
    transports.map(move |transport| (endpoint.clone(), *transport))
}

impl Listening {
    /// What `other` does not have.
    pub(super) fn without(&self, other: &Self) -> Self {
        let rest = self.0.iter().filter(|each| !other.0.contains(each));
        Self(rest.cloned().collect())
    }

    /// Whether something that is taken at `listener` is among it.
    pub(super) fn has(&self, listener: &ListenerInfo) -> bool {
        of(listener).any(|each| self.0.contains(&each))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `bin:127.0.0.1:5555 (udp, tcp) bins:127.0.0.1:5556 (tls)`.
impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.0.chunk_by(|(one, _), (next, _)| one == next);
        for (index, chunk) in chunks.enumerate() {
            let space = if index == 0 { "" } else { " " };
            let transports: Vec<&str> = chunk.iter().map(|(_, transport)| *transport).collect();
            write!(f, "{space}{} ({})", chunk[0].0, transports.join(", "))?;
        }
        Ok(())
    }
}

/// As OpenSIPS writes it.
fn endpoint(listener: &ListenerInfo) -> String {
    let scheme = if listener.tls { "bins" } else { "bin" };
    format!("{scheme}:{}", listener.addr)
}

/// What is taken at a listener.
const fn transports(listener: &ListenerInfo) -> &'static [&'static str] {
    match (listener.rcvbuf, listener.tcp, listener.tls) {
        (_, _, true) => &["tls"],
        (Some(_), true, _) => &["udp", "tcp"],
        (Some(_), false, _) => &["udp"],
        (None, _, _) => &["tcp"],
    }
}

/// What the user should know about `listener`.
pub(super) fn of_listener(
    listener: &ListenerInfo,
    engine: &Engine,
    settings: &Settings,
) -> Vec<String> {
    let (addr, endpoint) = (listener.addr, endpoint(listener));
    let mut warnings = Vec::new();
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        let scheme = if listener.tls { "bins" } else { "bin" };
        let port = addr.port();
        warnings.push(format!(
            "{endpoint} takes no IPv4: for that, listen on {scheme}:0.0.0.0:{port} too"
        ));
    }
    if addr.ip().is_loopback() {
        return warnings;
    }
    // What a configuration says about its own listeners and their senders, it has warned of itself.
    if *engine.access() == Access::loopback() && !settings.has_told_reach {
        let (what, become_of) = match (listener.rcvbuf, listener.tcp) {
            (Some(_), true) => ("packets and connections", "refused"),
            (Some(_), false) => ("packets", "dropped"),
            (None, _) => ("connections", "refused"),
        };
        warnings.push(format!(
            "only loopback addresses are heard on {endpoint}: {what} of all others are {become_of} and counted as acl; \
             name the senders with --allow, or modparam(\"binrush\", \"allow\", ...)"
        ));
    } else if engine.access().lets_everybody_in() && !settings.asks_for_certificates(listener) {
        let why = if listener.tls {
            "who connects needs no certificate that is trusted (verify_cert or require_cert 0)"
                .to_owned()
        } else {
            let by = transports(listener).join(" and ").to_uppercase();
            format!("BIN over {by} has no authentication")
        };
        warnings.push(format!("whoever can reach {endpoint} is heard, and {why}"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(rcvbuf: Option<usize>, tcp: bool, tls: bool) -> ListenerInfo {
        ListenerInfo {
            addr: ([127, 0, 0, 1], 5555).into(),
            rcvbuf,
            tcp,
            tls,
        }
    }

    #[test]
    fn a_listener_is_told_with_all_that_it_takes() {
        for (listener, told) in [
            (
                listener(Some(4096), false, false),
                "bin:127.0.0.1:5555 (udp)",
            ),
            (
                listener(Some(4096), true, false),
                "bin:127.0.0.1:5555 (udp, tcp)",
            ),
            (listener(None, true, false), "bin:127.0.0.1:5555 (tcp)"),
            (listener(None, true, true), "bins:127.0.0.1:5555 (tls)"),
        ] {
            assert_eq!(Listening(of(&listener).collect()).to_string(), told);
        }
    }

    #[test]
    fn what_came_and_what_went_is_told_by_transport() {
        let (both, tls) = (
            listener(Some(4096), true, false),
            listener(None, true, true),
        );
        let udp = listener(Some(4096), false, false);
        let before = Listening(of(&udp).chain(of(&tls)).collect());
        let after = Listening(of(&both).collect());
        let (opened, closed) = (after.without(&before), before.without(&after));
        assert_eq!(opened.to_string(), "bin:127.0.0.1:5555 (tcp)");
        assert_eq!(closed.to_string(), "bins:127.0.0.1:5555 (tls)");
        assert!(opened.has(&both) && !opened.has(&tls));
        assert!(after.without(&after).is_empty());
    }
}
