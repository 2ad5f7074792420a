//! The syncs that we give to others, as fast as each takes them.
//!
//! ```text
//!   SYNC_REQ ─▶ waiting ── offered, link up ──▶ Donation ── slice, please ──▶ gates, at most 2 slices of each shard
//!                                                  ▲    ◀───── slice ─────────┘
//!                                                  └── SYNC ... SYNC_END ──▶ link, while little waits there
//! ```
//!
//! A gate is asked for the next slice only when the link has sent most of what was made of those before, so a receiver sets
//! the pace, and a donation holds a slice of each shard and a packet, whatever there is to be given.

use std::collections::{BTreeMap, VecDeque};

use binrush_wire::Release;

use super::ours::Ours;
use super::{MS, NEVER, Rules, Turn};
use crate::clock::Timestamp;
use crate::cluster::outbox::{Event, Slice};
use crate::cluster::replica::Withheld;
use donation::{Donation, Outcome};

/// One of them.
mod donation;

/// All donations, and who waits for one. Places are those of the capabilities.
#[derive(Debug)]
pub(super) struct Donations {
    /// In turn: who was first goes behind the others.
    under_way: VecDeque<Donation>,
    /// By node and place, and since when. No more than there are nodes and capabilities.
    waiting: BTreeMap<(i32, usize), Timestamp>,
    /// Capabilities that cannot be told in full to nodes of a release, and until when that is believed.
    untold: BTreeMap<(Release, usize), Timestamp>,
    /// When the last donation began, for those where it is not too long ago for another.
    recent: BTreeMap<(i32, usize), Timestamp>,
    given: Vec<Given>,
    /// Slices of each shard that were asked for and did not come.
    outstanding: Vec<u8>,
}

/// What was given of one capability.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// Syncs, to their end.
    pub(super) complete: u64,
    /// Chunks, in all of them.
    pub(super) chunks: u64,
    /// What was kept back, in all of them; the last one that kept any back is where the sockets are from.
    pub(super) withheld: Withheld,
}

impl Donations {
    pub(super) fn new(capabilities: usize, owners: u16) -> Self {
        Self {
            under_way: VecDeque::new(),
            waiting: BTreeMap::new(),
            untold: BTreeMap::new(),
            recent: BTreeMap::new(),
            given: vec![Given::default(); capabilities],
            outstanding: vec![0; usize::from(owners)],
        }
    }

    /// `node` wants all records. One who asks twice gets them twice, one sync after the other: the first is what an earlier
    /// request of his is owed.
    ///
    /// One whose release is not told all of it is not answered: whoever counts asks another one after a while, and up to 3.2
    /// nothing is held back before the first record comes. That was said when it was found out.
    pub(super) fn requested(&mut self, now: Timestamp, node: i32, place: usize, release: Release) {
        self.untold.retain(|_, until| now < *until);
        if !self.untold.contains_key(&(release, place)) {
            self.waiting.insert((node, place), now);
        }
    }

    /// `node` waited for us and has its records from another node by now. It would not expect them: up to 3.2 it would begin
    /// to hold back live packets, and later ones count nothing that they did not ask for.
    pub(super) fn synced_elsewhere(&mut self, node: i32, place: usize) {
        self.waiting.remove(&(node, place));
    }

    /// `node` takes nothing more, and wants nothing any more.
    pub(super) fn node_down(&mut self, turn: &mut Turn<'_>, node: i32) {
        self.waiting.retain(|(waiting, _), _| *waiting != node);
        self.end(turn, |donation| donation.node() == node, Again::No);
    }

    /// `node` is another process now. It may have asked before it became clear that it is: a genuine node asks once, so a
    /// request that is young counts as its own. It shows when its link to us comes up, and until then others may have passed
    /// its request on.
    pub(super) fn node_restarted(&mut self, turn: &mut Turn<'_>, node: i32) {
        let now = turn.now;
        let young_ns = turn.rules.link_ns.max(RESTART_NS);
        let is_old = |asked: Timestamp| now.nanos_since(asked) >= young_ns;
        self.waiting
            .retain(|(waiting, _), asked| *waiting != node || !is_old(*asked));
        let is_of_old =
            |donation: &Donation| donation.node() == node && is_old(donation.requested());
        self.end(turn, is_of_old, Again::No);
        let is_begun = |donation: &Donation| donation.node() == node && donation.has_sent();
        self.end(turn, is_begun, Again::All);
    }

    /// Records that were asked for.
    pub(super) fn slice(&mut self, turn: &mut Turn<'_>, slice: Slice) {
        let mut donations = self.under_way.iter_mut();
        // Of a donation that ended meanwhile: its slices do not count any more.
        let donation = donations.find(|donation| donation.id() == slice.donation);
        if let Some(donation) = donation {
            donation.take(turn.now, slice, &mut self.outstanding);
        }
    }

    /// Ends donations of what is not offered any more. We may lack something now, and who has a part of our records must not
    /// take it for all of them.
    pub(super) fn withdraw(&mut self, turn: &mut Turn<'_>, ours: &[Ours]) {
        let withdrawn = |donation: &Donation| !ours[donation.place()].may_be_given_on();
        self.end(turn, withdrawn, Again::UpTo3_2);
    }

    /// Begins what can begin, and goes on with what is under way.
    pub(super) fn turn(&mut self, turn: &mut Turn<'_>, ours: &[Ours]) {
        self.withdraw(turn, ours);
        self.begin(turn, ours);
        // Where one has ended, another one may have waited for that.
        while self.go_on(turn, ours) {
            self.begin(turn, ours);
        }
        // Whoever is first takes the slices that may be asked for: another one the next time.
        self.under_way
            .rotate_left(usize::from(self.under_way.len() > 1));
    }

