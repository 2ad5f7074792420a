//! What it costs an engine that keeps contacts to tell of them, beside keeping them alone: contacts of 1.11 are refreshed in datagrams at
//! a rate, and a socket hears of every one.
//!
//! ```text
//!   sender ── refreshes at a rate ──▶ engine: shard ── keeps ──▶ thread "events" ── datagrams ──▶ subscriber, in this process
//!              (in the second load     the clock of this thread   and of this one                 counts what comes
//!               among other packets)
//!   silent     loads no event_datagram
//!   text       has a subscriber for changes of contacts
//!   jsonrpc      in the other form
//! ```
//!
//! Growth is that of the shard's own time for a packet, to that of `silent` in the same round. Whatever it is, every event has to be in a
//! count: of what was applied each change is raised, raised are those that were told or dropped on the way, and what the kernel took
//! for the subscriber was read or dropped at its socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::contenders::Contender;
use super::drain::connect;
use super::records::contacts::{Contacts, Phase};
use super::{Bench, RCVBUF_FLOW, on_core};
use crate::procfs::{self, Thread};
use crate::receiver::{Kind, Receiver, Setup, count_in};
use crate::sender::{self, Job, Live, Pacing, Way};
use flow::Flow;
use subscriber::{Heard, Subscriber};

pub(super) use rows::{Row, json, text, warnings};

/// Which packets are sent when.
mod flow;
/// Measurements, as a table and as JSON.
mod rows;
/// Who is told.
mod subscriber;

/// Whom an engine tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nobody,
    /// In lines of text.
    Text,
    /// As JSON-RPC notifications.
    JsonRpc,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    events_per_second: f64,
    /// One packet of so many is an event.
    every: u32,
}

/// What one engine took in one round.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    /// Packets that were sent, that the shard received, and that were not sent for want of time.
    sent: u64,
    received: u64,
    unsent: u64,
    /// Of the shard's thread, and of the one that tells.
    shard_ns: u64,
    teller_ns: u64,
    /// Refreshes among all that was sent, those to warm up included, and what was raised for them.
    refreshes: u64,
    raised: u64,
    /// For which there was no room on the way to the thread, or for the subscriber.
    dropped: u64,
    /// That the kernel took, and what became of these.
    told: u64,
    heard: Heard,
}

impl Bench<'_> {
    pub(super) fn events(&mut self) -> anyhow::Result<()> {
        if self.tx == self.rx {
            return Ok(());
        }
        if !self.has_engine() {
            self.leave_out("events left out: they are the engine's, by recvmmsg");
            return Ok(());
        }
        for every in LOADS {
            let load = Load {
                events_per_second: self.args.events,
                every,
            };
            let case = format!("events, {load}");
            let samples = self.turns(&case, Told::ALL.len(), |bench, index| {
                let told = Told::ALL[index];
                let sample = bench.tell_of(told, load);
                sample.with_context(|| told.symbol())
            })?;
            let setup = self.setup(Kind::Engine, RCVBUF_FLOW, false);
            for (told, samples) in Told::ALL.into_iter().zip(samples) {
                self.told.push(Row {
                    load,
                    told,
                    identity: Contender::ours("", setup.clone()).identity(self.engine.as_ref()),
                    samples,
                });
            }
        }
        Ok(())
    }

    fn tell_of(&self, told: Told, load: Load) -> anyhow::Result<Sample> {
        let subscriber = match told {
            Told::Nobody => None,
            Told::Text | Told::JsonRpc => Some(Subscriber::start()?),
        };
        let setup = Setup {
            verify: true,
            more: subscriber
                .as_ref()
                .map_or_else(String::new, |subscriber| told.config(subscriber.addr())),
            ..self.setup(Kind::Engine, RCVBUF_FLOW, false)
        };
        let engine = self.engine.as_ref().map(|engine| engine.path.as_path());
        let mut receiver = Receiver::start(&setup, engine, &self.patience)?;
        let contacts = Contacts::legacy()?;
        let before = on_core(self.tx, || insert(&mut receiver, &contacts, self.packets()))?;

        let teller = procfs::threads_named(receiver.id(), TELLER)?;
        let (shard, teller_before) = (cpu_ns(receiver.threads())?, cpu_ns(&teller)?);
        let refreshes = Arc::new(AtomicU64::new(0));
        let end_ns = u64::try_from(self.args.seconds.as_nanos()).context("seconds are few")?;
        let job = Job {
            source: Box::new(Flow::new(
                contacts,
                load,
                self.packets(),
                end_ns,
                Arc::clone(&refreshes),
            )),
            stream: 0,
            to: receiver.addr(),
            way: load.way(),
            core: Some(self.tx),
            end_ns,
        };
        let sent = sender::run(vec![job], load.pacing(), &Live::new(1), &self.patience)?;
        receiver.wait_drained()?;
        receiver.wait_idle()?;
        // What was raised last is told within some milliseconds, and by another thread.
        thread::sleep(SETTLE);
        let (shard_ns, teller_ns) = (
            cpu_ns(receiver.threads())? - shard,
            cpu_ns(&teller)? - teller_before,
        );

        let total = receiver.totals()?;
        let heard = subscriber.map(Subscriber::finish).transpose()?;
        let [sent] = &sent[..] else {
            bail!("one sender gives one result");
        };
        ensure!(sent.errors.is_empty(), "not sent: {:?}", sent.errors);
        let received = count_in(&total)?.checked_sub(before);
        let sample = Sample {
            sent: sent.sent,
            received: received.context("it lost what came first")?,
            unsent: sent.unsent,
            shard_ns,
            teller_ns,
            refreshes: refreshes.load(Ordering::Relaxed),
            heard: heard.unwrap_or_default(),
            ..Sample::default()
        };
        sample.with_totals(told, &total)
    }
}

