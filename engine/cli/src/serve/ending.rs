//! How a server ends: its totals, and what becomes of its sockets.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use binrush_engine::Engine;
use binrush_engine::engine::{Estate, StopCause, StopError};
use binrush_engine::event::BusSnapshot;
use serde_json::{Value, json};

use super::cluster::Seats;
use super::handover::{Before, From, Given, Taken};
use super::records::Journal;
use super::script::{self, Routes};
use super::settings::Settings;
use super::watch::tell;
use super::{Again, Args, Closing, Modules, Run, Server, events, modules, relay};
use crate::output::{Output, event};
use crate::probe::{self, Probe};
use crate::tally;
use crate::text::counted;

impl Closing {
    /// Tells the totals, and whatever went wrong; what to exit with.
    pub(super) fn tell(self, output: Output, json: bool, more: Value) -> anyhow::Result<ExitCode> {
        let text = last(&self, json, more);
        let written = output.finish(text.clone());
        let is_balanced = self.is_balanced();
        self.watched?;
        self.stopped?;
        written.map_err(|error| anyhow!("cannot write to standard output: {error}\n{text}"))?;
        Ok(if is_balanced {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// What the shards gave until their end goes on, as far as targets and subscribers take it within `drain`. Behind whatever somebody waits for.
    fn end_relay(&mut self, drain: Duration) {
        if let Some(relay) = self.relay.take() {
            self.relayed = relay.stop(drain);
        }
        if let Some(bus) = self.bus.take() {
            self.told = Some(bus.stop(drain));
        }
    }

    pub(super) fn is_balanced(&self) -> bool {
        self.totals.is_balanced()
            && relay::is_told(&self.relayed)
            && self.told.as_ref().is_none_or(BusSnapshot::is_balanced)
            && self
                .routes
                .as_ref()
                .is_none_or(|each| each.counts().is_balanced())
    }
}

impl Server<'_> {
    /// Whatever went wrong, and whoever reads the output or does not: first the queues are drained, then the totals are
    /// told, then the rest. Sockets that a service manager keeps are left to the next start as they are.
    pub(super) fn stop(self) -> (Closing, Option<Estate>) {
        self.service.stopping();
        let kept = self.service.keeps();
        let estate = kept.then(|| self.engine.estate().ok()).flatten();
        if estate.is_some() {
            self.drain();
        }
        let (_, mut closing, estate) = self.end(estate);
        closing.end_relay(relay::DRAIN);
        (closing, estate)
    }

    /// Lets the shards receive what is queued, which may be longer on its way than who stops a service for good expects; what
    /// is left then is told, and waits for the next start.
    fn drain(&self) {
        let deadline = Instant::now() + DRAIN_MAX;
        let queued = || match self.engine.is_running() {
            true => self.engine.queued_bytes().unwrap_or(0),
            false => 0,
        };
        while queued() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let left = self.engine.queued_bytes().unwrap_or(0);
        if left > 0 {
            let text = format!(
                "{} of the kernel's memory are queued, and are left to the next start with the sockets that the service \
                 manager keeps; they are lost if that never comes",
                counted(left, "byte")
            );
            self.tell("handover", &text, json!({ "left_in_queue_bytes": left }));
        }
    }

    /// Ends, and leaves the sockets as they are, which are those of `estate`.
    pub(super) fn leave(self, estate: Estate) -> (Settings, Closing, Estate) {
        let (settings, closing, estate) = self.end(Some(estate));
        (settings, closing, estate.unwrap_or_default())
    }

    /// Ends everything, the sockets too unless they are left as they are.
    fn end(self, estate: Option<Estate>) -> (Settings, Closing, Option<Estate>) {
        let Self {
            args,
            settings,
            engine,
            seats,
            journal,
            modules,
            mut module_news,
            asked,
            relay,
            bus,
            routes,
            probe,
            http,
            output,
            mut closed,
            ..
        } = self;
        drop(http);
        for left in seats.map(Seats::leave).unwrap_or_default() {
            let more = json!({ "kind": "trouble", "over": false });
            let text = format!("warning: {left}");
            tell(output, args.json, "cluster", &text, more);
        }
        let (ended, estate) = match estate {
            Some(mut estate) => (engine.leave(&mut estate), Some(estate)),
            None => (engine.stop(), None),
        };
        if let Some(modules) = modules.filter(|_| estate.is_some()) {
            modules.send_from_nowhere();
        }
        // All shards have ended: they say nothing behind it.
        let mut routes = routes;
        let routes_say = routes.as_mut();
        if let Some(lines) = routes_say.and_then(|each| each.lines(Instant::now(), args.json)) {
            output.print(lines);
        }
        let (mut totals, stopped) = match ended {
            Ok(totals) => (totals, Ok(())),
            Err(StopError { totals, cause, .. }) => (*totals, Err(cause)),
        };
        if is_cut_off(&stopped) {
            module_news.due(Instant::now(), &[]);
            for stuck in module_news.stuck() {
                let text =
                    format!("warning: {stuck}; its packet and those behind it are in no counter");
                tell(output, args.json, "module", &text, json!({ "stuck": true }));
            }
        }
        // Behind the drain: who asks a shard that hangs must not hold it up.
        drop(asked);
        for wrong in journal.stop(stopped.is_ok()) {
            let text = format!("warning: {wrong}");
            tell(
                output,
                args.json,
                "journal",
                &text,
                json!({ "over": false }),
            );
        }
        closed.gather(&totals.streams);
        closed.put_into(&mut totals.streams);
        let closing = Closing {
            totals,
            stopped,
            relayed: Vec::new(),
            relay,
            told: None,
            bus,
            routes,
            measured: probe.map(Probe::finish),
            modules: modules.map(Modules::counts).unwrap_or_default(),
            watched: Ok(()),
        };
        (settings, closing, estate)
    }
}

/// Ends an engine whose sockets go back to who gave them, and tells what it received meanwhile. What the kernel dropped is told
/// by that one, which counts on from its own last look.
pub(super) fn give_back(engine: Engine, journal: Journal, output: Output, json: bool) {
    let ended = match engine.estate() {
        Ok(mut estate) => engine.leave(&mut estate),
        // Dropping it shuts nothing either.
        Err(_) => return,
    };
    let (mut totals, is_whole) = match ended {
        Ok(totals) => (totals, true),
        Err(StopError { totals, .. }) => (*totals, false),
    };
    let left = totals.kernel.left_in_queue_bytes;
    totals.kernel = Default::default();
    totals.kernel.left_in_queue_bytes = left;
    // Who takes the sockets back opens the journals again.
    let _ = journal.stop(is_whole);
    let closing = Closing {
        totals,
        relayed: Vec::new(),
        relay: None,
        told: None,
        bus: None,
        routes: None,
        stopped: Ok(()),
        measured: None,
        modules: Vec::new(),
        watched: Ok(()),
    };
    let more = json!({ "handed_over": false });
    let _ = output.finish(last(&closing, json, more));
}

/// What a run came to whose sockets were given to an heir; or what is gone on with, because that one is gone.
pub(super) fn pass_on(
    args: &Args,
    settings: Settings,
    mut closing: Closing,
    (given, estate, before): (Result<Given, String>, Estate, Before),
    output: Output,
) -> anyhow::Result<Run> {
    closing.end_relay(match given {
        Ok(_) => relay::DRAIN,
        Err(_) => relay::DRAIN_SHORT,
    });
    let why = match given {
        Ok(Given::Ready) => {
            let more = json!({ "handed_over": true });
            return Ok(Run::Over(closing.tell(output, args.json, more)?));
        }
        Ok(Given::Unconfirmed) => {
            let text = "warning: asked to end while the heir was not ready: it has the sockets, and nobody takes them back if it \
                        fails";
            let more = json!({ "done": "unconfirmed" });
            tell(&output, args.json, "handover", &text, more);
            let more = json!({ "handed_over": "unconfirmed" });
            closing.tell(output, args.json, more)?;
            return Ok(Run::Over(ExitCode::FAILURE));
        }
        Err(why) => why,
    };
    // The totals of this run; the next one has its own.
    let more = json!({ "handed_over": false });
    output.print(last(&closing, args.json, more));
    let text = format!("warning: the sockets are taken back: {why}");
    tell(
        &output,
        args.json,
        "handover",
        &text,
        json!({ "done": false }),
    );
    closing.stopped?;
    let taken = Taken {
        estate,
        before,
        from: From::Ourselves(why),
    };
    let again = Again {
        settings,
        taken,
        output,
    };
    Ok(Run::Again(Box::new(again)))
}

/// Whether a shard ended in the middle of a packet, or does not end.
const fn is_cut_off(stopped: &Result<(), StopCause>) -> bool {
    matches!(
        stopped,
        Err(StopCause::Stuck { .. } | StopCause::Panicked { .. })
    )
}

fn last(closing: &Closing, json: bool, more: Value) -> String {
    let Closing {
        totals,
        relayed,
        told,
        routes,
        measured,
        modules,
        ..
    } = closing;
    let balanced = closing.is_balanced();
    let routes = routes.as_ref().map(Routes::counts);
    if json {
        let mut counts = tally::json(totals);
        if !relayed.is_empty() {
            counts.insert("relay".to_owned(), relay::json(relayed));
        }
        if let Some(told) = told {
            counts.insert("events".to_owned(), events::json(told));
        }
        counts.extend(routes.map(|routes| ("script".to_owned(), routes.json())));
        counts.extend(
            measured
                .as_ref()
                .map(|report| ("probe".to_owned(), json!(report))),
        );
        if !modules.is_empty() {
            counts.insert("modules".to_owned(), modules::json(modules));
        }
        if let Value::Object(more) = more {
            counts.extend(more);
        }
        return event("total", counts, json!({ "balanced": balanced }));
    }
    let total = &totals.total;
    let words = tally::line(totals);
    let separator = if words.is_empty() { "" } else { " | " };
    let mut lines = vec![
        format!(
            "total: {}, {}{separator}{words}",
            counted(total.received, "packet"),
            counted(total.bytes, "byte")
        ),
        tally::received_equation(total),
    ];
    if totals.shards.len() > 1 {
        lines.push(tally::by_shard(totals));
    }
    lines.extend(tally::meanings(total));
    lines.extend(tally::streams::closing(&totals.streams));
    lines.push(tally::kernel(totals.kernel));
    lines.extend(tally::host(totals.host));
    lines.extend(relay::lines(relayed));
    lines.extend(told.iter().flat_map(events::lines));
    lines.extend(modules.iter().map(modules::line));
    lines.extend(routes.iter().map(script::Counts::line));
    lines.extend(measured.iter().flat_map(probe::lines));
    let verdict = if balanced {
        "balanced"
    } else if is_cut_off(&closing.stopped) {
        "not balanced: a shard did not come to its end"
    } else {
        "NOT BALANCED: please report this"
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}

/// The longest that a stop receives what is queued in sockets that outlive it.
const DRAIN_MAX: Duration = Duration::from_millis(200);
