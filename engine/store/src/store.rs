//! The records of one family on one shard: what packets do to them, when they expire, what a sync confirms.
//!
//! | family | records | found by | expire |
//! |---|---|---|---|
//! | [`Dialogs`](Family::Dialogs) | dialogs | Call-ID, then `h_id` or tags | at `expires`; provisional ones after [`Limits::provisional`] at the earliest |
//! | [`Usrloc`](Family::Usrloc) | AoRs and their contacts | domain and AoR, then as the packet says | contacts at `expires`, an empty AoR after [`Limits::linger`] |
//! | [`Cache`](Family::Cache) | entries | collection and key | at `expires` |
//! | [`Profiles`](Family::Profiles), [`Pipes`](Family::Pipes) | counts of nodes | profile and value, or pipe; then node | [`Limits::counts_expire`] after they were heard |
//!
//! ```text
//!   Change ─▶ apply ─┬─▶ rules: dialogs, usrloc, cache, counts ─▶ Table: packed records at places ─▶ Effects: put, gone
//!   time ──▶ expire ─┘                                              │  index, interner, timer wheel
//!                                                                   └─ walk ─▶ flat records
//! ```
//!
//! Who applies packets is one thread; everything is a function of what it is given. A record has a place, a number that stays
//! with it as long as it lives and is used again afterwards: the log speaks of places, and a walk goes over them.

use std::fmt;

use crate::change::Change;
use crate::effects::{Effects, News};
use crate::flat::{FlatError, Kind, Status};
use crate::record::Record;
use table::{Found, RECORD_BYTES, Replaced, Table};
use wheel::{NEVER, Step};

/// Entries of key-value stores.
mod cache;
/// Counts of nodes: profiles and pipes.
mod counts;
/// Dialogs.
mod dialogs;
/// Numbers by hash.
mod index;
/// Strings that many records have.
mod interner;
/// Records with their repeats taken out.
mod pack;
/// A vector that never moves.
mod paged;
/// Syncs: what was confirmed, and what goes.
mod sync;
/// Packed records at places.
mod table;
/// AoRs and contacts.
mod usrloc;
/// Walks, restarts, questions.
mod walk;
/// Deadlines.
mod wheel;

pub use sync::Ended;
pub use walk::{Key, RestoreError};

/// The records of one family on one shard.
pub struct Store {
    family: Family,
    limits: Limits,
    table: Table,
    /// Number of the last sync that began, 0 before the first.
    sync: u32,
    /// When it did, in ticks.
    begun: u32,
    scratch: Scratch,
    /// The record that was removed last, if anybody wanted to know.
    removed: Vec<u8>,
}

/// Which records a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Dialogs.
    Dialogs,
    /// AoRs and their contacts.
    Usrloc,
    /// Entries of key-value stores.
    Cache,
    /// Counts of dialog profiles.
    Profiles,
    /// Rate-limit pipes.
    Pipes,
}

/// What a store may take, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records. At the limit new ones are refused; those that are there are changed and removed as ever.
    pub records: u32,
    /// Bytes, as [`Store::bytes`] counts them; likewise for new records, and for changes that would make one longer by more than
    /// numbers do: by some bytes they go on, because a contact that is refreshed must not expire for want of one.
    pub bytes: usize,
    /// Records of one key, which are looked through one by one: contacts of an AoR, dialogs of a Call-ID, nodes of a count.
    pub per_key: u32,
    /// Seconds that an AoR without contacts stays. (Genuine nodes sweep them away every `timer_interval`, 60 s: 1.11, 2.4 and
    /// 3.6 `modules/usrloc/udomain.c`, `mem_timer_udomain`.)
    pub linger: u32,
    /// Seconds that a provisional dialog stays at the least after the last packet about it. (A 1.11 maker has not set the timer
    /// of a call that rings, and says that it expires when the maker was started: 1.11 `modules/dialog/dlg_replication.c`,
    /// `replicate_dialog_updated`.)
    pub provisional: u32,
    /// Seconds after which a count that is not heard again is gone. (`replicate_profiles_expire` and
    /// `repl_timer_expire`, 10 s: 2.4 and 3.6 `modules/dialog/dlg_repl_profile.h`, `modules/ratelimit/ratelimit.c`.)
    pub counts_expire: u32,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Seconds since 1970.
    pub unix: i64,
    /// When the packet arrived, in tenths of seconds by a clock that is never set; 0: a donor gave this record in a sync.
    pub tick: u32,
}

