//! `[arrivals]`.

use std::time::Duration;

use crate::limits;
use crate::scenario::{Arrivals, Step};

use super::reader::{Fields, Reader, Value};

/// How packets are spread over time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    Constant,
    Poisson,
    Captured,
    Steps,
}

pub(super) fn arrivals<'t>(reader: &mut Reader<'_>, value: &'t Value<'t>) -> Option<Arrivals> {
    let fields = reader.table(value, "arrivals")?;
    reader.only(&fields, &["kind", "gaps", "steps"]);
    let spread = match fields.get("kind") {
        Some(value) => reader.one_of(value, "kind", &SPREADS)?,
        None => return reader.missing(&fields, "kind", "a string such as \"poisson\""),
    };
    for (name, kind, its) in [
        ("gaps", "captured", Spread::Captured),
        ("steps", "steps", Spread::Steps),
    ] {
        if let Some(value) = fields.get(name)
            && spread != its
        {
            let message = format!("{name}: kind = \"{kind}\" expected with it");
            return reader.refuse(value.span(), message);
        }
    }
    match spread {
        Spread::Constant => Some(Arrivals::Constant),
        Spread::Poisson => Some(Arrivals::Poisson),
        Spread::Captured => gaps(reader, &fields).map(Arrivals::Captured),
        Spread::Steps => steps(reader, &fields).map(Arrivals::Steps),
    }
}

fn gaps(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<f64>> {
    let Some(value) = fields.get("gaps") else {
        return reader.missing(fields, "gaps", "an array such as [0.2, 1.8]");
    };
    let gaps = reader.array(value, "gaps", &limits::GAPS, |reader, gap| {
        reader.number(gap, "gaps", &limits::GAP)
    })?;
    if gaps.iter().all(|gap| *gap == 0.0) {
        return reader.refuse(value.span(), "gaps: at least one above 0 expected");
    }
    Some(gaps)
}

fn steps(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<Step>> {
    let Some(value) = fields.get("steps") else {
        let expected = "an array such as [{ seconds = 1, factor = 0.5 }]";
        return reader.missing(fields, "steps", expected);
    };
    let steps = reader.array(value, "steps", &limits::STEPS, step)?;
    if steps.iter().all(|step| step.factor == 0.0) {
        return reader.refuse(value.span(), "steps: at least one factor above 0 expected");
    }
    Some(steps)
}

fn step<'t>(reader: &mut Reader<'_>, value: &'t Value<'t>) -> Option<Step> {
    let fields = reader.table(value, "steps")?;
    reader.only(&fields, &["seconds", "factor"]);
    let mut number = |name: &str, limit| match fields.get(name) {
        Some(value) => reader.number(value, name, limit),
        None => reader.missing(&fields, name, &format!("a number from {limit}")),
    };
    let (seconds, factor) = (
        number("seconds", &limits::SECONDS),
        number("factor", &limits::FACTOR),
    );
    Some(Step {
        duration: Duration::from_secs_f64(seconds?),
        factor: factor?,
    })
}

const SPREADS: [(&str, Spread); 4] = [
    ("constant", Spread::Constant),
    ("poisson", Spread::Poisson),
    ("captured", Spread::Captured),
    ("steps", Spread::Steps),
];
