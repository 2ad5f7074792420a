//! What handlers answer on the connection that a packet came by, until the kernel has it.

use std::collections::VecDeque;
use std::io;

use super::connection::transmit;
use crate::tls::Session;

/// Whole packets that wait to be written to one connection; bounded, and without memory while nothing is answered.
#[derive(Debug, Default)]
pub(in crate::shard) struct Answers {
    bytes: Vec<u8>,
    /// The length of each that was not written to its last byte; of the first what is left of it.
    left: VecDeque<usize>,
    /// Packets that the session of the connection has, and the kernel may not have.
    in_session: u64,
    news: Posted,
}

/// What became of answers since the last time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) refused: u64,
}

impl Answers {
    /// Adds a packet, if there is room for it.
    pub(in crate::shard) fn push(&mut self, packet: &[u8]) -> bool {
        let has_room = !packet.is_empty() && self.bytes.len() + packet.len() <= BYTES_MAX;
        if has_room {
            self.bytes.extend_from_slice(packet);
            self.left.push_back(packet.len());
        } else {
            self.news.refused += 1;
        }
        has_room
    }

    /// Whether there is nothing to write and nothing to tell.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.in_session == 0 && self.news == Posted::default()
    }

    /// Writes what waits, as far as it is taken, inside `tls` where there is any.
    ///
    /// A failure shows in the next receive, with its reason.
    pub(super) fn write_out(
        &mut self,
        tls: Option<&mut Session>,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) {
        let Some(tls) = tls else {
            while !self.bytes.is_empty() {
                match write(&self.bytes) {
                    Ok(taken @ 1..) => self.news.sent += self.take(taken),
                    Ok(0) | Err(_) => return,
                }
            }
            return;
        };
        transmit(tls, &mut write);
        // A session keeps all that it is given: so it is given nothing while the peer takes nothing.
        if !tls.wants_write() && !self.bytes.is_empty() {
            let taken = tls.send(&self.bytes);
            self.in_session += self.take(taken);
            transmit(tls, &mut write);
        }
        if !tls.wants_write() {
            self.news.sent += std::mem::take(&mut self.in_session);
        }
    }

    /// Counts what waits as lost: the connection is gone.
    pub(super) fn give_up(&mut self) {
        self.news.failed += std::mem::take(&mut self.in_session) + self.left.len() as u64;
        self.left = VecDeque::new();
        self.bytes = Vec::new();
    }

    /// Takes what is to be told.
    pub(super) fn take_news(&mut self) -> Posted {
        std::mem::take(&mut self.news)
    }

    /// So many bytes were taken from the front; packets of which that was the rest.
    fn take(&mut self, taken: usize) -> u64 {
        self.bytes.drain(..taken);
        let (mut rest, mut packets) = (taken, 0);
        while let Some(first) = self.left.front_mut() {
            let part = rest.min(*first);
            (rest, *first) = (rest - part, *first - part);
            if *first > 0 {
                break;
            }
            self.left.pop_front();
            packets += 1;
        }
        // No limit counts this memory, and who is answered once is hardly answered again.
        if self.bytes.is_empty() {
            (self.bytes, self.left) = (Vec::new(), VecDeque::new());
        }
        packets
    }
}

impl std::ops::AddAssign for Posted {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.refused += other.refused;
    }
}

