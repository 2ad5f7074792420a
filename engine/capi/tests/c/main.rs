//! Programs in C, compiled by the system's compiler against the installed headers and library, and what they say.
//!
//! The sources are in `ctest/`. Without a compiler every test here says so and passes.

/// Compiling and running.
mod cc;
/// Return values at their edges, watched by tools that look for misuse of memory.
mod edges;
/// What is installed, and that it is all that is needed.
mod installed;
/// A backup of usrloc in C beside the store.
mod usrloc;
/// The golden packets, made and read by C.
mod vectors;
