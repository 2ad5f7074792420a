//! What packets do to dialogs.
//!
//! | packet | no such dialog | provisional | there |
//! |---|---|---|---|
//! | CREATED | made | replaced whole | nothing; from a donor: replaced whole |
//! | UPDATED | made, provisional | replaced whole, provisional | see below |
//! | CSEQ, VALUE | nothing | changed | changed |
//! | DELETED | nothing | removed | removed |
//!
//! UPDATED leaves tags, From and To URI, start, sockets, route sets, mangled URIs, advertised contacts and the last generated
//! CSeqs as they are, takes values and profiles where it has some, and all else. (OpenSIPS `modules/dialog/dlg_replication.c`,
//! `dlg_replicated_update`: 3.6, and 2.4 as far as it has the fields; 1.11 to 2.3 leave the legs' contacts alone, too, which
//! their makers change no more than they do.) A genuine node adds the values that a packet has to those it knows; a maker
//! writes all it has, so here the packet's list replaces the kept one, and what the maker dropped is gone.
//!
//! Provisional: 1.11 sends an UPDATED before the CREATED of every call, with the callee's socket empty, which genuine receivers
//! refuse (1.11 `dlg_replicated_create`, behind `dlg_replicated_update`). It expires in the past, so a provisional dialog stays
//! for [`Limits::provisional`](super::Limits::provisional) at the least.
//!
//! A donor's record replaces what is here, where a genuine node would keep its own: a sync is asked for when packets may have
//! been lost, and has to repair that.
//!
//! A dialog is the one of its Call-ID with the same `h_id` and the same caller's tag: an `h_id` never changes and is unique for
//! a maker's Call-ID, in every release. (3.1 and later look up Call-ID and `h_id`: `lookup_dlg_unsafe`. Before, they looked up
//! tags, and knew one of two dialogs of a call that came through its maker twice.) DELETED and CSEQ before 3.1 say tags only, in
//! either direction (`match_dialog` in `dlg_hash.h`).

use super::pack::Packed;
use super::table::{Found, Slot};
use super::{Applied, Key, Scratch, Store, Turn, Why, deadline, seconds};
use crate::change::Named;
use crate::effects::Effects;
use crate::flat::Status;
use crate::model::{Dialog, VarValue};
use crate::record::Record;
use crate::vars;

/// What tells a dialog from others of its Call-ID.
struct Brief<'a> {
    tags: [&'a [u8]; 2],
    h_id: i64,
}

