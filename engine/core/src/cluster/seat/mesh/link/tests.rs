//! The rows of the table of link states, one by one.

use std::time::Duration;

use super::*;

const MS: u64 = 1_000_000;

/// The defaults of OpenSIPS, and 3 PINGs more.
fn terms(retries: i32) -> Terms {
    Terms::new(&Timers::default(), retries)
}

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * MS)
}

/// A link, and the PINGs that left by it.
struct Scene {
    link: Link,
    terms: Terms,
    pings: Vec<(u64, bool)>,
    can_send: bool,
}

impl Scene {
    fn new(retries: i32) -> Self {
        Self {
            link: Link::default(),
            terms: terms(retries),
            pings: Vec::new(),
            can_send: true,
        }
    }

    /// One whose first PING left at 10 s, and was answered 5 ms later.
    fn up() -> Self {
        let mut scene = Self::new(3);
        scene.tick(10_000);
        scene.link.pong(at(10_005), scene.terms);
        assert_eq!(scene.link.state(), LinkState::Up);
        scene.pings.clear();
        scene
    }

    /// One that is down since 3 more PINGs were not answered either.
    fn down() -> (Self, u64) {
        let mut scene = Self::new(3);
        let since = scene.run_until(LinkState::Down, 10_000);
        scene.pings.clear();
        (scene, since)
    }

    fn tick(&mut self, ms: u64) {
        let (pings, can_send) = (&mut self.pings, self.can_send);
        self.link.tick(at(ms), self.terms, |list| {
            pings.push((ms, list));
            can_send
        });
    }

    /// Ticks whenever a tick is due, from `ms` on, until the state is `wanted`; when that is.
    fn run_until(&mut self, wanted: LinkState, mut ms: u64) -> u64 {
        for _ in 0..100 {
            self.tick(ms);
            if self.link.state() == wanted {
                return ms;
            }
            ms = ms.max(self.due());
        }
        panic!("{:?} never became {wanted:?}", self.link);
    }

    fn due(&self) -> u64 {
        self.link.due(self.terms).as_nanos().div_ceil(MS)
    }

    #[track_caller]
    fn assert(&self, state: LinkState, pings: &[(u64, bool)]) {
        assert_eq!((self.link.state(), &*self.pings), (state, pings));
    }
}

#[test]
fn a_new_link_is_pinged_at_once_with_the_request_for_a_list() {
    let mut scene = Scene::new(3);
    assert_eq!(scene.due(), 0);
    scene.tick(10_000);
    scene.assert(LinkState::Restarted, &[(10_000, true)]);
    assert_eq!(scene.due(), 11_000);
}

#[test]
fn a_ping_that_cannot_be_sent_is_repeated_after_ping_timeout_as_often_as_the_node_wants() {
    let mut scene = Scene::new(3);
    scene.can_send = false;
    scene.tick(10_000);
    scene.assert(LinkState::RetrySendFail, &[(10_000, true)]);
    let down = scene.run_until(LinkState::Down, scene.due());
    assert_eq!(down, 13_000);
    let pings = [10_000, 11_000, 12_000, 13_000].map(|ms| (ms, true));
    scene.assert(LinkState::Down, &pings);
}

#[test]
fn without_retries_one_failure_is_enough() {
    let mut unsent = Scene::new(0);
    unsent.can_send = false;
    unsent.tick(10_000);
    unsent.assert(LinkState::Down, &[(10_000, true)]);

    let mut unanswered = Scene::new(0);
    let down = unanswered.run_until(LinkState::Down, 10_000);
    assert_eq!(down, 11_000);
    unanswered.assert(LinkState::Down, &[(10_000, true)]);
}

#[test]
fn a_ping_that_leaves_after_failures_waits_for_its_answer_in_retrying() {
    let mut scene = Scene::new(3);
    scene.can_send = false;
    scene.tick(10_000);
    scene.can_send = true;
    scene.tick(11_000);
    assert_eq!(scene.link.state(), LinkState::Retrying);
    scene.link.pong(at(11_100), scene.terms);
    assert!(scene.link.is_up());
}

