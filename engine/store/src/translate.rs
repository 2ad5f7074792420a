//! Packets of one release as packets of another, one at a time.
//!
//! ```text
//!              ┌─ the cluster's own ─────────────────────────────────────────────────▶ refused
//!   packet ────┤  what the target has no message for, or lays out otherwise ─────────▶ refused
//!  of release  │  laid out as the target's own, or unknown within one generation ────▶ opaque: its bytes
//!     A        └─ a change of a record ──read──▶ Change ──write──▶ packets of release B, with the caller's ids
//! ```
//!
//! What is lost on the way through a release stands in the docs of [`write`](crate::write); what becomes of each message between
//! each two releases in `engine/store/TRANSLATION.md`, which is made of [`table()`](fn@crate::translate::table). A message that the
//! target lacks is refused, even where another one comes near to its effect: a full record is not known here, and nothing is guessed.
//!
//! A translator has no clock, no socket and no memory of packets: what comes out depends on the packet alone. An opaque packet was
//! read as well, to its last byte, unless nobody knows its name: what would break a genuine node is not passed on to one.

use binrush_wire::schema::{self, Message, SchemaError};
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN, Packet, Release, Trailer, WireError};

use crate::change::{Change, ChangeKind};
use crate::labels;
use crate::model::Contact;
use crate::read::{ReadError, Scratch, read};
use crate::vars::TextError;
use crate::write::{self, Unfit};

/// What becomes of a packet, without its bytes.
mod plan;
/// Every message between all releases.
mod table;

pub use plan::Refusal;
pub use table::{Row, Verdict, rows, table};

use plan::Plan;

/// Whom packets are from, and for: what clusterer puts around their fields. 1.x has nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The machine id that 2.2 puts in front.
    pub machine: i32,
    /// What 2.3 and later put at the end.
    pub trailer: Trailer,
}

/// Makes packets of one release of those of any. It has room for one packet, 64 KiB, and allocates only where a dialog's lists or
/// a packet's fields are longer than all before.
#[derive(Debug)]
pub struct Translator {
    scratch: Scratch,
    writer: Writer,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written anew, as this many packets; more than one only where a list of counts became longer than a packet.
    Translated {
        /// How many: [`Translator::ends`] tells where each ends.
        packets: u32,
    },
    /// The target takes it as it is, and nothing was written. The ids around its fields are still those of its sender: see
    /// [`Translator::readdress`].
    Opaque,
    /// There is no packet of the target that says the same, and nothing was written.
    Refused(Refusal),
}

/// What packets are written for, and with.
#[derive(Debug)]
struct Writer {
    to: Release,
    ids: Ids,
    fields: Vec<u8>,
    packet: Box<[u8]>,
    ends: Vec<usize>,
}

impl Translator {
    /// One whose packets are for a node of release `to`.
    #[must_use]
    pub fn new(to: Release, ids: Ids) -> Self {
        let writer = Writer {
            to,
            ids,
            fields: Vec::new(),
            packet: vec![0; MAX_PACKET_LEN].into(),
            ends: Vec::new(),
        };
        Self {
            scratch: Scratch::default(),
            writer,
        }
    }

    /// Appends to `out` what says the same as `packet` at the target: whole packets, one behind the other. `from` is the release of
    /// its sender, if it is known; `now`, in seconds since 1970, is for what says how long it is left. Without a release, dialogs
    /// of 3.1 and later are always written anew: 3.4 changed what their values look like, and no byte tells.
    pub fn translate(
        &mut self,
        packet: &Packet<'_>,
        from: Option<Release>,
        now: i64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let found = identified(packet, from);
        self.translate_identified(packet, found, from, now, out)
    }

