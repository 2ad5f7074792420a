//! Speed of reading captures that lie in memory: bytes of pcap per second, frames checked.

use std::hint::black_box;
use std::io::Read;

use binrush_capture::{Capture, Event, Options};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::read::MultiGzDecoder;

/// Name in tests/captures, and the frames it holds.
const CAPTURES: [(&str, u64); 4] = [
    ("opensips-1.11.pcap", 2591),
    ("opensips-2.4.pcap.gz", 3579),
    ("opensips-3.6.pcap.gz", 2995),
    ("opensips-3.6-late.pcap.gz", 3516),
];

/// The unpacked capture, so that unpacking is not measured.
fn load(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/captures/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("a capture of the repository");
    if !name.ends_with(".gz") {
        return bytes;
    }
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(&bytes[..])
        .read_to_end(&mut unpacked)
        .expect("gzip");
    unpacked
}

/// Reads all frames; the sum keeps their bytes from being optimised away.
fn drain(file: &[u8]) -> (u64, u64) {
    let mut capture = Capture::new(file, Options::default()).expect("a capture");
    let (mut frames, mut sum) = (0, 0);
    while let Some(event) = capture.next() {
        match event {
            Event::Frame(frame) => {
                frames += 1;
                sum += u64::from(frame.bytes[frame.bytes.len() - 1]);
            }
            Event::Problem(problem) => panic!("{problem}"),
        }
    }
    (frames, sum)
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for (name, frames) in CAPTURES {
        let file = load(name);
        assert_eq!(drain(&file).0, frames, "{name}");
        group.throughput(Throughput::Bytes(file.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let drained = drain(black_box(&file));
                assert_eq!(drained.0, frames);
                drained
            });
        });
    }
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
