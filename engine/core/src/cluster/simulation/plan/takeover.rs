//! A cluster whose genuine nodes all die at once.

use std::time::Duration;

use binrush_wire::Release;

use super::super::dice::Dice;
use super::super::network::{MS, SECOND, Time};
use super::{BEGIN, Fault, NodePlan, Plan, nanos};

impl Plan {
    /// What [`Weather::Takeover`](super::Weather::Takeover) is.
    pub(super) fn take_over(&mut self, dice: &mut Dice) {
        // A seed that comes back and sees nobody in time says that it is synced, with nothing: that is for its operator to
        // forbid, by a fallback that is longer than links take.
        self.timers.seed_fallback = Duration::from_nanos(self.convergence());
        // One or two genuine nodes and two of ours, that know each other and are there from the beginning.
        let genuine = self.nodes.iter().filter(|node| !node.is_ours);
        let genuine: Vec<_> = genuine.take(2).cloned().collect();
        let model = NodePlan {
            is_ours: true,
            release: Release::V3_6,
            ..self.nodes[0].clone()
        };
        let ours = self.nodes.iter().filter(|node| node.is_ours);
        let ours: Vec<_> = ours.take(2).cloned().collect();
        let mut nodes = genuine;
        if nodes.is_empty() {
            nodes.push(NodePlan {
                id: 20,
                is_ours: false,
                ..model.clone()
            });
        }
        let count = nodes.len();
        nodes.extend(ours);
        for id in (21..).take(count + 2 - nodes.len()) {
            nodes.push(NodePlan {
                id,
                ..model.clone()
            });
        }
        for (host, node) in nodes.iter_mut().enumerate() {
            node.is_seed = host == 0;
            node.is_learned = false;
            // 2.4 has no cachedb-local-repl, so a copy of it cannot be told to such a node.
            node.release = node.release.max(Release::V3_0);
            node.starts = BEGIN + dice.below(SECOND);
        }
        self.nodes = nodes;

        // By then both standbys have all that there is.
        let death = BEGIN + nanos(self.timers.seed_fallback) + dice.within(40, 60) * SECOND;
        let [one, other] = [count, count + 1];
        let mut at = death + dice.within(SECOND, 10 * SECOND);
        let mut quiet = at;
        for _ in 0..dice.within(1, 6) {
            let lasts = dice.pick(&[300 * MS, 2 * SECOND, 7 * SECOND]);
            for (from, to) in [(one, other), (other, one)] {
                let fault = match dice.below(3) {
                    0 => Fault::Reset { from, to },
                    _ => Fault::Cut { from, to, lasts },
                };
                self.faults.push((at, fault));
            }
            quiet = at + lasts;
            at = quiet + dice.within(SECOND, 10 * SECOND);
        }
        if dice.one_in(3) {
            let lasts = dice.pick(&[SECOND, 12 * SECOND]);
            let at = quiet + self.recovery();
            self.faults.push((at, Fault::Restart { host: one, lasts }));
            quiet = at + lasts;
        }
        let mut back = quiet + self.recovery();
        for host in 0..count {
            let lasts = back - death;
            self.faults.push((death, Fault::Restart { host, lasts }));
            // One after the other: a request that goes by a node which is half up is lost, and genuine nodes repeat none.
            back += self.convergence() + dice.within(MS, 10 * SECOND);
        }
        self.faults.sort_by_key(|(at, _)| *at);
        self.calm = back;
    }

    /// How long two standbys may need to see and to trust each other again.
    fn recovery(&self) -> Time {
        self.convergence() + nanos(self.timers.seed_fallback) + 20 * SECOND
    }
}
