//! What became of packets in this process, for who reads counters.
//!
//! Receiving adds once a datagram, where a system call was made for it anyway; nothing here is on an engine's path.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use binrush_wire::{ErrorKind, WireError};

use crate::border::border;

/// One fate of a packet, in the order of [`Counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Received,
    Handled,
    Misread,
    Nobody,
    TooShort,
    BadMarker,
    BadChecksum,
    BadName,
    Nested,
    Sent,
    Failed,
}

/// Since the process began. At rest `received` is the sum of the eight after it. (`struct binrush_counts` of `include/binrush.h`)
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Datagrams that `binrush_run_once` took, and packets that `call_callbacks` was given.
    pub received: u64,
    /// Their callback ran, and popped nothing that was not there.
    pub handled: u64,
    /// Their callback ran, and a pop answered an error.
    pub misread: u64,
    /// Nobody registered for the name, or for the 3.x API.
    pub nobody: u64,
    /// Below 18 bytes; of `call_callbacks` also above 65535, or with a length that is none.
    pub too_short: u64,
    /// Without `P4CK`.
    pub bad_marker: u64,
    /// Changed on their way, or not of 1.x.
    pub bad_checksum: u64,
    /// With a name that reaches past the end.
    pub bad_name: u64,
    /// Came inside of a callback on the same thread, where nothing else is delivered.
    pub nested: u64,
    /// Packets that the kernel took: `bin_send` and `bin_flush`, once for each destination; and those of the 3.x API.
    pub sent: u64,
    /// Packets that it did not take, or that had no socket.
    pub failed: u64,
}

/// As they are now.
#[must_use]
pub fn counts() -> Counts {
    let of = |count: Count| COUNTS[count as usize].load(Ordering::Relaxed);
    Counts {
        received: of(Count::Received),
        handled: of(Count::Handled),
        misread: of(Count::Misread),
        nobody: of(Count::Nobody),
        too_short: of(Count::TooShort),
        bad_marker: of(Count::BadMarker),
        bad_checksum: of(Count::BadChecksum),
        bad_name: of(Count::BadName),
        nested: of(Count::Nested),
        sent: of(Count::Sent),
        failed: of(Count::Failed),
    }
}

/// Writes the counters to `counts`, as many as fit into `size` bytes, and zeros for those that this library does not know. 0, or -1
/// for null.
///
/// # Safety
/// `counts` is null or has `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn binrush_get_counts(counts: *mut c_void, size: usize) -> c_int {
    border(-1, || {
        if counts.is_null() {
            return -1;
        }
        let own = self::counts();
        let known = size.min(size_of::<Counts>());
        // SAFETY: `size` writable bytes by this function's condition, of which `own` has those that are known.
        unsafe {
            ptr::copy_nonoverlapping((&raw const own).cast::<u8>(), counts.cast(), known);
            counts.cast::<u8>().add(known).write_bytes(0, size - known);
        }
        0
    })
}

/// Adds `many`. Relaxed: counters order nothing.
#[inline]
pub(crate) fn add(count: Count, many: u64) {
    COUNTS[count as usize].fetch_add(many, Ordering::Relaxed);
}

/// Where a frame that is no packet is counted.
pub(crate) fn refusal(error: &WireError) -> Count {
    match error.kind {
        ErrorKind::Marker => Count::BadMarker,
        ErrorKind::Checksum => Count::BadChecksum,
        ErrorKind::NameLength => Count::BadName,
        _ => Count::TooShort,
    }
}

static COUNTS: [AtomicU64; size_of::<Counts>() / size_of::<u64>()] =
    [const { AtomicU64::new(0) }; size_of::<Counts>() / size_of::<u64>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_fewer_or_more_counters_gets_those_that_both_know() {
        add(Count::Received, 1);
        let mut few = [u64::MAX; 2];
        let mut many = [u64::MAX; 13];
        // SAFETY: as many writable bytes as are told, and null.
        unsafe {
            assert_eq!(binrush_get_counts(few.as_mut_ptr().cast(), 8), 0);
            assert_eq!(binrush_get_counts(many.as_mut_ptr().cast(), 104), 0);
            assert_eq!(binrush_get_counts(ptr::null_mut(), 8), -1);
        }
        assert!((1..u64::MAX).contains(&few[0]) && few[1] == u64::MAX);
        assert_eq!(many[11..], [0, 0]);
    }
}
