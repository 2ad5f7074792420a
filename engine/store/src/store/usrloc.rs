//! What packets do to AoRs and contacts.
//!
//! | packet | what it finds | what it does |
//! |---|---|---|
//! | AoR insert | none; one | made; labels and key-values are taken where there are none (a donor's are taken) |
//! | AoR delete | one | removed with its contacts |
//! | contact insert | none | made, and its AoR if there is none |
//! | | same Call-ID and a higher CSeq | nothing |
//! | | same Call-ID and CSeq | changed if it says that it was modified later; from a donor: unless earlier |
//! | | any other | changed |
//! | contact update | none | as insert |
//! | | same Call-ID and a higher CSeq | nothing |
//! | | any other | changed |
//! | contact delete | same Call-ID and a higher CSeq | nothing |
//! | | any other | removed; its AoR stays for [`Limits::linger`](super::Limits::linger) |
//!
//! (OpenSIPS 1.11, 2.4 `modules/usrloc/ureplication.c`, 3.6 `modules/usrloc/ul_cluster.c`, with `get_ucontact` in `urecord.c`:
//! insert asks with the packet's CSeq, update and delete with one more. A genuine node takes nothing of the same CSeq at an
//! insert; 1.11 does not look at an insert at all and keeps both.) A change keeps the contact's id, unless a donor says
//! another, and its instance, and its key-values where the packet has none (`mem_update_ucontact` in `ucontact.c`). The URI is
//! the packet's: matched by parameters it may be another one than before, which a genuine receiver forgets to take over.
//!
//! URIs are compared byte by byte: 1.11 does, and a maker that compares them by rule sends what it has.

use super::pack::Packed;
use super::table::Found;
use super::{Applied, Key, Scratch, Store, Turn, Why, deadline, seconds};
use crate::effects::Effects;
use crate::flat::{Kind, Status};
use crate::model::{Aor, Contact, Matching};
use crate::record::Record;

/// What a packet says of the contact it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) uri: &'a [u8],
    pub(super) callid: &'a [u8],
    pub(super) cseq: i32,
}

/// What a packet has to know of the contact that is there.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    callid: &'a [u8],
    id: Option<u64>,
    instance: &'a [u8],
    cseq: i64,
    modified: i64,
    kv: &'a [u8],
}

