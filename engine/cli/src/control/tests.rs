use super::*;
use crate::control::client::ask;
use binrush_engine::cluster::facts::NodeFacts;
use serde_json::json;
use std::env;
use std::fs::{self, DirBuilder};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream as Client;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A folder of one test's own, removed when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("binrush-control-{}-{number}", process::id());
        let path = env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two clusters, and a memory of what was asked for.
#[derive(Default)]
struct Fake {
    /// Length of a text among the peers.
    peers_len: usize,
    /// Why nobody knows of the clusters.
    unknown: Option<&'static str>,
    /// How long it takes to find out how tables are.
    slow: Duration,
    /// What a command waits for; and whether one is under way.
    gate: Mutex<()>,
    runs: AtomicBool,
    requests: Mutex<Vec<(i32, String)>>,
}

impl Answers for Fake {
    fn clusters(&self) -> Result<Vec<ClusterFacts>, String> {
        if let Some(why) = self.unknown {
            return Err(why.to_owned());
        }
        let both = [1, 7].map(|cluster| ClusterFacts {
            cluster,
            me: 3,
            nodes: vec![NodeFacts {
                id: 3,
                is_me: true,
                ..NodeFacts::default()
            }],
            ..ClusterFacts::default()
        });
        Ok(both.into())
    }

    fn peers(&self) -> Value {
        json!({ "text": "x".repeat(self.peers_len) })
    }

    fn request_sync(&self, cluster: i32, capability: &str) -> Result<(), String> {
        let mut requests = self.requests.lock().unwrap();
        requests.push((cluster, capability.to_owned()));
        match cluster {
            1 => Ok(()),
            _ => Err(format!("nobody in cluster {cluster} can give it")),
        }
    }

    fn tables(&self) -> Vec<Table> {
        thread::sleep(self.slow);
        vec![Table {
            name: "1/x".into(),
            ..Table::default()
        }]
    }

    fn records(&self, question: &Question) -> Result<Page<Box<RawValue>>, String> {
        match &*question.table {
            "1/x" => Ok(Page {
                at: 7,
                next: Some(question.from),
                ..Page::default()
            }),
            table => Err(format!("there is no table {table}")),
        }
    }

    fn run_command(&self, name: String, _: Vec<String>) -> Result<Reply, String> {
        self.runs.store(true, Ordering::Release);
        drop(self.gate.lock().unwrap());
        self.runs.store(false, Ordering::Release);
        Err(format!("{name} ran"))
    }
}

fn server_within(limits: Limits, folder: &Folder, fake: Fake) -> (Control, Arc<Fake>) {
    let fake = Arc::new(fake);
    let answers: Arc<dyn Answers> = Arc::<Fake>::clone(&fake);
    let control = Control::start_within(limits, &folder.socket(), answers).unwrap();
    (control, fake)
}

/// One that waits for a test however slow the machine is.
fn server(folder: &Folder) -> (Control, Arc<Fake>) {
    server_within(PATIENT, folder, Fake::default())
}

fn connect(folder: &Folder) -> Client {
    let client = Client::connect(folder.socket()).unwrap();
    client.set_read_timeout(Some(BOUND)).unwrap();
    client.set_write_timeout(Some(BOUND)).unwrap();
    client
}

