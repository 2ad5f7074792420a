//! Calls: created, updated a few times, deleted when their duration is over.
//!
//! A free slot of the part begins a call. Its duration and the moments of its updates are drawn, and the first free
//! slots from those moments on are booked, so a call is deleted at most a few packets after its duration is over. Its
//! delete is known to the last byte by then: the caller tag, which all its packets have, is the stamp of the delete. It
//! is made once, with the first packet of the call that is written, and kept.
//!
//! At the start no call is up, and a load that began with new calls only would swing for long: after a burst of
//! creates a burst of deletes, and so on. So as many calls as are up in the long run are created first, one in each
//! slot of the part; then each has the rest of its duration and of its updates before it, as calls have that are met
//! at a random moment. That takes the mean duration divided by `2 + updates` (with 3 s and two updates, three quarters
//! of a second, in which all packets are creates), but at most half of the load. From then on creates, updates and
//! deletes come as 1 to `updates` to 1.
//!
//! A load that is [settled](Dialogs::settle) has them like that from its first packet on: the calls that are up then
//! are not created, as if they had been before the start. Their updates and deletes are what a sender would have gone
//! on with.
//!
//! A call that would end after the last slot in sight has no delete: it outlives the run. Its caller tag is no stamp.

use binrush_probe::{STAMP_LEN, Stamp};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, Poisson};

use super::slots::{Booked, Booking, Slot, Slots, whole};
use super::template::Dialect;
use crate::error::ScenarioError;
use crate::limits;
use crate::sample::{DurationSampler, SizeSampler};
use crate::scenario::{Durations, Sizes};
use crate::source::ContentError;
use call::{Call, Tag};

mod call;

/// Makes them.
#[derive(Debug)]
pub(super) struct Dialogs {
    part: u8,
    sizes: SizeSampler,
    durations: DurationSampler,
    /// Of calls that are met in the middle.
    durations_up: DurationSampler,
    /// How many those are in the long run.
    up_on_average: u64,
    /// `None`: no updates.
    updates: Option<Poisson<f64>>,
    /// How many calls are still to be created that are met in the middle, and when they all are, in nanoseconds after
    /// the start.
    filling: u64,
    filled_ns: u64,
    /// Those that have slots booked, and places in between. Never more than there are slots in sight.
    up: Vec<Dialog>,
    vacant: Vec<u32>,
    /// Caller tags by place, of a run that starts at `start_ns`; [`UNTAGGED`] until a packet of the call is written.
    tags: Vec<Tag>,
    start_ns: u64,
    calls: Box<[Call]>,
    /// Where a delete is made for the sake of its stamp.
    scratch: Box<[u8]>,
}

