//! What our copies of the cluster's records are worth: the syncs that we get, and those that we give.
//!
//! ```text
//!                 donor to be had                  all came, all applied
//!   Unverified ───────────────────▶ Syncing ────────────────────────────▶ Verified ── has records ──▶ offered
//!       ▲ ▲                          │   ▲                                   │ ▲
//!       │ └──── given up ────────────┤   │ donor to be had                   │ │ seed, and no donor to be had
//!     start                          └──▶└───────────── Suspect ◀────────────┘ └── (Unverified, Suspect)
//!                                                          something was missed
//! ```
//!
//! Without a seed, copies that are suspect only because nodes came back to each other are trusted again when none of these
//! nodes offers anything: the lowest id first, and the others sync from it.
//!
//! A node that comes back and never says whether it is synced makes no copy suspect: a node that does not take part in syncs
//! looks the same, and to withdraw what we offer because of it could leave the cluster without any donor. What it told others
//! while its link to us was down we may lack, and others may sync from us all the same. Of that node the facts say so
//! (`suspect`), until it goes or tells; a sync that an operator asks for brings what a donor has heard of it. OpenSIPS 3.6 is
//! no stricter: no link that comes back changes whether a capability of its own is synced (`sync.c`).
//!
//! A genuine node that syncs from us deletes what we do not confirm (OpenSIPS 3.6 `dlg_replication.c` and `ureplication.c` on
//! `SYNC_DONE`), and asks whoever says that he is synced. So we say it only of a copy that is verified and had a record since:
//! one that is empty, or may lack something, is never offered, and nobody who asks for it is answered.
//!
//! Pure: time, the cluster ([`View`]) and the world ([`Outbox`]) are parameters. A notice is noted and what follows from it is
//! done in the next [`tick`](Copies::tick), which [`deadline`](Copies::deadline) asks for at once; so a burst of notices costs
//! one look at the cluster, not one for each.

use std::sync::Arc;
use std::time::Duration;

use binrush_wire::Release;

use super::notice::{Notice, View};
use crate::clock::Timestamp;
use crate::cluster::config::ClusterConfig;
use crate::cluster::facts::{CapabilityFacts, NodeFacts};
use crate::cluster::message::Writer;
use crate::cluster::outbox::{Event, Now, Outbox, Slice};
use crate::cluster::session::Session;
use dice::Dice;
use donations::Donations;
use ours::Ours;

/// One try to get all records from one donor.
mod attempt;
/// Numbers that nobody can guess.
mod dice;
/// The syncs that we give.
mod donations;
/// Whom to ask.
mod donors;
/// One of our capabilities.
mod ours;
/// Records, packed into SYNC packets.
mod packer;
/// Of whom something was missed.
mod peers;
/// Whether there is a record to give.
mod probe;
#[cfg(test)]
mod tests;

/// Our copies of one cluster's records.
pub(super) struct Copies {
    rules: Rules,
    /// In the order of the configuration.
    ours: Vec<Ours>,
    donations: Donations,
    writer: Writer,
    dice: Dice,
    news: News,
    due: Timestamp,
}

/// What changed since it was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct News {
    /// [`Copies::own`]: the others are to be told.
    pub(super) capabilities_changed: bool,
    /// [`Copies::sessions`]: the shards are to be shown them.
    pub(super) sessions_changed: bool,
    /// All copies come of syncs that were asked for at that moment or later.
    pub(super) made_whole: Option<Timestamp>,
}

/// What the configuration says of syncs, in nanoseconds and bytes.
#[derive(Debug)]
struct Rules {
    cluster: i32,
    owners: u16,
    /// What a node speaks of whom nothing is known.
    release: Release,
    seed_fallback_ns: u64,
    sync_timeout_ns: u64,
    retry_min_ns: u64,
    donate_min_ns: u64,
    /// How long it takes until links are up between nodes that can reach each other. So long after our request a donor may
    /// find out that it lacked something then, and after a request of its own it may become clear that a node restarted.
    link_ns: u64,
    packet_len: usize,
}

/// What one step may look at, and what it acts through.
struct Turn<'a> {
    now: Timestamp,
    rules: &'a Rules,
    view: &'a dyn View,
    out: &'a mut dyn Outbox,
    writer: &'a mut Writer,
    dice: &'a mut Dice,
}

