//! Records as rows, and why some have none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use binrush_store::model::{Dialog, VarValue};
use binrush_store::sockets::SocketSet;
use binrush_store::write::is_given;
use binrush_store::{Kind, Status, vars};

use super::ids::{ContactIds, DialogIds};
use super::layout::{Column, Dialect, Kept, Schema, Source, Table, Type};
use crate::state::dump::{Record, USER_FLAG_NAMES, Value};
use crate::state::typed;

/// What the target is, and how it is set up.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) schema: Schema,
    /// A database that takes no text that is longer than its column, if it is one; and what it takes.
    pub(super) strict: Option<Dialect>,
    /// `use_domain` of usrloc; `None`: yes, for each AoR that has a domain.
    pub(super) use_domain: Option<bool>,
    /// Those that it listens at, if somebody said so.
    pub(super) sockets: Option<SocketSet>,
    /// Names of the bits of a mask, from the lowest on.
    pub(super) branch_flags: Vec<String>,
    pub(super) dialog_flags: Vec<String>,
    /// What expires by then has expired.
    pub(super) now: i64,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'r> {
    Null,
    Number(i64),
    Float(f64),
    Text(Cow<'r, [u8]>),
    Blob(Vec<u8>),
    /// Seconds since 1970, where the column has a date and a time of day.
    Time(i64),
}

/// Makes rows, and remembers what it could not keep.
#[derive(Debug)]
pub(super) struct Rows {
    terms: Terms,
    contact_ids: ContactIds,
    dialog_ids: DialogIds,
    rows: i64,
    left_out: BTreeMap<Why, LeftOut>,
    lost: BTreeMap<Lost, u64>,
}

/// Records that have no row, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) count: u64,
    /// What names one of them.
    pub(super) first: String,
}

/// Why a record has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    Provisional,
    Unanswered,
    Over,
    Expired,
    NoSocket,
    OtherSocket,
    NoAor,
    NoUser,
    NoContact,
    NoCallid,
    TableName,
    Nul,
    NotUtf8,
    TooLong(&'static str),
    NoTable(Kind),
}

/// What a row does not say, although the record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    ContactSocket,
    BranchFlags,
    DialogFlags,
    AorStore,
}

impl Rows {
    /// For a node with so many `buckets` of dialogs.
    pub(super) fn new(terms: Terms, buckets: u32) -> Self {
        Self {
            terms,
            contact_ids: ContactIds::default(),
            dialog_ids: DialogIds::new(buckets),
            rows: 0,
            left_out: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// The row of a record, in the order of the table's columns, and the table: `None` where it has none, which is remembered.
    pub(super) fn row<'r>(&mut self, record: &'r Record) -> Option<(Table, Vec<Cell<'r>>)> {
        match self.checked(record) {
            Ok(row) => row,
            Err(why) => {
                let left_out = self.left_out.entry(why).or_insert_with(|| LeftOut {
                    count: 0,
                    first: name(record),
                });
                left_out.count += 1;
                None
            }
        }
    }

    /// What was left out.
    pub(super) fn left_out(&self) -> impl Iterator<Item = (Why, &LeftOut)> {
        self.left_out.iter().map(|(why, left_out)| (*why, left_out))
    }

    /// What rows do not say, in how many of them.
    pub(super) fn lost(&self) -> impl Iterator<Item = (Lost, u64)> {
        self.lost.iter().map(|(lost, count)| (*lost, *count))
    }

    /// Contacts and dialogs that have another id than before.
    pub(super) fn renewed(&self) -> [u64; 2] {
        [self.contact_ids.renewed, self.dialog_ids.renewed]
    }

    fn checked<'r>(&mut self, record: &'r Record) -> Result<Option<(Table, Vec<Cell<'r>>)>, Why> {
        let table = match record.kind {
            Kind::Contact => Table::Location,
            Kind::Dialog => Table::Dialog,
            Kind::Aor => {
                // Its contacts name it. What nodes of 3.6 keep with an AoR stands in their tables beside one of its contacts.
                let has_store = !text(record, "kv").is_empty();
                self.lose(Lost::AorStore, has_store);
                return Ok(None);
            }
            kind => return Err(Why::NoTable(kind)),
        };
        match table {
            Table::Dialog => self.check_dialog(record)?,
            _ => self.check_contact(record)?,
        }
        let columns = table.columns(self.terms.schema);
        let row = columns.map(|column| {
            let cell = self.cell(column, record)?;
            self.fits(column, &cell)?;
            Ok(cell)
        });
        let row = row.collect::<Result<Vec<_>, Why>>()?;
        Ok(Some((table, row)))
    }

