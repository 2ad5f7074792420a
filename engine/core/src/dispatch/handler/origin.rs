//! What a packet came by, from where to where.

use std::net::{IpAddr, SocketAddr};

use binrush_wire::{Generation, Release};

/// What a packet came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A datagram, of a 1.x node. Where it came from is known only if somebody
    /// [asked](crate::Registry::ask_sources): the kernel has to tell it of each.
    Datagram(Option<Ends>),
    /// A connection.
    Stream {
        /// Its two sides.
        ends: Ends,
        /// How the configuration says that it frames its packets.
        generation: Generation,
        /// Its release, where the configuration tells it.
        release: Option<Release>,
    },
    /// Nothing: it is a message of this process ([`Handler::tell`](super::Handler::tell)).
    Process,
}

/// Where a packet came from, and where it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The other side's address and port, an IPv4 address as such.
    pub peer: SocketAddr,
    /// Ours, likewise. Of a datagram what the listener is bound to, so unspecified where that takes those of all addresses of
    /// the host. `None`: nobody knows.
    pub local: Option<SocketAddr>,
}

impl Origin {
    /// How its packets are framed.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> Generation {
        match self {
            Self::Datagram(_) => Generation::Legacy,
            Self::Stream { generation, .. } => *generation,
            Self::Process => Generation::Modern,
        }
    }

    /// Where it came from and where it arrived, as far as that is known.
    #[inline]
    #[must_use]
    pub const fn ends(&self) -> Option<&Ends> {
        match self {
            Self::Datagram(ends) => ends.as_ref(),
            Self::Stream { ends, .. } => Some(ends),
            Self::Process => None,
        }
    }
}

impl Ends {
    /// Of the addresses as a socket tells them: IPv4 inside IPv6 becomes IPv4.
    #[must_use]
    pub fn new(peer: SocketAddr, local: Option<SocketAddr>) -> Self {
        Self {
            peer: canonical(peer),
            local: local.map(canonical),
        }
    }
}

/// An IPv4 address as such, also one inside IPv6; what is none keeps its scope.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}
