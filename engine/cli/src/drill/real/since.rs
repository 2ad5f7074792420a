//! What has changed since the active node was killed, as far as the standby was seen to change it: a call ended, a phone registered anew.
//!
//! The standby is a witness only while it runs on and keeps what it had. One that lost everything agrees with a fresh node that has
//! nothing, and that is no change but the loss which a rehearsal is there to find.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::state::{Counts, Difference, Dump, Outcome, Rules, difference_json};

/// One run of an engine, by its control socket: each start makes a new one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Born {
    inode: (u64, u64),
    ctime: (i64, i64),
}

/// A look at the fresh node, and at the standby beside it.
#[derive(Debug)]
pub(super) struct Looked {
    /// What was alive, and what the fresh node shows.
    pub(super) outcome: Outcome,
    /// How many of the differences are changes that the standby was seen to make, and that it agrees on with the fresh node.
    excused: usize,
    /// Whether so many records may have gone.
    kept: bool,
    /// Records of the fresh node.
    shown: usize,
}

impl Born {
    /// Of who listens at `control` now.
    pub(super) fn of(control: &Path) -> anyhow::Result<Self> {
        let known = fs::metadata(control).with_context(|| control.display().to_string())?;
        Ok(Self {
            inode: (known.dev(), known.ino()),
            ctime: (known.ctime(), known.ctime_nsec()),
        })
    }
}

impl Looked {
    /// `alive` and `before` are what the active node and the standby had before the one was killed.
    pub(super) fn at(
        alive: &Dump,
        before: &Dump,
        standby: Dump,
        fresh: Dump,
        rules: &Rules,
    ) -> Self {
        let shown = fresh.records.len();
        let outcome = Outcome::of(alive.clone(), fresh.clone(), rules);
        let changed = Outcome::of(before.clone(), standby.clone(), rules);
        let beside = names(&Outcome::of(standby, fresh, rules));
        let kept = lost(&changed) <= lost_max(before);
        let changed = names(&changed);
        let excused = outcome.differences.iter().map(name);
        let excused = excused.filter(|name| changed.contains(name) && !beside.contains(name));
        Self {
            excused: excused.count(),
            outcome,
            kept,
            shown,
        }
    }

    /// Whether the fresh node has everything.
    pub(super) fn is_all(&self) -> bool {
        self.kept && self.shown > 0 && self.wrong() == 0 && !self.outcome.counts.is_empty()
    }

    pub(super) fn words(&self) -> String {
        let (wrong, excused) = (self.wrong(), self.excused);
        let more = match (self.shown, self.kept) {
            (0, _) => "; it shows no record at all",
            (_, false) => "; but the standby lost too much to tell by it",
            _ => "",
        };
        format!(
            "{wrong} missing, different or too many; {excused} changed at the standby since{more}"
        )
    }

    fn wrong(&self) -> usize {
        self.outcome.differences.len() - self.excused
    }
}

/// Whether the standby has `now` what it had `before`, but for the few that may have gone meanwhile; and in words.
pub(super) fn gone(before: &Dump, now: Dump, rules: &Rules) -> (bool, String) {
    let (had, most) = (before.records.len(), lost_max(before));
    let lost = lost(&Outcome::of(before.clone(), now, rules));
    (
        lost <= most,
        format!("{lost} of {had} gone, and {most} may be"),
    )
}

/// How many records went.
fn lost(changed: &Outcome) -> u64 {
    let only: fn(&Counts) -> u64 = |counts| counts.only_a;
    changed.counts.values().map(only).sum()
}

/// While nobody has the calls, few end; a phone that goes is a contact and its AoR.
fn lost_max(before: &Dump) -> u64 {
    (before.records.len() as u64 / 20).max(2)
}

fn names(outcome: &Outcome) -> BTreeSet<String> {
    outcome.differences.iter().map(name).collect()
}

fn name(difference: &Difference) -> String {
    let line = difference_json(difference);
    format!("{} {}", line["kind"], line["key"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node replies that has these AoRs.
    fn reply(users: &str) -> Dump {
        let aor = |user| format!("{{\"AOR\":\"{user}\",\"Contacts\":[]}}");
        let aors: Vec<_> = users.chars().map(aor).collect();
        let aors = aors.join(",");
        let text = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"Domains\":[{{\"name\":\"location\",\"AORs\":[{aors}]}}]}}}}"
        );
        Dump::read(text.as_bytes(), Some(0)).expect("a reply")
    }

    fn look(before: &str, standby: &str, fresh: &str) -> Looked {
        let alive = reply("abcdefgh");
        let [before, standby, fresh] = [before, standby, fresh].map(reply);
        Looked::at(&alive, &before, standby, fresh, &Rules::default())
    }

    #[test]
    fn what_went_at_the_standby_and_at_the_fresh_node_is_excused_and_what_went_at_one_is_not() {
        let fine = look("abcdefgh", "acdefgh", "acdefgh");
        assert!(fine.is_all(), "{}", fine.words());
        assert_eq!((fine.excused, fine.wrong()), (1, 0));
        let missing = look("abcdefgh", "acdefgh", "adefgh");
        assert!(!missing.is_all());
        assert_eq!((missing.excused, missing.wrong()), (1, 1));
    }

    #[test]
    fn a_standby_that_lost_its_records_excuses_nothing() {
        for fresh in ["", "a"] {
            let lost = look("abcdefgh", fresh, fresh);
            assert!(!lost.is_all(), "{}", lost.words());
        }
        let (kept, words) = gone(&reply("abcdefgh"), reply("abcd"), &Rules::default());
        assert!(!kept && words.starts_with("4 of 8"), "{words}");
    }

    #[test]
    fn what_the_standby_never_had_is_missing_though_it_agrees_with_the_fresh_node() {
        let never = look("acdefgh", "acdefgh", "acdefgh");
        assert_eq!((never.excused, never.wrong()), (0, 1));
        assert!(!never.is_all());
    }
}
