//! What depends on the whole: ports, access, the number of shards.

use std::mem;
use std::sync::Arc;

use super::Assembly;
use crate::access::{Access, Cidr};
use crate::config::error::{ConfigError, PROBLEMS_MAX, Problem, Topic, quoted};
use crate::config::listener::{Endpoint, Listener, Protocol};
use crate::config::modules::Part;
use crate::config::peers::Peer;
use crate::config::script::Whole;
use crate::config::source::Excerpt;
use crate::config::values::Allowed;
use crate::config::{Config, Doubt, EventsConfig, Loaded, Shards, doubts};
use crate::engine::{LISTENERS_MAX, SHARDS_MAX};
use crate::event::names::{KNOWN, nearest};
use crate::event::{Form, SUBSCRIPTIONS_MAX};
use crate::relay::{self, TargetConfig};
use crate::script::{Level, NoFunctions, Script, Wrong};

impl Assembly {
    /// The configuration, when nothing is wrong with it. `main` is the name of the file that everything began with.
    pub(in crate::config) fn settle(mut self, main: Arc<str>) -> Result<Loaded, ConfigError> {
        self.switch_on_what_is_set();
        let listeners = self.settle_listeners(&main);
        let tls = self.settle_tls(&listeners);
        let listeners: Vec<Listener> = listeners.into_iter().map(|(each, _)| each).collect();
        let clusters = self.settle_clusters(&listeners, &tls);
        let stream_limits = self.settle_limits(&listeners, !clusters.is_empty());
        let access = self.settle_access(&listeners);
        self.tell_of_senders(&access);
        let mut relay = self.settle_relay(&listeners, &access);
        let events = self.settle_events();
        let shards = self.settle_shards();
        self.refuse_to_measure_for_anybody();
        let script = self.settle_script();
        self.tell_what_is_not_done();
        self.tell_what_connections_have(&listeners);
        self.problems.truncate(PROBLEMS_MAX);
        if let Some(error) = ConfigError::of(mem::take(&mut self.problems)) {
            return Err(error);
        }
        let own = mem::take(&mut self.own);
        let sockets = mem::take(&mut self.sockets);
        let map = mem::take(&mut self.socket_map);
        // What is said of the sockets of others holds for receivers, too; our own say nothing of these.
        let is_said = !map.is_empty() || !self.target_sockets.is_empty();
        let target = sockets.target(map, mem::take(&mut self.target_sockets));
        let target = Arc::new(target);
        if is_said {
            relay
                .iter_mut()
                .for_each(|to| to.sockets = Arc::clone(&target));
        }
        let loaded = mem::take(&mut self.loaded);
        let mut libraries = mem::take(&mut self.libraries);
        own.modules.apply(&mut libraries);
        let config = Config {
            listeners,
            access,
            shards,
            pin: own.pin.unwrap_or_default(),
            pin_place: self.own_places.get("pin").cloned(),
            backend: own.backend.unwrap_or_default(),
            rcvbuf: own.rcvbuf,
            gro: own.gro.unwrap_or_default(),
            batch: own.batch,
            verify: own.verify.unwrap_or(true),
            http: own.http,
            stats: own.stats,
            probe: own.probe.unwrap_or_default(),
            stream_backend: own.stream_backend.unwrap_or_default(),
            stream_limits,
            stream_peers: mem::take(&mut self.senders),
            tls,
            readers: own
                .readers
                .unwrap_or_else(|| u16::from(!clusters.is_empty())),
            clusters,
            control: own.control,
            confine: own.confine.unwrap_or(true),
            state: own.state.settled(),
            sockets: Arc::new(sockets),
            target,
            relay,
            events,
            parts: loaded.keys().copied().collect(),
            parameters: mem::take(&mut self.parameters),
            mpath: self.mpath.take(),
            libraries,
            script,
            script_log: own.script_log.unwrap_or(Level::Info),
        };
        for Doubt {
            topic,
            parameter,
            message,
        } in doubts(&config.engine())
        {
            let place = self.own_places.get(parameter).cloned();
            self.warn_of(topic, place, message);
        }
        // That clusterer has no cluster is told already.
        let counted = loaded
            .into_iter()
            .filter(|(part, _)| part.is_counted_only() && config.is_counted_only(*part));
        for (part, place) in counted {
            let message =
                format!("{part}: its packets are read and counted; it does not act on them yet");
            self.warn(Some(place), message);
        }
        let warnings = self.warnings;
        Ok(Loaded { config, warnings })
    }

