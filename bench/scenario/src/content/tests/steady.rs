//! Loads that begin in the middle.

use super::*;

/// Half a second at 50 000 packets per second, as a search for the highest rate tries it.
fn steady(scenario: &Scenario) -> Vec<Told> {
    let duration = Duration::from_millis(500);
    let schedule = Schedule::new(&scenario.arrivals, 5e4, duration, ALONE, scenario.seed);
    let mut content = Content::steady(scenario, RUN, ALONE, schedule).unwrap();
    taken(&mut Node::without_memory(scenario.form), &mut content)
}

#[test]
fn a_steady_load_has_the_mix_of_the_long_run_from_the_first_half_second_on() {
    let table = [(1, 3.0), (10, 1.0), (60, 0.5)].map(|(s, n)| (Duration::from_secs(s), n));
    for durations in [
        Durations::Fixed(Duration::from_secs(3)),
        exponential(3_000),
        exponential(300),
        exponential(180_000),
        Durations::LogNormal {
            median: Duration::from_secs(2),
            sigma: 1.0,
        },
        Durations::Table(table.to_vec()),
    ] {
        for updates in [0.0, 2.0] {
            let kind = dialogs(updates, durations.clone());
            let told = steady(&scenario(Form::Datagrams, [(kind, Sizes::Natural)]));
            let counts = counts(&told);
            let of_call = 25_000.0 / (2.0 + updates);
            for (did, share) in [
                (Did::Created, 1.0),
                (Did::Updated, updates),
                (Did::Deleted, 1.0),
            ] {
                let count = counts.get(&did).copied().unwrap_or(0) as f64;
                let expected = of_call * share;
                assert!(
                    (count - expected).abs() <= expected * 0.05,
                    "{durations:?} {updates}: {counts:?}"
                );
            }
        }
    }
}

#[test]
fn contacts_of_a_steady_load_are_registered_as_in_the_long_run() {
    for (register, refresh, unregister) in [(1.0, 8.0, 1.0), (3.0, 4.0, 1.0)] {
        let kind = Kind::Contacts {
            keys: Keys {
                population: 100_000,
                popularity: Popularity::Zipf { exponent: 1.0 },
            },
            register,
            refresh,
            unregister,
        };
        let told = steady(&scenario(Form::Datagrams, [(kind, Sizes::Natural)]));
        let counts = counts(&told);
        for (did, weight) in [
            (Did::Inserted, register),
            (Did::Refreshed, refresh),
            (Did::Removed, unregister),
        ] {
            let expected = 25_000.0 * weight / (register + refresh + unregister);
            let count = counts[&did] as f64;
            assert!((count - expected).abs() <= expected * 0.05, "{counts:?}");
        }
    }
}

#[test]
fn a_steady_load_of_every_release_is_genuine_but_for_what_was_before_it() {
    for form in forms() {
        let told = steady(&mixed(form));
        assert_eq!(told.len(), 25_000);
        assert_eq!(counts(&told).len(), 7);
    }
}
