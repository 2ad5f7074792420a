//! Who has which capability, and whether it is synced there.

use std::borrow::Cow;

use binrush_wire::Release;

use super::node::{Counted, Node, Told, Untold};
use super::stamp::{BEFORE_ALL, Worth};
use super::{Mesh, Way};
use crate::cluster::message::{CAPABILITIES_MAX, Internal, NodeCapabilities, Stamp};
use crate::cluster::outbox::{Now, Outbox, Sent};
use crate::cluster::seat::notice::Notice;

impl Mesh {
    /// CAP_UPDATE: what a node has, and what it knows of others.
    pub(super) fn capabilities(
        &mut self,
        way: Way,
        stamp: Option<Stamp>,
        nodes: Vec<NodeCapabilities>,
        require_reply: bool,
        path: Vec<i32>,
        out: &mut dyn Outbox,
    ) -> bool {
        let node = &mut self.nodes[way.place];
        let source = node.id();
        if way.direct.is_some() {
            node.is_unstamped = stamp.is_none();
        }
        // Who numbers his updates does so for us as well: this one lost its number on the way, and nobody knows how old it is.
        if stamp.is_none() && way.direct.is_none() && node.updates.stamp() != BEFORE_ALL {
            return false;
        }
        let worth = stamp.map(|stamp| node.updates.look(stamp, way.direct));
        if let Some(worth) = worth
            && !self.is_news(way.place, worth, Counted::Capabilities)
        {
            return false;
        }
        let mut is_new = false;
        for entry in &nodes {
            is_new |= self.take_capabilities(way, entry);
        }
        self.nodes[way.place].has_told |= self.is_its_word(way);
        if require_reply {
            self.tell_capabilities_to(way.place, false, out);
        }
        // Without a stamp nothing but its path ends a flood, and in a full mesh there are more paths than anybody can count.
        // What we knew is not passed on: our neighbours had it of us then, or when their links came up.
        if worth.map_or(is_new, |worth| worth != Worth::Repeated) {
            self.flood(source, path, out, |path| Internal::Capabilities {
                stamp,
                nodes,
                require_reply: false,
                path,
            });
        }
        true
    }

    /// Tells all neighbours which of our capabilities changed; `own`: all that we have now.
    pub(in super::super) fn tell_capabilities(
        &mut self,
        own: Vec<(String, bool)>,
        out: &mut dyn Outbox,
    ) {
        let changed = own.iter().filter(|now| !self.own.contains(now));
        let changed: Vec<_> = changed.map(encode).collect();
        self.own = own;
        let neighbours = self.up_places(0);
        if changed.is_empty() || neighbours.is_empty() {
            return;
        }
        let mut message = Internal::Capabilities {
            stamp: None,
            nodes: vec![NodeCapabilities {
                id: self.config.me.id,
                capabilities: changed,
            }],
            require_reply: false,
            path: vec![self.config.me.id],
        };
        // One number for all of them: they pass it on to each other.
        let mut later = None;
        for place in neighbours {
            self.tell_numbered(place, &mut message, &mut later, out);
        }
    }

    /// Tells one neighbour all that we have, and what the others told since their links came up. (Genuine nodes tell all that
    /// they ever heard of the others; what is past would only mislead.)
    pub(super) fn tell_capabilities_to(
        &mut self,
        to: usize,
        require_reply: bool,
        out: &mut dyn Outbox,
    ) {
        let ours = NodeCapabilities {
            id: self.config.me.id,
            capabilities: self.own.iter().map(encode).collect(),
        };
        let others = self.nodes.iter().enumerate();
        let others = others.filter(|(place, _)| *place != to);
        let all = std::iter::once(ours).chain(others.map(|(_, node)| node.fresh_capabilities()));
        let nodes: Vec<_> = all.filter(|node| !node.capabilities.is_empty()).collect();
        if nodes.is_empty() {
            return;
        }
        let mut message = Internal::Capabilities {
            stamp: None,
            nodes,
            require_reply,
            path: vec![self.config.me.id],
        };
        let mut later = None;
        if self.tell_numbered(to, &mut message, &mut later, out) {
            return;
        }
        // The others' are more than a packet holds; ours are not.
        if let Internal::Capabilities { nodes, .. } = &mut message {
            nodes.retain(|node| node.id == self.config.me.id);
        }
        self.tell_numbered(to, &mut message, &mut later, out);
    }

    /// Says to the copies again what a node told since we lost it last: that may have come before its link was up.
    pub(super) fn repeat_capabilities(&mut self, place: usize) {
        let node = &self.nodes[place];
        let fresh = node.capabilities.iter().filter(|told| told.is_fresh);
        self.notices.extend(fresh.map(|told| Notice::Capability {
            node: node.id(),
            capability: told.name.clone(),
            synced: told.synced,
        }));
    }

