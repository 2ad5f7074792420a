//! Whose datagrams are taken: address ranges, or anybody's.
//!
//! BIN on UDP has no authentication, so the source address is all there is to go by. The check itself runs in the
//! kernel ([`program`](crate::steering::program)); this is the list it is made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Sources that are allowed: everybody, or those in a list of ranges.
///
/// ```
/// use binrush_engine::access::Access;
///
/// let mut access = Access::nobody();
/// access.allow("10.0.0.0/8".parse()?)?;
/// access.allow("2001:db8::7".parse()?)?;
/// assert!(access.allows("10.1.2.3".parse()?));
/// assert!(!access.allows("192.0.2.1".parse()?));
/// assert_eq!(access.to_string(), "10.0.0.0/8, 2001:db8::7/128");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access(Sources);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sources {
    Any,
    /// In the order in which they were allowed; none covers another.
    Listed(Vec<Cidr>),
}

/// A range of addresses: those that begin with the same bits, as `10.0.0.0/8` or `2001:db8::/32`.
///
/// A range within the IPv4-mapped addresses (`::ffff:0:0/96`, RFC 4291) is the IPv4 range that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Bits beyond `len` are zero.
    network: IpAddr,
    len: u8,
}

/// A text or a pair that is no range. Says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// Not an address at all.
    #[error(
        "\"{text}\" is no IP address: write a range as 10.0.0.0/8 or 2001:db8::/32, or one address as 10.0.0.7"
    )]
    Address {
        /// What was given, escaped and cut to [`TEXT_MAX`] characters.
        text: String,
    },
    /// What follows the slash is no number of bits that such an address has.
    #[error("\"{text}\" is no number of bits for {network}: write 0 to {max} after the slash", max = bits(*.network))]
    Length {
        /// The address before the slash.
        network: IpAddr,
        /// What was given, escaped and cut to [`TEXT_MAX`] characters.
        text: String,
    },
    /// The address is one inside the range, so that it is not clear which of the two is meant.
    #[error(
        "{given}/{len} has bits set beyond the first {len}: write {range} for the range, or {given} for one address",
        len = .range.len
    )]
    HostBits {
        /// The address before the slash.
        given: IpAddr,
        /// The range that it lies in.
        range: Cidr,
    },
}

/// The list is as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{refused} is one range too many: at most {CIDRS_MAX} of IPv4 and {CIDRS_MAX} of IPv6; join some into larger ones"
)]
pub struct AccessFull {
    /// The one that found no room.
    pub refused: Cidr,
}

impl Access {
    /// Everybody.
    #[must_use]
    pub const fn any() -> Self {
        Self(Sources::Any)
    }

