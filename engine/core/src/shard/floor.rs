//! The way of one datagram, or packet of a stream: mine or mailed, parsed, handled, counted.

use std::any::Any;
use std::sync::Arc;

use binrush_net::Tx;
use binrush_wire::{MAX_PACKET_LEN, Packet};

use super::mailbox::Mailbox;
use super::outbox::Outbox;
use super::streams::Answers;
use crate::clock::Timestamp;
use crate::dispatch::handler::{Connected, Context, Origin, ShardId, Verdict};
use crate::dispatch::{Handlers, NameId, Table};
use crate::steering::{Steering, name_of_datagram};
use crate::telemetry::ledger::LedgerWriter;
use crate::telemetry::outcome::Outcome;

/// Packets that a handler made.
mod made;

pub(super) use made::Made;

/// What a datagram meets on its way from the batch to its counter.
pub(super) struct Floor<T> {
    pub(super) id: ShardId,
    pub(super) steering: Steering,
    pub(super) mailbox: Mailbox,
    pub(super) table: Arc<Table>,
    pub(super) handlers: Handlers,
    pub(super) outbox: Outbox<T>,
    pub(super) ledger: LedgerWriter,
    /// What the handler that is being called passes on; empty between two calls.
    pub(super) made: Made,
}

/// What a handler may use of a connection.
pub(super) struct Line<'a> {
    /// Its number.
    pub(super) number: u64,
    /// Where answers wait.
    pub(super) answers: &'a mut Answers,
}

impl<T: Tx> Floor<T> {
    /// Whether a datagram is this shard's; if not, it is on its way to its owner, or counted.
    ///
    /// The kernel's steering has decided already, mostly. Asked again because it decides once for a merged
    /// train, and by its default while a group of sockets forms.
    #[inline]
    pub(super) fn is_mine(&mut self, now: Timestamp, origin: &Origin, datagram: &[u8]) -> bool {
        // One owner owns all; there may be readers beside it.
        if self.steering.shards() == 1 {
            return true;
        }
        let owner = self.owner_of_datagram(datagram);
        if owner == self.id {
            return true;
        }
        if self.mailbox.post(owner, now, origin, datagram) {
            self.ledger.mailed();
        } else {
            self.ledger.refuse(Outcome::MailboxFull, datagram, None);
        }
        false
    }

    #[inline]
    fn owner_of_datagram(&self, datagram: &[u8]) -> ShardId {
        let home = match self.table.has_homes() {
            true => self
                .table
                .home_of_all()
                .or_else(|| name_of_datagram(datagram).and_then(|name| self.table.home_of(name))),
            false => None,
        };
        home.unwrap_or_else(|| ShardId(self.steering.owner_of_datagram(datagram)))
    }

    /// Settles the mail there is; how much it was, and when the oldest of it arrived.
    pub(super) fn mail(&mut self, now: Timestamp) -> (usize, Timestamp) {
        let Self {
            id,
            steering,
            mailbox,
            table,
            handlers,
            outbox,
            ledger,
            ..
        } = self;
        let (mut count, mut oldest) = (0, now);
        mailbox.read(|arrived, origin, packet| {
            ledger.received_mail();
            count += 1;
            oldest = oldest.min(arrived);
            let context = Context::new(arrived, *id, origin, steering, outbox);
            dispatch(packet, table, handlers, ledger, context);
        });
        (count, oldest)
    }

    /// Brings a datagram of ours, or a packet without its connection, to its counter.
    #[inline]
    pub(super) fn packet(&mut self, now: Timestamp, origin: &Origin, packet: &[u8]) {
        let Self {
            id,
            steering,
            table,
            handlers,
            outbox,
            ledger,
            ..
        } = self;
        let context = Context::new(now, *id, origin, steering, outbox);
        dispatch(packet, table, handlers, ledger, context);
    }

    /// Tells a handler what another thread has for it; a name that has none any more gets nothing.
    pub(super) fn tell(&mut self, now: Timestamp, name: NameId, message: Box<dyn Any + Send>) {
        if let Some(handler) = self.handlers.of(name) {
            let (id, origin) = (self.id, &Origin::Process);
            let mut context = Context::new(now, id, origin, &self.steering, &mut self.outbox);
            handler.tell(&mut context, message);
        }
    }

