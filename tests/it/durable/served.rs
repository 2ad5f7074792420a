//! A `serve` over a state directory, and what is in that directory while nobody serves from it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use binrush_engine::store::durable::{self, Reading};
use binrush_journal::Ring;
use binrush_store::Record;
use serde_json::Value;

use super::traffic::{Plain, known};
use crate::http::exposition::Exposition;
use crate::process::{Finished, Running, Scratch, command, json, run, wait_until};
use crate::receiver::count;

/// Where records are kept. Who serves from there comes and goes.
#[derive(Debug)]
pub(super) struct Home {
    scratch: Scratch,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    ring_bytes: usize,
    /// Words before the command: under what it runs.
    under: Vec<String>,
}

/// What is in a home, by the account of its files.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) plain: Plain,
    pub(super) reading: Reading,
}

/// A `serve` that is ready.
#[derive(Debug)]
pub(super) struct Served {
    process: Running,
    pub(super) ready: Value,
    pub(super) bin: SocketAddr,
    http: SocketAddr,
}

impl Home {
    /// In a folder of the test's own. `name` is the test's.
    pub(super) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        Self {
            state_dir: scratch.path("state").into(),
            runtime_dir: scratch.path("run").into(),
            scratch,
            ring_bytes: 4 << 20,
            under: Vec::new(),
        }
    }

    /// With rings of another size.
    pub(super) fn with_rings(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// With both folders elsewhere, and served from by what `under` starts.
    pub(super) fn moved(mut self, folder: &Path, under: &[String]) -> Self {
        self.state_dir = folder.join("state");
        self.runtime_dir = folder.join("run");
        self.under = under.to_vec();
        self
    }

    /// With the rings elsewhere.
    pub(super) fn with_runtime_dir(mut self, folder: &Path) -> Self {
        self.runtime_dir = folder.to_owned();
        self
    }

    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(super) fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// A folder for whatever else the test needs.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name).into()
    }

    /// The command that serves from here.
    pub(super) fn command(&self, shards: u16) -> Command {
        let text = format!(
            "listen = bin:{HOST}:0\n\
             loadmodule \"dialog.so\"\n\
             loadmodule \"usrloc.so\"\n\
             modparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
             modparam(\"binrush\", \"peer\", \"addr=127.0.0.0/8, generation=2.3\")\n\
             modparam(\"binrush\", \"state_dir\", \"{}\")\n\
             modparam(\"binrush\", \"runtime_dir\", \"{}\")\n\
             modparam(\"binrush\", \"ring_bytes\", {})\n",
            self.state_dir.display(),
            self.runtime_dir.display(),
            self.ring_bytes
        );
        let config = self.scratch.file("binrush.cfg", text.as_bytes());
        let (shards, http) = (shards.to_string(), format!("{HOST}:0"));
        let args = [
            "serve", "--config", &config, "--shards", &shards, "--http", &http, "--stats", "0",
            "--json",
        ];
        let mut serve = command(&args);
        if let Some((first, more)) = self.under.split_first() {
            let mut under = Command::new(first);
            under
                .args(more)
                .arg(serve.get_program())
                .args(serve.get_args());
            serve = under;
        }
        serve
    }

    /// Serves from here.
    #[track_caller]
    pub(super) fn start(&self, shards: u16) -> Served {
        let mut process = Running::start_command(self.command(shards));
        let ready = process.event("ready");
        let addr = |value: &Value| {
            let text = value.as_str().expect("an address");
            let addr = text.strip_prefix("bin:").unwrap_or(text).parse();
            addr.unwrap_or_else(|error| panic!("{error}: {ready}"))
        };
        Served {
            bin: addr(&ready["listen"][0]),
            http: addr(&ready["http"]),
            process,
            ready,
        }
    }

    /// What a start says that is refused.
    #[track_caller]
    pub(super) fn refused(&self, shards: u16) -> String {
        let process = Running::start_command(self.command(shards));
        let end: Finished = process.finish();
        assert!(!end.status.success() && end.stdout.is_empty(), "{end:?}");
        assert!(end.status.code().is_some(), "{end:?}");
        end.stderr
    }

    /// The numbers of the last changes, as the rings have them, by table and shard. Nobody else has opened them.
    pub(super) fn ring_lsns(&self) -> Vec<u64> {
        let paths = rings_in(&self.runtime_dir);
        let rings = paths.iter().map(|path| {
            let bytes = fs::read(path).expect("it can be read");
            Ring::of_bytes(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        rings.map(|ring| ring.lsn()).collect()
    }

    /// What a start would find. Changes nothing.
    #[track_caller]
    pub(super) fn left(&self) -> Left {
        self.left_in(&self.state_dir, &self.runtime_dir)
    }

    /// As [`left`](Self::left), with the folders seen from elsewhere.
    #[track_caller]
    pub(super) fn left_in(&self, state_dir: &Path, runtime_dir: &Path) -> Left {
        let mut plain = Plain::new();
        let reading = durable::read(state_dir, Some(runtime_dir), &mut |row| {
            let (record, status) = Record::read(row.flat).expect("a record");
            let (key, value) = known(&record, status);
            let before = plain.insert(key, value);
            assert_eq!(before, None, "{key:?} is there twice");
        });
        let reading = reading.unwrap_or_else(|error| panic!("{error}"));
        Left { plain, reading }
    }

    /// What `binrush state` says of it: the numbers of the last changes, by table and shard, and how many records there are. It
    /// finds nothing wrong.
    #[track_caller]
    pub(super) fn told_by_state(&self) -> (Vec<u64>, u64) {
        let [state_dir, runtime_dir] =
            [&self.state_dir, &self.runtime_dir].map(|path| path.to_str().expect("text"));
        run(&["state", "verify", state_dir, "--runtime", runtime_dir]).ok();
        let args = [
            "state",
            "summary",
            "--json",
            state_dir,
            "--runtime",
            runtime_dir,
        ];
        let line = json(run(&args).ok().text().trim_end());
        let (mut lsns, mut records) = (Vec::new(), 0);
        for table in line["tables"].as_array().expect("tables") {
            let journals = table["journal"].as_array().expect("one on each shard");
            lsns.extend(journals.iter().map(|journal| count(journal, "lsn")));
            let kinds = table["kinds"].as_object().expect("kinds");
            records += kinds
                .values()
                .map(|facts| count(facts, "records"))
                .sum::<u64>();
        }
        (lsns, records)
    }
}

impl Left {
    /// The numbers of the last changes, by table and shard.
    pub(super) fn lsns(&self) -> Vec<u64> {
        let journals = self.reading.journals.iter();
        journals.map(|journal| journal.recovered.lsn).collect()
    }

    /// Asserts that nothing was refused and nothing is missing.
    #[track_caller]
    pub(super) fn whole(self) -> Self {
        for journal in &self.reading.journals {
            assert!(journal.recovered.is_whole, "{journal:?}");
            assert_eq!(journal.recovered.missed, 0, "{journal:?}");
        }
        self
    }
}

impl Served {
    /// What it tells of itself, a second old at most.
    pub(super) fn page(&self) -> Exposition {
        let mut client = TcpStream::connect(self.http).expect("it listens");
        let limit = Some(Duration::from_secs(60));
        client.set_read_timeout(limit).expect("not zero");
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(request).expect("it reads");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("it answers");
        let (head, page) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        Exposition::parse(page).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A count of each journal, by table and shard as [`Home::ring_lsns`] has them, once it is told.
    #[track_caller]
    pub(super) fn of_journals(&self, name: &str, of: &Reading) -> Vec<u64> {
        let value = |page: &Exposition, table: &str, shard: u16| {
            let shard = shard.to_string();
            page.value(name, &[("table", table), ("shard", &shard)])
        };
        let mut values = Vec::new();
        wait_until("the counts of all journals", || {
            let page = self.page();
            let journals = of.journals.iter();
            let all: Option<Vec<_>> = journals
                .map(|journal| value(&page, &journal.table, journal.shard))
                .collect();
            values = all.unwrap_or_default();
            !values.is_empty()
        });
        values.into_iter().map(whole).collect()
    }

    /// The sum of a count over all of its labels, as last told.
    pub(super) fn sum(&self, name: &str) -> u64 {
        whole(self.page().sum(name, &[]))
    }

    /// Packets about records that were handled, as last told.
    pub(super) fn handled(&self) -> u64 {
        self.sum("binrush_module_handled_total")
    }

    /// Waits until so many were.
    #[track_caller]
    pub(super) fn wait_for_handled(&self, packets: u64) {
        wait_until("all packets to be handled", || self.handled() >= packets);
    }

    /// The next line about a journal.
    #[track_caller]
    pub(super) fn journal_news(&mut self) -> Value {
        loop {
            let line = json(&self.process.line());
            if line["event"] == "journal" {
                return line;
            }
        }
    }

    /// As the kernel does when memory is short.
    pub(super) fn kill(self) {
        drop(self.process);
    }

    /// Ends it; returns its totals.
    #[track_caller]
    pub(super) fn stop(self) -> Value {
        let end = self.process.stop("TERM").ok().quiet();
        end.json().pop().expect("a last line")
    }
}

/// The rings in a folder, by table and shard.
pub(super) fn rings_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "ring")
        })
        .collect();
    paths.sort();
    paths
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a test, as /metrics has them"
)]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value}");
    value as u64
}

/// Where it listens.
pub(super) const HOST: &str = "127.58.0.1";
