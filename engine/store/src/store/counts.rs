//! What packets do to counts: each node says how many it has, again and again, and a count that is not heard any more is gone.
//! (OpenSIPS 2.4 and 3.6 `modules/dialog/dlg_replication.c`, `receive_prof_repl`; `modules/ratelimit/ratelimit_helper.c`.)
//!
//! A count is written anew in each second in which it is heard, because when it was is part of it.

use super::pack::Packed;
use super::{Applied, Key, Scratch, Store, Turn, Why, deadline};
use crate::effects::Effects;
use crate::model::{PipeCount, ProfileCount};
use crate::record::{Heard, Record};

impl Store {
    /// A count of 0 removes that of the node.
    pub(super) fn profiles<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        counts: &[ProfileCount<'_>],
    ) -> Applied {
        let heard = turn.heard();
        let mut applied = Applied::Nothing(Why::AlreadyThere);
        for count in counts {
            let key = Key::Profile(count.profile, count.value);
            let record = Record::Profile(*count, heard);
            applied = applied.and(self.count(turn, scratch, &key, &record, count.count != 0));
        }
        applied
    }

    pub(super) fn pipes<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        counts: &[PipeCount<'_>],
    ) -> Applied {
        let heard = turn.heard();
        let mut applied = Applied::Nothing(Why::AlreadyThere);
        for count in counts {
            let record = Record::Pipe(*count, heard);
            applied = applied.and(self.count(turn, scratch, &Key::Pipe(count.pipe), &record, true));
        }
        applied
    }

    fn count<E: Effects + ?Sized>(
        &mut self,
        turn: &mut Turn<'_, E>,
        scratch: &mut Scratch,
        key: &Key<'_>,
        record: &Record<'_>,
        stays: bool,
    ) -> Applied {
        let found = self.look(key, scratch);
        let key_fields = self.family.key_fields();
        let is_node = |packed: &[u8]| {
            let mut fields = Packed::new(packed);
            fields.skip(key_fields);
            fields.int() == turn.node.into()
        };
        let mut of_key = 0;
        let there = self.table.chain(found.head).find(|(_, packed)| {
            of_key += 1;
            is_node(packed)
        });
        let there = there.map(|(place, _)| place);
        match there {
            Some(place) if !stays => {
                self.remove(place, found, turn.effects);
                return Applied::Removed;
            }
            None if !stays => return Applied::Nothing(Why::Unknown),
            _ => scratch.write(record, turn.status),
        }
        let due = deadline(
            turn.now
                .unix
                .saturating_add(self.limits.counts_expire.into()),
        );
        if let Some(place) = there {
            return self.change(turn, place, &scratch.new, due);
        }
        if let Err(refused) = self.room(&scratch.new, (1, 0), of_key) {
            return refused;
        }
        self.create(turn, found, &scratch.new, due);
        Applied::Created
    }
}

impl<E: Effects + ?Sized> Turn<'_, E> {
    const fn heard(&self) -> Heard {
        Heard {
            node: self.node,
            at: self.now.unix,
        }
    }
}
