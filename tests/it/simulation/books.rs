//! What was seen at both ends of the engine, and what it must have counted then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use binrush_engine::{Counts, Outcome, ShardId, Snapshot};
use binrush_net::Datagram;
use binrush_net::sim::Account;
use binrush_wire::crc32;

use super::plan::Plan;
use super::traffic::{Made, Mark, OWN, Record};

/// One socket: that of a shard at a listener. Within one the order of arrival is known to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) shard: usize,
    pub(super) listener: usize,
}

/// An event of a record, and when it came out of a socket: as long as it is under way in the engine, it carries both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    mark: Mark,
    arrived_ns: u64,
}

/// Kept by those who watch, never by those who are watched.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Everything that happened, a line each: what two runs are compared by.
    log: String,
    /// What was sent, by its bytes.
    made: BTreeMap<Vec<u8>, Made>,
    /// How many times something was.
    spoken: u64,
    taps: Vec<Tapped>,
    arrived: BTreeMap<Record, BTreeMap<Lane, Vec<Seen>>>,
    handled: BTreeMap<Record, Vec<(ShardId, Seen)>>,
    /// Time that handlers took.
    worked_ns: u64,
    posted: Posted,
    /// What handlers sent to each address, and what came there.
    answers: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    replies: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
}

/// Handlers have to be able to go to another thread, so it is shared as if they did.
pub(super) type SharedBook = Arc<Mutex<Book>>;

/// What the queues of one shard gave it.
#[derive(Debug, Clone, Default)]
struct Tapped {
    received: u64,
    bytes: u64,
    batches: u64,
    failures: u64,
    outcomes: [u64; Outcome::COUNT],
}

/// What became of what handlers sent, as far as it is certain when they send it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Posted {
    sent: u64,
    failed: u64,
    refused: u64,
}

