//! What a capture held, in numbers.

/// Running counts; final once [`Capture::next`](crate::Capture::next) has returned `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records read (packets, whatever they carry).
    pub records: u64,
    /// Captured bytes in those records, link headers included, file headers not.
    pub bytes: u64,
    /// Records that hold less than was on the wire.
    pub truncated: u64,
    /// Records of a link type that is not known.
    pub unknown_link: u64,
    /// Records that carry neither IPv4 nor IPv6.
    pub not_ip: u64,
    /// IP packets that are neither UDP nor TCP, or not of the transport asked for.
    pub other_transport: u64,
    /// Packets whose link, IP, UDP or TCP header is cut off or contradicts itself.
    pub malformed: u64,
    /// UDP datagrams looked at, put together ones included.
    pub udp_datagrams: u64,
    /// TCP segments looked at, those without data included.
    pub tcp_segments: u64,
    /// BIN frames delivered.
    pub frames: u64,
    /// Bytes in those frames.
    pub frame_bytes: u64,
    /// UDP datagrams that are not BIN.
    pub not_bin_datagrams: u64,
    /// TCP directions with data in which no BIN frame was found.
    pub not_bin_streams: u64,
    /// IP fragments seen.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub reassembled: u64,
    /// Datagrams whose fragments are missing, cut off, or contradict each other.
    pub fragments_lost: u64,
    /// TCP segments that brought nothing new.
    pub retransmitted: u64,
    /// TCP segments that came before their predecessor.
    pub out_of_order: u64,
    /// Gaps in BIN streams.
    pub gaps: u64,
    /// Bytes of BIN streams that are not in the capture, or belong to a frame that lost its other bytes.
    pub lost_bytes: u64,
    /// Bytes of BIN streams skipped in search of the next marker.
    pub skipped_bytes: u64,
    /// TCP directions that left the table to make room.
    pub evicted_streams: u64,
    /// pcapng blocks that are not packets, interfaces or sections, or in a section of unknown version.
    pub other_blocks: u64,
    /// Problems reported.
    pub problems: u64,
}
