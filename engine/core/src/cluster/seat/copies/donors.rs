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
}

impl Donors {
    /// The best of those that can be asked at `now`: that failed us the fewest times, sees all nodes that we see, has the
    /// lowest priority, and the lowest id.
    pub(super) fn choose(&self, now: Timestamp, capability: &str, view: &dyn View) -> Option<i32> {
        let owes = |node: &i32| self.owing.get(node).is_some_and(|owing| now < owing.until);
        let up = view.up_nodes();
        offering(&up, capability, view)
            .filter(|node| !owes(node))
            .min_by_key(|&node| {
                let failed = self.failed.get(&node).copied().unwrap_or(0);
                (
                    failed,
                    !sees_all(node, &up, view),
                    view.priority(node),
                    node,
                )
            })
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
    pub(super) fn answered(&mut self, now: Timestamp, node: i32) -> bool {
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

    /// A sync was completed.
    pub(super) fn completed(&mut self) {
        self.failed.clear();
        self.mute.clear();
    }

    /// Its link is down, or it restarted: nothing more comes of what it was asked for.
    pub(super) fn forget(&mut self, node: i32) {
        self.owing.remove(&node);
        self.mute.remove(&node);
    }

    /// The next moment after `now` at which one may be asked that may not before.
    pub(super) fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let owing = self.owing.values().map(|owing| owing.until);
        owing.filter(|&until| now < until).min()
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
    let announces = || view.sees(node, view.me()) || up.iter().any(|&other| view.sees(node, other));
    let mut others = up.iter();
    others.all(|&other| other == node || other == view.me() || view.sees(node, other))
        || !announces()
}

/// Requests without any answer, until a node that offers records counts as none that gives them.
const MUTE_TIMES: u32 = 3;

/// How long the answer to a second request is waited for, once the end of one came that may be either's. A dump by a slow
/// link takes minutes; with another donor nothing waits for it.
const DOUBT_NS: u64 = 120_000 * MS;
