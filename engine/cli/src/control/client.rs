//! The side of who asks.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};
use tokio::net::{UnixSocket, UnixStream};
use tokio::runtime;
use tokio::time::{sleep, timeout};

use super::line;
use super::message::{self, ANSWER_LEN_MAX, Request};
use super::place::folder_of;

/// What the server at `path` answers: an object with `version`, and with `clusters`, `peers`, `done`, `tables`, `page`,
/// `commands` or `reply`.
///
/// # Errors
/// Nobody is there, or somebody whom we do not trust, it does not let us in, it does not answer within [`PATIENCE`], or it answers that it cannot; each
/// with what to do about it.
pub(crate) fn ask(path: &Path, request: &Request) -> anyhow::Result<Map<String, Value>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot prepare to ask the control socket")?;
    let answered = runtime.block_on(async { timeout(PATIENCE, exchange(path, request)).await });
    match answered {
        Ok(line) => message::read(&line?),
        Err(_) => bail!(
            "{} is there and does not answer within {} s: the server is stopped, or too busy",
            path.display(),
            PATIENCE.as_secs()
        ),
    }
}

/// A connection over which `request` was said to the server at `path`; `None`: there is none.
///
/// # Errors
/// As [`ask`], but for what it answers.
pub(crate) fn open(path: &Path, request: &Request) -> anyhow::Result<Option<net::UnixStream>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot prepare to ask the control socket")?;
    let opened = async {
        let stream = match connect(path).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(explained(path, &error)),
        };
        check_who_answers(path, &stream)?;
        let written = line::write(&stream, &request.line()).await;
        written.map_err(|error| explained(path, &error))?;
        Ok(Some(stream.into_std()?))
    };
    match runtime.block_on(async { timeout(PATIENCE, opened).await }) {
        Ok(opened) => opened,
        Err(_) => bail!("{} is there and takes no question", path.display()),
    }
}

/// Nobody listens there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

/// Where a server listens that was not told otherwise.
pub(crate) fn default_path() -> PathBuf {
    default_path_in(env::var_os("RUNTIME_DIRECTORY"))
}

/// Of systemd, where it is set; the first one of several.
fn default_path_in(runtime_directory: Option<OsString>) -> PathBuf {
    let folders = runtime_directory.unwrap_or_default();
    let folder = env::split_paths(&folders).next();
    let folder = folder.filter(|folder| folder.is_absolute());
    folder
        .unwrap_or_else(|| PathBuf::from(FOLDER))
        .join("control.sock")
}

async fn exchange(path: &Path, request: &Request) -> anyhow::Result<Vec<u8>> {
    let explained = |error| explained(path, &error);
    let stream = connect(path).await.map_err(explained)?;
    check_who_answers(path, &stream)?;
    match line::write(&stream, &request.line()).await {
        // Whoever is sent away may be told why.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(explained(error)),
        _ => {}
    }
    let answer = line::read(&stream, ANSWER_LEN_MAX + 1).await;
    answer.map_err(explained)
}

/// Who else was there first is neither asked nor believed. The kernel vouches for who listens (unix(7), `SO_PEERCRED`).
fn check_who_answers(path: &Path, stream: &UnixStream) -> anyhow::Result<()> {
    let unknown = "it cannot be found out who answers";
    let answers = stream.peer_cred().context(unknown)?.uid();
    let (one, _other) = UnixStream::pair().context(unknown)?;
    let us = one.peer_cred().context(unknown)?.uid();
    let folder = fs::metadata(folder_of(path)).map(|found| found.uid()).ok();
    trust(answers, us, folder).map_err(|expected| {
        let path = path.display();
        anyhow!(
            "the user {answers} listens at {path}, and not {expected}: it was not asked anything\n  \
             `ss -xlp src {path}` names the process; `binrush serve` has to listen in a folder that only its user can \
             write in"
        )
    })
}

/// Who asks trusts root and himself; root, whose servers may run as any user, trusts who owns the `folder`, as nobody else
/// can put a socket there. Else who was expected.
fn trust(answers: u32, us: u32, folder: Option<u32>) -> Result<(), String> {
    let other = if us == 0 { folder } else { Some(us) };
    let other = other.filter(|other| *other != 0);
    match other {
        _ if answers == 0 => Ok(()),
        Some(other) if answers == other => Ok(()),
        Some(other) if us == 0 => Err(format!("root or the user {other} who owns its folder")),
        Some(other) => Err(format!("root or the user {other} who asks")),
        None => Err("root".to_owned()),
    }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixSocket::new_stream()?.connect(path).await {
            // Too many wait before us, and the kernel tells nobody when there is room again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(CONNECT_POLL).await,
            connected => return connected,
        }
    }
}

/// What to do about it.
fn explained(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    let advice = format!(
        "is `binrush serve` running, with modparam(\"binrush\", \"control\", \"{path}\") in its configuration? \
         `--control PATH` asks at another place"
    );
    match error.kind() {
        ErrorKind::NotFound => anyhow!("there is no control socket at {path}\n  {advice}"),
        ErrorKind::ConnectionRefused => anyhow!(
            "nobody listens at {path} any more: it was left behind, or is no stream socket\n  {advice}"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "not allowed to ask at {path}\n  \
             only root, and the user that `binrush serve` runs as, may: try it with sudo"
        ),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => anyhow!(
            "the server at {path} closed without an answer\n  it may be stopping: ask again"
        ),
        ErrorKind::FileTooLarge => anyhow!(
            "the answer at {path} is longer than {ANSWER_LEN_MAX} bytes: what listens there is no `binrush serve`"
        ),
        _ => anyhow!("cannot ask at {path}: {error}"),
    }
}

