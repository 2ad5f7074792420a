//! Popping fields: a cursor over the bytes after the command.

use crate::error::{ErrorKind, Result, WireError};
use crate::generation::Generation;
use crate::trailer::Trailer;

/// A cursor over the fields of one packet: pops from the front, ints also from the end.
///
/// BIN fields have no tags, so the caller says which type comes next. A pop returns a value or an error; on
/// error the cursor stands where it stood and nothing is invented in place of the value (rule R4). Strings
/// are bytes borrowed from the packet, never assumed to be text or terminated (R8). `Clone` it to look ahead.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    at: usize,
    generation: Generation,
}

impl<'a> Fields<'a> {
    /// A cursor over `rest`, whose first byte lies at offset `at` of its frame.
    #[inline]
    #[must_use]
    pub const fn new(generation: Generation, rest: &'a [u8], at: usize) -> Self {
        Self {
            rest,
            at,
            generation,
        }
    }

    /// Takes a string: its length, then that many bytes. An empty string and a null one are the same.
    ///
    /// # Errors
    /// [`ErrorKind::End`] when nothing is left, [`ErrorKind::NegativeLength`] or
    /// [`ErrorKind::FieldPastEnd`] when the length lies.
    #[inline]
    pub fn pop_str(&mut self) -> Result<&'a [u8]> {
        let width = self.generation.length_width();
        let (len, body) = match self.generation {
            Generation::Modern => match self.rest.split_first_chunk() {
                Some((len, body)) => (usize::from(u16::from_le_bytes(*len)), body),
                None => return Err(self.exhausted(width)),
            },
            Generation::Legacy | Generation::Transitional => match self.rest.split_first_chunk() {
                Some((len, body)) => {
                    let len = i32::from_le_bytes(*len);
                    let Ok(len) = usize::try_from(len) else {
                        return Err(self.negative(len, body.len()));
                    };
                    (len, body)
                }
                None => return Err(self.exhausted(width)),
            },
        };
        let Some((value, rest)) = body.split_at_checked(len) else {
            return Err(WireError::new(
                ErrorKind::FieldPastEnd,
                self.at,
                width + len,
                width + body.len(),
            ));
        };
        self.rest = rest;
        self.at += width + len;
        Ok(value)
    }

    /// Takes a 32-bit integer.
    ///
    /// # Errors
    /// [`ErrorKind::End`] when nothing is left, [`ErrorKind::FieldPastEnd`] when 1 to 3 bytes are.
    #[inline]
    pub fn pop_int(&mut self) -> Result<i32> {
        let Some((value, rest)) = self.rest.split_first_chunk() else {
            return Err(self.exhausted(INT_LEN));
        };
        self.rest = rest;
        self.at += INT_LEN;
        Ok(i32::from_le_bytes(*value))
    }

    /// Takes a string that must be exactly `N` bytes long: a raw C object (rule R6).
    ///
    /// # Errors
    /// As [`pop_str`](Self::pop_str), and [`ErrorKind::ObjectSize`].
    #[inline]
    pub fn pop_object<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let mut ahead = self.clone();
        let value = ahead.pop_str()?;
        let object = value
            .try_into()
            .map_err(|_| WireError::new(ErrorKind::ObjectSize, self.at, N, value.len()))?;
        *self = ahead;
        Ok(object)
    }

    /// Steps over `count` strings, all or none.
    ///
    /// # Errors
    /// The error of the string that could not be popped; the cursor does not move.
    #[inline]
    pub fn skip_str(&mut self, count: usize) -> Result<()> {
        let mut ahead = self.clone();
        for _ in 0..count {
            ahead.pop_str()?;
        }
        *self = ahead;
        Ok(())
    }

    /// Steps over `count` ints, all or none.
    ///
    /// # Errors
    /// [`ErrorKind::End`] or [`ErrorKind::FieldPastEnd`]; the cursor does not move.
    #[inline]
    pub fn skip_int(&mut self, count: usize) -> Result<()> {
        let need = count.saturating_mul(INT_LEN);
        let Some(rest) = self.rest.get(need..) else {
            return Err(self.exhausted(need));
        };
        self.rest = rest;
        self.at += need;
        Ok(())
    }

    /// Takes the last integer off the end. Never reaches into command or header (rule R5).
    ///
    /// # Errors
    /// [`ErrorKind::End`] or [`ErrorKind::FieldPastEnd`], as [`pop_int`](Self::pop_int).
    #[inline]
    pub fn pop_int_back(&mut self) -> Result<i32> {
        let Some((rest, value)) = self.rest.split_last_chunk() else {
            return Err(self.exhausted(INT_LEN));
        };
        self.rest = rest;
        Ok(i32::from_le_bytes(*value))
    }

    /// Takes the cluster trailer off the end: three ints, or four when the destination says "bridge" (4.0).
    ///
    /// # Errors
    /// [`ErrorKind::Trailer`] when the ints are not there; the cursor does not move.
    #[inline]
    pub fn pop_trailer(&mut self) -> Result<Trailer> {
        Trailer::pop_back(self)
    }

    /// Takes everything that is left, uninterpreted.
    #[inline]
    pub fn take_rest(&mut self) -> &'a [u8] {
        let rest = core::mem::take(&mut self.rest);
        self.at += rest.len();
        rest
    }

    /// Takes `len` bytes, uninterpreted.
    ///
    /// # Errors
    /// [`ErrorKind::End`] or [`ErrorKind::FieldPastEnd`] when fewer are left.
    #[inline]
    pub fn take_bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((value, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.exhausted(len));
        };
        self.rest = rest;
        self.at += len;
        Ok(value)
    }

    /// The bytes not yet popped.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Offset of the next byte in its frame.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// Whether everything was popped.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The generation whose strings this cursor reads.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    #[cold]
    fn exhausted(&self, need: usize) -> WireError {
        let kind = if self.rest.is_empty() {
            ErrorKind::End
        } else {
            ErrorKind::FieldPastEnd
        };
        WireError::new(kind, self.at, need, self.rest.len())
    }

    #[cold]
    fn negative(&self, len: i32, have: usize) -> WireError {
        WireError::claimed(ErrorKind::NegativeLength, self.at, i64::from(len), have)
    }
}

