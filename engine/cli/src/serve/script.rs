//! Routing scripts: what they say, raise and subscribe to, and what they did.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::Registry;
use binrush_engine::event::names::EventId;
use binrush_engine::event::{Bus, Expire, Listen, Param, Raised};
use binrush_engine::script::{
    Events, Functions, Host, Kind, Level, NoFunctions, Program, Script, ScriptCounts, Scripts,
};
use crossbeam_queue::ArrayQueue;
use serde_json::{Map, Value, json};

use super::modules::{HOME, Loaded, Lookout};
use super::ready::More;
use super::settings::Settings;
use crate::output::event;
use crate::text::counted;

/// The routes of a configuration with the functions that they call, once in the life of the process. Dropping it takes back what
/// preparing the calls did: behind all shards, and before the modules end.
pub(super) struct Linked<'m> {
    program: Arc<Program>,
    modules: Option<&'m Loaded>,
    /// The request route can reach code that belongs to the home shard.
    is_bound: bool,
    /// Looks after what taking back runs of modules: the last to go.
    lookout: Option<Lookout>,
}

/// The routes of a server, and what they say.
#[derive(Debug)]
pub(super) struct Routes {
    scripts: Arc<Scripts>,
    voice: Arc<Voice>,
    /// Lines that found no room, as far as they were told.
    told: u64,
    told_at: Option<Instant>,
}

/// What the scripts of one run say and raise.
struct Voice {
    least: Level,
    lines: Lines,
    /// `None`: nobody hears of anything.
    heard: Option<Heard>,
    /// `event_datagram` is loaded.
    has_subscribers: bool,
}

/// What scripts say, on its way from the shards to whoever prints it: neither waits for the other.
struct Lines {
    waiting: ArrayQueue<(Level, String)>,
    /// Their memory, when they are printed.
    spare: ArrayQueue<String>,
    /// Written by shards, read for counts.
    dropped: AtomicU64,
}

/// Who hears of what scripts raise.
struct Heard {
    bus: Bus,
    /// The numbers of the events that the program raises.
    raised: Vec<EventId>,
}

/// What routes did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) routes: ScriptCounts,
    /// Lines that found no room.
    pub(crate) lines_dropped: u64,
}

/// Finds the functions of the routes, if there are any, and prepares their calls, which runs code of `modules`; else what is wrong
/// with the configuration, with its place. A node of a cluster whose request route can reach code that runs on one shard has no others
/// from here on, which is among the warnings.
pub(super) fn link<'m>(
    settings: &mut Settings,
    modules: Option<&'m Loaded>,
) -> Result<Option<Linked<'m>>, String> {
    let script: &Script = &settings.script;
    if script.is_empty() {
        return Ok(None);
    }
    let functions: Arc<dyn Functions> = match modules {
        Some(modules) => Arc::new(modules.functions()),
        None => Arc::new(NoFunctions),
    };
    let program = Program::link(script, functions);
    let program = Arc::new(program.map_err(|error| error.to_string())?);
    let linked = Linked {
        is_bound: is_bound(&program, settings),
        program,
        modules,
        lookout: None,
    };
    Ok(Some(linked))
}

/// Whether packets have to come to the home shard, because their route can reach code that runs nowhere else.
fn is_bound(program: &Program, settings: &mut Settings) -> bool {
    let mut homes = program.homes();
    let request = homes.find(|(kind, ..)| *kind == Kind::Request);
    let modules = request.map(|(.., modules)| modules).unwrap_or_default();
    let Some(module) = modules.first() else {
        return false;
    };
    if settings.clusters.is_empty() {
        return true;
    }
    // What nodes tell each other is handled where it is read, with the connection at hand, and records are where their keys say: all
    // of that is on one shard only where there is one.
    if settings.keep_one_shard() {
        settings.warnings.push(format!(
            "route can reach functions of module {module}, which run on one shard: so this node of a cluster has one shard and no \
             readers, and what takes long there keeps the other nodes waiting\n  modparam(\"binrush\", \"reentrant\", \"{module}\") if its \
             code may run on all shards at once; or call it from timer_route, event_route or startup_route"
        ));
    }
    false
}

