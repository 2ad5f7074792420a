//! What is about modules from shared libraries.

use std::path::PathBuf;
use std::time::Duration;

use super::state::{absolute, folder};
use super::{Refused, SWITCH, choice, number, text};
use crate::config::libraries::Libraries;
use crate::config::syntax::Value;

/// The settings that were made; `None` where none was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::config) struct Modules {
    poison: Option<bool>,
    /// In microseconds; 0 is none.
    callback_budget: Option<u32>,
    /// Absolute.
    trusted_dir: Option<PathBuf>,
}

impl Modules {
    /// Makes the setting `name`; whether there is one of this name.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<bool, Refused> {
        match name {
            "poison" => self.poison = Some(choice(value, &SWITCH)?),
            "callback_budget" => self.callback_budget = Some(number(value, 0, BUDGET_MAX_US)?),
            "trusted_dir" => self.trusted_dir = Some(folder(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Writes what was set over `libraries`.
    pub(in crate::config) fn apply(self, libraries: &mut Libraries) {
        libraries.poison = self.poison.unwrap_or(libraries.poison);
        if let Some(us) = self.callback_budget {
            libraries.callback_budget = (us > 0).then(|| Duration::from_micros(us.into()));
        }
        libraries.trusted_dir = self.trusted_dir;
    }
}

/// Names with commas between: of packets, or of modules.
pub(super) fn names(value: &Value, expected: &str) -> Result<Vec<String>, Refused> {
    let refused = || Refused::Value(expected.to_owned());
    let names = text(value, expected)?.split(',').map(|name| {
        let name = name.trim();
        let is_name = |byte: u8| byte.is_ascii_graphic();
        let fits = (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_name);
        fits.then(|| name.to_owned()).ok_or_else(refused)
    });
    names.collect()
}

/// What modules open after the start.
pub(super) fn path(value: &Value) -> Result<PathBuf, Refused> {
    absolute(value, OPENED)
}

/// What `override` takes.
pub(super) const OVERRIDES: &str = "names of packets such as \"dialog,ul\"";

/// What `reentrant` takes.
pub(super) const REENTRANT: &str = "names of modules such as \"counter,quota\"";

/// What `module_reads` and `module_writes` take.
const OPENED: &str = "the absolute path of a file or a folder such as \"/etc/quota\",";

/// A minute, in microseconds.
const BUDGET_MAX_US: u32 = 60_000_000;

/// No module and no packet of OpenSIPS has a longer one.
const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_commas_and_none_is_empty() {
        let of = |text: &str| names(&Value::Text(text.to_owned()), OVERRIDES);
        assert_eq!(of("ul").unwrap(), ["ul"]);
        assert_eq!(of(" dialog , ul").unwrap(), ["dialog", "ul"]);
        for wrong in ["", ",", "ul,", "a b", &"x".repeat(65)] {
            assert_eq!(
                of(wrong),
                Err(Refused::Value(OVERRIDES.to_owned())),
                "{wrong}"
            );
        }
        assert!(names(&Value::Int(1), OVERRIDES).is_err());
    }

    #[test]
    fn what_is_not_set_stays_and_a_budget_of_nothing_is_none() {
        let (mut modules, mut libraries) = (Modules::default(), Libraries::default());
        modules.clone().apply(&mut libraries);
        assert_eq!(libraries, Libraries::default());
        assert_eq!(libraries.callback_budget, Some(Duration::from_millis(1)));
        assert_eq!(modules.set("poison", &Value::Text("on".into())), Ok(true));
        assert_eq!(modules.set("callback_budget", &Value::Int(0)), Ok(true));
        assert_eq!(modules.set("other", &Value::Int(0)), Ok(false));
        assert!(modules.set("callback_budget", &Value::Int(-1)).is_err());
        assert!(
            modules
                .set("trusted_dir", &Value::Text("build".into()))
                .is_err()
        );
        modules.apply(&mut libraries);
        assert!(libraries.poison);
        assert_eq!(libraries.callback_budget, None);
    }
}
