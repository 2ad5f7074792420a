//! What is in the packets.
//!
//! ```text
//!   Scenario ──▶ parts: Miss │ Contacts │ Dialogs      templates, samplers, what the receiver was told
//!                  ▲ turn: what the next packet says
//!   Schedule ──▶ Slots ──▶ next slot: number, moment, part, what it is booked for
//!                  ▼
//!                write: copy of a template, patched ──▶ stamp ──▶ checksum ──▶ the sender's buffer
//! ```
//!
//! What a packet says is decided before and apart from writing it, so a packet that is skipped changes nothing for
//! those after it. Layouts are those of the wire's schema for the release: every packet, but those of unknown names, is
//! one that a genuine node of that release sends, with values as in captured traffic. Every packet carries a stamp in a
//! field of its own (`binrush_probe`), so audits know each by its number.
//!
//! Records of different runs and streams differ by name: AoRs and Call-IDs begin with both numbers. A population is
//! that of all streams together, each of which has its part of it, at least one record.
//!
//! # The first seconds
//!
//! At the start the receiver knows of nobody. So packets about contacts are inserts at first, until those that are
//! spoken of often are registered. Calls are created, and nothing else, until as many are up as there will be in the
//! long run: that takes their mean duration divided by `2 + updates`, but at most half of the load. From then on each
//! kind of packet has its share. All parts have theirs from the first packet on.
//!
//! A load that is made [steady](Content::steady) begins in the middle instead, where each kind of packet has its share
//! from the first one on.
//!
//! # Sizes
//!
//! A packet is as long as was drawn for it, or as its fields need. Padding goes into the text of an unknown packet,
//! into the attributes of a contact, or its Call-ID when it is deleted; where sizes are a table, such deletes have none.
//! For a call a length is drawn once, as its URIs
//! stay the same: creates and updates have it. Their padding is in the callee tag, and so in the delete too, which is
//! shorter by the fields that it does not have.

use std::fmt::Write as _;

use binrush_probe::Stamp;
use rand_pcg::Pcg64Mcg;

use crate::error::ScenarioError;
use crate::sample::draws;
use crate::scenario::{Keys, Kind, Part, Scenario};
use crate::schedule::Schedule;
use crate::source::{ContentError, Share, Source};

mod contacts;
mod dialogs;
mod miss;
mod slots;
mod template;

use contacts::Contacts;
use dialogs::Dialogs;
use miss::Miss;
use slots::{HORIZON, Slots};
use template::Dialect;

/// The packets of one stream of a scenario, made as they are sent.
///
/// A pure function of what it was made from and of `start_ns` and `late_ns`: the same seed gives the same packets.
/// Their numbers are their places in the schedule, from 0 without holes; a skipped packet keeps its number to itself.
/// It may have been the create of a dialog or the insert of a contact: what was to follow is sent all the same, as a
/// node does whose packet was lost on the way.
///
/// Where there are calls, packets are planned ahead as far as four million packets of the schedule: a call that would
/// end later outlives the run. That takes 16 bytes for each of those packets, and up to 85 more as calls come up.
///
/// Allocates only when it is made, takes no lock and reads no clock.
#[derive(Debug)]
pub struct Content {
    slots: Slots,
    parts: Box<[Maker]>,
    draws: Pcg64Mcg,
    run: u16,
    stream: u16,
}

/// Makes the packets of one part.
#[derive(Debug)]
enum Maker {
    Miss(Miss),
    Contacts(Contacts),
    Dialogs(Box<Dialogs>),
}

/// What one packet says, and who writes it.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Miss(miss::Turn),
    Contact(contacts::Turn),
    Dialog(dialogs::Turn),
}

