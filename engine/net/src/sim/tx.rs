//! The sending end.

use std::io;
use std::net::SocketAddr;

use super::Network;
use crate::tx::{Sent, Tx, TxBatch};

/// A sender on a [`Network`]. It always has room; what a kernel would refuse, it refuses.
#[derive(Debug)]
pub struct SimTx {
    network: Network,
    from: SocketAddr,
}

impl SimTx {
    pub(super) const fn new(network: Network, from: SocketAddr) -> Self {
        Self { network, from }
    }

    /// Where its datagrams come from.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.from
    }

    /// What a kernel would say to the datagram at once.
    fn check(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), libc::c_int> {
        if to.is_ipv4() != self.from.is_ipv4() {
            Err(libc::EAFNOSUPPORT)
        } else if to.port() == 0 {
            Err(libc::EINVAL)
        } else if bytes.len() > datagram_len_max(to) {
            Err(libc::EMSGSIZE)
        } else {
            Ok(())
        }
    }
}

/// The longest datagram: what is left of a packet's 65 535 bytes behind the headers, of which that of IPv6 does not
/// count (RFC 768, RFC 791, RFC 8200).
const fn datagram_len_max(to: SocketAddr) -> usize {
    const UDP_HEADER_LEN: usize = 8;
    const IPV4_HEADER_LEN: usize = 20;
    let udp_len_max = match to {
        SocketAddr::V4(_) => u16::MAX as usize - IPV4_HEADER_LEN,
        SocketAddr::V6(_) => u16::MAX as usize,
    };
    udp_len_max - UDP_HEADER_LEN
}

impl Tx for SimTx {
    fn send(&mut self, batch: &mut TxBatch) -> Sent {
        let mut sent = Sent::default();
        let mut state = self.network.lock();
        for (to, bytes) in batch.datagrams() {
            match self.check(to, bytes) {
                Ok(()) => {
                    state.send(self.from, to, bytes);
                    sent.sent += 1;
                }
                Err(errno) => {
                    sent.failed += 1;
                    let kind = io::Error::from_raw_os_error(errno).kind();
                    sent.error.get_or_insert(kind);
                }
            }
        }
        state.settle();
        batch.clear();
        sent
    }
}
