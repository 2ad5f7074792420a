//! The classic BPF that chooses a socket for each datagram: first who may send, then whose record it is.
//!
//! ```text
//!   source allowed? ─ no ─▶ answer `shards`, the quarantine
//!        │ yes
//!   a packet? ─ no ─▶ answer 0
//!        │ yes
//!   "dialog" ─▶ Call-ID ─┐
//!   "ul"     ─▶ AoR     ─┼─▶ hash ─▶ answer the owner
//!   others   ─▶ name    ─┘
//! ```
//!
//! A load beyond the end of the packet would end the program with the answer 0, whoever sent it. So every place is
//! compared with the length first.

use binrush_net::bpf::Program;
use binrush_wire::{Generation, MARKER};

use super::assembler::{Assembler, Label, Op, Slot, Test};
use super::hash::{FINISH, FINISH_AGAIN, FINISH_SHIFT, MIX, MIX_SHIFT, WORD_LEN, WORDS_MAX};
use super::source::{ProgramError, guarded};
use super::{KEYED, Keyed, NAME_AT, Steering};
use crate::access::Access;

/// The program for [`attach_steering`](binrush_net::UdpSocket::attach_steering) of a group of `steering.shards()` + 1
/// sockets, all of IPv6 or all of IPv4.
///
/// It answers the [owner](Steering::owner_of_datagram) of a datagram whose source `access` allows. All others it
/// sends to the last socket, the quarantine, which keeps nothing: what the kernel counts as dropped there
/// is what was refused. Of a merged train it looks at the first datagram.
///
/// It is not asked about broadcasts and multicasts: see [`source_filter`](super::source_filter).
///
/// Where `net.core.optmem_max` is 20 480 bytes, as in older kernels, there is room for it with all ranges of IPv4, but
/// with 65 of IPv6.
///
/// # Errors
/// [`ProgramError`] when it would be longer than the kernel takes.
pub fn program(
    steering: &Steering,
    access: &Access,
    is_ipv6: bool,
) -> Result<Program, ProgramError> {
    let stranger = steering.shards.into();
    guarded(access, is_ipv6, stranger, |asm| {
        if steering.shards == 1 {
            asm.ops([Op::Answer(0)]);
        } else {
            Writer { asm, steering }.owner();
        }
    })
}

/// Writes the part that comes after the source.
#[derive(Debug)]
struct Writer<'a> {
    asm: &'a mut Assembler,
    steering: &'a Steering,
}

/// Where in the datagram something stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Known while the program is written.
    Fixed(u32),
    /// Known while it runs: in [`AT`].
    Running,
}

