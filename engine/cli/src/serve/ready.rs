//! What is told at the start.

use std::net::SocketAddr;

use binrush_engine::{Access, Engine};
use serde_json::{Map, json};

use super::settings::Settings;
use crate::http::Http;
use crate::output::event;
use crate::{modules, tally};

/// Everything that was granted, chosen or found, in one line and its warnings, or as a JSON line.
pub(super) fn text(
    engine: &Engine,
    settings: &Settings,
    http: Option<&Http>,
    json: bool,
) -> String {
    let listen: Vec<String> = engine
        .listeners()
        .map(|listener| format!("bin:{}", listener.addr))
        .collect();
    // What is measured is taken, also when its module is off, and when there is none.
    let measures = |name: &str| settings.probe.iter().any(|probed| probed == name);
    let mut handlers: Vec<&str> = modules::all()
        .map(|module| module.name)
        .filter(|name| settings.has_module(name) || measures(name))
        .collect();
    for name in &settings.probe {
        if !handlers.contains(&&name[..]) {
            handlers.push(name);
        }
    }
    // Each socket asks for the same.
    let rcvbuf = engine.listeners().map(|listener| listener.rcvbuf).min();
    let (backend, reason) = engine.backend();
    let access = engine.access().to_string();
    let warnings = warnings(engine, settings);
    if json {
        let shards = engine.shards().map(|shard| json!({ "core": shard.core }));
        let more = json!({
            "listen": listen,
            "transport": "udp",
            "shards": shards.collect::<Vec<_>>(),
            "backend": backend.symbol(),
            "backend_reason": reason,
            "gro": engine.gro(),
            "rcvbuf": rcvbuf,
            "access": access,
            "http": http.map(|http| http.local_addr().to_string()),
            "handlers": handlers,
            "probe": settings.probe,
            "warnings": warnings,
        });
        return event("ready", Map::new(), more);
    }
    let mut text = format!(
        "ready: {} (udp), {}, {} ({reason}), receive buffer {} bytes each, gro {}, access {access}, handlers {}",
        listen.join(" "),
        tally::shards(engine),
        backend.symbol(),
        rcvbuf.unwrap_or(0),
        if engine.gro() { "on" } else { "off" },
        if handlers.is_empty() {
            "none".to_owned()
        } else {
            handlers.join(" ")
        }
    );
    if let Some(http) = http {
        text.push_str(&format!(", http://{}/metrics", http.local_addr()));
    }
    if !settings.probe.is_empty() {
        text.push_str(&format!(", probe {}", settings.probe.join(" ")));
    }
    for warning in warnings {
        text.push_str("\nwarning: ");
        text.push_str(&warning);
    }
    text
}

/// What the user should know.
fn warnings(engine: &Engine, settings: &Settings) -> Vec<String> {
    let mut warnings = settings.warnings.clone();
    warnings.extend(engine.warnings().iter().map(ToString::to_string));
    for listener in engine.listeners() {
        warnings.extend(of_listener(listener.addr, engine, settings.has_told_reach));
    }
    warnings
}

/// What the user should know about listening on `addr`.
pub(super) fn of_listener(addr: SocketAddr, engine: &Engine, has_told_reach: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        let port = addr.port();
        warnings.push(format!(
            "bin:{addr} takes no IPv4: for that, listen on bin:0.0.0.0:{port} too"
        ));
    }
    if addr.ip().is_loopback() {
        return warnings;
    }
    // What a configuration says about its own listeners and their senders, it has warned of itself.
    if *engine.access() == Access::loopback() && !has_told_reach {
        warnings.push(format!(
            "only loopback addresses are heard on bin:{addr}: packets of all others are dropped and counted as acl; \
             name the senders with --allow, or modparam(\"binrush\", \"allow\", ...)"
        ));
    } else if engine.access().lets_everybody_in() {
        warnings.push(format!(
            "whoever can reach bin:{addr} is heard, and BIN over UDP has no authentication"
        ));
    }
    warnings
}
