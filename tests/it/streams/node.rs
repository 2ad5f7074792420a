//! An engine on loopback that takes connections, and what its handlers saw.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use binrush_engine::stream::{CloseReason, RefuseReason, StreamLimits};
use binrush_engine::{
    Context, Engine, EngineConfig, Handler, Outcome, Registry, ShardId, Snapshot, StreamConfig,
    Verdict,
};
use binrush_net::tcp::{TcpOptions, TcpSocket};
use binrush_wire::Packet;

use super::traffic::{DIALOG, event};
use crate::process::wait_until;

/// An engine, and the ends of it that the test holds.
pub(super) struct Node {
    pub(super) engine: Engine,
    pub(super) addr: SocketAddr,
    seen: mpsc::Receiver<(ShardId, Arc<[u8]>)>,
}

/// What an engine said at its end, and what its handlers saw, each shard's packets in order.
pub(super) struct Ended {
    pub(super) totals: Snapshot,
    pub(super) seen: Vec<(ShardId, Arc<[u8]>)>,
}

/// A peer that keeps the rules: it sends events of its own calls, and wants to find them all.
pub(super) struct GoodPeer {
    number: usize,
    /// Until it leaves.
    stream: Option<TcpStream>,
    sent: Vec<Vec<u8>>,
}

/// Hands on every packet, with the shard it came to.
struct Recorder {
    seen: mpsc::Sender<(ShardId, Arc<[u8]>)>,
    work: Option<Work>,
}

/// What a handler does for each packet, on this shard.
pub(super) type Work = Arc<dyn Fn(ShardId) + Send + Sync>;

impl Node {
    /// With `limits`, on so many shards.
    pub(super) fn start(shards: u16, limits: StreamLimits) -> Self {
        Self::with_names(config(shards, limits), &[DIALOG.to_vec()], None)
    }

    /// Whose handlers of `names` record, and do `work` for each packet.
    pub(super) fn with_names(config: EngineConfig, names: &[Vec<u8>], work: Option<&Work>) -> Self {
        let (packets, seen) = mpsc::channel();
        let mut registry = Registry::new();
        for name in names {
            let (packets, work) = (packets.clone(), work.cloned());
            let registered = registry.register(name, move |_| Recorder {
                seen: packets.clone(),
                work: work.clone(),
            });
            registered.expect("a few names");
        }
        let engine = Engine::start(config, registry).expect("loopback");
        let addr = engine.listeners().next().expect("one").addr;
        Self { engine, addr, seen }
    }

    pub(super) fn connect(&self) -> TcpStream {
        connect(self.addr)
    }

    /// A connection from an address of the maker's choice.
    pub(super) fn connect_from(&self, from: Ipv4Addr) -> TcpSocket {
        let options = TcpOptions::default();
        let socket = TcpSocket::connect(self.addr, Some(from.into()), &options).expect("loopback");
        wait_until("a connection", || match socket.finish_connect() {
            Ok(done) => done,
            // Refused already, by an engine that is quicker than we are.
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        });
        socket
    }

