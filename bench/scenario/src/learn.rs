//! A scenario from a capture: the load that some node really had.
//!
//! A capture holds the packets of many nodes to many; a scenario is what one receiver gets from one sender. So the way
//! with the most packets that a scenario can have is taken, and what was left out is said.
//!
//! ```text
//!  Capture ─▶ frame ─▶ which way? ─▶ Tally of that way ─▶ shares, sizes, keys, durations, gaps ─▶ Scenario
//!                 └─▶ not for a scenario: counted by name                    └─▶ comments
//! ```

use std::io::Read;

use binrush_capture::{Capture, Event, OpenError, Options, Timestamp};
use binrush_wire::Release;

use crate::error::ScenarioError;
use crate::limits;
use crate::scenario::{Form, Scenario};
use tally::Tally;
use ways::{Way, Ways};

/// How long calls last.
mod durations;
/// How packets are spread over time.
mod gaps;
/// How often each record is spoken of.
mod popularity;
/// How long packets are.
mod sizes;
/// What came one way.
mod tally;
/// From whom to whom.
mod ways;

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// The same load, as far as a scenario can say it.
    pub scenario: Scenario,
    /// Its rate in the capture, in packets per second; `None` when the capture says no times.
    pub rate_pps: Option<f64>,
    /// What the scenario does not say: where it comes from, what was left out, what was guessed. A line each.
    pub comments: Vec<String>,
    /// What in the capture could not be read, at most [`PROBLEMS_MAX`] of it. The scenario is of the rest.
    pub problems: Vec<String>,
    /// How many problems there were.
    pub problem_count: u64,
}

/// A capture from which nothing can be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// It cannot be read at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds no packets that a scenario can have.
    #[error(
        "no packets of dialogs or contacts, nor of names that are unknown here, among {frames} BIN packets in {records} \
         records: capture the traffic that goes to the BIN port"
    )]
    Nothing {
        /// Records in the file.
        records: u64,
        /// BIN packets among them.
        frames: u64,
    },
    /// What was learned is no scenario.
    #[error("the capture makes no scenario: {0}")]
    Scenario(#[from] ScenarioError),
}

/// Learns from the capture that `reader` gives, pcap or pcapng, plain or gzipped; `name` is what the scenario is called.
///
/// Memory is bounded, whatever the capture holds: what is beyond the bounds is said in the comments. What in the capture
/// is broken or cut off is told in [`Learned::problems`]; the rest of it is used.
///
/// # Errors
/// [`LearnError`] when there is nothing to learn from.
pub fn learn(reader: impl Read, name: &str) -> Result<Learned, LearnError> {
    let mut capture = Capture::new(reader, Options::default())?;
    let mut ways = Ways::default();
    let mut problems = Vec::new();
    let (mut first, mut last) = (None, Timestamp::EPOCH);
    while let Some(event) = capture.next() {
        match event {
            Event::Frame(frame) => {
                first = first.or(Some(frame.time));
                last = last.max(frame.time);
                ways.add(&frame);
            }
            Event::Problem(problem) if problems.len() < PROBLEMS_MAX => {
                problems.push(problem.to_string());
            }
            Event::Problem(_) => {}
        }
    }
    let totals = capture.totals();
    let (Some(first), Some((way, tally, elsewhere))) = (first, ways.busiest()) else {
        return Err(LearnError::Nothing {
            records: totals.records,
            frames: totals.frames,
        });
    };
    let mut comments = vec![format!(
        "Learned from {} BIN packets in {} records of a capture of {:.3} s.",
        totals.frames,
        totals.records,
        last.since(first).as_secs_f64()
    )];
    tell_problems(&problems, totals.problems, &mut comments);
    comments.push(format!(
        "Used: {} packets {way}; {elsewhere} of such kinds that went other ways are left out.",
        tally.packets()
    ));
    let (scenario, rate_pps) = assemble(name, &way, &tally, &mut comments)?;
    Ok(Learned {
        scenario,
        rate_pps,
        comments,
        problems,
        problem_count: totals.problems,
    })
}

fn tell_problems(problems: &[String], count: u64, comments: &mut Vec<String>) {
    if count > 0 {
        comments.push(format!(
            "WARNING: parts of the capture could not be read, and this is of the rest. Problems: {count}, the first of them:"
        ));
    }
    let shown = problems.iter().take(SHOWN_MAX);
    comments.extend(shown.map(|problem| format!("  {problem}")));
}

impl Learned {
    /// The scenario as a file, with the comments at its head.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            // Names and errors come from the capture: nothing of it may end the comment.
            let comment = comment.replace(char::is_control, "?");
            text.push_str(format!("# {comment}").trim_end());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.scenario.to_toml());
        text
    }
}

/// The scenario of one way, and its rate.
fn assemble(
    name: &str,
    way: &Way,
    tally: &Tally,
    comments: &mut Vec<String>,
) -> Result<(Scenario, Option<f64>), LearnError> {
    let parts = tally.parts(comments);
    let (arrivals, rate_pps) = gaps::learn(&tally.times, comments);
    let form = form(way, tally, comments);
    tally.tell_left_out(comments);
    let rate = rate_pps.map_or_else(
        || "at times that the capture does not say".to_owned(),
        |rate| format!("{} packets/s", rounded(rate)),
    );
    let scenario = Scenario {
        name: line(name, limits::NAME.max),
        description: line(
            &format!("Learned from {name}: {} packets, {rate}", tally.packets()),
            limits::DESCRIPTION.max,
        ),
        form,
        seed: 1,
        parts,
        arrivals,
    };
    scenario.check()?;
    Ok((scenario, rate_pps))
}

fn form(way: &Way, tally: &Tally, comments: &mut Vec<String>) -> Form {
    let ids = match way {
        Way::Datagrams { .. } => return Form::Datagrams,
        Way::Stream { .. } => None,
        Way::Nodes {
            cluster,
            source,
            destination,
        } => Some([*cluster, *source, *destination]),
    };
    let usable = |[cluster, source, destination]: &[i32; 3]| {
        *cluster > 0 && *source > 0 && *destination > 0 && source != destination
    };
    let [cluster, source, destination] = ids.filter(usable).unwrap_or_else(|| {
        comments.push(
            "The packets do not say ids of cluster and nodes that a scenario can have: 1, and from 1 to 2, are made up."
                .to_owned(),
        );
        [1, 1, 2]
    });
    let (oldest, newest) = tally.releases();
    let release = oldest.max(Release::V2_4);
    comments.push(if newest < Release::V2_4 {
        format!("The packets are of {newest}, which no form is for: {release} is the nearest.")
    } else if release == newest {
        format!("The packets are laid out as {release} does it.")
    } else {
        format!("The packets are laid out as {release} to {newest} do it: the oldest of them is the form.")
    });
    Form::Frames {
        release,
        cluster,
        source,
        destination,
    }
}

/// Without what is no part of a line, and not too long.
fn line(text: &str, chars_max: u64) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    let max = usize::try_from(chars_max).unwrap_or(usize::MAX);
    let line: String = printable.take(max).collect();
    if line.is_empty() {
        "learned".to_owned()
    } else {
        line
    }
}

/// With as many digits as mean something.
fn rounded(value: f64) -> f64 {
    let steps = if value >= 100.0 { 1.0 } else { 1000.0 };
    (value * steps).round() / steps
}

/// Problems that are kept with their words.
pub const PROBLEMS_MAX: usize = 20;

/// Problems that stand in the comments.
const SHOWN_MAX: usize = 5;

#[cfg(test)]
mod tests;
