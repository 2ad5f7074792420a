//! What the packets of `usrloc-contact-repl` do to AoRs and contacts. (OpenSIPS 2.4 `modules/usrloc/ureplication.c`, 3.0 to
//! 4.0 `modules/usrloc/ul_cluster.c`.)
//!
//! ```text
//!  chunk           0 | body of an AoR insert
//!                  1 | body of a contact insert:   domain aor contact contact_id callid ... kv [match]
//!  contact update                                  domain aor contact            callid ... kv contact_id [match]
//! ```
//!
//! An update has all that an insert has, with the id elsewhere (and a kv, which 2.4's inserts lack), so it is made one. How
//! the contact was found stays out of it: donors say "by URI and Call-ID" of all (`receive_sync_request`).

use std::ops::Range;

use binrush_wire::schema::{Field, Message, Value};
use binrush_wire::{Fields, Generation, Packet, Release, WireError};

use super::store::{About, Part, Standing};
use super::{OpaqueReplica, Refused, body, identify, put, ticks};
use crate::cluster::replica::Source;

const AOR_INSERT: i32 = 1;
const AOR_DELETE: i32 = 2;
const CONTACT_UPDATE: i32 = 4;
const CONTACT_DELETE: i32 = 5;

/// What a chunk of an AoR, and one of a contact, begin with.
pub(super) const AOR: [u8; 4] = 0_i32.to_le_bytes();
/// See [`AOR`].
const CONTACT: [u8; 4] = 1_i32.to_le_bytes();

/// `CT_MATCH_CONTACT_CALLID`.
const BY_URI_AND_CALLID: [u8; 4] = 1_i32.to_le_bytes();

/// What tells a contact from others of its AoR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contact<'a> {
    uri: &'a [u8],
    callid: &'a [u8],
    /// Counts up with each REGISTER of one Call-ID.
    cseq: i32,
}

/// How a packet says that a contact is found (`get_ucontact`; the numbers are those of `ct_match.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matching<'a> {
    /// By its URI.
    Uri,
    /// By its URI and Call-ID.
    UriAndCallid,
    /// By these parameters of its URI.
    Params(Vec<&'a [u8]>),
}

/// The fields of a packet about a contact, as far as they matter here.
#[derive(Debug, Default)]
struct Seen<'a> {
    uri: &'a [u8],
    callid: &'a [u8],
    cseq: i32,
    mode: Option<i32>,
    /// Where it is told how the contact is found; from there on nothing else comes.
    mode_at: Option<usize>,
    params: Vec<&'a [u8]>,
    /// Where the contact ends, and where these two stand.
    contact_end: usize,
    kv: Range<usize>,
    contact_id: Range<usize>,
}

impl<'a> Contact<'a> {
    /// Of a chunk, or of what the first releases of 2.4 send, with no id; `None`: it is that of an AoR.
    ///
    /// # Errors
    /// Where it ends too soon.
    fn of(data: &'a [u8], has_id: bool) -> Result<Option<Self>, WireError> {
        let mut fields = Fields::new(Generation::Modern, data, 0);
        if fields.pop_int()? == 0 {
            return Ok(None);
        }
        fields.skip_str(2)?;
        let uri = fields.pop_str()?;
        fields.skip_str(usize::from(has_id))?;
        let callid = fields.pop_str()?;
        // From the user agent to the socket.
        fields.skip_str(8)?;
        let cseq = fields.pop_int()?;
        Ok(Some(Self { uri, callid, cseq }))
    }
}

impl Matching<'_> {
    /// Whether `kept` is the one that `said` means.
    fn finds(&self, said: &Contact<'_>, kept: &Contact<'_>) -> bool {
        match self {
            Self::Uri => said.uri == kept.uri,
            Self::UriAndCallid => said.uri == kept.uri && said.callid == kept.callid,
            Self::Params(names) => names.iter().all(|name| {
                let value = param(said.uri, name);
                value.is_some() && value == param(kept.uri, name)
            }),
        }
    }
}

impl<'a> Seen<'a> {
    /// What the packet `message` says of a contact. Offsets count from the first byte of its body.
    ///
    /// # Errors
    /// As [`Message::walk`].
    fn of(message: &Message, packet: &Packet<'a>) -> Result<Self, WireError> {
        let mut seen = Self::default();
        let body = packet.fields().offset();
        message.walk(packet, |field| seen.see(field, body))?;
        Ok(seen)
    }

