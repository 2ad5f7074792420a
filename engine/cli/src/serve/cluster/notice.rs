//! What happens in clusters, in words and for machines, for a log that cannot be flooded.

use std::time::{Duration, Instant};

use binrush_engine::cluster::outbox::Event;
use binrush_engine::cluster::replica::Withheld;
use binrush_engine::cluster::session::SyncEnd;
use serde_json::{Value, json};

use crate::text::{Harmless, counted};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::serve) struct Notice {
    /// Without anything that could command a terminal, whoever said it.
    pub(in crate::serve) text: String,
    pub(in crate::serve) json: Value,
}

/// Tells some of what other nodes can cause, and how many it left out. What happens to us, nodes up and down, syncs, is
/// bounded by what they are, and told in any case.
#[derive(Debug, Default)]
pub(super) struct NoticeLog {
    /// When the second began in which `told` counts.
    since: Option<Instant>,
    kinds: [Told; KINDS.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// In this second.
    told: u32,
    /// In this second, and not told.
    left_out: u64,
    /// Not told since the start.
    all_left_out: u64,
}

/// What other nodes can cause as often as they like, by its place in [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Generic,
    NotExecuted,
    Tag,
    Warning,
}

impl NoticeLog {
    /// Whether one more of `kind` is to be told at `now`; counted if not.
    pub(super) fn has_room(&mut self, kind: Kind) -> bool {
        let told = &mut self.kinds[kind as usize];
        let has_room = told.told < TOLD_MAX;
        match has_room {
            true => told.told += 1,
            false => told.leave_out(1),
        }
        has_room
    }

    /// Counts what was lost on the way here.
    pub(super) fn missed(&mut self, kind: Kind, count: u64) {
        self.kinds[kind as usize].leave_out(count);
    }

    /// How many were left out, once a second has passed.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Notice> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < SECOND {
            return Vec::new();
        }
        self.since = Some(now);
        let mut due = Vec::new();
        for (told, (symbol, unit)) in self.kinds.iter_mut().zip(KINDS) {
            if told.left_out > 0 {
                due.push(Notice {
                    text: format!("clusters: left out {}", counted(told.left_out, unit)),
                    json: json!({ "kind": symbol, "left_out": told.left_out }),
                });
            }
            (told.told, told.left_out) = (0, 0);
        }
        due
    }

    /// What was left out since the start.
    pub(super) fn left_out(&self) -> Vec<(&'static str, u64)> {
        let all = self.kinds.iter().zip(KINDS);
        all.map(|(told, (symbol, _))| (symbol, told.all_left_out))
            .collect()
    }
}

impl Told {
    fn leave_out(&mut self, count: u64) {
        self.left_out += count;
        self.all_left_out += count;
    }
}

impl Kind {
    /// `None`: not often, whoever is in the cluster.
    pub(super) const fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Node { .. }
            | Event::Learned { .. }
            | Event::Capability { .. }
            | Event::SyncDone { .. }
            | Event::Donated { .. } => None,
            Event::Tag { .. } => Some(Self::Tag),
            Event::Generic { .. } => Some(Self::Generic),
            Event::NotExecuted { .. } => Some(Self::NotExecuted),
            _ => Some(Self::Warning),
        }
    }
}

impl Notice {
    /// What a door or a link has to say, in no cluster.
    pub(super) fn warning(text: &str) -> Self {
        Self {
            text: format!("warning: {}", Harmless(&cut(text.as_bytes(), WARNING_MAX))),
            json: json!({ "kind": "warning" }),
        }
    }

    pub(super) fn of(event: &Event) -> Self {
        let (cluster, text, mut json) = told(event);
        json["cluster"] = json!(cluster);
        // Around all of it: names come from other nodes too.
        let text = format!("cluster {cluster}: {}", Harmless(&text));
        Self { text, json }
    }
}

/// The cluster, what happened in it in words, and in JSON.
fn told(event: &Event) -> (i32, String, Value) {
    match event {
        Event::Node { cluster, node, up } => (
            *cluster,
            format!("node {node} is {}", if *up { "up" } else { "down" }),
            json!({ "kind": "node", "node": node, "up": up }),
        ),
        Event::Learned { cluster, node } => (
            *cluster,
            format!("node {node} has introduced itself"),
            json!({ "kind": "learned", "node": node }),
        ),
        Event::Capability {
            cluster,
            capability,
            state,
            why,
        } => (
            *cluster,
            format!("{capability} is {}: {why}", state.symbol()),
            json!({ "kind": "capability", "capability": capability, "state": state.symbol(), "why": why }),
        ),
        Event::SyncDone {
            cluster,
            capability,
            donor,
            end,
            chunks,
        } => {
            let done = matches!(end, SyncEnd::Completed { .. });
            let how = if done { "complete" } else { "given up" };
            let came = counted(*chunks, "chunk");
            (
                *cluster,
                format!("sync of {capability} from node {donor} {how}, {came}"),
                json!({ "kind": "sync", "capability": capability, "donor": donor, "complete": done, "chunks": chunks }),
            )
        }
        Event::Donated {
            cluster,
            capability,
            node,
            chunks,
            complete,
            withheld,
        } => {
            let how = match complete {
                true => "has",
                false => "did not get all of",
            };
            let went = counted(*chunks, "chunk");
            (
                *cluster,
                format!(
                    "node {node} {how} our {capability}, {went}{}",
                    kept_back(withheld)
                ),
                json!({
                    "kind": "donated", "capability": capability, "node": node, "complete": complete, "chunks": chunks,
                    "withheld": crate::control::facts::Withheld::from(withheld),
                }),
            )
        }
        event => told_of_others(event),
    }
}

