//! One address: a socket for each shard, one for those who are not welcome, and what the kernel dropped there.
//!
//! ```text
//!                            ┌─▶ socket 0 ─▶ shard 0
//!  datagram ─▶ classic BPF ──┼─▶ socket 1 ─▶ shard 1      by the key of its record
//!              of the group  └─▶ quarantine: a filter drops all; the kernel's count there is the acl count
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use binrush_net::{DropCounter, RcvbufWarning, UdpError, UdpOptions, UdpSocket};

use super::error::StartError;
use super::estate::{Estate, Group, Member};
use crate::access::Access;
use crate::shard::desk::ListenerId;
use crate::steering::{Steering, program, source_filter};
use crate::telemetry::snapshot::{KernelDrops, ListenerCounts};

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    /// As asked for, maybe with port 0: by this a reload finds it again.
    pub(super) asked: SocketAddr,
    pub(super) addr: SocketAddr,
    /// One for each shard, in order; empty once closed.
    sockets: Vec<Counted>,
    quarantine: Option<Counted>,
    pub(super) rcvbuf: usize,
    pub(super) rcvbuf_warning: Option<RcvbufWarning>,
    drops: KernelDrops,
    /// Another engine opened it for datagrams: what the kernel drops was dropped by a running listener.
    is_adopted: bool,
}

#[derive(Debug)]
struct Counted {
    socket: Arc<UdpSocket>,
    drops: DropCounter,
}

/// What the sockets of a listener ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketOptions {
    pub(super) rcvbuf: usize,
    pub(super) gro: bool,
}

impl Listener {
    /// Binds the group. Nothing is received before [`open`](Self::open).
    pub(super) fn bind(
        id: ListenerId,
        asked: SocketAddr,
        options: SocketOptions,
        steering: &Steering,
        access: &Access,
    ) -> Result<Self, StartError> {
        let count = usize::from(steering.shards()) + 1;
        let group = UdpSocket::bind_group(asked, count, &options.of_sockets());
        let group = group.map_err(|error| StartError::of_socket(asked, error))?;
        let group = group.into_iter().map(|socket| (socket, None)).collect();
        let listener = Self::over(id, asked, group)?;
        listener.steer(steering, access)?;
        Ok(listener)
    }

    /// Goes on with the sockets of `estate` for this address, or binds.
    pub(super) fn take(
        estate: &mut Estate,
        id: ListenerId,
        asked: SocketAddr,
        options: SocketOptions,
        steering: &Steering,
        access: &Access,
    ) -> Result<Self, StartError> {
        if let Some(group) = estate.take_group(asked) {
            return Self::adopt(id, asked, group, options, steering, access);
        }
        let Some(alone) = estate.take_alone(asked) else {
            return Self::bind(id, asked, options, steering, access);
        };
        let count = usize::from(steering.shards()) + 1;
        let group = UdpSocket::group_around(alone.socket, count, &options.of_sockets());
        let (group, discarded) = group.map_err(|error| StartError::of_socket(asked, error))?;
        let group = group.into_iter().map(|socket| (socket, None)).collect();
        let mut listener = Self::over(id, asked, group)?;
        listener.drops.starting = discarded;
        listener.steer(steering, access)?;
        Ok(listener)
    }

    /// Goes on with the sockets of another engine.
    pub(super) fn adopt(
        id: ListenerId,
        asked: SocketAddr,
        group: Group,
        options: SocketOptions,
        steering: &Steering,
        access: &Access,
    ) -> Result<Self, StartError> {
        let shards = group.members.len().saturating_sub(1);
        if shards != usize::from(steering.shards()) {
            return Err(StartError::OtherShards {
                addr: asked,
                found: shards,
                wanted: steering.shards(),
            });
        }
        let of_socket = |error| StartError::of_socket(asked, error);
        let (sockets, drops): (Vec<_>, Vec<_>) = group
            .members
            .into_iter()
            .map(|Member { socket, drops }| (socket, drops))
            .unzip();
        let sockets = UdpSocket::adopt_group(sockets, &options.of_sockets()).map_err(of_socket)?;
        let sockets = sockets.into_iter().zip(drops).map(|(socket, drops)| {
            let drops = match drops {
                Some(drops) => drops,
                None => socket.drops()?,
            };
            Ok((socket, Some(drops)))
        });
        let sockets = sockets.collect::<io::Result<_>>();
        let sockets =
            sockets.map_err(|error| StartError::of_call(asked, "getsockopt(SO_MEMINFO)", error))?;
        let mut listener = Self::over(id, asked, sockets)?;
        listener.is_adopted = true;
        if let Some(quarantine) = &listener.quarantine {
            // It is, unless somebody meddled.
            let shut = quarantine.socket.keep_shut();
            shut.map_err(|error| {
                StartError::of_call(asked, "setsockopt(SO_ATTACH_FILTER)", error)
            })?;
        }
        listener.steer(steering, access)?;
        Ok(listener)
    }

