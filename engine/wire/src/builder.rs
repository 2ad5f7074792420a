//! Writing packets into the caller's buffer.

use crate::chunk::{CHUNK_HEADER_LEN, CHUNK_MARKER};
use crate::error::{ErrorKind, Result, WireError};
use crate::field::INT_LEN;
use crate::generation::{Generation, MARKER};
use crate::trailer::Trailer;
use crate::{legacy, modern, transitional};

/// A packet under construction in a borrowed buffer.
///
/// What does not fit is refused with an error and leaves the packet as it was; nothing is ever truncated
/// (rule R9). [`seal`](Self::seal) writes checksum or length; the builder can go on afterwards, so one packet
/// can be sent to several peers with only its trailer changed.
#[derive(Debug)]
pub struct Builder<'b> {
    buffer: &'b mut [u8],
    len: usize,
    limit: usize,
    /// Where the fields begin, right after the command.
    body: usize,
    generation: Generation,
}

impl<'b> Builder<'b> {
    /// Starts a packet of `generation` for `name` in `buffer`. `version` is not sent in 1.x.
    ///
    /// The packet may grow to [`Generation::max_packet_len`] or the end of `buffer`, whichever is less.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`] or [`ErrorKind::StringTooLong`] for the header and `name`.
    pub fn new(
        generation: Generation,
        buffer: &'b mut [u8],
        name: &[u8],
        command: i32,
        version: i16,
    ) -> Result<Self> {
        let limit = generation.max_packet_len();
        Self::with_limit(generation, buffer, name, command, version, limit)
    }

