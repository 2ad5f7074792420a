//! Packets over a connection: TCP, or TLS on top of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use binrush_engine::config::{Endpoint, Protocol};
use binrush_engine::link::{ENDED, Lane, LinkConfig, LinkId, Links, LinksConfig, Refused};
use binrush_engine::stream::LinkCounts;
use binrush_engine::tls::{ClientTls, TlsDomain, TlsVersion};

use crate::line::unhex;

/// Terms of a connection.
#[derive(Debug, clap::Args)]
pub(crate) struct Terms {
    /// Address of this host to send from; the system chooses the port.
    #[arg(long, value_name = "IP")]
    pub(crate) bind: Option<IpAddr>,

    /// Who may have signed the receiver's certificate (tls:), PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Our certificate (tls:), and those between it and the CA, PEM; most receivers want one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Name that the receiver's certificate has to have (tls:) [default: any].
    #[arg(
        long,
        value_name = "NAME",
        requires = "ca",
        conflicts_with = "insecure"
    )]
    server_name: Option<String>,

    /// SHA-256 of the receiver's public key (tls:), in 64 hex digits; makes --ca needless, repeatable.
    #[arg(long, value_name = "SHA256", value_parser = pin)]
    pin: Vec<[u8; 32]>,

    /// Take any certificate (tls:): whoever answers gets the packet.
    #[arg(long, conflicts_with_all = ["ca", "pin"])]
    insecure: bool,
}

/// A receiver, as the command line has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receiver {
    pub(crate) tls: bool,
    pub(crate) addr: SocketAddr,
}

/// A connection to one receiver, which is made once and not again.
#[derive(Debug)]
pub(crate) struct Connection {
    links: Links,
    link: LinkId,
    to: Receiver,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Packets that were queued and that the kernel has not taken.
    pub(crate) lost: u64,
    pub(crate) trouble: Option<anyhow::Error>,
}

impl Terms {
    /// That no word is about what is not used.
    pub(crate) fn check(&self, tls: bool) -> anyhow::Result<()> {
        let words = [
            ("--ca", self.ca.is_some()),
            ("--cert", self.cert.is_some()),
            ("--server-name", self.server_name.is_some()),
            ("--pin", !self.pin.is_empty()),
            ("--insecure", self.insecure),
        ];
        match words.iter().find(|(_, given)| *given) {
            Some((word, _)) if !tls => bail!("{word} is about TLS: --to tls:IP:PORT"),
            None | Some(("--cert", _)) if tls && !self.is_secured() => bail!(
                "say whose certificate is good: --ca FILE, --pin SHA256, or --insecure for anybody's"
            ),
            _ => Ok(()),
        }
    }

    fn is_secured(&self) -> bool {
        self.ca.is_some() || !self.pin.is_empty() || self.insecure
    }

    fn tls(&self) -> anyhow::Result<ClientTls> {
        let domain = TlsDomain {
            name: "send".to_owned(),
            addresses: Vec::new(),
            certificate: self.cert.clone().unwrap_or_default(),
            private_key: self.key.clone().unwrap_or_default(),
            ca_list: self.ca.clone(),
            ca_dir: None,
            crl_dir: None,
            crl_check_all: false,
            // A pin alone says whose key it is.
            verify: self.ca.is_some(),
            require: true,
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            pins: self.pin.clone(),
        };
        // Its sentence has the cause in it.
        ClientTls::load(&[domain]).map_err(|error| anyhow!("cannot use these files: {error}"))
    }
}

/// Connects, sends `packet`, and ends the connection in order.
pub(crate) fn send(to: Receiver, terms: &Terms, packet: &[u8]) -> anyhow::Result<()> {
    let connection = Connection::open(to, terms)?;
    connection.send(packet)?;
    connection.deliver()
}

