//! SIGHUP: what changes is told, what stays is not touched, and what is wrong changes nothing.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::made::legacy;
use crate::process::{Running, Scratch, queued, wait_until};
use crate::receiver::{Receiver, addresses, count, no_drops};

/// A `serve` with a configuration that can be changed.
struct Configured {
    folder: Scratch,
    receiver: Receiver,
}

#[test]
fn a_listener_goes_another_comes_and_nothing_is_lost_on_the_one_that_stays() {
    // Addresses of this test alone, so that any free port will do and nobody else meets it.
    let listen = |ips: [&str; 2]| ips.map(|ip| format!("listen = bin:{ip}:0\n")).concat();
    let mut server = Configured::start("reload-listeners", &listen(["127.66.1.1", "127.66.1.2"]));
    let [goes, stays] = addresses(&server.receiver.ready)[..] else {
        panic!("{}", server.receiver.ready);
    };
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    (0..10).for_each(|_| assert!(peer.send_to(&insert, goes).is_ok()));
    let done = AtomicBool::new(false);
    let (sent, comes) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_steadily(stays, &done));
        let text = server.reload(&listen(["127.66.1.2", "127.66.1.3"]), true);
        let comes = address_after(&text, "opened bin:");
        assert!(text.contains(&format!("closed bin:{goes}")), "{text}");
        (0..10).for_each(|_| assert!(peer.send_to(&insert, comes).is_ok()));
        thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        (sender.join().expect("it does not panic"), comes)
    });
    assert!(sent > 100, "{sent}");
    // Whoever wants it may have it.
    drop(UdpSocket::bind(goes).expect("the address is free again"));

    let total = server.receiver.stop("TERM");
    assert_eq!(total["kernel_drops"], no_drops());
    assert_eq!(total["outcomes"], json!({ "handled": sent + 20 }));
    let listeners = total["listeners"].as_array().expect("a list");
    let told = listeners.iter().map(|each| each["listen"].clone());
    let mut told: Vec<Value> = told.collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(
        told,
        [goes, stays, comes].map(|addr| json!(format!("bin:{addr}")))
    );
}

#[test]
fn a_wrong_configuration_is_told_and_everything_goes_on_as_before() {
    let listen = "listen = bin:127.0.0.1:0\n";
    let mut server = Configured::start("reload-wrong", listen);
    let taken = UdpSocket::bind("127.66.2.1:0").expect("loopback");
    let taken = taken.local_addr().expect("it is bound");
    for (text, words) in [
        (
            format!("{listen}modparam(\"binrush\", \"allow\", 7)\n"),
            &[":2:30: ", "modparam(\"binrush\", \"allow\", 7)"][..],
        ),
        (String::new(), &["listen"]),
        (
            format!("{listen}listen = bin:{taken}\n"),
            &["in use", "ss -ulpn"],
        ),
    ] {
        let _keep = UdpSocket::bind(taken);
        let told = server.reload(&text, false);
        for word in words.iter().chain(&["going on as before"]) {
            assert!(told.contains(word), "no \"{word}\" in {told}");
        }
        server
            .receiver
            .send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    }
    // Also when the file itself is gone.
    std::fs::remove_file(server.folder.path("binrush.cfg")).expect("it is there");
    let told = server.told(false);
    assert!(told.contains("binrush.cfg: cannot be read"), "{told}");

    assert_eq!(server.reload(listen, true), "nothing changed");
    let total = server.receiver.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 3 }));
    assert_eq!(total["listeners"].as_array().map(Vec::len), Some(1));
}

