//! Which domain is for which address, and whether each has what it needs.

use std::net::{IpAddr, SocketAddr};

use super::{Domains, Draft, Side};
use crate::config::error::{Problem, Topic, quoted};
use crate::config::listener::{Listener, Protocol};
use crate::config::own::TlsPin;
use crate::config::source::{Excerpt, Place};
use crate::tls::{TlsDomain, TlsFiles};

/// What the domains amount to.
#[derive(Debug, Default)]
pub(in crate::config) struct Settled {
    /// Those that have what they need.
    pub(in crate::config) files: TlsFiles,
    pub(in crate::config) problems: Vec<Problem>,
    pub(in crate::config) warnings: Vec<(Topic, Place, String)>,
}

impl Domains {
    /// Puts the domains in the order in which they are asked, and checks that every listener of
    /// [`Protocol::Bins`] has one.
    pub(in crate::config) fn settle(
        self,
        pins: Vec<(TlsPin, Excerpt)>,
        listeners: &[(Listener, Excerpt)],
    ) -> Settled {
        let mut settled = Settled::default();
        let mut drafts = self.0;
        settled.check_pins(&pins, &drafts);
        for draft in &mut drafts {
            if draft.is_for_any {
                draft.addresses.clear();
            }
        }
        // Of two that say the same, the later one counts, as OpenSIPS puts each in front of the others.
        drafts.reverse();
        drafts.sort_by_key(Draft::rank);
        let (servers, clients): (Vec<_>, Vec<_>) = drafts
            .into_iter()
            .partition(|draft| draft.side == Side::Server);
        let used = settled.used(&servers, listeners);
        for (index, draft) in servers.into_iter().enumerate() {
            settled.server(draft, used.contains(&index), &pins);
        }
        for draft in clients {
            settled.client(draft, &pins);
        }
        settled
    }
}

impl Settled {
    fn check_pins(&mut self, pins: &[(TlsPin, Excerpt)], drafts: &[Draft]) {
        if let Some((_, excerpt)) = pins.get(PINS_MAX) {
            let message = format!("tls_pin: one pin too many: at most {PINS_MAX} expected");
            self.problems.push(Problem::at(excerpt.clone(), message));
        }
        for (pin, excerpt) in pins {
            match &pin.domain {
                Some(domain) if drafts.iter().all(|draft| draft.name != *domain) => {
                    let message = format!("tls_pin: there is no TLS domain {}", quoted(domain));
                    self.problems.push(Problem::at(excerpt.clone(), message));
                }
                None if drafts.is_empty() => {
                    let message = "tls_pin has no effect: there is no TLS domain";
                    let place = excerpt.place.clone();
                    self.warnings
                        .push((Topic::Other, place, message.to_owned()));
                }
                _ => {}
            }
        }
    }

    /// Which of the server domains a listener needs.
    fn used(&mut self, servers: &[Draft], listeners: &[(Listener, Excerpt)]) -> Vec<usize> {
        let addresses: Vec<_> = servers.iter().map(|draft| &draft.addresses[..]).collect();
        let mut used = Vec::new();
        for (listener, excerpt) in listeners {
            let endpoint = listener.endpoint;
            if endpoint.protocol != Protocol::Bins {
                continue;
            }
            let serving = serving(&addresses, endpoint.addr);
            if serving.is_empty() {
                let message = format!(
                    "{endpoint} has no certificate: `modparam(\"tls_mgm\", \"server_domain\", \"node\")` expected, and its \
                     \"certificate\", \"private_key\" and \"ca_list\", each as \"[node]/path/of/file.pem\"{}",
                    if servers.is_empty() {
                        ""
                    } else {
                        " (the match_ip_address of none of the server domains fits)"
                    }
                );
                self.problems.push(Problem::at(excerpt.clone(), message));
            }
            used.extend(serving);
        }
        used
    }

    fn server(&mut self, draft: Draft, is_used: bool, pins: &[(TlsPin, Excerpt)]) {
        let name = quoted(&draft.name);
        if !is_used {
            let message = format!(
                "the server domain {name} is for no listener of bins:, so its files are not read"
            );
            let place = draft.excerpt.place.clone();
            self.warnings.push((Topic::Listener, place, message));
        }
        match draft.complete(pins) {
            Ok(domain) => {
                let doubt = draft.doubt().filter(|_| is_used && domain.pins.is_empty());
                self.warnings.extend(doubt);
                self.files.server.push(domain);
            }
            Err(missing) if is_used => {
                let message = format!("the server domain {name} {missing}");
                self.problems.push(Problem::at(draft.excerpt, message));
            }
            Err(_) => {}
        }
    }

    /// Nothing depends on a client domain until something is sent, so none keeps from starting.
    fn client(&mut self, draft: Draft, pins: &[(TlsPin, Excerpt)]) {
        match draft.complete(pins) {
            Ok(domain) => self.files.client.push(domain),
            // It came to be beside the server's, with the same values.
            Err(_) if draft.is_default => {}
            Err(missing) => {
                let name = quoted(&draft.name);
                let message = format!("the client domain {name} is left out: it {missing}");
                self.warnings
                    .push((Topic::Other, draft.excerpt.place, message));
            }
        }
    }
}

