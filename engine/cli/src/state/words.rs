//! Records and their differences, for people.

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use binrush_store::Kind;
use binrush_store::flat::Holds;

use super::diff::{Difference, FieldDifference, Outcome, Side};
use super::dump::{Dump, Item, ItemValue, Record, Value, names, place};
use super::own::STATUSES;
use crate::table::{Head, Table};
use crate::text::{Escaped, counted};

/// A record with all its fields, one to a line.
pub(super) fn record(record: &Record) -> String {
    let mut words = String::from(record.kind.name());
    for (_, status) in STATUSES
        .into_iter()
        .filter(|(bit, _)| record.status.has(*bit))
    {
        words.push_str("  ");
        words.push_str(&status.replace('_', " "));
    }
    if let Some(table) = &record.table {
        write!(words, "  in {}", Escaped(table.as_bytes())).expect("a string takes all");
    }
    words.push('\n');
    for (name, value) in names(record.kind).zip(&record.fields) {
        if let Some(value) = value {
            let shown = Shown(record.kind, name, value);
            writeln!(words, "    {name:WIDTH$}  {shown}").expect("a string takes all");
        }
    }
    words
}

/// A record that is not the same on both sides.
pub(super) fn difference(difference: &Difference) -> String {
    match difference {
        Difference::OnlyIn(Side::A, record) => format!("only in A  {}\n", Name(record)),
        Difference::OnlyIn(Side::B, record) => format!("only in B  {}\n", Name(record)),
        Difference::Fields(a, fields) => {
            let mut words = format!("different  {}\n", Name(a));
            for field in fields {
                words.push_str(&self::field(a.kind, field));
            }
            words
        }
    }
}

fn field(kind: Kind, field: &FieldDifference) -> String {
    let FieldDifference { name, a, b } = field;
    if let (Value::Items(a), Value::Items(b)) = (a, b) {
        return [(a, b, 'A'), (b, a, 'B')]
            .into_iter()
            .map(|(these, those, side)| (surplus(these, those), side))
            .filter(|(surplus, _)| !surplus.is_empty())
            .map(|(surplus, side)| {
                format!("    {name:WIDTH$}  {side} alone: {}\n", Items(&surplus))
            })
            .collect();
    }
    let apart = match (a, b) {
        (Value::Int(a @ 1..), Value::Int(b @ 1..)) if holds(kind, name) == Some(Holds::Time) => {
            format!("  ({} s apart)", a.abs_diff(*b))
        }
        _ => String::new(),
    };
    let (a, b) = (Shown(kind, name, a), Shown(kind, name, b));
    format!("    {name:WIDTH$}  A {a}  B {b}{apart}\n")
}

/// The counts of a comparison, and what they do not say.
pub(super) fn outcome(outcome: &Outcome) -> String {
    let mut table = Table::new([
        Head::Left("kind"),
        Head::Right("A"),
        Head::Right("B"),
        Head::Right("equal"),
        Head::Right("different"),
        Head::Right("only in A"),
        Head::Right("only in B"),
    ]);
    for (kind, counts) in &outcome.counts {
        let numbers = [
            counts.a,
            counts.b,
            counts.equal,
            counts.different,
            counts.only_a,
            counts.only_b,
        ];
        let [a, b, equal, different, only_a, only_b] = numbers.map(|number| number.to_string());
        table.row([kind.name().into(), a, b, equal, different, only_a, only_b]);
    }
    let mut words = table.lines().join("\n");
    words.push('\n');
    words.push_str(&over("A: ", outcome.over_a));
    words.push_str(&over("B: ", outcome.over_b));
    if outcome.clocks_apart > 0 {
        let times = counted(outcome.clocks_apart, "time");
        writeln!(
            words,
            "  {times} not compared: one side says seconds left, the other when; --a-at or --b-at says when that side was written"
        )
        .expect("a string takes all");
    }
    words
}

/// What a dump holds, by kind.
pub(super) fn summary(dump: &Dump) -> String {
    let mut table = Table::new([
        Head::Left("kind"),
        Head::Right("records"),
        Head::Right("provisional"),
        Head::Right("no socket"),
        Head::Left("nearest expiry"),
    ]);
    for facts in dump.kinds.iter().map(|kind| Facts::of(dump, *kind)) {
        let expiry = facts
            .nearest
            .map(|value| Shown(facts.kind, "expires", value).to_string());
        table.row([
            facts.kind.name().into(),
            facts.records.to_string(),
            facts.provisional.to_string(),
            facts.no_socket.to_string(),
            expiry.unwrap_or_default(),
        ]);
    }
    let mut words = table.lines().join("\n");
    words.push('\n');
    words.push_str(&over("", dump.over));
    words
}

