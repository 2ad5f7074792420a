//! The page as a whole, for results of all kinds.

use std::collections::BTreeSet;
use std::env;

use super::*;
use crate::result::{IntervalRow, Trial};

/// Every result that the page is tried with, by name.
fn results() -> Vec<(&'static str, RunResult)> {
    let mut self_test = fixture::load();
    self_test.command = "self-test".to_owned();
    self_test.trials.clear();
    vec![
        ("load", fixture::load()),
        ("search", fixture::search()),
        ("incomplete", fixture::incomplete()),
        ("empty", fixture::empty()),
        ("self-test", self_test),
        ("hostile", hostile()),
    ]
}

/// A result with markup in every name, and numbers that no run has.
fn hostile() -> RunResult {
    let name = || HOSTILE.to_owned();
    let mut result = fixture::search();
    result.command = name();
    result.arguments = vec![name(), "it's".to_owned()];
    result.version = name();
    result.trouble = Some(name());
    result.complete = false;
    result.host = serde_json::json!({ HOSTILE: HOSTILE, "parts": { HOSTILE: [HOSTILE] } });
    result.doubts = ["worthless", "note", HOSTILE]
        .map(|severity| fixture::doubt(severity, HOSTILE, Some(HOSTILE)))
        .into();
    for row in &mut result.self_test {
        row.way = name();
        row.rate_pps = f64::MAX;
        row.ns_per_packet = -1.0;
    }
    for trial in &mut result.trials {
        spoil(trial);
    }
    if let Some(search) = &mut result.search {
        search.goals[0].goal = format!("loss <= 0 and p99 <= 1ms and {HOSTILE}");
        search.goals[0].exit = name();
        search.binding.resource = name();
        search.binding.evidence = name();
        search.lower_pps = Some(f64::MIN);
        search.at_percent = vec![(10, 0), (50, usize::MAX), (90, 1)];
    }
    result
}

fn spoil(trial: &mut Trial) {
    let name = || HOSTILE.to_owned();
    trial.name = name();
    trial.scenario = name();
    trial.transport = name();
    trial.receiver.name = name();
    trial.receiver.outcomes = [(name(), u64::MAX)].into();
    trial.receiver.kernel_drops = [(name(), u64::MAX)].into();
    trial.ledger.terms = vec![(name(), u64::MAX), ("arrived once".to_owned(), u64::MAX)];
    trial.ledger.remainder = i64::MIN;
    trial.ledger.loss_ratio = f64::MAX;
    trial.offered_pps = -1e300;
    trial.seconds = 0.0;
    for sender in &mut trial.senders {
        sender.errors = [(name(), u64::MAX)].into();
        (sender.sent, sender.planned, sender.unsent) = (u64::MAX, u64::MAX, u64::MAX);
        sender.start_ns = u64::MAX;
    }
    trial.intervals.push(IntervalRow {
        second: u64::MAX,
        offered: u64::MAX,
        sent: u64::MAX,
        ..IntervalRow::default()
    });
}

