//! Handlers of two modules that come and go on three shards, while both are sent to.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use binrush_engine::{Context, Engine, EngineConfig, Handler, Outcome, Registry, ShardId, Verdict};
use binrush_wire::Packet;

use crate::made::legacy;

/// Sees the packets of one name on one shard, and that it is the only one that does.
struct Turn {
    name: &'static [u8],
    shard: ShardId,
    /// Which registration of its name it belongs to.
    number: u64,
    /// Of its name.
    state: Arc<State>,
}

/// What the handlers of one name count.
#[derive(Default)]
struct State {
    /// Handlers that exist.
    alive: AtomicU64,
    /// The last registration that is complete.
    current: AtomicU64,
    calls: AtomicU64,
    /// Calls that a handler of an earlier registration got, after the later one was complete.
    late: AtomicU64,
    /// Calls with a packet, or on a shard, that were not its own.
    strange: AtomicU64,
}

#[test]
fn a_name_is_swapped_without_the_other_one_noticing() {
    let (dialog, ul) = (Arc::new(State::default()), Arc::new(State::default()));
    let mut registry = Registry::new();
    registry
        .register(b"ul", Turn::maker(b"ul", 0, &ul))
        .expect("a free place");
    let config = EngineConfig {
        shards: Some(3),
        ..EngineConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))
    };
    let mut engine = Engine::start(config, registry).expect("loopback");
    let addr = engine.listeners().next().expect("one").addr;
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send_both(addr, &done));
        for number in 1..=SWAPS {
            // The first time it is new, then it replaces, and every tenth time it was gone in between.
            let made = Turn::maker(b"dialog", number, &dialog);
            engine.register(b"dialog", made).expect("shards answer");
            dialog.current.store(number, Ordering::Release);
            assert_eq!(dialog.alive.load(Ordering::Acquire), 3, "one a shard");
            thread::sleep(BETWEEN);
            if number % 10 == 0 {
                assert!(engine.unregister(b"dialog").expect("shards answer"));
                assert_eq!(dialog.alive.load(Ordering::Acquire), 0, "dropped by now");
            }
        }
        done.store(true, Ordering::Relaxed);
        sender.join().expect("it does not panic")
    });
    assert_eq!(ul.alive.load(Ordering::Relaxed), 3, "nobody touched them");
    let totals = engine.stop().expect("it vouches for its end");

    assert!(totals.is_balanced(), "{totals:?}");
    assert_eq!(totals.unaccounted(sent), 0);
    for state in [&dialog, &ul] {
        assert_eq!(state.late.load(Ordering::Relaxed), 0);
        assert_eq!(state.strange.load(Ordering::Relaxed), 0);
        assert_eq!(state.alive.load(Ordering::Relaxed), 0);
    }
    // In the order of registration; a name keeps its place and its counts over all swaps.
    let [of_ul, of_dialog] = &totals.total.names[..] else {
        panic!("{:?}", totals.total.names);
    };
    let calls = |state: &State| state.calls.load(Ordering::Relaxed);
    assert_eq!((of_ul.received, of_ul.handled()), (calls(&ul), calls(&ul)));
    assert_eq!(of_dialog.handled(), calls(&dialog));
    assert!(calls(&dialog) > 0 && calls(&ul) > 0);
    // Each second packet is for `ul`, so all that were not handled were for the name that was not there.
    let unknown = totals.total.outcome(Outcome::UnknownName);
    assert_eq!(
        totals.total.received,
        calls(&ul) + calls(&dialog) + unknown,
        "{totals:?}"
    );
    let [(name, count)] = &totals.total.unknown_names[..] else {
        panic!("{:?}", totals.total.unknown_names);
    };
    assert_eq!((&name[..], *count), ("dialog", unknown));
}

/// Sends to both names in turn until `done`, with pauses in which the receivers catch up; how many it sent.
fn send_both(addr: SocketAddr, done: &AtomicBool) -> u64 {
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        for n in 0..64 {
            let key = format!("key-{n}");
            let key = key.as_bytes();
            for bytes in [
                legacy(b"dialog", 1, &[key, b"from", b"to"]),
                legacy(b"ul", 1, &[b"location", key]),
            ] {
                peer.send_to(&bytes, addr).expect("loopback");
                sent += 1;
            }
        }
        thread::sleep(BETWEEN);
    }
    sent
}

impl Turn {
    fn maker(
        name: &'static [u8],
        number: u64,
        state: &Arc<State>,
    ) -> impl Fn(ShardId) -> Self + Send + Sync + use<> {
        let state = Arc::clone(state);
        move |shard| {
            state.alive.fetch_add(1, Ordering::AcqRel);
            Self {
                name,
                shard,
                number,
                state: Arc::clone(&state),
            }
        }
    }
}

impl Handler for Turn {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let State {
            current,
            calls,
            late,
            strange,
            ..
        } = &*self.state;
        calls.fetch_add(1, Ordering::Relaxed);
        if self.number < current.load(Ordering::Acquire) {
            late.fetch_add(1, Ordering::Relaxed);
        }
        if packet.name() != self.name || context.shard() != self.shard {
            strange.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Handled
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

const SWAPS: u64 = 100;

const BETWEEN: Duration = Duration::from_micros(500);
