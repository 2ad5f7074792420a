//! Messages to packets, as the release of the receiver has them. What would not fit, or would not be taken, is refused.

use std::fmt;

use binrush_wire::{
    Builder, ErrorKind, Generation, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Release, Result as Wire,
    Trailer, WireError,
};

use super::decode::{LINK_DOWN, SYNCED};
use super::numbers::{command, sync_version, unknown_to_receiver};
use super::{
    CAPABILITIES_MAX, Description, EXTRA, Extra, INTERNAL, Internal, Kind, NodeCapabilities,
    PARAMETERS_MAX, PATH_MAX, Stamp, TopologyNode,
};
use crate::cluster::config::NODES_MAX;

/// Writes packets into a buffer of its own: what it gives is valid until the next one.
///
/// All methods answer a whole packet of generation 2.3+, header and trailer included, little-endian as the wire has it.
pub struct Writer {
    buffer: Box<[u8]>,
}

impl Writer {
    /// A writer with room for the largest packet, 64 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![0; MAX_PACKET_LEN].into_boxed_slice(),
        }
    }

    /// A message between neighbours, from node `source` of `cluster` (the node that made it, also where it is flooded on).
    ///
    /// # Errors
    /// [`ErrorKind::Variant`]: `release` has no such message, or no such form of it (a CAP_UPDATE without a stamp from 3.3
    /// on); up to 3.0 a stamp that is there is left out. [`ErrorKind::CountLimit`], [`ErrorKind::StringTooLong`],
    /// [`ErrorKind::DoesNotFit`]: no receiver would take it.
    pub fn internal(
        &mut self,
        release: Release,
        cluster: i32,
        source: i32,
        message: &Internal,
    ) -> Wire<&[u8]> {
        let command = command(release, message.kind())?;
        let mut builder = self.start(release, INTERNAL.as_bytes(), command, VERSION)?;
        builder.push_int(cluster)?;
        builder.push_int(source)?;
        push_internal(&mut builder, release, message)?;
        Ok(builder.finish())
    }

    /// A message to one node.
    ///
    /// # Errors
    /// [`ErrorKind::Variant`]: `release` has no such message (REMOVE_NODE before 3.2, SHTAG_ACTIVE before 3.0, a SYNC_END
    /// without the number of chunks from 3.3 on; up to 3.2 that is left out). Others as for [`internal`](Self::internal).
    pub fn extra(&mut self, release: Release, trailer: Trailer, message: &Extra) -> Wire<&[u8]> {
        let command = command(release, message.kind())?;
        let version = match message {
            Extra::SyncRequest { .. } | Extra::SyncEnd { .. } => sync_version(release),
            _ => VERSION,
        };
        let mut builder = self.start(release, EXTRA.as_bytes(), command, version)?;
        push_extra(&mut builder, release, message)?;
        builder.push_trailer(trailer)?;
        Ok(builder.finish())
    }

    /// Records of `capability`: `chunks` is what [`Slice::chunks`](crate::cluster::outbox::Slice::chunks) has, chunk
    /// headers and chunks one behind the other, and at most as long as [`sync_overhead`](Self::sync_overhead) leaves.
    ///
    /// # Errors
    /// As for [`extra`](Self::extra).
    pub fn sync(
        &mut self,
        release: Release,
        trailer: Trailer,
        capability: &[u8],
        data_version: i32,
        chunks: &[u8],
    ) -> Wire<&[u8]> {
        let command = command(release, Kind::Sync)?;
        let version = sync_version(release);
        let mut builder = self.start(release, EXTRA.as_bytes(), command, version)?;
        builder.push_str(capability)?;
        builder.push_int(data_version)?;
        builder.append(chunks)?;
        builder.push_trailer(trailer)?;
        Ok(builder.finish())
    }

    /// A packet of a module: `name` is its capability, `fields` are encoded already.
    ///
    /// # Errors
    /// [`ErrorKind::StringTooLong`], [`ErrorKind::DoesNotFit`].
    pub fn module(
        &mut self,
        trailer: Trailer,
        name: &[u8],
        command: i32,
        version: i16,
        fields: &[u8],
    ) -> Wire<&[u8]> {
        let mut builder =
            Builder::new(Generation::Modern, &mut self.buffer, name, command, version)?;
        builder.append(fields)?;
        builder.push_trailer(trailer)?;
        Ok(builder.finish())
    }

    /// Bytes of a SYNC packet that are not chunks: header, name, `capability`, data version and trailer.
    #[must_use]
    pub const fn sync_overhead(capability: &[u8]) -> usize {
        let header = Generation::Modern.header_len() + STR_LEN + EXTRA.len() + INT_LEN;
        header + STR_LEN + capability.len() + INT_LEN + 3 * INT_LEN
    }

    fn start(
        &mut self,
        release: Release,
        name: &[u8],
        command: i32,
        version: i16,
    ) -> Wire<Builder<'_>> {
        let limit = if release >= Release::V4_0 {
            MAX_PACKET_LEN_4_0
        } else {
            MAX_PACKET_LEN
        };
        let generation = Generation::Modern;
        Builder::with_limit(generation, &mut self.buffer, name, command, version, limit)
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

