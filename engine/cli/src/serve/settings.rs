//! What the command line and the configuration come to together.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use binrush_engine::cluster::config::ClusterConfig;
use binrush_engine::cluster::door;
use binrush_engine::config::{
    Allowed, Config, ConfigError, Disk, Endpoint, EndpointError, EventsConfig, Libraries, Loaded,
    Parameters, Part, Place, Protocol, ReadFile, Sockets, StateConfig, Topic, Value, doubts,
    tls_domain_for, tls_needed,
};
use binrush_engine::engine::ListenerInfo;
use binrush_engine::event::Node;
use binrush_engine::relay::TargetConfig;
use binrush_engine::script::{Level, Script};
use binrush_engine::stream::StreamLimits;
use binrush_engine::tls::{ServerTls, TlsDomain, TlsError, TlsFiles};
use binrush_engine::{Access, EngineConfig, StartError};
use binrush_store::sockets::Target;

use super::Args;
use super::cluster::reach;
use super::confine::Files;
use super::relay;

/// What a server is run with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) engine: EngineConfig,
    /// The shards and readers that were asked for, where the routes of a node of a cluster allow one shard alone.
    wanted: Option<(Option<u16>, u16)>,
    /// Whether handlers read each packet to its last byte.
    pub(super) verify: bool,
    pub(super) http: Option<SocketAddr>,
    /// Zero: no lines but the last.
    pub(super) stats: Duration,
    /// Names of the packets that are measured; empty: none.
    pub(super) probe: Vec<String>,
    /// `None`: all that there are.
    parts: Option<BTreeSet<Part>>,
    /// Those of which what nodes before 2.4 replicate is kept.
    legacy: BTreeSet<Part>,
    /// The clusters to be a node of.
    pub(super) clusters: Vec<ClusterConfig>,
    /// Where to answer `binrush cluster`.
    pub(super) control: Option<PathBuf>,
    pub(super) state: StateConfig,
    /// Whether to give up what is not needed after the start.
    pub(super) confine: bool,
    /// SIP sockets of the configuration.
    pub(super) sockets: Arc<Sockets>,
    /// Where records go back to.
    pub(super) target: Arc<Target>,
    /// Who gets the live stream on.
    pub(super) relay: Vec<TargetConfig>,
    /// Who is told of events; `None`: nobody can be.
    pub(super) events: Option<EventsConfig>,
    /// Modules from shared libraries.
    pub(super) libraries: Libraries,
    /// Names of packets that such modules have.
    pub(super) taken: BTreeSet<String>,
    /// The routes, and how much of what they say is wanted.
    pub(super) script: Script,
    pub(super) script_log: Level,
    /// The domains of a configuration, also those that its own listeners do not need.
    pub(super) tls: TlsFiles,
    /// What the configuration set, and where.
    parameters: Parameters,
    /// Where the configuration sets the cores, when they are as it says.
    pin_place: Option<Place>,
    /// Whether the listeners and their senders are those of a configuration, which has warned of them.
    pub(super) has_told_reach: bool,
    pub(super) warnings: Vec<String>,
    /// What the configuration was read from, or would have been, were it there.
    pub(super) sources: Vec<PathBuf>,
}

