//! The page: what one asks first comes first.
//!
//! ```text
//!   question, answer, figures     incomplete? worthless? said before any figure
//!   reasons to doubt
//!   search: latency by rate, goals, trials
//!   trial: latency, time, ledger, generator, receiver     one is open, the others are folded
//!   self-test, machine, how to run it again
//! ```

use super::answer::Answer;
use super::facts;
use super::figures::{self, Named};
use super::goal::{self, Verdict};
use super::host;
use super::html::Html;
use super::table::Column::{Number, Words};
use super::table::Table;
use super::trial;
use super::units;
use crate::result::{Doubt, RunResult, SearchResult, Trial};

/// All of it, as HTML that asks for nothing else: no script, no font, no picture from anywhere.
pub(super) fn page(result: &RunResult) -> String {
    let answer = Answer::of(result);
    let mut html = Html::default();
    html.verbatim("<!DOCTYPE html>\n");
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| head(html, &answer.question));
        html.element("body", &[], |html| {
            html.element("main", &[], |html| {
                top(html, result, &answer);
                doubts(html, result);
                if let Some(search) = &result.search {
                    section(html, "Search", |html| of_search(html, result, search));
                }
                trials(html, result);
                if !result.self_test.is_empty() {
                    section(html, "What the generator can do here", |html| {
                        self_test(html, result)
                    });
                }
                section(html, "The machine", |html| host::draw(html, &result.host));
                section(html, "Run it again", |html| again(html, result));
                section(html, "How to read this", words);
            });
        });
    });
    html.into_string()
}

fn head(html: &mut Html, title: &str) {
    html.empty("meta", &[("charset", "utf-8")]);
    // Were there a hole in how names are escaped, a browser would still load and run nothing.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    html.empty(
        "meta",
        &[
            ("http-equiv", "Content-Security-Policy"),
            ("content", policy),
        ],
    );
    html.empty(
        "meta",
        &[
            ("name", "viewport"),
            ("content", "width=device-width, initial-scale=1"),
        ],
    );
    html.empty(
        "meta",
        &[("name", "color-scheme"), ("content", "light dark")],
    );
    // Without one, browsers ask the server for one.
    html.empty("link", &[("rel", "icon"), ("href", "data:,")]);
    html.leaf("title", &[], title);
    html.element("style", &[], |html| {
        html.verbatim(include_str!("style.css"))
    });
}

fn top(html: &mut Html, result: &RunResult, answer: &Answer) {
    html.element("header", &[], |html| {
        let kicker = format!(
            "binrush-bench {} · {} to {} · version {}",
            result.command, result.started, result.finished, result.version
        );
        html.leaf("p", &[("class", "kicker")], &kicker);
        html.leaf("h1", &[], &answer.question);
        for alarm in alarms(result) {
            html.element("p", &[("class", "alarm"), ("role", "alert")], |html| {
                html.leaf("b", &[], alarm.title);
                html.text(" ");
                html.text(&alarm.text);
                if let Some(advice) = alarm.advice {
                    html.leaf("span", &[("class", "advice")], advice);
                }
            });
        }
        html.leaf("p", &[("class", "answer")], &answer.answer);
        if !answer.figures.is_empty() {
            html.element("dl", &[("class", "figures")], |html| {
                for (name, value) in &answer.figures {
                    html.element("div", &[], |html| {
                        html.leaf("dt", &[], name);
                        html.leaf("dd", &[], value);
                    });
                }
            });
        }
    });
}

/// Why not to read on as if nothing had happened.
#[derive(Debug)]
struct Alarm<'a> {
    title: &'static str,
    text: String,
    advice: Option<&'a str>,
}

