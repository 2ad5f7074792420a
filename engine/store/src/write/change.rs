//! The live packet that tells one change.

use binrush_wire::{Builder, Generation, Release};

use super::fields::Fields;
use super::{Unfit, begin, sent_as, version};
use crate::change::{Change, Named};
use crate::read::rows;

/// Begins the packet by which a live `release` tells `change`, in `buffer`: all but the trailer of 2.3 and later. `from` is the
/// machine id that 2.2 puts in front; `now`, in seconds since 1970, is for what says how long it is left. What is lost on the way
/// stands in the docs of this module.
///
/// # Errors
/// [`Unfit`]; [`Unfit::NoMessage`] also for a VALUE without the `h_id` that its receivers find the dialog by.
pub fn change<'b>(
    change: &Change<'_>,
    release: Release,
    from: i32,
    now: i64,
    buffer: &'b mut [u8],
) -> Result<Builder<'b>, Unfit> {
    change_in(change, release, from, now, &mut Vec::new(), buffer)
}

/// As [`change`], with room for the fields.
pub(crate) fn change_in<'b>(
    change: &Change<'_>,
    release: Release,
    from: i32,
    now: i64,
    room: &mut Vec<u8>,
    buffer: &'b mut [u8],
) -> Result<Builder<'b>, Unfit> {
    let kind = change.kind();
    let none = Unfit::NoMessage {
        change: kind,
        release,
    };
    if matches!(change, Change::DialogValue { dialog, .. } if dialog.h_id.is_none()) {
        return Err(none);
    }
    let (name, command) = sent_as(kind, release).ok_or(none)?;
    let version = match change {
        Change::DialogDeleted(Named { h_id: None, .. })
        | Change::DialogCseq {
            dialog: Named { h_id: None, .. },
            ..
        } if release >= Release::V3_1 => BY_TAGS,
        _ => version(kind.record(), release),
    };
    let mut possible = rows::of(name.as_bytes()).iter();
    let row = possible
        .find(|row| row.command == command && row.spoken_by(release) && row.takes(version.into()))
        .ok_or(none)?;
    room.clear();
    let mut fields = Fields::new(room, release, now);
    if release.generation() == Generation::Transitional {
        fields.int(from);
    }
    fields.change(change, &row.layout);
    fields.finish()?;
    let mut packet = begin(name, command, version, release, buffer)?;
    packet.append(room)?;
    Ok(packet)
}

/// The header version of 3.1 and later whose DELETED and CSEQ name a dialog by its tags.
const BY_TAGS: i16 = 3;
