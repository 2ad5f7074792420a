//! The look at what is there in the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Stage, WAIT_MAX};
use crate::drill::catalog::Who;
use crate::drill::node::{Ledger, Node};
use crate::drill::score::LedgerScore;
use crate::state::{Outcome, Rules};
use crate::text::counted;

impl Stage<'_> {
    /// No change any more, and a look at everybody once all of it has arrived.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        self.callers.set_rate(0);
        let nodes: Vec<Who> = self.nodes.keys().copied().collect();
        for who in &nodes {
            ensure!(
                self.callers.flush(*who, WAIT_MAX),
                "the {} does not take what it is told",
                who.name()
            );
        }
        let end = Instant::now();
        self.wait("all copies to be verified", |stage| {
            stage.nodes.values().all(Node::is_verified)
        })?;
        let model = self.callers.model();
        self.score.records = model.len() as u64;
        self.score.changes = model.changes();
        for who in nodes {
            self.say(format!("syncs of the {}: {}", who.name(), self.syncs(who)));
            let mut outcome = Outcome::default();
            let looked = self.wait_for(QUIET_MAX, |stage| {
                let dump = stage.node(who).and_then(Node::dump);
                let Ok(dump) = dump else { return false };
                outcome = Outcome::of(model.dump(), dump, &Rules::default());
                outcome.equal()
            });
            looked?;
            let after = end.elapsed().as_secs_f64();
            let of_node = self.node_score(who);
            of_node.compare(&outcome);
            let detail = format!(
                "{} missing, {} different, {} too many of {}, {after:.1} s after the last change",
                of_node.missing,
                of_node.different,
                of_node.extra,
                counted(model.len() as u64, "record")
            );
            let is_equal = outcome.equal() && of_node.records == model.len() as u64;
            let rule = format!(
                "the {} has what has to be there, field by field",
                who.name()
            );
            self.rule(&rule, is_equal, detail);
        }
        let lost = self.callers.lost();
        self.rule(
            "the callers told everything",
            lost == 0,
            format!("{lost} packets found no room"),
        );
        Ok(())
    }

    /// Ends all nodes in order: what they received adds up.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        for who in Who::NODES {
            let oldest = self.watch.oldest(who);
            if oldest.looks > 0 {
                let of_node = self.node_score(who);
                of_node.stale_ms = Some(oldest.in_touch_ms);
                of_node.stale_apart_ms = Some(oldest.apart_ms);
            }
            if self.nodes.contains_key(&who) {
                self.stop_node(who)?;
            }
        }
        Ok(())
    }

    pub(super) fn stop_node(&mut self, who: Who) -> anyhow::Result<()> {
        self.watch.set_control(who, None);
        let node = self.nodes.remove(&who).context("it does not run")?;
        let Ledger {
            received,
            handled,
            is_balanced: balanced,
        } = node.stop()?;
        let ledger = LedgerScore {
            received,
            handled,
            balanced,
        };
        self.node_score(who).ledger = Some(ledger);
        // It hears of others, too: PINGs, syncs.
        if self.unhurt.remove(&who)
            && let Some(told) = self.callers.told(who)
        {
            self.rule(
                &format!("the {} received what it was told", who.name()),
                received >= told,
                format!("{told} packets told, {received} received"),
            );
        }
        self.rule(
            &format!("every packet of the {} is in one counter", who.name()),
            balanced,
            ledger.words(),
        );
        Ok(())
    }
}

/// From the moment when all copies are verified until they have to be equal: a record that the donor of a sync does not have and
/// that was spoken of in the ten seconds before is kept, and looked at again eleven seconds later.
const QUIET_MAX: Duration = Duration::from_secs(20);
