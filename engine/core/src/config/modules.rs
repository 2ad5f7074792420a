//! The parts of binrush that go by the names of OpenSIPS's modules, and what can be set about each.

use std::fmt;

use super::error::quoted;
use super::syntax::Value;

/// The parameters, row by row.
mod table;

/// A built-in part, named as the module of OpenSIPS whose packets it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// BIN over UDP (1.x) and TCP.
    ProtoBin,
    /// BIN over TLS.
    ProtoBins,
    /// Certificates, keys, and who is trusted.
    TlsMgm,
    /// The cluster's own messages.
    Clusterer,
    /// Dialogs and their profiles.
    Dialog,
    /// Contacts.
    Usrloc,
    /// Rate limits.
    Ratelimit,
    /// A cache in memory.
    CachedbLocal,
    /// Events told in datagrams.
    EventDatagram,
}

/// Something that can be set about a [`Part`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What OpenSIPS 3.6 takes when nothing is set; the last release that had it, for older ones.
    pub(super) default: Option<Preset>,
    /// Each value counts, not the last alone.
    pub(super) repeats: bool,
    /// Its name since a later release.
    pub(super) now: Option<&'static str>,
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A number in this range, ends included.
    Int(i32, i32),
    /// Any string.
    Text,
    /// One of these strings, in upper or lower case.
    OneOf(&'static [&'static str]),
    /// A number or a string: its type changed between releases.
    Either,
}

/// A default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    Int(i32),
    Text(&'static str),
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ProtoBin,
        Self::ProtoBins,
        Self::TlsMgm,
        Self::Clusterer,
        Self::Dialog,
        Self::Usrloc,
        Self::Ratelimit,
        Self::CachedbLocal,
        Self::EventDatagram,
    ];

    /// Its name in `loadmodule` and `modparam`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProtoBin => "proto_bin",
            Self::ProtoBins => "proto_bins",
            Self::TlsMgm => "tls_mgm",
            Self::Clusterer => "clusterer",
            Self::Dialog => "dialog",
            Self::Usrloc => "usrloc",
            Self::Ratelimit => "ratelimit",
            Self::CachedbLocal => "cachedb_local",
            Self::EventDatagram => "event_datagram",
        }
    }

    /// The part with this name; case matters, as it does for the file of a module.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Whether nothing but this is done with its packets outside of a cluster: they are taken, read and counted.
    #[must_use]
    pub const fn is_counted_only(self) -> bool {
        matches!(self, Self::Ratelimit | Self::CachedbLocal)
    }

    /// The parameter with this name.
    pub(super) fn parameter(self, name: &str) -> Option<Parameter> {
        let (known, columns) = self.table();
        let column = || columns.iter().find(|column| **column == name);
        known
            .iter()
            .find(|known| known.name == name)
            .copied()
            .or_else(|| column().map(|name| table::text(name)))
    }

    /// The names of its parameters.
    pub(super) fn parameter_names(self) -> impl Iterator<Item = &'static str> {
        let (known, columns) = self.table();
        known
            .iter()
            .map(|known| known.name)
            .chain(columns.iter().copied())
    }

    /// Its parameters, and apart from them the names of those that name a column of a database.
    const fn table(self) -> (&'static [Parameter], &'static [&'static str]) {
        match self {
            Self::ProtoBin => (table::PROTO_BIN, &[]),
            Self::ProtoBins => (table::PROTO_BINS, &[]),
            Self::TlsMgm => (table::TLS_MGM, table::TLS_MGM_COLUMNS),
            Self::Clusterer => (table::CLUSTERER, table::CLUSTERER_COLUMNS),
            Self::Dialog => (table::DIALOG, table::DIALOG_COLUMNS),
            Self::Usrloc => (table::USRLOC, table::USRLOC_COLUMNS),
            Self::Ratelimit => (table::RATELIMIT, &[]),
            Self::CachedbLocal => (table::CACHEDB_LOCAL, &[]),
            Self::EventDatagram => (table::EVENT_DATAGRAM, &[]),
        }
    }
}

impl Parameter {
    /// Its name in the newest release that has it.
    pub(super) const fn newest_name(&self) -> &'static str {
        match self.now {
            Some(name) => name,
            None => self.name,
        }
    }
}

impl Kind {
    /// Whether `value` can be taken.
    pub(super) fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Int(low, high), Value::Int(value)) => (low..=high).contains(value),
            (Self::OneOf(known), Value::Text(text)) => {
                known.iter().any(|known| known.eq_ignore_ascii_case(text))
            }
            (Self::Text, Value::Text(_)) | (Self::Either, _) => true,
            (Self::Int(..), Value::Text(_)) | (Self::Text | Self::OneOf(_), Value::Int(_)) => false,
        }
    }
}

impl Preset {
    /// The value it stands for.
    pub(super) fn value(self) -> Value {
        match self {
            Self::Int(value) => Value::Int(value),
            Self::Text(text) => Value::Text(text.to_owned()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Kind {
    /// What is expected, for a person who gave something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(0, 1) => f.write_str("0 or 1"),
            Self::Int(low, i32::MAX) => write!(f, "a number from {low}"),
            Self::Int(low, high) => write!(f, "a number from {low} to {high}"),
            Self::Text => f.write_str("a string in quotes"),
            Self::OneOf(known) => {
                let known: Vec<String> = known.iter().map(|known| quoted(known)).collect();
                write!(f, "one of {}", known.join(", "))
            }
            Self::Either => f.write_str("a number or a string"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_lead_back_to_their_part() {
        for part in Part::ALL {
            assert_eq!(Part::named(part.name()), Some(part));
        }
        assert_eq!(Part::named("Dialog"), None);
    }

    #[test]
    fn each_parameter_stands_once_and_takes_its_own_default() {
        for part in Part::ALL {
            let mut seen = BTreeSet::new();
            for name in part.parameter_names() {
                assert!(seen.insert(name), "{part} {name}");
                let found = part.parameter(name).unwrap();
                if let Some(default) = found.default {
                    assert!(found.kind.takes(&default.value()), "{part} {name}");
                }
            }
        }
    }

    #[test]
    fn a_later_name_is_one_that_there_is_and_takes_the_same_values() {
        let mut renamed = 0;
        for part in Part::ALL {
            for found in part
                .parameter_names()
                .filter_map(|name| part.parameter(name))
            {
                let Some(now) = found.now else { continue };
                let later = part.parameter(now).unwrap();
                assert_eq!(later.now, None, "{part} {now}");
                assert_eq!(later.repeats, found.repeats, "{part} {now}");
                assert_eq!(
                    later.kind.to_string(),
                    found.kind.to_string(),
                    "{part} {now}"
                );
                renamed += 1;
            }
        }
        assert_eq!(renamed, 6);
    }
}