#[test]
fn silence_after_the_first_ping_leads_down_in_the_documented_time() {
    let mut scene = Scene::new(3);
    let down = scene.run_until(LinkState::Down, 10_000);
    // ping_timeout for the first one and for each of three more.
    assert_eq!(down, 14_000);
    let pings = [10_000, 11_000, 12_000, 13_000].map(|ms| (ms, true));
    scene.assert(LinkState::Down, &pings);
}

#[test]
fn a_link_that_is_up_beats_every_ping_interval_without_the_request_for_a_list() {
    let mut scene = Scene::up();
    assert_eq!(scene.due(), 14_000);
    scene.tick(13_999);
    scene.tick(14_000);
    scene.assert(LinkState::Up, &[(14_000, false)]);
    scene.link.pong(at(14_001), scene.terms);
    assert_eq!((scene.due(), scene.link.answer()), (18_000, Some(MS)));
}

#[test]
fn a_peer_that_dies_just_after_its_last_answer_is_down_within_eight_seconds() {
    let mut scene = Scene::up();
    let left_up = scene.run_until(LinkState::Retrying, scene.due());
    assert_eq!(left_up, 15_000);
    let down = scene.run_until(LinkState::Down, left_up);
    // 4 s + 1 s * (1 + 3) after the last answered PING, which left at 10 s.
    assert_eq!(down, 18_000);
}

#[test]
fn a_heartbeat_that_cannot_be_sent_takes_the_link_from_up() {
    let mut scene = Scene::up();
    scene.can_send = false;
    scene.tick(14_000);
    scene.assert(LinkState::RetrySendFail, &[(14_000, false)]);
}

#[test]
fn a_missing_answer_is_excused_while_other_packets_of_the_node_come() {
    let mut scene = Scene::up();
    scene.tick(14_000);
    for ms in [14_500, 15_300, 16_000, 16_900, 17_700] {
        scene.link.hear(at(ms));
        scene.tick(ms);
    }
    assert_eq!(scene.link.state(), LinkState::Up);
    // It is still pinged meanwhile, and one ping_timeout after the last packet it is in doubt.
    scene.tick(18_000);
    scene.assert(LinkState::Up, &[(14_000, false), (18_000, false)]);
    assert_eq!(scene.run_until(LinkState::Retrying, scene.due()), 19_000);
}

#[test]
fn a_late_answer_counts_only_together_with_something_else() {
    for (heard, is_up) in [(None, false), (Some(11_000), false), (Some(11_100), true)] {
        let mut scene = Scene::new(3);
        // Slower than that a tick could not be, but a thread may be.
        scene.tick(10_000);
        if let Some(ms) = heard {
            scene.link.hear(at(ms));
        }
        scene.link.pong(at(12_050), scene.terms);
        assert_eq!(scene.link.is_up(), is_up, "heard at {heard:?}");
    }
}

#[test]
fn an_answer_to_an_earlier_ping_is_no_answer_to_the_last_one() {
    let mut scene = Scene::new(3);
    scene.tick(10_000);
    scene.tick(11_000);
    // It arrived before the second PING left, and was looked at afterwards.
    scene.link.pong(at(10_990), scene.terms);
    assert_eq!(scene.link.answer(), None);
    assert_eq!(scene.link.state(), LinkState::Retrying);
}

#[test]
fn an_answer_that_is_faster_than_the_news_of_its_ping_brings_the_link_up() {
    let mut scene = Scene::up();
    scene.tick(14_000);
    scene.link.restart();
    scene.link.pong(at(14_100), scene.terms);
    assert!(scene.link.is_up());

    // But none does whose PING could not be sent, or was long ago.
    let mut unsent = Scene::new(3);
    unsent.can_send = false;
    unsent.tick(10_000);
    unsent.link.pong(at(10_100), unsent.terms);
    assert_eq!(unsent.link.state(), LinkState::RetrySendFail);
    let (mut down, since) = Scene::down();
    down.link.pong(at(since + 500), down.terms);
    assert_eq!(down.link.state(), LinkState::Down);
}

#[test]
fn a_pong_that_nobody_asked_for_changes_nothing() {
    let mut scene = Scene::new(3);
    scene.link.pong(at(10_000), scene.terms);
    scene.assert(LinkState::RestartPinging, &[]);
}

