use super::*;
use crate::traffic::Renumbered;
use binrush_capture::{Timestamp, Writer};
use binrush_wire::{Builder, Trailer, schema};

const SAMPLE: &[u8] = include_bytes!("../../../../../tests/captures/opensips-1.11.pcap");
const MODERN: &[u8] = include_bytes!("../../../../../tests/captures/opensips-3.6.pcap.gz");

fn packet(generation: Generation, name: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 128];
    let mut builder = Builder::new(generation, &mut buffer, name, 1, 1).unwrap();
    builder.push_str(b"a-field-of-its-own").unwrap();
    builder.seal().to_vec()
}

/// A capture of packets, each at so many milliseconds, from and to these ports.
fn capture(transport: Transport, packets: &[(u64, [u16; 2], &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file).unwrap();
    for (ms, [src, dst], bytes) in packets {
        let host = |port: u16| SocketAddr::from(([10, 0, 0, (port % 10) as u8], port));
        let time = Timestamp::from_nanos(ms * 1_000_000);
        writer
            .write(time, host(*src), host(*dst), transport, bytes)
            .unwrap();
    }
    drop(writer);
    file
}

fn record(file: &[u8]) -> Result<Recorded, TrafficError> {
    Traffic::record(file, None, Ways::Busiest)
}

#[test]
fn a_recording_has_the_moments_of_its_packets() {
    let recorded = record(SAMPLE).unwrap();
    let traffic = &recorded.traffic;
    assert_eq!(
        (traffic.len(), traffic.generation()),
        (2591, Generation::Legacy)
    );
    assert_eq!(recorded.left_out, LeftOut::default());
    assert_eq!((recorded.keyless, recorded.clock_steps), (0, 0));
    assert_eq!(traffic.at(0), Duration::ZERO);
    let moments: Vec<_> = (0..traffic.len()).map(|index| traffic.at(index)).collect();
    assert!(moments.is_sorted() && moments[2590] > Duration::from_secs(1));
    assert!(traffic.span() > moments[2590]);
}

#[test]
fn of_a_cut_off_capture_what_is_there_is_used() {
    let recorded = record(&SAMPLE[..SAMPLE.len() - 1]).unwrap();
    assert_eq!(recorded.traffic.len(), 2590);
    let left_out = recorded.left_out;
    assert_eq!((left_out.problem_count, left_out.problems.len()), (1, 1));
}

#[test]
fn frames_of_a_stream_are_renumbered_and_sent_to_another_node() {
    let modern = flate2::read::GzDecoder::new(MODERN);
    let recorded = Traffic::record(modern, None, Ways::All).unwrap();
    let traffic = recorded.traffic;
    assert_eq!(traffic.generation(), Generation::Modern);
    assert!(recorded.left_out.internal > 0 && recorded.left_out.broken == 0);
    assert_eq!(recorded.unaddressed, 0);
    let mut renumbered = Renumbered::new(&traffic).for_node(77);
    for index in 0..traffic.len() {
        let original = traffic.packets[index].clone();
        for round in [0, 12] {
            let bytes = renumbered.packet(round, index).unwrap();
            let packet = Packet::parse(Generation::Modern, bytes).unwrap();
            assert_eq!(packet.fields().pop_trailer().unwrap().dest, 77);
            assert!(schema::identify(&packet).is_ok());
            if let (Some(key), 12) = (&original.key, round) {
                let expected = [b"12.", &original.bytes[key.clone()]].concat();
                assert_eq!(schema::key(&packet).unwrap(), Some(&expected[..]));
            }
        }
    }
}

#[test]
fn a_destination_is_put_only_where_one_is_known_to_be() {
    let modern = flate2::read::GzDecoder::new(MODERN);
    let captured = Traffic::record(modern, None, Ways::All).unwrap().traffic;
    let captured = captured.packets[0].bytes.to_vec();
    // The same between clusters: an int more, and a destination that is no node.
    let trailer = Trailer {
        bridged_from: Some(3),
        dest: Trailer::BRIDGE,
        ..Trailer::new(1, 2, 0)
    };
    let mut bridged = captured[..captured.len() - 12].to_vec();
    for int in [3, trailer.cluster, trailer.source, trailer.dest] {
        bridged.extend(int.to_le_bytes());
    }
    let len = u32::try_from(bridged.len()).unwrap();
    bridged[4..8].copy_from_slice(&len.to_le_bytes());
    let parsed = Packet::parse(Generation::Modern, &bridged).unwrap();
    assert_eq!(parsed.fields().pop_trailer(), Ok(trailer));
    assert!(schema::identify(&parsed).is_ok());
    let stranger = packet(Generation::Modern, b"mine");
    let mut file = capture(
        Transport::Tcp,
        &[
            (0, [1, 2], &stranger),
            (1, [1, 2], &bridged),
            (2, [1, 2], &captured),
        ],
    );
    let recorded = record(&file).unwrap();
    assert_eq!(recorded.unaddressed, 2);
    let mut renumbered = Renumbered::new(&recorded.traffic).for_node(77);
    assert_eq!(renumbered.packet(0, 0).unwrap(), stranger);
    assert_eq!(renumbered.packet(5, 0).unwrap(), stranger);
    assert_eq!(renumbered.packet(0, 1).unwrap(), bridged);
    assert!(
        renumbered
            .packet(0, 2)
            .unwrap()
            .ends_with(&77_i32.to_le_bytes())
    );
    // Nobody asks for destinations in datagrams.
    file = capture(
        Transport::Udp,
        &[(0, [1, 2], &packet(Generation::Legacy, b"mine"))],
    );
    let recorded = record(&file).unwrap();
    assert_eq!((recorded.unaddressed, recorded.keyless), (0, 1));
}

#[test]
fn of_several_ways_the_busiest_is_taken_unless_all_are_wanted() {
    let bytes = packet(Generation::Legacy, b"mine");
    let ways = [[1, 2], [2, 1], [1, 2], [1, 3], [1, 2]];
    let packets: Vec<_> = (0..)
        .zip(ways)
        .map(|(ms, way)| (ms, way, &bytes[..]))
        .collect();
    let file = capture(Transport::Udp, &packets);
    let recorded = record(&file).unwrap();
    assert_eq!(recorded.traffic.len(), 3);
    assert_eq!(recorded.way, "10.0.0.1:1 to 10.0.0.2:2");
    let left_out = &recorded.left_out;
    assert_eq!((left_out.other_way, left_out.other_ways), (2, 2));
    // The gaps are those of the way.
    assert_eq!(recorded.traffic.at(1), Duration::from_millis(2));
    let all = Traffic::record(&file[..], None, Ways::All).unwrap();
    assert_eq!((all.traffic.len(), all.left_out.other_way), (5, 0));
}

#[test]
fn connections_between_two_hosts_are_one_way_and_the_answers_another() {
    let bytes = packet(Generation::Modern, b"mine");
    let packets = [
        (0, [41_001, 2], &bytes[..]),
        (1, [42_001, 2], &bytes),
        (2, [2, 41_001], &bytes),
    ];
    let recorded = record(&capture(Transport::Tcp, &packets)).unwrap();
    assert_eq!(recorded.traffic.len(), 2);
    assert_eq!(recorded.way, "10.0.0.1 to 10.0.0.2");
    assert_eq!(recorded.left_out.other_way, 1);
}

#[test]
fn a_clock_that_was_set_leaves_mean_gaps() {
    let bytes = packet(Generation::Legacy, b"mine");
    // An hour ahead, back by more than that, and a record that is a little late.
    let moments = [5_000_000, 5_000_010, 8_600_020, 100, 130, 128, 140];
    let packets: Vec<_> = moments.iter().map(|ms| (*ms, [1, 2], &bytes[..])).collect();
    let recorded = record(&capture(Transport::Udp, &packets)).unwrap();
    assert_eq!(recorded.clock_steps, 2);
    // The others are 10, 30, 0 and 10: 12.5 in the mean.
    let expected = [0, 10_000, 22_500, 35_000, 65_000, 65_000, 75_000];
    for (index, us) in expected.into_iter().enumerate() {
        assert_eq!(
            recorded.traffic.at(index),
            Duration::from_micros(us),
            "{index}"
        );
    }
}

#[test]
fn what_there_is_no_room_for_is_not_read() {
    let room = 100 * (200 + size_of::<Noted>());
    let recorded = Traffic::record_up_to(SAMPLE, None, Ways::Busiest, room).unwrap();
    assert!((10..1000).contains(&recorded.traffic.len()));
    assert!(recorded.left_out.is_too_long);
    let told: Vec<String> = recorded.left_out.lines().collect();
    assert_eq!(
        told,
        ["more than 1024 MiB of packets: the rest was not read"]
    );
}

#[test]
fn a_capture_of_nothing_that_can_be_sent_says_what_it_holds() {
    let internal = packet(Generation::Modern, INTERNAL);
    let file = capture(
        Transport::Tcp,
        &[(0, [1, 2], &internal), (1, [1, 2], &internal)],
    );
    let error = record(&file).unwrap_err();
    assert!(
        error.to_string().contains("2 clusterer-internal"),
        "{error}"
    );
    let error = record(&SAMPLE[..24]).unwrap_err();
    assert!(
        matches!(&error, TrafficError::Empty(left_out) if **left_out == LeftOut::default()),
        "{error}"
    );
    assert!(error.to_string().contains("nothing that looks"), "{error}");
    let error = record(&SAMPLE[..50]).unwrap_err();
    assert!(matches!(&error, TrafficError::Empty(left_out) if left_out.problem_count == 1));
}
