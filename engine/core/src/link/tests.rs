//! Links to peers of flesh and blood: sockets of this host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use binrush_net::{TcpOptions, TcpSocket};

use super::*;
use crate::loopback;

/// The same inside TLS.
mod secure;
/// What links tell, and what peers say.
mod told;

/// Far longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> Links {
    let config = LinksConfig { links: 4, seed: 7 };
    Links::start(&config).unwrap()
}

fn peer() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A link that gives up and tries again fast.
fn quick(to: SocketAddr) -> LinkConfig {
    let mut config = LinkConfig::new(endpoint(to));
    config.limits.backoff_min = Duration::from_millis(5);
    config.limits.backoff_max = Duration::from_millis(20);
    config
}

fn endpoint(addr: SocketAddr) -> Endpoint {
    format!("bin:{addr}").parse().unwrap()
}

/// A packet that tells its length, and which one it is.
fn packet(number: u32, len: usize) -> Vec<u8> {
    let mut packet = vec![number.to_le_bytes()[0]; len];
    packet[..4].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    packet[4..8].copy_from_slice(&number.to_le_bytes());
    packet
}

/// The next packet of a connection; `None` at its end, or within a packet.
fn read_packet(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 8];
    connection.read_exact(&mut head).ok()?;
    let [len, number] = [&head[..4], &head[4..]];
    let [len, number] = [len, number].map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let mut bytes = head.to_vec();
    bytes.resize(len as usize, 0);
    connection.read_exact(&mut bytes[8..]).ok()?;
    assert_eq!(bytes, packet(number, len as usize), "a packet in another");
    Some(bytes)
}

fn number(packet: &[u8]) -> u32 {
    u32::from_le_bytes(packet[4..8].try_into().unwrap())
}

