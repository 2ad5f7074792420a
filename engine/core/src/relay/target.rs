//! One target: what a packet is there, and its way out.

use std::net::UdpSocket;
use std::time::Duration;

use binrush_net::{SendMmsg, Tx as _, TxBatch};
use binrush_store::read::{ReadError, Scratch, read};
use binrush_store::sockets::Fit;
use binrush_store::translate::{Ids, Outcome, Refusal, Translator};
use binrush_store::{Change, Record};
use binrush_wire::{Generation, Packet};

use super::config::TargetConfig;
use super::counts::{COUNT, OTHER_CLUSTER, TargetCounts};
use super::seen::Seen;
use crate::link::{Lane, LinkId, Links};

/// A target, as the relay's thread has it.
pub(super) struct Target {
    config: TargetConfig,
    translator: Translator,
    /// For what is read here.
    scratch: Scratch,
    /// The packet that was made of the last one.
    out: Vec<u8>,
    way: Way,
}

/// How packets leave.
pub(super) enum Way {
    Datagrams(SendMmsg<UdpSocket>, TxBatch),
    Link(Links, LinkId),
    /// It could not be started, so there is room for nothing.
    Closed,
}

impl Way {
    pub(super) fn datagrams(socket: UdpSocket) -> Self {
        Self::Datagrams(
            SendMmsg::new(socket).with_patience(PATIENCE),
            TxBatch::new(DATAGRAMS_MAX, BYTES_MAX),
        )
    }
}

/// What became of a packet that was translated.
enum Made {
    Passed,
    Translated,
    Refused(Refusal),
}

impl Target {
    pub(super) fn new(config: TargetConfig, way: Way) -> Self {
        let ids = Ids {
            machine: config.ids.source,
            trailer: config.ids,
        };
        Self {
            translator: Translator::new(config.release, ids),
            scratch: Scratch::default(),
            out: Vec::new(),
            config,
            way,
        }
    }

    /// Sends what says the same as the packet, at `unix` in seconds since 1970.
    pub(super) fn take(&mut self, seen: &Seen<'_>, unix: i64, counts: &TargetCounts) {
        let became = if self.is_of_another_cluster(seen) {
            &counts.refused[OTHER_CLUSTER]
        } else if self.is_echo(seen) {
            &counts.echoed
        } else if seen.is_count() {
            &counts.refused[COUNT]
        } else {
            match self.make(seen, unix) {
                Made::Refused(why) => &counts.refused[why.place()],
                _ if !self.queue(&seen.packet, counts) => &counts.dropped,
                Made::Passed => &counts.passed,
                Made::Translated => &counts.translated,
            }
        };
        TargetCounts::add(became, 1);
    }

    /// Lets what waits here go out.
    pub(super) fn flush(&mut self, counts: &TargetCounts) {
        if let Way::Datagrams(socket, batch) = &mut self.way
            && !batch.is_empty()
        {
            let done = socket.send(batch);
            TargetCounts::add(&counts.sent, done.sent);
            TargetCounts::add(&counts.lost, done.failed);
        }
    }

    /// What says no cluster is of none.
    fn is_of_another_cluster(&self, seen: &Seen<'_>) -> bool {
        let wanted = self.config.from_cluster;
        let cluster = seen.trailer.map(|trailer| trailer.cluster);
        wanted.is_some() && cluster.is_some() && cluster != wanted
    }

    /// Whether it came from the target. Several nodes may be behind one address: where both sides number nodes of the same cluster,
    /// it is the one that made the packet.
    fn is_echo(&self, seen: &Seen<'_>) -> bool {
        let TargetConfig { to, ids, .. } = &self.config;
        let came_from = |peer| peer == to.addr.ip().to_canonical();
        let is_another_node = seen
            .trailer
            .is_some_and(|trailer| trailer.cluster == ids.cluster && trailer.source != ids.dest);
        seen.label.peer.is_some_and(came_from) && !is_another_node
    }

