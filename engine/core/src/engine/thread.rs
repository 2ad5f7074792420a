//! The threads of an engine's shards.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use binrush_net::{
    AffinityError, Batch, OpenQueue, OpenStreams, SendMmsg, Slab, UdpSocket, pin_current_thread,
};

use super::config::Pin;
use super::error::{ShardName, StartError, StopCause, Trouble, Warning};
use super::gate::Gate;
use crate::accept::Intake;
use crate::clock::MonotonicClock;
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::{Beginnings, Dispatch};
use crate::shard::desk::ListenerId;
use crate::shard::mailbox::Mailbox;
use crate::shard::outbox::Outbox;
use crate::shard::streams::{PeerRows, StreamParts};
use crate::shard::{Handle, Life, Parts, Shard};
use crate::steering::Steering;
use crate::stream::{PeerTable, StreamLimits};

/// A shard's thread, and what control needs of it.
#[derive(Debug)]
pub(super) struct ShardThread {
    pub(super) id: ShardId,
    name: ShardName,
    pub(super) handle: Handle,
    pub(super) core: Option<usize>,
    /// Rounds of its loop at the last look, and when they were seen first.
    turns: (u64, Instant),
    hangs: bool,
    /// Taken when it is joined.
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What a shard is started with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: ShardId,
    /// What its thread is called.
    pub(super) name: ShardName,
    pub(super) sockets: Vec<(ListenerId, Arc<UdpSocket>)>,
    pub(super) core: Option<CoreWish>,
    /// Datagrams per receive; 1 for a reader, which receives none.
    pub(super) batch: usize,
    /// Frames for datagrams.
    pub(super) frames: usize,
    pub(super) clock: MonotonicClock,
    pub(super) steering: Steering,
    pub(super) mailbox: Mailbox,
    pub(super) dispatch: Dispatch,
    pub(super) life: Arc<Life>,
    pub(super) gate: Arc<Gate>,
    pub(super) streams: StreamPlan,
}

/// What the connections of a shard are started with.
#[derive(Debug)]
pub(super) struct StreamPlan {
    pub(super) intake: Arc<Intake>,
    pub(super) limits: StreamLimits,
    pub(super) peers: Arc<PeerTable>,
    pub(super) rows: Arc<PeerRows>,
}

/// A core to keep a thread on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CoreWish {
    pub(super) core: usize,
    /// No start without it.
    pub(super) required: bool,
}

/// What the thread of a shard says when it has begun, and waits for the others.
struct Ready {
    handle: Handle,
    core: Option<usize>,
    warning: Option<Warning>,
}

impl ShardThread {
    /// Starts the thread of a shard that receives by `Q` and `S`, and returns when it has begun: it receives once the
    /// gate of `plan` is opened.
    ///
    /// Queues and slab are made on that thread once it is pinned, so that the core that will use the memory is
    /// the first to touch it.
    pub(super) fn start<Q: OpenQueue + 'static, S: OpenStreams + 'static>(
        plan: Plan,
    ) -> Result<(Self, Option<Warning>), StartError> {
        let (id, name) = (plan.id, plan.name);
        let (ready_tx, ready_rx) = mpsc::sync_channel(1);
        let builder = thread::Builder::new().name(name.to_string());
        let thread = builder
            .spawn(move || live::<Q, S>(plan, &ready_tx))
            .map_err(StartError::Thread)?;
        match ready_rx.recv().unwrap_or(Err(StartError::ThreadEnded)) {
            Ok(ready) => {
                let shard = Self {
                    id,
                    name,
                    handle: ready.handle,
                    core: ready.core,
                    turns: (0, Instant::now()),
                    hangs: false,
                    thread: Some(thread),
                };
                Ok((shard, ready.warning))
            }
            Err(error) => {
                // Joined, so that the sockets it had are closed when the caller hears of the error.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// What it is called.
    pub(super) const fn name(&self) -> ShardName {
        self.name
    }

    /// Whether it is still receiving.
    pub(super) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Looks whether it goes round its loop. An idle shard does so 20 times a second.
    pub(super) fn look(&mut self) {
        let turns = self.handle.ledger.turns();
        if turns == self.turns.0 {
            self.hangs = self.turns.1.elapsed() >= HANG_MIN;
        } else {
            (self.turns, self.hangs) = ((turns, Instant::now()), false);
        }
    }

    /// What was wrong with it at the last look.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let shard = self.name;
        if !self.is_running() {
            Some(Trouble::Ended { shard })
        } else if self.hangs {
            Some(Trouble::Hangs { shard })
        } else {
            None
        }
    }

    /// Waits for its end until `deadline`; what is wrong with how it ended.
    ///
    /// A thread that does not end keeps what it has until the process ends.
    pub(super) fn join(&mut self, deadline: Instant) -> Result<(), StopCause> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return Err(StopCause::Stuck { shard: self.name });
            }
            thread::sleep(JOIN_POLL);
        }
        match thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StopCause::Receive {
                shard: self.name,
                error,
            }),
            Err(_) => Err(StopCause::Panicked { shard: self.name }),
        }
    }
}

