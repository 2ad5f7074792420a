//! What `bin_register_cb` of either API leaves.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::{fmt, slice};

use crate::abi::base::{BinPacket, ReceiveInfo};
use crate::running::current;
use crate::support::log::{Level, say};

/// Code of C that takes packets. Sent to the thread that will run it.
#[derive(Clone)]
pub enum Callback {
    /// Of the 1.x API: told the command, pops from what its thread reads. (1.11 `bin_interface.h`)
    Legacy(LegacyCall),
    /// Of the 3.x API: told the packet. (3.6 `bin_interface.h`)
    Modern {
        /// The code.
        call: ModernCall,
        /// What it is given each time.
        att: Option<Attachment>,
    },
}

/// `void (*)(int packet_type)`.
pub type LegacyCall = unsafe extern "C" fn(c_int);

/// `void (*)(bin_packet_t *, int packet_type, struct receive_info *, void *att)`.
pub type ModernCall = unsafe extern "C" fn(*mut BinPacket, c_int, *mut ReceiveInfo, *mut c_void);

/// A name, and who takes its packets.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Module name or capability, as it is in packets.
    pub name: Box<[u8]>,
    /// The code.
    pub callback: Callback,
}

/// The copy of what C gave with its callback: aligned for any type, and C's to write. A clone is a copy of its own, as each
/// process of OpenSIPS has one: of the shards of an engine. The process's own table has one, which never moves.
pub struct Attachment {
    at: NonNull<u8>,
    len: usize,
}

/// Collects what is registered on this thread while `f` runs, such as a module's `mod_init` or `child_init`, in order. Outside
/// of it registrations go to the process's own table, which is that of stand-alone programs.
///
/// May be called inside of itself: the inner one collects alone. What is registered until a panic is lost with it.
pub fn collecting<R>(f: impl FnOnce() -> R) -> (R, Vec<Registration>) {
    let outer = COLLECTED.replace(Some(Vec::new()));
    let restored = Restore(outer);
    let result = f();
    let collected = COLLECTED.take().unwrap_or_default();
    drop(restored);
    (result, collected)
}

/// Gives the outer collection its place again, after a panic too.
struct Restore(Option<Vec<Registration>>);

impl Drop for Restore {
    fn drop(&mut self) {
        COLLECTED.set(self.0.take());
    }
}

/// Takes down `registration`: for who collects on this thread, or else for the process. `false`, with a line in the log: a module
/// comes too late with it, since nobody hands packets of the engine to what is registered after its `mod_init` and `child_init`.
pub(crate) fn register(registration: Registration) -> bool {
    // A thread in its last moments has nothing left that collects: it registers for the process.
    let collects = COLLECTED.try_with(|collected| collected.borrow().is_some());
    if collects.unwrap_or(false) {
        COLLECTED.with_borrow_mut(|collected| collected.get_or_insert_default().push(registration));
        return true;
    }
    if current().is_some() {
        let name = String::from_utf8_lossy(&registration.name);
        say(
            Level::Error,
            &format!(
                "bin_register_cb for `{name}` is refused: it has to be called from mod_init or child_init"
            ),
        );
        return false;
    }
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    // Readers go on with what they have; registering is rare. What C was given of a registration stays where it is.
    let mut longer = Vec::clone(&table);
    longer.push(Arc::new(registration));
    *table = Arc::new(longer);
    true
}

/// The process's own table as it is now, oldest first.
pub(crate) fn table() -> Arc<Table> {
    Arc::clone(&TABLE.read().unwrap_or_else(PoisonError::into_inner))
}

/// Who takes the packets of `name`: whoever registered last. (1.11 and 3.6 `bin_interface.c`: the list grows at its head, and the
/// first equal name is called alone.)
pub(crate) fn find<'a>(table: &'a [Arc<Registration>], name: &[u8]) -> Option<&'a Callback> {
    let found = table.iter().rev().find(|entry| *entry.name == *name)?;
    Some(&found.callback)
}

impl Attachment {
    /// A copy of `bytes`; `None` without memory.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        // SAFETY: the size is not zero.
        let at = NonNull::new(unsafe { alloc::alloc_zeroed(Self::layout(bytes.len())?) })?;
        // SAFETY: allocated right above with at least as many bytes.
        unsafe { at.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Some(Self {
            at,
            len: bytes.len(),
        })
    }

    /// What C gets.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.at.as_ptr().cast()
    }

    /// As it is now. Only while no callback runs with it.
    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes were allocated and written in `copy_of`.
        unsafe { slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    /// Never of nothing, so that C gets a pointer of its own for an attachment of no bytes.
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.max(1), ALIGN).ok()
    }
}

