//! The records of one side, whoever wrote them down.
//!
//! ```text
//!   own dump ──────────────────────────┐
//!   genuine node: text of 1.x and 2.x ─┼──▶ Dump { records: fields by the names of the store's tables } ──▶ diff, show, summary
//!   genuine node: JSON-RPC of 3.x on ──┘
//! ```
//!
//! A field that a side does not tell of is `None`, and is compared with nothing: a genuine node shows no route names, and no socket
//! that is not its own.

use std::cmp::Ordering;
use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use binrush_store::flat::{self, FlatError};
use binrush_store::model::VarValue;
use binrush_store::vars::Scope;
use binrush_store::{Kind, Status, vars};
use flate2::read::MultiGzDecoder;

use super::{genuine, own};
use crate::text::Harmless;

/// What one side has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Dump {
    /// When it was written, in seconds since 1970.
    pub(crate) at: Option<i64>,
    /// The kinds it tells of: of these it has what it shows and nothing else.
    pub(crate) kinds: Vec<Kind>,
    /// In the order of the dump.
    pub(crate) records: Vec<Record>,
    /// Where records are kept apart from each other: of an engine. A record that has a table has one of these.
    pub(crate) tables: Vec<Table>,
    /// Expired contacts and ended dialogs that a genuine node had not thrown away yet: they are not among the records.
    pub(crate) over: u64,
    /// The variables of dialogs were escaped by a node that does not escape the escape: `\n` may be a line end or two characters.
    pub(crate) vars_guessed: bool,
}

/// Records that an engine keeps together: those of a capability of a cluster, or of a module of 1.x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: Arc<str>,
    pub(crate) kinds: Vec<Kind>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) table: Option<Arc<str>>,
    pub(crate) kind: Kind,
    pub(crate) status: Status,
    /// One for each of [`names`]; `None` where the side does not tell.
    pub(crate) fields: Vec<Option<Value>>,
    /// Of a genuine dialog that was forked: what the fields would be if the call were with another callee.
    pub(crate) other_legs: Vec<Leg>,
}

/// Fields of a callee, with their places.
pub(crate) type Leg = Vec<(usize, Option<Value>)>;

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Bytes, mostly text.
    Bytes(Vec<u8>),
    /// A number, or a time in seconds since 1970; 0: never.
    Int(i64),
    /// The id of a contact, as on the wire.
    Id(u64),
    /// A time, in seconds from the time of the dump, which is not known.
    Left(i64),
    /// Variables or profiles.
    Items(Vec<Item>),
}

/// A variable, or a profile.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) value: ItemValue,
    /// Of a profile, who shares it: never compared, because no genuine node shows it.
    pub(crate) scope: Scope,
}

/// What it is; empty where a profile has no values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ItemValue {
    Text(Vec<u8>),
    Number(i64),
}

