//! Registrations: contact inserts, updates and deletes of usrloc.
//!
//! A record is an AoR with one contact, always the same; its number is in both. A bit per record says whether it is
//! registered as far as the sender told: if not, the next packet about it is an insert. If so, it is a delete, an update,
//! or an insert again: that of a contact which expired in between, for nodes send no packet then.
//!
//! With weights R, F, U of insert, update, delete those three have chances of U, F and R - U in R + F. So a record is
//! registered before R + F of R + F + U packets about it, the other U are inserts, and all together come as R to F to U
//! in the long run, whatever the popularity of records. At the start nobody is registered, so the first packets are
//! inserts: nearly all of them, until as many were sent as there are popular records; unless the load is
//! [settled](Contacts::settle).
//!
//! The Call-ID carries the stamp and so differs from packet to packet, as it does with a phone that restarts:
//! receivers have to match contacts by their URI alone, by `matching_mode 0` up to 3.0 and as the packet says from 3.1
//! on.

use binrush_probe::{STAMP_LEN, Stamp};
use binrush_wire::Release;
use rand::{Rng, RngExt as _};

use super::EPOCH_S;
use super::template::{Dialect, Spot, Template, Value, Wording, hex, one_of};
use crate::error::ScenarioError;
use crate::sample::{KeySampler, SizeSampler};
use crate::scenario::{Keys, Sizes};
use crate::source::ContentError;

/// Makes them.
#[derive(Debug)]
pub(super) struct Contacts {
    keys: KeySampler,
    sizes: SizeSampler,
    /// Whether deletes have these sizes too: a table is of inserts and updates, as a capture teaches it.
    sizes_deletes: bool,
    chances: Chances,
    population: u64,
    /// A bit for each record: the receiver was told of it.
    registered: Box<[u64]>,
    /// By action, then by phone.
    messages: [Box<[Message]>; 3],
}

/// What becomes of a contact, from the weights of a scenario.
#[derive(Debug, Clone, Copy)]
struct Chances {
    /// That it is registered before a packet about it, in the long run.
    registered: f64,
    /// That a packet about one that is registered is its end, and its end or an insert.
    delete: f64,
    delete_or_insert: f64,
}

/// What one packet says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    key: u64,
    action: Action,
    len: Option<u16>,
    due_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Insert,
    Update,
    Delete,
}

/// One layout with the wording of one phone.
#[derive(Debug)]
struct Message {
    template: Template,
    /// Where the record's number stands in AoR and contact.
    aor: Spot,
    contact: Spot,
    callid: Spot,
    cseq: Spot,
    last_modified: Option<Spot>,
    contact_id: Option<Spot>,
}

/// What tells one phone from another.
#[derive(Debug)]
struct Phone {
    user_agent: &'static str,
    path: &'static str,
    attr: &'static str,
    received: &'static str,
    instance: &'static str,
}

impl Contacts {
    /// `owner` begins every AoR: it keeps the records of runs and streams apart.
    ///
    /// # Errors
    /// [`ScenarioError::Value`]: sizes or keys out of their limits.
    pub(super) fn new(
        dialect: Dialect,
        owner: &str,
        keys: &Keys,
        weights: (f64, f64, f64),
        sizes: &Sizes,
    ) -> Result<Self, ScenarioError> {
        let words = usize::try_from(keys.population.div_ceil(64));
        let registered = vec![0; words.expect("a scenario's population is below 2^25")];
        let messages = |action| {
            let phones = PHONES.iter();
            phones
                .map(|phone| Message::new(dialect, action, owner, phone))
                .collect()
        };
        Ok(Self {
            keys: keys.sampler()?,
            sizes: sizes.sampler()?,
            chances: Chances::of(weights),
            population: keys.population,
            registered: registered.into(),
            sizes_deletes: !matches!(sizes, Sizes::Table(_)),
            messages: ACTIONS.map(messages),
        })
    }

    /// Goes to where the load is in the long run: records are registered by chance, as if inserted before the start.
    pub(super) fn settle(&mut self, draws: &mut impl Rng) {
        let mut left = self.population;
        for word in &mut self.registered {
            for bit in 0..left.min(64) {
                let is_registered = draws.random::<f64>() < self.chances.registered;
                *word |= u64::from(is_registered) << bit;
            }
            left = left.saturating_sub(64);
        }
    }

