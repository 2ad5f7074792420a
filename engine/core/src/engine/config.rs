//! What an engine is told before it starts.

use std::net::SocketAddr;

/// Where to listen, and with what.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    /// Address to receive 1.x datagrams on; port 0 lets the kernel choose.
    pub addr: SocketAddr,
    /// Receive buffer to ask the kernel for, in bytes.
    pub rcvbuf: usize,
    /// The core to keep the shard on.
    pub pin: Pin,
    /// Datagrams per receive, 1 to 1024.
    pub batch: usize,
    /// Frames of 64 KiB in the slab, at least `batch`.
    pub frames: usize,
}

/// Which core a shard's thread is kept on. Cores count from 0, as in /proc/cpuinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pin {
    /// The last core that the process may use: the first ones serve most interrupts. None, with a warning,
    /// where the kernel does not let it be.
    #[default]
    Auto,
    /// This one, or no start.
    Core(usize),
    /// None: the scheduler moves the thread as it likes.
    Off,
}

impl ListenConfig {
    /// `addr` with 4 MiB of receive buffer, batches of 64 datagrams, 128 frames, on the last core.
    #[must_use]
    pub const fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            rcvbuf: 4 << 20,
            pin: Pin::Auto,
            batch: 64,
            frames: 128,
        }
    }
}
