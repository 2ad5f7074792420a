//! `binrush cluster`: what a server on this host knows of its clusters.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};

use crate::control::client::{ask, default_path};
use crate::control::facts::Cluster;
use crate::control::message::Request;
use crate::line;
use crate::text::Harmless;
use view::View;

/// Connections and links.
mod peers;
/// Nodes, links, capabilities, tags, syncs.
mod view;

/// Show what a `binrush serve` on this host knows of its clusters
///
/// It asks at the control socket, which modparam("binrush", "control", "/run/binrush/control.sock") opens; who asks has to
/// be root, or the user that the server runs as. Without a view it shows all but the peers.
///
/// Example: binrush cluster sync --request dialog-dlg-repl
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to show.
    view: Option<View>,

    /// Print the facts as a line of JSON.
    #[arg(long)]
    json: bool,

    /// Show it again every so many seconds, until interrupted [default: 2]. Behind the view.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=WATCH_MAX))]
    watch: Option<u32>,

    /// Where the server listens [default: $RUNTIME_DIRECTORY/control.sock, or /run/binrush/control.sock].
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,

    /// Only this cluster.
    #[arg(long, value_name = "ID")]
    cluster: Option<i32>,

    /// With sync: have all records of this capability given to us anew, by a donor that the server chooses.
    #[arg(long, value_name = "CAPABILITY", conflicts_with = "watch")]
    request: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(wrong) = args.misused() {
        eprintln!("error: {wrong}\n\nFor more information, try 'binrush cluster --help'.");
        return Ok(ExitCode::from(2));
    }
    let mut stdout = io::stdout().lock();
    match (&args.request, args.watch) {
        (Some(capability), _) => stdout.write_all(args.request_sync(capability)?.as_bytes())?,
        (None, None) => stdout.write_all(args.shown()?.as_bytes())?,
        (None, Some(seconds)) => args.watch(&mut stdout, seconds)?,
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Arguments that do not go together.
    fn misused(&self) -> Option<&'static str> {
        if self.request.is_some() && self.view != Some(View::Sync) {
            return Some(
                "--request belongs to a view: `binrush cluster sync --request CAPABILITY`",
            );
        }
        if self.cluster.is_some() && self.view == Some(View::Peers) {
            return Some("peers are those of the whole process: leave --cluster out");
        }
        None
    }

    /// Shows it without an end. The first answer has to come; later a server may be gone for a while, and come back.
    fn watch(&self, out: &mut impl Write, seconds: u32) -> anyhow::Result<()> {
        let form = match (self.json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Live,
            (false, false) => Form::Repeated,
        };
        let mut shown = self.shown()?;
        if form == Form::Live {
            out.write_all(CLEAR.as_bytes())?;
        }
        loop {
            let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            out.write_all(framed(form, &now, seconds, &shown).as_bytes())?;
            out.flush()?;
            thread::sleep(Duration::from_secs(seconds.into()));
            shown = match (self.shown(), form) {
                (Ok(shown), _) => shown,
                // Where a tool reads, there is a line of JSON or none.
                (Err(error), Form::Json) => {
                    eprintln!("error: {error:#}");
                    String::new()
                }
                (Err(error), _) => format!("error: {error:#}\n"),
            };
        }
    }

    /// What is asked for, as it is printed.
    fn shown(&self) -> anyhow::Result<String> {
        if self.view == Some(View::Peers) {
            let mut answer = self.ask(&Request::Peers {})?;
            if self.json {
                return json(&answer);
            }
            let peers = answer.remove("peers").unwrap_or_default();
            return Ok(peers::text(peers).context(UNREADABLE)? + "\n");
        }
        let mut answer = self.ask(&Request::Clusters {
            cluster: self.cluster,
        })?;
        if self.json {
            keep(&mut answer, self.view);
            return json(&answer);
        }
        Ok(view::text(self.view, &clusters(answer)?) + "\n")
    }

    /// Asks the server to ask a donor.
    fn request_sync(&self, capability: &str) -> anyhow::Result<String> {
        let cluster = match self.cluster {
            Some(cluster) => cluster,
            None => {
                let answer = self.ask(&Request::Clusters { cluster: None })?;
                cluster_of(capability, &clusters(answer)?)?
            }
        };
        let answer = self.ask(&Request::Sync {
            cluster,
            capability: capability.to_owned(),
        })?;
        if self.json {
            return json(&answer);
        }
        Ok(format!(
            "a sync of {} in cluster {cluster} is asked for: `binrush cluster sync` shows how it goes\n",
            Harmless(capability)
        ))
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Map<String, Value>> {
        match &self.control {
            Some(path) => ask(path, request),
            None => ask(&default_path(), request),
        }
    }
}

/// How a watch is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Each time a line.
    Json,
    /// Each time over the last one.
    Live,
    /// Each time below the last one.
    Repeated,
}

