//! Whom to ask for a sync.

use std::collections::BTreeMap;

use super::super::notice::View;
use super::MS;
use crate::clock::Timestamp;

/// What we know of nodes as donors of one capability: no more of them than there are nodes.
#[derive(Debug, Default)]
pub(super) struct Donors {
    /// Syncs that they failed to give us since one was completed.
    failed: BTreeMap<i32, u32>,
    /// Requests in a row that they answered with nothing at all.
    mute: BTreeMap<i32, u32>,
    /// Whose answers may still be on their way.
    owing: BTreeMap<i32, Owing>,
    /// Those that were asked in vain since a sync was completed: how often, and until when they are left alone.
    resting: BTreeMap<i32, (u32, Timestamp)>,
}

/// SYNC packets do not say which request they answer. The rest of an old answer in front of a new one would make the count
/// wrong, and records of the past would be taken for new; so a donor is asked again when its answers have ended, or it has
/// sent nothing for so long that none is to be expected.
#[derive(Debug, Clone, Copy, Default)]
struct Owing {
    answers: u32,
    until: Timestamp,
    /// An end was taken for that of an earlier answer. Either the later one is on its way, or the earlier one never was.
    is_doubtful: bool,
    /// The connection that this end came by, if that is known: what was on its way behind it is lost with it.
    connection: Option<u64>,
}

impl Donors {
    /// The best of those that can be asked at `now`: that failed us the fewest times, sees all nodes that we see, says so, has
    /// the lowest priority, and the lowest id.
    ///
    /// Genuine nodes list their links and ones such as ours do not, so a genuine one goes first: it knows from the calls
    /// themselves what is gone, and a standby from others.
    pub(super) fn choose(&self, now: Timestamp, capability: &str, view: &dyn View) -> Option<i32> {
        let owes = |node: &i32| self.owing.get(node).is_some_and(|owing| now < owing.until);
        let rests = |node: &i32| {
            let resting = self.resting.get(node);
            resting.is_some_and(|(_, until)| now < *until)
        };
        let up = view.up_nodes();
        offering(&up, capability, view)
            .filter(|node| !owes(node) && !rests(node))
            .min_by_key(|&node| {
                let failed = self.failed.get(&node).copied().unwrap_or(0);
                (
                    failed,
                    !sees_all(node, &up, view),
                    !lists_links(node, &up, view),
                    view.priority(node),
                    node,
                )
            })
    }

    /// Forgets debts that cannot be paid any more: their connection is another one now.
    pub(super) fn look(&mut self, view: &dyn View) {
        self.owing.retain(|node, owing| {
            let (before, now) = (owing.connection, view.connection(*node));
            before.is_none() || now.is_none() || before == now
        });
    }

    /// Whether there is anybody to be asked, now or a little later.
    pub(super) fn is_any(capability: &str, view: &dyn View) -> bool {
        let up = view.up_nodes();
        offering(&up, capability, view).next().is_some()
    }

    /// Whether there are nodes that offer it, and each of them has answered nothing to several requests.
    pub(super) fn are_mute(&self, capability: &str, view: &dyn View) -> bool {
        let is_mute = |node| {
            self.mute
                .get(&node)
                .is_some_and(|&times| times >= MUTE_TIMES)
        };
        Self::is_any(capability, view) && offering(&view.up_nodes(), capability, view).all(is_mute)
    }

    /// A request was sent.
    pub(super) fn asked(&mut self, node: i32) {
        let owing = self.owing.entry(node).or_default();
        // It was waited for, and did not come: of two requests only one was ever answered. To go on counting on the other
        // would make each end to come that of an earlier answer.
        if std::mem::take(&mut owing.is_doubtful) {
            owing.answers = 0;
        }
        owing.answers = owing.answers.saturating_add(1);
    }

    /// One of its answers has ended; whether it was that of an earlier request, since another one is owed. That one is waited
    /// for before it is asked again.
    pub(super) fn answered(&mut self, now: Timestamp, node: i32, connection: u64) -> bool {
        self.mute.remove(&node);
        let Some(owing) = self.owing.get_mut(&node) else {
            return false;
        };
        owing.answers -= 1;
        if owing.answers == 0 {
            self.owing.remove(&node);
            return false;
        }
        owing.is_doubtful = true;
        owing.connection = Some(connection);
        owing.until = now.after(DOUBT_NS);
        true
    }