impl Linked<'_> {
    /// Puts the routes in front of the handlers of all shards, and the startup route before whatever they receive: behind
    /// `child_init`, if the modules were registered before.
    /// They raise by `bus`, which brings them what they have an `event_route` for, whoever raises it.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        registry: &mut Registry,
        bus: Option<&Bus>,
    ) -> anyhow::Result<Routes> {
        let events = Arc::new(Events::new(settings.script.events()));
        let program = &self.program;
        let heard = bus.map(|bus| Heard::by(bus, program.raised(), &settings.script, &events));
        let voice = Arc::new(Voice {
            least: settings.script_log,
            lines: Lines::new(),
            heard: heard.transpose()?,
            has_subscribers: settings.events.is_some(),
        });
        let shards = settings.engine.shard_count() + settings.engine.readers;
        let (program, host) = (Arc::clone(program), Arc::clone(&voice) as _);
        let scripts = Arc::new(Scripts::new(program, host, events, shards.into(), HOME));
        registry.front(scripts.fronts());
        if self.program.wants_sources() {
            registry.ask_sources();
        }
        if self.is_bound {
            registry.keep_all_on_one_shard(HOME);
        }
        let starting = Arc::clone(&scripts);
        registry.at_beginning(move |shard| {
            if shard == HOME {
                starting.startup();
            }
            Ok(())
        });
        Ok(Routes {
            scripts,
            voice,
            told: 0,
            told_at: None,
        })
    }
}

impl Drop for Linked<'_> {
    fn drop(&mut self) {
        self.lookout = self.modules.map(Loaded::last_lookout);
        // What a shard that does not come back may be using stays as it is.
        if self.modules.is_some_and(|modules| !modules.come_back()) {
            std::mem::forget(Arc::clone(&self.program));
        }
    }
}

impl Heard {
    /// Joins the events of a script with those of the process: what its routes raise has numbers, so that it can be subscribed to before
    /// anything is raised, and they hear what they are for.
    fn by(
        bus: &Bus,
        raised: &[String],
        script: &Script,
        events: &Arc<Events>,
    ) -> anyhow::Result<Self> {
        for name in script.events() {
            let listener = Arc::clone(events) as Arc<dyn Listen>;
            bus.listen(name, listener)
                .with_context(|| format!("event_route[{name}]"))?;
        }
        let numbers = raised.iter().map(|name| bus.publish(name));
        Ok(Self {
            bus: bus.clone(),
            raised: numbers.collect::<Result<_, _>>().context("raise_event")?,
        })
    }
}

impl Lines {
    fn new() -> Self {
        Self {
            waiting: ArrayQueue::new(LINES_MAX),
            spare: ArrayQueue::new(LINES_MAX),
            dropped: AtomicU64::new(0),
        }
    }