#[test]
fn a_node_that_is_down_is_asked_every_node_timeout() {
    let (mut scene, since) = Scene::down();
    // The last PING left a second before.
    let asked = scene.run_until(LinkState::Restarted, since);
    assert_eq!(asked, since - 1_000 + 60_000);
    scene.assert(LinkState::Restarted, &[(asked, true)]);
    let down = scene.run_until(LinkState::Down, asked);
    assert_eq!(down, asked + 4_000);
}

#[test]
fn a_ping_of_a_node_that_is_down_is_answered_with_one_of_ours() {
    let (mut scene, since) = Scene::down();
    let mut pings = 0;
    scene.link.called(at(since + 10), scene.terms, |list| {
        pings += 1;
        list
    });
    assert_eq!((pings, scene.link.state()), (1, LinkState::Restarted));
    // Of a node that is not, it asks for nothing.
    let mut up = Scene::up();
    up.link
        .called(at(10_010), up.terms, |_| panic!("not asked for"));
    assert!(up.link.is_up());
}

#[test]
fn a_node_that_is_down_and_still_sends_is_asked_within_ping_timeout() {
    let (mut scene, since) = Scene::down();
    scene.link.hear(at(since - 1));
    scene.tick(since + 1_000);
    assert_eq!(scene.link.state(), LinkState::Down, "that was before");
    scene.link.hear(at(since + 1_500));
    assert!(scene.due() <= since + 2_000);
    scene.tick(since + 2_000);
    assert_eq!(scene.link.state(), LinkState::RestartPinging);
    scene.tick(since + 2_000);
    scene.assert(LinkState::Restarted, &[(since + 2_000, true)]);
}

#[test]
fn a_connection_that_breaks_takes_the_link_from_up_and_it_is_asked_again() {
    let mut scene = Scene::up();
    scene.link.fail(at(10_500), scene.terms);
    assert_eq!(scene.link.state(), LinkState::RestartPinging);
    // Not more often than a PING takes, however often it breaks.
    assert_eq!(scene.due(), 11_000);
    scene.tick(11_000);
    scene.assert(LinkState::Restarted, &[(11_000, true)]);
}

#[test]
fn a_peer_that_refuses_connections_is_down_after_its_retries() {
    let mut scene = Scene::new(3);
    let mut ms = 10_000;
    while scene.link.state() != LinkState::Down {
        scene.tick(ms);
        // The PING was queued, and then the connection could not be made.
        scene.link.fail(at(ms + 1), scene.terms);
        ms += 1_000;
        assert!(ms < 20_000, "{:?}", scene.link);
    }
    assert_eq!(ms, 14_000);
    scene.link.fail(at(ms), scene.terms);
    assert_eq!(scene.link.state(), LinkState::Down);
}

#[test]
fn no_state_is_without_a_deadline_that_moves_on() {
    // Whatever comes, ticks at the deadlines always lead somewhere: no state spins, and none sleeps for ever.
    let mut dice = 7_u64;
    let mut scene = Scene::new(2);
    let mut ms = 1_000;
    for _ in 0..20_000 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        scene.can_send = dice >> 60 != 0;
        match dice >> 33 & 7 {
            0 => scene.link.pong(at(ms), scene.terms),
            1 => scene.link.hear(at(ms)),
            2 => scene.link.restart(),
            3 => scene.link.fail(at(ms), scene.terms),
            _ => {}
        }
        let mut spins = 0;
        while scene.link.due(scene.terms) <= at(ms) {
            scene.tick(ms);
            spins += 1;
            assert!(spins <= 3, "{:?} spins at {ms}", scene.link);
        }
        assert!(scene.due() <= ms + 60_000, "{:?} sleeps", scene.link);
        ms += dice >> 50 & 0xfff;
    }
    assert!(scene.pings.len() > 1_000);
}

#[test]
fn timers_too_long_for_the_clock_are_as_good_as_never() {
    let timers = Timers {
        node_timeout: Duration::MAX,
        ..Timers::default()
    };
    let mut scene = Scene::new(0);
    scene.terms = Terms::new(&timers, 0);
    scene.tick(10_000);
    assert_eq!(scene.run_until(LinkState::Down, 11_000), 11_000);
    assert_eq!(scene.due(), 12_000, "looked after, not asked");
}
