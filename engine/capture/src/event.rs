//! What comes out of a capture.

use core::fmt;
use std::net::SocketAddr;

use binrush_wire::Generation;

use crate::problem::Problem;
use crate::time::Timestamp;

/// The next thing a capture has to say, in the order of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// One BIN frame.
    Frame(Frame<'a>),
    /// Something that could not be used; what follows it still comes.
    Problem(Problem),
}

/// One BIN frame as it was on the wire. Not checked: that is [`Packet::parse`](binrush_wire::Packet::parse).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Number of the record that completed the frame, counted from 1 as Wireshark does.
    pub number: u64,
    /// Time of that record.
    pub time: Timestamp,
    /// Who sent it.
    pub src: SocketAddr,
    /// To whom.
    pub dst: SocketAddr,
    /// What carried it.
    pub transport: Transport,
    /// The generation to parse it as: asked for, or guessed ([`GenerationChoice`](crate::GenerationChoice)).
    pub generation: Generation,
    /// The bytes, marker first; a whole datagram, or what the length in a stream says.
    pub bytes: &'a [u8],
}

/// What carries BIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// 1.x: one frame per datagram.
    Udp,
    /// 2.2 and later: frames in a stream.
    Tcp,
}

impl Transport {
    /// The spelling that command lines and JSON use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
