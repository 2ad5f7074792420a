//! What a genuine node shows of its contacts (`ul_dump`) and dialogs (`dlg_list_ctx`), by the names of our records.
//!
//! Which fields there are (`modules/usrloc/ul_mi.c`, `modules/dialog/dlg_hash.c` of 1.10 to 4.0):
//!
//! | field of ours | the node's | from |
//! |---|---|---|
//! | `domain`, `aor`, `contact`, `callid`, `cseq`, `user_agent`, `received`, `path`, `flags`, `methods`, `attr`, `instance` | likewise; an empty string is left out | 1.10 |
//! | `contact_id` | `ContactID` | 2.4 |
//! | `q` | `Q`: decimal, empty: not said | 1.10 |
//! | `expires` of a contact | `Expires`: seconds left, or `permanent`; `expired` and `deleted` ones are left out and counted | 1.10 |
//! | `cflag_names` | `Cflags`: names, in the order in which the node's script mentions them | 1.10 |
//! | `socket` | `Socket`; a contact that came in by a socket of another node has none: not told of | 1.10 |
//! | `kv` | `KV-Store`, if the node is told to show it: else not told of | 2.4 |
//! | `state` | `state`; ended dialogs (5) are left out and counted: nodes keep them for a while, and replicate them no more | 1.10 |
//! | `h_id` | low half of `dialog_id` (1.11), `ID` (2.3), `db_id` (3.1); `hash` (1.10) | 1.10 |
//! | `user_flags` | `user_flags`: a number up to 3.3, then names (`user_flag_names`) | 1.10 |
//! | `start_ts`, `expires` of a dialog | `timestart`, `timeout`: seconds since 1970 | 1.10 |
//! | `caller_cseq`, `callee_cseq` | `callee_cseq` of the caller, `caller_cseq` of the callee: it names them by who receives them | 1.10 |
//! | `caller_socket`, `callee_socket` | `caller_bind_addr`, `callee_bind_addr` | 1.10 |
//! | `caller_sdp_out`, `callee_sdp_out` | `caller_sdp`, `callee_sdp`; from 3.0 on `caller_sent_sdp`, `callee_sent_sdp` | 2.2 |
//! | `caller_sdp_in`, `callee_sdp_in` | from 3.0 on `caller_sdp`, `callee_sdp` | 3.0 |
//! | `vars`, `profiles` | `context`, `values` and `profiles`; control characters and 8-bit bytes of values escaped | 1.10 |
//!
//! Of several callees the first counts; the others wait in `other_legs`.

use anyhow::{Context as _, anyhow, bail};
use binrush_store::Kind;

use super::dump::{Dump, Item, ItemValue, Record, USER_FLAG_NAMES, Value, place};

/// JSON-RPC replies.
mod json;
/// Replies as text.
mod text;

pub(super) use json::read as read_json;
pub(super) use text::read as read_text;

/// Named values of one object, in its order.
#[derive(Debug, Default)]
struct Pairs(Vec<(Vec<u8>, ItemValue)>);

/// A dialog, in whichever form.
#[derive(Debug, Default)]
struct Call {
    own: Pairs,
    callees: Vec<Pairs>,
    vars: Vec<Item>,
    profiles: Vec<Item>,
    /// It came as JSON: 3.0 or later.
    json: bool,
}

impl Pairs {
    fn push(&mut self, name: impl Into<Vec<u8>>, value: ItemValue) {
        self.0.push((name.into(), value));
    }

    fn get(&self, name: &str) -> Option<&ItemValue> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(known, _)| known == name.as_bytes())
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<Vec<u8>> {
        self.get(name).map(|value| match value {
            ItemValue::Text(text) => text.clone(),
            ItemValue::Number(number) => number.to_string().into(),
        })
    }

    fn number<T: TryFrom<i128>>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            ItemValue::Number(number) => Some(i128::from(*number)),
            ItemValue::Text(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        };
        let read = number.and_then(|number| T::try_from(number).ok());
        read.map(Some).ok_or_else(|| {
            let text = self.text(name).unwrap_or_default();
            anyhow!(
                "{name} \"{}\" is not a number that fits",
                text.escape_ascii()
            )
        })
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> anyhow::Result<T> {
        value.with_context(|| format!("it has no {name}"))
    }
}

/// A dump of what a reply tells of.
fn dump(kinds: &[Kind], at: Option<i64>) -> Dump {
    Dump {
        at,
        kinds: kinds.to_vec(),
        vars_guessed: true,
        ..Dump::default()
    }
}

