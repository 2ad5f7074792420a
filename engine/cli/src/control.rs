//! The control socket: an operator on this host asks a server what it knows of its clusters.
//!
//! ```text
//!   binrush cluster, state, mi ─▶ one line ─▶ at most 8 clients ─▶ root, or our user? ─▶ Answers ─▶ one line, close
//!                                  └─────────────── thread "control" ─────────┘   ▲
//!                                          the clusters' thread answers within 2 s, or that it is busy
//! ```
//!
//! A unix socket, because who may ask is then a matter of the file's permissions and of the peer's credentials, which
//! the kernel vouches for, and no address of the network leads there. It is a thread of its own that no packet waits
//! for; all it has of the clusters it gets through `Answers`.
//!
//! A connection is one question and one answer, with a deadline for each, as for `/metrics`. Who comes when all places
//! are taken waits in the kernel's queue: those before him are gone when their deadlines are over. Evicting the one
//! that came first, as `/metrics` does, would let who asks often shut out others, and here all who ask are friends.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use binrush_engine::cluster::facts::ClusterFacts;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use commands::{Command, Reply};
use facts::Cluster;
use message::{Answer, REQUEST_LEN_MAX, RaiseEvent, Raised, Request, Subscribe, SubscribersList};
use place::Place;
use records::{Page, Question, Table};

/// Asking.
pub(crate) mod client;
/// Commands of modules, and what they answer.
pub(crate) mod commands;
/// A cluster as it is shown.
pub(crate) mod facts;
/// Lines over a connection.
mod line;
/// Questions and answers.
pub(crate) mod message;
/// The socket's file.
mod place;
/// Records, as they are shown.
pub(crate) mod records;

/// What a control socket can tell and do. Called on its thread, for one client after the other.
pub(crate) trait Answers: Send + Sync {
    /// All clusters, as they are now; none where this process is in none.
    ///
    /// # Errors
    /// Why nobody knows, in words.
    fn clusters(&self) -> Result<Vec<ClusterFacts>, String>;

    /// Connections and links, in the shape of [`tally::streams::json`](crate::tally::streams::json).
    fn peers(&self) -> Value;

    /// Has the records of a capability asked for anew. Returns when that was asked for, not when they are here.
    ///
    /// # Errors
    /// Why not, in words.
    fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), String>;

    /// The tables of records, as they are now.
    fn tables(&self) -> Vec<Table>;

    /// Some records of a table. Takes some 50 ms at the most, unless a shard hangs.
    ///
    /// # Errors
    /// There is no such table, or who has it does not answer, in words.
    fn records(&self, question: &Question) -> Result<Page<Box<RawValue>>, String>;

    /// Has an event told to a socket, or told no more: `added`, `refreshed` or `removed`.
    ///
    /// # Errors
    /// Why not, in words; as for all that is about events: nobody is told of any.
    fn subscribe(&self, asked: &Subscribe) -> Result<&'static str, String> {
        let _ = asked;
        Err(NO_EVENTS.to_owned())
    }

    /// Who is told of which events.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    fn subscribers(&self, asked: &SubscribersList) -> Result<Value, String> {
        let _ = asked;
        Err(NO_EVENTS.to_owned())
    }

    /// All events that can be subscribed to.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    fn events(&self) -> Result<Value, String> {
        Err(NO_EVENTS.to_owned())
    }

    /// Raises an event; to whom it goes.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    fn raise(&self, asked: &RaiseEvent) -> Result<Raised, String> {
        let _ = asked;
        Err(NO_EVENTS.to_owned())
    }

    /// The commands of modules; none where there are no modules.
    fn commands(&self) -> Vec<Command> {
        Vec::new()
    }

    /// Runs one of them, and waits for its answer for a few seconds at the most. Called on a thread of its own, for one client at a
    /// time: others are answered meanwhile.
    ///
    /// # Errors
    /// There is no such command, or it does not answer, in words.
    fn run_command(&self, name: String, params: Vec<String>) -> Result<Reply, String> {
        let _ = params;
        Err(format!("nobody runs {name} here"))
    }

    /// Hands `stream`, over which this process is asked to give up its sockets, to who can do so. What is said there from
    /// now on is its business.
    ///
    /// # Errors
    /// Nobody can, in words.
    fn hand_over(&self, stream: net::UnixStream, language: u32) -> Result<(), String> {
        let _ = (stream, language);
        Err("this process has no sockets to give up".to_owned())
    }
}

/// A thread that answers. Dropping it removes the socket and ends the thread, with whatever it was sending; a thread that
/// waits for who knows an answer is left to itself after [`END_MAX`], and answers nobody any more.
#[derive(Debug)]
pub(crate) struct Control {
    // Fields are dropped in their order, and the place has to go while its listener is still open: see there.
    place: Place,
    _thread: Answering,
}

