//! What a node sends of contacts that come, are refreshed and go: packets of 3.6 in streams, of 1.11 in datagrams, with one
//! AoR for each contact.
//!
//! | phase | packets of a contact |
//! |---|---|
//! | insert | AoR insert, contact insert |
//! | refresh | contact update |
//! | delete | contact delete, AoR delete |
//!
//! (A genuine node sends an AoR insert before the first contact of an AoR, and an AoR delete after the last one; layouts and
//! lengths are those of captured ones.)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use binrush_wire::{Builder, Generation, Trailer, crc32};

/// What becomes of contacts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compare) enum Phase {
    Insert,
    Refresh,
    Delete,
}

/// The packets of as many contacts as one likes, each told from the others by its number.
#[derive(Debug)]
pub(in crate::compare) struct Contacts {
    /// By phase.
    templates: [Vec<Template>; Phase::ALL.len()],
    generation: Generation,
}

/// A packet of any contact.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where its number stands, in digits.
    digits: Vec<usize>,
    /// Where its id stands, eight bytes.
    id: Option<usize>,
    /// Where the CSeq of a refresh stands, four bytes.
    cseq: Option<usize>,
}

impl Phase {
    pub(in crate::compare) const ALL: [Self; 3] = [Self::Insert, Self::Refresh, Self::Delete];

    pub(in crate::compare) const fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Refresh => "refresh",
            Self::Delete => "delete",
        }
    }

    /// The contact of `count` whose turn it is as number `turn`. Contacts do not come back in the order in which they
    /// came: what is kept of one is not where the one before was.
    pub(in crate::compare) fn contact(self, turn: u32, count: u32) -> u32 {
        match self {
            Self::Insert => turn,
            // Each once, as the stride is a prime above any count.
            Self::Refresh | Self::Delete => {
                let at = u64::from(turn) * STRIDE % u64::from(count);
                u32::try_from(at).expect("it is below the count")
            }
        }
    }
}

impl Contacts {
    /// Of contacts that expire in a day, as a node of 3.6 sends them.
    pub(super) fn modern() -> anyhow::Result<Self> {
        let now = now()?;
        let template = |command, rest: Rest<'_>| template(Generation::Modern, command, rest);
        let aor_insert = template(AOR_INSERT, &|packet| {
            packet.push_int(0)?;
            packet.push_int(LABEL)?;
            packet.push_str(b"")
        })?;
        let insert = template(CONTACT_INSERT, &|packet| {
            packet.push_str(URI)?;
            packet.push_str(&ID)?;
            common(packet, now, 1, |packet| packet.push_str(b"NAT"))?;
            packet.push_str(b"")?;
            packet.push_int(MATCH_UNSET)
        })?;
        let update = template(CONTACT_UPDATE, &|packet| {
            packet.push_str(URI)?;
            let later = now + Duration::from_secs(1);
            common(packet, later, CSEQ, |packet| packet.push_str(b"NAT"))?;
            packet.push_str(b"")?;
            packet.push_str(&ID)?;
            packet.push_int(MATCH_UNSET)
        })?;
        let delete = template(CONTACT_DELETE, &|packet| {
            packet.push_str(URI)?;
            packet.push_str(CALLID)?;
            packet.push_int(2)?;
            packet.push_int(MATCH_CALLID)
        })?;
        let aor_delete = template(AOR_DELETE, &|_| Ok(()))?;
        Ok(Self {
            templates: [
                vec![aor_insert, insert],
                vec![update],
                vec![delete, aor_delete],
            ],
            generation: Generation::Modern,
        })
    }

