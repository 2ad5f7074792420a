//! Connections that come, are refused, end, break and are closed.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

pub(crate) fn the_end_comes_after_the_bytes_once_and_writing_goes_on<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
        return;
    };
    let mut peer = receiver.connect(1);
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let all = receiver.receive_until(|all| all.iter().any(is_end));
    assert_eq!(of(1, &all), (b"last words".to_vec(), vec![Seen::End]));
    assert_eq!(receiver.receive_for(SHORT), [], "it is told once");
    assert!(receiver.lets_sleep(), "and wakes nobody");
    assert_eq!(receiver.queue.write(Token(1), b"answer").unwrap(), 6);
    receiver.queue.close(Token(1), Close::Orderly);
    assert_eq!(read_to_end(&mut peer).unwrap(), b"answer");
}

pub(crate) fn a_reset_is_told_once_by_its_errno<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
        return;
    };
    let (broken, mut other) = (receiver.connect(0), receiver.connect(1));
    assert_eq!(receiver.receive(), []);
    reset(broken);
    let all = receiver.receive_until(|all| !all.is_empty());
    assert_eq!(all, [(0, Seen::Failed(libc::ECONNRESET))]);
    assert_eq!(receiver.receive_for(SHORT), [], "it is told once");
    assert!(receiver.lets_sleep(), "and wakes nobody");
    assert!(receiver.queue.write(Token(0), b"anybody?").is_err());
    other.write_all(b"whole").unwrap();
    let all = receiver.receive_bytes(5);
    assert_eq!(all, [(1, Seen::Bytes(b"whole".to_vec()))]);
    receiver.queue.close(Token(0), Close::Orderly);
}

pub(crate) fn a_paused_connection_that_breaks_wakes_nobody_for_ever<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
        return;
    };
    let (broken, ended) = (receiver.connect(0), receiver.connect(1));
    assert_eq!(receiver.receive(), []);
    receiver.queue.pause(Token(0));
    receiver.queue.pause(Token(1));
    assert_eq!(receiver.receive(), []);
    reset(broken);
    drop(ended);
    // A backend may tell of it at once, or when it is asked to go on, but once.
    let mut all = receiver.receive_for(SHORT);
    assert!(receiver.lets_sleep(), "it would spin");
    receiver.queue.resume(Token(0));
    receiver.queue.resume(Token(1));
    let rest = 2 - all.len();
    all.extend(receiver.receive_until(|all| all.len() >= rest));
    all.sort_by_key(|(token, _)| *token);
    assert_eq!(all, [(0, Seen::Failed(libc::ECONNRESET)), (1, Seen::End)]);
}

pub(crate) fn nothing_of_a_closed_connection_comes_under_its_token_again<Q: OpenStreams>() {
    for how in [Close::Orderly, Close::Reset] {
        // A batch of one piece leaves the others behind.
        let Some(mut receiver) = Receiver::<Q>::new(1, 8, 1) else {
            return;
        };
        for round in 0..40 {
            let mut old = receiver.connect(0);
            if round % 2 == 0 {
                // Before its first bytes, so that a backend may already wait for some.
                assert_eq!(receiver.receive(), []);
            }
            fill_some(&mut old, &vec![0x0D; 300_000]);
            if round % 4 == 1 {
                receiver.receive_bytes(1);
            }
            receiver.queue.close(Token(0), how);
            let mut new = receiver.connect(0);
            if round % 8 < 4 {
                // Before the new one has anything of its own.
                assert_eq!(receiver.receive(), []);
            }
            // Whoever was closed may go on for some time.
            fill_some(&mut old, &vec![0x0D; 300_000]);
            new.write_all(&[round; 3]).unwrap();
            new.shutdown(Shutdown::Write).unwrap();
            let all = receiver.receive_until(|all| all.iter().any(is_end));
            assert_eq!(of(0, &all), (vec![round; 3], vec![Seen::End]));
            assert_eq!(receiver.receive(), []);
            receiver.queue.close(Token(0), how);
        }
        assert_eq!(receiver.receive(), []);
        receiver.queue.disarm(&mut receiver.slab);
        assert_eq!(receiver.slab.free(), 8);
    }
}

pub(crate) fn what_is_closed_in_order_ends_with_a_fin_at_once<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(1, 8, 4) else {
        return;
    };
    // Never received from; received from; while bytes wait.
    for (receive, unread) in [(false, false), (true, false), (true, true)] {
        let mut peer = receiver.connect(0);
        if receive {
            assert_eq!(receiver.receive(), []);
        }
        if unread {
            peer.write_all(b"too late").unwrap();
        }
        assert_eq!(receiver.queue.write(Token(0), b"farewell").unwrap(), 8);
        receiver.queue.close(Token(0), Close::Orderly);
        // Nobody calls the queue meanwhile.
        assert_eq!(read_to_end(&mut peer).unwrap(), b"farewell");
        assert_eq!(receiver.receive(), []);
    }
}

pub(crate) fn what_is_reset_ends_with_an_rst_at_once<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(1, 8, 4) else {
        return;
    };
    for (receive, paused) in [(false, false), (true, false), (true, true)] {
        let mut peer = receiver.connect(0);
        if receive {
            assert_eq!(receiver.receive(), []);
        }
        if paused {
            receiver.queue.pause(Token(0));
            assert_eq!(receiver.receive(), []);
        }
        receiver.queue.close(Token(0), Close::Reset);
        // Nobody calls the queue meanwhile.
        let error = read_to_end(&mut peer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(receiver.receive(), []);
    }
}

