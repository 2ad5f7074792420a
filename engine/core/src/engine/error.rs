//! Why an engine did not start, or cannot vouch for its end.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use binrush_net::{AffinityError, RcvbufWarning, UdpError};

use super::{BATCH_MAX, LISTENERS_MAX, READERS_MAX, SHARDS_MAX};
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::{NameReplaced, NoBeginning, RegisterError};
use crate::steering::ProgramError;
use crate::telemetry::snapshot::Snapshot;
use crate::tls::TlsError;

/// Something the user should know, but no reason not to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The receive buffer is smaller than asked for.
    Rcvbuf(RcvbufWarning),
    /// A handler was replaced by a later one of the same name.
    NameReplaced(NameReplaced),
    /// A shard is kept on no core, although one was to be found for it.
    NotPinned(AffinityError),
    /// io_uring was asked for and cannot be used; why.
    NoUring(String),
    /// Something about a certificate.
    Certificate(String),
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
    /// Another process has the port, for connections.
    #[error(
        "cannot accept connections on {addr}: the port is in use\n  \
         `ss -tlpn sport = :{port}` names the process; stop it, or listen on another port",
        port = addr.port()
    )]
    StreamPortInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// A certificate, a key or a list could not be used.
    #[error(transparent)]
    Tls(TlsError),
    /// TLS is asked for, and there is no certificate.
    #[error(
        "cannot listen for TLS without a certificate\n  \
         name one in the configuration: modparam(\"tls_mgm\", \"server_domain\", ...), \"certificate\" and \"private_key\""
    )]
    NoCertificate,
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
    /// A link-local address without its interface.
    #[error(
        "cannot listen on {addr}: a link-local address needs the number of its interface, as in [{ip}%2]:{port}\n  \
         `ip link` lists the numbers",
        ip = addr.ip(),
        port = addr.port()
    )]
    ScopeMissing {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The kernel was built or booted without IPv6.
    #[error("cannot listen on {addr}: this kernel has no IPv6\n  listen on an IPv4 address")]
    NoIpv6 {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The kernel has no room for the programs of this access list.
    #[error(
        "bin:{addr}: {call}: no room for the access list\n  \
         raise it with `sysctl -w net.core.optmem_max=131072`, or join ranges"
    )]
    ProgramTooLarge {
        /// The address it was for.
        addr: SocketAddr,
        /// The system call that said so.
        call: &'static str,
    },
    /// We listen there already, or at an address that covers it.
    #[error(
        "cannot listen on {addr}: this process listens on {ours} already\n  \
         an address cannot be had twice: not in clear and for TLS, and not beside the wildcard address of its port; a \
         restart goes from one to the other"
    )]
    OurOwn {
        /// The address asked for.
        addr: SocketAddr,
        /// What is listened on.
        ours: SocketAddr,
    },
    /// Anything else about the socket.
    #[error("cannot listen on {addr}: {error}")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// The call and what it said.
        error: UdpError,
    },
    /// A batch of a size that cannot work.
    #[error("a batch of {batch} cannot work: 1 to {BATCH_MAX} datagrams")]
    Batch {
        /// Datagrams per receive.
        batch: usize,
    },
    /// A number of shards that cannot work.
    #[error("{shards} shards cannot work: 1 to {SHARDS_MAX}")]
    Shards {
        /// Shards asked for.
        shards: u16,
    },
    /// A number of readers that cannot work.
    #[error(
        "{readers} readers cannot work: at most {READERS_MAX}; one reads what several peers send"
    )]
    Readers {
        /// The number asked for.
        readers: u16,
    },
    /// The sockets that it is to go on with are for another number of shards.
    #[error(
        "cannot go on with the sockets of {addr}: they are for {found} shard{}, and {wanted} are asked for; packets of one \
         record would overtake each other on their way\n  \
         leave `shards` as it was, or stop and start anew",
        if *found == 1 { "" } else { "s" }
    )]
    OtherShards {
        /// Their address.
        addr: SocketAddr,
        /// Shards that they are for.
        found: usize,
        /// Shards asked for.
        wanted: u16,
    },
    /// No address, or too many.
    #[error("cannot listen on {listeners} addresses: 1 to {LISTENERS_MAX}")]
    Listeners {
        /// Addresses asked for.
        listeners: usize,
    },
    /// The access list does not fit into a program for the kernel.
    #[error("cannot listen on {addr}: {error}")]
    Access {
        /// The address asked for.
        addr: SocketAddr,
        /// What does not fit.
        error: ProgramError,
    },
    /// The rings between the shards could not be made.
    #[error("cannot make the rings between the shards: {0}")]
    Mailbox(io::Error),
    /// A queue could not be made of a socket.
    #[error("cannot receive from a socket: {0}")]
    Queue(io::Error),
    /// The shard could not be kept on its core.
    #[error("cannot pin the shard: {0}")]
    Pin(AffinityError),
    /// The frames could not be had.
    #[error(
        "cannot map {frames} frames of 64 KiB: {error}\n  use a smaller batch, fewer listeners or fewer shards, or raise the memory limit"
    )]
    Slab {
        /// Frames asked for.
        frames: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// All packets of a name are to be handled on a shard that there is not.
    #[error(
        "packets named {name:?} are to be handled on {home}, and there is no such shard: there are {owners} that handle any"
    )]
    NoHome {
        /// The name, with other than printable ASCII escaped.
        name: String,
        /// The shard that there is not.
        home: ShardId,
        /// How many there are.
        owners: u16,
    },
    /// What was to be done on a shard's thread before it receives could not be done.
    #[error("{shard} cannot begin: {error}")]
    Beginning {
        /// Whose thread.
        shard: ShardId,
        /// Why, and whose it was.
        error: NoBeginning,
    },
    /// The thread could not be made.
    #[error("cannot start the shard's thread: {0}")]
    Thread(io::Error),
    /// The thread that accepts connections could not be made, or does not take a listener.
    #[error("cannot accept connections: {0}")]
    Acceptor(io::Error),
    /// Sockets of another engine's for which there is no use could not be closed in order.
    #[error("cannot close what is listened on no more: {0}")]
    GivingUp(String),
    /// The thread ended before it could say whether it works.
    #[error("a shard's thread ended at its start; please report this")]
    ThreadEnded,
}

