//! Who takes part: receivers of this program, the engine, and programs of others.

use std::path::Path;

use anyhow::ensure;

use super::report::{Identity, TCP, TLS};
use super::{Args, Bench, RCVBUF_FLOW, Scenario};
use crate::engine::Engine;
use crate::patience::Patience;
use crate::receiver::stranger::Stranger;
use crate::receiver::{Kind, LOOPBACK, Receiver, Setup, TookAnother};
use crate::target::Transport;

/// One that is measured, as it is to be started.
#[derive(Debug, Clone)]
pub(super) struct Contender {
    /// In the table.
    pub(super) name: String,
    who: Who,
}

#[derive(Debug, Clone)]
enum Who {
    Ours(Setup),
    Stranger(Stranger, Transport),
}

/// A program of others, and what it has been seen to be good for.
#[derive(Debug)]
pub(super) struct Strange {
    stranger: Stranger,
    datagrams: bool,
    /// Whether it may be parked, and sleeps when it has nothing to do.
    parks: bool,
    streams: bool,
}

/// What is asked of a receiver of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be parked while its queue is filled.
    Park,
    /// To receive.
    Receive,
}

impl Contender {
    pub(super) fn ours(name: &str, setup: Setup) -> Self {
        Self {
            name: name.to_owned(),
            who: Who::Ours(setup),
        }
    }

    /// Starts it; a stranger on `core`. Call it on the first thread, to which the process is tied.
    pub(super) fn start(
        &self,
        engine: Option<&Path>,
        core: usize,
        patience: &Patience,
    ) -> anyhow::Result<Receiver> {
        match &self.who {
            Who::Ours(setup) => Receiver::start(setup, engine, patience),
            Who::Stranger(stranger, transport) => stranger.start(*transport, core, patience),
        }
    }

    /// What it is in a report. Backend and gro are what was asked for: a receiver that took anything else has not been
    /// measured.
    pub(super) fn identity(&self, engine: Option<&Engine>) -> Identity {
        match &self.who {
            Who::Ours(setup) => {
                let engine = engine.filter(|_| setup.kind.is_engine());
                Identity {
                    path: engine.map(|engine| engine.path.display().to_string()),
                    version: engine.map(|engine| engine.version.clone()),
                    backend: setup.kind.backend(),
                    gro: Some(setup.gro),
                }
            }
            Who::Stranger(stranger, _) => Identity {
                path: Some(stranger.describe()),
                version: None,
                backend: "external",
                gro: None,
            },
        }
    }
}

impl From<Stranger> for Strange {
    fn from(stranger: Stranger) -> Self {
        Self {
            stranger,
            datagrams: false,
            parks: false,
            streams: false,
        }
    }
}

