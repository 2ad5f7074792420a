//! What connections may cost.

use std::time::Duration;

/// The limits of connections, set at the start; what they fit is the habits of genuine nodes.
///
/// A genuine node opens one or two connections to each neighbour, writes each packet with one system call, pings every
/// 4 seconds (`ping_interval`), gives a packet 4 seconds to arrive (`tcp_max_msg_time`) and an idle connection 120
/// (`tcp_connection_lifetime`; OpenSIPS 3.6 `net/net_tcp.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLimits {
    /// Open connections, those that shake hands included (`tcp_max_connections`).
    pub connections: u32,
    /// Of one address.
    pub per_source: u32,
    /// From a packet's first byte to its last (`tcp_max_msg_time`).
    pub frame_deadline: Duration,
    /// Between two arrivals (`tcp_connection_lifetime`).
    pub idle: Duration,
    /// Pieces that one packet may come in (`bin_max_msg_chunks`); `None`: the deadline alone counts, because a far peer's
    /// packet of 64 KiB comes in more segments than OpenSIPS's 32.
    pub pieces: Option<u32>,
    /// TCP_USER_TIMEOUT: how long the peer may leave data, or keepalives, unanswered. It takes the place of the
    /// keepalives' count (tcp(7)).
    pub user_timeout: Duration,
    /// `None` sends none (`tcp_keepalive` 0).
    pub keepalive: Option<Keepalive>,
    /// Bytes that one connection may hold: a begun packet, and packets that wait for a slow shard. When packets wait and
    /// it is more, reading pauses, and goes on at half of it.
    pub memory_per_connection: usize,
    /// Memory for what all connections of one shard hold together, in bytes; an engine gives each of its shards its part
    /// of `stream_memory`. Beyond, those that wait for other shards pause, no new ones are taken over, and one that begins
    /// another packet is closed. TLS sessions, some 8 KiB each, are not in it.
    pub memory: usize,
    /// From a connection's arrival to the end of its TLS handshake (`bins_handshake_timeout`).
    pub handshake: Duration,
    /// TLS handshakes under way at once; an eighth of them, at least one, of one address.
    pub handshakes: u32,
    /// Connections that the kernel keeps until they are accepted (`tcp_socket_backlog`).
    pub backlog: u32,
    /// Receive buffer to ask the kernel for, in bytes; `None` leaves it to the kernel, which adapts it.
    pub rcvbuf: Option<usize>,
}

/// When the kernel asks a silent peer whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// After so much silence (`tcp_keepidle`).
    pub idle: Duration,
    /// And then so often (`tcp_keepinterval`).
    pub interval: Duration,
    /// So many times (`tcp_keepcount`).
    pub count: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections: 2048,
            per_source: 64,
            frame_deadline: Duration::from_secs(4),
            idle: Duration::from_secs(120),
            pieces: None,
            user_timeout: Duration::from_secs(20),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(10),
                interval: Duration::from_secs(5),
                count: 3,
            }),
            memory_per_connection: 1 << 20,
            memory: 64 << 20,
            handshake: Duration::from_secs(5),
            handshakes: 64,
            backlog: 511,
            rcvbuf: None,
        }
    }
}
