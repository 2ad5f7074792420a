//! What links tell of themselves, and what peers say on connections that we opened.

use std::sync::Mutex;

use binrush_wire::{Builder, Generation};

use super::*;

/// A link's ways to tell, and what came by them.
struct Ears {
    changes: Arc<Mutex<Vec<bool>>>,
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Ears {
    fn of(config: &mut LinkConfig) -> Self {
        let (changes, packets) = (Arc::default(), Arc::default());
        let ears = Self { changes, packets };
        let (changes, packets) = (Arc::clone(&ears.changes), Arc::clone(&ears.packets));
        config.on_change = Some(Arc::new(move |up| changes.lock().unwrap().push(up)));
        config.on_packet = Some(Arc::new(move |packet: &[u8]| {
            packets.lock().unwrap().push(packet.to_vec());
        }));
        ears
    }

    fn changes(&self) -> Vec<bool> {
        self.changes.lock().unwrap().clone()
    }
}

#[track_caller]
fn wait(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a genuine node says to who is not known to it, or something longer.
pub(super) fn saying(filling: usize) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let name = b"clusterer-internal";
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 5, 1).unwrap();
    builder.push_str(&vec![b'x'; filling]).unwrap();
    builder.seal().to_vec()
}

#[test]
fn a_link_tells_when_it_comes_up_and_when_it_fails_and_how_it_is() {
    let peer = peer();
    let addr = peer.local_addr().unwrap();
    let links = start();
    let mut config = quick(addr);
    let ears = Ears::of(&mut config);
    let link = links.add(config).unwrap();
    let (connection, _) = peer.accept().unwrap();
    wait("up", || ears.changes() == [true]);
    assert_eq!(links.health(link), Some(LinkHealth::Up));
    // An orderly end is no failure, and nothing is told.
    drop(connection);
    wait("its end", || {
        links.health(link) == Some(LinkHealth::Connecting)
    });
    assert_eq!(ears.changes(), [true]);
    // Nobody listens any more: each attempt that fails is told.
    drop(peer);
    links.send(link, Lane::Control, &packet(1, 100)).unwrap();
    wait("failures", || ears.changes().len() >= 3);
    assert_eq!(links.health(link), Some(LinkHealth::Failed));
    assert_eq!(links.waiting_bytes(link), 100);
    let changes = ears.changes();
    assert!(
        changes[0] && changes[1..].iter().all(|up| !up),
        "{changes:?}"
    );
    // And it is told when it is there again.
    let peer = TcpListener::bind(addr).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    assert!(read_packet(&mut connection).is_some());
    wait("up again", || ears.changes().last() == Some(&true));
    assert_eq!(links.health(link), Some(LinkHealth::Up));
    wait("all written", || links.waiting_bytes(link) == 0);
    assert!(links.remove(link).is_some());
    assert_eq!((links.health(link), links.waiting_bytes(link)), (None, 0));
}

#[test]
fn a_connection_that_breaks_is_a_failure() {
    let peer = peer();
    let links = start();
    let mut config = quick(peer.local_addr().unwrap());
    let ears = Ears::of(&mut config);
    links.add(config).unwrap();
    let (connection, _) = peer.accept().unwrap();
    wait("up", || ears.changes() == [true]);
    TcpSocket::from_stream(connection).unwrap().reset();
    wait("its break", || ears.changes().get(1) == Some(&false));
}

#[test]
fn short_packets_of_the_peer_are_handed_on_and_a_callback_may_answer() {
    let peer = peer();
    let links = start();
    let mut config = quick(peer.local_addr().unwrap());
    let ears = Ears::of(&mut config);
    // Where the link is known to its own callback.
    let own = Arc::new(Mutex::new(None));
    let (answering, at) = (links.clone(), Arc::clone(&own));
    let packets = Arc::clone(&ears.packets);
    config.on_packet = Some(Arc::new(move |said: &[u8]| {
        packets.lock().unwrap().push(said.to_vec());
        let link = at.lock().unwrap().unwrap();
        answering.send(link, Lane::Control, &packet(9, 64)).unwrap();
    }));
    let link = links.add(config).unwrap();
    *own.lock().unwrap() = Some(link);
    let (mut connection, _) = peer.accept().unwrap();
    let (short, long) = (saying(10), saying(1000));
    let bytes = [&short[..], &long, &short].concat();
    for piece in bytes.chunks(60) {
        connection.write_all(piece).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(read_packet(&mut connection), Some(packet(9, 64)));
    }
    assert_eq!(
        *ears.packets.lock().unwrap(),
        [short.clone(), short.clone()]
    );
    // Behind what is no packet nothing is heard of this connection, and of the next one all.
    connection
        .write_all(&[b"garbage!", &short[..]].concat())
        .unwrap();
    let sent = (bytes.len() + 8 + short.len()) as u64;
    wait("all bytes", || links.rx_bytes(link) == Some(sent));
    drop(connection);
    wait("its end", || links.health(link) != Some(LinkHealth::Up));
    links.send(link, Lane::Bulk, &packet(1, 8)).unwrap();
    let (mut connection, _) = peer.accept().unwrap();
    connection.write_all(&short).unwrap();
    wait("the third", || ears.packets.lock().unwrap().len() == 3);
    // The callback has a handle too, so that dropping ours would end nothing.
    links.stop(PATIENCE);
}

#[test]
fn a_thread_that_does_not_go_on_is_seen_and_left_alone_at_the_stop() {
    let links = start();
    let idle = Instant::now();
    while idle.elapsed() < HANG_MIN + Duration::from_millis(500) {
        assert!(!links.hangs(), "it only sleeps");
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!links.hangs());
    // A peer that is there, and somebody who takes his time to hear of it.
    let peer = peer();
    let gate = Arc::new(Mutex::new(()));
    let waits = Arc::clone(&gate);
    let held = gate.lock().unwrap();
    let config = LinkConfig {
        on_change: Some(Arc::new(move |_| drop(waits.lock().unwrap()))),
        ..quick(peer.local_addr().unwrap())
    };
    links.add(config).unwrap();
    let start = Instant::now();
    while !links.hangs() {
        assert!(start.elapsed() < PATIENCE, "nobody sees it");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(links.is_running() && start.elapsed() >= HANG_MIN);
    let stop = Instant::now();
    links.stop(Duration::ZERO);
    let took = stop.elapsed();
    assert!(took >= STOP_MARGIN && took < PATIENCE, "{took:?}");
    assert!(links.is_running(), "it is left behind");
    drop(held);
    while links.is_running() {
        assert!(stop.elapsed() < PATIENCE, "it ends when it can");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(!links.hangs(), "what has ended does not hang");
}
