//! What outlives the genuine nodes: all of them die, standbys of ours keep the records, and new processes get them back.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::Weather;
use super::{Node, Play};
use crate::cluster::facts::CopyState;

/// Names of records, by capability.
pub(super) type Heritage = BTreeMap<String, BTreeSet<String>>;

impl Play<'_> {
    /// When the first genuine node comes back: what it has to get back, which is what every verified standby has. One that is
    /// in one of them alone came with the last breath of its origin, and whom a node asks is its own choice.
    pub(super) fn look_at_heritage(&mut self, host: usize) {
        let is_first_return = self.plan.weather == Weather::Takeover
            && self.heritage.is_none()
            && self.hosts[host].life > 0
            && !self.plan.nodes[host].is_ours;
        if !is_first_return {
            return;
        }
        let mut heritage = Heritage::new();
        for name in &self.plan.capabilities {
            let copies = self.hosts.iter().filter_map(|host| match &host.node {
                Node::Ours(node) => {
                    let facts = node.facts(self.now).capabilities;
                    let own = facts.into_iter().find(|cap| cap.name == *name)?;
                    let is_good = own.state == CopyState::Verified && own.advertised;
                    is_good.then(|| node.records(name).into_keys().collect::<BTreeSet<_>>())
                }
                _ => None,
            });
            let common = copies.reduce(|one, other| &one & &other);
            heritage.insert(name.clone(), common.unwrap_or_default());
        }
        let count: usize = heritage.values().map(BTreeSet::len).sum();
        self.note(|| format!("{count} records outlived the genuine nodes"));
        self.count_by("records that outlive the genuine nodes", count as u64);
        self.heritage = Some(heritage);
    }

    /// Nobody takes nothing for everything.
    pub(super) fn judge_emptiness(
        &self,
        id: i32,
        donor: i32,
        capability: &str,
        had: usize,
    ) -> Result<(), String> {
        let heritage = self.heritage.iter();
        let mut heritage = heritage.filter_map(|all| all.get(capability));
        if had == 0 && heritage.any(|names| !names.is_empty()) {
            return Err(format!(
                "{id} has synced {capability} from {donor}, which is empty"
            ));
        }
        Ok(())
    }

    /// In the end everybody has what outlived, but for what its origins ended since.
    pub(super) fn judge_heritage(&mut self) -> Result<(), String> {
        if self.plan.weather != Weather::Takeover {
            return Ok(());
        }
        let Some(heritage) = self.heritage.take() else {
            return Err("no genuine node came back".to_owned());
        };
        for (name, names) in &heritage {
            let truth = self.truth.get(name);
            let lives = |record: &&String| {
                let one = truth.and_then(|all| all.get(*record));
                one.is_some_and(|one| one.is_live)
            };
            for (at, plan) in self.plan.nodes.iter().enumerate() {
                let have = match &self.hosts[at].node {
                    Node::Ours(node) => node.records(name),
                    Node::Genuine(node) => node
                        .own(name)
                        .map(|own| own.records.clone())
                        .unwrap_or_default(),
                    Node::Off => continue,
                };
                let living = names.iter().filter(lives);
                let lost: Vec<_> = living
                    .filter(|record| !have.contains_key(*record))
                    .collect();
                if !lost.is_empty() {
                    return Err(format!(
                        "{} of {} records of {name} that outlived the genuine nodes are lost at {}: {lost:?}",
                        lost.len(),
                        names.len(),
                        plan.id
                    ));
                }
            }
        }
        self.count("taken over, and given back");
        Ok(())
    }
}