    /// Which one it is about.
    const fn contact(&self) -> Contact<'a> {
        Contact {
            uri: self.uri,
            callid: self.callid,
            cseq: self.cseq,
        }
    }

    /// Whether it has a `contact_id`.
    const fn has_id(&self) -> bool {
        self.contact_id.start < self.contact_id.end
    }

    /// How it is found. Packets before 3.1 do not say it, and others may leave it to the receiver's `matching_mode`, which
    /// is by URI unless somebody sets it.
    fn matching(&mut self) -> Matching<'a> {
        match self.mode {
            Some(1) => Matching::UriAndCallid,
            Some(2) if !self.params.is_empty() => {
                Matching::Params(std::mem::take(&mut self.params))
            }
            _ => Matching::Uri,
        }
    }

    /// The pieces of a body in the order of a chunk's. Those of a packet without an id stay as they are: no chunk can be made
    /// of it.
    fn as_chunk<'b>(&self, body: &'b [u8], is_update: bool, has_kv: bool) -> [&'b [u8]; 5] {
        let found_by: &[u8] = match self.mode_at {
            Some(_) => &BY_URI_AND_CALLID,
            None => &[],
        };
        if is_update && self.has_id() && !self.kv.is_empty() {
            let kv = if has_kv { self.kv.clone() } else { 0..0 };
            let common = self.contact_end..self.kv.start;
            let (contact, id) = (..self.contact_end, self.contact_id.clone());
            [
                &body[contact],
                &body[id],
                &body[common],
                &body[kv],
                found_by,
            ]
        } else {
            let all = ..self.mode_at.unwrap_or(body.len());
            [&body[all], &[], &[], &[], found_by]
        }
    }

    fn see(&mut self, field: &Field<'_, 'a>, body: usize) {
        let place = || field.at - body..field.end - body;
        match (field.name, field.value) {
            ("contact", Value::Str(uri)) => {
                self.uri = uri;
                self.contact_end = field.end - body;
            }
            ("callid", Value::Str(callid)) => self.callid = callid,
            ("cseq", Value::Int(cseq)) => self.cseq = cseq,
            ("kv", _) => self.kv = place(),
            ("contact_id", _) => self.contact_id = place(),
            ("match_mode", Value::Int(mode)) => {
                self.mode = Some(mode);
                self.mode_at = Some(place().start);
            }
            ("", Value::Str(name)) => self.params.push(name),
            _ => {}
        }
    }
}

impl OpaqueReplica {
    /// Applies a live packet.
    pub(super) fn contact(&mut self, source: &Source, packet: &Packet<'_>) -> Result<(), Refused> {
        let body = body(packet)?;
        let touched = ticks(source.now);
        match packet.command() {
            AOR_INSERT => {
                let row = self.fit(source, packet, &[&AOR, body])?;
                self.put_aor(row, touched)
            }
            AOR_DELETE => {
                identify(source.release, packet)?;
                self.frame.fill(&[&AOR, body])?;
                self.store.remove(self.frame.data(), |_| true);
                Ok(())
            }
            _ => {
                let message = identify(source.release, packet)?;
                let mut seen = Seen::of(message, packet)?;
                let by = seen.matching();
                if packet.command() == CONTACT_DELETE {
                    return self.remove_contact(&seen.contact(), &by, body);
                }
                let row = self.fit_contact(source, packet, &seen, body)?;
                self.put_contact(row, &by, touched, seen.has_id())
            }
        }
    }

    /// Makes the packet a contact's chunk in the frame.
    fn fit_contact(
        &mut self,
        source: &Source,
        packet: &Packet<'_>,
        seen: &Seen<'_>,
        body: &[u8],
    ) -> Result<Option<u8>, Refused> {
        let is_update = packet.command() == CONTACT_UPDATE;
        let has_kv = source.release > Release::V2_4;
        let [a, b, c, d, e] = seen.as_chunk(body, is_update, has_kv);
        self.fit(source, packet, &[&CONTACT, a, b, c, d, e])
    }

    pub(super) fn put_aor(&mut self, row: Option<u8>, touched: u32) -> Result<(), Refused> {
        let about = self.about(row, Standing::Whole, touched);
        let same = |part: &Part| part.data.starts_with(&AOR);
        put(&mut self.store, &self.frame, about, same)
    }

