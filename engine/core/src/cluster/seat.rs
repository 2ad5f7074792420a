//! A seat in one cluster: a state machine over (now, message), which acts through its
//! [`Outbox`](crate::cluster::outbox::Outbox) only.
//!
//! ```text
//!   receive, tick, link_failed ─▶ Mesh: nodes, links, topology, what the others have ─▶ messages
//!                                   │ Notice      ▲ View
//!                                   ▼             │
//!   slice, session_moved, ──────▶ Copies: what our records are worth, syncs, donations ─▶ SYNC_REQ, SYNC, orders to gates
//!   suspect, request_sync           │ News
//!                                   ▼
//!                                 CAP_UPDATE to all, a new roster for doors and gates
//! ```
//!
//! The mesh hears first, whatever comes; the copies are told of it; what they changed is told to others and to the shards. All
//! of that is done when a call returns.

use std::fmt;

use binrush_wire::Release;

use super::config::ClusterConfig;
use super::facts::ClusterFacts;
use super::inbox::Incoming;
use super::message::{Extra, Kind};
use super::outbox::{Now, Outbox, Slice};
use super::roster::RosterCluster;
use crate::clock::Timestamp;
use copies::Copies;
use mesh::Mesh;
use watched::Watched;

/// What our records are worth.
mod copies;
/// Nodes and links.
mod mesh;
/// What the two tell each other.
mod notice;
/// The way out, with somebody who looks at what leaves.
mod watched;

/// Our seat in one cluster. One thread owns it.
pub struct Seat {
    mesh: Mesh,
    copies: Copies,
}

impl Seat {
    /// A seat that has not said anything yet. `owners` shards keep the records; what cannot be guessed comes of `seed`.
    ///
    /// # Panics
    /// With more neighbours than [`ClusterConfig::neighbours`] allows.
    #[must_use]
    pub fn new(config: ClusterConfig, owners: u16, seed: u64, now: Now) -> Self {
        let copies = Copies::new(&config, owners, seed, now);
        let mesh = Mesh::new(config, copies.own(), now);
        Self { mesh, copies }
    }

    /// Begins: shows doors and gates who is who, and sends the first PINGs. The links to configured nodes are there already.
    pub fn start(&mut self, now: Now, out: &mut dyn Outbox) {
        self.tick(now, out);
    }

    /// What shards have to know of it at this moment; later it is [published](Outbox::publish) by itself. To be shown
    /// before anybody can connect: a node whose first PING is refused may never send another one (OpenSIPS 2.4).
    #[must_use]
    pub fn roster(&self) -> RosterCluster {
        self.mesh.roster(self.copies.sessions())
    }

    /// Does whatever is due.
    pub fn tick(&mut self, now: Now, out: &mut dyn Outbox) {
        self.mesh.tick(now, out);
        self.settle(now, out);
        self.with_copies(now, out, |copies, mesh, out| copies.tick(now, mesh, out));
    }

