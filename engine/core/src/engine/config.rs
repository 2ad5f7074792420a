//! What an engine is told before it starts.

use std::net::SocketAddr;

use crate::access::Access;
use crate::stream::{PeerTable, StreamLimits};
use crate::tls::TlsFiles;

/// Where to listen, for whom, and with what.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Addresses to receive 1.x datagrams on; port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Whose datagrams are taken; those of others are dropped in the kernel, and counted.
    pub access: Access,
    /// Shards, each a thread with a socket of its own for every address; `None` is one for each core that the
    /// process may use.
    pub shards: Option<u16>,
    /// The cores to keep the shards on.
    pub pin: Pin,
    /// How datagrams are taken from the kernel.
    pub backend: Backend,
    /// Receive buffer to ask the kernel for, for each socket, in bytes.
    pub rcvbuf: usize,
    /// Whether the kernel may hand over several datagrams of one sender as one.
    pub gro: Gro,
    /// Datagrams (trains of them, where merged) per receive, 1 to 1024.
    pub batch: usize,
    /// BIN over TCP and TLS.
    pub streams: StreamConfig,
}

/// Where to accept connections, and on what terms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamConfig {
    /// Addresses to accept BIN over TCP on. Port 0 takes the port of the datagram listener that asked for the same
    /// address, if there is one, or a free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses to accept BIN over TLS on; port 0 takes a free one.
    pub listen_tls: Vec<SocketAddr>,
    /// How bytes are taken from the kernel.
    pub backend: StreamBackend,
    /// What connections may cost.
    pub limits: StreamLimits,
    /// How the streams of which sender are read.
    pub peers: PeerTable,
    /// Certificates and keys; needed as soon as `listen_tls` is not empty.
    pub tls: Option<TlsFiles>,
}

/// How bytes of connections are taken from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamBackend {
    /// The one that costs less here.
    #[default]
    Auto,
    /// epoll(7) and recv(2).
    Recv,
    /// io_uring(7): multishot receives into provided buffers; `Recv` with a warning where the kernel has none.
    Uring,
}

/// Which cores the shards' threads are kept on. Cores count from 0, as in /proc/cpuinfo.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pin {
    /// The last ones that the process may use: the first ones serve most interrupts. None, with a warning,
    /// where the kernel does not let it be.
    #[default]
    Auto,
    /// These, one for each shard in turn, or no start.
    Cores(Vec<usize>),
    /// None: the scheduler moves the threads as it likes.
    Off,
}

/// How datagrams are taken from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The one that costs less here.
    #[default]
    Auto,
    /// recvmmsg(2).
    RecvMmsg,
    /// io_uring(7); `recvmmsg` with a warning where the kernel has none or forbids it.
    Uring,
}

/// Whether sockets ask for `UDP_GRO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gro {
    /// With one shard, and recvmmsg.
    ///
    /// The kernel steers a merged train by its first datagram. What in it belongs to another shard reaches that
    /// one by mail, and a later datagram of the same record might overtake it. To io_uring the possibility alone
    /// costs 130 ns for each lone datagram, where recvmmsg pays some 10.
    #[default]
    Auto,
    /// Always: for senders that are known not to mix records, or receivers that do not mind.
    On,
    /// Never.
    Off,
}

impl EngineConfig {
    /// `addr` for senders on this host, one shard for each core, 4 MiB of receive buffer for each socket,
    /// batches of 64.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            listen: vec![addr],
            access: Access::loopback(),
            shards: None,
            pin: Pin::Auto,
            backend: Backend::Auto,
            rcvbuf: 4 << 20,
            gro: Gro::Auto,
            batch: 64,
            streams: StreamConfig::default(),
        }
    }
}

impl Backend {
    /// Its name on the command line and in configurations.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::RecvMmsg => "recvmmsg",
            Self::Uring => "io_uring",
        }
    }
}

impl StreamBackend {
    /// Its name on the command line and in configurations.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Recv => "recv",
            Self::Uring => "io_uring",
        }
    }
}

impl Gro {
    /// Whether the sockets of an engine with `shards` shards that receive by `backend` ask for it.
    pub(super) fn wanted(self, shards: u16, backend: Backend) -> bool {
        match self {
            Self::Auto => shards == 1 && backend == Backend::RecvMmsg,
            Self::On => true,
            Self::Off => false,
        }
    }
}
