//! A shared library, opened and looked at. (OpenSIPS 1.11 `sr_module.c`, `sr_load_module`)

use std::ffi::{c_char, c_int};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library as Opened, RTLD_NOW};

use super::{LoadError, Options};
use crate::abi::module::ModuleExports;
use crate::running;
use crate::support::ended;

/// An open library with the symbol `exports`; closed again unless it is [kept](Self::keep).
#[derive(Debug)]
pub(super) struct Library {
    file: PathBuf,
    exports: NonNull<ModuleExports>,
    /// Taken when it is kept.
    opened: Option<Opened>,
    identity: Identity,
}

/// Device and inode: the dynamic linker knows a library by them, whatever it is called.
type Identity = (u64, u64);

/// What is kept. A library opened again would be the one that is there, with all that its variables hold.
static KEPT: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

impl Library {
    /// Opens `file` with the flags that it asks for itself.
    pub(super) fn open(file: &Path) -> Result<Self, LoadError> {
        let identity = identity(file)?;
        if kept().contains(&identity) {
            let file = file.to_owned();
            return Err(LoadError::Twice { file });
        }
        let mut opened = open(file, RTLD_NOW)?;
        let mut exports = symbol(file, &opened)?;
        // SAFETY: by contract of the symbol's name it is a `struct module_exports`, and the library is open.
        let flags = unsafe { exports.as_ref() }.dlflags.cast_signed();
        if flags != DEFAULT_DLFLAGS && flags != RTLD_NOW {
            drop(opened);
            opened = open(file, flags)?;
            exports = symbol(file, &opened)?;
        }
        Ok(Self {
            file: file.to_owned(),
            exports,
            opened: Some(opened),
            identity,
        })
    }

    /// Compares for what it was compiled with what this is, byte by byte. (OpenSIPS 1.11 `version_control`)
    pub(super) fn check_version(&self, options: &Options) -> Result<(), LoadError> {
        let exports = self.exports();
        let (file, ours) = (self.file.clone(), options.our_version.clone());
        let theirs = said(exports.version);
        if theirs.as_deref() != Some(&*ours) {
            return Err(LoadError::Version { file, theirs, ours });
        }
        let ours = options.our_flags.clone();
        let theirs = said(exports.compile_flags);
        if theirs.as_deref() != Some(&*ours) {
            return Err(LoadError::Flags { file, theirs, ours });
        }
        Ok(())
    }

    /// What it exports.
    pub(super) fn exports(&self) -> &ModuleExports {
        // SAFETY: by contract of the symbol's name it is a `struct module_exports`. It is not written to once it is there:
        // what modules change are the variables that it points at. It is there as long as the library, which is open.
        unsafe { self.exports.as_ref() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Leaves it open until the process ends.
    pub(super) fn keep(mut self) {
        kept().push(self.identity);
        std::mem::forget(self.opened.take());
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

fn open(file: &Path, flags: c_int) -> Result<Opened, LoadError> {
    // Its constructors run, and how it calls itself is not known yet.
    let name: &'static str = file.display().to_string().leak();
    // SAFETY: whoever can write to the file, or to what is above it, may run code as we do (`trust`), so its constructors
    // may do whatever they like.
    let opened = running::enter(name, || unsafe { Opened::open(Some(file), flags) });
    opened.map_err(|error| LoadError::Open {
        file: file.to_owned(),
        reason: reason(file, &error),
    })
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

fn said(text: *const c_char) -> Option<String> {
    // SAFETY: MODULE_VERSION puts two texts there that end with 0; a module without has NULL, as what C leaves out is zero.
    let text = unsafe { ended(text) };
    text.map(|text| text.to_string_lossy().into_owned())
}

/// A module that does not care.
const DEFAULT_DLFLAGS: c_int = 0;