/// What became of a change. Of a packet with several counts: the worst refusal, or the most that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// A record was made.
    Created,
    /// A record was changed.
    Updated,
    /// Records were removed.
    Removed,
    /// Nothing had to be done.
    Nothing(Why),
    /// Something should have been done and was not.
    Refused(Why),
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The record is there, and says the same or newer.
    AlreadyThere,
    /// There is no such record.
    Unknown,
    /// The contact was registered with a higher CSeq already.
    OlderCseq,
    /// There are as many records or bytes as there may be.
    NoRoom,
    /// The record would be longer than [`RECORD_BYTES_MAX`].
    TooLong,
    /// There are as many records of this key as there may be.
    TooMany,
    /// The AoR is empty: no genuine node takes it.
    EmptyAor,
    /// The change is about records of another family.
    OtherFamily,
}

/// Bytes of memory that a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Of records and of strings that they share, with what is kept beside each: what [`Limits::bytes`] limits.
    pub counted: usize,
    /// Strings that records share; 0 when there are no records.
    pub strings: usize,
    /// Of pages and tables, with what they have in reserve: a part of the counted bytes, and what is free.
    pub tables: usize,
}

/// What is written before it is kept; taken along so that a packet allocates nothing.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    new: Vec<u8>,
    /// The AoR that a new contact brings along.
    aor: Vec<u8>,
    list: Vec<u8>,
}

/// One change, and who hears of what it does.
struct Turn<'e, E: Effects + ?Sized> {
    now: Now,
    node: i32,
    status: Status,
    effects: &'e mut E,
}

impl Store {
    /// An empty one.
    #[must_use]
    pub fn new(family: Family, limits: Limits) -> Self {
        Self {
            family,
            limits,
            table: Table::new(family.key_fields()),
            sync: 0,
            begun: 0,
            scratch: Scratch::default(),
            removed: Vec::new(),
        }
    }

    /// Applies what a packet or a chunk of node `from` says; 0: the node is not known.
    ///
    /// Marks what the change speaks of as confirmed, whether it changes anything or not.
    pub fn apply(
        &mut self,
        now: Now,
        change: &Change<'_>,
        from: i32,
        effects: &mut (impl Effects + ?Sized),
    ) -> Applied {
        self.apply_as(now, change, from, Status::default(), effects)
    }

    /// As [`apply`](Self::apply), of a record whose sockets have `status`: [`Status::NO_SOCKET`], where a genuine node would
    /// refuse them. An update that leaves the sockets alone leaves that alone, too.
    pub fn apply_as(
        &mut self,
        now: Now,
        change: &Change<'_>,
        from: i32,
        status: Status,
        effects: &mut (impl Effects + ?Sized),
    ) -> Applied {
        self.table.start(seconds(now.unix));
        let mut turn = Turn {
            now,
            node: from,
            status,
            effects,
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let applied = self.apply_turn(&mut turn, &mut scratch, change);
        self.scratch = scratch;
        applied
    }

    fn apply_turn<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        change: &Change<'_>,
    ) -> Applied {
        if Family::of_change(change) != self.family {
            return Applied::Refused(Why::OtherFamily);
        }
        match change {
            Change::DialogCreated(said) => self.dialog_created(turn, scratch, said),
            Change::DialogUpdated(said) => self.dialog_updated(turn, scratch, said),
            Change::DialogDeleted(named) => self.dialog_deleted(turn, scratch, named),
            Change::DialogCseq { dialog, cseq } => self.dialog_cseq(turn, scratch, dialog, *cseq),
            Change::DialogValue {
                dialog,
                name,
                value,
            } => self.dialog_value(turn, scratch, dialog, name, *value),
            Change::AorInserted(said) => self.aor_inserted(turn, scratch, said),
            Change::AorDeleted(domain, aor) => self.aor_deleted(turn, scratch, domain, aor),
            Change::ContactInserted(said, by) => self.contact_said(turn, scratch, said, by, true),
            Change::ContactUpdated(said, by) => self.contact_said(turn, scratch, said, by, false),
            Change::ContactDeleted {
                domain,
                aor,
                uri,
                callid,
                cseq,
                matching,
            } => {
                let said = usrloc::Said {
                    uri,
                    callid,
                    cseq: *cseq,
                };
                self.contact_deleted(turn, scratch, (domain, aor), &said, matching)
            }
            Change::Profiles(counts) => self.profiles(turn, scratch, counts),
            Change::Pipes(counts) => self.pipes(turn, scratch, counts),
            Change::CacheInserted(said) => self.cache_inserted(turn, scratch, said),
            Change::CacheRemoved(collection, key) => {
                self.cache_removed(turn, scratch, collection, key)
            }
        }
    }

