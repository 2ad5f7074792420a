//! The figures of a result as JSON with one shape for all commands: numbers only, no histograms.

use binrush_probe::Hist;
use serde_json::{Value, json};

use super::answer::Answer;
use super::facts;
use super::goal::{self, Goal, Verdict};
use crate::result::{RunResult, Trial};

/// Times in nanoseconds, rates in packets per second.
pub(super) fn of(result: &RunResult) -> Value {
    let answer = Answer::of(result);
    let goals = goal::goals(result.search.as_ref());
    let trials: Vec<Value> = result
        .trials
        .iter()
        .map(|trial| of_trial(trial, &goals))
        .collect();
    let self_test: Vec<Value> = result
        .self_test
        .iter()
        .map(|row| {
            json!({
                "way": row.way,
                "size": row.size,
                "rate_pps": row.rate_pps,
                "ns_per_packet": row.ns_per_packet,
                "lateness_at_pps": row.lateness_at_pps,
                "lateness": of_hist(&row.lateness),
                "unsent": row.unsent,
                "lost": row.lost,
            })
        })
        .collect();
    json!({
        "summary": 1,
        "command": result.command,
        "question": answer.question,
        "answer": answer.answer,
        "complete": result.complete,
        "trouble": result.trouble,
        "worthless": facts::is_worthless(result),
        "doubts": result.doubts,
        "started": result.started,
        "finished": result.finished,
        "version": result.version,
        "arguments": result.arguments,
        "search": result.search,
        "self_test": self_test,
        "trials": trials,
    })
}

fn of_trial(trial: &Trial, goals: &[Goal]) -> Value {
    let met = match Verdict::of(trial, goals) {
        Verdict::Met => Some(true),
        Verdict::Missed(_) => Some(false),
        Verdict::Unknown => None,
    };
    let receiver = &trial.receiver;
    let streams = facts::audited(trial).map(|audited| &audited.streams);
    json!({
        "name": trial.name,
        "scenario": trial.scenario,
        "transport": trial.transport,
        "arrivals": trial.arrivals,
        "seed": trial.seed,
        "seconds": trial.seconds,
        "offered_pps": trial.offered_pps,
        "sent_pps": facts::sent_pps(trial),
        "arrived_pps": facts::arrived_pps(trial),
        "sent": facts::sum(trial, |sender| sender.sent),
        "unsent": facts::sum(trial, |sender| sender.unsent),
        "arrived": facts::arrived(trial),
        "ledger": trial.ledger,
        "met": met,
        "latency": of_hist(&trial.intended),
        "latency_from_sent": of_hist(&trial.actual),
        "lateness": of_hist(&facts::lateness(trial)),
        "streams": streams,
        "receiver": {
            "name": receiver.name,
            "received": receiver.received,
            "cpu_ns": receiver.cpu_ns,
            "busy": receiver.busy,
            "backlog": receiver.backlog,
            "rcvbuf": receiver.rcvbuf,
        },
        "binding": trial.binding,
    })
}

/// `null` when there is nothing in it: 0 would be a time.
fn of_hist(hist: &Hist) -> Value {
    if hist.is_empty() {
        return Value::Null;
    }
    json!({
        "count": hist.count(),
        "min_ns": hist.min(),
        "mean_ns": hist.mean(),
        "p50_ns": hist.value_at(0.5),
        "p90_ns": hist.value_at(0.9),
        "p99_ns": hist.value_at(0.99),
        "p999_ns": hist.value_at(0.999),
        "p9999_ns": hist.value_at(0.9999),
        "max_ns": hist.max(),
    })
}
