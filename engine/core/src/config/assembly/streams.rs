//! What is about connections: their limits, who sends, and TLS.

use std::mem;
use std::time::Duration;

use super::{Assembly, Gathered};
use crate::access::{Access, Cidr};
use crate::config::error::Topic;
use crate::config::limits::{Limit, MEMORY_IN_CLUSTER};
use crate::config::listener::{Listener, Protocol};
use crate::config::modules::Part;
use crate::config::source::{Excerpt, Place, Source};
use crate::config::syntax::{Spanned, Value};
use crate::config::tls::Settled;
use crate::stream::{PeerSettings, StreamLimits};
use crate::tls::TlsFiles;

impl Assembly {
    /// `modparam("binrush", "peer", ...)`.
    pub(super) fn sender(&mut self, addr: Cidr, settings: PeerSettings, excerpt: &Excerpt) {
        if let Err(full) = self.senders.add(addr, settings) {
            return self.refuse_at(excerpt, format!("peer: {full}"));
        }
        let place = excerpt.place.clone();
        let mut known = self.sender_places.iter_mut();
        if let Some((_, before)) = known.find(|(known, _)| *known == addr) {
            let before = mem::replace(before, place.clone());
            return self.replaces(&format!("the peer {addr}"), before, place);
        }
        self.sender_places.push((addr, place));
    }

    /// A parameter of `tls_mgm`.
    ///
    /// # Errors
    /// What is wrong with its value.
    pub(super) fn tls_mgm(
        &mut self,
        source: &Source,
        name: &'static str,
        value: &Spanned<Value>,
    ) -> Result<(), String> {
        let excerpt = source.excerpt(value.span);
        let place = &excerpt.place;
        match (name, &value.value) {
            ("db_url", _) => {
                let message = "TLS domains are not read from a database: define them with server_domain and client_domain";
                self.warn(Some(place.clone()), message);
            }
            (name, _) if NO_EFFECT.contains(&name) => {
                self.tls_no_effect.add(name, || place.clone())
            }
            (name, Value::Text(text)) => {
                for note in self.tls.set(name, text, &excerpt)? {
                    self.warn(Some(place.clone()), format!("{name}: {note}"));
                }
            }
            // Where a number is taken, it is about no domain.
            (_, Value::Int(_)) => {}
        }
        Ok(())
    }

    /// The domains of `tls_mgm`, those that can be used.
    pub(super) fn settle_tls(&mut self, listeners: &[(Listener, Excerpt)]) -> TlsFiles {
        let domains = mem::take(&mut self.tls);
        let pins = mem::take(&mut self.tls_pins);
        let Settled {
            files,
            problems,
            warnings,
        } = domains.settle(pins, listeners);
        // What was refused where it stands is not missed once more.
        if !self.tls_was_refused {
            self.problems.extend(problems);
        }
        for (topic, place, message) in warnings {
            self.warn_of(topic, Some(place), message);
        }
        files
    }

    /// What connections may cost: the limits of OpenSIPS where it has a word for them, ours, and the defaults.
    pub(super) fn settle_limits(
        &mut self,
        listeners: &[Listener],
        is_in_cluster: bool,
    ) -> StreamLimits {
        let mut limits = StreamLimits::default();
        if is_in_cluster {
            (limits.memory_per_connection, limits.memory) = MEMORY_IN_CLUSTER;
        }
        self.limits.apply(&mut limits);
        self.own.apply(&mut limits);
        limits.pieces = self.settle_pieces(listeners);
        // Only when it is written down: the 100 ms that OpenSIPS has otherwise are less than a far peer needs.
        if let Some((ms, _)) = self.set_number(Part::ProtoBins, "bins_handshake_timeout") {
            limits.handshake = Duration::from_millis(ms.into());
        }
        if let Some(wanted) = self.limits.get(Limit::Connections)
            && wanted > limits.connections
        {
            let place = self.limits.place(Limit::Connections).cloned();
            let most = limits.connections;
            let message = format!(
                "tcp_max_connections: {wanted} connections cannot be had; there are {most}, which is the most"
            );
            self.warn_of(Topic::Other, place, message);
        }
        limits
    }

