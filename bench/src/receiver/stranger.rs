//! Receivers that are programs of others: started by a command, or there already.
//!
//! Such a one says nothing that could be understood. So it is ready when the kernel lists its port, all of its threads
//! count as receiving ones, and how many packets it took is known from the kernel: those sent, less those dropped at
//! its socket.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::ValueEnum as _;

use super::{Body, Kind, Receiver, all_are};
use crate::patience::Patience;
use crate::process::Process;
use crate::procfs::{self, Thread, streams};
use crate::target::Transport;

/// `--receiver NAME=COMMAND`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    name: String,
    /// Of the command, as a shell would split it; none for a process that is there already.
    words: Vec<String>,
}

/// What belongs to those commands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Where {
    pub(crate) port: Option<u16>,
    pub(crate) pid: Option<u32>,
    pub(crate) may_stop: bool,
}

/// A program of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stranger {
    name: String,
    how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    /// Started anew each time, at this port or at any.
    Command {
        words: Vec<String>,
        port: Option<u16>,
    },
    There {
        pid: u32,
        port: u16,
        may_stop: bool,
    },
}

impl Stranger {
    /// All of them, in the order in which they were named.
    pub(crate) fn all(named: &[Named], at: Where) -> anyhow::Result<Vec<Self>> {
        let there = named.iter().filter(|one| one.words.is_empty()).count();
        ensure!(
            there == usize::from(at.pid.is_some()) && there <= 1,
            "--pid belongs to one receiver without a command, `--receiver NAME= --port PORT --pid PID`"
        );
        ensure!(
            !at.may_stop || at.pid.is_some(),
            "--may-stop is about the process that --pid names"
        );
        let mut all: Vec<Self> = Vec::new();
        for Named { name, words } in named {
            ensure!(
                all.iter().all(|other| other.name != *name),
                "two receivers are named {name}"
            );
            let how = Self::how(words, at).with_context(|| format!("--receiver {name}"))?;
            all.push(Self {
                name: name.clone(),
                how,
            });
        }
        Ok(all)
    }

