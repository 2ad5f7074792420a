//! Packets and sync chunks of every release, as what they do to records.
//!
//! Straight pops, in the order of a row of `read/rows.rs`; no allocation but for lists (profiles, pipes, the parameters that a
//! contact is matched by). The rows say what `binrush_wire::schema` says, which the tests hold them to: a packet is what its name,
//! command, version and, if it is known, its sender's release leave possible, newest first, and what uses it up to its last byte.
//! 2.2 puts a machine id before the fields, 2.3 and later put cluster and nodes behind them: both are stepped over.
//!
//! What is made of the payload beyond that:
//!
//! | field | here |
//! |---|---|
//! | `vars`, `profiles` | one list for all releases, see [`vars`](crate::vars); items that are none are left out and told by [`take_wrong`](crate::read::Scratch::take_wrong) |
//! | `contact_id` 0 | none: its receiver makes one (3.6 `usrloc/urecord.c`, `insert_ucontact`) |
//! | VALUE without its value | the variable goes: the sender's value was NULL (3.6 `dlg_replication.c`, `replicate_dialog_value`) |
//! | MATCH -1, or none | by URI: as `matching_mode` of its receiver says, which is that unless configured (1.11, 2.4, 3.6 `usrloc/urecord.c`); only for packets of version 2 a 3.1 or later takes the Call-ID as well |
//! | `expires` of cachedb | seconds left become a time; 0 is never; below 0 it is over. Chunks of 3.0, and of 3.1 to 3.3 before October 2022, say when it expires in seconds since their maker's start: never less than what is left. Their receivers take it for seconds left, and so do we: an entry may stay too long, and none goes too early |

use binrush_wire::schema::{self, SchemaError};
use binrush_wire::{Chunk, ErrorKind, Fields, Generation, Packet, Release, WireError};

use crate::change::Change;
use crate::model::Dialog;
use crate::vars::{self, TextError};

mod dialog;
pub(crate) mod rows;
mod small;
mod usrloc;

pub(crate) use dialog::{DialogFields, Sdp};
pub(crate) use usrloc::ContactFields;

use rows::Layout;

/// Why a packet or chunk says nothing about records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It has no meaning, or not this one.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// It is what it says, but about nothing that is kept here: a message of the clusterer, a presence document.
    #[error("no_record: {0} is about no record")]
    NoRecord(&'static str),
}

/// Room for what is not in a packet as records have it. Kept from packet to packet; it grows to the longest that came.
#[derive(Debug, Default)]
pub struct Scratch {
    lists: Vec<u8>,
    wrong: Option<TextError>,
}

/// What `packet` does. `release` is its sender's, if it is known; `now` in seconds since 1970, for what says how long it is left.
///
/// # Errors
/// [`ReadError`]; the same as [`schema::identify`] or [`schema::identify_from`] give for a packet with a broken field.
pub fn read<'a>(
    packet: &Packet<'a>,
    release: Option<Release>,
    now: i64,
    scratch: &'a mut Scratch,
) -> Result<Change<'a>, ReadError> {
    let version = packet.version().map(i32::from);
    let possible = rows::of(packet.name()).iter().filter(|row| {
        row.command == packet.command()
            && row.spoken_in(packet.generation())
            && version.is_none_or(|version| row.takes(version))
            && release.is_none_or(|release| row.spoken_by(release))
    });
    if let Ok(fields) = start(packet) {
        for row in possible {
            if let Ok(mut change) = whole(&row.layout, fields.clone(), now) {
                scratch.finish(&mut change);
                return Ok(change);
            }
        }
    }
    Err(refused(packet, release))
}