/// The whole life of a shard's thread.
fn live<Q: OpenQueue + 'static, S: OpenStreams + 'static>(
    mut plan: Plan,
    ready: &SyncSender<Result<Ready, StartError>>,
) -> io::Result<()> {
    let (life, gate) = (Arc::clone(&plan.life), Arc::clone(&plan.gate));
    let id = plan.id;
    let beginnings = std::mem::take(&mut plan.dispatch.beginnings);
    let made = keep_on_core(plan.core, pin_current_thread)
        .and_then(|(core, warning)| Ok((core, warning, make::<Q, S>(plan)?)))
        .and_then(|made| begin(id, &beginnings).map(|()| made));
    match made {
        Ok((core, warning, (mut shard, handle))) => {
            let _ = ready.send(Ok(Ready {
                handle,
                core,
                warning,
            }));
            match gate.pass() {
                true => shard.run(&life),
                false => Ok(()),
            }
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Ok(())
        }
    }
}

/// Does what is to be done before anything is received.
fn begin(id: ShardId, beginnings: &Beginnings) -> Result<(), StartError> {
    let refused = |error| StartError::Beginning { shard: id, error };
    beginnings.run(id).map_err(refused)
}

type Made<Q, S> = (Shard<Q, SendMmsg, MonotonicClock, S>, Handle);

fn make<Q: OpenQueue + 'static, S: OpenStreams>(plan: Plan) -> Result<Made<Q, S>, StartError> {
    let Plan {
        batch,
        frames,
        streams,
        ..
    } = plan;
    let connections = usize::try_from(streams.limits.connections).unwrap_or(usize::MAX);
    let streams = StreamParts {
        queue: S::open(connections).map_err(StartError::Queue)?,
        incoming: streams.intake,
        batch: STREAM_PIECES,
        limits: streams.limits,
        peers: streams.peers,
        rows: streams.rows,
    };
    let frames = frames + STREAM_PIECES + S::FRAMES_HELD;
    let slab = Slab::new(frames).map_err(|error| StartError::Slab { frames, error })?;
    let open = move |socket: Arc<UdpSocket>| {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let queue = Q::open(Arc::clone(&socket), batch)?;
        Ok((queue, SendMmsg::new(socket), is_ipv6))
    };
    let (mut queues, mut listeners) = (Vec::new(), Vec::new());
    let mut outbox = Outbox::new(None, None);
    for (listener, socket) in plan.sockets {
        let (queue, tx, is_ipv6) = open(socket).map_err(StartError::Queue)?;
        queues.push(queue);
        listeners.push(listener);
        outbox.add(listener, is_ipv6, tx);
    }
    let parts = Parts {
        id: plan.id,
        queues,
        open: Box::new(open),
        outbox,
        clock: plan.clock,
        slab,
        batch: Batch::new(batch),
        steering: plan.steering,
        mailbox: plan.mailbox,
        dispatch: plan.dispatch,
        streams,
    };
    Ok(Shard::with_listeners(parts, listeners))
}

/// The core for each of `shards` shards and then for each of `readers`, of those that the process may use, in ascending
/// order.
pub(super) fn cores(
    pin: &Pin,
    shards: u16,
    readers: u16,
    allowed: &[usize],
) -> Vec<Option<CoreWish>> {
    let (shards, readers) = (usize::from(shards), usize::from(readers));
    let wish = |index: usize| match pin {
        Pin::Off => None,
        Pin::Cores(cores) => cores.get(index % cores.len().max(1)).map(|core| CoreWish {
            core: *core,
            required: true,
        }),
        // Those in front of the shards', if any is left. Who has to share is better off with whichever core is idle.
        Pin::Auto if index >= shards => {
            let spare = allowed.len().saturating_sub(shards);
            let core = spare.checked_sub(1 + index - shards)?;
            Some(CoreWish {
                core: allowed[core],
                required: false,
            })
        }
        // The last of them; when there are more shards than cores, each core has several.
        Pin::Auto => {
            let first = allowed.len().saturating_sub(shards);
            allowed
                .get(first + index % allowed.len().max(1))
                .map(|core| CoreWish {
                    core: *core,
                    required: false,
                })
        }
    };
    (0..shards + readers).map(wish).collect()
}

