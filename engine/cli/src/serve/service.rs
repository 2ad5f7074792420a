//! A service manager: what it opened for us, what it keeps for our next start, and what it is told.
//!
//! ```text
//!   units, store ─ LISTEN_FDS ─▶ estate: by address and kind; strangers are refused
//!   ready ─▶ READY=1, FDSTORE=1 for each socket ─▶ kept over restart and kill
//!   every shard has gone round its loop ─▶ WATCHDOG=1
//! ```
//!
//! sd_notify(3), sd_listen_fds(3), systemd.service(5). Without `NOTIFY_SOCKET` nothing is told to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use binrush_engine::engine::estate::{Alone, Group, Listening, Member};
use binrush_engine::engine::{Engine, Estate};
use binrush_engine::handover::{Inherited, inherited, send_with};
use binrush_engine::{EngineConfig, Found};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

/// The way to a service manager; to nobody where there is none.
#[derive(Debug, Default)]
pub(super) struct Service {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
    /// Names of what it keeps for us.
    kept: Vec<String>,
    /// What was told last of how we are.
    status: String,
    /// That nothing is told for a while was asked for.
    pauses: bool,
}

/// That the shards go on is told as long as they do.
#[derive(Debug)]
struct Watchdog {
    /// What the manager asked for, in microseconds.
    usec: u64,
    /// A third of the time that may pass between two signs of life.
    every: Duration,
    told: Instant,
    /// Rounds of each shard at the last one.
    turns: Vec<u64>,
}

impl Service {
    /// As the environment says.
    ///
    /// # Errors
    /// It names a place where nothing can be told.
    pub(super) fn of_environment() -> anyhow::Result<Self> {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let at = format!(
            "cannot tell the service manager at NOTIFY_SOCKET={}",
            path.display()
        );
        let socket = connected(&path).context(at)?;
        let of_us = env::var("WATCHDOG_PID").ok();
        let of_us = of_us.is_none_or(|pid| pid.parse() == Ok(process::id()));
        let micros = env::var("WATCHDOG_USEC").ok();
        let micros = micros.and_then(|micros| micros.parse::<u64>().ok());
        let micros = micros.filter(|micros| of_us && *micros > 0);
        Ok(Self {
            socket: Some(socket),
            watchdog: micros.map(|micros| Watchdog {
                usec: micros,
                every: Duration::from_micros(micros / 3),
                told: Instant::now(),
                turns: Vec::new(),
            }),
            kept: Vec::new(),
            status: String::new(),
            pauses: false,
        })
    }

    /// Everything runs; what an operator should know of what could not be told.
    pub(super) fn ready(&mut self, engine: &Engine) -> Option<String> {
        // The counts of a stop are for the start behind it: later ones would go on from what is long told.
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={COUNTS}"));
        let kept = self.keep(engine);
        let mut ready = format!("READY=1\nMAINPID={}", process::id());
        if let Some(watchdog) = self.watchdog.as_ref().filter(|_| self.pauses) {
            ready.push_str(&format!("\nWATCHDOG_USEC={}", watchdog.usec));
        }
        self.pauses = false;
        let told = self.say_surely(&ready, &[]);
        let failed = kept.and(told).err()?;
        Some(format!(
            "the service manager may lose what is queued over a restart, or take this process for one that is not ready: {failed}"
        ))
    }

    /// No shard runs for a while, because an heir starts or is taken back from: that is no reason to end this process. To be
    /// said again while it lasts; until [`ready`](Self::ready).
    pub(super) fn pausing(&mut self) {
        if self.watchdog.is_some() {
            self.pauses = true;
            let micros = PAUSE_MAX.as_micros();
            self.say(&format!("WATCHDOG_USEC={micros}\nWATCHDOG=1"));
        }
    }

    /// The configuration is read again; [`ready`](Self::ready) says when that is over.
    pub(super) fn reloading(&self) {
        // By the clock of the kernel: "the monotonic timestamp (as per CLOCK_MONOTONIC) in µs" (sd_notify(3)).
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let micros = now.map_or(0, |now| {
            i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000
        });
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// How we are, in a line.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            self.say(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// Says that the shards go on, if it is time to and each of them has gone round its loop since that was said last.
    /// Called by who looks after the engine, so what is told is that this goes on, too.
    pub(super) fn look_after(&mut self, engine: &Engine) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if watchdog.is_due(Instant::now(), engine.turns().collect()) {
            self.say("WATCHDOG=1");
        }
    }

