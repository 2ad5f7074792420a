//! Going over the records: for syncs, snapshots and questions; and putting back what was there before a restart.

use super::interner::Interner;
use super::table::Found;
use super::{Family, FlatError, Store, deadline, pack};
use crate::effects::Effects;
use crate::flat::{Kind, Status, put_varint, zigzag};
use crate::record::Record;

/// What records are looked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Dialogs with this Call-ID.
    Dialog(&'a [u8]),
    /// The AoR in this domain, and its contacts.
    Aor(&'a [u8], &'a [u8]),
    /// The entry of this collection with this key.
    Cached(&'a [u8], &'a [u8]),
    /// The counts of this profile and value, if it has values.
    Profile(&'a [u8], Option<&'a [u8]>),
    /// The counts of this pipe.
    Pipe(&'a [u8]),
}

/// Why a record cannot be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes are no record.
    #[error(transparent)]
    Flat(#[from] FlatError),
    /// It belongs to another store.
    #[error("a record of kind {} does not belong among {family:?}", kind.name())]
    OtherFamily {
        /// What it is.
        kind: Kind,
        /// What is here.
        family: Family,
    },
    /// No store with these limits gave it this place: it may still be [adopted](Store::adopt).
    #[error("place {place} is not below {limit}, the limit of records")]
    NoPlace {
        /// The place.
        place: u32,
        /// The limit.
        limit: u32,
    },
}

impl Store {
    /// Puts a record back at its place, instead of what is there. Before the first packet is applied, and
    /// [`restored`](Self::restored) has to follow.
    ///
    /// # Errors
    /// See [`RestoreError`]; the store is as it was.
    pub fn restore(&mut self, place: u32, flat: &[u8]) -> Result<(), RestoreError> {
        let limit = self.limits.records;
        if place >= limit {
            return Err(RestoreError::NoPlace { place, limit });
        }
        let record = self.belongs(flat)?;
        let is_head = self.makes_way(&record, Some(place));
        self.table.put_at(place, flat, is_head)?;
        self.table.note(place, self.due(&record));
        Ok(())
    }

    /// Adds a record of another store, of a start with another number of shards, wherever there is room; says where. Limits
    /// do not count. [`restored`](Self::restored) has to follow.
    ///
    /// # Errors
    /// See [`RestoreError`]; the store is as it was.
    pub fn adopt(&mut self, flat: &[u8]) -> Result<u32, RestoreError> {
        let record = self.belongs(flat)?;
        let is_head = self.makes_way(&record, None);
        let place = self.table.add(Found::default(), flat, is_head)?;
        self.table.note(place, self.due(&record));
        Ok(place)
    }

    /// Whether a record is here that `flat` is about: an AoR and an entry by their keys, a contact by its URI and its Call-ID besides, a
    /// dialog as its CREATED means one. Counts never are. Also between [`adopt`](Self::adopt) and [`restored`](Self::restored).
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn has(&self, flat: &[u8]) -> Result<bool, RestoreError> {
        let record = self.belongs(flat)?;
        let key = match &record {
            Record::Dialog(dialog) => Key::Dialog(dialog.callid),
            Record::Aor(aor) => Key::Aor(aor.domain, aor.aor),
            Record::Contact(contact) => Key::Aor(contact.domain, contact.aor),
            Record::Cached(cached) => Key::Cached(cached.collection, cached.key),
            Record::Profile(..) | Record::Pipe(..) => return Ok(false),
        };
        let mut packed = Vec::new();
        if !key.pack(&self.table.strings, &mut packed) {
            return Ok(false);
        }
        let mut chain = self.table.chain(self.table.find(&packed).head);
        Ok(chain.any(|(place, _)| is_meant(&record, &self.table.record(place))))
    }

    /// All that was there is back: sets the deadlines, finds the free places, and makes AoRs for contacts that have none. `now`
    /// is in seconds since 1970. Takes as long as a walk over everything.
    pub fn restored(&mut self, now: i64, effects: &mut (impl Effects + ?Sized)) {
        self.table.start(super::seconds(now));
        self.table.collect_free();
        match self.family {
            Family::Usrloc => self.add_missing_aors(now, effects),
            Family::Dialogs => self.rearm_provisional(now),
            _ => {}
        }
        self.table.arm_noted();
    }

    /// Calls `each` with the place and the flat bytes of each record from place `from` on, 0 at first, until about `bytes`
    /// were given or a few thousand places looked at. Where to go on; `None`: that was all.
    ///
    /// From call to call it gives every record that is there all the time, however many come and go in between, in the order of
    /// their places: a contact may come before its AoR, and far from it.
    pub fn walk(&self, from: u32, bytes: usize, each: &mut dyn FnMut(u32, &[u8])) -> Option<u32> {
        let mut given = 0;
        self.walk_while(from, &mut |place, flat| {
            let goes_on = given < bytes.max(1);
            if goes_on {
                given += flat.len();
                each(place, flat);
            }
            goes_on
        })
    }

    /// As [`walk`](Self::walk), until `each` says `false`: it did not take that record, and the next call begins with it.
    pub fn walk_while(&self, from: u32, each: &mut dyn FnMut(u32, &[u8]) -> bool) -> Option<u32> {
        let places = self.table.places();
        let end = from.saturating_add(WALK_PLACES).min(places);
        let mut flat = Vec::new();
        for place in from..end {
            if self.table.get(place).is_some() && !self.give_while(place, &mut flat, each) {
                return Some(place);
            }
        }
        (end < places).then_some(end)
    }

    /// Goes over what the records say instead of their bytes, for syncs: nothing is copied. `each` says how many bytes it made of
    /// a record; one of which it makes little counts as what it takes here.
    ///
    /// An AoR comes before its contacts, and all of them in one call: a genuine receiver takes its labels from whichever is first.
    pub fn walk_records(
        &self,
        from: u32,
        bytes: usize,
        each: &mut dyn FnMut(&Record<'_>, Status) -> usize,
    ) -> Option<u32> {
        self.walk_places(from, bytes, |place, packed| {
            let made = each(&self.table.record(place), pack::status(packed));
            made.max(packed.len())
        })
    }

    /// Calls `each` with the place and the flat bytes of the records of a key; an AoR comes before its contacts.
    pub fn find(&self, key: &Key<'_>, each: &mut dyn FnMut(u32, &[u8])) {
        let mut packed = Vec::new();
        if key.family() != self.family || !key.pack(&self.table.strings, &mut packed) {
            return;
        }
        let mut flat = Vec::new();
        for (place, _) in self.table.chain(self.table.find(&packed).head) {
            self.give(place, &mut flat, each);
        }
    }

    /// Calls `each` with the flat bytes of the dialogs with this Call-ID, from `from` on, 0 at first, until it says `false`: it did not
    /// take that one. With each comes where to ask for it again; where to go on, `None`: that was all.
    ///
    /// If what `from` means is gone meanwhile, all come again.
    pub fn find_callid(
        &self,
        callid: &[u8],
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> Option<u32> {
        let mut packed = Vec::new();
        if self.family != Family::Dialogs
            || !Key::Dialog(callid).pack(&self.table.strings, &mut packed)
        {
            return None;
        }
        let is_one =
            |place: &u32| self.table.kind(*place).is_some() && self.table.key_at(*place) == packed;
        let begin = inside(from).filter(is_one);
        let (at, head) = match begin {
            Some(place) => (from, Some(place)),
            None => (0, self.table.find(&packed).head),
        };
        self.give_row(at, head, &mut Vec::new(), each)
    }

    /// Calls `each` with the flat bytes of the AoRs of this name, whatever their domain is, and of their contacts: from `from` on, 0
    /// at first, until it says `false`, which is that it did not take that record, or a thousand domains were tried. With each comes
    /// where to ask for it again: the number of a domain, or a place inside of one. Where to go on; `None`: that was all. An AoR
    /// comes before its contacts.
    ///
    /// If what `from` means is gone meanwhile, all come again.
    ///
    /// Nobody keeps a list of domains. But a domain is one of the strings that records share, of which there are few.
    pub fn find_aor(
        &self,
        aor: &[u8],
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> Option<u32> {
        if self.family != Family::Usrloc {
            return None;
        }
        let strings = &self.table.strings;
        let (mut packed, mut flat, mut from) = (Vec::new(), Vec::new(), from);
        if let Some(place) = inside(from) {
            let domain = self.domain_of(place, aor);
            if domain.is_some() {
                let stopped = self.give_row(from, Some(place), &mut flat, each);
                if stopped.is_some() {
                    return stopped;
                }
            }
            from = domain.map_or(0, |domain| domain + 1);
        }
        let end = from.saturating_add(FIND_STRINGS).min(strings.end());
        for domain in from..end {
            if !strings.is_used(domain) {
                continue;
            }
            packed.clear();
            put_varint(&mut packed, domain.into());
            put_str(&mut packed, aor);
            let head = self.table.find(&packed).head;
            let stopped = self.give_row(domain, head, &mut flat, each);
            if stopped.is_some() {
                return stopped;
            }
        }
        (end < strings.end()).then_some(end)
    }

    /// Gives the records of one key from `head` on, which `at` means; where it was told to stop.
    fn give_row(
        &self,
        at: u32,
        head: Option<u32>,
        flat: &mut Vec<u8>,
        each: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> Option<u32> {
        for (place, _) in self.table.chain(head) {
            let at = match Some(place) == head {
                true => at,
                false => place | INSIDE,
            };
            if !self.give_while(place, flat, &mut |_, flat| each(at, flat)) {
                return Some(at);
            }
        }
        None
    }

    /// The number of the domain of the record at `place`, if it is one of the AoR of this name.
    fn domain_of(&self, place: u32, aor: &[u8]) -> Option<u32> {
        let mut fields = pack::Packed::new(&self.table.get(place)?.blob);
        let domain = fields.id();
        (fields.str() == aor).then_some(domain)
    }

    /// Calls `each` with the place and the packed bytes of each record; it says how many bytes it gave.
    fn walk_places(
        &self,
        from: u32,
        bytes: usize,
        mut each: impl FnMut(u32, &[u8]) -> usize,
    ) -> Option<u32> {
        let places = self.table.places();
        let end = from.saturating_add(WALK_PLACES).min(places);
        let mut given = 0;
        for place in from..end {
            let Some(slot) = self.table.get(place) else {
                continue;
            };
            match pack::kind(&slot.blob) {
                Some(Kind::Contact) => continue,
                Some(Kind::Aor) => {
                    for (place, packed) in self.table.chain(Some(place)) {
                        given += each(place, packed);
                    }
                }
                _ => given += each(place, &slot.blob),
            }
            if given >= bytes {
                return (place + 1 < places).then_some(place + 1);
            }
        }
        (end < places).then_some(end)
    }

    fn give(&self, place: u32, flat: &mut Vec<u8>, each: &mut dyn FnMut(u32, &[u8])) -> usize {
        flat.clear();
        self.table.unpack(place, flat);
        each(place, flat);
        flat.len()
    }

    fn give_while(
        &self,
        place: u32,
        flat: &mut Vec<u8>,
        each: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> bool {
        flat.clear();
        self.table.unpack(place, flat);
        each(place, flat)
    }

    fn belongs<'f>(&self, flat: &'f [u8]) -> Result<Record<'f>, RestoreError> {
        let (record, _) = Record::read(flat)?;
        let (kind, family) = (record.kind(), self.family);
        match Family::of(kind) == family {
            true => Ok(record),
            false => Err(RestoreError::OtherFamily { kind, family }),
        }
    }

    /// Whether a record comes first among those of its key, as an AoR does: there is one of each, so another one goes.
    fn makes_way(&mut self, record: &Record<'_>, place: Option<u32>) -> bool {
        let Record::Aor(aor) = record else {
            return false;
        };
        let mut key = Vec::new();
        if Key::Aor(aor.domain, aor.aor).pack(&self.table.strings, &mut key) {
            let head = self.table.find(&key).head;
            let other = head.filter(|head| Some(*head) != place);
            if let Some(other) = other.filter(|other| self.table.kind(*other) == Some(Kind::Aor)) {
                self.table.remove(other, Found::default());
            }
        }
        true
    }

    /// When a record is due that is no AoR.
    fn due(&self, record: &Record<'_>) -> u32 {
        match record {
            Record::Dialog(dialog) => deadline(dialog.expires.cast_unsigned().into()),
            Record::Contact(contact) => deadline(contact.expires),
            Record::Cached(cached) => deadline(cached.expires),
            Record::Profile(_, heard) | Record::Pipe(_, heard) => {
                deadline(heard.at.saturating_add(self.limits.counts_expire.into()))
            }
            Record::Aor(_) => super::NEVER,
        }
    }
}

impl Key<'_> {
    /// Appends it as packed records have it; `false`: no record has it, because a string of it is in none.
    pub(super) fn pack(&self, strings: &Interner, out: &mut Vec<u8>) -> bool {
        let id = |out: &mut Vec<u8>, text: &[u8]| {
            let id = strings.find(text);
            put_varint(out, id.unwrap_or_default().into());
            id.is_some()
        };
        match *self {
            Key::Dialog(text) | Key::Pipe(text) => {
                put_str(out, text);
                true
            }
            Key::Aor(first, second) | Key::Cached(first, second) => {
                let is_known = id(out, first);
                put_str(out, second);
                is_known
            }
            Key::Profile(profile, value) => {
                let is_known = id(out, profile);
                put_str(out, value.unwrap_or_default());
                put_varint(out, zigzag(value.is_some().into()));
                is_known
            }
        }
    }

    const fn family(&self) -> Family {
        match self {
            Key::Dialog(_) => Family::Dialogs,
            Key::Aor(..) => Family::Usrloc,
            Key::Cached(..) => Family::Cache,
            Key::Profile(..) => Family::Profiles,
            Key::Pipe(_) => Family::Pipes,
        }
    }
}

/// Whether two records of one key are about the same.
fn is_meant(said: &Record<'_>, kept: &Record<'_>) -> bool {
    match (said, kept) {
        (Record::Dialog(said), Record::Dialog(kept)) => {
            said.h_id == kept.h_id && said.tags[0] == kept.tags[0]
        }
        (Record::Contact(said), Record::Contact(kept)) => {
            said.uri == kept.uri && said.callid == kept.callid
        }
        _ => said.kind() == kept.kind(),
    }
}

fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Places looked at in one call, so that one over a store of free places ends as well.
const WALK_PLACES: u32 = 4096;

/// Set in what says where to go on: the rest is a place. Nobody has so many domains, and no store so many places: see the settings'
/// upper limits.
const INSIDE: u32 = 1 << 31;

/// The place that `from` means, if it is one.
const fn inside(from: u32) -> Option<u32> {
    match from & INSIDE {
        0 => None,
        _ => Some(from & !INSIDE),
    }
}

/// Strings that are tried as a domain in one call.
const FIND_STRINGS: u32 = 1024;
