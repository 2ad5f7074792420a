//! Statistics: counted by modules with atomic additions, read by whoever writes metrics. (OpenSIPS 1.11 `statistics.c`)

use std::ffi::{CStr, c_char, c_int, c_ulong, c_ushort, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bytes;
use crate::abi::base::Str;
use crate::abi::module::{STAT_IS_FUNC, STAT_NO_RESET, StatFunction, StatSource, StatVar};
use crate::border::border;
use crate::loader::Address;
use crate::loader::gate::{self, Gate};
use crate::running;

/// A statistic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistic {
    /// Under which module it was registered: its own name, or another one that it chose, such as "dynamic".
    pub module: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// Only grows, unless it is reset. Otherwise it goes up and down (`STAT_NO_RESET`), or a function tells it.
    pub is_counter: bool,
}

/// A statistic of a module's table.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) flags: c_ushort,
    /// Where its address goes; with `STAT_IS_FUNC`, a function.
    pub(crate) pointer: Address,
}

/// There is one of that name.
#[derive(Debug)]
pub(crate) struct Taken;

/// One that is registered. It stays as long as the process: C has its address.
struct Entry {
    /// Who registered it: modules, or, as `None`, a program. Several where it is shared; nobody where they are over.
    owners: Vec<Option<&'static str>>,
    module: String,
    name: String,
    flags: c_ushort,
    source: Source,
    /// What C sees.
    seen: Address,
}

impl Entry {
    /// Whether somebody answers for it.
    fn is_there(&self) -> bool {
        !self.owners.is_empty()
    }

    fn is_of(&self, owner: Option<&'static str>) -> bool {
        let address = |name: Option<&'static str>| name.map(str::as_ptr);
        let mut owners = self.owners.iter();
        owners.any(|of| address(*of) == address(owner))
    }
}

