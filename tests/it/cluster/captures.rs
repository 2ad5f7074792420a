//! A seat answers as the genuine node did in whose place it is: message by message, up to timers and counters.

use std::collections::BTreeSet;

use binrush_engine::cluster::facts::CopyState;
use binrush_engine::cluster::outbox::Event;

use super::record::{self, SETTINGS};
use super::replay::{self, Outcome};
use spoken::{Difference, Line, Spoken, Word};

/// What a node said, in a form that can be compared.
mod spoken;

#[test]
fn a_seat_answers_as_the_node_did_that_it_stands_for() {
    let mut differences = BTreeSet::new();
    let mut compared = 0;
    for setting in SETTINGS {
        let packets = record::packets(&setting);
        for me in 1..=3 {
            let at = format!("{} node {me}", setting.capture);
            let outcome = replay::replay(&setting, &packets, me);
            let seat = Spoken::new(&setting, me, &outcome.said);
            let genuine = Spoken::new(&setting, me, &outcome.expected);
            compared += same_words(&at, &seat, &genuine, &mut differences);
            compared += same_states(&at, &seat, &genuine, &outcome, &mut differences);
            compared += same_requests(&at, &seat, &genuine, &mut differences);
            differences.extend(seat.differences.iter().chain(&genuine.differences));
            told_what_came(&at, &outcome);
        }
    }
    assert!(compared > 390, "{compared}");
    // No difference is allowed that there is not.
    let listed: BTreeSet<_> = Difference::ALL.into_iter().collect();
    let never: Vec<_> = listed
        .difference(&differences)
        .map(|never| never.reason())
        .collect();
    assert!(never.is_empty(), "{never:#?}");
}

