//! What the packets of `dialog-dlg-repl` do to a kept dialog. (OpenSIPS 2.4 to 4.0 `modules/dialog/dlg_replication.c`.)
//!
//! CREATED, UPDATED and a chunk are written by one function, so the body of either packet is the chunk. CSEQ and VALUE change
//! one field: it is written into the kept chunk. A donor gives confirmed dialogs only (`receive_sync_request`).

use binrush_wire::schema::{Message, Value};
use binrush_wire::{Fields, Generation, Packet, WireError};

use super::frame::Frame;
use super::store::{About, Part, Standing};
use super::{OpaqueReplica, Refused, Tally, body, identify, put, ticks, version};
use crate::cluster::replica::Source;

const CREATED: i32 = 1;
const UPDATED: i32 = 2;

/// What tells a dialog from others of its Call-ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Dialog<'a> {
    caller_tag: &'a [u8],
    callee_tag: &'a [u8],
    /// With the Call-ID it is unique, and what 3.1 and later look a dialog up by.
    h_id: Option<i32>,
}

/// The value of a dialog's variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable<'a> {
    Text(&'a [u8]),
    Number(i32),
}

impl<'a> Dialog<'a> {
    /// Of a chunk, with the dialog's state.
    ///
    /// # Errors
    /// Where it ends too soon.
    fn of(data: &'a [u8]) -> Result<(Self, i32), WireError> {
        let mut fields = Fields::new(Generation::Modern, data, 0);
        fields.skip_str(1)?;
        let (caller_tag, callee_tag) = (fields.pop_str()?, fields.pop_str()?);
        fields.skip_str(2)?;
        let h_id = Some(fields.pop_int()?);
        fields.skip_int(1)?;
        let dialog = Self {
            caller_tag,
            callee_tag,
            h_id,
        };
        Ok((dialog, fields.pop_int()?))
    }

    /// Whether both are the same one: by `h_id` where a packet of today's version says it, else by tags, the callee's only
    /// where both have one.
    fn is(&self, other: &Self, version: i32) -> bool {
        match (self.h_id, other.h_id) {
            (Some(one), Some(another)) if version >= BY_ID => one == another,
            _ => {
                let (one, another) = (self.callee_tag, other.callee_tag);
                self.caller_tag == other.caller_tag
                    && (one == another || one.is_empty() || another.is_empty())
            }
        }
    }
}

impl OpaqueReplica {
    /// Applies a live packet.
    pub(super) fn dialog(&mut self, source: &Source, packet: &Packet<'_>) -> Result<(), Refused> {
        let body = body(packet)?;
        match packet.command() {
            CREATED | UPDATED => {
                let row = self.fit(source, packet, &[body])?;
                self.put_dialog(row, version(packet), ticks(source.now))
            }
            _ => self.change_dialog(source, packet, body),
        }
    }

    /// Puts the dialog whose chunk is in the frame.
    pub(super) fn put_dialog(
        &mut self,
        row: Option<u8>,
        version: i32,
        touched: u32,
    ) -> Result<(), Refused> {
        let (new, state) = Dialog::of(self.frame.data())?;
        let about = self.about(row, standing(state), touched);
        let same =
            |part: &Part| Dialog::of(&part.data).is_ok_and(|(kept, _)| kept.is(&new, version));
        put(&mut self.store, &self.frame, about, same)
    }

