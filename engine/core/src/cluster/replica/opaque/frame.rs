//! A chunk as a packet of its own: what the layouts of chunks are read through.

use std::fmt;

use binrush_wire::schema::{Field, Message, SYNC_CHUNK};
use binrush_wire::{Builder, ErrorKind, Generation, MAX_PACKET_LEN, Packet, Release, WireError};

/// A buffer for one chunk with a header in front, so that a [`Message`] can be walked over it.
pub(super) struct Frame {
    name: Box<[u8]>,
    buffer: Box<[u8]>,
    /// Of the packet that is in it.
    len: usize,
}

impl Frame {
    /// For chunks of this capability.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.as_bytes().into(),
            buffer: vec![0; MAX_PACKET_LEN].into(),
            len: 0,
        }
    }

    /// Puts a chunk in, which may come in pieces.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`]: no packet could carry it.
    pub(super) fn fill(&mut self, pieces: &[&[u8]]) -> Result<(), WireError> {
        let buffer = &mut self.buffer;
        let mut builder = Builder::new(Generation::Modern, buffer, &self.name, SYNC_CHUNK, 0)?;
        pieces.iter().try_for_each(|piece| builder.append(piece))?;
        self.len = builder.seal().len();
        Ok(())
    }

    /// The chunk that is in it.
    pub(super) fn data(&self) -> &[u8] {
        self.buffer.get(self.header()..self.len).unwrap_or_default()
    }

    /// The same, to change some of its bytes.
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        self.buffer.get_mut(header..self.len).unwrap_or_default()
    }

    /// The first of those `rows` that go with `data_version` whose layout uses up the chunk exactly; those that `release`
    /// writes are tried first, because one may be laid out as another's are.
    ///
    /// # Errors
    /// Where the layout failed that got furthest; offsets count from the chunk's first byte. [`ErrorKind::Variant`]: no
    /// layout goes with the version.
    pub(super) fn fit(
        &self,
        rows: &[Message],
        release: Release,
        data_version: i32,
    ) -> Result<u8, WireError> {
        let version = i16::try_from(data_version);
        let takes = |row: &Message| version.is_ok_and(|version| row.takes(version));
        let mut furthest: Option<WireError> = None;
        let numbered = || (0..).zip(rows).filter(|(_, row)| takes(row));
        let his = numbered().filter(|(_, row)| row.spoken_by(release));
        let others = numbered().filter(|(_, row)| !row.spoken_by(release));
        for (number, row) in his.chain(others) {
            match self.walk(row, |_, _| {}) {
                Ok(()) => return Ok(number),
                Err(error) if furthest.is_none_or(|before| error.at > before.at) => {
                    furthest = Some(error);
                }
                Err(_) => {}
            }
        }
        let newest = rows.first().and_then(|row| row.versions);
        Err(furthest.unwrap_or_else(|| WireError {
            kind: ErrorKind::Variant,
            at: 0,
            need: newest.map_or(0, |(_, highest)| highest.into()),
            have: data_version.into(),
        }))
    }

    /// Reads the chunk along `row`; `visit` is called with each field and where it begins in the chunk.
    ///
    /// # Errors
    /// As [`Message::walk`]; offsets count from the chunk's first byte.
    pub(super) fn walk<'a>(
        &'a self,
        row: &Message,
        mut visit: impl FnMut(&Field<'_, 'a>, usize),
    ) -> Result<(), WireError> {
        let packet = Packet::parse(Generation::Modern, &self.buffer[..self.len])?;
        let header = self.header();
        row.walk(&packet, |field| visit(field, field.at - header))
            .map(|_| ())
            .map_err(|error| WireError {
                at: error.at.saturating_sub(header),
                ..error
            })
    }

    /// Bytes before the chunk: header, name and command.
    fn header(&self) -> usize {
        Generation::Modern.header_len() + 2 + self.name.len() + 4
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len).finish()
    }
}
