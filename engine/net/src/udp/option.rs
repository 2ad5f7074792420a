//! Options of a socket that the standard library does not know.

use std::io;
use std::net;

use crate::bpf::Instruction;
use crate::sys::sockopt::{get_int, set};

/// Which socket option takes the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hook {
    /// Asked for each arriving datagram (or train): how much of it to keep.
    Filter,
    /// Asked for each arriving datagram (or train) of a group: which socket gets it.
    Steering,
}

/// Attaches a program, in place of the one that was there.
pub(super) fn attach(
    socket: &net::UdpSocket,
    hook: Hook,
    program: &[Instruction],
) -> io::Result<()> {
    let name = match hook {
        Hook::Filter => libc::SO_ATTACH_FILTER,
        Hook::Steering => libc::SO_ATTACH_REUSEPORT_CBPF,
    };
    let mut instructions: Vec<libc::sock_filter> = program
        .iter()
        .map(|&Instruction { code, jt, jf, k }| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).expect("a program has at most 4096 instructions"),
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: "The argument for SO_ATTACH_FILTER is a sock_fprog structure", and SO_ATTACH_REUSEPORT_CBPF takes
    // "the same argument type" (socket(7)). The kernel copies `len` instructions from `filter` during the
    // call; `instructions` has as many and lives until its end.
    unsafe { set(socket, libc::SOL_SOCKET, name, &program) }
}

/// Half of what the kernel answers, that is in the unit it is asked in.
pub(super) fn rcvbuf(socket: &net::UdpSocket) -> io::Result<usize> {
    let value = get_int(socket, libc::SOL_SOCKET, libc::SO_RCVBUF)?;
    Ok(usize::try_from(value).unwrap_or(0) / 2)
}