    /// What usrloc loads: 1.10 to 4.0 `modules/usrloc/udomain.c`, `preload_udomain` and `dbrow2info`.
    fn check_contact(&mut self, record: &Record) -> Result<(), Why> {
        self.check_expiry(record)?;
        for (field, why) in [
            ("aor", Why::NoAor),
            ("contact", Why::NoContact),
            ("callid", Why::NoCallid),
        ] {
            if text(record, field).is_empty() {
                return Err(why);
            }
        }
        let name = text(record, "domain");
        if !is_table_name(name) {
            return Err(Why::TableName);
        }
        if let (user, Some(_)) = self.user_and_domain(record)
            && user.is_empty()
        {
            return Err(Why::NoUser);
        }
        let socket = text(record, "socket");
        let is_lost = !socket.is_empty() && !self.is_there(socket);
        self.lose(Lost::ContactSocket, is_lost);
        Ok(())
    }

    /// What a node writes when it writes out all it has: 3.6 `modules/dialog/dlg_db_handler.c`, `restore_dlg_db`; and what dialog loads: 1.10
    /// to 4.0, `load_dialog_info_from_db`.
    fn check_dialog(&self, record: &Record) -> Result<(), Why> {
        let state = number(record, "state").unwrap_or(0);
        if state == DELETED {
            return Err(Why::Over);
        }
        let dialog = binrush_store::Record::Dialog(Dialog {
            state: state.try_into().unwrap_or(0),
            sockets: ["caller_socket", "callee_socket"].map(|field| text(record, field)),
            ..Dialog::default()
        });
        match (
            is_given(&dialog, Status::default()),
            is_given(&dialog, record.status),
        ) {
            (false, _) => return Err(Why::Unanswered),
            (true, false) => return Err(Why::Provisional),
            (true, true) => {}
        }
        self.check_expiry(record)?;
        if text(record, "callid").is_empty() {
            return Err(Why::NoCallid);
        }
        for field in ["caller_socket", "callee_socket"] {
            match text(record, field) {
                b"" => return Err(Why::NoSocket),
                socket if !self.is_there(socket) => return Err(Why::OtherSocket),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_expiry(&self, record: &Record) -> Result<(), Why> {
        match number(record, "expires") {
            Some(at) if at != 0 && at <= self.terms.now => Err(Why::Expired),
            // A dialog that is given up at once.
            Some(0) if record.kind == Kind::Dialog => Err(Why::Expired),
            _ => Ok(()),
        }
    }

    fn is_there(&self, socket: &[u8]) -> bool {
        match &self.terms.sockets {
            None => true,
            Some(sockets) if self.terms.schema.knows_tags() => sockets.has(socket),
            Some(sockets) => sockets.has_address(socket),
        }
    }

    fn cell<'r>(&mut self, column: &Column, record: &'r Record) -> Result<Cell<'r>, Why> {
        let cell = match column.source {
            Source::Row => {
                self.rows += 1;
                Cell::Number(self.rows)
            }
            Source::ContactId => {
                let told = match record.get("contact_id") {
                    Some(Value::Id(id)) => Some(*id),
                    _ => None,
                };
                let (table, aor) = (text(record, "domain"), text(record, "aor"));
                Cell::Number(self.contact_ids.id(told, table, aor).cast_signed())
            }
            Source::DialogId => {
                let told = number(record, "h_id").and_then(|id| u32::try_from(id).ok());
                let id = self.dialog_ids.id(told, text(record, "callid"));
                Cell::Number(id.cast_signed())
            }
            Source::Username => Cell::text(self.user_and_domain(record).0),
            Source::Domain => match self.user_and_domain(record).1 {
                Some(domain) => Cell::text(domain),
                None => column.none(),
            },
            Source::Text(field) => match text(record, field) {
                b"" => column.none(),
                text => Cell::text(text),
            },
            Source::Number(field) => {
                let number = number(record, field).unwrap_or(0);
                match column.holds {
                    Type::DateTime => Cell::Time(number),
                    _ => self.number(column, number),
                }
            }
            Source::Q => Cell::Float(q(number(record, "q").unwrap_or(NO_Q))),
            Source::Methods => match number(record, "methods") {
                None | Some(ALL_METHODS) => Cell::Null,
                Some(methods) => self.number(column, methods),
            },
            Source::BranchFlags => self.branch_flags(record),
            Source::DialogNames => self.dialog_names(record),
            Source::DialogMask => {
                let mask = self.dialog_mask(record);
                self.number(column, mask)
            }
            Source::DialogFlags => {
                let flags = number(record, "flags").unwrap_or(0);
                self.number(column, flags & !self.terms.schema.process_flags())
            }
            Source::Vars => self.vars(column, record),
            Source::Profiles => self.profiles(column, record),
            Source::TableName | Source::TableVersion => unreachable!("no record is of `version`"),
        };
        Ok(cell)
    }

    /// A number of 32 bits, with a sign where its column has one.
    fn number(&self, column: &Column, number: i64) -> Cell<'static> {
        let is_signed = match column.holds {
            Type::Unsigned(_) => self.terms.strict == Some(Dialect::Postgres),
            _ => true,
        };
        let bits = u32::try_from(number & 0xffff_ffff).expect("that many bits");
        Cell::Number(match is_signed {
            true => bits.cast_signed().into(),
            false => bits.into(),
        })
    }

