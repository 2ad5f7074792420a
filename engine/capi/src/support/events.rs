//! Events that modules raise. (OpenSIPS 1.11 `evi/event_interface.c`, `evi/evi_params.c`)
//!
//! Whoever serves modules takes them with a sink, which is told of each name when it is published; without one they are counted, and
//! modules that ask first whether anybody wants an event are told that nobody does.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bytes;
use crate::abi::base::Str;
use crate::abi::module::{
    EVI_FREE_LIST, EVI_INT_VAL, EVI_STR_VAL, EviParam, EviParams, EviValue, SipMsg,
};
use crate::border::border;

/// An event, out of the module's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name, such as `E_DLG_STATE_CHANGED`.
    pub name: String,
    /// Names, which may be missing, and values.
    pub params: Vec<(Option<Vec<u8>>, EventValue)>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventValue {
    /// A number.
    Int(i32),
    /// A text, which may be empty.
    Str(Vec<u8>),
    /// A text whose address is NULL, or nothing at all: `null` where that can be said. (3.6 `evi/evi_transport.c`,
    /// `payload_add_params`.)
    Null,
}

/// Takes events, on the threads that raise them. It must not block.
pub trait Sink: Send + Sync {
    /// A module will raise events of that name, or said so again; whether they can be told. It may wait for a lock, as modules publish
    /// at their start.
    fn publish(&self, name: &str) -> bool;

    /// Whether anybody wants events of that name; asked before parameters are put together.
    fn wants(&self, name: &str) -> bool;

    /// Takes an event; `false` when it could not be taken, which is told to the module.
    fn raise(&self, event: Event) -> bool;
}

/// Sets who takes events, once; `false` when that was done before. What was published until then is in [`counts`].
pub fn set_sink(sink: Box<dyn Sink>) -> bool {
    SINK.set(sink).is_ok()
}

/// Names of all events that modules have published, and how often each was raised.
pub fn counts() -> Vec<(String, u64)> {
    let published = EVENTS
        .iter()
        .map_while(|event| Some((event.name.get()?, &event.raised)));
    published
        .map(|(name, raised)| (name.clone(), raised.load(Ordering::Relaxed)))
        .collect()
}

/// One that was published. Ids are places in [`EVENTS`], so that finding one needs no lock.
struct Published {
    name: OnceLock<String>,
    raised: AtomicU64,
}

static EVENTS: [Published; EVENTS_MAX] = [const {
    Published {
        name: OnceLock::new(),
        raised: AtomicU64::new(0),
    }
}; EVENTS_MAX];

static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

fn published(id: c_int) -> Option<(&'static str, &'static AtomicU64)> {
    let event = EVENTS.get(usize::try_from(id).ok()?)?;
    Some((event.name.get()?, &event.raised))
}

/// The id of the event `name`, which is published if it was not. -1 when the name is empty, longer than 64 bytes, or no UTF-8, when
/// there are 1024 events, or when whoever tells them has no room or cannot write the name. Safe from any thread.
///
/// # Safety
/// `name` has as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_publish_event(name: Str) -> c_int {
    border(ERROR, || {
        // SAFETY: what this function asks for.
        let name = unsafe { bytes(name) };
        let Ok(name) = str::from_utf8(name) else {
            return ERROR;
        };
        if name.is_empty() || name.len() > NAME_MAX {
            return ERROR;
        }
        // Asked first: what nobody can tell of takes no place from others.
        if SINK.get().is_some_and(|sink| !sink.publish(name)) {
            return ERROR;
        }
        let of_name = |event: &Published| event.name.get_or_init(|| name.to_owned()) == name;
        let place = EVENTS.iter().position(of_name);
        place
            .and_then(|place| c_int::try_from(place).ok())
            .unwrap_or(ERROR)
    })
}

/// The id of the event `name`, -1 when nobody published it. Safe from any thread.
///
/// # Safety
/// `name` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_get_id(name: *const Str) -> c_int {
    border(ERROR, || {
        if name.is_null() {
            return ERROR;
        }
        // SAFETY: what this function asks for.
        let name = unsafe { bytes(*name) };
        let mut names = EVENTS.iter().map_while(|event| event.name.get());
        let place = names.position(|known| known.as_bytes() == name);
        place
            .and_then(|place| c_int::try_from(place).ok())
            .unwrap_or(ERROR)
    })
}

/// 1 when anybody wants the event, otherwise 0; -1 when there is no such event. Safe from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn evi_probe_event(id: c_int) -> c_int {
    border(ERROR, || {
        let Some((name, _)) = published(id) else {
            return ERROR;
        };
        c_int::from(SINK.get().is_some_and(|sink| sink.wants(name)))
    })
}

/// Raises an event; the parameters are copied, and freed if they are from [`evi_get_params`]. 0, or -1 when there is no such
/// event or it could not be taken. Safe from any thread.
///
/// # Safety
/// `params` is NULL or a list, whose parameters are what their flags say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_raise_event(id: c_int, params: *mut EviParams) -> c_int {
    border(ERROR, || {
        let Some((name, raised)) = published(id) else {
            return ERROR;
        };
        raised.fetch_add(1, Ordering::Relaxed);
        let wanted = SINK.get().filter(|sink| sink.wants(name));
        let taken = wanted.is_none_or(|sink| {
            sink.raise(Event {
                name: name.to_owned(),
                // SAFETY: what this function asks for.
                params: unsafe { copied(params) },
            })
        });
        // SAFETY: what this function asks for.
        if unsafe { params.as_ref() }.is_some_and(|list| list.flags & EVI_FREE_LIST != 0) {
            // SAFETY: with that flag it is from `evi_get_params`.
            unsafe { evi_free_params(params) };
        }
        if taken { 0 } else { ERROR }
    })
}

