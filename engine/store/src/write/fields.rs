//! The fields of one record, one behind the other, as a release encodes them.

use binrush_wire::{Generation, Release};

use super::Unfit;
use crate::change::{Change, Named};
use crate::model::{Aor, Cached, Contact, Dialog, Matching, PipeCount, ProfileCount, VarValue};
use crate::read::rows::Layout;
use crate::read::{ContactFields, DialogFields, Sdp};
use crate::record::Record;
use crate::vars;

/// Fields under construction, behind what `out` held before.
#[derive(Debug)]
pub(super) struct Fields<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    release: Release,
    now: i64,
    /// The first string that was too long.
    too_long: Option<usize>,
}

impl<'o> Fields<'o> {
    pub(super) const fn new(out: &'o mut Vec<u8>, release: Release, now: i64) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            release,
            now,
            too_long: None,
        }
    }

    pub(super) fn int(&mut self, number: i32) {
        self.out.extend(number.to_le_bytes());
    }

    /// Puts what `layout` has of `record`.
    pub(super) fn record(&mut self, record: &Record<'_>, layout: &Layout) {
        match (record, *layout) {
            (Record::Dialog(dialog), Layout::Created(layout)) => self.dialog(dialog, layout),
            (Record::Aor(aor), Layout::AorInsert { labels, kv }) => self.aor(aor, labels, kv),
            (Record::Aor(aor), Layout::AorOrContact { kv, .. }) => self.aor(aor, true, kv),
            (Record::Contact(contact), Layout::ContactInsert(layout)) => {
                self.inserted(contact, layout, &Matching::Uri);
            }
            (
                Record::Contact(contact),
                Layout::AorOrContact {
                    contact: layout, ..
                },
            ) => {
                self.inserted(contact, layout, &Matching::UriAndCallid);
            }
            (Record::Cached(cached), Layout::CacheInsert) => self.cached(cached),
            (Record::Profile(count, _), Layout::Profiles) => self.profile(count),
            (Record::Pipe(count, _), Layout::Pipes { flags }) => self.pipe(count, flags),
            (record, layout) => unreachable!("{:?} by {layout:?}", record.kind()),
        }
    }

    /// Puts what `layout` has of `change`.
    pub(super) fn change(&mut self, change: &Change<'_>, layout: &Layout) {
        match (change, *layout) {
            (Change::DialogCreated(dialog), Layout::Created(layout))
            | (Change::DialogUpdated(dialog), Layout::Updated(layout)) => {
                self.dialog(dialog, layout);
            }
            (Change::DialogDeleted(dialog), Layout::Gone { by_id }) => self.named(dialog, by_id),
            (Change::DialogCseq { dialog, cseq }, Layout::Cseq { by_id }) => {
                self.named(dialog, by_id);
                self.int(*cseq);
            }
            (
                Change::DialogValue {
                    dialog,
                    name,
                    value,
                },
                Layout::Value,
            ) => self.value(dialog, name, *value),
            (Change::AorInserted(aor), Layout::AorInsert { labels, kv }) => {
                self.aor(aor, labels, kv);
            }
            (Change::AorDeleted(domain, aor), Layout::AorDelete) => self.strs(&[domain, aor]),
            (Change::ContactInserted(contact, matching), Layout::ContactInsert(layout)) => {
                self.inserted(contact, layout, matching);
            }
            (Change::ContactUpdated(contact, matching), Layout::ContactUpdate(layout)) => {
                self.updated(contact, layout, matching);
            }
            (
                Change::ContactDeleted {
                    domain,
                    aor,
                    uri,
                    callid,
                    cseq,
                    matching,
                },
                Layout::ContactDelete { matching: said },
            ) => {
                self.strs(&[domain, aor, uri, callid]);
                self.int(*cseq);
                self.matching(said, matching);
            }
            (Change::Profiles(counts), Layout::Profiles) => {
                counts.iter().for_each(|count| self.profile(count));
            }
            (Change::Pipes(counts), Layout::Pipes { flags }) => {
                counts.iter().for_each(|count| self.pipe(count, flags));
            }
            (Change::CacheInserted(cached), Layout::CacheInsert) => self.cached(cached),
            (Change::CacheRemoved(collection, key), Layout::CacheRemove) => {
                self.strs(&[collection, key]);
            }
            (change, layout) => unreachable!("{:?} by {layout:?}", change.kind()),
        }
    }

    /// # Errors
    /// [`Unfit::TooLong`]: nothing of the record is left.
    pub(super) fn finish(self) -> Result<(), Unfit> {
        let Some(len) = self.too_long else {
            return Ok(());
        };
        self.out.truncate(self.start);
        Err(Unfit::TooLong {
            len,
            max: longest(self.release.generation()),
        })
    }

    fn dialog(&mut self, dialog: &Dialog<'_>, layout: DialogFields) {
        self.str(dialog.callid);
        self.strs(&dialog.tags);
        self.strs(&dialog.uris);
        self.int(dialog.h_id);
        self.int(dialog.start);
        self.int(dialog.state);
        for pair in [
            dialog.sockets,
            dialog.cseqs,
            dialog.route_sets,
            dialog.contacts,
            dialog.mangled,
        ] {
            self.strs(&pair);
        }
        match layout.sdp {
            Sdp::None => {}
            Sdp::Advertised => self.strs(&[dialog.sdp[1], dialog.sdp[3]]),
            Sdp::Both => {
                self.strs(&dialog.sdp);
                self.strs(&dialog.advertised);
            }
        }
        let release = self.release;
        self.str_by(|out| vars::write_values(dialog.vars, release, out));
        self.str_by(|out| vars::write_profiles(dialog.profiles, release, out));
        self.int(dialog.user_flags);
        if layout.module_flags {
            self.int(dialog.module_flags);
        }
        // A receiver of 2.4 or later would take a dialog for one from its database, and drop it after its next sync.
        let from_database = if self.release >= Release::V2_4 {
            FROM_DB
        } else {
            0
        };
        self.int(dialog.flags & !from_database);
        self.int(dialog.expires);
        for cseq in dialog.last_cseqs {
            self.int(cseq);
        }
        if layout.routes {
            self.strs(&dialog.routes);
        }
    }

    fn aor(&mut self, aor: &Aor<'_>, labels: bool, kv: bool) {
        self.strs(&[aor.domain, aor.aor]);
        if labels {
            let (record, contact) = aor.labels.unwrap_or_default();
            self.int(record);
            self.int(contact);
        }
        if kv {
            self.str(aor.kv);
        }
    }

    fn named(&mut self, dialog: &Named<'_>, by_id: bool) {
        self.str(dialog.callid);
        self.strs(&dialog.tags.unwrap_or_default());
        if by_id {
            self.int(dialog.h_id.unwrap_or_default());
        }
    }

    fn value(&mut self, dialog: &Named<'_>, name: &[u8], value: VarValue<'_>) {
        self.str(dialog.callid);
        self.int(dialog.h_id.unwrap_or_default());
        self.str(name);
        match value {
            VarValue::Gone => self.int(0),
            VarValue::Str(text) => {
                self.int(1);
                self.str(text);
            }
            VarValue::Int(number) => {
                self.int(2);
                self.int(number);
            }
        }
    }

    /// Its id stands behind the URI.
    fn inserted(&mut self, contact: &Contact<'_>, layout: ContactFields, matching: &Matching<'_>) {
        self.strs(&[contact.domain, contact.aor, contact.uri]);
        self.id(contact, layout);
        self.common(contact, layout);
        if layout.kv {
            self.str(contact.kv);
        }
        self.matching(layout.matching, matching);
    }

    /// Its id stands behind `kv`.
    fn updated(&mut self, contact: &Contact<'_>, layout: ContactFields, matching: &Matching<'_>) {
        self.strs(&[contact.domain, contact.aor, contact.uri]);
        self.common(contact, layout);
        if layout.kv {
            self.str(contact.kv);
        }
        self.id(contact, layout);
        self.matching(layout.matching, matching);
    }

    fn id(&mut self, contact: &Contact<'_>, layout: ContactFields) {
        if layout.id {
            self.str(&contact.id.unwrap_or_default().to_le_bytes());
        }
    }

    fn common(&mut self, contact: &Contact<'_>, layout: ContactFields) {
        self.strs(&[
            contact.callid,
            contact.user_agent,
            contact.path,
            contact.attr,
            contact.received,
            contact.instance,
        ]);
        self.str(&contact.expires.to_le_bytes());
        self.str(&contact.q.to_le_bytes());
        self.str(contact.socket);
        self.int(contact.cseq);
        self.int(contact.flags);
        if layout.names {
            self.str(contact.cflag_names.unwrap_or_default());
        } else {
            self.int(contact.cflags);
        }
        self.int(contact.methods);
        self.str(&contact.modified.to_le_bytes());
    }

    /// A contact whose packet did not say is found as the receiver is configured: what genuine nodes send live unless a script
    /// says how, and in syncs never (3.6 `usrloc/ul_cluster.c`).
    fn matching(&mut self, said: bool, matching: &Matching<'_>) {
        if !said {
            return;
        }
        match matching {
            Matching::Uri => self.int(-1),
            Matching::UriAndCallid => self.int(1),
            Matching::Params(params) => {
                self.int(2);
                // A URI has a handful, and a packet that was read 64 at most.
                self.int(i32::try_from(params.len()).unwrap_or(i32::MAX));
                self.strs(params);
            }
        }
    }

    fn cached(&mut self, cached: &Cached<'_>) {
        self.strs(&[cached.collection, cached.key, cached.value]);
        let left = match cached.expires {
            0 => 0,
            // What is over goes a second later: 0 would be never.
            at => at.saturating_sub(self.now).max(1),
        };
        self.int(i32::try_from(left).unwrap_or(i32::MAX));
    }

    fn profile(&mut self, count: &ProfileCount<'_>) {
        self.str(count.profile);
        self.int(count.value.is_some().into());
        if let Some(value) = count.value {
            self.str(value);
        }
        self.int(count.count);
    }

    fn pipe(&mut self, count: &PipeCount<'_>, flags: bool) {
        self.str(count.pipe);
        if flags {
            self.int(count.flags);
        }
        self.int(count.algorithm);
        self.int(count.limit);
        self.int(count.counter);
    }

    fn strs(&mut self, strings: &[&[u8]]) {
        strings.iter().for_each(|bytes| self.str(bytes));
    }

    fn str(&mut self, bytes: &[u8]) {
        self.str_by(|out| out.extend_from_slice(bytes));
    }

    /// Puts the string that `write` appends.
    fn str_by(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let generation = self.release.generation();
        let width = generation.length_width();
        let at = self.out.len();
        self.out.resize(at + width, 0);
        write(self.out);
        let len = self.out.len() - at - width;
        if len > longest(generation) {
            self.too_long = self.too_long.or(Some(len));
        }
        let len = (len as u64).to_le_bytes();
        self.out[at..at + width].copy_from_slice(&len[..width]);
    }
}

/// What a length field can say.
const fn longest(generation: Generation) -> usize {
    match generation {
        Generation::Legacy | Generation::Transitional => i32::MAX as usize,
        Generation::Modern => u16::MAX as usize,
    }
}

/// `DLG_FLAG_FROM_DB` since 2.4, `DLG_FLAG_TOPHIDING` before (`dialog/dlg_hash.h`).
const FROM_DB: i32 = 1 << 7;
