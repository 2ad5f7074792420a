//! `binrush events`: who is told what, by a server on this host; and what it tells.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use binrush_engine::event::{EXPIRE_DEFAULT, Form, names};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::control::client::{ask, default_path};
use crate::control::message::{RaiseEvent, Raised, Request, Subscribe, SubscribersList};
use crate::text::{Harmless, counted};
use listen::ListenArgs;

/// A reader of datagrams.
mod listen;

/// Subscribe to what happens in a `binrush serve` on this host, raise events, and read them
///
/// All but `listen` ask at the control socket, which modparam("binrush", "control", "/run/binrush/control.sock") opens; events are
/// told once `loadmodule "event_datagram.so"` is in the configuration.
///
/// Example: binrush events listen udp:127.0.0.1:8081 --event E_UL_CONTACT_INSERT
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Subscribe(SubscribeArgs),
    List(ListArgs),
    Raise(RaiseArgs),
    Listen(ListenArgs),
}

/// Have an event told to a socket for some time, or no more
///
/// The same event and socket again begins the time anew. Nobody is told when it is over: subscribe again before.
#[derive(Debug, clap::Args)]
struct SubscribeArgs {
    /// Its name; `binrush events list` has all.
    event: String,

    /// Where to.
    #[arg(value_name = "unix:/PATH|/PATH|udp:ADDRESS:PORT")]
    socket: String,

    /// Seconds until it ends; 0 ends it now.
    #[arg(long, value_name = "SECONDS", default_value_t = EXPIRE_DEFAULT)]
    expire: u32,

    /// How it is written, if not as the server's configuration says.
    #[arg(long, value_name = "text|1.11|jsonrpc")]
    form: Option<Form>,

    #[command(flatten)]
    asking: Asking,
}

/// Show which events there are, and who is told of them
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only who is told of this one.
    event: Option<String>,

    /// Only this subscriber.
    #[arg(value_name = "SOCKET")]
    socket: Option<String>,

    /// What `binrush serve` raises by itself, with all parameters: no server is asked.
    #[arg(long, conflicts_with_all = ["event", "socket", "control"])]
    known: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Raise an event, as a script does
#[derive(Debug, clap::Args)]
struct RaiseArgs {
    /// Its name; a new one is known from then on.
    event: String,

    /// In their order; a number in digits is one, and what has no = is a text without a name.
    #[arg(value_name = "NAME=VALUE|VALUE")]
    params: Vec<String>,

    #[command(flatten)]
    asking: Asking,
}

/// How a server is asked.
#[derive(Debug, clap::Args)]
struct Asking {
    /// Where the server listens [default: $RUNTIME_DIRECTORY/control.sock, or /run/binrush/control.sock].
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Print a line of JSON.
    #[arg(long)]
    json: bool,
}

/// One event of a server's list.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    subscribers: u64,
    #[serde(default)]
    routes: u64,
}

/// One subscriber of it.
#[derive(Debug, Deserialize)]
struct Told {
    socket: String,
    state: String,
    trouble: String,
    sent: u64,
    queued: u64,
    dropped: u64,
    failed: u64,
    unwritable: u64,
    subscriptions: Vec<Subscription>,
}

