//! What a node said, without what depends on timers and counters, and without what a seat does otherwise on purpose.

use std::collections::{BTreeMap, BTreeSet};

use binrush_engine::Timestamp;
use binrush_engine::cluster::facts::CopyState;
use binrush_engine::cluster::message::{Extra, Internal, Kind, NodeCapabilities, Stamp};
use binrush_engine::cluster::outbox::Event;

use crate::cluster::record::{Message, Setting, Sync};
use crate::cluster::replay::Said;

/// What a seat does otherwise than genuine nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    Pings,
    NoTransit,
    Scripts,
    Commands,
    Tags,
    Records,
    Hearsay,
    Unnumbered,
    Donors,
    Settling,
    Absence,
    Impatience,
}

impl Difference {
    pub(super) const ALL: [Self; 12] = [
        Self::Pings,
        Self::NoTransit,
        Self::Scripts,
        Self::Commands,
        Self::Tags,
        Self::Records,
        Self::Hearsay,
        Self::Unnumbered,
        Self::Donors,
        Self::Settling,
        Self::Absence,
        Self::Impatience,
    ];

    /// Why, in a sentence.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Pings => {
                "when a PING leaves is a matter of timers; each that comes is answered, which is compared"
            }
            Self::NoTransit => {
                "a seat is no way for others' packets: it forwards none, announces no links of its own and floods no LS_UPDATE \
                 about them, because packets have no hop count that would end a loop"
            }
            Self::Scripts => {
                "messages of scripts are written by scripts; a seat tells its own of those that come"
            }
            Self::Commands => "what others want to have executed is not executed, nor sent",
            Self::Tags => "a seat never claims a sharing tag",
            Self::Records => "packets of modules are no messages of the cluster's own",
            Self::Hearsay => {
                "a genuine node tells of others all that it ever heard of them; a seat tells what they told it themselves since \
                 their links came up, because what is past would mislead"
            }
            Self::Unnumbered => {
                "up to 3.0 a CAP_UPDATE has no number, and nothing but its path ends its flood; a seat passes it on only if it \
                 says something new"
            }
            Self::Donors => {
                "a genuine node asks the first of its list that is synced; a seat asks the one that sees the most nodes"
            }
            Self::Settling => {
                "a genuine node asks at once; a seat waits a moment for nodes that are about to come up, and who comes up \
                 meanwhile hears that it is not synced"
            }
            Self::Impatience => {
                "a genuine node that is to sync while it is being answered asks once more; a seat goes on with the sync under way"
            }
            Self::Absence => {
                "a seat that was without a synced node syncs again, because others may have heard from that node meanwhile; a \
                 genuine node takes no notice"
            }
        }
    }
}

/// Messages that come in one order: to one node, of one kind, made by one node, about one capability.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    to: i32,
    kind: &'static str,
    origin: i32,
    about: String,
    /// Updates that only their paths tell apart.
    pub(super) is_unnumbered: bool,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// When.
    pub(super) at: Timestamp,
    /// All of it that can be compared.
    pub(super) text: String,
    /// What it says of others' capabilities.
    pub(super) hearsay: BTreeMap<i32, BTreeSet<(String, bool)>>,
}

/// What a node said.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// Message by message.
    pub(super) lines: BTreeMap<Line, Vec<Word>>,
    /// To whom it told what of its own capabilities, and when.
    pub(super) states: BTreeMap<(i32, String), Vec<(Timestamp, bool)>>,
    /// Of each capability, who was asked for a sync.
    pub(super) requests: BTreeMap<String, Vec<(Timestamp, i32)>>,
    /// Why something is in none of these.
    pub(super) differences: BTreeSet<Difference>,
    /// Chunks of syncs whose end was not sent yet.
    begun: BTreeMap<(i32, String), Vec<Vec<u8>>>,
}

impl Spoken {
    /// What node `me` said.
    pub(super) fn new(setting: &Setting, me: i32, said: &[Said]) -> Self {
        let mut spoken = Self::default();
        for said in said {
            match difference(me, &said.message) {
                Some(difference) => {
                    spoken.differences.insert(difference);
                }
                None => spoken.take(setting, me, said),
            }
        }
        spoken
    }

    fn take(&mut self, setting: &Setting, me: i32, said: &Said) {
        match &said.message {
            Message::Internal { source, message } if *source == me => match message {
                Internal::Capabilities {
                    nodes,
                    require_reply,
                    path,
                    ..
                } => self.own_capabilities(setting, me, said, nodes, (*require_reply, path)),
                Internal::FullTopology { .. } => self.own_topology(me, said, message.clone()),
                message => self.word(said, message.kind(), me, format!("{message:?}")),
            },
            Message::Internal { source, message } => {
                self.word(said, message.kind(), *source, format!("{message:?}"));
            }
            Message::Extra {
                message: Extra::SyncRequest { capability },
                ..
            } => {
                let name = String::from_utf8_lossy(capability).into_owned();
                self.requests
                    .entry(name)
                    .or_default()
                    .push((said.at, said.to));
            }
            Message::Extra {
                message: Extra::SyncEnd { capability, total },
                ..
            } => self.own_sync_end(said, &String::from_utf8_lossy(capability), *total),
            Message::Extra { message, .. } => {
                self.word(said, message.kind(), me, format!("{message:?}"))
            }
            Message::Sync(Sync {
                capability, chunks, ..
            }) => {
                let begun = self.begun.entry((said.to, capability.clone())).or_default();
                begun.extend(chunks.iter().cloned());
            }
            Message::Module { .. } => unreachable!("a difference"),
        }
    }