    /// Puts the contact whose chunk is in the frame, unless what is kept is newer.
    pub(super) fn put_contact(
        &mut self,
        row: Option<u8>,
        by: &Matching<'_>,
        touched: u32,
        has_id: bool,
    ) -> Result<(), Refused> {
        let mut about = self.about(row, Standing::Whole, touched);
        if !has_id {
            about.row = NO_ID;
        }
        let Some(new) = contact_of(self.frame.data(), about)? else {
            return Ok(());
        };
        let found = self
            .store
            .parts_of(self.frame.data())
            .find_map(|(at, part)| {
                let kept = contact_of(&part.data, part.about).ok()??;
                let is_newer = kept.callid == new.callid && kept.cseq > new.cseq;
                by.finds(&new, &kept).then_some((at, is_newer))
            });
        match found {
            // One node's chunk may be older than another's packet.
            Some((at, true)) => {
                let confirmed = self.confirms(touched);
                self.store.touch(at, touched, confirmed);
            }
            Some((at, false)) => self.store.replace(at, about, self.frame.data())?,
            None => self.store.add(about, self.frame.data(), false)?,
        }
        Ok(())
    }

    fn remove_contact(
        &mut self,
        said: &Contact<'_>,
        by: &Matching<'_>,
        body: &[u8],
    ) -> Result<(), Refused> {
        self.frame.fill(&[&CONTACT, body])?;
        let gone = |part: &Part| {
            let kept = contact_of(&part.data, part.about).ok().flatten();
            kept.is_some_and(|kept| {
                by.finds(said, &kept) && (kept.callid != said.callid || kept.cseq <= said.cseq)
            })
        };
        self.store.remove(self.frame.data(), gone);
        Ok(())
    }
}

/// The contact in a part, if it is one.
fn contact_of(data: &[u8], about: About) -> Result<Option<Contact<'_>>, WireError> {
    let has_id = about.standing != Standing::Incomplete || about.row != NO_ID;
    Contact::of(data, has_id)
}

/// The value of a URI's parameter: `;name=value`, or `;name`, which has an empty one.
fn param<'u>(uri: &'u [u8], name: &[u8]) -> Option<&'u [u8]> {
    let end = uri.iter().position(|byte| matches!(byte, b'?' | b'>'));
    let mut params = uri[..end.unwrap_or(uri.len())].split(|byte| *byte == b';');
    params.next();
    params.find_map(|param| {
        let mut halves = param.splitn(2, |byte| *byte == b'=');
        let found = halves.next()?.eq_ignore_ascii_case(name);
        found.then(|| halves.next().unwrap_or_default())
    })
}

/// The row of an incomplete contact that has no `contact_id`.
const NO_ID: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_name_alone() {
        let uri = b"sip:a@h:5060;transport=tcp;Line=7;lr?x=1;hidden=2";
        assert_eq!(param(uri, b"line"), Some(&b"7"[..]));
        assert_eq!(param(uri, b"lr"), Some(&b""[..]));
        assert_eq!(param(uri, b"hidden"), None);
        assert_eq!(param(b"sip:line=7@h", b"line"), None);
        assert_eq!(param(b"", b"line"), None);
    }

    #[test]
    fn contacts_are_found_as_the_packet_says() {
        let contact = |uri: &'static str, callid: &'static str| Contact {
            uri: uri.as_bytes(),
            callid: callid.as_bytes(),
            cseq: 1,
        };
        let kept = contact("sip:a@h;line=1", "c1");
        let by = Matching::UriAndCallid;
        assert!(by.finds(&contact("sip:a@h;line=1", "c1"), &kept));
        assert!(!by.finds(&contact("sip:a@h;line=1", "c2"), &kept));
        assert!(Matching::Uri.finds(&contact("sip:a@h;line=1", "c2"), &kept));
        let by = Matching::Params(vec![b"line"]);
        assert!(by.finds(&contact("sip:a@moved;line=1", "c9"), &kept));
        assert!(!by.finds(&contact("sip:a@h;line=2", "c1"), &kept));
        assert!(!by.finds(&contact("sip:a@h", "c1"), &contact("sip:a@h", "c1")));
    }
}
