//! Our own dump: JSON lines.
//!
//! ```text
//!   {"binrush_dump":1,"at":1795230500,"kinds":["dialog","aor","contact"]}          the version of the format
//!   {"kind":"contact","status":["no_socket"],"domain":"location","aor":"alice",..}    a record; status only where it has one
//!   {"end":1}                                                                        how many there were
//! ```
//!
//! A field has the name it has in the store's table; one that is not there is not told of. It is
//! - a string, where its bytes are UTF-8, or `{"hex":"e9"}` where they are not;
//! - a number: masks and ids without a sign, times in seconds since 1970, 0 for never;
//! - `{"left":5457}`: a time as seconds from that of the dump, which is not known;
//! - `[["name","value"],["name",7]]`: variables and profiles (with an empty value where a profile has none; with `"s"` or `"b"` behind it
//!   where a profile is shared by a key-value store or by the cluster).
//!
//! A dump of an engine names its tables in the first line, `"tables":{"1/dialog-dlg-repl":["dialog"]}`, and where there are several, each
//! record has the name of its own: `"table":"1/dialog-dlg-repl"`.
//!
//! `at` is null where nobody knows it. `"over":N` in the first line counts records that were left out because they are, and `"vars_guessed":true`
//! says that variables went through the escapes of a genuine node. A line without an end, or a dump without its last line, is refused.

use std::io::{self, Write};

use anyhow::{Context as _, anyhow, bail};
use binrush_store::vars::Scope;
use binrush_store::{Kind, Status};
use serde_json::{Map, Value as Json, json};

use super::dump::{Dump, Item, ItemValue, Record, Table, Value, names, place};
use crate::line::{hex, unhex, write as write_line};
use crate::text::counted;

/// Whether the first line is one of ours.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| {
        line.windows(VERSION_KEY.len())
            .any(|w| w == VERSION_KEY.as_bytes())
    })
}

/// Reads a dump.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Dump> {
    let mut lines = bytes.split(|byte| *byte == b'\n').zip(1..);
    let (first, _) = lines.next().expect("a split has a first piece");
    let mut dump = object(first)
        .and_then(|line| header(&line))
        .context("line 1")?;
    for (line, number) in lines {
        let place = || format!("line {number}");
        if line.trim_ascii().is_empty() {
            continue;
        }
        let object = object(line).with_context(place)?;
        if let Some(end) = object.get("end") {
            let count = dump.records.len() as u64;
            if end.as_u64() != Some(count) {
                bail!(
                    "line {number}: {} before it, and it says {end}",
                    counted(count, "record")
                );
            }
            return Ok(dump);
        }
        let record = record_of(object, &dump).with_context(place)?;
        dump.records.push(record);
    }
    let records = counted(dump.records.len() as u64, "record");
    bail!("it ends after {records} without its last line: cut off")
}

/// Writes `records` as a dump that tells of what `dump` tells of.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write<'r>(
    out: &mut impl Write,
    dump: &Dump,
    records: impl IntoIterator<Item = &'r Record>,
) -> io::Result<()> {
    begin(out, dump)?;
    let mut count = 0_u64;
    for each in records {
        record_line(out, dump, each)?;
        count += 1;
    }
    end(out, count)
}

/// Writes the line of a record, which is of a table of `dump` if that has any.
///
/// # Errors
/// Those of `out`.
pub(super) fn record_line(out: &mut impl Write, dump: &Dump, record: &Record) -> io::Result<()> {
    let mut line = record_json(record);
    if let (Some(table), 2..) = (&record.table, dump.tables.len()) {
        line.insert(TABLE.to_owned(), (**table).into());
    }
    write_line(out, &line)
}

/// Writes the first line: what it tells of.
///
/// # Errors
/// Those of `out`.
pub(super) fn begin(out: &mut impl Write, dump: &Dump) -> io::Result<()> {
    let names = |kinds: &[Kind]| -> Vec<_> { kinds.iter().map(|kind| kind.name()).collect() };
    let mut first = json!({VERSION_KEY: VERSION, "at": dump.at, "kinds": names(&dump.kinds)});
    if !dump.tables.is_empty() {
        let tables = dump.tables.iter();
        let tables = tables.map(|table| (table.name.to_string(), names(&table.kinds).into()));
        first["tables"] = tables.collect::<Map<_, _>>().into();
    }
    if dump.over > 0 {
        first["over"] = dump.over.into();
    }
    if dump.vars_guessed {
        first["vars_guessed"] = true.into();
    }
    write_line(out, &first)
}

