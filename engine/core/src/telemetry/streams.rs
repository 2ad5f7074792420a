//! The counters of one shard's connections: by source address, one writer, any number of readers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_queue::ArrayQueue;

use super::ledger::Counter;
use crate::access::Cidr;
use crate::stream::counts::{CONNECTIONS_TOLD_MAX, PEER_ROWS_MAX};
use crate::stream::{
    CloseReason, ConnectionCounts, PeerCounts, PeerTable, StreamCounts, StreamSnapshot,
};

/// Which address has which row, the same on all shards of an engine: so what was counted of one is in one place, and
/// stays there.
#[derive(Debug)]
pub struct PeerRows {
    /// Taken from the first one on.
    rows: [OnceLock<IpAddr>; PEER_ROWS_MAX],
    /// Whom the last [`KEPT`] rows are for, if there is anybody; other addresses do not get those.
    kept_for: Vec<Cidr>,
}

/// What one shard counted of its connections, to read from any thread.
#[derive(Debug)]
pub(crate) struct StreamBook {
    addresses: Arc<PeerRows>,
    rows: Box<[Sums]>,
    others: Sums,
    /// As they were told last: written a few times a second, so a lock is no burden.
    open: Mutex<Vec<ConnectionCounts>>,
    /// The last ones that were closed and not looked at yet.
    closed: ArrayQueue<ConnectionCounts>,
}

/// The one right to write a [`StreamBook`]; belongs to its shard.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    book: Arc<StreamBook>,
    shard: u16,
}

/// Where the counts of an address are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRow {
    /// In a row of their own.
    Own(u8),
    /// With those of all that came too late for one.
    Others,
}

/// [`StreamCounts`] that others read meanwhile.
#[derive(Debug, Default)]
struct Sums {
    opened: Counter,
    open: Counter,
    closed: [Counter; CloseReason::COUNT],
    rx_bytes: Counter,
    frames: Counter,
    frame_bytes: Counter,
    skipped_bytes: Counter,
    partial_bytes: Counter,
    rejected_bytes: Counter,
    unread_bytes: Counter,
    held_bytes: Counter,
    spilled: Counter,
    spilled_bytes: Counter,
    pauses: Counter,
}

impl PeerRows {
    /// Rows for the addresses in `nodes` and those that `peers` names one by one; half of all for who comes from the
    /// networks in `nodes`, if there are any; the others are for who comes first.
    #[must_use]
    pub fn new(nodes: &[Cidr], peers: &PeerTable) -> Arc<Self> {
        let is_one =
            |cidr: &Cidr| usize::from(cidr.prefix_len()) == if cidr.is_ipv6() { 128 } else { 32 };
        let (ones, networks): (Vec<Cidr>, Vec<Cidr>) = nodes.iter().copied().partition(is_one);
        let rows = Self {
            rows: [const { OnceLock::new() }; PEER_ROWS_MAX],
            kept_for: networks,
        };
        let peers = peers.rows().iter().map(|(cidr, _)| *cidr);
        for cidr in ones.into_iter().chain(peers.filter(is_one)) {
            rows.first_of(PEER_ROWS_MAX, cidr.network().to_canonical());
        }
        Arc::new(rows)
    }

    /// The row of `addr`, a new one if there is room.
    fn of(&self, addr: IpAddr) -> PeerRow {
        let mut kept_for = self.kept_for.iter();
        let is_stranger = !self.kept_for.is_empty() && !kept_for.any(|range| range.contains(addr));
        self.first_of(PEER_ROWS_MAX - if is_stranger { KEPT } else { 0 }, addr)
    }

    /// The row of `addr` among all, or else a new one among the first `most`.
    fn first_of(&self, most: usize, addr: IpAddr) -> PeerRow {
        let rows = (0..=u8::MAX).zip(&self.rows);
        let mut rows = rows.map(|(index, row)| match usize::from(index) < most {
            true => (index, Some(row.get_or_init(|| addr))),
            false => (index, row.get()),
        });
        let own = rows.find(|(_, taken)| *taken == Some(&addr));
        own.map_or(PeerRow::Others, |(index, _)| PeerRow::Own(index))
    }
}

impl StreamBook {
    /// Zeros, and the right to count.
    pub(crate) fn new(shard: u16, addresses: Arc<PeerRows>) -> (Arc<Self>, StreamWriter) {
        let book = Arc::new(Self {
            addresses,
            rows: (0..PEER_ROWS_MAX).map(|_| Sums::default()).collect(),
            others: Sums::default(),
            open: Mutex::new(Vec::with_capacity(CONNECTIONS_TOLD_MAX)),
            closed: ArrayQueue::new(CONNECTIONS_TOLD_MAX),
        });
        let writer = StreamWriter {
            book: Arc::clone(&book),
            shard,
        };
        (book, writer)
    }

