//! What packets do to entries of key-value stores: the last one counts. (OpenSIPS 3.0 to 3.6
//! `modules/cachedb_local/cachedb_local_replication.c`.)

use super::{Applied, Key, Scratch, Store, Turn, Why, deadline};
use crate::effects::Effects;
use crate::model::Cached;
use crate::record::Record;

impl Store {
    pub(super) fn cache_inserted<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        said: &Cached<'_>,
    ) -> Applied {
        scratch.write(&Record::Cached(*said), turn.status);
        let due = deadline(said.expires);
        let found = self.look(&Key::Cached(said.collection, said.key), scratch);
        match found.head {
            Some(place) => self.change(turn, place, &scratch.new, due),
            None => match self.room(&scratch.new, (1, 0), 0) {
                Err(refused) => refused,
                Ok(()) => {
                    self.create(turn, found, &scratch.new, due);
                    Applied::Created
                }
            },
        }
    }

    pub(super) fn cache_removed<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        collection: &[u8],
        key: &[u8],
    ) -> Applied {
        let found = self.look(&Key::Cached(collection, key), scratch);
        let Some(place) = found.head else {
            return Applied::Nothing(Why::Unknown);
        };
        self.remove(place, found, turn.effects);
        Applied::Removed
    }
}
