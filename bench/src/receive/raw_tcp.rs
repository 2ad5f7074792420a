//! What the kernel costs with streams: reads of up to 256 KiB, and nothing is done with what comes.

use std::io::{self, Read};

use serde_json::{Value, json};

use super::streams::{self, Reader};
use super::{Args, Stop};

/// Counts what it reads.
#[derive(Debug)]
struct Raw {
    buffer: Box<[u8]>,
    bytes: u64,
}

/// Counts bytes until `stop`: where messages end, only who looks into them knows.
pub(super) fn receive(args: &Args, stop: &Stop) -> anyhow::Result<Value> {
    let mut bytes = 0;
    streams::serve(args, stop, Raw::new, |raw| bytes += raw.bytes)?;
    Ok(json!({ "bytes": bytes }))
}

impl Raw {
    fn new() -> Self {
        Self {
            buffer: vec![0; READ_LEN].into(),
            bytes: 0,
        }
    }
}

impl Reader for Raw {
    fn read(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        let len = stream.read(&mut self.buffer)?;
        self.bytes += len as u64;
        Ok(len > 0)
    }
}

/// From here on a larger one saves nothing.
const READ_LEN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_up_to_the_end_of_the_stream() {
        let mut raw = Raw::new();
        let mut stream = &[7; READ_LEN + 10][..];
        assert!(raw.read(&mut stream).unwrap() && raw.read(&mut stream).unwrap());
        assert!(!raw.read(&mut stream).unwrap());
        assert_eq!(raw.bytes, READ_LEN as u64 + 10);
    }
}
