//! A shared library, opened and looked at. (OpenSIPS 1.11 `sr_module.c`, `sr_load_module`)

use std::ffi::{OsStr, c_char, c_int, c_void};
use std::fs;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf, absolute};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library as Opened, RTLD_NOW};

use super::{LoadError, Options, gate, trust};
use crate::abi::module::ModuleExports;
use crate::bin::registrations::{Registration, collecting};
use crate::running;
use crate::support::ended;

/// An open library with the symbol `exports`. It stays open until the process ends, also when it turns out to be no module of ours:
/// its constructors ran, and what they registered, here or with the C library, points into it.
#[derive(Debug)]
pub(super) struct Library {
    file: PathBuf,
    /// The file's name for [`running::enter`], while the module has none.
    label: &'static str,
    exports: NonNull<ModuleExports>,
    identity: Identity,
    /// What its constructors registered for BIN packets.
    registered: Vec<Registration>,
    /// What is wrong with libraries that were opened with it.
    suspects: Vec<LoadError>,
}

/// Device and inode: the dynamic linker knows a library by them, whatever it is called.
type Identity = (u64, u64);

/// What is kept. A library opened again would be the one that is there, with all that its variables hold.
static KEPT: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

impl Library {
    /// Opens `file` with the flags that it asks for itself, if it was compiled for what `options` say.
    /// Where it `may_be_reentrant`, its constructors are given no functions of modules that are not.
    pub(super) fn open(
        file: &Path,
        options: &Options,
        may_be_reentrant: bool,
    ) -> Result<Self, LoadError> {
        let identity = identity(file)?;
        if kept().contains(&identity) {
            let file = file.to_owned();
            return Err(LoadError::Twice { file });
        }
        // How it calls itself is not known yet.
        let label: &'static str = file.display().to_string().leak();
        running::comes_from(label, label);
        let before = libraries();
        if may_be_reentrant {
            gate::add(label).make_reentrant();
        }
        let (opened, registered) = collecting(|| open(file, label, RTLD_NOW));
        gate::remove(label);
        let opened = opened?;
        let exports = symbol(file, &opened)?;
        if lies_in(exports).is_none_or(|found| found != identity) {
            // dlsym(3) looks into what the library needs, too.
            let file = file.to_owned();
            return Err(LoadError::NoExports { file });
        }
        let news = libraries().into_iter().filter(|one| !before.contains(one));
        let news = news.filter(|one| one != file);
        let suspects = news.filter_map(|one| trust::check(&one, options.vouched.as_deref()).err());
        let library = Self {
            file: file.to_owned(),
            label,
            exports,
            identity,
            registered,
            suspects: suspects.collect(),
        };
        running::enter(label, || library.check_version(options))?;
        // Only now it is known that there are flags at that place.
        let flags = library.exports().dlflags.cast_signed();
        if flags != DEFAULT_DLFLAGS && flags != RTLD_NOW {
            // It is there already: this adds to how it is open, such as to whom its symbols are shown.
            open(file, label, flags)?;
        }
        Ok(library)
    }

    /// Compares for what it was compiled with what this is, byte by byte. (OpenSIPS 1.11 `version_control`)
    fn check_version(&self, options: &Options) -> Result<(), LoadError> {
        let exports = self.exports();
        let (file, ours) = (self.file.clone(), options.our_version.clone());
        // OpenSIPS 2.2 put the module's type, a small number, where the version was. (2.2 `sr_module.h`)
        if (1..TYPES_MAX).contains(&exports.version.addr()) {
            return Err(LoadError::Layout { file, ours });
        }
        let theirs = self.said(exports.version);
        if theirs.as_deref() != Some(&*ours) {
            return Err(LoadError::Version { file, theirs, ours });
        }
        let ours = options.our_flags.clone();
        let theirs = self.said(exports.compile_flags);
        if theirs.as_deref() != Some(&*ours) {
            return Err(LoadError::Flags { file, theirs, ours });
        }
        Ok(())
    }

    /// A text of the library itself, which is where MODULE_VERSION puts it: `None` for NULL, and for what is not in the library.
    fn said(&self, text: *const c_char) -> Option<String> {
        if !in_library_of(self.exports.as_ptr().cast_const().cast(), text.cast()) {
            return None;
        }
        // SAFETY: a text that ends with 0 by contract of `exports`, at an address where the library has memory.
        let text = unsafe { ended(text) };
        text.map(|text| text.to_string_lossy().into_owned())
    }

    /// What it exports.
    pub(super) fn exports(&self) -> &ModuleExports {
        // SAFETY: by contract of the symbol's name it is a `struct module_exports`. It is not written to once it is there:
        // what modules change are the variables that it points at. It is there as long as the library, which stays open.
        unsafe { self.exports.as_ref() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Where it is in memory, from its first segment to its last; nothing when the dynamic linker does not know it.
    pub(super) fn addresses(&self) -> Range<usize> {
        let mut search = (self.exports.addr().get(), 0..0);
        // SAFETY: the function is called with `search`, and with nothing else, before this returns.
        unsafe { libc::dl_iterate_phdr(Some(look_at_segments), (&raw mut search).cast()) };
        search.1
    }

    /// What is wrong with libraries that it needs, of those that were not there before: whoever can write to one runs code as we do.
    pub(super) fn suspects(&self) -> &[LoadError] {
        &self.suspects
    }

    /// What [`running::enter`] is told while the tables are read.
    pub(super) fn label(&self) -> &'static str {
        self.label
    }

    /// It is a module now, and no other one comes from the same file: what its constructors registered.
    pub(super) fn keep(self) -> Vec<Registration> {
        kept().push(self.identity);
        self.registered
    }
}

fn kept() -> std::sync::MutexGuard<'static, Vec<Identity>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(file: &Path) -> Result<Identity, LoadError> {
    let seen = fs::metadata(file).map_err(|source| LoadError::Read {
        path: file.to_owned(),
        source,
    })?;
    Ok((seen.dev(), seen.ino()))
}