fn add_aor(dump: &mut Dump, domain: &[u8], aor: &[u8], kv: Option<Vec<u8>>) {
    let mut record = Record::new(Kind::Aor);
    record.set("domain", Value::text(domain));
    record.set("aor", Value::text(aor));
    if let Some(kv) = kv {
        record.set("kv", Value::Bytes(kv));
    }
    dump.records.push(record);
}

fn add_contact(dump: &mut Dump, domain: &[u8], aor: &[u8], said: &Pairs) -> anyhow::Result<()> {
    let mut record = Record::new(Kind::Contact);
    record.set("domain", Value::text(domain));
    record.set("aor", Value::text(aor));
    for (name, theirs) in [("contact", "Contact"), ("callid", "Callid")] {
        record.set(name, Value::Bytes(said.needed(theirs, said.text(theirs))?));
    }
    let expires = said.needed("Expires", said.text("Expires"))?;
    match expires.as_slice() {
        b"permanent" => record.set("expires", Value::Int(0)),
        b"expired" | b"deleted" => {
            dump.over += 1;
            return Ok(());
        }
        _ => {
            let left = i64::from(said.needed("Expires", said.number::<u32>("Expires")?)?);
            let when = dump
                .at
                .map_or(Value::Left(left), |at| Value::Int(at.saturating_add(left)));
            record.set("expires", when);
        }
    }
    if let Some(id) = said.number("ContactID")? {
        record.set("contact_id", Value::Id(id));
    }
    record.set("q", Value::Int(q(&said.needed("Q", said.text("Q"))?)?));
    record.set(
        "cflag_names",
        Value::Bytes(said.needed("Cflags", said.text("Cflags"))?),
    );
    for (name, theirs) in [("cseq", "Cseq"), ("flags", "Flags"), ("methods", "Methods")] {
        // A 32-bit number, which releases print with a sign or without.
        let number = said.needed(theirs, said.number::<i64>(theirs)?)?;
        record.set(name, Value::Int(number));
    }
    for (name, theirs) in LEFT_OUT_WHEN_EMPTY {
        record.set(name, Value::Bytes(said.text(theirs).unwrap_or_default()));
    }
    for (name, theirs) in [("socket", "Socket"), ("kv", "KV-Store")] {
        if let Some(text) = said.text(theirs) {
            record.set(name, Value::Bytes(text));
        }
    }
    dump.records.push(record.complete());
    Ok(())
}

