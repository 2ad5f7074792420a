//! A service manager, as a test plays it: it opens sockets, is told how things are, and keeps what it is given.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use binrush_net::handover::receive_with;
use serde_json::Value;

use super::{House, Sums};
use crate::process::{Running, command, json, wait_until};
use crate::receiver::{addresses, count};

/// The place where a server tells how it is.
struct Manager {
    socket: UnixDatagram,
    path: String,
    /// What came and was not asked for yet.
    told: Vec<(String, Vec<OwnedFd>)>,
}

impl Manager {
    fn new(house: &House) -> Self {
        let path = house.scratch.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder is ours");
        let short = Duration::from_millis(20);
        socket.set_read_timeout(Some(short)).expect("not zero");
        Self {
            socket,
            path,
            told: Vec::new(),
        }
    }

    /// What is told next that has `line` in it, and the descriptors that came with it.
    #[track_caller]
    fn waits_for(&mut self, line: &str) -> (String, Vec<OwnedFd>) {
        let mut at = None;
        wait_until(line, || {
            self.hear();
            let has = |told: &str| told.lines().any(|each| each.starts_with(line));
            at = self.told.iter().position(|(told, _)| has(told));
            at.is_some()
        });
        self.told.remove(at.expect("it came"))
    }

    fn hear(&mut self) {
        loop {
            let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
            match receive_with(&self.socket, &mut bytes, &mut descriptors) {
                Ok(_) => {
                    let text = String::from_utf8(bytes).expect("text");
                    self.told.push((text, descriptors));
                }
                Err(_) => return,
            }
        }
    }
}

/// A server that was started by a shell which gives it descriptors: a manager's way with what a test may do.
struct Given {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Given {
    /// `one` as descriptor 3 and `other`, if any, as 4, called by `names`.
    fn start(args: &[&str], names: &str, one: OwnedFd, other: Option<OwnedFd>) -> Self {
        Self::start_with(args, names, one, other, &[])
    }

    /// With these variables.
    fn start_with(
        args: &[&str],
        names: &str,
        one: OwnedFd,
        other: Option<OwnedFd>,
        variables: &[(&str, &str)],
    ) -> Self {
        let server = command(args);
        let count = 1 + usize::from(other.is_some());
        let script = format!(
            "LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES='{names}' exec \"$0\" \"$@\" 3<&0 4<&2 0</dev/null 2>/dev/null"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(server.get_program());
        shell.args(server.get_args());
        shell.envs(variables.iter().copied());
        let other = other.map_or_else(Stdio::null, Stdio::from);
        let shell = shell
            .stdin(Stdio::from(one))
            .stderr(other)
            .stdout(Stdio::piped());
        let mut child = shell.spawn().expect("there is a shell");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    #[track_caller]
    fn event(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("a pipe");
            assert!(read > 0, "it ended before {event}");
            let line = json(line.trim_end());
            if line["event"] == event {
                return line;
            }
        }
    }

    #[track_caller]
    fn stop(mut self) -> Value {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill {}", self.child.id())])
            .status();
        assert!(kill.expect("there is a shell").success());
        self.event("total")
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn packet(number: u64) -> Vec<u8> {
    super::deed(number).packet(binrush_wire::Release::V1x)
}

#[test]
fn sockets_of_units_are_taken_and_strangers_are_refused_with_a_sentence() {
    let datagrams = UdpSocket::bind((super::HOST, 0)).unwrap();
    let addr = datagrams.local_addr().unwrap();
    let listener = TcpListener::bind(addr).expect("a port of both kinds");
    let listen = format!("bin:{addr}");
    let args = [
        "serve", "--listen", &listen, "--shards", "2", "--stats", "0", "--json",
    ];
    let peer = UdpSocket::bind((super::HOST, 0)).unwrap();
    peer.connect(addr).unwrap();
    peer.send(b"nobody knows from whom").unwrap();
    let mut server = Given::start(&args, "udp:tcp", datagrams.into(), Some(listener.into()));
    let ready = server.event("ready");
    assert_eq!(ready["handover"]["from"], "manager", "{ready}");
    peer.send(&packet(1)).unwrap();
    let total = server.stop();
    assert_eq!(
        (count(&total, "received"), &total["balanced"]),
        (1, &true.into()),
        "{total}"
    );
    assert_eq!(count(&total["kernel_drops"], "starting"), 1, "{total}");
    // One that nobody asked for.
    let stranger = UdpSocket::bind((super::HOST, 0)).unwrap();
    let server = command(&args);
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=x exec \"$0\" \"$@\" 3<&0",
    ]);
    shell.arg(server.get_program()).args(server.get_args());
    let refused = shell
        .stdin(OwnedFd::from(stranger))
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("does not listen for them"),
        "{said}"
    );
}

#[test]
fn a_service_manager_is_told_how_things_are_and_that_the_shards_go_on() {
    let house = House::new("notify", "1", "");
    let mut manager = Manager::new(&house);
    let mut serve = command(&house.args());
    serve
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "300000");
    let mut server = Running::start_command(serve);
    let ready = server.event("ready");
    manager.waits_for("READY=1");
    manager.waits_for("WATCHDOG=1");
    let (status, _) = manager.waits_for("STATUS=0 packets received");
    assert_eq!(status, "STATUS=0 packets received, 0 dropped by the kernel");
    server.signal("HUP");
    let (reloading, _) = manager.waits_for("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.waits_for("READY=1");
    // Where nothing goes on, nothing is told.
    server.halt();
    manager.hear();
    manager.told.clear();
    std::thread::sleep(Duration::from_millis(400));
    manager.hear();
    assert!(manager.told.is_empty(), "{:?}", manager.told);
    server.signal("CONT");
    manager.waits_for("WATCHDOG=1");
    assert!(!addresses(&ready).is_empty());
    server.signal("TERM");
    manager.waits_for("STOPPING=1");
    Sums::default().ends(server);
    assert!(
        manager
            .told
            .iter()
            .all(|(told, _)| !told.contains("FDSTORE")),
        "nobody asked"
    );
}

#[test]
fn sockets_that_a_manager_keeps_survive_a_kill_with_what_is_queued() {
    let house = House::new("fdstore", "1", "");
    let mut manager = Manager::new(&house);
    let mut serve = command(&house.args());
    serve
        .env("NOTIFY_SOCKET", &manager.path)
        .env("FDSTORE", "16");
    let mut server = Running::start_command(serve);
    let addr: SocketAddr = addresses(&server.event("ready"))[0];
    // The port was any one; the next start has to ask for this one.
    let text = std::fs::read_to_string(&house.config).unwrap();
    let text = text.replace(&format!("bin:{}:0", super::HOST), &format!("bin:{addr}"));
    std::fs::write(&house.config, text).unwrap();
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (told, mut descriptors) = manager.waits_for("FDSTORE=1");
        assert!(told.ends_with("\nFDPOLL=0"), "{told}");
        let name = told.lines().find_map(|line| line.strip_prefix("FDNAME="));
        kept.push((
            name.expect("a name").to_owned(),
            descriptors.pop().expect("a socket"),
        ));
    }
    manager.waits_for("READY=1");
    drop(server);
    let peer = UdpSocket::bind((super::HOST, 0)).unwrap();
    peer.connect(addr).unwrap();
    let begun = Instant::now();
    (1..=20).for_each(|number| assert!(peer.send(&packet(number)).is_ok()));
    // What listens for connections is left out: there are but two ways to pass a descriptor here.
    kept.retain(|(name, _)| name.starts_with("binrush-udp-"));
    let (other, one) = (kept.pop().unwrap(), kept.pop().unwrap());
    let names = format!("{}:{}", one.0, other.0);
    let mut server = Given::start(&house.args(), &names, one.1, Some(other.1));
    let ready = server.event("ready");
    assert_eq!(ready["handover"]["from"], "manager", "{ready}");
    assert_eq!(addresses(&ready)[0], addr);
    let total = server.stop();
    assert_eq!(
        count(&total, "received"),
        20,
        "{total} after {:?}",
        begun.elapsed()
    );
    assert_eq!(house.records(), super::after(20));
}

