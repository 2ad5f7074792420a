//! AoRs and contacts. (OpenSIPS `modules/usrloc/ureplication.c`, `ul_cluster.c` of each branch.)

use binrush_wire::{ErrorKind, Fields, Result, WireError};

use super::dialog::unknown;
use crate::change::Change;
use crate::model::{Aor, Contact, Matching};

/// Which fields a contact has. Its id stands behind the URI where it is inserted, behind `kv` where it is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContactFields {
    pub(crate) id: bool,
    /// Branch flags are names, not a mask.
    pub(crate) names: bool,
    pub(crate) kv: bool,
    pub(crate) matching: bool,
}

impl ContactFields {
    pub(crate) const V1X: Self = Self {
        id: false,
        names: false,
        kv: false,
        matching: false,
    };
    /// Some early updates of 2.4.
    pub(crate) const WITH_KV_ONLY: Self = Self {
        kv: true,
        ..Self::V1X
    };
    /// Inserts.
    pub(crate) const V2_4: Self = Self {
        id: true,
        ..Self::V1X
    };
    /// And updates of 2.4.
    pub(crate) const V3_0: Self = Self {
        kv: true,
        ..Self::V2_4
    };
    pub(crate) const V3_1: Self = Self {
        matching: true,
        ..Self::V3_0
    };
    pub(crate) const V3_6: Self = Self {
        names: true,
        ..Self::V3_1
    };
}

pub(super) fn pop_inserted<'a>(from: &mut Fields<'a>, layout: ContactFields) -> Result<Change<'a>> {
    let mut contact = Contact::default();
    pop_name(from, &mut contact)?;
    if layout.id {
        contact.id = pop_id(from)?;
    }
    pop_common(from, &mut contact, layout.names)?;
    if layout.kv {
        contact.kv = from.pop_str()?;
    }
    let matching = pop_matching(from, layout.matching)?;
    Ok(Change::ContactInserted(contact, matching))
}

pub(super) fn pop_updated<'a>(from: &mut Fields<'a>, layout: ContactFields) -> Result<Change<'a>> {
    let mut contact = Contact::default();
    pop_name(from, &mut contact)?;
    pop_common(from, &mut contact, layout.names)?;
    if layout.kv {
        contact.kv = from.pop_str()?;
    }
    if layout.id {
        contact.id = pop_id(from)?;
    }
    let matching = pop_matching(from, layout.matching)?;
    Ok(Change::ContactUpdated(contact, matching))
}

pub(super) fn pop_deleted<'a>(from: &mut Fields<'a>, matching: bool) -> Result<Change<'a>> {
    Ok(Change::ContactDeleted {
        domain: from.pop_str()?,
        aor: from.pop_str()?,
        uri: from.pop_str()?,
        callid: from.pop_str()?,
        cseq: from.pop_int()?,
        matching: pop_matching(from, matching)?,
    })
}

pub(super) fn pop_aor<'a>(from: &mut Fields<'a>, labels: bool, kv: bool) -> Result<Change<'a>> {
    Ok(Change::AorInserted(Aor {
        domain: from.pop_str()?,
        aor: from.pop_str()?,
        labels: if labels {
            Some((from.pop_int()?, from.pop_int()?))
        } else {
            None
        },
        kv: if kv { from.pop_str()? } else { b"" },
    }))
}

/// A chunk: an int that says whether it is an AoR or a contact, then its insert.
pub(super) fn pop_chunk<'a>(
    from: &mut Fields<'a>,
    kv: bool,
    contact: ContactFields,
) -> Result<Change<'a>> {
    let at = from.offset();
    match from.pop_int()? {
        0 => pop_aor(from, true, kv),
        1 => pop_inserted(from, contact),
        other => Err(unknown(other, 1, at)),
    }
}

#[inline]
fn pop_name<'a>(from: &mut Fields<'a>, contact: &mut Contact<'a>) -> Result<()> {
    contact.domain = from.pop_str()?;
    contact.aor = from.pop_str()?;
    contact.uri = from.pop_str()?;
    Ok(())
}

#[inline]
fn pop_common<'a>(from: &mut Fields<'a>, contact: &mut Contact<'a>, names: bool) -> Result<()> {
    contact.callid = from.pop_str()?;
    contact.user_agent = from.pop_str()?;
    contact.path = from.pop_str()?;
    contact.attr = from.pop_str()?;
    contact.received = from.pop_str()?;
    contact.instance = from.pop_str()?;
    contact.expires = pop_time(from)?;
    contact.q = i32::from_le_bytes(*from.pop_object()?);
    contact.socket = from.pop_str()?;
    contact.cseq = from.pop_int()?;
    contact.flags = from.pop_int()?;
    if names {
        contact.cflag_names = Some(from.pop_str()?);
    } else {
        contact.cflags = from.pop_int()?;
    }
    contact.methods = from.pop_int()?;
    contact.modified = pop_time(from)?;
    Ok(())
}

#[inline]
fn pop_time(from: &mut Fields<'_>) -> Result<i64> {
    from.pop_object().copied().map(i64::from_le_bytes)
}

/// 0 is none: a genuine receiver makes one then.
#[inline]
fn pop_id(from: &mut Fields<'_>) -> Result<Option<u64>> {
    let id = u64::from_le_bytes(*from.pop_object()?);
    Ok((id != 0).then_some(id))
}

/// What is not said, or -1, is as the receiver is configured.
#[inline]
fn pop_matching<'a>(from: &mut Fields<'a>, there: bool) -> Result<Matching<'a>> {
    if !there {
        return Ok(Matching::Uri);
    }
    let at = from.offset();
    match from.pop_int()? {
        -1 | 0 => Ok(Matching::Uri),
        1 => Ok(Matching::UriAndCallid),
        2 => pop_params(from),
        other => Err(unknown(other, 2, at)),
    }
}

#[cold]
fn pop_params<'a>(from: &mut Fields<'a>) -> Result<Matching<'a>> {
    let at = from.offset();
    let claimed = from.pop_int()?;
    let Some(count) = usize::try_from(claimed).ok().filter(|&n| n <= PARAMS_MAX) else {
        let claimed = i64::from(claimed);
        return Err(WireError::claimed(
            ErrorKind::CountLimit,
            at,
            claimed,
            PARAMS_MAX,
        ));
    };
    let room = from.rest().len() / from.generation().length_width();
    if count > room {
        let claimed = i64::from(claimed);
        return Err(WireError::claimed(
            ErrorKind::CountPastEnd,
            at,
            claimed,
            room,
        ));
    }
    let params = (0..count).map(|_| from.pop_str()).collect::<Result<_>>()?;
    Ok(Matching::Params(params))
}

/// As in the schema: a contact's URI has a handful.
const PARAMS_MAX: usize = 64;
