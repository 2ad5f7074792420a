//! The golden packets of `vectors/vectors.json`, each read and written again, each with its verdict.

use std::fs::File;

use binrush_tests::captures::{path, unhex};
use binrush_wire::{
    Builder, Chunks, ErrorKind, Generation, Head, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Packet,
    Trailer, frame_len, schema,
};
use serde_json::Value;
use sha2::Digest;

#[test]
fn every_vector_gets_its_verdict() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 62);
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap();
        let check = || verdict(vector);
        assert!(
            std::panic::catch_unwind(check).is_ok(),
            "vector {id}: see above"
        );
    }
}

fn verdict(vector: &Value) {
    let verdict = vector["verdict"].as_str().unwrap();
    let generation = generation(vector);
    if vector["hex"].is_null() {
        return big(vector);
    }
    let bytes = unhex(vector["hex"].as_str().unwrap());
    assert_eq!(bytes.len() as u64, vector["length"].as_u64().unwrap());
    let decoded = &vector["decoded"];
    let parse_error = || Packet::parse(generation, &bytes).unwrap_err().kind;
    match verdict {
        "accept" if decoded["frames"].is_u64() => coalesced(&bytes, decoded),
        "accept" if decoded["chunks"].is_array() => sync(&bytes, decoded),
        "accept" | "ignore:no-callback" => {
            read(generation, &bytes, decoded);
            write(generation, &bytes, decoded);
            let known = schema::identify(&Packet::parse(generation, &bytes).unwrap());
            // Of 1.x's `tm` only the frame is genuine: it sends nothing.
            let sent = verdict == "accept" && decoded["module"] != "tm";
            assert_eq!(known.is_ok(), sent);
            if let (Ok(message), Some(name)) = (known, decoded["name"].as_str()) {
                assert_eq!(message.name, name);
            }
        }
        "reject:checksum" | "reject:marker" | "reject:too-short" | "reject:name-length" => {
            assert_eq!(parse_error(), rejection(vector));
        }
        "reject:close" => match frame_len(generation, &bytes, MAX_PACKET_LEN) {
            Head::Broken(error) => assert_eq!(error.kind, rejection(vector)),
            head => panic!("a stream goes on with {head:?}"),
        },
        "reject:drop-packet" => {
            assert_eq!(
                frame_len(generation, &bytes, MAX_PACKET_LEN),
                Head::Complete { len: bytes.len() }
            );
            assert_eq!(parse_error(), rejection(vector));
        }
        "accept-frame/reject-field" => {
            let packet = Packet::parse(generation, &bytes).unwrap();
            assert_eq!(decoded["field_error"], 0);
            let before = packet.fields();
            let mut fields = before.clone();
            assert!(fields.pop_str().is_err());
            assert_eq!(fields.offset(), before.offset());
            assert_eq!(field_error(&packet), (rejection(vector), before.offset()));
        }
        "accept-frame/stop-iteration" => {
            let (_, chunks) = sync_parts(&bytes);
            let chunks: Vec<_> = chunks.collect();
            assert_eq!(chunks.len(), 1);
            assert_eq!(chunks[0].unwrap_err().kind, rejection(vector));
            let packet = Packet::parse(generation, &bytes).unwrap();
            assert_eq!(field_error(&packet).0, rejection(vector));
        }
        "discard:version" => {
            let packet = Packet::parse(generation, &bytes).unwrap();
            assert_eq!(
                i64::from(packet.version().unwrap()),
                decoded["version"].as_i64().unwrap()
            );
            assert_eq!(
                schema::identify(&packet).unwrap_err(),
                schema::SchemaError::UnknownVersion
            );
        }
        "need-more" => {
            let missing = decoded["need"].as_u64().unwrap() - decoded["have"].as_u64().unwrap();
            let missing = usize::try_from(missing).unwrap();
            assert_eq!(
                frame_len(generation, &bytes, MAX_PACKET_LEN),
                Head::NeedMore { missing }
            );
        }
        "3.6:wait-more / 4.0:reject:close" => {
            assert!(matches!(
                frame_len(generation, &bytes, MAX_PACKET_LEN),
                Head::NeedMore { .. }
            ));
            let Head::Broken(error) = frame_len(generation, &bytes, MAX_PACKET_LEN_4_0) else {
                panic!("4.0 takes no packet of that length");
            };
            assert_eq!(error.kind, ErrorKind::LengthAboveMaximum);
        }
        "reject:trailer" => {
            // The last three fields are taken for the ids, so the fields before them end too early.
            let packet = Packet::parse(generation, &bytes).unwrap();
            assert_eq!(field_error(&packet).0, rejection(vector));
        }
        other => panic!("a verdict nobody knows: {other}"),
    }
}

