//! What two dumps disagree on.
//!
//! Records are paired by what names them. What is left over is paired once more with less of the name, where that is unambiguous, so
//! that a changed Call-ID is shown as a changed field and not as two records: dialogs by Call-ID and caller's tag, contacts by domain,
//! AoR and URI. A field is compared when both sides tell of it. What is known of a record beside its fields (provisional, no socket)
//! is a node's own judgement, and is not compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use binrush_store::Kind;

use super::dump::{Dump, Item, ItemValue, Record, Value, names, place};
use super::genuine::escape;

/// What counts as a difference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// How far two clocks may be apart, in seconds.
    pub(crate) tolerance: u64,
    /// Names of fields that are not compared.
    pub(crate) ignored: BTreeSet<String>,
    /// The kinds to compare; empty: all that both sides tell of.
    pub(crate) kinds: Vec<Kind>,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Records with different fields, then those of A alone, then those of B alone, each in the order of their dump.
    pub(crate) differences: Vec<Difference>,
    /// Of each kind that was compared.
    pub(crate) counts: BTreeMap<Kind, Counts>,
    /// What was left out of A because it is over.
    pub(crate) over_a: u64,
    /// Likewise of B.
    pub(crate) over_b: u64,
    /// Times that one side gives as seconds left and the other as a time.
    pub(crate) clocks_apart: u64,
}

/// One record that is not the same.
#[derive(Debug)]
pub(crate) enum Difference {
    OnlyIn(Side, Record),
    /// As A has it, and the fields.
    Fields(Record, Vec<FieldDifference>),
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

/// A field with two values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FieldDifference {
    pub(crate) name: &'static str,
    pub(crate) a: Value,
    pub(crate) b: Value,
}

/// Of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) equal: u64,
    pub(crate) different: u64,
    pub(crate) only_a: u64,
    pub(crate) only_b: u64,
}

impl Outcome {
    /// Compares two dumps.
    pub(crate) fn of(a: Dump, b: Dump, rules: &Rules) -> Self {
        let comparison = Comparison {
            rules,
            guessed: a.vars_guessed || b.vars_guessed,
        };
        let told = |kind: &Kind| a.kinds.contains(kind) && b.kinds.contains(kind);
        let wanted = |kind: &Kind| rules.kinds.is_empty() || rules.kinds.contains(kind);
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| told(kind) && wanted(kind));
        let mut outcome = Self {
            counts: kinds.map(|kind| (kind, Counts::default())).collect(),
            over_a: a.over,
            over_b: b.over,
            ..Self::default()
        };
        let pairing = Pairing::of(&comparison, &outcome.counts, a.records, b.records);
        for (a, b) in pairing.pairs {
            let fields = comparison.fields(&a, &b, &mut outcome.clocks_apart);
            outcome.count(a.kind, |counts| {
                counts.a += 1;
                counts.b += 1;
                counts.equal += u64::from(fields.is_empty());
                counts.different += u64::from(!fields.is_empty());
            });
            if !fields.is_empty() {
                outcome.differences.push(Difference::Fields(a, fields));
            }
        }
        for record in pairing.only_a {
            outcome.count(record.kind, |counts| {
                (counts.a, counts.only_a) = (counts.a + 1, counts.only_a + 1)
            });
            outcome
                .differences
                .push(Difference::OnlyIn(Side::A, record));
        }
        for record in pairing.only_b {
            outcome.count(record.kind, |counts| {
                (counts.b, counts.only_b) = (counts.b + 1, counts.only_b + 1)
            });
            outcome
                .differences
                .push(Difference::OnlyIn(Side::B, record));
        }
        outcome
    }

    /// Whether nothing was different.
    pub(crate) const fn equal(&self) -> bool {
        self.differences.is_empty()
    }

    fn count(&mut self, kind: Kind, with: impl FnOnce(&mut Counts)) {
        with(self.counts.entry(kind).or_default());
    }
}

/// The rules, and how this pair of dumps is read.
#[derive(Debug)]
struct Comparison<'r> {
    rules: &'r Rules,
    /// Variables are compared as a genuine node shows them.
    guessed: bool,
}

impl Comparison<'_> {
    fn fields(&self, a: &Record, b: &Record, clocks_apart: &mut u64) -> Vec<FieldDifference> {
        let mut different = Vec::new();
        for (name, (in_a, in_b)) in names(a.kind).zip(a.fields.iter().zip(&b.fields)) {
            let (Some(in_a), Some(in_b)) = (in_a, in_b) else {
                continue;
            };
            if self.rules.ignored.contains(name) {
                continue;
            }
            match self.same(name, in_a, in_b) {
                Some(true) => {}
                Some(false) => different.push(FieldDifference {
                    name,
                    a: in_a.clone(),
                    b: in_b.clone(),
                }),
                None => *clocks_apart += 1,
            }
        }
        different
    }

    /// `None` where the two cannot be compared.
    fn same(&self, name: &str, a: &Value, b: &Value) -> Option<bool> {
        let clock = CLOCKS.contains(&name);
        match (a, b) {
            (Value::Left(a), Value::Left(b)) => Some(a.abs_diff(*b) <= self.rules.tolerance),
            // Never is far from every time.
            (Value::Int(a), Value::Int(b)) if clock && (*a != 0) == (*b != 0) => {
                Some(a.abs_diff(*b) <= self.rules.tolerance)
            }
            // What never expires does so by every clock.
            (Value::Left(_), Value::Int(0)) | (Value::Int(0), Value::Left(_)) => Some(false),
            (Value::Left(_), Value::Int(_)) | (Value::Int(_), Value::Left(_)) => None,
            (Value::Int(a), Value::Int(b)) if name == "state" => Some(settled(*a) == settled(*b)),
            (Value::Items(a), Value::Items(b)) if self.guessed && name == "vars" => {
                Some(shown(a) == shown(b))
            }
            (a, b) => Some(a == b),
        }
    }
}