/// Writes the last line: how many records there were.
///
/// # Errors
/// Those of `out`.
pub(super) fn end(out: &mut impl Write, count: u64) -> io::Result<()> {
    write_line(out, &json!({"end": count}))
}

/// A value as a dump has it.
pub(super) fn value_json(value: &Value) -> Json {
    match value {
        Value::Bytes(bytes) => bytes_json(bytes),
        Value::Int(number) => (*number).into(),
        Value::Id(number) => (*number).into(),
        Value::Left(seconds) => json!({"left": seconds}),
        Value::Items(items) => items.iter().map(item_json).collect(),
    }
}

/// A record as a dump has it, without its table.
pub(crate) fn record_json(record: &Record) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("kind".into(), record.kind.name().into());
    let status: Vec<_> = STATUSES
        .into_iter()
        .filter(|(bit, _)| record.status.has(*bit))
        .map(|(_, name)| name)
        .collect();
    if !status.is_empty() {
        object.insert("status".into(), status.into());
    }
    for (name, value) in names(record.kind).zip(&record.fields) {
        if let Some(value) = value {
            object.insert(name.into(), value_json(value));
        }
    }
    object
}

fn item_json(item: &Item) -> Json {
    let value = match &item.value {
        ItemValue::Text(text) => bytes_json(text),
        ItemValue::Number(number) => (*number).into(),
    };
    let name = bytes_json(&item.name);
    match SCOPES.iter().find(|(scope, _)| *scope == item.scope) {
        Some((_, shared)) => json!([name, value, shared]),
        None => json!([name, value]),
    }
}

fn bytes_json(bytes: &[u8]) -> Json {
    str::from_utf8(bytes).map_or_else(|_| json!({"hex": hex(bytes)}), Json::from)
}

fn object(line: &[u8]) -> anyhow::Result<Map<String, Json>> {
    serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => anyhow!("it ends in the middle"),
        // The line of that error is always 1.
        _ => anyhow!("column {}: {}", error.column(), bare(&error)),
    })
}

fn header(line: &Map<String, Json>) -> anyhow::Result<Dump> {
    match line.get(VERSION_KEY).and_then(Json::as_u64) {
        Some(VERSION) => {}
        Some(newer) => bail!("version {newer} of the format; this binrush reads {VERSION}"),
        None => bail!("\"{VERSION_KEY}\" has to be a number"),
    }
    let at = match line.get("at") {
        None | Some(Json::Null) => None,
        Some(at) => Some(
            at.as_i64()
                .context("\"at\" has to be a time in seconds since 1970")?,
        ),
    };
    let tables = match line.get("tables") {
        None => None,
        Some(tables) => Some(
            tables
                .as_object()
                .context("\"tables\" has to be an object")?,
        ),
    };
    let tables = tables.into_iter().flatten().map(|(name, told)| {
        let kinds = kinds(told).with_context(|| format!("the table {name:?}"))?;
        let name = name.as_str().into();
        Ok(Table { name, kinds })
    });
    Ok(Dump {
        at,
        kinds: kinds(line.get("kinds").unwrap_or(&Json::Null))?,
        records: Vec::new(),
        tables: tables.collect::<anyhow::Result<_>>()?,
        over: line.get("over").and_then(Json::as_u64).unwrap_or(0),
        vars_guessed: line.get("vars_guessed") == Some(&Json::Bool(true)),
    })
}

fn kinds(told: &Json) -> anyhow::Result<Vec<Kind>> {
    let kinds = told.as_array();
    let kinds = kinds.context("\"kinds\" has to be a list of kinds")?;
    kinds.iter().map(kind).collect()
}

fn kind(name: &Json) -> anyhow::Result<Kind> {
    let wrong = || format!("{name} is no kind of record that this binrush knows");
    name.as_str().and_then(known_kind).with_context(wrong)
}

/// The kind of this name.
///
/// # Errors
/// There is none.
pub(super) fn kind_named(name: &str) -> anyhow::Result<Kind> {
    kind(&name.into())
}

fn known_kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

/// A record and its table, which is not told where there is only one.
fn record_of(mut line: Map<String, Json>, dump: &Dump) -> anyhow::Result<Record> {
    let Some(first) = dump.tables.first() else {
        return record(line, &dump.kinds);
    };
    let table = match line.remove(TABLE) {
        None if dump.tables.len() == 1 => first,
        told => {
            let mut tables = dump.tables.iter();
            let name = told.as_ref().and_then(Json::as_str);
            let named = tables.find(|table| Some(&*table.name) == name);
            named.context("it has no \"table\" that the first line names")?
        }
    };
    let mut record = record(line, &table.kinds)?;
    record.table = Some(table.name.clone());
    Ok(record)
}

