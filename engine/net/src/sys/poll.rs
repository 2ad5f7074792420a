//! Sleeping until one of a few descriptors has something, or room for something.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Returns when one of `fds` is readable or in error, a signal came, or `timeout` is over.
///
/// Does not allocate: a sleeping shard is on the packet path too.
///
/// # Errors
/// `InvalidInput` for more than [`FDS_MAX`] descriptors; what poll(2) said, `ENOMEM` at worst.
pub(crate) fn readable(fds: impl IntoIterator<Item = RawFd>, timeout: Duration) -> io::Result<()> {
    let mut set = [waiting_for(-1, libc::POLLIN); FDS_MAX];
    let mut count = 0;
    for fd in fds {
        let Some(slot) = set.get_mut(count) else {
            let error = format!("a wait is for at most {FDS_MAX} descriptors");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        };
        slot.fd = fd;
        count += 1;
    }
    wait(&mut set[..count], timeout)
}

/// Returns when `fd` has room to be written to or is in error, a signal came, or `timeout` is over.
///
/// # Errors
/// What poll(2) said, `ENOMEM` at worst.
pub(crate) fn writable(fd: RawFd, timeout: Duration) -> io::Result<()> {
    wait(&mut [waiting_for(fd, libc::POLLOUT)], timeout)
}

fn wait(set: &mut [libc::pollfd], timeout: Duration) -> io::Result<()> {
    // Rounded up, so that a short wait does not become none.
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
    // SAFETY: "The caller should specify the number of items in the fds array in nfds" (poll(2)): those of the slice.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, millis) };
    if ready >= 0 {
        // Also for an error of a descriptor: whoever uses it hears of it.
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// A negative `fd` waits for nothing: "the corresponding events field is ignored" (poll(2)).
const fn waiting_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// The queues of one shard, its connections and its bell: more listeners than anybody configures.
pub(crate) const FDS_MAX: usize = 66;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;
    use std::time::Instant;

    #[test]
    fn more_descriptors_than_there_is_room_for_are_refused() {
        let refused = readable([-1; FDS_MAX + 1], Duration::ZERO).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert!(readable([-1; FDS_MAX], Duration::ZERO).is_ok());
    }

    #[test]
    fn who_has_room_is_not_waited_for_and_a_short_wait_is_one() {
        let start = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        writable(socket.as_raw_fd(), Duration::from_secs(20)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        let start = Instant::now();
        writable(-1, Duration::from_nanos(1)).unwrap();
        assert!(start.elapsed() >= Duration::from_nanos(1_000_000));
    }
}
