//! JSON-RPC replies, 3.0 on: `{"jsonrpc":"2.0","result":{"Domains":[..]},"id":1}`, or the result alone.
//!
//! A node copies strings as they came from the network, so bytes occur that are not UTF-8, which JSON does not allow. Nothing is
//! lost: before it is parsed, every byte from 0x80 on becomes the character of the same number, and becomes the byte again behind
//! the parser. Characters that a tool has written as `\u00e9` become their UTF-8 first, and so do halves of pairs that Python writes
//! for a byte that is not UTF-8 (`\udce9`).

use anyhow::{Context as _, bail};
use binrush_store::Kind;
use serde_json::{Map, Value as Json};

use super::{Call, Pairs, add_aor, add_contact, add_dialog, dump, refused, unescape, unknown};
use crate::state::dump::{Dump, Item, ItemValue};
use crate::state::own::bare;

pub(in crate::state) fn read(bytes: &[u8], at: Option<i64>) -> anyhow::Result<Dump> {
    let reply: Json = serde_json::from_str(&widened(bytes)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow::anyhow!("line {line}, column {column}: {}", bare(&error))
    })?;
    if let Some(error) = reply.get("error") {
        let words = error.get("message").and_then(Json::as_str);
        let code = error.get("code").map_or_else(String::new, Json::to_string);
        return Err(refused(&format!("{code} {}", words.unwrap_or_default())));
    }
    let result = reply.get("result").unwrap_or(&reply);
    if let Some(domains) = result.get("Domains") {
        contacts(list(domains, "Domains")?, at)
    } else if let Some(dialogs) = result.get("Dialogs") {
        calls(list(dialogs, "Dialogs")?, at)
    } else {
        unknown("line 1: there are neither Domains nor Dialogs")
    }
}

fn contacts(domains: &[Json], at: Option<i64>) -> anyhow::Result<Dump> {
    let mut dump = dump(&[Kind::Aor, Kind::Contact], at);
    for (domain, number) in domains.iter().zip(1..) {
        let place = || format!("domain {number}");
        let name = needed(domain, "name").with_context(place)?;
        let aors = member(domain, "AORs").and_then(|aors| list(aors, "AORs"));
        for (record, number) in aors.with_context(place)?.iter().zip(1..) {
            let place = || format!("AoR {number} of {}", name.escape_ascii());
            let aor = needed(record, "AOR").with_context(place)?;
            let kv = pairs(record).with_context(place)?.text("KV-Store");
            add_aor(&mut dump, &name, &aor, kv);
            let contacts = member(record, "Contacts").and_then(|list_| list(list_, "Contacts"));
            for (contact, number) in contacts.with_context(place)?.iter().zip(1..) {
                pairs(contact)
                    .and_then(|said| add_contact(&mut dump, &name, &aor, &said))
                    .with_context(|| format!("contact {number} of {}", aor.escape_ascii()))?;
            }
        }
    }
    Ok(dump)
}

fn calls(dialogs: &[Json], at: Option<i64>) -> anyhow::Result<Dump> {
    let mut dump = dump(&[Kind::Dialog], at);
    for (dialog, number) in dialogs.iter().zip(1..) {
        call(dialog)
            .and_then(|call| add_dialog(&mut dump, call))
            .with_context(|| format!("dialog {number}"))?;
    }
    Ok(dump)
}

fn call(dialog: &Json) -> anyhow::Result<Call> {
    let callees = dialog
        .get("CALLEES")
        .map_or(Ok(&[][..]), |all| list(all, "CALLEES"))?;
    let items = |name: &str| match dialog.get("context").and_then(|context| context.get(name)) {
        Some(items) => items_of(items).with_context(|| name.to_owned()),
        None => Ok(Vec::new()),
    };
    let mut vars = items("values")?;
    for var in &mut vars {
        if let ItemValue::Text(text) = &mut var.value {
            *text = unescape(text);
        }
    }
    Ok(Call {
        own: pairs(dialog)?,
        callees: callees.iter().map(pairs).collect::<anyhow::Result<_>>()?,
        vars,
        profiles: items("profiles")?,
        json: true,
    })
}

