//! The scores as a page that needs nothing else: no script, no font, no picture from anywhere.

use super::score::{NodeScore, Score, Verdict};
use crate::text::counted;

/// All of it, what one asks first at the top.
pub(super) fn page(scores: &[Score]) -> String {
    let mut page = Page::default();
    let failed = scores
        .iter()
        .filter(|score| score.verdict.exit_code() > 0)
        .count();
    let skipped = scores
        .iter()
        .filter(|score| score.verdict == Verdict::Skipped)
        .count();
    let ran = (scores.len() - skipped) as u64;
    let title = match failed {
        0 => format!("Failover, rehearsed: {} passed", counted(ran, "drill")),
        _ => format!(
            "Failover, rehearsed: {failed} of {} failed",
            counted(ran, "drill")
        ),
    };
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>");
    // Were there a hole in how names are escaped, a browser would still load and run nothing.
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>");
    page.leaf("title", "", &title);
    page.raw("<style>")
        .raw(STYLE)
        .raw("</style></head><body><main>");
    page.leaf("h1", "", &title);
    page.leaf("p", "note", NOTE);
    summary(&mut page, scores);
    for score in scores {
        drill(&mut page, score);
    }
    page.raw("</main></body></html>\n");
    page.0
}

fn summary(page: &mut Page, scores: &[Score]) {
    let heads = [
        "drill",
        "",
        "verdict",
        "missing",
        "different",
        "too many",
        "most stale in touch",
        "took",
    ];
    page.table(&heads, |page| {
        for score in scores {
            let sum = |of: fn(&NodeScore) -> u64| score.nodes.iter().map(of).sum::<u64>();
            let stale = score.nodes.iter().filter_map(|node| node.stale_ms).max();
            page.raw("<tr>")
                .leaf("td", "", &score.drill)
                .leaf("td", "", &score.title);
            page.leaf("td", class(score.verdict), score.verdict.word());
            for number in [
                sum(|node| node.missing),
                sum(|node| node.different),
                sum(|node| node.extra),
            ] {
                page.leaf("td", "n", &number.to_string());
            }
            page.leaf("td", "n", &time(stale));
            page.leaf(
                "td",
                "n",
                &format!("{:.1} s", score.took_ms as f64 / 1000.0),
            );
            page.raw("</tr>");
        }
    });
}

fn drill(page: &mut Page, score: &Score) {
    page.leaf("h2", "", &format!("{}: {}", score.drill, score.title));
    if let Some(why) = &score.why {
        page.leaf("p", "alarm", &format!("{}: {why}", score.verdict.word()));
    }
    if score.nodes.is_empty() {
        return;
    }
    page.leaf(
        "p",
        "note",
        &format!(
            "Seed {}, {} form, {}; {}, {} in the end.",
            score.seed,
            score.form,
            score.site,
            counted(score.changes, "change"),
            counted(score.records, "record")
        ),
    );
    nodes(page, score);
    page.leaf("h3", "", "What had to hold");
    page.table(&["rule", "", "figures"], |page| {
        for rule in &score.rules {
            let (class, word) = match rule.holds {
                true => ("passed", "holds"),
                false => ("failed", "BROKEN"),
            };
            page.raw("<tr>").leaf("td", "", &rule.rule);
            page.leaf("td", class, word)
                .leaf("td", "", &rule.detail)
                .raw("</tr>");
        }
    });
    for node in &score.nodes {
        for example in &node.examples {
            page.leaf("pre", "", &format!("{}: {example}", node.node));
        }
    }
    page.leaf("h3", "", "What happened");
    page.table(&["at", "event"], |page| {
        for event in &score.events {
            let at = format!("{:.2} s", event.at_ms as f64 / 1000.0);
            page.raw("<tr>")
                .leaf("td", "n", &at)
                .leaf("td", "", &event.text)
                .raw("</tr>");
        }
    });
}

fn nodes(page: &mut Page, score: &Score) {
    let heads = [
        "node",
        "ready",
        "first sync packet",
        "verified",
        "records",
        "missing",
        "different",
        "too many",
        "most stale",
        "while cut off",
        "ledger",
    ];
    page.table(&heads, |page| {
        for node in &score.nodes {
            page.raw("<tr>").leaf("td", "", node.node);
            for ms in [node.ready_ms, node.first_sync_ms, node.verified_ms] {
                page.leaf("td", "n", &time(ms));
            }
            for number in [node.records, node.missing, node.different, node.extra] {
                page.leaf("td", "n", &number.to_string());
            }
            for ms in [node.stale_ms, node.stale_apart_ms] {
                page.leaf("td", "n", &time(ms));
            }
            let ledger = node
                .ledger
                .map_or_else(|| "-".to_owned(), |ledger| ledger.words());
            page.leaf("td", "", &ledger).raw("</tr>");
        }
    });
}

fn time(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Skipped => "note",
        Verdict::Failed | Verdict::Broken => "failed",
    }
}

/// Markup that grows. No text becomes markup.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    /// What stands in this file, as it is.
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// An element with nothing but text in it, of a class unless that is empty.
    fn leaf(&mut self, name: &'static str, class: &'static str, text: &str) -> &mut Self {
        self.raw("<").raw(name);
        if !class.is_empty() {
            self.raw(" class=\"").raw(class).raw("\"");
        }
        self.raw(">");
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '\n' => self.0.push('\n'),
                // They turn the direction of what follows.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.0.push('\u{fffd}'),
                _ if character.is_control() => self.0.push('\u{fffd}'),
                _ => self.0.push(character),
            }
        }
        self.raw("</").raw(name).raw(">")
    }

    fn table(&mut self, heads: &[&'static str], rows: impl FnOnce(&mut Self)) {
        self.raw("<div class=\"scroll\"><table><thead><tr>");
        for head in heads {
            self.leaf("th", "", head);
        }
        self.raw("</tr></thead><tbody>");
        rows(self);
        self.raw("</tbody></table></div>");
    }
}

const STYLE: &str = include_str!("page.css");

const NOTE: &str = "Missing, different, too many: records of the nodes in the end, field by field, against what the callers told. \
                    Stale: how old a copy was seen to be, at the most, while its node was in touch with the callers.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::score::{Event, Rule};

    #[test]
    fn the_page_says_what_failed_and_no_text_becomes_markup() {
        let score = Score {
            drill: "D1".into(),
            title: "<script>alert(1)</script>".into(),
            verdict: Verdict::Failed,
            nodes: vec![NodeScore {
                node: "engine",
                missing: 3,
                ..NodeScore::default()
            }],
            rules: vec![Rule {
                rule: "a & b".into(),
                holds: false,
                detail: "\u{202e}".into(),
            }],
            events: vec![Event {
                at_ms: 1500,
                text: "killed".into(),
            }],
            ..Score::default()
        };
        let page = page(&[score]);
        for words in [
            "1 of 1 drill failed",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "a &amp; b",
            "<td class=\"n\">3</td>",
            "BROKEN",
            "<td class=\"n\">1.50 s</td>",
        ] {
            assert!(page.contains(words), "no {words} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    }
}