#[test]
fn what_a_manager_kept_and_nobody_can_use_is_given_back_before_its_address_is_bound() {
    let house = House::new("fdstore-other", "2", "");
    let mut manager = Manager::new(&house);
    let variables = [("NOTIFY_SOCKET", &manager.path[..]), ("FDSTORE", "16")];
    // A group of one shard and its quarantine, where two are asked for now.
    let one = UdpSocket::bind((super::HOST, 0)).unwrap();
    let addr = one.local_addr().unwrap();
    let other = one.try_clone().unwrap();
    let text = std::fs::read_to_string(&house.config).unwrap();
    let text = text.replace(&format!("bin:{}:0", super::HOST), &format!("bin:{addr}"));
    std::fs::write(&house.config, text).unwrap();
    let names = ["binrush-udp-x-0of2-0000000a", "binrush-udp-x-1of2-0000000a"];
    let ours = (one.try_clone().unwrap(), other.try_clone().unwrap());
    let mut server = Given::start_with(
        &house.args(),
        &names.join(":"),
        one.into(),
        Some(other.into()),
        &variables,
    );
    for name in names {
        let (told, _) = manager.waits_for("FDSTOREREMOVE=1");
        assert_eq!(told, format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }
    drop(ours);
    let ready = server.event("ready");
    let warnings = ready["warnings"].to_string();
    assert!(
        warnings.contains("they are for 1 shards, and there are 2 now"),
        "{warnings}"
    );
    assert_eq!(addresses(&ready)[0], addr);
    server.stop();
}

#[test]
fn a_listener_that_the_configuration_has_no_more_is_not_kept_on() {
    let house = House::new("fdstore-gone", "1", "");
    let mut manager = Manager::new(&house);
    let variables = [("NOTIFY_SOCKET", &manager.path[..])];
    let gone = TcpListener::bind((super::HOST, 0)).unwrap();
    let name = "binrush-tcp-gone";
    let mut server = Given::start_with(&house.args(), name, gone.into(), None, &variables);
    server.event("ready");
    manager.waits_for("READY=1");
    let removed = manager
        .told
        .iter()
        .position(|(told, _)| told.ends_with(name));
    let (told, _) = &manager.told[removed.expect("it is given back")];
    assert_eq!(told, &format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    server.stop();
}
