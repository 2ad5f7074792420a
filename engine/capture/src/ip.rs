//! IPv4 and IPv6 headers. (RFC 791, RFC 8200.)

use core::ops::Range;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::problem::Layer;

/// What an IP header says, extension headers read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// IP protocol number of the payload.
    pub(crate) protocol: u8,
    /// Where the captured bytes of the payload are.
    pub(crate) payload: Range<usize>,
    /// Bytes of the payload that were not captured.
    pub(crate) missing: usize,
    /// The payload is a part of a datagram.
    pub(crate) fragment: Option<Fragment>,
}

/// Which part of a datagram a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// In bytes, a multiple of 8.
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

/// Reads the headers at `at`; `missing` bytes after the end of `bytes` were on the wire.
#[inline]
pub(crate) fn parse(bytes: &[u8], at: usize, missing: usize) -> Result<Ip, Layer> {
    match bytes.get(at).map(|first| first >> 4) {
        Some(4) => parse_v4(bytes, at, missing).ok_or(Layer::Ipv4),
        Some(6) => parse_v6(bytes, at, missing).ok_or(Layer::Ipv6),
        _ => Err(Layer::Link),
    }
}

#[inline]
fn parse_v4(bytes: &[u8], at: usize, missing: usize) -> Option<Ip> {
    let header = bytes[at..].first_chunk::<20>()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // A sender that leaves segmentation to its card is captured with total length 0: all is payload then.
    let total = match total {
        0 => bytes.len() - at + missing,
        total => total,
    };
    if header_len < 20 || total < header_len {
        return None;
    }
    let flags = u16::from_be_bytes([header[6], header[7]]);
    let (more, offset) = (flags & 0x2000 != 0, usize::from(flags & 0x1fff) * 8);
    let fragment = (more || offset != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        offset,
        more,
    });
    let (payload, missing) = cut(bytes.len(), at + header_len, total - header_len)?;
    Some(Ip {
        src: Ipv4Addr::from(*header[12..].first_chunk::<4>()?).into(),
        dst: Ipv4Addr::from(*header[16..].first_chunk::<4>()?).into(),
        protocol: header[9],
        payload,
        missing,
        fragment,
    })
}

fn parse_v6(bytes: &[u8], at: usize, missing: usize) -> Option<Ip> {
    let header = bytes[at..].first_chunk::<40>()?;
    let begin = at + 40;
    // 0 for a jumbogram, or a sender that leaves segmentation to its card.
    let len = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        0 => bytes.len() - begin + missing,
        len => len,
    };
    let (payload, missing) = cut(bytes.len(), begin, len)?;
    let inner = extensions(bytes, header[6], payload)?;
    Some(Ip {
        src: Ipv6Addr::from(*header[8..].first_chunk::<16>()?).into(),
        dst: Ipv6Addr::from(*header[24..].first_chunk::<16>()?).into(),
        protocol: inner.protocol,
        payload: inner.payload,
        missing,
        fragment: inner.fragment,
    })
}

/// What extension headers lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) protocol: u8,
    pub(crate) payload: Range<usize>,
    fragment: Option<Fragment>,
}

/// Steps over the extension headers in `payload`, of which `protocol` is the first; stops at the payload, or
/// behind a fragment header: what follows that is part of the datagram to be put together.
pub(crate) fn extensions(bytes: &[u8], mut protocol: u8, payload: Range<usize>) -> Option<Inner> {
    let Range { mut start, end } = payload;
    let mut fragment = None;
    loop {
        let len = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => {
                (usize::from(*bytes[start..end].get(1)?) + 1) * 8
            }
            AUTHENTICATION => (usize::from(*bytes[start..end].get(1)?) + 2) * 4,
            FRAGMENT => {
                let header = bytes[start..end].first_chunk::<8>()?;
                let word = u16::from_be_bytes([header[2], header[3]]);
                let (more, offset) = (word & 1 != 0, usize::from(word & 0xfff8));
                // An "atomic" fragment is a whole datagram (RFC 6946).
                fragment = (more || offset != 0).then(|| Fragment {
                    id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                    offset,
                    more,
                });
                8
            }
            _ => break,
        };
        protocol = *bytes[start..end].first()?;
        start += len;
        if start > end {
            return None;
        }
        if fragment.is_some() {
            break;
        }
    }
    Some(Inner {
        protocol,
        payload: start..end,
        fragment,
    })
}