    /// When something is to be done without a notice or a slice, at the latest.
    pub(super) fn due(&self, now: Timestamp, rules: &Rules) -> Timestamp {
        let donations = self.under_way.iter().map(|donation| donation.due(now));
        let recent = self.waiting.keys().filter_map(|who| self.recent.get(who));
        let again = recent.map(|began| began.after(rules.donate_min_ns));
        // What waits for a copy to be offered, or for a donation to end, is looked at when that happens.
        let again = again.filter(|&again| now < again);
        donations.chain(again).min().unwrap_or(NEVER)
    }

    /// What was given of a capability.
    pub(super) fn given(&self, place: usize) -> &Given {
        &self.given[place]
    }

    /// To whom a capability is given, and chunks sent.
    pub(super) fn under_way(&self, place: usize) -> Vec<(i32, u64)> {
        let donations = self.under_way.iter();
        let donations = donations.filter(|donation| donation.place() == place);
        donations
            .map(|donation| (donation.node(), donation.chunks()))
            .collect()
    }

    /// Who waits for a capability.
    pub(super) fn waiting(&self, place: usize) -> Vec<i32> {
        let waiting = self.waiting.keys();
        waiting
            .filter(|(_, of)| *of == place)
            .map(|(node, _)| *node)
            .collect()
    }

    fn begin(&mut self, turn: &mut Turn<'_>, ours: &[Ours]) {
        let (now, min_ns) = (turn.now, turn.rules.donate_min_ns);
        self.recent.retain(|_, began| now < began.after(min_ns));
        let can_begin = |&&(node, place): &&(i32, usize)| {
            let is_free =
                |donation: &Donation| (donation.node(), donation.place()) != (node, place);
            ours[place].is_offered()
                && turn.view.is_up(node)
                && !self.recent.contains_key(&(node, place))
                && self.under_way.iter().all(is_free)
        };
        let begin: Vec<_> = self.waiting.keys().filter(can_begin).copied().collect();
        for (node, place) in begin {
            let requested = self.waiting.remove(&(node, place)).unwrap_or(now);
            self.recent.insert((node, place), now);
            let donation = Donation::begin(turn, node, place, ours[place].name(), requested);
            self.under_way.push_back(donation);
        }
    }

    /// Goes on with all; whether one has ended.
    fn go_on(&mut self, turn: &mut Turn<'_>, ours: &[Ours]) -> bool {
        let before = self.under_way.len();
        for _ in 0..before {
            let Some(mut donation) = self.under_way.pop_front() else {
                break;
            };
            match donation.turn(turn, &mut self.outstanding) {
                Outcome::GoesOn => self.under_way.push_back(donation),
                Outcome::Complete => self.over(turn, &donation, true),
                Outcome::Untold(why) => {
                    let (capability, place) = (ours[donation.place()].name(), donation.place());
                    let (node, minutes) = (donation.node(), UNTOLD_NS / (60_000 * MS));
                    turn.warn(format!(
                        "{capability}: node {node} was not given a sync: {why}. Nodes of this release are not answered for \
                         {minutes} min, and have to ask another one"
                    ));
                    let until = turn.now.after(UNTOLD_NS);
                    self.untold.insert((donation.release(), place), until);
                    self.over(turn, &donation, false);
                }
                Outcome::Failed(why) => {
                    let (capability, node) = (ours[donation.place()].name(), donation.node());
                    turn.warn(format!(
                        "{capability}: the sync of node {node} ended: {why}"
                    ));
                    self.over(turn, &donation, false);
                }
            }
        }
        self.under_way.len() < before
    }

    /// Ends all of which `of` is true, in the middle.
    fn end(&mut self, turn: &mut Turn<'_>, of: impl Fn(&Donation) -> bool, again: Again) {
        for _ in 0..self.under_way.len() {
            let Some(donation) = self.under_way.pop_front() else {
                break;
            };
            if !of(&donation) {
                self.under_way.push_back(donation);
                continue;
            }
            // Up to 3.2 a receiver holds back all live packets until there is an end, and does not count what came: one that
            // comes later sets it free. Later ones count, and would not get over a second beginning.
            let (node, capability) = (donation.node(), donation.capability());
            if again == Again::All || again == Again::UpTo3_2 && !donation.is_counted() {
                self.waiting.insert((node, donation.place()), turn.now);
            } else if again == Again::UpTo3_2 {
                turn.warn(format!(
                    "{capability}: the sync of node {node} ended half-way, since our copy may lack something: ask for another \
                     one on that node"
                ));
            }
            self.over(turn, &donation, false);
        }
    }

    fn over(&mut self, turn: &mut Turn<'_>, donation: &Donation, complete: bool) {
        donation.forget_asked(&mut self.outstanding);
        let given = &mut self.given[donation.place()];
        given.complete += u64::from(complete);
        given.chunks += donation.chunks();
        let withheld = donation.withheld();
        if !withheld.sockets.is_empty() {
            given.withheld.sockets.clear();
        }
        given.withheld.add(withheld);
        turn.event(Event::Donated {
            cluster: turn.rules.cluster,
            capability: donation.capability().to_owned(),
            node: donation.node(),
            chunks: donation.chunks(),
            complete,
            withheld: withheld.clone(),
        });
    }
}

/// Whether a donation that was ended counts as not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    /// Whoever it was for.
    All,
    /// If the node speaks 3.2 or earlier.
    UpTo3_2,
}

/// How long after a request a restart of the node may still become clear by it, however soon links come up: what shows it
/// comes within a few heartbeats.
const RESTART_NS: u64 = 10_000 * MS;

/// How long a release that was not told all is believed not to be: records come and go.
const UNTOLD_NS: u64 = 600_000 * MS;
