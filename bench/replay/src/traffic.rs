//! Captured packets, and their copies with fresh keys.

use std::borrow::Borrow;
use std::io::{Read, Write};
use std::ops::Range;
use std::time::Duration;

use binrush_capture::{Capture, Event, GenerationChoice, OpenError, Options, Problem};
use binrush_wire::{Builder, Generation, MAX_DATAGRAM_LEN, Packet, WireError, schema};
pub use record::{LeftOut, Recorded, Ways};

/// Whatever can be used of a capture, and what had to be left out of it.
pub mod record;

/// Replication packets of one generation in the order genuine nodes sent them, each with its moment.
#[derive(Debug, Clone)]
pub struct Traffic {
    packets: Box<[Captured]>,
    generation: Generation,
}

/// Traffic could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// Not a capture.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Part of the capture cannot be used, and traffic with a hole is not sent.
    #[error("{0}")]
    Capture(Problem),
    /// A datagram is no packet.
    #[error("datagram {index}: {error}")]
    Packet {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: WireError,
    },
    /// There is nothing to send.
    #[error("no packet that can be sent again: {0}")]
    Empty(
        /// What there is instead.
        Box<LeftOut>,
    ),
}

#[derive(Debug, Clone)]
struct Captured {
    /// After the first one.
    at: Duration,
    bytes: Box<[u8]>,
    /// Where the fields begin.
    body: usize,
    /// The key's bytes, without their length; `None` when no record has a name.
    key: Option<Range<usize>>,
    /// Whether the last int is known to be the id of the node it is for.
    is_addressed: bool,
}

impl Traffic {
    /// The sample that comes with the program: 2 591 packets by which an OpenSIPS 1.11 node told another
    /// about 300 dialogs and 420 registrations.
    #[must_use]
    pub fn sample() -> Self {
        Self::from_capture(SAMPLE).expect("the embedded capture is tested")
    }

    /// The 1.x packets of a capture, pcap or pcapng, plain or gzipped.
    ///
    /// # Errors
    /// [`TrafficError`].
    pub fn from_capture(reader: impl Read) -> Result<Self, TrafficError> {
        let generation = GenerationChoice::Fixed(Generation::Legacy);
        let mut capture = Capture::new(
            reader,
            Options {
                generation,
                ..Options::default()
            },
        )?;
        let mut packets = Vec::new();
        while let Some(event) = capture.next() {
            match event {
                Event::Frame(frame) => {
                    let index = packets.len();
                    let packet = Captured::new(Generation::Legacy, frame.bytes);
                    packets.push(packet.map_err(|error| TrafficError::Packet { index, error })?);
                }
                Event::Problem(problem) => return Err(TrafficError::Capture(problem)),
            }
        }
        Self::new(Generation::Legacy, packets)
    }

    /// One packet per datagram, in the order given.
    ///
    /// # Errors
    /// [`TrafficError::Packet`] for the first datagram that is none, [`TrafficError::Empty`].
    pub fn from_datagrams<'a>(
        datagrams: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TrafficError> {
        let packets = datagrams.into_iter().enumerate();
        let packet = |(index, bytes)| {
            Captured::new(Generation::Legacy, bytes)
                .map_err(|error| TrafficError::Packet { index, error })
        };
        let packets = packets.map(packet).collect::<Result<_, _>>()?;
        Self::new(Generation::Legacy, packets)
    }

    /// How many packets one round has; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is no empty traffic")]
    pub const fn len(&self) -> usize {
        self.packets.len()
    }

    /// Of all packets.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// When packet `index` was seen, after the first one; never before the one in front of it. Zero when nobody knows.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    #[must_use]
    pub fn at(&self, index: usize) -> Duration {
        self.packets[index].at
    }

    /// From the first packet to the moment at which the first one of another round is due: a mean gap after the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        let last = self.packets.last().map_or(Duration::ZERO, |last| last.at);
        let gaps = u32::try_from(self.packets.len() - 1).unwrap_or(u32::MAX);
        last + last.checked_div(gaps).unwrap_or_default()
    }

    fn new(generation: Generation, packets: Vec<Captured>) -> Result<Self, TrafficError> {
        if packets.is_empty() {
            return Err(TrafficError::Empty(Box::default()));
        }
        Ok(Self {
            packets: packets.into(),
            generation,
        })
    }
}