/// As [`evi_raise_event`]: there is nobody who would look at the message.
///
/// # Safety
/// As [`evi_raise_event`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_raise_event_msg(
    _message: *mut SipMsg,
    id: c_int,
    params: *mut EviParams,
) -> c_int {
    // SAFETY: what this function asks for.
    unsafe { evi_raise_event(id, params) }
}

/// # Safety
/// As [`evi_raise_event`].
unsafe fn copied(params: *const EviParams) -> Vec<(Option<Vec<u8>>, EventValue)> {
    let mut copied = Vec::new();
    // SAFETY: what this function asks for.
    let mut param = unsafe { params.as_ref() }.map_or(ptr::null_mut(), |list| list.first);
    // SAFETY: as above.
    while let Some(found) = unsafe { param.as_ref() } {
        // SAFETY: as above.
        let name = unsafe { bytes(found.name) };
        let value = if found.flags & EVI_INT_VAL != 0 {
            // SAFETY: as above: the flags say that it is a number.
            EventValue::Int(unsafe { found.val.n })
        } else if found.flags & EVI_STR_VAL != 0 {
            // SAFETY: as above: the flags say that it is a text.
            let text = unsafe { found.val.s };
            match text.s.is_null() {
                true => EventValue::Null,
                // SAFETY: as above.
                false => EventValue::Str(unsafe { bytes(text) }.to_vec()),
            }
        } else {
            EventValue::Null
        };
        copied.push(((!name.is_empty()).then(|| name.to_vec()), value));
        param = found.next;
    }
    copied
}

/// An empty list, to be filled and given to [`evi_raise_event`]. NULL when there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn evi_get_params() -> *mut EviParams {
    // SAFETY: all of it may be zero, and then it is an empty list.
    let list: *mut EviParams = unsafe { libc::calloc(1, size_of::<EviParams>()) }.cast();
    // SAFETY: it was just made, or is NULL.
    if let Some(list) = unsafe { list.as_mut() } {
        list.flags = EVI_FREE_LIST;
    }
    list
}

/// Frees a list that was not raised.
///
/// # Safety
/// `list` is NULL or from [`evi_get_params`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_free_params(list: *mut EviParams) {
    // SAFETY: what this function asks for; each parameter is from calloc(3).
    unsafe {
        let Some(head) = list.as_ref() else { return };
        let mut param = head.first;
        while !param.is_null() {
            let next = (*param).next;
            libc::free(param.cast());
            param = next;
        }
        libc::free(list.cast());
    }
}

/// Adds a parameter without a value. `name` is NULL for one without a name; its bytes are not copied. NULL when there is no
/// list or no memory.
///
/// # Safety
/// `list` is NULL or a list; `name` is NULL or a text that stays until the event is raised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_param_create(list: *mut EviParams, name: *const Str) -> *mut EviParam {
    // SAFETY: what this function asks for; all of a parameter may be zero.
    unsafe {
        let Some(list) = list.as_mut() else {
            return ptr::null_mut();
        };
        let param: *mut EviParam = libc::calloc(1, size_of::<EviParam>()).cast();
        let Some(made) = param.as_mut() else {
            return param;
        };
        if let Some(name) = name.as_ref() {
            made.name = *name;
        }
        match list.last.as_mut() {
            Some(last) => last.next = param,
            None => list.first = param,
        }
        list.last = param;
        param
    }
}

/// Sets the value of a parameter: an `int *` with `EVI_INT_VAL`, a `str *` with `EVI_STR_VAL`, whose bytes are not copied.
/// 0, or -1 when something is NULL or `flags` are neither.
///
/// # Safety
/// `param` is NULL or of a list; `value` is NULL or what `flags` say, its bytes there until the event is raised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_param_set(
    param: *mut EviParam,
    value: *const c_void,
    flags: c_int,
) -> c_int {
    // SAFETY: what this function asks for.
    let Some(param) = (unsafe { param.as_mut() }) else {
        return ERROR;
    };
    if value.is_null() {
        return ERROR;
    }
    if flags & EVI_INT_VAL != 0 {
        // SAFETY: what this function asks for.
        let n = unsafe { value.cast::<c_int>().read_unaligned() };
        (param.val, param.flags) = (EviValue { n }, flags);
    } else if flags & EVI_STR_VAL != 0 {
        // SAFETY: what this function asks for.
        let s = unsafe { *value.cast::<Str>() };
        (param.val, param.flags) = (EviValue { s }, flags);
    } else {
        return ERROR;
    }
    0
}

/// Adds a parameter with its value. 0, or -1 as [`evi_param_create`] and [`evi_param_set`] have it, and then nothing was added.
///
/// # Safety
/// As those.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn evi_param_add(
    list: *mut EviParams,
    name: *const Str,
    value: *const c_void,
    flags: c_int,
) -> c_int {
    if value.is_null() || flags & (EVI_INT_VAL | EVI_STR_VAL) == 0 {
        return ERROR;
    }
    // SAFETY: what this function asks for.
    unsafe { evi_param_set(evi_param_create(list, name), value, flags) }
}

/// `EVI_ERROR`.
const ERROR: c_int = -1;

/// Bytes of a name, as in OpenSIPS.
const NAME_MAX: usize = 64;

/// Events of all modules; OpenSIPS itself has about fifty.
const EVENTS_MAX: usize = 1024;
