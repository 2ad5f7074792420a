//! Which records are looked for.

use binrush_store::{Family, Kind};
use serde::{Deserialize, Serialize};

use super::dump::{Record, Value};

/// Records with one of these; with none of them: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Search {
    /// Of this address of record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aor: Option<String>,
    /// With this Call-ID: a dialog, or a contact by that of its REGISTER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) callid: Option<String>,
    /// With an AoR or a Call-ID that begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
}

impl Search {
    /// Whether everything is looked for.
    pub(crate) const fn is_all(&self) -> bool {
        self.aor.is_none() && self.callid.is_none() && self.prefix.is_none()
    }

    /// Whether there can be such a record in a family.
    pub(crate) const fn concerns(&self, family: Family) -> bool {
        match family {
            _ if self.is_all() => true,
            Family::Usrloc => true,
            Family::Dialogs => self.callid.is_some() || self.prefix.is_some(),
            Family::Cache | Family::Profiles | Family::Pipes => false,
        }
    }

    /// Whether it is such a record.
    pub(crate) fn finds(&self, record: &Record) -> bool {
        let is = |name: &str, wanted: &Option<String>, matches: fn(&[u8], &[u8]) -> bool| {
            // Nothing else has a field of these names, and of a text there is no other form.
            let has = record.get(name).and_then(Value::bytes);
            let wanted = wanted.as_ref().map(String::as_bytes);
            has.zip(wanted)
                .is_some_and(|(has, wanted)| matches(has, wanted))
        };
        self.is_all()
            || is("aor", &self.aor, |has, wanted| has == wanted)
            || is("callid", &self.callid, |has, wanted| has == wanted)
            || is("aor", &self.prefix, <[u8]>::starts_with)
            || is("callid", &self.prefix, <[u8]>::starts_with)
    }
}

/// The kinds of records in a family.
pub(crate) fn kinds_of(family: Family) -> impl Iterator<Item = Kind> {
    let mut all = Kind::ALL.into_iter();
    std::iter::from_fn(move || all.find(|kind| Family::of(*kind) == family))
}
