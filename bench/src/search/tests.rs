use super::simulated::{Shape, Simulated};
use super::*;
use proptest::prelude::*;

const MIN_PPS: f64 = 1e3;
const MAX_PPS: f64 = 1e6;

fn goals(texts: &[&str]) -> Vec<Goal> {
    let goal = |text: &&str| Goal::default().with(&text.parse().unwrap());
    texts.iter().map(goal).collect()
}

/// Without a budget that would matter.
fn plan(texts: &[&str]) -> Plan {
    Plan::new(
        goals(texts),
        (MIN_PPS, MAX_PPS),
        Duration::from_secs(86_400),
    )
    .unwrap()
}

fn search(sut: &mut Simulated, plan: &Plan) -> Found {
    run_search(sut, plan, &mut |_| {})
}

/// The same, with the time that is accounted for at the end.
fn search_spending(sut: &mut Simulated, plan: &Plan) -> (Found, Duration) {
    let mut spent = Duration::ZERO;
    let found = run_search(sut, plan, &mut |progress| spent = progress.spent);
    (found, spent)
}

fn searched(shape: Shape, texts: &[&str]) -> (Found, Simulated) {
    let mut sut = Simulated::new(shape, 1);
    let found = search(&mut sut, &plan(texts));
    (found, sut)
}

fn bounds(found: &Found, goal: usize) -> (f64, f64) {
    let goal = &found.result.goals[goal];
    (goal.lower_pps.unwrap(), goal.upper_pps.unwrap())
}

#[test]
fn a_sharp_limit_is_found_within_the_width_and_every_goal_exits_regularly() {
    let limit_pps = 312_345.0;
    let (found, sut) = searched(Shape::Sharp { limit_pps }, &["loss=0"]);
    let (lower, upper) = bounds(&found, 0);
    assert!(
        lower <= limit_pps && limit_pps < upper,
        "{lower} to {upper}"
    );
    assert!((upper - lower) / upper <= 0.005);
    let result = &found.result;
    assert_eq!(result.goals[0].exit, "regular");
    assert_eq!(
        (result.rate_pps, result.lower_pps, result.upper_pps),
        (lower, Some(lower), Some(upper))
    );
    assert_eq!(result.goals[0].throughput_pps, Some(lower));
    assert!(found.trouble.is_none() && found.end() == End::Done);
    // Half of the sum at each of the bounds are 22; the way there is short, because the first trials hint at the limit.
    let trials = sut.searched().count();
    assert!(trials < 30, "{trials} trials");
}

#[test]
fn latencies_are_taken_at_10_50_and_90_percent_of_the_rate_found() {
    let (found, sut) = searched(
        Shape::Sharp {
            limit_pps: 312_345.0,
        },
        &["loss=0"],
    );
    let at_percent = &found.result.at_percent;
    assert_eq!(
        at_percent
            .iter()
            .map(|(percent, _)| *percent)
            .collect::<Vec<_>>(),
        [10, 50, 90]
    );
    for (percent, place) in at_percent {
        let (name, rate_pps, _) = &sut.asked[*place];
        assert_eq!(*name, format!("at {percent} %"));
        let expected = found.result.rate_pps * f64::from(*percent) / 100.0;
        assert!((rate_pps - expected).abs() < 1e-6);
    }
}

#[test]
fn a_goal_for_latency_is_found_below_the_loss() {
    let shape = Shape::Latency {
        knee_pps: 80_000.0,
        limit_pps: 500_000.0,
    };
    let (found, _) = searched(shape, &["loss=0,p99=1ms", "loss=0"]);
    let ((slow, too_slow), (kept, lost)) = (bounds(&found, 0), bounds(&found, 1));
    assert!(
        slow <= 80_000.0 && 80_000.0 < too_slow,
        "{slow} to {too_slow}"
    );
    assert!(kept <= 500_000.0 && 500_000.0 < lost, "{kept} to {lost}");
    // What meets all goals is what meets the harder one.
    assert_eq!(found.result.rate_pps, slow);
    assert_eq!(found.result.upper_pps, Some(too_slow));
}

#[test]
fn a_receiver_that_collapses_under_overload_is_not_underrated() {
    let (found, _) = searched(
        Shape::Collapsing {
            limit_pps: 640_000.0,
        },
        &["loss=0"],
    );
    let (lower, upper) = bounds(&found, 0);
    assert!(
        lower <= 640_000.0 && 640_000.0 < upper,
        "{lower} to {upper}"
    );
}

