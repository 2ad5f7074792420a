//! Bytes on their way: order, fairness, pauses, frames, waiting.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::slab::FRAME_LEN;

pub(crate) fn the_bytes_of_many_connections_come_in_order<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(50, 48, 12) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..50).map(|token| receiver.connect(token)).collect();
    let sent: Vec<Vec<u8>> = (0..50).map(|seed| pattern(seed, 20_000)).collect();
    let mut all = Vec::new();
    let mut from = 0;
    for piece in [1, 200, 7, 1000, 3, 4000, 64, 9725, 5000] {
        for (peer, bytes) in peers.iter_mut().zip(&sent) {
            peer.write_all(&bytes[from..from + piece]).unwrap();
        }
        from += piece;
        // So that some bytes wait while others are sent.
        all.extend(receiver.receive());
    }
    assert_eq!(from, 20_000);
    let before = all.iter().map(len).sum::<usize>();
    all.extend(receiver.receive_bytes(50 * 20_000 - before));
    for (token, bytes) in (0..50).zip(&sent) {
        let (came, ends) = of(token, &all);
        assert_same(&came, bytes);
        assert_eq!(ends, []);
    }
    assert_eq!(receiver.receive(), []);
}

pub(crate) fn a_long_stream_comes_whole_through_few_frames<Q: OpenStreams>() {
    for (frames, pieces) in [(1, 1), (3, 2), (40, 40)] {
        let Some(mut receiver) = Receiver::<Q>::new(1, frames, pieces) else {
            return;
        };
        let mut peer = receiver.connect(0);
        let sent = pattern(7, (8 << 20) + 77);
        let sender = thread::spawn({
            let sent = sent.clone();
            move || peer.write_all(&sent).unwrap()
        });
        let all = receiver.receive_until(|all| matches!(all.last(), Some((_, Seen::End))));
        sender.join().unwrap();
        let (came, ends) = of(0, &all);
        assert_same(&came, &sent);
        assert_eq!(ends, [Seen::End]);
        receiver.queue.disarm(&mut receiver.slab);
        assert_eq!(receiver.slab.free(), frames);
    }
}

pub(crate) fn a_flooding_connection_does_not_keep_others_from_their_turn<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 16, 8) else {
        return;
    };
    let mut flood = receiver.connect(0);
    let mut slow = receiver.connect(1);
    thread::scope(|scope| {
        // Until the other end goes, be it that the test fails.
        scope.spawn(move || while flood.write_all(&[0xF1; 1 << 20]).is_ok() {});
        let mut receiver = receiver;
        receiver.receive_bytes(1 << 20);
        for number in 0..50_u8 {
            slow.write_all(&[number]).unwrap();
            let (start, mut calls, mut flooded) = (Instant::now(), 0, 0);
            let byte = loop {
                let seen = receiver.receive();
                // One that found nothing starved nobody.
                calls += u32::from(!seen.is_empty());
                flooded += seen.iter().filter(|(token, _)| *token == 0).count();
                if let Some((_, byte)) = seen.iter().find(|(token, _)| *token == 1) {
                    break byte.clone();
                }
                assert!(calls < 50 && start.elapsed() < FOREVER, "{flooded} pieces");
            };
            assert_eq!(byte, Seen::Bytes(vec![number]));
        }
        receiver.queue.close(Token(0), Close::Reset);
    });
}

pub(crate) fn a_connection_full_of_bytes_leaves_frames_for_others<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 16, 8) else {
        return;
    };
    receiver.set_rcvbuf(16 << 20);
    let mut full = receiver.connect(0);
    let mut slow = receiver.connect(1);
    assert_eq!(receiver.receive(), []);
    // Far more than the calls below bring of it.
    let taken = fill(&mut full, &vec![0xF1; 16 << 20]);
    if taken < 60 * FRAME_LEN {
        return loopback::skip(&format!(
            "a receive buffer takes no more than {taken} bytes"
        ));
    }
    for number in 0..3 {
        slow.write_all(&[number]).unwrap();
        // The first calls find out that there are two.
        let came = (0..5).any(|_| {
            let seen = receiver.receive();
            assert!(seen.iter().any(|(token, _)| *token == 0), "it ran dry");
            seen.contains(&(1, Seen::Bytes(vec![number])))
        });
        assert!(came, "byte {number} did not");
    }
}

pub(crate) fn many_floods_share_the_frames<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(40, 8, 4) else {
        return;
    };
    let each = 512 << 10;
    let peers: Vec<TcpStream> = (0..40).map(|token| receiver.connect(token)).collect();
    for (seed, mut peer) in (0..).zip(&peers) {
        // What the socket buffers take: all have something from the start.
        peer.set_nonblocking(true).unwrap();
        let taken = peer.write(&pattern(seed, each)).unwrap();
        assert!(taken > 100_000, "{taken} bytes");
    }
    // Of 40 connections with two frames of bytes or more, each had one before any had many.
    let (mut had, mut calls) = ([0; 40], 0);
    while had.contains(&0) {
        calls += 1;
        assert!(calls <= 200, "{had:?}");
        for (token, _) in receiver.receive() {
            had[token as usize] += 1;
        }
    }
}