/// Waits until the only link's counts are as `wanted`.
fn until(links: &Links, wanted: impl Fn(&LinkCounts) -> bool) -> LinkCounts {
    let start = Instant::now();
    loop {
        let counts = links.counts().remove(0);
        assert!(counts.is_balanced(), "{counts:?}");
        if wanted(&counts) {
            return counts;
        }
        assert!(start.elapsed() < PATIENCE, "{counts:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn packets_reach_a_peer_whole_and_in_order_by_each_family() {
    for ip in loopback::addresses() {
        let peer = TcpListener::bind((ip, 0)).unwrap();
        let links = start();
        let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
        for number in 0..2000 {
            let packet = packet(number, 8 + number as usize % 700);
            links.send(link, Lane::Bulk, &packet).unwrap();
        }
        let (mut connection, _) = peer.accept().unwrap();
        let numbers = (0..2000).map(|_| number(&read_packet(&mut connection).unwrap()));
        assert!(numbers.eq(0..2000));
        let counts = until(&links, |counts| counts.sent == 2000);
        assert_eq!((counts.up, counts.connects, counts.lost), (true, 1, 0));
        assert_eq!(
            counts.sent_bytes,
            (0..2000).map(|number| 8 + number % 700).sum::<u64>()
        );
        assert_eq!(counts.to, format!("bin:{}", peer.local_addr().unwrap()));
    }
}

#[test]
fn the_connection_comes_from_the_address_that_was_set() {
    let peer = peer();
    let links = start();
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    let mut config = quick(peer.local_addr().unwrap());
    config.bind = Some(from);
    links.add(config).unwrap();
    assert_eq!(peer.accept().unwrap().1.ip(), from);
}

#[test]
fn control_goes_ahead_of_the_bulk_that_waits() {
    let addr = peer().local_addr().unwrap();
    let links = start();
    let link = links.add(quick(addr)).unwrap();
    until(&links, |counts| counts.connect_failures > 0);
    for number in 0..100 {
        let lane = if number < 90 {
            Lane::Bulk
        } else {
            Lane::Control
        };
        links.send(link, lane, &packet(number, 50)).unwrap();
    }
    let peer = TcpListener::bind(addr).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    let numbers = (0..100).map(|_| number(&read_packet(&mut connection).unwrap()));
    assert!(numbers.eq((90..100).chain(0..90)));
    assert_eq!(until(&links, |counts| counts.sent == 100).postponed, 100);
}

#[test]
fn who_never_reads_is_dropped_and_keeps_nobody_from_sending() {
    let (deaf, healthy) = (peer(), peer());
    let links = start();
    let mut config = quick(deaf.local_addr().unwrap());
    config.limits.write_deadline = Duration::from_millis(150);
    config.limits.queue_bytes = 256 << 10;
    let stuck = links.add(config).unwrap();
    let link = links.add(quick(healthy.local_addr().unwrap())).unwrap();
    // Taken, so that it is the window that closes and not the backlog that is full.
    let (held, _) = deaf.accept().unwrap();
    let (mut connection, _) = healthy.accept().unwrap();
    let mut refused = 0;
    let mut sent = 0;
    let begin = Instant::now();
    while links.counts()[0].breaks == 0 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", links.counts());
        let bulk = packet(1, 32 << 10);
        refused += u64::from(links.send(stuck, Lane::Bulk, &bulk) == Err(Refused::Full));
        // Control has room of its own.
        links.send(link, Lane::Control, &packet(sent, 100)).unwrap();
        assert_eq!(number(&read_packet(&mut connection).unwrap()), sent);
        sent += 1;
    }
    let counts = &links.counts()[0];
    assert!(
        counts.last_failure.contains("took nothing for 150ms"),
        "{counts:?}"
    );
    assert!(
        refused > 0 && counts.refused == refused && counts.is_balanced(),
        "{counts:?}"
    );
    assert!(
        counts.lost >= 1 && counts.waiting_bytes <= 256 << 10,
        "{counts:?}"
    );
    assert_eq!(
        (links.counts()[1].breaks, links.counts()[1].refused),
        (0, 0)
    );
    drop(held);
}

#[test]
fn after_a_reset_within_a_packet_the_next_connection_begins_with_a_whole_one() {
    let peer = peer();
    let links = start();
    let mut config = quick(peer.local_addr().unwrap());
    config.limits.queue_bytes = 64 << 20;
    let link = links.add(config).unwrap();
    // More than the buffers of both kernels take, so that one is half written.
    let count = 600;
    for number in 0..count {
        links
            .send(link, Lane::Bulk, &packet(number, 60_000))
            .unwrap();
    }
    let (mut connection, _) = peer.accept().unwrap();
    let first = number(&read_packet(&mut connection).unwrap());
    assert_eq!(first, 0);
    let before = until(&links, |counts| {
        counts.sent > 1 && counts.sent_bytes % 60_000 != 0
    });
    TcpSocket::from_stream(connection).unwrap().reset();
    let (mut connection, _) = peer.accept().unwrap();
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(count - 1)) {
        numbers.push(number(&read_packet(&mut connection).unwrap()));
    }
    assert!(numbers.is_sorted() && numbers[0] > 1, "{}", numbers[0]);
    let counts = until(&links, |counts| counts.waiting == 0);
    assert_eq!((counts.breaks, counts.lost, counts.connects), (1, 1, 2));
    assert!(counts.last_failure.contains("reset"), "{counts:?}");
    // What the kernel had counts as sent, and the one that was begun as lost: all others came.
    assert!(u64::from(numbers[0]) > before.sent, "{before:?}");
    assert_eq!(
        numbers.len() as u64 + u64::from(numbers[0]),
        u64::from(count)
    );
}

#[test]
fn packets_wait_for_a_peer_that_refuses_and_comes_later() {
    let addr = peer().local_addr().unwrap();
    let links = start();
    let link = links.add(quick(addr)).unwrap();
    (0..10).for_each(|number| links.send(link, Lane::Bulk, &packet(number, 100)).unwrap());
    let counts = until(&links, |counts| counts.connect_failures >= 3);
    assert!(counts.last_failure.contains("refused"), "{counts:?}");
    assert_eq!(
        (counts.waiting, counts.postponed, counts.up),
        (10, 10, false)
    );
    let peer = TcpListener::bind(addr).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    let numbers = (0..10).map(|_| number(&read_packet(&mut connection).unwrap()));
    assert!(numbers.eq(0..10));
}

