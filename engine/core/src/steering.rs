//! Which shard a packet belongs to: all that is said about one record (a dialog, a contact) goes to one.
//!
//! A cluster has a handful of peers, so spreading by address would put the whole stream of each on one core. The
//! record's key spreads it over all of them and keeps the events of one record in order.
//!
//! ```text
//!   1.x packet:  P4CK  crc  6 "dialog"  command  18 "4f1c-77@192.0.2.10" ...
//!                                                   '---- key ----'
//!                                                         └─▶ hash ─▶ owner, 0..shards
//! ```
//!
//! The same function runs twice. The kernel runs it first, as the classic BPF that [`program`](crate::steering::program()) writes, to choose the
//! socket. A shard runs it again, because of a merged train the kernel looked at the first datagram only. Both
//! answer the same for any bytes, so classic BPF sets what can be done.

use binrush_wire::{Fields, Generation, MARKER, Packet, schema};

/// Classic BPF, line by line.
mod assembler;
/// 32 bits of a key.
mod hash;
/// Choosing a socket in the kernel.
mod program;
/// Who may send.
mod source;

pub use program::program;
pub use source::{ProgramError, source_filter};

/// Says which of the shards owns a packet. The same number of shards and seed give the same owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    shards: u16,
    seed: u32,
}

impl Steering {
    /// For so many shards. A `seed` drawn at each start sees to it that no set of names is an unlucky one for good.
    ///
    /// It does not stop a peer that means to overload one shard: in 32 bits without secrets such names can be made.
    /// Who may send at all is said by the [access list](crate::access::Access).
    ///
    /// # Panics
    /// When there are no shards.
    #[must_use]
    pub const fn new(shards: u16, seed: u32) -> Self {
        assert!(shards > 0, "packets for no shard");
        Self { shards, seed }
    }

    /// What it began with.
    #[must_use]
    pub const fn seed(&self) -> u32 {
        self.seed
    }

    /// How many shards there are.
    #[inline]
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// 32 bits of a key, of which the upper 16 choose the owner.
    ///
    /// Over its length, its first 128 bytes and its last 4: what lies between does not count, for the kernel's program
    /// has no loops and needs a bound.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u32 {
        hash::hash(self.seed, key)
    }

    /// The owner of the record of this key.
    #[inline]
    #[must_use]
    pub fn owner_of_key(&self, key: &[u8]) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        let upper = self.hash(key) >> 16;
        u16::try_from((upper * u32::from(self.shards)) >> 16).expect("below the number of shards")
    }

    /// The owner of a packet of any generation: that of its record's key, so that a record has one owner
    /// whatever its events come by. Without a readable key (of another module, about no single record, broken
    /// fields) it is that of its name: all those of one name are in order.
    #[must_use]
    pub fn owner(&self, packet: &Packet<'_>) -> u16 {
        match schema::key(packet) {
            Ok(Some(key)) => self.owner_of_key(key),
            Ok(None) | Err(_) => self.owner_of_key(packet.name()),
        }
    }

    /// The owner of a datagram, which should hold a 1.x packet: [`owner`](Self::owner) for each that does, and for any
    /// bytes at all what the kernel's [`program`](program()) answers. What is no packet goes to shard 0, to be counted there.
    ///
    /// The checksum is not looked at; a datagram is at most 65 535 bytes long.
    #[inline]
    #[must_use]
    pub fn owner_of_datagram(&self, datagram: &[u8]) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        steered_by(datagram).map_or(0, |bytes| self.owner_of_key(bytes))
    }
}

/// The name of the 1.x packet that a datagram should hold; `None` when it is no packet.
#[inline]
pub(crate) fn name_of_datagram(datagram: &[u8]) -> Option<&[u8]> {
    fields_of_datagram(datagram)?.pop_str().ok()
}

/// What the owner of a 1.x packet is found by: key or name. `None` when it is no packet.
#[inline]
fn steered_by(datagram: &[u8]) -> Option<&[u8]> {
    let mut fields = fields_of_datagram(datagram)?;
    let name = fields.pop_str().ok()?;
    let command = fields.pop_int().ok()?;
    Some(key_of(name, command, fields).unwrap_or(name))
}

/// From the name on.
#[inline]
fn fields_of_datagram(datagram: &[u8]) -> Option<Fields<'_>> {
    if datagram.len() < Generation::Legacy.min_packet_len() || !datagram.starts_with(&MARKER) {
        return None;
    }
    let (_, rest) = datagram.split_at(NAME_AT);
    Some(Fields::new(Generation::Legacy, rest, NAME_AT))
}

