//! One node that hears the packets of a capture: which of them are for it, syncs, and records by the rules of the store.
//!
//! ```text
//!   frame ─▶ to this node? ─┬─ live packet ─▶ sync running? ─ no ──▶ Store
//!                           │                      └─ yes ─▶ held ────┐ (applied behind the chunks)
//!                           ├─ SYNC ──▶ chunks ──▶ Store              │
//!                           └─ SYNC_END ──▶ what nobody confirmed goes ─┘
//!   SYNC_REQ of this node ──▶ a sync begins
//! ```
//!
//! What the node does itself reaches it by no packet; what it tells others of that is in the capture, and may count, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

use binrush_capture::{Frame, Timestamp};
use binrush_store::read::{self, ReadError, Scratch};
use binrush_store::{Applied, Change, Family, Kind, Limits, Now, Store};
use binrush_wire::schema::{self, SchemaError};
use binrush_wire::{Generation, Packet, Trailer, WireError};

use super::super::dump::{Dump, Record};
use sync::{Sync, family_of};

/// Syncs.
mod sync;

/// The node.
pub(super) struct Receiver {
    /// Its address; `None`: that to which everything is sent.
    address: Option<IpAddr>,
    /// What it tells others is taken for what it has.
    with_own: bool,
    /// Its id in each cluster, as soon as it has said it.
    ids: HashMap<i32, i32>,
    /// To whom packets about records were sent.
    addresses: BTreeSet<IpAddr>,
    /// One for each of [`Family::ALL`].
    stores: [Store; Family::ALL.len()],
    /// What it heard of.
    told: BTreeSet<Family>,
    /// By capability.
    syncs: HashMap<Vec<u8>, Sync>,
    /// When the capture began.
    start: Option<Timestamp>,
    refused: BTreeMap<&'static str, u64>,
    scratch: Scratch,
}

/// What a frame was.
#[derive(Debug)]
pub(super) enum Heard {
    /// For this node, and used.
    Used,
    /// Not for it, or about no record.
    Nothing,
    /// For it, and it cannot be read.
    Wrong(Wrong),
}

/// Why a packet cannot be read.
#[derive(Debug)]
pub(super) enum Wrong {
    Packet(WireError),
    Message(String, i32, ReadError),
    Chunk(String, ReadError),
    /// The number of chunks that came, and how many there should have been.
    Sync(String, i32, i32),
}

