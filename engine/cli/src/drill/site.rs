//! Where the nodes of a drill are: hosts with cables to one switch, each a network namespace, or addresses of this host.
//!
//! ```text
//!   root ─────────────────────▶ hosts:    switch ─┬─ eth0 10.99.0.1   active
//!   anybody, by unshare -Ur ──▶                   ├─ eth0 10.99.0.2   engine         a cable can be pulled,
//!                                                 ├─ eth0 10.99.0.3   third          a way can lose everything
//!                                                 └─ eth0 10.99.0.4   callers
//!   neither ──────────────────▶ loopback: 127.x.y.1 to .4                            processes can be stopped and killed
//! ```
//!
//! A host lives as long as a process that waits for the end of its standard input, and that comes with the end of the drill, however
//! it ends.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

use super::catalog::Who;

/// Where all of it is. Gone when dropped.
#[derive(Debug)]
pub(super) struct Site {
    folder: PathBuf,
    addresses: Vec<SocketAddr>,
    wires: Option<Wires>,
    disk: Option<Disk>,
    /// What ends processes with us that we do not live to end.
    has_setpriv: bool,
}

/// A switch, and hosts at it.
#[derive(Debug)]
struct Wires {
    switch: Keeper,
    hosts: Vec<Keeper>,
}

/// A small disk in a mount namespace.
#[derive(Debug)]
struct Disk {
    keeper: Keeper,
    /// Where it is for those in the namespace.
    folder: PathBuf,
}

/// A process that keeps a namespace, and does nothing else.
#[derive(Debug)]
struct Keeper(Child);

/// Goes where there can be hosts: as root where we are, else as root of a user namespace, which this process becomes the first one
/// of. Where neither is possible it stays, and the drills are on loopback.
pub(super) fn become_root_of_namespaces() {
    let tried = [&OWN_NAMESPACES[..], &["sh", "-c", HOSTS]].concat();
    if geteuid().is_root() || env::var_os(BECAME).is_some() || !can(&tried) {
        return;
    }
    let Ok(exe) = env::current_exe() else { return };
    let mut again = Command::new(OWN_NAMESPACES[0]);
    again.args(&OWN_NAMESPACES[1..]).arg(exe);
    again.args(env::args_os().skip(1));
    // Who comes back from this was not started: on loopback, then.
    let _ = again.env(BECAME, "1").exec();
}

impl Site {
    /// Makes it: hosts where there can be some, unless `on_loopback`; with a `disk` of so many bytes if one is asked for.
    ///
    /// # Errors
    /// What could not be made, with what the program said that makes it.
    pub(super) fn new(name: &str, on_loopback: bool, disk: Option<u64>) -> anyhow::Result<Self> {
        let folder = folder(name)?;
        let wires = match on_loopback || !can_have_hosts() {
            true => None,
            false => Some(Wires::new()?),
        };
        let addresses = match &wires {
            Some(_) => Who::ALL.map(Wires::at).into(),
            None => loopback()?,
        };
        let disk = disk.map(|bytes| Disk::new(&folder.join("disk"), bytes));
        Ok(Self {
            addresses,
            disk: disk.transpose()?,
            wires,
            folder,
            has_setpriv: can(&["setpriv", "--pdeathsig", "KILL", "true"]),
        })
    }

