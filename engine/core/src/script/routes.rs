//! Routes on shards: in front of handlers, and in turns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use binrush_wire::Packet;

use super::Kind;
use super::event::Events;
use super::functions::Host;
use super::program::{Entry, Program};
use super::run::{End, Runner};
use super::scene::Scene;
use crate::clock::Timestamp;
use crate::dispatch::front::Front;
use crate::dispatch::handler::{Origin, ShardId};

/// A program and all that run it.
#[derive(Debug)]
pub struct Scripts {
    program: Arc<Program>,
    host: Hosting,
    events: Arc<Events>,
    /// Where timer and event routes run.
    keeper: ShardId,
    /// By shard, readers behind owners; the last is that of the startup route.
    counts: Arc<[RouteCounts]>,
}

/// Who is asked for what a program does not do itself.
#[derive(Clone)]
struct Hosting(Arc<dyn Host>);

/// What routes of one thread did. Written by that thread only, read by others: relaxed, because nothing else depends on it.
#[derive(Debug, Default)]
struct RouteCounts {
    runs: AtomicU64,
    dropped: AtomicU64,
    endless: AtomicU64,
    too_deep: AtomicU64,
    incomparable: AtomicU64,
    overlong: AtomicU64,
    /// Events that came to their routes.
    events: AtomicU64,
}

/// What routes did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScriptCounts {
    /// Runs of routes, those that were called by others not among them.
    pub runs: u64,
    /// Packets that they dropped; the ledger has each of them, too.
    pub dropped: u64,
    /// Runs that were ended after [`STEPS_MAX`](super::STEPS_MAX) instructions.
    pub endless: u64,
    /// Calls of routes beyond [`DEPTH_MAX`](super::DEPTH_MAX) of them in each other.
    pub too_deep: u64,
    /// Comparisons of a text with a number.
    pub incomparable: u64,
    /// Events that were not raised because they were longer than any event may be.
    pub overlong: u64,
    /// Events that have a route; each comes to one of the next three.
    pub events_offered: u64,
    /// Those whose route ran.
    pub events_run: u64,
    /// Those that found no room on their way.
    pub events_dropped: u64,
    /// Those that are on their way still.
    pub events_left: u64,
}

/// One shard's routes.
struct Routes {
    runner: Runner,
    shard: ShardId,
    counts: Arc<[RouteCounts]>,
    request: Option<u32>,
    /// None but on the shard that keeps them.
    timers: Vec<Timer>,
    /// The timer that is looked at next: the one that the last turn had no time for.
    next_timer: usize,
    events: Option<Arc<Events>>,
    /// Where their routes begin.
    entries: BTreeMap<Box<[u8]>, u32>,
    /// Whether events come before timers in this turn. Each kind is first in every other one, so that neither takes all time from the other.
    events_first: bool,
}

/// The time that one turn has, and whether it is over.
struct Spell<'c> {
    clock: &'c mut dyn FnMut() -> Timestamp,
    began: Timestamp,
    is_over: bool,
}

struct Timer {
    at: u32,
    interval_ns: u64,
    /// `None`: no time was seen yet.
    due: Option<Timestamp>,
}

impl Scripts {
    /// What `host` does for them, for so many `shards`, readers included, of which `keeper` runs timer and event routes: it has to be where the modules are
    /// that these can reach ([`Program::homes`]).
    #[must_use]
    pub fn new(
        program: impl Into<Arc<Program>>,
        host: Arc<dyn Host>,
        events: Arc<Events>,
        shards: usize,
        keeper: ShardId,
    ) -> Self {
        let counts = (0..=shards).map(|_| RouteCounts::default());
        Self {
            program: program.into(),
            host: Hosting(host),
            events,
            keeper,
            counts: counts.collect(),
        }
    }

    /// What they run.
    #[must_use]
    pub const fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Runs `startup_route`, on this thread: before the engine starts, or at the [beginning](crate::Registry::at_beginning) of the
    /// keeper, so that no packet is received before it.
    pub fn startup(&self) {
        let mut runner = Runner::new(Arc::clone(&self.program), Arc::clone(&self.host.0));
        let counts = self.counts.last();
        for entry in self.program.entries(Kind::Startup) {
            let scene = Scene::bare(Kind::Startup, self.keeper);
            let end = runner.run(entry.at, &scene).without_packet();
            counts.into_iter().for_each(|counts| counts.add(end));
        }
    }

    /// Makes what stands in front of a shard's handlers, for
    /// [`Registry::front`](crate::Registry::front); `None` where nothing ever runs.
    pub fn fronts(&self) -> impl Fn(ShardId) -> Option<Box<dyn Front>> + Send + Sync + use<> {
        let (program, events) = (Arc::clone(&self.program), Arc::clone(&self.events));
        let (counts, keeper) = (Arc::clone(&self.counts), self.keeper);
        let Hosting(host) = self.host.clone();
        move |shard| {
            // The last counts are not a shard's.
            if shard.index() + 1 >= counts.len() {
                return None;
            }
            let keeps = shard == keeper;
            let timer = |seconds: u32, at| Timer {
                at,
                interval_ns: u64::from(seconds) * 1_000_000_000,
                due: None,
            };
            let timers = program.entries(Kind::Timer).filter(|_| keeps);
            let entries = program.entries(Kind::Event).filter(|_| keeps);
            let named = |each: &Entry| Some((each.name.as_deref()?.as_bytes().into(), each.at));
            let entries: BTreeMap<_, _> = entries.filter_map(named).collect();
            let has_events = !entries.is_empty();
            let routes = Routes {
                request: program.entries(Kind::Request).next().map(|each| each.at),
                timers: timers.map(|each| timer(each.seconds, each.at)).collect(),
                next_timer: 0,
                events: has_events.then(|| Arc::clone(&events)),
                entries,
                events_first: false,
                runner: Runner::new(Arc::clone(&program), Arc::clone(&host)),
                shard,
                counts: Arc::clone(&counts),
            };
            let runs = routes.request.is_some() || !routes.timers.is_empty() || has_events;
            runs.then(|| Box::new(routes) as Box<dyn Front>)
        }
    }

