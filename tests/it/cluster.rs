//! A seat in a cluster, beside what genuine nodes did.

/// A seat in the place of a genuine node.
mod captures;
/// What genuine nodes sent is read and written as they did.
mod messages;
/// Clusters of processes.
mod processes;
/// What the nodes of a capture said to each other.
mod record;
/// A seat lives through what a node of a capture lived through.
mod replay;
/// A replica keeps what genuine nodes give in a sync.
mod replica;