    /// The same as a node of 1.11 sends them.
    pub(in crate::compare) fn legacy() -> anyhow::Result<Self> {
        let now = now()?;
        let template = |command, rest: Rest<'_>| template(Generation::Legacy, command, rest);
        let contact = |packet: &mut Builder<'_>, now, cseq| {
            packet.push_str(URI)?;
            common(packet, now, cseq, |packet| packet.push_int(NAT_FLAG))
        };
        let insert = template(CONTACT_INSERT, &|packet| contact(packet, now, 1))?;
        let later = now + Duration::from_secs(1);
        let update = template(CONTACT_UPDATE, &|packet| contact(packet, later, CSEQ))?;
        let delete = template(CONTACT_DELETE, &|packet| {
            packet.push_str(URI)?;
            packet.push_str(CALLID)?;
            packet.push_int(2)
        })?;
        let aor_insert = template(AOR_INSERT, &|_| Ok(()))?;
        let aor_delete = template(AOR_DELETE, &|_| Ok(()))?;
        Ok(Self {
            templates: [
                vec![aor_insert, insert],
                vec![update],
                vec![delete, aor_delete],
            ],
            generation: Generation::Legacy,
        })
    }

    /// Appends the packets of contact `number`, which is below [`CONTACTS_MAX`], to `out`.
    pub(in crate::compare) fn write(&self, phase: Phase, number: u32, out: &mut Vec<u8>) {
        for template in self.of(phase) {
            self.write_one(template, number, REFRESHED, out);
        }
    }

    /// Appends what tells that contact `number` was refreshed once more, after as many times as `before`: it says something else than
    /// all of them did.
    pub(in crate::compare) fn refresh(&self, number: u32, before: u32, out: &mut Vec<u8>) {
        let cseq = REFRESHED.saturating_add_unsigned(before);
        for template in self.of(Phase::Refresh) {
            self.write_one(template, number, cseq, out);
        }
    }

    /// Appends the packet that tells of the AoR of contact `number`, which says nothing new once that is there.
    pub(in crate::compare) fn aor(&self, number: u32, out: &mut Vec<u8>) {
        self.write_one(&self.of(Phase::Insert)[0], number, REFRESHED, out);
    }

    fn write_one(&self, template: &Template, number: u32, cseq: i32, out: &mut Vec<u8>) {
        template.write(number, cseq, out);
        if self.generation == Generation::Legacy {
            seal(out, template.bytes.len());
        }
    }

    /// Length of each packet of a contact, in their order.
    pub(in crate::compare) fn lengths(&self, phase: Phase) -> impl Iterator<Item = usize> {
        self.of(phase).iter().map(|packet| packet.bytes.len())
    }

    /// Packets of each contact.
    pub(in crate::compare) fn packets(&self, phase: Phase) -> u64 {
        self.of(phase).len() as u64
    }

    /// Bytes of them.
    pub(super) fn bytes(&self, phase: Phase) -> u64 {
        self.lengths(phase).sum::<usize>() as u64
    }

    fn of(&self, phase: Phase) -> &[Template] {
        &self.templates[phase as usize]
    }
}

impl Template {
    fn write(&self, number: u32, cseq: i32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        let mut digits = [b'0'; NUMBER.len()];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).expect("it is one digit");
            rest /= 10;
        }
        for at in &self.digits {
            packet[*at..at + digits.len()].copy_from_slice(&digits);
        }
        if let Some(at) = self.id {
            packet[at..at + ID.len()].copy_from_slice(&contact_id(number).to_le_bytes());
        }
        if let Some(at) = self.cseq {
            packet[at..at + size_of_val(&cseq)].copy_from_slice(&cseq.to_le_bytes());
        }
    }
}

/// The packet `command` about an AoR, with what `rest` pushes.
fn template(generation: Generation, command: i32, rest: Rest<'_>) -> anyhow::Result<Template> {
    let mut buffer = [0; 1024];
    let bytes = build(generation, &mut buffer, command, rest)
        .context("cannot make a packet of a contact")?;
    let digits = places(&bytes, NUMBER);
    let ids = places(&bytes, &ID);
    let cseqs = places(&bytes, &CSEQ.to_le_bytes());
    ensure!(
        !digits.is_empty() && ids.len() < 2 && cseqs.len() < 2,
        "it has no place for its number"
    );
    Ok(Template {
        bytes,
        digits,
        id: ids.first().copied(),
        cseq: cseqs.first().copied(),
    })
}

fn build(
    generation: Generation,
    buffer: &mut [u8],
    command: i32,
    rest: Rest<'_>,
) -> binrush_wire::Result<Vec<u8>> {
    let name = match generation {
        Generation::Legacy => UL,
        _ => NAME,
    };
    let mut packet = Builder::new(generation, buffer, name, command, VERSION)?;
    packet.push_str(b"location")?;
    packet.push_str(AOR)?;
    rest(&mut packet)?;
    if generation == Generation::Modern {
        packet.push_trailer(Trailer::new(CLUSTER, SENDER, RECEIVER))?;
    }
    Ok(packet.seal().to_vec())
}

