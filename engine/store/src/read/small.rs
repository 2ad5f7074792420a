//! Profiles, rate limits and key-value stores. (OpenSIPS `modules/dialog/dlg_repl_profile.c`, `ratelimit/ratelimit_helper.c`,
//! `cachedb_local/cachedb_local_replication.c`.)

use binrush_wire::{Fields, Result};

use crate::change::Change;
use crate::model::{Cached, PipeCount, ProfileCount};

/// To the end of the packet.
pub(super) fn pop_profiles<'a>(from: &mut Fields<'a>) -> Result<Vec<ProfileCount<'a>>> {
    let mut counts = Vec::new();
    while !from.is_empty() {
        counts.push(ProfileCount {
            profile: from.pop_str()?,
            value: match from.pop_int()? {
                0 => None,
                _ => Some(from.pop_str()?),
            },
            count: from.pop_int()?,
        });
    }
    Ok(counts)
}

/// To the end of the packet.
pub(super) fn pop_pipes<'a>(from: &mut Fields<'a>, flags: bool) -> Result<Vec<PipeCount<'a>>> {
    let mut counts = Vec::new();
    while !from.is_empty() {
        counts.push(PipeCount {
            pipe: from.pop_str()?,
            flags: if flags { from.pop_int()? } else { 0 },
            algorithm: from.pop_int()?,
            limit: from.pop_int()?,
            counter: from.pop_int()?,
        });
    }
    Ok(counts)
}

pub(super) fn pop_cached<'a>(from: &mut Fields<'a>, now: i64) -> Result<Change<'a>> {
    Ok(Change::CacheInserted(Cached {
        collection: from.pop_str()?,
        key: from.pop_str()?,
        value: from.pop_str()?,
        expires: match from.pop_int()? {
            0 => 0,
            // Never 0, which would be never.
            left => now.saturating_add(left.into()).max(1),
        },
    }))
}
