//! Events: who is told, what clusters and losses raise, and what is told of it all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use binrush_engine::cluster::facts::{ClusterFacts, CopyState};
use binrush_engine::cluster::outbox::Event as ClusterEvent;
use binrush_engine::cluster::session::SyncEnd;
use binrush_engine::event::{
    Bus, BusSnapshot, EXPIRE_DEFAULT, Expire, Form, Param, Raised, Reach, Subscribed,
    SubscriberSnapshot, TEXTS_LEN_MAX, Value as EventValue, names,
};
use serde_json::{Map, Value, json};

use super::losses::Loss;
use super::ready::More;
use super::settings::Settings;
use crate::control::message::{self, RaiseEvent, Subscribe, SubscribersList};
use crate::text::counted;

/// One whose thread has not started; `None`: `event_datagram` is not loaded, and no route hears of events.
pub(super) fn plan(settings: &Settings) -> anyhow::Result<Option<Bus>> {
    let form = match &settings.events {
        Some(events) => events.form,
        None if settings.script.events().next().is_some() => Form::default(),
        None => return Ok(None),
    };
    let bus = Bus::new(form).context("cannot tell events")?;
    bus.stand_for(settings.node());
    Ok(Some(bus))
}

/// Subscribes those of the configuration, and starts its thread. What cannot be, in words.
pub(super) fn start(bus: &Bus, settings: &Settings) -> anyhow::Result<Vec<String>> {
    let wanted = settings
        .events
        .iter()
        .flat_map(|events| &events.subscriptions);
    let mut warnings = Vec::new();
    for each in wanted {
        let socket = each.socket.to_string();
        // Whoever raises it has not said so yet.
        let subscribed = bus
            .publish(&each.event)
            .map_err(|error| error.to_string())
            .and_then(|_| {
                bus.subscribe(&each.event, &socket, each.expire, each.form)
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = subscribed {
            warnings.push(format!("subscribe_event {} {socket}: {error}", each.event));
        }
    }
    bus.start().context("cannot start the thread of events")?;
    Ok(warnings)
}

/// How many are told, for the line at the start; `None`: nobody can be.
pub(super) fn more(bus: Option<&Bus>) -> More {
    let snapshot = bus.map(Bus::snapshot);
    let words = snapshot.as_ref().map(|snapshot| {
        let subscribers = snapshot.subscribers.len() as u64;
        format!("events to {}", counted(subscribers, "subscriber"))
    });
    let sockets = |snapshot: BusSnapshot| -> Value {
        let subscribers = snapshot.subscribers.into_iter();
        subscribers.map(|each| json!(each.socket)).collect()
    };
    More {
        key: "events",
        words,
        json: snapshot.map_or(Value::Null, sockets),
    }
}

/// Tells what happened in a cluster.
pub(super) fn raise_cluster(bus: &Bus, event: &ClusterEvent) {
    let (id, params) = match event {
        ClusterEvent::Node { cluster, node, up } => (
            names::NODE_STATE_CHANGED,
            vec![
                int("cluster_id", *cluster),
                int("node_id", *node),
                int("new_state", (*up).into()),
            ],
        ),
        ClusterEvent::Generic {
            cluster,
            node,
            is_request,
            tag,
            message,
        } => (
            match is_request {
                true => names::REQ_RECEIVED,
                false => names::RPL_RECEIVED,
            },
            vec![
                int("cluster_id", *cluster),
                int("src_id", *node),
                Param::str("msg", message),
                Param::str("tag", tag),
            ],
        ),
        ClusterEvent::Tag { cluster, tag, node } => {
            // As a genuine node says it. (3.6 `modules/clusterer/sharing_tags.c`, `handle_shtag_active`.)
            let reason = format!("cluster broadcast from {node}");
            let params = [
                Param::str("name", tag.as_bytes()),
                int("cluster", *cluster),
                Param::str("state", b"backup"),
                Param::str("reason", reason.as_bytes()),
            ];
            bus.raise(names::SHARING_TAG_CHANGED, &params);
            return;
        }
        ClusterEvent::SyncDone {
            cluster,
            capability,
            donor,
            end,
            chunks,
        } => (
            names::SYNC_DONE,
            vec![
                int("cluster_id", *cluster),
                Param::str("capability", capability.as_bytes()),
                int("node_id", *donor),
                int("complete", matches!(end, SyncEnd::Completed { .. }).into()),
                Param::int("chunks", i64::try_from(*chunks).unwrap_or(i64::MAX)),
            ],
        ),
        _ => return,
    };
    bus.raise(id, &params);
}

/// Tells of a loss.
pub(super) fn raise_loss(bus: &Bus, loss: &Loss) {
    let count = i64::try_from(loss.count).unwrap_or(i64::MAX);
    let params = [
        Param::str("kind", loss.symbol.as_bytes()),
        Param::int("count", count),
    ];
    bus.raise(names::DROPS, &params);
}

/// Of whose records something was missed, and was told: cluster, capability, node.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeSet<(i32, String, i32)>);

impl Suspects {
    /// Tells of those who were not among them before.
    pub(super) fn heed(&mut self, bus: &Bus, clusters: &[ClusterFacts]) {
        let mut now = BTreeSet::new();
        for cluster in clusters {
            for capability in &cluster.capabilities {
                let peers = capability.peers.iter();
                for peer in peers.filter(|peer| peer.state == CopyState::Suspect) {
                    let whose = (cluster.cluster, capability.name.clone(), peer.node);
                    if !self.0.contains(&whose) {
                        let params = [
                            int("cluster_id", cluster.cluster),
                            Param::str("capability", capability.name.as_bytes()),
                            int("node_id", peer.node),
                            Param::str("reason", peer.why.as_bytes()),
                        ];
                        bus.raise(names::PEER_SUSPECT, &params);
                    }
                    now.insert(whose);
                }
            }
        }
        self.0 = now;
    }
}

/// As `event_subscribe` of MI.
pub(super) fn subscribe(bus: &Bus, asked: &Subscribe) -> Result<&'static str, String> {
    let form = asked.form.as_deref().map(str::parse::<Form>).transpose();
    let form = form.map_err(|error| error.to_string())?;
    let expire = Expire::After(asked.expire.unwrap_or(EXPIRE_DEFAULT));
    let subscribed = bus.subscribe(&asked.event, &asked.socket, expire, form);
    match subscribed.map_err(|error| error.to_string())? {
        Subscribed::Added => Ok("added"),
        Subscribed::Refreshed => Ok("refreshed"),
        Subscribed::Removed => Ok("removed"),
    }
}

/// As `subscribers_list` of MI.
pub(super) fn subscribers(bus: &Bus, asked: &SubscribersList) -> Result<Value, String> {
    let wanted = bus
        .subscriptions(asked.event.as_deref(), asked.socket.as_deref())
        .map_err(|error| error.to_string())?;
    let snapshot = bus.snapshot();
    let all = snapshot.subscribers.iter().filter_map(|each| {
        let of_it = wanted.iter().filter(|one| one.socket == each.socket);
        let subscriptions: Vec<Value> = of_it
            .map(|one| {
                json!({ "event": one.event, "form": one.form.symbol(), "expires_in": one.expires_in })
            })
            .collect();
        let mut all = counts(each);
        all.insert("subscriptions".to_owned(), subscriptions.clone().into());
        (!subscriptions.is_empty()).then_some(Value::Object(all))
    });
    Ok(all.collect())
}

/// As `events_list` of MI.
pub(super) fn events(bus: &Bus) -> Value {
    let all = bus.events().into_iter();
    let shown = all.map(|each| {
        json!({
            "id": each.id, "name": each.name, "subscribers": each.subscribers, "routes": each.listeners,
        })
    });
    shown.collect()
}

/// As `raise_event` of MI; one that nobody knows is published, as by a script. To whom it goes.
pub(super) fn raise(bus: &Bus, asked: &RaiseEvent) -> Result<message::Raised, String> {
    let id = bus
        .publish(&asked.event)
        .map_err(|error| error.to_string())?;
    let params: Vec<Param<'_>> = asked.params.iter().map(param).collect::<Result<_, _>>()?;
    let facts = match bus.raise(id, &params) {
        Raised::Unwanted => None,
        Raised::Dropped => return Err("there is no room for it just now".to_owned()),
        Raised::TooLong => {
            return Err(format!(
                "it is too long: the names and texts of its parameters may have {TEXTS_LEN_MAX} bytes together"
            ));
        }
        Raised::Taken => { bus.events().into_iter() }.find(|each| each.id == id.index()),
    };
    // Who listens in this process are the routes of its script.
    let told = facts.map_or((0, 0), |facts| (facts.subscribers, facts.listeners));
    Ok(message::Raised {
        raised: told.0 as u64,
        routes: told.1 as u64,
    })
}

fn param((name, value): &(Option<String>, Value)) -> Result<Param<'_>, String> {
    let value = match value {
        Value::Null => EventValue::Null,
        Value::String(text) => EventValue::Str(text.as_bytes().into()),
        value => match value.as_i64() {
            Some(number) => EventValue::Int(number),
            None => return Err(format!("a number, a text or null expected, not {value}")),
        },
    };
    let name = name.as_ref().map(|name| name.as_bytes().into());
    Ok(Param { name, value })
}

