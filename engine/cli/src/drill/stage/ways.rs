//! Ways between hosts, lost and restored.

use std::time::Duration;

use super::Stage;
use crate::drill::catalog::Who;

impl Stage<'_> {
    pub(super) fn lose(&mut self, from: Who, to: Who) -> anyhow::Result<()> {
        self.hurt(to, &format!("nothing comes from the {}", from.name()));
        self.note_completed(from);
        self.site.lose(from, to)
    }

    pub(super) fn find(&mut self, from: Who, to: Who) -> anyhow::Result<()> {
        self.say(format!("{} reaches the {} again", from.name(), to.name()));
        self.site.find(from, to)
    }

    /// As FoundationDB's tests do it: one way after the other is clogged, and they are freed in another order.
    pub(super) fn swizzle(&mut self, ways: &[(Who, Who)]) -> anyhow::Result<()> {
        let gap = Duration::from_millis(if self.terms.is_small { 700 } else { 5_000 });
        for (one, other) in self.shuffled(ways) {
            self.lose(one, other)?;
            self.site.lose(other, one)?;
            self.pass(gap)?;
        }
        self.pass(gap * 4)?;
        for (one, other) in self.shuffled(ways) {
            self.find(one, other)?;
            self.site.find(other, one)?;
            self.pass(gap)?;
        }
        Ok(())
    }

    pub(super) fn shuffled(&mut self, ways: &[(Who, Who)]) -> Vec<(Who, Who)> {
        let mut left = ways.to_vec();
        let mut drawn = Vec::new();
        while !left.is_empty() {
            let at = self.dice.index(left.len());
            drawn.push(left.swap_remove(at));
        }
        drawn
    }
}
