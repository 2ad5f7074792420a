//! `modparam("binrush", ...)`: what OpenSIPS has no word for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use binrush_store::sockets::{SocketMap, SocketName};
use binrush_wire::Release;

use super::error::{did_you_mean, quoted};
use super::limits::CONNECTIONS_MAX;
use super::syntax::Value;
use super::values::{Allowed, AllowedError, PinError, RCVBUF_MAX, STATS_MAX};
use crate::access::Cidr;
use crate::engine::{Backend, Gro, Pin, SHARDS_MAX, StreamBackend};
use crate::relay::TargetConfig;
use crate::script::Level;
use crate::stream::{PeerSettings, StreamLimits};

pub use events::EventSubscription;
pub(super) use pin::TlsPin;

/// What is about clusters.
mod cluster;
/// Who is told of events.
mod events;
/// What is about modules from shared libraries.
mod modules;
/// What is known of senders.
mod peer;
/// Keys that are trusted.
mod pin;
/// Who gets the live stream on.
mod relay;
/// SIP sockets of others.
mod sockets;
/// What is about records.
mod state;

/// The settings that were made; `None` where none was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// 0 is one for each core.
    pub(super) shards: Option<u16>,
    pub(super) backend: Option<Backend>,
    pub(super) rcvbuf: Option<usize>,
    pub(super) gro: Option<Gro>,
    pub(super) verify: Option<bool>,
    pub(super) pin: Option<Pin>,
    pub(super) batch: Option<usize>,
    pub(super) http: Option<SocketAddr>,
    pub(super) stats: Option<u32>,
    /// Not empty.
    pub(super) probe: Option<Vec<String>>,
    pub(super) stream_backend: Option<StreamBackend>,
    pub(super) connections_per_source: Option<u32>,
    pub(super) connection_memory: Option<usize>,
    pub(super) stream_memory: Option<usize>,
    pub(super) tcp_user_timeout: Option<u32>,
    pub(super) tls_handshakes: Option<u32>,
    pub(super) cluster_release: Option<Release>,
    pub(super) hold_bytes: Option<usize>,
    pub(super) readers: Option<u16>,
    /// Absolute.
    pub(super) control: Option<PathBuf>,
    pub(super) confine: Option<bool>,
    pub(super) script_log: Option<Level>,
    pub(super) state: state::State,
    pub(super) modules: modules::Modules,
}

/// A value of a setting whose values add up, so that they are not kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Added {
    /// `allow`.
    Allowed(Allowed),
    /// `peer`.
    Peer(Cidr, PeerSettings),
    /// `tls_pin`.
    TlsPin(TlsPin),
    /// `cluster_learn`.
    Learned(Cidr),
    /// `relay`.
    Relay(TargetConfig),
    /// `subscribe_event`.
    Subscription(EventSubscription),
    /// `socket_map`.
    SocketMap(SocketMap),
    /// `target_socket`.
    TargetSocket(SocketName),
    /// `override`.
    Overrides(Vec<String>),
    /// `reentrant`.
    Reentrant(Vec<String>),
    /// `module_reads`.
    ModuleReads(PathBuf),
    /// `module_writes`.
    ModuleWrites(PathBuf),
}

/// Why a setting cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is none of this name.
    Name(String),
    /// It does not take the value.
    Value(String),
}

impl Own {
    /// Makes the setting `name`. `Some`: it is one whose values add up.
    pub(super) fn set(&mut self, name: &str, value: &Value) -> Result<Option<Added>, Refused> {
        self.try_set(name, value).map_err(|refused| match refused {
            Refused::Value(expected) => Refused::Value(format!(
                "{name}: {expected} expected, not {}",
                value.shown()
            )),
            Refused::Name(_) => {
                let near = did_you_mean(name, NAMES);
                Refused::Name(format!("binrush has no parameter {}{near}", quoted(name)))
            }
        })
    }