    fn change_dialog(
        &mut self,
        source: &Source,
        packet: &Packet<'_>,
        body: &[u8],
    ) -> Result<(), Refused> {
        let message = identify(source.release, packet)?;
        let (mut said, mut variable) = (Dialog::default(), None);
        let (mut name, mut leg, mut cseq) = (&[][..], &[][..], 0);
        message.walk(packet, |field| match (field.name, field.value) {
            ("caller_tag", Value::Str(tag)) => said.caller_tag = tag,
            ("callee_tag", Value::Str(tag)) => said.callee_tag = tag,
            ("h_id", Value::Int(id)) => said.h_id = Some(id),
            ("tag", Value::Str(tag)) => leg = tag,
            ("cseq", Value::Int(number)) => cseq = number,
            ("name", Value::Str(text)) => name = text,
            ("value", Value::Str(text)) => variable = Some(Variable::Text(text)),
            ("value", Value::Int(number)) => variable = Some(Variable::Number(number)),
            _ => {}
        })?;
        let version = version(packet);
        match message.name {
            "DELETED" => {
                let same = |part: &Part| {
                    Dialog::of(&part.data).is_ok_and(|(kept, _)| kept.is(&said, version))
                };
                // That there is none is no error: it may have gone by another node's packet.
                self.store.remove(body, same);
                Ok(())
            }
            "CSEQ" => {
                let same = |kept: &Dialog<'_>| match said.h_id {
                    Some(id) => kept.h_id == Some(id),
                    None => kept.caller_tag == leg || kept.callee_tag == leg,
                };
                self.amend(source, body, same, |frame, row| {
                    let at = cseq_at(frame, row, leg)?;
                    frame.data_mut()[at..at + 4].copy_from_slice(&cseq.to_le_bytes());
                    Some(Ok(()))
                })
            }
            "VALUE" => {
                let same = |kept: &Dialog<'_>| kept.h_id == said.h_id;
                self.amend(source, body, same, |frame, row| {
                    let data = with_variable(frame, row, name, variable)?;
                    Some(frame.fill(&[&data]))
                })
            }
            // 2.4 tells of its sharing tags by this capability: about no dialog.
            _ => Ok(()),
        }
    }

    /// Changes a field of the dialog that is the `same` among those with the Call-ID of `body`: `change` gets its chunk in the
    /// frame and leaves it there changed; `None`: it has no such field.
    fn amend(
        &mut self,
        source: &Source,
        body: &[u8],
        same: impl Fn(&Dialog<'_>) -> bool,
        change: impl FnOnce(&mut Frame, &Message) -> Option<Result<(), WireError>>,
    ) -> Result<(), Refused> {
        let found = self.store.parts_of(body).find(|(_, part)| {
            part.about.standing != Standing::Incomplete
                && Dialog::of(&part.data).is_ok_and(|(kept, _)| same(&kept))
        });
        let Some((at, part)) = found else {
            Tally::add(&self.tally.astray, 1);
            return Ok(());
        };
        self.frame.fill(&[&part.data])?;
        let touched = ticks(source.now);
        let about = About {
            touched,
            confirmed: self.confirms(touched),
            ..part.about
        };
        let row = self.rows.get(usize::from(about.row));
        match row.and_then(|row| change(&mut self.frame, row)) {
            Some(changed) => {
                changed?;
                self.store.replace(at, about, self.frame.data())?;
            }
            None => Tally::add(&self.tally.astray, 1),
        }
        Ok(())
    }
}

/// Whether a donor gives a dialog of this state. Recent releases tell of no others; older ones tell of a call that still
/// rings, too.
fn standing(state: i32) -> Standing {
    match state {
        CONFIRMED_NO_ACK | CONFIRMED => Standing::Whole,
        _ => Standing::Early,
    }
}

/// Where in the chunk in `frame` the last generated CSEQ of the leg with this tag stands; `None`: no leg has it.
fn cseq_at(frame: &Frame, row: &Message, tag: &[u8]) -> Option<usize> {
    let (dialog, _) = Dialog::of(frame.data()).ok()?;
    let wanted = match tag {
        tag if tag == dialog.callee_tag => "callee_last_cseq",
        tag if tag == dialog.caller_tag => "caller_last_cseq",
        _ => return None,
    };
    let mut found = None;
    frame
        .walk(row, |field, at| {
            if field.name == wanted {
                found = Some(at);
            }
        })
        .ok()?;
    found
}

/// The chunk in `frame` with another value of one of its variables, or without it.
fn with_variable(
    frame: &Frame,
    row: &Message,
    name: &[u8],
    value: Option<Variable<'_>>,
) -> Option<Vec<u8>> {
    let mut found = None;
    frame
        .walk(row, |field, at| {
            if let ("vars", Value::Str(vars)) = (field.name, field.value) {
                found = Some((at, vars));
            }
        })
        .ok()?;
    let (at, vars) = found?;
    let changed = replaced(vars, name, value);
    let len = u16::try_from(changed.len()).ok()?;
    let (before, behind) = (&frame.data()[..at], &frame.data()[at + 2 + vars.len()..]);
    Some([before, &len.to_le_bytes(), &changed, behind].concat())
}

