//! A receiver that reads every field, remembers everything and forgives nothing.

use std::collections::{BTreeMap, BTreeSet};

use binrush_probe::{Audit, Limits, Report, STAMP_LEN, Seen, Stamp};
use binrush_wire::schema::{self, Value};
use binrush_wire::{Packet, Release, Trailer};

use crate::scenario::Form;

/// What a packet did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Did {
    Missed,
    Inserted,
    Refreshed,
    Removed,
    Created,
    Updated,
    Deleted,
}

/// A packet as it was read.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) did: Did,
    /// AoR or Call-ID, or the one string of an unknown packet behind its stamp.
    pub(super) key: String,
    pub(super) stamp: Stamp,
    pub(super) len: usize,
}

/// What a receiver was told before it is shown packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// Nothing: nobody was registered, and no call was up.
    None,
    /// Much, but nobody remembers: a record may be spoken of whose beginning was not seen.
    Forgotten,
}

/// A dialog that is up.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) created: Stamp,
    pub(super) updates: u32,
    /// All that must be the same in every packet of it.
    same: Vec<String>,
    pub(super) caller_tag: String,
}

/// A dialog that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) created: Stamp,
    pub(super) deleted: Stamp,
    pub(super) updates: u32,
}

/// The receiver.
#[derive(Debug)]
pub(super) struct Node {
    release: Release,
    trailer: Option<Trailer>,
    past: Past,
    /// Every AoR there ever was.
    met: BTreeSet<String>,
    /// How many were registered again, who had expired without a packet.
    pub(super) reinserted: u64,
    /// By AoR: contact, its id, and the CSeq of the latest packet.
    pub(super) contacts: BTreeMap<String, (String, String, i64)>,
    pub(super) calls: BTreeMap<String, Call>,
    pub(super) finished: Vec<Finished>,
    /// Every Call-ID there ever was.
    begun: BTreeMap<String, Stamp>,
    /// The fields that were neither empty nor 0 in some packet.
    pub(super) worded: BTreeSet<&'static str>,
    audit: Audit,
}

impl Node {
    /// For a load that begins.
    pub(super) fn new(form: Form) -> Self {
        Self::with(form, Past::None)
    }

    /// For a load that began before it was looked at.
    pub(super) fn without_memory(form: Form) -> Self {
        Self::with(form, Past::Forgotten)
    }

    fn with(form: Form, past: Past) -> Self {
        let (release, trailer) = match form {
            Form::Datagrams => (Release::V1x, None),
            Form::Frames {
                release,
                cluster,
                source,
                destination,
            } => (release, Some(Trailer::new(cluster, source, destination))),
        };
        Self {
            release,
            trailer,
            past,
            met: BTreeSet::new(),
            reinserted: 0,
            contacts: BTreeMap::new(),
            calls: BTreeMap::new(),
            finished: Vec::new(),
            begun: BTreeMap::new(),
            worded: BTreeSet::new(),
            audit: Audit::new(Limits {
                runs: 1,
                streams: 4,
                memory: 1 << 20,
                intervals: 10,
            }),
        }
    }

    /// What the audit of all packets says.
    pub(super) fn report(&self) -> Report {
        self.audit.report()
    }

