//! `binrush-bench search` as a command: trials of a real receiver for the method in [`search`](crate::search).

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use binrush_scenario::Scenario;

use super::bench::Bench;
use super::matter::Matter;
use super::options::Common;
use super::session::Session;
use super::words;
use crate::exit::{End, EndsWith as _};
use crate::patience::Patience;
use crate::search::goal::Goal;
use crate::search::{self, Measured, Sut, What, binding};
use crate::view::{self, View};

/// Find the highest rate that keeps to all goals (MLRsearch), then the latencies at 10, 50 and 90 % of it.
///
/// Ends with 0; with 1 when even the lowest rate exceeds a goal, the budget was too short or something died; 2 for wrong
/// arguments or scenarios; 3 when the generator was the limit and not the receiver; 4 when the result could not be written.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// One of miss, contacts, dialogs, mixed, each also with -tcp behind it, or a TOML file.
    scenario: String,

    #[command(flatten)]
    what: What,

    #[command(flatten)]
    common: Common,
}

/// Trials, each kept in the result.
struct Trials<'a> {
    bench: Bench,
    session: &'a mut Session,
    view: &'a View,
    goals: Vec<Goal>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::find(&args.scenario).ends_with(End::Usage)?;
    let matter = Matter::of_scenario(scenario, &args.common).ends_with(End::Usage)?;
    matter.check_searchable().ends_with(End::Usage)?;
    let patience = Patience::until_signal()?;
    let mut session = Session::begin("search", &args.common, &[])?;
    let mut bench = Bench::new(&args.common, matter, session.cores(), &patience)?;
    bench.make_steady();
    let probed = bench.is_probed();
    let wrong = |error: String| anyhow!(error);
    args.what
        .goals(probed)
        .map_err(wrong)
        .ends_with(End::Usage)?;

    session.prepare(&bench, args.what.max.unwrap_or(MAX_UNKNOWN), &patience)?;
    let max_pps = args.what.max.or_else(|| session.generator_pps());
    let max_pps = max_pps
        .context("without a self-test nobody knows how fast the generator is: name the highest rate with --max")
        .ends_with(End::Usage)?;
    let plan = args
        .what
        .plan(probed, max_pps)
        .map_err(wrong)
        .ends_with(End::Usage)?;

    let view = View::start(view::Kind::Search, args.common.json);
    let mut trials = Trials {
        bench,
        session: &mut session,
        view: &view,
        goals: plan.goals().to_vec(),
    };
    let found = search::run_search(&mut trials, &plan, &mut |progress| view.search(progress));
    view.end();
    session.found(found);
    session.finish(words::of_search)
}

impl Sut for Trials<'_> {
    fn measure(
        &mut self,
        name: &str,
        rate_pps: f64,
        duration: Duration,
    ) -> anyhow::Result<Measured> {
        let start = Instant::now();
        let view = self.view;
        let mut measured = self
            .bench
            .trial(name, rate_pps, duration, &mut |progress| {
                view.update(progress.snapshot());
            })?;
        let binding = binding::of(&measured.trial, &self.goals);
        measured.trial.binding = Some(binding.clone());
        let trial = &measured.trial;
        let remainder = trial.ledger.remainder;
        let is_exact = trial.ledger.is_exact();
        let mut told = Measured {
            intended_rate: rate_pps,
            loss_ratio: trial.ledger.loss_ratio,
            latency: trial.intended.clone(),
            duration,
            took: Duration::ZERO,
            trial: self.session.result.trials.len(),
            binding: Some(binding),
            worthless: (!is_exact).then(|| {
                format!("nobody can say what became of {remainder} packets, or of their bytes")
            }),
        };
        let trouble = measured.trouble.take();
        self.session.add(measured);
        told.took = start.elapsed();
        trouble.map_or(Ok(told), Err)
    }
}

/// For what a host is asked for before the generator was tried.
const MAX_UNKNOWN: f64 = 1e6;
