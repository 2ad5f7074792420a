//! Where a writer begins: behind what was recovered, with nothing in its way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Identity;
use crate::block::{Block, BlockKind};
use crate::file::{FileError, REFUSED, UNFINISHED, failed};
use crate::recover::Report;
use crate::ring::append::Appender;
use crate::ring::drain::Drain;
use crate::ring::{Ring, RingError};
use crate::status::Status;
use crate::vfs::{Vfs, VfsFile};
use crate::writer::{Options, Writer};

/// Why a journal cannot go on where recovery ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file that was refused could not be put aside: what is written now would be read behind it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing can be read out of the ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The ring of somebody else.
    #[error("the ring of {found}, for a journal of {wanted}")]
    Foreign {
        /// Whose it is.
        found: Identity,
        /// Whose was asked for.
        wanted: Identity,
    },
}

/// Goes on where [`recover`](crate::recover()) ended with this folder and ring; the shard has its records.
///
/// What is in the ring and not on the disk goes to the disk with the first turns. A ring that recovery could not use to
/// its end, or that is new, is emptied and goes on from where recovery ended; files that are in the way are put aside.
///
/// # Errors
/// [`StartError`]. What only keeps ops from being durable is no error, but an alarm.
pub fn start<V: Vfs>(
    vfs: V,
    ring: Ring,
    identity: Identity,
    options: Options,
    recovered: &Report,
) -> Result<(Appender, Writer<V>), StartError> {
    if ring.identity() != identity {
        return Err(StartError::Foreign {
            found: ring.identity(),
            wanted: identity,
        });
    }
    put_aside(&vfs, &recovered.superseded)?;
    let all_applied = recovered.ring_refused.is_none() && ring.committed().lsn == recovered.lsn;
    if !all_applied && recovered.ring_ops > 0 {
        // What was applied of it stays: the disk does not have it yet.
        ring.cut(recovered.ring_end, recovered.lsn);
    } else if !all_applied {
        ring.reset(recovered.lsn);
    }
    let written = recovered.log_lsn;
    let doubt = ring.doubt();
    let ring = Arc::new(ring);
    let drain = Drain::new(Arc::clone(&ring))?;
    let status = Arc::new(Status::default());
    status.missed.store(ring.missed(), Ordering::Relaxed);
    status.healed.store(ring.missed(), Ordering::Relaxed);
    status.written.store(written, Ordering::Release);
    let snapshot = recovered.snapshot.unwrap_or(0);
    status.snapshot_lsn.store(snapshot, Ordering::Relaxed);
    let mut writer = Writer {
        ours_from: drain.seq(),
        vfs,
        identity,
        options,
        status: Arc::clone(&status),
        drain,
        log: None,
        block: Block::new(BlockKind::Ops),
        record: Vec::new(),
        taken: written,
        written,
        is_dirty: false,
        synced_at: Duration::ZERO,
        needed: None,
        is_patched: !recovered.is_whole(),
        log_again_at: Duration::ZERO,
        snapshot_again_at: Duration::ZERO,
        snapshot: None,
        settled: 0,
        kept: recovered.kept.clone(),
        log_bytes: recovered.log_bytes,
        snapshot_bytes: 0,
        log_alarm: None,
        snapshot_alarm: None,
    };
    if let Some(lsn) = doubt {
        // What was appended behind what was recovered is forgotten, and with it the doubt.
        writer.need(lsn.min(recovered.lsn));
    }
    writer.sync_what_was_there(recovered);
    writer.ask(Duration::ZERO);
    Ok((Appender::new(ring, status), writer))
}

/// Gives files names under which nobody looks for them, for good.
fn put_aside<V: Vfs>(vfs: &V, names: &[String]) -> Result<(), FileError> {
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        vfs.rename(name, &format!("{name}{REFUSED}"))
            .map_err(failed(name, "put aside"))?;
    }
    vfs.sync().map_err(failed(".", "sync"))
}

impl<V: Vfs> Writer<V> {
    /// Makes names and contents durable that a process that was killed may have left to the kernel.
    fn sync_what_was_there(&mut self, recovered: &Report) {
        for name in self.vfs.names().unwrap_or_default() {
            if name.ends_with(UNFINISHED) {
                let _ = self.vfs.remove(&name);
            }
        }
        let synced = recovered.to_sync.iter().try_for_each(|name| {
            let mut file = self.vfs.open(name).map_err(failed(name, "open"))?;
            file.sync_data().map_err(failed(name, "sync"))
        });
        match synced.and_then(|()| self.vfs.sync().map_err(failed(".", "sync"))) {
            // Asking the kernel again about what another process lost would get no honest answer.
            Ok(()) if self.needed.is_some() => {}
            Ok(()) => self
                .status
                .durable
                .store(recovered.log_lsn, Ordering::Release),
            Err(failure) => {
                self.need(self.written);
                self.status.add(&self.status.failures, 1);
                self.log_alarm = Some(failure.to_string());
                self.tell_alarm();
            }
        }
    }
}