/// Keeps the calling thread where `wish` says; `keep_on` does it.
fn keep_on_core(
    wish: Option<CoreWish>,
    keep_on: impl Fn(usize) -> Result<(), AffinityError>,
) -> Result<(Option<usize>, Option<Warning>), StartError> {
    let Some(CoreWish { core, required }) = wish else {
        return Ok((None, None));
    };
    match keep_on(core) {
        Ok(()) => Ok((Some(core), None)),
        Err(error) if required => Err(StartError::Pin(error)),
        Err(error) => Ok((None, Some(Warning::NotPinned(error)))),
    }
}

/// Pieces of streams per receive, of up to 64 KiB each: what is read is looked at while it is in the cache.
const STREAM_PIECES: usize = 8;

/// How long a shard may take for one round before it is said to hang; who looks each second sees it in three.
const HANG_MIN: Duration = Duration::from_secs(2);

const JOIN_POLL: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(pin: &Pin, shards: u16, allowed: &[usize]) -> Vec<Option<usize>> {
        with_readers(pin, shards, 0, allowed)
    }

    fn with_readers(pin: &Pin, shards: u16, readers: u16, allowed: &[usize]) -> Vec<Option<usize>> {
        let wishes = cores(pin, shards, readers, allowed);
        wishes
            .iter()
            .map(|wish| wish.map(|wish| wish.core))
            .collect()
    }

    #[test]
    fn shards_get_the_last_cores_in_order_unless_told_otherwise() {
        let allowed = [0, 2, 4, 6];
        assert_eq!(numbers(&Pin::Auto, 1, &allowed), [Some(6)]);
        assert_eq!(numbers(&Pin::Auto, 2, &allowed), [Some(4), Some(6)]);
        assert_eq!(
            numbers(&Pin::Auto, 5, &allowed),
            [Some(0), Some(2), Some(4), Some(6), Some(0)]
        );
        assert_eq!(numbers(&Pin::Off, 2, &allowed), [None, None]);
        assert_eq!(
            numbers(&Pin::Cores(vec![6, 0]), 3, &allowed),
            [Some(6), Some(0), Some(6)]
        );
        assert_eq!(numbers(&Pin::Auto, 2, &[]), [None, None]);
    }

    #[test]
    fn readers_get_cores_that_are_left_and_those_that_were_named_for_them() {
        let allowed = [0, 2, 4, 6];
        let auto = |shards, readers| with_readers(&Pin::Auto, shards, readers, &allowed);
        assert_eq!(auto(2, 1), [Some(4), Some(6), Some(2)]);
        assert_eq!(auto(2, 3), [Some(4), Some(6), Some(2), Some(0), None]);
        assert_eq!(auto(4, 1)[4], None);
        assert_eq!(auto(5, 1)[5], None);
        let named = Pin::Cores(vec![6, 0]);
        assert_eq!(
            with_readers(&named, 2, 2, &allowed),
            [Some(6), Some(0), Some(6), Some(0)]
        );
        assert_eq!(with_readers(&Pin::Off, 1, 1, &allowed), [None, None]);
    }

    #[test]
    fn a_core_that_was_asked_for_is_required_and_one_that_was_found_is_not() {
        let refuse = |core| Err(AffinityError::Refused { core });
        let wish = |required| Some(CoreWish { core: 3, required });
        let refused = keep_on_core(wish(true), refuse).unwrap_err();
        assert!(matches!(refused, StartError::Pin(_)));
        let (core, warning) = keep_on_core(wish(false), refuse).unwrap();
        assert_eq!(core, None);
        assert!(matches!(warning, Some(Warning::NotPinned(_))));
        let kept = keep_on_core(wish(true), |_| Ok(())).unwrap();
        assert_eq!(kept, (Some(3), None));
    }
}