impl Connection {
    /// Begins to connect; what is sent until it is up waits.
    ///
    /// # Errors
    /// What is wrong with the terms.
    pub(crate) fn open(to: Receiver, terms: &Terms) -> anyhow::Result<Self> {
        let mut config = LinkConfig::new(Endpoint {
            protocol: if to.tls {
                Protocol::Bins
            } else {
                Protocol::Bin
            },
            addr: to.addr,
        });
        config.bind = terms.bind;
        if to.tls {
            config.tls = Some(Arc::new(terms.tls()?));
            config.server_name.clone_from(&terms.server_name);
        }
        // One attempt: the next one would be later than anybody waits.
        config.limits.backoff_min = TIMEOUT * 10;
        config.limits.backoff_max = TIMEOUT * 10;
        config.limits.connect_timeout = TIMEOUT;
        config.limits.write_deadline = TIMEOUT;
        let one = LinksConfig {
            links: 1,
            ..LinksConfig::default()
        };
        let links = Links::start(&one).context("cannot start the sender")?;
        let link = links.add(config)?;
        Ok(Self { links, link, to })
    }

    /// Queues a packet, behind all that were queued before.
    ///
    /// # Errors
    /// There is no room for it, or the connection is over.
    pub(crate) fn send(&self, packet: &[u8]) -> Result<(), Refused> {
        self.links.send(self.link, Lane::Bulk, packet)
    }