impl Copies {
    /// Nothing is verified yet, but what needs no sync. `owners` shards keep the records.
    pub(super) fn new(config: &ClusterConfig, owners: u16, seed: u64, now: Now) -> Self {
        let pings = u64::try_from(config.me.retries).unwrap_or(0) + 2;
        let found_out_ns = nanos(config.timers.ping_timeout).saturating_mul(pings);
        let rules = Rules {
            cluster: config.id,
            owners,
            release: config.release,
            seed_fallback_ns: nanos(config.timers.seed_fallback),
            sync_timeout_ns: nanos(config.timers.sync_timeout),
            retry_min_ns: nanos(config.sync.retry_min),
            donate_min_ns: nanos(config.sync.donate_min),
            link_ns: nanos(config.timers.node_timeout).saturating_add(found_out_ns),
            packet_len: config.sync.packet_len,
        };
        let capabilities = config.capabilities.iter();
        let ours: Vec<_> = capabilities
            .map(|capability| Ours::new(capability, now.at))
            .collect();
        Self {
            donations: Donations::new(ours.len(), owners),
            rules,
            ours,
            writer: Writer::default(),
            dice: Dice::new(seed),
            news: News::default(),
            due: now.at,
        }
    }

    /// Something happened in the cluster.
    pub(super) fn notice(
        &mut self,
        now: Now,
        notice: &Notice,
        view: &dyn View,
        out: &mut dyn Outbox,
    ) {
        self.due = now.at;
        match notice {
            Notice::NodeUp(node) => {
                self.each(now, None, view, out, |ours, turn| ours.node_up(turn, *node));
            }
            Notice::NodeDown(node) => {
                self.gone(now, *node, "went down", view, out, Donations::node_down);
            }
            Notice::Restarted(node) => {
                let end = Donations::node_restarted;
                self.gone(now, *node, "restarted", view, out, end);
            }
            Notice::Capability {
                node,
                capability,
                synced,
            } => {
                self.each(now, Some(capability), view, out, |ours, turn| {
                    ours.told(turn, *node, *synced);
                });
                if let Some(place) = self.place(capability).filter(|_| *synced) {
                    self.donations.synced_elsewhere(*node, place);
                }
                self.withdraw(now, view, out);
            }
            Notice::SyncRequest { node, capability } => {
                // Of one that is switched off here we do not say that it is synced, and where nobody syncs it nobody asks.
                let place = self.place(capability);
                if let Some(place) = place.filter(|&place| self.ours[place].is_given()) {
                    let release = view.release(*node);
                    self.donations.requested(now.at, *node, place, release);
                }
            }
            Notice::SyncEnd {
                node,
                connection,
                capability,
                total,
            } => self.each(now, Some(capability), view, out, |ours, turn| {
                ours.sync_end(turn, *node, *connection, *total);
            }),
        }
        self.settle();
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now, view: &dyn View, out: &mut dyn Outbox) {
        self.each(now, None, view, out, Ours::tick);
        self.donate(now, view, out, |_, _| ());
        self.settle();
        let ours = self.ours.iter();
        let ours = ours.map(|ours| ours.due(now.at, &self.rules, view)).min();
        let donations = self.donations.due(now.at, &self.rules);
        self.due = ours.map_or(donations, |ours| ours.min(donations));
    }

    /// When [`tick`](Self::tick) is wanted at the latest.
    pub(super) fn deadline(&self) -> Timestamp {
        self.due
    }

    /// Records that were asked for.
    pub(super) fn slice(&mut self, now: Now, slice: Slice, view: &dyn View, out: &mut dyn Outbox) {
        let mut ours = self.ours.iter_mut();
        if let Some(ours) = ours.find(|ours| ours.is_probed_by(&slice)) {
            if let Some(text) = ours.probed(now.at, &slice) {
                let cluster = self.rules.cluster;
                out.event(Event::Warning { cluster, text });
            }
            self.due = now.at;
        } else {
            self.donate(now, view, out, |donations, turn| {
                donations.slice(turn, slice);
            });
            self.due = self.due.min(self.donations.due(now.at, &self.rules));
        }
        self.settle();
    }

    /// Something of `capability`, or of all of them, may have been missed.
    pub(super) fn suspect(
        &mut self,
        now: Now,
        capability: Option<&str>,
        why: &str,
        view: &dyn View,
        out: &mut dyn Outbox,
    ) {
        self.each(now, capability, view, out, |ours, turn| {
            ours.suspect(turn, why);
        });
        self.withdraw(now, view, out);
        self.due = now.at;
        self.settle();
    }

    /// Of the records that `capability` began with some are known to be missing: it is verified by a donor only, also at a seed.
    pub(super) fn is_cut(&mut self, capability: &str, why: &str) {
        if let Some(place) = self.place(capability) {
            self.ours[place].is_cut(why);
        }
    }

    /// An operator wants `capability` to be synced again.
    ///
    /// Nothing changes unless a donor can be had: a copy that was good until now would be offered to nobody, for nothing.
    ///
    /// # Errors
    /// Why not, in words.
    pub(super) fn request(
        &mut self,
        now: Now,
        capability: &str,
        view: &dyn View,
        out: &mut dyn Outbox,
    ) -> Result<(), String> {
        if self.place(capability).is_none() {
            let names: Vec<_> = self.ours.iter().map(Ours::name).collect();
            let names = names.join(", ");
            return Err(format!("no capability {capability} here, only: {names}"));
        }
        let mut answer = Ok(());
        self.each(now, Some(capability), view, out, |ours, turn| {
            answer = ours.request(turn);
        });
        self.withdraw(now, view, out);
        self.due = now.at;
        self.settle();
        answer
    }

