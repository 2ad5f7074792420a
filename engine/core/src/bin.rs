//! The BIN functions of OpenSIPS, and what they are here.
//!
//! | `bin_interface.c`, 1.11 | here | what is different |
//! |---|---|---|
//! | `bin_init(name, cmd)` | [`Builder::new`](binrush_wire::Builder::new) | Any number of packets at a time, each in a buffer of the caller; a name that does not fit is refused |
//! | `bin_push_str(s)` | [`Builder::push_str`](binrush_wire::Builder::push_str) | Refuses what does not fit, and then says so in a way that is hard to overlook |
//! | `bin_push_int(i)` | [`Builder::push_int`](binrush_wire::Builder::push_int) | |
//! | `bin_send(dest)` | [`Builder::seal`](binrush_wire::Builder::seal), then [`Sender::send`](crate::bin::Sender::send), or [`Context::send`](crate::Context::send) from within a handler | The same bytes to any number of destinations, their checksum computed once |
//! | `bin_register_cb(name, cb)` | [`Registry::register`](crate::Registry::register) before the start, [`Engine::register`](crate::Engine::register) while running | The last registration of a name wins, as there, and it is told; names can be taken back |
//! | `bin_pop_str(&s)` | [`Fields::pop_str`](binrush_wire::Fields::pop_str) | A negative length is an error, and the end another one; the bytes are borrowed from the packet, so they cannot outlive the callback |
//! | `bin_pop_int(&i)` | [`Fields::pop_int`](binrush_wire::Fields::pop_int) | |
//!
//! There one cursor serves pushing and popping, so a push inside a callback destroys the read position; here a
//! packet that is read and one that is built have nothing in common.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Sends packets from an address of its own.
///
/// May be used by any number of threads. On a standby node that answers from the address it listens on, use
/// [`Context::send`](crate::Context::send).
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
}

impl Sender {
    /// A sender from `addr`; port 0 lets the kernel choose. It sends to destinations of the same address family.
    ///
    /// # Errors
    /// What socket(2) or bind(2) said.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr)?;
        Ok(Self { socket })
    }

    /// Sends one packet, which [`Builder::seal`](binrush_wire::Builder::seal) gave, as one datagram.
    ///
    /// That it was sent says nothing about its arrival: UDP BIN knows no answer.
    ///
    /// # Errors
    /// What sendto(2) said. An error that an earlier packet met on its way (`ECONNREFUSED`) is not told twice:
    /// the packet is then sent again.
    pub fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let retry = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused
            )
        };
        let mut refused = 0;
        loop {
            match self.socket.send_to(packet, to) {
                Ok(_) => return Ok(()),
                Err(error) if retry(&error) && refused < RETRIES_MAX => refused += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// How often a send is tried again.
const RETRIES_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_wire::{Builder, Fields, Generation, Packet, WireError};

    #[test]
    fn what_is_pushed_is_popped_in_the_same_order_at_the_other_end() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = Sender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut buffer = [0; 128];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, b"mine", 7, 0).unwrap();
        builder.push_str(b"first").unwrap();
        builder.push_int(-2).unwrap();
        builder.push_str(b"").unwrap();
        sender
            .send(builder.seal(), receiver.local_addr().unwrap())
            .unwrap();

        let mut datagram = [0; 128];
        let len = receiver.recv(&mut datagram).unwrap();
        let packet = Packet::parse(Generation::Legacy, &datagram[..len]).unwrap();
        assert_eq!((packet.name(), packet.command()), (&b"mine"[..], 7));
        let read = |mut fields: Fields<'_>| -> Result<(usize, i32, usize, bool), WireError> {
            let first = fields.pop_str()?.len();
            Ok((
                first,
                fields.pop_int()?,
                fields.pop_str()?.len(),
                fields.pop_int().is_err(),
            ))
        };
        assert_eq!(read(packet.fields()), Ok((5, -2, 0, true)));
    }

    #[test]
    fn a_destination_of_the_other_family_is_an_error() {
        let sender = Sender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(sender.send(b"x", "[::1]:5566".parse().unwrap()).is_err());
    }
}
