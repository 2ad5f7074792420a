//! The end of a queue, of connections, and of a shard: what has come is received, and no more than that.

use std::io;
use std::time::Duration;

use binrush_net::{QUEUED_LEN_MIN, RxQueue, StreamQueue, Tx};

use super::desk::Order;
use super::streams::Connection;
use super::{Life, Shard};
use crate::clock::Clock;
use crate::stream::CloseReason;

impl<Q: RxQueue, T: Tx, C: Clock, S: StreamQueue> Shard<Q, T, C, S> {
    /// Receives what was queued when arrivals were shut off, and no more than that.
    pub(super) fn drain(&mut self, index: usize) -> io::Result<()> {
        let mut left = self.queues[index].queued_bytes()? / QUEUED_LEN_MIN;
        let mut waits = 0;
        loop {
            // Others drain too: their mail must not pile up meanwhile.
            self.read_mail();
            let came = match self.receive(index) {
                Ok(came) => came,
                Err(error) => {
                    let failures = self.sources[index].failures;
                    let pause = self.failed(failures, error)?;
                    self.clock.sleep(pause);
                    continue;
                }
            };
            if came {
                let came = self.batch.frames() as u64;
                self.settle(index);
                left = left
                    .checked_sub(came)
                    .ok_or_else(|| io::Error::other("datagrams keep arriving after the stop"))?;
            } else if self.queues[index].queued_bytes()? == 0 || waits == DRAIN_WAITS_MAX {
                // What is still held then is told by who closes the socket.
                return Ok(());
            } else {
                waits += 1;
                // It rang for the stop, and would end every wait at once.
                self.bell.disarm();
                let drained = &mut self.queues[index..=index];
                let waited = Q::wait(drained, None, &self.bell, DRAIN_WAIT);
                self.waited(waited)?;
            }
        }
    }

    /// Ends the connections that `reason_of` names, after what the kernel has of them now was read. Others have their
    /// turn meanwhile, and mail is read, because those who are to take ours may do the same.
    pub(super) fn end_connections(
        &mut self,
        reason_of: impl Fn(&Connection) -> Option<CloseReason>,
    ) -> io::Result<()> {
        if !self.streams.has_connections() && !self.streams.has_newcomers() {
            return Ok(());
        }
        let begun = self.clock.now();
        self.streams.dismiss(begun, &mut self.floor, reason_of);
        let (mut done, mut quiet) = (Ok(()), 0);
        while quiet < DISMISS_QUIET {
            match self.receive_streams() {
                Ok(came) => {
                    quiet = if self.streams.has_unread() {
                        0
                    } else {
                        quiet + 1
                    };
                    if !self.read_mail() && !came {
                        self.clock.sleep(LAST_MAIL_WAIT);
                    }
                }
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
            if self.clock.now().nanos_since(begun) >= DISMISS_MAX_NS {
                break;
            }
        }
        self.streams.close_dismissed();
        self.streams.tell_posted(&mut self.floor);
        done
    }

    /// Ends all connections, and hands over what waits, as long as its owners take it.
    pub(super) fn drain_streams(&mut self) -> io::Result<()> {
        let ended = self.end_connections(|_| Some(CloseReason::Stopping));
        self.streams.disarm(&mut self.slab);
        let mut moved = self.clock.now();
        while self.streams.is_spilling() {
            let now = self.clock.now();
            // The others do the same, and wait for us.
            if self.streams.drain_last(now, &mut self.floor) {
                moved = now;
            } else if now.nanos_since(moved) >= SPILL_LAST_MAX_NS {
                self.streams.give_up_spills(&mut self.floor);
            } else if !self.read_mail() {
                self.clock.sleep(LAST_MAIL_WAIT);
            }
        }
        ended
    }

    /// Reads mail until all shards have drained their queues and nothing is left.
    pub(super) fn read_last_mail(&mut self, life: &Life) -> io::Result<()> {
        let mut waits = 0;
        loop {
            // In this order: what is published before the last shard leaves is found after that was seen.
            let over = life.is_mail_over();
            if self.read_mail() {
                continue;
            }
            if over {
                return Ok(());
            }
            if waits == LAST_MAIL_WAITS_MAX {
                return Err(io::Error::other("another shard does not end"));
            }
            waits += 1;
            self.clock.sleep(LAST_MAIL_WAIT);
        }
    }

    /// Tells the handlers what they were promised to be told, after their last packet. Other orders have nobody left who
    /// waits for them.
    pub(super) fn hear_last(&mut self) {
        self.desk.close();
        while let Some(order) = self.desk.take() {
            if let Order::Tell(name, message) = order {
                self.tell(name, message);
            }
        }
    }
}

/// How long connections that are to go may be read.
const DISMISS_MAX_NS: u64 = 2_000_000_000;

/// How long packets that wait may find no room at the end: longer than a callback that takes its time, and well below
/// what a stop may take.
const SPILL_LAST_MAX_NS: u64 = 5_000_000_000;

/// Rounds in a row in which nothing is left to read of them, for what a backend has taken and not brought.
const DISMISS_QUIET: u32 = 3;

/// How long, and how often, a drain waits for memory that the kernel holds although nothing can be received.
const DRAIN_WAIT: Duration = Duration::from_millis(1);
const DRAIN_WAITS_MAX: u32 = 50;

/// How long, and how often, a shard that is done waits for the others' mail.
const LAST_MAIL_WAIT: Duration = Duration::from_micros(100);
const LAST_MAIL_WAITS_MAX: u32 = 100_000;
