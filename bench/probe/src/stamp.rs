//! What a packet of a measured flow says about itself, as text in one of its fields.
//!
//! ```text
//!   b R s 1   r r r   s s s   q q q q q q q q   i i i i i i i i i i i   l l l l l l   c c c c c c
//!   mark      run     stream  sequence          intended, ns            late, ns      check
//! ```
//!
//! Every number is written in digits of six bits, the highest first: `A-Z a-z 0-9 - _`, as in base64url (RFC 4648,
//! section 5). So the text is legal wherever SIP wants a token (RFC 3261, section 25.1), in a Call-ID, in the user part
//! of a URI, in a tag, and no genuine node has a reason to escape or fold it.

use binrush_wire::Packet;

use crate::place::place;

/// What a packet of a measured flow says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the measurement, so that what is late from an earlier one is told apart.
    pub run: u16,
    /// Number of the sending stream within the run. Order and gaps are counted within a stream.
    pub stream: u16,
    /// Position of the packet in its stream, from 0 without holes. 48 bits are sent.
    pub sequence: u64,
    /// When the packet was to be sent, by the CLOCK_MONOTONIC of the sender, in ns.
    pub intended_ns: u64,
    /// How much later than that it was sent, in ns; `None`: not known when it was stamped.
    pub late_ns: Option<u32>,
}

/// Why a packet has no stamp that could be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoStamp {
    /// Nothing in it looks like a stamp: it belongs to no measured flow.
    #[error("no stamp: the packet is of no measured flow")]
    Foreign,
    /// There is a stamp, or there was one, but the packet is not the one that was stamped. With the stamp, where its
    /// text still reads as one: then it may be the rest of the packet that was changed, or a number in it.
    #[error("the packet was changed after it was stamped")]
    Damaged(Option<Stamp>),
}

/// Writes `stamp` at offset `at` of a whole packet, header included, all other bytes of which are final, except for
/// the checksum of 1.x in bytes 4 to 8, which comes after.
///
/// The check value at the end of the text is the CRC-32 (of zlib, for one) of everything from byte 8 on with `0` for
/// the check's own characters: a change of name, command, key or any field is seen, also by a receiver that looks at
/// no checksum, and also where one on the way computed the checksum anew.
///
/// # Panics
/// When fewer than [`STAMP_LEN`] bytes are left from `at` on, or `at` lies in the first 8 bytes.
#[inline]
pub fn seal(packet: &mut [u8], at: usize, stamp: &Stamp) {
    assert!(at >= CHECKED_FROM, "no stamp in the header");
    let late = stamp.late_ns.map_or(LATE_UNKNOWN, u64::from);
    let (_, from_here) = packet.split_at_mut(at);
    let text = from_here
        .first_chunk_mut::<STAMP_LEN>()
        .expect("a packet has room for the whole stamp");
    text[..MARK.len()].copy_from_slice(MARK);
    put::<RUN_LEN>(text, RUN_AT, stamp.run.into());
    put::<RUN_LEN>(text, STREAM_AT, stamp.stream.into());
    put::<SEQUENCE_LEN>(text, SEQUENCE_AT, stamp.sequence);
    put::<INTENDED_LEN>(text, INTENDED_AT, stamp.intended_ns);
    put::<LATE_LEN>(text, LATE_AT, late);
    text[CHECK_AT..].copy_from_slice(NO_CHECK);
    let check = crc32fast::hash(&packet[CHECKED_FROM..]);
    let text = packet[at..]
        .first_chunk_mut::<STAMP_LEN>()
        .expect("it was there before");
    put::<CHECK_LEN>(text, CHECK_AT, check.into());
}

/// The stamp of `packet`, if it is as it was when it was stamped.
///
/// A packet that was changed in a way that moves its stamp (a length, the name, the command) still counts as
/// damaged: where no stamp stands in its [place], the whole packet is searched for one. Only packets of other flows pay
/// for that.
///
/// # Errors
/// [`NoStamp`].
#[inline]
pub fn read(packet: &Packet<'_>) -> Result<Stamp, NoStamp> {
    let bytes = packet.bytes();
    let Some(range) = place(packet) else {
        return Err(without_mark(packet, None));
    };
    let at = range.start;
    let text = bytes[range]
        .first_chunk::<STAMP_LEN>()
        .expect("a place has room for the whole stamp");
    if !text.starts_with(MARK) {
        return Err(without_mark(packet, Some(at)));
    }
    match decoded(text) {
        Some((stamp, check)) if check == check_of(bytes, at) => Ok(stamp),
        other => Err(NoStamp::Damaged(other.map(|(stamp, _)| stamp))),
    }
}

/// What a packet is that has no mark in its place `at`, or no place.
#[cold]
fn without_mark(packet: &Packet<'_>, at: Option<usize>) -> NoStamp {
    // From the header on: with a wrong length, the name may be what has swallowed it.
    let elsewhere = packet.bytes()[CHECKED_FROM..]
        .windows(STAMP_LEN)
        .find(|text| text.starts_with(MARK) && text.iter().all(|digit| value(*digit) != NO_DIGIT));
    if let Some(text) = elsewhere {
        let text = text.first_chunk().expect("a window has this length");
        return NoStamp::Damaged(decoded(text).map(|(stamp, _)| stamp));
    }
    match at.and_then(|at| stamp_but_for_its_mark(packet.bytes(), at)) {
        Some(stamp) => NoStamp::Damaged(Some(stamp)),
        None => NoStamp::Foreign,
    }
}

