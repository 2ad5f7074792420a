//! Packets that handlers send, until the batch they belong to is done.

use std::fmt;
use std::net::SocketAddr;

use binrush_net::{Tx, TxBatch};

use super::desk::ListenerId;
use crate::dispatch::handler::Post;
use crate::telemetry::ledger::LedgerWriter;

/// Where a shard sends from: of the addresses it listens on, the first of the destination's family.
pub struct Outbox<T> {
    senders: Vec<Sender<T>>,
    v4: TxBatch,
    v6: TxBatch,
    /// Packets that found no room or no sender since the last flush.
    refused: u64,
    posted: bool,
}

struct Sender<T> {
    listener: ListenerId,
    is_ipv6: bool,
    tx: T,
}

impl<T: Tx> Outbox<T> {
    /// An outbox that sends to IPv4 destinations by `v4` and to IPv6 ones by `v6`, where there is one.
    #[must_use]
    pub fn new(v4: Option<T>, v6: Option<T>) -> Self {
        let mut outbox = Self {
            senders: Vec::new(),
            v4: TxBatch::new(DATAGRAMS_MAX, BYTES_MAX),
            v6: TxBatch::new(DATAGRAMS_MAX, BYTES_MAX),
            refused: 0,
            posted: false,
        };
        for (is_ipv6, tx) in [(false, v4), (true, v6)] {
            if let Some(tx) = tx {
                outbox.add(ListenerId(is_ipv6.into()), is_ipv6, tx);
            }
        }
        outbox
    }

    /// Sends from the address of `listener` too, if there is none of its family before it.
    pub(crate) fn add(&mut self, listener: ListenerId, is_ipv6: bool, tx: T) {
        self.senders.push(Sender {
            listener,
            is_ipv6,
            tx,
        });
    }

    /// Does not send from the address of `listener` any more. Between two batches.
    pub(crate) fn remove(&mut self, listener: ListenerId) {
        self.senders.retain(|sender| sender.listener != listener);
    }

    /// Sends everything, and counts what became of it. Nothing to do costs a load.
    #[inline]
    pub(crate) fn flush(&mut self, ledger: &mut LedgerWriter) {
        if self.posted {
            self.flush_all(ledger);
        }
    }

    #[cold]
    fn flush_all(&mut self, ledger: &mut LedgerWriter) {
        let (mut sent, mut failed) = (0, 0);
        for (is_ipv6, batch) in [(false, &mut self.v4), (true, &mut self.v6)] {
            let mut senders = self.senders.iter_mut();
            if let Some(sender) = senders.find(|sender| sender.is_ipv6 == is_ipv6)
                && !batch.is_empty()
            {
                let done = sender.tx.send(batch);
                sent += done.sent;
                failed += done.failed;
            }
        }
        ledger.posted(sent, failed, self.refused);
        (self.refused, self.posted) = (0, false);
    }
}

impl<T: Tx> Post for Outbox<T> {
    fn post(&mut self, to: SocketAddr, packet: &[u8]) -> bool {
        let mut senders = self.senders.iter();
        let has_sender = senders.any(|sender| sender.is_ipv6 == to.is_ipv6());
        let batch = if to.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let taken = has_sender && batch.push(to, packet);
        self.refused += u64::from(!taken);
        self.posted = true;
        taken
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("senders", &self.senders.len())
            .finish_non_exhaustive()
    }
}

/// Packets of one batch, and their bytes: handlers answer, they do not stream.
const DATAGRAMS_MAX: usize = 256;
const BYTES_MAX: usize = 256 << 10;
