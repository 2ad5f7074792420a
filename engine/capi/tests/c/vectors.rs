//! The golden packets, made and read by C.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use binrush_wire::{Generation, Packet};
use serde_json::Value;

use crate::cc;

/// One that is whole, with all of its fields told.
struct Vector {
    id: String,
    bytes: Vec<u8>,
    hex: String,
    fields: Vec<Field>,
}

enum Field {
    Int(i64),
    Str(Vec<u8>),
}

#[test]
fn packets_of_the_1x_api_equal_the_golden_ones_both_ways() {
    let vectors = vectors(Generation::Legacy);
    assert_eq!(vectors.len(), 9);
    let Some(program) = cc::compile("packets-1x", "packets.c", &["-DBINRUSH_API=1"]) else {
        return;
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    cc::said(
        &program,
        &["make", &port],
        &script(Generation::Legacy, &vectors),
    );
    for vector in &vectors {
        let mut bytes = vec![0; 1 << 16];
        let len = socket.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..len], vector.bytes, "{}", vector.id);
    }
    read_by(&program, Generation::Legacy, &vectors);
}

#[test]
fn packets_of_the_3x_api_equal_the_golden_ones_both_ways() {
    let vectors = vectors(Generation::Modern);
    assert!(vectors.len() > 25, "{}", vectors.len());
    let Some(program) = cc::compile("packets-3x", "packets.c", &["-DBINRUSH_API=3"]) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let expected: Vec<u8> = vectors
        .iter()
        .flat_map(|vector| vector.bytes.clone())
        .collect();
    let received = thread::spawn(move || {
        let mut bytes = vec![];
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    // All on one connection, which ends with the program.
    cc::said(
        &program,
        &["make", &port],
        &script(Generation::Modern, &vectors),
    );
    assert_eq!(received.join().unwrap(), expected);
    read_by(&program, Generation::Modern, &vectors);
}

/// What the program pops is what was pushed, to the last field.
fn read_by(program: &Path, generation: Generation, vectors: &[Vector]) {
    let (mut input, mut expected) = (String::new(), String::new());
    let mut names = vec!["read"];
    for vector in vectors {
        let packet = Packet::parse(generation, &vector.bytes).unwrap();
        let name = str::from_utf8(packet.name()).unwrap();
        if !names.contains(&name) {
            names.push(name);
        }
        writeln!(expected, "type {}", packet.command()).unwrap();
        if let Some(version) = packet.version() {
            writeln!(expected, "version {version}").unwrap();
        }
        let mut layout = String::from(".");
        let mut fields = &vector.fields[..];
        if is_routed(&packet) {
            let (own, ids) = fields.split_at(fields.len() - 3);
            let [
                Field::Int(cluster),
                Field::Int(source),
                Field::Int(destination),
            ] = ids
            else {
                panic!("{}: three ids", vector.id);
            };
            writeln!(expected, "ids {cluster} {source} {destination}").unwrap();
            layout.push('t');
            fields = own;
        }
        for field in fields {
            match field {
                Field::Int(value) => {
                    layout.push('i');
                    writeln!(expected, "int {value}").unwrap();
                }
                Field::Str(value) => {
                    layout.push('s');
                    writeln!(expected, "str {}", hex(value)).unwrap();
                }
            }
        }
        writeln!(input, "{} {layout}", vector.hex).unwrap();
    }
    assert_eq!(cc::said(program, &names, &input), expected);
}

/// What makes the program make them.
fn script(generation: Generation, vectors: &[Vector]) -> String {
    let mut script = String::new();
    for vector in vectors {
        let packet = Packet::parse(generation, &vector.bytes).unwrap();
        let name = str::from_utf8(packet.name()).unwrap();
        let version = packet.version().unwrap_or_default();
        writeln!(script, "init {name} {} {version}", packet.command()).unwrap();
        for field in &vector.fields {
            match field {
                Field::Int(value) => writeln!(script, "int {value}").unwrap(),
                Field::Str(value) => writeln!(script, "str {}", hex(value)).unwrap(),
            }
        }
        script += "send\n";
    }
    script
}

fn is_routed(packet: &Packet<'_>) -> bool {
    packet.generation() == Generation::Modern && packet.name() != b"clusterer-internal"
}

fn vectors(generation: Generation) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/vectors.json");
    let file: Value = serde_json::from_reader(File::open(path).unwrap()).unwrap();
    let all = file["vectors"].as_array().unwrap();
    all.iter()
        .filter_map(|vector| one(generation, vector))
        .collect()
}

fn one(generation: Generation, vector: &Value) -> Option<Vector> {
    let text = |key: &str| vector[key].as_str();
    let of = match text("era")?.split(['.', '+']).next()? {
        "1" => Generation::Legacy,
        "2" if text("era")?.starts_with("2.2") => Generation::Transitional,
        _ => Generation::Modern,
    };
    let is_whole = ["accept", "ignore:no-callback"].contains(&text("verdict")?);
    let told = &vector["decoded"]["fields"];
    if of != generation || !is_whole || text("id")?.starts_with("t-") {
        return None;
    }
    let hex = text("hex")?.to_owned();
    let bytes = unhex(&hex);
    let packet = Packet::parse(generation, &bytes).unwrap();
    let mut fields: Vec<Field> = match told {
        Value::Array(fields) => fields.iter().map(field).collect(),
        Value::Null if packet.body().is_empty() => vec![],
        _ => return None,
    };
    if is_routed(&packet) {
        let mut cursor = packet.fields();
        let ids = cursor.pop_trailer().unwrap().ints();
        fields.extend(ids.map(|id| Field::Int(id.into())));
    }
    Some(Vector {
        id: text("id")?.to_owned(),
        fields,
        hex,
        bytes,
    })
}

fn field(field: &Value) -> Field {
    let value = &field["value"];
    match (field["type"].as_str().unwrap(), value) {
        ("int", value) => Field::Int(value.as_i64().unwrap()),
        (_, Value::Null) => Field::Str(vec![]),
        (_, Value::String(text)) => Field::Str(text.clone().into()),
        (_, value) => Field::Str(unhex(value["hex"].as_str().unwrap())),
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
