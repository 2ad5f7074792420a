//! Packets about contacts and dialogs, and what a plain map has after them.

use std::collections::{BTreeMap, BTreeSet};

use binrush_store::model::{Aor, Contact, Dialog};
use binrush_store::{Record, Status, write};
use binrush_wire::{Builder, Generation, Release, Trailer};

use crate::dice::Dice;

/// The records by what tells them apart.
pub(crate) type Plain = BTreeMap<Key, Value>;

/// What tells a record from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Aor(u32),
    /// Of this AoR, with this number among its contacts.
    Contact(u32, u32),
    Dialog(u32),
}

/// What a packet leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    /// That of the last packet which changed it: a contact's CSeq, a dialog's flags. 0 for an AoR.
    number: i32,
    /// A dialog that was updated before it was created.
    is_provisional: bool,
}

/// What a packet does. Contacts and dialogs are told its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    AorInsert(u32),
    ContactInsert(u32, u32, i32),
    ContactUpdate(u32, u32, i32),
    ContactDelete(u32, u32, i32),
    Created(u32, i32),
    Updated(u32, i32),
    Deleted(u32),
}

/// Deeds by chance, numbered.
#[derive(Debug)]
pub(crate) struct Traffic {
    dice: Dice,
    /// How many times as many records as the smallest number.
    spread: usize,
    number: i32,
}

impl Traffic {
    /// About some 3000 records times `spread`. Its numbers begin behind `after`.
    pub(crate) fn new(seed: u64, spread: usize, after: i32) -> Self {
        Self {
            dice: Dice::new(seed),
            spread,
            number: after,
        }
    }

    /// The next one.
    pub(crate) fn deed(&mut self) -> Deed {
        self.number += 1;
        let number = self.number;
        let mut below = |count| u32::try_from(self.dice.below(count)).expect("a few");
        let (what, aor, contact, dialog) = (
            below(13),
            below(AORS * self.spread),
            below(CONTACTS),
            below(DIALOGS * self.spread),
        );
        match what {
            0 => Deed::AorInsert(aor),
            1..=4 => Deed::ContactInsert(aor, contact, number),
            5 | 6 => Deed::ContactUpdate(aor, contact, number),
            7 => Deed::ContactDelete(aor, contact, number),
            8 | 9 => Deed::Created(dialog, number),
            10 | 11 => Deed::Updated(dialog, number),
            _ => Deed::Deleted(dialog),
        }
    }
}

impl Deed {
    /// What it changes in `plain`, in the order in which the log has it: a contact comes behind the AoR that it brings.
    pub(crate) fn changes(self, plain: &Plain) -> Vec<(Key, Option<Value>)> {
        let put = |key, number| {
            let is_provisional = false;
            (
                key,
                Some(Value {
                    number,
                    is_provisional,
                }),
            )
        };
        match self {
            Self::AorInsert(aor) => vec![put(Key::Aor(aor), 0)],
            Self::ContactInsert(aor, contact, number)
            | Self::ContactUpdate(aor, contact, number) => {
                vec![
                    put(Key::Aor(aor), 0),
                    put(Key::Contact(aor, contact), number),
                ]
            }
            Self::ContactDelete(aor, contact, _) => vec![(Key::Contact(aor, contact), None)],
            Self::Created(dialog, number) => match plain.get(&Key::Dialog(dialog)) {
                Some(known) if !known.is_provisional => Vec::new(),
                _ => vec![put(Key::Dialog(dialog), number)],
            },
            Self::Updated(dialog, number) => {
                let key = Key::Dialog(dialog);
                let is_provisional = plain.get(&key).is_none_or(|known| known.is_provisional);
                let value = Value {
                    number,
                    is_provisional,
                };
                vec![(key, Some(value))]
            }
            Self::Deleted(dialog) => vec![(Key::Dialog(dialog), None)],
        }
    }

