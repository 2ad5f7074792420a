//! What every backend has to do, written once. `conformance!(Backend)` makes a test of each for one of them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as Peer};
use std::os::fd::AsRawFd as _;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::bell::Bell;
use crate::loopback::{self, V4};
use crate::rx::{OpenQueue, QUEUED_LEN_MIN, RxQueue};
use crate::slab::Slab;
use crate::udp::{UdpOptions, UdpSocket};

/// One `#[test]` per behaviour, for one backend.
macro_rules! conformance {
    ($backend:ty) => {
        $crate::rx::conformance::conformance!($backend:
            datagrams_come_in_order_over_many_batches_and_every_frame_comes_back
            an_empty_datagram_is_a_datagram
            the_largest_datagram_fits_into_a_frame
            what_does_not_fit_is_marked_and_the_next_one_is_whole
            a_slab_without_a_free_frame_is_an_error_and_heals
            a_receive_never_waits_and_a_wait_ends_when_something_comes
            a_wait_is_for_all_queues_the_bell_and_one_more
            a_queue_refuses_a_second_slab
            a_disarmed_queue_holds_no_frame_and_receives_again
            slots_out_of_range_are_refused
            a_burst_larger_than_all_slots_comes_whole_and_ends_with_an_empty_batch
            trains_are_cut_into_the_datagrams_that_were_sent
            trains_and_datagrams_mixed_keep_their_order
            a_train_that_does_not_fit_is_cut_as_far_as_it_is_there
            a_socket_without_gro_gets_the_datagrams_of_a_train_one_by_one
            an_error_about_something_sent_is_not_the_end
            a_queue_that_is_dropped_leaves_the_rest_to_the_next_one
            sources_are_told_where_they_were_asked_for_and_of_whole_trains
        );
    };
    ($backend:ty: $($behaviour:ident)+) => {
        $(
            #[test]
            fn $behaviour() {
                $crate::rx::conformance::$behaviour::<$backend>();
            }
        )+
    };
}
pub(crate) use conformance;

/// A socket, and somebody who sends to it.
pub(crate) struct Source {
    socket: Arc<UdpSocket>,
    peer: Peer,
    to: SocketAddr,
}

/// Queue, slab and batch of one reader.
pub(crate) struct Receiver<Q> {
    pub(crate) queue: Q,
    pub(crate) slab: Slab,
    pub(crate) batch: Batch,
}

impl Source {
    fn new(listen: IpAddr, options: &UdpOptions) -> Self {
        let free = SocketAddr::new(listen, 0);
        let socket = UdpSocket::bind(free, options).unwrap();
        let to = socket.local_addr().unwrap();
        let peer = Peer::bind(free).unwrap();
        peer.connect(to).unwrap();
        Self {
            socket: Arc::new(socket),
            peer,
            to,
        }
    }

    /// Datagrams come one by one.
    pub(crate) fn plain() -> Self {
        Self::new(V4, &UdpOptions::default())
    }

    /// Datagrams may come as trains.
    pub(crate) fn trains() -> Self {
        let options = UdpOptions {
            rcvbuf: Some(4 << 20),
            gro: true,
        };
        Self::new(V4, &options)
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        assert_eq!(self.peer.send(bytes).unwrap(), bytes.len());
    }

    pub(crate) fn send_train(&self, bytes: &[u8], segment_len: u16) {
        let sender = loopback::train_sender(self.to, segment_len);
        assert_eq!(sender.send(bytes).unwrap(), bytes.len());
    }

    /// `None` where the kernel has no such backend, which is said.
    pub(crate) fn receiver<Q: OpenQueue>(&self, slots: usize) -> Option<Receiver<Q>> {
        let slab = Slab::new(2 * slots).unwrap();
        self.receiver_with(slots, slab, Batch::new(slots))
    }

    fn receiver_with<Q: OpenQueue>(
        &self,
        slots: usize,
        slab: Slab,
        batch: Batch,
    ) -> Option<Receiver<Q>> {
        match Q::open(Arc::clone(&self.socket), slots) {
            Ok(queue) => Some(Receiver { queue, slab, batch }),
            Err(error) => {
                loopback::skip(&format!("{}: {error}", std::any::type_name::<Q>()));
                None
            }
        }
    }
}

