//! What is told of modules while they run: in words, and no more than a line for each in a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use binrush::handler::CallbackTotals;
use binrush::running::{Hanging, Watch};
use serde_json::{Value, json};

use crate::metrics::Module;
use crate::text::counted;

/// What was told of them so far.
pub(in crate::serve) struct News {
    budget: Option<Duration>,
    watch: Watch,
    /// By module: what was told last, and when.
    told: BTreeMap<String, (CallbackTotals, Option<Instant>)>,
    /// Calls that do not return, of which that was told.
    hanging: Vec<Hanging>,
}

/// Something that an operator should know of a module.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::serve) struct Notice {
    pub(in crate::serve) text: String,
    pub(in crate::serve) json: Value,
}

impl News {
    pub(in crate::serve) fn new(now: Instant, budget: Option<Duration>) -> Self {
        Self {
            budget,
            watch: Watch::new(now),
            told: BTreeMap::new(),
            hanging: Vec::new(),
        }
    }

    /// What is new, given what callbacks came to by `now`.
    pub(in crate::serve) fn due(&mut self, now: Instant, counts: &[Module]) -> Vec<Notice> {
        let mut news = self.hanging(now);
        for Module { name, callbacks } in counts {
            let told = self.told.entry(name.clone());
            let (before, at) = told.or_default();
            if at.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
                continue;
            }
            let text = in_words(name, before, callbacks, self.budget);
            let Some(text) = text else {
                continue;
            };
            let more = json!({
                "module": name,
                "over_budget": callbacks.over_budget - before.over_budget,
                "functions_over_budget": callbacks.functions_over_budget - before.functions_over_budget,
                "misread": callbacks.misread - before.misread,
                "not_called": callbacks.not_called - before.not_called,
            });
            news.push(Notice { text, json: more });
            (*before, *at) = (*callbacks, Some(now));
        }
        news
    }

    /// Calls that do not return, when they begin to be told of and when they are over.
    fn hanging(&mut self, now: Instant) -> Vec<Notice> {
        let hanging = self.watch.look(now, HANGS);
        // Who is inside may be another one by now, as of a call that calls others in turn.
        let is_same = |one: &Hanging, other: &Hanging| {
            one.thread == other.thread && one.lasted <= other.lasted
        };
        let of = |each: &Hanging, over: bool| {
            json!({
                "module": each.module,
                "file": each.file,
                "thread": each.thread,
                "hangs": !over,
            })
        };
        let begun = hanging
            .iter()
            .filter(|each| !self.hanging.iter().any(|before| is_same(before, each)));
        let mut news: Vec<_> = begun
            .map(|each| Notice {
                text: format!("warning: {}", hangs(each)),
                json: of(each, false),
            })
            .collect();
        let over = self
            .hanging
            .iter()
            .filter(|before| !hanging.iter().any(|each| is_same(before, each)));
        news.extend(over.map(|each| Notice {
            text: format!("module {} has returned on {}", each.module, each.thread),
            json: of(each, true),
        }));
        self.hanging = hanging;
        news
    }

    /// Calls that did not return at the last look.
    pub(in crate::serve) fn stuck(&self) -> impl Iterator<Item = String> {
        self.hanging.iter().map(hangs)
    }
}

fn hangs(each: &Hanging) -> String {
    format!("{}: nothing is received there", stays(each))
}

/// The same wherever it is.
pub(super) fn stays(each: &Hanging) -> String {
    // What has no name yet is called by its file.
    let file = match each.file == each.module {
        true => String::new(),
        false => format!(" ({})", each.file),
    };
    format!(
        "module {}{file} does not return on {}, for {} s by now",
        each.module,
        each.thread,
        each.lasted.as_secs()
    )
}

/// What of `now` was not told with `before`; `None`: nothing.
fn in_words(
    name: &str,
    before: &CallbackTotals,
    now: &CallbackTotals,
    budget: Option<Duration>,
) -> Option<String> {
    let mut said = Vec::new();
    let over = [
        (now.over_budget - before.over_budget, "callback"),
        (
            now.functions_over_budget - before.functions_over_budget,
            "function call",
        ),
    ];
    let over = over.into_iter().filter(|(count, _)| *count > 0);
    let over: Vec<_> = over.map(|(count, what)| counted(count, what)).collect();
    if let Some(budget) = budget.filter(|_| !over.is_empty()) {
        said.push(format!(
            "{} took longer than {budget:?}, the longest so far {:?}",
            over.join(" and "),
            Duration::from_micros(u64::try_from(now.longest.as_micros()).unwrap_or(u64::MAX))
        ));
    }
    let misread = now.misread - before.misread;
    if misread > 0 {
        said.push(format!(
            "{} read past the end of a packet, or as something that it is not",
            counted(misread, "callback")
        ));
    }
    let not_called = now.not_called - before.not_called;
    if not_called > 0 {
        said.push(format!(
            "{} came for which there was no callback to call: of before 2.3 for the 3.x API, or on a shard whose child_init registered none",
            counted(not_called, "packet")
        ));
    }
    (!said.is_empty()).then(|| format!("module {name}: {}", said.join("; ")))
}

/// Between two lines about one module.
const EVERY: Duration = Duration::from_secs(10);

/// A callback that takes longer than this does not return, as far as anybody can tell.
pub(super) const HANGS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(over_budget: u64, misread: u64) -> Vec<Module> {
        vec![Module {
            name: "counter".to_owned(),
            callbacks: CallbackTotals {
                calls: 100,
                misread,
                over_budget,
                functions_over_budget: misread,
                longest: Duration::from_nanos(2_500_700),
                ..CallbackTotals::default()
            },
        }]
    }

    #[test]
    fn a_module_is_told_of_at_once_and_then_once_in_a_while_with_all_that_is_new() {
        let start = Instant::now();
        let mut news = News::new(start, Some(Duration::from_millis(1)));
        let mut texts = |seconds, over, misread| -> Vec<String> {
            let now = start + Duration::from_secs(seconds);
            let due = news.due(now, &counts(over, misread));
            due.into_iter().map(|news| news.text).collect()
        };
        assert!(texts(0, 0, 0).is_empty());
        let first =
            "module counter: 1 callback took longer than 1ms, the longest so far 2.5ms".to_owned();
        assert_eq!(texts(1, 1, 0), [first]);
        assert!(texts(2, 5, 0).is_empty());
        let second = "module counter: 4 callbacks and 2 function calls took longer than 1ms, the longest so far 2.5ms; 2 callbacks read past the end of a packet, or as something that it is not".to_owned();
        assert_eq!(texts(11, 5, 2), [second]);
        assert!(texts(60, 5, 2).is_empty());
    }
}
