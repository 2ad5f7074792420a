use super::intake::Accepted;
use super::*;
use crate::loopback;
use crate::stream::RefuseReason;
use binrush_net::{TcpOptions, TcpSocket};
use std::env;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::thread::sleep;
use std::time::Instant;

/// Handshakes.
pub(super) mod tls;

/// Far longer than it takes.
const FOREVER: Duration = Duration::from_secs(20);

const PLAIN: ListenerId = ListenerId(1);
const OTHER: ListenerId = ListenerId(2);

/// An acceptor, and the ends of the shards that it hands to.
struct Setup {
    acceptor: Acceptor,
    shards: Vec<Arc<Intake>>,
}

impl Setup {
    fn start(shards: usize, limits: &StreamLimits, access: Access) -> Self {
        let intake = || Intake::new(Arc::new(Bell::new().unwrap()));
        let shards: Vec<_> = (0..shards).map(|_| intake()).collect();
        Self {
            acceptor: Acceptor::start(shards.clone(), limits, access).unwrap(),
            shards,
        }
    }

    /// With generous limits, for everybody.
    fn open_to_all(shards: usize) -> Self {
        let limits = StreamLimits {
            per_source: 1000,
            ..StreamLimits::default()
        };
        Self::start(shards, &limits, Access::any())
    }

    /// Opens a listener in clear.
    fn open(&self, id: ListenerId, ip: IpAddr) -> SocketAddr {
        let (listener, addr) = listener(ip);
        self.acceptor.open(id, listener, None).unwrap();
        addr
    }

    /// Waits until so many came to an end of some kind.
    #[track_caller]
    fn settled(&self, arrived: u64) -> AcceptCounts {
        let counts = || {
            let counts = self.acceptor.counts();
            assert!(counts.is_balanced(), "{counts:?}");
            counts
        };
        until(|| counts().arrived >= arrived && counts().shaking == 0);
        assert_eq!(counts().arrived, arrived);
        counts()
    }

    /// What this shard was handed so far.
    fn taken(&self, shard: usize) -> Vec<Accepted> {
        std::iter::from_fn(|| self.shards[shard].take()).collect()
    }
}

fn v4() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn listener(ip: IpAddr) -> (TcpListener, SocketAddr) {
    let options = TcpOptions {
        backlog: 256,
        ..TcpOptions::default()
    };
    let listener = TcpListener::bind(SocketAddr::new(ip, 0), &options).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A connection of a peer at `from`, which may be any loopback address; maybe not there yet. Nobody asks how connecting
/// ended, because that would take the reset of one that is refused.
fn connect_from(from: IpAddr, to: SocketAddr) -> TcpSocket {
    TcpSocket::connect(to, Some(from), &TcpOptions::default()).unwrap()
}

/// Connections that are there, and that nobody accepts yet.
fn waiting(count: usize, to: SocketAddr) -> Vec<TcpSocket> {
    let peers: Vec<_> = (0..count).map(|_| connect(to)).collect();
    until(|| peers.iter().all(|peer| peer.peer_addr().is_ok()));
    peers
}

fn connect(to: SocketAddr) -> TcpSocket {
    connect_from(to.ip(), to)
}

/// Waits until the peer hears something: whether that is a reset.
fn is_reset(socket: &TcpSocket) -> bool {
    let mut heard = None;
    until(|| {
        heard = match socket.recv(&mut [0; 64]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            heard => Some(heard),
        };
        heard.is_some()
    });
    matches!(heard, Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset)
}

#[track_caller]
fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < FOREVER, "it did not come to that");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn connections_go_to_the_shard_with_the_fewest_and_give_their_places_back() {
    for ip in loopback::addresses() {
        let setup = Setup::open_to_all(2);
        let addr = setup.open(PLAIN, ip);
        let peers: Vec<_> = (0..5).map(|_| connect(addr)).collect();
        assert_eq!(setup.settled(5).handed, 5);
        let (first, second) = (setup.taken(0), setup.taken(1));
        assert_eq!((first.len(), second.len()), (3, 2));
        let peer = peers[0].local_addr().unwrap();
        let accepted = &first[0];
        assert_eq!((accepted.peer, accepted.listener), (peer, PLAIN));
        assert!(accepted.tls.is_none() && accepted.early.is_empty());
        drop(first);
        let _more: Vec<_> = (0..3).map(|_| connect(addr)).collect();
        setup.settled(8);
        let (first, second) = (setup.taken(0).len(), setup.taken(1).len());
        assert!(first >= 2 && first + second == 3, "{first} and {second}");
    }
}

