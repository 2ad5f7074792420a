//! Calls: created, updated a few times, deleted when their duration is over.
//!
//! A free slot of the part begins a call. Its duration and the moments of its updates are drawn, and the first free
//! slots from those moments on are booked, so a call is deleted at most a few packets after its duration is over. Its
//! delete is known to the last byte by then: the caller tag, which all its packets have, is the stamp of the delete.
//!
//! At the start no call is up, and a load that began with new calls only would swing for long: after a burst of
//! creates a burst of deletes, and so on. So as many calls as are up in the long run are created first, one in each
//! slot of the part; then each has the rest of its duration and of its updates before it, as calls have that are met
//! at a random moment. That takes the mean duration divided by `2 + updates` (with 3 s and two updates, three quarters
//! of a second, in which all packets are creates), but at most half of the load. From then on creates, updates and
//! deletes come as 1 to `updates` to 1.
//!
//! A call that would end after the last slot in sight has no delete: it outlives the run. Its caller tag is no stamp.

use binrush_probe::Stamp;
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, Poisson};

use super::slots::{Booked, Booking, Slot, Slots, whole};
use super::template::Dialect;
use crate::error::ScenarioError;
use crate::limits;
use crate::sample::{DurationSampler, SizeSampler};
use crate::scenario::{Durations, Sizes};
use crate::source::ContentError;
use call::Call;

mod call;

/// Makes them.
#[derive(Debug)]
pub(super) struct Dialogs {
    part: u8,
    sizes: SizeSampler,
    durations: DurationSampler,
    /// `None`: no updates.
    updates: Option<Poisson<f64>>,
    /// How many calls are still to be created that are met in the middle, and when they all are, in nanoseconds after
    /// the start.
    filling: u64,
    filled_ns: u64,
    /// Those that have slots booked, and places in between. Never more than there are slots in sight.
    up: Vec<Dialog>,
    vacant: Vec<u32>,
    calls: Box<[Call]>,
    /// Where a delete is made for the sake of its stamp.
    scratch: Box<[u8]>,
}

/// All that is known of a dialog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialog {
    /// That of its create: it names the dialog within the stream.
    number: u64,
    /// Its delete; `None`: it outlives the run.
    end: Option<Booked>,
    /// Seconds after the start of the load.
    begun_s: u32,
    /// Of its create and updates; 0: natural.
    len: u16,
    /// How many slots are booked for it.
    booked: u16,
}

/// When things happen in a call.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// A moment of the load at which `elapsed` of the call is over: 0 at its beginning, below 1.
    from_ns: u64,
    elapsed: f64,
    duration_ns: f64,
}

/// What one packet says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    dialog: Dialog,
    event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Created,
    Updated,
    Deleted,
}

impl Dialogs {
    /// `owner` begins every Call-ID: it keeps the records of runs and streams apart.
    ///
    /// # Errors
    /// [`ScenarioError::Value`]: sizes or durations out of their limits.
    pub(super) fn new(
        dialect: Dialect,
        owner: &str,
        (durations, updates): (&Durations, f64),
        sizes: &Sizes,
        (part, slots): (u8, &Slots),
    ) -> Result<Self, ScenarioError> {
        // More calls cannot have slots booked: each has at least one.
        let most = slots.len();
        let filling = up_in_the_long_run(slots.density(part), mean_ns(durations), updates);
        let filling = filling.min(slots.expected(part) / 2);
        Ok(Self {
            part,
            sizes: sizes.sampler()?,
            durations: durations.sampler()?,
            updates: Poisson::new(updates).ok(),
            filling,
            filled_ns: slots.due_after(part, filling),
            up: Vec::with_capacity(most),
            vacant: Vec::with_capacity(most),
            calls: Call::all(dialect, owner),
            scratch: vec![0; SCRATCH_LEN].into(),
        })
    }

    /// What the packet of `slot` says, which has the number `sequence`.
    pub(super) fn turn(
        &mut self,
        (sequence, slot): (u64, Slot),
        slots: &mut Slots,
        draws: &mut impl Rng,
    ) -> Turn {
        let event = match slot.booking {
            Booking::Free => {
                return Turn {
                    dialog: self.begin((sequence, slot.due_ns), slots, draws),
                    event: Event::Created,
                };
            }
            Booking::Update => Event::Updated,
            Booking::Delete => Event::Deleted,
        };
        let dialog = &mut self.up[slot.dialog as usize];
        dialog.booked -= 1;
        if dialog.booked == 0 {
            self.vacant.push(slot.dialog);
        }
        Turn {
            dialog: *dialog,
            event,
        }
    }

