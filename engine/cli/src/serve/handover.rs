//! A new process takes the sockets of the running one: restart and upgrade without a closed socket.
//!
//! ```text
//!   heir (new)                                     giver (old, which receives until it hears "go")
//!   configuration read and found in order
//!   {"ask":"handover","language":1}  ─────────────▶  root, or our user? (control socket)
//!                     ◀───────────── {"say":"offer"}  release, pid, shards, seed, listeners
//!   it fits? no: {"say":"no","why"}  ─────────────▶  goes on
//!            yes: {"say":"go"}       ─────────────▶  control, HTTP and clusters end; shards finish their batches and end;
//!                                                    journals are on the disk, their locks are free
//!                     ◀───────────── {"say":"yours"}  totals so far, counts of drops, and the sockets (SCM_RIGHTS)
//!   journals opened, shards started, control and HTTP opened
//!   {"say":"ready"}                  ─────────────▶  tells its totals and ends
//! ```
//!
//! Until "go" the giver has changed nothing. Behind it, it keeps its own references to the sockets, and waits: if its heir
//! is gone before "ready", however that came, the kernel ends the connection, and the giver starts once more from its own
//! sockets and journals, as if it were its own heir. It does not end its heir for being slow: of two who may both have the
//! journals, none can be sure. Nobody reads the sockets from "go" to the start of the heir's shards; what arrives waits in
//! the kernel, as it would for a busy receiver.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use binrush_engine::engine::estate::{Group, Listening, Member};
use binrush_engine::engine::{Engine, Estate};
use binrush_engine::handover::Passage;
use binrush_engine::{EngineConfig, Snapshot};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::Settings;
use crate::control::client;
use crate::control::message::Request;
use crate::text::{Harmless, counted};

/// What is said, by either side.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Say {
    Offer(Offer),
    Go {
        /// Of the heir, for people.
        #[serde(default)]
        pid: Option<u32>,
    },
    No {
        why: String,
    },
    Yours(Yours),
    Ready {},
}

/// What a giver is and has.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    /// Its release.
    binrush: String,
    pid: u32,
    shards: u16,
    seed: u32,
    /// For people.
    listen: Vec<SocketAddr>,
    /// Whom it tells how it is: a service manager, which starts another one when it ends.
    #[serde(default)]
    manager: Option<String>,
    /// Whose its files are.
    #[serde(default)]
    uid: Option<u32>,
}

/// What belongs to the heir from now on. The sockets come with it: those of each group in its order, then those that listen.
#[derive(Debug, Serialize, Deserialize)]
struct Yours {
    seed: u32,
    groups: Vec<GroupRow>,
    listening: Vec<ListeningRow>,
    before: Before,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupRow {
    asked: SocketAddr,
    addr: SocketAddr,
    /// The kernel's count of drops up to which the giver has told them, for each socket.
    drops: Vec<Option<u32>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ListeningRow {
    asked: SocketAddr,
    addr: SocketAddr,
    tls: Option<bool>,
}

/// What those came to who had the sockets before: their ledgers, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    /// How many there were.
    pub(super) lives: u64,
    /// Datagrams and packets of streams that they received, all of which came to an outcome.
    pub(super) received: u64,
    /// Datagrams that the kernel dropped in their time.
    pub(super) dropped: u64,
}

/// What a server begins with.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Sockets that are open already.
    pub(super) estate: Estate,
    pub(super) before: Before,
    pub(super) from: From,
}

/// Whom the sockets are from.
#[derive(Debug, Default)]
pub(super) enum From {
    /// They are bound by this process.
    #[default]
    Nobody,
    /// A process that waits to hear that all went well.
    Giver {
        giver: Passage,
        pid: u32,
        release: String,
        /// When it stopped to receive, at the earliest.
        asked: Instant,
    },
    /// This process itself, whose heir is gone; what was said of that.
    Ourselves(String),
    /// A service manager.
    Manager,
}

/// Who wants our sockets, and has said "go".
#[derive(Debug)]
pub(super) struct Heir {
    passage: Passage,
    /// Made before it was offered: without descriptors to spare nothing is, and the giver goes on.
    estate: Estate,
    pid: Option<u32>,
}

/// An heir, without what it is to get.
#[derive(Debug)]
pub(super) struct Waiting {
    passage: Passage,
    pid: Option<u32>,
}

