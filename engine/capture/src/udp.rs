//! UDP datagrams: each is one frame, or not BIN. (RFC 768.)

use std::net::SocketAddr;

use binrush_wire::{Generation, MARKER};

use crate::event::Transport;
use crate::ip::Ip;
use crate::lru::Lru;
use crate::options::Limits;
use crate::outbox::{Found, Home, Outbox};
use crate::problem::{Place, ProblemKind};

/// The destinations known to carry BIN.
#[derive(Debug)]
pub(crate) struct Udp {
    destinations: Lru<SocketAddr, ()>,
    /// The one used last; traffic comes in runs.
    last: Option<SocketAddr>,
}

impl Udp {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            destinations: Lru::new(limits.udp_destinations),
            last: None,
        }
    }

    /// Takes the datagram that `ip` carries in `bytes`; `false` when its header is broken.
    ///
    /// Without the marker it is BIN only where BIN went before: the decoder then names what is wrong with it.
    #[inline]
    pub(crate) fn datagram(&mut self, ip: &Ip, bytes: &[u8], home: Home, out: &mut Outbox) -> bool {
        let datagram = &bytes[ip.payload.clone()];
        let Some(&[s0, s1, d0, d1, l0, l1, _, _]) = datagram.first_chunk::<HEADER_LEN>() else {
            return false;
        };
        let sent = datagram.len() + ip.missing;
        let len = match usize::from(u16::from_be_bytes([l0, l1])) {
            0 => sent, // jumbogram, or length left to the card
            len => len,
        };
        if len < HEADER_LEN || len > sent {
            return false;
        }
        out.totals.udp_datagrams += 1;
        let payload = &datagram[HEADER_LEN..datagram.len().min(len)];
        let missing = len - HEADER_LEN - payload.len();
        let src = SocketAddr::new(ip.src, u16::from_be_bytes([s0, s1]));
        let dst = SocketAddr::new(ip.dst, u16::from_be_bytes([d0, d1]));
        let marked = payload.starts_with(&MARKER);
        if marked {
            self.remember(dst);
        } else if self.destinations.find(&dst).is_none() {
            out.totals.not_bin_datagrams += 1;
            return true;
        }
        if missing > 0 {
            let have = payload.len();
            let need = have + missing;
            out.problem(
                Place::Datagram { src, dst },
                ProblemKind::Truncated { need, have },
            );
            return true;
        }
        let begin = ip.payload.start + HEADER_LEN;
        out.frame(Found {
            home,
            range: begin..begin + payload.len(),
            src,
            dst,
            transport: Transport::Udp,
            generation: Generation::Legacy,
        });
        true
    }

    #[inline]
    fn remember(&mut self, dst: SocketAddr) {
        if self.last == Some(dst) {
            return;
        }
        self.last = Some(dst);
        match self.destinations.find(&dst) {
            Some(slot) => self.destinations.touch(slot),
            None => {
                self.destinations.insert(dst, ());
            }
        }
    }
}

const HEADER_LEN: usize = 8;
