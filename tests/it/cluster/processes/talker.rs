//! A node that a test plays: it answers PINGs as a genuine node does, tells of records, asks for syncs, and keeps what it
//! hears. What it does not do, nobody does for it: it has no timers.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use binrush_engine::cluster::message::{
    self, Extra, Internal, NodeCapabilities, Routed, Stamp, Writer,
};
use binrush_engine::link::{LinkLimits, Links, LinksConfig};
use binrush_engine::{Lane, LinkConfig, LinkId};
use binrush_wire::chunk::CHUNK_MARKER;
use binrush_wire::{Fields, Generation, Packet, Release, Trailer};

use super::node::{CLUSTER, Members, RECORDS, eventually};

/// A node in the hands of a test.
pub(super) struct Talker {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What it heard, as far as tests ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// PINGs.
    pub(super) pings: u64,
    /// What the node told last of its copy of [`RECORDS`]; `None`: it told nothing.
    pub(super) synced: Option<bool>,
    /// Whether it ever told that it is synced.
    pub(super) was_synced: bool,
    /// Requests for [`RECORDS`].
    pub(super) requests: u64,
    /// Chunks of [`RECORDS`], in the order in which they came.
    pub(super) chunks: Vec<Vec<u8>>,
    /// What the ends of syncs said.
    pub(super) ends: Vec<Option<u32>>,
}

struct Shared {
    me: i32,
    links: Links,
    to: BTreeMap<i32, LinkId>,
    heard: Mutex<BTreeMap<i32, Heard>>,
    streams: Mutex<Vec<TcpStream>>,
    /// The number of the next CAP_UPDATE.
    seq: AtomicI32,
    stops: AtomicBool,
}