/// What became of sockets that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// Everything runs there.
    Ready,
    /// We were asked to end while it had not said so: it has all that it needs, and may fail yet.
    Unconfirmed,
}

impl Taken {
    /// Takes over what the server at `control` has; only when this returns `Some` has that one stopped to receive. `None`:
    /// nobody is there. `config` is made to have as many shards as there are.
    ///
    /// # Errors
    /// It does not give them, or they do not fit; then it goes on.
    pub(super) fn take(control: &Path, settings: &mut Settings) -> anyhow::Result<Option<Self>> {
        let request = Request::Handover { language: LANGUAGE };
        let Some(stream) = client::open(control, &request)? else {
            return Ok(None);
        };
        let mut giver = Passage::new(stream).context(TALK)?;
        let (say, _) = hear(&mut giver, 0, OFFER_MAX).context(TALK)?;
        let Say::Offer(offer) = say else {
            return Err(unexpected());
        };
        let is_kept_on_one = settings.is_kept_on_one_shard();
        if let Err(why) = fits(&offer, &mut settings.engine, is_kept_on_one) {
            // Whether it hears that or not, it goes on.
            let _ = say_to(&giver, &Say::No { why: why.clone() }, &[]);
            bail!("the server with pid {} goes on: {why}", offer.pid);
        }
        let asked = Instant::now();
        let pid = Some(process::id());
        say_to(&giver, &Say::Go { pid }, &[]).context(TALK)?;
        let (say, sockets) = hear(&mut giver, SOCKETS_MAX, GIVE_MAX).context(TALK)?;
        let Say::Yours(yours) = say else {
            return Err(unexpected());
        };
        Ok(Some(Self {
            before: yours.before,
            estate: yours.with(sockets)?,
            from: From::Giver {
                giver,
                pid: offer.pid,
                release: offer.binrush,
                asked,
            },
        }))
    }

    /// Says that everything runs, so that who had the sockets before ends.
    pub(super) fn ready(&self) {
        if let From::Giver { giver, .. } = &self.from {
            // If it is gone already, it needs to hear nothing.
            let _ = say_to(giver, &Say::Ready {}, &[]);
        }
    }

    /// For the ready line: in words, if there is something to say.
    pub(super) fn words(&self, sockets: usize) -> Option<String> {
        let sockets = counted(sockets as u64, "socket");
        let Before {
            lives,
            received,
            dropped,
        } = self.before;
        let from = match &self.from {
            From::Nobody => return None,
            From::Manager => return Some(format!("{sockets} of the service manager")),
            From::Ourselves(why) => format!("{sockets} taken back ({why})"),
            From::Giver {
                pid,
                release,
                asked,
                ..
            } => format!(
                "{sockets} of pid {pid} (binrush {release}) taken over in {} ms",
                asked.elapsed().as_millis()
            ),
        };
        let runs = counted(lives, "run");
        Some(format!(
            "{from}; {} received and {dropped} dropped in {runs} before",
            counted(received, "packet")
        ))
    }

    /// The same as JSON.
    pub(super) fn json(&self, sockets: usize) -> Value {
        let (from, more) = match &self.from {
            From::Nobody => return Value::Null,
            From::Manager => ("manager", Value::Null),
            From::Ourselves(why) => ("ourselves", why.clone().into()),
            From::Giver { pid, asked, .. } => {
                let ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
                ("giver", json!({ "pid": pid, "ms": ms }))
            }
        };
        json!({ "from": from, "about": more, "sockets": sockets, "before": self.before })
    }
}

