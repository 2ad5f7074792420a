//! What a run asks of the host.

use serde::Serialize;

/// What a run is going to ask of the host: a knob matters only beside this.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Demand {
    /// Receive buffer of each socket in bytes, as it is asked for with `SO_RCVBUF`; the kernel grants twice that.
    pub rcvbuf: u64,
    /// Receiving sockets, one for each shard; `None`: one for each core that may be used.
    pub sockets: Option<usize>,
    /// Packets per second of all senders.
    pub rate_pps: f64,
    /// Whether the receiver is to use io_uring.
    pub io_uring: bool,
    /// Whether senders hand over trains (`UDP_SEGMENT`) of up to 64 KiB.
    pub trains: bool,
}

impl Default for Demand {
    /// What `binrush serve` and `binrush-bench load` do when they are told nothing else.
    fn default() -> Self {
        Self {
            rcvbuf: 4 << 20,
            sockets: None,
            rate_pps: 50_000.0,
            io_uring: false,
            trains: false,
        }
    }
}
