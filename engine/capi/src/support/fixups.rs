//! Parameters of script functions. (OpenSIPS 1.11 `mod_fix.c`)
//!
//! A parameter is a constant here: one with a pseudo-variable in it is refused when the script is read, instead of being
//! taken for a text.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use super::bytes;
use super::log::{Level, say};
use crate::abi::base::Str;
use crate::abi::module::SipMsg;
use crate::border::border;

/// `gparam_t`: a parameter that may be a number or a text.
#[repr(C)]
pub(crate) struct GParam {
    type_: c_int,
    v: GValue,
}

#[repr(C)]
union GValue {
    ival: c_int,
    sval: Str,
}

const _: () = {
    assert!(size_of::<GParam>() == 24);
    assert!(std::mem::offset_of!(GParam, v) == 8);
};

/// What a parameter becomes.
type Fix = unsafe fn(*mut *mut c_void, &CStr) -> Result<(), String>;

/// Makes one of the exported functions: it fixes a parameter whose number is between 1 and `$max`.
macro_rules! fixup {
    ($($name:ident: $max:expr, $fix:expr, $doc:literal;)*) => {$(
        #[doc = $doc]
        /// 0, or a negative number when it is no such thing, has a pseudo-variable in it, or is one too many.
        ///
        /// # Safety
        /// `param` is NULL, or where a text from malloc(3) is that ends with 0.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(param: *mut *mut c_void, number: c_int) -> c_int {
            // SAFETY: what this function asks for.
            border(UNSPECIFIED, || unsafe { fix(param, number, $max, &$fix) })
        }
    )*};
}

fixup! {
    fixup_str_null: 1, [str_ as Fix], "The parameter becomes a `str *`.";
    fixup_str_str: 2, [str_ as Fix], "Both parameters become a `str *`.";
    fixup_uint_null: 1, [uint as Fix], "The parameter becomes a number, not below 0.";
    fixup_uint_uint: 2, [uint as Fix], "Both parameters become numbers, not below 0.";
    fixup_sint_null: 1, [sint as Fix], "The parameter becomes a number.";
    fixup_sint_sint: 2, [sint as Fix], "Both parameters become numbers.";
    fixup_igp_null: 1, [igp as Fix], "The parameter becomes a `gparam_t *` of a number.";
    fixup_igp_igp: 2, [igp as Fix], "Both parameters become a `gparam_t *` of a number.";
    fixup_igp_igp_igp: 3, [igp as Fix], "All three parameters become a `gparam_t *` of a number.";
    fixup_sgp_null: 1, [sgp as Fix], "The parameter becomes a `gparam_t *` of a text.";
    fixup_sgp_sgp: 2, [sgp as Fix], "Both parameters become a `gparam_t *` of a text.";
    fixup_spve_null: 1, [sgp as Fix], "The parameter becomes a `gparam_t *` of a text.";
    fixup_spve_spve: 2, [sgp as Fix], "Both parameters become a `gparam_t *` of a text.";
    fixup_spve_uint: 2, [sgp as Fix, uint as Fix], "The first parameter becomes a `gparam_t *` of a text, the second a number.";
}

/// Makes one of the exported functions that fix any parameter.
macro_rules! fixup_any {
    ($($name:ident: $fix:expr, $doc:literal;)*) => {$(
        #[doc = $doc]
        /// 0, or a negative number when it is no such thing or has a pseudo-variable in it.
        ///
        /// # Safety
        /// `param` is NULL, or where a text from malloc(3) is that ends with 0.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(param: *mut *mut c_void) -> c_int {
            // SAFETY: what this function asks for.
            border(UNSPECIFIED, || unsafe { fix(param, 1, 1, &[$fix as Fix]) })
        }
    )*};
}

fixup_any! {
    fixup_str: str_, "The parameter becomes a `str *`.";
    fixup_uint: uint, "The parameter becomes a number, not below 0.";
    fixup_sint: sint, "The parameter becomes a number.";
    fixup_igp: igp, "The parameter becomes a `gparam_t *` of a number.";
    fixup_sgp: sgp, "The parameter becomes a `gparam_t *` of a text.";
    fixup_spve: sgp, "The parameter becomes a `gparam_t *` of a text.";
}

/// Lets go of what [`fixup_str_null`] made.
///
/// # Safety
/// `param` is NULL or what was given to that function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fixup_free_str_null(param: *mut *mut c_void, number: c_int) -> c_int {
    // SAFETY: what this function asks for.
    unsafe { free_str(param, number, 1) }
}

