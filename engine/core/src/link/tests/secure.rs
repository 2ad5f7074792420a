//! Links inside TLS.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::tls::mint::{Authority, Folder, Issued};
use crate::tls::{ServerTls, TlsDomain, TlsVersion};

/// Two nodes of one cluster.
struct Cluster {
    folder: Folder,
    ca: Authority,
}

impl Cluster {
    fn new() -> Self {
        let ca = Authority::new("Cluster CA");
        let folder = Folder::new();
        folder.write("ca.pem", &ca.certificate);
        Self { folder, ca }
    }

    fn domain(&self, name: &str, issued: &Issued) -> TlsDomain {
        TlsDomain {
            name: name.to_owned(),
            addresses: Vec::new(),
            certificate: self
                .folder
                .write(&format!("{name}.pem"), &issued.certificate),
            private_key: self.folder.write(&format!("{name}.key"), &issued.key),
            ca_list: Some(self.folder.path().join("ca.pem")),
            ca_dir: None,
            crl_dir: None,
            crl_check_all: false,
            verify: true,
            require: true,
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            pins: Vec::new(),
        }
    }

    fn server(&self, highest: TlsVersion) -> ServerTls {
        let mut domain = self.domain("server", &self.ca.node("server"));
        domain.highest = highest;
        ServerTls::load(&[domain]).unwrap()
    }

    fn link(&self, to: SocketAddr) -> LinkConfig {
        self.link_of(to, &self.ca.node("client"))
    }

    fn link_of(&self, to: SocketAddr, issued: &Issued) -> LinkConfig {
        let mut config = quick(to);
        config.to.protocol = Protocol::Bins;
        let client = ClientTls::load(&[self.domain("client", issued)]).unwrap();
        config.tls = Some(Arc::new(client));
        config
    }
}

/// What came inside of one connection, up to `most` bytes, and whether it ended by close_notify.
fn hear(mut stream: TcpStream, tls: &ServerTls, most: usize) -> (Vec<u8>, bool) {
    let mut session = tls.accept(stream.local_addr().unwrap()).unwrap();
    let (mut plain, mut bytes) = (Vec::new(), [0; 4096]);
    while plain.len() < most {
        let count = stream.read(&mut bytes).unwrap_or(0);
        let received = session.receive(&bytes[..count], |part| plain.extend_from_slice(part));
        let _ = session.transmit(|slices| (&stream).write_vectored(slices));
        match received {
            Ok(received) if received.closed => return (plain, true),
            Ok(_) if count > 0 => {}
            _ => break,
        }
    }
    (plain, false)
}

fn numbers(mut plain: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while plain.len() >= 8 {
        let len = u32::from_le_bytes(plain[..4].try_into().unwrap()) as usize;
        let Some(whole) = plain.get(..len) else { break };
        numbers.push(number(whole));
        assert_eq!(whole, packet(number(whole), len), "a packet in another");
        plain = &plain[len..];
    }
    numbers
}

#[test]
fn packets_go_through_both_versions_and_end_with_a_close_notify() {
    let cluster = Cluster::new();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (peer, tls) = (peer(), cluster.server(version));
        let links = start();
        let link = links.add(cluster.link(peer.local_addr().unwrap())).unwrap();
        let heard = thread::spawn(move || hear(peer.accept().unwrap().0, &tls, usize::MAX));
        for number in 0..3000 {
            let packet = packet(number, 8 + number as usize % 900);
            links.send(link, Lane::Bulk, &packet).unwrap();
        }
        let counts = links.stop(PATIENCE).remove(0);
        assert_eq!(
            (counts.sent, counts.lost, counts.connects),
            (3000, 0, 1),
            "{counts:?}"
        );
        let (plain, closed) = heard.join().unwrap();
        assert!(closed && numbers(&plain).into_iter().eq(0..3000));
        assert_eq!(counts.sent_bytes, plain.len() as u64, "inside TLS");
    }
}

#[test]
fn what_a_peer_says_inside_tls_is_handed_on_in_clear() {
    let cluster = Cluster::new();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (peer, tls) = (peer(), cluster.server(version));
        let links = start();
        let mut config = cluster.link(peer.local_addr().unwrap());
        let (heard, packets) = mpsc::channel();
        config.on_packet = Some(Arc::new(move |packet: &[u8]| {
            heard.send(packet.to_vec()).unwrap();
        }));
        links.add(config).unwrap();
        let said = told::saying(20);
        let (stream, _) = peer.accept().unwrap();
        let mut session = tls.accept(stream.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 4096];
        while session.is_handshaking() {
            let count = (&stream).read(&mut bytes).unwrap();
            session.receive(&bytes[..count], |_| ()).unwrap();
            session
                .transmit(|slices| (&stream).write_vectored(slices))
                .unwrap();
        }
        assert_eq!(session.send(&said), said.len());
        session
            .transmit(|slices| (&stream).write_vectored(slices))
            .unwrap();
        assert_eq!(packets.recv_timeout(PATIENCE).unwrap(), said);
    }
}