/// What the server still says before it closes, also where it closes with something of ours unread.
fn rest(mut client: Client) -> String {
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn assert_refused(answer: &str, why: &str) {
    let value: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(value, json!({ "version": 1, "error": why }));
}

/// Whether this process may give files away, and become another user: root of a container may do neither.
pub(crate) fn is_root() -> bool {
    let folder = Folder::new();
    let ours = fs::metadata(folder.path()).unwrap().uid();
    ours == 0 && chown(folder.path(), Some(NOBODY), Some(NOBODY)).is_ok()
}

/// Straight to standard error: the runner keeps what a passing test prints to itself.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[test]
fn each_question_gets_its_answer() {
    let folder = Folder::new();
    let (_control, fake) = server(&folder);
    let path = folder.socket();
    let both = ask(&path, &Request::Clusters { cluster: None }).unwrap();
    let ids = |answer: &Value| -> Vec<i64> {
        let clusters = answer.as_array().unwrap().iter();
        clusters
            .map(|each| each["cluster"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(ids(&both["clusters"]), [1, 7]);
    let one = ask(&path, &Request::Clusters { cluster: Some(7) }).unwrap();
    assert_eq!(ids(&one["clusters"]), [7]);
    assert_eq!(one["clusters"][0]["nodes"][0]["id"], 3);
    assert_eq!(one["version"], 1);
    let none = ask(&path, &Request::Clusters { cluster: Some(2) }).unwrap_err();
    assert_eq!(
        none.to_string(),
        "this process is in no cluster 2, but in 1, 7"
    );
    let peers = ask(&path, &Request::Peers {}).unwrap();
    assert_eq!(peers["peers"], json!({ "text": "" }));
    let sync = |cluster| Request::Sync {
        cluster,
        capability: "dialog-dlg-repl".into(),
    };
    assert_eq!(ask(&path, &sync(1)).unwrap()["done"], true);
    let refused = ask(&path, &sync(7)).unwrap_err();
    assert_eq!(refused.to_string(), "nobody in cluster 7 can give it");
    let tables = ask(&path, &Request::Tables {}).unwrap();
    assert_eq!(tables["tables"][0]["name"], "1/x");
    let records = |table: &str| {
        let question = Question {
            table: table.into(),
            ..Question::default()
        };
        ask(&path, &Request::Records(question))
    };
    let page = &records("1/x").unwrap()["page"];
    assert_eq!(
        (&page["at"], &page["next"]["shard"]),
        (&json!(7), &json!(0))
    );
    let none = records("1/y").unwrap_err();
    assert_eq!(none.to_string(), "there is no table 1/y");
    let asked = [1, 7].map(|cluster| (cluster, "dialog-dlg-repl".to_owned()));
    assert_eq!(*fake.requests.lock().unwrap(), asked);
}

#[test]
fn a_command_that_takes_long_keeps_no_other_question_waiting() {
    let folder = Folder::new();
    let (_control, fake) = server(&folder);
    let path = folder.socket();
    let run = |command: &str| {
        let request = Request::Run {
            command: command.to_owned(),
            params: Vec::new(),
        };
        ask(&path, &request).unwrap_err().to_string()
    };
    thread::scope(|scope| {
        let closed = fake.gate.lock().unwrap();
        let slow = scope.spawn(|| run("slow"));
        while !fake.runs.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert!(ask(&path, &Request::Peers {}).is_ok());
        assert_eq!(
            run("second"),
            "another command is under way, and one is run at a time: ask for second again when it is over"
        );
        drop(closed);
        assert_eq!(slow.join().unwrap(), "slow ran");
    });
    assert_eq!(run("second"), "second ran");
}

#[test]
fn that_nobody_knows_is_not_told_as_being_in_no_cluster() {
    let folder = Folder::new();
    let ended = Fake {
        unknown: Some("the clusters' thread has ended"),
        ..Fake::default()
    };
    let (_control, _) = server_within(PATIENT, &folder, ended);
    for cluster in [None, Some(1)] {
        let told = ask(&folder.socket(), &Request::Clusters { cluster }).unwrap_err();
        assert_eq!(told.to_string(), "the clusters' thread has ended");
    }
}

#[test]
fn a_question_may_come_in_pieces_and_what_follows_it_is_not_looked_at() {
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    let mut client = connect(&folder);
    for piece in [&b"{\"ask\":"[..], b"\"peers\"}", b"\n{\"ask\":\"sync\""] {
        client.write_all(piece).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(rest(client), "{\"version\":1,\"peers\":{\"text\":\"\"}}\n");
}

#[test]
fn half_a_line_is_waited_for_until_its_deadline_or_its_end() {
    let half = b"{\"ask\":\"sync\",\"cluster\":1,\"capability\":\"x\"}";
    for (deadline, ended, why) in [
        (
            Duration::from_millis(50),
            false,
            "a question has to be whole within 50ms",
        ),
        (BOUND, true, "a question ends with a line feed"),
    ] {
        let folder = Folder::new();
        let limits = Limits {
            deadline,
            ..PATIENT
        };
        let (_control, fake) = server_within(limits, &folder, Fake::default());
        let mut client = connect(&folder);
        client.write_all(half).unwrap();
        if ended {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_refused(&rest(client), why);
        assert_eq!(
            *fake.requests.lock().unwrap(),
            [],
            "half a question is none"
        );
    }
}

#[test]
fn a_line_that_is_too_long_is_refused_where_the_longest_one_is_read() {
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    let mut longest = format!(
        "{{\"ask\":\"peers\"{}}}\n",
        " ".repeat(REQUEST_LEN_MAX - 16)
    );
    assert_eq!(longest.len(), REQUEST_LEN_MAX);
    let mut client = connect(&folder);
    client.write_all(longest.as_bytes()).unwrap();
    assert!(rest(client).contains("\"peers\""));
    longest.insert(0, ' ');
    // Also where it never ends.
    for line in [longest.as_bytes(), &[b' '; 1 << 20]] {
        let mut client = connect(&folder);
        // The server closes before it has read all.
        let _ = client.write_all(line);
        let why = "a question has at most 4096 bytes, its line feed included";
        assert_refused(&rest(client), why);
    }
}

#[test]
fn any_bytes_get_an_answer_that_says_they_are_no_question() {
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    for bytes in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"\xff\0\n",
        b"[[[[[[[[\n",
        b"null\n",
    ] {
        let mut client = connect(&folder);
        client.write_all(bytes).unwrap();
        let answer: Value = serde_json::from_str(&rest(client)).unwrap();
        let why = answer["error"].as_str().unwrap();
        assert!(why.starts_with("the question is not understood: "), "{why}");
    }
}

#[test]
fn twenty_clients_at_once_all_get_their_answer() {
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    // All are there before the first one asks.
    let clients: Vec<Client> = (0..20).map(|_| connect(&folder)).collect();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                client.write_all(b"{\"ask\":\"peers\"}\n").unwrap();
                assert_eq!(rest(client), "{\"version\":1,\"peers\":{\"text\":\"\"}}\n");
            });
        }
    });
}

