//! Every stream of every capture, cut anywhere, is the packets that the reader of captures found in it.

use binrush_engine::stream::framer::{Cut, Framer};
use binrush_tests::fuzz;
use binrush_wire::{Generation, MAX_PACKET_LEN};
use proptest::collection::vec;
use proptest::prelude::*;

use super::traffic::{CAPTURES, event, flows, pieces};
use crate::dice::Dice;

/// The packets of `pieces`, and what they came to.
pub(super) fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Cut) {
    let mut framer = Framer::new(Generation::Modern, MAX_PACKET_LEN, None);
    let (mut packets, mut cut) = (Vec::new(), Cut::default());
    for piece in pieces {
        let fed = framer.feed(piece, &mut cut, |packet| packets.push(packet.to_vec()));
        fed.expect("a genuine stream");
    }
    assert_eq!(framer.held(), 0, "it ends with a packet");
    (packets, cut)
}

#[test]
fn random_cuts_change_nothing_in_any_stream_of_any_capture() {
    for capture in CAPTURES {
        for (number, flow) in (0_u64..).zip(flows(capture)) {
            let bytes = flow.bytes();
            // From bytes one by one to more than a read brings at once.
            for most in [1, 7, 100, 1500, 9000, 300_000] {
                let mut dice = Dice::new(number << 32 | most as u64);
                let (packets, cut) = cut(pieces(&bytes, most, &mut dice));
                assert_eq!(packets, flow.packets, "{capture}, flow {number}, {most}");
                let expected = Cut {
                    rx_bytes: bytes.len() as u64,
                    frames: packets.len() as u64,
                    frame_bytes: bytes.len() as u64,
                    ..Cut::default()
                };
                assert_eq!(cut, expected);
            }
        }
    }
}

#[test]
fn one_cut_at_every_byte_changes_nothing_in_small_streams() {
    for capture in CAPTURES {
        for flow in flows(capture) {
            let mut len = 0;
            let small = flow.packets.iter().take_while(|packet| {
                len += packet.len();
                len <= SMALL
            });
            let small: Vec<Vec<u8>> = small.cloned().collect();
            let bytes = small.concat();
            for at in 0..=bytes.len() {
                let (left, right) = bytes.split_at(at);
                assert_eq!(cut([left, right]).0, small, "{capture}, cut at {at}");
            }
        }
    }
}

/// Two cuts can leave a part of a header alone, which one cannot.
#[test]
fn two_cuts_at_any_two_bytes_change_nothing_in_a_pair_of_packets() {
    let packets = [event(1, 2, 3), event(1, 2, 4)];
    let bytes = packets.concat();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(cut(pieces).0, packets, "cut at {first} and {second}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_received_within_the_limits(data in vec(any::<u8>(), 0..2000)) {
        fuzz::receiver(&data);
    }

    /// Genuine beginnings, with a byte changed here and there: far more of them reach behind a header.
    #[test]
    fn damaged_streams_are_received_within_the_limits(
        options: u8,
        sizes in vec(any::<u8>(), 0..5),
        packets in 1_usize..6,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes: Vec<u8> = (0..packets).flat_map(|number| event(1, 1, number)).collect();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let count = u8::try_from(sizes.len()).expect("a few");
        fuzz::receiver(&[&[options, count], &sizes[..], &bytes].concat());
    }
}

/// Bytes of a stream that is cut at each of them.
const SMALL: usize = 4000;