/// What one chunk of a SYNC packet does: `capability` and `data_version` stand before the chunks of its packet. Chunks are read as
/// [`read`] reads packets.
///
/// # Errors
/// [`ReadError`]; with a broken field, where the newest of the layouts that are possible failed.
pub fn read_chunk<'a>(
    capability: &[u8],
    data_version: i32,
    release: Option<Release>,
    chunk: &Chunk<'a>,
    now: i64,
    scratch: &'a mut Scratch,
) -> Result<Change<'a>, ReadError> {
    let possible = rows::of_chunks(capability).iter().filter(|row| {
        row.takes(data_version) && release.is_none_or(|release| row.spoken_by(release))
    });
    let mut newest = None;
    for row in possible {
        match whole(&row.layout, chunk.fields(), now) {
            Ok(mut change) => {
                scratch.finish(&mut change);
                return Ok(change);
            }
            Err(error) => newest = newest.or(Some(error)),
        }
    }
    if let Some(error) = newest {
        return Err(SchemaError::Field(error).into());
    }
    if rows::of_chunks(capability).is_empty() {
        schema::chunk_key(capability, data_version, chunk)?;
        return Err(ReadError::NoRecord("SYNC_CHUNK"));
    }
    Err(SchemaError::UnknownVersion.into())
}

impl Scratch {
    /// What the texts of values and profiles held that is none, the first since this was asked last.
    pub const fn take_wrong(&mut self) -> Option<TextError> {
        self.wrong.take()
    }

    /// Puts the lists of a dialog in place of the texts that the wire has.
    fn finish<'a>(&'a mut self, change: &mut Change<'a>) {
        if let Change::DialogCreated(dialog) | Change::DialogUpdated(dialog) = change {
            self.lists(dialog);
        }
    }

    fn lists<'a>(&'a mut self, dialog: &mut Dialog<'a>) {
        self.lists.clear();
        let values = vars::read_values(dialog.vars, &mut self.lists);
        let split = self.lists.len();
        let profiles = vars::read_profiles(dialog.profiles, &mut self.lists);
        self.wrong = self.wrong.or_else(|| values.and(profiles).err());
        (dialog.vars, dialog.profiles) = self.lists.split_at(split);
    }
}

/// The fields of `packet`, without what clusterer puts around them.
fn start<'a>(packet: &Packet<'a>) -> Result<Fields<'a>, WireError> {
    let mut fields = packet.fields();
    match packet.generation() {
        Generation::Legacy => {}
        Generation::Transitional => fields.skip_int(1)?,
        Generation::Modern => {
            fields.pop_trailer()?;
        }
    }
    Ok(fields)
}

/// Reads `fields` by one layout, to the end.
fn whole<'a>(layout: &Layout, mut fields: Fields<'a>, now: i64) -> Result<Change<'a>, WireError> {
    let from = &mut fields;
    let change = match *layout {
        Layout::Created(layout) => Change::DialogCreated(dialog::pop(from, layout)?),
        Layout::Updated(layout) => Change::DialogUpdated(dialog::pop(from, layout)?),
        Layout::Gone { by_id } => dialog::pop_gone(from, by_id)?,
        Layout::Cseq { by_id } => dialog::pop_cseq(from, by_id)?,
        Layout::Value => dialog::pop_value(from)?,
        Layout::Profiles => Change::Profiles(small::pop_profiles(from)?),
        Layout::AorInsert { labels, kv } => usrloc::pop_aor(from, labels, kv)?,
        Layout::AorDelete => Change::AorDeleted(from.pop_str()?, from.pop_str()?),
        Layout::ContactInsert(layout) => usrloc::pop_inserted(from, layout)?,
        Layout::ContactUpdate(layout) => usrloc::pop_updated(from, layout)?,
        Layout::ContactDelete { matching } => usrloc::pop_deleted(from, matching)?,
        Layout::AorOrContact { kv, contact } => usrloc::pop_chunk(from, kv, contact)?,
        Layout::Pipes { flags } => Change::Pipes(small::pop_pipes(from, flags)?),
        Layout::CacheInsert => small::pop_cached(from, now)?,
        Layout::CacheRemove => Change::CacheRemoved(from.pop_str()?, from.pop_str()?),
    };
    match fields.rest().len() {
        0 => Ok(change),
        left => Err(WireError::new(
            ErrorKind::Leftover,
            fields.offset(),
            0,
            left,
        )),
    }
}

/// Why a packet that no row fits is refused, in the words of the schema.
#[cold]
fn refused(packet: &Packet<'_>, release: Option<Release>) -> ReadError {
    let known = match release {
        Some(release) => schema::identify_from(release, packet),
        None => schema::identify(packet),
    };
    match known {
        Ok(message) => ReadError::NoRecord(message.name),
        Err(error) => error.into(),
    }
}