#[test]
fn a_noisy_limit_is_found_near_its_middle_again_and_again() {
    // Each trial finds the limit up to 10 % off; half of them may exceed, so it is the middle that counts.
    let limit_pps = 300_000.0;
    for seed in 0..30 {
        let mut sut = Simulated::new(
            Shape::Noisy {
                limit_pps,
                noise: 0.1,
            },
            seed,
        );
        let found = search(&mut sut, &plan(&["loss=0"]));
        let off = found.result.rate_pps / limit_pps - 1.0;
        assert!(off.abs() < 0.07, "seed {seed}: {:.1} % off", off * 100.0);
    }
}

#[test]
fn even_the_lowest_rate_exceeding_is_an_irregular_end() {
    let (found, sut) = searched(Shape::Sharp { limit_pps: 10.0 }, &["loss=0"]);
    let goal = &found.result.goals[0];
    assert_eq!(
        goal.exit,
        "irregular: even the lowest rate, 1000/s, exceeds it"
    );
    assert_eq!(
        (goal.lower_pps, goal.upper_pps, goal.throughput_pps),
        (None, Some(MIN_PPS), None)
    );
    assert_eq!(
        (found.result.rate_pps, found.result.at_percent.len()),
        (0.0, 0)
    );
    let bounds = (found.result.lower_pps, found.result.upper_pps);
    assert_eq!(bounds, (None, Some(MIN_PPS)));
    assert_eq!(found.end(), End::Failed);
    assert_eq!(sut.searched().count(), sut.asked.len());
}

#[test]
fn even_the_highest_rate_holding_is_an_irregular_end_with_that_rate() {
    let (found, _) = searched(Shape::Sharp { limit_pps: 1e9 }, &["loss=0"]);
    let goal = &found.result.goals[0];
    assert_eq!(
        goal.exit,
        "irregular: even the highest rate, 1000000/s, keeps to it"
    );
    assert_eq!((goal.lower_pps, goal.upper_pps), (Some(MAX_PPS), None));
    assert_eq!(found.result.rate_pps, MAX_PPS);
    assert_eq!(found.result.upper_pps, None);
    assert_eq!(found.result.binding.resource, "none");
    assert_eq!(found.end(), End::Done);
}

#[test]
fn without_a_maximum_the_rate_that_holds_at_the_top_is_only_what_the_generator_can() {
    let end = |arguments: &[&str]| {
        let plan = parsed(arguments).unwrap().plan(true, MAX_PPS).unwrap();
        let mut sut = Simulated::new(Shape::Sharp { limit_pps: 1e9 }, 1);
        let found = search(&mut sut, &plan);
        let doubts = found.doubts();
        (found.end(), found.result.binding, doubts)
    };
    let (ended, binding, doubts) = end(&["--loss", "0"]);
    assert_eq!((ended, &binding.resource[..]), (End::Worthless, GENERATOR));
    let words = "the highest rate that this generator can send was kept to";
    assert!(binding.evidence.starts_with(words), "{}", binding.evidence);
    assert!(doubts[0].text.contains(words), "{}", doubts[0].text);
    // Whoever names it wants no more.
    let (ended, binding, doubts) = end(&["--loss", "0", "--max", "1M"]);
    assert_eq!((ended, &binding.resource[..]), (End::Done, "none"));
    assert!(doubts.is_empty(), "{doubts:?}");
}

#[test]
fn a_search_that_was_stopped_without_an_upper_bound_says_what_exceeded_and_that_it_was_stopped() {
    let shape = Shape::Sharp {
        limit_pps: 312_345.0,
    };
    // The first trial is at the top and exceeds, which is no bound until more trials say the same.
    let mut sut = Simulated::new(shape, 1);
    sut.dies_after = 1;
    let found = search(&mut sut, &plan(&["loss=0"]));
    let result = &found.result;
    assert_eq!((result.lower_pps, result.upper_pps), (None, None));
    assert_eq!(result.binding.resource, "receiver core");
    let words = "not finished; of a trial at 1 000 000/s";
    let evidence = &result.binding.evidence;
    assert!(evidence.starts_with(words), "{evidence}");
    assert!(evidence.ends_with("trial 1"), "{evidence}");
    assert_eq!(result.unfinished(), Some("the receiver died"));
    // It speaks of one trial, so the rate is not called the generator's.
    let mut sut = Simulated::new(shape, 1);
    (sut.dies_after, sut.binding) = (1, Some(GENERATOR));
    let found = search(&mut sut, &plan(&["loss=0"]));
    assert!(found.doubts().is_empty());
    assert_eq!(found.end(), End::Failed);
}