/// A record of one of these kinds, without a table.
///
/// # Errors
/// What is wrong with it.
pub(super) fn record(line: Map<String, Json>, kinds: &[Kind]) -> anyhow::Result<Record> {
    let kind = kind(line.get("kind").context("neither \"kind\" nor \"end\"")?)?;
    if !kinds.contains(&kind) {
        bail!("{}s are not among the kinds of the first line", kind.name());
    }
    let mut record = Record::new(kind);
    for (name, value) in line {
        match name.as_str() {
            "kind" => {}
            "status" => record.status = status(&value)?,
            name => {
                let place = place(kind, name).with_context(|| {
                    format!("{name:?} is no field of this binrush's {}s", kind.name())
                })?;
                let read = value_of(kind, place, &value);
                record.set(name, read.with_context(|| format!("{name}: {value}"))?);
            }
        }
    }
    if let Some(missing) = names(kind)
        .zip(record.key(kind.key_len()))
        .find(|(_, v)| v.is_none())
    {
        bail!("the {} has no {}", kind.name(), missing.0);
    }
    Ok(record.complete())
}

fn status(value: &Json) -> anyhow::Result<Status> {
    let names = value.as_array().context("\"status\" has to be a list")?;
    names.iter().try_fold(Status::default(), |status, name| {
        let known = STATUSES
            .into_iter()
            .find(|(_, known)| Some(*known) == name.as_str());
        let (bit, _) = known.with_context(|| format!("{name} is no status of a record"))?;
        Ok(status.with(bit))
    })
}

/// By what the store's table says the field holds.
fn value_of(kind: Kind, place: usize, value: &Json) -> anyhow::Result<Value> {
    use binrush_store::flat::Holds;

    let Some(field) = kind.fields().get(place) else {
        return Ok(Value::Bytes(bytes_of(value)?));
    };
    match field.holds {
        Holds::Str if ITEMS.contains(&field.name) => {
            let items = value.as_array().context("not a list of pairs")?;
            Ok(Value::Items(
                items.iter().map(item).collect::<anyhow::Result<_>>()?,
            ))
        }
        Holds::Str => Ok(Value::Bytes(bytes_of(value)?)),
        Holds::Int if field.name == "contact_id" => Ok(Value::Id(
            value.as_u64().context("not a number of 64 bits")?,
        )),
        Holds::Time if value.is_object() => {
            let left = value.get("left").and_then(Json::as_i64);
            Ok(Value::Left(
                left.context("neither a number nor {\"left\": seconds}")?,
            ))
        }
        Holds::Int | Holds::Time => Ok(Value::Int(value.as_i64().context("not a number")?)),
    }
}

fn item(pair: &Json) -> anyhow::Result<Item> {
    let (name, value, scope) = match pair.as_array().map(Vec::as_slice) {
        Some([name, value]) => (name, value, Scope::Local),
        Some([name, value, shared]) => {
            let mut scopes = SCOPES.iter();
            let scope = scopes.find(|(_, known)| Some(*known) == shared.as_str());
            let unknown = || format!("{shared} is no way to share a profile");
            (name, value, scope.with_context(unknown)?.0)
        }
        _ => bail!("{pair} is no pair of a name and a value"),
    };
    let value = match value.as_i64() {
        Some(number) => ItemValue::Number(number),
        None => ItemValue::Text(bytes_of(value)?),
    };
    Ok(Item {
        scope,
        ..Item::new(bytes_of(name)?, value)
    })
}

fn bytes_of(value: &Json) -> anyhow::Result<Vec<u8>> {
    match (value.as_str(), value.get("hex").and_then(Json::as_str)) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(digits)) => unhex(digits),
        (None, None) => bail!("neither a string nor {{\"hex\": digits}}"),
    }
}

/// The words of an error of serde_json, without the place behind them.
pub(super) fn bare(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let place = words.rfind(" at line ").unwrap_or(words.len());
    words[..place].to_owned()
}

/// The names of what is known of a record.
pub(super) const STATUSES: [(Status, &str); 2] = [
    (Status::PROVISIONAL, "provisional"),
    (Status::NO_SOCKET, "no_socket"),
];

/// How profiles are shared, as their names end in OpenSIPS.
const SCOPES: [(Scope, &str); 2] = [(Scope::Cachedb, "s"), (Scope::Bin, "b")];

/// Fields of the store that hold lists.
pub(super) const ITEMS: [&str; 2] = ["vars", "profiles"];

/// The key of the name of a table.
pub(super) const TABLE: &str = "table";

const VERSION_KEY: &str = "binrush_dump";

const VERSION: u64 = 1;
