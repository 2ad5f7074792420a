//! Parameters. (OpenSIPS 1.11 `modparam.c`)

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use regex_lite::{Regex, RegexBuilder};

use super::ParamError;
use super::error::did_you_mean;
use super::exports::{Address, plain};
use crate::abi::module::{INT_PARAM, ParamFunction, STR_PARAM, USE_FUNC_PARAM};

/// What `modparam` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Int(i32),
    /// A text.
    Text(Vec<u8>),
}

/// A value as C sees it.
#[derive(Debug)]
pub(super) enum CValue {
    Int(c_int),
    Text(CString),
}

impl Value {
    pub(super) fn in_c(&self, name: &str) -> Result<CValue, ParamError> {
        match self {
            Self::Int(number) => Ok(CValue::Int(*number)),
            Self::Text(text) => CString::new(text.clone())
                .map(CValue::Text)
                .map_err(|error| ParamError::Zero {
                    name: name.to_owned(),
                    at: error.nul_position(),
                }),
        }
    }
}

impl CValue {
    fn type_(&self) -> c_uint {
        match self {
            Self::Int(_) => INT_PARAM,
            Self::Text(_) => STR_PARAM,
        }
    }
}

/// A parameter of a module.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// As the module exports it.
    pub(crate) type_: c_uint,
    /// Where the value is.
    pub(crate) pointer: Address,
    /// With `USE_FUNC_PARAM`.
    function: Option<ParamFunction>,
}

impl Parameter {
    /// # Errors
    /// Why it cannot be, and its name.
    pub(super) fn new(
        name: String,
        type_: c_uint,
        pointer: *mut c_void,
    ) -> Result<Self, (String, &'static str)> {
        if ![STR_PARAM, INT_PARAM].contains(&plain(type_)) {
            return Err((name, "is neither STR_PARAM nor INT_PARAM"));
        }
        if pointer.is_null() {
            return Err((name, "has no pointer"));
        }
        let by_function = type_ & USE_FUNC_PARAM != 0;
        // SAFETY: with USE_FUNC_PARAM the pointer is a `param_func_t`, and it is not NULL.
        let function = by_function.then(|| unsafe { std::mem::transmute(pointer) });
        Ok(Self {
            name,
            type_,
            pointer: Address(pointer),
            function,
        })
    }

    /// Gives it `value`, which has its type.
    pub(super) fn set(&self, module: &str, value: &CValue) -> Result<(), ParamError> {
        let given: *mut c_void = match value {
            // What C does with `(void *)(long)number`.
            CValue::Int(number) => std::ptr::without_provenance_mut(*number as isize as usize),
            CValue::Text(text) => kept(text).cast(),
        };
        if let Some(function) = self.function {
            // SAFETY: the module's own function, called as `param_func_t` is, before the module is initialised.
            let code = unsafe { function(plain(self.type_), given) };
            if code < 0 {
                return Err(ParamError::Refused {
                    module: module.to_owned(),
                    name: self.name.clone(),
                    code,
                });
            }
            return Ok(());
        }
        match value {
            // SAFETY: with INT_PARAM the pointer is that of an `int`, and no thread runs code of the module yet.
            CValue::Int(number) => unsafe { self.pointer.0.cast::<c_int>().write(*number) },
            // SAFETY: with STR_PARAM the pointer is that of a `char *`, and so on.
            CValue::Text(_) => unsafe { self.pointer.0.cast::<*mut c_char>().write(given.cast()) },
        }
        Ok(())
    }
}

/// A copy of `text` from malloc(3), as the module may free it; that is how OpenSIPS has it (`strdup`).
fn kept(text: &CString) -> *mut c_char {
    // SAFETY: it ends with 0. "A pointer to a new string", or NULL where there is no memory, which the module is told.
    unsafe { libc::strdup(text.as_ptr()) }
}

/// The one of `parameters` that is called `name` and takes `value`.
pub(super) fn find<'a>(
    module: &str,
    parameters: &'a [Parameter],
    name: &str,
    value: &CValue,
) -> Result<&'a Parameter, ParamError> {
    let mut named = parameters
        .iter()
        .filter(|parameter| parameter.name == name)
        .peekable();
    let Some(first) = named.peek().copied() else {
        let known: Vec<String> = parameters.iter().map(|p| p.name.clone()).collect();
        return Err(ParamError::Unknown {
            module: module.to_owned(),
            name: name.to_owned(),
            meant: did_you_mean(name, known.iter().map(String::as_str)),
            known,
        });
    };
    let fitting = named.find(|parameter| plain(parameter.type_) == value.type_());
    fitting.ok_or_else(|| ParamError::Type {
        module: module.to_owned(),
        name: name.to_owned(),
        takes: kind(first.type_),
        given: kind(value.type_()),
    })
}

fn kind(type_: c_uint) -> &'static str {
    if plain(type_) == INT_PARAM {
        "a number"
    } else {
        "a text"
    }
}

/// The expression that `modparam` has for the names of modules: whole names, upper and lower case alike.
pub(super) fn expression(pattern: &str) -> Result<Regex, ParamError> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .case_insensitive(true)
        .size_limit(EXPRESSION_SIZE_MAX)
        .nest_limit(EXPRESSION_NEST_MAX)
        .build()
        .map_err(|source| ParamError::Pattern {
            pattern: pattern.to_owned(),
            source,
        })
}

/// Bytes and depth of an expression, as in the configuration.
const EXPRESSION_SIZE_MAX: usize = 16 << 10;
const EXPRESSION_NEST_MAX: u32 = 20;
