//! Dialogs. (OpenSIPS `modules/dialog/dlg_replication.c` of each branch.)

use binrush_wire::{ErrorKind, Fields, Result, WireError};

use crate::change::{Change, Named};
use crate::model::{Dialog, VarValue};

/// Which fields CREATED, UPDATED and a chunk have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialogFields {
    pub(crate) sdp: Sdp,
    pub(crate) module_flags: bool,
    pub(crate) routes: bool,
}

/// What there is about media and contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdp {
    /// Nothing.
    None,
    /// 2.4: what was sent on, of either side.
    Advertised,
    /// 3.0 on: received and sent on, of either side, and the contacts that were sent on.
    Both,
}

impl DialogFields {
    pub(crate) const V1X: Self = Self {
        sdp: Sdp::None,
        module_flags: false,
        routes: false,
    };
    pub(crate) const V2_2: Self = Self {
        module_flags: true,
        ..Self::V1X
    };
    pub(crate) const V2_4: Self = Self {
        sdp: Sdp::Advertised,
        ..Self::V2_2
    };
    pub(crate) const V3_0: Self = Self {
        sdp: Sdp::Both,
        ..Self::V2_2
    };
    pub(crate) const V3_1: Self = Self {
        routes: true,
        ..Self::V3_0
    };
}

/// Pops a dialog; `vars` and `profiles` are still texts.
pub(super) fn pop<'a>(from: &mut Fields<'a>, layout: DialogFields) -> Result<Dialog<'a>> {
    let mut dialog = Dialog {
        callid: from.pop_str()?,
        tags: pair(from)?,
        uris: pair(from)?,
        h_id: from.pop_int()?,
        start: from.pop_int()?,
        state: from.pop_int()?,
        sockets: pair(from)?,
        cseqs: pair(from)?,
        route_sets: pair(from)?,
        contacts: pair(from)?,
        mangled: pair(from)?,
        ..Dialog::default()
    };
    match layout.sdp {
        Sdp::None => {}
        Sdp::Advertised => {
            dialog.sdp[1] = from.pop_str()?;
            dialog.sdp[3] = from.pop_str()?;
        }
        Sdp::Both => {
            for sdp in &mut dialog.sdp {
                *sdp = from.pop_str()?;
            }
            dialog.advertised = pair(from)?;
        }
    }
    dialog.vars = from.pop_str()?;
    dialog.profiles = from.pop_str()?;
    dialog.user_flags = from.pop_int()?;
    if layout.module_flags {
        dialog.module_flags = from.pop_int()?;
    }
    dialog.flags = from.pop_int()?;
    dialog.expires = from.pop_int()?;
    dialog.last_cseqs = [from.pop_int()?, from.pop_int()?];
    if layout.routes {
        for route in &mut dialog.routes {
            *route = from.pop_str()?;
        }
    }
    Ok(dialog)
}

pub(super) fn pop_gone<'a>(from: &mut Fields<'a>, by_id: bool) -> Result<Change<'a>> {
    Ok(Change::DialogDeleted(pop_named(from, by_id)?))
}

pub(super) fn pop_cseq<'a>(from: &mut Fields<'a>, by_id: bool) -> Result<Change<'a>> {
    Ok(Change::DialogCseq {
        dialog: pop_named(from, by_id)?,
        cseq: from.pop_int()?,
    })
}

pub(super) fn pop_value<'a>(from: &mut Fields<'a>) -> Result<Change<'a>> {
    let dialog = Named {
        callid: from.pop_str()?,
        tags: None,
        h_id: Some(from.pop_int()?),
    };
    let name = from.pop_str()?;
    let at = from.offset();
    let value = match from.pop_int()? {
        0 => VarValue::Gone,
        1 | 2 if from.is_empty() => VarValue::Gone,
        1 => VarValue::Str(from.pop_str()?),
        2 => VarValue::Int(from.pop_int()?),
        other => return Err(unknown(other, 2, at)),
    };
    Ok(Change::DialogValue {
        dialog,
        name,
        value,
    })
}

fn pop_named<'a>(from: &mut Fields<'a>, by_id: bool) -> Result<Named<'a>> {
    Ok(Named {
        callid: from.pop_str()?,
        tags: Some(pair(from)?),
        h_id: if by_id { Some(from.pop_int()?) } else { None },
    })
}

#[inline]
fn pair<'a>(from: &mut Fields<'a>) -> Result<[&'a [u8]; 2]> {
    Ok([from.pop_str()?, from.pop_str()?])
}

/// A number at `at` that selects nothing; `last` is the last that does.
#[cold]
pub(super) fn unknown(number: i32, last: i32, at: usize) -> WireError {
    WireError {
        kind: ErrorKind::Variant,
        at,
        need: last.into(),
        have: number.into(),
    }
}
