//! A snapshot that is being written.

use crate::Identity;
use crate::block::{Block, BlockKind, Op};
use crate::file::{FileError, Header, What, failed};
use crate::vfs::{Vfs, VfsFile};
use crate::writer::log::{create, publish, unfinished};

/// A file that becomes a snapshot.
#[derive(Debug)]
pub(super) struct Snapshot<F> {
    pub(super) begin: Begin,
    name: String,
    file: F,
    salt: u32,
    block: Block,
    records: u64,
    len: u64,
    synced: u64,
}

/// What is known of a snapshot when it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// Its number, as the shard counts.
    pub(super) number: u64,
    /// Ops that had been missed by then.
    pub(super) missed: u64,
    /// The last op before it.
    pub(super) lsn: u64,
    /// Bytes of the log since the snapshot before it.
    pub(super) log_bytes: u64,
}

impl<F: VfsFile> Snapshot<F> {
    pub(super) fn create(
        vfs: &impl Vfs<File = F>,
        identity: Identity,
        begin: Begin,
    ) -> Result<Self, FileError> {
        let header = Header {
            what: What::Snapshot(begin.lsn),
            identity,
            // Its last block says where it ends.
            reserved: 0,
        };
        let (file, len) = create(vfs, &header, |_| Ok(()))?;
        Ok(Self {
            begin,
            name: header.what.name(),
            file,
            salt: header.salt(),
            block: Block::new(BlockKind::Records),
            records: 0,
            len,
            synced: 0,
        })
    }

    /// Takes a record, and writes what waits when it is enough.
    pub(super) fn push(&mut self, op: Op<'_>) -> Result<(), FileError> {
        if self.block.is_empty() {
            self.block.clear(self.records);
        }
        self.block.push(op);
        self.records += 1;
        if !self.block.is_full() {
            return Ok(());
        }
        self.write_block()?;
        if self.len - self.synced >= SYNC_EACH {
            self.sync()?;
        }
        Ok(())
    }

    /// Completes the file, which may have what ops up to `end` did; they are on the disk. How long it is in bytes.
    pub(super) fn finish(&mut self, vfs: &impl Vfs<File = F>, end: u64) -> Result<u64, FileError> {
        self.write_block()?;
        let last = Block::end(self.records, end, self.salt);
        self.write(&last)?;
        self.sync()?;
        publish(vfs, &self.name)?;
        Ok(self.len)
    }

    /// Number and records: what the frame at its end has to say.
    pub(super) const fn said(&self) -> (u64, u64) {
        (self.begin.number, self.records)
    }

    /// The file's name until it is complete.
    pub(super) fn unfinished_name(&self) -> String {
        unfinished(&self.name)
    }

    fn write_block(&mut self) -> Result<(), FileError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = self.block.sealed(self.salt);
        let written = self.file.write_all_at(bytes, self.len);
        self.len += bytes.len() as u64;
        self.block.clear(self.records);
        written.map_err(failed(&self.name, "write"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all_at(bytes, self.len);
        written.map_err(failed(&self.name, "write"))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(failed(&self.name, "sync"))?;
        self.synced = self.len;
        Ok(())
    }
}

/// Synced bit by bit: a sync of all of it at the end would keep the log from the disk for seconds.
const SYNC_EACH: u64 = 8 << 20;