impl Content {
    /// The packets of the stream `share` in `run`, due when `schedule` says.
    ///
    /// # Errors
    /// [`ScenarioError::Value`]: the scenario does not pass its [check](Scenario::check).
    pub fn new(
        scenario: &Scenario,
        run: u16,
        share: Share,
        schedule: Schedule,
    ) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let is_booking = |part: &Part| matches!(part.kind, Kind::Dialogs { .. });
        let horizon = if scenario.parts.iter().any(is_booking) {
            HORIZON
        } else {
            1
        };
        let stream = share.stream;
        let of_parts = draws(scenario.seed, stream, PARTS);
        let shares = scenario.parts.iter().map(|part| part.share);
        let slots = Slots::new(schedule, shares, horizon, of_parts);
        let dialect = Dialect::of(scenario.form);
        let parts = (0_u8..).zip(&scenario.parts);
        let parts = parts
            .map(|(number, part)| Maker::new(part, dialect, (run, share), (number, &slots)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            slots,
            parts,
            draws: draws(scenario.seed, stream, VALUES),
            run,
            stream,
        })
    }

    /// As [`Self::new`], but from the middle of a load that began long ago, so that short runs one after the other are
    /// all about the same kinds of packets: contacts are registered and calls are up as they are in the long run, as if
    /// created before the start.
    ///
    /// So the first packets about them are updates and deletes, with their keys, stamps, and what is left of their
    /// lives. A receiver that keeps no state cannot tell those from any others. **A genuine node knows nothing of these
    /// records**: it refuses to update a call it was not told of, or makes one; for it, [`Self::new`].
    ///
    /// Of calls at most 16 million are drawn: a load with more that are up has fewer updates and deletes than in the
    /// long run. Those that would end later than can be planned ahead are as in a load that begins.
    ///
    /// # Errors
    /// As of [`Self::new`].
    pub fn steady(
        scenario: &Scenario,
        run: u16,
        share: Share,
        schedule: Schedule,
    ) -> Result<Self, ScenarioError> {
        let mut content = Self::new(scenario, run, share, schedule)?;
        let mut draws = draws(scenario.seed, share.stream, SETTLING);
        for part in &mut content.parts {
            match part {
                Maker::Miss(_) => {}
                Maker::Contacts(contacts) => contacts.settle(&mut draws),
                Maker::Dialogs(dialogs) => dialogs.settle(&mut content.slots, &mut draws),
            }
        }
        Ok(content)
    }

    /// Goes on to the next packet: its number, when it is due, and what it says.
    #[inline]
    fn turn(&mut self) -> Option<(u64, u64, usize, Turn)> {
        let (sequence, slot) = self.slots.take()?;
        let part = usize::from(slot.part);
        let turn = match &mut self.parts[part] {
            Maker::Miss(miss) => Turn::Miss(miss.turn(&mut self.draws)),
            Maker::Contacts(contacts) => Turn::Contact(contacts.turn(&mut self.draws, slot.due_ns)),
            Maker::Dialogs(dialogs) => {
                Turn::Dialog(dialogs.turn((sequence, slot), &mut self.slots, &mut self.draws))
            }
        };
        Some((sequence, slot.due_ns, part, turn))
    }
}

impl Source for Content {
    #[inline]
    fn due(&self) -> Option<u64> {
        self.slots.due()
    }

    fn write(
        &mut self,
        start_ns: u64,
        late_ns: u32,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let (sequence, due_ns, part, turn) = self.turn().ok_or(ContentError::Ended)?;
        let stamp = Stamp {
            run: self.run,
            stream: self.stream,
            sequence,
            intended_ns: start_ns.saturating_add(due_ns),
            late_ns: Some(late_ns),
        };
        match (&mut self.parts[part], turn) {
            (Maker::Miss(miss), Turn::Miss(turn)) => miss.write(turn, &stamp, out),
            (Maker::Contacts(contacts), Turn::Contact(turn)) => contacts.write(turn, &stamp, out),
            (Maker::Dialogs(dialogs), Turn::Dialog(turn)) => {
                dialogs.write(turn, start_ns, &stamp, out)
            }
            _ => unreachable!("a part writes what it said"),
        }
    }

    fn skip(&mut self) {
        self.turn();
    }
}

impl Maker {
    fn new(
        part: &Part,
        dialect: Dialect,
        (run, share): (u16, Share),
        (number, slots): (u8, &Slots),
    ) -> Result<Self, ScenarioError> {
        let mut owner = format!("{run:x}.{:x}.", share.stream);
        if number > 0 {
            // Two parts of one kind have records of their own too.
            write!(owner, "{number:x}.").expect("a string takes any text");
        }
        match &part.kind {
            Kind::Miss { name, keys } => {
                Miss::new(dialect, name, &of_stream(keys, share), &part.sizes).map(Self::Miss)
            }
            Kind::Contacts {
                keys,
                register,
                refresh,
                unregister,
            } => Contacts::new(
                dialect,
                &format!("u{owner}"),
                &of_stream(keys, share),
                (*register, *refresh, *unregister),
                &part.sizes,
            )
            .map(Self::Contacts),
            Kind::Dialogs { updates, duration } => Dialogs::new(
                dialect,
                &format!("c{owner}"),
                (duration, *updates),
                &part.sizes,
                (number, slots),
            )
            .map(|dialogs| Self::Dialogs(Box::new(dialogs))),
        }
    }
}

/// The records that one stream has of all.
fn of_stream(keys: &Keys, share: Share) -> Keys {
    let (stream, streams) = (u64::from(share.stream), u64::from(share.streams.max(1)));
    let own = keys.population.saturating_sub(stream).div_ceil(streams);
    Keys {
        population: own.max(1),
        ..*keys
    }
}

/// UNIX time that packets tell as that of the start, 2026-01-01: a run does not depend on the day.
const EPOCH_S: i64 = 1_767_225_600;

/// Which draws of a stream these are: whose the slots are, what is in the packets, and what was before the start.
const PARTS: u16 = 1;
const VALUES: u16 = 2;
const SETTLING: u16 = 3;

#[cfg(test)]
mod tests;
