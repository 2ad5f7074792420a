use std::env;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// A descriptor that was open when this process began, for it.
#[derive(Debug)]
pub struct Inherited {
    /// What it was called by whoever left it: `FileDescriptorName=` of a socket unit, `FDNAME=` of what was stored; empty
    /// or `unknown` without one.
    pub name: String,
    /// The descriptor, closed on exec(2) from now on.
    pub descriptor: OwnedFd,
}

/// What the environment says of inherited descriptors cannot be so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritedError {
    /// A variable has no number.
    #[error(
        "the environment says {variable}={value}, which is no number from 0 to {INHERITED_MAX}"
    )]
    Number {
        /// Which one.
        variable: &'static str,
        /// What it has.
        value: String,
    },
    /// There are fewer than it says.
    #[error(
        "the environment says LISTEN_FDS={count}, and descriptor {descriptor} is not open: {error}"
    )]
    NotOpen {
        /// How many there should be.
        count: usize,
        /// The first that is missing.
        descriptor: RawFd,
        /// What fcntl(2) said.
        error: io::Error,
    },
}

/// The descriptors that a service manager opened for this process, in its order: sockets of its units, and what a process
/// before this one stored (sd_listen_fds(3), systemd.socket(5), `FileDescriptorStoreMax=` of systemd.service(5)). None
/// where `LISTEN_PID` is missing or is not this process: they are for somebody else then.
///
/// The first call takes them, and any other finds none. Call it before anything else of the process opens or closes
/// descriptors that it was not given.
///
/// # Errors
/// [`InheritedError`]; nothing is taken then.
pub fn inherited() -> Result<Vec<Inherited>, InheritedError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let is_ours =
        number("LISTEN_PID", u32::MAX as usize)?.is_some_and(|pid| pid == process::id() as usize);
    if !is_ours {
        // Whatever else is said there is said to somebody else.
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS", INHERITED_MAX)?.unwrap_or(0);
    if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let last = FIRST + RawFd::try_from(count).expect("at most INHERITED_MAX");
    for descriptor in FIRST..last {
        // SAFETY: F_SETFD takes an integer and no memory; a descriptor that is not open is an error. (fcntl(2))
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            let error = io::Error::last_os_error();
            return Err(InheritedError::NotOpen {
                count,
                descriptor,
                error,
            });
        }
    }
    let taken = (FIRST..last).map(|descriptor| Inherited {
        name: names.next().unwrap_or_default(),
        // SAFETY: it is open, as was just seen, and it was opened for this process to own: "the service manager passes
        // file descriptors [...] starting from 3" (sd_listen_fds(3)). Nobody else in it has done so: this is reached once.
        descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
    });
    Ok(taken.collect())
}

fn number(variable: &'static str, max: usize) -> Result<Option<usize>, InheritedError> {
    let Some(value) = env::var_os(variable) else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|text| text.parse().ok());
    match number.filter(|number| *number <= max) {
        Some(number) => Ok(Some(number)),
        None => Err(InheritedError::Number {
            variable,
            value: value.to_string_lossy().escape_debug().to_string(),
        }),
    }
}

impl Inherited {
    /// Its number, for people.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

/// Most that are taken over: more than all listeners of an engine with all its shards have.
const INHERITED_MAX: usize = 4096;