/// Every line of the conversation is the same, word by word; how many words there were.
fn same_words(
    at: &str,
    seat: &Spoken,
    genuine: &Spoken,
    differences: &mut BTreeSet<Difference>,
) -> usize {
    let nothing = vec![];
    let mut compared = 0;
    let all: BTreeSet<_> = seat.lines.keys().chain(genuine.lines.keys()).collect();
    for line in all {
        let said = seat.lines.get(line).unwrap_or(&nothing);
        let mut expected = genuine.lines.get(line).unwrap_or(&nothing).clone();
        if line.is_unnumbered && expected.len() > said.len() {
            differences.insert(Difference::Unnumbered);
            expected = without_repetitions(said, expected);
        }
        let texts = |words: &[Word]| {
            words
                .iter()
                .map(|word| word.text.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(said), texts(&expected), "{at}: {line:?}");
        for (said, expected) in said.iter().zip(&expected) {
            same_word(at, line, said, expected, differences);
        }
        compared += said.len();
    }
    compared
}

fn same_word(
    at: &str,
    line: &Line,
    said: &Word,
    expected: &Word,
    differences: &mut BTreeSet<Difference>,
) {
    for (node, told) in &said.hearsay {
        let genuine = expected.hearsay.get(node);
        assert_eq!(Some(told), genuine, "{at}: {line:?} about node {node}");
    }
    if expected.hearsay.len() > said.hearsay.len() {
        differences.insert(Difference::Hearsay);
    }
    let late = said
        .at
        .nanos_since(expected.at)
        .max(expected.at.nanos_since(said.at));
    assert!(
        late < LATE_NS,
        "{at}: {line:?} {late} ns apart: {}",
        said.text
    );
}

/// Those of `expected` that were said, in order: an update without a number is passed on only if it says something new.
fn without_repetitions(said: &[Word], expected: Vec<Word>) -> Vec<Word> {
    let mut said = said.iter().peekable();
    let is_said = |word: &Word| said.next_if(|next| next.text == word.text).is_some();
    expected.into_iter().filter(is_said).collect()
}

/// What the node told of its own copies, one change after the other; how many there were.
fn same_states(
    at: &str,
    seat: &Spoken,
    genuine: &Spoken,
    outcome: &Outcome,
    differences: &mut BTreeSet<Difference>,
) -> usize {
    let again = spoken::syncs_after_absence(&outcome.events);
    let all: BTreeSet<_> = seat.states.keys().chain(genuine.states.keys()).collect();
    for key in &all {
        let (to, capability) = key;
        let told = seat.states.get(*key).map_or(&[][..], |told| told);
        let first_hand: Vec<_> = told
            .iter()
            .filter(|(when, synced)| {
                let mut again = again.iter().filter(|again| again.capability == *capability);
                *synced || !again.any(|again| (again.from..=again.to).contains(when))
            })
            .copied()
            .collect();
        if first_hand.len() < told.len() {
            differences.insert(Difference::Absence);
        }
        let said = spoken::changes(&first_hand);
        let expected = spoken::changes(genuine.states.get(*key).map_or(&[][..], |told| told));
        // Who comes up in the middle of a sync hears of it from the one and not from the other.
        let (longer, shorter) = match said.len() > expected.len() {
            true => (&said, &expected),
            false => (&expected, &said),
        };
        assert!(
            longer.ends_with(shorter),
            "{at}: {capability} to {to}: {said:?} for {expected:?}"
        );
        assert!(
            longer.len() - shorter.len() <= 1,
            "{at}: {capability} to {to}: {said:?}"
        );
        if longer.len() > shorter.len() {
            differences.insert(Difference::Settling);
        }
    }
    all.len()
}

/// What was asked for, at least as often as the node asked; how often that was.
fn same_requests(
    at: &str,
    seat: &Spoken,
    genuine: &Spoken,
    differences: &mut BTreeSet<Difference>,
) -> usize {
    let all: BTreeSet<_> = seat
        .requests
        .keys()
        .chain(genuine.requests.keys())
        .collect();
    let mut compared = 0;
    for capability in all {
        let of = |spoken: &Spoken| spoken.requests.get(capability).cloned().unwrap_or_default();
        let (said, all) = (of(seat), of(genuine));
        let again = all
            .windows(2)
            .filter(|pair| pair[1].0.nanos_since(pair[0].0) < UNDER_WAY_NS)
            .count();
        if again > 0 {
            differences.insert(Difference::Impatience);
        }
        let (asked, expected) = (said.len(), all.len() - again);
        assert!(
            asked >= expected,
            "{at}: {capability} asked for {asked} times, not {expected}"
        );
        if asked > expected {
            differences.insert(Difference::Absence);
        }
        let donors = |asked: &[(_, i32)]| asked.iter().map(|(_, donor)| *donor).collect::<Vec<_>>();
        if donors(&said) != donors(&all) {
            differences.insert(Difference::Donors);
        }
        compared += expected;
    }
    compared
}

/// A request that follows another one so soon was made before that could be answered: 1 ms.
const UNDER_WAY_NS: u64 = 1_000_000;

/// Scripts and operators were told of all that came for them, and nothing of it was done.
fn told_what_came(at: &str, outcome: &Outcome) {
    let count =
        |is: fn(&Event) -> bool| outcome.events.iter().filter(|(_, event)| is(event)).count();
    let generic = count(|event| matches!(event, Event::Generic { .. }));
    let commands = count(|event| matches!(event, Event::NotExecuted { .. }));
    assert_eq!(
        (generic, commands),
        (outcome.told.generic, outcome.told.commands),
        "{at}"
    );
    let tags = outcome.facts.tags.iter();
    let holder = tags.filter_map(|tag| tag.active).next_back();
    assert_eq!(holder, outcome.told.tag, "{at}");
    let warnings: Vec<_> = outcome
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Warning { .. }))
        .collect();
    assert!(warnings.is_empty(), "{at}: {warnings:#?}");
    let capabilities = &outcome.facts.capabilities;
    let unverified = capabilities
        .iter()
        .find(|own| own.state != CopyState::Verified);
    assert_eq!(unverified, None, "{at}");
}

/// How far apart the same message of both may be: a PING may have to be missed first.
const LATE_NS: u64 = 1_100_000_000;