/// The thread of a shard, as it is called: `shard0`, `shard1` of those that own records, `reader0` of those beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardName {
    id: ShardId,
    owners: u16,
}

impl ShardName {
    /// Of shard `id` in an engine with so many `owners`.
    #[must_use]
    pub const fn new(id: ShardId, owners: u16) -> Self {
        Self { id, owners }
    }

    /// Its number among all.
    #[must_use]
    pub const fn id(self) -> ShardId {
        self.id
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id.0.checked_sub(self.owners) {
            Some(reader) => write!(f, "reader{reader}"),
            None => self.id.fmt(f),
        }
    }
}

/// An engine ended, and its final ledger does not tell all.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
#[non_exhaustive]
pub struct StopError {
    /// The ledger as far as it is known: what it counts did happen.
    pub totals: Box<Snapshot>,
    /// What went wrong first.
    pub cause: StopCause,
}

/// Why a final ledger does not tell all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopCause {
    /// A shard ended by itself.
    #[error("{shard} stopped receiving: {error}")]
    Receive {
        /// Which one.
        shard: ShardName,
        /// Why.
        error: io::Error,
    },
    /// A handler panicked; its datagram and those after it are in no counter.
    #[error("a handler panicked on {shard}")]
    Panicked {
        /// Where.
        shard: ShardName,
    },
    /// A shard did not come to an end in time: a handler does not return. Its datagrams are in no counter.
    #[error("{shard} does not end: a handler hangs")]
    Stuck {
        /// Which one.
        shard: ShardName,
    },
    /// Arrivals could not be shut off, or the kernel's counts could not be read.
    #[error("cannot account for the last datagrams: {0}")]
    Kernel(io::Error),
    /// The queue was not empty when the shard left it.
    #[error("datagrams that take {bytes} bytes of kernel memory were queued and not received")]
    LeftInQueue {
        /// Kernel memory they took.
        bytes: u64,
    },
}

/// A shard does not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// Its thread has ended.
    #[error("{shard} has ended by itself")]
    Ended {
        /// Which one.
        shard: ShardName,
    },
    /// The thread that accepts connections has ended.
    #[error("no connections are accepted any more: the thread that does has ended; restart")]
    AcceptorEnded,
    /// Accepting fails at a listener, and is tried again.
    #[error("connections to {addr} cannot be accepted; it is tried again")]
    NotAccepting {
        /// Its address.
        addr: SocketAddr,
    },
    /// It has not gone round its loop for a while: a handler does not return, or nobody lets the thread run.
    #[error("{shard} hangs: a handler does not return, or the thread is not run")]
    Hangs {
        /// Which one.
        shard: ShardName,
    },
}

