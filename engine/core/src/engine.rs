//! Assembly and life of an engine: start, watch, stop without a hole.
//!
//! ```text
//!   start:  socket ─▶ thread: pin ─▶ slab touched ─▶ shard made ─▶ ready ─▶ Shard::run
//!   stop:   read drops ─▶ shut off arrivals ─▶ stop flag ─▶ queue drained ─▶ join ─▶ read drops and queue ─▶ close
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use binrush_net::{
    AffinityError, Batch, DropCounter, RecvMmsg, Slab, UdpError, UdpOptions, UdpSocket,
    allowed_cores, pin_current_thread,
};
use binrush_wire::Generation;

use crate::clock::MonotonicClock;
use crate::dispatch::registry::Registry;
use crate::shard::Shard;
use crate::telemetry::ledger::Ledger;
use crate::telemetry::snapshot::{KernelDrops, Snapshot};

/// Why it did not start, or cannot vouch for its end.
pub mod error;
/// Where to listen, and with what.
pub mod listen;

pub use error::{StartError, StopCause, StopError, Warning};
pub use listen::{ListenConfig, Pin};

/// A running engine: a bound socket, and a thread that turns its datagrams into calls of handlers.
///
/// Dropping it stops the thread without looking at the ledger; [`stop`](Self::stop) is the way to end it.
#[derive(Debug)]
pub struct Engine {
    socket: Arc<UdpSocket>,
    local_addr: SocketAddr,
    rcvbuf: usize,
    core: Option<usize>,
    warnings: Vec<Warning>,
    ledger: Arc<Ledger>,
    drops: DropCounter,
    stop: Arc<AtomicBool>,
    /// Taken when the thread is joined.
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Engine {
    /// Binds the socket, starts the shard and returns when it is about to receive.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running or bound.
    pub fn start(config: ListenConfig, registry: Registry) -> Result<Self, StartError> {
        let ListenConfig {
            addr,
            rcvbuf,
            pin,
            batch,
            frames,
        } = config;
        if !(1..=BATCH_MAX).contains(&batch) || frames < batch {
            return Err(StartError::Sizes { batch, frames });
        }
        let options = UdpOptions {
            rcvbuf: Some(rcvbuf),
            ..UdpOptions::default()
        };
        let socket =
            UdpSocket::bind(addr, &options).map_err(|error| StartError::of_socket(addr, error))?;
        let failed = |call| {
            move |error| StartError::Socket {
                addr,
                error: UdpError { call, error },
            }
        };
        let local_addr = socket.local_addr().map_err(failed("getsockname"))?;
        let rcvbuf = socket.rcvbuf().map_err(failed("getsockopt(SO_RCVBUF)"))?;
        // A kernel that cannot count drops is found out now and not at the end.
        let mut drops = DropCounter::default();
        drops.advance(socket.drops().map_err(failed("getsockopt(SO_MEMINFO)"))?);

        let rcvbuf_warning = socket.rcvbuf_warning().map(Warning::Rcvbuf);
        let replaced = registry.replaced().iter().cloned();
        let mut warnings: Vec<Warning> = rcvbuf_warning
            .into_iter()
            .chain(replaced.map(Warning::NameReplaced))
            .collect();
        let socket = Arc::new(socket);
        let queue = RecvMmsg::new(Arc::clone(&socket), batch);
        let clock = MonotonicClock::start();
        let stop = Arc::new(AtomicBool::new(false));
        let (thread, ready) = spawn(pin, Arc::clone(&stop), move || {
            let slab = Slab::new(frames).map_err(|error| StartError::Slab { frames, error })?;
            let (batch, generation) = (Batch::new(batch), Generation::Legacy);
            Ok(Shard::new(queue, clock, slab, batch, generation, registry))
        })?;
        warnings.extend(ready.pinned.warning);
        Ok(Self {
            socket,
            local_addr,
            rcvbuf,
            core: ready.pinned.core,
            warnings,
            ledger: ready.ledger,
            drops,
            stop,
            thread: Some(thread),
        })
    }

    /// Receives what is queued, then stops; arrivals after the call are dropped and counted as such.
    ///
    /// The totals balance exactly: every datagram the kernel ever took for this socket is in one counter.
    /// Takes up to [`WAIT`](crate::shard::WAIT), some 10 ms in which arrivals are shut off, and the drain.
    ///
    /// # Errors
    /// [`StopError`], when that cannot be promised; it has the totals as far as they are known.
    pub fn stop(mut self) -> Result<Snapshot, StopError> {
        // Whatever fails, the rest is done: what cannot be read keeps its last reading.
        let before = self.read_drops();
        let buffer = self.drops.total();
        let shut = self.socket.drop_all();
        let ended = self.end_shard();
        let after = self.read_drops();
        let left = self.socket.queued_bytes();
        let left_in_queue_bytes = left.as_ref().map_or(0, |bytes| *bytes);
        let totals = self.ledger.snapshot(KernelDrops {
            buffer,
            stopping: self.drops.total() - buffer,
            left_in_queue_bytes,
        });
        let known = before.and(shut).and(after).and(left);
        let cause = match (ended, known) {
            (Err(cause), _) => cause,
            (Ok(()), Err(error)) => StopCause::Kernel(error),
            (Ok(()), Ok(1..)) => StopCause::LeftInQueue {
                bytes: left_in_queue_bytes,
            },
            (Ok(()), Ok(0)) => return Ok(totals),
        };
        Err(StopError {
            totals: Box::new(totals),
            cause,
        })
    }

    /// The counters now, with what the kernel dropped so far.
    ///
    /// The kernel counts drops modulo 2^32: call it often enough for one not to pass unseen, such as every
    /// second.
    ///
    /// # Errors
    /// What reading the kernel's count said.
    pub fn snapshot(&mut self) -> io::Result<Snapshot> {
        self.read_drops()?;
        Ok(self.ledger.snapshot(KernelDrops {
            buffer: self.drops.total(),
            ..KernelDrops::default()
        }))
    }

    /// Whether the shard is still receiving; if not, [`stop`](Self::stop) says why.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// The address it listens on, with the port that the kernel chose if none was given.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The receive buffer that the kernel granted, in bytes.
    #[must_use]
    pub const fn rcvbuf(&self) -> usize {
        self.rcvbuf
    }

    /// The core that the shard is kept on, if it is.
    #[must_use]
    pub const fn core(&self) -> Option<usize> {
        self.core
    }

    /// What the user should know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn read_drops(&mut self) -> io::Result<()> {
        self.drops.advance(self.socket.drops()?);
        Ok(())
    }