impl Heir {
    /// Offers what `engine` has to who asks over `stream`. `None`: it does not want it, or is gone, in words; then nothing
    /// has changed.
    pub(super) fn offer(stream: UnixStream, engine: &Engine) -> Result<Self, String> {
        let told = |error: io::Error| format!("who asked for the sockets is gone: {error}");
        let mut passage = Passage::new(stream).map_err(told)?;
        let estate = engine.estate().map_err(|error| {
            let why = format!("no descriptors are left to give the sockets away: {error}");
            let answer = json!({ "error": &why }).to_string();
            // Whether it hears that or not, nothing has changed.
            let _ = passage.send(answer.as_bytes(), &[], SAY_MAX);
            why
        })?;
        let offer = Offer {
            binrush: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            shards: engine.steering().shards(),
            seed: engine.steering().seed(),
            listen: engine.listeners().map(|listener| listener.addr).collect(),
            manager: manager(),
            uid: Some(geteuid().as_raw()),
        };
        say_to(&passage, &Say::Offer(offer), &[]).map_err(told)?;
        match hear(&mut passage, 0, GO_MAX).map_err(told)?.0 {
            Say::Go { pid } => Ok(Self {
                passage,
                estate,
                pid,
            }),
            Say::No { why } => Err(format!(
                "who asked for the sockets cannot go on with them: {}",
                Harmless(&why)
            )),
            _ => Err("who asked for the sockets makes no sense".to_owned()),
        }
    }

    /// Apart from what it is to get, which says up to where drops were counted once the engine has ended.
    pub(super) fn with_estate(self) -> (Waiting, Estate) {
        let Self {
            passage,
            estate,
            pid,
        } = self;
        (Waiting { passage, pid }, estate)
    }
}

impl Waiting {
    /// Gives it the sockets, of which this process keeps its own references, and waits until everything runs there. That it
    /// waits, for whom and how long, goes to `still_waits` every few seconds.
    ///
    /// # Errors
    /// It is gone, in words: the sockets are ours to go on with.
    pub(super) fn give(
        mut self,
        estate: &Estate,
        before: Before,
        stop: &AtomicBool,
        mut still_waits: impl FnMut(&str),
    ) -> Result<Given, String> {
        let told = |error: io::Error| format!("the heir is gone before it was ready: {error}");
        let (yours, sockets) = Yours::of(estate, before);
        say_to(&self.passage, &Say::Yours(yours), &sockets).map_err(told)?;
        let begun = Instant::now();
        let mut noticed = begun;
        loop {
            if noticed.elapsed() >= NOTICE {
                noticed = Instant::now();
                let pid = self
                    .pid
                    .map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                let seconds = begun.elapsed().as_secs();
                still_waits(&format!(
                    "waiting for the heir with pid {pid} to be ready, for {seconds} s: what arrives is queued in the kernel"
                ));
            }
            match hear(&mut self.passage, 0, LOOK) {
                Ok((Say::Ready {}, _)) => return Ok(Given::Ready),
                Ok(_) => return Err("the heir makes no sense".to_owned()),
                // Who ends us now knows of the heir, which has all that it needs.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(Given::Unconfirmed);
                    }
                }
                Err(error) => return Err(told(error)),
            }
        }
    }
}

impl Yours {
    fn of(estate: &Estate, before: Before) -> (Self, Vec<BorrowedFd<'_>>) {
        let members = estate.groups.iter().flat_map(|group| &group.members);
        let sockets = members.map(|member| member.socket.as_fd());
        let sockets = sockets.chain(estate.listening.iter().map(|each| each.socket.as_fd()));
        let groups = estate.groups.iter().map(|group| GroupRow {
            asked: group.asked,
            addr: group.addr,
            drops: group.members.iter().map(|member| member.drops).collect(),
        });
        let listening = estate.listening.iter().map(|each| ListeningRow {
            asked: each.asked,
            addr: each.addr,
            tls: each.tls,
        });
        let yours = Self {
            seed: estate.seed.unwrap_or_default(),
            groups: groups.collect(),
            listening: listening.collect(),
            before,
        };
        (yours, sockets.collect())
    }

    fn with(self, sockets: Vec<OwnedFd>) -> anyhow::Result<Estate> {
        let rows = self.groups.iter().map(|group| group.drops.len());
        let wanted = rows.sum::<usize>() + self.listening.len();
        if sockets.len() != wanted {
            bail!(
                "{wanted} sockets were announced, and {} came",
                sockets.len()
            );
        }
        let mut sockets = sockets.into_iter();
        let mut next = || sockets.next().expect("they were counted");
        let groups = self.groups.into_iter().map(|row| Group {
            asked: row.asked,
            addr: row.addr,
            members: (row.drops.into_iter())
                .map(|drops| Member {
                    socket: next(),
                    drops,
                })
                .collect(),
        });
        let groups = groups.collect();
        let listening = self.listening.into_iter().map(|row| Listening {
            asked: row.asked,
            addr: row.addr,
            tls: row.tls,
            socket: next(),
        });
        Ok(Estate {
            seed: Some(self.seed),
            groups,
            alone: Vec::new(),
            listening: listening.collect(),
        })
    }
}