/// A time as it is shown, in seconds since 1970; 0: never.
pub(super) fn time(seconds: i64) -> String {
    Shown(Kind::Contact, "expires", &Value::Int(seconds)).to_string()
}

/// What was left out of the records of `side`.
fn over(side: &str, count: u64) -> String {
    match count {
        0 => String::new(),
        _ => format!(
            "  {side}{} left out: expired or ended, and not thrown away yet\n",
            counted(count, "record")
        ),
    }
}

/// What a summary says of one kind.
#[derive(Debug)]
pub(super) struct Facts<'d> {
    pub(super) kind: Kind,
    pub(super) records: usize,
    pub(super) provisional: usize,
    /// What a genuine node would refuse for want of a socket.
    pub(super) no_socket: usize,
    /// Of those that expire.
    pub(super) nearest: Option<&'d Value>,
}

impl<'d> Facts<'d> {
    pub(super) fn of(dump: &'d Dump, kind: Kind) -> Self {
        use binrush_store::Status;

        let with = |status| {
            dump.of(kind)
                .filter(|record| record.status.has(status))
                .count()
        };
        let times = dump.of(kind).filter_map(|record| record.get("expires"));
        let expiring = times.filter_map(|value| match value {
            Value::Int(time @ 1..) => Some((*time, value)),
            Value::Left(seconds) => Some((*seconds, value)),
            _ => None,
        });
        Self {
            kind,
            records: dump.count(kind),
            provisional: with(Status::PROVISIONAL),
            no_socket: with(Status::NO_SOCKET),
            nearest: expiring
                .min_by_key(|(time, _)| *time)
                .map(|(_, value)| value),
        }
    }
}

/// The kind and what names it.
struct Name<'a>(&'a Record);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(record) = self;
        write!(f, "{:8}", record.kind.name())?;
        for value in record.key(record.kind.key_len()).flatten() {
            let bytes = value.bytes().unwrap_or_default();
            write!(f, " \"{}\"", Escaped(bytes))?;
        }
        Ok(())
    }
}

/// A value of a field.
struct Shown<'a>(Kind, &'a str, &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, name, value) = *self;
        match value {
            Value::Bytes(bytes) => write!(f, "\"{}\"", Escaped(bytes)),
            Value::Int(time) if holds(kind, name) == Some(Holds::Time) => {
                match u64::try_from(*time) {
                    Ok(0) => f.write_str("never"),
                    Ok(seconds @ ..=LAST_SECOND) => {
                        let time = UNIX_EPOCH + Duration::from_secs(seconds);
                        write!(f, "{}", humantime::format_rfc3339_seconds(time))
                    }
                    _ => write!(f, "{time}"),
                }
            }
            Value::Int(number) => write!(f, "{number}"),
            Value::Id(number) => write!(f, "{number}"),
            Value::Left(seconds) => write!(f, "{seconds} s left"),
            Value::Items(items) => write!(f, "{}", Items(&items.iter().collect::<Vec<_>>())),
        }
    }
}

/// Variables or profiles on one line.
struct Items<'a>(&'a [&'a Item]);

impl fmt::Display for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (item, number) in self.0.iter().zip(0..) {
            if number > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{}=", Escaped(&item.name))?;
            match &item.value {
                ItemValue::Text(text) => write!(f, "\"{}\"", Escaped(text))?,
                ItemValue::Number(number) => write!(f, "{number}")?,
            }
        }
        Ok(())
    }
}

/// Items that the others lack, as often as they lack them. Both are sorted.
fn surplus<'a>(these: &'a [Item], those: &[Item]) -> Vec<&'a Item> {
    let mut those = those.iter().peekable();
    these
        .iter()
        .filter(|item| {
            while those.next_if(|other| other < item).is_some() {}
            those.next_if_eq(item).is_none()
        })
        .collect()
}

fn holds(kind: Kind, name: &str) -> Option<Holds> {
    let fields = kind.fields();
    place(kind, name)
        .and_then(|place| fields.get(place))
        .map(|field| field.holds)
}

/// Of the longest name of a field.
const WIDTH: usize = 18;

/// The end of the year 9999: later times cannot be written as RFC 3339.
const LAST_SECOND: u64 = 253_402_300_799;