/// Longer than the server lets a line of slow clients take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a server has its socket without systemd telling.
const FOLDER: &str = "/run/binrush";

const CONNECT_POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{Folder, NOBODY, is_root, skip};
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    fn error(path: &Path) -> String {
        let asked = ask(path, &Request::Peers {});
        asked.unwrap_err().to_string()
    }

    /// What is told when the server says `answer` and closes.
    fn error_after(answer: &'static [u8]) -> String {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            // Of an answer that is too long not all is read.
            let _ = (&stream).write_all(answer);
        });
        let error = error(&folder.socket());
        server.join().unwrap();
        error
    }

    #[test]
    fn where_nobody_answers_the_error_says_what_to_look_at() {
        let folder = Folder::new();
        let path = folder.socket();
        let none = error(&path);
        assert!(
            none.starts_with("there is no control socket at /"),
            "{none}"
        );
        drop(UnixListener::bind(&path).unwrap());
        let left = error(&path);
        assert!(left.starts_with("nobody listens at /"), "{left}");
        for said in [none, left] {
            let asks = said.contains(
                "is `binrush serve` running, with modparam(\"binrush\", \"control\", \"/",
            );
            assert!(asks, "{said}");
        }
    }

    #[test]
    fn a_socket_of_another_kind_is_an_error_and_no_hang() {
        let folder = Folder::new();
        let _datagrams = UnixDatagram::bind(folder.socket()).unwrap();
        let said = error(&folder.socket());
        assert!(said.starts_with("cannot ask at /"), "{said}");
    }

    #[test]
    fn an_answer_that_is_none_is_told_as_what_it_is() {
        let cut = error_after(br#"{"version":1,"peers":"#);
        assert!(cut.contains("closed without an answer"), "{cut}");
        let other = error_after(b"220 smtp\n");
        assert!(other.contains("no answer of a control socket"), "{other}");
        let refused = error_after(b"{\"version\":1,\"error\":\"not today\"}\n");
        assert_eq!(refused, "not today");
    }

    #[test]
    fn an_answer_without_an_end_is_not_read_without_an_end() {
        static ENDLESS: [u8; ANSWER_LEN_MAX + 100_000] = [b' '; ANSWER_LEN_MAX + 100_000];
        let said = error_after(&ENDLESS);
        assert!(said.contains("is longer than 4194304 bytes"), "{said}");
    }

    #[test]
    fn root_and_who_asks_are_trusted_and_by_root_who_owns_the_folder() {
        assert_eq!(trust(0, 1000, None), Ok(()));
        assert_eq!(trust(1000, 1000, Some(0)), Ok(()));
        assert_eq!(trust(0, 0, Some(7)), Ok(()));
        assert_eq!(trust(7, 0, Some(7)), Ok(()));
        for (answers, us, folder, expected) in [
            (7, 1000, Some(7), "root or the user 1000 who asks"),
            (1000, 0, Some(0), "root"),
            (1000, 0, None, "root"),
            (1000, 0, Some(7), "root or the user 7 who owns its folder"),
        ] {
            assert_eq!(trust(answers, us, folder), Err(expected.to_owned()));
        }
    }

    #[test]
    fn the_socket_is_where_systemd_says_or_in_the_usual_folder() {
        let path = |folders: Option<&str>| default_path_in(folders.map(OsString::from));
        assert_eq!(path(None), PathBuf::from("/run/binrush/control.sock"));
        for (folders, expected) in [
            ("/run/x", "/run/x/control.sock"),
            ("/run/x:/run/y", "/run/x/control.sock"),
            ("", "/run/binrush/control.sock"),
            ("x", "/run/binrush/control.sock"),
        ] {
            assert_eq!(path(Some(folders)), PathBuf::from(expected), "{folders}");
        }
    }

    /// Where this test's own program listens as nobody, as it can in a folder that is as open as /tmp.
    #[test]
    fn who_was_there_first_is_not_believed() {
        if let Some(path) = env::var_os(LISTENS_AS_NOBODY) {
            let listener = UnixListener::bind(path).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            assert_eq!(asked, "", "nothing was told to it");
            return;
        }
        if !is_root() {
            return skip("becoming another user needs root");
        }
        let folder = Folder::new();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let name = thread::current().name().unwrap().to_owned();
        let mut listens = Command::new("/proc/self/exe")
            .args(["--exact", &name])
            .env(LISTENS_AS_NOBODY, folder.socket())
            .current_dir("/")
            .uid(NOBODY)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        let said = loop {
            match error(&folder.socket()) {
                said if said.contains("no control socket") || said.contains("nobody listens") => {
                    assert!(begin.elapsed() < Duration::from_secs(60), "{said}");
                    thread::sleep(Duration::from_millis(10));
                }
                said => break said,
            }
        };
        assert!(
            said.starts_with("the user 65534 listens at /") && said.contains(", and not root: "),
            "{said}"
        );
        assert!(listens.wait().unwrap().success(), "it was asked nothing");
    }

    /// Set for the process that listens as another user.
    const LISTENS_AS_NOBODY: &str = "BINRUSH_TEST_CONTROL_LISTENS_AS_NOBODY";
}