    /// How many pieces a packet may come in: there is one limit for what OpenSIPS has two for, so that the larger one
    /// counts, and none at all where one of the protocols that are spoken has none.
    fn settle_pieces(&mut self, listeners: &[Listener]) -> Option<u32> {
        let speaks = |protocol| {
            let mut streams = listeners.iter().filter(|each| !each.datagrams_only);
            streams.any(|each| each.endpoint.protocol == protocol)
        };
        let mut set = vec![];
        let mut is_limited = true;
        for (protocol, part, name) in [
            (Protocol::Bin, Part::ProtoBin, "bin_max_msg_chunks"),
            (Protocol::Bins, Part::ProtoBins, "bins_max_msg_chunks"),
        ] {
            if speaks(protocol) {
                let found = self.set_number(part, name);
                is_limited &= found.is_some();
                set.extend(found.map(|(pieces, place)| (name, pieces, place)));
            }
        }
        let largest = set.iter().map(|(_, pieces, _)| *pieces).max();
        let pieces = largest.filter(|_| is_limited);
        for (name, own, place) in set {
            let message = match pieces {
                Some(pieces) if own == pieces => continue,
                Some(pieces) => format!(
                    "{name}: {pieces} pieces are taken, as for the other protocol: they have one limit"
                ),
                None => format!(
                    "{name} has no effect, because there is one limit for bin: and bins:, and the other is not set: set \
                     bin_max_msg_chunks and bins_max_msg_chunks"
                ),
            };
            self.warn_of(Topic::Listener, Some(place), message);
        }
        pieces
    }

    /// The number that was set for `name`, and where; `None` where OpenSIPS's default counts.
    fn set_number(&self, part: Part, name: &str) -> Option<(u32, Place)> {
        let mut set = self.parameters.iter();
        let set = set.find(|set| set.part == part && set.name == name)?;
        match set.values.last()? {
            Value::Int(number) => Some((u32::try_from(*number).ok()?, set.place().clone())),
            Value::Text(_) => None,
        }
    }

    /// Without a listener that accepts connections, what is said about them has no effect.
    pub(super) fn tell_what_connections_have(&mut self, listeners: &[Listener]) {
        if listeners.iter().any(|each| !each.datagrams_only) {
            return;
        }
        let mut idle = Gathered::default();
        for (name, place) in self.limits.all_set() {
            idle.add(name, || place.clone());
        }
        for name in OF_CONNECTIONS {
            if let Some(place) = self.own_places.get(name) {
                idle.add(name, || place.clone());
            }
        }
        let message = "these parameters have no effect here, because no connection is accepted: bin_listen is for \
                       datagrams alone (`listen = bin:IP:PORT` takes both)";
        if let Some((place, message)) = idle.warning(message) {
            self.warn_of(Topic::Listener, Some(place), message);
        }
    }

    /// What is known of a peer is of no use while it is not let in.
    pub(super) fn tell_of_senders(&mut self, access: &Access) {
        for (addr, place) in mem::take(&mut self.sender_places) {
            let meets =
                |range: &Cidr| range.contains(addr.network()) || addr.contains(range.network());
            if access.is_any() || access.cidrs().iter().any(meets) {
                continue;
            }
            let message = format!(
                "{addr} is a peer here, but it is not let in: `modparam(\"binrush\", \"allow\", \"{addr}\")` does that"
            );
            self.warn_of(Topic::Access, Some(place), message);
        }
    }
}

/// Settings of our own about connections.
const OF_CONNECTIONS: [&str; 6] = [
    "stream_backend",
    "connections_per_source",
    "connection_memory",
    "stream_memory",
    "tcp_user_timeout",
    "tls_handshakes",
];

/// Parameters of `tls_mgm` about what another library decides here, or what sends SIP.
const NO_EFFECT: [&str; 10] = [
    "tls_library",
    "ciphers_list",
    "dh_params",
    "ec_curve",
    "client_domain_avp",
    "client_tls_domain_avp",
    "client_sip_domain_avp",
    "tls_handshake_timeout",
    "tls_send_timeout",
    "db_mode",
];