    /// The packet that says so: a datagram of 1.x, or one of a stream of 2.3.
    pub(crate) fn packet(self, release: Release) -> Vec<u8> {
        let names = Names::of(self);
        match self {
            Self::AorInsert(_) => told(&Record::Aor(names.aor()), release, None),
            Self::ContactInsert(_, _, number) => {
                told(&Record::Contact(names.contact(number)), release, None)
            }
            Self::ContactUpdate(_, _, number) => {
                let record = Record::Contact(names.contact(number));
                told(&record, release, Some(CONTACT_UPDATE))
            }
            Self::ContactDelete(_, _, number) => {
                let strings = [DOMAIN, &names.aor, &names.uri, CALLID];
                gone(b"ul", CONTACT_DELETE, &strings, Some(number), release)
            }
            Self::Created(_, number) => told(&Record::Dialog(names.dialog(number)), release, None),
            Self::Updated(_, number) => {
                let record = Record::Dialog(names.dialog(number));
                told(&record, release, Some(UPDATED))
            }
            Self::Deleted(_) => {
                let strings = [&names.callid[..], TAGS[0], TAGS[1]];
                gone(b"dialog", DELETED, &strings, None, release)
            }
        }
    }
}

/// The record under its key, if it is one of those made here.
pub(crate) fn known(record: &Record<'_>, status: Status) -> (Key, Value) {
    let value = |number| Value {
        number,
        is_provisional: status.has(Status::PROVISIONAL),
    };
    match record {
        Record::Aor(aor) => (Key::Aor(number_in(aor.aor)), value(0)),
        Record::Contact(contact) => {
            assert_eq!(contact.callid, CALLID);
            let key = Key::Contact(number_in(contact.aor), number_in(contact.uri));
            (key, value(contact.cseq))
        }
        Record::Dialog(dialog) => {
            assert_eq!((dialog.tags, dialog.expires), (TAGS, NEVER));
            (
                Key::Dialog(number_in(dialog.callid)),
                value(dialog.user_flags),
            )
        }
        other => panic!("nobody sent {other:?}"),
    }
}

/// After how many of `deeds`, which were done to `plain`, there is what was `found`; at the latest, if some change nothing.
/// `None`: after none. A kill may come between an AoR and the contact that brought it.
pub(crate) fn prefix(mut plain: Plain, deeds: &[Deed], found: &Plain) -> Option<usize> {
    let keys: BTreeSet<_> = plain.keys().chain(found.keys()).copied().collect();
    let is_wrong = |plain: &Plain, key: &Key| plain.get(key) != found.get(key);
    // How many keys are not as they were found: none is what is looked for.
    let mut wrong = keys.iter().filter(|key| is_wrong(&plain, key)).count();
    let mut fits = (wrong == 0).then_some(0);
    for (done, deed) in deeds.iter().enumerate() {
        for (key, value) in deed.changes(&plain) {
            wrong -= usize::from(is_wrong(&plain, &key));
            set(&mut plain, key, value);
            wrong += usize::from(is_wrong(&plain, &key));
            if wrong == 0 {
                fits = Some(done);
            }
        }
        if wrong == 0 {
            fits = Some(done + 1);
        }
    }
    fits
}

/// Does a deed.
pub(crate) fn apply(plain: &mut Plain, deed: Deed) {
    for (key, value) in deed.changes(plain) {
        set(plain, key, value);
    }
}

fn set(plain: &mut Plain, key: Key, value: Option<Value>) {
    match value {
        Some(value) => plain.insert(key, value),
        None => plain.remove(&key),
    };
}

/// The packet about a contact that expires, and its key.
pub(crate) fn brief(aor: u32, expires: i64, release: Release) -> (Key, Vec<u8>) {
    let names = Names::of(Deed::ContactInsert(aor, 0, 1));
    let contact = Contact {
        expires,
        ..names.contact(1)
    };
    let packet = told(&Record::Contact(contact), release, None);
    (Key::Contact(aor, 0), packet)
}

/// The words of a deed.
#[derive(Debug, Default)]
struct Names {
    aor: Vec<u8>,
    uri: Vec<u8>,
    callid: Vec<u8>,
}

impl Names {
    fn of(deed: Deed) -> Self {
        let mut names = Self::default();
        match deed {
            Deed::AorInsert(aor) => names.aor = format!("user-{aor}").into(),
            Deed::ContactInsert(aor, contact, _)
            | Deed::ContactUpdate(aor, contact, _)
            | Deed::ContactDelete(aor, contact, _) => {
                names.aor = format!("user-{aor}").into();
                names.uri = format!("sip:user@192.0.2.1:5060;line-{contact}").into();
            }
            Deed::Created(dialog, _) | Deed::Updated(dialog, _) | Deed::Deleted(dialog) => {
                names.callid = format!("call@192.0.2.10-{dialog}").into();
            }
        }
        names
    }

