//! In which order a genuine node took what came to it.

use std::collections::BTreeMap;

use binrush_engine::Timestamp;
use binrush_engine::cluster::message::{Internal, Kind, Stamp};

use crate::cluster::record::{Message, Recorded};

/// An update: who made it, of what kind, and its number.
type Update = (i32, &'static str, i32, i32);

/// The packets of node `me`, in the order in which it took them.
///
/// A flooded update comes by several connections at nearly the same time, each of which another process of a genuine node
/// reads. Which copy was taken shows in the path of what the node passed on; if it passed nothing on, it took the first one
/// that had been with all its neighbours already. The other copies come right behind that one.
pub(super) fn as_taken(packets: &[Recorded], me: i32) -> Vec<Recorded> {
    let mut mine: Vec<_> = packets
        .iter()
        .filter(|packet| packet.from == me || packet.to == me)
        .cloned()
        .collect();
    let taken = taken(&mine, me);
    for packet in mine.iter_mut().filter(|packet| packet.to == me) {
        if let Some((update, path)) = flooded(&packet.message)
            && let Some((at, taken)) = taken.get(&update)
            && path != taken
            && at.nanos_since(packet.at) < RACE_NS
        {
            packet.at = packet.at.max(at.after(1));
        }
    }
    mine.sort_by_key(|packet| packet.at);
    mine
}

/// Of each update the copy that was taken: when it came, and its path.
fn taken(mine: &[Recorded], me: i32) -> BTreeMap<Update, (Timestamp, Vec<i32>)> {
    let mut passed_on = BTreeMap::new();
    for packet in mine.iter().filter(|packet| packet.from == me) {
        if let Some((update, [path @ .., _])) = flooded(&packet.message) {
            passed_on.insert(update, path.to_vec());
        }
    }
    let mut taken: BTreeMap<Update, (Timestamp, Vec<i32>)> = BTreeMap::new();
    let mut neighbours = vec![];
    for packet in mine {
        let Some((update, path)) = flooded(&packet.message) else {
            continue;
        };
        if packet.from == me {
            // A link is up from the FULL_TOP_UPDATE on that greets it.
            if update.0 == me && update.1 == Kind::FullTopology.symbol() {
                neighbours.push(packet.to);
            }
            continue;
        }
        let is_taken = match passed_on.get(&update) {
            Some(passed_on) => passed_on == path,
            None => neighbours.iter().all(|neighbour| path.contains(neighbour)),
        };
        if is_taken {
            let taken = taken.entry(update);
            taken.or_insert_with(|| (packet.at, path.to_vec()));
        }
    }
    taken
}

/// A numbered update, and the nodes that it went through.
fn flooded(message: &Message) -> Option<(Update, &[i32])> {
    let Message::Internal { source, message } = message else {
        return None;
    };
    let (Stamp { seq, timestamp }, path) = match message {
        Internal::LinkUpdate { stamp, path, .. } | Internal::FullTopology { stamp, path, .. } => {
            (*stamp, path)
        }
        Internal::Capabilities { stamp, path, .. } => ((*stamp)?, path),
        _ => return None,
    };
    Some(((*source, message.kind().symbol(), seq, timestamp), path))
}

/// How far apart copies may come that race.
const RACE_NS: u64 = 50_000_000;
