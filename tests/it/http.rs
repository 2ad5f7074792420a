//! `binrush serve --http`: what a scraper and a health check are told, and what a bad client cannot do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use binrush_wire::Generation;
use serde_json::Value;

use crate::made::{legacy, packet};
use crate::process::{Running, Scratch, binary, json, run, wait_until};
use exposition::Exposition;

/// The strict reader of the format that the command's own tests use.
#[path = "../../engine/cli/src/metrics/exposition.rs"]
pub(crate) mod exposition;

/// A `serve` with its two addresses.
struct Served {
    process: Running,
    bin: SocketAddr,
    http: SocketAddr,
}

#[test]
fn the_counters_of_a_running_engine_are_served_and_add_up() {
    let served = Served::start();
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    let unknown = legacy(b"acme", 1, &[b"pipe"]);
    let garbage = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for datagram in [&insert, &insert, &unknown, &garbage, &garbage, &garbage] {
        peer.send_to(datagram, served.bin).expect("loopback");
    }
    // It looks at the shards each second, and may look between a datagram and its outcome.
    wait_until("all counters to be read again", || {
        let page = served.metrics();
        [
            "binrush_received_datagrams_total",
            "binrush_datagrams_total",
            "binrush_settle_seconds_count",
        ]
        .iter()
        .all(|name| page.sum(name, &[]) == 6.0)
    });
    let page = served.metrics();
    for (outcome, count) in [("handled", 2.0), ("unknown_name", 1.0), ("bad_marker", 3.0)] {
        let labels = [("outcome", outcome)];
        assert_eq!(
            page.sum("binrush_datagrams_total", &labels),
            count,
            "{outcome}"
        );
    }
    let inserts = [("module", "ul"), ("type", "AOR_INSERT")];
    assert_eq!(
        page.value("binrush_module_handled_total", &inserts),
        Some(2.0)
    );
    assert_eq!(page.value("binrush_healthy", &[]), Some(1.0));
    let listener = format!("bin:{}", served.bin);
    for reason in ["buffer", "acl", "starting", "stopping"] {
        let labels = [("listener", listener.as_str()), ("reason", reason)];
        let name = "binrush_kernel_dropped_datagrams_total";
        assert_eq!(page.value(name, &labels), Some(0.0), "{reason}");
    }
    let granted = page.value("binrush_receive_buffer_bytes", &[("listener", &listener)]);
    assert!(granted.is_some_and(|bytes| bytes >= 4096.0), "{granted:?}");

    let total = served.stop();
    assert_eq!(
        (&total["received"], &total["balanced"]),
        (&6.into(), &true.into())
    );
}

#[test]
fn connections_are_served_by_peer_and_by_reason_and_their_bytes_add_up() {
    let served = Served::start();
    let insert = packet(
        Generation::Modern,
        b"usrloc-contact-repl",
        1,
        &[b"location", b"alice"],
    );
    let mut open = TcpStream::connect(served.bin).expect("it listens");
    open.write_all(&[&insert[..], &insert, &insert[..5]].concat())
        .expect("it reads");
    let mut broken = TcpStream::connect(served.bin).expect("it listens");
    broken.write_all(b"garbage").expect("it reads");
    let peer = ("peer", "127.0.0.1");
    wait_until("both connections to be seen", || {
        let page = served.metrics();
        let closed = [("reason", "bad_marker")];
        page.value("binrush_stream_closed_connections_total", &closed) == Some(1.0)
            && page.value("binrush_stream_held_bytes", &[peer]) == Some(5.0)
    });
    let page = served.metrics();
    for (name, value) in [
        ("binrush_stream_open_connections", 1.0),
        ("binrush_stream_opened_connections_total", 2.0),
        ("binrush_stream_packets_total", 2.0),
    ] {
        assert_eq!(page.value(name, &[peer]), Some(value), "{name}");
    }
    let sum = |name: &str| page.sum(name, &[]);
    assert_eq!(sum("binrush_stream_arrived_connections_total"), 2.0);
    // What is held is in none yet.
    assert_eq!(
        sum("binrush_stream_received_bytes_total"),
        sum("binrush_stream_bytes_total") + 5.0
    );
    assert_eq!(sum("binrush_received_stream_packets_total"), 2.0);
    assert_eq!(sum("binrush_received_datagrams_total"), 0.0);
    assert_eq!(sum("binrush_datagrams_total"), 2.0);
    drop(open);
    let total = served.stop();
    assert_eq!(
        (&total["frames"], &total["balanced"]),
        (&2.into(), &true.into())
    );
}