impl Before {
    /// With one more life, which came to `totals`.
    pub(super) fn and(self, totals: &Snapshot) -> Self {
        Self {
            lives: self.lives + 1,
            received: self.received + totals.total.received,
            dropped: self.dropped + totals.kernel.total(),
        }
    }
}

/// Whether we can go on with what is offered. Where nobody asked for a number of shards, it stays as it is. `is_kept_on_one`: it is the
/// route that asks for one.
fn fits(offer: &Offer, config: &mut EngineConfig, is_kept_on_one: bool) -> Result<(), String> {
    if offer.manager.is_some() && offer.manager != manager() {
        return Err(
            "it is run by a service manager, which starts another one when it ends, and does not know this one\n  \
             restart it by `systemctl restart`, which keeps its sockets too where the unit has FileDescriptorStoreMax="
                .to_owned(),
        );
    }
    let us = geteuid().as_raw();
    if let Some(uid) = offer.uid.filter(|uid| *uid != us) {
        return Err(format!(
            "it runs as user {uid}, and this one as user {us}: what it keeps on the disk would change hands\n  \
             start this one as that user"
        ));
    }
    let (has, wanted) = (offer.shards, config.shard_count());
    if has != wanted && is_kept_on_one {
        return Err(format!(
            "it has {}, and the route of this configuration can reach functions of modules that run on one shard, so this one \
             would have no other: packets of one record would overtake each other on the way from one to the other\n  \
             modparam(\"binrush\", \"reentrant\", ...) names modules whose code may run on all shards; or call them elsewhere than in \
             route, or stop that server and start this one",
            counted(has.into(), "shard")
        ));
    }
    if has != wanted && config.shards.is_some() {
        return Err(format!(
            "it has {}, and {wanted} are asked for: packets of one record would overtake each other on the way from one to \
             the other\n  leave `shards` as it was, or stop that server and start this one",
            counted(has.into(), "shard")
        ));
    }
    config.shards = config.shards.or_else(|| (has != wanted).then_some(has));
    Ok(())
}

/// Whom this process tells how it is.
fn manager() -> Option<String> {
    env::var_os("NOTIFY_SOCKET").map(|path| path.to_string_lossy().into_owned())
}

fn say_to(passage: &Passage, say: &Say, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = serde_json::to_vec(say).expect("numbers and texts are JSON");
    passage.send(&line, sockets, SAY_MAX)
}