#[test]
fn who_is_allowed_can_be_changed_while_packets_come() {
    let listen = "listen = bin:127.0.0.1:0\n";
    let allow = |cidr: &str| format!("{listen}modparam(\"binrush\", \"allow\", \"{cidr}\")\n");
    let mut server = Configured::start("reload-allow", &allow("127.0.0.1"));
    let other = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    let send = |server: &Configured| {
        (0..5).for_each(|_| server.receiver.send(&insert));
        for _ in 0..7 {
            other
                .send_to(&insert, server.receiver.addr)
                .expect("loopback");
        }
    };
    send(&server);
    let told = server.reload(&allow("127.0.0.2"), true);
    assert_eq!(told, "access: 127.0.0.2/32");
    send(&server);
    assert_eq!(server.reload(&allow("any"), true), "access: any");
    send(&server);
    let total = server.receiver.stop("TERM");
    // 7 of the other one at first, then our 5, then nobody.
    assert_eq!(count(&total["kernel_drops"], "acl"), 12, "{total}");
    assert_eq!(total["outcomes"], json!({ "handled": 24 }));
}

#[test]
fn what_is_to_be_known_of_a_new_listener_is_told() {
    let text = |listen: &str| {
        format!("listen = bin:127.0.0.1:0\n{listen}modparam(\"binrush\", \"allow\", \"any\")\n")
    };
    let mut server = Configured::start("reload-warnings", &text(""));
    let open = text("listen = bin:0.0.0.0:0\n").into_bytes();
    let file = [open, MODULES.into()].concat();
    server.folder.file("binrush.cfg", &file);
    server.receiver.process.signal("HUP");
    let event = server.receiver.process.event("reload");
    let warnings = event["warnings"].to_string();
    assert!(
        warnings.contains("whoever can reach bin:0.0.0.0:"),
        "{event}"
    );
    server.receiver.stop("TERM");
}

#[test]
fn what_needs_a_restart_is_said_and_what_does_not_is_done() {
    let listen = "listen = bin:127.0.0.1:0\n";
    let set = |name: &str, value: &str| format!("modparam(\"binrush\", \"{name}\", {value})\n");
    let text = [listen, &set("shards", "1"), &set("stats", "0")].concat();
    let mut server = Configured::start("reload-restart", &text);
    let text = [listen, &set("shards", "2"), &set("stats", "1")].concat();
    let told = server.reload(&text, true);
    for word in [
        "statistics every 1 s",
        "the number of shards changed: takes effect at the next start",
    ] {
        assert!(told.contains(word), "no \"{word}\" in {told}");
    }
    server.receiver.process.event("interval");
    let total = server.receiver.stop("TERM");
    assert_eq!(total["shards"].as_array().map(Vec::len), Some(1));
}

#[test]
fn nodes_of_clusters_that_changed_stay_let_in_until_the_next_start() {
    let free = UdpSocket::bind("127.66.4.1:0").expect("loopback");
    let me = free.local_addr().expect("it is bound");
    drop(free);
    let text = |neighbour: u8, allow: &str| {
        format!(
            "listen = bin:{me}\nloadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, node_id=1, url=bin:{me}\")\n\
             modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, node_id=2, url=bin:127.66.4.{neighbour}:5\")\n\
             modparam(\"binrush\", \"allow\", \"{allow}\")\n"
        )
    };
    let mut server = Configured::start("reload-cluster", &text(2, "127.66.4.0/24"));
    let told = server.reload(&text(3, "127.66.4.3"), true);
    for line in [
        "access: 127.66.4.3/32, 127.66.4.2/32",
        "clusterer changed: takes effect at the next start",
        "until then the nodes of the clusters that run are let in, and met with the certificates of before",
    ] {
        assert!(told.contains(line), "no \"{line}\" in {told}");
    }
    // Those that run are the measure, not those of the last file: then what it says counts again.
    let told = server.reload(&text(2, "127.66.4.3"), true);
    assert_eq!(told, "access: 127.66.4.3/32");
    server.receiver.stop("TERM");
}

