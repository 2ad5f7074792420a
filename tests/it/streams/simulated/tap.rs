//! What was delivered, written down on its way into the shard.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use binrush_net::sim::{SimStream, SimStreams};
use binrush_net::{Close, Slab, StreamBatch, StreamQueue, Token, What};
use binrush_wire::{Generation, Head, MAX_PACKET_LEN, frame_len};

/// What came of one connection, until it was closed.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) bytes: Vec<u8>,
    /// How the peer ended it: in order, or by this errno.
    pub(super) end: Option<Result<(), i32>>,
    pub(super) closed: Option<Close>,
}

/// What came of all connections, by the address of each.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub(super) by_peer: BTreeMap<std::net::SocketAddr, Delivered>,
    pub(super) pauses: usize,
    pub(super) refused: usize,
}

/// The queue of a shard, watched.
#[derive(Debug)]
pub(super) struct Tap {
    queue: SimStreams,
    /// Of the shard's slab.
    frames: usize,
    peers: BTreeMap<Token, std::net::SocketAddr>,
    paused: BTreeMap<Token, bool>,
    deliveries: Arc<Mutex<Deliveries>>,
}

impl Delivered {
    /// The packets that are whole in what came, up to what can be none; and whether there was such.
    pub(super) fn packets(&self) -> (Vec<&[u8]>, bool) {
        let (mut packets, mut rest) = (Vec::new(), &self.bytes[..]);
        loop {
            match frame_len(Generation::Modern, rest, MAX_PACKET_LEN) {
                Head::Complete { len } => {
                    packets.push(&rest[..len]);
                    rest = &rest[len..];
                }
                Head::NeedMore { .. } => return (packets, false),
                Head::Broken(_) => return (packets, true),
            }
        }
    }
}

impl Tap {
    pub(super) fn new(
        queue: SimStreams,
        frames: usize,
        deliveries: &Arc<Mutex<Deliveries>>,
    ) -> Self {
        Self {
            queue,
            frames,
            peers: BTreeMap::new(),
            paused: BTreeMap::new(),
            deliveries: Arc::clone(deliveries),
        }
    }
}

impl StreamQueue for Tap {
    type Socket = SimStream;

    fn add(&mut self, token: Token, socket: SimStream) -> Result<(), (SimStream, io::Error)> {
        let peer = socket.peer_addr();
        let added = self.queue.add(token, socket);
        let mut deliveries = self.deliveries.lock().unwrap();
        if added.is_ok() {
            deliveries.by_peer.insert(peer, Delivered::default());
            let before = self.peers.insert(token, peer);
            assert_eq!(before, None, "the token was free");
            self.paused.insert(token, false);
        } else {
            deliveries.refused += 1;
        }
        added
    }

    fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
        assert!(batch.is_empty(), "the shard hands in a released batch");
        assert_eq!(slab.free(), self.frames, "every frame came back");
        self.queue.recv(slab, batch)?;
        let mut deliveries = self.deliveries.lock().unwrap();
        for arrival in batch.arrivals(slab) {
            let peer = self.peers[&arrival.token];
            let delivered = deliveries.by_peer.get_mut(&peer).expect("it was added");
            match arrival.what {
                What::Bytes(bytes) => delivered.bytes.extend_from_slice(bytes),
                What::End => delivered.end = Some(Ok(())),
                What::Failed(errno) => delivered.end = Some(Err(errno)),
            }
        }
        Ok(())
    }

    fn pause(&mut self, token: Token) {
        let before = self.paused.insert(token, true);
        assert_eq!(before, Some(false), "paused once");
        self.deliveries.lock().unwrap().pauses += 1;
        self.queue.pause(token);
    }

    fn resume(&mut self, token: Token) {
        let before = self.paused.insert(token, false);
        assert_eq!(before, Some(true), "resumed after a pause");
        self.queue.resume(token);
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        self.queue.write(token, bytes)
    }

    fn queued_bytes(&self, token: Token) -> io::Result<u64> {
        self.queue.queued_bytes(token)
    }

    fn close(&mut self, token: Token, how: Close) {
        let peer = self.peers.remove(&token).expect("it is open");
        self.paused.remove(&token);
        let mut deliveries = self.deliveries.lock().unwrap();
        let delivered = deliveries.by_peer.get_mut(&peer).expect("it was added");
        delivered.closed = Some(how);
        self.queue.close(token, how);
    }

    fn disarm(&mut self, slab: &mut Slab) {
        self.queue.disarm(slab);
    }

    fn as_raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn is_ready(&mut self) -> bool {
        self.queue.is_ready()
    }
}
