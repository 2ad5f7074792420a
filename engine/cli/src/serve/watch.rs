//! What the control thread does while shards receive.

use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::event::Bus;
use binrush_engine::relay::Relay;
use binrush_engine::{Clock as _, Snapshot};
use serde_json::{Map, Value, json};

use super::handover::Heir;
use super::script::Routes;
use super::{Ending, Errands, LINES_MAX, Server, events, modules};
use crate::metrics::{Clusters, Modules, Tables};
use crate::output::{Output, event};
use crate::signal::Signals;
use crate::tally;
use crate::text::counted;

impl Server<'_> {
    /// Looks after the engine until a signal ends it or a shard ends by itself, and prints a line per interval.
    /// A line that is not taken is told with the next one.
    pub(super) fn watch(&mut self, signals: &Signals) -> anyhow::Result<Ending> {
        // Nothing was told yet: what came before this line belongs to the first interval.
        let (mut then, mut told) = (Instant::now(), None::<Snapshot>);
        let mut sampled = then;
        while !signals.stop.load(Ordering::Relaxed) && self.engine.is_running() {
            thread::sleep(STOP_LATENCY);
            if signals.reload.swap(false, Ordering::Relaxed) {
                self.reload();
            }
            if let Some(probe) = &self.probe {
                probe.tend();
            }
            if let Some(heir) = self.heir() {
                return Ok(Ending::Handover(heir));
            }
            self.service.look_after(&self.engine);
            self.tell_clusters();
            self.tell_routes();
            if sampled.elapsed() < SAMPLE {
                continue;
            }
            // Also when nothing is printed: the kernel's count of drops must not come round unseen.
            let now = self.engine.snapshot()?;
            sampled = Instant::now();
            self.service.status(status(&now));
            self.closed.gather(&now.streams);
            self.tell_refusals(&now);
            self.tell_certificates();
            let clusters = self.look_at_clusters(&now);
            let tables = self.look_at_tables();
            if let Some(asked) = &self.asked {
                asked.show(&now);
            }
            let (modules, module_news) = self.look_at_modules();
            let relay = self.relay.as_ref().map(Relay::snapshot);
            let relay = relay.unwrap_or_default();
            for notice in self.relay_news.due(Instant::now(), &relay) {
                self.tell("relay", &notice.text, notice.json);
            }
            let events = self.bus.as_ref().map(Bus::snapshot);
            if let Some(events) = &events {
                for notice in self.event_news.due(Instant::now(), events) {
                    self.tell("events", &notice.text, notice.json);
                }
            }
            if let Some(http) = &self.http {
                let script = self.routes.as_ref().map(Routes::counts);
                let more = (events, modules);
                http.show(&self.engine, &now, clusters, tables, (relay, script), more);
            }
            // Who looks at the page because of it finds it there.
            for notice in module_news {
                self.tell("module", &notice.text, notice.json);
            }
            let (every, elapsed) = (self.settings.stats, sampled - then);
            if every.is_zero() || elapsed < every {
                continue;
            }
            let mut news = told
                .as_ref()
                .map_or_else(|| now.clone(), |told| now.since(told));
            self.closed.put_into(&mut news.streams);
            if self.output.print(interval(&news, elapsed, self.args.json)) {
                (then, told) = (sampled, Some(now));
                self.closed.forget();
            }
        }
        Ok(Ending::Stop)
    }

    /// Who has asked for the sockets and waits for them. Who asked and does not want them is told of.
    fn heir(&self) -> Option<Heir> {
        let stream = self.asked.as_ref()?.heir()?;
        match Heir::offer(stream, &self.engine) {
            Ok(heir) => Some(heir),
            Err(why) => {
                let text = format!("warning: {why}; going on as before");
                self.tell("handover", &text, json!({ "done": false }));
                None
            }
        }
    }

    /// What has become worth knowing of certificates while time passed.
    pub(super) fn tell_certificates(&mut self) {
        let (told, looked) = &mut self.certificates;
        if looked.elapsed() < CERTIFICATES {
            return;
        }
        *looked = Instant::now();
        let now = self.engine.certificate_warnings();
        for warning in now.iter().filter(|warning| !told.contains(warning)) {
            self.output.print(if self.args.json {
                event("warning", Map::new(), json!({ "text": warning }))
            } else {
                format!("warning: {warning}")
            });
        }
        *told = now;
    }

    /// What the routes said.
    fn tell_routes(&mut self) {
        let json = self.args.json;
        let routes = self.routes.as_mut();
        if let Some(lines) = routes.and_then(|routes| routes.lines(Instant::now(), json)) {
            self.output.print(lines);
        }
    }

    /// What happened in the clusters.
    fn tell_clusters(&mut self) {
        let bus = self.bus.as_ref();
        let news = self.seats.as_mut().map(|seats| seats.news(bus));
        for notice in news.unwrap_or_default() {
            self.tell("cluster", &notice.text, notice.json);
        }
    }

    /// What is known of the clusters. That their threads have ended, or do not answer, is told when it begins and when
    /// it is over: packets are received all the same, and nobody would see why the other nodes miss us.
    fn look_at_clusters(&mut self, counts: &Snapshot) -> Clusters {
        let Some(seats) = &mut self.seats else {
            return Clusters::default();
        };
        seats.heed(counts);
        let clusters = seats.look();
        if let Some(bus) = &self.bus {
            self.suspects.heed(bus, &clusters.facts);
        }
        if clusters.trouble != self.trouble {
            let (text, is_over) = match &clusters.trouble {
                Some(trouble) => (format!("warning: {trouble}"), false),
                None => ("the clusters' thread answers again".to_owned(), true),
            };
            let more = json!({ "kind": "trouble", "over": is_over });
            self.tell("cluster", &text, more);
            self.trouble.clone_from(&clusters.trouble);
        }
        clusters
    }

    /// What is known of the records. That changes do not reach the disk is told when it begins and when it is over.
    fn look_at_tables(&mut self) -> Tables {
        let tables = self.journal.look();
        for news in self.journal.news(&tables) {
            let more = json!({ "table": &*news.table, "shard": news.shard, "over": news.is_over });
            self.tell("journal", &news.text, more);
        }
        if let Some((text, is_over)) = self.journal.clock_news() {
            self.tell("clock", &text, json!({ "over": is_over }));
        }
        tables
    }

    /// What is known of modules from shared libraries, and who is to be told of because he takes too long, misreads or does not return.
    fn look_at_modules(&mut self) -> (Modules, Vec<modules::Notice>) {
        let callbacks = self.modules.map(|modules| modules.counts());
        let callbacks = callbacks.unwrap_or_default();
        let news = self.module_news.due(Instant::now(), &callbacks);
        // Functions of modules tell some of them, so nobody asks where nobody sees them.
        let errands = self.errands.as_ref().filter(|_| self.http.is_some());
        let statistics = errands.map(Errands::statistics);
        let modules = Modules {
            callbacks,
            statistics: statistics.unwrap_or_default(),
        };
        (modules, news)
    }

    /// What was refused or lost lately, in a bounded number of lines.
    fn tell_refusals(&mut self, now: &Snapshot) {
        let samples: Vec<_> = self.engine.samples().collect();
        let outcomes = &now.total.outcomes;
        for refusal in self.refusals.due(self.clock.now(), outcomes, &samples) {
            let more = json!({ "outcome": refusal.outcome.symbol(), "count": refusal.count });
            self.tell("refused", &refusal, more);
        }
        let refused = self.engine.refused_connections();
        for notice in self.streams.due(Instant::now(), &now.streams, &refused) {
            self.tell(notice.event(), &notice, notice.json());
        }
        for loss in self.losses.due(Instant::now(), now) {
            if let Some(bus) = &self.bus {
                events::raise_loss(bus, &loss);
            }
            let more = json!({ "kind": loss.symbol, "count": loss.count });
            self.tell("lost", &loss, more);
        }
    }

    /// A line in words, or the event with `more` and the words.
    pub(super) fn tell(&self, name: &str, what: &impl Display, more: Value) {
        tell(self.output, self.args.json, name, what, more);
    }
}

