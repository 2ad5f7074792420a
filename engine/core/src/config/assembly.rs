//! Statements to a configuration: what each means, and whether they fit together.
//!
//! Statements are taken one by one, as OpenSIPS takes them while it reads: a `modparam` knows the modules loaded
//! above it. What depends on the whole (ports, access, the number of shards) is settled at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use binrush_store::sockets::{SocketMap, SocketSet};
use regex_lite::{Regex, RegexBuilder};

use super::clusters::Clusters;
use super::error::{ConfigWarning, PROBLEMS_MAX, Problem, Topic, did_you_mean, nearest, quoted};
use super::globals;
use super::libraries::{Libraries, LibraryStatement, Named, Placed, stem};
use super::limits::{Limit, Limits};
use super::listener::{self, Host, Protocol};
use super::modules::Part;
use super::own::{Added, EventSubscription, Own, Refused, TlsPin};
use super::parameters::Parameters;
use super::peers::{self, Peer};
use super::script::Draft;
use super::sockets::Sockets;
use super::source::{Excerpt, Place, Source, Span};
use super::syntax::{Socket, Spanned, Statement, Value};
use super::tls::Domains;
use super::values::Allowed;
use crate::access::Cidr;
use crate::engine::LISTENERS_MAX;
use crate::relay::TargetConfig;
use crate::script::Kind;
use crate::stream::PeerTable;

/// What is about clusters.
mod clusters;
/// What turns the statements into a configuration.
mod settle;
/// What is about connections.
mod streams;

/// What the statements so far amount to.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) problems: Vec<Problem>,
    warnings: Vec<ConfigWarning>,
    listeners: Vec<Written>,
    /// By rank: the name as it was written, and the number.
    workers: [Option<(String, i32, Place)>; globals::WORKERS.len()],
    mpath: Option<String>,
    /// The parts that are on, and where they were switched on.
    loaded: BTreeMap<Part, Place>,
    /// What is to be loaded and is no part.
    pub(super) libraries: Libraries,
    /// What was to be loaded and is not needed: nobody misses its parameters.
    needless: Vec<String>,
    /// Parameters of parts that were not loaded above them.
    early: Vec<(Part, Excerpt)>,
    parameters: Parameters,
    own: Own,
    /// Where each of our own settings stands.
    own_places: BTreeMap<String, Place>,
    allowed: Vec<(Allowed, Excerpt)>,
    /// Where everybody is let in, once that is settled.
    anybody: Option<Excerpt>,
    peers: Vec<(Peer, Place)>,
    limits: Limits,
    tls: Domains,
    /// Whether something is wrong with the domains already.
    tls_was_refused: bool,
    tls_pins: Vec<(TlsPin, Excerpt)>,
    clusters: Clusters,
    /// `cluster_learn`: where nodes may come from that nobody named.
    learned: Vec<(Cidr, Excerpt)>,
    /// `peer`: how the streams of which sender are read.
    senders: PeerTable,
    sender_places: Vec<(Cidr, Place)>,
    no_effect: Gathered,
    tls_no_effect: Gathered,
    clusterer_no_effect: Gathered,
    sip: Gathered,
    /// The same, by the names that packets call them.
    sockets: Sockets,
    /// `socket_map` and `target_socket`: what those are at the node to which records go back, and what it has.
    socket_map: SocketMap,
    target_sockets: SocketSet,
    /// `relay`.
    relay: Vec<(TargetConfig, Excerpt)>,
    /// `subscribe_event`.
    subscriptions: Vec<(EventSubscription, Excerpt)>,
    /// Routes of SIP, which never run here.
    routes: Gathered,
    script: Draft,
}

/// A listener as it was written.
#[derive(Debug)]
struct Written {
    protocol: Protocol,
    host: Host,
    port: Option<u16>,
    tag: Option<String>,
    /// `bin_listen`: 1.x, which knows no TCP for BIN.
    is_legacy: bool,
    excerpt: Excerpt,
}