fn push_internal(builder: &mut Builder<'_>, release: Release, message: &Internal) -> Wire<()> {
    match message {
        Internal::Ping { list } => builder.push_int(i32::from(*list)),
        Internal::Pong { nodes } => push_ids(builder, nodes, NODES_MAX),
        Internal::LinkUpdate {
            stamp,
            neighbour,
            up,
            path,
        } => {
            push_stamp(builder, *stamp)?;
            builder.push_int(*neighbour)?;
            builder.push_int(if *up { 0 } else { LINK_DOWN })?;
            push_ids(builder, path, PATH_MAX)
        }
        Internal::FullTopology { stamp, nodes, path } => {
            push_stamp(builder, *stamp)?;
            push_counted(builder, nodes, NODES_MAX, push_topology_node)?;
            push_ids(builder, path, PATH_MAX)
        }
        Internal::UnknownId => Ok(()),
        Internal::Description { description, path } => {
            push_description(builder, description)?;
            push_ids(builder, path, PATH_MAX)
        }
        Internal::Capabilities {
            stamp,
            nodes,
            require_reply,
            path,
        } => {
            if let Some(stamp) = stamp_toward(release, *stamp)? {
                push_stamp(builder, stamp)?;
            }
            push_counted(builder, nodes, NODES_MAX, push_node_capabilities)?;
            builder.push_int(i32::from(*require_reply))?;
            push_ids(builder, path, PATH_MAX)
        }
    }
}

/// The stamp that a CAP_UPDATE has toward `release`; point releases of 3.1 and 3.2 have it or do not.
fn stamp_toward(release: Release, stamp: Option<Stamp>) -> Wire<Option<Stamp>> {
    if release <= Release::V3_0 {
        Ok(None)
    } else if stamp.is_some() || release <= Release::V3_2 {
        Ok(stamp)
    } else {
        Err(unknown_to_receiver(Kind::Capabilities))
    }
}

fn push_extra(builder: &mut Builder<'_>, release: Release, message: &Extra) -> Wire<()> {
    match message {
        Extra::RemoveNode { node } => builder.push_int(*node),
        Extra::Generic {
            is_request,
            tag,
            message,
        } => {
            builder.push_int(i32::from(*is_request))?;
            builder.push_str(tag)?;
            builder.push_str(message)
        }
        Extra::MiCommand {
            command,
            parameters,
        } => {
            builder.push_str(command)?;
            push_counted(builder, parameters, PARAMETERS_MAX, |builder, parameter| {
                builder.push_str(parameter)
            })
        }
        Extra::SyncRequest { capability } => builder.push_str(capability),
        Extra::SyncEnd { capability, total } => {
            builder.push_str(capability)?;
            if sync_version(release) < 3 {
                return Ok(());
            }
            let total = total.ok_or_else(|| unknown_to_receiver(Kind::SyncEnd))?;
            push_count(builder, total as usize, i32::MAX as usize)
        }
        Extra::TagActive { tag } => builder.push_str(tag),
    }
}

fn push_topology_node(builder: &mut Builder<'_>, node: &TopologyNode) -> Wire<()> {
    builder.push_int(node.id)?;
    builder.push_int(i32::from(node.description.is_some()))?;
    if let Some(description) = &node.description {
        push_description(builder, description)?;
    }
    push_stamp(builder, node.stamp)?;
    push_ids(builder, &node.neighbours, NODES_MAX)
}

fn push_node_capabilities(builder: &mut Builder<'_>, node: &NodeCapabilities) -> Wire<()> {
    builder.push_int(node.id)?;
    let capabilities = &node.capabilities;
    push_counted(
        builder,
        capabilities,
        CAPABILITIES_MAX,
        |builder, (name, synced)| {
            builder.push_str(name)?;
            builder.push_int(if *synced { SYNCED } else { 0 })
        },
    )
}

fn push_description(builder: &mut Builder<'_>, description: &Description) -> Wire<()> {
    builder.push_str(&description.url)?;
    builder.push_str(&description.sip_addr)?;
    builder.push_int(description.priority)?;
    builder.push_int(description.retries)
}

fn push_stamp(builder: &mut Builder<'_>, stamp: Stamp) -> Wire<()> {
    builder.push_int(stamp.seq)?;
    builder.push_int(stamp.timestamp)
}

fn push_ids(builder: &mut Builder<'_>, ids: &[i32], max: usize) -> Wire<()> {
    push_counted(builder, ids, max, |builder, id| builder.push_int(*id))
}

/// How many there are, then each: refused above what a reader takes.
fn push_counted<T>(
    builder: &mut Builder<'_>,
    elements: &[T],
    max: usize,
    each: impl Fn(&mut Builder<'_>, &T) -> Wire<()>,
) -> Wire<()> {
    push_count(builder, elements.len(), max)?;
    elements
        .iter()
        .try_for_each(|element| each(builder, element))
}

fn push_count(builder: &mut Builder<'_>, count: usize, max: usize) -> Wire<()> {
    match i32::try_from(count) {
        Ok(int) if count <= max => builder.push_int(int),
        _ => Err(WireError::new(
            ErrorKind::CountLimit,
            builder.len(),
            count,
            max,
        )),
    }
}

/// The header version of everything but syncs (`BIN_VERSION` of `modules/clusterer/clusterer.h`).
const VERSION: i16 = 1;

const STR_LEN: usize = 2;
const INT_LEN: usize = 4;