impl<Q: RxQueue> Receiver<Q> {
    /// One receive; what it brought stays in the batch.
    pub(crate) fn receive_raw(&mut self) {
        self.queue.recv(&mut self.slab, &mut self.batch).unwrap();
    }

    /// One receive: bytes, and whether they are all.
    fn receive(&mut self) -> Vec<(Vec<u8>, bool)> {
        self.receive_raw();
        let seen = self.batch.datagrams(&self.slab);
        let seen = seen
            .map(|datagram| (datagram.bytes.to_vec(), !datagram.truncated))
            .collect();
        self.batch.release(&mut self.slab);
        seen
    }

    /// Receives until nothing is there: how long each datagram was, and where it came from.
    fn receive_sources(&mut self) -> Vec<(usize, Option<SocketAddr>)> {
        let mut all = Vec::new();
        loop {
            self.receive_raw();
            if self.batch.is_empty() {
                return all;
            }
            let seen = self.batch.datagrams(&self.slab);
            all.extend(seen.map(|datagram| (datagram.bytes.len(), datagram.source.copied())));
            self.batch.release(&mut self.slab);
        }
    }

    /// Receives until nothing is there. On loopback what was sent is queued when `send` returns, so this is all.
    pub(crate) fn receive_all(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let seen = self.receive();
            if seen.is_empty() {
                return all;
            }
            all.extend(seen.into_iter().map(|(bytes, whole)| {
                assert!(whole);
                bytes
            }));
        }
    }
}

pub(crate) fn datagrams_come_in_order_over_many_batches_and_every_frame_comes_back<Q: OpenQueue>() {
    for listen in loopback::addresses() {
        let source = Source::new(listen, &UdpOptions::default());
        let slab = Slab::new(7).unwrap();
        let Some(mut receiver) = source.receiver_with::<Q>(5, slab, Batch::new(4)) else {
            return;
        };
        for round in 0_u16..40 {
            // Bursts of every size from one to more than batch, slots and slab hold.
            let sent: Vec<Vec<u8>> = (0..=round % 9)
                .map(|n| [round.to_le_bytes(), n.to_le_bytes()].concat())
                .collect();
            sent.iter().for_each(|bytes| source.send(bytes));
            assert_eq!(receiver.receive_all(), sent);
        }
        // What it holds between calls comes back to nobody, the rest is all there.
        assert!(receiver.slab.free() >= 7 - 5);
        assert!(receiver.receive().is_empty());
    }
}

pub(crate) fn an_empty_datagram_is_a_datagram<Q: OpenQueue>() {
    for source in [Source::plain(), Source::trains()] {
        let Some(mut receiver) = source.receiver::<Q>(4) else {
            return;
        };
        source.send(b"");
        source.send(b"x");
        source.send(b"");
        assert_eq!(receiver.receive_all(), [&b""[..], b"x", b""]);
    }
}

pub(crate) fn the_largest_datagram_fits_into_a_frame<Q: OpenQueue>() {
    for source in [Source::plain(), Source::trains()] {
        let Some(mut receiver) = source.receiver::<Q>(1) else {
            return;
        };
        let largest = vec![0xA5; 65_507];
        source.send(&largest);
        assert!(receiver.receive_all() == [largest]);
    }
}

pub(crate) fn what_does_not_fit_is_marked_and_the_next_one_is_whole<Q: OpenQueue>() {
    for source in [Source::plain(), Source::trains()] {
        let slab = Slab::with_frame_len(4, 100).unwrap();
        let Some(mut receiver) = source.receiver_with::<Q>(4, slab, Batch::new(4)) else {
            return;
        };
        for len in [100, 101, 8] {
            source.send(&vec![7; len]);
        }
        let seen: Vec<_> = std::iter::from_fn(|| Some(receiver.receive()))
            .take_while(|seen| !seen.is_empty())
            .flatten()
            .map(|(bytes, whole)| (bytes.len(), whole))
            .collect();
        assert_eq!(seen, [(100, true), (100, false), (8, true)]);
    }
}

