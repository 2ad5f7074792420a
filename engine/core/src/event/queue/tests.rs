use super::super::counts::SubscriberSnapshot;
use super::*;
use std::fs;
use std::path::PathBuf;

impl Subscriber {
    fn snapshot(&self) -> SubscriberSnapshot {
        SubscriberSnapshot::from(&self.standing())
    }
}

/// A path of one test's own.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("binrush-queue-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * 1_000_000)
}

#[test]
fn a_reader_that_is_not_there_is_tried_again_later_and_later_and_gets_what_waits() {
    let path = path("gone");
    let mut sockets = Sockets::default();
    let mut subscriber = Subscriber::new(EventSocket::Unix(path.clone()));
    subscriber.offer(at(0), b"one", &mut sockets);
    assert_eq!(subscriber.due(), Some(at(100)));
    assert_eq!(subscriber.snapshot().reach, Reach::Gone);
    // Nobody looks for it before.
    let reader = UnixDatagram::bind(&path).unwrap();
    subscriber.offer(at(99), b"two", &mut sockets);
    subscriber.flush(at(99), &mut sockets);
    assert_eq!(subscriber.queued(), 2);
    drop(reader);
    // What is left behind of it refuses.
    subscriber.flush(at(100), &mut sockets);
    assert_eq!(subscriber.due(), Some(at(300)));
    fs::remove_file(&path).unwrap();
    let reader = UnixDatagram::bind(&path).unwrap();
    subscriber.flush(at(300), &mut sockets);
    let mut buffer = [0; 16];
    for expected in [b"one", b"two"] {
        let len = reader.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
    }
    let snapshot = subscriber.snapshot();
    assert_eq!((snapshot.sent, snapshot.queued), (2, 0));
    assert_eq!((snapshot.reach, subscriber.due()), (Reach::Up, None));
    assert!(snapshot.is_balanced() && !snapshot.trouble.is_empty());
    fs::remove_file(&path).unwrap();
    // It begins anew with the shortest delay, and ends with the longest.
    let mut now = at(1000);
    for delay in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
        match subscriber.queued() {
            0 => subscriber.offer(now, b"three", &mut sockets),
            _ => subscriber.flush(now, &mut sockets),
        }
        now = now.after(delay * 1_000_000);
        assert_eq!(subscriber.due(), Some(now));
    }
}

#[test]
fn a_reader_that_does_not_read_blocks_nobody_and_loses_what_has_no_room_in_its_queue() {
    let path = path("blocked");
    let reader = UnixDatagram::bind(&path).unwrap();
    let mut sockets = Sockets::default();
    let mut subscriber = Subscriber::new(EventSocket::Unix(path.clone()));
    let events = 3 * QUEUE_EVENTS as u64;
    for n in 0..events {
        subscriber.offer(at(0), format!("{n}").as_bytes(), &mut sockets);
    }
    let snapshot = subscriber.snapshot();
    assert_eq!(snapshot.reach, Reach::Blocked);
    assert_eq!(snapshot.queued, QUEUE_EVENTS as u64);
    assert!(snapshot.sent > 0 && snapshot.dropped > 0 && snapshot.is_balanced());
    // In order, and the first ones.
    let kept = snapshot.sent + snapshot.queued;
    let mut buffer = [0; 16];
    for n in 0..kept {
        subscriber.flush(at(10 * (n + 1)), &mut sockets);
        let len = reader.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], format!("{n}").as_bytes());
    }
    assert_eq!(subscriber.snapshot().sent, kept);
    fs::remove_file(&path).unwrap();
}

#[test]
fn what_the_kernel_will_never_take_is_counted_and_the_next_is_sent() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sockets = Sockets::default();
    let to = receiver.local_addr().unwrap();
    let mut subscriber = Subscriber::new(EventSocket::Udp(to));
    // Longer than a datagram of IPv4.
    subscriber.offer(at(0), &vec![b'x'; 65_508], &mut sockets);
    subscriber.offer(at(0), b"short", &mut sockets);
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 5);
    let snapshot = subscriber.snapshot();
    assert_eq!((snapshot.failed, snapshot.sent), (1, 1));
    assert!(snapshot.is_balanced());
}

#[test]
fn who_cannot_be_reached_over_udp_is_tried_again_later_and_later_and_nothing_is_lost_before_there_is_no_room()
 {
    let mut sockets = Sockets::default();
    // A socket that did not ask for it may not send there. (socket(7), `SO_BROADCAST`.)
    let mut subscriber = Subscriber::new("udp:255.255.255.255:9".parse().unwrap());
    let mut now = at(0);
    for delay in [100, 200, 400] {
        for _ in 0..10 {
            subscriber.offer(now, b"event", &mut sockets);
            subscriber.flush(now, &mut sockets);
        }
        now = now.after(delay * 1_000_000);
        assert_eq!(subscriber.due(), Some(now), "tried once");
    }
    let snapshot = subscriber.snapshot();
    assert_eq!(snapshot.reach, Reach::Failing);
    assert_eq!(
        (snapshot.queued, snapshot.failed, snapshot.sent),
        (30, 0, 0)
    );
    assert!(snapshot.is_balanced() && snapshot.trouble.contains("ermission denied"));
}

#[test]
fn nobody_at_a_port_is_no_trouble_as_nobody_says_so() {
    let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut subscriber = Subscriber::new(EventSocket::Udp(reader.local_addr().unwrap()));
    drop(reader);
    let mut sockets = Sockets::default();
    for _ in 0..5 {
        subscriber.offer(at(0), b"event", &mut sockets);
    }
    let snapshot = subscriber.snapshot();
    assert_eq!((snapshot.sent, snapshot.reach), (5, Reach::Up));
}

#[test]
fn what_the_kernel_says_is_told_apart() {
    let path = EventSocket::Unix("/run/e.sock".into());
    let port: EventSocket = "udp:127.0.0.1:9".parse().unwrap();
    let says = |socket, code| lack(socket, &io::Error::from_raw_os_error(code));
    for (code, at_path, at_port) in [
        (libc::EMSGSIZE, None, None),
        (libc::EAGAIN, Some(Reach::Blocked), Some(Reach::Blocked)),
        (libc::ENOENT, Some(Reach::Gone), Some(Reach::Failing)),
        (libc::ECONNREFUSED, Some(Reach::Gone), Some(Reach::Failing)),
        (libc::EACCES, Some(Reach::Denied), Some(Reach::Failing)),
        (libc::EPERM, Some(Reach::Denied), Some(Reach::Failing)),
        (
            libc::ENETUNREACH,
            Some(Reach::Failing),
            Some(Reach::Failing),
        ),
        (libc::EMFILE, Some(Reach::Failing), Some(Reach::Failing)),
    ] {
        let told = (says(&path, code), says(&port, code));
        assert_eq!(told, (at_path, at_port), "{code}");
    }
}

#[test]
fn ipv6_is_sent_from_a_socket_of_its_own() {
    let Ok(receiver) = UdpSocket::bind("[::1]:0") else {
        return eprintln!("SKIPPED ipv6_is_sent_from_a_socket_of_its_own: no IPv6 here");
    };
    let to = receiver.local_addr().unwrap();
    let mut subscriber = Subscriber::new(EventSocket::Udp(to));
    subscriber.offer(at(0), b"six", &mut Sockets::default());
    assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 3);
}