/// A running engine could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A name could not be registered; nothing has changed.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A new listener could not be had, or the kernel refused the access list; nothing has changed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// As [`Start`](Self::Start), but after something had changed already.
    #[error(transparent)]
    InPart(StartError),
    /// More listeners than there are frames for, or none.
    #[error(
        "1 to {max} listeners while running, those that go counted until the new ones are there; restart for more"
    )]
    Listeners {
        /// How many there can be.
        max: usize,
    },
    /// A shard did not do it in time: it hangs in a handler, or has ended. It will do it when it goes on.
    #[error("{shard} does not answer: a handler hangs, or it has ended")]
    NoAnswer {
        /// Which one.
        shard: ShardName,
    },
    /// A shard could not do it.
    #[error("{shard}: {error}")]
    Shard {
        /// Which one.
        shard: ShardName,
        /// What it met.
        error: io::Error,
    },
    /// The kernel's counts could not be read, or arrivals not be shut off.
    #[error("cannot account for the datagrams of a listener: {0}")]
    Kernel(io::Error),
    /// The thread that accepts connections does not answer.
    #[error("{0}")]
    Acceptor(io::Error),
}

impl ChangeError {
    /// Whether all is as it was before.
    #[must_use]
    pub const fn changed_nothing(&self) -> bool {
        matches!(
            self,
            Self::Register(_) | Self::Start(_) | Self::Listeners { .. }
        )
    }
}

impl StartError {
    pub(super) fn of_call(addr: SocketAddr, call: &'static str, error: io::Error) -> Self {
        Self::of_socket(addr, UdpError { call, error })
    }

    /// What `error` means for who asked to accept connections on `addr`.
    pub(super) fn of_stream(addr: SocketAddr, call: &'static str, error: io::Error) -> Self {
        match Self::of_call(addr, call, error) {
            Self::PortInUse { addr } => Self::StreamPortInUse { addr },
            other => other,
        }
    }

    /// What `error` means for who asked to listen on `addr`.
    pub(super) fn of_socket(addr: SocketAddr, error: UdpError) -> Self {
        match error.error.kind() {
            io::ErrorKind::OutOfMemory if error.call.contains("_ATTACH_") => {
                Self::ProgramTooLarge {
                    addr,
                    call: error.call,
                }
            }
            io::ErrorKind::AddrInUse => Self::PortInUse { addr },
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable { addr },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { addr },
            io::ErrorKind::InvalidInput if lacks_scope(addr) => Self::ScopeMissing { addr },
            _ if addr.is_ipv6() && error.is_unknown_family() => Self::NoIpv6 { addr },
            _ => Self::Socket { addr, error },
        }
    }
}

/// A link-local address is one on every interface, so it means something only together with one (RFC 4007).
fn lacks_scope(addr: SocketAddr) -> bool {
    match addr {
        SocketAddr::V6(addr) => addr.ip().is_unicast_link_local() && addr.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rcvbuf(warning) => warning.fmt(f),
            Self::NameReplaced(warning) => warning.fmt(f),
            Self::NotPinned(error) => write!(f, "a shard is kept on no core: {error}"),
            Self::Certificate(text) => f.write_str(text),
            Self::NoUring(why) => write!(f, "io_uring cannot be used, recvmmsg is: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(addr: &str, call: &'static str, code: i32) -> String {
        let error = io::Error::from_raw_os_error(code);
        StartError::of_socket(addr.parse().unwrap(), UdpError { call, error }).to_string()
    }

    #[test]
    fn each_refusal_of_an_address_says_what_to_do() {
        const EACCES: i32 = 13;
        const EINVAL: i32 = 22;
        const ENFILE: i32 = 23;
        const EAFNOSUPPORT: i32 = 97;
        for (addr, call, code, hint) in [
            ("[fe80::1]:5566", "bind", EINVAL, "as in [fe80::1%2]:5566"),
            ("[::1]:5566", "socket", EAFNOSUPPORT, "listen on an IPv4"),
            ("127.0.0.1:99", "bind", EACCES, "CAP_NET_BIND_SERVICE"),
            ("[fe80::1%2]:5566", "bind", EINVAL, "bind: Invalid argument"),
            ("127.0.0.1:99", "socket", ENFILE, "socket: Too many open"),
        ] {
            let text = text(addr, call, code);
            assert!(text.contains(addr) && text.contains(hint), "{text}");
        }
    }
}