/// Statements that share one warning.
#[derive(Debug, Default)]
struct Gathered {
    first: Option<Place>,
    names: Vec<String>,
    more: usize,
}

impl Assembly {
    /// Takes the next statement of `source`, except for includes, which are the caller's.
    pub(super) fn statement(&mut self, source: &Source, statement: Spanned<Statement<'_>>) {
        let place = || source.excerpt(statement.span).place;
        match statement.value {
            Statement::Listen(sockets) => {
                for socket in &sockets {
                    self.listen(source, socket);
                }
            }
            Statement::BinListen(socket) => self.listener(source, &socket, Protocol::Bin, true),
            Statement::Workers { name, count } => self.workers(source, name, count),
            Statement::Mpath(path) => self.mpath = Some(path.value),
            Statement::Limit { name, limit, value } => self.limit(source, name, limit, value),
            Statement::NoEffect { name } => self.no_effect.add(name, place),
            Statement::LoadModule(name) => self.load(source, &name),
            Statement::ModParam {
                module,
                name,
                value,
            } => self.modparam(source, &module, &name, value),
            Statement::Include { .. } => {}
            Statement::Route(block) => match Kind::named(block.keyword) {
                Some(kind) => {
                    let most = PROBLEMS_MAX.saturating_sub(self.problems.len());
                    let wrong = self.script.take(source, kind, &block, most);
                    self.problems.extend(wrong);
                }
                None => {
                    let title = &source.text[block.title.start..block.title.end];
                    self.routes.add(title, place);
                }
            },
        }
    }

