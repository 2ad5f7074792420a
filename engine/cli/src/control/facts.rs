//! What is known of a cluster, as the control socket writes it and `binrush cluster` reads it.
//!
//! The engine's own types say what each thing means (`binrush_engine::cluster::facts`); here they have the shape that
//! tools see. A key that is not there when it is read has its default, so that a newer command understands an older
//! server as long as the version is the same.

use binrush_engine::cluster::facts::{
    CapabilityFacts, ClusterFacts, KeptFacts, MessageFacts, NodeFacts, PeerFacts, SyncFacts,
    TagFacts,
};
use binrush_engine::cluster::replica;
use binrush_engine::cluster::session::SyncEnd;
use serde::{Deserialize, Serialize};

/// One cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cluster {
    pub(crate) cluster: i32,
    pub(crate) me: i32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) messages: Vec<Message>,
}

/// One of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) url: String,
    pub(crate) sip_addr: String,
    pub(crate) release: String,
    pub(crate) is_me: bool,
    pub(crate) learned: bool,
    /// `up`, `down`, or how it is probed; `self` of the node that we are.
    pub(crate) link: String,
    pub(crate) neighbours: Vec<i32>,
    pub(crate) next_hop: Option<i32>,
    pub(crate) capabilities: Vec<NodeCapability>,
    pub(crate) heard_ms: Option<u64>,
    pub(crate) pong_ms: Option<u64>,
    pub(crate) ups: u64,
    pub(crate) downs: u64,
}

/// What a node says of a capability of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeCapability {
    pub(crate) name: String,
    pub(crate) synced: bool,
}

/// One of our capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Capability {
    pub(crate) name: String,
    /// `unverified`, `syncing`, `verified`, `suspect`.
    pub(crate) state: String,
    pub(crate) why: String,
    pub(crate) peers: Vec<Peer>,
    pub(crate) advertised: bool,
    pub(crate) sync: Option<Sync>,
    pub(crate) last_sync: Option<LastSync>,
    pub(crate) completed: u64,
    pub(crate) abandoned: u64,
    pub(crate) donated: u64,
    pub(crate) donated_chunks: u64,
    pub(crate) withheld: Withheld,
    pub(crate) donations: Vec<Donation>,
    pub(crate) requests_waiting: Vec<i32>,
    pub(crate) kept: Option<Kept>,
}

/// What was kept back in the syncs that others got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Withheld {
    pub(crate) no_socket: u64,
    pub(crate) socketless: u64,
    pub(crate) provisional: u64,
    /// Some of those that the last one lacks.
    pub(crate) sockets: Vec<String>,
}

/// What is had of what one node told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) node: i32,
    pub(crate) state: String,
    pub(crate) why: String,
}

/// What is kept of a capability here, and what became of the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) records: u64,
    /// Of memory.
    pub(crate) bytes: u64,
    pub(crate) incomplete: u64,
    pub(crate) astray: u64,
    pub(crate) full: u64,
    pub(crate) passed_over: u64,
    pub(crate) senseless: u64,
    pub(crate) expired: u64,
}

/// A sync under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sync {
    pub(crate) donor: i32,
    pub(crate) packets: u64,
    pub(crate) applied: u64,
    pub(crate) total: Option<u64>,
    pub(crate) held: u64,
    pub(crate) held_bytes: u64,
    pub(crate) since_ms: u64,
}

/// One that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LastSync {
    pub(crate) donor: i32,
    pub(crate) completed: bool,
    /// Whether records that the donor did not confirm were removed.
    pub(crate) removed_unconfirmed: bool,
    pub(crate) chunks: u64,
    pub(crate) took_ms: u64,
}

/// One that a node gets from us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Donation {
    pub(crate) node: i32,
    pub(crate) chunks: u64,
}

/// A sharing tag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) active: Option<i32>,
}

/// Messages of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Message {
    pub(crate) kind: String,
    pub(crate) received: u64,
    pub(crate) ignored: u64,
    pub(crate) sent: u64,
}

impl From<&ClusterFacts> for Cluster {
    fn from(facts: &ClusterFacts) -> Self {
        Self {
            cluster: facts.cluster,
            me: facts.me,
            nodes: facts.nodes.iter().map(Node::from).collect(),
            capabilities: facts.capabilities.iter().map(Capability::from).collect(),
            tags: facts.tags.iter().map(Tag::from).collect(),
            messages: facts.messages.iter().map(Message::from).collect(),
        }
    }
}

impl From<&NodeFacts> for Node {
    fn from(facts: &NodeFacts) -> Self {
        let capabilities = facts.capabilities.iter();
        Self {
            id: facts.id,
            url: facts.url.clone(),
            sip_addr: facts.sip_addr.clone(),
            release: facts.release.clone(),
            is_me: facts.is_me,
            learned: facts.learned,
            link: match facts.is_me {
                true => "self",
                false => facts.link.symbol(),
            }
            .to_owned(),
            neighbours: facts.neighbours.clone(),
            next_hop: facts.next_hop,
            capabilities: capabilities
                .map(|(name, synced)| NodeCapability {
                    name: name.clone(),
                    synced: *synced,
                })
                .collect(),
            heard_ms: facts.heard_ms,
            pong_ms: facts.pong_ms,
            ups: facts.ups,
            downs: facts.downs,
        }
    }
}

