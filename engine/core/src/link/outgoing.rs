//! What is lent for writing.

use std::io::IoSlice;

use super::lane::{Amount, Half};

/// Packets on their way out of the queue, in the order in which their bytes go: the rest of one that was begun, then
/// control, then bulk.
///
/// Away from the lock of the link: packets can be queued while these are written.
#[derive(Debug)]
pub(super) struct Outgoing {
    control: Half,
    bulk: Half,
    follows: Follows,
    taken: [Amount; 2],
}

/// What may follow the packet that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Control packets, then bulk.
    All,
    /// Control packets: others wait that could not be lent, and bulk would overtake them.
    Control,
    /// None: this connection is about to be replaced.
    Nothing,
}

/// What a transport did with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The kernel took bytes.
    pub(super) moved: bool,
    /// Before it took anything more, the kernel had every byte that was taken by earlier calls.
    pub(super) drained: bool,
    /// The kernel has every byte that was taken of the packets.
    pub(super) flushed: bool,
    /// The kernel has no room for more now.
    pub(super) full: bool,
    /// The session may encrypt no more than the rest of a packet: it is to be replaced.
    pub(super) worn: bool,
}

impl Outgoing {
    pub(super) fn new(control: Half, bulk: Half, follows: Follows) -> Self {
        Self {
            control,
            bulk,
            follows,
            taken: [Amount::default(); 2],
        }
    }

    /// The bytes to write next, at most [`WRITE_MAX`]; some of the slices may be empty. No byte of a bulk packet that
    /// was not begun comes before a control packet.
    pub(super) fn slices(&self) -> [IoSlice<'_>; 3] {
        let (begun, bulk) = self.bulk.rest().split_at(self.bulk.begun_left());
        let control = self.control.rest();
        let (control, bulk) = match self.follows {
            Follows::All => (control, bulk),
            Follows::Control => (control, &[][..]),
            Follows::Nothing => (&control[..self.control.begun_left()], &[][..]),
        };
        let mut left = WRITE_MAX;
        [begun, control, bulk].map(|part| {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            IoSlice::new(part)
        })
    }

    /// The first `count` bytes of the [`slices`](Self::slices) were taken.
    pub(super) fn take(&mut self, count: usize) {
        let begun = count.min(self.bulk.begun_left());
        let control = (count - begun).min(self.control.rest().len());
        self.taken[1] += self.bulk.take(begun);
        self.taken[0] += self.control.take(control);
        self.taken[1] += self.bulk.take(count - begun - control);
    }

    /// The two lanes, and how much was taken of each.
    pub(super) fn give_back(self) -> ((Half, Amount), (Half, Amount)) {
        ((self.control, self.taken[0]), (self.bulk, self.taken[1]))
    }
}

/// Bytes in one system call: enough to make its cost disappear, and so few that a control packet that comes next waits
/// for some tens of microseconds.
const WRITE_MAX: usize = 256 << 10;
