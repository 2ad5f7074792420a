//! Timers of modules. (OpenSIPS 1.11 `timer.c`, `register_timer`)
//!
//! A process of its own calls them in OpenSIPS; here the thread that runs the module's other code does, between packets. So whoever
//! serves modules has to say that it [runs](crate::loader::Modules::run_timers) them: until then none is taken.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::clock::get_ticks;
use super::ended;
use super::log::{Level, say};
use crate::border::border;
use crate::loader::Address;
use crate::loader::gate::{self, Gate};
use crate::running;

/// Takes the time since the start, in seconds, and what the timer was registered with.
pub type TimerFunction = unsafe extern "C" fn(c_uint, *mut c_void);

/// Says that [`Modules::run_timers`](crate::loader::Modules::run_timers) will be called about ten times a second once modules are
/// ready. Before they are initialised.
pub fn serve() {
    SERVED.store(true, Ordering::Relaxed);
}

struct Timer {
    owner: &'static str,
    code: TimerFunction,
    param: Address,
    interval: Duration,
    /// `None` until it is seen for the first time: its interval begins then.
    due: Option<Instant>,
}

static SERVED: AtomicBool = AtomicBool::new(false);

static TIMERS: Mutex<Vec<Timer>> = Mutex::new(Vec::new());

/// How many there are, so that who has none asks for no lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn timers() -> MutexGuard<'static, Vec<Timer>> {
    TIMERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls the one that is due the longest, of those whose owner is `wanted`; `true` when another one is due.
pub(crate) fn run(now: Instant, wanted: impl Fn(&'static str) -> bool) -> bool {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let (owner, code, param, more) = {
        let mut timers = timers();
        let mut count = 0;
        let mut first: Option<(Instant, &mut Timer)> = None;
        for timer in timers.iter_mut().filter(|timer| wanted(timer.owner)) {
            let due = *timer.due.get_or_insert(now + timer.interval);
            if due > now {
                continue;
            }
            count += 1;
            if first.as_ref().is_none_or(|(other, _)| due < *other) {
                first = Some((due, timer));
            }
        }
        let Some((due, timer)) = first else {
            return false;
        };
        // What was missed is not made up for.
        let next = due + timer.interval;
        timer.due = Some(if next > now {
            next
        } else {
            now + timer.interval
        });
        (timer.owner, timer.code, timer.param, count > 1)
    };
    let gate = gate::of(owner);
    let Ok(_pass) = gate.map(Gate::pass).transpose() else {
        return more;
    };
    // It may register another one: nothing is locked any more.
    running::enter(owner, || {
        // SAFETY: registered as a function that may be called with that, on the thread that runs the module's other code.
        unsafe { code(get_ticks(), param.0) }
    });
    more
}

/// Forgets those of a module that is over.
pub(crate) fn remove_all(owner: &'static str) {
    let mut timers = timers();
    timers.retain(|timer| !ptr::eq(timer.owner, owner));
    COUNT.store(timers.len(), Ordering::Relaxed);
}

/// Has `code` called with `param` each `interval` seconds, from mod_init or while the server runs: 0. -1 when there is no code, the
/// interval is 0, it is not a module that asks, or nothing here runs timers.
///
/// # Safety
/// `label` is NULL or ends with 0; `code` may be called with `param` on the thread that runs the module's code.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_timer(
    label: *const c_char,
    code: Option<TimerFunction>,
    param: *mut c_void,
    interval: c_uint,
) -> c_int {
    border(-1, || {
        // SAFETY: what this function asks for.
        let label = unsafe { ended(label) }.map(|label| label.to_string_lossy());
        let label = label.as_deref().unwrap_or("without a name");
        let Some(code) = code else {
            say(
                Level::Error,
                &format!("timer {label} is not taken: it has no code"),
            );
            return -1;
        };
        let Some(owner) = running::current_or_at((code as *const c_void).addr()) else {
            say(
                Level::Error,
                &format!("timer {label} is not taken: it is of no module that is loaded"),
            );
            return -1;
        };
        if interval == 0 || !SERVED.load(Ordering::Relaxed) {
            let why = match interval {
                0 => "its interval is 0",
                _ => "this program runs no timers",
            };
            say(Level::Error, &format!("timer {label} is not taken: {why}"));
            return -1;
        }
        let interval = Duration::from_secs(interval.into());
        let mut timers = timers();
        timers.push(Timer {
            owner,
            code,
            param: Address(param),
            interval,
            due: None,
        });
        COUNT.store(timers.len(), Ordering::Relaxed);
        0
    })
}