impl From<&CapabilityFacts> for Capability {
    fn from(facts: &CapabilityFacts) -> Self {
        let donations = facts.donations.iter();
        Self {
            name: facts.name.clone(),
            state: facts.state.symbol().to_owned(),
            why: facts.why.clone(),
            peers: facts.peers.iter().map(Peer::from).collect(),
            advertised: facts.advertised,
            sync: facts.sync.as_ref().map(Sync::from),
            last_sync: facts.last_sync.map(LastSync::from),
            completed: facts.completed,
            abandoned: facts.abandoned,
            donated: facts.donated,
            donated_chunks: facts.donated_chunks,
            withheld: Withheld::from(&facts.withheld),
            donations: donations
                .map(|&(node, chunks)| Donation { node, chunks })
                .collect(),
            requests_waiting: facts.requests_waiting.clone(),
            kept: facts.kept.map(Kept::from),
        }
    }
}

impl From<&replica::Withheld> for Withheld {
    fn from(facts: &replica::Withheld) -> Self {
        let sockets = facts.sockets.iter();
        Self {
            no_socket: facts.no_socket,
            socketless: facts.socketless,
            provisional: facts.provisional,
            sockets: sockets
                .map(|socket| String::from_utf8_lossy(socket).into_owned())
                .collect(),
        }
    }
}

impl From<&PeerFacts> for Peer {
    fn from(facts: &PeerFacts) -> Self {
        Self {
            node: facts.node,
            state: facts.state.symbol().to_owned(),
            why: facts.why.clone(),
        }
    }
}

impl From<KeptFacts> for Kept {
    fn from(facts: KeptFacts) -> Self {
        Self {
            records: facts.records,
            bytes: facts.bytes,
            incomplete: facts.incomplete,
            astray: facts.astray,
            full: facts.full,
            passed_over: facts.passed_over,
            senseless: facts.senseless,
            expired: facts.expired,
        }
    }
}

impl From<&SyncFacts> for Sync {
    fn from(facts: &SyncFacts) -> Self {
        Self {
            donor: facts.donor,
            packets: facts.packets,
            applied: facts.applied,
            total: facts.total,
            held: facts.held,
            held_bytes: facts.held_bytes,
            since_ms: facts.since_ms,
        }
    }
}

impl From<(i32, SyncEnd, u64, u64)> for LastSync {
    fn from((donor, end, chunks, took_ms): (i32, SyncEnd, u64, u64)) -> Self {
        let (completed, removed_unconfirmed) = match end {
            SyncEnd::Completed { remove_unconfirmed } => (true, remove_unconfirmed),
            SyncEnd::Abandoned => (false, false),
        };
        Self {
            donor,
            completed,
            removed_unconfirmed,
            chunks,
            took_ms,
        }
    }
}

impl From<&TagFacts> for Tag {
    fn from(facts: &TagFacts) -> Self {
        Self {
            name: facts.name.clone(),
            active: facts.active,
        }
    }
}

