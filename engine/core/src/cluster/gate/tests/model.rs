use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Live(usize),
    Hold,
    Release,
    Chunk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..2000_usize).prop_map(Step::Live),
        10 => Just(Step::Live(0)),
        2 => Just(Step::Hold),
        3 => Just(Step::Release),
        3 => Just(Step::Chunk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model: what is applied is what came, in order; what was not applied yet waits, within the limit; a donor's
    /// record is taken only while all packets since the hold wait; who was told to hold is released.
    #[test]
    fn nothing_is_lost_and_nothing_overtakes(steps in proptest::collection::vec(step(), 1..700), limit in 0..60_000_usize) {
        let mut world = World::new(limit);
        let (mut sessions, mut open): (Vec<Arc<Session>>, Option<Arc<Session>>) = (Vec::new(), None);
        let (mut came, mut applied, mut looked_at) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Live(len) => {
                    let verdict = world.take(from(NODE_2), &packet(came, len, Trailer::new(1, 2, 1)));
                    came += 1;
                    let waits = verdict == Verdict::Held;
                    prop_assert!(waits || verdict == Verdict::Handled);
                    prop_assert_eq!(world.did().last() == Some(&Did::Applied(came - 1)), !waits);
                }
                Step::Hold if open.is_none() => {
                    let id = sessions.len() as u64;
                    let session = Arc::new(Session::new(id, 1, CAPABILITY, 2, 1));
                    world.hold(&session);
                    prop_assert!(session.is_held());
                    sessions.push(Arc::clone(&session));
                    open = Some(session);
                }
                Step::Release => if let Some(session) = &open {
                    world.release(session, COMPLETED);
                    if session.is_released() {
                        open = None;
                    }
                },
                Step::Chunk => if let Some(session) = &open {
                    let before = world.did().len();
                    let verdict = world.take(from(NODE_2), &part(session.id, 2, &[b"one"]));
                    let taken = verdict == Verdict::Handled;
                    prop_assert_eq!(taken, world.did().len() > before);
                    prop_assert!(!taken || !session.has_overflowed() && !session.is_released());
                    if let Some(Did::Applied(_)) = world.did()[..before].last() {
                        // Nothing that came since the hold was applied before a chunk.
                        let begun = world.did().iter().rposition(|did| *did == Did::Begun);
                        prop_assert!(!taken || begun.is_none_or(|begun| begun >= before));
                    }
                },
                Step::Hold => {}
            }
            for did in &world.did()[looked_at..] {
                if let Did::Applied(number) = did {
                    prop_assert_eq!(*number, applied);
                    applied += 1;
                }
            }
            looked_at = world.did().len();
            let waiting = u64::from((came - applied).unsigned_abs());
            let of = open.as_ref().map_or(0, |session| count(&session.shards[0].held_packets));
            prop_assert_eq!(waiting, of);
            let bytes = open.as_ref().map_or(0, |session| count(&session.shards[0].held_bytes));
            prop_assert!(bytes <= limit as u64);
        }
        for _ in 0..steps_to_end(came) {
            if let Some(session) = &open {
                world.release(session, SyncEnd::Abandoned);
            }
        }
        prop_assert_eq!(world.applied().len(), usize::try_from(came).unwrap());
        prop_assert!(sessions.iter().all(|session| session.is_released()));
        let begun = world.did().iter().filter(|did| **did == Did::Begun).count();
        let ended = world.did().iter().filter(|did| matches!(did, Did::Ended(_))).count();
        prop_assert_eq!((begun, ended), (sessions.len(), sessions.len()));
    }
}

fn steps_to_end(came: i32) -> u64 {
    u64::from(came.unsigned_abs()) / PIECE + 1
}
