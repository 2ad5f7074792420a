//! What peers send: packets as genuine 1.x nodes write them, and what nobody should.

use std::collections::BTreeMap;
use std::fmt;

use binrush_engine::Outcome;
use binrush_wire::{Builder, Generation, Packet, Result};

use super::plan::Plan;
use crate::dice::Dice;
use crate::made::{changed, legacy, packet};

/// What a datagram is about, when it is whole: the events of one record are to be handled in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    /// Module name.
    pub(super) name: Vec<u8>,
    /// Call-ID or AoR; empty where a module has no records of its own.
    pub(super) key: Vec<u8>,
}

/// Who said it, and the how manieth thing he said about this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) peer: usize,
    pub(super) number: u32,
}

/// A datagram and what must become of it, said by who made it and not by who reads it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) outcome: Outcome,
    /// What a handler will find in it, if it comes to one that takes it.
    pub(super) event: Option<(Record, Mark)>,
}

/// Makes datagrams: of a few records, which all peers talk about.
#[derive(Debug)]
pub(super) struct Traffic {
    records: Vec<Record>,
    /// By record and peer.
    numbers: BTreeMap<(usize, usize), u32>,
    /// One datagram of so many is broken.
    broken_one_in: usize,
    fill_max: usize,
    long_one_in: usize,
}

impl Traffic {
    pub(super) fn new(plan: &Plan, dice: &mut Dice) -> Self {
        let mut records: Vec<Record> = (0..1 + dice.below(RECORDS_MAX))
            .map(|number| record(dice, number))
            .collect();
        records.push(Record {
            name: OWN.to_vec(),
            key: vec![],
        });
        Self {
            records,
            numbers: BTreeMap::new(),
            broken_one_in: plan.broken_one_in,
            fill_max: plan.fill_max,
            long_one_in: plan.long_one_in,
        }
    }

    /// The next datagram of `peer`.
    pub(super) fn next(&mut self, dice: &mut Dice, peer: usize) -> Made {
        if dice.below(self.broken_one_in) == 0 {
            return broken(dice);
        }
        let index = dice.below(self.records.len());
        let number = self.numbers.entry((index, peer)).or_default();
        *number += 1;
        let mark = Mark {
            peer,
            number: *number,
        };
        let fill_max = match dice.below(self.long_one_in) {
            0 => self.fill_max,
            _ => self.fill_max.min(200),
        };
        let fill = dice.below(fill_max + 1);
        let record = self.records[index].clone();
        Made {
            bytes: event(dice, &record, mark, fill),
            outcome: Outcome::Handled,
            event: Some((record, mark)),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys begin with what makes them different.
        let key = &self.key[..self.key.len().min(8)];
        write!(f, "{} {}", self.name.escape_ascii(), key.escape_ascii())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.peer, self.number)
    }
}

/// What a handler finds in a packet that [`Traffic`] made.
pub(super) fn read(packet: &Packet<'_>) -> Result<(Record, Mark)> {
    let mut fields = packet.fields();
    let key = match packet.name() {
        OWN => &b""[..],
        CONTACT => {
            fields.skip_str(1)?;
            fields.pop_str()?
        }
        _ => fields.pop_str()?,
    };
    let mark = str::from_utf8(fields.pop_str()?).expect("a mark is text");
    let (peer, number) = mark.split_once('-').expect("a mark has two numbers");
    let record = Record {
        name: packet.name().to_vec(),
        key: key.to_vec(),
    };
    let mark = Mark {
        peer: peer.parse().expect("a number"),
        number: number.parse().expect("a number"),
    };
    Ok((record, mark))
}

fn record(dice: &mut Dice, number: usize) -> Record {
    let name = dice.one_of(&[DIALOG, CONTACT]);
    let mut key = format!("{number:x}-").into_bytes();
    match dice.below(6) {
        // Who has no key at all is a record, too.
        0 if number == 0 => key.clear(),
        // Longer than what steering looks at.
        1 => key.extend(dice.bytes(200)),
        _ => key.extend(b"77@192.0.2.10"),
    }
    let name = name.to_vec();
    Record { name, key }
}

/// A packet about `record`, with the layout that 1.11 gives it; `mark` takes the place of a tag or a contact.
fn event(dice: &mut Dice, record: &Record, mark: Mark, fill: usize) -> Vec<u8> {
    let mark = mark.to_string();
    let (mark, key) = (mark.as_bytes(), &record.key[..]);
    let filling = vec![b'x'; fill];
    match &record.name[..] {
        DIALOG if dice.coin() => build(fill, DIALOG, DIALOG_DELETED, |packet| {
            strings(packet, &[key, mark, &filling])
        }),
        DIALOG => {
            let command = dice.one_of(&[DIALOG_CREATED, DIALOG_UPDATED]);
            build(fill, DIALOG, command, |packet| {
                let from_to = [&b"sip:alice@example.com"[..], b"sip:bob@example.com"];
                strings(packet, &[key, mark, b"callee"])?;
                strings(packet, &from_to)?;
                ints(packet, 3)?;
                // Sockets, sequence numbers, routes, contacts and mangled URIs.
                strings(packet, &[&b""[..]; 10])?;
                // Variables and profiles, then all kinds of flags.
                strings(packet, &[&filling, b""])?;
                ints(packet, 5)
            })
        }
        CONTACT => build(fill, CONTACT, CONTACT_DELETE, |packet| {
            strings(packet, &[b"location", key, mark, &filling])?;
            ints(packet, 1)
        }),
        _ => build(fill, OWN, OWN_EVENT, |packet| {
            strings(packet, &[mark, &filling])
        }),
    }
}