/// The file system, and what was asked of it.
#[derive(Debug, Default)]
struct Noted(RefCell<Vec<PathBuf>>);

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
            Some(path) => {
                let files = Noted::default();
                let loaded = Config::read(path, &files).map_err(Wrong::Config)?;
                Self {
                    sources: files.0.into_inner(),
                    ..Self::of_config(loaded, args)
                }
            }
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
        if let Some(wrong) = relay::wrong(&settings, &settings) {
            return Err(Wrong::Arguments(wrong));
        }
        let engine = &mut settings.engine;
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
        let parts = config.parts.iter().copied();
        let legacy = parts.filter(|part| config.keeps_legacy(*part)).collect();
        Self {
            engine: config.engine(),
            wanted: None,
            verify: config.verify,
            http: config.http,
            stats: config
                .stats
                .map_or(STATS, |seconds| Duration::from_secs(seconds.into())),
            probe: config.probe,
            parts: Some(config.parts),
            legacy,
            clusters: config.clusters,
            control: config.control,
            state: config.state,
            confine: config.confine,
            sockets: config.sockets,
            target: config.target,
            relay: config.relay,
            events: config.events,
            libraries: config.libraries,
            taken: BTreeSet::new(),
            script: config.script,
            script_log: config.script_log,
            tls: config.tls,
            parameters: config.parameters,
            pin_place: config.pin_place,
            has_told_reach: !overrules(args, Topic::Reach),
            warnings: told.map(ToString::to_string).collect(),
            sources: Vec::new(),
        }
    }

    /// The files and folders that are needed after the start.
    pub(super) fn files(&self) -> Files {
        let mut files = Files {
            // What the host lost, the limits of memory and the list of cores; what is opened to have a descriptor in reserve.
            read: [
                "/proc",
                "/sys/fs/cgroup",
                "/sys/devices/system/cpu",
                "/dev/null",
            ]
            .map(PathBuf::from)
            .into(),
            write: Vec::new(),
        };
        // What is imported if it is there may come later, but not to a confined server.
        let sources = self.sources.iter().filter(|file| file.is_file());
        sources.for_each(|file| files.reads(file));
        for domain in self.tls.server.iter().chain(&self.tls.client) {
            let own = [&domain.certificate, &domain.private_key];
            let own = own.into_iter().filter(|path| !path.as_os_str().is_empty());
            own.chain(&domain.ca_list)
                .for_each(|file| files.reads(file));
            let folders = domain.ca_dir.iter().chain(&domain.crl_dir);
            folders.for_each(|folder| files.reads_all_in(folder));
        }
        if let Some(state_dir) = &self.state.dir {
            files
                .write
                .extend([state_dir.clone(), self.state.runtime_dir.clone()]);
        }
        let folder = self.control.as_ref().and_then(|control| control.parent());
        files.write.extend(folder.map(Path::to_owned));
        files
    }

    /// Whether the certificates that its listeners need can be used, before anything is bound.
    pub(super) fn check_certificates(&self) -> anyhow::Result<()> {
        let needed = self.engine.streams.tls.as_ref();
        let needed = needed.filter(|_| !self.engine.streams.listen_tls.is_empty());
        let checked = needed.map(|files| ServerTls::load(&files.server));
        match checked.transpose() {
            Ok(_) => Ok(()),
            Err(error) => Err(anyhow!("{}", self.placed(&error))),
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

    /// Whether the part that takes packets of module `name` is on, and no library has them.
    pub(super) fn has_module(&self, name: &str) -> bool {
        if self.taken.contains(name) {
            return false;
        }
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

    /// Whether the records that nodes before 2.4 replicate as packets of module `name` are kept, not only read.
    pub(super) fn keeps_legacy(&self, name: &str) -> bool {
        if self.taken.contains(name) {
            return false;
        }
        let part = match name {
            "dialog" => Part::Dialog,
            "ul" => Part::Usrloc,
            "ratelimit" => Part::Ratelimit,
            _ => return false,
        };
        self.legacy.contains(&part)
    }

    /// In whose place events are told.
    pub(super) fn node(&self) -> Node {
        let node = Node::default().with_sockets(self.sockets.tagged());
        match self.dialog_hash_size() {
            Some(hash_size) => node.with_hash_size(hash_size),
            None => node,
        }
    }

    /// Entries of the table of dialogs, of which events tell.
    fn dialog_hash_size(&self) -> Option<u32> {
        let hash_size = self.parameters.int(Part::Dialog, "hash_size")?;
        u32::try_from(hash_size).ok()
    }

    /// Has one shard do everything, reading connections too; whether that is another number than was asked for.
    pub(super) fn keep_one_shard(&mut self) -> bool {
        let engine = &mut self.engine;
        if engine.shard_count() == 1 && engine.readers == 0 {
            return false;
        }
        self.wanted = Some((engine.shards, engine.readers));
        (engine.shards, engine.readers) = (Some(1), 0);
        true
    }

    /// Whether one shard does everything though another number was asked for, because the route of a node of a cluster needs that.
    pub(super) const fn is_kept_on_one_shard(&self) -> bool {
        self.wanted.is_some()
    }

    /// What differs in `new` and cannot be changed while running. Listeners, who is let in, and TLS can.
    pub(super) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, engine) = (&self.engine, &new.engine);
        let (shards, readers) = self.wanted.unwrap_or((old.shards, old.readers));
        let changed = [
            ("the number of shards", shards != engine.shards),
            ("readers", readers != engine.readers),
            ("pin", old.pin != engine.pin),
            ("backend", old.backend != engine.backend),
            ("rcvbuf", old.rcvbuf != engine.rcvbuf),
            ("gro", old.gro != engine.gro),
            ("batch", old.batch != engine.batch),
            ("verify", self.verify != new.verify),
            ("probe", self.probe != new.probe),
            ("the list of modules", self.parts != new.parts),
            (
                "what is accepted of nodes before 2.4",
                self.legacy != new.legacy,
            ),
            ("clusterer", self.clusters != new.clusters),
            ("control", self.control != new.control),
            ("what is kept of records", self.state != new.state),
            (
                "SIP sockets",
                self.sockets != new.sockets || self.target != new.target,
            ),
            ("relay", self.relay != new.relay),
            ("events", self.events != new.events),
            (
                "hash_size of dialog",
                self.dialog_hash_size() != new.dialog_hash_size(),
            ),
            (
                "what is said of modules from shared libraries",
                !self.libraries.says_the_same(&new.libraries),
            ),
            ("the script", self.script != new.script),
            ("script_log", self.script_log != new.script_log),
            ("confine", self.confine != new.confine),
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
            wanted: None,
            verify: true,
            http: None,
            stats: STATS,
            probe: Vec::new(),
            parts: None,
            legacy: BTreeSet::new(),
            clusters: Vec::new(),
            control: None,
            state: StateConfig::default(),
            confine: true,
            sockets: Arc::default(),
            target: Arc::default(),
            relay: Vec::new(),
            events: None,
            libraries: Libraries::default(),
            taken: BTreeSet::new(),
            script: Script::default(),
            script_log: Level::Info,
            tls: TlsFiles::default(),
            parameters: Parameters::default(),
            pin_place: None,
            has_told_reach: false,
            warnings: Vec::new(),
            sources: Vec::new(),
        }
    }
}

impl ReadFile for Noted {
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        self.0.borrow_mut().push(path.to_owned());
        Disk.read(path, most)
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
mod tests;
