//! `[miss]`, `[contacts]`, `[dialogs]`.

use crate::limits;
use crate::scenario::{Keys, Kind, Part, Popularity, Sizes};

use super::reader::{Fields, Reader};
use super::shapes;

/// The part that a table describes; its share is as written.
pub(super) fn part(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Part> {
    let kind = match fields.name {
        "miss" => miss(reader, fields),
        "contacts" => contacts(reader, fields),
        _ => dialogs(reader, fields),
    };
    let share = fields.or("share", 1.0, |value| {
        reader.number(value, "share", &limits::WEIGHT)
    });
    let sizes = fields.or("size", Sizes::Natural, |value| shapes::sizes(reader, value));
    Some(Part {
        share: share?,
        sizes: sizes?,
        kind: kind?,
    })
}

fn miss(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    reader.only(
        fields,
        &["share", "name", "population", "popularity", "size"],
    );
    let name = fields.or("name", MISS.to_owned(), |value| {
        let name = value.get_ref().as_str().unwrap_or_default();
        if limits::is_unknown_name(name) {
            return Some(name.to_owned());
        }
        reader.unexpected(value, "name", limits::UNKNOWN_NAME)
    });
    let keys = keys(reader, fields);
    Some(Kind::Miss {
        name: name?,
        keys: keys?,
    })
}

fn contacts(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    reader.only(
        fields,
        &[
            "share",
            "population",
            "popularity",
            "register",
            "refresh",
            "unregister",
            "size",
        ],
    );
    let keys = keys(reader, fields);
    let mut weight = |name: &str, default| {
        fields.or(name, default, |value| {
            reader.number(value, name, &limits::CHANCE)
        })
    };
    let (register, refresh, unregister) = (
        weight("register", REGISTER),
        weight("refresh", REFRESH),
        weight("unregister", UNREGISTER),
    );
    let (register, refresh, unregister) = (register?, refresh?, unregister?);
    if register + refresh + unregister <= 0.0 {
        let message = "register, refresh, unregister: at least one above 0 expected";
        return reader.refuse(fields.span.clone(), message);
    }
    if register < unregister {
        let message = format!(
            "unregister: at most the weight of register, {register}, expected, not {unregister}: {}",
            limits::WHO_LEAVES
        );
        return reader.refuse(fields.span.clone(), message);
    }
    Some(Kind::Contacts {
        keys: keys?,
        register,
        refresh,
        unregister,
    })
}

fn dialogs(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Kind> {
    reader.only(fields, &["share", "updates", "duration", "size"]);
    let updates = fields.or("updates", UPDATES, |value| {
        reader.number(value, "updates", &limits::UPDATES)
    });
    let duration = match fields.get("duration") {
        Some(value) => shapes::durations(reader, value),
        None => reader.missing(fields, "duration", shapes::DURATION),
    };
    Some(Kind::Dialogs {
        updates: updates?,
        duration: duration?,
    })
}

fn keys(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Keys> {
    let population = match fields.get("population") {
        Some(value) => reader.integer(value, "population", &limits::POPULATION),
        None => {
            let expected = format!("a whole number from {}", limits::POPULATION);
            reader.missing(fields, "population", &expected)
        }
    };
    let popularity = fields.or("popularity", Popularity::Uniform, |value| {
        shapes::popularity(reader, value)
    });
    Some(Keys {
        population: population?,
        popularity: popularity?,
    })
}

/// The tables that are parts.
pub(super) const KINDS: [&str; 3] = ["miss", "contacts", "dialogs"];

/// The name of packets that nobody registered, when none is given.
const MISS: &str = "binrush-miss";

/// Weights of contact packets that are not given: as phones that stay for ten refreshes.
const REGISTER: f64 = 0.5;
const REFRESH: f64 = 9.0;
const UNREGISTER: f64 = 0.5;

/// Updates of a dialog when nothing is said: the one when the call is answered.
const UPDATES: f64 = 1.0;