impl Writer<'_> {
    /// Answers the owner. What [`Steering::owner_of_datagram`] does, step by step.
    fn owner(&mut self) {
        let [no_packet, by_name, hash] = [(); 3].map(|()| self.asm.label());
        self.header(no_packet);
        for keyed in &KEYED {
            let other = self.asm.label();
            self.named(keyed.name, other);
            match self.key(keyed, by_name) {
                place @ Place::Fixed(_) => self.hash(place),
                Place::Running => self.asm.goto(hash),
            }
            self.asm.bind(other);
        }
        self.asm.bind(by_name);
        self.asm.ops([
            Op::Load(NAME_LEN),
            Op::Store(LEN),
            Op::Set(NAME),
            Op::Store(AT),
        ]);
        self.asm.bind(hash);
        self.hash(Place::Running);
        self.asm.bind(no_packet);
        self.asm.ops([Op::Answer(0)]);
    }

    /// Checks size, marker, and that name and command are there.
    fn header(&mut self, no_packet: Label) {
        self.holds(Place::Fixed(0), MIN_LEN, no_packet);
        self.asm.ops([Op::LoadWord(0)]);
        let marker = u32::from_be_bytes(MARKER);
        self.asm.unless(Test::Equal(marker), no_packet);
        self.string(Place::Fixed(NAME - LENGTH_LEN), NAME_LEN, no_packet);
        self.asm.ops([Op::Add(COMMAND_LEN)]);
        self.ends_within(no_packet);
    }

    /// Goes to `other` unless the packet has this name.
    fn named(&mut self, name: &[u8], other: Label) {
        let len = u32::try_from(name.len()).expect("names are short");
        self.asm.ops([Op::LoadWord(NAME - LENGTH_LEN)]);
        self.asm.unless(Test::Equal(len.swap_bytes()), other);
        let (pairs, odd) = name.as_chunks();
        let mut at = NAME;
        for pair in pairs {
            self.asm.ops([Op::LoadHalf(at)]);
            let pair = u16::from_be_bytes(*pair);
            self.asm.unless(Test::Equal(pair.into()), other);
            at += 2;
        }
        for byte in odd {
            self.asm.ops([Op::LoadByte(at)]);
            self.asm.unless(Test::Equal((*byte).into()), other);
        }
    }

    /// Finds the key of a packet that has the name: its length goes to [`LEN`]. To `by_name` without a readable key.
    fn key(&mut self, keyed: &Keyed, by_name: Label) -> Place {
        let name_len = u32::try_from(keyed.name.len()).expect("names are short");
        let commands = u32::from(keyed.commands);
        let command_at = NAME + name_len;
        self.asm.ops([Op::LoadWord(command_at)]);
        // Little-endian: its lowest byte comes first, and the others are 0.
        self.asm.when(Test::AnyBit(0x00ff_ffff), by_name);
        self.asm.ops([Op::ShiftRight(24)]);
        self.asm.unless(Test::AtLeast(1), by_name);
        self.asm.when(Test::Above(commands), by_name);

        let mut place = Place::Fixed(command_at + COMMAND_LEN);
        for _ in 0..keyed.key_at {
            self.string(place, LEN, by_name);
            self.asm.ops([Op::Store(AT)]);
            place = Place::Running;
        }
        self.string(place, LEN, by_name);
        self.ends_within(by_name);
        match place {
            Place::Fixed(at) => Place::Fixed(at + LENGTH_LEN),
            Place::Running => {
                self.asm
                    .ops([Op::Load(AT), Op::Add(LENGTH_LEN), Op::Store(AT)]);
                Place::Running
            }
        }
    }

    /// Reads the length of the string at `place` into `len`. Leaves in A where the string ends: not checked yet.
    fn string(&mut self, place: Place, len: Slot, bad: Label) {
        self.holds(place, LENGTH_LEN, bad);
        self.word(place, 0);
        // Little-endian: the upper half, which comes last, is 0 unless it ends beyond any datagram.
        self.asm.when(Test::AnyBit(0xffff), bad);
        self.asm.ops([
            Op::Store(SPARE),
            Op::ShiftRight(24),
            Op::CopyToX,
            Op::Load(SPARE),
            Op::ShiftRight(8),
            Op::And(0xff00),
            Op::OrX,
            Op::Store(len),
        ]);
        match place {
            Place::Fixed(at) => self.asm.ops([Op::Add(at + LENGTH_LEN)]),
            Place::Running => self.asm.ops([Op::LoadX(AT), Op::AddX, Op::Add(LENGTH_LEN)]),
        }
    }

    /// Goes to `bad` unless the datagram has `len` bytes at `place`.
    fn holds(&mut self, place: Place, len: u32, bad: Label) {
        match place {
            Place::Fixed(at) => {
                self.asm.ops([Op::LoadLen]);
                self.asm.unless(Test::AtLeast(at + len), bad);
            }
            Place::Running => {
                self.asm.ops([Op::Load(AT), Op::Add(len)]);
                self.ends_within(bad);
            }
        }
    }

    /// Goes to `bad` when A lies beyond the end of the datagram.
    fn ends_within(&mut self, bad: Label) {
        self.asm.ops([Op::CopyToX, Op::LoadLen]);
        self.asm.unless(Test::AtLeastX, bad);
    }

    /// A = the 4 bytes that are `offset` behind `place`.
    fn word(&mut self, place: Place, offset: u32) {
        match place {
            Place::Fixed(at) => self.asm.ops([Op::LoadWord(at + offset)]),
            Place::Running => self.asm.ops([Op::LoadX(AT), Op::LoadWordAtX(offset)]),
        }
    }

    /// Answers the owner by the [`LEN`] bytes at `place`: [`Steering::hash`] unrolled, then the share of it.
    fn hash(&mut self, place: Place) {
        let [short, last, done] = [(); 3].map(|()| self.asm.label());
        self.asm
            .ops([Op::Set(self.steering.seed), Op::Store(HASH), Op::Load(LEN)]);
        self.mix();
        self.asm.ops([Op::Load(LEN)]);
        self.asm.unless(Test::AtLeast(WORD), short);
        for offset in (0..WORDS_MAX_BYTES).step_by(WORD_LEN) {
            self.asm.ops([Op::Load(LEN)]);
            self.asm.unless(Test::Above(offset + WORD), last);
            self.word(place, offset);
            self.mix();
        }

        self.asm.bind(last);
        match place {
            Place::Fixed(at) => self.asm.ops([Op::Load(LEN), Op::Add(at - WORD)]),
            Place::Running => self.asm.ops([
                Op::LoadX(AT),
                Op::Load(LEN),
                Op::AddX,
                Op::Add(WORD.wrapping_neg()),
            ]),
        }
        self.asm.ops([Op::CopyToX, Op::LoadWordAtX(0)]);
        self.mix();
        self.asm.goto(done);

        self.asm.bind(short);
        for offset in 0..WORD - 1 {
            self.asm.ops([Op::Load(LEN)]);
            self.asm.unless(Test::Above(offset), done);
            match place {
                Place::Fixed(at) => self.asm.ops([Op::LoadByte(at + offset)]),
                Place::Running => self.asm.ops([Op::LoadX(AT), Op::LoadByteAtX(offset)]),
            }
            self.mix();
        }

        self.asm.bind(done);
        self.share();
    }

    /// [`HASH`] takes the word in A in: [`hash`](super::hash)'s `mix`.
    fn mix(&mut self) {
        self.asm.ops([Op::LoadX(HASH), Op::XorX, Op::Multiply(MIX)]);
        self.fold(MIX_SHIFT);
        self.asm.ops([Op::Store(HASH)]);
    }

    /// Answers the shard that [`HASH`] falls to: `finish`, and [`Steering::owner_of_key`].
    fn share(&mut self) {
        self.asm.ops([Op::Load(HASH), Op::Multiply(FINISH)]);
        self.fold(FINISH_SHIFT);
        self.asm.ops([Op::Multiply(FINISH_AGAIN)]);
        // The last fold changes the lower half only.
        self.asm.ops([
            Op::ShiftRight(16),
            Op::Multiply(self.steering.shards.into()),
            Op::ShiftRight(16),
            Op::AnswerA,
        ]);
    }

    /// A ^= A >> `shift`.
    fn fold(&mut self, shift: u32) {
        self.asm.ops([Op::CopyToX, Op::ShiftRight(shift), Op::XorX]);
    }
}

