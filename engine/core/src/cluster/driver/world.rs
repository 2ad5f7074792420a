//! What the seats act through: links, gates, the board, and those who listen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use binrush_wire::{Generation, Packet};

use super::LinkTerms;
use super::command::Command;
use super::errands::Errands;
use super::mail::Mail;
use crate::clock::{Clock as _, MonotonicClock, Timestamp};
use crate::cluster::config::NodeConfig;
use crate::cluster::inbox::{Body, Inbox as _, Incoming};
use crate::cluster::message::{self, Internal};
use crate::cluster::outbox::{Event, GateOrder, Outbox, Sent, SliceRequest};
use crate::cluster::roster::{Board, RosterCluster};
use crate::config::{Endpoint, Protocol};
use crate::link::{
    Lane, LinkConfig, LinkError, LinkHealth, LinkId, Links, OnChange, OnPacket, Refused,
};

/// Everything around the seats of a process.
pub(super) struct World {
    links: Links,
    terms: LinkTerms,
    pub(super) errands: Errands,
    pub(super) board: Arc<Board>,
    mail: Arc<Mail>,
    /// By cluster and node.
    peers: BTreeMap<(i32, i32), Peer>,
    /// Links that could not be had, to be tried again.
    unmade: BTreeMap<(i32, i32), Unmade>,
    /// Times that `peers` changed.
    changes: u64,
    listeners: Vec<SyncSender<Event>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    link: LinkId,
    to: Endpoint,
    /// PONGs that were queued since it began to fail, up to [`PONGS_MAX`] in [`PONGS_NS`].
    pongs: u8,
    pongs_since: Timestamp,
}

struct Unmade {
    me: Endpoint,
    node: NodeConfig,
    at: Timestamp,
}

/// The world as the seat of one cluster sees it.
pub(super) struct Around<'a> {
    pub(super) world: &'a mut World,
    pub(super) cluster: i32,
    /// Our address in it.
    pub(super) me: Endpoint,
}

impl World {
    pub(super) fn new(
        links: Links,
        terms: LinkTerms,
        errands: Errands,
        board: Arc<Board>,
        mail: Arc<Mail>,
        listeners: Vec<SyncSender<Event>>,
    ) -> Self {
        Self {
            links,
            terms,
            errands,
            board,
            mail,
            peers: BTreeMap::new(),
            unmade: BTreeMap::new(),
            changes: 0,
            listeners,
        }
    }

    pub(super) fn listen(&mut self, listener: SyncSender<Event>) {
        self.listeners.push(listener);
    }

    pub(super) fn link(&self, cluster: i32, node: i32) -> Option<LinkId> {
        self.peers.get(&(cluster, node)).map(|peer| peer.link)
    }

    /// The connection to a node broke: the rest of a sync would be taken for a part of the next one by a node that restarted.
    pub(super) fn link_failed(&self, cluster: i32, node: i32) {
        if let Some(link) = self.link(cluster, node) {
            self.links.drop_bulk(link);
        }
    }

    /// A number that is another one each time that [`link`](Self::link) may have another answer.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, now: Timestamp) {
        self.errands.go_on(now);
        let due = self.unmade.iter().filter(|(_, unmade)| unmade.at <= now);
        let due: Vec<_> = due.map(|(of, _)| *of).collect();
        for (cluster, node) in due {
            if let Some(unmade) = self.unmade.remove(&(cluster, node)) {
                // It was told why not already.
                let _ = self.connect(now, cluster, unmade.me, &unmade.node);
            }
        }
    }

    /// When [`go_on`](Self::go_on) is wanted at the latest.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let unmade = self.unmade.values().map(|unmade| unmade.at);
        unmade.chain(self.errands.deadline()).min()
    }

    /// A link to `node`; one that leads somewhere else ends. One that cannot be had is tried again every second.
    fn connect(
        &mut self,
        now: Timestamp,
        cluster: i32,
        me: Endpoint,
        node: &NodeConfig,
    ) -> Result<(), LinkError> {
        let (of, to) = ((cluster, node.id), node.url);
        if self.peers.get(&of).is_some_and(|peer| peer.to == to) {
            return Ok(());
        }
        self.disconnect(of);
        let config = LinkConfig {
            bind: Some(me.addr.ip()).filter(|ip| !ip.is_unspecified()),
            tls: (to.protocol == Protocol::Bins)
                .then(|| self.terms.tls.clone())
                .flatten(),
            server_name: self.terms.server_name.clone(),
            limits: self.terms.limits.clone(),
            on_packet: Some(self.answered(cluster, to.addr.ip())),
            on_change: Some(self.changed(cluster, node.id)),
            ..LinkConfig::new(to)
        };
        let made = self.links.add(config);
        if let Ok(link) = made {
            let peer = Peer {
                link,
                to,
                pongs: 0,
                pongs_since: now,
            };
            self.peers.insert(of, peer);
        } else {
            let (node, at) = (node.clone(), now.after(CONNECT_AGAIN_NS));
            self.unmade.insert(of, Unmade { me, node, at });
        }
        made.map(|_| ())
    }

    /// Ends the link to a node of a cluster, or the attempts to get one.
    fn disconnect(&mut self, of: (i32, i32)) {
        self.changes += 1;
        self.unmade.remove(&of);
        if let Some(peer) = self.peers.remove(&of) {
            self.links.remove_later(peer.link);
        }
    }

    /// What a node sends on the connection that we opened: who does not know us says so there.
    fn answered(&self, cluster: i32, ip: IpAddr) -> OnPacket {
        let mail = Arc::clone(&self.mail);
        Arc::new(move |bytes| {
            let Ok(packet) = Packet::parse(Generation::Modern, bytes) else {
                return;
            };
            if let Ok((of, source, body)) = message::internal(&packet)
                && of == cluster
            {
                // A message that finds no room is one that the peer repeats with its next PING.
                let _ = mail.message(Incoming {
                    at: MonotonicClock.now(),
                    ip,
                    connection: 0,
                    cluster,
                    source,
                    shown: body.shown_releases(&packet),
                    body: Body::Internal(body),
                });
            }
        })
    }

    fn changed(&self, cluster: i32, node: i32) -> OnChange {
        let mail = Arc::clone(&self.mail);
        Arc::new(move |up| {
            // That it came up, the node's next word tells.
            if !up {
                mail.command(Command::LinkFailed { cluster, node });
            }
        })
    }

    fn tell(&mut self, event: &Event) {
        let mail = &self.mail;
        self.listeners.retain(|listener| {
            let told = listener.try_send(event.clone());
            if matches!(told, Err(TrySendError::Full(_))) {
                mail.miss_event();
            }
            // Who does not keep up misses some; who has gone is forgotten.
            !matches!(told, Err(TrySendError::Disconnected(_)))
        });
    }
}