impl Book {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            taps: vec![Tapped::default(); shards.into()],
            ..Self::default()
        }
    }

    /// One more line.
    fn note(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.log, "{line}").expect("memory takes it");
    }

    /// The last lines: what was counted. Of latencies only the sum, or they would be most of the log.
    pub(super) fn ended(&mut self, snapshot: &Snapshot, account: &Account) {
        for shard in &snapshot.shards {
            let busy_ns = (shard.busy_ns, shard.latency.nanos());
            let received = (shard.received, shard.bytes, shard.batches);
            let mailed = (shard.mailed_out, shard.mailed_in);
            let sent = (shard.sent, shard.send_failures, shard.send_refused);
            self.note(format_args!("{received:?} {mailed:?} {sent:?} {busy_ns:?}"));
            let (names, unknown) = (&shard.names, &shard.unknown_names);
            self.note(format_args!("{:?} {names:?} {unknown:?}", shard.outcomes));
        }
        self.note(format_args!("{account:?}"));
    }

    /// A peer is about to send it.
    pub(super) fn made(&mut self, made: &Made) {
        self.spoken += 1;
        self.made.insert(made.bytes.clone(), made.clone());
    }

    /// A queue gave a batch to its shard.
    pub(super) fn arrived<'a>(
        &mut self,
        now_ns: u64,
        lane: Lane,
        batch: impl Iterator<Item = Datagram<'a>>,
    ) {
        let before = self.taps[lane.shard].received;
        for Datagram {
            bytes, truncated, ..
        } in batch
        {
            let tap = &mut self.taps[lane.shard];
            tap.received += 1;
            tap.bytes += bytes.len() as u64;
            let made = self.made.get(bytes).filter(|_| !truncated);
            let outcome = made.map_or(Outcome::Truncated, |made| made.outcome);
            assert!(truncated || made.is_some(), "nobody sent {}", hex(bytes));
            tap.outcomes[outcome as usize] += 1;
            if let Some((record, mark)) = made.and_then(|made| made.event.clone()) {
                let lanes = self.arrived.entry(record).or_default();
                let arrived_ns = now_ns;
                lanes
                    .entry(lane)
                    .or_default()
                    .push(Seen { mark, arrived_ns });
            }
            let crc = crc32::checksum(bytes);
            let Lane { shard, listener } = lane;
            self.note(format_args!(
                "{now_ns} shard{shard} gets {crc:08x} by {listener}: {outcome}"
            ));
        }
        let came = self.taps[lane.shard].received > before;
        self.taps[lane.shard].batches += u64::from(came);
    }

    /// A receive failed, because the plan wanted it.
    pub(super) fn failed(&mut self, now_ns: u64, lane: Lane) {
        self.taps[lane.shard].failures += 1;
        let Lane { shard, listener } = lane;
        self.note(format_args!("{now_ns} shard{shard} fails at {listener}"));
    }

    /// A handler took a packet that arrived at `arrived_ns`, and will work on it for so long.
    pub(super) fn handled(
        &mut self,
        now_ns: u64,
        arrived_ns: u64,
        shard: ShardId,
        (record, mark): (Record, Mark),
        work_ns: u64,
    ) {
        self.worked_ns += work_ns;
        self.note(format_args!(
            "{now_ns} {shard} handles {record} {mark} of {arrived_ns}"
        ));
        let seen = Seen { mark, arrived_ns };
        self.handled.entry(record).or_default().push((shard, seen));
    }

    /// A handler sent something, and was told that it is `taken` or that there is no room.
    pub(super) fn posted(&mut self, to: SocketAddr, bytes: Vec<u8>, taken: bool) {
        self.note(format_args!("{} bytes to {to}: {taken}", bytes.len()));
        if !taken {
            self.posted.refused += 1;
        } else if to.port() == 0 {
            self.posted.failed += 1;
        } else {
            self.posted.sent += 1;
            self.answers.entry(to).or_default().push(bytes);
        }
    }

    /// A peer received it.
    pub(super) fn replied(&mut self, now_ns: u64, peer: SocketAddr, reply: Datagram<'_>) {
        let Datagram {
            bytes, truncated, ..
        } = reply;
        let crc = crc32::checksum(bytes);
        self.note(format_args!("{now_ns} {peer} gets {crc:08x}"));
        let sent = self.answers.get(&peer);
        let is_sent = sent.is_some_and(|sent| sent.iter().any(|answer| answer == bytes));
        assert!(truncated || is_sent, "no handler sent {}", hex(bytes));
        self.replies.entry(peer).or_default().push(bytes.to_vec());
    }

    /// How often handlers sent to others than `peers`.
    pub(super) fn sent_elsewhere(&self, peers: &[SocketAddr]) -> u64 {
        let elsewhere = self.answers.iter().filter(|(to, _)| !peers.contains(to));
        elsewhere.map(|(_, sent)| sent.len() as u64).sum()
    }

    pub(super) fn log(&self) -> &str {
        &self.log
    }

    pub(super) fn spoken(&self) -> u64 {
        self.spoken
    }

    pub(super) fn replies(&self) -> u64 {
        self.replies.values().map(|seen| seen.len() as u64).sum()
    }

    /// Whether every answer came to those of `peers` that it was for, in the order in which it was given.
    pub(super) fn all_answers_came(&self, peers: &[SocketAddr]) -> bool {
        let came = |peer| self.answers.get(peer) == self.replies.get(peer);
        peers.iter().all(came)
    }

    /// The ledgers against what was seen, after the shards have ended.
    pub(super) fn check_ledgers(&self, snapshot: &Snapshot) {
        for (counts, tap) in snapshot.shards.iter().zip(&self.taps) {
            assert_eq!(counts.received, tap.received);
            assert_eq!(counts.bytes, tap.bytes);
            assert_eq!(counts.batches, tap.batches);
            // Only those that were planned.
            assert_eq!(counts.receive_failures, tap.failures);
            let [cut, full] = [Outcome::Truncated, Outcome::MailboxFull];
            // Whoever gets a cut one counts it: no key could be trusted, so it is nobody's.
            assert_eq!(counts.outcome(cut), tap.outcomes[cut as usize]);
            let settled_here = counts.settled() - counts.outcome(cut) - counts.outcome(full);
            assert_eq!(counts.latency.count(), settled_here);
        }
        assert!(snapshot.is_balanced(), "{snapshot:?}");
        let total = &snapshot.total;
        assert_eq!(total.busy_ns, self.worked_ns, "nothing else takes time");
        let posted = Posted {
            sent: total.sent,
            failed: total.send_failures,
            refused: total.send_refused,
        };
        assert_eq!(posted, self.posted);
        self.check_outcomes(total);
    }

    /// Each outcome as it was meant by who made the datagram; a full mailbox takes from them, and is counted.
    fn check_outcomes(&self, total: &Counts) {
        let mut missing = 0;
        for outcome in Outcome::ALL {
            if outcome == Outcome::MailboxFull {
                continue;
            }
            let meant = self.taps.iter().map(|tap| tap.outcomes[outcome as usize]);
            let (meant, counted) = (meant.sum::<u64>(), total.outcome(outcome));
            let short = meant.checked_sub(counted);
            missing += short.unwrap_or_else(|| panic!("{outcome}: {counted} of {meant}"));
        }
        assert_eq!(missing, total.outcome(Outcome::MailboxFull));
        let handled: usize = self.handled.values().map(Vec::len).sum();
        assert_eq!(handled as u64, total.outcome(Outcome::Handled));
    }

    /// Each record at one shard, its owner, and in the promised order.
    pub(super) fn check_order(&self, plan: &Plan, total: &Counts) {
        let steering = plan.steering();
        let mut missing = 0;
        for (record, lanes) in &self.arrived {
            let key = match &record.name[..] {
                OWN => &record.name,
                _ => &record.key,
            };
            let owner = ShardId(steering.owner_of_key(key));
            let handled = self.handled.get(record).map_or(&[][..], Vec::as_slice);
            let strayed = handled.iter().find(|(shard, _)| *shard != owner);
            assert_eq!(strayed, None, "{record} is {owner}'s");

            let seen: Vec<Seen> = handled.iter().map(|(_, seen)| *seen).collect();
            let arrived: Vec<&[Seen]> = lanes.values().map(Vec::as_slice).collect();
            assert!(
                is_merge(&seen, &arrived),
                "{record}: {seen:?} of {arrived:?}"
            );
            missing += arrived.iter().map(|lane| lane.len()).sum::<usize>() - seen.len();
            if plan.kernel.knows_records() && plan.faults.reorder == 0.0 {
                assert_eq!(steps_back(&seen), 0, "{record}: {seen:?}");
            }
        }
        // What is missing found a mailbox full; other datagrams may have, too.
        assert!(missing as u64 <= total.outcome(Outcome::MailboxFull));
        assert!(
            self.handled
                .keys()
                .all(|record| self.arrived.contains_key(record)),
            "what did not arrive is not handled"
        );
    }

    /// How often a record went back in time, as its handler saw it.
    pub(super) fn steps_back(&self) -> usize {
        let steps = self.handled.values().map(|handled| {
            let seen: Vec<Seen> = handled.iter().map(|(_, seen)| *seen).collect();
            steps_back(&seen)
        });
        steps.sum()
    }
}

