//! What the whole network namespace, or machine, lost before a socket was found for it.

use std::fs;
use std::io;

/// Counts of one moment. They belong to the network namespace (`backlog`: to the machine), not to one socket: what
/// they say stands beside a socket's own counts and is not to be added to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetStat {
    /// `ReasmFails` of IPv4 and IPv6: datagrams of which a fragment did not come, or found no room.
    pub reassembly_failures: u64,
    /// `InCsumErrors` of UDP: also in the drops of the socket that they were for.
    pub checksum_errors: u64,
    /// `NoPorts` of UDP: nobody listened.
    pub no_ports: u64,
    /// The second column of softnet_stat, over all processors: packets for which a processor's backlog had no room.
    pub backlog: u64,
}

impl NetStat {
    /// Reads them.
    ///
    /// # Errors
    /// What reading `/proc/self/net/snmp` said. What else a kernel does not tell (no IPv6, no `softnet_stat` in a
    /// container) counts 0.
    pub fn read() -> io::Result<Self> {
        let v4 = fs::read_to_string("/proc/self/net/snmp")?;
        let other = |path| fs::read_to_string(path).unwrap_or_default();
        let v6 = other("/proc/self/net/snmp6");
        Ok(Self::of(&v4, &v6, &other("/proc/net/softnet_stat")))
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            reassembly_failures: self
                .reassembly_failures
                .saturating_sub(earlier.reassembly_failures),
            checksum_errors: self.checksum_errors.saturating_sub(earlier.checksum_errors),
            no_ports: self.no_ports.saturating_sub(earlier.no_ports),
            backlog: self.backlog.saturating_sub(earlier.backlog),
        }
    }

    fn of(v4: &str, v6: &str, softnet: &str) -> Self {
        let both =
            |protocol: &str, key: &str, key6: &str| of_v4(v4, protocol, key) + of_v6(v6, key6);
        let backlog = softnet.lines().filter_map(|processor| {
            let dropped = processor.split_ascii_whitespace().nth(1)?;
            u64::from_str_radix(dropped, 16).ok()
        });
        Self {
            reassembly_failures: both("Ip:", "ReasmFails", "Ip6ReasmFails"),
            checksum_errors: both("Udp:", "InCsumErrors", "Udp6InCsumErrors"),
            no_ports: both("Udp:", "NoPorts", "Udp6NoPorts"),
            backlog: backlog.sum(),
        }
    }
}

/// Two lines begin with the protocol: names, then numbers in the same order.
fn of_v4(text: &str, protocol: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let mut pairs = names
        .split_ascii_whitespace()
        .zip(numbers.split_ascii_whitespace());
    let found = pairs.find(|(name, _)| *name == key);
    found
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0)
}

/// A line each.
fn of_v6(text: &str, key: &str) -> u64 {
    let mut pairs = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let found = pairs.find(|(name, _)| *name == key);
    found
        .and_then(|(_, number)| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Ip: Forwarding ReasmReqds ReasmFails FragOKs\nIp: 1 9 4 7\n\
                      Icmp: InMsgs\nIcmp: 3\n\
                      Udp: InDatagrams NoPorts InErrors InCsumErrors\nUdp: 50 6 2 1\n\
                      UdpLite: InDatagrams NoPorts\nUdpLite: 0 99\n";
    const V6: &str = "Ip6ReasmFails                   \t2\nUdp6NoPorts                     \t10\n";
    const SOFTNET: &str = "0000ffff 0000000a 00000000\n00000001 00000001 00000000\n";

    #[test]
    fn numbers_are_found_by_their_names() {
        let expected = NetStat {
            reassembly_failures: 6,
            checksum_errors: 1,
            no_ports: 16,
            backlog: 11,
        };
        assert_eq!(NetStat::of(V4, V6, SOFTNET), expected);
        assert_eq!(NetStat::of("", "", "nothing"), NetStat::default());
        assert_eq!(expected.since(&expected), NetStat::default());
    }

    #[test]
    fn a_datagram_to_nobody_is_counted_there() {
        let before = NetStat::read().unwrap();
        let (peer, nobody) = {
            let socket = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            (socket(), socket().local_addr().unwrap())
        };
        peer.send_to(b"x", nobody).unwrap();
        assert!(NetStat::read().unwrap().since(&before).no_ports >= 1);
    }
}