#[test]
fn what_is_known_when_the_budget_ends_is_the_result_and_is_marked() {
    let limit_pps = 312_345.0;
    let budget = Duration::from_secs(20);
    let plan = Plan::new(goals(&["loss=0"]), (MIN_PPS, MAX_PPS), budget).unwrap();
    let mut sut = Simulated::new(Shape::Sharp { limit_pps }, 1);
    let (found, spent) = search_spending(&mut sut, &plan);
    let goal = &found.result.goals[0];
    assert!(
        goal.exit
            .starts_with("not finished: the budget of 20s is spent"),
        "{}",
        goal.exit
    );
    assert!(goal.lower_pps.is_none_or(|lower| lower <= limit_pps));
    assert!(goal.upper_pps.is_none_or(|upper| upper > limit_pps));
    let trouble = format!("{:#}", found.trouble.as_ref().unwrap());
    assert!(
        trouble.contains("budget of 20s") && trouble.contains("--budget"),
        "{trouble}"
    );
    assert!(spent <= budget, "{spent:?}");
    assert_eq!(found.end(), End::Failed);
}

#[test]
fn a_receiver_that_dies_leaves_what_was_known_before() {
    let mut sut = Simulated::new(
        Shape::Sharp {
            limit_pps: 312_345.0,
        },
        1,
    );
    let all = {
        let mut whole = Simulated::new(
            Shape::Sharp {
                limit_pps: 312_345.0,
            },
            1,
        );
        search(&mut whole, &plan(&["loss=0"]));
        whole.searched().count()
    };
    sut.dies_after = all - 1;
    let found = search(&mut sut, &plan(&["loss=0"]));
    assert_eq!(
        found.result.goals[0].exit,
        "not finished: the receiver died"
    );
    assert_eq!(
        found.trouble.as_ref().unwrap().to_string(),
        "the receiver died"
    );
    // Nothing is asked of it any more.
    assert_eq!(sut.asked.len(), all - 1);
    assert!(found.result.goals[0].lower_pps.is_some() || found.result.goals[0].upper_pps.is_some());
}

#[test]
fn a_receiver_that_dies_at_once_leaves_a_result_without_bounds() {
    let mut sut = Simulated::new(Shape::Flapping, 1);
    sut.dies_after = 0;
    let found = search(&mut sut, &plan(&["loss=0", "loss=0.1"]));
    assert_eq!(found.result.goals.len(), 2);
    let result = &found.result;
    assert_eq!((result.rate_pps, result.lower_pps), (0.0, None));
    assert_eq!(result.upper_pps, None);
    assert_eq!(result.binding.resource, binding::UNKNOWN);
    assert!(result.binding.evidence.starts_with("not finished"));
    assert!(found.trouble.is_some());
}

#[test]
fn a_goal_for_latency_without_latencies_ends_the_search_and_says_why() {
    let mut sut = Simulated::new(Shape::Sharp { limit_pps: 1e9 }, 1);
    sut.is_probed = false;
    let found = search(&mut sut, &plan(&["p99=1ms"]));
    assert!(found.trouble.unwrap().to_string().contains("probe"));
    assert_eq!(sut.asked.len(), 1);
}

#[test]
fn the_binding_resource_is_that_of_the_trials_just_above_the_rate_found() {
    let shape = Shape::Sharp {
        limit_pps: 312_345.0,
    };
    let (found, sut) = searched(shape, &["loss=0"]);
    assert_eq!(found.result.binding.resource, "receiver core");
    let mut at_upper = sut
        .asked
        .iter()
        .rev()
        .filter(|(_, rate_pps, _)| Some(*rate_pps) == found.result.upper_pps);
    let (last, ..) = at_upper.next().unwrap();
    assert_eq!(&found.result.binding.evidence, last);
}

#[test]
fn a_search_that_ends_at_the_generator_says_so_and_is_worthless() {
    let mut sut = Simulated::new(
        Shape::Sharp {
            limit_pps: 312_345.0,
        },
        1,
    );
    sut.binding = Some(GENERATOR);
    let found = search(&mut sut, &plan(&["loss=0"]));
    assert_eq!(found.end(), End::Worthless);
    let doubts = found.doubts();
    assert_eq!(doubts[0].severity, "worthless");
    assert!(
        doubts[0].text.contains("the generator was the limit"),
        "{}",
        doubts[0].text
    );
}

#[test]
fn a_goal_that_the_generator_cannot_reach_is_not_missed() {
    let mut sut = Simulated::new(Shape::Sharp { limit_pps: 10.0 }, 1);
    sut.binding = Some(GENERATOR);
    let found = search(&mut sut, &plan(&["loss=0"]));
    assert_eq!(found.result.goals[0].lower_pps, None);
    assert_eq!(found.end(), End::Worthless);
}