#[test]
fn silent_clients_hold_up_others_until_their_deadline_at_the_most() {
    let folder = Folder::new();
    let limits = Limits {
        deadline: Duration::from_secs(2),
        ..PATIENT
    };
    let (_control, _) = server_within(limits, &folder, Fake::default());
    let begin = Instant::now();
    let silent: Vec<Client> = (1..limits.clients).map(|_| connect(&folder)).collect();
    ask(&folder.socket(), &Request::Peers {}).unwrap();
    let with_a_place_left = begin.elapsed();
    assert!(with_a_place_left < limits.deadline, "{with_a_place_left:?}");
    let last = connect(&folder);
    ask(&folder.socket(), &Request::Peers {}).unwrap();
    let with_none_left = begin.elapsed();
    assert!(with_none_left >= limits.deadline, "{with_none_left:?}");
    for client in silent.into_iter().chain([last]) {
        assert_refused(&rest(client), "a question has to be whole within 2s");
    }
}

#[test]
fn who_does_not_take_the_answer_loses_it_and_holds_up_nobody() {
    let folder = Folder::new();
    let fake = Fake {
        // More than the kernel keeps for a reader.
        peers_len: 1 << 20,
        ..Fake::default()
    };
    let (_control, _) = server_within(LIMITS, &folder, fake);
    let mut stuck = connect(&folder);
    stuck.write_all(b"{\"ask\":\"peers\"}\n").unwrap();
    let answer = ask(&folder.socket(), &Request::Peers {}).unwrap();
    assert_eq!(answer["peers"]["text"].as_str().unwrap().len(), 1 << 20);
    // What is written to a side that is closed fails.
    let begin = Instant::now();
    while stuck.write_all(b" ").is_ok() {
        assert!(begin.elapsed() < BOUND, "it is never given up");
        thread::sleep(Duration::from_millis(10));
    }
    let came = rest(stuck);
    assert!(!came.is_empty() && !came.ends_with('\n'), "{}", came.len());
}