    /// The manuals set parameters of modules without showing where they are loaded.
    fn switch_on_what_is_set(&mut self) {
        for (part, excerpt) in mem::take(&mut self.early) {
            if self.loaded.contains_key(&part) {
                continue;
            }
            let message = format!(
                "{part} is not loaded anywhere; it is built in, so it is on (OpenSIPS expects `loadmodule \"{part}.so\"` above)"
            );
            self.warn(Some(excerpt.place.clone()), message);
            self.loaded.insert(part, excerpt.place);
        }
    }

    /// The routes, once all of them are known; and calls of functions that nobody has. With libraries, only who loads them knows.
    fn settle_script(&mut self) -> Script {
        let Whole {
            script,
            problems,
            warnings,
        } = mem::take(&mut self.script).whole();
        self.problems.extend(problems);
        for (place, message) in warnings {
            self.warn(Some(place), message);
        }
        let wrong = match self.libraries.is_empty() {
            true => script.check(&NoFunctions),
            false => Vec::new(),
        };
        let wrong = wrong
            .into_iter()
            .map(|Wrong { excerpt, message }| Problem::at(excerpt, message));
        self.problems.extend(wrong);
        script
    }

    fn settle_listeners(&mut self, main: &Arc<str>) -> Vec<(Listener, Excerpt)> {
        let mut written = mem::take(&mut self.listeners);
        if let Some(one_more) = written.get(LISTENERS_MAX) {
            let message = format!("one listener too many: at most {LISTENERS_MAX} expected");
            self.refuse_at(&one_more.excerpt, message);
            written.truncate(LISTENERS_MAX);
        }
        if written.is_empty() && self.problems.is_empty() {
            let message = "no address to receive on: `listen = bin:IP:PORT` (or `bins:IP:PORT`, `socket = ...`, or \
                           1.x's `bin_listen = IP:PORT`) expected";
            self.problems
                .push(Problem::in_file(Arc::clone(main), message));
        }
        let mut listeners = Vec::<(Listener, Excerpt)>::new();
        for written in written {
            let protocol = written.protocol;
            let port = written
                .port
                .unwrap_or_else(|| self.parameters.default_port(protocol));
            let addr = written.host.at(port);
            let endpoint = Endpoint { protocol, addr };
            let mut known = listeners.iter().map(|(known, _)| known);
            if let Some(Listener {
                endpoint, place, ..
            }) = known.find(|known| {
                // A wildcard of UDP alone does not cover what TLS has.
                let is_apart = written.is_legacy && known.endpoint.protocol == Protocol::Bins
                    || known.datagrams_only && protocol == Protocol::Bins;
                match is_apart {
                    true => known.endpoint.addr == addr && port != 0,
                    false => known.endpoint.collides(endpoint),
                }
            }) {
                let message = format!(
                    "{addr} is taken already, by {endpoint} in {place}: another address expected"
                );
                self.refuse_at(&written.excerpt, message);
                continue;
            }
            let listener = Listener {
                endpoint,
                datagrams_only: written.is_legacy,
                tag: written.tag,
                place: written.excerpt.place.clone(),
            };
            listeners.push((listener, written.excerpt));
        }
        listeners
    }

    pub(super) fn refuse_at(&mut self, excerpt: &Excerpt, message: String) {
        self.problems.push(Problem::at(excerpt.clone(), message));
    }