fn framed(form: Form, now: &str, seconds: u32, shown: &str) -> String {
    match form {
        Form::Json => shown.to_owned(),
        Form::Repeated => format!("{now}\n{shown}\n"),
        Form::Live => {
            // Over what stands there, so that nothing flickers: each line to its end, then all below the last one.
            let lines = shown.lines().map(|line| format!("{line}\x1b[K\n"));
            let lines: String = lines.collect();
            format!("\x1b[H{now}, every {seconds} s\x1b[K\n\x1b[K\n{lines}\x1b[J")
        }
    }
}

fn clusters(mut answer: Map<String, Value>) -> anyhow::Result<Vec<Cluster>> {
    let clusters = answer.remove("clusters").unwrap_or_default();
    serde_json::from_value(clusters).context(UNREADABLE)
}

/// The one cluster that the capability is replicated in.
fn cluster_of(capability: &str, clusters: &[Cluster]) -> anyhow::Result<i32> {
    let has = |cluster: &&Cluster| {
        cluster
            .capabilities
            .iter()
            .any(|each| each.name == capability)
    };
    let shown = Harmless(capability);
    let found: Vec<i32> = clusters
        .iter()
        .filter(has)
        .map(|each| each.cluster)
        .collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let all = clusters.iter().flat_map(|each| &each.capabilities);
            let mut names: Vec<String> = all.map(|each| Harmless(&each.name).to_string()).collect();
            names.dedup();
            Err(match names[..] {
                [] => anyhow!("{shown} is not replicated here, nor is anything else"),
                _ => anyhow!(
                    "{shown} is not replicated here\n  what is: {}",
                    names.join(", ")
                ),
            })
        }
        _ => bail!(
            "{shown} is replicated in the clusters {}\n  say which one: --cluster ID",
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Leaves of each cluster what belongs to the view.
fn keep(answer: &mut Map<String, Value>, view: Option<View>) {
    let clusters = answer.get_mut("clusters").and_then(Value::as_array_mut);
    let clusters = clusters
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut);
    clusters.for_each(|cluster| cluster.retain(|key, _| view::has(view, key)));
}

fn json(answer: &Map<String, Value>) -> anyhow::Result<String> {
    let mut line = Vec::new();
    line::write(&mut line, answer)?;
    Ok(String::from_utf8(line)?)
}

/// Seconds between two looks.
const WATCH_MAX: i64 = 3600;

/// An empty screen.
const CLEAR: &str = "\x1b[2J";

