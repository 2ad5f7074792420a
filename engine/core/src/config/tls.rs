//! The domains of `tls_mgm`: what is shown at which address, and who is trusted there.
//!
//! A domain is defined by its name (`server_domain`, `client_domain`), and then told about by `"[name]value"`. Up to
//! 2.4 the address stood with the name (`name=IP:port`), and a value without a name was about the domain for all other
//! addresses; both still mean that here.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::error::{did_you_mean, quoted};
use super::listener::port;
use super::source::{Excerpt, Place};
use method::Versions;

pub(super) use settle::Settled;
pub use settle::{tls_domain_for, tls_needed};

/// Versions of TLS.
mod method;
/// What depends on the whole.
mod settle;

/// What the parameters of `tls_mgm` amount to so far, in the order in which domains were defined.
#[derive(Debug, Default)]
pub(super) struct Domains(Vec<Draft>);

/// A domain that may not be complete yet.
#[derive(Debug)]
struct Draft {
    side: Side,
    name: String,
    /// For all that no other domain is for.
    is_default: bool,
    /// Where it was defined.
    excerpt: Excerpt,
    addresses: Vec<(IpAddr, u16)>,
    /// Whether `match_ip_address` said that it is for any address, whatever else it says.
    is_for_any: bool,
    /// Whether all names that `match_sip_domain` has are names.
    has_names_only: bool,
    versions: Versions,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
    ca_list: Option<PathBuf>,
    ca_dir: Option<PathBuf>,
    crl_dir: Option<PathBuf>,
    crl_check_all: bool,
    verify: bool,
    require: bool,
    /// What was set, but for what adds up, and where.
    set: Vec<(&'static str, Place)>,
}

/// Who begins a connection of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The other side.
    Server,
    /// We.
    Client,
}

impl Domains {
    /// Takes a parameter of `tls_mgm`. The texts returned are what its author may not expect.
    ///
    /// # Errors
    /// What is wrong with the value, to be put behind the name of the parameter.
    pub(super) fn set(
        &mut self,
        name: &'static str,
        value: &str,
        excerpt: &Excerpt,
    ) -> Result<Vec<String>, String> {
        match name {
            SERVER => self.define(Side::Server, value, excerpt).map(|()| vec![]),
            CLIENT => self.define(Side::Client, value, excerpt).map(|()| vec![]),
            name if ATTRIBUTES.contains(&name) => self.attribute(name, value, excerpt),
            // About other things than domains.
            _ => Ok(vec![]),
        }
    }

    fn define(&mut self, side: Side, value: &str, excerpt: &Excerpt) -> Result<(), String> {
        let (name, address) = match value.split_once('=') {
            Some((name, address)) => (name, Some(one_address(address)?)),
            None => (value, None),
        };
        if !(1..=NAME_LEN_MAX).contains(&name.len()) || name.contains(char::is_control) {
            return Err(format!(
                "the name of a domain expected, 1 to {NAME_LEN_MAX} bytes, not {}",
                quoted(name)
            ));
        }
        let mut known = self.0.iter().filter(|draft| draft.side == side);
        if let Some(known) = known.find(|draft| draft.name == name && !draft.is_default) {
            let before = &known.excerpt.place;
            return Err(format!(
                "another name expected: {} is defined already, in {before}",
                quoted(name)
            ));
        }
        let mut draft = self.room(side, name, excerpt)?;
        draft.addresses.extend(address);
        self.0.push(draft);
        Ok(())
    }

    /// A new domain, if there may be one more.
    fn room(&self, side: Side, name: &str, excerpt: &Excerpt) -> Result<Draft, String> {
        if self.0.len() == DOMAINS_MAX {
            return Err(format!(
                "one domain too many: at most {DOMAINS_MAX} expected"
            ));
        }
        Ok(Draft::new(side, name, excerpt.clone()))
    }

