//! The texts of a record, and the packets that tell it.

use binrush_store::model::{Aor, Contact, Dialog, VarValue};
use binrush_store::vars::{self, Scope};
use binrush_store::{Kind, Record, write};
use binrush_wire::Builder;

use super::{DIALOGS, Key, RELEASE, USRLOC, Value, aor_name};

/// The texts that a record is made of.
#[derive(Debug)]
pub(super) struct Words {
    key: Key,
    value: Value,
    aor: Vec<u8>,
    uri: Vec<u8>,
    callid: Vec<u8>,
    received: Vec<u8>,
    instance: Vec<u8>,
    kv: Vec<u8>,
    tags: [Vec<u8>; 2],
    vars: Vec<u8>,
    profiles: Vec<u8>,
}

impl Words {
    pub(super) fn of(key: Key, value: Value) -> Self {
        let mut words = Self {
            key,
            value,
            aor: Vec::new(),
            uri: Vec::new(),
            callid: Vec::new(),
            received: Vec::new(),
            instance: Vec::new(),
            kv: Vec::new(),
            tags: [Vec::new(), Vec::new()],
            vars: Vec::new(),
            profiles: Vec::new(),
        };
        match key {
            Key::Aor(aor) => words.aor = aor_name(aor).into(),
            Key::Contact(aor, line) => {
                let host = aor % 250;
                words.aor = aor_name(aor).into();
                words.uri = format!("sip:{aor}@198.51.100.{host}:5060;line={line}").into();
                words.callid = format!("register-{aor}-{line}@198.51.100.{host}").into();
                words.received = format!("sip:203.0.113.{host}:{}", 1024 + aor % 60_000).into();
                words.instance = format!("\"<urn:uuid:{aor:08x}-{line:04x}>\"").into();
                words.kv = format!("{{\"n\":\"{}\"}}", value.number).into();
            }
            Key::Dialog(dialog) => {
                words.callid = format!("call-{dialog}@198.51.100.7").into();
                words.tags = [
                    format!("from-{dialog}").into(),
                    format!("to-{dialog}").into(),
                ];
                let account = format!("account-{}", dialog % 1000);
                vars::push_value(
                    &mut words.vars,
                    b"account",
                    VarValue::Str(account.as_bytes()),
                );
                vars::push_value(&mut words.vars, b"step", VarValue::Int(value.number));
                vars::push_profile(&mut words.profiles, b"outgoing", Scope::Bin, b"");
            }
        }
        words
    }

    /// The record in its typed form.
    pub(super) fn with<T>(&self, then: impl FnOnce(Record<'_>) -> T) -> T {
        match self.key {
            Key::Aor(number) => then(Record::Aor(Aor {
                domain: DOMAIN,
                aor: &self.aor,
                labels: Some((number.cast_signed(), 2)),
                kv: b"",
            })),
            Key::Contact(aor, line) => then(Record::Contact(self.contact(aor, line))),
            Key::Dialog(dialog) => then(Record::Dialog(self.dialog(dialog))),
        }
    }

    fn contact(&self, aor: u32, line: u32) -> Contact<'_> {
        Contact {
            domain: DOMAIN,
            aor: &self.aor,
            uri: &self.uri,
            id: Some(u64::from(aor) << 14 | u64::from(line + 1)),
            callid: &self.callid,
            user_agent: if aor.is_multiple_of(2) {
                b"Phone 1.2.3"
            } else {
                b"Softphone/7"
            },
            path: if line == 0 {
                b""
            } else {
                b"<sip:edge.example.com;lr>"
            },
            attr: b"",
            received: &self.received,
            instance: &self.instance,
            expires: self.value.at + DAY,
            q: -1,
            socket: SOCKET,
            cseq: self.value.number,
            cflag_names: Some(b"NAT"),
            methods: 0x1fff,
            modified: self.value.at,
            kv: &self.kv,
            ..Contact::default()
        }
    }

