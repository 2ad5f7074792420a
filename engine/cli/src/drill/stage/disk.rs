//! What is on the disk when the engine is dead, and disks that fail.

use std::fs;

use super::Stage;
use crate::drill::catalog::Who;
use crate::drill::node::Node;
use crate::drill::watch::pulse;
use crate::state::{self, Difference, Dump, Outcome, Rules};
use crate::text::counted;

impl Stage<'_> {
    pub(super) fn start_broken(&mut self, who: Who) -> anyhow::Result<()> {
        let log = self.site.path("strace.log").display().to_string();
        let inject = format!("inject=fdatasync:error=EIO:when={BROKEN_SYNC}");
        self.say(format!(
            "fdatasync number {BROKEN_SYNC} of each thread of the {} fails",
            who.name()
        ));
        // As a grandchild, so that the process which is started is the node.
        self.start(
            who,
            &[
                "strace",
                "-D",
                "-f",
                "-qq",
                "-o",
                &log,
                "-e",
                "trace=fdatasync",
                "-e",
                &inject,
            ],
        )
    }

    pub(super) fn kill_and_read(&mut self) -> anyhow::Result<()> {
        let control = self.node(Who::Engine)?.control().to_owned();
        let mut seen = None;
        // In the middle of a sync a pulse says nothing of the records around it.
        let is_whole = |stage: &Self| stage.node(Who::Engine).is_ok_and(Node::is_verified);
        self.wait("the engine to show a pulse", |stage| {
            seen = is_whole(stage).then(|| pulse(&control)).flatten();
            seen.is_some() && is_whole(stage)
        })?;
        let seen = seen.unwrap_or_default();
        let changes = self.callers.changes_until(seen);
        self.kill(Who::Engine)?;
        let model = self.callers.model();
        let left = self.left()?;
        let records = left.records.len() as u64;
        let outcome = Outcome::of(model.dump(), left, &Rules::default());
        // Newer than what was seen: it may have been on its way.
        let is_older = |difference: &&Difference| {
            let (Difference::OnlyIn(_, record) | Difference::Fields(record, _)) = difference;
            model
                .last_change(record)
                .is_none_or(|change| change <= changes)
        };
        let wrong = outcome.differences.iter().filter(is_older).count();
        let on_the_way = outcome.differences.len() - wrong;
        self.rule(
            "what was seen in the engine before it was killed is on the disk",
            wrong == 0,
            format!(
                "{} on the disk; of the {changes} changes up to the one seen last {wrong} are missing, {on_the_way} later ones were on their way",
                counted(records, "record")
            ),
        );
        self.on_disk = Some(records);
        Ok(())
    }

    pub(super) fn stop_and_read(&mut self) -> anyhow::Result<()> {
        self.stop_node(Who::Engine)?;
        if let Ok(log) = fs::read_to_string(self.site.path("strace.log")) {
            let failed = log
                .lines()
                .filter(|line| line.contains("(INJECTED)"))
                .count();
            self.rule(
                "fdatasync failed",
                failed > 0,
                format!("{} of the engine", counted(failed as u64, "call")),
            );
        }
        let left = self.left()?;
        self.on_disk = Some(left.records.len() as u64);
        let outcome = Outcome::of(self.callers.model().dump(), left, &Rules::default());
        self.rule(
            "all records are on the disk",
            outcome.equal(),
            format!("{} missing or different", outcome.differences.len()),
        );
        Ok(())
    }

    /// It says so in the middle of its trouble: what was told before that may have been taken before that.
    pub(super) fn serves(&mut self) -> anyhow::Result<()> {
        let control = self.node(Who::Engine)?.control().to_owned();
        let mut first = None;
        self.wait("the engine to take what it is told", |_| {
            let Some(now) = pulse(&control) else {
                return false;
            };
            // The second after the first one was told after the first look.
            now > *first.get_or_insert(now) + 1
        })?;
        self.rule(
            "it serves while its disk is in trouble",
            true,
            format!("{:.1} s into the drill", self.begin.elapsed().as_secs_f64()),
        );
        Ok(())
    }

    /// What the engine's state directory has.
    pub(super) fn left(&self) -> anyhow::Result<Dump> {
        let folder = self.site.seen(&self.site.state_dir(Who::Engine));
        state::of_folder(&folder, Some(&self.site.path("run")))
    }

    pub(super) fn alarm(&mut self, is_expected: bool) -> anyhow::Result<()> {
        let what = match is_expected {
            true => "the engine to say that its journal is in trouble",
            false => "the engine's journal to be well again",
        };
        self.wait(what, |stage| {
            let tables = stage.node(Who::Engine).ok().and_then(Node::tables);
            let journals = tables.iter().flatten().flat_map(|table| &table.journal);
            let mut journals = journals.peekable();
            journals.peek().is_some()
                && journals.any(|journal| journal.alarm.is_some() || journal.lagging) == is_expected
        })?;
        self.rule(
            match is_expected {
                true => "trouble with the disk is told",
                false => "it is well by itself when there is room",
            },
            true,
            format!("{:.1} s into the drill", self.begin.elapsed().as_secs_f64()),
        );
        Ok(())
    }
}

/// After the ones of the start.
const BROKEN_SYNC: u32 = 3;