    /// When [`tick`](Self::tick) is wanted at the latest. It may be past: something followed from the last call.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.mesh.deadline().min(self.copies.deadline())
    }

    /// A message arrived. A door has looked at its cluster; everything else is looked at here.
    pub fn receive(&mut self, now: Now, incoming: Incoming, out: &mut dyn Outbox) {
        self.mesh.receive(now, incoming, out);
        self.settle(now, out);
    }

    /// The connection to `node` broke, or could not be made.
    pub fn link_failed(&mut self, now: Now, node: i32, out: &mut dyn Outbox) {
        self.mesh.link_failed(now, node, out);
        self.settle(now, out);
    }

    /// Records that were asked for arrived.
    pub fn slice(&mut self, now: Now, slice: Slice, out: &mut dyn Outbox) {
        self.with_copies(now, out, |copies, mesh, out| {
            copies.slice(now, slice, mesh, out)
        });
    }

    /// What shards write down of a session changed.
    pub fn session_moved(&mut self, now: Now, out: &mut dyn Outbox) {
        self.with_copies(now, out, |copies, mesh, out| copies.tick(now, mesh, out));
    }

    /// Something of `capability`, or of all of them, may have been missed, because of `why`: a sync is due.
    pub fn suspect(&mut self, now: Now, capability: Option<&str>, why: &str, out: &mut dyn Outbox) {
        self.with_copies(now, out, |copies, mesh, out| {
            copies.suspect(now, capability, why, mesh, out);
        });
    }

    /// An operator asks for all records of `capability` again.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn request_sync(
        &mut self,
        now: Now,
        capability: &str,
        out: &mut dyn Outbox,
    ) -> Result<(), String> {
        self.with_copies(now, out, |copies, mesh, out| {
            copies.request(now, capability, mesh, out)
        })
    }

    /// Sends a message to the script of node `to`, or of all that can be reached; to how many it was sent. `tag` ties an
    /// answer to its question.
    pub fn send_generic(
        &mut self,
        now: Now,
        to: Option<i32>,
        is_request: bool,
        tag: &[u8],
        message: &[u8],
        out: &mut dyn Outbox,
    ) -> usize {
        let message = Extra::Generic {
            is_request,
            tag: tag.to_vec(),
            message: message.to_vec(),
        };
        let sent = self.mesh.send_generic(now, to, &message, out);
        self.settle(now, out);
        sent
    }

    /// The next node on the way to `node` for packets of our own: itself if our link to it is up, else the first one of the
    /// shortest way that the others tell of; `None`: there is none.
    #[must_use]
    pub fn route(&self, node: i32) -> Option<i32> {
        self.mesh.route(node)
    }

    /// All nodes that there is a [`route`](Self::route) to, by id.
    #[must_use]
    pub fn reachable(&self) -> Vec<i32> {
        self.mesh.reachable()
    }

    /// A number that is another one each time that [`route`](Self::route) may have another answer.
    #[must_use]
    pub const fn ways(&self) -> u64 {
        self.mesh.ways()
    }

    /// All nodes that our links are up to, by id.
    #[must_use]
    pub fn up_nodes(&self) -> Vec<i32> {
        notice::View::up_nodes(&self.mesh)
    }

    /// What `node` speaks, as far as that is known.
    #[must_use]
    pub fn release(&self, node: i32) -> Release {
        notice::View::release(&self.mesh, node)
    }

    /// Says before anything else that some of the records that `capability` begins with are missing, and why: without a donor
    /// its copy is not verified, whoever we are.
    pub fn is_cut(&mut self, capability: &str, why: &str) {
        self.copies.is_cut(capability, why);
    }

    /// All of it, for people.
    #[must_use]
    pub fn facts(&self, now: Now) -> ClusterFacts {
        let mut facts = self.mesh.facts(now.at);
        facts.capabilities = self.copies.facts(now, &facts.nodes);
        facts
    }

    /// Tells the copies what the mesh noticed, then the others and the shards what came of it.
    fn settle(&mut self, now: Now, out: &mut dyn Outbox) {
        // What the copies send may fail, which the mesh notices. Each turn takes a link down that was up, or is the last.
        loop {
            let notices = self.mesh.take_notices();
            let is_last = notices.is_empty();
            if !is_last {
                self.watched(now, out, |copies, mesh, out| {
                    for notice in &notices {
                        copies.notice(now, notice, mesh, out);
                    }
                });
            }
            let news = self.copies.take_news();
            if news.capabilities_changed {
                self.mesh.tell_capabilities(self.copies.own(), out);
                self.mesh.note_sent(now, &[], out);
            }
            if let Some(since) = news.made_whole {
                self.mesh.made_whole(since);
            }
            if self.mesh.take_roster_changed() || news.sessions_changed {
                out.publish(self.mesh.roster(self.copies.sessions()));
            }
            if is_last {
                break;
            }
        }
    }

    /// Lets the copies act, and does what follows.
    fn with_copies<A>(
        &mut self,
        now: Now,
        out: &mut dyn Outbox,
        act: impl FnOnce(&mut Copies, &Mesh, &mut Watched<'_>) -> A,
    ) -> A {
        let answer = self.watched(now, out, act);
        self.settle(now, out);
        answer
    }

    /// Lets the copies act, and tells the mesh what they sent.
    fn watched<A>(
        &mut self,
        now: Now,
        out: &mut dyn Outbox,
        act: impl FnOnce(&mut Copies, &Mesh, &mut Watched<'_>) -> A,
    ) -> A {
        let mut watched = Watched::new(out);
        let answer = act(&mut self.copies, &self.mesh, &mut watched);
        let sent: Vec<(Kind, i32, _)> = watched.finish();
        self.mesh.note_sent(now, &sent, out);
        answer
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("mesh", &self.mesh)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