    #[inline]
    pub(super) fn turn(&mut self, draws: &mut impl Rng, due_ns: u64) -> Turn {
        let key = self.keys.sample(draws);
        // The sampler keeps below the population, for which there are words.
        let (word, bit) = (&mut self.registered[(key / 64) as usize], 1 << (key % 64));
        let action = if *word & bit == 0 {
            *word |= bit;
            Action::Insert
        } else {
            let drawn = draws.random::<f64>();
            if drawn < self.chances.delete {
                *word &= !bit;
                Action::Delete
            } else if drawn < self.chances.delete_or_insert {
                Action::Insert
            } else {
                Action::Update
            }
        };
        // Drawn for each packet, so that no packet depends on what those before it said.
        let len = self.sizes.sample(draws);
        Turn {
            key,
            action,
            len: len.filter(|_| self.sizes_deletes || action != Action::Delete),
            due_ns,
        }
    }

    #[inline]
    pub(super) fn write(
        &self,
        turn: Turn,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let phones = &self.messages[turn.action as usize];
        let mut message = one_of(phones, turn.key);
        let mut pad = 0;
        if let Some(len) = turn.len.map(usize::from) {
            if message.template.len() > len {
                message = &phones[PLAIN];
            }
            pad = message.template.pad_to(len);
        }
        message.write(turn, pad, stamp, out)
    }
}

impl Chances {
    /// Of a scenario that was checked: the sum of `register` and `refresh` is above 0, for `register` is no less than
    /// `unregister`.
    fn of((register, refresh, unregister): (f64, f64, f64)) -> Self {
        let stays = register + refresh;
        Self {
            registered: stays / (stays + unregister),
            delete: unregister / stays,
            delete_or_insert: register / stays,
        }
    }
}

impl Message {
    fn new(dialect: Dialect, action: Action, owner: &str, phone: &Phone) -> Self {
        let (name, version) = match dialect.release {
            // 1.x sends none.
            Release::V1x => ("ul", 1),
            Release::V2_4 | Release::V3_0 => (SINCE_2_4, 2),
            Release::V3_6 | Release::V4_0 => (SINCE_2_4, 5),
            _ => (SINCE_2_4, 3),
        };
        let aor = format!("{owner}{}", "0".repeat(KEY_LEN));
        let contact = format!("{SCHEME}{aor}@192.0.2.20:5060;transport=udp");
        let callid = "0".repeat(STAMP_LEN);
        let wording: &Wording<'_> = &[
            ("domain", Value::Text("location")),
            ("aor", Value::Text(&aor)),
            ("contact", Value::Text(&contact)),
            ("callid", Value::Text(&callid)),
            ("user_agent", Value::Text(phone.user_agent)),
            ("path", Value::Text(phone.path)),
            ("attr", Value::Text(phone.attr)),
            ("received", Value::Text(phone.received)),
            ("instance", Value::Text(phone.instance)),
            ("expires", Value::Number(EPOCH_S + LIFETIME_S)),
            ("q", Value::Number(-1)),
            ("socket", Value::Text("udp:127.0.0.1:5060")),
            ("methods", Value::Number(-1)),
            ("match_mode", Value::Number(CONTACT_ONLY)),
        ];
        let (command, padded) = match action {
            Action::Insert => (3, "attr"),
            Action::Update => (4, "attr"),
            Action::Delete => (5, "callid"),
        };
        let template = Template::new(dialect, (name, command, version), wording, padded);
        let spot = |field, offset| template.spot(field, offset);
        let known = "every contact message has it";
        Self {
            aor: spot("aor", owner.len()).expect(known),
            contact: spot("contact", SCHEME.len() + owner.len()).expect(known),
            callid: spot("callid", 0).expect(known),
            cseq: spot("cseq", 0).expect(known),
            last_modified: spot("last_modified", 0),
            contact_id: spot("contact_id", 0),
            template,
        }
    }

    #[inline]
    fn write(
        &self,
        turn: Turn,
        pad: usize,
        stamp: &Stamp,
        out: &mut [u8],
    ) -> Result<usize, ContentError> {
        let mut draft = self.template.draft(out, pad)?;
        let key = hex::<KEY_LEN>(turn.key);
        draft.put(self.aor, &key);
        draft.put(self.contact, &key);
        // Rises from packet to packet of a contact, as the CSeq of its REGISTER requests does.
        let cseq = (stamp.sequence + 1) & CSEQ_MASK;
        let [b0, b1, b2, b3, ..] = cseq.to_le_bytes();
        draft.put(self.cseq, &[b0, b1, b2, b3]);
        if let Some(spot) = self.last_modified {
            let now_s = EPOCH_S.cast_unsigned() + turn.due_ns / 1_000_000_000;
            draft.put(spot, &now_s.to_le_bytes());
        }
        if let Some(spot) = self.contact_id {
            draft.put(spot, &contact_id(turn.key).to_le_bytes());
        }
        draft.seal(self.callid, stamp);
        Ok(draft.len())
    }
}