/// Dialogs that were answered: whether the ACK came, 4 and not 3, is replicated by no release.
const fn settled(state: i64) -> i64 {
    if state == 4 { 3 } else { state }
}

/// Variables as a genuine node shows them.
fn shown(items: &[Item]) -> Vec<Item> {
    let mut shown: Vec<_> = items
        .iter()
        .map(|item| {
            let value = match &item.value {
                ItemValue::Text(text) => ItemValue::Text(escape(text)),
                number @ ItemValue::Number(_) => number.clone(),
            };
            Item::new(&*item.name, value)
        })
        .collect();
    shown.sort();
    shown
}

/// Which record of one side is which of the other.
#[derive(Debug, Default)]
struct Pairing {
    pairs: Vec<(Record, Record)>,
    only_a: Vec<Record>,
    only_b: Vec<Record>,
}

impl Pairing {
    fn of(
        comparison: &Comparison<'_>,
        kinds: &BTreeMap<Kind, Counts>,
        mut a: Vec<Record>,
        mut b: Vec<Record>,
    ) -> Self {
        a.retain(|record| kinds.contains_key(&record.kind));
        b.retain(|record| kinds.contains_key(&record.kind));
        let mut pairing = Self::default();
        let (left_a, left_b) = pairing.pair(comparison, Kind::key_len, usize::MAX, a, b);
        (pairing.only_a, pairing.only_b) =
            pairing.pair(comparison, short_key_len, 1, left_a, left_b);
        pairing
    }

    /// Pairs records that agree in so much of their names, where at most `most` on either side do, and gives back the others.
    fn pair(
        &mut self,
        comparison: &Comparison<'_>,
        key_len: fn(Kind) -> usize,
        most: usize,
        a: Vec<Record>,
        b: Vec<Record>,
    ) -> (Vec<Record>, Vec<Record>) {
        let key = |record: &Record| key_bytes(record, key_len(record.kind));
        let mut namesakes: HashMap<Vec<u8>, usize> = HashMap::new();
        for record in &a {
            *namesakes.entry(key(record)).or_default() += 1;
        }
        let mut candidates: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, record) in b.iter().enumerate().rev() {
            candidates.entry(key(record)).or_default().push(index);
        }
        let mut b: Vec<Option<Record>> = b.into_iter().map(Some).collect();
        // Equals first: of several with one name, none may take the place of another's equal.
        let mut unequal = Vec::new();
        for record in a {
            let key = key(&record);
            let found = candidates.get_mut(&key);
            let allowed = found.filter(|found| found.len().max(namesakes[&key]) <= most);
            match allowed.and_then(|found| take_equal(comparison, &record, found, &b)) {
                Some(index) => self.push(record, &mut b[index]),
                None => unequal.push((key, record)),
            }
        }
        let mut left = Vec::new();
        for (key, record) in unequal {
            let found = candidates.get_mut(&key);
            let allowed = found.filter(|found| found.len().max(namesakes[&key]) <= most);
            match allowed.and_then(Vec::pop) {
                Some(index) => self.push(record, &mut b[index]),
                None => left.push(record),
            }
        }
        (left, b.into_iter().flatten().collect())
    }

    fn push(&mut self, record: Record, other: &mut Option<Record>) {
        let other = other.take().expect("it was among the candidates");
        self.pairs.push(same_leg(record, other));
    }
}

/// Takes off the candidates one that is equal, if it is among the next ones.
fn take_equal(
    comparison: &Comparison<'_>,
    record: &Record,
    found: &mut Vec<usize>,
    b: &[Option<Record>],
) -> Option<usize> {
    let skipped = found.len().saturating_sub(LOOKED_AT_MAX);
    let equal = |index: &usize| {
        let other = b[*index].as_ref();
        other.is_some_and(|other| comparison.fields(record, other, &mut 0).is_empty())
    };
    let at = found[skipped..].iter().rposition(equal)?;
    Some(found.remove(skipped + at))
}

/// A forked call has several callees on the node that forked it, and one elsewhere: that one counts.
fn same_leg(a: Record, b: Record) -> (Record, Record) {
    let Some(tag) = place(a.kind, "callee_tag") else {
        return (a, b);
    };
    let other = |record: &Record, wanted: &Option<Value>| {
        record
            .other_legs
            .iter()
            .position(|leg| leg.contains(&(tag, wanted.clone())))
    };
    if a.fields[tag] == b.fields[tag] {
        (a, b)
    } else if let Some(leg) = other(&a, &b.fields[tag]) {
        (a.with_leg(leg), b)
    } else if let Some(leg) = other(&b, &a.fields[tag]) {
        (a, b.with_leg(leg))
    } else {
        (a, b)
    }
}

/// How much of its name is enough where nothing else is like it.
const fn short_key_len(kind: Kind) -> usize {
    match kind {
        Kind::Dialog => 2,
        Kind::Contact => 3,
        kind => kind.key_len(),
    }
}

fn key_bytes(record: &Record, len: usize) -> Vec<u8> {
    let mut bytes = vec![record.kind as u8];
    for value in record.key(len) {
        let value = value.and_then(Value::bytes).unwrap_or_default();
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Fields that are computed from a clock when they are sent or shown.
const CLOCKS: [&str; 3] = ["expires", "last_modified", "heard"];

/// How many records of one name are tried.
const LOOKED_AT_MAX: usize = 16;