impl Dump {
    /// Reads what a file holds: a dump of ours, or the reply of a genuine node to `ul_dump` or `dlg_list_ctx`, also gzipped. `at` is
    /// when it was written, for replies that count seconds from then.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub(crate) fn read(bytes: &[u8], at: Option<i64>) -> anyhow::Result<Self> {
        let mut plain = Vec::new();
        let bytes = if bytes.starts_with(&GZIP) {
            let mut decoder = MultiGzDecoder::new(bytes).take(LEN_MAX + 1);
            let read = decoder.read_to_end(&mut plain);
            read.context("the gzip stream is damaged or ends early")?;
            &plain[..]
        } else {
            bytes
        };
        if bytes.len() as u64 > LEN_MAX {
            bail!("more than {} GiB: dump one kind at a time", LEN_MAX >> 30);
        }
        let head = bytes.trim_ascii_start();
        if head.is_empty() {
            bail!("there is nothing in it: no dump of binrush, no reply of a node");
        }
        match head[0] {
            b'{' if own::begins(head) => own::read(head),
            b'{' => genuine::read_json(head, at),
            _ => genuine::read_text(bytes, at),
        }
    }

    /// Adds a table, which has no records yet.
    pub(crate) fn add_table(&mut self, name: &str, kinds: Vec<Kind>) {
        let new = Kind::ALL.into_iter();
        self.kinds = new
            .filter(|kind| self.kinds.contains(kind) || kinds.contains(kind))
            .collect();
        self.tables.push(Table {
            name: name.into(),
            kinds,
        });
    }

    /// Leaves only the tables that are `wanted`, if it has any of them.
    pub(crate) fn keep_tables(&mut self, wanted: &[String]) {
        let is_wanted = |table: &str| wanted.iter().any(|wanted| wanted == table);
        if !self.tables.iter().any(|table| is_wanted(&table.name)) {
            return;
        }
        self.tables.retain(|table| is_wanted(&table.name));
        let left = |record: &Record| record.table.as_deref().is_some_and(is_wanted);
        self.records.retain(left);
        self.kinds
            .retain(|kind| self.tables.iter().any(|table| table.kinds.contains(kind)));
    }

    /// The tables with records of a kind.
    pub(crate) fn tables_of(&self, kind: Kind) -> impl Iterator<Item = &Table> {
        let tables = self.tables.iter();
        tables.filter(move |table| table.kinds.contains(&kind))
    }

    /// How many records of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.of(kind).count()
    }

    /// The records of a kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |r| r.kind == kind)
    }
}

impl Record {
    /// A record that tells nothing yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            table: None,
            kind,
            status: Status::default(),
            fields: vec![None; names(kind).count()],
            other_legs: Vec::new(),
        }
    }

    /// What a record of the store says: as it stands in memory, in the log and in snapshots.
    ///
    /// # Errors
    /// Where the record is wrong.
    pub(crate) fn of_flat(flat: &[u8]) -> Result<Self, FlatError> {
        let mut reader = flat::Reader::new(flat)?;
        let mut record = Self::new(reader.kind);
        record.status = reader.status;
        while let Some((field, value)) = reader.field()? {
            let value = match (field.name, value) {
                // One more than on the wire, and 0 where there is none.
                ("contact_id", flat::Value::Int(0)) => continue,
                ("contact_id", flat::Value::Int(id)) => Value::Id(id.cast_unsigned() - 1),
                ("record_label" | "next_contact_label", flat::Value::Int(0)) => continue,
                ("record_label" | "next_contact_label", flat::Value::Int(label)) => {
                    Value::Int(label.saturating_sub(1))
                }
                // Names begin with a space; without one only the mask is known.
                ("cflag_names", flat::Value::Str(b"")) => continue,
                ("vars", flat::Value::Str(list)) => Value::Items(variables(list)),
                ("profiles", flat::Value::Str(list)) => Value::Items(profiles(list)),
                (_, flat::Value::Str(bytes)) => Value::text(bytes),
                (_, flat::Value::Int(number)) => Value::Int(number),
            };
            record.set(field.name, value);
        }
        if let (Some(mask), Some(names)) = (place(record.kind, "cflags"), record.get("cflag_names"))
            && names.bytes() != Some(b"")
        {
            // By its names it is known, and the mask says nothing.
            record.fields[mask] = None;
        }
        Ok(record.complete())
    }

    /// Sets a field by its name, brought to the form in which it is compared.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        let place = place(self.kind, name).expect("who reads a kind knows its names");
        self.fields[place] = Some(canonical(name, value));
    }

    /// What a field says.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields[place(self.kind, name)?].as_ref()
    }

    /// What names it: the fields that stand first in its table, or `len` of them.
    pub(crate) fn key(&self, len: usize) -> impl Iterator<Item = Option<&Value>> {
        self.fields[..len].iter().map(Option::as_ref)
    }

    /// Says the same by number and by name where only one of the two was there and no flag is set: then it needs no names. Called
    /// once, when all fields are set.
    pub(crate) fn complete(mut self) -> Self {
        for (mask, list) in [("cflags", "cflag_names"), ("user_flags", USER_FLAG_NAMES)] {
            let (Some(mask), Some(list)) = (place(self.kind, mask), place(self.kind, list)) else {
                continue;
            };
            let none = Value::Bytes(Vec::new());
            match (&self.fields[mask], &self.fields[list]) {
                (Some(Value::Int(0)), None) => self.fields[list] = Some(none),
                (None, Some(names)) if *names == none => self.fields[mask] = Some(Value::Int(0)),
                _ => {}
            }
        }
        self
    }

    /// Takes the fields of another callee, and gives those it had in their place.
    pub(crate) fn with_leg(mut self, index: usize) -> Self {
        for (place, value) in self.other_legs.swap_remove(index) {
            self.fields[place] = value;
        }
        self
    }
}