/// The stamp at `at`, if its text is a good one once it has its mark again: then only the mark was changed.
fn stamp_but_for_its_mark(bytes: &[u8], at: usize) -> Option<Stamp> {
    let mut text = [0; STAMP_LEN];
    text.copy_from_slice(&bytes[at..at + STAMP_LEN]);
    text[..MARK.len()].copy_from_slice(MARK);
    let (stamp, check) = decoded(&text)?;
    let mut whole = crc32fast::Hasher::new();
    whole.update(&bytes[CHECKED_FROM..at]);
    whole.update(&text[..CHECK_AT]);
    whole.update(NO_CHECK);
    whole.update(&bytes[at + STAMP_LEN..]);
    (check == u64::from(whole.finalize())).then_some(stamp)
}

/// What the check of the stamp at `at` must be.
#[inline]
fn check_of(bytes: &[u8], at: usize) -> u64 {
    let checked = &bytes[CHECKED_FROM..];
    let check_at = at + CHECK_AT - CHECKED_FROM;
    let mut copy = [0; COPIED_MAX];
    if let Some(copy) = copy.get_mut(..checked.len()) {
        // Copied, it is one piece, of which the checksum costs 10 ns less than that of three.
        copy.copy_from_slice(checked);
        copy[check_at..check_at + CHECK_LEN].copy_from_slice(NO_CHECK);
        return crc32fast::hash(copy).into();
    }
    let mut whole = crc32fast::Hasher::new();
    whole.update(&checked[..check_at]);
    whole.update(NO_CHECK);
    whole.update(&checked[check_at + CHECK_LEN..]);
    whole.finalize().into()
}

/// The numbers of a text behind its mark; `None` when it was not written by [`seal`].
#[inline]
fn decoded(text: &[u8; STAMP_LEN]) -> Option<(Stamp, u64)> {
    let late = take::<LATE_LEN>(text, LATE_AT)?;
    let stamp = Stamp {
        run: u16::try_from(take::<RUN_LEN>(text, RUN_AT)?).ok()?,
        stream: u16::try_from(take::<RUN_LEN>(text, STREAM_AT)?).ok()?,
        sequence: take::<SEQUENCE_LEN>(text, SEQUENCE_AT)?,
        intended_ns: take::<INTENDED_LEN>(text, INTENDED_AT)?,
        late_ns: match late {
            LATE_UNKNOWN => None,
            late => Some(u32::try_from(late).ok()?),
        },
    };
    Some((stamp, take::<CHECK_LEN>(text, CHECK_AT)?))
}

/// Writes the low `6 * N` bits of `number`.
#[inline]
fn put<const N: usize>(text: &mut [u8; STAMP_LEN], at: usize, number: u64) {
    for (index, digit) in text[at..at + N].iter_mut().enumerate() {
        *digit = DIGITS[(number >> (6 * (N - 1 - index)) & 0x3F) as usize];
    }
}

/// Reads `N` digits; what is above 64 bits is cut off.
#[inline]
fn take<const N: usize>(text: &[u8; STAMP_LEN], at: usize) -> Option<u64> {
    let (mut number, mut seen) = (0_u64, 0);
    for digit in &text[at..at + N] {
        let value = value(*digit);
        seen |= value;
        number = number << 6 | u64::from(value);
    }
    (seen & NO_DIGIT == 0).then_some(number)
}

#[inline]
const fn value(digit: u8) -> u8 {
    VALUES[digit as usize]
}

/// Bytes of a stamp.
pub const STAMP_LEN: usize = CHECK_AT + CHECK_LEN;

/// How a stamp begins; the last character is the version of the rest.
pub(crate) const MARK: &[u8; 4] = b"bRs1";

/// From here on the check is computed: what comes before is the packet's own marker, and its checksum or length.
const CHECKED_FROM: usize = 8;

const RUN_AT: usize = MARK.len();
const RUN_LEN: usize = 3;
const STREAM_AT: usize = RUN_AT + RUN_LEN;
const SEQUENCE_AT: usize = STREAM_AT + RUN_LEN;
const SEQUENCE_LEN: usize = 8;
const INTENDED_AT: usize = SEQUENCE_AT + SEQUENCE_LEN;
const INTENDED_LEN: usize = 11;
const LATE_AT: usize = INTENDED_AT + INTENDED_LEN;
const LATE_LEN: usize = 6;
const CHECK_AT: usize = LATE_AT + LATE_LEN;
const CHECK_LEN: usize = 6;

/// Packets up to this length are copied to be checked.
const COPIED_MAX: usize = 512;

/// What stands for the check's characters while it is computed.
const NO_CHECK: &[u8; CHECK_LEN] = b"000000";