    fn dialog(&self, dialog: u32) -> Dialog<'_> {
        // Later than that no dialog can say.
        let at = i32::try_from(self.value.at).unwrap_or(i32::MAX - 86_400);
        Dialog {
            callid: &self.callid,
            tags: [&self.tags[0], &self.tags[1]],
            uris: [b"sip:alice@example.com", b"sip:bob@example.net"],
            h_id: dialog.cast_signed(),
            start: START,
            state: 3,
            sockets: [SOCKET, SOCKET],
            cseqs: [b"1", b"0"],
            contacts: [b"sip:alice@198.51.100.7", b"sip:bob@203.0.113.8"],
            vars: &self.vars,
            profiles: &self.profiles,
            user_flags: self.value.number,
            expires: at + 86_400,
            ..Dialog::default()
        }
    }

    /// The packet that tells a new one.
    pub(super) fn made<'b>(&self, buffer: &'b mut [u8]) -> Builder<'b> {
        self.with(|record| {
            let packet = write::packet(&record, RELEASE, 0, self.value.at, buffer);
            packet.expect("it fits")
        })
    }

    /// The packet that tells what it is now.
    pub(super) fn updated<'b>(&self, buffer: &'b mut [u8]) -> Builder<'b> {
        if let Key::Contact(aor, line) = self.key {
            return self.updated_contact(aor, line, buffer);
        }
        let mut packet = self.made(buffer);
        packet.retype(DIALOG_UPDATED);
        packet
    }

    /// The layout of updates is another one than that of inserts (3.6 `modules/usrloc/ureplication.c`).
    fn updated_contact<'b>(&self, aor: u32, line: u32, buffer: &'b mut [u8]) -> Builder<'b> {
        let contact = self.contact(aor, line);
        let mut to = Packet::new(buffer, USRLOC, CONTACT_UPDATED, Kind::Contact);
        for text in [
            contact.domain,
            contact.aor,
            contact.uri,
            contact.callid,
            contact.user_agent,
            contact.path,
            contact.attr,
            contact.received,
            contact.instance,
            &contact.expires.to_le_bytes(),
            &contact.q.to_le_bytes(),
            contact.socket,
        ] {
            to.str(text);
        }
        to.int(contact.cseq);
        to.int(contact.flags);
        to.str(contact.cflag_names.unwrap_or_default());
        to.int(contact.methods);
        to.str(&contact.modified.to_le_bytes());
        to.str(contact.kv);
        to.str(&contact.id.unwrap_or_default().to_le_bytes());
        to.int(MATCHING_UNSET);
        to.0
    }

    /// The packet that tells that it is over.
    pub(super) fn gone<'b>(&self, buffer: &'b mut [u8]) -> Builder<'b> {
        match self.key {
            Key::Dialog(dialog) => {
                let mut to = Packet::new(buffer, DIALOGS, DIALOG_DELETED, Kind::Dialog);
                for text in [&self.callid, &self.tags[0], &self.tags[1]] {
                    to.str(text);
                }
                to.int(dialog.cast_signed());
                to.0
            }
            Key::Contact(..) | Key::Aor(_) => {
                let mut to = Packet::new(buffer, USRLOC, CONTACT_DELETED, Kind::Contact);
                for text in [DOMAIN, &self.aor, &self.uri, &self.callid] {
                    to.str(text);
                }
                to.int(self.value.number);
                to.int(MATCHING_UNSET);
                to.0
            }
        }
    }
}

/// A packet in the making that has room for all that is made here.
struct Packet<'b>(Builder<'b>);

impl<'b> Packet<'b> {
    fn new(buffer: &'b mut [u8], name: &str, command: i32, kind: Kind) -> Self {
        let (generation, version) = (RELEASE.generation(), write::version(kind, RELEASE));
        let packet = Builder::new(generation, buffer, name.as_bytes(), command, version);
        Self(packet.expect("it fits"))
    }

    fn str(&mut self, text: &[u8]) {
        self.0.push_str(text).expect("it fits");
    }

    fn int(&mut self, number: i32) {
        self.0.push_int(number).expect("it fits");
    }
}

// Commands (3.6 `modules/usrloc/ureplication.h`, `modules/dialog/dlg_replication.h`).
const CONTACT_UPDATED: i32 = 4;
const CONTACT_DELETED: i32 = 5;
const DIALOG_UPDATED: i32 = 2;
const DIALOG_DELETED: i32 = 3;

/// How a contact is found is left to the receiver.
const MATCHING_UNSET: i32 = -1;

const DOMAIN: &[u8] = b"location";
const SOCKET: &[u8] = b"udp:192.0.2.10:5060";

/// In the year 2023.
const START: i32 = 1_700_000_000;

/// No record expires while it is looked at, also where clocks are an hour apart.
const DAY: i64 = 86_400;
