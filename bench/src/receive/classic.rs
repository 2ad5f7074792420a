//! What a 1.x node does with a packet, written anew in the plainest way: one `recvfrom` with the source address per
//! packet, the checksum byte by byte, and a walk along the list of registered names.
//!
//! Measured beside the genuine receiver's figures it must not be slower than they are, or it would be easy to beat.

use std::io;
use std::net::UdpSocket;

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

use super::{Args, Stop, WAIT, say_ready};

/// Registered names, and what became of packets.
#[derive(Debug)]
pub(crate) struct Classic {
    modules: Modules,
    handled: u64,
    too_short: u64,
    bad_marker: u64,
    bad_crc: u64,
    unknown_name: u64,
}

/// The list of registered names, searched from its head.
#[derive(Debug)]
pub(super) struct Modules(Option<Box<Module>>);

/// A node of the list.
#[derive(Debug)]
struct Module {
    name: Vec<u8>,
    callback: fn(&[u8]),
    next: Option<Box<Self>>,
}

/// Takes packets one at a time until `stop`.
pub(crate) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let socket = UdpSocket::bind(args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let rcvbuf = args.rcvbuf as usize;
    setsockopt(&socket, sockopt::RcvBufForce, &rcvbuf)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &rcvbuf))
        .context("cannot set the receive buffer")?;
    // A wait without end would not notice that `stop` was set.
    socket.set_read_timeout(Some(WAIT))?;
    say_ready(socket.local_addr()?)?;

    let mut classic = Classic::new();
    let mut buffer = [0; BUFFER_LEN];
    while !stop.is_asked() {
        match socket.recv_from(&mut buffer) {
            Ok((len, _from)) => classic.packet(&buffer[..len]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => return Err(error).context("cannot receive"),
            },
        }
    }
    Ok(classic.totals())
}

impl Classic {
    /// A dozen modules have registered; the one that the packets are for came first, so it is last in the list.
    fn new() -> Self {
        Self {
            modules: Modules::new(&NAMES),
            handled: 0,
            too_short: 0,
            bad_marker: 0,
            bad_crc: 0,
            unknown_name: 0,
        }
    }

    /// Checks a packet, finds whose it is and calls the callback.
    #[inline]
    fn packet(&mut self, packet: &[u8]) {
        if packet.len() < PACKET_LEN_MIN {
            self.too_short += 1;
            return;
        }
        if packet[..4] != *b"P4CK" {
            self.bad_marker += 1;
            return;
        }
        if word(packet, 4) != crc(&packet[8..]) {
            self.bad_crc += 1;
            return;
        }
        let name_len = word(packet, 8) as usize;
        let Some(name) = packet[12..].get(..name_len) else {
            self.unknown_name += 1;
            return;
        };
        if self.modules.call(name, packet) {
            self.handled += 1;
        } else {
            self.unknown_name += 1;
        }
    }

    fn totals(&self) -> Value {
        let outcomes = json!({
            "handled": self.handled,
            "too_short": self.too_short,
            "bad_marker": self.bad_marker,
            "bad_crc": self.bad_crc,
            "unknown_name": self.unknown_name,
        });
        let refused = self.too_short + self.bad_marker + self.bad_crc + self.unknown_name;
        json!({ "received": self.handled + refused, "outcomes": outcomes })
    }
}

impl Modules {
    /// Each of `names` is put before those that were there.
    pub(super) fn new(names: &[&str]) -> Self {
        let mut modules = None;
        for name in names {
            modules = Some(Box::new(Module {
                name: name.as_bytes().to_vec(),
                callback: |_packet| {},
                next: modules,
            }));
        }
        Self(modules)
    }

    /// Hands `packet` to whoever registered `name`; whether somebody has.
    #[inline]
    pub(super) fn call(&self, name: &[u8], packet: &[u8]) -> bool {
        let mut next = self.0.as_deref();
        while let Some(module) = next {
            if module.name == name {
                (module.callback)(packet);
                return true;
            }
            next = module.next.as_deref();
        }
        false
    }
}

/// The little-endian word at offset `at`; the caller has checked the length.
fn word(packet: &[u8], at: usize) -> u32 {
    let bytes: [u8; 4] = packet[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

/// CRC-32 without the final inversion, one look-up per byte. (OpenSIPS 1.11 `bin_interface.c`.)
fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let index = (crc ^ u32::from(*byte)) & 0xFF;
        CRC_TABLE[index as usize] ^ (crc >> 8)
    })
}

/// Of the reflected polynomial 0xEDB88320.
static CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xEDB8_8320
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
};

/// Who may have registered, in that order.
const NAMES: [&str; 12] = [
    "dialog",
    "ul",
    "clusterer",
    "ratelimit",
    "load_balancer",
    "drouting",
    "dispatcher",
    "presence",
    "pua",
    "siptrace",
    "acc",
    "event_route",
];

/// Marker, checksum, length of the name, two bytes of name, command.
const PACKET_LEN_MIN: usize = 18;

const BUFFER_LEN: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::packets::Packets;
    use binrush_wire::{Builder, Generation};

    fn packet_for(name: &str) -> Vec<u8> {
        let mut buffer = [0; 64];
        let mut builder =
            Builder::new(Generation::Legacy, &mut buffer, name.as_bytes(), 1, 0).unwrap();
        builder.push_str(b"a value").unwrap();
        builder.seal().to_vec()
    }

    #[test]
    fn packets_of_registered_names_are_handled() {
        let mut classic = Classic::new();
        for name in NAMES {
            classic.packet(&packet_for(name));
        }
        let packets = Packets::new(1400, 5).unwrap();
        packets
            .cycle()
            .take(5)
            .for_each(|packet| classic.packet(packet));
        assert_eq!(classic.handled, NAMES.len() as u64 + 5);
        assert_eq!(classic.totals()["received"], classic.handled);
    }

    #[test]
    fn each_refusal_has_its_count() {
        let good = packet_for("dialog");
        let mut classic = Classic::new();
        (0..PACKET_LEN_MIN).for_each(|len| classic.packet(&good[..len]));
        // Every single bit beyond the marker is under the checksum, or is the checksum.
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            classic.packet(&damaged);
        }
        classic.packet(&packet_for("dialoG"));
        let outcomes = json!({
            "handled": 0,
            "too_short": PACKET_LEN_MIN,
            "bad_marker": 4,
            "bad_crc": good.len() - 4,
            "unknown_name": 1,
        });
        assert_eq!(classic.totals()["outcomes"], outcomes);
    }

    #[test]
    fn a_name_length_that_lies_reaches_nothing() {
        for len in [u32::MAX, 1 << 31, 1000] {
            let mut packet = packet_for("dialog");
            packet[8..12].copy_from_slice(&len.to_le_bytes());
            let crc = crc(&packet[8..]);
            packet[4..8].copy_from_slice(&crc.to_le_bytes());
            let mut classic = Classic::new();
            classic.packet(&packet);
            assert_eq!(classic.unknown_name, 1);
        }
    }
}