    /// Reads a packet as a node of its release does, and takes it over.
    ///
    /// # Panics
    /// At anything that a genuine sender would not say.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Told {
        let packet = Packet::parse(self.release.generation(), bytes).expect("a whole packet");
        assert_eq!(self.audit.see(u64::MAX / 2, &packet), Seen::Fresh);
        let stamp = binrush_probe::read(&packet).expect("it was just audited");
        let (did, key) = match packet.name() {
            b"dialog" | b"dialog-dlg-repl" => self.dialog(&packet, stamp),
            b"ul" | b"usrloc-contact-repl" => self.contact(&packet),
            _ => (Did::Missed, self.unknown(&packet)),
        };
        if did != Did::Missed {
            let wire_key = schema::key(&packet)
                .expect("a known packet")
                .expect("of a record");
            assert_eq!(wire_key, key.as_bytes());
        }
        Told {
            did,
            key,
            stamp,
            len: bytes.len(),
        }
    }

    /// All fields as text, read along the newest layout of the release to the last byte.
    fn fields(&mut self, packet: &Packet<'_>) -> BTreeMap<&'static str, String> {
        let message = schema::identify_from(self.release, packet).expect("of this release");
        let newest = schema::find(self.release, packet.name(), packet.command());
        assert!(std::ptr::eq(message, newest.expect("of this release")));
        assert_eq!(
            schema::identify(packet).expect("of some release").name,
            message.name
        );
        let mut fields = BTreeMap::new();
        let trailer = message.walk(packet, |field| {
            let text = match field.value {
                Value::Str(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
                Value::Int(int) => int.to_string(),
                Value::Object(_, bytes) => {
                    let mut word = [0; 8];
                    word[..bytes.len()].copy_from_slice(bytes);
                    u64::from_le_bytes(word).to_string()
                }
                Value::Raw(_) => unreachable!("no such field is sent"),
            };
            if !text.is_empty() && text != "0" {
                self.worded.insert(field.name);
            }
            assert_eq!(fields.insert(field.name, text), None, "{}", field.name);
        });
        let trailer = trailer.expect("no byte left over");
        assert_eq!(trailer, self.trailer);
        fields
    }

    fn contact(&mut self, packet: &Packet<'_>) -> (Did, String) {
        let fields = self.fields(packet);
        assert_eq!(fields["domain"], "location");
        let aor = fields["aor"].clone();
        let contact = fields["contact"].clone();
        assert!(contact.starts_with(&format!("sip:{aor}@")), "{contact}");
        assert!(fields["callid"].len() >= STAMP_LEN);
        let cseq: i64 = fields["cseq"].parse().expect("an int");
        if self.release >= Release::V3_1 {
            assert_eq!(fields["match_mode"], "0");
        }
        let known = self.contacts.get(&aor).cloned();
        if let Some((_, _, before)) = &known {
            assert!(cseq > *before, "a CSeq rises");
        }
        let did = match packet.command() {
            3 => {
                self.reinserted += u64::from(known.is_some());
                Did::Inserted
            }
            4 => Did::Refreshed,
            5 => Did::Removed,
            command => panic!("nobody sends {command}"),
        };
        let id = fields.get("contact_id").cloned();
        let is_news = self.met.insert(aor.clone());
        if did != Did::Inserted && !(is_news && self.past == Past::Forgotten) {
            let (uri, known_id, _) = known.expect("refreshed or removed without being registered");
            assert_eq!(contact, uri);
            assert!(id.as_ref().is_none_or(|id| *id == known_id));
        }
        if did == Did::Removed {
            self.contacts.remove(&aor);
        } else {
            assert_eq!(fields["socket"], "udp:127.0.0.1:5060");
            assert_eq!(id.is_some(), self.release != Release::V1x);
            let (expires, modified): (i64, i64) = (
                fields["expires"].parse().expect("a time"),
                fields["last_modified"].parse().expect("a time"),
            );
            assert!(modified >= 1_767_225_600 && expires > modified + 86_400 * 365);
            self.contacts
                .insert(aor.clone(), (contact, id.unwrap_or_default(), cseq));
        }
        (did, aor)
    }

    fn dialog(&mut self, packet: &Packet<'_>, stamp: Stamp) -> (Did, String) {
        let fields = self.fields(packet);
        let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let callid = text("callid");
        let caller_tag = text("caller_tag");
        let is_news = self.past == Past::Forgotten && !self.begun.contains_key(&callid);
        if is_news && packet.command() != 1 {
            // Only the last numbers are of calls that began earlier.
            assert!(callid.contains("ffffff"), "{callid}");
            assert_eq!(self.begun.insert(callid.clone(), stamp), None);
            if packet.command() == 3 {
                return (Did::Deleted, callid);
            }
        }
        if packet.command() == 3 {
            let call = self
                .calls
                .remove(&callid)
                .expect("deleted without being up");
            assert_eq!(caller_tag, call.caller_tag);
            assert_eq!(text("callee_tag"), call.same[0]);
            if self.release >= Release::V3_1 {
                assert_eq!(text("h_id"), call.same[1]);
            }
            assert_eq!(stamp.late_ns, None);
            self.finished.push(Finished {
                created: call.created,
                deleted: stamp,
                updates: call.updates,
            });
            return (Did::Deleted, callid);
        }
        assert!(text("from_uri").starts_with("sip:bRs"));
        assert!(text("from_uri").ends_with("@example.com"));
        let same: Vec<String> = SAME.iter().map(|name| text(name)).collect();
        let did = match packet.command() {
            1 => {
                assert_eq!(text("state"), "3");
                let call = Call {
                    created: stamp,
                    updates: 0,
                    same,
                    caller_tag,
                };
                self.calls.insert(callid.clone(), call);
                assert_eq!(self.begun.insert(callid.clone(), stamp), None);
                Did::Created
            }
            2 => {
                assert_eq!(text("state"), "4");
                if is_news {
                    let call = Call {
                        created: stamp,
                        updates: 0,
                        same: same.clone(),
                        caller_tag: caller_tag.clone(),
                    };
                    self.calls.insert(callid.clone(), call);
                }
                let call = self
                    .calls
                    .get_mut(&callid)
                    .expect("updated without being up");
                assert_eq!((&call.same, &call.caller_tag), (&same, &caller_tag));
                call.updates += 1;
                Did::Updated
            }
            command => panic!("nobody sends {command}"),
        };
        (did, callid)
    }

    fn unknown(&self, packet: &Packet<'_>) -> String {
        assert_eq!(
            schema::identify(packet).err(),
            Some(schema::SchemaError::UnknownName)
        );
        let mut fields = packet.fields();
        if let Some(trailer) = self.trailer {
            assert_eq!(fields.pop_trailer(), Ok(trailer));
        }
        let text = fields.pop_str().expect("one string");
        assert!(fields.is_empty());
        let text = std::str::from_utf8(&text[STAMP_LEN..]).expect("text");
        text.trim_end_matches('x').into()
    }
}

/// What no update changes, the first two as in a delete.
const SAME: [&str; 9] = [
    "callee_tag",
    "h_id",
    "start_ts",
    "to_uri",
    "caller_contact",
    "callee_contact",
    "vars",
    "profiles",
    "expires",
];