/// Its end ends the thread.
#[derive(Debug)]
struct Answering {
    /// The thread ends when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    /// Who is at the counter is served, and nobody after him.
    is_over: Arc<AtomicBool>,
    /// Nothing is ever sent: it is gone when the thread is.
    ended: mpsc::Receiver<()>,
}

/// What all clients share.
struct Desk {
    answers: Arc<dyn Answers>,
    /// The user that this process runs as.
    us: u32,
    limits: Limits,
    /// As of [`Answering`].
    is_over: Arc<AtomicBool>,
    /// Taken by who has a command run, until that is over.
    commands: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Clients at a time.
    clients: usize,
    /// To ask, and again to take the answer.
    deadline: Duration,
}

impl Control {
    /// Listens at `path`, and answers root and our own user with what `answers` says.
    ///
    /// The socket has the mode 0600 from its first moment on. One that a process of ours left behind is replaced.
    ///
    /// # Errors
    /// The path, its folder or what stands there will not do, with what to do about it; or there is no thread to be had.
    pub(crate) fn start(path: &Path, answers: Arc<dyn Answers>) -> anyhow::Result<Self> {
        Self::start_within(LIMITS, path, answers)
            .with_context(|| format!("cannot open the control socket {}", path.display()))
    }

    fn start_within(
        limits: Limits,
        path: &Path,
        answers: Arc<dyn Answers>,
    ) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("cannot prepare to listen")?;
        let us = our_user(&runtime).context("cannot find out as whom this process runs")?;
        let (place, listener) = Place::take(path, us, &runtime)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let desk = Arc::new(Desk {
            answers,
            us,
            limits,
            is_over: Arc::clone(&is_over),
            commands: Arc::new(Semaphore::new(1)),
        });
        let (stop, stopped) = oneshot::channel();
        let (at_work, ended) = mpsc::sync_channel(1);
        let serve = move || {
            // Gone when this thread is through, however that comes.
            let _at_work: mpsc::SyncSender<()> = at_work;
            runtime.spawn(accept(listener, desk));
            // An error is the sender being dropped, which is how it is told. What is in work is dropped too.
            let _ = runtime.block_on(stopped);
            drop(runtime);
        };
        let builder = thread::Builder::new().name("control".into());
        builder
            .spawn(serve)
            .context("cannot start the thread that answers")?;
        let thread = Answering {
            stop: Some(stop),
            is_over,
            ended,
        };
        Ok(Self {
            place,
            _thread: thread,
        })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        // Records wait to be brought to the disk behind this, and a shard that hangs may have the thread wait for it.
        let _ = self.ended.recv_timeout(END_MAX);
    }
}