fn int(name: &'static str, number: i32) -> Param<'static> {
    Param::int(name, number.into())
}

/// One line for all that was raised, and one for each subscriber.
pub(super) fn lines(snapshot: &BusSnapshot) -> Vec<String> {
    let BusSnapshot {
        raised,
        told,
        unclaimed,
        dropped,
        too_long,
        waiting,
        ..
    } = snapshot;
    if *raised == 0 && snapshot.subscribers.is_empty() && snapshot.former.offered == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "events: raised {raised} = told {told} + dropped {dropped}{}{}{}",
        part("unclaimed", *unclaimed),
        part("too long", *too_long),
        part("waiting", *waiting)
    )];
    let former = SubscriberSnapshot {
        socket: "those who left".to_owned(),
        ..snapshot.former.clone()
    };
    let former = (former.offered > 0).then_some(former);
    for each in snapshot.subscribers.iter().chain(&former) {
        lines.push(format!(
            "events to {}: offered {} = sent {}{}{}{}{}",
            each.socket,
            each.offered,
            each.sent,
            part("queued", each.queued),
            part("dropped", each.dropped),
            part("failed", each.failed),
            part("unwritable", each.unwritable),
        ));
    }
    lines
}

fn part(name: &str, count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!(" + {name} {count}"),
    }
}

