use super::super::Faults;
use super::*;
use crate::rx::stream::What;
use crate::rx::stream::conformance::nobodys_tokens_are_an_error_or_nothing;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// What came of one connection.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    bytes: Vec<u8>,
    pieces: usize,
    end: Option<Result<(), i32>>,
}

fn network(seed: u64, faults: StreamFaults) -> Network {
    let network = Network::new(seed, Faults::default());
    network.set_stream_faults(faults);
    network
}

fn cut(piece_max: usize) -> StreamFaults {
    StreamFaults {
        piece_max,
        ..StreamFaults::default()
    }
}

fn delayed(delay: Range<u64>, piece_max: usize) -> StreamFaults {
    StreamFaults {
        delay: Duration::from_nanos(delay.start)..Duration::from_nanos(delay.end),
        ..cut(piece_max)
    }
}

fn connect(network: &Network, queue: &mut SimStreams, token: u32) -> SimPeer {
    let (peer, stream) = network.connect("192.0.2.2:40000".parse().unwrap());
    queue.add(Token(token), stream).unwrap();
    peer
}

/// Everything that is there now, by token; and the tokens in the order in which they came.
fn drain(queue: &mut SimStreams) -> (BTreeMap<u32, Seen>, Vec<u32>) {
    let (mut slab, mut batch) = (Slab::with_frame_len(3, 100).unwrap(), StreamBatch::new(4));
    let (mut seen, mut order) = (BTreeMap::<u32, Seen>::new(), Vec::new());
    loop {
        queue.recv(&mut slab, &mut batch).unwrap();
        if batch.is_empty() {
            return (seen, order);
        }
        for arrival in batch.arrivals(&slab) {
            order.push(arrival.token.0);
            let seen = seen.entry(arrival.token.0).or_default();
            assert_eq!(seen.end, None, "nothing comes after the end");
            match arrival.what {
                What::Bytes(bytes) => {
                    seen.bytes.extend_from_slice(bytes);
                    seen.pieces += 1;
                }
                What::End => seen.end = Some(Ok(())),
                What::Failed(errno) => seen.end = Some(Err(errno)),
            }
        }
        batch.release(&mut slab);
        assert_eq!(slab.free(), 3, "every frame came back");
    }
}

fn of(queue: &mut SimStreams, token: u32) -> Seen {
    drain(queue).0.remove(&token).unwrap_or_default()
}

#[test]
fn without_faults_bytes_come_at_once_in_order_and_then_the_end() {
    let network = network(1, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 7);
    assert!(!queue.is_ready());
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!((peer.send(&bytes[..9]), peer.send(&bytes[9..])), (9, 247));
    assert_eq!(queue.queued_bytes(Token(7)).unwrap(), 256);
    peer.finish();
    assert_eq!(peer.send(b"more"), 0);
    assert!(queue.is_ready());
    // In as many pieces as frames of 100 bytes make of it.
    let expected = Seen {
        bytes,
        pieces: 3,
        end: Some(Ok(())),
    };
    assert_eq!(of(&mut queue, 7), expected);
    assert!(!queue.is_ready());
    let account = network.stream_account();
    assert_eq!((account.sent, account.delivered), (256, 256));
    assert!(account.is_balanced());
}

