use binrush_store::change::{Change, Named};
use binrush_store::model::{Aor, Contact, Dialog, Matching, VarValue};
use binrush_store::record::Heard;
use binrush_store::store::Key;
use binrush_store::{Applied, Limits, Now, Record, Status, Why, vars};

/// Records in a list, looked through from one end to the other.
pub(crate) struct Model {
    entries: Vec<Entry>,
    limits: Limits,
    sync: u32,
    begun: u32,
}

#[derive(Clone)]
struct Entry {
    record: Record<'static>,
    status: Status,
    touched: u32,
    confirmed: u32,
    /// When an AoR without contacts goes, or a provisional dialog at the earliest.
    until: i64,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            entries: Vec::new(),
            limits,
            sync: 0,
            begun: 0,
        }
    }

    pub(crate) fn flats(&self) -> Vec<Vec<u8>> {
        let mut flats: Vec<_> = self
            .entries
            .iter()
            .map(|entry| {
                let mut flat = Vec::new();
                entry.record.write(entry.status, &mut flat);
                flat
            })
            .collect();
        flats.sort();
        flats
    }

    /// Each key, and how many records it has.
    pub(crate) fn keys(&self) -> Vec<(Key<'static>, usize)> {
        let key = |entry: &Entry| key(&entry.record);
        self.entries
            .iter()
            .map(|entry| {
                let of_it = |other: &&Entry| key(other) == key(entry);
                (key(entry), self.entries.iter().filter(of_it).count())
            })
            .collect()
    }

    /// Whether a packet may mean one of several records: nothing says which of them is found first.
    pub(crate) fn is_ambiguous(&self, change: &Change<'static>) -> bool {
        self.meant(change).len() > 1
    }

    pub(crate) fn sync_begins(&mut self, tick: u32) {
        self.sync += 1;
        self.begun = tick;
    }

    /// How many went, and how many stay that were not confirmed.
    pub(crate) fn sync_ends(&mut self, now: i64) -> (u64, u64) {
        let (sync, recent) = (self.sync, self.begun.saturating_sub(100));
        let before = self.entries.len();
        let goes = |entry: &Entry| {
            entry.confirmed != sync && (entry.touched == 0 || entry.touched < recent)
        };
        let aors: Vec<_> = self
            .entries
            .iter()
            .filter(|e| goes(e))
            .filter_map(aor)
            .collect();
        self.retain(now, |entry| {
            !goes(entry) && !contact_of(entry).is_some_and(|of| aors.contains(&of))
        });
        let spared = self.entries.iter().filter(|entry| entry.confirmed != sync);
        let spared = spared.count() as u64;
        ((before - self.entries.len()) as u64, spared)
    }

    pub(crate) fn expire(&mut self, now: i64) -> u64 {
        let before = self.entries.len();
        let expires = i64::from(self.limits.counts_expire);
        let empty: Vec<_> = self.entries.iter().filter_map(aor).collect();
        let empty: Vec<_> = empty
            .into_iter()
            .filter(|aor| !self.entries.iter().any(|e| contact_of(e) == Some(*aor)))
            .collect();
        self.retain(now, |entry| {
            let until = match entry.record {
                Record::Dialog(dialog) if entry.status.has(Status::PROVISIONAL) => {
                    entry.until.max(dialog.expires.into())
                }
                Record::Dialog(dialog) => dialog.expires.into(),
                Record::Contact(contact) => contact.expires,
                Record::Cached(cached) => cached.expires,
                Record::Profile(_, heard) | Record::Pipe(_, heard) => heard.at + expires,
                Record::Aor(_) if empty.contains(&aor(entry).unwrap()) => entry.until,
                Record::Aor(_) => 0,
            };
            until == 0 || until > now
        });
        (before - self.entries.len()) as u64
    }

    pub(crate) fn restarted(&mut self, now: i64) {
        (self.sync, self.begun) = (0, 0);
        for entry in &mut self.entries {
            let until = now + stays(&self.limits, &entry.record);
            (entry.touched, entry.confirmed, entry.until) = (0, 0, until);
        }
    }

    pub(crate) fn apply(
        &mut self,
        now: Now,
        change: &Change<'static>,
        node: i32,
        status: Status,
    ) -> Applied {
        match change {
            Change::Profiles(counts) => {
                let one = |count| Change::Profiles(vec![count]);
                self.each(now, counts.iter().copied().map(one), node, status)
            }
            Change::Pipes(counts) => {
                let one = |count| Change::Pipes(vec![count]);
                self.each(now, counts.iter().copied().map(one), node, status)
            }
            _ => self.apply_one(now, change, node, status),
        }
    }

    fn each(
        &mut self,
        now: Now,
        changes: impl Iterator<Item = Change<'static>>,
        node: i32,
        status: Status,
    ) -> Applied {
        let all: Vec<_> = changes
            .map(|change| self.apply_one(now, &change, node, status))
            .collect();
        let first = |of: fn(&Applied) -> bool| all.iter().copied().find(of);
        first(|applied| matches!(applied, Applied::Refused(_)))
            .or_else(|| first(|applied| *applied == Applied::Created))
            .or_else(|| first(|applied| *applied == Applied::Updated))
            .or_else(|| first(|applied| *applied == Applied::Removed))
            .unwrap_or(Applied::Nothing(Why::AlreadyThere))
    }

    /// A packet with one count at most.
    fn apply_one(
        &mut self,
        now: Now,
        change: &Change<'static>,
        node: i32,
        status: Status,
    ) -> Applied {
        let empty_aor = match change {
            Change::AorInserted(aor) => aor.aor.is_empty(),
            Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
                contact.aor.is_empty()
            }
            _ => false,
        };
        if empty_aor {
            return Applied::Refused(Why::EmptyAor);
        }
        let at = match change {
            Change::Profiles(_) | Change::Pipes(_) => self.counted(change, node),
            _ => self.meant(change).first().copied(),
        };
        match at {
            Some(at) => self.change(now, at, change, node, status),
            None => self.create(now, change, node, status),
        }
    }

    fn create(&mut self, now: Now, change: &Change<'static>, node: i32, status: Status) -> Applied {
        let heard = Heard { node, at: now.unix };
        let record = match change {
            Change::DialogCreated(dialog) => (Record::Dialog(*dialog), status),
            Change::DialogUpdated(dialog) => {
                (Record::Dialog(*dialog), status.with(Status::PROVISIONAL))
            }
            Change::AorInserted(aor) => (Record::Aor(*aor), status),
            Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
                return self.create_contact(now, contact, status);
            }
            Change::CacheInserted(cached) => (Record::Cached(*cached), status),
            Change::Profiles(counts) if counts[0].count != 0 => {
                (Record::Profile(counts[0], heard), status)
            }
            Change::Pipes(counts) => (Record::Pipe(counts[0], heard), status),
            _ => return Applied::Nothing(Why::Unknown),
        };
        let of_key = |entry: &&Entry| key(&entry.record) == key(&record.0);
        let of_key = self.entries.iter().filter(of_key).count();
        if let Err(refused) = self.room(1, of_key, &record.0) {
            return refused;
        }
        self.push(now, record.0, record.1);
        Applied::Created
    }

    fn create_contact(&mut self, now: Now, contact: &Contact<'static>, status: Status) -> Applied {
        let of = (contact.domain, contact.aor);
        let has_aor = self.entries.iter().any(|entry| aor(entry) == Some(of));
        let of_key = self
            .entries
            .iter()
            .filter(|e| contact_of(e) == Some(of))
            .count();
        if let Err(refused) = self.room(
            if has_aor { 1 } else { 2 },
            of_key,
            &Record::Contact(*contact),
        ) {
            return refused;
        }
        if !has_aor {
            let labels = contact.id.map(|id| {
                let record = u32::try_from(id >> 14 & 0xffff_ffff).unwrap();
                (
                    record.cast_signed(),
                    i32::try_from((id + 1) % (1 << 14)).unwrap(),
                )
            });
            let aor = Aor {
                domain: contact.domain,
                aor: contact.aor,
                labels,
                kv: b"",
            };
            self.push(now, Record::Aor(aor), Status::default());
        }
        self.push(now, Record::Contact(*contact), status);
        self.mark_aor(now, of);
        Applied::Created
    }

    fn change(
        &mut self,
        now: Now,
        at: usize,
        change: &Change<'static>,
        node: i32,
        status: Status,
    ) -> Applied {
        let is_chunk = now.tick == 0;
        let kept = self.entries[at].clone();
        let heard = Heard { node, at: now.unix };
        let new = match (change, kept.record) {
            (Change::DialogCreated(said), _) => {
                match is_chunk || kept.status.has(Status::PROVISIONAL) {
                    true => Ok((Record::Dialog(*said), status)),
                    false => Err(Why::AlreadyThere),
                }
            }
            (Change::DialogUpdated(said), Record::Dialog(dialog)) => {
                Ok(match kept.status.has(Status::PROVISIONAL) {
                    true => (Record::Dialog(*said), status.with(Status::PROVISIONAL)),
                    false => (Record::Dialog(updated(&dialog, said)), kept.status),
                })
            }
            (
                Change::DialogCseq {
                    dialog: named,
                    cseq,
                },
                Record::Dialog(mut dialog),
            ) => {
                match named.tags {
                    Some(tags) if tags == dialog.tags => dialog.last_cseqs[1] = *cseq,
                    Some([one, two]) if [two, one] == dialog.tags => dialog.last_cseqs[0] = *cseq,
                    _ => return Applied::Nothing(Why::Unknown),
                }
                Ok((Record::Dialog(dialog), kept.status))
            }
            (Change::DialogValue { name, value, .. }, Record::Dialog(mut dialog)) => {
                dialog.vars = with_value(dialog.vars, name, *value);
                Ok((Record::Dialog(dialog), kept.status))
            }
            (Change::AorInserted(said), Record::Aor(aor)) => {
                let mut new = aor;
                if new.labels.is_none() || is_chunk && said.labels.is_some() {
                    new.labels = said.labels;
                }
                if new.kv.is_empty() || is_chunk && !said.kv.is_empty() {
                    new.kv = said.kv;
                }
                Ok((Record::Aor(new), kept.status))
            }
            (Change::ContactInserted(said, _), Record::Contact(contact)) => {
                let is_older = said.callid == contact.callid
                    && (said.cseq, said.modified) < (contact.cseq, contact.modified);
                let is_same = said.callid == contact.callid
                    && (said.cseq, said.modified) == (contact.cseq, contact.modified);
                match () {
                    () if is_older && said.cseq < contact.cseq => Err(Why::OlderCseq),
                    () if is_older || is_same && !is_chunk => Err(Why::AlreadyThere),
                    () => Ok((Record::Contact(changed(&contact, said, is_chunk)), status)),
                }
            }
            (Change::ContactUpdated(said, _), Record::Contact(contact)) => {
                match said.callid == contact.callid && said.cseq < contact.cseq {
                    true => Err(Why::OlderCseq),
                    false => Ok((Record::Contact(changed(&contact, said, is_chunk)), status)),
                }
            }
            (Change::CacheInserted(said), _) => Ok((Record::Cached(*said), status)),
            (Change::Profiles(counts), _) if counts[0].count != 0 => {
                Ok((Record::Profile(counts[0], heard), status))
            }
            (Change::Pipes(counts), _) => Ok((Record::Pipe(counts[0], heard), status)),
            (Change::ContactDeleted { callid, cseq, .. }, Record::Contact(contact))
                if contact.callid == *callid && contact.cseq > *cseq =>
            {
                return Applied::Nothing(Why::OlderCseq);
            }
            (Change::AorDeleted(domain, name), _) => {
                let of = Some((*domain, *name));
                self.entries
                    .retain(|entry| aor(entry) != of && contact_of(entry) != of);
                return Applied::Removed;
            }
            _ => {
                let mut index = 0;
                self.retain(now.unix, |_| {
                    index += 1;
                    index != at + 1
                });
                return Applied::Removed;
            }
        };
        self.mark(now, at);
        if let Some(of) = contact_of(&kept) {
            self.mark_aor(now, of);
        }
        match new {
            Err(why) => Applied::Nothing(why),
            Ok((record, _)) if is_too_long(&record) => Applied::Refused(Why::TooLong),
            Ok(new) if new == (kept.record, kept.status) => Applied::Nothing(Why::AlreadyThere),
            Ok((record, status)) => {
                (self.entries[at].record, self.entries[at].status) = (record, status);
                if let Record::Dialog(_) = record {
                    self.entries[at].until = now.unix + stays(&self.limits, &record);
                }
                Applied::Updated
            }
        }
    }

    /// The records that a packet may mean.
    fn meant(&self, change: &Change<'static>) -> Vec<usize> {
        let is_meant = |entry: &Entry| match (change, &entry.record) {
            (Change::DialogCreated(said) | Change::DialogUpdated(said), Record::Dialog(kept)) => {
                let name = |dialog: &Dialog<'static>| (dialog.callid, dialog.h_id, dialog.tags[0]);
                name(said) == name(kept)
            }
            (
                Change::DialogDeleted(named)
                | Change::DialogCseq { dialog: named, .. }
                | Change::DialogValue { dialog: named, .. },
                Record::Dialog(kept),
            ) => names(named, kept),
            (Change::AorInserted(said), Record::Aor(kept)) => {
                (said.domain, said.aor) == (kept.domain, kept.aor)
            }
            (Change::AorDeleted(domain, aor), Record::Aor(kept)) => {
                (*domain, *aor) == (kept.domain, kept.aor)
            }
            (
                Change::ContactInserted(said, by) | Change::ContactUpdated(said, by),
                Record::Contact(kept),
            ) => finds(by, (said.domain, said.aor, said.uri, said.callid), kept),
            (
                Change::ContactDeleted {
                    domain,
                    aor,
                    uri,
                    callid,
                    matching,
                    ..
                },
                Record::Contact(kept),
            ) => finds(matching, (domain, aor, uri, callid), kept),
            (Change::CacheInserted(said), Record::Cached(kept)) => {
                (said.collection, said.key) == (kept.collection, kept.key)
            }
            (Change::CacheRemoved(collection, key), Record::Cached(kept)) => {
                (*collection, *key) == (kept.collection, kept.key)
            }
            _ => false,
        };
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| is_meant(entry))
            .map(|(at, _)| at)
            .collect()
    }

    fn counted(&self, change: &Change<'static>, node: i32) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| match (change, &entry.record) {
                (Change::Profiles(counts), Record::Profile(kept, heard)) => {
                    let name = (counts[0].profile, counts[0].value, node);
                    name == (kept.profile, kept.value, heard.node)
                }
                (Change::Pipes(counts), Record::Pipe(kept, heard)) => {
                    (counts[0].pipe, node) == (kept.pipe, heard.node)
                }
                _ => false,
            })
    }

    fn room(&self, records: usize, of_key: usize, record: &Record<'static>) -> Result<(), Applied> {
        if is_too_long(record) {
            return Err(Applied::Refused(Why::TooLong));
        }
        if self.entries.len() + records > self.limits.records as usize {
            return Err(Applied::Refused(Why::NoRoom));
        }
        match of_key >= self.limits.per_key as usize {
            true => Err(Applied::Refused(Why::TooMany)),
            false => Ok(()),
        }
    }

    fn push(&mut self, now: Now, record: Record<'static>, status: Status) {
        self.entries.push(Entry {
            record,
            status,
            touched: 0,
            confirmed: 0,
            until: now.unix + stays(&self.limits, &record),
        });
        self.mark(now, self.entries.len() - 1);
    }

    fn mark(&mut self, now: Now, at: usize) {
        let entry = &mut self.entries[at];
        entry.touched = entry.touched.max(now.tick);
        if now.tick == 0 || now.tick >= self.begun {
            entry.confirmed = self.sync;
        } else if self.sync > 0 {
            entry.confirmed = entry.confirmed.max(self.sync - 1);
        }
    }

    fn mark_aor(&mut self, now: Now, of: Names) {
        let at = self
            .entries
            .iter()
            .position(|entry| aor(entry) == Some(of))
            .unwrap();
        self.mark(now, at);
    }

    /// Removes records; an AoR that loses its last contact stays a while.
    fn retain(&mut self, now: i64, stays: impl FnMut(&Entry) -> bool) {
        let had: Vec<_> = self.entries.iter().filter_map(contact_of).collect();
        self.entries.retain(stays);
        let has: Vec<_> = self.entries.iter().filter_map(contact_of).collect();
        for entry in &mut self.entries {
            if let Some(of) = aor(entry)
                && had.contains(&of)
                && !has.contains(&of)
            {
                entry.until = now + i64::from(self.limits.linger);
            }
        }
    }
}