    /// Nobody yet: the list to add ranges to.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(Sources::Listed(Vec::new()))
    }

    /// This machine alone: 127.0.0.0/8 and ::1/128.
    #[must_use]
    pub fn loopback() -> Self {
        let v4 = Cidr {
            network: Ipv4Addr::new(127, 0, 0, 0).into(),
            len: 8,
        };
        Self(Sources::Listed(vec![v4, Ipv6Addr::LOCALHOST.into()]))
    }

    /// Adds a range. One that is covered already takes no room, and takes the place of those that it covers.
    ///
    /// # Errors
    /// [`AccessFull`] beyond [`CIDRS_MAX`] of its family; nothing has changed then.
    pub fn allow(&mut self, cidr: Cidr) -> Result<(), AccessFull> {
        let Sources::Listed(cidrs) = &mut self.0 else {
            return Ok(());
        };
        if cidrs.iter().any(|known| known.covers(cidr)) {
            return Ok(());
        }
        let stays = |known: &Cidr| !cidr.covers(*known);
        let family = |known: &&Cidr| known.is_ipv6() == cidr.is_ipv6() && stays(known);
        if cidrs.iter().filter(family).count() >= CIDRS_MAX {
            return Err(AccessFull { refused: cidr });
        }
        cidrs.retain(stays);
        cidrs.push(cidr);
        Ok(())
    }

    /// Whether datagrams from `source` are taken. An IPv4-mapped IPv6 address counts as the IPv4 one.
    #[must_use]
    pub fn allows(&self, source: IpAddr) -> bool {
        match &self.0 {
            Sources::Any => true,
            Sources::Listed(cidrs) => cidrs.iter().any(|cidr| cidr.contains(source)),
        }
    }

    /// Whether everybody is allowed.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self.0, Sources::Any)
    }

    /// Whether everybody is allowed who has an IPv4 address, or everybody who has an IPv6 one: by [`any`](Self::any), or by
    /// ranges that leave none out, such as `0.0.0.0/0`, or `::/1` and `8000::/1`.
    #[must_use]
    pub fn lets_everybody_in(&self) -> bool {
        match &self.0 {
            Sources::Any => true,
            Sources::Listed(cidrs) => [false, true].into_iter().any(|is_ipv6| {
                let cidrs = cidrs.iter().filter(|cidr| cidr.is_ipv6() == is_ipv6);
                // No range is within another, so no address counts twice. Each has 2^-len of all addresses, which are
                // 2^128 here for both families: one more than is there to take from, so whoever takes all fails.
                let mut cidrs = cidrs.map(|cidr| 128 - u32::from(cidr.len));
                let left = cidrs.try_fold(u128::MAX, |left, bits| {
                    left.checked_sub(1_u128.checked_shl(bits)?)
                });
                left.is_none()
            }),
        }
    }

    /// The ranges, in the order in which they were allowed; none where everybody is.
    #[must_use]
    pub fn cidrs(&self) -> &[Cidr] {
        match &self.0 {
            Sources::Any => &[],
            Sources::Listed(cidrs) => cidrs,
        }
    }
}

/// As the `ready` line says it: `any`, `nobody`, or the ranges, the first [`SHOWN_MAX`] of them.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = match &self.0 {
            Sources::Any => return f.write_str("any"),
            Sources::Listed(cidrs) if cidrs.is_empty() => return f.write_str("nobody"),
            Sources::Listed(cidrs) => cidrs.split_at(cidrs.len().min(SHOWN_MAX)),
        };
        for (index, cidr) in shown.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{cidr}")?;
        }
        match more.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Cidr {
    /// The addresses that share the first `len` bits of `network`.
    ///
    /// # Errors
    /// [`CidrError::Length`] for more bits than such an address has, [`CidrError::HostBits`] when `network` has
    /// bits set beyond the first `len`.
    pub fn new(network: IpAddr, len: u8) -> Result<Self, CidrError> {
        if len > bits(network) {
            let text = len.to_string();
            return Err(CidrError::Length { network, text });
        }
        let range = Self {
            network: masked(network, len),
            len,
        };
        if range.network == network {
            Ok(range.canonical())
        } else {
            Err(CidrError::HostBits {
                given: network,
                range: range.canonical(),
            })
        }
    }

    /// The first address: the one with no bit set beyond the first [`prefix_len`](Self::prefix_len).
    #[must_use]
    pub const fn network(self) -> IpAddr {
        self.network
    }

    /// How many leading bits the addresses share.
    #[must_use]
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// Whether these are IPv6 addresses.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.network.is_ipv6()
    }

    /// Whether `address` is one of them. An IPv4-mapped IPv6 address counts as the IPv4 one.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv6() == self.is_ipv6() && masked(address, self.len) == self.network
    }

    /// Whether all of `other` is in here.
    fn covers(self, other: Self) -> bool {
        self.len <= other.len && self.contains(other.network)
    }

    /// An IPv4-mapped range as the IPv4 range that it means.
    fn canonical(self) -> Self {
        match (
            self.network.to_canonical(),
            self.len.checked_sub(MAPPED_BITS),
        ) {
            (network @ IpAddr::V4(_), Some(len)) if self.is_ipv6() => Self { network, len },
            _ => self,
        }
    }
}