    /// Whether there are so many problems that no more need to be found.
    pub(super) fn is_hopeless(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    pub(super) fn warn(&mut self, place: Option<Place>, message: impl Into<String>) {
        self.warn_of(Topic::Other, place, message);
    }

    fn warn_of(&mut self, topic: Topic, place: Option<Place>, message: impl Into<String>) {
        if self.warnings.len() < WARNINGS_MAX {
            let warning = ConfigWarning::new(topic, place, message);
            self.warnings.push(warning);
        }
    }

    fn refuse(&mut self, source: &Source, span: Span, message: impl Into<String>) {
        self.problems.push(source.problem(span, message));
    }

    /// An address of `listen`: ours, or one of SIP.
    fn listen(&mut self, source: &Source, socket: &Socket<'_>) {
        let Span { start, end } = socket.span;
        match socket.protocol.and_then(Protocol::named) {
            Some(protocol) => self.listener(source, socket, protocol, false),
            None => {
                let place = || source.excerpt(socket.span).place;
                self.sip.add(&source.text[start..end], place);
                let port = socket.port.as_ref().map(|port| port.value.parse());
                match port.transpose() {
                    Ok(port) => {
                        let host = &socket.host.value;
                        self.sockets.add(socket.protocol, host, port, socket.tag);
                    }
                    // Nobody listens there; whoever does runs another program.
                    Err(_) => self.sockets.add(None, "", None, None),
                }
            }
        }
    }

    fn listener(
        &mut self,
        source: &Source,
        socket: &Socket<'_>,
        protocol: Protocol,
        is_legacy: bool,
    ) {
        let (host, port) = match listener::address(source, socket) {
            Ok(address) => address,
            Err(problem) => return self.problems.push(problem),
        };
        if is_legacy && port.is_none() {
            let message = "bin_listen: a port expected behind the address, such as 10.0.0.1:5555";
            return self.refuse(source, socket.span, message);
        }
        if self.listeners.len() > LISTENERS_MAX {
            // The first one too many is kept, and refused in the end; the others say nothing new.
            return;
        }
        self.listeners.push(Written {
            protocol,
            host,
            port,
            tag: socket.tag.map(str::to_owned),
            is_legacy,
            excerpt: source.excerpt(socket.span),
        });
    }

    fn workers(&mut self, source: &Source, name: &str, count: Spanned<i32>) {
        let Some(rank) = globals::worker_rank(name) else {
            unreachable!("the parser looked it up");
        };
        if count.value < 0 {
            let message = format!("{name}: a number from 0 expected, not {}", count.value);
            return self.refuse(source, count.span, message);
        }
        let place = source.excerpt(count.span).place;
        self.workers[rank] = Some((name.to_owned(), count.value, place));
    }

    fn limit(&mut self, source: &Source, name: &str, limit: Limit, value: Spanned<i32>) {
        let place = source.excerpt(value.span).place;
        match self.limits.set(limit, value.value, place.clone()) {
            Ok(None) => {}
            Ok(Some(before)) => self.replaces(name, before, place),
            Err(expected) => {
                let message = format!("{name}: {expected} expected, not {}", value.value);
                self.refuse(source, value.span, message);
            }
        }
    }

    /// `loadmodule`: switches a part on.
    fn load(&mut self, source: &Source, path: &Spanned<String>) {
        let name = stem(&path.value);
        let place = source.excerpt(path.span).place;
        let Some(part) = Part::named(name) else {
            if TLS_LIBRARIES.contains(&name) {
                self.needless.push(name.to_owned());
                let message = format!("{name} is not needed: TLS is built in");
                return self.warn(Some(place), message);
            }
            return self.library(source, path);
        };
        if let Some((_, excerpt)) = self.early.iter().find(|(early, _)| *early == part) {
            let message = format!(
                "{part} is loaded below, in {place}: modparam expected behind its loadmodule"
            );
            self.problems.push(Problem::at(excerpt.clone(), message));
            self.early.retain(|(early, _)| *early != part);
        }
        if let Some(before) = self.loaded.get(&part) {
            let message = format!("{part} is loaded already, in {before}");
            return self.warn(Some(place), message);
        }
        self.loaded.insert(part, place);
    }

    /// A module that is not built in.
    fn library(&mut self, source: &Source, path: &Spanned<String>) {
        let (written, at) = (&path.value, source.excerpt(path.span));
        if written.is_empty() {
            return self.refuse(source, path.span, "the name of a module expected");
        }
        let name = stem(written);
        // A name that goes on behind that of a part ("dialog_count") is no mistake.
        let near = nearest(name, Part::ALL.map(Part::name));
        let near = near
            .filter(|near| !name.starts_with(*near))
            .and_then(Part::named);
        if let Some(part) = near {
            let message = format!(
                "{} is not built in, so it is loaded as a shared library; did you mean \"{part}\"?",
                quoted(written)
            );
            self.warn(Some(at.place.clone()), message);
        }
        if self.libraries.statements.len() == STATEMENTS_MAX {
            let message =
                format!("at most {STATEMENTS_MAX} statements about shared libraries expected");
            return self.refuse(source, path.span, message);
        }
        self.libraries.statements.push(LibraryStatement::Load {
            mpath: self.mpath.clone(),
            written: written.clone(),
            near,
            at,
        });
    }

    /// `modparam`: sets a parameter of every part that the expression matches.
    fn modparam(
        &mut self,
        source: &Source,
        module: &Spanned<String>,
        name: &Spanned<String>,
        value: Spanned<Value>,
    ) {
        if module.value.eq_ignore_ascii_case(OWN) {
            return self.own(source, name, value);
        }
        let matches = match expression(&module.value) {
            Ok(matches) => matches,
            Err(error) => {
                let message = format!(
                    "{} is no regular expression: {error}",
                    quoted(&module.value)
                );
                return self.refuse(source, module.span, message);
            }
        };
        let mut parts: Vec<Part> = self.loaded.keys().copied().collect();
        parts.retain(|part| matches.is_match(part.name()));
        let has_file = self.libraries.has_file(|file| matches.is_match(file));
        if parts.is_empty() && !has_file {
            // It may be loaded below, which is an error, or never, which is forgiven: the parts are built in.
            parts = Part::ALL
                .into_iter()
                .filter(|part| matches.is_match(part.name()))
                .collect();
            let early = parts.iter();
            self.early
                .extend(early.map(|part| (*part, source.excerpt(module.span))));
        }
        if !self.libraries.is_empty() {
            let is_theirs = has_file || parts.is_empty();
            self.library_parameter(source, module, name, &value, is_theirs);
        } else if parts.is_empty() && !self.needless.iter().any(|name| matches.is_match(name)) {
            let near = did_you_mean(
                &module.value,
                Part::ALL.map(Part::name).into_iter().chain([OWN]),
            );
            let built_in = Part::ALL.map(Part::name).join(", ");
            let module_name = quoted(&module.value);
            let message = format!(
                "there is no module {module_name}: binrush, one that is loaded above, or one of {built_in} expected{near}"
            );
            self.refuse(source, module.span, message);
        }
        for part in parts {
            self.parameter(source, part, name, &value);
        }
    }

    /// One that may be for shared libraries.
    fn library_parameter(
        &mut self,
        source: &Source,
        module: &Spanned<String>,
        name: &Spanned<String>,
        value: &Spanned<Value>,
        is_theirs: bool,
    ) {
        if self.libraries.statements.len() == STATEMENTS_MAX {
            let message =
                format!("at most {STATEMENTS_MAX} statements about shared libraries expected");
            return self.refuse(source, module.span, message);
        }
        self.libraries.statements.push(LibraryStatement::Param {
            pattern: module.value.clone(),
            name: name.value.clone(),
            value: value.value.clone(),
            is_theirs,
            at: source.excerpt(module.span),
        });
    }

    /// Sets one parameter of one part.
    fn parameter(
        &mut self,
        source: &Source,
        part: Part,
        name: &Spanned<String>,
        value: &Spanned<Value>,
    ) {
        let Some(parameter) = part.parameter(&name.value) else {
            let near = did_you_mean(&name.value, part.parameter_names());
            let message = format!("{part} has no parameter {}{near}", quoted(&name.value));
            return self.refuse(source, name.span, message);
        };
        if !parameter.kind.takes(&value.value) {
            let message = format!(
                "{}: {} expected, not {}",
                parameter.name,
                parameter.kind,
                value.value.shown()
            );
            return self.refuse(source, value.span, message);
        }
        let excerpt = source.excerpt(value.span);
        let newest = parameter.newest_name();
        let of_cluster = self.clusters.set(part, newest, &value.value, &excerpt);
        let place = excerpt.place;
        match of_cluster.and_then(|peer| Ok((peer, peers::peer(part, newest, &value.value)?))) {
            Ok((one, other)) => {
                let named = one.into_iter().chain(other);
                self.peers.extend(named.map(|peer| (peer, place.clone())));
            }
            Err(message) => {
                return self.refuse(source, value.span, format!("{}: {message}", parameter.name));
            }
        }
        if part == Part::Clusterer && clusters::has_no_effect(parameter.name) {
            self.clusterer_no_effect
                .add(parameter.name, || place.clone());
        }
        if part == Part::TlsMgm
            && let Err(message) = self.tls_mgm(source, parameter.name, value)
        {
            self.tls_was_refused = true;
            return self.refuse(source, value.span, format!("{}: {message}", parameter.name));
        }
        if let Some(before) =
            self.parameters
                .set(part, &parameter, value.value.clone(), place.clone())
        {
            self.replaces(parameter.name, before, place);
        }
    }

    /// `modparam("binrush", ...)`.
    fn own(&mut self, source: &Source, name: &Spanned<String>, value: Spanned<Value>) {
        let excerpt = source.excerpt(value.span);
        match self.own.set(&name.value, &value.value) {
            Ok(Some(Added::Allowed(allowed))) => self.allowed.push((allowed, excerpt)),
            Ok(Some(Added::TlsPin(pin))) => self.tls_pins.push((pin, excerpt)),
            Ok(Some(Added::Learned(range))) => self.learn(range, excerpt),
            Ok(Some(Added::Relay(target))) => self.relay.push((target, excerpt)),
            Ok(Some(Added::Subscription(each))) => self.subscriptions.push((each, excerpt)),
            Ok(Some(Added::SocketMap(map))) => {
                if let Err(error) = self.socket_map.merge(&map) {
                    self.refuse_at(&excerpt, format!("socket_map: {error}"));
                }
            }
            Ok(Some(Added::TargetSocket(socket))) => self.target_sockets.insert(&socket),
            Ok(Some(Added::Overrides(names))) => {
                add_names(&mut self.libraries.overrides, names, &excerpt)
            }
            Ok(Some(Added::Reentrant(names))) => {
                add_names(&mut self.libraries.reentrant, names, &excerpt)
            }
            Ok(Some(Added::ModuleReads(path))) => {
                add_path(&mut self.libraries.reads, path, excerpt)
            }
            Ok(Some(Added::ModuleWrites(path))) => {
                add_path(&mut self.libraries.writes, path, excerpt)
            }
            Ok(Some(Added::Peer(addr, settings))) => self.sender(addr, settings, &excerpt),
            Ok(None) => {
                let place = excerpt.place;
                if let Some(before) = self.own_places.insert(name.value.clone(), place.clone()) {
                    self.replaces(&name.value, before, place);
                }
            }
            Err(Refused::Name(message)) => self.refuse(source, name.span, message),
            Err(Refused::Value(message)) => self.refuse(source, value.span, message),
        }
    }

    /// As in OpenSIPS the last value counts; there it happens in silence.
    fn replaces(&mut self, name: &str, before: Place, place: Place) {
        let message = format!("{name} is set again: the value in {before} does not count");
        self.warn(Some(place), message);
    }
}

impl Gathered {
    fn add(&mut self, name: &str, place: impl FnOnce() -> Place) {
        self.first.get_or_insert_with(place);
        if self.names.iter().any(|known| known == name) {
            return;
        }
        if self.names.len() < GATHERED_MAX {
            self.names.push(
                name.chars()
                    .filter(|c| !c.is_control())
                    .take(NAME_SHOWN_MAX)
                    .collect(),
            );
        } else {
            self.more += 1;
        }
    }