impl Store {
    pub(super) fn aor_inserted<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Aor<'_>,
    ) -> Applied {
        if said.aor.is_empty() {
            return Applied::Refused(Why::EmptyAor);
        }
        let found = self.look(&Key::Aor(said.domain, said.aor), scratch);
        let Some(place) = found.head else {
            scratch.write(&Record::Aor(*said), turn.status);
            if let Err(refused) = self.room(&scratch.new, (1, 0), 0) {
                return refused;
            }
            let due = self.linger(turn.now.unix);
            self.create(turn, found, &scratch.new, due);
            return Applied::Created;
        };
        scratch.new.clear();
        if let Record::Aor(kept) = self.table.record(place) {
            let is_chunk = turn.now.tick == 0;
            let (first, second) = if is_chunk {
                (said, &kept)
            } else {
                (&kept, said)
            };
            let kv = if first.kv.is_empty() {
                second.kv
            } else {
                first.kv
            };
            let labels = first.labels.or(second.labels);
            let aor = Aor { labels, kv, ..kept };
            scratch.write(&Record::Aor(aor), self.table.status(place));
        }
        let due = self.table.deadline(place);
        self.change(turn, place, &scratch.new, due)
    }

    pub(super) fn aor_deleted<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        domain: &[u8],
        aor: &[u8],
    ) -> Applied {
        let found = self.look(&Key::Aor(domain, aor), scratch);
        let Some(place) = found.head else {
            return Applied::Nothing(Why::Unknown);
        };
        self.remove_aor(place, found, turn.effects);
        Applied::Removed
    }

    /// Contact insert and update.
    pub(super) fn contact_said<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Contact<'_>,
        by: &Matching<'_>,
        is_insert: bool,
    ) -> Applied {
        if said.aor.is_empty() {
            return Applied::Refused(Why::EmptyAor);
        }
        let found = self.look(&Key::Aor(said.domain, said.aor), scratch);
        let meant = Said {
            uri: said.uri,
            callid: said.callid,
            cseq: said.cseq,
        };
        let Some((place, kept)) = self.meant(found.head, &meant, by) else {
            return self.add_contact(turn, scratch, said, found);
        };
        let is_chunk = turn.now.tick == 0;
        if let Some(why) = kept.is_newer(said, is_insert, is_chunk) {
            self.mark_with_aor(place, found.head, turn.now.tick);
            return Applied::Nothing(why);
        }
        scratch.write(&Record::Contact(kept.changed(said, is_chunk)), turn.status);
        self.mark_with_aor(place, found.head, turn.now.tick);
        self.change(turn, place, &scratch.new, deadline(said.expires))
    }

    pub(super) fn contact_deleted<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        (domain, aor): (&[u8], &[u8]),
        said: &Said<'_>,
        by: &Matching<'_>,
    ) -> Applied {
        let found = self.look(&Key::Aor(domain, aor), scratch);
        let Some((place, kept)) = self.meant(found.head, said, by) else {
            return Applied::Nothing(Why::Unknown);
        };
        if kept.callid == said.callid && kept.cseq > said.cseq.into() {
            return Applied::Nothing(Why::OlderCseq);
        }
        self.remove_contact(place, found, turn.now.unix, turn.effects);
        Applied::Removed
    }

    fn add_contact<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Contact<'_>,
        found: Found,
    ) -> Applied {
        scratch.write(&Record::Contact(*said), turn.status);
        let contacts = found.head.map_or(0, |aor| self.contacts_at(aor).count());
        let brings = match found.head {
            Some(_) => (1, 0),
            None => (2, said.domain.len() + said.aor.len() + AOR_BYTES),
        };
        if let Err(refused) = self.room(&scratch.new, brings, contacts) {
            return refused;
        }
        let aor = match found.head {
            Some(aor) => aor,
            None => self.add_aor(turn, found, &mut scratch.aor, said),
        };
        self.table.arm(aor, super::NEVER);
        self.mark(aor, turn.now.tick);
        let found = found.now_at(aor);
        self.create(turn, found, &scratch.new, deadline(said.expires));
        Applied::Created
    }

    /// The AoR of a contact that came before it, with the labels that the contact's id tells.
    fn add_aor<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        found: Found,
        flat: &mut Vec<u8>,
        of: &Contact<'_>,
    ) -> u32 {
        flat.clear();
        Record::Aor(aor_of(of)).write(Status::default(), flat);
        self.create(turn, found, flat, super::NEVER)
    }

    /// Makes the AoRs that restored contacts lack: the log may end between the two.
    pub(super) fn add_missing_aors(&mut self, now: i64, effects: &mut (impl Effects + ?Sized)) {
        let mut new = Vec::new();
        for place in 0..self.table.places() {
            let key = match self.table.kind(place) {
                Some(Kind::Contact) => self.table.key_at(place),
                Some(Kind::Aor) => {
                    let is_empty = self.contacts_at(place).next().is_none();
                    let due = if is_empty {
                        self.linger(now)
                    } else {
                        super::NEVER
                    };
                    self.table.note(place, due);
                    continue;
                }
                _ => continue,
            };
            let head = self.table.find(key).head.expect("its key is in the index");
            if self.table.kind(head) == Some(Kind::Aor) {
                continue;
            }
            new.clear();
            if let Record::Contact(contact) = self.table.record(place) {
                Record::Aor(aor_of(&contact)).write(Status::default(), &mut new);
                let place = self
                    .table
                    .add(Found::default(), &new, true)
                    .expect(super::WRITTEN_HERE);
                effects.put(place, &new);
            }
        }
    }

    /// Removes a contact; its AoR lingers when it was the last one.
    pub(super) fn remove_contact(
        &mut self,
        place: u32,
        found: Found,
        now: i64,
        effects: &mut (impl Effects + ?Sized),
    ) {
        let aor = self.remove(place, found, effects);
        if let Some(aor) = aor.filter(|aor| self.contacts_at(*aor).next().is_none()) {
            let due = self.linger(now);
            self.table.arm(aor, due);
        }
    }

    /// Removes an AoR and its contacts; how many records went.
    pub(super) fn remove_aor(
        &mut self,
        place: u32,
        found: Found,
        effects: &mut (impl Effects + ?Sized),
    ) -> u64 {
        let mut removed = 1;
        loop {
            let next = self.contacts_at(place).next();
            let Some((contact, _)) = next else { break };
            self.remove(contact, found, effects);
            removed += 1;
        }
        self.remove(place, found, effects);
        removed
    }

    /// The contacts of the AoR at `place`.
    pub(super) fn contacts_at(&self, place: u32) -> impl Iterator<Item = (u32, &[u8])> {
        self.table.chain(Some(place)).skip(1)
    }

    /// The contact among those of an AoR that a packet means.
    fn meant(
        &self,
        aor: Option<u32>,
        said: &Said<'_>,
        by: &Matching<'_>,
    ) -> Option<(u32, Kept<'_>)> {
        let mut contacts = self.contacts_at(aor?);
        contacts.find_map(|(place, packed)| {
            let mut fields = Packed::new(packed);
            fields.skip(2);
            let (uri, callid) = (fields.str(), fields.str());
            finds(by, said, uri, callid).then(|| (place, Kept::of(callid, fields)))
        })
    }

    fn mark_with_aor(&mut self, place: u32, aor: Option<u32>, tick: u32) {
        self.mark(place, tick);
        if let Some(aor) = aor {
            self.mark(aor, tick);
        }
    }

    fn linger(&self, now: i64) -> u32 {
        seconds(now.saturating_add(self.limits.linger.into()))
    }
}