#[test]
fn a_peer_that_nobody_vouches_for_gets_nothing() {
    let (cluster, stranger) = (Cluster::new(), Cluster::new());
    let (peer, tls) = (peer(), stranger.server(TlsVersion::V1_3));
    let links = start();
    let link = links.add(cluster.link(peer.local_addr().unwrap())).unwrap();
    links.send(link, Lane::Bulk, &packet(1, 100)).unwrap();
    let (plain, _) = hear(peer.accept().unwrap().0, &tls, usize::MAX);
    assert!(plain.is_empty());
    let counts = until(&links, |counts| counts.connect_failures > 0);
    assert!(counts.last_failure.starts_with("TLS: "), "{counts:?}");
    assert_eq!((counts.waiting, counts.sent, counts.connects), (1, 0, 0));
}

#[test]
fn a_peer_that_refuses_our_certificate_is_a_failure_that_says_so() {
    let (cluster, stranger) = (Cluster::new(), Cluster::new());
    let foreign = stranger.ca.node("client");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (peer, tls) = (peer(), cluster.server(version));
        let links = start();
        let config = cluster.link_of(peer.local_addr().unwrap(), &foreign);
        links.add(config).unwrap();
        let (plain, _) = hear(peer.accept().unwrap().0, &tls, usize::MAX);
        assert!(plain.is_empty());
        let counts = until(&links, |counts| counts.connect_failures + counts.breaks > 0);
        assert!(counts.last_failure.starts_with("TLS: "), "{counts:?}");
        // Unless the peer's thread slept for far longer than the handshake took, it was never up.
        assert_eq!(counts.connects, counts.breaks, "{counts:?}");
        assert!(
            version == TlsVersion::V1_3 || counts.breaks == 0,
            "{counts:?}"
        );
    }
}

#[test]
fn after_a_break_packets_go_on_with_a_whole_one_and_none_comes_twice() {
    let cluster = Cluster::new();
    let (peer, tls) = (peer(), cluster.server(TlsVersion::V1_3));
    let links = start();
    let mut config = cluster.link(peer.local_addr().unwrap());
    config.limits.queue_bytes = 64 << 20;
    let link = links.add(config).unwrap();
    let count = 400;
    for number in 0..count {
        links
            .send(link, Lane::Bulk, &packet(number, 60_000))
            .unwrap();
    }
    let first = hear(peer.accept().unwrap().0, &tls, 2_000_000).0;
    let reader = thread::spawn(move || hear(peer.accept().unwrap().0, &tls, usize::MAX));
    let counts = until(&links, |counts| counts.waiting == 0);
    assert_eq!((counts.breaks, counts.connects), (1, 2), "{counts:?}");
    // What the session had, and no more.
    assert!((1..=3).contains(&counts.lost), "{counts:?}");
    links.stop(PATIENCE);
    // The peer read 33 of them, and the kernels had some more.
    assert!(numbers(&first).into_iter().eq(0..33));
    let second = numbers(&reader.join().unwrap().0);
    assert!(
        second[0] > 33 && second.iter().copied().eq(second[0]..count),
        "{second:?}"
    );
    let sent_first = counts.sent - second.len() as u64;
    assert_eq!(u64::from(second[0]), sent_first + counts.lost, "{counts:?}");
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let cluster = Cluster::new();
    let peer = peer();
    let links = start();
    let mut config = cluster.link(peer.local_addr().unwrap());
    config.limits.connect_timeout = Duration::from_millis(60);
    links.add(config).unwrap();
    let (silent, _) = peer.accept().unwrap();
    let counts = until(&links, |counts| counts.connect_failures > 0);
    assert!(
        counts.last_failure.contains("no end of the TLS handshake"),
        "{counts:?}"
    );
    drop(silent);
}

