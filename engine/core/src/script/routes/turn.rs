//! Routes in turns: those of timers that are due, and of events that wait.

use std::sync::Arc;

use super::Routes;
use crate::clock::Timestamp;
use crate::script::Kind;
use crate::script::scene::Scene;

/// When a route of a timer runs.
pub(super) struct Timer {
    at: u32,
    interval_ns: u64,
    /// `None`: no time was seen yet.
    due: Option<Timestamp>,
}

/// The time that one turn has, and whether it is over.
struct Spell<'c> {
    clock: &'c mut dyn FnMut() -> Timestamp,
    began: Timestamp,
    is_over: bool,
}

impl Routes {
    /// As [`Front::turn`](crate::dispatch::front::Front::turn).
    pub(super) fn take_turn(&mut self, clock: &mut dyn FnMut() -> Timestamp) -> bool {
        let mut spell = Spell::new(clock);
        self.events_first = !self.events_first;
        let more = if self.events_first {
            [self.run_events(&mut spell), self.run_timers(&mut spell)]
        } else {
            [self.run_timers(&mut spell), self.run_events(&mut spell)]
        };
        more.contains(&true)
    }

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
    /// Of the route that begins `at`.
    pub(super) fn new(seconds: u32, at: u32) -> Self {
        Self {
            at,
            interval_ns: u64::from(seconds) * 1_000_000_000,
            due: None,
        }
    }

    /// Whether its time has come; it begins to pass when this is asked first.
    fn is_due(&mut self, now: Timestamp) -> bool {
        now >= *self.due.get_or_insert_with(|| now.after(self.interval_ns))
    }

    /// It runs now, and again from when it was due, so that it does not drift; what was missed is not made up for.
    fn runs(&mut self, now: Timestamp) {
        let regular = self.due.map(|due| due.after(self.interval_ns));
        let next = now.after(self.interval_ns);
        self.due = Some(regular.filter(|at| *at > now).unwrap_or(next));
    }
}

/// After so long the routes of timers and events leave the shard to its packets; no other run begins then, and the one under way ends by
/// itself, or after [`STEPS_MAX`](crate::script::STEPS_MAX). As long as the turn of a [`Handler`](crate::Handler) may take.
const TURN_NS: u64 = 200_000;

/// Events that have their route run in one turn, however short they are. The next turn is a millisecond later, so that 128 000 of them are
/// run in a second where nothing else is done.
const EVENTS_A_TURN: usize = 128;
