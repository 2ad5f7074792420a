//! `binrush events listen`: binds a socket and prints what arrives.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use binrush_engine::event::read::{ReadError, read_as};
use binrush_engine::event::{EXPIRE_DEFAULT, Event, EventSocket, Form, Param, Value};
use serde_json::json;

use super::{Asking, Told, UNREADABLE};
use crate::control::message::{Request, Subscribe, SubscribersList};
use crate::signal::stop_flag;
use crate::text::{Escaped, Harmless};

/// Bind a socket and print the events that arrive there, in any form, until interrupted
///
/// With --event it subscribes to these by itself, goes on to do so, and ends the subscriptions when it ends. Those that were there
/// before it, as the server's configuration has them, it leaves as they are.
#[derive(Debug, clap::Args)]
pub(super) struct ListenArgs {
    /// Where to; a path is removed at the end.
    #[arg(value_name = "unix:/PATH|/PATH|udp:ADDRESS:PORT")]
    socket: EventSocket,

    /// Have the server tell this one here; several times for several.
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,

    /// With --event: how these are written, if not as the server's configuration says.
    #[arg(long, value_name = "text|1.11|jsonrpc", requires = "event")]
    form: Option<Form>,

    /// What arrives was written by 1.8 to 3.0, where backslashes before quotes mean something else. A `binrush serve` is asked
    /// at its control socket which of its events are.
    #[arg(long)]
    compat: bool,

    /// Rights of a path: who may write to it may send. The server is mostly another user.
    #[arg(long, value_name = "OCTAL", default_value = "666", value_parser = mode)]
    mode: u32,

    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    #[command(flatten)]
    asking: Asking,
}

/// A socket that is ours.
enum Socket {
    Udp(UdpSocket),
    Unix {
        socket: UnixDatagram,
        /// Removed with it.
        _path: OwnPath,
    },
}

/// A path that goes with its owner.
struct OwnPath(PathBuf);

impl Drop for OwnPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What the server tells us here, as far as it was asked.
#[derive(Debug, Default)]
struct Subscriptions {
    /// That this command made.
    ours: BTreeSet<String>,
    /// Events in the form of 1.11.
    old: BTreeSet<String>,
}

pub(super) fn run(args: &ListenArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_flag()?;
    let socket = Socket::bind(&args.socket, args.mode)?;
    let mut subscriptions = Subscriptions::default();
    match subscriptions.renew(args) {
        // Whoever sends what arrives may be no server of ours.
        Err(_) if args.event.is_empty() => {}
        renewed => renewed?,
    }
    let mut renewed = Instant::now();
    eprintln!("listening at {}", Harmless(&args.socket.to_string()));
    let mut buffer = vec![0; BUFFER_LEN];
    let (mut left, mut stdout) = (args.count, io::stdout().lock());
    while !stop.load(Ordering::Relaxed) && left != Some(0) {
        if renewed.elapsed() >= RENEW {
            renewed = Instant::now();
            // The server may be away, and come back.
            if let Err(error) = subscriptions.renew(args)
                && !args.event.is_empty()
            {
                eprintln!("warning: {error:#}");
            }
        }
        let datagram = match socket.receive(&mut buffer) {
            Ok(len) => &buffer[..len],
            Err(error) if is_nothing(&error) => continue,
            Err(error) => return Err(error).context("cannot receive"),
        };
        let is_old = args.compat || subscriptions.is_old(datagram);
        let read = read_as(if is_old { Form::V1_11 } else { Form::Text }, datagram);
        let shown = match args.asking.json {
            true => json(datagram, &read),
            false => text(datagram, &read),
        };
        stdout.write_all(shown.as_bytes())?;
        stdout.flush()?;
        left = left.map(|left| left - 1);
    }
    subscriptions.end(args);
    Ok(ExitCode::SUCCESS)
}

impl Subscriptions {
    /// Subscribes to what nobody else has the server tell us, and finds out in which form all that comes is.
    fn renew(&mut self, args: &ListenArgs) -> anyhow::Result<()> {
        if !args.event.is_empty() {
            let there = args.told()?;
            for event in &args.event {
                let found = { there.iter() }.find(|(known, ..)| known == event);
                if self.is_ours_to_make(event, found.map(|(.., left)| *left)) {
                    args.subscribe(event, EXPIRE_DEFAULT)?;
                    self.ours.insert(event.clone());
                } else {
                    self.ours.remove(event);
                }
            }
        }
        let old = args.told()?.into_iter();
        let old = old.filter(|(_, form, _)| form == Form::V1_11.symbol());
        self.old = old.map(|(event, ..)| event).collect();
        Ok(())
    }

