//! What a route runs for, as functions see it.

use std::cell::{Cell, OnceCell};
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use binrush_wire::{Generation, Packet, Trailer};

use super::Kind;
use super::value::{Short, Value};
use super::variable::Pseudo;
use crate::dispatch::handler::{Origin, ShardId};
use crate::event::Event;

/// What a route runs for: a packet, an event, or nothing but time.
pub struct Scene<'a> {
    kind: Kind,
    shard: ShardId,
    run: RunId,
    /// The packet, and what it came by.
    packet: Option<(&'a Packet<'a>, &'a Origin)>,
    event: Option<&'a Event<'a>>,
    /// The source as text, once it was asked for.
    source: OnceCell<Short>,
    /// Likewise where it arrived.
    local: OnceCell<Short>,
    /// Likewise what stands at the end of the packet.
    trailer: OnceCell<Option<Trailer>>,
}

/// The number of a run: no other run of its thread has it, so it does not leave that.
///
/// For functions that keep something from one call to the next of the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunId {
    number: u64,
    of_thread: PhantomData<*const ()>,
}

impl RunId {
    #[inline]
    fn next() -> Self {
        thread_local! {
            static RUNS: Cell<u64> = const { Cell::new(0) };
        }
        let number = RUNS.get().wrapping_add(1);
        RUNS.set(number);
        Self {
            number,
            of_thread: PhantomData,
        }
    }
}

impl<'a> Scene<'a> {
    /// Nothing came: a startup or a timer route on `shard`.
    #[must_use]
    #[inline]
    pub fn bare(kind: Kind, shard: ShardId) -> Self {
        Self {
            kind,
            shard,
            run: RunId::next(),
            packet: None,
            event: None,
            source: OnceCell::new(),
            local: OnceCell::new(),
            trailer: OnceCell::new(),
        }
    }

    /// `packet` came.
    #[must_use]
    pub fn of_packet(shard: ShardId, origin: &'a Origin, packet: &'a Packet<'a>) -> Self {
        Self {
            packet: Some((packet, origin)),
            ..Self::bare(Kind::Request, shard)
        }
    }

    /// `event` was raised.
    #[must_use]
    pub fn of_event(shard: ShardId, event: &'a Event<'a>) -> Self {
        Self {
            event: Some(event),
            ..Self::bare(Kind::Event, shard)
        }
    }

    /// The kind of the route that was begun with.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it runs; in a startup route, which may run before there are shards, the one that runs timer routes.
    #[must_use]
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// The run that it is for: all calls of one are shown the same scene, and each run has one of its own.
    #[must_use]
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// The packet that came.
    #[must_use]
    pub fn packet(&self) -> Option<&'a Packet<'a>> {
        self.packet.map(|(packet, _)| packet)
    }

    /// What it came by.
    #[must_use]
    pub fn origin(&self) -> Option<&'a Origin> {
        self.packet.map(|(_, origin)| origin)
    }

    /// The event that was raised.
    #[must_use]
    pub const fn event(&self) -> Option<&'a Event<'a>> {
        self.event
    }

    /// What `pseudo` stands for here.
    pub(super) fn value(&self, pseudo: Pseudo) -> Value<'_> {
        let Some((packet, origin)) = self.packet else {
            return Value::Null;
        };
        match pseudo {
            Pseudo::Source => match origin.ends() {
                Some(ends) => shown(&self.source, ends.peer.ip()),
                None => Value::Null,
            },
            Pseudo::SourcePort => match origin.ends() {
                Some(ends) => Value::Int(ends.peer.port().into()),
                None => Value::Null,
            },
            // At an unspecified one datagrams for all addresses of the host arrive: for which, is not asked.
            Pseudo::Local => match local(origin).filter(|local| !local.ip().is_unspecified()) {
                Some(local) => shown(&self.local, local.ip()),
                None => Value::Null,
            },
            Pseudo::LocalPort => match local(origin) {
                Some(local) => Value::Int(local.port().into()),
                None => Value::Null,
            },
            Pseudo::Protocol => Value::Text(match origin {
                Origin::Stream { .. } => b"bin",
                Origin::Datagram(_) | Origin::Process => b"udp",
            }),
            Pseudo::Length => Value::Int(i32::try_from(packet.bytes().len()).unwrap_or(i32::MAX)),
            Pseudo::Bytes => Value::Text(packet.bytes()),
            Pseudo::Name => Value::Text(packet.name()),
            Pseudo::Command => Value::Int(packet.command()),
            Pseudo::Version => match packet.version() {
                Some(version) => Value::Int(version.into()),
                None => Value::Null,
            },
            Pseudo::Node => self.of_trailer(|trailer| trailer.source),
            Pseudo::Cluster => self.of_trailer(|trailer| trailer.cluster),
        }
    }

    fn of_trailer(&self, part: impl Fn(&Trailer) -> i32) -> Value<'_> {
        let read = || self.packet.and_then(|(packet, _)| trailer(packet));
        match self.trailer.get_or_init(read) {
            Some(trailer) => Value::Int(part(trailer)),
            None => Value::Null,
        }
    }
}

impl fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("kind", &self.kind)
            .field("shard", &self.shard)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

fn local(origin: &Origin) -> Option<SocketAddr> {
    origin.ends().and_then(|ends| ends.local)
}

/// An address as text, which stays in `place`.
fn shown(place: &OnceCell<Short>, ip: IpAddr) -> Value<'_> {
    let text = place.get_or_init(|| {
        let mut text = Short::default();
        // The longest address of IPv6 has 45 characters.
        let _ = write!(text, "{ip}");
        text
    });
    Value::Text(text.as_bytes())
}

/// Who made a packet, and in which cluster. Messages about links have that at their beginning (2.4 and later, `clusterer.c`);
/// what was relayed between nodes at the end of all others.
fn trailer(packet: &Packet<'_>) -> Option<Trailer> {
    if packet.generation() != Generation::Modern {
        return None;
    }
    let mut fields = packet.fields();
    if packet.name() == b"clusterer-internal" {
        let (cluster, source) = (fields.pop_int().ok()?, fields.pop_int().ok()?);
        return Some(Trailer::new(cluster, source, 0));
    }
    fields.pop_trailer().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_a_thread_has_a_number_of_its_own() {
        let runs = [Kind::Startup, Kind::Timer, Kind::Timer];
        let runs = runs.map(|kind| Scene::bare(kind, ShardId(0)).run());
        assert!(runs[0] != runs[1] && runs[1] != runs[2] && runs[0] != runs[2]);
        let scene = Scene::bare(Kind::Startup, ShardId(0));
        assert_eq!(scene.run(), scene.run());
    }
}
