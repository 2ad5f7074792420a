//! `/metrics` and `/healthz`, for whoever watches the process.
//!
//! ```text
//!   control thread ─── show, each second ────▶ Board ◀── one request ── http thread ◀── at most 32 clients
//!        ▲                                     the latest Status, and its text once somebody asked for it
//!        └── snapshot of the shards' counters
//! ```
//!
//! A client never reaches the shards: it is given what the control thread saw last, written out once however
//! many ask. So a scrape costs them nothing, and a client that asks without end is busy with this thread alone.
//!
//! One connection is one request, and one deadline bounds all of it: a client that sends or reads slowly, or
//! not at all, is closed by it, and when all places are taken the one that came first makes room. Keeping
//! connections open would save a scraper one handshake in many seconds, and would need two more limits.
//!
//! `hyper` on a single-threaded `tokio`, because every wait in it can be bounded from outside: of the lighter
//! servers `tiny_http` has no time limit for a client, and `axum` is the same `hyper` with a router on top.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use binrush_engine::event::BusSnapshot;
use binrush_engine::relay::TargetSnapshot;
use binrush_engine::{Engine, Snapshot};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::metrics::{Clusters, Modules, Status, Tables};
use crate::serve::script::Counts;

/// A thread that answers. Dropping it ends it, with whatever it was sending.
#[derive(Debug)]
pub(crate) struct Http {
    addr: SocketAddr,
    started: Instant,
    board: Arc<Board>,
    /// The thread ends when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Where the control thread puts what it saw, and the clients find it.
#[derive(Debug)]
struct Board {
    latest: Mutex<Arc<Page>>,
    limits: Limits,
}

#[derive(Debug)]
struct Page {
    status: Status,
    published: Instant,
    /// Written when it is asked for first.
    text: OnceLock<Bytes>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Clients at a time.
    connections: usize,
    /// For a whole connection: request, answer and close.
    deadline: Duration,
    /// When a status is too old to vouch for anything.
    stale: Duration,
}

impl Http {
    /// Listens on `addr` and answers with what `engine` counted so far, until it is shown more.
    ///
    /// # Errors
    /// The address cannot be had, with what to do about it; there is no thread to be had; or the kernel's counts
    /// cannot be read.
    pub(crate) fn start(addr: SocketAddr, engine: &mut Engine) -> anyhow::Result<Self> {
        let counts = engine
            .snapshot()
            .context("cannot read what the kernel dropped")?;
        Self::start_within(LIMITS, addr, Status::of(engine, counts, Duration::ZERO))
    }

    /// Answers with `counts`, just taken from `engine`, from now on. Often enough is each second: see [`LIMITS`].
    pub(crate) fn show(
        &self,
        engine: &Engine,
        counts: &Snapshot,
        clusters: Clusters,
        tables: Tables,
        (relay, script): (Vec<TargetSnapshot>, Option<Counts>),
        (events, modules): (Option<BusSnapshot>, Modules),
    ) {
        let status = Status::of(engine, counts.clone(), self.started.elapsed());
        let status = status.with(clusters, tables).relaying(relay);
        let status = status.telling(events).scripted(script);
        self.publish(Status { modules, ..status });
    }

