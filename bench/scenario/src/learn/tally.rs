//! What came one way.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use binrush_capture::Timestamp;
use binrush_probe::STAMP_LEN;
use binrush_wire::schema::{self, Message};
use binrush_wire::{Packet, Release};

use super::sizes::Lengths;
use super::{durations, popularity, rounded};
use crate::limits;
use crate::scenario::{Kind, Part};

/// Counts of one way, and what must be kept to learn from them.
#[derive(Debug)]
pub(super) struct Tally {
    contacts: Contacts,
    dialogs: Dialogs,
    /// Packets of names that have no layout here.
    strangers: BTreeMap<Box<[u8]>, Stranger>,
    /// When the packets of all these came, in nanoseconds.
    pub(super) times: Vec<u64>,
    /// What a scenario cannot have, by what it is.
    left_out: BTreeMap<String, u64>,
    releases: (Release, Release),
    /// Keys, or times, that no room was left for.
    beyond: u64,
}

#[derive(Debug, Default)]
struct Contacts {
    inserted: u64,
    updated: u64,
    deleted: u64,
    /// But of deletes: those of a load are as long as their own fields, and short.
    lengths: Lengths,
    /// Packets of each address of record.
    keys: HashMap<u64, u64>,
}

#[derive(Debug, Default)]
struct Dialogs {
    created: u64,
    updated: u64,
    deleted: u64,
    /// But of deletes, likewise.
    lengths: Lengths,
    /// When each that is up was created.
    up: HashMap<u64, Timestamp>,
    durations: Vec<Duration>,
    /// When the latest packet came.
    last: Timestamp,
}

#[derive(Debug, Default)]
struct Stranger {
    packets: u64,
    lengths: Lengths,
    keys: HashMap<u64, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            contacts: Contacts::default(),
            dialogs: Dialogs::default(),
            strangers: BTreeMap::new(),
            times: Vec::new(),
            left_out: BTreeMap::new(),
            releases: (Release::V1x, Release::V4_0),
            beyond: 0,
        }
    }
}

impl Tally {
    /// Counts a packet; `kept` is how many keys and times all ways keep together.
    pub(super) fn add(&mut self, time: Timestamp, packet: &Packet<'_>, kept: &mut usize) {
        let taken = match schema::identify(packet) {
            Ok(message) => match (packet.name(), message.key(packet)) {
                (b"dialog" | b"dialog-dlg-repl", Ok(Some(key))) => {
                    self.dialogs.add(time, packet, message, hash(key), kept)
                }
                (b"ul" | b"usrloc-contact-repl", Ok(Some(key))) => {
                    self.contacts.add(packet, message, hash(key), kept)
                }
                _ => None,
            }
            .inspect(|_| self.narrow(message)),
            Err(schema::SchemaError::UnknownName) => self.stranger(packet, kept),
            Err(_) => None,
        };
        match taken {
            None => self.leave_out(label(packet)),
            Some(room) => {
                self.beyond += u64::from(room == Room::No);
                if *kept < KEPT_MAX && self.times.len() < TIMES_MAX {
                    *kept += 1;
                    self.times.push(time.as_nanos());
                }
            }
        }
    }

    /// Counts what no scenario can have.
    pub(super) fn leave_out(&mut self, what: String) {
        if self.left_out.len() < LEFT_OUT_MAX || self.left_out.contains_key(&what) {
            *self.left_out.entry(what).or_default() += 1;
        } else {
            *self.left_out.entry("others".to_owned()).or_default() += 1;
        }
    }

    /// Packets that a scenario can have.
    pub(super) fn packets(&self) -> u64 {
        let strangers: u64 = self
            .strangers
            .values()
            .map(|stranger| stranger.packets)
            .sum();
        self.contacts.packets() + self.dialogs.packets() + strangers
    }

    /// The oldest and the newest release that lays all packets out as they are.
    pub(super) const fn releases(&self) -> (Release, Release) {
        self.releases
    }