/// Where a 1.x packet has its name.
const NAME: u32 = 12;
const _: () = assert!(NAME as usize == NAME_AT + Generation::Legacy.length_width());
const MIN_LEN: u32 = 18;
const _: () = assert!(MIN_LEN as usize == Generation::Legacy.min_packet_len());
const LENGTH_LEN: u32 = 4;
const COMMAND_LEN: u32 = 4;

const WORD: u32 = 4;
const WORDS_MAX_BYTES: u32 = WORD * 32;
const _: () = assert!(WORDS_MAX_BYTES as usize == WORD_LEN * WORDS_MAX);

/// The scratch memory; the first four slots hold the source address before anything else is there.
const NAME_LEN: Slot = Slot(4);
/// Length of what is hashed.
const LEN: Slot = Slot(5);
/// Place of what is hashed, where it is not fixed.
const AT: Slot = Slot(6);
const HASH: Slot = Slot(7);
const SPARE: Slot = Slot(8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Cidr;
    use std::net::Ipv6Addr;

    fn len(shards: u16, access: &Access) -> usize {
        let program = program(&Steering::new(shards, 7), access, true).unwrap();
        program.instructions().len()
    }

    #[test]
    fn one_shard_hashes_nothing() {
        assert_eq!(len(1, &Access::any()), 1);
        assert!(len(1, &Access::loopback()) < 25);
        assert!(len(2, &Access::any()) > 500);
    }

    #[test]
    fn the_longest_access_list_leaves_room_for_the_hash() {
        let mut access = Access::nobody();
        for n in 0..128_u128 {
            let network = Ipv6Addr::from_bits(n << 8).into();
            access.allow(Cidr::new(network, 127).unwrap()).unwrap();
        }
        let len = len(u16::MAX, &access);
        assert!((2000..3000).contains(&len), "{len}");
    }
}
