//! Packets to messages: each is used up to its last byte, and no count is believed before its elements can be there.
//!
//! A packet is read by the numbers of the release that its sender is known, or assumed, to be, and by the other ones where
//! those do not fit: an assumption that is wrong shall not lose what is right. (OpenSIPS `modules/clusterer/topology.c`
//! `handle_*`, `clusterer.c` `handle_cap_update`, `handle_cl_*`, `sync.c` `handle_sync_*`.)

use binrush_wire::{
    Chunks, ErrorKind, Fields, Generation, Packet, Release, Result as Wire, Trailer, WireError,
};

use super::numbers::Numbering;
use super::{
    CAPABILITIES_MAX, Description, Extra, Internal, Kind, NodeCapabilities, PARAMETERS_MAX,
    PATH_MAX, Stamp, Sync, TopologyNode,
};
use crate::cluster::config::NODES_MAX;
use crate::dispatch::handler::Verdict;

/// What a routed packet of the cluster's own carries.
#[derive(Debug, Clone)]
pub enum Routed<'a> {
    /// A message, in memory of its own.
    Message(Extra),
    /// Records, where they lie in the packet. Its chunks are not looked at yet: who cuts them meets what is wrong there.
    Sync(Sync<'a>),
}

/// The message between neighbours that a `clusterer-internal` packet is: its cluster, the node that made it, and what it
/// says. Of any release, since no two of these messages can be taken for each other.
///
/// A value that is not 0 counts as yes where a genuine node takes it so; a link is up unless its state is 1, a capability
/// is synced only if its state is 1.
///
/// # Errors
/// [`Verdict::UnknownCommand`], [`Verdict::UnknownVersion`] for a packet of an older generation, and [`Verdict::Field`]
/// with the first field that is wrong.
pub fn internal(packet: &Packet<'_>) -> Result<(i32, i32, Internal), Verdict> {
    if packet.generation() != Generation::Modern {
        return Err(Verdict::UnknownVersion);
    }
    let kind = Kind::internal(packet.command()).ok_or(Verdict::UnknownCommand)?;
    internal_fields(kind, packet.fields()).map_err(Verdict::Field)
}

/// The message that a `clusterer-extra` packet is, and its trailer: by the numbers of `release`, else by those that fit.
///
/// # Errors
/// [`Verdict::UnknownCommand`]; [`Verdict::UnknownVersion`] for a packet of an older generation, or of a sync that is
/// laid out in a way that is not known (1: chunks without sizes, 2.4.0 to 2.4.6); and [`Verdict::Field`] with the first
/// field that is wrong, as `release` has it.
pub fn extra<'a>(
    packet: &Packet<'a>,
    release: Option<Release>,
) -> Result<(Trailer, Routed<'a>), Verdict> {
    if packet.generation() != Generation::Modern {
        return Err(Verdict::UnknownVersion);
    }
    let mut fields = packet.fields();
    let trailer = fields.pop_trailer().map_err(Verdict::Field)?;
    let likely = release
        .and_then(Numbering::of)
        .unwrap_or(Numbering::Since3_2);
    let routed = match routed(likely, packet, fields.clone()) {
        Ok(routed) => routed,
        Err(refused) => match routed(likely.other(), packet, fields) {
            Ok(routed) => routed,
            Err(other) => return Err(nearer(refused, other)),
        },
    };
    Ok((trailer, routed))
}

/// Of two reasons the one that tells more of the packet; the first one if both do.
fn nearer(first: Verdict, second: Verdict) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::UnknownCommand => 0,
        Verdict::UnknownVersion => 1,
        _ => 2,
    };
    if rank(&second) > rank(&first) {
        second
    } else {
        first
    }
}

fn internal_fields(kind: Kind, mut fields: Fields<'_>) -> Wire<(i32, i32, Internal)> {
    let (cluster, source) = (fields.pop_int()?, fields.pop_int()?);
    Ok((cluster, source, internal_of(kind, fields)?))
}

