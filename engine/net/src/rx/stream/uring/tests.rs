use super::*;
use crate::loopback;
use crate::rx::stream::conformance::{Receiver, Seen, conformance, pattern};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

conformance!(UringStreams);

/// The same, with receives that fill several frames.
mod bundled {
    use super::*;

    /// [`UringStreams`] as nobody gets it without asking.
    struct Bundled(UringStreams);

    conformance!(Bundled:
        the_bytes_of_many_connections_come_in_order
        a_long_stream_comes_whole_through_few_frames
        a_flooding_connection_does_not_keep_others_from_their_turn
        many_floods_share_the_frames
        the_end_comes_after_the_bytes_once_and_writing_goes_on
        a_paused_connection_holds_its_sender_up_and_loses_nothing
        pausing_and_resuming_between_receives_loses_nothing
        nothing_of_a_closed_connection_comes_under_its_token_again
        closing_what_still_sends_lets_the_others_go_on
        every_frame_comes_back_and_a_disarmed_queue_receives_again
    );

    impl OpenStreams for Bundled {
        fn open(connections_max: usize) -> io::Result<Self> {
            let queue = UringStreams::with_options(UringOptions {
                connections_max,
                frames: FRAMES,
                bundles: true,
            })?;
            if queue.bundles() {
                return Ok(Self(queue));
            }
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
    }

    impl StreamQueue for Bundled {
        type Socket = TcpSocket;

        fn add(&mut self, token: Token, socket: TcpSocket) -> Result<(), (TcpSocket, io::Error)> {
            self.0.add(token, socket)
        }

        fn recv(&mut self, slab: &mut Slab, batch: &mut StreamBatch) -> io::Result<()> {
            self.0.recv(slab, batch)
        }

        fn pause(&mut self, token: Token) {
            self.0.pause(token);
        }

        fn resume(&mut self, token: Token) {
            self.0.resume(token);
        }

        fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(token, bytes)
        }

        fn queued_bytes(&self, token: Token) -> io::Result<u64> {
            self.0.queued_bytes(token)
        }

        fn close(&mut self, token: Token, how: Close) {
            self.0.close(token, how);
        }

        fn disarm(&mut self, slab: &mut Slab) {
            self.0.disarm(slab);
        }

        fn as_raw_fd(&self) -> Option<RawFd> {
            self.0.as_raw_fd()
        }

        fn is_ready(&mut self) -> bool {
            self.0.is_ready()
        }
    }
}

fn receiver(
    connections_max: usize,
    frames: usize,
    pieces: usize,
) -> Option<Receiver<UringStreams>> {
    Receiver::new(connections_max, frames, pieces)
}

#[test]
fn completions_without_a_place_wait_in_the_kernel_and_are_not_lost() {
    let options = UringOptions {
        connections_max: 100,
        frames: 128,
        bundles: false,
    };
    // As few as the kernel lets there be, which is one for each request that is submitted at once.
    let queue = match UringStreams::with_completions(options, 1) {
        Ok(queue) => queue,
        Err(error) => return loopback::skip(&error.to_string()),
    };
    let mut receiver = Receiver::with(queue, 160, 128);
    for token in 0..100 {
        // Complete as soon as they are armed, with bytes and with the end.
        let mut peer = receiver.connect(token);
        peer.write_all(&token.to_ne_bytes()).unwrap();
    }
    let queue = &mut receiver.queue;
    queue.start().unwrap();
    queue.buffers.lend(&mut receiver.slab, 128);
    queue.request();
    queue.enter().unwrap();
    assert!(
        queue.ring.submission().cq_overflow(),
        "none was without a place"
    );
    let is_end = |(_, seen): &(u32, Seen)| *seen == Seen::End;
    let mut all =
        receiver.receive_until(|all| all.iter().filter(|seen| is_end(seen)).count() >= 100);
    // Stable: bytes stay before the end.
    all.sort_by_key(|(token, _)| *token);
    let expected = (0..100_u32).flat_map(|token| {
        let bytes = Seen::Bytes(token.to_ne_bytes().to_vec());
        [(token, bytes), (token, Seen::End)]
    });
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert!(!receiver.queue.ring.submission().cq_overflow());
}