pub(crate) fn a_slab_without_a_free_frame_is_an_error_and_heals<Q: OpenQueue>() {
    let source = Source::plain();
    let slab = Slab::new(1).unwrap();
    let Some(mut receiver) = source.receiver_with::<Q>(1, slab, Batch::new(1)) else {
        return;
    };
    let held = receiver.slab.take().unwrap();
    source.send(b"later");
    let Receiver { queue, slab, batch } = &mut receiver;
    let error = queue.recv(slab, batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    slab.release(held);
    assert_eq!(receiver.receive_all(), [b"later"]);
}

pub(crate) fn a_receive_never_waits_and_a_wait_ends_when_something_comes<Q: OpenQueue>() {
    let source = Source::plain();
    let Some(mut receiver) = source.receiver::<Q>(1) else {
        return;
    };
    let bell = Bell::new().unwrap();
    assert!(receiver.receive().is_empty());
    let start = Instant::now();
    let queues = slice::from_mut(&mut receiver.queue);
    Q::wait(queues, None, &bell, Duration::from_millis(20)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(receiver.queue.queued_bytes().unwrap(), 0);

    source.send(b"now");
    woken(slice::from_mut(&mut receiver.queue), &bell);
    assert!(receiver.queue.queued_bytes().unwrap() >= QUEUED_LEN_MIN);
    assert_eq!(receiver.receive_all(), [b"now"]);
    assert_eq!(receiver.queue.queued_bytes().unwrap(), 0);
}

pub(crate) fn a_wait_is_for_all_queues_the_bell_and_one_more<Q: OpenQueue>() {
    let sources = [Source::plain(), Source::plain(), Source::plain()];
    let mut queues = Vec::new();
    for source in &sources {
        let Some(receiver) = source.receiver::<Q>(1) else {
            return;
        };
        queues.push(receiver);
    }
    let (mut queues, mut memory): (Vec<Q>, Vec<(Slab, Batch)>) = queues
        .into_iter()
        .map(|receiver| (receiver.queue, (receiver.slab, receiver.batch)))
        .unzip();
    let bell = Bell::new().unwrap();
    for (at, source) in sources.iter().enumerate() {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                source.send(b"here");
            });
            woken(&mut queues, &bell);
        });
        let (slab, batch) = &mut memory[at];
        queues[at].recv(slab, batch).unwrap();
        assert_eq!(batch.len(), 1);
        batch.release(slab);
    }
    bell.arm();
    thread::scope(|scope| {
        scope.spawn(|| bell.ring_if_armed());
        woken(&mut queues, &bell);
    });
    bell.disarm();
    // Anything that becomes readable is good for the other descriptor.
    let other = Bell::new().unwrap();
    other.ring();
    let start = Instant::now();
    Q::wait(&mut queues, Some(other.as_raw_fd()), &bell, FOREVER).unwrap();
    assert!(start.elapsed() < FOREVER, "slept through");
    // No queue, only the bell.
    bell.ring();
    woken::<Q>(&mut [], &bell);
}

pub(crate) fn a_queue_refuses_a_second_slab<Q: OpenQueue>() {
    let source = Source::plain();
    let Some(mut receiver) = source.receiver::<Q>(1) else {
        return;
    };
    receiver.receive_raw();
    receiver.slab = Slab::new(2).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| receiver.receive_raw()));
    let message = *refused.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("a queue stays with its slab"), "{message}");
}

pub(crate) fn a_disarmed_queue_holds_no_frame_and_receives_again<Q: OpenQueue>() {
    for source in [Source::plain(), Source::trains()] {
        let Some(mut receiver) = source.receiver::<Q>(4) else {
            return;
        };
        for number in [1, 2] {
            source.send(&[number]);
            source.send_train(&[number; 30], 20);
            let seen = receiver.receive_all();
            assert_eq!(seen, [vec![number], vec![number; 20], vec![number; 10]]);
            receiver.queue.disarm(&mut receiver.slab);
            assert_eq!(receiver.slab.free(), 8);
            // Nobody writes to a frame that was given back.
            let frame = receiver.slab.take().unwrap();
            receiver.slab.frame_mut(&frame).fill(0xEE);
            source.send(&[number]);
            assert_eq!(receiver.receive_all(), [[number]]);
            let kept = receiver.slab.frame(&frame).iter().all(|byte| *byte == 0xEE);
            assert!(kept);
            receiver.slab.release(frame);
        }
    }
}

