//! Texts of C.

use std::ffi::{CStr, c_char};
use std::fmt::{self, Write as _};

use crate::abi::base::Str;

/// The bytes of a `str`: none when its address is NULL or its length is not above 0.
///
/// # Safety
/// Otherwise as many bytes are there, and stay as they are while the answer is used.
pub(crate) unsafe fn bytes<'a>(text: Str) -> &'a [u8] {
    // SAFETY: what this function asks for.
    unsafe { Str::bytes(&raw const text) }.unwrap_or_default()
}

/// A text that ends with 0: `None` for NULL.
///
/// # Safety
/// `text` is NULL or ends with 0, and stays as it is while the answer is used.
pub(crate) unsafe fn ended<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: what this function asks for.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// A text as a line may have it: nothing that a terminal obeys, and no line feed.
pub(crate) struct Line<'a>(pub(crate) &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_control() {
                write!(f, "{}", letter.escape_debug())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}
