//! Several sockets on one address, and who of them gets what.
//!
//! ```text
//!              ┌─ program: look at the payload, answer an index ─┐
//!   datagram ──▶ SO_REUSEPORT group of one address               ├─▶ 0: sockets[0]
//!              └─────────────────────────────────────────────────┘   1: sockets[1] ...
//! ```

use std::io;
use std::net::SocketAddr;

use super::{DROP_ALL, Hook, UdpError, UdpOptions, UdpSocket, option};
use crate::address;
use crate::bpf::Program;
use crate::sys::sockopt;

impl UdpSocket {
    /// Opens `count` sockets and binds all of them to `addr`; port 0 lets the kernel choose one for all. Every
    /// one of them drops what arrives until its [`detach_filter`](Self::detach_filter): nothing comes to a wrong
    /// socket before [`attach_steering`](Self::attach_steering) says which is the right one.
    ///
    /// The index that the steering program answers is the place in the returned vector. That holds while all
    /// of them are open: when one closes, the kernel moves the last into its place. A `count` of 1 makes a
    /// socket of its own, which knows no steering.
    ///
    /// The address must be free: nobody's group is joined, and a port in use is an error of `bind`. Later another
    /// process of the same user can join this group (`SO_REUSEPORT` means that); it comes after ours, so it gets
    /// nothing as long as a program answers one of our indices.
    ///
    /// All sockets of the group must agree about [`gro`](UdpOptions::gro), as they do when they leave here; otherwise
    /// the kernel merges by chance, though never wrongly: see [`set_gro`](UdpSocket::set_gro).
    ///
    /// # Errors
    /// The call that failed and why; no socket stays open.
    ///
    /// # Panics
    /// When `count` is zero.
    pub fn bind_group(
        addr: SocketAddr,
        count: usize,
        options: &UdpOptions,
    ) -> Result<Vec<Self>, UdpError> {
        assert!(count > 0, "a group of no sockets");
        let first = Self::closed(addr, options)?;
        // Without SO_REUSEPORT, so that it fails where somebody is already: with it we would take a part of the
        // other's traffic, and nobody would be told.
        address::bind(&first.socket, addr).map_err(UdpError::of("bind"))?;
        let addr = first.local_addr().map_err(UdpError::of("getsockname"))?;
        let mut group = Vec::with_capacity(count);
        if count > 1 {
            first.share()?;
        }
        group.push(first);
        // The kernel appends to the group in the order of bind, the socket that was there first at index 0
        // (`reuseport_add_sock` of `net/core/sock_reuseport.c`).
        for _ in 1..count {
            let next = Self::closed(addr, options)?;
            next.share()?;
            address::bind(&next.socket, addr).map_err(UdpError::of("bind"))?;
            group.push(next);
        }
        Ok(group)
    }

    /// Lets `program` choose the socket for each datagram that arrives at the group of this one; takes the place
    /// of the program before. Attach it to any one socket of the group.
    ///
    /// Byte 0 of what the program loads is the first of the payload (not of the UDP header); a load beyond the end
    /// makes the program answer 0. It answers an index; one that is no socket's lets the kernel choose by a hash of
    /// the addresses. A train that was merged before it came here goes whole to one socket, chosen by its
    /// first datagram. Also for datagrams that are in the kernel's receive path just then it holds only a few
    /// milliseconds later: open the filters afterwards.
    ///
    /// # Errors
    /// What setsockopt(2) said: `InvalidInput` for a program that is no good or a socket that is in no group,
    /// `ENOMEM` for one longer than `net.core.optmem_max` allows. That limit is for each program alone: unlike a
    /// filter's, its memory is not charged to the socket (`reuseport_attach_filter` of `net/core/filter.c`), so one of
    /// the same length can always take its place. A refused program changes nothing.
    pub fn attach_steering(&self, program: &Program) -> io::Result<()> {
        option::attach(&self.socket, Hook::Steering, program.instructions())
    }

    /// A socket that drops everything, bound to nothing yet.
    pub(super) fn closed(addr: SocketAddr, options: &UdpOptions) -> Result<Self, UdpError> {
        let socket = Self::open(addr, options)?;
        option::attach(&socket.socket, Hook::Filter, &DROP_ALL)
            .map_err(UdpError::of("setsockopt(SO_ATTACH_FILTER)"))?;
        Ok(socket)
    }