    /// Begins a call: draws what becomes of it and books the slots for that.
    fn begin(
        &mut self,
        (number, due_ns): (u64, u64),
        slots: &mut Slots,
        draws: &mut impl Rng,
    ) -> Dialog {
        let len = self.sizes.sample(draws).unwrap_or(0);
        let Life {
            from_ns,
            elapsed,
            duration_ns,
        } = self.life(due_ns, draws);
        let moment = |share: f64| from_ns.saturating_add(whole((share - elapsed) * duration_ns));
        let vacant = self.vacant.last().copied();
        #[expect(clippy::cast_possible_truncation, reason = "at most `HORIZON` are up")]
        let place = vacant.unwrap_or(self.up.len() as u32);
        let whom = (self.part, place);
        let mut booked = 0;
        let updates = self.updates.map_or(0.0, |updates| updates.sample(draws));
        for _ in 0..whole(updates).min(UPDATES_MAX) {
            let share = draws.random::<f64>();
            if share < elapsed {
                continue;
            }
            let update = slots.book(whom, Booking::Update, moment(share));
            booked += u16::from(update.is_some());
        }
        // Behind all updates: one that waits for its slot has left no free one between its moment and that.
        let end = slots.book(whom, Booking::Delete, moment(1.0));
        booked += u16::from(end.is_some());
        let dialog = Dialog {
            number,
            end,
            begun_s: u32::try_from(due_ns / 1_000_000_000).unwrap_or(0),
            len,
            booked,
        };
        if booked > 0 {
            match self.vacant.pop() {
                Some(_) => self.up[place as usize] = dialog,
                None => self.up.push(dialog),
            }
        }
        dialog
    }

    /// Draws how long a call lasts that is created at `due_ns`.
    fn life(&mut self, due_ns: u64, draws: &mut impl Rng) -> Life {
        if self.filling == 0 {
            return Life {
                from_ns: due_ns,
                elapsed: 0.0,
                duration_ns: self.durations.sample(draws) as f64,
            };
        }
        self.filling -= 1;
        // A call met at a random moment is a long one more often than not: its chance is in proportion to its
        // duration. So one of several is chosen, by duration, and met at a random place.
        let (mut chosen, mut sum) = (0.0, 0.0);
        for _ in 0..CANDIDATES {
            let duration_ns = self.durations.sample(draws) as f64;
            sum += duration_ns;
            if draws.random::<f64>() * sum <= duration_ns {
                chosen = duration_ns;
            }
        }
        Life {
            from_ns: self.filled_ns,
            elapsed: draws.random(),
            duration_ns: chosen,
        }
    }

    /// `stamp` says which packet this is.
    pub(super) fn write(
        &mut self,
        Turn { dialog, event }: Turn,
        start_ns: u64,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let call = Call::of(&dialog, &self.calls);
        let pad = call.pad_to(dialog.len);
        // What the delete says of itself, to the letter: its create is made when nobody knows how late it will be.
        let of_delete = |end: Booked| Stamp {
            sequence: end.sequence,
            intended_ns: start_ns.saturating_add(end.due_ns),
            late_ns: None,
            ..*stamp
        };
        let end = dialog.end.map(of_delete);
        let message = match (event, &end) {
            (Event::Deleted, Some(end)) => {
                return Ok(call.deleted.sealed(&dialog, pad, None, end, out)?.len());
            }
            (Event::Deleted, None) => unreachable!("a delete was booked"),
            (Event::Created, _) => &call.created,
            (Event::Updated, _) => &call.updated,
        };
        let tag = match &end {
            Some(end) => {
                let scratch = &mut self.scratch;
                let delete = call.deleted.sealed(&dialog, pad, None, end, scratch)?;
                Some(delete.text(call.deleted.caller_tag))
            }
            None => None,
        };
        let packet = message.sealed(&dialog, pad, tag.as_ref(), stamp, out)?;
        Ok(packet.len())
    }
}

/// How many calls are up at a time when each takes `2 + updates` of `density` slots per nanosecond.
fn up_in_the_long_run(density: f64, mean_ns: f64, updates: f64) -> u64 {
    whole(density * mean_ns / (2.0 + updates))
}

/// The mean of `durations`, in nanoseconds.
fn mean_ns(durations: &Durations) -> f64 {
    let seconds = match durations {
        Durations::Fixed(duration) => duration.as_secs_f64(),
        Durations::Exponential { mean } => mean.as_secs_f64(),
        Durations::LogNormal { median, sigma } => {
            median.as_secs_f64() * (sigma * sigma / 2.0).exp()
        }
        Durations::Table(rows) => {
            let weights: f64 = rows.iter().map(|(_, weight)| weight).sum();
            let weighted = rows
                .iter()
                .map(|(duration, weight)| duration.as_secs_f64() * weight);
            weighted.sum::<f64>() / weights
        }
    };
    (seconds * 1e9).min(limits::DURATION_MAX_NS as f64)
}

/// How many durations are drawn to choose one by its length.
const CANDIDATES: usize = 16;

/// Updates of one call: 65 times the largest mean that a scenario may ask for.
const UPDATES_MAX: u64 = 65_000;

/// A delete is shorter than its create, which is at most a packet.
const SCRATCH_LEN: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn means_are_those_of_the_draws() {
        let s = Duration::from_secs;
        for durations in [
            Durations::Fixed(s(3)),
            Durations::Exponential { mean: s(3) },
            Durations::LogNormal {
                median: s(2),
                sigma: 0.9,
            },
            Durations::Table(vec![(s(1), 1.0), (s(5), 3.0)]),
        ] {
            let sampler = durations.sampler().unwrap();
            let mut draws = crate::sample::draws(7, 0, 0);
            let n = 100_000;
            let sum: f64 = (0..n).map(|_| sampler.sample(&mut draws) as f64).sum();
            let ratio = sum / f64::from(n) / mean_ns(&durations);
            assert!((ratio - 1.0).abs() < 0.03, "{durations:?}: {ratio}");
        }
    }

    #[test]
    fn a_dialog_is_small_for_there_are_millions_of_them() {
        assert_eq!(size_of::<Dialog>(), 40);
    }
}