pub(crate) fn a_paused_connection_holds_its_sender_up_and_loses_nothing<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 48, 8) else {
        return;
    };
    let mut peer = receiver.connect(0);
    let mut other = receiver.connect(1);
    let sent = pattern(3, 96 << 20);
    peer.write_all(&sent[..1000]).unwrap();
    let mut all = receiver.receive_bytes(1000);
    receiver.queue.pause(Token(0));
    // More than the largest receive buffer takes (`net.ipv4.tcp_rmem`), so the sender is held up.
    let taken = 1000 + fill(&mut peer, &sent[1000..]);
    assert!(taken < sent.len(), "the sender was not held up");
    let late = receiver.receive_for(SHORT);
    assert!(late.len() <= 64, "{} pieces after the pause", late.len());
    all.extend(late);
    assert!(receiver.lets_sleep(), "it would spin");
    other.write_all(b"not paused").unwrap();
    assert!(receiver.readable_within(FOREVER));
    let seen = receiver.receive_bytes(10);
    assert_eq!(seen, [(1, Seen::Bytes(b"not paused".to_vec()))]);
    // Also when little is sent at a time, for which there are always frames.
    receiver.queue.pause(Token(1));
    let pieces = (0..200).map(|_| {
        other.write_all(b"paused").unwrap();
        receiver.receive().len()
    });
    let pieces: usize = pieces.sum();
    assert!(pieces <= 64, "{pieces} pieces after the pause");
    receiver.queue.close(Token(1), Close::Reset);
    receiver.queue.resume(Token(0));
    let late = all.iter().map(len).sum::<usize>();
    all.extend(receiver.receive_bytes(taken - late));
    assert_same(&of(0, &all).0, &sent[..taken]);
}

pub(crate) fn pausing_and_resuming_between_receives_loses_nothing<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(1, 16, 4) else {
        return;
    };
    let mut peer = receiver.connect(0);
    let sent = pattern(11, 4 << 20);
    let sender = thread::spawn({
        let sent = sent.clone();
        move || peer.write_all(&sent).unwrap()
    });
    let (mut all, mut turn) = (Vec::new(), 0);
    let start = Instant::now();
    while !all.iter().any(is_end) {
        assert!(start.elapsed() < FOREVER);
        turn += 1;
        if turn % 3 == 0 {
            receiver.queue.pause(Token(0));
        }
        if turn % 5 == 0 {
            all.extend(receiver.receive());
        }
        if turn % 3 != 1 {
            receiver.queue.resume(Token(0));
        }
        all.extend(receiver.receive());
    }
    sender.join().unwrap();
    assert_same(&of(0, &all).0, &sent);
}

pub(crate) fn every_frame_comes_back_and_a_disarmed_queue_receives_again<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(4, 40, 8) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..4).map(|token| receiver.connect(token)).collect();
    for round in 0..5 {
        for peer in &mut peers {
            peer.write_all(&[round; 1000]).unwrap();
        }
        let all = receiver.receive_bytes(4000);
        (0..4).for_each(|token| assert_eq!(of(token, &all).0, [round; 1000]));
        receiver.queue.disarm(&mut receiver.slab);
        assert_eq!(receiver.slab.free(), 40);
        receiver.queue.disarm(&mut receiver.slab);
        assert_eq!(receiver.slab.free(), 40, "twice changes nothing");
    }
    let Receiver { queue, slab, .. } = receiver;
    drop(queue);
    assert_eq!(slab.free(), 40);
}

pub(crate) fn thousands_of_idle_connections_are_in_nobodys_way<Q: OpenStreams>() {
    const IDLE: u32 = 2000;
    // Two descriptors of each connection are this process's.
    if descriptors_max() < 2 * u64::from(IDLE) + 500 {
        return loopback::skip("too few descriptors for thousands of connections");
    }
    let Some(mut receiver) = Receiver::<Q>::new(IDLE as usize + 1, 40, 32) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..IDLE).map(|token| receiver.connect(token)).collect();
    let mut busy = receiver.connect(IDLE);
    assert_eq!(receiver.receive_for(SHORT), []);
    assert!(receiver.lets_sleep(), "they are idle");
    let sent = pattern(9, 1 << 20);
    let sender = thread::spawn({
        let sent = sent.clone();
        move || {
            busy.write_all(&sent).unwrap();
            busy
        }
    });
    let all = receiver.receive_bytes(sent.len());
    assert_same(&of(IDLE, &all).0, &sent);
    let busy = sender.join().unwrap();
    // All at once, of which no backend can have frames for all.
    for (token, peer) in (0..).zip(&mut peers) {
        peer.write_all(&u32::to_ne_bytes(token)).unwrap();
    }
    let mut all = receiver.receive_bytes(4 * IDLE as usize);
    all.sort_by_key(|(token, _)| *token);
    let expected = (0..IDLE).map(|token| (token, Seen::Bytes(token.to_ne_bytes().to_vec())));
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert_eq!(receiver.receive_for(SHORT), []);
    assert!(receiver.lets_sleep(), "they are idle again");
    drop((peers, busy));
    let ends = receiver.receive_until(|all| all.len() > IDLE as usize);
    assert!(ends.iter().all(is_end));
}

