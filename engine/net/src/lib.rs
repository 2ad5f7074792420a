//! The socket floor: memory the kernel writes into, and the calls that make it do so. Knows no BIN. Linux only.
//!
//! ```text
//!            ┌── Slab: frames, mapped and touched once ──┐
//!   kernel ──▶ RxQueue::recv ──▶ Batch of descriptors ──▶ the caller reads, then Batch::release
//!            └───────────── frames go back ──────────────┘
//! ```
//!
//! This is the only crate with unsafe code: each block sits in the module that owns the invariant,
//! behind a safe type. Nothing here allocates after its constructor.
//!
//! ```
//! use std::sync::Arc;
//! use binrush_net::{Batch, RecvMmsg, RxQueue, Slab, UdpOptions, UdpSocket};
//!
//! let socket = Arc::new(UdpSocket::bind("127.0.0.1:0".parse()?, &UdpOptions::default())?);
//! let mut slab = Slab::new(64)?;
//! let mut batch = Batch::new(16);
//! let mut queue = RecvMmsg::new(Arc::clone(&socket), 16);
//!
//! let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! peer.send_to(b"hello", socket.local_addr()?)?;
//!
//! queue.wait(std::time::Duration::from_secs(1))?;
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

/// What one receive brought: descriptors of datagrams in frames.
pub mod batch;
/// The receive trait and its backends.
pub mod rx;
/// The frames that the kernel writes into.
pub mod slab;
/// What the host tells: cores, socket memory.
pub mod sys;
/// UDP sockets as a receiver needs them.
pub mod udp;

/// Addresses of this machine, as the tests find them.
#[cfg(test)]
mod loopback;

pub use batch::{Batch, Datagram};
pub use rx::recvmmsg::RecvMmsg;
pub use rx::{QUEUED_LEN_MIN, RxQueue};
pub use slab::{FRAME_LEN, FrameId, Slab};
pub use sys::affinity::{AffinityError, allowed_cores, pin_current_thread};
pub use sys::meminfo::DropCounter;
pub use udp::{RcvbufWarning, UdpError, UdpOptions, UdpSocket};
