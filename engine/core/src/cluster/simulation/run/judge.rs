//! What is found when a sync is over, when links have had their time, and at the end.

use binrush_wire::Release;

use super::super::ours::Ours;
use super::super::plan::Weather;
use super::super::record::Records;
use super::{Node, Play};
use crate::cluster::facts::{ClusterFacts, CopyState};

impl Play<'_> {
    /// A copy of ours is verified: after a sync nothing is missing that the donor had when it was asked, and that still
    /// lives.
    pub(super) fn judge_verified(
        &mut self,
        host: usize,
        capability: &str,
        donor: Option<i32>,
    ) -> Result<(), String> {
        let Node::Ours(node) = &self.hosts[host].node else {
            return Ok(());
        };
        let (id, have) = (node.id, node.records(capability));
        self.note(|| {
            format!(
                "{id} is verified in {capability} with {} by {donor:?}",
                have.len()
            )
        });
        let Some(donor) = donor else {
            self.count("verified as a seed");
            return Ok(());
        };
        self.count("verified by a sync");
        self.judge_sync(id, donor, capability, &have)?;
        // Whoever asked us before, and is still to be given something, gets what this sync left here: its donor knew better.
        for ((donor, _, name), records) in &mut self.dumps {
            if *donor == id && name == capability {
                records.retain(|name, _| have.contains_key(name));
            }
        }
        Ok(())
    }

    /// A genuine node has all from us that we had.
    pub(super) fn judge_genuine_sync(
        &mut self,
        host: usize,
        donor: i32,
        capability: &str,
    ) -> Result<(), String> {
        let Node::Genuine(node) = &self.hosts[host].node else {
            return Ok(());
        };
        let id = node.id();
        let have = node.own(capability).map(|own| own.records.clone());
        let is_ours = |id: i32| {
            self.plan
                .nodes
                .iter()
                .any(|node| node.id == id && node.is_ours)
        };
        if !is_ours(donor) {
            return Ok(());
        }
        self.count("genuine node is synced by ours");
        self.judge_sync(id, donor, capability, &have.unwrap_or_default())
    }

    fn judge_sync(
        &mut self,
        id: i32,
        donor: i32,
        capability: &str,
        have: &Records,
    ) -> Result<(), String> {
        let Some(had) = self.dumps.get(&(donor, id, capability.to_owned())) else {
            return Err(format!("{id} has synced from {donor}, whom it never asked"));
        };
        let truth = self.truth.get(capability);
        let lives = |name: &String| {
            truth
                .and_then(|all| all.get(name))
                .is_some_and(|one| one.is_live)
        };
        let lost = had
            .keys()
            .filter(|name| lives(name) && !have.contains_key(*name));
        let lost: Vec<_> = lost.collect();
        if !lost.is_empty() {
            return Err(format!(
                "{id} has synced {capability} from {donor}, who had {}, and lost {lost:?}",
                had.len()
            ));
        }
        self.judge_emptiness(id, donor, capability, had.len())?;
        if had.len() > 7 {
            self.count("sync of several packets");
        }
        Ok(())
    }

    /// All who can see each other do.
    pub(super) fn judge_links(&mut self) -> Result<(), String> {
        self.count("converged");
        for (at, one) in self.plan.nodes.iter().enumerate() {
            let up = match &self.hosts[at].node {
                Node::Genuine(node) => {
                    let ids = self.plan.nodes.iter().map(|node| node.id);
                    ids.filter(|id| node.sees(*id)).collect()
                }
                Node::Ours(node) => node.up_nodes(),
                Node::Off => continue,
            };
            let others = self
                .plan
                .nodes
                .iter()
                .map(|node| node.id)
                .filter(|id| *id != one.id);
            let missing: Vec<_> = others.filter(|id| !up.contains(id)).collect();
            if !missing.is_empty() {
                let who = if one.is_ours { "ours" } else { "genuine" };
                return Err(format!("{} ({who}) does not see {missing:?}", one.id));
            }
        }
        Ok(())
    }

    /// Whether a copy that could be verified is not yet.
    pub(super) fn is_waited_for(&self) -> bool {
        let has_genuine = self.plan.nodes.iter().any(|node| !node.is_ours);
        has_genuine
            && self.hosts.iter().any(|host| match &host.node {
                Node::Ours(node) => {
                    let caps = node.facts(self.now).capabilities;
                    caps.iter().any(|cap| cap.state != CopyState::Verified)
                }
                _ => false,
            })
    }

    pub(super) fn judge_end(&mut self) -> Result<(), String> {
        for host in 0..self.plan.nodes.len() {
            let Node::Ours(node) = &mut self.hosts[host].node else {
                continue;
            };
            node.look_at_end()?;
            let facts = node.facts(self.now);
            node.look_at_what_was_told(&facts)?;
            self.judge_rumours(host, &facts)?;
            match self.plan.weather {
                Weather::Fair | Weather::OursSuffer => self.judge_copies(host, &facts)?,
                Weather::Storm | Weather::Takeover => self.weigh_copies(host, &facts),
            }
        }
        self.judge_heritage()
    }

    /// What others believe of us, and we of them. A genuine node takes what a third one heard some time ago for news, so it may
    /// be wrong about us for a while; ours go by what a node says itself.
    fn judge_rumours(&mut self, host: usize, facts: &ClusterFacts) -> Result<(), String> {
        // Up to 3.0 what is handed on loses its stamp: the last message to arrive wins, whatever way it came.
        let has_stamps = self
            .plan
            .nodes
            .iter()
            .all(|node| node.release >= Release::V3_1);
        for at in (0..self.plan.nodes.len()).filter(|at| *at != host) {
            let id = self.plan.nodes[at].id;
            for cap in &facts.capabilities {
                let (here, name) = (facts.believes(id, &cap.name), cap.name.as_str());
                let there = match &self.hosts[at].node {
                    Node::Genuine(node) => {
                        let is_wrong = node.believes(facts.me, name) != Some(cap.advertised);
                        let own = node.own(name).is_some_and(|own| own.is_ok);
                        self.count_by("genuine node believes a rumour", u64::from(is_wrong));
                        own
                    }
                    Node::Ours(node) => {
                        let theirs = node.facts(self.now);
                        let own = theirs.capabilities.iter().find(|own| own.name == name);
                        own.is_some_and(|own| own.advertised)
                    }
                    Node::Off => continue,
                };
                if has_stamps && here != Some(there) {
                    let me = facts.me;
                    return Err(format!(
                        "{me} believes {here:?} of {name} at {id}, who says {there}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Genuine nodes missed nothing, so whoever is verified has the truth; and who can be, is.
    fn judge_copies(&mut self, host: usize, facts: &ClusterFacts) -> Result<(), String> {
        let has_genuine = self.plan.nodes.iter().any(|node| !node.is_ours);
        for cap in &facts.capabilities {
            if cap.state != CopyState::Verified {
                if has_genuine {
                    return Err(format!("{} is not verified in the end: {cap:?}", facts.me));
                }
                self.count("nobody to sync from");
                continue;
            }
            let wrong = self.wrong_records(host, &cap.name);
            let (contested, wrong): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|(name, ..)| {
                let about = (host, cap.name.clone(), name.clone());
                self.contested.contains(&about)
            });
            let (older, missing): (Vec<_>, Vec<_>) =
                contested.iter().partition(|(_, have, _)| have.is_some());
            self.count_by(
                "contested in the end: older, or not gone",
                older.len() as u64,
            );
            self.count_by("contested in the end: missing", missing.len() as u64);
            if !wrong.is_empty() {
                let some: Vec<_> = wrong.iter().take(5).collect();
                return Err(format!(
                    "{} is verified in {} and {} records are wrong (have, should): {some:?}",
                    facts.me,
                    cap.name,
                    wrong.len()
                ));
            }
            self.count("copies equal to the truth");
        }
        Ok(())
    }

    /// In a storm nobody can promise that; how often it is so is worth knowing.
    fn weigh_copies(&mut self, host: usize, facts: &ClusterFacts) {
        for cap in &facts.capabilities {
            let is_right = self.wrong_records(host, &cap.name).is_empty();
            self.count(match (cap.state, is_right) {
                (CopyState::Verified, true) => "after a storm: verified, and the truth",
                (CopyState::Verified, false) => {
                    "after a storm: verified, as far as the donors knew"
                }
                _ => "after a storm: not verified",
            });
        }
    }

    /// Records that a copy of ours has otherwise than they are: what it has, what it should.
    fn wrong_records(
        &self,
        host: usize,
        capability: &str,
    ) -> Vec<(String, Option<u64>, Option<u64>)> {
        let Node::Ours(node) = &self.hosts[host].node else {
            return Vec::new();
        };
        let have = node.records(capability);
        let truth = self.truth.get(capability);
        let all = truth.into_iter().flatten().map(|(name, truth)| {
            let should = truth.newest();
            (name.clone(), have.get(name).copied(), should)
        });
        all.filter(|(_, have, should)| have != should).collect()
    }
}

impl Ours {
    /// Everybody who sees us was told what our copies are worth now.
    pub(super) fn look_at_what_was_told(&self, facts: &ClusterFacts) -> Result<(), String> {
        for cap in &facts.capabilities {
            for to in self.up_nodes() {
                let told = self.told(to, &cap.name);
                if told != Some(cap.advertised) {
                    let (me, name) = (self.id, &cap.name);
                    return Err(format!("{me} told {to} {told:?} of {name}: {cap:?}"));
                }
            }
        }
        Ok(())
    }
}

impl ClusterFacts {
    /// What is believed of a capability of `node`.
    fn believes(&self, node: i32, capability: &str) -> Option<bool> {
        let node = self.nodes.iter().find(|other| other.id == node)?;
        let mut all = node.capabilities.iter();
        all.find(|(name, _)| name == capability)
            .map(|(_, is_synced)| *is_synced)
    }
}
