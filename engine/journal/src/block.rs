//! Blocks: what files consist of behind their first page.
//!
//! A block has one checksum, and so is there as a whole or not at all. It is as long as what came since the last one, up
//! to [`BLOCK_LEN`] and a record.

use std::io;

use crate::file::{Why, read_up_to, u32_at, u64_at};
use crate::vfs::VfsFile;

/// A block that is being filled.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    kind: BlockKind,
    first: u64,
    count: u32,
}

/// What is in a block. The numbers stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum BlockKind {
    /// Ops, with numbers one after the other.
    Ops = 1,
    /// Records of a snapshot.
    Records = 2,
    /// The end of a snapshot.
    End = 3,
}

/// An op, or a record of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// Which table.
    pub table: u8,
    /// Where in the table.
    pub place: u32,
    /// What stands there; empty: nothing any more.
    pub record: &'a [u8],
}

/// A block that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read<'a> {
    pub(crate) kind: BlockKind,
    pub(crate) first: u64,
    pub(crate) count: u32,
    payload: &'a [u8],
}

/// Reads blocks one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'f, F> {
    file: &'f F,
    salt: u32,
    /// Where the next block begins.
    at: u64,
    file_len: u64,
    /// Bytes from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
}

/// Why there is no next block.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nothing was written there: the file ends, or zeros follow to its end.
    End,
    /// Something else than a block is there.
    Bad(Why),
    /// It cannot be read.
    Io(io::Error),
}

impl Block {
    pub(crate) fn new(kind: BlockKind) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_LEN + BLOCK_LEN);
        bytes.resize(HEADER_LEN, 0);
        Self {
            bytes,
            kind,
            first: 0,
            count: 0,
        }
    }

    /// Begins anew; the first op gets this number.
    pub(crate) fn clear(&mut self, first: u64) {
        self.bytes.truncate(HEADER_LEN);
        self.first = first;
        self.count = 0;
    }

    pub(crate) fn push(&mut self, op: Op<'_>) {
        self.bytes.push(u8::from(op.record.is_empty()));
        self.bytes.push(op.table);
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&op.place.to_le_bytes());
        // Appenders take no longer ones.
        let len = u32::try_from(op.record.len()).expect("a record is below 4 GiB");
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(op.record);
        self.count += 1;
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of the first op.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    /// Whether it should be written.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK_LEN
    }

    /// The bytes of the block in a file of this salt.
    pub(crate) fn sealed(&mut self, salt: u32) -> &[u8] {
        seal(&mut self.bytes, self.kind, self.first, self.count, salt);
        &self.bytes
    }

    /// The last block of a snapshot, of `records` records, which may have what ops up to `end` did.
    pub(crate) fn end(records: u64, end: u64, salt: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        bytes.extend_from_slice(&end.to_le_bytes());
        seal(&mut bytes, BlockKind::End, records, 0, salt);
        bytes
    }
}

fn seal(bytes: &mut [u8], kind: BlockKind, first: u64, count: u32, salt: u32) {
    // A block is full long before, and no record is that long.
    let len = u32::try_from(bytes.len() - HEADER_LEN).expect("a block is below 4 GiB");
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[8..16].copy_from_slice(&first.to_le_bytes());
    bytes[16..20].copy_from_slice(&count.to_le_bytes());
    bytes[20..24].copy_from_slice(&(kind as u32).to_le_bytes());
    let crc = crc(bytes, salt);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

impl<'a> Read<'a> {
    /// What a block says, if it can be so.
    fn of(kind: u32, first: u64, count: u32, payload: &'a [u8]) -> Option<Self> {
        let read = Self {
            kind: BlockKind::of(kind)?,
            first,
            count,
            payload,
        };
        read.makes_sense().then_some(read)
    }

    /// Its ops. All of them are there: the block was checked.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op<'a>> + use<'a> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            let (op, behind) = split_op(rest)?;
            rest = behind;
            Some(op)
        })
    }

    /// Of the last block of a snapshot: the last op that may be in it.
    pub(crate) fn end(&self) -> u64 {
        u64_at(self.payload, 0)
    }

    /// Whether what it says can be so.
    fn makes_sense(&self) -> bool {
        if self.kind == BlockKind::End {
            return self.count == 0 && self.payload.len() == 8;
        }
        let mut rest = self.payload;
        let mut count = 0_u64;
        while let Some((op, behind)) = split_op(rest) {
            if self.kind == BlockKind::Records && op.record.is_empty() {
                return false;
            }
            rest = behind;
            count += 1;
        }
        let last = self.first.checked_add(count);
        rest.is_empty() && count > 0 && count == u64::from(self.count) && last.is_some()
    }
}

