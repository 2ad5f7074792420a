//! A failover of nodes that somebody else runs: they are looked at before and after, and killed and started by who runs them.
//!
//! ```text
//!   lists of the active ──▶ what was alive ─┬─ equal? ─ standby (control socket), else nobody is killed
//!   kill, by a command or by hand           │           has the standby kept its records?
//!   start, likewise                         │
//!   lists of the fresh one, again and again ┴─ equal? but for what the standby was seen to change since
//! ```

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};

use super::node::millis;
use super::score::{Event, NodeScore, Rule, Score};
use crate::state::{self, Dump, Outcome, Rules, Search};
use crate::text::counted;
use shell::Shell;
use since::{Born, Looked, gone};

/// Asking genuine nodes over HTTP.
mod mi;
/// Commands and hands of who runs the nodes.
mod shell;
/// What has changed since somebody was killed.
mod since;

/// The nodes, and how they are asked, killed and started.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Beside genuine nodes")]
pub(super) struct RealArgs {
    /// Rehearse with nodes that are there: active=IP:PORT,standby=CONTROL_SOCKET,fresh=IP:PORT. The ports are those of BIN, over TCP.
    ///
    /// Nothing is killed that was not started here: --kill-command and --start-command do it, or you are asked to; and nothing is
    /// killed before the standby has what the active node shows. A node that takes no TCP at its port when it begins (1.x has BIN
    /// over UDP) is there while its lists are answered. Load is what your network has; there are no partitions, how stale a copy is
    /// is not measured, and ledgers are not looked at: those are for the drills.
    #[arg(long, value_name = "NODES", conflicts_with = "drills")]
    real: Option<Nodes>,

    /// Where a node is asked for ul_dump and dlg_list_ctx by JSON-RPC (mi_http, 3.0 and later): active=http://IP:PORT/mi, and fresh=...
    #[arg(long, value_name = "NODE=URL", requires = "real")]
    mi: Vec<Asked>,

    /// A command that prints what a node replies to ul_dump or dlg_list_ctx, for any release: active=COMMAND, and fresh=...; several
    /// times for several lists.
    #[arg(long, value_name = "NODE=COMMAND", requires = "real")]
    list_command: Vec<Asked>,

    /// Kills the active node, by a shell. Without it you are asked to.
    #[arg(long, value_name = "COMMAND", requires = "real")]
    kill_command: Option<String>,

    /// Starts the fresh node, by a shell; it has to return, within --patience. Without it you are asked to.
    #[arg(long, value_name = "COMMAND", requires = "real")]
    start_command: Option<String>,

    /// How long each step may take: until the standby has what the active node shows, until a command has returned, until the
    /// active node is gone, until the fresh one is there, until it has everything.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    patience: Duration,

    /// How far clocks may be apart: expires, last_modified.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    tolerance: Duration,

    /// Fields that are not compared: those that each node has of its own, unless told otherwise.
    #[arg(
        long,
        value_name = "FIELD",
        value_delimiter = ',',
        default_value = "socket,caller_socket,callee_socket,contact_id"
    )]
    ignore: Vec<String>,
}

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Nodes {
    active: SocketAddr,
    standby: PathBuf,
    fresh: SocketAddr,
}

/// Which genuine node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Active,
    Fresh,
}

/// How one of them is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    role: Role,
    /// A URL, or a command.
    how: String,
}

/// A rehearsal under way.
struct Rehearsal<'a> {
    args: &'a RealArgs,
    nodes: &'a Nodes,
    stop: &'a AtomicBool,
    begin: Instant,
    /// A node is there when it takes TCP at its port; else, when it answers its lists.
    sees_ports: bool,
    score: Score,
}

