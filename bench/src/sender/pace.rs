//! When each packet goes, and which do not.
//!
//! ```text
//!   due    ─┬─────┬──┬─┬────────────────────────┬───▶ time
//!   now          └collect: what is due by now, within the window of the first │ too late: skipped
//!                 hand over: the kernel takes it, between two looks at the clock
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use binrush_scenario::{ContentError, Source};

use super::clock::Clock;
use super::outlet::{Finished, Looked, Outlet};
use super::tally::Tally;
use super::{Halt, Pacing};
use crate::result::SenderResult;

/// One sender's loop, with what it runs on.
pub(super) struct Pace<'a, O, C> {
    source: Box<dyn Source>,
    outlet: O,
    clock: C,
    pacing: Pacing,
    /// By then it is over, whatever waits.
    deadline_ns: u64,
    /// The moments at which the packets that wait in the outlet were due.
    waiting: VecDeque<u64>,
    refusals: Refusals,
    tally: Tally<'a>,
    /// Processor time when the first packet went.
    cpu_start_ns: Option<u64>,
    /// When the last one had gone.
    last_ns: u64,
}

/// Whether anybody was there so far.
#[derive(Debug, Default)]
struct Refusals {
    next_look_ns: u64,
    /// Looks that found packets refused.
    refused: u32,
    /// One that did not.
    is_heard: bool,
}

/// Why no packet goes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The schedule is through, or its time over.
    Over,
    /// The outlet takes no more.
    Closed,
    /// Someone asked.
    Halted,
}

impl<'a, O: Outlet, C: Clock> Pace<'a, O, C> {
    /// A sender that starts when `tally` says and has `end_ns` for its schedule.
    pub(super) fn new(
        source: Box<dyn Source>,
        outlet: O,
        clock: C,
        (pacing, end_ns): (Pacing, u64),
        tally: Tally<'a>,
    ) -> Self {
        let start_ns = tally.start_ns();
        Self {
            source,
            outlet,
            clock,
            pacing,
            deadline_ns: start_ns
                .saturating_add(end_ns)
                .saturating_add(pacing.grace_ns),
            waiting: VecDeque::with_capacity(COLLECT_MAX),
            refusals: Refusals::default(),
            tally,
            cpu_start_ns: None,
            last_ns: start_ns,
        }
    }

    /// Sends until the schedule is through, its time is over, nobody takes any more, or `halt` is asked.
    ///
    /// # Errors
    /// The target refused everything from the first packet on.
    pub(super) fn run(mut self, halt: Halt<'_>) -> anyhow::Result<SenderResult> {
        let ended = self.send_all(halt)?;
        let now = self.clock.now_ns();
        let cpu_ns = self
            .cpu_start_ns
            .map_or(0, |start_ns| self.clock.cpu_ns() - start_ns);
        // What finishing waits for is not part of the load.
        let blocked_ns = self.outlet.blocked_ns();
        match self.outlet.finish() {
            Finished::Whole => {}
            Finished::Completed { bytes } => {
                let due_ns = self.waiting.pop_front();
                let due_ns = due_ns.expect("a packet that was cut has waited");
                self.tally.completed((now, due_ns), bytes);
            }
            Finished::Cut => self.tally.cut(),
        }
        self.tally.gave_up(self.waiting.len() as u64);
        if ended != Ended::Halted {
            self.check_heard()?;
            self.count_rest(halt);
        }
        self.tally.publish(now);
        Ok(SenderResult {
            blocked_ns,
            ..self.tally.result(cpu_ns, self.last_ns)
        })
    }

    fn send_all(&mut self, halt: Halt<'_>) -> anyhow::Result<Ended> {
        let mut now = self.clock.now_ns();
        loop {
            if halt.is_asked() {
                return Ok(Ended::Halted);
            }
            if now >= self.deadline_ns {
                return Ok(Ended::Over);
            }
            self.collect(now);
            if !self.waiting.is_empty() {
                if self.hand_over(now)? {
                    return Ok(Ended::Closed);
                }
                now = self.last_ns;
                continue;
            }
            let Some(due) = self.source.due() else {
                return Ok(Ended::Over);
            };
            let due_ns = self.tally.start_ns().saturating_add(due);
            now = self.clock.wait_for(due_ns.min(self.deadline_ns));
        }
    }

