//! Which fields a known payload has, per release: data, not code.
//!
//! BIN fields carry no type tags and nothing on the wire names the release, so a payload is read by trying
//! the layouts its name, command and version allow, newest first:
//! [`identify`](crate::schema::identify) takes the first that uses up the packet to its last byte. A receiver
//! that knows its peer's release asks [`find`](crate::schema::find) instead. Steering needs the record key
//! only: [`key`](crate::schema::key).
//!
//! ```text
//!  Capability "dialog-dlg-repl" ─▶ Message CREATED, 3.1-4.0, version 3-4 ─▶ [Str callid, Str caller_tag, ..., Int h_id, ...]
//!                                  Message CREATED, 3.0,     version 2   ─▶ [...]
//! ```
//!
//! The layouts are facts read from the senders and receivers of each OpenSIPS branch; every table names its
//! source file. Those of 1.11, 2.4 and 3.6 are checked against captured traffic.

use core::fmt;

use crate::chunk::Chunk;
use crate::error::WireError;
use crate::generation::Release;
use crate::packet::Packet;

/// clusterer's own messages.
mod clusterer;
/// Dialogs and dialog profiles.
mod dialog;
/// The types the tables are made of.
mod message;
/// The capabilities with one or two small messages.
mod small;
/// usrloc: AoRs and contacts.
mod usrloc;
/// Reading a packet along a layout.
mod walk;

pub use message::{Item, Message, Object, SYNC_CHUNK};
pub use walk::{Field, Step, Value};

use message::{chunk, row};

/// A module (1.x to 2.3) or capability (2.4+) and all it ever sent.
#[derive(Debug)]
pub struct Capability {
    /// The name in the packet header.
    pub name: &'static str,
    /// Its messages, newest release first where a command has several layouts.
    pub messages: &'static [Message],
    /// What one chunk of a SYNC packet for it holds, under the command [`SYNC_CHUNK`].
    pub chunks: &'static [Message],
}

/// Everything that is known, the busiest names first.
pub static CAPABILITIES: &[&Capability] = &[
    &dialog::DIALOG,
    &usrloc::UL,
    &dialog::DIALOG_DLG_REPL,
    &usrloc::USRLOC_CONTACT_REPL,
    &clusterer::INTERNAL,
    &clusterer::EXTRA,
    &dialog::DIALOG_PROF_REPL,
    &small::RATELIMIT_PIPE_REPL,
    &small::CACHEDB_LOCAL_REPL,
    &small::TM_REPL,
    &small::PRESENCE,
    &small::PUA,
    &small::LOAD_BALANCER_STATUS_REPL,
    &small::DISPATCHER_STATUS_REPL,
    &small::DROUTING_STATUS_REPL,
    &small::B2BE_ENTITIES_REPL,
    &clusterer::CLUSTERER_2_3,
    &small::RATELIMIT,
    &small::LOAD_BALANCER,
    &small::DROUTING,
];

/// Why a packet's payload has no meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaError {
    /// No release sends this name in this generation. Normal for a private module.
    UnknownName,
    /// The name is known, the command is not.
    UnknownCommand,
    /// Name and command are known, but not with this header version; a genuine node discards it too.
    UnknownVersion,
    /// Every layout failed; this is where the one that got furthest did.
    Field(WireError),
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => f.write_str("unknown_name: no known module or capability"),
            Self::UnknownCommand => f.write_str("unknown_command: name known, command not"),
            Self::UnknownVersion => f.write_str("unknown_version: no layout has this version"),
            Self::Field(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SchemaError {}

impl From<WireError> for SchemaError {
    fn from(error: WireError) -> Self {
        Self::Field(error)
    }
}

/// The message that `packet` is: the first candidate whose layout uses up the packet exactly.
///
/// # Errors
/// [`SchemaError`]: unknown, or where the best candidate failed.
pub fn identify(packet: &Packet<'_>) -> Result<&'static Message, SchemaError> {
    match best_fit(packet)? {
        (message, None) => Ok(message),
        (_, Some(error)) => Err(SchemaError::Field(error)),
    }
}

/// As [`identify`], but also gives the candidate that got furthest into a packet none fits, with its error.
///
/// # Errors
/// [`SchemaError`], never [`SchemaError::Field`].
pub fn best_fit(packet: &Packet<'_>) -> Result<(&'static Message, Option<WireError>), SchemaError> {
    let mut best: Option<(&'static Message, WireError)> = None;
    for message in candidates(packet) {
        match message.walk(packet, |_| {}) {
            Ok(_) => return Ok((message, None)),
            Err(error) if best.is_none_or(|(_, best)| error.at > best.at) => {
                best = Some((message, error));
            }
            Err(_) => {}
        }
    }
    match best {
        Some((message, error)) => Ok((message, Some(error))),
        None => Err(unknown(packet)),
    }
}

/// As [`identify`] for a packet of a known release: only its layouts, those of its point releases included.
///
/// # Errors
/// [`SchemaError`]: unknown to that release, or where its newest layout failed.
pub fn identify_from(
    release: Release,
    packet: &Packet<'_>,
) -> Result<&'static Message, SchemaError> {
    let mut newest = None;
    for message in candidates(packet).filter(|message| message.spoken_by(release)) {
        match message.walk(packet, |_| {}) {
            Ok(_) => return Ok(message),
            Err(error) => newest = newest.or(Some(error)),
        }
    }
    Err(newest.map_or_else(|| unknown(packet), SchemaError::Field))
}

/// The key of the record that `packet` is about (Call-ID, AoR), or `None` for a message about no single one.
///
/// Reads no further than the key, unless releases disagree on where it is: cheap enough for steering. A
/// packet without a readable key (unknown name, command or version, broken fields) belongs to no record that
/// could be known here; give all those of one name to one owner.
///
/// # Errors
/// [`SchemaError`]: unknown, or where the fields before the key or the key itself failed.
#[inline]
pub fn key<'a>(packet: &Packet<'a>) -> Result<Option<&'a [u8]>, SchemaError> {
    let message = match candidates(packet).next() {
        Some(newest) if newest.ambiguous => identify(packet)?,
        Some(newest) => newest,
        None => return Err(unknown(packet)),
    };
    Ok(message.key(packet)?)
}

