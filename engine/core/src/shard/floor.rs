//! The way of one datagram: mine or mailed, parsed, handled, counted.

use std::sync::Arc;

use binrush_net::Tx;
use binrush_wire::{Generation, Packet};

use super::mailbox::Mailbox;
use super::outbox::Outbox;
use crate::clock::Timestamp;
use crate::dispatch::handler::{Context, ShardId, Verdict};
use crate::dispatch::{Handlers, Table};
use crate::steering::Steering;
use crate::telemetry::ledger::LedgerWriter;
use crate::telemetry::outcome::Outcome;

/// What a datagram meets on its way from the batch to its counter.
pub(super) struct Floor<T> {
    pub(super) id: ShardId,
    pub(super) steering: Steering,
    pub(super) mailbox: Mailbox,
    pub(super) table: Arc<Table>,
    pub(super) handlers: Handlers,
    pub(super) outbox: Outbox<T>,
    pub(super) ledger: LedgerWriter,
}

impl<T: Tx> Floor<T> {
    /// Whether a datagram is this shard's; if not, it is on its way to its owner, or counted.
    ///
    /// The kernel's steering has decided already, mostly. Asked again because it decides once for a merged
    /// train, and by its default while a group of sockets forms.
    #[inline]
    pub(super) fn is_mine(&mut self, now: Timestamp, datagram: &[u8]) -> bool {
        if !self.mailbox.has_peers() {
            return true;
        }
        let owner = ShardId(self.steering.owner_of_datagram(datagram));
        if owner == self.id {
            return true;
        }
        if self.mailbox.post(owner, now, datagram) {
            self.ledger.mailed();
        } else {
            self.ledger.refuse(Outcome::MailboxFull, datagram, None);
        }
        false
    }

    /// Settles the mail there is; how much it was, and when the oldest of it arrived.
    pub(super) fn mail(&mut self, now: Timestamp) -> (usize, Timestamp) {
        let Self {
            id,
            mailbox,
            table,
            handlers,
            outbox,
            ledger,
            ..
        } = self;
        let (mut count, mut oldest) = (0, now);
        mailbox.read(|arrived, datagram| {
            ledger.received_mail();
            count += 1;
            oldest = oldest.min(arrived);
            let context = Context::new(arrived, *id, outbox);
            dispatch(datagram, table, handlers, ledger, context);
        });
        (count, oldest)
    }

    /// Brings a datagram of ours to its counter.
    #[inline]
    pub(super) fn packet(&mut self, now: Timestamp, datagram: &[u8]) {
        let Self {
            id,
            table,
            handlers,
            outbox,
            ledger,
            ..
        } = self;
        let context = Context::new(now, *id, outbox);
        dispatch(datagram, table, handlers, ledger, context);
    }

    /// Lets go out what the batch produced.
    #[inline]
    pub(super) fn batch_done(&mut self) {
        self.mailbox.publish();
        self.outbox.flush(&mut self.ledger);
    }
}

/// Parses a datagram, calls the handler of its name, and counts what became of it.
#[inline]
fn dispatch(
    datagram: &[u8],
    table: &Table,
    handlers: &mut Handlers,
    ledger: &mut LedgerWriter,
    mut context: Context<'_>,
) {
    let packet = match Packet::parse(Generation::Legacy, datagram) {
        Ok(packet) => packet,
        Err(error) => return ledger.refuse(error.kind.into(), datagram, Some(error)),
    };
    let found = table
        .lookup(packet.name())
        .and_then(|id| Some((id, handlers.of(id)?)));
    let Some((id, handler)) = found else {
        return ledger.refuse_name(packet.name(), datagram);
    };
    match handler.handle(&mut context, &packet) {
        Verdict::Handled => ledger.handled(id, packet.command()),
        Verdict::Field(error) => {
            ledger.declined(id, error.kind.into(), datagram, Some(error));
        }
        verdict => ledger.declined(id, verdict.into(), datagram, None),
    }
}
