//! What a configuration says about clusters.

use std::time::Duration;

use binrush_engine::cluster::config::{ClusterConfig, NodeConfig, Timers};
use binrush_engine::config::Config;
use serde_json::{Value, json};

/// One line for each thing, beginning with the id of its cluster; none without a cluster.
pub(super) fn lines(config: &Config) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for cluster in &config.clusters {
        let mut line = |text: String| lines.push(("cluster", format!("{}: {text}", cluster.id)));
        line(format!("this is {}", node(&cluster.me)));
        for neighbour in &cluster.neighbours {
            line(format!(
                "{}, {}",
                node(neighbour),
                release(cluster, neighbour)
            ));
        }
        if !cluster.learn.is_empty() {
            let ranges: Vec<_> = cluster.learn.iter().map(ToString::to_string).collect();
            let ranges = ranges.join(", ");
            line(format!(
                "learns nodes of {ranges}, {} until they show another",
                cluster.release
            ));
        }
        line(format!("keeps {}", capabilities(cluster)));
        if !cluster.tags.is_empty() {
            line(format!(
                "sharing tags {}, none taken by itself",
                cluster.tags.join(", ")
            ));
        }
        line(timers(&cluster.timers));
        line(format!(
            "a sync holds {} bytes of each shard back, gives packets of {} bytes",
            cluster.sync.hold_bytes, cluster.sync.packet_len
        ));
    }
    if !config.clusters.is_empty() {
        lines.push(("never", NEVER.to_owned()));
    }
    if let Some(path) = &config.control {
        lines.push(("control", path.display().to_string()));
    }
    lines
}

fn node(node: &NodeConfig) -> String {
    let NodeConfig {
        id,
        url_text,
        sip_addr,
        priority,
        retries,
        is_seed,
        ..
    } = node;
    let sip = match &sip_addr[..] {
        "" => String::new(),
        sip_addr => format!(", SIP {sip_addr}"),
    };
    let seed = if *is_seed { ", seed" } else { "" };
    format!("node {id} at {url_text}{sip}, priority {priority}, {retries} PINGs more{seed}")
}

/// What a node speaks, and who says so.
fn release(cluster: &ClusterConfig, node: &NodeConfig) -> String {
    match node.release {
        Some(release) => release.to_string(),
        None => format!("{} until it shows another", cluster.release),
    }
}

fn capabilities(cluster: &ClusterConfig) -> String {
    let names = cluster.capabilities.iter().map(|capability| {
        let how = match capability.sync {
            true => "synced",
            false => "what comes",
        };
        format!("{} ({how})", capability.name)
    });
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "nothing: no module replicates in it".to_owned(),
        _ => names.join(", "),
    }
}

fn timers(timers: &Timers) -> String {
    let Timers {
        ping_interval,
        ping_timeout,
        node_timeout,
        seed_fallback,
        sync_timeout,
    } = timers;
    let seconds = |time: &Duration| format!("{} s", time.as_secs_f64());
    format!(
        "a PING every {}, answered within {}, a node that is down tried every {}, a seed waits {}, a donor may be silent {}",
        seconds(ping_interval),
        seconds(ping_timeout),
        seconds(node_timeout),
        seconds(seed_fallback),
        seconds(sync_timeout)
    )
}

/// The same for tools: times in milliseconds, memory in bytes.
pub(super) fn json(config: &Config) -> Value {
    let clusters = config.clusters.iter().map(|cluster| {
        let nodes = cluster.neighbours.iter().map(node_json);
        let capabilities = cluster.capabilities.iter();
        let capabilities = capabilities.map(|each| json!({ "name": each.name, "sync": each.sync }));
        let learn = cluster.learn.iter().map(ToString::to_string);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let timers = &cluster.timers;
        json!({
            "id": cluster.id,
            "me": node_json(&cluster.me),
            "neighbours": nodes.collect::<Vec<_>>(),
            "release": cluster.release.as_str(),
            "learn": learn.collect::<Vec<_>>(),
            "capabilities": capabilities.collect::<Vec<_>>(),
            "tags": cluster.tags,
            "ping_interval_ms": ms(timers.ping_interval),
            "ping_timeout_ms": ms(timers.ping_timeout),
            "node_timeout_ms": ms(timers.node_timeout),
            "seed_fallback_ms": ms(timers.seed_fallback),
            "sync_timeout_ms": ms(timers.sync_timeout),
            "hold_bytes": cluster.sync.hold_bytes,
            "sync_packet_size": cluster.sync.packet_len,
        })
    });
    clusters.collect()
}

fn node_json(node: &NodeConfig) -> Value {
    json!({
        "id": node.id,
        "url": node.url_text,
        "endpoint": node.url.to_string(),
        "sip_addr": node.sip_addr,
        "priority": node.priority,
        "no_ping_retries": node.retries,
        "seed": node.is_seed,
        "release": node.release.map(|release| release.as_str()),
    })
}

/// What a node of OpenSIPS would do, and whoever relies on it has to know.
const NEVER: &str = "packets for another node are not forwarded, MI commands and removals of nodes that come by BIN are not executed";
