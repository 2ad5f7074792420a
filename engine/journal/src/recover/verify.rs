//! Every file of a folder by itself, those too that no recovery would read.

use crate::Identity;
use crate::block::{BlockKind, Reader, Stop};
use crate::file::{FileError, Header, PAGE_LEN, Refused, What, Why, failed, names};
use crate::vfs::Vfs;

/// What a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Its name.
    pub file: String,
    /// What it is.
    pub what: What,
    /// Ops of a log, or records of a snapshot, up to where it stops being good.
    pub ops: u64,
    /// The last op in the log; of a snapshot the last one whose doing may be in it. 0 when that is not known.
    pub last: u64,
    /// What is wrong with it, if anything is.
    pub refused: Option<Refused>,
}

/// Reads every block of every file that has a name of ours, the older ones first.
///
/// A file of the log that was in use when the power went may end in blocks that are not whole: that alone is no damage, as
/// [`recover`](crate::recover()) goes on with the next file if nothing is missing between them.
///
/// # Errors
/// [`FileError`]: a call failed, or a file is somebody else's or newer.
pub fn verify<V: Vfs>(vfs: &V, identity: Identity) -> Result<Vec<FileReport>, FileError> {
    let mut files = names(vfs)?;
    files.sort_by_key(|(what, _)| match *what {
        What::Log(first) => (first, 0),
        What::Snapshot(begin) => (begin, 1),
    });
    files
        .into_iter()
        .map(|(what, name)| verify_file(vfs, identity, what, name))
        .collect()
}

fn verify_file<V: Vfs>(
    vfs: &V,
    identity: Identity,
    what: What,
    name: String,
) -> Result<FileReport, FileError> {
    let mut report = FileReport {
        file: name.clone(),
        what,
        ops: 0,
        last: 0,
        refused: None,
    };
    let file = vfs.open(&name).map_err(failed(&name, "open"))?;
    let header = match Header::read(&file, &name, what, Some(identity))? {
        Ok(header) => header,
        Err(refused) => {
            report.refused = Some(refused);
            return Ok(report);
        }
    };
    let reader = Reader::new(&file, header.salt(), PAGE_LEN as u64);
    let mut reader = reader.map_err(failed(&name, "read"))?;
    let is_short = reader.file_len() < header.reserved;
    let mut is_ended = false;
    let (why, offset) = loop {
        let at = reader.at();
        let block = match reader.next() {
            Ok(block) => block,
            Err(Stop::End) => match what {
                What::Log(_) if is_short => break (Why::EndsEarly, at),
                What::Snapshot(_) if !is_ended => break (Why::Incomplete, at),
                _ => return Ok(report),
            },
            Err(Stop::Bad(why)) => break (why, at),
            Err(Stop::Io(source)) => return Err(failed(&name, "read")(source)),
        };
        match (what, block.kind) {
            (What::Log(_), BlockKind::Ops) => {
                report.last = block.first + u64::from(block.count) - 1
            }
            (What::Snapshot(_), BlockKind::Records) if !is_ended && block.first == report.ops => {}
            (What::Snapshot(_), BlockKind::End) if !is_ended && block.first == report.ops => {
                is_ended = true;
                report.last = block.end();
            }
            _ => break (Why::Nonsense, at),
        }
        report.ops += u64::from(block.count);
    };
    let behind = reader.bytes_left().map_err(failed(&name, "read"))?;
    report.refused = Some(Refused {
        file: name,
        offset,
        bytes: reader.at() - offset + behind,
        why,
    });
    Ok(report)
}