/// Preference times 1000.
fn q(text: &[u8]) -> anyhow::Result<i64> {
    let digits = match text {
        b"" => return Ok(-1),
        b"1" => return Ok(1000),
        b"0" => return Ok(0),
        [b'0', b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => &[],
    };
    let padded = format!("{:0<3}", str::from_utf8(digits).unwrap_or_default());
    let thousandths = (!digits.is_empty())
        .then(|| padded.parse::<u16>().ok())
        .flatten();
    let thousandths = thousandths
        .with_context(|| format!("Q \"{}\" is not between 0 and 1", text.escape_ascii()))?;
    Ok(thousandths.into())
}

fn add_dialog(dump: &mut Dump, call: Call) -> anyhow::Result<()> {
    let said = &call.own;
    if said.number("state")? == Some(ENDED) {
        dump.over += 1;
        return Ok(());
    }
    let mut record = Record::new(Kind::Dialog);
    for (name, theirs) in CALLER {
        record.set(name, Value::Bytes(said.needed(theirs, said.text(theirs))?));
    }
    for (name, theirs) in [
        ("state", "state"),
        ("start_ts", "timestart"),
        ("expires", "timeout"),
    ] {
        let number = said.needed(theirs, said.number::<u32>(theirs)?)?;
        record.set(name, Value::Int(number.into()));
    }
    if let Some(id) = h_id(said)? {
        record.set("h_id", Value::Int(id));
    }
    match said.needed("user_flags", said.get("user_flags"))? {
        // 3.4 and later: names.
        ItemValue::Text(names) if call.json => {
            record.set(USER_FLAG_NAMES, Value::Bytes(names.clone()));
        }
        _ => {
            let flags = said.number::<u32>("user_flags")?;
            record.set("user_flags", Value::Int(flags.unwrap_or(0).into()));
        }
    }
    set_sdp(&mut record, "caller", said, call.json);
    record.set("vars", Value::Items(call.vars));
    record.set("profiles", Value::Items(call.profiles));

    let plain = record.clone();
    let none = Pairs::default();
    let mut callees = call.callees.iter();
    set_callee(&mut record, callees.next().unwrap_or(&none), call.json);
    for callee in callees {
        let mut other = plain.clone();
        set_callee(&mut other, callee, call.json);
        let leg = CALLEE.iter().map(|(name, _)| *name).chain(CALLEE_SDP);
        let leg = leg.filter_map(|name| place(Kind::Dialog, name));
        record.other_legs.push(
            leg.map(|place| (place, other.fields[place].clone()))
                .collect(),
        );
    }
    dump.records.push(record.complete());
    Ok(())
}

/// The fields of a callee. Before there is one, they are empty on the wire.
fn set_callee(record: &mut Record, callee: &Pairs, json: bool) {
    for (name, theirs) in CALLEE {
        record.set(name, Value::Bytes(callee.text(theirs).unwrap_or_default()));
    }
    set_sdp(record, "callee", callee, json);
}

/// JSON has what is not empty; text has all, from 2.2 on.
fn set_sdp(record: &mut Record, who: &str, said: &Pairs, json: bool) {
    let theirs = [format!("{who}_sdp"), format!("{who}_sent_sdp")];
    let [first, sent] = theirs.map(|name| said.text(&name));
    let (received, sent) = if json {
        (
            Some(first.unwrap_or_default()),
            Some(sent.unwrap_or_default()),
        )
    } else {
        (None, first)
    };
    for (text, end) in [(received, "in"), (sent, "out")] {
        if let Some(text) = text {
            record.set(&format!("{who}_sdp_{end}"), Value::Bytes(text));
        }
    }
}

/// The id inside the hash bucket: the low half of what the node calls the dialog.
fn h_id(said: &Pairs) -> anyhow::Result<Option<i64>> {
    for name in ["db_id", "dialog_id", "ID"] {
        if said.get(name).is_some() {
            let id: u64 = said.needed(name, said.number(name)?)?;
            return Ok(Some((id & 0xffff_ffff).cast_signed()));
        }
    }
    let Some(hash) = said.text("hash") else {
        return Ok(None);
    };
    let hash = String::from_utf8_lossy(&hash);
    let id = hash
        .split_once(':')
        .and_then(|(_, id)| id.parse::<u32>().ok());
    Ok(Some(
        id.with_context(|| format!("hash {hash:?} is not entry:id"))?
            .into(),
    ))
}

/// What a node escapes in a variable, as far as it can be told: it does not escape the backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let (byte, len) = match tail {
            _ if *first != b'\\' => (*first, 1),
            [b'b', ..] => (0x08, 2),
            [b't', ..] => (b'\t', 2),
            [b'n', ..] => (b'\n', 2),
            [b'f', ..] => (0x0c, 2),
            [b'r', ..] => (b'\r', 2),
            [b'x', high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) if needs_escape(high << 4 | low) => (high << 4 | low, 4),
                _ => (b'\\', 1),
            },
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = &rest[len..];
    }
    out
}

/// As a node shows a variable: two that look the same there cannot be told apart.
pub(super) fn escape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0x08 => out.extend(b"\\b"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            0x0c => out.extend(b"\\f"),
            b'\r' => out.extend(b"\\r"),
            byte if needs_escape(*byte) => out.extend(format!("\\x{byte:02x}").bytes()),
            byte => out.push(*byte),
        }
    }
    out
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte >= 0x7f
}

/// Nodes print them small.
const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What a `NNN reason` that is not 200, or an error of JSON-RPC, comes to.
fn refused(words: &str) -> anyhow::Error {
    anyhow!("the node refused: {}", words.trim())
}

/// Something that is neither of the two replies.
fn unknown(what: &str) -> anyhow::Result<Dump> {
    bail!("{what}: neither a dump of binrush nor a reply to ul_dump or dlg_list_ctx")
}

const LEFT_OUT_WHEN_EMPTY: [(&str, &str); 5] = [
    ("user_agent", "User-agent"),
    ("received", "Received"),
    ("path", "Path"),
    ("attr", "Attr"),
    ("instance", "SIP_instance"),
];

const CALLER: [(&str, &str); 8] = [
    ("callid", "callid"),
    ("from_uri", "from_uri"),
    ("to_uri", "to_uri"),
    ("caller_tag", "caller_tag"),
    ("caller_contact", "caller_contact"),
    ("caller_cseq", "callee_cseq"),
    ("caller_route_set", "caller_route_set"),
    ("caller_socket", "caller_bind_addr"),
];

const CALLEE: [(&str, &str); 5] = [
    ("callee_tag", "callee_tag"),
    ("callee_contact", "callee_contact"),
    ("callee_cseq", "caller_cseq"),
    ("callee_route_set", "callee_route_set"),
    ("callee_socket", "callee_bind_addr"),
];

/// `DLG_STATE_DELETED`.
const ENDED: u32 = 5;

const CALLEE_SDP: [&str; 2] = ["callee_sdp_in", "callee_sdp_out"];