/// A queue of which the kernel has completions, some of them in the queue of those and some without a place in it, and the
/// other ends of its connections: the bytes of each are their token.
fn overflowing() -> Option<(Receiver<UringStreams>, Vec<TcpStream>)> {
    let options = UringOptions {
        connections_max: 100,
        frames: 128,
        bundles: false,
    };
    let queue = match UringStreams::with_completions(options, 1) {
        Ok(queue) => queue,
        Err(error) => {
            loopback::skip(&error.to_string());
            return None;
        }
    };
    let mut receiver = Receiver::with(queue, 160, 300);
    let peers: Vec<TcpStream> = (0..100_u32)
        .map(|token| {
            let mut peer = receiver.connect(token);
            peer.write_all(&token.to_ne_bytes()).unwrap();
            peer
        })
        .collect();
    // As one receive begins that is not carried out.
    let queue = &mut receiver.queue;
    queue.start().unwrap();
    queue.slab = Some(receiver.slab.id());
    queue.buffers.lend(&mut receiver.slab, 128);
    queue.request();
    queue.enter().unwrap();
    // Each ends its request, which had only begun to wait.
    for token in 0..100 {
        queue.pause(Token(token));
    }
    queue.request();
    queue.enter().unwrap();
    assert!(
        queue.ring.submission().cq_overflow(),
        "none was without a place"
    );
    Some((receiver, peers))
}

#[test]
fn what_the_kernel_had_to_say_when_a_queue_is_disarmed_is_not_believed_of_other_frames() {
    let Some((mut receiver, mut peers)) = overflowing() else {
        return;
    };
    receiver.queue.disarm(&mut receiver.slab);
    assert_eq!(receiver.slab.free(), 160);
    assert!(!receiver.queue.ring.submission().cq_overflow());
    (0..100).for_each(|token| receiver.queue.resume(Token(token)));
    for peer in &mut peers {
        peer.write_all(b"next").unwrap();
    }
    // Each has lost its first bytes, and is told so in place of what came then.
    let mut all = receiver.receive_until(|all| all.len() >= 100);
    all.extend(receiver.receive_for(Duration::from_millis(20)));
    all.sort_by_key(|(token, _)| *token);
    let failed = |token| (token, Seen::Failed(libc::ECONNABORTED));
    assert_eq!(all, (0..100).map(failed).collect::<Vec<_>>());
    receiver.queue.disarm(&mut receiver.slab);
    assert_eq!(receiver.slab.free(), 160);
}

#[test]
fn a_completion_that_was_dropped_fails_whoever_it_may_have_been_of() {
    let Some(mut receiver) = receiver(4, 8, 8) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..3).map(|token| receiver.connect(token)).collect();
    receiver.queue.pause(Token(2));
    assert_eq!(receiver.receive(), []);
    // As if the kernel had counted one more.
    receiver.queue.dropped = receiver.queue.dropped.wrapping_sub(1);
    peers[0].write_all(b"before").unwrap();
    let all = receiver.receive_until(|all| all.len() >= 3);
    let failed = Seen::Failed(libc::ECONNABORTED);
    let before = Seen::Bytes(b"before".to_vec());
    assert_eq!(all, [(0, before), (0, failed.clone()), (1, failed)]);
    // Who had no request lost nothing, and nobody else's frames.
    receiver.queue.resume(Token(2));
    peers[2].write_all(b"goes on").unwrap();
    peers[0].write_all(b"too late").unwrap();
    let all = receiver.receive_bytes(7);
    assert_eq!(all, [(2, Seen::Bytes(b"goes on".to_vec()))]);
    assert_eq!(receiver.receive_for(Duration::from_millis(20)), []);
    receiver.queue.disarm(&mut receiver.slab);
    assert_eq!(receiver.slab.free(), 8);
}

#[test]
fn a_cancellation_that_finds_nothing_is_made_again_only_while_there_is_what_it_is_for() {
    for errno in [libc::ENOENT, libc::EALREADY] {
        let Some(mut receiver) = receiver(2, 8, 4) else {
            return;
        };
        let _peer = receiver.connect(0);
        assert_eq!(receiver.receive(), []);
        let queue = &mut receiver.queue;
        let key = queue.places[0].key(Token(0));
        queue.note_cancel(key, -errno);
        assert_eq!(queue.cancels, [], "nobody wanted it to end");
        queue.pause(Token(0));
        assert_eq!(queue.cancels.pop(), Some(key));
        queue.note_cancel(key, 0);
        assert_eq!(queue.cancels, [], "it was found");
        queue.note_cancel(key, -errno);
        assert_eq!(queue.cancels.pop(), Some(key));
        // Wanted again meanwhile: the request goes on, and can be ended another time.
        queue.resume(Token(0));
        queue.note_cancel(key, -errno);
        assert_eq!(queue.cancels, []);
        queue.pause(Token(0));
        assert_eq!(queue.cancels, [key]);
        // It ends before it is cancelled.
        queue.places[0].connection.as_mut().unwrap().armed = false;
        queue.request();
        assert!(queue.ring.submission().is_empty());
    }
}

