//! Where packets go: a socket for 1.x, a connection for all others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use binrush_engine::link::Refused;
use binrush_wire::{Generation, Release};

use super::datagrams::Datagrams;
use crate::send::stream::{Connection, Receiver, Terms};

/// A node, as the command line names it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    Udp(SocketAddr),
    Stream(Receiver),
}

/// The way to it.
pub(super) enum Sender {
    /// Of a dry run.
    Nobody,
    Udp(Datagrams),
    Stream(Connection),
}

/// How it ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Packets that were taken and are not sent.
    pub(super) lost: u64,
    /// How often a node that was there refused a datagram.
    pub(super) refusals: u64,
    pub(super) trouble: Option<anyhow::Error>,
}

impl Door {
    /// Where `text` leads to a node of `release`.
    ///
    /// # Errors
    /// It is no address, or one that the release does not listen on.
    pub(super) fn parse(text: &str, release: Release) -> anyhow::Result<Self> {
        let form = || {
            format!(
                "--to {text}: bin:IP:PORT expected, such as bin:10.0.0.9:5566; tls:IP:PORT for bins"
            )
        };
        let (transport, addr) = text.split_once(':').with_context(form)?;
        let addr: SocketAddr = addr.parse().ok().with_context(form)?;
        let legacy = release.generation() == Generation::Legacy;
        let stream = |tls| Ok(Self::Stream(Receiver { tls, addr }));
        match transport {
            "bin" | "udp" if legacy => Ok(Self::Udp(addr)),
            "bin" | "tcp" if !legacy => stream(false),
            "tls" if release >= Release::V3_2 => stream(true),
            "udp" => bail!("{release} listens on TCP: --to tcp:{addr}"),
            "tcp" => bail!("{release} listens on UDP: --to udp:{addr}"),
            "tls" => bail!("{release} has no TLS, which began with 3.2: --to bin:{addr}"),
            _ => bail!(form()),
        }
    }

    pub(super) const fn is_tls(&self) -> bool {
        matches!(self, Self::Stream(Receiver { tls: true, .. }))
    }

    /// Packets per second where nobody said how many.
    pub(super) const fn usual_rate(&self) -> u32 {
        match self {
            // A 1.x node reads with one process unless configured, into a buffer of some 200 datagrams unless the host was
            // tuned: so it may be busy for a tenth of a second.
            Self::Udp(_) => 2_000,
            Self::Stream(_) => 10_000,
        }
    }
}

impl Sender {
    /// Opens the way.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn open(door: &Door, terms: &Terms) -> anyhow::Result<Self> {
        match *door {
            Door::Udp(to) => {
                let from = terms.bind.unwrap_or_else(|| any_of(to));
                let socket = UdpSocket::bind((from, 0))
                    .with_context(|| format!("cannot send from {from}"))?;
                socket
                    .connect(to)
                    .with_context(|| format!("cannot reach udp:{to}"))?;
                socket.set_write_timeout(Some(STALL))?;
                Ok(Self::Udp(Datagrams::new(socket, to)))
            }
            Door::Stream(to) => Connection::open(to, terms).map(Self::Stream),
        }
    }

    /// Hands one packet over, and waits while the receiver of a connection does not read.
    ///
    /// # Errors
    /// It cannot be sent, and nothing behind it can.
    pub(super) fn put(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Udp(datagrams) => datagrams.put(packet),
            Self::Stream(connection) => put_stream(connection, packet),
        }
    }

    /// Waits until everything has gone, or cannot any more.
    pub(super) fn finish(self) -> Ended {
        match self {
            Self::Nobody => Ended::default(),
            Self::Udp(datagrams) => datagrams.finish(),
            Self::Stream(connection) => {
                let ended = connection.finish(STALL);
                Ended {
                    lost: ended.lost,
                    refusals: 0,
                    trouble: ended.trouble,
                }
            }
        }
    }
}

/// As long as the receiver takes anything at all.
fn put_stream(connection: &Connection, packet: &[u8]) -> anyhow::Result<()> {
    let mut last = (connection.sent(), Instant::now());
    loop {
        if let Some(failure) = connection.failure() {
            bail!("{failure}");
        }
        if connection.waiting_bytes() < AHEAD_MAX {
            match connection.send(packet) {
                Ok(()) => return Ok(()),
                Err(Refused::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let sent = connection.sent();
        if sent != last.0 {
            last = (sent, Instant::now());
        } else if last.1.elapsed() >= STALL {
            bail!("{} took nothing for {STALL:?}", connection.to());
        }
        thread::sleep(POLL);
    }
}

fn any_of(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(to) => write!(f, "udp:{to}"),
            Self::Stream(to) => to.fmt(f),
        }
    }
}

/// Bytes that may wait here while the receiver does not read: enough to keep the connection busy.
const AHEAD_MAX: usize = 256 * 1024;

/// How long a receiver may take nothing.
pub(super) const STALL: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(1);