#[test]
fn an_answer_that_is_too_long_is_told_instead_of_sent() {
    let folder = Folder::new();
    let fake = Fake {
        peers_len: message::ANSWER_LEN_MAX,
        ..Fake::default()
    };
    let (_control, _) = server_within(PATIENT, &folder, fake);
    let error = ask(&folder.socket(), &Request::Peers {}).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

/// The file's mode keeps them out already. So this opens it, and has this same test connect as nobody.
#[test]
fn a_client_of_another_user_is_sent_away_with_a_sentence() {
    if let Some(path) = env::var_os(AS_NOBODY) {
        let error = ask(Path::new(&path), &Request::Peers {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the user 65534 may not ask here: only root and the user 0 may"
        );
        return;
    }
    if !is_root() {
        return skip("becoming another user needs root");
    }
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    // By the kernel's link, because another user may not be let into the folder that this program lies in.
    let as_nobody = Command::new("/proc/self/exe")
        .args(["--exact", thread::current().name().unwrap()])
        .env(AS_NOBODY, folder.socket())
        .current_dir("/")
        .uid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&as_nobody.stdout);
    assert!(
        as_nobody.status.success() && said.contains("1 passed"),
        "{said}"
    );
    ask(&folder.socket(), &Request::Peers {}).expect("root is answered still");
}

#[test]
fn ending_it_ends_its_clients_and_removes_the_socket() {
    let folder = Folder::new();
    let (control, _) = server(&folder);
    let open = connect(&folder);
    // Answered behind it, so it was accepted.
    ask(&folder.socket(), &Request::Peers {}).unwrap();
    assert_eq!(control.path(), folder.socket());
    let begin = Instant::now();
    drop(control);
    assert_eq!(rest(open), "");
    assert!(begin.elapsed() < PATIENT.deadline, "{:?}", begin.elapsed());
    assert!(!folder.socket().exists());
    let (_again, _) = server(&folder);
    ask(&folder.socket(), &Request::Peers {}).unwrap();
}

#[test]
fn what_is_wrong_at_the_start_names_the_socket() {
    let folder = Folder::new();
    let (_control, _) = server(&folder);
    let error = Control::start(&folder.socket(), Arc::new(Fake::default())).unwrap_err();
    let said = format!("{error:#}");
    assert!(
        said.starts_with("cannot open the control socket /"),
        "{said}"
    );
    assert!(
        said.contains("control.sock: another process listens at /"),
        "{said}"
    );
}

#[test]
fn an_answer_that_takes_long_holds_up_no_end_and_nobody_behind_it_is_served() {
    let folder = Folder::new();
    let fake = Fake {
        slow: 3 * END_MAX,
        ..Fake::default()
    };
    let (control, fake) = server_within(PATIENT, &folder, fake);
    let mut clients = [connect(&folder), connect(&folder)];
    for client in &mut clients {
        client.write_all(&Request::Tables {}.line()).unwrap();
    }
    // The thread is at the first one's answer.
    thread::sleep(END_MAX / 2);
    let begin = Instant::now();
    drop(control);
    assert!(begin.elapsed() < 2 * END_MAX, "{:?}", begin.elapsed());
    assert!(!folder.socket().exists());
    let [first, second] = clients;
    assert_eq!(rest(second), "");
    assert!(begin.elapsed() < 5 * END_MAX, "{:?}", begin.elapsed());
    drop((first, fake));
}

/// Longer than any wait that goes well.
const BOUND: Duration = Duration::from_secs(60);

const PATIENT: Limits = Limits {
    deadline: BOUND,
    ..LIMITS
};

/// Set for the process that connects as another user.
const AS_NOBODY: &str = "BINRUSH_TEST_CONTROL_AS_NOBODY";

/// The user that nothing belongs to.
pub(crate) const NOBODY: u32 = 65_534;
