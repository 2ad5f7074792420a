//! Values of several shapes: popularity, sizes, durations.

use toml::de::DeValue;

use crate::limits;
use crate::scenario::{Durations, Popularity, Sizes};

use super::reader::{Fields, Reader, Value};

pub(super) fn popularity<'t>(reader: &mut Reader<'_>, value: &'t Value<'t>) -> Option<Popularity> {
    match value.get_ref() {
        DeValue::String(word) if word == "uniform" => Some(Popularity::Uniform),
        DeValue::Table(_) => {
            let fields = reader.table(value, "popularity")?;
            reader.only(&fields, &["zipf"]);
            let exponent = the_one(reader, &fields, "zipf", POPULARITY)?;
            let exponent = reader.number(exponent, "zipf", &limits::EXPONENT)?;
            Some(Popularity::Zipf { exponent })
        }
        _ => reader.unexpected(value, "popularity", POPULARITY),
    }
}

pub(super) fn sizes<'t>(reader: &mut Reader<'_>, value: &'t Value<'t>) -> Option<Sizes> {
    match value.get_ref() {
        DeValue::String(word) if word == "natural" => Some(Sizes::Natural),
        DeValue::Integer(_) => size(reader, value, "size").map(Sizes::Fixed),
        DeValue::Table(_) => {
            let fields = reader.table(value, "size")?;
            reader.only(&fields, &["min", "max", "table"]);
            match fields.get("table") {
                None => uniform(reader, &fields),
                Some(table) => {
                    alone(reader, &fields, "table", &["min", "max"])?;
                    table_of(reader, table, SIZE_TABLE, |reader, value| {
                        size(reader, value, "table")
                    })
                    .map(Sizes::Table)
                }
            }
        }
        _ => reader.unexpected(value, "size", SIZE),
    }
}

pub(super) fn durations<'t>(reader: &mut Reader<'_>, value: &'t Value<'t>) -> Option<Durations> {
    let DeValue::Table(_) = value.get_ref() else {
        return reader.unexpected(value, "duration", DURATION);
    };
    let fields = reader.table(value, "duration")?;
    let known = ["fixed", "exponential", "median", "sigma", "table"];
    reader.only(&fields, &known);
    let Some(shape) = ["fixed", "exponential", "median", "table"]
        .into_iter()
        .find(|shape| fields.get(shape).is_some())
    else {
        return reader.refuse(fields.span, format!("duration: {DURATION} expected"));
    };
    let others = known
        .into_iter()
        .filter(|other| *other != shape && (shape, *other) != ("median", "sigma"));
    alone(reader, &fields, shape, &others.collect::<Vec<_>>())?;
    let value = fields.get(shape)?;
    match shape {
        "fixed" => reader.duration(value, shape).map(Durations::Fixed),
        "exponential" => {
            let mean = reader.duration(value, shape)?;
            Some(Durations::Exponential { mean })
        }
        "median" => {
            let median = reader.duration(value, shape);
            let sigma = the_one(reader, &fields, "sigma", DURATION)
                .and_then(|value| reader.number(value, "sigma", &limits::SIGMA));
            Some(Durations::LogNormal {
                median: median?,
                sigma: sigma?,
            })
        }
        _ => table_of(reader, value, DURATION_TABLE, |reader, value| {
            reader.duration(value, "table")
        })
        .map(Durations::Table),
    }
}

fn uniform(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Sizes> {
    let mut bound = |name: &str| {
        the_one(reader, fields, name, SIZE).and_then(|value| size(reader, value, name))
    };
    let (min, max) = (bound("min"), bound("max"));
    let (min, max) = (min?, max?);
    if min > max {
        let span = fields.get("max")?.span();
        let message = format!("max: a size from min, {min} bytes, expected, not {max}");
        return reader.refuse(span, message);
    }
    Some(Sizes::Uniform { min, max })
}

fn size(reader: &mut Reader<'_>, value: &Value<'_>, name: &str) -> Option<u16> {
    let bytes = reader.integer(value, name, &limits::SIZE)?;
    u16::try_from(bytes).ok()
}

/// Rows of a value, as `read` makes it, and its weight.
fn table_of<'t, T>(
    reader: &mut Reader<'_>,
    value: &'t Value<'t>,
    example: &str,
    mut read: impl FnMut(&mut Reader<'_>, &'t Value<'t>) -> Option<T>,
) -> Option<Vec<(T, f64)>> {
    reader.array(value, "table", &limits::TABLE, |reader, row| {
        let DeValue::Array(pair) = row.get_ref() else {
            return reader.unexpected(row, "table", example);
        };
        let [value, weight] = &**pair else {
            let message = format!("table: {example} expected, not {} values", pair.len());
            return reader.refuse(row.span(), message);
        };
        let value = read(reader, value);
        let weight = reader.number(weight, "weight", &limits::WEIGHT);
        Some((value?, weight?))
    })
}

/// Refuses the first of `others` that stands beside `name`.
fn alone(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str, others: &[&str]) -> Option<()> {
    let found = others
        .iter()
        .find_map(|other| fields.get(other).map(|value| (other, value)));
    match found {
        None => Some(()),
        Some((other, value)) => {
            let message = format!("{other} does not go with {name}: one of them expected");
            reader.refuse(value.span(), message)
        }
    }
}

/// The value of `name`, without which the table says nothing.
fn the_one<'t>(
    reader: &mut Reader<'_>,
    fields: &Fields<'t>,
    name: &str,
    expected: &str,
) -> Option<&'t Value<'t>> {
    let found = fields.get(name);
    found.or_else(|| reader.missing(fields, name, expected))
}

const POPULARITY: &str = "\"uniform\" or { zipf = 1.0 }";

const SIZE: &str = "\"natural\", a number of bytes, { min = 200, max = 600 } or \
     { table = [[300, 0.5], [420, 0.5]] }";
const SIZE_TABLE: &str = "a size with its weight such as [300, 0.5]";

pub(super) const DURATION: &str = "{ fixed = \"3s\" }, { exponential = \"3s\" }, \
     { median = \"3s\", sigma = 1.0 } or { table = [[\"3s\", 0.5], [\"9s\", 0.5]] }";
const DURATION_TABLE: &str = "a duration with its weight such as [\"3s\", 0.5]";