#[derive(Debug, Deserialize)]
struct Subscription {
    event: String,
    form: String,
    expires_in: Option<u64>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shown = match args.what {
        What::Listen(args) => return listen::run(&args),
        What::Subscribe(args) => args.shown()?,
        What::List(args) => args.shown()?,
        What::Raise(args) => args.shown()?,
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(shown.as_bytes())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl SubscribeArgs {
    fn shown(&self) -> anyhow::Result<String> {
        let request = Request::EventSubscribe(Subscribe {
            event: self.event.clone(),
            socket: self.socket.clone(),
            expire: Some(self.expire),
            form: self.form.map(|form| form.symbol().to_owned()),
        });
        let answer = self.asking.ask(&request)?;
        if self.asking.json {
            return line(&answer);
        }
        let (event, socket) = (Harmless(&self.event), Harmless(&self.socket));
        Ok(match self.expire {
            0 => format!("{event} is not told to {socket} any more\n"),
            seconds => format!("{event} is told to {socket} for {seconds} s\n"),
        })
    }
}

impl ListArgs {
    fn shown(&self) -> anyhow::Result<String> {
        if self.known {
            return known(self.asking.json);
        }
        let request = Request::SubscribersList(SubscribersList {
            event: self.event.clone(),
            socket: self.socket.clone(),
        });
        let mut answer = self.asking.ask(&request)?;
        let wants_all = self.event.is_none();
        if wants_all {
            let mut events = self.asking.ask(&Request::EventsList {})?;
            answer.extend(events.remove_entry("events"));
        }
        if self.asking.json {
            return line(&answer);
        }
        let told = answer.remove("subscribers").unwrap_or_default();
        let told: Vec<Told> = serde_json::from_value(told).context(UNREADABLE)?;
        let events = answer.remove("events").unwrap_or_else(|| json!([]));
        let events: Vec<Listed> = serde_json::from_value(events).context(UNREADABLE)?;
        Ok(text(&events, &told))
    }
}

impl RaiseArgs {
    fn shown(&self) -> anyhow::Result<String> {
        let request = Request::RaiseEvent(RaiseEvent {
            event: self.event.clone(),
            params: self.params.iter().map(|word| param(word)).collect(),
        });
        let answer = self.asking.ask(&request)?;
        if self.asking.json {
            return line(&answer);
        }
        let told: Raised = serde_json::from_value(answer.into()).context(UNREADABLE)?;
        let event = Harmless(&self.event);
        Ok(match (told.raised, told.routes) {
            (0, 0) => format!("{event}: nobody wants it\n"),
            (count, 0) => format!("{event}: told to {}\n", counted(count, "subscriber")),
            (count, routes) => format!(
                "{event}: told to {} and {}\n",
                counted(count, "subscriber"),
                in_words(routes)
            ),
        })
    }
}

/// So many routes.
fn in_words(routes: u64) -> String {
    match routes {
        1 => "a route".to_owned(),
        more => counted(more, "route"),
    }
}

impl Asking {
    fn ask(&self, request: &Request) -> anyhow::Result<Map<String, Value>> {
        match &self.control {
            Some(path) => ask(path, request),
            None => ask(&default_path(), request),
        }
    }
}

/// A parameter as it is typed.
fn param(word: &str) -> (Option<String>, Value) {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => (Some(name.to_owned()), value),
        _ => (None, word),
    };
    let number = value.parse::<i64>().ok();
    // What would not be the same again, such as 007, is a text.
    let number = number.filter(|number| number.to_string() == value);
    (name, number.map_or_else(|| value.into(), Value::from))
}

fn text(events: &[Listed], told: &[Told]) -> String {
    let mut text = String::new();
    for event in events {
        let who = match (event.subscribers, event.routes) {
            (0, 0) => "nobody".to_owned(),
            (0, routes) => in_words(routes),
            (count, 0) => counted(count, "subscriber"),
            (count, routes) => format!("{} and {}", counted(count, "subscriber"), in_words(routes)),
        };
        text.push_str(&format!(
            "{:<32} {who}\n",
            Harmless(&event.name).to_string()
        ));
    }
    for each in told {
        let missed = [
            ("queued", each.queued),
            ("dropped", each.dropped),
            ("failed", each.failed),
            ("unwritable", each.unwritable),
        ];
        let missed: String = missed
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!(", {what} {count}"))
            .collect();
        let state = match (&each.state[..], &each.trouble[..]) {
            ("up", _) | (_, "") => each.state.clone(),
            (state, trouble) => format!("{state} ({})", Harmless(trouble)),
        };
        text.push_str(&format!(
            "{} {state}, sent {}{missed}\n",
            Harmless(&each.socket),
            each.sent
        ));
        for one in &each.subscriptions {
            let until = match one.expires_in {
                Some(seconds) => format!("for {seconds} s"),
                None => "without an end".to_owned(),
            };
            text.push_str(&format!(
                "  {:<30} {} {until}\n",
                Harmless(&one.event).to_string(),
                Harmless(&one.form)
            ));
        }
    }
    match (text.is_empty(), told.is_empty()) {
        (true, _) => "nobody is told\n".to_owned(),
        (false, _) => text,
    }
}