    /// A sync was given up, perhaps because nothing at all came. What it still sends is over at `until`, unless it says so
    /// before.
    pub(super) fn failed(&mut self, node: i32, until: Timestamp, was_mute: bool) {
        *self.failed.entry(node).or_default() += 1;
        if was_mute {
            *self.mute.entry(node).or_default() += 1;
        }
        if let Some(owing) = self.owing.get_mut(&node) {
            owing.until = match owing.is_doubtful {
                true => owing.until.max(until),
                false => until,
            };
        }
    }

    /// It was asked in vain. What it gave cost it, and would again: it is left alone for a while, the longer the more often
    /// that was. Others may do better, and are asked meanwhile.
    pub(super) fn rests(&mut self, now: Timestamp, node: i32, retry_min_ns: u64) {
        let (times, until) = self.resting.entry(node).or_default();
        *until = now.after(longer(retry_min_ns, *times));
        *times = times.saturating_add(1);
    }

    /// Nobody is left alone any more: an operator wants it so.
    pub(super) fn rested(&mut self) {
        self.resting.clear();
    }

    /// A sync was completed.
    pub(super) fn completed(&mut self) {
        self.failed.clear();
        self.mute.clear();
        self.resting.clear();
    }

    /// Its link is down, or it restarted: nothing more comes of what it was asked for.
    pub(super) fn forget(&mut self, node: i32) {
        self.owing.remove(&node);
        self.mute.remove(&node);
    }

    /// The next moment after `now` at which one may be asked that may not before.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let owing = self.owing.values().map(|owing| match owing.connection {
            // Nobody says when a connection has become another one.
            Some(_) => owing.until.min(now.after(CONNECTION_LOOK_NS)),
            None => owing.until,
        });
        let resting = self.resting.values().map(|(_, until)| *until);
        owing.chain(resting).filter(|&until| now < until).min()
    }
}

/// Those of `up` that say that they are synced.
fn offering(up: &[i32], capability: &str, view: &dyn View) -> impl Iterator<Item = i32> {
    let nodes = up.iter().copied();
    nodes.filter(move |&node| node != view.me() && view.synced_at(node, capability) == Some(true))
}

/// Whether `node` has links to all of `up`, so that it can know of all that they told the cluster.
///
/// One that lists no neighbour at all does not say: a node such as ours announces no links, so that nobody routes through it.
/// Genuine nodes that can give us anything have a link to us, and list at least that one.
pub(super) fn sees_all(node: i32, up: &[i32], view: &dyn View) -> bool {
    let mut others = up.iter();
    others.all(|&other| other == node || other == view.me() || view.sees(node, other))
        || !lists_links(node, up, view)
}

/// Whether `node` says that it has a link to us or to any of `up`.
pub(super) fn lists_links(node: i32, up: &[i32], view: &dyn View) -> bool {
    view.sees(node, view.me()) || up.iter().any(|&other| view.sees(node, other))
}

/// How long to wait after `times` waits that were of no use: twice as long each time, from `retry_min_ns` on.
pub(super) fn longer(retry_min_ns: u64, times: u32) -> u64 {
    let wait_ns = retry_min_ns.max(MS).saturating_mul(1 << times.min(20));
    wait_ns.min(WAIT_MAX_NS.max(retry_min_ns))
}

/// Requests without any answer, until a node that offers records counts as none that gives them.
const MUTE_TIMES: u32 = 3;

/// How long the answer to a second request is waited for, once the end of one came that may be either's. A dump by a slow
/// link takes minutes; with another donor nothing waits for it.
const DOUBT_NS: u64 = 120_000 * MS;

/// How often it is looked whether a donor that may owe us something sends by another connection.
const CONNECTION_LOOK_NS: u64 = 1000 * MS;

/// The longest of the waits that become longer each time.
const WAIT_MAX_NS: u64 = 300_000 * MS;
