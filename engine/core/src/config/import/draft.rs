//! What is kept of the statements, and what is not.

use std::collections::BTreeMap;

use super::meaning;
use super::{LeftOut, Reason};
use crate::config::assembly::expression;
use crate::config::error::quoted;
use crate::config::globals;
use crate::config::listener::{self, Protocol};
use crate::config::modules::Part;
use crate::config::source::{Place, Source};
use crate::config::syntax::{Socket, Spanned, Statement, Value};
use crate::engine::LISTENERS_MAX;

/// What the statements so far amount to.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Where the node listens for BIN.
    pub(super) listeners: Vec<BinListener>,
    /// Its sockets of SIP, each as a statement.
    pub(super) sockets: Vec<(String, Place)>,
    /// By rank: the name as it was written, and the number.
    pub(super) workers: [Option<(String, i32, Place)>; globals::WORKERS.len()],
    /// What connections may cost, by name.
    pub(super) limits: BTreeMap<String, (i32, Place)>,
    /// The parts that are on, in the order of the text; without a place where a parameter alone says so.
    pub(super) loaded: Vec<(Part, Option<Place>)>,
    /// What is set about them, and means something.
    pub(super) parameters: Vec<Parameter>,
    /// Bytes of their values, also of those that were set again.
    parameters_len: usize,
    /// By place, as files are read.
    pub(super) left_out: Vec<LeftOut>,
    pub(super) left_out_more: usize,
    /// Nodes that nothing else lets in, in brackets where they are IPv6.
    pub(super) allow: Vec<String>,
    /// Addresses of BIN that are names, or that cannot be read.
    pub(super) unread_listeners: usize,
}

/// An address of `listen`, `socket` or `bin_listen`.
#[derive(Debug, Clone)]
pub(super) struct BinListener {
    pub(super) protocol: Protocol,
    /// As it is written, in brackets where it is IPv6.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) tag: Option<String>,
    /// `bin_listen`.
    pub(super) is_legacy: bool,
    /// `None`: the command line says it.
    pub(super) place: Option<Place>,
}

/// A parameter of a part.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) part: Part,
    /// Its newest name.
    pub(super) name: &'static str,
    pub(super) value: Value,
    /// `None`: the command line says it.
    pub(super) place: Option<Place>,
}

impl Draft {
    /// Takes a statement of `source`; includes are the caller's.
    pub(super) fn statement(&mut self, source: &Source, statement: Spanned<Statement<'_>>) {
        let place = source.excerpt(statement.span).place;
        match statement.value {
            Statement::Listen(sockets) => {
                for socket in &sockets {
                    self.listen(source, socket);
                    self.options(source, socket);
                }
            }
            Statement::BinListen(socket) => self.listener(source, &socket, Protocol::Bin, true),
            Statement::Workers { name, count } => self.workers(name, count.value, place),
            Statement::Limit { name, value, .. } => {
                let before = self.limits.insert(name.to_owned(), (value.value, place));
                if let Some((value, place)) = before {
                    self.replaced(place, format!("{name} = {value}"));
                }
            }
            Statement::Mpath(_) => {
                let detail = "binrush loads no modules of OpenSIPS";
                self.leave_as(place, "mpath", Reason::Global, Some(detail));
            }
            Statement::NoEffect { name } => self.leave_as(place, name, Reason::Global, None),
            Statement::LoadModule(path) => self.load(&path.value, place),
            Statement::ModParam {
                module,
                name,
                value,
            } => self.modparam(&module.value, &name.value, &value.value, &place),
            Statement::Route(block) => {
                let title = &source.text[block.title.start..block.title.end];
                self.leave_as(place, &harmless(title), Reason::Route, None);
            }
            Statement::Include { .. } => {}
        }
    }

    /// An address: ours, or one of SIP that records may name.
    fn listen(&mut self, source: &Source, socket: &Socket<'_>) {
        let of_bin = socket.protocol.and_then(Protocol::named);
        if let Some(protocol) = of_bin {
            return self.listener(source, socket, protocol, false);
        }
        let place = source.excerpt(socket.span).place;
        let protocol = socket.protocol.map(str::to_ascii_lowercase);
        let mut text = protocol
            .as_ref()
            .map_or_else(String::new, |name| format!("{name}:"));
        text.push_str(&host(&socket.host.value));
        if let Some(port) = socket.port {
            text.push_str(&format!(":{}", port.value));
        }
        if protocol.is_some_and(|name| NOT_SIP.contains(&&name[..])) {
            return self.leave_as(place, &harmless(&text), Reason::Socket, None);
        }
        if let Some(tag) = socket.tag {
            text.push_str(&format!(" tag {tag}"));
        }
        let why = match self
            .sockets
            .iter()
            .any(|(known, _)| known[SOCKET.len()..] == text)
        {
            true => "it is there already",
            false if self.sockets.len() == SOCKETS_MAX => "there are too many to tell records by",
            false if text.len() > SOCKET_LEN_MAX => "it is longer than any",
            false => return self.sockets.push((format!("{SOCKET}{text}"), place)),
        };
        self.leave_as(place, &harmless(&text), Reason::Socket, Some(why));
    }

