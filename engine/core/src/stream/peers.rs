//! What is known of senders beforehand: nothing in a stream says which release wrote it.

use std::net::IpAddr;

use binrush_wire::{Generation, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Release};

use crate::access::Cidr;

/// How the streams of one sender are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSettings {
    /// How its packets are framed: [`Generation::Transitional`] (2.2) or [`Generation::Modern`] (2.3 and later).
    pub generation: Generation,
    /// Its release, where that is told; `None`: any of its generation.
    pub release: Option<Release>,
    /// What people call it.
    pub name: Option<String>,
}

/// Which sender is what; the most exact network that an address is in counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerTable {
    /// The longest prefixes first; of equal ones the last that was added.
    rows: Vec<(Cidr, PeerSettings)>,
    others: PeerSettings,
}

/// One row more than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {PEERS_MAX} peers can be told apart")]
pub struct PeersFull;

impl PeerSettings {
    /// The settings of senders of `release`.
    #[must_use]
    pub fn of_release(release: Release) -> Self {
        Self {
            generation: release.generation(),
            release: Some(release),
            name: None,
        }
    }

    /// The largest packet it may send, in bytes (4.0 `bin_interface.h` keeps room for bridge ids).
    #[must_use]
    pub const fn frame_len_max(&self) -> usize {
        match self.release {
            Some(Release::V4_0) => MAX_PACKET_LEN_4_0,
            _ => MAX_PACKET_LEN,
        }
    }
}

impl PeerTable {
    /// Senders in no row are read as `others`.
    ///
    /// # Panics
    /// For senders of 1.x, which have no streams.
    #[must_use]
    pub fn new(others: PeerSettings) -> Self {
        assert_ne!(
            others.generation,
            Generation::Legacy,
            "a stream of datagrams"
        );
        Self {
            rows: Vec::new(),
            others,
        }
    }

    /// Senders in `cidr` are read as `settings`, unless a row with a longer prefix has them. An equal row is replaced.
    ///
    /// # Errors
    /// [`PeersFull`] at [`PEERS_MAX`] rows.
    ///
    /// # Panics
    /// For senders of 1.x, which have no streams.
    pub fn add(&mut self, cidr: Cidr, settings: PeerSettings) -> Result<(), PeersFull> {
        assert_ne!(
            settings.generation,
            Generation::Legacy,
            "a stream of datagrams"
        );
        if let Some(row) = self.rows.iter_mut().find(|(known, _)| *known == cidr) {
            row.1 = settings;
            return Ok(());
        }
        if self.rows.len() == PEERS_MAX {
            return Err(PeersFull);
        }
        let at = self
            .rows
            .partition_point(|(known, _)| known.prefix_len() >= cidr.prefix_len());
        self.rows.insert(at, (cidr, settings));
        Ok(())
    }

    /// How the streams of `source` are read.
    #[must_use]
    pub fn of(&self, source: IpAddr) -> &PeerSettings {
        let source = source.to_canonical();
        let row = self.rows.iter().find(|(cidr, _)| cidr.contains(source));
        row.map_or(&self.others, |(_, settings)| settings)
    }

    /// The rows, the longest prefixes first.
    #[must_use]
    pub fn rows(&self) -> &[(Cidr, PeerSettings)] {
        &self.rows
    }

    /// How senders in no row are read.
    #[must_use]
    pub const fn others(&self) -> &PeerSettings {
        &self.others
    }
}

/// 2.3 and later, any release.
impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            generation: Generation::Modern,
            release: None,
            name: None,
        }
    }
}

/// Rows of a [`PeerTable`].
pub const PEERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn the_most_exact_row_counts_whatever_the_order() {
        let mut peers = PeerTable::default();
        let of = |release| PeerSettings::of_release(release);
        peers.add(cidr("10.0.0.0/8"), of(Release::V2_4)).unwrap();
        peers.add(cidr("10.0.0.7"), of(Release::V2_2)).unwrap();
        peers.add(cidr("10.0.0.0/24"), of(Release::V4_0)).unwrap();
        peers.add(cidr("10.0.0.0/8"), of(Release::V3_6)).unwrap();
        let release = |ip: &str| peers.of(ip.parse().unwrap()).release;
        assert_eq!(release("10.0.0.7"), Some(Release::V2_2));
        assert_eq!(release("::ffff:10.0.0.7"), Some(Release::V2_2));
        assert_eq!(release("10.0.0.8"), Some(Release::V4_0));
        assert_eq!(release("10.9.0.8"), Some(Release::V3_6));
        assert_eq!(release("192.0.2.1"), None);
        assert_eq!(peers.rows().len(), 3);
        let lens = ["10.0.0.7", "10.0.0.8", "192.0.2.1"]
            .map(|ip| peers.of(ip.parse().unwrap()).frame_len_max());
        assert_eq!(lens, [65_535, 65_515, 65_535]);
    }

    #[test]
    fn there_is_an_end_to_the_rows() {
        let mut peers = PeerTable::default();
        for n in 0..PEERS_MAX {
            let row = cidr(&format!("10.0.{}.{}", n / 256, n % 256));
            peers.add(row, PeerSettings::default()).unwrap();
        }
        let one_more = cidr("10.1.0.0");
        assert_eq!(peers.add(one_more, PeerSettings::default()), Err(PeersFull));
        assert_eq!(peers.add(cidr("10.0.0.3"), PeerSettings::default()), Ok(()));
    }
}
