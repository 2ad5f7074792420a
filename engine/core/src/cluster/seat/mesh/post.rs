//! What leaves: messages become packets, as the receiver's release has them, and are counted.

use binrush_wire::{Release, Trailer, WireError};

use crate::cluster::message::{Extra, Internal, Kind, Writer};
use crate::cluster::outbox::{Outbox, Sent};
use crate::link::Lane;

/// The way out for all messages of one cluster.
#[derive(Debug)]
pub(super) struct Post {
    writer: Writer,
    cluster: i32,
    me: i32,
    sent: [u64; Kind::COUNT],
    /// Nodes that a packet could not be sent to. Bounded: who looks at them does so after each step.
    failed: Vec<i32>,
}

impl Post {
    pub(super) fn new(cluster: i32, me: i32) -> Self {
        Self {
            writer: Writer::default(),
            cluster,
            me,
            sent: [0; Kind::COUNT],
            failed: Vec::new(),
        }
    }

    /// Sends `message` of node `source` to neighbours that all speak `release`, written once; the worst that became of it.
    ///
    /// # Errors
    /// It cannot be written for that release, or is too long.
    pub(super) fn forward(
        &mut self,
        out: &mut dyn Outbox,
        source: i32,
        to: &[i32],
        release: Release,
        message: &Internal,
    ) -> Result<Sent, WireError> {
        let packet = self
            .writer
            .internal(release, self.cluster, source, message)?;
        let kind = message.kind();
        let mut worst = Sent::Queued;
        for to in to {
            let sent = out.send(*to, Lane::Control, packet);
            self.sent[kind.index()] += u64::from(sent == Sent::Queued);
            if sent == Sent::Unreachable {
                self.failed.push(*to);
            }
            worst = match (worst, sent) {
                (Sent::Unreachable, _) | (_, Sent::Queued) => worst,
                _ => sent,
            };
        }
        Ok(worst)
    }

    /// Sends our own `message` to one neighbour; see [`forward`](Self::forward).
    pub(super) fn tell(
        &mut self,
        out: &mut dyn Outbox,
        to: i32,
        release: Release,
        message: &Internal,
    ) -> Result<Sent, WireError> {
        self.forward(out, self.me, &[to], release, message)
    }

    /// Sends a PING, unless the node is unreachable; what that means is the link's affair. Where as much waits as may this one
    /// is lost, and the link is no worse for that.
    pub(super) fn ping(
        &mut self,
        out: &mut dyn Outbox,
        to: i32,
        release: Release,
        list: bool,
    ) -> bool {
        let taken = self.tell(out, to, release, &Internal::Ping { list });
        self.failed.retain(|failed| *failed != to);
        taken.is_ok_and(|sent| sent != Sent::Unreachable)
    }

    /// Sends a message to node `to`, that speaks `release`, by way of the neighbour `hop`.
    pub(super) fn route(
        &mut self,
        out: &mut dyn Outbox,
        hop: i32,
        to: i32,
        release: Release,
        message: &Extra,
    ) -> Result<bool, WireError> {
        let trailer = Trailer::new(self.cluster, self.me, to);
        let packet = self.writer.extra(release, trailer, message)?;
        let sent = out.send(hop, Lane::Control, packet);
        self.count(message.kind(), sent);
        if sent == Sent::Unreachable {
            self.failed.push(hop);
        }
        Ok(sent == Sent::Queued)
    }

    /// Counts a message that somebody else sent, or could not send.
    pub(super) fn note(&mut self, kind: Kind, to: i32, sent: Sent) {
        self.count(kind, sent);
        if sent == Sent::Unreachable {
            self.failed.push(to);
        }
    }

    /// Nodes that a packet could not be sent to since the last call.
    pub(super) fn take_failed(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.failed)
    }

    /// Messages of this kind that were sent.
    pub(super) const fn sent(&self, kind: Kind) -> u64 {
        self.sent[kind.index()]
    }

    fn count(&mut self, kind: Kind, sent: Sent) {
        self.sent[kind.index()] += u64::from(sent == Sent::Queued);
    }
}
