//! By which link a packet goes to which node: for threads that are not the seats'.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::link::LinkId;

/// Nodes that can be reached at this moment.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<Arc<Table>>);

/// Immutable, replaced as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Our id in each cluster.
    pub(super) me: HashMap<i32, i32>,
    /// By cluster and node: the link to the next node on the way.
    pub(super) hops: HashMap<(i32, i32), LinkId>,
}

impl Routes {
    pub(super) fn now(&self) -> Arc<Table> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn show(&self, table: Table) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if **shown != table {
            *shown = Arc::new(table);
        }
    }
}