    fn aor(&self) -> Aor<'_> {
        Aor {
            domain: DOMAIN,
            aor: &self.aor,
            ..Aor::default()
        }
    }

    fn contact(&self, number: i32) -> Contact<'_> {
        Contact {
            domain: DOMAIN,
            aor: &self.aor,
            uri: &self.uri,
            callid: CALLID,
            user_agent: b"Phone 1.2.3",
            received: b"sip:198.51.100.7:5060",
            socket: b"udp:192.0.2.10:5060",
            expires: NEVER.into(),
            cseq: number,
            q: -1,
            ..Contact::default()
        }
    }

    fn dialog(&self, number: i32) -> Dialog<'_> {
        Dialog {
            callid: &self.callid,
            tags: TAGS,
            uris: [b"sip:alice@example.com", b"sip:bob@example.com"],
            h_id: 7,
            start: 1_700_000_000,
            state: 4,
            sockets: [b"udp:192.0.2.10:5060", b"udp:192.0.2.10:5060"],
            cseqs: [b"1", b"0"],
            contacts: [b"sip:alice@198.51.100.7", b"sip:bob@198.51.100.8"],
            user_flags: number,
            expires: NEVER,
            ..Dialog::default()
        }
    }
}

/// The packet about a new record, or the same with another command.
fn told(record: &Record<'_>, release: Release, command: Option<i32>) -> Vec<u8> {
    let mut buffer = [0; 1500];
    let packet = write::packet(record, release, 0, 0, &mut buffer);
    let mut packet = packet.expect("it fits");
    if let Some(command) = command {
        packet.retype(command);
    }
    sealed(packet, release)
}

/// The packet about one that goes.
fn gone(
    name: &[u8],
    command: i32,
    strings: &[&[u8]],
    number: Option<i32>,
    release: Release,
) -> Vec<u8> {
    let mut buffer = [0; 1500];
    let packet = Builder::new(release.generation(), &mut buffer, name, command, 1);
    let mut packet = packet.expect("it fits");
    for string in strings {
        packet.push_str(string).expect("it fits");
    }
    if let Some(number) = number {
        packet.push_int(number).expect("it fits");
    }
    sealed(packet, release)
}

fn sealed(mut packet: Builder<'_>, release: Release) -> Vec<u8> {
    if release.generation() == Generation::Modern {
        let trailer = Trailer::new(1, 1, 2);
        packet.push_trailer(trailer).expect("it fits");
    }
    packet.seal().to_vec()
}

/// The number at the end.
fn number_in(text: &[u8]) -> u32 {
    let text = str::from_utf8(text).expect("made here");
    let (_, number) = text.rsplit_once('-').expect("made here");
    number.parse().expect("made here")
}

const AORS: usize = 400;
const CONTACTS: usize = 3;
const DIALOGS: usize = 1500;

const DOMAIN: &[u8] = b"location";
const CALLID: &[u8] = b"register@192.0.2.10";
const TAGS: [&[u8]; 2] = [b"from-tag", b"to-tag"];

/// In the year 2036.
const NEVER: i32 = 2_100_000_000;

// Commands of 1.11 to 2.3, `modules/usrloc/ureplication.h` and `modules/dialog/dlg_replication.h`.
const CONTACT_UPDATE: i32 = 4;
const CONTACT_DELETE: i32 = 5;
const UPDATED: i32 = 2;
const DELETED: i32 = 3;

#[test]
fn the_prefix_that_is_found_is_the_one_that_was_done() {
    let mut traffic = Traffic::new(5, 1, 0);
    let deeds: Vec<_> = (0..3000).map(|_| traffic.deed()).collect();
    let mut plain = Plain::new();
    for (done, deed) in deeds.iter().enumerate() {
        if done % 97 == 0 {
            let last = prefix(Plain::new(), &deeds, &plain).expect("it was there");
            // What comes behind it changed nothing.
            assert!(last >= done && last < done + 20, "{last}, not {done}");
        }
        apply(&mut plain, *deed);
    }
    assert_eq!(prefix(Plain::new(), &deeds, &plain), Some(deeds.len()));
    let mut other = plain.clone();
    other.pop_first();
    assert_eq!(prefix(Plain::new(), &deeds, &other), None);
}