impl From<&MessageFacts> for Message {
    fn from(facts: &MessageFacts) -> Self {
        Self {
            kind: facts.kind.to_owned(),
            received: facts.received,
            ignored: facts.ignored,
            sent: facts.sent,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use binrush_engine::cluster::facts::{CopyState, LinkState};
    use serde_json::json;

    /// A cluster with something in every field: ourselves, a node that is up, and a learned one that is probed.
    pub(crate) fn sample() -> ClusterFacts {
        ClusterFacts {
            cluster: 1,
            me: 3,
            nodes: vec![me(), up(), probed()],
            capabilities: vec![syncing(), verified()],
            tags: vec![
                TagFacts {
                    name: "vip".into(),
                    active: Some(1),
                },
                TagFacts {
                    name: "spare".into(),
                    active: None,
                },
            ],
            messages: vec![
                message("ping", 900, 1, 1800),
                message("sync", 33, 0, 0),
                message("mi_cmd", 0, 0, 0),
            ],
        }
    }

    fn me() -> NodeFacts {
        NodeFacts {
            id: 3,
            url: "bin:10.0.0.9:5566".into(),
            release: "3.6 (told)".into(),
            is_me: true,
            ..NodeFacts::default()
        }
    }

    fn up() -> NodeFacts {
        NodeFacts {
            id: 1,
            url: "bin:10.0.0.1:5566".into(),
            sip_addr: "sip:10.0.0.1".into(),
            release: "3.6 (found out)".into(),
            link: LinkState::Up,
            neighbours: vec![3],
            next_hop: Some(1),
            capabilities: vec![
                ("dialog-dlg-repl".into(), true),
                ("ratelimit-pipe-repl".into(), true),
            ],
            heard_ms: Some(12),
            pong_ms: Some(1),
            ups: 2,
            downs: 1,
            ..NodeFacts::default()
        }
    }

    fn probed() -> NodeFacts {
        NodeFacts {
            id: 12,
            url: "bin:10.0.0.12:5566".into(),
            release: "2.4 (told)".into(),
            learned: true,
            link: LinkState::Retrying,
            neighbours: vec![1],
            capabilities: vec![("dialog-dlg-repl".into(), false)],
            heard_ms: Some(5_240),
            ..NodeFacts::default()
        }
    }

    fn syncing() -> CapabilityFacts {
        CapabilityFacts {
            name: "dialog-dlg-repl".into(),
            state: CopyState::Syncing,
            why: "the first sync".into(),
            sync: Some(SyncFacts {
                donor: 1,
                packets: 33,
                applied: 12_000,
                total: Some(50_000),
                held: 120,
                held_bytes: 40_960,
                since_ms: 2_300,
            }),
            abandoned: 1,
            last_sync: Some((12, SyncEnd::Abandoned, 7, 15_000)),
            requests_waiting: vec![12],
            peers: vec![PeerFacts {
                node: 12,
                state: CopyState::Suspect,
                why: "it is back".to_owned(),
            }],
            ..CapabilityFacts::default()
        }
    }

    fn verified() -> CapabilityFacts {
        let removing = SyncEnd::Completed {
            remove_unconfirmed: true,
        };
        CapabilityFacts {
            name: "usrloc-contact-repl".into(),
            state: CopyState::Verified,
            why: "node 1 gave all".into(),
            advertised: true,
            last_sync: Some((1, removing, 80_000, 1_204)),
            completed: 2,
            donated: 3,
            donated_chunks: 240_000,
            withheld: replica::Withheld {
                no_socket: 7,
                socketless: 40,
                provisional: 2,
                sockets: vec![b"udp:10.0.0.1:5060"[..].into()],
            },
            donations: vec![(12, 41_000)],
            kept: Some(KeptFacts {
                records: 80_000,
                bytes: 35_680_000,
                incomplete: 3,
                astray: 12,
                full: 1,
                passed_over: 2_000,
                senseless: 5,
                expired: 700,
            }),
            ..CapabilityFacts::default()
        }
    }

    fn message(kind: &'static str, received: u64, ignored: u64, sent: u64) -> MessageFacts {
        MessageFacts {
            kind,
            received,
            ignored,
            sent,
        }
    }

    #[test]
    fn facts_have_stable_keys_and_are_read_as_they_were_written() {
        let cluster = Cluster::from(&sample());
        let value = json!(cluster);
        assert_eq!(
            value["nodes"][1],
            json!({
                "id": 1, "url": "bin:10.0.0.1:5566", "sip_addr": "sip:10.0.0.1", "release": "3.6 (found out)",
                "is_me": false, "learned": false, "link": "up", "neighbours": [3], "next_hop": 1,
                "capabilities": [
                    { "name": "dialog-dlg-repl", "synced": true }, { "name": "ratelimit-pipe-repl", "synced": true },
                ],
                "heard_ms": 12, "pong_ms": 1, "ups": 2, "downs": 1,
            })
        );
        assert_eq!(
            value["capabilities"][0],
            json!({
                "name": "dialog-dlg-repl", "state": "syncing", "why": "the first sync",
                "peers": [{ "node": 12, "state": "suspect", "why": "it is back" }], "advertised": false,
                "sync": {
                    "donor": 1, "packets": 33, "applied": 12000, "total": 50000, "held": 120, "held_bytes": 40960,
                    "since_ms": 2300,
                },
                "last_sync": {
                    "donor": 12, "completed": false, "removed_unconfirmed": false, "chunks": 7, "took_ms": 15000,
                },
                "completed": 0, "abandoned": 1, "donated": 0, "donated_chunks": 0, "donations": [],
                "withheld": { "no_socket": 0, "socketless": 0, "provisional": 0, "sockets": [] },
                "requests_waiting": [12], "kept": null,
            })
        );
        assert_eq!(
            value["capabilities"][1]["kept"],
            json!({
                "records": 80000, "bytes": 35680000, "incomplete": 3, "astray": 12, "full": 1, "passed_over": 2000, "senseless": 5, "expired": 700,
            })
        );
        assert_eq!(
            value["capabilities"][1]["withheld"],
            json!({ "no_socket": 7, "socketless": 40, "provisional": 2, "sockets": ["udp:10.0.0.1:5060"] })
        );
        assert_eq!(value["tags"][1], json!({ "name": "spare", "active": null }));
        // We have no link to ourselves.
        assert_eq!(value["nodes"][0]["link"], "self");
        let read: Cluster = serde_json::from_value(value).unwrap();
        assert_eq!(read, cluster);
    }

    #[test]
    fn keys_of_a_newer_server_are_passed_over_and_those_of_an_older_one_have_defaults() {
        let value = json!({ "cluster": 4, "bridges": [1], "nodes": [{ "id": 9 }] });
        let read: Cluster = serde_json::from_value(value).unwrap();
        assert_eq!((read.cluster, read.nodes[0].id), (4, 9));
        assert_eq!(read.nodes[0].heard_ms, None);
    }
}
