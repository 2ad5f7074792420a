//! Routing scripts: what they say, and what they did.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use binrush_engine::script::{
    Events, Host, Level, NoFunctions, Params, Program, Script, ScriptCounts, Scripts,
};
use binrush_engine::{Registry, ShardId};
use crossbeam_queue::ArrayQueue;
use serde_json::{Map, Value, json};

use super::ready::More;
use super::settings::Settings;
use crate::output::event;
use crate::text::counted;

/// The routes of a server, and what they say.
#[derive(Debug)]
pub(super) struct Routes {
    scripts: Scripts,
    voice: Arc<Voice>,
    /// Lines that found no room, as far as they were told.
    told: u64,
    told_at: Option<Instant>,
}

/// What scripts say, on its way from the shards to whoever prints it: neither waits for the other.
struct Voice {
    least: Level,
    lines: ArrayQueue<(Level, String)>,
    /// Written by shards, read for counts.
    dropped: AtomicU64,
    events: Arc<Events>,
}

/// What routes did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) routes: ScriptCounts,
    /// Lines that found no room.
    pub(crate) lines_dropped: u64,
}

/// Puts the routes in front of the handlers of all shards, if there are any.
pub(super) fn plan(settings: &Settings, registry: &mut Registry) -> anyhow::Result<Option<Routes>> {
    let script: &Script = &settings.script;
    if script.is_empty() {
        return Ok(None);
    }
    let events = Arc::new(Events::new(script.events()));
    let voice = Arc::new(Voice {
        least: settings.script_log,
        lines: ArrayQueue::new(LINES_MAX),
        dropped: AtomicU64::new(0),
        events: Arc::clone(&events),
    });
    let program = Program::link(script, Arc::new(NoFunctions), Arc::clone(&voice) as _);
    let program = program.map_err(|error| anyhow!("{error}"))?;
    let shards = settings.engine.shard_count() + settings.engine.readers;
    let scripts = Scripts::new(program, events, shards.into(), ShardId(0));
    registry.front(scripts.fronts());
    Ok(Some(Routes {
        scripts,
        voice,
        told: 0,
        told_at: None,
    }))
}

/// Its routes, for the line at the start.
pub(super) fn more(settings: &Settings) -> More {
    let names: Vec<_> = settings.script.names().collect();
    More {
        key: "routes",
        words: (!names.is_empty()).then(|| format!("routes {}", names.join(", "))),
        json: names.into(),
    }
}

impl Routes {
    /// Runs the startup route, before anything is received.
    pub(super) fn startup(&self) {
        self.scripts.startup();
    }

