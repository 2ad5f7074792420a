//! What was wrong in a capture, and where.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

use binrush_wire::WireError;

/// Something in a capture that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Record at which it was noticed, counted from 1; for a broken record its own number, for what lies
    /// between records that of the next one.
    pub number: u64,
    /// Where.
    pub place: Place,
    /// What.
    pub kind: ProblemKind,
}

/// Where a problem lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the file (unpacked, when it was gzipped).
    File {
        /// Of the record or block, in bytes from the beginning.
        offset: u64,
    },
    /// In an IP datagram that came in fragments.
    Packet {
        /// Sender.
        src: IpAddr,
        /// Receiver.
        dst: IpAddr,
    },
    /// In a UDP datagram.
    Datagram {
        /// Sender.
        src: SocketAddr,
        /// Receiver.
        dst: SocketAddr,
    },
    /// In one direction of a TCP connection.
    Stream {
        /// Sender.
        src: SocketAddr,
        /// Receiver.
        dst: SocketAddr,
        /// In bytes from the first one seen of the connection.
        offset: u64,
    },
}

/// What was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The file ends inside a record or block.
    CutOff {
        /// Bytes the record takes, its header included.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// Reading the file failed; nothing after this place can be read.
    Unreadable {
        /// What the reader or the gzip decoder said.
        error: String,
    },
    /// A pcap record whose header cannot be true; reading goes on where one record seems to follow another.
    BrokenRecord {
        /// Bytes that it claims.
        len: u64,
        /// Bytes skipped, its header included; all the rest of the file when no records follow.
        skipped: u64,
    },
    /// A pcapng block has a length that no block can have; the next one cannot be found.
    BlockLength {
        /// Bytes claimed.
        len: u64,
    },
    /// A pcapng section has no byte order mark; the next block cannot be found.
    ByteOrder,
    /// A pcapng section in a version of the format that is not known; its blocks are skipped.
    SectionVersion {
        /// Version in the file.
        major: u16,
        /// Version in the file.
        minor: u16,
    },
    /// A pcapng block with more bytes than are buffered for one; it was skipped.
    BlockTooLong {
        /// Its length in bytes.
        len: u64,
    },
    /// The lengths at the two ends of a pcapng block differ; the first one was believed.
    BlockEnd {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
    /// A pcapng block too short for its own fields; it was skipped.
    BlockFields {
        /// Its type.
        block: u32,
    },
    /// A packet of a pcapng interface that was not described, or not readably; it was skipped.
    UnknownInterface {
        /// Its number.
        interface: u32,
    },
    /// More pcapng interfaces than are kept; the packets of the others are skipped.
    TooManyInterfaces,
    /// A link type that is not known: the packets of this interface are skipped. Said once.
    UnknownLink {
        /// LINKTYPE_ number.
        link: u32,
    },
    /// A header that is cut off or contradicts itself; the packet was skipped.
    Header {
        /// Whose header.
        layer: Layer,
    },
    /// A BIN datagram of which the capture kept only the beginning (snap length).
    Truncated {
        /// Bytes sent.
        need: usize,
        /// Bytes kept.
        have: usize,
    },
    /// Fragments of a datagram are missing.
    FragmentsMissing {
        /// IP identification.
        id: u32,
        /// Bytes that did come.
        have: usize,
        /// Why the rest is no longer waited for.
        cause: Cause,
    },
    /// Fragments of a datagram contradict each other (overlap, lengths); it was dropped.
    FragmentsConflict {
        /// IP identification.
        id: u32,
    },
    /// Bytes of a stream are not in the capture; reading goes on at the next marker.
    Gap {
        /// Bytes missing.
        bytes: u64,
        /// Bytes before them that were dropped, as the rest of their frame is missing.
        dropped: usize,
        /// Why they are no longer waited for.
        cause: Cause,
    },
    /// The sequence numbers jump further than any window: taken for a new connection.
    Jump,
    /// Bytes sent before the first ones seen came late; they were dropped.
    BeforeStart {
        /// How many.
        bytes: u64,
    },
    /// No frame can begin here; reading goes on at the next marker.
    BrokenFrame(WireError),
    /// Bytes between two frames that belong to none.
    Skipped {
        /// How many.
        bytes: u64,
        /// Markers among them at which no frame could begin; only the first was said on its own.
        markers: u64,
    },
    /// A stream ended inside a frame.
    Unfinished {
        /// Bytes of it that came.
        bytes: usize,
        /// What ended it.
        cause: Cause,
    },
}

/// Why missing bytes are no longer waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The receiver acknowledged them: they were sent, and the capture missed them.
    Acknowledged,
    /// The capture kept only the beginning of the packet (snap length).
    SnapLength,
    /// What came after them reached a limit in memory.
    Limit,
    /// Too much time passed.
    Timeout,
    /// The connection was closed or begun anew.
    Closed,
    /// The capture ended.
    End,
}

/// A header below BIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the protocols' names")]
pub enum Layer {
    Link,
    Ipv4,
    Ipv6,
    Udp,
    Tcp,
}