    fn end_shard(&mut self) -> Result<(), StopCause> {
        // Release pairs with the Acquire load in `Shard::run`: the shard that sees the flag finds arrivals
        // shut off.
        self.stop.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(StopCause::Receive(error)),
            Some(Err(_)) => Err(StopCause::Panicked),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // Without the filter the drain would end in an error. Nobody is left to tell of one.
            let _ = self.socket.drop_all();
            let _ = self.end_shard();
        }
    }
}

/// What the thread of a shard tells when it is about to receive.
struct Ready {
    ledger: Arc<Ledger>,
    pinned: Pinned,
}

/// Where a thread stays.
#[derive(Debug, PartialEq, Eq)]
struct Pinned {
    core: Option<usize>,
    warning: Option<Warning>,
}

/// Starts the thread of a shard and returns when it is about to receive. `make` runs on that thread once it
/// is pinned, so that what it makes is touched first by the core that will use it.
fn spawn(
    pin: Pin,
    stop: Arc<AtomicBool>,
    make: impl FnOnce() -> Result<Made, StartError> + Send + 'static,
) -> Result<(JoinHandle<io::Result<()>>, Ready), StartError> {
    let (ready_tx, ready_rx) = mpsc::sync_channel(1);
    let run = move || {
        let made = keep_on_core(pin, &allowed_cores(), pin_current_thread)
            .and_then(|pinned| Ok((pinned, make()?)));
        match made {
            Ok((pinned, (mut shard, ledger))) => {
                let _ = ready_tx.send(Ok(Ready { ledger, pinned }));
                shard.run(&stop)
            }
            Err(error) => {
                let _ = ready_tx.send(Err(error));
                Ok(())
            }
        }
    };
    let builder = thread::Builder::new().name("shard0".into());
    let thread = builder.spawn(run).map_err(StartError::Thread)?;
    match ready_rx.recv().expect("the thread answers before it ends") {
        Ok(ready) => Ok((thread, ready)),
        Err(error) => {
            // Joined, so that the socket it had is closed when the caller hears of the error.
            let _ = thread.join();
            Err(error)
        }
    }
}

