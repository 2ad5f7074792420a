//! The side of who asks.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};
use tokio::net::{UnixSocket, UnixStream};
use tokio::runtime;
use tokio::time::{sleep, timeout};

use super::line;
use super::message::{self, ANSWER_LEN_MAX, Request};

/// What the server at `path` answers: an object with `version`, and with `clusters`, `peers` or `done`.
///
/// # Errors
/// Nobody is there, it does not let us in, it does not answer within [`PATIENCE`], or it answers that it cannot; each
/// with what to do about it.
pub(crate) fn ask(path: &Path, request: &Request) -> anyhow::Result<Map<String, Value>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot prepare to ask the control socket")?;
    let answered = runtime.block_on(async { timeout(PATIENCE, exchange(path, request)).await });
    match answered {
        Ok(Ok(line)) => message::read(&line),
        Ok(Err(error)) => Err(explained(path, &error)),
        Err(_) => bail!(
            "{} is there and does not answer within {} s: the server is stopped, or too busy",
            path.display(),
            PATIENCE.as_secs()
        ),
    }
}

async fn exchange(path: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let stream = connect(path).await?;
    match line::write(&stream, &request.line()).await {
        // Whoever is sent away may be told why.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    line::read(&stream, ANSWER_LEN_MAX + 1).await
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

const CONNECT_POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::Folder;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::thread;

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
}