/// One more than a lateness can be.
const LATE_UNKNOWN: u64 = 1 << 32;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bit that no digit's value has.
const NO_DIGIT: u8 = 0x80;

const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        #[expect(clippy::cast_possible_truncation, reason = "there are 64 digits")]
        let small = value as u8;
        values[DIGITS[value] as usize] = small;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::{KINDS, Kind, parsed, reparsed, stamped, unstamped};
    use proptest::prelude::*;

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        let numbers = (any::<u16>(), any::<u16>(), 0..1_u64 << 48);
        (numbers, any::<u64>(), any::<Option<u32>>()).prop_map(
            |((run, stream, sequence), intended_ns, late_ns)| Stamp {
                run,
                stream,
                sequence,
                intended_ns,
                late_ns,
            },
        )
    }

    fn some_stamp() -> Stamp {
        Stamp {
            run: 7,
            stream: 1,
            sequence: 123_456,
            intended_ns: 98_765_432_101_234,
            late_ns: Some(4_321),
        }
    }

    #[test]
    fn a_stamp_is_this_text_for_ever() {
        let mut packet = [b'x'; 8 + STAMP_LEN];
        seal(&mut packet, 8, &some_stamp());
        let text = std::str::from_utf8(&packet[8..]).unwrap();
        assert_eq!(&text[..CHECK_AT], "bRs1AAHAABAAAAAeJAAAAWdOefxlyAAABDh");
        let check = crc32fast::hash(format!("{}000000", &text[..CHECK_AT]).as_bytes());
        let text = text.as_bytes().first_chunk().unwrap();
        assert_eq!(decoded(text), Some((some_stamp(), check.into())));
    }

    #[test]
    fn packets_of_other_flows_are_foreign_whatever_is_in_the_place() {
        for kind in KINDS {
            let (packet, at) = unstamped(kind);
            assert_eq!(
                read(&parsed(kind, &packet)),
                Err(NoStamp::Foreign),
                "{kind:?}"
            );
            for text in [&[b'-'; STAMP_LEN], &[b'A'; STAMP_LEN], &[0xFF; STAMP_LEN]] {
                let mut other = packet.clone();
                other[at..at + STAMP_LEN].copy_from_slice(text);
                let other = reparsed(kind, other);
                assert_eq!(
                    read(&parsed(kind, &other)),
                    Err(NoStamp::Foreign),
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn a_change_of_the_mark_alone_is_damage() {
        for kind in KINDS {
            let (packet, at) = stamped(kind, &some_stamp());
            for index in 0..MARK.len() {
                let mut other = packet.clone();
                other[at + index] ^= 0x20;
                let other = reparsed(kind, other);
                assert_eq!(
                    read(&parsed(kind, &other)),
                    Err(NoStamp::Damaged(Some(some_stamp()))),
                    "{kind:?}"
                );
            }
        }
    }

    /// With the checksum of the packet computed anew, as a malicious or broken hop would.
    #[test]
    fn any_change_of_one_byte_is_damage_or_no_packet_any_more() {
        for kind in KINDS {
            let (packet, at) = stamped(kind, &some_stamp());
            // What comes before the check: the text that the numbers of the stamp are in.
            let text = at..at + CHECK_AT;
            let (mut damaged, mut of_known) = (0, 0);
            for at in CHECKED_FROM..packet.len() {
                for flip in 1..=u8::MAX {
                    let mut other = packet.clone();
                    other[at] ^= flip;
                    let other = reparsed(kind, other);
                    let Ok(other) = Packet::parse(kind.generation(), &other) else {
                        continue;
                    };
                    let Err(NoStamp::Damaged(stamp)) = read(&other) else {
                        panic!("{kind:?}, {at}, {flip}: {:?}", read(&other));
                    };
                    damaged += 1;
                    if !text.contains(&at) && stamp == Some(some_stamp()) {
                        of_known += 1;
                    }
                }
            }
            assert!(
                damaged > 250 * (packet.len() - CHECKED_FROM - 12),
                "{kind:?}"
            );
            // The stamp itself is whole in nearly all that were changed elsewhere.
            assert!(
                of_known > 220 * (packet.len() - CHECKED_FROM - STAMP_LEN - 12),
                "{kind:?}: {of_known}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "room for the whole stamp")]
    fn a_packet_without_room_is_not_stamped_in_part() {
        seal(&mut [0; 8 + STAMP_LEN - 1], 8, &some_stamp());
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_read(kind in prop::sample::select(&KINDS[..]), stamp in any_stamp()) {
            let (packet, _) = stamped(kind, &stamp);
            prop_assert_eq!(read(&parsed(kind, &packet)), Ok(stamp));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(name in prop::sample::select(&KINDS[..]), tail: Vec<u8>) {
            let mut packet = unstamped(name).0;
            let keep = packet.len() - parsed(name, &packet).body().len();
            packet.truncate(keep);
            packet.extend(tail);
            let packet = reparsed(name, packet);
            if let Ok(packet) = Packet::parse(Kind::generation(name), &packet) {
                prop_assert!(read(&packet).is_err());
            }
        }
    }
}
