//! What a 3.x node does with a stream, written anew in the plainest way: a read into the connection's buffer of 64 KiB,
//! a copy of each message that is whole, a walk along the list of registered capabilities, and what is left of the
//! buffer moved to its front. (OpenSIPS 3.6 `net/net_tcp_proc.c`, `modules/proto_bin/proto_bin.c`,
//! `bin_interface.c`.)

use std::io::{self, Read};

use serde_json::{Value, json};

use super::classic::Modules;
use super::streams::{self, Reader};
use super::{Args, Stop};

/// One connection.
#[derive(Debug)]
struct Connection {
    modules: Modules,
    buffer: Box<[u8]>,
    /// Bytes in it, the beginning of a message first.
    len: usize,
    message: Vec<u8>,
    counts: Counts,
}

/// What became of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    handled: u64,
    unknown_name: u64,
    /// Connections that were given up, as no message began where one was to.
    broken: u64,
}

/// Takes messages one at a time until `stop`.
pub(super) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let mut all = Counts::default();
    streams::serve(args, stop, Connection::new, |done| all.add(done.counts))?;
    Ok(all.totals())
}

impl Connection {
    fn new() -> Self {
        Self {
            modules: Modules::new(&NAMES),
            buffer: vec![0; BUFFER_LEN].into(),
            len: 0,
            message: Vec::with_capacity(BUFFER_LEN),
            counts: Counts::default(),
        }
    }

    /// Takes the messages that are whole. Whether the connection can be gone on with.
    fn take(&mut self) -> bool {
        let mut at = 0;
        let sound = loop {
            match whole(&self.buffer[at..self.len]) {
                Ok(Some(len)) => {
                    self.message.clear();
                    self.message.extend_from_slice(&self.buffer[at..at + len]);
                    self.counts.dispatch(&self.modules, &self.message);
                    at += len;
                }
                Ok(None) => break true,
                Err(Broken) => break false,
            }
        };
        self.buffer.copy_within(at..self.len, 0);
        self.len -= at;
        self.counts.broken += u64::from(!sound);
        sound
    }
}

impl Reader for Connection {
    fn read(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        let len = stream.read(&mut self.buffer[self.len..])?;
        self.len += len;
        Ok(len > 0 && self.take())
    }
}

impl Counts {
    #[inline]
    fn dispatch(&mut self, modules: &Modules, message: &[u8]) {
        let name_len = usize::from(u16::from_le_bytes([message[10], message[11]]));
        let name = message[12..].get(..name_len);
        match name.is_some_and(|name| modules.call(name, message)) {
            true => self.handled += 1,
            false => self.unknown_name += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.handled += other.handled;
        self.unknown_name += other.unknown_name;
        self.broken += other.broken;
    }

    fn totals(self) -> Value {
        let Self {
            handled,
            unknown_name,
            broken,
        } = self;
        json!({
            "received": handled + unknown_name,
            "outcomes": { "handled": handled, "unknown_name": unknown_name },
            "broken": broken,
        })
    }
}

/// No message begins here.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// Length of the message that `bytes` begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(head) = bytes.first_chunk::<8>() else {
        return Ok(None);
    };
    let [m0, m1, m2, m3, l0, l1, l2, l3] = *head;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if [m0, m1, m2, m3] != *b"P4CK" || !(MESSAGE_LEN_MIN..=BUFFER_LEN).contains(&len) {
        return Err(Broken);
    }
    Ok((bytes.len() >= len).then_some(len))
}

/// Who may have registered, in that order.
const NAMES: [&str; 12] = [
    "dialog-dlg-repl",
    "usrloc-contact-repl",
    "clusterer",
    "ratelimit-pipe-repl",
    "load_balancer-status-repl",
    "drouting-status-repl",
    "dispatcher-status-repl",
    "presence",
    "pua",
    "tracer",
    "sql_cacher",
    "dialog-prof-repl",
];

/// Marker, length, version, length of the name, a name of one byte, command.
const MESSAGE_LEN_MIN: usize = 17;

/// `TCP_BUF_SIZE`; a message is no longer.
const BUFFER_LEN: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::frames::Frames;

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let frames = Frames::new(200, 7).unwrap();
        let bytes = frames.bytes();
        for cut in [1, 7, 199, 200, 201, 1400] {
            let mut connection = Connection::new();
            for mut part in bytes.chunks(cut) {
                assert!(connection.read(&mut part).unwrap());
            }
            assert_eq!((connection.counts.handled, connection.len), (7, 0), "{cut}");
        }
    }

    #[test]
    fn a_buffer_that_ends_within_a_message_loses_nothing() {
        let frames = Frames::new(1400, 200).unwrap();
        let mut stream = frames.bytes();
        let mut connection = Connection::new();
        while connection.read(&mut stream).unwrap() {}
        assert_eq!(connection.counts.handled, 200);
    }

    #[test]
    fn nothing_is_read_behind_what_is_no_message() {
        let good = Frames::new(64, 1).unwrap().bytes().to_vec();
        let damaged = |at: usize, byte: u8| {
            let mut bytes = [&good[..], &good[..]].concat();
            bytes[good.len() + at] = byte;
            bytes
        };
        // Marker, a length of almost nothing, a length above all.
        for bytes in [damaged(0, b'p'), damaged(4, 16), damaged(7, 1)] {
            let mut connection = Connection::new();
            assert!(!connection.read(&mut &bytes[..]).unwrap());
            let expected = Counts {
                handled: 1,
                broken: 1,
                ..Counts::default()
            };
            assert_eq!(connection.counts, expected);
        }
    }

    #[test]
    fn a_name_that_nobody_has_registered_or_that_lies_is_unknown() {
        let mut bytes = Frames::new(64, 1).unwrap().bytes().to_vec();
        bytes[12] ^= 1;
        let mut lies = bytes.clone();
        lies[11] = 0xFF;
        let mut connection = Connection::new();
        for mut bytes in [&bytes[..], &lies[..]] {
            assert!(connection.read(&mut bytes).unwrap());
        }
        assert_eq!(connection.counts.totals()["outcomes"]["unknown_name"], 2);
    }
}
