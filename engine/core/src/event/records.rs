//! What stores tell: AoRs, contacts and dialogs, where a change is applied.

use std::borrow::Cow;

use binrush_store::model::{Aor, Contact, Dialog};
use binrush_store::{Effects, Kind, News, Record};

use super::names::{
    AOR_DELETE, AOR_INSERT, CONTACT_DELETE, CONTACT_INSERT, CONTACT_UPDATE, DLG_STATE_CHANGED,
    EventId,
};
use super::node::Node;
use super::read::members;
use super::source::Source;
use super::{Event, Form, Param, Value};
use crate::store::durable::Log;

/// Raises the events of one store. Belongs to the shard's thread, as the store does.
#[derive(Debug)]
pub struct Records(Source);

impl Records {
    /// By `source`.
    #[must_use]
    pub const fn new(source: Source) -> Self {
        Self(source)
    }
}

impl Effects for Records {
    #[inline]
    fn put(&mut self, _: u32, _: &[u8]) {}

    #[inline]
    fn gone(&mut self, _: u32) {}

    #[inline]
    fn wants_news(&self) -> bool {
        self.0.wants_any_of(RECORDS)
    }

    fn news(&mut self, news: News<'_>) {
        let (News::Created(flat) | News::Changed(flat) | News::Removed(flat)) = news;
        let kind = flat.first().and_then(|kind| Kind::of(*kind));
        let event = match (kind, news) {
            (Some(Kind::Contact), News::Created(_)) => CONTACT_INSERT,
            (Some(Kind::Contact), News::Changed(_)) => CONTACT_UPDATE,
            (Some(Kind::Contact), News::Removed(_)) => CONTACT_DELETE,
            (Some(Kind::Aor), News::Created(_)) => AOR_INSERT,
            (Some(Kind::Aor), News::Removed(_)) => AOR_DELETE,
            (Some(Kind::Dialog), News::Removed(_)) => DLG_STATE_CHANGED,
            _ => return,
        };
        if self.0.wants(event) && (event != DLG_STATE_CHANGED || was_confirmed(flat)) {
            self.0.raise_record(event, flat);
        }
    }
}

impl Log for Records {}

/// Whether the end of a dialog is told.
///
/// A genuine replica takes the state as it comes when a packet makes or updates a dialog, and raises nothing. At the end, by a packet,
/// for its time, or because a sync did not confirm it, it acts as for a BYE, which ends only what was answered. (2.1 to 3.6
/// `modules/dialog/dlg_replication.c`, `dlg_replicated_create`, `_update`, `_delete`; `dlg_hash.c`, `next_state_dlg`.)
fn was_confirmed(flat: &[u8]) -> bool {
    match Record::read(flat) {
        Ok((Record::Dialog(dialog), _)) => CONFIRMED.contains(&dialog.state),
        _ => false,
    }
}

/// What is told of the record in `flat`; `None`: it is none.
pub(super) fn event<'r>(
    id: EventId,
    name: &'r str,
    flat: &'r [u8],
    form: Form,
    node: &Node,
) -> Option<Event<'r>> {
    let (record, _) = Record::read(flat).ok()?;
    let is_old = form == Form::V1_11;
    let params = match (record, is_old) {
        (Record::Aor(aor), _) => of_aor(&aor, is_old),
        (Record::Contact(contact), false) => of_contact(&contact, node),
        (Record::Contact(contact), true) => of_contact_2_1(&contact),
        (Record::Dialog(dialog), false) => of_dialog(&dialog, node),
        (Record::Dialog(dialog), true) => of_dialog_2_1(&dialog, node),
        _ => return None,
    };
    debug_assert!(
        id.known().is_some_and(|known| known.has(is_old, &params)),
        "{params:?}"
    );
    Some(Event {
        name: Cow::Borrowed(name.as_bytes()),
        params,
    })
}

fn of_aor<'r>(aor: &Aor<'r>, is_old: bool) -> Vec<Param<'r>> {
    let domain = (!is_old).then(|| Param::str("domain", aor.domain));
    let aor = Param::str("aor", aor.aor);
    domain.into_iter().chain([aor]).collect()
}

/// (3.6 `modules/usrloc/ul_evi.c`, `ul_raise_contact_event`; what a genuine node keeps nothing for is null there.)
fn of_contact<'r>(contact: &Contact<'r>, node: &Node) -> Vec<Param<'r>> {
    vec![
        Param::str("domain", contact.domain),
        Param::str("aor", contact.aor),
        Param::str("uri", contact.uri),
        or_null("received", contact.received),
        or_null("path", contact.path),
        Param::int("qval", contact.q.into()),
        Param::str("user_agent", contact.user_agent),
        Param {
            name: Some(Cow::Borrowed(b"socket")),
            value: Value::Str(node.address_of(contact.socket)),
        },
        Param::int("bflags", contact.cflags.into()),
        Param::int("expires", contact.expires),
        Param::str("callid", contact.callid),
        Param::int("cseq", contact.cseq.into()),
        Param::str("attr", contact.attr),
        Param::int("latency", 0),
        shtag(contact.kv),
    ]
}

