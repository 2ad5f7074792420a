//! The gates of our capabilities, on one shard, which apply everything; and the records behind them, which are those that the
//! genuine node gave away.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use binrush_engine::cluster::message::Extra;
use binrush_engine::cluster::outbox::{GateOrder, Slice, SliceRequest};
use binrush_engine::cluster::replica::{Cursor, Withheld};
use binrush_engine::cluster::session::{Session, SyncEnd};
use binrush_wire::chunk::CHUNK_MARKER;

use crate::cluster::record::{Message, Recorded, Setting};

#[derive(Debug)]
pub(crate) struct Gates {
    gates: BTreeMap<String, Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Records, as far as anybody looks.
    records: u64,
    /// What the genuine node gave, from its first donation on.
    gave: VecDeque<Gift>,
    /// Requests that came and are not answered yet.
    requests: usize,
    /// What is being given.
    giving: BTreeMap<u64, Gift>,
}

/// All records at one moment: their data version, and what each chunk holds.
type Gift = (i32, Vec<Vec<u8>>);

impl Gates {
    /// Those of node `me`; the first node has a record of each capability from the start.
    pub(crate) fn new(setting: &Setting, mine: &[Recorded], me: i32) -> Self {
        let mut gates: BTreeMap<_, _> = setting
            .capabilities
            .iter()
            .map(|(name, _)| {
                let gate = Gate {
                    records: u64::from(me == 1),
                    ..Gate::default()
                };
                ((*name).to_owned(), gate)
            })
            .collect();
        let mut begun: BTreeMap<_, Gift> = BTreeMap::new();
        for packet in mine.iter().filter(|packet| packet.from == me) {
            match &packet.message {
                Message::Sync(sync) => {
                    let key = (packet.to, sync.capability.clone());
                    let (version, chunks) = begun.entry(key).or_default();
                    *version = sync.data_version;
                    chunks.extend(sync.chunks.iter().cloned());
                }
                Message::Extra {
                    message: Extra::SyncEnd { capability, .. },
                    ..
                } => {
                    let name = String::from_utf8_lossy(capability).into_owned();
                    let gave = begun.remove(&(packet.to, name.clone()));
                    let gave = gave.unwrap_or_else(|| (1, vec![ONE.to_vec()]));
                    let gate = gates.get_mut(&name).expect("one of its capabilities");
                    gate.gave.push_back(gave);
                }
                _ => {}
            }
        }
        Self { gates }
    }

    /// A message came that may be a request.
    pub(crate) fn note(&mut self, message: &Extra) {
        if let Extra::SyncRequest { capability } = message
            && let Some(gate) = self.gates.get_mut(&*String::from_utf8_lossy(capability))
        {
            gate.requests += 1;
        }
    }

    /// A live packet came.
    pub(crate) fn live(&mut self, capability: &str) {
        if let Some(gate) = self.gates.get_mut(capability) {
            gate.records = gate.records.max(1);
        }
    }

    /// How many records there are.
    pub(crate) fn records(&self, capability: &str) -> usize {
        usize::try_from(self.gates[capability].records).expect("few")
    }

    /// Does what a seat orders, at once.
    pub(crate) fn obey(&mut self, capability: &str, order: &GateOrder) {
        let gate = self.gates.get_mut(capability).expect("one of ours");
        match order {
            GateOrder::Hold(session) => {
                let words = &session.shards[0];
                words.records.store(gate.records, Ordering::Relaxed);
                words.held.store(true, Ordering::Release);
            }
            GateOrder::Release(session, end) => {
                let words = &session.shards[0];
                if let SyncEnd::Completed { .. } = end {
                    gate.records = gate.records.max(words.applied.load(Ordering::Relaxed));
                }
                words.records_after.store(gate.records, Ordering::Relaxed);
                words.released.store(true, Ordering::Release);
            }
        }
    }

    /// Gives what a seat asks for.
    pub(crate) fn slice(&mut self, capability: &str, shard: u16, request: &SliceRequest) -> Slice {
        let gate = self.gates.get_mut(capability).expect("one of ours");
        let is_look = request.bytes == 1;
        let (version, records) = gate.records_for(request.donation, is_look);
        let mut slice = Slice {
            cluster: request.cluster,
            donation: request.donation,
            shard,
            chunks: vec![],
            ends: vec![],
            data_version: Some(version),
            next: None,
            left_out: 0,
            withheld: Withheld::default(),
        };
        let from = usize::try_from(request.from.0).expect("a place in it");
        for (place, record) in records.iter().enumerate().skip(from) {
            if slice.chunks.len() >= request.bytes {
                slice.next = Some(Cursor(place as u64));
                break;
            }
            let len = i32::try_from(record.len()).expect("it was in a packet");
            slice.chunks.extend(len.to_le_bytes());
            slice.chunks.extend(CHUNK_MARKER.to_le_bytes());
            slice.chunks.extend(record);
            slice
                .ends
                .push(u32::try_from(slice.chunks.len()).expect("a slice"));
        }
        slice
    }
}

impl Gate {
    /// A donation gets what the genuine node gave at that request; who only looks gets whatever there is.
    fn records_for(&mut self, donation: u64, is_look: bool) -> Gift {
        if let Some(giving) = self.giving.get(&donation) {
            return giving.clone();
        }
        if !is_look
            && self.requests > 0
            && let Some(gave) = self.gave.pop_front()
        {
            self.requests -= 1;
            self.giving.insert(donation, gave.clone());
            return gave;
        }
        let there = usize::from(self.records > 0);
        (1, vec![ONE.to_vec(); there])
    }
}

/// What door and gate write down of a SYNC packet with so many chunks.
pub(crate) fn take(session: &Session, chunks: u64, connection: u64) {
    let door = &session.door;
    door.packets.fetch_add(1, Ordering::Relaxed);
    door.connection.store(connection, Ordering::Relaxed);
    door.cut.fetch_add(chunks, Ordering::Release);
    session.shards[0]
        .applied
        .fetch_add(chunks, Ordering::Release);
}

/// A record where the genuine node had none.
pub(crate) const ONE: &[u8] = b"one record";
