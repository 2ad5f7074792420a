//! The socket floor: memory the kernel writes into, and the calls that make it do so. Knows no BIN. Linux only.
//!
//! ```text
//!            ┌── Slab: frames, mapped and touched once ──┐
//!   kernel ──▶ RxQueue::recv ──▶ Batch of descriptors ──▶ the caller reads, then Batch::release
//!            └───────────── frames go back ──────────────┘
//! ```
//!
//! This is the only crate with unsafe code: each block sits in the module that owns the invariant,
//! behind a safe type. Nothing on the packet path allocates after its constructor, but for the network in memory.
//!
//! ```
//! use std::sync::Arc;
//! use binrush_net::{Batch, Bell, OpenQueue, RecvMmsg, RxQueue, Slab, UdpOptions, UdpSocket};
//!
//! let socket = Arc::new(UdpSocket::bind("127.0.0.1:0".parse()?, &UdpOptions::default())?);
//! let mut slab = Slab::new(64)?;
//! let mut batch = Batch::new(16);
//! let mut queue = RecvMmsg::open(Arc::clone(&socket), 16)?;
//! let bell = Bell::new()?;
//!
//! let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! peer.send_to(b"hello", socket.local_addr()?)?;
//!
//! RxQueue::wait(std::slice::from_mut(&mut queue), None, &bell, std::time::Duration::from_secs(1))?;
//! queue.recv(&mut slab, &mut batch)?;
//! let first = batch.datagrams(&slab).next();
//! assert_eq!(first.map(|datagram| datagram.bytes), Some(&b"hello"[..]));
//! batch.release(&mut slab);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!(
    "binrush-net is written against Linux: recvmmsg, SO_MEMINFO, classic BPF socket filters"
);

/// Addresses as the kernel reads them.
mod address;
/// What one receive brought: descriptors of datagrams in frames.
pub mod batch;
/// Waking a thread that sleeps, and only then.
pub mod bell;
/// Classic BPF programs as data.
pub mod bpf;
/// Control data of datagrams: how a train is cut.
mod cmsg;
/// Descriptors from one process to another.
pub mod handover;
/// The receive trait and its backends.
pub mod rx;
/// Memory that outlives the process.
pub mod shared;
/// A network in memory, with faults from a seed.
pub mod sim;
/// The frames that the kernel writes into.
pub mod slab;
/// Handing records from one thread to one other.
pub mod spsc;
/// What the lock-free parts are made of.
mod sync;
/// What the host tells: cores, socket memory.
pub mod sys;
/// TCP sockets that do not block.
pub mod tcp;
/// The sending trait and its backends.
pub mod tx;
/// UDP sockets as a receiver needs them.
pub mod udp;

/// Addresses of this machine, as the tests find them.
#[cfg(test)]
mod loopback;

pub use batch::{Batch, Datagram};
pub use bell::Bell;
pub use rx::recvmmsg::RecvMmsg;
pub use rx::stream::poll::{PollStreams, StreamOptions};
pub use rx::stream::uring::{UringOptions, UringStreams};
pub use rx::stream::{Arrival, Close, OpenStreams, StreamBatch, StreamQueue, Token, What};
pub use rx::uring::Uring;
pub use rx::{OpenQueue, QUEUED_LEN_MIN, RxQueue, SLOTS_MAX, WAIT_QUEUES_MAX};
pub use shared::{SharedError, SharedFile};
pub use slab::{FRAME_LEN, FrameId, Slab};
pub use spsc::{Consumer, Producer, ring};
pub use sys::affinity::{AffinityError, allowed_cores, pin_current_thread};
pub use sys::epoll::{Interest, Poller, Ready, ReadyList};
pub use sys::meminfo::DropCounter;
pub use sys::netstat::NetStat;
pub use tcp::{ReserveFd, TcpError, TcpKeepalive, TcpListener, TcpOptions, TcpSocket};
pub use tx::gso::Gso;
pub use tx::sendmmsg::SendMmsg;
pub use tx::{Sent, Tx, TxBatch};
pub use udp::{Found, RcvbufWarning, UdpError, UdpOptions, UdpSocket};