    /// The columns of an AoR: as 1.10 to 4.0 `modules/usrloc/ucontact.c`, `db_insert_ucontact`, cuts it.
    fn user_and_domain<'r>(&self, record: &'r Record) -> (&'r [u8], Option<&'r [u8]>) {
        let aor = text(record, "aor");
        let at = aor.iter().position(|byte| *byte == b'@');
        match (self.terms.use_domain, at) {
            (Some(false), _) | (None, None) => (aor, None),
            (Some(true), None) => (b"", Some(aor)),
            (_, Some(at)) => (&aor[..at], Some(&aor[at + 1..])),
        }
    }

    fn branch_flags<'r>(&mut self, record: &'r Record) -> Cell<'r> {
        match record.get("cflag_names").and_then(Value::bytes) {
            Some(b"") => Cell::Null,
            Some(names) => Cell::text(names),
            None => {
                let mask = number(record, "cflags").unwrap_or(0);
                let (names, is_whole) = names_of(mask, &self.terms.branch_flags);
                self.lose(Lost::BranchFlags, !is_whole);
                Cell::names(names)
            }
        }
    }

    fn dialog_names<'r>(&mut self, record: &'r Record) -> Cell<'r> {
        match record.get(USER_FLAG_NAMES).and_then(Value::bytes) {
            Some(b"") => Cell::Null,
            Some(names) => Cell::text(names),
            None => {
                let mask = number(record, "user_flags").unwrap_or(0);
                let (names, is_whole) = names_of(mask, &self.terms.dialog_flags);
                self.lose(Lost::DialogFlags, !is_whole);
                Cell::names(names)
            }
        }
    }

    fn dialog_mask(&mut self, record: &Record) -> i64 {
        if let Some(mask) = number(record, "user_flags") {
            return mask;
        }
        let names = text(record, USER_FLAG_NAMES).split(|byte| *byte == b' ');
        let (mut mask, mut is_whole) = (0, true);
        for name in names.filter(|name| !name.is_empty()) {
            let mut known = self.terms.dialog_flags.iter();
            let bit = known.position(|known| known.as_bytes() == name);
            is_whole &= bit.is_some();
            mask |= bit.map_or(0, |bit| 1 << bit);
        }
        self.lose(Lost::DialogFlags, !is_whole);
        mask
    }

    /// The variables, and what nodes keep among them, as the text of the release.
    fn vars(&self, column: &Column, record: &Record) -> Cell<'static> {
        let mut list = list(record, "vars");
        let flags = number(record, "flags").unwrap_or(0);
        for kept in Kept::of(self.terms.schema, flags) {
            let value = text(record, kept.field);
            if kept.is_always || !value.is_empty() {
                let mut with = Vec::new();
                let name = kept.variable.as_bytes();
                vars::set(&list, name, VarValue::Str(value), &mut with);
                list = with;
            }
        }
        let mut text = Vec::new();
        vars::write_values(&list, self.terms.schema.wire(), &mut text);
        column.pairs(text)
    }

    fn profiles(&self, column: &Column, record: &Record) -> Cell<'static> {
        let mut text = Vec::new();
        let list = list(record, "profiles");
        vars::write_profiles(&list, self.terms.schema.wire(), &mut text);
        column.pairs(text)
    }

    /// Whether the database takes this text, and the node reads all of it: to it a text ends at a NUL.
    fn fits(&self, column: &Column, cell: &Cell<'_>) -> Result<(), Why> {
        let Cell::Text(text) = cell else {
            return Ok(());
        };
        if text.contains(&0) {
            return Err(Why::Nul);
        }
        let Some(dialect) = self.terms.strict else {
            return Ok(());
        };
        let utf8 = str::from_utf8(text);
        if utf8.is_err() && dialect == Dialect::Postgres {
            return Err(Why::NotUtf8);
        }
        let len = utf8.map_or(text.len(), |text| text.chars().count());
        match column.holds {
            Type::Char(max) if len > usize::from(max) => Err(Why::TooLong(column.name)),
            _ => Ok(()),
        }
    }

    fn lose(&mut self, lost: Lost, is_lost: bool) {
        if is_lost {
            *self.lost.entry(lost).or_default() += 1;
        }
    }
}