#[test]
fn a_peer_that_stops_to_read_inside_tls_is_dropped() {
    let cluster = Cluster::new();
    let (peer, tls) = (peer(), cluster.server(TlsVersion::V1_3));
    let links = start();
    let mut config = cluster.link(peer.local_addr().unwrap());
    config.limits.write_deadline = Duration::from_millis(150);
    let link = links.add(config).unwrap();
    let (stream, _) = peer.accept().unwrap();
    let held = stream.try_clone().unwrap();
    let reader = thread::spawn(move || hear(stream, &tls, 1000).0.len());
    let begin = Instant::now();
    while links.counts()[0].breaks == 0 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", links.counts());
        let _ = links.send(link, Lane::Bulk, &packet(1, 32 << 10));
    }
    let counts = links.counts().remove(0);
    assert!(counts.last_failure.contains("took nothing"), "{counts:?}");
    assert!(counts.is_balanced() && counts.lost > 0, "{counts:?}");
    assert!(reader.join().unwrap() >= 1000);
    drop(held);
}

/// Reads at its own pace, a little at a time, until the link has gone or `over`.
fn read_slowly(mut stream: TcpStream, tls: Option<&ServerTls>, over: &AtomicBool) {
    let local = stream.local_addr().unwrap();
    let mut session = tls.map(|tls| tls.accept(local).unwrap());
    let mut bytes = [0; 8192];
    while !over.load(Ordering::Acquire) {
        let count = stream.read(&mut bytes).unwrap_or(0);
        if count == 0 {
            break;
        }
        if let Some(session) = &mut session {
            session.receive(&bytes[..count], |_| {}).unwrap();
            let _ = session.transmit(|slices| (&stream).write_vectored(slices));
            if session.is_handshaking() {
                continue;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_peer_that_reads_slowly_is_kept_and_the_ledger_goes_on() {
    let cluster = Cluster::new();
    for secure in [false, true] {
        let peer = peer();
        let tls = secure.then(|| cluster.server(TlsVersion::V1_3));
        let links = start();
        let addr = peer.local_addr().unwrap();
        let mut config = if secure {
            cluster.link(addr)
        } else {
            quick(addr)
        };
        // The kernel tells of room when a third of its buffer is free: at 400 KB/s that takes far longer.
        config.limits.write_deadline = Duration::from_millis(800);
        let link = links.add(config).unwrap();
        let (stream, _) = peer.accept().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let over = Arc::clone(&over);
            move || read_slowly(stream, tls.as_ref(), &over)
        });
        let begin = Instant::now();
        let mut at_first = None;
        let counts = loop {
            if links.send(link, Lane::Bulk, &packet(0, 1000)) == Err(Refused::Full) {
                at_first.get_or_insert_with(|| links.counts()[0].sent);
                thread::sleep(Duration::from_millis(5));
            }
            let counts = links.counts().remove(0);
            assert_eq!(counts.breaks, 0, "{counts:?}");
            let went_on = at_first.is_some_and(|sent| counts.sent > sent);
            if went_on && begin.elapsed() > Duration::from_secs(3) {
                break counts;
            }
            assert!(begin.elapsed() < PATIENCE, "it stood still: {counts:?}");
        };
        assert!(counts.is_balanced() && counts.lost == 0, "{counts:?}");
        over.store(true, Ordering::Release);
        drop(links);
        reader.join().unwrap();
    }
}

#[test]
fn a_worn_session_is_replaced_and_no_packet_is_missing() {
    let cluster = Cluster::new();
    let (peer, tls) = (peer(), cluster.server(TlsVersion::V1_2));
    let links = start();
    let mut config = cluster.link(peer.local_addr().unwrap());
    let client = Arc::get_mut(config.tls.as_mut().unwrap()).unwrap();
    client.records_max = Some(20);
    let link = links.add(config).unwrap();
    let reader = thread::spawn(move || {
        let (mut came, mut connections) = (Vec::new(), 0);
        while came.last() != Some(&999) {
            let (plain, closed) = hear(peer.accept().unwrap().0, &tls, usize::MAX);
            assert!(closed, "in order");
            came.extend(numbers(&plain));
            connections += 1;
        }
        (came, connections)
    });
    for number in 0..1000 {
        while links.send(link, Lane::Bulk, &packet(number, 3000)) == Err(Refused::Full) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let counts = until(&links, |counts| counts.waiting == 0);
    links.stop(PATIENCE);
    let (came, connections) = reader.join().unwrap();
    assert!(came.into_iter().eq(0..1000));
    // 3 MB are 184 records at least.
    assert!(connections >= 5, "{connections}");
    assert_eq!(
        (counts.sent, counts.lost, counts.breaks),
        (1000, 0, 0),
        "{counts:?}"
    );
}
