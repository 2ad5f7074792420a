//! Datagrams that arrived on one shard and belong to another.
//!
//! ```text
//!            to shard 0   to shard 1   to shard 2
//!  shard 0       -          ring         ring        one ring for each ordered pair: one producer, one
//!  shard 1     ring           -          ring        consumer, no lock, no atomic read-modify-write
//!  shard 2     ring         ring           -
//! ```
//!
//! A datagram is copied into the ring of its owner, which is cheaper than pinning a 64 KiB frame for 200
//! bytes, and no frame ever crosses shards. The rings are bounded: a full one refuses, and the datagram is
//! counted. The owner is woken only if it sleeps, and once per batch at most.

use std::fmt;
use std::io;
use std::sync::Arc;

use binrush_net::{Bell, Consumer, Producer, ring};

use crate::clock::Timestamp;
use crate::dispatch::handler::{Origin, ShardId};

/// What stands in front of a packet in the mail.
mod envelope;

/// One shard's ends of all rings it has a part in, and its bell.
pub struct Mailbox {
    /// From every other shard.
    inbound: Box<[Consumer]>,
    /// To every other shard, by its number; `None` at our own place.
    outbound: Box<[Option<Lane>]>,
    bell: Arc<Bell>,
}

struct Lane {
    producer: Producer,
    bell: Arc<Bell>,
    /// Something was pushed since the last publication.
    pushed: bool,
}

impl Mailbox {
    /// The mailboxes of `shards` shards, in order; all rings allocated and touched.
    ///
    /// # Errors
    /// What making an eventfd(2) said.
    pub fn mesh(shards: u16) -> io::Result<Vec<Self>> {
        let count = usize::from(shards);
        let bells: Vec<Arc<Bell>> = (0..count)
            .map(|_| Bell::new().map(Arc::new))
            .collect::<io::Result<_>>()?;
        let len = ring_len(count);
        let mut inbound: Vec<Vec<Consumer>> = (0..count).map(|_| Vec::new()).collect();
        let mut outbound: Vec<Vec<Option<Lane>>> = (0..count).map(|_| Vec::new()).collect();
        for (from, lanes) in outbound.iter_mut().enumerate() {
            for (to, bell) in bells.iter().enumerate() {
                if from == to {
                    lanes.push(None);
                    continue;
                }
                let (producer, consumer) = ring(len);
                inbound[to].push(consumer);
                lanes.push(Some(Lane {
                    producer,
                    bell: Arc::clone(bell),
                    pushed: false,
                }));
            }
        }
        let ends = inbound.into_iter().zip(outbound).zip(bells);
        Ok(ends
            .map(|((inbound, outbound), bell)| Self {
                inbound: inbound.into(),
                outbound: outbound.into(),
                bell,
            })
            .collect())
    }

    /// Copies `packet`, which arrived at `arrived` by `origin`, for `owner`; `false`: its ring is full, nothing was
    /// copied.
    ///
    /// Packets of streams leave a quarter of the ring to datagrams: they can wait, and those would be lost. The owner
    /// sees it after [`publish`](Self::publish).
    ///
    /// # Panics
    /// When `owner` is this shard itself or does not exist.
    #[inline]
    pub(crate) fn post(
        &mut self,
        owner: ShardId,
        arrived: Timestamp,
        origin: &Origin,
        packet: &[u8],
    ) -> bool {
        let lane = self.outbound[owner.index()]
            .as_mut()
            .expect("nobody mails to himself");
        let producer = &mut lane.producer;
        let taken = match envelope::of(origin) {
            None => producer.push_parts(arrived.as_nanos(), [&[envelope::DATAGRAM], packet]),
            Some(envelope) => {
                let left = match origin {
                    Origin::Stream { .. } => producer.capacity() / 4,
                    Origin::Datagram(_) | Origin::Process => 0,
                };
                producer.has_free(left + packet.len())
                    && producer.push_parts(arrived.as_nanos(), [&envelope, packet])
            }
        };
        lane.pushed |= taken;
        taken
    }

    /// Shows what was posted to its owners, and wakes those that sleep. Once per batch.
    #[inline]
    pub(crate) fn publish(&mut self) {
        for lane in self.outbound.iter_mut().flatten() {
            if lane.pushed {
                lane.pushed = false;
                lane.producer.publish();
                lane.bell.ring_if_armed();
            }
        }
    }

    /// Calls `each` with the arrival, origin and bytes of what other shards posted, at most [`MAIL_BATCH`] from each of
    /// them, in the order of each.
    #[inline]
    pub(crate) fn read(&mut self, mut each: impl FnMut(Timestamp, &Origin, &[u8])) {
        for consumer in &mut self.inbound {
            for _ in 0..MAIL_BATCH {
                let Some((stamp, mail)) = consumer.peek() else {
                    break;
                };
                let (origin, packet) = envelope::open(mail);
                each(Timestamp::from_nanos(stamp), &origin, packet);
                consumer.pop();
            }
            consumer.free();
        }
    }