/// Garbage, damage, and lengths that someone chose with care.
fn broken(dice: &mut Dice) -> Made {
    let good = legacy(DIALOG, DIALOG_DELETED, &[b"call", b"caller", b"callee"]);
    let with_int = |at: usize, value: i32| {
        changed(good.clone(), |packet| {
            packet[at..at + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    let (bytes, outcome) = match dice.below(12) {
        0 => (vec![], Outcome::TooShort),
        1 => (good[..1 + dice.below(17)].to_vec(), Outcome::TooShort),
        2 => {
            let len = Generation::Legacy.min_packet_len() + dice.below(300);
            let mut garbage = dice.bytes(len);
            garbage[0] = b'p';
            (garbage, Outcome::BadMarker)
        }
        3 => {
            let mut damaged = good.clone();
            damaged[4 + dice.below(good.len() - 4)] ^= 1 << dice.below(8);
            (damaged, Outcome::BadCrc)
        }
        4 => {
            let newer = packet(Generation::Modern, b"dialog-dlg-repl", 3, &[b"call", b"a"]);
            (newer, Outcome::BadCrc)
        }
        5 => {
            let len = i32::try_from(good.len()).expect("small");
            let len = dice.one_of(&[-1, i32::MIN, i32::MAX, len]);
            (with_int(NAME_AT, len), Outcome::BadNameLength)
        }
        6 => {
            // More different ones than the ledger keeps.
            let name = format!("nobody{}", dice.below(12));
            (legacy(name.as_bytes(), 1, &[b"x"]), Outcome::UnknownName)
        }
        7 => {
            let command = dice.one_of(&[0, -1, 99, i32::MAX]);
            let name = dice.one_of(&[DIALOG, CONTACT, OWN]);
            (legacy(name, command, &[b"x"]), Outcome::UnknownCommand)
        }
        8 => {
            let len = dice.one_of(&[-1, i32::MIN]);
            (with_int(FIELDS_AT, len), Outcome::NegativeLength)
        }
        9 => {
            let len = dice.one_of(&[i32::MAX, 0x0001_0000]);
            (with_int(FIELDS_AT, len), Outcome::FieldPastEnd)
        }
        10 => {
            let bytes = legacy(DIALOG, DIALOG_DELETED, &[b"call", b"caller"]);
            (bytes, Outcome::FieldMissing)
        }
        _ => {
            let bytes = legacy(DIALOG, DIALOG_DELETED, &[b"call", b"a", b"b", b"c"]);
            (bytes, Outcome::Leftover)
        }
    };
    Made {
        bytes,
        outcome,
        event: None,
    }
}

fn build(
    fill: usize,
    name: &[u8],
    command: i32,
    fields: impl FnOnce(&mut Builder<'_>) -> Result<()>,
) -> Vec<u8> {
    let mut buffer = vec![0; fill + 1024];
    let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0)
        .expect("the buffer is larger");
    fields(&mut builder).expect("the buffer is larger");
    builder.seal().to_vec()
}

fn strings(packet: &mut Builder<'_>, strings: &[&[u8]]) -> Result<()> {
    strings
        .iter()
        .try_for_each(|string| packet.push_str(string))
}

fn ints(packet: &mut Builder<'_>, count: i32) -> Result<()> {
    (0..count).try_for_each(|int| packet.push_int(int))
}

/// Every outcome that a datagram can come to here, by itself or by what happens to it.
pub(super) const OUTCOMES: [Outcome; 12] = [
    Outcome::Handled,
    Outcome::Truncated,
    Outcome::TooShort,
    Outcome::BadMarker,
    Outcome::BadCrc,
    Outcome::BadNameLength,
    Outcome::UnknownName,
    Outcome::UnknownCommand,
    Outcome::NegativeLength,
    Outcome::FieldPastEnd,
    Outcome::FieldMissing,
    Outcome::Leftover,
];

pub(super) const DIALOG: &[u8] = b"dialog";
pub(super) const CONTACT: &[u8] = b"ul";
/// A module that no release has: its packets are of no record, so their name steers them.
pub(super) const OWN: &[u8] = b"own";

pub(super) const DIALOG_CREATED: i32 = 1;
const DIALOG_UPDATED: i32 = 2;
const DIALOG_DELETED: i32 = 3;
const CONTACT_DELETE: i32 = 5;
pub(super) const OWN_EVENT: i32 = 1;

const RECORDS_MAX: usize = 24;

/// Where the length of the name stands, and that of the first field of a packet named `dialog`.
const NAME_AT: usize = 8;
const FIELDS_AT: usize = NAME_AT + 4 + DIALOG.len() + 4;