/// Bytes that may wait: an answer is some hundred bytes, and a peer that reads has taken it before the next one.
const BYTES_MAX: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::mint::{Authority, Folder};
    use crate::tls::{ClientTls, ServerTls, TlsDomain, TlsVersion};

    /// Writes to somebody who takes so many bytes in all, and not more than 7 at a time.
    fn taking(room: &mut usize, came: &mut Vec<u8>) -> impl FnMut(&[u8]) -> io::Result<usize> {
        move |bytes| {
            let taken = bytes.len().min(7).min(*room);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            *room -= taken;
            came.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
    }

    #[test]
    fn answers_go_out_in_order_and_each_is_told_once() {
        let (mut answers, mut came) = (Answers::default(), Vec::new());
        assert!(answers.is_idle());
        for fill in 1..=3 {
            assert!(answers.push(&[fill; 10]));
        }
        for (mut room, sent) in [(0, 0), (9, 0), (1, 1), (15, 1), (99, 1)] {
            answers.write_out(None, taking(&mut room, &mut came));
            assert_eq!(
                answers.take_news(),
                Posted {
                    sent,
                    ..Posted::default()
                }
            );
        }
        assert!(answers.is_idle());
        assert_eq!((answers.bytes.capacity(), answers.left.capacity()), (0, 0));
        assert_eq!(came, [[1; 10], [2; 10], [3; 10]].concat());
    }

    #[test]
    fn a_peer_that_takes_nothing_is_answered_up_to_a_bound() {
        let mut answers = Answers::default();
        let taken = (0..100).take_while(|_| answers.push(&[7; 100])).count();
        assert_eq!(taken, BYTES_MAX / 100);
        assert!(!answers.push(&[]));
        let refused = answers.take_news();
        assert_eq!((refused.refused, refused.sent, refused.failed), (2, 0, 0));
        let mut room = 150;
        answers.write_out(None, taking(&mut room, &mut Vec::new()));
        let written = answers.take_news().sent;
        answers.give_up();
        let lost = answers.take_news().failed;
        assert_eq!(written + lost, taken as u64);
        assert!(answers.is_idle());
    }

    /// Both ends of a session whose hands are shaken.
    fn sessions() -> (Session, Session) {
        let (ca, folder) = (Authority::new("Cluster CA"), Folder::new());
        let ca_list = folder.write("ca.pem", &ca.certificate);
        let domain = |name: &str| {
            let issued = ca.node(name);
            TlsDomain {
                name: name.to_owned(),
                addresses: Vec::new(),
                certificate: folder.write(&format!("{name}.pem"), &issued.certificate),
                private_key: folder.write(&format!("{name}.key"), &issued.key),
                ca_list: Some(ca_list.clone()),
                ca_dir: None,
                crl_dir: None,
                crl_check_all: false,
                verify: true,
                require: true,
                lowest: TlsVersion::V1_2,
                highest: TlsVersion::V1_3,
                pins: Vec::new(),
            }
        };
        let there = ([127, 0, 0, 1], 5555).into();
        let server = ServerTls::load(&[domain("server")]).unwrap();
        let client = ClientTls::load(&[domain("client")]).unwrap();
        let mut server = server.accept(there).unwrap();
        let mut client = client.connect(there, None).unwrap();
        while client.wants_write() || server.wants_write() {
            let said = said(&mut client);
            server.receive(&said, |_| ()).unwrap();
            let said = self::said(&mut server);
            client.receive(&said, |_| ()).unwrap();
        }
        (server, client)
    }

    fn said(session: &mut Session) -> Vec<u8> {
        let mut bytes = Vec::new();
        transmit(session, |part| {
            bytes.extend_from_slice(part);
            Ok(part.len())
        });
        bytes
    }

    #[test]
    fn inside_tls_an_answer_is_sent_when_its_last_record_is() {
        let (mut server, mut client) = sessions();
        let (mut answers, mut came) = (Answers::default(), Vec::new());
        assert!(answers.push(b"one") && answers.push(b"two"));
        let mut room = 20;
        answers.write_out(Some(&mut server), taking(&mut room, &mut came));
        assert_eq!(answers.take_news(), Posted::default());
        assert!(!answers.is_idle(), "the session has them");
        // The session is given nothing more before the peer has taken that.
        assert!(answers.push(b"three"));
        answers.write_out(Some(&mut server), |_| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!((answers.bytes.len(), answers.in_session), (5, 2));
        let mut room = usize::MAX;
        answers.write_out(Some(&mut server), taking(&mut room, &mut came));
        assert_eq!(answers.take_news().sent, 3);
        assert!(answers.is_idle());
        let mut plain = Vec::new();
        client
            .receive(&came, |part| plain.extend_from_slice(part))
            .unwrap();
        assert_eq!(plain, b"onetwothree");
    }
}