/// The rule that a vector which is not accepted breaks.
fn rejection(vector: &Value) -> ErrorKind {
    let id = vector["id"].as_str().unwrap();
    let found = REJECTIONS.iter().find(|(rejected, _)| *rejected == id);
    found.expect("every rejection has its rule").1
}

const REJECTIONS: [(&str, ErrorKind); 15] = [
    ("v1-bad-crc", ErrorKind::Checksum),
    ("v1-crc-with-final-xor", ErrorKind::Checksum),
    ("v1-bad-marker", ErrorKind::Marker),
    ("v1-short-17", ErrorKind::TooShort),
    ("v1-negative-name-len", ErrorKind::NameLength),
    ("v1-negative-field-len", ErrorKind::NegativeLength),
    ("v1-field-len-past-end", ErrorKind::FieldPastEnd),
    ("x-sync-bad-chunk-marker", ErrorKind::ChunkMarker),
    ("t-bad-marker", ErrorKind::Marker),
    ("t-len-zero", ErrorKind::LengthBelowMinimum),
    ("t-len-16", ErrorKind::LengthBelowMinimum),
    ("t-len-65536", ErrorKind::LengthAboveMaximum),
    ("t-cap-len-past-end", ErrorKind::NameLength),
    ("t-string-past-end", ErrorKind::FieldPastEnd),
    ("t-no-trailer", ErrorKind::FieldPastEnd),
];

/// Why no layout fits, and where.
fn field_error(packet: &Packet<'_>) -> (ErrorKind, usize) {
    match schema::identify(packet) {
        Err(schema::SchemaError::Field(error)) => (error.kind, error.at),
        other => panic!("a field is wrong: {other:?}"),
    }
}

/// Pops each field by its type, then the trailer; nothing may be left over.
fn read(generation: Generation, bytes: &[u8], decoded: &Value) {
    if generation != Generation::Legacy {
        assert_eq!(
            frame_len(generation, bytes, MAX_PACKET_LEN),
            Head::Complete { len: bytes.len() }
        );
    }
    let packet = Packet::parse(generation, bytes).unwrap();
    let (name, command, version) = head(decoded);
    assert_eq!(packet.name(), name.as_bytes());
    assert_eq!(packet.command(), command);
    if let Some(version) = version {
        assert_eq!(packet.version(), Some(version));
    }
    let mut fields = packet.fields();
    if let Some(trailer) = trailer(decoded) {
        assert_eq!(fields.pop_trailer(), Ok(trailer));
    } else if generation == Generation::Modern && name != "clusterer-internal" && name != "x" {
        fields.pop_trailer().unwrap();
    }
    for field in decoded["fields"].as_array().unwrap() {
        match field["type"].as_str().unwrap() {
            "int" => assert_eq!(
                i64::from(fields.pop_int().unwrap()),
                field["value"].as_i64().unwrap()
            ),
            _ => assert_eq!(fields.pop_str().unwrap(), string(&field["value"])),
        }
    }
    assert!(fields.is_empty());
}

/// Builds the packet from its decoded form: the same bytes, but for those no 2.2 sender writes.
fn write(generation: Generation, bytes: &[u8], decoded: &Value) {
    let packet = Packet::parse(generation, bytes).unwrap();
    let (name, command, _) = head(decoded);
    let mut buffer = vec![0xEE; MAX_PACKET_LEN];
    let version = packet.version().unwrap_or(0);
    let mut builder =
        Builder::new(generation, &mut buffer, name.as_bytes(), command, version).unwrap();
    push(&mut builder, &decoded["fields"]);
    let mut fields = packet.fields();
    let routed = generation == Generation::Modern && name != "clusterer-internal" && name != "x";
    if routed {
        builder.push_trailer(fields.pop_trailer().unwrap()).unwrap();
    }
    let mut expected = bytes.to_vec();
    if generation == Generation::Transitional {
        for undefined in [6, 7, 10, 11] {
            expected[undefined] = 0;
        }
    }
    assert_eq!(builder.seal(), expected);
}

fn coalesced(bytes: &[u8], decoded: &Value) {
    let mut rest = bytes;
    let mut frames = 0;
    while !rest.is_empty() {
        let Head::Complete { len } = frame_len(Generation::Modern, rest, MAX_PACKET_LEN) else {
            panic!("not a whole frame");
        };
        Packet::parse(Generation::Modern, &rest[..len]).unwrap();
        rest = &rest[len..];
        frames += 1;
    }
    assert_eq!(decoded["frames"], frames);
}

