//! Callbacks of modules as handlers of the engine.
//!
//! ```text
//!  shard ─▶ ModuleHandler ─▶ enter(module) ─▶ bin::deliver ─▶ callback ─▶ bin_pop_*
//!                │ └ ticks before and behind, where there is a budget
//!                └─▶ Verdict ─▶ ledger; CallbackCounts ─▶ metrics, log
//! ```
//!
//! The engine sees to it that all packets of a name come to one shard, where its module is not reentrant; nothing here knows. What
//! callbacks queue goes out where whoever runs them has its turn ([`bin::flush`](crate::bin::flush)).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use binrush_engine::{Context, Handler, ShardId, Verdict};
use binrush_wire::Packet;

use crate::bin::delivery::{self, Poison, deliver};
use crate::bin::registrations::{Callback, Registration};
use crate::running::enter;
use ticks::Ticks;

/// What callbacks and functions came to.
mod counts;
/// Time that is cheap to read.
mod ticks;

pub use counts::{CallbackCounts, CallbackTotals};

/// The callback of one name, on one shard.
pub struct ModuleHandler {
    module: &'static str,
    /// `None`: its module registered none there.
    callback: Option<Callback>,
    meter: Meter,
    poison: Poison,
}

/// What code of a module may take, and where that is counted.
#[derive(Debug)]
pub(crate) struct Meter {
    counts: Arc<CallbackCounts>,
    /// A counter, and its ticks that a call may take.
    budget: Option<(Ticks, u64)>,
}

/// What is the same for all callbacks of a module, and for its functions in routes.
#[derive(Debug, Clone)]
pub struct Care {
    /// The module, by the text that [`enter`] is given.
    pub module: &'static str,
    /// Where calls are counted; at least as many shards as own records, and readers behind them where routes run there.
    pub counts: Arc<CallbackCounts>,
    /// A call that takes longer is counted. `None`: no clock is read.
    pub budget: Option<Duration>,
    /// Whether popped memory is overwritten when a callback has returned.
    pub poison: Poison,
}

impl ModuleHandler {
    /// Of what a module registered. Measures the processor's counter the first time there is a budget, which takes two milliseconds.
    #[must_use]
    pub fn new(registration: &Registration, care: &Care) -> Self {
        Self::of(Some(registration.callback.clone()), care)
    }

    /// For a shard whose `child_init` registered nothing of a name, as that of others did: its packets are not called for, and counted so.
    #[must_use]
    pub fn without_callback(care: &Care) -> Self {
        Self::of(None, care)
    }

    fn of(callback: Option<Callback>, care: &Care) -> Self {
        Self {
            module: care.module,
            callback,
            meter: Meter::new(care),
            poison: care.poison,
        }
    }

    /// `None`: there is no callback.
    fn deliver(&self, context: &Context<'_>, packet: &Packet<'_>) -> Option<delivery::Delivered> {
        let callback = self.callback.as_ref()?;
        let ends = context.origin().ends();
        let origin = delivery::Origin {
            source: ends.map(|ends| ends.peer),
            local: ends.and_then(|ends| ends.local),
            node: None,
        };
        Some(enter(self.module, || {
            deliver(callback, packet, &origin, self.poison)
        }))
    }
}

impl Meter {
    pub(crate) fn new(care: &Care) -> Self {
        let budget = care.budget.map(|budget| {
            let ticks = Ticks::get();
            (ticks, ticks.of(budget))
        });
        Self {
            counts: Arc::clone(&care.counts),
            budget,
        }
    }

    /// Before a call: when it begins, where somebody wants to know.
    #[inline]
    pub(crate) fn begin(&self) -> Option<u64> {
        self.budget.map(|(ticks, _)| ticks.now())
    }

    /// How long a call took that began there, and how long it may take, in ticks.
    #[inline]
    fn took(&self, begin: Option<u64>) -> Option<(u64, u64)> {
        let (ticks, budget) = self.budget?;
        Some((ticks.now().wrapping_sub(begin?), budget))
    }

    /// Behind a call of a function that began there, on the thread of `shard`.
    #[inline]
    pub(crate) fn function(&self, shard: ShardId, begin: Option<u64>) {
        let took = self.took(begin);
        let place = self.counts.of(shard.index());
        debug_assert!(place.is_some(), "routes run on shards");
        if let Some(place) = place {
            place.function(took);
        }
    }
}

impl Handler for ModuleHandler {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let begin = self.meter.begin();
        let delivered = self.deliver(context, packet);
        let Some(place) = self.meter.counts.of(context.shard().index()) else {
            debug_assert!(false, "packets are handled by shards that own records");
            return Verdict::Handled;
        };
        let Some(delivered) = delivered else {
            place.not_called();
            return Verdict::UnknownCommand;
        };
        if !delivered.ran {
            place.not_called();
            return Verdict::UnknownVersion;
        }
        if let Some((ticks, budget)) = self.meter.took(begin) {
            place.took(ticks, budget);
        }
        // What the callback made of a packet that it read wrongly, it did: so it is handled, and counted as misread besides.
        place.called(delivered.misread);
        Verdict::Handled
    }
}

impl fmt::Debug for ModuleHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModuleHandler")
            .field("module", &self.module)
            .field("callback", &self.callback)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