    /// Whether other shards published something that was not read.
    #[inline]
    pub(crate) fn has_mail(&mut self) -> bool {
        self.inbound.iter_mut().any(|consumer| !consumer.is_empty())
    }

    /// Whether there is any other shard.
    #[inline]
    pub(crate) fn has_peers(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// How many shards there are, this one included.
    pub(crate) fn shards(&self) -> usize {
        self.outbound.len()
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

/// Bytes of each ring: 1 MiB, less where there are many, and always room for a few of the largest datagrams.
fn ring_len(shards: usize) -> usize {
    let share = MAILBOX_LEN / shards.saturating_sub(1).max(1);
    share.clamp(RING_LEN_MIN, RING_LEN_MAX).next_power_of_two()
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("peers", &self.inbound.len())
            .finish_non_exhaustive()
    }
}

/// Packets read from one other shard before the next one's turn, so that nobody waits long; of streams a shard reads up
/// to 2600 of its own in a turn, and the others' shall not wait for many of those.
pub(crate) const MAIL_BATCH: usize = 512;

/// What all rings into one shard take together, about.
const MAILBOX_LEN: usize = 8 << 20;
const RING_LEN_MAX: usize = 1 << 20;
const RING_LEN_MIN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::handler::Ends;

    fn read(mailbox: &mut Mailbox) -> Vec<(u64, Vec<u8>)> {
        let mut seen = Vec::new();
        mailbox.read(|arrived, origin, bytes| {
            assert_eq!(*origin, Origin::Datagram(None));
            seen.push((arrived.as_nanos(), bytes.to_vec()));
        });
        seen
    }

    fn post(mailbox: &mut Mailbox, owner: ShardId, arrived: u64, datagram: &[u8]) -> bool {
        let arrived = Timestamp::from_nanos(arrived);
        mailbox.post(owner, arrived, &Origin::Datagram(None), datagram)
    }

    #[test]
    fn packets_of_streams_leave_room_for_datagrams() {
        let mut mesh = Mailbox::mesh(2).unwrap();
        let origin = Origin::Stream {
            ends: Ends::new(([10, 0, 0, 7], 40_000).into(), None),
            generation: binrush_wire::Generation::Modern,
            release: None,
        };
        let (now, packet) = (Timestamp::default(), [7; 1000]);
        let mut posted = 0;
        while mesh[0].post(ShardId(1), now, &origin, &packet) {
            posted += 1;
            assert!(posted < 10_000);
        }
        let mut datagrams = 0;
        while post(&mut mesh[0], ShardId(1), 0, &packet) {
            datagrams += 1;
        }
        assert!(datagrams >= posted / 4, "{posted} and {datagrams}");
        mesh[0].publish();
        let mut origins = Vec::new();
        while mesh[1].has_mail() {
            mesh[1].read(|_, origin, bytes| {
                assert_eq!(bytes, packet);
                origins.push(*origin);
            });
        }
        let (streams, rest) = origins.split_at(posted);
        assert!(streams.iter().all(|each| *each == origin));
        assert_eq!(rest, vec![Origin::Datagram(None); datagrams]);
    }

    #[test]
    fn what_is_posted_arrives_at_its_owner_alone_and_in_order() {
        let mut mesh = Mailbox::mesh(3).unwrap();
        for n in 0..5_u8 {
            assert!(post(&mut mesh[0], ShardId(2), n.into(), &[n; 3]));
        }
        assert!(post(&mut mesh[1], ShardId(2), 9, b"other"));
        assert!(!mesh[2].has_mail(), "not before it is published");
        mesh[0].publish();
        mesh[1].publish();
        assert!(mesh[2].has_mail() && !mesh[1].has_mail() && !mesh[0].has_mail());
        let mut expected: Vec<_> = (0..5_u8).map(|n| (n.into(), vec![n; 3])).collect();
        expected.push((9, b"other".to_vec()));
        assert_eq!(read(&mut mesh[2]), expected);
        assert_eq!(read(&mut mesh[2]), []);
    }

    #[test]
    fn a_full_ring_refuses_and_takes_again_when_it_was_read() {
        let mut mesh = Mailbox::mesh(2).unwrap();
        let datagram = [7; 60_000];
        let mut posted = 0;
        while post(&mut mesh[0], ShardId(1), 0, &datagram) {
            posted += 1;
            assert!(posted < 1000);
        }
        assert!(posted >= 2);
        mesh[0].publish();
        assert_eq!(read(&mut mesh[1]).len(), posted);
        assert!(post(&mut mesh[0], ShardId(1), 0, &datagram));
    }

    #[test]
    fn one_shard_has_no_rings() {
        let mesh = Mailbox::mesh(1).unwrap();
        assert!(!mesh[0].has_peers());
    }
}