    /// The handlers that have turns here, a bit for each name: on a shard that owns nothing those that are called there.
    pub(super) fn with_turns(&self) -> u64 {
        let all = self.handlers.present();
        if self.id.0 < self.steering.shards() {
            all
        } else {
            all & self.table.everywhere()
        }
    }

    /// Lets what stands in front of the handlers do what is due; whether it has more to do. `None`: nothing stands there.
    pub(super) fn turn_front(&mut self, clock: &mut dyn FnMut() -> Timestamp) -> Option<bool> {
        let front = self.handlers.front();
        front.map(|front| front.turn(clock))
    }

    /// Lets a handler do what is due; whether it has more to do.
    pub(super) fn turn(&mut self, now: Timestamp, name: NameId) -> bool {
        let handler = self.handlers.of(name);
        handler.is_some_and(|handler| handler.turn(now))
    }

    /// Brings a packet of a stream to its counter or on its way; on `line` its handler may answer, and `waits_for` says whether others of its connection
    /// wait for an owner already, so that it has to wait behind them.
    #[inline]
    pub(super) fn stream_packet(
        &mut self,
        now: Timestamp,
        origin: &Origin,
        packet: &[u8],
        line: Line<'_>,
        waits_for: impl Fn(ShardId) -> bool,
    ) -> Way {
        self.ledger.received_frame();
        let parsed = match Packet::parse(origin.generation(), packet) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.ledger.refuse(error.kind.into(), packet, Some(error));
                return Way::Settled;
            }
        };
        let Some(name) = self.table.lookup(parsed.name()) else {
            if let Some(owner) = self.table.home_of_all()
                && owner != self.id
            {
                return self.post_or_wait(owner, now, origin, packet, waits_for);
            }
            stranger(&parsed, origin, &mut self.handlers, &mut self.ledger);
            return Way::Settled;
        };
        if self.mailbox.has_peers() && !self.table.is_local(name) {
            let home = self.table.home(name);
            let owner = home.unwrap_or_else(|| ShardId(self.steering.owner(&parsed)));
            if owner != self.id {
                return self.post_or_wait(owner, now, origin, packet, waits_for);
            }
        }
        let Self {
            id,
            steering,
            handlers,
            outbox,
            ledger,
            made,
            ..
        } = self;
        let mut here = Here { line, made };
        let context = Context::new(now, *id, origin, steering, outbox).on(&mut here);
        deliver(&parsed, name, handlers, ledger, context);
        Way::Settled
    }

    /// Whether the handler of the last packet made others, which are to be [taken](Self::take_made).
    #[inline]
    pub(super) const fn has_made(&self) -> bool {
        !self.made.is_empty()
    }

    /// What it made. To be [put back](Self::put_back) after each of them went through [`made_packet`](Self::made_packet).
    pub(super) fn take_made(&mut self) -> Made {
        std::mem::take(&mut self.made)
    }

    /// Keeps the memory.
    pub(super) fn put_back(&mut self, mut made: Made) {
        made.clear();
        self.made = made;
    }

    /// Brings a packet that a handler made to its counter or on its way; as [`stream_packet`](Self::stream_packet). Who made
    /// it for `owner` went by its record, of a name that is not kept on one shard.
    pub(super) fn made_packet(
        &mut self,
        now: Timestamp,
        origin: &Origin,
        owner: ShardId,
        packet: &[u8],
        waits_for: impl Fn(ShardId) -> bool,
    ) -> Way {
        self.ledger.made();
        let owner = self.home_of(origin, packet).unwrap_or(owner);
        if owner != self.id {
            return self.post_or_wait(owner, now, origin, packet, waits_for);
        }
        // Without a connection: what is made of what was made would have no end.
        self.packet(now, origin, packet);
        Way::Settled
    }

    /// The shard that all packets of this one's name are kept on.
    fn home_of(&self, origin: &Origin, packet: &[u8]) -> Option<ShardId> {
        if !self.table.has_homes() {
            return None;
        }
        let packet = Packet::parse(origin.generation(), packet).ok()?;
        self.table.home_of(packet.name())
    }

    #[inline]
    fn post_or_wait(
        &mut self,
        owner: ShardId,
        now: Timestamp,
        origin: &Origin,
        packet: &[u8],
        waits_for: impl Fn(ShardId) -> bool,
    ) -> Way {
        if waits_for(owner) || !self.mailbox.post(owner, now, origin, packet) {
            self.ledger.spilled();
            return Way::Full(owner);
        }
        self.ledger.mailed();
        Way::Mailed
    }

    /// Posts a packet that waited; `false`: there is no room yet.
    pub(super) fn post_again(
        &mut self,
        owner: ShardId,
        arrived: Timestamp,
        origin: &Origin,
        packet: &[u8],
    ) -> bool {
        let taken = self.mailbox.post(owner, arrived, origin, packet);
        if taken {
            self.ledger.unspilled();
            self.ledger.mailed();
        }
        taken
    }

    /// Counts a packet that waited for an owner who takes nothing any more.
    pub(super) fn lose(&mut self, packet: &[u8]) {
        self.ledger.unspilled();
        self.ledger.refuse(Outcome::MailboxFull, packet, None);
    }

    /// Lets go out what the batch produced.
    #[inline]
    pub(super) fn batch_done(&mut self) {
        self.mailbox.publish();
        if let Some(tap) = self.handlers.tap() {
            tap.batch_done();
        }
        self.outbox.flush(&mut self.ledger);
    }
}