impl Peer {
    /// Whether one more PONG may wait for a link that fails.
    fn may_keep_pong(&mut self, now: Timestamp) -> bool {
        if now >= self.pongs_since.after(PONGS_NS) {
            (self.pongs, self.pongs_since) = (0, now);
        }
        let may = self.pongs < PONGS_MAX;
        self.pongs += u8::from(may);
        may
    }
}

impl Outbox for Around<'_> {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let World { links, peers, .. } = &mut *self.world;
        let Some(peer) = peers.get_mut(&(self.cluster, node)) else {
            return Sent::Unreachable;
        };
        let health = links.health(peer.link);
        if matches!(health, Some(LinkHealth::Up | LinkHealth::Connecting)) {
            peer.pongs = 0;
        } else {
            links.nudge(peer.link);
            // Who is answered has just sent something: he is there, and his PONG goes out as soon as he takes a connection.
            let is_kept = lane == Lane::Control && is_pong(packet);
            if !is_kept || !peer.may_keep_pong(MonotonicClock.now()) {
                return Sent::Unreachable;
            }
        }
        match links.send(peer.link, lane, packet) {
            Ok(()) => Sent::Queued,
            Err(Refused::Full) => Sent::Full,
            Err(_) => Sent::Unreachable,
        }
    }

    fn waiting_bytes(&mut self, node: i32) -> usize {
        let link = self.world.link(self.cluster, node);
        link.map_or(0, |link| self.world.links.waiting_bytes(link))
    }

    fn connect(&mut self, node: &NodeConfig) {
        let of = (self.cluster, node.id);
        let was_told =
            |unmade: &Unmade| unmade.node.url == node.url && unmade.node.url_text == node.url_text;
        let was_told = self.world.unmade.get(&of).is_some_and(was_told);
        let now = MonotonicClock.now();
        let connected = self.world.connect(now, self.cluster, self.me, node);
        if let Err(error) = connected
            && !was_told
        {
            self.event(Event::Warning {
                cluster: self.cluster,
                text: format!("node {}: {error}", node.id),
            });
        }
    }

    fn disconnect(&mut self, node: i32) {
        self.world.disconnect((self.cluster, node));
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.world.board.show(roster);
    }

    fn order(&mut self, capability: &str, order: GateOrder) {
        let now = MonotonicClock.now();
        self.world.errands.order(now, capability, order);
    }

    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        self.world.errands.slice(capability, shard, request);
    }

    fn event(&mut self, event: Event) {
        self.world.tell(&event);
    }
}

/// Releases number and lay it out alike.
fn is_pong(packet: &[u8]) -> bool {
    let packet = Packet::parse(Generation::Modern, packet);
    let said = packet.map(|packet| message::internal(&packet));
    matches!(said, Ok(Ok((_, _, Internal::Pong { .. }))))
}

/// PONGs that wait at most for a link that fails. One is enough, and any one says as much as the others.
const PONGS_MAX: u8 = 4;

/// How long those may wait that were counted.
const PONGS_NS: u64 = 60_000_000_000;

/// Between two attempts to get a link.
const CONNECT_AGAIN_NS: u64 = 1_000_000_000;
