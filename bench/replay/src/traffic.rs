//! Captured packets, and their copies with fresh keys.

use std::io::{Read, Write};
use std::ops::Range;

use binrush_capture::{Capture, Event, GenerationChoice, OpenError, Options, Problem};
use binrush_wire::{Builder, Generation, MAX_DATAGRAM_LEN, Packet, WireError, schema};

/// Replication packets of 1.x in the order a genuine node sent them.
#[derive(Debug, Clone)]
pub struct Traffic {
    packets: Box<[Captured]>,
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
    #[error("no packet in the capture")]
    Empty,
}

#[derive(Debug, Clone)]
struct Captured {
    bytes: Box<[u8]>,
    /// Where the fields begin.
    body: usize,
    /// The key's bytes, without their length; `None` when no record has a name.
    key: Option<Range<usize>>,
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
                Event::Frame(frame) => packets.push(Captured::new(packets.len(), frame.bytes)?),
                Event::Problem(problem) => return Err(TrafficError::Capture(problem)),
            }
        }
        Self::new(packets)
    }

    /// One packet per datagram, in the order given.
    ///
    /// # Errors
    /// [`TrafficError::Packet`] for the first datagram that is none, [`TrafficError::Empty`].
    pub fn from_datagrams<'a>(
        datagrams: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TrafficError> {
        let packets = datagrams.into_iter().enumerate();
        Self::new(
            packets
                .map(|(index, bytes)| Captured::new(index, bytes))
                .collect::<Result<_, _>>()?,
        )
    }

    /// How many packets one round has; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is no empty traffic")]
    pub const fn len(&self) -> usize {
        self.packets.len()
    }

    fn new(packets: Vec<Captured>) -> Result<Self, TrafficError> {
        if packets.is_empty() {
            return Err(TrafficError::Empty);
        }
        Ok(Self {
            packets: packets.into(),
        })
    }
}

impl Captured {
    fn new(index: usize, bytes: &[u8]) -> Result<Self, TrafficError> {
        let packet = Packet::parse(Generation::Legacy, bytes)
            .map_err(|error| TrafficError::Packet { index, error })?;
        // A packet that no schema knows is sent as it is: nobody can say which of its bytes are the key.
        let key = schema::key(&packet)
            .ok()
            .flatten()
            .and_then(|key| range_in(bytes, key));
        Ok(Self {
            bytes: bytes.into(),
            body: bytes.len() - packet.body().len(),
            key,
        })
    }
}

/// Writes the packets of any round, one at a time, into one buffer.
#[derive(Debug)]
pub struct Renumbered<'t> {
    traffic: &'t Traffic,
    buffer: Box<[u8]>,
    key: Vec<u8>,
}

impl<'t> Renumbered<'t> {
    /// A writer for `traffic`.
    #[must_use]
    pub fn new(traffic: &'t Traffic) -> Self {
        Self {
            traffic,
            buffer: vec![0; MAX_DATAGRAM_LEN].into(),
            key: Vec::with_capacity(256),
        }
    }

    /// Packet `index` of `round`: as captured in round 0; from then on with the round's number and a dot
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
        let Captured { bytes, body, key } = &self.traffic.packets[index];
        let (Some(key), 1..) = (key, round) else {
            return Ok(bytes);
        };
        let packet = Packet::parse(Generation::Legacy, bytes)?;
        self.key.clear();
        write!(self.key, "{round}.").expect("a vector takes all");
        self.key.extend(&bytes[key.clone()]);

        let (name, command) = (packet.name(), packet.command());
        let mut builder = Builder::new(Generation::Legacy, &mut self.buffer, name, command, 0)?;
        let key_field = key.start - Generation::Legacy.length_width();
        builder.append(&bytes[*body..key_field])?;
        builder.push_str(&self.key)?;
        builder.append(&bytes[key.end..])?;
        Ok(builder.finish())
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
        assert!(matches!(error(&SAMPLE[..24]), TrafficError::Empty));
        assert!(matches!(
            error(&SAMPLE[..SAMPLE.len() - 1]),
            TrafficError::Capture(_)
        ));
        let error = Traffic::from_datagrams([&b"not BIN, but long enough"[..]]).unwrap_err();
        assert!(matches!(error, TrafficError::Packet { index: 0, .. }));
    }
}