/// `name#1#text|` and `name#2#number|`, one behind the other, with `|`, `#` and `\` behind a `\` (3.4 and later,
/// `dlg_db_handler.c`, `write_pair`). A new one comes first, as in `store_dlg_value_unsafe`.
fn replaced(vars: &[u8], name: &[u8], value: Option<Variable<'_>>) -> Vec<u8> {
    let name = escaped(name);
    let mut pair = Vec::new();
    if let Some(value) = value {
        let (kind, text) = match value {
            Variable::Text(text) => (b'1', escaped(text)),
            Variable::Number(number) => (b'2', number.to_string().into_bytes()),
        };
        pair = [&name[..], &[b'#', kind, b'#'], &text, b"|"].concat();
    }
    let mut changed = Vec::with_capacity(vars.len() + pair.len());
    let (mut rest, mut is_there) = (vars, false);
    while !rest.is_empty() {
        let (one, behind) = rest.split_at(unescaped(rest, b'|').map_or(rest.len(), |at| at + 1));
        let its_name = &one[..unescaped(one, b'#').unwrap_or(one.len())];
        if its_name == name {
            changed.extend_from_slice(&pair);
            is_there = true;
        } else {
            changed.extend_from_slice(one);
        }
        rest = behind;
    }
    if !is_there {
        changed.splice(..0, pair);
    }
    changed
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        if matches!(byte, b'|' | b'#' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// Where `mark` stands first with no `\` before it.
fn unescaped(text: &[u8], mark: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if byte == mark => return Some(at),
            _ => at += 1,
        }
    }
}

const CONFIRMED_NO_ACK: i32 = 3;
const CONFIRMED: i32 = 4;

/// From this header version on dialogs are found by Call-ID and `h_id`.
const BY_ID: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_replaced_where_it_stands_added_in_front_and_removed() {
        let vars = b"a#1#x|b#2#-7|";
        let text = |text: &'static [u8]| Some(Variable::Text(text));
        assert_eq!(replaced(vars, b"a", text(b"y")), b"a#1#y|b#2#-7|");
        assert_eq!(
            replaced(vars, b"b", Some(Variable::Number(9))),
            b"a#1#x|b#2#9|"
        );
        assert_eq!(replaced(vars, b"c", text(b"z")), b"c#1#z|a#1#x|b#2#-7|");
        assert_eq!(replaced(vars, b"a", None), b"b#2#-7|");
        assert_eq!(replaced(vars, b"c", None), vars);
        assert_eq!(replaced(b"", b"c", text(b"")), b"c#1#|");
    }

    #[test]
    fn marks_inside_names_and_values_are_escaped_and_no_marks() {
        let vars = replaced(b"", b"a|b", Some(Variable::Text(b"1#2\\3|")));
        assert_eq!(vars, b"a\\|b#1#1\\#2\\\\3\\||");
        let vars = replaced(&vars, b"other", Some(Variable::Number(1)));
        assert_eq!(
            replaced(&vars, b"a|b", None),
            b"other#2#1|",
            "found again behind another"
        );
        assert_eq!(
            unescaped(b"a\\", b'|'),
            None,
            "nothing behind the backslash"
        );
    }

    #[test]
    fn a_dialog_is_told_by_its_id_and_before_3_1_by_its_tags() {
        let dialog = |caller_tag: &'static str, callee_tag: &'static str, h_id| Dialog {
            caller_tag: caller_tag.as_bytes(),
            callee_tag: callee_tag.as_bytes(),
            h_id,
        };
        let kept = dialog("f", "t", Some(5));
        assert!(kept.is(&dialog("", "", Some(5)), 4));
        assert!(!kept.is(&dialog("f", "t", Some(6)), 4));
        assert!(kept.is(&dialog("f", "t", Some(6)), 2));
        assert!(kept.is(&dialog("f", "", None), 2));
        assert!(!kept.is(&dialog("f", "u", None), 2));
        assert!(!kept.is(&dialog("g", "t", None), 4));
    }
}
