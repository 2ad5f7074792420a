//! Decoder of BIN packets, obvious and slow: the oracle the fast one is compared with.
//!
//! Written from a description of the protocol alone, without a look at the crates it tests. Every
//! field is copied. A packet is decoded by the first layout of [`layouts`] that consumes its
//! payload to the last byte; the layouts stand newest release first, because a packet does not
//! say which release sent it.
//!
//! An error begins with its reason and a colon. From [`frame`]: `need-more`, `too-short`,
//! `length`, `marker`, `checksum`, `name-length`. From [`decode`] also: `unknown-name`,
//! `unknown-type`, `version`, `trailer`, `field N`, `left-over`.

use layouts::{Row, rows, rows_of_version, smallest, split_group};

mod layouts;
/// Packets made from the rows.
pub(crate) mod made;

/// The wire eras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gen {
    /// 1.10, 1.11, 2.1: one UDP datagram with a CRC.
    V1,
    /// 2.2: TCP, 2-byte total length, 4-byte string lengths.
    V22,
    /// 2.3 to 4.0: TCP, 4-byte total length, 2-byte string lengths.
    V23,
}

/// One field, copied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Str(Vec<u8>),
    Int(i32),
    /// A string that holds a raw object of 4, 8 or 24 bytes (B4, B8, B24).
    Bin(Vec<u8>),
    /// Bytes without known fields: a chunk of an unknown capability, module storage at the end.
    Raw(Vec<u8>),
}

/// The first packet in some bytes, its payload still unread.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) name: Vec<u8>,
    pub(crate) command: i32,
    pub(crate) version: Option<i16>,
    /// All after the command: 2.2's leading machine id and the trailer of 2.3+ included.
    pub(crate) body: Vec<u8>,
    /// Bytes of the whole packet; the next packet of a stream begins there.
    pub(crate) length: usize,
}

/// A packet with every byte accounted for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) name: Vec<u8>,
    pub(crate) command: i32,
    pub(crate) version: Option<i16>,
    pub(crate) leading_machine_id: Option<i32>,
    pub(crate) type_name: Option<&'static str>,
    pub(crate) fields: Vec<Value>,
    /// Cluster, source, destination; across a 4.0 bridge source cluster, cluster, source, mark.
    pub(crate) trailer: Option<Vec<i32>>,
}

/// Checks the header of the packet that begins at `bytes[0]` and splits it.
pub(crate) fn frame(era: Gen, bytes: &[u8]) -> Result<Frame, String> {
    match era {
        Gen::V1 => frame_v1(bytes),
        Gen::V22 => frame_v22(bytes),
        Gen::V23 => frame_v23(bytes),
    }
}

/// Decodes `bytes`, which must be exactly one packet.
pub(crate) fn decode(era: Gen, bytes: &[u8]) -> Result<Decoded, String> {
    let frame = frame(era, bytes)?;
    if frame.length != bytes.len() {
        return Err(format!(
            "left-over: {} bytes after the packet",
            bytes.len() - frame.length
        ));
    }
    let rows = rows(era, &frame.name, &frame.command.to_string())?;
    let rows = rows_of_version(rows, frame.version.map_or(0, i32::from))?;
    let (leading_machine_id, body) = split_machine_id(era, &frame.body)?;
    let (payload, trailer) = split_trailer(era, &frame.name, body)?;
    let (type_name, fields) = first_fit(era, &rows, payload)?;
    Ok(Decoded {
        name: frame.name.clone(),
        command: frame.command,
        version: frame.version,
        leading_machine_id,
        type_name,
        fields,
        trailer,
    })
}

/// Reads `payload`, ids already cut off, by one layout in the notation of [`layouts`].
fn fields(era: Gen, layout: &str, payload: &[u8]) -> Result<Vec<Value>, String> {
    let mut reader = Reader::new(era, payload);
    reader.run(layout)?;
    match reader.left() {
        0 => Ok(reader.fields),
        left => Err(format!("left-over: {left} bytes after the last field")),
    }
}