    /// As [`new`](Self::new) with a smaller largest packet, for a peer or path that takes less
    /// ([`MAX_PACKET_LEN_4_0`](crate::MAX_PACKET_LEN_4_0)). A larger one than the generation's has no effect.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limit(
        generation: Generation,
        buffer: &'b mut [u8],
        name: &[u8],
        command: i32,
        version: i16,
        limit: usize,
    ) -> Result<Self> {
        let limit = limit.min(generation.max_packet_len()).min(buffer.len());
        let header_len = generation.header_len();
        let Some(header) = buffer[..limit].get_mut(..header_len) else {
            return Err(WireError::new(ErrorKind::DoesNotFit, 0, header_len, limit));
        };
        header.fill(0);
        header[..MARKER.len()].copy_from_slice(&MARKER);
        if generation != Generation::Legacy {
            header[VERSION_AT..VERSION_AT + 2].copy_from_slice(&version.to_le_bytes());
        }
        let mut builder = Self {
            buffer,
            len: header_len,
            limit,
            body: header_len,
            generation,
        };
        builder.push_str(name)?;
        builder.push_int(command)?;
        builder.body = builder.len;
        Ok(builder)
    }

    /// Appends a string. An empty one and a null one are the same on the wire.
    ///
    /// # Errors
    /// [`ErrorKind::StringTooLong`] or [`ErrorKind::DoesNotFit`].
    #[inline]
    pub fn push_str(&mut self, value: &[u8]) -> Result<()> {
        match self.generation {
            Generation::Modern => match u16::try_from(value.len()) {
                Ok(len) => self.write2(&len.to_le_bytes(), value),
                Err(_) => Err(self.too_long(value, usize::from(u16::MAX))),
            },
            Generation::Legacy | Generation::Transitional => match i32::try_from(value.len()) {
                Ok(len) => self.write2(&len.to_le_bytes(), value),
                Err(_) => Err(self.too_long(value, i32::MAX as usize)),
            },
        }
    }

    /// Appends an integer.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`].
    #[inline]
    pub fn push_int(&mut self, value: i32) -> Result<()> {
        self.write2(&value.to_le_bytes(), &[])
    }

    /// Appends fields that are encoded already (`bin_append_buffer`, 3.1+).
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`].
    #[inline]
    pub fn append(&mut self, fields: &[u8]) -> Result<()> {
        self.write2(fields, &[])
    }

    /// Appends a sync chunk: size, chunk marker, `data`.
    ///
    /// # Errors
    /// [`ErrorKind::ChunkSize`] when `data` is empty, [`ErrorKind::DoesNotFit`].
    pub fn push_chunk(&mut self, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Err(WireError::new(ErrorKind::ChunkSize, self.len, 1, 0));
        }
        let size = i32::try_from(data.len()).map_err(|_| self.does_not_fit(data.len()))?;
        let mut header = [0; CHUNK_HEADER_LEN];
        header[..4].copy_from_slice(&size.to_le_bytes());
        header[4..].copy_from_slice(&CHUNK_MARKER.to_le_bytes());
        self.write2(&header, data)
    }

    /// Appends the ids that clusterer routes by.
    ///
    /// # Errors
    /// [`ErrorKind::DoesNotFit`]; then none of the ids is written.
    pub fn push_trailer(&mut self, trailer: Trailer) -> Result<()> {
        let len = self.len;
        trailer
            .ints()
            .try_for_each(|int| self.push_int(int))
            .inspect_err(|_| self.len = len)
    }

    /// Removes `count` ints from the end (`bin_remove_int_buffer_end`), never more than the fields hold (R5).
    ///
    /// # Errors
    /// [`ErrorKind::End`] when the fields are shorter; nothing is removed.
    pub fn remove_int_back(&mut self, count: usize) -> Result<()> {
        let need = count.saturating_mul(INT_LEN);
        let have = self.len - self.body;
        if need > have {
            return Err(WireError::new(ErrorKind::End, self.body, need, have));
        }
        self.len -= need;
        Ok(())
    }

    /// Removes all fields and keeps header, name and command (`bin_reset_back_pointer`).
    pub fn clear_fields(&mut self) {
        self.len = self.body;
    }

    /// Rewrites the command in place (`bin_set_packet_type`, 4.0).
    pub fn retype(&mut self, command: i32) {
        self.buffer[self.body - INT_LEN..self.body].copy_from_slice(&command.to_le_bytes());
    }

    /// Rewrites the version in place (`set_bin_pkg_version`); without effect in 1.x, which has none.
    pub fn set_version(&mut self, version: i16) {
        if self.generation != Generation::Legacy {
            self.buffer[VERSION_AT..VERSION_AT + 2].copy_from_slice(&version.to_le_bytes());
        }
    }

    /// Writes checksum or total length and returns the packet as it goes on the wire.
    ///
    /// A packet below its generation's smallest (an empty or one-letter name and no fields) is sealed like any
    /// other, and refused by every receiver.
    #[inline]
    pub fn seal(&mut self) -> &[u8] {
        let packet = &mut self.buffer[..self.len];
        match self.generation {
            Generation::Legacy => legacy::seal(packet),
            Generation::Transitional => transitional::seal(packet),
            Generation::Modern => modern::seal(packet),
        }
        packet
    }

    /// As [`seal`](Self::seal), giving the buffer's borrow back with the packet.
    #[must_use]
    pub fn finish(mut self) -> &'b mut [u8] {
        self.seal();
        &mut self.buffer[..self.len]
    }

    /// Bytes written so far, header included.
    #[inline]
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a packet under construction is never empty"
    )]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that still fit.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.limit - self.len
    }

    #[inline]
    fn write2(&mut self, first: &[u8], second: &[u8]) -> Result<()> {
        let len = first.len() + second.len();
        let Some(room) = self.buffer[..self.limit][self.len..].get_mut(..len) else {
            return Err(self.does_not_fit(len));
        };
        let (head, tail) = room.split_at_mut(first.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(second);
        self.len += len;
        Ok(())
    }

    #[cold]
    fn does_not_fit(&self, need: usize) -> WireError {
        WireError::new(ErrorKind::DoesNotFit, self.len, need, self.remaining())
    }

    #[cold]
    fn too_long(&self, value: &[u8], max: usize) -> WireError {
        WireError::new(ErrorKind::StringTooLong, self.len, value.len(), max)
    }
}

/// Offset of the version in 2.2 and later.
const VERSION_AT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{MAX_DATAGRAM_LEN, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0};
    use crate::packet::Packet;

    #[test]
    fn what_does_not_fit_leaves_the_packet_as_it_was() {
        let mut buffer = [0xEE; 40];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"cap", 7, 1).unwrap();
        builder.push_str(b"abc").unwrap();
        let before = builder.seal().to_vec();
        let error = builder.push_str(&[b'x'; 30]).unwrap_err();
        assert_eq!(error, WireError::new(ErrorKind::DoesNotFit, 24, 32, 16));
        assert_eq!(builder.push_trailer(Trailer::new(1, 2, 3)), Ok(()));
        assert!(builder.push_trailer(Trailer::new(1, 2, 3)).is_err());
        builder.remove_int_back(3).unwrap();
        assert_eq!(builder.seal(), before);
    }

    #[test]
    fn limits_are_those_of_the_transport_and_the_peer() {
        let mut buffer = vec![0; 70_000];
        let longest = |generation, limit, buffer: &mut [u8]| {
            let mut builder = Builder::with_limit(generation, buffer, b"x", 1, 0, limit).unwrap();
            while builder.push_int(0).is_ok() {}
            assert!(builder.remaining() < 4);
            builder.len() + builder.remaining()
        };
        assert_eq!(
            longest(Generation::Legacy, usize::MAX, &mut buffer),
            MAX_DATAGRAM_LEN
        );
        assert_eq!(
            longest(Generation::Transitional, usize::MAX, &mut buffer),
            MAX_PACKET_LEN
        );
        assert_eq!(
            longest(Generation::Modern, MAX_PACKET_LEN_4_0, &mut buffer),
            MAX_PACKET_LEN_4_0
        );
    }

    #[test]
    fn a_string_longer_than_its_length_field_is_refused() {
        let mut buffer = vec![0; 70_000];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"x", 1, 0).unwrap();
        assert_eq!(
            builder.push_str(&[0; 65_536]).unwrap_err().kind,
            ErrorKind::StringTooLong
        );
        assert_eq!(
            builder.push_str(&[0; 65_535]).unwrap_err().kind,
            ErrorKind::DoesNotFit
        );
    }

    #[test]
    fn removing_ints_never_reaches_the_command() {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Transitional, &mut buffer, b"ul", 1, 1).unwrap();
        builder.push_int(5).unwrap();
        assert_eq!(builder.remove_int_back(2).unwrap_err().kind, ErrorKind::End);
        assert_eq!(
            builder.remove_int_back(usize::MAX).unwrap_err().kind,
            ErrorKind::End
        );
        assert_eq!(builder.remove_int_back(1), Ok(()));
    }

    #[test]
    fn command_version_and_fields_can_be_written_again() {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Modern, &mut buffer, b"cap", 1, 1).unwrap();
        builder.push_str(b"gone").unwrap();
        builder.clear_fields();
        builder.retype(11);
        builder.set_version(-2);
        builder.push_int(9).unwrap();
        let packet = Packet::parse(Generation::Modern, builder.seal()).unwrap();
        assert_eq!((packet.command(), packet.version()), (11, Some(-2)));
        assert_eq!(packet.body(), 9_i32.to_le_bytes());
    }

    #[test]
    fn no_room_for_the_header_is_an_error_of_its_own() {
        for len in 0..18 {
            let mut buffer = vec![0; len];
            let error = Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 0).unwrap_err();
            assert_eq!(error.kind, ErrorKind::DoesNotFit);
        }
    }
}
