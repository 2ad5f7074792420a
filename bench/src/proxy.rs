//! `binrush-bench proxy`: a way between sender and receiver that has faults, and says exactly which.
//!
//! Speaks as `binrush serve --json` does: a `ready` line with the address, and a `total` line when SIGTERM came.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io, thread};

use anyhow::Context as _;
use binrush_proxy::tcp::{Tcp, TcpFailed};
use binrush_proxy::udp::{Udp, UdpFailed};
use binrush_proxy::{Damage, Odds, Plan};
use clap::ValueEnum;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::{End, EndsWith as _};
use drops::Drops;
use words::Words;

/// What the kernel dropped before the proxy saw it.
mod drops;
/// What is told at the start and at the end.
mod words;

/// Forward packets with faults: lose, double, reorder and damage them by a seed, and count exactly what was done.
///
/// At most one fault befalls a packet. Odds are a probability, or 1/N for exactly one in each N packets of a sender, at a
/// place that the seed says. Stop the senders first, then the proxy (SIGTERM): it forwards what is queued and held back. A
/// second SIGTERM, a second later or more, ends it without its totals.
///
/// Ends with 0; with 1 when it could not go on; 2 for wrong arguments; 3 when packets were lost that it did not count
/// among its faults, because the kernel dropped them before it, or nobody behind it listened or read.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where senders send to; port 0 takes a free one.
    #[arg(
        long,
        value_name = "udp|tcp:IP:PORT",
        default_value = "udp:127.0.0.1:0"
    )]
    listen: Endpoint,

    /// Where the receiver is, by the same transport.
    #[arg(long, value_name = "udp|tcp:IP:PORT")]
    to: Endpoint,

    /// Packets that do not arrive.
    #[arg(long, visible_alias = "lose", value_name = "ODDS", default_value = "0")]
    loss: Odds,

    /// Packets that arrive twice.
    #[arg(long, value_name = "ODDS", default_value = "0")]
    duplicate: Odds,

    /// Packets that are held back while others pass.
    #[arg(long, value_name = "ODDS", default_value = "0")]
    reorder: Odds,

    /// How many others.
    #[arg(long, value_name = "PACKETS", default_value_t = 3)]
    distance: u32,

    /// Packets of which one byte behind the checksum is changed.
    #[arg(long, value_name = "ODDS", default_value = "0")]
    corrupt: Odds,

    /// Whether the checksum of a 1.x datagram is made right again, so that only the stamp of a load tells.
    #[arg(long, value_enum, default_value = "bytes")]
    damage: DamageArg,

    /// How much longer every packet takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=DELAY_MAX_MS))]
    delay: u32,

    /// tcp: end each connection when so many of its bytes were forwarded, and reset its sender.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    reset_after: Option<u64>,

    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// udp: receive buffer to ask the kernel for, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 128 << 20, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    rcvbuf: u32,

    /// Print JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DamageArg {
    Bytes,
    Repaired,
}

/// A transport and an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoint {
    transport: Transport,
    addr: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.check().ends_with(End::Usage)?;
    let stop = stop_flag().context("cannot handle signals")?;
    let end = match args.listen.transport {
        Transport::Udp => datagrams(args, &stop)?,
        Transport::Tcp => streams(args, &stop)?,
    };
    Ok(end.into())
}

/// A flag that SIGTERM and SIGINT set. From a while after that, either of them ends the process where it is.
///
/// Not at once: what runs a program may send one signal twice (`timeout`, a terminal with a wrapper).
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let (stop, impatient) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
        signal_hook::flag::register_conditional_shutdown(
            signal,
            IMPATIENT,
            Arc::clone(&impatient),
        )?;
    }
    let stopping = Arc::clone(&stop);
    let arm = move || {
        while !stopping.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        thread::sleep(PATIENCE);
        impatient.store(true, Ordering::Relaxed);
    };
    thread::Builder::new().name("patience".into()).spawn(arm)?;
    Ok(stop)
}

impl Args {
    fn check(&self) -> anyhow::Result<()> {
        let Endpoint { transport, addr } = self.listen;
        anyhow::ensure!(
            transport == self.to.transport,
            "cannot turn {transport} into {}: give --listen and --to the same transport",
            self.to.transport
        );
        anyhow::ensure!(
            addr.is_ipv4() == self.to.addr.is_ipv4() || transport == Transport::Tcp,
            "--listen {addr} and --to {}: give both as IPv4, or both as IPv6",
            self.to.addr
        );
        anyhow::ensure!(
            self.to.addr.port() != 0,
            "--to {}: give the port of the receiver",
            self.to.addr
        );
        anyhow::ensure!(
            self.reset_after.is_none() || transport == Transport::Tcp,
            "--reset-after: datagrams have no connection to reset"
        );
        self.plan().check()?;
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            lose: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            distance: self.distance,
            corrupt: self.corrupt,
            damage: match self.damage {
                DamageArg::Bytes => Damage::Bytes,
                DamageArg::Repaired => Damage::Repaired,
            },
            seed: self.seed,
        }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay.into())
    }
}