impl Captured {
    fn new(generation: Generation, bytes: &[u8]) -> Result<Self, WireError> {
        Ok(Self::of(&Packet::parse(generation, bytes)?, bytes))
    }

    /// `packet` is what was parsed of `bytes`.
    fn of(packet: &Packet<'_>, bytes: &[u8]) -> Self {
        // A packet that no schema knows is sent as it is: nobody can say which of its bytes are the key.
        let key = schema::key(packet)
            .ok()
            .flatten()
            .and_then(|key| range_in(bytes, key));
        Self {
            at: Duration::ZERO,
            bytes: bytes.into(),
            body: bytes.len() - packet.body().len(),
            key,
            is_addressed: is_addressed(packet),
        }
    }
}

/// Whether `packet` ends in a trailer within a cluster. Only a schema that it fits to the last byte can tell: the last
/// ints of a packet without a trailer are its data. What goes between clusters is for no single node.
fn is_addressed(packet: &Packet<'_>) -> bool {
    let message = match packet.generation() {
        Generation::Modern => schema::identify(packet).ok(),
        _ => None,
    };
    let trailer = message.and_then(|message| message.walk(packet, |_| {}).ok().flatten());
    trailer.is_some_and(|trailer| trailer.bridged_from.is_none())
}

/// Writes the packets of any round, one at a time, into one buffer.
#[derive(Debug)]
pub struct Renumbered<T> {
    traffic: T,
    buffer: Box<[u8]>,
    key: Vec<u8>,
    destination: Option<i32>,
}

impl<T: Borrow<Traffic>> Renumbered<T> {
    /// A writer for `traffic`.
    #[must_use]
    pub fn new(traffic: T) -> Self {
        let packet_len = traffic.borrow().generation.max_packet_len();
        Self {
            traffic,
            buffer: vec![0; packet_len.max(MAX_DATAGRAM_LEN)].into(),
            key: Vec::with_capacity(256),
            destination: None,
        }
    }

    /// The same with `node` as the destination of each packet that is known to have one; [`Recorded::unaddressed`] are not.
    #[must_use]
    pub fn for_node(mut self, node: i32) -> Self {
        self.destination = Some(node);
        self
    }