impl Column {
    /// A text of pairs.
    fn pairs(&self, text: Vec<u8>) -> Cell<'static> {
        match self.holds {
            _ if text.is_empty() => Cell::Null,
            Type::Blob => Cell::Blob(text),
            _ => Cell::Text(text.into()),
        }
    }

    /// What stands in it for nothing.
    fn none(&self) -> Cell<'static> {
        match self.may_be_null() {
            true => Cell::Null,
            false => Cell::text(b""),
        }
    }
}

impl<'r> Cell<'r> {
    pub(super) const fn text(text: &'r [u8]) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    fn names(names: String) -> Self {
        match names.is_empty() {
            true => Self::Null,
            false => Self::Text(names.into_bytes().into()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Provisional => "only updates of it were heard, and they do not tell the whole",
            Self::Unanswered => "nobody has answered it, and nodes keep no such dialog",
            Self::Over => "it is over",
            Self::Expired => "it has expired",
            Self::NoSocket => "a leg names no socket, and nodes load no such dialog",
            Self::OtherSocket => {
                "the target has not both sockets, and loads no such dialog: see --socket-map"
            }
            Self::NoAor => "the AoR is empty",
            Self::NoUser => "the AoR has no user before its domain, and nodes load no such contact",
            Self::NoContact => "there is no URI, and nodes load no such contact",
            Self::NoCallid => "there is no Call-ID, and nodes do not load it",
            Self::TableName => "what usrloc calls its domain can be no name of a table here",
            Self::Nul => "a text has a NUL, where nodes take it to end",
            Self::NotUtf8 => "a text is not UTF-8, and PostgreSQL takes none",
            Self::TooLong(column) => {
                return write!(f, "it is too long for the column {column}");
            }
            Self::NoTable(_) => "no node keeps those in a database",
        };
        f.write_str(words)
    }
}

impl Lost {
    /// What it is that has lost it.
    pub(super) const fn whose(self) -> &'static str {
        match self {
            Self::ContactSocket | Self::BranchFlags => "contact",
            Self::DialogFlags => "dialog",
            Self::AorStore => "AoR",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ContactSocket => "the target lacks the socket, and loads it without one",
            Self::BranchFlags => {
                "branch flags are known by their bits alone, and not written: see --branch-flags"
            }
            Self::DialogFlags => {
                "flags are known by their bits or their names alone, and not written: see --dialog-flags"
            }
            Self::AorStore => "its own key-value store is not written",
        })
    }
}

