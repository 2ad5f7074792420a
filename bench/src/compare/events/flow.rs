//! Which packets are sent when: refreshes of contacts, each of which changes one, and packets about AoRs that are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use binrush_scenario::{ContentError, Source};

use super::Load;
use crate::compare::records::contacts::{Contacts, Phase};

/// Packets at equal distances; those of one kind follow each other, so that they can go in trains.
pub(super) struct Flow {
    contacts: Contacts,
    load: Load,
    /// Contacts that there are.
    count: u32,
    end_ns: u64,
    /// The next packet's number.
    next: u64,
    /// The next refresh's.
    refresh: u32,
    /// Refreshes that were written, for who made this.
    refreshes: Arc<AtomicU64>,
    packet: Vec<u8>,
}

impl Flow {
    pub(super) const fn new(
        contacts: Contacts,
        load: Load,
        count: u32,
        end_ns: u64,
        refreshes: Arc<AtomicU64>,
    ) -> Self {
        Self {
            contacts,
            load,
            count,
            end_ns,
            next: 0,
            refresh: 0,
            refreshes,
            packet: Vec::new(),
        }
    }

    fn is_refresh(&self) -> bool {
        self.next % (BLOCK * u64::from(self.load.every)) < BLOCK
    }

    /// The contact whose turn it is as number `turn`, of those that follow each other in no order.
    fn contact(&self, turn: u32) -> u32 {
        Phase::Refresh.contact(turn % self.count, self.count)
    }
}

impl Source for Flow {
    fn due(&self) -> Option<u64> {
        let at = self.next as f64 / self.load.packets_per_second();
        let due = Duration::try_from_secs_f64(at).ok()?;
        let due = u64::try_from(due.as_nanos()).ok()?;
        (due < self.end_ns).then_some(due)
    }

    fn write(&mut self, _: u64, _: u32, out: &mut [u8]) -> Result<usize, ContentError> {
        self.packet.clear();
        if self.is_refresh() {
            let (contact, before) = (self.contact(self.refresh), self.refresh / self.count);
            self.contacts.refresh(contact, before, &mut self.packet);
            self.refresh += 1;
            self.refreshes.fetch_add(1, Ordering::Relaxed);
        } else {
            let turn = u32::try_from(self.next % u64::from(self.count)).expect("below the count");
            self.contacts.aor(self.contact(turn), &mut self.packet);
        }
        out[..self.packet.len()].copy_from_slice(&self.packet);
        self.next += 1;
        Ok(self.packet.len())
    }

    fn skip(&mut self) {
        self.next += 1;
    }
}

/// Refreshes that follow each other, where other packets come between.
const BLOCK: u64 = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn flow(every: u32, refreshes: &Arc<AtomicU64>) -> Flow {
        let load = Load {
            events_per_second: 1000.0,
            every,
        };
        let contacts = Contacts::legacy().unwrap();
        Flow::new(contacts, load, 10, 100_000_000, Arc::clone(refreshes))
    }

    #[test]
    fn one_packet_of_so_many_is_a_refresh_that_says_something_new() {
        for every in [1, 5] {
            let refreshes = Arc::new(AtomicU64::new(0));
            let mut flow = flow(every, &refreshes);
            let (mut out, mut seen, mut packets) = (vec![0; 65_535], HashSet::new(), 0);
            while flow.due().is_some() {
                let is_refresh = flow.is_refresh();
                let len = flow.write(0, 0, &mut out).unwrap();
                packets += 1;
                let is_new = seen.insert(out[..len].to_vec());
                assert!(is_new || !is_refresh);
            }
            assert_eq!(packets, 100 * u64::from(every));
            // Whole blocks, and what the last one begins with.
            let blocks = packets.div_ceil(BLOCK * u64::from(every));
            let written = refreshes.load(Ordering::Relaxed);
            assert!(written > (blocks - 1) * BLOCK && written <= blocks * BLOCK);
        }
    }

    #[test]
    fn what_is_not_sent_in_time_is_no_refresh() {
        let refreshes = Arc::new(AtomicU64::new(0));
        let mut flow = flow(1, &refreshes);
        flow.skip();
        assert_eq!(
            (flow.due(), refreshes.load(Ordering::Relaxed)),
            (Some(1_000_000), 0)
        );
    }
}