    /// Over the sockets of a group, each with the count of drops up to which somebody else told them.
    fn over(
        id: ListenerId,
        asked: SocketAddr,
        mut group: Vec<(UdpSocket, Option<u32>)>,
    ) -> Result<Self, StartError> {
        let of_socket = |error| StartError::of_socket(asked, error);
        let failed = |call| move |error| of_socket(UdpError { call, error });
        let (mut quarantine, told) = group.pop().expect("one more than there are shards");
        // A merged train dropped by a filter would count as one.
        quarantine
            .set_gro(false)
            .map_err(failed("setsockopt(UDP_GRO)"))?;
        let sockets = group.into_iter();
        let sockets: Vec<Counted> = sockets
            .map(|(socket, told)| Counted::new(socket, told))
            .collect();
        let first = &sockets[0].socket;
        let addr = first.local_addr().map_err(failed("getsockname"))?;
        let rcvbuf = first.rcvbuf().map_err(failed("getsockopt(SO_RCVBUF)"))?;
        Ok(Self {
            id,
            asked,
            addr,
            rcvbuf,
            rcvbuf_warning: first.rcvbuf_warning(),
            sockets,
            quarantine: Some(Counted::new(quarantine, told)),
            drops: KernelDrops::default(),
            is_adopted: false,
        })
    }

    /// Decides anew which datagram goes where; the kernel swaps the whole program at once.
    pub(super) fn steer(&self, steering: &Steering, access: &Access) -> Result<(), StartError> {
        let addr = self.asked;
        let program = program(steering, access, addr.is_ipv6())
            .map_err(|error| StartError::Access { addr, error })?;
        let Some(first) = self.sockets.first() else {
            return Ok(());
        };
        first.socket.attach_steering(&program).map_err(|error| {
            StartError::of_call(addr, "setsockopt(SO_ATTACH_REUSEPORT_CBPF)", error)
        })
    }

    /// Lets datagrams of `access` in; what came since the sockets were bound is counted as such.
    pub(super) fn open(&mut self, access: &Access) -> Result<(), StartError> {
        let addr = self.asked;
        self.admit(access)?;
        let read = if self.is_adopted {
            self.read()
        } else {
            self.read_starting()
        };
        read.map_err(|error| StartError::of_call(addr, "getsockopt(SO_MEMINFO)", error))
    }

    /// Sets the filters of the shards' sockets.
    ///
    /// At an address of its own, nothing comes to them that the steering program did not send there. At the
    /// wildcard address the kernel copies broadcasts and multicasts to every socket of a group and asks no program:
    /// there each socket looks at the source once more. What it drops is in the count of full buffers, and
    /// in that of the quarantine, which gets its copy too.
    pub(super) fn admit(&self, access: &Access) -> Result<(), StartError> {
        let addr = self.asked;
        let filter = if addr.ip().is_unspecified() && !access.is_any() {
            let filter = source_filter(access, addr.is_ipv6());
            Some(filter.map_err(|error| StartError::Access { addr, error })?)
        } else {
            None
        };
        for socket in self.sockets() {
            let done = match &filter {
                Some(filter) => socket.attach_filter(filter),
                None => socket.detach_filter(),
            };
            done.map_err(|error| StartError::of_call(addr, "setsockopt(SO_ATTACH_FILTER)", error))?;
        }
        Ok(())
    }

