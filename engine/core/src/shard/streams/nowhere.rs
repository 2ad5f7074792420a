//! No connections at all.

use std::convert::Infallible;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use binrush_net::{Close, Slab, StreamBatch, StreamQueue, Token};
use crossbeam_queue::SegQueue;

use super::{PeerRows, StreamParts};
use crate::stream::{PeerTable, StreamLimits};

/// The queue of a shard that reads datagrams only: nothing ever comes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStreams;

impl NoStreams {
    /// The connections of such a shard.
    #[must_use]
    pub fn parts() -> StreamParts<Self> {
        StreamParts {
            queue: Self,
            incoming: Arc::new(SegQueue::new()),
            batch: 1,
            limits: StreamLimits::default(),
            peers: Arc::default(),
            rows: PeerRows::new(&[], &PeerTable::default()),
        }
    }
}

impl StreamQueue for NoStreams {
    type Socket = Infallible;

    fn add(&mut self, _: Token, socket: Infallible) -> Result<(), (Infallible, io::Error)> {
        match socket {}
    }

    fn recv(&mut self, _: &mut Slab, _: &mut StreamBatch) -> io::Result<()> {
        Ok(())
    }

    fn pause(&mut self, _: Token) {}

    fn resume(&mut self, _: Token) {}

    fn write(&mut self, _: Token, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn queued_bytes(&self, _: Token) -> io::Result<u64> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn close(&mut self, _: Token, _: Close) {}

    fn disarm(&mut self, _: &mut Slab) {}

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn is_ready(&mut self) -> bool {
        false
    }
}