    /// What was said since the last time, in one text; `None`: nothing.
    pub(super) fn lines(&mut self, now: Instant, json: bool) -> Option<String> {
        let said = std::iter::from_fn(|| self.voice.lines.pop()).take(LINES_MAX);
        let mut lines: Vec<_> = said.map(|(level, text)| line(level, &text, json)).collect();
        let dropped = self.voice.dropped.load(Ordering::Relaxed);
        let is_quiet = |at: Instant| now.saturating_duration_since(at) < QUIET;
        if dropped > self.told && !self.told_at.is_some_and(is_quiet) {
            let more = counted(dropped - self.told, "line");
            let text = format!("{more} of the script found no room, and are lost");
            lines.push(line(Level::Warning, &text, json));
            (self.told, self.told_at) = (dropped, Some(now));
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            routes: self.scripts.counts(),
            lines_dropped: self.voice.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Host for Voice {
    fn wants(&self, level: Level) -> bool {
        level <= self.least
    }

    fn log(&self, level: Level, text: &str) {
        if self.lines.push((level, text.to_owned())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn raise(&self, event: &str, params: &Params<'_>) -> i32 {
        if self.events.offer(event, params) {
            1
        } else {
            -1
        }
    }

    fn subscribe(&self, event: &str, socket: &str, _: Option<u32>) -> i32 {
        let text = format!(
            "subscribe_event: {event} is not sent to {socket}: events stay in this process"
        );
        self.log(Level::Error, &text);
        -1
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voice")
            .field("least", &self.least)
            .field("waiting", &self.lines.len())
            .finish_non_exhaustive()
    }
}

impl Counts {
    /// What became of packets and runs, in a line.
    pub(super) fn line(&self) -> String {
        let ScriptCounts {
            runs,
            dropped,
            endless,
            too_deep,
            incomparable,
            events_dropped,
        } = self.routes;
        let ran = counted(runs, "run");
        let mut text = format!("script: {ran}, {} dropped", counted(dropped, "packet"));
        for (name, count) in [
            ("endless", endless),
            ("too deep", too_deep),
            ("incomparable", incomparable),
            ("events dropped", events_dropped),
            ("lines dropped", self.lines_dropped),
        ] {
            if count > 0 {
                text.push_str(&format!(", {name} {count}"));
            }
        }
        text
    }

    /// The same for tools.
    pub(super) fn json(&self) -> Value {
        let ScriptCounts {
            runs,
            dropped,
            endless,
            too_deep,
            incomparable,
            events_dropped,
        } = self.routes;
        json!({
            "runs": runs, "dropped": dropped, "endless": endless, "too_deep": too_deep,
            "incomparable": incomparable, "events_dropped": events_dropped, "lines_dropped": self.lines_dropped,
        })
    }
}

fn line(level: Level, text: &str, json: bool) -> String {
    if json {
        let words = Map::from_iter([("text".to_owned(), text.into())]);
        return event("xlog", words, json!({ "level": level.word() }));
    }
    format!("script: {level}: {text}")
}

/// Lines that may wait to be printed, which is done fifty times a second.
const LINES_MAX: usize = 4096;

/// How long nothing is said of lines that are lost after something was.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let path = std::path::Path::new("a.cfg");
        let text = "event_route[E_X] { xlog(\"$param(a)\"); }";
        let (script, _) = Script::read(path, text.into()).unwrap();
        let mut settings = Settings::default();
        settings.script = script;
        let mut registry = Registry::new();
        plan(&settings, &mut registry)
            .unwrap()
            .expect("there is one")
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_told_once_in_a_while() {
        let mut routes = routes();
        let now = Instant::now();
        assert_eq!(routes.lines(now, false), None);
        for n in 0..LINES_MAX + 2 {
            routes.voice.log(Level::Notice, &n.to_string());
        }
        let said = routes.lines(now, false).unwrap();
        assert!(
            said.starts_with("script: notice: 0\nscript: notice: 1\n"),
            "{said}"
        );
        let last = "script: warning: 2 lines of the script found no room, and are lost";
        assert_eq!(said.lines().next_back(), Some(last));
        assert_eq!(said.lines().count(), LINES_MAX + 1);
        assert_eq!(routes.counts().lines_dropped, 2);
        assert_eq!(routes.lines(now + QUIET, false), None);
    }

    #[test]
    fn levels_below_the_least_are_not_wanted_and_lines_are_json_on_request() {
        let mut routes = routes();
        assert!(routes.voice.wants(Level::Info) && !routes.voice.wants(Level::Debug));
        routes.voice.log(Level::Critical, "a\"b");
        let line: Value =
            serde_json::from_str(&routes.lines(Instant::now(), true).unwrap()).unwrap();
        assert_eq!(
            line,
            json!({ "event": "xlog", "level": "critical", "text": "a\"b" })
        );
    }

    #[test]
    fn raised_events_come_to_their_routes_and_nobody_else_takes_them() {
        let routes = routes();
        assert_eq!(routes.voice.raise("E_X", &[(Some("a"), "1")]), 1);
        assert_eq!(routes.voice.raise("E_Y", &[]), -1);
        assert_eq!(routes.voice.subscribe("E_X", "udp:127.0.0.1:1", None), -1);
    }
}
