//! Values while a script runs.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use super::tree::Comparison;

/// What a variable or a constant is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nothing.
    Null,
    Int(i32),
    /// Bytes that are mostly text.
    Text(&'a [u8]),
}

/// The two cannot be compared: a text and the constant of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incomparable;

impl Value<'_> {
    /// As a condition (1.11 `route.c`, `eval_elem`).
    pub(super) const fn is_true(self) -> bool {
        match self {
            Self::Null => false,
            Self::Int(value) => value != 0,
            Self::Text(text) => !text.is_empty(),
        }
    }

    /// As `return($x)` has it (1.11 `action.c`): -1 for nothing, 1 for a text.
    pub(super) const fn as_code(self) -> i32 {
        match self {
            Self::Null => -1,
            Self::Int(value) => value,
            Self::Text(_) => 1,
        }
    }

    /// Compares as OpenSIPS does (1.11 `route.c`, `comp_scriptvar`): numbers as such; where one side is a text both are, by letters of
    /// either case; null equals null and differs from all else, and nothing is more or less than it.
    ///
    /// # Errors
    /// [`Incomparable`]: a text with a number that is written in the script, `is_constant`.
    pub(super) fn compare(
        self,
        how: Comparison,
        other: Self,
        is_constant: bool,
    ) -> Result<bool, Incomparable> {
        match (self, other) {
            (Self::Null, Self::Null) => Ok(how == Comparison::Equal),
            (Self::Null, _) | (_, Self::Null) => Ok(how == Comparison::Differs),
            (Self::Int(left), Self::Int(right)) => Ok(how.holds(left.cmp(&right))),
            (Self::Text(left), Self::Text(right)) => Ok(texts(left, how, right)),
            (Self::Text(_), Self::Int(_)) if is_constant => Err(Incomparable),
            (Self::Text(left), Self::Int(right)) => {
                Ok(texts(left, how, Short::of(right).as_bytes()))
            }
            (Self::Int(left), Self::Text(right)) => {
                Ok(texts(Short::of(left).as_bytes(), how, right))
            }
        }
    }
}

/// Length first where only equality counts: most differ in that.
fn texts(left: &[u8], how: Comparison, right: &[u8]) -> bool {
    match how {
        Comparison::Equal => left.eq_ignore_ascii_case(right),
        Comparison::Differs => !left.eq_ignore_ascii_case(right),
        _ => how.holds(order(left, right)),
    }
}

fn order(left: &[u8], right: &[u8]) -> Ordering {
    let lower = u8::to_ascii_lowercase;
    left.iter().map(lower).cmp(right.iter().map(lower))
}

/// A text of bounded length, where it stands: an address, a number.
#[derive(Clone, Copy)]
pub(super) struct Short {
    bytes: [u8; SHORT_MAX],
    len: u8,
}

impl Short {
    pub(super) fn of(value: i32) -> Self {
        let mut text = Self::default();
        // Eleven characters at most.
        let _ = write!(text, "{value}");
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for Short {
    fn default() -> Self {
        Self {
            bytes: [0; SHORT_MAX],
            len: 0,
        }
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = usize::from(self.len);
        let room = self.bytes.get_mut(from..from + text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += u8::try_from(text.len()).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

/// An IPv6 address with an IPv4 one inside has 45 characters.
const SHORT_MAX: usize = 46;