/// What somebody did not get, and what would change that; nothing where all was given.
fn kept_back(withheld: &Withheld) -> String {
    if withheld.is_nothing() {
        return String::new();
    }
    let parts = [
        (withheld.no_socket, "dialog", "left out for their sockets"),
        (withheld.socketless, "contact", "given without their socket"),
        (
            withheld.provisional,
            "dialog",
            "left out, as only updates told of them",
        ),
    ];
    let parts = parts.iter().filter(|(count, ..)| *count > 0);
    let parts = parts.map(|(count, what, how)| format!("{} {how}", counted(*count, what)));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let sockets = withheld.sockets.iter();
    let sockets = sockets.map(|socket| String::from_utf8_lossy(socket));
    match sockets.collect::<Vec<_>>().join(", ") {
        sockets if sockets.is_empty() => format!("; {parts}"),
        sockets => format!(
            "; {parts} (the target is not known to have {sockets}: socket_map, target_socket)"
        ),
    }
}

/// What other nodes say: cut, because a packet has room for more than a line.
fn told_of_others(event: &Event) -> (i32, String, Value) {
    match event {
        Event::Tag { cluster, tag, node } => {
            let tag = cut(tag.as_bytes(), MESSAGE_MAX);
            (
                *cluster,
                format!("node {node} has the sharing tag {tag}"),
                json!({ "kind": "tag", "tag": tag, "node": node }),
            )
        }
        Event::Generic {
            cluster,
            node,
            is_request,
            tag,
            message,
        } => {
            let does = if *is_request { "asks" } else { "answers" };
            let message = cut(message, MESSAGE_MAX);
            (
                *cluster,
                format!("node {node} {does}: {message}"),
                json!({
                    "kind": "generic",
                    "node": node,
                    "is_request": is_request,
                    "tag": cut(tag, MESSAGE_MAX),
                    "message": message,
                }),
            )
        }
        Event::NotExecuted {
            cluster,
            node,
            what,
        } => {
            let what = cut(what.as_bytes(), WARNING_MAX);
            (
                *cluster,
                format!("node {node} wanted something that is never done: {what}"),
                json!({ "kind": "not_executed", "node": node, "what": what }),
            )
        }
        Event::Warning { cluster, text } => (
            *cluster,
            format!("warning: {}", cut(text.as_bytes(), WARNING_MAX)),
            json!({ "kind": "warning" }),
        ),
        event => (
            0,
            cut(format!("{event:?}").as_bytes(), WARNING_MAX),
            json!({ "kind": "other" }),
        ),
    }
}

/// The first `max` characters. What is behind them is not even looked at, however long it is.
fn cut(text: &[u8], max: usize) -> String {
    let looked_at = &text[..text.len().min(max * char::MAX.len_utf8())];
    let words = String::from_utf8_lossy(looked_at);
    let mut kept: String = words.chars().take(max).collect();
    if kept.len() < words.len() || looked_at.len() < text.len() {
        kept.push_str(" ...");
    }
    kept
}

/// Symbol, and what one is called, in the order of [`Kind`].
const KINDS: [(&str, &str); 4] = [
    ("generic", "script message"),
    ("not_executed", "command"),
    ("tag", "sharing tag"),
    ("warning", "warning"),
];

/// Of each kind in a second.
const TOLD_MAX: u32 = 5;

const SECOND: Duration = Duration::from_secs(1);

/// Characters of what a script says that are shown.
const MESSAGE_MAX: usize = 200;

