//! What is replicated: records with a name and a version, in packets and chunks of `cachedb-local-repl`.
//!
//! The layout of that capability is the same in all releases, names its records where steering looks for the key, and has the
//! name in its first field too, where a replica of opaque records looks for it.

use std::collections::BTreeMap;

use binrush_wire::{Builder, Fields, Generation};

use super::speech::Word;

/// The records of one capability at one place: name to version.
pub(super) type Records = BTreeMap<String, u64>;

/// What a packet does to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: String,
    /// `None`: it is gone.
    pub(super) version: Option<u64>,
}

impl Change {
    /// The packet that tells of it.
    pub(super) fn word(&self, capability: &str, padding: usize) -> Word {
        Word::Live {
            capability: capability.to_owned(),
            command: if self.version.is_some() { PUT } else { DELETE },
            version: DATA_VERSION,
            fields: self.fields(padding),
        }
    }

    /// The change that a live packet tells of.
    pub(super) fn of(command: i32, fields: &[u8]) -> Option<Self> {
        let mut eye = Fields::new(Generation::Modern, fields, 0);
        let text = |eye: &mut Fields<'_>| String::from_utf8(eye.pop_str().ok()?.to_vec()).ok();
        let name = text(&mut eye)?;
        text(&mut eye)?;
        let version = match command {
            PUT => {
                let value = text(&mut eye)?;
                Some(value.split('.').next()?.parse().ok()?)
            }
            DELETE => None,
            _ => return None,
        };
        Some(Self { name, version })
    }

    /// The record in a chunk.
    pub(super) fn of_chunk(chunk: &[u8]) -> Option<(String, u64)> {
        let change = Self::of(PUT, chunk)?;
        Some((change.name, change.version?))
    }

    /// As fields; a chunk holds the same.
    pub(super) fn fields(&self, padding: usize) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut pen = Builder::new(Generation::Modern, &mut buffer, b"", 0, 0).expect("room");
        let head = pen.len();
        pen.push_str(self.name.as_bytes()).expect("room");
        pen.push_str(self.name.as_bytes()).expect("room");
        if let Some(version) = self.version {
            let value = format!("{version}.{:padding$}", "");
            pen.push_str(value.as_bytes()).expect("room");
            pen.push_int(0).expect("room");
        }
        pen.seal()[head..].to_vec()
    }

    /// Does it.
    pub(super) fn apply(&self, records: &mut Records) {
        match self.version {
            Some(version) => records.insert(self.name.clone(), version),
            None => records.remove(&self.name),
        };
    }
}

pub(super) const PUT: i32 = 1;
pub(super) const DELETE: i32 = 2;
pub(super) const DATA_VERSION: i16 = 1;