impl Bench<'_> {
    /// Starts every engine and every stranger once, and leaves out those that cannot be measured as they should.
    pub(super) fn probe(&mut self) -> anyhow::Result<()> {
        let [datagrams, streams, tls] = CARRIERS.map(|carrier| carrier.is_wanted(self.args));
        self.probe_engines()?;
        for index in 0..self.strange.len() {
            if datagrams {
                self.probe_stranger(index, Transport::Udp);
            }
            if streams {
                self.probe_stranger(index, Transport::Tcp);
            }
            self.patience.check()?;
        }
        let some_datagrams = datagrams
            && !self
                .receivers(RCVBUF_FLOW, false, Asked::Receive)
                .is_empty();
        let some_streams = streams && !self.stream_receivers().is_empty();
        let some_tls = tls && !self.tls_receivers().is_empty();
        ensure!(
            some_datagrams || some_streams || some_tls,
            "nobody is left to measure: {}",
            self.warnings.join("; ")
        );
        Ok(())
    }

    fn probe_engines(&mut self) -> anyhow::Result<()> {
        for kind in wanted_engines(self.args) {
            let name = kind.symbol();
            let contender = Contender::ours(&name, self.setup(kind, RCVBUF_FLOW, self.gro()));
            let Err(error) = self.start(&contender).and_then(Receiver::finish) else {
                continue;
            };
            let took = error
                .downcast::<TookAnother>()
                .map_err(|error| error.context(name.clone()))?;
            self.missing.push(kind);
            self.leave_out(&format!("{name} left out: {took}"));
        }
        Ok(())
    }

    fn probe_stranger(&mut self, index: usize, transport: Transport) {
        let stranger = &self.strange[index].stranger;
        let name = stranger.name().to_owned();
        let started = stranger.start(transport, self.rx, &self.patience);
        let unparkable = started
            .as_ref()
            .ok()
            .and_then(|receiver| receiver.unparkable());
        let strange = &mut self.strange[index];
        match started.and_then(Receiver::totals) {
            Ok(_) if transport == Transport::Tcp => strange.streams = true,
            Ok(_) => {
                strange.datagrams = true;
                strange.parks = unparkable.is_none();
                if let Some(why) = unparkable
                    && self.args.scenario.contains(&Scenario::Plain)
                {
                    self.leave_out(&format!("{name} left out of plain: {why}"));
                }
            }
            Err(error) => {
                let by = transport.symbol();
                self.leave_out(&format!("{name} left out by {by}: {error:#}"));
            }
        }
    }

    /// All that receive datagrams, with one setting for all of ours that have it.
    pub(super) fn receivers(&self, rcvbuf: usize, gro: bool, asked: Asked) -> Vec<Contender> {
        let kinds = kinds(self.args).into_iter();
        let kinds = kinds.filter(|kind| !kind.is_stream() && !self.missing.contains(kind));
        let ours = kinds.map(|kind| Contender::ours(&kind.symbol(), self.setup(kind, rcvbuf, gro)));
        let strange = self.strange.iter().filter(|strange| match asked {
            Asked::Park => strange.parks,
            Asked::Receive => strange.datagrams,
        });
        ours.chain(strange.map(|strange| strange.contender(Transport::Udp)))
            .collect()
    }

    /// All that receive streams, those of ours by their counterparts.
    pub(super) fn stream_receivers(&mut self) -> Vec<Contender> {
        let ours = self.counterparts(Carrier::Streams);
        let strange = self.strange.iter().filter(|strange| strange.streams);
        ours.into_iter()
            .chain(strange.map(|strange| strange.contender(Transport::Tcp)))
            .collect()
    }

    /// All that receive streams inside TLS; programs of others would need to be told how.
    pub(super) fn tls_receivers(&mut self) -> Vec<Contender> {
        if !self.strange.is_empty() {
            self.leave_out(
                "programs of others are left out of tls: they know nothing of its certificates",
            );
        }
        self.counterparts(Carrier::Tls)
    }

    /// Those of ours that do the same by `carrier`, each once.
    fn counterparts(&mut self, carrier: Carrier) -> Vec<Contender> {
        let mut found = Vec::new();
        for kind in kinds(self.args) {
            match carrier.counterpart(kind) {
                Some(counterpart) if found.contains(&counterpart) => {}
                Some(counterpart) => found.push(counterpart),
                // Nobody has asked for it.
                None if self.args.receivers.is_empty() => {}
                None => {
                    let (name, scenario) = (kind.symbol(), carrier.scenario());
                    self.leave_out(&format!(
                        "{name} left out of {scenario}: it has no counterpart there"
                    ));
                }
            }
        }
        found.retain(|kind| !self.missing.contains(kind));
        let found = found.into_iter();
        found
            .map(|kind| Contender::ours(&kind.symbol(), self.setup(kind, RCVBUF_FLOW, false)))
            .collect()
    }

    pub(super) fn setup(&self, kind: Kind, rcvbuf: usize, gro: bool) -> Setup {
        Setup {
            kind,
            rcvbuf,
            cores: vec![self.rx],
            gro: gro && kind.can_gro(),
            verify: false,
            probe: String::new(),
            tells: false,
            certificates: self
                .certificates
                .as_ref()
                .map(|all| all.folder().to_owned()),
            listen: LOOPBACK,
            more: String::new(),
        }
    }

    /// Whether the engine takes part, by recvmmsg.
    pub(super) fn has_engine(&self) -> bool {
        kinds(self.args).contains(&Kind::Engine) && !self.missing.contains(&Kind::Engine)
    }
}

impl Strange {
    fn contender(&self, transport: Transport) -> Contender {
        Contender {
            name: self.stranger.name().to_owned(),
            who: Who::Stranger(self.stranger.clone(), transport),
        }
    }
}

/// What packets are carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Datagrams,
    Streams,
    Tls,
}

const CARRIERS: [Carrier; 3] = [Carrier::Datagrams, Carrier::Streams, Carrier::Tls];

impl Carrier {
    /// Whether something is measured by it.
    fn is_wanted(self, args: &Args) -> bool {
        let of = |scenario: &Scenario| match scenario {
            Scenario::Tcp | Scenario::Records => Self::Streams,
            Scenario::Tls => Self::Tls,
            Scenario::Plain | Scenario::Gso | Scenario::Shards | Scenario::Paced => Self::Datagrams,
            Scenario::RecordsUdp | Scenario::Events => Self::Datagrams,
        };
        args.scenario.iter().any(|scenario| of(scenario) == self)
    }

    /// The one of ours that does by it what `kind` does, if there is one.
    fn counterpart(self, kind: Kind) -> Option<Kind> {
        match self {
            Self::Datagrams => (!kind.is_stream()).then_some(kind),
            Self::Streams => kind.for_streams(),
            Self::Tls => kind.for_tls(),
        }
    }

    /// What it is called in a report, of those that are a scenario of their own.
    const fn scenario(self) -> &'static str {
        match self {
            Self::Datagrams => "datagrams",
            Self::Streams => TCP,
            Self::Tls => TLS,
        }
    }
}

/// Whether a `binrush` is needed.
pub(super) fn wants_engine(args: &Args) -> bool {
    !wanted_engines(args).is_empty()
}

/// The engines that take part in something, each once.
fn wanted_engines(args: &Args) -> Vec<Kind> {
    let wanted = CARRIERS
        .into_iter()
        .filter(|carrier| carrier.is_wanted(args));
    let mut engines = Vec::new();
    for carrier in wanted {
        let of_carrier = kinds(args)
            .into_iter()
            .filter_map(|kind| carrier.counterpart(kind));
        for kind in of_carrier.filter(|kind| kind.is_engine()) {
            if !engines.contains(&kind) {
                engines.push(kind);
            }
        }
    }
    engines
}

fn kinds(args: &Args) -> Vec<Kind> {
    match &args.receivers[..] {
        [] => vec![Kind::Raw, Kind::Engine, Kind::EngineUring, Kind::Classic],
        kinds => kinds.to_vec(),
    }
}
