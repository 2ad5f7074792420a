//! Listeners of connections, beside those of datagrams: bound together, opened together, closed one by one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use binrush_net::{
    OpenStreams, TcpError, TcpKeepalive, TcpListener, TcpOptions, TcpSocket, UringStreams,
};

use super::config::{StreamBackend, StreamConfig};
use super::error::{ChangeError, StartError, Trouble, Warning};
use super::estate::{Estate, Listening};
use super::listener::{Listener, SocketOptions};
use super::reload::covers;
use crate::accept::{Acceptor, Intake};
use crate::access::Access;
use crate::shard::desk::ListenerId;
use crate::shard::streams::{Incoming, NewConnection};
use crate::steering::Steering;
use crate::stream::{AcceptCounts, RefuseReason, StreamLimits};
use crate::tls::{ServerTls, TlsFiles};

/// What an engine has of connections, beside its shards.
#[derive(Debug)]
pub(super) struct StreamSide {
    pub(super) config: StreamConfig,
    pub(super) backend: StreamBackend,
    pub(super) backend_reason: String,
    /// Of all shards and readers, in order.
    pub(super) intakes: Vec<Arc<Intake>>,
    /// Where in `intakes` those begin that connections go to.
    takers: usize,
    listeners: Vec<StreamListener>,
    tls: Option<Arc<ServerTls>>,
    acceptor: Option<Acceptor>,
    /// What the acceptor counted, once it has ended.
    counts: AcceptCounts,
}

/// An address that connections come to.
#[derive(Debug)]
pub(super) struct StreamListener {
    pub(super) id: ListenerId,
    /// As asked for, maybe with port 0.
    pub(super) asked: SocketAddr,
    pub(super) addr: SocketAddr,
    pub(super) tls: bool,
    /// Until the acceptor has it.
    socket: Option<TcpListener>,
    /// The same socket, for the engine after this one; until all are closed.
    kept: Option<OwnedFd>,
}

/// Connections that were refused lately, of one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Why.
    pub reason: RefuseReason,
    /// Where the last one came from.
    pub last: SocketAddr,
    /// More about the last one; may be empty.
    pub text: String,
    /// How many there were since the start.
    pub count: u64,
}

/// Listeners of both kinds, bound and not open yet.
pub(super) type Bound = (Vec<Listener>, Vec<StreamListener>);

