//! A signal that ends the process says whose code it came from.
//!
//! The handler does nothing but what signal-safety(7) allows: it reads this thread's own word and places that never change once they
//! are filled, writes one line to standard error, and lets the signal do what it does by default.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use super::{current, file_of};

/// From now on a crash inside of a module's code is told, in one line on standard error: `module NAME (FILE) crashed: SIGSEGV at
/// 0x0 on thread shard0`. Crashes elsewhere go the way that they went before. Once in the life of a process.
///
/// # Errors
/// What sigaction(2) said.
pub fn tell_of_crashes() -> io::Result<()> {
    static DONE: Once = Once::new();
    let mut result = Ok(());
    DONE.call_once(|| result = SIGNALS.iter().try_for_each(catch));
    result
}

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
extern "C" fn told(number: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let signal = SIGNALS.iter().find(|signal| signal.number == number);
    let module = current();
    // Of several threads that crash the first one is told of.
    if let (Some(signal), Some(module)) = (signal, module)
        && !CRASHED.swap(true, Ordering::Relaxed)
    {
        let mut line = Line::new();
        line.push(b"module ");
        line.push(module.as_bytes());
        if let Some(file) = file_of(module) {
            line.push(b" (");
            line.push(file.as_bytes());
            line.push(b")");
        }
        line.push(b" crashed: ");
        line.push(signal.name);
        if number != libc::SIGABRT && !info.is_null() {
            line.push(b" at 0x");
            // SAFETY: the kernel gives a siginfo_t to a handler with SA_SIGINFO; of these signals it has an address.
            line.push_hex(unsafe { (*info).si_addr() }.addr());
        }
        line.push(b" on thread ");
        let mut name = [0; 16];
        // SAFETY: writes at most 16 bytes, its end included (prctl(2)).
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let len = name.iter().position(|byte| *byte == 0);
        line.push(&name[..len.unwrap_or(name.len())]);
        line.write();
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
    let was_sent = info.is_null() || unsafe { (*info).si_code } <= 0;
    if was_sent {
        // SAFETY: it waits until this handler returns, and then does what it does now.
        unsafe { libc::raise(number) };
    }
    // What an instruction brought about comes again with that instruction, its address as it was.
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

    fn push(&mut self, bytes: &[u8]) {
        // One byte stays for the end of the line.
        let room = self.bytes.len() - 1 - self.len;
        let bytes = &bytes[..bytes.len().min(room)];
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_hex(&mut self, number: usize) {
        let mut digits = [b'0'; 16];
        let mut rest = number;
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
            if rest == 0 || at == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn write(&mut self) {
        self.bytes[self.len] = b'\n';
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

static CRASHED: AtomicBool = AtomicBool::new(false);

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

    #[test]
    fn a_line_is_cut_where_there_is_no_more_room() {
        let mut line = Line::new();
        line.push(b"at 0x");
        line.push_hex(0);
        line.push(b" 0x");
        line.push_hex(usize::MAX);
        line.push(b" 0x");
        line.push_hex(0xABC0);
        assert_eq!(&line.bytes[..line.len], b"at 0x0 0xffffffffffffffff 0xabc0");
        line.push(&[b'x'; 2000]);
        assert_eq!(line.len, line.bytes.len() - 1);
    }
}