/// Bytes of an integer field.
pub(crate) const INT_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pop_does_not_move_the_cursor() {
        let mut fields = Fields::new(Generation::Legacy, b"\x03\x00\x00\x00ab", 12);
        let error = fields.pop_str().unwrap_err();
        assert_eq!(error, WireError::new(ErrorKind::FieldPastEnd, 12, 7, 6));
        assert_eq!((fields.offset(), fields.rest().len()), (12, 6));
        assert_eq!(fields.pop_int(), Ok(3));
    }

    #[test]
    fn a_negative_length_is_an_error_never_a_step_back() {
        let mut fields = Fields::new(Generation::Transitional, b"\xf8\xff\xff\xffAAAAAAAA", 20);
        assert_eq!(
            fields.pop_str(),
            Err(WireError::claimed(ErrorKind::NegativeLength, 20, -8, 8))
        );
        assert_eq!(fields.offset(), 20);
    }

    #[test]
    fn nothing_left_is_told_from_a_field_cut_short() {
        let mut fields = Fields::new(Generation::Modern, b"", 16);
        assert_eq!(fields.pop_str().unwrap_err().kind, ErrorKind::End);
        let mut fields = Fields::new(Generation::Modern, b"\x01", 16);
        assert_eq!(fields.pop_str().unwrap_err().kind, ErrorKind::FieldPastEnd);
    }

    #[test]
    fn an_object_of_another_size_is_refused_and_stays_poppable_as_a_string() {
        let mut fields = Fields::new(Generation::Modern, b"\x03\x00abc", 16);
        assert_eq!(
            fields.pop_object::<8>(),
            Err(WireError::new(ErrorKind::ObjectSize, 16, 8, 3))
        );
        assert_eq!(fields.pop_str(), Ok(&b"abc"[..]));
    }

    #[test]
    fn ints_come_off_the_end_and_stop_at_the_front() {
        let mut fields = Fields::new(Generation::Modern, &[1, 0, 0, 0, 2, 0, 0, 0], 17);
        assert_eq!(fields.pop_int_back(), Ok(2));
        assert_eq!(fields.pop_int_back(), Ok(1));
        assert_eq!(fields.pop_int_back().unwrap_err().kind, ErrorKind::End);
    }

    #[test]
    fn skips_are_all_or_nothing() {
        let mut fields = Fields::new(Generation::Modern, b"\x01\x00a\x01\x00b", 16);
        assert!(fields.skip_str(3).is_err());
        assert_eq!(fields.offset(), 16);
        assert!(fields.skip_str(1).is_ok());
        assert_eq!(fields.pop_str(), Ok(&b"b"[..]));
        assert!(fields.skip_int(usize::MAX).is_err());
    }
}