/// Where `len` bytes from `begin` on are, and how many of them were not captured. Padding of the link layer
/// behind them falls off.
#[inline]
fn cut(captured: usize, begin: usize, len: usize) -> Option<(Range<usize>, usize)> {
    let there = captured.checked_sub(begin)?;
    let kept = there.min(len);
    Some((begin..begin + kept, len - kept))
}

/// Whether an extension header of IPv6 has this protocol number: what it leads to is another one's.
pub(crate) fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 | AUTHENTICATION | FRAGMENT
    )
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(options: usize, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + options;
        let total = u16::try_from(header_len + payload.len()).expect("small");
        let mut bytes = vec![0; header_len];
        bytes[0] = 0x40 | u8::try_from(header_len / 4).expect("small");
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[9] = 17;
        bytes[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(payload);
        bytes
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&u16::try_from(payload.len()).expect("small").to_be_bytes());
        bytes[6] = next;
        (bytes[23], bytes[39]) = (1, 2);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn v4_options_are_stepped_over_and_padding_falls_off() {
        let mut bytes = v4(8, b"abc");
        bytes.extend([0; 20]);
        let ip = parse(&bytes, 0, 0).expect("whole");
        assert_eq!(
            (&bytes[ip.payload], ip.missing, ip.protocol),
            (&b"abc"[..], 0, 17)
        );
        assert_eq!(
            (ip.src.to_string(), ip.dst.to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );
    }

    #[test]
    fn a_total_length_of_zero_means_all_there_is() {
        let mut bytes = v4(0, b"abcdef");
        bytes[2..4].fill(0);
        let ip = parse(&bytes, 0, 7).expect("whole");
        assert_eq!((ip.payload, ip.missing), (20..26, 7));
        let mut bytes = v6(17, b"abcdef");
        bytes[4..6].fill(0);
        let ip = parse(&bytes, 0, 7).expect("whole");
        assert_eq!((ip.payload, ip.missing), (40..46, 7));
    }

    #[test]
    fn v6_extension_headers_lead_to_the_payload() {
        let mut payload = vec![60, 0, 0, 0, 0, 0, 0, 0]; // hop by hop, 8 bytes
        payload.extend([51, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // destination, 16 bytes
        payload.extend([17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // authentication, 12 bytes
        payload.extend(b"abc");
        let bytes = v6(0, &payload);
        let ip = parse(&bytes, 0, 0).expect("whole");
        assert_eq!((ip.protocol, &bytes[ip.payload]), (17, &b"abc"[..]));
        for cut in 0..bytes.len() - 3 {
            assert_eq!(
                parse(&bytes[..cut], 0, 0),
                Err(if cut == 0 { Layer::Link } else { Layer::Ipv6 })
            );
        }
    }

    #[test]
    fn v6_fragments_are_told_from_atomic_ones() {
        let first = v6(44, b"\x11\0\x00\x01\0\0\0\x07abcdefgh");
        let ip = parse(&first, 0, 0).expect("whole");
        let fragment = Fragment {
            id: 7,
            offset: 0,
            more: true,
        };
        assert_eq!(
            (ip.fragment, ip.protocol, ip.payload.len()),
            (Some(fragment), 17, 8)
        );
        let atomic = v6(44, b"\x11\0\x00\x00\0\0\0\x07abc");
        assert_eq!(parse(&atomic, 0, 0).expect("whole").fragment, None);
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let mut bytes = v4(0, b"abc");
        bytes[0] = 0x44;
        assert_eq!(parse(&bytes, 0, 0), Err(Layer::Ipv4));
        let mut bytes = v4(0, b"abc");
        bytes[3] = 19;
        assert_eq!(parse(&bytes, 0, 0), Err(Layer::Ipv4));
        assert_eq!(parse(&[0x50; 40], 0, 0), Err(Layer::Link));
    }
}