/// The op that `bytes` begin with, and what is behind it.
fn split_op(bytes: &[u8]) -> Option<(Op<'_>, &[u8])> {
    let (&[kind, table, 0, 0], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    let (place, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (record, rest) = rest.split_at_checked(len)?;
    let op = Op {
        table,
        place: u32::from_le_bytes(*place),
        record,
    };
    (kind == u8::from(record.is_empty())).then_some((op, rest))
}

impl<'f, F: VfsFile> Reader<'f, F> {
    /// From offset `at` on.
    pub(crate) fn new(file: &'f F, salt: u32, at: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            salt,
            at,
            file_len: file.file_len()?,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Where the next block begins.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// How long the file is.
    pub(crate) const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The next block, checked.
    pub(crate) fn next(&mut self) -> Result<Read<'_>, Stop> {
        let at = self.at;
        let header = self.bytes(at, HEADER_LEN).map_err(Stop::Io)?;
        let (len, crc_said, first) = (u32_at(header, 0), u32_at(header, 4), u64_at(header, 8));
        let (count, kind) = (u32_at(header, 16), u32_at(header, 20));
        let header_len = header.len();
        if header_len < HEADER_LEN || len == 0 {
            // Blocks are never empty, so zeros are what was never written.
            return Err(self.stop(Why::EndsEarly));
        }
        if len > BLOCK_LEN_MAX {
            return Err(self.stop(Why::BlockLen(len)));
        }
        let total = HEADER_LEN + len as usize;
        if self.bytes(at, total).map_err(Stop::Io)?.len() < total {
            return Err(self.stop(Why::EndsEarly));
        }
        let start = usize::try_from(at - self.window_at).map_err(|_| Stop::End)?;
        let payload = start + HEADER_LEN..start + total;
        if crc(&self.window[start..][..total], self.salt) != crc_said {
            return Err(self.stop(Why::Checksum));
        }
        // Borrowed twice: when it makes no sense, what follows it is read into the same window.
        if Read::of(kind, first, count, &self.window[payload.clone()]).is_none() {
            return Err(self.stop(Why::Nonsense));
        }
        self.at = at + total as u64;
        Ok(Read {
            kind: BlockKind::of(kind).ok_or(Stop::End)?,
            first,
            count,
            payload: &self.window[payload],
        })
    }

    /// The end, if nothing but zeros follow; else what is wrong here.
    pub(crate) fn stop(&mut self, why: Why) -> Stop {
        match self.bytes_left() {
            Ok(0) => Stop::End,
            Ok(_) => Stop::Bad(why),
            Err(error) => Stop::Io(error),
        }
    }

    /// Bytes from here to the last that is not zero.
    pub(crate) fn bytes_left(&mut self) -> io::Result<u64> {
        let (mut at, mut last) = (self.at, self.at);
        loop {
            let bytes = self.bytes(at, WINDOW_LEN)?;
            if bytes.is_empty() {
                return Ok(last - self.at);
            }
            let read = bytes.len() as u64;
            if let Some(behind) = bytes.iter().rposition(|&byte| byte != 0) {
                last = at + behind as u64 + 1;
            }
            at += read;
        }
    }

    /// Up to `len` bytes from `at` on: fewer where the file ends.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let left = self.file_len.saturating_sub(at);
        let len = usize::try_from(left).map_or(len, |left| len.min(left));
        let start = at.checked_sub(self.window_at);
        let start = start.and_then(|start| usize::try_from(start).ok());
        let inside = start.filter(|start| start + len <= self.window.len());
        if let Some(start) = inside {
            return Ok(&self.window[start..][..len]);
        }
        let wanted = usize::try_from(left).map_or(WINDOW_LEN, |left| left.min(WINDOW_LEN));
        self.window.resize(wanted.max(len), 0);
        let read = read_up_to(self.file, &mut self.window, at)?;
        self.window.truncate(read);
        self.window_at = at;
        Ok(&self.window[..len.min(read)])
    }
}

impl BlockKind {
    const fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ops),
            2 => Some(Self::Records),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

/// Over all of a block but its checksum.
fn crc(block: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&block[..4]);
    hasher.update(&block[8..]);
    hasher.finalize()
}

/// `len`, `crc`, `first`, `count`, `kind`.
const HEADER_LEN: usize = 24;

/// From this length on a block is written at once.
pub(crate) const BLOCK_LEN: usize = 256 * 1024;

/// No block is longer: it was not full before its last record.
#[expect(clippy::cast_possible_truncation, reason = "2 MiB")]
const BLOCK_LEN_MAX: u32 = (BLOCK_LEN + OP_LEN + crate::RECORD_LEN_MAX) as u32;

/// What an op has before its record.
const OP_LEN: usize = 12;

const WINDOW_LEN: usize = 1 << 20;