    /// Brings a line on its way. Takes memory only where no line before left any.
    fn push(&self, level: Level, text: &str) {
        let mut line = self.spare.pop().unwrap_or_default();
        line.push_str(text);
        if let Err((_, line)) = self.waiting.push((level, line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.give_back(line);
        }
    }

    /// Shows the line that waits longest; whether there is one.
    fn show(&self, show: impl FnOnce(Level, &str)) -> bool {
        let Some((level, line)) = self.waiting.pop() else {
            return false;
        };
        show(level, &line);
        self.give_back(line);
        true
    }

    /// Keeps the memory of a line, unless it is much.
    fn give_back(&self, mut line: String) {
        line.clear();
        if line.capacity() <= LINE_KEPT {
            // There are no more than wait.
            drop(self.spare.push(line));
        }
    }
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
    /// What was said since the last time, in one text; `None`: nothing.
    pub(super) fn lines(&mut self, now: Instant, json: bool) -> Option<String> {
        let mut lines = Vec::new();
        for _ in 0..LINES_MAX {
            let show = |level, text: &str| lines.push(line(level, text, json));
            if !self.voice.lines.show(show) {
                break;
            }
        }
        let dropped = self.voice.lines.dropped.load(Ordering::Relaxed);
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
            lines_dropped: self.voice.lines.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Host for Voice {
    fn wants(&self, level: Level) -> bool {
        level <= self.least
    }

    fn log(&self, level: Level, text: &str) {
        self.lines.push(level, text);
    }

    fn raise(&self, index: usize, _: &str, params: &[Param<'_>]) -> i32 {
        let heard = self.heard.as_ref();
        let raised = heard.map(|heard| heard.bus.raise_here(heard.raised[index], params));
        match raised {
            // Nobody has to be there, nor anything that could tell him (1.11 `evi/event_interface.c`, evi_raise_script_event: the first
            // question is whether anybody subscribed).
            None | Some(Raised::Taken | Raised::Unwanted) => 1,
            Some(Raised::Dropped | Raised::TooLong) => -1,
        }
    }

    fn subscribe(&self, event: &str, socket: &str, expire: Option<u32>) -> i32 {
        // (1.11 `action.c`, SUBSCRIBE_EVENT_T: 0 and nothing are for ever.)
        let expire = match expire {
            None | Some(0) => Expire::Never,
            Some(seconds) => Expire::After(seconds),
        };
        let heard = self.heard.as_ref().filter(|_| self.has_subscribers);
        let bus = heard.map(|heard| &heard.bus);
        let wrong = match bus.map(|bus| bus.subscribe(event, socket, expire, None)) {
            Some(Ok(_)) => return 1,
            Some(Err(error)) => error.to_string(),
            None => {
                "loadmodule \"event_datagram.so\" expected: without it nobody is told of events"
                    .to_owned()
            }
        };
        let text = format!("subscribe_event: {event} is not sent to {socket}: {wrong}");
        self.log(Level::Error, &text);
        -1
    }
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voice")
            .field("least", &self.least)
            .field("waiting", &self.lines.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Counts {
    /// Whether each event that came for a route is in one counter, now that no route runs.
    pub(super) const fn is_balanced(&self) -> bool {
        let routes = &self.routes;
        routes.events_offered == routes.events_run + routes.events_dropped + routes.events_left
    }

    /// What became of packets and runs, in a line.
    pub(super) fn line(&self) -> String {
        let ScriptCounts {
            runs,
            dropped,
            endless,
            too_deep,
            incomparable,
            overlong,
            events_offered,
            events_run,
            events_dropped,
            events_left,
        } = self.routes;
        let ran = counted(runs, "run");
        let mut text = format!("script: {ran}, {} dropped", counted(dropped, "packet"));
        for (name, count) in [
            ("endless", endless),
            ("too deep", too_deep),
            ("incomparable", incomparable),
            ("overlong", overlong),
            ("lines dropped", self.lines_dropped),
        ] {
            if count > 0 {
                text.push_str(&format!(", {name} {count}"));
            }
        }
        if events_offered > 0 {
            text.push_str(&format!(
                ", events offered {events_offered} = run {events_run}"
            ));
            for (name, count) in [("dropped", events_dropped), ("left", events_left)] {
                if count > 0 {
                    text.push_str(&format!(" + {name} {count}"));
                }
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
            overlong,
            events_offered,
            events_run,
            events_dropped,
            events_left,
        } = self.routes;
        json!({
            "runs": runs, "dropped": dropped, "endless": endless, "too_deep": too_deep,
            "incomparable": incomparable, "overlong": overlong, "lines_dropped": self.lines_dropped,
            "events_offered": events_offered, "events_run": events_run, "events_dropped": events_dropped, "events_left": events_left,
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

/// Bytes of a line whose memory is kept for another one.
const LINE_KEPT: usize = 1024;

/// How long nothing is said of lines that are lost after something was.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use binrush_engine::config::EventsConfig;
    use binrush_engine::event::{Form, TEXTS_LEN_MAX, Value as EventValue};

    use super::*;

    /// The routes of `text`, where subscribers are told of events or not.
    fn routes_of(text: &str, is_told: bool) -> (Routes, Bus) {
        let path = std::path::Path::new("a.cfg");
        let (script, _) = Script::read(path, text.into()).unwrap();
        let mut settings = Settings::default();
        settings.script = script;
        settings.events = is_told.then(EventsConfig::default);
        let bus = Bus::new(Form::Text).unwrap();
        bus.start().unwrap();
        let mut registry = Registry::new();
        let linked = link(&mut settings, None).unwrap().expect("there is one");
        let routes = linked.plan(&settings, &mut registry, Some(&bus)).unwrap();
        (routes, bus)
    }

    fn routes() -> Routes {
        routes_of("event_route[E_X] { xlog(\"$param(a)\"); }", false).0
    }

    /// What its subscriber hears, and where.
    fn subscriber() -> (UdpSocket, String) {
        let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
        reader
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let socket = format!("udp:{}", reader.local_addr().unwrap());
        (reader, socket)
    }

    fn next(reader: &UdpSocket) -> String {
        let mut buffer = [0; 1024];
        let len = reader.recv(&mut buffer).expect("an event");
        String::from_utf8(buffer[..len].to_vec()).unwrap()
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
    fn what_a_script_raises_goes_to_its_route_and_to_subscribers_and_nobody_has_to_be_there() {
        let text = "event_route[E_X] { xlog(\"x\"); } route { raise_event(\"E_X\"); raise_event(\"E_Y\", \"a=1\", \"b\"); }";
        let (routes, bus) = routes_of(text, true);
        let voice = &routes.voice;
        // By their place among what the script raises.
        let raise = |index| {
            let unnamed = Param::unnamed(EventValue::Str(b"b".into()));
            voice.raise(index, "", &[Param::int("a", 1), unnamed])
        };
        assert_eq!(raise(0), 1, "its route wants it");
        assert_eq!(raise(1), 1, "nobody wants it");
        let long = vec![b'x'; usize::from(TEXTS_LEN_MAX)];
        assert_eq!(voice.raise(0, "", &[Param::str("a", &long)]), -1);
        let (reader, socket) = subscriber();
        assert_eq!(voice.subscribe("E_Y", &socket, None), 1);
        assert_eq!(raise(1), 1);
        assert_eq!(next(&reader), "E_Y\na::1\nb\n\n");
        let told = bus.stop(Duration::from_secs(5));
        assert_eq!((told.raised, told.taken, told.too_long), (3, 2, 1));
        assert!(told.is_balanced(), "{told:?}");
    }

    #[test]
    fn an_event_is_raised_where_nothing_could_tell_of_it() {
        let path = std::path::Path::new("a.cfg");
        let text = "route { raise_event(\"E_X\"); }";
        let (script, _) = Script::read(path, text.into()).unwrap();
        let mut settings = Settings::default();
        settings.script = script;
        let linked = link(&mut settings, None).unwrap().expect("there is one");
        let routes = linked.plan(&settings, &mut Registry::new(), None).unwrap();
        assert_eq!(routes.voice.raise(0, "E_X", &[Param::int("a", 1)]), 1);
    }

    #[test]
    fn a_subscription_that_cannot_be_says_why() {
        let text = "route { raise_event(\"E_MINE\"); }";
        let (mut routes, bus) = routes_of(text, true);
        let (_reader, socket) = subscriber();
        for (event, socket, expected) in [
            (
                "E_MINE",
                "tcp:x",
                "E_MINE is not sent to tcp:x: \"tcp:x\" is no socket of a subscriber",
            ),
            (
                "E_MIN",
                &*socket,
                "there is no event \"E_MIN\" (did you mean \"E_MINE\"?)",
            ),
        ] {
            assert_eq!(routes.voice.subscribe(event, socket, None), -1);
            let said = routes.lines(Instant::now(), false).unwrap();
            assert!(
                said.starts_with("script: error: subscribe_event: ") && said.contains(expected),
                "{said}"
            );
        }
        let left = |expire| {
            assert_eq!(routes.voice.subscribe("E_MINE", &socket, expire), 1);
            bus.subscriptions(None, None).unwrap()[0].expires_in
        };
        assert_eq!(
            [left(Some(60)), left(Some(0)), left(None)],
            [Some(60), None, None]
        );
        let (mut deaf, _bus) = routes_of(text, false);
        assert_eq!(deaf.voice.subscribe("E_MINE", &socket, None), -1);
        let said = deaf.lines(Instant::now(), false).unwrap();
        assert!(
            said.contains("loadmodule \"event_datagram.so\" expected"),
            "{said}"
        );
    }
}