impl Item {
    /// A variable, or a profile of which nobody says that it is shared.
    pub(crate) fn new(name: impl Into<Vec<u8>>, value: ItemValue) -> Self {
        Self {
            name: name.into(),
            value,
            scope: Scope::Local,
        }
    }

    fn compared(&self) -> (&[u8], &ItemValue) {
        (&self.name, &self.value)
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for Item {}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compared().cmp(&other.compared())
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(text.into())
    }

    pub(crate) const fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        }
    }
}

/// Whether each of the tables that are `wanted` is among the `known` ones.
///
/// # Errors
/// It is not: which, and what there is.
pub(crate) fn check_names(wanted: &[String], known: &[&str]) -> anyhow::Result<()> {
    let missing = wanted.iter().find(|name| !known.contains(&name.as_str()));
    let Some(missing) = missing else {
        return Ok(());
    };
    let tables = match known {
        [] => "there are none".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    bail!(
        "there is no table {}: {}",
        Harmless(missing),
        Harmless(&tables)
    )
}

fn variables(list: &[u8]) -> Vec<Item> {
    let items = vars::values(list).filter_map(|(name, value)| {
        let value = match value {
            VarValue::Str(text) => ItemValue::Text(text.to_vec()),
            VarValue::Int(number) => ItemValue::Number(number.into()),
            VarValue::Gone => return None,
        };
        Some(Item::new(name, value))
    });
    items.collect()
}

fn profiles(list: &[u8]) -> Vec<Item> {
    let items = vars::profiles(list).map(|(name, scope, value)| Item {
        scope,
        ..Item::new(name, ItemValue::Text(value.to_vec()))
    });
    items.collect()
}

/// The names of a kind's fields: those of the store's table, and behind them what only a dump has.
pub(crate) fn names(kind: Kind) -> impl Iterator<Item = &'static str> {
    let more = matches!(kind, Kind::Dialog).then_some(USER_FLAG_NAMES);
    kind.fields().iter().map(|field| field.name).chain(more)
}

/// The place of a field among [`names`].
pub(crate) fn place(kind: Kind, name: &str) -> Option<usize> {
    names(kind).position(|known| known == name)
}

/// Masks and ids are unsigned, as nodes show them; flags by name have no order; neither have items.
fn canonical(name: &str, value: Value) -> Value {
    match value {
        Value::Int(number) if UNSIGNED.contains(&name) => Value::Int(number & 0xffff_ffff),
        Value::Bytes(names) if name == "cflag_names" || name == USER_FLAG_NAMES => {
            let mut names: Vec<_> = names
                .split(|byte| *byte == b' ')
                .filter(|name| !name.is_empty())
                .collect();
            names.sort_unstable();
            Value::Bytes(names.join(&b' '))
        }
        Value::Items(mut items) => {
            items.sort();
            Value::Items(items)
        }
        value => value,
    }
}

/// Flags of a dialog by name: what a genuine node shows from 3.4 on in place of the mask.
pub(crate) const USER_FLAG_NAMES: &str = "user_flag_names";

/// 32 bits without a sign.
const UNSIGNED: [&str; 6] = [
    "h_id",
    "user_flags",
    "module_flags",
    "flags",
    "cflags",
    "methods",
];

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The largest dump, without compression, in bytes.
pub(super) const LEN_MAX: u64 = 4 << 30;
