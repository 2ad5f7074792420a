//! What the callers of a drill do, by a seed, and what has to be there afterwards.
//!
//! ```text
//!   Dice ─▶ Traffic::next ─▶ Change ─┬─▶ Model: each record with the number of its last change ─▶ Dump to compare with
//!                                    └─▶ packet of 3.6, one for each node that is told
//! ```
//!
//! The model is plain: a map from what names a record to the numbers that its fields are made of. It shares the crate that writes
//! packets with the engine, and nothing of how the engine keeps what they say.

use std::collections::BTreeMap;

use binrush_store::{Kind, Status, write};
use binrush_wire::{Release, Trailer};

use crate::state::{Dump, Record as Shown};
use words::Words;

/// What records say.
mod words;

/// What names a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Aor(u32),
    /// Of this AoR, with this number among its contacts.
    Contact(u32, u32),
    Dialog(u32),
}

/// What the fields of a record are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    /// A contact's CSeq, a dialog's flags; 0 of an AoR.
    number: i32,
    /// Seconds since 1970 when it changed, by the callers' clock.
    at: i64,
    /// The number of the change, over all records.
    seq: u64,
    /// When it changed, in milliseconds of the drill.
    touched_ms: u64,
}

/// What is told to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// There is a new record.
    Made(Key, Value),
    /// It is another one now.
    Updated(Key, Value),
    /// It is over; the value is the last that it had.
    Gone(Key, Value),
}

/// All records that there have to be, and those that have gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    records: BTreeMap<Key, Value>,
    /// As they were last.
    gone: BTreeMap<Key, Value>,
    seq: u64,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) contacts: u32,
    pub(super) dialogs: u32,
}

/// Changes by chance.
#[derive(Debug)]
pub(super) struct Traffic {
    dice: Dice,
    size: Size,
    /// The AoRs that have a second contact.
    second: Vec<u32>,
    dialogs: Vec<u32>,
    next_dialog: u32,
    pulses: i32,
}

/// When a change is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    /// Seconds since 1970, by the callers' clock.
    pub(super) at: i64,
    /// Milliseconds of the drill.
    pub(super) ms: u64,
    /// Only records go that were not spoken of for [`SETTLED_MS`]: what a node was told of shortly before a sync that does not have
    /// it, it keeps.
    pub(super) is_careful: bool,
}

impl Model {
    /// Does a change.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Made(key, value) | Change::Updated(key, value) => {
                self.gone.remove(&key);
                self.records.insert(key, value);
            }
            Change::Gone(key, value) => {
                self.records.remove(&key);
                self.gone.insert(key, value);
            }
        }
    }

    /// How many changes there were.
    pub(super) const fn changes(&self) -> u64 {
        self.seq
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// What a node has to tell that has them all.
    pub(super) fn dump(&self) -> Dump {
        let mut flat = Vec::new();
        let records = self.records.iter().map(|(key, value)| {
            flat.clear();
            Words::of(*key, *value).with(|record| record.write(Status::default(), &mut flat));
            Shown::of_flat(&flat).expect("it was written here")
        });
        Dump {
            records: records.collect(),
            kinds: vec![Kind::Dialog, Kind::Aor, Kind::Contact],
            ..Dump::default()
        }
    }

    /// What a sync of a capability gives: the data of each chunk, AoRs before their contacts.
    pub(super) fn chunks(&self, capability: &str) -> Vec<Vec<u8>> {
        let records = self.records.iter();
        let is_asked_for = |key: &Key| matches!(key, Key::Dialog(_)) == (capability == DIALOGS);
        records
            .filter(|(key, _)| is_asked_for(key))
            .map(|(key, value)| {
                let mut chunk = Vec::new();
                let written = Words::of(*key, *value)
                    .with(|record| write::chunk(&record, RELEASE, value.at, &mut chunk));
                written.expect("it fits");
                chunk
            })
            .collect()
    }

    /// The number of the last change of the record that is called so, gone or not; `None`: there never was one.
    pub(super) fn last_change(&self, shown: &Shown) -> Option<u64> {
        let key = key_of(shown)?;
        let known = self.records.get(&key).or_else(|| self.gone.get(&key));
        known.map(|value| value.seq)
    }
}

impl Traffic {
    pub(super) fn new(seed: u64, size: Size) -> Self {
        Self {
            dice: Dice(seed),
            size,
            second: Vec::new(),
            dialogs: Vec::new(),
            next_dialog: 0,
            pulses: 0,
        }
    }