    fn how(words: &[String], at: Where) -> anyhow::Result<How> {
        if words.is_empty() {
            let (port, pid) = at
                .port
                .zip(at.pid)
                .context("--port must say where it receives")?;
            let may_stop = at.may_stop;
            return Ok(How::There {
                pid,
                port,
                may_stop,
            });
        }
        let takes_any = words.iter().any(|word| word.contains(PORT));
        ensure!(
            takes_any || at.port.is_some(),
            "nobody says where it receives: put {PORT} into the command, or name the port with --port"
        );
        Ok(How::Command {
            words: words.to_vec(),
            port: at.port.filter(|_| !takes_any),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The command, or the process.
    pub(crate) fn describe(&self) -> String {
        match &self.how {
            How::Command { words, .. } => words.join(" "),
            How::There { pid, port, .. } => format!("process {pid} at port {port}"),
        }
    }

    /// Starts it on `core`, where there is a command, and returns when it has bound its port. Call it on the first
    /// thread, to which the process is tied.
    pub(crate) fn start(
        &self,
        transport: Transport,
        core: usize,
        patience: &Patience,
    ) -> anyhow::Result<Receiver> {
        let (body, port) = match &self.how {
            How::There {
                pid,
                port,
                may_stop,
            } => {
                let (pid, may_stop) = (*pid, *may_stop);
                (Body::There { pid, may_stop }, *port)
            }
            How::Command { words, port } => {
                let port = port.map_or_else(|| free_port(transport), Ok)?;
                ensure!(
                    !is_bound(transport, port)?,
                    "{} port {port} is somebody else's already",
                    transport.symbol()
                );
                let filled = |word: &String| {
                    let word = word.replace(PORT, &port.to_string());
                    OsString::from(word.replace(CORE, &core.to_string()))
                };
                let words: Vec<OsString> = words.iter().map(filled).collect();
                let (program, args) = words.split_first().context("a command has a word")?;
                let process = Process::start_stranger(&self.name, Path::new(program), args, core)?;
                (Body::Stranger(process), port)
            }
        };
        let mut receiver = Receiver::of(body, transport, patience);
        receiver.addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        receiver.get_bound()?;
        Ok(receiver)
    }
}

impl Receiver {
    /// Waits until a stranger has bound its port, and has gone to sleep if it ever does.
    fn get_bound(&mut self) -> anyhow::Result<()> {
        let (transport, port) = (self.transport, self.addr.port());
        let what = format!("{} port {port} to be bound by it", transport.symbol());
        let patience = self.patience.clone();
        patience.until(what, READY_MAX, || {
            self.check_alive()
                .context("it must stay in the foreground, and listen where the command says")?;
            is_bound(transport, port)
        })?;
        if transport == Transport::Udp {
            for table in procfs::UDP_TABLES {
                if !procfs::queues_of(table, port)?.is_empty() {
                    self.table = table;
                }
            }
            self.sockets = self.count_sockets()?;
        }
        self.look_again()?;
        let asleep = patience.until("its threads to sleep", SLEEP_MAX, || {
            self.look_again()?;
            // One that has ended meanwhile is not in the next list.
            Ok(all_are(&self.threads, 'S').unwrap_or(false))
        });
        patience.check()?;
        self.sleeps = asleep.is_ok();
        Ok(())
    }
}

/// All threads of a process, and of those that it has started.
pub(super) fn threads_of(pid: u32) -> anyhow::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for member in procfs::family(pid)? {
        // One that ended since it was listed has none, and the first of them is looked after elsewhere.
        threads.extend(procfs::threads(member).unwrap_or_default());
    }
    Ok(threads)
}

fn is_bound(transport: Transport, port: u16) -> anyhow::Result<bool> {
    if transport == Transport::Tcp {
        return streams::is_listening(port);
    }
    for table in procfs::UDP_TABLES {
        if !procfs::queues_of(table, port)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A port that nobody has, a moment ago.
fn free_port(transport: Transport) -> anyhow::Result<u16> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let addr = match transport {
        Transport::Udp => UdpSocket::bind(any)?.local_addr()?,
        Transport::Tcp => TcpListener::bind(any)?.local_addr()?,
    };
    Ok(addr.port())
}

impl std::str::FromStr for Named {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, command) = text
            .split_once('=')
            .with_context(|| format!("expected NAME=COMMAND, not \"{text}\""))?;
        if !(1..=NAME_LEN_MAX).contains(&name.len()) || name.contains(char::is_whitespace) {
            bail!("a name has 1 to {NAME_LEN_MAX} characters and no space, not \"{name}\"");
        }
        if Kind::from_str(name, true).is_ok() {
            bail!("{name} is a receiver of this program, choose another name");
        }
        let words = shlex::split(command)
            .ok_or_else(|| anyhow!("a quote is not closed in \"{command}\""))?;
        Ok(Self {
            name: name.to_owned(),
            words,
        })
    }
}

/// What a command has where its port is to stand, and its core.
const PORT: &str = "{port}";
const CORE: &str = "{core}";

/// What the table has room for.
const NAME_LEN_MAX: usize = 16;

/// A genuine node with a database may take some seconds to start.
const READY_MAX: Duration = Duration::from_secs(30);

/// From then on it is taken for one that never sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Named {
        text.parse().unwrap()
    }

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        let named = named("node=/usr/sbin/opensips -F -f 'a b.cfg' --port={port}");
        let words = ["/usr/sbin/opensips", "-F", "-f", "a b.cfg", "--port={port}"];
        assert_eq!(named.words, words);
        assert_eq!(named.name, "node");
    }

    #[test]
    fn a_receiver_that_makes_no_sense_is_told_why() {
        for (text, words) in [
            ("node", "NAME=COMMAND"),
            ("=x", "1 to 16 characters"),
            ("a name=x", "no space"),
            ("seventeen-letters=x", "1 to 16 characters"),
            ("raw=x", "is a receiver of this program"),
            ("node=a 'b", "a quote is not closed"),
        ] {
            let error = text.parse::<Named>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn port_and_process_belong_to_whom_they_are_needed_by() {
        let at = |port, pid, may_stop| Where {
            port,
            pid,
            may_stop,
        };
        let how = |text: &str, at| Stranger::all(&[named(text)], at).map(|all| all[0].how.clone());
        let there = How::There {
            pid: 7,
            port: 5566,
            may_stop: true,
        };
        assert_eq!(how("x=", at(Some(5566), Some(7), true)).unwrap(), there);
        for (text, at, expected) in [
            ("x=cmd {port}", at(None, None, false), None),
            ("x=cmd {port}", at(Some(1), None, false), None),
            ("x=cmd", at(Some(1), None, false), Some(1)),
        ] {
            let How::Command { port, .. } = how(text, at).unwrap() else {
                panic!("{text} has a command");
            };
            assert_eq!(port, expected, "{text}");
        }
        for (text, at, words) in [
            (
                "x=cmd",
                at(None, None, false),
                "put {port} into the command",
            ),
            ("x=", at(Some(1), None, false), "--pid PID"),
            ("x=", at(None, Some(1), false), "--port must say"),
            ("x=cmd {port}", at(None, Some(1), false), "--pid PID"),
            ("x=cmd {port}", at(None, None, true), "--may-stop is about"),
        ] {
            let error = format!("{:#}", how(text, at).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        let twice = Stranger::all(
            &[named("x=a {port}"), named("x=b {port}")],
            at(None, None, false),
        );
        assert!(twice.unwrap_err().to_string().contains("two receivers"));
    }
}