    /// As [`translate`](Self::translate), for who has several targets: what `packet` is, by [`identified`] with the same `from`, is
    /// the same for all of them.
    pub fn translate_identified(
        &mut self,
        packet: &Packet<'_>,
        found: Result<&'static Message, SchemaError>,
        from: Option<Release>,
        now: i64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        self.writer.ends.clear();
        let from = from.or_else(|| only_release(packet.generation()));
        match self.plan(packet, found, from) {
            Plan::Refuse(why) => Outcome::Refused(why),
            Plan::Pass => Outcome::Opaque,
            Plan::WriteAnew => match self.write_anew(packet, from, now, out) {
                Ok(packets) => Outcome::Translated { packets },
                Err(why) => Outcome::Refused(why),
            },
        }
    }

    /// Appends to `out` the packets that tell `change` at the target, and says how many.
    ///
    /// # Errors
    /// Why there are none; `out` is as it was.
    pub fn write(
        &mut self,
        change: &Change<'_>,
        now: i64,
        out: &mut Vec<u8>,
    ) -> Result<u32, Refusal> {
        self.writer.write(change, now, out)
    }

    /// Appends to `out` an opaque packet with the ids of this translator around its fields, in place of its sender's.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`]: it has no ids. [`Refusal::TooLong`]: the target takes none of its length. `out` is as it was.
    pub fn readdress(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut fields = packet.fields();
        let stripped = match packet.generation() {
            Generation::Legacy => Ok(()),
            Generation::Transitional => fields.skip_int(1),
            Generation::Modern => fields.pop_trailer().map(drop),
        };
        stripped.map_err(|error| Refusal::Unreadable(error.into()))?;
        let written = self.writer.wrap(packet, fields.rest());
        out.extend_from_slice(written.map_err(|_| Refusal::TooLong)?);
        Ok(())
    }

    /// Where each of the packets that were written last ends, as places in `out`. Only 2.2 and later need several for one, and they
    /// read streams: who writes to one need not look.
    #[must_use]
    pub fn ends(&self) -> &[usize] {
        &self.writer.ends
    }

    /// What the texts of values and profiles held that is none and was left out, the first since this was asked last.
    pub const fn take_wrong(&mut self) -> Option<TextError> {
        self.scratch.take_wrong()
    }

    /// The release of the packets that are written.
    #[must_use]
    pub const fn to(&self) -> Release {
        self.writer.to
    }

    fn plan(
        &self,
        packet: &Packet<'_>,
        found: Result<&'static Message, SchemaError>,
        from: Option<Release>,
    ) -> Plan {
        let to = self.writer.to;
        let plan = match found {
            Ok(message) => plan::of(packet.name(), message, packet.version(), from, to),
            Err(SchemaError::UnknownName) => plan::of_unknown(packet.generation(), to),
            Err(error) => Plan::Refuse(Refusal::Unreadable(error)),
        };
        if plan != Plan::Pass || packet.bytes().len() <= write::longest_packet(to) {
            return plan;
        }
        // 4.0 takes a little less than its predecessors send.
        match found {
            Ok(message) if is_list(packet.name(), message) => Plan::WriteAnew,
            _ => Plan::Refuse(Refusal::TooLong),
        }
    }

    fn write_anew(
        &mut self,
        packet: &Packet<'_>,
        from: Option<Release>,
        now: i64,
        out: &mut Vec<u8>,
    ) -> Result<u32, Refusal> {
        match read(packet, from, now, &mut self.scratch) {
            Ok(change) => self.writer.write(&change, now, out),
            Err(ReadError::Schema(error)) => Err(Refusal::Unreadable(error)),
            Err(ReadError::NoRecord(_)) => Err(Refusal::OtherLayout),
        }
    }
}

impl Writer {
    fn write(&mut self, change: &Change<'_>, now: i64, out: &mut Vec<u8>) -> Result<u32, Refusal> {
        self.ends.clear();
        if self.to == Release::V1x && lacks_socket(change) {
            return Err(Refusal::NoSocket);
        }
        // Who has none of its own would share one id with all others of its hash at the target.
        let labelled = match self.to >= Release::V2_4 {
            true => labels::labelled_change(change),
            false => None,
        };
        let change = labelled.as_ref().unwrap_or(change);
        let start = out.len();
        match self.write_parts(change, now, out) {
            Ok(()) => Ok(u32::try_from(self.ends.len()).unwrap_or(u32::MAX)),
            Err(unfit) => {
                out.truncate(start);
                self.ends.clear();
                Err(unfit.into())
            }
        }
    }