#[test]
fn a_kernel_that_never_has_memory_for_requests_is_not_asked_without_end() {
    let Some(mut receiver) = receiver(2, 8, 4) else {
        return;
    };
    let _peer = receiver.connect(0);
    assert_eq!(receiver.receive(), []);
    let Receiver { queue, batch, .. } = &mut receiver;
    let key = queue.places[0].key(Token(0));
    let mut round = |errno: libc::c_int| {
        queue.note(key, -errno, batch);
        queue.check_memory().map_err(|error| error.kind())
    };
    assert_eq!([libc::ENOMEM; 3].map(&mut round), [Ok(()); 3]);
    assert_eq!(round(libc::ENOBUFS), Ok(()), "it had some");
    assert_eq!([libc::ENOMEM; 3].map(&mut round), [Ok(()); 3]);
    assert_eq!(round(libc::ENOMEM), Err(io::ErrorKind::OutOfMemory));
    assert_eq!(round(libc::ENOMEM), Ok(()), "the next receive asks again");
    assert!(batch.is_empty(), "nobody has failed");
}

#[test]
fn who_found_no_frame_is_armed_before_who_did() {
    let Some(mut receiver) = receiver(3, 4, 4) else {
        return;
    };
    let _peers: Vec<TcpStream> = (0..3).map(|token| receiver.connect(token)).collect();
    let queue = &mut receiver.queue;
    // As completions leave them: the first had something and then found no frame, the others found none.
    queue.fed.clear();
    for place in &mut queue.places {
        place.in_line = false;
    }
    queue.places[0].connection.as_mut().unwrap().fed = true;
    (0..3).for_each(|token| queue.line_up(Token(token), true));
    assert_eq!(queue.hungry, [Token(1), Token(2)]);
    assert_eq!(queue.fed, [Token(0)]);
    // None stands in two lines, or twice in one.
    (0..3).for_each(|token| queue.line_up(Token(token), true));
    assert_eq!((queue.hungry.len(), queue.fed.len()), (2, 1));
}

#[test]
fn the_kernel_has_few_frames_for_one_connection_and_more_for_many() {
    let Some(mut receiver) = receiver(40, 64, 64) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..40).map(|token| receiver.connect(token)).collect();
    assert_eq!(receiver.receive(), []);
    assert_eq!(receiver.queue.share, 4);
    for _ in 0..3 {
        peers
            .iter_mut()
            .for_each(|peer| peer.write_all(b"few").unwrap());
        receiver.receive_bytes(3 * 40);
    }
    let most = receiver.queue.share;
    assert!(most > 4 && most <= FRAMES, "{most} frames");
    for _ in 0..3 {
        peers[0].write_all(b"alone").unwrap();
        receiver.receive_bytes(5);
    }
    assert_eq!(receiver.queue.share, 4);
}

#[test]
fn bytes_that_a_disarmed_queue_gave_up_are_a_failure_and_no_gap() {
    // Batches of one piece, so that the others wait.
    let Some(mut receiver) = receiver(3, 8, 1) else {
        return;
    };
    let mut peers: Vec<TcpStream> = (0..3).map(|token| receiver.connect(token)).collect();
    assert_eq!(receiver.receive(), []);
    // As many frames as with larger batches.
    receiver.queue.buffers.lend(&mut receiver.slab, 4);
    peers
        .iter_mut()
        .for_each(|peer| peer.write_all(b"lost").unwrap());
    let first = receiver.receive_bytes(4);
    assert_eq!(receiver.queue.came.len(), 2, "two wait");
    receiver.queue.disarm(&mut receiver.slab);
    assert_eq!(receiver.slab.free(), 8);
    peers
        .iter_mut()
        .for_each(|peer| peer.write_all(b"next").unwrap());
    let mut all = receiver.receive_until(|all| all.len() >= 3);
    all.sort_by_key(|(token, _)| *token);
    let kept = first[0].0;
    let failed = Seen::Failed(libc::ECONNABORTED);
    for (token, seen) in all {
        let next = Seen::Bytes(b"next".to_vec());
        assert_eq!(seen, if token == kept { next } else { failed.clone() });
    }
    assert_eq!(receiver.receive_for(Duration::from_millis(20)), []);
}