/// All events of our own, with their parameters.
fn known(is_json: bool) -> anyhow::Result<String> {
    if is_json {
        let all = names::KNOWN.iter().map(|known| {
            let params = known.params.iter();
            let params: Vec<_> = params
                .map(|(name, about)| json!({ "name": name, "about": about }))
                .collect();
            json!({ "name": known.name, "about": known.about, "params": params, "params_1_11": known.old })
        });
        return line(&json!({ "events": all.collect::<Vec<_>>() }));
    }
    let mut text = String::new();
    for known in names::KNOWN {
        text.push_str(&format!("{}: {}\n", known.name, known.about));
        for (name, about) in known.params {
            text.push_str(&format!("  {name:<12} {about}\n"));
        }
        if let Some(old) = known.old {
            text.push_str(&format!("  in form 1.11: {}\n", old.join(", ")));
        }
    }
    Ok(text)
}

fn line(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

const UNREADABLE: &str =
    "what the server answers is not understood: use the `binrush` that it was started with";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_typed_as_names_and_values() {
        for (word, name, value) in [
            ("ip=192.168.2.11", Some("ip"), json!("192.168.2.11")),
            ("n=-5", Some("n"), json!(-5)),
            ("n=007", Some("n"), json!("007")),
            ("a=b=c", Some("a"), json!("b=c")),
            ("empty=", Some("empty"), json!("")),
            ("alone", None, json!("alone")),
            ("=x", None, json!("=x")),
            ("7", None, json!(7)),
        ] {
            assert_eq!(param(word), (name.map(str::to_owned), value), "{word}");
        }
    }

    #[test]
    fn a_list_shows_events_and_who_is_told_of_them() {
        let events = [("E_X", 1, 0), ("E_Y", 0, 0), ("E_Z", 0, 1), ("E_W", 2, 2)];
        let events = events.map(|(name, subscribers, routes)| Listed {
            name: name.to_owned(),
            subscribers,
            routes,
        });
        let told = Told {
            socket: "unix:/run/e\u{1b}.sock".to_owned(),
            state: "gone".to_owned(),
            trouble: "No such file or directory (os error 2)".to_owned(),
            sent: 5,
            queued: 2,
            dropped: 0,
            failed: 0,
            unwritable: 1,
            subscriptions: vec![Subscription {
                event: "E_X".to_owned(),
                form: "text".to_owned(),
                expires_in: Some(60),
            }],
        };
        assert_eq!(
            text(&events, &[told]),
            format!(
                "{:<32} 1 subscriber\n{:<32} nobody\n{:<32} a route\n{:<32} 2 subscribers and 2 routes\nunix:/run/e\\u{{1b}}.sock gone (No such file or directory (os error 2)), sent 5, queued 2, \
                 unwritable 1\n  {:<30} text for 60 s\n",
                "E_X", "E_Y", "E_Z", "E_W", "E_X"
            )
        );
        assert_eq!(text(&[], &[]), "nobody is told\n");
    }

    #[test]
    fn all_that_is_raised_here_is_shown_with_its_parameters() {
        let text = known(false).unwrap();
        for known in names::KNOWN {
            assert!(text.contains(known.name));
        }
        assert!(text.contains("\n  aor          the address of record\n  in form 1.11: aor\n"));
        let json: Value = serde_json::from_str(&known(true).unwrap()).unwrap();
        assert_eq!(json["events"].as_array().unwrap().len(), names::KNOWN.len());
    }
}