impl RealArgs {
    /// Carries it out; `None`: nobody asked for that.
    pub(super) fn rehearse(&self, stop: &AtomicBool) -> Option<Score> {
        let nodes = self.real.as_ref()?;
        let mut rehearsal = Rehearsal {
            args: self,
            nodes,
            stop,
            begin: Instant::now(),
            sees_ports: true,
            score: Score {
                drill: "real".to_owned(),
                title: format!(
                    "{} is killed, and {} gets everything from the engine at {}",
                    nodes.active,
                    nodes.fresh,
                    nodes.standby.display()
                ),
                form: "real",
                site: "nodes that were there".to_owned(),
                ..Score::default()
            },
        };
        let ran = rehearsal.run();
        let mut score = rehearsal.score;
        score.took_ms = millis(rehearsal.begin.elapsed());
        match ran {
            Ok(()) => score.judge(),
            Err(error) => score.why = Some(format!("{error:#}")),
        }
        Some(score)
    }
}

impl Rehearsal<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        for role in [Role::Active, Role::Fresh] {
            let (mut commands, mut urls) = (self.args.list_command.iter(), self.args.mi.iter());
            ensure!(
                commands.any(|asked| asked.role == role) || urls.any(|asked| asked.role == role),
                "nobody said how to ask the {role} node: --mi {role}=URL, or --list-command {role}=COMMAND"
            );
        }
        let born = Born::of(&self.nodes.standby)?;
        let Some((alive, before)) = self.alive()? else {
            self.say("the active node is not killed: it would be no rehearsal".to_owned());
            return Ok(());
        };
        self.sees_ports = listens(self.nodes.active);
        if !self.sees_ports {
            let at = self.nodes.active;
            self.say(format!(
                "nothing takes TCP at {at}, as with 1.x: a node is there while its lists are answered"
            ));
        }

        self.do_it(
            self.args.kill_command.as_deref(),
            "kill the active node",
            self.nodes.active,
        )?;
        let mut misses = 0;
        self.wait("the active node to be gone", |rehearsal| {
            misses = match rehearsal.is_there(Role::Active) {
                true => 0,
                false => misses + 1,
            };
            Ok(misses == MISSES)
        })?;
        self.say("the active node is gone".to_owned());
        self.kept(KILLED, &before, &born);
        let start = Instant::now();
        self.do_it(
            self.args.start_command.as_deref(),
            "start the fresh node",
            self.nodes.fresh,
        )?;
        self.wait("the fresh node to be there", |rehearsal| {
            Ok(rehearsal.is_there(Role::Fresh))
        })?;
        let ready_ms = millis(start.elapsed());
        self.say(format!("the fresh node is there after {ready_ms} ms"));
        self.look_at_the_fresh_one(&alive, &before, start, ready_ms)?;
        self.kept(LOOKED, &before, &born);
        Ok(())
    }

    /// What the active node shows, and the standby just then; `None`: they do not become equal, and nobody shall be killed.
    ///
    /// A node with traffic changes while it is asked, so they are looked at again.
    fn alive(&mut self) -> anyhow::Result<Option<(Dump, Dump)>> {
        let mut seen = None;
        let waited = self.wait(
            "the standby to have what the active node shows",
            |rehearsal| {
                let alive = rehearsal.lists(Role::Active, rehearsal.args.patience)?;
                ensure!(
                    !alive.records.is_empty(),
                    "the active node shows no record: there is nothing to lose"
                );
                let standby = rehearsal.standby()?;
                let outcome = Outcome::of(alive.clone(), standby.clone(), &rehearsal.rules());
                let is_equal = outcome.equal();
                seen = Some((alive, standby, outcome));
                Ok(is_equal)
            },
        );
        let Some((alive, before, outcome)) = seen else {
            waited?;
            bail!("the active node was not looked at");
        };
        self.go_on()?;
        let records = alive.records.len() as u64;
        self.score.records = records;
        self.say(format!(
            "the active node shows {}",
            counted(records, "record")
        ));
        self.node("standby", &outcome);
        let wrong = outcome.differences.len();
        let holds = wrong == 0 && !outcome.counts.is_empty();
        self.rule(
            "the standby has what the active node shows",
            holds,
            format!("{wrong} missing, different or too many"),
        );
        Ok(holds.then_some((alive, before)))
    }

    /// Whether a node can be seen.
    fn is_there(&self, role: Role) -> bool {
        match (self.sees_ports, role) {
            (true, Role::Active) => listens(self.nodes.active),
            (true, Role::Fresh) => listens(self.nodes.fresh),
            (false, role) => self.lists(role, self.args.patience / LOOKS).is_ok(),
        }
    }

    /// Looks at the standby: who lost its records, or began anew, is no witness of what else has changed.
    fn kept(&mut self, rule: &str, before: &Dump, born: &Born) {
        let path = &self.nodes.standby;
        let looked = Born::of(path).and_then(|now| Ok((now, self.standby()?)));
        let (holds, detail) = match looked {
            Ok((now, _)) if now != *born => (false, "it was started anew".to_owned()),
            Ok((_, now)) => gone(before, now, &self.rules()),
            Err(error) => (false, format!("{error:#}")),
        };
        self.rule(rule, holds, detail);
    }

    /// Until it has everything, or patience is over: then it is told what is missing.
    fn look_at_the_fresh_one(
        &mut self,
        alive: &Dump,
        before: &Dump,
        start: Instant,
        ready_ms: u64,
    ) -> anyhow::Result<()> {
        let (mut first_ms, mut told, mut trouble) = (None, None, None);
        let waited = self.wait("the fresh node to have everything", |rehearsal| {
            let lists = rehearsal.lists(Role::Fresh, rehearsal.args.patience);
            let (fresh, standby) = match lists.and_then(|fresh| Ok((fresh, rehearsal.standby()?))) {
                Ok(both) => both,
                // Until it answers, there is nothing to look at.
                Err(error) => {
                    trouble = Some(error);
                    return Ok(false);
                }
            };
            if !fresh.records.is_empty() {
                first_ms.get_or_insert_with(|| millis(start.elapsed()));
            }
            let looked = Looked::at(alive, before, standby, fresh, &rehearsal.rules());
            let is_all = looked.is_all();
            told = Some(looked);
            Ok(is_all)
        });
        self.go_on()?;
        let Some(looked) = told else {
            let trouble = trouble.map_or_else(String::new, |error| format!("{error:#}"));
            return waited.context(trouble);
        };
        let after = millis(start.elapsed());
        self.node("fresh", &looked.outcome);
        let fresh = self.score.nodes.last_mut().expect("it was added");
        fresh.ready_ms = Some(ready_ms);
        fresh.first_sync_ms = first_ms;
        fresh.verified_ms = waited.is_ok().then_some(after);
        self.say(format!("looked at the fresh node last after {after} ms"));
        self.rule(
            "the fresh node has what was alive",
            looked.is_all(),
            looked.words(),
        );
        Ok(())
    }

    /// What a genuine node shows, by all of its lists, each within so long.
    fn lists(&self, role: Role, patience: Duration) -> anyhow::Result<Dump> {
        let mut all = Dump::default();
        let of = |asked: &&Asked| asked.role == role;
        for command in self.args.list_command.iter().filter(of) {
            let shell = Shell {
                patience,
                ..self.shell()
            };
            let text = shell.output(&command.how)?;
            join(&mut all, &text).with_context(|| command.how.clone())?;
        }
        for url in self.args.mi.iter().filter(of) {
            for method in ["ul_dump", "dlg_list_ctx"] {
                let reply = mi::ask(&url.how, method);
                let reply = reply.with_context(|| format!("{method} at {}", url.how))?;
                join(&mut all, &reply).with_context(|| format!("{method} at {}", url.how))?;
            }
        }
        Ok(all)
    }

    fn standby(&self) -> anyhow::Result<Dump> {
        state::of_engine(&self.nodes.standby, &Search::default())
    }

    fn rules(&self) -> Rules {
        Rules {
            tolerance: self.args.tolerance.as_secs(),
            ignored: self.args.ignore.iter().cloned().collect(),
            kinds: Vec::new(),
        }
    }

    /// By its command, or by hand.
    fn do_it(&mut self, command: Option<&str>, what: &str, at: SocketAddr) -> anyhow::Result<()> {
        match command {
            Some(command) => {
                self.say(format!("{what}: {command}"));
                self.shell().run(command)
            }
            None => {
                self.shell().by_hand(what, at)?;
                self.say(format!("{what}: done by hand"));
                Ok(())
            }
        }
    }

    const fn shell(&self) -> Shell<'_> {
        Shell {
            stop: self.stop,
            patience: self.args.patience,
        }
    }

    /// Looks again and again; who cannot look any more says why.
    fn wait(
        &self,
        what: &str,
        mut done: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + self.args.patience;
        while !done(self)? {
            self.go_on()?;
            if Instant::now() > end {
                let patience = humantime::format_duration(self.args.patience);
                bail!("waited {patience} for {what}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Unless somebody wants to end it.
    fn go_on(&self) -> anyhow::Result<()> {
        ensure!(
            !self.stop.load(Ordering::Relaxed),
            super::stage::INTERRUPTED
        );
        Ok(())
    }

    fn node(&mut self, name: &'static str, outcome: &Outcome) {
        let mut node = NodeScore {
            node: name,
            ..NodeScore::default()
        };
        node.compare(outcome);
        self.score.nodes.push(node);
    }

    fn rule(&mut self, rule: &str, holds: bool, detail: String) {
        self.score.rules.push(Rule {
            rule: rule.to_owned(),
            holds,
            detail,
        });
    }

    fn say(&mut self, text: String) {
        let at_ms = millis(self.begin.elapsed());
        self.score.events.push(Event { at_ms, text });
    }
}

/// Adds what a node replied.
fn join(all: &mut Dump, reply: &[u8]) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.ok().map(|now| now.as_secs().cast_signed());
    let mut dump = Dump::read(reply, now)?;
    for kind in dump.kinds {
        if !all.kinds.contains(&kind) {
            all.kinds.push(kind);
        }
    }
    all.records.append(&mut dump.records);
    all.over += dump.over;
    all.vars_guessed |= dump.vars_guessed;
    Ok(())
}

fn listens(at: SocketAddr) -> bool {
    TcpStream::connect_timeout(&at, CONNECT_MAX).is_ok()
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut active, mut standby, mut fresh) = (None, None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| NODES.to_owned())?;
            let address = || value.parse().map_err(|_| format!("{value} is no IP:PORT"));
            match name.trim() {
                "active" => active = Some(address()?),
                "fresh" => fresh = Some(address()?),
                "standby" => standby = Some(value.into()),
                other => return Err(format!("{other} is none of them: {NODES}")),
            }
        }
        let (Some(active), Some(standby), Some(fresh)) = (active, standby, fresh) else {
            return Err(NODES.to_owned());
        };
        Ok(Self {
            active,
            standby,
            fresh,
        })
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, how) = match text.split_once('=') {
            Some(("active", how)) => (Role::Active, how),
            Some(("fresh", how)) => (Role::Fresh, how),
            _ => return Err("active=... or fresh=... expected".to_owned()),
        };
        Ok(Self {
            role,
            how: how.to_owned(),
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Fresh => "fresh",
        })
    }
}

