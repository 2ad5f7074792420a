//! Lines over a local connection, for both of its ends.

use std::io;

use tokio::net::UnixStream;

/// What came up to the first line feed, without it. What comes behind it is not looked at.
///
/// # Errors
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge): there was none in the first `len_max` bytes.
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): there was none before the other side closed.
pub(super) async fn read(stream: &UnixStream, len_max: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; PIECE_LEN];
    loop {
        stream.readable().await?;
        let came = match stream.try_read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => &piece[..len],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let end = came.iter().position(|byte| *byte == b'\n');
        let part = &came[..end.unwrap_or(came.len())];
        // Its line feed has to have room too.
        if line.len() + part.len() >= len_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        line.extend_from_slice(part);
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Hands all of `bytes` to the kernel.
pub(super) async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is read at once.
const PIECE_LEN: usize = 4 << 10;