#[derive(Clone, Copy)]
enum Source {
    Value(&'static AtomicU64),
    Function(StatFunction, Address),
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a statistic of the module `owner`'s table.
pub(crate) fn add_exported(owner: &'static str, wanted: &Wanted) -> Result<(), Taken> {
    let pointer = wanted.pointer.0.cast::<*mut StatVar>();
    // SAFETY: by the table's contract a `stat_var **` of the module, or a function, for which it is not written to.
    unsafe {
        add(
            Some(owner),
            owner,
            &wanted.name,
            wanted.flags,
            pointer,
            ptr::null_mut(),
            false,
        )
    }
}

/// Registers a statistic, and writes its address to `pointer`. One of a name that is there is shared where `shared` says so.
///
/// # Safety
/// `pointer` may be written to; with `STAT_IS_FUNC` it is a [`StatFunction`] that may be called with `context`.
unsafe fn add(
    owner: Option<&'static str>,
    module: &str,
    name: &str,
    flags: c_ushort,
    pointer: *mut *mut StatVar,
    context: *mut c_void,
    shared: bool,
) -> Result<(), Taken> {
    let is_function = flags & STAT_IS_FUNC != 0;
    let mut entries = entries();
    let same = |entry: &&mut Entry| {
        entry.is_there() && entry.module == module && entry.name.eq_ignore_ascii_case(name)
    };
    if let Some(entry) = entries.iter_mut().find(same) {
        if !shared || is_function {
            return Err(Taken);
        }
        // SAFETY: what this function asks for.
        unsafe { pointer.write(entry.seen.0.cast()) };
        if !entry.is_of(owner) {
            entry.owners.push(owner);
        }
        return Ok(());
    }
    let (source, u) = if is_function {
        // SAFETY: what this function asks for; no function is at NULL, which callers have seen to.
        let function: StatFunction = unsafe { std::mem::transmute(pointer) };
        let u = StatSource { f: Some(function) };
        (Source::Function(function, Address(context)), u)
    } else {
        let value: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        let val = value.as_ptr().cast::<c_ulong>();
        (Source::Value(value), StatSource { val })
    };
    let text: &'static str = name.to_owned().leak();
    let seen: *mut StatVar = Box::leak(Box::new(StatVar {
        mod_idx: 0,
        name: Str {
            s: text.as_ptr().cast_mut().cast(),
            len: c_int::try_from(text.len()).unwrap_or(c_int::MAX),
        },
        flags,
        context,
        u,
        links: [ptr::null_mut(); 2],
    }));
    if !is_function {
        // SAFETY: what this function asks for.
        unsafe { pointer.write(seen) };
    }
    entries.push(Entry {
        owners: vec![owner],
        module: module.to_owned(),
        name: name.to_owned(),
        flags,
        source,
        seen: Address(seen.cast()),
    });
    Ok(())
}

/// Forgets those of a module that is over, and of nobody else; what C has of them stays where it is. That a function is nobody's any
/// more is remembered: C may ask for its value for ever.
pub(crate) fn remove_all(owner: &'static str) {
    entries().retain_mut(|entry| {
        entry
            .owners
            .retain(|of| of.is_none_or(|of| !ptr::eq(of, owner)));
        entry.is_there() || matches!(entry.source, Source::Function(..))
    });
}

/// Those whose owner is `wanted`, in the order in which they were registered; without those of a function that is not to be called on
/// this thread.
pub(crate) fn read(wanted: impl Fn(&'static str) -> bool) -> Vec<Statistic> {
    let mut functions = Vec::new();
    let mut read = Vec::new();
    for entry in &*entries() {
        let owner = entry.owners.iter().flatten().find(|owner| wanted(owner));
        let Some(owner) = owner.copied() else {
            continue;
        };
        let value = match entry.source {
            // What modules add is not ordered with anything else.
            Source::Value(value) => value.load(Ordering::Relaxed),
            Source::Function(function, context) => {
                functions.push((read.len(), owner, function, context));
                0
            }
        };
        read.push(Statistic {
            module: entry.module.clone(),
            name: entry.name.clone(),
            value,
            is_counter: entry.flags & (STAT_NO_RESET | STAT_IS_FUNC) == 0,
        });
    }
    // They may ask for statistics themselves: nothing is locked any more. From the last one, so that those that are taken away do
    // not move the others.
    for (index, owner, function, context) in functions.into_iter().rev() {
        // SAFETY: registered as a function that may be called with that.
        match unsafe { ask(owner, function, context.0) } {
            Some(value) => read[index].value = value,
            None => drop(read.remove(index)),
        }
    }
    read
}

/// What `function` of the module `owner` tells, if it may run here.
///
/// # Safety
/// It may be called with `context`.
unsafe fn ask(owner: &'static str, function: StatFunction, context: *mut c_void) -> Option<u64> {
    let gate = gate::of(owner);
    let _pass = gate.map(Gate::pass).transpose().ok()?;
    if gate.is_some_and(Gate::is_over) {
        return None;
    }
    // SAFETY: what this function asks for, and no other thread is in the module.
    Some(running::enter(owner, || unsafe { function(context) }))
}

/// Who registered a statistic: a module, or, as `Some(None)`, a program. `None`: nobody who is there.
fn owner_of(seen: &StatVar) -> Option<Option<&'static str>> {
    let entries = entries();
    let mut found = entries
        .iter()
        .filter(|entry| ptr::eq(entry.seen.0.cast_const().cast(), seen));
    found.next()?.owners.first().copied()
}

/// Registers a statistic `name` under `module`, and writes its address to `pointer`; with `STAT_IS_FUNC` `pointer` is the
/// function that tells it, called with `context`. 0, or -1 when something is NULL or it is there already. Under "dynamic"
/// one that is there already is shared. Safe from any thread.
///
/// # Safety
/// `module` and `name` are NULL or end with 0, and `pointer` is what it is said to be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_stat2(
    module: *const c_char,
    name: *const c_char,
    pointer: *mut *mut StatVar,
    flags: c_ushort,
    context: *mut c_void,
    _unsafe: c_int,
) -> c_int {
    border(-1, || {
        if module.is_null() || name.is_null() || pointer.is_null() {
            return -1;
        }
        // SAFETY: what this function asks for.
        let (module, name) = unsafe { (CStr::from_ptr(module), CStr::from_ptr(name)) };
        let (module, name) = (module.to_string_lossy(), name.to_string_lossy());
        let shared = module == DYNAMIC;
        // SAFETY: what this function asks for.
        let added = unsafe {
            add(
                running::current_or_at(pointer.addr()),
                &module,
                &name,
                flags,
                pointer,
                context,
                shared,
            )
        };
        added.map_or(-1, |()| 0)
    })
}

/// Registers a statistic under "dynamic", or finds the one that is there. 0 or -1. Safe from any thread.
///
/// # Safety
/// `name` is NULL or a text, and `pointer` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn register_dynamic_stat(
    name: *const Str,
    pointer: *mut *mut StatVar,
) -> c_int {
    border(-1, || {
        if name.is_null() || pointer.is_null() {
            return -1;
        }
        // SAFETY: what this function asks for.
        let name = String::from_utf8_lossy(unsafe { bytes(*name) });
        if name.is_empty() {
            return -1;
        }
        let owner = running::current_or_at(pointer.addr());
        // SAFETY: what this function asks for.
        let added = unsafe { add(owner, DYNAMIC, &name, 0, pointer, ptr::null_mut(), true) };
        added.map_or(-1, |()| 0)
    })
}