    /// What is said of an address besides itself. Records name a socket by its tag or as it is, not as it is advertised (3.6
    /// `socket_info.h`, `get_socket_internal_name`; before, `sock_str`).
    fn options(&mut self, source: &Source, socket: &Socket<'_>) {
        for &option in &socket.unused {
            let text = &source.text[option.start..option.end];
            let is_address = text
                .get(..3)
                .is_some_and(|word| word.trim_end().eq_ignore_ascii_case("as"));
            let (reason, detail) = match is_address {
                true => (
                    Reason::Socket,
                    "records name a socket as it is, not as it is advertised",
                ),
                false => (Reason::Global, "an option of this socket"),
            };
            let place = source.excerpt(option).place;
            self.leave_as(place, &harmless(text), reason, Some(detail));
        }
    }

    fn listener(
        &mut self,
        source: &Source,
        socket: &Socket<'_>,
        protocol: Protocol,
        is_legacy: bool,
    ) {
        let place = source.excerpt(socket.span).place;
        let text = &source.text[socket.span.start..socket.span.end];
        let what = format!("listen = {}", harmless(text));
        let port = match listener::address(source, socket) {
            Ok((_, port)) => port,
            Err(problem) => {
                self.unread_listeners += 1;
                return self.leave_as(place, &what, Reason::Refused, Some(problem.message()));
            }
        };
        let listener = BinListener {
            protocol,
            host: host(&socket.host.value),
            port,
            tag: socket.tag.map(str::to_owned),
            is_legacy,
            place: Some(place.clone()),
        };
        let text = listener.text();
        let why = if self.listeners.iter().any(|known| known.text() == text) {
            "it is there already".to_owned()
        } else if self.listeners.len() == LISTENERS_MAX {
            format!("there are {LISTENERS_MAX} before it, which is the most")
        } else if text.len() > SOCKET_LEN_MAX {
            "its tag is longer than any".to_owned()
        } else {
            return self.listeners.push(listener);
        };
        self.leave_as(place, &what, Reason::Refused, Some(&why));
    }

    fn workers(&mut self, name: &str, count: i32, place: Place) {
        let rank = globals::worker_rank(name);
        let Some(workers) = rank.and_then(|rank| self.workers.get_mut(rank)) else {
            return self.leave_as(place, name, Reason::Global, None);
        };
        let before = workers.replace((name.to_owned(), count, place));
        if let Some((name, count, place)) = before {
            self.replaced(place, format!("{name} = {count}"));
        }
    }

    fn load(&mut self, path: &str, place: Place) {
        let file = path.rsplit('/').next().unwrap_or_default();
        let name = file.strip_suffix(".so").unwrap_or(file);
        let what = format!("loadmodule {}", quoted(path));
        let leave = |draft: &mut Self, reason, detail| {
            draft.leave_as(place.clone(), &what, reason, detail);
        };
        match Part::named(name) {
            Some(part) => match self.loaded.iter_mut().find(|(known, _)| *known == part) {
                Some((_, Some(_))) => leave(self, Reason::Replaced, Some("it is loaded above")),
                Some((_, known)) => *known = Some(place),
                None => self.loaded.push((part, Some(place))),
            },
            None if name.starts_with("tls_") => {
                leave(self, Reason::Module, Some("TLS is built in"));
            }
            None => leave(self, Reason::Module, None),
        }
    }

    /// Whether an expression for names of modules means no part of ours.
    pub(super) fn is_foreign(module: &str) -> bool {
        expression(module)
            .is_ok_and(|names| !Part::ALL.iter().any(|part| names.is_match(part.name())))
    }

    /// The value is told nowhere, because in parameters of other modules it may be a password.
    fn modparam(&mut self, module: &str, name: &str, value: &Value, place: &Place) {
        let what = |module: &str| format!("modparam({}, {}, ...)", quoted(module), quoted(name));
        let names = match expression(module) {
            Ok(names) => names,
            Err(error) => {
                let detail = format!("the first string is no regular expression: {error}");
                let place = place.clone();
                return self.leave_as(place, &what(module), Reason::Refused, Some(&detail));
            }
        };
        let parts = Part::ALL
            .into_iter()
            .filter(|part| names.is_match(part.name()));
        let parts: Vec<Part> = parts.collect();
        if parts.is_empty() {
            return self.leave_as(place.clone(), &what(module), Reason::Module, None);
        }
        let is_expression = parts.len() > 1 || !parts[0].name().eq_ignore_ascii_case(module);
        for part in parts {
            let is_loaded = self.loaded.iter().any(|(known, _)| *known == part);
            // `"dialog|usrloc"` is about those that are there; a plain name is meant in any case.
            if is_expression && !is_loaded {
                continue;
            }
            let Err((reason, detail)) = self.parameter(part, name, value, place) else {
                continue;
            };
            self.leave_as(place.clone(), &what(part.name()), reason, detail.as_deref());
        }
    }

