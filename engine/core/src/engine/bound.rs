//! An engine that has its sockets and no threads yet.
//!
//! What binding needs and running does not, such as ports below 1024 and buffers above the host's limit, can be given up
//! in between, before there are threads that would keep it: rights and rules of Landlock belong to a thread and are
//! inherited by those that it starts (capabilities(7), landlock(7)).

use std::io;
use std::sync::Arc;

use binrush_net::{NetStat, PollStreams, RecvMmsg, Uring, UringStreams, allowed_cores};

use super::backend;
use super::begun::Begun;
use super::error::{StartError, Warning};
use super::estate::{Estate, Group};
use super::gate::Gate;
use super::listener::{Listener, SocketOptions};
use super::streams::{self, StreamListener, StreamSide};
use super::{
    Backend, Engine, EngineConfig, LISTENERS_SPARE, StreamBackend, of_listeners, of_registry, seed,
    thread,
};
use crate::accept::Intake;
use crate::dispatch::registry::Registry;
use crate::link::Links;
use crate::shard::Life;
use crate::shard::mailbox::Mailbox;
use crate::steering::Steering;
use crate::telemetry::snapshot::HostLosses;

/// Sockets that are bound and shut, or another engine's that are open; and what an engine over them is to be.
///
/// Dropping it closes its sockets.
#[derive(Debug)]
pub struct Bound {
    config: EngineConfig,
    steering: Steering,
    options: SocketOptions,
    backend: Backend,
    backend_reason: String,
    no_uring: Option<Warning>,
    listeners: Vec<Listener>,
    stream_listeners: Vec<StreamListener>,
    /// What was taken over and nobody asks for.
    rest: streams::Bound,
    next_listener: u32,
    is_heir: bool,
}

impl Engine {
    /// Binds what `config` asks for, or goes on with the sockets of `estate` that are for it: [`Bound::start`] does the
    /// rest. What else `estate` has of another engine is received too, until [`Engine::settle`] closes it.
    ///
    /// Without a seed in `config` the groups go on with that of `estate`. With another one, what is queued in them goes by mail
    /// to its owner, and a later packet of the same record may overtake it once.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left bound, and who else has the sockets of `estate` can go on with them.
    pub fn bind(config: EngineConfig, mut estate: Estate) -> Result<Bound, StartError> {
        config.check()?;
        let is_heir = estate.sockets() > 0;
        let shards = config.shard_count();
        let chosen = config.seed.or(estate.seed);
        let steering = Steering::new(shards, chosen.unwrap_or_else(seed));
        let (backend, backend_reason, no_uring) = backend::choose(config.backend, config.batch);
        let options = SocketOptions {
            rcvbuf: config.rcvbuf,
            gro: config.gro.wanted(shards, backend),
        };
        let mut next_listener = 0;
        let (listeners, stream_listeners) = streams::bind(
            &mut estate,
            &config.listen,
            &config.streams,
            options,
            &steering,
            &config.access,
            &mut next_listener,
        )?;
        let rest = streams::bind_rest(
            &mut estate,
            &config.streams,
            options,
            &steering,
            &config.access,
            &mut next_listener,
        )?;
        Ok(Bound {
            config,
            steering,
            options,
            backend,
            backend_reason,
            no_uring,
            listeners,
            stream_listeners,
            rest,
            next_listener,
            is_heir,
        })
    }
}

impl Bound {
    /// References to the sockets for datagrams that were asked for, in that order: for who sends from them.
    ///
    /// # Errors
    /// What dup(2) said, mostly `EMFILE`.
    pub fn groups(&self) -> io::Result<Vec<Group>> {
        self.listeners.iter().map(Listener::group).collect()
    }

    /// Starts the shards and returns when all of them are about to receive.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running, nothing was received, and these sockets are closed.
    pub fn start(self, registry: Registry) -> Result<Engine, StartError> {
        self.begin(registry)?.open()
    }

    /// Starts the shards and returns when all of them have done what is to be done first: none receives before
    /// [`Begun::open`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn begin(self, registry: Registry) -> Result<Begun, StartError> {
        let Self {
            config,
            steering,
            options,
            backend,
            backend_reason,
            no_uring,
            mut listeners,
            mut stream_listeners,
            rest,
            next_listener,
            is_heir,
        } = self;
        let allowed = allowed_cores();
        let shards = steering.shards();
        if let Some((name, home)) = registry.homeless(shards) {
            let owners = shards;
            return Err(StartError::NoHome { name, home, owners });
        }
        let threads = shards + config.readers;
        let mesh = Mailbox::mesh(threads).map_err(StartError::Mailbox)?;
        let intakes = mesh
            .iter()
            .map(|mailbox| Intake::new(Arc::clone(mailbox.bell())));
        let (streams, no_uring_streams) =
            StreamSide::new(config.streams, intakes.collect(), config.readers)?;
        let mut warnings = of_registry(&registry);
        warnings.extend(of_listeners(&listeners));
        warnings.extend(no_uring.or(no_uring_streams));
        warnings.extend(streams.warnings().into_iter().map(Warning::Certificate));
        let gone: Vec<_> = rest.0.iter().map(|listener| listener.id).collect();
        let gone_streams: Vec<_> = rest.1.iter().map(|listener| listener.id).collect();
        listeners.extend(rest.0);
        stream_listeners.extend(rest.1);
        let listeners_max = listeners.len() + LISTENERS_SPARE;

        let mut engine = Engine {
            next_listener,
            listeners,
            shards: Vec::with_capacity(threads.into()),
            shards_planned: threads.into(),
            table: Arc::new(registry.table()),
            late_tables: Vec::new(),
            registry,
            steering,
            access: config.access,
            options,
            backend,
            backend_reason,
            life: Life::new(threads),
            gate: Gate::new(),
            warnings,
            listeners_max,
            host_at_start: NetStat::read().unwrap_or_default(),
            host: HostLosses::default(),
            streams,
            links: Vec::<Links>::new(),
            access_unsettled: false,
            is_heir,
            rest: (gone, gone_streams),
        };
        let cores = thread::cores(&config.pin, shards, config.readers, &allowed);
        match (backend, engine.streams.backend) {
            (Backend::Uring, StreamBackend::Uring) => {
                engine.start_shards::<Uring, UringStreams>(cores, mesh, config.batch)?;
            }
            (Backend::Uring, _) => {
                engine.start_shards::<Uring, PollStreams>(cores, mesh, config.batch)?;
            }
            (_, StreamBackend::Uring) => {
                engine.start_shards::<RecvMmsg, UringStreams>(cores, mesh, config.batch)?;
            }
            _ => engine.start_shards::<RecvMmsg, PollStreams>(cores, mesh, config.batch)?,
        }
        Ok(Begun::new(engine, stream_listeners))
    }
}
