//! A signal that ends the process says whose code it came from.
//!
//! The handler does nothing but what signal-safety(7) allows: it reads this thread's own word and places that never change once they
//! are filled, writes one line to standard error, and lets the signal do what it does by default.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use super::{current, file_of, module_at};

/// From now on a crash inside of a module's code is told, in one line on standard error: `module NAME (FILE) crashed: SIGSEGV at
/// 0x0 on thread shard0`. Crashes elsewhere go the way that they went before. A signal that another process sent meanwhile is told as
/// such: `this process was ended by SIGABRT from process PID while in module NAME (FILE) on thread shard0`.
///
/// And who ends the process with exit(3) is told of too: `module NAME (FILE) called exit on thread shard0`, or `exit was called on
/// thread NAME` where nobody knows whose thread it is; and the status is 70. So whoever calls this says that the process is
/// [`ending`] before its `main` returns. Nobody hears of _exit(2). Once in the life of a process.
///
/// # Errors
/// What sigaction(2) or atexit(3) said, each time anew.
pub fn tell_of_crashes() -> io::Result<()> {
    static DONE: OnceLock<Result<(), c_int>> = OnceLock::new();
    let code = |error: io::Error| error.raw_os_error().unwrap_or(libc::EINVAL);
    let done = DONE.get_or_init(|| {
        SIGNALS
            .iter()
            .try_for_each(catch)
            .and_then(|()| at_exit())
            .map_err(code)
    });
    done.map_err(io::Error::from_raw_os_error)
}

fn at_exit() -> io::Result<()> {
    // SAFETY: a function that may be called at any time, by whoever calls exit(3).
    if unsafe { libc::atexit(exited) } == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ENOMEM))
    }
}

/// This process ends by itself: what calls exit(3) from now on outside of a module's code, such as the end of `main`, may.
pub fn ending() {
    IS_ENDING.store(true, Ordering::Relaxed);
}

static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Called by exit(3), on the thread that called that.
extern "C" fn exited() {
    if current().is_none() && IS_ENDING.load(Ordering::Relaxed) {
        return;
    }
    let mut line = Line::new();
    match current().or_else(caller) {
        Some(module) => {
            line.push_module(module);
            line.push(b" called exit");
        }
        None => line.push(b"exit was called"),
    }
    line.push_thread();
    line.write();
    // SAFETY: ends the process; nobody's status is a success that a module made up.
    unsafe { libc::_exit(STATUS_EXITED) };
}

/// The module that has code on the stack of this thread, on one that it started. Not for signal handlers.
#[cfg(target_env = "gnu")]
pub(super) fn caller() -> Option<&'static str> {
    let mut frames = [ptr::null_mut(); 32];
    // SAFETY: room for so many (backtrace(3)).
    let count = unsafe { libc::backtrace(frames.as_mut_ptr(), 32) };
    let count = usize::try_from(count).unwrap_or(0);
    frames[..count].iter().find_map(|at| module_at(at.addr()))
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn caller() -> Option<&'static str> {
    None
}

/// "An internal software error has been detected" (sysexits.h, EX_SOFTWARE).
const STATUS_EXITED: c_int = 70;

/// A signal, and what was done about it before.
struct Signal {
    number: c_int,
    name: &'static [u8],
    before: Before,
}