#[inline]
fn key_of<'a>(name: &[u8], command: i32, mut fields: Fields<'a>) -> Option<&'a [u8]> {
    let keyed = KEYED.iter().find(|keyed| keyed.name == name)?;
    if !(1..=i32::from(keyed.commands)).contains(&command) {
        return None;
    }
    fields.skip_str(keyed.key_at).ok()?;
    fields.pop_str().ok()
}

/// Where the 1.x packets of a module have the key of their record. [`schema`] knows it for every packet, but not in a
/// form that classic BPF could use.
#[derive(Debug)]
struct Keyed {
    name: &'static [u8],
    /// Commands 1 to this one have it.
    commands: u8,
    /// How many strings stand before it.
    key_at: usize,
}

/// Call-IDs, and AoRs behind their domain.
const KEYED: [Keyed; 2] = [
    Keyed {
        name: b"dialog",
        commands: 3,
        key_at: 0,
    },
    Keyed {
        name: b"ul",
        commands: 5,
        key_at: 1,
    },
];

/// Where the length of the name stands.
const NAME_AT: usize = Generation::Legacy.header_len();

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::Builder;
    use binrush_wire::schema::CAPABILITIES;
    use proptest::prelude::*;

    const SEED: u32 = 0x5EED_1E55;

    #[test]
    fn one_shard_owns_everything() {
        let steering = Steering::new(1, SEED);
        assert_eq!(steering.owner_of_key(b"alice"), 0);
        assert_eq!(
            steering.owner_of_datagram(&packet(Generation::Legacy, b"ul", 1, &[b"l", b"alice"])),
            0
        );
        // The largest number there can be has owners, too.
        let many = Steering::new(u16::MAX, SEED);
        let far = (0..100).map(|n: u8| many.owner_of_key(&[n])).max();
        assert!(far > Some(60_000) && far < Some(u16::MAX), "{far:?}");
    }

    /// The table says of 1.x what the schema says.
    #[test]
    fn the_modules_with_keys_are_those_of_the_schema() {
        let mut rows = 0;
        for capability in CAPABILITIES {
            for message in capability
                .messages
                .iter()
                .filter(|message| message.spoken_in(Generation::Legacy))
            {
                let keyed = KEYED
                    .iter()
                    .find(|keyed| keyed.name == capability.name.as_bytes());
                let keyed =
                    keyed.filter(|keyed| (1..=keyed.commands.into()).contains(&message.command));
                assert_eq!(
                    keyed.map(|keyed| keyed.key_at),
                    message.key,
                    "{} {}",
                    capability.name,
                    message.name
                );
                let strings = &message.layout[..message.key.unwrap_or(0)];
                assert!(
                    strings
                        .iter()
                        .all(|item| matches!(item, schema::Item::Str(_))),
                    "{}",
                    message.name
                );
                rows += usize::from(message.key.is_some());
            }
        }
        assert_eq!(
            rows,
            KEYED
                .iter()
                .map(|keyed| usize::from(keyed.commands))
                .sum::<usize>()
        );
    }

    fn packet(generation: Generation, name: &[u8], command: i32, strings: &[&[u8]]) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut builder = Builder::new(generation, &mut buffer, name, command, 1).unwrap();
        for string in strings {
            builder.push_str(string).unwrap();
        }
        builder.seal().to_vec()
    }

    #[test]
    fn a_record_has_one_owner_whatever_its_events_come_by() {
        let steering = Steering::new(u16::MAX, SEED);
        let owner = |generation, name, command, strings| {
            let packet = packet(generation, name, command, strings);
            steering.owner(&Packet::parse(generation, &packet).unwrap())
        };
        let gone: [&[u8]; 3] = [b"4f1c-77@192.0.2.10", b"f1", b"t1"];
        let expected = steering.owner_of_key(gone[0]);
        for (generation, name) in [
            (Generation::Legacy, &b"dialog"[..]),
            (Generation::Modern, b"dialog"),
            (Generation::Modern, b"dialog-dlg-repl"),
        ] {
            assert_eq!(owner(generation, name, 3, &gone), expected, "{generation}");
        }
        let contact: [&[u8]; 2] = [b"location", b"alice"];
        for (generation, name) in [
            (Generation::Legacy, &b"ul"[..]),
            (Generation::Modern, b"usrloc-contact-repl"),
        ] {
            assert_eq!(
                owner(generation, name, 2, &contact),
                steering.owner_of_key(b"alice"),
                "{generation}"
            );
        }
    }

    #[test]
    fn without_a_readable_key_the_name_decides() {
        let steering = Steering::new(u16::MAX, SEED);
        let by_name = |name: &[u8], command, strings: &[&[u8]]| {
            let bytes = packet(Generation::Legacy, name, command, strings);
            let packet = Packet::parse(Generation::Legacy, &bytes).unwrap();
            assert_eq!(steering.owner(&packet), steering.owner_of_datagram(&bytes));
            steering.owner_of_datagram(&bytes) == steering.owner_of_key(name)
        };
        assert!(by_name(b"ratelimit", 1, &[b"pipe"]));
        assert!(by_name(b"greeting", 1, &[b"hello"]));
        assert!(by_name(b"", 1, &[b"hello"]));
        assert!(by_name(b"dialog", 1, &[]));
        assert!(by_name(b"ul", 1, &[b"location"]));
        for command in [i32::MIN, -1, 0, 4, 0x0101, 0x0100_0001, i32::MAX] {
            assert!(by_name(b"dialog", command, &[b"callid"]), "{command}");
        }
        assert!(by_name(b"ul", 6, &[b"location", b"alice"]));
        // These have one, an empty one too.
        assert!(!by_name(b"dialog", 3, &[b"callid"]));
        assert!(!by_name(b"dialog", 1, &[b""]));
        assert!(!by_name(b"ul", 5, &[b"", b"alice"]));
        // And these begin as those do.
        assert!(by_name(b"dialo", 1, &[b"callid"]));
        assert!(by_name(b"dialogs", 1, &[b"callid"]));
        assert!(by_name(b"UL", 1, &[b"", b"alice"]));
    }

    #[test]
    fn what_is_no_packet_goes_to_shard_0() {
        let steering = Steering::new(u16::MAX, SEED);
        let whole = packet(Generation::Legacy, b"ul", 1, &[b"location", b"alice"]);
        assert_ne!(steering.owner_of_datagram(&whole), 0);
        for len in 0..18 {
            assert_eq!(steering.owner_of_datagram(&whole[..len]), 0);
        }
        let with = |at: usize, byte| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            steering.owner_of_datagram(&bytes)
        };
        assert_eq!(with(0, b'Q'), 0);
        // A name that is negative, beyond the end, or leaves no room for the command.
        let room = u8::try_from(whole.len() - 16).unwrap();
        assert_eq!(
            [with(11, 0x80), with(10, 1), with(9, 1), with(8, room + 1)],
            [0; 4]
        );
        assert_eq!(
            with(8, room),
            steering.owner_of_key(&whole[12..whole.len() - 4])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Valid: what `Packet::parse` takes, whatever its fields are.
        #[test]
        fn the_owner_of_a_datagram_is_that_of_the_packet_in_it(
            name in prop_oneof![Just(b"dialog".to_vec()), Just(b"ul".to_vec()), proptest::collection::vec(any::<u8>(), 0..9)],
            command in prop_oneof![0..7, any::<i32>()],
            lens in proptest::collection::vec(prop_oneof![0..9_i32, 0..300_i32, any::<i32>()], 0..4),
            rest in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut buffer = [0; 2048];
            let mut builder = Builder::new(Generation::Legacy, &mut buffer, &name, command, 0).unwrap();
            for len in lens {
                builder.push_int(len).unwrap();
                builder.append(&rest[..rest.len().min(usize::try_from(len).unwrap_or(0))]).unwrap();
            }
            builder.append(&rest).unwrap();
            let bytes = builder.seal();
            let steering = Steering::new(u16::MAX, SEED);
            if let Ok(packet) = Packet::parse(Generation::Legacy, bytes) {
                prop_assert_eq!(steering.owner_of_datagram(bytes), steering.owner(&packet));
            } else {
                prop_assert!(bytes.len() < 18);
            }
        }

        #[test]
        fn any_bytes_have_an_owner(bytes in proptest::collection::vec(any::<u8>(), 0..200), shards in 1..=u16::MAX) {
            let steering = Steering::new(shards, SEED);
            prop_assert!(steering.owner_of_datagram(&bytes) < shards);
            let marked = [&MARKER[..], &bytes].concat();
            prop_assert!(steering.owner_of_datagram(&marked) < shards);
        }
    }
}