// A.1. The order of the checks is the genuine receiver's.
fn frame_v1(bytes: &[u8]) -> Result<Frame, String> {
    if bytes.len() < 18 {
        return Err(format!(
            "too-short: {} bytes, a datagram has at least 18",
            bytes.len()
        ));
    }
    if bytes.len() > PACKET_MAX {
        return Err(format!("length: {} bytes", bytes.len()));
    }
    check_marker(bytes)?;
    let stored = u32::from_le_bytes(array_at(bytes, 4)?);
    let computed = crc(&bytes[8..]);
    if stored != computed {
        return Err(format!(
            "checksum: packet says {stored:08x}, bytes say {computed:08x}"
        ));
    }
    let name_len = i32::from_le_bytes(array_at(bytes, 8)?);
    split_name(bytes, 12, i64::from(name_len), None)
}

// A.2. Bytes 6, 7, 10 and 11 are never written by a sender: not looked at.
fn frame_v22(bytes: &[u8]) -> Result<Frame, String> {
    need(bytes, 12)?;
    check_marker(bytes)?;
    let total = u16::from_le_bytes(array_at(bytes, 4)?);
    // The header, a name length, one letter of name and a command.
    if total < 12 + 4 + 1 + 4 {
        return Err(format!("length: packet says {total}"));
    }
    let packet = need(bytes, usize::from(total))?;
    let version = i16::from_le_bytes(array_at(packet, 8)?);
    let name_len = i32::from_le_bytes(array_at(packet, 12)?);
    split_name(packet, 16, i64::from(name_len), Some(version))
}

// A.3, with the checks of 3.6.
fn frame_v23(bytes: &[u8]) -> Result<Frame, String> {
    need(bytes, 10)?;
    check_marker(bytes)?;
    let total = u32::from_le_bytes(array_at(bytes, 4)?);
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    if !(17..=PACKET_MAX).contains(&total) {
        return Err(format!("length: packet says {total}"));
    }
    let packet = need(bytes, total)?;
    let version = i16::from_le_bytes(array_at(packet, 8)?);
    let name_len = u16::from_le_bytes(array_at(packet, 10)?);
    split_name(packet, 12, i64::from(name_len), Some(version))
}

/// Splits `packet` into name, command and body; the name begins at `start`.
fn split_name(
    packet: &[u8],
    start: usize,
    name_len: i64,
    version: Option<i16>,
) -> Result<Frame, String> {
    let refused = || {
        format!(
            "name-length: {name_len} in a packet of {} bytes",
            packet.len()
        )
    };
    let name_len = usize::try_from(name_len).map_err(|_| refused())?;
    let (_, rest) = packet.split_at_checked(start).ok_or_else(refused)?;
    let (name, rest) = rest.split_at_checked(name_len).ok_or_else(refused)?;
    let (command, body) = rest.split_first_chunk::<4>().ok_or_else(refused)?;
    Ok(Frame {
        name: name.to_vec(),
        command: i32::from_le_bytes(*command),
        version,
        body: body.to_vec(),
        length: packet.len(),
    })
}

fn check_marker(bytes: &[u8]) -> Result<(), String> {
    match &array_at::<4>(bytes, 0)? {
        b"P4CK" => Ok(()),
        other => Err(format!("marker: {other:02x?}")),
    }
}

fn need(bytes: &[u8], count: usize) -> Result<&[u8], String> {
    bytes
        .get(..count)
        .ok_or_else(|| format!("need-more: {count}, have {}", bytes.len()))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], String> {
    let tail = bytes.get(at..).and_then(|tail| tail.first_chunk::<N>());
    tail.copied()
        .ok_or_else(|| format!("too-short: {N} bytes at {at} of {}", bytes.len()))
}

/// CRC-32 bit by bit, reflected, without the final inversion (fact 3).
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = 0xFFFF_FFFF_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xEDB8_8320;
            }
        }
    }
    crc
}

fn split_machine_id(era: Gen, body: &[u8]) -> Result<(Option<i32>, &[u8]), String> {
    if era != Gen::V22 {
        return Ok((None, body));
    }
    let (id, rest) = body
        .split_first_chunk::<4>()
        .ok_or("field 0: no machine id")?;
    Ok((Some(i32::from_le_bytes(*id)), rest))
}

