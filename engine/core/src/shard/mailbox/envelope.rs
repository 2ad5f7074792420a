//! What stands in front of a packet in the mail: where it came from, because its owner parses it.
//!
//! ```text
//!   datagram   | 0 |                                       where it came from is not known
//!   datagram   | 3                        | 255             | its end | ours, or zeros |
//!   stream     | 1: 2.2, 2: 2.3 and later | release, or 255 | its end | ours, or zeros |
//!
//!   end        | address, 16 bytes | port, 2 | scope, 4 |   22 bytes
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use binrush_wire::{Generation, Release};

use crate::dispatch::handler::{Ends, Origin};

/// The envelope of a packet whose ends are known; `None`: it was a datagram without, whose envelope is [`DATAGRAM`] alone.
/// Nothing else is mailed.
#[inline]
pub(super) fn of(origin: &Origin) -> Option<[u8; ENDS_LEN]> {
    let (kind, release, ends) = match origin {
        Origin::Datagram(ends) => (DATAGRAM_WITH_ENDS, None, ends.as_ref()?),
        Origin::Stream {
            ends,
            generation: Generation::Transitional,
            release,
        } => (TRANSITIONAL, *release, ends),
        Origin::Stream { ends, release, .. } => (MODERN, *release, ends),
        Origin::Process => return None,
    };
    let mut envelope = [0; ENDS_LEN];
    envelope[0] = kind;
    envelope[1] = release.map_or(NO_RELEASE, |release| release as u8);
    let (peer, local) = envelope[2..].split_at_mut(END_LEN);
    write(peer, &ends.peer);
    if let Some(addr) = &ends.local {
        write(local, addr);
    }
    Some(envelope)
}

#[inline]
fn write(end: &mut [u8], addr: &SocketAddr) {
    let (ip, scope) = match addr {
        SocketAddr::V4(addr) => (addr.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(addr) => (*addr.ip(), addr.scope_id()),
    };
    end[..16].copy_from_slice(&ip.octets());
    end[16..18].copy_from_slice(&addr.port().to_ne_bytes());
    end[18..].copy_from_slice(&scope.to_ne_bytes());
}

#[inline]
fn read(end: &[u8; END_LEN]) -> SocketAddr {
    let [ip @ .., p0, p1, s0, s1, s2, s3] = *end;
    let port = u16::from_ne_bytes([p0, p1]);
    match Ipv6Addr::from(ip).to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), port),
        IpAddr::V6(ip) => {
            let scope = u32::from_ne_bytes([s0, s1, s2, s3]);
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
    }
}

/// What was put in an envelope.
#[inline]
pub(super) fn open(mail: &[u8]) -> (Origin, &[u8]) {
    let (kind, release, ends, packet) = match mail.split_first_chunk::<ENDS_LEN>() {
        Some((&[kind, release, ref ends @ ..], packet)) if kind != DATAGRAM => {
            (kind, release, ends, packet)
        }
        _ => return (Origin::Datagram(None), mail.get(1..).unwrap_or_default()),
    };
    let (peer, local) = ends.split_at(END_LEN);
    let end = |end: &[u8]| read(end.first_chunk().expect("half of two"));
    let ends = Ends {
        peer: end(peer),
        // Nobody listens at port 0.
        local: Some(end(local)).filter(|local| local.port() != 0),
    };
    let generation = match kind {
        DATAGRAM_WITH_ENDS => return (Origin::Datagram(Some(ends)), packet),
        TRANSITIONAL => Generation::Transitional,
        _ => Generation::Modern,
    };
    let origin = Origin::Stream {
        ends,
        generation,
        release: Release::ALL.get(usize::from(release)).copied(),
    };
    (origin, packet)
}

/// The envelope of a datagram whose ends are not known.
pub(super) const DATAGRAM: u8 = 0;

const TRANSITIONAL: u8 = 1;
const MODERN: u8 = 2;
const DATAGRAM_WITH_ENDS: u8 = 3;
const NO_RELEASE: u8 = u8::MAX;
const END_LEN: usize = 22;
const ENDS_LEN: usize = 2 + 2 * END_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ends() -> [Ends; 5] {
        let scoped = SocketAddrV6::new("fe80::9".parse().unwrap(), 7, 0, 3);
        [
            ("10.0.0.7:40000".parse(), Some("10.0.0.9:5555")),
            ("10.0.0.7:40000".parse(), Some("0.0.0.0:5555")),
            // A datagram may come from port 0: nobody is to answer.
            ("10.0.0.7:0".parse(), None),
            ("[2001:db8::7]:65535".parse(), Some("[::]:5555")),
            (Ok(scoped.into()), None),
        ]
        .map(|(peer, local)| Ends {
            peer: peer.unwrap(),
            local: local.map(|local| local.parse().unwrap()),
        })
    }

    #[test]
    fn what_comes_out_is_what_went_in() {
        let unknown = Origin::Datagram(None);
        assert_eq!(of(&unknown), None);
        assert_eq!(open(&[DATAGRAM, 2, 3]), (unknown, &[2, 3][..]));
        assert_eq!(open(&[DATAGRAM]), (unknown, &[][..]));
        // A datagram that is longer than an envelope is none.
        assert_eq!(open(&[0; 60]), (unknown, &[0; 59][..]));
        assert_eq!(of(&Origin::Process), None);
        for ends in all_ends() {
            let origin = Origin::Datagram(Some(ends));
            let mail = [&of(&origin).unwrap()[..], b"packet"].concat();
            assert_eq!(open(&mail), (origin, &b"packet"[..]));
        }
        for (number, release) in Release::ALL.into_iter().enumerate().skip(1) {
            assert_eq!(release as usize, number);
            for ends in all_ends() {
                let origin = Origin::Stream {
                    ends,
                    generation: release.generation(),
                    release: Some(release),
                };
                let envelope = of(&origin).unwrap();
                let mail = [&envelope[..], b"packet"].concat();
                assert_eq!(open(&mail), (origin, &b"packet"[..]));
            }
        }
        let unknown = Origin::Stream {
            ends: all_ends()[0],
            generation: Generation::Modern,
            release: None,
        };
        assert_eq!(open(&of(&unknown).unwrap()), (unknown, &[][..]));
    }
}
