//! The question of a run and its answer, in one line each, and the figures one looks for first.

use binrush_probe::Hist;

use super::facts;
use super::figures::in_words;
use super::units::{self, UNKNOWN};
use crate::result::{RunResult, SearchResult, SelfTestRow, Trial};

/// What the page begins with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: String,
    pub(super) answer: String,
    /// Names and values.
    pub(super) figures: Vec<(String, String)>,
}

impl Answer {
    pub(super) fn of(result: &RunResult) -> Self {
        match (&result.search, result.trials.first()) {
            (Some(search), _) => of_search(result, search),
            (None, Some(trial)) => of_load(trial),
            (None, None) if !result.self_test.is_empty() => of_self_test(&result.self_test),
            (None, None) => Self {
                question: format!("{}: nothing was measured", result.command),
                answer: "The run ended before its first trial.".to_owned(),
                figures: Vec::new(),
            },
        }
    }
}

fn of_load(trial: &Trial) -> Answer {
    let receiver = receiver(trial);
    let question = format!(
        "How does {receiver} take {} of “{}” over {}?",
        units::rate(trial.offered_pps),
        trial.scenario,
        trial.transport.to_uppercase(),
    );
    let mut answer = facts::delivered(trial);
    if !trial.intended.is_empty() {
        answer.push_str(&format!(
            " {}.",
            in_words("Received − due", &trial.intended)
        ));
    } else if trial.ledger.planned > 0 {
        answer.push_str(" How long they took is not known: the receiver audits no stamps.");
    }
    let mut figures = vec![
        figure("sent", units::rate(facts::sent_pps(trial))),
        figure("arrived", units::rate(facts::arrived_pps(trial))),
        figure("loss", loss(trial)),
    ];
    figures.extend(latencies("", &trial.intended));
    figures.push(figure("late, p99", at(&facts::lateness(trial), 0.99)));
    Answer {
        question,
        answer,
        figures,
    }
}

fn of_search(result: &RunResult, search: &SearchResult) -> Answer {
    let first = result.trials.first();
    let (receiver, scenario) = first.map_or_else(
        || ("the receiver".to_owned(), "the scenario".to_owned()),
        |trial| {
            let transport = trial.transport.to_uppercase();
            (
                receiver(trial),
                format!("“{}” over {transport}", trial.scenario),
            )
        },
    );
    let goals: Vec<&str> = search.goals.iter().map(|goal| &goal.goal[..]).collect();
    let question = format!(
        "Up to which rate of {scenario} does {receiver} keep {}?",
        goals.join("; and ").replace("<=", "≤")
    );
    let bound = |pps: Option<f64>| pps.map_or_else(|| UNKNOWN.to_owned(), units::rate);
    let limited = format!(
        "The limit there: {} ({}).",
        search.binding.resource, search.binding.evidence
    );
    let answer = format!("{} {limited}", found(search));
    let mut figures = vec![
        figure("rate found", bound(search.lower_pps)),
        figure("lower bound", bound(search.lower_pps)),
        figure("upper bound", bound(search.upper_pps)),
        figure("binding", search.binding.resource.clone()),
    ];
    if let Some(trial) = facts::foremost(result) {
        figures.extend(latencies(&format!(", {}", trial.name), &trial.intended));
    }
    Answer {
        question,
        answer,
        figures,
    }
}

/// What a search found, and how much of that is known: a bound that nobody found is not told as one.
fn found(search: &SearchResult) -> String {
    let rate = units::rate(search.rate_pps);
    let is_met = search.rate_pps > 0.0;
    if let Some(why) = search.unfinished() {
        let met = if is_met {
            format!("{rate} is known to meet all goals")
        } else {
            "No rate is known to meet all goals".to_owned()
        };
        let missed = search.upper_pps.map_or_else(String::new, |upper| {
            format!("; {} does not", units::rate(upper))
        });
        return format!("The search was not finished: {why}. {met}{missed}.");
    }
    match (search.lower_pps, search.upper_pps) {
        _ if !is_met => "None of the rates that were tried met all goals.".to_owned(),
        (Some(lower), Some(upper)) => format!(
            "{rate}; it lies between {} and {}.",
            units::rate(lower),
            units::rate(upper)
        ),
        _ => format!("{rate} at least: it is the highest rate that was tried."),
    }
}

