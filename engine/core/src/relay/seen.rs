//! What a packet is, found once for all targets.

use binrush_store::change::ChangeKind;
use binrush_store::translate::identified;
use binrush_wire::schema::{Message, SchemaError};
use binrush_wire::{Generation, Packet, Release, Trailer};

use super::end::Label;

/// A packet out of a ring.
pub(super) struct Seen<'a> {
    pub(super) label: Label,
    pub(super) packet: Packet<'a>,
    /// Its message.
    pub(super) found: Result<&'static Message, SchemaError>,
    /// What it does to a record, if it is about one.
    pub(super) kind: Option<ChangeKind>,
    /// Of 2.3 and later.
    pub(super) trailer: Option<Trailer>,
    /// Which node made it, if it says so.
    pub(super) maker: Option<i32>,
    /// Without the ids around them.
    pub(super) fields: &'a [u8],
}

impl<'a> Seen<'a> {
    /// `None`: no relay's end put it there.
    pub(super) fn of(stamp: u64, record: &'a [u8]) -> Option<Self> {
        let (label, bytes) = Label::unpack(stamp, record)?;
        let packet = Packet::parse(label.generation, bytes).ok()?;
        let found = identified(&packet, label.release);
        let kind = found.as_ref().ok();
        let kind = kind.and_then(|message| ChangeKind::of_message(packet.name(), message.name));
        let (mut fields, mut trailer) = (packet.fields(), None);
        let maker = match packet.generation() {
            Generation::Legacy => None,
            Generation::Transitional => fields.pop_int().ok(),
            Generation::Modern => {
                trailer = fields.pop_trailer().ok();
                trailer.map(|trailer| trailer.source)
            }
        };
        let fields = fields.rest();
        Some(Self {
            label,
            packet,
            found,
            kind,
            trailer,
            maker,
            fields,
        })
    }

    /// The release that it is of, as far as that is known.
    pub(super) fn release(&self) -> Option<Release> {
        self.label.release.or(match self.label.generation {
            Generation::Legacy => Some(Release::V1x),
            Generation::Transitional => Some(Release::V2_2),
            Generation::Modern => None,
        })
    }

    /// Whether it tells counts, which are those of its maker.
    pub(super) const fn is_count(&self) -> bool {
        matches!(self.kind, Some(ChangeKind::Profiles | ChangeKind::Pipes))
    }

    /// Whether it names sockets.
    pub(super) const fn has_sockets(&self) -> bool {
        matches!(
            self.kind,
            Some(
                ChangeKind::DialogCreated
                    | ChangeKind::DialogUpdated
                    | ChangeKind::ContactInserted
                    | ChangeKind::ContactUpdated
            )
        )
    }
}