impl Store {
    pub(super) fn dialog_created<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Dialog<'_>,
    ) -> Applied {
        let (found, there) = self.same_dialog(scratch, said);
        let Some(place) = there else {
            return self.add_dialog(turn, scratch, said, turn.status, found);
        };
        let is_chunk = turn.now.tick == 0;
        if !is_chunk && !self.table.status(place).has(Status::PROVISIONAL) {
            self.mark(place, turn.now.tick);
            return Applied::Nothing(Why::AlreadyThere);
        }
        scratch.write(&Record::Dialog(*said), turn.status);
        let due = self.dialog_due(said, scratch.new_status(), turn.now.unix);
        self.change(turn, place, &scratch.new, due)
    }

    pub(super) fn dialog_updated<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Dialog<'_>,
    ) -> Applied {
        let provisional = turn.status.with(Status::PROVISIONAL);
        let (found, there) = self.same_dialog(scratch, said);
        let Some(place) = there else {
            return self.add_dialog(turn, scratch, said, provisional, found);
        };
        let status = self.table.status(place);
        if status.has(Status::PROVISIONAL) {
            scratch.write(&Record::Dialog(*said), provisional);
        } else {
            let dialog = updated(&self.dialog_at(place), said);
            scratch.write(&Record::Dialog(dialog), status);
        }
        let due = self.dialog_due(said, scratch.new_status(), turn.now.unix);
        self.change(turn, place, &scratch.new, due)
    }

    pub(super) fn dialog_deleted<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        named: &Named<'_>,
    ) -> Applied {
        let (found, Some(place)) = self.named_dialog(scratch, named) else {
            return Applied::Nothing(Why::Unknown);
        };
        self.remove(place, found, turn.effects);
        Applied::Removed
    }

    /// `named` has the tag of the other leg first, then that of the leg.
    pub(super) fn dialog_cseq<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        named: &Named<'_>,
        cseq: i32,
    ) -> Applied {
        let Some([other, own]) = named.tags else {
            return Applied::Nothing(Why::Unknown);
        };
        self.amend_dialog(turn, scratch, named, |dialog, _| {
            let leg = match dialog.tags {
                tags if tags == [other, own] => 1,
                tags if tags == [own, other] => 0,
                _ => return false,
            };
            dialog.last_cseqs[leg] = cseq;
            true
        })
    }

    pub(super) fn dialog_value<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        named: &Named<'_>,
        name: &[u8],
        value: VarValue<'_>,
    ) -> Applied {
        self.amend_dialog(turn, scratch, named, |dialog, list| {
            vars::set(dialog.vars, name, value, list);
            dialog.vars = list;
            true
        })
    }

    /// Changes the dialog that is meant; `amend` says whether it was. The list is for `amend` to write.
    fn amend_dialog<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        named: &Named<'_>,
        amend: impl for<'d> FnOnce(&mut Dialog<'d>, &'d mut Vec<u8>) -> bool,
    ) -> Applied {
        let (_, Some(place)) = self.named_dialog(scratch, named) else {
            return Applied::Nothing(Why::Unknown);
        };
        let status = self.table.status(place);
        let Scratch { new, list, .. } = scratch;
        list.clear();
        let mut dialog = self.dialog_at(place);
        if !amend(&mut dialog, list) {
            return Applied::Nothing(Why::Unknown);
        }
        new.clear();
        Record::Dialog(dialog).write(status, new);
        let due = self.dialog_due(&dialog, status, turn.now.unix);
        self.change(turn, place, &scratch.new, due)
    }

    fn add_dialog<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Dialog<'_>,
        status: Status,
        found: Found,
    ) -> Applied {
        scratch.write(&Record::Dialog(*said), status);
        let of_key = self.table.chain(found.head).count();
        if let Err(refused) = self.room(&scratch.new, (1, 0), of_key) {
            return refused;
        }
        let due = self.dialog_due(said, status, turn.now.unix);
        self.create(turn, found, &scratch.new, due);
        Applied::Created
    }

    /// The dialog that CREATED and UPDATED mean, if it is among those of its Call-ID.
    fn same_dialog(&self, scratch: &mut Scratch, said: &Dialog<'_>) -> (Found, Option<u32>) {
        self.dialog_of(scratch, said.callid, |brief| {
            brief.h_id == said.h_id.into() && brief.tags[0] == said.tags[0]
        })
    }

    /// The dialog that other packets mean.
    fn named_dialog(&self, scratch: &mut Scratch, named: &Named<'_>) -> (Found, Option<u32>) {
        let is_meant = |brief: &Brief<'_>| match (named.h_id, named.tags) {
            (Some(h_id), _) => brief.h_id == h_id.into(),
            (None, Some([one, another])) => {
                brief.tags == [one, another] || brief.tags == [another, one]
            }
            (None, None) => false,
        };
        self.dialog_of(scratch, named.callid, is_meant)
    }

    /// When a dialog is given up. The wire's number has no sign.
    pub(super) fn dialog_due(&self, dialog: &Dialog<'_>, status: Status, now: i64) -> u32 {
        let due = deadline(dialog.expires.cast_unsigned().into());
        match status.has(Status::PROVISIONAL) {
            true => due.max(seconds(now.saturating_add(self.limits.provisional.into()))),
            false => due,
        }
    }

    /// Restored dialogs that are provisional have their time again: when a packet spoke of them last is not in the log.
    pub(super) fn rearm_provisional(&mut self, now: i64) {
        let least = seconds(now.saturating_add(self.limits.provisional.into()));
        for place in 0..self.table.places() {
            let is_it = |slot: &Slot| slot.status().has(Status::PROVISIONAL);
            if self.table.get(place).is_some_and(is_it) {
                let due = self.table.deadline(place);
                self.table.note(place, due.max(least));
            }
        }
    }

    fn dialog_at(&self, place: u32) -> Dialog<'_> {
        let Record::Dialog(dialog) = self.table.record(place) else {
            unreachable!("dialogs are among dialogs only");
        };
        dialog
    }

    /// The first of the dialogs with this Call-ID of which `is_it` says so.
    fn dialog_of(
        &self,
        scratch: &mut Scratch,
        callid: &[u8],
        is_it: impl Fn(&Brief<'_>) -> bool,
    ) -> (Found, Option<u32>) {
        let found = self.look(&Key::Dialog(callid), scratch);
        let mut dialogs = self.table.chain(found.head);
        let there = dialogs.find(|(_, packed)| is_it(&Brief::of(packed)));
        (found, there.map(|(place, _)| place))
    }
}

impl<'a> Brief<'a> {
    fn of(packed: &'a [u8]) -> Self {
        let mut fields = Packed::new(packed);
        fields.skip(1);
        let tags = [fields.str(), fields.str()];
        fields.skip(2);
        let h_id = fields.int();
        Self { tags, h_id }
    }
}

/// A dialog after UPDATED.
fn updated<'a>(kept: &Dialog<'a>, said: &Dialog<'a>) -> Dialog<'a> {
    let some = |said: &'a [u8], kept: &'a [u8]| if said.is_empty() { kept } else { said };
    Dialog {
        tags: kept.tags,
        uris: kept.uris,
        start: kept.start,
        sockets: kept.sockets,
        route_sets: kept.route_sets,
        mangled: kept.mangled,
        advertised: kept.advertised,
        last_cseqs: kept.last_cseqs,
        vars: some(said.vars, kept.vars),
        profiles: some(said.profiles, kept.profiles),
        ..*said
    }
}