impl Desk {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Clusters { cluster } => self.clusters(cluster),
            Request::Peers {} => Answer::Peers(self.answers.peers()),
            Request::Sync {
                cluster,
                capability,
            } => match self.answers.request_sync(cluster, &capability) {
                Ok(()) => Answer::Done(true),
                Err(why) => Answer::Error(why),
            },
            Request::Tables {} => Answer::Tables(self.answers.tables()),
            Request::Records(question) => match self.answers.records(&question) {
                Ok(page) => Answer::Page(page),
                Err(why) => Answer::Error(why),
            },
            Request::EventSubscribe(asked) => match self.answers.subscribe(&asked) {
                Ok(how) => Answer::Subscribed(how),
                Err(why) => Answer::Error(why),
            },
            Request::SubscribersList(asked) => match self.answers.subscribers(&asked) {
                Ok(all) => Answer::Subscribers(all),
                Err(why) => Answer::Error(why),
            },
            Request::EventsList {} => match self.answers.events() {
                Ok(all) => Answer::Events(all),
                Err(why) => Answer::Error(why),
            },
            Request::RaiseEvent(asked) => match self.answers.raise(&asked) {
                Ok(told) => Answer::Raised(told),
                Err(why) => Answer::Error(why),
            },
            Request::Commands {} => Answer::Commands(self.answers.commands()),
            Request::Run { .. } | Request::Handover { .. } => {
                Answer::Error("asked of nobody".to_owned())
            }
        }
    }

    /// Has a command run beside the thread that answers: it may take seconds, and nobody else is to wait for it.
    async fn run(&self, command: String, params: Vec<String>) -> Answer {
        let Ok(turn) = Arc::clone(&self.commands).try_acquire_owned() else {
            return Answer::Error(format!(
                "another command is under way, and one is run at a time: ask for {command} again when it is over"
            ));
        };
        let (done, answer) = oneshot::channel();
        let answers = Arc::clone(&self.answers);
        let run = move || {
            let ran = answers.run_command(command, params);
            // Before it is told, so that who has the answer may ask again. Whoever asked may have gone.
            drop(turn);
            let _ = done.send(ran);
        };
        if let Err(error) = thread::Builder::new().name("command".into()).spawn(run) {
            return Answer::Error(format!("there is no thread to run it: {error}"));
        }
        match answer.await {
            Ok(Ok(reply)) => Answer::Reply(reply),
            Ok(Err(why)) => Answer::Error(why),
            Err(_) => Answer::Error("what ran it has ended".to_owned()),
        }
    }

    /// Lets go of `stream`: others talk over it from here on. An answer is for when there is nobody to do so.
    async fn hand_over(&self, stream: UnixStream, language: u32) {
        // The other references to the descriptor: the one that is handed over belongs to no reactor.
        let copy = stream
            .as_fd()
            .try_clone_to_owned()
            .map(net::UnixStream::from);
        let handed = copy.map_err(|error| error.to_string());
        if let Err(why) = handed.and_then(|copy| self.answers.hand_over(copy, language)) {
            let answer = Answer::Error(why);
            let _ = timeout(self.limits.deadline, line::write(&stream, &answer.line())).await;
        }
    }

    fn clusters(&self, wanted: Option<i32>) -> Answer {
        let all = match self.answers.clusters() {
            Ok(all) => all,
            Err(why) => return Answer::Error(why),
        };
        let Some(wanted) = wanted else {
            return Answer::Clusters(all.iter().map(Cluster::from).collect());
        };
        match all.iter().find(|each| each.cluster == wanted) {
            Some(one) => Answer::Clusters(vec![one.into()]),
            None => Answer::Error(not_in(wanted, &all)),
        }
    }

    /// The kernel vouches for it: who connected, not who has the connection now.
    fn may_ask(&self, stream: &UnixStream) -> Result<(), String> {
        match stream.peer_cred().map(|peer| peer.uid()) {
            Ok(uid) if uid == 0 || uid == self.us => Ok(()),
            Ok(uid) => Err(format!(
                "the user {uid} may not ask here: only root and the user {} may",
                self.us
            )),
            Err(error) => Err(format!("it cannot be found out who asks: {error}")),
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Gives every client a task of its own, when there is a place.
async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(desk.limits.clients));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptors left, or a client that was gone at once. The next try must not come at once.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            serve(stream, &desk).await;
            drop(place);
        });
    }
}

async fn serve(stream: UnixStream, desk: &Desk) {
    let asked = match desk.may_ask(&stream) {
        Ok(()) => question(&stream, desk).await,
        Err(why) => Some(Err(why)),
    };
    let answer = match asked {
        Some(Ok(Request::Handover { language })) => return desk.hand_over(stream, language).await,
        Some(Ok(Request::Run { command, params })) => desk.run(command, params).await,
        Some(Ok(request)) => desk.answer(request),
        Some(Err(why)) => Answer::Error(why),
        None => return,
    };
    // Who does not take it in time, or has left, does not get it.
    let _ = timeout(desk.limits.deadline, line::write(&stream, &answer.line())).await;
}

/// Reads it, or says what is wrong with it; `None` where nobody is left to be answered.
async fn question(stream: &UnixStream, desk: &Desk) -> Option<Result<Request, String>> {
    let deadline = desk.limits.deadline;
    let wrong = match timeout(deadline, line::read(stream, REQUEST_LEN_MAX)).await {
        // Several may be due before the thread sees its end.
        Ok(Ok(_)) if desk.is_over.load(Ordering::Relaxed) => return None,
        Ok(Ok(line)) => return Some(Request::read(&line)),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::FileTooLarge => {
                format!("a question has at most {REQUEST_LEN_MAX} bytes, its line feed included")
            }
            ErrorKind::UnexpectedEof => "a question ends with a line feed".to_owned(),
            _ => return None,
        },
        Err(_) => format!("a question has to be whole within {deadline:?}"),
    };
    Some(Err(wrong))
}

fn not_in(wanted: i32, all: &[ClusterFacts]) -> String {
    let ids: Vec<String> = all.iter().map(|each| each.cluster.to_string()).collect();
    match &ids[..] {
        [] => format!("this process is in no cluster {wanted}, nor in any other"),
        ids => format!(
            "this process is in no cluster {wanted}, but in {}",
            ids.join(", ")
        ),
    }
}

/// The effective user: of a pair, each end's peer is who made it (unix(7), `SO_PEERCRED`).
fn our_user(runtime: &Runtime) -> io::Result<u32> {
    let _inside = runtime.enter();
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

const NO_EVENTS: &str = "this process tells nobody of events";

const LIMITS: Limits = Limits {
    clients: 8,
    deadline: Duration::from_secs(1),
};

/// The longest that the end of the thread is waited for.
const END_MAX: Duration = Duration::from_secs(1);

/// How long nobody is accepted after that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
pub(crate) mod tests;
