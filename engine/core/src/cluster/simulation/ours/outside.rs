//! What a seat of the simulation acts through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use binrush_wire::Release;

use super::super::network::{MS, NEVER, Network, Time};
use super::super::plan::Mutation;
use super::super::speech::{Said, Word};
use super::floor::Wish;
use crate::cluster::config::NodeConfig;
use crate::cluster::outbox::{Event, GateOrder, Outbox, Sent, SliceRequest};
use crate::cluster::roster::{Board, RosterCluster};
use crate::cluster::session::{Session, SyncEnd};
use crate::link::Lane;

pub(super) struct Outside {
    host: usize,
    /// Where nodes are that a link was made to.
    hosts: BTreeMap<i32, usize>,
    board: Arc<Board>,
    owners: u16,
    roster: Option<RosterCluster>,
    is_new: bool,
    releasing: Vec<(Arc<Session>, SyncEnd)>,
    next_release: Time,
    mutation: Option<Mutation>,
    /// For the shards: capability, shard, what.
    pub(super) wishes: Vec<(String, u16, Wish)>,
    pub(super) sent: Vec<(i32, Vec<u8>)>,
    pub(super) events: Vec<Event>,
}

/// The outside at one moment.
pub(super) struct World<'a> {
    now: Time,
    outside: &'a mut Outside,
    network: &'a mut Network,
}

impl Outside {
    pub(super) fn new(
        host: usize,
        owners: u16,
        board: Arc<Board>,
        mutation: Option<Mutation>,
    ) -> Self {
        Self {
            host,
            hosts: BTreeMap::new(),
            board,
            owners,
            roster: None,
            is_new: false,
            releasing: Vec::new(),
            next_release: NEVER,
            mutation,
            wishes: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) fn nodes_at(&self, host: usize) -> Vec<i32> {
        let nodes = self.hosts.iter().filter(|(_, at)| **at == host);
        nodes.map(|(id, _)| *id).collect()
    }

    /// What was shown last, if that is new.
    pub(super) fn take_roster(&mut self) -> Option<RosterCluster> {
        std::mem::take(&mut self.is_new).then(|| self.roster.clone())?
    }

    pub(super) fn session_of(&self, capability: &str) -> Option<Arc<Session>> {
        let mut sessions = self.roster.iter().flat_map(|roster| &roster.sessions);
        sessions
            .find(|session| session.capability == capability)
            .cloned()
    }

    pub(super) const fn next_release(&self) -> Time {
        self.next_release
    }

    /// Gates that have not released everything are asked again, as the driver does.
    pub(super) fn release_again(&mut self, now: Time) {
        self.releasing.retain(|(session, _)| !session.is_released());
        for (session, end) in &self.releasing {
            for shard in 0..self.owners {
                let order = GateOrder::Release(Arc::clone(session), *end);
                let capability = session.capability.clone();
                self.wishes.push((capability, shard, Wish::Order(order)));
            }
        }
        self.next_release = if self.releasing.is_empty() {
            NEVER
        } else {
            now + 2 * MS
        };
    }
}

impl<'a> World<'a> {
    pub(super) fn new(now: Time, outside: &'a mut Outside, network: &'a mut Network) -> Self {
        Self {
            now,
            outside,
            network,
        }
    }

    fn post(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let Some(&host) = self.outside.hosts.get(&node) else {
            return Sent::Unreachable;
        };
        let way = (self.outside.host, host);
        let sent = self.network.send(self.now, way, lane, packet);
        if sent == Sent::Queued {
            self.outside.sent.push((node, packet.to_vec()));
        }
        sent
    }
}

impl Outbox for World<'_> {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let said = || Said::read_any(Release::V3_6, packet).map(|said| said.word);
        match self.outside.mutation {
            Some(Mutation::IsSilent) if matches!(said(), Some(Word::Pong { .. })) => Sent::Queued,
            Some(Mutation::RepeatsStamp) if matches!(said(), Some(Word::Topology { .. })) => {
                let _ = self.post(node, lane, packet);
                self.post(node, lane, packet)
            }
            Some(Mutation::Boasts) => self.post(node, lane, &boast(packet)),
            _ => self.post(node, lane, packet),
        }
    }

    fn waiting_bytes(&mut self, node: i32) -> usize {
        let host = self.outside.hosts.get(&node);
        host.map_or(0, |host| {
            self.network.waiting_bytes(self.outside.host, *host)
        })
    }

    fn connect(&mut self, node: &NodeConfig) {
        let IpAddr::V4(ip) = node.url.addr.ip() else {
            return;
        };
        let host = usize::from(ip.octets()[3]) - 1;
        self.outside.hosts.insert(node.id, host);
        self.network.connect(self.now, self.outside.host, host);
    }

    fn disconnect(&mut self, node: i32) {
        let Some(host) = self.outside.hosts.remove(&node) else {
            return;
        };
        // Two nodes may say that they are at one address.
        if self.outside.nodes_at(host).is_empty() {
            self.network.disconnect(self.outside.host, host);
        }
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.outside.board.show(roster.clone());
        (self.outside.roster, self.outside.is_new) = (Some(roster), true);
    }

    fn order(&mut self, capability: &str, order: GateOrder) {
        if let GateOrder::Release(session, end) = &order {
            self.outside.releasing.push((Arc::clone(session), *end));
            self.outside.next_release = self.now + 2 * MS;
        }
        for shard in 0..self.outside.owners {
            let wish = Wish::Order(order.clone());
            self.outside
                .wishes
                .push((capability.to_owned(), shard, wish));
        }
    }

    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        let wish = (capability.to_owned(), shard, Wish::Slice(request));
        self.outside.wishes.push(wish);
    }

    fn event(&mut self, event: Event) {
        self.outside.events.push(event);
    }
}

/// [`Mutation::Boasts`]: whatever a CAP_UPDATE says of its maker is synced.
fn boast(packet: &[u8]) -> Vec<u8> {
    let Some(mut said) = Said::read(Release::V3_6, packet) else {
        return packet.to_vec();
    };
    let me = said.source;
    if let Word::Caps { nodes, .. } = &mut said.word {
        for (_, own) in nodes.iter_mut().filter(|(id, _)| *id == me) {
            own.iter_mut().for_each(|(_, is_synced)| *is_synced = true);
        }
    } else {
        return packet.to_vec();
    }
    said.write(Release::V3_6)
}
