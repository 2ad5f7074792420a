//! What is about clusters: which there are, and who may become a node.

use std::mem;

use binrush_wire::Release;

use super::{Assembly, Gathered};
use crate::access::{Access, Cidr};
use crate::cluster::config::ClusterConfig;
use crate::config::clusters::{Around, Settled};
use crate::config::error::Topic;
use crate::config::listener::Listener;
use crate::config::modules::Part;
use crate::config::source::Excerpt;
use crate::tls::TlsFiles;

impl Assembly {
    /// `modparam("binrush", "cluster_learn", ...)`.
    pub(super) fn learn(&mut self, range: Cidr, excerpt: Excerpt) {
        if self.learned.len() == LEARNED_MAX {
            let message = format!(
                "cluster_learn: {range} is one range too many: at most {LEARNED_MAX} expected; join some into larger ones"
            );
            return self.refuse_at(&excerpt, message);
        }
        self.learned.push((range, excerpt));
    }

    /// The clusters of `clusterer`, and what other modules replicate in them.
    pub(super) fn settle_clusters(
        &mut self,
        listeners: &[Listener],
        tls: &TlsFiles,
    ) -> Vec<ClusterConfig> {
        let clusters = mem::take(&mut self.clusters);
        let learn: Vec<Cidr> = self.learned.iter().map(|(range, _)| *range).collect();
        let around = Around {
            parameters: &self.parameters,
            listeners,
            senders: &self.senders,
            client_domains: &tls.client,
            loaded: self.loaded.get(&Part::Clusterer),
            release: self.own.cluster_release.unwrap_or(Release::V3_6),
            learn: &learn,
            hold_bytes: self.own.hold_bytes,
        };
        let Settled {
            clusters,
            problems,
            warnings,
        } = clusters.settle(around);
        self.problems.extend(problems);
        for (topic, place, message) in warnings {
            self.warn_of(topic, Some(place), message);
        }
        if clusters.is_empty() && self.problems.is_empty() {
            self.tell_what_clusters_have();
        }
        clusters
    }

    /// Without a cluster, what is said about clusters has no effect, and nobody is learned; who reads connections, and who
    /// may ask at the control socket, is as it was said.
    fn tell_what_clusters_have(&mut self) {
        let mut idle = Gathered::default();
        for name in OF_CLUSTERS {
            if let Some(place) = self.own_places.get(name) {
                idle.add(name, || place.clone());
            }
        }
        for (_, excerpt) in mem::take(&mut self.learned) {
            idle.add("cluster_learn", || excerpt.place);
        }
        let message = "these parameters have no effect here, because this node is in no cluster";
        if let Some((place, message)) = idle.warning(message) {
            self.warn_of(Topic::Other, Some(place), message);
        }
        // They are the engine's, and what they are for may be wanted of other senders too.
        if self.own.readers.is_some_and(|readers| readers > 0) {
            let place = self.own_places.get("readers").cloned();
            let message = "readers: this node is in no cluster; its connections are read by threads of their own all the same, \
                           so that what comes on them is handed to another thread";
            self.warn_of(Topic::Other, place, message.to_owned());
        }
    }

    /// Whoever may become a node has to be heard: by itself, or else `allow` has to do it.
    pub(super) fn settle_learned(&mut self, access: &mut Access, is_default: bool) {
        for (range, excerpt) in mem::take(&mut self.learned) {
            let meets =
                |known: &Cidr| known.contains(range.network()) || range.contains(known.network());
            if is_default {
                if let Err(full) = access.allow(range) {
                    self.refuse_at(&excerpt, format!("cluster_learn: {full}"));
                }
            } else if !access.is_any() && !access.cidrs().iter().any(meets) {
                let message = format!(
                    "nodes of {range} may introduce themselves here, but `allow` does not let them in: their packets are \
                     dropped"
                );
                self.warn_of(Topic::Access, Some(excerpt.place), message);
            }
        }
    }
}

/// Whether this parameter of `clusterer` is about what is never done here: a database, transit for other nodes, jobs.
pub(super) fn has_no_effect(name: &str) -> bool {
    name.ends_with("_col") || NO_EFFECT.contains(&name)
}

/// Parameters of `clusterer` about a database, or about processes that are others here.
const NO_EFFECT: [&str; 6] = [
    "db_table",
    "db_bridges_table",
    "persistent_state",
    "dispatch_jobs",
    "enable_stats",
    "enable_rerouting",
];

/// Settings of our own about clusters, but for `cluster_learn`.
const OF_CLUSTERS: [&str; 2] = ["cluster_release", "hold_bytes"];

/// Ranges that nodes may come from.
const LEARNED_MAX: usize = 64;