#[test]
fn what_was_accepted_is_received_from() {
    let setup = Setup::open_to_all(1);
    let addr = setup.open(PLAIN, v4());
    let peer = connect(addr);
    peer.send_vectored(&[io::IoSlice::new(b"bytes")]).unwrap();
    setup.settled(1);
    let accepted = setup.taken(0).pop().unwrap();
    until(|| accepted.socket.queued_bytes().unwrap() == 5);
    let mut bytes = [0; 8];
    assert_eq!(accepted.socket.recv(&mut bytes).unwrap(), 5);
    assert_eq!(&bytes[..5], b"bytes");
}

#[test]
fn who_is_refused_hears_a_reset_and_is_counted_under_one_reason() {
    let limits = StreamLimits {
        connections: 3,
        per_source: 2,
        ..StreamLimits::default()
    };
    let mut access = Access::nobody();
    access.allow("127.0.0.0/30".parse().unwrap()).unwrap();
    let setup = Setup::start(1, &limits, access);
    let addr = setup.open(PLAIN, v4());
    let mut arrived = 0;
    let mut come = |last: u8| {
        let peer = connect_from(Ipv4Addr::new(127, 0, 0, last).into(), addr);
        let name = peer.local_addr().unwrap();
        arrived += 1;
        setup.settled(arrived);
        (peer, name)
    };
    let kept = [come(1), come(1)];
    let per_source = come(1);
    let kept_too = come(2);
    let (total, acl) = (come(3), come(9));
    let refused = [
        (RefuseReason::Acl, acl),
        (RefuseReason::Total, total),
        (RefuseReason::PerSource, per_source),
    ];
    let counts = setup.settled(6);
    assert_eq!(counts.handed, 3);
    let told = setup.acceptor.refusals();
    assert_eq!(told.len(), refused.len());
    for (row, (reason, (peer, name))) in told.into_iter().zip(&refused) {
        assert!(is_reset(peer), "{reason}");
        assert_eq!(counts.refused_for(*reason), 1, "{reason}");
        assert_eq!(row, (*reason, *name, reason.sentence().to_owned(), 1));
    }
    assert_eq!(setup.acceptor.refusals(), []);
    drop((kept, kept_too));
}

#[test]
fn a_place_that_is_given_back_is_there_for_the_next() {
    let limits = StreamLimits {
        per_source: 1,
        ..StreamLimits::default()
    };
    let setup = Setup::start(1, &limits, Access::any());
    let addr = setup.open(PLAIN, v4());
    for round in 0..4 {
        let _kept = connect(addr);
        setup.settled(2 * round + 1);
        let accepted = setup.taken(0);
        assert_eq!(accepted.len(), 1);
        assert!(is_reset(&connect(addr)));
        setup.settled(2 * round + 2);
    }
}