    /// Where it listens, with the port that the kernel chose if none was given.
    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn start_within(limits: Limits, addr: SocketAddr, status: Status) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("cannot prepare to serve HTTP")?;
        let listener = listen(&runtime, addr).map_err(|error| explained(addr, &error))?;
        let addr = listener.local_addr().context("cannot serve HTTP")?;
        let board = Arc::new(Board {
            latest: Mutex::new(Page::new(status)),
            limits,
        });
        let (stop, stopped) = oneshot::channel();
        let clients = Arc::clone(&board);
        let serve = move || {
            runtime.spawn(accept(listener, clients));
            // An error is the sender being dropped, which is how it is told. What is in work is dropped too.
            let _ = runtime.block_on(stopped);
        };
        let builder = thread::Builder::new().name("http".into());
        let thread = builder
            .spawn(serve)
            .context("cannot start the thread that serves HTTP")?;
        Ok(Self {
            addr,
            started: Instant::now(),
            board,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn publish(&self, status: Status) {
        let page = Page::new(status);
        // Dropped after the lock: nobody waits while the old one is given back.
        let _old = mem::replace(&mut *self.board.lock(), page);
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // When it panicked there is nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Board {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/metrics" | "/healthz" if !reads => not_allowed(),
            "/metrics" => {
                let mut response = Response::new(Full::new(self.latest().text()));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
                response
            }
            "/healthz" => match self.trouble() {
                None => text(StatusCode::OK, "ok\n"),
                Some(trouble) => text(StatusCode::SERVICE_UNAVAILABLE, trouble + "\n"),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
        }
    }

    /// Why the engine may not be receiving.
    fn trouble(&self) -> Option<String> {
        let page = self.latest();
        let age = page.published.elapsed();
        let stale = age > self.limits.stale;
        page.status.trouble.clone().or_else(|| {
            stale.then(|| format!("nobody has looked at the shards for {} s", age.as_secs()))
        })
    }

    fn latest(&self) -> Arc<Page> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = Arc<Page>> {
        // What it guards is replaced whole, so a panic elsewhere leaves it right.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn new(status: Status) -> Arc<Self> {
        Arc::new(Self {
            status,
            published: Instant::now(),
            text: OnceLock::new(),
        })
    }

    fn text(&self) -> Bytes {
        self.text.get_or_init(|| self.status.text().into()).clone()
    }
}

/// Gives every client a task of its own, and of too many the first one's place to the last.
async fn accept(listener: TcpListener, board: Arc<Board>) {
    let mut open = VecDeque::<AbortHandle>::with_capacity(board.limits.connections);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, or a client that was gone at once. The next try must not come at once.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        open.retain(|client| !client.is_finished());
        if open.len() == board.limits.connections
            && let Some(first) = open.pop_front()
        {
            first.abort();
        }
        let client = tokio::spawn(serve(stream, Arc::clone(&board)));
        open.push_back(client.abort_handle());
    }
}

async fn serve(stream: TcpStream, board: Arc<Board>) {
    let deadline = board.limits.deadline;
    let answer = service_fn(move |request| ready(Ok::<_, Infallible>(board.answer(&request))));
    let connection = http1::Builder::new()
        .keep_alive(false)
        // Who has sent a request and closed their side waits for the answer.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_LEN_MAX)
        .max_buf_size(2 * HEADER_LEN_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // What went wrong was between that client and its request; it was answered where HTTP has an answer.
    let _ = tokio::time::timeout(deadline, connection).await;
}

fn listen(runtime: &Runtime, addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    TcpListener::from_std(listener)
}

/// What to do about it.
fn explained(addr: SocketAddr, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is in use\n  \
             `ss -tlpn sport = :{}` names the process; stop it, or take another port with `--http`",
            addr.port()
        ),
        io::ErrorKind::AddrNotAvailable => "no interface has this address\n  \
             `ip -brief addr` lists those that can be used"
            .to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted\n  \
             ports below `sysctl net.ipv4.ip_unprivileged_port_start` need CAP_NET_BIND_SERVICE; or take a higher one"
            .to_owned(),
        _ => error.to_string(),
    };
    anyhow!("cannot serve HTTP on {addr}: {advice}")
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_TYPE));
    response
}

fn not_allowed() -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// `stale` is a few times what passes between two looks of the control thread, one second.
const LIMITS: Limits = Limits {
    connections: 32,
    deadline: Duration::from_secs(5),
    stale: Duration::from_secs(5),
};

/// Bytes of request line and headers; a scraper sends a few hundred.
const HEADER_LEN_MAX: usize = 8 << 10;

const HEADERS_MAX: usize = 64;

