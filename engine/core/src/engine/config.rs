//! What an engine is told before it starts.

use std::net::SocketAddr;

use binrush_net::allowed_cores;
use binrush_net::sys::nofile;

use super::error::StartError;
use super::{BATCH_MAX, LISTENERS_MAX, READERS_MAX, SHARDS_MAX};
use crate::access::{Access, Cidr};
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
    /// What [steering](crate::steering::Steering::new) begins with, for shards whose records are theirs from one start to the
    /// next; `None` draws one.
    pub seed: Option<u32>,
    /// Threads beside the shards, at most [`READERS_MAX`], to which all connections go: they cut packets
    /// and hand each to the shard that owns its record, and handle those about no record themselves. So a callback that
    /// takes long on one shard holds up neither those nor the other shards, as long as what waits for that shard fits into
    /// [`StreamLimits::memory_per_connection`]. 0: connections go to the shards, which saves a copy and a wakeup for each
    /// packet of their own.
    pub readers: u16,
    /// The cores to keep the shards and readers on.
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
    /// Whose connections are counted apart whoever comes first, besides those that `peers` names one by one: the nodes
    /// of our clusters, and where others may come from. There is an end to it, see
    /// [`PeerRows`](crate::shard::streams::PeerRows).
    pub nodes: Vec<Cidr>,
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
    /// where the kernel does not let it be. Readers get cores that are left; without any, the scheduler moves them
    /// to whichever shard's core is idle.
    #[default]
    Auto,
    /// These, one for each shard and then each reader in turn, or no start.
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
            seed: None,
            readers: 0,
            pin: Pin::Auto,
            backend: Backend::Auto,
            rcvbuf: 4 << 20,
            gro: Gro::Auto,
            batch: 64,
            streams: StreamConfig::default(),
        }
    }
}

impl EngineConfig {
    /// Whether an engine can be started with it, as far as that can be told without asking the kernel.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let Self {
            batch,
            shards,
            readers,
            listen,
            streams,
            ..
        } = self;
        if !(1..=BATCH_MAX).contains(batch) {
            return Err(StartError::Batch { batch: *batch });
        }
        if let Some(shards) = shards
            && !(1..=SHARDS_MAX).contains(shards)
        {
            return Err(StartError::Shards { shards: *shards });
        }
        if *readers > READERS_MAX {
            return Err(StartError::Readers { readers: *readers });
        }
        // An address that takes both is one.
        let alone = streams.listen.iter().filter(|addr| !listen.contains(addr));
        let listeners = listen.len() + alone.count() + streams.listen_tls.len();
        if !(1..=LISTENERS_MAX).contains(&listeners) {
            return Err(StartError::Listeners { listeners });
        }
        let connections: Vec<SocketAddr> = [&streams.listen[..], &streams.listen_tls].concat();
        for listen in [listen, &connections] {
            for (index, addr) in listen.iter().enumerate() {
                // Port 0 is another port each time.
                if addr.port() != 0 && listen[..index].contains(addr) {
                    let (addr, ours) = (*addr, *addr);
                    return Err(StartError::OurOwn { addr, ours });
                }
            }
        }
        Ok(())
    }

    /// Raises the process's limit of descriptors as far as it goes, and lowers
    /// [`connections`](StreamLimits::connections) to what there is room for beside the engine's own sockets, `others`
    /// that the caller has or will open, and some for the rest of the process: else who connects often enough would keep it from reading its own files.
    ///
    /// `Some`: the limit of descriptors, when connections had to be lowered for it.
    pub fn fit_descriptors(&mut self, others: u64) -> Option<u64> {
        let limit = nofile::raise_limit().ok()?;
        let streams = self.streams.addresses().count();
        if streams == 0 {
            return None;
        }
        let shards = match self.shards {
            Some(shards) => u64::from(shards),
            None => allowed_cores().len() as u64,
        };
        let of_shard = DESCRIPTORS_OF_SHARD + 2 * self.listen.len() as u64;
        let readers = u64::from(self.readers) * DESCRIPTORS_OF_SHARD;
        let own = DESCRIPTORS_OF_ENGINE + shards * of_shard + readers + 2 * streams as u64;
        // References to all sockets, for another process: whoever connects must not keep them from being passed on.
        let passed = self.listen.len() as u64 * (shards + 1) + streams as u64;
        let own = own.saturating_add(others).saturating_add(passed);
        let connections = room_for_connections(limit, own);
        let is_too_much = connections < self.streams.limits.connections;
        is_too_much.then(|| {
            self.streams.limits.connections = connections;
            limit
        })
    }
}

/// Of `limit` descriptors, those that are left for connections when the engine has `own`; at least one.
fn room_for_connections(limit: u64, own: u64) -> u32 {
    let kept = DESCRIPTORS_KEPT.min(limit / 4);
    let room = limit.saturating_sub(own).saturating_sub(kept).max(1);
    u32::try_from(room).unwrap_or(u32::MAX)
}

/// Descriptors of an engine whatever it is told, above what was counted: standard streams, threads' wake-ups, timers.
const DESCRIPTORS_OF_ENGINE: u64 = 24;

/// Of each shard: its poller, its bell, its rings, what it sends by.
const DESCRIPTORS_OF_SHARD: u64 = 6;

/// For whatever else the process does: HTTP clients, a configuration and certificates that are read again.
const DESCRIPTORS_KEPT: u64 = 64;

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

impl StreamConfig {
    /// All addresses, and whether each is for TLS.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let clear = self.listen.iter().map(|addr| (*addr, false));
        clear.chain(self.listen_tls.iter().map(|addr| (*addr, true)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_everything_else() {
        assert_eq!(room_for_connections(1024, 40), 1024 - 40 - 64);
        assert_eq!(room_for_connections(u64::MAX, 40), u32::MAX);
        // Of a few, a quarter is kept.
        assert_eq!(room_for_connections(64, 32), 16);
        assert_eq!(room_for_connections(8, 32), 1);
    }

    #[test]
    fn who_accepts_no_connection_needs_no_room_for_them() {
        let mut config = EngineConfig::new(([127, 0, 0, 1], 0).into());
        config.streams.limits.connections = u32::MAX;
        assert_eq!(config.fit_descriptors(0), None);
        assert_eq!(config.streams.limits.connections, u32::MAX);
    }
}
