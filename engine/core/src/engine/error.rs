//! Why an engine did not start, or cannot vouch for its end.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use binrush_net::{AffinityError, RcvbufWarning, UdpError};

use super::BATCH_MAX;
use crate::dispatch::registry::NameReplaced;

/// Something the user should know, but no reason not to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The receive buffer is smaller than asked for.
    Rcvbuf(RcvbufWarning),
    /// A handler was replaced by a later one of the same name.
    NameReplaced(NameReplaced),
}

/// Why an engine could not start. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process has the port.
    #[error(
        "cannot listen on {addr}: the port is in use\n  \
         `ss -ulpn sport = :{port}` names the process; stop it, or listen on another port",
        port = addr.port()
    )]
    PortInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// No interface has the address.
    #[error(
        "cannot listen on {addr}: no interface has this address\n  \
         `ip -brief addr` lists those that can be used"
    )]
    AddressNotAvailable {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The port is reserved.
    #[error(
        "cannot listen on {addr}: not permitted\n  \
         ports below `sysctl net.ipv4.ip_unprivileged_port_start` need CAP_NET_BIND_SERVICE; or take a higher one"
    )]
    NotPermitted {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Anything else about the socket.
    #[error("cannot listen on {addr}: {error}")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// The call and what it said.
        error: UdpError,
    },
    /// The batch or the slab has a size that cannot work.
    #[error(
        "a batch of {batch} with {frames} frames cannot work: 1 to {BATCH_MAX} datagrams, and a frame for each"
    )]
    Sizes {
        /// Datagrams per receive.
        batch: usize,
        /// Frames in the slab.
        frames: usize,
    },
    /// The shard could not be kept on its core.
    #[error("cannot pin the shard: {0}")]
    Pin(AffinityError),
    /// The frames could not be had.
    #[error(
        "cannot map {frames} frames of 64 KiB: {error}\n  use fewer frames, or raise the memory limit"
    )]
    Slab {
        /// Frames asked for.
        frames: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// The thread could not be made.
    #[error("cannot start the shard's thread: {0}")]
    Thread(io::Error),
}

/// Why the final ledger of an engine is not to be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The shard ended by itself.
    #[error("the shard stopped receiving: {0}")]
    Receive(io::Error),
    /// A handler panicked; its datagram and those after it are in no counter.
    #[error("a handler panicked")]
    Panicked,
    /// Arrivals could not be shut off, or the kernel's count could not be read.
    #[error("cannot account for the last datagrams: {0}")]
    Kernel(io::Error),
}

impl StartError {
    /// What `error` means for who asked to listen on `addr`.
    pub(super) fn of_socket(addr: SocketAddr, error: UdpError) -> Self {
        match error.error.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { addr },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { addr },
            _ => Self::Socket { addr, error },
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rcvbuf(warning) => warning.fmt(f),
            Self::NameReplaced(warning) => warning.fmt(f),
        }
    }
}
