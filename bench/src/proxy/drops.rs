//! What the kernel dropped before the proxy saw it: a loss that is no fault of the plan.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use nix::sys::socket::{getsockopt, sockopt};

use crate::procfs;

/// Watches one socket, which stays open as long as it lives: the count goes with the socket.
#[derive(Debug)]
pub(super) struct Drops {
    socket: UdpSocket,
    /// Tells sockets apart.
    inode: String,
    table: &'static str,
}

impl Drops {
    pub(super) fn of(socket: UdpSocket) -> anyhow::Result<Self> {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let link = fs::read_link(&path).with_context(|| format!("cannot read {path}"))?;
        let inode = link.to_str().and_then(|link| {
            let number = link.strip_prefix("socket:[")?;
            number.strip_suffix(']')
        });
        let inode = inode.with_context(|| format!("{path} is no socket"))?;
        let table = if socket.local_addr()?.is_ipv4() {
            "/proc/net/udp"
        } else {
            "/proc/net/udp6"
        };
        let inode = inode.to_owned();
        Ok(Self {
            socket,
            inode,
            table,
        })
    }

    /// The receive buffer that was granted, in the unit it is asked for: the kernel answers twice as much (socket(7)).
    pub(super) fn rcvbuf(&self) -> anyhow::Result<usize> {
        Ok(getsockopt(&self.socket, sockopt::RcvBuf)? / 2)
    }

    /// Datagrams that the kernel dropped at the socket since it was opened: its buffer was full, or their checksum wrong.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        for _ in 0..TRIES {
            let table = procfs::read(self.table)?;
            if let Some(drops) = drops_in(&table, &self.inode) {
                return Ok(drops);
            }
        }
        anyhow::bail!("{} has no row for the listening socket", self.table)
    }
}

/// Of a row: sl local remote st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops.
fn drops_in(table: &str, inode: &str) -> Option<u64> {
    let mut rows = table.lines().skip(1).map(str::split_whitespace);
    let row = rows.find(|row| row.clone().nth(9) == Some(inode))?;
    row.last()?.parse().ok()
}

/// The kernel lists sockets a page at a time and goes on by number: one is passed over when another before it was closed
/// meanwhile.
const TRIES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::setsockopt;

    #[test]
    fn what_finds_no_room_in_the_buffer_is_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &4096).unwrap();
        let addr = socket.local_addr().unwrap();
        let drops = Drops::of(socket.try_clone().unwrap()).unwrap();
        assert_eq!(drops.dropped().unwrap(), 0);
        assert!(drops.rcvbuf().unwrap() >= 1024);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 1000], addr).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let mut received = 0;
        while socket.recv(&mut [0; 2000]).is_ok() {
            received += 1;
        }
        assert!(received < 100);
        assert_eq!(drops.dropped().unwrap(), 100 - received);
    }
}
