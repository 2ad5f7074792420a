//! What a configuration says about connections.

use std::time::Duration;

use binrush_engine::EngineConfig;
use binrush_engine::stream::{Keepalive, PeerSettings, StreamLimits};
use binrush_engine::tls::{TlsDomain, TlsVersion};
use binrush_wire::Generation;
use serde_json::{Value, json};

/// One line for each thing; none where no connection is accepted.
pub(super) fn lines(engine: &EngineConfig) -> Vec<(&'static str, String)> {
    let streams = &engine.streams;
    if streams.listen.is_empty() && streams.listen_tls.is_empty() {
        return Vec::new();
    }
    let limits = &streams.limits;
    let mut lines = vec![
        (
            "streams",
            format!(
                "{}, {} connections, {} of one address, backlog {}",
                streams.backend.symbol(),
                limits.connections,
                limits.per_source,
                limits.backlog
            ),
        ),
        ("deadlines", deadlines(limits)),
        (
            "memory",
            format!(
                "{} bytes for a connection, {} for those of a shard",
                limits.memory_per_connection, limits.memory
            ),
        ),
    ];
    for (addr, settings) in streams.peers.rows() {
        lines.push(("peer", format!("{addr} {}", peer(settings))));
    }
    if !streams.listen_tls.is_empty() {
        let handshake = seconds(limits.handshake);
        let text = format!("{handshake} for a handshake, {} at once", limits.handshakes);
        lines.push(("tls", text));
    }
    if let Some(tls) = &streams.tls {
        lines.extend(
            tls.server
                .iter()
                .map(|each| ("tls", domain("server", each))),
        );
        lines.extend(
            tls.client
                .iter()
                .map(|each| ("tls", domain("client", each))),
        );
    }
    lines
}

fn deadlines(limits: &StreamLimits) -> String {
    let pieces = limits
        .pieces
        .map_or_else(String::new, |pieces| format!(" and {pieces} pieces"));
    let keepalive = limits.keepalive.map_or_else(
        || "off".to_owned(),
        |Keepalive {
             idle,
             interval,
             count,
         }| {
            let (idle, interval) = (seconds(idle), seconds(interval));
            format!("after {idle}, then {count} times every {interval}")
        },
    );
    format!(
        "a packet within {}{pieces}, idle {}, unacknowledged {}, keepalive {keepalive}",
        seconds(limits.frame_deadline),
        seconds(limits.idle),
        seconds(limits.user_timeout)
    )
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// The release and the name, as far as they are known.
fn peer(settings: &PeerSettings) -> String {
    let name = settings.name.as_ref();
    let name = name.map_or_else(String::new, |name| format!(", {name}"));
    release(settings).to_owned() + &name
}

/// A release, or those that it may be.
fn release(settings: &PeerSettings) -> &'static str {
    match (settings.release, settings.generation) {
        (Some(release), _) => release.as_str(),
        (None, Generation::Transitional) => "2.2",
        (None, _) => "2.3+",
    }
}

fn domain(side: &str, domain: &TlsDomain) -> String {
    let TlsDomain {
        name,
        addresses,
        certificate,
        private_key,
        ca_list,
        ca_dir,
        crl_dir,
        crl_check_all,
        verify,
        require,
        lowest,
        highest,
        pins,
    } = domain;
    let mut parts = vec![format!("{side} {name}: {}", versions(*lowest, *highest))];
    if certificate.as_os_str().is_empty() {
        parts.push("no certificate".to_owned());
    } else {
        parts.push(format!("certificate {}", certificate.display()));
        parts.push(format!("key {}", private_key.display()));
    }
    if !addresses.is_empty() {
        parts.push(format!("for {}", self::addresses(domain).join(" ")));
    }
    let trusted = ca_list.iter().chain(ca_dir);
    parts.extend(trusted.map(|path| format!("trusts {}", path.display())));
    parts.extend(crl_dir.iter().map(|path| {
        let whom = if *crl_check_all {
            " for the whole chain"
        } else {
            ""
        };
        format!("revoked in {}{whom}", path.display())
    }));
    let trust = match (verify, side, require) {
        (false, ..) => "nobody is verified",
        (true, "client", _) => "the other side is verified",
        (true, _, true) => "a certificate is required",
        (true, _, false) => "a certificate is verified if there is one",
    };
    parts.push(trust.to_owned());
    match pins.len() {
        0 => {}
        1 => parts.push("1 pin".to_owned()),
        pins => parts.push(format!("{pins} pins")),
    }
    parts.join(", ")
}

fn versions(lowest: TlsVersion, highest: TlsVersion) -> String {
    if lowest == highest {
        lowest.to_string()
    } else {
        format!("{lowest} to {highest}")
    }
}

/// As `match_ip_address` has them.
fn addresses(domain: &TlsDomain) -> Vec<String> {
    let addresses = domain.addresses.iter();
    addresses
        .map(|address| std::net::SocketAddr::from(*address).to_string())
        .collect()
}

/// The same for tools: times in milliseconds, memory in bytes.
pub(super) fn json(engine: &EngineConfig) -> Value {
    let streams = &engine.streams;
    let limits = &streams.limits;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let keepalive = limits.keepalive.map(|keepalive| {
        json!({
            "idle_ms": ms(keepalive.idle),
            "interval_ms": ms(keepalive.interval),
            "count": keepalive.count,
        })
    });
    let peers = streams.peers.rows().iter().map(|(addr, settings)| {
        json!({
            "addr": addr.to_string(),
            "generation": release(settings),
            "name": settings.name,
        })
    });
    let tls = streams.tls.as_ref().map(|tls| {
        let domains = |domains: &[TlsDomain]| domains.iter().map(domain_json).collect::<Vec<_>>();
        json!({ "server": domains(&tls.server), "client": domains(&tls.client) })
    });
    json!({
        "backend": streams.backend.symbol(),
        "connections": limits.connections,
        "connections_per_source": limits.per_source,
        "backlog": limits.backlog,
        "frame_deadline_ms": ms(limits.frame_deadline),
        "pieces": limits.pieces,
        "idle_ms": ms(limits.idle),
        "user_timeout_ms": ms(limits.user_timeout),
        "keepalive": keepalive,
        "connection_memory": limits.memory_per_connection,
        "memory": limits.memory,
        "handshake_ms": ms(limits.handshake),
        "handshakes": limits.handshakes,
        "peers": peers.collect::<Vec<_>>(),
        "tls": tls,
    })
}

fn domain_json(domain: &TlsDomain) -> Value {
    let pins = domain.pins.iter().map(|pin| {
        let digits = pin.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    });
    json!({
        "name": domain.name,
        "addresses": addresses(domain),
        "certificate": domain.certificate,
        "private_key": domain.private_key,
        "ca_list": domain.ca_list,
        "ca_dir": domain.ca_dir,
        "crl_dir": domain.crl_dir,
        "crl_check_all": domain.crl_check_all,
        "verify": domain.verify,
        "require": domain.require,
        "versions": [domain.lowest.to_string(), domain.highest.to_string()],
        "pins": pins.collect::<Vec<_>>(),
    })
}