    /// As one packet, or as the halves of a list that is too long for one.
    fn write_parts(
        &mut self,
        change: &Change<'_>,
        now: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
        match self.write_one(change, now, out) {
            Err(error @ Unfit::Wire(_)) => {
                let halves = halves(change).ok_or(error)?;
                halves
                    .iter()
                    .try_for_each(|half| self.write_parts(half, now, out))
            }
            written => written,
        }
    }

    fn write_one(&mut self, change: &Change<'_>, now: i64, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let (fields, buffer) = (&mut self.fields, &mut self.packet);
        let mut packet = write::change_in(change, self.to, self.ids.machine, now, fields, buffer)?;
        if self.to.generation() == Generation::Modern {
            packet.push_trailer(self.ids.trailer)?;
        }
        out.extend_from_slice(packet.seal());
        self.ends.push(out.len());
        Ok(())
    }

    /// `fields` under the header of `packet`, with our ids around them.
    fn wrap(&mut self, packet: &Packet<'_>, fields: &[u8]) -> Result<&[u8], WireError> {
        let generation = packet.generation();
        let mut anew = Builder::with_limit(
            generation,
            &mut self.packet,
            packet.name(),
            packet.command(),
            packet.version().unwrap_or_default(),
            write::longest_packet(self.to),
        )?;
        if generation == Generation::Transitional {
            anew.push_int(self.ids.machine)?;
        }
        anew.append(fields)?;
        if generation == Generation::Modern {
            anew.push_trailer(self.ids.trailer)?;
        }
        Ok(anew.finish())
    }
}

/// What `packet` is, as a sender of release `from` means it; without one, as its fields leave possible.
///
/// # Errors
/// Those of [`schema::identify_from`].
pub fn identified(
    packet: &Packet<'_>,
    from: Option<Release>,
) -> Result<&'static Message, SchemaError> {
    match from.or_else(|| only_release(packet.generation())) {
        Some(release) => schema::identify_from(release, packet),
        None => schema::identify(packet),
    }
}

/// The release of a generation that has one only.
const fn only_release(generation: Generation) -> Option<Release> {
    match generation {
        Generation::Legacy => Some(Release::V1x),
        Generation::Transitional => Some(Release::V2_2),
        Generation::Modern => None,
    }
}

/// Whether a message can be cut into several.
fn is_list(name: &[u8], message: &Message) -> bool {
    let kind = ChangeKind::of_message(name, message.name);
    matches!(kind, Some(ChangeKind::Profiles | ChangeKind::Pipes))
}

fn halves<'a>(change: &Change<'a>) -> Option<[Change<'a>; 2]> {
    match change {
        Change::Profiles(counts) if counts.len() > 1 => {
            let (front, back) = counts.split_at(counts.len() / 2);
            Some([front, back].map(|half| Change::Profiles(half.to_vec())))
        }
        Change::Pipes(counts) if counts.len() > 1 => {
            let (front, back) = counts.split_at(counts.len() / 2);
            Some([front, back].map(|half| Change::Pipes(half.to_vec())))
        }
        _ => None,
    }
}

/// Whether a receiver of 1.x would refuse it for its empty sockets. Later ones know of contacts and calls that came in elsewhere.
/// (1.11 `usrloc/ureplication.c`, `receive_ucontact_insert`; `dialog/dlg_replication.c`, `dlg_replicated_create`.)
fn lacks_socket(change: &Change<'_>) -> bool {
    match change {
        Change::ContactInserted(Contact { socket, .. }, _)
        | Change::ContactUpdated(Contact { socket, .. }, _) => socket.is_empty(),
        Change::DialogCreated(dialog) => dialog.sockets.iter().any(|socket| socket.is_empty()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