/// The key of the record in a sync chunk of `capability` with `data_version`; `None` as for [`key`].
///
/// # Errors
/// [`SchemaError`]: unknown, or where the fields up to the key failed.
pub fn chunk_key<'a>(
    capability: &[u8],
    data_version: i32,
    chunk: &Chunk<'a>,
) -> Result<Option<&'a [u8]>, SchemaError> {
    match chunk_candidates(capability, data_version).next() {
        Some(message) => Ok(message.key_in(chunk.fields())?),
        None if self::capability(capability).is_none_or(|known| known.chunks.is_empty()) => {
            Err(SchemaError::UnknownName)
        }
        None => Err(SchemaError::UnknownVersion),
    }
}

/// The layouts a chunk's data may have, newest first.
fn chunk_candidates(name: &[u8], data_version: i32) -> impl Iterator<Item = &'static Message> {
    capability(name)
        .map_or(&[][..], |capability| capability.chunks)
        .iter()
        .filter(move |message| {
            i16::try_from(data_version).is_ok_and(|version| message.takes(version))
        })
}

/// The layout that the last of `release`'s point releases gives to a message, or `None` if it does not send
/// it. Earlier ones of the branch may differ: read their packets with [`identify_from`].
#[must_use]
pub fn find(release: Release, name: &[u8], command: i32) -> Option<&'static Message> {
    capability(name)?
        .messages
        .iter()
        .find(|message| message.command == command && message.spoken_by(release))
}

/// Looks a module or capability up by the name in a packet.
#[inline]
#[must_use]
pub fn capability(name: &[u8]) -> Option<&'static Capability> {
    CAPABILITIES
        .iter()
        .copied()
        .find(|capability| capability.name.as_bytes() == name)
}

/// The layouts that name, command, version and generation of `packet` leave possible, newest first.
#[inline]
pub fn candidates(packet: &Packet<'_>) -> impl Iterator<Item = &'static Message> {
    let (generation, command, version) = (packet.generation(), packet.command(), packet.version());
    messages(packet.name()).iter().filter(move |message| {
        message.command == command
            && message.spoken_in(generation)
            && version.is_none_or(|version| message.takes(version))
    })
}

fn messages(name: &[u8]) -> &'static [Message] {
    capability(name).map_or(&[], |capability| capability.messages)
}

#[cold]
fn unknown(packet: &Packet<'_>) -> SchemaError {
    let here = |message: &&Message| message.spoken_in(packet.generation());
    let mut sent = messages(packet.name()).iter().filter(here).peekable();
    if sent.peek().is_none() {
        SchemaError::UnknownName
    } else if sent.all(|message| message.command != packet.command()) {
        SchemaError::UnknownCommand
    } else {
        SchemaError::UnknownVersion
    }
}

#[cfg(test)]
mod tests {
    use super::message::min_len;
    use super::*;
    use crate::builder::Builder;
    use crate::error::ErrorKind;
    use crate::generation::Generation;
    use crate::trailer::Trailer;

    fn all_messages() -> impl Iterator<Item = (&'static str, &'static Message)> {
        CAPABILITIES.iter().flat_map(|capability| {
            let messages = capability.messages.iter().chain(capability.chunks);
            messages.map(|message| (capability.name, message))
        })
    }

    #[test]
    fn a_key_is_a_string_with_only_single_fields_before_it() {
        for (name, message) in all_messages() {
            if let Some(index) = message.key {
                assert!(
                    matches!(message.layout[index], Item::Str(_)),
                    "{name} {}",
                    message.name
                );
                for item in &message.layout[..index] {
                    assert!(
                        matches!(item, Item::Str(_) | Item::Int(_) | Item::Object(..)),
                        "{name} {}",
                        message.name
                    );
                }
            }
        }
    }