impl Receiver {
    pub(super) fn new(address: Option<IpAddr>, with_own: bool) -> Self {
        Self {
            address,
            with_own,
            ids: HashMap::new(),
            addresses: BTreeSet::new(),
            stores: Family::ALL.map(|family| Store::new(family, Limits::default())),
            told: BTreeSet::new(),
            syncs: HashMap::new(),
            start: None,
            refused: BTreeMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// To whom packets about records were sent, of those that were looked at.
    pub(super) const fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Takes one frame.
    pub(super) fn hear(&mut self, frame: &Frame<'_>) -> Heard {
        let is_ours = |address: IpAddr| self.address.is_none_or(|ours| ours == address);
        let (is_to_us, is_by_us) = (is_ours(frame.dst.ip()), is_ours(frame.src.ip()));
        if !is_to_us && !is_by_us {
            return Heard::Nothing;
        }
        let packet = match Packet::parse(frame.generation, frame.bytes) {
            Ok(packet) => packet,
            Err(error) if is_to_us => return Heard::Wrong(Wrong::Packet(error)),
            Err(_) => return Heard::Nothing,
        };
        let now = self.now(frame.time);
        if is_by_us {
            self.said(&packet, frame.time, now);
        }
        self.give_up_stale(frame.time);
        if !is_to_us {
            // It tells each of the others, and to be told again changes nothing.
            return match self.with_own && self.is_made_here(&packet) {
                true => self.apply(&packet, now),
                false => Heard::Nothing,
            };
        }
        if self.is_in_transit(&packet) {
            return Heard::Nothing;
        }
        match packet.name() {
            EXTRA => self.sync_packet(&packet, frame, now),
            _ => self.live(&packet, frame, now),
        }
    }

    /// Everything up to `at`, as a dump.
    pub(super) fn finish(mut self, at: Timestamp) -> Dump {
        let open: Vec<_> = self.syncs.keys().cloned().collect();
        for capability in open {
            self.end_sync(&capability);
        }
        let unix = seconds(at);
        let mut dump = Dump {
            at: Some(unix),
            ..Dump::default()
        };
        let told = |kind: &Kind| self.told.contains(&Family::of(*kind));
        dump.kinds = Kind::ALL.into_iter().filter(told).collect();
        for store in &mut self.stores {
            expire(store, unix);
            let mut from = Some(0);
            while let Some(place) = from {
                from = store.walk(place, WALK_BYTES, &mut |_, flat| {
                    let record = Record::of_flat(flat).expect("the store wrote it");
                    dump.records.push(record);
                });
            }
        }
        dump
    }

    /// What was not taken, by reason.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused.clone()
    }

    /// What this node says tells its id, and that it wants a sync.
    fn said(&mut self, packet: &Packet<'_>, time: Timestamp, now: Now) {
        let mut fields = packet.fields();
        match packet.name() {
            INTERNAL if [PING, PONG].contains(&packet.command()) && self.address.is_some() => {
                if let (Ok(cluster), Ok(id)) = (fields.pop_int(), fields.pop_int()) {
                    self.ids.insert(cluster, id);
                }
            }
            EXTRA if name_of(packet) == Some("SYNC_REQ") => {
                let capability = fields.pop_trailer().and_then(|_| fields.pop_str());
                if let Ok(capability) = capability
                    && family_of(capability).is_some()
                {
                    self.begin_sync(capability, time, now);
                }
            }
            _ => {}
        }
    }

    /// Whether a packet is for another node, to which this one passes it on.
    fn is_in_transit(&self, packet: &Packet<'_>) -> bool {
        trailer(packet).is_some_and(|Trailer { cluster, dest, .. }| {
            dest != Trailer::BRIDGE && self.ids.get(&cluster).is_some_and(|id| *id != dest)
        })
    }

    /// Whether a packet that comes from this node is its own, and not passed on.
    fn is_made_here(&self, packet: &Packet<'_>) -> bool {
        trailer(packet).is_none_or(
            |Trailer {
                 cluster, source, ..
             }| { self.ids.get(&cluster).is_none_or(|id| *id == source) },
        )
    }

    fn live(&mut self, packet: &Packet<'_>, frame: &Frame<'_>, now: Now) -> Heard {
        let heard = match self.hold(packet.name(), frame.bytes, now) {
            true => Heard::Used,
            false => self.apply(packet, now),
        };
        if let Heard::Used = heard {
            self.addresses.insert(frame.dst.ip());
        }
        heard
    }

    /// Applies a live packet.
    fn apply(&mut self, packet: &Packet<'_>, now: Now) -> Heard {
        let change = match read::read(packet, None, now.unix, &mut self.scratch) {
            Ok(change) => change,
            Err(ReadError::NoRecord(_) | ReadError::Schema(SchemaError::UnknownName)) => {
                return Heard::Nothing;
            }
            Err(error) => {
                let name = String::from_utf8_lossy(packet.name()).into_owned();
                return Heard::Wrong(Wrong::Message(name, packet.command(), error));
            }
        };
        let node = trailer(packet).map_or(0, |trailer| trailer.source);
        let family = Family::of_change(&change);
        self.told.insert(family);
        apply(&mut self.stores, &mut self.refused, now, &change, node);
        Heard::Used
    }

    fn now(&mut self, time: Timestamp) -> Now {
        let start = *self.start.get_or_insert(time);
        let tenths = time.since(start).as_millis() / 100;
        Now {
            unix: seconds(time),
            tick: u32::try_from(tenths).unwrap_or(u32::MAX - 1) + 1,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(error) => error.fmt(f),
            Self::Message(name, command, error) => write!(f, "{name} type {command}: {error}"),
            Self::Chunk(capability, error) => write!(f, "sync of {capability}: {error}"),
            Self::Sync(capability, came, counted) => write!(
                f,
                "sync of {capability}: {came} of {counted} chunks came, so nothing is removed"
            ),
        }
    }
}

fn apply(
    stores: &mut [Store],
    refused: &mut BTreeMap<&'static str, u64>,
    now: Now,
    change: &Change<'_>,
    node: i32,
) {
    let store = &mut stores[Family::of_change(change) as usize];
    expire(store, now.unix);
    if let Applied::Refused(why) = store.apply(now, change, node, &mut ()) {
        *refused.entry(why.name()).or_default() += 1;
    }
}

fn expire(store: &mut Store, unix: i64) {
    while store.expire(unix, EXPIRE_STEPS, &mut ()).1 {}
}

/// The ids behind the fields; none in what is not routed.
fn trailer(packet: &Packet<'_>) -> Option<Trailer> {
    let is_routed = packet.generation() == Generation::Modern && packet.name() != INTERNAL;
    is_routed
        .then(|| packet.fields().pop_trailer().ok())
        .flatten()
}

/// The name of a packet whose layout fits to its last byte.
fn name_of(packet: &Packet<'_>) -> Option<&'static str> {
    schema::identify(packet).ok().map(|message| message.name)
}

fn text(capability: &[u8]) -> String {
    String::from_utf8_lossy(capability).into_owned()
}

fn seconds(time: Timestamp) -> i64 {
    i64::try_from(time.secs()).unwrap_or(i64::MAX)
}

const INTERNAL: &[u8] = b"clusterer-internal";
const EXTRA: &[u8] = b"clusterer-extra";

const PING: i32 = 0;
const PONG: i32 = 1;

const WALK_BYTES: usize = 1 << 20;

const EXPIRE_STEPS: usize = 1 << 16;

#[cfg(test)]
mod tests;
