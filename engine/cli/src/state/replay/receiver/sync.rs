//! Syncs: chunks, what waits for their end, and what goes then.
//!
//! A sync begins when the node asks for it, or with the first SYNC where that is not in the capture. One that is not whole (fewer
//! chunks than SYNC_END counts, a chunk that cannot be read, no packet for 15 s: 3.6 `modules/clusterer/sync.h`, `sync_timeout`)
//! removes nothing.

use std::time::Duration;

use binrush_capture::{Frame, Timestamp};
use binrush_store::read::{self, ReadError};
use binrush_store::{Family, Now};
use binrush_wire::schema::SchemaError;
use binrush_wire::{Chunks, Fields, Generation, Packet};

use super::{Heard, Receiver, Wrong, apply, name_of, seconds, text};

/// A sync that was asked for, or has begun.
pub(super) struct Sync {
    chunks: i32,
    is_whole: bool,
    /// When something of it came.
    last: Timestamp,
    held: Vec<Held>,
    held_bytes: usize,
}

/// A live packet that waits for the end of a sync.
struct Held {
    bytes: Vec<u8>,
    now: Now,
}

impl Receiver {
    pub(super) fn sync_packet(
        &mut self,
        packet: &Packet<'_>,
        frame: &Frame<'_>,
        now: Now,
    ) -> Heard {
        let Some(name @ ("SYNC" | "SYNC_END")) = name_of(packet) else {
            return Heard::Nothing;
        };
        let mut fields = packet.fields();
        let popped = fields
            .pop_trailer()
            .and_then(|trailer| Ok((trailer.source, fields.pop_str()?, fields.pop_int().ok())));
        let (node, capability, number) = popped.expect("its layout fits");
        let Some(family) = family_of(capability) else {
            return Heard::Nothing;
        };
        self.addresses.insert(frame.dst.ip());
        self.told.insert(family);
        if !self.syncs.contains_key(capability) {
            self.begin_sync(capability, frame.time, now);
        }
        let sync = self.syncs.get_mut(capability).expect("it has begun");
        sync.last = frame.time;
        if name == "SYNC_END" {
            let came = sync.chunks;
            let counted = number.unwrap_or(came);
            sync.is_whole &= counted == came;
            self.end_sync(capability);
            return match counted == came {
                true => Heard::Used,
                false => Heard::Wrong(Wrong::Sync(text(capability), came, counted)),
            };
        }
        // Up to 2.4.6 and 3.0.0 chunks have no sizes, and version 1: who looks for sizes finds no chunk.
        let version = number.unwrap_or_default();
        match self.chunks(capability, version, fields, now.unix, node) {
            Ok(()) => Heard::Used,
            Err(error) => {
                let sync = self.syncs.get_mut(capability).expect("it has begun");
                sync.is_whole = false;
                Heard::Wrong(Wrong::Chunk(text(capability), error))
            }
        }
    }

    /// Keeps a live packet for the end of the sync that is running; `false`: none is.
    pub(super) fn hold(&mut self, capability: &[u8], bytes: &[u8], now: Now) -> bool {
        let Some(sync) = self.syncs.get_mut(capability) else {
            return false;
        };
        sync.held_bytes += bytes.len();
        let bytes = bytes.to_vec();
        sync.held.push(Held { bytes, now });
        if sync.held_bytes > HELD_MAX {
            sync.is_whole = false;
            self.end_sync(capability);
        }
        true
    }

    /// Applies the chunks in `fields`, and says what was wrong first.
    fn chunks(
        &mut self,
        capability: &[u8],
        version: i32,
        fields: Fields<'_>,
        unix: i64,
        node: i32,
    ) -> Result<(), ReadError> {
        let mut first = Ok(());
        for chunk in Chunks::new(fields) {
            let read = chunk
                .map_err(|error| SchemaError::Field(error).into())
                .and_then(|chunk| {
                    read::read_chunk(capability, version, None, &chunk, unix, &mut self.scratch)
                });
            if let Some(sync) = self.syncs.get_mut(capability) {
                sync.chunks += 1;
            }
            match read {
                Ok(change) => {
                    let now = Now { unix, tick: 0 };
                    apply(&mut self.stores, &mut self.refused, now, &change, node);
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    pub(super) fn begin_sync(&mut self, capability: &[u8], time: Timestamp, now: Now) {
        // Asked once more, it goes on from where it is: a genuine node asks again for one that did not come.
        let Some(family) = family_of(capability) else {
            return;
        };
        let before = self.syncs.remove(capability);
        let (held, held_bytes) =
            before.map_or_else(Default::default, |sync| (sync.held, sync.held_bytes));
        self.stores[family as usize].sync_begins(now.tick);
        let sync = Sync {
            chunks: 0,
            is_whole: true,
            last: time,
            held,
            held_bytes,
        };
        self.syncs.insert(capability.to_vec(), sync);
    }

    /// Applies what waited, and removes what nobody confirmed if the sync was whole.
    pub(super) fn end_sync(&mut self, capability: &[u8]) {
        let Some(sync) = self.syncs.remove(capability) else {
            return;
        };
        for held in &sync.held {
            // Only 2.3 and later have syncs.
            let packet = Packet::parse(Generation::Modern, &held.bytes);
            if let Ok(packet) = packet {
                self.apply(&packet, held.now);
            }
        }
        if !sync.is_whole {
            return;
        }
        let Some(family) = family_of(capability) else {
            return;
        };
        let store = &mut self.stores[family as usize];
        let mut from = Some(0);
        while let Some(place) = from {
            from = store.sync_ends(place, seconds(sync.last), &mut ()).next;
        }
    }

    /// Ends syncs of which nothing comes any more.
    pub(super) fn give_up_stale(&mut self, time: Timestamp) {
        let stale = |(capability, sync): (&Vec<u8>, &mut Sync)| {
            let is_stale = time.since(sync.last) > SYNC_TIMEOUT;
            sync.is_whole &= !is_stale;
            is_stale.then(|| capability.clone())
        };
        let given_up: Vec<_> = self.syncs.iter_mut().filter_map(stale).collect();
        for capability in given_up {
            self.end_sync(&capability);
        }
    }
}

/// Whose records are synced.
pub(super) fn family_of(capability: &[u8]) -> Option<Family> {
    match capability {
        b"dialog-dlg-repl" => Some(Family::Dialogs),
        b"usrloc-contact-repl" => Some(Family::Usrloc),
        b"cachedb-local-repl" => Some(Family::Cache),
        _ => None,
    }
}

/// Without a packet for so long, a genuine receiver gives a sync up.
const SYNC_TIMEOUT: Duration = Duration::from_secs(15);

/// Live packets that wait for the end of a sync; with more of them it is given up.
const HELD_MAX: usize = 256 << 20;