    /// Removes what is due at `now`, in seconds since 1970, in at most `budget` steps of about the cost of a packet each. How
    /// many records went, and whether more is to be done now.
    ///
    /// Time never goes back here: who is told an earlier one than before, such as that of a packet that waited, does nothing. A clock
    /// that was set back is told by [`set_back`](Self::set_back).
    pub fn expire(
        &mut self,
        now: i64,
        budget: usize,
        effects: &mut (impl Effects + ?Sized),
    ) -> (u64, bool) {
        let mut expired = 0;
        for _ in 0..budget {
            match self.table.step(seconds(now)) {
                Step::Due(place) => expired += u64::from(self.is_due(place, now, effects)),
                Step::Moved => {}
                Step::Unsorted(place) => {
                    let due = self.due_again(place, now);
                    self.table.note(place, due);
                    self.table.arm_again(place);
                }
                Step::Done => return (expired, false),
            }
        }
        (expired, true)
    }

    /// The clock was set, and it is `now`, in seconds since 1970: if that is earlier than what [`expire`](Self::expire) came to, all
    /// deadlines are sorted in again, one with each of its steps. What a record says counts then by the new time, and what was to stay
    /// for some time from a moment that is not yet stays for that long from now. Whether that was so.
    pub fn set_back(&mut self, now: i64) -> bool {
        // A clock that waits for a second does as well.
        let is_back = self.table.at() > seconds(now) + 1;
        if is_back {
            self.table.go_back(seconds(now));
        }
        is_back
    }

    /// When the record at `place` is due, now that time went back to `now`.
    fn due_again(&self, place: u32, now: i64) -> u32 {
        let due = self.table.deadline(place);
        let for_seconds = |stays: u32| seconds(now.saturating_add(stays.into()));
        match self.table.kind(place) {
            Some(Kind::Aor) => due.min(for_seconds(self.limits.linger)),
            Some(Kind::Profile | Kind::Pipe) => due.min(for_seconds(self.limits.counts_expire)),
            Some(Kind::Dialog) if self.table.status(place).has(Status::PROVISIONAL) => {
                match self.table.record(place) {
                    Record::Dialog(dialog) => {
                        self.dialog_due(&dialog, self.table.status(place), now)
                    }
                    _ => due,
                }
            }
            _ => due,
        }
    }

    fn is_due(&mut self, place: u32, now: i64, effects: &mut (impl Effects + ?Sized)) -> bool {
        match self.table.kind(place) {
            None => return false,
            Some(Kind::Contact) => self.remove_contact(place, Found::default(), now, effects),
            Some(Kind::Aor) if self.contacts_at(place).next().is_some() => return false,
            Some(_) => _ = self.remove(place, Found::default(), effects),
        }
        true
    }

    /// Records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that records take, with what is kept beside them: about what the process grows by.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Which records it has.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// What it may take.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Other limits. What is there stays.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What it takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            counted: self.table.bytes(),
            strings: self.table.strings.len(),
            tables: self.table.memory(),
        }
    }

    /// Looks for a key.
    fn look(&self, key: &Key<'_>, scratch: &mut Scratch) -> Found {
        scratch.key.clear();
        match key.pack(&self.table.strings, &mut scratch.key) {
            true => self.table.find(&scratch.key),
            false => Found::default(),
        }
    }

    /// Whether the record in `flat` may come, which makes so many with those that it brings along, of so many bytes `beside`; and one
    /// more of a key that has `of_key`.
    fn room(
        &self,
        flat: &[u8],
        (records, beside): (usize, usize),
        of_key: usize,
    ) -> Result<(), Applied> {
        if flat.len() > RECORD_BYTES_MAX {
            return Err(Applied::Refused(Why::TooLong));
        }
        let bytes = flat.len() + beside;
        let bytes = self.bytes() + bytes + records * RECORD_BYTES;
        if self.len() + records > self.limits.records as usize || bytes > self.limits.bytes {
            return Err(Applied::Refused(Why::NoRoom));
        }
        if of_key >= self.limits.per_key as usize {
            return Err(Applied::Refused(Why::TooMany));
        }
        Ok(())
    }

    /// Adds the record in `flat` to those of the key that was `found`; it is due at `deadline`.
    fn create<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        found: Found,
        flat: &[u8],
        deadline: u32,
    ) -> u32 {
        let place = self.table.add(found, flat, false).expect(WRITTEN_HERE);
        self.table.arm(place, deadline);
        self.mark(place, turn.now.tick);
        turn.effects.put(place, flat);
        if turn.effects.wants_news() {
            turn.effects.news(News::Created(flat));
        }
        place
    }

    /// Puts the record in `flat` in place of that at `place`; it is due at `deadline`.
    fn change<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        place: u32,
        flat: &[u8],
        deadline: u32,
    ) -> Applied {
        self.mark(place, turn.now.tick);
        if flat.len() > RECORD_BYTES_MAX {
            return Applied::Refused(Why::TooLong);
        }
        let replaced = self.table.replace(place, flat, self.limits.bytes);
        match replaced.expect(WRITTEN_HERE) {
            Replaced::Another => {}
            Replaced::Same => return Applied::Nothing(Why::AlreadyThere),
            Replaced::NoRoom => return Applied::Refused(Why::NoRoom),
        }
        self.table.arm(place, deadline);
        turn.effects.put(place, flat);
        if turn.effects.wants_news() {
            turn.effects.news(News::Changed(flat));
        }
        Applied::Updated
    }

    /// Removes a record of the key that was `found`; says which is the first one of it now.
    fn remove(
        &mut self,
        place: u32,
        found: Found,
        effects: &mut (impl Effects + ?Sized),
    ) -> Option<u32> {
        let wants_news = effects.wants_news();
        if wants_news {
            self.removed.clear();
            self.table.unpack(place, &mut self.removed);
        }
        let head = self.table.remove(place, found);
        effects.gone(place);
        if wants_news {
            effects.news(News::Removed(&self.removed));
        }
        head
    }
}