fn internal_of(kind: Kind, mut fields: Fields<'_>) -> Wire<Internal> {
    let message = match kind {
        Kind::Ping => Internal::Ping {
            list: fields.pop_int()? != 0,
        },
        Kind::Pong => Internal::Pong {
            nodes: ids(&mut fields, NODES_MAX)?,
        },
        Kind::LinkUpdate => Internal::LinkUpdate {
            stamp: stamp(&mut fields)?,
            neighbour: fields.pop_int()?,
            up: fields.pop_int()? != LINK_DOWN,
            path: ids(&mut fields, PATH_MAX)?,
        },
        Kind::FullTopology => Internal::FullTopology {
            stamp: stamp(&mut fields)?,
            nodes: counted(&mut fields, NODES_MAX, TOPOLOGY_NODE_LEN, topology_node)?,
            path: ids(&mut fields, PATH_MAX)?,
        },
        Kind::Description => Internal::Description {
            description: description(&mut fields)?,
            path: ids(&mut fields, PATH_MAX)?,
        },
        Kind::Capabilities => return capabilities(&fields),
        // The only kind of them that is left.
        _ => Internal::UnknownId,
    };
    finished(&fields)?;
    Ok(message)
}

/// A CAP_UPDATE with a stamp, or else one without.
///
/// One about no node at all, which nobody sends, has the bytes of one without a stamp about a node that has nothing: then
/// it is that.
fn capabilities(fields: &Fields<'_>) -> Wire<Internal> {
    let stamped = capabilities_of(fields.clone(), true);
    if let Ok((message, 1..)) = stamped {
        return Ok(message);
    }
    match (stamped, capabilities_of(fields.clone(), false)) {
        (_, Ok((message, _))) | (Ok((message, _)), Err(_)) => Ok(message),
        (Err(stamped), Err(plain)) if stamped.at >= plain.at => Err(stamped),
        (Err(_), Err(plain)) => Err(plain),
    }
}

/// The message, and how many nodes it is about.
fn capabilities_of(mut fields: Fields<'_>, stamped: bool) -> Wire<(Internal, usize)> {
    let stamp = match stamped {
        true => Some(stamp(&mut fields)?),
        false => None,
    };
    let nodes = counted(&mut fields, NODES_MAX, NODE_CAPABILITIES_LEN, |fields| {
        Ok(NodeCapabilities {
            id: fields.pop_int()?,
            capabilities: counted(fields, CAPABILITIES_MAX, CAPABILITY_LEN, |fields| {
                Ok((fields.pop_str()?.to_vec(), fields.pop_int()? == SYNCED))
            })?,
        })
    })?;
    let require_reply = fields.pop_int()? != 0;
    let path = ids(&mut fields, PATH_MAX)?;
    finished(&fields)?;
    let count = nodes.len();
    let message = Internal::Capabilities {
        stamp,
        nodes,
        require_reply,
        path,
    };
    Ok((message, count))
}

fn routed<'a>(
    numbering: Numbering,
    packet: &Packet<'a>,
    mut fields: Fields<'a>,
) -> Result<Routed<'a>, Verdict> {
    let kind = numbering.extra(packet.command());
    let kind = kind.ok_or(Verdict::UnknownCommand)?;
    let version = packet.version().unwrap_or(0);
    if !known_version(numbering, kind, version) {
        return Err(Verdict::UnknownVersion);
    }
    if kind == Kind::Sync {
        return sync(fields).map(Routed::Sync).map_err(Verdict::Field);
    }
    let message = extra_of(kind, version, &mut fields);
    let message = message.and_then(|message| finished(&fields).map(|()| message));
    message.map(Routed::Message).map_err(Verdict::Field)
}

/// Whether a header version goes with a kind. Genuine nodes look at it in SYNC and SYNC_END only; the others are looked
/// at where a number means something else in another release.
const fn known_version(numbering: Numbering, kind: Kind, version: i16) -> bool {
    match (numbering, kind) {
        (Numbering::Since3_2, Kind::SyncRequest | Kind::Sync | Kind::SyncEnd) => {
            matches!(version, 2 | 3)
        }
        (Numbering::Until3_1, Kind::Sync) => version == 2,
        (Numbering::Until3_1, Kind::SyncEnd) => matches!(version, 1 | 2),
        (Numbering::Until3_1, Kind::TagActive) => version == 1,
        _ => true,
    }
}