/// Keeps the calling thread where `pin` says; `keep_on` does it.
fn keep_on_core(
    pin: Pin,
    allowed: &[usize],
    keep_on: impl Fn(usize) -> Result<(), AffinityError>,
) -> Result<Pinned, StartError> {
    let kept = match (pin, allowed.last()) {
        (Pin::Off, _) => Ok(None),
        (Pin::Core(core), _) => Ok(Some(keep_on(core).map(|()| core).map_err(StartError::Pin)?)),
        (Pin::Auto, Some(core)) => keep_on(*core).map(|()| Some(*core)),
        (Pin::Auto, None) => Err(AffinityError::Unknown),
    };
    Ok(match kept {
        Ok(core) => Pinned {
            core,
            warning: None,
        },
        Err(error) => Pinned {
            core: None,
            warning: Some(Warning::NotPinned(error)),
        },
    })
}

type Made = (Shard<RecvMmsg, MonotonicClock>, Arc<Ledger>);

/// Most datagrams per receive: what one system call takes.
const BATCH_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::dispatch::handler::Verdict;
    use crate::dispatch::registry::NameReplaced;
    use crate::dispatch::schema_handler::SchemaHandler;
    use crate::loopback;
    use crate::telemetry::outcome::Outcome;
    use binrush_wire::{Builder, Packet};
    use std::net::UdpSocket as Peer;
    use std::time::{Duration, Instant};

    fn config() -> ListenConfig {
        ListenConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn registry() -> Registry {
        let mut registry = Registry::new();
        registry.register(b"ul", SchemaHandler).unwrap();
        registry.register(b"dialog", SchemaHandler).unwrap();
        registry
    }

    fn packet(name: &[u8], command: i32, fields: &[&[u8]]) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut builder = Builder::new(Generation::Legacy, &mut buffer, name, command, 0).unwrap();
        fields
            .iter()
            .for_each(|field| builder.push_str(field).unwrap());
        builder.seal().to_vec()
    }

    fn peer_of(engine: &Engine) -> Peer {
        let peer = Peer::bind(SocketAddr::new(engine.local_addr().ip(), 0)).unwrap();
        peer.connect(engine.local_addr()).unwrap();
        peer
    }

    #[test]
    fn known_packets_in_exact_ledger_out() {
        for addr in loopback::addresses() {
            let config = ListenConfig::new(SocketAddr::new(addr, 0));
            let engine = Engine::start(config, registry()).unwrap();
            let peer = peer_of(&engine);
            let insert = packet(b"ul", 1, &[b"location", b"alice"]);
            let mut damaged = insert.clone();
            *damaged.last_mut().unwrap() ^= 0x20;
            let sent = [
                insert.clone(),
                packet(b"ul", 2, &[b"location", b"alice"]),
                insert.clone(),
                packet(b"dialog", 3, &[b"call-1", b"from", b"to"]),
                packet(b"dialog", 3, &[b"call-1", b"from"]),
                packet(b"dialog", 55, &[]),
                packet(b"ratelimit", 1, &[b"pipe"]),
                packet(b"ratelimit", 1, &[b"pipe"]),
                damaged,
                b"REGISTER sip:example.org SIP/2.0".to_vec(),
                b"\r\n\r\n".to_vec(),
            ];
            sent.iter()
                .for_each(|bytes| assert_eq!(peer.send(bytes).unwrap(), bytes.len()));

            let totals = engine.stop().unwrap();
            assert!(totals.is_balanced());
            assert_eq!(totals.unaccounted(sent.len() as u64), 0);
            assert_eq!(totals.kernel, KernelDrops::default());
            assert_eq!(
                totals.bytes,
                sent.iter().map(|bytes| bytes.len() as u64).sum::<u64>()
            );
            assert_eq!(totals.names[0].commands, [(1, 2), (2, 1)]);
            assert_eq!(totals.names[1].commands, [(3, 1)]);
            assert_eq!(totals.names[1].received, 3);
            assert_eq!(totals.unknown_names, [("ratelimit".to_owned(), 2)]);
            let expected = [
                (Outcome::Handled, 4),
                (Outcome::FieldMissing, 1),
                (Outcome::UnknownCommand, 1),
                (Outcome::UnknownName, 2),
                (Outcome::BadCrc, 1),
                (Outcome::BadMarker, 1),
                (Outcome::TooShort, 1),
            ];
            for (outcome, count) in expected {
                assert_eq!(totals.outcome(outcome), count, "{outcome}");
            }
            assert_eq!(
                expected.map(|(_, count)| count).iter().sum::<u64>(),
                totals.received
            );
        }
    }

    #[test]
    fn what_a_small_buffer_loses_has_a_name() {
        let engine = Engine::start(
            ListenConfig {
                rcvbuf: 4096,
                ..config()
            },
            {
                let mut registry = Registry::new();
                // Slower than the sender, so that the buffer overflows.
                registry
                    .register(b"ul", |_: Timestamp, _: &Packet<'_>| {
                        thread::sleep(Duration::from_millis(1));
                        Verdict::Handled
                    })
                    .unwrap();
                registry
            },
        )
        .unwrap();
        let peer = peer_of(&engine);
        let insert = packet(b"ul", 1, &[b"location", b"alice"]);
        (0..500).for_each(|_| assert_eq!(peer.send(&insert).unwrap(), insert.len()));
        let totals = engine.stop().unwrap();
        assert!(totals.is_balanced());
        assert!(
            totals.kernel.buffer > 0 && totals.received > 0,
            "{totals:?}"
        );
        assert_eq!(totals.unaccounted(500), 0);
    }

    #[test]
    fn arrivals_during_the_stop_are_counted_apart() {
        let (socket_tx, socket_rx) = mpsc::channel::<Arc<UdpSocket>>();
        let (sent_tx, sent_rx) = mpsc::channel();
        let mut registry = Registry::new();
        // Called once, and keeps sending to its own engine until arrivals are shut off.
        registry
            .register(b"ul", move |_: Timestamp, packet: &Packet<'_>| {
                let Ok(socket) = socket_rx.try_recv() else {
                    return Verdict::Handled;
                };
                let peer = Peer::bind("127.0.0.1:0").unwrap();
                let mut sent = 0;
                while socket.drops().unwrap() == 0 {
                    peer.send_to(packet.bytes(), socket.local_addr().unwrap())
                        .unwrap();
                    sent += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                sent_tx.send(sent).unwrap();
                Verdict::Handled
            })
            .unwrap();
        let engine = Engine::start(config(), registry).unwrap();
        socket_tx.send(Arc::clone(&engine.socket)).unwrap();
        peer_of(&engine)
            .send(&packet(b"ul", 1, &[b"location", b"alice"]))
            .unwrap();

        let totals = engine.stop().unwrap();
        let sent: u64 = sent_rx.recv().unwrap();
        assert!(totals.is_balanced());
        assert_eq!(
            totals.kernel,
            KernelDrops {
                stopping: 1,
                ..KernelDrops::default()
            }
        );
        assert_eq!(totals.unaccounted(1 + sent), 0);
    }

    #[test]
    fn a_dead_shard_is_told_at_the_stop_with_all_that_is_known() {
        let mut registry = Registry::new();
        registry
            .register(b"ul", |_: Timestamp, _: &Packet<'_>| -> Verdict {
                panic!("on purpose")
            })
            .unwrap();
        let config = ListenConfig {
            batch: 1,
            ..config()
        };
        let engine = Engine::start(config, registry).unwrap();
        let peer = peer_of(&engine);
        peer.send(b"not BIN").unwrap();
        (0..3).for_each(|_| assert!(peer.send(&packet(b"ul", 1, &[])).is_ok()));
        let start = Instant::now();
        while engine.is_running() {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
        let error = engine.stop().unwrap_err();
        assert!(matches!(error.cause, StopCause::Panicked), "{error}");
        let totals = *error.totals;
        assert_eq!((totals.received, totals.settled()), (2, 1), "{totals:?}");
        assert!(totals.kernel.left_in_queue_bytes >= 2 * binrush_net::QUEUED_LEN_MIN);
        assert!(!totals.is_balanced());
    }

    #[test]
    fn a_core_of_our_own_choice_is_no_condition_and_one_asked_for_is() {
        let refuse = |core| Err(AffinityError::Refused { core });
        let unpinned = |error| Pinned {
            core: None,
            warning: Some(Warning::NotPinned(error)),
        };
        for (pin, allowed, expected) in [
            (
                Pin::Auto,
                &[0, 3][..],
                Ok(unpinned(AffinityError::Refused { core: 3 })),
            ),
            (Pin::Auto, &[], Ok(unpinned(AffinityError::Unknown))),
            (
                Pin::Core(1),
                &[0, 3],
                Err(AffinityError::Refused { core: 1 }),
            ),
        ] {
            let kept = keep_on_core(pin, allowed, refuse).map_err(|error| match error {
                StartError::Pin(error) => error,
                other => panic!("{other}"),
            });
            assert_eq!(kept, expected);
        }
        let free = |pin| keep_on_core(pin, &[0, 3], |_| Ok(())).unwrap();
        let kept = [Pin::Auto, Pin::Core(0), Pin::Off].map(|pin| free(pin).core);
        assert_eq!(kept, [Some(3), Some(0), None]);
    }

    #[test]
    fn start_errors_say_what_to_do() {
        let engine = Engine::start(config(), Registry::new()).unwrap();
        assert!(engine.is_running());
        let taken = ListenConfig::new(engine.local_addr());
        let text = Engine::start(taken, Registry::new())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("port is in use") && text.contains("ss -ulpn"),
            "{text}"
        );

        if let Some(elsewhere) = loopback::address_of_another_host() {
            let config = ListenConfig::new(SocketAddr::new(elsewhere, 5566));
            let error = Engine::start(config, Registry::new()).unwrap_err();
            let expected = matches!(error, StartError::AddressNotAvailable { .. });
            assert!(expected, "{error}");
        }

        let nowhere = ListenConfig {
            pin: Pin::Core(1 << 20),
            ..config()
        };
        let error = Engine::start(nowhere, Registry::new()).unwrap_err();
        assert!(matches!(error, StartError::Pin(_)), "{error}");

        for (batch, frames) in [(0, 4), (1025, 2000), (8, 7)] {
            let error = Engine::start(
                ListenConfig {
                    batch,
                    frames,
                    ..config()
                },
                Registry::new(),
            )
            .unwrap_err();
            assert!(matches!(error, StartError::Sizes { .. }), "{error}");
        }
    }

    #[test]
    fn the_port_is_free_once_the_engine_is_gone_also_without_a_stop() {
        // An address that nobody else uses, so that nobody else is given its ports meanwhile.
        let own = SocketAddr::from(([127, 77, 3, 1], 0));
        let engine = Engine::start(ListenConfig::new(own), Registry::new()).unwrap();
        let addr = engine.local_addr();
        drop(engine);
        Engine::start(ListenConfig::new(addr), Registry::new()).unwrap();
    }

    #[test]
    fn a_name_registered_twice_is_a_warning() {
        let mut registry = registry();
        registry.register(b"ul", SchemaHandler).unwrap();
        let engine = Engine::start(
            ListenConfig {
                rcvbuf: 4096,
                ..config()
            },
            registry,
        )
        .unwrap();
        let expected = NameReplaced { name: "ul".into() };
        assert_eq!(engine.warnings(), [Warning::NameReplaced(expected)]);
        assert!(engine.rcvbuf() >= 4096);
    }
}
