//! What outlives the process: `serve` is killed, stopped, started with more shards, and given a disk that is full.
//!
//! `BINRUSH_KILLS` says how often each test kills that does so again and again; 4 without it.

/// What is recovered of a stream is a beginning of it, and all of it that was told of.
mod content;
/// The numbers of changes, over kills.
mod kills;
/// One life after another: stops, snapshots, other numbers of shards.
mod lives;
/// What a start refuses.
mod refused;
/// Disks that are full.
mod room;
/// A server and what it leaves behind.
mod served;
/// What is sent to it.
pub(crate) mod traffic;

/// How often to kill.
fn kills() -> u64 {
    let kills = std::env::var("BINRUSH_KILLS");
    kills.map_or(4, |text| text.parse().expect("a number"))
}
