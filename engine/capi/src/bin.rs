//! The BIN functions: packets that are made, sent, received.
