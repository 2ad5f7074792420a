//! What a journal keeps, whatever happens to process, power and disk.

/// Power losses at every moment, with everything that may survive.
mod crash;
/// Every byte of a file changed, every length.
mod damage;
/// Calls that fail, a disk that is full.
mod faults;
/// Files and rings that belong elsewhere.
mod foreign;
/// Many lives of a journal, from a seed.
mod lives;
/// The ring alone.
mod ring;
/// A shard with its journal, and what it should find again.
mod shard;