fn of_self_test(rows: &[SelfTestRow]) -> Answer {
    let words = |row: &SelfTestRow| format!("{} up to {}", row.way, units::rate(row.rate_pps));
    let all: Vec<String> = rows.iter().map(words).collect();
    let figures = rows.iter().map(|row| {
        let name = format!("{}, {}", row.way, units::bytes(row.size as u64));
        (name, units::rate(row.rate_pps))
    });
    Answer {
        question: "How fast and how late does this machine generate packets?".to_owned(),
        answer: format!("{}.", all.join(", ")),
        figures: figures.collect(),
    }
}

fn receiver(trial: &Trial) -> String {
    match &trial.receiver.name[..] {
        "" => "the receiver".to_owned(),
        name => name.to_owned(),
    }
}

fn loss(trial: &Trial) -> String {
    if trial.ledger.planned == 0 {
        return UNKNOWN.to_owned();
    }
    units::share(trial.ledger.loss_ratio)
}

fn latencies(which: &str, hist: &Hist) -> Vec<(String, String)> {
    [0.5, 0.99, 0.999, 1.0]
        .map(|quantile| {
            (
                format!("{}{which}", units::percentile(quantile)),
                at(hist, quantile),
            )
        })
        .into()
}

fn at(hist: &Hist, quantile: f64) -> String {
    if hist.is_empty() {
        return UNKNOWN.to_owned();
    }
    units::nanos(hist.value_at(quantile))
}

fn figure(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;

    /// The answer to a search that is `change`d, with the figures of its bounds.
    fn answer(change: impl FnOnce(&mut SearchResult)) -> (String, [String; 3]) {
        let mut result = fixture::search();
        change(result.search.as_mut().unwrap());
        let answer = Answer::of(&result);
        let value = |name: &str| {
            let mut named = answer.figures.iter().filter(|figure| figure.0 == name);
            named.next().unwrap().1.clone()
        };
        let bounds = ["rate found", "lower bound", "upper bound"].map(value);
        (answer.answer, bounds)
    }

    #[test]
    fn a_rate_that_was_found_lies_between_its_bounds() {
        let (answer, [found, lower, upper]) = answer(|_| {});
        assert_eq!(found, lower);
        let words = format!("{found}; it lies between {lower} and {upper}. The limit there: ");
        assert!(answer.starts_with(&words), "{answer}");
    }

    #[test]
    fn a_rate_without_an_upper_bound_is_the_highest_that_was_tried() {
        let (answer, [found, _, upper]) = answer(|search| search.upper_pps = None);
        let words = format!("{found} at least: it is the highest rate that was tried.");
        assert!(answer.starts_with(&words), "{answer}");
        assert_eq!(upper, UNKNOWN);
    }

    #[test]
    fn a_search_that_was_stopped_says_so_and_claims_no_bounds() {
        let stop = |search: &mut SearchResult| {
            search.goals[0].exit = "not finished: the receiver died".to_owned();
            (search.lower_pps, search.upper_pps) = (None, None);
            search.rate_pps = 0.0;
        };
        let (answer, bounds) = answer(stop);
        assert!(
            answer.starts_with(
                "The search was not finished: the receiver died. No rate is known to meet all goals."
            ),
            "{answer}"
        );
        assert_eq!(bounds, [UNKNOWN; 3]);
        let (answer, [found, ..]) = self::answer(|search| {
            let rate_pps = search.lower_pps;
            stop(search);
            search.rate_pps = rate_pps.unwrap();
            search.lower_pps = rate_pps;
        });
        let words = format!("died. {found} is known to meet all goals. The limit");
        assert!(answer.contains(&words), "{answer}");
    }

    #[test]
    fn a_search_that_found_nothing_says_that() {
        let (answer, [found, ..]) = answer(|search| {
            search.lower_pps = None;
            search.rate_pps = 0.0;
        });
        assert!(answer.starts_with("None of the rates"), "{answer}");
        assert_eq!(found, UNKNOWN);
    }
}