/// Cuts 3 ints, or 4 when the last one is the mark of a bridge, off the end of a 2.3+ packet.
fn split_trailer<'a>(
    era: Gen,
    name: &[u8],
    body: &'a [u8],
) -> Result<(&'a [u8], Option<Vec<i32>>), String> {
    if era != Gen::V23 || UNROUTED.contains(&name) {
        return Ok((body, None));
    }
    let bridged = body.ends_with(&BRIDGE_MARK.to_le_bytes());
    let count = if bridged { 4 } else { 3 };
    let Some(start) = body.len().checked_sub(count * 4) else {
        return Err(format!("trailer: {count} ints in {} bytes", body.len()));
    };
    let (payload, tail) = body.split_at(start);
    let ints = (0..count).map(|i| Ok(i32::from_le_bytes(array_at(tail, i * 4)?)));
    Ok((payload, Some(ints.collect::<Result<_, String>>()?)))
}

/// The fields by the first row that consumes `payload` exactly; else the errors of all, the newest first.
fn first_fit(
    era: Gen,
    rows: &[&Row],
    payload: &[u8],
) -> Result<(Option<&'static str>, Vec<Value>), String> {
    let mut errors = Vec::new();
    for row in rows {
        match fields(era, &row.layout, payload) {
            Ok(fields) => {
                let type_name = Some(row.type_name).filter(|name| *name != "-");
                return Ok((type_name, fields));
            }
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("; "))
}

/// A cursor that walks a payload by a layout. A field that fails moves nothing and pushes nothing.
#[derive(Debug)]
struct Reader<'a> {
    era: Gen,
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Value>,
    /// What `?`, `!` and a chunk's version look at.
    last_int: i32,
    /// What `~` looks at.
    last_str_len: usize,
}

impl<'a> Reader<'a> {
    fn new(era: Gen, bytes: &'a [u8]) -> Self {
        Self {
            era,
            bytes,
            at: 0,
            fields: Vec::new(),
            last_int: 0,
            last_str_len: 0,
        }
    }

    fn run(&mut self, layout: &str) -> Result<(), String> {
        let mut rest = layout;
        while let Some(token) = rest.chars().next() {
            rest = &rest[1..];
            match token {
                ' ' => {}
                'S' => self.string()?,
                'I' => self.int()?,
                '4' => self.object(4)?,
                '8' => self.object(8)?,
                'A' => self.object(24)?,
                'R' => self.raw_rest(),
                'C' => self.chunks()?,
                '{' => {
                    let (allowed, after) = rest.split_once('}').expect("a closed list");
                    self.int_among(allowed)?;
                    rest = after;
                }
                '#' => {
                    let (limit, group, after) = split_group(rest);
                    self.counted(limit, group)?;
                    rest = after;
                }
                '?' | '!' => {
                    let (digits, group, after) = split_group(rest);
                    let equal = self.last_int.to_string() == digits;
                    if equal == (token == '?') {
                        self.run(group)?;
                    }
                    rest = after;
                }
                '~' => {
                    let (_, group, after) = split_group(rest);
                    if self.last_str_len > 0 {
                        self.run(group)?;
                    }
                    rest = after;
                }
                '*' => {
                    let (_, group, after) = split_group(rest);
                    while self.left() > 0 {
                        self.run(group)?;
                    }
                    rest = after;
                }
                other => unreachable!("{other} in layout {layout}"),
            }
        }
        Ok(())
    }

    fn int(&mut self) -> Result<(), String> {
        let int = self.peek_int()?;
        self.at += 4;
        self.last_int = int;
        self.fields.push(Value::Int(int));
        Ok(())
    }

    fn int_among(&mut self, allowed: &str) -> Result<(), String> {
        let int = self.peek_int()?;
        if !allowed
            .chars()
            .any(|digit| digit.to_string() == int.to_string())
        {
            return Err(self.error(&format!("{int} is none of {allowed}")));
        }
        self.int()
    }

    fn string(&mut self) -> Result<(), String> {
        let (bytes, end) = self.peek_string()?;
        self.at = end;
        self.last_str_len = bytes.len();
        self.fields.push(Value::Str(bytes));
        Ok(())
    }

