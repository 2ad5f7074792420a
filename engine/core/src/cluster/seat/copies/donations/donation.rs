//! One sync that we give.

use binrush_wire::{MAX_PACKET_LEN_4_0, Release, Trailer};

use super::super::packer::{Filled, Packer};
use super::super::{COUNTED_SYNC_VERSION, MS, NEVER, Turn};
use crate::clock::Timestamp;
use crate::cluster::message::{Extra, Writer, sync_version};
use crate::cluster::outbox::{Sent, Slice, SliceRequest};
use crate::cluster::replica::{Cursor, Withheld};
use crate::link::Lane;

/// All records of one capability, on their way to one node.
#[derive(Debug)]
pub(super) struct Donation {
    id: u64,
    node: i32,
    place: usize,
    capability: String,
    release: Release,
    trailer: Trailer,
    /// What the slices say of their records.
    data: Data,
    walks: Vec<Walk>,
    packer: Packer,
    chunks: u64,
    /// Records that the slices had to leave out.
    left_out: u64,
    /// Those that the node is better off without, among what was packed.
    withheld: Withheld,
    /// Whether nothing is sent yet: all records are walked first, to see whether they can be told.
    dry: bool,
    requested: Timestamp,
    /// When the last packet was sent, or the donation began; and whether one was.
    sent_at: Timestamp,
    has_sent: bool,
    /// The link took no packet the last time, or has enough of them.
    blocked: bool,
    crowded: bool,
    /// Bytes that waited at the link, and when they became fewer last.
    waiting: usize,
    read_at: Timestamp,
    /// When a slice came last, or none was outstanding.
    sliced_at: Timestamp,
}

/// How far one shard's records were asked for.
#[derive(Debug, Clone, Copy)]
struct Walk {
    /// Where to go on; `None`: that was all, once nothing is asked for.
    next: Option<Cursor>,
    asked: bool,
}

impl Walk {
    const START: Self = Self {
        next: Some(Cursor(0)),
        asked: false,
    };
}

/// What a SYNC packet has to say of the records in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Unknown,
    Version(i32),
    /// Nothing: the node's release gets none of our records, or the slices do not agree.
    Refused,
}

/// What became of a donation in a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    GoesOn,
    /// All was queued, with its end.
    Complete,
    /// Some records cannot be told to a node of its release, for this reason. It was not told of an end.
    Untold(String),
    /// It cannot go on, for this reason. The node was not told of an end, so it takes nothing for complete.
    Failed(String),
}

impl Donation {
    /// Nothing was asked for and nothing sent yet.
    ///
    /// Up to 3.2 a node holds back all live packets from the first SYNC packet until there is an end (`CAP_PKT_BUFFERING` in
    /// 2.4 `sync.c`), and an end makes it delete what it was not given. There is no good way out in the middle, so it is sent
    /// nothing before all records were walked once, and all of them can be told.
    pub(super) fn begin(
        turn: &mut Turn<'_>,
        node: i32,
        place: usize,
        capability: &str,
        requested: Timestamp,
    ) -> Self {
        let overhead = Writer::sync_overhead(capability.as_bytes());
        let walk = Walk::START;
        let release = turn.view.release(node);
        Self {
            left_out: 0,
            withheld: Withheld::default(),
            dry: sync_version(release) < COUNTED_SYNC_VERSION,
            requested,
            id: turn.dice.draw(),
            node,
            place,
            capability: capability.to_owned(),
            release,
            trailer: Trailer::new(turn.view.cluster(), turn.view.me(), node),
            data: Data::Unknown,
            walks: vec![walk; usize::from(turn.rules.owners)],
            packer: Packer::new(turn.rules.packet_len, MAX_PACKET_LEN_4_0, overhead),
            chunks: 0,
            sent_at: turn.now,
            has_sent: false,
            blocked: false,
            crowded: false,
            waiting: 0,
            read_at: turn.now,
            sliced_at: turn.now,
        }
    }

