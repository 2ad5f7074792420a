//! Hosts with cables to one switch: each a network namespace, so that a cable can be pulled.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use crate::process::{Running, skip};

/// A switch and the hosts at it. They are gone with it.
#[derive(Debug)]
pub(super) struct Wires {
    switch: Running,
    /// The host with number n at n - 1.
    hosts: Vec<Running>,
}

impl Wires {
    /// As many hosts, with numbers from 1; `None`, and told so, where there can be none.
    pub(super) fn new(hosts: u8) -> Option<Self> {
        let tried = Command::new("unshare")
            .args(["--net", "sh", "-c"])
            .arg("ip link add switch type bridge && ip link add cable0 type veth peer name eth0")
            .output();
        match tried {
            Ok(done) if done.status.success() => {}
            Ok(done) => {
                let said = String::from_utf8_lossy(&done.stderr);
                skip(&format!(
                    "no network namespace with a switch: {}",
                    said.trim()
                ));
                return None;
            }
            Err(error) => {
                skip(&format!("no `unshare`: {error}"));
                return None;
            }
        }
        let mut wires = Self {
            switch: namespace(),
            hosts: (0..hosts).map(|_| namespace()).collect(),
        };
        wires.in_switch("ip link add switch type bridge && ip link set switch up");
        for host in 1..=hosts {
            wires.lay(host);
        }
        Some(wires)
    }

    /// Where `serve` of this host listens.
    pub(super) fn at(host: u8) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, host)), 5566)
    }

    /// What runs the command behind it on this host.
    pub(super) fn on(&self, host: u8) -> [String; 4] {
        let pid = self.host(host).id().to_string();
        ["nsenter".into(), "--target".into(), pid, "--net".into()]
    }

    /// Pulls the cable of this host: nothing comes, nothing goes, and it notices.
    pub(super) fn pull(&self, host: u8) {
        self.in_switch(&format!("ip link set cable{host} down"));
    }

    /// Puts it back.
    pub(super) fn plug(&self, host: u8) {
        self.in_switch(&format!("ip link set cable{host} up"));
    }

    /// From now on what this host sends to that one is lost on the way, and nobody is told.
    pub(super) fn lose(&self, from: u8, to: u8) {
        let ip = Self::at(to).ip();
        let script = format!("ip neigh replace {ip} lladdr {NOBODY} dev eth0 nud permanent");
        inside(self.host(from), &script);
    }

    /// No more.
    pub(super) fn find(&self, from: u8, to: u8) {
        let ip = Self::at(to).ip();
        inside(self.host(from), &format!("ip neigh del {ip} dev eth0"));
    }

    fn lay(&mut self, host: u8) {
        let pid = self.host(host).id();
        self.in_switch(&format!(
            "ip link add cable{host} type veth peer name eth0 netns {pid} && ip link set cable{host} master switch up"
        ));
        let ip = Self::at(host).ip();
        inside(
            self.host(host),
            &format!("ip link set lo up && ip addr add {ip}/24 dev eth0 && ip link set eth0 up"),
        );
    }

    fn in_switch(&self, script: &str) {
        inside(&self.switch, script);
    }

    fn host(&self, host: u8) -> &Running {
        &self.hosts[usize::from(host) - 1]
    }
}

/// A process in a network namespace of its own, until it is killed.
fn namespace() -> Running {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "echo there; read -r _"]);
    let mut process = Running::start_command(command);
    assert_eq!(process.line(), "there");
    process
}

/// Runs a script in the network namespace of a process.
#[track_caller]
fn inside(process: &Running, script: &str) {
    let done = Command::new("nsenter")
        .args(["--target", &process.id().to_string(), "--net"])
        .args(["sh", "-c", script])
        .output()
        .expect("nsenter is where unshare is");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}: {said}");
}

/// An address that no cable leads to.
const NOBODY: &str = "02:00:00:00:00:63";
