//! Who may send, asked in the kernel: the first part of every program.
//!
//! The IP header is there without asking for its length, for the kernel has read it before (`ip_rcv_core`,
//! `ip6_rcv_core`: `pskb_may_pull`). The source in it has a fixed place in either family.

use std::net::IpAddr;

use binrush_net::bpf::{INSTRUCTIONS_MAX, Program};

use super::assembler::{Assembler, Label, Op, Slot, Test};
use crate::access::{Access, Cidr};

/// An access list that does not fit into a program for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an access list of {cidrs} ranges makes a program of {instructions} instructions, and the kernel takes \
     {INSTRUCTIONS_MAX}; join some into larger ones"
)]
pub struct ProgramError {
    /// Ranges of the family in question.
    pub cidrs: usize,
    /// Instructions that it takes to look at them all, and to do the rest.
    pub instructions: usize,
}

/// The program for [`attach_filter`](binrush_net::UdpSocket::attach_filter) of one socket, of IPv6 or of IPv4: keeps what
/// comes from sources that `access` allows, and drops the rest.
///
/// For the sockets of shards that listen on all addresses of the host (`0.0.0.0`, `::`). Broadcasts and multicasts come
/// past the steering [`program`](super::program): the kernel gives a copy to each socket of the group, without asking it
/// (`__udp4_lib_mcast_deliver`, `__udp6_lib_mcast_deliver`). A socket bound to one address gets none.
///
/// # Errors
/// [`ProgramError`] when it would be longer than the kernel takes.
pub fn source_filter(access: &Access, is_ipv6: bool) -> Result<Program, ProgramError> {
    guarded(access, is_ipv6, 0, |asm| asm.ops([Op::Answer(u32::MAX)]))
}

/// A program that goes on with `welcome` for the sources that are allowed, and answers `stranger` to all others.
///
/// `welcome` ends with an answer. It may use every slot.
pub(super) fn guarded(
    access: &Access,
    is_ipv6: bool,
    stranger: u32,
    welcome: impl FnOnce(&mut Assembler),
) -> Result<Program, ProgramError> {
    let of_family = |cidr: &&Cidr| cidr.is_ipv6() == is_ipv6;
    let cidrs: Vec<Cidr> = access.cidrs().iter().filter(of_family).copied().collect();
    let mut asm = Assembler::default();
    if access.is_any() {
        welcome(&mut asm);
    } else {
        let inside = asm.label();
        load_source(&mut asm, is_ipv6);
        for cidr in &cidrs {
            compare(&mut asm, *cidr, inside);
        }
        asm.ops([Op::Answer(stranger)]);
        asm.bind(inside);
        welcome(&mut asm);
    }
    Program::new(asm.assemble()).map_err(|error| ProgramError {
        cidrs: cidrs.len(),
        instructions: error.len,
    })
}

/// Slot 0 = the source's first 32 bits, and so on: one for IPv4, four for IPv6.
fn load_source(asm: &mut Assembler, is_ipv6: bool) {
    let (at, words) = if is_ipv6 { IPV6_SOURCE } else { IPV4_SOURCE };
    for word in 0..words {
        asm.ops([Op::LoadWord(at + 4 * word), Op::Store(Slot(word))]);
    }
}

/// Goes to `inside` when the range has the source, else on behind. Compares as many words as the range has bits in.
fn compare(asm: &mut Assembler, cidr: Cidr, inside: Label) {
    let outside = asm.label();
    for (slot, (network, mask)) in (0..).map(Slot).zip(network_words(cidr)) {
        asm.ops([Op::Load(slot)]);
        if mask != u32::MAX {
            asm.ops([Op::And(mask)]);
        }
        asm.unless(Test::Equal(network), outside);
    }
    asm.goto(inside);
    asm.bind(outside);
}

/// The 32-bit words of a range's network, each with the bits of it that count; those without any are left out.
fn network_words(cidr: Cidr) -> impl Iterator<Item = (u32, u32)> {
    let network = match cidr.network() {
        IpAddr::V4(network) => u128::from(network.to_bits()) << 96,
        IpAddr::V6(network) => network.to_bits(),
    };
    let zeros = 128 - u32::from(cidr.prefix_len());
    let mask = u128::MAX.checked_shl(zeros).unwrap_or(0);
    let (networks, masks) = (words(network), words(mask));
    let counts = |(_, mask): &(u32, u32)| *mask != 0;
    networks.into_iter().zip(masks).take_while(counts)
}

/// Its words, the upper one first.
fn words(bits: u128) -> [u32; 4] {
    let word = |shift: u32| u32::try_from((bits >> shift) & u128::from(u32::MAX));
    [96, 64, 32, 0].map(|shift| word(shift).expect("32 bits of it"))
}

/// Where the source stands, and how many words it has (RFC 791, RFC 8200): loads from `SKF_NET_OFF` on
/// (`linux/filter.h`) are from the IP header.
const IPV4_SOURCE: (u32, u32) = (SKF_NET_OFF + 12, 1);
const IPV6_SOURCE: (u32, u32) = (SKF_NET_OFF + 8, 4);
const SKF_NET_OFF: u32 = 0xfff0_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn a_range_is_compared_as_far_as_it_has_bits() {
        let words = |text: &str| network_words(text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(words("10.32.0.0/11"), [(0x0a20_0000, 0xffe0_0000)]);
        assert_eq!(words("0.0.0.0/0"), []);
        assert_eq!(words("2001:db8::/32"), [(0x2001_0db8, u32::MAX)]);
        assert_eq!(
            words("2001:db8:8000::/33"),
            [(0x2001_0db8, u32::MAX), (0x8000_0000, 0x8000_0000)]
        );
        assert_eq!(words("::1").last(), Some(&(1, u32::MAX)));
    }

    /// As [`Access`] bounds it: so a program can only be too long by what comes after this.
    #[test]
    fn the_longest_access_list_takes_half_of_a_program() {
        let mut access = Access::nobody();
        // None within another, each with as many words that count as it can have.
        for n in 0..128 {
            let v4 = Ipv4Addr::from_bits(n << 8).into();
            access.allow(Cidr::new(v4, 31).unwrap()).unwrap();
            let v6 = Ipv6Addr::from_bits(u128::from(n) << 8).into();
            access.allow(Cidr::new(v6, 127).unwrap()).unwrap();
        }
        for (is_ipv6, most) in [(false, 128 * 5), (true, 128 * 14)] {
            let program = source_filter(&access, is_ipv6).unwrap();
            let len = program.instructions().len();
            assert!((128 * 4..most).contains(&len), "{len}");
        }
    }

    #[test]
    fn a_program_too_long_is_told_with_its_counts() {
        let endless = |asm: &mut Assembler| asm.ops(vec![Op::Answer(1); INSTRUCTIONS_MAX + 1]);
        let error = guarded(&Access::any(), false, 0, endless).unwrap_err();
        assert_eq!((error.cidrs, error.instructions), (0, 4097));
        let error = guarded(&Access::loopback(), false, 0, endless).unwrap_err();
        assert!(error.cidrs == 1 && error.instructions > 4097);
        let text = error.to_string();
        assert!(
            text.starts_with("an access list of 1 ranges makes a program of 41"),
            "{text}"
        );
    }
}