impl<'a> Kept<'a> {
    /// `fields` have their first four behind them.
    fn of(callid: &'a [u8], mut fields: Packed<'a>) -> Self {
        let id = fields.int();
        fields.skip(INSTANCE - CONTACT_ID - 1);
        let instance = fields.str();
        fields.skip(CSEQ - INSTANCE - 1);
        let cseq = fields.int();
        fields.skip(LAST_MODIFIED - CSEQ - 1);
        Self {
            callid,
            // As a record has it: one more than the id, or 0.
            id: (id != 0).then(|| id.cast_unsigned().wrapping_sub(1)),
            instance,
            cseq,
            modified: fields.int(),
            kv: fields.str(),
        }
    }

    /// Why a packet changes nothing; `None`: it does.
    fn is_newer(&self, said: &Contact<'_>, is_insert: bool, is_chunk: bool) -> Option<Why> {
        if self.callid != said.callid {
            return None;
        }
        match self.cseq.cmp(&said.cseq.into()) {
            std::cmp::Ordering::Greater => Some(Why::OlderCseq),
            std::cmp::Ordering::Equal if is_insert => {
                let is_same = said.modified == self.modified;
                let is_later = said.modified > self.modified || is_chunk && is_same;
                (!is_later).then_some(Why::AlreadyThere)
            }
            _ => None,
        }
    }

    /// The contact after a packet that spoke of it.
    fn changed<'c>(&self, said: &Contact<'c>, is_chunk: bool) -> Contact<'c>
    where
        'a: 'c,
    {
        let or = |one: &'c [u8], other: &'c [u8]| if one.is_empty() { other } else { one };
        Contact {
            id: match is_chunk {
                true => said.id.or(self.id),
                false => self.id.or(said.id),
            },
            instance: or(self.instance, said.instance),
            kv: or(said.kv, self.kv),
            ..*said
        }
    }
}

