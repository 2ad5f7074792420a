//! What is written is read back as the same.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::builtin::BUILTIN;
use crate::scenario::Step;

fn popularity() -> impl Strategy<Value = Popularity> {
    prop_oneof![
        Just(Popularity::Uniform),
        (0.01..=10.0).prop_map(|exponent| Popularity::Zipf { exponent }),
    ]
}

fn keys() -> impl Strategy<Value = Keys> {
    // Up to the largest, but most often small: a check makes the tables for all of them.
    let population = prop_oneof![1..=1_000_u64, 1..=(1_u64 << 24)];
    (population, popularity()).prop_map(|(population, popularity)| Keys {
        population,
        popularity,
    })
}

fn duration() -> impl Strategy<Value = Duration> {
    (1_000_000..=86_400_000_000_000_u64).prop_map(Duration::from_nanos)
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1e-9), Just(1.0), Just(1e9), 1e-9..=1e9]
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let size = 64..=65_000_u16;
    prop_oneof![
        Just(Sizes::Natural),
        size.clone().prop_map(Sizes::Fixed),
        (size.clone(), size.clone()).prop_map(|(a, b)| Sizes::Uniform {
            min: a.min(b),
            max: a.max(b),
        }),
        vec((size, weight()), 1..30).prop_map(Sizes::Table),
    ]
}

fn durations() -> impl Strategy<Value = Durations> {
    prop_oneof![
        duration().prop_map(Durations::Fixed),
        duration().prop_map(|mean| Durations::Exponential { mean }),
        (duration(), 0.01..=5.0).prop_map(|(median, sigma)| Durations::LogNormal { median, sigma }),
        vec((duration(), weight()), 1..30).prop_map(Durations::Table),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    let contacts = (keys(), 0.0..=1e9, 1e-3..=1e9, 0.0..=1.0);
    prop_oneof![
        ("x[!-~]{0,60}", keys()).prop_map(|(name, keys)| Kind::Miss { name, keys }),
        contacts.prop_map(|(keys, register, refresh, leaving)| Kind::Contacts {
            keys,
            register,
            refresh,
            unregister: register * leaving,
        }),
        (0.0..=1_000.0, durations())
            .prop_map(|(updates, duration)| Kind::Dialogs { updates, duration }),
    ]
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = (1.0..=1_000.0, sizes(), kind());
    vec(part, 1..=16).prop_map(|parts| {
        let sum: f64 = parts.iter().map(|(share, ..)| share).sum();
        let part = |(share, sizes, kind)| Part {
            share: share / sum,
            sizes,
            kind,
        };
        parts.into_iter().map(part).collect()
    })
}

fn arrivals() -> impl Strategy<Value = Arrivals> {
    let gaps = (1e-6..=1e9, vec(0.0..=1e9, 0..40));
    let step = (duration(), 0.0..=1_000.0).prop_map(|(duration, factor)| Step { duration, factor });
    prop_oneof![
        Just(Arrivals::Constant),
        Just(Arrivals::Poisson),
        gaps.prop_map(|(first, mut gaps)| {
            gaps.push(first);
            Arrivals::Captured(gaps)
        }),
        vec(step, 1..20).prop_map(|mut steps| {
            steps[0].factor += 1e-3;
            steps[0].factor = steps[0].factor.min(1_000.0);
            Arrivals::Steps(steps)
        }),
    ]
}

fn form() -> impl Strategy<Value = Form> {
    let frames = (1..FORMS.len(), 1..=i32::MAX, 1..=i32::MAX, 1..=i32::MAX);
    let frames = frames.prop_filter("two nodes", |(_, _, source, destination)| {
        source != destination
    });
    prop_oneof![
        Just(Form::Datagrams),
        frames.prop_map(|(form, cluster, source, destination)| Form::Frames {
            release: FORMS[form].1,
            cluster,
            source,
            destination,
        }),
    ]
}

proptest! {
    #[test]
    fn any_scenario_is_read_as_it_was_written(
        (name, description) in ("\\PC{1,64}", "\\PC{0,200}"),
        form in form(),
        seed: u64,
        parts in parts(),
        arrivals in arrivals(),
    ) {
        let scenario = Scenario { name, description, form, seed, parts, arrivals };
        prop_assert_eq!(scenario.check(), Ok(()));
        let text = scenario.to_toml();
        let read = Scenario::parse(&text, "a.toml");
        prop_assert_eq!(read, Ok(scenario), "{}", text);
    }
}

#[test]
fn a_shipped_scenario_is_written_so_that_it_stays_the_same() {
    for (name, _) in BUILTIN {
        let scenario = Scenario::find(name).unwrap();
        assert_eq!(Scenario::parse(&scenario.to_toml(), "a.toml"), Ok(scenario));
    }
}

#[test]
fn what_is_written_reads_well() {
    let text = "name = 'a \"b\"'\nform = '3.0'\n[cluster]\nid = 1\nsource = 2\ndestination = 3\n\
                [arrivals]\nkind = 'steps'\nsteps = [{ factor = 2, seconds = 0.5 }]\n\
                [[miss]]\npopulation = 5\n\
                [dialogs]\nshare = 2\nduration = { table = [['90s', 1], ['1h', 0.5]] }\nsize = 300\n\
                [[miss]]\npopulation = 0x10\npopularity = { zipf = 1 }\nsize = { min = 64, max = 100 }\n";
    let scenario = Scenario::parse(text, "a.toml").unwrap_or_else(|error| panic!("{error}"));
    let expected = r#"name = 'a "b"'
description = ""
form = "3.0"
seed = 1

[cluster]
id = 1
source = 2
destination = 3

[arrivals]
kind = "steps"
steps = [{ seconds = 0.5, factor = 2 }]

[[miss]]
share = 0.25
name = "binrush-miss"
population = 5
popularity = "uniform"
size = "natural"

[dialogs]
share = 0.5
updates = 1
duration = { table = [["1m 30s", 1], ["1h", 0.5]] }
size = 300

[[miss]]
share = 0.25
name = "binrush-miss"
population = 16
popularity = { zipf = 1 }
size = { min = 64, max = 100 }
"#;
    assert_eq!(scenario.to_toml(), expected);
}
