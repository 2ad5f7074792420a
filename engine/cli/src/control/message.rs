//! What is asked at the control socket, and what is answered: a line of JSON each.
//!
//! ```text
//! {"ask":"clusters"}                                          {"version":1,"clusters":[...]}
//! {"ask":"clusters","cluster":1}                              {"version":1,"error":"this process is in no cluster 1"}
//! {"ask":"peers"}                                             {"version":1,"peers":{...}}
//! {"ask":"sync","cluster":1,"capability":"dialog-dlg-repl"}   {"version":1,"done":true}
//! {"ask":"tables"}                                            {"version":1,"tables":[...]}
//! {"ask":"commands"}                                          {"version":1,"commands":[...]}
//! {"ask":"run","command":"counter_reset","params":["ul"]}     {"version":1,"reply":{"code":200,"text":"200 OK\n","tree":{...}}}
//! {"ask":"handover","language":1}                             see `serve/handover.rs`
//! {"ask":"event_subscribe","event":"E_X","socket":"/s"}      {"version":1,"subscribed":"added"}
//! {"ask":"subscribers_list"}                                  {"version":1,"subscribers":[...]}
//! {"ask":"events_list"}                                       {"version":1,"events":[...]}
//! {"ask":"raise_event","event":"E_X","params":[["a",1]]}     {"version":1,"raised":2,"routes":1}
//! {"ask":"records","table":"1/dialog-dlg-repl"}               {"version":1,"page":{"records":[...],"next":{...},...}}
//! ```

use std::io;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::commands::{Command, Reply};
use super::facts::Cluster;
use super::records::{Page, Question, Table};
use crate::line;
use crate::text::Harmless;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// What is known of all clusters, or of one.
    Clusters {
        /// Its id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<i32>,
    },
    /// Who is connected, and to whom we are.
    Peers {},
    /// Ask a donor for all records of a capability.
    Sync {
        /// In this cluster.
        cluster: i32,
        /// Its name.
        capability: String,
    },
    /// Which tables of records there are.
    Tables {},
    /// Records of one of them.
    Records(Question),
    /// Tell an event to a socket.
    EventSubscribe(Subscribe),
    /// Who is told of what.
    SubscribersList(SubscribersList),
    /// Which events there are.
    EventsList {},
    /// Raise one.
    RaiseEvent(RaiseEvent),
    /// Which commands modules have.
    Commands {},
    /// Run one of them.
    Run {
        /// Its name.
        command: String,
        /// What it is given.
        #[serde(default)]
        params: Vec<String>,
    },
    /// Give up the sockets to who asks: what is said behind this is of another language, see `serve/handover.rs`.
    Handover {
        /// Its version.
        language: u32,
    },
}

/// A subscription, as by MI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscribe {
    /// The event.
    pub(crate) event: String,
    /// Where to.
    pub(crate) socket: String,
    /// Seconds; 0 ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expire: Option<u32>,
    /// How it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<String>,
}

/// Which subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscribersList {
    /// Only of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RaiseEvent {
    /// Its name.
    pub(crate) event: String,
    /// In order, with a name or without: numbers, texts, null.
    #[serde(default)]
    pub(crate) params: Vec<(Option<String>, Value)>,
}

/// Who was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Raised {
    /// Subscribers.
    pub(crate) raised: u64,
    /// Routes of the server's own script.
    #[serde(default)]
    pub(crate) routes: u64,
}

/// What it comes to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Clusters(Vec<Cluster>),
    Peers(Value),
    Done(bool),
    Tables(Vec<Table>),
    Page(Page<Box<RawValue>>),
    Subscribed(&'static str),
    Subscribers(Value),
    Events(Value),
    Commands(Vec<Command>),
    Reply(Reply),
    Error(String),
    #[serde(untagged)]
    Raised(Raised),
}

/// Around every answer. The version changes when a key changes its meaning or goes; new ones may come without.
#[derive(Serialize)]
struct Versioned<'a> {
    version: u32,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// Bytes up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    len_max: usize,
}

impl Request {
    /// As it is sent, with its line feed.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("numbers and texts are JSON");
        line.push(b'\n');
        line
    }

    /// Reads a line, or says what is wrong with it.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line)
            .map_err(|error| format!("the question is not understood: {error}"))
    }
}

impl Answer {
    /// As it is sent, with its line feed: [`ANSWER_LEN_MAX`] bytes at most.
    pub(super) fn line(&self) -> Vec<u8> {
        self.line_within(ANSWER_LEN_MAX).unwrap_or_else(|| {
            let text = "the answer would be too long: ask for one cluster at a time (--cluster ID)";
            let short = Self::Error(text.to_owned()).line_within(usize::MAX);
            short.expect("nothing is too long for no limit")
        })
    }

    /// `None`: it is longer. What is longer is never in memory as a whole.
    fn line_within(&self, len_max: usize) -> Option<Vec<u8>> {
        let mut line = Bounded {
            bytes: Vec::new(),
            len_max,
        };
        let versioned = Versioned {
            version: VERSION,
            answer: self,
        };
        line::write(&mut line, &versioned).ok()?;
        Some(line.bytes)
    }
}

/// What an answer has beside its version.
///
/// # Errors
/// The server's own, in its words; or the answer is of another version, or no answer.
pub(super) fn read(line: &[u8]) -> anyhow::Result<Map<String, Value>> {
    let answer: Map<String, Value> =
        serde_json::from_slice(line).context("what came is no answer of a control socket")?;
    match answer.get("version").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => bail!(
            "the server answers in version {version} of its language, and this command knows version {VERSION}\n  \
             use the `binrush` that the server was started with"
        ),
        None => bail!("what came is no answer of a control socket: it has no version"),
    }
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{}", Harmless(error));
    }
    Ok(answer)
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.len_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of a question, its line feed included.
pub(super) const REQUEST_LEN_MAX: usize = 4 << 10;