/// As [`Server::tell`].
pub(super) fn tell(output: &Output, json: bool, name: &str, what: &impl Display, more: Value) {
    let text = what.to_string();
    output.print(if json {
        let words = Map::from_iter([("text".to_owned(), text.into())]);
        event(name, words, more)
    } else {
        text
    });
}

fn interval(counts: &Snapshot, elapsed: Duration, json: bool) -> String {
    let seconds = elapsed.as_secs_f64();
    if json {
        let more = json!({ "seconds": seconds });
        return event("interval", tally::json(counts), more);
    }
    let total = &counts.total;
    let mut text = format!(
        "{}, {}, {:.0}/s",
        counted(total.received, "packet"),
        counted(total.bytes, "byte"),
        total.received as f64 / seconds
    );
    for part in [
        tally::latency(total).unwrap_or_default(),
        tally::line(counts),
        tally::streams::part(&counts.streams),
    ] {
        if !part.is_empty() {
            text.push_str(" | ");
            text.push_str(&part);
        }
    }
    let peers = tally::streams::peers(tally::streams::rows(&counts.streams), LINES_MAX);
    let links = tally::streams::links(&counts.streams.links, LINES_MAX);
    for line in peers.into_iter().chain(links) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// How a server is, for who lists services.
fn status(counts: &Snapshot) -> String {
    let (total, kernel) = (&counts.total, counts.kernel);
    format!(
        "{} received, {} dropped by the kernel",
        counted(total.received, "packet"),
        kernel.total()
    )
}

/// How often certificates are looked at: they end on a day.
const CERTIFICATES: Duration = Duration::from_secs(12 * 3600);

/// How often the counters are read, printed or not.
const SAMPLE: Duration = Duration::from_secs(1);

/// How late a signal is noticed at most.
const STOP_LATENCY: Duration = Duration::from_millis(20);