    /// `[domain]value`, or up to 2.4 a value for the domains that are there for all others.
    fn attribute(
        &mut self,
        attribute: &'static str,
        text: &str,
        excerpt: &Excerpt,
    ) -> Result<Vec<String>, String> {
        let (domain, value) = match text.trim_start().strip_prefix('[') {
            Some(rest) => {
                let (domain, value) = rest.split_once(']').ok_or_else(|| {
                    format!("\"]\" expected behind the domain of {}", quoted(text))
                })?;
                (Some(domain), value)
            }
            None => (None, text),
        };
        if value.is_empty() {
            return Err(format!(
                "a value expected behind the domain, as in \"[{}]...\"",
                domain.unwrap_or("node")
            ));
        }
        let indices = match domain {
            Some(domain) => vec![self.named(domain)?],
            None => self.defaults(excerpt)?,
        };
        let mut notes = Vec::new();
        for index in indices {
            // Of the two domains for all others, one needs to be told.
            notes = self.0[index].set(attribute, value, excerpt)?;
        }
        Ok(notes)
    }

    /// The domain with this name; a server's, if there are two (3.6 `tls_params.c`, `set_domain_attr`).
    fn named(&self, name: &str) -> Result<usize, String> {
        let mut sides = [Side::Server, Side::Client].into_iter();
        let found = sides.find_map(|side| {
            let mut drafts = self.0.iter();
            drafts.position(|draft| draft.side == side && draft.name == name && !draft.is_default)
        });
        found.ok_or_else(|| {
            let near = did_you_mean(name, self.0.iter().map(|draft| &draft.name[..]));
            format!(
                "there is no TLS domain {} above: `modparam(\"tls_mgm\", \"server_domain\", ...)` with that name \
                 expected{near}",
                quoted(name)
            )
        })
    }

    /// The two domains for all that no other is for; they come to be with the first value without a name.
    fn defaults(&mut self, excerpt: &Excerpt) -> Result<Vec<usize>, String> {
        for side in [Side::Server, Side::Client] {
            let mut drafts = self.0.iter();
            if !drafts.any(|draft| draft.is_default && draft.side == side) {
                let mut draft = self.room(side, DEFAULT, excerpt)?;
                draft.is_default = true;
                self.0.push(draft);
            }
        }
        let defaults = self.0.iter().enumerate();
        let defaults = defaults.filter(|(_, draft)| draft.is_default);
        Ok(defaults.map(|(index, _)| index).collect())
    }
}

impl Draft {
    /// With the defaults of `tls_mgm`, 3.6 (`tls_domain.c`, `tls_new_domain`).
    fn new(side: Side, name: &str, excerpt: Excerpt) -> Self {
        Self {
            side,
            name: name.to_owned(),
            is_default: false,
            excerpt,
            addresses: Vec::new(),
            is_for_any: false,
            has_names_only: false,
            versions: Versions::default(),
            certificate: None,
            private_key: None,
            ca_list: None,
            ca_dir: None,
            crl_dir: None,
            crl_check_all: false,
            verify: true,
            require: side == Side::Server,
            set: Vec::new(),
        }
    }

    fn set(
        &mut self,
        attribute: &'static str,
        value: &str,
        excerpt: &Excerpt,
    ) -> Result<Vec<String>, String> {
        let mut notes = Vec::new();
        match attribute {
            "match_ip_address" => return self.match_addresses(value).map(|()| notes),
            "match_sip_domain" => {
                return Ok(self.match_names(value).into_iter().collect());
            }
            "tls_method" => {
                let refused = |expected| format!("{expected} expected, not {}", quoted(value));
                let (versions, note) = method::versions(value).map_err(refused)?;
                self.versions = versions;
                notes.extend(note);
            }
            "verify_cert" => self.verify = flag(value)?,
            "require_cert" => self.require = flag(value)?,
            "crl_check_all" => self.crl_check_all = flag(value)?,
            path => {
                notes.extend(relative(value));
                *self.path(path) = Some(PathBuf::from(value));
            }
        }
        let place = &excerpt.place;
        let known = self.set.iter_mut().find(|(known, _)| *known == attribute);
        match known {
            Some((_, before)) => {
                notes.push(format!(
                    "{attribute} of {} is set again: the value in {before} does not count",
                    quoted(&self.name)
                ));
                *before = place.clone();
            }
            None => self.set.push((attribute, place.clone())),
        }
        Ok(notes)
    }

