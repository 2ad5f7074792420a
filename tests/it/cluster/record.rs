//! What the nodes of a capture said to each other: who, to whom, when, and what it means.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use binrush_engine::Timestamp;
use binrush_engine::cluster::message::{self, Extra, Internal, Routed};
use binrush_tests::captures;
use binrush_wire::{Generation, Packet, Release, Trailer};

/// A capture of a cluster, and what a node of it has to be told at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// The name of the capture.
    pub(super) capture: &'static str,
    /// The release of its nodes.
    pub(super) release: Release,
    /// The id of the cluster.
    pub(super) cluster: i32,
    /// The network that the nodes live in; the last byte of an address is the node's id.
    pub(super) network: [u8; 3],
    /// Where they listen.
    pub(super) port: u16,
    /// Seconds until a seed does without a donor.
    pub(super) seed_fallback: u64,
    /// Nodes that each of the three has in its configuration.
    pub(super) known: [&'static [i32]; 3],
    /// What the nodes replicate, and whether it is synced.
    pub(super) capabilities: &'static [(&'static str, bool)],
    /// Sharing tags in their configurations.
    pub(super) tags: &'static [&'static str],
    /// Nodes that end before the capture does, and when, in seconds since the first packet.
    pub(super) ends: &'static [(i32, f64)],
    /// Two nodes that could not reach each other, from when to when: what they sent meanwhile was lost.
    pub(super) cuts: &'static [(i32, i32, f64, f64)],
}

/// The captures of clusters.
pub(super) const SETTINGS: [Setting; 3] = [
    Setting {
        capture: "2.4",
        release: Release::V2_4,
        cluster: 1,
        network: [127, 0, 24],
        port: 5566,
        seed_fallback: 5,
        known: [&[2, 3], &[1, 3], &[1, 2]],
        capabilities: &[
            ("ratelimit-pipe-repl", false),
            ("dialog-dlg-repl", true),
            ("dialog-prof-repl", false),
            ("usrloc-contact-repl", true),
        ],
        tags: &[],
        ends: &[(3, 30.33)],
        cuts: &[],
    },
    Setting {
        capture: "3.6",
        release: Release::V3_6,
        cluster: 1,
        network: [127, 0, 36],
        port: 5566,
        seed_fallback: 5,
        known: [&[2, 3], &[1, 3], &[1, 2]],
        capabilities: CAPABILITIES_3_6,
        tags: &["vip"],
        ends: &[],
        cuts: &[(1, 3, 28.312, 30.640)],
    },
    Setting {
        capture: "3.6-late",
        release: Release::V3_6,
        cluster: 7,
        network: [127, 0, 136],
        port: 5577,
        seed_fallback: 3,
        known: [&[2], &[1], &[1, 2]],
        capabilities: CAPABILITIES_3_6,
        tags: &["vip"],
        ends: &[],
        cuts: &[],
    },
];

const CAPABILITIES_3_6: &[(&str, bool)] = &[
    ("ratelimit-pipe-repl", false),
    ("cachedb-local-repl", true),
    ("dialog-dlg-repl", true),
    ("dialog-prof-repl", false),
    ("usrloc-contact-repl", true),
];

impl Setting {
    /// The address of a node.
    pub(super) fn ip(&self, node: i32) -> IpAddr {
        let [a, b, c] = self.network;
        IpAddr::from([a, b, c, u8::try_from(node).expect("a small id")])
    }

    /// Whether a packet between two nodes was lost.
    pub(super) fn is_cut(&self, one: i32, other: i32, at: Timestamp) -> bool {
        self.cuts.iter().any(|&(a, b, from, to)| {
            (a, b) == (one.min(other), one.max(other)) && (moment(from)..moment(to)).contains(&at)
        })
    }

    /// Whether a node has ended.
    pub(super) fn has_ended(&self, node: i32, at: Timestamp) -> bool {
        self.ends
            .iter()
            .any(|&(ended, from)| ended == node && at >= moment(from))
    }