#[test]
fn a_worthless_trial_never_speaks_for_a_rate() {
    let mut sut = Simulated::new(Shape::Sharp { limit_pps: 1e9 }, 1);
    sut.worthless_above_pps = 70_000.0;
    let found = search(&mut sut, &plan(&["loss=0"]));
    let (lower, upper) = bounds(&found, 0);
    assert!(lower <= 70_000.0 && 70_000.0 < upper, "{lower} to {upper}");
    assert_eq!(found.worthless.as_deref(), Some("disturbed"));
    assert_eq!(found.end(), End::Worthless);
}

#[test]
fn it_is_told_how_the_search_stands_before_and_after_every_trial() {
    let mut sut = Simulated::new(
        Shape::Sharp {
            limit_pps: 312_345.0,
        },
        1,
    );
    let mut told: Vec<Progress> = Vec::new();
    let found = run_search(&mut sut, &plan(&["loss=0"]), &mut |progress| {
        told.push(progress.clone())
    });
    assert!(told.len() >= 2 * sut.asked.len());
    let named = told.iter().filter_map(|progress| progress.current.clone());
    let names: Vec<String> = named.map(|(name, _)| name).collect();
    let asked: Vec<&String> = sut.asked.iter().map(|(name, ..)| name).collect();
    assert_eq!(names.iter().collect::<Vec<_>>(), asked);
    let last = told.last().unwrap();
    assert_eq!(last.goals[0].lower_pps, found.result.lower_pps);
    assert!(last.trials.iter().any(|row| row.exceeded.is_some()));
    assert!(last.trials.len() <= progress::TRIALS_SHOWN);
}

fn parsed(arguments: &[&str]) -> Result<What, clap::Error> {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        what: What,
    }
    let line = ["search"].iter().chain(arguments);
    <Line as clap::Parser>::try_parse_from(line).map(|line| line.what)
}