impl Scratch {
    /// Writes the record that is to come.
    fn write(&mut self, record: &Record<'_>, status: Status) {
        self.new.clear();
        record.write(status, &mut self.new);
    }

    /// The status of the record that is to come.
    fn new_status(&self) -> Status {
        pack::status(&self.new)
    }
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Dialogs,
        Self::Usrloc,
        Self::Cache,
        Self::Profiles,
        Self::Pipes,
    ];

    /// The family of a kind of record.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Dialog => Self::Dialogs,
            Kind::Aor | Kind::Contact => Self::Usrloc,
            Kind::Cached => Self::Cache,
            Kind::Profile => Self::Profiles,
            Kind::Pipe => Self::Pipes,
        }
    }

    /// The family that a change is about.
    #[must_use]
    pub const fn of_change(change: &Change<'_>) -> Self {
        match change {
            Change::DialogCreated(_)
            | Change::DialogUpdated(_)
            | Change::DialogDeleted(_)
            | Change::DialogCseq { .. }
            | Change::DialogValue { .. } => Self::Dialogs,
            Change::AorInserted(_)
            | Change::AorDeleted(..)
            | Change::ContactInserted(..)
            | Change::ContactUpdated(..)
            | Change::ContactDeleted { .. } => Self::Usrloc,
            Change::Profiles(_) => Self::Profiles,
            Change::Pipes(_) => Self::Pipes,
            Change::CacheInserted(_) | Change::CacheRemoved(..) => Self::Cache,
        }
    }

    /// How many of the first fields of its records their key is.
    const fn key_fields(self) -> usize {
        match self {
            Self::Dialogs | Self::Pipes => 1,
            Self::Usrloc | Self::Cache => 2,
            Self::Profiles => 3,
        }
    }
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AlreadyThere,
        Self::Unknown,
        Self::OlderCseq,
        Self::NoRoom,
        Self::TooLong,
        Self::TooMany,
        Self::EmptyAor,
        Self::OtherFamily,
    ];

    /// Its name, for a counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlreadyThere => "already_there",
            Self::Unknown => "unknown",
            Self::OlderCseq => "older_cseq",
            Self::NoRoom => "no_room",
            Self::TooLong => "too_long",
            Self::TooMany => "too_many",
            Self::EmptyAor => "empty_aor",
            Self::OtherFamily => "other_family",
        }
    }
}

impl Applied {
    /// What to say of two changes that came in one packet.
    fn and(self, other: Self) -> Self {
        let rank = |applied: &Self| match applied {
            Self::Refused(_) => 4,
            Self::Created => 3,
            Self::Updated => 2,
            Self::Removed => 1,
            Self::Nothing(_) => 0,
        };
        std::cmp::max_by_key(other, self, rank)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 16 << 20,
            bytes: 8 << 30,
            per_key: 1024,
            linger: 60,
            provisional: 300,
            counts_expire: 10,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("family", &self.family)
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// A time as the wheel counts it. What lies outside of its centuries is at their ends.
fn seconds(unix: i64) -> u32 {
    u32::try_from(unix.max(1)).unwrap_or(u32::MAX - 1)
}

/// When a record that expires at `unix` is due; 0: never.
fn deadline(unix: i64) -> u32 {
    match unix {
        0 => NEVER,
        unix => seconds(unix),
    }
}

/// Bytes that a record has at most, flat: as much as a packet, so that each has its place in a journal's ring, and in a slice of a
/// walk. What would be longer, such as a dialog whose values grow with every packet, is refused.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

const WRITTEN_HERE: &str = "the record was written by this crate";

#[cfg(test)]
mod tests;