/// The sharing tag of a contact, which comes among what is stored with it. (3.0 to 4.0 `modules/usrloc/ul_cluster.c`, `ul_shtag_key`;
/// `ucontact.c`, `new_ucontact`.)
fn shtag(kv: &[u8]) -> Param<'_> {
    let mut stored = members(kv).unwrap_or_default().into_iter();
    let tag = stored.find(|each| each.name.as_deref() == Some(b"_st"));
    let value = match tag.map(|tag| tag.value) {
        Some(Value::Str(tag)) => Value::Str(tag),
        _ => Value::Str(Cow::Borrowed(b"")),
    };
    Param {
        name: Some(Cow::Borrowed(b"shtag")),
        value,
    }
}

/// (2.1 `modules/usrloc/udomain.c`, `ul_event_init`: the order is that of creation, not the one in which values are set.)
fn of_contact_2_1<'r>(contact: &Contact<'r>) -> Vec<Param<'r>> {
    vec![
        Param::str("address", contact.uri),
        Param::str("aor", contact.aor),
        Param::str("callid", contact.callid),
        or_null("received", contact.received),
        Param::int("cseq", contact.cseq.into()),
    ]
}

/// (3.6 `modules/dialog/dlg_hash.c`, `raise_state_changed_event`; `dlg_handlers.c`, `dlg_get_did`: digits from the last on.)
fn of_dialog<'r>(dialog: &Dialog<'r>, node: &Node) -> Vec<Param<'r>> {
    let (entry, id) = (node.entry_of(dialog.callid), dialog.h_id.cast_unsigned());
    let reversed = |number: u32| {
        let digits = format!("{number:x}");
        digits.chars().rev().collect::<String>()
    };
    let did = format!("{}.{}", reversed(entry), reversed(id));
    let db_id = u64::from(entry) << 32 | u64::from(id);
    vec![
        text("id", did),
        text("db_id", db_id.to_string()),
        Param::str("callid", dialog.callid),
        Param::str("from_tag", dialog.tags[0]),
        Param::str("to_tag", dialog.tags[1]),
        Param::int("old_state", dialog.state.into()),
        Param::int("new_state", DELETED),
    ]
}

/// (2.1 of the same file; both numbers are texts there.)
fn of_dialog_2_1<'r>(dialog: &Dialog<'r>, node: &Node) -> Vec<Param<'r>> {
    vec![
        text("hash_entry", node.entry_of(dialog.callid).to_string()),
        text("hash_id", dialog.h_id.cast_unsigned().to_string()),
        Param::int("old_state", dialog.state.into()),
        Param::int("new_state", DELETED),
    ]
}