    /// Takes one parameter of one part.
    ///
    /// # Errors
    /// Why it is left out.
    fn parameter(
        &mut self,
        part: Part,
        name: &str,
        value: &Value,
        place: &Place,
    ) -> Result<(), (Reason, Option<String>)> {
        let Some(parameter) = part.parameter(name) else {
            return Err((Reason::Unknown, None));
        };
        let name = parameter.newest_name();
        if !meaning::has_meaning(part, name) {
            let why = meaning::why_not(part, name).map(str::to_owned);
            return Err((Reason::Parameter, why));
        }
        if let Value::Text(text) = value {
            let refused = |why: &str| Err((Reason::Refused, Some(why.to_owned())));
            if text.len() > VALUE_LEN_MAX {
                return refused("its value is longer than any that means something");
            }
            if text.contains('\0') {
                return refused("its value has a NUL, which ends a string for OpenSIPS");
            }
            if text.contains(char::REPLACEMENT_CHARACTER) {
                return refused("its value is no UTF-8");
            }
        }
        let len = match value {
            Value::Text(text) => super::text::string(text).len(),
            Value::Int(_) => 0,
        };
        let len = self.parameters_len + len;
        if self.parameters.len() == PARAMETERS_MAX || len > PARAMETERS_LEN_MAX {
            let why = format!(
                "more than {PARAMETERS_MAX} parameters, or {PARAMETERS_LEN_MAX} bytes of them"
            );
            return Err((Reason::Refused, Some(why)));
        }
        self.parameters_len = len;
        if !parameter.repeats {
            let same = |known: &Parameter| known.part == part && known.name == name;
            if let Some(index) = self.parameters.iter().position(same) {
                let before = self.parameters.remove(index);
                if let Some(place) = before.place {
                    self.replaced(place, format!("{part} {name}"));
                }
            }
        }
        if !self.loaded.iter().any(|(known, _)| *known == part) {
            self.loaded.push((part, None));
        }
        self.parameters.push(Parameter {
            part,
            name,
            value: value.clone(),
            place: Some(place.clone()),
        });
        Ok(())
    }

    /// What is set twice counts as it is set last, as in OpenSIPS.
    pub(super) fn replaced(&mut self, place: Place, what: String) {
        self.leave_as(
            place,
            &what,
            Reason::Replaced,
            Some("it is set again below"),
        );
    }

    pub(super) fn leave_as(
        &mut self,
        place: Place,
        what: &str,
        reason: Reason,
        detail: Option<&str>,
    ) {
        self.leave(LeftOut {
            place,
            what: what.to_owned(),
            reason,
            detail: detail.map(str::to_owned),
        });
    }

    pub(super) fn leave(&mut self, left_out: LeftOut) {
        if self.is_full() {
            self.left_out_more += 1;
        } else {
            self.left_out.push(left_out);
        }
    }

    /// Whether no more of what is left out is told, but counted.
    pub(super) fn is_full(&self) -> bool {
        self.left_out.len() >= LEFT_OUT_MAX
    }
}

/// A host as it stands in front of a port, on one line whatever it is.
fn host(written: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_ipv6 = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '%');
    match written {
        "*" => written.to_owned(),
        _ if !written.is_empty() && written.chars().all(is_word) => written.to_owned(),
        _ if written.contains(':') && written.chars().all(is_ipv6) => format!("[{written}]"),
        _ => super::text::string(written),
    }
}

/// A bounded part of `text` that no terminal obeys, and that stays on its line.
pub(super) fn harmless(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    let cut = if shown.len() < text.len() { "..." } else { "" };
    let visible = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let visible: String = shown.chars().map(visible).collect();
    visible + cut
}

/// Listeners that take no SIP: packets of records name none of them.
const NOT_SIP: [&str; 8] = [
    "hep_udp", "hep_tcp", "hep_tls", "smpp", "msrp", "msrps", "bin", "bins",
];

/// Bytes of a value that is kept: a list of addresses or a node with all that is known of it has some hundreds.
const VALUE_LEN_MAX: usize = 4096;

/// Parameters that are kept: 64 clusters with their nodes.
const PARAMETERS_MAX: usize = 2000;
const PARAMETERS_LEN_MAX: usize = 256 << 10;

/// Sockets of SIP that are kept, as many as are told apart, and bytes of an address with its tag.
const SOCKETS_MAX: usize = 256;
const SOCKET_LEN_MAX: usize = 256;

/// How a socket is written.
const SOCKET: &str = "socket = ";

/// Statements that are told one by one when they are left out: the result stays a file that `Config` takes.
const LEFT_OUT_MAX: usize = 1000;

/// Characters of a statement that are repeated.
const SHOWN_MAX: usize = 60;
