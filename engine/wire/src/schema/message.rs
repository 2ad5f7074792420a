//! What a message looks like: the types that the tables are made of.

use super::walk::{self, Field};
use crate::error::Result;
use crate::field::Fields;
use crate::generation::{Generation, Release};
use crate::packet::Packet;
use crate::trailer::Trailer;

/// One message in the releases that lay it out the same way.
#[derive(Debug)]
pub struct Message {
    /// The command (type) in the packet.
    pub command: i32,
    /// What OpenSIPS calls it.
    pub name: &'static str,
    /// First and last release with this layout.
    pub releases: (Release, Release),
    /// Header versions that go with this layout, lowest and highest; `None` where no receiver looks.
    /// Inside a sync chunk it is the SYNC packet's data version.
    pub versions: Option<(i16, i16)>,
    /// Whether clusterer routes it: a leading machine id in 2.2, a trailer from 2.3 on.
    pub routed: bool,
    /// Index in `layout` of the string that names the record: events of one key stay in order.
    pub key: Option<usize>,
    /// An older release uses the same command and version for something with another key, so that only a
    /// look at all fields tells which one a packet is.
    pub ambiguous: bool,
    /// The fields, in order.
    pub layout: &'static [Item],
}

/// One step of a layout.
#[derive(Debug, Clone, Copy)]
pub enum Item {
    /// A string.
    Str(&'static str),
    /// An integer.
    Int(&'static str),
    /// A string that holds a raw C object of fixed size (rule R6).
    Object(&'static str, Object),
    /// The items of another layout, here.
    Include(&'static [Self]),
    /// An int that counts, then that many groups (rule R3).
    Counted {
        /// Name of the int.
        count: &'static str,
        /// Name of the groups.
        group: &'static str,
        /// The count's own limit.
        max: u32,
        /// The fields of one group.
        items: &'static [Self],
    },
    /// Groups until the data ends.
    ToEnd(&'static str, &'static [Self]),
    /// The items that the last int read selects; any other value is [`ErrorKind::Variant`](crate::ErrorKind::Variant).
    Case(&'static [(i32, &'static [Self])]),
    /// An int, followed by the items unless it is 0.
    IfNonZero(&'static str, &'static [Self]),
    /// A string, followed by the items unless it is empty.
    IfNotEmpty(&'static str, &'static [Self]),
    /// The items, unless the data ends here.
    IfMore(&'static [Self]),
    /// Sync chunks to the end, of the capability and data version in the string and int just before.
    Chunks(&'static str),
    /// Whatever is left, opaque: the module's own affair.
    Rest(&'static str),
}

/// A raw C object (LP64, little-endian) inside a string field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `time_t`, 8 bytes: UNIX time in seconds, 0 = never.
    Time,
    /// `int`, 4 bytes.
    Int,
    /// `uint64_t`, 8 bytes.
    Id,
    /// `struct ip_addr`, 24 bytes: u32 address family (2 or 10), u32 length (4 or 16), 16 bytes address.
    Address,
}

impl Object {
    /// Size in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Int => 4,
            Self::Time | Self::Id => 8,
            Self::Address => 24,
        }
    }
}

impl Message {
    /// Reads every field of `packet` in order; returns the trailer of a routed packet.
    ///
    /// `visit` sees the fields up to the first that fails.
    ///
    /// # Errors
    /// The error of the field that failed, or [`ErrorKind::Leftover`](crate::ErrorKind::Leftover) when bytes remain.
    pub fn walk<'a>(
        &self,
        packet: &Packet<'a>,
        visit: impl FnMut(&Field<'_, 'a>),
    ) -> Result<Option<Trailer>> {
        walk::packet(self, packet, visit)
    }

    /// The key of the record that `packet` is about, if this message is about one.
    ///
    /// # Errors
    /// The error of the first field up to the key that failed.
    #[inline]
    pub fn key<'a>(&self, packet: &Packet<'a>) -> Result<Option<&'a [u8]>> {
        let mut fields = packet.fields();
        if self.routed && packet.generation() == Generation::Transitional {
            fields.skip_int(1)?;
        }
        self.key_in(fields)
    }

    #[inline]
    pub(super) fn key_in<'a>(&self, mut fields: Fields<'a>) -> Result<Option<&'a [u8]>> {
        let Some(index) = self.key else {
            return Ok(None);
        };
        for item in &self.layout[..index] {
            match item {
                Item::Int(_) => fields.skip_int(1)?,
                _ => fields.skip_str(1)?,
            }
        }
        fields.pop_str().map(Some)
    }

    /// Whether `release` lays the message out this way.
    #[inline]
    #[must_use]
    pub fn spoken_by(&self, release: Release) -> bool {
        (self.releases.0..=self.releases.1).contains(&release)
    }

    /// Whether any release of `generation` lays the message out this way.
    #[inline]
    #[must_use]
    pub fn spoken_in(&self, generation: Generation) -> bool {
        (self.releases.0.generation()..=self.releases.1.generation()).contains(&generation)
    }

    /// Whether the layout goes with header version `version`.
    #[inline]
    #[must_use]
    pub fn takes(&self, version: i16) -> bool {
        self.versions
            .is_none_or(|(lowest, highest)| (lowest..=highest).contains(&version))
    }
}

/// A row of the tables: routed, and about no single record (or one that no field of its own names, so that all
/// of its kind have one owner).
pub(super) const fn row(
    command: i32,
    name: &'static str,
    releases: (Release, Release),
    versions: Option<(i16, i16)>,
    layout: &'static [Item],
) -> Message {
    Message {
        command,
        name,
        releases,
        versions,
        routed: true,
        key: None,
        ambiguous: false,
        layout,
    }
}

/// A row for what one sync chunk holds; `versions` are data versions.
pub(super) const fn chunk(
    releases: (Release, Release),
    versions: Option<(i16, i16)>,
    layout: &'static [Item],
) -> Message {
    row(SYNC_CHUNK, "SYNC_CHUNK", releases, versions, layout).unrouted()
}

impl Message {
    /// The row with the record key at `index` of its layout.
    pub(super) const fn keyed(self, index: usize) -> Self {
        Self {
            key: Some(index),
            ..self
        }
    }

    /// The row of a message that clusterer does not route.
    pub(super) const fn unrouted(self) -> Self {
        Self {
            routed: false,
            ..self
        }
    }

    /// The row of a message that an older release tells something else by.
    pub(super) const fn ambiguous(self) -> Self {
        Self {
            ambiguous: true,
            ..self
        }
    }
}

/// Smallest number of bytes the items can take: what a count is checked against before any loop (R3).
pub(super) fn min_len(items: &[Item], generation: Generation) -> usize {
    let string = generation.length_width();
    items
        .iter()
        .map(|item| match item {
            Item::Str(_) | Item::IfNotEmpty(..) => string,
            Item::Object(_, object) => string + object.size(),
            Item::Int(_) | Item::Counted { .. } | Item::IfNonZero(..) => 4,
            Item::Include(items) => min_len(items, generation),
            Item::Case(_) | Item::ToEnd(..) | Item::IfMore(_) | Item::Chunks(_) | Item::Rest(_) => {
                0
            }
        })
        .sum()
}

/// The command under which a module's sync chunks are laid out; clusterer hands them to modules under it.
pub const SYNC_CHUNK: i32 = 101;