    fn word(&mut self, said: &Said, kind: Kind, origin: i32, text: String) {
        let line = Line {
            to: said.to,
            kind: kind.symbol(),
            origin,
            about: String::new(),
            is_unnumbered: text.contains("stamp: None"),
        };
        self.push(line, said.at, text, BTreeMap::new());
    }

    fn push(
        &mut self,
        line: Line,
        at: Timestamp,
        text: String,
        hearsay: BTreeMap<i32, BTreeSet<(String, bool)>>,
    ) {
        let word = Word { at, text, hearsay };
        self.lines.entry(line).or_default().push(word);
    }

    /// A CAP_UPDATE of its own: all that it has and what it heard of others, or a change of its own.
    fn own_capabilities(
        &mut self,
        setting: &Setting,
        me: i32,
        said: &Said,
        nodes: &[NodeCapabilities],
        (require_reply, path): (bool, &[i32]),
    ) {
        let mut hearsay = BTreeMap::new();
        for node in nodes {
            let names = node.capabilities.iter();
            let told =
                names.map(|(name, synced)| (String::from_utf8_lossy(name).into_owned(), *synced));
            if node.id != me {
                hearsay.insert(node.id, told.collect());
                continue;
            }
            for (name, synced) in told {
                let states = self.states.entry((said.to, name)).or_default();
                states.push((said.at, synced));
            }
        }
        let own = nodes.iter().find(|node| node.id == me);
        let own = own.map_or(0, |node| node.capabilities.len());
        if own == setting.capabilities.len() {
            let line = Line {
                to: said.to,
                kind: Kind::Capabilities.symbol(),
                origin: me,
                about: "all that it has".to_owned(),
                is_unnumbered: false,
            };
            let text = format!("reply wanted: {require_reply}, path {path:?}");
            self.push(line, said.at, text, hearsay);
        } else {
            assert!(
                !require_reply && hearsay.is_empty() && path == [me],
                "a change: {said:?}"
            );
        }
    }

    /// A FULL_TOP_UPDATE of its own, without its number and without the links that a seat does not announce.
    fn own_topology(&mut self, me: i32, said: &Said, mut message: Internal) {
        let Internal::FullTopology { stamp, nodes, .. } = &mut message else {
            return;
        };
        let unnumbered = Stamp {
            seq: 0,
            timestamp: 0,
        };
        *stamp = unnumbered;
        assert_eq!(nodes[0].id, me, "the sender first");
        if std::mem::take(&mut nodes[0].neighbours).is_empty() {
            self.differences.insert(Difference::NoTransit);
        }
        nodes[0].stamp = unnumbered;
        nodes.sort_by_key(|node| node.id);
        nodes
            .iter_mut()
            .for_each(|node| node.neighbours.sort_unstable());
        self.word(said, Kind::FullTopology, me, format!("{message:?}"));
    }

    /// The end of a sync that it gave: all its chunks, however they were packed.
    fn own_sync_end(&mut self, said: &Said, capability: &str, total: Option<u32>) {
        let chunks = self.begun.remove(&(said.to, capability.to_owned()));
        let chunks = chunks.unwrap_or_default();
        if let Some(total) = total {
            assert_eq!(total as usize, chunks.len(), "{said:?}");
        }
        let nothing = chunks.is_empty() || chunks == [crate::cluster::replay::ONE];
        let line = Line {
            to: said.to,
            kind: Kind::SyncEnd.symbol(),
            origin: 0,
            about: capability.to_owned(),
            is_unnumbered: false,
        };
        let text = match nothing {
            true => "nothing, or one record in place of it".to_owned(),
            false => format!("{chunks:?}"),
        };
        self.push(line, said.at, text, BTreeMap::new());
    }
}

/// Why a message is not compared.
fn difference(me: i32, message: &Message) -> Option<Difference> {
    match message {
        Message::Internal { source, message } => match message.kind() {
            Kind::Ping => Some(Difference::Pings),
            Kind::LinkUpdate if *source == me => Some(Difference::NoTransit),
            _ => None,
        },
        Message::Extra { trailer, message } => match message.kind() {
            _ if trailer.source != me => Some(Difference::NoTransit),
            Kind::Generic => Some(Difference::Scripts),
            Kind::MiCommand | Kind::RemoveNode => Some(Difference::Commands),
            Kind::TagActive => Some(Difference::Tags),
            _ => None,
        },
        Message::Sync(sync) => (sync.trailer.source != me).then_some(Difference::NoTransit),
        Message::Module { .. } => Some(Difference::Records),
    }
}

/// A sync because a node was away.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) capability: String,
    /// From when the copy was suspect,
    pub(super) from: Timestamp,
    /// until it was verified again.
    pub(super) to: Timestamp,
}

/// The syncs that came because a node was away.
pub(super) fn syncs_after_absence(events: &[(Timestamp, Event)]) -> Vec<Again> {
    let mut open: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut done = vec![];
    for (at, event) in events {
        let Event::Capability {
            capability,
            state,
            why,
            ..
        } = event
        else {
            continue;
        };
        match state {
            CopyState::Suspect if why.contains("is back") => {
                open.entry(capability).or_insert(*at);
            }
            CopyState::Verified => {
                if let Some(from) = open.remove(capability.as_str()) {
                    done.push(Again {
                        capability: capability.clone(),
                        from,
                        to: *at,
                    });
                }
            }
            _ => {}
        }
    }
    done
}

/// The states one after the other, each said once.
pub(super) fn changes(told: &[(Timestamp, bool)]) -> Vec<bool> {
    let mut changes: Vec<_> = told.iter().map(|(_, synced)| *synced).collect();
    changes.dedup();
    changes
}