/// A connection as its handler sees it.
struct Here<'a> {
    line: Line<'a>,
    made: &'a mut Made,
}

impl Connected for Here<'_> {
    fn number(&self) -> u64 {
        self.line.number
    }

    fn answer(&mut self, packet: &[u8]) -> bool {
        self.line.answers.push(packet)
    }

    fn pass_on(&mut self, owner: ShardId, packet: &[u8]) -> bool {
        (1..=MAX_PACKET_LEN).contains(&packet.len()) && self.made.push(owner, packet)
    }
}

/// What became of a packet of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It came to its counter, here.
    Settled,
    /// It is on its way to its owner.
    Mailed,
    /// Its owner does not keep up: it has to wait.
    Full(ShardId),
}

/// Parses a packet, calls the handler of its name, and counts what became of it.
#[inline]
fn dispatch(
    bytes: &[u8],
    table: &Table,
    handlers: &mut Handlers,
    ledger: &mut LedgerWriter,
    context: Context<'_>,
) {
    let packet = match Packet::parse(context.origin().generation(), bytes) {
        Ok(packet) => packet,
        Err(error) => return ledger.refuse(error.kind.into(), bytes, Some(error)),
    };
    match table.lookup(packet.name()) {
        Some(id) => deliver(&packet, id, handlers, ledger, context),
        None => stranger(&packet, context.origin(), handlers, ledger),
    }
}

/// Counts a packet whose name has no handler.
#[cold]
fn stranger(
    packet: &Packet<'_>,
    origin: &Origin,
    handlers: &mut Handlers,
    ledger: &mut LedgerWriter,
) {
    if let Some(front) = handlers.front()
        && !front.admits(origin, packet)
    {
        return ledger.refuse(Outcome::DroppedByScript, packet.bytes(), None);
    }
    if let Some(tap) = handlers.tap() {
        tap.stranger(origin, packet);
    }
    ledger.refuse_name(packet.name(), packet.bytes());
}

/// Calls the handler of `id`, and counts what became of the packet.
#[inline]
fn deliver(
    packet: &Packet<'_>,
    id: NameId,
    handlers: &mut Handlers,
    ledger: &mut LedgerWriter,
    mut context: Context<'_>,
) {
    if let Some(front) = handlers.front()
        && !front.admits(context.origin(), packet)
    {
        return ledger.declined(id, Outcome::DroppedByScript, packet.bytes(), None);
    }
    let Some(handler) = handlers.of(id) else {
        return ledger.refuse_name(packet.name(), packet.bytes());
    };
    let verdict = handler.handle(&mut context, packet);
    if matches!(verdict, Verdict::Handled | Verdict::Held)
        && let Some(tap) = handlers.tap()
    {
        tap.accepted(context.origin(), packet);
    }
    match verdict {
        Verdict::Handled => ledger.handled(id, packet.command()),
        Verdict::Held => ledger.held(id),
        Verdict::Field(error) => {
            ledger.declined(id, error.kind.into(), packet.bytes(), Some(error));
        }
        verdict => ledger.declined(id, verdict.into(), packet.bytes(), None),
    }
}