#[test]
fn the_goals_of_the_command_line_are_what_was_asked_for() {
    let told = |arguments: &[&str], known| {
        let goals = parsed(arguments).unwrap().goals(known)?;
        Ok::<_, String>(goals.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(told(&[], true).unwrap(), ["loss <= 0 and p99 <= 1ms"]);
    assert_eq!(told(&[], false).unwrap(), ["loss <= 0"]);
    assert_eq!(told(&["--loss", "0.1%"], true).unwrap(), ["loss <= 0.001"]);
    assert_eq!(
        told(&["--goal", "p99=2ms"], true).unwrap(),
        ["loss <= 0 and p99 <= 2ms"]
    );
    assert_eq!(
        told(
            &["--p99", "1ms", "--p999", "5ms", "--goal", "loss=0.01"],
            true
        )
        .unwrap(),
        ["loss <= 0 and p99 <= 1ms and p99.9 <= 5ms", "loss <= 0.01"]
    );
    assert!(
        told(&["--p99", "1ms"], false)
            .unwrap_err()
            .contains("probe")
    );
    assert!(
        told(&["--trial", "2s", "--sum", "1s"], true)
            .unwrap_err()
            .contains("sum 1s")
    );
    let nine = ["--goal", "loss=0"].repeat(9);
    assert!(told(&nine, true).unwrap_err().contains("9 goals"));
    assert!(parsed(&["--width", "60%"]).is_err());
    let short = parsed(&["--budget", "500ms"]).unwrap();
    assert!(
        short
            .plan(true, 1e6)
            .unwrap_err()
            .contains("does not hold one trial")
    );
    let upside_down = parsed(&["--min", "2M"]).unwrap();
    assert!(upside_down.plan(true, 1e6).is_err());
}

fn shapes() -> impl Strategy<Value = Shape> {
    let rate = || (500.0_f64.ln()..2e6_f64.ln()).prop_map(f64::exp);
    prop_oneof![
        rate().prop_map(|limit_pps| Shape::Sharp { limit_pps }),
        (rate(), 0.0..0.2).prop_map(|(limit_pps, noise)| Shape::Noisy { limit_pps, noise }),
        rate().prop_map(|begin_pps| Shape::Slow { begin_pps }),
        (rate(), rate()).prop_map(|(knee_pps, limit_pps)| Shape::Latency {
            knee_pps,
            limit_pps
        }),
        Just(Shape::Flapping),
        rate().prop_map(|limit_pps| Shape::Collapsing { limit_pps }),
    ]
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let trial = (100_u64..2_000, 1_u64..4, 1_u64..30);
    let loss = prop_oneof![Just(0.0), 0.0001..0.1_f64];
    let exceed = prop_oneof![Just(0.5), 0.0..0.9_f64];
    (trial, loss, exceed, 0.002..0.05_f64, any::<bool>()).prop_map(
        |((initial, times, sum), loss, exceed, width, limits)| {
            let initial = Duration::from_millis(initial);
            let trial = initial * u32::try_from(times).unwrap();
            let limit = goal::Limit {
                quantile: 0.99,
                limit: Duration::from_millis(1),
            };
            Wishes {
                loss_ratio: Some(loss),
                latency: limits.then_some(limit).into_iter().collect(),
                exceed_ratio: Some(exceed),
                width: Some(width),
                initial_trial: Some(initial),
                final_trial: Some(trial),
                duration_sum: Some(trial * u32::try_from(sum).unwrap()),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_search_ends_within_its_limits_and_its_time_adds_up(
        shape in shapes(), wishes in prop::collection::vec(wishes(), 1..4), seed: u64,
    ) {
        let goals: Vec<Goal> = wishes.iter().map(|wishes| Goal::default().with(wishes)).collect();
        let day = Duration::from_secs(86_400);
        let plan = Plan::new(goals.clone(), (MIN_PPS, MAX_PPS), day).unwrap();
        let mut sut = Simulated::new(shape, seed);
        let (found, spent) = search_spending(&mut sut, &plan);
        for (_, rate_pps, _) in sut.searched() {
            prop_assert!((MIN_PPS..=MAX_PPS).contains(rate_pps));
        }
        let took: Duration = sut.asked.iter().map(|(.., duration)| *duration + sut.overhead).sum();
        prop_assert_eq!(took, spent);
        prop_assert!(found.trouble.is_none(), "{:?}", found.trouble);
        // At each of the few dozen rates of a search, no more than the sum of each goal.
        let rates: f64 = 60.0 * goals.len() as f64;
        let per_rate: f64 = goals.iter().map(|goal| goal.duration_sum.as_secs_f64() / goal.initial_trial.as_secs_f64() + 3.0).sum();
        let trials = sut.asked.len() as f64;
        prop_assert!(trials <= rates * per_rate, "{trials} trials");
        for (goal, result) in goals.iter().zip(&found.result.goals) {
            prop_assert!(!result.exit.starts_with("not finished"), "{}", result.exit);
            if let (Some(lower), Some(upper)) = (result.lower_pps, result.upper_pps) {
                prop_assert!((upper - lower) / upper <= goal.width * (1.0 + 1e-6), "{lower} to {upper}");
                prop_assert_eq!(&result.exit[..], "regular");
            }
            if let (Some(lower), Some(throughput)) = (result.lower_pps, result.throughput_pps) {
                prop_assert!(throughput <= lower && throughput >= lower * (1.0 - goal.loss_ratio) - 1e-6);
            }
        }
    }

    #[test]
    fn the_bounds_of_a_deterministic_receiver_hold_the_truth(
        limit_pps in 2e3..0.9e6_f64, loss in prop_oneof![Just(0.0), 0.0001..0.1_f64],
        knee in 0.05..2.0_f64, seed: u64,
    ) {
        // With so much loss allowed, the limit is reached at a higher rate.
        let at_loss = limit_pps / (1.0 - loss);
        prop_assume!(at_loss < 0.99 * MAX_PPS);
        let knee_pps = (limit_pps * knee).max(MIN_PPS * 1.1);
        let mut sut = Simulated::new(Shape::Latency { knee_pps, limit_pps }, seed);
        let texts = [format!("loss={loss}"), format!("loss={loss},p99=1ms")];
        let found = search(&mut sut, &plan(&[&texts[0], &texts[1]]));
        let truths = [at_loss, at_loss.min(knee_pps)];
        for (goal, truth) in truths.into_iter().enumerate() {
            let (lower, upper) = bounds(&found, goal);
            prop_assert!(lower <= truth * (1.0 + 1e-9) && truth <= upper * (1.0 + 1e-9), "{lower} to {upper}, not {truth}");
        }
    }

    #[test]
    fn a_budget_is_never_overspent(
        shape in shapes(), seconds in 2_u64..200, overhead_ms in 0_u64..2_000, seed: u64,
    ) {
        let budget = Duration::from_secs(seconds);
        let plan = Plan::new(goals(&["loss=0,p99=1ms", "loss=0.01"]), (MIN_PPS, MAX_PPS), budget).unwrap();
        let mut sut = Simulated::new(shape, seed);
        sut.overhead = Duration::from_millis(overhead_ms);
        let (_, spent) = search_spending(&mut sut, &plan);
        // What a trial takes besides its load is known after the first one.
        prop_assert!(spent <= budget || sut.asked.len() == 1, "{spent:?}");
    }
}