/// `[{"name":"value"},..]`, or one object with all of them.
fn items_of(items: &Json) -> anyhow::Result<Vec<Item>> {
    let objects = match items {
        Json::Array(objects) => objects.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut all = Vec::new();
    for object in objects {
        for (name, value) in pairs(object)?.0 {
            all.push(Item::new(name, value));
        }
    }
    Ok(all)
}

/// The strings and numbers of an object; null is an empty string.
fn pairs(object: &Json) -> anyhow::Result<Pairs> {
    let object: &Map<String, Json> = object.as_object().context("not an object")?;
    let mut pairs = Pairs::default();
    for (name, value) in object {
        let value = match value {
            Json::String(text) => ItemValue::Text(narrowed(text)),
            Json::Number(number) => match number.as_i64() {
                Some(number) => ItemValue::Number(number),
                None => ItemValue::Text(number.to_string().into()),
            },
            Json::Null => ItemValue::Text(Vec::new()),
            _ => continue,
        };
        pairs.push(narrowed(name), value);
    }
    Ok(pairs)
}

fn member<'j>(object: &'j Json, name: &str) -> anyhow::Result<&'j Json> {
    object
        .get(name)
        .with_context(|| format!("it has no {name}"))
}

fn needed(object: &Json, name: &str) -> anyhow::Result<Vec<u8>> {
    let text = member(object, name)?.as_str();
    Ok(narrowed(
        text.with_context(|| format!("{name} is not a string"))?,
    ))
}

fn list<'j>(value: &'j Json, name: &str) -> anyhow::Result<&'j [Json]> {
    let Some(list) = value.as_array() else {
        bail!("{name} is not a list");
    };
    Ok(list)
}

/// Every byte as the character of its number; see the head of the file.
fn widened(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let (number, len) = match tail {
            [second, ..] if *first == b'\\' => match code_unit(rest) {
                // The second half of a pair goes with the first.
                Some(0xd800..=0xdbff) if code_unit(&rest[6..]).is_some() => (None, 12),
                Some(number @ (0x80..=0xff | 0xdc80..=0xdcff)) => (Some(number), 6),
                _ if *second < 0x80 => (None, 2),
                _ => (None, 1),
            },
            _ => (None, 1),
        };
        match number {
            None => text.extend(rest[..len].iter().map(|byte| char::from(*byte))),
            Some(number @ 0xdc80..) => text.push(char::from(number.to_le_bytes()[0])),
            Some(number) => {
                let mut utf8 = [0; 4];
                let c = char::from(number.to_le_bytes()[0]).encode_utf8(&mut utf8);
                text.extend(c.bytes().map(char::from));
            }
        }
        rest = &rest[len..];
    }
    text
}

/// The number in a `\uXXXX` that stands first.
fn code_unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// The bytes that [`widened`] was given; a character of more than 8 bits was escaped, and is its UTF-8.
fn narrowed(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(json: &[u8], bytes: &[u8]) {
        let read: Json = serde_json::from_str(&widened(json)).unwrap();
        assert_eq!(narrowed(read.as_str().unwrap()), bytes);
    }

    #[test]
    fn bytes_that_are_no_text_come_through_a_parser_of_text() {
        same(b"\"plain \xe9 \xff\xc3\xa9\"", b"plain \xe9 \xff\xc3\xa9");
        same(br#""\u00e9 \u20ac \ud83d\ude00""#, "é € 😀".as_bytes());
        same(br#""\udce9\udcff""#, b"\xe9\xff");
        same(br#""\\u00e9 \" \n\u0001""#, b"\\u00e9 \" \n\x01");
        let every: Vec<u8> = (0x20..=0xff).filter(|b| !b"\"\\".contains(b)).collect();
        same(&[b"\"", &every[..], b"\""].concat(), &every);
    }

    #[test]
    fn half_a_pair_that_stands_for_nothing_is_refused() {
        for json in [&br#""\ud83d""#[..], br#""\ud83d\u0041""#, br#""\udc00""#] {
            assert!(serde_json::from_str::<Json>(&widened(json)).is_err());
        }
    }
}