impl Clone for Attachment {
    fn clone(&self) -> Self {
        Self::copy_of(self.bytes()).unwrap_or_else(|| {
            alloc::handle_alloc_error(Self::layout(self.len).expect("it was allocated once"))
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let layout = Self::layout(self.len).expect("it was allocated with it");
        // SAFETY: allocated in `copy_of` with the same layout.
        unsafe { alloc::dealloc(self.at.as_ptr(), layout) };
    }
}

// SAFETY: memory of its own, which Rust reads only in `clone`. Who clones while C runs with it, or runs C with it on two threads,
// is the owner of the registration, who gives each thread a clone.
unsafe impl Send for Attachment {}
// SAFETY: as above; the process's own table is shared, and what two threads of a program do in one callback is the program's.
unsafe impl Sync for Attachment {}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy(call) => f.debug_tuple("Legacy").field(call).finish(),
            Self::Modern { call, att } => f
                .debug_struct("Modern")
                .field("call", call)
                .field("att", att)
                .finish(),
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// What `malloc` aligns to on LP64 (`max_align_t`): C keeps any struct in it.
const ALIGN: usize = 16;

thread_local! {
    static COLLECTED: RefCell<Option<Vec<Registration>>> = const { RefCell::new(None) };
}

/// What the process registered. Each entry stays where it is until the process ends: C keeps what it was given of it.
pub(crate) type Table = Vec<Arc<Registration>>;

static TABLE: LazyLock<RwLock<Arc<Table>>> = LazyLock::new(RwLock::default);

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn first(_: c_int) {}
    unsafe extern "C" fn second(_: c_int) {
        std::hint::black_box(2);
    }

    unsafe extern "C" fn modern(_: *mut BinPacket, _: c_int, _: *mut ReceiveInfo, _: *mut c_void) {}

    fn legacy(name: &[u8], call: LegacyCall) -> Registration {
        Registration {
            name: name.into(),
            callback: Callback::Legacy(call),
        }
    }

    #[test]
    fn a_collection_has_what_was_registered_in_it_and_the_table_has_not() {
        let ((), outer) = collecting(|| {
            register(legacy(b"collected-a", first));
            let (seven, inner) = collecting(|| {
                register(legacy(b"collected-b", first));
                7
            });
            assert_eq!((seven, inner.len()), (7, 1));
            register(legacy(b"collected-c", first));
        });
        let names: Vec<_> = outer.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, [&b"collected-a"[..], b"collected-c"]);
        register(legacy(b"tabled", first));
        let table = table();
        assert!(find(&table, b"tabled").is_some());
        assert!(find(&table, b"collected-a").is_none());
    }

    #[test]
    fn a_panic_in_a_collection_does_not_keep_it_open() {
        let caught = std::panic::catch_unwind(|| collecting(|| panic!("in mod_init")));
        assert!(caught.is_err());
        register(legacy(b"after-a-panic", first));
        assert!(find(&table(), b"after-a-panic").is_some());
    }

    #[test]
    fn of_two_with_one_name_the_last_one_is_called() {
        let table = [
            legacy(b"ul", first),
            legacy(b"ul", second),
            legacy(b"u", first),
        ]
        .map(Arc::new);
        let Some(Callback::Legacy(call)) = find(&table, b"ul") else {
            panic!("it is there");
        };
        assert!(std::ptr::fn_addr_eq(*call, second as LegacyCall));
        assert!(find(&table, b"").is_none());
    }

    #[test]
    fn a_module_that_registers_when_nobody_collects_is_refused() {
        let late = || register(legacy(b"too-late", first));
        assert!(!crate::running::enter("latecomer", late));
        assert!(find(&table(), b"too-late").is_none());
        let (is_taken, collected) = collecting(|| crate::running::enter("in-time", late));
        assert!(is_taken);
        assert_eq!(collected.len(), 1);
    }

    #[test]
    fn what_is_registered_later_moves_nothing_that_c_was_given() {
        let att = Attachment::copy_of(&[1, 2, 3]);
        let callback = Callback::Modern { call: modern, att };
        register(Registration {
            name: b"stays".as_slice().into(),
            callback,
        });
        let place = || match find(&table(), b"stays") {
            Some(Callback::Modern { att: Some(att), .. }) => att.as_ptr(),
            _ => panic!("it is there"),
        };
        let before = place();
        register(legacy(b"another", first));
        assert_eq!(place(), before);
    }

    #[test]
    fn an_attachment_is_a_copy_aligned_for_any_struct_and_a_clone_is_another() {
        for len in [0, 1, 24, 4096] {
            let att = Attachment::copy_of(&vec![7; len]).unwrap();
            let copy = att.clone();
            assert_ne!(att.as_ptr(), copy.as_ptr());
            assert_eq!(
                (att.bytes(), copy.bytes()),
                (&*vec![7; len], &*vec![7; len])
            );
            assert!(att.as_ptr().addr().is_multiple_of(16));
        }
    }
}
