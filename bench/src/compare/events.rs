//! What it costs an engine that keeps contacts to tell of them, beside keeping them alone: contacts of 1.11 are refreshed in datagrams,
//! which are queued while it is parked and then drained, so many events in a second, and a socket hears of every one.
//!
//! ```text
//!   sender ── refreshes, and other packets ──▶ engine: shard ── keeps ──▶ thread "events" ── datagrams ──▶ subscriber, in this process
//!                                               the clock of this thread   and of this one                 counts what comes
//!   without    loads no event_datagram
//!   silent     has nobody subscribed
//!   control      and drains some packets more than are counted: growth that is known
//!   text       has a subscriber for changes of contacts
//!   jsonrpc      in the other form
//! ```
//!
//! Growth is that of the shard's own time for a packet, to that of `silent` in the same round. A shard at a rate would hide it: it looks for
//! packets again and again before it sleeps, and what an event takes it takes from those looks. That it shows here, `control` proves in
//! every round. Whatever it is, every event has to be in a count: each change that was sent was applied and raised, and what was raised
//! the kernel took for the subscriber, and he read it or his socket dropped it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::contenders::Contender;
use super::drain::connect;
use super::records::contacts::{Contacts, Phase};
use super::{Bench, RCVBUF_DRAIN, on_core};
use crate::procfs;
use crate::receiver::{Kind, Receiver, Setup, count_in};
use drains::{Drained, Drains, Plan};
use flow::Flow;
use subscriber::{Heard, Subscriber};

pub(super) use rows::{Row, json, text, warnings};

/// Drains at a rate.
mod drains;
/// Which packets are sent.
mod flow;
/// Measurements, as a table and as JSON.
mod rows;
/// Who is told.
mod subscriber;

/// Whom an engine tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It cannot tell anybody.
    Without,
    Nobody,
    /// Nobody either, and it has more to drain than is counted.
    Control,
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
    drained: Drained,
    /// Packets that were drained for each that counts, in percent above one.
    uncounted_percent: f64,
    /// Of all that was sent, what came first and to warm up included: packets, those that were received, refreshes, and what was raised
    /// for them.
    sent: u64,
    received: u64,
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
        for &every in &self.args.every {
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
            let setup = self.setup(Kind::Engine, RCVBUF_DRAIN, false);
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
        let subscriber = told.form().map(|_| Subscriber::start()).transpose()?;
        let setup = Setup {
            verify: true,
            more: told.config(subscriber.as_ref().map(Subscriber::addr)),
            ..self.setup(Kind::Engine, RCVBUF_DRAIN, false)
        };
        let engine = self.engine.as_ref().map(|engine| engine.path.as_path());
        let mut receiver = Receiver::start(&setup, engine, &self.patience)?;
        let contacts = Contacts::legacy()?;
        let uncounted_percent = match told {
            Told::Control => self.args.control,
            _ => 0.0,
        };
        let mut sample = on_core(self.tx, || {
            let inserted = insert(&mut receiver, &contacts, self.packets())?;
            let teller = procfs::threads_named(receiver.id(), TELLER)?;
            let mut drains = Drains::new(
                &receiver,
                subscriber.as_ref(),
                &self.patience,
                Flow::new(contacts, load.every, self.packets()),
                self.rcvbuf,
            )?;
            let plan = load.plan(self.args.seconds.as_secs_f64(), uncounted_percent);
            Ok(Sample {
                drained: drains.measure(plan, &teller)?,
                uncounted_percent,
                sent: inserted + drains.flow.packets(),
                refreshes: drains.flow.refreshes(),
                ..Sample::default()
            })
        })?;
        let total = receiver.totals()?;
        let heard = subscriber.map(Subscriber::finish).transpose()?;
        sample.heard = heard.unwrap_or_default();
        sample.received = count_in(&total)?;
        sample.with_totals(told, &total)
    }
}

impl Sample {
    /// With what the engine says of its events, which has to add up with what was sent and what was heard.
    fn with_totals(mut self, told: Told, total: &Value) -> anyhow::Result<Self> {
        ensure!(
            self.received == self.sent,
            "it received {} of {} packets, and its queue had room for all",
            self.received,
            self.sent
        );
        let events = &total["events"];
        if told == Told::Without {
            ensure!(events.is_null(), "it tells events, unasked: {events}");
            return Ok(self);
        }
        let count = |of: &Value, name: &str| {
            let count = of[name].as_u64();
            count.with_context(|| format!("no count of {name} in {events}"))
        };
        self.raised = count(events, "raised")?;
        self.dropped = count(events, "dropped")?;
        if told.form().is_none() {
            ensure!(self.raised == 0, "it tells nobody, and raises: {events}");
            return Ok(self);
        }
        let subscriber = &events["subscribers"][0];
        self.dropped += count(subscriber, "dropped")?;
        self.told = count(subscriber, "sent")?;
        ensure!(
            events["balanced"] == true && self.raised == self.told + self.dropped,
            "its events do not add up: {events}"
        );
        ensure!(
            self.raised == self.refreshes,
            "{} contacts were changed, and it raised {} events",
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
    const ALL: [Self; 5] = [
        Self::Without,
        Self::Nobody,
        Self::Control,
        Self::Text,
        Self::JsonRpc,
    ];

    const fn symbol(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Nobody => "silent",
            Self::Control => "control",
            Self::Text => "text",
            Self::JsonRpc => "jsonrpc",
        }
    }

    /// In which form it tells, if it does.
    const fn form(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::JsonRpc => Some(self.symbol()),
            Self::Without | Self::Nobody | Self::Control => None,
        }
    }

    /// What an engine is told besides; one that tells, tells `subscriber`.
    fn config(self, subscriber: Option<SocketAddr>) -> String {
        if self == Self::Without {
            return String::new();
        }
        let mut config = "loadmodule \"event_datagram.so\"\n".to_owned();
        if let (Some(form), Some(addr)) = (self.form(), subscriber) {
            config.push_str(&format!(
                "modparam(\"binrush\", \"subscribe_event\", \"{EVENT} udp:{addr} 86400 {form}\")\n"
            ));
        }
        config
    }
}

impl Load {
    /// What `seconds` of it are, and `more` percent.
    fn plan(self, seconds: f64, more: f64) -> Plan {
        let factor = f64::from(self.every) * (1.0 + more / 100.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounded by what options allow, far below 2^53"
        )]
        let packets = |events: f64| (events * factor).round().max(1.0) as u64;
        Plan {
            packets: packets(self.events_per_second * seconds),
            at_once: packets(EVENTS_AT_ONCE),
            refreshes_per_second: self.events_per_second * (1.0 + more / 100.0),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events/s, ", self.events_per_second)?;
        match self.every {
            1 => f.write_str("each packet one"),
            every => write!(f, "one of {every} packets"),
        }
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

const EVENT: &str = "E_UL_CONTACT_UPDATE";

/// How the engine's thread is called.
const TELLER: &str = "events";

/// Contacts that any receive buffer has room for.
const AT_ONCE: u32 = 500;

/// Events of one drain: a shard's ring has room for all of them, whenever they are told.
const EVENTS_AT_ONCE: f64 = 2000.0;

#[cfg(test)]
mod tests;