    /// Packets that the kernel has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.counts().sent
    }

    /// Bytes that it has not taken yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.links.waiting_bytes(self.link)
    }

    /// Why nothing more can be sent; `None`: it can, as far as is known.
    pub(crate) fn failure(&self) -> Option<String> {
        let (counts, to) = (self.counts(), self.to);
        match (counts.connect_failures, counts.breaks) {
            (0, 0) => None,
            (0, _) => Some(format!("{to} broke off: {}", in_our_words(&counts))),
            (_, _) => Some(format!("cannot connect to {to}: {}", in_our_words(&counts))),
        }
    }

    /// Where it leads.
    pub(crate) const fn to(&self) -> Receiver {
        self.to
    }

    /// Waits until all is sent, or nothing was for as long as `patience`, and ends the connection in order.
    pub(crate) fn finish(self, patience: Duration) -> Ended {
        let mut last = (0, Instant::now());
        while self.failure().is_none() {
            let counts = self.counts();
            if counts.waiting == 0 || last.1.elapsed() >= patience {
                break;
            }
            if counts.sent != last.0 {
                last = (counts.sent, Instant::now());
            }
            thread::sleep(POLL);
        }
        let begun = Instant::now();
        self.wait(REFUSAL_WAIT, |counts| counts.breaks > 0);
        let (failure, to) = (self.failure(), self.to);
        let counts = self.links.stop(patience.saturating_sub(begun.elapsed()));
        let ended = counts.into_iter().next().unwrap_or_default();
        let trouble = match (ended.queued - ended.sent, failure) {
            // It has read what it was sent.
            (0, Some(_)) if ended.breaks > 0 && ended.last_failure == ENDED => {
                eprintln!("{to} closed the connection after the last packet");
                None
            }
            (_, Some(failure)) => Some(anyhow!(failure)),
            (0, None) => None,
            (_, None) => Some(anyhow!("cannot send to {to}: {}", in_our_words(&ended))),
        };
        Ended {
            lost: ended.queued - ended.sent,
            trouble,
        }
    }

    /// Waits until the only packet is sent, and whether it is refused.
    fn deliver(self) -> anyhow::Result<()> {
        let (begun, to) = (Instant::now(), self.to);
        let sent = self.wait(TIMEOUT * 3, |counts| {
            counts.sent + counts.lost + counts.connect_failures > 0
        });
        if sent.connect_failures > 0 {
            bail!("cannot connect to {to}: {}", in_our_words(&sent));
        }
        // A receiver answers nothing on this connection; one that refuses the packet, or our certificate, breaks it. That
        // takes it a round trip, and no round trip is longer than it took to come here.
        let refused = self.wait(REFUSAL_WAIT + begun.elapsed(), |counts| counts.breaks > 0);
        let ended = self.links.remove(self.link).unwrap_or(refused);
        match (ended.sent, ended.breaks) {
            (0, _) => bail!("cannot send to {to}: {}", in_our_words(&ended)),
            (_, 1..) if ended.last_failure != ENDED => {
                bail!("{to} refused the packet: {}", in_our_words(&ended))
            }
            (_, 1..) => {
                // Nodes do so when a packet is not for them, and also when they stop; nobody can tell which from here.
                eprintln!("{to} closed the connection after the packet");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The counts, as soon as they are as `wanted`, or when the time is over.
    fn wait(&self, limit: Duration, wanted: impl Fn(&LinkCounts) -> bool) -> LinkCounts {
        let begun = Instant::now();
        loop {
            let counts = self.counts();
            if wanted(&counts) || begun.elapsed() >= limit {
                return counts;
            }
            thread::sleep(POLL);
        }
    }

    fn counts(&self) -> LinkCounts {
        self.links.counts().pop().unwrap_or_default()
    }
}

/// Why it failed, with the options of this command where the engine names parameters of a configuration.
fn in_our_words(counts: &LinkCounts) -> String {
    let why = &counts.last_failure;
    match why.strip_prefix("connect: ").unwrap_or(why) {
        "" => format!("it took nothing within {:?}", TIMEOUT * 3),
        why if why.contains("nobody in ca_list or ca_dir signed its certificate") => {
            "TLS: nobody in the file of --ca signed its certificate: name the one with its CA, or pin its key by --pin"
                .to_owned()
        }
        why => why.to_owned(),
    }
}

/// The digits of a SHA-256, with or without colons.
fn pin(text: &str) -> Result<[u8; 32], String> {
    let bytes = unhex(&text.replace(':', "")).map_err(|error| error.to_string())?;
    let count = bytes.len();
    <[u8; 32]>::try_from(bytes)
        .map_err(|_| format!("a SHA-256 has 64 hex digits, and not {}", 2 * count))
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = if self.tls { "tls" } else { "tcp" };
        write!(f, "{transport}:{}", self.addr)
    }
}

/// How long a refusal is waited for; over loopback it is there at once.
pub(crate) const REFUSAL_WAIT: Duration = Duration::from_millis(20);

const TIMEOUT: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::tls::TlsFailure;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        terms: Terms,
    }

    fn terms(words: &[&str]) -> Terms {
        Line::try_parse_from([&["send"], words].concat())
            .unwrap()
            .terms
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_this_command_and_never_empty() {
        let told = |last_failure: String| {
            let mut counts = LinkCounts::default();
            counts.last_failure = last_failure;
            in_our_words(&counts)
        };
        assert_eq!(told(String::new()), "it took nothing within 15s");
        assert_eq!(told("connect: refused".to_owned()), "refused");
        let unknown = format!("TLS: {}", TlsFailure::UnknownCa);
        assert!(told(unknown).contains("--ca"));
    }

    #[test]
    fn pins_are_64_digits_with_or_without_colons() {
        let digits = "0a".repeat(32);
        assert_eq!(pin(&digits), Ok([10; 32]));
        assert_eq!(pin(&["0A"; 32].join(":")), Ok([10; 32]));
        assert!(pin(&digits[2..]).unwrap_err().contains("not 62"));
        assert!(pin("x0").unwrap_err().contains("'x'"));
    }

    #[test]
    fn tls_wants_to_know_whom_to_trust_and_tcp_wants_nothing_of_it() {
        let told = |words: &[&str], tls| terms(words).check(tls).map_err(|error| error.to_string());
        assert!(told(&[], true).unwrap_err().contains("--ca FILE"));
        let own = ["--cert=c", "--key=k"];
        assert!(told(&own, true).unwrap_err().contains("--ca FILE"));
        let pin = format!("--pin={}", "00".repeat(32));
        for words in [&["--ca=f"][..], &["--insecure"], &[&pin]] {
            assert_eq!(told(words, true), Ok(()));
            assert!(told(words, false).unwrap_err().contains("tls:IP:PORT"));
        }
        assert_eq!(told(&["--bind=127.0.0.1"], false), Ok(()));
    }

    #[test]
    fn words_that_contradict_each_other_or_stand_alone_are_refused() {
        for words in [
            &["--cert=c"][..],
            &["--key=k"],
            &["--insecure", "--ca=f"],
            &["--server-name=n"],
        ] {
            assert!(
                Line::try_parse_from([&["send"], words].concat()).is_err(),
                "{words:?}"
            );
        }
    }
}