impl Talker {
    /// Takes the place of the node with this id.
    pub(super) fn start(members: &Members, me: i32) -> Self {
        let listener = TcpListener::bind(members.at(me)).expect("nobody else has it");
        listener.set_nonblocking(true).expect("a socket");
        let links = Links::start(&LinksConfig::default()).expect("a thread");
        let to = members.ids().filter(|id| *id != me).map(|id| {
            let at: SocketAddr = members.at(id);
            let config = LinkConfig {
                // Nodes know each other by their addresses.
                bind: Some(members.at(me).ip()),
                limits: LinkLimits {
                    backoff_max: Duration::from_millis(100),
                    ..LinkLimits::default()
                },
                ..LinkConfig::new(format!("bin:{at}").parse().expect("an address"))
            };
            (id, links.add(config).expect("there is room"))
        });
        let shared = Arc::new(Shared {
            me,
            to: to.collect(),
            links: links.clone(),
            heard: Mutex::default(),
            streams: Mutex::default(),
            seq: AtomicI32::new(0),
            stops: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self {
            shared,
            accepting: Some(accepting),
        }
    }

    /// What it heard of `node` so far.
    pub(super) fn heard(&self, node: i32) -> Heard {
        self.shared
            .heard(|heard| heard.get(&node).cloned())
            .unwrap_or_default()
    }

    /// Puts a record, on each of these nodes.
    pub(super) fn put(&self, nodes: &[i32], key: &str, value: &str) {
        self.tell(nodes, INSERT, &fields(key, value));
    }

    /// Removes a record, from each of these nodes.
    pub(super) fn remove(&self, nodes: &[i32], key: &str) {
        self.tell(nodes, REMOVE, &[string(COLLECTION), string(key)].concat());
    }

    fn tell(&self, nodes: &[i32], command: i32, fields: &[u8]) {
        let mut writer = Writer::new();
        for node in nodes {
            let trailer = Trailer::new(CLUSTER, self.shared.me, *node);
            let packet = writer.module(trailer, RECORDS.as_bytes(), command, 1, fields);
            self.shared
                .send(*node, packet.expect("a packet"), Lane::Bulk);
        }
    }

    /// Asks `node` for all records.
    pub(super) fn request(&self, node: i32) {
        let capability = RECORDS.into();
        let trailer = Trailer::new(CLUSTER, self.shared.me, node);
        let mut writer = Writer::new();
        let packet = writer.extra(RELEASE, trailer, &Extra::SyncRequest { capability });
        // Behind the records that were told of.
        self.shared
            .send(node, packet.expect("a packet"), Lane::Bulk);
    }

    /// Tells `node` which records it has: all of them, or nothing worth having.
    pub(super) fn tell_synced(&self, node: i32, synced: bool) {
        let update = Internal::Capabilities {
            stamp: Some(Stamp {
                seq: self.shared.seq.fetch_add(1, Ordering::Relaxed),
                timestamp: 1,
            }),
            nodes: vec![NodeCapabilities {
                id: self.shared.me,
                capabilities: vec![(RECORDS.into(), synced)],
            }],
            require_reply: true,
            path: vec![self.shared.me],
        };
        let mut writer = Writer::new();
        let packet = writer.internal(RELEASE, CLUSTER, self.shared.me, &update);
        self.shared
            .send(node, packet.expect("a packet"), Lane::Control);
    }

    /// Gives `node` these records, as a donor does; it may fall silent before the end.
    pub(super) fn give(&self, node: i32, records: &[(&str, &str)], to_the_end: bool) {
        let trailer = Trailer::new(CLUSTER, self.shared.me, node);
        let chunks = records.iter().map(|(key, value)| {
            let data = fields(key, value);
            let len = i32::try_from(data.len()).expect("a short record");
            [&len.to_le_bytes(), &CHUNK_MARKER.to_le_bytes(), &data[..]].concat()
        });
        let chunks = chunks.collect::<Vec<_>>().concat();
        let mut writer = Writer::new();
        let packet = writer.sync(RELEASE, trailer, RECORDS.as_bytes(), 1, &chunks);
        let lane = Lane::Bulk;
        self.shared.send(node, packet.expect("a packet"), lane);
        if to_the_end {
            let end = Extra::SyncEnd {
                capability: RECORDS.into(),
                total: u32::try_from(records.len()).ok(),
            };
            let packet = writer.extra(RELEASE, trailer, &end);
            self.shared.send(node, packet.expect("a packet"), lane);
        }
    }

    /// All records that `node` gives, by their keys, each once: the test fails if its count is not that of the end.
    #[track_caller]
    pub(super) fn records_of(&self, node: i32) -> BTreeMap<String, String> {
        let before = self.heard(node);
        self.request(node);
        eventually(&format!("a sync of node {node}"), || {
            self.heard(node).ends.len() > before.ends.len()
        });
        let heard = self.heard(node);
        let chunks = &heard.chunks[before.chunks.len()..];
        let total = u32::try_from(chunks.len()).expect("not so many");
        assert_eq!(heard.ends[before.ends.len()..], [Some(total)]);
        let records = chunks.iter().map(|chunk| record(chunk));
        let records: BTreeMap<_, _> = records.collect();
        assert_eq!(records.len(), chunks.len(), "each record once");
        records
    }

    /// Waits until all that was told to `node` is on its way.
    #[track_caller]
    pub(super) fn flush(&self, node: i32) {
        let link = self.shared.to[&node];
        eventually(&format!("node {node} to take all"), || {
            self.shared.links.waiting_bytes(link) == 0
        });
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        if let Some(accepting) = self.accepting.take() {
            // What it panicked with is on standard error.
            let _ = accepting.join();
        }
        self.shared.links.stop(Duration::ZERO);
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut readers = Vec::new();
        while !self.stops.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).expect("a socket");
            let ours = stream.try_clone().expect("a descriptor");
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(ours);
            drop(streams);
            let shared = Arc::clone(&self);
            readers.push(thread::spawn(move || shared.read(stream)));
        }
        for stream in &*self.streams.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that has ended already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for reader in readers {
            let _ = reader.join();
        }
    }

