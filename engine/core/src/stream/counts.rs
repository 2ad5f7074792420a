//! What is counted of connections.
//!
//! ```text
//!   of a connection, at its end:  rx_bytes = frame_bytes + skipped_bytes + partial_bytes + rejected_bytes
//!   while it lives:               rx_bytes = frame_bytes + skipped_bytes + held_bytes
//! ```
//!
//! Over TLS, `rx_bytes` are those inside it. Packets cut out of streams are also in
//! [`Counts::received`](crate::Counts), so that each comes to one outcome.

use std::net::{IpAddr, SocketAddr};

use super::reason::{CloseReason, RefuseReason};

/// All about connections at one moment, by value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSnapshot {
    /// What the acceptor took and refused.
    pub accept: AcceptCounts,
    /// The sums over all connections that there were.
    pub total: StreamCounts,
    /// By source address, those that came first; what did not get a row is in [`others`](Self::others). In the order
    /// in which they first came.
    pub peers: Vec<PeerCounts>,
    /// The connections of addresses without a row.
    pub others: StreamCounts,
    /// Connections that are open, at most [`CONNECTIONS_TOLD_MAX`]; and then those that were closed since the last
    /// snapshot, at most as many.
    pub connections: Vec<ConnectionCounts>,
    /// Connections to others.
    pub links: Vec<LinkCounts>,
}

/// What the acceptor did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptCounts {
    /// Connections that came out of accept(2): `arrived = handed + Σ refused + shaking`.
    pub arrived: u64,
    /// Handed to a shard.
    pub handed: u64,
    /// TLS handshakes under way now.
    pub shaking: u64,
    /// Not taken, by [`RefuseReason`].
    pub refused: [u64; RefuseReason::COUNT],
    /// Times that accepting paused because there was no descriptor or no memory.
    pub starved: u64,
}

/// What shards counted of connections: of one peer, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamCounts {
    /// Connections that shards took over: `opened = open + Σ closed`.
    pub opened: u64,
    /// Open now.
    pub open: u64,
    /// Closed, by [`CloseReason`].
    pub closed: [u64; CloseReason::COUNT],
    /// Bytes received, inside TLS where there is any.
    pub rx_bytes: u64,
    /// Packets cut out of them.
    pub frames: u64,
    /// Bytes of these.
    pub frame_bytes: u64,
    /// Bytes between packets that were passed over; in streams of 2.2 only.
    pub skipped_bytes: u64,
    /// Bytes of packets that were begun and never finished.
    pub partial_bytes: u64,
    /// Bytes that were received and not read any more, because the connection was closed for what stood before them.
    pub rejected_bytes: u64,
    /// Bytes that the kernel had acknowledged and that were not read, because the connection was closed. They are in no
    /// other count here.
    pub unread_bytes: u64,
    /// Bytes of packets that are begun now.
    pub held_bytes: u64,
    /// Packets that had to wait for a shard that did not keep up.
    pub spilled: u64,
    /// Bytes of packets that wait so now.
    pub spilled_bytes: u64,
    /// Times that reading a connection paused because it held all it may.
    pub pauses: u64,
}

/// What was counted of one source address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCounts {
    /// The address.
    pub addr: IpAddr,
    /// What the configuration calls it.
    pub name: Option<String>,
    /// The counts.
    pub counts: StreamCounts,
}

/// What was counted of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The shard that reads it.
    pub shard: u16,
    /// Whether it is inside TLS.
    pub tls: bool,
    /// Why it was closed; `None` while it is open.
    pub closed: Option<CloseReason>,
    /// The counts; `opened` is 1.
    pub counts: StreamCounts,
}

/// What was counted of one connection to another node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LinkCounts {
    /// Where it leads, `bin:10.0.0.2:5555`.
    pub to: String,
    /// Whether it is up now.
    pub up: bool,
    /// Times that it came up.
    pub connects: u64,
    /// Attempts that failed.
    pub connect_failures: u64,
    /// Times that it broke after it was up.
    pub breaks: u64,
    /// Packets taken into the queue: `queued = sent + lost + waiting`.
    pub queued: u64,
    /// Packets whose last byte was handed to the kernel.
    pub sent: u64,
    /// Bytes handed to the kernel, inside TLS where there is any.
    pub sent_bytes: u64,
    /// Packets that were taken and given up: begun when the connection broke, too old, or still there at the stop.
    pub lost: u64,
    /// Packets in the queue now.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Packets that had to wait because the connection was not up, or took nothing.
    pub postponed: u64,
    /// Packets refused because the queue was full.
    pub refused: u64,
    /// The last failure, in words; empty when there was none.
    pub last_failure: String,
}

impl StreamSnapshot {
    /// Whether all is told: every connection and every byte.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let peers = self.peers.iter().map(|peer| &peer.counts);
        self.accept.is_balanced()
            && peers
                .chain([&self.total, &self.others])
                .all(StreamCounts::is_balanced)
            && self
                .connections
                .iter()
                .all(|each| each.counts.is_balanced())
            && self.links.iter().all(LinkCounts::is_balanced)
    }
}

