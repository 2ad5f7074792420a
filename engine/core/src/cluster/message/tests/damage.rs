//! Messages that are cut short, or that lie about how many elements they have: each is refused, by what is wrong with it.

use binrush_wire::{Builder, ErrorKind, Generation, Packet, Release, WireError, schema};

use super::*;

/// The packet with other fields; its length is that of what it has then.
fn with_body(packet: &Packet<'_>, body: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let version = packet.version().unwrap();
    let name = packet.name();
    let mut builder = Builder::new(
        Generation::Modern,
        &mut buffer,
        name,
        packet.command(),
        version,
    )
    .unwrap();
    builder.append(body).unwrap();
    builder.finish().to_vec()
}

/// Refused for a field, unless it is by chance a whole message of the other numbering, which the layouts know as well.
fn assert_refused(bytes: &[u8], release: Release, what: &str) {
    let packet = parse(bytes);
    for known in [Some(release), None] {
        match refusal(&packet, known) {
            Some(Verdict::Field(_) | Verdict::UnknownVersion) => {}
            None if schema::identify(&packet).is_ok()
                && schema::identify_from(release, &packet).is_err() => {}
            other => panic!("{release}, {what}: {other:?}"),
        }
    }
}

#[test]
fn every_message_cut_short_at_any_byte_is_refused() {
    for release in RELEASES {
        for bytes in written(release) {
            let packet = parse(&bytes);
            let trailer_len = if is_internal(&packet) { 0 } else { 12 };
            let (body, trailer) = packet.body().split_at(packet.body().len() - trailer_len);
            let without_chunks = body.strip_suffix(CHUNK).map(<[u8]>::len);
            for len in 0..body.len() {
                // A sync without chunks is as good as one with them: its SYNC_END tells.
                if Some(len) == without_chunks {
                    continue;
                }
                let cut = with_body(&packet, &[&body[..len], trailer].concat());
                assert_refused(
                    &cut,
                    release,
                    &format!("command {} cut to {len}", packet.command()),
                );
            }
        }
    }
}

#[test]
fn a_packet_without_room_for_its_ids_is_refused() {
    for release in RELEASES {
        for bytes in written(release) {
            let packet = parse(&bytes);
            for len in 0..if is_internal(&packet) { 8 } else { 12 } {
                let cut = with_body(&packet, &packet.body()[..len]);
                let kind = refusal(&parse(&cut), Some(release)).map(kind_of);
                assert!(
                    matches!(
                        kind,
                        Some(ErrorKind::End | ErrorKind::FieldPastEnd | ErrorKind::Trailer)
                    ),
                    "{release}: {kind:?}"
                );
            }
        }
    }
}

#[test]
fn a_byte_too_many_is_refused() {
    for release in RELEASES {
        for bytes in written(release) {
            let packet = parse(&bytes);
            let trailer_len = if is_internal(&packet) { 0 } else { 12 };
            let (body, trailer) = packet.body().split_at(packet.body().len() - trailer_len);
            let longer = with_body(&packet, &[body, &[0], trailer].concat());
            assert_refused(&longer, release, "one byte more");
        }
    }
}

/// The places of all counts of a packet, as the layouts tell them, and the limit of each.
fn counts(packet: &Packet<'_>, release: Release) -> Vec<(usize, i32)> {
    let message = schema::identify_from(release, packet).unwrap();
    let mut found = vec![];
    message
        .walk(packet, |field| match field.name {
            "n_nodes" | "n_neighbours" => found.push((field.at, 128)),
            "n_caps" => found.push((field.at, 64)),
            "n_params" => found.push((field.at, 20)),
            "path_len" => found.push((field.at, 26)),
            "size" => found.push((field.at, i32::MAX - 1)),
            _ => {}
        })
        .unwrap();
    found
}

#[test]
fn every_count_at_its_extremes_is_refused() {
    let mut tried = 0;
    for release in RELEASES {
        for bytes in written(release) {
            let packet = parse(&bytes);
            for (at, limit) in counts(&packet, release) {
                let genuine = i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                let room = i32::try_from(bytes.len() - at).unwrap();
                for count in [
                    0,
                    -1,
                    i32::MIN,
                    i32::MAX,
                    limit,
                    limit + 1,
                    room,
                    genuine + 1,
                ] {
                    if count == genuine {
                        continue;
                    }
                    let mut lying = bytes.clone();
                    lying[at..at + 4].copy_from_slice(&count.to_le_bytes());
                    assert_refused(&lying, release, &format!("{count} at offset {at}"));
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 9 * 8 * 8, "{tried}");
}

#[test]
fn a_count_is_refused_for_what_is_wrong_with_it() {
    let mut writer = Writer::new();
    let pong = Internal::Pong { nodes: vec![203] };
    let bytes = writer
        .internal(Release::V3_6, 1, 202, &pong)
        .unwrap()
        .to_vec();
    let at = bytes.len() - 8;
    for (count, kind, have) in [
        (-1, ErrorKind::CountLimit, 128),
        (i32::MIN, ErrorKind::CountLimit, 128),
        (i32::MAX, ErrorKind::CountLimit, 128),
        (129, ErrorKind::CountLimit, 128),
        (128, ErrorKind::CountPastEnd, 1),
        (2, ErrorKind::CountPastEnd, 1),
    ] {
        let mut lying = bytes.clone();
        lying[at..at + 4].copy_from_slice(&i32::to_le_bytes(count));
        let error = WireError::claimed(kind, at, i64::from(count), have);
        assert_eq!(internal(&parse(&lying)), Err(Verdict::Field(error)));
    }
    let mut none = bytes;
    none[at..at + 4].fill(0);
    let error = WireError::new(ErrorKind::Leftover, at + 4, 0, 4);
    assert_eq!(internal(&parse(&none)), Err(Verdict::Field(error)));
}

#[test]
fn the_number_of_chunks_is_never_negative() {
    let mut writer = Writer::new();
    let end = Extra::SyncEnd {
        capability: b"x-repl".to_vec(),
        total: Some(0),
    };
    let mut bytes = writer.extra(Release::V3_6, TRAILER, &end).unwrap().to_vec();
    let at = bytes.len() - 16;
    for (total, taken) in [(i32::MAX, true), (-1, false), (i32::MIN, false)] {
        bytes[at..at + 4].copy_from_slice(&total.to_le_bytes());
        let kind = refusal(&parse(&bytes), Some(Release::V3_6)).map(kind_of);
        assert_eq!(kind, (!taken).then_some(ErrorKind::CountLimit));
    }
}