#[test]
fn every_element_of_a_page_is_closed_and_every_id_is_one_of_a_kind() {
    for (name, result) in results() {
        let page = document::page(&result);
        let tags = tags(&page);
        let mut open: Vec<&str> = Vec::new();
        for tag in &tags {
            if let Some(closed) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{name}");
            } else if !tag.ends_with('/') && !tag.starts_with('!') {
                open.push(tag.split_whitespace().next().unwrap());
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
        assert!(tags.len() > 50, "{name}");
        let mut ids = BTreeSet::new();
        for tag in &tags {
            if let Some((_, id)) = tag.split_once(" id=\"") {
                assert!(ids.insert(id.split('"').next().unwrap()), "{name}: {tag}");
            }
        }
    }
}

#[test]
fn a_page_asks_for_nothing_from_anywhere() {
    for (name, result) in results() {
        let page = document::page(&result);
        for tag in tags(&page) {
            let element = tag.split_whitespace().next().unwrap();
            assert!(
                !["script", "img", "iframe", "object", "a", "use", "image"].contains(&element),
                "{name}: {tag}"
            );
            for asking in [
                " src=", " srcset=", " xlink:", " action=", " style=", " onload=",
            ] {
                assert!(!tag.contains(asking), "{name}: {tag}");
            }
            assert!(
                !tag.contains(" href=") || tag.contains(" href=\"data:,\""),
                "{name}: {tag}"
            );
        }
        for asking in ["url(", "@import", "@font-face"] {
            assert!(!page.contains(asking), "{name}: {asking}");
        }
        assert!(
            page.contains("content=\"default-src &#39;none&#39;;"),
            "{name}"
        );
    }
}

#[test]
fn names_are_shown_and_never_become_markup() {
    let page = document::page(&hostile());
    for markup in ["<script", "<img", "<b onclick", "\u{202e}", "\0"] {
        assert!(!page.contains(markup), "{markup}");
    }
    let escaped = "&quot;&gt;&lt;script src=&#39;https://example.org/x.js&#39;&gt;";
    assert!(page.matches(escaped).count() > 50);
    let plain = document::page(&fixture::load());
    let elements = |page: &str| {
        tags(page)
            .iter()
            .map(|tag| tag.split(' ').next().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    // Nothing is there that no other page has, but for what folds trials.
    let search = document::page(&fixture::search());
    let known: BTreeSet<String> = elements(&plain)
        .union(&elements(&search))
        .cloned()
        .collect();
    assert_eq!(elements(&page).difference(&known).next(), None);
}

#[test]
fn no_number_of_a_page_is_broken() {
    for (name, result) in results() {
        let page = document::page(&result);
        for broken in ["NaN", "\"inf", " inf", "\"-inf", "e308", "e30"] {
            assert!(!page.contains(broken), "{name}: {broken}");
        }
    }
}

#[test]
fn every_count_of_a_ledger_is_in_its_page() {
    for (name, result) in results() {
        let page = document::page(&result);
        for trial in &result.trials {
            let ledger = &trial.ledger;
            let counts = ledger.terms.iter().map(|(_, count)| *count);
            let counts = counts.chain([ledger.planned, ledger.duplicates, ledger.foreign]);
            for count in counts
                .map(units::count)
                .chain([units::signed(ledger.remainder)])
            {
                assert!(page.contains(&count), "{name}: {count}");
            }
        }
    }
    let complete = document::page(&fixture::load());
    assert!(complete.contains("every packet is accounted for"));
}

#[test]
fn what_speaks_against_a_run_comes_before_its_figures() {
    let page = document::page(&fixture::incomplete());
    let at = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("{text} is not in the page"))
    };
    let answer = at("class=\"answer\"");
    for alarm in [
        "Not complete:",
        "the receiver died during the load",
        "Worthless:",
        "not sent in time",
        "The ledger has a remainder:",
    ] {
        assert!(at(alarm) < answer, "{alarm}");
    }
    assert!(answer < at("More reasons to doubt") && at("steal: ") < at("dropped since boot"));
    let fine = document::page(&fixture::load());
    assert!(!fine.contains("class=\"alarm\""));
    // Counts that were changed by hand do not add up, whatever the remainder says.
    let mut changed = fixture::load();
    changed.trials[0].ledger.terms[0].1 += 1;
    assert!(document::page(&changed).contains("The result was changed:"));
}

#[test]
fn a_load_has_its_charts_and_a_search_shows_each_trial_with_its_verdict() {
    let load = document::page(&fixture::load());
    for title in [
        "Latency by percentile",
        "Offered and delivered",
        "Latency over time",
    ] {
        assert!(load.contains(&format!("<b>{title}</b>")), "{title}");
    }
    let search = document::page(&fixture::search());
    assert!(
        search.contains("<b>Latency by rate</b>") && search.contains("goal: p99 ≤ 1.00\u{a0}ms")
    );
    // Each is drawn for desk and phone, and once more in the legend.
    let met = search.matches("class=\"dot met\"").count();
    let missed = search.matches("class=\"dot missed\"").count();
    assert_eq!(met + missed, 2 * (fixture::search().trials.len() + 1));
    assert!(met > 2 && missed > 2, "{met} {missed}");
}

#[test]
fn a_summary_has_the_figures_of_every_trial() {
    for (name, result) in results() {
        let summary = summary::of(&result);
        assert_eq!(
            summary["trials"].as_array().unwrap().len(),
            result.trials.len(),
            "{name}"
        );
        assert_eq!(summary["complete"], result.complete, "{name}");
    }
    let summary = summary::of(&fixture::search());
    assert_eq!(summary["trials"][0]["met"], false);
    assert_eq!(summary["trials"][2]["met"], true);
    assert_eq!(summary["trials"][2]["ledger"]["remainder"], 0);
    assert!(summary["trials"][2]["latency"]["p99_ns"].as_u64().unwrap() > 0);
    assert!(summary::of(&fixture::incomplete())["trials"][0]["latency_from_sent"].is_null());
}

#[test]
fn files_are_written_beside_the_result_or_where_they_were_wanted() {
    let folder = Folder::new("written");
    let path = folder.put("run.json", &fixture::load());
    let mut args = args(&path);
    args.csv = Some(folder.0.join("run.csv"));
    args.hgrm = Some(folder.0.join("hdr/of/run"));
    let told: serde_json::Value = serde_json::from_str(&make(&args).unwrap()).unwrap();
    assert_eq!(told["written"].as_array().unwrap().len(), 3);
    let page = fs::read_to_string(folder.0.join("run.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for file in [
        "run.csv",
        "hdr/of/run/01-load.hgrm",
        "hdr/of/run/01-load-lateness.hgrm",
        "hdr/of/run/latency.hlog",
    ] {
        assert!(
            fs::metadata(folder.0.join(file)).unwrap().len() > 100,
            "{file}"
        );
    }
    // Nothing half-written is left, and what there was is written over.
    assert!(!folder.0.join("run.html.new").exists());
    make(&args).unwrap();
}

#[test]
fn a_result_that_cannot_be_read_ends_with_2_and_a_page_that_cannot_be_written_with_4() {
    let folder = Folder::new("codes");
    let path = folder.put("run.json", &fixture::empty());
    let end = |args: &Args| End::of(&make(args).unwrap_err());
    assert_eq!(end(&args(&folder.0.join("none.json"))), End::Usage);
    let cut = folder.0.join("cut.json");
    fs::write(&cut, &fs::read(&path).unwrap()[..100]).unwrap();
    assert_eq!(end(&args(&cut)), End::Usage);
    assert!(!folder.0.join("cut.html").exists());

    let mut nowhere = args(&path);
    nowhere.out = Some(folder.0.join("no/such/folder/page.html"));
    assert_eq!(end(&nowhere), End::Unwritten);
    let mut over_itself = args(&path);
    over_itself.out = Some(path.clone());
    assert_eq!(end(&over_itself), End::Usage);
    let mut folder_as_page = args(&path);
    folder_as_page.out = Some(folder.0.clone());
    assert_eq!(end(&folder_as_page), End::Unwritten);
    if Path::new("/dev/full").exists() {
        let mut full = args(&path);
        full.out = Some("/dev/full".into());
        assert_eq!(end(&full), End::Unwritten);
    }
    assert!(read::result(&path).is_ok());
}

#[test]
fn a_terminal_obeys_no_name() {
    assert_eq!(
        harmless("a\u{1b}[2Jb\rc\u{9b}d é"),
        "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d é"
    );
}

#[test]
fn the_page_of_a_result_has_its_name() {
    for (result, page) in [
        ("a/run.json", "a/run.html"),
        ("a/run.json.partial", "a/run.html"),
        ("run", "run.html"),
        ("run.html", "run.page.html"),
        ("v1.2.json", "v1.2.html"),
    ] {
        assert_eq!(beside(Path::new(result)), Path::new(page));
    }
}

/// What stands between `<` and `>`, in order.
fn tags(page: &str) -> Vec<&str> {
    let parts = page.split('<').skip(1);
    parts
        .map(|part| {
            part.split_once('>')
                .unwrap_or_else(|| panic!("<{part} has no end"))
                .0
        })
        .collect()
}

fn args(result: &Path) -> Args {
    Args {
        result: result.to_owned(),
        out: None,
        csv: None,
        hgrm: None,
        json: true,
    }
}

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            env::temp_dir().join(format!("binrush-bench-page-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, result: &RunResult) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, serde_json::to_string(result).unwrap()).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends an attribute and a text, begins a script, turns the direction and ends a line of a shell.
const HOSTILE: &str = "\"><script src='https://example.org/x.js'></script><img src=x onerror=alert(1)>\u{202e}\0&amp;'; rm";
