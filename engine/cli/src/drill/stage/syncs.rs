//! Syncs: waited for, and hit in the middle.

use anyhow::{Context as _, bail};

use super::Stage;
use crate::control::facts::Capability;
use crate::drill::catalog::Who;
use crate::drill::node::{Node, millis};
use crate::drill::traffic::{DIALOGS, USRLOC};

impl Stage<'_> {
    pub(super) fn verified(&mut self, who: Who) -> anyhow::Result<()> {
        self.until_verified(who, [0, 0])
    }

    pub(super) fn resynced(&mut self, who: Who) -> anyhow::Result<()> {
        let before = self.completed.get(&who).copied().unwrap_or_default();
        self.until_verified(who, before.map(|completed| completed + 1))
    }

    /// Waits until a node is heard by the callers and has all, by at least so many syncs of each capability.
    pub(super) fn until_verified(&mut self, who: Who, syncs: [u64; 2]) -> anyhow::Result<()> {
        let name = who.name();
        let begun = self.node(who)?.started;
        let mut first = None;
        self.wait(&format!("the {name} to have all"), |stage| {
            let Ok(node) = stage.node(who) else {
                return false;
            };
            let of = capabilities(node);
            let has_some = of.iter().flatten().any(|known| {
                known.completed > 0 || known.sync.as_ref().is_some_and(|sync| sync.packets > 0)
            });
            if has_some && first.is_none() {
                first = Some(millis(begun.elapsed()));
            }
            let is_done = of.iter().zip(syncs).all(|(known, syncs)| {
                known
                    .as_ref()
                    .is_some_and(|known| known.state == "verified" && known.completed >= syncs)
            });
            is_done && stage.callers.hears(who)
        })?;
        self.watch.set_apart(who, false);
        let after = millis(begun.elapsed());
        let of_node = self.node_score(who);
        if of_node.verified_ms.is_none() {
            (of_node.first_sync_ms, of_node.verified_ms) = (first, Some(after));
        }
        self.say(format!("{name} has all"));
        Ok(())
    }

    pub(super) fn kill_donor(&mut self, to: Who) -> anyhow::Result<()> {
        let (donor, records) = self.start_into_sync(to)?;
        let (donor_name, name) = (donor.name(), to.name());
        self.say(format!(
            "{donor_name} is killed while it gives the {name} a sync, after {records} records"
        ));
        self.kill(donor)
    }

    pub(super) fn in_sync(&mut self, who: Who, what: &str) -> anyhow::Result<()> {
        let (donor, records) = self.start_into_sync(who)?;
        let (name, donor) = (who.name(), donor.name());
        self.say(format!(
            "{name} is {what} in its sync from the {donor}, after {records} records"
        ));
        Ok(())
    }

    /// Starts `who`, and comes back when the first packet of a sync is there and its last one is not: who gives it, and how many
    /// records came.
    pub(super) fn start_into_sync(&mut self, who: Who) -> anyhow::Result<(Who, u64)> {
        for attempt in 1..=ATTEMPTS {
            self.start(who, &[])?;
            let mut caught = None;
            self.wait("a sync to be under way", |stage| {
                let known = stage.nodes.get(&who).map(capabilities).unwrap_or_default();
                let syncs = known
                    .iter()
                    .flatten()
                    .filter_map(|known| known.sync.as_ref());
                // In the last attempt one that has been asked for is good enough.
                let mut syncs = syncs.filter(|sync| sync.packets > 0 || attempt == ATTEMPTS);
                caught = syncs.next().map(|sync| (sync.donor, sync.applied));
                caught.is_some() || known.iter().flatten().any(|known| known.completed > 0)
            })?;
            if let Some((donor, records)) = caught {
                return Ok((
                    Who::of_id(donor).context("nobody gives this sync")?,
                    records,
                ));
            }
            self.kill(who)?;
        }
        bail!(
            "no sync of the {} could be hit in {ATTEMPTS} attempts",
            who.name()
        )
    }

    pub(super) fn given(&mut self, by: Who, to: Who) -> anyhow::Result<()> {
        let known = self.node(to).map(capabilities)?;
        let donors: Vec<_> = known
            .iter()
            .flatten()
            .filter_map(|known| known.last_sync.as_ref())
            .filter_map(|sync| Who::of_id(sync.donor))
            .collect();
        let names: Vec<_> = donors.iter().map(|who| who.name()).collect();
        self.rule(
            &format!("the {} got everything from the {}", to.name(), by.name()),
            donors == [by, by],
            format!("dialogs and contacts from: {}", names.join(", ")),
        );
        Ok(())
    }

    pub(super) fn down(&mut self, at: Who, of: Who) -> anyhow::Result<()> {
        let what = format!("the {} to miss the {}", at.name(), of.name());
        self.wait(&what, |stage| {
            let cluster = stage.node(at).ok().and_then(Node::cluster);
            let mut nodes = cluster.into_iter().flat_map(|cluster| cluster.nodes);
            nodes.any(|node| node.id == of.id() && node.link == "down")
        })?;
        self.say(format!("{} sees the {} down", at.name(), of.name()));
        Ok(())
    }

    /// Who gave a node its last sync, and how many it had.
    pub(super) fn syncs(&self, who: Who) -> String {
        let known = self.nodes.get(&who).map(capabilities).unwrap_or_default();
        let syncs = known.iter().flatten().map(|known| {
            let donor = known
                .last_sync
                .as_ref()
                .and_then(|sync| Who::of_id(sync.donor));
            let donor = donor.map_or("nobody", Who::name);
            let (name, completed) = (&known.name, known.completed);
            format!(
                "{name} {completed}, the last by {donor}, {} given up",
                known.abandoned
            )
        });
        syncs.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn note_completed(&mut self, who: Who) {
        if let Some(node) = self.nodes.get(&who) {
            let known = capabilities(node).map(|known| known.map_or(0, |known| known.completed));
            self.completed.insert(who, known);
        }
    }
}

/// What a node knows of its copies of dialogs and of contacts.
pub(super) fn capabilities(node: &Node) -> [Option<Capability>; 2] {
    let mut known = node
        .cluster()
        .map(|cluster| cluster.capabilities)
        .unwrap_or_default();
    [DIALOGS, USRLOC].map(|name| {
        let at = known.iter().position(|known| known.name == name)?;
        Some(known.swap_remove(at))
    })
}

/// Of a sync that is to be hit.
const ATTEMPTS: u32 = 8;
