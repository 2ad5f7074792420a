//! The receiving end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use super::Network;
use super::state::{Parcel, nanos};
use crate::batch::Batch;
use crate::bell::Bell;
use crate::rx::{QUEUED_LEN_MIN, RxQueue};
use crate::slab::Slab;

/// A receiver on a [`Network`]. When it goes, what it has not received is abandoned; when the last one of its
/// address goes, the address is free.
#[derive(Debug)]
pub struct SimQueue {
    network: Network,
    addr: SocketAddr,
    index: usize,
    /// Datagrams say where they came from.
    tells_sources: bool,
}

impl SimQueue {
    pub(super) const fn new(network: Network, addr: SocketAddr, index: usize) -> Self {
        Self {
            network,
            addr,
            index,
            tells_sources: false,
        }
    }

    /// How many datagrams the queue holds from now on; those in it stay.
    pub fn set_capacity(&mut self, datagrams: usize) {
        let mut state = self.network.lock();
        state.member_mut(self.addr, self.index).capacity = datagrams;
    }

    /// From now on everything that arrives is dropped and counted; what is queued can still be received. As
    /// [`UdpSocket::drop_all`](crate::UdpSocket::drop_all).
    pub fn shut(&self) {
        let mut state = self.network.lock();
        state.member_mut(self.addr, self.index).shut = true;
    }

    /// Datagrams that arrived and were dropped, because the queue was full or shut.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.network.lock().member(self.addr, self.index).drops
    }

    /// Where it receives.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn has_datagrams(&self) -> bool {
        let state = self.network.lock();
        !state.member(self.addr, self.index).queue.is_empty()
    }
}

impl RxQueue for SimQueue {
    fn recv(&mut self, slab: &mut Slab, batch: &mut Batch) -> io::Result<()> {
        debug_assert!(batch.is_empty(), "hand in a released batch");
        let mut state = self.network.lock();
        let queue = &state.member(self.addr, self.index).queue;
        let count = queue.len().min(batch.room()).min(slab.free());
        if count == 0 && !queue.is_empty() && batch.room() > 0 {
            let error = "the slab has no free frame";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, error));
        }
        for _ in 0..count {
            let (Some(frame), Some(parcel)) = (slab.take(), state.receive(self.addr, self.index))
            else {
                unreachable!("`count` is of both");
            };
            let len = parcel.bytes.len().min(slab.frame_len());
            slab.frame_mut(&frame)[..len].copy_from_slice(&parcel.bytes[..len]);
            let truncated = parcel.truncated || len < parcel.bytes.len();
            batch.push(
                frame,
                u32::try_from(len).expect("frames are of 64 KiB"),
                truncated,
            );
            if self.tells_sources {
                batch.came_from(Some(parcel.from));
            }
        }
        Ok(())
    }

    /// Memory that a kernel would need at least.
    fn queued_bytes(&self) -> io::Result<u64> {
        let state = self.network.lock();
        let queue = &state.member(self.addr, self.index).queue;
        let bytes = |parcel: &Parcel| QUEUED_LEN_MIN + parcel.bytes.len() as u64;
        Ok(queue.iter().map(bytes).sum())
    }

    fn ask_sources(&mut self) {
        self.tells_sources = true;
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.addr)
    }

    /// Nothing to give back: it takes frames when it has something for them.
    fn disarm(&mut self, _slab: &mut Slab) {}

    /// Moves the network's clock: to the next arrival at any receiver of it, or by `timeout` when none comes before.
    /// Where something is queued already, no time passes.
    ///
    /// Returns at once, so nobody has to be woken: neither the bell nor the descriptor is looked at.
    fn wait(
        queues: &mut [Self],
        _also: Option<RawFd>,
        _bell: &Bell,
        timeout: Duration,
    ) -> io::Result<()> {
        let Some(first) = queues.first() else {
            return Ok(());
        };
        if queues.iter().any(Self::has_datagrams) {
            return Ok(());
        }
        let mut state = first.network.lock();
        let then = state.now().saturating_add(nanos(timeout));
        let then = state.next_arrival().map_or(then, |at| at.min(then));
        state.advance_to(then);
        Ok(())
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        // Also while a panic is on its way, of a steering function say: one is enough.
        if let Ok(mut state) = self.network.state.lock() {
            state.close(self.addr, self.index);
        }
    }
}