/// How many descriptors this process may have, having asked for as many as it is allowed to.
fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) writes to the structure that its second argument points to, which is ours.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit(2) reads that structure during the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if got == 0 && set == 0 {
        limit.rlim_max
    } else {
        0
    }
}

pub(crate) fn queued_bytes_are_those_that_did_not_come_yet<Q: OpenStreams>() {
    // A batch of one piece: of what a backend takes at once, some waits.
    let Some(mut receiver) = Receiver::<Q>::new(3, 8, 1) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..3).map(|token| receiver.connect(token)).collect();
    assert_eq!(receiver.receive(), []);
    let (sent, mut came) = (10_000, [0; 3]);
    for peer in &mut peers {
        peer.write_all(&pattern(2, sent)).unwrap();
    }
    let start = Instant::now();
    while came != [sent; 3] {
        for (token, came) in (0..).map(Token).zip(came) {
            // What was written may still be on its way.
            while receiver.queue.queued_bytes(token).unwrap() != (sent - came) as u64 {
                assert!(start.elapsed() < FOREVER, "{came} of {sent} bytes came");
            }
        }
        let seen = receiver.receive();
        seen.iter()
            .for_each(|piece| came[piece.0 as usize] += len(piece));
    }
    assert_eq!(receiver.queue.queued_bytes(Token(0)).unwrap(), 0);
}

pub(crate) fn a_receive_never_waits_and_a_wait_ends_when_something_comes<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(3, 8, 4) else {
        return;
    };
    assert_eq!(receiver.receive(), []);
    assert!(receiver.lets_sleep(), "there is nobody");
    // Somebody whose bytes came before the queue had the connection.
    let (mut early, socket) = receiver.pair();
    early.write_all(b"early").unwrap();
    receiver.add(0, socket);
    assert!(receiver.queue.is_ready() || receiver.readable_within(FOREVER));
    assert_eq!(receiver.receive_bytes(5).len(), 1);
    let start = Instant::now();
    assert_eq!(receiver.receive(), []);
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut late = receiver.connect(1);
    assert_eq!(receiver.receive(), []);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(2));
                late.write_all(b"late").unwrap();
            }
            late.shutdown(Shutdown::Write).unwrap();
        });
        let mut all: Vec<(u32, Seen)> = Vec::new();
        while !all.iter().any(is_end) {
            if !receiver.queue.is_ready() {
                assert!(receiver.readable_within(FOREVER), "it was not woken");
            }
            all.extend(receiver.receive());
        }
        assert_eq!(of(1, &all).0, b"late".repeat(20));
    });
    assert!(receiver.lets_sleep());
}

pub(crate) fn the_descriptor_is_quiet_when_the_last_connection_is_gone<Q: OpenStreams>() {
    for how in [Close::Orderly, Close::Reset] {
        let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
            return;
        };
        let mut peer = receiver.connect(0);
        peer.write_all(b"x").unwrap();
        assert_eq!(receiver.receive_bytes(1).len(), 1);
        while receiver.queue.is_ready() {
            receiver.receive();
        }
        receiver.queue.close(Token(0), how);
        // Nobody calls a queue without connections.
        assert!(!receiver.readable_within(SHORT), "it would spin");
        drop(peer);
        assert!(!receiver.readable_within(SHORT), "it would spin");
        // Who comes next is heard of.
        let mut next = receiver.connect(1);
        next.write_all(b"y").unwrap();
        assert!(receiver.queue.is_ready() || receiver.readable_within(FOREVER));
        let all = receiver.receive_bytes(1);
        assert_eq!(all, [(1, Seen::Bytes(b"y".to_vec()))]);
    }
}

pub(crate) fn a_slab_without_a_free_frame_is_an_error_and_heals<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(1, 4, 4) else {
        return;
    };
    let mut peer = receiver.connect(0);
    let held: Vec<_> = std::iter::from_fn(|| receiver.slab.take()).collect();
    peer.write_all(b"patience").unwrap();
    let start = Instant::now();
    loop {
        // Nothing may have come yet.
        let Receiver {
            queue, slab, batch, ..
        } = &mut receiver;
        if let Err(error) = queue.recv(slab, batch) {
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            break;
        }
        assert!(batch.is_empty() && start.elapsed() < FOREVER);
    }
    held.into_iter()
        .for_each(|frame| receiver.slab.release(frame));
    let all = receiver.receive_bytes(8);
    assert_eq!(all, [(0, Seen::Bytes(b"patience".to_vec()))]);
}