/// The first statistic that is called `name`, whoever's it is, upper and lower case alike: NULL when there is none. Safe from
/// any thread.
///
/// # Safety
/// `name` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn get_stat(name: *const Str) -> *mut StatVar {
    border(ptr::null_mut(), || {
        if name.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: what this function asks for.
        let name = unsafe { bytes(*name) };
        let entries = entries();
        let found = entries
            .iter()
            .find(|e| e.is_there() && e.name.as_bytes().eq_ignore_ascii_case(name));
        found.map_or(ptr::null_mut(), |entry| entry.seen.0.cast())
    })
}

/// The value of a statistic, 0 for NULL. Safe from any thread: where a function tells it, 0 on another thread than that of its module,
/// and once that is over.
///
/// # Safety
/// `statistic` is NULL or was registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_stat_value(statistic: *const StatVar) -> c_ulong {
    border(0, || {
        // SAFETY: what this function asks for.
        let Some(statistic) = (unsafe { statistic.as_ref() }) else {
            return 0;
        };
        if statistic.flags & STAT_IS_FUNC != 0 {
            // SAFETY: with that flag it is a function.
            let Some(function) = (unsafe { statistic.u.f }) else {
                return 0;
            };
            // SAFETY: to be called with what it was registered with.
            return unsafe {
                match owner_of(statistic) {
                    Some(Some(owner)) => ask(owner, function, statistic.context).unwrap_or(0),
                    Some(None) => function(statistic.context),
                    None => 0,
                }
            };
        }
        // SAFETY: without it, it is the address of a value that stays; C adds to it atomically.
        unsafe { AtomicU64::from_ptr(statistic.u.val.cast()) }.load(Ordering::Relaxed)
    })
}

/// Statistics that belong to no module.
const DYNAMIC: &str = "dynamic";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_statistic_is_there_until_the_last_who_registered_it_is_over() {
        let values = |owner: &'static str| {
            let read = read(|of| ptr::eq(of, owner));
            read.iter().map(|one| one.value).collect::<Vec<_>>()
        };
        let mut seen = [ptr::null_mut(); 3];
        for (owner, seen) in ["stats-one", "stats-two", "stats-one"]
            .into_iter()
            .zip(&mut seen)
        {
            // SAFETY: a place for an address.
            unsafe {
                add(
                    Some(owner),
                    DYNAMIC,
                    "stats-shared",
                    0,
                    seen,
                    ptr::null_mut(),
                    true,
                )
            }
            .expect("it may be shared");
        }
        assert!(seen.iter().all(|one| *one == seen[0]));
        assert_eq!(
            (values("stats-one"), values("stats-two")),
            (vec![0], vec![0])
        );
        remove_all("stats-one");
        assert_eq!(
            (values("stats-one"), values("stats-two")),
            (vec![], vec![0])
        );
        remove_all("stats-two");
        assert!(entries().iter().all(|entry| entry.name != "stats-shared"));
    }

    #[test]
    fn a_function_of_a_module_is_not_called_on_another_thread_than_the_modules() {
        unsafe extern "C" fn seven(_: *mut c_void) -> c_ulong {
            7
        }
        let owner = "stats-far";
        let flags = STAT_IS_FUNC;
        let pointer = seven as StatFunction as *mut *mut StatVar;
        // SAFETY: with that flag it is a function.
        unsafe {
            add(
                Some(owner),
                owner,
                "stats-told",
                flags,
                pointer,
                ptr::null_mut(),
                false,
            )
        }
        .expect("there is none yet");
        let name = Str {
            s: c"stats-told".as_ptr().cast_mut(),
            len: 10,
        };
        // SAFETY: a text with its length, and what is found stays.
        let value = || unsafe { binrush_stat_value(get_stat(&raw const name)) };
        assert_eq!(value(), 7);
        let gate = gate::add(owner);
        std::thread::scope(|scope| {
            let (at_home, home) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let _ = gate.settle();
                at_home.send(()).unwrap();
                let _ = ended.recv();
            });
            home.recv().unwrap();
            assert_eq!(value(), 0);
            drop(end);
        });
        gate::remove(owner);
        // SAFETY: as above.
        let kept = unsafe { get_stat(&raw const name) };
        remove_all(owner);
        // SAFETY: it stays.
        assert_eq!(unsafe { binrush_stat_value(kept) }, 0, "its module is over");
        // SAFETY: as above.
        assert!(unsafe { get_stat(&raw const name) }.is_null());
    }
}