    /// The message as a neighbour understands it; `None`: it cannot.
    pub(super) fn fitting<'a>(
        &self,
        place: usize,
        message: &'a Internal,
    ) -> Option<Cow<'a, Internal>> {
        let Internal::Capabilities {
            stamp,
            nodes,
            require_reply,
            path,
        } = message
        else {
            return Some(Cow::Borrowed(message));
        };
        match (stamp, self.nodes[place].reads_stamps()) {
            (None, false) | (Some(_), true) => Some(Cow::Borrowed(message)),
            (Some(_), false) => Some(Cow::Owned(Internal::Capabilities {
                stamp: None,
                nodes: nodes.clone(),
                require_reply: *require_reply,
                path: path.clone(),
            })),
            // Only its maker could number it. It is told of it when its link comes up, by ourselves.
            (None, true) => None,
        }
    }

    /// Whether what came by `way` is taken for the word of the node that made it: always if it told us itself. While our
    /// link to it is up it does so sooner than others, and who passes its word on may be late, or have made it up.
    fn is_its_word(&self, way: Way) -> bool {
        way.direct.is_some() || !self.nodes[way.place].link.is_up()
    }

    /// One node of a CAP_UPDATE that came by `way`; whether it says something new.
    fn take_capabilities(&mut self, way: Way, entry: &NodeCapabilities) -> bool {
        let Some(place) = self.place(entry.id) else {
            return false;
        };
        let is_first_hand = place == way.place && self.is_its_word(way);
        let node = &mut self.nodes[place];
        // Who is our neighbour tells us himself, and sooner than others hear of it.
        if !is_first_hand && (node.link.is_up() || node.has_told) {
            return false;
        }
        let mut is_new = false;
        for (name, synced) in &entry.capabilities {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            if name.len() > NAME_MAX {
                continue;
            }
            is_new |= node.take_capability(name, *synced, is_first_hand);
            if is_first_hand {
                self.notices.push(Notice::Capability {
                    node: entry.id,
                    capability: name.to_owned(),
                    synced: *synced,
                });
            }
        }
        is_new
    }

    /// Tells a neighbour a CAP_UPDATE of ours with the number that it reads, if any; `later`: the one of all that had number
    /// 0 before, once somebody needs it. Whether it fits in a packet.
    fn tell_numbered(
        &mut self,
        to: usize,
        message: &mut Internal,
        later: &mut Option<Stamp>,
        out: &mut dyn Outbox,
    ) -> bool {
        let node = &self.nodes[to];
        let (reads, had_first) = (node.reads_stamps(), node.has_first(Counted::Capabilities));
        let Internal::Capabilities { stamp, .. } = message else {
            return false;
        };
        *stamp = reads.then(|| {
            if had_first {
                *later.get_or_insert_with(|| self.capability_stamps.next(self.unix))
            } else {
                self.capability_stamps.first()
            }
        });
        let (id, release) = self.address(to);
        let sent = self.post.tell(out, id, release, message);
        let node = &mut self.nodes[to];
        match sent {
            Ok(Sent::Queued) if reads => node.give_first(Counted::Capabilities),
            // The next change may be long in coming, and until then it would ask us for what we do not have any more, or nobody
            // for what we have.
            Ok(Sent::Full) => {
                let before = node.untold.is_some_and(|untold| untold.require_reply);
                node.untold = Some(Untold {
                    due: self.ticked.after(TELL_AGAIN_NS),
                    require_reply: before
                        || matches!(
                            message,
                            Internal::Capabilities {
                                require_reply: true,
                                ..
                            }
                        ),
                });
            }
            _ => {}
        }
        sent.is_ok()
    }

    /// Tells a node what it could not be told before, when it is time.
    pub(super) fn tell_again(&mut self, now: Now, place: usize, out: &mut dyn Outbox) {
        let untold = &mut self.nodes[place].untold;
        if let Some(untold) = untold.take_if(|untold| untold.due <= now.at) {
            self.tell_capabilities_to(place, untold.require_reply, out);
        }
    }
}

impl Node {
    /// Whether its CAP_UPDATEs have a stamp, and ours to it. Of 3.1 and 3.2 the first point releases have none yet.
    pub(super) fn reads_stamps(&self) -> bool {
        let is_either = (Release::V3_1..=Release::V3_2).contains(&self.release());
        self.release() >= Release::V3_1 && !(is_either && self.is_unstamped)
    }

    /// Whether that was not known. Its own word always finds a place: what others said of it may be made up.
    fn take_capability(&mut self, name: &str, synced: bool, is_fresh: bool) -> bool {
        let told = Told {
            name: name.to_owned(),
            synced,
            is_fresh,
        };
        let has_room = self.capabilities.len() < CAPABILITIES_MAX;
        let mut known = self.capabilities.iter();
        let place = known.position(|known| known.name == name).or_else(|| {
            let mut known = self.capabilities.iter();
            let is_free = |known: &Told| is_fresh && !has_room && !known.is_fresh;
            known.position(is_free)
        });
        match place {
            Some(at) => std::mem::replace(&mut self.capabilities[at], told.clone()) != told,
            None if has_room => {
                self.capabilities.push(told);
                true
            }
            None => false,
        }
    }

    fn fresh_capabilities(&self) -> NodeCapabilities {
        let fresh = self.capabilities.iter().filter(|told| told.is_fresh);
        NodeCapabilities {
            id: self.id(),
            capabilities: fresh
                .map(|told| (told.name.clone().into_bytes(), told.synced))
                .collect(),
        }
    }
}

/// How long a link is given to send what it has, before it is told again what found no room.
const TELL_AGAIN_NS: u64 = 250_000_000;

/// Bytes of a capability's name. The longest in use has 25; the rest of a packet is for those who would fill our memory.
const NAME_MAX: usize = 64;

fn encode((name, synced): &(String, bool)) -> (Vec<u8>, bool) {
    (name.clone().into_bytes(), *synced)
}