#[test]
fn a_token_without_a_connection_is_an_error_or_nothing() {
    let network = network(2, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    nobodys_tokens_are_an_error_or_nothing(&mut queue, [0, 2, u32::MAX]);
    let (_other, stream) = network.connect("192.0.2.3:40000".parse().unwrap());
    let (_stream, error) = queue.add(Token(1), stream).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    peer.send(b"unharmed");
    assert_eq!(of(&mut queue, 1).bytes, b"unharmed");
    queue.close(Token(1), Close::Orderly);
    nobodys_tokens_are_an_error_or_nothing(&mut queue, [1]);
    assert_eq!((peer.closed(), queue.len()), (Some(Close::Orderly), 0));
}

#[test]
fn pieces_are_cut_by_chance_within_their_limit() {
    let network = network(3, cut(5));
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    peer.send(&[9; 1000]);
    let seen = of(&mut queue, 1);
    assert_eq!(seen.bytes, [9; 1000]);
    // 3 bytes each, give or take.
    assert!((250..450).contains(&seen.pieces), "{}", seen.pieces);
}

#[test]
fn segments_arrive_in_order_each_after_its_delay() {
    let network = network(4, delayed(MS..5 * MS, 10));
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    let bytes: Vec<u8> = (0..200).collect();
    peer.send(&bytes);
    peer.finish();
    assert_eq!(network.stream_account().in_flight, 200);
    network.advance(MS - 1);
    assert_eq!(of(&mut queue, 1), Seen::default());
    let next = network.next_arrival_ns().unwrap();
    assert!((MS..5 * MS).contains(&next), "{next}");
    network.advance(next - network.now_ns());
    let early = of(&mut queue, 1);
    assert!(!early.bytes.is_empty() && early.bytes.len() < 200);
    network.advance(5 * MS);
    let late = of(&mut queue, 1);
    assert_eq!([early.bytes, late.bytes].concat(), bytes);
    assert_eq!((early.end, late.end), (None, Some(Ok(()))));
    assert_eq!(network.next_arrival_ns(), None);
}

#[test]
fn a_reset_is_told_after_what_arrived_before_it_and_loses_the_rest() {
    let network = network(5, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    peer.send(b"arrived");
    // What is sent from now on is slow, and the reset is not.
    network.set_stream_faults(delayed(MS..MS + 1, WINDOW));
    peer.send(b"overtaken");
    network.set_stream_faults(StreamFaults::default());
    peer.reset();
    network.advance(2 * MS);
    let seen = of(&mut queue, 1);
    assert_eq!(seen.bytes, b"arrived");
    assert_eq!(seen.end, Some(Err(libc::ECONNRESET)));
    let error = queue.write(Token(1), b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    let account = network.stream_account();
    assert_eq!((account.delivered, account.lost), (7, 9));
    assert!(account.is_balanced());
}

#[test]
fn one_that_always_has_bytes_leaves_the_others_their_turns() {
    let network = network(6, cut(10));
    let mut queue = network.streams();
    let mut peers: Vec<_> = (0..3).map(|n| connect(&network, &mut queue, n)).collect();
    peers[0].send(&[0; 10_000]);
    peers[1].send(b"x");
    peers[2].send(b"y");
    let (_, order) = drain(&mut queue);
    let first = |token| order.iter().position(|each| *each == token).unwrap();
    assert_eq!((first(1), first(2)), (1, 2));
}

#[test]
fn a_paused_connection_holds_its_bytes_and_then_its_sender() {
    let network = network(7, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    queue.pause(Token(1));
    assert_eq!(peer.send(&vec![1; WINDOW + 5]), WINDOW);
    assert_eq!((peer.send(b"more"), peer.room()), (0, 0));
    assert!(!queue.is_ready());
    assert_eq!(of(&mut queue, 1), Seen::default());
    queue.resume(Token(1));
    assert_eq!(of(&mut queue, 1).bytes.len(), WINDOW);
    assert_eq!(peer.room(), WINDOW);
    // Paused again with something there, and with nothing.
    for bytes in [&b"held"[..], b""] {
        peer.send(bytes);
        queue.pause(Token(1));
        assert!(!queue.is_ready());
        queue.resume(Token(1));
        assert_eq!(of(&mut queue, 1).bytes, bytes);
    }
}

#[test]
fn some_pieces_may_come_after_a_pause_and_no_more() {
    let mut late = Vec::new();
    for seed in 0..40 {
        let faults = StreamFaults {
            late_pieces_max: 3,
            ..cut(1)
        };
        let network = network(seed, faults);
        let mut queue = network.streams();
        let mut peer = connect(&network, &mut queue, 1);
        peer.send(b"0123456789");
        queue.pause(Token(1));
        let seen = of(&mut queue, 1);
        late.push(seen.pieces);
        queue.resume(Token(1));
        let rest = of(&mut queue, 1);
        assert_eq!([seen.bytes, rest.bytes].concat(), b"0123456789");
    }
    late.sort_unstable();
    late.dedup();
    assert_eq!(late, [0, 1, 2, 3]);
}

#[test]
fn writes_reach_the_peer_up_to_a_window_and_fail_once_it_is_gone() {
    let network = network(8, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    assert_eq!(queue.write(Token(1), b"hello").unwrap(), 5);
    let taken = queue.write(Token(1), &vec![0; WINDOW]).unwrap();
    assert_eq!(taken, WINDOW - 5);
    let full = queue.write(Token(1), b"x").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(&peer.take_received()[..6], b"hello\0");
    // Half closed: it still receives.
    peer.finish();
    assert_eq!(of(&mut queue, 1).end, Some(Ok(())));
    assert_eq!(queue.write(Token(1), b"x").unwrap(), 1);
    drop(peer);
    let gone = queue.write(Token(1), b"x").unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_closed_connection_frees_its_token_and_gives_nothing_more() {
    let network = network(9, delayed(MS..2 * MS, 4));
    let mut queue = network.streams();
    let mut first = connect(&network, &mut queue, 1);
    first.send(b"on the way");
    queue.close(Token(1), Close::Reset);
    assert_eq!(first.closed(), Some(Close::Reset));
    let mut second = connect(&network, &mut queue, 1);
    second.send(b"new");
    network.advance(2 * MS);
    let seen = of(&mut queue, 1);
    assert_eq!((&seen.bytes[..], seen.end), (&b"new"[..], None));
    assert_eq!(first.send(b"more"), 0);
    assert_eq!(network.stream_account().abandoned, 10);
    drop(queue);
    assert_eq!(second.closed(), Some(Close::Orderly));
    assert!(network.stream_account().is_balanced());
}

#[test]
fn a_token_in_use_and_a_kernel_without_memory_give_the_connection_back() {
    let network = network(10, StreamFaults::default());
    let mut queue = network.streams();
    let _first = connect(&network, &mut queue, 1);
    let (peer, stream) = network.connect("192.0.2.3:1".parse().unwrap());
    let (stream, error) = queue.add(Token(1), stream).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    network.set_stream_faults(StreamFaults {
        refuse: 1.0,
        ..StreamFaults::default()
    });
    let (stream, error) = queue.add(Token(2), stream).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    assert_eq!((stream.peer_addr(), queue.len()), (peer.local_addr(), 1));
    assert_eq!(peer.closed(), None);
    drop(stream);
    assert_eq!(peer.closed(), Some(Close::Orderly));
}

#[test]
fn a_slab_without_a_frame_is_an_error_that_loses_nothing() {
    let network = network(11, StreamFaults::default());
    let mut queue = network.streams();
    let mut peer = connect(&network, &mut queue, 1);
    peer.send(b"kept");
    let mut slab = Slab::with_frame_len(1, 64).unwrap();
    let held = slab.take().unwrap();
    let mut batch = StreamBatch::new(1);
    let error = queue.recv(&mut slab, &mut batch).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    slab.release(held);
    assert_eq!(of(&mut queue, 1).bytes, b"kept");
}

#[test]
#[should_panic(expected = "pieces of no bytes")]
fn pieces_have_bytes() {
    Network::new(0, Faults::default()).set_stream_faults(cut(0));
}

proptest! {
    /// Any script of two connections: each receives a prefix of what was sent, all of it unless a reset came, and
    /// every byte is in one place at any time; and the same seed is the same run.
    #[test]
    fn bytes_stay_in_order_and_are_accounted_for_whatever_happens(
        seed: u64,
        script in prop::collection::vec((0_u8..8, 0_usize..2, 0_usize..300), 0..60),
    ) {
        let first = run(seed, &script);
        prop_assert_eq!(first, run(seed, &script));
    }
}

fn run(seed: u64, script: &[(u8, usize, usize)]) -> Vec<Seen> {
    let faults = StreamFaults {
        reset: 0.01,
        late_pieces_max: 2,
        ..delayed(0..MS, 40)
    };
    let network = network(seed, faults);
    let mut queue = network.streams();
    let mut peers = [0, 1].map(|token| connect(&network, &mut queue, token));
    let mut sent = [Vec::new(), Vec::new()];
    let mut seen = [Seen::default(), Seen::default()];
    let mut take = |queue: &mut SimStreams| {
        for (token, more) in drain(queue).0 {
            let seen = &mut seen[token as usize];
            seen.bytes.extend(more.bytes);
            seen.pieces += more.pieces;
            seen.end = seen.end.or(more.end);
        }
    };
    for &(step, which, amount) in script {
        let token = Token(u32::try_from(which).unwrap());
        match step {
            0..=2 => {
                let from = sent[which].len();
                // A period that is no power of two tells one part from another.
                let bytes = (0..251).cycle().skip(from % 251).take(amount);
                let bytes: Vec<u8> = bytes.collect();
                let taken = peers[which].send(&bytes);
                sent[which].extend_from_slice(&bytes[..taken]);
            }
            3 => network.advance(amount as u64 * 10_000),
            4 => take(&mut queue),
            5 => queue.pause(token),
            6 => queue.resume(token),
            _ if amount < 20 => peers[which].reset(),
            _ if amount < 60 => peers[which].finish(),
            _ => {}
        }
        let account = network.stream_account();
        assert!(account.is_balanced(), "{account:?}");
    }
    for (peer, token) in peers.iter_mut().zip([0, 1].map(Token)) {
        peer.finish();
        queue.resume(token);
    }
    network.advance(MS);
    take(&mut queue);
    for (sent, seen) in sent.iter().zip(&seen) {
        match seen.end {
            Some(Ok(())) => assert_eq!(sent, &seen.bytes),
            Some(Err(_)) => assert!(sent.starts_with(&seen.bytes)),
            None => panic!("the end was sent and did not come"),
        }
    }
    let account = network.stream_account();
    assert_eq!((account.in_flight, account.queued), (0, 0), "{account:?}");
    assert!(account.is_balanced(), "{account:?}");
    seen.into()
}