    /// What they did so far.
    #[must_use]
    pub fn counts(&self) -> ScriptCounts {
        let sum = |of: fn(&RouteCounts) -> &AtomicU64| {
            let all = self.counts.iter();
            all.map(|counts| of(counts).load(Ordering::Relaxed)).sum()
        };
        ScriptCounts {
            runs: sum(|counts| &counts.runs),
            dropped: sum(|counts| &counts.dropped),
            endless: sum(|counts| &counts.endless),
            too_deep: sum(|counts| &counts.too_deep),
            incomparable: sum(|counts| &counts.incomparable),
            overlong: sum(|counts| &counts.overlong),
            events_offered: self.events.offered(),
            events_run: sum(|counts| &counts.events),
            events_dropped: self.events.dropped(),
            events_left: self.events.left() as u64,
        }
    }
}

impl Routes {
    fn count(&self, end: End) {
        self.counts[self.shard.index()].add(end);
    }
}

impl Front for Routes {
    #[inline]
    fn admits(&mut self, origin: &Origin, packet: &Packet<'_>) -> bool {
        let Some(at) = self.request else {
            return true;
        };
        let scene = Scene::of_packet(self.shard, origin, packet);
        let end = self.runner.run(at, &scene);
        self.count(end);
        !end.dropped
    }

    fn turn(&mut self, clock: &mut dyn FnMut() -> Timestamp) -> bool {
        let mut spell = Spell::new(clock);
        self.events_first = !self.events_first;
        let more = if self.events_first {
            [self.run_events(&mut spell), self.run_timers(&mut spell)]
        } else {
            [self.run_timers(&mut spell), self.run_events(&mut spell)]
        };
        more.contains(&true)
    }
}

impl Routes {
    /// Runs the routes of timers that are due; whether one was left because the time was over.
    fn run_timers(&mut self, spell: &mut Spell<'_>) -> bool {
        for _ in 0..self.timers.len() {
            let timer = &mut self.timers[self.next_timer];
            if timer.is_due(spell.began) {
                if spell.is_over {
                    return true;
                }
                timer.runs(spell.began);
                let at = timer.at;
                let scene = Scene::bare(Kind::Timer, self.shard);
                let end = self.runner.run(at, &scene).without_packet();
                self.count(end);
                spell.ran();
            }
            self.next_timer = (self.next_timer + 1) % self.timers.len();
        }
        false
    }

    /// Runs the routes of some events that wait. Whether there may be more soon: behind one comes another, mostly, and the next turn but
    /// this is a tenth of a second away.
    fn run_events(&mut self, spell: &mut Spell<'_>) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        let events = Arc::clone(events);
        let mut count = 0;
        while count < EVENTS_A_TURN && !spell.is_over {
            let Some(event) = events.take() else {
                break;
            };
            // Before whatever its route does: one that does not come back is in the books.
            self.counts[self.shard.index()].add_event();
            if let Some(at) = self.entries.get(&*event.name) {
                let scene = Scene::of_event(self.shard, &event);
                let end = self.runner.run(*at, &scene).without_packet();
                self.count(end);
            }
            spell.ran();
            count += 1;
        }
        count > 0 || !events.is_empty()
    }
}

impl<'c> Spell<'c> {
    fn new(clock: &'c mut dyn FnMut() -> Timestamp) -> Self {
        Self {
            began: clock(),
            clock,
            is_over: false,
        }
    }

    /// A route ran. How long, only the clock knows: a function of a module, or a line, is one instruction.
    fn ran(&mut self) {
        self.is_over = (self.clock)().nanos_since(self.began) >= TURN_NS;
    }
}

impl Timer {
    /// Whether its time has come; it begins to pass when this is asked first.
    fn is_due(&mut self, now: Timestamp) -> bool {
        now >= *self.due.get_or_insert(now.after(self.interval_ns))
    }

    /// It runs now, and again from when it was due, so that it does not drift; what was missed is not made up for.
    fn runs(&mut self, now: Timestamp) {
        let regular = self.due.map(|due| due.after(self.interval_ns));
        let next = now.after(self.interval_ns);
        self.due = Some(regular.filter(|at| *at > now).unwrap_or(next));
    }
}

impl RouteCounts {
    fn add_event(&self) {
        add(&self.events, 1);
    }

    #[inline]
    fn add(&self, end: End) {
        add(&self.runs, 1);
        if end != End::default() {
            add(&self.dropped, end.dropped.into());
            add(&self.endless, end.endless.into());
            add(&self.too_deep, end.too_deep.into());
            add(&self.incomparable, end.incomparable.into());
            add(&self.overlong, end.overlong.into());
        }
    }
}

/// Adds to a counter that no other thread writes.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    let now = counter.load(Ordering::Relaxed);
    counter.store(now.wrapping_add(more), Ordering::Relaxed);
}

impl fmt::Debug for Hosting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("shard", &self.shard)
            .field("runner", &self.runner)
            .finish_non_exhaustive()
    }
}

/// After so long the routes of timers and events leave the shard to its packets; the run that goes on then is not ended for it, and no
/// other one begins. As long as the turn of a [`Handler`](crate::Handler) may take.
const TURN_NS: u64 = 200_000;

/// Events that have their route run in one turn, however short they are. The next turn is a millisecond later, so that 128 000 of them are
/// run in a second where nothing else is done.
const EVENTS_A_TURN: usize = 128;