fn text(name: &'static str, text: String) -> Param<'static> {
    Param {
        name: Some(Cow::Borrowed(name.as_bytes())),
        value: Value::Str(text.into_bytes().into()),
    }
}

const fn or_null<'r>(name: &'static str, value: &'r [u8]) -> Param<'r> {
    match value {
        [] => Param {
            name: Some(Cow::Borrowed(name.as_bytes())),
            value: Value::Null,
        },
        value => Param::str(name, value),
    }
}

const RECORDS: &[EventId] = &[
    AOR_INSERT,
    AOR_DELETE,
    CONTACT_INSERT,
    CONTACT_UPDATE,
    CONTACT_DELETE,
    DLG_STATE_CHANGED,
];

/// Without ACK, and with it; and gone. (3.6 `modules/dialog/dlg_hash.h`, `DLG_STATE_CONFIRMED_NA` and those behind it.)
const CONFIRMED: [i32; 2] = [3, 4];
const DELETED: i64 = 5;

#[cfg(test)]
mod tests {
    use binrush_store::Status;
    use binrush_store::labels::core_hash;

    use super::*;
    use crate::event::write::write;

    fn written(id: EventId, record: &Record<'_>, form: Form) -> String {
        let mut flat = Vec::new();
        record.write(Status::default(), &mut flat);
        let name = id.known().unwrap().name;
        let event = event(id, name, &flat, form, &Node::default()).unwrap();
        let mut out = Vec::new();
        write(form, &event, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn contact() -> Record<'static> {
        Record::Contact(Contact {
            domain: b"location",
            aor: b"alice",
            uri: b"sip:alice@198.51.100.7:5060",
            callid: b"reg-1",
            user_agent: b"Phone \"X\", 1.0",
            socket: b"udp:192.0.2.1:5060",
            expires: 1_800_000_000,
            q: -1,
            cseq: 7,
            cflags: 3,
            ..Contact::default()
        })
    }

    #[test]
    fn a_contact_is_told_as_3_6_tells_it() {
        assert_eq!(
            written(CONTACT_INSERT, &contact(), Form::JsonRpc),
            "{\"jsonrpc\":\"2.0\",\"method\":\"E_UL_CONTACT_INSERT\",\"params\":{\"domain\":\"location\",\"aor\":\"alice\",\
             \"uri\":\"sip:alice@198.51.100.7:5060\",\"received\":null,\"path\":null,\"qval\":-1,\"user_agent\":\"Phone \\\"X\\\", \
             1.0\",\"socket\":\"udp:192.0.2.1:5060\",\"bflags\":3,\"expires\":1800000000,\"callid\":\"reg-1\",\"cseq\":7,\
             \"attr\":\"\",\"latency\":0,\"shtag\":\"\"}}"
        );
        assert_eq!(
            written(CONTACT_DELETE, &contact(), Form::Text),
            "E_UL_CONTACT_DELETE\ndomain::location\naor::alice\nuri::sip:alice@198.51.100.7:5060\nreceived::\npath::\nqval::-1\n\
             user_agent::\"Phone \\\"X\\\", 1.0\"\nsocket::udp:192.0.2.1:5060\nbflags::3\nexpires::1800000000\ncallid::reg-1\n\
             cseq::7\nattr::\nlatency::0\nshtag::\n\n"
        );
    }

    #[test]
    fn the_old_form_has_the_parameters_of_its_time() {
        assert_eq!(
            written(CONTACT_UPDATE, &contact(), Form::V1_11),
            "E_UL_CONTACT_UPDATE\naddress::sip:alice@198.51.100.7:5060\naor::alice\ncallid::reg-1\nreceived::\ncseq::7\n\n"
        );
        let aor = Record::Aor(Aor {
            domain: b"location",
            aor: b"alice",
            ..Aor::default()
        });
        assert_eq!(
            written(AOR_INSERT, &aor, Form::V1_11),
            "E_UL_AOR_INSERT\naor::alice\n\n"
        );
        assert_eq!(
            written(AOR_INSERT, &aor, Form::Text),
            "E_UL_AOR_INSERT\ndomain::location\naor::alice\n\n"
        );
    }

    #[test]
    fn a_dialog_is_told_with_its_states_and_the_ids_of_a_genuine_table() {
        let dialog = Record::Dialog(Dialog {
            callid: b"call-1@192.0.2.1",
            tags: [b"from", b"to"],
            h_id: 0x1a3,
            state: 4,
            ..Dialog::default()
        });
        let entry = core_hash(b"call-1@192.0.2.1") & 4095;
        let reversed: String = format!("{entry:x}").chars().rev().collect();
        let db_id = u64::from(entry) << 32 | 0x1a3;
        assert_eq!(
            written(DLG_STATE_CHANGED, &dialog, Form::Text),
            format!(
                "E_DLG_STATE_CHANGED\nid::{reversed}.3a1\ndb_id::{db_id}\ncallid::call-1@192.0.2.1\nfrom_tag::from\nto_tag::to\n\
                 old_state::4\nnew_state::5\n\n"
            )
        );
        assert_eq!(
            written(DLG_STATE_CHANGED, &dialog, Form::V1_11),
            format!(
                "E_DLG_STATE_CHANGED\nhash_entry::{entry}\nhash_id::419\nold_state::4\nnew_state::5\n\n"
            )
        );
    }

    #[test]
    fn the_sharing_tag_that_is_stored_with_a_contact_is_told() {
        for (kv, told) in [
            (&b"{\"port\":5060,\"_st\":\"vip\"}"[..], "vip"),
            (b"{\"_st\":7}", ""),
            (b"{\"_st\":\"cut", ""),
            (b"", ""),
        ] {
            let Record::Contact(contact) = contact() else {
                unreachable!();
            };
            let stored = Record::Contact(Contact { kv, ..contact });
            let text = written(CONTACT_INSERT, &stored, Form::Text);
            assert!(text.ends_with(&format!("\nshtag::{told}\n\n")), "{text}");
        }
    }

    #[test]
    fn flags_are_a_number_also_where_they_came_by_name() {
        let Record::Contact(contact) = contact() else {
            unreachable!();
        };
        let named = Record::Contact(Contact {
            cflags: 0,
            cflag_names: Some(b"NAT PUSH"),
            ..contact
        });
        let text = written(CONTACT_INSERT, &named, Form::JsonRpc);
        assert!(text.contains(",\"bflags\":0,"), "{text}");
    }
}