impl Draft {
    /// Lower ones are asked first: who names the address (3.6 `tls_domain.c`, `tls_find_domain_by_filters`), who is not
    /// there for certain names alone, and at the end who is there for all others.
    const fn rank(&self) -> (bool, bool, bool) {
        (
            self.is_default,
            self.addresses.is_empty(),
            self.has_names_only,
        )
    }

    /// What may not be meant of who connects, where no keys are pinned: those are asked for in any case.
    fn doubt(&self) -> Option<(Topic, Place, String)> {
        let (attribute, message) = match (self.verify, self.require) {
            (false, _) => ("verify_cert", "who connects needs no certificate, or any"),
            (true, false) => ("require_cert", "who connects needs no certificate"),
            (true, true) => return None,
        };
        let place = self.place_of(attribute).unwrap_or(&self.excerpt.place);
        let name = quoted(&self.name);
        let message = format!(
            "{attribute} 0 of {name}: {message}, so that nothing but its address says whether it is heard"
        );
        Some((Topic::Other, place.clone(), message))
    }

    /// The domain.
    ///
    /// # Errors
    /// What it is without, to be put behind its name.
    fn complete(&self, pins: &[(TlsPin, Excerpt)]) -> Result<TlsDomain, String> {
        let needed = |what: &str, path: &Option<_>| {
            let name = &self.name;
            let in_front = if self.is_default {
                String::new()
            } else {
                format!("[{name}]")
            };
            path.clone().ok_or_else(|| {
                format!(
                    "has no {what}: `modparam(\"tls_mgm\", \"{what}\", \"{in_front}/path/of/file.pem\")` expected"
                )
            })
        };
        let shows_none = self.certificate.is_none() && self.private_key.is_none();
        let (certificate, private_key) = if shows_none && self.side == Side::Client {
            Default::default()
        } else {
            (
                needed("certificate", &self.certificate)?,
                needed("private_key", &self.private_key)?,
            )
        };
        if self.verify && self.ca_dir.is_none() {
            // A default folder would let in whoever the host's distribution trusts.
            needed("ca_list", &self.ca_list)?;
        }
        let mut digests = Vec::new();
        for (pin, _) in pins {
            let is_ours = pin.domain.as_ref().is_none_or(|name| *name == self.name);
            if is_ours && !digests.contains(&pin.digest) {
                digests.push(pin.digest);
            }
        }
        Ok(TlsDomain {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            certificate,
            private_key,
            ca_list: self.ca_list.clone(),
            ca_dir: self.ca_dir.clone(),
            crl_dir: self.crl_dir.clone(),
            crl_check_all: self.crl_check_all,
            verify: self.verify,
            require: self.require,
            lowest: self.versions.lowest,
            highest: self.versions.highest,
            pins: digests,
        })
    }
}

/// The server domain that connections to a listener at `at` get; the first of several, where `at` is all addresses of
/// this host. `None` when there is none, so that nothing can be listened on there.
#[must_use]
pub fn tls_domain_for(files: &TlsFiles, at: SocketAddr) -> Option<&TlsDomain> {
    let first = serving(&addresses(files), at).first().copied();
    first.map(|index| &files.server[index])
}

/// `files` without the server domains that no listener at `listen` needs: what they name need not be readable. `None`
/// when nothing is left.
#[must_use]
pub fn tls_needed(files: &TlsFiles, listen: &[SocketAddr]) -> Option<TlsFiles> {
    let addresses = addresses(files);
    let needed = listen.iter().flat_map(|at| serving(&addresses, *at));
    let needed: Vec<usize> = needed.collect();
    let server = files.server.iter().enumerate();
    let server = server.filter(|(index, _)| needed.contains(index));
    let files = TlsFiles {
        server: server.map(|(_, domain)| domain.clone()).collect(),
        client: files.client.clone(),
    };
    (files != TlsFiles::default()).then_some(files)
}

fn addresses(files: &TlsFiles) -> Vec<&[(IpAddr, u16)]> {
    let addresses = files.server.iter().map(|domain| &domain.addresses[..]);
    addresses.collect()
}

/// Those of `domains`, each given by its addresses, that connections to a listener at `at` get: the first that is for
/// `at`, and for a listener on all addresses of this host those before it that are for one of them.
fn serving(domains: &[&[(IpAddr, u16)]], at: SocketAddr) -> Vec<usize> {
    let ours = at.ip().to_canonical();
    let mut serving = Vec::new();
    for (index, addresses) in domains.iter().enumerate() {
        let mut ips = addresses
            .iter()
            .filter(|(_, port)| [0, at.port()].contains(port))
            .map(|(ip, _)| ip.to_canonical());
        let is_for_all = addresses.is_empty() || ips.clone().any(|ip| ip == ours);
        let same_family = |ip: IpAddr| ip.is_ipv4() == ours.is_ipv4();
        if is_for_all || (ours.is_unspecified() && ips.any(same_family)) {
            serving.push(index);
        }
        if is_for_all {
            break;
        }
    }
    serving
}

/// Digests of keys, of all domains together.
const PINS_MAX: usize = 256;