fn sync(bytes: &[u8], decoded: &Value) {
    let (data_version, chunks) = sync_parts(bytes);
    assert_eq!(decoded["data_version"], data_version);
    let chunks: Vec<_> = chunks.map(Result::unwrap).collect();
    let sizes: Vec<_> = chunks.iter().map(|chunk| chunk.data.len()).collect();
    assert_eq!(decoded["chunk_sizes"], serde_json::json!(sizes));
    let capability = decoded["for_capability"].as_str().unwrap();

    let mut buffer = vec![0; MAX_PACKET_LEN];
    let mut scratch = vec![0; MAX_PACKET_LEN];
    let mut builder =
        Builder::new(Generation::Modern, &mut buffer, b"clusterer-extra", 11, 3).unwrap();
    builder.push_str(capability.as_bytes()).unwrap();
    builder.push_int(data_version).unwrap();
    for (chunk, fields) in chunks.iter().zip(decoded["chunks"].as_array().unwrap()) {
        let mut data = Builder::new(Generation::Modern, &mut scratch, b"", 0, 0).unwrap();
        let start = data.len();
        push(&mut data, fields);
        assert_eq!(&data.seal()[start..], chunk.data);
        builder.push_chunk(chunk.data).unwrap();
        assert_eq!(
            schema::chunk_key(capability.as_bytes(), data_version, chunk),
            Ok(Some(&b"alice"[..]))
        );
    }
    builder.push_trailer(trailer(decoded).unwrap()).unwrap();
    assert_eq!(builder.seal(), bytes);
    let packet = Packet::parse(Generation::Modern, bytes).unwrap();
    assert_eq!(schema::identify(&packet).unwrap().name, "SYNC");
}

fn big(vector: &Value) {
    let mut buffer = vec![0; MAX_PACKET_LEN];
    let mut builder = Builder::new(
        Generation::Modern,
        &mut buffer,
        b"usrloc-contact-repl",
        1,
        5,
    )
    .unwrap();
    builder.push_str(&[b'x'; 60_000]).unwrap();
    builder.push_trailer(Trailer::new(1, 1, 2)).unwrap();
    let bytes = builder.seal();
    assert_eq!(bytes.len() as u64, vector["length"].as_u64().unwrap());
    let sha256: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(vector["sha256"], sha256);
    let mut fields = Packet::parse(Generation::Modern, bytes).unwrap().fields();
    assert_eq!(fields.pop_trailer(), Ok(Trailer::new(1, 1, 2)));
    assert_eq!(fields.pop_str().map(<[u8]>::len), Ok(60_000));
    assert!(fields.is_empty());
}

fn sync_parts(bytes: &[u8]) -> (i32, Chunks<'_>) {
    let packet = Packet::parse(Generation::Modern, bytes).unwrap();
    let mut fields = packet.fields();
    fields.pop_trailer().unwrap();
    fields.skip_str(1).unwrap();
    (fields.pop_int().unwrap(), Chunks::new(fields))
}

fn push(builder: &mut Builder<'_>, fields: &Value) {
    for field in fields.as_array().unwrap() {
        match field["type"].as_str().unwrap() {
            "int" => builder
                .push_int(field["value"].as_i64().unwrap().try_into().unwrap())
                .unwrap(),
            _ => builder.push_str(&string(&field["value"])).unwrap(),
        }
    }
}

fn string(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![],
        Value::String(text) => text.clone().into_bytes(),
        object => unhex(object["hex"].as_str().unwrap()),
    }
}

fn head(decoded: &Value) -> (&str, i32, Option<i16>) {
    let name = decoded["module"]
        .as_str()
        .or_else(|| decoded["capability"].as_str())
        .unwrap();
    let command = decoded["cmd"]
        .as_i64()
        .or_else(|| decoded["type"].as_i64())
        .unwrap();
    let version = decoded["version"]
        .as_i64()
        .map(|version| version.try_into().unwrap());
    (name, command.try_into().unwrap(), version)
}

fn trailer(decoded: &Value) -> Option<Trailer> {
    let trailer = decoded.get("trailer")?;
    let id = |key: &str| {
        let id = trailer[key].as_i64()?;
        Some(
            id.try_into()
                .unwrap_or_else(|_| u32::try_from(id).unwrap().cast_signed()),
        )
    };
    Some(Trailer {
        bridged_from: id("src_cluster"),
        cluster: id("cluster")?,
        source: id("source")?,
        dest: id("dest")?,
    })
}

fn generation(vector: &Value) -> Generation {
    match vector["era"].as_str().unwrap() {
        era if era.starts_with("1.x") => Generation::Legacy,
        "2.2" => Generation::Transitional,
        _ => Generation::Modern,
    }
}

fn vectors() -> Vec<Value> {
    let file = File::open(path("vectors/vectors.json")).unwrap();
    let mut json: Value = serde_json::from_reader(file).unwrap();
    serde_json::from_value(json["vectors"].take()).unwrap()
}