impl Sample {
    /// With what the engine says of its events, which has to add up with what was sent and what was heard.
    fn with_totals(mut self, told: Told, total: &Value) -> anyhow::Result<Self> {
        ensure!(
            (1..=self.sent).contains(&self.received) && self.shard_ns > 0,
            "it received {} of {} packets",
            self.received,
            self.sent
        );
        let events = &total["events"];
        if told == Told::Nobody {
            ensure!(events.is_null(), "it tells events, unasked: {events}");
            return Ok(self);
        }
        let count = |of: &Value, name: &str| {
            let count = of[name].as_u64();
            count.with_context(|| format!("no count of {name} in {events}"))
        };
        let subscriber = &events["subscribers"][0];
        self.raised = count(events, "raised")?;
        self.dropped = count(events, "dropped")? + count(subscriber, "dropped")?;
        self.told = count(subscriber, "sent")?;
        ensure!(
            events["balanced"] == true && self.raised == self.told + self.dropped,
            "its events do not add up: {events}"
        );
        let lost = self.sent - self.received;
        ensure!(
            self.raised <= self.refreshes && self.raised + lost >= self.refreshes,
            "{} contacts were changed and {lost} packets lost, and it raised {} events",
            self.refreshes,
            self.raised
        );
        let Heard {
            read,
            dropped,
            strange,
        } = self.heard;
        ensure!(
            read + dropped == self.told && strange == 0,
            "the kernel took {} events for the subscriber, who read {read}, {strange} of them something else, and whose \
             socket dropped {dropped}",
            self.told
        );
        Ok(self)
    }
}

impl Told {
    const ALL: [Self; 3] = [Self::Nobody, Self::Text, Self::JsonRpc];

    const fn symbol(self) -> &'static str {
        match self {
            Self::Nobody => "silent",
            Self::Text => "text",
            Self::JsonRpc => "jsonrpc",
        }
    }

    /// What an engine is told besides, that tells `subscriber`.
    fn config(self, subscriber: SocketAddr) -> String {
        let form = self.symbol();
        format!(
            "loadmodule \"event_datagram.so\"\n\
             modparam(\"binrush\", \"subscribe_event\", \"{EVENT} udp:{subscriber} 86400 {form}\")\n"
        )
    }
}

impl Load {
    fn packets_per_second(self) -> f64 {
        self.events_per_second * f64::from(self.every)
    }

    /// One by one, or, as more than that takes a sender too long, in trains: the kernel cuts them before the engine's socket.
    const fn way(self) -> Way {
        match self.every {
            1 => Way::Plain,
            _ => Way::Gso,
        }
    }

    fn pacing(self) -> Pacing {
        let pacing = Pacing::default();
        match self.way() {
            // Each in a call of its own, also when one is late.
            Way::Plain => Pacing {
                window_ns: 0,
                ..pacing
            },
            Way::Gso | Way::Tcp => pacing,
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (packets, events) = (self.packets_per_second(), self.events_per_second);
        write!(f, "{events} events/s among {packets} packets/s")
    }
}

/// Has `count` contacts come, none of which is lost; says in how many packets.
fn insert(receiver: &mut Receiver, contacts: &Contacts, count: u32) -> anyhow::Result<u64> {
    let sender = connect(receiver.addr())?;
    let drops = receiver.drops()?;
    let mut buffer = Vec::new();
    for number in 0..count {
        buffer.clear();
        contacts.write(Phase::Insert, number, &mut buffer);
        let mut rest = &buffer[..];
        for len in contacts.lengths(Phase::Insert) {
            let (packet, behind) = rest.split_at(len);
            sender.send(packet).context("cannot send")?;
            rest = behind;
        }
        if number % AT_ONCE == 0 {
            receiver.wait_drained()?;
        }
    }
    receiver.wait_idle()?;
    ensure!(receiver.drops()? == drops, "it lost contacts as they came");
    Ok(u64::from(count) * contacts.packets(Phase::Insert))
}

/// Of all of them; exact while they sleep.
fn cpu_ns(threads: &[Thread]) -> anyhow::Result<u64> {
    threads.iter().map(|thread| thread.cpu_ns()).sum()
}

/// First each packet is an event, and then one of five.
const LOADS: [u32; 2] = [1, 5];

const EVENT: &str = "E_UL_CONTACT_UPDATE";

/// How the engine's thread is called.
const TELLER: &str = "events";

/// Contacts that any receive buffer has room for.
const AT_ONCE: u32 = 500;

/// An event is told within a tenth of it.
const SETTLE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