#[test]
fn who_connects_again_and_again_leaves_descriptors_for_everything_else() {
    let folder = Scratch::new("serve-descriptors");
    let text = "listen = bin:127.0.0.1:0\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"http\", \"127.0.0.1:0\")\n";
    let config = folder.file("binrush.cfg", text.as_bytes());
    let (mut served, ready) = Served::with_descriptors("-n 64", &config);
    let warnings = ready["warnings"].to_string();
    for words in ["not the 2048 of tcp_max_connections", "have 64 descriptors"] {
        assert!(warnings.contains(words), "{warnings}");
    }
    // Who is refused at once may see it while he connects.
    let knocking: Vec<TcpStream> = (0..100)
        .filter_map(|_| TcpStream::connect(served.bin).ok())
        .collect();
    wait_until("all of them to be taken or refused", || {
        let page = served.metrics();
        page.sum("binrush_stream_arrived_connections_total", &[]) == 100.0
    });
    assert!(
        served
            .ask("GET /healthz HTTP/1.0\r\n\r\n")
            .ends_with("ok\n")
    );
    let page = served.metrics();
    // Nobody had to be refused for want of a descriptor: there were enough of them for as many as may be.
    for (reason, is_met) in [("total", true), ("no_descriptor", false)] {
        let refused = page.value(
            "binrush_stream_refused_connections_total",
            &[("reason", reason)],
        );
        assert_eq!(refused > Some(0.0), is_met, "{reason}");
    }
    assert_eq!(
        page.value("binrush_stream_accept_pauses_total", &[]),
        Some(0.0)
    );
    served.process.signal("HUP");
    let reload = served.process.event("reload");
    assert_eq!(reload["done"], true, "{reload}");
    assert_eq!(reload["text"][0], "nothing changed", "{reload}");
    drop(knocking);
    assert_eq!(served.stop()["balanced"], true);
    // What may be raised, is.
    let (served, ready) = Served::with_descriptors("-Sn 64", &config);
    let hard = fs::read_to_string("/proc/self/limits").expect("it is there");
    let hard = hard.lines().find(|line| line.starts_with("Max open files"));
    let hard = hard.and_then(|line| line.split_whitespace().nth(4)?.parse().ok());
    if hard.is_none_or(|hard: u64| hard > 4096) {
        assert!(
            !ready["warnings"].to_string().contains("descriptors"),
            "{ready}"
        );
    }
    served.stop();
}

#[test]
fn health_is_told_to_those_who_ask_as_http_wants_it() {
    let served = Served::start();
    for (request, status, body) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200", "ok\n"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200", "ok\n"),
        ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200", ""),
        (
            "DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            "405",
            "only GET and HEAD\n",
        ),
        (
            "GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            "404",
            "there are /metrics and /healthz\n",
        ),
        ("\u{0}\u{1}\r\n\r\n", "400", ""),
    ] {
        let answer = served.ask(request);
        let (head, told) = answer.split_once("\r\n\r\n").expect("head and body");
        assert_eq!(
            head.split(' ').nth(1),
            Some(status),
            "{request:?}: {answer}"
        );
        assert_eq!(told, body, "{request:?}");
    }
    served.stop();
}

#[test]
fn clients_that_never_finish_keep_neither_others_out_nor_the_process_from_its_end() {
    let served = Served::start();
    // More than it has places for.
    let unfinished: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut client = TcpStream::connect(served.http).expect("it listens");
            client
                .write_all(b"GET /metrics HTTP/1.1\r\nX: ")
                .expect("it listens");
            client
        })
        .collect();
    let start = Instant::now();
    assert!(
        served
            .ask("GET /healthz HTTP/1.0\r\n\r\n")
            .ends_with("ok\n")
    );
    served.stop();
    // The clients' own time is 5 seconds.
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    drop(unfinished);
}

#[test]
fn an_http_port_in_use_is_an_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let http = taken.local_addr().expect("it is bound").to_string();
    let args = ["serve", "--listen", "bin:127.0.0.1:0", "--http", &http];
    let said = run(&args);
    assert!(!said.status.success(), "{}", said.status);
    let in_use = format!("cannot serve HTTP on {http}: the port is in use");
    said.says(&[&in_use, "ss -tlpn", "another port with `--http`"]);
}

impl Served {
    fn start() -> Self {
        let fixed = [
            "serve",
            "--listen",
            "bin:127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ];
        Self::of(Running::start(
            &[&fixed[..], &["--json", "--stats", "0"]].concat(),
        ))
        .0
    }

    /// A process that was just started, and what it said when it was ready.
    fn of(mut process: Running) -> (Self, Value) {
        let ready = process.event("ready");
        let addr = |value: &Value| {
            let text = value
                .as_str()
                .unwrap_or_else(|| panic!("no address: {ready}"));
            let addr = text.strip_prefix("bin:").unwrap_or(text).parse();
            addr.unwrap_or_else(|error| panic!("{error}: {ready}"))
        };
        let served = Self {
            bin: addr(&ready["listen"][0]),
            http: addr(&ready["http"]),
            process,
        };
        (served, ready)
    }

    /// With a limit of descriptors as `ulimit` takes it.
    fn with_descriptors(limit: &str, config: &str) -> (Self, Value) {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(
            "ulimit {limit}; exec '{}' serve --config '{config}' --json --stats 0 --shards 1 --pin off",
            binary().display()
        ));
        Self::of(Running::start_command(shell))
    }

    /// The whole answer to `request`, up to the close.
    fn ask(&self, request: &str) -> String {
        let mut client = TcpStream::connect(self.http).expect("it listens");
        let limit = Some(Duration::from_secs(60));
        client.set_read_timeout(limit).expect("not zero");
        client.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        client
            .read_to_string(&mut answer)
            .expect("it answers and closes");
        answer
    }

    fn metrics(&self) -> Exposition {
        let answer = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, page) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        Exposition::parse(page).unwrap_or_else(|error| panic!("{error}\n{page}"))
    }

    /// The last line of its output, after SIGTERM.
    fn stop(self) -> Value {
        let finished = self.process.stop("TERM").ok();
        json(finished.lines().last().expect("the totals"))
    }
}