/// Bytes of an answer, its line feed included. A cluster of 128 nodes that all know each other takes a tenth of it, and a page of
/// records is made to fit.
pub(super) const ANSWER_LEN_MAX: usize = 4 << 20;

/// The language that both ends speak.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::cluster::config::{CLUSTERS_MAX, NODES_MAX};
    use binrush_engine::cluster::facts::{ClusterFacts, NodeFacts};

    use crate::control::records::Position;
    use crate::state::Search;

    /// A full cluster in which all nodes are neighbours.
    fn full() -> Cluster {
        let ids: Vec<i32> = (0..).map(|id| i32::MAX - id).take(NODES_MAX).collect();
        let node = |id: &i32| NodeFacts {
            id: *id,
            url: "bins:[fd00:1111:2222:3333:4444:5555:6666:7777]:65535".into(),
            sip_addr: "sip:[fd00:1111:2222:3333:4444:5555:6666:7777]:5060".into(),
            neighbours: ids.clone(),
            capabilities: vec![("usrloc-contact-repl".into(), true); 5],
            ..NodeFacts::default()
        };
        (&ClusterFacts {
            nodes: ids.iter().map(node).collect(),
            ..ClusterFacts::default()
        })
            .into()
    }

    #[test]
    fn questions_are_read_as_they_were_written() {
        for (request, line) in [
            (Request::Clusters { cluster: None }, r#"{"ask":"clusters"}"#),
            (
                Request::Clusters { cluster: Some(7) },
                r#"{"ask":"clusters","cluster":7}"#,
            ),
            (Request::Peers {}, r#"{"ask":"peers"}"#),
            (
                Request::Sync {
                    cluster: 1,
                    capability: "a\"b".into(),
                },
                r#"{"ask":"sync","cluster":1,"capability":"a\"b"}"#,
            ),
            (Request::Tables {}, r#"{"ask":"tables"}"#),
            (
                Request::Records(Question {
                    table: "1/x".into(),
                    from: Position {
                        shard: 1,
                        place: 2,
                        skip: 3,
                    },
                    search: Search {
                        aor: Some("alice".into()),
                        ..Search::default()
                    },
                    count: false,
                }),
                r#"{"ask":"records","table":"1/x","from":{"shard":1,"place":2,"skip":3},"search":{"aor":"alice"},"count":false}"#,
            ),
        ] {
            assert_eq!(request.line(), format!("{line}\n").into_bytes());
            assert_eq!(Request::read(&request.line()), Ok(request));
        }
    }

    #[test]
    fn what_is_no_question_is_told_why() {
        for (line, why) in [
            ("", "EOF while parsing"),
            ("{}", "missing field `ask`"),
            (r#"{"ask":"stop"}"#, "unknown variant `stop`"),
            (
                r#"{"ask":"sync","cluster":1}"#,
                "missing field `capability`",
            ),
            (r#"{"ask":"clusters","cluster":"1"}"#, "invalid type"),
            (
                r#"{"ask":"clusters","cluster":2147483648}"#,
                "invalid value",
            ),
            (r#"{"ask":"clusters","node":1}"#, "unknown field `node`"),
            (r#"{"ask":"records","tabel":"x"}"#, "unknown field `tabel`"),
            (r#"{"ask":"records","from":{"shard":-1}}"#, "invalid value"),
            (r#"{"ask":"peers"} {"#, "trailing characters"),
        ] {
            let said = Request::read(line.as_bytes()).unwrap_err();
            assert!(
                said.starts_with("the question is not understood: ") && said.contains(why),
                "{line}: {said}"
            );
        }
    }

    #[test]
    fn every_answer_has_its_version_and_one_thing() {
        for (answer, line) in [
            (Answer::Clusters(vec![]), r#"{"version":1,"clusters":[]}"#),
            (Answer::Done(true), r#"{"version":1,"done":true}"#),
            (Answer::Tables(vec![]), r#"{"version":1,"tables":[]}"#),
            (
                Answer::Page(Page {
                    records: vec![RawValue::from_string(r#"{"kind":"aor"}"#.into()).unwrap()],
                    ..Page::default()
                }),
                r#"{"version":1,"page":{"at":0,"records":[{"kind":"aor"}],"counts":{},"left_out":0,"next":null}}"#,
            ),
            (
                Answer::Peers(serde_json::json!({ "links": [] })),
                r#"{"version":1,"peers":{"links":[]}}"#,
            ),
            (
                Answer::Error("no\n\u{9b}".into()),
                r#"{"version":1,"error":"no\n\u009b"}"#,
            ),
        ] {
            assert_eq!(answer.line(), format!("{line}\n").into_bytes());
        }
    }

    #[test]
    fn the_largest_cluster_has_room_in_an_answer_and_too_many_of_them_are_refused() {
        let one = Answer::Clusters(vec![full()]).line();
        assert!(one.len() < ANSWER_LEN_MAX / 5, "{}", one.len());
        assert!(read(&one).is_ok());
        let all = Answer::Clusters(vec![full(); CLUSTERS_MAX]).line();
        let error = read(&all).unwrap_err().to_string();
        assert!(error.contains("--cluster ID"), "{error}");
    }

    #[test]
    fn an_answer_of_another_version_or_none_is_not_taken() {
        for (line, why) in [
            (
                r#"{"version":2,"clusters":[]}"#,
                "in version 2 of its language",
            ),
            (r#"{"clusters":[]}"#, "it has no version"),
            (r#"{"version":1,"error":"a\u001bb"}"#, r"a\u{1b}b"),
            ("HTTP/1.1 400", "no answer of a control socket"),
        ] {
            let error = read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