    /// Adds what this shard counted to `snapshot`; what was closed is told once.
    pub(crate) fn read_into(&self, snapshot: &mut StreamSnapshot) {
        let others = self.others.get();
        snapshot.others.add(&others);
        snapshot.total.add(&others);
        for (addr, sums) in self.addresses.rows.iter().zip(&self.rows) {
            let Some(addr) = addr.get() else { break };
            let counts = sums.get();
            snapshot.total.add(&counts);
            match snapshot.peers.iter_mut().find(|peer| peer.addr == *addr) {
                Some(peer) => peer.counts.add(&counts),
                None => snapshot.peers.push(PeerCounts {
                    addr: *addr,
                    name: None,
                    counts,
                }),
            }
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.connections.extend_from_slice(&open);
        while let Some(closed) = self.closed.pop() {
            snapshot.connections.push(closed);
        }
    }
}

impl StreamWriter {
    /// The row of `addr`, a new one if there is room.
    pub(crate) fn row(&mut self, addr: IpAddr) -> PeerRow {
        self.book.addresses.of(addr)
    }

    /// Counts `news` of a connection.
    #[inline]
    pub(crate) fn add(&mut self, row: PeerRow, news: &StreamCounts) {
        let sums = match row {
            PeerRow::Own(index) => &self.book.rows[usize::from(index)],
            PeerRow::Others => &self.book.others,
        };
        sums.add(news);
    }

    /// A connection was closed; when nobody looks for long, the oldest is forgotten.
    pub(crate) fn tell_closed(&mut self, closed: ConnectionCounts) {
        self.book.closed.force_push(closed);
    }

    /// These are open now; of many, the first.
    pub(crate) fn tell_open(&mut self, open: impl Iterator<Item = ConnectionCounts>) {
        // Whoever reads now reads what was told before.
        if let Ok(mut told) = self.book.open.try_lock() {
            told.clear();
            told.extend(open.take(CONNECTIONS_TOLD_MAX));
        }
    }

    /// As [`StreamBook::read_into`].
    pub(crate) fn read_into(&self, snapshot: &mut StreamSnapshot) {
        self.book.read_into(snapshot);
    }

    pub(crate) const fn shard(&self) -> u16 {
        self.shard
    }
}

impl Sums {
    #[inline]
    fn add(&self, news: &StreamCounts) {
        self.rx_bytes.add(news.rx_bytes);
        self.frames.add(news.frames);
        self.frame_bytes.add(news.frame_bytes);
        self.held_bytes.add(news.held_bytes);
        let common = StreamCounts {
            rx_bytes: news.rx_bytes,
            frames: news.frames,
            frame_bytes: news.frame_bytes,
            held_bytes: news.held_bytes,
            ..StreamCounts::default()
        };
        if *news != common {
            self.add_rare(news);
        }
    }

    #[cold]
    fn add_rare(&self, news: &StreamCounts) {
        for (counter, count) in self.closed.iter().zip(news.closed) {
            counter.add(count);
        }
        for (counter, count) in [
            (&self.opened, news.opened),
            (&self.open, news.open),
            (&self.skipped_bytes, news.skipped_bytes),
            (&self.partial_bytes, news.partial_bytes),
            (&self.rejected_bytes, news.rejected_bytes),
            (&self.unread_bytes, news.unread_bytes),
            (&self.spilled, news.spilled),
            (&self.spilled_bytes, news.spilled_bytes),
            (&self.pauses, news.pauses),
        ] {
            counter.add(count);
        }
    }