    fn try_set(&mut self, name: &str, value: &Value) -> Result<Option<Added>, Refused> {
        match name {
            "allow" => return allowed(value).map(|allowed| Some(Added::Allowed(allowed))),
            "peer" => {
                let (addr, settings) = peer::peer(value)?;
                return Ok(Some(Added::Peer(addr, settings)));
            }
            "tls_pin" => return pin::pin(value).map(|pin| Some(Added::TlsPin(pin))),
            "cluster_learn" => {
                return cluster::learned(value).map(|range| Some(Added::Learned(range)));
            }
            "subscribe_event" => {
                return events::subscription(value).map(|each| Some(Added::Subscription(each)));
            }
            "relay" => return relay::target(value).map(|target| Some(Added::Relay(target))),
            "socket_map" => return sockets::map(value).map(|map| Some(Added::SocketMap(map))),
            "target_socket" => {
                return sockets::socket(value).map(|socket| Some(Added::TargetSocket(socket)));
            }
            "override" => {
                let names = modules::names(value, modules::OVERRIDES)?;
                return Ok(Some(Added::Overrides(names)));
            }
            "reentrant" => {
                let names = modules::names(value, modules::REENTRANT)?;
                return Ok(Some(Added::Reentrant(names)));
            }
            "module_reads" => {
                return modules::path(value).map(|path| Some(Added::ModuleReads(path)));
            }
            "module_writes" => {
                return modules::path(value).map(|path| Some(Added::ModuleWrites(path)));
            }
            "shards" => self.shards = Some(number(value, 0, SHARDS_MAX.into())?),
            "backend" => self.backend = Some(choice(value, &BACKENDS)?),
            "rcvbuf" => self.rcvbuf = Some(number(value, 1, RCVBUF_MAX)?),
            "gro" => self.gro = Some(choice(value, &GROS)?),
            "verify" => self.verify = Some(number::<u8>(value, 0, 1)? == 1),
            "pin" => self.pin = Some(cores(value)?),
            "batch" => self.batch = Some(number(value, 1, BATCH_MAX)?),
            "http" => self.http = Some(address(value)?),
            "stats" => self.stats = Some(number(value, 0, STATS_MAX)?),
            "probe" => self.probe = Some(probed(value)?),
            "stream_backend" => self.stream_backend = Some(choice(value, &STREAM_BACKENDS)?),
            "connections_per_source" => {
                self.connections_per_source = Some(number(value, 1, CONNECTIONS_MAX)?);
            }
            "connection_memory" => self.connection_memory = Some(memory(value)?),
            "stream_memory" => self.stream_memory = Some(memory(value)?),
            "tcp_user_timeout" => self.tcp_user_timeout = Some(number(value, 1, USER_TIMEOUT_MAX)?),
            "tls_handshakes" => self.tls_handshakes = Some(number(value, 1, HANDSHAKES_MAX)?),
            "cluster_release" => self.cluster_release = Some(cluster::release(value)?),
            "hold_bytes" => self.hold_bytes = Some(memory(value)?),
            "readers" => self.readers = Some(number(value, 0, READERS_MAX)?),
            "confine" => self.confine = Some(choice(value, &SWITCH)?),
            "script_log" => self.script_log = Some(choice(value, &LEVELS)?),
            "control" => self.control = Some(cluster::control(value)?),
            name if self.state.set(name, value)? => {}
            name if self.modules.set(name, value)? => {}
            name => return Err(Refused::Name(name.to_owned())),
        }
        Ok(None)
    }

    /// Writes what was set about connections over `limits`.
    pub(super) fn apply(&self, limits: &mut StreamLimits) {
        limits.per_source = self.connections_per_source.unwrap_or(limits.per_source);
        limits.memory_per_connection = self
            .connection_memory
            .unwrap_or(limits.memory_per_connection);
        limits.memory = self.stream_memory.unwrap_or(limits.memory);
        let user_timeout = self.tcp_user_timeout;
        let user_timeout = user_timeout.map(|seconds| Duration::from_secs(seconds.into()));
        limits.user_timeout = user_timeout.unwrap_or(limits.user_timeout);
        limits.handshakes = self.tls_handshakes.unwrap_or(limits.handshakes);
    }
}

/// A number in a range that its type holds.
fn number<T: TryFrom<u32>>(value: &Value, low: u32, high: u32) -> Result<T, Refused> {
    let number = match value {
        Value::Int(value) => u32::try_from(*value).ok(),
        Value::Text(_) => None,
    };
    let number = number.filter(|number| (low..=high).contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Refused::Value(format!("a number from {low} to {high}")))
}

fn text<'a>(value: &'a Value, expected: &str) -> Result<&'a str, Refused> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Int(_) => Err(Refused::Value(expected.to_owned())),
    }
}

