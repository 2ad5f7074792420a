//! What packets are handed to.

use std::io;
use std::time::Duration;

use binrush_scenario::{ContentError, Source};

/// A way into the kernel, with room for some packets that wait for it. One thread's.
pub(super) trait Outlet {
    /// Whether one more packet can be [written](Self::write), however long it is.
    fn has_room(&self) -> bool;

    /// Has `source` write its next packet behind those that wait.
    ///
    /// # Errors
    /// The packet could not be made; nothing was added then.
    fn write(
        &mut self,
        source: &mut dyn Source,
        start_ns: u64,
        late_ns: u32,
    ) -> Result<(), ContentError>;

    /// Hands the kernel what waits, in order, as far as it takes it without a wait of more than some milliseconds.
    fn hand_over(&mut self) -> Handed;

    /// Returns when the kernel may take more, after `limit` at the latest.
    fn wait_for_room(&mut self, limit: Duration);

    /// What the other end has made of packets so far. Asked now and then: it costs a system call.
    fn look(&mut self) -> Looked;

    /// For how long the kernel took no more although something waited, in ns. Datagrams wait for nobody.
    fn blocked_ns(&self) -> u64 {
        0
    }

    /// No packet goes any more. One that is cut is finished, if that is possible soon; the others that wait are
    /// forgotten.
    fn finish(&mut self) -> Finished;

    /// That the target refused everything, and what to do.
    fn nobody_there(&self) -> anyhow::Error;
}

/// What the kernel made of packets that were handed over: of `taken + failed`, the first ones of those that wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handed {
    pub(super) taken: u64,
    pub(super) failed: u64,
    /// Why the first of those failed.
    pub(super) error: Option<io::ErrorKind>,
    /// Of those taken.
    pub(super) bytes: u64,
    /// System calls.
    pub(super) calls: u64,
    /// No more packets will ever be taken.
    pub(super) is_closed: bool,
}

/// What the other end said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing against what was sent.
    Fine,
    /// Nobody listens.
    Refused,
}

/// How the packet ended that the kernel had taken a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// There was none.
    Whole,
    /// It is whole now, with so many bytes.
    Completed { bytes: u64 },
    /// The receiver has the beginning of it only.
    Cut,
}

/// In words for a result, with the kernel's name where people know it.
pub(super) fn words(error: Option<io::ErrorKind>) -> String {
    use io::ErrorKind as Kind;
    match error {
        Some(Kind::WouldBlock) => "no room in the send buffer (EAGAIN)".to_owned(),
        Some(Kind::PermissionDenied) => "not permitted, by a firewall for one (EPERM)".to_owned(),
        Some(Kind::BrokenPipe) => "the receiver has closed the connection (EPIPE)".to_owned(),
        Some(Kind::ConnectionReset) => {
            "the receiver has reset the connection (ECONNRESET)".to_owned()
        }
        Some(kind) => match kind.to_string() {
            // What the standard library has no kind for: of a send, that is a queue behind the socket.
            other if other == "uncategorized error" => {
                "no buffer space on the way, or an error without a name (ENOBUFS)".to_owned()
            }
            known => known,
        },
        None => "refused without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_name() {
        // ENOBUFS, EAGAIN, EPERM, ENETUNREACH of Linux.
        for (errno, word) in [
            (105, "ENOBUFS"),
            (11, "EAGAIN"),
            (1, "EPERM"),
            (101, "network unreachable"),
        ] {
            let kind = io::Error::from_raw_os_error(errno).kind();
            assert!(words(Some(kind)).contains(word), "{}", words(Some(kind)));
        }
    }
}
