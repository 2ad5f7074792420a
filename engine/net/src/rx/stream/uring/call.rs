//! Calls on descriptors. While the kernel has a request for a connection, that holds its file: closing the descriptor says
//! nothing to the peer.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};

use crate::tcp::TcpSocket;

/// Whether calls on the socket wait.
///
/// A request to a file that does not block is not kept until something comes, it ends with `EAGAIN` (`REQ_F_NOWAIT`, set by
/// `io_file_get_flags` of io_uring/io_uring.c).
pub(super) fn set_blocking(socket: &TcpSocket, blocking: bool) -> io::Result<()> {
    let nonblocking = libc::c_int::from(!blocking);
    // SAFETY: FIONBIO takes "a pointer to an int" (ioctl(2)), which is read during the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw const nonblocking) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends what the socket buffer takes at once, whether the socket blocks or not.
pub(super) fn send_now(socket: &TcpSocket, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: "The message is found in buf and has length len" (send(2)): those of the slice, which are only read.
    let sent = unsafe {
        let fd = socket.as_raw_fd();
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Ends a connection by RST at once, though its file stays.
pub(super) fn disconnect(socket: &TcpSocket) {
    // SAFETY: an integer and bytes, for which zero is a value.
    let mut nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    nobody.sa_family = libc::sa_family_t::try_from(libc::AF_UNSPEC).expect("it is 0");
    let len = libc::socklen_t::try_from(size_of_val(&nobody)).expect("some bytes");
    // SAFETY: "Some protocol sockets (e.g., TCP sockets [...]) may dissolve the association by connecting to an address with
    // the sa_family member of sockaddr set to AF_UNSPEC" (connect(2)), which for one that is connected sends an RST
    // (`tcp_disconnect` of net/ipv4/tcp.c). The kernel reads the address during the call. One that is over says so.
    unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, len) };
}

/// Whether `fd` is readable, or it is not known.
pub(super) fn is_readable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: "The caller should specify the number of items in the fds array in nfds" (poll(2)): one. It does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) != 0 }
}