/// The one address.
impl<A: Into<IpAddr>> From<A> for Cidr {
    fn from(address: A) -> Self {
        let network = address.into().to_canonical();
        Self {
            network,
            len: bits(network),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Reads `ADDRESS/BITS`, or an address alone, which is a range of one.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let Ok(network) = address.parse::<IpAddr>() else {
            return Err(CidrError::Address {
                text: sample(address),
            });
        };
        let Some(len) = len else {
            return Ok(network.into());
        };
        // The parser of integers would take a sign.
        let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
        match len.parse() {
            Ok(len) if digits => Self::new(network, len),
            _ => Err(CidrError::Length {
                network,
                text: sample(len),
            }),
        }
    }
}

/// `ADDRESS/BITS`, for a single address too.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// How many bits such an address has.
const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `address` with everything beyond its first `len` bits zero; `len` is at most [`bits`].
fn masked(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// What a message shows of a text from outside.
fn sample(text: &str) -> String {
    text.escape_debug().take(TEXT_MAX).collect()
}

/// How many ranges of each family there may be: so many still fit into one program for the kernel.
pub const CIDRS_MAX: usize = 128;

/// How many ranges the text of an [`Access`] names.
pub const SHOWN_MAX: usize = 16;

/// How many characters of a bad text an error shows.
pub const TEXT_MAX: usize = 64;

/// Leading bits that all IPv4-mapped addresses share (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_reads_as_it_is_written() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "192.0.2.7/32",
            "2001:db8::/32",
            "::/0",
            "::1/128",
        ] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }

    #[test]
    fn an_address_alone_is_a_range_of_one() {
        assert_eq!(cidr("192.0.2.7"), cidr("192.0.2.7/32"));
        assert_eq!(cidr("2001:db8::7"), cidr("2001:db8::7/128"));
    }

    #[test]
    fn an_ipv4_mapped_range_is_the_ipv4_range_it_means() {
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:10.0.0.7"), cidr("10.0.0.7/32"));
        assert_eq!(cidr("::ffff:0:0/96"), cidr("0.0.0.0/0"));
        // Of this one they are a part only.
        assert_eq!(cidr("::/64").to_string(), "::/64");
    }

    #[test]
    fn a_bad_text_is_refused_with_what_to_write_instead() {
        for (text, hint) in [
            ("", "\"\" is no IP address: write a range as 10.0.0.0/8"),
            ("10.0.0.300/8", "\"10.0.0.300\" is no IP address"),
            ("sip.example.com", "\"sip.example.com\" is no IP address"),
            ("fe80::1%eth0", "\"fe80::1%eth0\" is no IP address"),
            ("\u{1b}[31m", "\"\\u{1b}[31m\" is no IP address"),
            (
                "10.0.0.0/33",
                "\"33\" is no number of bits for 10.0.0.0: write 0 to 32",
            ),
            ("10.0.0.0/", "\"\" is no number of bits for 10.0.0.0"),
            ("10.0.0.0/+8", "\"+8\" is no number of bits"),
            ("10.0.0.0/255.0.0.0", "\"255.0.0.0\" is no number of bits"),
            ("10.0.0.0/8/8", "\"8/8\" is no number of bits"),
            (
                "::/129",
                "\"129\" is no number of bits for ::: write 0 to 128",
            ),
            ("::/1000", "\"1000\" is no number of bits"),
            (
                "10.0.0.5/24",
                "write 10.0.0.0/24 for the range, or 10.0.0.5 for one address",
            ),
            ("2001:db8::1/32", "write 2001:db8::/32 for the range"),
        ] {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn what_an_error_shows_of_a_text_is_bounded() {
        let error = "1".repeat(1 << 20).parse::<Cidr>().unwrap_err().to_string();
        assert!(error.len() < 256, "{error}");
    }

    #[test]
    fn a_range_ends_where_its_bits_end() {
        for (range, inside, outside) in [
            (
                "10.0.0.0/8",
                ["10.0.0.0", "10.255.255.255"],
                ["9.255.255.255", "11.0.0.0"],
            ),
            (
                "192.0.2.4/30",
                ["192.0.2.4", "192.0.2.7"],
                ["192.0.2.3", "192.0.2.8"],
            ),
            ("192.0.2.7/32", ["192.0.2.7"; 2], ["192.0.2.6", "192.0.2.8"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::1"]),
            (
                "2001:db8::/33",
                ["2001:db8::", "2001:db8:7fff::"],
                ["2001:db8:8000::", "2001:db7::"],
            ),
            ("::/0", ["::", "ffff::"], ["0.0.0.0", "::ffff:1.2.3.4"]),
        ] {
            for address in inside {
                assert!(cidr(range).contains(ip(address)), "{range} {address}");
            }
            for address in outside {
                assert!(!cidr(range).contains(ip(address)), "{range} {address}");
            }
        }
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        let access = Access::loopback();
        for address in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(access.allows(ip(address)), "{address}");
        }
        for address in ["128.0.0.1", "126.0.0.1", "::", "::2", "::ffff:10.0.0.1"] {
            assert!(!access.allows(ip(address)), "{address}");
        }
        assert_eq!(access.to_string(), "127.0.0.0/8, ::1/128");
    }

    #[test]
    fn ranges_that_leave_nobody_out_are_everybody() {
        let of = |texts: &[&str]| {
            let mut access = Access::nobody();
            texts
                .iter()
                .for_each(|text| access.allow(cidr(text)).unwrap());
            access.lets_everybody_in()
        };
        assert!(Access::any().lets_everybody_in());
        assert!(!Access::nobody().lets_everybody_in() && !Access::loopback().lets_everybody_in());
        for everybody in [
            &["0.0.0.0/0"][..],
            &["::/0"],
            &["::ffff:0:0/96"],
            &["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"],
            &["8000::/1", "4000::/2", "::/2", "127.0.0.1"],
        ] {
            assert!(of(everybody), "{everybody:?}");
        }
        for not_everybody in [
            &["0.0.0.0/1"][..],
            &["0.0.0.0/1", "::/1"],
            &["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3", "0.0.0.0/2"],
            &["8000::/1", "4000::/2", "::/3"],
        ] {
            assert!(!of(not_everybody), "{not_everybody:?}");
        }
    }

    #[test]
    fn nobody_is_nobody_and_any_stays_any() {
        let nobody = Access::nobody();
        assert!(!nobody.allows(ip("127.0.0.1")));
        assert_eq!(
            (nobody.to_string(), nobody.cidrs()),
            ("nobody".to_owned(), &[][..])
        );
        let mut any = Access::any();
        any.allow(cidr("10.0.0.0/8")).unwrap();
        assert!(any.is_any() && any.allows(ip("192.0.2.1")) && any.allows(ip("::1")));
        assert_eq!(any.to_string(), "any");
    }

    #[test]
    fn a_range_within_another_takes_no_room() {
        let mut access = Access::nobody();
        for text in [
            "10.1.0.0/16",
            "10.2.0.0/16",
            "192.0.2.1",
            "10.0.0.0/8",
            "10.3.0.0/16",
        ] {
            access.allow(cidr(text)).unwrap();
        }
        assert_eq!(access.cidrs(), [cidr("192.0.2.1"), cidr("10.0.0.0/8")]);
    }

    #[test]
    fn a_full_list_refuses_one_more_and_keeps_what_it_has() {
        let mut access = Access::nobody();
        let single = |n: u8| Cidr::from(Ipv4Addr::from_bits(0x0a00_0000 + 2 * u32::from(n)));
        for n in 0..128_u8 {
            access.allow(single(n)).unwrap();
        }
        let before = access.clone();
        let error = access.allow(single(128)).unwrap_err();
        assert_eq!(access, before);
        assert!(
            error
                .to_string()
                .starts_with("10.0.1.0/32 is one range too many: at most 128")
        );
        assert!(access.to_string().ends_with(" and 112 more"), "{access}");
        // The other family has room of its own, and so has one that takes the place of others.
        access.allow(cidr("::1")).unwrap();
        access.allow(cidr("10.0.0.0/24")).unwrap();
        assert_eq!(access.cidrs(), [cidr("::1"), cidr("10.0.0.0/24")]);
    }
}
