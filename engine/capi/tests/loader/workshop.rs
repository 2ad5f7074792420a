//! Where the sources are, the compiler, and folders that nobody else can write to.

use std::env;
use std::ffi::{CStr, c_char};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use binrush::loader::{Loader, ModuleId, Modules, Options};
use libloading::os::unix::Library;

/// A folder of one test, gone with it. Only we may write there, whatever the umask is.
///
/// While it is open no other test loads modules: what C registers is of the whole process.
pub(crate) struct Workshop {
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Workshop {
    /// `None`, which is said, where there is no compiler.
    pub(crate) fn open() -> Option<Self> {
        if Command::new("cc").arg("--version").output().is_err() {
            skip("there is no cc");
            return None;
        }
        Some(Self::new())
    }

    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("loader-{}-{number}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the folder of the tests can be written to");
        let folder = folder.canonicalize().expect("it is there");
        set_mode(&folder, 0o755);
        Self {
            folder,
            // A test that failed left nothing behind that another one would see.
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// As a server has them, but for what is above our folder, which may be anybody's.
    pub(crate) fn options(&self) -> Options {
        Options {
            vouched: self.folder.parent().map(Path::to_owned),
            ..Options::default()
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder in ours.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("it is not there yet");
        set_mode(&path, 0o755);
        path
    }

    /// Compiles `ctest/NAME.c` to `NAME.so` in our folder.
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        let library = self.path(&format!("{name}.so"));
        compile(&source(name), &library);
        library
    }

    /// Loads the modules `names`, in that order.
    pub(crate) fn loader(&self, names: &[&str]) -> Loader {
        let mut loader = Loader::new(self.options());
        for name in names {
            let library = self.module(name);
            loader
                .load(None, text(&library))
                .unwrap_or_else(|error| panic!("{error}"));
        }
        loader
    }

    /// Loads and initialises the modules `names`.
    pub(crate) fn modules(&self, names: &[&str]) -> Modules {
        let modules = self.loader(names).finish();
        modules.init().unwrap_or_else(|error| panic!("{error}"));
        modules
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What is loaded stays in memory; a folder that is left behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Says that a check was left out, past the test runner, which keeps what a passing test prints to itself.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let line = format!("\nSKIPPED {}: {reason}\n", current.name().unwrap_or("?"));
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A source of ours.
pub(crate) fn source(name: &str) -> PathBuf {
    root().join(format!("ctest/{name}.c"))
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles a module, with each warning an error.
pub(crate) fn compile(source: &Path, library: &Path) {
    compile_with(source, library, &[]);
}

/// The same with `flags` of its own, and those of the environment.
pub(crate) fn compile_with(source: &Path, library: &Path, flags: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-shared", "-fPIC"])
        .args(flags)
        .args(env::var(CFLAGS).unwrap_or_default().split_whitespace())
        .arg("-I")
        .arg(root().join("include"))
        .arg("-o")
        .arg(library)
        .arg(source);
    run(&mut cc);
    set_mode(library, 0o644);
}

/// Copies a file, to which nobody else may write.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("it is there, and the folder is ours");
    set_mode(to, 0o644);
}

/// Runs a command that succeeds, and gives what it wrote.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}{complained}");
    said.into_owned()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("our paths are text")
}

/// The module of those that has that name.
pub(crate) fn id(modules: &Modules, name: &str) -> ModuleId {
    let found = modules.ids().find(|id| modules.name(*id) == name);
    found.unwrap_or_else(|| panic!("no module {name}"))
}

/// What a variable of a module holds, by its name in C: of a library that is loaded, as a copy of its own.
pub(crate) fn variable<T: Copy>(library: &Path, name: &str) -> T {
    // SAFETY: it is one of ours, and loaded already: nothing of it runs.
    let library = unsafe { Library::new(library) }.expect("it is loaded");
    // SAFETY: the tests ask for variables by the types that the sources have.
    unsafe {
        **library
            .get::<*const T>(name.as_bytes())
            .expect("it has that")
    }
}

/// The same of a `char *`.
pub(crate) fn variable_text(library: &Path, name: &str) -> String {
    let text: *const c_char = variable(library, name);
    // SAFETY: a text of the module, which ends with 0.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// The same of an array of `char`.
pub(crate) fn variable_array<const N: usize>(library: &Path, name: &str) -> String {
    let bytes: [u8; N] = variable(library, name);
    let text = CStr::from_bytes_until_nul(&bytes).expect("it ends with 0");
    text.to_string_lossy().into_owned()
}

/// The variable of the environment that has flags of the compiler, for all modules.
pub(crate) const CFLAGS: &str = "LOADER_TESTS_CFLAGS";