/// The id by which nodes since 2.4 know the contact of record `key`: bits 14 to 45 are the label of the AoR, below is
/// that of the contact, above are bits of the AoR's hash (`usrloc/ucontact.h`).
///
/// No receiver checks the hash, so it is any function of the record.
#[inline]
const fn contact_id(key: u64) -> u64 {
    let hash = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    hash << 46 | key << 14
}

const SINCE_2_4: &str = "usrloc-contact-repl";
const SCHEME: &str = "sip:";

/// Enough for the largest population.
const KEY_LEN: usize = 6;

/// Contacts are matched by their URI alone (3.1 on).
const CONTACT_ONLY: i64 = 0;

/// A CSeq is below 2^31 (RFC 3261, section 8.1.1.5).
const CSEQ_MASK: u64 = 0x7FFF_FFFF;

/// To 2035: no run outlasts it, and no receiver's clock today is behind it.
const LIFETIME_S: i64 = 9 * 365 * 86_400;

/// In the order of their values.
const ACTIONS: [Action; 3] = [Action::Insert, Action::Update, Action::Delete];

/// The phone whose packets are the shortest.
const PLAIN: usize = 0;

/// As in traffic of genuine nodes: softphones, desk phones, some behind NAT, some behind an edge proxy.
const PHONES: [Phone; 6] = [
    Phone {
        user_agent: "",
        path: "",
        attr: "",
        received: "",
        instance: "",
    },
    Phone {
        user_agent: "Yealink SIP-T46S 66.85.0.5",
        path: "",
        attr: "",
        received: "",
        instance: "",
    },
    Phone {
        user_agent: "snomD785/10.1.54.13",
        path: "",
        attr: "site=4;zone=1",
        received: "",
        instance: "",
    },
    Phone {
        user_agent: "Grandstream GXP2170 1.0.11.64",
        path: "",
        attr: "",
        received: "sip:198.51.100.7:35060",
        instance: "",
    },
    Phone {
        user_agent: "Linphone Desktop/5.2.3 (belle-sip/5.3.45)",
        path: "",
        attr: "",
        received: "sip:198.51.100.8:40412;transport=tcp",
        instance: "<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>",
    },
    Phone {
        user_agent: "Zoiper rv2.10.20.5",
        path: "<sip:192.0.2.60:5060;lr>,<sip:edge0@192.0.2.61;lr;ob>",
        attr: "site=4;zone=2",
        received: "",
        instance: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Form;

    #[test]
    fn the_plain_phone_has_the_shortest_packets() {
        let dialect = Dialect::of(Form::Datagrams);
        for action in ACTIONS {
            let len = |phone| Message::new(dialect, action, "u", phone).template.len();
            let shortest = PHONES.iter().map(len).min();
            assert_eq!(shortest, Some(len(&PHONES[PLAIN])));
        }
    }

    #[test]
    fn contact_ids_differ_and_keep_to_their_bits() {
        let ids: std::collections::BTreeSet<u64> = (0..1_000).map(contact_id).collect();
        assert_eq!(ids.len(), 1_000);
        let last = contact_id((1 << 24) - 1);
        assert_eq!(
            (last >> 62, last >> 14 & 0xFFFF_FFFF, last & 0x3FFF),
            (0, (1 << 24) - 1, 0)
        );
    }
}