#[test]
fn a_slow_peer_gets_everything() {
    let peer = peer();
    let links = start();
    let mut config = quick(peer.local_addr().unwrap());
    config.limits.write_deadline = Duration::from_secs(5);
    let link = links.add(config).unwrap();
    let reader = thread::spawn(move || {
        let (mut connection, _) = peer.accept().unwrap();
        let mut numbers = Vec::new();
        while let Some(packet) = read_packet(&mut connection) {
            numbers.push(number(&packet));
            if numbers.len().is_multiple_of(100) {
                thread::sleep(Duration::from_millis(2));
            }
        }
        numbers
    });
    let mut queued = 0;
    while queued < 10_000 {
        match links.send(link, Lane::Bulk, &packet(queued, 1500)) {
            Ok(()) => queued += 1,
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    let counts = links.stop(PATIENCE).remove(0);
    assert_eq!((counts.sent, counts.lost, counts.breaks), (10_000, 0, 0));
    assert!(reader.join().unwrap().into_iter().eq(0..10_000));
}

#[test]
fn an_orderly_end_is_seen_at_once_and_answered_when_there_is_something_to_send() {
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (connection, _) = peer.accept().unwrap();
    until(&links, |counts| counts.up);
    drop(connection);
    let counts = until(&links, |counts| !counts.up);
    assert!(counts.last_failure.contains("closed"), "{counts:?}");
    thread::sleep(Duration::from_millis(60));
    let counts = links.counts().remove(0);
    assert_eq!(
        (counts.connects, counts.connect_failures),
        (1, 0),
        "for nothing"
    );
    links.send(link, Lane::Bulk, &packet(5, 100)).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    assert_eq!(number(&read_packet(&mut connection).unwrap()), 5);
}

#[test]
fn what_a_peer_answers_is_counted_and_thrown_away() {
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    connection.write_all(&[7; 100_000]).unwrap();
    let begin = Instant::now();
    while links.rx_bytes(link) != Some(100_000) {
        assert!(begin.elapsed() < PATIENCE, "{:?}", links.rx_bytes(link));
        thread::sleep(Duration::from_millis(1));
    }
    assert!(links.counts()[0].up);
}

#[test]
fn old_packets_are_given_up() {
    let addr = peer().local_addr().unwrap();
    let links = start();
    let mut config = quick(addr);
    config.limits.age_max = Duration::from_millis(100);
    let link = links.add(config).unwrap();
    (0..10).for_each(|number| links.send(link, Lane::Bulk, &packet(number, 100)).unwrap());
    let begin = Instant::now();
    let counts = until(&links, |counts| counts.waiting == 0);
    assert!(begin.elapsed() >= Duration::from_millis(90));
    assert_eq!((counts.lost, counts.waiting_bytes), (10, 0));
}

#[test]
fn a_host_that_does_not_answer_is_given_up_in_time() {
    // A listener that is full drops what comes: no answer, as from a host that is not there.
    let options = TcpOptions {
        backlog: 1,
        ..TcpOptions::default()
    };
    let full = binrush_net::TcpListener::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let addr = full.local_addr().unwrap();
    let fill = |_| TcpSocket::connect(addr, None, &TcpOptions::default()).unwrap();
    let held: Vec<_> = (0..8).map(fill).collect();
    thread::sleep(Duration::from_millis(20));
    let links = start();
    let mut config = quick(addr);
    config.limits.connect_timeout = Duration::from_millis(50);
    let link = links.add(config).unwrap();
    links.send(link, Lane::Bulk, &packet(1, 100)).unwrap();
    let counts = until(&links, |counts| counts.connect_failures > 0);
    assert!(
        counts
            .last_failure
            .contains("no answer to connect for 50ms"),
        "{counts:?}"
    );
    assert_eq!(counts.waiting, 1);
    // Nor does it hold up a stop for longer than it may.
    let begin = Instant::now();
    let counts = links.stop(Duration::from_millis(100)).remove(0);
    assert!(begin.elapsed() < PATIENCE / 2);
    assert_eq!((counts.lost, counts.waiting), (1, 0));
    drop(held);
}

#[test]
fn a_stop_writes_what_waits_and_takes_nothing_more() {
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let other = links.clone();
    let (mut connection, _) = peer.accept().unwrap();
    // What the peer said and nobody read would turn the end into a reset.
    connection.write_all(b"never mind").unwrap();
    (0..1000).for_each(|number| links.send(link, Lane::Bulk, &packet(number, 1000)).unwrap());
    let reader = thread::spawn(move || {
        let numbers = std::iter::from_fn(|| read_packet(&mut connection));
        let count = numbers.count();
        (count, connection.read(&mut [0; 1]).unwrap())
    });
    let counts = links.stop(PATIENCE).remove(0);
    assert_eq!((counts.sent, counts.lost, counts.up), (1000, 0, false));
    assert_eq!(reader.join().unwrap(), (1000, 0));
    assert_eq!(other.send(link, Lane::Control, &[1]), Err(Refused::Stopped));
    assert_eq!(
        other.add(quick(peer.local_addr().unwrap())),
        Err(LinkError::Stopped)
    );
    assert!(!other.is_running());
    assert_eq!(other.counts()[0].refused, 1);
}

#[test]
fn a_stop_does_not_wait_for_who_is_not_there() {
    let addr = peer().local_addr().unwrap();
    let links = start();
    let link = links.add(quick(addr)).unwrap();
    links.send(link, Lane::Bulk, &packet(1, 100)).unwrap();
    until(&links, |counts| counts.connect_failures > 0);
    let begin = Instant::now();
    let counts = links.stop(PATIENCE).remove(0);
    assert!(begin.elapsed() < PATIENCE / 2);
    assert_eq!((counts.queued, counts.lost), (1, 1));
}

#[test]
fn a_link_that_is_removed_ends_in_order_and_its_number_is_no_other_links() {
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    (0..100).for_each(|number| links.send(link, Lane::Bulk, &packet(number, 100)).unwrap());
    let reader = thread::spawn(move || std::iter::from_fn(|| read_packet(&mut connection)).count());
    let counts = links.remove(link).unwrap();
    assert_eq!((counts.sent, counts.lost), (100, 0));
    assert_eq!(reader.join().unwrap(), 100);
    assert_eq!((links.remove(link), links.counts()), (None, Vec::new()));
    let next = links.add(quick(peer.local_addr().unwrap())).unwrap();
    assert_ne!(link, next);
    assert_eq!(links.send(link, Lane::Bulk, &[1]), Err(Refused::Unknown));
    links.send(next, Lane::Bulk, &[1]).unwrap();
}

#[test]
fn a_link_that_is_removed_later_is_not_waited_for_and_makes_room() {
    let peer = peer();
    let links = Links::start(&LinksConfig { links: 1, seed: 7 }).unwrap();
    let first = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    links.send(first, Lane::Bulk, &packet(1, 100)).unwrap();
    links.remove_later(first);
    // What waited is written all the same, and the connection ends in order.
    assert_eq!(number(&read_packet(&mut connection).unwrap()), 1);
    assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
    drop(connection);
    let start = Instant::now();
    let second = loop {
        match links.add(quick(peer.local_addr().unwrap())) {
            Ok(second) => break second,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_ne!(first, second);
    let gone = links.send(first, Lane::Bulk, &packet(2, 100));
    assert_eq!(gone, Err(Refused::Unknown));
    links.remove_later(first);
    assert_eq!(links.health(first), None);
    assert!(links.health(second).is_some(), "that was another one");
    links.stop(Duration::ZERO);
    links.remove_later(second);
    assert_eq!(links.health(second), None);
}

#[test]
fn a_nudge_finds_a_peer_that_came_back_long_before_the_next_attempt() {
    let addr = peer().local_addr().unwrap();
    let links = start();
    let mut config = quick(addr);
    config.limits.backoff_min = Duration::from_secs(3600);
    config.limits.backoff_max = Duration::from_secs(3600);
    let link = links.add(config).unwrap();
    until(&links, |counts| counts.connect_failures == 1);
    let peer = TcpListener::bind(addr).unwrap();
    links.nudge(link);
    let (_connection, _) = peer.accept().unwrap();
    let counts = until(&links, |counts| counts.up);
    assert_eq!((counts.queued, counts.connect_failures), (0, 1));
}

#[test]
fn a_handle_that_goes_takes_its_links_with_it() {
    let peer = peer();
    let links = start();
    links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    let other = links.clone();
    drop(links);
    assert!(other.is_running());
    drop(other);
    assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_broadcast_says_how_many_took_it() {
    let peers = [peer(), peer()];
    let links = start();
    let ids: Vec<LinkId> = peers
        .iter()
        .map(|peer| links.add(quick(peer.local_addr().unwrap())).unwrap())
        .collect();
    let gone = links.add(quick(peers[0].local_addr().unwrap())).unwrap();
    links.remove(gone);
    let done = links.broadcast(&[ids[0], gone, ids[1]], Lane::Control, &packet(3, 64));
    assert_eq!((done.taken, done.refused), (2, 1));
    for peer in &peers {
        // The link that was removed may have been here first.
        let came = peer
            .incoming()
            .map(|connection| read_packet(&mut connection.unwrap()));
        assert_eq!(came.flatten().next().map(|packet| number(&packet)), Some(3));
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let links = start();
    let addr: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let told = |config: LinkConfig| links.add(config).unwrap_err().to_string();
    let with = |change: fn(&mut LinkConfig)| {
        let mut config = quick(addr);
        change(&mut config);
        told(config)
    };
    assert!(told(LinkConfig::new("bins:127.0.0.1:9".parse().unwrap())).contains("certificate"));
    assert!(told(LinkConfig::new("bin:127.0.0.1:0".parse().unwrap())).contains("port"));
    let no_name = with(|config| config.server_name = Some("no name".to_owned()));
    assert!(no_name.contains("\"no name\" is neither"), "{no_name}");
    assert!(with(|config| config.bind = Some("::1".parse().unwrap())).contains("IPv6"));
    assert!(with(|config| config.limits.queue_bytes = 1000).contains("131070 bytes"));
    assert!(with(|config| config.limits.queue_packets = 7).contains("8 packets"));
    assert!(with(|config| config.limits.backoff_min = PATIENCE).contains("longest back-off"));
    assert!(with(|config| config.limits.age_max = Duration::ZERO).contains("age"));
    let link = links.add(quick(addr)).unwrap();
    let long = vec![0; 65_536];
    for bytes in [&[][..], &long] {
        let refused = links.send(link, Lane::Bulk, bytes);
        assert_eq!(refused, Err(Refused::Length { len: bytes.len() }));
    }
    links.send(link, Lane::Control, &long[1..]).unwrap();
    (1..4).for_each(|_| _ = links.add(quick(addr)).unwrap());
    assert_eq!(links.add(quick(addr)), Err(LinkError::TooMany { links: 4 }));
}

#[test]
fn a_thread_that_failed_takes_no_more_links_and_nobody_waits_for_it() {
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    // As it ends itself when it cannot wait for sockets.
    links.owner.shared.stop(slot::now());
    let begin = Instant::now();
    while links.is_running() {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    let again = links.add(quick(peer.local_addr().unwrap()));
    assert_eq!(again, Err(LinkError::Stopped));
    assert_eq!(links.send(link, Lane::Bulk, &[1]), Err(Refused::Stopped));
    assert!(links.remove(link).is_some());
    assert_eq!(links.counts(), Vec::new());
}

#[test]
fn many_threads_share_a_link_and_each_keeps_its_order() {
    const EACH: u32 = 20_000;
    let peer = peer();
    let links = start();
    let link = links.add(quick(peer.local_addr().unwrap())).unwrap();
    let (done, finished) = mpsc::channel();
    let reader = thread::spawn(move || {
        let (connection, _) = peer.accept().unwrap();
        let mut next = [0_u32; 4];
        let mut buffered = io::BufReader::with_capacity(1 << 16, connection);
        let mut packet = [0; 100];
        while buffered.read_exact(&mut packet).is_ok() {
            let number = number(&packet);
            let thread = (number / EACH) as usize;
            assert_eq!(number % EACH, next[thread]);
            next[thread] += 1;
        }
        done.send(next).unwrap();
    });
    thread::scope(|scope| {
        for thread in 0..4 {
            let links = &links;
            scope.spawn(move || {
                for number in 0..EACH {
                    let packet = packet(thread * EACH + number, 100);
                    while links.send(link, Lane::Bulk, &packet) == Err(Refused::Full) {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    let counts = links.stop(PATIENCE).remove(0);
    assert_eq!((counts.sent, counts.lost), (u64::from(4 * EACH), 0));
    assert_eq!(finished.recv_timeout(PATIENCE).unwrap(), [EACH; 4]);
    reader.join().unwrap();
}
