//! From the link layer to the IP header. (LINKTYPE_ numbers: the tcpdump group's registry.)

/// What a captured packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// An IP header begins here (its version says which).
    Ip(usize),
    /// Something else: ARP, LLDP, ...
    Other,
    /// The link header is cut off.
    Short,
    /// A link type that is not known.
    Unknown,
}

/// Finds the IP header behind the link header of type `link`.
#[inline]
pub(crate) fn network(link: u32, bytes: &[u8]) -> Network {
    match link {
        ETHERNET => ether_type(bytes, 12),
        LINUX_SLL => ether_type(bytes, 14),
        // The type comes first here, and an address of fixed room last.
        LINUX_SLL2 => match bytes.first_chunk() {
            Some(kind) if bytes.len() >= 20 => by_ether_type(bytes, u16::from_be_bytes(*kind), 20),
            _ => Network::Short,
        },
        RAW | RAW_BSD | RAW_OPENBSD | IPV4 | IPV6 => Network::Ip(0),
        NULL => family(bytes, true),
        LOOP => family(bytes, false),
        _ => Network::Unknown,
    }
}

/// An EtherType at `at`, behind it what it names.
#[inline]
fn ether_type(bytes: &[u8], at: usize) -> Network {
    match bytes.get(at..at + 2) {
        Some(kind) => by_ether_type(bytes, u16::from_be_bytes([kind[0], kind[1]]), at + 2),
        None => Network::Short,
    }
}

/// Steps over VLAN tags: tag and inner EtherType, two bytes each.
fn by_ether_type(bytes: &[u8], mut kind: u16, mut at: usize) -> Network {
    loop {
        match kind {
            ETHER_IPV4 | ETHER_IPV6 => return Network::Ip(at),
            ETHER_VLAN | ETHER_QINQ | ETHER_QINQ_OLD => match bytes.get(at + 2..at + 4) {
                Some(inner) => kind = u16::from_be_bytes([inner[0], inner[1]]),
                None => return Network::Short,
            },
            _ => return Network::Other,
        }
        at += 4;
    }
}

/// An address family of the host that captured: AF_INET is 2 everywhere, AF_INET6 is not. The byte order is
/// the host's (NULL) or the network's (LOOP).
fn family(bytes: &[u8], host_order: bool) -> Network {
    let Some(word) = bytes.first_chunk() else {
        return Network::Short;
    };
    let big = u32::from_be_bytes(*word);
    let little = if host_order { big.swap_bytes() } else { big };
    match big.min(little) {
        AF_INET | AF_INET6_LINUX | AF_INET6_BSD | AF_INET6_FREEBSD | AF_INET6_DARWIN => {
            Network::Ip(4)
        }
        _ => Network::Other,
    }
}

const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW_BSD: u32 = 12;
const RAW_OPENBSD: u32 = 14;
const RAW: u32 = 101;
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_SLL2: u32 = 276;

const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const ETHER_VLAN: u16 = 0x8100;
const ETHER_QINQ: u16 = 0x88a8;
const ETHER_QINQ_OLD: u16 = 0x9100;

const AF_INET: u32 = 2;
const AF_INET6_LINUX: u32 = 10;
const AF_INET6_BSD: u32 = 24;
const AF_INET6_FREEBSD: u32 = 28;
const AF_INET6_DARWIN: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn with(len: usize, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut header = vec![0; len];
        header[at..at + bytes.len()].copy_from_slice(bytes);
        header
    }

    #[test]
    fn every_link_type_leads_to_the_ip_header() {
        let cases = [
            (ETHERNET, with(14, 12, b"\x08\x00"), 14),
            (ETHERNET, with(14, 12, b"\x86\xdd"), 14),
            (ETHERNET, with(18, 12, b"\x81\x00\x00\x05\x08\x00"), 18),
            (
                ETHERNET,
                with(22, 12, b"\x88\xa8\x00\x05\x81\x00\x00\x06\x86\xdd"),
                22,
            ),
            (LINUX_SLL, with(16, 14, b"\x08\x00"), 16),
            (LINUX_SLL, with(20, 14, b"\x81\x00\x00\x05\x08\x00"), 20),
            (LINUX_SLL2, with(20, 0, b"\x86\xdd"), 20),
            (RAW, vec![], 0),
            (RAW_BSD, vec![], 0),
            (RAW_OPENBSD, vec![], 0),
            (IPV4, vec![], 0),
            (IPV6, vec![], 0),
            (NULL, vec![2, 0, 0, 0], 4),
            (NULL, vec![0, 0, 0, 30], 4),
            (LOOP, vec![0, 0, 0, 24], 4),
        ];
        for (link, header, ip) in cases {
            assert_eq!(network(link, &header), Network::Ip(ip), "link type {link}");
            for cut in 0..header.len() {
                assert_eq!(
                    network(link, &header[..cut]),
                    Network::Short,
                    "link type {link}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_ip_is_told_from_what_is_not_known() {
        assert_eq!(
            network(ETHERNET, &with(14, 12, b"\x08\x06")),
            Network::Other
        );
        assert_eq!(network(LOOP, &[2, 0, 0, 0]), Network::Other);
        assert_eq!(network(147, &[0; 64]), Network::Unknown);
    }
}