    /// Who may send: what `allow` says; without it this host and the nodes that parameters name.
    fn settle_access(&mut self, listeners: &[Listener]) -> Access {
        let allowed = mem::take(&mut self.allowed);
        if allowed.is_empty() {
            return self.default_access(listeners);
        }
        let mut anybody = allowed.iter();
        if let Some((_, excerpt)) = anybody.find(|(allowed, _)| *allowed == Allowed::Any) {
            self.anybody = Some(excerpt.clone());
            return Access::any();
        }
        let mut access = Access::nobody();
        for (range, excerpt) in allowed {
            if let Allowed::Range(range) = range
                && let Err(full) = access.allow(range)
            {
                self.refuse_at(&excerpt, format!("allow: {full}"));
            }
            if self.anybody.is_none() && access.lets_everybody_in() {
                self.anybody = Some(excerpt);
            }
        }
        for (peer, place) in mem::take(&mut self.peers) {
            if let Peer::Address(ip) = peer
                && !access.allows(ip)
            {
                let message = format!(
                    "{ip} is a node here, but `allow` does not let it in: its packets are dropped"
                );
                self.warn_of(Topic::Access, Some(place), message);
            }
        }
        self.settle_learned(&mut access, false);
        access
    }

    /// Who gets the stream on, if nothing comes back to us.
    fn settle_relay(&mut self, listeners: &[Listener], access: &Access) -> Vec<TargetConfig> {
        let (targets, places): (Vec<_>, Vec<_>) = mem::take(&mut self.relay).into_iter().unzip();
        let listen: Vec<_> = listeners.iter().map(|listener| listener.endpoint).collect();
        if let Err((index, wrong)) = relay::check(&targets, &listen, access) {
            self.refuse_at(&places[index], format!("relay: {wrong}"));
        }
        targets
    }

    /// Who is told of what; `None`: nobody can be.
    fn settle_events(&mut self) -> Option<EventsConfig> {
        let subscriptions = mem::take(&mut self.subscriptions);
        if !self.loaded.contains_key(&Part::EventDatagram) {
            if let Some((_, excerpt)) = subscriptions.first() {
                let message = "subscribe_event: loadmodule \"event_datagram.so\" expected somewhere: without it nobody is told of events";
                self.refuse_at(excerpt, message.to_owned());
            }
            return None;
        }
        for (index, (each, excerpt)) in subscriptions.iter().enumerate() {
            if index == SUBSCRIPTIONS_MAX {
                let message =
                    format!("subscribe_event: at most {SUBSCRIPTIONS_MAX} subscriptions expected");
                self.refuse_at(excerpt, message);
            }
            let known = || KNOWN.iter().map(|known| known.name);
            if !known().any(|name| name == each.event) {
                let near = nearest(&each.event, known());
                let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                let message = format!(
                    "subscribe_event: {} is told if a script or module raises it, nothing built in does{near}",
                    each.event
                );
                self.warn(Some(excerpt.place.clone()), message);
            }
        }
        let compat = self.parameters.text(Part::EventDatagram, "compat");
        Some(EventsConfig {
            form: match compat.as_deref() {
                Some("1.11") => Form::V1_11,
                Some("3.1") => Form::JsonRpc,
                _ => Form::Text,
            },
            subscriptions: subscriptions.into_iter().map(|(each, _)| each).collect(),
        })
    }

    /// What a probe keeps grows with what it is sent, and it answers who asks: so it is for senders that are known.
    fn refuse_to_measure_for_anybody(&mut self) {
        let any = self.anybody.take();
        if let (Some(any), Some(_)) = (any, &self.own.probe) {
            let place = &self.own_places["probe"];
            let message = format!(
                "allow: ranges of addresses expected that do not let everybody in, because probe is set in {place}: it \
                 measures for senders that are known"
            );
            self.refuse_at(&any, message);
        }
    }

