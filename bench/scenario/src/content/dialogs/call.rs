//! The packets of a call, in the words of different proxies.
//!
//! All three have the same Call-ID and tags. Create and update of a call are equally long, which makes the callee tag,
//! where the padding is, the same in all of them.

use binrush_probe::{STAMP_LEN, Stamp};
use binrush_wire::Release;

use super::{Dialog, Event};
use crate::content::EPOCH_S;
use crate::content::template::{Dialect, Draft, Spot, Template, Value, Wording, hex, one_of};
use crate::source::ContentError;

/// The packets of one kind of call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) created: Message,
    pub(super) updated: Message,
    pub(super) deleted: Message,
}

/// One layout with the wording of one kind of call.
#[derive(Debug)]
pub(super) struct Message {
    template: Template,
    stamp: Spot,
    callid: Spot,
    caller_tag: Spot,
    callee_tag: Spot,
    h_id: Option<Spot>,
    start_ts: Option<Spot>,
}

/// What tells one call from another.
#[derive(Debug)]
struct Style {
    to_uri: &'static str,
    caller_contact: &'static str,
    callee_contact: &'static str,
    route_set: &'static str,
    vars: &'static [(&'static str, &'static str)],
    profiles: &'static [(&'static str, &'static str)],
}

impl Call {
    /// Every kind of call. `owner` begins the Call-IDs.
    pub(super) fn all(dialect: Dialect, owner: &str) -> Box<[Self]> {
        let styles = STYLES.iter();
        styles
            .map(|style| Self::new(dialect, owner, style))
            .collect()
    }

    /// The kind that `dialog` is: any, but one whose packets are not too long if there is one.
    pub(super) fn of<'c>(dialog: &Dialog, calls: &'c [Self]) -> &'c Self {
        let any = one_of(calls, dialog.number);
        if dialog.len == 0 || any.created.template.len() <= usize::from(dialog.len) {
            any
        } else {
            &calls[PLAIN]
        }
    }

    /// How much padding makes a create or an update `len` bytes long.
    pub(super) fn pad_to(&self, len: u16) -> usize {
        self.created.template.pad_to(len.into())
    }

    fn new(dialect: Dialect, owner: &str, style: &Style) -> Self {
        let message = |event| Message::new(dialect, event, owner, style);
        Self {
            created: message(Event::Created),
            updated: message(Event::Updated),
            deleted: message(Event::Deleted),
        }
    }
}

impl Message {
    fn new(dialect: Dialect, event: Event, owner: &str, style: &Style) -> Self {
        let (name, version) = match dialect.release {
            // 1.x sends none.
            Release::V1x => ("dialog", 1),
            Release::V2_4 => (SINCE_2_4, 1),
            Release::V3_0 => (SINCE_2_4, 2),
            _ => (SINCE_2_4, 4),
        };
        let (command, state, cseq) = match event {
            Event::Created => (1, CONFIRMED_NO_ACK, "101"),
            Event::Updated => (2, CONFIRMED, "102"),
            Event::Deleted => (3, 0, ""),
        };
        let no_stamp = "0".repeat(STAMP_LEN);
        let callid = format!("{owner}{}@192.0.2.21", "0".repeat(NUMBER_LEN));
        let from_uri = format!("{SCHEME}{no_stamp}@example.com");
        let callee_tag = format!("{TAG}{}", "0".repeat(TAG_NUMBER_LEN));
        let vars = listed(dialect.release, style.vars);
        let profiles = listed(dialect.release, style.profiles);
        let wording: &Wording<'_> = &[
            ("callid", Value::Text(&callid)),
            ("caller_tag", Value::Text(&no_stamp)),
            ("callee_tag", Value::Text(&callee_tag)),
            ("from_uri", Value::Text(&from_uri)),
            ("to_uri", Value::Text(style.to_uri)),
            ("state", Value::Number(state)),
            ("caller_socket", Value::Text("udp:127.0.0.1:5060")),
            ("callee_socket", Value::Text("udp:127.0.0.1:5060")),
            ("caller_cseq", Value::Text(cseq)),
            ("callee_cseq", Value::Text("1")),
            ("caller_route_set", Value::Text(style.route_set)),
            ("caller_contact", Value::Text(style.caller_contact)),
            ("callee_contact", Value::Text(style.callee_contact)),
            ("vars", Value::Text(&vars)),
            ("profiles", Value::Text(&profiles)),
            ("flags", Value::Number(FLAGS)),
            ("expires", Value::Number(EPOCH_S + LIFETIME_S)),
        ];
        let template = Template::new(dialect, (name, command, version), wording, "callee_tag");
        let spot = |field, offset| template.spot(field, offset);
        let known = "every dialog message has it";
        let caller_tag = spot("caller_tag", 0).expect(known);
        Self {
            // A delete has no From URI: its stamp is the caller tag.
            stamp: spot("from_uri", SCHEME.len()).unwrap_or(caller_tag),
            callid: spot("callid", owner.len()).expect(known),
            caller_tag,
            callee_tag: spot("callee_tag", TAG.len()).expect(known),
            h_id: spot("h_id", 0),
            start_ts: spot("start_ts", 0),
            template,
        }
    }

    /// The packet of a call, created or updated, with `tag` as the caller tag; a call without end has its number there.
    pub(super) fn sealed(
        &self,
        dialog: &Dialog,
        pad: usize,
        tag: Option<&Tag>,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let mut draft = self.worded(dialog, pad, out)?;
        match tag {
            Some(tag) => draft.put(self.caller_tag, tag),
            None => draft.put(self.caller_tag, &hex::<NUMBER_LEN>(dialog.number)),
        }
        draft.seal(self.stamp, stamp);
        Ok(draft.len())
    }

    /// The delete of a call, whose stamp is known to the letter.
    pub(super) fn ended(
        &self,
        dialog: &Dialog,
        pad: usize,
        tag: &Tag,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let mut draft = self.worded(dialog, pad, out)?;
        draft.put(self.stamp, tag);
        draft.finish();
        Ok(draft.len())
    }

    /// What `stamp` is in the text of a delete, which is made in `scratch` for its check value.
    pub(super) fn tag(
        &self,
        dialog: &Dialog,
        pad: usize,
        stamp: &Stamp,
        scratch: &mut [u8],
    ) -> Result<Tag, ContentError> {
        let mut draft = self.worded(dialog, pad, scratch)?;
        draft.stamp(self.stamp, stamp);
        Ok(draft.text(self.stamp))
    }

    /// The packet but for its caller tag and its stamp.
    #[inline]
    fn worded<'o>(
        &self,
        dialog: &Dialog,
        pad: usize,
        out: &'o mut [u8],
    ) -> Result<Draft<'o>, ContentError> {
        let mut draft = self.template.draft(out, pad)?;
        let number = hex::<NUMBER_LEN>(dialog.number);
        // 31 bits of it are enough to look drawn.
        let id = (dialog.number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        draft.put(self.callid, &number);
        draft.put(self.callee_tag, &hex::<TAG_NUMBER_LEN>(id));
        if let Some(spot) = self.h_id {
            let [b0, b1, b2, b3, ..] = id.to_le_bytes();
            draft.put(spot, &[b0, b1, b2, b3]);
        }
        if let Some(spot) = self.start_ts {
            let begun_s = EPOCH_S + i64::from(dialog.begun_s);
            let [b0, b1, b2, b3, ..] = begun_s.to_le_bytes();
            draft.put(spot, &[b0, b1, b2, b3]);
        }
        Ok(draft)
    }
}

