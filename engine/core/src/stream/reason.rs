//! How a connection ends, and why one is not taken.

use std::fmt;

/// Why a connection that a shard had was let go; each comes to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended it between two packets.
    Peer,
    /// The peer ended it within a packet.
    HalfFrame,
    /// The peer reset it.
    Reset,
    /// The kernel gave up: nothing was acknowledged within TCP_USER_TIMEOUT, or keepalives had no answer.
    TimedOut,
    /// Bytes that are no packet.
    BadMarker,
    /// The length of a packet is below the smallest there can be or above the largest.
    BadLength,
    /// A packet that was begun was not finished in time.
    FrameDeadline,
    /// A packet came in more pieces than `bin_max_msg_chunks` allows.
    TooManyPieces,
    /// Nothing came for too long.
    Idle,
    /// The memory for all connections together is used up.
    Memory,
    /// A TLS record could not be read, or the session failed.
    Tls,
    /// Its address is not allowed any more.
    NotAllowed,
    /// Its listener was closed.
    ListenerClosed,
    /// The engine stops.
    Stopping,
    /// The kernel refused in another way.
    Failed,
}

/// Why a connection was not taken, or not kept until a shard had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum RefuseReason {
    /// Its address is not allowed.
    Acl,
    /// There are as many connections as there may be.
    Total,
    /// There are as many of this address as there may be.
    PerSource,
    /// The process has no descriptor left for it.
    NoDescriptor,
    /// As many handshakes are under way as there may be.
    Handshakes,
    /// It took too long to shake hands.
    HandshakeTimeout,
    /// The peer went away while shaking hands.
    HandshakeGone,
    /// The peer showed no certificate, and has to.
    NoCertificate,
    /// Nobody who is trusted signed the peer's certificate.
    UnknownCa,
    /// The peer's certificate is not valid yet, or not any more.
    Expired,
    /// The peer's certificate was revoked.
    Revoked,
    /// The peer's key is none of those that are pinned.
    NotPinned,
    /// The peer speaks no version of TLS, or no cipher, that is taken here.
    NoCommon,
    /// What the peer sent is no TLS, or breaks its rules.
    BadTls,
    /// The peer did not like our part of the handshake, and said so.
    Alert,
    /// Its listener was closed, or the engine stopped.
    Closing,
    /// The kernel took it back: options could not be set, or accept(2) failed for this one.
    Failed,
}

macro_rules! words {
    ($name:ident, $count:literal, [$($variant:ident $symbol:literal $sentence:literal),+ $(,)?]) => {
        impl $name {
            /// All of them, in the order of the counters.
            pub const ALL: [Self; $count] = [$(Self::$variant),+];

            /// How many there are.
            pub const COUNT: usize = $count;

            /// The name of its counter, stable.
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$variant => $symbol),+ }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.symbol())
            }
        }
    };
}

words!(CloseReason, 15, [
    Peer "peer" "the peer ended it",
    HalfFrame "half_frame" "the peer ended it within a packet",
    Reset "reset" "the peer reset it",
    TimedOut "timed_out" "the peer did not acknowledge or answer any more",
    BadMarker "bad_marker" "bytes that are no BIN packet",
    BadLength "bad_length" "a packet of a length that cannot be",
    FrameDeadline "frame_deadline" "a packet was begun and not finished in time",
    TooManyPieces "too_many_pieces" "a packet came in more pieces than bin_max_msg_chunks",
    Idle "idle" "nothing came for tcp_connection_lifetime",
    Memory "memory" "the memory for connections was used up",
    Tls "tls" "a TLS record could not be read",
    NotAllowed "not_allowed" "its address is not allowed any more",
    ListenerClosed "listener_closed" "its listener was closed",
    Stopping "stopping" "the engine stopped",
    Failed "failed" "the kernel refused",
]);

words!(RefuseReason, 17, [
    Acl "acl" "its address is not allowed",
    Total "total" "tcp_max_connections are open",
    PerSource "per_source" "as many connections of its address are open as may be",
    NoDescriptor "no_descriptor" "the process has no file descriptor left",
    Handshakes "handshakes" "too many handshakes were under way",
    HandshakeTimeout "handshake_timeout" "its TLS handshake took too long",
    HandshakeGone "handshake_gone" "it went away during the TLS handshake",
    NoCertificate "no_certificate" "it showed no certificate",
    UnknownCa "unknown_ca" "nobody who is trusted signed its certificate",
    Expired "expired" "its certificate is not valid at this time",
    Revoked "revoked" "its certificate was revoked",
    NotPinned "not_pinned" "its key is none of those that are pinned",
    NoCommon "no_common" "no version of TLS or cipher in common",
    BadTls "bad_tls" "what it sent is no TLS",
    Alert "alert" "it gave up the TLS handshake",
    Closing "closing" "its listener was closed, or the engine stopped",
    Failed "failed" "the kernel refused",
]);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_lists_are_in_the_order_of_the_counters_and_every_word_is_its_own() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        let closed: HashSet<_> = CloseReason::ALL.map(CloseReason::symbol).into();
        let refused: HashSet<_> = RefuseReason::ALL.map(RefuseReason::symbol).into();
        assert_eq!(
            (closed.len(), refused.len()),
            (CloseReason::COUNT, RefuseReason::COUNT)
        );
    }
}