    /// Leaves the packet in `out`; of one of 1.x that goes on as it is, nothing: it says nothing of who sent it.
    fn make(&mut self, seen: &Seen<'_>, unix: i64) -> Made {
        self.out.clear();
        if self.config.has_sockets() && seen.has_sockets() {
            return match self.fit(seen, unix) {
                Ok(()) => Made::Translated,
                Err(why) => Made::Refused(why),
            };
        }
        let (translator, packet) = (&mut self.translator, &seen.packet);
        let (found, from) = (seen.found, seen.label.release);
        match translator.translate_identified(packet, found, from, unix, &mut self.out) {
            Outcome::Translated { .. } => Made::Translated,
            Outcome::Refused(why) => Made::Refused(why),
            Outcome::Opaque if packet.generation() == Generation::Legacy => Made::Passed,
            Outcome::Opaque => match translator.readdress(packet, &mut self.out) {
                Ok(()) => Made::Passed,
                Err(why) => Made::Refused(why),
            },
        }
    }

    /// Writes anew what names sockets, by the names that these have at the target.
    fn fit(&mut self, seen: &Seen<'_>, unix: i64) -> Result<(), Refusal> {
        let Self {
            config,
            translator,
            scratch,
            out,
            ..
        } = self;
        let change = read(&seen.packet, seen.release(), unix, scratch);
        let change = change.map_err(|error| match error {
            ReadError::Schema(error) => Refusal::Unreadable(error),
            ReadError::NoRecord(_) => Refusal::OtherLayout,
        })?;
        let record = match &change {
            Change::DialogCreated(dialog) | Change::DialogUpdated(dialog) => {
                Record::Dialog(*dialog)
            }
            Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
                Record::Contact(*contact)
            }
            _ => return translator.write(&change, unix, out).map(drop),
        };
        let record = match config.sockets.fit(&record, config.release) {
            Fit::Whole(record) | Fit::Socketless(record, _) => record,
            Fit::LeftOut(_) => return Err(Refusal::NoSocket),
        };
        let change = match (change, record) {
            (Change::DialogCreated(_), Record::Dialog(dialog)) => Change::DialogCreated(dialog),
            (Change::DialogUpdated(_), Record::Dialog(dialog)) => Change::DialogUpdated(dialog),
            (Change::ContactInserted(_, matching), Record::Contact(contact)) => {
                Change::ContactInserted(contact, matching)
            }
            (Change::ContactUpdated(_, matching), Record::Contact(contact)) => {
                Change::ContactUpdated(contact, matching)
            }
            (change, _) => change,
        };
        translator.write(&change, unix, out).map(drop)
    }

    /// Whether there was room for what was made.
    fn queue(&mut self, packet: &Packet<'_>, counts: &TargetCounts) -> bool {
        // Only lists of counts are cut into several packets, and these go nowhere.
        debug_assert!(self.translator.ends().len() <= 1, "one packet of one");
        let bytes = match &self.out[..] {
            [] => packet.bytes(),
            made => made,
        };
        let is_taken = match &mut self.way {
            Way::Closed => false,
            Way::Link(links, link) => links.send(*link, Lane::Bulk, bytes).is_ok(),
            Way::Datagrams(socket, batch) => {
                if !batch.has_room(bytes.len()) {
                    let done = socket.send(batch);
                    TargetCounts::add(&counts.sent, done.sent);
                    TargetCounts::add(&counts.lost, done.failed);
                }
                batch.push(self.config.to.addr, bytes)
            }
        };
        if is_taken {
            TargetCounts::add(&counts.made, 1);
        }
        is_taken
    }
}

/// What a batch may wait for room at the socket: one target that takes nothing costs all others no more than that for each batch,
/// about what sending it costs. What a network card is just about to send has left by then.
const PATIENCE: Duration = Duration::from_micros(500);

/// Datagrams that leave together, and their bytes: more than one is long.
const DATAGRAMS_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;