/// Characters of a sentence of ours, which may quote others.
const WARNING_MAX: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(message: &[u8]) -> Event {
        Event::Generic {
            cluster: 1,
            node: 2,
            is_request: true,
            tag: b"t\x1b".to_vec(),
            message: message.to_vec(),
        }
    }

    #[test]
    fn what_a_node_did_not_get_is_told_in_one_line_with_what_to_set() {
        let mut withheld = Withheld::default();
        let given = |withheld: &Withheld| {
            let withheld = withheld.clone();
            let (cluster, capability) = (1, "dialog-dlg-repl".to_owned());
            let (node, chunks, complete) = (2, 9, true);
            Notice::of(&Event::Donated {
                cluster,
                capability,
                node,
                chunks,
                complete,
                withheld,
            })
        };
        let all = "cluster 1: node 2 has our dialog-dlg-repl, 9 chunks";
        assert_eq!(given(&withheld).text, all);
        withheld.provisional = 1;
        let text = given(&withheld).text;
        assert_eq!(
            text,
            format!("{all}; 1 dialog left out, as only updates told of them")
        );
        (withheld.no_socket, withheld.socketless) = (2, 3);
        withheld.lacks(b"udp:vip");
        let notice = given(&withheld);
        assert_eq!(
            notice.text,
            format!(
                "{all}; 2 dialogs left out for their sockets, 3 contacts given without their socket, 1 dialog left out, as \
                 only updates told of them (the target is not known to have udp:vip: socket_map, target_socket)"
            )
        );
        assert_eq!(notice.json["withheld"]["no_socket"], 2);
        assert_eq!(notice.json["withheld"]["sockets"][0], "udp:vip");
    }

    #[test]
    fn nothing_in_a_notice_commands_a_terminal() {
        let evil = "\u{1b}]0;x\u{7}\n\u{9b}2J\u{202e}";
        let events = [
            generic(evil.as_bytes()),
            Event::Tag {
                cluster: 1,
                tag: evil.into(),
                node: 2,
            },
            Event::NotExecuted {
                cluster: 1,
                node: 2,
                what: evil.into(),
            },
            Event::Warning {
                cluster: 1,
                text: evil.into(),
            },
            Event::Capability {
                cluster: 1,
                capability: evil.into(),
                state: Default::default(),
                why: evil.into(),
            },
            Event::SyncDone {
                cluster: 1,
                capability: evil.into(),
                donor: 2,
                end: SyncEnd::Abandoned,
                chunks: 1,
            },
            Event::Donated {
                cluster: 1,
                capability: evil.into(),
                node: 2,
                chunks: 1,
                complete: true,
                withheld: Withheld {
                    no_socket: 1,
                    sockets: vec![evil.as_bytes().into()],
                    ..Withheld::default()
                },
            },
        ];
        let notices = events.iter().map(Notice::of);
        for Notice { text, json } in notices.chain([Notice::warning(evil)]) {
            let harmless = text.chars().all(|c| !c.is_control() && c != '\u{202e}');
            assert!(harmless && text.contains(r"\u{1b}"), "{text:?} {json}");
        }
        let quoted = Notice::of(&generic(b"say \"it's\"")).text;
        assert_eq!(quoted, "cluster 1: node 2 asks: say \"it's\"");
    }

    #[test]
    fn what_a_script_says_is_cut_in_words_and_in_json() {
        let long = "\u{e4}".repeat(30_000);
        let notice = Notice::of(&generic(long.as_bytes()));
        let kept = "\u{e4}".repeat(MESSAGE_MAX) + " ...";
        assert_eq!(notice.json["message"], kept);
        assert!(notice.text.ends_with(&kept));
        let fits = "\u{10ffff}".repeat(MESSAGE_MAX);
        assert_eq!(cut(fits.as_bytes(), MESSAGE_MAX), fits);
        // Not in the middle of a character, and what is none is shown as such.
        assert_eq!(cut(b"\xff\xffab", 3), "\u{fffd}\u{fffd}a ...");
    }

    #[test]
    fn who_floods_is_told_of_in_part_and_then_by_a_count() {
        let start = Instant::now();
        let mut log = NoticeLog::default();
        assert!(log.due(start).is_empty());
        let told = (0..1000).filter(|_| log.has_room(Kind::Generic)).count();
        assert_eq!(told, TOLD_MAX as usize);
        assert!(log.has_room(Kind::Tag), "each kind has its own room");
        log.missed(Kind::Warning, 3);
        assert!(log.due(start + SECOND / 2).is_empty());
        assert!(!log.has_room(Kind::Generic));
        let due = log.due(start + SECOND);
        let texts: Vec<_> = due.iter().map(|notice| &notice.text[..]).collect();
        assert_eq!(
            texts,
            [
                "clusters: left out 996 script messages",
                "clusters: left out 3 warnings"
            ]
        );
        assert_eq!(due[0].json, json!({ "kind": "generic", "left_out": 996 }));
        assert!(log.has_room(Kind::Generic), "another second");
        assert!(log.due(start + 2 * SECOND).is_empty());
        let all = log.left_out();
        assert_eq!((all[0], all[3]), (("generic", 996), ("warning", 3)));
    }

    #[test]
    fn what_happens_to_us_is_told_in_any_case() {
        let up = Event::Node {
            cluster: 1,
            node: 2,
            up: true,
        };
        assert_eq!(Kind::of(&up), None);
        assert_eq!(Kind::of(&generic(b"")), Some(Kind::Generic));
    }
}
