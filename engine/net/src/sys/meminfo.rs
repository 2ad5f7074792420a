//! What the kernel counted at a socket.
//!
//! `SO_MEMINFO` is the one exact count: `SO_RXQ_OVFL` comes with the next datagram, so it misses what is
//! dropped after the last one.

use std::io;
use std::os::fd::AsRawFd;

/// The words of `SO_MEMINFO` that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemInfo {
    /// `SK_MEMINFO_RMEM_ALLOC`: bytes that queued datagrams take. Given back at the latest when the queue was
    /// found empty. Charged before a datagram can be received; but since Linux 6.18 not before it is on its way:
    /// processors leave datagrams in a list that one of them, charging, moves into the queue
    /// (`__udp_enqueue_schedule_skb` of `net/ipv4/udp.c`).
    pub(crate) rmem_alloc: u32,
    /// `SK_MEMINFO_DROPS`: datagrams dropped since the socket was opened, modulo 2^32.
    pub(crate) drops: u32,
}

/// Reads `SO_MEMINFO` of a socket.
///
/// # Errors
/// What getsockopt(2) said; kernels before 4.12 do not know the option.
pub(crate) fn read(socket: &impl AsRawFd) -> io::Result<MemInfo> {
    let mut words = [0_u32; MEMINFO_WORDS];
    let mut len = libc::socklen_t::try_from(size_of_val(&words)).expect("36 bytes");
    // SAFETY: SO_MEMINFO fills an array of u32, as many as `optlen` has room for: "The optval and optlen
    // arguments ... identify a buffer in which the value for the requested option(s) are to be returned"
    // (getsockopt(2)); `words` is that buffer and `len` its size.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(MemInfo {
        rmem_alloc: words[SK_MEMINFO_RMEM_ALLOC],
        drops: words[SK_MEMINFO_DROPS],
    })
}

/// Makes one growing total of readings that wrap at 2^32.
///
/// Exact as long as fewer than 2^32 drops lie between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCounter {
    last: u32,
    total: u64,
}

impl DropCounter {
    /// For a socket whose drops up to `reading` were counted by somebody else.
    #[must_use]
    pub const fn after(reading: u32) -> Self {
        Self {
            last: reading,
            total: 0,
        }
    }

    /// Takes a reading of [`UdpSocket::drops`](crate::UdpSocket::drops) and returns the total so far.
    pub fn advance(&mut self, reading: u32) -> u64 {
        self.total += u64::from(reading.wrapping_sub(self.last));
        self.last = reading;
        self.total
    }

    /// The last reading, from which somebody else may go [on](Self::after).
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// The total at the last reading.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

/// `SK_MEMINFO_VARS` and two of the indices, of `include/uapi/linux/sock_diag.h`.
const MEMINFO_WORDS: usize = 9;
const SK_MEMINFO_RMEM_ALLOC: usize = 0;
const SK_MEMINFO_DROPS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_reading_still_counts_forward() {
        let mut counter = DropCounter::default();
        assert_eq!(counter.advance(u32::MAX - 1), u64::from(u32::MAX) - 1);
        assert_eq!(counter.advance(3), u64::from(u32::MAX) + 4);
        assert_eq!(counter.advance(3), counter.total());
    }

    #[test]
    fn what_somebody_else_counted_is_not_counted_again() {
        let mut counter = DropCounter::after(u32::MAX);
        assert_eq!(counter.total(), 0);
        assert_eq!(counter.advance(4), 5);
        assert_eq!(counter.last(), 4);
    }

    #[test]
    fn a_fresh_socket_has_dropped_nothing_and_holds_nothing() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let nothing = MemInfo {
            rmem_alloc: 0,
            drops: 0,
        };
        assert_eq!(read(&socket).unwrap(), nothing);
    }
}