    fn read_starting(&mut self) -> io::Result<()> {
        // What is dropped between opening and reading was dropped by a full buffer, an instant after the start.
        self.read_as(|drops| &mut drops.starting)?;
        self.drops.starting += std::mem::take(&mut self.drops.acl);
        Ok(())
    }

    /// References to all of its sockets, for another engine.
    pub(super) fn group(&self) -> io::Result<Group> {
        let members = self.sockets.iter().chain(&self.quarantine).map(|each| {
            Ok(Member {
                socket: each.socket.as_fd().try_clone_to_owned()?,
                drops: Some(each.drops.last()),
            })
        });
        Ok(Group {
            asked: self.asked,
            addr: self.addr,
            members: members.collect::<io::Result<_>>()?,
        })
    }

    /// A reference to one of its sockets, for who sends from there.
    pub(super) fn sender(&self) -> Option<io::Result<OwnedFd>> {
        let first = self.sockets.first()?;
        Some(first.socket.as_fd().try_clone_to_owned())
    }

    /// Says in `group`, which is this one's, up to where drops are counted here.
    pub(super) fn tell_drops(&self, group: &mut Group) {
        let sockets = self.sockets.iter().chain(&self.quarantine);
        for (member, each) in group.members.iter_mut().zip(sockets) {
            member.drops = Some(each.drops.last());
        }
    }

    /// The sockets, by shard.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Arc<UdpSocket>> {
        self.sockets.iter().map(|each| &each.socket)
    }

    /// Takes the kernel's counts over.
    pub(super) fn read(&mut self) -> io::Result<()> {
        self.read_as(|drops| &mut drops.buffer)
    }

    /// As [`read`](Self::read), once arrivals are shut off: what was dropped since belongs to the stop.
    pub(super) fn read_stopped(&mut self) -> io::Result<()> {
        self.read_as(|drops| &mut drops.stopping)
    }

    fn read_as(&mut self, column: impl Fn(&mut KernelDrops) -> &mut u64) -> io::Result<()> {
        for each in &mut self.sockets {
            let drops = each.read()?;
            *column(&mut self.drops) += drops;
            if each.socket.gro() {
                self.drops.maybe_trains += drops;
            }
        }
        if let Some(quarantine) = &mut self.quarantine {
            self.drops.acl += quarantine.read()?;
        }
        Ok(())
    }

    /// Takes all sockets out of the kernel's tables, with what is queued still in them; once arrivals are shut off.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        let quarantine = self.quarantine.iter();
        let all = self.sockets.iter().chain(quarantine);
        all.map(|each| each.socket.leave())
            .fold(Ok(()), io::Result::and)
    }

    /// Bytes that queued datagrams take, over all sockets.
    pub(super) fn queued_bytes(&self) -> io::Result<u64> {
        self.sockets().map(|socket| socket.queued_bytes()).sum()
    }

    /// Closes the sockets; `left` bytes of kernel memory were not received.
    pub(super) fn close(&mut self, left: u64) {
        self.drops.left_in_queue_bytes = left;
        self.sockets.clear();
        self.quarantine = None;
    }

    /// What was queued when it was closed is not lost: a shard will still receive it.
    pub(super) fn leave_queue_to_shards(&mut self) {
        self.drops.left_in_queue_bytes = 0;
    }

    pub(super) const fn is_open(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Adds the counts of another listener, both closed.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.drops.add(other.drops);
    }

    pub(super) fn counts(&self) -> ListenerCounts {
        ListenerCounts {
            id: self.id.0,
            addr: self.addr,
            open: self.is_open(),
            kernel: self.drops,
        }
    }
}

impl SocketOptions {
    fn of_sockets(self) -> UdpOptions {
        UdpOptions {
            rcvbuf: Some(self.rcvbuf),
            gro: self.gro,
        }
    }
}

impl Counted {
    /// Of which somebody else told the drops up to `told`.
    fn new(socket: UdpSocket, told: Option<u32>) -> Self {
        Self {
            socket: Arc::new(socket),
            drops: told.map_or_else(DropCounter::default, DropCounter::after),
        }
    }

    /// Drops since the last reading.
    fn read(&mut self) -> io::Result<u64> {
        let before = self.drops.total();
        Ok(self.drops.advance(self.socket.drops()?) - before)
    }
}