fn alarms(result: &RunResult) -> Vec<Alarm<'_>> {
    let alarm = |title, text| Alarm {
        title,
        text,
        advice: None,
    };
    let mut alarms = Vec::new();
    if !result.complete {
        let unknown =
            "it was ended before it could say why; this is what it had measured until then";
        let why = result.trouble.as_deref().unwrap_or(unknown);
        alarms.push(alarm("Not complete:", why.to_owned()));
    }
    let worthless = result
        .doubts
        .iter()
        .filter(|doubt| doubt.severity == "worthless");
    alarms.extend(worthless.map(|doubt| Alarm {
        title: "Worthless:",
        text: doubt.text.clone(),
        advice: doubt.advice.as_deref(),
    }));
    let remainder = |trial: &Trial| {
        let remainder = trial.ledger.remainder;
        let bytes = trial.ledger.bytes.map_or(0, |bytes| bytes.remainder);
        let told = match (remainder, bytes) {
            (0, 0) => return None,
            (0, bytes) => format!("{} bytes", units::signed(bytes)),
            (packets, _) => units::signed(packets),
        };
        Some(format!("“{}” ({told})", trial.name))
    };
    if let Some(trials) = listed(&result.trials, remainder) {
        let text = format!("packets that nobody can account for, in {trials}");
        alarms.push(alarm("The ledger has a remainder:", text));
    }
    let broken = |trial: &Trial| (!facts::adds_up(trial)).then(|| format!("“{}”", trial.name));
    if let Some(trials) = listed(&result.trials, broken) {
        let text = format!("the counts do not add up to what they say, in {trials}");
        alarms.push(alarm("The result was changed:", text));
    }
    alarms
}

/// The words of those trials that have some, the first of them by name.
fn listed(trials: &[Trial], words: impl Fn(&Trial) -> Option<String>) -> Option<String> {
    let all: Vec<String> = trials.iter().filter_map(words).collect();
    let more = all.len().saturating_sub(SEVERAL);
    let mut text = all
        .iter()
        .take(SEVERAL)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    (!all.is_empty()).then_some(text)
}

/// Those that are no alarms, the mere notes last.
fn doubts(html: &mut Html, result: &RunResult) {
    let is_note = |doubt: &&Doubt| doubt.severity == "note";
    let lesser = || {
        result
            .doubts
            .iter()
            .filter(|doubt| doubt.severity != "worthless")
    };
    let doubts = lesser().filter(|doubt| !is_note(doubt));
    let doubts: Vec<&Doubt> = doubts.chain(lesser().filter(is_note)).collect();
    let is_worthless = facts::is_worthless(result);
    if doubts.is_empty() && is_worthless {
        return;
    }
    let title = if is_worthless {
        "More reasons to doubt"
    } else {
        "Reasons to doubt"
    };
    section(html, title, |html| {
        if doubts.is_empty() {
            html.leaf("p", &[("class", "note")], "None was found.");
            return;
        }
        html.element("ul", &[("class", "doubts")], |html| {
            for doubt in doubts {
                let class = if is_note(&doubt) { "aside" } else { "doubt" };
                html.element("li", &[("class", class)], |html| {
                    html.leaf("b", &[], &doubt.severity);
                    html.text(" ");
                    html.text(&doubt.text);
                    if let Some(advice) = &doubt.advice {
                        html.leaf("span", &[("class", "advice")], advice);
                    }
                });
            }
        });
    });
}

