//! The store against a plain list of records that follows the same rules slowly and obviously: random operations, duplicates,
//! packets in any order, time, syncs, and restarts from what the log would hold.

use std::collections::BTreeSet;

use binrush_store::change::Change;
use binrush_store::{Applied, Effects, Family, Limits, Now, Store};
use pair::{Log, Op, Pair};
use proptest::prelude::*;

/// The rules, slowly.
mod model;
/// Operations by chance.
mod ops;
/// A store beside its model.
mod pair;

fn limits() -> impl Strategy<Value = Limits> {
    (3..40_u32, 2..5_u32).prop_map(|(records, per_key)| Limits {
        records,
        per_key,
        ..Limits::default()
    })
}

fn family_and_ops() -> impl Strategy<Value = (Family, Vec<Op>)> {
    prop::sample::select(&Family::ALL[..])
        .prop_flat_map(|family| (Just(family), prop::collection::vec(ops::op(family), 1..120)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_store_is_what_the_rules_say_after_any_operations((family, ops) in family_and_ops(), limits in limits()) {
        let mut pair = Pair::new(family, limits);
        for op in &ops {
            pair.run(op);
            pair.check();
        }
        pair.restart();
        pair.check();
        pair.empty();
        pair.check();
    }

    #[test]
    fn a_walk_gives_every_record_that_stayed((family, ops) in family_and_ops()) {
        let mut pair = Pair::new(family, Limits::default());
        let (early, late) = ops.split_at(ops.len() / 2);
        for op in early {
            pair.run(op);
        }
        let mut stayed: BTreeSet<_> = pair.log.places.keys().copied().collect();
        pair.log.gone.clear();
        let (mut given, mut from) = (BTreeSet::new(), Some(0));
        let mut late = late.iter().filter(|op| !matches!(op, Op::Restart));
        while let Some(at) = from {
            from = pair.store.walk(at, 1, &mut |place, _| _ = given.insert(place));
            if let Some(op) = late.next() {
                pair.run(op);
            }
        }
        stayed.retain(|place| !pair.log.gone.contains(place));
        prop_assert!(given.is_superset(&stayed), "{:?} of {:?}", given, stayed);
    }

    #[test]
    fn records_of_several_stores_are_adopted_by_one((family, ops) in family_and_ops()) {
        let mut pair = Pair::new(family, Limits::default());
        for op in &ops {
            pair.run(op);
        }
        let mut store = Store::new(family, Limits::default());
        let mut log = Log::default();
        for flat in pair.log.places.values().rev() {
            let place = store.adopt(flat).unwrap();
            log.put(place, flat);
        }
        store.restored(pair.unix, &mut log);
        (pair.store, pair.log) = (store, log);
        pair.model.restarted(pair.unix);
        pair.check();
    }
}

#[test]
fn applied_is_told_of_a_change_for_another_family() {
    let mut store = Store::new(Family::Cache, Limits::default());
    let change = Change::AorDeleted(b"location", b"a");
    assert_eq!(
        store.apply(Now::default(), &change, 0, &mut ()),
        Applied::Refused(binrush_store::Why::OtherFamily)
    );
}
