//! Lines for the log. (OpenSIPS 1.11 `dprint.h`)
//!
//! The headers write the text; here it becomes one line, with the name of the module and the level, if the level is wanted and
//! the module has not said too much lately.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::io::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Line, bytes, ended};
use crate::abi::base::Str;
use crate::border::border;
use crate::running;

/// How much a line matters: `L_ALERT` to `L_DBG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Somebody must act at once.
    Alert = -3,
    /// Something is broken.
    Critical = -2,
    /// Something failed.
    Error = -1,
    /// Something is odd.
    Warning = 1,
    /// Something happened that an operator wants to know.
    Notice = 2,
    /// Something happened.
    Info = 3,
    /// For whoever writes the module.
    Debug = 4,
}

impl Level {
    fn of(level: c_int) -> Self {
        match level {
            ..=-3 => Self::Alert,
            -2 => Self::Critical,
            -1 | 0 => Self::Error,
            1 => Self::Warning,
            2 => Self::Notice,
            3 => Self::Info,
            4.. => Self::Debug,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        })
    }
}

/// Takes a line: the level, and the text without a line feed. Called on the thread that says it.
pub type Sink = fn(Level, &str);

/// Sets where lines go, once; `false` when that was done before. Until then they go to standard error.
pub fn set_sink(sink: Sink) -> bool {
    SINK.set(sink).is_ok()
}

/// Sets which lines are wanted: those of `level` and of what matters more. [`Level::Notice`] at first, as in OpenSIPS.
pub fn set_level(level: Level) {
    LEVEL.store(level as c_int, Ordering::Relaxed);
}

static SINK: OnceLock<Sink> = OnceLock::new();
static LEVEL: AtomicI32 = AtomicI32::new(Level::Notice as c_int);

/// What each module may still say. A line is rare or it is not wanted; so a lock does no harm.
static BUDGETS: Mutex<Vec<Budget>> = Mutex::new(Vec::new());

/// The lines of one module within a second.
struct Budget {
    module: String,
    since: Instant,
    said: u32,
    kept_back: u64,
}

/// Whether lines of `level` are wanted: asked before a line is put together.
#[unsafe(no_mangle)]
pub extern "C" fn binrush_log_wants(level: c_int) -> c_int {
    c_int::from(level <= LEVEL.load(Ordering::Relaxed))
}

/// Says one line. `module` may be NULL, and then it is the module whose code this thread is in, or, on a thread
/// of its own, the one in whose library `function` lies; that may be NULL. Of one
/// module 100 lines a second are written; how many were not stands in a line of its own. Safe from any thread.
///
/// # Safety
/// `module` and `function` are NULL or end with 0, and `text` has as many bytes as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_log(
    level: c_int,
    module: *const c_char,
    function: *const c_char,
    text: Str,
) {
    border((), || {
        // SAFETY: what this function asks for.
        let (module, named, text) = unsafe { (ended(module), ended(function), bytes(text)) };
        // On a thread that a module started: the name of the function lies in its library.
        let current = || running::current_or_at(function.addr());
        let module = utf8(module).or_else(current).unwrap_or("module");
        let level = Level::of(level);
        let Some(kept_back) = spend(module, Instant::now()) else {
            return;
        };
        if kept_back > 0 {
            write(
                Level::Warning,
                &format!(
                    "{module}: {kept_back} lines were not written: more than {PER_SECOND} a second"
                ),
            );
        }
        let text = String::from_utf8_lossy(text.trim_ascii_end());
        let text = Line(&text);
        match utf8(named) {
            Some(function) => write(level, &format!("{module}: {level}: {function}: {text}")),
            None => write(level, &format!("{module}: {level}: {text}")),
        }
    });
}

/// Says one line about the module whose code this thread is in.
pub(crate) fn say(level: Level, what: &str) {
    let text = Str {
        s: what.as_ptr().cast_mut().cast(),
        len: c_int::try_from(what.len()).unwrap_or(c_int::MAX),
    };
    // SAFETY: no names, and a text with its length.
    unsafe { binrush_log(level as c_int, ptr::null(), ptr::null(), text) };
}

/// Takes one line from the budget of `module`: how many were kept back since the last one that was written, or `None` when
/// this one is to be kept back.
fn spend(module: &str, now: Instant) -> Option<u64> {
    let mut budgets = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = budgets.iter().position(|budget| budget.module == module);
    let index = known.unwrap_or_else(|| {
        // Names that are made up all the time share the last budget.
        if budgets.len() < MODULES_MAX {
            budgets.push(Budget {
                module: module.to_owned(),
                since: now,
                said: 0,
                kept_back: 0,
            });
        }
        budgets.len() - 1
    });
    let budget = &mut budgets[index];
    if now.saturating_duration_since(budget.since) >= Duration::from_secs(1) {
        (budget.since, budget.said) = (now, 0);
    }
    if budget.said == PER_SECOND {
        budget.kept_back += 1;
        return None;
    }
    budget.said += 1;
    Some(std::mem::take(&mut budget.kept_back))
}

/// A name, if it can be shown.
fn utf8(name: Option<&CStr>) -> Option<&str> {
    name.and_then(|name| name.to_str().ok())
}

fn write(level: Level, line: &str) {
    match SINK.get() {
        Some(sink) => sink(level, line),
        // A log that is gone is no reason to stop.
        None => drop(writeln!(std::io::stderr().lock(), "{line}")),
    }
}

/// Lines of one module in a second.
const PER_SECOND: u32 = 100;

/// Modules with a budget of their own.
const MODULES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_says_too_much_is_cut_off_until_the_next_second() {
        let now = Instant::now();
        for _ in 0..PER_SECOND {
            assert_eq!(spend("chatty", now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(spend("chatty", now), None);
        }
        assert_eq!(spend("quiet", now), Some(0));
        let later = now + Duration::from_secs(1);
        assert_eq!(spend("chatty", later), Some(7));
        assert_eq!(spend("chatty", later), Some(0));
    }

    #[test]
    fn lines_that_matter_less_are_not_wanted() {
        assert_eq!(binrush_log_wants(Level::Notice as c_int), 1);
        assert_eq!(binrush_log_wants(Level::Alert as c_int), 1);
        assert_eq!(binrush_log_wants(Level::Info as c_int), 0);
        assert_eq!(binrush_log_wants(Level::Debug as c_int), 0);
    }
}