    /// Waits until the counters are as `is` wants them.
    #[track_caller]
    pub(super) fn wait_for(&mut self, what: &str, is: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let start = Instant::now();
        loop {
            let snapshot = self.engine.snapshot().expect("it runs");
            if is(&snapshot) {
                return snapshot;
            }
            let waited = start.elapsed();
            assert!(waited < LIMIT, "waited {waited:?} for {what}: {snapshot:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until so many bytes were received of connections.
    #[track_caller]
    pub(super) fn wait_for_bytes(&mut self, bytes: u64) {
        let what = format!("{bytes} bytes to be received");
        self.wait_for(&what, |snapshot| snapshot.streams.total.rx_bytes >= bytes);
    }

    /// Waits until so many connections were closed for `reason`.
    #[track_caller]
    pub(super) fn wait_for_closed(&mut self, reason: CloseReason, count: u64) -> Snapshot {
        let what = format!("{count} times {reason}");
        self.wait_for(&what, |snapshot| {
            snapshot.streams.total.closed_for(reason) >= count
        })
    }

    /// Waits until so many connections were refused for `reason`.
    #[track_caller]
    pub(super) fn wait_for_refused(&mut self, reason: RefuseReason, count: u64) -> Snapshot {
        let what = format!("{count} times {reason}");
        self.wait_for(&what, |snapshot| {
            snapshot.streams.accept.refused_for(reason) >= count
        })
    }

    /// Lets these peers close their connections, waits until nobody has one, and stops. All books must balance, and
    /// what was heard must be what these peers said.
    #[track_caller]
    pub(super) fn end(mut self, peers: Vec<GoodPeer>) -> Ended {
        let peers = peers.into_iter().map(|peer| peer.sent);
        let sent: Vec<_> = peers.collect();
        let count: usize = sent.iter().map(Vec::len).sum();
        // A connection that nobody has accepted yet is not open either; what it brings is missing.
        self.wait_for("all packets, and all connections to end", |snapshot| {
            let streams = &snapshot.streams;
            streams.total.frames >= count as u64
                && streams.accept.shaking == 0
                && streams.total.opened == streams.accept.handed
                && streams.total.open == 0
        });
        let ended = self.stop();
        ended.heard(sent);
        ended
    }

    /// Stops it as it is. All books must balance.
    #[track_caller]
    pub(super) fn stop(self) -> Ended {
        let totals = self.engine.stop().expect("it vouches for its end");
        assert!(totals.is_balanced(), "{totals:?}");
        assert!(totals.streams.is_balanced(), "{:?}", totals.streams);
        let streams = &totals.streams.total;
        assert_eq!((streams.open, streams.held_bytes), (0, 0), "{streams:?}");
        assert_eq!(streams.spilled_bytes, 0, "{streams:?}");
        let seen = self.seen.into_iter().collect();
        Ended { totals, seen }
    }
}

impl Ended {
    /// Asserts that connections were closed for these reasons, so often, and for no other.
    #[track_caller]
    pub(super) fn closed(&self, expected: &[(CloseReason, u64)]) {
        let streams = &self.totals.streams.total;
        let counted = CloseReason::ALL.map(|reason| (reason, streams.closed_for(reason)));
        let mut counted: Vec<_> = counted
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let mut expected = expected.to_vec();
        counted.sort_unstable_by_key(|(reason, _)| *reason as usize);
        expected.sort_unstable_by_key(|(reason, _)| *reason as usize);
        assert_eq!(counted, expected, "{streams:?}");
    }

    /// Asserts that connections were refused for these reasons, so often, and for no other.
    #[track_caller]
    pub(super) fn refused(&self, expected: &[(RefuseReason, u64)]) {
        let accept = &self.totals.streams.accept;
        let counted = RefuseReason::ALL.map(|reason| (reason, accept.refused_for(reason)));
        let counted: Vec<_> = counted
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, expected, "{accept:?}");
    }

    /// Asserts that the handlers saw exactly the packets of `peers`: all of them, those of each call on one shard and
    /// in order.
    #[track_caller]
    fn heard(&self, peers: Vec<Vec<Vec<u8>>>) {
        let mut sent = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
        let count: usize = peers.iter().map(Vec::len).sum();
        for packet in peers.into_iter().flatten() {
            sent.entry(call_of(&packet)).or_default().push(packet);
        }
        let mut heard = BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
        let mut owners = BTreeMap::new();
        for (shard, packet) in &self.seen {
            let call = call_of(packet);
            let owner = *owners.entry(call.clone()).or_insert(*shard);
            assert_eq!(owner, *shard, "one call comes to one shard");
            heard.entry(call).or_default().push(packet.to_vec());
        }
        assert_eq!(
            self.seen.len(),
            count,
            "packets of peers that keep the rules"
        );
        assert!(sent == heard, "what was heard is not what was sent");
        let total = &self.totals.total;
        assert_eq!(total.outcome(Outcome::Handled), total.received);
        assert_eq!(self.totals.streams.total.frames, total.received);
    }
}

impl GoodPeer {
    /// Sends by a connection of its own; `number` tells its calls from others'.
    pub(super) fn new(node: &Node, number: usize) -> Self {
        Self::at(node.addr, number)
    }

    /// As [`new`](Self::new), without the node at hand.
    pub(super) fn at(addr: SocketAddr, number: usize) -> Self {
        Self {
            number,
            stream: Some(connect(addr)),
            sent: Vec::new(),
        }
    }

    /// One whose packets come by a way that the test has in its hands.
    pub(super) fn absent(number: usize) -> Self {
        Self {
            number,
            stream: None,
            sent: Vec::new(),
        }
    }

    /// A packet of it was sent.
    pub(super) fn sent(&mut self, packet: Vec<u8>) {
        self.sent.push(packet);
    }

    /// Sends so many events, each with a write of its own, as genuine nodes do.
    pub(super) fn send(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.sent.len();
            self.send_packet(event(self.number, number % CALLS, number));
        }
    }

    pub(super) fn send_packet(&mut self, packet: Vec<u8>) {
        self.say(&packet);
        self.sent.push(packet);
    }

    /// Sends a packet in pieces, each of which is received before the next is sent.
    pub(super) fn send_slowly(&mut self, node: &mut Node, packet: Vec<u8>, piece_len: usize) {
        // What was sent before may still be on its way.
        let sent: usize = self.sent.iter().map(Vec::len).sum();
        let snapshot = node.wait_for("what was sent before", |snapshot| {
            snapshot.streams.total.rx_bytes >= sent as u64
        });
        let mut received = snapshot.streams.total.rx_bytes;
        for piece in packet.chunks(piece_len) {
            self.say(piece);
            received += piece.len() as u64;
            node.wait_for_bytes(received);
        }
        self.sent.push(packet);
    }

    /// Sends bytes that nobody will look for.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().expect("it has not left");
        stream.write_all(bytes).expect("it is read");
    }

