//! What stands in front of a packet in the mail: where it came from, because its owner parses it.
//!
//! ```text
//!   datagram   | 0 |
//!   stream     | 1: 2.2, 2: 2.3 and later | release, or 255 | address, 16 bytes |
//! ```

use std::net::Ipv6Addr;

use binrush_wire::{Generation, Release};

use crate::dispatch::handler::Origin;

/// The envelope of a packet from a stream; `None`: it was a datagram, whose envelope is [`DATAGRAM`] alone. Nothing else
/// is mailed.
#[inline]
pub(super) fn of(origin: &Origin) -> Option<[u8; STREAM_LEN]> {
    let Origin::Stream {
        peer,
        generation,
        release,
    } = origin
    else {
        return None;
    };
    let mut envelope = [0; STREAM_LEN];
    envelope[0] = match generation {
        Generation::Transitional => TRANSITIONAL,
        Generation::Legacy | Generation::Modern => MODERN,
    };
    envelope[1] = release.map_or(NO_RELEASE, |release| release as u8);
    let address = match peer {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => *ip,
    };
    envelope[2..].copy_from_slice(&address.octets());
    Some(envelope)
}

/// What was put in an envelope.
#[inline]
pub(super) fn open(mail: &[u8]) -> (Origin, &[u8]) {
    match mail.split_first_chunk::<STREAM_LEN>() {
        Some((&[kind @ (TRANSITIONAL | MODERN), release, ref address @ ..], packet)) => {
            let address: [u8; 16] = *address.first_chunk().expect("the rest of the envelope");
            let origin = Origin::Stream {
                peer: Ipv6Addr::from(address).to_canonical(),
                generation: match kind {
                    TRANSITIONAL => Generation::Transitional,
                    _ => Generation::Modern,
                },
                release: Release::ALL.get(usize::from(release)).copied(),
            };
            (origin, packet)
        }
        _ => (Origin::Datagram, mail.get(1..).unwrap_or_default()),
    }
}

/// The envelope of a datagram.
pub(super) const DATAGRAM: u8 = 0;

const TRANSITIONAL: u8 = 1;
const MODERN: u8 = 2;
const NO_RELEASE: u8 = u8::MAX;
const STREAM_LEN: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in() {
        assert_eq!(open(&[DATAGRAM, 2, 3]), (Origin::Datagram, &[2, 3][..]));
        assert_eq!(open(&[DATAGRAM]), (Origin::Datagram, &[][..]));
        // A datagram that is longer than an envelope is none.
        assert_eq!(open(&[0; 30]), (Origin::Datagram, &[0; 29][..]));
        for (number, release) in Release::ALL.into_iter().enumerate().skip(1) {
            assert_eq!(release as usize, number);
            for peer in ["10.0.0.7", "2001:db8::7"] {
                let origin = Origin::Stream {
                    peer: peer.parse().unwrap(),
                    generation: release.generation(),
                    release: Some(release),
                };
                let envelope = of(&origin).unwrap();
                let mail = [&envelope[..], b"packet"].concat();
                assert_eq!(open(&mail), (origin, &b"packet"[..]));
            }
        }
        let unknown = Origin::Stream {
            peer: [10, 0, 0, 7].into(),
            generation: Generation::Modern,
            release: None,
        };
        assert_eq!(open(&of(&unknown).unwrap()), (unknown, &[][..]));
    }
}