/// Written once, before the handler can be called for it.
struct Before(std::cell::UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written in `catch`, once and before the handler that reads it is in place.
unsafe impl Sync for Before {}

fn catch(signal: &Signal) -> io::Result<()> {
    // SAFETY: plain data, of which zeros are a value.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = told;
    action.sa_sigaction = handler as libc::sighandler_t;
    // The standard library gives each of its threads a stack of its own for signals: an overflow of the other one ends here too.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: asked for what there is; `before` has room for it, and nobody else has it.
    if unsafe { libc::sigaction(signal.number, ptr::null(), signal.before.0.get().cast()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a handler with the signature that SA_SIGINFO asks for.
    if unsafe { libc::sigaction(signal.number, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The handler.
extern "C" fn told(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let signal = SIGNALS.iter().find(|signal| signal.number == number);
    // A thread that a module started is in nobody's call, but its code is where the module's is.
    let module = current().or_else(|| module_at(instruction(context)));
    // Of several threads that crash the first one is told of.
    if CRASHED.load(Ordering::Relaxed) || module.is_some() && CRASHED.swap(true, Ordering::Relaxed)
    {
        // What is done below ends the process, so not before that line is written.
        wait_for_line();
    } else if let (Some(signal), Some(module)) = (signal, module) {
        // SAFETY: the kernel gives a siginfo_t to a handler with SA_SIGINFO.
        Line::of(signal, module, unsafe { info.as_ref() }).write();
        WRITTEN.store(true, Ordering::Release);
    }
    let default = |number| {
        // SAFETY: the default action needs nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    };
    match signal {
        // What was there before may know of overflows of stacks, as the standard library does.
        Some(signal) if module.is_none() => {
            // SAFETY: filled before this handler was in place, and never written again.
            unsafe { libc::sigaction(number, signal.before.0.get().cast(), ptr::null_mut()) };
        }
        _ => default(number),
    }
    // SAFETY: as above.
    let was_sent = unsafe { info.as_ref() }.is_none_or(is_sent);
    if was_sent {
        // SAFETY: it waits until this handler returns, and then does what it does now.
        unsafe { libc::raise(number) };
    }
    // What an instruction brought about comes again with that instruction, its address as it was.
}

/// By a process, not by an instruction. (sigaction(2), `si_code`)
fn is_sent(info: &libc::siginfo_t) -> bool {
    info.si_code <= 0
}

/// The process that sent it, if it was another one.
fn sender(info: &libc::siginfo_t) -> Option<usize> {
    // SAFETY: of a signal that was sent it has the sender; getpid(2) always succeeds.
    let (sender, ours) = unsafe { (info.si_pid(), libc::getpid()) };
    let is_another = is_sent(info) && sender != ours;
    is_another.then(|| usize::try_from(sender).unwrap_or(0))
}

/// Where the thread was; 0 where nobody knows how to ask.
fn instruction(context: *mut c_void) -> usize {
    // SAFETY: the kernel gives a ucontext_t to a handler with SA_SIGINFO.
    let Some(context) = (unsafe { context.cast::<libc::ucontext_t>().as_ref() }) else {
        return 0;
    };
    #[cfg(target_arch = "x86_64")]
    let address = context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned();
    #[cfg(target_arch = "aarch64")]
    let address = context.uc_mcontext.pc;
    usize::try_from(address).unwrap_or(0)
}

/// At most a second: who writes may have crashed once more.
fn wait_for_line() {
    let pause = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    for _ in 0..1000 {
        if WRITTEN.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: safe in a signal handler (signal-safety(7)); nobody asks what was left of the pause.
        unsafe { libc::nanosleep(&raw const pause, ptr::null_mut()) };
    }
}

/// A line that is made without memory of the heap; what has no room is cut off.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            bytes: [0; 1024],
            len: 0,
        }
    }

    /// What `signal` did while this thread was in `module`.
    fn of(signal: &Signal, module: &str, info: Option<&libc::siginfo_t>) -> Self {
        let mut line = Self::new();
        if let Some(sender) = info.and_then(sender) {
            line.push(b"this process was ended by ");
            line.push(signal.name);
            line.push(b" from process ");
            line.push_number(sender, 10);
            line.push(b" while in ");
            line.push_module(module);
        } else {
            line.push_module(module);
            line.push(b" crashed: ");
            line.push(signal.name);
            if let Some(info) = info.filter(|_| signal.number != libc::SIGABRT) {
                line.push(b" at 0x");
                // SAFETY: of these signals it has an address.
                line.push_number(unsafe { info.si_addr() }.addr(), 16);
            }
        }
        line.push_thread();
        line
    }

    /// `module NAME (FILE)`.
    fn push_module(&mut self, module: &str) {
        self.push(b"module ");
        self.push(module.as_bytes());
        // What has no name yet is called by its file.
        if let Some(file) = file_of(module).filter(|file| *file != module) {
            self.push(b" (");
            self.push(file.as_bytes());
            self.push(b")");
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        // One byte stays for the end of the line.
        let room = self.bytes.len() - 1 - self.len;
        let bytes = &bytes[..bytes.len().min(room)];
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_number(&mut self, number: usize, base: usize) {
        let mut digits = [b'0'; 20];
        let mut rest = number;
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[rest % base];
            rest /= base;
            if rest == 0 || at == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn push_thread(&mut self) {
        self.push(b" on thread ");
        let mut name = [0; 16];
        // SAFETY: writes at most 16 bytes, its end included (prctl(2)).
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let len = name.iter().position(|byte| *byte == 0);
        self.push(&name[..len.unwrap_or(name.len())]);
    }

    fn write(&mut self) {
        self.bytes[self.len] = b'\n';
        if !has_room() {
            return;
        }
        // SAFETY: `len + 1` bytes are there; nobody is left to be told that it failed.
        unsafe {
            libc::write(
                libc::STDERR_FILENO,
                self.bytes.as_ptr().cast(),
                self.len + 1,
            )
        };
    }
}

/// Whether standard error takes a line now: nobody waits for a reader that is stuck, so that the process ends whoever reads.
fn has_room() -> bool {
    let mut stderr = libc::pollfd {
        fd: libc::STDERR_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one descriptor; safe in a signal handler (signal-safety(7)).
    is_ready(|| unsafe { libc::poll(&raw mut stderr, 1, PATIENCE_MS) })
}

/// What `poll` answers, which is asked again where a signal came in between; not for ever, because each time begins with all patience.
fn is_ready(mut poll: impl FnMut() -> c_int) -> bool {
    for _ in 0..TRIES {
        let ready = poll();
        if ready >= 0 {
            return ready > 0;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            break;
        }
    }
    false
}

const TRIES: u32 = 10;

const PATIENCE_MS: c_int = 100;

static CRASHED: AtomicBool = AtomicBool::new(false);

/// Whether its line is.
static WRITTEN: AtomicBool = AtomicBool::new(false);

static SIGNALS: [Signal; 5] = [
    Signal::new(libc::SIGSEGV, b"SIGSEGV"),
    Signal::new(libc::SIGBUS, b"SIGBUS"),
    Signal::new(libc::SIGFPE, b"SIGFPE"),
    Signal::new(libc::SIGILL, b"SIGILL"),
    Signal::new(libc::SIGABRT, b"SIGABRT"),
];

impl Signal {
    const fn new(number: c_int, name: &'static [u8]) -> Self {
        Self {
            number,
            name,
            before: Before(std::cell::UnsafeCell::new(MaybeUninit::uninit())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of these answers of poll(2), negative ones being errors; and how many were asked for.
    fn asked(answers: &[c_int]) -> (bool, usize) {
        let mut asked = 0;
        let ready = is_ready(|| {
            let answer = answers[asked % answers.len()];
            asked += 1;
            if answer < 0 {
                // SAFETY: the calling thread's own.
                unsafe { *libc::__errno_location() = -answer };
                return -1;
            }
            answer
        });
        (ready, asked)
    }

    #[test]
    fn who_was_interrupted_while_he_asked_for_room_asks_again_and_not_for_ever() {
        assert_eq!(asked(&[1]), (true, 1));
        assert_eq!(asked(&[0]), (false, 1));
        assert_eq!(asked(&[-libc::EINTR, -libc::EINTR, 1]), (true, 3));
        assert_eq!(asked(&[-libc::EINVAL, 1]), (false, 1));
        assert_eq!(asked(&[-libc::EINTR]), (false, 10));
    }

    #[test]
    fn a_line_is_cut_where_there_is_no_more_room() {
        let mut line = Line::new();
        line.push(b"at 0x");
        line.push_number(0, 16);
        line.push(b" 0x");
        line.push_number(usize::MAX, 16);
        line.push(b" 0x");
        line.push_number(0xABC0, 16);
        line.push(b" ");
        line.push_number(usize::MAX, 10);
        assert_eq!(
            &line.bytes[..line.len],
            b"at 0x0 0xffffffffffffffff 0xabc0 18446744073709551615"
        );
        line.push(&[b'x'; 2000]);
        assert_eq!(line.len, line.bytes.len() - 1);
    }
}