/// How long nobody is accepted after that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The version is part of the format's name.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const TEXT_TYPE: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as Client;

    fn server(limits: Limits) -> Http {
        Http::start_within(limits, ([127, 0, 0, 1], 0).into(), Status::default()).unwrap()
    }

    fn connect(server: &Http) -> Client {
        let client = Client::connect(server.local_addr()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        client
    }

    /// The whole answer to `request`, up to the close.
    fn ask(server: &Http, request: &str) -> String {
        let mut client = connect(server);
        client.write_all(request.as_bytes()).unwrap();
        rest(client)
    }

    fn get(server: &Http, path: &str) -> String {
        ask(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// What the server still sends before it closes, also where it closes by a reset.
    fn rest(mut client: Client) -> String {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn body(answer: &str) -> &str {
        answer.split_once("\r\n\r\n").unwrap().1
    }

    #[test]
    fn metrics_are_the_text_of_what_was_published_last() {
        let server = server(LIMITS);
        let answer = get(&server, "/metrics?name=x");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(body(&answer), Status::default().text());
        let newer = Status {
            uptime: Duration::from_secs(7),
            ..Status::default()
        };
        server.publish(newer.clone());
        assert_eq!(body(&get(&server, "/metrics")), newer.text());
    }

    #[test]
    fn a_text_is_written_once_for_all_who_ask() {
        let page = Page::new(Status::default());
        assert_eq!(page.text().as_ptr(), page.text().as_ptr());
    }

    #[test]
    fn health_is_ok_or_says_why_not() {
        let server = server(LIMITS);
        let answer = get(&server, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(body(&answer), "ok\n");
        server.publish(Status {
            trouble: Some("a shard has ended".into()),
            ..Status::default()
        });
        let answer = get(&server, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(body(&answer), "a shard has ended\n");
    }

    #[test]
    fn nobody_is_healthy_whom_nobody_has_looked_at() {
        let server = server(Limits {
            stale: Duration::ZERO,
            ..LIMITS
        });
        let answer = get(&server, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(body(&answer), "nobody has looked at the shards for 0 s\n");
    }

    #[test]
    fn head_is_get_without_the_body_and_other_methods_and_paths_are_refused() {
        let server = server(LIMITS);
        let head = ask(&server, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.contains("content-length: 3\r\n"), "{head}");
        assert_eq!(body(&head), "");
        let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let answer = ask(&server, post);
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        for path in ["/", "/metrics/", "/../metrics", "*"] {
            assert!(get(&server, path).starts_with("HTTP/1.1 404 "), "{path}");
        }
        assert_eq!(
            body(&get(&server, "/x")),
            "there are /metrics and /healthz\n"
        );
    }

    #[test]
    fn one_connection_is_one_request() {
        let server = server(LIMITS);
        let twice = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
        assert_eq!(ask(&server, &twice).matches("HTTP/1.1").count(), 1);
    }

    #[test]
    fn who_closes_their_side_after_the_request_is_answered() {
        let server = server(LIMITS);
        let mut client = connect(&server);
        client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(body(&rest(client)), "ok\n");
    }

    #[test]
    fn what_is_too_long_or_no_http_is_refused() {
        let server = server(LIMITS);
        let long = format!(
            "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
            "x".repeat(HEADER_LEN_MAX)
        );
        let many = format!(
            "GET /metrics HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(HEADERS_MAX + 1)
        );
        for request in [&long, &many] {
            let answer = ask(&server, request);
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
        assert!(ask(&server, "\0\u{1}garbage\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(get(&server, "/healthz").ends_with("ok\n"));
    }

    #[test]
    fn clients_that_do_nothing_keep_nobody_out() {
        let server = server(LIMITS);
        let idle: Vec<Client> = (0..2 * LIMITS.connections)
            .map(|_| {
                let mut client = connect(&server);
                client.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
                client
            })
            .collect();
        let start = Instant::now();
        assert!(get(&server, "/healthz").ends_with("ok\n"));
        assert!(
            start.elapsed() < LIMITS.deadline / 2,
            "{:?}",
            start.elapsed()
        );
        // The first ones had to leave before their time.
        assert_eq!(rest(idle.into_iter().next().unwrap()), "");
        assert!(
            start.elapsed() < LIMITS.deadline / 2,
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn who_sends_or_reads_too_slowly_is_closed_at_the_deadline() {
        let limits = Limits {
            deadline: Duration::from_millis(300),
            ..LIMITS
        };
        let server = server(limits);
        let start = Instant::now();
        let mut slow = connect(&server);
        slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        // More than fits into the buffers of both sockets, so that it depends on the reader.
        let page = "x".repeat(32 << 20);
        server.board.latest().text.set(page.clone().into()).unwrap();
        let mut deaf = connect(&server);
        deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(rest(slow), "");
        let elapsed = start.elapsed();
        assert!(elapsed >= limits.deadline, "{elapsed:?}");
        thread::sleep(limits.deadline);
        assert!(rest(deaf).len() < page.len());
    }

    #[test]
    fn a_long_page_reaches_whoever_reads_it() {
        let server = server(LIMITS);
        let page = "x".repeat(8 << 20);
        server.board.latest().text.set(page.clone().into()).unwrap();
        assert_eq!(body(&get(&server, "/metrics")), page);
    }

    #[test]
    fn it_ends_at_once_whoever_is_connected_and_leaves_the_port() {
        let server = server(LIMITS);
        let mut client = connect(&server);
        client.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        assert!(get(&server, "/healthz").ends_with("ok\n"));
        let addr = server.local_addr();
        let start = Instant::now();
        drop(server);
        // A few milliseconds, and far from any deadline of a client on a busy machine too.
        assert!(start.elapsed() < LIMITS.deadline / 10);
        assert_eq!(rest(client), "");
        // Connections that the other side has not closed yet do not keep the port.
        drop(Http::start_within(LIMITS, addr, Status::default()).unwrap());
    }

    #[test]
    fn an_address_that_cannot_be_had_is_explained() {
        let server = server(LIMITS);
        let addr = server.local_addr();
        let error = Http::start_within(LIMITS, addr, Status::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("{addr}: the port is in use")),
            "{error}"
        );
        assert!(
            error.contains("ss -tlpn") && error.contains("--http"),
            "{error}"
        );
        let explained = |kind: io::ErrorKind| explained(addr, &kind.into()).to_string();
        assert!(explained(io::ErrorKind::AddrNotAvailable).contains("ip -brief addr"));
        assert!(explained(io::ErrorKind::PermissionDenied).contains("CAP_NET_BIND_SERVICE"));
    }
}