/// The same for tools.
pub(super) fn json(snapshot: &BusSnapshot) -> Value {
    let subscribers = snapshot.subscribers.iter().map(counts);
    json!({
        "raised": snapshot.raised, "told": snapshot.told, "unclaimed": snapshot.unclaimed, "dropped": snapshot.dropped,
        "too_long": snapshot.too_long, "waiting": snapshot.waiting,
        "subscribers": subscribers.collect::<Vec<_>>(), "former": counts(&snapshot.former), "balanced": snapshot.is_balanced(),
    })
}

fn counts(each: &SubscriberSnapshot) -> Map<String, Value> {
    let all = json!({
        "socket": each.socket, "offered": each.offered, "sent": each.sent, "queued": each.queued, "dropped": each.dropped,
        "failed": each.failed, "unwritable": each.unwritable, "state": each.reach.symbol(), "trouble": each.trouble,
    });
    match all {
        Value::Object(all) => all,
        _ => unreachable!("it is an object"),
    }
}

/// What happens to subscribers: whether they can be reached, and what they did not get; and what was lost before it came to any of
/// them. Each is told of once in [`QUIET`] at most.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Vec<Told>,
    lost: Lost,
    too_long: Lost,
}

#[derive(Debug, Clone, Default)]
struct Told {
    socket: String,
    /// Why not; `Up` also while it is blocked, which is nothing to tell of unless something is lost.
    away: Reach,
    missed: u64,
    at: Option<Instant>,
}