fn datagrams(args: &Args, stop: &AtomicBool) -> anyhow::Result<End> {
    let addr = args.listen.addr;
    let listen = UdpSocket::bind(addr).with_context(|| format!("cannot listen on {addr}"))?;
    let rcvbuf = args.rcvbuf as usize;
    setsockopt(&listen, sockopt::RcvBufForce, &rcvbuf)
        .or_else(|_| setsockopt(&listen, sockopt::RcvBuf, &rcvbuf))
        .context("cannot set the receive buffer")?;
    let send = UdpSocket::bind(any_port(args.to.addr)).context("cannot open a socket to send")?;
    send.connect(args.to.addr)
        .with_context(|| format!("cannot send to {}", args.to.addr))?;
    // The socket is kept until its drops were read.
    let drops = Drops::of(listen.try_clone()?)?;
    let words = Words::new(args);
    words.ready(listen.local_addr()?, Some(drops.rcvbuf()?))?;
    let proxy = Udp {
        listen,
        send,
        plan: args.plan(),
        delay: args.delay(),
    };
    let (totals, failed) = match proxy.run(stop) {
        Ok(totals) => (totals, None),
        Err(UdpFailed::Io { error, totals }) => (*totals, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let end = words.datagrams(&totals, drops.dropped()?)?;
    failed.map_or(Ok(end), |error| Err(error).context("cannot receive"))
}

fn streams(args: &Args, stop: &AtomicBool) -> anyhow::Result<End> {
    let addr = args.listen.addr;
    let listen = TcpListener::bind(addr).with_context(|| format!("cannot listen on {addr}"))?;
    let words = Words::new(args);
    words.ready(listen.local_addr()?, None)?;
    let proxy = Tcp {
        listen,
        to: args.to.addr,
        plan: args.plan(),
        delay: args.delay(),
        cut_after: args.reset_after,
        reset,
    };
    let (totals, failed) = match proxy.run(stop) {
        Ok(totals) => (totals, None),
        Err(TcpFailed::Io { error, totals }) => (*totals, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let end = words.streams(&totals)?;
    failed.map_or(Ok(end), |error| Err(error).context("cannot accept"))
}

/// "If l_linger is 0, a close discards what is unsent and resets the connection": `tcp_close` of Linux's `net/ipv4/tcp.c`
/// for a socket with `SOCK_LINGER` and no time to linger.
fn reset(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &linger)?)
}

/// Any address of the family of `to`, any port.
fn any_port(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (transport, addr) = match text.split_once(':') {
            Some(("udp", addr)) => (Transport::Udp, addr),
            Some(("tcp", addr)) => (Transport::Tcp, addr),
            _ => return Err("expected udp: or tcp: before the address".to_owned()),
        };
        let addr = addr
            .parse()
            .map_err(|_| format!("expected IP:PORT behind {transport}:, IPv6 in brackets"))?;
        Ok(Self { transport, addr })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.addr)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// A minute: what is under way has a bound, and a longer one would only be met by waiting.
const DELAY_MAX_MS: i64 = 60_000;

/// How often it looks whether the end has begun.
const LOOK: Duration = Duration::from_millis(50);

/// Longer than any end that goes well, but for one that waits for a delay.
const PATIENCE: Duration = Duration::from_secs(1);

/// What it exits with when it was told again to end, and did not come to its totals: that of counts that say nothing.
const IMPATIENT: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &str) -> Args {
        let words = ["proxy"].into_iter().chain(line.split_whitespace());
        Command::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .args
    }

    #[test]
    fn an_endpoint_is_a_transport_and_an_address() {
        for text in ["udp:127.0.0.1:5566", "tcp:[::1]:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "127.0.0.1:5566",
            "bin:127.0.0.1:1",
            "udp:localhost:1",
            "udp:",
            "",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn odds_and_seed_make_the_plan() {
        let line = "--to udp:127.0.0.1:1 --loss 1/1000 --corrupt 0.5 --damage repaired --seed 7";
        let plan = args(line).plan();
        let expected = Plan {
            lose: Odds::OneIn(1000),
            corrupt: Odds::Chance(0.5),
            damage: Damage::Repaired,
            seed: 7,
            ..Plan::default()
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused_with_what_to_do() {
        for (line, words) in [
            ("--to tcp:127.0.0.1:1", "the same transport"),
            ("--to udp:[::1]:1", "both as IPv4"),
            ("--to udp:127.0.0.1:0", "the port of the receiver"),
            ("--to udp:127.0.0.1:1 --reset-after 5", "no connection"),
            (
                "--to udp:127.0.0.1:1 --loss 0.7 --corrupt 0.7",
                "ask for less",
            ),
            ("--to udp:127.0.0.1:1 --distance 0", "held back while"),
        ] {
            let error = args(line).check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