    /// Has the manager keep up to where the drops of `estate` were counted, for who goes on with it. Without memory for that, what
    /// the kernel drops until the next start is counted by nobody.
    pub(super) fn keep_counts(&self, estate: &Estate) {
        let counts: Counts = estate.groups.iter().map(Group::drops).collect();
        let made = memfd_create(c"binrush-drops", MFdFlags::MFD_CLOEXEC).map(File::from);
        let written = made.ok().and_then(|mut file| {
            let text = serde_json::to_vec(&counts).ok()?;
            file.write_all(&text).ok().map(|()| file)
        });
        if let Some(file) = written {
            let text = format!("FDSTORE=1\nFDNAME={COUNTS}\nFDPOLL=0");
            self.say_with(&text, &[file.as_fd()]);
        }
    }

    /// Whether the sockets outlive this process in the manager's hands.
    pub(super) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Has the sockets kept that `engine` has, and no others.
    ///
    /// Not only those of units: a group has its order and its filters only as a whole. Whoever does not want that gives
    /// no room for it (`FileDescriptorStoreMax=`), and the manager passes over what is sent.
    ///
    /// # Errors
    /// The manager takes nothing; then it is to keep nothing, because a part of a group is of no use.
    fn keep(&mut self, engine: &Engine) -> io::Result<()> {
        // Without descriptors to spare the sockets are not kept, and everything else goes on.
        let Ok(estate) = engine.estate() else {
            return Ok(());
        };
        let mut named = named(&estate);
        // Said by systemd since 254; before, nobody knows whether anything is kept, and a stop has to know. What came from
        // the manager is kept by it: nobody needs to say so.
        let room = env::var("FDSTORE").ok().and_then(|room| room.parse().ok());
        let room = room.filter(|_| self.socket.is_some()).unwrap_or(0_usize);
        // The counts of a stop are kept beside them.
        let needed = named.len() + 1;
        let has_room = needed <= room;
        if !has_room {
            // A part of a group is of no use.
            named.retain(|(name, _)| self.kept.contains(name));
        }
        self.give_back(|name| named.iter().any(|(known, _)| known == name));
        for (name, socket) in named {
            if !self.kept.contains(&name) {
                // An error that was queued for a socket would be taken for its end: it is not to be polled.
                let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
                if let Err(error) = self.say_surely(&text, &[socket]) {
                    self.give_back(|_| false);
                    return Err(error);
                }
                self.kept.push(name);
            }
        }
        if self.socket.is_none() || has_room || (room == 0 && self.keeps()) {
            return Ok(());
        }
        if room == 0 {
            return Err(io::Error::other(
                "it does not say that it keeps sockets (FDSTORE=, by systemd 254 and later where the unit has \
                 FileDescriptorStoreMax=), so they are closed at a stop",
            ));
        }
        Err(io::Error::other(format!(
            "it has room for {room} descriptors, and {needed} are needed to keep sockets: set FileDescriptorStoreMax={needed}"
        )))
    }

