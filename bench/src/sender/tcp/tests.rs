use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::patience::Patience;
use crate::result::SenderResult;
use crate::sender::fake::Moments;
use crate::sender::{self, Job, Live, Pacing, Way};

fn send(to: SocketAddr, source: Moments, pacing: Pacing) -> anyhow::Result<SenderResult> {
    let job = Job {
        source: Box::new(source),
        stream: 0,
        to,
        way: Way::Tcp,
        core: None,
        end_ns: 20_000_000,
    };
    let live = Live::new(1);
    let mut results = sender::run(vec![job], pacing, &live, &Patience::default())?;
    Ok(results.remove(0))
}

/// A test may be kept from its processor for a while.
fn patient() -> Pacing {
    Pacing {
        late_max_ns: u64::MAX,
        grace_ns: 10_000_000_000,
        ..Pacing::default()
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    (listener, to)
}

/// Accepts one connection and does something with it.
fn with_peer<T: Send + 'static>(
    listener: TcpListener,
    peer: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::spawn(move || peer(listener.accept().unwrap().0))
}

#[test]
fn frames_arrive_whole_and_in_order_also_at_a_peer_that_reads_slowly() {
    let (listener, to) = listen();
    let peer = with_peer(listener, |mut stream| {
        // Until both buffers are full, and the sender waits.
        thread::sleep(Duration::from_millis(50));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    // 12 MB: more than both ends of a connection hold by themselves.
    let result = send(to, Moments::new([0; 1200], 10_000), patient()).unwrap();
    assert_eq!(
        (result.planned, result.sent, result.partial),
        (1200, 1200, 0)
    );
    assert_eq!(result.bytes, 12_000_000);
    let bytes = peer.join().unwrap();
    assert_eq!(bytes.len(), 12_000_000);
    for (number, frame) in (0_u64..).zip(bytes.chunks(10_000)) {
        assert_eq!(frame[..8], number.to_le_bytes());
    }
}

#[test]
fn a_peer_that_does_not_read_gets_whole_frames_or_the_result_says_partial() {
    let (listener, to) = listen();
    let (done_tx, done) = mpsc::channel();
    let peer = with_peer(listener, move |mut stream| {
        done.recv().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes.len() as u64
    });
    let pacing = Pacing {
        grace_ns: 500_000_000,
        ..patient()
    };
    // 20 MB, more than both ends hold.
    let result = send(to, Moments::new([0; 2000], 10_001), pacing).unwrap();
    done_tx.send(()).unwrap();
    assert_eq!(result.planned, result.sent + result.unsent);
    assert!(result.sent > 0 && result.unsent > 0, "{result:?}");
    // It never took anything again.
    assert!(result.blocked_ns > 300_000_000, "{result:?}");
    let arrived = peer.join().unwrap();
    assert_eq!(arrived / 10_001, result.sent);
    assert_eq!(u64::from(!arrived.is_multiple_of(10_001)), result.partial);
}

#[test]
fn a_peer_that_closes_is_an_error_by_name_and_the_rest_is_unsent() {
    let (listener, to) = listen();
    let peer = with_peer(listener, |mut stream| {
        stream.read_exact(&mut [0; 100]).unwrap();
    });
    // So much that the last of it is still to be taken when the peer has gone.
    let result = send(to, Moments::new([0; 2000], 10_000), patient()).unwrap();
    peer.join().unwrap();
    let errors: u64 = result.errors.values().sum();
    assert_eq!(result.planned, 2000);
    assert_eq!(result.planned, result.sent + result.unsent + errors);
    assert!(result.unsent > 0 && errors > 0, "{result:?}");
    let words = result.errors.first_key_value().unwrap().0;
    assert!(words.contains("the receiver has"), "{words}");
}

#[test]
fn nobody_to_connect_to_is_an_error_that_says_what_to_do() {
    let (listener, to) = listen();
    drop(listener);
    let error = send(to, Moments::new([0], 100), patient()).unwrap_err();
    let text = error.to_string();
    for word in [
        "nothing listens on tcp:127.0.0.1:",
        "refused",
        "start the receiver",
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn what_the_peer_says_is_heard_so_that_it_never_waits() {
    let (listener, to) = listen();
    let peer = with_peer(listener, |mut stream| {
        let said = stream.write_all(&[7; 100_000]);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        said.map(|()| bytes.len())
    });
    let due = (0..200).map(|n| n * 100_000);
    let result = send(to, Moments::new(due, 100), patient()).unwrap();
    assert_eq!(result.sent, 200);
    assert_eq!(peer.join().unwrap().unwrap(), 20_000);
}

/// The reset comes before the connecting side looks, or behind that: who asks without a pause is often fast enough.
#[test]
fn a_connection_that_was_taken_and_reset_at_once_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let refuses = thread::spawn(move || {
        for _ in 0..RESETS {
            let (taken, _) = loop {
                match listener.accept() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => break accepted.unwrap(),
                }
            };
            // Closed with a reset, not with an end.
            let now = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&taken, sockopt::Linger, &now).unwrap();
        }
    });
    for _ in 0..RESETS {
        open(to).unwrap();
    }
    refuses.join().unwrap();
}

const RESETS: usize = 2000;
