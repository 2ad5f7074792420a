//! What others may see of one of our nodes, in one life of it: read off the wire, and never from the inside alone.

use std::collections::{BTreeMap, BTreeSet};

use super::speech::{Said, Word};
use crate::cluster::facts::{ClusterFacts, CopyState};
use crate::cluster::roster::RosterCluster;

#[derive(Debug, Default)]
pub(super) struct Watch {
    links: Counter,
    topology: Counter,
    caps: Counter,
    /// Capabilities that were offered when this was looked at before: what a call sends before it changes its mind is judged
    /// by that.
    offered: BTreeSet<String>,
    /// Syncs that it gave when it was looked at before, by node and capability. One that began while the copy was offered may
    /// go on to its end.
    given: BTreeSet<(i32, String)>,
    /// Nodes that were told that a capability is synced here, by name: what was said last.
    pub(super) told: BTreeMap<(i32, String), bool>,
}

/// The stamps of one kind of update.
#[derive(Debug, Default)]
struct Counter {
    first: Option<(i32, i32)>,
    /// The last one that was not the first of a node.
    last: Option<(i32, i32)>,
    /// What each node got last.
    by_node: BTreeMap<i32, i32>,
}

impl Watch {
    /// A packet went to `to`; what breaks a rule is an error.
    pub(super) fn sent(
        &mut self,
        to: i32,
        said: &Said,
        facts: &ClusterFacts,
    ) -> Result<(), String> {
        let me = facts.me;
        if let Some(path) = said.word.path() {
            look_at_path(me, to, said.source, path)?;
        }
        if said.source != me {
            return Ok(());
        }
        match &said.word {
            Word::Link { stamp, .. } => self.links.count("LS_UPDATE", to, *stamp),
            Word::Topology { stamp, nodes, .. } => {
                let first = nodes.first().map(|node| node.id);
                if first != Some(me) || nodes.iter().any(|node| node.id == to) {
                    return Err(format!("FULL_TOP_UPDATE to {to} lists {nodes:?}"));
                }
                self.topology.count("FULL_TOP_UPDATE", to, *stamp)
            }
            Word::Caps { stamp, nodes, .. } => {
                if let Some(stamp) = stamp {
                    self.caps.count("CAP_UPDATE", to, *stamp)?;
                }
                let own = nodes.iter().filter(|(id, _)| *id == me);
                own.flat_map(|(_, own)| own)
                    .try_for_each(|(name, is_synced)| {
                        self.told.insert((to, name.clone()), *is_synced);
                        if *is_synced {
                            return is_worth_it(
                                &self.offered,
                                "says that it is synced",
                                name,
                                facts,
                            );
                        }
                        Ok(())
                    })
            }
            Word::Sync { capability, .. } | Word::SyncEnd { capability, .. } => {
                if self.given.contains(&(to, capability.clone())) {
                    return Ok(());
                }
                is_worth_it(
                    &self.offered,
                    "begins to give its records",
                    capability,
                    facts,
                )
            }
            _ => Ok(()),
        }
    }

    /// All that was sent before now was judged.
    pub(super) fn passed(&mut self, facts: &ClusterFacts) {
        let offered = facts.capabilities.iter().filter(|cap| cap.advertised);
        self.offered = offered.map(|cap| cap.name.clone()).collect();
        let given = facts.capabilities.iter().flat_map(|cap| {
            let to = cap.donations.iter().map(|(to, _)| *to);
            to.map(|to| (to, cap.name.clone()))
        });
        let given =
            given.filter(|given| self.given.contains(given) || self.offered.contains(&given.1));
        self.given = given.collect();
    }
}

impl Counter {
    /// The first one that a node gets is number 0 of our start, for it may know us from an earlier life; behind that, numbers
    /// and seconds go up for all. What could not be sent, or went to somebody who knows no stamps, leaves a gap.
    fn count(&mut self, kind: &str, to: i32, (seq, timestamp): (i32, i32)) -> Result<(), String> {
        let before = self.by_node.insert(to, seq);
        let first = *self.first.get_or_insert((seq, timestamp));
        let last = self.last.unwrap_or(first);
        let fits = match before {
            None => (seq, timestamp) == first && seq == 0,
            Some(before) => seq > before && seq >= last.0 && timestamp >= last.1,
        };
        if !fits {
            return Err(format!(
                "{kind} {seq} at {timestamp} to {to} follows {before:?} there and {last:?} elsewhere"
            ));
        }
        if before.is_some() {
            self.last = Some((seq, timestamp));
        }
        Ok(())
    }
}

fn look_at_path(me: i32, to: i32, source: i32, path: &[i32]) -> Result<(), String> {
    let ends_here = path.last() == Some(&me);
    let begins_there = path.first() == Some(&source);
    let once = path.iter().filter(|id| **id == me).count() == 1;
    if !ends_here || !begins_there || !once || path.contains(&to) || path.len() > 26 {
        return Err(format!(
            "{path:?} to {to} is no path of a message of {source}"
        ));
    }
    Ok(())
}

fn is_worth_it(
    before: &BTreeSet<String>,
    does: &str,
    name: &str,
    facts: &ClusterFacts,
) -> Result<(), String> {
    let ours = facts.capabilities.iter().find(|cap| cap.name == name);
    if before.contains(name)
        || ours.is_some_and(|cap| cap.advertised && cap.state == CopyState::Verified)
    {
        return Ok(());
    }
    Err(format!("{} {does} of {name}, which is {ours:?}", facts.me))
}

/// What is shown to doors and gates.
pub(super) fn look_at_roster(roster: &RosterCluster) -> Result<(), String> {
    let nodes = &roster.nodes;
    for (at, node) in nodes.iter().enumerate() {
        let twice = |other: &crate::cluster::roster::RosterNode| {
            other.id == node.id || other.slot == node.slot
        };
        if node.id == roster.me || nodes[..at].iter().any(twice) {
            return Err(format!("the roster has {node:?} among {nodes:?}"));
        }
    }
    let sessions = &roster.sessions;
    for (at, session) in sessions.iter().enumerate() {
        let same = |other: &&std::sync::Arc<crate::cluster::session::Session>| {
            other.capability == session.capability
        };
        if sessions[..at].iter().any(|other| same(&other)) {
            return Err(format!("two syncs of {} at once", session.capability));
        }
    }
    Ok(())
}