    /// One warning for all of them, when there are any.
    fn warning(&self, message: &str) -> Option<(Place, String)> {
        let place = self.first.clone()?;
        let names = self.names.join(", ");
        let more = match self.more {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some((place, format!("{message}: {names}{more}")))
    }
}

/// Each name once, where it was said first.
fn add_names(known: &mut Vec<Named>, names: Vec<String>, at: &Excerpt) {
    for name in names {
        if known.len() < STATEMENTS_MAX && known.iter().all(|each| each.name != name) {
            let at = at.clone();
            known.push(Named { name, at });
        }
    }
}

/// Each path once, likewise.
fn add_path(known: &mut Vec<Placed>, path: PathBuf, at: Excerpt) {
    if known.len() < STATEMENTS_MAX && known.iter().all(|each| each.path != path) {
        known.push(Placed { path, at });
    }
}

/// The expression that `modparam` has for the names of modules: whole names, upper and lower case alike.
pub(super) fn expression(text: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(&format!("^(?:{text})$"))
        .case_insensitive(true)
        .size_limit(EXPRESSION_SIZE_MAX)
        .nest_limit(EXPRESSION_NEST_MAX)
        .build()
}

/// The module whose parameters are our own.
const OWN: &str = "binrush";

/// Modules that `tls_mgm` of 3.2 and later needs one of: here TLS has one library.
const TLS_LIBRARIES: [&str; 2] = ["tls_openssl", "tls_wolfssl"];

/// Enough to see what kind of file it is.
const WARNINGS_MAX: usize = 100;

/// Statements about shared libraries, and names that are told about them.
const STATEMENTS_MAX: usize = 1000;

/// Names in one warning, and characters of a name.
const GATHERED_MAX: usize = 12;
const NAME_SHOWN_MAX: usize = 60;

/// Bytes and depth of a regular expression; one that names all parts has a few hundred and two.
const EXPRESSION_SIZE_MAX: usize = 16 << 10;
const EXPRESSION_NEST_MAX: u32 = 20;
