//! What a genuine node replies over `mi_http`: JSON-RPC 2.0 in the body of a POST (OpenSIPS 3.0 and later, `modules/mi_http`).

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

/// The body of the reply, within [`PATIENCE`] and [`REPLY_MAX`].
///
/// # Errors
/// The URL is none that can be asked, nobody answers there, or not with 200.
pub(super) fn ask(url: &str, method: &str) -> anyhow::Result<Vec<u8>> {
    let uri: Uri = url.parse().context("this is no URL")?;
    ensure!(
        uri.scheme_str() == Some("http"),
        "only http is spoken here: let --list-command ask in another way"
    );
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\"}}");
    let asked = runtime.block_on(async { timeout(PATIENCE, post(&uri, body)).await });
    match asked {
        Ok(reply) => reply,
        Err(_) => bail!("no whole answer in {} s", PATIENCE.as_secs()),
    }
}

async fn post(uri: &Uri, body: String) -> anyhow::Result<Vec<u8>> {
    let host = uri.host().context("this URL has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    // Names are looked up as everything else here is: nothing goes on beside it.
    let mut addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
    let address = addresses.next().context("this host has no address")?;
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    // What is wrong with the connection, who waits for the answer is told.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    ensure!(status.is_success(), "it answers {status}");
    let body = Limited::new(response.into_body(), REPLY_MAX).collect();
    let body = body.await.map_err(|error| anyhow!("{error}"))?;
    Ok(body.to_bytes().to_vec())
}

/// A node with a million contacts takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest reply, in bytes.
const REPLY_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    /// What is made of `answer`, and what was asked.
    fn asked(answer: &'static str) -> (anyhow::Result<Vec<u8>>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mi", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut bytes = [0; 1024];
            while !asked.ends_with(b"}") {
                let len = stream.read(&mut bytes).unwrap();
                asked.extend(&bytes[..len]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let reply = ask(&url, "ul_dump");
        (reply, server.join().unwrap())
    }

    #[test]
    fn a_node_is_asked_by_post_and_its_reply_is_taken_with_a_length_and_without() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        ] {
            let (reply, asked) = asked(answer);
            assert_eq!(reply.unwrap(), b"{}");
            assert!(asked.starts_with("POST /mi HTTP/1.1\r\n"), "{asked}");
            assert!(asked.ends_with("\"method\":\"ul_dump\"}"), "{asked}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_as_what_it_is() {
        let (reply, _) = asked("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        assert!(reply.unwrap_err().to_string().contains("404"));
        assert!(asked("220 smtp\r\n").0.is_err());
        for (url, why) in [("https://10.0.0.1/mi", "only http"), ("mi", "only http")] {
            let error = ask(url, "ul_dump").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
