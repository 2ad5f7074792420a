//! What the command line and the configuration come to together.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use binrush_engine::cluster::config::ClusterConfig;
use binrush_engine::cluster::door;
use binrush_engine::config::{
    Allowed, Config, ConfigError, Endpoint, EndpointError, Loaded, Parameters, Part, Place,
    Protocol, StateConfig, Topic, Value, doubts, tls_domain_for, tls_needed,
};
use binrush_engine::engine::ListenerInfo;
use binrush_engine::stream::StreamLimits;
use binrush_engine::tls::{TlsDomain, TlsError, TlsFiles};
use binrush_engine::{Access, EngineConfig, StartError};

use super::Args;
use super::cluster::reach;

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
    /// The clusters to be a node of.
    pub(super) clusters: Vec<ClusterConfig>,
    /// Where to answer `binrush cluster`.
    pub(super) control: Option<PathBuf>,
    pub(super) state: StateConfig,
    /// The domains of a configuration, also those that its own listeners do not need.
    pub(super) tls: TlsFiles,
    /// What the configuration set, and where.
    parameters: Parameters,
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
pub(super) struct Listen(Endpoint);

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
        if !args.listen.is_empty() {
            settings.listen(&args.listen)?;
        }
        let engine = &mut settings.engine;
        if !args.allow.is_empty() {
            engine.access = access(&args.allow)?;
            let kept_out = reach::kept_out(&settings.clusters, &engine.access);
            settings.warnings.extend(kept_out);
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

    /// Listens at `listen` instead of what the configuration says: `bin:` is UDP and TCP.
    fn listen(&mut self, listen: &[Listen]) -> Result<(), Wrong> {
        let at = |protocol| {
            let endpoints = listen.iter().map(|listen| listen.0);
            let endpoints = endpoints.filter(move |endpoint| endpoint.protocol == protocol);
            endpoints.map(|endpoint| endpoint.addr).collect::<Vec<_>>()
        };
        for (index, Listen(endpoint)) in listen.iter().enumerate() {
            let mut before = listen[..index].iter();
            if let Some(Listen(taken)) = before.find(|before| before.0.collides(*endpoint)) {
                let text = format!(
                    "--listen {endpoint}: {} is taken already, by --listen {taken}: name another address or port, or \
                     leave one of the two out",
                    endpoint.addr
                );
                return Err(Wrong::Arguments(text));
            }
        }
        let tls = at(Protocol::Bins);
        if let Some(addr) = tls
            .iter()
            .find(|addr| tls_domain_for(&self.tls, **addr).is_none())
        {
            let text = format!(
                "--listen bins:{addr}: there is no certificate for it: name a configuration with --config FILE whose \
                 tls_mgm has a server_domain for this address"
            );
            return Err(Wrong::Arguments(text));
        }
        self.engine.listen = at(Protocol::Bin);
        let streams = &mut self.engine.streams;
        streams.listen = at(Protocol::Bin);
        streams.tls = tls_needed(&self.tls, &tls);
        streams.listen_tls = tls;
        if let Some((cluster, me)) = reach::unmet(&self.clusters, streams) {
            let (id, url) = (me.id, me.url);
            let text = format!(
                "--listen: the other nodes of cluster {cluster} meet node {id}, which is this one, at {url}, where \
                 nothing would listen: add --listen {url}, or change my_node_info"
            );
            return Err(Wrong::Arguments(text));
        }
        Ok(())
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
            clusters: config.clusters,
            control: config.control,
            state: config.state,
            tls: config.tls,
            parameters: config.parameters,
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
            (StartError::Tls(error), _) => Some(self.placed(error)),
            _ => None,
        }
    }

    /// What is wrong with certificates, with its place in front where that is known.
    pub(super) fn placed(&self, error: &TlsError) -> String {
        match self.place_of(error) {
            Some(place) => format!("{place}: {error}"),
            None => error.to_string(),
        }
    }

    /// Whether who connects to `listener` has to show a certificate, in every domain that is for it.
    pub(super) fn asks_for_certificates(&self, listener: &ListenerInfo) -> bool {
        let files = self.engine.streams.tls.as_ref().filter(|_| listener.tls);
        let serving = files.and_then(|files| tls_needed(files, &[listener.addr]));
        let asks =
            |domain: &TlsDomain| !domain.pins.is_empty() || (domain.verify && domain.require);
        serving.is_some_and(|files| !files.server.is_empty() && files.server.iter().all(asks))
    }

    /// Where the configuration names what `error` is about: the file or folder, else the domain. `None` when it does not
    /// say.
    fn place_of(&self, error: &TlsError) -> Option<&Place> {
        let set = self.parameters.iter();
        let set = set.filter(|set| set.part == Part::TlsMgm);
        let values = set.flat_map(|set| set.values.iter().zip(&set.places));
        let values = values.filter_map(|(value, place)| match value {
            Value::Text(text) => Some((text.trim(), place)),
            Value::Int(_) => None,
        });
        let mut of_domain = None;
        for (text, place) in values {
            let tagged = text.strip_prefix('[').and_then(|text| text.split_once(']'));
            // What is for all other addresses has no name in front.
            let (name, value) = tagged.unwrap_or((DEFAULT_DOMAIN, text));
            let names_file = error
                .path
                .as_ref()
                .is_some_and(|path| path.starts_with(value.trim()));
            if name.trim() == error.domain && names_file {
                return Some(place);
            }
            let defined = text.split('=').next().unwrap_or_default().trim();
            if defined == error.domain || (tagged.is_some() && name.trim() == error.domain) {
                of_domain = of_domain.or(Some(place));
            }
        }
        of_domain
    }

    /// Whether the part that takes packets of module `name` is on.
    pub(super) fn has_module(&self, name: &str) -> bool {
        let Some(parts) = &self.parts else {
            return true;
        };
        let part = match name {
            "dialog" | "dialog-dlg-repl" | "dialog-prof-repl" => Part::Dialog,
            "ul" | "usrloc-contact-repl" => Part::Usrloc,
            name if door::NAMES.contains(&name) => Part::Clusterer,
            "ratelimit" | "ratelimit-pipe-repl" => Part::Ratelimit,
            "cachedb-local-repl" => Part::CachedbLocal,
            _ => return false,
        };
        parts.contains(&part)
    }

    /// What differs in `new` and cannot be changed while running. Listeners, who is let in, and TLS can.
    pub(super) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, engine) = (&self.engine, &new.engine);
        let changed = [
            ("the number of shards", old.shards != engine.shards),
            ("readers", old.readers != engine.readers),
            ("pin", old.pin != engine.pin),
            ("backend", old.backend != engine.backend),
            ("rcvbuf", old.rcvbuf != engine.rcvbuf),
            ("gro", old.gro != engine.gro),
            ("batch", old.batch != engine.batch),
            ("verify", self.verify != new.verify),
            ("probe", self.probe != new.probe),
            ("the list of modules", self.parts != new.parts),
            ("clusterer", self.clusters != new.clusters),
            ("control", self.control != new.control),
            ("what is kept of records", self.state != new.state),
            ("http", self.http != new.http),
        ];
        let (old, streams) = (&old.streams, &engine.streams);
        let of_streams = [
            ("stream_backend", old.backend != streams.backend),
            ("peer", old.peers != streams.peers),
        ];
        let limits = changed_limits(&old.limits, &streams.limits);
        changed
            .into_iter()
            .chain(of_streams)
            .chain(limits)
            .filter_map(|(what, changed)| changed.then_some(what))
            .collect()
    }
}