    /// The parts with their shares, the largest first. At least one, when there are packets.
    pub(super) fn parts(&self, comments: &mut Vec<String>) -> Vec<Part> {
        let mut found = Vec::new();
        found.extend(self.dialogs.part(comments));
        found.extend(self.contacts.part(comments));
        for (name, stranger) in &self.strangers {
            found.push(stranger.part(name, comments));
        }
        let all = self.packets() as f64;
        found.retain(|(packets, _)| *packets as f64 / all >= limits::SHARE.min);
        found.sort_by_key(|(packets, _)| std::cmp::Reverse(*packets));
        let mut parts: Vec<Part> = found
            .into_iter()
            .map(|(packets, part)| Part {
                share: (packets as f64 / all * SHARE_STEPS).round() / SHARE_STEPS,
                ..part
            })
            .collect();
        // What rounding leaves is least noticed in the largest.
        if let Some((largest, others)) = parts.split_first_mut() {
            let rest: f64 = others.iter().map(|part| part.share).sum();
            largest.share = ((1.0 - rest) * SHARE_STEPS).round() / SHARE_STEPS;
        }
        parts
    }

    /// Says what is not in the scenario.
    pub(super) fn tell_left_out(&self, comments: &mut Vec<String>) {
        if !self.left_out.is_empty() {
            comments.push("Left out, as no scenario can have it:".to_owned());
        }
        for (what, count) in &self.left_out {
            comments.push(format!("  {what}: {count} packets"));
        }
        if self.beyond > 0 {
            comments.push(format!(
                "{} packets were about more records than are remembered: populations are larger than said.",
                self.beyond
            ));
        }
        if self.times.len() == TIMES_MAX {
            comments.push(format!(
                "Gaps and rate are those of the first {TIMES_MAX} packets."
            ));
        }
    }

    /// Of the releases that were possible so far, those that lay `message` out as it is.
    fn narrow(&mut self, message: &Message) {
        let oldest = self.releases.0.max(message.releases.0);
        let newest = self.releases.1.min(message.releases.1);
        // Packets of two releases: what came first stands.
        if oldest <= newest {
            self.releases = (oldest, newest);
        }
    }

    fn stranger(&mut self, packet: &Packet<'_>, kept: &mut usize) -> Option<Room> {
        let name = packet.name();
        if !str::from_utf8(name).is_ok_and(limits::is_unknown_name) {
            return None;
        }
        let mut key = packet.fields().pop_str().ok()?;
        if binrush_probe::read(packet).is_ok() {
            // Of a load: the number of the record follows the stamp, and padding follows that.
            key = key.get(STAMP_LEN..STAMP_LEN + RECORD_LEN)?;
        }
        let key = hash(key);
        if !self.strangers.contains_key(name) && self.strangers.len() == STRANGERS_MAX {
            return None;
        }
        let stranger = self.strangers.entry(name.into()).or_default();
        stranger.packets += 1;
        stranger.lengths.add(packet.bytes().len());
        Some(count_key(&mut stranger.keys, key, kept))
    }
}

impl Contacts {
    fn add(
        &mut self,
        packet: &Packet<'_>,
        message: &Message,
        key: u64,
        kept: &mut usize,
    ) -> Option<Room> {
        let count = match message.name {
            "CONTACT_INSERT" => &mut self.inserted,
            "CONTACT_UPDATE" => &mut self.updated,
            "CONTACT_DELETE" => &mut self.deleted,
            _ => return None,
        };
        *count += 1;
        if message.name != "CONTACT_DELETE" {
            self.lengths.add(packet.bytes().len());
        }
        Some(count_key(&mut self.keys, key, kept))
    }

    const fn packets(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }

    fn part(&self, comments: &mut Vec<String>) -> Option<(u64, Part)> {
        let packets = self.packets();
        if packets == 0 {
            return None;
        }
        comments.push(format!(
            "Contacts: {} inserted, {} updated, {} deleted, of {} addresses of record.",
            self.inserted,
            self.updated,
            self.deleted,
            self.keys.len()
        ));
        if self.inserted < self.deleted {
            comments.push(format!(
                "More contacts were deleted than inserted, as some were there before: the weight of register is that of \
                 unregister, so {} packets more are inserts.",
                self.deleted - self.inserted
            ));
        }
        let weight = |count: u64| rounded(count as f64 / packets as f64 * 100.0);
        let kind = Kind::Contacts {
            keys: popularity::learn(&self.keys, "Addresses of record", comments),
            // In the long run nobody goes who did not come.
            register: weight(self.inserted.max(self.deleted)),
            refresh: weight(self.updated),
            unregister: weight(self.deleted),
        };
        Some((packets, part(kind, &self.lengths)))
    }
}

