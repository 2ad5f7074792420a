//! What load, search and replay are told alike.

use std::path::PathBuf;
use std::time::Duration;

use binrush_scenario::Arrivals;
use clap::ValueEnum;

use crate::receiver::Kind;
use crate::target::Address;

/// Who receives, who sends, and what becomes of the result.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// A receiver that is there already, instead of starting one: a `binrush serve` or a genuine node.
    #[arg(
        long,
        value_name = "udp:IP:PORT|tcp:IP:PORT",
        help_heading = "Receiver"
    )]
    pub(crate) to: Option<Address>,

    /// The receiver to start; the default is the engine. In streams, engine and engine-io_uring are engine-tcp and
    /// engine-tcp-io_uring.
    #[arg(long, value_enum, conflicts_with = "to", help_heading = "Receiver")]
    pub(crate) receiver: Option<Kind>,

    /// Of --to: the process that receives, whose processor time is read.
    #[arg(long, requires = "to", help_heading = "Receiver")]
    pub(crate) pid: Option<u32>,

    /// Of --to: a command whose last number is how many packets were received so far, run before and after.
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "to",
        help_heading = "Receiver"
    )]
    pub(crate) count: Option<String>,

    /// Of --to: a `binrush serve` with a probe, which is asked what it saw.
    #[arg(
        long,
        requires = "to",
        conflicts_with = "count",
        help_heading = "Receiver"
    )]
    pub(crate) ask: bool,

    /// The binrush to start; the default is the one beside this program.
    #[arg(long, value_name = "PATH", help_heading = "Receiver")]
    pub(crate) engine: Option<PathBuf>,

    /// Cores of the receiver, one for each shard; the default is the last one.
    #[arg(
        long,
        value_name = "CORE,CORE...",
        value_delimiter = ',',
        help_heading = "Receiver"
    )]
    pub(crate) receiver_cores: Vec<usize>,

    /// Receive buffer to ask for, in bytes; the default is 4 MiB, and 64 MiB where trains arrive whole.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4096..=1 << 30), help_heading = "Receiver")]
    pub(crate) rcvbuf: Option<u32>,

    /// Names whose stamps the engine audits, with commas between them, or off. In streams, dialog and ul stand for the
    /// names of 2.4 and later. Latencies are known of these only; a name that the engine does not know otherwise is no
    /// miss any more.
    #[arg(
        long,
        value_name = "NAME,NAME...",
        default_value = "dialog,ul",
        help_heading = "Receiver"
    )]
    pub(crate) probe: String,

    /// Whether a receiver of ours may take trains whole (`UDP_GRO`), as over loopback. What comes from a network comes as
    /// single datagrams, or in short trains.
    #[arg(long, value_enum, default_value = "on", help_heading = "Receiver")]
    pub(crate) gro: Switch,

    /// Leave the engine's callbacks empty, instead of reading every packet to its last byte as it does by default.
    #[arg(long, help_heading = "Receiver")]
    pub(crate) no_verify: bool,

    /// Sending threads, each with a stream of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Sender")]
    pub(crate) senders: u16,

    /// Cores of the senders, used in turn; the default is all but the receiver's.
    #[arg(
        long,
        value_name = "CORE,CORE...",
        value_delimiter = ',',
        help_heading = "Sender"
    )]
    pub(crate) sender_cores: Vec<usize>,

    /// Whether packets that are due within 50 us of each other may leave as one train (UDP_SEGMENT). Genuine nodes send
    /// none.
    #[arg(long, value_enum, default_value = "on", help_heading = "Sender")]
    pub(crate) trains: Switch,

    /// A packet that would leave later than that is not sent any more, 4s at most. In a stream it waits in the socket's
    /// buffer besides.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = late, help_heading = "Sender")]
    pub(crate) late_max: Duration,

    /// Length of all packets in bytes, whatever the scenario says.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..), help_heading = "Sender")]
    pub(crate) size: Option<u16>,

    /// How packets are spread over time, whatever the scenario says.
    #[arg(long, value_enum, help_heading = "Sender")]
    pub(crate) arrivals: Option<Spread>,

    /// Of all draws, whatever the scenario says.
    #[arg(long, help_heading = "Sender")]
    pub(crate) seed: Option<u64>,

    /// Do not measure first what the generator can do here.
    #[arg(long, help_heading = "Result")]
    pub(crate) skip_self_test: bool,

    /// Where to write the result, for `binrush-bench report`.
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) out: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long, help_heading = "Result")]
    pub(crate) json: bool,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// The arrivals that need no more than a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    /// At equal distances.
    Constant,
    /// Each independent of all others.
    Poisson,
}

impl From<Spread> for Arrivals {
    fn from(spread: Spread) -> Self {
        match spread {
            Spread::Constant => Self::Constant,
            Spread::Poisson => Self::Poisson,
        }
    }
}

/// Packets per second: `50000`, `50k`, `1.5M`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = digits.parse::<f64>().ok().map(|rate| rate * factor);
    rate.filter(|rate| (1.0..=RATE_MAX).contains(rate))
        .ok_or_else(|| format!("expected packets per second from 1 to 100M, such as 50000, 50k or 1.5M, not \"{text}\""))
}

/// `1.5s`, `10ms`, `250us`; a bare number is seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("expected a time above zero such as 10s, 1.5s, 20ms or 500us, not \"{text}\"");
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let seconds: f64 = number.parse().map_err(|_| expected())?;
    let seconds = seconds * factor;
    if !(1e-6..=86_400.0).contains(&seconds) {
        return Err(expected());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn late(text: &str) -> Result<Duration, String> {
    // How late a packet is stands in its stamp, in 32 bits of nanoseconds.
    let late = time(text)?;
    if late > LATE_MAX {
        return Err(format!("expected at most {LATE_MAX:?}, not \"{text}\""));
    }
    Ok(late)
}

const LATE_MAX: Duration = Duration::from_secs(4);

/// More than any sender here can; a bound for arithmetic.
const RATE_MAX: f64 = 1e8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_be_short() {
        for (text, expected) in [("50000", 5e4), ("50k", 5e4), ("1.5M", 1.5e6), ("1", 1.0)] {
            assert_eq!(rate(text), Ok(expected));
        }
        for wrong in ["", "k", "0", "-1", "NaN", "inf", "1G", "101M"] {
            assert!(
                rate(wrong).unwrap_err().contains("packets per second"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("2", ms(2000)),
            ("1.5s", ms(1500)),
            ("20ms", ms(20)),
            ("500us", Duration::from_micros(500)),
            ("2m", ms(120_000)),
        ] {
            assert_eq!(time(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "0s", "1y", "-1s", "1.2.3s", "2d", "25h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