/// The beginning of a datagram, for people.
fn hex(bytes: &[u8]) -> String {
    format!(
        "{:02x?}, {} bytes",
        &bytes[..bytes.len().min(32)],
        bytes.len()
    )
}

/// How often a peer's number is below its last one.
fn steps_back(handled: &[Seen]) -> usize {
    let mut last = BTreeMap::new();
    let mut steps = 0;
    for Seen { mark, .. } in handled {
        let before = last.insert(mark.peer, mark.number);
        steps += usize::from(before > Some(mark.number));
    }
    steps
}

/// Whether `handled` can be what `lanes` brought, each in its order, with some perhaps left out.
///
/// Follows all ways at once: where the same comes next in two lanes, either may be the one. Within a lane the
/// next one is always right: who skips more has less left.
fn is_merge(handled: &[Seen], lanes: &[&[Seen]]) -> bool {
    let mut ways = BTreeSet::from([vec![0; lanes.len()]]);
    for seen in handled {
        let mut longer = BTreeSet::new();
        for way in &ways {
            for (index, lane) in lanes.iter().enumerate() {
                let rest = &lane[way[index]..];
                if let Some(skipped) = rest.iter().position(|next| next == seen) {
                    let mut way = way.clone();
                    way[index] += skipped + 1;
                    longer.insert(way);
                }
            }
        }
        ways = longer;
    }
    !ways.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one peer said, all of it at the same time.
    fn said(numbers: &[u32]) -> Vec<Seen> {
        let seen = |number: &u32| Seen {
            mark: Mark {
                peer: 0,
                number: *number,
            },
            arrived_ns: 0,
        };
        numbers.iter().map(seen).collect()
    }

    #[test]
    fn a_merge_keeps_the_order_of_each_lane() {
        let (odd, even) = (said(&[1, 3, 5]), said(&[2, 4, 4]));
        let both = [&odd[..], &even[..]];
        let one = &both[..1];
        assert!(is_merge(&said(&[2, 1, 4, 3, 5, 4]), &both));
        assert!(is_merge(&said(&[]), &both));
        assert!(is_merge(&said(&[1, 5]), one));
        assert!(!is_merge(&said(&[3, 1]), one));
        assert!(!is_merge(&said(&[2, 4, 4, 4]), &both));
        assert!(!is_merge(&said(&[1, 1]), one));
        // The first 1 can only be that of the second lane.
        let (down, up) = (said(&[2, 1]), said(&[1, 2]));
        assert!(is_merge(&said(&[1, 2, 1, 2]), &[&down, &up]));
        assert!(!is_merge(&said(&[1, 1, 2, 2]), &[&down, &up]));
        let mut later = said(&[1]);
        later[0].arrived_ns = 1;
        assert!(!is_merge(&later, one));
    }

    #[test]
    fn a_step_back_is_one_of_the_same_peer() {
        assert_eq!(steps_back(&said(&[1, 2, 2, 5])), 0);
        assert_eq!(steps_back(&said(&[2, 1, 3, 1])), 2);
        let mut two = said(&[7, 1]);
        two[1].mark.peer = 1;
        assert_eq!(steps_back(&two), 0);
    }
}