/// Events that did not come to the thread that tells them, for one reason: as far as that was told.
#[derive(Debug, Clone, Default)]
struct Lost {
    count: u64,
    at: Option<Instant>,
}

/// One line of it.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) json: Value,
}

impl News {
    /// What to say at `now`.
    pub(super) fn due(&mut self, now: Instant, snapshot: &BusSnapshot) -> Vec<Notice> {
        let all = &snapshot.subscribers;
        self.told
            .retain(|told| all.iter().any(|each| each.socket == told.socket));
        let mut due = Vec::new();
        for each in all {
            let there = { self.told.iter() }.position(|told| told.socket == each.socket);
            let place = there.unwrap_or_else(|| {
                self.told.push(Told {
                    socket: each.socket.clone(),
                    ..Told::default()
                });
                self.told.len() - 1
            });
            due.extend(self.told[place].due(now, each));
        }
        let why = "lost for all who wanted them, as they came faster than they are told";
        due.extend(self.lost.due(now, snapshot.dropped, why));
        let why = "told to nobody, as they are longer than a datagram can be";
        due.extend(self.too_long.due(now, snapshot.too_long, why));
        due
    }
}

impl Told {
    fn due(&mut self, now: Instant, each: &SubscriberSnapshot) -> Option<Notice> {
        let missed = each.dropped + each.failed + each.unwritable;
        let away = match each.reach {
            Reach::Up | Reach::Blocked => Reach::Up,
            away => away,
        };
        let turned = away != self.away;
        if !turned && missed == self.missed || is_quiet(self.at, now) {
            return None;
        }
        let trouble = &each.trouble;
        let state = match away {
            _ if !turned => String::new(),
            Reach::Up | Reach::Blocked => " is there again".to_owned(),
            Reach::Gone => format!(" is not there: {trouble}"),
            Reach::Denied => format!(
                " is not for this server, which needs the rights to pass the folders and to write to the socket: {trouble}"
            ),
            Reach::Failing => format!(" cannot be reached: {trouble}"),
        };
        let more = missed.saturating_sub(self.missed);
        let lack = match more {
            0 => String::new(),
            more => format!(
                ": {} not told (dropped {}, failed {}, unwritable {} in all)",
                counted(more, "event"),
                each.dropped,
                each.failed,
                each.unwritable
            ),
        };
        (self.away, self.missed, self.at) = (away, missed, Some(now));
        let is_warning = away != Reach::Up || more > 0;
        let warning = if is_warning { "warning: " } else { "" };
        Some(Notice {
            text: format!("{warning}events to {}{state}{lack}", each.socket),
            json: json!({ "socket": each.socket, "state": each.reach.symbol(), "missed": more }),
        })
    }
}

impl Lost {
    fn due(&mut self, now: Instant, count: u64, why: &str) -> Option<Notice> {
        let more = count.saturating_sub(self.count);
        if more == 0 || is_quiet(self.at, now) {
            return None;
        }
        (self.count, self.at) = (count, Some(now));
        let lost = counted(more, "event");
        Some(Notice {
            text: format!("warning: events: {lost} {why} ({count} in all)"),
            json: json!({ "socket": null, "lost": more }),
        })
    }
}

fn is_quiet(told: Option<Instant>, now: Instant) -> bool {
    told.is_some_and(|at| now.saturating_duration_since(at) < QUIET)
}

/// How long a subscriber, or a loss, is not told of again.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