const UNREADABLE: &str = "the answer has another shape than this command knows; use the `binrush` that the server was started with";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::facts::tests::sample;
    use crate::control::records::{Page, Question, Table};
    use crate::control::tests::Folder;
    use crate::control::{Answers, Control};
    use binrush_engine::cluster::facts::ClusterFacts;
    use binrush_engine::stream::StreamSnapshot;
    use clap::Parser as _;
    use serde_json::value::RawValue;
    use std::ffi::OsString;
    use std::sync::{Arc, Mutex};

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// Two clusters; in the second one there is one capability of the first.
    #[derive(Default)]
    struct Fake(Mutex<Vec<(i32, String)>>);

    impl Answers for Fake {
        fn clusters(&self) -> Result<Vec<ClusterFacts>, String> {
            let mut second = sample();
            second.cluster = 2;
            second.capabilities.truncate(1);
            Ok(vec![sample(), second])
        }

        fn peers(&self) -> Value {
            crate::tally::streams::json(&StreamSnapshot::default())
        }

        fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), String> {
            self.0
                .lock()
                .unwrap()
                .push((cluster, capability.to_owned()));
            Ok(())
        }

        fn tables(&self) -> Vec<Table> {
            Vec::new()
        }

        fn records(&self, _: &Question) -> Result<Page<Box<RawValue>>, String> {
            Err("there are none".to_owned())
        }
    }

    fn server() -> (Folder, Control, Arc<Fake>) {
        let folder = Folder::new();
        let fake = Arc::<Fake>::default();
        let answers: Arc<dyn Answers> = Arc::<Fake>::clone(&fake);
        let control = Control::start(&folder.socket(), answers).unwrap();
        (folder, control, fake)
    }

    fn args(folder: &Folder, line: &str) -> Args {
        let mut words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        words.splice(0..0, ["cluster".into()]);
        words.extend(["--control".into(), folder.socket().into()]);
        Command::try_parse_from(words).unwrap().args
    }

    fn facts(folder: &Folder, line: &str) -> Value {
        let shown = args(folder, line).shown().unwrap();
        assert_eq!(shown.matches('\n').count(), 1, "{shown}");
        serde_json::from_str(&shown).unwrap()
    }

    #[test]
    fn the_facts_of_a_view_are_a_line_of_json_with_the_keys_of_the_whole() {
        let (folder, _control, _) = server();
        let whole = facts(&folder, "--json");
        assert_eq!(whole["version"], 1);
        let first = &whole["clusters"][0];
        assert_eq!(first["nodes"][1]["link"], "up");
        assert_eq!(first["capabilities"][0]["sync"]["applied"], 12_000);
        for (view, keys) in [
            ("nodes", &["cluster", "me", "nodes"][..]),
            ("links", &["cluster", "me", "nodes"]),
            ("caps", &["capabilities", "cluster", "me", "nodes"]),
            ("tags", &["cluster", "me", "tags"]),
            ("sync", &["capabilities", "cluster", "me"]),
        ] {
            let answer = facts(&folder, &format!("{view} --json --cluster 1"));
            let [cluster] = &answer["clusters"].as_array().unwrap()[..] else {
                panic!("{answer}");
            };
            let cluster = cluster.as_object().unwrap();
            assert!(cluster.keys().eq(keys), "{view}: {answer}");
            assert!(cluster.iter().all(|(key, value)| first[key] == *value));
        }
        assert_eq!(
            facts(&folder, "peers --json")["peers"]["links"],
            Value::Array(vec![])
        );
    }

    #[test]
    fn the_words_of_a_view_are_its_tables() {
        let (folder, _control, _) = server();
        let tags = args(&folder, "tags --cluster 2").shown().unwrap();
        assert!(
            tags.starts_with("cluster 2: we are node 3, 1 of 2 other nodes up\n  Tag"),
            "{tags}"
        );
        let all = args(&folder, "").shown().unwrap();
        assert!(
            all.contains("\n\ncluster 2: ") && all.ends_with('\n'),
            "{all}"
        );
        let peers = args(&folder, "peers").shown().unwrap();
        assert!(peers.starts_with("connections from others\n"), "{peers}");
        let error = args(&folder, "nodes --cluster 9").shown().unwrap_err();
        assert_eq!(
            error.to_string(),
            "this process is in no cluster 9, but in 1, 2"
        );
    }

    #[test]
    fn a_sync_is_asked_for_in_the_cluster_that_is_meant() {
        let (folder, _control, fake) = server();
        let request = |line: &str| {
            let args = args(&folder, line);
            let capability = args.request.clone().unwrap();
            args.request_sync(&capability)
                .map_err(|error| error.to_string())
        };
        // Only the first cluster has it.
        let said = request("sync --request usrloc-contact-repl").unwrap();
        assert!(
            said.starts_with("a sync of usrloc-contact-repl in cluster 1 is asked for"),
            "{said}"
        );
        let both = request("sync --request dialog-dlg-repl").unwrap_err();
        assert!(
            both.contains("in the clusters 1, 2\n  say which one: --cluster ID"),
            "{both}"
        );
        let said = request("sync --request dialog-dlg-repl --cluster 2 --json").unwrap();
        assert_eq!(said, "{\"done\":true,\"version\":1}\n");
        let none = request("sync --request dialog").unwrap_err();
        assert!(
            none.contains("dialog is not replicated here\n  what is: dialog-dlg-repl, "),
            "{none}"
        );
        let asked = [
            (1, "usrloc-contact-repl".to_owned()),
            (2, "dialog-dlg-repl".to_owned()),
        ];
        assert_eq!(*fake.0.lock().unwrap(), asked);
    }

    #[test]
    fn arguments_that_do_not_go_together_end_with_2() {
        let folder = Folder::new();
        for line in ["--request x", "caps --request x", "peers --cluster 1"] {
            let code = run(&args(&folder, line)).unwrap();
            assert_eq!(code, ExitCode::from(2), "{line}");
        }
        for line in [
            "cluster nosuch",
            "cluster --watch 0",
            "cluster --watch 3601",
            "cluster --watch nodes",
            "cluster --cluster one",
            "cluster sync --request x --watch",
        ] {
            let error = Command::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_watch_without_a_number_looks_every_two_seconds() {
        let watch = |line: &str| Command::parse_from(line.split(' ')).args.watch;
        assert_eq!(watch("cluster"), None);
        assert_eq!(watch("cluster nodes --watch"), Some(2));
        assert_eq!(watch("cluster nodes --watch 10"), Some(10));
        assert_eq!(watch("cluster --watch --json"), Some(2));
    }

    #[test]
    fn a_watch_draws_over_itself_on_a_terminal_and_goes_on_below_elsewhere() {
        let shown = "one\ntwo\n";
        assert_eq!(framed(Form::Json, "t", 2, "{}\n"), "{}\n");
        assert_eq!(framed(Form::Repeated, "t", 2, shown), "t\none\ntwo\n\n");
        assert_eq!(
            framed(Form::Live, "t", 2, shown),
            "\x1b[Ht, every 2 s\x1b[K\n\x1b[K\none\x1b[K\ntwo\x1b[K\n\x1b[J"
        );
    }

    #[test]
    fn a_watch_ends_at_once_when_nobody_is_there() {
        let folder = Folder::new();
        let mut out = Vec::new();
        let error = args(&folder, "--watch").watch(&mut out, 2).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("there is no control socket at "),
            "{error}"
        );
        assert!(out.is_empty());
    }
}