    /// Packet `index` of `round`: as captured in round 0 (but for its destination); from then on with the round's number and a dot
    /// before its key, every other field byte for byte, and the checksum computed again.
    ///
    /// So each round creates, changes and deletes records of its own, in the captured order. A pure function
    /// of its two arguments.
    ///
    /// # Errors
    /// When the longer key does not fit into a datagram any more.
    ///
    /// # Panics
    /// When `index` is not below [`Traffic::len`].
    pub fn packet(&mut self, round: u64, index: usize) -> Result<&[u8], WireError> {
        let Captured {
            bytes,
            body,
            key,
            is_addressed,
            ..
        } = &self.traffic.borrow().packets[index];
        let generation = self.traffic.borrow().generation;
        let destination = self.destination.filter(|_| *is_addressed);
        let len = match (key, round) {
            (Some(key), 1..) => {
                let packet = Packet::parse(generation, bytes)?;
                self.key.clear();
                write!(self.key, "{round}.").expect("a vector takes all");
                self.key.extend(&bytes[key.clone()]);
                let (name, command) = (packet.name(), packet.command());
                let version = packet.version().unwrap_or(0);
                let mut builder =
                    Builder::new(generation, &mut self.buffer, name, command, version)?;
                let key_field = key.start - generation.length_width();
                builder.append(&bytes[*body..key_field])?;
                builder.push_str(&self.key)?;
                builder.append(&bytes[key.end..])?;
                builder.finish().len()
            }
            _ if destination.is_none() => return Ok(bytes),
            _ => {
                self.buffer[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            }
        };
        let packet = &mut self.buffer[..len];
        if let Some(node) = destination {
            // The trailer's last int.
            packet[len - 4..].copy_from_slice(&node.to_le_bytes());
        }
        Ok(packet)
    }
}

/// Where `part` lies in `whole`, if it does.
fn range_in(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let range = start..start + part.len();
    (range.end <= whole.len()).then_some(range)
}

static SAMPLE: &[u8] = include_bytes!("../../../tests/captures/opensips-1.11.pcap");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn parse(bytes: &[u8]) -> Packet<'_> {
        Packet::parse(Generation::Legacy, bytes).unwrap()
    }

    #[test]
    fn the_sample_is_whole_and_every_packet_has_a_key() {
        let traffic = Traffic::sample();
        assert_eq!(traffic.len(), 2591);
        assert!(traffic.packets.iter().all(|packet| packet.key.is_some()));
        let of_name = |name: &[u8]| {
            traffic
                .packets
                .iter()
                .filter(|packet| parse(&packet.bytes).name() == name)
                .count()
        };
        assert_eq!((of_name(b"dialog"), of_name(b"ul")), (1289, 1302));
    }

    #[test]
    fn a_round_changes_the_key_and_nothing_else() {
        let traffic = Traffic::sample();
        let mut renumbered = Renumbered::new(&traffic);
        for (index, captured) in traffic.packets.iter().enumerate() {
            let original = parse(&captured.bytes);
            assert_eq!(renumbered.packet(0, index).unwrap(), &*captured.bytes);

            let copy = renumbered.packet(1234, index).unwrap();
            let copy = parse(copy);
            assert_eq!(
                (copy.name(), copy.command()),
                (original.name(), original.command())
            );
            assert!(schema::identify(&copy).is_ok());
            // Field by field: Call-ID is the first string of `dialog`, AoR the second of `ul`.
            let (mut new, mut old) = (copy.fields(), original.fields());
            if original.name() == b"ul" {
                assert_eq!(new.pop_str(), old.pop_str());
            }
            let expected = [b"1234.", old.pop_str().unwrap()].concat();
            assert_eq!(new.pop_str(), Ok(&expected[..]));
            assert_eq!(new.rest(), old.rest());
        }
    }

    #[test]
    fn rounds_share_no_record() {
        let traffic = Traffic::sample();
        let mut renumbered = Renumbered::new(&traffic);
        let mut keys = |round| -> HashSet<Vec<u8>> {
            (0..traffic.len())
                .map(|index| {
                    let packet = parse(renumbered.packet(round, index).unwrap());
                    schema::key(&packet).unwrap().unwrap().to_vec()
                })
                .collect()
        };
        let (zero, one, ten) = (keys(0), keys(1), keys(10));
        assert_eq!((zero.len(), one.len(), ten.len()), (720, 720, 720));
        assert!(zero.is_disjoint(&one) && zero.is_disjoint(&ten) && one.is_disjoint(&ten));
    }

    #[test]
    fn what_no_schema_knows_is_sent_as_it_is() {
        let mut buffer = [0; 64];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"mine", 1, 0).unwrap();
        builder.push_str(b"opaque").unwrap();
        let bytes = builder.seal();
        let traffic = Traffic::from_datagrams([bytes]).unwrap();
        assert_eq!(Renumbered::new(&traffic).packet(7, 0).unwrap(), bytes);
    }

    #[test]
    fn a_key_that_outgrows_the_datagram_is_an_error() {
        let mut buffer = vec![0; MAX_DATAGRAM_LEN];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"ul", 1, 0).unwrap();
        builder.push_str(b"location").unwrap();
        builder
            .push_str(&vec![b'a'; builder.remaining() - 4])
            .unwrap();
        let traffic = Traffic::from_datagrams([builder.seal()]).unwrap();
        let mut renumbered = Renumbered::new(&traffic);
        assert_eq!(renumbered.packet(0, 0).unwrap().len(), MAX_DATAGRAM_LEN);
        assert!(renumbered.packet(1, 0).is_err());
    }

    #[test]
    fn broken_captures_are_told() {
        let error = |bytes: &[u8]| Traffic::from_capture(bytes).unwrap_err();
        assert!(matches!(error(b""), TrafficError::Open(_)));
        assert!(matches!(error(&[0; 100]), TrafficError::Open(_)));
        assert!(matches!(error(&SAMPLE[..24]), TrafficError::Empty(_)));
        assert!(matches!(
            error(&SAMPLE[..SAMPLE.len() - 1]),
            TrafficError::Capture(_)
        ));
        let error = Traffic::from_datagrams([&b"not BIN, but long enough"[..]]).unwrap_err();
        assert!(matches!(error, TrafficError::Packet { index: 0, .. }));
    }
}