    /// A slice that was asked for.
    pub(super) fn take(&mut self, now: Timestamp, slice: Slice, outstanding: &mut [u8]) {
        let shard = usize::from(slice.shard);
        let Some(walk) = self.walks.get_mut(shard).filter(|walk| walk.asked) else {
            return;
        };
        *walk = Walk {
            next: slice.next,
            asked: false,
        };
        outstanding[shard] = outstanding[shard].saturating_sub(1);
        self.sliced_at = now;
        self.data = match (self.data, slice.data_version) {
            (Data::Unknown, Some(version)) => Data::Version(version),
            (Data::Version(before), Some(version)) if before == version => self.data,
            _ => Data::Refused,
        };
        self.left_out = self.left_out.saturating_add(slice.left_out);
        // One record that is left out makes the end a lie: what follows is walked only to count.
        if !self.dry && self.left_out == 0 {
            self.withheld.add(&slice.withheld);
            self.packer.add(slice.chunks, slice.ends);
        }
    }

    /// Sends what can be sent, and asks for more.
    pub(super) fn turn(&mut self, turn: &mut Turn<'_>, outstanding: &mut [u8]) -> Outcome {
        let outcome = self.send(turn);
        if outcome != Outcome::GoesOn {
            return outcome;
        }
        self.ask(turn, outstanding);
        self.watch(turn)
    }