#[test]
fn a_kernel_short_of_memory_is_told_of_and_loses_nothing() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EBADR] {
        let Some(mut receiver) = receiver(2, 8, 4) else {
            return;
        };
        // On a thread of its own: a seccomp filter is there for its life, and so is the ring its own.
        let done = thread::spawn(move || {
            let mut closed = receiver.connect(0);
            let mut stays = receiver.connect(1);
            stays.write_all(b"kept").unwrap();
            let fd = receiver.queue.socket(Token(0)).unwrap().as_raw_fd();
            if let Err(error) = loopback::forbid(libc::SYS_io_uring_enter, errno) {
                loopback::skip(&format!("no seccomp filter: {error}"));
                return None;
            }
            let Receiver {
                queue, slab, batch, ..
            } = &mut receiver;
            let error = queue.recv(slab, batch).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(batch.is_empty() && queue.is_ready());
            // Its request is written and names the descriptor: nobody else may get that yet.
            queue.close(Token(0), Close::Orderly);
            assert_eq!(queue.parting[0].as_raw_fd(), fd);
            let mut bytes = Vec::new();
            closed.read_to_end(&mut bytes).unwrap();
            Some(queue.queued_bytes(Token(1)).unwrap())
        });
        assert!(matches!(done.join().unwrap(), None | Some(4)));
    }
}

#[test]
fn a_closed_connection_whose_request_was_not_taken_gives_its_descriptor_back_later() {
    let Some(mut receiver) = receiver(2, 8, 4) else {
        return;
    };
    let _closed = receiver.connect(0);
    let mut stays = receiver.connect(1);
    // As a kernel short of memory leaves it: requests written, none taken.
    receiver.queue.request();
    receiver.queue.close(Token(0), Close::Reset);
    assert_eq!(receiver.queue.parting.len(), 1);
    stays.write_all(b"goes on").unwrap();
    assert_eq!(
        receiver.receive_bytes(7),
        [(1, Seen::Bytes(b"goes on".to_vec()))]
    );
    assert!(receiver.queue.parting.is_empty());
}

#[test]
fn a_receive_that_finds_nothing_is_no_system_call() {
    let Some(mut receiver) = receiver(2, 8, 4) else {
        return;
    };
    let done = thread::spawn(move || {
        let mut peer = receiver.connect(0);
        // The second is the one that finds that the kernel has nothing more to do.
        assert_eq!((receiver.receive(), receiver.receive()), (vec![], vec![]));
        let filtered = loopback::forbid(libc::SYS_io_uring_enter, libc::EPERM);
        if let Err(error) = filtered {
            return loopback::skip(&format!("no seccomp filter: {error}"));
        }
        (0..10).for_each(|_| assert_eq!(receiver.receive(), []));
        peer.write_all(b"now it is one").unwrap();
        let start = Instant::now();
        let Receiver {
            queue, slab, batch, ..
        } = &mut receiver;
        while queue.recv(slab, batch).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
    });
    done.join().unwrap();
}

#[test]
fn a_queue_opened_on_another_thread_works_and_one_that_has_worked_stays() {
    let Some(mut receiver) = receiver(1, 8, 4) else {
        return;
    };
    let mut peer = receiver.connect(0);
    let received = thread::spawn(move || {
        peer.write_all(&pattern(1, 100)).unwrap();
        assert_eq!(receiver.receive_bytes(100).len(), 1);
        peer.write_all(b"for nobody").unwrap();
        (receiver, peer)
    });
    let (mut receiver, _peer) = received.join().unwrap();
    receiver.queue.ask = true;
    let Receiver {
        queue, slab, batch, ..
    } = &mut receiver;
    let error = queue.recv(slab, batch).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
}

#[test]
fn where_io_uring_is_missing_forbidden_or_too_old_opening_says_so() {
    use libc::{SYS_io_uring_register as REGISTER, SYS_io_uring_setup as SETUP};
    for (call, errno, kind, words) in [
        (
            SETUP,
            libc::ENOSYS,
            io::ErrorKind::Unsupported,
            "has no io_uring",
        ),
        (
            SETUP,
            libc::EPERM,
            io::ErrorKind::PermissionDenied,
            "kernel.io_uring_disabled",
        ),
        (
            SETUP,
            libc::EINVAL,
            io::ErrorKind::Unsupported,
            "needs Linux 6.1",
        ),
        (
            REGISTER,
            libc::EINVAL,
            io::ErrorKind::Unsupported,
            "needs Linux 6.1",
        ),
    ] {
        // On a thread of its own: a seccomp filter is there for its life.
        let opened = thread::spawn(move || {
            loopback::forbid(call, errno).map(|()| UringStreams::open(4).map(drop))
        });
        match opened.join().unwrap() {
            Err(error) => loopback::skip(&format!("no seccomp filter: {error}")),
            Ok(opened) => {
                let error = opened.unwrap_err();
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains(words), "{error}");
            }
        }
    }
}