const NODES: &str = "active=IP:PORT,standby=CONTROL_SOCKET,fresh=IP:PORT expected";

const KILLED: &str = "the standby kept its records when the active node was killed";
const LOOKED: &str = "the standby kept its records until the end";

/// A node that is killed stays away; one that was too busy for a moment does not.
const MISSES: u32 = 3;

/// A command that writes to the FIFO of a dead node hangs: patience has to last for [`MISSES`] of these.
const LOOKS: u32 = 2 * MISSES;

const CONNECT_MAX: Duration = Duration::from_millis(500);

const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_all_three_by_name_in_any_order() {
        let nodes: Nodes =
            "standby=/run/binrush/control.sock,fresh=10.0.0.1:5566,active=10.0.0.1:5566"
                .parse()
                .unwrap();
        assert_eq!(nodes.active, nodes.fresh);
        assert_eq!(nodes.standby, PathBuf::from("/run/binrush/control.sock"));
        for (wrong, why) in [
            ("active=10.0.0.1:5566", "expected"),
            ("active=x,standby=/s,fresh=10.0.0.1:1", "x is no IP:PORT"),
            (
                "active=10.0.0.1:1,standby=/s,flesh=10.0.0.1:1",
                "flesh is none",
            ),
        ] {
            let error = wrong.parse::<Nodes>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!("standby=x".parse::<Asked>().is_err());
    }
}
