//! What is about records: how many, and what is kept of them over the death of the process.

use std::path::PathBuf;
use std::time::Duration;

use super::{Refused, number, text};
use crate::config::StateConfig;
use crate::config::syntax::Value;

/// The settings that were made; `None` where none was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::config) struct State {
    pub(in crate::config) dir: Option<PathBuf>,
    pub(in crate::config) runtime_dir: Option<PathBuf>,
    fsync_interval: Option<u32>,
    ring_bytes: Option<usize>,
    records: Option<u32>,
    /// In MiB.
    memory: Option<u32>,
}

impl State {
    /// Makes the setting `name`; whether there is one of this name.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<bool, Refused> {
        match name {
            "state_dir" => self.dir = Some(folder(value)?),
            "runtime_dir" => self.runtime_dir = Some(folder(value)?),
            "fsync_interval" => self.fsync_interval = Some(number(value, 1, INTERVAL_MAX_MS)?),
            "ring_bytes" => self.ring_bytes = Some(ring_bytes(value)?),
            "records_max" => self.records = Some(number(value, 1, RECORDS_MAX)?),
            "records_memory" => self.memory = Some(number(value, 1, MEMORY_MAX_MIB)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What they come to, with what holds where none was made.
    pub(in crate::config) fn settled(self) -> StateConfig {
        let defaults = StateConfig::default();
        let interval = self
            .fsync_interval
            .map(|ms| Duration::from_millis(ms.into()));
        let bytes = self.memory.map(|mib| u64::from(mib) << 20);
        StateConfig {
            dir: self.dir,
            runtime_dir: self.runtime_dir.unwrap_or(defaults.runtime_dir),
            fsync_interval: interval.unwrap_or(defaults.fsync_interval),
            ring_bytes: self.ring_bytes.unwrap_or(defaults.ring_bytes),
            records: self.records.unwrap_or(defaults.records),
            bytes,
        }
    }
}

pub(super) fn folder(value: &Value) -> Result<PathBuf, Refused> {
    absolute(value, FOLDER)
}

/// A relative path would depend on who started the process.
pub(super) fn absolute(value: &Value, expected: &str) -> Result<PathBuf, Refused> {
    let path = text(value, expected)?;
    if !path.starts_with('/') || path.contains(char::is_control) || path.len() > PATH_LEN_MAX {
        return Err(Refused::Value(expected.to_owned()));
    }
    Ok(path.into())
}

fn ring_bytes(value: &Value) -> Result<usize, Refused> {
    let bytes: usize = number(value, RING_MIN, RING_MAX)?;
    match bytes.is_power_of_two() {
        true => Ok(bytes),
        false => Err(Refused::Value(format!(
            "a power of two from {RING_MIN} to {RING_MAX}"
        ))),
    }
}

const FOLDER: &str = "the absolute path of a folder such as \"/var/lib/binrush\",";

/// What file names behind it need is left of the 4095 bytes that a path may have.
const PATH_LEN_MAX: usize = 3072;

const INTERVAL_MAX_MS: u32 = 60_000;

/// A record takes a quarter of the ring at most, and each has to fit.
const RING_MIN: u32 = 512 << 10;
const RING_MAX: u32 = 1 << 30;

/// More have no room in 32 bits of places.
const RECORDS_MAX: u32 = 1 << 31;

/// 16 TiB.
const MEMORY_MAX_MIB: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn each_setting_takes_its_values() {
        let mut state = State::default();
        for (name, value) in [
            ("state_dir", string("/var/lib/binrush")),
            ("runtime_dir", string("/run/binrush-2")),
            ("fsync_interval", Value::Int(50)),
            ("ring_bytes", Value::Int(1 << 20)),
            ("records_max", Value::Int(1000)),
            ("records_memory", Value::Int(4096)),
        ] {
            assert_eq!(state.set(name, &value), Ok(true), "{name}");
        }
        assert_eq!(state.set("fsync", &Value::Int(1)), Ok(false));
        let expected = StateConfig {
            dir: Some("/var/lib/binrush".into()),
            runtime_dir: "/run/binrush-2".into(),
            fsync_interval: Duration::from_millis(50),
            ring_bytes: 1 << 20,
            records: 1000,
            bytes: Some(4 << 30),
        };
        assert_eq!(state.settled(), expected);
        assert_eq!(State::default().settled(), StateConfig::default());
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_expected() {
        for (name, value, told) in [
            ("state_dir", string("var/lib"), "\"/var/lib/binrush\""),
            ("state_dir", string("/var\n"), "\"/var/lib/binrush\""),
            ("state_dir", Value::Int(1), "\"/var/lib/binrush\""),
            ("runtime_dir", string(""), "\"/var/lib/binrush\""),
            ("fsync_interval", Value::Int(0), "from 1 to 60000"),
            ("ring_bytes", Value::Int(600_000), "a power of two"),
            ("ring_bytes", Value::Int(1 << 12), "from 524288"),
            ("records_max", Value::Int(0), "from 1"),
            ("records_memory", Value::Int(-1), "from 1"),
        ] {
            let refused = State::default().set(name, &value);
            let refused = refused.map_err(|refused| format!("{refused:?}"));
            let is_told = refused.as_ref().is_err_and(|text| {
                let told = format!("{told:?}");
                text.contains(told.trim_matches('"'))
            });
            assert!(is_told, "{name}: {refused:?}");
        }
    }
}
