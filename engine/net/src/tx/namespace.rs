//! A network that a test has for itself: slow or narrow ways, which the loopback of the machine is not.

use std::io;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;

use crate::loopback::skip;
use crate::sys::sockopt::set_int;

/// Runs `test` in a network namespace of its own, on a thread of its own, when `ip` and `tc` have run each of
/// `commands` there. Otherwise says what is missing, in the name of the test that called.
pub(super) fn within(commands: &[&str], test: impl FnOnce() + Send) {
    let prepared = thread::scope(|scope| {
        let inside = || {
            enter()?;
            commands.iter().try_for_each(|command| run(command))?;
            test();
            Ok(())
        };
        let thread = scope.spawn(inside);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Err(missing) = prepared {
        let missing: String = missing;
        skip(&missing);
    }
}

/// The calling thread alone, and what it starts, sees the new namespace; it goes when the thread and its sockets do.
fn enter() -> Result<(), String> {
    // SAFETY: takes an integer and no memory. (unshare(2))
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if done == 0 {
        return Ok(());
    }
    Err(format!(
        "no network namespace: {}",
        io::Error::last_os_error()
    ))
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    match Command::new(program).args(words).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            Err(format!("`{command}`: {}", said.trim()))
        }
        Err(error) => Err(format!("`{command}`: {error}")),
    }
}

/// Gives `socket` a send buffer of about `len` bytes, or as few as the kernel lets it have.
pub(super) fn set_sndbuf(socket: &UdpSocket, len: libc::c_int) {
    set_int(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, len).unwrap();
}

/// Lets `socket` send without a UDP checksum, which makes the kernel refuse trains.
pub(super) fn set_no_check(socket: &UdpSocket) {
    set_int(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
}
