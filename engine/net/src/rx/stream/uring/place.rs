//! Where a connection is kept, and how a completion finds it.

use crate::rx::stream::Token;
use crate::tcp::TcpSocket;

/// The place of one token: its connection, if it has one.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) connection: Option<Connection>,
    /// How many connections it had before. What the kernel still says of those goes to nobody.
    generation: u32,
    /// Whether its token stands in one of the lines of those to be armed; stays when the connection goes.
    pub(super) in_line: bool,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpSocket,
    /// The kernel has a request to receive from it.
    pub(super) armed: bool,
    /// That request is to end, and its last completion has not come.
    pub(super) cancelled: bool,
    /// Something came since it was armed.
    pub(super) fed: bool,
    /// The last call of the kernel's that brought bytes of it.
    pub(super) served_in: u32,
    pub(super) paused: bool,
    /// Its end or failure has come: nothing after it counts.
    pub(super) over: bool,
    /// Bytes of it were given up, so that it has failed.
    pub(super) robbed: bool,
}

/// What a request carries to its completions: whose it is, and of which connection among those the token has had.
///
/// ```text
///   63        62 ────────────── 32   31 ──── 0
///   cancel    generation, 31 bits    token
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Place {
    /// Keeps `socket`, which is to be received from.
    pub(super) fn open(&mut self, socket: TcpSocket) {
        self.connection = Some(Connection {
            socket,
            armed: false,
            cancelled: false,
            fed: false,
            served_in: 0,
            paused: false,
            over: false,
            robbed: false,
        });
    }

    /// Lets the connection go, and with it everything under its key.
    pub(super) fn close(&mut self) -> Option<Connection> {
        let closed = self.connection.take()?;
        self.generation = (self.generation + 1) & GENERATION_MAX;
        Some(closed)
    }

    /// The key of its connection.
    pub(super) fn key(&self, token: Token) -> Key {
        Key(u64::from(self.generation) << 32 | u64::from(token.0))
    }

    /// The connection that `key` was made for, if it is still there.
    pub(super) fn of(&mut self, key: Key) -> Option<&mut Connection> {
        if self.generation != key.generation() {
            return None;
        }
        self.connection.as_mut()
    }
}

impl Connection {
    /// Whether a request should be made for it.
    pub(super) const fn wants_request(&self) -> bool {
        !self.armed && !self.paused && !self.over
    }
}

impl Key {
    pub(super) const fn from_user_data(data: u64) -> Self {
        Self(data)
    }

    pub(super) const fn user_data(self) -> u64 {
        self.0
    }

    /// That of the request that ends another.
    pub(super) const fn for_cancel(self) -> Self {
        Self(self.0 | CANCEL)
    }

    /// That of the request that is ended by one with this key.
    pub(super) const fn of_cancelled(self) -> Self {
        Self(self.0 & !CANCEL)
    }

    pub(super) const fn is_cancel(self) -> bool {
        self.0 & CANCEL != 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub(super) const fn token(self) -> Token {
        Token(self.0 as u32)
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATION_MAX
    }
}

const CANCEL: u64 = 1 << 63;

/// A number comes again after as many connections of one token; a request that outlived them all would have to be in
/// the kernel still, where the next receive ends it.
const GENERATION_MAX: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn socket() -> TcpSocket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        TcpSocket::from_stream(stream).unwrap()
    }

    #[test]
    fn a_key_is_of_one_connection_and_of_no_later_one() {
        let token = Token(u32::MAX);
        let mut place = Place {
            generation: GENERATION_MAX,
            ..Place::default()
        };
        assert!(place.close().is_none());
        place.open(socket());
        let first = place.key(token);
        let data = first.for_cancel().user_data();
        assert!(Key::from_user_data(data).is_cancel() && !first.is_cancel());
        assert_eq!(Key::from_user_data(data).token(), token);
        assert_eq!(Key::from_user_data(data).of_cancelled(), first);
        assert!(place.of(first).is_some());
        assert!(place.close().is_some());
        assert!(place.of(first).is_none(), "there is none");
        place.open(socket());
        assert!(place.of(first).is_none(), "it is another");
        let second = place.key(token);
        assert!(place.of(second).is_some());
        assert_eq!(second.user_data(), u64::from(u32::MAX), "counted round");
    }
}