fn is_too_long(record: &Record<'static>) -> bool {
    let mut flat = Vec::new();
    record.write(Status::default(), &mut flat);
    flat.len() > 65_536
}

fn stays(limits: &Limits, record: &Record<'static>) -> i64 {
    match record {
        Record::Dialog(_) => limits.provisional.into(),
        _ => limits.linger.into(),
    }
}

type Names = (&'static [u8], &'static [u8]);

fn aor(entry: &Entry) -> Option<Names> {
    match entry.record {
        Record::Aor(aor) => Some((aor.domain, aor.aor)),
        _ => None,
    }
}

fn contact_of(entry: &Entry) -> Option<Names> {
    match entry.record {
        Record::Contact(contact) => Some((contact.domain, contact.aor)),
        _ => None,
    }
}

fn key(record: &Record<'static>) -> Key<'static> {
    match record {
        Record::Dialog(dialog) => Key::Dialog(dialog.callid),
        Record::Aor(aor) => Key::Aor(aor.domain, aor.aor),
        Record::Contact(contact) => Key::Aor(contact.domain, contact.aor),
        Record::Cached(cached) => Key::Cached(cached.collection, cached.key),
        Record::Profile(count, _) => Key::Profile(count.profile, count.value),
        Record::Pipe(count, _) => Key::Pipe(count.pipe),
    }
}

fn names(named: &Named<'static>, kept: &Dialog<'static>) -> bool {
    let [caller, callee] = kept.tags;
    named.callid == kept.callid
        && match (named.h_id, named.tags) {
            (Some(h_id), _) => h_id == kept.h_id,
            (None, Some(tags)) => tags == [caller, callee] || tags == [callee, caller],
            (None, None) => false,
        }
}

fn finds(
    by: &Matching<'static>,
    said: (&[u8], &[u8], &[u8], &[u8]),
    kept: &Contact<'static>,
) -> bool {
    let (domain, aor, uri, callid) = said;
    // The only parameter in these tests is a `line` of one digit.
    let line = |uri: &[u8]| uri.last().copied().filter(|last| b"12".contains(last));
    (domain, aor) == (kept.domain, kept.aor)
        && match by {
            Matching::Uri => uri == kept.uri,
            Matching::UriAndCallid => (uri, callid) == (kept.uri, kept.callid),
            Matching::Params(_) => {
                line(uri).is_none() || line(kept.uri).is_none() || line(uri) == line(kept.uri)
            }
        }
}

fn updated(kept: &Dialog<'static>, said: &Dialog<'static>) -> Dialog<'static> {
    let mut new = *kept;
    new.state = said.state;
    new.cseqs = said.cseqs;
    new.contacts = said.contacts;
    new.sdp = said.sdp;
    if !said.vars.is_empty() {
        new.vars = said.vars;
    }
    if !said.profiles.is_empty() {
        new.profiles = said.profiles;
    }
    new.user_flags = said.user_flags;
    new.module_flags = said.module_flags;
    new.flags = said.flags;
    new.expires = said.expires;
    new.routes = said.routes;
    new
}

fn changed(kept: &Contact<'static>, said: &Contact<'static>, is_chunk: bool) -> Contact<'static> {
    let mut new = *said;
    if !(is_chunk && said.id.is_some()) && kept.id.is_some() {
        new.id = kept.id;
    }
    if !kept.instance.is_empty() {
        new.instance = kept.instance;
    }
    if said.kv.is_empty() {
        new.kv = kept.kv;
    }
    new
}

fn with_value(list: &'static [u8], name: &[u8], value: VarValue<'static>) -> &'static [u8] {
    let mut values: Vec<_> = vars::values(list).collect();
    match values.iter_mut().find(|(known, _)| *known == name) {
        Some(known) => known.1 = value,
        None => values.push((name, value)),
    }
    let mut list = Vec::new();
    for (name, value) in values {
        vars::push_value(&mut list, name, value);
    }
    list.leak()
}
