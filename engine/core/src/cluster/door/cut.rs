//! SYNC packets to parts: each chunk to the owner of its record.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;

use binrush_wire::chunk::CHUNK_HEADER_LEN;
use binrush_wire::{Chunk, MAX_PACKET_LEN, Packet, Result as Wire, Trailer, schema};

use crate::cluster::gate::part::Part;
use crate::cluster::message::Sync;
use crate::cluster::roster::RosterCluster;
use crate::cluster::session::Session;
use crate::dispatch::handler::{Context, Refusal, ShardId, Verdict};

/// Cuts SYNC packets, in memory that it keeps.
#[derive(Default)]
pub(super) struct Cutter {
    /// Of one packet: whose chunk, and where it lies, with its header.
    chunks: Vec<(ShardId, Range<usize>)>,
    /// Room for one part; none before the first.
    buffer: Vec<u8>,
}

impl Cutter {
    /// Sends the chunks of `sync`, which `packet` is, to the gates of their owners.
    ///
    /// A part is shorter than what it was cut out of, whose capability it has in its header. What comes before a chunk that
    /// is broken is sent on; behind it nothing can be found.
    pub(super) fn cut(
        &mut self,
        context: &mut Context<'_>,
        cluster: &RosterCluster,
        trailer: Trailer,
        sync: &Sync<'_>,
        packet: &Packet<'_>,
    ) -> Result<(), Verdict> {
        let session = session_of(cluster, trailer, sync.capability)
            .ok_or(Verdict::Refused(Refusal::UnexpectedSync))?;
        let door = &session.door;
        door.packets.fetch_add(1, Ordering::Relaxed);
        if !keeps_connection(session, context.connection()) {
            door.broken.store(true, Ordering::Release);
        }
        let cut = self.cut_for(context, trailer, sync, packet, session);
        cut.inspect_err(|_| door.broken.store(true, Ordering::Release))
    }

    fn cut_for(
        &mut self,
        context: &mut Context<'_>,
        trailer: Trailer,
        sync: &Sync<'_>,
        packet: &Packet<'_>,
        session: &Session,
    ) -> Result<(), Verdict> {
        let data_version = i16::try_from(sync.data_version).map_err(|_| Verdict::UnknownVersion)?;
        let mut broken = None;
        self.chunks.clear();
        for chunk in sync.chunks.clone() {
            match chunk {
                Ok(chunk) => {
                    let owner = owner_of(context, sync, &chunk);
                    let place = chunk.at - CHUNK_HEADER_LEN..chunk.at + chunk.data.len();
                    self.chunks.push((owner, place));
                }
                Err(error) => broken = Some(Verdict::Field(error)),
            }
        }
        for owner in 0..context.owners() {
            let owner = ShardId(owner);
            let part = self.part(owner, trailer, sync, data_version, packet, session);
            match part.map_err(Verdict::Field)? {
                None => {}
                // Counted before they are sent: no gate can have applied what was not cut.
                Some((part, chunks)) => {
                    session.door.cut.fetch_add(chunks, Ordering::Release);
                    if !context.pass_on(owner, part) {
                        return Err(Verdict::Refused(Refusal::Busy));
                    }
                }
            }
        }
        broken.map_or(Ok(()), Err)
    }

    /// The part for `owner`, and how many chunks it has; `None`: there is nothing for him.
    fn part(
        &mut self,
        owner: ShardId,
        trailer: Trailer,
        sync: &Sync<'_>,
        data_version: i16,
        packet: &Packet<'_>,
        session: &Session,
    ) -> Wire<Option<(&[u8], u64)>> {
        let mut his = self.chunks.iter().filter(|(of, _)| *of == owner).peekable();
        if his.peek().is_none() {
            return Ok(None);
        }
        self.buffer.resize(MAX_PACKET_LEN, 0);
        let mut part = Part::begin(&mut self.buffer, sync.capability, data_version, session.id)?;
        let mut chunks = 0;
        for (_, place) in his {
            part.append(&packet.bytes()[place.clone()])?;
            chunks += 1;
        }
        Ok(Some((Part::end(part, trailer)?, chunks)))
    }
}

/// The sync of ours that the packet may belong to: of this capability, from this donor, and all gates are prepared.
fn session_of<'c>(
    cluster: &'c RosterCluster,
    trailer: Trailer,
    capability: &[u8],
) -> Option<&'c Session> {
    let mut sessions = cluster.sessions.iter();
    let session = sessions.find(|session| {
        session.capability.as_bytes() == capability
            && session.donor == trailer.source
            && session.is_held()
    })?;
    Some(session)
}

/// Whether this packet came by the same connection as those of the session before it.
fn keeps_connection(session: &Session, connection: Option<u64>) -> bool {
    let number = connection.unwrap_or(0);
    let first = &session.door.connection;
    let before = first.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
    number != 0 && before.map_or_else(|before| before == number, |_| true)
}

/// Whose record a chunk is about: as for a live packet, the owner of its key, or of the capability's name.
fn owner_of(context: &Context<'_>, sync: &Sync<'_>, chunk: &Chunk<'_>) -> ShardId {
    match schema::chunk_key(sync.capability, sync.data_version, chunk) {
        Ok(Some(key)) => context.owner_of_key(key),
        Ok(None) | Err(_) => context.owner_of_key(sync.capability),
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter")
            .field("buffer", &self.buffer.len())
            .finish_non_exhaustive()
    }
}