    /// What changed since the last call. The caller tells the nodes and shows the shards before anything else is called here:
    /// a donor is asked only after the doors were shown the session.
    pub(super) fn take_news(&mut self) -> News {
        if self.news.sessions_changed {
            self.ours.iter_mut().for_each(Ours::sessions_shown);
        }
        std::mem::take(&mut self.news)
    }

    /// Our capabilities, and whether others can sync them from us.
    pub(super) fn own(&self) -> Vec<(String, bool)> {
        let ours = self.ours.iter();
        ours.map(|ours| (ours.name().to_owned(), ours.is_offered()))
            .collect()
    }

    /// Syncs that we get, whose SYNC packets are welcome.
    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        let sessions = self.ours.iter().filter_map(Ours::session);
        sessions.map(Arc::clone).collect()
    }

    /// All of it, for people; `nodes` are those of the cluster.
    pub(super) fn facts(&self, now: Now, nodes: &[NodeFacts]) -> Vec<CapabilityFacts> {
        let ours = self.ours.iter().enumerate();
        ours.map(|(place, ours)| CapabilityFacts {
            donated: self.donations.given(place).complete,
            donated_chunks: self.donations.given(place).chunks,
            withheld: self.donations.given(place).withheld.clone(),
            donations: self.donations.under_way(place),
            requests_waiting: self.donations.waiting(place),
            ..ours.facts(now.at, nodes)
        })
        .collect()
    }

    fn place(&self, capability: &str) -> Option<usize> {
        let mut ours = self.ours.iter();
        ours.position(|ours| ours.name() == capability)
    }

    /// A node has gone, or is another process now: it neither gives nor takes what was begun.
    fn gone(
        &mut self,
        now: Now,
        node: i32,
        how: &str,
        view: &dyn View,
        out: &mut dyn Outbox,
        end: impl FnOnce(&mut Donations, &mut Turn<'_>, i32),
    ) {
        self.each(now, None, view, out, |ours, turn| {
            ours.node_gone(turn, node, how);
        });
        self.donate(now, view, out, |donations, turn| {
            end(donations, turn, node);
        });
    }

    /// Calls `act` for `capability`, or for all.
    fn each(
        &mut self,
        now: Now,
        capability: Option<&str>,
        view: &dyn View,
        out: &mut dyn Outbox,
        mut act: impl FnMut(&mut Ours, &mut Turn<'_>),
    ) {
        let (ours, _, mut turn) = self.turn(now, view, out);
        let named = |ours: &&mut Ours| capability.is_none_or(|name| ours.name() == name);
        let ours = ours.iter_mut().filter(named);
        ours.for_each(|ours| act(ours, &mut turn));
    }

    /// Does `first` with the donations, and then what they can do now.
    fn donate(
        &mut self,
        now: Now,
        view: &dyn View,
        out: &mut dyn Outbox,
        first: impl FnOnce(&mut Donations, &mut Turn<'_>),
    ) {
        let (ours, donations, mut turn) = self.turn(now, view, out);
        first(donations, &mut turn);
        donations.turn(&mut turn, ours);
    }

    /// What is not offered any more is given no further, from this moment on.
    fn withdraw(&mut self, now: Now, view: &dyn View, out: &mut dyn Outbox) {
        let (ours, donations, mut turn) = self.turn(now, view, out);
        donations.withdraw(&mut turn, ours);
    }

    fn turn<'a>(
        &'a mut self,
        now: Now,
        view: &'a dyn View,
        out: &'a mut dyn Outbox,
    ) -> (&'a mut [Ours], &'a mut Donations, Turn<'a>) {
        let turn = Turn {
            now: now.at,
            rules: &self.rules,
            view,
            out,
            writer: &mut self.writer,
            dice: &mut self.dice,
        };
        (&mut self.ours, &mut self.donations, turn)
    }

    /// Notes what changed for others.
    fn settle(&mut self) {
        for ours in &mut self.ours {
            self.news.capabilities_changed |= ours.offer_changed();
            self.news.sessions_changed |= ours.session_changed();
        }
        let mut whole = self.ours.iter_mut();
        if whole.any(Ours::take_was_made_whole) {
            self.news.made_whole = self.ours.iter().filter_map(Ours::whole_since).min();
        }
    }
}

impl Turn<'_> {
    fn event(&mut self, event: Event) {
        self.out.event(event);
    }

    fn warn(&mut self, text: String) {
        self.out.event(Event::Warning {
            cluster: self.rules.cluster,
            text,
        });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When nothing is to be done.
const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

/// The version of syncs whose end says how many chunks there were: 3.3 and later.
const COUNTED_SYNC_VERSION: i16 = 3;

/// A millisecond, in nanoseconds.
const MS: u64 = 1_000_000;