    /// `found`: it is there, for so many seconds, or without an end. What somebody else made and ends soon would be missed.
    fn is_ours_to_make(&self, event: &str, found: Option<Option<u64>>) -> bool {
        match found {
            None => true,
            Some(None) => false,
            Some(Some(left)) => self.ours.contains(event) || left <= 2 * RENEW.as_secs(),
        }
    }

    /// Whether the event that `datagram` begins with is told in the form of 1.11.
    fn is_old(&self, datagram: &[u8]) -> bool {
        let name = datagram.split(|byte| *byte == b'\n').next();
        let name = name.and_then(|name| str::from_utf8(name).ok());
        name.is_some_and(|name| self.old.contains(name))
    }

    fn end(&self, args: &ListenArgs) {
        for event in &self.ours {
            // Who does not answer now does not tell either.
            let _ = args.subscribe(event, 0);
        }
    }
}

impl ListenArgs {
    fn subscribe(&self, event: &str, expire: u32) -> anyhow::Result<()> {
        let request = Request::EventSubscribe(Subscribe {
            event: event.to_owned(),
            socket: self.socket.to_string(),
            expire: Some(expire),
            form: self.form.map(|form| form.symbol().to_owned()),
        });
        self.asking.ask(&request).map(drop)
    }

    /// What the server tells us: events, forms, and seconds until their end.
    fn told(&self) -> anyhow::Result<Vec<(String, String, Option<u64>)>> {
        let request = Request::SubscribersList(SubscribersList {
            event: None,
            socket: Some(self.socket.to_string()),
        });
        let mut answer = self.asking.ask(&request)?;
        let told = answer.remove("subscribers").unwrap_or_default();
        let told: Vec<Told> = serde_json::from_value(told).context(UNREADABLE)?;
        let all = told.into_iter().flat_map(|each| each.subscriptions);
        let facts = all.map(|each| (each.event, each.form, each.expires_in));
        Ok(facts.collect())
    }
}

/// Rights in octal digits.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    { mode.filter(|mode| *mode <= 0o777) }
        .ok_or_else(|| "octal digits up to 777 expected, such as 660".to_owned())
}

impl Socket {
    /// `mode`: of a path.
    fn bind(socket: &EventSocket, mode: u32) -> anyhow::Result<Self> {
        let shown = socket.to_string();
        let cannot = || format!("cannot listen at {}", Harmless(&shown));
        Ok(match socket {
            EventSocket::Udp(addr) => {
                let socket = UdpSocket::bind(addr).with_context(cannot)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Self::Udp(socket)
            }
            EventSocket::Unix(path) => {
                make_room(path).with_context(cannot)?;
                let socket = UnixDatagram::bind(path).with_context(cannot)?;
                let own = OwnPath(path.clone());
                // A mask of the shell's would let nobody else in, and the kernel lets no other user in without one. (unix(7).)
                fs::set_permissions(path, Permissions::from_mode(mode)).with_context(cannot)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Self::Unix { socket, _path: own }
            }
        })
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Unix { socket, .. } => socket.recv(buffer),
        }
    }
}

/// Removes a socket that somebody left behind, and nothing else.
fn make_room(path: &Path) -> anyhow::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match socket.connect(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // What is no socket refuses in the same way. (unix(7).)
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_socket(path) => {
            fs::remove_file(path).context("what was left behind there cannot be removed")
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            bail!("there is something that is no socket ({error})")
        }
        Err(error) => Err(anyhow!(error)),
        Ok(()) => bail!("somebody else listens there"),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// One line in words.
fn text(datagram: &[u8], read: &Result<Event<'_>, ReadError>) -> String {
    let event = match read {
        Ok(event) => event,
        Err(error) => {
            let shown = &datagram[..datagram.len().min(SHOWN)];
            return format!(
                "no event: {error}: \"{}\" ({} bytes)\n",
                Escaped(shown),
                datagram.len()
            );
        }
    };
    let mut line = Escaped(&event.name).to_string();
    for Param { name, value } in &event.params {
        line.push(' ');
        if let Some(name) = name {
            line.push_str(&format!("{}=", Escaped(name)));
        }
        match value {
            Value::Int(number) => line.push_str(&number.to_string()),
            Value::Str(text) => line.push_str(&format!("\"{}\"", Escaped(text))),
            Value::Null => line.push_str("null"),
        }
    }
    line + "\n"
}

/// The same for tools. What is no UTF-8 has replacement characters.
fn json(datagram: &[u8], read: &Result<Event<'_>, ReadError>) -> String {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = match read {
        Ok(event) => {
            let params = event.params.iter().map(|Param { name, value }| {
                let value = match value {
                    Value::Int(number) => json!(number),
                    Value::Str(text) => json!(words(text)),
                    Value::Null => json!(null),
                };
                json!({ "name": name.as_ref().map(|name| words(name)), "value": value })
            });
            let params: Vec<_> = params.collect();
            let is_json = datagram.starts_with(b"{");
            let form = if is_json { "jsonrpc" } else { "text" };
            json!({ "event": words(&event.name), "form": form, "params": params, "bytes": datagram.len() })
        }
        Err(error) => json!({ "error": error.to_string(), "bytes": datagram.len() }),
    };
    value.to_string() + "\n"
}