pub(crate) fn closing_what_still_sends_lets_the_others_go_on<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(20, 24, 6) else {
        return;
    };
    let stays = receiver.connect(19);
    let sent = pattern(5, 6 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Dropped in the end: a FIN.
            let mut stays = stays;
            stays.write_all(&sent).unwrap();
        });
        // Gone when the test fails, so that the sender does not wait for ever.
        let mut receiver = receiver;
        let (mut all, mut round) = (Vec::new(), 0);
        let start = Instant::now();
        while !all
            .iter()
            .any(|(token, seen)| *token == 19 && *seen == Seen::End)
        {
            assert!(start.elapsed() < FOREVER);
            round += 1;
            let token = round % 19;
            let mut peer = receiver.connect(token);
            fill_some(&mut peer, &[0xEE; 5000]);
            all.extend(receiver.receive());
            let how = [Close::Orderly, Close::Reset][usize::from(round % 2 == 0)];
            receiver.queue.close(Token(token), how);
            all.extend(receiver.receive());
        }
        assert_same(&of(19, &all).0, &sent);
        let strangers = all.iter().filter(|(token, _)| *token != 19);
        strangers.for_each(|(_, seen)| assert!(matches!(seen, Seen::Bytes(_))));
    });
}

pub(crate) fn what_is_too_much_is_refused_and_given_back<Q: OpenStreams>() {
    let refused = [0, usize::MAX].map(|connections_max| Q::open(connections_max).err());
    for error in refused {
        assert_eq!(error.unwrap().kind(), io::ErrorKind::InvalidInput);
    }
    let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..2).map(|token| receiver.connect(token)).collect();
    // Beyond the last, and in use.
    for token in [2, u32::MAX, 0] {
        let (mut peer, socket) = receiver.pair();
        let refused = receiver.queue.add(Token(token), socket);
        let (socket, error) = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        peer.write_all(b"still open").unwrap();
        let mut bytes = [0; 10];
        assert_eq!(socket.recv(&mut bytes).unwrap(), 10);
        let nothing = socket.recv(&mut bytes).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "as it was");
    }
    assert_eq!(receiver.receive(), []);
    receiver.queue.close(Token(1), Close::Orderly);
    let mut new = receiver.connect(1);
    new.write_all(b"room again").unwrap();
    peers[0].write_all(b"as before").unwrap();
    let all = receiver.receive_bytes(19);
    assert_eq!(of(1, &all).0, b"room again");
    assert_eq!(of(0, &all).0, b"as before");
}

pub(crate) fn a_full_socket_takes_no_more_and_does_not_block<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(1, 8, 4) else {
        return;
    };
    let mut peer = receiver.connect(0);
    assert_eq!(receiver.receive(), []);
    let bytes = pattern(1, 64 << 10);
    let (mut sent, start) = (Vec::new(), Instant::now());
    let mut full = 0;
    // The peer's kernel takes what comes for some time yet.
    while full < 20 {
        assert!(start.elapsed() < FOREVER, "it is never full");
        match receiver.queue.write(Token(0), &bytes) {
            Ok(taken) => sent.extend_from_slice(&bytes[..taken]),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                full += 1;
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let reader = thread::spawn(move || read_to_end(&mut peer).unwrap());
    receiver.queue.close(Token(0), Close::Orderly);
    assert_same(&reader.join().unwrap(), &sent);
}

pub(crate) fn a_token_without_a_connection_is_an_error_or_nothing<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(2, 8, 4) else {
        return;
    };
    let mut peer = receiver.connect(1);
    nobodys_tokens_are_an_error_or_nothing(&mut receiver.queue, [0, 2, u32::MAX]);
    receiver.queue.close(Token(1), Close::Orderly);
    nobodys_tokens_are_an_error_or_nothing(&mut receiver.queue, [1]);
    assert_eq!(read_to_end(&mut peer).unwrap(), b"");
    let mut peer = receiver.connect(1);
    peer.write_all(b"unharmed").unwrap();
    assert_eq!(of(1, &receiver.receive_bytes(8)).0, b"unharmed");
}

/// For any queue, also one that has no kernel: no open connection has these tokens.
pub(crate) fn nobodys_tokens_are_an_error_or_nothing<Q: StreamQueue>(
    queue: &mut Q,
    tokens: impl IntoIterator<Item = u32>,
) {
    for token in tokens.into_iter().map(Token) {
        let error = queue.write(token, b"to nobody").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = queue.queued_bytes(token).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        queue.pause(token);
        queue.resume(token);
        queue.close(token, Close::Reset);
    }
}

pub(crate) fn a_queue_that_is_dropped_ends_its_connections<Q: OpenStreams>() {
    let Some(mut receiver) = Receiver::<Q>::new(3, 8, 4) else {
        return;
    };
    let mut peers = [0, 1, 2].map(|token| receiver.connect(token));
    receiver.queue.pause(Token(1));
    assert_eq!(receiver.receive(), []);
    // Not read: no reason to break what was in order.
    for token in [1, 2] {
        peers[token].write_all(b"too late").unwrap();
        let token = Token(u32::try_from(token).unwrap());
        let start = Instant::now();
        while receiver.queue.queued_bytes(token).unwrap() < 8 {
            assert!(start.elapsed() < FOREVER, "it never came");
        }
    }
    let Receiver { queue, .. } = receiver;
    drop(queue);
    for peer in &mut peers {
        assert_eq!(read_to_end(peer).unwrap(), b"");
    }
}