/// What the other side says next.
fn hear(
    passage: &mut Passage,
    sockets: usize,
    patience: Duration,
) -> io::Result<(Say, Vec<OwnedFd>)> {
    let passed = passage.receive(LINE_LEN_MAX, sockets, patience)?;
    let said = serde_json::from_slice(&passed.line);
    match said {
        Ok(say) => Ok((say, passed.descriptors)),
        Err(error) => {
            // A server that cannot answers as it answers all questions.
            let answer: Value = serde_json::from_slice(&passed.line).unwrap_or_default();
            let why = answer["error"].as_str();
            let why = why.map_or_else(|| error.to_string(), |why| Harmless(why).to_string());
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

fn unexpected() -> anyhow::Error {
    anyhow!("the running server says something else than was asked for: stop it and start this one")
}

const TALK: &str = "the running server does not give its sockets up, and goes on";

/// The version of what is said here: of two binaries that differ in it, none takes from the other.
pub(super) const LANGUAGE: u32 = 1;

/// The longest that an offer is waited for: a look of the control thread, and a snapshot.
const OFFER_MAX: Duration = Duration::from_secs(5);

/// The longest that a giver waits for an answer to it, in which it looks after nothing else.
const GO_MAX: Duration = Duration::from_secs(2);

/// The longest that the end of a giver may take: its clusters, its shards, its journals.
const GIVE_MAX: Duration = Duration::from_secs(60);

/// The longest that the other side may take to take a line.
const SAY_MAX: Duration = Duration::from_secs(5);

/// How often a giver that waits says so.
const NOTICE: Duration = Duration::from_secs(5);

/// How often a giver that waits looks whether it is asked to end.
const LOOK: Duration = Duration::from_millis(100);

/// More than all listeners of an engine with all its shards have.
const SOCKETS_MAX: usize = 4096;

const LINE_LEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(shards: u16) -> Offer {
        Offer {
            binrush: "0".into(),
            pid: 1,
            shards,
            seed: 7,
            listen: Vec::new(),
            manager: manager(),
            uid: Some(geteuid().as_raw()),
        }
    }

    #[test]
    fn who_is_of_another_manager_or_user_is_refused_and_an_offer_that_says_neither_is_not() {
        let mut config = EngineConfig::new(([127, 0, 0, 1], 0).into());
        let mut managed = offer(config.shard_count());
        managed.manager = Some("/run/of/somebody/else".to_owned());
        let why = fits(&managed, &mut config, false).unwrap_err();
        assert!(why.contains("systemctl restart"), "{why}");
        let mut other = offer(config.shard_count());
        other.uid = other.uid.map(|uid| uid + 1);
        let why = fits(&other, &mut config, false).unwrap_err();
        assert!(why.contains("start this one as that user"), "{why}");
        let before = r#"{"binrush":"0","pid":1,"shards":1,"seed":7,"listen":[]}"#;
        let before: Offer = serde_json::from_str(before).unwrap();
        assert_eq!((before.manager, before.uid), (None, None));
    }

    #[test]
    fn a_number_of_shards_that_was_asked_for_has_to_fit_and_one_that_was_not_stays() {
        let mut config = EngineConfig::new(([127, 0, 0, 1], 0).into());
        config.shards = Some(2);
        assert_eq!(fits(&offer(2), &mut config, false), Ok(()));
        let why = fits(&offer(1), &mut config, false).unwrap_err();
        assert!(why.contains("it has 1 shard, and 2 are asked for"), "{why}");
        config.shards = None;
        let had = config.shard_count() + 1;
        assert_eq!(fits(&offer(had), &mut config, false), Ok(()));
        assert_eq!(config.shards, Some(had));
    }

    #[test]
    fn where_the_route_needs_one_shard_that_is_what_is_told() {
        let mut config = EngineConfig::new(([127, 0, 0, 1], 0).into());
        config.shards = Some(1);
        assert_eq!(fits(&offer(1), &mut config, true), Ok(()));
        let why = fits(&offer(4), &mut config, true).unwrap_err();
        assert!(
            why.starts_with("it has 4 shards, and the route of this configuration can reach functions of modules that run on one shard"),
            "{why}"
        );
        assert!(
            why.contains("reentrant") && !why.contains("leave `shards`"),
            "{why}"
        );
    }

    #[test]
    fn what_is_given_comes_as_it_was() {
        let addr = "127.0.0.1:5555".parse().unwrap();
        let socket = || OwnedFd::from(io::pipe().unwrap().0);
        let member = |drops| Member {
            socket: socket(),
            drops,
        };
        let estate = Estate {
            seed: Some(9),
            groups: vec![Group {
                asked: addr,
                addr,
                members: vec![member(Some(3)), member(None)],
            }],
            alone: Vec::new(),
            listening: vec![Listening {
                asked: addr,
                addr,
                tls: Some(true),
                socket: socket(),
            }],
        };
        let before = Before {
            lives: 2,
            received: 10,
            dropped: 1,
        };
        let (yours, sockets) = Yours::of(&estate, before);
        let line = serde_json::to_vec(&Say::Yours(yours)).unwrap();
        let passed = |count: usize| {
            let sockets = sockets.iter().take(count);
            let Say::Yours(yours) = serde_json::from_slice(&line).unwrap() else {
                panic!("{}", String::from_utf8_lossy(&line));
            };
            assert_eq!(yours.before, before);
            yours.with(
                sockets
                    .map(|each| each.try_clone_to_owned().unwrap())
                    .collect(),
            )
        };
        let came = passed(3).unwrap();
        assert_eq!(
            (came.seed, came.sockets(), came.shards()),
            (Some(9), 3, Some(1))
        );
        assert_eq!(came.groups[0].members[0].drops, Some(3));
        assert_eq!(came.listening[0].tls, Some(true));
        let why = passed(2).unwrap_err().to_string();
        assert!(
            why.contains("3 sockets were announced, and 2 came"),
            "{why}"
        );
    }
}