    /// Reads packets until the connection ends.
    fn read(&self, mut stream: TcpStream) {
        let mut header = [0; HEADER_LEN];
        while stream.read_exact(&mut header).is_ok() {
            let len = header[4..].try_into().expect("four bytes");
            let mut packet = vec![0; u32::from_le_bytes(len) as usize];
            let (begin, rest) = packet.split_at_mut(HEADER_LEN);
            begin.copy_from_slice(&header);
            if stream.read_exact(rest).is_err() {
                return;
            }
            let packet = Packet::parse(Generation::Modern, &packet).expect("a whole packet");
            match packet.name() {
                b"clusterer-internal" => self.internal(&packet),
                b"clusterer-extra" => self.extra(&packet),
                _ => {}
            }
        }
    }

    fn internal(&self, packet: &Packet<'_>) {
        let (cluster, source, message) = message::internal(packet).expect("a message");
        assert_eq!(cluster, CLUSTER);
        match message {
            Internal::Ping { .. } => {
                self.heard(|heard| heard.entry(source).or_default().pings += 1);
                let mut writer = Writer::new();
                let pong = Internal::Pong { nodes: vec![] };
                let pong = writer.internal(RELEASE, CLUSTER, self.me, &pong);
                self.send(source, pong.expect("a packet"), Lane::Control);
            }
            Internal::Capabilities { nodes, .. } => {
                // A node tells of itself and of others, under its own name.
                let told = nodes.iter().filter(|node| node.id == source);
                let told = told.flat_map(|node| &node.capabilities);
                for (_, synced) in { told }.filter(|(name, _)| name == RECORDS.as_bytes()) {
                    self.heard(|heard| {
                        let heard = heard.entry(source).or_default();
                        heard.synced = Some(*synced);
                        heard.was_synced |= *synced;
                    });
                }
            }
            _ => {}
        }
    }

    fn extra(&self, packet: &Packet<'_>) {
        let (trailer, routed) = message::extra(packet, Some(RELEASE)).expect("a message");
        assert_eq!((trailer.cluster, trailer.dest), (CLUSTER, self.me));
        self.heard(|heard| {
            let heard = heard.entry(trailer.source).or_default();
            match routed {
                Routed::Message(Extra::SyncRequest { .. }) => heard.requests += 1,
                Routed::Message(Extra::SyncEnd { total, .. }) => heard.ends.push(total),
                Routed::Message(_) => {}
                Routed::Sync(sync) => {
                    let chunks = sync.chunks.map(|chunk| chunk.expect("it is whole"));
                    heard.chunks.extend(chunks.map(|chunk| chunk.data.to_vec()));
                }
            }
        });
    }

    fn send(&self, node: i32, packet: &[u8], lane: Lane) {
        eventually("room in the queue of a link", || {
            self.links.send(self.to[&node], lane, packet).is_ok()
        });
    }

    fn heard<T>(&self, with: impl FnOnce(&mut BTreeMap<i32, Heard>) -> T) -> T {
        with(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The key and the value that a chunk is about.
fn record(chunk: &[u8]) -> (String, String) {
    let mut fields = Fields::new(Generation::Modern, chunk, 0);
    let mut string = || {
        let bytes = fields.pop_str().expect("a string");
        String::from_utf8(bytes.to_vec()).expect("a text")
    };
    assert_eq!(string(), COLLECTION);
    (string(), string())
}

/// What a packet that puts a record says, and a chunk about it.
fn fields(key: &str, value: &str) -> Vec<u8> {
    let never = 0_i32.to_le_bytes().to_vec();
    [string(COLLECTION), string(key), string(value), never].concat()
}

fn string(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("a short text");
    [&len.to_le_bytes()[..], text.as_bytes()].concat()
}

/// What it speaks.
const RELEASE: Release = Release::V3_6;

/// Marker and length.
const HEADER_LEN: usize = 8;

/// Commands of [`RECORDS`] (3.6 `cachedb_local_replication.h`).
const INSERT: i32 = 1;
const REMOVE: i32 = 2;

const COLLECTION: &str = "default";