/// The caller tag of a call: the stamp of its delete.
pub(super) type Tag = [u8; STAMP_LEN];

/// Names with their values as nodes of `release` write them (`dialog/dlg_vals.c`; 3.4 put the type between the two).
fn listed(release: Release, values: &[(&str, &str)]) -> String {
    let between = match release {
        Release::V3_4 | Release::V3_5 | Release::V3_6 | Release::V4_0 => "#1#",
        _ => "#",
    };
    values
        .iter()
        .map(|(name, value)| format!("{name}{between}{value}|"))
        .collect()
}

const SINCE_2_4: &str = "dialog-dlg-repl";
const SCHEME: &str = "sip:";
const TAG: &str = "as";
const TAG_NUMBER_LEN: usize = 8;

/// Enough for [`super::NUMBER_MAX`].
const NUMBER_LEN: usize = 12;

/// Answered, and the ACK seen or not.
const CONFIRMED_NO_ACK: i64 = 3;
const CONFIRMED: i64 = 4;

/// Bit 4: begun by an INVITE (`dialog/dlg_hash.h`, DLG_FLAG_ISINIT).
const FLAGS: i64 = 1 << 4;

/// To 2035, for the receiver is not to end a call by itself.
const LIFETIME_S: i64 = 9 * 365 * 86_400;

/// The style whose packets are the shortest.
const PLAIN: usize = 0;

/// As in traffic of genuine nodes.
const STYLES: [Style; 4] = [
    Style {
        to_uri: "sip:bob@example.org",
        caller_contact: "sip:alice@192.0.2.21",
        callee_contact: "sip:bob@192.0.2.30",
        route_set: "",
        vars: &[],
        profiles: &[],
    },
    Style {
        to_uri: "sip:+4930901820@example.org",
        caller_contact: "sip:alice@192.0.2.21:5070;ob",
        callee_contact: "sip:bob@192.0.2.30:5080;transport=udp",
        route_set: "",
        vars: &[("caller", "alice")],
        profiles: &[],
    },
    Style {
        to_uri: "sip:bob@example.org",
        caller_contact: "sip:alice@192.0.2.21:5070;ob",
        callee_contact: "sip:bob@192.0.2.30:5080;transport=udp",
        route_set: "",
        vars: &[("caller", "alice"), ("account", "4711")],
        profiles: &[("inbound", ""), ("trunk", "trunk1")],
    },
    Style {
        to_uri: "sip:+4930901820@example.org;user=phone",
        caller_contact: "sip:alice@192.0.2.21:5070;ob",
        callee_contact: "sip:gw-3@192.0.2.40:5060;transport=tcp",
        route_set: "<sip:192.0.2.60;lr;ftag=f1>,<sip:edge0@192.0.2.61:5060;lr;ob>",
        vars: &[("caller", "alice"), ("account", "4711"), ("lcr", "3,7,12")],
        profiles: &[("outbound", ""), ("trunk", "trunk2")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Form;

    #[test]
    fn the_plain_style_has_the_shortest_packets() {
        let dialect = Dialect::of(Form::Datagrams);
        let len = |style| Call::new(dialect, "1.0.", style).created.template.len();
        let shortest = STYLES.iter().map(len).min();
        assert_eq!(shortest, Some(len(&STYLES[PLAIN])));
    }

    #[test]
    fn create_and_update_of_a_call_are_equally_long() {
        let dialect = Dialect::of(Form::Datagrams);
        for style in &STYLES {
            let call = Call::new(dialect, "1.0.", style);
            assert_eq!(call.created.template.len(), call.updated.template.len());
            assert!(call.deleted.template.len() < call.created.template.len());
        }
    }

    #[test]
    fn values_are_written_as_the_release_writes_them() {
        let values = [("caller", "alice"), ("empty", "")];
        assert_eq!(listed(Release::V3_3, &values), "caller#alice|empty#|");
        assert_eq!(listed(Release::V3_4, &values), "caller#1#alice|empty#1#|");
    }
}
