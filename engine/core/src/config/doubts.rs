//! Settings that work, and together do what may not be meant.

use super::error::Topic;
use super::limits::MEMORY_IN_CLUSTER;
use crate::engine::{EngineConfig, Gro, Pin, StreamConfig};
use crate::stream::StreamLimits;

/// Something that an engine does as it was told, and that may not be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// What it is about.
    pub topic: Topic,
    /// The setting of `modparam("binrush", ...)` that it is about.
    pub parameter: &'static str,
    /// What happens, and what to do.
    pub message: String,
}

/// What the author of `config`, be it a file or a command line, may not expect.
///
/// Cores and shards are compared when both are given: how many shards one for each core makes depends on the machine.
#[must_use]
pub fn doubts(config: &EngineConfig) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if config.gro == Gro::On && config.shards != Some(1) {
        doubts.push(Doubt {
            topic: Topic::Shards,
            parameter: "gro",
            message: "gro \"on\" with more than one shard can cost the order of a record's events: \"auto\" merges where \
                      it cannot, with one shard"
                .to_owned(),
        });
    }
    if let (Pin::Cores(cores), Some(shards)) = (&config.pin, config.shards)
        && cores.len() < usize::from(shards)
    {
        doubts.push(Doubt {
            topic: Topic::Pin,
            parameter: "pin",
            message: format!(
                "pin has fewer cores ({}) than there are shards ({shards}): some share a core; name more, or take \
                 fewer shards",
                cores.len()
            ),
        });
    }
    let StreamConfig {
        listen,
        listen_tls,
        limits,
        ..
    } = &config.streams;
    let accepts = !listen.is_empty() || !listen_tls.is_empty();
    if accepts && limits.memory < limits.memory_per_connection {
        // The one of the two that was set.
        let (_, in_cluster) = MEMORY_IN_CLUSTER;
        let is_set = ![StreamLimits::default().memory, in_cluster].contains(&limits.memory);
        doubts.push(Doubt {
            topic: Topic::Other,
            parameter: if is_set { "stream_memory" } else { "connection_memory" },
            message: format!(
                "stream_memory ({} bytes for all connections of a shard) is below connection_memory ({} bytes for one): a \
                 slow shard's connection is closed before its reading pauses; let stream_memory be several times larger",
                limits.memory, limits.memory_per_connection
            ),
        });
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubted(shards: Option<u16>, gro: Gro, pin: &str) -> Vec<&'static str> {
        let config = EngineConfig {
            shards,
            gro,
            pin: pin.parse().unwrap(),
            ..EngineConfig::new(([127, 0, 0, 1], 0).into())
        };
        let doubts = doubts(&config);
        doubts.iter().map(|doubt| doubt.parameter).collect()
    }

    #[test]
    fn merging_is_doubted_where_it_can_cost_the_order() {
        assert_eq!(doubted(Some(2), Gro::On, "auto"), ["gro"]);
        assert_eq!(doubted(None, Gro::On, "auto"), ["gro"]);
        assert!(doubted(Some(1), Gro::On, "auto").is_empty());
        assert!(doubted(Some(2), Gro::Auto, "auto").is_empty());
    }

    #[test]
    fn memory_for_all_connections_below_that_for_one_is_doubted() {
        let mut config = EngineConfig::new(([127, 0, 0, 1], 0).into());
        config.streams.listen = config.listen.clone();
        let limits = &mut config.streams.limits;
        limits.memory = limits.memory_per_connection;
        assert!(doubts(&config).is_empty());
        config.streams.limits.memory -= 1;
        assert_eq!(doubts(&config)[0].parameter, "stream_memory");
        // Where no connection is accepted, neither counts.
        config.streams.listen.clear();
        assert!(doubts(&config).is_empty());
        // What is blamed is what was set.
        config.streams.listen_tls = config.listen.clone();
        let limits = &mut config.streams.limits;
        limits.memory = StreamLimits::default().memory;
        limits.memory_per_connection = limits.memory + 1;
        assert_eq!(doubts(&config)[0].parameter, "connection_memory");
    }

    #[test]
    fn fewer_cores_than_shards_are_doubted() {
        assert_eq!(doubted(Some(3), Gro::Auto, "0,1"), ["pin"]);
        for pin in ["0,1,2", "0,1,2,3", "auto", "off"] {
            assert!(doubted(Some(3), Gro::Auto, pin).is_empty(), "{pin}");
        }
        assert!(doubted(None, Gro::Auto, "0").is_empty());
    }
}
