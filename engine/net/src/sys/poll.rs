//! Sleeping until one of a few descriptors has something.

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
    const NOBODY: libc::pollfd = libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut set = [NOBODY; FDS_MAX];
    let mut count = 0;
    for fd in fds {
        let Some(slot) = set.get_mut(count) else {
            let error = format!("a wait is for at most {FDS_MAX} descriptors");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        };
        slot.fd = fd;
        count += 1;
    }
    // Rounded up, so that a short wait does not become none.
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
    // SAFETY: "The caller should specify the number of items in the fds array in nfds" (poll(2)): `count` of the
    // array on this stack frame, which the loop above kept within it.
    let ready = unsafe { libc::poll(set.as_mut_ptr(), count as libc::nfds_t, millis) };
    if ready >= 0 {
        // Also for an error of a descriptor: whoever uses it hears of it.
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// The queues of one shard and its bell: more listeners than anybody configures.
pub(crate) const FDS_MAX: usize = 65;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_descriptors_than_there_is_room_for_are_refused() {
        let refused = readable([-1; FDS_MAX + 1], Duration::ZERO).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert!(readable([-1; FDS_MAX], Duration::ZERO).is_ok());
    }
}
