//! Tables of records and pages of them, as the control socket writes them and `binrush state` reads them.
//!
//! A key that is not there when it is read has its default, as for what is known of a cluster.

use std::collections::BTreeMap;

use binrush_store::flat::{self, FlatError};
use binrush_store::{Kind, Status};
use serde::{Deserialize, Serialize};

use super::facts::Peer;
use crate::state::Search;

/// Records that are kept together: those of a capability of a cluster, or of a module of 1.x.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Table {
    /// `1/dialog-dlg-repl`, or `dialog` of 1.x.
    pub(crate) name: String,
    /// Kinds of records.
    pub(crate) kinds: Vec<String>,
    /// On all shards.
    pub(crate) records: u64,
    /// Of memory.
    pub(crate) bytes: u64,
    /// What the copy is worth; null where nobody knows it just now.
    pub(crate) copy: Option<Copy>,
    /// Of each shard; empty where nothing is written down.
    pub(crate) journal: Vec<Journal>,
    /// Why its records cannot be shown.
    pub(crate) trouble: Option<String>,
}

/// What a copy is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Copy {
    /// As of a [`Capability`](super::facts::Capability).
    pub(crate) state: String,
    pub(crate) why: String,
    /// What is had of what each node told; none of nodes before 2.4, which nobody tells apart.
    pub(crate) peers: Vec<Peer>,
}

/// What one shard wrote down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Journal {
    pub(crate) shard: u16,
    /// Changes so far.
    pub(crate) lsn: u64,
    /// Up to which one they are on the disk.
    pub(crate) durable: u64,
    /// There is a gap until the next snapshot.
    pub(crate) lagging: bool,
    /// Changes that are not in it.
    pub(crate) missed: u64,
    /// Records that are too long for it.
    pub(crate) too_long: u64,
    /// What is wrong with it.
    pub(crate) alarm: Option<String>,
}

/// Which records are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Question {
    /// Of this table.
    pub(crate) table: String,
    /// From there on.
    pub(crate) from: Position,
    /// Only these.
    pub(crate) search: Search,
    /// Only how many there are.
    pub(crate) count: bool,
}

/// Where a walk over a table goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Position {
    pub(crate) shard: u16,
    /// A place on that shard; of an AoR that is asked for, a domain.
    pub(crate) place: u32,
    /// Records of that place that were told already.
    pub(crate) skip: u32,
}

/// Some records of a table: as much as there is time and room for, so maybe none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Page<R> {
    /// When it was asked for, in seconds since 1970.
    pub(crate) at: i64,
    /// As lines of a dump.
    pub(crate) records: Vec<R>,
    /// By kind, where it is asked how many there are.
    pub(crate) counts: BTreeMap<String, Counts>,
    /// Records that are too long for an answer.
    pub(crate) left_out: u64,
    /// What to ask for next; null: that was all.
    pub(crate) next: Option<Position>,
}

/// Of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) provisional: u64,
    /// What a genuine node would refuse for want of a socket.
    pub(crate) no_socket: u64,
    /// In seconds since 1970, of those that expire.
    pub(crate) nearest_expiry: Option<i64>,
}

impl Counts {
    /// What one record counts, as it stands in memory, in the log and in snapshots.
    ///
    /// # Errors
    /// Where the record is wrong.
    pub(crate) fn of_flat(flat: &[u8]) -> Result<(Kind, Self), FlatError> {
        let mut reader = flat::Reader::new(flat)?;
        let has = |status| u64::from(reader.status.has(status));
        let mut counts = Self {
            records: 1,
            provisional: has(Status::PROVISIONAL),
            no_socket: has(Status::NO_SOCKET),
            nearest_expiry: None,
        };
        while let Some((field, value)) = reader.field()? {
            if let ("expires", flat::Value::Int(expires @ 1..)) = (field.name, value) {
                counts.nearest_expiry = Some(expires);
                break;
            }
        }
        Ok((reader.kind, counts))
    }

    /// With those of another part.
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.provisional += other.provisional;
        self.no_socket += other.no_socket;
        let both = [self.nearest_expiry, other.nearest_expiry];
        self.nearest_expiry = both.into_iter().flatten().min();
    }
}