pub(crate) fn slots_out_of_range_are_refused<Q: OpenQueue>() {
    let source = Source::plain();
    for slots in [0, 1025] {
        let Err(error) = Q::open(Arc::clone(&source.socket), slots) else {
            panic!("{slots} slots");
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("1 to 1024"), "{error}");
    }
}

pub(crate) fn a_burst_larger_than_all_slots_comes_whole_and_ends_with_an_empty_batch<
    Q: OpenQueue,
>() {
    let source = Source::trains();
    let Some(mut receiver) = source.receiver::<Q>(16) else {
        return;
    };
    // Not more than fits into the smallest buffer that is usual, 208 KiB as it is asked for.
    for burst in [1_u32, 15, 16, 17, 200, 1, 64, 250] {
        let sent: Vec<Vec<u8>> = (0..burst).map(|n| n.to_le_bytes().repeat(8)).collect();
        sent.iter().for_each(|bytes| source.send(bytes));
        assert_eq!(receiver.receive_all(), sent);
        assert_eq!(source.socket.queued_bytes().unwrap(), 0);
        assert_eq!(source.socket.drops().unwrap(), 0);
    }
}

pub(crate) fn trains_are_cut_into_the_datagrams_that_were_sent<Q: OpenQueue>() {
    for listen in loopback::addresses() {
        let options = UdpOptions {
            rcvbuf: Some(4 << 20),
            gro: true,
        };
        let source = Source::new(listen, &options);
        let Some(mut receiver) = source.receiver::<Q>(4) else {
            return;
        };
        // Whole segments only, a shorter last one, one byte in it, a train of one and of many.
        for (len, segment_len) in [(600, 200), (1000, 300), (301, 300), (90, 100), (6400, 100)] {
            let bytes: Vec<u8> = (0_u32..len).map(|at| at.to_le_bytes()[0]).collect();
            source.send_train(&bytes, segment_len);
            receiver.receive_raw();
            assert_eq!(receiver.batch.frames(), 1, "the kernel made no train of it");
            let seen: Vec<Vec<u8>> = receiver
                .batch
                .datagrams(&receiver.slab)
                .map(|datagram| datagram.bytes.to_vec())
                .collect();
            receiver.batch.release(&mut receiver.slab);
            let sent: Vec<&[u8]> = bytes.chunks(segment_len.into()).collect();
            assert_eq!(seen, sent);
        }
    }
}

pub(crate) fn trains_and_datagrams_mixed_keep_their_order<Q: OpenQueue>() {
    let source = Source::trains();
    let Some(mut receiver) = source.receiver::<Q>(8) else {
        return;
    };
    let (mut sent, mut number) = (Vec::new(), 0_u32);
    for round in 0_u32..200 {
        // Runs of trains and runs of single datagrams, so that a backend that adapts to either changes over.
        let datagrams = if (round / 20) % 2 == 0 {
            1
        } else {
            2 + round % 9
        };
        let bytes: Vec<Vec<u8>> = (number..number + datagrams)
            .map(|number| number.to_le_bytes().repeat(10))
            .collect();
        number += datagrams;
        match datagrams {
            1 => source.send(&bytes[0]),
            _ => source.send_train(&bytes.concat(), 40),
        }
        sent.extend(bytes);
    }
    assert_eq!(receiver.receive_all(), sent);
    assert_eq!(source.socket.drops().unwrap(), 0);
}

pub(crate) fn a_train_that_does_not_fit_is_cut_as_far_as_it_is_there<Q: OpenQueue>() {
    let source = Source::trains();
    let slab = Slab::with_frame_len(4, 250).unwrap();
    let Some(mut receiver) = source.receiver_with::<Q>(2, slab, Batch::new(2)) else {
        return;
    };
    source.send_train(&[1; 400], 100);
    source.send(b"next");
    let mut seen = receiver.receive();
    seen.extend(receiver.receive());
    let seen: Vec<_> = seen
        .iter()
        .map(|(bytes, whole)| (bytes.len(), *whole))
        .collect();
    assert_eq!(seen, [(100, true), (100, true), (50, false), (4, true)]);
}