    pub(super) fn share(&self) -> Result<(), UdpError> {
        sockopt::set_int(&self.socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
            .map_err(UdpError::of("setsockopt(SO_REUSEPORT)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::Instruction;
    use crate::loopback::{self, V4};
    use crate::udp::tests::drain;
    use std::net::UdpSocket as Peer;
    use std::sync::Arc;

    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const RETURN_A: u16 = 0x16; // BPF_RET | BPF_A

    /// Answers the byte of the payload at `offset`.
    fn by_byte(offset: u32) -> Program {
        let [load, answer] = [(LOAD_BYTE, offset), (RETURN_A, 0)].map(|(code, k)| Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        });
        Program::new(vec![load, answer]).unwrap()
    }

    fn group(addr: SocketAddr, count: usize) -> Vec<Arc<UdpSocket>> {
        let group = UdpSocket::bind_group(addr, count, &UdpOptions::default()).unwrap();
        group.into_iter().map(Arc::new).collect()
    }

    fn peer_of(group: &[Arc<UdpSocket>]) -> Peer {
        let to = group[0].local_addr().unwrap();
        let peer = Peer::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        peer.connect(to).unwrap();
        peer
    }

    #[test]
    fn the_programs_answer_is_the_place_in_the_group() {
        for addr in loopback::addresses() {
            let group = group(SocketAddr::new(addr, 0), 5);
            // Attached through another than the first: it belongs to all.
            group[3].attach_steering(&by_byte(2)).unwrap();
            group
                .iter()
                .for_each(|socket| socket.detach_filter().unwrap());
            let peer = peer_of(&group);
            for index in [0, 1, 1, 2, 2, 2, 4] {
                peer.send(&[0xFF, 0xFF, index]).unwrap();
            }
            // Too short for the program to answer anything: index 0.
            peer.send(&[4, 4]).unwrap();
            let received: Vec<u32> = group.iter().map(drain).collect();
            assert_eq!(received, [2, 2, 3, 0, 1]);

            // Another program, while the sockets are open.
            group[0].attach_steering(&by_byte(0)).unwrap();
            peer.send(&[3, 1, 1]).unwrap();
            assert_eq!(group.iter().map(drain).collect::<Vec<_>>(), [0, 0, 0, 1, 0]);
        }
    }

    #[test]
    fn an_answer_that_is_no_socket_of_the_group_loses_nothing() {
        let group = group(SocketAddr::new(V4, 0), 3);
        group[0].attach_steering(&by_byte(0)).unwrap();
        group
            .iter()
            .for_each(|socket| socket.detach_filter().unwrap());
        let peer = peer_of(&group);
        (0..10).for_each(|_| assert_eq!(peer.send(&[200]).unwrap(), 1));
        assert_eq!(group.iter().map(drain).sum::<u32>(), 10);
    }

    #[test]
    fn nothing_comes_in_before_the_filter_is_gone_and_it_is_counted() {
        for count in [1, 3] {
            let group = group(SocketAddr::new(V4, 0), count);
            let peer = peer_of(&group);
            (0..10).for_each(|_| assert_eq!(peer.send(b"early").unwrap(), 5));
            assert_eq!(group.iter().map(drain).sum::<u32>(), 0);
            let drops: u32 = group.iter().map(|socket| socket.drops().unwrap()).sum();
            assert_eq!(drops, 10);
            group
                .iter()
                .for_each(|socket| socket.detach_filter().unwrap());
            peer.send(b"now").unwrap();
            assert_eq!(group.iter().map(drain).sum::<u32>(), 1);
        }
    }

    #[test]
    fn a_group_joins_nobody_and_is_joined_by_no_other_group() {
        let ours = group(SocketAddr::new(V4, 0), 2);
        let addr = ours[0].local_addr().unwrap();
        for count in [1, 2] {
            let refused = UdpSocket::bind_group(addr, count, &UdpOptions::default()).unwrap_err();
            assert_eq!(refused.call, "bind");
            assert_eq!(refused.error.kind(), io::ErrorKind::AddrInUse);
        }
        // Nor is an exclusive socket's address taken.
        let alone = UdpSocket::bind(SocketAddr::new(V4, 0), &UdpOptions::default()).unwrap();
        let addr = alone.local_addr().unwrap();
        assert!(UdpSocket::bind_group(addr, 2, &UdpOptions::default()).is_err());
    }

    #[test]
    fn a_socket_of_no_group_knows_no_steering() {
        let alone = group(SocketAddr::new(V4, 0), 1);
        let refused = alone[0].attach_steering(&by_byte(0)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