impl Dialogs {
    fn add(
        &mut self,
        time: Timestamp,
        packet: &Packet<'_>,
        message: &Message,
        key: u64,
        kept: &mut usize,
    ) -> Option<Room> {
        self.last = self.last.max(time);
        let room = match message.name {
            "CREATED" => {
                self.created += 1;
                if *kept < KEPT_MAX {
                    *kept += 1;
                    self.up.insert(key, time);
                    Room::Yes
                } else {
                    Room::No
                }
            }
            "UPDATED" => {
                self.updated += 1;
                Room::Yes
            }
            "DELETED" => {
                self.deleted += 1;
                // Its place stays taken: by the duration.
                let created = self.up.remove(&key);
                self.durations
                    .extend(created.map(|created| time.since(created)));
                Room::Yes
            }
            _ => return None,
        };
        if message.name != "DELETED" {
            self.lengths.add(packet.bytes().len());
        }
        Some(room)
    }

    const fn packets(&self) -> u64 {
        self.created + self.updated + self.deleted
    }

    fn part(&self, comments: &mut Vec<String>) -> Option<(u64, Part)> {
        let packets = self.packets();
        if packets == 0 {
            return None;
        }
        comments.push(format!(
            "Dialogs: {} created, {} updated, {} deleted; of {} both create and delete were seen, {} were up at the end.",
            self.created,
            self.updated,
            self.deleted,
            self.durations.len(),
            self.up.len()
        ));
        if self.up.len() as f64 > UP_MAX * self.created as f64 {
            comments.push(format!(
                "WARNING: of {} calls that were created {} were still up at the end, the long ones first of all: durations \
                 are shorter here than they were, unless they are exponential. A longer capture says more.",
                self.created,
                self.up.len()
            ));
        }
        let last = self.last;
        let so_far: Vec<Duration> = self.up.values().map(|begun| last.since(*begun)).collect();
        // Where only the ends were seen, these say how many there were.
        let dialogs = self.created.max(self.deleted).max(1);
        let updates = self.updated as f64 / dialogs as f64;
        let kind = Kind::Dialogs {
            updates: ((updates * 1000.0).round() / 1000.0).min(limits::UPDATES.max),
            duration: durations::learn(&self.durations, &so_far, comments),
        };
        Some((packets, part(kind, &self.lengths)))
    }
}

impl Stranger {
    fn part(&self, name: &[u8], comments: &mut Vec<String>) -> (u64, Part) {
        let name = String::from_utf8_lossy(name).into_owned();
        comments.push(format!(
            "{name}: {} packets, whose layout is unknown here; their first field is taken for the key.",
            self.packets
        ));
        let keys = popularity::learn(&self.keys, &format!("Keys of {name}"), comments);
        (self.packets, part(Kind::Miss { name, keys }, &self.lengths))
    }
}

/// A part whose share is not known yet.
fn part(kind: Kind, lengths: &Lengths) -> Part {
    Part {
        share: 1.0,
        sizes: lengths.learn(),
        kind,
    }
}

/// Whether there was room to remember what a packet is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Yes,
    No,
}

fn count_key(keys: &mut HashMap<u64, u64>, key: u64, kept: &mut usize) -> Room {
    if let Some(count) = keys.get_mut(&key) {
        *count += 1;
        return Room::Yes;
    }
    if *kept == KEPT_MAX {
        return Room::No;
    }
    *kept += 1;
    keys.insert(key, 1);
    Room::Yes
}

/// Stands for the key: of a million, two are alike once in 30 million captures.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What a packet is, for the list of what is left out.
fn label(packet: &Packet<'_>) -> String {
    let name = packet.name();
    let shown = name[..name.len().min(64)].escape_ascii();
    match schema::best_fit(packet) {
        Ok((message, None)) => format!("{shown} {}", message.name),
        Ok((message, Some(_))) => format!("{shown} {}, broken", message.name),
        Err(_) => format!("{shown} {}", packet.command()),
    }
}

/// Of the calls that were created, what may be up at the end for their durations to be told without a warning.
const UP_MAX: f64 = 0.1;

/// Digits of a record's number, as loads write it.
const RECORD_LEN: usize = 6;

/// Names without a layout that become parts: as many as fit beside dialogs and contacts.
const STRANGERS_MAX: usize = limits::PARTS_MAX - 2;

/// Kinds of packets that are left out one by one.
const LEFT_OUT_MAX: usize = 64;

/// Keys, dialogs, durations and times that are kept for all ways together: at most some 200 MB.
const KEPT_MAX: usize = 1 << 22;

/// Times that are kept for one way.
const TIMES_MAX: usize = 1 << 20;

/// Shares are told in millionths.
const SHARE_STEPS: f64 = 1e6;