    /// Writes what is due `now` into the outlet: never what is due later, and nothing that is too late.
    fn collect(&mut self, now: u64) {
        let start_ns = self.tally.start_ns();
        let mut first_ns = self.waiting.front().copied();
        for _ in 0..COLLECT_MAX {
            let Some(due) = self.source.due() else {
                return;
            };
            let due_ns = start_ns.saturating_add(due);
            if due_ns > now || !self.outlet.has_room() {
                return;
            }
            let late_ns = now - due_ns;
            if late_ns > self.pacing.late_max_ns {
                self.source.skip();
                self.tally.skipped(due_ns);
                continue;
            }
            if due_ns - *first_ns.get_or_insert(due_ns) > self.pacing.window_ns {
                return;
            }
            let late_ns = u32::try_from(late_ns).unwrap_or(u32::MAX);
            match self.outlet.write(&mut *self.source, start_ns, late_ns) {
                Ok(()) => {
                    self.tally.planned(due_ns);
                    self.waiting.push_back(due_ns);
                }
                Err(error) => self.tally.not_made(due_ns, word(&error)),
            }
        }
    }

    /// Hands over what waits; whether nothing will be taken any more. [`last_ns`](Self::last_ns) is the time then.
    fn hand_over(&mut self, now: u64) -> anyhow::Result<bool> {
        match self.cpu_start_ns {
            Some(_) if now >= self.refusals.next_look_ns => self.look(now)?,
            Some(_) => {}
            None => {
                self.cpu_start_ns = Some(self.clock.cpu_ns());
                self.refusals.next_look_ns = now.saturating_add(LOOK_EVERY_NS);
            }
        }
        let before_ns = self.clock.now_ns();
        let handed = self.outlet.hand_over();
        let after_ns = self.clock.now_ns();
        self.last_ns = after_ns;
        // No more of them than wait, so this fits.
        let count = usize::try_from(handed.taken + handed.failed).unwrap_or(usize::MAX);
        let due = self.waiting.drain(..count.min(self.waiting.len()));
        self.tally.handed((before_ns, after_ns), &handed, due);
        if count == 0 && !handed.is_closed {
            self.outlet.wait_for_room(ROOM_WAIT);
            self.last_ns = self.clock.now_ns();
        }
        Ok(handed.is_closed)
    }

    /// Asks whether anybody was there so far, and gives up after a second in which nobody was.
    #[cold]
    fn look(&mut self, now: u64) -> anyhow::Result<()> {
        self.refusals.next_look_ns = now.saturating_add(LOOK_EVERY_NS);
        match self.outlet.look() {
            Looked::Fine => self.refusals.is_heard = true,
            Looked::Refused => self.refusals.refused += 1,
        }
        let Refusals {
            refused, is_heard, ..
        } = self.refusals;
        let long_enough = now.saturating_sub(self.tally.start_ns()) >= REFUSED_NS;
        if !is_heard && refused >= REFUSALS_MIN && long_enough {
            return Err(self.outlet.nobody_there());
        }
        Ok(())
    }

    /// At the end, however short the run was.
    fn check_heard(&mut self) -> anyhow::Result<()> {
        if self.refusals.is_heard || !self.tally.has_sent() {
            return Ok(());
        }
        match self.outlet.look() {
            Looked::Refused => Err(self.outlet.nobody_there()),
            Looked::Fine => Ok(()),
        }
    }

    /// What the schedule has left was planned too.
    fn count_rest(&mut self, halt: Halt<'_>) {
        let start_ns = self.tally.start_ns();
        let mut counted = 0_usize;
        while let Some(due) = self.source.due() {
            self.source.skip();
            self.tally.skipped(start_ns.saturating_add(due));
            counted += 1;
            if counted.is_multiple_of(COLLECT_MAX) && halt.is_asked() {
                return;
            }
        }
    }
}

/// Why a packet could not be made, in a word: the sentence would have numbers in it, and so be another each time.
fn word(error: &ContentError) -> &'static str {
    match error {
        ContentError::Wire(error) => error.kind.symbol(),
        ContentError::Ended => "the schedule is through",
        _ => "unknown",
    }
}

/// Packets between two looks at the clock, sent or skipped.
const COLLECT_MAX: usize = 4096;

/// How long to wait for room before looking at the clock again.
const ROOM_WAIT: Duration = Duration::from_millis(1);

/// A look costs a system call.
const LOOK_EVERY_NS: u64 = 10_000_000;

/// How long nobody has to be there, and how often looked for, before that is an error: a receiver that is just being
/// started may still come.
const REFUSED_NS: u64 = 1_000_000_000;
const REFUSALS_MIN: u32 = 3;

#[cfg(test)]
mod tests;
