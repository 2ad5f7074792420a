//! `binrush-bench load`: a scenario at a rate, open loop, and where every packet went.

use std::process::ExitCode;
use std::time::Duration;

use binrush_scenario::Scenario;

use crate::exit::{End, EndsWith as _};
use crate::patience::Patience;
use crate::view::{self, View};
use bench::Bench;
use matter::Matter;
use options::{Common, rate, time};
use session::Session;

/// One load at one rate.
pub(crate) mod bench;
/// What is sent.
pub(crate) mod matter;
/// What load, search and replay are told alike.
pub(crate) mod options;
/// More than the receiver can take.
pub(crate) mod overload;
/// Many trials at many rates.
pub(crate) mod searching;
/// A run from its start to its result.
pub(crate) mod session;
/// A load in words.
mod words;

/// Send a scenario at a rate, open loop: a packet is due when the schedule says so, whatever the receiver does.
///
/// Ends with 0; with 1 when the ledger has a remainder or something died; 2 for wrong arguments or scenarios; 3 when the
/// generator was the limit; 4 when the result could not be written.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One of miss, contacts, dialogs, mixed, each also with -tcp behind it, or a TOML file.
    scenario: String,

    /// Packets per second, all senders together: 50000, 50k, 1.5M.
    #[arg(long, value_name = "PPS", value_parser = rate, default_value = "50k")]
    rate: f64,

    /// How long: 10s, 2m.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    seconds: Duration,

    #[command(flatten)]
    common: Common,
}

/// What to do, once it is clear what is sent.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: &'static str,
    pub(crate) rate_pps: f64,
    pub(crate) length: Duration,
    /// What one should know about what is sent.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::find(&args.scenario).ends_with(End::Usage)?;
    let matter = Matter::of_scenario(scenario, &args.common).ends_with(End::Usage)?;
    let order = Order {
        command: "load",
        rate_pps: args.rate,
        length: args.seconds,
        notes: Vec::new(),
    };
    measure(&args.common, matter, order)
}

/// Sends `matter` once, and tells.
pub(crate) fn measure(common: &Common, matter: Matter, order: Order) -> anyhow::Result<ExitCode> {
    let patience = Patience::until_signal()?;
    let mut session = Session::begin(order.command, common, &order.notes)?;
    let mut bench = Bench::new(common, matter, session.cores(), &patience)?;
    session.prepare(&bench, order.rate_pps, &patience)?;
    let kind = if order.command == "replay" {
        view::Kind::Replay
    } else {
        view::Kind::Load
    };
    let view = View::start(kind, common.json);
    let measured = bench.trial("load", order.rate_pps, order.length, &mut |progress| {
        view.update(progress.snapshot());
    });
    view.end();
    session.add(measured?);
    session.finish(words::text)
}