/// Which of the limits of connections, by the parameters that set them, are others in `new`.
fn changed_limits(old: &StreamLimits, new: &StreamLimits) -> [(&'static str, bool); 12] {
    // Each by name, so that a limit that is new cannot be forgotten here. No parameter sets the receive buffer.
    let StreamLimits {
        connections,
        per_source,
        frame_deadline,
        idle,
        pieces,
        user_timeout,
        keepalive,
        memory_per_connection,
        memory,
        handshake,
        handshakes,
        backlog,
        rcvbuf: _,
    } = old;
    [
        ("tcp_max_connections", *connections != new.connections),
        ("connections_per_source", *per_source != new.per_source),
        ("tcp_max_msg_time", *frame_deadline != new.frame_deadline),
        ("tcp_connection_lifetime", *idle != new.idle),
        ("bin_max_msg_chunks", *pieces != new.pieces),
        ("tcp_user_timeout", *user_timeout != new.user_timeout),
        ("tcp_keepalive", *keepalive != new.keepalive),
        (
            "connection_memory",
            *memory_per_connection != new.memory_per_connection,
        ),
        ("stream_memory", *memory != new.memory),
        ("bins_handshake_timeout", *handshake != new.handshake),
        ("tls_handshakes", *handshakes != new.handshakes),
        ("tcp_socket_backlog", *backlog != new.backlog),
    ]
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
            clusters: Vec::new(),
            control: None,
            state: StateConfig::default(),
            tls: TlsFiles::default(),
            parameters: Parameters::default(),
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
        text.parse()
            .map(Self)
            .map_err(|error: EndpointError| error.to_string())
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

/// What the domain is called whose parameters have no name in front.
const DEFAULT_DOMAIN: &str = "default";

/// Between two lines of counts, unless told otherwise.
const STATS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn addresses_are_written_as_opensips_does() {
        let parse = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string());
        for good in [
            "bin:127.0.0.1:5566",
            "bin:[::1]:0",
            "bin:[fe80::1%2]:5566",
            "bins:127.0.0.1:5566",
        ] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for (short, full) in [
            ("bin:10.0.0.1", "bin:10.0.0.1:5555"),
            ("bins:10.0.0.1", "bins:10.0.0.1:5556"),
        ] {
            assert_eq!(parse(short).as_deref(), Ok(full));
        }
        for wrong in [
            "127.0.0.1:5566",
            "udp:127.0.0.1:5566",
            "bin:::1:5",
            "bin:host:1",
        ] {
            assert!(parse(wrong).unwrap_err().contains("bin:"), "{wrong}");
        }
    }

    #[test]
    fn one_address_is_listened_on_once() {
        let load = |listen: &[&str]| {
            let listen = listen.iter().flat_map(|listen| ["--listen", listen]);
            let args = Command::parse_from(["serve"].into_iter().chain(listen)).args;
            Settings::load(&args).map_err(|wrong| wrong.to_string())
        };
        for (one, other) in [
            ("bin:127.0.0.1:5555", "bin:127.0.0.1:5555"),
            ("bin:127.0.0.1:5555", "bins:127.0.0.1:5555"),
            ("bin:0.0.0.0:5555", "bin:127.0.0.1:5555"),
            ("bin:[::1]:5555", "bin:[::]:5555"),
        ] {
            let told = load(&[one, other]).unwrap_err();
            let begin = format!("error: --listen {other}: ");
            let taken = format!("is taken already, by --listen {one}: ");
            assert!(told.starts_with(&begin) && told.contains(&taken), "{told}");
        }
        let apart = [
            "bin:127.0.0.1:0",
            "bin:127.0.0.1:0",
            "bin:[::]:5555",
            "bin:0.0.0.0:5555",
        ];
        assert_eq!(load(&apart).unwrap().engine.listen.len(), 4);
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

    /// A configuration on disk while the test runs.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("binrush-settings-{name}-{}.cfg", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        /// What it and the options in `line` come to.
        fn settings(&self, line: &str) -> Result<Settings, String> {
            let config = ["serve", "--config", self.0.to_str().unwrap()];
            let args = config.into_iter().chain(line.split_whitespace());
            let args = Command::parse_from(args).args;
            Settings::load(&args).map_err(|wrong| wrong.to_string())
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_the_command_line_overrules_is_not_warned_of() {
        let file = File::new(
            "overruled",
            r#"
            listen = bin:192.0.2.1:5555
            children = 2
            loadmodule "dialog.so"
            modparam("tls_mgm", "server_domain", "node")
            modparam("dialog", "replicate_dialogs_to", "node2:5555")
            modparam("binrush", "pin", "0")
            modparam("binrush", "gro", "on")
        "#,
        );
        let (listener, access) = ("for no listener of bins:", "\"node2\" is not looked up");
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
            let told = file.settings(line).unwrap().warnings.join("\n");
            for what in [listener, access, reach, shards, pin] {
                let times = usize::from(!gone.contains(&what));
                assert_eq!(told.matches(what).count(), times, "{line}: {what}: {told}");
            }
        }
    }

    #[test]
    fn what_a_cluster_needs_is_not_overruled_in_silence() {
        let file = File::new(
            "cluster",
            r#"
            listen = bin:127.0.0.1:5566
            loadmodule "clusterer.so"
            modparam("clusterer", "db_mode", 0)
            modparam("clusterer", "my_node_info", "cluster_id=1, node_id=9, url=bin:127.0.0.1:5566")
            modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=1, url=bin:10.0.0.1:5566")
            modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id=2, url=bin:10.0.0.2:5566")
        "#,
        );
        for elsewhere in [
            "bin:127.0.0.1:5577",
            "bin:127.0.0.1:0",
            "bin:127.0.0.2:5566",
        ] {
            let told = file.settings(&format!("--listen {elsewhere}")).unwrap_err();
            let what =
                "cluster 1 meet node 9, which is this one, at bin:127.0.0.1:5566, where nothing";
            assert!(told.contains(what), "{told}");
            assert!(told.contains("add --listen bin:127.0.0.1:5566"), "{told}");
        }
        let both = "--listen bin:127.0.0.1:5577 --listen bin:0.0.0.0:5566";
        assert!(file.settings(both).is_ok());

        let kept_out = "is node 1 of cluster 1, but --allow does not let it in";
        for (line, times) in [
            ("", 0),
            ("--allow any", 0),
            ("--allow 10.0.0.0/30", 0),
            ("--allow 10.0.0.2", 1),
        ] {
            let told = file.settings(line).unwrap().warnings.join("\n");
            assert_eq!(told.matches(kept_out).count(), times, "{line}: {told}");
            assert!(!told.contains("is node 2 of"), "{line}: {told}");
        }
    }

    /// A configuration with a certificate for TLS at 127.0.0.1:5556 and none elsewhere.
    const TLS: &str = r#"
        listen = bin:127.0.0.1:5555
        listen = bins:127.0.0.1:5556
        loadmodule "tls_mgm.so"
        modparam("tls_mgm", "server_domain", "node")
        modparam("tls_mgm", "match_ip_address", "[node]127.0.0.1:5556")
        modparam("tls_mgm", "certificate", "[node]/cert.pem")
        modparam("tls_mgm", "private_key", "[node]/key.pem")
        modparam("tls_mgm", "ca_list", "[node]/ca.pem")
    "#;

    #[test]
    fn bin_is_listened_on_over_udp_and_tcp_and_bins_over_tls() {
        let file = File::new("listen", TLS);
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let engine = file.settings("").unwrap().engine;
        assert_eq!(engine.listen, [addr("127.0.0.1:5555")]);
        assert_eq!(engine.streams.listen, engine.listen);
        assert_eq!(engine.streams.listen_tls, [addr("127.0.0.1:5556")]);
        assert_eq!(engine.streams.tls.unwrap().server.len(), 1);

        let instead = "--listen bin:127.0.0.2:1 --listen bins:127.0.0.1:5556 --listen bin:[::1]:2";
        let engine = file.settings(instead).unwrap().engine;
        assert_eq!(engine.listen, [addr("127.0.0.2:1"), addr("[::1]:2")]);
        assert_eq!(engine.streams.listen, engine.listen);
        assert_eq!(engine.streams.listen_tls, [addr("127.0.0.1:5556")]);
        assert_eq!(engine.streams.tls.unwrap().server[0].name, "node");

        // What nobody listens for needs no files.
        let engine = file.settings("--listen bin:127.0.0.1:0").unwrap().engine;
        assert_eq!(
            (engine.streams.listen_tls, engine.streams.tls),
            (vec![], None)
        );
    }

    #[test]
    fn tls_without_a_certificate_is_an_error_that_says_what_to_add() {
        let file = File::new("no-certificate", TLS);
        let error = file.settings("--listen bins:127.0.0.1:5557").unwrap_err();
        let told = "--listen bins:127.0.0.1:5557: there is no certificate for it";
        assert!(error.contains(told), "{error}");
        let alone = Command::parse_from(["serve", "--listen", "bins:127.0.0.1:5556"]);
        let error = Settings::load(&alone.args).unwrap_err().to_string();
        assert!(error.contains("--config FILE"), "{error}");
    }

    #[test]
    fn what_waits_for_a_restart_is_named_and_listeners_and_tls_are_not() {
        let file = File::new("before", TLS);
        let before = file.settings("").unwrap();
        let same = before.needs_restart(&before);
        assert!(same.is_empty(), "{same:?}");

        let renewed = TLS.replace("/cert.pem", "/renewed.pem");
        let renewed = renewed
            + "listen = bin:127.0.0.1:5557\nmodparam(\"tls_mgm\", \"verify_cert\", \"[node]0\")\n";
        let file = File::new("renewed", &renewed);
        let named = before.needs_restart(&file.settings("").unwrap());
        assert!(named.is_empty(), "{named:?}");

        let changed = r#"
            tcp_max_connections = 5
            tcp_connection_lifetime = 5
            tcp_max_msg_time = 5
            tcp_keepalive = no
            tcp_socket_backlog = 5
            loadmodule "proto_bin.so"
            loadmodule "proto_bins.so"
            modparam("proto_bin", "bin_max_msg_chunks", 5)
            modparam("proto_bins", "bins_max_msg_chunks", 5)
            modparam("proto_bins", "bins_handshake_timeout", 5)
            modparam("binrush", "stream_backend", "recv")
            modparam("binrush", "peer", "addr=127.0.0.1, generation=2.2")
            modparam("binrush", "connections_per_source", 5)
            modparam("binrush", "connection_memory", 100000)
            modparam("binrush", "stream_memory", 1000000)
            modparam("binrush", "tcp_user_timeout", 5)
            modparam("binrush", "tls_handshakes", 5)
        "#;
        let file = File::new("changed", &(TLS.to_owned() + changed));
        let mut named = before.needs_restart(&file.settings("").unwrap());
        // Loading the two is a change of its own.
        assert_eq!(named.remove(0), "the list of modules");
        assert_eq!(
            named,
            [
                "stream_backend",
                "peer",
                "tcp_max_connections",
                "connections_per_source",
                "tcp_max_msg_time",
                "tcp_connection_lifetime",
                "bin_max_msg_chunks",
                "tcp_user_timeout",
                "tcp_keepalive",
                "connection_memory",
                "stream_memory",
                "bins_handshake_timeout",
                "tls_handshakes",
                "tcp_socket_backlog",
            ]
        );
    }

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }
}
