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
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use binrush_engine::{Context, Handler, Origin, Verdict};
use binrush_wire::Packet;

use crate::bin::delivery::{self, Poison, deliver};
use crate::bin::registrations::{Callback, Registration};
use crate::running::enter;
use ticks::Ticks;

/// What callbacks came to.
mod counts;
/// Time that is cheap to read.
mod ticks;

pub use counts::{CallbackCounts, CallbackTotals};

/// The callback of one name, on one shard.
pub struct ModuleHandler {
    module: &'static str,
    callback: Callback,
    counts: Arc<CallbackCounts>,
    /// A counter, and its ticks that a callback may take.
    budget: Option<(Ticks, u64)>,
    poison: Poison,
}

/// What is the same for all callbacks of a module.
#[derive(Debug, Clone)]
pub struct Care {
    /// The module, by the text that [`enter`] is given.
    pub module: &'static str,
    /// Where calls are counted; at least as many shards as own records.
    pub counts: Arc<CallbackCounts>,
    /// A callback that takes longer is counted. `None`: no clock is read.
    pub budget: Option<Duration>,
    /// Whether popped memory is overwritten when a callback has returned.
    pub poison: Poison,
}

impl ModuleHandler {
    /// Of what a module registered. Measures the processor's counter the first time there is a budget, which takes two milliseconds.
    #[must_use]
    pub fn new(registration: &Registration, care: &Care) -> Self {
        let budget = care.budget.map(|budget| {
            let ticks = Ticks::get();
            (ticks, ticks.of(budget))
        });
        Self {
            module: care.module,
            callback: registration.callback.clone(),
            counts: Arc::clone(&care.counts),
            budget,
            poison: care.poison,
        }
    }

    fn deliver(&self, context: &Context<'_>, packet: &Packet<'_>) -> delivery::Delivered {
        let origin = delivery::Origin {
            source: match context.origin() {
                Origin::Stream { peer, .. } => Some(SocketAddr::new(peer, 0)),
                _ => None,
            },
            local: None,
            node: None,
        };
        enter(self.module, || {
            deliver(&self.callback, packet, &origin, self.poison)
        })
    }
}

impl Handler for ModuleHandler {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let begin = self.budget.map(|(ticks, _)| ticks.now());
        let delivered = self.deliver(context, packet);
        let Some(place) = self.counts.of(context.shard().index()) else {
            debug_assert!(false, "packets are handled by shards that own records");
            return Verdict::Handled;
        };
        if !delivered.ran {
            place.not_called();
            return Verdict::UnknownVersion;
        }
        if let (Some(begin), Some((ticks, budget))) = (begin, self.budget) {
            place.took(ticks.now().wrapping_sub(begin), budget);
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