#[test]
fn a_new_access_list_counts_from_the_next_connection_on() {
    let setup = Setup::start(1, &StreamLimits::default(), Access::loopback());
    let addr = setup.open(PLAIN, v4());
    let before = connect(addr);
    setup.settled(1);
    setup.acceptor.set_access(Access::nobody()).unwrap();
    assert!(is_reset(&connect(addr)));
    setup.acceptor.set_access(Access::any()).unwrap();
    let _after = connect(addr);
    let counts = setup.settled(3);
    assert_eq!(
        (counts.handed, counts.refused_for(RefuseReason::Acl)),
        (2, 1)
    );
    // What was handed over is not the acceptor's any more.
    let pending = before.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(pending.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_burst_at_two_listeners_is_handed_on_to_the_last() {
    let setup = Setup::open_to_all(3);
    let addrs = [setup.open(PLAIN, v4()), setup.open(OTHER, v4())];
    // More than one turn takes, from both.
    let peers: Vec<_> = (0..200).map(|n| connect(addrs[n % 2])).collect();
    assert_eq!(setup.settled(200).handed, 200);
    let taken: Vec<_> = (0..3).flat_map(|shard| setup.taken(shard)).collect();
    let of_other = taken.iter().filter(|accepted| accepted.listener == OTHER);
    assert_eq!((taken.len(), of_other.count()), (200, 100));
    drop(peers);
}

#[test]
fn a_listener_that_is_closed_takes_nobody_and_the_others_go_on() {
    let setup = Setup::open_to_all(1);
    let (closed, other) = (setup.open(PLAIN, v4()), setup.open(OTHER, v4()));
    let kept = connect(closed);
    setup.settled(1);
    setup.acceptor.close(PLAIN).unwrap();
    let refused = TcpStream::connect(closed).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let _other = connect(other);
    assert_eq!(setup.settled(2).handed, 2);
    // What it had handed over lives on.
    let pending = kept.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(pending.kind(), io::ErrorKind::WouldBlock);
    // One that there is not is closed already.
    setup.acceptor.close(PLAIN).unwrap();
}

#[test]
fn a_listener_that_is_broken_is_told_and_does_not_hurt_the_others() {
    let setup = Setup::open_to_all(1);
    let (broken, addr) = listener(v4());
    let second_reference: OwnedFd = broken.as_fd().try_clone_to_owned().unwrap();
    setup.acceptor.open(PLAIN, broken, None).unwrap();
    let other = setup.open(OTHER, v4());
    // No listener any more after this, and nobody told the acceptor.
    let second_reference = TcpStream::from(second_reference);
    second_reference.shutdown(std::net::Shutdown::Both).unwrap();
    until(|| !setup.acceptor.failing().is_empty());
    let failing = setup.acceptor.failing();
    assert_eq!((failing.len(), failing[0].0), (1, PLAIN));
    assert!(TcpStream::connect(addr).is_err());
    let _peer = connect(other);
    assert_eq!(setup.settled(1).handed, 1);
    setup.acceptor.close(PLAIN).unwrap();
    assert_eq!(setup.acceptor.failing(), []);
    assert_eq!(setup.acceptor.counts().starved, 0);
}

#[test]
fn after_a_stop_nobody_listens_and_the_counts_are_final() {
    let setup = Setup::open_to_all(1);
    let addr = setup.open(PLAIN, v4());
    let _peer = connect(addr);
    setup.settled(1);
    assert!(setup.acceptor.is_running());
    let counts = setup.acceptor.stop();
    assert!(counts.is_balanced());
    assert_eq!((counts.arrived, counts.handed), (1, 1));
    let refused = TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_acceptor_that_is_dropped_has_stopped_and_one_that_ended_says_so() {
    let mut setup = Setup::open_to_all(1);
    let addr = setup.open(PLAIN, v4());
    setup.acceptor.end(false);
    assert!(!setup.acceptor.is_running());
    let error = setup.acceptor.set_access(Access::any()).unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
    let (listener, late) = listener(v4());
    setup.acceptor.open(OTHER, listener, None).unwrap_err();
    for addr in [addr, late] {
        let refused = TcpStream::connect(addr).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    let setup = Setup::open_to_all(1);
    let addr = setup.open(PLAIN, v4());
    drop(setup);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn who_waits_at_a_listener_that_is_closed_is_counted() {
    // More than a turn accepts: some are still in the kernel when the order to close comes, unless it comes late.
    let setup = Setup::open_to_all(1);
    let (socket, addr) = listener(v4());
    let peers = waiting(200, addr);
    setup.acceptor.open(PLAIN, socket, None).unwrap();
    setup.acceptor.close(PLAIN).unwrap();
    let counts = setup.acceptor.counts();
    let failed = counts.refused_for(RefuseReason::Closing);
    assert_eq!((counts.arrived, counts.handed + failed), (200, 200));
    let told = setup.acceptor.refusals();
    assert!(told.iter().all(|row| row.2 == "its listener was closed"));
    drop(peers);
}

/// The limit of descriptors is the process's, so this test runs itself in a process of its own.
#[test]
fn without_descriptors_those_who_wait_are_turned_away_and_it_recovers_by_itself() {
    const NAME: &str = "accept::tests::without_descriptors_those_who_wait_are_turned_away_and_it_recovers_by_itself";
    const ALONE: &str = "BINRUSH_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return starve();
    }
    let run = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{run:?}");
}

fn starve() {
    let setup = Setup::open_to_all(1);
    let (socket, addr) = listener(v4());
    let mut peers = waiting(3, addr);
    let open = || File::open("/dev/null").ok();
    let fillers: Vec<_> = std::iter::from_fn(open).collect();
    setup.acceptor.open(PLAIN, socket, None).unwrap();
    assert!(peers.iter().all(is_reset));
    let counts = setup.settled(3);
    assert_eq!(counts.refused_for(RefuseReason::NoDescriptor), 3);
    assert_eq!(counts.handed, 0);
    until(|| setup.acceptor.counts().starved == 1);

    // The descriptor of one that is gone is used up by the next peer, so there is none for its other end again.
    peers.pop();
    peers.push(connect(addr));
    assert!(is_reset(&peers[2]));
    let counts = setup.settled(4);
    assert_eq!(counts.refused_for(RefuseReason::NoDescriptor), 4);
    until(|| setup.acceptor.counts().starved == 2);

    drop(fillers);
    let _peer = connect(addr);
    let counts = setup.settled(5);
    assert_eq!((counts.handed, counts.starved), (1, 2));
}