fn extra_of(kind: Kind, version: i16, fields: &mut Fields<'_>) -> Wire<Extra> {
    Ok(match kind {
        Kind::RemoveNode => Extra::RemoveNode {
            node: fields.pop_int()?,
        },
        Kind::Generic => Extra::Generic {
            is_request: is_request(fields)?,
            tag: fields.pop_str()?.to_vec(),
            message: fields.pop_str()?.to_vec(),
        },
        Kind::MiCommand => Extra::MiCommand {
            command: fields.pop_str()?.to_vec(),
            parameters: counted(fields, PARAMETERS_MAX, PARAMETER_LEN, |fields| {
                Ok(fields.pop_str()?.to_vec())
            })?,
        },
        Kind::SyncRequest => Extra::SyncRequest {
            capability: fields.pop_str()?.to_vec(),
        },
        Kind::SyncEnd => Extra::SyncEnd {
            capability: fields.pop_str()?.to_vec(),
            total: match version {
                3 => Some(total(fields)?),
                _ => None,
            },
        },
        // The only kind of them that is left: records are not read here.
        _ => Extra::TagActive {
            tag: fields.pop_str()?.to_vec(),
        },
    })
}

fn sync(mut fields: Fields<'_>) -> Wire<Sync<'_>> {
    Ok(Sync {
        capability: fields.pop_str()?,
        data_version: fields.pop_int()?,
        chunks: Chunks::new(fields),
    })
}

/// Only 0 and 1 occur, which tells the message from a command without parameters that once had the same number.
fn is_request(fields: &mut Fields<'_>) -> Wire<bool> {
    let at = fields.offset();
    match fields.pop_int()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(WireError {
            kind: ErrorKind::Variant,
            at,
            need: 1,
            have: i64::from(other),
        }),
    }
}

fn total(fields: &mut Fields<'_>) -> Wire<u32> {
    let at = fields.offset();
    let claimed = fields.pop_int()?;
    u32::try_from(claimed).map_err(|_| {
        let max = i32::MAX as usize;
        WireError::claimed(ErrorKind::CountLimit, at, i64::from(claimed), max)
    })
}

fn topology_node(fields: &mut Fields<'_>) -> Wire<TopologyNode> {
    Ok(TopologyNode {
        id: fields.pop_int()?,
        description: match fields.pop_int()? {
            0 => None,
            _ => Some(description(fields)?),
        },
        stamp: stamp(fields)?,
        neighbours: ids(fields, NODES_MAX)?,
    })
}

fn description(fields: &mut Fields<'_>) -> Wire<Description> {
    Ok(Description {
        url: fields.pop_str()?.to_vec(),
        sip_addr: fields.pop_str()?.to_vec(),
        priority: fields.pop_int()?,
        retries: fields.pop_int()?,
    })
}

fn stamp(fields: &mut Fields<'_>) -> Wire<Stamp> {
    Ok(Stamp {
        seq: fields.pop_int()?,
        timestamp: fields.pop_int()?,
    })
}

fn ids(fields: &mut Fields<'_>, max: usize) -> Wire<Vec<i32>> {
    counted(fields, max, ID_LEN, |fields| fields.pop_int())
}

/// A count, and that many elements of at least `element_len` bytes each: checked against its own limit and against the
/// bytes that are left before anything is allocated (rule R3 of [`binrush_wire`]).
fn counted<T>(
    fields: &mut Fields<'_>,
    max: usize,
    element_len: usize,
    each: impl Fn(&mut Fields<'_>) -> Wire<T>,
) -> Wire<Vec<T>> {
    let at = fields.offset();
    let claimed = fields.pop_int()?;
    let wrong = |kind, have| WireError::claimed(kind, at, i64::from(claimed), have);
    let count = usize::try_from(claimed).ok().filter(|&count| count <= max);
    let count = count.ok_or_else(|| wrong(ErrorKind::CountLimit, max))?;
    let room = fields.rest().len() / element_len;
    if count > room {
        return Err(wrong(ErrorKind::CountPastEnd, room));
    }
    (0..count).map(|_| each(fields)).collect()
}

fn finished(fields: &Fields<'_>) -> Wire<()> {
    match fields.rest().len() {
        0 => Ok(()),
        left => Err(WireError::new(
            ErrorKind::Leftover,
            fields.offset(),
            0,
            left,
        )),
    }
}

/// What LS_UPDATE says of a link that went down; every other value means up (`handle_ls_update`).
pub(super) const LINK_DOWN: i32 = 1;

/// What CAP_UPDATE says of a capability that is synced.
pub(super) const SYNCED: i32 = 1;

/// Bytes that each element takes at least.
const ID_LEN: usize = 4;
const TOPOLOGY_NODE_LEN: usize = 5 * 4;
const NODE_CAPABILITIES_LEN: usize = 2 * 4;
const CAPABILITY_LEN: usize = 2 + 4;
const PARAMETER_LEN: usize = 2;