impl StreamSnapshot {
    /// What was counted since `earlier`. Open connections are told as they are now, with all they counted.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let peers = self.peers.iter().map(|now| {
            let then = earlier.peers.iter().find(|then| then.addr == now.addr);
            let counts = then.map_or(now.counts, |then| now.counts.since(&then.counts));
            PeerCounts {
                counts,
                ..now.clone()
            }
        });
        let of_link = |now: &LinkCounts| {
            let then = earlier.links.iter().find(|then| then.to == now.to);
            then.map_or_else(|| now.clone(), |then| now.since(then))
        };
        Self {
            accept: self.accept.since(&earlier.accept),
            total: self.total.since(&earlier.total),
            peers: peers.collect(),
            others: self.others.since(&earlier.others),
            connections: self.connections.clone(),
            links: self.links.iter().map(of_link).collect(),
        }
    }
}

impl AcceptCounts {
    /// How many were refused for `reason`.
    #[must_use]
    pub const fn refused_for(&self, reason: RefuseReason) -> u64 {
        self.refused[reason as usize]
    }

    /// Whether every connection that came was handed on, refused, or is shaking hands.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.arrived == self.handed + self.shaking + self.refused.iter().sum::<u64>()
    }

    /// What was counted since `earlier`; `shaking` is that of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            arrived: self.arrived - earlier.arrived,
            handed: self.handed - earlier.handed,
            shaking: self.shaking,
            refused: std::array::from_fn(|index| self.refused[index] - earlier.refused[index]),
            starved: self.starved - earlier.starved,
        }
    }
}

impl StreamCounts {
    /// How many were closed for `reason`.
    #[must_use]
    pub const fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Whether every byte received is in a packet, passed over, held, or was given up with its connection; and every
    /// connection open or closed for a reason.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let told = self.frame_bytes
            + self.skipped_bytes
            + self.partial_bytes
            + self.rejected_bytes
            + self.held_bytes;
        self.rx_bytes == told && self.opened == self.open + self.closed.iter().sum::<u64>()
    }

    /// Adds what was counted elsewhere.
    ///
    /// Of what goes down again a part may be a difference below 0, as its two's complement.
    pub fn add(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine = mine.wrapping_add(theirs));
    }

    /// What was counted since `earlier`; what is now (`open`, `held_bytes`, `spilled_bytes`) stays as it is, so a
    /// difference does not balance.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        let counted = Self {
            open: 0,
            held_bytes: 0,
            spilled_bytes: 0,
            ..*earlier
        };
        since.each(&counted, |mine, theirs| *mine -= theirs);
        since
    }

    fn each(&mut self, other: &Self, mut with: impl FnMut(&mut u64, u64)) {
        for (mine, theirs) in self.closed.iter_mut().zip(other.closed) {
            with(mine, theirs);
        }
        for (mine, theirs) in [
            (&mut self.opened, other.opened),
            (&mut self.open, other.open),
            (&mut self.rx_bytes, other.rx_bytes),
            (&mut self.frames, other.frames),
            (&mut self.frame_bytes, other.frame_bytes),
            (&mut self.skipped_bytes, other.skipped_bytes),
            (&mut self.partial_bytes, other.partial_bytes),
            (&mut self.rejected_bytes, other.rejected_bytes),
            (&mut self.unread_bytes, other.unread_bytes),
            (&mut self.held_bytes, other.held_bytes),
            (&mut self.spilled, other.spilled),
            (&mut self.spilled_bytes, other.spilled_bytes),
            (&mut self.pauses, other.pauses),
        ] {
            with(mine, theirs);
        }
    }
}

impl LinkCounts {
    /// What was counted since `earlier`; what is now stays as it is, so a difference does not balance.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        // A link that was removed and made anew begins at zero.
        let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            connects: since(self.connects, earlier.connects),
            connect_failures: since(self.connect_failures, earlier.connect_failures),
            breaks: since(self.breaks, earlier.breaks),
            queued: since(self.queued, earlier.queued),
            sent: since(self.sent, earlier.sent),
            sent_bytes: since(self.sent_bytes, earlier.sent_bytes),
            lost: since(self.lost, earlier.lost),
            postponed: since(self.postponed, earlier.postponed),
            refused: since(self.refused, earlier.refused),
            ..self.clone()
        }
    }

    /// Whether every packet taken was sent, lost, or waits.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.queued == self.sent + self.lost + self.waiting
    }
}

/// Source addresses with a row of their own: the nodes of a large cluster, and as many again.
pub const PEER_ROWS_MAX: usize = 256;

/// Connections in a snapshot.
pub const CONNECTIONS_TOLD_MAX: usize = 256;
