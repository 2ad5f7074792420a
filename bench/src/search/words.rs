//! A search in words.

use std::fmt::Write as _;

use crate::result::{SearchResult, Trial};
use crate::view::units::{nanos, pps};

/// The result of a search, whose trials are `trials`: what was found, for which goals, what binds, and the latencies below it.
pub(crate) fn text(found: &SearchResult, trials: &[Trial]) -> String {
    let mut text = headline(found);
    for goal in &found.goals {
        let _ = writeln!(text, "  goal      {}: {}", goal.goal, goal.exit);
        let bound = |pps_or_none: Option<f64>| {
            pps_or_none.map_or_else(|| "none".to_owned(), |rate| format!("{}/s", pps(rate)))
        };
        let _ = write!(
            text,
            "            bounds {} and {}",
            bound(goal.lower_pps),
            bound(goal.upper_pps)
        );
        if let Some(throughput) = goal.throughput_pps {
            let _ = write!(text, ", conditional throughput {}/s", pps(throughput));
        }
        text.push('\n');
    }
    let binding = &found.binding;
    let _ = writeln!(
        text,
        "  binding   {}: {}",
        binding.resource, binding.evidence
    );
    for (percent, place) in &found.at_percent {
        if let Some(trial) = trials.get(*place) {
            let _ = writeln!(text, "  at {percent:>2} %   {}", latencies(trial));
        }
    }
    text
}

fn headline(found: &SearchResult) -> String {
    let unfinished = found.unfinished();
    if found.rate_pps <= 0.0 {
        return match unfinished {
            Some(_) => {
                "the search was not finished, and found no rate that keeps to all goals yet\n"
            }
            None => "found no rate that keeps to all goals\n",
        }
        .to_owned();
    }
    let rate = found.rate_pps;
    let upper = match (found.upper_pps, unfinished) {
        (Some(upper), _) => {
            let width = (upper - rate) / upper * 100.0;
            format!("{}/s no longer does, {width:.2} % above", pps(upper))
        }
        (None, None) => "it is the highest rate that was tried".to_owned(),
        (None, Some(_)) => "whether a higher one does is not known".to_owned(),
    };
    format!("{} packets/s keep to all goals; {upper}\n", pps(rate))
}

fn latencies(trial: &Trial) -> String {
    let rate = format!("{}/s", pps(trial.offered_pps));
    let latency = &trial.intended;
    if latency.is_empty() {
        return format!("{rate}, latency not known");
    }
    let at = |quantile| nanos(latency.value_at(quantile));
    format!(
        "{rate}, latency p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        nanos(latency.max()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Binding, GoalResult};

    fn found() -> SearchResult {
        SearchResult {
            goals: vec![GoalResult {
                goal: "loss <= 0".to_owned(),
                lower_pps: Some(312_345.4),
                upper_pps: Some(313_900.0),
                throughput_pps: Some(312_345.4),
                exit: "regular".to_owned(),
            }],
            rate_pps: 312_345.4,
            lower_pps: Some(312_345.4),
            upper_pps: Some(313_900.0),
            binding: Binding {
                resource: "receiver core".to_owned(),
                evidence: "busy 99 %".to_owned(),
            },
            at_percent: vec![(10, 7)],
        }
    }

    #[test]
    fn a_result_names_rate_bounds_goal_and_what_binds() {
        let text = text(&found(), &[]);
        for words in [
            "312 345 packets/s keep to all goals; 313 900/s no longer does, 0.50 % above",
            "loss <= 0: regular",
            "bounds 312 345/s and 313 900/s, conditional throughput 312 345/s",
            "binding   receiver core: busy 99 %",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        // The trial at 10 % is not among those that were handed over.
        assert!(!text.contains("at 10 %"), "{text}");
    }

    #[test]
    fn a_rate_without_an_upper_bound_is_the_highest_tried_or_not_the_last_word() {
        let mut found = found();
        found.upper_pps = None;
        found.goals[0].upper_pps = None;
        let kept = text(&found, &[]);
        assert!(
            kept.contains("it is the highest rate that was tried"),
            "{kept}"
        );
        found.goals[0].exit = "not finished: the receiver died".to_owned();
        let stopped = text(&found, &[]);
        assert!(stopped.contains("is not known\n"), "{stopped}");
        assert!(
            stopped.contains("not finished: the receiver died"),
            "{stopped}"
        );
        found.rate_pps = 0.0;
        assert!(text(&found, &[]).starts_with("the search was not finished"));
    }

    #[test]
    fn a_search_without_a_result_says_so() {
        let mut found = found();
        found.rate_pps = 0.0;
        found.goals[0].lower_pps = None;
        found.goals[0].throughput_pps = None;
        let text = text(&found, &[]);
        assert!(text.starts_with("found no rate"), "{text}");
        assert!(text.contains("bounds none and 313 900/s\n"), "{text}");
    }
}