impl ProblemKind {
    /// The symbol that logs and JSON use.
    #[must_use]
    pub const fn symbol(&self) -> &'static str {
        match self {
            Self::CutOff { .. } => "cut_off",
            Self::Unreadable { .. } => "unreadable",
            Self::BrokenRecord { .. } => "broken_record",
            Self::BlockLength { .. } => "block_length",
            Self::ByteOrder => "byte_order",
            Self::SectionVersion { .. } => "section_version",
            Self::BlockTooLong { .. } => "block_too_long",
            Self::BlockEnd { .. } => "block_end",
            Self::BlockFields { .. } => "block_fields",
            Self::UnknownInterface { .. } => "unknown_interface",
            Self::TooManyInterfaces => "too_many_interfaces",
            Self::UnknownLink { .. } => "unknown_link",
            Self::Header { .. } => "bad_header",
            Self::Truncated { .. } => "truncated",
            Self::FragmentsMissing { .. } => "fragments_missing",
            Self::FragmentsConflict { .. } => "fragments_conflict",
            Self::Gap { .. } => "gap",
            Self::Jump => "sequence_jump",
            Self::BeforeStart { .. } => "before_start",
            Self::BrokenFrame(_) => "broken_frame",
            Self::Skipped { .. } => "skipped",
            Self::Unfinished { .. } => "unfinished",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}, {}: {}", self.number, self.place, self.kind)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { offset } => write!(f, "file offset {offset}"),
            Self::Packet { src, dst } => write!(f, "IP {src} > {dst}"),
            Self::Datagram { src, dst } => write!(f, "UDP {src} > {dst}"),
            Self::Stream { src, dst, offset } => {
                write!(f, "TCP {src} > {dst} stream offset {offset}")
            }
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff { need, have } => {
                write!(
                    f,
                    "the file ends inside a record (need {need}, have {have} bytes)"
                )
            }
            Self::Unreadable { error } => write!(f, "reading stops here: {error}"),
            Self::BrokenRecord { len, skipped } => write!(
                f,
                "broken record header (claims {len} bytes): {skipped} bytes skipped"
            ),
            Self::BlockLength { len } => write!(
                f,
                "block claims {len} bytes; the next one cannot be found, reading stops"
            ),
            Self::ByteOrder => f.write_str("section without byte order mark; reading stops"),
            Self::SectionVersion { major, minor } => write!(
                f,
                "section of pcapng version {major}.{minor}, which is not known: skipped"
            ),
            Self::BlockTooLong { len } => write!(f, "block of {len} bytes is too long: skipped"),
            Self::BlockEnd { first, last } => write!(
                f,
                "block says {first} bytes at its head and {last} at its end; the head was believed"
            ),
            Self::BlockFields { block } => {
                write!(
                    f,
                    "block of type {block:#x} is too short for its fields: skipped"
                )
            }
            Self::UnknownInterface { interface } => {
                write!(
                    f,
                    "packet of interface {interface}, which is not described: skipped"
                )
            }
            Self::TooManyInterfaces => {
                f.write_str("too many interfaces: packets of this one and later ones are skipped")
            }
            Self::UnknownLink { link } => {
                write!(f, "link type {link} is not known: its packets are skipped")
            }
            Self::Header { layer } => {
                write!(
                    f,
                    "{layer:?} header is cut off or contradicts itself: packet skipped"
                )
            }
            Self::Truncated { need, have } => {
                write!(f, "the capture kept {have} of {need} bytes of the datagram")
            }
            Self::FragmentsMissing { id, have, cause } => {
                write!(
                    f,
                    "fragments of datagram {id:#x} are missing, {have} bytes came ({cause})"
                )
            }
            Self::FragmentsConflict { id } => {
                write!(
                    f,
                    "fragments of datagram {id:#x} contradict each other: dropped"
                )
            }
            Self::Gap {
                bytes,
                dropped,
                cause,
            } => write!(
                f,
                "gap of {bytes} bytes ({cause}), {dropped} bytes of an incomplete frame dropped"
            ),
            Self::Jump => f.write_str("sequence numbers jump: taken for a new connection"),
            Self::BeforeStart { bytes } => {
                write!(f, "{bytes} bytes from before the first ones seen: dropped")
            }
            Self::BrokenFrame(error) => write!(f, "no frame can begin here: {error}"),
            Self::Skipped { bytes, markers } => write!(
                f,
                "{bytes} bytes before this belong to no frame ({markers} false markers)"
            ),
            Self::Unfinished { bytes, cause } => {
                write!(
                    f,
                    "{bytes} bytes of an incomplete frame at the end ({cause})"
                )
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "acknowledged by the receiver, missed by the capture",
            Self::SnapLength => "cut off by the snap length",
            Self::Limit => "memory limit reached",
            Self::Timeout => "timed out",
            Self::Closed => "connection closed",
            Self::End => "end of the capture",
        })
    }
}