    // R6.
    fn object(&mut self, size: usize) -> Result<(), String> {
        let (bytes, end) = self.peek_string()?;
        if bytes.len() != size {
            return Err(self.error(&format!("object of {} bytes, not {size}", bytes.len())));
        }
        self.at = end;
        self.fields.push(Value::Bin(bytes));
        Ok(())
    }

    fn raw_rest(&mut self) {
        if self.left() > 0 {
            self.fields.push(Value::Raw(self.bytes[self.at..].to_vec()));
            self.at = self.bytes.len();
        }
    }

    // R3.
    fn counted(&mut self, limit: &str, group: &str) -> Result<(), String> {
        let count = self.peek_int()?;
        let limit = match limit {
            "" => usize::MAX,
            digits => digits.parse().expect("a limit is a number"),
        };
        let room = (self.left() - 4) / smallest(self.era, group);
        let Some(times) = usize::try_from(count)
            .ok()
            .filter(|n| *n <= limit.min(room))
        else {
            return Err(self.error(&format!("count {count}, limit {limit}, room for {room}")));
        };
        self.int()?;
        for _ in 0..times {
            self.run(group)?;
        }
        Ok(())
    }

    // R7, C.3: size, marker and data of each chunk; the data by the capability's `sync` rows.
    fn chunks(&mut self) -> Result<(), String> {
        let Some(Value::Str(capability)) = self.fields.first().cloned() else {
            unreachable!("a SYNC packet begins with its capability");
        };
        let version = self.last_int;
        while self.left() > 0 {
            self.int()?;
            let size = self.last_int;
            self.int()?;
            if self.last_int != CHUNK_MARKER {
                return Err(self.error(&format!("chunk marker {}", self.last_int)));
            }
            let room = self.left();
            let size = usize::try_from(size)
                .ok()
                .filter(|size| (1..=room).contains(size));
            let size = size.ok_or_else(|| self.error("chunk size"))?;
            let data = &self.bytes[self.at..self.at + size];
            match rows(self.era, &capability, "sync") {
                Err(_) => self.fields.push(Value::Raw(data.to_vec())),
                Ok(rows) => {
                    let rows = rows_of_version(rows, version)?;
                    let (_, fields) = first_fit(self.era, &rows, data)
                        .map_err(|error| self.error(&format!("in chunk: {error}")))?;
                    self.fields.extend(fields);
                }
            }
            self.at += size;
        }
        Ok(())
    }

    fn peek_int(&self) -> Result<i32, String> {
        let bytes = self
            .bytes
            .get(self.at..)
            .and_then(|tail| tail.first_chunk());
        let bytes = bytes.ok_or_else(|| self.error("an int past the end"))?;
        Ok(i32::from_le_bytes(*bytes))
    }

    /// The bytes of the string at the cursor and where it ends. R1: the length is checked first.
    fn peek_string(&self) -> Result<(Vec<u8>, usize), String> {
        let past_end = || self.error("a string past the end");
        let tail = &self.bytes[self.at..];
        let (size, tail) = if self.era == Gen::V23 {
            let (size, tail) = tail.split_first_chunk().ok_or_else(past_end)?;
            (i32::from(u16::from_le_bytes(*size)), tail)
        } else {
            let (size, tail) = tail.split_first_chunk().ok_or_else(past_end)?;
            (i32::from_le_bytes(*size), tail)
        };
        let size = usize::try_from(size).map_err(|_| self.error("a negative length"))?;
        let bytes = tail.get(..size).ok_or_else(past_end)?;
        Ok((bytes.to_vec(), self.bytes.len() - tail.len() + size))
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn error(&self, what: &str) -> String {
        format!(
            "field {}: {what} at {} of {}",
            self.fields.len(),
            self.at,
            self.bytes.len()
        )
    }
}

const PACKET_MAX: usize = 65535;
/// Between neighbours, nobody else passes them on: cluster and source come first. The second is 2.3's.
const UNROUTED: [&[u8]; 2] = [b"clusterer-internal", b"clusterer"];
const BRIDGE_MARK: u32 = 0xC000_0000;
const CHUNK_MARKER: i32 = 101_010_101;
