//! Modules from shared libraries.