/// Lets go of what [`fixup_str_str`] made.
///
/// # Safety
/// `param` is NULL or what was given to that function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fixup_free_str_str(param: *mut *mut c_void, number: c_int) -> c_int {
    // SAFETY: what this function asks for.
    unsafe { free_str(param, number, 2) }
}

/// The text of a parameter. 0, or -1 when it is no text. (A number is none, as in OpenSIPS.)
///
/// # Safety
/// `param` is NULL or from a fixup, `value` NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fixup_get_svalue(
    _message: *mut SipMsg,
    param: *const c_void,
    value: *mut Str,
) -> c_int {
    // SAFETY: what this function asks for.
    unsafe {
        match (read(param), value.as_mut()) {
            (Some(Given::Text(text)), Some(value)) => {
                *value = text;
                0
            }
            _ => UNSPECIFIED,
        }
    }
}

/// The number of a parameter. 0, or -1 when it is none.
///
/// # Safety
/// `param` is NULL or from a fixup, `value` NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fixup_get_ivalue(
    _message: *mut SipMsg,
    param: *const c_void,
    value: *mut c_int,
) -> c_int {
    // SAFETY: what this function asks for.
    unsafe {
        match (read(param), value.as_mut()) {
            (Some(Given::Number(number)), Some(value)) => {
                *value = number;
                0
            }
            _ => UNSPECIFIED,
        }
    }
}

/// The number and the text of a parameter, and in `flags` which of them it has: `GPARAM_INT_VALUE_FLAG`,
/// `GPARAM_STR_VALUE_FLAG`. A text that is a number has both. 0, or -1 when something is NULL.
///
/// # Safety
/// `param` is NULL or from a fixup, the others NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fixup_get_isvalue(
    _message: *mut SipMsg,
    param: *const c_void,
    number: *mut c_int,
    text: *mut Str,
    flags: *mut c_uint,
) -> c_int {
    // SAFETY: what this function asks for.
    unsafe {
        let (Some(given), Some(number), Some(text), Some(flags)) =
            (read(param), number.as_mut(), text.as_mut(), flags.as_mut())
        else {
            return UNSPECIFIED;
        };
        match given {
            Given::Number(found) => (*number, *flags) = (found, INT_VALUE),
            Given::Text(found) => {
                (*text, *flags) = (found, STR_VALUE);
                if let Some(found) = parsed(bytes(found)) {
                    (*number, *flags) = (found, STR_VALUE | INT_VALUE);
                }
            }
        }
        0
    }
}

/// # Safety
/// `param` is NULL, or where a text from malloc(3) is that ends with 0.
unsafe fn fix(param: *mut *mut c_void, number: c_int, max: usize, fixes: &[Fix]) -> c_int {
    let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    let Some(index) = index.filter(|index| *index < max) else {
        say(Level::Error, &format!("there is no parameter {number}"));
        return UNSPECIFIED;
    };
    // SAFETY: what this function asks for.
    let text = unsafe { param.as_ref() }.filter(|text| !text.is_null());
    let Some(text) = text else {
        return UNSPECIFIED;
    };
    // SAFETY: what this function asks for.
    let text = unsafe { CStr::from_ptr(text.cast::<c_char>()) };
    if text.to_bytes().contains(&b'$') {
        let text = text.to_string_lossy();
        say(
            Level::Error,
            &format!("\"{text}\" has a pseudo-variable in it, and modules cannot read them here"),
        );
        return CONFIGURATION;
    }
    let fix = fixes[index.min(fixes.len() - 1)];
    // SAFETY: what this function asks for.
    match unsafe { fix(param, text) } {
        Ok(()) => 0,
        Err(why) => {
            say(Level::Error, &why);
            CONFIGURATION
        }
    }
}

/// # Safety
/// As [`fix`].
unsafe fn str_(param: *mut *mut c_void, text: &CStr) -> Result<(), String> {
    // SAFETY: it is written before it is read.
    let made: *mut Str = unsafe { libc::malloc(size_of::<Str>()) }.cast();
    if made.is_null() {
        return Err("no memory".to_owned());
    }
    // SAFETY: it was just made; and what this function asks for.
    unsafe {
        made.write(str_of(text));
        param.write(made.cast());
    }
    Ok(())
}