    #[test]
    fn repeated_groups_always_advance() {
        fn check(items: &[Item]) {
            for item in items {
                match item {
                    Item::ToEnd(_, group) | Item::Counted { items: group, .. } => {
                        assert!(min_len(group, Generation::Modern) > 0, "{item:?}");
                        check(group);
                    }
                    Item::Include(group)
                    | Item::IfNonZero(_, group)
                    | Item::IfNotEmpty(_, group)
                    | Item::IfMore(group) => check(group),
                    Item::Case(cases) => cases.iter().for_each(|(_, group)| check(group)),
                    _ => {}
                }
            }
        }
        all_messages().for_each(|(_, message)| check(message.layout));
    }

    #[test]
    fn groups_nest_no_deeper_than_the_walk_keeps_track_of() {
        fn depth(items: &[Item]) -> usize {
            let below = |item: &Item| match item {
                Item::ToEnd(_, group) | Item::Counted { items: group, .. } => 1 + depth(group),
                Item::Chunks(_) => 1 + all_chunks(),
                Item::Include(group)
                | Item::IfNonZero(_, group)
                | Item::IfNotEmpty(_, group)
                | Item::IfMore(group) => depth(group),
                Item::Case(cases) => cases
                    .iter()
                    .map(|(_, group)| depth(group))
                    .max()
                    .unwrap_or(0),
                _ => 0,
            };
            items.iter().map(below).max().unwrap_or(0)
        }
        fn all_chunks() -> usize {
            let chunks = CAPABILITIES.iter().flat_map(|capability| capability.chunks);
            chunks
                .map(|message| depth(message.layout))
                .max()
                .unwrap_or(0)
        }
        let deepest = all_messages()
            .map(|(_, message)| depth(message.layout))
            .max();
        assert!(
            deepest.is_some_and(|deepest| deepest <= walk::DEPTH_MAX),
            "{deepest:?}"
        );
    }

    fn packet_of(name: &str, command: i32, version: i16, fields: &[u8], routed: bool) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut builder = Builder::new(
            Generation::Modern,
            &mut buffer,
            name.as_bytes(),
            command,
            version,
        )
        .unwrap();
        builder.append(fields).unwrap();
        if routed {
            builder.push_trailer(Trailer::new(1, 2, 3)).unwrap();
        }
        builder.seal().to_vec()
    }

    /// 3.0.0 sends its CSEQ under number and version of 2.4's SHTAG_ACTIVE, which has no key.
    #[test]
    fn a_key_is_found_where_releases_disagree_on_it() {
        let cseq = b"\x02\0c1\x01\0a\x01\0b\x07\0\0\0";
        let packet = packet_of("dialog-dlg-repl", 4, 1, cseq, true);
        let packet = Packet::parse(Generation::Modern, &packet).unwrap();
        assert_eq!(identify(&packet).unwrap().name, "CSEQ");
        assert_eq!(key(&packet), Ok(Some(&b"c1"[..])));
        let packet = packet_of("dialog-dlg-repl", 4, 1, b"\x03\0vip", true);
        let packet = Packet::parse(Generation::Modern, &packet).unwrap();
        assert_eq!(identify(&packet).unwrap().name, "SHTAG_ACTIVE");
        assert_eq!(key(&packet), Ok(None));
        let error = identify_from(Release::V3_5, &packet).unwrap_err();
        assert_eq!(error, SchemaError::UnknownVersion);
    }

    #[test]
    fn candidates_agree_on_the_key_unless_the_newest_says_otherwise() {
        for capability in CAPABILITIES {
            for (i, newest) in capability.messages.iter().enumerate() {
                let agrees = |older: &&Message| {
                    let (low, high) = newest.versions.unwrap_or((i16::MIN, i16::MAX));
                    older.command != newest.command
                        || older.key == newest.key
                        || !(low..=high).any(|version| older.takes(version))
                        || older.releases.1.generation() != newest.releases.0.generation()
                };
                let agree = capability.messages[i + 1..]
                    .iter()
                    .all(|older| agrees(&older));
                assert_eq!(
                    newest.ambiguous, !agree,
                    "{} {}",
                    capability.name, newest.name
                );
            }
        }
    }

    #[test]
    fn a_value_that_selects_nothing_is_an_error_at_that_value() {
        let packet = packet_of("clusterer-extra", 7, 1, b"\x05\0\0\0\0\0\0\0", true);
        let packet = Packet::parse(Generation::Modern, &packet).unwrap();
        let at = packet.fields().offset();
        let Some(message) = find(Release::V4_0, b"clusterer-extra", 7) else {
            panic!("known")
        };
        let error = message.walk(&packet, |_| {}).unwrap_err();
        assert_eq!(
            (error.kind, error.at, error.have),
            (ErrorKind::Variant, at, 5)
        );
    }

    #[test]
    fn releases_and_versions_are_in_order() {
        for (name, message) in all_messages() {
            assert!(
                message.releases.0 <= message.releases.1,
                "{name} {}",
                message.name
            );
            assert!(
                message.versions.is_none_or(|(low, high)| low <= high),
                "{name} {}",
                message.name
            );
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in CAPABILITIES.iter().enumerate() {
            assert!(
                CAPABILITIES[i + 1..].iter().all(|b| a.name != b.name),
                "{}",
                a.name
            );
        }
    }
}
