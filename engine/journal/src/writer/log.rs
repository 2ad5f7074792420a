//! A file of the log.

use crate::Identity;
use crate::block::Block;
use crate::file::{FileError, Header, PAGE_LEN, UNFINISHED, What, failed};
use crate::vfs::{Vfs, VfsFile};

/// The file that ops are written to now.
#[derive(Debug)]
pub(super) struct Log<F> {
    name: String,
    file: F,
    salt: u32,
    len: u64,
}

impl<F: VfsFile> Log<F> {
    /// Makes a file for ops from `first` on, of `reserved` bytes, and its name durable.
    pub(super) fn create(
        vfs: &impl Vfs<File = F>,
        identity: Identity,
        first: u64,
        reserved: u64,
    ) -> Result<Self, FileError> {
        let header = Header {
            what: What::Log(first),
            identity,
            reserved: reserved.max(PAGE_LEN as u64),
        };
        let name = header.what.name();
        let (file, len) = create(vfs, &header, |file| {
            // So that a sync has no new length to write down each time.
            file.set_len(header.reserved)?;
            file.sync_data()
        })?;
        publish(vfs, &name)?;
        Ok(Self {
            name,
            file,
            salt: header.salt(),
            len,
        })
    }

    /// Writes a block behind what is there; how many bytes.
    pub(super) fn append(&mut self, block: &mut Block) -> Result<u64, FileError> {
        let bytes = block.sealed(self.salt);
        let written = self.file.write_all_at(bytes, self.len);
        written.map_err(failed(&self.name, "write"))?;
        self.len += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(failed(&self.name, "sync"))
    }

    /// Bytes that have been written.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

/// Makes the file of a header, not under its name yet, does `more` with it, and says how many bytes the header has. Takes
/// it away again when anything fails: a full disk must not fill up further with beginnings.
pub(super) fn create<V: Vfs>(
    vfs: &V,
    header: &Header,
    more: impl FnOnce(&mut V::File) -> std::io::Result<()>,
) -> Result<(V::File, u64), FileError> {
    let name = unfinished(&header.what.name());
    let mut file = vfs.create(&name).map_err(failed(&name, "create"))?;
    let page = header.page();
    let written = file.write_all_at(&page, 0).and_then(|()| more(&mut file));
    if let Err(source) = written {
        let _ = vfs.remove(&name);
        return Err(failed(&name, "begin")(source));
    }
    Ok((file, page.len() as u64))
}

/// Gives a file that is synced its name, for good.
pub(super) fn publish(vfs: &impl Vfs, name: &str) -> Result<(), FileError> {
    vfs.rename(&unfinished(name), name)
        .map_err(failed(name, "name"))?;
    vfs.sync().map_err(failed(".", "sync"))
}

/// The name of a file until it is complete.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}