    /// All that is there when a drill begins.
    pub(super) fn fill(&mut self, model: &mut Model, when: When) -> Vec<Change> {
        let mut changes = Vec::new();
        for aor in 0..self.size.contacts {
            changes.push(made(model, Key::Aor(aor), 0, when));
            changes.push(made(model, Key::Contact(aor, 0), 1, when));
        }
        for _ in 0..self.size.dialogs {
            changes.push(self.call(model, when));
        }
        changes
    }

    /// The next change: phones register again, second contacts come and go, calls begin, change and end.
    pub(super) fn next(&mut self, model: &mut Model, when: When) -> Change {
        let aor = 1 + self.dice.below(self.size.contacts.max(2) - 1);
        match self.dice.below(12) {
            0 | 1 if !self.second.contains(&aor) && self.second.len() < SECOND_MAX => {
                self.second.push(aor);
                made(model, Key::Contact(aor, 1), 1, when)
            }
            2 | 3 => self.gone_of_second(model, when),
            4 | 5 => self.call(model, when),
            6 | 7 => self.hang_up(model, when),
            8 | 9 if !self.dialogs.is_empty() => {
                let at = self.dice.index(self.dialogs.len());
                updated(model, Key::Dialog(self.dialogs[at]), when)
            }
            _ => updated(model, Key::Contact(aor, 0), when),
        }
    }

    /// The contact by which it is seen how old a copy is: its CSeq is the number of pulses.
    pub(super) fn pulse(&mut self, model: &mut Model, when: When) -> Change {
        self.pulses += 1;
        updated(model, Key::Contact(PULSE, 0), when)
    }

    fn call(&mut self, model: &mut Model, when: When) -> Change {
        let dialog = self.next_dialog;
        self.next_dialog += 1;
        self.dialogs.push(dialog);
        made(model, Key::Dialog(dialog), 1, when)
    }

    fn hang_up(&mut self, model: &mut Model, when: When) -> Change {
        // As many end as begin.
        if self.dialogs.len() <= self.size.dialogs as usize {
            return self.call(model, when);
        }
        let at = self.dice.index(self.dialogs.len());
        let key = Key::Dialog(self.dialogs[at]);
        match gone(model, key, when) {
            Some(change) => {
                self.dialogs.swap_remove(at);
                change
            }
            None => updated(model, key, when),
        }
    }

    fn gone_of_second(&mut self, model: &mut Model, when: When) -> Change {
        if self.second.is_empty() {
            return updated(model, Key::Contact(1, 0), when);
        }
        let at = self.dice.index(self.second.len());
        let key = Key::Contact(self.second[at], 1);
        match gone(model, key, when) {
            Some(change) => {
                self.second.swap_remove(at);
                change
            }
            None => updated(model, key, when),
        }
    }
}

fn value(model: &mut Model, number: i32, when: When) -> Value {
    model.seq += 1;
    Value {
        number,
        at: when.at,
        seq: model.seq,
        touched_ms: when.ms,
    }
}

/// A phone that comes back goes on counting (RFC 3261, 10.2: CSeqs of one Call-ID increase), else who missed that it was gone would
/// rightly take it for an old packet.
fn made(model: &mut Model, key: Key, number: i32, when: When) -> Change {
    let number = model.gone.get(&key).map_or(number, |last| last.number + 1);
    let change = Change::Made(key, value(model, number, when));
    model.apply(change);
    change
}

fn updated(model: &mut Model, key: Key, when: When) -> Change {
    let number = model.records.get(&key).map_or(0, |known| known.number);
    let change = Change::Updated(key, value(model, number + 1, when));
    model.apply(change);
    change
}

/// `None`: it has to stay for now.
fn gone(model: &mut Model, key: Key, when: When) -> Option<Change> {
    let known = *model.records.get(&key)?;
    if when.is_careful && when.ms < known.touched_ms + SETTLED_MS {
        return None;
    }
    let last = Value {
        number: known.number + 1,
        ..value(model, 0, when)
    };
    let change = Change::Gone(key, last);
    model.apply(change);
    Some(change)
}

impl Change {
    /// Whether it is a pulse: nothing else ever changes that contact.
    pub(super) const fn is_pulse(self) -> bool {
        matches!(self, Self::Updated(Key::Contact(PULSE, 0), _))
    }

    /// The packet that tells it, as a node of 3.6 sends it.
    pub(super) fn packet(self, trailer: Trailer) -> Vec<u8> {
        let mut buffer = [0; PACKET_MAX];
        let mut packet = match self {
            Self::Made(key, value) => Words::of(key, value).made(&mut buffer),
            Self::Updated(key, value) => Words::of(key, value).updated(&mut buffer),
            Self::Gone(key, value) => Words::of(key, value).gone(&mut buffer),
        };
        packet.push_trailer(trailer).expect("it fits");
        packet.seal().to_vec()
    }
}