/// Binds all addresses of a start, or takes their sockets out of `estate`; `next` numbers them.
pub(super) fn bind(
    estate: &mut Estate,
    listen: &[SocketAddr],
    streams: &StreamConfig,
    datagrams: SocketOptions,
    steering: &Steering,
    access: &Access,
    next: &mut u32,
) -> Result<Bound, StartError> {
    let mut id = || number(next);
    let mut beside = streams.listen.clone();
    let (mut listeners, mut stream_listeners) = (Vec::new(), Vec::new());
    for addr in listen {
        let paired = beside.iter().position(|other| other == addr);
        let mut attempts = 1;
        loop {
            let listener = Listener::take(estate, id(), *addr, datagrams, steering, access)?;
            let Some(paired) = paired else {
                listeners.push(listener);
                break;
            };
            match StreamListener::take(estate, id(), *addr, listener.addr, false, streams) {
                Ok(stream) => {
                    beside.remove(paired);
                    stream_listeners.push(stream);
                    listeners.push(listener);
                    break;
                }
                // The kernel chose a port that is free for datagrams only; it will choose another one.
                Err(StartError::StreamPortInUse { .. })
                    if addr.port() == 0 && attempts < PAIR_ATTEMPTS_MAX =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    for addr in beside {
        stream_listeners.push(StreamListener::take(
            estate,
            id(),
            addr,
            addr,
            false,
            streams,
        )?);
    }
    for addr in &streams.listen_tls {
        stream_listeners.push(StreamListener::take(
            estate,
            id(),
            *addr,
            *addr,
            true,
            streams,
        )?);
    }
    Ok((listeners, stream_listeners))
}

/// The number of another listener.
const fn number(next: &mut u32) -> ListenerId {
    *next += 1;
    ListenerId(*next - 1)
}

/// The listeners of what is left in `estate`, for which there is no use: to be closed in order. `next` numbers them.
pub(super) fn bind_rest(
    estate: &mut Estate,
    streams: &StreamConfig,
    datagrams: SocketOptions,
    steering: &Steering,
    access: &Access,
    next: &mut u32,
) -> Result<Bound, StartError> {
    let mut id = || number(next);
    let (mut listeners, mut stream_listeners) = (Vec::new(), Vec::new());
    while let Some(group) = estate.groups.pop() {
        let listener = Listener::adopt(id(), group.asked, group, datagrams, steering, access);
        listeners.push(listener?);
    }
    while let Some(listening) = estate.listening.pop() {
        // A handshake needs certificates that are not there: who waits is refused all the same.
        let asked = listening.asked;
        stream_listeners.push(StreamListener::adopt(
            id(),
            asked,
            false,
            listening,
            streams,
        )?);
    }
    Ok((listeners, stream_listeners))
}

impl StreamListener {
    pub(super) fn bind(
        id: ListenerId,
        asked: SocketAddr,
        addr: SocketAddr,
        tls: bool,
        config: &StreamConfig,
    ) -> Result<Self, StartError> {
        let socket = TcpListener::bind(addr, &options(config));
        Self::over(id, asked, tls, socket)
    }

    /// Goes on with a socket that listens already.
    fn adopt(
        id: ListenerId,
        asked: SocketAddr,
        tls: bool,
        listening: Listening,
        config: &StreamConfig,
    ) -> Result<Self, StartError> {
        let socket = TcpListener::adopt(listening.socket, &options(config));
        Self::over(id, asked, tls, socket)
    }

    /// Goes on with a socket of `estate`, or binds one.
    fn take(
        estate: &mut Estate,
        id: ListenerId,
        asked: SocketAddr,
        addr: SocketAddr,
        tls: bool,
        config: &StreamConfig,
    ) -> Result<Self, StartError> {
        match estate.take_listening(asked, tls) {
            Some(listening) => Self::adopt(id, asked, tls, listening, config),
            None => Self::bind(id, asked, addr, tls, config),
        }
    }

    fn over(
        id: ListenerId,
        asked: SocketAddr,
        tls: bool,
        socket: Result<TcpListener, TcpError>,
    ) -> Result<Self, StartError> {
        let of_call = |call, error| StartError::of_stream(asked, call, error);
        let socket = socket.map_err(|error| of_call(error.call, error.error))?;
        let addr = socket
            .local_addr()
            .map_err(|error| of_call("getsockname", error))?;
        let kept = socket.as_fd().try_clone_to_owned();
        Ok(Self {
            id,
            asked,
            addr,
            tls,
            socket: Some(socket),
            kept: Some(kept.map_err(|error| of_call("fcntl(F_DUPFD_CLOEXEC)", error))?),
        })
    }
}

/// What connections inherit of their listener.
fn options(config: &StreamConfig) -> TcpOptions {
    let limits = &config.limits;
    TcpOptions {
        backlog: limits.backlog,
        rcvbuf: limits.rcvbuf,
        user_timeout: Some(limits.user_timeout),
        keepalive: limits.keepalive.map(|keepalive| TcpKeepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        nodelay: false,
    }
}

impl StreamSide {
    /// Reads the certificates and decides what to receive with; nothing is accepted before [`open`](Self::open).
    pub(super) fn new(
        config: StreamConfig,
        intakes: Vec<Arc<Intake>>,
        readers: u16,
    ) -> Result<(Self, Option<Warning>), StartError> {
        let tls = match &config.tls {
            Some(files) if !config.listen_tls.is_empty() => Some(load(files)?),
            None if !config.listen_tls.is_empty() => return Err(StartError::NoCertificate),
            _ => None,
        };
        let (backend, backend_reason, warning) = choose(config.backend);
        let side = Self {
            config,
            backend,
            backend_reason,
            takers: match usize::from(readers) {
                0 => 0,
                readers => intakes.len() - readers,
            },
            intakes,
            listeners: Vec::new(),
            tls,
            acceptor: None,
            counts: AcceptCounts::default(),
        };
        Ok((side, warning))
    }

    /// What the connections of each of those may cost that connections go to.
    pub(super) fn limits_of_each(&self) -> StreamLimits {
        let mut limits = self.config.limits.clone();
        limits.memory /= self.takers().len();
        limits
    }

    /// Where connections go: to the readers, if there are any.
    fn takers(&self) -> &[Arc<Intake>] {
        &self.intakes[self.takers..]
    }

    /// Lets connections in at `listeners`.
    pub(super) fn open(
        &mut self,
        listeners: Vec<StreamListener>,
        access: &Access,
    ) -> Result<(), StartError> {
        if listeners.is_empty() {
            return Ok(());
        }
        let takers = self.takers().to_vec();
        let acceptor = match &mut self.acceptor {
            Some(acceptor) => acceptor,
            empty => {
                let limits = &self.config.limits;
                let acceptor = Acceptor::start(takers, limits, access.clone());
                empty.insert(acceptor.map_err(StartError::Acceptor)?)
            }
        };
        for mut listener in listeners {
            let tls = self.tls.as_ref().filter(|_| listener.tls);
            if let Some(socket) = listener.socket.take() {
                acceptor
                    .open(listener.id, socket, tls.cloned())
                    .map_err(StartError::Acceptor)?;
            }
            self.listeners.push(listener);
        }
        Ok(())
    }

    /// Lets nobody in at `id` any more; what its address was, and whether it was for TLS.
    pub(super) fn close(
        &mut self,
        id: ListenerId,
    ) -> Result<Option<(SocketAddr, bool)>, ChangeError> {
        let mut listeners = self.listeners.iter();
        let Some(index) = listeners.position(|each| each.id == id) else {
            return Ok(None);
        };
        if let Some(acceptor) = &self.acceptor {
            acceptor.close(id).map_err(ChangeError::Acceptor)?;
        }
        let listener = self.listeners.remove(index);
        Ok(Some((listener.addr, listener.tls)))
    }

    pub(super) fn set_access(&self, access: &Access) -> Result<(), ChangeError> {
        let acceptor = self.acceptor.as_ref();
        let set = acceptor.map(|acceptor| acceptor.set_access(access.clone()));
        set.unwrap_or(Ok(())).map_err(ChangeError::Acceptor)
    }

    /// What is wrong with accepting, if anything.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let acceptor = self.acceptor.as_ref()?;
        if !acceptor.is_running() {
            return Some(Trouble::AcceptorEnded);
        }
        let (failing, _) = acceptor.failing().into_iter().next()?;
        let mut listeners = self.listeners.iter();
        let addr = listeners.find(|each| each.id == failing)?.addr;
        Some(Trouble::NotAccepting { addr })
    }

    /// Reads the certificates again, for handshakes from now on; with broken ones all stays as it was.
    pub(super) fn reload_tls(&mut self, files: &TlsFiles) -> Result<(), StartError> {
        match &self.tls {
            Some(tls) => tls.reload(&files.server).map_err(StartError::Tls)?,
            None => self.tls = Some(load(files)?),
        }
        self.config.tls = Some(files.clone());
        Ok(())
    }

    /// `error`, unless it is we who have the port.
    pub(super) fn of_our_own(&self, error: StartError) -> StartError {
        let StartError::StreamPortInUse { addr } = error else {
            return error;
        };
        let mut listeners = self.listeners.iter().map(|each| each.addr);
        match listeners.find(|ours| covers(*ours, addr)) {
            Some(ours) => StartError::OurOwn { addr, ours },
            None => error,
        }
    }

    /// Lets nobody in any more, anywhere.
    pub(super) fn stop(&mut self) {
        // Nobody else has them, so who comes from here on is told that nobody listens.
        self.listeners.iter_mut().for_each(|each| each.kept = None);
        if let Some(acceptor) = self.acceptor.take() {
            self.counts = acceptor.stop();
        }
    }

    /// The same, but who comes, and who waits to be accepted, is left to who has the sockets too.
    pub(super) fn leave(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            self.counts = acceptor.leave();
        }
    }

    /// References to the sockets that listen.
    pub(super) fn estate(&self) -> io::Result<Vec<Listening>> {
        let kept = self.listeners.iter().filter_map(|listener| {
            let socket = listener.kept.as_ref()?;
            Some(socket.try_clone().map(|socket| Listening {
                asked: listener.asked,
                addr: listener.addr,
                tls: Some(listener.tls),
                socket,
            }))
        });
        kept.collect()
    }

    pub(super) fn counts(&self) -> AcceptCounts {
        let acceptor = self.acceptor.as_ref();
        acceptor.map_or(self.counts, Acceptor::counts)
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let told = self.acceptor.iter().flat_map(Acceptor::refusals);
        told.map(|(reason, last, text, count)| Refusal {
            reason,
            last,
            text,
            count,
        })
        .collect()
    }

    pub(super) fn listeners(&self) -> &[StreamListener] {
        &self.listeners
    }

    /// What the user should know about the certificates.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.tls
            .as_ref()
            .map_or_else(Vec::new, |tls| tls.warnings())
    }
}

fn load(files: &TlsFiles) -> Result<Arc<ServerTls>, StartError> {
    let tls = ServerTls::load(&files.server).map_err(StartError::Tls)?;
    Ok(Arc::new(tls))
}

/// What to receive with, why, and what the user should know about it.
fn choose(wish: StreamBackend) -> (StreamBackend, String, Option<Warning>) {
    let asked = "as asked for".to_owned();
    match wish {
        StreamBackend::Recv => (StreamBackend::Recv, asked, None),
        StreamBackend::Auto => (StreamBackend::Recv, WHY_RECV.to_owned(), None),
        StreamBackend::Uring => match UringStreams::open(1) {
            Ok(_) => (StreamBackend::Uring, asked, None),
            Err(error) => {
                let why = error.to_string();
                (
                    StreamBackend::Recv,
                    format!("io_uring cannot be used: {why}"),
                    Some(Warning::NoUring(why)),
                )
            }
        },
    }
}

impl Incoming<TcpSocket> for Intake {
    #[inline]
    fn is_waiting(&self) -> bool {
        Self::is_waiting(self)
    }

    fn take(&self) -> Option<NewConnection<TcpSocket>> {
        let accepted = Self::take(self)?;
        Some(NewConnection {
            local: accepted.socket.local_addr().ok(),
            socket: accepted.socket,
            peer: accepted.peer,
            listener: accepted.listener.0,
            tls: accepted.tls,
            early: accepted.early,
            seat: Some(Box::new(accepted.seat)),
        })
    }
}

/// `cargo bench -p binrush-net --bench streams` shows it.
const WHY_RECV: &str = "io_uring costs as much or more here, and recv works everywhere";

/// How often two free ports are looked for that are one.
const PAIR_ATTEMPTS_MAX: u32 = 32;
