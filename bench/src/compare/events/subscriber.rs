//! Who is told: a socket that reads all that comes, in bursts, so that it takes next to nothing from who is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};
use binrush_net::{Batch, OpenQueue as _, RecvMmsg, RxQueue as _, Slab, UdpOptions, UdpSocket};

use super::EVENT;
use crate::compare::RCVBUF_DRAIN;
use crate::procfs;

/// One that reads until it is told to finish.
pub(super) struct Subscriber {
    addr: SocketAddr,
    /// Nothing more will come.
    is_over: Arc<AtomicBool>,
    /// Datagrams that were read so far.
    read: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<Heard>>>,
}

/// What came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Datagrams, in any form.
    pub(super) read: u64,
    /// For which its socket had no room.
    pub(super) dropped: u64,
    /// Of those that were read, such as are no event that it wants.
    pub(super) strange: u64,
}

impl Subscriber {
    pub(super) fn start() -> anyhow::Result<Self> {
        let options = UdpOptions {
            rcvbuf: Some(RCVBUF_DRAIN),
            ..UdpOptions::default()
        };
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = UdpSocket::bind(free, &options).context("the subscriber has no socket")?;
        let addr = socket.local_addr()?;
        let queue = RecvMmsg::open(Arc::new(socket), BATCH)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let read = Arc::new(AtomicU64::new(0));
        let reader = {
            let (is_over, read) = (Arc::clone(&is_over), Arc::clone(&read));
            move || hear(queue, addr, &is_over, &read)
        };
        let builder = thread::Builder::new().name("subscriber".to_owned());
        Ok(Self {
            addr,
            is_over,
            read,
            thread: Some(builder.spawn(reader)?),
        })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many datagrams it was sent by now, as far as they were read or dropped.
    pub(super) fn came(&self) -> anyhow::Result<u64> {
        Ok(self.read.load(Ordering::Relaxed) + drops(self.addr)?)
    }

    /// What came, once nobody sends to it any more.
    pub(super) fn finish(mut self) -> anyhow::Result<Heard> {
        self.is_over.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(heard)) => heard,
            Some(Err(_)) | None => bail!("the subscriber panicked"),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Its thread ends by itself, whatever else went wrong.
        self.is_over.store(true, Ordering::Release);
    }
}

fn hear(
    mut queue: RecvMmsg,
    addr: SocketAddr,
    is_over: &AtomicBool,
    read: &AtomicU64,
) -> anyhow::Result<Heard> {
    let mut slab = Slab::new(2 * BATCH)?;
    let mut batch = Batch::new(BATCH);
    let mut heard = Heard::default();
    loop {
        // Asked before the queue is: what was sent before the end is read.
        let is_last = is_over.load(Ordering::Acquire);
        loop {
            queue.recv(&mut slab, &mut batch)?;
            let before = heard.read;
            for datagram in batch.datagrams(&slab) {
                heard.read += 1;
                heard.strange += u64::from(!is_event(datagram.bytes));
            }
            batch.release(&mut slab);
            if heard.read == before {
                break;
            }
        }
        read.store(heard.read, Ordering::Relaxed);
        if is_last {
            heard.dropped = drops(addr)?;
            return Ok(heard);
        }
        thread::sleep(BURST);
    }
}

/// Of the socket bound to `addr`, so far.
fn drops(addr: SocketAddr) -> anyhow::Result<u64> {
    // One look may pass over it.
    for _ in 0..LOOKS_MAX {
        let queues = procfs::queues_of(procfs::UDP_TABLES[0], addr.port())?;
        if let [queue] = &queues[..] {
            return Ok(queue.drops.into());
        }
    }
    bail!("the subscriber's socket is not the only one of its port")
}

/// Whether it tells, in any form, what was asked for.
fn is_event(datagram: &[u8]) -> bool {
    let begin = &datagram[..datagram.len().min(NAME_WITHIN)];
    begin
        .windows(EVENT.len())
        .any(|name| name == EVENT.as_bytes())
}

/// Datagrams of one call.
const BATCH: usize = 64;

/// Between two looks: some hundred events, for tens of thousands of which there is room.
const BURST: Duration = Duration::from_millis(1);

/// Until the kernel's list has its socket.
const LOOKS_MAX: usize = 100;

/// Where the name of an event ends at the latest.
const NAME_WITHIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::Patience;

    #[test]
    fn all_that_was_sent_before_the_end_is_heard_and_told_from_what_is_no_event() {
        let subscriber = Subscriber::start().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |text: &[u8]| sender.send_to(text, subscriber.addr()).unwrap();
        for _ in 0..100 {
            send(b"E_UL_CONTACT_UPDATE\ndomain::location\n\n");
            send(br#"{"jsonrpc":"2.0","method":"E_UL_CONTACT_UPDATE","params":{}}"#);
        }
        send(b"E_UL_CONTACT_DELETE\n\n");
        let patience = Patience::default();
        let all = || Ok(subscriber.came()? == 201);
        patience.until("all", Duration::from_secs(10), all).unwrap();
        let heard = subscriber.finish().unwrap();
        let expected = Heard {
            read: 201,
            dropped: 0,
            strange: 1,
        };
        assert_eq!(heard, expected);
    }
}