/// Whether a packet that says `said` means the contact with this URI and Call-ID. (3.6 `modules/usrloc/urecord.c`, `contact_match` and its neighbours: a
/// parameter that one of the two URIs does not have says nothing.)
fn finds(by: &Matching<'_>, said: &Said<'_>, uri: &[u8], callid: &[u8]) -> bool {
    match by {
        Matching::Uri => uri == said.uri,
        Matching::UriAndCallid => uri == said.uri && callid == said.callid,
        Matching::Params(names) => names.iter().all(|name| {
            let (one, another) = (param(said.uri, name), param(uri, name));
            one.is_none() || another.is_none() || one == another
        }),
    }
}

/// The value of a URI's parameter: `;name=value`, or `;name`, which has an empty one.
fn param<'u>(uri: &'u [u8], name: &[u8]) -> Option<&'u [u8]> {
    let end = uri.iter().position(|byte| matches!(byte, b'?' | b'>'));
    let mut params = uri[..end.unwrap_or(uri.len())].split(|byte| *byte == b';');
    params.next();
    params.find_map(|param| {
        let mut halves = param.splitn(2, |byte| *byte == b'=');
        let found = halves.next()?.eq_ignore_ascii_case(name);
        found.then(|| halves.next().unwrap_or_default())
    })
}

/// The AoR of a contact. (3.6 `modules/usrloc/dlist.h`, `unpack_indexes`, `CLABEL_NEXT`.)
fn aor_of<'a>(contact: &Contact<'a>) -> Aor<'a> {
    let labels = contact.id.map(|id| {
        let next = (id + 1) & CLABEL_MASK;
        let record = (id >> CLABEL_BITS) & u64::from(u32::MAX);
        let number = |label: u64| u32::try_from(label).unwrap_or_default().cast_signed();
        (number(record), number(next))
    });
    Aor {
        domain: contact.domain,
        aor: contact.aor,
        labels,
        kv: b"",
    }
}

/// Where these stand among the fields of a contact.
const CONTACT_ID: usize = 4;
const INSTANCE: usize = 9;
const CSEQ: usize = 13;
const LAST_MODIFIED: usize = 18;

const CLABEL_BITS: u32 = 14;
const CLABEL_MASK: u64 = (1 << CLABEL_BITS) - 1;

/// More than an AoR takes beside its names.
const AOR_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_are_looked_at_stand_where_they_are_looked_for() {
        let names = |at: usize| Kind::Contact.fields()[at].name;
        assert_eq!(
            (names(CONTACT_ID), names(INSTANCE)),
            ("contact_id", "instance")
        );
        assert_eq!(
            (names(CSEQ), names(LAST_MODIFIED)),
            ("cseq", "last_modified")
        );
        assert_eq!((names(2), names(3)), ("contact", "callid"));
    }

    #[test]
    fn a_parameter_is_found_by_its_name_alone() {
        let uri = b"sip:a@h:5060;transport=tcp;Line=7;lr?x=1;hidden=2";
        assert_eq!(param(uri, b"line"), Some(&b"7"[..]));
        assert_eq!(param(uri, b"lr"), Some(&b""[..]));
        assert_eq!(param(uri, b"hidden"), None);
        assert_eq!(param(b"sip:line=7@h", b"line"), None);
        assert_eq!(param(b"", b"line"), None);
    }

    #[test]
    fn an_aor_that_a_contact_brings_has_the_labels_of_its_id() {
        let id = 0x2aaa << 46 | 0x8000_0007_u64 << 14 | CLABEL_MASK;
        let contact = Contact {
            id: Some(id),
            ..Contact::default()
        };
        let record = 0x8000_0007_u32.cast_signed();
        assert_eq!(aor_of(&contact).labels, Some((record, 0)));
        assert_eq!(aor_of(&Contact::default()).labels, None);
    }
}