/// The values of `keys` in `key=value, key=value`, or what was expected: `form`, which shows one of those there are.
fn fields<'a, const N: usize>(
    text: &'a str,
    keys: [&str; N],
    form: &str,
) -> Result<[Option<&'a str>; N], String> {
    let mut found = [None; N];
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or(form)?;
        let (key, value) = (key.trim(), value.trim());
        let Some(index) = keys.iter().position(|known| *known == key) else {
            let (key, near) = (quoted(key), did_you_mean(key, keys));
            return Err(format!("{form} (there is no {key}{near})"));
        };
        if found[index].replace(value).is_some() {
            return Err(format!("each key once ({key} is there twice)"));
        }
    }
    Ok(found)
}

fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Refused> {
    let chosen = choices
        .iter()
        .find(|(name, _)| matches!(value, Value::Text(text) if text == name));
    chosen.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| quoted(name)).collect();
        Refused::Value(format!("one of {}", names.join(", ")))
    })
}

fn allowed(value: &Value) -> Result<Allowed, Refused> {
    let refused =
        |AllowedError(error)| Refused::Value(format!("\"any\" or a range of addresses ({error})"));
    let expected = "a range of addresses such as \"10.0.0.0/8\", or \"any\"";
    text(value, expected)?.parse().map_err(refused)
}

/// Bytes that connections may hold: no less than the largest packet has, which could never be finished otherwise.
fn memory(value: &Value) -> Result<usize, Refused> {
    number(value, MEMORY_MIN, MEMORY_MAX)
}

fn cores(value: &Value) -> Result<Pin, Refused> {
    let refused = |error: PinError| Refused::Value(error.to_string());
    text(value, &PinError::Text.to_string())?
        .parse()
        .map_err(refused)
}

