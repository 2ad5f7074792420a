use std::io::{Read as _, Write as _};

use binrush_wire::{Builder, Generation};

use super::*;
use crate::plan::Odds;

fn frame(number: i32) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut builder = Builder::new(Generation::Modern, &mut buffer, b"mine", number, 1).unwrap();
    builder.push_str(&[b'x'; 100]).unwrap();
    builder.seal().to_vec()
}

/// What a test runs its traffic through.
struct Proxied {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    running: thread::JoinHandle<Result<TcpTotals, TcpFailed>>,
}

impl Proxied {
    fn start(to: SocketAddr, plan: Plan, delay: Duration, cut_after: Option<u64>) -> Self {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listen.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let proxy = Tcp {
            listen,
            to,
            plan,
            delay,
            cut_after,
            reset: |_| Ok(()),
        };
        let running = thread::spawn({
            let stop = Arc::clone(&stop);
            move || proxy.run_and_drain(&stop, DRAIN)
        });
        Self {
            addr,
            stop,
            running,
        }
    }

    fn stop(self) -> TcpTotals {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join().unwrap().unwrap()
    }
}

fn receiver() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Everything until the end of the stream.
fn read_all(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_stream_arrives_but_for_what_was_lost_and_its_end_too() {
    let (listener, to) = receiver();
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        let plan = Plan {
            lose: Odds::OneIn(100),
            duplicate: Odds::OneIn(250),
            ..Plan::default()
        };
        let proxied = Proxied::start(to, plan, delay, None);
        let mut sender = TcpStream::connect(proxied.addr).unwrap();
        let reading = thread::spawn({
            let listener = listener.try_clone().unwrap();
            move || read_all(&listener)
        });
        for number in 0..1000 {
            sender.write_all(&frame(number)).unwrap();
        }
        sender.shutdown(Shutdown::Write).unwrap();
        let bytes = reading.join().unwrap();
        assert_eq!(bytes.len(), 994 * frame(0).len());
        drop(sender);
        let totals = proxied.stop();
        let counts = totals.counts;
        assert_eq!(
            (counts.received, counts.lost, counts.duplicated),
            (1000, 10, 4)
        );
        assert_eq!(
            (totals.connections, totals.cut, totals.partial_bytes),
            (1, 0, 0)
        );
        assert!(totals.failed.is_empty(), "{totals:?}");
    }
}

#[test]
fn answers_come_back() {
    let (listener, to) = receiver();
    let proxied = Proxied::start(to, Plan::default(), Duration::ZERO, None);
    let mut sender = TcpStream::connect(proxied.addr).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    sender.write_all(&frame(1)).unwrap();
    let mut bytes = vec![0; frame(1).len()];
    receiver.read_exact(&mut bytes).unwrap();
    receiver.write_all(b"pong").unwrap();
    let mut answer = [0; 4];
    sender.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"pong");
    // Both are still open: the stop closes them.
    let totals = proxied.stop();
    assert_eq!(totals.counts.forwarded, 1);
    assert_eq!(receiver.read(&mut bytes).unwrap(), 0);
}

#[test]
fn a_cut_lets_exactly_so_many_bytes_through() {
    let (listener, to) = receiver();
    let cut_after = 10 * frame(0).len() as u64 + 50;
    let proxied = Proxied::start(to, Plan::default(), Duration::ZERO, Some(cut_after));
    let mut sender = TcpStream::connect(proxied.addr).unwrap();
    let sent: Vec<u8> = (0..20).flat_map(frame).collect();
    sender.write_all(&sent).unwrap();
    let bytes = read_all(&listener);
    assert!(bytes == sent[..usize::try_from(cut_after).unwrap()]);
    // The sender's end is closed too.
    sender
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let end = sender.read(&mut [0; 1]);
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    let totals = proxied.stop();
    assert_eq!(
        (totals.cut, totals.kept_back, totals.counts.forwarded),
        (1, 1, 11)
    );
}

#[test]
fn a_receiver_that_is_not_there_is_told_and_the_sender_sees_the_end() {
    let (listener, to) = receiver();
    drop(listener);
    let proxied = Proxied::start(to, Plan::default(), Duration::ZERO, None);
    let mut sender = TcpStream::connect(proxied.addr).unwrap();
    sender
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(sender.read(&mut [0; 1]).unwrap(), 0);
    let totals = proxied.stop();
    assert_eq!(totals.connections, 0);
    assert!(
        totals.failed.keys().any(|error| error.contains("refused")),
        "{totals:?}"
    );
}

#[test]
fn what_was_held_back_at_the_stop_goes_on() {
    let (listener, to) = receiver();
    let plan = Plan {
        reorder: Odds::Chance(1.0),
        distance: 100,
        ..Plan::default()
    };
    let proxied = Proxied::start(to, plan, Duration::ZERO, None);
    let mut sender = TcpStream::connect(proxied.addr).unwrap();
    let sent: Vec<u8> = (0..20).flat_map(frame).collect();
    sender.write_all(&sent).unwrap();
    let reading = thread::spawn(move || read_all(&listener));
    // Not closed by the sender: the stop has to do it, after it has read what was sent.
    let totals = proxied.stop();
    assert_eq!(totals.counts.forwarded, 20);
    assert!(reading.join().unwrap() == sent);
}

/// Writes until there is no room any more.
fn fill(stream: &mut TcpStream, bytes: &[u8]) {
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    while stream.write_all(bytes).is_ok() {}
}

#[test]
fn a_receiver_that_does_not_read_does_not_hold_up_the_end() {
    for delay in [Duration::ZERO, Duration::from_millis(1)] {
        let (listener, to) = receiver();
        let proxied = Proxied::start(to, Plan::default(), delay, None);
        let mut sender = TcpStream::connect(proxied.addr).unwrap();
        // Kept open, and not read.
        let (_receiver, _) = listener.accept().unwrap();
        if delay.is_zero() {
            fill(&mut sender, &frame(1).repeat(500));
        } else {
            // More than the sockets have room for; the rest is under way in the proxy.
            sender.write_all(&frame(1).repeat(200_000)).unwrap();
        }
        let start = std::time::Instant::now();
        let totals = proxied.stop();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(
            totals.failed,
            BTreeMap::from([("the receiver does not read".to_owned(), 1)])
        );
    }
}

#[test]
fn a_sender_that_does_not_read_answers_does_not_hold_up_the_end() {
    let (listener, to) = receiver();
    let proxied = Proxied::start(to, Plan::default(), Duration::ZERO, None);
    let mut sender = TcpStream::connect(proxied.addr).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    sender.write_all(&frame(1)).unwrap();
    fill(&mut receiver, &[7; 60_000]);
    let start = std::time::Instant::now();
    let totals = proxied.stop();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(totals.counts.forwarded, 1);
}

/// Much shorter than in earnest.
const DRAIN: Duration = Duration::from_millis(500);