    /// The url of a node, as it is written.
    pub(super) fn url(&self, node: i32) -> String {
        format!("bin:{}:{}", self.ip(node), self.port)
    }
}

/// One packet of a capture.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    /// When: nanoseconds since a moment long before the first packet.
    pub(super) at: Timestamp,
    /// Seconds since 1970.
    pub(super) unix: i64,
    /// The node that sent it, which may not be the one that made it.
    pub(super) from: i32,
    /// The node that it was sent to.
    pub(super) to: i32,
    /// The connection that it went by.
    pub(super) connection: u64,
    /// What it says.
    pub(super) message: Message,
}

/// What a packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// Between neighbours.
    Internal {
        /// The node that made it.
        source: i32,
        /// What it says.
        message: Internal,
    },
    /// To one node.
    Extra {
        /// Cluster, source and destination.
        trailer: Trailer,
        /// What it says.
        message: Extra,
    },
    /// Records to one node.
    Sync(Sync),
    /// Of a module.
    Module {
        /// Which one.
        name: String,
        /// The node that made it.
        source: i32,
    },
}

/// A SYNC packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sync {
    /// Cluster, source and destination.
    pub(super) trailer: Trailer,
    /// Whose records.
    pub(super) capability: String,
    /// The version that its module gave them.
    pub(super) data_version: i32,
    /// What each chunk holds.
    pub(super) chunks: Vec<Vec<u8>>,
}

/// The packets of a capture, in order.
pub(super) fn packets(setting: &Setting) -> Vec<Recorded> {
    let frames = captures::frames(setting.capture);
    let first = frames.first().expect("a packet").time;
    let mut connections = BTreeMap::new();
    frames
        .iter()
        .map(|frame| {
            let ends = (frame.src, frame.dst);
            let number = connections.len() as u64 + 1;
            let since = frame.time - first;
            Recorded {
                at: moment(since),
                unix: whole(frame.time),
                from: node(frame.src),
                to: node(frame.dst),
                connection: *connections.entry(ends).or_insert(number),
                message: read(&frame.bytes, Some(setting.release)),
            }
        })
        .collect()
}

/// What a packet of a node of `release` says.
pub(super) fn read(bytes: &[u8], release: Option<Release>) -> Message {
    let packet = Packet::parse(Generation::Modern, bytes).expect("a packet");
    match packet.name() {
        b"clusterer-internal" => {
            let (_, source, message) = message::internal(&packet).expect("a genuine message");
            Message::Internal { source, message }
        }
        b"clusterer-extra" => match message::extra(&packet, release).expect("a genuine message") {
            (trailer, Routed::Message(message)) => Message::Extra { trailer, message },
            (trailer, Routed::Sync(sync)) => {
                let chunks = sync.chunks.map(|chunk| chunk.expect("a whole chunk"));
                Message::Sync(Sync {
                    trailer,
                    capability: String::from_utf8_lossy(sync.capability).into_owned(),
                    data_version: sync.data_version,
                    chunks: chunks.map(|chunk| chunk.data.to_vec()).collect(),
                })
            }
        },
        name => {
            let trailer = packet.fields().pop_trailer().expect("ids");
            Message::Module {
                name: String::from_utf8_lossy(name).into_owned(),
                source: trailer.source,
            }
        }
    }
}

/// So many seconds after the first packet.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some seconds"
)]
fn moment(seconds: f64) -> Timestamp {
    BEGIN.after((seconds * 1e9) as u64)
}

#[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
fn whole(seconds: f64) -> i64 {
    seconds as i64
}

/// The last byte of its address.
fn node(address: SocketAddr) -> i32 {
    match address.ip() {
        IpAddr::V4(ip) => i32::from(ip.octets()[3]),
        IpAddr::V6(ip) => panic!("{ip}: the captures are of IPv4"),
    }
}

/// The moment of the first packet: a node may have lived for a while before.
pub(super) const BEGIN: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