fn of_search(html: &mut Html, result: &RunResult, search: &SearchResult) {
    let goals = goal::goals(Some(search));
    if let Some(chart) = figures::by_rate(search, &result.trials, &goals) {
        chart.draw(html);
    }
    let at = search
        .at_percent
        .iter()
        .filter_map(|(_, index)| result.trials.get(*index));
    let named: Vec<Named<'_>> = at
        .map(|trial| Named {
            name: &trial.name,
            hist: &trial.intended,
        })
        .collect();
    if let Some(chart) =
        figures::by_percentile("at", "Latency by percentile, below the rate found", &named)
    {
        chart.draw(html);
    }
    html.leaf("h3", &[], "Goals");
    let optional = |pps: Option<f64>| pps.map_or_else(|| units::UNKNOWN.to_owned(), units::rate);
    let rows = search.goals.iter().map(|goal| {
        vec![
            goal.goal.replace("<=", "≤"),
            optional(goal.lower_pps),
            optional(goal.upper_pps),
            optional(goal.throughput_pps),
            goal.exit.clone(),
        ]
    });
    Table {
        name: "goals",
        head: &[
            Words("goal"),
            Number("lower bound"),
            Number("upper bound"),
            Number("conditional throughput"),
            Words("ended"),
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
    .draw(html);
    html.leaf("h3", &[], "Trials");
    Table {
        name: "trials",
        head: &TRIALS,
        rows: result
            .trials
            .iter()
            .take(TRIALS_MAX)
            .map(|trial| trial_row(trial, &goals))
            .collect(),
        foot: Vec::new(),
    }
    .draw(html);
    left_off(html, result.trials.len());
}

fn trial_row(of: &Trial, goals: &[goal::Goal]) -> Vec<String> {
    let mut row = vec![
        of.name.clone(),
        units::rate(of.offered_pps),
        units::seconds(of.seconds),
        Verdict::of(of, goals).words(),
        units::share(of.ledger.loss_ratio),
        units::count(facts::sum(of, |sender| sender.unsent)),
    ];
    row.extend([0.5, 0.99, 0.999, 1.0].map(|quantile| trial::percentile(&of.intended, quantile)));
    row.push(trial::percentile(&facts::lateness(of), 0.99));
    row
}

/// One trial lies open; of several, all are folded but for those that stand for the run.
fn trials(html: &mut Html, result: &RunResult) {
    if let [only] = &result.trials[..] {
        of_trial(html, "t0", only, true);
        return;
    }
    if result.trials.is_empty() {
        return;
    }
    section(html, "Each trial", |html| {
        let at = result
            .search
            .as_ref()
            .map_or(&[][..], |search| &search.at_percent[..]);
        for (index, trial) in result.trials.iter().enumerate().take(TRIALS_MAX) {
            let stands_for_run = at.iter().take(OPEN_MAX).any(|(_, at)| *at == index)
                || (at.is_empty() && index == 0);
            let summary = format!(
                "{}: {}, loss {}",
                trial.name,
                units::rate(trial.offered_pps),
                units::share(trial.ledger.loss_ratio)
            );
            html.element("details", &[], |html| {
                html.leaf("summary", &[], &summary);
                of_trial(html, &format!("t{index}"), trial, stands_for_run);
            });
        }
        left_off(html, result.trials.len());
    });
}

fn of_trial(html: &mut Html, id: &str, of: &Trial, charts: bool) {
    let lateness = facts::lateness(of);
    let mut hists = vec![
        Named {
            name: "due to received",
            hist: &of.intended,
        },
        Named {
            name: "sent to received",
            hist: &of.actual,
        },
        Named {
            name: "due to sent (generator)",
            hist: &lateness,
        },
    ];
    section(html, "Latency", |html| {
        if charts && let Some(chart) = figures::by_percentile(id, "Latency by percentile", &hists) {
            chart.draw(html);
        }
        hists.retain(|named| !named.hist.is_empty());
        if hists.is_empty() {
            html.leaf("p", &[("class", "note")], "Nothing was timed.");
        } else {
            trial::latencies(html, &hists);
        }
    });
    let over_time = [
        figures::delivered(id, of),
        figures::latency_over_time(id, of),
    ];
    if charts && over_time.iter().any(Option::is_some) {
        section(html, "Over time", |html| {
            html.element("div", &[("class", "pair")], |html| {
                over_time
                    .iter()
                    .flatten()
                    .for_each(|chart| chart.draw(html));
            });
        });
    }
    section(html, "Where every packet went", |html| {
        trial::ledger(html, of)
    });
    section(html, "Senders", |html| trial::senders(html, of));
    section(html, "Receiver", |html| {
        trial::receiver(html, of);
        html.leaf("h3", &[], "Streams, by their sequence numbers");
        trial::audit(html, of);
    });
}

fn self_test(html: &mut Html, result: &RunResult) {
    let words = "Sending as fast, and as punctually, as it goes to a sink on this machine that only audits. A receiver cannot be \
                 measured beyond these rates.";
    html.leaf("p", &[("class", "note")], words);
    let names: Vec<String> = result
        .self_test
        .iter()
        .map(|row| format!("{} at {}", row.way, units::rate(row.lateness_at_pps)))
        .collect();
    let lateness: Vec<Named<'_>> = names
        .iter()
        .zip(&result.self_test)
        .map(|(name, row)| Named {
            name,
            hist: &row.lateness,
        })
        .collect();
    if result.trials.is_empty()
        && let Some(chart) = figures::by_percentile("self", "Lateness by percentile", &lateness)
    {
        chart.draw(html);
    }
    let rows = result.self_test.iter().map(|row| {
        let mut cells = vec![
            row.way.clone(),
            units::bytes(row.size as u64),
            units::rate(row.rate_pps),
            units::nanos_f64(row.ns_per_packet),
            units::rate(row.lateness_at_pps),
        ];
        cells.extend(
            [0.5, 0.99, 0.999, 1.0].map(|quantile| trial::percentile(&row.lateness, quantile)),
        );
        cells.extend([row.unsent, row.lost].map(units::count));
        cells
    });
    Table {
        name: "self-test",
        head: &[
            Words("way"),
            Number("packet"),
            Number("highest rate"),
            Number("CPU per packet"),
            Number("late, at"),
            Number("p50"),
            Number("p99"),
            Number("p99.9"),
            Number("max"),
            Number("unsent"),
            Number("lost"),
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
    .draw(html);
}

fn again(html: &mut Html, result: &RunResult) {
    let mut command = "binrush-bench".to_owned();
    for argument in &result.arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    html.element("pre", &[("class", "scroll"), ("tabindex", "0")], |html| {
        html.leaf("code", &[], &command)
    });
    let mut seeds: Vec<u64> = result.trials.iter().map(|trial| trial.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let more = if seeds.len() > SEVERAL {
        " and more"
    } else {
        ""
    };
    let seeds: Vec<String> = seeds.iter().take(SEVERAL).map(u64::to_string).collect();
    if !seeds.is_empty() {
        let words = format!(
            "Seed {}{more}: with the same seed, the same packets are due at the same times after the start.",
            seeds.join(", ")
        );
        html.leaf("p", &[("class", "note")], &words);
    }
}

fn words(html: &mut Html) {
    let words = [
        (
            "due",
            "when the schedule wants a packet to be sent, whatever sender and receiver do. Times from there on hold every delay, that of the generator included: nothing is hidden by a sender that waits.",
        ),
        (
            "sent",
            "when the kernel had taken the packet. Times from there on leave out what the generator was late.",
        ),
        (
            "unsent",
            "packets that were so late that sending them would have said nothing about the schedule any more. They count as lost.",
        ),
        (
            "p99",
            "the time that 99 of 100 packets did not exceed. A percentile that no packet exceeds is left out.",
        ),
        (
            "remainder",
            "packets that neither sender, kernel nor receiver can account for. A run with one has failed.",
        ),
    ];
    let words = words
        .into_iter()
        .map(|(name, words)| (name.to_owned(), words.to_owned()));
    trial::pairs(html, "pairs words", words);
}

fn section(html: &mut Html, title: &str, inside: impl FnOnce(&mut Html)) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], title);
        inside(html);
    });
}

fn left_off(html: &mut Html, trials: usize) {
    if trials > TRIALS_MAX {
        let words = format!(
            "{} more trials are in the result, and in its CSV form.",
            units::count((trials - TRIALS_MAX) as u64)
        );
        html.leaf("p", &[("class", "note")], &words);
    }
}

/// As a shell takes it for one word.
fn quoted(argument: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+./:,@%".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

const TRIALS: [super::table::Column<'static>; 11] = [
    Words("trial"),
    Number("offered"),
    Number("length"),
    Words("goals"),
    Number("loss"),
    Number("unsent"),
    Number("p50"),
    Number("p99"),
    Number("p99.9"),
    Number("max"),
    Number("generator late, p99"),
];

/// A page with more would be slow to open; searches have tens.
const TRIALS_MAX: usize = 500;

/// Trials with charts.
const OPEN_MAX: usize = 8;

/// Trials and seeds in a sentence; the tables have all.
const SEVERAL: usize = 8;
