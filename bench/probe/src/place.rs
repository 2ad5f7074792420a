//! Where a packet carries its stamp.

use std::ops::Range;

use binrush_wire::{Generation, Packet};

use crate::stamp::STAMP_LEN;

/// Where the text of the stamp lies in `packet.bytes()`, if it has one: [`STAMP_LEN`] bytes, which padding may follow
/// within the same field.
///
/// Name and command say which field it is, and as many fields are stepped over as stand before it; nothing is searched.
///
/// | packet | field |
/// |---|---|
/// | `ul` and `usrloc-contact-repl`: contact inserted, updated, deleted (3, 4, 5) | Call-ID |
/// | `dialog` and `dialog-dlg-repl`: created, updated (1, 2) | From URI, behind `sip:` |
/// | `dialog` and `dialog-dlg-repl`: deleted (3) | caller's tag |
/// | any other command of these names | none |
/// | any other name | the first field, a string |
///
/// Packets of 2.2 carry none: whether a field stands before all others there depends on who sends.
/// A dialog has the same caller's tag in all its packets, so that one is, in all of them, the stamp of the packet that
/// deletes it. `None` also when the field is not there or too short.
#[inline]
#[must_use]
pub fn place(packet: &Packet<'_>) -> Option<Range<usize>> {
    if packet.generation() == Generation::Transitional {
        return None;
    }
    let mut fields = packet.fields();
    let command = packet.command();
    let mut skipped = 0;
    match packet.name() {
        b"dialog" | b"dialog-dlg-repl" => match command {
            // Call-ID, both tags.
            DIALOG_CREATED | DIALOG_UPDATED => {
                fields.skip_str(3).ok()?;
                skipped = SCHEME.len();
            }
            DIALOG_DELETED => fields.skip_str(1).ok()?,
            _ => return None,
        },
        b"ul" | b"usrloc-contact-repl" => match command {
            // Domain, AoR, contact.
            CONTACT_INSERT => {
                fields.skip_str(3).ok()?;
                // Since 2.4.7 the contact's id comes next, 8 bytes; a Call-ID with a stamp is longer.
                let mut ahead = fields.clone();
                if ahead.pop_str().ok()?.len() == CONTACT_ID_LEN {
                    fields = ahead;
                }
            }
            CONTACT_UPDATE | CONTACT_DELETE => fields.skip_str(3).ok()?,
            _ => return None,
        },
        _ => {}
    }
    let field = fields.pop_str().ok()?;
    let text = field.get(skipped..)?;
    if text.len() < STAMP_LEN || !field.starts_with(&SCHEME[..skipped]) {
        return None;
    }
    let start = fields.offset() - text.len();
    Some(start..start + STAMP_LEN)
}

const DIALOG_CREATED: i32 = 1;
const DIALOG_UPDATED: i32 = 2;
const DIALOG_DELETED: i32 = 3;
const CONTACT_INSERT: i32 = 3;
const CONTACT_UPDATE: i32 = 4;
const CONTACT_DELETE: i32 = 5;

/// How a From URI begins that has a stamp for its user.
const SCHEME: &[u8] = b"sip:";

/// `uint64_t` of OpenSIPS's `ucontact_t`.
const CONTACT_ID_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::{KINDS, parsed, unstamped};
    use binrush_wire::Builder;
    use binrush_wire::schema::{self, Value};

    /// The schema knows by what name the field goes in which stamps are.
    #[test]
    fn the_place_is_the_field_that_the_schema_names() {
        for kind in KINDS {
            let (packet, at) = unstamped(kind);
            let packet = parsed(kind, &packet);
            assert_eq!(place(&packet), Some(at..at + STAMP_LEN), "{kind:?}");
            let Some(name) = kind.field() else { continue };
            let mut found = None;
            let message = schema::identify(&packet).unwrap();
            let walked = message.walk(&packet, |field| {
                if let Value::Str(text) = field.value
                    && field.name == name
                {
                    found = Some(text);
                }
            });
            assert!(walked.is_ok(), "{kind:?}: {walked:?}");
            let text = found.unwrap_or_else(|| panic!("{kind:?} has a {name}"));
            let text = text.strip_prefix(SCHEME).unwrap_or(text);
            assert!(std::ptr::eq(&text[0], &packet.bytes()[at]), "{kind:?}");
        }
    }

    #[test]
    fn a_field_that_is_short_or_not_there_is_no_place() {
        let long = [b'x'; STAMP_LEN];
        let built = |name: &[u8], command, fields: &[&[u8]]| {
            let mut buffer = [0; 512];
            let mut builder =
                Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
            for field in fields {
                builder.push_str(field).unwrap();
            }
            place(&Packet::parse(Generation::Legacy, builder.seal()).unwrap())
        };
        let sip = [SCHEME, &long].concat();
        assert!(built(b"dialog", 1, &[b"c", b"t", b"t", &sip]).is_some());
        for (name, command, fields) in [
            (&b"miss"[..], 1, &[][..]),
            (b"miss", 1, &[&long[1..]]),
            (b"dialog", 1, &[&long, &long, &long]),
            (b"dialog", 1, &[b"c", b"t", b"t", &sip[1..]]),
            (b"dialog", 1, &[b"c", b"t", b"t", b"si"]),
            (b"dialog", 1, &[b"c", b"t", b"t", &long, &sip]),
            (b"dialog", 4, &[&long, &long]),
            (b"ul", 1, &[&long, &long]),
            (b"ul", 3, &[b"d", b"a", b"c"]),
            (b"ul", 3, &[b"d", b"a", b"c", b"12345678", b"short"]),
        ] {
            assert_eq!(built(name, command, fields), None, "{fields:?}");
        }
        assert!(built(b"miss", -1, &[&long]).is_some());
    }
}
