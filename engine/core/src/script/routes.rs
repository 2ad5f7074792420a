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
use turn::Timer;

/// Timers and events, between two batches.
mod turn;

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
            let timers = program.entries(Kind::Timer).filter(|_| keeps);
            let entries = program.entries(Kind::Event).filter(|_| keeps);
            let named = |each: &Entry| Some((each.name.as_deref()?.as_bytes().into(), each.at));
            let entries: BTreeMap<_, _> = entries.filter_map(named).collect();
            let has_events = !entries.is_empty();
            let routes = Routes {
                request: program.entries(Kind::Request).next().map(|each| each.at),
                timers: timers
                    .map(|each| Timer::new(each.seconds, each.at))
                    .collect(),
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
        self.take_turn(clock)
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