/// Writes the checksum of the packet of `len` bytes at the end of `out`.
fn seal(out: &mut [u8], len: usize) {
    let start = out.len() - len;
    // Of everything behind it (OpenSIPS 1.11 `bin_interface.c`, `bin_send`).
    let checksum = crc32::checksum(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn now() -> anyhow::Result<Duration> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.context("the clock stands before 1970")
}

/// What all packets say of a contact: registered at `now` for a day. `flags` pushes those of the branch.
fn common(
    packet: &mut Builder<'_>,
    now: Duration,
    cseq: i32,
    flags: impl Fn(&mut Builder<'_>) -> binrush_wire::Result<()>,
) -> binrush_wire::Result<()> {
    let time = |at: u64| at.to_le_bytes();
    packet.push_str(CALLID)?;
    packet.push_str(b"Yealink SIP-T46S 108.086.000.105")?;
    // Path, attributes.
    packet.push_str(b"")?;
    packet.push_str(b"")?;
    packet.push_str(b"sip:127.0.36.120:5070")?;
    // Instance.
    packet.push_str(b"")?;
    packet.push_str(&time(now.as_secs() + EXPIRES_SECS))?;
    packet.push_str(&Q_UNSET.to_le_bytes())?;
    packet.push_str(b"udp:main")?;
    packet.push_int(cseq)?;
    // Flags.
    packet.push_int(0)?;
    flags(packet)?;
    // All methods.
    packet.push_int(-1)?;
    packet.push_str(&time(now.as_secs()))
}

/// From the lowest bit: 14 bits of the contact's label, 32 of its record's, 16 of the AoR's hash.
fn contact_id(number: u32) -> u64 {
    let hash = u64::from(number.wrapping_mul(0x9E37_79B9) >> 16);
    u64::from(LABEL.unsigned_abs()) | u64::from(number) << 14 | hash << 46
}

fn places(bytes: &[u8], of: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(of.len()).enumerate();
    windows
        .filter(|(_, window)| *window == of)
        .map(|(at, _)| at)
        .collect()
}

/// Pushes what comes behind the AoR.
type Rest<'a> = &'a dyn Fn(&mut Builder<'_>) -> binrush_wire::Result<()>;

const NAME: &[u8] = b"usrloc-contact-repl";
const UL: &[u8] = b"ul";

/// Commands, and the version of 3.6 (`modules/usrloc/ureplication.h`).
const AOR_INSERT: i32 = 1;
const AOR_DELETE: i32 = 2;
const CONTACT_INSERT: i32 = 3;
const CONTACT_UPDATE: i32 = 4;
const CONTACT_DELETE: i32 = 5;
const VERSION: i16 = 5;

/// Who says it to whom.
pub(super) const CLUSTER: i32 = 1;
pub(super) const SENDER: i32 = 2;
pub(super) const RECEIVER: i32 = 1;

/// Where the number is put in.
const NUMBER: &[u8] = b"########";
const AOR: &[u8] = b"user########";
const URI: &[u8] = b"sip:user########@127.0.36.120:5001;transport=udp";
const CALLID: &[u8] = b"########-5f2a@127.0.36.120";

/// Where the id is put in.
const ID: [u8; 8] = [0xFE; 8];

/// Where the CSeq of a refresh is put in, and that of the first one.
const CSEQ: i32 = 0x5EC5_EC5E;
const REFRESHED: i32 = 2;

/// Of a contact within its AoR; any will do.
const LABEL: i32 = 848;

/// Longer than any comparison takes, as these packets are made once for all of its rounds: none may expire meanwhile.
const EXPIRES_SECS: u64 = 86_400;

/// `Q_UNSPECIFIED` (`qvalue.h`).
const Q_UNSET: i32 = -1;

/// A bit of the script's, such as that for NAT.
const NAT_FLAG: i32 = 1;

/// How the contact is found: not said, and by its Call-ID too.
const MATCH_UNSET: i32 = -1;
const MATCH_CALLID: i32 = 1;

/// As many have numbers of their own.
pub(super) const CONTACTS_MAX: u32 = 100_000_000;

const STRIDE: u64 = 2_654_435_761;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::{Head, Packet, frame_len, schema};
    use std::collections::HashSet;

    /// The packets in `bytes`: what each is, its length, and its AoR.
    fn read(mut bytes: &[u8]) -> Vec<(&'static str, usize, Vec<u8>)> {
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            let Head::Complete { len } = frame_len(Generation::Modern, bytes, 65_535) else {
                panic!("it is no whole packet");
            };
            let packet = Packet::parse(Generation::Modern, &bytes[..len]).unwrap();
            let message = schema::identify(&packet).expect("a message that nodes send");
            message.walk(&packet, |_| {}).expect("to its last byte");
            let trailer = packet.fields().pop_trailer().unwrap();
            assert_eq!(
                (trailer.cluster, trailer.source, trailer.dest),
                (CLUSTER, SENDER, RECEIVER)
            );
            let mut fields = packet.fields();
            fields.pop_str().unwrap();
            packets.push((message.name, len, fields.pop_str().unwrap().to_vec()));
            bytes = &bytes[len..];
        }
        packets
    }

    #[test]
    fn each_phase_sends_what_genuine_nodes_send() {
        let contacts = Contacts::modern().unwrap();
        let sent = Phase::ALL.map(|phase| {
            let mut bytes = Vec::new();
            contacts.write(phase, 4711, &mut bytes);
            let packets = read(&bytes);
            assert_eq!(contacts.packets(phase), packets.len() as u64);
            assert_eq!(contacts.bytes(phase), bytes.len() as u64);
            assert!(packets.iter().all(|(_, _, aor)| aor == b"user00004711"));
            let named = packets.into_iter();
            named.map(|(name, len, _)| (name, len)).collect::<Vec<_>>()
        });
        let expected = [
            vec![("AOR_INSERT", 81), ("CONTACT_INSERT", 281)],
            vec![("CONTACT_UPDATE", 281)],
            vec![("CONTACT_DELETE", 157), ("AOR_DELETE", 71)],
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn nodes_of_1_11_send_the_same_with_a_checksum() {
        let contacts = Contacts::legacy().unwrap();
        let sent = Phase::ALL.map(|phase| {
            let mut bytes = Vec::new();
            contacts.write(phase, 815, &mut bytes);
            let mut at = 0;
            let lengths = contacts.lengths(phase);
            let packets = lengths.map(|len| {
                let packet = Packet::parse(Generation::Legacy, &bytes[at..at + len]).unwrap();
                at += len;
                let message = schema::identify(&packet).expect("a message that nodes send");
                message.walk(&packet, |_| {}).expect("to its last byte");
                let mut fields = packet.fields();
                fields.pop_str().unwrap();
                assert_eq!(fields.pop_str().unwrap(), b"user00000815");
                (message.name, len)
            });
            packets.collect::<Vec<_>>()
        });
        let expected = [
            vec![("AOR_INSERT", 46), ("CONTACT_INSERT", 261)],
            vec![("CONTACT_UPDATE", 261)],
            vec![("CONTACT_DELETE", 132), ("AOR_DELETE", 46)],
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn every_phase_is_about_the_same_contacts_each_once() {
        let contacts = Contacts::modern().unwrap();
        let aors = Phase::ALL.map(|phase| {
            let mut bytes = Vec::new();
            for turn in 0..1000 {
                contacts.write(phase, phase.contact(turn, 1000), &mut bytes);
            }
            let packets = read(&bytes).into_iter();
            packets.map(|(_, _, aor)| aor).collect::<HashSet<_>>()
        });
        assert_eq!(aors[0].len(), 1000);
        assert!(aors[0] == aors[1] && aors[1] == aors[2]);
        // Neighbours in time are none in memory.
        assert!(
            Phase::Refresh
                .contact(0, 1000)
                .abs_diff(Phase::Refresh.contact(1, 1000))
                > 1
        );
    }

    #[test]
    fn a_contact_is_refreshed_as_often_as_one_likes_and_each_time_by_another_cseq() {
        let contacts = Contacts::legacy().unwrap();
        let mut once = Vec::new();
        contacts.write(Phase::Refresh, 7, &mut once);
        let again = |before| {
            let mut bytes = Vec::new();
            contacts.refresh(7, before, &mut bytes);
            Packet::parse(Generation::Legacy, &bytes).expect("its checksum is right");
            bytes
        };
        assert_eq!(again(0), once);
        let at = places(&once, &REFRESHED.to_le_bytes());
        let later = again(70_000);
        assert!(
            at.iter()
                .any(|&at| later[at..at + 4] == 70_002_i32.to_le_bytes())
        );
        let mut aor = Vec::new();
        contacts.aor(7, &mut aor);
        assert_eq!(Some(aor.len()), contacts.lengths(Phase::Insert).next());
    }

    #[test]
    fn contacts_have_ids_of_their_own() {
        let ids: HashSet<u64> = (0..10_000).map(contact_id).collect();
        assert_eq!(ids.len(), 10_000);
        assert_eq!(contact_id(5) >> 14 & 0xFFFF_FFFF, 5);
    }
}
