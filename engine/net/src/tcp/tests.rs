//! What a connection promises, asked of the kernel over loopback.

use super::*;
use crate::loopback;
use crate::sys::epoll::{Interest, Poller, ReadyList};
use crate::sys::sockopt::get_int;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddrV6;
use std::time::Instant;

/// Far longer than a test takes.
const FOREVER: Duration = Duration::from_secs(20);

/// A blocking peer, and our end of its connection.
pub(crate) fn pair() -> (TcpStream, TcpSocket) {
    let options = TcpOptions::default();
    let listener = TcpListener::bind(SocketAddr::new(loopback::V4, 0), &options).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(FOREVER)).unwrap();
    (peer, accepted(&listener).0)
}

/// The next one, which is on its way.
pub(crate) fn accepted(listener: &TcpListener) -> (TcpSocket, SocketAddr) {
    wait(listener, Interest::READ);
    listener.accept().unwrap().expect("somebody came")
}

fn wait(fd: &impl AsFd, interest: Interest) {
    let (poller, mut ready) = (Poller::new().unwrap(), ReadyList::new(1));
    poller.add(fd, 0, interest).unwrap();
    poller.wait(&mut ready, Some(FOREVER)).unwrap();
    assert!(!ready.is_empty(), "nothing came in {FOREVER:?}");
}

/// Waits until it is decided, and says how.
fn connected(socket: &TcpSocket) -> io::Result<bool> {
    wait(socket, Interest::WRITE);
    socket.finish_connect()
}

fn receive(socket: &TcpSocket) -> io::Result<Vec<u8>> {
    wait(socket, Interest::READ);
    let mut bytes = [0; 64];
    socket.recv(&mut bytes).map(|len| bytes[..len].to_vec())
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn bytes_go_both_ways_over_each_family_from_the_address_that_was_asked_for() {
    let options = TcpOptions::default();
    for ip in loopback::addresses() {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0), &options).unwrap();
        let to = listener.local_addr().unwrap();
        for from in [None, Some(ip)] {
            let socket = TcpSocket::connect(to, from, &options).unwrap();
            assert!(connected(&socket).unwrap());
            let (other, peer) = accepted(&listener);
            assert_eq!(peer, socket.local_addr().unwrap());
            assert_eq!((peer.ip(), socket.peer_addr().unwrap()), (ip, to));
            assert_eq!(other.peer_addr().unwrap(), peer);
            assert_eq!(other.local_addr().unwrap(), to);
            let parts = [b"one ".as_slice(), b"", b"two"].map(IoSlice::new);
            assert_eq!(socket.send_vectored(&parts).unwrap(), 7);
            assert_eq!(receive(&other).unwrap(), b"one two");
            assert_eq!(other.send_vectored(&parts[..1]).unwrap(), 4);
            assert_eq!(receive(&socket).unwrap(), b"one ");
        }
    }
}

#[test]
fn who_is_refused_hears_it_once_and_is_not_connected_afterwards() {
    let options = TcpOptions::default();
    // Of this test alone, so that nobody else listens there when we no longer do.
    let own = "127.31.7.1:0".parse().unwrap();
    let listener = TcpListener::bind(own, &options).unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let refused = TcpSocket::connect(nobody, None, &options);
    // The kernel may say so at once, on the same host.
    let Ok(socket) = refused else {
        assert_eq!(errno(refused), Some(libc::ECONNREFUSED));
        return;
    };
    assert_eq!(errno(connected(&socket)), Some(libc::ECONNREFUSED));
    let again = socket.finish_connect().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotConnected);
}

