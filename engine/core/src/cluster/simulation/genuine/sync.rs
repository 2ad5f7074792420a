//! Syncs of a genuine node, as receiver and as donor (BIN.md C.8).

use binrush_wire::Release;

use super::super::network::{Network, Time};
use super::super::record::{Change, DATA_VERSION};
use super::super::speech::{Word, sync_version};
use super::links::nanos;
use super::{Dump, Fate, Genuine, Own};

impl Genuine {
    /// Every capability asks for a sync at the start, and nobody is there yet.
    pub(super) fn begin_syncs(&mut self, now: Time) {
        let fallback = self.settings.timers.seed_fallback;
        // Up to 3.0 a seed that would wait for nothing does not ask at all.
        let starts_ok =
            self.settings.release <= Release::V3_0 && self.settings.is_seed && fallback.is_zero();
        for name in &self.settings.capabilities {
            let own = Own {
                is_ok: starts_ok,
                is_pending: !starts_ok,
                asked: now,
                ..Own::default()
            };
            self.own.insert(name.clone(), own);
        }
    }

    pub(super) fn look_at_syncs(&mut self, now: Time, network: &mut Network) {
        let timers = self.settings.timers;
        let is_seed = self.settings.is_seed;
        let gives_up = self.settings.release >= Release::V3_1;
        for name in self.settings.capabilities.clone() {
            let own = self.own.get_mut(&name).expect("one of ours");
            if own.is_ok {
                continue;
            }
            if own.is_pending && is_seed && now - own.asked >= nanos(timers.seed_fallback) {
                (own.is_ok, own.is_pending) = (true, false);
                self.tell_cap(now, &name, network);
            } else if own.in_progress
                && gives_up
                && now - own.last_sync >= nanos(timers.sync_timeout)
            {
                // Nothing asks again.
                own.replay();
            }
        }
    }

    /// Somebody has what we wait for.
    pub(super) fn donor_appeared(&mut self, now: Time, id: i32, name: &str, network: &mut Network) {
        if self.own.get(name).is_some_and(|own| own.is_pending)
            && self.request(now, id, name, network) == Fate::Sent
            && let Some(own) = self.own.get_mut(name)
        {
            own.is_pending = false;
        }
    }

    fn request(&mut self, now: Time, id: i32, name: &str, network: &mut Network) -> Fate {
        let capability = name.to_owned();
        self.send_routed(now, id, Word::SyncReq { capability }, network)
    }

    /// There is a way to this node: what waited for it is done.
    pub(super) fn node_came(&mut self, now: Time, id: i32, network: &mut Network) {
        let peer = self.peers.get_mut(&id).expect("known");
        let wanted = peer
            .capabilities
            .iter_mut()
            .filter(|(_, cap)| cap.wants_sync);
        let wanted: Vec<_> = wanted
            .map(|(name, cap)| {
                cap.wants_sync = false;
                name.clone()
            })
            .collect();
        let offered = peer.capabilities.iter().filter(|(_, cap)| cap.is_ok);
        let offered: Vec<_> = offered.map(|(name, _)| name.clone()).collect();
        for name in wanted {
            self.donate(now, id, &name, network);
        }
        for name in offered {
            self.donor_appeared(now, id, &name, network);
        }
    }

    pub(super) fn hear_request(&mut self, now: Time, id: i32, name: &str, network: &mut Network) {
        if !self.own.contains_key(name) {
            return;
        }
        if self.next_hop(id).is_some() {
            self.donate(now, id, name, network);
        } else {
            let peer = self.peers.get_mut(&id).expect("known");
            if let Some(cap) = peer.capabilities.get_mut(name) {
                cap.wants_sync = true;
            }
        }
    }

    /// Everything at once, whatever the own copy is worth.
    fn donate(&mut self, now: Time, id: i32, name: &str, network: &mut Network) {
        let Some(own) = self.own.get(name) else {
            return;
        };
        let records = own.records.clone();
        let total = i32::try_from(records.len()).expect("few");
        let chunk = |(name, version): (&String, &u64)| {
            let name = name.clone();
            let version = Some(*version);
            Change { name, version }.fields(PADDING)
        };
        let chunks: Vec<_> = records.iter().map(chunk).collect();
        self.dumps.push(Dump {
            to: id,
            capability: name.to_owned(),
            records,
        });
        for some in chunks.chunks(CHUNKS_A_PACKET) {
            let word = Word::Sync {
                capability: name.to_owned(),
                data_version: i32::from(DATA_VERSION),
                chunks: some.to_vec(),
            };
            self.send_routed(now, id, word, network);
        }
        let total = (sync_version(self.settings.release) == 3).then_some(total);
        let capability = name.to_owned();
        self.send_routed(now, id, Word::SyncEnd { capability, total }, network);
    }

    pub(super) fn hear_sync(
        &mut self,
        now: Time,
        id: i32,
        name: &str,
        chunks: &[Vec<u8>],
        network: &mut Network,
    ) {
        let Some(own) = self.own.get_mut(name) else {
            return;
        };
        if !own.is_ok && !own.in_progress {
            own.in_progress = true;
            own.unconfirmed.get_or_insert_with(|| own.records.clone());
        }
        own.last_sync = now;
        for (name, version) in chunks.iter().filter_map(|chunk| Change::of_chunk(chunk)) {
            own.confirm(&name);
            own.records.insert(name, version);
            own.iterated += 1;
        }
        if own.total != 0 && own.iterated == own.total {
            self.finish(now, id, name, network);
        }
    }

    pub(super) fn hear_sync_end(
        &mut self,
        now: Time,
        id: i32,
        name: &str,
        total: Option<i32>,
        network: &mut Network,
    ) {
        let Some(own) = self.own.get_mut(name) else {
            return;
        };
        if let Some(total) = total {
            own.total = total;
            if own.iterated != total {
                return;
            }
        }
        self.finish(now, id, name, network);
    }

    fn finish(&mut self, now: Time, id: i32, name: &str, network: &mut Network) {
        let own = self.own.get_mut(name).expect("looked up before");
        let had_packets = own.in_progress;
        own.replay();
        if had_packets {
            for name in own.unconfirmed.take().unwrap_or_default().into_keys() {
                own.records.remove(&name);
            }
        }
        own.is_ok = true;
        self.finished.push((id, name.to_owned()));
        self.tell_cap(now, name, network);
    }

    pub(super) fn hear_live(&mut self, name: &str, change: Change) {
        if let Some(own) = self.own.get_mut(name) {
            if own.in_progress {
                own.queue.push(change);
            } else {
                own.confirm(&change.name);
                change.apply(&mut own.records);
            }
        }
    }
}

impl Own {
    /// A chunk or a packet speaks of a record.
    pub(super) fn confirm(&mut self, name: &str) {
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.remove(name);
        }
    }

    /// The sync is over, in one way or the other.
    fn replay(&mut self) {
        for change in std::mem::take(&mut self.queue) {
            self.confirm(&change.name);
            change.apply(&mut self.records);
        }
        self.in_progress = false;
    }
}

/// Of a record in a chunk.
const PADDING: usize = 40;

/// Small packets, so that a sync has several.
const CHUNKS_A_PACKET: usize = 7;
