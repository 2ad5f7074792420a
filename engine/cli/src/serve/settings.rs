//! What the command line and the configuration come to together.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use binrush_engine::config::{Config, ConfigError, Endpoint, Loaded, Part, Protocol};
use binrush_engine::{Access, Cidr, EngineConfig};

use super::Args;

/// What a server is run with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) engine: EngineConfig,
    /// Whether handlers read each packet to its last byte.
    pub(super) verify: bool,
    pub(super) http: Option<SocketAddr>,
    /// Zero: no lines but the last.
    pub(super) stats: Duration,
    /// `None`: all that there are.
    parts: Option<BTreeSet<Part>>,
    pub(super) warnings: Vec<String>,
}

/// Why there are no settings. Says where and what to do.
#[derive(Debug)]
pub(super) enum Wrong {
    Config(ConfigError),
    Arguments(String),
}

/// `--listen`: an address as OpenSIPS writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen(SocketAddr);

/// `--allow`: who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allow {
    Any,
    Range(Cidr),
}

impl Settings {
    /// Reads the configuration, if there is one, and lets the command line win.
    pub(super) fn load(args: &Args) -> Result<Self, Wrong> {
        let mut settings = match &args.config {
            Some(path) => Self::of_config(Config::load(path).map_err(Wrong::Config)?),
            None if args.listen.is_empty() => {
                let text = "nothing to listen on: name a configuration with --config FILE, or an address with \
                            --listen bin:IP:PORT";
                return Err(Wrong::Arguments(text.to_owned()));
            }
            None => Self::default(),
        };
        let engine = &mut settings.engine;
        if !args.listen.is_empty() {
            engine.listen = args.listen.iter().map(|listen| listen.0).collect();
        }
        if !args.allow.is_empty() {
            engine.access = access(&args.allow)?;
        }
        if let Some(shards) = args.shards {
            engine.shards = shards.0;
        }
        engine.backend = args.backend.unwrap_or(engine.backend);
        if let Some(pin) = &args.pin {
            engine.pin = pin.clone();
        }
        if let Some(rcvbuf) = args.rcvbuf {
            engine.rcvbuf = rcvbuf as usize;
        }
        settings.http = args.http.or(settings.http);
        if let Some(seconds) = args.stats {
            settings.stats = Duration::from_secs(seconds);
        }
        Ok(settings)
    }

    fn of_config(Loaded { config, warnings }: Loaded) -> Self {
        Self {
            engine: config.engine(),
            verify: config.verify,
            http: config.http,
            stats: config
                .stats
                .map_or(STATS, |seconds| Duration::from_secs(seconds.into())),
            parts: Some(config.parts),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether there is a configuration.
    pub(super) const fn is_of_config(&self) -> bool {
        self.parts.is_some()
    }

    /// Whether the part that takes packets of module `name` is on.
    pub(super) fn has_module(&self, name: &str) -> bool {
        let part = match name {
            "dialog" => Part::Dialog,
            "ul" => Part::Usrloc,
            _ => return false,
        };
        self.parts
            .as_ref()
            .is_none_or(|parts| parts.contains(&part))
    }

    /// What differs in `new` and cannot be changed while running.
    pub(super) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, engine) = (&self.engine, &new.engine);
        let changed = [
            ("the number of shards", old.shards != engine.shards),
            ("pin", old.pin != engine.pin),
            ("backend", old.backend != engine.backend),
            ("rcvbuf", old.rcvbuf != engine.rcvbuf),
            ("gro", old.gro != engine.gro),
            ("batch", old.batch != engine.batch),
            ("verify", self.verify != new.verify),
            ("the list of modules", self.parts != new.parts),
            ("http", self.http != new.http),
        ];
        changed
            .into_iter()
            .filter_map(|(what, changed)| changed.then_some(what))
            .collect()
    }
}

/// Without configuration and options: this host's packets of all modules, checked to their last byte.
impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineConfig {
                listen: Vec::new(),
                ..EngineConfig::new(([127, 0, 0, 1], 0).into())
            },
            verify: true,
            http: None,
            stats: STATS,
            parts: None,
            warnings: Vec::new(),
        }
    }
}

fn access(allow: &[Allow]) -> Result<Access, Wrong> {
    let mut access = Access::nobody();
    for allow in allow {
        match allow {
            Allow::Any => return Ok(Access::any()),
            Allow::Range(cidr) => access
                .allow(*cidr)
                .map_err(|full| Wrong::Arguments(format!("--allow: {full}")))?,
        }
    }
    Ok(access)
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint: Endpoint = text.parse().map_err(|error| format!("{error}"))?;
        match endpoint.protocol {
            Protocol::Bin => Ok(Self(endpoint.addr)),
            Protocol::Bins => Err("BIN over TLS is not served yet; bin:IP:PORT is UDP".to_owned()),
        }
    }
}

impl FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self::Any);
        }
        text.parse()
            .map(Self::Range)
            .map_err(|error| format!("{error}; or any"))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Arguments(text) => write!(f, "error: {text}"),
        }
    }
}

/// Between two lines of counts, unless told otherwise.
const STATS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_opensips_does() {
        let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
        for good in ["127.0.0.1:5566", "[::1]:0"] {
            assert_eq!(parse(&format!("bin:{good}")).as_deref(), Ok(good));
        }
        assert_eq!(parse("bin:10.0.0.1").as_deref(), Ok("10.0.0.1:5555"));
        for wrong in [
            "127.0.0.1:5566",
            "udp:127.0.0.1:5566",
            "bins:127.0.0.1:5566",
            "bin:::1:5",
            "bin:host:1",
        ] {
            assert!(parse(wrong).unwrap_err().contains("bin:"), "{wrong}");
        }
    }

    #[test]
    fn who_is_allowed_is_what_was_said_and_any_is_everybody() {
        let parsed = |texts: &[&str]| {
            let allow: Vec<Allow> = texts.iter().map(|text| text.parse().unwrap()).collect();
            access(&allow).unwrap().to_string()
        };
        assert_eq!(parsed(&["10.0.0.0/8", "::1"]), "10.0.0.0/8, ::1/128");
        assert_eq!(parsed(&["10.0.0.0/8", "any"]), "any");
        assert!(
            "10.0.0.1/8"
                .parse::<Allow>()
                .unwrap_err()
                .contains("10.0.0.0/8")
        );
    }
}
