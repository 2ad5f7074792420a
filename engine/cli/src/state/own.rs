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
//! - `[["name","value"],["name",7]]`: variables and profiles (with an empty value where a profile has none).
//!
//! `at` is null where nobody knows it. `"over":N` in the first line counts records that were left out because they are, and `"vars_guessed":true`
//! says that variables went through the escapes of a genuine node. A line without an end, or a dump without its last line, is refused.

use std::io::{self, Write};

use anyhow::{Context as _, anyhow, bail};
use binrush_store::{Kind, Status};
use serde_json::{Map, Value as Json, json};

use super::dump::{Dump, Item, ItemValue, Record, Value, names, place};
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
        let record = record(object, &dump.kinds).with_context(place)?;
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
    let kinds: Vec<_> = dump.kinds.iter().map(|kind| kind.name()).collect();
    let mut first = json!({VERSION_KEY: VERSION, "at": dump.at, "kinds": kinds});
    if dump.over > 0 {
        first["over"] = dump.over.into();
    }
    if dump.vars_guessed {
        first["vars_guessed"] = true.into();
    }
    write_line(out, &first)?;
    let mut count = 0_u64;
    for record in records {
        write_line(out, &record_json(record))?;
        count += 1;
    }
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

fn record_json(record: &Record) -> Json {
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
    Json::Object(object)
}

fn item_json(item: &Item) -> Json {
    let value = match &item.value {
        ItemValue::Text(text) => bytes_json(text),
        ItemValue::Number(number) => (*number).into(),
    };
    json!([bytes_json(&item.name), value])
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
    let kinds = line.get("kinds").and_then(Json::as_array);
    let kinds = kinds.context("\"kinds\" has to be a list of kinds")?;
    Ok(Dump {
        at,
        kinds: kinds.iter().map(kind).collect::<anyhow::Result<_>>()?,
        records: Vec::new(),
        over: line.get("over").and_then(Json::as_u64).unwrap_or(0),
        vars_guessed: line.get("vars_guessed") == Some(&Json::Bool(true)),
    })
}

fn kind(name: &Json) -> anyhow::Result<Kind> {
    let known = Kind::ALL
        .into_iter()
        .find(|kind| Some(kind.name()) == name.as_str());
    known.with_context(|| format!("{name} is no kind of record that this binrush knows"))
}

fn record(line: Map<String, Json>, kinds: &[Kind]) -> anyhow::Result<Record> {
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
    let Some([name, value]) = pair.as_array().map(Vec::as_slice) else {
        bail!("{pair} is no pair of a name and a value");
    };
    Ok(Item {
        name: bytes_of(name)?,
        value: match value.as_i64() {
            Some(number) => ItemValue::Number(number),
            None => ItemValue::Text(bytes_of(value)?),
        },
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

/// Fields of the store that hold lists.
pub(super) const ITEMS: [&str; 2] = ["vars", "profiles"];

const VERSION_KEY: &str = "binrush_dump";

const VERSION: u64 = 1;
