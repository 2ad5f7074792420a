//! What was written reads back.

use std::net::SocketAddr;

use binrush_capture::{Options, Timestamp, Transport, WriteError, Writer};
use binrush_wire::Generation;
use proptest::prelude::*;

use crate::build::{a, addr, b, frame, modern, read};

type Sent = (u64, SocketAddr, SocketAddr, Transport, Vec<u8>);

fn back(sent: &[Sent]) {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    for (nanos, src, dst, transport, bytes) in sent {
        let time = Timestamp::from_nanos(*nanos);
        writer
            .write(time, *src, *dst, *transport, bytes)
            .expect("fits");
    }
    let read = read(&writer.finish().expect("memory"), Options::default());
    assert_eq!(read.kinds, []);
    assert_eq!(read.frames.len(), sent.len());
    for (frame, (nanos, src, dst, _, bytes)) in read.frames.iter().zip(sent) {
        assert_eq!((frame.nanos, frame.src, frame.dst), (*nanos, *src, *dst));
        assert!(frame.bytes == *bytes, "bytes differ");
    }
}

#[test]
fn the_largest_frames_of_both_transports_and_versions_read_back() {
    let (c, d) = (addr("[fc00::1]:5566"), addr("[fc00::2]:5566"));
    let mut sent = Vec::new();
    for (src, dst) in [(a(), b()), (c, d)] {
        let legacy = frame(Generation::Legacy, "ul", 65_507 - 22);
        assert_eq!(legacy.len(), 65_507);
        sent.push((1, src, dst, Transport::Udp, legacy));
        let largest = modern("ul", 65_535 - 20);
        assert_eq!(largest.len(), 65_535);
        sent.push((2, src, dst, Transport::Tcp, largest.clone()));
        sent.push((3, dst, src, Transport::Tcp, modern("ul", 1)));
        sent.push((4, src, dst, Transport::Tcp, largest));
    }
    back(&sent);
}

#[test]
fn more_directions_than_are_kept_read_back() {
    let sent: Vec<Sent> = (0..3)
        .flat_map(|round| {
            (0..5000_u16).map(move |port| {
                let src = SocketAddr::new(a().ip(), port + 1);
                (round, src, b(), Transport::Tcp, modern("ul", 3))
            })
        })
        .collect();
    back(&sent);
}

#[test]
fn what_cannot_be_written_is_an_error_and_nothing_is_written() {
    let mut writer = Writer::new(Vec::new()).expect("memory");
    let now = Timestamp::from_nanos(1);
    let mixed = writer.write(now, a(), addr("[fc00::2]:1"), Transport::Udp, b"P4CK");
    assert!(matches!(mixed, Err(WriteError::MixedVersions { .. })));
    let long = writer.write(now, a(), b(), Transport::Udp, &[0; 65_508]);
    assert!(matches!(
        long,
        Err(WriteError::DatagramTooLong {
            len: 65_508,
            max: 65_507
        })
    ));
    let late = Timestamp::from_nanos((1 << 32) * 1_000_000_000);
    let late = writer.write(late, a(), b(), Transport::Udp, b"P4CK");
    assert!(matches!(late, Err(WriteError::TimeTooLate { .. })));
    assert_eq!(writer.finish().expect("memory").len(), 24);
}

proptest! {
    #[test]
    fn any_mix_of_frames_reads_back(
        sent in proptest::collection::vec(
            (0..1u64 << 60, any::<bool>(), any::<bool>(), 0..2u16, 0..3000usize), 1..40)
    ) {
        let sent: Vec<Sent> = sent
            .into_iter()
            .map(|(nanos, v6, udp, port, len)| {
                let (src, dst) = if v6 { ("[::1]:70", "[::2]:80") } else { ("1.2.3.4:70", "5.6.7.8:80") };
                let (mut src, dst) = (addr(src), addr(dst));
                src.set_port(port + 9);
                if udp {
                    (nanos, src, dst, Transport::Udp, frame(Generation::Legacy, "dialog", len))
                } else {
                    (nanos, dst, src, Transport::Tcp, modern("dialog-dlg-repl", len))
                }
            })
            .collect();
        back(&sent);
    }
}