pub(crate) fn a_socket_without_gro_gets_the_datagrams_of_a_train_one_by_one<Q: OpenQueue>() {
    let source = Source::plain();
    let Some(mut receiver) = source.receiver::<Q>(8) else {
        return;
    };
    source.send_train(&[1; 450], 100);
    receiver.receive_raw();
    assert_eq!((receiver.batch.frames(), receiver.batch.len()), (5, 5));
    receiver.batch.release(&mut receiver.slab);
}

pub(crate) fn an_error_about_something_sent_is_not_the_end<Q: OpenQueue>() {
    let source = Source::plain();
    let Some(mut receiver) = source.receiver::<Q>(4) else {
        return;
    };
    // A socket hears "connection refused" about what it sent only when it is connected.
    let nobody = Peer::bind((V4, 0)).unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    loopback::connect_and_send(&*source.socket, closed, b"anybody?");
    assert!(receiver.receive_all().is_empty());
    // And again with something queued: it comes, whatever the pending error.
    let back = Peer::bind(closed).unwrap();
    back.send_to(b"here", source.to).unwrap();
    drop(back);
    loopback::connect_and_send(&*source.socket, closed, b"anybody?");
    assert_eq!(receiver.receive_all(), [b"here"]);
}

pub(crate) fn a_queue_that_is_dropped_leaves_the_rest_to_the_next_one<Q: OpenQueue>() {
    let source = Source::trains();
    let Some(mut receiver) = source.receiver::<Q>(4) else {
        return;
    };
    let sent: Vec<[u8; 2]> = (0_u16..50).map(u16::to_le_bytes).collect();
    sent.iter().for_each(|bytes| source.send(bytes));
    let mut seen: Vec<Vec<u8>> = receiver
        .receive()
        .into_iter()
        .map(|(bytes, _)| bytes)
        .collect();
    assert!(!seen.is_empty() && seen.len() < sent.len());
    drop(receiver);
    let mut next = source.receiver::<Q>(4).expect("there was one before");
    seen.extend(next.receive_all());
    assert_eq!(seen, sent);
}

pub(crate) fn sources_are_told_where_they_were_asked_for_and_of_whole_trains<Q: OpenQueue>() {
    for (listen, gro) in loopback::addresses()
        .into_iter()
        .flat_map(|ip| [(ip, false), (ip, true)])
    {
        let options = UdpOptions {
            gro,
            ..UdpOptions::default()
        };
        let source = Source::new(listen, &options);
        let Some(mut receiver) = source.receiver::<Q>(8) else {
            return;
        };
        assert_eq!(receiver.queue.local_addr(), Some(source.to));
        source.send(b"whose?");
        assert_eq!(receiver.receive_sources(), [(6, None)]);

        // Slots are used again with addresses of either length in them, and by different senders.
        let mut receiver = source.receiver::<Q>(3).expect("there was one before");
        receiver.queue.ask_sources();
        let peers = [(); 4].map(|()| Peer::bind(SocketAddr::new(listen, 0)).unwrap());
        for round in 0..5 {
            let mut sent = Vec::new();
            for (len, peer) in (round..).zip(&peers) {
                peer.send_to(&vec![7; len], source.to).unwrap();
                sent.push((len, Some(peer.local_addr().unwrap())));
            }
            let sender = loopback::train_sender(source.to, 20);
            sender.send(&[9; 50]).unwrap();
            let from = Some(sender.local_addr().unwrap());
            sent.extend([20, 20, 10].map(|len| (len, from)));
            assert_eq!(receiver.receive_sources(), sent);
        }
    }
}

/// Waits, and was woken.
fn woken<Q: RxQueue>(queues: &mut [Q], bell: &Bell) {
    let start = Instant::now();
    Q::wait(queues, None, bell, FOREVER).unwrap();
    assert!(start.elapsed() < FOREVER, "slept through");
}

/// Far longer than a test takes.
const FOREVER: Duration = Duration::from_secs(20);
