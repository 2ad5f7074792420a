//! Which packets are sent: refreshes of contacts, each of which changes one, and packets about AoRs that are there.

use crate::compare::records::contacts::{Contacts, Phase};

/// Packets without an end; those of one kind follow each other, so that they can go in trains.
pub(super) struct Flow {
    contacts: Contacts,
    /// One packet of so many is a refresh.
    every: u32,
    /// Contacts that there are.
    count: u32,
    /// Packets that were written, and refreshes among them.
    packets: u64,
    refreshes: u64,
    packet: Vec<u8>,
}

impl Flow {
    pub(super) const fn new(contacts: Contacts, every: u32, count: u32) -> Self {
        Self {
            contacts,
            every,
            count,
            packets: 0,
            refreshes: 0,
            packet: Vec::new(),
        }
    }

    /// The next packet.
    pub(super) fn write(&mut self) -> &[u8] {
        self.packet.clear();
        let count = u64::from(self.count);
        if self.is_refresh() {
            let before = u32::try_from(self.refreshes / count).expect("nobody waits for so many");
            let contact = self.contact(self.refreshes % count);
            self.contacts.refresh(contact, before, &mut self.packet);
            self.refreshes += 1;
        } else {
            let contact = self.contact(self.packets % count);
            self.contacts.aor(contact, &mut self.packet);
        }
        self.packets += 1;
        &self.packet
    }

    /// Packets that were written so far.
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    /// Refreshes among them.
    pub(super) const fn refreshes(&self) -> u64 {
        self.refreshes
    }

    fn is_refresh(&self) -> bool {
        self.packets % (BLOCK * u64::from(self.every)) < BLOCK
    }

    /// The contact whose turn it is as number `turn`, of those that follow each other in no order.
    fn contact(&self, turn: u64) -> u32 {
        let turn = u32::try_from(turn).expect("it is below the count");
        Phase::Refresh.contact(turn, self.count)
    }
}

/// Refreshes that follow each other, where other packets come between.
const BLOCK: u64 = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn one_packet_of_so_many_is_a_refresh_that_says_something_new() {
        for every in [1, 5, 10] {
            let mut flow = Flow::new(Contacts::legacy().unwrap(), every, 10);
            let mut seen = HashSet::new();
            for _ in 0..10 * BLOCK * u64::from(every) {
                let before = flow.refreshes();
                let packet = flow.write().to_vec();
                let is_new = seen.insert(packet);
                assert!(is_new || flow.refreshes() == before);
            }
            assert_eq!(flow.refreshes(), 10 * BLOCK);
            assert_eq!(flow.packets(), flow.refreshes() * u64::from(every));
        }
    }
}
