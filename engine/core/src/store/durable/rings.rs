//! Another runtime directory: what is in the rings of the last one goes to the disk, and new ones are made.
//!
//! ```text
//!   manifest: runtime A ─▶ rings of ours that B has aside ─▶ rings of A to the disk ─▶ manifest: runtime B ─▶ rings of A removed
//! ```
//!
//! A ring goes on from the change that the log ended with when it was made. So one of an earlier life, which had been left in B,
//! would put its changes in place of others that have the same numbers.

use std::fs;
use std::path::PathBuf;

use super::State;
use super::error::StateError;
use super::journal::{Place, Settled, Watched};
use super::manifest::Manifest;
use super::paths::{Paths, free, inode, is_same, make, put_aside};
use super::recovered::{Note, RingFound};

impl State {
    /// Brings to the disk what the rings of the last start have, if they are elsewhere. If it takes none of it, they stay in use
    /// where they are.
    ///
    /// A copy of a state directory leaves the rings of the original alone: copies of them are where it is told that rings are,
    /// or nowhere.
    pub(super) fn bring_rings(&mut self) -> Result<(), StateError> {
        let inode = inode(&self.paths.state_dir)?;
        let is_copy = inode != self.manifest.inode;
        if self.manifest.runtime_dir == self.paths.runtime_dir && !is_copy {
            return Ok(());
        }
        let last = Paths {
            runtime_dir: self.manifest.runtime_dir.clone(),
            ..self.paths.clone()
        };
        let is_moved = !is_copy && !is_same(&last.runtime_dir, &self.paths.runtime_dir);
        if is_moved {
            for ring in self.paths.rings_of(self.manifest.epoch)? {
                let aside = put_aside(&ring)?;
                self.notes.push(Note::RingAside { path: ring, aside });
            }
            if let Settled::Not(why) = self.flush_rings(&last)? {
                return self.stay(last.runtime_dir, why);
            }
        }
        let manifest = Manifest {
            runtime_dir: self.paths.runtime_dir.clone(),
            inode,
            // Whatever became of the rings, nobody misses one of the new folder.
            ended: self.manifest.ended || is_moved,
            ..self.manifest.clone()
        };
        match manifest.store(&self.state_dir, &self.paths.state_dir) {
            Err(error) if is_moved => return self.stay(last.runtime_dir, error.to_string()),
            Err(error) => self.unwritten("the manifest names another runtime directory", &error),
            Ok(()) => {}
        }
        self.ended |= is_moved;
        self.manifest = manifest;
        if is_moved {
            // One that stays is put aside by who comes back.
            let _ = last.remove_rings(self.manifest.epoch);
        }
        Ok(())
    }

    /// Whether the runtime directory has room for the rings of these tables, before the first of them is made: memory that is not
    /// there shows when half of them are.
    ///
    /// # Errors
    /// [`StateError::NoRoom`], and what the kernel said.
    pub fn check_room<N: AsRef<str>>(&self, names: &[N]) -> Result<(), StateError> {
        let path = &self.paths.runtime_dir;
        let ring = FILE_LEN_MORE + self.ring_bytes as u64;
        let mut need = 0_u64;
        for name in names {
            let row = self.manifest.find(name.as_ref());
            let places = row.map(|row| self.places(row).collect::<Vec<_>>());
            for shard in 0..usize::from(self.manifest.shards) {
                let place = places.as_ref().and_then(|places| places.get(shard));
                let has = place.and_then(|place| fs::metadata(&place.ring).ok());
                need = need.saturating_add(ring.saturating_sub(has.map_or(0, |has| has.len())));
            }
        }
        let free = free(path)?;
        if need <= free {
            return Ok(());
        }
        Err(StateError::NoRoom {
            path: path.clone(),
            rings: names.len() * usize::from(self.manifest.shards),
            need,
            free,
        })
    }

    /// Removes the rings that this start has made and nothing is in, after it has failed: their memory would be gone until the
    /// next one.
    pub(super) fn remove_new_rings(&mut self, watched: &[Watched]) {
        let (mut is_clean, mut removed) = (true, false);
        for each in self.watched.iter().chain(watched) {
            let is_new = each.recovered.ring == RingFound::Missing;
            if is_new && each.is_untouched() {
                removed |= fs::remove_file(&each.path).is_ok();
            } else {
                is_clean &= each.is_on_disk();
            }
        }
        if removed && is_clean && self.ended && !self.manifest.ended {
            // As it was before: nobody is to miss what never was.
            self.manifest.ended = true;
            let _ = self.store_manifest();
        }
    }

    fn flush_rings(&mut self, last: &Paths) -> Result<Settled, StateError> {
        for row in &self.manifest.tables {
            for shard in 0..self.manifest.shards {
                let place = Place::new(last, &self.manifest, row, shard);
                let flushed = place.bring(self.options, self.ended, &mut self.notes)?;
                if let Settled::Not(why) = flushed {
                    return Ok(Settled::Not(format!("{place}: {why}")));
                }
            }
        }
        Ok(Settled::All)
    }

    /// Goes on with the rings where they are.
    fn stay(&mut self, last: PathBuf, why: String) -> Result<(), StateError> {
        make(&last)?;
        let what = format!("the rings stay in {} this time", last.display());
        self.notes.push(Note::Unwritten { what, why });
        self.paths.runtime_dir = last;
        Ok(())
    }
}

/// Bytes of the file of a ring beside its frames.
const FILE_LEN_MORE: u64 = 4096;