/// Opens it for good: behind dlclose(3) there would be no code where others have the address of some.
fn open(file: &Path, label: &'static str, flags: c_int) -> Result<ManuallyDrop<Opened>, LoadError> {
    // SAFETY: whoever can write to the file, or to what is above it, may run code as we do (`trust`), so its constructors
    // may do whatever they like.
    let opened = running::enter(label, || unsafe { Opened::open(Some(file), flags) });
    let opened = opened.map_err(|error| LoadError::Open {
        file: file.to_owned(),
        reason: reason(file, &error),
    })?;
    Ok(ManuallyDrop::new(opened))
}

fn symbol(file: &Path, opened: &Opened) -> Result<NonNull<ModuleExports>, LoadError> {
    // SAFETY: only the address is taken here.
    let found = unsafe { opened.get::<*mut ModuleExports>(b"exports\0") };
    let address = found.ok().map(|symbol| symbol.into_raw());
    let address = address.and_then(|address| NonNull::new(address.cast::<ModuleExports>()));
    address.ok_or_else(|| LoadError::NoExports {
        file: file.to_owned(),
    })
}

/// The library that `exports` is in.
fn lies_in(exports: NonNull<ModuleExports>) -> Option<Identity> {
    let info = library_at(exports.as_ptr().cast_const().cast())?;
    // SAFETY: a text that ends with 0, which is there as long as the library.
    let name = unsafe { ended(info.dli_fname) }?;
    identity(Path::new(OsStr::from_bytes(name.to_bytes()))).ok()
}

/// Where the libraries of this process come from, as far as they come from files: modules, what they need, and what it needs itself, by
/// the paths at which the dynamic linker found them.
#[must_use]
pub fn libraries() -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = Vec::new();
    // SAFETY: the function is called with `names`, and with nothing else, before this returns.
    unsafe { libc::dl_iterate_phdr(Some(note_name), (&raw mut names).cast()) };
    names
}

/// Called for each library that is loaded. `names` is a list.
unsafe extern "C" fn note_name(
    info: *mut libc::dl_phdr_info,
    _: usize,
    names: *mut c_void,
) -> c_int {
    // SAFETY: by contract of dl_iterate_phdr(3), and what `libraries` gave to it, which is looked at by nobody else.
    let (name, names) = unsafe { (ended((*info).dlpi_name), &mut *names.cast::<Vec<PathBuf>>()) };
    // The program has no name, and what the kernel put there no slash.
    let file = name.filter(|name| name.to_bytes().contains(&b'/'));
    let file = file.map(|file| absolute(OsStr::from_bytes(file.to_bytes())));
    names.extend(file.and_then(Result::ok));
    0
}

/// What dlerror(3) said, without the path that stands in our message already.
fn reason(file: &Path, error: &libloading::Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        said = inner.to_string();
        source = inner.source();
    }
    let path = format!("{}: ", file.display());
    said.strip_prefix(&path).unwrap_or(&said).to_owned()
}

/// Whether `address` lies in a segment of the library that `symbol` is in.
fn in_library_of(symbol: *const c_void, address: *const c_void) -> bool {
    let base = |address| library_at(address).map(|info| info.dli_fbase);
    base(address).is_some_and(|found| base(symbol) == Some(found))
}

/// The library that has a segment at `address`.
fn library_at(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: plain data, of which zeros are a value.
    let mut info: libc::Dl_info = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: it compares the address with those of the segments that are loaded, and looks at nothing there.
    let found = unsafe { libc::dladdr(address, &raw mut info) };
    (found != 0).then_some(info)
}

/// Called for each library that is loaded: 1 ends the search. `search` is an address and what its library covers.
unsafe extern "C" fn look_at_segments(
    info: *mut libc::dl_phdr_info,
    _: usize,
    search: *mut c_void,
) -> c_int {
    // SAFETY: by contract of dl_iterate_phdr(3), and what `addresses` gave to it, which is looked at by nobody else.
    let (info, (wanted, covered)) =
        unsafe { (&*info, &mut *search.cast::<(usize, Range<usize>)>()) };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: so many headers there are.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let number = |number: u64| usize::try_from(number).unwrap_or(0);
    let segments = headers.iter().filter(|one| one.p_type == libc::PT_LOAD);
    let all = segments.map(|one| {
        let begin = number(info.dlpi_addr).wrapping_add(number(one.p_vaddr));
        begin..begin.saturating_add(number(one.p_memsz))
    });
    let all = all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    match all.filter(|all| all.contains(wanted)) {
        Some(all) => {
            *covered = all;
            1
        }
        None => 0,
    }
}

/// More types of modules than any OpenSIPS has, and less than the first address that a process can have.
const TYPES_MAX: usize = 4096;

/// A module that does not care.
const DEFAULT_DLFLAGS: c_int = 0;
