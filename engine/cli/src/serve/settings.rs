//! What the command line and the configuration come to together.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use binrush_engine::config::{
    Allowed, Config, ConfigError, Endpoint, Loaded, Part, Place, Protocol, Topic, doubts,
};
use binrush_engine::{Access, EngineConfig, StartError};

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
    /// Names of the packets that are measured; empty: none.
    pub(super) probe: Vec<String>,
    /// `None`: all that there are.
    parts: Option<BTreeSet<Part>>,
    /// Where the configuration sets the cores, when they are as it says.
    pin_place: Option<Place>,
    /// Whether the listeners and their senders are those of a configuration, which has warned of them.
    pub(super) has_told_reach: bool,
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

impl Settings {
    /// Reads the configuration, if there is one, and lets the command line win.
    pub(super) fn load(args: &Args) -> Result<Self, Wrong> {
        let mut settings = match &args.config {
            Some(path) => Self::of_config(Config::load(path).map_err(Wrong::Config)?, args),
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
            if engine.access.lets_everybody_in() && !settings.probe.is_empty() {
                let text = format!(
                    "--allow {}: the configuration sets probe, which measures for senders that are known: name their \
                     addresses",
                    engine.access
                );
                return Err(Wrong::Arguments(text));
            }
        }
        if let Some(shards) = args.shards {
            engine.shards = shards.0;
        }
        engine.backend = args.backend.unwrap_or(engine.backend);
        if let Some(pin) = &args.pin {
            engine.pin = pin.clone();
            settings.pin_place = None;
        }
        if let Some(rcvbuf) = args.rcvbuf {
            engine.rcvbuf = rcvbuf as usize;
        }
        settings.http = args.http.or(settings.http);
        if let Some(seconds) = args.stats {
            settings.stats = Duration::from_secs(seconds.into());
        }
        // What the configuration alone comes to, it has been doubted for already.
        let news = doubts(&settings.engine)
            .into_iter()
            .filter(|doubt| overrules(args, doubt.topic));
        settings.warnings.extend(news.map(|doubt| doubt.message));
        Ok(settings)
    }

    /// The settings of a configuration, and its warnings but for those of what `args` put in its place.
    fn of_config(Loaded { config, warnings }: Loaded, args: &Args) -> Self {
        let told = warnings
            .iter()
            .filter(|warning| !overrules(args, warning.topic()));
        Self {
            engine: config.engine(),
            verify: config.verify,
            http: config.http,
            stats: config
                .stats
                .map_or(STATS, |seconds| Duration::from_secs(seconds.into())),
            probe: config.probe,
            parts: Some(config.parts),
            pin_place: config.pin_place,
            has_told_reach: !overrules(args, Topic::Reach),
            warnings: told.map(ToString::to_string).collect(),
        }
    }

    /// What to say when it is a line of the configuration that keeps an engine from starting; `None` when it is not.
    pub(super) fn refused_by_config(&self, error: &StartError) -> Option<String> {
        match (error, &self.pin_place) {
            (StartError::Pin(_), Some(place)) => {
                Some(format!("{place}: pin: {error}\n  name others, or \"off\""))
            }
            _ => None,
        }
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
            ("probe", self.probe != new.probe),
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
            probe: Vec::new(),
            parts: None,
            pin_place: None,
            has_told_reach: false,
            warnings: Vec::new(),
        }
    }
}

/// Whether `args` put something in the place of all that a warning of `topic` is about.
fn overrules(args: &Args, topic: Topic) -> bool {
    let (listen, allow) = (!args.listen.is_empty(), !args.allow.is_empty());
    match topic {
        Topic::Listener => listen,
        Topic::Access => allow,
        Topic::Reach => listen || allow,
        Topic::Shards => args.shards.is_some(),
        Topic::Pin => args.pin.is_some() || args.shards.is_some(),
        _ => false,
    }
}

fn access(allow: &[Allowed]) -> Result<Access, Wrong> {
    let mut access = Access::nobody();
    for allow in allow {
        match allow {
            Allowed::Any => return Ok(Access::any()),
            Allowed::Range(cidr) => access
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
    use clap::Parser as _;

    #[test]
    fn addresses_are_written_as_opensips_does() {
        let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
        for good in ["127.0.0.1:5566", "[::1]:0", "[fe80::1%2]:5566"] {
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
            let allow: Vec<Allowed> = texts.iter().map(|text| text.parse().unwrap()).collect();
            access(&allow).unwrap().to_string()
        };
        assert_eq!(parsed(&["10.0.0.0/8", "::1"]), "10.0.0.0/8, ::1/128");
        assert_eq!(parsed(&["10.0.0.0/8", "any"]), "any");
    }

    #[test]
    fn what_the_command_line_overrules_is_not_warned_of() {
        let path =
            std::env::temp_dir().join(format!("binrush-settings-{}.cfg", std::process::id()));
        let text = r#"
            listen = bin:192.0.2.1:5555
            children = 2
            loadmodule "dialog.so"
            modparam("dialog", "replicate_dialogs_to", "node2:5555")
            modparam("binrush", "pin", "0")
            modparam("binrush", "gro", "on")
        "#;
        std::fs::write(&path, text).unwrap();
        let warned = |line: &str| {
            let config = ["serve", "--config", path.to_str().unwrap()];
            let args = config.into_iter().chain(line.split_whitespace());
            let args = Command::parse_from(args).args;
            Settings::load(&args).unwrap().warnings.join("\n")
        };
        let (listener, access) = ("TCP is not served yet", "\"node2\" is not looked up");
        let (reach, shards, pin) = (
            "only this host may send",
            "gro \"on\"",
            "pin has fewer cores",
        );
        for (line, gone) in [
            ("", &[][..]),
            ("--listen bin:127.0.0.1:0", &[listener, reach]),
            ("--allow 10.0.0.0/8", &[access, reach]),
            ("--shards 1", &[shards, pin]),
            ("--pin 0,1", &[pin]),
            ("--shards 2 --pin 1", &[]),
        ] {
            let told = warned(line);
            for what in [listener, access, reach, shards, pin] {
                let times = usize::from(!gone.contains(&what));
                assert_eq!(told.matches(what).count(), times, "{line}: {what}: {told}");
            }
        }
        std::fs::remove_file(path).unwrap();
    }

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }
}