    /// Has the manager close what it keeps for us but is not to be kept on.
    fn give_back(&mut self, is_kept_on: impl Fn(&str) -> bool) {
        let kept = std::mem::take(&mut self.kept);
        let (kept, gone): (Vec<_>, Vec<_>) = kept.into_iter().partition(|name| is_kept_on(name));
        self.kept = kept;
        for name in gone {
            self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
    }

    fn say(&self, text: &str) {
        self.say_with(text, &[]);
    }

    /// What has to be heard: a manager that is busy is waited for, at most [`SURELY_MAX`].
    fn say_surely(&self, text: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        socket.set_nonblocking(false)?;
        let sent = send_with(socket, text.as_bytes(), descriptors);
        socket.set_nonblocking(true)?;
        sent.map(drop)
    }

    /// A manager that is not there or does not listen is no reason to do anything else.
    fn say_with(&self, text: &str, descriptors: &[BorrowedFd<'_>]) {
        if let Some(socket) = &self.socket {
            let _ = send_with(socket, text.as_bytes(), descriptors);
        }
    }
}

impl Watchdog {
    fn is_due(&mut self, now: Instant, turns: Vec<u64>) -> bool {
        if now.saturating_duration_since(self.told) < self.every {
            return false;
        }
        let before = self.turns.iter().map(Some).chain(std::iter::repeat(None));
        let go_on = turns
            .iter()
            .zip(before)
            .all(|(now, before)| Some(now) != before);
        if go_on {
            (self.told, self.turns) = (now, turns);
        }
        go_on
    }
}

impl Service {
    /// What a service manager opened for this process, or kept for it; with what an operator should know of it. Kept sockets
    /// that nobody can go on with are given back to their end: as long as they are open, nobody can bind their address.
    ///
    /// # Errors
    /// What the environment says cannot be so, or there is something that `config` has no use for: it would be closed, and
    /// whoever sends to it would not be told.
    pub(super) fn estate(
        &mut self,
        config: &EngineConfig,
    ) -> anyhow::Result<(Estate, Vec<String>)> {
        let found = inherited().context("the service manager's sockets cannot be taken over")?;
        let kept = found.iter().map(|found| found.name.clone());
        self.kept = kept
            .filter(|name| name.starts_with(KEPT) && name != COUNTS)
            .collect();
        let Sorted {
            estate,
            told,
            rejected,
        } = sorted(found, config)?;
        self.give_back(|name| !rejected.iter().any(|(gone, _)| gone == name));
        let addrs: BTreeSet<_> = rejected.into_iter().filter_map(|(_, addr)| addr).collect();
        for addr in addrs.iter().filter(|addr| config.listen.contains(addr)) {
            wait_until_free(*addr);
        }
        Ok((estate, told))
    }
}

/// What was found, by what becomes of it.
#[derive(Debug, Default)]
struct Sorted {
    estate: Estate,
    /// What an operator should know.
    told: Vec<String>,
    /// Kept sockets that are not gone on with, and are closed here: their names and addresses.
    rejected: Vec<(String, Option<SocketAddr>)>,
}

/// The manager hears in its own time that it is to close a socket, and closes it in its own thread
/// (`asynchronous_close` of systemd). What is still there then is told by who binds.
fn wait_until_free(addr: SocketAddr) {
    let deadline = Instant::now() + FREE_MAX;
    while UdpSocket::bind(addr).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

fn sorted(found: Vec<Inherited>, config: &EngineConfig) -> anyhow::Result<Sorted> {
    let mut sorted = Sorted::default();
    let Sorted {
        estate,
        told,
        rejected,
    } = &mut sorted;
    let mut groups: BTreeMap<SocketAddr, Vec<(Place, Member)>> = BTreeMap::new();
    let mut names: BTreeMap<SocketAddr, Vec<String>> = BTreeMap::new();
    let mut deaf = BTreeSet::new();
    let mut counts = Counts::new();
    for Inherited { name, descriptor } in found {
        if name == COUNTS {
            counts = read_counts(File::from(descriptor));
            continue;
        }
        let kind = Found::of(descriptor.as_fd());
        let kind = kind.with_context(|| format!("cannot look at the socket {name:?}"))?;
        match kind {
            Found::Datagrams(addr) => match Place::read(&name) {
                Some(place) => {
                    names.entry(addr).or_default().push(name);
                    let member = Member {
                        socket: descriptor,
                        drops: None,
                    };
                    groups.entry(addr).or_default().push((place, member));
                }
                None if config.listen.contains(&addr) => estate.alone.push(Alone {
                    addr,
                    socket: descriptor,
                }),
                None => bail!(stranger(&name, "datagrams", addr)),
            },
            Found::Listener(addr) => {
                let kept = name.starts_with(KEPT);
                let wanted = config
                    .streams
                    .addresses()
                    .find(|(wanted, _)| *wanted == addr);
                if wanted.is_none() && !kept {
                    bail!(stranger(&name, "connections", addr));
                }
                estate.listening.push(Listening {
                    asked: addr,
                    addr,
                    tls: wanted.map(|(_, tls)| tls),
                    socket: descriptor,
                });
            }
            Found::Connected(addr) if Place::read(&name).is_some() => {
                rejected.push((name, Some(addr)));
                deaf.insert(addr);
            }
            Found::Connected(addr) => bail!(
                "the service manager opened {name:?} at {addr} and connected it: it would hear one sender only\n  \
                 leave its unit out of Sockets="
            ),
            Found::Other if name.starts_with(KEPT) => {
                told.push(format!(
                    "what the service manager kept as {name:?} is closed: it is no UDP socket, and no TCP socket that listens"
                ));
                rejected.push((name, None));
            }
            Found::BothFamilies(addr) => bail!(
                "the service manager opened {name:?} at {addr} for IPv4 too, whose sources could not be checked\n  \
                 set BindIPv6Only=ipv6-only in its unit, and a ListenDatagram= or ListenStream= of its own for 0.0.0.0"
            ),
            Found::Other => bail!(
                "the service manager opened {name:?}, which is neither a UDP socket nor a TCP socket that listens\n  \
                 leave its unit out of Sockets="
            ),
        }
    }
    for addr in &deaf {
        // A part of it may not be connected yet, where a run ended on its way out of there.
        groups.remove(addr);
        rejected.extend((names.remove(addr).into_iter().flatten()).map(|name| (name, Some(*addr))));
        told.push(rejection(
            *addr,
            "a run before had closed them, and they hear nobody",
        ));
    }
    for (addr, members) in groups {
        match whole(addr, members, config.shard_count()) {
            Ok((seed, mut group)) => {
                if let Some(drops) = counts.get(&addr) {
                    group.go_on_from(drops);
                }
                // A socket of a unit may be in its group too: then the group is more.
                estate.alone.retain(|alone| alone.addr != addr);
                estate.seed = estate.seed.or(Some(seed));
                estate.groups.push(group);
            }
            Err(why) => {
                let names = names.remove(&addr).into_iter().flatten();
                rejected.extend(names.map(|name| (name, Some(addr))));
                told.push(rejection(addr, &why));
            }
        }
    }
    Ok(sorted)
}

fn rejection(addr: SocketAddr, why: &str) -> String {
    format!(
        "the sockets for datagrams that the service manager kept of {addr} are closed, and what was queued in them is lost: {why}"
    )
}

/// What [`Service::keep_counts`] wrote; nothing if it is something else.
fn read_counts(mut file: File) -> Counts {
    let mut text = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(COUNTS_LEN_MAX).read_to_end(&mut text));
    let read = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    read.unwrap_or_default()
}

fn stranger(name: &str, what: &str, addr: SocketAddr) -> String {
    format!(
        "the service manager opened {name:?} for {what} at {addr}, where the configuration does not listen for them\n  \
         name this address as a socket of the configuration, or leave its unit out of Sockets="
    )
}

/// What a kept socket is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    index: usize,
    count: usize,
    seed: u32,
}

impl Place {
    /// What the name of a kept socket says; `None` for any other name.
    fn read(name: &str) -> Option<Self> {
        let mut words = name.strip_prefix(KEPT)?.strip_prefix("udp-")?.rsplit('-');
        let seed = u32::from_str_radix(words.next()?, 16).ok()?;
        let (index, count) = words.next()?.split_once("of")?;
        Some(Self {
            index: index.parse().ok()?,
            count: count.parse().ok()?,
            seed,
        })
    }
}

/// The group that `members` are, if they are one for so many shards, and what it is steered by; or why not.
fn whole(
    addr: SocketAddr,
    mut members: Vec<(Place, Member)>,
    shards: u16,
) -> Result<(u32, Group), String> {
    members.sort_by_key(|(place, _)| place.index);
    let first = members[0].0;
    let is_whole = members.len() == first.count
        && (0..)
            .zip(&members)
            .all(|(index, (place, _))| *place == Place { index, ..first });
    if !is_whole {
        return Err(format!(
            "of {} there are {}; raise FileDescriptorStoreMax=",
            first.count,
            members.len()
        ));
    }
    if first.count != usize::from(shards) + 1 {
        return Err(format!(
            "they are for {} shards, and there are {shards} now",
            first.count - 1
        ));
    }
    let members = members.into_iter().map(|(_, member)| member).collect();
    let group = Group {
        asked: addr,
        addr,
        members,
    };
    Ok((first.seed, group))
}

/// The sockets of `estate`, each with the name that it is kept under.
fn named(estate: &Estate) -> Vec<(String, BorrowedFd<'_>)> {
    // A name has no colons (sd_notify(3)).
    let shown = |addr: SocketAddr| addr.to_string().replace(':', "_");
    let seed = estate.seed.unwrap_or_default();
    let mut named = Vec::new();
    for group in &estate.groups {
        let (addr, count) = (shown(group.addr), group.members.len());
        for (index, member) in group.members.iter().enumerate() {
            let name = format!("{KEPT}udp-{addr}-{index}of{count}-{seed:08x}");
            named.push((name, member.socket.as_fd()));
        }
    }
    for listening in &estate.listening {
        let addr = shown(listening.addr);
        named.push((format!("{KEPT}tcp-{addr}"), listening.socket.as_fd()));
    }
    named
}

/// A socket that says what it is told to `path`, which is a name in the abstract namespace where it begins with `@`.
fn connected(path: &OsString) -> anyhow::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().split_first() {
        Some((b'@', name)) => socket.connect_addr(&UnixAddr::from_abstract_name(name)?)?,
        Some((b'/', _)) => socket.connect(path)?,
        _ => bail!("a path, or a name behind @, is expected"),
    }
    socket.set_write_timeout(Some(SURELY_MAX))?;
    // A manager that does not read must not hold up what it is told of.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Up to where drops were counted, for each socket of the group of an address.
type Counts = BTreeMap<SocketAddr, Vec<Option<u32>>>;

/// What these are kept as.
const COUNTS: &str = "binrush-drops";

/// Those of all listeners of an engine with all its shards are shorter.
const COUNTS_LEN_MAX: u64 = 1 << 20;

/// What the names of our kept sockets begin with.
const KEPT: &str = "binrush-";

/// The longest that a manager is waited for that is busy.
const SURELY_MAX: Duration = Duration::from_secs(1);

/// The longest that records may take to be loaded while no sign of life is given.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// The longest that a manager is waited for to close a socket that it kept.
const FREE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