/// More than any datagram has.
const BUFFER_LEN: usize = 1 << 16;

/// How late a signal is noticed at most.
const PATIENCE: Duration = Duration::from_millis(100);

/// Long before the subscriptions end, and soon enough for a server that was started anew.
const RENEW: Duration = Duration::from_secs(30);

/// Bytes of what is no event.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use binrush_engine::event::read::read;

    #[test]
    fn both_forms_are_shown_alike_and_no_byte_commands_a_terminal() {
        let plain = b"E_X\nip::192.168.2.11\n\"a\n\x1b[2J\"\n\n";
        let line = text(plain, &read(plain));
        assert_eq!(line, "E_X ip=\"192.168.2.11\" \"a\\n\\u{1b}[2J\"\n");
        let rpc = br#"{"jsonrpc":"2.0","method":"E_X","params":{"n":-5,"s":null}}"#;
        assert_eq!(text(rpc, &read(rpc)), "E_X n=-5 s=null\n");
        assert_eq!(
            json(rpc, &read(rpc)),
            "{\"bytes\":59,\"event\":\"E_X\",\"form\":\"jsonrpc\",\"params\":[{\"name\":\"n\",\"value\":-5},{\"name\":\"s\",\"value\":null}]}\n"
        );
        let wrong = b"\x1bno event";
        assert!(text(wrong, &read(wrong)).starts_with("no event: the name of an event"));
        assert!(json(wrong, &read(wrong)).starts_with("{\"bytes\":9,\"error\":"));
    }

    #[test]
    fn what_was_left_behind_is_replaced_and_nothing_else_is() {
        let folder = Folder::new();
        let path = folder.path().join("e.sock");
        let socket = EventSocket::Unix(path.clone());
        drop(UnixDatagram::bind(&path).unwrap());
        let ours = Socket::bind(&socket, 0o640).unwrap_or_else(|error| panic!("{error:#}"));
        let error = |socket: &EventSocket| match Socket::bind(socket, 0o640) {
            Ok(_) => panic!("it is taken"),
            Err(error) => format!("{error:#}"),
        };
        assert!(error(&socket).contains("somebody else listens there"));
        let rights = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(rights & 0o777, 0o640);
        drop(ours);
        assert!(!path.exists(), "it goes with its owner");
        fs::write(&path, "a file").unwrap();
        assert!(error(&socket).contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }

    #[test]
    fn what_somebody_else_subscribed_to_is_left_to_him_unless_it_ends_soon() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.ours.insert("E_OURS".to_owned());
        let ours = |event, found| subscriptions.is_ours_to_make(event, found);
        assert!(ours("E_X", None) && ours("E_OURS", Some(Some(3570))));
        assert!(!ours("E_X", Some(Some(3570))) && ours("E_X", Some(Some(40))));
        // A server that was started anew has it from its configuration.
        assert!(!ours("E_X", Some(None)) && !ours("E_OURS", Some(None)));
    }

    #[test]
    fn each_event_is_read_in_the_form_that_the_server_said() {
        let old = ["E_OLD".to_owned()].into();
        let subscriptions = Subscriptions {
            old,
            ..Subscriptions::default()
        };
        assert!(subscriptions.is_old(b"E_OLD\na::b\n\n"));
        assert!(!subscriptions.is_old(b"E_NEW\na::E_OLD\n\n") && !subscriptions.is_old(b""));
    }

    #[test]
    fn rights_are_octal() {
        assert_eq!(mode("660"), Ok(0o660));
        for wrong in ["", "8", "1000", "-1", "rw"] {
            assert!(mode(wrong).unwrap_err().contains("octal"), "{wrong}");
        }
    }
}