#[test]
fn an_address_of_another_family_or_another_host_is_no_place_to_connect_from() {
    let options = TcpOptions::default();
    let to = SocketAddr::new(loopback::V4, 9);
    let error = TcpSocket::connect(to, Some("::1".parse().unwrap()), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let Some(foreign) = loopback::address_of_another_host() else {
        return;
    };
    let error = TcpSocket::connect(to, Some(foreign), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_full_backlog_keeps_who_comes_next_connecting() {
    let backlog = TcpOptions {
        backlog: 1,
        ..TcpOptions::default()
    };
    let listener = TcpListener::bind(SocketAddr::new(loopback::V4, 0), &backlog).unwrap();
    let to = listener.local_addr().unwrap();
    let connect = || TcpSocket::connect(to, None, &TcpOptions::default()).unwrap();
    // The kernel takes one more than it is told (`sk_acceptq_is_full` of include/net/sock.h).
    let taken = [connect(), connect()];
    for socket in &taken {
        assert!(connected(socket).unwrap());
    }
    let waits = connect();
    assert!(!waits.finish_connect().unwrap());
    assert_eq!(
        waits.recv(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    // It knocks again a second later.
    let _room = accepted(&listener);
    assert!(connected(&waits).unwrap());
}

#[test]
fn options_are_set_on_connections_of_either_side() {
    let options = TcpOptions {
        rcvbuf: Some(64 * 1024),
        user_timeout: Some(Duration::from_micros(4_999_500)),
        keepalive: Some(TcpKeepalive {
            idle: Duration::from_millis(6_500),
            interval: Duration::ZERO,
            count: 1_000,
        }),
        nodelay: true,
        ..TcpOptions::default()
    };
    let listener = TcpListener::bind(SocketAddr::new(loopback::V4, 0), &options).unwrap();
    let to = listener.local_addr().unwrap();
    let socket = TcpSocket::connect(to, None, &options).unwrap();
    let (other, _) = accepted(&listener);
    let (_peer, later) = pair();
    later.set_options(&options).unwrap();
    for socket in [&socket, &other, &later] {
        let tcp = |name| get_int(socket, libc::IPPROTO_TCP, name).unwrap();
        let general = |name| get_int(socket, libc::SOL_SOCKET, name).unwrap();
        assert_eq!(tcp(libc::TCP_USER_TIMEOUT), 5_000);
        assert_eq!(tcp(libc::TCP_KEEPIDLE), 7);
        assert_eq!(tcp(libc::TCP_KEEPINTVL), 1);
        assert_eq!(tcp(libc::TCP_KEEPCNT), 127);
        assert_ne!(tcp(libc::TCP_NODELAY), 0);
        assert_ne!(general(libc::SO_KEEPALIVE), 0);
        assert_eq!(general(libc::SO_RCVBUF), 2 * 64 * 1024);
    }
}

#[test]
fn what_is_not_asked_for_stays_as_it_is() {
    let (_peer, socket) = pair();
    let names = [
        libc::TCP_USER_TIMEOUT,
        libc::TCP_KEEPIDLE,
        libc::TCP_NODELAY,
    ];
    let values = || names.map(|name| get_int(&socket, libc::IPPROTO_TCP, name).unwrap());
    let before = values();
    socket.set_options(&TcpOptions::default()).unwrap();
    assert_eq!(values(), before);
}

#[test]
fn a_peer_that_takes_nothing_is_given_up_after_the_user_timeout() {
    let (peer, socket) = pair();
    let options = TcpOptions {
        user_timeout: Some(Duration::from_millis(300)),
        ..TcpOptions::default()
    };
    socket.set_options(&options).unwrap();
    let start = Instant::now();
    let full = [0; 64 * 1024];
    let failed = loop {
        match socket.send_vectored(&[IoSlice::new(&full)]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(start.elapsed() < FOREVER, "never given up");
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => break error,
        }
    };
    assert_eq!(failed.raw_os_error(), Some(libc::ETIMEDOUT));
    assert!(start.elapsed() >= Duration::from_millis(300));
    drop(peer);
}

#[test]
fn a_reset_is_one_and_a_shutdown_is_none() {
    let (mut peer, socket) = pair();
    peer.write_all(b"unread").unwrap();
    socket.shutdown_write().unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(receive(&socket).unwrap(), b"unread");
    peer.write_all(b"more").unwrap();
    assert_eq!(receive(&socket).unwrap(), b"more");

    let (mut peer, socket) = pair();
    socket.reset();
    assert_eq!(errno(peer.read(&mut [0; 1])), Some(libc::ECONNRESET));
}

#[test]
fn a_connection_that_parts_ends_by_a_fin_though_bytes_were_not_read() {
    let (mut peer, socket) = pair();
    peer.write_all(&[1; 3000]).unwrap();
    wait(&socket, Interest::READ);
    assert_eq!(
        socket.send_vectored(&[IoSlice::new(b"farewell")]).unwrap(),
        8
    );
    socket.part();
    assert_eq!(socket.queued_bytes().unwrap(), 0);
    drop(socket);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"farewell");
}

#[test]
fn a_link_local_address_to_connect_from_is_of_the_interface_that_is_connected_to() {
    let Some((address, interface)) = loopback::link_local() else {
        return;
    };
    let options = TcpOptions::default();
    let listener = SocketAddrV6::new(address, 0, 0, interface);
    let listener = TcpListener::bind(listener.into(), &options).unwrap();
    let to = listener.local_addr().unwrap();
    let socket = TcpSocket::connect(to, Some(address.into()), &options).unwrap();
    assert!(connected(&socket).unwrap());
    assert_eq!(accepted(&listener).1, socket.local_addr().unwrap());
    // Of which interface, it does not say.
    let SocketAddr::V6(mut nowhere) = to else {
        unreachable!("it is IPv6");
    };
    nowhere.set_scope_id(0);
    let error = TcpSocket::connect(nowhere.into(), Some(address.into()), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn what_waits_on_either_side_is_counted_and_can_be_thrown_away() {
    let (mut peer, socket) = pair();
    assert_eq!(socket.queued_bytes().unwrap(), 0);
    peer.write_all(&[1; 3000]).unwrap();
    wait(&socket, Interest::READ);
    assert_eq!(socket.queued_bytes().unwrap(), 3000);
    assert_eq!(socket.recv(&mut [0; 1000]).unwrap(), 1000);
    assert_eq!(socket.discard(1500).unwrap(), 1500);
    assert_eq!(socket.queued_bytes().unwrap(), 500);
    assert_eq!(socket.discard(1 << 30).unwrap(), 500);
    assert_eq!(errno(socket.discard(1)), Some(libc::EAGAIN));

    let full = [0; 64 * 1024];
    let mut written = 0;
    while let Ok(sent) = socket.send_vectored(&[IoSlice::new(&full)]) {
        written += sent as u64;
    }
    let unsent = socket.unsent_bytes().unwrap();
    assert!((1..=written).contains(&unsent), "{unsent} of {written}");
}

#[test]
fn more_parts_than_the_kernel_takes_are_sent_in_part() {
    let (_peer, socket) = pair();
    let parts = [IoSlice::new(b"x"); PARTS_MAX + 1];
    assert_eq!(socket.send_vectored(&parts).unwrap(), PARTS_MAX);
}

#[test]
fn writing_to_who_is_gone_is_an_error_and_no_signal() {
    let (peer, socket) = pair();
    socket.shutdown_write().unwrap();
    let sent = socket.send_vectored(&[IoSlice::new(b"late")]);
    assert_eq!(errno(sent), Some(libc::EPIPE));
    drop(peer);
}
