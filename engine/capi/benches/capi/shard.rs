//! A handler on a shard of an engine, which it takes for itself while it is measured: only there is a context to call it with.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender as Channel, channel};
use std::time::{Duration, Instant};

use binrush_engine::bin::Sender;
use binrush_engine::{Context, Engine, EngineConfig, Handler, Registry, Verdict};
use binrush_wire::Packet;

/// An engine of one shard.
pub(crate) struct Shard {
    engine: Option<Engine>,
    sender: Sender,
    wanted: Channel<u64>,
    took: Receiver<Duration>,
}

struct Timed<H> {
    handler: H,
    wanted: Receiver<u64>,
    took: Channel<Duration>,
}

impl Shard {
    /// With `handler` for packets of `name`.
    pub(crate) fn new<H: Handler + 'static>(name: &[u8], handler: H) -> Self {
        let (wanted, wanted_by_shard) = channel();
        let (took_by_shard, took) = channel();
        let timed = Mutex::new(Some(Timed {
            handler,
            wanted: wanted_by_shard,
            took: took_by_shard,
        }));
        let mut registry = Registry::new();
        registry
            .register(name, move |_| {
                let mut timed = timed.lock().expect("nobody panics with it");
                timed.take().expect("there is one shard")
            })
            .expect("it is the only one");
        let mut config = EngineConfig::new("127.0.0.1:0".parse().expect("an address"));
        config.shards = Some(1);
        let engine = Engine::start(config, registry).expect("loopback is there");
        Self {
            engine: Some(engine),
            sender: Sender::bind("127.0.0.1:0".parse().expect("an address"))
                .expect("there is a port"),
            wanted,
            took,
        }
    }

    /// What `times` calls with `packet` took.
    pub(crate) fn time(&self, packet: &[u8], times: u64) -> Duration {
        let engine = self.engine.as_ref().expect("it runs");
        let to = engine.listeners().next().expect("it has one").addr;
        self.wanted.send(times).expect("the shard is there");
        self.sender.send(packet, to).expect("it is taken");
        self.took
            .recv_timeout(Duration::from_secs(60))
            .expect("it takes no longer")
    }
}

impl<H: Handler> Handler for Timed<H> {
    fn handle(&mut self, context: &mut Context<'_>, packet: &Packet<'_>) -> Verdict {
        let times = self.wanted.recv().expect("the bench is there");
        let begin = Instant::now();
        for _ in 0..times {
            assert_eq!(self.handler.handle(context, packet), Verdict::Handled);
        }
        self.took.send(begin.elapsed()).expect("the bench is there");
        Verdict::Handled
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().expect("its shard has not failed");
        }
    }
}