/// The text of a field; empty where it is not told.
pub(super) fn text<'r>(record: &'r Record, field: &str) -> &'r [u8] {
    record.get(field).and_then(Value::bytes).unwrap_or_default()
}

/// Variables or profiles as the store's list.
fn list(record: &Record, field: &str) -> Vec<u8> {
    let mut list = Vec::new();
    if let Some(Value::Items(items)) = record.get(field) {
        // A number of more than 32 bits is one of no node, and none in our records.
        let _ = typed::put_items(&mut list, field, items);
    }
    list
}

fn number(record: &Record, field: &str) -> Option<i64> {
    match record.get(field) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

/// What names a record, for people.
fn name(record: &Record) -> String {
    let key = record.key(record.kind.key_len()).flatten();
    let key = key.filter_map(Value::bytes).filter(|text| !text.is_empty());
    let key: Vec<_> = key.map(|text| text.escape_ascii().to_string()).collect();
    key.join(" ")
}

/// Whether usrloc's domain of this name is a table of its own.
fn is_table_name(name: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let begins = name.first().is_some_and(|byte| !byte.is_ascii_digit());
    begins
        && name.len() <= NAME_MAX
        && name.iter().all(is_word)
        && !TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken))
}

/// The names of the bits of a mask, and whether all have one.
fn names_of(mask: i64, names: &[String]) -> (String, bool) {
    let bits = (0..32_usize).filter(|bit| mask >> bit & 1 != 0);
    let known: Vec<_> = bits.clone().filter_map(|bit| names.get(bit)).collect();
    let is_whole = known.len() == bits.count();
    let known: Vec<_> = known.into_iter().map(String::as_str).collect();
    (known.join(" "), is_whole)
}

/// What a node reads back as so many thousandths: it cuts off what is behind them. -1 is -1. (1.10 to 4.0 `qvalue.h`, `double2q`.)
#[expect(
    clippy::cast_precision_loss,
    reason = "thousandths from 0 to 1000, or whatever somebody sent in 32 bits"
)]
fn q(thousandths: i64) -> f64 {
    if thousandths == NO_Q {
        return -1.0;
    }
    let q = thousandths as f64 / 1000.0;
    match q * 1000.0 < thousandths as f64 {
        true => q.next_up(),
        false => q,
    }
}

/// Not said.
const NO_Q: i64 = -1;

/// A dialog that has ended. (1.10 to 4.0 `modules/dialog/dlg_hash.h`, `DLG_STATE_DELETED`.)
const DELETED: i64 = 5;

const ALL_METHODS: i64 = 0xffff_ffff;

/// The longest name of a table that all databases take.
const NAME_MAX: usize = 63;

/// Tables that are something else.
const TAKEN: [&[u8]; 2] = [b"dialog", b"version"];