    /// The path that the attribute with this name sets.
    fn path(&mut self, attribute: &str) -> &mut Option<PathBuf> {
        match attribute {
            "certificate" => &mut self.certificate,
            "private_key" => &mut self.private_key,
            "ca_list" => &mut self.ca_list,
            "ca_dir" => &mut self.ca_dir,
            "crl_dir" => &mut self.crl_dir,
            _ => unreachable!("it is one of the attributes"),
        }
    }

    /// Addresses with commas between, or `*`; what is set again adds up.
    fn match_addresses(&mut self, value: &str) -> Result<(), String> {
        if value.trim_start().starts_with('*') {
            self.is_for_any = true;
            return Ok(());
        }
        for address in value.split(',') {
            let address = one_address(address.trim())?;
            if self.addresses.contains(&address) {
                continue;
            }
            if self.addresses.len() == ADDRESSES_MAX {
                return Err(format!(
                    "one address too many: at most {ADDRESSES_MAX} of a domain expected"
                ));
            }
            self.addresses.push(address);
        }
        Ok(())
    }

    /// Names that the other side may ask for. OpenSIPS asks for none over BIN, and a domain for names alone is for those
    /// who ask, so that such a domain is the last choice here.
    fn match_names(&mut self, value: &str) -> Option<String> {
        let mut names = value.split(',').map(str::trim);
        self.has_names_only = !names.any(|name| name == "*" || name == "none");
        self.has_names_only.then(|| {
            "names are not looked at, because nodes of a cluster ask for none: the address alone decides".to_owned()
        })
    }

    /// Where this attribute was set.
    fn place_of(&self, attribute: &str) -> Option<&Place> {
        let mut set = self.set.iter();
        set.find(|(known, _)| *known == attribute)
            .map(|(_, place)| place)
    }
}

/// `IP:port`, an IPv6 address in brackets or without: the port stands behind the last colon.
fn one_address(text: &str) -> Result<(IpAddr, u16), String> {
    let refused = || {
        format!(
            "an address with its port such as 10.0.0.1:5556, or * for any, expected, not {}",
            quoted(text)
        )
    };
    let (ip, port_text) = text.rsplit_once(':').ok_or_else(refused)?;
    let ip = match ip.strip_prefix('[') {
        Some(ip) => {
            let ip: Option<Ipv6Addr> = ip.strip_suffix(']').and_then(|ip| ip.parse().ok());
            ip.map(IpAddr::V6)
        }
        None => ip.parse().ok(),
    };
    let ip = ip.ok_or_else(refused)?;
    match port(port_text)? {
        0 => Err(refused()),
        port => Ok((ip, port)),
    }
}

/// A number; any but 0 is yes.
fn flag(text: &str) -> Result<bool, String> {
    let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if is_number => Ok(number != 0),
        _ => Err(format!("0 or 1 expected, not {}", quoted(text))),
    }
}

/// What to say of a path that means something else wherever the process is started.
fn relative(path: &str) -> Option<String> {
    (!path.starts_with('/')).then(|| {
        format!(
            "{} is looked for in the folder that the process is started in: write it from / on",
            quoted(path)
        )
    })
}

/// The parameters of `tls_mgm` that are read here.
pub(super) fn parameters() -> impl Iterator<Item = &'static str> {
    [SERVER, CLIENT].into_iter().chain(ATTRIBUTES)
}

/// What begins a domain.
const SERVER: &str = "server_domain";
const CLIENT: &str = "client_domain";

/// What can be said about a domain.
const ATTRIBUTES: [&str; 11] = [
    "match_ip_address",
    "match_sip_domain",
    "tls_method",
    "verify_cert",
    "require_cert",
    "certificate",
    "private_key",
    "ca_list",
    "ca_dir",
    "crl_dir",
    "crl_check_all",
];

/// How the domains are called that no name was given to.
const DEFAULT: &str = "default";

/// Bytes of the name of a domain.
const NAME_LEN_MAX: usize = 64;

/// Domains, and addresses of one.
const DOMAINS_MAX: usize = 64;
const ADDRESSES_MAX: usize = 64;
