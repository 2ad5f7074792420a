//! What the kernel and rustls cost together: reads of up to 256 KiB, records decrypted, and nothing is done with what
//! was in them.

use std::io::{self, BufRead as _, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};

use super::streams::{self, Reader};
use super::{Args, Stop};
use crate::certificates;

/// One connection.
#[derive(Debug)]
struct Raw {
    connection: ServerConnection,
    buffer: Box<[u8]>,
    /// Those inside TLS.
    bytes: u64,
}

/// Counts bytes inside TLS until `stop`, by the certificates in `folder`.
pub(super) fn receive(args: &Args, folder: &Path, stop: &Stop) -> anyhow::Result<Value> {
    let config = certificates::server(folder)?;
    // Once here, so that it cannot fail for a connection.
    Raw::new(&config)?;
    let mut bytes = 0;
    let new = || Raw::new(&config).expect("it was made before");
    streams::serve(args, stop, new, |raw| bytes += raw.bytes)?;
    Ok(json!({ "bytes": bytes }))
}

impl Raw {
    fn new(config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: ServerConnection::new(Arc::clone(config))?,
            buffer: vec![0; READ_LEN].into(),
            bytes: 0,
        })
    }

    /// Takes the first `len` bytes of the buffer. Whether there may be more.
    fn take(&mut self, len: usize) -> io::Result<bool> {
        let Self {
            connection,
            buffer,
            bytes,
        } = self;
        let mut ciphertext = &buffer[..len];
        let mut closed = false;
        while !ciphertext.is_empty() && !closed {
            connection.read_tls(&mut ciphertext)?;
            let state = connection.process_new_packets();
            closed = state.map_err(broken)?.peer_has_closed();
            let mut reader = connection.reader();
            // An error says that nothing more is there now.
            while let Ok(plain @ [_, ..]) = reader.fill_buf() {
                let len = plain.len();
                *bytes += len as u64;
                reader.consume(len);
            }
        }
        Ok(!closed)
    }
}

impl Reader for Raw {
    fn open(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
        stream.set_write_timeout(Some(HANDSHAKE_MAX))?;
        while self.connection.is_handshaking() {
            self.connection.complete_io(stream)?;
        }
        stream.set_read_timeout(None)
    }

    fn read(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        let len = stream.read(&mut self.buffer)?;
        Ok(len > 0 && self.take(len)?)
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// As without TLS.
const READ_LEN: usize = 256 << 10;

/// On one host it takes milliseconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Certificates;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn bytes_inside_tls_are_counted_up_to_the_end_of_the_session() {
        let certificates = Certificates::make().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let mut client = certificates.connect().unwrap();
        let sending = thread::spawn(move || {
            let mut socket = TcpStream::connect(to).unwrap();
            let mut tls = rustls::Stream::new(&mut client, &mut socket);
            tls.write_all(&[7; READ_LEN + 10]).unwrap();
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        });
        let (mut stream, _) = listener.accept().unwrap();
        let config = certificates::server(certificates.folder()).unwrap();
        let mut raw = Raw::new(&config).unwrap();
        raw.open(&mut stream).unwrap();
        while raw.read(&mut stream).unwrap() {}
        assert_eq!(raw.bytes, READ_LEN as u64 + 10);
        sending.join().unwrap();
    }

    #[test]
    fn what_is_no_tls_is_an_error() {
        let certificates = Certificates::make().unwrap();
        let config = certificates::server(certificates.folder()).unwrap();
        let mut raw = Raw::new(&config).unwrap();
        let error = raw
            .read(&mut &b"P4CK, and not a handshake"[..])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
