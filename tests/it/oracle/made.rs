//! Packets made from the rows of [`layouts`](super::layouts), written byte by byte.

use super::layouts::{ROWS, Row, split_group};
use super::{BRIDGE_MARK, CHUNK_MARKER, Gen, UNROUTED, crc};
use crate::dice::Dice;

/// One packet and the row it was made from.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) row: String,
    pub(crate) era: Gen,
    pub(crate) bytes: Vec<u8>,
}

/// A packet for every row, in every era and version it has; for a row of chunks a SYNC packet.
pub(crate) fn one_of_each_row(dice: &mut Dice) -> Vec<Made> {
    let mut made = Vec::new();
    for row in ROWS.iter() {
        for era in [Gen::V1, Gen::V22, Gen::V23] {
            if !row.eras.split(',').any(|name| name == format!("{era:?}")) {
                continue;
            }
            for version in versions(row.versions) {
                made.push(Made {
                    row: format!("{era:?} {} {} {version}", row.name, row.commands),
                    era,
                    bytes: packet_of_row(dice, era, row, version),
                });
            }
        }
    }
    made
}

fn versions(listed: &str) -> Vec<i16> {
    match listed {
        "*" => vec![1, 0, 7, -1],
        listed => listed
            .split(',')
            .map(|version| version.parse().expect("a version is a number"))
            .collect(),
    }
}

fn packet_of_row(dice: &mut Dice, era: Gen, row: &Row, version: i16) -> Vec<u8> {
    let mut fields = Writer::new(dice, era);
    if row.commands != "sync" {
        fields.run(&row.layout);
        let (fields, command) = (fields.bytes, row.commands.parse().expect("a number"));
        return packet(dice, era, row.name, command, version, &fields);
    }
    fields.string(row.name.as_bytes());
    fields.int(i32::from(version));
    for _ in 0..=fields.dice.below(2) {
        let mut chunk = Writer::new(fields.dice, era);
        chunk.run(&row.layout);
        let chunk = chunk.bytes;
        fields.chunk(&chunk);
    }
    let fields = fields.bytes;
    packet(dice, era, "clusterer-extra", 11, 3, &fields)
}

/// Header, name and command before `fields`, and the ids before or after them.
fn packet(
    dice: &mut Dice,
    era: Gen,
    name: &str,
    command: i32,
    version: i16,
    fields: &[u8],
) -> Vec<u8> {
    let mut rest = Writer::new(dice, era);
    rest.string(name.as_bytes());
    rest.int(command);
    if era == Gen::V22 {
        rest.any_int();
    }
    rest.bytes.extend(fields);
    if era == Gen::V23 && !UNROUTED.contains(&name.as_bytes()) {
        let bridged = rest.dice.below(4) == 0;
        for _ in 0..if bridged { 3 } else { 2 } {
            rest.any_int();
        }
        rest.int(if bridged {
            i32::from_le_bytes(BRIDGE_MARK.to_le_bytes())
        } else {
            2
        });
    }
    let rest = rest.bytes;
    let header_len = match era {
        Gen::V1 => 8,
        Gen::V22 => 12,
        Gen::V23 => 10,
    };
    let len = u32::try_from(header_len + rest.len()).expect("it is short");
    let mut header = b"P4CK".to_vec();
    match era {
        Gen::V1 => header.extend(crc(&rest).to_le_bytes()),
        Gen::V22 => {
            header.extend(&len.to_le_bytes()[..2]);
            header.extend([0xEE; 2]);
            header.extend(version.to_le_bytes());
            header.extend([0xEE; 2]);
        }
        Gen::V23 => {
            header.extend(len.to_le_bytes());
            header.extend(version.to_le_bytes());
        }
    }
    header.extend(rest);
    header
}

/// Writes what [`Reader`](super::Reader) reads.
#[derive(Debug)]
struct Writer<'d> {
    dice: &'d mut Dice,
    era: Gen,
    bytes: Vec<u8>,
    last_int: i32,
    last_str_len: usize,
}

impl<'d> Writer<'d> {
    fn new(dice: &'d mut Dice, era: Gen) -> Self {
        Self {
            dice,
            era,
            bytes: Vec::new(),
            last_int: 0,
            last_str_len: 0,
        }
    }

    fn run(&mut self, layout: &str) {
        let mut rest = layout;
        while let Some(token) = rest.chars().next() {
            rest = &rest[1..];
            match token {
                ' ' => {}
                'S' => {
                    let string = self.dice.string();
                    self.string(&string);
                }
                'I' => match rest.trim_start().split_once('(') {
                    // What follows depends on it: that digit as often as not.
                    Some((condition, _)) if condition.starts_with(['?', '!']) => {
                        let digit = condition[1..].parse().expect("a number");
                        let near = self.dice.one_of(&[-1, 0, 1]);
                        let any = self.dice.int();
                        let int = self.dice.one_of(&[digit, digit, near, any]);
                        self.int(int);
                    }
                    _ => self.any_int(),
                },
                '4' => self.object(4),
                '8' => self.object(8),
                'A' => self.object(24),
                'R' => {
                    let len = self.dice.below(30);
                    let raw = self.dice.bytes(len);
                    self.bytes.extend(raw);
                }
                'C' => {
                    for _ in 0..self.dice.below(3) {
                        let data = self.dice.bytes(9);
                        self.chunk(&data);
                    }
                }
                '{' => {
                    let (allowed, after) = rest.split_once('}').expect("a closed list");
                    let digit = self.dice.one_of(allowed.as_bytes()) - b'0';
                    self.int(i32::from(digit));
                    rest = after;
                }
                '#' => {
                    let (_, group, after) = split_group(rest);
                    let count = self.dice.below(4);
                    self.int(i32::try_from(count).expect("a few"));
                    (0..count).for_each(|_| self.run(group));
                    rest = after;
                }
                '*' => {
                    let (_, group, after) = split_group(rest);
                    (0..self.dice.below(4)).for_each(|_| self.run(group));
                    rest = after;
                }
                '?' | '!' | '~' => {
                    let (digits, group, after) = split_group(rest);
                    let equal = self.last_int.to_string() == digits;
                    if match token {
                        '?' => equal,
                        '!' => !equal,
                        _ => self.last_str_len > 0,
                    } {
                        self.run(group);
                    }
                    rest = after;
                }
                other => unreachable!("{other} in layout {layout}"),
            }
        }
    }

    fn any_int(&mut self) {
        let int = self.dice.int();
        self.int(int);
    }

    fn int(&mut self, int: i32) {
        self.last_int = int;
        self.bytes.extend(int.to_le_bytes());
    }

    fn object(&mut self, size: usize) {
        let object = self.dice.bytes(size);
        self.string(&object);
    }

    fn string(&mut self, string: &[u8]) {
        self.last_str_len = string.len();
        let len = string.len().to_le_bytes();
        let length_size = if self.era == Gen::V23 { 2 } else { 4 };
        self.bytes.extend(&len[..length_size]);
        self.bytes.extend(string);
    }

    fn chunk(&mut self, data: &[u8]) {
        self.int(i32::try_from(data.len()).expect("it is short"));
        self.int(CHUNK_MARKER);
        self.bytes.extend(data);
    }
}
