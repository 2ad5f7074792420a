//! What came out of a drill.

use serde::Serialize;
use serde_json::Value as Json;

use crate::state::{Counts, Outcome, difference_json};
use crate::table::{Head, Table};
use crate::text::{Harmless, counted};

/// One drill.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Score {
    pub(super) drill: String,
    pub(super) title: String,
    pub(super) seed: u64,
    /// `small` or `full`; `real` beside genuine nodes.
    pub(super) form: &'static str,
    /// Where the nodes were.
    pub(super) site: String,
    pub(super) verdict: Verdict,
    /// Why it could not run.
    pub(super) why: Option<String>,
    pub(super) took_ms: u64,
    /// Changes that the callers made.
    pub(super) changes: u64,
    /// Records that had to be there in the end.
    pub(super) records: u64,
    pub(super) nodes: Vec<NodeScore>,
    pub(super) rules: Vec<Rule>,
    pub(super) events: Vec<Event>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Passed,
    /// A rule does not hold.
    Failed,
    /// This machine lacks what it needs.
    Skipped,
    /// It could not be carried out.
    #[default]
    Broken,
}

/// Of one node.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct NodeScore {
    pub(super) node: &'static str,
    /// From its last start until it accepted packets.
    pub(super) ready_ms: Option<u64>,
    /// From its last start until the first packet of a sync was seen in it.
    pub(super) first_sync_ms: Option<u64>,
    /// From its last start until its copies were verified.
    pub(super) verified_ms: Option<u64>,
    /// In the end, against what had to be there: fields, one by one.
    pub(super) records: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    /// It has them, and they had to be gone.
    pub(super) extra: u64,
    /// The oldest that its copy was seen, where anybody looked.
    pub(super) stale_ms: Option<u64>,
    /// Likewise while it was cut off, and until it had caught up.
    pub(super) stale_apart_ms: Option<u64>,
    pub(super) ledger: Option<LedgerScore>,
    /// The first records that are not as they have to be.
    pub(super) examples: Vec<Json>,
}

/// What its last line says.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct LedgerScore {
    pub(super) received: u64,
    pub(super) handled: u64,
    pub(super) balanced: bool,
}

/// What had to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Rule {
    pub(super) rule: String,
    pub(super) holds: bool,
    /// The figures.
    pub(super) detail: String,
}

/// What was done, or seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    pub(super) at_ms: u64,
    pub(super) text: String,
}

impl NodeScore {
    /// Takes over what a comparison with the model says.
    pub(super) fn compare(&mut self, outcome: &Outcome) {
        let sum = |of: fn(&Counts) -> u64| outcome.counts.values().map(of).sum();
        self.records = sum(|counts| counts.b);
        self.missing = sum(|counts| counts.only_a);
        self.different = sum(|counts| counts.different);
        self.extra = sum(|counts| counts.only_b);
        let first = outcome.differences.iter().take(EXAMPLES_MAX);
        self.examples = first.map(difference_json).collect();
    }
}

impl Score {
    /// Passed, unless a rule does not hold.
    pub(super) fn judge(&mut self) {
        let holds = self.rules.iter().all(|rule| rule.holds);
        self.verdict = match holds && !self.rules.is_empty() {
            true => Verdict::Passed,
            false => Verdict::Failed,
        };
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let mut words = format!("{}  {}\n", self.drill, self.title);
        if let Some(why) = &self.why {
            words.push_str(&format!("  {}: {}\n", self.verdict.word(), Harmless(why)));
        }
        if self.nodes.is_empty() {
            return words;
        }
        words.push_str(&format!(
            "  seed {}, {}, {}; {}, {} in the end\n",
            self.seed,
            self.form,
            self.site,
            counted(self.changes, "change"),
            counted(self.records, "record")
        ));
        for event in &self.events {
            let seconds = event.at_ms as f64 / 1000.0;
            words.push_str(&format!("  {seconds:7.2} s  {}\n", Harmless(&event.text)));
        }
        words.push_str(&self.table());
        for rule in &self.rules {
            let mark = if rule.holds { "holds " } else { "BROKEN" };
            words.push_str(&format!(
                "  {mark}  {}: {}\n",
                rule.rule,
                Harmless(&rule.detail)
            ));
        }
        for node in &self.nodes {
            for example in &node.examples {
                words.push_str(&format!(
                    "    {}: {}\n",
                    node.node,
                    Harmless(&example.to_string())
                ));
            }
        }
        let seconds = self.took_ms as f64 / 1000.0;
        words.push_str(&format!("  {} in {seconds:.1} s\n", self.verdict.word()));
        words
    }

    fn table(&self) -> String {
        let mut table = Table::new([
            Head::Left("node"),
            Head::Right("ready"),
            Head::Right("first sync"),
            Head::Right("verified"),
            Head::Right("records"),
            Head::Right("missing"),
            Head::Right("different"),
            Head::Right("extra"),
            Head::Right("stale"),
            Head::Right("cut off"),
            Head::Left("ledger"),
        ]);
        for node in &self.nodes {
            let time = |ms: Option<u64>| ms.map_or_else(String::new, |ms| format!("{ms} ms"));
            table.row([
                node.node.to_owned(),
                time(node.ready_ms),
                time(node.first_sync_ms),
                time(node.verified_ms),
                node.records.to_string(),
                node.missing.to_string(),
                node.different.to_string(),
                node.extra.to_string(),
                time(node.stale_ms),
                time(node.stale_apart_ms.filter(|ms| *ms > 0)),
                node.ledger
                    .map_or_else(String::new, |ledger| ledger.words()),
            ]);
        }
        table.lines().join("\n") + "\n"
    }
}

impl LedgerScore {
    pub(super) fn words(&self) -> String {
        let balanced = match self.balanced {
            true => "balanced",
            false => "NOT BALANCED",
        };
        format!("{balanced}, {}", counted(self.received, "packet"))
    }
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Broken => "could not run",
        }
    }

    /// Of a process that ran it: 0 passed, or there was nothing to run it with; 1 a rule failed; 2 it could not run.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Passed | Self::Skipped => 0,
            Self::Failed => 1,
            Self::Broken => 2,
        }
    }
}

/// Enough to see of what kind they are.
const EXAMPLES_MAX: usize = 3;