    /// Does without the slices that were asked for.
    pub(super) fn forget_asked(&self, outstanding: &mut [u8]) {
        for (walk, outstanding) in self.walks.iter().zip(outstanding) {
            *outstanding = outstanding.saturating_sub(u8::from(walk.asked));
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn node(&self) -> i32 {
        self.node
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn capability(&self) -> &str {
        &self.capability
    }

    /// What the node speaks.
    pub(super) fn release(&self) -> Release {
        self.release
    }

    /// When the node asked for it.
    pub(super) fn requested(&self) -> Timestamp {
        self.requested
    }

    /// Whether a packet of it was sent.
    pub(super) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Chunks that were sent.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// What was kept back.
    pub(super) fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// Whether its end says how many chunks there were.
    pub(super) fn is_counted(&self) -> bool {
        sync_version(self.release) >= COUNTED_SYNC_VERSION
    }

    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        if self.blocked || self.crowded {
            // The longer nothing was read, the less is missed by looking later.
            let idle = now.nanos_since(self.read_at) / 8;
            return now.after(idle.clamp(LINK_LOOK_NS, LINK_LOOK_MAX_NS));
        }
        // The next slice comes by itself; what there is must not wait for it for too long.
        let flush = match self.packer.body().is_empty() || self.left_out > 0 {
            true => NEVER,
            false => self.sent_at.after(self.gap_ns()),
        };
        flush.min(self.sliced_at.after(STALL_NS))
    }

    /// Sends the packets that are full, the last one, and one that has waited for long enough; and the end.
    fn send(&mut self, turn: &mut Turn<'_>) -> Outcome {
        self.blocked = false;
        if self.data == Data::Refused {
            return self.refused();
        }
        if self.left_out > 0 {
            return self.leave_out();
        }
        if self.dry && self.is_walked() {
            self.dry = false;
            self.walks.fill(Walk::START);
        }
        if self.dry {
            return Outcome::GoesOn;
        }
        loop {
            let filled = self.packer.fill();
            if let Filled::Never(len) = filled {
                return Outcome::Failed(format!("a record of {len} bytes fits into no packet"));
            }
            let is_all = self.is_walked() && filled == Filled::Partly;
            if self.packer.body().is_empty() {
                return match is_all {
                    true => self.finish(turn),
                    false => Outcome::GoesOn,
                };
            }
            let is_late = turn.now.nanos_since(self.sent_at) >= self.gap_ns();
            if filled == Filled::Partly && !is_all && !is_late {
                return Outcome::GoesOn;
            }
            let outcome = self.send_packet(turn);
            if outcome != Outcome::GoesOn || self.blocked {
                return outcome;
            }
        }
    }

    fn send_packet(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let Data::Version(version) = self.data else {
            return self.refused();
        };
        let name = self.capability.as_bytes();
        let body = self.packer.body();
        match turn
            .writer
            .sync(self.release, self.trailer, name, version, body)
        {
            Err(error) => return Outcome::Failed(format!("a packet cannot be written: {error}")),
            Ok(packet) => match turn.out.send(self.node, Lane::Bulk, packet) {
                Sent::Full => self.blocked = true,
                Sent::Unreachable => return unreachable(),
                Sent::Queued => {
                    self.chunks += u64::from(self.packer.sent());
                    self.sent_at = turn.now;
                    self.has_sent = true;
                }
            },
        }
        Outcome::GoesOn
    }

    /// Says that this was all. Behind the packets, so by the same lane.
    fn finish(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let Ok(chunks) = u32::try_from(self.chunks) else {
            return Outcome::Failed(format!(
                "{} records are more than can be counted",
                self.chunks
            ));
        };
        let end = Extra::SyncEnd {
            capability: self.capability.clone().into_bytes(),
            total: self.is_counted().then_some(chunks),
        };
        match turn.writer.extra(self.release, self.trailer, &end) {
            Err(error) => Outcome::Failed(format!("its end cannot be written: {error}")),
            Ok(packet) => match turn.out.send(self.node, Lane::Bulk, packet) {
                Sent::Queued => Outcome::Complete,
                Sent::Unreachable => unreachable(),
                Sent::Full => {
                    self.blocked = true;
                    Outcome::GoesOn
                }
            },
        }
    }

    /// Asks the gates for more, while the link has room for it.
    fn ask(&mut self, turn: &mut Turn<'_>, outstanding: &mut [u8]) {
        let waiting = turn.out.waiting_bytes(self.node);
        self.crowded = waiting >= WAITING_MAX && !self.is_walked();
        // Whatever was not blocked has packed all that there was.
        if self.blocked || self.crowded {
            return;
        }
        let walks = self.walks.iter_mut().zip(outstanding);
        for (shard, (walk, outstanding)) in (0..).zip(walks) {
            let Some(from) = walk
                .next
                .filter(|_| !walk.asked && *outstanding < SLICES_MAX)
            else {
                continue;
            };
            walk.asked = true;
            *outstanding += 1;
            let request = SliceRequest {
                cluster: turn.rules.cluster,
                donation: self.id,
                from,
                bytes: SLICE_LEN,
                release: self.release,
            };
            turn.out.slice(&self.capability, shard, request);
        }
    }

    /// Ends a donation in which nothing moves any more.
    fn watch(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let waiting = turn.out.waiting_bytes(self.node);
        if waiting < self.waiting || waiting == 0 && !self.blocked {
            self.read_at = turn.now;
        }
        self.waiting = waiting;
        if !self.walks.iter().any(|walk| walk.asked) {
            self.sliced_at = turn.now;
        }
        let seconds = STALL_NS / (1000 * MS);
        if turn.now.nanos_since(self.read_at) >= STALL_NS {
            return Outcome::Failed(format!("it has read nothing for {seconds} s"));
        }
        if turn.now.nanos_since(self.sliced_at) >= STALL_NS {
            return Outcome::Failed(format!("a shard has given no records for {seconds} s"));
        }
        Outcome::GoesOn
    }

    fn refused(&self) -> Outcome {
        let release = self.release;
        Outcome::Untold(format!("our records cannot be told to a node of {release}"))
    }

    /// All are counted before it is said how many there are.
    fn leave_out(&self) -> Outcome {
        if !self.is_walked() {
            return Outcome::GoesOn;
        }
        let (count, release) = (self.left_out, self.release);
        Outcome::Untold(format!(
            "{count} of our records cannot be told to a node of {release}"
        ))
    }

    /// Whether all records were asked for, and have come.
    fn is_walked(&self) -> bool {
        self.walks.iter().all(|walk| walk.next.is_none())
    }

    /// How long what there is may wait for more.
    fn gap_ns(&self) -> u64 {
        if self.has_sent { GAP_NS } else { FIRST_GAP_NS }
    }
}

fn unreachable() -> Outcome {
    Outcome::Failed("its link is down".to_owned())
}

/// Bytes of one slice: some hundred records, which a shard collects in far less than a millisecond.
const SLICE_LEN: usize = 64 << 10;

/// Slices of one shard that are asked for at the same time, by all donations.
const SLICES_MAX: u8 = 2;

/// Bytes that wait at a link that has enough.
const WAITING_MAX: usize = 256 << 10;

/// How long records wait for a packet to become full, after the first and before it. A receiver gives us up after
/// `sync_timeout`, 15 s by default; an operator looks after one.
const GAP_NS: u64 = 500 * MS;
const FIRST_GAP_NS: u64 = 100 * MS;

/// How soon a link is asked again whether it has room: 256 KiB in a millisecond are more than a receiver takes.
const LINK_LOOK_NS: u64 = MS;
const LINK_LOOK_MAX_NS: u64 = 50 * MS;

/// How long nothing moves until it is over.
const STALL_NS: u64 = 30_000 * MS;