    /// Closes its connection; what it sent is still looked for.
    pub(super) fn close(&mut self) {
        self.stream = None;
    }
}

/// What keeps the events of one call together.
fn call_of(packet: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(binrush_wire::Generation::Modern, packet).expect("it is whole");
    packet.fields().pop_str().expect("it has a key").to_vec()
}

pub(super) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, LIMIT).expect("loopback");
    stream.set_nodelay(true).expect("TCP has it");
    let limits = stream.set_read_timeout(Some(LIMIT));
    limits
        .and_then(|()| stream.set_write_timeout(Some(LIMIT)))
        .expect("they are not zero");
    stream
}

/// Connects, and is turned away: at once, or as soon as it listens.
pub(super) fn is_turned_away(addr: SocketAddr) {
    match TcpStream::connect_timeout(&addr, LIMIT) {
        Ok(mut stream) => {
            stream
                .set_read_timeout(Some(LIMIT))
                .expect("it is not zero");
            wait_for_end(&mut stream);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Ends a connection in order, and waits until the engine has let it go, too: then everything was read.
pub(super) fn finish(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("it is connected");
    wait_for_end(&mut stream);
}

/// Waits for the end of a connection that the engine lets go: in order or by reset.
pub(super) fn wait_for_end(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer) {
        Ok(0) => {}
        Ok(len) => panic!("an answer: {:?}", &buffer[..len]),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// So many shards, and connections on a free port of loopback.
pub(super) fn config(shards: u16, limits: StreamLimits) -> EngineConfig {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    EngineConfig {
        shards: Some(shards),
        streams: StreamConfig {
            listen: vec![addr],
            limits,
            ..StreamConfig::default()
        },
        ..EngineConfig::new(addr)
    }
}

impl Handler for Recorder {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        if let Some(work) = &self.work {
            work(context.shard());
        }
        match self.seen.send((context.shard(), packet.bytes().into())) {
            Ok(()) => Verdict::Handled,
            Err(_) => Verdict::UnknownCommand,
        }
    }
}

/// How long anything may take; only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// Calls of one peer.
const CALLS: usize = 20;
