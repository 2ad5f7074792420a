//! What is to be said of a knob.

use std::fmt;

use serde::Serialize;

/// How much it says against a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Figures are falsified, or what was demanded cannot be had.
    Matters,
    /// Worth knowing beside the figures, or worth trying.
    Note,
    /// Looked at, and as it should be.
    Ok,
}

/// One knob or counter: what was found, why that is looked at, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable, for tools: `rmem_max`. Several findings may have the same, of different subjects.
    pub id: &'static str,
    /// How much it says against a run.
    pub severity: Severity,
    /// The knob by the name that people know: `net.core.rmem_max`.
    pub subject: String,
    /// The evidence as it was read, with the file that says so.
    pub value: String,
    /// Why a run depends on it.
    pub why: &'static str,
    /// What to type, as root where a setting is changed; empty when there is nothing to mend. Settings made this way
    /// are gone at the next boot.
    pub fix: String,
    /// What mending it may cost; empty when there is nothing to mend.
    pub risk: &'static str,
}

/// What all findings of a kind have in common.
#[derive(Debug)]
pub(crate) struct Knob {
    pub(crate) id: &'static str,
    pub(crate) subject: &'static str,
    /// Where it is read.
    pub(crate) path: &'static str,
    pub(crate) why: &'static str,
    pub(crate) risk: &'static str,
}

/// Findings as they come up.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<Finding>,
    unknown: Vec<String>,
}

impl Finding {
    /// Whether it falsifies or limits a run.
    pub fn matters(&self) -> bool {
        self.severity == Severity::Matters
    }

    /// The same finding about one of several things of its kind, with its own evidence file.
    pub(crate) fn about(mut self, thing: &str) -> Self {
        self.subject = format!("{} of {thing}", self.subject);
        self
    }
}

impl Knob {
    pub(crate) fn ok(&'static self, value: impl fmt::Display) -> Finding {
        self.finding(Severity::Ok, value, self.path, String::new())
    }

    pub(crate) fn note(&'static self, value: impl fmt::Display, fix: impl Into<String>) -> Finding {
        self.finding(Severity::Note, value, self.path, fix.into())
    }

    pub(crate) fn matters(
        &'static self,
        value: impl fmt::Display,
        fix: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Matters, value, self.path, fix.into())
    }

    /// With a severity that was worked out, and evidence of a file of its own.
    pub(crate) fn finding(
        &'static self,
        severity: Severity,
        value: impl fmt::Display,
        path: &str,
        fix: String,
    ) -> Finding {
        let is_fine = severity == Severity::Ok;
        Finding {
            id: self.id,
            severity,
            subject: self.subject.to_owned(),
            value: format!("{value} ({path})"),
            why: self.why,
            fix: if is_fine { String::new() } else { fix },
            risk: if is_fine { "" } else { self.risk },
        }
    }
}

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// That it could not be judged.
    pub(crate) fn unknown(&mut self, knob: &Knob) {
        self.unknown
            .push(format!("{} ({})", knob.subject, knob.path));
    }

    /// Adds what is said of a fact, or that it is not known.
    pub(crate) fn judge<T>(
        &mut self,
        knob: &Knob,
        fact: Option<T>,
        say: impl FnOnce(T) -> Finding,
    ) {
        match fact {
            Some(fact) => self.add(say(fact)),
            None => self.unknown(knob),
        }
    }

    /// What matters first, and what is not known.
    pub(crate) fn sorted(mut self) -> (Vec<Finding>, Vec<String>) {
        // Stable: within a severity the order of the rules, which goes from the socket outwards.
        self.found.sort_by_key(|finding| finding.severity);
        (self.found, self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOB: Knob = Knob {
        id: "knob",
        subject: "a.knob",
        path: "/proc/knob",
        why: "because",
        risk: "none",
    };

    #[test]
    fn what_matters_comes_first_and_the_rest_keeps_its_order() {
        let mut findings = Findings::default();
        findings.add(KNOB.ok(1));
        findings.add(KNOB.note(2, "a"));
        findings.add(KNOB.matters(3, "b"));
        findings.add(KNOB.note(4, "c"));
        findings.judge(&KNOB, None::<u8>, |_| KNOB.ok(5));
        let (found, unknown) = findings.sorted();
        let values: Vec<&str> = found.iter().map(|finding| &finding.value[..1]).collect();
        assert_eq!(values, ["3", "2", "4", "1"]);
        assert_eq!(unknown, ["a.knob (/proc/knob)"]);
    }

    #[test]
    fn what_is_fine_has_nothing_to_mend() {
        let fine = KNOB.ok("7");
        assert_eq!((fine.fix.as_str(), fine.risk), ("", ""));
        assert_eq!(fine.value, "7 (/proc/knob)");
        assert_eq!(KNOB.note(7, "x").about("eth0").subject, "a.knob of eth0");
        assert_eq!(serde_json::to_value(&fine).unwrap()["severity"], "ok");
    }
}
