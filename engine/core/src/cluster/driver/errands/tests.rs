use std::any::Any;
use std::sync::Mutex;

use super::*;
use crate::cluster::replica::Cursor;
use crate::dispatch::handler::ShardId;
use crate::dispatch::registry::Registry;
use binrush_wire::Release;

/// Shards that take what they are told as it is set, and write it down.
#[derive(Default)]
struct Shards {
    answers: Mutex<HashMap<u16, Told>>,
    told: Mutex<Vec<(u16, String)>>,
}

impl Shards {
    fn answer(&self, shard: u16, told: Told) {
        self.answers.lock().unwrap().insert(shard, told);
    }

    fn take(&self) -> Vec<(u16, String)> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

impl Orders for Shards {
    fn owners(&self) -> u16 {
        2
    }

    fn tell(&self, shard: u16, _: NameId, message: Box<dyn Any + Send>) -> Told {
        let answers = self.answers.lock().unwrap();
        let answer = answers.get(&shard).copied().unwrap_or(Told::Taken);
        let what = match message.downcast::<GateOrder>() {
            Ok(order) => match *order {
                GateOrder::Hold(_) => "hold".to_owned(),
                GateOrder::Release(..) => "release".to_owned(),
            },
            Err(message) => match message.downcast::<SliceRequest>() {
                Ok(slice) => format!("slice {}", slice.donation),
                Err(_) => unreachable!("gates are told nothing else"),
            },
        };
        if answer == Told::Taken {
            self.told.lock().unwrap().push((shard, what));
        }
        answer
    }
}

const NAME: &str = "dialog-dlg-repl";

struct NoHandler;

impl crate::dispatch::handler::Handler for NoHandler {
    fn handle(
        &mut self,
        _: &mut crate::dispatch::handler::Context<'_>,
        _: &binrush_wire::Packet<'_>,
    ) -> crate::dispatch::handler::Verdict {
        crate::dispatch::handler::Verdict::Handled
    }
}

fn errands() -> (Errands, Arc<Shards>) {
    let shards = Arc::new(Shards::default());
    let mut registry = Registry::new();
    let name = registry.register(NAME.as_bytes(), |_: ShardId| NoHandler);
    let names = [(NAME.to_owned(), name.unwrap())].into();
    let orders = Arc::clone(&shards) as Arc<dyn Orders>;
    (Errands::new(orders, names), shards)
}

fn session() -> Arc<Session> {
    Arc::new(Session::new(7, 1, NAME, 2, 2))
}

fn ms(ms: u64) -> Timestamp {
    Timestamp::from_nanos((1000 + ms) * 1_000_000)
}

fn both(what: &str) -> Vec<(u16, String)> {
    vec![(0, what.to_owned()), (1, what.to_owned())]
}

fn slice(donation: u64) -> SliceRequest {
    SliceRequest {
        cluster: 1,
        donation,
        from: Cursor::default(),
        bytes: 1,
        release: Release::V3_6,
    }
}

#[test]
fn a_gate_that_goes_on_is_asked_for_each_piece_and_one_that_sleeps_ten_times_in_a_second() {
    let (mut errands, shards) = errands();
    let session = session();
    let order = GateOrder::Release(Arc::clone(&session), SyncEnd::Abandoned);
    errands.order(ms(0), NAME, order);
    assert_eq!(shards.take(), both("release"));
    for now in 1..=1000 {
        if now % 10 == 0 {
            session.shards[0].pieces.fetch_add(1, Ordering::Relaxed);
        }
        errands.go_on(ms(now));
    }
    let told = shards.take();
    let of = |shard| told.iter().filter(|(of, _)| *of == shard).count();
    assert_eq!((of(0), of(1)), (100, 10));
    session.shards[0].released.store(true, Ordering::Release);
    session.shards[1].released.store(true, Ordering::Release);
    errands.go_on(ms(2000));
    assert!(errands.releasing.is_empty() && errands.deadline().is_none());
    assert_eq!(shards.take(), Vec::<(u16, String)>::new());
}

#[test]
fn a_shard_that_has_ended_is_not_waited_for() {
    let (mut errands, shards) = errands();
    let session = session();
    shards.answer(1, Told::Ended);
    let order = GateOrder::Release(Arc::clone(&session), SyncEnd::Abandoned);
    errands.order(ms(0), NAME, order);
    assert!(!errands.releasing.is_empty());
    session.shards[0].released.store(true, Ordering::Release);
    errands.go_on(ms(1));
    assert!(errands.releasing.is_empty());
}

#[test]
fn what_a_full_desk_refused_is_told_again_in_order() {
    let (mut errands, shards) = errands();
    shards.answer(1, Told::Full);
    errands.order(ms(0), NAME, GateOrder::Hold(session()));
    errands.slice(NAME, 1, slice(1));
    errands.slice(NAME, 0, slice(2));
    assert_eq!(
        shards.take(),
        [(0, "hold".to_owned()), (0, "slice 2".to_owned())]
    );
    errands.go_on(ms(20));
    assert_eq!(shards.take(), Vec::<(u16, String)>::new());
    shards.answer(1, Told::Taken);
    assert_eq!(errands.deadline(), Some(ms(30)));
    errands.go_on(ms(30));
    assert_eq!(
        shards.take(),
        [(1, "hold".to_owned()), (1, "slice 1".to_owned())]
    );
    assert_eq!(errands.deadline(), None);
}

#[test]
fn a_gate_is_not_told_to_hold_behind_its_release() {
    let (mut errands, shards) = errands();
    let session = session();
    shards.answer(1, Told::Full);
    errands.order(ms(0), NAME, GateOrder::Hold(Arc::clone(&session)));
    let order = GateOrder::Release(Arc::clone(&session), SyncEnd::Abandoned);
    errands.order(ms(1), NAME, order);
    shards.answer(1, Told::Taken);
    errands.go_on(ms(500));
    let told = shards.take();
    let second: Vec<_> = told.iter().filter(|(shard, _)| *shard == 1).collect();
    assert_eq!(second, [&(1, "release".to_owned())]);
}
