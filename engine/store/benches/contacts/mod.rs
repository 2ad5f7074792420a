use binrush_store::change::Change;
use binrush_store::model::{Aor, Contact, Matching};
use binrush_store::{Effects, Family, Limits, Now, Store};

pub const NOW: i64 = 1_800_000_000;

/// The strings of one contact that are its own.
#[derive(Debug, Default, Clone)]
pub struct Texts {
    aor: String,
    uri: String,
    callid: String,
    received: String,
    instance: String,
    agent: &'static str,
    path: &'static str,
    cseq: i32,
}

impl Texts {
    /// Contact number `number`; its fields have 350 bytes in a packet of 3.6. Its AoR is the only one's of it.
    #[must_use]
    pub fn of(number: u32) -> Self {
        let host = format!(
            "{}.{}.{}",
            number >> 16 & 255,
            number >> 8 & 255,
            number & 255
        );
        let port = 1024 + number % 50_000;
        let mut texts = Self {
            aor: format!("subscriber-{number:08}"),
            uri: format!("sip:subscriber-{number:08}@10.{host}:{port};transport=udp"),
            callid: format!("{number:08x}-5b2c-4f1e@10.{host}"),
            received: format!("sip:198.{host}:{port}"),
            instance: format!("<urn:uuid:00000000-0000-1000-8000-0000{number:08x}>"),
            agent: AGENTS[number as usize % AGENTS.len()],
            path: "<sip:edge-1.example.org;lr>",
            cseq: 1,
        };
        // Addresses differ in length; a longer user part makes up for it.
        let short = PAYLOAD.saturating_sub(payload(&texts.contact(1)));
        texts.uri.insert_str(4, &"x".repeat(short));
        texts
    }

    /// As it is registered for the `cseq`th time.
    #[must_use]
    pub fn contact(&self, cseq: i32) -> Contact<'_> {
        Contact {
            domain: b"location",
            aor: self.aor.as_bytes(),
            uri: self.uri.as_bytes(),
            id: Some(0x1234_5678),
            callid: self.callid.as_bytes(),
            user_agent: self.agent.as_bytes(),
            path: self.path.as_bytes(),
            received: self.received.as_bytes(),
            instance: self.instance.as_bytes(),
            expires: NOW + 3600 + i64::from(cseq),
            q: -1,
            socket: b"udp:10.0.0.1:5060",
            cseq: self.cseq.max(cseq),
            cflag_names: Some(b"NAT"),
            methods: 0x1fff,
            modified: NOW + i64::from(cseq),
            ..Contact::default()
        }
    }

    #[must_use]
    pub fn aor(&self) -> Aor<'_> {
        Aor {
            domain: b"location",
            aor: self.aor.as_bytes(),
            labels: Some((1, 1)),
            kv: b"",
        }
    }
}

/// Bytes of a contact's fields in a packet of 3.6, lengths included.
#[must_use]
pub fn payload(contact: &Contact<'_>) -> usize {
    let strings = [
        contact.domain,
        contact.aor,
        contact.uri,
        contact.callid,
        contact.user_agent,
        contact.path,
        contact.attr,
        contact.received,
        contact.instance,
        contact.socket,
        contact.cflag_names.unwrap_or_default(),
        contact.kv,
    ];
    // The id and two times as strings of 8, q as one of 4; cseq, flags, methods and the way of matching.
    strings.iter().map(|text| 2 + text.len()).sum::<usize>() + 3 * 10 + 6 + 4 * 4
}

/// A store for so many.
#[must_use]
pub fn store() -> Store {
    Store::new(Family::Usrloc, Limits::default())
}

/// The AoR and the contact of each number.
pub fn fill(store: &mut Store, numbers: std::ops::Range<u32>, effects: &mut impl Effects) {
    for number in numbers {
        let texts = Texts::of(number);
        store.apply(LIVE, &Change::AorInserted(texts.aor()), 1, effects);
        let insert = Change::ContactInserted(texts.contact(1), Matching::UriAndCallid);
        store.apply(LIVE, &insert, 1, effects);
    }
}

pub const LIVE: Now = Now { unix: NOW, tick: 1 };

pub const PAYLOAD: usize = 350;

const AGENTS: [&str; 5] = [
    "Yealink SIP-T46U 108.86.0.90",
    "PolyEdge-E350-UA/8.1.3.17299",
    "Grandstream GXP2170 1.0.11.6",
    "snomD785/10.1.169.16 webrtc1",
    "Linphone/5.2.2 (Pixel 8) LP5",
];
