//! What a seat is told at the start.

use std::time::Duration;

use binrush_engine::cluster::config::{
    CapabilityConfig, ClusterConfig, NodeConfig, SyncLimits, Timers,
};

use crate::cluster::record::Setting;

/// What the configuration file of node `me` says.
pub(super) fn config(setting: &Setting, me: i32) -> ClusterConfig {
    let node = |id: i32| NodeConfig {
        id,
        url: setting.url(id).parse().expect("an address"),
        url_text: setting.url(id),
        sip_addr: String::new(),
        // As script mode has it.
        priority: 3,
        retries: 3,
        is_seed: id == 1,
        release: None,
    };
    let known = setting.known[usize::try_from(me - 1).expect("from 1")];
    let [a, b, c] = setting.network;
    ClusterConfig {
        id: setting.cluster,
        me: node(me),
        neighbours: known.iter().map(|id| node(*id)).collect(),
        timers: Timers {
            ping_interval: Duration::from_secs(1),
            seed_fallback: Duration::from_secs(setting.seed_fallback),
            ..Timers::default()
        },
        release: setting.release,
        learn: vec![format!("{a}.{b}.{c}.0/24").parse().expect("a network")],
        capabilities: setting
            .capabilities
            .iter()
            .map(|(name, sync)| CapabilityConfig {
                name: (*name).to_owned(),
                sync: *sync,
            })
            .collect(),
        tags: setting.tags.iter().map(|tag| (*tag).to_owned()).collect(),
        sync: SyncLimits {
            // Genuine nodes answer as often as they are asked, and ask as often as they are told to.
            retry_min: Duration::ZERO,
            donate_min: Duration::ZERO,
            ..SyncLimits::default()
        },
    }
}
