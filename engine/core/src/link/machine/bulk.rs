//! Bulk that is worth nothing on another connection.

use super::{Machine, State};

impl Machine {
    /// Gives up the bulk that waits for the next connection, if there is none: who gets it may be another process, which
    /// knows nothing of what came before.
    pub(in crate::link) fn drop_bulk(&mut self) {
        if matches!(self.state, State::Waiting { .. } | State::Connecting { .. }) {
            self.counts.lost += self.bulk.clear().packets;
        }
    }
}