    /// In words.
    pub(super) const fn words(&self) -> &'static str {
        match self.wires {
            Some(_) => "hosts in network namespaces",
            None => "addresses of this host (no network namespaces here)",
        }
    }

    /// Where this one listens.
    pub(super) fn at(&self, who: Who) -> SocketAddr {
        self.addresses[who.index()]
    }

    /// A path of our own.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder for state, as the processes see it.
    pub(super) fn state_dir(&self, who: Who) -> PathBuf {
        let folder = self.disk.as_ref().map_or(&self.folder, |disk| &disk.folder);
        folder.join(format!("state-{}", who.name()))
    }

    /// The same folder as this process sees it.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        let Some(disk) = &self.disk else {
            return path.to_owned();
        };
        let root = PathBuf::from(format!("/proc/{}/root", disk.keeper.0.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The words before a command that make it run at this host, and end with us.
    pub(super) fn before(&self, who: Who) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        if let Some(wires) = &self.wires {
            let pid = wires.hosts[who.index()].0.id().to_string();
            words.extend(["nsenter", "--target", &pid, "--net"].map(str::to_owned));
        }
        if let (Some(disk), Who::Engine) = (&self.disk, who) {
            let pid = disk.keeper.0.id().to_string();
            words.extend(["nsenter", "--target", &pid, "--mount"].map(str::to_owned));
        }
        if self.has_setpriv {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        }
        words
    }

    /// Takes the calling thread, and those that it starts from now on, to a host.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn enter(&self, who: Who) -> anyhow::Result<()> {
        let Some(wires) = &self.wires else {
            return Ok(());
        };
        let path = format!("/proc/{}/ns/net", wires.hosts[who.index()].0.id());
        let namespace = File::open(&path).with_context(|| path.clone())?;
        setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| path.clone())
    }

    /// Pulls the cable of a host: nothing comes, nothing goes.
    pub(super) fn pull(&self, who: Who) -> anyhow::Result<()> {
        self.in_switch(&format!("ip link set cable{} down", who.id()))
    }

    /// Puts it back.
    pub(super) fn plug(&self, who: Who) -> anyhow::Result<()> {
        self.in_switch(&format!("ip link set cable{} up", who.id()))
    }

    /// From now on what `from` sends to `to` is lost on the way, and nobody is told.
    pub(super) fn lose(&self, from: Who, to: Who) -> anyhow::Result<()> {
        let ip = self.at(to).ip();
        let script = format!("ip neigh replace {ip} lladdr {NOBODY} dev eth0 nud permanent");
        self.at_host(from, &script)
    }

    /// No more.
    pub(super) fn find(&self, from: Who, to: Who) -> anyhow::Result<()> {
        let ip = self.at(to).ip();
        self.at_host(from, &format!("ip neigh del {ip} dev eth0"))
    }

    /// Takes all the room that the disk has.
    ///
    /// # Errors
    /// It could not be filled at all.
    pub(super) fn fill_disk(&self) -> anyhow::Result<()> {
        let path = self.filler()?;
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        Ok(())
    }

    /// Gives it back.
    pub(super) fn free_disk(&self) -> anyhow::Result<()> {
        let path = self.filler()?;
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    fn filler(&self) -> anyhow::Result<PathBuf> {
        let disk = self.disk.as_ref().context("this drill has no disk")?;
        Ok(self.seen(&disk.folder.join("big")))
    }

    fn in_switch(&self, script: &str) -> anyhow::Result<()> {
        let wires = self.wires.as_ref().context(NO_WIRES)?;
        wires.switch.inside("--net", script)
    }

    fn at_host(&self, who: Who, script: &str) -> anyhow::Result<()> {
        let wires = self.wires.as_ref().context(NO_WIRES)?;
        wires.hosts[who.index()].inside("--net", script)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The disk goes with its namespace.
        self.disk = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Wires {
    fn new() -> anyhow::Result<Self> {
        let wires = Self {
            switch: Keeper::new("--net", "true")?,
            hosts: Who::ALL
                .iter()
                .map(|_| Keeper::new("--net", "true"))
                .collect::<anyhow::Result<_>>()?,
        };
        let script = "ip link add switch type bridge && ip link set switch up";
        wires.switch.inside("--net", script)?;
        for who in Who::ALL {
            let (host, id) = (&wires.hosts[who.index()], who.id());
            let pid = host.0.id();
            wires.switch.inside(
                "--net",
                &format!(
                    "ip link add cable{id} type veth peer name eth0 netns {pid} && ip link set cable{id} master switch up"
                ),
            )?;
            let ip = Self::at(who).ip();
            host.inside(
                "--net",
                &format!(
                    "ip link set lo up && ip addr add {ip}/24 dev eth0 && ip link set eth0 up"
                ),
            )?;
        }
        Ok(wires)
    }

    fn at(who: Who) -> SocketAddr {
        let host = u8::try_from(who.id()).expect("a few");
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, host)), 5566)
    }
}

impl Disk {
    fn new(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        let script = format!(
            "mount -t tmpfs -o mode=700,size={bytes} none '{}'",
            folder.display()
        );
        Ok(Self {
            keeper: Keeper::new("--mount", &script)?,
            folder: folder.to_owned(),
        })
    }
}

impl Keeper {
    /// In a namespace of its own, where `script` ran.
    fn new(namespace: &str, script: &str) -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c"]);
        command.arg(format!("{script} && echo there; read -r _"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A Ctrl-C is ours to answer.
        let child = command.process_group(0).spawn();
        let mut keeper = Self(child.context("cannot start unshare")?);
        let mut line = String::new();
        if let Some(stdout) = keeper.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim_end() != "there" {
            bail!("no namespace by `unshare {namespace}`: {script}");
        }
        Ok(keeper)
    }

    fn inside(&self, namespace: &str, script: &str) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), namespace]);
        let done = command.args(["sh", "-c", script]).output();
        let done = done.context("cannot start nsenter")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("{script}: {}", said.trim());
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a command does what it is asked, without a word.
fn can(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether there can be hosts with cables.
pub(super) fn can_have_hosts() -> bool {
    can(&["sh", "-c", HOSTS])
}

/// Whether a small disk can be mounted.
pub(super) fn can_have_disks() -> bool {
    let script = "mount -t tmpfs none /mnt";
    can(&["unshare", "--mount", "sh", "-c", script])
}

/// Whether system calls can be made to fail.
pub(super) fn can_break_calls() -> bool {
    can(&["strace", "-D", "-f", "-o", "/dev/null", "true"])
}

/// A new folder of our own: nobody else may write beside a control socket.
fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = env::temp_dir().join(format!("binrush-drill-{}-{name}", std::process::id()));
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(&folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Addresses that no other drill has, told apart by the two bytes in the middle, with a port that is free on each.
fn loopback() -> anyhow::Result<Vec<SocketAddr>> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let addresses = Who::ALL.iter().map(|who| {
        let host = u8::try_from(who.id()).expect("a few");
        let ip = Ipv4Addr::new(127, 128 | (high & 0x3f), low, 200 + host);
        for _ in 0..PORTS_TRIED {
            let stream = TcpListener::bind((ip, 0)).context("no address on loopback")?;
            let port = stream.local_addr()?.port();
            if UdpSocket::bind((ip, port)).is_ok() {
                return Ok(SocketAddr::new(IpAddr::V4(ip), port));
            }
        }
        bail!("no port of {ip} is free for both datagrams and connections")
    });
    addresses.collect()
}

const OWN_NAMESPACES: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--",
];

/// What has to be possible where there are hosts.
const HOSTS: &str = "unshare --net sh -c 'ip link add switch type bridge && ip link add cable0 type veth peer name eth0'";

/// Set for the process that this one became.
const BECAME: &str = "BINRUSH_DRILL_IN_NAMESPACES";

/// An address that no cable leads to.
const NOBODY: &str = "02:00:00:00:00:63";

const NO_WIRES: &str = "there are no cables on loopback";

const PORTS_TRIED: usize = 100;