/// All that is known of a dialog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialog {
    /// That of its create, or from [`NUMBER_MAX`] down when that was before the start: it names the dialog within the
    /// stream.
    number: u64,
    /// Its delete; `None`: it outlives the run.
    end: Option<Booked>,
    /// Seconds after the start of the load, or before it.
    begun_s: i32,
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
    /// Where its tag is; `None` when nothing is booked for it.
    place: Option<u32>,
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
        let up_on_average = up_in_the_long_run(slots.density(part), mean_ns(durations), updates);
        let filling = up_on_average.min(slots.expected(part) / 2);
        Ok(Self {
            part,
            sizes: sizes.sampler()?,
            durations: durations.sampler()?,
            durations_up: durations.sampler_of_those_up()?,
            up_on_average,
            updates: Poisson::new(updates).ok(),
            filling,
            filled_ns: slots.due_after(part, filling),
            up: Vec::with_capacity(most),
            vacant: Vec::with_capacity(most),
            tags: Vec::with_capacity(most),
            start_ns: 0,
            calls: Call::all(dialect, owner),
            scratch: vec![0; SCRATCH_LEN].into(),
        })
    }

    /// Goes to where the load is in the long run: as many calls are up, each with the rest of its life before it.
    ///
    /// Those of which nothing comes into sight are passed over. Of more than [`SETTLED_MAX`] the others are, too: a load
    /// with so many has fewer updates and deletes at first than in the long run.
    pub(super) fn settle(&mut self, slots: &mut Slots, draws: &mut impl Rng) {
        (self.filling, self.filled_ns) = (0, 0);
        for up in 0..self.up_on_average.min(SETTLED_MAX) {
            let life = self.life_up(draws);
            let age_s = whole(life.elapsed * life.duration_ns / 1e9);
            let begun_s = i32::try_from(age_s).map_or(i32::MIN, |age_s| -1 - age_s);
            self.admit((NUMBER_MAX - up, begun_s), life, slots, draws);
        }
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
                let life = self.life(slot.due_ns, draws);
                let begun_s = i32::try_from(slot.due_ns / 1_000_000_000).unwrap_or(i32::MAX);
                let (dialog, place) = self.admit((sequence, begun_s), life, slots, draws);
                return Turn {
                    dialog,
                    place,
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
            // Where it became vacant, nobody moves in before this packet is written.
            place: Some(slot.dialog),
            event,
        }
    }

    /// Draws what becomes of a call and books the slots for that; with its place, if there is anything.
    fn admit(
        &mut self,
        (number, begun_s): (u64, i32),
        life: Life,
        slots: &mut Slots,
        draws: &mut impl Rng,
    ) -> (Dialog, Option<u32>) {
        let len = self.sizes.sample(draws).unwrap_or(0);
        let Life {
            from_ns,
            elapsed,
            duration_ns,
        } = life;
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
            begun_s,
            len,
            booked,
        };
        if booked == 0 {
            return (dialog, None);
        }
        match self.vacant.pop() {
            Some(_) => {
                self.up[place as usize] = dialog;
                self.tags[place as usize] = UNTAGGED;
            }
            None => {
                self.up.push(dialog);
                self.tags.push(UNTAGGED);
            }
        }
        (dialog, Some(place))
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
        self.life_up(draws)
    }

    /// Draws the life of a call that is met in the middle of it, once as many are up as there will be.
    fn life_up(&self, draws: &mut impl Rng) -> Life {
        Life {
            from_ns: self.filled_ns,
            elapsed: draws.random(),
            duration_ns: self.durations_up.sample(draws) as f64,
        }
    }

    /// `stamp` says which packet this is.
    pub(super) fn write(
        &mut self,
        Turn {
            dialog,
            place,
            event,
        }: Turn,
        start_ns: u64,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let tag = self.tag(&dialog, place, start_ns, stamp)?;
        let call = Call::of(&dialog, &self.calls);
        let pad = call.pad_to(dialog.len);
        match (event, &tag) {
            (Event::Created, tag) => call.created.sealed(&dialog, pad, tag.as_ref(), stamp, out),
            (Event::Updated, tag) => call.updated.sealed(&dialog, pad, tag.as_ref(), stamp, out),
            (Event::Deleted, Some(tag)) => call.deleted.ended(&dialog, pad, tag, out),
            (Event::Deleted, None) => unreachable!("a delete was booked"),
        }
    }

    /// The caller tag of `dialog`: what its delete says of itself, to the letter. `None` when it has no delete.
    fn tag(
        &mut self,
        dialog: &Dialog,
        place: Option<u32>,
        start_ns: u64,
        stamp: &Stamp,
    ) -> Result<Option<Tag>, ContentError> {
        let (Some(place), Some(end)) = (place, dialog.end) else {
            return Ok(None);
        };
        if start_ns != self.start_ns {
            // Once in a run, before its first packet.
            self.start_ns = start_ns;
            self.tags.fill(UNTAGGED);
        }
        let kept = &mut self.tags[place as usize];
        if *kept == UNTAGGED {
            let of_delete = Stamp {
                sequence: end.sequence,
                intended_ns: start_ns.saturating_add(end.due_ns),
                // It is made when nobody knows how late the delete will be.
                late_ns: None,
                ..*stamp
            };
            let call = Call::of(dialog, &self.calls);
            let pad = call.pad_to(dialog.len);
            *kept = call
                .deleted
                .tag(dialog, pad, &of_delete, &mut self.scratch)?;
        }
        Ok(Some(*kept))
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

/// Calls that are drawn to settle a load, at most: with this many, it takes a second or two.
const SETTLED_MAX: u64 = 1 << 24;

/// 48 bits, which is what a stamp has for the number of a packet: the calls of before the start are counted from here
/// down, and no run comes up to there.
const NUMBER_MAX: u64 = (1 << 48) - 1;

/// No stamp.
const UNTAGGED: Tag = [0; STAMP_LEN];

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
