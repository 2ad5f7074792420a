//! Capture files to start from: the first records of the captures, in each format.

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Seed;
use crate::captures;

/// The first records of every capture as pcap, pcapng of both byte orders, and gzipped.
pub(super) fn all() -> Vec<Seed> {
    let mut seeds = vec![];
    for capture in captures::ALL {
        let pcap = beginning(&unpacked(capture));
        let mut packed = GzEncoder::new(vec![], Compression::fast());
        packed.write_all(&pcap).expect("memory");
        let files = [
            ("pcap.gz", packed.finish().expect("memory")),
            ("pcapng", pcapng(&pcap, u32::to_le_bytes)),
            ("pcapng-big-endian", pcapng(&pcap, u32::to_be_bytes)),
            ("pcap", pcap),
        ];
        for (format, file) in files {
            seeds.push(Seed {
                target: "capture",
                name: format!("{capture}-{format}"),
                bytes: [&[0], &file[..]].concat(),
            });
        }
    }
    seeds
}

fn unpacked(capture: &str) -> Vec<u8> {
    let file = fs::read(captures::pcap_path(capture)).expect("the capture is there");
    let mut unpacked = vec![];
    match MultiGzDecoder::new(&file[..]).read_to_end(&mut unpacked) {
        Ok(_) => unpacked,
        Err(_) => file,
    }
}

/// Its header and whole records, as many as the target's inputs hold in any format.
fn beginning(pcap: &[u8]) -> Vec<u8> {
    let mut file = pcap[..PCAP_HEADER_LEN].to_vec();
    for record in records(&pcap[PCAP_HEADER_LEN..]) {
        if file.len() + record.len() > FILE_LEN_MAX {
            break;
        }
        file.extend(record);
    }
    file
}

/// The same records as pcapng.
fn pcapng(pcap: &[u8], order: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let block = |kind: u32, words: &[u32], bytes: &[u8]| {
        let padding = vec![0; bytes.len().next_multiple_of(4) - bytes.len()];
        let len = u32::try_from(12 + 4 * words.len() + bytes.len() + padding.len());
        let len = order(len.expect("small"));
        let words: Vec<u8> = words.iter().flat_map(|&word| order(word)).collect();
        [&order(kind)[..], &len, &words, bytes, &padding, &len].concat()
    };
    // Half words side by side change places with the byte order.
    let halves = |first: u16, second: u16| match order(1)[0] {
        1 => u32::from(second) << 16 | u32::from(first),
        _ => u32::from(first) << 16 | u32::from(second),
    };
    let mut file = block(
        0x0a0d_0d0a,
        &[0x1a2b_3c4d, halves(1, 0), u32::MAX, u32::MAX],
        &[],
    );
    let link = u16::from_le_bytes([pcap[20], pcap[21]]);
    // Option 9 is the resolution: microseconds.
    let interface = [halves(link, 0), 0, halves(9, 1)];
    file.extend(block(1, &interface, &[6, 0, 0, 0]));
    for record in records(&pcap[PCAP_HEADER_LEN..]) {
        let (head, bytes) = record.split_at(RECORD_HEADER_LEN);
        let word = |at| u32::from_le_bytes(*head[at..].first_chunk().expect("it is there"));
        let micros = u64::from(word(0)) * 1_000_000 + u64::from(word(4));
        let (high, low) = ((micros >> 32) as u32, (micros & 0xffff_ffff) as u32);
        file.extend(block(6, &[0, high, low, word(8), word(12)], bytes));
    }
    file
}

/// The records of a little-endian pcap, headers included.
fn records(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(*rest.get(8..)?.first_chunk()?);
        let (record, after) = rest.split_at(RECORD_HEADER_LEN + len as usize);
        rest = after;
        Some(record)
    })
}

/// Leaves room for the longer headers of pcapng in what `run` gives the target.
const FILE_LEN_MAX: usize = 3500;

const PCAP_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