/// The AoR that a record of this number has.
pub(super) fn aor_name(number: u32) -> String {
    format!("user-{number}")
}

/// What names a record that was made here.
fn key_of(shown: &Shown) -> Option<Key> {
    let text = |name| str::from_utf8(shown.get(name)?.bytes()?).ok();
    let number = |text: &str| text.parse().ok();
    Some(match shown.kind {
        Kind::Aor => Key::Aor(number(text("aor")?.strip_prefix("user-")?)?),
        Kind::Contact => {
            let (_, line) = text("contact")?.rsplit_once("line=")?;
            Key::Contact(number(text("aor")?.strip_prefix("user-")?)?, number(line)?)
        }
        Kind::Dialog => {
            let (dialog, _) = text("callid")?.strip_prefix("call-")?.split_once('@')?;
            Key::Dialog(number(dialog)?)
        }
        _ => return None,
    })
}

/// Choices from a seed, the same on every machine: SplitMix64, which any seed will do for.
#[derive(Debug, Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// One of `0..count`.
    pub(super) fn below(&mut self, count: u32) -> u32 {
        let drawn = self.next() % u64::from(count.max(1));
        u32::try_from(drawn).expect("below a u32")
    }

    /// A place in a list of `len`, which is not empty and short.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// What the callers' node speaks.
pub(super) const RELEASE: Release = Release::V3_6;

/// The AoR whose contact is the pulse.
pub(super) const PULSE: u32 = 0;

/// The version of the data of a capability, in syncs.
pub(super) fn data_version(capability: &str) -> i32 {
    let kind = match capability {
        DIALOGS => Kind::Dialog,
        _ => Kind::Contact,
    };
    write::version(kind, RELEASE).into()
}

/// Names of what is replicated.
pub(super) const DIALOGS: &str = "dialog-dlg-repl";
pub(super) const USRLOC: &str = "usrloc-contact-repl";

/// A node keeps what it was told of ten seconds before a sync, though the donor has it no more: it may not have reached the donor.
/// Two more, for the time that passes between a partition and its discovery.
const SETTLED_MS: u64 = 12_000;

/// So that it is quick to see whether there is one.
const SECOND_MAX: usize = 1000;

/// Longer than anything that is made here.
const PACKET_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_store::read::{self, Scratch};
    use binrush_wire::{Generation, Packet};

    const WHEN: When = When {
        at: 1_800_000_000,
        ms: 0,
        is_careful: false,
    };

    fn traffic() -> (Traffic, Model, Vec<Change>) {
        let size = Size {
            contacts: 20,
            dialogs: 10,
        };
        let (mut traffic, mut model) = (Traffic::new(7, size), Model::default());
        let mut changes = traffic.fill(&mut model, WHEN);
        for _ in 0..500 {
            changes.push(traffic.next(&mut model, WHEN));
        }
        (traffic, model, changes)
    }

    #[test]
    fn a_seed_makes_the_same_changes_and_each_is_a_packet_that_is_understood() {
        let ((_, model, changes), (_, again, _)) = (traffic(), traffic());
        assert_eq!(model.records, again.records);
        for change in changes {
            let packet = change.packet(Trailer::new(1, 4, 2));
            let packet = Packet::parse(Generation::Modern, &packet).expect("a whole packet");
            let mut scratch = Scratch::default();
            let read = read::read(&packet, Some(RELEASE), WHEN.at, &mut scratch);
            assert!(read.is_ok(), "{change:?}: {read:?}");
        }
    }

    #[test]
    fn who_is_careful_lets_nothing_go_that_was_spoken_of_lately() {
        let (mut traffic, mut model, _) = traffic();
        let mut when = WHEN;
        when.is_careful = true;
        let of = |traffic: &mut Traffic, model: &mut Model, when| {
            let changes = (0..500).map(|_| traffic.next(model, when));
            let gone = changes.filter(|change| matches!(change, Change::Gone(..)));
            gone.count()
        };
        assert_eq!(of(&mut traffic, &mut model, when), 0);
        when.ms = SETTLED_MS;
        assert!(of(&mut traffic, &mut model, when) > 0);
    }

    #[test]
    fn a_record_is_found_by_what_a_node_shows_of_it() {
        let (_, model, _) = traffic();
        for (shown, value) in model.dump().records.iter().zip(model.records.values()) {
            assert_eq!(model.last_change(shown), Some(value.seq));
        }
    }
}