#[test]
fn the_address_that_the_other_nodes_know_is_listened_on_until_the_next_start() {
    let [me, other] = ["127.66.4.11:0", "127.66.4.12:0"].map(|addr| {
        let free = UdpSocket::bind(addr).expect("loopback");
        free.local_addr().expect("it is bound")
    });
    let text = |listen: &[SocketAddr], url: SocketAddr| {
        let listen = listen.iter().map(|addr| format!("listen = bin:{addr}\n"));
        format!(
            "{}loadmodule \"clusterer.so\"\nmodparam(\"clusterer\", \"db_mode\", 0)\n\
             modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, node_id=9, url=bin:{url}\")\n\
             modparam(\"clusterer\", \"neighbor_node_info\", \"cluster_id=1, node_id=2, url=bin:127.66.4.2:5\")\n",
            listen.collect::<String>()
        )
    };
    let mut server = Configured::start("reload-moved", &text(&[me], me));
    let told = server.reload(&text(&[other], other), false);
    let expected = format!("node 9 of cluster 1, which is this one, is met at bin:{me}, and");
    assert!(told.starts_with(&expected), "{told}");
    assert!(told.ends_with("\ngoing on as before"), "{told}");
    TcpStream::connect(me).expect("it is still listened on");
    // Where both are listened on, the new one waits for the restart.
    let told = server.reload(&text(&[me, other], other), true);
    let opened = format!("opened bin:{other}");
    assert!(told.contains(&opened) && !told.contains("closed"), "{told}");
    server.receiver.stop("TERM");
}

#[test]
fn without_a_configuration_there_is_nothing_to_read_again() {
    let mut receiver = Receiver::start("127.0.0.1", &["--stats", "0"]);
    receiver.process.signal("HUP");
    let told = receiver.process.event("reload");
    assert_eq!(
        (&told["done"], &told["text"]),
        (&json!(true), &json!(["nothing changed"]))
    );
    receiver.stop("TERM");
}

impl Configured {
    /// Two shards, and no lines about intervals, unless `text` has it otherwise.
    fn start(name: &str, text: &str) -> Self {
        let folder = Scratch::new(name);
        let text = format!("{text}{MODULES}");
        let file = folder.file("binrush.cfg", text.as_bytes());
        let shards: &[&str] = if text.contains("shards") {
            &[]
        } else {
            &["--shards", "2", "--stats", "0"]
        };
        let args = ["serve", "--json", "--config", &file];
        let receiver = Receiver::of(Running::start(&[&args, shards].concat()));
        Self { folder, receiver }
    }

    /// Reloads with `text`; what was said about it, which must be whether it was `done`.
    #[track_caller]
    fn reload(&mut self, text: &str, done: bool) -> String {
        let text = format!("{text}{MODULES}");
        self.folder.file("binrush.cfg", text.as_bytes());
        self.told(done)
    }

    #[track_caller]
    fn told(&mut self, done: bool) -> String {
        self.receiver.process.signal("HUP");
        let event = self.receiver.process.event("reload");
        assert_eq!(event["done"], done, "{event}");
        let lines = event["text"].as_array().expect("lines");
        let lines = lines.iter().map(|line| line.as_str().expect("a text"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Sends until `done`, no more at a time than there is room for; how many it sent.
fn send_steadily(to: SocketAddr, done: &AtomicBool) -> u64 {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        for n in 0..20 {
            let call = format!("call-{n}");
            let packet = legacy(b"dialog", 3, &[call.as_bytes(), b"from", b"to"]);
            peer.send_to(&packet, to).expect("loopback");
            sent += 1;
        }
        wait_until("an empty receive queue", || queued(to) == 0);
    }
    sent
}

/// The address that stands behind `words` in `text`.
#[track_caller]
fn address_after(text: &str, words: &str) -> SocketAddr {
    let (_, rest) = text.split_once(words).expect(text);
    let addr = rest.split_whitespace().next().expect(text);
    addr.parse().expect(text)
}

/// At the end, so that places in what stands before it are as they are written there.
const MODULES: &str = "loadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n";