    fn default_access(&mut self, listeners: &[Listener]) -> Access {
        let mut access = Access::loopback();
        let mut has_peers = !self.learned.is_empty();
        for (peer, place) in mem::take(&mut self.peers) {
            match peer {
                Peer::Address(ip) => {
                    has_peers |= !ip.is_loopback();
                    if let Err(full) = access.allow(Cidr::from(ip)) {
                        let message = format!("{full}: its packets are dropped");
                        self.warn_of(Topic::Access, Some(place), message);
                    }
                }
                Peer::Name(name) => {
                    let message = format!(
                        "{} is not looked up, so its packets are dropped: `modparam(\"binrush\", \"allow\", \"ADDRESS\")` \
                         lets them in",
                        quoted(&name)
                    );
                    self.warn_of(Topic::Access, Some(place), message);
                }
            }
        }
        self.settle_learned(&mut access, true);
        let unreachable = listeners
            .iter()
            .find(|listener| !listener.endpoint.addr.ip().is_loopback());
        if let Some(listener) = unreachable.filter(|_| !has_peers) {
            let message = format!(
                "only this host may send to {}: `modparam(\"binrush\", \"allow\", \"10.0.0.0/8\")` lets others in, \"any\" \
                 everybody",
                listener.endpoint
            );
            self.warn_of(Topic::Reach, Some(listener.place.clone()), message);
        }
        access
    }

    /// One shard for each process that OpenSIPS would have for BIN; our own setting comes first.
    fn settle_shards(&mut self) -> Shards {
        if let Some(count) = self.own.shards {
            let source = "modparam(\"binrush\", \"shards\")".to_owned();
            return Shards {
                count: (count > 0).then_some(count),
                source: Some(source),
            };
        }
        let workers = mem::take(&mut self.workers).into_iter().flatten();
        // 0 is no processes of that kind, which says nothing about BIN.
        let Some((source, wanted, place)) = workers.into_iter().find(|(_, count, _)| *count > 0)
        else {
            return Shards::default();
        };
        let count = u16::try_from(wanted).unwrap_or(SHARDS_MAX).min(SHARDS_MAX);
        if i32::from(count) != wanted {
            let message = format!(
                "{source}: {wanted} shards cannot be had; there are {count}, which is the most"
            );
            self.warn_of(Topic::Shards, Some(place), message);
        }
        Shards {
            count: Some(count),
            source: Some(source),
        }
    }

    fn tell_what_is_not_done(&mut self) {
        let no_effect = "these parameters have no effect here";
        let tls = "these parameters of tls_mgm have no effect here, because its library is another";
        let clusterer = "these parameters of clusterer have no effect here: binrush reads no database, and forwards no packets \
                         of others";
        let sip = "SIP is not served: of these addresses only the names count, in records";
        let routes = "SIP is not served, so these routes are skipped";
        for (topic, warning) in [
            (Topic::Other, self.no_effect.warning(no_effect)),
            (Topic::Other, self.tls_no_effect.warning(tls)),
            (Topic::Other, self.clusterer_no_effect.warning(clusterer)),
            (Topic::Listener, self.sip.warning(sip)),
            (Topic::Other, self.routes.warning(routes)),
        ] {
            if let Some((place, message)) = warning {
                self.warn_of(topic, Some(place), message);
            }
        }
        let receivers = [Part::Dialog, Part::Usrloc];
        // A name that is measured is taken whether its module is loaded or not.
        let probed = self.own.probe.iter().flatten();
        let is_probed = probed
            .into_iter()
            .any(|name| name == "dialog" || name == "ul");
        // What a module registers stands in no configuration.
        let may_be_taken = is_probed || !self.libraries.is_empty();
        if !may_be_taken && receivers.iter().all(|part| !self.loaded.contains_key(part)) {
            let message = "neither dialog nor usrloc is loaded: their packets are counted as unknown names, and not looked \
                           into (`loadmodule \"dialog.so\"`, `loadmodule \"usrloc.so\"`)";
            self.warn(None, message);
        }
    }
}
