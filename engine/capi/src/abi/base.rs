//! Strings, addresses, packets.