    fn get(&self) -> StreamCounts {
        StreamCounts {
            opened: self.opened.get(),
            open: self.open.get(),
            closed: std::array::from_fn(|index| self.closed[index].get()),
            rx_bytes: self.rx_bytes.get(),
            frames: self.frames.get(),
            frame_bytes: self.frame_bytes.get(),
            skipped_bytes: self.skipped_bytes.get(),
            partial_bytes: self.partial_bytes.get(),
            rejected_bytes: self.rejected_bytes.get(),
            unread_bytes: self.unread_bytes.get(),
            held_bytes: self.held_bytes.get(),
            spilled: self.spilled.get(),
            spilled_bytes: self.spilled_bytes.get(),
            pauses: self.pauses.get(),
        }
    }
}

/// Rows for those who come from networks of nodes: as many as a cluster has, which is half of all.
const KEPT: usize = PEER_ROWS_MAX / 2;

/// [`PeerRow::Own`] has a number for each.
const _: () = assert!(PEER_ROWS_MAX == 1 << u8::BITS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::PeerSettings;

    fn rows() -> Arc<PeerRows> {
        PeerRows::new(&[], &PeerTable::default())
    }

    fn addr(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    #[test]
    fn addresses_keep_their_rows_and_late_ones_share_one() {
        let (book, mut writer) = StreamBook::new(3, rows());
        let one = StreamCounts {
            opened: 1,
            open: 1,
            ..StreamCounts::default()
        };
        for n in (0..300).chain([5, 299]) {
            let row = writer.row(addr(n));
            writer.add(row, &one);
        }
        let mut snapshot = StreamSnapshot::default();
        book.read_into(&mut snapshot);
        assert_eq!(snapshot.peers.len(), PEER_ROWS_MAX);
        assert_eq!(
            (snapshot.peers[5].addr, snapshot.peers[5].counts.opened),
            (addr(5), 2)
        );
        assert_eq!(snapshot.others.opened, 300 - 256 + 1);
        assert_eq!(snapshot.total.opened, 302);
        assert!(snapshot.is_balanced());
    }

    #[test]
    fn shards_add_up_by_address_also_when_they_met_them_in_another_order() {
        let (mut snapshot, rows) = (StreamSnapshot::default(), rows());
        for order in [[1, 2], [2, 1]] {
            let (book, mut writer) = StreamBook::new(0, Arc::clone(&rows));
            for n in order {
                let row = writer.row(addr(n));
                let news = StreamCounts {
                    rx_bytes: n.into(),
                    frame_bytes: n.into(),
                    frames: 1,
                    ..StreamCounts::default()
                };
                writer.add(row, &news);
            }
            book.read_into(&mut snapshot);
        }
        let rows: Vec<_> = snapshot
            .peers
            .iter()
            .map(|peer| (peer.addr, peer.counts.frame_bytes))
            .collect();
        assert_eq!(rows, [(addr(1), 2), (addr(2), 4)]);
        assert_eq!(snapshot.total.frames, 4);
    }

    #[test]
    fn who_is_named_has_a_row_also_when_strangers_come_first() {
        let mut peers = PeerTable::default();
        for cidr in ["10.9.9.9", "10.8.0.0/16"] {
            peers
                .add(cidr.parse().unwrap(), PeerSettings::default())
                .unwrap();
        }
        // A cluster as large as one may be.
        let nodes: Vec<IpAddr> = (0..127).map(|n| [172, 16, 0, n].into()).collect();
        let told: Vec<Cidr> = nodes.iter().copied().map(Cidr::from).collect();
        let rows = PeerRows::new(&told, &peers);
        for n in 0..300 {
            rows.of(addr(n));
        }
        for (n, node) in (0..).zip(nodes) {
            assert_eq!(rows.of(node), PeerRow::Own(n));
        }
        assert_eq!(rows.of([10, 9, 9, 9].into()), PeerRow::Own(127));
        assert_eq!(rows.of([10, 8, 0, 1].into()), PeerRow::Others);
    }

    #[test]
    fn strangers_leave_half_of_the_rows_to_networks_of_nodes() {
        let network = "192.0.2.0/24".parse().unwrap();
        let rows = PeerRows::new(&[Cidr::from(addr(7)), network], &PeerTable::default());
        for n in 0..300 {
            rows.of(addr(n));
        }
        assert_eq!(rows.of(addr(7)), PeerRow::Own(0));
        assert_eq!(rows.of(addr(127)), PeerRow::Own(127));
        assert_eq!(rows.of(addr(128)), PeerRow::Others);
        let node = |n| rows.of([192, 0, 2, n].into());
        for n in 0..128 {
            assert_eq!(node(n), PeerRow::Own(128 + n));
        }
        assert_eq!(node(200), PeerRow::Others);
        assert_eq!(node(127), PeerRow::Own(255), "it has the last one");
    }

    #[test]
    fn what_goes_down_again_adds_up_to_what_there_is() {
        let (book, mut writer) = StreamBook::new(0, rows());
        let row = writer.row(addr(1));
        for held in [50_u64, 0_u64.wrapping_sub(20), 0_u64.wrapping_sub(30), 7] {
            let news = StreamCounts {
                held_bytes: held,
                ..StreamCounts::default()
            };
            writer.add(row, &news);
        }
        let mut snapshot = StreamSnapshot::default();
        book.read_into(&mut snapshot);
        assert_eq!(snapshot.total.held_bytes, 7);
    }
}