/// Names of packets, with commas between.
fn probed(value: &Value) -> Result<Vec<String>, Refused> {
    let refused = |expected: String| Err(Refused::Value(expected));
    let mut names = Vec::<String>::new();
    for name in text(value, PROBED)?.split(',') {
        let name = name.trim();
        let is_name = |byte: u8| byte.is_ascii_graphic();
        if !(1..=PROBED_LEN_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
            return refused(PROBED.to_owned());
        }
        if name == PROBE {
            return refused(format!(
                "names of packets to measure ({PROBE} are those that ask for the result)"
            ));
        }
        if names.iter().any(|known| known == name) {
            return refused(format!("each name once ({name} is there twice)"));
        }
        if names.len() == PROBED_MAX {
            return refused(format!("at most {PROBED_MAX} names of packets"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn address(value: &Value) -> Result<SocketAddr, Refused> {
    let expected = "an address and a port such as \"127.0.0.1:9100\"";
    let refused = |_| Refused::Value(expected.to_owned());
    text(value, expected)?.parse().map_err(refused)
}

const NAMES: [&str; 43] = [
    "trusted_dir",
    "override",
    "reentrant",
    "module_reads",
    "module_writes",
    "poison",
    "callback_budget",
    "relay",
    "subscribe_event",
    "socket_map",
    "target_socket",
    "allow",
    "shards",
    "backend",
    "rcvbuf",
    "gro",
    "verify",
    "pin",
    "batch",
    "http",
    "stats",
    "probe",
    "peer",
    "stream_backend",
    "connections_per_source",
    "connection_memory",
    "stream_memory",
    "tcp_user_timeout",
    "tls_handshakes",
    "tls_pin",
    "cluster_release",
    "cluster_learn",
    "hold_bytes",
    "readers",
    "control",
    "confine",
    "script_log",
    "state_dir",
    "runtime_dir",
    "fsync_interval",
    "ring_bytes",
    "records_max",
    "records_memory",
];

const BACKENDS: [(&str, Backend); 3] = [
    (Backend::Auto.symbol(), Backend::Auto),
    (Backend::RecvMmsg.symbol(), Backend::RecvMmsg),
    (Backend::Uring.symbol(), Backend::Uring),
];

const STREAM_BACKENDS: [(&str, StreamBackend); 3] = [
    (StreamBackend::Auto.symbol(), StreamBackend::Auto),
    (StreamBackend::Recv.symbol(), StreamBackend::Recv),
    (StreamBackend::Uring.symbol(), StreamBackend::Uring),
];

const GROS: [(&str, Gro); 3] = [("auto", Gro::Auto), ("on", Gro::On), ("off", Gro::Off)];

const LEVELS: [(&str, Level); 7] = {
    let mut levels = [("", Level::Alert); 7];
    let mut index = 0;
    while index < levels.len() {
        let level = Level::ALL[index];
        levels[index] = (level.word(), level);
        index += 1;
    }
    levels
};

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

const BATCH_MAX: u32 = 1024;

/// 64 KiB and a GiB, in bytes.
const MEMORY_MIN: u32 = 64 << 10;
const MEMORY_MAX: u32 = 1 << 30;

/// A day, in seconds.
const USER_TIMEOUT_MAX: u32 = 24 * 60 * 60;

/// TLS handshakes at once; each takes a processor for about a millisecond.
const HANDSHAKES_MAX: u32 = 4096;

/// Readers that an engine has at most; one that has fewer says so when it starts.
const READERS_MAX: u32 = 16;

const PROBED: &str = "names of packets such as \"dialog,ul\"";

/// How many names may be measured, and how long each may be: no module of OpenSIPS has a longer one.
const PROBED_MAX: usize = 16;
const PROBED_LEN_MAX: usize = 64;

/// The name by which measuring tools ask for the result.
const PROBE: &str = "binrush-probe";

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn each_setting_takes_its_values() {
        let mut own = Own::default();
        for (name, value) in [
            ("shards", Value::Int(4)),
            ("backend", string("io_uring")),
            ("rcvbuf", Value::Int(1 << 22)),
            ("gro", string("off")),
            ("verify", Value::Int(0)),
            ("pin", string("0, 2")),
            ("batch", Value::Int(64)),
            ("http", string("[::1]:9100")),
            ("stats", Value::Int(0)),
            ("probe", string("dialog, ul,binrush-miss")),
            ("stream_backend", string("recv")),
            ("connections_per_source", Value::Int(8)),
            ("connection_memory", Value::Int(1 << 16)),
            ("stream_memory", Value::Int(1 << 30)),
            ("tcp_user_timeout", Value::Int(30)),
            ("tls_handshakes", Value::Int(2)),
            ("cluster_release", string("2.4")),
            ("hold_bytes", Value::Int(1 << 20)),
            ("readers", Value::Int(0)),
            ("control", string("/run/binrush/control.sock")),
            ("confine", string("off")),
            ("script_log", string("warning")),
        ] {
            assert_eq!(own.set(name, &value), Ok(None), "{name}");
        }
        let expected = Own {
            shards: Some(4),
            backend: Some(Backend::Uring),
            rcvbuf: Some(1 << 22),
            gro: Some(Gro::Off),
            verify: Some(false),
            pin: Some(Pin::Cores(vec![0, 2])),
            batch: Some(64),
            http: Some("[::1]:9100".parse().unwrap()),
            stats: Some(0),
            probe: Some(["dialog", "ul", "binrush-miss"].map(str::to_owned).into()),
            stream_backend: Some(StreamBackend::Recv),
            connections_per_source: Some(8),
            connection_memory: Some(1 << 16),
            stream_memory: Some(1 << 30),
            tcp_user_timeout: Some(30),
            tls_handshakes: Some(2),
            cluster_release: Some(Release::V2_4),
            hold_bytes: Some(1 << 20),
            readers: Some(0),
            control: Some("/run/binrush/control.sock".into()),
            confine: Some(false),
            script_log: Some(Level::Warning),
            state: state::State::default(),
            modules: modules::Modules::default(),
        };
        assert_eq!(own, expected);
        let mut limits = StreamLimits::default();
        own.apply(&mut limits);
        let of_limits = (limits.per_source, limits.handshakes, limits.user_timeout);
        assert_eq!(of_limits, (8, 2, Duration::from_secs(30)));
        let memory = (limits.memory_per_connection, limits.memory);
        assert_eq!(memory, (1 << 16, 1 << 30));
    }

    #[test]
    fn values_that_add_up_are_handed_out() {
        let mut own = Own::default();
        let range = "10.0.0.0/8".parse().unwrap();
        let pin = TlsPin {
            domain: None,
            digest: [0x11; 32],
        };
        for (name, value, added) in [
            ("allow", "any", Added::Allowed(Allowed::Any)),
            ("allow", "10.0.0.0/8", Added::Allowed(Allowed::Range(range))),
            (
                "peer",
                "addr=10.0.0.0/8",
                Added::Peer(range, PeerSettings::default()),
            ),
            ("tls_pin", &"1".repeat(64), Added::TlsPin(pin)),
            ("cluster_learn", "10.0.0.0/8", Added::Learned(range)),
            (
                "socket_map",
                "udp:a=udp:b",
                Added::SocketMap("udp:a=udp:b".parse().unwrap()),
            ),
            (
                "target_socket",
                "udp:b",
                Added::TargetSocket("udp:b".parse().unwrap()),
            ),
        ] {
            assert_eq!(own.set(name, &string(value)), Ok(Some(added)), "{name}");
        }
        assert_eq!(own, Own::default());
    }

    #[test]
    fn without_settings_the_limits_stay_as_they_are() {
        let mut limits = StreamLimits::default();
        Own::default().apply(&mut limits);
        assert_eq!(limits, StreamLimits::default());
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_expected() {
        let many = (0..100)
            .map(|core| core.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let long = "x".repeat(65);
        let names = (0..17).map(|name| format!("n{name}"));
        let names = names.collect::<Vec<_>>().join(",");
        for (name, value, told) in [
            ("probe", Value::Int(1), "\"dialog,ul\" expected, not 1"),
            ("probe", string(""), "\"dialog,ul\" expected"),
            ("probe", string("dialog,"), "\"dialog,ul\" expected"),
            ("probe", string("dialog ul"), "\"dialog,ul\" expected"),
            ("probe", string(&long), "\"dialog,ul\" expected"),
            (
                "probe",
                string("ul,ul"),
                "each name once (ul is there twice)",
            ),
            ("probe", string("binrush-probe"), "ask for the result"),
            ("probe", string(&names), "at most 16 names"),
            (
                "shards",
                Value::Int(65),
                "a number from 0 to 64 expected, not 65",
            ),
            (
                "shards",
                string("4"),
                "a number from 0 to 64 expected, not \"4\"",
            ),
            (
                "backend",
                string("RECVMMSG"),
                "one of \"auto\", \"recvmmsg\", \"io_uring\" expected",
            ),
            ("rcvbuf", Value::Int(0), "a number from 1 to"),
            (
                "gro",
                Value::Int(1),
                "one of \"auto\", \"on\", \"off\" expected, not 1",
            ),
            ("verify", Value::Int(2), "a number from 0 to 1"),
            ("pin", string("0,,1"), "numbers of cores"),
            ("pin", string(&many), "at most 64 numbers of cores expected"),
            (
                "pin",
                string("0,1,0"),
                "each core once (0 is there twice) expected",
            ),
            ("batch", Value::Int(1025), "a number from 1 to 1024"),
            ("http", string("localhost:80"), "127.0.0.1:9100"),
            ("stats", Value::Int(-1), "a number from 0"),
            ("stats", Value::Int(86401), "a number from 0 to 86400"),
            ("allow", Value::Int(1), "or \"any\""),
            ("peer", Value::Int(1), "\"addr=10.0.0.7"),
            ("tls_pin", string("sha256/x"), "SHA-256 digest"),
            (
                "stream_backend",
                string("epoll"),
                "one of \"auto\", \"recv\", \"io_uring\" expected",
            ),
            (
                "connections_per_source",
                Value::Int(0),
                "a number from 1 to 65536",
            ),
            (
                "connection_memory",
                Value::Int(65_535),
                "a number from 65536 to 1073741824",
            ),
            ("stream_memory", Value::Int(-1), "a number from 65536"),
            (
                "tcp_user_timeout",
                Value::Int(0),
                "a number from 1 to 86400",
            ),
            (
                "tls_handshakes",
                Value::Int(4097),
                "a number from 1 to 4096",
            ),
            ("allow", string("10.0.0.1/8"), "10.0.0.0/8"),
            ("hold_bytes", Value::Int(1), "a number from 65536"),
            ("readers", Value::Int(17), "a number from 0 to 16"),
        ] {
            let mut own = Own::default();
            let Err(Refused::Value(message)) = own.set(name, &value) else {
                panic!("{name} takes {value}");
            };
            assert!(message.contains(told), "{message}");
            assert_eq!(own, Own::default());
        }
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_name() {
        let told = "binrush has no parameter \"shard\"; did you mean \"shards\"?";
        let refused = Err(Refused::Name(told.to_owned()));
        assert_eq!(Own::default().set("shard", &Value::Int(1)), refused);
    }
}