/// # Safety
/// As [`fix`].
unsafe fn uint(param: *mut *mut c_void, text: &CStr) -> Result<(), String> {
    let number = text
        .to_str()
        .ok()
        .and_then(|text| text.parse::<c_uint>().ok());
    let number = number.filter(|_| text.to_bytes().iter().all(u8::is_ascii_digit));
    let number = number.ok_or_else(|| no_number(text))?;
    // SAFETY: what this function asks for.
    unsafe { replace(param, ptr::without_provenance_mut(number as usize)) };
    Ok(())
}

/// # Safety
/// As [`fix`].
unsafe fn sint(param: *mut *mut c_void, text: &CStr) -> Result<(), String> {
    let number = parsed(text.to_bytes()).ok_or_else(|| no_number(text))?;
    // What C does with `(void *)(long)number`.
    let number = ptr::without_provenance_mut(number as isize as usize);
    // SAFETY: what this function asks for.
    unsafe { replace(param, number) };
    Ok(())
}

/// # Safety
/// As [`fix`].
unsafe fn igp(param: *mut *mut c_void, text: &CStr) -> Result<(), String> {
    let ival = parsed(text.to_bytes()).ok_or_else(|| no_number(text))?;
    // SAFETY: what this function asks for.
    unsafe { general(param, INT, GValue { ival }) }
}

/// # Safety
/// As [`fix`].
unsafe fn sgp(param: *mut *mut c_void, text: &CStr) -> Result<(), String> {
    let sval = str_of(text);
    // SAFETY: what this function asks for; the text stays where it is.
    unsafe { general(param, STR, GValue { sval }) }
}

/// # Safety
/// As [`fix`].
unsafe fn general(param: *mut *mut c_void, type_: c_int, v: GValue) -> Result<(), String> {
    // SAFETY: it is written before it is read.
    let made: *mut GParam = unsafe { libc::calloc(1, size_of::<GParam>()) }.cast();
    if made.is_null() {
        return Err("no memory".to_owned());
    }
    // SAFETY: it was just made; and what this function asks for.
    unsafe {
        made.write(GParam { type_, v });
        param.write(made.cast());
    }
    Ok(())
}

/// Frees the text, and puts a number in its place.
///
/// # Safety
/// As [`fix`].
unsafe fn replace(param: *mut *mut c_void, number: *mut c_void) {
    // SAFETY: what this function asks for.
    unsafe {
        libc::free(param.read());
        param.write(number);
    }
}

/// # Safety
/// As [`fixup_free_str_null`].
unsafe fn free_str(param: *mut *mut c_void, number: c_int, max: c_int) -> c_int {
    if !(1..=max).contains(&number) || param.is_null() {
        return UNSPECIFIED;
    }
    // SAFETY: what this function asks for: a `str`, or NULL, which free(3) takes too.
    unsafe { replace(param, ptr::null_mut()) };
    0
}

/// A parameter that was fixed.
enum Given {
    Number(c_int),
    Text(Str),
}

/// # Safety
/// `param` is NULL or a `gparam_t`.
unsafe fn read(param: *const c_void) -> Option<Given> {
    // SAFETY: what this function asks for; the type says what the value is.
    unsafe {
        let param = param.cast::<GParam>().as_ref()?;
        match param.type_ {
            INT => Some(Given::Number(param.v.ival)),
            STR => Some(Given::Text(param.v.sval)),
            _ => None,
        }
    }
}

fn str_of(text: &CStr) -> Str {
    Str {
        s: text.as_ptr().cast_mut(),
        len: c_int::try_from(text.count_bytes()).unwrap_or(c_int::MAX),
    }
}

fn parsed(text: &[u8]) -> Option<c_int> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn no_number(text: &CStr) -> String {
    format!("\"{}\" is no number, or too large", text.to_string_lossy())
}

/// `E_UNSPEC`.
const UNSPECIFIED: c_int = -1;
/// `E_CFG`.
const CONFIGURATION: c_int = -6;

/// `GPARAM_TYPE_INT`.
const INT: c_int = 0;
/// `GPARAM_TYPE_STR`.
const STR: c_int = 1;

/// `GPARAM_INT_VALUE_FLAG`.
const INT_VALUE: c_uint = 1;
/// `GPARAM_STR_VALUE_FLAG`.
const STR_VALUE: c_uint = 2;
